//! The server under the routes.
//!
//! Guarantees: a client that is slow or silent costs a connection for a known time and no thread: the first bytes, each
//! head, each body (the routes see to that) and a stalled answer have a time limit; connections are counted, in all and
//! per address. `axum::serve` sets hyper no timer, so its head timeout would never strike; hence this.
//!
//! On cancellation no connection is accepted any more, requests under way are answered, and what is not done within
//! `stop_timeout` is cut.

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Bytes by which hyper knows which HTTP it is; until then its own timers do not run.
const PREFACE_BYTES: usize = 24;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections.
    pub connections_max: usize,
    /// Connections from one address.
    pub connections_per_ip_max: usize,
    /// Time for a head, and for a connection to stay idle between requests.
    pub header_timeout: Duration,
    /// Time that an answer may wait for its client to read on.
    pub write_timeout: Duration,
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
            connections_max: 4096,
            connections_per_ip_max: 1024,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            headers_max: 64,
            header_bytes_max: 16 << 10,
            streams_max: 100,
            stop_timeout: Duration::from_secs(8),
        }
    }
}

/// Serves a router until cancelled.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, cancel: CancellationToken) -> io::Result<()> {
    let limits = Arc::new(limits);
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let addresses = Arc::new(Addresses::default());
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
                // Out of descriptors, most likely: leave those who are served some time to end.
                tracing::warn!(error = %e, "connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let Some(seat) = Addresses::take(&addresses, peer.ip(), limits.connections_per_ip_max) else { continue };
        let _ = stream.set_nodelay(true);
        let (router, limits, cancel, cut) = (router.clone(), limits.clone(), cancel.clone(), cut.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = converse(stream, peer, router, &limits, &cancel) => {}
            }
            drop((permit, seat));
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

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, limits: &Limits, cancel: &CancellationToken) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
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
    let io = TokioIo::new(Patience::new(stream, limits));
    let mut connection = pin!(builder.serve_connection(io, service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = result {
        tracing::debug!(%peer, error = %e, "connection ended");
    }
}

/// Connections per address.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

struct Seat(Arc<Addresses>, IpAddr);

impl Addresses {
    fn take(addresses: &Arc<Addresses>, ip: IpAddr, max: usize) -> Option<Seat> {
        let mut counts = addresses.0.lock();
        let count = counts.entry(ip).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Seat(addresses.clone(), ip))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// A stream that gives up on a client that does not begin, or does not read on.
struct Patience {
    stream: TcpStream,
    /// Runs until the preface was read.
    begin: Option<Pin<Box<Sleep>>>,
    seen: usize,
    write_timeout: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(stream: TcpStream, limits: &Limits) -> Patience {
        let begin = Some(Box::pin(tokio::time::sleep(limits.header_timeout)));
        Patience { stream, begin, seen: 0, write_timeout: limits.write_timeout, stalled: None }
    }

    fn watch<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.write_timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl AsyncRead for Patience {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.seen = self.seen.saturating_add(buf.filled().len() - before);
                if self.seen >= PREFACE_BYTES {
                    self.begin = None;
                }
                Poll::Ready(result)
            }
            Poll::Pending => match &mut self.begin {
                Some(begin) => {
                    ready!(begin.as_mut().poll(cx));
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not begin")))
                }
                None => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Patience {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
