//! Ceilings for operators that DataFusion runs without any.
//!
//! Guarantees, for every plan: a batch in which values are repeated (joins, `unnest`, windows, subqueries that give one
//! value) has a known size before it is built; what a window holds is reserved from the memory of its query; every
//! operator that can work for long without a result looks whether the query may go on. The memory pool sees sorts,
//! aggregates and the build sides of joins, and nothing of this.
//!
//! The plan is rewritten once it is final. Between an operator and its input comes a [`Checked`], which looks at each
//! batch that passes:
//!
//! ```text
//!   NestedLoopJoin(filter: checked)          WindowAgg
//!     ├─ Checked: bytes of the widest row      └─ Checked: reserves what goes in
//!     └─ Checked: bytes of the widest row
//! ```

use crate::control::Control;
use crate::sizes::{array_bytes, longest_view};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, GenericListArray, OffsetSizeTrait, RecordBatch};
use arrow_schema::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Rows times expressions of one window that is worked out in one go, which nothing interrupts: a second or two.
const WINDOW_STEPS_MAX: u64 = 8 << 20;
/// Rows of a batch that `unnest` makes.
const UNNEST_ROWS_MAX: u64 = 256 << 10;

/// The same plan, with ceilings.
pub(crate) fn limit(plan: Arc<dyn ExecutionPlan>, control: &Arc<Control>) -> Result<Arc<dyn ExecutionPlan>> {
    let limited = plan.transform_up(|node| {
        let Some(ways) = ways(node.as_ref()) else { return Ok(Transformed::no(node)) };
        let node = with_checked_filter(node, control)?;
        let flow = Arc::new(Flow::default());
        let children = node.children().into_iter().zip(ways.below).map(|(child, look)| match look {
            None => child.clone(),
            Some(look) => Checked::over(child.clone(), look, control, &flow),
        });
        let children = children.collect();
        let node = replace_children_if_necessary(node, children)?;
        Ok(Transformed::yes(Checked::over(node, ways.above, control, &flow)))
    })?;
    Ok(limited.data)
}

/// What is looked at on the way into an operator, and on the way out.
struct Ways {
    below: Vec<Option<Look>>,
    above: Look,
}

/// What a [`Checked`] looks at.
#[derive(Clone, Debug)]
enum Look {
    /// Whether the query may go on.
    Time,
    /// Bytes of the widest row.
    Width,
    /// Bytes and rows that go into a window, and how many expressions it works out for each row.
    In { expressions: u64, at_once: bool },
    /// Rows that come out of it.
    Out,
    /// Lists that are about to become rows: batches are cut so that the rows stay few.
    Lists(Vec<usize>),
}

fn ways(node: &dyn ExecutionPlan) -> Option<Ways> {
    let wide = |n: usize| vec![Some(Look::Width); n];
    if node.is::<HashJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<SortMergeJoinExec>()
    {
        return Some(Ways { below: wide(2), above: Look::Time });
    }
    if node.is::<ScalarSubqueryExec>() {
        // The first is the plan whose rows meet the values of the others.
        let below = std::iter::once(None).chain(wide(node.children().len() - 1));
        return Some(Ways { below: below.collect(), above: Look::Time });
    }
    if let Some(window) = node.downcast_ref::<WindowAggExec>() {
        let expressions = window.window_expr().len() as u64;
        return Some(Ways { below: vec![Some(Look::In { expressions, at_once: true })], above: Look::Out });
    }
    if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
        let expressions = window.window_expr().len() as u64;
        return Some(Ways { below: vec![Some(Look::In { expressions, at_once: false })], above: Look::Out });
    }
    if let Some(unnest) = node.downcast_ref::<UnnestExec>() {
        let lists = unnest.list_column_indices().iter().map(|list| list.index_in_input_schema).collect();
        return Some(Ways { below: vec![Some(Look::Lists(lists))], above: Look::Time });
    }
    None
}

/// A join whose condition looks whether the query may go on: between two batches it compares every pair of rows.
fn with_checked_filter(node: Arc<dyn ExecutionPlan>, control: &Arc<Control>) -> Result<Arc<dyn ExecutionPlan>> {
    let checked = |filter: &JoinFilter| {
        let expression = Arc::new(CheckedExpr { inner: filter.expression().clone(), control: control.clone() });
        Some(JoinFilter::new(expression, filter.column_indices().to_vec(), filter.schema().clone()))
    };
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(checked(filter)).build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = &join.filter
    {
        return HashJoinExecBuilder::from(join).with_filter(checked(filter)).build_exec();
    }
    Ok(node)
}

