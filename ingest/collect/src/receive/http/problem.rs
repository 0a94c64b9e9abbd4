//! Answers to what cannot be done, as `application/problem+json` (RFC 9457) with a stable `code`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use catena_schemas::answer;

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u16 = 2;

/// One refusal.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Problem {
        Problem { status, code, title, detail }
    }

    pub(super) fn bad_request(code: &'static str, detail: String) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, "the request cannot be read", detail)
    }

    pub(super) fn unauthorized() -> Problem {
        let detail = "send `Authorization: Bearer <key>` with a key of this collector".to_owned();
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "authentication required", detail)
    }

    pub(super) fn may_not_ingest() -> Problem {
        let detail = "the key of this request may not ingest: use one whose `may` in `[http] keys` holds \"ingest\"";
        Problem::new(StatusCode::FORBIDDEN, "key_may_not_ingest", "the key may not do this", detail.to_owned())
    }

    pub(super) fn forbidden(code: &'static str, detail: String) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, code, "the request is not from this machine", detail)
    }

    pub(super) fn timeout(detail: String) -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took too long", detail)
    }

    pub(super) fn too_large(detail: String) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large", detail)
    }

    pub(super) fn encoding(detail: String) -> Problem {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "encoding_unknown",
            "the content encoding is not known",
            detail,
        )
    }

    pub(super) fn media_type(detail: String) -> Problem {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_unknown", "the content type is not known", detail)
    }

    /// Stable code.
    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// For people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn full(detail: String) -> Problem {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "intake_full", "no room for more records now", detail)
    }

    pub(super) fn unavailable(code: &'static str, detail: String) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, "records cannot be kept now", detail)
    }

    pub(super) fn internal() -> Problem {
        let detail = "nothing of the request was kept; the collector's log says more".to_owned();
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the collector failed", detail)
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
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
