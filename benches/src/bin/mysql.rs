//! trem against what a user of MariaDB would pick instead, on the same servers, in one run, turn about: a pipe of text
//! into LOAD DATA or COPY for the load, the server's own replica with two parallel threads for the changes. A step
//! after which the sides differ gives no figure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use trem_benches::machine;
use trem_benches::process::{LOOK, PATIENCE, Program, Running};
use trem_tests::binaries::root;
use trem_tests::{Db, MariaCluster, My, PgCluster, PgOptions, TaskConfig};

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows of the table.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Transactions of a backlog, of a hundred changes each.
    #[arg(long, default_value_t = 6_000)]
    transactions: u64,
}

/// What commits is on the disk, and the table in memory.
const OPTIONS: &[&str] = &[
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=1G",
    "--innodb-log-file-size=1G",
    "--slave-parallel-threads=2",
    "--slave-parallel-mode=optimistic",
];

const COLUMNS: &str = "id INT PRIMARY KEY, a INT, b BIGINT, c DECIMAL(12,2), d DATETIME, e VARCHAR(50), \
    f VARCHAR(100), g DOUBLE";
const PG_COLUMNS: &str = "id INT PRIMARY KEY, a INT, b BIGINT, c NUMERIC(12,2), d TIMESTAMP, e VARCHAR(50), \
    f VARCHAR(100), g DOUBLE PRECISION";

/// What is the same on both sides only if all rows are.
const SUM: &str = "SELECT count(*), sum(id), sum(a), sum(c) FROM shop.t";
const HOT_SUM: &str = "SELECT count(*), sum(n) FROM shop.h";

/// The servers of one round.
struct Servers {
    source: MariaCluster,
    my: My,
    target: MariaCluster,
    target_my: My,
    _replica: MariaCluster,
    replica_my: My,
    postgres: PgCluster,
    pg: Db,
    folder: tempfile::TempDir,
    trem: PathBuf,
}

/// One measured step.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wall: Duration,
    used: Program,
}

impl Servers {
    async fn start(trem: &Path, arguments: &Arguments) -> Self {
        let [source, target, replica] =
            ["101", "102", "103"].map(|id| MariaCluster::start(&[OPTIONS, &[&format!("--server-id={id}")]].concat()));
        let postgres = PgCluster::start(PgOptions::default());
        let pg = postgres.create_database("reports").await;
        let my = source.connect().await;
        my.exec(&format!("CREATE DATABASE shop; USE shop; CREATE TABLE shop.t ({COLUMNS})")).await;
        my.exec("CREATE TABLE shop.h (id INT PRIMARY KEY, n INT, v VARCHAR(40))").await;
        my.exec("INSERT INTO shop.h SELECT seq, 0, 'x' FROM seq_1_to_1000").await;
        my.exec(&format!(
            "INSERT INTO shop.t SELECT seq, seq * 7 % 1000003, seq * 1000003, seq / 7, \
             '2024-01-01' + INTERVAL seq SECOND, concat('name ', seq), repeat(char(97 + seq % 26), 20 + seq % 60), \
             seq / 3 FROM seq_1_to_{}",
            arguments.rows
        ))
        .await;
        let folder = tempfile::tempdir().expect("a folder");
        let (target_my, replica_my) = (target.connect().await, replica.connect().await);
        Self {
            source,
            my,
            target,
            target_my,
            _replica: replica,
            replica_my,
            postgres,
            pg,
            folder,
            trem: trem.to_owned(),
        }
    }

