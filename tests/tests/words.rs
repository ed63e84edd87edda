//! What trem says: each thing once, true, in a form that fits the terminal and that its own commands take.

use std::process::Command;

use trem_tests::binaries::trem;
use trem_tests::{Outcome, Trem, World};

use crate::PATIENCE;

/// Names as `status` prints them are names that `reload` takes, and the configuration too.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_said_in_the_form_that_commands_take() {
    let mut world = World::one().await;
    let names = ["plain", "Upper Case", "with.dot", "st*r?", "back\\slash", "quote\"d", "it's", "größe"];
    for name in names {
        let quoted = name.replace('"', "\"\"");
        world.source.exec(&format!("CREATE TABLE \"{quoted}\" (id int PRIMARY KEY, v int)")).await;
    }
    world.trem.until_current().expect(0);
    let status = world.trem.command(&["status"]).expect(0);
    let said: Vec<String> = status.stdout.lines().filter_map(|l| l.split("  ").next()).map(str::to_owned).collect();
    let said: Vec<&String> = said.iter().filter(|l| l.starts_with("public.")).collect();
    assert_eq!(said.len(), names.len(), "{}", status.stdout);
    for name in &said {
        world.trem.command(&["reload", "--task", "t", "--table", name]).expect(0);
    }
    world.trem.command(&["status"]).expect(0).says(&["reload requested"]).never_says("ready");
    let include: Vec<String> = said.iter().map(|name| (*name).clone()).collect();
    world.configure(|c| c.include = include);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

fn lines_fit(outcome: &Outcome) {
    for line in outcome.stdout.lines() {
        assert!(line.chars().count() <= 80, "too long: {line}\n{}", outcome.stdout);
    }
}

/// Names of 60 characters, a reason and a remedy: nothing runs past the 80 columns of a pipe.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wider_than_the_terminal() {
    let world = World::one().await;
    let long = "a_name_".repeat(8);
    world
        .source
        .exec(&format!(
            "CREATE TABLE \"{long}\" (\"{long}\" int PRIMARY KEY, v numeric(10,2)[]);
             CREATE TABLE keyless (id int); CREATE TABLE t (id int PRIMARY KEY)"
        ))
        .await;
    lines_fit(&world.trem.command(&["check"]).expect(1).says(&["REPLICA IDENTITY FULL"]));
    lines_fit(&world.trem.command(&["plan"]).expect(1).says(&[&long]));
    world.source.exec("ALTER TABLE keyless ADD PRIMARY KEY (id)").await;
    world.trem.until_current().expect(0);
    world.source.exec(&format!("ALTER TABLE \"{long}\" DROP v; INSERT INTO \"{long}\" VALUES (1)")).await;
    world.trem.until_current().expect(3);
    let status = world.trem.command(&["status"]).expect(0);
    lines_fit(&status);
    // The command is broken where a shell goes on, so it can be copied.
    let command = status.stdout.split('`').nth(1).unwrap_or_else(|| panic!("no command: {}", status.stdout));
    let path = format!("{}:{}", trem().parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let done = Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// What a pattern names is told for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_gets_nothing_says_why() {
    let mut world = World::one().await;
    world
        .source
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW a_view AS SELECT * FROM t; CREATE SEQUENCE numbers;
             CREATE MATERIALIZED VIEW stored AS SELECT * FROM t; CREATE UNLOGGED TABLE light (id int PRIMARY KEY);
             CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
             CREATE FOREIGN TABLE distant (id int) SERVER far;
             CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (9);
             CREATE TABLE \"Shouted\" (id int PRIMARY KEY)",
        )
        .await;
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&["public.t", "public.a_view"], &[], "it is a view"),
        (&["public.t", "public.stored"], &[], "it is a view"),
        (&["public.t", "public.light"], &[], "it is an unlogged table"),
        (&["public.t", "public.distant"], &[], "it is a foreign table"),
        (&["public.t", "public.numbers"], &[], "it is a sequence"),
        (&["public.t", "public.part*"], &["public.parts"], "takes out"),
        (&["public.t", "public.part_?"], &[], "is a partition"),
        (&["public.t"], &["public.*"], "`exclude` takes it out again"),
        (&["public.t", "public.shouted"], &[], "the source has public.Shouted"),
        (&["public.t", "public.\"Shouted\""], &[], "the source has public.Shouted"),
        (&["public.t", "publik.*"], &[], "it matches no table of the source"),
        (&["public.t", "public.nothing"], &[], "the source has no such table"),
    ];
    for (include, exclude, says) in cases {
        let own = |all: &[&str]| all.iter().map(|&s| s.to_owned()).collect();
        world.configure(|c| (c.include, c.exclude) = (own(include), own(exclude)));
        for command in ["check", "run"] {
            let outcome = world.trem.command(&[command]).expect(1).says(&[says]);
            let all = format!("{}{}", outcome.stdout, outcome.stderr);
            let told = all.matches(if command == "check" { "ERROR " } else { "remedy:" }).count();
            assert_eq!(told, 1, "{include:?}, {command}: {all}");
        }
    }
    // A wildcard passes over what is no table, and says so of what looks like one.
    world.configure(|c| (c.include, c.exclude) = (vec!["public.*".to_owned()], Vec::new()));
    let outcome = world.trem.command(&["check"]).expect(0);
    outcome.says(&["public.light: is an unlogged table", "public.distant: is a foreign table"]).never_says("a_view");
    // Told what to do, one does it.
    world.configure(|c| c.include = vec!["public.light".to_owned()]);
    world.source.exec("ALTER TABLE light SET LOGGED; INSERT INTO light VALUES (1)").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.light"]).await;
}

