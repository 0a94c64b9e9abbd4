//! Chains: who asked whom to call what.

use super::{Parameters, known};
use crate::Server;
use crate::access::Asker;
use crate::problem::Problem;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use catena_analysis::chain::{Limits as Drawing, Lineage};
use catena_engine::chains::{Filter, Shown};
use catena_schemas::{Micros, Outcome};
use serde_json::{Value, json};
use std::sync::Arc;

const FILTERS: &[&str] =
    &["limit", "from", "until", "requester", "agent", "tool", "server", "outcome", "lineage", "widened", "depth"];
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1000;

pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Problem> {
    known(&parameters, FILTERS)?;
    let session = &asker.session;
    let text = |name: &str| parameters.get(name).cloned();
    let invalid =
        |name: &str, wanted: &str| Problem::bad_request("parameter_invalid", format!("`{name}` is to be {wanted}"));
    let time = |name: &str| match parameters.get(name) {
        None => Ok(None),
        Some(t) => Micros::parse_rfc3339(t).map(Some).ok_or_else(|| invalid(name, "an instant as RFC 3339")),
    };
    let limit = match parameters.get("limit") {
        None => LIMIT,
        Some(n) => n
            .parse()
            .ok()
            .filter(|n| (1..=LIMIT_MAX).contains(n))
            .ok_or_else(|| invalid("limit", "a number from 1 to 1000"))?,
    };
    let outcome = match parameters.get("outcome") {
        None => None,
        Some(o) => Some(Outcome::parse(o).ok_or_else(|| invalid("outcome", "allow, deny, step_up, error or unknown"))?),
    };
    let filter = Filter {
        from: time("from")?,
        until: time("until")?,
        requester: text("requester"),
        agent: text("agent"),
        tool: text("tool"),
        server: text("server"),
        outcome,
        lineage: match parameters.get("lineage").map(|l| Lineage::parse(l)) {
            None => None,
            Some(Some(lineage)) => Some(lineage),
            Some(None) => return Err(invalid("lineage", "root, orphan or unknown")),
        },
        widened: match parameters.get("widened").map(String::as_str) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(invalid("widened", "true or false")),
        },
        depth: match parameters.get("depth").map(|d| d.parse()) {
            None => None,
            Some(Ok(depth)) => Some(depth),
            Some(Err(_)) => return Err(invalid("depth", "a whole number")),
        },
        tenant: None,
    };
    asker.turn(&server).await?;
    let found = session.chains(limit, &filter, &server.settings.limits).await?;
    let data: Vec<_> = found.chains.iter().rev().map(Shown::summary).collect();
    Ok(Json(json!({"data": data, "meta": {"lake_version": found.version, "total": found.total}})))
}

fn draw(chain: &Shown) -> String {
    chain.draw(&Drawing::default())
}

pub(crate) async fn show(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    known(&parameters, &["format"])?;
    let session = &asker.session;
    let accepts_text = || headers.get(header::ACCEPT).is_some_and(|a| a.as_bytes().starts_with(b"text/plain"));
    let text = match parameters.get("format").map(String::as_str) {
        None if accepts_text() => Some(("text/plain; charset=utf-8", draw as fn(&Shown) -> String)),
        None | Some("json") => None,
        Some("text") => Some(("text/plain; charset=utf-8", draw as fn(&Shown) -> String)),
        Some("dot") => Some(("text/vnd.graphviz; charset=utf-8", Shown::to_dot as fn(&Shown) -> String)),
        Some("svg") => Some(("image/svg+xml", Shown::svg as fn(&Shown) -> String)),
        Some(_) => return Err(Problem::bad_request("format_unknown", "`format` is none of json, text, dot, svg")),
    };
    asker.turn(&server).await?;
    let shown = session.chain(&id, &server.settings.limits).await?;
    if shown.is_empty() {
        return Err(Problem::not_found("no chain, event, session or trace has this name"));
    }
    if let Some((kind, draw)) = text {
        // A picture is one document.
        let shown = if kind == "image/svg+xml" { &shown[..1] } else { &shown };
        let drawn: Vec<_> = shown.iter().map(draw).collect();
        return Ok(([(header::CONTENT_TYPE, kind)], drawn.join("\n")).into_response());
    }
    let data: Vec<_> = shown.iter().map(Shown::to_json).collect();
    Ok(Json(json!({"data": data, "meta": {"lake_version": shown[0].of.version}})).into_response())
}

/// Why a decision fell as it did.
pub(crate) async fn why(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Problem> {
    known(&parameters, &[])?;
    let session = &asker.session;
    asker.turn(&server).await?;
    let answers = session.why(&id, &server.settings.limits).await?;
    if answers.is_empty() {
        return Err(Problem::not_found("no decision has this id"));
    }
    let data: Vec<Value> = answers.into_iter().map(|a| a.0).collect();
    Ok(Json(json!({"data": data})))
}
