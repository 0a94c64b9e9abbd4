//! HTTP: takes decisions in a body and answers when they are fsynced.
//!
//! Guarantees: a 2xx answer means that every record of the body is in the intake log, on disk, as an event, a rejection or
//! an aside; any other answer means that the client should send the whole body again. Secrets are gone before the first
//! byte is written. The tenant comes from the key of the request, never from the body; the key is judged before anything
//! else of the request is looked at, its parameters and its body included. Memory is bounded: the bodies that are being
//! read and unpacked at once share one budget, of which each tenant has a part.
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
//! | 401 | no or an unknown key |
//! | 403 | the key may not ingest; a browser page or host name that has no business here |
//! | 408, 413, 415 | the body took too long; is too big, or unpacks to too much; has an unknown encoding |
//! | 429, 503 | the log is full; it is starting, failing, closing or busy. Both with `Retry-After` |

mod auth;
mod body;
mod budget;
mod origin;
mod otlp;
mod problem;
mod serve;

pub use auth::{Auth, AuthError, Grant, Key, May};
pub use origin::loopback_only;
pub use serve::{Limits, serve};

use super::keep::Keeper;
pub use super::keep::{Answer, RecordError};
use crate::intake::{AppendError, Batch, Intake};
use crate::metrics::Metrics;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use budget::{Budget, FIRST_BYTES, Held};
use catena_decode::Format;
use catena_decode::frame::Packing;
use http_body_util::BodyExt;
use problem::Problem;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
    /// Bodies of one tenant that are under way at once.
    pub per_tenant_max: usize,
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
            per_tenant_max: 256,
        }
    }
}

/// Says why it is not ready, if it is not.
pub type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What `/readyz` says.
#[derive(Clone, Default)]
pub struct Health {
    /// Reasons why it is not ready.
    pub checks: Vec<Check>,
    /// What an operator should know although it is ready.
    pub notes: Vec<Check>,
}

impl Health {
    fn refusal(&self) -> Option<String> {
        self.checks.iter().find_map(|check| check())
    }

    fn answer(&self, refusal: Option<String>) -> Response {
        if let Some(reason) = refusal {
            return Problem::unavailable("not_ready", reason).into_response();
        }
        let notes = self.notes.iter().filter_map(|note| note()).map(|note| note + "\n").collect::<String>();
        (StatusCode::OK, format!("ready\n{notes}")).into_response()
    }
}

/// `/readyz` and `/healthz` of a service that receives nothing over HTTP.
pub fn health_router(health: Health) -> Router {
    let ready = move || async move { health.answer(health.refusal()) };
    Router::new().route("/readyz", get(ready)).route("/healthz", get(alive))
}

async fn alive() -> &'static str {
    "ok\n"
}

/// What the routes work with.
pub struct Receiver {
    intake: Intake,
    keeper: Arc<Keeper>,
    auth: Auth,
    bodies: Bodies,
    metrics: Arc<Metrics>,
    health: Health,
    budget: Budget,
}

impl Receiver {
    /// A receiver that writes to the intake log of a keeper.
    pub fn new(keeper: Arc<Keeper>, auth: Auth, bodies: Bodies, metrics: Arc<Metrics>) -> Receiver {
        let budget = Budget::new(bodies.budget_bytes, auth.tenants(), bodies.per_tenant_max);
        Receiver { intake: keeper.intake().clone(), keeper, auth, bodies, metrics, health: Health::default(), budget }
    }

    /// Adds something that `/readyz` asks.
    pub fn check(mut self, check: Check) -> Receiver {
        self.health.checks.push(check);
        self
    }

    /// Adds all that somebody else has for `/readyz`.
    pub fn health(mut self, health: Health) -> Receiver {
        self.health.checks.extend(health.checks);
        self.health.notes.extend(health.notes);
        self
    }

    /// Why records would not be taken now, if they would not.
    pub fn refusal(&self) -> Option<String> {
        self.intake.refusal().map(|e| e.to_string()).or_else(|| self.health.refusal())
    }
}

/// The routes.
pub fn router(receiver: Arc<Receiver>) -> Router {
    let open = receiver.auth.is_open();
    let door = |route, refuse| from_fn_with_state(Door { receiver: receiver.clone(), route, refuse }, judged);
    let plain = Router::new()
        .route("/ingest/v1/events", post(events))
        .route("/logs", post(opa))
        .route("/logs/{partition}", post(opa))
        .route_layer(door("ingest", IntoResponse::into_response));
    let otlp = Router::new()
        .route("/v1/logs", post(otlp::export))
        .route("/v1/traces", post(otlp::export))
        .route_layer(door("otlp", IntoResponse::into_response));
    let grpc = Router::new()
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(otlp::export_grpc))
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(otlp::export_grpc))
        .route_layer(door("otlp", otlp::refusal));
    let router = plain
        .merge(otlp)
        .merge(grpc)
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .route("/healthz", get(alive))
        .layer(DefaultBodyLimit::disable())
        .with_state(receiver);
    if open { loopback_only(router) } else { router }
}

/// Whose records a request brings: only a key that may ingest gets this far.
#[derive(Clone)]
struct Sender(Arc<str>);

/// What routes of one kind say to a request whose key is not right.
#[derive(Clone)]
struct Door {
    receiver: Arc<Receiver>,
    route: &'static str,
    refuse: fn(Problem) -> Response,
}

