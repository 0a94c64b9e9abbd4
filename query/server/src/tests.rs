//! The routes over a small lake, asked without a socket.

mod doors;

#[allow(dead_code)]
#[path = "../../engine/tests/all/lake.rs"]
mod lake;

use super::*;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use catena_engine::Options;
use catena_schemas::rows::{Place, Rows};
use catena_schemas::table::Class;
use http_body_util::BodyExt;
use lake::{File, Lake, events, place, rejections};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

fn small() -> Lake {
    let mut lake = Lake::new();
    lake.decisions(
        "acme",
        0,
        &events(
            "
        e1 1 allow alice > client:cc > agent:planner @s-1 tickets/read
        e2 2 deny  alice > client:cc > agent:planner @s-1 tickets/delete reason=scope_missing
        call/0 3 allow bob > client:cc @s-2 crm/read
    ",
        ),
    );
    lake.decisions("zeta", 0, &events("z1 3 deny zoe > agent:z @s-9 vault/open"));
    let batch = rejections("acme", 0, &[("json_invalid", b"{x"), ("json_invalid", b"{y")]);
    lake.land(&File { tenant: "acme", day: 0, class: Class::Reject }, &batch);
    lake
}

async fn server(lake: &Lake, settings: Settings) -> Arc<Server> {
    let engine = Engine::open(&lake.url(), Options::default()).await.unwrap();
    Server::new(engine, settings)
}

