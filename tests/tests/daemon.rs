//! The daemon over HTTP: the life of a task, restarts, what is refused, who may do what.

use std::time::Duration;

use serde_json::{Value, json};
use trem_tests::daemon::{Daemon, spec};
use trem_tests::{World, assert_equal};

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 100) n";

async fn paused_and_resumed(daemon: &Daemon, world: &World) {
    assert_eq!(daemon.post("/tasks/t/pause").expect(200).json["name"], "t");
    daemon.wait_state("t", "paused");
    world.source.exec("INSERT INTO t VALUES (501, 'p')").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.target.number("SELECT count(*) FROM t WHERE id = 501").await, 0);
    daemon.post("/tasks/t/resume").expect(200);
    world.same(&["public.%"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_lives() {
    let world = World::two().await;
    world.source.exec(TABLE).await;
    let mut daemon = Daemon::start();
    daemon.put_task(&world.config);
    assert_eq!(daemon.get("/tasks/t/status").expect(200).json["state"], "stopped");
    let checked = daemon.post("/tasks/t/check").expect(200).json;
    assert_eq!(checked["ready"], true, "{checked}");
    let plan = daemon.post("/tasks/t/plan?sample=2").expect(200).json;
    assert_eq!(
        (&plan["tables"][0]["name"], plan["tables"][0]["sample"].as_array().unwrap().len()),
        (&json!("public.t"), 2)
    );
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_state("t", "following");
    world
        .source
        .exec("UPDATE t SET v = 'y' WHERE id <= 10; DELETE FROM t WHERE id > 90; INSERT INTO t VALUES (500, 'z')")
        .await;
    world.same(&["public.%"]).await;
    let status = daemon.wait_status("t", "lag of nothing", |s| s["lag_bytes"] == 0 && s["changes"] == 21);
    assert_eq!(
        (&status["rows_loaded"], &status["tables"]["ready"], &status["lag_seconds"]),
        (&json!(100), &json!(1), &json!(0.0))
    );
    let tables = daemon.get("/tasks/t/tables").expect(200).json;
    let table = &tables["tables"][0];
    assert_eq!(
        (&table["name"], &table["target"], &table["state"]),
        (&json!("public.t"), &json!("public.t"), &json!("ready"))
    );
    let counts = ["rows_loaded", "bytes_loaded", "inserted", "updated", "deleted"];
    let counts: Vec<&Value> = counts.iter().map(|key| &table[key]).collect();
    // Each row is an integer and a letter, which has an offset; there is one more of those.
    assert_eq!(counts, [100, 904, 1, 10, 10]);
    // Paused, nothing moves; resumed, it does.
    paused_and_resumed(&daemon, &world).await;
    world.source.exec("TRUNCATE t").await;
    world.source.exec("ALTER TABLE t ADD w int DEFAULT 0; INSERT INTO t VALUES (1, 'a', 2)").await;
    world.same(&["public.%"]).await;
    let table = &daemon.get("/tasks/t/tables").json["tables"][0];
    assert_eq!((&table["truncates"], &table["ddl"]), (&json!(1), &json!(1)));
    // A table is loaded again, named as at the source.
    world.target.exec("DELETE FROM t WHERE id < 50").await;
    daemon.post("/tasks/t/tables/public.t/reload").expect(200);
    world.same(&["public.%"]).await;
    assert_eq!(daemon.post("/tasks/t/tables/public.no/reload").status, 404);
    daemon.wait_status("t", "table that is ready", |s| s["tables"]["ready"] == 1);
    // A stop is a stop, also for a daemon that comes after.
    daemon.post("/tasks/t/stop").expect(200);
    assert_eq!(daemon.get("/tasks/t/status").json["state"], "stopped");
    assert_eq!(daemon.stop(), Some(0));
    daemon.launch();
    assert_eq!(daemon.get("/tasks/t/status").json["state"], "stopped");
    assert_eq!(daemon.get("/tasks/t/tables").expect(200).json["tables"][0]["state"], "ready", "read on the target");
    let runs = daemon.get("/tasks/t/runs").expect(200).json;
    assert_eq!((&runs["runs"][0]["outcome"], &runs["runs"][0]["rows_loaded"]), (&json!("stopped"), &json!(1)));
    // Gone with all that it has made.
    assert_eq!(daemon.ask("DELETE", "/api/v1/endpoints/source", None).status, 409);
    daemon.ask("DELETE", "/api/v1/tasks/t?drop=true", None).expect(204);
    assert_eq!(world.source.number("SELECT count(*) FROM pg_replication_slots").await, 0);
    assert_eq!(world.target.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, 0);
    daemon.ask("DELETE", "/api/v1/endpoints/source", None).expect(204);
    assert_eq!(daemon.get("/tasks/t").status, 404);
    assert_equal(&world.source, &world.target, &["public.%"]).await;
}

/// What runs, or is paused, does so again after each kind of end; runs and events tell of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_should_run_runs_again() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let mut daemon = Daemon::start();
    daemon.put_task(&world.config);
    daemon.post("/tasks/t/start").expect(200);
    let following = |event: &Value| event["data"]["state"] == "following";
    assert_eq!(daemon.events(0, following).last().unwrap()["data"]["run"], 1);
    daemon.kill();
    world.source.exec("INSERT INTO t VALUES (600, 'while it was dead')").await;
    daemon.launch();
    daemon.events(0, |event| following(event) && event["data"]["run"] == 2);
    world.same(&["public.%"]).await;
    daemon.post("/tasks/t/pause").expect(200);
    assert_eq!(daemon.stop(), Some(0));
    daemon.launch();
    daemon.wait_state("t", "paused");
    world.source.exec("INSERT INTO t VALUES (601, 'while it is paused')").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.target.number("SELECT count(*) FROM t WHERE id = 601").await, 0);
    daemon.post("/tasks/t/start").expect(200);
    world.same(&["public.%"]).await;
    let runs = daemon.get("/tasks/t/runs").json;
    let outcomes: Vec<&Value> = runs["runs"].as_array().unwrap().iter().map(|run| &run["outcome"]).collect();
    assert_eq!(outcomes, [&Value::Null, &json!("stopped"), &json!("cut-off")]);
    let events = daemon.events(0, |event| following(event) && event["data"]["run"] == 3);
    let ids: Vec<i64> = events.iter().map(|event| event["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>());
    assert_eq!(events.iter().filter(|event| following(event)).count(), 3, "{events:?}");
    let middle = ids[ids.len() / 2];
    assert_eq!(daemon.events(middle, |_| true)[0]["id"], middle + 1);
    let logs = daemon.get("/tasks/t/logs?limit=1000").expect(200).json;
    let said = |text: &str| logs["lines"].as_array().unwrap().iter().any(|line| line["message"] == text);
    // Of what was killed the last lines may be lost.
    assert!(said("starting") && said("told to pause or to go on") && said("stopped"), "{logs}");
}

/// What is wrong is told with its place before anything is stored, and what was changed meanwhile is not overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused() {
    let world = World::one().await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    let good = spec(&world.config);
    let with = |key: &str, value: Value| {
        let mut spec = good.clone();
        spec[key] = value;
        spec
    };
    for (body, pointer, detail) in [
        (with("mode", json!("sideways")), "/mode", "full-load-and-cdc"),
        (with("tabels", json!([])), "/tabels", "unknown key"),
        (with("source", json!("nowhere")), "/source", "no endpoint is called \"nowhere\""),
        (with("batch", json!({"max-rows": -1})), "/batch/max-rows", "whole number"),
        (with("batch", json!({"max-rows": null})), "/batch/max-rows", "null"),
        (with("tables", json!([{"include": "a.b"}, {"include": 7}])), "/tables/1/include", "pattern"),
        (
            with("rules", json!([{"match": "a.b", "action": "rename-tabel", "to": "c"}])),
            "/rules/0/action",
            "rename-table",
        ),
        (json!({}), "", "source"),
    ] {
        let answer = daemon.put("/tasks/t", &body).expect(422);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let error = &answer.json["errors"][0];
        assert_eq!(error["pointer"], pointer, "{}", answer.text);
        assert!(error["detail"].as_str().unwrap().contains(detail), "{}", answer.text);
        assert_eq!(answer.json["code"], "invalid");
    }
    assert_eq!(daemon.put("/tasks/bad%20name", &good).status, 422);
    assert_eq!(daemon.put("/tasks/T", &good).expect(422).json["errors"][0]["pointer"], "", "it would share the slot");
    assert_eq!(daemon.get("/tasks/t/revisions").json["revisions"].as_array().unwrap().len(), 1, "nothing was stored");
    assert_eq!(
        daemon.put("/endpoints/e", &json!({"kind": "oracle"})).expect(422).json["errors"][0]["pointer"],
        "/kind"
    );
    // One after the other.
    let first = daemon.get("/tasks/t");
    assert_eq!(first.header("etag"), "\"1\"");
    let tagged =
        |tag: &str, body: &Value| daemon.try_ask("PUT", "/api/v1/tasks/t", Some(body), &[("If-Match", tag)]).unwrap();
    let changed = with("mode", json!("full-load"));
    assert_eq!(tagged("\"1\"", &changed).expect(200).header("etag"), "\"2\"");
    assert_eq!(tagged("\"1\"", &good).expect(412).json["code"], "changed");
    assert_eq!(tagged("\"2\"", &changed).expect(200).header("etag"), "\"2\"", "putting it again changes nothing");
    let patch = json!({"mode": null, "rediscover": "2s"});
    let patched = daemon.ask("PATCH", "/api/v1/tasks/t", Some(&patch)).expect(200).json;
    assert_eq!((patched["spec"].get("mode"), &patched["spec"]["rediscover"]), (None, &json!("2s")));
    let again = daemon.ask("POST", "/api/v1/tasks", Some(&with("name", json!("t"))));
    assert_eq!(again.status, 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told() {
    let world = World::one().await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    // Sent again with its key it is done once.
    let body = json!({"name": "again", "kind": "null"});
    let send = |key: &str, body: &Value| {
        daemon.try_ask("POST", "/api/v1/endpoints", Some(body), &[("Idempotency-Key", key)]).unwrap()
    };
    let first = send("k1", &body).expect(201);
    let second = send("k1", &body).expect(201);
    assert_eq!((first.json, second.header("idempotent-replayed")), (second.json.clone(), "true"));
    assert_eq!(send("k1", &json!({"name": "other", "kind": "null"})).expect(409).json["code"], "key-reused");
    assert_eq!(send("k2", &body).status, 412);
    let page = daemon.ask("GET", "/docs", None).expect(200).text;
    assert!(page.contains("/openapi.json") && !page.contains("https://"), "no request leaves the machine");
    for act in ["pause", "resume"] {
        assert_eq!(daemon.post(&format!("/tasks/t/{act}")).expect(409).json["code"], "conflict");
    }
    for (method, path, status) in [
        ("GET", "/api/v1/tasks/no", 404),
        ("POST", "/api/v1/tasks/no/start", 404),
        ("GET", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1/tasks", 405),
        ("GET", "/api/v1/tasks?sort=size", 400),
        ("GET", "/api/v1/tasks?limit=x", 400),
        ("POST", "/api/v1/tasks/t/start?until=tomorrow", 400),
    ] {
        let answer = daemon.ask(method, path, None).expect(status);
        assert!(answer.json["detail"].is_string() && answer.json["remedy"].is_string(), "{path}: {}", answer.text);
    }
    let bad = daemon.try_ask("PUT", "/api/v1/tasks/t", Some(&json!([1])), &[]).unwrap();
    assert_eq!(bad.status, 400);
}

/// Tasks that are the first on a target, all at once; one of them cannot be started, and the others notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_start_together() {
    const TASKS: usize = 12;
    let world = World::one_with(trem_tests::PgOptions::default().conf("max_connections=200")).await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    for n in 0..TASKS {
        let sql =
            format!("CREATE SCHEMA s{n}; CREATE TABLE s{n}.t (id int PRIMARY KEY); INSERT INTO s{n}.t VALUES (1)");
        world.source.exec(&sql).await;
        let mut spec = spec(&world.config);
        spec["tables"] = json!([{"include": format!("s{n}.*")}]);
        daemon.put(&format!("/tasks/s{n}"), &spec).expect(201);
    }
    world.source.exec("ALTER TABLE s0.t DROP CONSTRAINT t_pkey").await;
    std::thread::scope(|scope| {
        for n in 0..TASKS {
            let daemon = &daemon;
            scope.spawn(move || daemon.post(&format!("/tasks/s{n}/start")).expect(200));
        }
    });
    for n in 1..TASKS {
        daemon.wait_state(&format!("s{n}"), "following");
    }
    let failed = daemon.wait_state("s0", "failed");
    assert!(failed["reason"].as_str().unwrap().contains("has no primary key"), "{failed}");
    let listed = daemon.get("/tasks?state=following&sort=-name&limit=2").expect(200).json;
    assert_eq!((&listed["total"], &listed["tasks"][0]["name"]), (&json!(TASKS - 1), &json!("s9")));
}

/// What should run and cannot is told as such, and runs when it can.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_told() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let mut daemon = Daemon::start_with(&[], &[("SHOP_URL", &world.config.source)]);
    daemon.put_task(&world.config);
    daemon.put("/endpoints/source", &json!({"kind": "postgres", "url": "${SHOP_URL}"})).expect(200);
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_state("t", "following");
    daemon.stop();
    let variables = std::mem::take(&mut daemon.env);
    daemon.launch();
    let status = daemon.wait_state("t", "failed");
    assert!(status["reason"].as_str().unwrap().contains("SHOP_URL is not set"), "{status}");
    assert_eq!(daemon.get("/tasks/t").json["desired"], "running");
    daemon.stop();
    daemon.env = variables;
    daemon.launch();
    daemon.wait_state("t", "following");
}

/// Two tasks that write one table: a check says so, and the second one does not.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_in_each_others_way_are_told() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    daemon.put("/tasks/u", &spec(&world.config)).expect(201);
    assert_eq!(daemon.post("/tasks/u/check").expect(200).json["ready"], true);
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_state("t", "following");
    let checked = daemon.post("/tasks/u/check").expect(200);
    assert_eq!(checked.json["ready"], false);
    assert!(checked.text.contains("tasks u and t both write this table"), "{}", checked.text);
    daemon.post("/tasks/u/start").expect(200);
    let status = daemon.wait_state("u", "failed");
    assert!(status["reason"].as_str().unwrap().contains("writes this table of the target already"), "{status}");
    // One that would bring every change back.
    let mut back = spec(&world.config);
    (back["source"], back["target"]) = (json!("target"), json!("source"));
    daemon.put("/tasks/back", &back).expect(201);
    let refused = daemon.post("/tasks/back/start").expect(409).json;
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("task back is not started: together with t it brings changes of public.t back"),
        "{detail}"
    );
    assert!(refused["remedy"].as_str().unwrap().contains("never run them at the same time"), "{refused}");
    assert_eq!(daemon.get("/tasks/back").json["desired"], "stopped");
    daemon.post("/tasks/t/stop").expect(200);
    daemon.post("/tasks/u/stop").expect(200);
    daemon.post("/tasks/back/start").expect(200);
    let refused = daemon.post("/tasks/t/start").expect(409).json;
    assert!(refused["detail"].as_str().unwrap().contains("together with back"), "{refused}");
}

