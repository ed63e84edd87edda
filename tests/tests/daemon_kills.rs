//! The daemon under what befalls it: kill -9 while it is used, a second one on the same task, a full disk, an old state
//! file.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use trem_tests::World;
use trem_tests::daemon::{Daemon, spec};

use crate::seed;

const TABLE: &str =
    "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 500)";

const CHANGES: &str = "INSERT INTO t (v) SELECT 'more' FROM generate_series(1, 10);
                       UPDATE t SET v = v || 'y' WHERE id % 50 = 0";

/// What the daemon has said it has, as far as a request that was cut off leaves it open.
struct Acknowledged {
    /// One of these is the task's `rediscover`.
    rediscover: Vec<String>,
    /// One of these is wanted of it.
    desired: Vec<&'static str>,
    puts: usize,
}

/// Does something; whether it was answered.
fn act(daemon: &Daemon, world: &World, random: &mut StdRng, known: &mut Acknowledged) -> bool {
    let post = |path: &str| daemon.try_ask("POST", &format!("/api/v1/tasks/t/{path}"), None, &[]);
    let want = |path: &str, desired: &'static str, known: &mut Acknowledged| {
        known.desired.push(desired);
        let answer = post(path);
        match &answer {
            Ok(answer) if answer.status == 200 => known.desired = vec![desired],
            Ok(_) => drop(known.desired.pop()),
            Err(_) => {}
        }
        answer.is_ok()
    };
    match random.random_range(0..8) {
        0..2 => want("start", "running", known),
        2 => want("stop", "stopped", known),
        3 => want("pause", "paused", known),
        4 => want("resume", "running", known),
        5 => post("tables/public.t/reload").is_ok(),
        _ => {
            let (mut spec, value) = (spec(&world.config), format!("{}s", known.puts + 1));
            known.puts += 1;
            spec["rediscover"] = json!(value);
            known.rediscover.push(value.clone());
            let answer = daemon.try_ask("PUT", "/api/v1/tasks/t", Some(&spec), &[]);
            match &answer {
                Ok(answer) if answer.status == 200 => known.rediscover = vec![value],
                Ok(answer) => panic!("{}", answer.text),
                Err(_) => {}
            }
            answer.is_ok()
        }
    }
}

/// Killed fifty times while it is used: nothing that it has answered is lost, and both sides are the same in the end.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_kept() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut daemon = Daemon::start();
    daemon.put_task(&world.config);
    let mut known = Acknowledged { rediscover: vec!["1s".to_owned()], desired: vec!["stopped"], puts: 0 };
    let mut answered = 0;
    for round in 0..50 {
        let pid = daemon.pid();
        let (after, killer) = (Duration::from_millis(random.random_range(0..400)), std::thread::spawn);
        let killed = killer(move || {
            std::thread::sleep(after);
            trem_tests::cluster::signal(pid, "KILL");
        });
        world.source.exec(CHANGES).await;
        while act(&daemon, &world, &mut random, &mut known) {
            answered += 1;
        }
        killed.join().unwrap();
        daemon.kill();
        daemon.launch();
        let task = daemon.get("/tasks/t").expect(200).json;
        let rediscover = task["spec"]["rediscover"].as_str().unwrap().to_owned();
        assert!(
            known.rediscover.contains(&rediscover),
            "TREM_SEED={seed} round {round}: {rediscover} {:?}",
            known.rediscover
        );
        let desired = task["desired"].as_str().unwrap();
        let desired = known.desired.iter().find(|d| **d == desired);
        known.desired =
            vec![desired.unwrap_or_else(|| panic!("TREM_SEED={seed} round {round}: {task} {:?}", known.desired))];
        known.rediscover = vec![rediscover];
    }
    eprintln!("TREM_SEED={seed}: {answered} requests answered");
    assert!(answered > 50);
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_state("t", "following");
    world.same(&["public.%"]).await;
    assert_eq!(world.source.number("SELECT count(*) FROM t").await, 1000);
    assert_eq!(daemon.stop(), Some(0));
}

