//! Private, throw-away servers of MariaDB and of MySQL, and a session of the test itself with one.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Value};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::binaries::target_dir;
use crate::cluster::{NOBODY, PASSWORD, PASSWORD_IN_URL, copy, free_port, is_root, own, signal};

/// What a server that is followed needs.
const OPTIONS: &[&str] = &[
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--server-id=101",
    // What has committed survives kill -9.
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=64M",
    "--skip-name-resolve",
];

/// What MySQL's own server needs beside that: GTIDs, and no folder that there is not.
const GENUINE: &[&str] = &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--mysqlx=OFF", "--secure-file-priv="];

/// What only MariaDB's server knows.
const MARIA: &[&str] = &["--gtid-domain-id=1", "--gtid-strict-mode=1"];

/// A running (or stopped) server; ended and removed when dropped.
#[derive(Debug)]
pub struct MariaCluster {
    /// Where MySQL's own server is; `None` for MariaDB.
    genuine: Option<PathBuf>,
    dir: TempDir,
    options: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl MariaCluster {
    /// Starts a server with these options beside those that every one has.
    pub fn start(options: &[&str]) -> Self {
        Self::of(None, options)
    }

    /// Starts MySQL's own server; `None`, said aloud, where this machine cannot have it.
    pub fn genuine(options: &[&str]) -> Option<Self> {
        let Ok(root) = fs::read_to_string(target_dir().join("genuine-mysql")) else {
            eprintln!("skipped: scripts/genuine-mysql could bring no MySQL");
            return None;
        };
        Some(Self::of(Some(PathBuf::from(root.trim())), options))
    }

    fn of(genuine: Option<PathBuf>, options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("trem-my-").tempdir().expect("a temporary folder");
        own(dir.path());
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let data = template(genuine.as_deref());
        let mut cluster = Self { genuine, dir, options, port: free_port(), server: None };
        copy(&data, &cluster.dir.path().join("data"));
        cluster.up();
        cluster
    }

    /// A URL for trem: over TCP, as a user that may do everything, with the password.
    pub fn url(&self) -> String {
        format!("mysql://trem:{PASSWORD_IN_URL}@127.0.0.1:{}", self.port)
    }

    /// A session for the test itself.
    pub async fn connect(&self) -> My {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("trem"))
            .pass(Some(PASSWORD))
            .prefer_socket(false)
            .setup(vec!["SET SESSION time_zone = '+00:00'"]);
        let conn = Conn::new(options).await.unwrap_or_else(|e| panic!("connecting on port {}: {e}", self.port));
        My { conn: Mutex::new(conn) }
    }

    /// A client of the package, at this server.
    pub fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--host=127.0.0.1", "--user=trem", "--local-infile=1"]).arg(format!("--port={}", self.port));
        command.env("MYSQL_PWD", PASSWORD);
        command
    }

    /// The statement that makes another server follow this one.
    pub fn change_master(&self) -> String {
        format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'trem', \
             MASTER_PASSWORD = '{PASSWORD}', MASTER_USE_GTID = slave_pos",
            self.port
        )
    }

    /// Starts the server.
    pub fn up(&mut self) {
        let path = self.dir.path();
        let before = self.log().len();
        let log = fs::File::options().create(true).append(true).open(path.join("log")).expect("the log");
        let (mut command, own) = match &self.genuine {
            None => (program("mariadbd", path), MARIA),
            Some(root) => (genuine(root, path), GENUINE),
        };
        command.arg(format!("--datadir={}", path.join("data").display()));
        command.arg(format!("--port={}", self.port)).arg("--bind-address=127.0.0.1");
        command.arg(format!("--socket={}", path.join("s").display()));
        command.arg(format!("--pid-file={}", path.join("pid").display()));
        // A server that starts takes away what temporary tables have left in that folder, those of others too.
        command.arg(format!("--tmpdir={}", path.join("data").display()));
        command.args(OPTIONS).args(own).args(&self.options).stdout(log.try_clone().expect("the log")).stderr(log);
        let mut child = command.spawn().expect("mariadbd starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        // Its own word: on its port another server may answer.
        while !self.log()[before..].contains("ready for connections") {
            if let Some(status) = child.try_wait().expect("the server is our child") {
                panic!("mariadbd ended at once ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "mariadbd is not ready after a minute:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.server = Some(child);
    }

    /// Brings it down: in order, or as in a crash.
    pub fn down(&mut self, in_order: bool) {
        let Some(mut child) = self.server.take() else { return };
        signal(child.id(), if in_order { "TERM" } else { "KILL" });
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().expect("the server is our child").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for MariaCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- mariadbd logged ---\n{}", log.get(log.len().saturating_sub(4000)..).unwrap_or_default());
        }
        self.down(false);
    }
}

/// A program of the package, run as a user that the server accepts.
fn program(name: &str, dir: &Path) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(name));
    let path = found.into_iter().find(|path| path.exists());
    let path = path.unwrap_or_else(|| panic!("{name} is not installed: scripts/setup tests brings it"));
    let mut command = as_somebody(&path, dir);
    command.arg("--no-defaults");
    command
}

