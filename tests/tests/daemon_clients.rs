//! The daemon through its own command line: tasks, endpoints, a configuration put and written back, TLS.

use std::process::Output;

use serde_json::{Value, json};
use trem_tests::World;
use trem_tests::daemon::Daemon;
use trem_tests::tls::make_certificates;

/// A client command on the daemon.
fn trem(daemon: &Daemon, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(trem_tests::binaries::trem());
    let server = format!("http://{}", daemon.address);
    command.args(args).env("TREM_SERVER", server).env("TREM_TOKEN", &daemon.token).output().expect("trem")
}

#[track_caller]
fn says(daemon: &Daemon, args: &[&str], code: i32, fragments: &[&str]) -> String {
    let output = trem(daemon, args);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for fragment in fragments {
        assert!(flat.contains(fragment), "{args:?}: `{fragment}` is not in: {said}");
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_run_from_the_command_line() {
    let world = World::two().await;
    world
        .source
        .exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9); ANALYZE t")
        .await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    says(&daemon, &["task", "ls"], 0, &["t stopped"]);
    says(&daemon, &["endpoint", "ls"], 0, &["source postgres postgres://postgres"]);
    says(&daemon, &["endpoint", "test", "target"], 0, &["answers"]);
    says(&daemon, &["endpoint", "tables", "source", "--like", "t"], 0, &["public.t 9"]);
    says(&daemon, &["task", "start", "t", "--until-current"], 0, &["task t: done"]);
    assert_eq!(world.target.number("SELECT count(*) FROM t").await, 9);
    says(&daemon, &["task", "start", "t"], 0, &[]);
    daemon.wait_state("t", "following");
    says(&daemon, &["task", "pause", "t"], 0, &["task t: paused"]);
    says(&daemon, &["task", "resume", "t"], 0, &["task t:"]);
    world.target.exec("DELETE FROM t").await;
    says(&daemon, &["task", "reload", "t", "public.t"], 0, &["public.t: it will be loaded again"]);
    world.target.wait_for("SELECT count(*)::text FROM t", "9", crate::PATIENCE).await;
    daemon.wait_status("t", "loaded table", |s| s["tables"]["ready"] == 1);
    says(&daemon, &["task", "show", "t"], 0, &["running is wanted", "public.t ready 9"]);
    let shown = says(&daemon, &["task", "show", "t", "--json"], 0, &[]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["tables"][0]["name"], &shown["status"]["name"]), (&json!("public.t"), &json!("t")));
    says(&daemon, &["task", "rm", "t"], 1, &["task t runs", "stop"]);
    says(&daemon, &["task", "stop", "t"], 0, &["task t: stopped"]);
    says(&daemon, &["task", "logs", "t"], 0, &["INFO starting"]);
    says(&daemon, &["task", "reset", "t"], 0, &[]);
    assert_eq!(world.source.number("SELECT count(*) FROM pg_replication_slots").await, 0);
    says(&daemon, &["task", "rm", "t", "--drop"], 0, &["task t: deleted"]);
    says(&daemon, &["task", "show", "t"], 1, &["there is no task t"]);
    says(
        &daemon,
        &["task", "ls", "--server", "http://127.0.0.1:1"],
        1,
        &["no answer from http://127.0.0.1:1", "trem serve"],
    );
    says(&daemon, &["completion", "bash"], 0, &["_trem"]);
    let output = std::process::Command::new(trem_tests::binaries::trem())
        .args(["task", "ls", "--server", &format!("http://{}", daemon.address)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "no token was sent");
}

/// A configuration file and a daemon become the same, in either direction.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_applied() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let daemon = Daemon::start();
    let file = world.trem.config();
    let file = file.to_str().unwrap();
    let rules =
        "[rule-sets.names]\nrules = [{ match = \"*.*\", action = \"rename-column\", column = \"v\", to = \"w\" }]\n";
    let text = world.config.toml().replace("rediscover", "rule-sets = [\"names\"]\nrediscover");
    std::fs::write(file, format!("{rules}{text}")).unwrap();
    says(
        &daemon,
        &["apply", file, "--dry-run"],
        0,
        &["endpoint source is new", "task t is new", "nothing was changed"],
    );
    assert_eq!(daemon.get("/tasks").json["total"], 0);
    says(&daemon, &["apply", file], 0, &["rule set names is new", "4 put or deleted"]);
    says(&daemon, &["apply", file], 0, &["nothing differs"]);
    std::fs::write(file, format!("{rules}{}", text.replace("\"1s\"", "\"3s\""))).unwrap();
    says(&daemon, &["apply", file], 0, &["task t changes", "/rediscover: \"1s\" -> \"3s\""]);
    let difference = daemon.get("/tasks/t/revisions/2/difference").expect(200).json;
    assert_eq!(difference["changes"], json!([{"pointer": "/rediscover", "before": "1s", "after": "3s"}]));
    let exported = says(&daemon, &["export"], 0, &[]);
    std::fs::write(file, &exported).unwrap();
    says(&daemon, &["apply", file], 0, &["nothing differs"]);
    world.trem.command(&["plan"]).expect(0).says(&["v -> w"]);
    // What is wrong stops before it, and what is loaded has to be loaded again.
    std::fs::write(file, exported.replace("\"3s\"", "\"soon\"")).unwrap();
    says(&daemon, &["apply", file], 2, &["task t:", "/rediscover: expected a duration"]);
    says(&daemon, &["task", "start", "t", "--until-current"], 0, &[]);
    std::fs::write(file, exported.replace("\"w\"", "\"x\"")).unwrap();
    says(&daemon, &["apply", file], 0, &["rule set names changes"]);
    std::fs::write(file, exported.replace("rule-sets = [\"names\"]", "")).unwrap();
    says(&daemon, &["apply", file], 0, &["public.t has to be loaded again"]);
    assert_eq!(daemon.ask("DELETE", "/api/v1/rule-sets/names", None).status, 204);
    std::fs::write(file, "").unwrap();
    says(&daemon, &["apply", file, "--prune"], 0, &["task t is deleted", "endpoint source is deleted"]);
    assert_eq!(daemon.get("/endpoints").json["endpoints"], json!([]));
}

