//! What the documentation tells people to type works.

use std::path::PathBuf;
use std::process::Command;

use trem_tests::binaries::root;
use trem_tests::{World, binaries};

/// README and everything below docs.
fn documents() -> Vec<(String, String)> {
    let mut found = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|e| e == "md") => found.push(path),
                _ => {}
            }
        }
    }
    let read = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).expect("a document"));
    found.into_iter().map(read).collect()
}

/// Command lines that start with `program`: lines of shell blocks, and code inside a sentence.
fn command_lines(text: &str, program: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shell = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            shell = if shell.is_none() { Some(language == "sh") } else { None };
        } else if shell == Some(true) {
            lines.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
        } else if shell.is_none() {
            lines.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    lines.retain(|l| l.starts_with(&format!("{program} ")));
    lines
}

/// Every `trem ...` line is one that the program understands. A subcommand's bare name is no command line.
#[test]
fn command_lines_are_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut seen, mut faults) = (0, Vec::new());
    for (name, text) in documents() {
        for line in command_lines(&text, "trem") {
            let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
            let (options, mut others): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|a| a.starts_with('-'));
            // What is behind the names of a daemon's commands is what a daemon has.
            let names = match others.first() {
                Some(&("token" | "task" | "endpoint")) => 2,
                Some(&("completion" | "serve" | "top" | "export")) => 1,
                _ => 0,
            };
            if names > 0 {
                others.truncate(names);
            }
            // A command's bare name, or one of its options spoken of.
            if others.len() < 2 || names > 0 {
                let help = Command::new(binaries::trem()).args(&others).arg("--help").output().expect("trem");
                let text = String::from_utf8_lossy(&help.stdout).into_owned();
                if !help.status.success() || !options.iter().all(|o| text.contains(*o)) {
                    faults.push(format!("{name}: `{line}`: there is no such command or option"));
                }
                continue;
            }
            seen += 1;
            // There is no such file here: what is understood gets so far as to say so.
            let out = Command::new(binaries::trem()).args(&arguments).current_dir(folder.path()).output();
            let said = String::from_utf8_lossy(&out.expect("trem").stderr).into_owned();
            if said.contains("Usage:") || !said.contains("tasks.toml") {
                faults.push(format!("{name}: `{line}`:\n{said}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen >= 8, "only {seen} command lines found: how documents are read no longer fits them");
}

/// Every `make ...` is a target of the Makefile.
#[test]
fn make_targets_are_there() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("Makefile");
    let mut seen = 0;
    for (name, text) in documents() {
        for line in command_lines(&text, "make") {
            let target = line.split_whitespace().nth(1).unwrap_or_default();
            let there = makefile.lines().any(|l| l.starts_with(&format!("{target}:")));
            assert!(there, "{name}: `{line}`: no such target");
            seen += 1;
        }
    }
    assert!(seen >= 3, "only {seen} make commands found");
}

/// The statements of the README's "For real" are enough for a role that is no superuser.
#[tokio::test(flavor = "multi_thread")]
async fn the_readme_gives_all_the_privileges_that_are_needed() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let block = readme.split("```sql").nth(1).and_then(|b| b.split("```").next()).expect("an SQL block");
    let mut world = World::two().await;
    world
        .source
        .exec(
            "CREATE ROLE shop_owner LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO shop_owner; SET ROLE shop_owner;
             CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i;
             CREATE TABLE u (id int PRIMARY KEY); RESET ROLE",
        )
        .await;
    world.source.exec(block).await;
    world.target.exec("CREATE ROLE trem LOGIN").await;
    let grants = readme.split('`').filter(|code| code.starts_with("GRANT ") && code.ends_with("TO trem"));
    for grant in grants {
        world.target.exec(grant).await;
    }
    let as_trem = |url: &str| {
        let rest = url.split_once('@').map_or("", |(_, rest)| rest);
        format!("postgres://trem@{rest}")
    };
    let (source, target) = (as_trem(&world.config.source), as_trem(&world.config.target));
    world.configure(|c| (c.source, c.target) = (source, target));
    world.trem.command(&["check"]).expect(0);
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    world.source.exec("UPDATE t SET v = 'y'; TRUNCATE u; INSERT INTO u VALUES (1); UPDATE t SET id = -id").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(crate::PATIENCE).expect(0);
    world.trem.command(&["drop", "--task", "t"]).expect(0);
}

/// The README's daemon, each line as it stands, but for the port and the databases.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_of_the_readme_starts() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let block = readme.split("```bash").nth(1).and_then(|b| b.split("```").next()).expect("a shell block");
    let world = World::two().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let script = block
        .replace("8736", &port.to_string())
        .replace("trem serve", &format!("trem serve --listen 127.0.0.1:{port}"))
        .replace("postgres://trem:${SHOP_PASSWORD}@127.0.0.1:5432/shop", &world.config.source)
        .replace("postgres://trem:${REPORTS_PASSWORD}@127.0.0.1:5433/reports", &world.config.target);
    assert!(!script.contains("5432") && !script.contains("5433"), "{script}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = format!(
        "{}:{}",
        binaries::trem().parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let until = "until api GET /tasks/shop-to-reports/status | grep -q following; do sleep 0.1; done";
    let script = format!("set -e; trap 'kill $!; wait' EXIT\n{script}\n{until}");
    let run = Command::new("bash").args(["-c", &script]).env("PATH", path).current_dir(folder.path()).output();
    let run = run.expect("bash");
    let (said, failed) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains("\"ready\":true"), "{said}\n{failed}");
    assert_eq!(world.target.number("SELECT count(*) FROM t").await, 3);
}
