//! Filters and computed columns, through loads, changes and kills: the target is the view of the source that SQL makes.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{Trem, World};

use crate::{PATIENCE, conserved, seed};

const TABLES: &str = "
    CREATE TABLE whole (id int PRIMARY KEY, a int, b text, big text);
    ALTER TABLE whole REPLICA IDENTITY FULL; ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE keyed (id int PRIMARY KEY, a int, d date);
    CREATE TABLE partly (id int PRIMARY KEY, a int, b text, big text);
    ALTER TABLE partly ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE loose (id int, a int, b text); ALTER TABLE loose REPLICA IDENTITY FULL;
    CREATE TABLE masked (code text, n int, v text, big text, PRIMARY KEY (code, n));
    ALTER TABLE masked ALTER big SET STORAGE EXTERNAL";

const RULES: &str = r#"
[[TASK.tables]]
include = ["public.whole", "public.loose"]
filter = "a > 3 AND (b IS NULL OR b <> 'no')"
[[TASK.tables]]
include = "public.keyed"
filter = "a % 3 = 0"
[[TASK.tables]]
include = "public.partly"
filter = "a % 2 = 0"
[[TASK.tables]]
include = "public.masked"
[[TASK.rules]]
match = "public.whole"
action = "create-column"
column = "size"
type = "int64"
value = "length(big) + a"
[[TASK.rules]]
match = "public.masked"
action = "set-value"
column = "code"
value = "md5(code || 'salt')"
[[TASK.rules]]
match = "public.masked"
action = "create-column"
column = "both"
type = "text"
value = "left(big, 2) || right(big, 1)"
[[TASK.rules]]
match = "public.masked"
action = "drop-column"
column = "v"
"#;

/// Tables of the target, and what the source says they are.
const VIEWS: &[(&str, &str)] = &[
    (
        "SELECT id, a, b, big, size FROM whole ORDER BY 1",
        "SELECT id, a, b, big, length(big) + a FROM whole WHERE a > 3 AND (b IS NULL OR b <> 'no') ORDER BY 1",
    ),
    (
        "SELECT id, a, b, md5(big) FROM partly ORDER BY 1",
        "SELECT id, a, b, md5(big) FROM partly WHERE a % 2 = 0 ORDER BY 1",
    ),
    ("SELECT id, a, d FROM keyed ORDER BY 1", "SELECT id, a, d FROM keyed WHERE a % 3 = 0 ORDER BY 1"),
    (
        "SELECT id, a, b FROM loose ORDER BY 1, 2, 3",
        "SELECT id, a, b FROM loose WHERE a > 3 AND (b IS NULL OR b <> 'no') ORDER BY 1, 2, 3",
    ),
    (
        "SELECT code, n, big, \"both\" FROM masked ORDER BY 1, 2",
        "SELECT md5(code || 'salt'), n, big, left(big, 2) || right(big, 1) FROM masked ORDER BY 1, 2",
    ),
];

async fn difference(world: &World) -> Option<String> {
    for (ours, theirs) in VIEWS {
        let (target, source) = (world.target.rows(ours).await, world.source.rows(theirs).await);
        if target != source {
            let gone = |a: &[Vec<Option<String>>], b: &[Vec<Option<String>>]| {
                let only: Vec<String> = a.iter().filter(|row| !b.contains(row)).map(|row| format!("{row:?}")).collect();
                only.join("\n    ").replace(&"0".repeat(40), "0").chars().take(2000).collect::<String>()
            };
            let (more, less) = (gone(&target, &source), gone(&source, &target));
            return Some(format!("{ours}\n  only the target:\n    {more}\n  only the source:\n    {less}"));
        }
    }
    None
}

async fn equal(world: &World) {
    let difference = difference(world).await;
    assert!(difference.is_none(), "{}\n{}", difference.unwrap_or_default(), world.trem.command(&["status"]).stdout);
}

