//! Functions that make large values out of small ones, or take long over them, with a ceiling.
//!
//! Guarantees: no call of a function in [`WATCHED`], and no `||`, starts to build more than its share for one batch of rows,
//! or a comparison of texts or lists that takes more than [`WORK_MAX`] steps. The memory pool does not see what scalar
//! functions allocate, nothing interrupts them, and a statement of a few lines can square the size of a text at every
//! step; so size and work are estimated before the call. A regular expression is a literal of at most
//! [`PATTERN_BYTES_MAX`] bytes: it is compiled once for a batch, not once for a row.

use crate::control::Control;
use crate::error::{Code, QueryError};
use crate::gate;
use crate::sizes::array_bytes;
use crate::views::TABLES;
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Like, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Steps of one call over one batch: about a second.
pub const WORK_MAX: u64 = 1 << 30;
/// Bytes of one value that a statement computes from literals alone.
pub const LITERAL_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a regular expression.
pub const PATTERN_BYTES_MAX: usize = 1000;
/// Bytes of a pattern of LIKE.
const LIKE_BYTES_MAX: usize = 4000;
/// Bytes that the literals of a statement may take in one batch, each in every row.
const LITERALS_BYTES_MAX: usize = 32 << 20;

/// Functions whose result can be larger than all their arguments, or whose cost can be their product.
pub const WATCHED: &[&str] = &[
    "array_append",
    "array_concat",
    "array_except",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_to_string",
    "array_union",
    "concat",
    "concat_ws",
    "encode",
    "find_in_set",
    "initcap",
    "lower",
    "make_array",
    "overlay",
    "regexp_match",
    "regexp_replace",
    "replace",
    "split_part",
    "string_to_array",
    "strpos",
    "substr_index",
    "to_char",
    "translate",
    "upper",
];

/// Functions that the planner puts in, or that belong to our own views: a statement cannot call them by name. Those that open the
/// bodies of authority have the names of their tables.
const INTERNAL: [&str; 4] = ["chain_of_decision", "get_field", "named_struct", "struct"];

fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name) || TABLES.contains(&name)
}

/// The same plan, with the ceilings in it.
pub(crate) fn bound(plan: LogicalPlan, control: &Arc<Control>) -> Result<LogicalPlan> {
    let calls = Cell::new(0);
    let bounded = plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        let mapped =
            plan.map_expressions(|expr| expr.transform_up(|expr| bound_expr(expr, &schema, control, &calls)))?;
        if mapped.transformed { mapped.map_data(LogicalPlan::recompute_schema) } else { Ok(mapped) }
    })?;
    control.set_calls(calls.get());
    Ok(bounded.data)
}