/// A pattern that cannot be read is one problem, not two.
#[test]
fn a_bad_pattern_is_told_once() {
    let text = "endpoints.a = { kind = \"postgres\", url = \"postgres://u@127.0.0.1:1/a\" }\n\
                endpoints.b = { kind = \"null\" }\n\
                tasks.t = { source = \"a\", target = \"b\", tables = [{ include = \"no_dot\" }] }\n";
    let outcome = Trem::with_text(text).command(&["check"]).expect(2).says(&["no_dot", "schema.table"]);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}

/// Dropping what is not there says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_says_what_there_was() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.trem.command(&["drop", "--task", "t"]).expect(0).says(&["nothing to drop"]).never_says("dropped");
    world.trem.until_current().expect(0);
    let said = ["dropped: slot and publication trem_t", "dropped: the record of the task"];
    world.trem.command(&["drop", "--task", "t"]).expect(0).says(&said).never_says("nothing to drop");
    world.trem.command(&["drop", "--task", "t"]).expect(0).says(&["nothing to drop"]).never_says("dropped");
}

/// The stream goes over to text when a type needs it: that is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn going_over_to_text_is_no_warning() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    world.trem.until_current().expect(0);
    let mut running = world.trem.start();
    running.wait_log("follow", PATIENCE).await;
    world.source.exec("ALTER TABLE t ADD v inet; INSERT INTO t VALUES (1, '10.0.0.1')").await;
    world.equal(&["public.%"], &mut running).await;
    world
        .source
        .exec("CREATE TABLE later (id int PRIMARY KEY, v interval); INSERT INTO later VALUES (1, '1 day')")
        .await;
    world.equal(&["public.%"], &mut running).await;
    let outcome = running.stop(PATIENCE).expect(0);
    outcome.says(&["starts again as text"]).never_says("WARN");
}

