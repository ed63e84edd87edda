//! Private, throw-away PostgreSQL servers: a folder of their own, a free port, 127.0.0.1 only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;
use tempfile::TempDir;

use crate::binaries::{PgBinaries, target_dir};
use crate::db::Db;
use crate::tls;

/// `nobody`: PostgreSQL refuses to run as root.
pub(crate) const NOBODY: u32 = 65534;
/// The password of every role a cluster has.
pub const PASSWORD: &str = "s3cret/of:trem@";
/// [`PASSWORD`] as it stands in a URL.
pub const PASSWORD_IN_URL: &str = "s3cret%2Fof%3Atrem%40";

/// How clients that come over TCP must log in. Over the socket in the cluster's folder nobody is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// They need not.
    #[default]
    Trust,
    /// SCRAM-SHA-256.
    Scram,
    /// MD5.
    Md5,
}

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// The build to run.
    pub binaries: PgBinaries,
    /// Lines of postgresql.conf.
    pub conf: Vec<String>,
    /// How TCP clients log in.
    pub auth: Auth,
    /// Whether the server has a certificate.
    pub tls: bool,
    /// Whether TCP clients without TLS are turned away.
    pub tls_only: bool,
    /// Whether commits wait for the disk.
    pub fsync: bool,
    /// Clusters of the same number are copies of each other, with one system identifier.
    pub identity: u8,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            binaries: PgBinaries::packaged(),
            conf: Vec::new(),
            auth: Auth::Trust,
            tls: false,
            tls_only: false,
            fsync: false,
            identity: 0,
        }
    }
}

impl PgOptions {
    /// Adds a line of postgresql.conf.
    pub fn conf(mut self, line: &str) -> Self {
        self.conf.push(line.to_owned());
        self
    }
}

/// How a server is brought down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, a checkpoint is made.
    Fast,
    /// As in a crash: recovery runs at the next start.
    Immediate,
}

/// A running (or stopped) server; ended and removed when dropped.
#[derive(Debug)]
pub struct PgCluster {
    dir: TempDir,
    options: PgOptions,
    port: u16,
    postmaster: Option<Child>,
}

impl PgCluster {
    /// Makes a cluster and starts its server.
    pub fn start(options: PgOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("trem-pg-").tempdir().expect("a temporary folder");
        own(dir.path());
        let mut cluster = Self { dir, options, port: free_port(), postmaster: None };
        let template = cluster.template();
        copy(&template, &cluster.data());
        cluster.configure();
        cluster.up();
        cluster
    }