async fn world() -> World {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = RULES.to_owned();
        c.include.clear();
    });
    let text = world.config.toml().replace("[[tasks.t.tables]]\ninclude = []\nexclude = []\n\n", "");
    world.trem = Trem::with_text(&text);
    world.source.exec(TABLES).await;
    world
}

/// A random transaction of one to three statements; how many rows it has changed. One that the source refuses is none.
async fn change(random: &mut StdRng, world: &World) -> i64 {
    let mut sql = String::new();
    for _ in 0..random.random_range(1..4) {
        let (id, a, n) = (random.random_range(0..40), random.random_range(0..8), random.random_range(2..6));
        let b = ["NULL", "'yes'", "'no'"][random.random_range(0..3)];
        let big = format!("repeat('{a}', {})", random.random_range(1..5) * 1000);
        sql.push_str(&match random.random_range(0..21) {
            0..2 => format!("INSERT INTO whole VALUES ({id}, {a}, {b}, {big}) ON CONFLICT DO NOTHING;"),
            2 => format!("UPDATE whole SET a = {a} WHERE id % {n} = 0;"),
            3 => format!("UPDATE whole SET b = {b} WHERE id % {n} = 1;"),
            4 => format!("UPDATE whole SET id = id + 100, a = {a} WHERE id = {id};"),
            5 => format!("DELETE FROM whole WHERE id % 7 = {a};"),
            6 => format!("INSERT INTO keyed VALUES ({id}, {a}, '2024-01-{n:02}') ON CONFLICT DO NOTHING;"),
            7 => format!("UPDATE keyed SET a = {a} WHERE id % {n} = 0;"),
            8 => format!("UPDATE keyed SET id = id + 100, a = {a} WHERE id = {id};"),
            9 => format!("DELETE FROM keyed WHERE id % 7 = {a};"),
            10 => format!("INSERT INTO loose VALUES ({id}, {a}, {b}), ({id}, {a}, {b});"),
            11 => format!("UPDATE loose SET a = {a} WHERE id % {n} = 0;"),
            12 => format!("DELETE FROM loose WHERE id % 7 = {a};"),
            13 => format!("INSERT INTO masked VALUES ('c{a}', {id}, {b}, {big}) ON CONFLICT DO NOTHING;"),
            14 => format!("UPDATE masked SET code = code || 'x', v = {b} WHERE n = {id};"),
            15 => format!("UPDATE masked SET v = {b} WHERE n % {n} = 0;"),
            16 => format!("INSERT INTO partly VALUES ({id}, {a}, {b}, {big}) ON CONFLICT DO NOTHING;"),
            17 => format!("UPDATE partly SET a = {a} WHERE id % {n} = 0;"),
            18 => format!("UPDATE partly SET b = {b} WHERE id % {n} = 1;"),
            19 => format!("UPDATE partly SET id = id + 100, a = {a} WHERE id = {id};"),
            _ => format!("DELETE FROM partly WHERE id % 7 = {a};"),
        });
    }
    conserved::changed(world, &sql).await
}

/// Random changes, trem running, stopped or killed.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_the_view_that_the_rules_make() {
    let world = world().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..30 {
        change(&mut random, &world).await;
    }
    world.trem.until_current().expect(0);
    equal(&world).await;
    for round in 0..4 {
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        for _ in 0..40 {
            change(&mut random, &world).await;
        }
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
            running.kill();
        } else {
            running.stop(PATIENCE).expect(0);
        }
        for _ in 0..20 {
            change(&mut random, &world).await;
        }
        world.trem.until_current().expect(0);
        let difference = difference(&world).await;
        assert!(difference.is_none(), "TREM_SEED={seed} round {round}\n{}", difference.unwrap_or_default());
    }
    for commit in 0..16 {
        let changed = change(&mut random, &world).await;
        world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
        let difference = difference(&world).await;
        assert!(difference.is_none(), "TREM_SEED={seed} commit {commit}\n{}", difference.unwrap_or_default());
    }
    world.source.exec("TRUNCATE whole; ALTER TABLE masked ADD late int DEFAULT 3; UPDATE masked SET v = 'last'").await;
    world.trem.until_current().expect(0);
    equal(&world).await;
    assert_eq!(world.target.number("SELECT count(*) FROM masked WHERE late IS DISTINCT FROM 3").await, 0);
    world.trem.command(&["reload", "--task", "t", "--table", "public.whole"]).expect(0);
    world.source.exec("INSERT INTO whole VALUES (1, 5, NULL, 'x'), (2, 1, NULL, 'x')").await;
    world.trem.until_current().expect(0);
    equal(&world).await;
    let mut changed = 0;
    for _ in 0..40 {
        changed += change(&mut random, &world).await;
    }
    world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
    equal(&world).await;
}

