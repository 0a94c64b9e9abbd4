//! Chains and decisions: who asked whom to call what, and why it was allowed or not.

use super::parameters::{Asked, Given, Id, Nothing, Parameters};
use crate::Server;
use crate::access::Asker;
use crate::problem::Problem;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use catena_analysis::chain::{Limits as Drawing, Lineage};
use catena_engine::chains::{Filter, Shown};
use catena_schemas::answer::{Answer, ChainDetail, ChainSummary, Meta, Why};
use catena_schemas::{Micros, Outcome};
use std::sync::Arc;

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1000;

/// Which chains to list.
pub(crate) struct List {
    limit: usize,
    filter: Filter,
}

impl Parameters for List {
    const NAMES: &'static [&'static str] =
        &["limit", "from", "until", "requester", "agent", "tool", "server", "outcome", "lineage", "widened", "depth"];

    fn read(given: &Given) -> Result<List, Problem> {
        let time = |name| given.parse(name, "an RFC 3339 timestamp", Micros::parse_rfc3339);
        let limit = |text: &str| text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
        let filter = Filter {
            from: time("from")?,
            until: time("until")?,
            requester: given.text("requester"),
            agent: given.text("agent"),
            tool: given.text("tool"),
            server: given.text("server"),
            outcome: given.parse("outcome", "allow, deny, step_up, error or unknown", Outcome::parse)?,
            lineage: given.parse("lineage", "root, orphan or unknown", Lineage::parse)?,
            widened: given.parse("widened", "true or false", |text| text.parse().ok())?.unwrap_or(false),
            depth: given.parse("depth", "a non-negative integer", |text| text.parse().ok())?,
            tenant: None,
        };
        let limit = given.parse("limit", &format!("an integer from 1 to {LIMIT_MAX}"), limit)?;
        Ok(List { limit: limit.unwrap_or(LIMIT), filter })
    }
}

pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Asked(List { limit, filter }): Asked<List>,
) -> Result<Json<Answer<Vec<ChainSummary>>>, Problem> {
    asker.turn(&server).await?;
    let found = asker.session.chains(limit, &filter, &server.settings.limits).await?;
    let data = found.chains.iter().rev().map(Shown::summary).collect();
    Ok(Json(Answer { data, meta: Meta { lake_version: found.version, total: Some(found.total as u64) } }))
}

/// How one chain is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Text,
    Dot,
    Svg,
}

impl Form {
    const ALL: [(&'static str, Form); 4] =
        [("json", Form::Json), ("text", Form::Text), ("dot", Form::Dot), ("svg", Form::Svg)];
}

/// How to show a chain; none when the request's `Accept` decides.
pub(crate) struct Show {
    form: Option<Form>,
}

impl Parameters for Show {
    const NAMES: &'static [&'static str] = &["format"];

    fn read(given: &Given) -> Result<Show, Problem> {
        let Some(name) = given.text("format") else { return Ok(Show { form: None }) };
        match Form::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, form)) => Ok(Show { form: Some(*form) }),
            None => Err(Problem::format_unknown(&Form::ALL.map(|(name, _)| name))),
        }
    }
}

pub(crate) async fn show(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Id(id): Id,
    Asked(Show { form }): Asked<Show>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accepts_text = || headers.get(header::ACCEPT).is_some_and(|a| a.as_bytes().starts_with(b"text/plain"));
    let form = form.unwrap_or_else(|| if accepts_text() { Form::Text } else { Form::Json });
    asker.turn(&server).await?;
    let shown = asker.session.chain(&id, &server.settings.limits).await?;
    let Some(first) = shown.first() else {
        return Err(Problem::not_found("no chain, event, session or trace has this name"));
    };
    let drawn = |kind: &'static str, draw: fn(&Shown) -> String| {
        let drawn: Vec<_> = shown.iter().map(draw).collect();
        ([(header::CONTENT_TYPE, kind)], drawn.join("\n")).into_response()
    };
    Ok(match form {
        Form::Json => {
            let data: Vec<ChainDetail> = shown.iter().map(Shown::detail).collect();
            let meta = Meta { lake_version: first.of.version, total: None };
            Json(Answer { data, meta }).into_response()
        }
        Form::Text => drawn("text/plain; charset=utf-8", |shown| shown.draw(&Drawing::default())),
        Form::Dot => drawn("text/vnd.graphviz; charset=utf-8", Shown::to_dot),
        // A picture is one document.
        Form::Svg => ([(header::CONTENT_TYPE, "image/svg+xml")], first.svg()).into_response(),
    })
}

/// Why a decision was made.
pub(crate) async fn why(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Id(id): Id,
    _: Asked<Nothing>,
) -> Result<Json<Answer<Vec<Why>>>, Problem> {
    asker.turn(&server).await?;
    let data = asker.session.why(&id, &server.settings.limits).await?;
    let Some(first) = data.first() else { return Err(Problem::not_found("no decision has this id")) };
    let meta = Meta { lake_version: first.lake_version, total: None };
    Ok(Json(Answer { data, meta }))
}
