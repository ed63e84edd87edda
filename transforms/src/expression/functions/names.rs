//! Functions that are not there, and those that do not give the same value for the same row.

use std::ops::ControlFlow;

use datafusion_expr::Volatility;
use datafusion_expr::planner::ContextProvider;
use datafusion_sql::sqlparser::ast::{self, Expr, ObjectNamePart, Spanned, Visit, Visitor};
use datafusion_sql::sqlparser::tokenizer::Span;
use trem_engine::Error;

use crate::near;

/// What tells the time, here or in a database.
const TIMES: &[&str] = &[
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "today",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "getdate",
    "sysdate",
    "utc_timestamp",
];
/// What makes something up.
const CHANCES: &[&str] = &[
    "random",
    "rand",
    "uuid",
    "newid",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];
const AGGREGATES: &[&str] =
    &["sum", "count", "avg", "min", "max", "array_agg", "string_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or"];

/// Looks at the names of all functions.
///
/// # Errors
/// Class `Refused`, with the place of the first one that may not stand there, and what may.
pub(crate) fn check(parsed: &Expr, context: &impl ContextProvider) -> trem_engine::Result<()> {
    match parsed.visit(&mut Names { context }) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Names<'c, C> {
    context: &'c C,
}

impl<C: ContextProvider> Visitor for Names<'_, C> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(call) if call.over.is_none() => match self.fault(call) {
                Some(error) => ControlFlow::Break(Box::new(error)),
                None => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

impl<C: ContextProvider> Names<'_, C> {
    fn fault(&self, call: &ast::Function) -> Option<Error> {
        let name = name_of(call);
        let there = self.context.get_function_meta(&name);
        let place = place(call.name.span());
        if there.as_ref().is_some_and(|function| function.signature().volatility == Volatility::Immutable) {
            return None;
        }
        let changing = format!("{name}() gives another value each time it is asked{place}");
        Some(if TIMES.contains(&name.as_str()) {
            Error::refused(changing).remedy("use commit_time(), when the transaction committed at the source")
        } else if CHANCES.contains(&name.as_str()) {
            let remedy = "use a digest of the key, such as sha256(id::text) or uuid_v5('(a UUID)', id::text)";
            Error::refused(changing).remedy(remedy)
        } else if there.is_some() {
            Error::refused(changing).remedy("leave it out: a row that is read again must get the values it had")
        } else if AGGREGATES.contains(&name.as_str()) {
            let what = format!("{name}() is of many rows, and an expression has one{place}");
            Error::refused(what).remedy("leave it out; the greatest of several columns is greatest(...)")
        } else {
            let remedy = match self.near(&name) {
                Some(near) => format!("did you mean {near}()?"),
                None => "see the functions of expressions in docs/RULES.md".to_owned(),
            };
            Error::refused(format!("there is no function {name}(){place}")).remedy(remedy)
        })
    }

    /// The nearest name of what may be called.
    fn near(&self, name: &str) -> Option<String> {
        let constant = |name: &String| {
            // Operators and casts are among them.
            let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let function = self.context.get_function_meta(name);
            is_name && function.is_some_and(|function| function.signature().volatility == Volatility::Immutable)
        };
        let names: Vec<String> = self.context.udf_names().into_iter().filter(constant).collect();
        near::to(name, names.iter().map(String::as_str)).map(str::to_owned)
    }
}

fn place(span: Span) -> String {
    format!(" (line {}, column {})", span.start.line, span.start.column)
}

/// As functions are looked up: folded to lower case, unless it is quoted.
fn name_of(call: &ast::Function) -> String {
    match call.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] if name.quote_style.is_some() => name.value.clone(),
        [ObjectNamePart::Identifier(name)] => name.value.to_ascii_lowercase(),
        _ => call.name.to_string(),
    }
}
