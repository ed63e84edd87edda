//! From the text of an expression to something that can be evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DataFusionError, TableReference, exec_err, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{
    AggregateUDF, ColumnarValue, Expr, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF, create_udf,
};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::BinaryExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};
use trem_engine::condition::Condition;
use trem_engine::schema::Type;
use trem_engine::{Error, Result};

use super::input::Input;
use super::{condition, functions as own, narrowing, values};

/// Longer ones are refused.
const MOST_CHARACTERS: usize = 16_384;
/// And those of more words.
const MOST_TOKENS: usize = 2_000;
/// And those that nest deeper: evaluating them takes as much of the stack.
const MOST_DEPTH: usize = 150;
/// What planning nests into, whoever asks for it.
const STACK: usize = 64 << 20;

/// What has come of a text.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) compiled: Arc<dyn PhysicalExpr>,
    /// Which of the columns it was compiled for it reads, ascending, and what they mean.
    pub(super) inputs: Vec<(usize, Type)>,
    /// Those columns as it wants them.
    pub(super) schema: SchemaRef,
    /// What comes out.
    pub(super) ty: DataType,
    /// What of it can be said to others, if it is a condition.
    pub(super) condition: Option<Condition>,
}

pub(super) fn compile(text: &str, columns: &[Input<'_>]) -> Result<Planned> {
    deep(|| plan(text, columns))
}

/// Fails unless the text is an expression, whatever the columns.
pub(super) fn check(text: &str) -> Result<()> {
    deep(|| parse(text).map(drop))
}

/// On a stack of its own: how deep an expression nests is the operator's choice.
fn deep<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().stack_size(STACK);
        let planned = planner.spawn_scoped(scope, work);
        let planned = planned.map_err(|e| Error::transient("no thread for planning an expression").cause(e))?;
        planned.join().unwrap_or_else(|_| Err(Error::refused("the expression cannot be planned")))
    })
}

fn plan(text: &str, columns: &[Input<'_>]) -> Result<Planned> {
    let parsed = parse(text)?;
    let schema = schema_of(columns);
    let schema = DFSchema::try_from(schema).map_err(|e| refused(&e))?;
    let context = Context::new(columns);
    let options = ParserOptions {
        parse_float_as_decimal: true,
        map_string_types_to_utf8view: false,
        collect_spans: true,
        ..ParserOptions::default()
    };
    own::check_names(&parsed, &context)?;
    let planner = SqlToRel::new_with_options(&context, options);
    let planned = planner.sql_to_expr(parsed, &schema, &mut PlannerContext::new()).map_err(|e| refused(&e))?;
    let planned = planned.transform_up(|e| Ok(called(e, columns))).data().map_err(|e| refused(&e))?;
    allowed(&planned)?;
    own::check_calls(&planned, &schema, |c| columns.iter().find(|known| known.name == c.name).map(|known| known.ty))?;
    let schema = Arc::new(schema);
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&schema)).build());
    let coerced = simplifier.coerce(planned, &schema).and_then(|e| narrowing::called(e, &schema));
    let planned = coerced.and_then(|e| simplifier.simplify(e)).map_err(|e| refused(&e))?;
    shallow(&planned)?;
    // Only what it reads: nothing else is made ready for it.
    let used: BTreeSet<&Column> = planned.column_refs().into_iter().collect();
    let inputs: Vec<usize> =
        (0..columns.len()).filter(|i| used.iter().any(|c| c.name == columns[*i].field())).collect();
    let own = schema_of(&inputs.iter().map(|i| columns[*i]).collect::<Vec<_>>());
    let own = DFSchema::try_from(own).map_err(|e| refused(&e))?;
    let compiled = create_physical_expr(&planned, &own, &ExecutionProps::new(), &PhysicalPlanningContext::default())
        .and_then(loud)
        .map_err(|e| refused(&e))?;
    let ty = compiled.data_type(own.as_arrow()).map_err(|e| refused(&e))?;
    let inputs = inputs.into_iter().map(|i| (i, columns[i].ty.clone())).collect();
    let condition = condition::of(&planned, columns);
    Ok(Planned { compiled, inputs, schema: Arc::clone(own.inner()), ty, condition })
}

/// The columns as an expression sees them.
fn schema_of(columns: &[Input<'_>]) -> Schema {
    let fields = columns.iter().map(|c| Field::new(c.field(), values::type_of(c.ty), true));
    Schema::new(fields.collect::<Vec<_>>())
}

/// What is called becomes a column.
fn called(expr: Expr, columns: &[Input<'_>]) -> Transformed<Expr> {
    let Expr::ScalarFunction(function) = &expr else { return Transformed::no(expr) };
    match columns.iter().find(|c| c.called && c.name == function.func.name()) {
        Some(input) => Transformed::yes(Expr::Column(Column::from_name(input.field()))),
        None => Transformed::no(expr),
    }
}

fn parse(text: &str) -> Result<datafusion_sql::sqlparser::ast::Expr> {
    if text.len() > MOST_CHARACTERS {
        let what = format!("it has {} bytes, and {MOST_CHARACTERS} are the most", text.len());
        return Err(Error::refused(what).remedy("make it shorter"));
    }
    let wrong = |e: &dyn std::fmt::Display| {
        let said = e.to_string();
        let said = said.strip_prefix("sql parser error: ").unwrap_or(&said);
        Error::refused(said.replace("found: EOF", "found its end")).remedy("correct the expression")
    };
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|e| wrong(&e))?;
    let words = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).count();
    if words > MOST_TOKENS {
        let what = format!("it has {words} words and signs, and {MOST_TOKENS} are the most");
        return Err(Error::refused(what).remedy("make it shorter: a list of values goes into IN (...)"));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(own::signs_apart(tokens));
    let parsed = parser.parse_expr().map_err(|e| wrong(&e))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let what = format!("nothing is expected after the expression, found {}{}", rest.token, rest.span.start);
        return Err(Error::refused(what).remedy("one expression, without a semicolon"));
    }
    Ok(own::casts_called(parsed))
}

