//! The tables of authority: `grants`, `reauths`, `exchanges`, `tools`, `lifecycle`, `principals`, over `records`.
//!
//! Guarantee: each is what [`catena_schemas::authority::Table::rows`] makes of the rows of class `authority`: nothing is
//! read twice, a record that was sent twice shows once, and nothing is overwritten: every version of a grant is a row, valid
//! from its `time` on. Bodies are opened once per row, whatever number of columns is asked for.

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use catena_schemas::authority::Table;
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The columns of a table over columns of `records`.
pub(crate) fn columns(table: &'static Table, column: impl Fn(&str) -> Expr) -> Vec<Expr> {
    let opened = ScalarUDF::new_from_impl(Open::new(table)).call(vec![column("body")]);
    let mut out = vec![column("tenant")];
    for c in table.columns() {
        let own = table.own_column(c.name).is_some();
        out.push(if own { get_field(opened.clone(), c.name).alias(c.name) } else { column(c.name) });
    }
    out
}

/// Opens the bodies of one kind of record: text in, a struct of the table's own columns out.
#[derive(Debug)]
struct Open {
    table: &'static Table,
    fields: Fields,
    signature: Signature,
}

impl Open {
    fn new(table: &'static Table) -> Open {
        let schema = table.schema();
        let fields = table.own.iter().map(|c| schema.field_with_name(c.name).cloned());
        let fields = fields.collect::<Result<Vec<Field>, _>>().expect("own columns are columns").into();
        Open { table, fields, signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) }
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Open) -> bool {
        self.table.name == other.table.name
    }
}

impl Eq for Open {}

impl Hash for Open {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.name.hash(state);
    }
}

impl ScalarUDFImpl for Open {
    fn name(&self) -> &str {
        self.table.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bodies = args.args[0].to_array(args.number_rows)?;
        let bodies: &StringArray = as_string_array(&bodies)?;
        let kinds = StringArray::from_iter_values(std::iter::repeat_n(self.table.record, bodies.len()));
        let schema =
            Schema::new(vec![Field::new("kind", DataType::Utf8, true), Field::new("body", DataType::Utf8, true)]);
        let records = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(kinds), Arc::new(bodies.clone())])?;
        let rows = self.table.rows(&records)?;
        let own: Option<Vec<ArrayRef>> = self.fields.iter().map(|f| rows.column_by_name(f.name()).cloned()).collect();
        let own =
            own.ok_or_else(|| DataFusionError::Internal("a table of authority lacks a column of its own".into()))?;
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(self.fields.clone(), own, None)?)))
    }
}
