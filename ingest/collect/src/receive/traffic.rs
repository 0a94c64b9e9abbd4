//! What one connection is doing.
//!
//! Guarantees: a request is under way from its head until its answer was handed to the network or given up, in either
//! version of HTTP; PINGs and other frames of HTTP/2 are no request. A connection without a request under way has been
//! idle since a known time, and an answer that is under way has a time by which it must have been read, whether or not the
//! client reads a byte now and then.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    requests: Mutex<Requests>,
    under_way: AtomicUsize,
    begun: AtomicU64,
    http2: AtomicBool,
    /// Cancelled when the connection must make place for another.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Requests {
    /// By number, with the time by which an answer must have been read.
    under_way: HashMap<u64, Option<Instant>>,
    /// Since when there is none.
    idle_since: Instant,
}

/// What a connection has overrun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overrun {
    /// It was idle for too long.
    Idle,
    /// It was asked to end for that, and did not.
    Stuck,
    /// An answer was not read in time.
    Answer,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            requests: Mutex::new(Requests { under_way: HashMap::new(), idle_since: Instant::now() }),
            under_way: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            closed: CancellationToken::new(),
        }
    }
}

impl Traffic {
    /// A request has come.
    pub(super) fn begin(self: &Arc<Traffic>, http2: bool) -> Exchange {
        self.http2.store(http2, Relaxed);
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        let mut requests = self.requests.lock();
        requests.under_way.insert(number, None);
        self.under_way.store(requests.under_way.len(), Relaxed);
        Exchange { traffic: self.clone(), number }
    }

    /// Requests that have come so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Relaxed) > 0
    }

    /// Whether requests come as frames of HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Whether it ever sent a request, and since when none is under way; `None` while one is.
    pub(super) fn idle(&self) -> Option<(bool, Instant)> {
        let requests = self.requests.lock();
        requests.under_way.is_empty().then(|| (self.begun() > 0, requests.idle_since))
    }

    /// What was overrun by now.
    pub(super) fn overrun(&self, now: Instant, idle: Duration, grace: Duration) -> Option<Overrun> {
        let requests = self.requests.lock();
        if requests.under_way.is_empty() {
            let waited = now.saturating_duration_since(requests.idle_since);
            return match waited {
                _ if waited >= idle + grace => Some(Overrun::Stuck),
                _ if waited >= idle => Some(Overrun::Idle),
                _ => None,
            };
        }
        requests.under_way.values().flatten().any(|by| *by <= now).then_some(Overrun::Answer)
    }

    /// Makes the connection end.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Resolves when the connection must end.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    traffic: Arc<Traffic>,
    number: u64,
}

impl Exchange {
    /// The answer is there: by when it must have been read.
    pub(super) fn answered(&self, read_by: Instant) {
        self.traffic.requests.lock().under_way.insert(self.number, Some(read_by));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut requests = self.traffic.requests.lock();
        requests.under_way.remove(&self.number);
        if requests.under_way.is_empty() {
            requests.idle_since = Instant::now();
        }
        self.traffic.under_way.store(requests.under_way.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overrun() {
        let (idle, grace) = (Duration::from_secs(60), Duration::from_secs(5));
        let traffic = Arc::new(Traffic::default());
        let start = Instant::now();
        let overrun = |after: u64| traffic.overrun(start + Duration::from_secs(after), idle, grace);
        assert_eq!((overrun(59), overrun(61), overrun(66)), (None, Some(Overrun::Idle), Some(Overrun::Stuck)));
        let exchange = traffic.begin(true);
        assert_eq!((overrun(1000), traffic.is_busy(), traffic.idle()), (None, true, None));
        exchange.answered(start + Duration::from_secs(90));
        let other = traffic.begin(true);
        assert_eq!((overrun(89), overrun(91)), (None, Some(Overrun::Answer)));
        drop(exchange);
        assert_eq!((overrun(91), traffic.is_busy()), (None, true));
        drop(other);
        assert_eq!((traffic.is_busy(), traffic.begun(), traffic.idle().map(|i| i.0)), (false, 2, Some(true)));
    }
}
