//! `decisions.chain_id`: the chain that a decision stands in.
//!
//! Guarantee: it is that of `chain_events` at the same version; null for a decision whose chains do not fit in memory, and
//! the log says so: a question about decisions must not fail because of a column that it may not even want.

use super::rebuilt::Rebuilt;
use crate::engine::Engine;
use crate::error::Code;
use crate::log::Snapshot;
use crate::table::Scope;
use arrow_array::cast::AsArray;
use arrow_array::{Array, StringArray};
use arrow_schema::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::collections::HashMap;
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
        let all = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.engine.rebuilt(&self.scope, &self.snapshot))
        });
        let all = match all {
            Err(error) if error.code == Code::Memory => {
                tracing::warn!(%error, "`chain_id` of decisions stays empty");
                Vec::new()
            }
            all => all.map_err(|e| DataFusionError::External(Box::new(e)))?,
        };
        let by_tenant: HashMap<&str, &Arc<Rebuilt>> = all.iter().map(|r| (r.tenant.as_ref(), r)).collect();
        fn text(array: &StringArray, row: usize) -> Option<&str> {
            array.is_valid(row).then(|| array.value(row))
        }
        let ids: StringArray = (0..args.number_rows)
            .map(|row| {
                let rebuilt = by_tenant.get(text(tenants, row)?)?;
                rebuilt.chain_of(text(sources, row).unwrap_or_default(), text(events, row)?)
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(ids)))
    }
}
