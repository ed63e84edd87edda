//! Tables that several tables of a source become: what is done with the rows of one leaves those of the others alone.

use trem_engine::schema::TableSchema;

use super::create::Maker;
use super::have::{HaveColumn, HaveTable};
use crate::mysql::quote;
use crate::mysql::types::Described;

/// The statements that let a table that trem has made take the rows of one more, and what it is after them.
pub(super) fn widened(have: &HaveTable, table: &TableSchema, maker: &Maker) -> (Vec<String>, HaveTable) {
    let (mut have, name) = (have.clone(), quote::table(&table.id));
    let mut statements = Vec::new();
    let is_key = |column: &str| table.key.iter().chain(&table.primary_key).any(|k| table.columns[*k].name == column);
    for column in have.columns.iter_mut().filter(|c| !c.nullable && !c.has_default && !c.generated) {
        let nullable = table.column(&column.name).is_none_or(|at| table.columns[at].nullable);
        if nullable && !is_key(&column.name) {
            statements.push(format!("ALTER TABLE {name} MODIFY {} {} NULL", quote::ident(&column.name), column.ddl()));
            column.nullable = true;
        }
    }
    for column in &table.columns {
        if have.column(&column.name).is_none() {
            let ty = maker.type_of(table, column);
            statements.push(format!("ALTER TABLE {name} ADD COLUMN {} {ty} NULL", quote::ident(&column.name)));
            have.columns.push(HaveColumn {
                name: column.name.clone(),
                ty: Described::of_ddl(&ty),
                nullable: true,
                has_default: false,
                generated: false,
            });
        }
    }
    (statements, have)
}
