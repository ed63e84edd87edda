//! Random changes of schemas, types, partitions and the publication among random rows, with trem running or not: in the
//! end every table is equal or suspended, and nothing has stopped the task. `TREM_SEED` replays one world, `TREM_SEEDS`
//! says how many there are.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use trem_tests::binaries::PgBinaries;
use trem_tests::{Db, PgCluster, PgOptions, TaskConfig, Trem};

use crate::{PATIENCE, seed};

/// Worlds at a time.
const AT_ONCE: usize = 4;
const SCHEMA: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN low AS mood;
    CREATE TYPE pair AS (m mood, n int); CREATE TYPE ring AS (p pair[], l low);
    CREATE TABLE a (id int PRIMARY KEY, v int, w int, s text, m mood);
    CREATE TABLE b (id int PRIMARY KEY, s text, r ring, p pair[]);
    CREATE TABLE f (id int, v int, g int GENERATED ALWAYS AS (id * 2) STORED); ALTER TABLE f REPLICA IDENTITY FULL;
    CREATE TABLE pm (id int PRIMARY KEY, v int, s text) PARTITION BY RANGE (id);
    CREATE TABLE pm0 PARTITION OF pm FOR VALUES FROM (0) TO (20);
    CREATE TABLE pm1 PARTITION OF pm FOR VALUES FROM (20) TO (40) PARTITION BY RANGE (id);
    CREATE TABLE pm1a PARTITION OF pm1 FOR VALUES FROM (20) TO (30);
    CREATE TABLE loose (id int PRIMARY KEY, v int, s text);
    INSERT INTO a SELECT i, i, -i, 's' || i, 'ok' FROM generate_series(0, 30, 3) i;
    INSERT INTO b SELECT i, 'b', ROW(ARRAY[ROW('sad', i)::pair], 'ok')::ring FROM generate_series(0, 30, 3) i;
    INSERT INTO f SELECT i, i FROM generate_series(0, 30, 3) i;
    INSERT INTO pm SELECT i, i, 'p' || i FROM generate_series(0, 29, 3) i;
    INSERT INTO loose SELECT i, i, 'l' || i FROM generate_series(40, 59, 3) i;";
/// Tables of users that are no partitions.
const ROOTS: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace \
    AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1";
const PARTITIONED: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace \
    AND relkind = 'p' ORDER BY 1";
const PARTITIONS: &str = "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits \
    JOIN pg_class ON pg_class.oid = inhrelid WHERE relkind IN ('r', 'p') ORDER BY 1";

struct Source<'a> {
    db: &'a Db,
    /// The target's types have to have a label before the source's.
    target: &'a Db,
    random: StdRng,
    task: String,
    /// The server has virtual generated columns.
    computes: bool,
    /// The next number for what needs a name.
    next: u32,
    /// What has been done.
    done: Vec<String>,
}

