//! Tables as the engine sees them: names, columns, logical types, keys and schema changes.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// The name of a table: schema and table, exactly as the database stores them (no quoting, no folding).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId {
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub table: String,
}

impl TableId {
    /// Names a table.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// What a column's values mean, and thereby how they stand in Arrow. See `docs/TYPES.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogicalType {
    /// `Boolean`.
    Bool,
    /// `Int16`.
    Int16,
    /// `Int32`.
    Int32,
    /// `Int64`.
    Int64,
    /// `Float32`, with NaN and infinities.
    Float32,
    /// `Float64`, with NaN and infinities.
    Float64,
    /// Exact decimal as canonical text (`Utf8`): any precision, `NaN`, `Infinity`, `-Infinity`, and the
    /// display scale kept (`1.50` is not `1.5`). ADR 0002 says why text.
    Numeric,
    /// `Utf8`.
    Text,
    /// JSON text as the source prints it (`Utf8`).
    Json,
    /// `Binary`.
    Binary,
    /// `FixedSizeBinary(16)`, big-endian.
    Uuid,
    /// `Date32`: days since 1970-01-01. `i32::MAX` and `i32::MIN` are infinity and -infinity.
    Date,
    /// `Time64(Microsecond)` since midnight; 24:00:00 is 86,400,000,000.
    Time,
    /// `Timestamp(Microsecond)` without zone since 1970-01-01. See [`crate::time`] for the infinities and
    /// the years after 294246.
    Timestamp,
    /// `Timestamp(Microsecond, "UTC")`; the range is that of [`LogicalType::Timestamp`].
    TimestampTz,
    /// A type without a logical form of its own: the source's canonical text (`Utf8`), which a target of the
    /// same kind reads back without loss. [`NativeType`] says what it was.
    Other,
}

impl LogicalType {
    /// The Arrow type that carries this logical type.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Numeric | Self::Text | Self::Json | Self::Other => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// A column's type as its own database names it; read by endpoints of that kind only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeType {
    /// As it stands in DDL, qualified where it must be: `numeric(10,2)`, `public.mood[]`.
    pub name: String,
    /// The database's own number for the type (PostgreSQL: `pg_type.oid`).
    pub id: u32,
    /// The type modifier (PostgreSQL: `pg_attribute.atttypmod`), -1 without one.
    pub modifier: i32,
}

/// One replicated column. A generated column is not replicated: [`TableSchema::generated`] names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name as stored.
    pub name: String,
    /// What the values mean.
    pub logical: LogicalType,
    /// What the source calls the type.
    pub native: NativeType,
    /// Whether NULL may occur.
    pub nullable: bool,
}

/// A column that the database computes from the others of its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedColumn {
    /// The name as stored.
    pub name: String,
    /// What the source calls the type.
    pub native: NativeType,
    /// The expression, in the source's SQL.
    pub expression: String,
}

/// How rows of a table are told apart in the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// By the columns of [`TableSchema::key`]; the log carries their old values when they change.
    Key,
    /// By the columns of [`TableSchema::key`]; the log carries the whole old row.
    KeyWithFullImage,
    /// By the whole row: no key, and the log carries the whole old row. Rows may be duplicates.
    Full,
    /// Rows are only ever inserted: the log has nothing to tell them apart by.
    InsertOnly,
}

/// One version of one table's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// The table's name.
    pub id: TableId,
    /// The database's own number for the table (PostgreSQL: `pg_class.oid`); 0 where it has none.
    pub native_id: u32,
    /// Replicated columns in table order.
    pub columns: Vec<Column>,
    /// Indices into `columns` of what tells rows apart, in key order; empty with `Full` and `InsertOnly`.
    pub key: Vec<usize>,
    /// Indices into `columns` of the primary key, in key order; empty without one. Mostly equal to `key`.
    pub primary_key: Vec<usize>,
    /// How rows are told apart.
    pub identity: Identity,
    /// Columns the database computes; created on a target of the same kind, never sent.
    pub generated: Vec<GeneratedColumn>,
}

impl TableSchema {
    /// The index of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The Arrow schema of this table's batches, every field nullable (old images leave columns out).
    pub fn arrow(&self) -> arrow_schema::SchemaRef {
        let fields = self.columns.iter().map(|c| arrow_schema::Field::new(&c.name, c.logical.arrow(), true));
        Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Indices of the columns that an old image carries: the key, or all with a full image.
    pub fn old_columns(&self) -> Vec<usize> {
        match self.identity {
            Identity::Key => self.key.clone(),
            Identity::KeyWithFullImage | Identity::Full => (0..self.columns.len()).collect(),
            Identity::InsertOnly => Vec::new(),
        }
    }
}

/// A user-defined type that a target of the same kind needs before a table can be created there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDefinition {
    /// Schema and name.
    pub id: TableId,
    /// The statement that creates it.
    pub ddl: String,
    /// The labels in order, if it is an enum: an existing target enum must have them all.
    pub labels: Vec<String>,
}

/// What a [`SecondaryObject`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecondaryKind {
    /// An index that no constraint owns.
    Index,
    /// A unique, exclusion or check constraint.
    Constraint,
    /// A foreign key: created last, when every table is there.
    ForeignKey,
}

/// An index or a constraint that replication does not need and a reader of the target may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondaryObject {
    /// Its table.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: SecondaryKind,
    /// The statement that creates it, in the source's SQL.
    pub ddl: String,
}

/// What discovery found: the tables asked for and the types they need, dependencies first.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The tables, sorted by name.
    pub tables: Vec<Arc<TableSchema>>,
    /// User-defined types, each after the ones it depends on.
    pub types: Vec<TypeDefinition>,
    /// Secondary indexes and constraints of the tables, in the order in which they can be created.
    pub secondary: Vec<SecondaryObject>,
}

/// A change of one table's shape, met in the log.
#[derive(Clone, Debug)]
pub struct SchemaChange {
    /// The shape until now.
    pub table: Arc<TableSchema>,
    /// What happened.
    pub kind: SchemaChangeKind,
}

/// The kinds of schema change.
#[derive(Clone, Debug)]
pub enum SchemaChangeKind {
    /// Columns were added at the end; nothing else changed.
    AddColumns {
        /// The new shape.
        next: Arc<TableSchema>,
        /// For each added column, the value that rows written before it have, as the source prints it.
        existing: Vec<Option<String>>,
    },
    /// What the table has now cannot be brought to the source's state by changes: it is marked `Reload`, and the
    /// runner loads it again at once. No later row of it is delivered.
    Reload {
        /// Why.
        reason: String,
    },
    /// Anything else: the table is suspended. No later row of it is delivered.
    Suspend {
        /// What changed.
        reason: String,
        /// What the operator should do.
        remedy: String,
    },
}