fn keyed() -> Settings {
    let keys = [("ka", "acme"), ("kz", "zeta"), ("kn", "nobody")]
        .map(|(key, tenant)| (Sha256::digest(key).into(), Holder { tenant: tenant.to_owned(), may_read: true }));
    Settings { access: Access::Keys(keys.into()), ..Settings::default() }
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

async fn ask(server: &Arc<Server>, key: &str, request: Request<Body>) -> Answer {
    let (mut parts, body) = request.into_parts();
    if !key.is_empty() {
        parts.headers.insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
    }
    let response = routes(server.clone()).oneshot(Request::from_parts(parts, body)).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

async fn get(server: &Arc<Server>, key: &str, target: &str) -> Answer {
    ask(server, key, Request::get(target).body(Body::empty()).unwrap()).await
}

async fn sql(server: &Arc<Server>, key: &str, query: &str, format: &str) -> Answer {
    let body = serde_json::json!({"query": query, "format": format}).to_string();
    ask(server, key, Request::post("/api/v1/sql").body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn rows_in_every_form() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    let query = "SELECT event_id, outcome FROM decisions WHERE tenant = 'acme' ORDER BY event_id LIMIT 2";
    let answer = sql(&server, "", query, "json").await;
    let json = answer.json();
    assert_eq!(
        json["data"],
        serde_json::json!([{"event_id": "call/0", "outcome": "allow"}, {"event_id": "e1", "outcome": "allow"}])
    );
    assert_eq!((&json["meta"]["rows"], &json["meta"]["lake_version"]), (&2.into(), &3.into()));
    assert_eq!(json["meta"]["columns"][0]["name"], "event_id");
    let by_url = get(&server, "", "/api/v1/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20decisions").await;
    assert_eq!(by_url.json()["data"], serde_json::json!([{"n": 4}]));
    let empty = sql(&server, "", "SELECT event_id FROM decisions WHERE tenant = 'none'", "json").await;
    assert_eq!(empty.json()["data"], serde_json::json!([]));
    for (format, kind, starts) in [
        ("csv", "text/csv; charset=utf-8", "event_id,outcome"),
        ("jsonl", "application/x-ndjson", "{\"event_id\":\"call/0\""),
        ("table", "text/plain; charset=utf-8", "event_id"),
        ("parquet", "application/vnd.apache.parquet", "PAR1"),
    ] {
        let answer = sql(&server, "", query, format).await;
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (StatusCode::OK, kind));
        assert!(answer.text.trim_start().starts_with(starts), "{format}: {}", answer.text);
        assert_eq!(answer.headers["catena-lake-version"], "3");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_says_so() {
    let lake = small();
    let limits = Limits { rows: 2, ..Limits::default() };
    let server = server(&lake, Settings { limits, ..Settings::default() }).await;
    let answer = sql(&server, "", "SELECT event_id FROM decisions", "json").await.json();
    assert_eq!((answer["data"].as_array().unwrap().len(), &answer["meta"]["cut"]), (2, &"rows".into()));
    assert_eq!(sql(&server, "", "SELECT event_id FROM decisions", "csv").await.headers["catena-cut"], "rows");
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    let check = |answer: Answer, status: u16, code: &str| {
        assert_eq!(answer.status.as_u16(), status, "{code}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["code"], code, "{}", answer.text);
    };
    for (query, status, code) in [
        ("SELEC 1", 400, "syntax"),
        ("", 400, "empty"),
        ("SELECT 1; SELECT 2", 400, "many_statements"),
        ("DROP TABLE decisions", 400, "not_read"),
        ("SELECT nothing FROM decisions", 400, "unknown_column"),
        ("SELECT * FROM nowhere", 400, "unknown_table"),
        ("SELECT 1 / 0", 422, "execution"),
    ] {
        check(sql(&server, "", query, "json").await, status, code);
    }
    check(sql(&server, "", &format!("SELECT '{}'", "x".repeat(70_000)), "json").await, 413, "text_too_long");
    check(sql(&server, "", "SELECT 1", "xml").await, 400, "format_unknown");
    let post = |body: &str| Request::post("/api/v1/sql").body(Body::from(body.to_owned())).unwrap();
    check(ask(&server, "", post("SELECT 1")).await, 400, "body_invalid");
    check(ask(&server, "", post("{\"query\":\"SELECT 1\",\"tenant\":\"x\"}")).await, 400, "body_invalid");
    for (target, status, code) in [
        ("/api/v1/sql", 400, "parameter_missing"),
        ("/api/v1/sql?q=SELECT%201&tennant=a", 400, "parameter_unknown"),
        ("/api/v1/chains?limit=0", 400, "parameter_invalid"),
        ("/api/v1/chains?outcome=maybe", 400, "parameter_invalid"),
        ("/api/v1/chains?from=yesterday", 400, "parameter_invalid"),
        ("/api/v1/chains/none", 404, "not_found"),
        ("/api/v1/chains/e1?format=xml", 400, "format_unknown"),
        ("/api/v1/nothing", 404, "route_unknown"),
    ] {
        check(get(&server, "", target).await, status, code);
    }
    check(ask(&server, "", Request::delete("/api/v1/status").body(Body::empty()).unwrap()).await, 405, "method");
    let long = Request::post("/api/v1/sql").body(Body::from(vec![b'x'; BODY_BYTES_MAX + 1])).unwrap();
    assert_eq!(ask(&server, "", long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_key_sees_its_tenant_and_nothing_else() {
    let lake = small();
    let server = server(&lake, keyed()).await;
    for target in ["/api/v1/sql?q=SELECT%201", "/api/v1/chains", "/api/v1/chains/e1", "/api/v1/status"] {
        for key in ["", "nope"] {
            let answer = get(&server, key, target).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (401, &"unauthorized".into()), "{target}");
        }
    }
    let tenants = "SELECT DISTINCT tenant FROM records ORDER BY tenant";
    assert_eq!(sql(&server, "ka", tenants, "json").await.json()["data"], serde_json::json!([{"tenant": "acme"}]));
    assert_eq!(sql(&server, "kz", tenants, "json").await.json()["data"], serde_json::json!([{"tenant": "zeta"}]));
    assert_eq!(sql(&server, "kn", tenants, "json").await.json()["data"], serde_json::json!([]));
    // Another tenant's chain does not exist.
    let (foreign, missing) =
        (get(&server, "kz", "/api/v1/chains/e1").await, get(&server, "kz", "/api/v1/chains/none").await);
    assert_eq!((foreign.status.as_u16(), foreign.text), (404, missing.text));
    // The remembered status of one is not shown to another.
    for (key, decisions, rejected) in [("ka", 3, 2), ("kz", 1, 0), ("kn", 0, 0), ("ka", 3, 2)] {
        let status = get(&server, key, "/api/v1/status").await.json();
        assert_eq!((&status["decisions"], &status["rejected"]), (&decisions.into(), &rejected.into()), "{key}");
    }
}

#[tokio::test]
async fn sources_say_what_came_and_what_is_missing() {
    let mut lake = small();
    let mut numbered = events(
        "
        n1 1 allow alice > agent:planner @s-1 tickets/read
        n2 2 deny  alice > agent:planner @s-1 tickets/delete
        n3 3 deny  alice
        n4 4 allow alice
    ",
    );
    for (e, (epoch, seq)) in numbered.iter_mut().zip([("b1", 7), ("b1", 8), ("b1", 11), ("b2", 1)]) {
        (e.source.instance, e.source.epoch, e.source.seq) = (Some("gw-1".into()), Some(epoch.into()), Some(seq));
    }
    // Known by its name alone, as to many producers.
    numbered[2].server.name = Some("crm".into());
    lake.decisions("acme", 1, &numbered);
    let server = server(&lake, keyed()).await;
    let said = get(&server, "ka", "/api/v1/sources").await.json()["data"].take();
    let one =
        said["sources"].as_array().unwrap().iter().find(|s| s["decisions"] == 7).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(one["by_outcome"], serde_json::json!({"allow": 4, "deny": 3 }));
    let share = |field: &str, outcome: &str| one["filled"][field][outcome].as_f64().unwrap();
    for (field, allow, deny) in
        [("requester", 1.0, 1.0), ("agent", 0.75, 2.0 / 3.0), ("server", 0.75, 1.0), ("reasons", 0.0, 1.0 / 3.0)]
    {
        assert_eq!((share(field, "allow"), share(field, "deny")), (allow, deny), "{field} in {one}");
    }
    let rejected: u64 = said["sources"].as_array().unwrap().iter().map(|s| s["rejected"].as_u64().unwrap()).sum();
    assert_eq!(rejected, 2);
    let gaps: Vec<_> =
        said["sequences"].as_array().unwrap().iter().map(|s| (s["epoch"].clone(), s["missing"].clone())).collect();
    assert_eq!(gaps, [("b1".into(), 2.into()), ("b2".into(), 0.into())]);
    // Nothing of another tenant.
    let zeta = get(&server, "kz", "/api/v1/sources").await.json()["data"].take();
    assert_eq!((zeta["sources"].as_array().unwrap().len(), &zeta["sequences"]), (1, &serde_json::json!([])));
}

#[tokio::test]
async fn chains_are_listed_shown_and_drawn() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    let list = get(&server, "", "/api/v1/chains").await.json();
    assert_eq!((list["data"].as_array().unwrap().len(), &list["meta"]["total"]), (3, &3.into()));
    let denied = get(&server, "", "/api/v1/chains?outcome=deny&requester=alice").await.json();
    assert_eq!(denied["data"][0]["by_outcome"], serde_json::json!({"allow": 1, "deny": 1}));
    let id = denied["data"][0]["chain_id"].as_str().unwrap();
    for name in [id, "e2", "s-1"] {
        let shown = get(&server, "", &format!("/api/v1/chains/{name}")).await.json();
        assert_eq!((&shown["data"][0]["chain_id"], &shown["data"][0]["events"]), (&id.into(), &2.into()), "{name}");
    }
    let drawn = get(&server, "", "/api/v1/chains/e1?format=text").await;
    assert!(drawn.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(drawn.text.contains("agent:planner") && drawn.text.contains("scope_missing"), "{}", drawn.text);
    // Ids of producers may hold anything.
    assert_eq!(get(&server, "", "/api/v1/chains/call%2F0").await.json()["data"][0]["requesters"][0], "bob");
}

#[tokio::test]
async fn totals_follow_the_lake() {
    let mut lake = small();
    let server = server(&lake, Settings::default()).await;
    let status = get(&server, "", "/api/v1/status").await.json();
    assert_eq!(status["by_outcome"], serde_json::json!({"allow": 2, "deny": 2}));
    assert_eq!((&status["received"], &status["by_reason"]), (&6.into(), &serde_json::json!({"json_invalid": 2})));
    assert_eq!(status["sources"][0]["topic"], "decisions");
    lake.decisions("acme", 1, &events("e9 5 step_up alice tickets/read\ne9 5 step_up alice tickets/read flag=again"));
    let status = get(&server, "", "/api/v1/status").await.json();
    assert_eq!((&status["decisions"], &status["duplicates"], &status["received"]), (&5.into(), &1.into(), &8.into()));
    let empty = super::tests::server(&Lake::new(), Settings::default()).await;
    assert_eq!(get(&empty, "", "/api/v1/status").await.json()["received"], 0);
}

#[tokio::test]
async fn queries_of_a_tenant_wait_their_turn() {
    let lake = small();
    let settings = Settings { queries_max: 1, queue_wait: Duration::from_millis(50), ..keyed() };
    let server = server(&lake, settings).await;
    let turn = server.turn(&Scope::tenant("acme")).await.unwrap();
    let refused = sql(&server, "ka", "SELECT 1", "json").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (429, &"busy".into()));
    assert_eq!(refused.headers["retry-after"], "2");
    assert_eq!(sql(&server, "kz", "SELECT 1", "json").await.status, StatusCode::OK, "another tenant is not held up");
    drop(turn);
    assert_eq!(sql(&server, "ka", "SELECT 1", "json").await.status, StatusCode::OK);
}

#[tokio::test]
async fn queries_of_all_tenants_have_a_limit_together() {
    let lake = small();
    let settings = Settings { queries_total_max: 1, queue_wait: Duration::from_millis(50), ..keyed() };
    let server = server(&lake, settings).await;
    let turn = server.turn(&Scope::tenant("acme")).await.unwrap();
    let refused = sql(&server, "kz", "SELECT 1", "json").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (429, &"busy".into()));
    drop(turn);
    assert_eq!(sql(&server, "kz", "SELECT 1", "json").await.status, StatusCode::OK);
}

/// The offset of a record in the intake log, which tenants share, would count the records of others.
#[tokio::test]
async fn a_key_does_not_see_positions_in_a_shared_log() {
    let mut lake = Lake::new();
    let mut rows = Rows::default();
    for event in events("e1 1 allow alice tickets/read") {
        rows.push(&event, &Place { topic: "intake", ..place("acme", 0, 7) }, false);
    }
    lake.land(&File { tenant: "acme", day: 0, class: Class::Decision }, &rows.finish());
    let question = "SELECT topic, \"offset\" IS NULL AND partition IS NULL AS hidden FROM records";
    let keyed = server(&lake, keyed()).await;
    let answer = sql(&keyed, "ka", question, "json").await.json();
    assert_eq!(answer["data"], serde_json::json!([{"topic": "intake", "hidden": true}]), "{answer}");
    let open = super::tests::server(&lake, Settings::default()).await;
    let answer = sql(&open, "", question, "json").await.json();
    assert_eq!(answer["data"], serde_json::json!([{"topic": "intake", "hidden": false}]), "{answer}");
}

#[tokio::test]
async fn the_page_is_its_own() {
    let server = server(&Lake::new(), Settings::default()).await;
    for path in ["/", "/page.js", "/page.css"] {
        let answer = get(&server, "", path).await;
        assert_eq!(answer.status, StatusCode::OK);
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        for foreign in
            ["http://", "https://", "//cdn", "innerHTML", "eval(", " style=", " onclick=", "<script>", "<style"]
        {
            assert!(!answer.text.contains(foreign), "{path} holds {foreign}");
        }
    }
}

/// Every route that the page's script names answers, the ids in them included.
#[tokio::test]
async fn what_the_page_asks_for_is_there() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    let script = get(&server, "", "/page.js").await.text;
    let asked: Vec<String> = script
        .split("/api/v1/")
        .skip(1)
        .map(|rest| rest[..rest.find(['`', '"', '?']).unwrap()].replace("${encodeURIComponent(id)}", "e1"))
        .collect();
    for path in ["chains", "chains/e1", "decisions/e1/why", "sources", "sql", "status"] {
        assert!(asked.iter().any(|a| a == path), "{path}: {asked:?}");
    }
    for path in asked {
        let query = if path == "sql" { "?q=SELECT%201" } else { "" };
        let answer = get(&server, "", &format!("/api/v1/{path}{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }
    // A server is named by one rule everywhere: its id, or else its name.
    assert!(script.contains("coalesce(server, server_name)") && !script.contains("decision.server"), "{script}");
}

#[tokio::test]
async fn a_decision_is_explained() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    let answer = get(&server, "", "/api/v1/decisions/e2/why").await.json();
    let (why, meta) = (&answer["data"][0], &answer["meta"]);
    assert_eq!((&why["decision"]["outcome"], &meta["lake_version"]), (&"deny".into(), &why["lake_version"]));
    let last = &why["event"]["path"][2];
    assert_eq!((&last["id"], &last["tier"]), (&"agent:planner".into(), &"P9".into()));
    assert_eq!(last["evidence"], "declared by the caller");
    assert_eq!(get(&server, "", "/api/v1/decisions/none/why").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_refused_parameter_is_named_with_what_it_may_be() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    for (target, detail) in [
        ("/api/v1/sql", "missing query parameter `q` (the SQL statement)"),
        ("/api/v1/sql?q=SELECT%201&tennant=a", "unknown parameter `tennant`; expected one of: q, format"),
        ("/api/v1/sql?q=SELECT%201&format=xml", "`format` must be one of: json, jsonl, csv, table, parquet"),
        ("/api/v1/status?x=1", "unknown parameter `x`; this route takes none"),
        ("/api/v1/chains?limit=1001", "`limit` must be an integer from 1 to 1000"),
        ("/api/v1/chains?from=yesterday", "`from` must be an RFC 3339 timestamp"),
        ("/api/v1/chains?widened=yes", "`widened` must be true or false"),
        ("/api/v1/chains?depth=-1", "`depth` must be a non-negative integer"),
        ("/api/v1/chains/e1?format=xml", "`format` must be one of: json, text, dot, svg"),
        ("/api/v1/chains/%ff", "the id in the path must be percent-encoded UTF-8"),
    ] {
        let answer = get(&server, "", target).await;
        let problem: catena_schemas::answer::Problem = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.status.as_u16(), problem.status, problem.detail.as_str()), (400, 400, detail), "{target}");
    }
}

#[tokio::test]
async fn a_refused_method_comes_with_those_that_are_taken() {
    let lake = small();
    let server = server(&lake, Settings::default()).await;
    for (target, allowed) in [("/api/v1/status", "GET,HEAD"), ("/api/v1/sql", "GET,HEAD,POST")] {
        let refused = ask(&server, "", Request::delete(target).body(Body::empty()).unwrap()).await;
        assert_eq!((refused.status.as_u16(), refused.headers["allow"].to_str().unwrap()), (405, allowed), "{target}");
    }
}
