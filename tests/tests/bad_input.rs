//! Wrong configuration is refused before anything is created, with a message that names the setting and the remedy.

use trem_tests::{Trem, World};

const GOOD: &str = r#"
[endpoints.a]
kind = "postgres"
url = "postgres://u:p@127.0.0.1:1/a"

[endpoints.b]
kind = "postgres"
url = "postgres://u:p@127.0.0.1:1/b"

[tasks.t]
source = "a"
target = "b"

[[tasks.t.tables]]
include = "public.*"
"#;

/// What replaces what in the good configuration, and what the message must hold.
const CASES: &[(&str, &str, &[&str])] = &[
    ("[endpoints.a]", "[endpoints.a", &["tasks.toml", "2"]),
    ("source = \"a\"", "source = a", &["tasks.toml:11"]),
    ("source = \"a\"", "sauce = \"a\"", &["tasks.toml:11", "sauce", "source"]),
    ("source = \"a\"\n", "", &["source"]),
    ("source = \"a\"", "source = \"nowhere\"", &["tasks.toml:11", "source", "nowhere", "a"]),
    ("target = \"b\"", "target = \"a\"", &["target", "same"]),
    ("127.0.0.1:1/b", "127.0.0.1:1/a", &["same"]),
    ("kind = \"postgres\"", "kind = \"oracle\"", &["tasks.toml:3", "kind", "oracle", "postgres"]),
    ("postgres://u:p@127.0.0.1:1/a", "postgres://${NO_SUCH_VARIABLE}@127.0.0.1:1/a", &["NO_SUCH_VARIABLE", "url"]),
    ("postgres://u:p@127.0.0.1:1/a", "http://u:p@127.0.0.1:1/a", &["endpoints.a", "url", "postgres://"]),
    ("1/a\"", "1/a?sslmode=perhaps\"", &["sslmode", "unknown", "verify-full"]),
    ("1/a\"", "1/a?nonsense=1\"", &["parameter is unknown", "sslrootcert"]),
    (
        "target = \"b\"",
        "target = \"b\"\nmode = \"sometimes\"",
        &["tasks.toml:13", "mode", "sometimes", "full-load-and-cdc"],
    ),
    ("target = \"b\"", "target = \"b\"\non-existing = \"x\"", &["on-existing", "refuse", "recreate"]),
    ("[[tasks.t.tables]]\ninclude = \"public.*\"\n", "", &["tables"]),
    ("include = \"public.*\"", "include = []", &["include"]),
    ("include = \"public.*\"", "include = \"public\"", &["include", "schema.table"]),
    ("include = \"public.*\"", "include = 7", &["tasks.toml:15", "include"]),
    ("include = \"public.*\"\n", "include = \"public.*\"\n[tasks.t.batch]\nmax-rows = 0\n", &["max-rows"]),
    (
        "include = \"public.*\"\n",
        "include = \"public.*\"\n[tasks.t.batch]\nlinger = \"soon\"\n",
        &["linger", "soon", "50ms"],
    ),
    (
        "include = \"public.*\"\n",
        "include = \"public.*\"\n[tasks.t.batch]\nmax-bytes = \"x\"\n",
        &["max-bytes", "16MiB"],
    ),
    ("target = \"b\"", "target = \"b\"\nmemory = \"-1\"", &["memory"]),
    ("[tasks.t]\nsource = \"a\"\ntarget = \"b\"\n\n[[tasks.t.tables]]\ninclude = \"public.*\"\n", "", &["tasks"]),
];

#[test]
fn wrong_configuration() {
    let mut faults = Vec::new();
    for (from, to, fragments) in CASES {
        let text = GOOD.replacen(from, to, if from.contains("endpoints.a") { 1 } else { 9 });
        assert_ne!(text, GOOD, "{from} is not in the good configuration");
        let outcome = Trem::with_text(&text).command(&["plan"]);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        let missing: Vec<_> = fragments.iter().filter(|f| !said.contains(**f)).collect();
        if outcome.code != Some(2) || !missing.is_empty() {
            faults.push(format!("--- {to}\nended with {:?}; lacks {missing:?}:\n{said}", outcome.code));
        }
        assert!(!said.contains("u:p@"), "a password is shown: {said}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_file_that_is_not_there() {
    let trem = Trem::with_text("");
    std::fs::remove_file(trem.config()).expect("removed");
    trem.command(&["run"]).expect(2).says(&["tasks.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn selections_that_select_nothing() {
    let mut world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    for (include, says) in [
        (vec!["public.typo*"], ["public.typo*", "include"]),
        (vec!["public.t", "public.nothere"], ["public.nothere", "include"]),
        (vec!["nowhere.*"], ["nowhere.*", "include"]),
    ] {
        world.configure(|c| c.include = include.iter().map(|i| (*i).to_owned()).collect());
        for command in ["check", "plan", "run"] {
            world.trem.command(&[command]).expect(1).says(&says);
        }
    }
    world.configure(|c| (c.include, c.exclude) = (vec!["public.*".into()], vec!["*.*".into()]));
    world.trem.command(&["run"]).expect(1).says(&["exclude"]);
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
    assert_eq!(world.target.one("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, "0");
}

/// Two URLs, one database.
#[tokio::test(flavor = "multi_thread")]
async fn source_and_target_are_one_database() {
    let mut world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    let url = world.cluster.url("shop").replace("127.0.0.1", "localhost");
    world.configure(|c| c.target = url);
    world.trem.command(&["run"]).expect(1).says(&["same"]);
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
}

/// A table without a key would make the application's own updates fail once it is published.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_identity() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    world.trem.command(&["run"]).expect(1).says(&["public.t", "REPLICA IDENTITY FULL"]);
    world.source.exec("UPDATE t SET id = 2").await;
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
}

/// Two tasks that write the same target table.
#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_for_one_target_table() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.trem.until_current().expect(0);
    let toml = world.config.toml().replace("tasks.t", "tasks.other");
    Trem::with_text(&toml.replace("rediscover", "on-existing = \"keep\"\nrediscover"))
        .command(&["run", "--until-current"])
        .expect(1)
        .says(&["public.t", "task"]);
}
