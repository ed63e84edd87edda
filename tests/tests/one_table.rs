//! One table's matter is one table's matter: whatever stands against one, the others go on.

mod source;
mod sqlstates;

use trem_tests::World;

use crate::PATIENCE;

/// Fails unless these tables are suspended for these reasons, and `public.fine` has what the source has.
async fn assert_left_out(world: &World, tables: &[(&str, &[&str])]) {
    let status = world.trem.command(&["status"]).expect(0);
    for (table, says) in tables {
        assert_eq!(world.table_state(table).await, "suspended", "{table}: {}", status.stdout);
        status.clone().says(says);
    }
    world.assert_equal(&["public.fine"]).await;
}

const FINE: &str = "CREATE TABLE fine (id int PRIMARY KEY, v text); INSERT INTO fine VALUES (1, 'a')";

/// Name, what the target has more, and what is said of a row (7, 7, 'x').
const FAULTS: &[(&str, &str, &[&str])] = &[
    ("uniq", "CREATE UNIQUE INDEX uniq_v ON uniq (v)", &["uniq_v", "unique constraint or index"]),
    (
        "excl",
        "ALTER TABLE excl ADD CONSTRAINT excl_v EXCLUDE USING btree (v WITH =)",
        &["excl_v", "exclusion constraint"],
    ),
    ("chck", "ALTER TABLE chck ADD CONSTRAINT chck_n CHECK (n < 5)", &["chck_n", "check constraint"]),
    ("rule", "ALTER TABLE rule ENABLE ROW LEVEL SECURITY", &["row-level security", "BYPASSRLS"]),
    ("deny", "REVOKE INSERT ON deny FROM writer", &["permission denied"]),
    (
        "raise",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not here''; END';
         CREATE TRIGGER no BEFORE INSERT ON raise FOR EACH ROW EXECUTE FUNCTION refuse();
         ALTER TABLE raise ENABLE ALWAYS TRIGGER no",
        &["not here", "refuse()", "ENABLE ALWAYS"],
    ),
    (
        "lost",
        "CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM gone(1); RETURN NEW; END';
         CREATE TRIGGER no BEFORE INSERT ON lost FOR EACH ROW EXECUTE FUNCTION calls();
         ALTER TABLE lost ENABLE REPLICA TRIGGER no",
        &["gone(integer)", "create the function"],
    ),
    ("zero", "ALTER TABLE zero ADD q int DEFAULT 0, ADD CHECK (1 / q > 0)", &["division by zero"]),
];

/// Changes that the target's constraints, triggers, policies and partitions do not take, all in one set.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_the_target_does_not_take() {
    let mut world = World::two().await;
    world.configure(|c| {
        c.keys.push("on-existing = \"keep\"".to_owned());
        c.target = c.target.replacen("postgres://postgres:", "postgres://writer:", 1);
    });
    world.source.exec(FINE).await;
    world
        .target
        .exec(
            "CREATE ROLE writer LOGIN; GRANT ALL ON SCHEMA public TO writer; GRANT CREATE ON DATABASE reports TO writer;
             GRANT SET ON PARAMETER session_replication_role TO writer",
        )
        .await;
    let mut tables = String::new();
    for (name, ..) in FAULTS {
        tables.push_str(&format!("CREATE TABLE {name} (id int PRIMARY KEY, n int, v text);"));
    }
    world.source.exec(&tables).await;
    world.source.exec("CREATE TABLE part (id int PRIMARY KEY, n int, v text)").await;
    world.target.exec(&tables).await;
    world
        .target
        .exec(
            "CREATE TABLE part (id int PRIMARY KEY, n int, v text) PARTITION BY RANGE (id);
             CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (5);
             GRANT ALL ON ALL TABLES IN SCHEMA public TO writer",
        )
        .await;
    world.trem.until_current().expect(0);
    let mut wrong: Vec<(String, &[&str])> = vec![("public.part".to_owned(), &["create the partition"])];
    let mut changes = "INSERT INTO fine VALUES (2, 'b'); INSERT INTO part VALUES (7, 7, 'x');".to_owned();
    for (name, sql, says) in FAULTS {
        world.target.exec(sql).await;
        changes.push_str(&format!("INSERT INTO {name} VALUES (7, 7, 'x'), (8, 8, 'x');"));
        wrong.push((format!("public.{name}"), says));
    }
    world.source.exec(&format!("BEGIN; {changes} COMMIT")).await;
    world.trem.until_current().expect(3);
    let wrong: Vec<(&str, &[&str])> = wrong.iter().map(|(t, s)| (t.as_str(), *s)).collect();
    assert_left_out(&world, &wrong).await;
    // A reload meets the same, and holds nobody up either.
    world.trem.command(&["reload", "--task", "t", "--table", "public.uniq"]).expect(0);
    world.source.exec("INSERT INTO fine VALUES (3, 'c')").await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, &[("public.uniq", &["uniq_v"])]).await;
    world.target.exec("DROP INDEX uniq_v").await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.uniq"]).expect(0);
    world.trem.until_current().expect(3);
    assert_eq!(world.table_state("public.uniq").await, "ready");
}

