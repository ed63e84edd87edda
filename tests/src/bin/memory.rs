//! `make bench-memory`: the peak resident memory of trem, by the kernel's own accounting (`VmHWM`), with the
//! default budget. Fails when a case exceeds the promise.
#![allow(clippy::print_stdout)]

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use trem_tests::{Running, World};

/// What is promised, in MiB.
const LIMIT: u64 = 400;
/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A case: what must be there before trem starts, what is measured as load, and what as changes.
struct Case {
    name: &'static str,
    setup: &'static str,
    change: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "one transaction of 5 million inserts",
        setup: "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, c timestamptz)",
        change: "INSERT INTO t SELECT i, i % 1000, md5(i::text), now() FROM generate_series(1, 5000000) i",
    },
    Case {
        name: "one transaction of 2 million updates",
        setup: "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text);
                INSERT INTO t SELECT i, 0, md5(i::text) FROM generate_series(1, 2000000) i",
        change: "UPDATE t SET a = a + 1, id = -id",
    },
    Case {
        name: "a row of 200 MB",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
                INSERT INTO t VALUES (1, 0, repeat('0123456789abcdef', 13107200))",
        change: "INSERT INTO t SELECT 2, 0, big FROM t; UPDATE t SET n = 1",
    },
    Case {
        name: "1,000 tables",
        setup: "DO $$ BEGIN FOR i IN 1..1000 LOOP
                    EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text, b numeric, c jsonb)', i);
                    EXECUTE format('INSERT INTO t%s SELECT j, md5(j::text), j, NULL FROM generate_series(1, 200) j', i);
                END LOOP; END $$",
        change: "DO $$ BEGIN FOR i IN 1..1000 LOOP
                    EXECUTE format('UPDATE t%s SET b = b + 1 WHERE id < 50', i);
                    EXECUTE format('INSERT INTO t%s SELECT j FROM generate_series(1000, 1050) j', i);
                END LOOP; END $$",
    },
    Case {
        name: "10 million rows",
        setup: "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, c timestamptz);
                INSERT INTO t SELECT i, i % 1000, md5(i::text), now() FROM generate_series(1, 10000000) i",
        change: "DELETE FROM t WHERE id % 10 = 0",
    },
];

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut exceeded = false;
    println!("{:<40} {:>10} {:>8} {:>10} {:>8}", "case", "load MiB", "s", "changes", "s");
    for case in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|w| case.name.contains(w.as_str())) {
            continue;
        }
        let world = World::two().await;
        world.source.exec(case.setup).await;
        let (load, load_time) = measure(world.trem.spawn(&["run", "--until-current"], &[]));
        world.source.exec(case.change).await;
        let (changes, change_time) = measure(world.trem.spawn(&["run", "--until-current"], &[]));
        let seconds = |t: Duration| format!("{:.1}", t.as_secs_f64());
        let (first, second) = (seconds(load_time), seconds(change_time));
        println!("{:<40} {load:>10} {first:>8} {changes:>10} {second:>8}", case.name);
        world.assert_equal(&["public.%"]).await;
        exceeded |= load.max(changes) > LIMIT;
    }
    if exceeded {
        println!("a case exceeds {LIMIT} MiB");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Peak resident memory in MiB and the time until the process ended well.
fn measure(mut running: Running) -> (u64, Duration) {
    let status = format!("/proc/{}/status", running.pid());
    let (start, mut peak) = (Instant::now(), 0);
    loop {
        // The high-water mark never falls: what counts is the last one before the end.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) / 1024);
        if running.ended().is_some() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "trem goes on after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let outcome = running.wait(PATIENCE).expect(0);
    (peak, outcome.took)
}
