//! Rows that a rule cannot be applied to, set aside while everything else goes on.

use trem_tests::World;

use crate::PATIENCE;

const RULES: &str = r#"
[[TASK.rules]]
match = "public.t"
action = "change-type"
column = "n"
to = "int32"
[[TASK.rules]]
match = "public.t"
action = "drop-column"
column = "secret"
"#;

async fn world() -> World {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = RULES.to_owned();
        c.keys.push("on-row-error = \"quarantine\"".to_owned());
    });
    let tables = "CREATE TABLE t (id int PRIMARY KEY, n text, secret text, big text); \
                  ALTER TABLE t ALTER big SET STORAGE EXTERNAL; CREATE TABLE fine (id int PRIMARY KEY)";
    world.source.exec(tables).await;
    world
}

const ROWS: &str = "SELECT string_agg(id || ':' || n, ' ' ORDER BY id) FROM t";

async fn set_aside(world: &World) -> String {
    let sql = "SELECT string_agg(concat_ws(' ', operation, row_key, position IS NOT NULL), '; ' ORDER BY id) \
               FROM trem.quarantine";
    world.target.rows(sql).await.remove(0).remove(0).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_set_aside_and_tried_again() {
    let world = world().await;
    world.source.exec("INSERT INTO t VALUES (1, '10', 'hush'), (2, 'two', 'hush'), (3, '30', NULL)").await;
    world.trem.until_current().expect(0).says(&["public.t", "set aside"]);
    assert_eq!(world.target.one(ROWS).await, "1:10 3:30");
    let mut running = world.trem.start();
    running.wait_log("starting", PATIENCE).await;
    // What cannot be done is in the middle of a transaction; one moves away from the key that it had.
    world
        .source
        .exec(
            "BEGIN; INSERT INTO fine VALUES (1); INSERT INTO t VALUES (4, '40', 'hush'), (5, 'five', 'hush'); \
             UPDATE t SET n = 'eleven' WHERE id = 1; UPDATE t SET id = 33, n = 'x' WHERE id = 3; \
             INSERT INTO t VALUES (6, '60', 'hush'); DELETE FROM t WHERE id = 4; COMMIT",
        )
        .await;
    world.target.wait_for(ROWS, "1:10 6:60", PATIENCE).await;
    world.assert_equal(&["public.fine"]).await;
    let key = |id: u32| format!(r#"[{{"column":"id","value":"{id}"}}]"#);
    let expected = [
        format!("load {} f", key(2)),
        format!("insert {} t", key(5)),
        format!("update {} t", key(1)),
        format!("update {} t", key(33)),
    ];
    assert_eq!(set_aside(&world).await, expected.join("; "));
    let hidden = "SELECT count(*) FROM trem.quarantine WHERE row_values LIKE '%hush%' OR error LIKE '%hush%'";
    assert_eq!(world.target.number(hidden).await, 0, "what a rule leaves out");

    let list = world.trem.command(&["quarantine", "ls", "--task", "t"]).expect(0);
    list.says(&["public.t", "id = '5'", "update", "int32"]).never_says("hush");
    let shown = world.trem.command(&["quarantine", "show", "--task", "t", "2"]).expect(0);
    shown.says(&["change 2 of public.t: insert", "n = 'five'"]).never_says("hush");
    world.trem.command(&["status"]).expect(0).says(&["4 changes are set aside"]);
    world.trem.command(&["quarantine", "show", "--task", "t", "99"]).expect(1).says(&["no change 99"]);
    // Still wrong.
    world.trem.command(&["quarantine", "retry", "--task", "t", "2"]).expect(1).says(&["change 2", "five"]);
    // Put right at the source where trem cannot see it as a change: a rule that changes would do the same.
    world.source.exec("UPDATE t SET n = '50' WHERE id = 5; DELETE FROM t WHERE id = 1").await;
    world.target.wait_for(ROWS, "5:50 6:60", PATIENCE).await;
    world.target.exec("UPDATE t SET n = 1 WHERE id = 5").await;
    let retry = world.trem.command(&["quarantine", "retry", "--task", "t", "2", "3"]).expect(0);
    retry.says(&["change 2: the row is on the target", "change 3: the source has the row no more"]);
    assert_eq!(world.target.one(ROWS).await, "5:50 6:60");
    world.trem.command(&["quarantine", "drop", "--task", "t", "--all"]).expect(0).says(&["2 changes forgotten"]);
    world.trem.command(&["quarantine", "ls", "--task", "t"]).expect(0).says(&["no change is set aside"]);
    running.stop(PATIENCE).expect(0);
    // What a load sets aside is set aside once, however often it is loaded.
    for _ in 0..2 {
        world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
        world.trem.until_current().expect(0);
    }
    assert_eq!(set_aside(&world).await, format!("load {} f; load {} f", key(2), key(33)));
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    assert_eq!(world.target.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, 0);
}

/// Killed again and again, every row is on the target or set aside, and each of them once.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_set_aside_once() {
    let world = world().await;
    world.trem.until_current().expect(0);
    let mut next = 0;
    for round in 0..6 {
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        for _ in 0..25 {
            let values: Vec<String> =
                (next..next + 4).map(|id| format!("({id}, '{}')", if id % 3 == 0 { "x" } else { "1" })).collect();
            world.source.exec(&format!("INSERT INTO t (id, n) VALUES {}", values.join(", "))).await;
            next += 4;
        }
        tokio::time::sleep(std::time::Duration::from_millis(40 * round)).await;
        running.kill();
    }
    world.trem.until_current().expect(0);
    let bad = (0..next).filter(|id| id % 3 == 0).count();
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, (next - bad).to_string());
    let aside = "SELECT count(*) || ' ' || count(DISTINCT row_key) FROM trem.quarantine";
    assert_eq!(world.target.one(aside).await, format!("{bad} {bad}"));
}

