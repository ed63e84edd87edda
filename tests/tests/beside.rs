//! Tables that are new, or asked to be loaded again, are loaded beside the running stream and meet it: the process goes
//! on, and the changes of the other tables are not held back.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use trem_tests::{Db, Running, World};

use crate::PATIENCE;

/// Small chunks, one at a time.
const SLOW: &str = "[TASK.load]\nworkers = 1\nchunk-bytes = \"32KiB\"\nresume-above-bytes = \"1MiB\"\n";

const TABLES: &str = "
    CREATE TABLE a (id int PRIMARY KEY, n int, doc text); ALTER TABLE a ALTER doc SET STORAGE EXTERNAL;
    CREATE TABLE bag (k int, v int); ALTER TABLE bag REPLICA IDENTITY FULL;
    INSERT INTO a SELECT i, 0, repeat(md5(i::text), 80) FROM generate_series(1, 2000) i;
    INSERT INTO bag SELECT i % 50, i / 50 FROM generate_series(1, 1000) i; ANALYZE";

/// Changes of both tables, one small transaction after the other, until `stop` says so; returns how many.
async fn keep_changing(db: Db, stop: watch::Receiver<bool>) -> u32 {
    let mut n = 0;
    while !*stop.borrow() {
        n += 1;
        let (id, new) = (n * 37 % 2000, 10_000 + n);
        // New, changed, moved with a large value that the log leaves out, gone, and equal rows without a key.
        db.exec(&format!(
            "BEGIN; INSERT INTO a VALUES ({new}, {n}, repeat('n', 3000)); UPDATE a SET n = {n} WHERE id = {id};
             UPDATE a SET id = -{new} WHERE id = {id} + 1; DELETE FROM a WHERE id = {new} - 30;
             INSERT INTO bag VALUES ({n} % 50, 1), ({n} % 50, 1);
             UPDATE bag SET v = v + 1 WHERE ctid = (SELECT min(ctid) FROM bag WHERE k = {n} % 50);
             DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE k = ({n} + 7) % 50 LIMIT 2); COMMIT"
        ))
        .await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    n
}

/// Asks for a reload by a process of its own and waits until the running one has taken it up and is done.
async fn reload(world: &World, table: &str, running: &mut Running) {
    let loads = || async { loads_of(world, table).await };
    let before = loads().await;
    world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
    let deadline = Instant::now() + PATIENCE;
    while loads().await == before || world.table_state(table).await != "ready" {
        assert!(running.ended().is_none(), "the process ended: {}", running.log_tail());
        assert!(Instant::now() < deadline, "{table} is not loaded again: {}", running.log_tail());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// What differs between one load of a table and the next: the places its chunks were read at.
async fn loads_of(world: &World, table: &str) -> String {
    let sql = format!(
        "SELECT string_agg(snapshot, ' ' ORDER BY id) FROM trem.chunk \
         WHERE schema_name || '.' || table_name = '{table}'"
    );
    world.target.one(&sql).await
}

/// Ten times, alternating between a table with a key and one without, under changes all the while.
async fn reloaded_ten_times(world: World, compared: &[&str]) {
    world.source.exec(TABLES).await;
    let mut running = world.trem.start();
    for table in ["public.a", "public.bag"] {
        let deadline = Instant::now() + PATIENCE;
        while world.table_state(table).await != "ready" {
            assert!(Instant::now() < deadline, "never ready: {}", running.log_tail());
        }
    }
    if world.target.one("SELECT to_regclass('dw.first') IS NOT NULL").await == "t" {
        world.target.exec("CREATE VIEW a AS SELECT no AS id, n, doc FROM dw.first").await;
        world.target.exec("CREATE VIEW bag AS SELECT k, v FROM dw.bag").await;
    }
    let (stop, stopped) = watch::channel(false);
    let changing = tokio::spawn(keep_changing(world.cluster.connect("shop").await, stopped));
    for n in 0..10 {
        let table = if n % 2 == 0 { "public.a" } else { "public.bag" };
        reload(&world, table, &mut running).await;
    }
    stop.send(true).unwrap();
    let changes = changing.await.unwrap();
    assert!(changes > 50, "only {changes} transactions went on beside ten loads");
    world.equal(compared, &mut running).await;
    assert_eq!(world.target.number("SELECT count(*) FROM trem.request").await, 0);
    assert_eq!(world.target.number("SELECT epoch FROM trem.task").await, 1, "one process all the while");
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_while_changes_go_on() {
    reloaded_ten_times(World::one().await, &["public.a", "public.bag"]).await;
}

/// The same where the target has other names: the views there are called as at the source.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_of_renamed_tables_while_changes_go_on() {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = "[[TASK.rules]]\nmatch = \"public.*\"\naction = \"rename-schema\"\nto = \"dw\"\n\
                      [[TASK.rules]]\nmatch = \"dw.a\"\naction = \"rename-table\"\nto = \"first\"\n\
                      [[TASK.rules]]\nmatch = \"dw.first\"\naction = \"rename-column\"\ncolumn = \"id\"\nto = \"no\"\n"
            .to_owned();
    });
    reloaded_ten_times(world, &["public.a", "public.bag"]).await;
}