/// A value that a rule cannot do suspends its table, and says which.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_rule_cannot_do() {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections =
            "[[TASK.rules]]\nmatch = \"public.t\"\naction = \"set-value\"\ncolumn = \"n\"\nvalue = \"100 / n\"\n"
                .to_owned();
    });
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE fine (id int PRIMARY KEY)").await;
    world.source.exec("INSERT INTO t VALUES (1, 5), (2, NULL)").await;
    world.trem.until_current().expect(0);
    world.source.exec("INSERT INTO t VALUES (3, 0); INSERT INTO fine VALUES (1)").await;
    world.trem.until_current().expect(3).says(&["public.t", "100 / n", "ivide"]);
    assert_eq!(world.table_state("public.t").await, "suspended");
    world.assert_equal(&["public.fine"]).await;
    world.source.exec("DELETE FROM t WHERE id = 3").await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    world.trem.until_current().expect(0);
    let rows = "SELECT string_agg(concat_ws(':', id, n), ' ' ORDER BY id) FROM t";
    assert_eq!(world.target.one(rows).await, "1:20 2");
}

/// What becomes of every column, and which rule does it.
#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_what_rules_do() {
    let world = world().await;
    world.trem.command(&["plan"]).expect(0).says(&[
        "filter `a > 3 AND (b IS NULL OR b <> 'no')`",
        "rule 1: create-column size int64 = `length(big) + a`",
        "rule 2: set-value code = `md5(code || 'salt')`",
        "rule 4: drop-column v",
        "code (of code)",
        "both (of big)",
        "v (left out)",
        "size (of a, big)",
        "\"size\" bigint",
    ]);
    let json = world.trem.command(&["plan", "--json"]).expect(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let tables = plan.pointer("/tasks/0/tables").and_then(|t| t.as_array()).expect("tables");
    let masked = tables.iter().find(|t| t["name"] == "public.masked").expect("the table");
    assert_eq!(masked["rules"].as_array().map(Vec::len), Some(3), "{masked}");
    let column = |name: &str| {
        let columns = masked["columns"].as_array().expect("columns");
        columns.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name} is not in {masked}")).clone()
    };
    assert_eq!(
        (&column("v")["target"], &column("code")["computed_from"][0]),
        (&serde_json::Value::Null, &"code".into())
    );
    assert_eq!((column("code")["key"].as_u64(), column("n")["key"].as_u64()), (Some(1), Some(2)));
}

/// Other rules than those that have made the rows: neither is silently mixed with the other.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_between_two_runs() {
    let mut world = World::one().await;
    let rules = |value: &str| {
        let rule = format!("action = \"set-value\"\ncolumn = \"v\"\nvalue = {value:?}");
        let filter = "[[TASK.tables]]\ninclude = \"public.f\"\nfilter = \"id < 5\"\n";
        format!("{filter}[[TASK.rules]]\nmatch = \"public.t\"\n{rule}\n")
    };
    world.configure(|c| {
        c.exclude = vec!["public.f".to_owned()];
        c.sections = rules("v + 1");
    });
    let tables =
        ["t", "f"].map(|t| format!("CREATE TABLE {t} (id int PRIMARY KEY, v int); INSERT INTO {t} VALUES (1, 1)"));
    world.source.exec(&tables.join(";")).await;
    world.trem.until_current().expect(0);
    world.configure(|c| c.sections = rules("v + 2").replace("id < 5", "id < 9"));
    world.source.exec("INSERT INTO t VALUES (2, 2); INSERT INTO f VALUES (7, 7)").await;
    world.trem.until_current().expect(3).says(&["public.t", "public.f", "its rules are others now"]);
    for table in ["public.t", "public.f"] {
        world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
    }
    world.trem.until_current().expect(0);
    let rows = |t: &str| format!("SELECT string_agg(concat_ws(':', id, v), ' ' ORDER BY id) FROM {t}");
    assert_eq!(world.target.one(&rows("t")).await, "1:3 2:4");
    assert_eq!(world.target.one(&rows("f")).await, "1:1 7:7");
    world.trem.until_current().expect(0);
}

