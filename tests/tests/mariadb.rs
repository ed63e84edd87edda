//! MariaDB to PostgreSQL, as a user would run it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{Db, MariaCluster, My, PgCluster, PgOptions, TaskConfig, Trem};

use crate::{PATIENCE, seed};

/// Two servers and the task between them.
pub struct Across {
    pub source: My,
    pub target: Db,
    pub trem: Trem,
    pub config: TaskConfig,
    pub maria: MariaCluster,
    _postgres: PgCluster,
}

/// The tables of these patterns, of databases that are not there yet.
pub async fn across(include: &[&str]) -> Across {
    let maria = MariaCluster::start(&[]);
    let postgres = PgCluster::start(PgOptions::default());
    let source = maria.connect().await;
    let target = postgres.create_database("reports").await;
    let mut config = TaskConfig::new(maria.url(), postgres.url("reports"));
    config.include = include.iter().map(|pattern| (*pattern).to_owned()).collect();
    Across { source, target, trem: Trem::new(&config), config, maria, _postgres: postgres }
}

impl Across {
    /// The tables of database `shop`.
    async fn shop() -> Self {
        let world = across(&["shop.*"]).await;
        world.source.exec("CREATE DATABASE shop; USE shop").await;
        world
    }

    /// Fails unless these columns of a table are the same on both sides.
    async fn assert_equal(&self, table: &str, columns: &str) {
        let sql = format!("SELECT {columns} FROM shop.{table} ORDER BY {columns}");
        let (source, target) = (self.source.rows(&sql).await, self.target.rows(&sql).await);
        assert_eq!(target.len(), source.len(), "rows of {table}");
        for (target, source) in target.iter().zip(&source) {
            assert_eq!(target, source, "{table}");
        }
    }
}

const ROWS: &str = "SELECT string_agg(concat_ws(':', id, v, n), ' ' ORDER BY id) FROM shop.t";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_loaded_and_followed() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n BIGINT UNSIGNED)").await;
    world.source.exec("INSERT INTO t VALUES (1, 'a', 18446744073709551615), (2, NULL, NULL)").await;
    world.trem.command(&["check"]).expect(0).says(&["sync_binlog = 0 a crash may take back"]);
    world.trem.until_current().expect(0).says(&["rows_loaded=2"]);
    assert_eq!(world.target.one(ROWS).await, "1:a:18446744073709551615 2");
    let mut running = world.trem.start();
    running.wait_log("starting", PATIENCE).await;
    let changes = "INSERT INTO t VALUES (3, 'é', 3), (4, 'd', 4); UPDATE t SET id = 10, v = 'x' WHERE id = 1";
    world.source.exec(changes).await;
    world.source.exec("DELETE FROM t WHERE id = 2; UPDATE t SET n = 5 WHERE id = 4").await;
    world.target.wait_for(ROWS, "3:é:3 4:d:5 10:x:18446744073709551615", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
    world.source.exec("TRUNCATE t; INSERT INTO t VALUES (7, 'while it was away', 7)").await;
    world.trem.until_current().expect(0).says(&["changes=1 "]);
    assert_eq!(world.target.one(ROWS).await, "7:while it was away:7");
}

