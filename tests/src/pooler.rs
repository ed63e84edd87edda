//! PgBouncer in front of a private server.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::{NOBODY, free_port, is_root};

/// A running pooler; ended when dropped.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Pooler {
    /// Starts one in front of a server that trusts its clients; `mode` is `session`, `transaction` or `statement`.
    /// `None`, said aloud, where this machine has none.
    pub fn start(upstream: u16, mode: &str) -> Option<Self> {
        let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from);
        let Some(program) = places.into_iter().find(|p| p.exists()) else {
            eprintln!("skipped: pgbouncer is not installed");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("trem-pooler-").tempdir().expect("a temporary folder");
        let port = free_port();
        let at = |name: &str| dir.path().join(name);
        let users = "\"postgres\" \"\"\n\"plain\" \"\"\n";
        fs::write(at("users"), users).expect("the users");
        let conf = format!(
            "[databases]\n* = host=127.0.0.1 port={upstream}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             logfile = {}\n",
            at("users").display(),
            at("log").display()
        );
        fs::write(at("conf"), conf).expect("the configuration");
        let mut command = Command::new(program);
        command.arg("-q").arg(at("conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if is_root() {
            for path in [dir.path().to_owned(), at("users"), at("conf")] {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("the pooler's own files");
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().expect("pgbouncer starts");
        let log = at("log");
        let mut pooler = Self { child, port, _dir: dir };
        pooler.wait(&log);
        Some(pooler)
    }

    fn wait(&mut self, log: &Path) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("our child");
            let said = fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "pgbouncer does not listen ({ended:?}): {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