/// A row that was set aside comes whole, though the log leaves out what has not changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_set_aside_comes_whole() {
    let world = world().await;
    world
        .source
        .exec("INSERT INTO t VALUES (1, 'x', NULL, repeat('a', 5000)), (2, '2', NULL, repeat('b', 5000))")
        .await;
    world.trem.until_current().expect(0);
    world
        .source
        .exec("INSERT INTO t VALUES (3, 'x', NULL, repeat('c', 5000)), (4, 'x', NULL, repeat('d', 5000))")
        .await;
    world.trem.until_current().expect(0);
    world
        .source
        .exec(
            "UPDATE t SET n = '10'; UPDATE t SET id = 33 WHERE id = 3; UPDATE t SET n = '20' WHERE id = 4; \
               DELETE FROM t WHERE id = 4",
        )
        .await;
    world.trem.until_current().expect(0);
    let rows = "SELECT string_agg(concat_ws(' ', id, n, md5(big)), ', ' ORDER BY id) FROM t";
    assert_eq!(world.target.one(rows).await, world.source.one(rows).await);
    assert_eq!(world.table_state("public.t").await, "ready");
}

/// What is read is applied, merged, filtered or set aside, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_accounted_for() {
    let mut world = world().await;
    world.configure(|c| {
        c.sections = format!("{RULES}[[TASK.tables]]\ninclude = \"public.t\"\nfilter = \"id % 4 <> 0\"\n");
    });
    world.trem.until_current().expect(0);
    let rows = "SELECT i, CASE WHEN i % 3 = 0 THEN 'x' ELSE '1' END FROM generate_series(1, 60) i";
    world.source.exec(&format!("INSERT INTO t {rows}")).await;
    world.source.exec("UPDATE t SET n = '2' WHERE id <= 30; DELETE FROM t WHERE id > 50").await;
    world.trem.until_current().expect(0).says(&["changes=100 "]);
    // Of 60 rows 45 pass the filter, and 30 of those can be done; an update mends those up to 30.
    let rows = "SELECT count(*) FROM t";
    let expected = (1..=50).filter(|id| id % 4 != 0 && (*id <= 30 || id % 3 != 0)).count();
    assert_eq!(world.target.one(rows).await, expected.to_string());
    let aside = (1..=60).filter(|id| id % 4 != 0 && id % 3 == 0).count();
    assert_eq!(world.target.one("SELECT count(*) FROM trem.quarantine").await, aside.to_string());
}