/// A table appears with rows and changes from its first moment on: a partitioned one and one without a key too.
#[tokio::test(flavor = "multi_thread")]
async fn new_tables_are_taken_up_while_changes_go_on() {
    let world = World::one().await;
    world.source.exec(TABLES).await;
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    let (stop, stopped) = watch::channel(false);
    let changing = tokio::spawn(keep_changing(world.cluster.connect("shop").await, stopped));
    let late = "
        BEGIN; CREATE TABLE late_NUMBER (id int PRIMARY KEY, v int, doc text);
        ALTER TABLE late_NUMBER ALTER doc SET STORAGE EXTERNAL;
        INSERT INTO late_NUMBER SELECT i, i, repeat(md5(i::text), 80) FROM generate_series(1, 500) i; COMMIT;
        CREATE TABLE late_bag_NUMBER (k int, v int); ALTER TABLE late_bag_NUMBER REPLICA IDENTITY FULL;
        CREATE TABLE late_parts_NUMBER (id int, r int, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
        CREATE TABLE late_p1_NUMBER PARTITION OF late_parts_NUMBER FOR VALUES IN (0);
        CREATE TABLE late_p2_NUMBER PARTITION OF late_parts_NUMBER DEFAULT;";
    let change = "
        UPDATE late_NUMBER SET v = v + 1 WHERE id % 50 = ROUND; UPDATE late_NUMBER SET id = id + 1000 WHERE id = ROUND;
        DELETE FROM late_NUMBER WHERE id = ROUND + 100; INSERT INTO late_NUMBER VALUES (ROUND, -1, 'new');
        INSERT INTO late_bag_NUMBER VALUES (ROUND % 3, 1), (ROUND % 3, 1);
        DELETE FROM late_bag_NUMBER WHERE ctid = (SELECT min(ctid) FROM late_bag_NUMBER);
        INSERT INTO late_parts_NUMBER VALUES (ROUND, ROUND % 3); UPDATE late_parts_NUMBER SET r = 1 - r WHERE r < 2";
    for number in ["1", "2"] {
        world.source.exec(&late.replace("NUMBER", number)).await;
        let ready =
            format!("SELECT count(*) FROM trem.table_state WHERE table_name LIKE 'late%{number}' AND state = 'ready'");
        let (deadline, mut round) = (Instant::now() + PATIENCE, 0);
        while world.target.one(&ready).await != "3" || round < 40 {
            round += 1;
            world.source.exec(&change.replace("NUMBER", number).replace("ROUND", &round.to_string())).await;
            assert!(running.ended().is_none() && Instant::now() < deadline, "not ready: {}", running.log_tail());
            // A busy machine may write faster than a binary for tests can follow beside what it follows already.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    stop.send(true).unwrap();
    changing.await.unwrap();
    world.equal(&["public.%"], &mut running).await;
    assert_eq!(world.target.number("SELECT epoch FROM trem.task").await, 1, "one process all the while");
    running.stop(PATIENCE).expect(0);
}

/// A table that is being loaded, as `status` shows it.
async fn loading(world: &World, table: &str) -> Option<(u64, u64)> {
    let status = world.trem.command(&["status", "--json"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let table = status["tasks"][0]["tables"].as_array()?.iter().find(|t| t["name"] == table)?.clone();
    let number = |key: &str| table[key].as_u64().unwrap();
    (table["state"] == "loading").then(|| (number("chunks_done"), number("chunks")))
}

/// Waits until more than `more` chunks of the table are in, and keeps the next one from being written: until the
/// returned session ends or rolls back. Returns how many chunks are in then.
async fn hold_load(world: &World, table: &str, more: i64, running: &mut Running) -> (Db, i64) {
    let done = format!(
        "SELECT count(*) FROM trem.chunk WHERE table_name = '{table}' AND snapshot IS NOT NULL \
         AND to_regclass('{table}') IS NOT NULL"
    );
    let holder = world.target_cluster().connect("reports").await;
    let deadline = Instant::now() + PATIENCE;
    while world.target.try_rows(&done).await.is_ok_and(|r| r[0][0].as_ref().unwrap().parse::<i64>().unwrap() <= more) {
        assert!(running.ended().is_none() && Instant::now() < deadline, "no chunk is in: {}", running.log_tail());
    }
    // Granted between two chunks.
    holder.exec(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE")).await;
    let done = world.target.number(&done).await;
    (holder, done)
}

/// The changes of other tables arrive while a load is held up, and the process is killed twice in the midst of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_load_holds_nobody_back() {
    let mut world = World::one().await;
    world.configure(|c| c.sections = SLOW.to_owned());
    world.source.exec(TABLES).await;
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    world
        .source
        .exec(
            "CREATE TABLE big (id int PRIMARY KEY, n int, doc text);
             INSERT INTO big SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(1, 20000) i; ANALYZE big",
        )
        .await;
    let mut before = 0;
    for n in 1..=3 {
        let (holder, done) = hold_load(&world, "big", before, &mut running).await;
        assert!(done > before, "{done} chunks are in, and {before} before");
        before = done;
        world
            .source
            .exec(&format!(
                "UPDATE a SET n = {n}0; DELETE FROM bag WHERE k = {n}; INSERT INTO bag SELECT {n}, 7 FROM a;
                 UPDATE big SET n = n + 1 WHERE id % 10 = {n}; UPDATE big SET id = -id WHERE id % 500 = {n};
                 DELETE FROM big WHERE id % 500 = 10 + {n}; INSERT INTO big VALUES (100000 + {n}, 1, 'new')"
            ))
            .await;
        world.equal(&["public.a", "public.bag"], &mut running).await;
        let (done, all) = loading(&world, "public.big").await.expect("the load is not over");
        assert!(0 < done && done < all, "{done} of {all} chunks");
        if n < 3 {
            running.kill();
            drop(holder);
            running = world.trem.start();
        }
    }
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
