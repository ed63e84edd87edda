//! Targets that keep what the source has no more, through loads, changes and kills.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::World;

use crate::{PATIENCE, conserved, seed};

const RULES: &str = r#"
[[TASK.rules]]
match = "public.soft"
action = "soft-delete"
column = "gone_at"
[[TASK.rules]]
match = "public.told"
action = "history"
prefix = "h_"
"#;

/// What the source itself writes down of every change.
const TABLES: &str = "
    CREATE TABLE soft (id int PRIMARY KEY, a int, big text, UNIQUE (a, id)); CREATE UNIQUE INDEX ON soft (a, big);
    ALTER TABLE soft ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE told (id int PRIMARY KEY, a int, v text); ALTER TABLE told REPLICA IDENTITY FULL;
    CREATE SCHEMA kept; CREATE TABLE kept.log (n serial, op text, id int, a int, v text);
    CREATE TABLE kept.ids (id int PRIMARY KEY);
    CREATE FUNCTION kept.log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'TRUNCATE' THEN INSERT INTO kept.log (op) VALUES ('truncate');
        ELSIF TG_OP = 'DELETE' THEN INSERT INTO kept.log (op, id, a, v) VALUES ('delete', OLD.id, OLD.a, OLD.v);
        ELSE INSERT INTO kept.log (op, id, a, v) VALUES (lower(TG_OP), NEW.id, NEW.a, NEW.v); END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON told FOR EACH ROW EXECUTE FUNCTION kept.log();
    CREATE TRIGGER emptied AFTER TRUNCATE ON told EXECUTE FUNCTION kept.log();
    CREATE FUNCTION kept.ids() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO kept.ids VALUES (NEW.id) ON CONFLICT DO NOTHING; RETURN NULL; END $$;
    CREATE TRIGGER ids AFTER INSERT ON soft FOR EACH ROW EXECUTE FUNCTION kept.ids()";

const LOG: &str = "SELECT op, id, a, v FROM kept.log ORDER BY n";
const TOLD: &str = "SELECT h_operation, id, a, v FROM told WHERE h_operation <> 'load' \
                    ORDER BY h_position::pg_lsn, h_sequence";

