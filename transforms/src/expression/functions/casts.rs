//! Casts to types that text carries in an expression: they say whether the text is a value of the type.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    Value, VisitMut, VisitorMut,
};

use super::function::Own;

/// Makes calls of them.
pub(crate) fn called(mut parsed: Expr) -> Expr {
    let _ = parsed.visit(&mut Casts);
    parsed
}

struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let own = match expr {
            Expr::Cast { data_type, array: false, format: None, .. } => own(data_type),
            Expr::TypedString(typed) => own(&typed.data_type),
            _ => None,
        };
        if let Some(own) = own {
            *expr = match std::mem::replace(expr, Expr::value(Value::Null)) {
                Expr::Cast { expr, .. } => call(own, *expr),
                Expr::TypedString(typed) => call(own, Expr::Value(typed.value)),
                other => other,
            };
        }
        ControlFlow::Continue(())
    }
}

fn own(ty: &DataType) -> Option<Own> {
    match ty {
        DataType::Uuid => Some(Own::CastUuid),
        DataType::JSON | DataType::JSONB => Some(Own::CastJson),
        _ => None,
    }
}

fn call(own: Own, value: Expr) -> Expr {
    let arguments = FunctionArgumentList {
        duplicate_treatment: None,
        args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))],
        clauses: Vec::new(),
    };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_quote('"', own.name())]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