/// What is inside a window: rows go in, and come out with values.
#[derive(Debug, Default)]
struct Flow(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    reservation: Option<MemoryReservation>,
    bytes: u64,
    rows_in: u64,
    rows_out: u64,
}

impl Inside {
    /// Reserves the bytes of what went in and has not come out.
    fn reserve(&mut self) -> Result<()> {
        let held = self.rows_in.saturating_sub(self.rows_out);
        let bytes = self.bytes.checked_mul(held).map_or(self.bytes, |all| all / self.rows_in.max(1));
        match &self.reservation {
            Some(reservation) => reservation.try_resize(usize::try_from(bytes).unwrap_or(usize::MAX)),
            None => Ok(()),
        }
    }
}

/// A node that looks at each batch on its way and hands it on.
#[derive(Debug)]
struct Checked {
    input: Arc<dyn ExecutionPlan>,
    look: Look,
    control: Arc<Control>,
    flow: Arc<Flow>,
    /// Partitions that were asked for.
    begun: Mutex<BTreeSet<usize>>,
}

impl Checked {
    fn over(
        input: Arc<dyn ExecutionPlan>,
        look: Look,
        control: &Arc<Control>,
        flow: &Arc<Flow>,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Checked { input, look, control: control.clone(), flow: flow.clone(), begun: Mutex::default() })
    }
}

impl DisplayAs for Checked {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked")
    }
}

impl ExecutionPlan for Checked {
    fn name(&self) -> &'static str {
        "Checked"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().expect("it has one input");
        Ok(Checked::over(input, self.look.clone(), &self.control, &self.flow))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        // A nested loop join that runs out of memory begins its left side again, which not all operators survive; and
        // what it gives then is not right for every kind of join.
        if !self.begun.lock().insert(partition) {
            let message = "a join without an equality needs more memory than the query may use";
            return Err(DataFusionError::ResourcesExhausted(message.to_owned()));
        }
        let batches = self.input.execute(partition, context.clone())?;
        let schema = batches.schema();
        let control = self.control.clone();
        let stream = match self.look.clone() {
            Look::Time => batches
                .map(move |batch| {
                    control.check()?;
                    batch
                })
                .boxed(),
            Look::Width => batches
                .map(move |batch| {
                    control.check()?;
                    let batch = batch?;
                    if row_bytes_max(&batch) > control.row_bytes_max() {
                        return Err(control.too_wide("rows are too wide to be repeated"));
                    }
                    Ok(batch)
                })
                .boxed(),
            Look::In { expressions, at_once } => {
                // Partitions of a window have flows of their own.
                let flow = self.flow.clone();
                flow.0
                    .lock()
                    .reservation
                    .get_or_insert_with(|| MemoryConsumer::new("window").register(context.memory_pool()));
                batches
                    .map(move |batch| {
                        control.check()?;
                        let batch = batch?;
                        if row_bytes_max(&batch) > control.row_bytes_max() {
                            return Err(control.too_wide("rows are too wide for a window"));
                        }
                        let mut inside = flow.0.lock();
                        inside.rows_in += batch.num_rows() as u64;
                        inside.bytes += bytes(&batch) + expressions * 16 * batch.num_rows() as u64;
                        inside.reserve()?;
                        if at_once && inside.rows_in.saturating_mul(expressions) > WINDOW_STEPS_MAX {
                            return Err(DataFusionError::ResourcesExhausted(format!(
                                "a window over more than {} rows",
                                WINDOW_STEPS_MAX / expressions
                            )));
                        }
                        Ok(batch)
                    })
                    .boxed()
            }
            Look::Out => {
                let flow = self.flow.clone();
                batches
                    .map(move |batch| {
                        control.check()?;
                        let batch = batch?;
                        let mut inside = flow.0.lock();
                        inside.rows_out += batch.num_rows() as u64;
                        inside.reserve()?;
                        Ok(batch)
                    })
                    .boxed()
            }
            Look::Lists(lists) => batches
                .map(move |batch| {
                    control.check()?;
                    cut(&batch?, &lists, &control)
                })
                .map_ok(|parts| futures::stream::iter(parts.into_iter().map(Ok)))
                .try_flatten()
                .boxed(),
        };
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, stream))))
    }
}

