//! Who asks, and whose rows they see.
//!
//! Guarantee: a request under `/api` is judged by its key before its parameters, its route or its body are looked at, and
//! a key that may only ingest reads nothing.

use crate::problem::Problem;
use crate::{Server, Turn};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use catena_engine::{Scope, Session};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// How questions are distinguished.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever reaches the listener sees everything. For a listener that only this machine reaches.
    Open,
    /// By bearer key: SHA-256 of a key, and what it may.
    Keys(HashMap<[u8; 32], Holder>),
}

/// Who has a key.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Whose rows it sees.
    pub tenant: String,
    /// Whether it may ask at all: there are keys that only ingest.
    pub may_read: bool,
}

impl Access {
    /// The scope of a request that may read.
    fn scope(&self, headers: &HeaderMap) -> Result<Scope, Problem> {
        let Access::Keys(keys) = self else { return Ok(Scope::All) };
        // Looked up by digest: how long that takes says nothing about the key.
        let holder = bearer(headers).and_then(|key| {
            let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
            keys.get(&digest)
        });
        match holder {
            None => Err(Problem::unauthorized()),
            Some(holder) if !holder.may_read => Err(may_not_read()),
            Some(holder) => Ok(Scope::tenant(holder.tenant.as_str())),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_matches(' '))
}

fn may_not_read() -> Problem {
    let detail = "the key of this request may not read: use one whose `may` in `[http] keys` holds \"read\"";
    Problem::new(StatusCode::FORBIDDEN, "key_may_not_read", "the key may not do this", detail)
}

/// Who asks, and their turn once they have one.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) session: Session,
    turn: Arc<Mutex<Option<Turn>>>,
}

impl Asker {
    /// Waits for a turn among the queries of the scope, and keeps it until the answer is counted.
    pub(crate) async fn turn(&self, server: &Server) -> Result<(), Problem> {
        let turn = server.turn(self.session.scope()).await?;
        *self.turn.lock() = Some(turn);
        Ok(())
    }
}

/// Judges the key before anything else, and counts the answer until it is sent.
pub(crate) async fn judged(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let scope = match server.settings.access.scope(request.headers()) {
        Ok(scope) => scope,
        Err(problem) => return problem.into_response(),
    };
    let whole = scope == Scope::All;
    let session = server.engine.session(scope);
    let session = if whole { session } else { session.outside() };
    let asker = Asker { session, turn: Arc::default() };
    request.extensions_mut().insert(asker.clone());
    let response = next.run(request).await;
    let counted = server.unsent.count(asker.session.scope(), server.settings.queue_wait, response).await;
    drop(asker);
    counted.unwrap_or_else(IntoResponse::into_response)
}
