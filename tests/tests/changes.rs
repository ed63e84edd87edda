//! Kinds of changes, each made while trem follows the log.

use trem_tests::{PgOptions, Running, World};

use crate::PATIENCE;

/// A world whose source has been loaded, and trem following.
async fn follow(setup: &str) -> (World, Running) {
    follow_with(World::one().await, setup).await
}

async fn follow_with(world: World, setup: &str) -> (World, Running) {
    world.source.exec(setup).await;
    world.trem.until_current().expect(0);
    let running = world.trem.start();
    (world, running)
}

/// Makes changes, waits until they have arrived; each step's end state is compared.
async fn steps(world: &World, running: &mut Running, steps: &[&str]) {
    for step in steps {
        world.source.exec(step).await;
        world.equal(&["%.%"], running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_deletes_and_truncates() {
    let (world, mut running) = follow(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
         CREATE TABLE c (id serial PRIMARY KEY, v int);
         INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, 1000) i;
         INSERT INTO b SELECT i, i FROM generate_series(1, 100) i; \
         INSERT INTO c (v) SELECT 1 FROM generate_series(1, 9);",
    )
    .await;
    let all: &[&str] = &[
        "INSERT INTO a VALUES (2000, NULL), (2001, '')",
        "UPDATE a SET v = 'new' WHERE id % 2 = 0; UPDATE a SET v = NULL WHERE id = 2",
        "DELETE FROM a WHERE id > 900",
        "BEGIN; INSERT INTO a VALUES (5000, 'x'); UPDATE a SET v = 'y' WHERE id = 5000; \
         DELETE FROM a WHERE id = 5000; COMMIT",
        "BEGIN; DELETE FROM a WHERE id = 500; INSERT INTO a VALUES (500, 'again'); COMMIT",
        "BEGIN; DELETE FROM a WHERE id = 501; INSERT INTO a VALUES (501, 'x'); DELETE FROM a WHERE id = 501; COMMIT",
        "COPY a (id) FROM PROGRAM 'seq 10000 10999'",
        "INSERT INTO a VALUES (1, 'up'), (7000, 'in') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v",
        "BEGIN; INSERT INTO c (v) VALUES (5); TRUNCATE c; INSERT INTO c (v) VALUES (6), (7); UPDATE c SET v = 8; \
         COMMIT",
        "TRUNCATE c RESTART IDENTITY",
        "TRUNCATE a CASCADE",
        "INSERT INTO a VALUES (1, 'after'); INSERT INTO b VALUES (1, 1)",
        "TRUNCATE a, b",
    ];
    steps(&world, &mut running, all).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_large_values_are_kept() {
    let (world, mut running) = follow(
        "CREATE TABLE t (id int PRIMARY KEY, n int, x text, y bytea, z jsonb);
         ALTER TABLE t ALTER x SET STORAGE EXTERNAL, ALTER y SET STORAGE EXTERNAL, ALTER z SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, i, repeat('x' || i, 3000), decode(repeat(md5(i::text), 500), 'hex'),
             jsonb_build_object('k', repeat('z', 5000)) FROM generate_series(1, 40) i;",
    )
    .await;
    let all = &[
        "UPDATE t SET n = -n",
        "UPDATE t SET x = NULL WHERE id = 1; UPDATE t SET n = 0 WHERE id = 1",
        "UPDATE t SET y = '\\x00' WHERE id < 5; UPDATE t SET n = n + 1 WHERE id < 9",
        // The key changes, the large values are not in the log.
        "UPDATE t SET id = id + 100 WHERE id BETWEEN 10 AND 15",
        "UPDATE t SET id = id + 100, n = 7, z = NULL WHERE id BETWEEN 16 AND 18",
        // A new row whose large values come with the insert only.
        "BEGIN; INSERT INTO t SELECT 500 + i, 1, repeat('n', 9000), NULL, NULL FROM generate_series(1, 60) i; \
         UPDATE t SET n = 2 WHERE id > 500; UPDATE t SET id = id + 1000 WHERE id > 550; COMMIT",
        // Different columns unknown for different rows of one transaction, and for one row in turn.
        "BEGIN; UPDATE t SET x = repeat('a', 4000) WHERE id % 3 = 0; UPDATE t SET y = NULL WHERE id % 3 = 1; \
         UPDATE t SET z = '1' WHERE id % 3 = 2; UPDATE t SET n = n + 1; COMMIT",
        // Keys change places, values stay.
        "BEGIN; UPDATE t SET id = -1 WHERE id = 20; UPDATE t SET id = 20 WHERE id = 21; \
         UPDATE t SET id = 21 WHERE id = -1; COMMIT",
        "BEGIN; UPDATE t SET id = id + 10000 WHERE id < 10; UPDATE t SET id = id - 9999 WHERE id > 10000; COMMIT",
        "BEGIN; UPDATE t SET id = 9001 WHERE id = 25; DELETE FROM t WHERE id = 9001; \
         INSERT INTO t VALUES (25, 1, 'small', NULL, NULL); COMMIT",
        "BEGIN; DELETE FROM t WHERE id = 26; UPDATE t SET id = 26 WHERE id = 27; UPDATE t SET n = 99 WHERE id = 26; \
         COMMIT",
    ];
    steps(&world, &mut running, all).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_swap_chain_and_rotate() {
    let (world, mut running) = follow(
        "CREATE TABLE k (a int, b text, v int, PRIMARY KEY (b, a));
         INSERT INTO k SELECT i, 'b' || i % 3, i FROM generate_series(1, 300) i;
         CREATE TABLE u (id int PRIMARY KEY, pos int NOT NULL UNIQUE DEFERRABLE, code text UNIQUE, big text);
         ALTER TABLE u ALTER big SET STORAGE EXTERNAL;
         INSERT INTO u SELECT i, i, 'c' || i, repeat('b' || i, 3000) FROM generate_series(1, 50) i;
         CREATE UNIQUE INDEX ON u ((lower(code)));",
    )
    .await;
    let all = &[
        "UPDATE k SET a = a + 1000 WHERE a > 150",
        "UPDATE k SET b = b || '!' WHERE a < 50",
        "BEGIN; UPDATE k SET a = -a WHERE b = 'b1'; UPDATE k SET a = -a + 3 WHERE b = 'b1'; COMMIT",
        "BEGIN; UPDATE k SET a = 1, b = 'x' WHERE a = 60; UPDATE k SET a = 2 WHERE b = 'x'; \
         UPDATE k SET a = 3 WHERE b = 'x'; \
         UPDATE k SET v = -3 WHERE b = 'x'; COMMIT",
        // Values of a secondary unique column rotate.
        "UPDATE u SET pos = pos % 50 + 1",
        "UPDATE u SET pos = CASE pos WHEN 1 THEN 2 WHEN 2 THEN 1 END WHERE pos < 3",
        "BEGIN; UPDATE u SET code = NULL WHERE id = 1; UPDATE u SET code = 'c1' WHERE id = 2; \
         UPDATE u SET code = 'c2' WHERE id = 1; COMMIT",
        "BEGIN; DELETE FROM u WHERE id = 10; \
         INSERT INTO u SELECT 99, pos, 'c10', 'new' FROM (VALUES (11)) AS x (pos); COMMIT",
        "BEGIN; UPDATE u SET code = 'tmp' WHERE id = 20; UPDATE u SET code = 'c20' WHERE id = 21; \
         UPDATE u SET id = 1020 WHERE id = 20; \
         UPDATE u SET id = 20 WHERE id = 21; UPDATE u SET code = 'c21' WHERE id = 1020; COMMIT",
    ];
    steps(&world, &mut running, all).await;
    // Once more, with the same constraints on the target, first added behind trem's back.
    world.target.exec("CREATE UNIQUE INDEX ON u (pos); CREATE UNIQUE INDEX ON u (code)").await;
    let again = &[
        all[4],
        all[5],
        &all[6].replace("c1", "d1"),
        "BEGIN; UPDATE u SET pos = pos % 50 + 1; INSERT INTO u VALUES (500, 500, 'z', 'z'); COMMIT",
        "BEGIN; DELETE FROM u WHERE id = 30; UPDATE u SET pos = 1000 WHERE id = 31; \
         UPDATE u SET id = 30 WHERE id = 32; INSERT INTO u SELECT 32, 1030, 'c30', NULL; \
         UPDATE u SET code = 'c32x' WHERE id = 30; COMMIT",
    ];
    steps(&world, &mut running, again).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_identity() {
    let (world, mut running) = follow(
        "CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, v text);
         CREATE UNIQUE INDEX by_index_i ON by_index (b, a); \
         ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_i;
         CREATE TABLE other_index (id int PRIMARY KEY, code text NOT NULL, v text);
         CREATE UNIQUE INDEX other_i ON other_index (code); \
         ALTER TABLE other_index REPLICA IDENTITY USING INDEX other_i;
         CREATE TABLE full_key (id int PRIMARY KEY, v text, big text); ALTER TABLE full_key REPLICA IDENTITY FULL;
         ALTER TABLE full_key ALTER big SET STORAGE EXTERNAL;
         CREATE TABLE bag (a int, v text, big text); ALTER TABLE bag REPLICA IDENTITY FULL;
         ALTER TABLE bag ALTER big SET STORAGE EXTERNAL;
         INSERT INTO by_index SELECT i, i % 5, 'v' FROM generate_series(1, 100) i;
         INSERT INTO other_index SELECT i, 'c' || i, 'v' FROM generate_series(1, 100) i;
         INSERT INTO full_key SELECT i, 'v', repeat('f' || i, 4000) FROM generate_series(1, 30) i;
         INSERT INTO bag SELECT i % 4, NULL, repeat('g', 3000 + i % 2) FROM generate_series(1, 40) i;",
    )
    .await;
    let all = &[
        "UPDATE by_index SET v = 'w' WHERE a < 50; UPDATE by_index SET a = a + 1000 WHERE b = 3; \
         DELETE FROM by_index WHERE b = 4",
        "UPDATE other_index SET v = 'w', id = id + 1000 WHERE id < 20; \
         UPDATE other_index SET code = code || 'x' WHERE id < 50; \
         DELETE FROM other_index WHERE id > 80",
        "UPDATE full_key SET v = v || id; UPDATE full_key SET id = id + 100 WHERE id > 20; \
         DELETE FROM full_key WHERE id < 5",
        "BEGIN; UPDATE full_key SET big = NULL WHERE id = 6; UPDATE full_key SET v = 'z' WHERE id < 9; COMMIT",
        "DELETE FROM bag WHERE ctid IN (SELECT min(ctid) FROM bag GROUP BY a, length(big))",
        "UPDATE bag SET v = 'one' WHERE ctid IN (SELECT min(ctid) FROM bag GROUP BY a)",
        "UPDATE bag SET a = NULL WHERE a = 2; INSERT INTO bag SELECT 3, 'one', NULL FROM generate_series(1, 200)",
        "BEGIN; INSERT INTO bag VALUES (77, 'a', NULL), (77, 'a', NULL); UPDATE bag SET v = 'b' WHERE a = 77; \
         DELETE FROM bag WHERE ctid IN (SELECT max(ctid) FROM bag WHERE a = 77); \
         INSERT INTO bag VALUES (77, 'b', NULL); COMMIT",
        "TRUNCATE bag; INSERT INTO bag VALUES (NULL, NULL, NULL), (NULL, NULL, NULL)",
        "DELETE FROM bag WHERE ctid IN (SELECT min(ctid) FROM bag)",
    ];
    steps(&world, &mut running, all).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables() {
    let (world, mut running) = follow(
        "CREATE TABLE p (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); \
         CREATE TABLE p_rest PARTITION OF p DEFAULT PARTITION BY RANGE (id);
         CREATE TABLE p_low PARTITION OF p_rest FOR VALUES FROM (0) TO (500);
         CREATE TABLE p_high (v text, gone int, region text NOT NULL, id int NOT NULL); ALTER TABLE p_high DROP gone;
         ALTER TABLE p_rest ATTACH PARTITION p_high FOR VALUES FROM (500) TO (100000);
         INSERT INTO p SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' || i % 3 END, \
         'v' || i FROM generate_series(1, 999) i;",
    )
    .await;
    let all = &[
        "UPDATE p SET v = 'w' WHERE id % 3 = 0",
        "UPDATE p SET region = 'moved' WHERE id % 7 = 0",
        "UPDATE p SET id = id + 600 WHERE id = 499 OR id = 401",
        "DELETE FROM p WHERE id % 11 = 0; INSERT INTO p_high (id, region, v) VALUES (90000, 'direct', 'x')",
        "CREATE TABLE p_c PARTITION OF p FOR VALUES IN ('c'); INSERT INTO p VALUES (5000, 'c', 'new partition')",
        "TRUNCATE p; INSERT INTO p VALUES (1, 'a', 'after')",
    ];
    steps(&world, &mut running, all).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_identity_and_dropped_columns() {
    let (world, mut running) = follow(
        "CREATE TABLE g (gone1 text, id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, gone2 int DEFAULT 5,
             twice int GENERATED ALWAYS AS (a * 2) STORED, b numeric(6,2) NOT NULL DEFAULT 1.5);
         INSERT INTO g (a) SELECT i FROM generate_series(1, 50) i;
         ALTER TABLE g DROP gone1, DROP gone2; INSERT INTO g (a) VALUES (-1);
         CREATE TABLE wide (id bigint PRIMARY KEY); INSERT INTO wide VALUES (1);
         CREATE TABLE only_key (a int, b int, PRIMARY KEY (a, b)); INSERT INTO only_key VALUES (1, 1);
         DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE format('ALTER TABLE wide ADD c%s int DEFAULT %s', i, i); END LOOP; \
         END $$;",
    )
    .await;
    let all = &[
        "INSERT INTO g (a) VALUES (7); UPDATE g SET a = a + 1; DELETE FROM g WHERE id < 5",
        "INSERT INTO g (id, a) OVERRIDING SYSTEM VALUE VALUES (1000, 3); UPDATE g SET id = DEFAULT WHERE id = 1000",
        "INSERT INTO wide (id, c300) VALUES (2, NULL); UPDATE wide SET c77 = -1",
        "UPDATE only_key SET a = 2; INSERT INTO only_key VALUES (1, 1), (3, 3); DELETE FROM only_key WHERE a = 3",
    ];
    steps(&world, &mut running, all).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_and_several_schemas() {
    let mut world = World::one().await;
    world.configure(|c| c.include = vec!["*.*".into()]);
    let (world, mut running) = follow_with(
        world,
        r#"CREATE SCHEMA "Weird Schema"; CREATE SCHEMA "größe.表"; CREATE SCHEMA other;
         CREATE TABLE same (id int PRIMARY KEY); CREATE TABLE other.same (id int PRIMARY KEY, v text);
         CREATE TABLE "Weird Schema"."Ta'ble ""x""" ("select" int, "A b" text, "c""d" int, "e'f\g" int, "ünï" text,
           "$1" int,
             PRIMARY KEY ("select", "A b"));
         CREATE TABLE "größe.表"."T*?" ("id" int PRIMARY KEY, "ID" int, "iD" text);
         CREATE TYPE "Weird Schema"."My Enum" AS ENUM ('A b', 'C''d');
         CREATE TABLE other."MixedCase" ("Id" int PRIMARY KEY, "E" "Weird Schema"."My Enum");
         INSERT INTO same VALUES (1); INSERT INTO other.same VALUES (1, 'x');
         INSERT INTO "Weird Schema"."Ta'ble ""x""" VALUES (1, 'k', 2, 3, 'ü', 4);
         INSERT INTO "größe.表"."T*?" VALUES (1, 2, 'x'); INSERT INTO other."MixedCase" VALUES (1, 'A b');"#,
    )
    .await;
    let all = &[
        "INSERT INTO same VALUES (2); UPDATE other.same SET v = 'y'",
        r#"UPDATE "Weird Schema"."Ta'ble ""x""" SET "c""d" = 9, "e'f\g" = NULL;
          INSERT INTO "Weird Schema"."Ta'ble ""x""" VALUES (2, '', 1, 1, 'a', 1)"#,
        r#"UPDATE "Weird Schema"."Ta'ble ""x""" SET "A b" = 'moved';
          DELETE FROM "Weird Schema"."Ta'ble ""x""" WHERE "select" = 2"#,
        r#"INSERT INTO "größe.表"."T*?" VALUES (2, 3, 'y'); UPDATE "größe.表"."T*?" SET "ID" = 0"#,
        r#"INSERT INTO other."MixedCase" VALUES (2, 'C''d'); UPDATE other."MixedCase" SET "Id" = "Id" + 10"#,
    ];
    steps(&world, &mut running, all).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_every_kind() {
    let options = PgOptions::default().conf("max_prepared_transactions=5");
    let (world, mut running) = follow_with(
        World::one_with(options).await,
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i;
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent
             DEFERRABLE INITIALLY DEFERRED); CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.x (id int PRIMARY KEY);",
    )
    .await;
    world
        .target
        .exec("CREATE SCHEMA IF NOT EXISTS elsewhere; CREATE TABLE IF NOT EXISTS elsewhere.x (id int PRIMARY KEY)")
        .await;
    let all = &[
        "BEGIN; SELECT txid_current(); COMMIT; BEGIN; COMMIT",
        "BEGIN; INSERT INTO t VALUES (200, 1); SAVEPOINT a; INSERT INTO t VALUES (201, 1); SAVEPOINT b; \
         UPDATE t SET v = 5; \
         ROLLBACK TO b; INSERT INTO t VALUES (202, 1); RELEASE a; SAVEPOINT c; DELETE FROM t; ROLLBACK TO c; COMMIT",
        "BEGIN; DELETE FROM t; ROLLBACK",
        "BEGIN; UPDATE t SET v = 77 WHERE id < 10; PREPARE TRANSACTION 'two'",
        "INSERT INTO t VALUES (300, 1)",
        "COMMIT PREPARED 'two'",
        "BEGIN; INSERT INTO child VALUES (1, 1), (2, 2); INSERT INTO parent VALUES (1), (2); COMMIT",
        "BEGIN; DELETE FROM parent WHERE id = 2; UPDATE child SET parent = 1; COMMIT",
        "SELECT pg_logical_emit_message(true, 'p', 'hello'); SELECT pg_logical_emit_message(false, 'p', 'hello')",
        "BEGIN; INSERT INTO t SELECT i, 1 FROM generate_series(1000, 60000) i; UPDATE t SET v = v + 1; COMMIT",
        "DELETE FROM t WHERE id > 500",
    ];
    steps(&world, &mut running, all).await;
    // Two transactions that overlap: the one that began first commits last.
    let second = world.cluster.connect("shop").await;
    world.source.exec("BEGIN; UPDATE t SET v = -1 WHERE id = 1; INSERT INTO t VALUES (7000, 1)").await;
    second.exec("BEGIN; UPDATE t SET v = -2 WHERE id = 2; INSERT INTO t VALUES (7001, 1); COMMIT").await;
    world.source.exec("UPDATE t SET v = -3 WHERE id = 2; COMMIT").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// A target transaction stays open while parts of a source transaction larger than the limits arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_the_limits_is_one_transaction() {
    let mut world = World::one().await;
    world.configure(|c| c.sections = "[TASK.batch]\nmax-rows = 100\nmax-bytes = \"64KiB\"\n".into());
    let (world, mut running) = follow_with(
        world,
        "CREATE TABLE t (id int PRIMARY KEY, v int, big text); CREATE TABLE s (id int PRIMARY KEY);
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL; \
         INSERT INTO t SELECT i, 0, repeat('b', 3000) FROM generate_series(1, 500) i;",
    )
    .await;
    let sum = "SELECT count(*) || ' ' || coalesce(sum(v), 0) FROM t";
    let before = world.target.one(sum).await;
    let change = "BEGIN; UPDATE t SET v = 1; INSERT INTO t SELECT i, 1, 'x' FROM generate_series(501, 20000) i; \
                  INSERT INTO s SELECT generate_series(1, 500); UPDATE t SET id = -id, v = 2; TRUNCATE s; \
                  INSERT INTO s VALUES (7); DELETE FROM t WHERE id < -19000; COMMIT";
    world.source.exec(change).await;
    let after = world.source.one(sum).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let now = world.target.one(sum).await;
        assert!(now == before || now == after, "a part of the transaction was seen: {now}");
        assert!(std::time::Instant::now() < deadline, "the transaction did not arrive: {}", running.log_tail());
        if now == after {
            break;
        }
    }
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// SQL for each of 200 tables, their number `%s`, in one transaction.
fn each(sql: &str) -> String {
    format!("DO $$ BEGIN FOR n IN 0..199 LOOP EXECUTE format($f${sql}$f$, n); END LOOP; END $$")
}

/// Statements of many tables are on their way at the same time: what one table's meet on the target is put right, and
/// takes nothing from the others.
#[tokio::test(flavor = "multi_thread")]
async fn many_tables_of_which_some_have_other_rows() {
    let world = World::one().await;
    world.source.exec(&each("CREATE TABLE t%s (id int PRIMARY KEY, v text)")).await;
    world.source.exec(&each("INSERT INTO t%s SELECT i, 'old' FROM generate_series(1, 20) i")).await;
    world.trem.until_current().expect(0);
    let more = each(
        "INSERT INTO t%1$s SELECT max(id) + i, 'new' FROM t%1$s, generate_series(1, 5) i GROUP BY i; \
         UPDATE t%1$s SET v = v || '.' WHERE id %% 3 = 0; DELETE FROM t%1$s WHERE id IN (SELECT min(id) FROM t%1$s)",
    );
    // In the first and the last group, in two that follow one another, and beside updates that meet no row.
    let theirs: &[&[u32]] = &[&[], &[0], &[60, 65, 90], &[100, 199], &[0, 3, 60, 199], &[]];
    for (round, tables) in theirs.iter().enumerate() {
        let next = 21 + 5 * round;
        for n in *tables {
            let sql = format!(
                "INSERT INTO t{n} VALUES ({next}, 'theirs'); DELETE FROM t{n} WHERE id % 3 = 0 AND id < {next}; \
                 DELETE FROM t{0} WHERE id % 3 = 0; DELETE FROM t{0} WHERE id = {1}",
                (n + 1) % 200,
                round + 1,
            );
            world.target.exec(&sql).await;
        }
        world.source.exec(&more).await;
        let outcome = world.trem.until_current();
        outcome.expect(0);
        world.assert_equal(&["public.t%"]).await;
    }
}

/// A statement that the target refuses is one of its table, however many of others are on their way.
#[tokio::test(flavor = "multi_thread")]
async fn many_tables_of_which_one_is_not_what_it_was() {
    let (world, mut running) = follow(&each("CREATE TABLE t%s (id int PRIMARY KEY, v text)")).await;
    world.source.exec(&each("INSERT INTO t%s VALUES (1, 'old')")).await;
    world.equal(&["public.t%"], &mut running).await;
    world.target.exec("ALTER TABLE t90 RENAME v TO other").await;
    world.source.exec(&each("UPDATE t%s SET v = 'new'")).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.table_state("public.t90").await != "suspended" {
        assert!(running.ended().is_none() && std::time::Instant::now() < deadline, "{}", running.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.target.wait_for("SELECT count(*) FROM trem.table_state WHERE state <> 'ready'", "1", PATIENCE).await;
    world.target.wait_for("SELECT v FROM t199", "new", PATIENCE).await;
    let reason = world.target.one("SELECT reason FROM trem.table_state WHERE state = 'suspended'").await;
    assert!(reason.contains("column"), "{reason}");
    let outcome = running.stop(PATIENCE).expect(0);
    assert!(!outcome.stderr.contains("aborted"), "another table's error was told: {}", outcome.stderr);
}
