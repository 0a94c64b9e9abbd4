//! HTTP: takes decisions in a body and answers when they are fsynced.
//!
//! Guarantees: a 2xx answer means that every record of the body is in the intake log, on disk, as an event, a rejection or
//! an aside; any other answer means that the client should send the whole body again. Secrets are gone before the first
//! byte is written. The tenant comes from the key of the request, never from the body. Memory is bounded: the bodies that
//! are being read and unpacked at once share one budget.
//!
//! | route | takes |
//! |---|---|
//! | `POST /ingest/v1/events` | NDJSON, or one JSON array; `?format=` names the dialect, default `catena` |
//! | `POST /logs`, `POST /logs/{partition}` | decision logs as OPA uploads them |
//! | `POST /v1/logs`, `/v1/traces`, and the gRPC methods of both | OpenTelemetry exports, JSON and protobuf |
//! | `GET /healthz`, `/readyz`, `/metrics` | whether it lives, whether it takes records, figures |
//!
//! | status | means |
//! |---|---|
//! | 200 | all records are kept, `rejected` of them as rejections, of which `errors` names the first 20: also when that is all of them, since sending them again would change nothing |
//! | 400 | the body as a whole cannot be read: it does not unpack, ended early, or `format` is unknown |
//! | 401, 403 | no or an unknown key; a browser page or host name that has no business here |
//! | 408, 413, 415 | the body took too long; is too big, or unpacks to too much; has an unknown encoding |
//! | 429, 503 | the log is full; it is starting, failing, closing or busy. Both with `Retry-After` |

mod auth;
mod body;
mod otlp;
mod problem;
mod serve;

pub use auth::{Auth, AuthError, Key, loopback_only};
pub use serve::{Limits, serve};

use super::keep::Keeper;
pub use super::keep::{Answer, RecordError};
use crate::intake::{AppendError, Batch, Intake};
use crate::metrics::Metrics;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use catena_decode::Format;
use catena_decode::frame::Packing;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use problem::Problem;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Unit of the memory budget.
const BUDGET_UNIT: usize = 1 << 10;

/// Limits on bodies.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// Bytes of a body as sent.
    pub bytes_max: usize,
    /// Bytes of a body unpacked.
    pub unpacked_bytes_max: usize,
    /// Records of a body, and facts, rejections and asides that become of them: what is kept of a small record is many times its size.
    pub records_max: usize,
    /// Unpacked bytes per byte sent, once a body unpacks to more than a mebibyte.
    pub ratio_max: usize,
    /// Time from the end of the head to the end of the body.
    pub timeout: Duration,
    /// Bytes of bodies, sent and unpacked, that are held at once.
    pub budget_bytes: usize,
    /// How long a request waits for its share of the budget.
    pub budget_wait: Duration,
}

impl Default for Bodies {
    fn default() -> Self {
        Bodies {
            bytes_max: 8 << 20,
            unpacked_bytes_max: 32 << 20,
            records_max: 100_000,
            ratio_max: 100,
            timeout: Duration::from_secs(30),
            budget_bytes: 256 << 20,
            budget_wait: Duration::from_secs(5),
        }
    }
}

/// Says why it is not ready, if it is not.
pub type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the routes work with.
pub struct Receiver {
    intake: Intake,
    keeper: Arc<Keeper>,
    auth: Auth,
    bodies: Bodies,
    metrics: Arc<Metrics>,
    checks: Vec<Check>,
    budget: Semaphore,
}

impl Receiver {
    /// A receiver that writes to the intake log of a keeper.
    pub fn new(keeper: Arc<Keeper>, auth: Auth, bodies: Bodies, metrics: Arc<Metrics>) -> Receiver {
        let budget = Semaphore::new((bodies.budget_bytes / BUDGET_UNIT).max(1));
        Receiver { intake: keeper.intake().clone(), keeper, auth, bodies, metrics, checks: Vec::new(), budget }
    }

