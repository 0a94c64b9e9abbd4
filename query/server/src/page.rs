//! A plain page over the API, until the real one comes.
//!
//! Guarantee: it loads nothing from elsewhere and runs no script but its own file; what a record holds is only ever put
//! into the page as text.

use crate::Server;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use std::sync::Arc;

/// Content security policy of every answer.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn routes() -> Router<Arc<Server>> {
    let file =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/page.html")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page/page.js")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page/page.css")))
}