fn change(random: &mut StdRng) -> String {
    let (id, a, n) = (random.random_range(0..30), random.random_range(0..9), random.random_range(2..6));
    match random.random_range(0..12) {
        0..3 => format!("INSERT INTO soft VALUES ({id}, {a}, repeat('{id}', 2000)) ON CONFLICT DO NOTHING;"),
        3 => format!("UPDATE soft SET a = {a} WHERE id % {n} = 0 AND id < 30;"),
        4 => format!("DELETE FROM soft WHERE id % 7 = {a};"),
        5..8 => format!("INSERT INTO told VALUES ({id}, {a}, 'v{n}') ON CONFLICT DO NOTHING;"),
        8 => format!("UPDATE told SET a = {a} WHERE id % {n} = 0;"),
        9 => format!("UPDATE told SET id = id + 100 WHERE id = {id};"),
        10 => format!("DELETE FROM told WHERE id % 7 = {a};"),
        _ => ["TRUNCATE told;", ""][usize::from(a > 1)].to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_is_kept_once() {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = RULES.to_owned();
        c.keys.push("after-load = \"indexes-and-constraints\"".to_owned());
    });
    world.source.exec(TABLES).await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    world.source.exec("INSERT INTO told VALUES (1, 1, 'loaded'); INSERT INTO soft VALUES (1, 1, 'x')").await;
    world.trem.until_current().expect(0);
    world.source.exec("TRUNCATE kept.log").await;
    assert_eq!(world.target.one("SELECT h_operation || id FROM told").await, "load1");
    for round in 0..5 {
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        for _ in 0..40 {
            let sql: String = (0..random.random_range(1..4)).map(|_| change(&mut random)).collect();
            if world.source.try_exec(&format!("BEGIN; {sql} COMMIT")).await.is_err() {
                world.source.exec("ROLLBACK").await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        if round % 2 == 0 {
            running.kill();
        } else {
            running.stop(PATIENCE).expect(0);
        }
        world.trem.until_current().expect(0);
        let (told, log) = (world.target.rows(TOLD).await, world.source.rows(LOG).await);
        assert_eq!(told, log, "TREM_SEED={seed} round {round}");
        let rows = "SELECT id, a, md5(big) FROM soft";
        let there = world.target.rows(&format!("{rows} WHERE gone_at IS NULL ORDER BY 1")).await;
        assert_eq!(there, world.source.rows(&format!("{rows} ORDER BY 1")).await, "TREM_SEED={seed} round {round}");
        let all = world.target.rows("SELECT id FROM soft ORDER BY 1").await;
        assert_eq!(all, world.source.rows("SELECT id FROM kept.ids ORDER BY 1").await, "TREM_SEED={seed}");
    }
    let mut changed = 0;
    for _ in 0..40 {
        changed += conserved::changed(&world, &change(&mut random)).await;
    }
    world.trem.until_current().expect(0).says(&[&format!("changes={changed} ")]);
    let times = "SELECT count(*) FROM told WHERE h_operation <> 'load' \
                 AND (h_committed_at IS NULL OR h_committed_at NOT BETWEEN now() - interval '1 hour' AND now())";
    assert_eq!(world.target.number(times).await, 0);
    world.source.exec("TRUNCATE soft").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.number("SELECT count(*) FROM soft WHERE gone_at IS NULL").await, 0);
    world.trem.command(&["status"]).expect(0).never_says("met rows");
}

const BESIDE: &str = r#"
[[TASK.rules]]
match = "public.told"
action = "history"
prefix = "h_"
beside-suffix = "_log"
[[TASK.rules]]
match = "public.told"
action = "rename-table"
to = "now"
[[TASK.rules]]
match = "public.now"
action = "rename-column"
column = "a"
to = "b"
"#;

/// The rows as they are in one table, every change of them in another.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_beside_its_table() {
    let mut world = World::one().await;
    world.configure(|c| c.sections = BESIDE.to_owned());
    world.source.exec(TABLES).await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    world.source.exec("INSERT INTO told SELECT n, n, 'loaded' FROM generate_series(1, 20) n").await;
    world.trem.command(&["plan"]).expect(0).says(&["every change is added to public.now_log", "\"h_operation\" text"]);
    world.trem.until_current().expect(0).says(&["changes=0 "]);
    world.source.exec("TRUNCATE kept.log").await;
    let log = "SELECT h_operation, id, b, v FROM now_log ORDER BY h_position::pg_lsn, h_sequence";
    assert_eq!(world.target.number("SELECT count(*) FROM now_log").await, 0);
    for round in 0..5 {
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        for step in 0..40 {
            let sql: String = (0..random.random_range(1..4)).map(|_| change(&mut random)).collect();
            if world.source.try_exec(&format!("BEGIN; {sql} COMMIT")).await.is_err() {
                world.source.exec("ROLLBACK").await;
            }
            if round == 3 && step == 20 {
                world.trem.command(&["reload", "--task", "t", "--table", "public.told"]).expect(0);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        if round % 2 == 0 {
            running.kill();
        } else {
            running.stop(PATIENCE).expect(0);
        }
        world.trem.until_current().expect(0);
        let now = world.target.rows("SELECT id, b, v FROM now ORDER BY 1").await;
        assert_eq!(now, world.source.rows("SELECT id, a, v FROM told ORDER BY 1").await, "TREM_SEED={seed}");
        // What is committed while a table is loaded again may be in the rows that are read, and is no change then.
        if round < 3 {
            let (told, kept) = (world.target.rows(log).await, world.source.rows(LOG).await);
            assert_eq!(told, kept, "TREM_SEED={seed} round {round}");
        }
    }
    let before = world.target.number("SELECT count(*) FROM now_log").await;
    world.source.exec("ALTER TABLE told ADD c int DEFAULT 7; INSERT INTO told VALUES (900, 1, 'x', 8)").await;
    world.trem.until_current().expect(0).says(&["changes=1 "]);
    assert_eq!(world.target.one("SELECT min(c) || ' ' || max(c) FROM now").await, "7 8");
    assert_eq!(
        world.target.one("SELECT count(*) - count(c) || ' ' || max(c) FROM now_log").await,
        format!("{before} 8")
    );
    world.target.exec("DROP TABLE now_log").await;
    world.source.exec("DELETE FROM told WHERE id = 900").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.target.one("SELECT h_operation || id FROM now_log").await, "delete900");
    world.target.exec("ALTER TABLE now_log ALTER v TYPE int USING NULL").await;
    world.source.exec("INSERT INTO told VALUES (901, 1, 'y', 9)").await;
    world.trem.until_current().expect(3);
    assert_eq!(world.table_state("public.told").await, "suspended");
    world.trem.command(&["status"]).says(&["public.now_log"]);
}

/// A history has a place of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_in_nobodys_way() {
    let mut world = World::one().await;
    world.configure(|c| c.sections = BESIDE.to_owned());
    world.source.exec(&format!("{TABLES}; CREATE TABLE now_log (id int PRIMARY KEY)")).await;
    let said = ["its history would be in public.now_log, where rows of public.now_log go", "beside-suffix"];
    world.trem.command(&["plan"]).expect(1).says(&said);
}

/// A key that a deleted row has had goes to another row.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_back() {
    let mut world = World::one().await;
    world.configure(|c| c.sections = RULES.to_owned());
    world
        .source
        .exec("CREATE TABLE soft (id int PRIMARY KEY, v text); INSERT INTO soft VALUES (1, 'a'), (2, 'b')")
        .await;
    world.trem.until_current().expect(0);
    let rows = "SELECT string_agg(concat_ws(' ', id, v, gone_at IS NULL), ', ' ORDER BY id) FROM soft";
    for (sql, expected) in [
        ("DELETE FROM soft WHERE id = 1", "1 a f, 2 b t"),
        ("UPDATE soft SET id = 1 WHERE id = 2", "1 b t"),
        ("BEGIN; DELETE FROM soft; INSERT INTO soft VALUES (1, 'c'), (3, 'd'); COMMIT", "1 c t, 3 d t"),
        ("BEGIN; INSERT INTO soft VALUES (4, 'e'); DELETE FROM soft WHERE id IN (3, 4); COMMIT", "1 c t, 3 d f, 4 e f"),
    ] {
        world.source.exec(sql).await;
        world.trem.until_current().expect(0);
        assert_eq!(world.target.one(rows).await, expected, "{sql}");
    }
}
