//! Connections: TLS in its five modes, SCRAM with and without channel binding, MD5; secrets stay secret.

use trem_tests::{Auth, PgOptions, World};

use crate::PATIENCE;

fn secured() -> PgOptions {
    PgOptions { auth: Auth::Scram, tls: true, tls_only: true, ..PgOptions::default() }
}

/// Sets the TLS mode of both endpoints.
fn use_tls(world: &mut World, source: &str, target: &str) {
    let (there, here) = (world.cluster.url("shop"), world.cluster.url("reports"));
    world.configure(|c| {
        c.source = format!("{there}?{source}");
        c.target = format!("{here}?{target}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_modes() {
    let mut world = World::one_with(secured()).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let ca = world.cluster.path().join("ca.crt").display().to_string();
    let other = world.cluster.path().join("other-ca.crt").display().to_string();
    for mode in ["sslmode=prefer".to_owned(), "sslmode=require".into(), format!("sslmode=verify-ca&sslrootcert={ca}")] {
        use_tls(&mut world, &mode, &mode);
        world.trem.command(&["check"]).expect(0);
    }
    // The server takes no connection without TLS.
    use_tls(&mut world, "sslmode=disable", "sslmode=require");
    world.trem.command(&["check"]).expect(1).says(&["no encryption", "sslmode"]);
    for bad in [format!("sslmode=verify-ca&sslrootcert={other}"), "sslmode=verify-full".into()] {
        use_tls(&mut world, &bad, "sslmode=require");
        world.trem.command(&["check"]).expect(1).says(&["certificate"]);
        use_tls(&mut world, "sslmode=require", &bad);
        world.trem.command(&["check"]).expect(1).says(&["certificate"]);
    }
    let full = format!("sslmode=verify-full&sslrootcert={ca}");
    use_tls(&mut world, &full, &full);
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO t VALUES (2)").await;
    world.equal(&["public.t"], &mut running).await;
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE application_name LIKE 'trem t%' AND application_name <> 'trem tests' AND NOT ssl";
    assert_eq!(world.source.one(plain).await, "0", "every connection of trem is encrypted");
    running.stop(PATIENCE).expect(0);
    // The certificate is for 127.0.0.1 and for no other name.
    let by_name = |url: &str| url.replace("127.0.0.1", "localhost");
    let (source, target) = (by_name(&world.config.source), world.config.target.clone());
    world.configure(|c| (c.source, c.target) = (source, target));
    world.trem.command(&["check"]).expect(1).says(&["certificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls() {
    let mut world = World::one_with(PgOptions { auth: Auth::Md5, ..PgOptions::default() }).await;
    let stored = "SELECT left(rolpassword, 3) FROM pg_authid WHERE rolname = 'postgres'";
    assert_eq!(world.source.one(stored).await, "md5");
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    use_tls(&mut world, "sslmode=require", "sslmode=prefer");
    world.trem.command(&["check"]).expect(1).says(&["TLS", "sslmode"]);
    use_tls(&mut world, "sslmode=prefer", "sslmode=disable");
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_named_and_passwords_are_not() {
    let mut world = World::one_with(PgOptions { auth: Auth::Scram, ..PgOptions::default() }).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    let right = world.cluster.url("shop");
    let port = world.cluster.port();
    let cases: &[(&str, String, &[&str])] = &[
        ("password", format!("postgres://postgres:hunter2@127.0.0.1:{port}/shop"), &["password"]),
        ("role", format!("postgres://nobody9:hunter2@127.0.0.1:{port}/shop"), &["nobody9"]),
        ("database", right.replace("/shop", "/nothere"), &["nothere"]),
    ];
    for (what, url, says) in cases {
        for command in ["check", "plan", "run", "status"] {
            world.configure(|c| c.source = url.clone());
            let outcome = world.trem.command(&[command]);
            let all = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(
                !all.contains("hunter2") && !all.contains("s3cret"),
                "{what}, {command}: a password is shown:\n{all}"
            );
            if command != "status" {
                outcome.expect(1).says(says);
            }
        }
    }
}

/// What an ordinary role lacks is said before anything is created, with the statement that gives it.
#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges() {
    let mut world = World::one().await;
    world
        .source
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE plain LOGIN; GRANT USAGE ON SCHEMA public TO plain;
             CREATE ROLE reader LOGIN REPLICATION",
        )
        .await;
    let url = |role: &str, database: &str| format!("postgres://{role}@127.0.0.1:{}/{database}", world.cluster.port());
    let (plain, reader, no_target) = (url("plain", "shop"), url("reader", "shop"), url("plain", "reports"));
    let right = (world.config.source.clone(), world.config.target.clone());
    world.configure(|c| c.source = plain);
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["REPLICATION", "ALTER ROLE"]);
    }
    world.configure(|c| c.source = reader);
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["public.t", "GRANT SELECT"]);
    }
    world.configure(|c| (c.source, c.target) = (right.0, no_target));
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["CREATE", "GRANT"]);
    }
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
}

/// As with libpq: where the server takes the role in by plain connections only, `prefer` does not insist on TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_use_tls() {
    let mut world = World::one_with(PgOptions { tls: true, ..PgOptions::default() }).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let hba = "local all all trust\nhostnossl all all 127.0.0.1/32 trust\n";
    std::fs::write(world.cluster.path().join("data/pg_hba.conf"), hba).unwrap();
    world.source.exec("SELECT pg_reload_conf()").await;
    use_tls(&mut world, "sslmode=require", "sslmode=prefer");
    world.trem.command(&["check"]).expect(1).says(&["pg_hba.conf", "sslmode"]);
    use_tls(&mut world, "sslmode=prefer", "sslmode=prefer");
    world.trem.command(&["check"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}
