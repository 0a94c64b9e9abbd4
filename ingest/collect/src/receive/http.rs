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
mod problem;
mod serve;

pub use auth::{Auth, AuthError, Key, loopback_only};
pub use serve::{Limits, serve};

use crate::intake::{AppendError, Batch, Intake};
use crate::metrics::Metrics;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use catena_decode::frame::{self, Packing};
use catena_decode::{Context, Decoder, Format, Redactor, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros, canonical, wire};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Errors named in an answer.
const ERRORS_MAX: usize = 20;
/// Decoders kept for reuse, over all tenants.
const DECODERS_MAX: usize = 64;
/// Unit of the memory budget.
const BUDGET_UNIT: usize = 1 << 10;

/// Limits on bodies.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// Bytes of a body as sent.
    pub bytes_max: usize,
    /// Bytes of a body unpacked.
    pub unpacked_bytes_max: usize,
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
    /// The lake's secret, of which the tenants' keys are made.
    secret: [u8; 32],
    auth: Auth,
    bodies: Bodies,
    metrics: Arc<Metrics>,
    /// The collector's clock.
    now: fn() -> Micros,
    checks: Vec<Check>,
    budget: Semaphore,
    decoders: Mutex<HashMap<String, Vec<Decoder>>>,
}

impl Receiver {
    /// A receiver that writes to an intake log.
    pub fn new(
        intake: Intake,
        secret: [u8; 32],
        auth: Auth,
        bodies: Bodies,
        metrics: Arc<Metrics>,
        now: fn() -> Micros,
    ) -> Receiver {
        let budget = Semaphore::new((bodies.budget_bytes / BUDGET_UNIT).max(1));
        Receiver { intake, secret, auth, bodies, metrics, now, checks: Vec::new(), budget, decoders: Mutex::default() }
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

    fn decoder(&self, tenant: &str) -> Decoder {
        if let Some(decoder) = self.decoders.lock().get_mut(tenant).and_then(Vec::pop) {
            return decoder;
        }
        Decoder::new(Arc::new(Redactor::new(canonical::tenant_key(&self.secret, tenant))))
    }

    fn give_back(&self, tenant: &str, decoder: Decoder) {
        let mut decoders = self.decoders.lock();
        if decoders.values().map(Vec::len).sum::<usize>() >= DECODERS_MAX {
            decoders.clear();
        }
        decoders.entry(tenant.to_owned()).or_default().push(decoder);
    }
}

/// The routes.
pub fn router(receiver: Arc<Receiver>) -> Router {
    let open = receiver.auth.is_open();
    let router = Router::new()
        .route("/ingest/v1/events", post(events))
        .route("/logs", post(opa))
        .route("/logs/{partition}", post(opa))
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::disable())
        .with_state(receiver);
    if open { loopback_only(router) } else { router }
}

/// What a 200 says. `received` is the sum of the three after it, counted in facts; one record may hold several.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Answer {
    /// Records in the body.
    pub records: u64,
    /// Facts, rejections and asides.
    pub received: u64,
    /// Decisions, executions and records of authority kept.
    pub accepted: u64,
    /// Records kept as rejections.
    pub rejected: u64,
    /// Records that are known to hold no fact, kept as such.
    pub asides: u64,
    /// The first rejections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RecordError>,
}

/// A record that was rejected.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct RecordError {
    /// Which record of the body, from 0.
    pub index: u64,
    /// Stable code.
    pub reason: String,
    /// For people.
    pub detail: String,
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
    let metrics = receiver.metrics.clone();
    let result = receive(receiver, format, &headers, body).await;
    match result {
        Ok(answer) => {
            metrics.received_over_http(format.as_str(), &answer);
            metrics.answered("ingest", 200);
            (StatusCode::OK, Json(answer)).into_response()
        }
        Err(problem) => {
            metrics.answered("ingest", problem.status.as_u16());
            problem.into_response()
        }
    }
}

async fn receive(receiver: Arc<Receiver>, format: Format, headers: &HeaderMap, body: Body) -> Result<Answer, Problem> {
    let key = receiver.auth.tenant(headers).ok_or_else(Problem::unauthorized)?;
    let tenant = key.to_owned();
    let packing = body::packing(headers)?;
    // A full log says so before the body is read.
    if let Some(refusal) = receiver.intake.refusal() {
        return Err(refusal.into());
    }
    let bodies = &receiver.bodies;
    let length = content_length(headers);
    if length.is_some_and(|n| n > bodies.bytes_max) {
        return Err(Problem::too_large(format!("the body is larger than {} bytes", bodies.bytes_max)));
    }
    let share = body::memory(packing, length.unwrap_or(bodies.bytes_max), bodies).div_ceil(BUDGET_UNIT);
    let share = share.clamp(1, (bodies.budget_bytes / BUDGET_UNIT).max(1)) as u32;
    let _share = match tokio::time::timeout(bodies.budget_wait, receiver.budget.acquire_many(share)).await {
        Ok(Ok(share)) => share,
        _ => return Err(Problem::unavailable("busy", "too many bodies are being read at once".into())),
    };
    let bytes = read(body, bodies).await?;
    let worker = receiver.clone();
    let (batch, answer) = tokio::task::spawn_blocking(move || decode(&worker, &tenant, format, packing, &bytes))
        .await
        .map_err(|_| Problem::internal())??;
    if !batch.is_empty() {
        receiver.intake.append(batch).await?;
    }
    Ok(answer)
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
    format: Format,
    packing: Packing,
    bytes: &[u8],
) -> Result<(Batch, Answer), Problem> {
    let unpacked = body::unpack(packing, bytes, &receiver.bodies)?;
    let received = (receiver.now)();
    let mut decoder = receiver.decoder(tenant);
    let mut kept = Kept { batch: Batch::new(tenant, received), answer: Answer::default() };
    // A record without an id of its own gets one from here: what is sent twice without ids is kept twice.
    let request = Uuid::new_v4();
    for (_, record) in frame::records(&unpacked) {
        let fallback_id = format!("{request}/{}", kept.answer.records);
        let context = Context { received, fallback_id: &fallback_id, headers: &[], trusted: false };
        decoder.record(format, record, &context, &mut kept);
        kept.answer.records += 1;
    }
    receiver.give_back(tenant, decoder);
    let Kept { batch, mut answer } = kept;
    answer.received = answer.accepted + answer.rejected + answer.asides;
    Ok((batch, answer))
}

/// Puts what the decoder hands on into a batch for the log.
struct Kept {
    batch: Batch,
    answer: Answer,
}

impl Sink for Kept {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        self.answer.accepted += 1;
        self.batch.event(format, |out| wire::write_event(event, format.as_str(), out));
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        self.answer.accepted += 1;
        self.batch.event(format, |out| wire::write_authority(entry, format.as_str(), out));
    }

    fn rejection(&mut self, rejection: Rejection, format: Format) {
        self.answer.rejected += 1;
        if self.answer.errors.len() < ERRORS_MAX {
            self.answer.errors.push(RecordError {
                index: self.answer.records,
                reason: rejection.reason.to_owned(),
                detail: rejection.detail.clone(),
            });
        }
        self.batch.rejection(format, &rejection, false);
    }

    fn aside(&mut self, aside: Rejection, format: Format) {
        self.answer.asides += 1;
        self.batch.rejection(format, &aside, true);
    }
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