/// A daemon that a file configures runs what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_starts_with_a_configuration() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let file = world.trem.config();
    let mut daemon = Daemon::start_with(&["--config", file.to_str().unwrap()], &[]);
    daemon.wait_state("t", "following");
    assert!(daemon.log().contains("\"subject\":\"tasks.t\""), "{}", daemon.log());
    world.target.wait_for("SELECT count(*)::text FROM t", "1", crate::PATIENCE).await;
    daemon.post("/tasks/t/stop").expect(200);
    daemon.stop();
    daemon.launch();
    assert_eq!(daemon.get("/tasks/t/status").json["state"], "stopped", "what was stopped stays so");
    daemon.stop();
    std::fs::write(&file, "[tasks.t]\nsource = \"nowhere\"").unwrap();
    let output = daemon.command(&["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// What a database has, one row of it, and tables that come and go while the task runs.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_chosen() {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE SCHEMA \"Up\"; CREATE TABLE \"Up\".a (id int PRIMARY KEY, v text NOT NULL, n numeric(9,2));
             INSERT INTO \"Up\".a VALUES (1, 'x', 1.5), (2, 'y', 2); ANALYZE;
             CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
             CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p DEFAULT",
        )
        .await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    let schemas = daemon.get("/endpoints/source/schemas").expect(200).json;
    assert_eq!(schemas["schemas"], json!([{"name": "Up", "tables": 1}, {"name": "public", "tables": 3}]));
    let tables = daemon.get("/endpoints/source/tables?schema=Up").expect(200).json;
    assert_eq!((&tables["tables"][0]["name"], &tables["tables"][0]["rows_estimated"]), (&json!("Up.a"), &json!(2)));
    let names = |query: &str| -> Vec<String> {
        let found = daemon.get(&format!("/endpoints/source/tables?{query}")).expect(200).json;
        found["tables"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("schema=public"), ["public.p", "public.t", "public.u"]);
    assert_eq!(
        (names("like=u"), names("like=%25a"), names("limit=1&offset=1")),
        (vec!["public.u".to_owned()], vec!["Up.a".to_owned()], vec!["public.p".to_owned()])
    );
    let table = daemon.get("/endpoints/source/tables/Up.a?count=true").expect(200).json;
    assert_eq!((&table["rows"], &table["primary_key"], &table["identity"]), (&json!(2), &json!(["id"]), &json!("key")));
    assert_eq!(
        table["columns"][2],
        json!({"name": "n", "type": "numeric(9,2)", "canonical": "decimal(9,2)", "nullable": true})
    );
    assert_eq!(daemon.get("/endpoints/source/tables/Up.b").status, 404);
    daemon.put("/endpoints/nothing", &json!({"kind": "null"})).expect(201);
    assert_eq!(daemon.get("/endpoints/nothing/tables").expect(409).json["code"], "conflict");
    // Come and go.
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_state("t", "following");
    let entry = json!({"include": "Up.*", "filter": "id > 1"});
    let added = daemon.ask("POST", "/api/v1/tasks/t/tables", Some(&entry)).expect(200).json;
    assert_eq!((&added["spec"]["tables"][1], &added["reload"]), (&entry, &json!([])));
    world.target.wait_for("SELECT string_agg(v, '') FROM \"Up\".a", "y", crate::PATIENCE).await;
    let row = daemon.get("/tasks/t/explain?table=Up.a&key=2").expect(200).json;
    assert_eq!((&row["source"]["v"], &row["target"]["v"]), (&json!("y"), &json!("y")), "{row}");
    assert_eq!(daemon.get("/tasks/t/explain?table=Up.a&key=1").expect(200).json["target"], Value::Null);
    daemon.ask("DELETE", "/api/v1/tasks/t/tables/public.u", None).expect(200);
    daemon.wait_status("t", "four tables less one", |s| s["tables"]["total"] == 3 && s["state"] == "following");
    let tables = daemon.get("/tasks/t/tables").json;
    assert!(tables["tables"].as_array().unwrap().iter().all(|t| t["name"] != "public.u"), "{tables}");
}

/// A certificate that is renewed is used without a restart; without one of their own, clients may be refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (at("server.crt"), at("server.key"));
    let args = ["--tls-cert", &certificate, "--tls-key", &key];
    let daemon = Daemon::start_with(&args, &[]);
    let server = format!("https://{}", daemon.address);
    let ask = |authority: &str| trem(&daemon, &["task", "ls", "--server", &server, "--ca-file", authority]);
    assert_eq!(ask(&at("ca.crt")).status.code(), Some(0), "{:?}", ask(&at("ca.crt")));
    assert_eq!(ask(&at("other-ca.crt")).status.code(), Some(1));
    let other = tempfile::tempdir().unwrap();
    make_certificates(other.path());
    for name in ["server.crt", "server.key"] {
        std::fs::copy(other.path().join(name), at(name)).unwrap();
    }
    let renewed = other.path().join("ca.crt").to_str().unwrap().to_owned();
    assert_eq!(ask(&renewed).status.code(), Some(1), "not before it is told");
    daemon.signal("HUP");
    let deadline = std::time::Instant::now() + crate::PATIENCE;
    while ask(&renewed).status.code() != Some(0) {
        assert!(std::time::Instant::now() < deadline, "{}", daemon.log());
    }
    std::fs::write(at("server.key"), "nothing").unwrap();
    daemon.signal("HUP");
    while !daemon.log().contains("certificates stay as they were") {
        assert!(std::time::Instant::now() < deadline, "{}", daemon.log());
    }
    assert_eq!(ask(&renewed).status.code(), Some(0), "what cannot be used changes nothing");
    drop(daemon);
    for name in ["server.crt", "server.key"] {
        std::fs::copy(other.path().join(name), at(name)).unwrap();
    }
    let authority = at("ca.crt");
    let args = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &authority];
    let strict = Daemon::start_with(&args, &[]);
    let server = format!("https://{}", strict.address);
    let refused = trem(&strict, &["task", "ls", "--server", &server, "--ca-file", &renewed]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