/// What a filter keeps away, or takes away, no rule is asked about.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_comes_before_the_rules() {
    let mut world = World::one().await;
    world.configure(|c| {
        let filter = "filter = \"n ~ '^[0-9]+$'\"\n";
        c.sections = format!("{RULES}[[TASK.tables]]\ninclude = \"public.t\"\n{filter}");
    });
    let table = "CREATE TABLE t (id int PRIMARY KEY, n text, secret text); ALTER TABLE t REPLICA IDENTITY FULL";
    world.source.exec(&format!("{table}; INSERT INTO t VALUES (1, '1'), (2, 'two'), (3, '3')")).await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(ROWS).await, "1:1 3:3");
    let changes = "UPDATE t SET n = 'one' WHERE id = 1; UPDATE t SET n = '2' WHERE id = 2; \
                   UPDATE t SET id = 4, n = 'x' WHERE id = 3; INSERT INTO t VALUES (5, 'five'), (6, '6'); \
                   UPDATE t SET n = 'y' WHERE id = 5; DELETE FROM t WHERE id = 5";
    world.source.exec(changes).await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(ROWS).await, "2:2 6:6");
}

/// The row at the source, what rules make of it, and the row on the target.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_explained() {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = r#"
[[TASK.rules]]
match = "public.*"
action = "rename-schema"
to = "dw"
[[TASK.rules]]
match = "dw.t"
action = "create-column"
column = "twice"
type = "int32"
value = "n * 2"
[[TASK.rules]]
match = "dw.t"
action = "set-value"
column = "name"
mask = "keep-last"
keep = 1
"#
        .to_owned();
    });
    let tables = "CREATE TABLE t (id int, part text, n int, name text, PRIMARY KEY (id, part)); \
                  INSERT INTO t VALUES (7, 'a', 21, 'Ann'), (8, 'b', 2000000000, NULL)";
    world.source.exec(tables).await;
    world.trem.command(&["plan", "--sample", "2"]).expect(0).says(&[
        "row id = '7', part = 'a', n = '21', name = 'Ann'",
        "-> id = '7', part = 'a', n = '21', name = '**n', twice = '42'",
        "-> none: ",
        "4000000000",
    ]);
    let explain = |key: &[&str]| world.trem.command(&[&["explain", "t", "public.t"], key].concat());
    explain(&["7", "a"]).expect(0).says(&["name = 'Ann'", "the table is dw.t", "twice = '42'", "there is no such row"]);
    world.source.exec("DELETE FROM t WHERE id = 8").await;
    world.trem.until_current().expect(0);
    explain(&["7", "a"]).expect(0).says(&["target: dw.t: id = '7', part = 'a', n = '21', name = '**n', twice = '42'"]);
    explain(&["9", "a"]).expect(0).says(&["source: there is no such row now", "target: dw.t: there is no such row"]);
    explain(&["9"]).expect(1).says(&["its key is (id, part), and 1 values were given"]);
    explain(&["x", "a"]).expect(1).says(&["public.t", "invalid input syntax"]);
    world.trem.command(&["explain", "t", "public.u", "1"]).expect(1).says(&["public.u", "no such table"]);
    let json = world.trem.command(&["explain", "t", "public.t", "7", "a", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["expected"]["twice"], &json["target"]["twice"]), (&"42".into(), &"42".into()), "{json}");
    assert_eq!(json["rules"].as_array().map(Vec::len), Some(3));
}