/// What somebody has done to the target's tables while nobody looked.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_target_that_are_not_what_they_were() {
    let world = World::two().await;
    let tables = ["gone", "viewed", "less", "emptied", "keyless", "other"];
    for table in tables {
        let sql = format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n int, v text); ALTER TABLE {table} ALTER v SET STORAGE EXTERNAL;
             INSERT INTO {table} VALUES (1, 1, repeat('x', 9000)), (2, 2, 'b')"
        );
        world.source.exec(&sql).await;
    }
    world.source.exec(FINE).await;
    world.trem.until_current().expect(0);
    world
        .target
        .exec(
            "DROP TABLE gone; ALTER TABLE viewed RENAME TO seen; CREATE VIEW viewed AS SELECT * FROM seen;
             ALTER TABLE less DROP v; DELETE FROM emptied; ALTER TABLE keyless DROP CONSTRAINT keyless_pkey;
             ALTER TABLE other ALTER n TYPE text",
        )
        .await;
    for table in tables {
        world
            .source
            .exec(&format!("UPDATE {table} SET n = 5 WHERE id = 1; INSERT INTO {table} VALUES (3, 3, 'c')"))
            .await;
    }
    world.source.exec("INSERT INTO fine VALUES (2, 'b')").await;
    world.trem.until_current().expect(3);
    assert_left_out(
        &world,
        &[
            ("public.gone", &["gone"]),
            ("public.viewed", &["is a view now"]),
            ("public.less", &["lost column v"]),
            ("public.emptied", &["not on the target"]),
        ],
    )
    .await;
    world.assert_equal(&["public.keyless", "public.other"]).await;
    world.target.exec("DROP VIEW viewed").await;
    for table in ["gone", "viewed", "emptied"] {
        let table = format!("public.{table}");
        world.trem.command(&["reload", "--task", "t", "--table", &table]).expect(0);
    }
    world.trem.until_current().expect(3);
    world.assert_equal(&["public.gone", "public.viewed", "public.emptied"]).await;
}

/// Values that the load meets: the table that has one is left out, the first time and later.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_target_does_not_take_in_a_load() {
    for mode in ["full-load", "full-load-and-cdc"] {
        let mut world = World::two().await;
        world.configure(|c| c.keys.extend([format!("mode = \"{mode}\""), "on-existing = \"truncate\"".to_owned()]));
        world.source.exec(FINE).await;
        let table = "CREATE TABLE uniq (id int PRIMARY KEY, v text)";
        world.source.exec(&format!("{table}; INSERT INTO uniq VALUES (1, 'x'), (2, 'x')")).await;
        world.target.exec(&format!("{table}; CREATE UNIQUE INDEX uniq_v ON uniq (v)")).await;
        world.trem.until_current().expect(3);
        assert_left_out(&world, &[("public.uniq", &["uniq_v"])]).await;
    }
}

