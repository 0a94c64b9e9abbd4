//! Chains: who asked whom to call what.

use super::{Parameters, known, session};
use crate::Server;
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use catena_analysis::chain::Limits as Drawing;
use catena_engine::chains::Filter;
use catena_schemas::{Micros, Outcome};
use serde_json::{Value, json};
use std::sync::Arc;

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1000;

pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    known(&parameters, &["limit", "from", "until", "requester", "agent", "tool", "server", "outcome"])?;
    let session = session(&server, &headers)?;
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
        tenant: None,
    };
    let _turn = server.turn(session.scope()).await?;
    let found = session.chains(limit, &filter, &server.settings.limits).await?;
    let data: Vec<_> = found.chains.iter().rev().map(|c| c.summary()).collect();
    Ok(Json(json!({"data": data, "meta": {"lake_version": found.version, "total": found.total, "cut": found.cut}})))
}

pub(crate) async fn show(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    known(&parameters, &["format"])?;
    let session = session(&server, &headers)?;
    let accepts_text = || headers.get(header::ACCEPT).is_some_and(|a| a.as_bytes().starts_with(b"text/plain"));
    let text = match parameters.get("format").map(String::as_str) {
        None => accepts_text(),
        Some("text") => true,
        Some("json") => false,
        Some(_) => return Err(Problem::bad_request("format_unknown", "`format` is none of json, text")),
    };
    let _turn = server.turn(session.scope()).await?;
    let shown = session.chain(&id, &server.settings.limits).await?;
    if shown.is_empty() {
        return Err(Problem::not_found("no chain, event, session or trace has this name"));
    }
    if text {
        let drawn: Vec<_> = shown.iter().map(|s| s.chain.render(&Drawing::default())).collect();
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        return Ok((kind, drawn.join("\n")).into_response());
    }
    let cut = shown.iter().any(|s| s.cut);
    let data: Vec<_> = shown.iter().map(|s| s.chain.to_json()).collect();
    Ok(Json(json!({"data": data, "meta": {"lake_version": shown[0].version, "cut": cut}})).into_response())
}
