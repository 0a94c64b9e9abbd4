//! Bodies of questions.
//!
//! Guarantee: a body is read within a time and up to a size, by routes whose key was judged already.

use crate::BODY_BYTES_MAX;
use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

pub(crate) async fn read(body: Body, timeout: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(timeout, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let detail = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large", detail))
        }
        Ok(Err(_)) => Err(Problem::bad_request("body_incomplete", "the body ended early")),
        Err(_) => {
            let detail = format!("the body took longer than {} s", timeout.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took too long", detail))
        }
    }
}
