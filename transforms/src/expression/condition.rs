//! What of a planned condition means the same in the source, so that a load need not read the other rows.

use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::{Expr, Operator};
use trem_engine::condition::{Comparison, Condition};
use trem_engine::schema::Type;

use super::input::Input;

/// A condition that is true of every row of which the expression is true; `None` where all that can be said is in words
/// of ours. What is said of a part of a conjunction is said of the whole; of an alternative, all has to be said.
pub(super) fn of(expr: &Expr, columns: &[Input<'_>]) -> Option<Condition> {
    match expr {
        Expr::Alias(alias) => of(&alias.expr, columns),
        Expr::BinaryExpr(binary) if binary.op == Operator::And => {
            let parts: Vec<Condition> =
                [&binary.left, &binary.right].into_iter().filter_map(|side| of(side, columns)).collect();
            (!parts.is_empty()).then_some(Condition::All(parts))
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let parts = [&binary.left, &binary.right].into_iter().map(|side| of(side, columns));
            parts.collect::<Option<Vec<Condition>>>().map(Condition::Any)
        }
        Expr::BinaryExpr(binary) => {
            let by = comparison(binary.op)?;
            let (column, by, value) = match (column(&binary.left, columns), column(&binary.right, columns)) {
                (Some(column), None) => (column, by, literal(&binary.right)?),
                (None, Some(column)) => (column, by.turned(), literal(&binary.left)?),
                _ => return None,
            };
            Some(Condition::Compare { column, by, value })
        }
        Expr::InList(list) if !list.negated => {
            let values = list.list.iter().map(literal).collect::<Option<Vec<String>>>()?;
            Some(Condition::OneOf { column: column(&list.expr, columns)?, values })
        }
        Expr::InList(list) => {
            let (column, by) = (column(&list.expr, columns)?, Comparison::NotEqual);
            let each = list.list.iter().map(|value| Some(Condition::Compare { column, by, value: literal(value)? }));
            each.collect::<Option<Vec<Condition>>>().map(Condition::All)
        }
        Expr::IsNull(of) => Some(Condition::Null { column: column(of, columns)?, is: true }),
        Expr::IsNotNull(of) => Some(Condition::Null { column: column(of, columns)?, is: false }),
        Expr::Column(_) => is(expr, "true", columns),
        Expr::Not(inner) => is(inner, "false", columns),
        _ => None,
    }
}

/// A column of true and false.
fn is(expr: &Expr, value: &str, columns: &[Input<'_>]) -> Option<Condition> {
    let column = column(expr, columns).filter(|at| *columns[*at].ty == Type::Bool)?;
    Some(Condition::Compare { column, by: Comparison::Equal, value: value.to_owned() })
}

fn comparison(operator: Operator) -> Option<Comparison> {
    Some(match operator {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// The column, with the values that it has: as another number of the same value at most.
fn column(expr: &Expr, columns: &[Input<'_>]) -> Option<usize> {
    match expr {
        Expr::Column(Column { name, .. }) => columns.iter().position(|c| !c.called && c.name == name),
        Expr::Cast(cast) => {
            let at = column(&cast.expr, columns)?;
            holds(cast.field.data_type(), columns[at].ty).then_some(at)
        }
        _ => None,
    }
}

/// Whether every value of a column is the same value there.
fn holds(to: &DataType, ty: &Type) -> bool {
    let digits = match ty {
        Type::Decimal(Some((precision, scale))) => Some((i32::from(*precision) - i32::from(*scale), i32::from(*scale))),
        Type::Int8 | Type::UInt8 | Type::Year | Type::Int16 | Type::UInt16 => Some((5, 0)),
        Type::Int32 | Type::UInt32 => Some((10, 0)),
        Type::Int64 | Type::UInt64 => Some((20, 0)),
        _ => None,
    };
    let Some((whole, scale)) = digits else { return false };
    match to {
        DataType::Int64 => ty.arrow().is_signed_integer(),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            i32::from(*p) - i32::from(*s) >= whole && i32::from(*s) >= scale
        }
        _ => false,
    }
}

fn is_decimal(ty: &DataType) -> bool {
    matches!(ty, DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// As a condition has it; `None` for NULL too.
fn literal(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    let plain = |ty: &DataType| {
        ty.is_integer()
            || is_decimal(ty)
            || matches!(ty, DataType::Boolean | DataType::Utf8 | DataType::Date32 | DataType::Timestamp(..))
    };
    Some(value).filter(|value| plain(&value.data_type()) && !value.is_null()).and_then(text)
}

fn text(value: &ScalarValue) -> Option<String> {
    let array = value.to_array().ok()?;
    let text = cast_with_options(&array, &DataType::Utf8, &CastOptions::default()).ok()?;
    let text = Arc::clone(&text);
    text.is_valid(0).then(|| text.as_string::<i32>().value(0).to_owned())
}

#[cfg(test)]
mod tests {
    use trem_engine::condition::Condition;
    use trem_engine::schema::{Length, Type};

    use crate::expression::{Expression, Input};
    use crate::formula::Formula;

    fn said(text: &str) -> String {
        let types = [
            ("i", Type::Int32),
            ("b", Type::Bool),
            ("t", Type::Text(Length::Unlimited)),
            ("d", Type::Decimal(Some((9, 2)))),
            ("day", Type::Date),
            ("at", Type::TimestampTz(6)),
        ];
        let columns: Vec<Input<'_>> = types.iter().map(|(name, ty)| Input { name, ty, called: false }).collect();
        let expression = Expression::new(&Formula::new(text.to_owned(), false), &columns).expect("an expression");
        let name = |at: &usize| types[*at].0;
        fn show(condition: &Condition, name: &dyn Fn(&usize) -> &'static str) -> String {
            let each = |parts: &[Condition]| parts.iter().map(|p| show(p, name)).collect::<Vec<_>>().join(", ");
            match condition {
                Condition::All(parts) => format!("all({})", each(parts)),
                Condition::Any(parts) => format!("any({})", each(parts)),
                Condition::Compare { column, by, value } => format!("{} {by:?} {value}", name(column)),
                Condition::OneOf { column, values } => format!("{} of {}", name(column), values.join("/")),
                Condition::Null { column, is } => format!("{} null {is}", name(column)),
            }
        }
        expression.condition().map_or_else(|| "nothing".to_owned(), |condition| show(condition, &name))
    }

    #[test]
    fn what_others_understand() {
        for (text, expected) in [
            ("i > 5", "i Greater 5"),
            ("5 > i", "i Less 5"),
            ("i BETWEEN 1 AND 4 AND b", "all(all(i GreaterOrEqual 1, i LessOrEqual 4), b Equal true)"),
            ("t = 'x' OR NOT b", "any(t Equal x, b Equal false)"),
            ("t IN ('a', 'b', 'c', 'd', 'e')", "t of a/b/c/d/e"),
            ("d >= 10", "d GreaterOrEqual 10.00"),
            ("day < '2026-01-31'", "day Less 2026-01-31"),
            ("at >= '2026-01-31 10:00:00+02'", "at GreaterOrEqual 2026-01-31T08:00:00Z"),
            ("t IS NOT NULL AND upper(t) = 'A'", "all(t null false)"),
            ("upper(t) = 'A' OR i = 1", "nothing"),
            ("NOT (i = 1 AND upper(t) = 'A')", "nothing"),
            ("i + 1 > 5", "nothing"),
            ("i > d", "nothing"),
            ("i", "nothing"),
            ("NULL", "nothing"),
            ("CAST(d AS DECIMAL(5, 0)) = 1", "nothing"),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
    }
}
