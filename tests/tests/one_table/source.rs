//! What stands against one table at the source.

use trem_tests::World;

use super::{FINE, assert_left_out};
use crate::PATIENCE;

/// A role that may replicate, and owns schema `app` and what is made here in it.
const ROLE: &str = "CREATE ROLE reader LOGIN REPLICATION; CREATE SCHEMA app AUTHORIZATION reader;
    GRANT CREATE ON DATABASE shop TO reader; ALTER DATABASE shop SET search_path = app, public; SET search_path = app";

async fn world() -> World {
    let mut world = World::two().await;
    world.configure(|c| {
        c.source = c.source.replacen("postgres://postgres:", "postgres://reader:", 1);
        c.include = vec!["app.*".to_owned(), "public.*".to_owned()];
    });
    world.source.exec(ROLE).await;
    world.source.exec("CREATE TABLE r (id int PRIMARY KEY, v text); ALTER TABLE r OWNER TO reader").await;
    world.source.exec(&format!("SET search_path = public; {FINE}; ALTER TABLE fine OWNER TO reader")).await;
    world
}

/// A table of another owner, which the role may not publish; one that it may not read; one that hides rows.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_the_role_may_not_take() {
    let world = world().await;
    let mut running = world.trem.start();
    world.equal(&["public.fine", "app.r"], &mut running).await;
    world
        .source
        .exec(
            "CREATE TABLE app.foreign_one (id int PRIMARY KEY); GRANT SELECT ON app.foreign_one TO reader;
             CREATE TABLE app.hidden (id int PRIMARY KEY); ALTER TABLE app.hidden OWNER TO reader;
             ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE SCHEMA shut; INSERT INTO fine VALUES (2, 'b'); INSERT INTO app.r VALUES (1, 'a')",
        )
        .await;
    for table in ["foreign_one", "hidden"] {
        let state = format!("SELECT state FROM trem.table_state WHERE table_name = '{table}'");
        world.target.wait_for(&state, "suspended", PATIENCE).await;
    }
    world.equal(&["public.fine", "app.r"], &mut running).await;
    let wrong: &[(&str, &[&str])] = &[
        ("app.foreign_one", &["belongs to postgres", "ALTER TABLE \"app\".\"foreign_one\" OWNER TO \"reader\""]),
        ("app.hidden", &["row-level security", "BYPASSRLS"]),
    ];
    assert_left_out(&world, wrong).await;
    running.stop(PATIENCE).expect(0);
    // The same when it starts again, and what helps helps.
    world.source.exec("INSERT INTO fine VALUES (3, 'c')").await;
    world.trem.until_current().expect(3);
    assert_left_out(&world, wrong).await;
    world.source.exec("ALTER TABLE app.foreign_one OWNER TO reader; ALTER ROLE reader BYPASSRLS").await;
    for table in ["app.foreign_one", "app.hidden"] {
        world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
    }
    world.trem.until_current().expect(0);
    world.assert_equal(&["app.%", "public.%"]).await;
}

/// A privilege taken away while its table is loaded again.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_may_not_be_read_any_more() {
    let world = world().await;
    world.source.exec("ALTER TABLE app.r OWNER TO postgres; GRANT SELECT ON app.r TO reader").await;
    world.source.exec("CREATE PUBLICATION trem_t FOR TABLE ONLY app.r WITH (publish_via_partition_root = true)").await;
    world.source.exec("ALTER PUBLICATION trem_t ADD TABLE ONLY fine").await;
    // Somebody else has published all of it: that is enough.
    world.trem.command(&["check"]).expect(0);
    world.trem.until_current().expect(0);
    world.source.exec("REVOKE SELECT ON app.r FROM reader; INSERT INTO app.r VALUES (7, 'x')").await;
    world.trem.until_current().expect(0);
    world.trem.command(&["reload", "--task", "t", "--table", "app.r"]).expect(0);
    world.source.exec("INSERT INTO fine VALUES (2, 'b')").await;
    world.trem.until_current().expect(3);
    let grant = "GRANT SELECT ON \"app\".\"r\" TO \"reader\"";
    assert_left_out(&world, &[("app.r", &["may not be read", grant])]).await;
    world.source.exec(grant).await;
    world.trem.command(&["reload", "--task", "t", "--table", "app.r"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["app.%", "public.%"]).await;
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    assert_eq!(world.source.number("SELECT count(*) FROM pg_publication").await, 1, "it is somebody else's");
}

