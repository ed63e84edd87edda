//! Remedies help: in each of these worlds something stands against the task, and the very statement that the remedy
//! names, run at the end that it names, lets the task go on.

use std::process::Command;

use serde_json::Value;
use trem_tests::binaries::trem;
use trem_tests::{Db, PgCluster, PgOptions, TaskConfig, Trem, compare};

/// A world in which the task is refused before it starts.
#[derive(Clone, Copy, Default)]
struct Refused {
    /// What stands against it, in the words of the finding.
    says: &'static str,
    /// Statements at the source, by a superuser.
    source: &'static str,
    /// Statements on the target, by a superuser.
    target: &'static str,
    /// The role that trem has at the source; a superuser unless named. Made here, with LOGIN alone.
    reads_as: Option<&'static str>,
    /// The role that trem has on the target.
    writes_as: Option<&'static str>,
    /// Keys of the task.
    keys: &'static [&'static str],
}

/// A world in which a table is suspended while it is followed.
#[derive(Clone, Copy, Default)]
struct Suspended {
    says: &'static str,
    source: &'static str,
    target: &'static str,
    /// At the source, once the task has begun; what stands before ` | ` commits first.
    change: &'static str,
}

/// One world: its databases, its task.
struct World {
    source: Db,
    target: Db,
    trem: Trem,
}

impl World {
    async fn new(cluster: &PgCluster, name: &str, case: &Refused) -> Self {
        let (from, to) = (format!("{name}_from"), format!("{name}_to"));
        let (source, target) = (cluster.create_database(&from).await, cluster.create_database(&to).await);
        // Roles belong to the server, and what one is granted here is not for the next world.
        let own = |role: &str| format!("{role} {name}");
        if let Some(role) = case.reads_as.or(case.writes_as) {
            source.exec(&format!("CREATE ROLE \"{}\" LOGIN", own(role))).await;
        }
        let role = case.reads_as.or(case.writes_as).map_or_else(String::new, |role| format!("\"{}\"", own(role)));
        source.exec(&case.source.replace("{db}", &from).replace("{role}", &role)).await;
        target.exec(&case.target.replace("{db}", &to).replace("{role}", &role)).await;
        let url = |role: Option<&str>, database: &str| match role {
            Some(role) => {
                format!("postgres://{}@127.0.0.1:{}/{database}", own(role).replace(' ', "%20"), cluster.port())
            }
            None => cluster.url(database),
        };
        let mut config = TaskConfig::new(url(case.reads_as, &from), url(case.writes_as, &to));
        config.name = name.to_owned();
        config.include = vec!["*.*".to_owned()];
        config.exclude = vec!["hidden.*".to_owned()];
        config.keys = case.keys.iter().map(|&k| k.to_owned()).collect();
        Self { source, target, trem: Trem::new(&config) }
    }

    /// Runs one way of a remedy, commands included.
    async fn follow(&self, remedy: &str) {
        let mut parts = remedy.split('`');
        let mut done = 0;
        parts.next();
        while let (Some(code), Some(behind)) = (parts.next(), parts.next()) {
            done += 1;
            match behind {
                _ if code.starts_with("trem ") => shell(code),
                b if b.starts_with(" at the source") => self.source.exec(code).await,
                b if b.starts_with(" at the target") => self.target.exec(code).await,
                _ => panic!("which end is `{code}` for? {remedy}"),
            }
        }
        assert!(done > 0, "no statement in: {remedy}");
    }
}