/// Passwords are neither shown nor kept in the clear, and one that was shown as hidden stays.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_secret() {
    let daemon = Daemon::start_with(&[], &[("SHOP_PASSWORD", "hunter3")]);
    let url = "postgres://u:hunter2@127.0.0.1:1/d";
    let put = daemon.put("/endpoints/shop", &json!({"kind": "postgres", "url": url})).expect(201);
    assert_eq!(put.json["spec"]["url"], "postgres://u:***@127.0.0.1:1/d");
    daemon.put("/endpoints/shop", &put.json["spec"]).expect(200);
    let elsewhere = json!({"kind": "postgres", "url": "postgres://u:***@127.0.0.2:1/d"});
    assert_eq!(daemon.put("/endpoints/shop", &elsewhere).expect(422).json["errors"][0]["pointer"], "/url");
    let tested = daemon.post("/endpoints/shop/test").expect(200);
    assert_eq!(tested.json["ok"], false, "{}", tested.text);
    let reference = json!({"kind": "postgres", "url": "postgres://u:${SHOP_PASSWORD}@127.0.0.1:1/d"});
    let put = daemon.put("/endpoints/other", &reference).expect(201);
    assert_eq!(put.json["spec"], reference);
    let secret = daemon.dir().join("secret");
    let url = format!("postgres://u:${{file:{}}}@127.0.0.1:1/d", secret.display());
    let by_file = json!({"kind": "postgres", "url": url});
    assert!(daemon.put("/endpoints/file", &by_file).expect(422).text.contains("cannot be read"));
    std::fs::write(&secret, "hunt:er4\n").unwrap();
    assert_eq!(daemon.put("/endpoints/file", &by_file).expect(201).json["spec"], by_file);
    std::fs::remove_file(&secret).unwrap();
    let missing = json!({"kind": "postgres", "url": "postgres://u:${NO_SUCH}@127.0.0.1:1/d"});
    assert!(daemon.put("/endpoints/third", &missing).expect(422).text.contains("NO_SUCH"));
    let all = [daemon.get("/endpoints").text, daemon.get("/audit").expect(200).text, daemon.log(), tested.text];
    for file in std::fs::read_dir(daemon.dir()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["hunter2", "hunter3", &daemon.token] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} is in a file");
        }
    }
    assert!(all.iter().all(|text| !text.contains("hunter")), "{all:?}");
}

