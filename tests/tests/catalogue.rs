//! What changes at the source without a word in the log: followed, loaded again or suspended, while trem runs and while
//! it does not, and never `ready` with other rows.

use std::time::{Duration, Instant};

use trem_tests::{Running, World};

use crate::PATIENCE;

mod random;

const BYSTANDER: &str = "CREATE TABLE bystander (id int PRIMARY KEY); INSERT INTO bystander VALUES (1);";
/// What is remembered of the table.
const KNOWN: &str = "SELECT md5(shape) FROM trem.table_state WHERE table_name = 't'";
/// What both sides have and nobody replicates.
const ASIDE: &str = "CREATE SCHEMA aside; CREATE TABLE aside.kin (a int, b text);";
const T: &str = "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, w int NOT NULL, s text); \
                 INSERT INTO t SELECT i, i, -i, 's' || i FROM generate_series(1, 9) i;";
const PARTS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
                     CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (0) TO (100); \
                     CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (100) TO (200); \
                     CREATE TABLE deep PARTITION OF t FOR VALUES FROM (200) TO (400) PARTITION BY RANGE (id); \
                     CREATE TABLE d1 PARTITION OF deep FOR VALUES FROM (200) TO (300); \
                     INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 299, 7) i;";

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Suspended,
    /// Equal, without having been loaded again.
    Followed,
    /// Equal, because it was loaded again.
    Reloaded,
}

use End::{Followed, Reloaded, Suspended};

async fn followed(tables: &str) -> World {
    let world = World::one().await;
    world.source.exec(&format!("{BYSTANDER}{tables}")).await;
    world.trem.until_current().expect(0);
    world
}