/// Types and functions that the target has not: told by check, and later the matter of the tables that use them.
#[tokio::test(flavor = "multi_thread")]
async fn types_and_functions_that_the_target_lacks() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    world
        .source
        .exec(
            "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 7';
             CREATE FUNCTION ok(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> ''''';
             CREATE DOMAIN filled AS text CHECK (ok(VALUE)); CREATE TYPE pair AS (a filled, b int)",
        )
        .await;
    let computed = "CREATE TABLE computed (a int PRIMARY KEY, b int GENERATED ALWAYS AS (f(a)) STORED);
                    INSERT INTO computed VALUES (1)";
    let domain = "CREATE TABLE of_domain (a int PRIMARY KEY, p pair[]);
                  INSERT INTO of_domain VALUES (1, ARRAY[ROW('x', 1)::pair])";
    for (sql, table, says) in [
        (computed, "computed", &["public.computed", "f(integer)", "create the function"][..]),
        (domain, "of_domain", &["public.of_domain", "public.filled", "ok(text)"]),
    ] {
        world.source.exec(sql).await;
        for command in ["check", "run"] {
            world.trem.command(&[command]).expect(1).says(says);
        }
        let sql = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        assert_eq!(world.target.number(sql).await, 0, "nothing is left of a check");
        world.source.exec(&format!("DROP TABLE {table}")).await;
    }
    // They come while the task is followed.
    let mut running = world.trem.start();
    world.equal(&["public.fine"], &mut running).await;
    world.source.exec(&format!("{computed}; {domain}")).await;
    for table in ["public.computed", "public.of_domain"] {
        let state = format!("SELECT state FROM trem.table_state WHERE schema_name || '.' || table_name = '{table}'");
        world.target.wait_for(&state, "suspended", PATIENCE).await;
    }
    world.source.exec("INSERT INTO fine VALUES (2, 'b')").await;
    world.equal(&["public.fine"], &mut running).await;
    world
        .target
        .exec(
            "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 7';
             CREATE FUNCTION ok(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> '''''",
        )
        .await;
    for table in ["public.computed", "public.of_domain"] {
        world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
    }
    world.equal(&["public.computed", "public.of_domain"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// An extension that is in another schema on the target: told by check, and later the matter of the table.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_is_elsewhere() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    let table = "CREATE TABLE h (id int PRIMARY KEY, v ext.hstore); INSERT INTO h VALUES (1, 'a=>1')";
    world.source.exec("CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext").await;
    world.source.exec(table).await;
    world.target.exec("CREATE EXTENSION hstore SCHEMA public").await;
    let remedy = "ALTER EXTENSION \"hstore\" SET SCHEMA \"ext\"";
    let says = ["public.h", "extension hstore is in schema public there", remedy];
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&says);
    }
    world.source.exec("DROP TABLE h").await;
    world.trem.until_current().expect(0);
    world.source.exec(&format!("{table}; INSERT INTO fine VALUES (2, 'b')")).await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, &[("public.h", &says[1..])]).await;
    world.target.exec(&format!("CREATE SCHEMA IF NOT EXISTS ext; {remedy}")).await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.h"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// A label that the target's enum lacks keeps a new table out, and no other that comes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_the_target_lacks() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    world.source.exec("CREATE TYPE m AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, m m)").await;
    world.trem.until_current().expect(0);
    world.source.exec("ALTER TYPE m ADD VALUE 'b'").await;
    world
        .source
        .exec(
            "CREATE TABLE late (id int PRIMARY KEY, m m[]); INSERT INTO late VALUES (1, '{b}');
             CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1); INSERT INTO fine VALUES (2, 'b')",
        )
        .await;
    world.trem.until_current().expect(3);
    let remedy = "ALTER TYPE \"public\".\"m\" ADD VALUE 'b'";
    assert_left_out(&world, &[("public.late", &["lacks label 'b'", remedy])]).await;
    world.assert_equal(&["public.other", "public.t"]).await;
    world.target.exec(remedy).await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.late"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// A table without a column that could be sent is told of.
#[tokio::test(flavor = "multi_thread")]
async fn tables_without_columns() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    let bare = "CREATE TABLE bare (); ALTER TABLE bare REPLICA IDENTITY FULL";
    let computed = "CREATE TABLE computed (b int GENERATED ALWAYS AS (7) STORED); \
                    ALTER TABLE computed REPLICA IDENTITY FULL";
    for (table, sql) in [("bare", bare), ("computed", computed)] {
        world.source.exec(sql).await;
        for command in ["check", "run"] {
            world.trem.command(&[command]).expect(1).says(&[&format!("public.{table}"), "has no columns", "exclude"]);
        }
        world.source.exec(&format!("DROP TABLE {table}")).await;
    }
    world.trem.until_current().expect(0);
    world.source.exec(&format!("{bare}; {computed}; INSERT INTO fine VALUES (2, 'b')")).await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, &[("public.bare", &["has no columns"]), ("public.computed", &["generated"])]).await;
}

/// Bytes that are no text: in a database that lets them in.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_none() {
    let mut world = World::one().await;
    world.source.exec("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").await;
    world.source = world.cluster.connect("ascii").await;
    world.configure(|c| c.source = c.source.replacen("/shop", "/ascii", 1));
    world.source.exec(FINE).await;
    world
        .source
        .exec("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE early (id int PRIMARY KEY, v text)")
        .await;
    world.source.exec("INSERT INTO early VALUES (1, convert_from('\\xe9', 'SQL_ASCII')), (2, 'b')").await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, &[("public.early", &["column v", "UTF-8", "at the source"])]).await;
    world
        .source
        .exec("INSERT INTO t VALUES (1, convert_from('\\xe9', 'SQL_ASCII')); INSERT INTO fine VALUES (2, 'b')")
        .await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, &[("public.t", &["column v", "UTF-8"])]).await;
}