/// A key that is deferrable is called so, and an index that would do is named; the statement works.
#[tokio::test(flavor = "multi_thread")]
async fn what_tells_rows_apart_is_looked_for() {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, code text NOT NULL, v int);
             CREATE UNIQUE INDEX \"the Code\" ON deferred (code);
             CREATE TABLE nothing (id int PRIMARY KEY, v int); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
             CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",
        )
        .await;
    let statement = "ALTER TABLE \"public\".\"deferred\" REPLICA IDENTITY USING INDEX \"the Code\"";
    for command in ["check", "run"] {
        let says = ["has a deferrable primary key", statement, "REPLICA IDENTITY NOTHING", "REPLICA IDENTITY DEFAULT"];
        world.trem.command(&[command]).expect(1).says(&says);
    }
    world.source.exec(statement).await;
    world.source.exec("ALTER TABLE nothing REPLICA IDENTITY DEFAULT; ALTER TABLE late REPLICA IDENTITY FULL").await;
    world.trem.command(&["check"]).expect(0).says(&["public.late: has a deferrable primary key"]);
    world.trem.until_current().expect(0);
    world.source.exec("INSERT INTO deferred VALUES (1, 'a', 1), (2, 'b', 2); UPDATE deferred SET v = 7").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
    // So it is said of a table that comes later.
    world.source.exec("CREATE TABLE fresh (id int PRIMARY KEY DEFERRABLE, c int NOT NULL UNIQUE)").await;
    world.trem.until_current().expect(3).says(&["public.fresh", "deferrable", "USING INDEX \"fresh_c_key\""]);
}

/// Two tasks that copy a table to and fro would bring each change back for ever; so would three.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_bring_changes_back_are_refused() {
    let world = World::one().await;
    let third = world.cluster.create_database("third").await;
    for db in [&world.source, &world.target, &third] {
        db.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    }
    let (a, b, c) = (world.cluster.url("shop"), world.cluster.url("reports"), world.cluster.url("third"));
    let endpoints = format!(
        "endpoints.a = {{ kind = \"postgres\", url = {a:?} }}\nendpoints.b = {{ kind = \"postgres\", url = {b:?} }}\n\
         endpoints.c = {{ kind = \"postgres\", url = {c:?} }}\n"
    );
    let task = |from: &str, to: &str| {
        format!(
            "tasks.{from}{to} = {{ source = \"{from}\", target = \"{to}\", on-existing = \"keep\", \
             tables = [{{ include = \"public.t\" }}] }}\n"
        )
    };
    let two = Trem::with_text(&[endpoints.clone(), task("a", "b"), task("b", "a")].concat());
    let three = Trem::with_text(&[endpoints, task("a", "b"), task("b", "c"), task("c", "a")].concat());
    for trem in [&two, &three] {
        for command in ["check", "run"] {
            trem.command(&[command]).expect(1).says(&["task ab", "round without end", "exclude"]);
        }
    }
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0", "nothing is created");
    // One at a time is somebody's way back after a failure.
    two.command(&["check", "--task", "ab"]).expect(0).says(&["warning", "at the same time as ba"]);
    two.command(&["run", "--until-current", "--task", "ab"]).expect(0).says(&["WARN", "at the same time as ba"]);
}

/// Somebody else writes to the target, and a table there does not survive a crash: both are told.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_right_is_counted() {
    let mut world = World::two().await;
    world.configure(|c| c.keys.push("on-existing = \"truncate\"".to_owned()));
    world
        .source
        .exec("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i")
        .await;
    world.target.exec("CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v int)").await;
    world.trem.command(&["check"]).expect(0).says(&["UNLOGGED", "ALTER TABLE \"public\".\"t\" SET LOGGED"]);
    world.trem.until_current().expect(0);
    world.trem.command(&["status"]).expect(0).never_says("as the source had them");
    world.target.exec("DELETE FROM t WHERE id < 3; INSERT INTO t VALUES (10, 77)").await;
    world.source.exec("BEGIN; UPDATE t SET v = 0 WHERE id < 3; INSERT INTO t VALUES (10, 10); COMMIT").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
    world.trem.command(&["status"]).expect(0).says(&["public.t: 3 changes met rows", "who else writes"]);
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    world.trem.until_current().expect(0);
    world.trem.command(&["status"]).expect(0).never_says("as the source had them");
}
