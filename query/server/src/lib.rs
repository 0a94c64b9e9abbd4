//! The HTTP API over a lake, and a plain page that uses it.
//!
//! Guarantees: a request is authenticated, or comes from this machine; a key sees its tenant's rows and nothing else, whatever the
//! request; the key is checked before anything else of the request. Every answer has a limit, says when it reached it, and names the
//! version of the lake that it reflects; unread answers are counted. Bodies are the types of [`catena_schemas::answer`]; refusals are
//! `application/problem+json` with a stable `code`. This crate knows nothing of how facts came into the lake.
//!
//! | route | answers |
//! |---|---|
//! | `POST /api/v1/sql` `{"query","format"}`, `GET /api/v1/sql?q=&format=` | rows of one statement |
//! | `GET /api/v1/chains` | the newest chains that match |
//! | `GET /api/v1/chains/{id}` | one chain by its id, or by an event, session or trace of it; `format=text` or `dot` draws it |
//! | `GET /api/v1/decisions/{id}/why` | one decision: verdict, policy, principals, grant, chain |
//! | `GET /api/v1/status` | totals: decisions, rejections, asides; the last record of each partition |
//! | `GET /api/v1/sources` | how complete each source is: counts, fields filled by outcome, missing numbers, last seen |
//! | `GET /` | a page over these |
//!
//! Without keys the routes must only be reachable from this machine, and not through a web page of somebody else: whoever
//! assembles the service puts the guard for that around them.

mod access;
mod api;
mod body;
mod page;
mod problem;
mod unsent;

pub use access::{Access, Holder};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use catena_engine::{Engine, Limits, Scope};
use parking_lot::Mutex;
use problem::Problem;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unsent::Unsent;

/// Bytes of a question's body. SQL has its own, lower limit in the engine.
const BODY_BYTES_MAX: usize = 128 << 10;

/// How questions are answered.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may ask.
    pub access: Access,
    /// Limits of one query.
    pub limits: Limits,
    /// Queries of one tenant at once.
    pub queries_max: usize,
    /// Queries of all tenants at once.
    pub queries_total_max: usize,
    /// How long a query waits for its turn before it is refused as busy.
    pub queue_wait: Duration,
    /// Time for the body of a question.
    pub body_timeout: Duration,
    /// Bytes of answers that were not sent yet, of all tenants.
    pub unsent_bytes_max: usize,
    /// Of one tenant.
    pub unsent_bytes_per_tenant_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            access: Access::Open,
            limits: Limits::default(),
            queries_max: 4,
            queries_total_max: 16,
            queue_wait: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            unsent_bytes_max: 256 << 20,
            unsent_bytes_per_tenant_max: 64 << 20,
        }
    }
}

/// One of the queries that run at once, until dropped.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// What the routes share.
struct Server {
    engine: Engine,
    settings: Settings,
    turns: Mutex<HashMap<Scope, Arc<Semaphore>>>,
    all_turns: Arc<Semaphore>,
    status: api::status::Cache,
    unsent: Unsent,
}

impl Server {
    fn new(engine: Engine, settings: Settings) -> Arc<Server> {
        let unsent = Unsent::new(settings.unsent_bytes_max, settings.unsent_bytes_per_tenant_max);
        let all_turns = Arc::new(Semaphore::new(settings.queries_total_max.max(1)));
        let (turns, status) = (Mutex::default(), api::status::Cache::default());
        Arc::new(Server { engine, settings, turns, all_turns, status, unsent })
    }

    /// Waits for a turn among the queries of a scope, and then among those of all.
    async fn turn(&self, scope: &Scope) -> Result<Turn, Problem> {
        let turns = self
            .turns
            .lock()
            .entry(scope.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.settings.queries_max.max(1))))
            .clone();
        let until = tokio::time::Instant::now() + self.settings.queue_wait;
        let Ok(Ok(own)) = tokio::time::timeout_at(until, turns.acquire_owned()).await else {
            return Err(Problem::busy(self.settings.queries_max));
        };
        match tokio::time::timeout_at(until, self.all_turns.clone().acquire_owned()).await {
            Ok(Ok(all)) => Ok((own, all)),
            _ => Err(Problem::busy(self.settings.queries_total_max)),
        }
    }
}

/// The routes over an engine.
pub fn router(engine: Engine, settings: Settings) -> Router {
    routes(Server::new(engine, settings))
}

fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/api/v1/sql", get(api::sql::get).post(api::sql::post))
        .route("/api/v1/chains", get(api::chains::list))
        .route("/api/v1/chains/{id}", get(api::chains::show))
        .route("/api/v1/decisions/{id}/why", get(api::chains::why))
        .route("/api/v1/sources", get(api::status::sources))
        .route("/api/v1/status", get(api::status::get))
        .route("/api/{*rest}", any(|| async { Problem::no_route() }))
        .route_layer(from_fn_with_state(server.clone(), access::judged))
        .merge(page::routes())
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(guarded))
        .with_state(server)
}

/// Answers are data: no browser is to run, frame, guess or keep them.
async fn guarded(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