/// The same value for the same row, whenever and wherever it is asked for; and nothing but that row.
fn allowed(expr: &Expr) -> Result<()> {
    let mut fault = None;
    let mut look = vec![expr];
    while let Some(expr) = look.pop() {
        fault = fault.or(match expr {
            Expr::ScalarFunction(f) if f.func.signature().volatility != Volatility::Immutable => {
                let what = format!("{}() gives another value each time it is asked", f.func.name());
                let remedy = "leave it out: a row that is read again must get the values it had";
                Some(Error::refused(what).remedy(remedy))
            }
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                let what = "a subquery sees other rows, and an expression has the columns of its own row only";
                Some(Error::refused(what).remedy("write it without SELECT"))
            }
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                Some(Error::refused("an expression has one row, and nothing to aggregate").remedy("correct it"))
            }
            Expr::Placeholder(_) | Expr::ScalarVariable(..) => {
                Some(Error::refused("there are no parameters in an expression").remedy("write the value"))
            }
            _ => None,
        });
        children(expr, |child| look.push(child));
    }
    fault.map_or(Ok(()), Err)
}

fn shallow(expr: &Expr) -> Result<()> {
    let (mut look, mut deepest) = (vec![(expr, 1)], 0);
    while let Some((expr, depth)) = look.pop() {
        deepest = deepest.max(depth);
        children(expr, |child| look.push((child, depth + 1)));
    }
    if deepest > MOST_DEPTH {
        let what = format!("it nests {deepest} deep, and {MOST_DEPTH} is the most");
        return Err(Error::refused(what)
            .remedy("split it over several columns: a long chain of OR or || nests, IN (...) does not"));
    }
    Ok(())
}

fn children<'e>(expr: &'e Expr, mut each: impl FnMut(&'e Expr)) {
    let seen = expr.apply_children(|child| {
        each(child);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(seen.is_ok());
}

/// Arithmetic says where it does not fit instead of going round.
fn loud(expr: Arc<dyn PhysicalExpr>) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
    expr.transform_up(|expr| match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as _)),
        None => Ok(Transformed::no(expr)),
    })
    .data()
}

fn refused(error: &DataFusionError) -> Error {
    Error::refused(said(error)).remedy("correct the expression")
}

/// The message alone, and where in the text it is about.
pub(super) fn said(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let root = error.find_root();
    let mut text = match root {
        DataFusionError::Plan(message)
        | DataFusionError::Execution(message)
        | DataFusionError::NotImplemented(message) => message.clone(),
        DataFusionError::ArrowError(inner, _) => inner.to_string(),
        // It tells of features of a build, and of where to report them.
        DataFusionError::Internal(_) => "this cannot be computed in an expression".to_owned(),
        _ => text,
    };
    if let Some(span) = error.diagnostic().and_then(|d| d.span) {
        text.push_str(&format!(" (line {}, column {})", span.start.line, span.start.column));
    }
    text
}

/// What names mean inside an expression: functions, and nothing else.
struct Context {
    functions: &'static BTreeMap<String, Arc<ScalarUDF>>,
    called: BTreeMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

impl Context {
    fn new(columns: &[Input<'_>]) -> Self {
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(own::Operators),
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        ];
        let called = columns.iter().filter(|c| c.called).map(|c| (c.name.to_owned(), placeholder(c))).collect();
        Self { functions: functions(), called, planners, options: ConfigOptions::default() }
    }
}

/// A function without arguments that [`called`] puts a column in the place of.
fn placeholder(input: &Input<'_>) -> Arc<ScalarUDF> {
    let never = |_: &[ColumnarValue]| exec_err!("it is not called");
    let ty = values::type_of(input.ty);
    Arc::new(create_udf(input.name, Vec::new(), ty, Volatility::Immutable, Arc::new(never)))
}

/// By all their names, made once.
fn functions() -> &'static BTreeMap<String, Arc<ScalarUDF>> {
    static FUNCTIONS: OnceLock<BTreeMap<String, Arc<ScalarUDF>>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let mut all = BTreeMap::new();
        for function in datafusion_functions::all_default_functions().into_iter().chain(own::all()) {
            for alias in function.aliases() {
                all.insert(alias.clone(), Arc::clone(&function));
            }
            all.insert(function.name().to_owned(), function);
        }
        all
    })
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> datafusion_common::Result<Arc<dyn TableSource>> {
        plan_err!("there is no table {name} in an expression")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.called.get(name).or_else(|| self.functions.get(name)).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.called.keys().chain(self.functions.keys()).cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
