//! The server under the routes.
//!
//! Guarantees: a client that is slow or silent costs a connection for a known time and no thread: the first bytes, each
//! head, each body, an idle connection of either version of HTTP, and an answer that is not read have a time limit, on
//! every route. Connections are counted, in all and per address, and idle ones make way for new ones. A request
//! names exactly one host. No page of another site may embed an answer. `axum::serve` sets hyper no timer, so its head
//! timeout would never strike; hence this.
//!
//! On cancellation no connection is accepted any more, requests under way are answered, and what is not done within
//! `stop_timeout` is cut.

mod bodies;
mod head;
mod host;
mod patience;

use crate::receive::seats::Seats;
use crate::receive::traffic::{Overrun, Traffic};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, HeaderValue, Version, header};
use axum::response::{IntoResponse, Response};
use bodies::{Arriving, Leaving};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use patience::Patience;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Browsers let a page of another site neither embed an answer nor keep a handle on a window that shows one.
const ISOLATION: [(HeaderName, HeaderValue); 2] = [
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections.
    pub connections_max: usize,
    /// Connections from one address; 0 is no limit per address.
    pub connections_per_address_max: usize,
    /// Time for a head.
    pub header_timeout: Duration,
    /// Time from the head to the end of a body, on routes that set no shorter one.
    pub body_timeout: Duration,
    /// Time without a request, after which a connection is closed.
    pub idle_timeout: Duration,
    /// Time that an answer may wait for its client to read on.
    pub write_timeout: Duration,
    /// Time for a client to read a whole answer, besides what its bytes take at `answer_rate_min`.
    pub answer_timeout: Duration,
    /// Bytes of an answer a second that a client must read.
    pub answer_rate_min: u64,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Bytes of a head.
    pub header_bytes_max: usize,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Time for requests under way to end when stopping.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1024,
            connections_per_address_max: 256,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            answer_rate_min: 64 << 10,
            headers_max: 64,
            header_bytes_max: 16 << 10,
            streams_max: 100,
            stop_timeout: Duration::from_secs(6),
        }
    }
}

impl Limits {
    /// By when an answer of so many bytes must have been read.
    fn read_by(&self, bytes: u64) -> Instant {
        Instant::now() + self.answer_timeout + Duration::from_secs(bytes / self.answer_rate_min.max(1))
    }

    /// How often a connection is looked at: an overrun is noticed an eighth of the limit late at most.
    fn look_every(&self) -> Duration {
        (self.idle_timeout.min(self.answer_timeout) / 8).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }
}

/// Serves a router until cancelled.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, cancel: CancellationToken) -> io::Result<()> {
    let limits = Arc::new(limits);
    let seats = Seats::new(limits.connections_max, limits.connections_per_address_max);
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, most likely: an idle connection makes way, and others get time to end.
                tracing::warn!(error = %e, "connection could not be accepted");
                seats.close_one();
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(seat) = seats.take(peer.ip()) else {
            tracing::debug!(%peer, "connection refused: as many as may be are busy");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (router, limits, cancel, cut) = (router.clone(), limits.clone(), cancel.clone(), cut.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = seat.traffic.closed() => {}
                () = converse(stream, peer, router, &limits, &seat.traffic, &cancel) => {}
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.stop_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections were cut: they did not end in time");
        cut.cancel();
        tasks.wait().await;
    }
    Ok(())
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &Arc<Limits>,
    traffic: &Arc<Traffic>,
    cancel: &CancellationToken,
) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        answer(request, peer, router.clone(), limits.clone(), traffic.clone())
    });
    let builder = protocols(limits);
    let io = TokioIo::new(Patience::new(stream, traffic.clone(), limits));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut look = tokio::time::interval(limits.look_every());
    let mut ending = false;
    let result = loop {
        tokio::select! {
            result = connection.as_mut() => break result,
            () = cancel.cancelled(), if !ending => {
                connection.as_mut().graceful_shutdown();
                ending = true;
            }
            _ = look.tick() => match traffic.overrun(Instant::now(), limits.idle_timeout, limits.header_timeout) {
                None => {}
                Some(Overrun::Idle) if ending => {}
                Some(Overrun::Idle) => {
                    connection.as_mut().graceful_shutdown();
                    ending = true;
                }
                Some(overrun) => {
                    tracing::debug!(%peer, ?overrun, "connection cut");
                    return;
                }
            }
        }
    };
    if let Err(e) = result {
        tracing::debug!(%peer, error = %e, "connection ended");
    }
}

/// hyper's own limits.
fn protocols(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // It runs between requests too; heads alone have a shorter limit in `Patience`.
        .header_read_timeout(limits.idle_timeout)
        .max_headers(limits.headers_max)
        // hyper's buffer bounds the head; it takes no less than 8 KiB.
        .max_buf_size(limits.header_bytes_max.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX));
    builder
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    router: Router,
    limits: Arc<Limits>,
    traffic: Arc<Traffic>,
) -> Result<Response, Infallible> {
    let exchange = traffic.begin(request.version() == Version::HTTP_2);
    let mut response = match host::check(&request) {
        Ok(()) => {
            let by = tokio::time::Instant::now() + limits.body_timeout;
            let mut request = request.map(|body| Body::new(Arriving::new(body, by)));
            request.extensions_mut().insert(ConnectInfo(peer));
            router.oneshot(request).await?
        }
        Err(problem) => {
            let mut refusal = problem.into_response();
            // What else comes on this connection is not to be trusted; HTTP/2 has no such field.
            if request.version() < Version::HTTP_2 {
                refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            refusal
        }
    };
    for (name, value) in ISOLATION {
        response.headers_mut().insert(name, value);
    }
    let bytes = response.body().size_hint();
    exchange.answered(limits.read_by(bytes.upper().unwrap_or(bytes.lower())));
    Ok(response.map(|body| Body::new(Leaving::new(body, exchange))))
}