/// Changes while it loads, and kills: nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing() {
    let world = Across::shop().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    for table in ["a", "b"] {
        world.source.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(200), n INT)")).await;
        let rows = format!("INSERT INTO {table} SELECT seq, repeat('x', 100), 0 FROM shop.numbers");
        world.source.exec("CREATE TABLE IF NOT EXISTS numbers (seq INT PRIMARY KEY)").await;
        world.source.exec("INSERT IGNORE INTO numbers SELECT seq FROM seq_1_to_20000").await;
        world.source.exec(&rows).await;
    }
    for round in 0..30 {
        let running = world.trem.start();
        let until = std::time::Instant::now() + Duration::from_millis(random.random_range(0..600));
        while std::time::Instant::now() < until {
            let (id, more) = (random.random_range(1..20_000), random.random_range(20_001..40_000));
            let change = match random.random_range(0..6) {
                0 => format!("INSERT IGNORE INTO a VALUES ({more}, 'new', {round}), ({more} + 1, 'new', {round})"),
                1 => format!("UPDATE a SET n = n + 1 WHERE id BETWEEN {id} AND {id} + 20"),
                2 => format!("DELETE FROM b WHERE id BETWEEN {id} AND {id} + 3"),
                3 => format!("UPDATE IGNORE b SET id = id + 100000 WHERE id BETWEEN {id} AND {id} + 5"),
                4 => {
                    format!("BEGIN; UPDATE a SET v = 'y' WHERE id = {id}; UPDATE b SET v = 'y' WHERE id = {id}; COMMIT")
                }
                _ => format!("BEGIN; UPDATE a SET v = 'never' WHERE id < {id}; ROLLBACK"),
            };
            world.source.exec(&change).await;
        }
        running.kill();
    }
    world.trem.until_current().expect(0);
    eprintln!("TREM_SEED={seed}");
    world.assert_equal("a", "id, v, n").await;
    world.assert_equal("b", "id, v, n").await;
}

/// What the server lacks is told with the statement that mends it, before anything is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_followed_is_refused() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY)").await;
    for (name, wrong, right) in [
        ("binlog_format", "STATEMENT", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_metadata", "NO_LOG", "FULL"),
    ] {
        world.source.exec(&format!("SET GLOBAL {name} = {wrong}")).await;
        let says = [format!("{name} is {wrong}"), format!("SET GLOBAL {name} = {right}")];
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        world.trem.command(&["check"]).expect(1).says(&says);
        world.trem.until_current().expect(1).says(&says);
        world.source.exec(&format!("SET GLOBAL {name} = {right}")).await;
    }
    assert_eq!(world.target.one("SELECT count(*)::text FROM pg_namespace WHERE nspname = 'trem'").await, "0");
    for (what, says) in [
        ("x INET6", "type inet6"),
        ("x VARCHAR(9) CHARACTER SET utf32", "character set utf32"),
        ("x POINT", "type point"),
    ] {
        world.source.exec(&format!("CREATE TABLE u (id INT PRIMARY KEY, {what})")).await;
        world.trem.command(&["check"]).expect(1).says(&["shop.u", says, "exclude-columns"]);
        world.source.exec("DROP TABLE u").await;
    }
    let url = world.maria.url().replace("trem:", "nobody:");
    world.trem.rewrite(&TaskConfig { source: url, ..world.config.clone() }.toml());
    world.trem.until_current().expect(1).says(&["Access denied", "GRANT"]);
}

/// An account that may not read the log is told what to grant, before anything is touched; with that it is enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_needs_no_more_than_it_is_told() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.source.exec("CREATE USER small@'%' IDENTIFIED BY 'x'; GRANT SELECT ON shop.* TO small@'%'").await;
    let (_, place) = world.maria.url().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    world.trem.rewrite(&TaskConfig { source: format!("mysql://small:x@{place}"), ..world.config.clone() }.toml());
    let grant = "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'small'@'%'";
    for some in ["SELECT ON shop.*", "BINLOG MONITOR ON *.*"] {
        world.source.exec(&format!("GRANT {some} TO small@'%'")).await;
        world.trem.command(&["check"]).expect(1).says(&["denied", grant]);
        world.trem.until_current().expect(1).says(&["denied", grant]);
        assert_eq!(world.target.one("SELECT count(*)::text FROM pg_namespace WHERE nspname = 'trem'").await, "0");
    }
    world.source.exec(grant).await;
    world.trem.command(&["check"]).expect(0);
    world.trem.until_current().expect(0);
    world.source.exec("INSERT INTO t VALUES (2)").await;
    world.trem.until_current().expect(0);
    world.assert_equal("t", "id").await;
}