fn as_somebody(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null()).env("LC_ALL", "C");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// MySQL's own server, whose libraries are in its root beside it.
fn genuine(root: &Path, dir: &Path) -> Command {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = as_somebody(&libraries.join("ld-linux-x86-64.so.2"), dir);
    let (libraries, root) = (libraries.display(), root.display());
    let path = format!("{libraries}:{libraries}/mysql/private:{root}/usr/lib/mysql/private");
    command.args(["--library-path", &path]).arg(format!("{root}/usr/sbin/mysqld")).arg("--no-defaults");
    command.arg(format!("--lc-messages-dir={root}/usr/share/mysql"));
    command.arg(format!("--plugin-dir={root}/usr/lib/mysql/plugin"));
    command.arg(format!("--character-sets-dir={root}/usr/share/mysql/charsets"));
    command
}

/// Data of a server that was never used, kept below cargo's folder.
fn template(root: Option<&Path>) -> PathBuf {
    let folder = target_dir().join("tmp/clusters");
    let user = if is_root() { "nobody" } else { "own" };
    let template = folder.join(format!("{}-{user}", if root.is_some() { "mysql" } else { "mariadb" }));
    if template.exists() {
        return template;
    }
    fs::create_dir_all(&folder).expect("a folder for templates");
    let fresh = tempfile::Builder::new().prefix("trem-my-").tempdir().expect("a temporary folder");
    own(fresh.path());
    let sql =
        format!("CREATE USER trem@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO trem@'%' WITH GRANT OPTION;\n");
    match root {
        None => {
            let mut install = program("mariadb-install-db", fresh.path());
            install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
            run(install, fresh.path(), None);
            // The user of all tests is made by the server itself, without network.
            let mut server = program("mariadbd", fresh.path());
            server.arg("--skip-networking").arg(format!("--socket={}", fresh.path().join("s").display()));
            run(server, fresh.path(), Some(&format!("{sql}SHUTDOWN;\n")));
        }
        Some(root) => {
            let mut server = genuine(root, fresh.path());
            server.arg("--initialize-insecure");
            run(server, fresh.path(), Some(&sql));
        }
    }
    let whole = tempfile::tempdir_in(&folder).expect("a folder for a template");
    copy(&fresh.path().join("data"), &whole.path().join("data"));
    // Another test may be at it, too: the first to have all of it in place wins.
    if let Err(e) = fs::rename(whole.path().join("data"), &template) {
        assert!(template.exists(), "{}: {e}", template.display());
    }
    template
}

/// Runs a program to its end, with the data below a folder, and statements for it.
fn run(mut command: Command, dir: &Path, sql: Option<&str>) {
    command.arg(format!("--datadir={}", dir.join("data").display()));
    if let Some(sql) = sql {
        fs::write(dir.join("init.sql"), sql).expect("statements");
        own(&dir.join("init.sql"));
        command.arg(format!("--init-file={}", dir.join("init.sql").display()));
    }
    let out = command.output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A session. SQL that fails is a failed test, except through the `try_` methods.
#[derive(Debug)]
pub struct My {
    conn: Mutex<Conn>,
}

impl My {
    /// Runs statements.
    #[track_caller]
    pub fn exec(&self, sql: &str) -> impl Future<Output = ()> + Send {
        let at = std::panic::Location::caller();
        async move {
            if let Err(e) = self.try_exec(sql).await {
                panic!("{at}: {e}\nin: {sql}");
            }
        }
    }

    /// Runs statements; the error is the server's message.
    pub async fn try_exec(&self, sql: &str) -> Result<(), String> {
        self.conn.lock().await.query_drop(sql).await.map_err(|e| e.to_string())
    }

    /// The rows of a query, as the server prints them.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows: Vec<mysql_async::Row> =
            self.conn.lock().await.query(sql).await.unwrap_or_else(|e| panic!("{e}\nin: {sql}"));
        let text = |value: Value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            other => panic!("{other:?} is no text"),
        };
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }
}
