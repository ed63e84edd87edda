//! Statements that make tables.

use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{Column, TableSchema};
use trem_engine::types::Counterpart;

use super::session::Session;
use crate::mysql::counterpart::Target;
use crate::mysql::quote;
use crate::target::findings;

/// Characters of a name. (MySQL manual, "Identifier Length Limits".)
const NAME: usize = 64;
/// Bytes of a row whose columns are not of the types that are held beside it. (MySQL manual, "Limits on Table Column
/// Count and Row Size".)
const ROW: u64 = 65_535;

/// What tables are made with.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    pub(super) server: Target,
    /// A first column of type TIMESTAMP would be changed by every update.
    pub(super) odd_timestamps: bool,
}

impl Maker {
    /// For the server of this session.
    pub(super) fn of(session: &Session) -> Self {
        Self { server: session.server.clone(), odd_timestamps: session.odd_timestamps }
    }

    /// The type of a column; where nothing holds it, a name that the server refuses.
    pub(super) fn type_of(&self, table: &TableSchema, column: &Column) -> String {
        match self.counterpart(table, column) {
            Some(counterpart) => counterpart.name,
            None => format!("`no form of {}`", column.ty),
        }
    }

    fn counterpart(&self, table: &TableSchema, column: &Column) -> Option<Counterpart> {
        let keyed = table.key.iter().chain(&table.primary_key).any(|k| table.columns[*k].name == column.name);
        let keys = if keyed { table.key.len().max(table.primary_key.len()) } else { 0 };
        self.server.counterpart(column, keys)
    }

    /// Columns for which the target has no type that holds what they hold.
    pub(super) fn without_form(&self, table: &TableSchema) -> Vec<Finding> {
        findings::without_form(table, |column| self.counterpart(table, column))
    }

    /// The statement that makes a table, with its key: rows lie in its order.
    pub(super) fn create_table(&self, table: &TableSchema) -> String {
        let types = self.types(table);
        let mut parts: Vec<String> =
            table.columns.iter().zip(&types).map(|(column, ty)| self.definition(column, ty)).collect();
        let names =
            |key: &[usize]| key.iter().map(|at| quote::ident(&table.columns[*at].name)).collect::<Vec<_>>().join(", ");
        if !table.primary_key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", names(&table.primary_key)));
        }
        if !table.key.is_empty() && table.key != table.primary_key {
            parts.push(format!("UNIQUE KEY ({})", names(&table.key)));
        }
        format!(
            "CREATE TABLE {} (\n  {}\n) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {}",
            quote::table(&table.id),
            parts.join(",\n  "),
            self.server.collation,
        )
    }

    /// A column as it stands in a statement that makes it.
    pub(super) fn definition(&self, column: &Column, ty: &str) -> String {
        let null = match column.nullable {
            true => " NULL",
            // Without, the server would give it a default of its own.
            false if self.odd_timestamps && ty.starts_with("timestamp") => " NOT NULL DEFAULT '2000-01-01 00:00:00'",
            false => " NOT NULL",
        };
        format!("{} {ty}{null}", quote::ident(&column.name))
    }

    /// The types of the columns, the longest texts outside of the row where it would be too long.
    fn types(&self, table: &TableSchema) -> Vec<String> {
        let mut types: Vec<String> = table.columns.iter().map(|column| self.type_of(table, column)).collect();
        let width = |ty: &str| {
            let (word, rest) = ty.split_once('(').unwrap_or((ty, ""));
            let n: u64 = rest.split([')', ',']).next().and_then(|n| n.parse().ok()).unwrap_or(0);
            match word {
                "varchar" => n * 4 + 2,
                "char" => n * 4,
                "varbinary" | "binary" => n + 2,
                "decimal" => 30,
                _ => 12,
            }
        };
        let movable = |at: usize| {
            let column = &table.columns[at];
            !table.key.contains(&at)
                && !table.primary_key.contains(&at)
                && column.native.dialect != crate::mysql::types::DIALECT
        };
        while types.iter().map(|ty| width(ty)).sum::<u64>() > ROW - 1024 {
            let longest = (0..types.len()).filter(|at| movable(*at)).max_by_key(|at| width(&types[*at]));
            let Some(at) = longest.filter(|at| width(&types[*at]) > 100) else { break };
            let ty = &types[at];
            let rest = ty.split_once(')').map_or("", |(_, rest)| rest);
            types[at] =
                if ty.starts_with("var") && rest.is_empty() { "longblob".into() } else { format!("longtext{rest}") };
        }
        types
    }
}

/// Names that the server has no room for.
pub(super) fn too_long(table: &TableSchema) -> Vec<Finding> {
    let names = [&table.id.schema, &table.id.table].into_iter().chain(table.columns.iter().map(|c| &c.name));
    let long =
        |name: &&String| name.chars().count() > NAME || name.ends_with(' ') || name.chars().any(|c| c > '\u{ffff}');
    let finding = |name: &String| Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: format!(
            "name {name:?} cannot be one on the target: {NAME} characters, none of them beyond U+FFFF, and \
                          no blank at the end"
        ),
        remedy: Some("give it another name with a rule".into()),
    };
    names.filter(long).map(finding).collect()
}