/// What changes a table, and is no row, suspends it; a reload brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_is_suspended() {
    let world = Across::shop().await;
    for table in ["t", "other"] {
        world.source.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20), n INT)")).await;
    }
    world.trem.until_current().expect(0);
    let reload = || drop(world.trem.command(&["reload", "--task", "t", "--table", "shop.t"]).expect(0));
    for (change, says) in [
        ("ALTER TABLE t DROP COLUMN v, ADD COLUMN v VARCHAR(20)", "DROP COLUMN v"),
        ("RENAME TABLE t TO t2, other TO t, t2 TO other", "RENAME TABLE"),
        ("ALTER TABLE t MODIFY v VARCHAR(30); INSERT INTO t (id) VALUES (1)", "column v is not what it was"),
        ("SET SESSION binlog_format = STATEMENT; UPDATE t SET n = 7; SET SESSION binlog_format = ROW", "binlog_format"),
        (
            "SET SESSION binlog_row_image = MINIMAL; UPDATE t SET n = 8; SET SESSION binlog_row_image = FULL",
            "binlog_row_image",
        ),
    ] {
        world.source.exec("INSERT INTO other (id, v) VALUES (floor(rand() * 1e9), 'before')").await;
        world.source.exec(change).await;
        world.trem.until_current().expect(3).says(&["shop.t", says]);
        reload();
        world.source.exec("INSERT INTO t (id, v) VALUES (floor(rand() * 1e9), 'after')").await;
        let ended = world.trem.until_current();
        if change.starts_with("RENAME") {
            world.trem.command(&["reload", "--task", "t", "--table", "shop.other"]).expect(0);
            world.trem.until_current().expect(0);
        } else {
            ended.expect(0);
        }
        world.assert_equal("t", "id, v, n").await;
        world.assert_equal("other", "id, v, n").await;
    }
    world.source.exec("SET SESSION binlog_format = STATEMENT; CREATE DATABASE elsewhere").await;
    world
        .source
        .exec("CREATE TABLE elsewhere.x (id INT); INSERT INTO elsewhere.x VALUES (1); SET SESSION binlog_format = ROW")
        .await;
    world.trem.until_current().expect(0);
}

/// Columns that are added are followed, wherever they stand; where rows from before have a value in them, the table is
/// loaded again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn added_columns_are_followed() {
    let world = Across::shop().await;
    for table in ["t", "u", "w"] {
        world.source.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))")).await;
        world.source.exec(&format!("INSERT INTO {table} VALUES (1, 'a', 'b')")).await;
    }
    world.trem.until_current().expect(0);
    for (table, alters) in [
        ("t", ["ADD COLUMN middle VARCHAR(20) AFTER a", "COMMENT 'more'"]),
        ("u", ["ADD COLUMN middle VARCHAR(20) DEFAULT 'm' AFTER a", "COMMENT 'more'"]),
        // The second one is behind rows that came before it.
        ("w", ["ADD COLUMN middle VARCHAR(20) AFTER a", "ADD COLUMN z INT FIRST"]),
    ] {
        world.source.exec(&format!("INSERT INTO {table} VALUES (2, 'c', 'd')")).await;
        world.source.exec(&format!("ALTER TABLE {table} {}", alters[0])).await;
        world.source.exec(&format!("INSERT INTO {table} VALUES (3, 'e', 'f', 'g')")).await;
        world.source.exec(&format!("ALTER TABLE {table} {}", alters[1])).await;
        world.source.exec(&format!("INSERT INTO {table} (id, a) VALUES (9, 'h')")).await;
        world.source.exec(&format!("UPDATE {table} SET middle = 'i' WHERE id = 2")).await;
        world.trem.until_current().expect(0);
        world.assert_equal(table, "id, a, middle, b").await;
    }
    world.assert_equal("w", "id, z").await;
    world.source.exec("ALTER TABLE t ADD INDEX (a); CREATE TRIGGER tr AFTER INSERT ON u FOR EACH ROW SET @x = 1").await;
    world.source.exec("INSERT INTO t (id) VALUES (10); INSERT INTO u (id) VALUES (10)").await;
    world.trem.until_current().expect(0).says(&["changes=2 "]);
    world.assert_equal("t", "id, a, middle, b").await;
}

