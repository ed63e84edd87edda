//! The harness itself: what the other tests rely on.

use std::time::Duration;

use trem_tests::{Auth, Db, PgCluster, PgOptions, Proxy, Shutdown, World, differences, shop, workload};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_starts_restarts_and_is_gone() {
    let mut cluster = PgCluster::start(PgOptions::default().conf("work_mem=7MB"));
    let db = cluster.create_database("Größe").await;
    assert_eq!(db.one("SHOW work_mem").await, "7MB");
    db.exec("CREATE TABLE t AS SELECT 1 AS a").await;
    cluster.restart(Shutdown::Immediate);
    assert_eq!(cluster.connect("Größe").await.one("SELECT a FROM t").await, "1");
    let folder = cluster.path().to_owned();
    drop(cluster);
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secured_cluster_has_a_certificate() {
    let options = PgOptions { auth: Auth::Scram, tls: true, tls_only: true, ..PgOptions::default() };
    let cluster = PgCluster::start(options);
    assert_eq!(cluster.connect("postgres").await.one("SHOW ssl").await, "on");
    assert!(cluster.path().join("ca.crt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_seen_and_shown() {
    let world = World::one().await;
    let tables = ["public.%"];
    assert_eq!(differences(&world.source, &world.target, &tables).await.len(), 1, "no table at all is a difference");
    for db in [&world.source, &world.target] {
        db.exec("CREATE TABLE a (i int, t text); INSERT INTO a VALUES (1, 'x'), (1, 'x'), (NULL, '')").await;
    }
    assert!(differences(&world.source, &world.target, &tables).await.is_empty());
    world.target.exec("UPDATE a SET t = NULL WHERE i IS NULL").await;
    let found = differences(&world.source, &world.target, &tables).await;
    assert!(found[0].contains("only at the source (1x): (,\"\")"), "{found:?}");
    world.target.exec("DROP TABLE a").await;
    let found = differences(&world.source, &world.target, &tables).await;
    assert!(found[0].contains("does not exist"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_passes_holds_refuses_and_cuts() {
    let cluster = PgCluster::start(PgOptions::default());
    let proxy = Proxy::start(cluster.port()).await;
    let connect = || async {
        let url = cluster.url_at(proxy.port(), "postgres");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok::<_, tokio_postgres::Error>(client)
    };
    let client = connect().await.expect("passes");
    client.batch_execute("SELECT 1").await.expect("passes");
    proxy.hold(true);
    let held = tokio::time::timeout(Duration::from_millis(200), client.batch_execute("SELECT 1")).await;
    assert!(held.is_err(), "held");
    proxy.hold(false);
    client.batch_execute("SELECT 1").await.expect("passes again");
    proxy.refuse(true);
    assert!(connect().await.is_err(), "refused");
    proxy.refuse(false);
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(client.batch_execute("SELECT 1").await.is_err(), "cut");
    let client = connect().await.expect("new ones pass");
    proxy.cut_after(1000);
    assert!(client.simple_query("SELECT repeat('x', 5000)").await.is_err(), "cut in the middle");
}

/// Every statement of the workloads must be one that PostgreSQL accepts, whatever came before it.
#[tokio::test(flavor = "multi_thread")]
async fn the_workloads_run() {
    let cluster = PgCluster::start(PgOptions::default());
    let db: Db = cluster.create_database("w").await;
    workload::create(&db, 2000).await;
    let mut random = workload::Workload::new(7, 2000);
    for _ in 0..300 {
        db.exec(&random.transaction()).await;
    }
    shop::create(&db, 200).await;
    let mut life = shop::Life::new(7);
    for _ in 0..300 {
        life.step(&db).await;
    }
}