fn shell(command: &str) {
    let path = format!("{}:{}", trem().parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let done = Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Each way to follow a remedy that is a statement or a command from its first step to its last: one in plain words is
/// for somebody who thinks.
fn ways(remedy: &str) -> Vec<String> {
    let mut all = Vec::new();
    for alternative in remedy.split("; or ") {
        let mut ways = vec![String::new()];
        for step in alternative.split("; then ") {
            let choices = || step.split(", or ").filter(|choice| choice.contains('`'));
            ways = ways.iter().flat_map(|way| choices().map(move |choice| format!("{way}{choice}; "))).collect();
        }
        all.extend(ways);
    }
    all
}

/// The remedies of all findings that refuse the task.
fn refusals(plan: &str) -> Vec<(String, String)> {
    let plan: Value = serde_json::from_str(plan).unwrap_or_else(|e| panic!("{e}: {plan}"));
    let task = &plan["tasks"][0];
    let tables = task["tables"].as_array().unwrap().iter().flat_map(|t| t["findings"].as_array().unwrap());
    let findings = task["findings"].as_array().unwrap().iter().chain(tables);
    let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_owned();
    let errors = findings.filter(|f| f["severity"] == "error");
    errors.map(|f| (format!("{}: {}", text(f, "subject"), text(f, "message")), text(f, "remedy"))).collect()
}

fn cluster() -> PgCluster {
    PgCluster::start(PgOptions::default().conf("max_replication_slots=60").conf("max_wal_senders=60"))
}

/// `{db}` stands for the database, `{role}` for the role.
const REFUSED: &[Refused] = &[
    Refused { says: "no primary key", source: "CREATE TABLE t (a int); INSERT INTO t VALUES (1)", ..NO },
    Refused {
        says: "deferrable primary key",
        source: "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, \"C\" int NOT NULL); INSERT INTO t VALUES (1, 1); \
                 CREATE UNIQUE INDEX \"an index\" ON t (\"C\")",
        ..NO
    },
    Refused {
        says: "REPLICA IDENTITY NOTHING",
        source: "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (1)",
        ..NO
    },
    Refused {
        says: "partition whose replica identity is not that",
        source: "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); ALTER TABLE t REPLICA IDENTITY FULL; \
                 CREATE TABLE \"Part 1\" PARTITION OF t FOR VALUES FROM (0) TO (9); INSERT INTO t VALUES (1)",
        ..NO
    },
    Refused {
        says: "partition whose replica identity is not that",
        source: "CREATE TABLE t (id int, c int NOT NULL) PARTITION BY RANGE (c); CREATE UNIQUE INDEX i ON t (c); \
                 CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9); INSERT INTO t VALUES (1, 1); \
                 ALTER TABLE t REPLICA IDENTITY USING INDEX i",
        ..NO
    },
    Refused {
        says: "may not replicate",
        source: "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO {role}; \
                 GRANT CREATE ON DATABASE {db} TO {role}",
        reads_as: Some("reads1"),
        ..NO
    },
    Refused {
        says: "may not create publications",
        source: "ALTER ROLE {role} REPLICATION; CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO {role}",
        reads_as: Some("Reads 2"),
        ..NO
    },
    Refused {
        says: "may not be read",
        source: "ALTER ROLE {role} REPLICATION; GRANT CREATE ON DATABASE {db} TO {role}; CREATE ROLE owner3_{db}; \
                 CREATE SCHEMA \"S x\"; CREATE TABLE \"S x\".t (id int PRIMARY KEY); \
                 ALTER TABLE \"S x\".t OWNER TO owner3_{db}",
        reads_as: Some("reads3"),
        ..NO
    },
    Refused {
        says: "row-level security",
        source: "ALTER ROLE {role} REPLICATION; GRANT CREATE ON DATABASE {db} TO {role}; \
                 CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO {role}; \
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY",
        reads_as: Some("reads4"),
        ..NO
    },
    Refused {
        says: "may not create schemas",
        source: "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1); \
                 CREATE TABLE u (id int PRIMARY KEY)",
        writes_as: Some("writes1"),
        ..NO
    },
    Refused {
        says: "may not create temporary tables",
        source: "CREATE TABLE t (id int PRIMARY KEY)",
        target: "REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC; GRANT CREATE ON DATABASE {db} TO {role}; \
                 GRANT ALL ON SCHEMA public TO {role}",
        writes_as: Some("writes2"),
        ..NO
    },
    Refused {
        says: "may not INSERT",
        source: "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        target: "CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO {role}; \
                 GRANT CREATE ON DATABASE {db} TO {role}",
        writes_as: Some("Writes 3"),
        ..NO
    },
    Refused {
        says: "only its owner can create it anew",
        source: "CREATE TABLE t (id int PRIMARY KEY)",
        target: "CREATE TABLE t (x int); GRANT ALL ON t TO {role}; GRANT CREATE ON DATABASE {db} TO {role}; \
                 GRANT ALL ON SCHEMA public TO {role}",
        writes_as: Some("writes4"),
        keys: &["on-existing = \"recreate\""],
        ..NO
    },
    Refused {
        says: "a row is deleted",
        source: "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        target: "CREATE TABLE t (id int PRIMARY KEY); GRANT CREATE ON DATABASE {db} TO {role}; \
                 GRANT ALL ON SCHEMA public TO {role}; \
                 CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return old; end'; \
                 CREATE TRIGGER \"On delete\" BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f(); \
                 ALTER TABLE t OWNER TO {role}",
        writes_as: Some("writes5"),
        ..NO
    },
    Refused {
        says: "lacks this column",
        source: "CREATE TABLE t (id int PRIMARY KEY, \"V v\" text); INSERT INTO t VALUES (1, 'a')",
        target: "CREATE TABLE t (id int PRIMARY KEY)",
        ..NO
    },
    Refused {
        says: "computes this column",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 7)",
        target: "CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id * 2) STORED)",
        ..NO
    },
    Refused {
        says: "GENERATED ALWAYS",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); INSERT INTO t VALUES (1, 7)",
        target: "CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS IDENTITY)",
        ..NO
    },
    Refused {
        says: "cannot hold",
        source: "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (10000000000)",
        target: "CREATE TABLE t (id int PRIMARY KEY)",
        ..NO
    },
    Refused {
        says: "cannot hold",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 2)",
        target: "CREATE TABLE t (id int PRIMARY KEY, v text)",
        ..NO
    },
    Refused {
        says: "NOT NULL on the target",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, NULL)",
        target: "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)",
        ..NO
    },
    Refused {
        says: "no unique index",
        source: "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        target: "CREATE TABLE t (id int)",
        ..NO
    },
    Refused {
        says: "NOT NULL without a default",
        source: "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        target: "CREATE TABLE t (id int PRIMARY KEY, \"More\" int NOT NULL)",
        ..NO
    },
    Refused {
        says: "lacks label",
        source: "CREATE TYPE mood AS ENUM ('x', 'it''s new'); CREATE TABLE t (id int PRIMARY KEY, m mood); \
                 INSERT INTO t VALUES (1, 'it''s new')",
        target: "CREATE TYPE mood AS ENUM ('x')",
        ..NO
    },
];

