//! Totals: how much there is, what was refused, and where each source stands.
//!
//! Guarantee: all figures of one answer are of one version of the lake, the newest.

use crate::Server;
use crate::access::Asker;
use crate::problem::Problem;
use axum::extract::State;
use axum::{Extension, Json};
use catena_engine::output::{self, Format};
use catena_engine::{Scope, Session};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Tries to read all figures at one version while others commit.
const TRIES: usize = 5;
/// Scopes remembered.
const SCOPES_MAX: usize = 256;

/// The last answer of each scope: as good as new until the lake has a new version.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<Scope, (u64, Value)>>);

const BY_CLASS: &str = "SELECT class, outcome, reject_reason AS reason, coalesce(duplicate, false) AS duplicate, count(*) AS n \
    FROM records WHERE class <> 'chain' GROUP BY ALL";
const SOURCES: &str = "SELECT topic, partition, format, count(*) AS rows, min(\"offset\") AS first_offset, \
    max(\"offset\") AS last_offset, max(ingest_time) AS last_seen FROM records WHERE class <> 'chain' GROUP BY topic, partition, format ORDER BY topic, partition, format LIMIT 500";

pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<Value>, Problem> {
    let session = &asker.session;
    let newest = server.engine.refresh().await.map_err(catena_engine::QueryError::from)?.version();
    if let Some((version, known)) = server.status.0.lock().get(session.scope())
        && newest == Some(*version)
    {
        return Ok(Json(known.clone()));
    }
    asker.turn(&server).await?;
    let mut tries = 0;
    let (version, status) = loop {
        tries += 1;
        let (classes, first) = rows(&server, session, BY_CLASS).await?;
        let (sources, last) = rows(&server, session, SOURCES).await?;
        // A lake that is written all the time may never stand still: then the sources are a little ahead.
        if first == last || tries == TRIES {
            break (first, summary(&classes, sources, first));
        }
    };
    if let Some(version) = version {
        let mut known = server.status.0.lock();
        if known.len() >= SCOPES_MAX {
            known.clear();
        }
        known.insert(session.scope().clone(), (version, status.clone()));
    }
    Ok(Json(status))
}

/// How complete each source is.
pub(crate) async fn sources(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<Value>, Problem> {
    let session = &asker.session;
    asker.turn(&server).await?;
    let found = session.completeness(&server.settings.limits).await?;
    let meta = json!({"lake_version": found.lake_version});
    Ok(Json(json!({"data": {"sources": found.sources, "sequences": found.sequences}, "meta": meta})))
}

async fn rows(server: &Server, session: &Session, sql: &str) -> Result<(Vec<Value>, Option<u64>), Problem> {
    let rows = session.sql(sql, &server.settings.limits).await?.collect().await?;
    let values = serde_json::from_slice(&output::to_bytes(&rows, Format::Json)?).unwrap_or_default();
    Ok((values, rows.version))
}

fn summary(classes: &[Value], sources: Vec<Value>, version: Option<u64>) -> Value {
    let mut totals: HashMap<&str, u64> = HashMap::new();
    let (mut outcomes, mut reasons, mut asides) = (Map::new(), Map::new(), Map::new());
    let add = |into: &mut Map<String, Value>, key: &Value, n: u64| {
        let sum = into.entry(key.as_str().unwrap_or("unknown")).or_insert(0.into());
        *sum = (sum.as_u64().unwrap_or(0) + n).into();
    };
    for row in classes {
        let n = row["n"].as_u64().unwrap_or(0);
        match row["class"].as_str() {
            Some("decision") if row["duplicate"] == true => *totals.entry("duplicates").or_default() += n,
            Some("decision") => {
                *totals.entry("decisions").or_default() += n;
                add(&mut outcomes, &row["outcome"], n);
            }
            Some("execution") => *totals.entry("executions").or_default() += n,
            Some("authority") => *totals.entry("authority").or_default() += n,
            Some("reject") => {
                *totals.entry("rejected").or_default() += n;
                add(&mut reasons, &row["reason"], n);
            }
            _ => {
                *totals.entry("asides").or_default() += n;
                add(&mut asides, &row["reason"], n);
            }
        }
    }
    let total = |name: &str| totals.get(name).copied().unwrap_or(0);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "lake_version": version,
        "received": totals.values().sum::<u64>(),
        "decisions": total("decisions"), "duplicates": total("duplicates"),
        "executions": total("executions"), "authority": total("authority"),
        "rejected": total("rejected"), "asides": total("asides"),
        "by_outcome": outcomes, "by_reason": reasons, "by_aside": asides,
        "sources": sources,
    })
}
