//! Tables as the engine sees them: names, columns, keys and schema changes.

use std::sync::Arc;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

pub use crate::name::{Part, TableId};
use crate::remedy::Remedy;
use crate::template::Template;
pub use crate::types::{Dialect, Length, Native, Type};

/// One replicated column. A generated column is not replicated: [`TableSchema::generated`] names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name as stored.
    pub name: String,
    /// What the values mean.
    pub ty: Type,
    /// What the source calls the type.
    pub native: Native,
    /// Whether NULL may occur.
    pub nullable: bool,
    /// Whether the log may leave the value out of an update that does not change it.
    pub omissible: bool,
}

/// A column that the database computes from the others of its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedColumn {
    /// The name as stored.
    pub name: String,
    /// What the source calls the type.
    pub native: Native,
    /// The expression, in the source's SQL.
    pub expression: Template,
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

/// What a source knows of a table's past, in a form of its own that nobody else reads. It says nothing of the shape:
/// two tables are equal whatever theirs is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Option<String>);

impl History {
    /// What the source has written down.
    pub fn of(text: String) -> Self {
        Self(Some(text))
    }

    /// What the source has written down; `None` if it has not yet, or has nothing to say.
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }

    fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// A table that rules have made has no past but them.
const RULES: &str = "rules ";

impl PartialEq for History {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for History {}

/// One version of one table's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// The table's name.
    pub id: TableId,
    /// The database's own number for the table, where it has one: another one is another table.
    pub native_id: Option<u64>,
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
    /// What the source knows of the table's past, up to where changes have been applied.
    #[serde(default, skip_serializing_if = "History::is_none")]
    pub history: History,
}

impl TableSchema {
    /// The same shape with another past.
    #[must_use]
    pub fn with_history(&self, history: History) -> Self {
        Self { history, ..self.clone() }
    }

    /// What tells the rules apart that have made this table of another one, if they are more than names.
    pub fn rules(&self) -> Option<&str> {
        self.history.text().and_then(|text| text.strip_prefix(RULES))
    }

    /// The same shape, made by rules that this tells apart from others.
    #[must_use]
    pub fn made_by(self, rules: &str) -> Self {
        Self { history: History::of(format!("{RULES}{rules}")), ..self }
    }

    /// The index of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// What the columns of [`TableSchema::key`] are called.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|at| self.columns[*at].name.as_str())
    }

    /// Whether it has rows of several tables of the source, of which only these say that no two have the same key.
    pub fn trusts_keys(&self) -> bool {
        let own = |name: &str| self.id.part.iter().flat_map(|part| &part.columns).any(|(column, _)| column == name);
        self.id.part.is_some() && !self.key.is_empty() && !self.key_names().any(own)
    }

    /// The Arrow schema of this table's batches, every field nullable (old images leave columns out).
    pub fn arrow(&self) -> arrow_schema::SchemaRef {
        let fields = self.columns.iter().map(|c| arrow_schema::Field::new(&c.name, c.ty.arrow(), true));
        Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Whether `other` is this very shape, whatever else is known of it: a record may say less of what a type means, or
    /// something older, than the catalogue it was taken from says now.
    pub fn same_shape(&self, other: &Self) -> bool {
        let column = |c: &Column, o: &Column| {
            let same_type = if c.native.dialect == o.native.dialect { c.native == o.native } else { c.ty == o.ty };
            (&c.name, c.nullable) == (&o.name, o.nullable) && same_type
        };
        let generated = |t: &Self| {
            let one = |g: &GeneratedColumn| (g.name.clone(), g.native.clone(), g.expression.to_string());
            t.generated.iter().map(one).collect::<Vec<_>>()
        };
        (&self.id, self.native_id, self.identity) == (&other.id, other.native_id, other.identity)
            && (&self.key, &self.primary_key) == (&other.key, &other.primary_key)
            && generated(self) == generated(other)
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(|(c, o)| column(c, o))
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

/// A user-defined type that a target of the same dialect needs before a table can be created there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDefinition {
    /// Whose statement `ddl` is.
    pub dialect: Dialect,
    /// Schema and name.
    pub id: TableId,
    /// The statement that creates it.
    pub ddl: String,
    /// The labels in order, if it is an enum: an existing target enum must have them all.
    pub labels: Vec<String>,
    /// The tables with columns of it, or of a type that is made of it.
    pub users: Vec<TableId>,
}

/// What a [`SecondaryObject`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecondaryKind {
    /// An index that no constraint owns.
    Index,
    /// One that lets no value in twice.
    UniqueIndex,
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
    pub ddl: Template,
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
    /// Tables of a target beside its others, to which changes are only added.
    pub histories: Vec<Arc<TableSchema>>,
}

/// A change of one table's shape, met in the log.
#[derive(Clone, Debug)]
pub struct SchemaChange {
    /// The shape until now.
    pub table: Arc<TableSchema>,
    /// What happened.
    pub kind: SchemaChangeKind,
}

/// Columns added to a table on the target.
#[derive(Clone, Debug)]
pub struct AddedColumns {
    /// The shape until now.
    pub before: Arc<TableSchema>,
    /// The new shape.
    pub next: Arc<TableSchema>,
    /// One row: for each added column, in order, the value that rows written before it have.
    pub existing: RecordBatch,
}

/// The kinds of schema change.
#[derive(Clone, Debug)]
pub enum SchemaChangeKind {
    /// Columns were added at the end; nothing else changed.
    AddColumns {
        /// The new shape.
        next: Arc<TableSchema>,
        /// One row: for each added column, in order, the value that rows written before it have.
        existing: RecordBatch,
    },
    /// Nothing of the shape, but the source knows more of the table's past.
    Noted {
        /// The same shape.
        next: Arc<TableSchema>,
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
        remedy: Remedy,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_told_by_native_types() {
        let native = |name: &str| Native { dialect: Dialect::new("d"), name: name.to_owned(), detail: String::new() };
        let labels = Type::Enum(vec!["a".to_owned()]);
        let table = TableSchema {
            id: TableId::new("s", "t"),
            native_id: Some(7),
            columns: vec![Column {
                name: "c".to_owned(),
                ty: labels,
                native: native("mood"),
                nullable: true,
                omissible: false,
            }],
            key: Vec::new(),
            primary_key: Vec::new(),
            identity: Identity::Full,
            generated: Vec::new(),
            history: Default::default(),
        };
        let changed = |change: fn(&mut TableSchema)| {
            let mut other = table.clone();
            change(&mut other);
            assert_ne!(table, other);
            table.same_shape(&other)
        };
        assert!(changed(|t| t.columns[0].ty = Type::Named("mood".to_owned())));
        assert!(changed(|t| t.columns[0].omissible = true));
        assert!(!changed(|t| t.columns[0].native.detail = "1".to_owned()));
        assert!(!changed(|t| t.columns[0].nullable = false));
        assert!(!changed(|t| drop(t.columns.pop())));
        assert!(!changed(|t| t.native_id = None));
        assert!(!changed(|t| t.identity = Identity::InsertOnly));
        assert!(!changed(|t| {
            t.columns[0].native.dialect = Dialect::new("e");
            t.columns[0].ty = Type::Int8;
        }));
    }
}
