//! A stream that gives up on a client that does not go on.
//!
//! Guarantees: the first bytes of a connection, and each head from its first byte on, are there within `header_timeout`;
//! a write waits for its client for `write_timeout` at most. Lines of heads that end in a bare LF are spoilt,
//! as the module `head` says.

use super::Limits;
use super::head::{END, Head};
use crate::receive::traffic::Traffic;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

pub(super) struct Patience {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    head: Head,
    /// Requests that had come when this head began.
    begun: u64,
    header_timeout: Duration,
    /// Runs until the head has ended.
    waiting: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(stream: TcpStream, traffic: Arc<Traffic>, limits: &Limits) -> Patience {
        Patience {
            stream,
            traffic,
            head: Head::default(),
            begun: 0,
            header_timeout: limits.header_timeout,
            waiting: Some(Box::pin(tokio::time::sleep(limits.header_timeout))),
            write_timeout: limits.write_timeout,
            stalled: None,
        }
    }

    /// Looks at bytes that were read.
    fn look(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() || self.traffic.is_http2() {
            return;
        }
        if self.head.ended() {
            // What follows belongs to that request until it is answered; then the next head begins.
            if self.traffic.is_busy() || self.traffic.begun() == self.begun {
                return;
            }
            (self.head, self.begun) = (Head::default(), self.traffic.begun());
            self.waiting = Some(Box::pin(tokio::time::sleep(self.header_timeout)));
        }
        self.head.scan(bytes);
        if self.head.ended() {
            self.waiting = None;
        }
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
        if self.head.needs_end() && buf.remaining() >= END.len() {
            buf.put_slice(END);
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.look(&mut buf.filled_mut()[before..]);
                Poll::Ready(result)
            }
            Poll::Pending => match &mut self.waiting {
                Some(waiting) => {
                    ready!(waiting.as_mut().poll(cx));
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not finish a head")))
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
