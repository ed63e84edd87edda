//! What a PostgreSQL source can do behind the back of a load or a stream.

use trem_tests::World;

use crate::PATIENCE;

/// Statements that rewrite a table leave nothing in it that an older snapshot can see.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_rewritten_while_it_waits_to_be_loaded() {
    for rewrite in ["ALTER TABLE late ALTER n TYPE int USING n + 1", "TRUNCATE late; INSERT INTO late VALUES (7, 7)"] {
        let mut world = World::one().await;
        world.configure(|c| {
            c.keys.push("on-existing = \"keep\"".to_owned());
            c.sections = "[TASK.load]\nworkers = 1\n".to_owned();
        });
        let early = "CREATE TABLE early (id int PRIMARY KEY)";
        world.target.exec(early).await;
        world
            .source
            .exec(&format!(
                "{early}; CREATE TABLE late (id int PRIMARY KEY, n int); INSERT INTO early VALUES (1);
                 INSERT INTO late SELECT i, i FROM generate_series(1, 1000) i"
            ))
            .await;
        // The one worker waits for this lock with the first table; no transaction number is taken, so that the
        // slot does not wait too.
        world.target.exec("BEGIN; LOCK TABLE early IN SHARE MODE").await;
        let mut running = world.trem.start();
        world.source.wait_for("SELECT count(*) FROM pg_locks WHERE NOT granted", "1", PATIENCE).await;
        world.source.exec(rewrite).await;
        world.target.exec("COMMIT").await;
        world.equal(&["public.%"], &mut running).await;
        world.source.exec("UPDATE late SET n = -n WHERE id < 10; INSERT INTO late VALUES (5000, 1)").await;
        world.equal(&["public.%"], &mut running).await;
        running.stop(PATIENCE).expect(0);
    }
}

async fn followed(tables: &str) -> World {
    let world = World::one().await;
    world.source.exec(tables).await;
    world.source.exec("CREATE TABLE bystander (id int PRIMARY KEY); INSERT INTO bystander VALUES (1)").await;
    world.trem.until_current().expect(0);
    world
}

async fn wait_state(world: &World, table: &str, state: &str) {
    let deadline = std::time::Instant::now() + PATIENCE * 2;
    while world.table_state(table).await != state {
        assert!(std::time::Instant::now() < deadline, "{table} is `{}`", world.table_state(table).await);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// A table made anew while trem is away is another table; the rest goes on, and the remedy loads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_while_trem_is_away() {
    let world = followed("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    world.source.exec("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (2, 2)").await;
    world.source.exec("INSERT INTO bystander VALUES (2)").await;
    let mut running = world.trem.start();
    wait_state(&world, "public.t", "suspended").await;
    world.equal(&["public.bystander"], &mut running).await;
    running.stop(PATIENCE).expect(0);
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// Renamed, a table is a new one that is loaded; the old one is suspended and takes none of its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_table_is_loaded_under_its_new_name() {
    let world = followed("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    let mut running = world.trem.start();
    world.source.exec("UPDATE t SET v = 2; ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (2, 2)").await;
    wait_state(&world, "public.u", "ready").await;
    wait_state(&world, "public.t", "suspended").await;
    for n in 10..20 {
        world.source.exec(&format!("INSERT INTO u VALUES ({n}, 0); UPDATE u SET v = {n} WHERE id = 1")).await;
    }
    world.equal(&["public.u", "public.bystander"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// New values that no row of the log carries: the table says so instead of keeping the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_that_the_log_does_not_have() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i; \
                  ALTER TABLE t ADD f int DEFAULT 5";
    for (rewrite, state) in [
        ("ALTER TABLE t ADD r float DEFAULT random(); ALTER TABLE t ALTER r DROP DEFAULT", "suspended"),
        ("ALTER TABLE t ALTER v TYPE int USING v + 1", "suspended"),
        ("TRUNCATE t; INSERT INTO t VALUES (3, 3)", "ready"),
        ("VACUUM FULL t", "ready"),
    ] {
        eprintln!("{rewrite}");
        let world = followed(tables).await;
        let mut running = world.trem.start();
        world.source.exec("INSERT INTO bystander VALUES (2)").await;
        world.equal(&["public.%"], &mut running).await;
        for statement in rewrite.split("; ") {
            world.source.exec(statement).await;
        }
        world.source.exec("UPDATE t SET id = id + 100 WHERE id = 3").await;
        if state == "ready" {
            // Long enough for a look at the catalogue.
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            world.source.exec("UPDATE t SET v = -v").await;
            world.equal(&["public.%"], &mut running).await;
        }
        wait_state(&world, "public.t", state).await;
        running.stop(PATIENCE).expect(0);
    }
}

/// A publication narrowed by hand loses changes as surely as one without the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_published_table_given_a_row_filter() {
    let world = followed("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    let filter = "ALTER PUBLICATION trem_t SET TABLE t WHERE (id > 5), bystander";
    world.source.exec(&format!("{filter}; INSERT INTO t VALUES (2, 2)")).await;
    world.source.exec("INSERT INTO bystander VALUES (2)").await;
    world.trem.until_current().expect(3).says(&["public.t", "row filter", "reload the table"]);
    world.assert_equal(&["public.bystander"]).await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// The stream breaks on a publication that is gone; the next attempt says what that means.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_dropped_under_the_stream() {
    let world = followed("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO t VALUES (2, 2)").await;
    world.equal(&["public.%"], &mut running).await;
    world.source.exec("DROP PUBLICATION trem_t").await;
    world.source.exec("INSERT INTO t VALUES (3, 3)").await;
    running.wait(PATIENCE).expect(1).says(&["Lineage", "publication trem_t is gone"]);
}

/// A partition has its own REPLICA IDENTITY: unchanged values that it does not log stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_partition_of_a_table_with_full_images() {
    let world = followed(
        "CREATE TABLE t (id int PRIMARY KEY, long text, v int) PARTITION BY RANGE (id);
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
         ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t1 REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'a', 1)",
    )
    .await;
    let mut running = world.trem.start();
    world
        .source
        .exec(
            "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (1000) TO (2000);
             ALTER TABLE t2 ALTER long SET STORAGE EXTERNAL;
             INSERT INTO t SELECT i, repeat('x', 5000), i FROM generate_series(1001, 1010) i",
        )
        .await;
    world.equal(&["public.t", "public.bystander"], &mut running).await;
    world
        .source
        .exec("UPDATE t SET id = id + 500, v = 0 WHERE id BETWEEN 1003 AND 1005; DELETE FROM t WHERE id = 1009")
        .await;
    world.equal(&["public.t", "public.bystander"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
