//! Rules that rename, from the first load to a table that appears. The target has views under the source's names, so
//! that both sides can be compared as always.

use trem_tests::World;

use crate::{PATIENCE, conserved};

const RULES: &str = r#"
[[TASK.rules]]
match = "public.*"
action = "rename-schema"
to = "dw"
[[TASK.rules]]
match = "dw.orders"
action = "rename-table"
to = "Sales \"x\""
[[TASK.rules]]
match = "dw.*"
action = "rename-column"
column = "id"
to = "no."
[[TASK.rules]]
match = "dw.Sales*"
action = "rename-column"
column = "note"
to = "id"
"#;

const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, note text, n int CHECK (n > -1000),
                         twice int GENERATED ALWAYS AS (n * 2) STORED);
    ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
    CREATE INDEX by_note ON orders (lower(left(note, 9)), id) WHERE n > 5;
    CREATE TABLE lines (id int, line int, note text, PRIMARY KEY (line, id), FOREIGN KEY (id) REFERENCES orders);
    CREATE TABLE whole (id int, v text); ALTER TABLE whole REPLICA IDENTITY FULL;
    INSERT INTO orders SELECT i, repeat('x' || i, 3000), i FROM generate_series(1, 200) i;
    INSERT INTO lines SELECT i, i % 3, 'line' FROM generate_series(1, 100) i;
    INSERT INTO whole SELECT i % 7, 'v' || i % 7 FROM generate_series(1, 50) i";

const VIEWS: &str = r#"
    CREATE VIEW orders AS SELECT "no." AS id, id AS note, n, twice FROM dw."Sales ""x""";
    CREATE VIEW lines AS SELECT "no." AS id, line, note FROM dw.lines;
    CREATE VIEW whole AS SELECT "no." AS id, v FROM dw.whole"#;

async fn world() -> World {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = RULES.to_owned();
        c.keys.push("after-load = \"indexes-and-constraints\"".to_owned());
    });
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_tables_are_followed_through_everything() {
    let world = world().await;
    world.source.exec(TABLES).await;
    world.trem.command(&["plan"]).expect(0).says(&["public.orders", "dw.Sales \"x\"", "\"no.\" integer NOT NULL"]);
    world.trem.until_current().expect(0);
    world.target.exec(VIEWS).await;
    world.assert_equal(&["public.%"]).await;
    let made = "SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY contype, conrelid::regclass::text)
                FROM pg_constraint WHERE connamespace = 'dw'::regnamespace AND contype <> 'n'";
    let expected = "CHECK ((n > '-1000'::integer)); FOREIGN KEY (\"no.\") REFERENCES dw.\"Sales \"\"x\"\"\"(\"no.\"); \
                    PRIMARY KEY (\"no.\"); PRIMARY KEY (line, \"no.\")";
    assert_eq!(world.target.one(made).await, expected);
    let index = "SELECT pg_get_indexdef('dw.by_note'::regclass)";
    let expected =
        "CREATE INDEX by_note ON dw.\"Sales \"\"x\"\"\" USING btree (lower(\"left\"(id, 9)), \"no.\") WHERE (n > 5)";
    assert_eq!(world.target.one(index).await, expected);

    let mut running = world.trem.start();
    for step in [
        "UPDATE orders SET n = -n WHERE id < 50; DELETE FROM lines WHERE line = 1; \
         UPDATE whole SET v = 'w' WHERE id = 3",
        // Keys change, and large values are not in the log.
        "UPDATE orders SET id = id + 1000 WHERE id > 150; UPDATE lines SET line = line + 10 WHERE id > 50",
        "DELETE FROM whole WHERE ctid = (SELECT min(ctid) FROM whole); TRUNCATE lines",
        "INSERT INTO lines VALUES (1, 1, NULL); TRUNCATE orders, lines; INSERT INTO orders VALUES (1, 'again', 7)",
    ] {
        world.source.exec(step).await;
        world.equal(&["public.%"], &mut running).await;
    }
    world
        .source
        .exec("ALTER TABLE orders ADD more int DEFAULT 5; UPDATE orders SET more = 6; INSERT INTO orders VALUES (2)")
        .await;
    let more = "SELECT string_agg(\"no.\" || ' ' || more, ', ' ORDER BY 1) FROM dw.\"Sales \"\"x\"\"\"";
    world.target.wait_for(more, "1 6, 2 5", PATIENCE).await;
    world
        .source
        .exec(
            "CREATE TABLE late (id int PRIMARY KEY, v int); INSERT INTO late SELECT i, i FROM generate_series(1, 9) i",
        )
        .await;
    world.target.wait_for("SELECT to_regclass('dw.late') IS NOT NULL", "t", PATIENCE).await;
    world.target.wait_for("SELECT count(\"no.\") FROM dw.late", "9", PATIENCE).await;
    running.stop(PATIENCE).expect(0);

    let status = world.trem.command(&["status"]).expect(0);
    status.says(&["public.orders", "dw.Sales \"x\"", "public.late", "dw.late"]);
    world.target.exec("DELETE FROM dw.whole").await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.whole"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.whole", "public.lines"]).await;
    changes_are_accounted_for(&world).await;
}

