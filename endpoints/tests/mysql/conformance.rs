//! The engine's conformance suite between PostgreSQL and MariaDB, and from MariaDB to itself.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use trem_endpoints::datetime;
use trem_endpoints::mysql::config::MyConfig;
use trem_endpoints::mysql::{MysqlSource, MysqlTarget};
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::{PostgresSource, PostgresTarget};
use trem_engine::ports::{Source, Target};
use trem_engine::schema::{Length, TableId, Type};
use trem_engine::testkit::conformance::{Rig, sorted};
use trem_engine::testkit::model::Key;
use trem_engine::testkit::{Event, ModelTable, Row, Value};
use trem_tests::{Db, MariaCluster, My, PgCluster, PgOptions};

/// One of the two databases, on a server of its own.
enum End {
    Pg(Db, PgCluster),
    My(My, MariaCluster),
}

impl End {
    async fn postgres() -> Self {
        let cluster = PgCluster::start(PgOptions::default());
        Self::Pg(cluster.create_database("shop").await, cluster)
    }

    async fn maria() -> Self {
        let cluster = MariaCluster::start(&["--innodb-flush-log-at-trx-commit=1"]);
        let my = cluster.connect().await;
        my.exec("CREATE DATABASE public").await;
        Self::My(my, cluster)
    }

    /// MySQL's own server, where this machine has it; MariaDB's again where not.
    async fn genuine() -> Self {
        let Some(cluster) = MariaCluster::genuine(&["--innodb-flush-log-at-trx-commit=1"]) else {
            return Self::maria().await;
        };
        let my = cluster.connect().await;
        my.exec("CREATE DATABASE public").await;
        Self::My(my, cluster)
    }

    async fn exec(&self, sql: &str) {
        match self {
            Self::Pg(db, _) => db.exec(sql).await,
            Self::My(my, _) => my.exec(sql).await,
        }
    }

    fn name(&self, id: &TableId) -> String {
        match self {
            Self::Pg(..) => format!("\"{}\".\"{}\"", id.schema, id.table),
            Self::My(..) => format!("`{}`.`{}`", id.schema, id.table),
        }
    }

    /// Tables of a source are of integers and texts.
    fn type_of(&self, ty: &Type, key: bool) -> &'static str {
        match (self, ty, key) {
            (_, Type::Int64, _) => "bigint",
            (Self::Pg(..), ..) => "text",
            (Self::My(..), _, true) => "varchar(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
            (Self::My(..), ..) => "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        }
    }

    async fn rows(&self, table: &ModelTable) -> Vec<Row> {
        let columns = table.columns.iter().map(|(name, ty)| match self {
            Self::Pg(..) => format!("\"{name}\""),
            Self::My(..) => printed(name, ty),
        });
        let sql = format!("SELECT {} FROM {}", columns.collect::<Vec<_>>().join(", "), self.name(&table.id));
        let read = match self {
            Self::Pg(db, _) => db.rows(&sql).await,
            Self::My(my, _) => my.rows(&sql).await,
        };
        let types = || table.columns.iter().map(|c| &c.1);
        let row = |row: Vec<Option<String>>| types().zip(row).map(|(ty, text)| text.map(|t| value(ty, t))).collect();
        sorted(read.into_iter().map(row).collect())
    }
}

/// An expression that prints all of a value.
fn printed(name: &str, ty: &Type) -> String {
    match ty {
        Type::Float32 => format!("`{name}` + 0e0"),
        Type::Binary(_) | Type::Geometry(_) => format!("lower(hex(`{name}`))"),
        Type::Bit(Length::Exactly(n)) => format!("lpad(bin(`{name}`), {n}, '0')"),
        _ => format!("`{name}`"),
    }
}

/// A value of a canonical type from what is printed of the type that stands for it.
fn value(ty: &Type, text: String) -> Value {
    let bytes =
        |hex: &str| (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).expect("hex")).collect();
    match ty {
        Type::Bool => Value::Int((text == "t" || text == "1").into()),
        Type::Int8
        | Type::Int16
        | Type::Int32
        | Type::Int64
        | Type::UInt8
        | Type::UInt16
        | Type::UInt32
        | Type::Year => Value::Int(text.parse().expect("an integer")),
        Type::UInt64 => Value::Unsigned(text.parse().expect("an integer without a sign")),
        Type::Float32 => Value::Float(text.parse::<f32>().expect("a number").to_bits().into()),
        Type::Float64 => Value::Float(text.parse::<f64>().expect("a number").to_bits()),
        Type::Date => Value::Int(datetime::parse_date(text.as_bytes()).expect("a date").into()),
        // Of less than a day.
        Type::Time(_) | Type::Duration(_) => Value::Int(datetime::parse_time(text.as_bytes()).expect("a time")),
        Type::Timestamp(_) | Type::TimestampTz(_) => {
            Value::Int(datetime::parse_timestamp(text.as_bytes()).expect("a moment"))
        }
        Type::Uuid => Value::Bytes(bytes(&text.replace('-', ""))),
        Type::Binary(_) | Type::Geometry(_) => Value::Bytes(bytes(text.trim_start_matches("\\x"))),
        _ => Value::Text(text),
    }
}

fn literal(value: &Option<Value>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(Value::Int(n)) => n.to_string(),
        Some(Value::Text(t)) => format!("'{t}'"),
        Some(other) => panic!("{other:?} in a table of integers and texts"),
    }
}

struct Pair {
    source: End,
    target: End,
    tables: Mutex<Vec<ModelTable>>,
}

impl Pair {
    fn of(source: End, target: End) -> Self {
        Self { source, target, tables: Mutex::default() }
    }

    fn table(&self, id: &TableId) -> ModelTable {
        let tables = self.tables.lock().expect("not poisoned");
        tables.iter().find(|t| t.id == *id).expect("a created table").clone()
    }

