//! Connections to real servers: TLS in every mode, logins, and errors that say what to do.

use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::transport::Transport;
use trem_engine::{Class, Error};
use trem_tests::{Auth, PgCluster, PgOptions, Shutdown};

async fn in_tls(url: &str) -> Result<bool, Error> {
    let config = PgConfig::parse(url)?;
    let client = config.connect("trem test").await?;
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    let bare = Transport::open(&config).await?;
    assert_eq!(bare.peer_certificate().is_some(), row.get::<_, bool>(0));
    Ok(row.get(0))
}

#[tokio::test]
async fn tls_goes_as_far_as_asked() {
    let mut server = PgCluster::start(PgOptions { auth: Auth::Scram, tls: true, ..PgOptions::default() });
    let url = |tail: &str| format!("{}?{tail}", server.url("postgres"));
    let root = |name: &str| format!("sslrootcert={}", server.path().join(name).display());
    assert!(!in_tls(&url("sslmode=disable")).await.unwrap());
    assert!(in_tls(&url("sslmode=prefer")).await.unwrap());
    assert!(in_tls(&url("sslmode=require")).await.unwrap());
    assert!(in_tls(&url(&format!("sslmode=verify-ca&{}", root("ca.crt")))).await.unwrap());
    assert!(in_tls(&url(&format!("sslmode=verify-full&{}", root("ca.crt")))).await.unwrap());
    let by_name = |mode: &str| url(&format!("sslmode={mode}&{}", root("ca.crt"))).replace("127.0.0.1", "localhost");
    assert!(in_tls(&by_name("verify-ca")).await.unwrap());
    for bad in [
        by_name("verify-full"),
        url(&format!("sslmode=verify-ca&{}", root("other-ca.crt"))),
        url(&format!("sslmode=require&{}", root("other-ca.crt"))),
        url(&format!("sslmode=verify-full&{}", root("server.key"))),
        url("sslmode=verify-full&sslrootcert=/nowhere.crt"),
    ] {
        let e = in_tls(&bad).await.unwrap_err();
        assert_eq!(e.class(), Class::Refused, "{bad}: {e}");
        assert!(e.to_string().contains("sslrootcert") && e.advice().is_some(), "{e}");
        let bare = Transport::open(&PgConfig::parse(&bad).unwrap()).await.unwrap_err();
        assert_eq!(bare.class(), Class::Refused, "{bad}: {bare}");
    }
    let plain = url("sslmode=disable");
    server.down(Shutdown::Fast);
    let e = in_tls(&plain).await.unwrap_err();
    assert_eq!(e.class(), Class::Transient, "{e}");
    assert!(e.to_string().contains("accepts connections"), "{e}");
}

#[tokio::test]
async fn logins_that_fail_say_why() {
    let server = PgCluster::start(PgOptions { auth: Auth::Md5, ..PgOptions::default() });
    let url = server.url("postgres");
    assert!(!in_tls(&url).await.unwrap());
    assert!(!in_tls(&format!("{url}?sslmode=prefer")).await.unwrap());
    let at = format!("127.0.0.1:{}", server.port());
    for (bad, said) in [
        (format!("postgres://postgres:wrong@{at}/postgres"), "password"),
        (format!("postgres://postgres@{at}/postgres"), "password"),
        (format!("postgres://nobody-here:x@{at}/postgres"), "user or the password"),
        (server.url("no-such-database"), "no-such-database"),
        (format!("{url}?sslmode=require"), "ssl"),
    ] {
        let e = in_tls(&bad).await.unwrap_err();
        assert_eq!(e.class(), Class::Refused, "{bad}: {e}");
        assert!(e.to_string().contains(said), "{e}");
        assert!(!e.to_string().contains("s3cret") && !e.to_string().contains("wrong"), "{e}");
    }
    let unreachable = "postgres://u@no-such-host.invalid/d?connect_timeout=2";
    assert_eq!(in_tls(unreachable).await.unwrap_err().class(), Class::Transient);
}
