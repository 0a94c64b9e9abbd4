//! Who may ask, before what is asked; and what happens to unread answers.

use super::*;
use hyper::body::{Body as Bodies, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body that never comes.
struct Never;

impl Bodies for Never {
    type Data = axum::body::Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        Poll::Pending
    }
}

/// One key for each thing that a key may do.
fn apart() -> Settings {
    let keys = [("reads", "acme", true), ("ingests", "acme", false), ("kz", "zeta", true)]
        .map(|(key, tenant, may_read)| (Sha256::digest(key).into(), Holder { tenant: tenant.to_owned(), may_read }));
    Settings { access: Access::Keys(keys.into()), ..Settings::default() }
}

/// A statement whose answer has a megabyte.
fn large() -> String {
    format!("SELECT '{}' AS a FROM generate_series(1, 1000)", "x".repeat(1000))
}

#[tokio::test]
async fn the_key_is_judged_before_anything_else() {
    let server = server(&small(), apart()).await;
    for (key, status, code) in
        [("", 401, "unauthorized"), ("nope", 401, "unauthorized"), ("ingests", 403, "key_may_not_read")]
    {
        // A body that never comes is not waited for: this test would not end.
        for (method, target) in [
            ("POST", "/api/v1/sql"),
            ("GET", "/api/v1/sql"),
            ("GET", "/api/v1/sql?q=SELECT%201&nonsense=1"),
            ("GET", "/api/v1/chains?limit=0"),
            ("GET", "/api/v1/chains?limit=%ff"),
            ("GET", "/api/v1/chains/e1?format=xml"),
            ("GET", "/api/v1/chains/%ff"),
            ("GET", "/api/v1/decisions/e1/why?nonsense=1"),
            ("GET", "/api/v1/sources"),
            ("GET", "/api/v1/status"),
            ("GET", "/api/v1/nothing"),
        ] {
            let request = Request::builder().method(method).uri(target).body(Body::new(Never)).unwrap();
            let answer = ask(&server, key, request).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (status, &code.into()), "{key} {target}");
        }
    }
    assert_eq!(sql(&server, "reads", "SELECT 1", "json").await.status, StatusCode::OK);
    assert_eq!(get(&server, "", "/").await.status, StatusCode::OK, "the page itself holds nothing");
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let settings = Settings { body_timeout: Duration::from_millis(50), ..apart() };
    let server = server(&small(), settings).await;
    let answer = ask(&server, "reads", Request::post("/api/v1/sql").body(Body::new(Never)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (408, &"body_timeout".into()));
}

/// S12: answers that are asked for and not read.
#[tokio::test]
async fn unread_answers_are_counted() {
    let settings = Settings {
        queue_wait: Duration::from_millis(50),
        unsent_bytes_max: 8 << 20,
        unsent_bytes_per_tenant_max: 4 << 20,
        ..apart()
    };
    let server = server(&small(), settings).await;
    let large = large();
    let body = serde_json::json!({"query": large, "format": "csv"}).to_string();
    let asked = async |key: &str| {
        let request = Request::post("/api/v1/sql").header("authorization", format!("Bearer {key}"));
        routes(server.clone()).oneshot(request.body(Body::from(body.clone())).unwrap()).await.unwrap()
    };
    // Three of a megabyte are all that fit; a body whose first frame was taken is as unsent as before.
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut response = asked("reads").await;
        assert_eq!(response.status(), StatusCode::OK);
        unread.push(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let refused = sql(&server, "reads", &large, "csv").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (429, &"answers_unread".into()));
    assert_eq!(sql(&server, "reads", "SELECT 1", "json").await.status, StatusCode::OK, "small ones have their own");
    assert_eq!(sql(&server, "kz", &large, "csv").await.status, StatusCode::OK, "another tenant is not held up");
    // A slice of an answer keeps all of it in memory, so it keeps the count.
    let slice = unread.pop().unwrap().slice(..10);
    assert_eq!(sql(&server, "reads", &large, "csv").await.status, StatusCode::TOO_MANY_REQUESTS);
    drop(slice);
    assert_eq!(sql(&server, "reads", &large, "csv").await.status, StatusCode::OK);
}

/// While an answer waits to be counted its query keeps its turn, so few answers wait at once.
#[tokio::test]
async fn a_turn_ends_when_the_answer_is_counted() {
    let settings = Settings {
        queries_max: 1,
        queue_wait: Duration::from_millis(400),
        unsent_bytes_max: 2 << 20,
        unsent_bytes_per_tenant_max: 2 << 20,
        ..apart()
    };
    let server = server(&small(), settings).await;
    let large = large();
    let target = format!("/api/v1/sql?format=csv&q={}", large.replace(' ', "%20"));
    let request = || Request::get(&target).header("authorization", "Bearer reads").body(Body::empty()).unwrap();
    let unread = routes(server.clone()).oneshot(request()).await.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);
    assert!(server.turn(&Scope::tenant("acme")).await.is_ok(), "it is counted, and its turn has ended");
    let second = tokio::spawn(routes(server.clone()).oneshot(request()));
    let waited = async {
        while server.turns.lock()[&Scope::tenant("acme")].available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.expect("the second query has the turn");
    assert_eq!(second.await.unwrap().unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(server.turn(&Scope::tenant("acme")).await.is_ok());
}