    /// Adds something that `/readyz` asks.
    pub fn check(mut self, check: Check) -> Receiver {
        self.checks.push(check);
        self
    }

    /// Why records would not be taken now, if they would not.
    pub fn refusal(&self) -> Option<String> {
        self.intake.refusal().map(|e| e.to_string()).or_else(|| self.checks.iter().find_map(|check| check()))
    }
}

/// The routes.
pub fn router(receiver: Arc<Receiver>) -> Router {
    let open = receiver.auth.is_open();
    let router = Router::new()
        .route("/ingest/v1/events", post(events))
        .route("/logs", post(opa))
        .route("/logs/{partition}", post(opa))
        .route("/v1/logs", post(otlp::export))
        .route("/v1/traces", post(otlp::export))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(otlp::export_grpc))
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(otlp::export_grpc))
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::disable())
        .with_state(receiver);
    if open { loopback_only(router) } else { router }
}

async fn events(
    State(receiver): State<Arc<Receiver>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let name = query.get("format").map_or("catena", String::as_str);
    let Some(format) = Format::parse(name) else {
        let known: Vec<_> = Format::ALL.iter().map(|f| f.as_str()).collect();
        return Problem::bad_request("format_unknown", format!("`format` is none of {}", known.join(", ")))
            .into_response();
    };
    answer(receiver, format, headers, body).await
}

async fn opa(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Body) -> Response {
    answer(receiver, Format::Opa, headers, body).await
}