impl Source<'_> {
    fn below(&mut self, n: u32) -> u32 {
        self.random.random_range(0..n)
    }

    fn one_of<'b>(&mut self, all: &[&'b str]) -> &'b str {
        all.choose(&mut self.random).copied().unwrap_or_default()
    }

    fn name(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    /// A row of what a query finds.
    async fn pick(&mut self, sql: &str) -> Option<Vec<String>> {
        let rows = self.db.rows(sql).await;
        let row = rows.choose(&mut self.random)?;
        Some(row.iter().map(|v| v.clone().unwrap_or_default()).collect())
    }

    async fn table(&mut self) -> Option<String> {
        Some(self.pick(ROOTS).await?.swap_remove(0))
    }

    /// Of a table: a column that is no key, its type, and whether it is computed.
    async fn column(&mut self, table: &str) -> Option<(String, String, bool)> {
        let sql = format!(
            "SELECT attname::text, format_type(atttypid, atttypmod), (attgenerated <> '')::text FROM pg_attribute \
             WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'id' ORDER BY 1"
        );
        let row = self.pick(&sql).await?;
        Some((row[0].clone(), row[1].clone(), row[2] == "true"))
    }

    /// Statements, each a transaction; what the server refuses is a workload as well.
    async fn run(&mut self, statements: &[String]) {
        for statement in statements {
            if statement.contains("ADD VALUE") {
                let _ = self.target.try_exec(statement).await;
            }
            let ended = self.db.try_exec(statement).await;
            let _ = self.db.try_exec("ROLLBACK").await;
            self.done.push(format!("{statement}{}", ended.err().map_or(String::new(), |e| format!("  -- {e}"))));
        }
    }

    async fn rows(&mut self) {
        let Some(table) = self.table().await else { return };
        let statement = self.row_of(&table).await;
        self.run(&[statement]).await;
    }

    async fn row_of(&mut self, table: &str) -> String {
        let (id, n) = (self.below(60), self.below(7) + 2);
        match self.below(10) {
            0..4 => format!("INSERT INTO {table} (id) VALUES ({id})"),
            4..7 => match self.column(table).await {
                Some((column, ty, false)) => {
                    let value = self.value(&ty);
                    format!("UPDATE {table} SET {column} = {value} WHERE id % {n} = 0")
                }
                _ => format!("UPDATE {table} SET id = id + 1 WHERE id = {id}"),
            },
            7 => format!("UPDATE {table} SET id = {id} WHERE id = (SELECT min(id) FROM {table})"),
            8 => format!("DELETE FROM {table} WHERE id % {n} = 1"),
            _ => format!("BEGIN; INSERT INTO {table} (id) VALUES ({id}); DELETE FROM {table} WHERE id < 5; COMMIT"),
        }
    }

    fn value(&mut self, ty: &str) -> String {
        let n = self.below(100);
        match ty {
            "integer" | "bigint" => n.to_string(),
            "text" => format!("'text {n}'"),
            "mood" | "low" => "(SELECT min(e) FROM unnest(enum_range(NULL::mood)) e)".to_owned(),
            _ => "NULL".to_owned(),
        }
    }

    /// Something that the log says little or nothing of.
    async fn change(&mut self) {
        let statements = match self.below(20) {
            0..8 => self.columns().await,
            8..10 => self.types(),
            10..15 => self.partitions().await,
            15..18 => self.tables().await,
            _ => self.publication().await,
        };
        self.run(&statements.unwrap_or_default()).await;
    }

    async fn columns(&mut self) -> Option<Vec<String>> {
        let table = self.table().await?;
        let (column, ty, computed) = self.column(&table).await?;
        let alter = format!("ALTER TABLE {table}");
        let n = self.below(100);
        let row = self.row_of(&table).await;
        let default = match self.below(4) {
            0 => String::new(),
            1 => " DEFAULT 7".to_owned(),
            2 => " DEFAULT (random() * 100)::int".to_owned(),
            _ => " DEFAULT 5 NOT NULL".to_owned(),
        };
        Some(match self.below(12) {
            0..2 => vec![format!("{alter} ADD {} int{default}", self.name("c"))],
            2 => {
                let (name, virt) = (self.name("g"), self.computes && self.below(2) == 0);
                let kind = if virt { "VIRTUAL" } else { "STORED" };
                vec![format!("{alter} ADD {name} text GENERATED ALWAYS AS (id::text) {kind}")]
            }
            3 => vec![format!("{alter} DROP {column}")],
            4 => vec![format!("{alter} DROP {column}, ADD {column} {ty}")],
            5 => vec![format!("{alter} DROP {column}"), row, format!("{alter} ADD {column} int{default}")],
            6 => {
                let (other, new) = (self.column(&table).await?.0, self.name("n"));
                vec![format!(
                    "BEGIN; {alter} RENAME {column} TO {new}; {alter} RENAME {other} TO {column}; \
                     {alter} RENAME {new} TO {other}; COMMIT"
                )]
            }
            7 if computed => vec![format!("{alter} ALTER {column} DROP EXPRESSION")],
            7 => vec![format!("{alter} RENAME {column} TO {}", self.name("n"))],
            8 if ty == "integer" => vec![format!("{alter} ALTER {column} TYPE int USING {column} + 1")],
            8 if ty == "text" => vec![format!("{alter} ALTER {column} TYPE text USING upper({column})")],
            9 if ty == "integer" => vec![format!("{alter} ALTER {column} TYPE bigint")],
            8..10 => vec![format!("{alter} ALTER {column} DROP NOT NULL")],
            10 if ty == "integer" => vec![format!("{alter} ALTER {column} SET DEFAULT {n}")],
            10 => vec![format!("{alter} ALTER {column} DROP DEFAULT")],
            _ => vec![format!("VACUUM FULL {table}")],
        })
    }

    fn types(&mut self) -> Option<Vec<String>> {
        let name = self.name("x");
        Some(match self.below(6) {
            0 | 1 => vec![format!("ALTER TYPE mood ADD VALUE '{name}'")],
            2 => vec![format!("ALTER TYPE mood RENAME VALUE '{}' TO '{name}'", self.one_of(&["sad", "ok"]))],
            3 => vec![format!("ALTER TYPE pair ADD ATTRIBUTE {name} int")],
            4 => vec!["ALTER TYPE pair DROP ATTRIBUTE n".to_owned()],
            _ => vec![format!("ALTER TYPE pair RENAME ATTRIBUTE n TO {name}")],
        })
    }

    async fn partitions(&mut self) -> Option<Vec<String>> {
        let table = self.pick(PARTITIONED).await?.swap_remove(0);
        let (name, from) = (self.name("p"), self.below(6) * 10);
        let bounds = format!("FOR VALUES FROM ({from}) TO ({})", from + 10);
        let by = if self.below(4) == 0 { " PARTITION BY RANGE (id)" } else { "" };
        let some = self.pick(PARTITIONS).await;
        let like = format!("CREATE TABLE {name} (LIKE {table})");
        let fill = format!("INSERT INTO {name} (id) VALUES ({from}), ({})", from + 3);
        let attach = format!("ALTER TABLE {table} ATTACH PARTITION {name} {bounds}");
        Some(match (self.below(9), some) {
            (0 | 1, _) => vec![format!("CREATE TABLE {name} PARTITION OF {table} {bounds}{by}")],
            (2, _) => vec![like, fill, attach],
            (3, _) => vec![format!("BEGIN; {like}; {fill}; {attach}; COMMIT")],
            (4, _) => {
                let loose = self.table().await?;
                vec![format!("ALTER TABLE {table} ATTACH PARTITION {loose} FOR VALUES FROM (0) TO (100)")]
            }
            (5, Some(part)) => {
                let mut away = vec![format!("ALTER TABLE {} DETACH PARTITION {}", part[1], part[0])];
                if self.below(2) == 0 {
                    away.push(self.row_of(&part[0]).await);
                    away.push(format!("ALTER TABLE {} ATTACH PARTITION {} {bounds}", part[1], part[0]));
                }
                away
            }
            (6, Some(part)) => vec![format!("DROP TABLE {}", part[0])],
            (7, Some(part)) => vec![format!("TRUNCATE {}", part[0])],
            _ => vec![format!("TRUNCATE {table}")],
        })
    }

    async fn tables(&mut self) -> Option<Vec<String>> {
        let (table, other) = (self.table().await?, self.table().await?);
        let name = self.name("t");
        let row = self.row_of(&table).await;
        Some(match self.below(10) {
            0 => vec![format!("ALTER TABLE {table} RENAME TO {name}")],
            1 => vec![
                format!("ALTER TABLE {table} RENAME TO {name}"),
                format!("INSERT INTO {name} (id) VALUES (55)"),
                format!("ALTER TABLE {name} RENAME TO {table}"),
            ],
            2 => vec![format!(
                "BEGIN; ALTER TABLE {table} RENAME TO {name}; ALTER TABLE {other} RENAME TO {table}; \
                 ALTER TABLE {name} RENAME TO {other}; COMMIT"
            )],
            3 => vec![format!("DROP TABLE {table}")],
            4 => vec![
                format!("CREATE TABLE {name} (id int PRIMARY KEY, v int)"),
                format!("INSERT INTO {name} VALUES (1, 1)"),
            ],
            5 => vec![format!("ALTER TABLE {table} REPLICA IDENTITY {}", self.one_of(&["FULL", "DEFAULT"]))],
            6 => vec![format!("ALTER TABLE {table} DROP CONSTRAINT {table}_pkey"), row],
            7 => vec![format!("ALTER TABLE {table} ADD PRIMARY KEY (id)"), row],
            8 => vec![format!("TRUNCATE {table}"), row],
            _ => vec![format!("GRANT SELECT ON {table} TO public"), format!("ANALYZE {table}")],
        })
    }

    async fn publication(&mut self) -> Option<Vec<String>> {
        let (table, publication) = (self.table().await?, format!("trem_{}", self.task));
        let row = self.row_of(&table).await;
        let away = format!("ALTER PUBLICATION {publication} DROP TABLE {table}");
        Some(match self.below(3) {
            0 => vec![away, row],
            1 => vec![away, row, format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {table}")],
            _ => vec![away, format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {table} WHERE (id < 30)"), row],
        })
    }

    /// The log tells of a new column with the next change only.
    async fn last_words(&mut self) {
        for row in self.db.rows(ROOTS).await {
            let table = row[0].clone().unwrap_or_default();
            self.run(&[
                format!("INSERT INTO {table} (id) SELECT coalesce(max(id), 0) + 1 FROM {table}"),
                format!("DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})"),
            ])
            .await;
        }
    }
}

/// Every table that is called ready is equal.
async fn compare(trem: &Trem, source: &Db, target: &Db) -> Vec<String> {
    let status = trem.command(&["status", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    let mut faults = Vec::new();
    let tables = json.pointer("/0/tables").or_else(|| json.pointer("/tasks/0/tables")).and_then(|t| t.as_array());
    let Some(tables) = tables else { return vec![format!("no tables in {status}")] };
    for table in tables {
        let (name, state) = (table["name"].as_str().unwrap_or_default(), table["state"].as_str().unwrap_or_default());
        match state {
            "suspended" => {}
            "ready" => faults.extend(difference(source, target, name).await),
            other => faults.push(format!("{name} is {other}")),
        }
    }
    faults
}

/// Columns that the source computes and the target lacks are none of its rows.
async fn difference(source: &Db, target: &Db, name: &str) -> Option<String> {
    let columns = |generated: &str| {
        format!(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = to_regclass('{name}') AND attnum > 0 \
             AND NOT attisdropped {generated} ORDER BY 1"
        )
    };
    let of = async |db: &Db, filter: &str| -> Vec<String> {
        db.rows(&columns(filter)).await.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect()
    };
    let there = of(target, "").await;
    let mut all = of(source, "AND attgenerated = ''").await;
    all.extend(of(source, "AND attgenerated <> ''").await.into_iter().filter(|c| there.contains(c)));
    let sql = format!("SELECT ROW({})::text FROM {name} ORDER BY 1", all.join(", "));
    let (theirs, ours) = (source.try_rows(&sql).await, target.try_rows(&sql).await);
    (theirs.is_err() || theirs != ours).then(|| format!("{name}:\n  source {theirs:?}\n  target {ours:?}"))
}

async fn random_world(seed: u64, cluster: Arc<PgCluster>) -> Result<(), String> {
    let task = format!("w{seed}");
    let (from, to) = (format!("shop{seed}"), format!("reports{seed}"));
    let (source, target) = (cluster.create_database(&from).await, cluster.create_database(&to).await);
    let config = TaskConfig { name: task.clone(), ..TaskConfig::new(cluster.url(&from), cluster.url(&to)) };
    let trem = Trem::new(&config);
    source.exec(SCHEMA).await;
    trem.until_current().expect(0);
    let random = StdRng::seed_from_u64(seed);
    let computes = source.number("SHOW server_version_num").await >= 180_000;
    let mut world = Source { db: &source, target: &target, random, task, computes, next: 0, done: Vec::new() };
    let mut log = String::new();
    for _ in 0..world.random.random_range(1..4) {
        let running = (world.below(2) == 0).then(|| trem.start());
        world.done.push(format!("-- trem is {}", if running.is_some() { "running" } else { "stopped" }));
        for _ in 0..world.random.random_range(1..5) {
            for _ in 0..world.below(4) {
                world.rows().await;
            }
            world.change().await;
            world.rows().await;
            if running.is_some() {
                tokio::time::sleep(Duration::from_millis(u64::from(world.below(4)) * 150)).await;
            }
        }
        if let Some(mut running) = running {
            let pause = u64::from(world.below(3)) * 600;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if let Some(ended) = running.ended() {
                return Err(format!("trem ended with {ended:?}\n{}\n{}", world.done.join("\n"), running.log_tail()));
            }
            let kill = world.below(2) == 0;
            log += &if kill { running.kill() } else { running.stop(PATIENCE).stderr };
        }
    }
    world.last_words().await;
    let ended = trem.until_current();
    let mut faults = compare(&trem, &source, &target).await;
    if !matches!(ended.code, Some(0 | 3)) {
        faults.push(format!("trem ended with {:?}", ended.code));
    }
    if faults.is_empty() {
        return Ok(());
    }
    log += &ended.stderr;
    Err(format!("{}\n{}\n{}\n{log}", faults.join("\n"), world.done.join("\n"), trem.command(&["status"]).stdout))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ready_means_equal() {
    let first = seed() % 1_000_000_000;
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let worlds = if number("TREM_SEED").is_some() { 1 } else { number("TREM_SEEDS").unwrap_or(24) };
    // By turns on the oldest and the newest server that this machine has.
    let newest = PgBinaries::newest().map(|binaries| PgOptions { binaries, ..PgOptions::default() });
    let options = std::iter::once(PgOptions::default()).chain(newest);
    let clusters: Vec<_> = options.map(|o| Arc::new(PgCluster::start(o))).collect();
    let of = |seed: u64| Arc::clone(&clusters[seed as usize % clusters.len()]);
    let (mut seeds, mut running, mut faults) = (first..first + worlds, JoinSet::new(), Vec::new());
    loop {
        while running.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            let cluster = of(seed);
            running.spawn(async move { (seed, random_world(seed, cluster).await) });
        }
        let Some(ended) = running.join_next().await else { break };
        let (seed, ended) = ended.expect("a world");
        faults.extend(ended.err().map(|fault| format!("TREM_SEED={seed}\n{fault}")));
        forget(seed, &of(seed)).await;
    }
    assert!(faults.is_empty(), "{} of {worlds} worlds:\n{}", faults.len(), faults.join("\n\n"));
}

/// Makes room for the next world: slots belong to the whole server.
async fn forget(seed: u64, cluster: &PgCluster) {
    let db = cluster.connect("postgres").await;
    db.exec(&format!("DROP DATABASE reports{seed} WITH (FORCE)")).await;
    let slot = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'trem_w{seed}'"
    );
    db.wait_for(
        &format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'trem_w{seed}' AND active"),
        "0",
        PATIENCE,
    )
    .await;
    db.exec(&slot).await;
    db.exec(&format!("DROP DATABASE shop{seed} WITH (FORCE)")).await;
}
