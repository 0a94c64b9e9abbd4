//! Answers that wait for their reader.
//!
//! Guarantees: the bytes of an answer are counted from when it is whole until the network has taken the last of them, or
//! the connection is gone; there are never more than `unsent_bytes_max` of them, and of one tenant no more than
//! `unsent_bytes_per_tenant_max`. A query keeps its turn until its answer is counted, so answers that wait to be counted
//! are bounded too. An answer for which there is no room is refused; those up to [`SMALL_BYTES`] have a quarter for
//! themselves, so that a tenant whose large answers are stuck still gets small answers.
//!
//! The count belongs to the memory, not to the body: hyper takes a body out of our hands long before it is sent.

use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use catena_engine::Scope;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the count.
const UNIT: usize = 1 << 10;
/// Answers up to this many bytes never wait behind larger ones.
const SMALL_BYTES: usize = 64 << 10;

/// What was not sent yet.
pub(crate) struct Unsent {
    small: Pool,
    large: Pool,
}

impl Unsent {
    pub(crate) fn new(max: usize, per_tenant_max: usize) -> Unsent {
        let (small, small_of_one) = (max / 4, per_tenant_max / 4);
        Unsent { small: Pool::new(small, small_of_one), large: Pool::new(max - small, per_tenant_max - small_of_one) }
    }

    /// Counts an answer until it is sent. Refusals are a few bytes, and pass.
    pub(crate) async fn count(&self, scope: &Scope, wait: Duration, response: Response) -> Result<Response, Problem> {
        if !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
            let title = "the service failed";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, "the answer was cut off"));
        };
        if bytes.is_empty() {
            return Ok(Response::from_parts(parts, Body::from(bytes)));
        }
        let pool = if bytes.len() <= SMALL_BYTES { &self.small } else { &self.large };
        let Ok(count) = tokio::time::timeout(wait, pool.take(scope, bytes.len())).await else {
            let detail = "answers that were asked for and not read fill the memory for them: read them, or close their \
                          connections, and ask again";
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "answers_unread",
                "too many unread answers",
                detail,
            ));
        };
        let held = Bytes::from_owner(Held { bytes, _count: count });
        Ok(Response::from_parts(parts, Body::from(held)))
    }
}

/// The bytes of an answer, and their count: both end when the last slice of them is gone.
struct Held {
    bytes: Bytes,
    _count: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// So much for all, and so much for each.
struct Pool {
    all: Arc<Semaphore>,
    share: usize,
    scopes: Mutex<HashMap<Scope, Arc<Semaphore>>>,
}

impl Pool {
    fn new(all: usize, share: usize) -> Pool {
        let (all, share) = ((all / UNIT).max(1), (share / UNIT).max(1));
        Pool { all: Arc::new(Semaphore::new(all)), share: share.min(all), scopes: Mutex::default() }
    }

    /// Waits in the queue of the scope, and only then in that of all. More than a share counts as a share.
    async fn take(&self, scope: &Scope, bytes: usize) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        let units = bytes.div_ceil(UNIT).min(self.share) as u32;
        let fresh = || Arc::new(Semaphore::new(self.share));
        let own = self.scopes.lock().entry(scope.clone()).or_insert_with(fresh).clone();
        let own = own.acquire_many_owned(units).await.expect("the semaphores are never closed");
        let all = self.all.clone().acquire_many_owned(units).await.expect("the semaphores are never closed");
        (own, all)
    }
}