async fn answer(receiver: Arc<Receiver>, format: Format, headers: HeaderMap, body: Body) -> Response {
    let result = match body::packing(&headers) {
        Ok(packing) => {
            let shape = if is_whole(&headers) { Shape::Whole } else { Shape::Records };
            let incoming = Incoming { format, packing, shape };
            receive(&receiver, incoming, &headers, body, "ingest").await
        }
        Err(problem) => Err(problem),
    };
    match result {
        Ok(answer) => (StatusCode::OK, Json(answer)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Whether the headers say that the body is one record: an event whose attributes stand in them (CloudEvents, binary mode),
/// or bytes that have no lines.
fn is_whole(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    headers.contains_key("ce-specversion") || media_type.contains("protobuf")
}

/// How a body comes.
#[derive(Clone, Copy)]
struct Incoming {
    format: Format,
    packing: Packing,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// One record a line, or a JSON array or document.
    Records,
    /// One record.
    Whole,
    /// One record in a gRPC frame, packed by itself if at all.
    Framed,
}

/// Keeps a body and counts it under `route`.
async fn receive(
    receiver: &Arc<Receiver>,
    incoming: Incoming,
    headers: &HeaderMap,
    body: Body,
    route: &'static str,
) -> Result<Answer, Problem> {
    let result = keep(receiver, incoming, headers, body).await;
    match &result {
        Ok(answer) => {
            receiver.metrics.received_over_http(incoming.format.as_str(), answer);
            receiver.metrics.answered(route, 200);
        }
        Err(problem) => receiver.metrics.answered(route, problem.status.as_u16()),
    }
    result
}

async fn keep(
    receiver: &Arc<Receiver>,
    incoming: Incoming,
    headers: &HeaderMap,
    body: Body,
) -> Result<Answer, Problem> {
    let tenant = receiver.auth.tenant(headers).ok_or_else(Problem::unauthorized)?.to_owned();
    // A full log says so before the body is read.
    if let Some(refusal) = receiver.intake.refusal() {
        return Err(refusal.into());
    }
    let bodies = &receiver.bodies;
    let length = content_length(headers);
    if length.is_some_and(|n| n > bodies.bytes_max) {
        return Err(Problem::too_large(format!("the body is larger than {} bytes", bodies.bytes_max)));
    }
    let share = body::memory(incoming.packing, length.unwrap_or(bodies.bytes_max), bodies).div_ceil(BUDGET_UNIT);
    let share = share.clamp(1, (bodies.budget_bytes / BUDGET_UNIT).max(1)) as u32;
    let _share = match tokio::time::timeout(bodies.budget_wait, receiver.budget.acquire_many(share)).await {
        Ok(Ok(share)) => share,
        _ => return Err(Problem::unavailable("busy", "too many bodies are being read at once".into())),
    };
    let bytes = read(body, bodies).await?;
    let (worker, described) = (receiver.clone(), described(headers));
    let (batch, answer) = tokio::task::spawn_blocking(move || decode(&worker, &tenant, incoming, &described, &bytes))
        .await
        .map_err(|_| Problem::internal())??;
    if !batch.is_empty() {
        receiver.intake.append(batch).await?;
    }
    Ok(answer)
}

/// Headers that say something of the records.
fn described(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let says = |name: &str| name == "content-type" || name == "traceparent" || name.starts_with("ce-");
    let said = headers.iter().filter(|(name, _)| says(name.as_str()));
    said.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(body: Body, bodies: &Bodies) -> Result<Bytes, Problem> {
    match tokio::time::timeout(bodies.timeout, Limited::new(body, bodies.bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            Err(Problem::too_large(format!("the body is larger than {} bytes", bodies.bytes_max)))
        }
        Ok(Err(_)) => Err(Problem::bad_request("body_incomplete", "the body ended early".into())),
        Err(_) => Err(Problem::timeout(format!("the body took longer than {} s", bodies.timeout.as_secs()))),
    }
}

/// Unpacks, cuts into records, decodes and redacts: after this nothing of the body is needed any more.
fn decode(
    receiver: &Receiver,
    tenant: &str,
    incoming: Incoming,
    headers: &[(String, Vec<u8>)],
    bytes: &[u8],
) -> Result<(Batch, Answer), Problem> {
    let mut headers: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    if incoming.shape == Shape::Framed {
        // The frame is gone by then, and what was in it is said as over plain HTTP.
        headers.retain(|(name, _)| *name != "content-type");
        headers.push(("content-type", otlp::PROTOBUF.as_bytes()));
    }
    let (packing, bytes) = match incoming.shape {
        Shape::Framed => match otlp::unframe(bytes)? {
            (true, message) => (incoming.packing, message),
            (false, message) => (Packing::Plain, message),
        },
        Shape::Records | Shape::Whole => (incoming.packing, bytes),
    };
    let unpacked = match (incoming.shape, packing) {
        // What is no text may begin as something packed does.
        (Shape::Framed | Shape::Whole, Packing::Plain) => bytes.into(),
        _ => body::unpack(packing, bytes, &receiver.bodies)?,
    };
    let records = match incoming.shape {
        Shape::Records => body::records(&unpacked, &receiver.bodies)?,
        Shape::Whole | Shape::Framed => vec![&*unpacked],
    };
    body::few_values(&records)?;
    let within = body::within(&receiver.bodies);
    let kept = receiver.keeper.decode_within(tenant, incoming.format, &headers, records, within);
    kept.map_err(|too_much| Problem::too_large(too_much.to_string()))
}

impl From<AppendError> for Problem {
    fn from(e: AppendError) -> Problem {
        match e {
            AppendError::Full { .. } => Problem::full(e.to_string()),
            AppendError::DiskLow { .. } => Problem::unavailable("disk_low", e.to_string()),
            AppendError::Busy => Problem::unavailable("busy", e.to_string()),
            AppendError::Starting => Problem::unavailable("starting", e.to_string()),
            AppendError::Broken => Problem::unavailable("intake_failing", e.to_string()),
            AppendError::Closed => Problem::unavailable("closing", e.to_string()),
        }
    }
}

async fn ready(State(receiver): State<Arc<Receiver>>) -> Response {
    match receiver.refusal() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(reason) => Problem::unavailable("not_ready", reason).into_response(),
    }
}

async fn metrics(State(receiver): State<Arc<Receiver>>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], receiver.metrics.encode()).into_response()
}

#[cfg(test)]
mod tests;