/// Cuts a batch so that `unnest` makes few enough bytes and rows of each part.
fn cut(batch: &RecordBatch, lists: &[usize], control: &Control) -> Result<Vec<RecordBatch>> {
    let rows = batch.num_rows();
    let bytes_max = control.row_bytes_max().saturating_mul(control.batch_rows() as u64);
    // What is repeated beside each item of a list.
    let beside: u64 = (0..batch.num_columns())
        .filter(|i| !lists.contains(i))
        .map(|i| value_bytes_max(batch.column(i).as_ref()))
        .fold(0, u64::saturating_add);
    let beside = beside.max(1);
    let (mut parts, mut from, mut made) = (Vec::new(), 0, 0u64);
    for row in 0..rows {
        let items = lists.iter().map(|i| items(batch.column(*i), row)).max().unwrap_or(1).max(1);
        if items.saturating_mul(beside) > bytes_max {
            return Err(control.too_wide("a list with many items stands beside wide columns"));
        }
        let next = made.saturating_add(items);
        if row > from && (next > UNNEST_ROWS_MAX || next.saturating_mul(beside) > bytes_max) {
            parts.push(batch.slice(from, row - from));
            (from, made) = (row, items);
        } else {
            made = next;
        }
    }
    parts.push(batch.slice(from, rows - from));
    Ok(parts)
}

/// Items of one row's list, those of lists within it included.
fn items(column: &ArrayRef, row: usize) -> u64 {
    fn of<O: OffsetSizeTrait>(list: &GenericListArray<O>, row: usize) -> u64 {
        let inner = list.value(row);
        match inner.data_type() {
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                (0..inner.len()).map(|i| items(&inner, i)).fold(0, u64::saturating_add).max(inner.len() as u64)
            }
            _ => inner.len() as u64,
        }
    }
    if column.is_null(row) {
        return 0;
    }
    match column.data_type() {
        DataType::List(_) => of(column.as_list::<i32>(), row),
        DataType::LargeList(_) => of(column.as_list::<i64>(), row),
        DataType::FixedSizeList(_, n) => u64::try_from(*n).unwrap_or(0),
        _ => 1,
    }
}

/// Bytes of all values of a batch, without what else its buffers hold.
fn bytes(batch: &RecordBatch) -> u64 {
    crate::output::value_bytes(batch)
}

/// Bytes of the widest row that the values of a batch could make.
fn row_bytes_max(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(|column| value_bytes_max(column.as_ref())).fold(0, u64::saturating_add)
}

/// Bytes of the largest value of a column.
pub(crate) fn value_bytes_max(array: &dyn Array) -> u64 {
    fn longest<O: OffsetSizeTrait>(offsets: &[O]) -> u64 {
        offsets.windows(2).map(|w| (w[1] - w[0]).as_usize() as u64).max().unwrap_or(0)
    }
    let whole = || array_bytes(array).unwrap_or(u64::MAX);
    match array.data_type() {
        DataType::Utf8 => longest(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => longest(array.as_string::<i64>().value_offsets()),
        DataType::Binary => longest(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => longest(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View | DataType::BinaryView => longest_view(array),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            longest(list.value_offsets()).saturating_mul(value_bytes_max(list.values().as_ref()).max(1))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            longest(list.value_offsets()).saturating_mul(value_bytes_max(list.values().as_ref()).max(1))
        }
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => value_bytes_max(array.as_dictionary::<Int8Type>().values().as_ref()),
            DataType::Int16 => value_bytes_max(array.as_dictionary::<Int16Type>().values().as_ref()),
            DataType::Int32 => value_bytes_max(array.as_dictionary::<Int32Type>().values().as_ref()),
            DataType::Int64 => value_bytes_max(array.as_dictionary::<Int64Type>().values().as_ref()),
            _ => whole(),
        },
        kind => kind.primitive_width().map_or_else(whole, |width| width as u64),
    }
}

/// A condition that looks whether the query may go on.
#[derive(Debug)]
struct CheckedExpr {
    inner: Arc<dyn PhysicalExpr>,
    control: Arc<Control>,
}

impl PartialEq for CheckedExpr {
    fn eq(&self, other: &CheckedExpr) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for CheckedExpr {}

impl Hash for CheckedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for CheckedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for CheckedExpr {
    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.control.check()?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next().expect("it has one child");
        Ok(Arc::new(CheckedExpr { inner, control: self.control.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