fn bound_expr(expr: Expr, schema: &DFSchema, control: &Arc<Control>, calls: &Cell<u64>) -> Result<Transformed<Expr>> {
    let count = || calls.set(calls.get() + 1);
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, .. })
            if !gate::is_offered_scalar(func.name()) && !is_internal(func.name()) =>
        {
            let message = format!("the function `{}` is not offered", func.name());
            Err(DataFusionError::External(Box::new(QueryError::new(Code::FunctionNotAllowed, message))))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if WATCHED.contains(&func.name()) => {
            count();
            let func = Arc::new(ScalarUDF::from(Bounded { inner: func, control: control.clone() }));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            count();
            // Between lists it is another function, which the planner has put in place already.
            let text = |side: &Expr| side.get_type(schema).is_ok_and(|kind| !kind.is_nested() && !kind.is_binary());
            if text(&left) && text(&right) {
                let signature = Signature::user_defined(Volatility::Immutable);
                let concat = Concat { signature, control: control.clone() };
                let call = ScalarFunction { func: Arc::new(ScalarUDF::from(concat)), args: vec![*left, *right] };
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            } else {
                Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right })))
            }
        }
        // These copy what they choose from.
        Expr::Case(_) | Expr::ScalarFunction(_) | Expr::Cast(_) => {
            if expr.get_type(schema).is_ok_and(|kind| kind.primitive_width().is_none()) {
                count();
            }
            Ok(Transformed::no(expr))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Looks at a plan whose constants are worked out: refuses patterns that are not literals or too long, and gives the rows
/// that a batch may have when each literal is in every row.
pub(crate) fn check_literals(plan: &LogicalPlan, batch_rows: usize) -> Result<usize> {
    let mut bytes = 0usize;
    let mut wrong = None;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Literal(value, _) => bytes = bytes.saturating_add(literal_bytes(value)),
                    Expr::Like(Like { pattern, .. }) => check_pattern(pattern, LIKE_BYTES_MAX, "LIKE", &mut wrong),
                    Expr::SimilarTo(Like { pattern, .. }) => {
                        check_pattern(pattern, PATTERN_BYTES_MAX, "SIMILAR TO", &mut wrong)
                    }
                    Expr::BinaryExpr(BinaryExpr { op, right, .. }) if is_regex(*op) => {
                        check_pattern(right, PATTERN_BYTES_MAX, "`~`", &mut wrong)
                    }
                    Expr::BinaryExpr(BinaryExpr { op, right, .. }) if is_like(*op) => {
                        check_pattern(right, LIKE_BYTES_MAX, "LIKE", &mut wrong)
                    }
                    Expr::ScalarFunction(ScalarFunction { func, args }) if func.name().starts_with("regexp_") => {
                        if let Some(pattern) = args.get(1) {
                            check_pattern(pattern, PATTERN_BYTES_MAX, func.name(), &mut wrong);
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match wrong {
        Some(error) => Err(DataFusionError::External(Box::new(error))),
        None => Ok(batch_rows.min(LITERALS_BYTES_MAX / bytes.max(1)).max(16)),
    }
}

fn is_regex(op: Operator) -> bool {
    matches!(op, Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch)
}

fn is_like(op: Operator) -> bool {
    matches!(op, Operator::LikeMatch | Operator::ILikeMatch | Operator::NotLikeMatch | Operator::NotILikeMatch)
}

fn check_pattern(pattern: &Expr, bytes_max: usize, of: &str, wrong: &mut Option<QueryError>) {
    let literal = match pattern {
        Expr::Literal(value, _) => value.try_as_str().flatten().map_or(0, str::len),
        Expr::Cast(cast) => return check_pattern(&cast.expr, bytes_max, of, wrong),
        _ => {
            let message = format!(
                "the pattern of {of} must be a literal; use strpos or starts_with to compare one column with another"
            );
            wrong.get_or_insert_with(|| QueryError::new(Code::Invalid, message));
            return;
        }
    };
    if literal > bytes_max {
        let message = format!("the pattern of {of} has {literal} bytes, more than {bytes_max}; use a shorter one");
        wrong.get_or_insert_with(|| QueryError::new(Code::TooComplex, message));
    }
}

/// Bytes of a literal that has no fixed size.
fn literal_bytes(value: &ScalarValue) -> usize {
    if value.data_type().primitive_width().is_some() { 0 } else { value.size().saturating_sub(size_of_val(value)) }
}

/// A function of DataFusion's that refuses to build too much.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    control: Arc<Control>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Bounded) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.control.check()?;
        let need = need(self.name(), &args)?;
        allow(self.name(), &need, &args, &self.control)?;
        self.inner.invoke_with_args(args)
    }
}

/// What a call would take.
struct Need {
    /// Bytes of the result, at most.
    bytes: u64,
    /// Steps of the work, about.
    work: u64,
}

/// What a call would take: at most, and without doing it.
fn need(name: &str, args: &ScalarFunctionArgs) -> Result<Need> {
    let rows = rows(args);
    let arg = |i: usize| args.args.get(i).map_or(Ok(0), longest);
    let bytes = total(args)?;
    let scan = Need { bytes, work: bytes };
    Ok(match name {
        // Each byte, and each gap between two, can become the replacement.
        "replace" | "regexp_replace" => {
            let bytes = bytes.saturating_mul(arg(2)?.saturating_add(1));
            Need { bytes, work: bytes }
        }
        // A character of one byte can become one of four.
        "translate" => Need { bytes: bytes.saturating_mul(4), work: bytes.saturating_mul(arg(1)?.max(1)) },
        "upper" | "lower" | "initcap" => Need { bytes: bytes.saturating_mul(2), ..scan },
        "encode" => Need { bytes: bytes.saturating_mul(2), ..scan },
        // The separator is between all of them.
        "concat_ws" => {
            let between = arg(0)?.saturating_mul(rows).saturating_mul(args.args.len() as u64);
            Need { bytes: bytes.saturating_add(between), ..scan }
        }
        "array_to_string" => {
            let between = arg(1)?.max(arg(2)?).saturating_mul(items(&args.args[0])?);
            Need { bytes: bytes.saturating_add(between), ..scan }
        }
        // A name of a month for each letter.
        "to_char" => Need { bytes: arg(1)?.saturating_mul(rows).saturating_mul(12), ..scan },
        // Each item has a place of its own in the list.
        "string_to_array" => Need { bytes: bytes.saturating_mul(5), ..scan },
        // Each group can hold the whole text.
        "regexp_match" => Need { bytes: bytes.saturating_mul(arg(1)?.div_ceil(2).max(1)), ..scan },
        "strpos" | "split_part" | "substr_index" | "find_in_set" => {
            Need { bytes, work: bytes.saturating_mul(arg(1)?.max(1)) }
        }
        "array_has_any" | "array_has_all" | "array_except" | "array_intersect" | "array_union" => {
            let pairs = items(&args.args[0])?.saturating_mul(args.args.get(1).map_or(Ok(0), longest_list)?.max(1));
            Need { bytes, work: pairs.saturating_mul(16).max(bytes) }
        }
        _ => scan,
    })
}

/// `||` between texts.
#[derive(Debug)]
struct Concat {
    signature: Signature,
    control: Arc<Control>,
}

impl PartialEq for Concat {
    fn eq(&self, other: &Concat) -> bool {
        self.signature == other.signature
    }
}

impl Eq for Concat {}

impl Hash for Concat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for Concat {
    fn name(&self) -> &str {
        "||"
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("{} || {}", args[0], args[1]))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("{} || {}", args[0].schema_name(), args[1].schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![DataType::Utf8, DataType::Utf8])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.control.check()?;
        let bytes = total(&args)?;
        allow(self.name(), &Need { bytes, work: bytes }, &args, &self.control)?;
        let single = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let joined: ArrayRef =
            Arc::new(concat_elements_utf8(arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>())?);
        Ok(if single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?)
        } else {
            ColumnarValue::Array(joined)
        })
    }
}

