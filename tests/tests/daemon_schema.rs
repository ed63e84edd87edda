//! The served OpenAPI document against the daemon that serves it: no answer that it does not have, and none that says
//! the daemon is at fault.

use std::process::Command;

use serde_json::json;
use trem_tests::World;
use trem_tests::binaries::target_dir;
use trem_tests::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_documented() {
    let program = target_dir().join("schemathesis/bin/schemathesis");
    if !program.exists() {
        eprintln!("skipped: scripts/schemathesis could bring no schemathesis");
        return;
    }
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    let daemon = Daemon::start();
    daemon.put_task(&world.config);
    daemon.put("/rule-sets/s", &json!({"rules": []})).expect(201);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let run = Command::new(program)
        .args(["run", &format!("http://{}/openapi.json", daemon.address), "--checks", checks])
        .args(["-H", &format!("Authorization: Bearer {}", daemon.token), "--exclude-path-regex", "/events$"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--workers", "2", "--no-color"])
        .args(["--request-timeout", "60", "--generation-database", ":memory:"])
        .current_dir(daemon.dir())
        .output()
        .expect("schemathesis");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
}