async fn wait_state(world: &World, running: &mut Running, table: &str, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    while world.table_state(table).await != state {
        let seen = world.table_state(table).await;
        assert!(
            running.ended().is_none() && Instant::now() < deadline,
            "{table} is `{seen}` and never `{state}`:\n{}",
            running.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Table `t` of each case ends so, whether its statements were executed while trem was stopped or while it ran. Each
/// case has a schema of its own.
async fn each(tables: &str, cases: &[(&str, End)]) {
    for running in [false, true] {
        let mut world = World::one().await;
        world.configure(|c| c.include.push("case*.*".to_owned()));
        world.source.exec(BYSTANDER).await;
        world.target.exec(ASIDE).await;
        world.source.exec(ASIDE).await;
        for number in 0..cases.len() {
            world.source.exec(&format!("{} {tables}", schema(number))).await;
        }
        world.trem.until_current().expect(0);
        let log = if running { while_running(&world, cases).await } else { while_stopped(&world, cases).await };
        for (number, (statements, end)) in cases.iter().enumerate() {
            ends(&world, number, statements, *end, &log).await;
        }
    }
}

fn schema(number: usize) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS case{number}; SET search_path = case{number};")
}

fn code(cases: &[(&str, End)]) -> i32 {
    if cases.iter().any(|(_, end)| *end == Suspended) { 3 } else { 0 }
}

async fn while_stopped(world: &World, cases: &[(&str, End)]) -> String {
    for (number, (statements, _)) in cases.iter().enumerate() {
        world.source.exec(&schema(number)).await;
        run(world, statements).await;
    }
    world.source.exec("INSERT INTO public.bystander VALUES (2)").await;
    world.trem.until_current().expect(code(cases)).stderr
}

async fn while_running(world: &World, cases: &[(&str, End)]) -> String {
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO public.bystander VALUES (2)").await;
    world.equal(&["public.bystander"], &mut running).await;
    for (number, (statements, _)) in cases.iter().enumerate() {
        world.source.exec(&schema(number)).await;
        run(world, statements).await;
    }
    world.source.exec("INSERT INTO public.bystander VALUES (3)").await;
    world.equal(&["public.bystander"], &mut running).await;
    for (number, (_, end)) in cases.iter().enumerate() {
        let table = format!("case{number}.t");
        if *end == Reloaded {
            wait_reloaded(&mut running, &table).await;
        }
        wait_state(world, &mut running, &table, if *end == Suspended { "suspended" } else { "ready" }).await;
        if *end != Suspended {
            world.equal(&[&table], &mut running).await;
        }
    }
    // Long enough for a look at the catalogue.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let log = running.stop(PATIENCE).expect(0).stderr;
    world.trem.until_current().expect(code(cases));
    log
}

async fn wait_reloaded(running: &mut Running, table: &str) {
    let deadline = Instant::now() + PATIENCE;
    let told = |log: &str| log.lines().any(|l| l.contains("loaded again") && l.contains(&format!("table={table}")));
    while !told(&running.log()) {
        assert!(running.ended().is_none() && Instant::now() < deadline, "{table}:\n{}", running.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Each statement by itself: some cannot be in a transaction with others.
async fn run(world: &World, statements: &str) {
    for statement in statements.split("; ") {
        world.source.exec(statement).await;
    }
}

async fn ends(world: &World, number: usize, statements: &str, end: End, log: &str) {
    world.assert_equal(&["public.bystander"]).await;
    let table = format!("case{number}.t");
    let told: Vec<&str> = log.lines().filter(|l| l.contains(&format!("table={table}"))).collect();
    let case = format!("{statements}: {}", told.join("\n"));
    assert_eq!(told.iter().any(|l| l.contains("loaded again")), end == Reloaded, "{case}");
    let state = world.table_state(&table).await;
    assert_eq!(state, if end == Suspended { "suspended" } else { "ready" }, "{case}");
    if end != Suspended {
        world.assert_equal(&[&table]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_known_by_their_numbers() {
    each(
        T,
        &[
            ("ALTER TABLE t DROP s, ADD s text DEFAULT 'x'; INSERT INTO t VALUES (10, 1, 1)", Suspended),
            ("ALTER TABLE t DROP s; ALTER TABLE t ADD s text; INSERT INTO t VALUES (10, 1, 1, 'y')", Suspended),
            (
                "ALTER TABLE t RENAME v TO x; ALTER TABLE t RENAME w TO v; ALTER TABLE t RENAME x TO w; \
                 INSERT INTO t (id, v, w) VALUES (10, 1, 2)",
                Suspended,
            ),
            ("ALTER TABLE t ALTER v TYPE int USING v + 1; INSERT INTO t VALUES (10, 1, 1)", Suspended),
            ("ALTER TABLE t ALTER v SET DEFAULT 5; INSERT INTO t (id, w) VALUES (10, 1)", Followed),
            ("VACUUM FULL t; UPDATE t SET v = 8 WHERE id = 3", Followed),
            ("ALTER TABLE t ADD a int; ALTER TABLE t ALTER a SET DEFAULT 7; INSERT INTO t VALUES (10, 1, 1)", Followed),
            (
                "ALTER TABLE t ADD a int DEFAULT 7; ALTER TABLE t DROP a; ALTER TABLE t ADD a int DEFAULT 8; \
                 INSERT INTO t VALUES (10, 1, 1)",
                Suspended,
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn computed_columns_are_known_by_their_expressions() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (id * 2) STORED); \
                  INSERT INTO t SELECT i, i FROM generate_series(1, 9) i;";
    each(
        tables,
        &[
            ("ALTER TABLE t ALTER g DROP EXPRESSION; INSERT INTO t VALUES (10, 1, 1)", Suspended),
            (
                "ALTER TABLE t DROP g; ALTER TABLE t ADD g int GENERATED ALWAYS AS (id * 3) STORED; \
                 INSERT INTO t VALUES (10, 1)",
                Suspended,
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_known_by_what_they_are_made_of() {
    let tables = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN low AS mood; \
                  CREATE TYPE pair AS (m low[], n int); CREATE TYPE span AS RANGE (SUBTYPE = pair); \
                  CREATE TABLE t (id int PRIMARY KEY, m mood, p pair, k aside.kin[]); \
                  INSERT INTO t VALUES (1, 'sad', '({sad},1)', '{\"(1,x)\"}'); DROP TYPE span;";
    let again = "INSERT INTO t (id, m) VALUES (2, 'ok')";
    each(
        tables,
        &[
            (&format!("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; {again}"), Suspended),
            (&format!("ALTER TYPE pair ADD ATTRIBUTE x int; {again}"), Suspended),
            (&format!("ALTER TYPE pair DROP ATTRIBUTE n; {again}"), Suspended),
            (&format!("ALTER TYPE mood ADD VALUE 'fine'; {again}"), Followed),
        ],
    )
    .await;
    each(tables, &[(&format!("ALTER TABLE aside.kin ADD c int; {again}"), Suspended)]).await;
    // What stands deep inside of another type.
    let nested = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN low AS mood; \
                  CREATE TYPE pair AS (m low[], n int); CREATE TABLE t (id int PRIMARY KEY, p pair[]); \
                  INSERT INTO t VALUES (1, '{\"({sad},1)\"}');";
    each(nested, &[("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; INSERT INTO t VALUES (2)", Suspended)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_take_rows_along_are_loaded_again() {
    let more = "INSERT INTO t VALUES (55, 'more')";
    each(
        PARTS,
        &[
            (&format!("ALTER TABLE t DETACH PARTITION p2; {more}"), Reloaded),
            (&format!("DROP TABLE d1; {more}"), Reloaded),
            (&format!("TRUNCATE p2; {more}"), Reloaded),
            (&format!("TRUNCATE deep; {more}"), Reloaded),
            (
                &format!(
                    "CREATE TABLE p9 (LIKE t); INSERT INTO p9 VALUES (900, 'x'); \
                     ALTER TABLE t ATTACH PARTITION p9 FOR VALUES FROM (900) TO (1000); {more}"
                ),
                Reloaded,
            ),
            (
                &format!(
                    "CREATE TABLE p9 (LIKE t) PARTITION BY RANGE (id); \
                     CREATE TABLE p91 PARTITION OF p9 FOR VALUES FROM (900) TO (950); \
                     INSERT INTO p9 VALUES (900, 'x'); \
                     ALTER TABLE t ATTACH PARTITION p9 FOR VALUES FROM (900) TO (1000); {more}"
                ),
                Reloaded,
            ),
            (
                "ALTER TABLE t DETACH PARTITION p2; DELETE FROM p2 WHERE id < 120; \
                 ALTER TABLE t ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200); UPDATE t SET v = 'x' WHERE id = 1",
                Reloaded,
            ),
            // In one transaction: what tells apart is which command wrote what.
            (
                "BEGIN; CREATE TABLE p9 (LIKE t); INSERT INTO p9 VALUES (900, 'x'); \
                 ALTER TABLE t ATTACH PARTITION p9 FOR VALUES FROM (900) TO (1000); COMMIT",
                Reloaded,
            ),
            (
                "BEGIN; CREATE TABLE p9 (id int PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> 'y')); \
                 INSERT INTO p9 VALUES (900); \
                 ALTER TABLE t ATTACH PARTITION p9 FOR VALUES FROM (900) TO (1000); COMMIT; \
                 INSERT INTO t VALUES (55, 'x')",
                Reloaded,
            ),
            // What was rolled back has written its own command over that.
            (
                "BEGIN; CREATE TABLE p9 (LIKE t); INSERT INTO p9 VALUES (900, 'x'); \
                 ALTER TABLE t ATTACH PARTITION p9 FOR VALUES FROM (900) TO (1000); COMMIT; \
                 BEGIN; ALTER TABLE t RENAME v TO w; ROLLBACK; INSERT INTO t VALUES (55, 'x')",
                Reloaded,
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_for_what_is_to_come_are_followed() {
    each(
        PARTS,
        &[
            (
                "CREATE TABLE p9 PARTITION OF t (v DEFAULT 'd' CHECK (v <> 'y')) FOR VALUES FROM (900) TO (1000); \
                 INSERT INTO t VALUES (900, 'x')",
                Followed,
            ),
            (
                "CREATE TABLE d2 PARTITION OF deep FOR VALUES FROM (300) TO (400); INSERT INTO t VALUES (333, 'x'); \
                 DELETE FROM t WHERE id = 1",
                Followed,
            ),
            (
                "CREATE TABLE p9 (LIKE t); ALTER TABLE t ATTACH PARTITION p9 FOR VALUES FROM (900) TO (1000); \
                 INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = 'x'",
                Followed,
            ),
            (
                "BEGIN; CREATE TABLE p9 PARTITION OF t FOR VALUES FROM (900) TO (1000); \
                 INSERT INTO t VALUES (900); COMMIT",
                Followed,
            ),
            ("ALTER TABLE t ADD z int DEFAULT 7; INSERT INTO t VALUES (55, 'more', 8)", Followed),
        ],
    )
    .await;
}

/// The log tells of a table that is emptied as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_that_is_emptied_is_not_loaded_again() {
    let world = followed(PARTS).await;
    let mut running = world.trem.start();
    run(&world, "INSERT INTO bystander VALUES (2)").await;
    world.equal(&["public.bystander"], &mut running).await;
    let known = world.target.one(KNOWN).await;
    run(&world, "TRUNCATE t; INSERT INTO t VALUES (55, 'more'), (155, 'x')").await;
    world.equal(&["public.t"], &mut running).await;
    let again = format!("SELECT (({KNOWN}) <> '{known}')::text");
    world.target.wait_for(&again, "true", PATIENCE).await;
    let log = running.stop(PATIENCE).expect(0).stderr;
    let next = world.trem.until_current().expect(0).stderr;
    assert!(!format!("{log}{next}").contains("loaded again"), "{log}{next}");
}

/// A table that becomes a partition of another one is replicated with that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_followed_table_that_becomes_a_partition() {
    let other = "CREATE TABLE other (id int PRIMARY KEY, v text); INSERT INTO other VALUES (500, 'o');";
    let attach = "ALTER TABLE t ATTACH PARTITION other FOR VALUES FROM (500) TO (600)";
    for running in [false, true] {
        let world = followed(&format!("{PARTS}{other}")).await;
        let ours = running.then(|| world.trem.start());
        run(&world, &format!("{attach}; INSERT INTO t VALUES (501, 'x')")).await;
        if let Some(mut ours) = ours {
            wait_state(&world, &mut ours, "public.other", "suspended").await;
            world.equal(&["public.t", "public.bystander"], &mut ours).await;
            ours.stop(PATIENCE).expect(0);
        } else {
            world.trem.until_current().expect(3);
        }
        world.assert_equal(&["public.t"]).await;
        assert_eq!(world.table_state("public.other").await, "suspended");
        world.trem.command(&["status"]).says(&["partition of public.t"]);
        // And back.
        run(
            &world,
            "ALTER TABLE t DETACH PARTITION other; INSERT INTO t VALUES (56, 'x'); DELETE FROM other WHERE id = 500",
        )
        .await;
        world.trem.until_current().expect(3);
        world.assert_equal(&["public.t"]).await;
        world.trem.command(&["reload", "--task", "t", "--table", "public.other"]).expect(0);
        world.trem.until_current().expect(0);
        world.assert_equal(&["public.t", "public.other"]).await;
    }
}

/// Whoever changes the publication takes changes from the log: each such table says so and stays so, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_somebody_changes() {
    let tables = format!("{T}CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1);");
    let away = "ALTER PUBLICATION trem_t DROP TABLE t, u; INSERT INTO t VALUES (20, 1, 1); INSERT INTO u VALUES (2)";
    let back = "ALTER PUBLICATION trem_t ADD TABLE t, u; INSERT INTO t VALUES (30, 1, 1); INSERT INTO u VALUES (3)";
    for (statements, running) in
        [(away.to_owned(), false), (format!("{away}; {back}"), false), (format!("{away}; {back}"), true)]
    {
        eprintln!("{statements} ({running})");
        let world = followed(&tables).await;
        if running {
            let mut ours = world.trem.start();
            run(&world, &statements).await;
            for table in ["public.t", "public.u"] {
                wait_state(&world, &mut ours, table, "suspended").await;
            }
            ours.stop(PATIENCE).expect(0);
        } else {
            run(&world, &statements).await;
        }
        run(&world, "INSERT INTO bystander VALUES (9)").await;
        world.trem.until_current().expect(3);
        world.assert_equal(&["public.bystander"]).await;
        for table in ["public.t", "public.u"] {
            assert_eq!(world.table_state(table).await, "suspended");
        }
        world.trem.command(&["status"]).says(&["trem_t"]);
        for table in ["public.t", "public.u"] {
            world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
        }
        world.trem.until_current().expect(0);
        world.assert_equal(&["public.%"]).await;
        run(&world, "INSERT INTO t VALUES (40, 1, 1); INSERT INTO u VALUES (4)").await;
        world.trem.until_current().expect(0);
        world.assert_equal(&["public.%"]).await;
    }
}

/// A table that goes while it waits to be loaded again is told as gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_goes_while_it_waits() {
    let world = followed(T).await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    run(&world, "DROP TABLE t; INSERT INTO bystander VALUES (9)").await;
    for _ in 0..2 {
        world.trem.until_current().expect(3).says(&["no longer has this table", "exclude public.t"]);
        assert_eq!(world.table_state("public.t").await, "suspended");
    }
    world.assert_equal(&["public.bystander"]).await;
}