fn allow(name: &str, need: &Need, args: &ScalarFunctionArgs, control: &Control) -> Result<()> {
    let bytes = need.bytes;
    if is_constant(args) && bytes > LITERAL_BYTES_MAX {
        return Err(DataFusionError::ResourcesExhausted(format!("{name} would build a value of {bytes} bytes")));
    }
    // One value for all rows becomes one in each row as soon as it meets a column.
    let built = if is_constant(args) { bytes.saturating_mul(args.number_rows as u64) } else { bytes };
    if built > control.call_bytes_max() {
        return Err(control.too_wide(&format!("{name} would build up to {built} bytes for a batch")));
    }
    if need.work > WORK_MAX {
        return Err(control.too_wide(&format!("{name} would take {} steps for a batch", need.work)));
    }
    Ok(())
}

fn is_constant(args: &ScalarFunctionArgs) -> bool {
    args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)))
}

/// Rows that the result has a value for.
fn rows(args: &ScalarFunctionArgs) -> u64 {
    if is_constant(args) { 1 } else { args.number_rows as u64 }
}

/// Bytes of all arguments, as if each were in every row.
fn total(args: &ScalarFunctionArgs) -> Result<u64> {
    let rows = rows(args);
    args.args.iter().try_fold(0u64, |sum, arg| {
        let bytes = match arg {
            ColumnarValue::Array(array) => array_bytes(array)?,
            ColumnarValue::Scalar(scalar) => array_bytes(&scalar.to_array()?)?.saturating_mul(rows),
        };
        Ok(sum.saturating_add(bytes))
    })
}

/// Bytes of the longest text of an argument.
fn longest(arg: &ColumnarValue) -> Result<u64> {
    let array = arg.to_array(1)?;
    if array.data_type().is_nested() {
        return Ok(array_bytes(&array)?);
    }
    let texts =
        arrow::compute::cast(&array, if array.data_type().is_binary() { &DataType::Binary } else { &DataType::Utf8 })?;
    let lengths = arrow::compute::kernels::length::length(&texts)?;
    let longest = lengths.as_primitive::<Int32Type>().iter().flatten().max().unwrap_or(0);
    Ok(u64::try_from(longest).unwrap_or(0))
}

/// Items of all lists of an argument.
fn items(arg: &ColumnarValue) -> Result<u64> {
    let array = arg.to_array(1)?;
    Ok(match array.data_type() {
        DataType::List(_) => {
            let offsets = array.as_list::<i32>().value_offsets();
            offsets.last().zip(offsets.first()).map_or(0, |(end, start)| (end - start) as u64)
        }
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            offsets.last().zip(offsets.first()).map_or(0, |(end, start)| (end - start) as u64)
        }
        _ => array.len() as u64,
    })
}

/// Items of the longest list of an argument.
fn longest_list(arg: &ColumnarValue) -> Result<u64> {
    let array = arg.to_array(1)?;
    Ok(match array.data_type() {
        DataType::List(_) => {
            let offsets = array.as_list::<i32>().value_offsets();
            offsets.windows(2).map(|w| (w[1] - w[0]) as u64).max().unwrap_or(0)
        }
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            offsets.windows(2).map(|w| (w[1] - w[0]) as u64).max().unwrap_or(0)
        }
        _ => 1,
    })
}