const NO: Refused = Refused { says: "", source: "", target: "", reads_as: None, writes_as: None, keys: &[] };

#[tokio::test(flavor = "multi_thread")]
async fn what_refuses_a_task_is_mended_by_its_remedy() {
    refused(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_refuses_a_task_is_mended_by_its_remedy() {
    refused(1).await;
}

/// Every second world.
async fn refused(first: usize) {
    let cluster = cluster();
    for (number, case) in REFUSED.iter().enumerate().skip(first).step_by(2) {
        let mut most = 1;
        let mut nth = 0;
        while nth < most {
            let world = World::new(&cluster, &format!("w{number}_{nth}"), case).await;
            let plan = world.trem.command(&["plan", "--json"]).expect(1);
            let found = refusals(&plan.stdout);
            assert!(found.iter().any(|(message, _)| message.contains(case.says)), "{}: {found:?}", case.says);
            for (message, remedy) in &found {
                let known = ways(remedy);
                assert!(!known.is_empty(), "no statement for `{message}`: {remedy}");
                let mine = message.contains(case.says);
                if mine {
                    most = most.max(known.len());
                }
                let way = known.get(nth).filter(|_| mine).unwrap_or(&known[0]);
                eprintln!("{message}: {remedy}\n -> {way}");
                world.follow(way).await;
            }
            world.trem.command(&["check"]).expect(0);
            world.trem.until_current().expect(0);
            compare::assert_equal(&world.source, &world.target, &["%"]).await;
            nth += 1;
        }
    }
}

const SUSPENDED: &[Suspended] = &[
    Suspended {
        says: "",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int)",
        change: "ALTER TABLE t DROP v; INSERT INTO t VALUES (1)",
        ..STILL
    },
    Suspended {
        says: "renamed",
        source: "CREATE TABLE \"T t\" (id int PRIMARY KEY, v int)",
        change: "CREATE SCHEMA hidden; ALTER TABLE \"T t\" RENAME TO u; ALTER TABLE u SET SCHEMA hidden; \
                 INSERT INTO hidden.u VALUES (1, 1)",
        ..STILL
    },
    Suspended {
        says: "dropped",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int)",
        change: "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, w int); INSERT INTO t VALUES (1, 1)",
        ..STILL
    },
    Suspended {
        says: "primary key",
        source: "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL UNIQUE)",
        change: "ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (1, 1)",
        ..STILL
    },
    Suspended {
        says: "deferrable",
        source: "CREATE TABLE other (id int PRIMARY KEY)",
        change: "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE); INSERT INTO t VALUES (1)",
        ..STILL
    },
];

const STILL: Suspended = Suspended { says: "", source: "", target: "", change: "" };

#[tokio::test(flavor = "multi_thread")]
async fn what_suspends_a_table_is_mended_by_its_remedy() {
    let cluster = cluster();
    for (number, case) in SUSPENDED.iter().enumerate() {
        let (mut nth, mut most) = (0, 1);
        while nth < most {
            let start = Refused { source: case.source, target: case.target, ..NO };
            let world = World::new(&cluster, &format!("s{number}_{nth}"), &start).await;
            world.trem.until_current().expect(0);
            for statement in case.change.split(" | ") {
                world.source.exec(statement).await;
            }
            world.trem.until_current().expect(3).says(&[case.says, "trem reload"]);
            let status = world.trem.command(&["status", "--json"]).expect(0);
            let status: Value = serde_json::from_str(&status.stdout).unwrap();
            let tables = status["tasks"][0]["tables"].as_array().unwrap();
            let table = tables.iter().find(|t| t["state"] == "suspended").unwrap();
            let (reason, remedy) = (table["reason"].as_str().unwrap(), table["remedy"].as_str().unwrap());
            eprintln!("{reason}: {remedy}");
            let known = ways(remedy);
            most = known.len();
            world.follow(known.get(nth).unwrap_or_else(|| panic!("no way in: {remedy}"))).await;
            world.trem.until_current().expect(0);
            compare::assert_equal(&world.source, &world.target, &["%"]).await;
            nth += 1;
        }
    }
}
