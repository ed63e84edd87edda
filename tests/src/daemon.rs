//! `trem serve` as its users meet it: a process, its state file, and requests over HTTP.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries;
use crate::cluster::{PASSWORD, PASSWORD_IN_URL, signal};
use crate::trem::{TaskConfig, kind};

/// How long a daemon may take to do what it is asked.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with a state file of its own; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    child: Option<Child>,
    /// Where it listens.
    pub address: String,
    /// The token that requests are sent with.
    pub token: String,
    /// Variables of processes that are started from here on.
    pub env: Vec<(String, String)>,
    args: Vec<String>,
    starts: usize,
    /// KiB that each file may have.
    limit: Option<u64>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Answer {
    /// Fails unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// A header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

impl Daemon {
    /// Starts one, with a token of an admin.
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// With further arguments, and with variables.
    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("trem-daemon-").tempdir().expect("a temporary folder");
        let owned = |text: &&str| (*text).to_owned();
        let mut daemon = Self {
            dir,
            child: None,
            address: String::new(),
            token: String::new(),
            env: env.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
            args: args.iter().map(owned).collect(),
            starts: 0,
            limit: None,
        };
        daemon.token = daemon.create_token("admin");
        daemon.launch();
        daemon
    }

    /// A new token.
    pub fn create_token(&self, role: &str) -> String {
        let output = self.command(&["token", "create", "--role", role]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A command of `trem` that takes the state file.
    pub fn command(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(binaries::trem());
        command.args(args).arg("--state").arg(self.state()).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.output().expect("trem")
    }

    /// The state file.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("trem.db")
    }

    /// The folder of the state file.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Starts the process, which must not run.
    pub fn launch(&mut self) {
        self.starts += 1;
        let log = std::fs::File::create(self.log_file()).expect("a log");
        let mut command = match self.limit {
            None => Command::new(binaries::trem()),
            Some(limit) => {
                let mut shell = Command::new("bash");
                // Writes fail then, as on a full disk.
                let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
                shell.args(["-c", script, &limit.to_string()]).arg(binaries::trem());
                shell
            }
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--state"]).arg(self.state());
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("trem serve"));
        let deadline = Instant::now() + PATIENCE;
        self.address = loop {
            let log = self.log();
            let serving = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = serving.into_iter().find(|line| line["message"] == "serving") {
                break line["address"].as_str().unwrap_or_default().to_owned();
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("our child"));
            assert!(ended.is_none() && Instant::now() < deadline, "the daemon does not serve ({ended:?}):\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        };
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join(format!("{}.err", self.starts))
    }

    /// What the process that was started last has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// A signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// From the next start on no file can have more KiB than this.
    pub fn limit_files(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and the end that follows; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(child.id(), "TERM");
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon goes on:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A request, with the token and any headers; `Err` where no answer comes.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * PATIENCE));
        let agent = config.build().new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            request = request.header("Authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            Some(body) => agent.run(request.header("Content-Type", "application/json").body(body.to_string()).unwrap()),
            None => agent.run(request.body(()).unwrap()),
        };
        let mut answer = sent.map_err(|e| e.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|e| e.to_string())?;
        let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap_or_default().to_owned())
        };
        self.assert_no_secret(&text, path);
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().iter().map(header).collect(),
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        })
    }

    /// A request that is answered.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_ask(method, path, body, &[]).unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log()))
    }

    /// GET below `/api/v1`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", &format!("/api/v1{path}"), None)
    }

    /// POST below `/api/v1`.
    #[track_caller]
    pub fn post(&self, path: &str) -> Answer {
        self.ask("POST", &format!("/api/v1{path}"), None)
    }

    /// PUT below `/api/v1`.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", &format!("/api/v1{path}"), Some(body))
    }

    /// Puts both endpoints and the task of a configuration there.
    #[track_caller]
    pub fn put_task(&self, config: &TaskConfig) {
        for (name, url) in [("source", &config.source), ("target", &config.target)] {
            let answer = self.put(&format!("/endpoints/{name}"), &json!({ "kind": kind(url), "url": url }));
            assert!(answer.status < 300, "{}", answer.text);
        }
        let answer = self.put(&format!("/tasks/{}", config.name), &spec(config));
        assert!(answer.status < 300, "{}", answer.text);
    }

    /// Waits until the task is in a state; its status.
    #[track_caller]
    pub fn wait_state(&self, task: &str, state: &str) -> Value {
        self.wait_status(task, &format!("state {state}"), |status| status["state"] == state)
    }

    /// Waits until what the status says is right; the status.
    #[track_caller]
    pub fn wait_status(&self, task: &str, what: &str, right: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.get(&format!("/tasks/{task}/status")).expect(200).json;
            if right(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "no {what} in time: {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Events from the one after `after` on, until one is what is waited for; all of them.
    pub fn events(&self, after: i64, until: impl Fn(&Value) -> bool) -> Vec<Value> {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
        let request = config.build().new_agent().get(format!("http://{}/api/v1/events", self.address));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        let answer = request.header("Last-Event-ID", after.to_string()).call().expect("a stream");
        let mut events = Vec::new();
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.unwrap_or_else(|e| panic!("no event that was waited for ({e}): {events:?}"));
            let Some(data) = line.strip_prefix("data: ") else { continue };
            self.assert_no_secret(data, "an event");
            events.push(serde_json::from_str(data).expect("JSON"));
            if events.last().is_some_and(&until) {
                return events;
            }
        }
        panic!("the stream has ended: {events:?}");
    }

    /// Passwords of servers and the token are in no answer, no metric, no log line and no file.
    #[track_caller]
    fn assert_no_secret(&self, text: &str, place: &str) {
        let shown = [PASSWORD, PASSWORD_IN_URL, &self.token].iter().any(|secret| text.contains(*secret));
        assert!(!shown, "a secret is in {place}: {text}");
    }
}

/// A configuration as the API takes it.
pub fn spec(config: &TaskConfig) -> Value {
    let tables = json!([{ "include": config.include, "exclude": config.exclude }]);
    let retry = json!({ "initial": "50ms", "max": "500ms" });
    json!({ "source": "source", "target": "target", "rediscover": "1s", "tables": tables, "retry": retry })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() && !std::thread::panicking() {
            // Looks at what it is answered; one that has ended by itself answers nothing.
            let _ = self.try_ask("GET", "/metrics", None, &[]);
        }
        self.kill();
        for file in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            let bytes = std::fs::read(file.path()).unwrap_or_default();
            if !std::thread::panicking() {
                self.assert_no_secret(&String::from_utf8_lossy(&bytes), &file.path().display().to_string());
            }
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            eprintln!("--- the daemon logged ---\n{}", log.get(from..).unwrap_or_default());
        }
    }
}
