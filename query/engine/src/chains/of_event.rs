//! `decisions.chain_id`: the chain that a decision stands in.
//!
//! Guarantee: it is that of `chain_events` at the same version; null for a decision whose chains do not fit in memory, and
//! the log says so: a question about decisions must not fail because of a column that it may not even want.

use crate::engine::Engine;
use crate::error::{Code, QueryError};
use crate::log::Snapshot;
use crate::table::Scope;
use arrow_array::cast::AsArray;
use arrow_array::{Array, StringArray};
use arrow_schema::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// (tenant, source, event id) to chain id.
#[derive(Debug)]
pub(crate) struct ChainOf {
    engine: Engine,
    snapshot: Arc<Snapshot>,
    scope: Scope,
    signature: Signature,
}

impl ChainOf {
    pub(crate) fn new(engine: &Engine, snapshot: &Arc<Snapshot>, scope: &Scope) -> ChainOf {
        ChainOf {
            engine: engine.clone(),
            snapshot: snapshot.clone(),
            scope: scope.clone(),
            signature: Signature::exact(vec![DataType::Utf8; 3], Volatility::Stable),
        }
    }
}

impl PartialEq for ChainOf {
    fn eq(&self, other: &ChainOf) -> bool {
        self.scope == other.scope && Arc::ptr_eq(&self.snapshot, &other.snapshot)
    }
}

impl Eq for ChainOf {}

impl Hash for ChainOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scope.hash(state);
    }
}

impl ScalarUDFImpl for ChainOf {
    fn name(&self) -> &str {
        "chain_of_decision"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays: Vec<_> = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<Result<_>>()?;
        let [tenants, sources, events] = [0, 1, 2].map(|at| arrays[at].as_string::<i32>());
        // A thread that waits here gives its other work away.
        let ids = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.ids(tenants, sources, events))
        });
        let ids: StringArray = match ids {
            Err(error) if error.code == Code::Memory => {
                tracing::warn!(%error, "`chain_id` of decisions stays empty");
                StringArray::new_null(args.number_rows)
            }
            ids => ids.map_err(|e| DataFusionError::External(Box::new(e)))?.into_iter().collect(),
        };
        Ok(ColumnarValue::Array(Arc::new(ids)))
    }
}

impl ChainOf {
    /// The chain of each event. Events of one batch mostly stand in few sections.
    async fn ids(
        &self,
        tenants: &StringArray,
        sources: &StringArray,
        events: &StringArray,
    ) -> Result<Vec<Option<String>>, QueryError> {
        let mut ids = vec![None; events.len()];
        let mut rows_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for row in (0..ids.len()).filter(|row| tenants.is_valid(*row) && events.is_valid(*row)) {
            rows_of.entry(tenants.value(row)).or_default().push(row);
        }
        for (tenant, mut rows) in rows_of {
            for section in self.engine.sections(&Scope::tenant(tenant), &self.snapshot).await?.all {
                if !rows.iter().any(|row| section.may_have(events.value(*row))) {
                    continue;
                }
                let layers = self.engine.section(&section, &self.snapshot).await?;
                rows.retain(|row| {
                    let source = if sources.is_valid(*row) { sources.value(*row) } else { "" };
                    let id = layers.iter().find_map(|of| of.chain_of(source, events.value(*row)));
                    ids[*row] = id.map(str::to_owned);
                    ids[*row].is_none()
                });
            }
        }
        Ok(ids)
    }
}
