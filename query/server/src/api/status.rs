//! Totals and sources: how much there is, what was rejected, and how complete each source is.
//!
//! Guarantee: all figures of one answer are of one version of the lake, the newest.

use super::parameters::{Asked, Nothing};
use crate::Server;
use crate::access::Asker;
use crate::problem::Problem;
use axum::extract::State;
use axum::{Extension, Json};
use catena_engine::{QueryError, Scope};
use catena_schemas::answer::source::Found;
use catena_schemas::answer::{Answer, Meta, Status};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Scopes whose last answer is kept.
const SCOPES_MAX: usize = 256;

/// The last answer of each scope: it holds until the lake has a new version.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<Scope, Status>>);

pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    _: Asked<Nothing>,
) -> Result<Json<Status>, Problem> {
    let session = &asker.session;
    let newest = server.engine.refresh().await.map_err(QueryError::from)?.version();
    if let Some(known) = server.status.0.lock().get(session.scope())
        && newest == known.lake_version
    {
        return Ok(Json(known.clone()));
    }
    asker.turn(&server).await?;
    let status = session.status(&server.settings.limits).await?;
    if status.lake_version.is_some() {
        let mut known = server.status.0.lock();
        if known.len() >= SCOPES_MAX {
            known.clear();
        }
        known.insert(session.scope().clone(), status.clone());
    }
    Ok(Json(status))
}

/// How complete each source is.
pub(crate) async fn sources(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    _: Asked<Nothing>,
) -> Result<Json<Answer<Found>>, Problem> {
    asker.turn(&server).await?;
    let found = asker.session.completeness(&server.settings.limits).await?;
    Ok(Json(Answer { data: found.found, meta: Meta { lake_version: found.lake_version, total: None } }))
}
