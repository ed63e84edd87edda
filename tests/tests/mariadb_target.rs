//! MariaDB and MySQL as targets, of PostgreSQL and of MariaDB.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{Db, MariaCluster, My, PgCluster, PgOptions, TaskConfig, Trem};

use crate::mariadb_types::CASES;
use crate::{PATIENCE, seed};

/// The end that is read from.
enum From {
    Pg(Db, PgCluster),
    My(My, MariaCluster),
}

impl From {
    async fn postgres() -> Self {
        let cluster = PgCluster::start(PgOptions::default());
        Self::Pg(cluster.create_database("shop").await, cluster)
    }

    async fn maria() -> Self {
        let cluster = MariaCluster::start(&[]);
        Self::My(cluster.connect().await, cluster)
    }

    fn url(&self) -> String {
        match self {
            Self::Pg(_, cluster) => cluster.url("shop"),
            Self::My(_, cluster) => cluster.url(),
        }
    }

    async fn exec(&self, sql: &str) {
        match self {
            Self::Pg(db, _) => db.exec(sql).await,
            Self::My(my, _) => my.exec(sql).await,
        }
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self {
            Self::Pg(db, _) => db.rows(sql).await,
            Self::My(my, _) => my.rows(sql).await,
        }
    }
}

struct World {
    source: From,
    target: My,
    trem: Trem,
    config: TaskConfig,
    _maria: MariaCluster,
}

/// What a target has answered is on its disk: an end has not to be waited for.
const DURABLE: &str = "--innodb-flush-log-at-trx-commit=1";

/// The tables of these patterns, to a server of MariaDB with these options.
async fn world(source: From, include: &[&str], options: &[&str]) -> World {
    world_to(MariaCluster::start(&[&[DURABLE], options].concat()), source, include).await
}

async fn world_to(maria: MariaCluster, source: From, include: &[&str]) -> World {
    let mut config = TaskConfig::new(source.url(), maria.url());
    config.include = include.iter().map(|pattern| (*pattern).to_owned()).collect();
    World { source, target: maria.connect().await, trem: Trem::new(&config), config, _maria: maria }
}

/// The schema `shop` of a source, as its sessions' own.
async fn shop(source: From, options: &[&str]) -> World {
    opened(world(source, &["shop.*"], options).await).await
}

async fn opened(world: World) -> World {
    match &world.source {
        From::Pg(db, _) => db.exec("CREATE SCHEMA shop; SET search_path = shop").await,
        From::My(my, _) => my.exec("CREATE DATABASE shop; USE shop").await,
    }
    world
}

impl World {
    /// Fails unless these columns of a table are the same on both sides.
    async fn assert_equal(&self, table: &str, columns: &str) {
        let sql = format!("SELECT {columns} FROM shop.{table} ORDER BY {columns}");
        let (source, target) = (self.source.rows(&sql).await, self.target.rows(&sql).await);
        assert_eq!(target.len(), source.len(), "rows of {table}");
        for (target, source) in target.iter().zip(&source) {
            assert_eq!(target, source, "{table}");
        }
    }