/// A table that appears while it is written to: what its load has, and what comes after, and nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_appear_are_taken_up() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n INT)").await;
    let mut running = world.trem.start();
    running.wait_log("the log is retained from here on", PATIENCE).await;
    for late in ["late", "later"] {
        world.source.exec(&format!("CREATE TABLE {late} (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")).await;
        let rows = format!("SELECT count(*)::text FROM shop.{late}");
        let has_rows = async || world.target.try_rows(&rows).await.is_ok_and(|rows| rows[0][0].as_deref() != Some("0"));
        for n in 0.. {
            world.source.exec(&format!("INSERT INTO {late} (v) VALUES ({n}); UPDATE {late} SET v = v + 1")).await;
            if n > 20 && has_rows().await {
                break;
            }
            assert!(n < 5000, "it is never taken up");
        }
        for n in 0..30 {
            world.source.exec(&format!("INSERT INTO {late} (v) VALUES ({n}); UPDATE {late} SET v = v + 1")).await;
        }
    }
    running.stop(PATIENCE).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal("late", "id, v").await;
    world.assert_equal("later", "id, v").await;
}

/// Tables that were loaded at different places: each has its own changes from there on, from a log that begins earlier.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_two_snapshots_are_followed() {
    let world = Across::shop().await;
    for table in ["a", "b"] {
        world.source.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v INT)")).await;
        world.source.exec(&format!("INSERT INTO {table} SELECT seq, 0 FROM seq_1_to_100")).await;
    }
    let holder = world.maria.connect().await;
    holder.exec("LOCK TABLES shop.b WRITE").await;
    let running = world.trem.start();
    let done = "SELECT count(*)::text FROM trem.chunk WHERE snapshot IS NOT NULL";
    let deadline = std::time::Instant::now() + PATIENCE;
    while !world.target.try_rows(done).await.is_ok_and(|rows| rows[0][0].as_deref() == Some("1")) {
        assert!(std::time::Instant::now() < deadline, "a is never loaded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.kill();
    holder.exec("UNLOCK TABLES").await;
    for n in 0..5 {
        world
            .source
            .exec(&format!("UPDATE b SET v = v + 1 WHERE id > {n}; UPDATE a SET v = v + 1 WHERE id > {n}"))
            .await;
    }
    let mut running = world.trem.start();
    running.wait_log("table=shop.b rows=100", PATIENCE).await;
    for n in 0..5 {
        world
            .source
            .exec(&format!("UPDATE b SET v = v + 1 WHERE id > {n}; UPDATE a SET v = v + 1 WHERE id > {n}"))
            .await;
    }
    running.stop(PATIENCE).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal("a", "id, v").await;
    world.assert_equal("b", "id, v").await;
}

/// What the log does not tell of a table is refused, or told, before anybody relies on it.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_the_log_does_not_tell_of_are_refused() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE plain (id INT PRIMARY KEY)").await;
    let child = "(id INT PRIMARY KEY, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)";
    world.source.exec(&format!("CREATE TABLE c {child}; CREATE TABLE m (id INT PRIMARY KEY) ENGINE = Aria")).await;
    world.source.exec("CREATE TABLE h (id INT PRIMARY KEY) WITH SYSTEM VERSIONING").await;
    let says = [
        "ON DELETE CASCADE",
        "ALTER TABLE `shop`.`c` DROP FOREIGN KEY `fk`",
        "storage engine is Aria",
        "ALTER TABLE `shop`.`m` ENGINE = InnoDB",
        "shop.h",
        "system-versioned",
    ];
    world.trem.command(&["check"]).expect(1).says(&says);
    world.trem.until_current().expect(1).says(&["shop.c", "ON DELETE CASCADE"]);
    world.source.exec("ALTER TABLE c DROP FOREIGN KEY fk; DROP TABLE h; ALTER TABLE m ENGINE = InnoDB").await;
    world.trem.until_current().expect(0);
    // Of what is nobody's matter, and of what only looks like it, nothing stops.
    world.source.exec("CREATE DATABASE elsewhere; CREATE TABLE elsewhere.z (id INT, v VARCHAR(99) COMPRESSED)").await;
    world.source.exec("INSERT INTO elsewhere.z VALUES (1, 'x'); CREATE TABLE elsewhere.p AS SELECT * FROM p").await;
    world.source.exec("INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1)").await;
    world.trem.until_current().expect(0);
    world.assert_equal("c", "id, p").await;
}