/// Each route needs its role, and a page of another site gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let daemon = Daemon::start();
    let document = daemon.ask("GET", "/openapi.json", None).expect(200).json;
    let tokens = [daemon.create_token("viewer"), daemon.create_token("operator"), daemon.token.clone()];
    let ask = |token: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        daemon.try_ask(method, path, Some(&json!({})), &[("Authorization", &bearer)]).unwrap().status
    };
    let mut routes = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in
            item.as_object().unwrap().keys().filter(|m| ["get", "post", "put", "patch", "delete"].contains(&m.as_str()))
        {
            routes += 1;
            let (method, path) = (method.to_uppercase(), path.replace("{name}", "no").replace("{table}", "a.b"));
            let open = !path.starts_with("/api/") && path != "/metrics";
            let bare = daemon.try_ask(&method, &path, Some(&json!({})), &[("Authorization", "")]).unwrap().status;
            assert_eq!(bare == 401, !open, "{method} {path}: {bare}");
            if open || path.ends_with("/events") {
                continue;
            }
            let acts = ["start", "stop", "pause", "resume", "check", "plan", "test", "reload"];
            let needed = match method.as_str() {
                "GET" if path.ends_with("/audit") => 2,
                "GET" if path.ends_with("/explain") => 1,
                "GET" => 0,
                "POST" if acts.iter().any(|act| path.ends_with(&format!("/{act}"))) => 1,
                _ => 2,
            };
            for (role, token) in tokens.iter().enumerate() {
                let status = ask(token, &method, &path);
                assert_eq!(status == 403, role < needed, "{method} {path} as {role}: {status}");
            }
        }
    }
    assert!(routes > 25, "{routes}");
    // A token that was taken back, and a name that is not ours.
    let revoked = daemon.command(&["token", "revoke", "2"]);
    assert!(revoked.status.success(), "{revoked:?}");
    assert_eq!(ask(&tokens[0], "GET", "/api/v1/tasks"), 401);
    let listed = daemon.command(&["token", "ls", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed["tokens"][1]["role"], listed["tokens"][1]["revoked_at"].is_string()), (&json!("viewer"), true));
    for headers in [[("Host", "evil.example")], [("Origin", "http://evil.example")]] {
        let answer = daemon.try_ask("GET", "/api/v1/tasks", None, &headers).unwrap();
        assert_eq!((answer.status, &answer.json["code"]), (403, &json!("wrong-host")));
    }
    // Guessing ends soon.
    let guesses: Vec<u16> = (0..25).map(|_| ask("trem_guess", "GET", "/api/v1/tasks")).collect();
    assert_eq!((guesses[0], guesses[24]), (401, 429));
}

/// What would let others in is refused, and a second daemon on one state file too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_refused() {
    let daemon = Daemon::start();
    for (args, says) in [
        (&["serve", "--listen", "0.0.0.0:0"][..], "--insecure-listen"),
        (&["serve", "--listen", "0.0.0.0:0", "--insecure-listen", "--no-auth"][..], "--no-auth"),
        (&["serve", "--listen", "127.0.0.1:0"][..], "another daemon has the state file"),
    ] {
        let output = daemon.command(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(says), "{args:?}: {said}");
    }
    let answer = daemon.ask("GET", "/livez", None).expect(200);
    assert!(!answer.header("x-request-id").is_empty());
    assert_eq!(daemon.ask("GET", "/version", None).expect(200).json["name"], "trem");
    daemon.ask("GET", "/readyz", None).expect(200);
    assert_eq!(daemon.get("/log-level").expect(200).json["level"], "info");
    daemon.put("/log-level", &json!({"level": "trem=debug"})).expect(200);
    assert_eq!(daemon.put("/log-level", &json!({"level": "="})).status, 400);
    daemon.ask("GET", "/livez", None).expect(200);
    assert!(daemon.log().contains("\"path\":\"/livez\""), "{}", daemon.log());
}