    /// A run of trem to where the source is now.
    async fn trem(&self, name: &str, target: String) -> Cost {
        let mut config = TaskConfig::new(self.source.url(), target);
        (config.name, config.include) = (name.to_owned(), vec!["shop.*".to_owned()]);
        let file = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, config.toml()).expect("a configuration");
        let mut command = Command::new(&self.trem);
        command.arg("run").arg(&file).arg("--until-current").stdout(Stdio::null());
        let since = Instant::now();
        let running = Running::start(&mut command, &self.folder.path().join("trem.log"));
        let used = running.wait().expect("trem");
        Cost { wall: since.elapsed(), used }
    }

    async fn to_maria(&self) -> Cost {
        self.trem("maria", self.target.url()).await
    }

    async fn to_postgres(&self) -> Cost {
        self.trem("postgres", self.postgres.url("reports")).await
    }

    /// All rows as text, from one client into another.
    fn pipe(&self, select: &str, mut into: Command) -> Cost {
        let since = Instant::now();
        let mut read = self.source.client();
        read.args(["--quick", "--skip-column-names", "--batch", "--execute", select]).stdout(Stdio::piped());
        let mut reading = read.spawn().expect("the client");
        into.stdin(reading.stdout.take().expect("its rows")).stdout(Stdio::null());
        assert!(into.status().expect("the other client").success());
        assert!(reading.wait().expect("the client").success());
        Cost { wall: since.elapsed(), used: Program::default() }
    }

    async fn pipe_to_maria(&self) -> Cost {
        self.target_my.exec(&format!("CREATE DATABASE pipe; CREATE TABLE pipe.t ({COLUMNS})")).await;
        let mut into = self.target.client();
        let load = "SET unique_checks = 0, foreign_key_checks = 0; \
                    LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE pipe.t";
        into.args(["--execute", load]);
        let cost = self.pipe("SELECT * FROM shop.t", into);
        self.target_my.exec("DROP DATABASE pipe").await;
        cost
    }

    async fn pipe_to_postgres(&self) -> Cost {
        self.pg.exec(&format!("CREATE SCHEMA pipe; CREATE TABLE pipe.t ({PG_COLUMNS})")).await;
        let mut into = Command::new("psql");
        into.arg("-qX").arg(self.postgres.url("reports"));
        into.args(["-c", "COPY pipe.t FROM STDIN WITH (FREEZE false, NULL 'NULL')"]);
        let cost = self.pipe("SELECT * FROM shop.t", into);
        self.pg.exec("DROP SCHEMA pipe CASCADE").await;
        cost
    }

    /// Fails unless both targets, and the replica if it is asked too, have what the source has.
    async fn same(&self, sum: &str, replica: bool) {
        let wanted = self.my.rows(sum).await;
        assert_eq!(self.target_my.rows(sum).await, wanted, "MariaDB");
        assert_eq!(self.pg.rows(sum).await, wanted, "PostgreSQL");
        if replica {
            assert_eq!(self.replica_my.rows(sum).await, wanted, "the replica");
        }
    }

    /// The replica brought to where the source is now.
    async fn follow(&self) -> Cost {
        let end = self.my.rows("SELECT @@gtid_binlog_pos").await.remove(0).remove(0).unwrap();
        let since = Instant::now();
        self.replica_my.exec("START SLAVE").await;
        let done = format!("SELECT MASTER_GTID_WAIT('{end}', 0)");
        while self.replica_my.rows(&done).await[0][0].as_deref() != Some("0") {
            assert!(since.elapsed() < PATIENCE, "{:?}", self.replica_my.rows("SHOW SLAVE STATUS").await);
            tokio::time::sleep(LOOK).await;
        }
        let cost = Cost { wall: since.elapsed(), used: Program::default() };
        self.replica_my.exec("STOP SLAVE").await;
        cost
    }

    /// Transactions of thirty inserts, fifty-five updates and fifteen deletes here and there.
    async fn mix(&self, arguments: &Arguments) {
        let rows = arguments.rows;
        for n in 0..arguments.transactions {
            let (new, here) = (rows + n * 30, n * 7919 % (rows - 1000));
            self.my
                .exec(&format!(
                    "BEGIN; INSERT INTO shop.t SELECT {new} + seq, 1, 2, 3.5, '2024-01-01', 'new', 'text', 0.5 \
                     FROM seq_1_to_30; \
                     UPDATE shop.t SET a = a + 1, e = 'changed' WHERE id BETWEEN {here} + 1 AND {here} + 55; \
                     DELETE FROM shop.t WHERE id BETWEEN {here} + 900 AND {here} + 914; COMMIT"
                ))
                .await;
        }
    }

    /// Transactions of a hundred updates of a few rows.
    async fn hot(&self, arguments: &Arguments) {
        for n in 0..arguments.transactions {
            let here = n * 37 % 900;
            let change = format!("UPDATE shop.h SET n = n + 1 WHERE id BETWEEN {here} + 1 AND {here} + 100");
            self.my.exec(&change).await;
        }
    }
}