/// Whatever a task is about when the daemon is killed, it goes on with that.
#[tokio::test(flavor = "multi_thread")]
async fn every_state_survives_a_kill() {
    let world = World::two().await;
    world.source.exec(TABLE).await;
    let mut daemon = Daemon::start();
    daemon.put_task(&world.config);
    let kill_and_start = |daemon: &mut Daemon| {
        daemon.kill();
        daemon.launch();
    };
    // Refused, until somebody mends it.
    world.source.exec("ALTER TABLE t DROP CONSTRAINT t_pkey").await;
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_state("t", "failed");
    kill_and_start(&mut daemon);
    daemon.wait_state("t", "failed");
    world.source.exec("ALTER TABLE t ADD PRIMARY KEY (id)").await;
    // A load that cannot go on.
    let locked = world.cluster.connect("shop").await;
    locked.exec("BEGIN; INSERT INTO t (v) VALUES ('open')").await;
    daemon.post("/tasks/t/start").expect(200);
    daemon.wait_status("t", "start that waits", |s| s["state"] == "starting" || s["state"] == "loading");
    kill_and_start(&mut daemon);
    daemon.wait_status("t", "start that waits", |s| s["state"] == "starting" || s["state"] == "loading");
    locked.exec("COMMIT").await;
    daemon.wait_state("t", "following");
    world.same(&["public.%"]).await;
    // A target that lets nobody in.
    let server = world.target_cluster().connect("postgres").await;
    server.exec("ALTER DATABASE reports ALLOW_CONNECTIONS false").await;
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE application_name LIKE 'trem%' AND application_name <> current_setting('application_name')";
    server.exec(others).await;
    world.source.exec("INSERT INTO t (v) VALUES ('meanwhile')").await;
    daemon.wait_state("t", "retrying");
    kill_and_start(&mut daemon);
    let status = daemon.wait_state("t", "retrying");
    assert!(status["reason"].as_str().unwrap().contains("not currently accepting connections"), "{status}");
    server.exec("ALTER DATABASE reports ALLOW_CONNECTIONS true").await;
    daemon.wait_state("t", "following");
    world.same(&["public.%"]).await;
    // What ends by itself has ended.
    daemon.post("/tasks/t/stop").expect(200);
    assert_eq!(daemon.post("/tasks/t/start?until=current").expect(200).json["name"], "t");
    daemon.wait_state("t", "done");
    kill_and_start(&mut daemon);
    assert_eq!(daemon.get("/tasks/t/status").json["state"], "done", "by its last run");
}

/// The end of a run is told when it is kept, and not before: a daemon that is killed in between has told nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_when_it_is_kept() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let mut daemon = Daemon::start_with(&["--no-auth"], &[]);
    daemon.put_task(&world.config);
    let state = rusqlite::Connection::open(daemon.state()).unwrap();
    // As after a failure while it was paused: what is to come to an end moves all the same.
    state.execute_batch("UPDATE task SET desired = 'paused'").unwrap();
    let held = world.cluster.connect("shop").await;
    held.exec("BEGIN; INSERT INTO t (v) VALUES ('the load waits for this')").await;
    daemon.post("/tasks/t/start?until=current").expect(200);
    state.execute_batch("BEGIN IMMEDIATE").unwrap();
    held.exec("COMMIT").await;
    world.same(&["public.%"]).await;
    for _ in 0..20 {
        assert_ne!(daemon.get("/tasks/t/status").expect(200).json["state"], "done");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    state.execute_batch("COMMIT").unwrap();
    daemon.wait_state("t", "done");
    daemon.kill();
    state.execute_batch("UPDATE task SET desired = 'stopped'").unwrap();
    daemon.launch();
    assert_eq!(daemon.get("/tasks/t/status").expect(200).json["state"], "done");
}

/// Two daemons that have the same task: the later one takes it over, the earlier one says so, and never do both apply.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_daemons_has_a_task() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let (first, second) = (Daemon::start(), Daemon::start());
    for daemon in [&first, &second] {
        daemon.put_task(&world.config);
    }
    first.post("/tasks/t/start").expect(200);
    first.wait_state("t", "following");
    for (later, earlier) in [(&second, &first), (&first, &second)] {
        world.source.exec("INSERT INTO t (v) VALUES ('in between')").await;
        later.post("/tasks/t/start").expect(200);
        later.wait_state("t", "following");
        // The earlier one notices with the next that it would apply.
        world.source.exec("UPDATE t SET v = v || 'z' WHERE id <= 10").await;
        let status = earlier.wait_state("t", "failed");
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("another process"), "{reason}");
        world.same(&["public.%"]).await;
        assert_eq!(later.get("/tasks/t/status").json["state"], "following");
    }
}

