//! SQL: rows of one statement, within limits.
//!
//! As JSON the answer is `{"data": [row, ...], "meta": {...}}`; in other forms it is the rows alone, and what `meta` says
//! stands in headers: `catena-lake-version`, and `catena-cut` when the answer is not whole.

use super::parameters::{Asked, Given, Parameters};
use crate::access::Asker;
use crate::problem::Problem;
use crate::{Server, body};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use catena_engine::output::{self, Format, OutputError};
use catena_engine::{Cut, Rows};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

const VERSION: HeaderName = HeaderName::from_static("catena-lake-version");
const CUT: HeaderName = HeaderName::from_static("catena-cut");

/// A statement, and the form of its answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    query: String,
    #[serde(default)]
    format: Option<String>,
}

impl Parameters for Statement {
    const NAMES: &'static [&'static str] = &["q", "format"];

    fn read(given: &Given) -> Result<Statement, Problem> {
        let detail = "missing query parameter `q` (the SQL statement)";
        let query = given.text("q").ok_or_else(|| Problem::bad_request("parameter_missing", detail))?;
        Ok(Statement { query, format: given.text("format") })
    }
}

pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    Asked(statement): Asked<Statement>,
) -> Result<Response, Problem> {
    answer(&server, &asker, &statement).await
}

pub(crate) async fn post(
    State(server): State<Arc<Server>>,
    Extension(asker): Extension<Asker>,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::read(body, server.settings.body_timeout).await?;
    let statement: Statement = serde_json::from_slice(&body).map_err(|e| {
        Problem::bad_request("body_invalid", format!("the body must be {{\"query\": SQL, \"format\": ...}}: {e}"))
    })?;
    answer(&server, &asker, &statement).await
}

async fn answer(server: &Server, asker: &Asker, Statement { query, format }: &Statement) -> Result<Response, Problem> {
    let session = &asker.session;
    let Some(format) = Format::parse(format.as_deref().unwrap_or("json")) else {
        return Err(Problem::format_unknown(&Format::ALL.map(Format::as_str)));
    };
    let began = Instant::now();
    asker.turn(server).await?;
    let rows = session.sql(query, &server.settings.limits).await?.collect().await?;
    let cut = rows.cut.map(|cut| match cut {
        Cut::Rows => "rows",
        Cut::Bytes => "bytes",
    });
    let version = rows.version.map(|v| v.to_string());
    // Writing a large answer takes a while: other requests should not wait for it.
    let body = tokio::task::spawn_blocking(move || written(&rows, format, cut, began)).await;
    let mut response = body.map_err(|_| Problem::internal())??.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    if let Some(version) = version.and_then(|v| HeaderValue::from_str(&v).ok()) {
        headers.insert(VERSION, version);
    }
    if let Some(cut) = cut {
        headers.insert(CUT, HeaderValue::from_static(cut));
    }
    Ok(response)
}

fn written(rows: &Rows, format: Format, cut: Option<&str>, began: Instant) -> Result<Vec<u8>, OutputError> {
    if format != Format::Json {
        return output::to_bytes(rows, format);
    }
    let mut bytes = output::to_bytes_after(b"{\"data\":".to_vec(), rows, format)?;
    bytes.truncate(bytes.trim_ascii_end().len());
    let columns: Vec<_> =
        rows.schema.fields().iter().map(|f| json!({"name": f.name(), "type": f.data_type().to_string()})).collect();
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let meta =
        json!({"lake_version": rows.version, "rows": rows.len(), "cut": cut, "took_ms": took_ms, "columns": columns});
    bytes.extend_from_slice(b",\"meta\":");
    bytes.extend_from_slice(meta.to_string().as_bytes());
    bytes.extend_from_slice(b"}\n");
    Ok(bytes)
}