/// Characters that the target's encoding lacks.
#[tokio::test(flavor = "multi_thread")]
async fn characters_that_the_target_lacks() {
    let mut world = World::one().await;
    world.source.exec("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    world.target = world.cluster.connect("latin").await;
    world.configure(|c| c.target = c.target.replacen("/reports", "/latin", 1));
    world.source.exec(FINE).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    world.trem.command(&["check"]).expect(0).says(&["encoding", "LATIN1"]);
    world.trem.until_current().expect(0);
    world.source.exec("INSERT INTO t VALUES (1, '10 €'); INSERT INTO fine VALUES (2, 'e')").await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, &[("public.t", &["LATIN1", "encoding UTF8"])]).await;
}

/// An additional column of the target that gives itself a value is nobody's matter.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_number_themselves() {
    let mut world = World::two().await;
    world.configure(|c| c.keys.push("on-existing = \"keep\"".to_owned()));
    world.source.exec(FINE).await;
    world
        .target
        .exec(
            "CREATE TABLE fine (id int PRIMARY KEY, v text, n int GENERATED BY DEFAULT AS IDENTITY, \
             o int GENERATED ALWAYS AS IDENTITY, s serial)",
        )
        .await;
    world.trem.until_current().expect(0);
    world
        .source
        .exec("INSERT INTO fine SELECT i, 'x' FROM generate_series(2, 200) i; UPDATE fine SET id = -1 WHERE id = 2")
        .await;
    world.trem.until_current().expect(0);
    let sum = "SELECT count(*) || ' ' || sum(id) FROM fine WHERE n > 0 AND o > 0 AND s > 0";
    assert_eq!(world.target.one(sum).await, world.source.one("SELECT count(*) || ' ' || sum(id) FROM fine").await);
}

/// Somebody holds a lock on a table of the target: by then the others are ahead of it, and it follows once it can.
async fn assert_goes_on_without(lock: &str) {
    let world = World::two().await;
    world.source.exec(&format!("{FINE}; CREATE TABLE held (id int PRIMARY KEY, v text)")).await;
    world.source.exec("INSERT INTO held SELECT n, 'x' FROM generate_series(1, 50) n").await;
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    // Rows that are there do not say that the load is over: what is left of it would wait for the lock.
    world.target.wait_for("SELECT count(*) FROM trem.table_state WHERE state = 'ready'", "2", PATIENCE).await;
    let other = world.target_cluster().connect("reports").await;
    let pid = other.one("SELECT pg_backend_pid()").await;
    other.exec(&format!("BEGIN; {lock}")).await;
    world.source.exec("UPDATE held SET v = 'y' WHERE id < 9; INSERT INTO fine VALUES (2, 'b')").await;
    running.wait_log(&format!("locked by process {pid} (database reports"), PATIENCE).await;
    running.wait_log("the others go on without it", PATIENCE).await;
    world.equal(&["public.fine"], &mut running).await;
    world.trem.command(&["status"]).expect(0).says(&["public.held has fallen behind", &format!("process {pid}")]);
    // Killed, it goes on in the same way.
    running.kill();
    let mut running = world.trem.start();
    for n in 3..6 {
        world.source.exec(&format!("INSERT INTO fine VALUES ({n}, 'c'); DELETE FROM held WHERE id = {n}")).await;
        world.equal(&["public.fine"], &mut running).await;
    }
    world.source.exec("ALTER TABLE held ADD w int DEFAULT 4; INSERT INTO held VALUES (99, 'z', 1)").await;
    other.exec("ROLLBACK").await;
    world.equal(&["public.%"], &mut running).await;
    assert_eq!(world.table_state("public.held").await, "ready");
    world.trem.command(&["status"]).expect(0).never_says("fallen behind");
    assert!(!running.log().contains("table loaded"), "it was loaded again");
    running.stop(PATIENCE).expect(0);
    world.source.exec("TRUNCATE held; INSERT INTO fine VALUES (9, 'b')").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_at_the_target_holds_nobody_up() {
    assert_goes_on_without("LOCK TABLE held IN SHARE MODE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_at_the_target_holds_nobody_up() {
    assert_goes_on_without("UPDATE held SET v = 'theirs' WHERE id = 1").await;
}
