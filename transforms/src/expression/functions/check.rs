//! Whether our own functions are given what they take, before anything else looks at it: the answers are ours, and they
//! say where.

use arrow_schema::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, ScalarValue, Spans};
use datafusion_expr::{Expr, ExprSchemable};
use trem_engine::schema::Type;
use trem_engine::{Error, Result};

use super::array_text;
use super::function::{Own, Takes};

/// Steps of the longest path: following one reads what it leads into once for each of them.
const MOST_STEPS: usize = 100;

/// Looks at all calls of our own functions. `type_of` knows what the columns mean.
///
/// # Errors
/// Class `Refused`, with what is wrong and, where a column is meant, its place in the text.
pub(crate) fn check<'t>(expr: &Expr, schema: &DFSchema, type_of: impl Fn(&Column) -> Option<&'t Type>) -> Result<()> {
    let mut fault = Ok(());
    let looked = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && let Some(own) = Own::called(call)
        {
            fault = call_is_right(own, &call.args, schema, &type_of);
        }
        Ok(if fault.is_err() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(looked.is_ok());
    fault
}

fn call_is_right<'t>(
    own: Own,
    arguments: &[Expr],
    schema: &DFSchema,
    type_of: &impl Fn(&Column) -> Option<&'t Type>,
) -> Result<()> {
    let (kinds, count) = own.takes();
    let name = own.name();
    if !count.contains(&arguments.len()) {
        let most = if *count.end() == usize::MAX { "or more".to_owned() } else { format!("to {}", count.end()) };
        let takes =
            if count.start() == count.end() { count.start().to_string() } else { format!("{} {most}", count.start()) };
        let what = format!(
            "{name} takes {takes} argument{}, and here are {}",
            if takes == "1" { "" } else { "s" },
            arguments.len()
        );
        return Err(Error::refused(what).remedy("correct the expression"));
    }
    if matches!(own, Own::Extract(_)) && arguments.len() > MOST_STEPS {
        return Err(too_long(arguments.len() - 1));
    }
    let kinds = kinds.iter().chain(std::iter::repeat(kinds.last().unwrap_or(&Takes::Text)));
    for (takes, argument) in kinds.zip(arguments) {
        argument_is_right(name, *takes, argument, schema, type_of)?;
    }
    Ok(())
}

fn argument_is_right<'t>(
    name: &str,
    takes: Takes,
    argument: &Expr,
    schema: &DFSchema,
    type_of: &impl Fn(&Column) -> Option<&'t Type>,
) -> Result<()> {
    // What cannot be typed is told by who looks at it next.
    let Ok(ty) = argument.get_type(schema) else { return Ok(()) };
    let fault = |given: String| {
        let (wanted, remedy) = wanted(takes);
        Err(Error::refused(format!("{name} takes {wanted}, and {given}{}", place(argument))).remedy(remedy))
    };
    match argument {
        Expr::Column(column) if let Some(meaning) = type_of(column) => {
            let right = match (takes, meaning) {
                (Takes::Json, Type::Json | Type::Text(_)) | (Takes::Array, Type::Text(_)) => true,
                (Takes::Array, Type::Array(element)) if element.to_string() == "box" => {
                    return fault(format!(
                        "the elements of column {}, of type {meaning}, have semicolons",
                        column.name
                    ));
                }
                (Takes::Array, Type::Array(_)) => true,
                (Takes::Json | Takes::Array, _) => false,
                _ => takes.from(&ty).is_some(),
            };
            if right { Ok(()) } else { fault(format!("column {} is of type {meaning}", column.name)) }
        }
        Expr::ScalarFunction(call) if takes == Takes::Array && Own::called(call).is_some_and(|own| own.gives().1) => {
            fault("this is JSON".to_owned())
        }
        Expr::Literal(ScalarValue::Utf8(Some(path)), _) if takes == Takes::Path => match array_text::elements(path) {
            Ok(steps) if steps.len() > MOST_STEPS => Err(too_long(steps.len())),
            Ok(_) => Ok(()),
            Err(_) => fault("this is none".to_owned()),
        },
        _ if takes.from(&ty).is_some() => Ok(()),
        _ => fault(format!("this is of type {}", shown(&ty))),
    }
}

fn wanted(takes: Takes) -> (&'static str, &'static str) {
    match takes {
        Takes::Json => ("JSON, or text with it", "correct the expression, or make text of it: CAST(... AS text)"),
        Takes::Array => (
            "an array, or text with one, such as {1,2}",
            "correct the expression: parts of JSON are had by ->, and those of text by substr(...)",
        ),
        Takes::Text => ("text", "make text of it: CAST(... AS text)"),
        Takes::Whole => ("a whole number there", "correct the expression, or make one of it: CAST(... AS bigint)"),
        Takes::Key => ("a text or a whole number as a key", "correct the expression"),
        Takes::Path => ("a path such as '{a,0,b}'", "correct the path"),
    }
}

fn too_long(steps: usize) -> Error {
    let what = format!("a path has {steps} steps, and {MOST_STEPS} are the most");
    Error::refused(what).remedy("make it shorter")
}

/// Where its first column stands in the text.
fn place(argument: &Expr) -> String {
    let first = argument
        .column_refs()
        .into_iter()
        .filter_map(|column| Spans::first(&column.spans))
        .min_by_key(|span| (span.start.line, span.start.column));
    first.map(|span| format!(" (line {}, column {})", span.start.line, span.start.column)).unwrap_or_default()
}

/// As the text of an expression has it, as far as that is one word.
fn shown(ty: &DataType) -> String {
    match ty {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}