/// A value that the log has left out, beside one that it has: the table says so instead of keeping what was.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_of_something_left_out() {
    let mut world = World::one().await;
    world.configure(|c| {
        let create = "action = \"create-column\"\ncolumn = \"both\"\ntype = \"text\"\nvalue = \"v || left(big, 1)\"";
        c.sections = format!("[[TASK.rules]]\nmatch = \"public.t\"\n{create}\n");
    });
    world
        .source
        .exec("CREATE TABLE t (id int PRIMARY KEY, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL")
        .await;
    world.source.exec("INSERT INTO t VALUES (1, 'a', repeat('b', 3000)), (2, 'c', 'd')").await;
    world.trem.until_current().expect(0);
    let rows = "SELECT string_agg(\"both\", ' ' ORDER BY id) FROM t";
    world
        .source
        .exec("UPDATE t SET v = 'x' WHERE id = 2; UPDATE t SET v = 'y', big = repeat('z', 3000) WHERE id = 1")
        .await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(rows).await, "yz xd");
    world.source.exec("UPDATE t SET v = 'new' WHERE id = 1").await;
    let says = ["public.t", "\"both\"", "\"big\"", "REPLICA IDENTITY FULL"];
    world.trem.until_current().expect(3).says(&says);
    world.source.exec("ALTER TABLE t REPLICA IDENTITY FULL").await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    world.trem.until_current().expect(0);
    world.source.exec("UPDATE t SET v = 'full' WHERE id = 1").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one(rows).await, "fullz xd");
}

/// A column that comes with a rule waiting for it: rows from before have a value that only a load can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_rule_has_waited_for() {
    let mut world = World::one().await;
    world.configure(|c| {
        let set = "action = \"set-value\"\ncolumn = \"late\"\nvalue = \"late + id\"";
        let drop = "action = \"drop-column\"\ncolumn = \"never\"";
        c.sections = [set, drop].map(|rule| format!("[[TASK.rules]]\nmatch = \"public.*\"\n{rule}\n")).concat();
    });
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    let mut running = world.trem.start();
    world.equal(&["public.t"], &mut running).await;
    world.source.exec("ALTER TABLE t ADD never int DEFAULT 9; INSERT INTO t VALUES (2, 2, 2)").await;
    let rows = |columns: &str| format!("SELECT string_agg(concat_ws(':', {columns}), ' ' ORDER BY id) FROM t");
    world.target.wait_for(&rows("id, v"), "1:1 2:2", PATIENCE).await;
    world.source.exec("ALTER TABLE t ADD late int DEFAULT 10, ADD w int DEFAULT 4").await;
    world.source.exec("INSERT INTO t VALUES (3, 3, 3, 30, 5)").await;
    running.wait_log("a column was added whose values a rule computes", PATIENCE).await;
    world.target.wait_for(&rows("id, v, late, w"), "1:1:11:4 2:2:12:4 3:3:33:5", PATIENCE).await;
    world.source.exec("UPDATE t SET late = 0 WHERE id < 3; DELETE FROM t WHERE id = 3").await;
    world.target.wait_for(&rows("id, v, late, w"), "1:1:1:4 2:2:2:4", PATIENCE).await;
    let never = "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'never'";
    assert_eq!(world.target.number(never).await, 0);
    running.stop(PATIENCE).expect(0);
}