/// A fault in one task is started again apart from the other, which notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_stays_where_it_is() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE a (id serial PRIMARY KEY, v text); CREATE TABLE b (LIKE a INCLUDING ALL)").await;
    let daemon = Daemon::start_with(&[], &[("TREM_FAILPOINT", "lane-panics:7")]);
    daemon.put_task(&world.config);
    for name in ["a", "b"] {
        let mut spec = spec(&world.config);
        spec["tables"] = json!([{"include": format!("public.{name}")}]);
        daemon.put(&format!("/tasks/{name}"), &spec).expect(201);
        daemon.post(&format!("/tasks/{name}/start")).expect(200);
    }
    for name in ["a", "b"] {
        daemon.wait_state(name, "following");
    }
    let runs = |name: &str| {
        let runs = daemon.get(&format!("/tasks/{name}/runs")).expect(200).json;
        runs["runs"].as_array().unwrap().iter().map(|run| run["outcome"].clone()).collect::<Vec<Value>>()
    };
    for n in 0..20 {
        world.source.exec(&format!("INSERT INTO a (v) VALUES ('{n}'); INSERT INTO b (v) VALUES ('{n}')")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.same(&["public.%"]).await;
    let retried = daemon.events(0, |event| event["data"]["state"] == "retrying");
    let retried = retried.last().unwrap();
    assert!(retried["data"]["reason"].as_str().unwrap().contains("panicked"), "{retried}");
    let (hit, other) = if retried["task"] == "a" { ("a", "b") } else { ("b", "a") };
    daemon.wait_state(hit, "following");
    assert_eq!((runs(hit), runs(other)), (vec![Value::Null, json!("failed")], vec![Value::Null]));
}

/// A state file that cannot grow: tasks go on, requests that change nothing are answered, others are refused, and what
/// was answered before is there when there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_task() {
    let world = World::one().await;
    world.source.exec(TABLE).await;
    let mut daemon = Daemon::start();
    daemon.put_task(&world.config);
    daemon.post("/tasks/t/start").expect(200);
    daemon.stop();
    // Of each file, KiB.
    daemon.limit_files(Some(1024));
    daemon.launch();
    daemon.wait_state("t", "following");
    let big = |n: usize| {
        let value = format!("'{}'", "x".repeat(15_000));
        let rule = json!({"match": "a.b", "action": "create-column", "column": "c", "type": "text", "value": value});
        let tables = json!([{"include": format!("n{n}.*")}]);
        json!({"rules": vec![rule; 3], "source": "source", "target": "target", "tables": tables})
    };
    let mut stored = 0;
    let refused = loop {
        let answer = daemon.put(&format!("/tasks/big{stored}"), &big(stored));
        if answer.status != 201 {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "the disk is never full");
    };
    assert_eq!((refused.status, &refused.json["code"]), (507, &json!("state")), "{}", refused.text);
    // Until not even a word fits.
    assert!((0..5000).any(|_| daemon.post("/tasks/t/start").status == 507));
    assert_eq!(daemon.post("/tasks/t/pause").status, 507);
    world.source.exec("INSERT INTO t (v) VALUES ('on a full disk')").await;
    world.same(&["public.%"]).await;
    assert_eq!(daemon.get("/tasks/t/status").expect(200).json["state"], "following");
    daemon.kill();
    daemon.limit_files(None);
    daemon.launch();
    assert_eq!(daemon.get("/tasks").json["total"], stored + 1);
    daemon.wait_state("t", "following");
    world.source.exec("INSERT INTO t (v) VALUES ('with room again')").await;
    world.same(&["public.%"]).await;
}

/// A file that the version before has written is taken up with all that is in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_file_is_taken_up() {
    let mut daemon = Daemon::start();
    daemon.put("/endpoints/e", &json!({"kind": "null"})).expect(201);
    daemon.stop();
    let older = "DROP TABLE rule_set; DROP TABLE answer; PRAGMA user_version = 1";
    rusqlite::Connection::open(daemon.state()).and_then(|state| state.execute_batch(older)).unwrap();
    daemon.launch();
    assert_eq!(daemon.get("/endpoints").json["endpoints"][0]["name"], "e");
    let set = json!({"rules": [{"match": "*.*", "action": "rename-schema", "to": "x"}]});
    daemon.put("/rule-sets/s", &set).expect(201);
    let listed: Value = daemon.get("/rule-sets").expect(200).json;
    assert_eq!(listed["rule_sets"][0]["spec"], set);
}
