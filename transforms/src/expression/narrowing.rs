//! Casts of decimals that leave digits out. The simplifier would compare the decimal itself, as if the cast had kept
//! all of them: `CAST(1.4 AS int) = 1` would be false.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{DFSchema, Result, exec_err};
use datafusion_expr::{ColumnarValue, Expr, ExprSchemable, Volatility, create_udf};

/// Makes calls of them, which nobody looks through.
pub(super) fn called(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform_up(|expr| {
        let Expr::Cast(cast) = &expr else { return Ok(Transformed::no(expr)) };
        let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type().clone());
        if !leaves_digits_out(&from, &to) {
            return Ok(Transformed::no(expr));
        }
        let result = to.clone();
        let value = move |arguments: &[ColumnarValue]| match arguments {
            [value] => value.cast_to(&to, None),
            _ => exec_err!("a cast has one value"),
        };
        let function = create_udf("CAST", vec![from], result, Volatility::Immutable, Arc::new(value));
        Ok(Transformed::yes(function.call(vec![(*cast.expr).clone()])))
    })
    .data()
}

fn leaves_digits_out(from: &DataType, to: &DataType) -> bool {
    let scale = |ty: &DataType| match ty {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        _ => ty.is_integer().then_some(0),
    };
    scale(from).zip(scale(to)).is_some_and(|(from, to)| to < from)
}