/// Judges the key, before parameters and body are looked at.
async fn judged(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    match door.receiver.auth.judge(request.headers(), May::Ingest) {
        Ok(tenant) => {
            request.extensions_mut().insert(Sender(tenant));
            next.run(request).await
        }
        Err(refused) => {
            let problem = Problem::from(refused);
            door.receiver.metrics.answered(door.route, problem.status.as_u16());
            (door.refuse)(problem)
        }
    }
}

async fn events(
    State(receiver): State<Arc<Receiver>>,
    Extension(sender): Extension<Sender>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let name = query.get("format").map_or("catena", String::as_str);
    let Some(format) = Format::parse(name) else {
        let known: Vec<_> = Format::ALL.iter().map(|f| f.as_str()).collect();
        let detail = format!("unknown `format`; expected one of: {}", known.join(", "));
        return Problem::bad_request("format_unknown", detail).into_response();
    };
    answer(receiver, &sender, format, headers, body).await
}

async fn opa(
    State(receiver): State<Arc<Receiver>>,
    Extension(sender): Extension<Sender>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(receiver, &sender, Format::Opa, headers, body).await
}

async fn answer(receiver: Arc<Receiver>, sender: &Sender, format: Format, headers: HeaderMap, body: Body) -> Response {
    let result = match body::packing(&headers) {
        Ok(packing) => {
            let shape = if is_whole(&headers) { Shape::Whole } else { Shape::Records };
            let incoming = Incoming { format, packing, shape };
            receive(&receiver, sender, incoming, &headers, body, "ingest").await
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
    sender: &Sender,
    incoming: Incoming,
    headers: &HeaderMap,
    body: Body,
    route: &'static str,
) -> Result<Answer, Problem> {
    let result = keep(receiver, sender, incoming, headers, body).await;
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
    Sender(tenant): &Sender,
    incoming: Incoming,
    headers: &HeaderMap,
    body: Body,
) -> Result<Answer, Problem> {
    // A full log says so before the body is read.
    if let Some(refusal) = receiver.intake.refusal() {
        return Err(refusal.into());
    }
    let bodies = &receiver.bodies;
    let length = content_length(headers);
    if length.is_some_and(|n| n > bodies.bytes_max) {
        return Err(Problem::too_large(format!("the body is larger than {} bytes", bodies.bytes_max)));
    }
    let _place = turn(bodies, receiver.budget.enter(tenant)).await?;
    let (bytes, _arrived) = read(receiver, tenant, length, body).await?;
    let memory = body::memory(incoming.packing, bytes.len(), bodies);
    let _memory = turn(bodies, receiver.budget.decoding(tenant, memory)).await?;
    let (worker, described, tenant) = (receiver.clone(), described(headers), tenant.clone());
    let (batch, answer) = tokio::task::spawn_blocking(move || decode(&worker, &tenant, incoming, &described, &bytes))
        .await
        .map_err(|_| Problem::internal())??;
    if !batch.is_empty() {
        receiver.intake.append(batch).await?;
    }
    Ok(answer)
}

/// Waits for a share of the budget as long as a request may.
async fn turn(bodies: &Bodies, waiting: impl Future<Output = Held>) -> Result<Held, Problem> {
    let busy = |_| Problem::unavailable("busy", "too many bodies of this tenant are being read at once".into());
    tokio::time::timeout(bodies.budget_wait, waiting).await.map_err(busy)
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

/// Reads a body within its time, and holds memory for what has come of it.
async fn read(
    receiver: &Receiver,
    tenant: &str,
    length: Option<usize>,
    mut body: Body,
) -> Result<(Vec<u8>, Vec<Held>), Problem> {
    let bodies = &receiver.bodies;
    let most = length.unwrap_or(bodies.bytes_max);
    let mut held = vec![turn(bodies, receiver.budget.arriving(tenant, most.min(FIRST_BYTES))).await?];
    let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(FIRST_BYTES));
    let until = Instant::now() + bodies.timeout;
    loop {
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Ok(None) => return Ok((bytes, held)),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(Problem::bad_request("body_incomplete", "the body ended early".into())),
            Err(_) => {
                return Err(Problem::timeout(format!("the body took longer than {} s", bodies.timeout.as_secs())));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(Problem::too_large(format!("the body is larger than {} bytes", bodies.bytes_max)));
        }
        if held.len() == 1 && bytes.len() + data.len() > FIRST_BYTES {
            held.push(turn(bodies, receiver.budget.arriving(tenant, most - FIRST_BYTES)).await?);
            bytes.reserve_exact(length.unwrap_or(0).saturating_sub(bytes.len()));
        }
        bytes.extend_from_slice(&data);
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

/// Whether it is ready. Where keys are set, why not is only for a key that may see figures: a reason can name the place of the lake.
async fn ready(State(receiver): State<Arc<Receiver>>, headers: HeaderMap) -> Response {
    let mut refusal = receiver.refusal();
    if refusal.is_some() && receiver.auth.judge(&headers, May::Metrics).is_err() {
        refusal =
            Some("records are not taken now; a key that may see metrics is told why, and so is the log".to_owned());
    }
    receiver.health.answer(refusal)
}

/// Figures. Where keys are set, those of single topics are only for a key that may see them.
async fn metrics(State(receiver): State<Arc<Receiver>>, headers: HeaderMap) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = match receiver.auth.judge(&headers, May::Metrics) {
        Ok(_) => receiver.metrics.encode(),
        Err(_) => receiver.metrics.encode_totals(),
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests;