/// A load waits for every transaction that is open: no other table does, and who is waited for is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_waits_holds_nobody_up() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    let mut running = world.trem.start();
    world.equal(&["public.fine"], &mut running).await;
    let other = world.cluster.connect("postgres").await;
    other.exec("CREATE TABLE elsewhere (i int)").await;
    let pid = other.one("SELECT pg_backend_pid()").await;
    other.exec("BEGIN; INSERT INTO elsewhere VALUES (7)").await;
    world.source.exec("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)").await;
    world.source.exec("ALTER TABLE fine ADD w int DEFAULT 5; INSERT INTO fine VALUES (2, 'b', 6)").await;
    running.wait_log("a load waits", PATIENCE).await;
    let says = [&format!("process {pid} (database postgres"), "open for", "INSERT INTO elsewhere VALUES (7)"];
    let says: Vec<&str> = says.iter().map(|s| s.as_ref()).collect();
    world.trem.command(&["status"]).expect(0).says(&says);
    world.equal(&["public.fine"], &mut running).await;
    assert_eq!(running.log().matches("taken up beside the stream").count(), 1, "it is said once");
    other.exec("COMMIT").await;
    world.equal(&["public.%"], &mut running).await;
    world.trem.command(&["status"]).expect(0).never_says("a load waits");
    running.stop(PATIENCE).expect(0);
}

/// Somebody holds the lock of a table when the task begins: the others begin without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_at_the_first_start_holds_nobody_else_up() {
    let world = World::two().await;
    world.source.exec(&format!("{FINE}; CREATE TABLE held (id int PRIMARY KEY); INSERT INTO held VALUES (1)")).await;
    let other = world.cluster.connect("shop").await;
    let pid = other.one("SELECT pg_backend_pid()").await;
    other.exec("BEGIN; LOCK TABLE held IN SHARE UPDATE EXCLUSIVE MODE").await;
    let mut running = world.trem.start();
    world.target.wait_for("SELECT count(*) FROM pg_class WHERE relname = 'fine'", "1", PATIENCE).await;
    world.equal(&["public.fine"], &mut running).await;
    running.wait_log(&format!("locked by process {pid} (database shop"), PATIENCE).await;
    world.source.exec("INSERT INTO fine VALUES (2, 'b'); INSERT INTO held VALUES (2)").await;
    world.equal(&["public.fine"], &mut running).await;
    other.exec("COMMIT").await;
    world.equal(&["public.%"], &mut running).await;
    world.source.exec("INSERT INTO held VALUES (3); DELETE FROM held WHERE id = 1").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// Somebody holds the lock of a table that is new: the others that are new do not wait for it, and who holds it is
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_holds_nobody_else_up() {
    let world = World::two().await;
    world.source.exec(FINE).await;
    let mut running = world.trem.start();
    world.equal(&["public.fine"], &mut running).await;
    let other = world.cluster.connect("shop").await;
    let pid = other.one("SELECT pg_backend_pid()").await;
    world.source.exec("CREATE TABLE held (id int PRIMARY KEY)").await;
    // As a VACUUM does: with a transaction of its own a snapshot would have to wait for it anyway.
    other.exec("BEGIN; LOCK TABLE held IN SHARE UPDATE EXCLUSIVE MODE").await;
    world.source.exec("CREATE TABLE free (id int PRIMARY KEY); INSERT INTO free VALUES (1)").await;
    world.source.exec("INSERT INTO fine VALUES (2, 'b')").await;
    world.equal(&["public.fine", "public.free"], &mut running).await;
    running.wait_log(&format!("locked by process {pid} (database shop"), PATIENCE).await;
    running.wait_log("LOCK TABLE held", PATIENCE).await;
    world.equal(&["public.fine", "public.free"], &mut running).await;
    world.source.exec("INSERT INTO free VALUES (2)").await;
    world.equal(&["public.fine", "public.free"], &mut running).await;
    other.exec("INSERT INTO held VALUES (1); COMMIT").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
