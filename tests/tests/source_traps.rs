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
