//! Functions that make large values out of small ones, with a ceiling.
//!
//! Guarantee: no call of a function in [`GROWS`], and no `||`, starts to build more than [`BATCH_BYTES_MAX`] for one batch
//! of rows. The engine's memory pool does not see what scalar functions allocate, and a statement of a few lines can
//! square the size of a text at every step; so the size is worked out before the work is done.

use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::{Arc, LazyLock};

/// Bytes that one call may build for one batch of rows.
pub const BATCH_BYTES_MAX: u64 = 32 << 20;

/// Functions whose result can be larger than any of their arguments.
pub const GROWS: &[&str] = &[
    "array_append",
    "array_cat",
    "array_concat",
    "array_join",
    "array_prepend",
    "array_push_back",
    "array_push_front",
    "array_to_string",
    "concat",
    "concat_ws",
    "encode",
    "list_append",
    "list_cat",
    "list_concat",
    "list_join",
    "list_prepend",
    "list_push_back",
    "list_push_front",
    "list_to_string",
    "make_array",
    "make_list",
    "overlay",
    "regexp_replace",
    "replace",
];

static CONCAT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Concat { signature: Signature::user_defined(Volatility::Immutable) })));

/// The same plan, with the ceiling in it.
pub(crate) fn bound(plan: LogicalPlan) -> Result<LogicalPlan> {
    let bounded = plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        let mapped = plan.map_expressions(|expr| expr.transform_up(|expr| Ok(bound_expr(expr, &schema))))?;
        if mapped.transformed { mapped.map_data(LogicalPlan::recompute_schema) } else { Ok(mapped) }
    })?;
    Ok(bounded.data)
}

fn bound_expr(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if GROWS.contains(&func.name()) => {
            let func = Arc::new(ScalarUDF::from(Bounded { inner: func }));
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            // Between lists it is another function, which the planner has put in place already.
            let text = |side: &Expr| side.get_type(schema).is_ok_and(|kind| !kind.is_nested() && !kind.is_binary());
            if text(&left) && text(&right) {
                let call = ScalarFunction { func: CONCAT.clone(), args: vec![*left, *right] };
                Transformed::yes(Expr::ScalarFunction(call))
            } else {
                Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }))
            }
        }
        other => Transformed::no(other),
    }
}

/// A function of DataFusion's that refuses to build too much.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
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
        let mut bytes = total(&args)?;
        if matches!(self.name(), "replace" | "regexp_replace") {
            // Each byte, and each gap between two, can become the replacement.
            let longest = args.args.get(2).map_or(Ok(0), longest)?;
            bytes = bytes.saturating_mul(longest.saturating_add(1));
        }
        allow(self.name(), bytes)?;
        self.inner.invoke_with_args(args)
    }
}

/// `||` between texts.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concat {
    signature: Signature,
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
        allow(self.name(), total(&args)?)?;
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

fn allow(name: &str, bytes: u64) -> Result<()> {
    if bytes > BATCH_BYTES_MAX {
        return Err(DataFusionError::ResourcesExhausted(format!("{name} would build up to {bytes} bytes")));
    }
    Ok(())
}

/// Bytes of all arguments, as if each stood in every row.
fn total(args: &ScalarFunctionArgs) -> Result<u64> {
    let rows =
        if args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) { 1 } else { args.number_rows as u64 };
    args.args.iter().try_fold(0u64, |sum, arg| {
        let bytes = match arg {
            ColumnarValue::Array(array) => array.to_data().get_slice_memory_size()? as u64,
            ColumnarValue::Scalar(scalar) => {
                (scalar.to_array()?.to_data().get_slice_memory_size()? as u64).saturating_mul(rows)
            }
        };
        Ok(sum.saturating_add(bytes))
    })
}

/// Bytes of the longest text of an argument.
fn longest(arg: &ColumnarValue) -> Result<u64> {
    let array = arg.to_array(1)?;
    let texts = arrow::compute::cast(&array, &DataType::Utf8)?;
    let lengths = arrow::compute::kernels::length::length(&texts)?;
    let longest = lengths.as_primitive::<Int32Type>().iter().flatten().max().unwrap_or(0);
    Ok(u64::try_from(longest).unwrap_or(0))
}