    /// Two clusters that are no copies of each other, set up side by side.
    pub fn pair(first: PgOptions, second: PgOptions) -> (Self, Self) {
        let second = PgOptions { identity: first.identity + 1, ..second };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| Self::start(first));
            let second = Self::start(second);
            (first.join().expect("the first cluster starts"), second)
        })
    }

    /// A standby of this server, which must trust its clients.
    pub fn standby(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("trem-pg-").tempdir().expect("a temporary folder");
        own(dir.path());
        let mut standby = Self { dir, options: self.options.clone(), port: free_port(), postmaster: None };
        let mut copy = standby.command("pg_basebackup");
        copy.args(["-R", "-c", "fast", "-h", "127.0.0.1", "-U", "postgres", "-p"]).arg(self.port.to_string());
        let out = copy.arg("-D").arg(standby.data()).output().expect("pg_basebackup starts");
        assert!(out.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&out.stderr));
        standby.configure();
        standby.up();
        standby
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.options.binaries.major
    }

    /// The folder with the server's files and, with TLS, `ca.crt`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A URL for trem: over TCP, as the superuser, with the password.
    pub fn url(&self, database: &str) -> String {
        self.url_at(self.port, database)
    }

    /// The same through another port, such as a proxy's.
    pub fn url_at(&self, port: u16, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD_IN_URL}@127.0.0.1:{port}/{database}")
    }

    /// A session for the test itself, over the socket.
    pub async fn connect(&self, database: &str) -> Db {
        Db::connect(self.dir.path(), self.port, database).await
    }

    /// Creates a database and connects to it.
    pub async fn create_database(&self, name: &str) -> Db {
        self.connect("postgres").await.exec(&format!("CREATE DATABASE \"{name}\"")).await;
        self.connect(name).await
    }

    /// Brings the server down; [`PgCluster::up`] starts it again on the same port.
    pub fn down(&mut self, how: Shutdown) {
        let Some(mut child) = self.postmaster.take() else { return };
        signal(child.id(), if how == Shutdown::Fast { "INT" } else { "QUIT" });
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().expect("the postmaster is our child").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the server.
    pub fn up(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("the log");
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data()).stdout(log.try_clone().expect("the log")).stderr(log);
        let mut child = postgres.spawn().expect("postgres starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // The eighth line says how far the start has come.
            let pid_file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let own_pid = pid_file.lines().next().is_some_and(|l| l.trim() == child.id().to_string());
            if own_pid && pid_file.lines().nth(7).is_some_and(|l| l.trim() == "ready") {
                break;
            }
            if let Some(status) = child.try_wait().expect("the postmaster is our child") {
                panic!("postgres ended at once ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "postgres is not ready after a minute:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.postmaster = Some(child);
    }

    /// Down and up again.
    pub fn restart(&mut self, how: Shutdown) {
        self.down(how);
        self.up();
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of this build, run as a user that PostgreSQL accepts.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.options.binaries.bin.join(program));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).env("LC_ALL", "C").env_remove("PGDATA");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// A fresh cluster that was never started, kept below cargo's folder: a copy of it is had sooner than a new one.
    fn template(&self) -> PathBuf {
        let PgBinaries { bin, major } = &self.options.binaries;
        let built = fs::metadata(bin.join("initdb")).and_then(|m| m.modified()).ok();
        let built = built.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default().as_secs();
        let user = if is_root() { "nobody" } else { "own" };
        let md5 = if self.options.auth == Auth::Md5 { "-md5" } else { "" };
        let name = format!("{major}-{built}-{user}{md5}-{}", self.options.identity);
        let folder = target_dir().join("tmp/clusters");
        let template = folder.join(name);
        if template.exists() {
            return template;
        }
        fs::create_dir_all(&folder).expect("a folder for templates");
        let fresh = tempfile::Builder::new().prefix("trem-pg-").tempdir().expect("a temporary folder");
        own(fresh.path());
        self.initdb(fresh.path());
        // Another test may be at it, too: the first to have all of it in place wins.
        let whole = tempfile::tempdir_in(&folder).expect("a folder for a template");
        copy(&fresh.path().join("data"), &whole.path().join("data"));
        if let Err(e) = fs::rename(whole.path().join("data"), &template) {
            assert!(template.exists(), "{}: {e}", template.display());
        }
        template
    }

    fn initdb(&self, dir: &Path) {
        let password = dir.join("password");
        fs::write(&password, PASSWORD).expect("the password file");
        own(&password);
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(dir.join("data")).arg("--pwfile").arg(&password);
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
        if self.options.auth == Auth::Md5 {
            // What the password is stored as.
            initdb.arg("--auth-host=md5");
        }
        let out = initdb.output().expect("initdb starts");
        assert!(out.status.success(), "initdb: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn configure(&self) {
        let options = &self.options;
        let mut conf = vec![
            format!("port={}", self.port),
            format!("unix_socket_directories='{}'", self.dir.path().display()),
            "listen_addresses='127.0.0.1'".into(),
            "wal_level=logical".into(),
            "max_replication_slots=40".into(),
            "max_wal_senders=40".into(),
            "shared_buffers=64MB".into(),
            format!("fsync={}", if options.fsync { "on" } else { "off" }),
        ];
        if options.tls {
            tls::make_certificates(self.dir.path());
            for file in ["server.key", "server.crt", "ca.crt"] {
                own(&self.dir.path().join(file));
            }
            conf.push("ssl=on".into());
            conf.push(format!("ssl_cert_file='{}'", self.dir.path().join("server.crt").display()));
            conf.push(format!("ssl_key_file='{}'", self.dir.path().join("server.key").display()));
        }
        conf.extend(options.conf.iter().cloned());
        let auto = self.data().join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&auto).unwrap_or_default();
        text.push_str(&conf.join("\n"));
        text.push('\n');
        fs::write(&auto, text).expect("postgresql.auto.conf");

        let kind = if options.tls_only { "hostssl" } else { "host" };
        let method = match options.auth {
            Auth::Trust => "trust",
            Auth::Scram => "scram-sha-256",
            Auth::Md5 => "md5",
        };
        let hba = format!(
            "local all all trust\n{kind} all all 127.0.0.1/32 {method}\n{kind} replication all 127.0.0.1/32 {method}\n"
        );
        fs::write(self.data().join("pg_hba.conf"), hba).expect("pg_hba.conf");
    }
}

impl Drop for PgCluster {
    fn drop(&mut self) {
        self.down(Shutdown::Immediate);
    }
}

/// Sends a signal to a process that this one started.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// A port that nobody listens on, below the range that outgoing connections are given: a server that is
/// restarted finds it free.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// Copies a folder with everything that belongs to its files.
pub(crate) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(done.success(), "cp -a {} {}: {done}", from.display(), to.display());
}

/// Gives a file or folder to the server's user, and to nobody else.
pub(crate) fn own(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
    }
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}
