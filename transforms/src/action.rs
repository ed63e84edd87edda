//! What a rule does.

use trem_engine::schema::{TableId, Type};
use trem_engine::task::Pattern;
use trem_engine::{Error, Result};

use crate::columns::Columns;
use crate::conversion::{OnMisfit, To};
use crate::formula::Formula;
use crate::mask::Masking;
use crate::naming::Naming;
use crate::working::Working;

/// What a rule does. Names are as the target is to store them, not quoted. Columns are called as the rules before have
/// made them; a table that has none of them stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Puts tables into another schema.
    RenameSchema(Naming),
    /// Gives tables other names in their schema.
    RenameTable(Naming),
    /// Gives columns other names, those that are computed too.
    RenameColumn {
        /// The columns.
        columns: Columns,
        /// Their names.
        naming: Naming,
    },
    /// Adds a column whose values are computed from the others.
    CreateColumn {
        /// Its name.
        column: String,
        /// Its type.
        ty: Type,
        /// The expression, over the columns as the rules before have made them.
        value: Formula,
    },
    /// Puts other values into columns.
    SetValue {
        /// The columns.
        columns: Columns,
        /// The expression, over the columns as the rules before have made them.
        value: Formula,
    },
    /// Puts values into columns that do not tell what was there.
    Mask {
        /// The columns.
        columns: Columns,
        /// How.
        masking: Masking,
    },
    /// Gives columns another type.
    ChangeType {
        /// The columns.
        columns: Columns,
        /// The type.
        to: To,
        /// What becomes of values that it does not hold.
        on_misfit: OnMisfit,
    },
    /// Leaves columns out.
    DropColumn {
        /// The columns.
        columns: Columns,
    },
    /// Tells rows apart on the target by other columns.
    SetKey {
        /// Their names.
        columns: Vec<String>,
    },
    /// Keeps rows that are deleted at the source, and says when that was.
    SoftDelete {
        /// The column that says it.
        column: String,
    },
    /// Keeps every change as a row of its own.
    History {
        /// What the names of the columns begin with that tell of the change.
        prefix: String,
        /// What the name of the table ends with that they are in, beside the current rows; without it they are there
        /// instead of those.
        beside: Option<String>,
    },
}

impl Action {
    /// As the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RenameSchema(_) => "rename-schema",
            Self::RenameTable(_) => "rename-table",
            Self::RenameColumn { .. } => "rename-column",
            Self::CreateColumn { .. } => "create-column",
            Self::SetValue { .. } | Self::Mask { .. } => "set-value",
            Self::ChangeType { .. } => "change-type",
            Self::DropColumn { .. } => "drop-column",
            Self::SetKey { .. } => "set-key",
            Self::SoftDelete { .. } => "soft-delete",
            Self::History { .. } => "history",
        }
    }

    /// Whether the table has what it is about. `pattern`: the one of the rule's that covers the table.
    pub(crate) fn apply(&self, table: &mut Working<'_>, pattern: &Pattern) -> Result<bool> {
        if table.ends_rows() {
            let what = "history or soft-delete has come before, and is the last that can be done to columns";
            return match self {
                Self::RenameSchema(_) | Self::RenameTable(_) => self.names(table, pattern),
                _ => Err(Error::refused(what).remedy("move that rule behind this one")),
            };
        }
        match self {
            Self::RenameSchema(_) | Self::RenameTable(_) => self.names(table, pattern),
            Self::RenameColumn { columns, naming } => table.rename(columns, naming),
            Self::CreateColumn { column, ty, value } => table.create(column, ty, value).map(|()| true),
            Self::SetValue { columns, value } => table.set(columns, value),
            Self::Mask { columns, masking } => table.mask(columns, masking),
            Self::ChangeType { columns, to, on_misfit } => table.change_type(columns, to, *on_misfit),
            Self::DropColumn { columns } => table.drop(columns),
            Self::SetKey { columns } => table.set_key(columns),
            Self::SoftDelete { column } => table.soft_delete(column).map(|()| true),
            Self::History { prefix, beside: None } => table.history(prefix).map(|()| true),
            Self::History { prefix, beside: Some(suffix) } => table.keep_history(prefix, suffix).map(|()| true),
        }
    }

    fn names(&self, table: &mut Working<'_>, pattern: &Pattern) -> Result<bool> {
        let TableId { schema, table: name, .. } = &table.id;
        let made = match self {
            Self::RenameSchema(naming) => {
                TableId::new(naming.of(schema, &|to| pattern.fill(&table.id, to)), name.clone())
            }
            Self::RenameTable(naming) => {
                TableId::new(schema.clone(), naming.of(name, &|to| pattern.fill(&table.id, to)))
            }
            _ => return Ok(false),
        };
        if made.schema.is_empty() || made.table.is_empty() {
            return Err(Error::refused("a name must not be empty").remedy("give it a name"));
        }
        table.id = made;
        Ok(true)
    }

    /// What it does, for people.
    pub(crate) fn said(&self) -> String {
        let name = self.name();
        match self {
            Self::RenameSchema(naming) | Self::RenameTable(naming) => format!("{name} {naming}"),
            Self::RenameColumn { columns, naming } => format!("{name} {columns} {naming}"),
            Self::CreateColumn { column, ty, value } => format!("{name} {column} {ty} = {value}"),
            Self::SetValue { columns, value } => format!("{name} {columns} = {value}"),
            Self::Mask { columns, masking } => format!("{name} {columns} masked by {masking}"),
            Self::ChangeType { columns, to, on_misfit } => format!("{name} {columns} to {to}{on_misfit}"),
            Self::DropColumn { columns } => format!("{name} {columns}"),
            Self::SetKey { columns } => format!("{name} {}", columns.join(", ")),
            Self::SoftDelete { column } => format!("{name} by {column}"),
            Self::History { prefix, beside } => {
                let to = beside.iter().map(|suffix| format!(" in another table, called as this one with {suffix}"));
                format!("{name} with {prefix}operation and others{}", to.collect::<String>())
            }
        }
    }

    /// The columns by name that it is about, if it is about columns by name.
    pub(crate) fn needs(&self) -> Option<Vec<String>> {
        match self {
            Self::RenameColumn { columns, .. }
            | Self::SetValue { columns, .. }
            | Self::Mask { columns, .. }
            | Self::ChangeType { columns, .. }
            | Self::DropColumn { columns } => columns.exact(),
            Self::SetKey { columns } => Some(columns.clone()),
            Self::RenameSchema(_)
            | Self::RenameTable(_)
            | Self::CreateColumn { .. }
            | Self::SoftDelete { .. }
            | Self::History { .. } => None,
        }
    }
}
