//! A target on a server of its own, and changes made by hand.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod keeper;

use std::sync::Arc;

use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::Error;
use trem_engine::change::{
    BatchBuilder, ChangeBatch, ChangeSet, ColumnBuilder, ColumnMask, Op, Span, Step, TableCounts,
};
use trem_engine::ports::Target;
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{Column, Dialect, Identity, Length, Native, TableId, TableSchema, Type};
use trem_engine::task::OnExisting;
use trem_tests::{Db, PgCluster, PgOptions};

pub use keeper::Keeper;

/// A value of a test row.
#[derive(Clone, Debug)]
pub enum V {
    I(i32),
    T(String),
    Null,
    /// The log did not send it.
    Unknown,
}

pub fn i(value: i32) -> V {
    V::I(value)
}

pub fn t(value: &str) -> V {
    V::T(value.to_owned())
}

pub const TEXT: Type = Type::Text(Length::Unlimited);

/// A type of PostgreSQL, its number unknown.
pub fn native(name: &str) -> Native {
    Native { dialect: Dialect::new("postgres"), name: name.to_owned(), detail: String::new() }
}

pub fn column(name: &str, ty: Type, native_name: &str) -> Column {
    let (nullable, native) = (name != "id", native(native_name));
    Column { name: name.to_owned(), ty, native, nullable, omissible: false }
}

/// id (the key, unless the identity is full), a number, a text.
pub fn table(name: &str, identity: Identity) -> Arc<TableSchema> {
    let keyed = matches!(identity, Identity::Key | Identity::KeyWithFullImage);
    Arc::new(TableSchema {
        id: TableId::new("s x", name),
        native_id: Some(1),
        columns: vec![
            column("id", Type::Int32, "integer"),
            column("u", Type::Int32, "integer"),
            column("Text", TEXT, "text"),
        ],
        key: if keyed { vec![0] } else { Vec::new() },
        primary_key: if keyed { vec![0] } else { Vec::new() },
        identity,
        generated: Vec::new(),
        history: Default::default(),
    })
}

pub fn push(builder: &mut ColumnBuilder, value: &V) {
    match value {
        V::I(n) => builder.push_i32(*n).unwrap(),
        V::T(s) => builder.push_slice(s.as_bytes()).unwrap(),
        V::Null | V::Unknown => builder.push_null(),
    }
}

/// One change: op, old image if any, new image.
pub type Change = (Op, Option<Vec<V>>, Vec<V>);

pub fn insert(row: [V; 3]) -> Change {
    (Op::Insert, None, row.to_vec())
}

pub fn update(row: [V; 3]) -> Change {
    (Op::Update, None, row.to_vec())
}

/// An update of a row whose old image (key, or whole) is known.
pub fn from(old: &[V], row: [V; 3]) -> Change {
    (Op::Update, Some(old.to_vec()), row.to_vec())
}

pub fn delete(id: i32) -> Change {
    (Op::Delete, None, vec![i(id), V::Unknown, V::Unknown])
}

pub fn batch(table: &Arc<TableSchema>, changes: &[Change]) -> ChangeBatch {
    let mut builder = BatchBuilder::new(Arc::clone(table));
    for (op, old, row) in changes {
        let mut mask = ColumnMask::default();
        for (at, value) in row.iter().enumerate() {
            push(&mut builder.columns()[at], value);
            if matches!(value, V::Unknown) {
                mask.insert(at);
            }
        }
        if let Some(old) = old {
            for (at, value) in old.iter().enumerate() {
                push(&mut builder.old_columns().0[at], value);
            }
            builder.end_old();
        }
        builder.end_row(*op, &mask).unwrap();
    }
    builder.finish().unwrap()
}

pub fn checkpoint(at: u128) -> Checkpoint {
    Checkpoint { lineage: Lineage("history".to_owned()), position: Position::new(at, format!("p{at}")) }
}

pub fn set(steps: Vec<Step>, end: u128) -> ChangeSet {
    let end = checkpoint(end).position;
    ChangeSet { steps, span: Span { end, committed_at: None, open: false, transactions: 1, bytes: 0 } }
}

/// All that is in schema `trem`: tables, columns and rows.
pub async fn dump(db: &Db) -> String {
    let sql = "SELECT string_agg(relname || query_to_xml(format('SELECT * FROM trem.%I x ORDER BY x::text', relname), \
                   true, false, '')::text, '' ORDER BY relname) \
               FROM pg_class WHERE relkind = 'r' AND relnamespace = 'trem'::regnamespace";
    db.one(sql).await
}

pub struct Rig {
    pub server: PgCluster,
    pub target: PostgresTarget,
    pub db: Db,
    pub lane: Keeper,
    pub at: u128,
}

impl Rig {
    pub async fn start() -> Self {
        let server = PgCluster::start(PgOptions::default());
        let db = server.create_database("t").await;
        let target = PostgresTarget::new(PgConfig::parse(&server.url("t")).unwrap(), "my task");
        let mut lane = Keeper::take_over(&target).await.unwrap();
        lane.begin(&checkpoint(0).lineage).await.unwrap();
        Self { server, target, db, lane, at: 0 }
    }

    pub async fn prepare(&mut self, table: &Arc<TableSchema>) {
        self.lane.prepare(table, OnExisting::Refuse, false).await.unwrap();
    }

    pub async fn try_steps(&mut self, steps: Vec<Step>) -> Result<TableCounts, Error> {
        self.at += 1;
        let applied = self.lane.apply(set(steps, self.at)).await?;
        let mut sum = TableCounts::default();
        for (_, counts) in &applied.tables {
            sum.add(counts);
        }
        Ok(sum)
    }

    pub async fn apply(&mut self, table: &Arc<TableSchema>, changes: &[Change]) -> TableCounts {
        self.try_steps(vec![Step::Rows(batch(table, changes))]).await.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Somebody asks for a table to be loaded again, and the task takes it up.
    pub async fn reload(&mut self, table: &TableId) {
        self.target.request_reload(table).await.unwrap();
        self.lane.take_requests(&self.target).await.unwrap();
    }

    pub async fn rows(&self, table: &TableSchema) -> Vec<String> {
        let sql = format!("SELECT r::text FROM \"{}\".\"{}\" r ORDER BY 1", table.id.schema, table.id.table);
        self.db.rows(&sql).await.into_iter().map(|r| r[0].clone().unwrap()).collect()
    }
}
