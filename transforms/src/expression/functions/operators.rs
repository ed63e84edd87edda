//! What operators and subscripts become.

use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion_expr::{Expr, GetFieldAccess};
use datafusion_sql::sqlparser::ast::BinaryOperator;

use super::function::Own;
use super::json::Part;

/// Plans those of JSON and of arrays.
#[derive(Debug)]
pub(crate) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let own = match raw.op {
            BinaryOperator::Arrow => Own::Get(Part::Json),
            BinaryOperator::LongArrow => Own::Get(Part::Text),
            BinaryOperator::HashArrow => Own::Follow(Part::Json),
            BinaryOperator::HashLongArrow => Own::Follow(Part::Text),
            BinaryOperator::AtArrow
            | BinaryOperator::ArrowAt
            | BinaryOperator::HashMinus
            | BinaryOperator::AtQuestion
            | BinaryOperator::AtAt
            | BinaryOperator::Question
            | BinaryOperator::QuestionAnd
            | BinaryOperator::QuestionPipe
            | BinaryOperator::PGOverlap => {
                return plan_err!("expressions have no operator {}: of JSON there are ->, ->>, #> and #>>", raw.op);
            }
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(PlannerResult::Planned(own.call(vec![raw.left, raw.right])))
    }

    fn plan_array_literal(&self, _: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        plan_err!("there are no arrays of values in an expression: write one as text, '{{a,b}}'")
    }

    fn plan_field_access(&self, raw: RawFieldAccessExpr, _: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        match raw.field_access {
            // a[1][2] is one element of an array with two dimensions, not an element of an element.
            GetFieldAccess::ListIndex { key } => Ok(PlannerResult::Planned(match raw.expr {
                Expr::ScalarFunction(mut call) if Own::called(&call) == Some(Own::Subscript) => {
                    call.args.push(*key);
                    Expr::ScalarFunction(call)
                }
                array => Own::Subscript.call(vec![array, *key]),
            })),
            GetFieldAccess::ListRange { .. } => {
                plan_err!("a subscript has one number: there are no parts of arrays, such as a[1:2], in an expression")
            }
            GetFieldAccess::NamedStructField { name } => {
                plan_err!("a subscript has to be a whole number, not {name}: of JSON, -> and ->> give members")
            }
        }
    }
}
