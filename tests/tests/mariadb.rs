//! MariaDB to PostgreSQL, as a user would run it.

use trem_tests::{Db, MariaCluster, My, PgCluster, PgOptions, TaskConfig, Trem};

use crate::PATIENCE;

/// Two servers and the task between them.
pub struct Across {
    pub source: My,
    pub target: Db,
    pub trem: Trem,
    _maria: MariaCluster,
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
    Across { source, target, trem: Trem::new(&config), _maria: maria, _postgres: postgres }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_loaded_and_followed() {
    let world = across(&["shop.*"]).await;
    world.source.exec("CREATE DATABASE shop; USE shop").await;
    world.source.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n BIGINT UNSIGNED)").await;
    world.source.exec("INSERT INTO t VALUES (1, 'a', 18446744073709551615), (2, NULL, NULL)").await;
    world.trem.until_current().expect(0).says(&["rows_loaded=2"]);
    let rows = "SELECT string_agg(concat_ws(':', id, v, n), ' ' ORDER BY id) FROM shop.t";
    assert_eq!(world.target.one(rows).await, "1:a:18446744073709551615 2");
    let mut running = world.trem.start();
    running.wait_log("starting", PATIENCE).await;
    world
        .source
        .exec("INSERT INTO t VALUES (3, 'é', 3), (4, 'd', 4); UPDATE t SET id = 10, v = 'x' WHERE id = 1")
        .await;
    world.source.exec("DELETE FROM t WHERE id = 2; UPDATE t SET n = 5 WHERE id = 4").await;
    world.target.wait_for(rows, "3:é:3 4:d:5 10:x:18446744073709551615", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
    world.source.exec("TRUNCATE t; INSERT INTO t VALUES (7, 'while it was away', 7)").await;
    world.trem.until_current().expect(0).says(&["changes=1 "]);
    assert_eq!(world.target.one(rows).await, "7:while it was away:7");
}