/// What is compared: the rival's cost, and trem's.
#[derive(Default)]
struct Case {
    name: &'static str,
    rival: &'static str,
    /// What the rate counts.
    count: u64,
    /// The ratio that is wanted.
    mark: f64,
    costs: Vec<(Cost, Cost)>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Case {
    fn line(&self) -> String {
        let rate = |of: &dyn Fn(&(Cost, Cost)) -> Cost| {
            median(self.costs.iter().map(|c| self.count as f64 / of(c).wall.as_secs_f64()).collect())
        };
        let ratio = median(self.costs.iter().map(|(r, t)| r.wall.as_secs_f64() / t.wall.as_secs_f64()).collect());
        let cpu = median(self.costs.iter().map(|c| c.1.used.cpu.as_secs_f64() * 1e6 / self.count as f64).collect());
        let peak = self.costs.iter().map(|c| c.1.used.peak_kib / 1024).max().unwrap_or_default();
        let (rival, trem) = (rate(&|c| c.0), rate(&|c| c.1));
        format!(
            "| {} | {} | {rival:.0} | {trem:.0} | {ratio:.2} | {:.1} | {cpu:.2} | {peak} |\n",
            self.name, self.rival, self.mark
        )
    }
}

async fn round(trem: &Path, arguments: &Arguments, cases: &mut [Case], number: usize) {
    let servers = Servers::start(trem, arguments).await;
    let rival_first = number.is_multiple_of(2);
    let mut loads = Vec::new();
    for rival in [rival_first, !rival_first] {
        loads.push(match rival {
            true => (servers.pipe_to_maria().await, servers.pipe_to_postgres().await),
            false => (servers.to_maria().await, servers.to_postgres().await),
        });
    }
    servers.same(SUM, false).await;
    if !rival_first {
        loads.swap(0, 1);
    }
    cases[0].costs.push((loads[0].0, loads[1].0));
    cases[1].costs.push((loads[0].1, loads[1].1));
    servers.replica_my.exec(&servers.source.change_master()).await;
    servers.follow().await;
    for (hot, sum) in [(false, SUM), (true, HOT_SUM)] {
        match hot {
            false => servers.mix(arguments).await,
            true => servers.hot(arguments).await,
        }
        let before = if rival_first { Some(servers.follow().await) } else { None };
        let (maria, postgres) = (servers.to_maria().await, servers.to_postgres().await);
        let replica = match before {
            Some(cost) => cost,
            None => servers.follow().await,
        };
        servers.same(sum, true).await;
        let at = if hot { 4 } else { 2 };
        cases[at].costs.push((replica, maria));
        cases[at + 1].costs.push((replica, postgres));
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let trem = machine::trem();
    let (rows, changes) = (arguments.rows, arguments.transactions * 100);
    let case = |name, rival, count, mark| Case { name, rival, count, mark, costs: Vec::new() };
    let mut cases = [
        case("load, MariaDB to MariaDB", "pipe into LOAD DATA", rows, 1.0),
        case("load, MariaDB to PostgreSQL", "pipe into COPY", rows, 0.7),
        case("mix, MariaDB to MariaDB", "replica, two threads", changes, 1.5),
        case("mix, MariaDB to PostgreSQL", "replica, two threads", changes, 3.0),
        case("hot keys, MariaDB to MariaDB", "replica, two threads", changes, 3.0),
        case("hot keys, MariaDB to PostgreSQL", "replica, two threads", changes, 3.0),
    ];
    for number in 0..arguments.rounds {
        round(&trem, &arguments, &mut cases, number).await;
    }
    let mut out = String::from(
        "# MariaDB: trem against what a user would pick instead\n\nThe same servers on one machine, in one run, turn \
         about; after each step all sides are compared. trem's time is that of the whole process, from its start to \
         its end, of which its connections and the state of the task are some tenths of a second.\n\n",
    );
    for (fact, value) in machine::facts() {
        out.push_str(&format!("- {fact}: {value}\n"));
    }
    out.push_str(&format!("- rounds: {}, rows: {rows}, changes: {changes}; medians\n\n", arguments.rounds));
    out.push_str(
        "| | rival | rival, a second | trem, a second | ratio | wanted | trem's us each | trem's peak MiB |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|---|\n");
    cases.iter().for_each(|case| out.push_str(&case.line()));
    println!("{out}");
    std::fs::write(root().join("benches/results/mysql.md"), out).expect("the results are written");
}
