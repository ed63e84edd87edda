//! Target tables that are there already: fitted by column name, refused where they cannot fit, and the four ways
//! of treating their rows.

use trem_tests::World;

use crate::PATIENCE;

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, n int);
                     INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 100) i;";

async fn world(on_existing: Option<&str>, target: &str) -> World {
    let mut world = World::one().await;
    world.source.exec(SETUP).await;
    world.target.exec(target).await;
    if let Some(value) = on_existing {
        world.configure(|c| c.keys.push(format!("on-existing = {value:?}")));
    }
    world
}

/// Same name, other order, more columns, wider types, a constraint and a trigger.
const FITTING: &str = "CREATE TABLE t (extra text DEFAULT 'mine', n bigint, id bigint PRIMARY KEY, v varchar NOT NULL,
     CONSTRAINT fk CHECK (n < 1000000));
     CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;
     CREATE TRIGGER boom BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION boom();
     ALTER TABLE t DISABLE TRIGGER boom;
     INSERT INTO t VALUES ('kept', -1, 50, 'old'), ('kept', -1, 5000, 'old'); ALTER TABLE t ENABLE TRIGGER boom;";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_kept() {
    let world = world(Some("keep"), FITTING).await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, "101");
    assert_eq!(
        world.target.one("SELECT v || extra FROM t WHERE id = 50").await,
        "v50kept",
        "replaced by key, not dropped"
    );
    assert_eq!(world.target.one("SELECT v FROM t WHERE id = 5000").await, "old");
    let mut running = world.trem.start();
    // The target's own columns keep their values, whatever way a row takes.
    world
        .source
        .exec(
            "UPDATE t SET v = 'u' WHERE id = 50; UPDATE t SET id = 950 WHERE id = 50; \
             INSERT INTO t VALUES (5000, 'mine', 1);
             BEGIN; UPDATE t SET id = -id WHERE id IN (1, 2); UPDATE t SET id = 3 + id WHERE id < 0; COMMIT",
        )
        .await;
    world.equal(&["public.t"], &mut running).await;
    assert_eq!(world.target.one("SELECT extra FROM t WHERE id = 950").await, "kept");
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_truncated() {
    let world = world(Some("truncate"), FITTING).await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
    assert_eq!(world.target.one("SELECT DISTINCT extra FROM t").await, "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_recreated() {
    let world = world(Some("recreate"), "CREATE TABLE t (whatever xml); INSERT INTO t VALUES ('')").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_refused_unless_asked_for() {
    let world = world(None, FITTING).await;
    let outcome = world.trem.spawn(&["run"], &[]).wait(PATIENCE);
    outcome.expect(1).says(&["public.t", "on-existing"]);
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, "2", "nothing was touched");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
    // An empty table is fine.
    world.target.exec("ALTER TABLE t DISABLE TRIGGER boom; DELETE FROM t").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_fit_is_refused_before_anything_is_created() {
    let cases: &[(&str, &[&str])] = &[
        ("CREATE TABLE t (id int PRIMARY KEY, v text)", &["public.t", "n"]),
        ("CREATE TABLE t (id int PRIMARY KEY, v text, n uuid)", &["public.t", "n", "uuid"]),
        ("CREATE TABLE t (id smallint PRIMARY KEY, v text, n int)", &["public.t", "id", "smallint"]),
        ("CREATE TABLE t (id int PRIMARY KEY, v text, n int, must int NOT NULL)", &["public.t", "must"]),
        ("CREATE TABLE t (id int, v text, n int)", &["public.t", "unique"]),
        ("CREATE VIEW t AS SELECT 1 AS id, '' AS v, 1 AS n", &["public.t", "view"]),
    ];
    let mut world = World::one().await;
    world.source.exec(SETUP).await;
    for (n, (ddl, says)) in cases.iter().enumerate() {
        let name = format!("reports{n}");
        let target = world.cluster.create_database(&name).await;
        target.exec(ddl).await;
        let url = world.cluster.url(&name);
        world.configure(|c| c.target = url);
        world.trem.spawn(&["run"], &[]).wait(PATIENCE).expect(1).says(says);
        world.trem.command(&["plan"]).says(says);
        let left = "SELECT count(*) FROM pg_replication_slots";
        assert_eq!(world.source.one(left).await, "0", "{ddl}: a slot was created");
        assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0", "{ddl}");
    }
}

/// Changes only: the rows that exist are taken to be on the target.
#[tokio::test(flavor = "multi_thread")]
async fn changes_only() {
    let mut world = world(Some("keep"), SETUP).await;
    world.configure(|c| c.keys.push("mode = \"cdc\"".into()));
    let mut running = world.trem.start();
    world.source.wait_for("SELECT active FROM pg_replication_slots", "t", PATIENCE).await;
    world
        .source
        .exec("UPDATE t SET v = 'x' WHERE id < 10; DELETE FROM t WHERE id > 90; INSERT INTO t VALUES (500, '', 1)")
        .await;
    world.equal(&["public.t"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
