//! The engine's conformance suite on real PostgreSQL servers: the packaged one, and the newest at hand.

use std::sync::Arc;

use async_trait::async_trait;
use trem_endpoints::datetime;
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::{PostgresSource, PostgresTarget};
use trem_engine::ports::{Source, Target};
use trem_engine::schema::Type;
use trem_engine::testkit::conformance::{Rig, sorted};
use trem_engine::testkit::model::Key;
use trem_engine::testkit::{Event, ModelTable, Row, Value};
use trem_tests::{Db, World};

struct Postgres {
    world: World,
    tables: std::sync::Mutex<Vec<ModelTable>>,
}

impl Postgres {
    fn new(world: World) -> Self {
        Self { world, tables: std::sync::Mutex::default() }
    }

    fn config(url: &str) -> PgConfig {
        PgConfig::parse(url).expect("the harness's URL")
    }

    fn table(&self, id: &trem_engine::schema::TableId) -> ModelTable {
        let tables = self.tables.lock().expect("not poisoned");
        tables.iter().find(|t| t.id == *id).expect("a created table").clone()
    }

    fn sql(&self, event: &Event) -> String {
        let list = |values: &[Option<Value>]| values.iter().map(literal).collect::<Vec<_>>().join(", ");
        match event {
            Event::Insert(id, row) => format!("INSERT INTO {id} VALUES ({})", list(row)),
            Event::Delete(id, key) => format!("DELETE FROM {id} WHERE {}", by_key(&self.table(id), key)),
            Event::Truncate(ids) => {
                format!("TRUNCATE {}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Event::AddColumn(id, column, existing) => {
                let mut tables = self.tables.lock().expect("not poisoned");
                let table = tables.iter_mut().find(|t| t.id == *id).expect("a created table");
                table.columns.push(column.clone());
                let default = existing.as_ref().map(|_| format!(" DEFAULT {}", literal(existing)));
                format!("ALTER TABLE {id} ADD {} {}{}", column.0, sql_type(&column.1), default.unwrap_or_default())
            }
            Event::Update(id, key, set) => {
                let table = self.table(id);
                let set = set.iter().map(|(i, v)| format!("{} = {}", table.columns[*i].0, literal(v)));
                let mut set: Vec<String> = set.collect();
                if set.is_empty() {
                    let key = &table.columns[table.key[0]].0;
                    set.push(format!("{key} = {key}"));
                }
                format!("UPDATE {id} SET {} WHERE {}", set.join(", "), by_key(&table, key))
            }
        }
    }
}

/// Tables of this source are of integers and texts.
fn sql_type(ty: &Type) -> &'static str {
    if *ty == Type::Int64 { "bigint" } else { "text" }
}

fn literal(value: &Option<Value>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(Value::Int(n)) => n.to_string(),
        Some(Value::Text(t)) => format!("'{t}'"),
        Some(other) => panic!("{other:?} in a table of integers and texts"),
    }
}

fn by_key(table: &ModelTable, key: &Key) -> String {
    let terms = table.key.iter().zip(key).map(|(i, v)| match v {
        Some(_) => format!("{} = {}", table.columns[*i].0, literal(v)),
        None => format!("{} IS NULL", table.columns[*i].0),
    });
    terms.collect::<Vec<_>>().join(" AND ")
}

async fn rows(db: &Db, table: &ModelTable) -> Vec<Row> {
    let read = db.rows(&format!("SELECT * FROM {}", table.id)).await;
    let types = || table.columns.iter().map(|c| &c.1);
    let row = |row: Vec<Option<String>>| types().zip(row).map(|(ty, text)| text.map(|t| value(ty, t))).collect();
    sorted(read.into_iter().map(row).collect())
}

/// A value of a canonical type from what the target prints of the type that stands for it.
fn value(ty: &Type, text: String) -> Value {
    let bytes =
        |hex: &str| (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).expect("hex")).collect();
    match ty {
        Type::Bool => Value::Int((text == "t").into()),
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
        Type::Binary(_) | Type::Geometry(_) => Value::Bytes(bytes(text.strip_prefix("\\x").expect("bytes"))),
        _ => Value::Text(text),
    }
}

#[async_trait]
impl Rig for Postgres {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(PostgresSource::new(Self::config(&self.world.config.source), "conformance"))
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(PostgresTarget::new(Self::config(&self.world.config.target), "conformance"))
    }

    async fn create(&self, table: &ModelTable) {
        let mut columns: Vec<String> = Vec::new();
        for (i, (name, ty)) in table.columns.iter().enumerate() {
            let null = if table.key.contains(&i) { " NOT NULL" } else { "" };
            columns.push(format!("{name} {}{null}", sql_type(ty)));
        }
        let key: Vec<&str> = table.key.iter().map(|i| table.columns[*i].0.as_str()).collect();
        let db = &self.world.source;
        db.exec(&format!("CREATE TABLE {} ({}, PRIMARY KEY ({}))", table.id, columns.join(", "), key.join(", "))).await;
        for i in &table.big {
            // Out of line and not compressed: an update that leaves it alone leaves it out of the log.
            db.exec(&format!("ALTER TABLE {} ALTER {} SET STORAGE EXTERNAL", table.id, table.columns[*i].0)).await;
        }
        if table.full_image {
            db.exec(&format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.id)).await;
        }
        self.tables.lock().expect("not poisoned").push(table.clone());
    }

    async fn commit(&self, events: &[Event]) {
        let statements: Vec<String> = events.iter().map(|e| self.sql(e)).collect();
        self.world.source.exec(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await;
    }

    async fn source_rows(&self, table: &ModelTable) -> Vec<Row> {
        rows(&self.world.source, table).await
    }

    async fn target_rows(&self, table: &ModelTable) -> Vec<Row> {
        rows(&self.world.target, table).await
    }
}

mod packaged {
    use super::{Postgres, World};

    async fn rig() -> Postgres {
        Postgres::new(World::one().await)
    }

    trem_engine::conformance!(rig());
}

mod newest {
    use super::{Postgres, World};

    /// The newest version that this machine can have; the packaged one again where that is the newest.
    async fn rig() -> Postgres {
        match World::newest().await {
            Some(world) => Postgres::new(world),
            None => Postgres::new(World::one().await),
        }
    }

    trem_engine::conformance!(rig());
}
