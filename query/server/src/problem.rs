//! Refusals, as `application/problem+json` (RFC 9457). The one table from errors to statuses.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use catena_engine::output::OutputError;
use catena_engine::{Code, QueryError};
use catena_schemas::answer;

/// One refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem { status, code, title, detail: detail.into() }
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, "invalid request", detail)
    }

    /// The `format` of a request is not one of these.
    pub(crate) fn format_unknown(names: &[&str]) -> Problem {
        Problem::bad_request("format_unknown", format!("`format` must be one of: {}", names.join(", ")))
    }

    pub(crate) fn unauthorized() -> Problem {
        let detail = "send `Authorization: Bearer <key>` with a key of this service";
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "authentication required", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "not found", detail)
    }

    pub(crate) fn no_route() -> Problem {
        Problem { code: "route_unknown", ..Problem::not_found("the API has no such route") }
    }

    pub(crate) fn method() -> Problem {
        let detail = "the route does not take this method; the header `Allow` lists those that it takes";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "method not allowed", detail)
    }

    pub(crate) fn internal() -> Problem {
        let detail = "the reason is in the log of the service";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the service failed", detail)
    }

    pub(crate) fn busy(queries: usize) -> Problem {
        let detail = format!("too many concurrent queries (limit {queries}); retry shortly");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", "too many queries at once", detail)
    }
}

impl From<QueryError> for Problem {
    fn from(e: QueryError) -> Problem {
        let (status, title) = match e.code {
            Code::TextTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "the statement is too long"),
            Code::Memory | Code::Time => (StatusCode::UNPROCESSABLE_ENTITY, "the query reached its limit"),
            Code::Execution => (StatusCode::UNPROCESSABLE_ENTITY, "the query failed over the data"),
            Code::Busy => (StatusCode::TOO_MANY_REQUESTS, "too many queries at once"),
            Code::Lake => (StatusCode::SERVICE_UNAVAILABLE, "the lake cannot be read now"),
            Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "the service failed"),
            _ => (StatusCode::BAD_REQUEST, "the statement cannot be run"),
        };
        if status.is_server_error() {
            tracing::warn!(code = e.code.as_str(), error = %e.message, "query failed");
        }
        Problem { status, code: e.code.as_str(), title, detail: e.message }
    }
}

impl From<OutputError> for Problem {
    fn from(e: OutputError) -> Problem {
        tracing::warn!(error = &e as &dyn std::error::Error, "answer could not be written");
        Problem {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "internal",
            title: "the service failed",
            detail: e.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = answer::Problem {
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer::Problem::MEDIA_TYPE));
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