    async fn one(&self, sql: &str) -> Option<String> {
        self.target.rows(sql).await.remove(0).remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_loaded_and_followed() {
    for source in [From::postgres().await, From::maria().await] {
        let world = shop(source, &[]).await;
        world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n BIGINT)").await;
        world.source.exec("INSERT INTO t VALUES (1, 'a', 9223372036854775807), (2, NULL, NULL)").await;
        world.trem.command(&["check"]).expect(0).says(&["the server accepts writes"]);
        world.trem.command(&["plan"]).expect(0).says(&["CREATE DATABASE `shop`", "CREATE TABLE `shop`.`t`"]);
        world.trem.until_current().expect(0).says(&["rows_loaded=2"]);
        world.assert_equal("t", "id, v, n").await;
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        world.source.exec("INSERT INTO t VALUES (3, 'é''', 3), (4, 'd', 4)").await;
        world.source.exec("UPDATE t SET id = 10, v = 'x' WHERE id = 1").await;
        world.source.exec("DELETE FROM t WHERE id = 2").await;
        let deadline = Instant::now() + PATIENCE;
        while world.one("SELECT group_concat(id ORDER BY id) FROM shop.t").await.as_deref() != Some("3,4,10") {
            assert!(Instant::now() < deadline, "{:?}", world.target.rows("SELECT * FROM shop.t").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.stop(PATIENCE).expect(0);
        world.assert_equal("t", "id, v, n").await;
        world.source.exec("TRUNCATE TABLE t").await;
        world.source.exec("INSERT INTO t VALUES (7, 'while it was away', 7)").await;
        world.trem.until_current().expect(0).says(&["changes=1 "]);
        world.assert_equal("t", "id, v, n").await;
        world.trem.command(&["drop", "--task", "t"]).expect(0);
        let left = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'trem'";
        assert_eq!(world.one(left).await.as_deref(), Some("0"));
    }
}

/// Changes while it loads, and kills: nothing is lost or doubled.
async fn kills_lose_and_double_nothing(world: World) {
    let seed = seed();
    eprintln!("TREM_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let numbers = match &world.source {
        From::Pg(..) => "generate_series(1, 20000) AS seq",
        From::My(..) => "seq_1_to_20000",
    };
    for table in ["a", "b"] {
        world.source.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(200), n INT)")).await;
        let rows = format!("INSERT INTO {table} SELECT seq, repeat('x', 100), 0 FROM {numbers}");
        world.source.exec(&rows).await;
    }
    // Rows that a value beside the key tells apart, and rows that nothing does.
    world.source.exec("CREATE TABLE u (id INT PRIMARY KEY, u INT UNIQUE, v INT)").await;
    world.source.exec("INSERT INTO u VALUES (1, 10, 0), (2, 20, 0), (3, 30, 0)").await;
    world.source.exec("CREATE TABLE k (a INT, v VARCHAR(9))").await;
    if let From::Pg(db, _) = &world.source {
        db.exec("ALTER TABLE k REPLICA IDENTITY FULL").await;
    }
    for round in 0..30 {
        let running = world.trem.start();
        let until = Instant::now() + Duration::from_millis(random.random_range(0..600));
        while Instant::now() < until {
            let (id, more) = (random.random_range(1..20_000), random.random_range(20_001..i32::MAX - 1));
            let change = match random.random_range(0..8) {
                0 => format!("INSERT INTO a VALUES ({more}, 'new', {round}), ({more} + 1, 'new', {round})"),
                1 => format!("UPDATE a SET n = n + 1 WHERE id BETWEEN {id} AND {id} + 20"),
                2 => format!("DELETE FROM b WHERE id BETWEEN {id} AND {id} + 3"),
                3 => format!("UPDATE b SET id = {more} WHERE id = {id}"),
                4 => {
                    format!("BEGIN; UPDATE a SET v = 'y' WHERE id = {id}; UPDATE b SET v = 'y' WHERE id = {id}; COMMIT")
                }
                5 => format!(
                    "BEGIN; UPDATE u SET u = 99 WHERE id = 1; UPDATE u SET u = 10, v = v + {round} WHERE id = 2; \
                     UPDATE u SET u = 20 WHERE id = 1; UPDATE u SET u = 10 + id * 100; UPDATE u SET u = id * 10; COMMIT"
                ),
                6 => format!("INSERT INTO k VALUES ({id} % 7, 'k'); UPDATE k SET v = '{id}' WHERE a = {id} % 5"),
                _ => format!("BEGIN; UPDATE a SET v = 'never' WHERE id < {id}; ROLLBACK"),
            };
            // A number may be drawn twice.
            match &world.source {
                From::Pg(db, _) => drop(db.try_exec(&change).await),
                From::My(my, _) => drop(my.try_exec(&change).await),
            }
        }
        running.kill();
    }
    world.trem.until_current().expect(0);
    for (table, columns) in [("a", "id, v, n"), ("b", "id, v, n"), ("u", "id, u, v"), ("k", "a, v")] {
        world.assert_equal(table, columns).await;
    }
    assert_eq!(world.one("SELECT sum(conflicts) FROM trem.table_state").await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_on_the_way_from_postgres_lose_nothing() {
    kills_lose_and_double_nothing(shop(From::postgres().await, &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_on_the_way_from_maria_lose_nothing() {
    kills_lose_and_double_nothing(shop(From::maria().await, &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_on_the_way_from_postgres_to_mysql_lose_nothing() {
    let Some(mysql) = MariaCluster::genuine(&[DURABLE, "--local-infile=1"]) else { return };
    let world = world_to(mysql, From::postgres().await, &["shop.*"]).await;
    kills_lose_and_double_nothing(opened(world).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_on_the_way_from_maria_to_mysql_lose_nothing() {
    let Some(mysql) = MariaCluster::genuine(&[DURABLE]) else { return };
    let world = world_to(mysql, From::maria().await, &["shop.*"]).await;
    kills_lose_and_double_nothing(opened(world).await).await;
}

/// What no label of an ENUM stands for is an empty text that a strict server takes from nobody.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_no_label_are_told() {
    let world = shop(From::maria().await, &[]).await;
    world.source.exec("SET sql_mode = ''; CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a', 'b'))").await;
    world.source.exec("INSERT INTO t VALUES (1, 'b'), (2, 'none')").await;
    world.trem.until_current().expect(3).says(&["shop.t", "column 'e'"]);
}

/// Whatever the source prints the target prints, and its columns are of the same types.
async fn values_stay_what_they_are(world: World, same_types: bool) {
    world.source.exec("CREATE DATABASE changed; CREATE TABLE changed.first (id INT PRIMARY KEY)").await;
    for database in ["loaded", "changed"] {
        world.source.exec(&format!("CREATE DATABASE IF NOT EXISTS {database}; USE {database}")).await;
        // Of the ENUM with a value that is no label tells another test.
        let cases = || CASES.iter().filter(|case| case.table != "en");
        for case in cases() {
            world.source.exec(case.create).await;
        }
        if database == "changed" {
            world.trem.until_current().expect(0);
        }
        for case in cases() {
            world.source.exec(case.change).await;
        }
        world.trem.until_current().expect(0);
        for case in cases() {
            let of_columns = format!(
                "SELECT column_name, column_type, collation_name, is_nullable FROM information_schema.columns \
                 WHERE table_schema = '{database}' AND table_name = '{}' ORDER BY 1",
                case.table.replace('\'', "''")
            );
            let columns = world.source.rows(&of_columns).await;
            if same_types {
                assert_eq!(world.target.rows(&of_columns).await, columns, "{}", case.create);
            }
            let printed = |row: &Vec<Option<String>>| {
                let name = format!("`{}`", row[0].clone().unwrap().replace('`', "``"));
                match row[1].clone().unwrap() {
                    ty if ty.starts_with("float") => format!("{name} + 0e0"),
                    ty if ty.contains("char") || ty.contains("text") || ty.contains("bi") || ty.contains("blob") => {
                        format!("hex({name})")
                    }
                    _ => name,
                }
            };
            let printed = columns.iter().map(printed).collect::<Vec<_>>().join(", ");
            let table = case.table.replace('`', "``");
            let sql = format!("SELECT {printed} FROM {database}.`{table}` ORDER BY {printed}");
            assert_eq!(world.target.rows(&sql).await, world.source.rows(&sql).await, "{database}: {}", case.create);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_maria_stay_what_they_are() {
    values_stay_what_they_are(world(From::maria().await, &["loaded.*", "changed.*"], &[]).await, true).await;
}

/// Types and collations that only MariaDB has become others.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_maria_stay_what_they_are_in_mysql() {
    for local_infile in ["0", "1"] {
        let local_infile = format!("--local-infile={local_infile}");
        let Some(mysql) = MariaCluster::genuine(&[DURABLE, &local_infile]) else { return };
        let world = world_to(mysql, From::maria().await, &["loaded.*", "changed.*"]).await;
        values_stay_what_they_are(world, false).await;
    }
}

/// A value beside the key never leads to a row that is not meant.
#[tokio::test(flavor = "multi_thread")]
async fn unique_values_may_change_places() {
    for source in [From::postgres().await, From::maria().await] {
        let world = shop(source, &[]).await;
        world.source.exec("CREATE TABLE up (id INT PRIMARY KEY, u INT UNIQUE, v INT)").await;
        world.source.exec("INSERT INTO up VALUES (1,10,1),(2,20,2),(3,30,3)").await;
        world.trem.until_current().expect(0);
        world.target.exec("ALTER TABLE shop.up ADD UNIQUE KEY (u), ADD COLUMN own INT DEFAULT 5").await;
        world.target.exec("UPDATE shop.up SET own = id").await;
        for change in [
            "BEGIN; UPDATE up SET u=99 WHERE id=1; UPDATE up SET u=10 WHERE id=2; UPDATE up SET u=20 WHERE id=1; \
             COMMIT",
            "BEGIN; DELETE FROM up WHERE id=3; INSERT INTO up VALUES (4,30,4); COMMIT",
            "BEGIN; UPDATE up SET u=31 WHERE id=4; INSERT INTO up VALUES (5,30,5); COMMIT",
        ] {
            world.source.exec(change).await;
        }
        world.trem.until_current().expect(0);
        world.assert_equal("up", "id, u, v").await;
        let own = world.one("SELECT group_concat(own ORDER BY id) FROM shop.up").await;
        assert_eq!(own.as_deref(), Some("1,2,5,5"), "what only the target knows stays with its row");
        assert_eq!(world.one("SELECT sum(conflicts) FROM trem.table_state").await.as_deref(), Some("0"));
    }
}

/// What is there and does not fit is told with the statement that mends it; what fits is taken as it is.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_do_not_fit_are_refused() {
    let world = shop(From::postgres().await, &[]).await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n NUMERIC(10,2), at TIMESTAMP(3))").await;
    world.source.exec("INSERT INTO t VALUES (1, 'ab   ', 1.25, '2024-02-29 12:00:00.123')").await;
    world.target.exec("CREATE DATABASE shop").await;
    let fits = "v VARCHAR(30) COLLATE utf8mb4_nopad_bin, n DECIMAL(12,3), at DATETIME(6)";
    for (columns, rest, says) in [
        ("v VARCHAR(10), n DECIMAL(10,2), at DATETIME(3)", "", &["shop.t.v", "MODIFY `v` varchar(20)"][..]),
        ("v VARCHAR(20), n DECIMAL(10,1), at DATETIME(3)", "", &["shop.t.n", "MODIFY `n` decimal(10,2)"]),
        ("v VARCHAR(20), n DECIMAL(10,2), at DATETIME", "", &["shop.t.at", "MODIFY `at` datetime(3)"]),
        ("v VARCHAR(20), n DECIMAL(10,2) NOT NULL, at DATETIME(3)", "", &["shop.t.n", "NULL"]),
        (fits, "ENGINE = Aria", &["storage engine Aria", "ENGINE = InnoDB"]),
    ] {
        world.target.exec(&format!("CREATE TABLE shop.t (id INT PRIMARY KEY, {columns}) {rest}")).await;
        world.trem.command(&["plan"]).expect(1).says(says);
        world.trem.until_current().expect(1).says(says);
        world.target.exec("DROP TABLE shop.t").await;
    }
    world.target.exec(&format!("CREATE TABLE shop.t (id INT PRIMARY KEY, {fits})")).await;
    world.target.exec("CREATE TRIGGER shop.tr BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.v = 'x'").await;
    world.trem.until_current().expect(1).says(&["`shop`.`tr`", "DROP TRIGGER"]);
    world.target.exec("DROP TRIGGER shop.tr").await;
    world.trem.until_current().expect(0).says(&["rows_loaded=1"]);
    assert_eq!(
        world.one("SELECT concat(v, '|', n, '|', at) FROM shop.t").await.as_deref(),
        Some("ab   |1.250|2024-02-29 12:00:00.123000")
    );
    // What the server would round by itself.
    world.target.exec("ALTER TABLE shop.t MODIFY at DATETIME").await;
    world.source.exec("INSERT INTO t VALUES (2, 'b', 1, '2024-02-29 12:00:00.123')").await;
    world.trem.until_current().expect(3).says(&["shop.t.at", "MODIFY `at` datetime(3)"]);
}

/// Values that the server has nothing for suspend their table, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn values_without_a_form_are_told() {
    for (ty, value, says) in [
        ("DOUBLE PRECISION", "'NaN'", "NaN"),
        ("NUMERIC(10,2)", "'NaN'", "NaN"),
        ("DATE", "'infinity'", "infinity"),
        ("TIMESTAMP", "'0044-03-15 12:00:00 BC'", "0044-03-15 12:00:00 BC"),
    ] {
        let world = shop(From::postgres().await, &[]).await;
        world
            .source
            .exec(&format!("CREATE TABLE t (id INT PRIMARY KEY, x {ty}); CREATE TABLE o (id INT PRIMARY KEY)"))
            .await;
        world.trem.until_current().expect(0);
        world.source.exec(&format!("INSERT INTO o VALUES (1); INSERT INTO t VALUES (1, {value})")).await;
        world.trem.until_current().expect(3).says(&["shop.t", says]);
        assert_eq!(world.one("SELECT count(*) FROM shop.o").await.as_deref(), Some("1"));
    }
}

/// Names that the server keeps in lower case are found again; texts without a byte are rows too.
#[tokio::test(flavor = "multi_thread")]
async fn odd_tables_are_loaded_and_followed() {
    let world = shop(From::postgres().await, &["--lower-case-table-names=1"]).await;
    world.source.exec("CREATE TABLE \"Mixed\" (\"Id\" INT PRIMARY KEY, v TEXT); CREATE TABLE lone (v TEXT)").await;
    world.source.exec("ALTER TABLE lone REPLICA IDENTITY FULL; INSERT INTO \"Mixed\" VALUES (1, 'a')").await;
    let texts = r"('') , (NULL), ('\N'), ('NULL'), (E'a\tb'), (E'\n'), (E'\\'), (''), ('x''y'), (E'c\r')";
    world.source.exec(&format!("INSERT INTO lone VALUES {texts}")).await;
    world.trem.until_current().expect(0).says(&["rows_loaded=11"]);
    let same = async || {
        let sql = "SELECT coalesce(v, 'null') FROM shop.lone";
        let (mut source, mut target) = (world.source.rows(sql).await, world.target.rows(sql).await);
        source.sort();
        target.sort();
        assert_eq!(target, source);
    };
    same().await;
    world.source.exec(&format!("INSERT INTO lone VALUES {texts}; INSERT INTO \"Mixed\" VALUES (2, 'b')")).await;
    world.source.exec("UPDATE lone SET v = 'was empty' WHERE v = ''; DELETE FROM lone WHERE v = 'NULL'").await;
    world.source.exec("UPDATE \"Mixed\" SET v = 'c' WHERE \"Id\" = 1").await;
    world.trem.until_current().expect(0);
    same().await;
    let mixed = world.one("SELECT group_concat(concat(Id, v) ORDER BY Id) FROM shop.mixed").await;
    assert_eq!(mixed.as_deref(), Some("1c,2b"));
}

/// A server that takes no LOAD DATA is loaded by statements.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_local_infile_is_loaded() {
    let world = shop(From::maria().await, &["--local-infile=0", "--max-allowed-packet=1M"]).await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT, b VARBINARY(20))").await;
    world.source.exec("INSERT INTO t SELECT seq, repeat('ü', seq % 200), unhex(hex(seq)) FROM seq_1_to_5000").await;
    world.trem.command(&["check"]).expect(0).says(&["local_infile", "SET GLOBAL local_infile = ON"]);
    world.trem.until_current().expect(0).says(&["rows_loaded=5000"]);
    world.assert_equal("t", "id, v, b").await;
    world.source.exec("INSERT INTO t VALUES (0, repeat('x', 2000000), NULL)").await;
    world.trem.until_current().expect(3).says(&["shop.t", "max_allowed_packet"]);
}

/// Rows that are there stay, those of the source come beside them or replace them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_there_may_be_kept() {
    let mut world = shop(From::maria().await, &[]).await;
    world.config.keys.push("on-existing = \"keep\"".to_owned());
    world.trem.rewrite(&world.config.toml());
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO t VALUES (1,'a'),(2,'b')").await;
    world.target.exec("CREATE DATABASE shop").await;
    world
        .target
        .exec("CREATE TABLE shop.t (id INT PRIMARY KEY, v VARCHAR(9), own INT DEFAULT 7, UNIQUE KEY (v))")
        .await;
    world.target.exec("INSERT INTO shop.t VALUES (2,'x',1),(3,'y',2)").await;
    world.trem.until_current().expect(0);
    let rows = "SELECT group_concat(concat_ws(':', id, v, own) ORDER BY id) FROM shop.t";
    assert_eq!(world.one(rows).await.as_deref(), Some("1:a:7,2:b:1,3:y:2"));
}

/// Money moves between accounts: whoever reads the target sees all of it at any time.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_show_as_a_whole() {
    for source in [From::postgres().await, From::maria().await] {
        let world = shop(source, &[]).await;
        world
            .source
            .exec("CREATE TABLE x (id INT PRIMARY KEY, n INT); CREATE TABLE y (id INT PRIMARY KEY, n INT)")
            .await;
        for table in ["x", "y"] {
            world.source.exec(&format!("INSERT INTO {table} VALUES (1, 500), (2, 500)")).await;
        }
        world.trem.until_current().expect(0);
        let mut running = world.trem.start();
        running.wait_log("starting", PATIENCE).await;
        let total = "SELECT (SELECT sum(n) FROM shop.x) + (SELECT sum(n) FROM shop.y)";
        for round in 0..200 {
            let (a, b) = (round % 2 + 1, round / 2 % 2 + 1);
            world
                .source
                .exec(&format!(
                    "BEGIN; UPDATE x SET n = n - 3 WHERE id = {a}; UPDATE y SET n = n + 3 WHERE id = {b}; COMMIT"
                ))
                .await;
            assert_eq!(world.one(total).await.as_deref(), Some("2000"));
        }
        running.stop(PATIENCE).expect(0);
        world.trem.until_current().expect(0);
        world.assert_equal("x", "id, n").await;
        world.assert_equal("y", "id, n").await;
    }
}
