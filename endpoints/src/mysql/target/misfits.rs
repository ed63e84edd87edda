//! What keeps rows of a source's table from going into a table of the target.

use trem_engine::Remedy;
use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{Identity, TableSchema};

use super::create::Maker;
use super::fit;
use super::have::HaveTable;
use crate::mysql::quote;
use crate::mysql::types::Described;

impl HaveTable {
    /// Everything that keeps rows of `source` from going into this table.
    pub(super) fn misfits(&self, source: &TableSchema, maker: &Maker, needs_key: bool) -> Vec<Finding> {
        let name = quote::table(&source.id);
        let error = |subject: String, message: String, remedy: Remedy| Finding {
            severity: Severity::Error,
            subject,
            message,
            remedy: Some(remedy),
        };
        let whole = |message, remedy| error(source.id.to_string(), message, remedy);
        if self.kind != "BASE TABLE" {
            let message = format!("what has this name on the target is a {}, not a table", self.kind.to_lowercase());
            return vec![whole(message, "rename or drop it, or leave this table out".into())];
        }
        let mut found = maker.without_form(source);
        if !found.is_empty() {
            return found;
        }
        if !self.engine.eq_ignore_ascii_case("InnoDB") {
            let message = format!("storage engine {} has no transactions", self.engine);
            found.push(whole(message, Remedy::Sql(format!("ALTER TABLE {name} ENGINE = InnoDB"))));
        }
        for trigger in &self.triggers {
            let trigger = format!("{}.{}", quote::ident(&source.id.schema), quote::ident(trigger));
            let message =
                format!("trigger {trigger} would fire for replicated rows, and no setting keeps it from that");
            found.push(whole(message, Remedy::Sql(format!("DROP TRIGGER {trigger}"))));
        }
        let mut refuse = |column: &str, message: String, remedy: String| {
            found.push(error(format!("{}.{column}", source.id), message, Remedy::Sql(remedy)));
        };
        for column in &source.columns {
            let (quoted, ty) = (quote::ident(&column.name), maker.type_of(source, column));
            let modify = |null: &str| format!("ALTER TABLE {name} MODIFY {quoted} {ty}{null}");
            let Some(have) = self.column(&column.name) else {
                let remedy = format!("ALTER TABLE {name} ADD COLUMN {quoted} {ty}");
                refuse(&column.name, "the target table lacks this column".to_owned(), remedy);
                continue;
            };
            if have.generated {
                refuse(&column.name, "the target computes this column, the source does not".to_owned(), modify(""));
            } else if !fit::holds(&have.ty, &Described::of_ddl(&ty)) {
                let message = format!("type {} on the target cannot hold {ty}", have.ddl());
                refuse(&column.name, message, modify(if have.nullable { "" } else { " NOT NULL" }));
            } else if !have.nullable && column.nullable {
                let remedy = format!("ALTER TABLE {name} MODIFY {quoted} {} NULL", have.ddl());
                refuse(&column.name, "NOT NULL on the target, but not at the source".to_owned(), remedy);
            }
        }
        for have in self.extra(source).filter(|have| !have.nullable && !have.has_default && !have.generated) {
            let remedy = format!("ALTER TABLE {name} MODIFY {} {} NULL", quote::ident(&have.name), have.ddl());
            refuse(&have.name, "NOT NULL without a default, and the source lacks this column".to_owned(), remedy);
        }
        let key: Vec<&str> = source.key_names().collect();
        if needs_key && matches!(source.identity, Identity::Key | Identity::KeyWithFullImage) && !self.has_unique(&key)
        {
            let columns = key.iter().map(|k| quote::ident(k)).collect::<Vec<_>>().join(", ");
            let remedy = format!("ALTER TABLE {name} ADD UNIQUE KEY ({columns})");
            refuse(&key.join(", "), "the target has no unique index over exactly the key columns".to_owned(), remedy);
        }
        found
    }

    /// Whether a table that trem has created can be emptied and loaded again as it is.
    pub(super) fn serves(&self, source: &TableSchema, maker: &Maker) -> bool {
        self.misfits(source, maker, true).iter().all(|f| f.severity != Severity::Error)
    }
}
