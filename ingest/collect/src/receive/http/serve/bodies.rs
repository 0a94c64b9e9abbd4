//! Bodies on their way: of requests in, of answers out.
//!
//! Guarantees: no route waits for a body for longer than `body_timeout`, whatever it does with it. An answer is handed to
//! the network in pieces, so that its request is under way until all but the last piece was taken by the client: a body
//! given to hyper at once would count as sent while all of it still waits in memory.

use crate::receive::traffic::Exchange;
use axum::body::Body as AnyBody;
use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

/// Bytes of an answer that are handed on at once.
const PIECE: usize = 64 << 10;

/// A request's body that must have come by some time.
pub(super) struct Arriving {
    body: Incoming,
    by: Instant,
    /// Made when the body is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, by: Instant) -> Arriving {
        Arriving { body, by, waiting: None }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        let by = self.by;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(by)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the body took too long").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, which keeps its request under way.
pub(super) struct Leaving {
    body: AnyBody,
    /// What is left of the last frame.
    rest: Bytes,
    _exchange: Exchange,
}

impl Leaving {
    pub(super) fn new(body: AnyBody, exchange: Exchange) -> Leaving {
        Leaving { body, rest: Bytes::new(), _exchange: exchange }
    }

    fn piece(&mut self) -> Bytes {
        let length = self.rest.len().min(PIECE);
        self.rest.split_to(length)
    }
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}
