//! OpenTelemetry: logs and spans over HTTP and over gRPC, at the paths and with the answers of OTLP 1.x.
//!
//! Guarantees: an export is acknowledged when its records are on disk, as everywhere here; what was rejected is counted in
//! `partial_success`, which tells a client not to send it again. Every refusal that a client may try again is one that the
//! protocol calls retryable: 429 and 503 with `Retry-After` over HTTP, `UNAVAILABLE` over gRPC (`RESOURCE_EXHAUSTED` is not,
//! unless it carries more than a client has to read).
//!
//! gRPC is spoken by hand: two unary methods whose message is handed on as it came need five bytes of framing and three
//! trailers, and a framework for it would bring a second server beside the one whose limits are tested.

use super::{Answer, Incoming, Problem, Receiver, Sender, Shape, body, receive};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use catena_decode::Format;
use catena_decode::frame::Packing;
use http_body_util::{BodyExt, Full};
use std::sync::Arc;

pub(super) const PROTOBUF: &str = "application/x-protobuf";
const GRPC: &str = "application/grpc";

/// An export over HTTP: `/v1/logs`, `/v1/traces`.
pub(super) async fn export(
    State(receiver): State<Arc<Receiver>>,
    Extension(sender): Extension<Sender>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let protobuf = match media_type(&headers) {
        Some(PROTOBUF) => true,
        Some("application/json") => false,
        _ => {
            let detail = format!("`Content-Type` is neither application/json nor {PROTOBUF}");
            return Problem::media_type(detail).into_response();
        }
    };
    let packing = match body::packing(&headers) {
        Ok(packing) => packing,
        Err(problem) => return problem.into_response(),
    };
    let incoming = Incoming { format: Format::Otlp, packing, shape: Shape::Whole };
    match receive(&receiver, &sender, incoming, &headers, body, "otlp").await {
        Ok(answer) if protobuf => ([(header::CONTENT_TYPE, PROTOBUF)], partial_success(&answer)).into_response(),
        Ok(answer) => {
            let mut said = serde_json::Map::new();
            if answer.rejected > 0 {
                // One name for both signals: the count's own name differs, and clients read the one of their signal.
                let (n, why) = (answer.rejected.to_string(), why(&answer));
                said.insert(
                    "partialSuccess".into(),
                    serde_json::json!({"rejectedLogRecords": n, "rejectedSpans": n, "errorMessage": why}),
                );
            }
            axum::Json(said).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// An export over gRPC: `LogsService/Export`, `TraceService/Export`.
pub(super) async fn export_grpc(
    State(receiver): State<Arc<Receiver>>,
    Extension(sender): Extension<Sender>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    if !media_type(&head.headers).is_some_and(|t| t == GRPC || t == "application/grpc+proto") {
        return Problem::media_type(format!("`Content-Type` is not {GRPC}")).into_response();
    }
    let packing = match head.headers.get("grpc-encoding").map(|v| v.to_str().unwrap_or("?")) {
        None | Some("identity") => Packing::Plain,
        Some("gzip") => Packing::Gzip,
        Some("zstd") => Packing::Zstd,
        Some(_) => return trailers_only(Code::Unimplemented, "the encoding is none of gzip, zstd, identity"),
    };
    let incoming = Incoming { format: Format::Otlp, packing, shape: Shape::Framed };
    match receive(&receiver, &sender, incoming, &head.headers, body, "otlp").await {
        Ok(answer) => {
            let message = partial_success(&answer);
            let mut framed = vec![0];
            framed.extend((message.len() as u32).to_be_bytes());
            framed.extend(message);
            let body = Full::new(Bytes::from(framed)).with_trailers(async {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some(Ok(trailers))
            });
            ([(header::CONTENT_TYPE, GRPC)], Body::new(body)).into_response()
        }
        Err(problem) => refusal(problem),
    }
}

/// A refusal, as gRPC says it.
pub(super) fn refusal(problem: Problem) -> Response {
    let code = match problem.status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
            Code::Unavailable
        }
        StatusCode::INTERNAL_SERVER_ERROR => Code::Internal,
        _ => Code::InvalidArgument,
    };
    trailers_only(code, problem.detail())
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

fn why(answer: &Answer) -> String {
    answer.errors.first().map(|e| format!("{}: {}", e.reason, e.detail)).unwrap_or_default()
}

/// `ExportLogsServiceResponse`, whose fields have the numbers of `ExportTraceServiceResponse`: empty when all was taken.
fn partial_success(answer: &Answer) -> Vec<u8> {
    if answer.rejected == 0 {
        return Vec::new();
    }
    let why = why(answer);
    let mut inner = vec![1 << 3];
    varint(answer.rejected, &mut inner);
    inner.push(2 << 3 | 2);
    varint(why.len() as u64, &mut inner);
    inner.extend(why.as_bytes());
    let mut message = vec![1 << 3 | 2];
    varint(inner.len() as u64, &mut message);
    message.extend(inner);
    message
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// gRPC status codes.
#[derive(Clone, Copy)]
enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// A refusal: gRPC says it in what are headers when there is no body.
fn trailers_only(code: Code, detail: &str) -> Response {
    let detail: String = detail.chars().map(|c| if matches!(c, ' '..='~' if c != '%') { c } else { '?' }).collect();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if let Ok(value) = HeaderValue::from_str(&detail) {
        headers.insert("grpc-message", value);
    }
    response
}

/// The message of a unary call: whether it is compressed, and its bytes.
pub(super) fn unframe(body: &[u8]) -> Result<(bool, &[u8]), Problem> {
    let wrong = |detail: &str| Problem::bad_request("grpc_frame", detail.to_owned());
    let (head, message) = body.split_first_chunk::<5>().ok_or_else(|| wrong("the message has no head of 5 bytes"))?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    match (head[0], message.len() == length) {
        (0 | 1, true) => Ok((head[0] == 1, message)),
        (0 | 1, false) => Err(wrong("the message is not as long as its head says")),
        _ => Err(wrong("the first byte is neither 0 nor 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_unframed() {
        assert_eq!(unframe(&[0, 0, 0, 0, 0]).ok(), Some((false, &[][..])));
        assert_eq!(unframe(&[1, 0, 0, 0, 2, 7, 8]).ok(), Some((true, &[7, 8][..])));
        for wrong in [&[][..], &[0, 0, 0, 0], &[2, 0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 1, 7, 8]] {
            assert!(unframe(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_partial_success_says_how_many() {
        assert!(partial_success(&Answer::default()).is_empty());
        let mut answer = Answer { rejected: 300, ..Answer::default() };
        answer.errors.push(super::super::RecordError { index: 0, reason: "a".into(), detail: "b".into() });
        assert_eq!(partial_success(&answer), [0x0a, 9, 8, 0xac, 2, 0x12, 4, b'a', b':', b' ', b'b']);
    }
}
