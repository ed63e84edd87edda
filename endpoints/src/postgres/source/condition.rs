//! Conditions on rows in SQL of PostgreSQL, as far as they mean there what they mean to the engine.

use trem_engine::condition::{Comparison, Condition};
use trem_engine::schema::{Column, TableSchema, Type};

use crate::postgres::quote;
use crate::postgres::types::DIALECT;

/// What every row has to be that is; `None` where nothing can be said of it here.
pub(super) fn sql(table: &TableSchema, condition: &Condition) -> Option<String> {
    let of = |column: &usize| table.columns.get(*column).and_then(Operand::of);
    match condition {
        Condition::All(parts) => {
            let parts: Vec<String> = parts.iter().filter_map(|part| sql(table, part)).collect();
            (!parts.is_empty()).then(|| joined(&parts, " AND "))
        }
        Condition::Any(parts) => {
            let parts = parts.iter().map(|part| sql(table, part)).collect::<Option<Vec<String>>>()?;
            Some(joined(&parts, " OR "))
        }
        Condition::Compare { column, by, value } => of(column)?.compared(*by, std::slice::from_ref(value)),
        Condition::OneOf { column, values } => of(column)?.compared(Comparison::Equal, values),
        Condition::Null { column, is } => {
            Some(format!("{} IS {}NULL", of(column)?.name, if *is { "" } else { "NOT " }))
        }
    }
}

fn joined(parts: &[String], by: &str) -> String {
    format!("({})", parts.join(by))
}

/// A column that compares here as it does in the engine.
struct Operand<'a> {
    /// The column.
    name: String,
    /// What is compared.
    value: String,
    /// Its order is that of the engine, too.
    ordered: bool,
    column: &'a Column,
}

impl<'a> Operand<'a> {
    fn of(column: &'a Column) -> Option<Self> {
        if column.native.dialect != DIALECT {
            return None;
        }
        let name = quote::ident(&column.name);
        let is_text = ["text", "character varying"].iter().any(|text| column.native.name.starts_with(text));
        let (value, ordered) = match &column.ty {
            Type::Bool
            | Type::Int16
            | Type::Int32
            | Type::Int64
            | Type::Decimal(Some(_))
            | Type::Date
            | Type::Timestamp(_)
            | Type::TimestampTz(_) => (name.clone(), true),
            // Blanks at the end are nothing to `character`, and a collation may hold more for equal.
            Type::Text(_) if is_text => (format!("{name}::text COLLATE \"C\""), false),
            Type::Enum(_) | Type::Uuid => (format!("{name}::text COLLATE \"C\""), false),
            _ => return None,
        };
        Some(Self { name, value, ordered, column })
    }

    /// How it stands to any of the values.
    fn compared(&self, by: Comparison, values: &[String]) -> Option<String> {
        let equality = matches!(by, Comparison::Equal | Comparison::NotEqual);
        if !equality && !self.ordered {
            return None;
        }
        let value = |value: &String| match base(&self.column.ty, value) {
            Some(ty) => format!("{}::{ty}", quote::literal(value)),
            None => quote::literal(value),
        };
        let values: Vec<String> = values.iter().map(value).collect();
        let said = match &values[..] {
            [value] => format!("{} {} {value}", self.value, operator(by)),
            _ => format!("{} IN ({})", self.value, values.join(", ")),
        };
        // Which no number of an expression is: such a row is told of there.
        let is_decimal = matches!(self.column.ty, Type::Decimal(_));
        Some(if is_decimal { format!("({said} OR {} = 'NaN')", self.name) } else { said })
    }
}

/// The type of a value, without what would round it; `None` for text.
fn base(ty: &Type, value: &str) -> Option<&'static str> {
    Some(match ty {
        Type::Bool => "boolean",
        Type::Int16 | Type::Int32 | Type::Int64 if value.parse::<i64>().is_ok() => "bigint",
        Type::Int16 | Type::Int32 | Type::Int64 | Type::Decimal(_) => "numeric",
        Type::Date => "date",
        Type::Timestamp(_) => "timestamp",
        Type::TimestampTz(_) => "timestamptz",
        _ => return None,
    })
}

fn operator(by: Comparison) -> &'static str {
    match by {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::types::native;
    use trem_engine::schema::{Identity, Length, TableId};

    fn table() -> TableSchema {
        let column = |(name, ty, native_name): (&str, Type, &str)| Column {
            name: name.to_owned(),
            ty,
            native: native(native_name, 0, -1),
            nullable: true,
            omissible: false,
        };
        let text = Type::Text(Length::Unlimited);
        let columns = [
            ("i", Type::Int32, "integer"),
            ("t", text.clone(), "character varying(9)"),
            ("c", text, "character(3)"),
            ("d", Type::Decimal(Some((9, 2))), "numeric(9,2)"),
            ("f", Type::Float64, "double precision"),
        ];
        TableSchema {
            id: TableId::new("s", "t"),
            native_id: None,
            columns: columns.into_iter().map(column).collect(),
            key: Vec::new(),
            primary_key: Vec::new(),
            identity: Identity::Full,
            generated: Vec::new(),
            history: Default::default(),
        }
    }

    #[test]
    fn only_what_is_the_same_is_said() {
        let table = table();
        let compare = |column, by, value: &str| Condition::Compare { column, by, value: value.to_owned() };
        let said = |condition: Condition| sql(&table, &condition);
        let one = compare(0, Comparison::Less, "5");
        assert_eq!(said(one.clone()).as_deref(), Some("\"i\" < '5'::bigint"));
        assert_eq!(said(compare(0, Comparison::Less, "5.5")).as_deref(), Some("\"i\" < '5.5'::numeric"));
        let text = compare(1, Comparison::Equal, "it's");
        assert_eq!(said(text.clone()).as_deref(), Some("\"t\"::text COLLATE \"C\" = 'it''s'"));
        let unsaid =
            [compare(1, Comparison::Less, "a"), compare(2, Comparison::Equal, "a"), compare(4, Comparison::Equal, "1")];
        for condition in unsaid {
            assert_eq!(said(condition.clone()), None, "{condition:?}");
            assert_eq!(said(Condition::Any(vec![one.clone(), condition.clone()])), None);
            let all = said(Condition::All(vec![one.clone(), condition]));
            assert_eq!(all.as_deref(), Some("(\"i\" < '5'::bigint)"));
        }
        let list = Condition::OneOf { column: 3, values: vec!["1.50".to_owned(), "2.00".to_owned()] };
        let expected = "(\"d\" IN ('1.50'::numeric, '2.00'::numeric) OR \"d\" = 'NaN')";
        assert_eq!(said(list.clone()).as_deref(), Some(expected));
        let null = Condition::Null { column: 1, is: false };
        let both = said(Condition::Any(vec![text, null]));
        assert_eq!(both.as_deref(), Some("(\"t\"::text COLLATE \"C\" = 'it''s' OR \"t\" IS NOT NULL)"));
    }
}
