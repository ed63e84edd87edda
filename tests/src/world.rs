//! What most tests start from: a source database, a target database and a task between them.

use std::time::{Duration, Instant};

use crate::binaries::PgBinaries;
use crate::cluster::{PgCluster, PgOptions};
use crate::compare;
use crate::db::Db;
use crate::trem::{Running, TaskConfig, Trem};

/// How long both sides may take to become equal.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Two databases and the task between them. Fields drop in order: trem's folder last.
#[derive(Debug)]
pub struct World {
    /// A session with the source.
    pub source: Db,
    /// A session with the target.
    pub target: Db,
    /// The source's server.
    pub cluster: PgCluster,
    /// The target's server, when it is another one.
    pub second: Option<PgCluster>,
    /// The task.
    pub config: TaskConfig,
    /// What runs it.
    pub trem: Trem,
}

impl World {
    /// Both databases in one cluster of the packaged version: the quickest to start.
    pub async fn one() -> Self {
        Self::one_with(PgOptions::default()).await
    }

    /// Both databases in one cluster.
    pub async fn one_with(options: PgOptions) -> Self {
        Self::assemble(PgCluster::start(options), None).await
    }

    /// A cluster each.
    pub async fn two() -> Self {
        Self::two_with(PgOptions::default(), PgOptions::default()).await
    }

    /// A cluster each.
    pub async fn two_with(source: PgOptions, target: PgOptions) -> Self {
        let (source, target) = PgCluster::pair(source, target);
        Self::assemble(source, Some(target)).await
    }

    /// One cluster of the newest version that this machine has; `None`, said aloud, where it has none.
    pub async fn newest() -> Option<Self> {
        let Some(binaries) = PgBinaries::newest() else {
            eprintln!("skipped: scripts/newest-postgres could bring no newer PostgreSQL");
            return None;
        };
        Some(Self::one_with(PgOptions { binaries, ..PgOptions::default() }).await)
    }

    async fn assemble(cluster: PgCluster, second: Option<PgCluster>) -> Self {
        let source = cluster.create_database("shop").await;
        let there = second.as_ref().unwrap_or(&cluster);
        let target = there.create_database("reports").await;
        let config = TaskConfig::new(cluster.url("shop"), there.url("reports"));
        let trem = Trem::new(&config);
        Self { source, target, cluster, second, config, trem }
    }

    /// The target's server.
    pub fn target_cluster(&self) -> &PgCluster {
        self.second.as_ref().unwrap_or(&self.cluster)
    }

    /// Waits until both sides are the same, whoever replicates.
    pub async fn same(&self, tables: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = compare::differences(&self.source, &self.target, tables).await;
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{}", found.join("\n"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Changes the task and rewrites its file.
    pub fn configure(&mut self, change: impl FnOnce(&mut TaskConfig)) {
        change(&mut self.config);
        self.trem.rewrite(&self.config.toml());
    }

    /// New sessions, after a server was down.
    pub async fn reconnect(&mut self) {
        self.source = self.cluster.connect("shop").await;
        self.target = self.target_cluster().connect("reports").await;
    }

    /// Waits until nobody reads from the task's slot: a server notices late that a process has ended.
    pub async fn idle_slot(&self) {
        self.source.wait_for("SELECT count(*) FROM pg_replication_slots WHERE active", "0", PATIENCE).await;
    }

    /// Waits until every table alike by pattern is equal on both sides.
    #[track_caller]
    pub fn equal<'a>(&'a self, tables: &'a [&'a str], running: &'a mut Running) -> impl Future<Output = ()> + 'a {
        compare::wait_equal(&self.source, &self.target, tables, running, PATIENCE)
    }

    /// Fails unless they are equal now.
    #[track_caller]
    pub fn assert_equal<'a>(&'a self, tables: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        compare::assert_equal(&self.source, &self.target, tables)
    }

    /// The state of a table as the target's bookkeeping has it.
    pub async fn table_state(&self, table: &str) -> String {
        let name = self.config.name.clone();
        let status = self.trem.command(&["status", "--json", "--task", &name]);
        let json: serde_json::Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        find_state(&json, table).unwrap_or_default()
    }
}

/// The `state` of the object that names the table, wherever it stands.
fn find_state(json: &serde_json::Value, table: &str) -> Option<String> {
    match json {
        serde_json::Value::Array(items) => items.iter().find_map(|i| find_state(i, table)),
        serde_json::Value::Object(map) => {
            let named = map.values().any(|v| v.as_str() == Some(table));
            match map.get("state").and_then(|s| s.as_str()) {
                Some(state) if named => Some(state.to_owned()),
                _ => map.values().find_map(|v| find_state(v, table)),
            }
        }
        _ => None,
    }
}