/// A server that goes away and comes back is followed on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_followed_on() {
    let mut world = Across::shop().await;
    world
        .source
        .exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n INT); INSERT INTO t VALUES (1, 'a', 1)")
        .await;
    let running = world.trem.start();
    world.target.wait_for("SELECT to_regclass('shop.t') IS NOT NULL", "t", PATIENCE).await;
    world.target.wait_for(ROWS, "1:a:1", PATIENCE).await;
    for (round, in_order) in [true, false].into_iter().enumerate() {
        world.maria.down(in_order);
        world.maria.up();
        world.source = world.maria.connect().await;
        world
            .source
            .exec(&format!("USE shop; UPDATE t SET n = n + 1; INSERT INTO t VALUES ({round} + 5, 'b', 1)"))
            .await;
    }
    world.target.wait_for(ROWS, "1:a:3 5:b:2 6:b:1", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}

/// A log that the server compresses says the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_log_is_read() {
    let world = Across::shop().await;
    world.source.exec("SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10").await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v TEXT, n INT); CREATE TABLE u LIKE t").await;
    world.trem.until_current().expect(0);
    let source = world.maria.connect().await;
    source.exec("USE shop; INSERT INTO t SELECT seq, repeat('x', seq), 0 FROM seq_1_to_1000").await;
    source.exec("UPDATE t SET v = repeat('y', 3000) WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0").await;
    source.exec("INSERT INTO u SELECT * FROM t; TRUNCATE /* a statement that is long enough */ u").await;
    source.exec("INSERT INTO u VALUES (1, 'z', 1)").await;
    world.trem.until_current().expect(0);
    world.assert_equal("t", "id, v, n").await;
    world.assert_equal("u", "id, v, n").await;
}

/// A table that is left while a statement changes it and another one takes nothing of the other one along.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_table_takes_no_other_along() {
    let world = Across::shop().await;
    for table in ["a", "b"] {
        world.source.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20))")).await;
        world.source.exec(&format!("INSERT INTO {table} VALUES (1, 'x'), (2, 'x')")).await;
    }
    world.trem.until_current().expect(0);
    world.source.exec("ALTER TABLE b MODIFY v VARCHAR(30)").await;
    world.source.exec("UPDATE a JOIN b USING (id) SET a.v = 'y', b.v = 'y'").await;
    world.trem.until_current().expect(3).says(&["shop.b", "column v is not what it was"]);
    world.assert_equal("a", "id, v").await;
}

/// Labels that are others since a statement that no row has followed: known before the next one is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_while_it_was_away_is_found() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a', 'b')); INSERT INTO t VALUES (1, 'a')").await;
    world.trem.until_current().expect(0);
    world.source.exec("ALTER TABLE t MODIFY e ENUM('b', 'a', 'c')").await;
    // The log is followed past it, and no row of the table comes.
    world.trem.until_current();
    world.source.exec("INSERT INTO t VALUES (2, 'a')").await;
    world.trem.until_current().expect(3).says(&["shop.t", "column e is not what it was"]);
    world.trem.command(&["reload", "--task", "t", "--table", "shop.t"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal("t", "id, e").await;
}

/// A log that does not reach back, or another server's, is told; nothing is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_told() {
    let world = Across::shop().await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n INT)").await;
    world.trem.until_current().expect(0);
    world.source.exec("INSERT INTO t VALUES (1, 'lost', 1); FLUSH BINARY LOGS; INSERT INTO t VALUES (2, 'x', 2)").await;
    world.source.exec("FLUSH BINARY LOGS").await;
    // What is still being read is kept.
    while world.source.rows("SHOW BINARY LOGS").await.len() > 1 {
        world.source.exec("PURGE BINARY LOGS TO 'binlog.000003'").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.trem.until_current().expect(1).says(&["ould not find", "trem drop"]);
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    world.target.exec("DROP SCHEMA shop CASCADE").await;
    world.trem.until_current().expect(0);
    world.assert_equal("t", "id, v, n").await;
}