    fn sql(&self, event: &Event) -> Vec<String> {
        let list = |values: &[Option<Value>]| values.iter().map(literal).collect::<Vec<_>>().join(", ");
        let name = |id: &TableId| self.source.name(id);
        let by_key = |table: &ModelTable, key: &Key| {
            let terms = table.key.iter().zip(key).map(|(i, v)| format!("{} = {}", table.columns[*i].0, literal(v)));
            terms.collect::<Vec<_>>().join(" AND ")
        };
        vec![match event {
            Event::Insert(id, row) => format!("INSERT INTO {} VALUES ({})", name(id), list(row)),
            Event::Delete(id, key) => format!("DELETE FROM {} WHERE {}", name(id), by_key(&self.table(id), key)),
            Event::Truncate(ids) => return ids.iter().map(|id| format!("TRUNCATE TABLE {}", name(id))).collect(),
            Event::AddColumn(id, column, existing) => {
                let mut tables = self.tables.lock().expect("not poisoned");
                let table = tables.iter_mut().find(|t| t.id == *id).expect("a created table");
                table.columns.push(column.clone());
                let default = existing.as_ref().map(|_| format!(" DEFAULT {}", literal(existing))).unwrap_or_default();
                let ty = self.source.type_of(&column.1, false);
                format!("ALTER TABLE {} ADD {} {ty}{default}", name(id), column.0)
            }
            Event::Update(id, key, set) => {
                let table = self.table(id);
                let set = set.iter().map(|(i, v)| format!("{} = {}", table.columns[*i].0, literal(v)));
                let mut set: Vec<String> = set.collect();
                if set.is_empty() {
                    let key = &table.columns[table.key[0]].0;
                    set.push(format!("{key} = {key}"));
                }
                format!("UPDATE {} SET {} WHERE {}", name(id), set.join(", "), by_key(&table, key))
            }
        }]
    }
}

#[async_trait]
impl Rig for Pair {
    fn source(&self) -> Arc<dyn Source> {
        match &self.source {
            End::Pg(_, at) => {
                Arc::new(PostgresSource::new(PgConfig::parse(&at.url("shop")).expect("a URL"), "conformance"))
            }
            End::My(_, at) => Arc::new(MysqlSource::new(MyConfig::parse(&at.url()).expect("a URL"), "conformance")),
        }
    }

    fn target(&self) -> Arc<dyn Target> {
        match &self.target {
            End::Pg(_, at) => {
                Arc::new(PostgresTarget::new(PgConfig::parse(&at.url("shop")).expect("a URL"), "conformance"))
            }
            End::My(_, at) => Arc::new(MysqlTarget::new(MyConfig::parse(&at.url()).expect("a URL"), "conformance")),
        }
    }

    fn source_keeps_something(&self) -> bool {
        matches!(self.source, End::Pg(..))
    }

    async fn create(&self, table: &ModelTable) {
        let mut parts: Vec<String> = Vec::new();
        for (i, (name, ty)) in table.columns.iter().enumerate() {
            let key = table.key.contains(&i);
            parts.push(format!("{name} {}{}", self.source.type_of(ty, key), if key { " NOT NULL" } else { "" }));
        }
        let key: Vec<&str> = table.key.iter().map(|i| table.columns[*i].0.as_str()).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        let name = self.source.name(&table.id);
        self.source.exec(&format!("CREATE TABLE {name} ({})", parts.join(", "))).await;
        if let End::Pg(db, _) = &self.source {
            for i in &table.big {
                // Out of line and not compressed: an update that leaves it alone leaves it out of the log.
                db.exec(&format!("ALTER TABLE {name} ALTER {} SET STORAGE EXTERNAL", table.columns[*i].0)).await;
            }
            if table.full_image {
                db.exec(&format!("ALTER TABLE {name} REPLICA IDENTITY FULL")).await;
            }
        }
        self.tables.lock().expect("not poisoned").push(table.clone());
    }

    async fn commit(&self, events: &[Event]) {
        let statements: Vec<String> = events.iter().flat_map(|e| self.sql(e)).collect();
        let statements = std::iter::once("BEGIN".to_owned()).chain(statements).chain(["COMMIT".to_owned()]);
        match &self.source {
            End::Pg(db, _) => db.exec(&statements.collect::<Vec<_>>().join("; ")).await,
            End::My(my, _) => {
                for statement in statements {
                    my.exec(&statement).await;
                }
            }
        }
    }

    async fn source_rows(&self, table: &ModelTable) -> Vec<Row> {
        self.source.rows(table).await
    }

    async fn target_rows(&self, table: &ModelTable) -> Vec<Row> {
        self.target.rows(table).await
    }
}

mod postgres_to_maria {
    use super::{End, Pair};

    async fn rig() -> Pair {
        Pair::of(End::postgres().await, End::maria().await)
    }

    trem_engine::conformance!(rig());
}

mod maria_to_postgres {
    use super::{End, Pair};

    async fn rig() -> Pair {
        Pair::of(End::maria().await, End::postgres().await)
    }

    trem_engine::conformance!(rig());
}

mod maria_to_maria {
    use super::{End, Pair};

    async fn rig() -> Pair {
        Pair::of(End::maria().await, End::maria().await)
    }

    trem_engine::conformance!(rig());
}

mod postgres_to_mysql {
    use super::{End, Pair};

    async fn rig() -> Pair {
        Pair::of(End::postgres().await, End::genuine().await)
    }

    trem_engine::conformance!(rig());
}

mod maria_to_mysql {
    use super::{End, Pair};

    async fn rig() -> Pair {
        Pair::of(End::maria().await, End::genuine().await)
    }

    trem_engine::conformance!(rig());
}