/// All that the source counts of its changes is applied.
async fn changes_are_accounted_for(world: &World) {
    let mut changed = 0;
    for sql in [
        "INSERT INTO orders SELECT i, repeat('y' || i, 3000), i FROM generate_series(10, 90) i",
        "UPDATE orders SET n = -n WHERE id % 2 = 0; UPDATE orders SET n = 3 WHERE id % 5 = 0",
        "UPDATE orders SET id = id + 5000 WHERE id % 3 = 0; DELETE FROM orders WHERE id % 7 = 0",
        "INSERT INTO lines SELECT id, n, note FROM orders WHERE n <> 3; UPDATE lines SET line = 1 - line WHERE id > 50",
        "UPDATE whole SET v = v || id; DELETE FROM whole WHERE id = 2; INSERT INTO whole SELECT * FROM whole",
        "INSERT INTO late SELECT i, i FROM generate_series(100, 120) i; DELETE FROM late WHERE id > 110",
    ] {
        changed += conserved::changed(world, sql).await;
    }
    assert!(changed > 300, "{changed}");
    world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
    world
        .target
        .exec(
            "DROP VIEW orders; CREATE VIEW orders AS SELECT \"no.\" AS id, id AS note, n, twice, more FROM \
                       dw.\"Sales \"\"x\"\"\"; CREATE VIEW late AS SELECT \"no.\" AS id, v FROM dw.late",
        )
        .await;
    world.assert_equal(&["public.%"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_do_not_become_one() {
    let mut world = World::one().await;
    world.configure(|c| {
        c.include = vec!["*.*".to_owned()];
        c.sections = "[[TASK.rules]]\nmatch = \"*.a\"\naction = \"rename-schema\"\nto = \"dw\"\n".to_owned();
    });
    let tables = "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY)";
    world.source.exec(tables).await;
    let both = ["public.a", "s.a", "would become the target table dw.a"];
    world.trem.command(&["check"]).expect(1).says(&both);
    world.trem.command(&["run"]).expect(1).says(&both);
    assert_eq!(world.target.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'dw'").await, 0);
}

/// What is on the target keeps its name: a table that is called otherwise now is loaded anew under that name.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_suspend_what_they_rename() {
    let mut world = World::one().await;
    world.source.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)").await;
    world.source.exec("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)").await;
    world.trem.until_current().expect(0);
    world.configure(|c| {
        c.sections = "[[TASK.rules]]\nmatch = \"*.a\"\naction = \"rename-schema\"\nto = \"dw\"\n".to_owned();
    });
    world.source.exec("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)").await;
    world.trem.until_current().expect(3).says(&["public.a", "the rules make it table dw.a of the target now"]);
    world.assert_equal(&["public.b"]).await;
    assert_eq!(world.target.number("SELECT count(*) FROM a").await, 1);
    world.trem.command(&["reload", "--task", "t", "--table", "public.a"]).expect(0);
    world.trem.until_current().expect(0);
    assert_eq!(world.target.number("SELECT count(*) FROM dw.a").await, 2);
    assert_eq!(world.target.number("SELECT count(*) FROM a").await, 1, "left as it was");
}

/// Types that only the target knows, in the load and in changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_of_the_targets_own() {
    let mut world = World::one().await;
    let rule = |column: &str, native: &str| {
        format!(
            "[[TASK.rules]]\nmatch = \"public.t\"\naction = \"change-type\"\ncolumn = \"{column}\"\n\
             to = {{ native = \"{native}\" }}\n"
        )
    };
    let rules = [rule("address", "inet"), rule("n", "character varying(5)"), rule("id", "text")];
    world.configure(|c| c.sections = rules.concat());
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, address text, n numeric)").await;
    world.source.exec("INSERT INTO t VALUES (1, '10.0.0.1', 1.50), (2, NULL, NULL)").await;
    world.trem.until_current().expect(0);
    world.source.exec("UPDATE t SET address = '::1' WHERE id = 2; INSERT INTO t VALUES (3, '10.1.0.0/16', -2)").await;
    world.source.exec("UPDATE t SET id = 11 WHERE id = 1; DELETE FROM t WHERE id = 3").await;
    world.trem.until_current().expect(0);
    let rows = "SELECT string_agg(concat_ws(' ', id, host(address), n, pg_typeof(address), pg_typeof(n), \
                pg_typeof(id)), ', ' ORDER BY id) FROM t";
    let types = "inet character varying text";
    assert_eq!(world.target.one(rows).await, format!("11 10.0.0.1 1.50 {types}, 2 ::1 {types}"));
    // One that the target cannot hold is that table's matter.
    world.source.exec("INSERT INTO t VALUES (4, 'nowhere', 1)").await;
    world.trem.until_current().expect(3).says(&["public.t", "inet", "trem reload"]);
}
