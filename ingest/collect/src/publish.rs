//! What was worked out from the lake goes back into it, once.
//!
//! Guarantee: rows and the position of their application land in one commit, which is refused unless the position is the
//! one that the publisher built on. Two that publish for the same application cannot both land, and none lands twice: whoever
//! is refused reads the lake again.

use crate::batch;
use crate::commit::{Committed, Range};
use crate::lake::Lake;
use crate::worker::FlushError;
use arrow_array::RecordBatch;
use catena_schemas::Micros;
use catena_schemas::table::Class;
use serde_json::Map;

/// Commits rows of one tenant and class, and moves `app` from one position to another.
pub async fn publish(
    lake: &Lake,
    tenant: &str,
    class: Class,
    rows: &RecordBatch,
    range: Range,
    now: Micros,
) -> Result<Committed, FlushError> {
    let failed = |source| FlushError::Encode { rows: rows.num_rows(), source };
    let bytes = batch::encode(rows, &batch::writer_properties(1)).map_err(failed)?;
    let file = batch::data_file(rows, &bytes, tenant, class, now);
    let path = file.path.clone();
    lake.put(&path, bytes.into()).await.map_err(|source| FlushError::Put { path, source })?;
    let info = Map::from_iter([
        ("published".to_owned(), range.app.clone().into()),
        ("rows".to_owned(), rows.num_rows().into()),
    ]);
    Ok(lake.commit(vec![file], vec![range], info).await?)
}
