//! The built binary: usage, exit codes and messages that need no server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const TASKS: &str = r#"
[endpoints.shop]
kind = "postgres"
url = "postgres://trem:${SHOP_PASSWORD}@127.0.0.1:${SHOP_PORT}/shop?connect_timeout=2"

[endpoints.nothing]
kind = "null"

[tasks.measure]
source = "shop"
target = "nothing"
retry = { initial = "10ms", max = "20ms", give-up-after = "200ms" }

[[tasks.measure.tables]]
include = "public.*"
"#;

struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    fn new(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("tasks.toml"), text).unwrap();
        // Bound and let go: nobody listens there.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port }
    }

    fn trem(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_trem"))
            .args(args)
            .current_dir(self.folder.path())
            .env("SHOP_PASSWORD", "hush-hush")
            .env("SHOP_PORT", self.port.to_string())
            .env_remove("TREM_LOG")
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(!out.contains("hush-hush") && !err.contains("hush-hush"), "a secret is shown: {out}{err}");
        (status.code(), out, err)
    }
}

#[test]
fn usage() {
    let place = Place::new(TASKS);
    let (code, _, err) = place.trem(&[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("Usage: trem <COMMAND>"), "{err}");
    let (code, _, err) = place.trem(&["run"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("<FILE>"), "{err}");
    let (code, _, err) = place.trem(&["drop", "tasks.toml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--task <NAME>"), "{err}");
    let (code, _, err) = place.trem(&["run", "tasks.toml", "--log-format", "xml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("[possible values: text, json]"), "{err}");
    assert_eq!(place.trem(&["--version"]).0, Some(0));
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_trem"));
    wrong.args(["run", "tasks.toml"]).current_dir(place.folder.path()).env("TREM_LOG", "trem=loud");
    wrong.env("SHOP_PASSWORD", "a").env("SHOP_PORT", "1");
    let output = wrong.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("trem: TREM_LOG is `trem=loud`: expected a filter"));
}

#[test]
fn a_wrong_configuration_is_2() {
    let place = Place::new(&TASKS.replace("\"null\"", "\"oracle\""));
    for command in ["run", "check", "plan", "status"] {
        let (code, out, err) = place.trem(&[command, "tasks.toml"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command}");
        assert!(err.starts_with("trem: tasks.toml:7:8: endpoints.nothing.kind: kind \"oracle\""), "{err}");
    }
    let (code, _, err) = place.trem(&["check", "other.toml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("other.toml: cannot read the file"), "{err}");
}

#[test]
fn an_unknown_task_is_2() {
    let place = Place::new(TASKS);
    let (code, _, err) = place.trem(&["status", "tasks.toml", "--task", "mesure"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--task: no task is called \"mesure\": the file has measure"), "{err}");
    let (code, _, err) = place.trem(&["drop", "tasks.toml", "--task", "mesure"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no task is called"), "{err}");
}

#[test]
fn a_table_is_one_table() {
    let place = Place::new(TASKS);
    for (table, says) in [("orders", "is not of the form schema.table"), ("public.*", "is a pattern")] {
        let (code, _, err) = place.trem(&["reload", "tasks.toml", "--task", "measure", "--table", table]);
        assert_eq!(code, Some(2));
        assert!(err.contains(says), "{err}");
    }
    let (code, _, err) = place.trem(&["reload", "tasks.toml", "--task", "measure", "--table", "public.orders"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("public.orders: task measure has not taken this table up yet"), "{err}");
}

#[test]
fn a_source_that_is_down_fails_every_command() {
    let place = Place::new(TASKS);
    let (code, out, _) = place.trem(&["check", "tasks.toml"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("ERROR") && out.contains("source shop"), "{out}");
    let (code, out, _) = place.trem(&["plan", "tasks.toml", "--json"]);
    assert_eq!(code, Some(1));
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["tasks"][0]["findings"][0]["severity"], "error");
    let (code, out, _) = place.trem(&["status", "tasks.toml", "--json"]);
    assert_eq!(code, Some(1));
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&status["tasks"][0]["task"], &status["tasks"][0]["started"]), (&"measure".into(), &false.into()));
    assert!(status["tasks"][0]["errors"][0].as_str().unwrap().starts_with("source: "));
    let (code, out, _) = place.trem(&["drop", "tasks.toml", "--task", "measure"]);
    assert_eq!(code, Some(1));
    let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(out.contains("add --force if the source is gone for good"), "{out}");
    let (code, out, _) = place.trem(&["drop", "tasks.toml", "--task", "measure", "--force"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("nothing to drop: the task is not on record there"), "{out}");
}

#[test]
fn a_run_that_gives_up_is_1_and_logs_to_stderr() {
    let place = Place::new(TASKS);
    let (code, out, err) = place.trem(&["run", "tasks.toml", "--log-format", "json"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let lines: Vec<serde_json::Value> = err.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[0]["message"], &lines[0]["to"]), (&"starting".into(), &"nothing (null)".into()));
    assert!(err.lines().all(|l| l.matches("\"target\":").count() == 1), "a name stands for two things: {err}");
    let last = lines.last().unwrap();
    assert_eq!((&last["message"], &last["failed"]), (&"all tasks have ended".into(), &1.into()));
    let last = &lines[lines.len() - 2];
    assert_eq!(
        (&last["task"], &last["level"], &last["class"]),
        (&"measure".into(), &"ERROR".into(), &"Transient".into())
    );
}

#[test]
fn the_sample_configuration_is_valid() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tasks.toml");
    let place = Place::new(&std::fs::read_to_string(sample).unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_trem"));
    command.args(["status", "tasks.toml", "--json"]).current_dir(place.folder.path());
    for (name, value) in [("SHOP_PASSWORD", "a"), ("REPORTS_PASSWORD", "b"), ("SHOP_PORT", "1"), ("REPORTS_PORT", "2")]
    {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["tasks"][0]["task"], "shop-to-reports");
}
