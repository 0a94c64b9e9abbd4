//! Who may send, before what is sent; and clients that hold on to what they are given.

use super::*;
use crate::receive::http::{Check, Health};

/// Opens a connection and writes to it.
fn open(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// The status of the answer that comes first, 0 when the connection ends without one.
fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0)
}

fn health(server: &Server) -> u16 {
    send(server.address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"").map_or(0, |answer| answer.0)
}

/// S2: a body that never comes is not waited for when the key is wrong, and a parameter is not judged.
#[test]
fn the_key_is_judged_before_anything_else() {
    let server =
        Setup { keys: vec![key("ka", "a", May::Ingest), key("kr", "a", May::Read)], ..Setup::default() }.start();
    for (header, want) in [("", 401), ("Authorization: Bearer nope\r\n", 401), ("Authorization: Bearer kr\r\n", 403)] {
        for (target, headers) in [
            ("/ingest/v1/events", ""),
            ("/ingest/v1/events?format=nonsense", ""),
            ("/ingest/v1/events?format=%ff", ""),
            ("/ingest/v1/events", "Content-Encoding: br\r\n"),
            ("/ingest/v1/events", "Content-Encoding: gzip\r\n"),
            ("/logs", "Expect: 100-continue\r\n"),
            ("/logs/x", ""),
            ("/v1/logs", "Content-Type: nonsense\r\n"),
            ("/v1/traces", "Content-Type: application/json\r\n"),
        ] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n{headers}{header}\r\n");
            assert_eq!(status(&mut open(&server, head.as_bytes())), want, "{target} {headers} {header}");
        }
    }
    let (status, answer) = server.post("/ingest/v1/events", "Authorization: Bearer kr\r\n", b"");
    assert!(status == 403 && answer.contains("\"key_may_not_ingest\""), "{answer}");
    let grpc = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    for (header, want) in [("", "grpc-status: 16"), ("Authorization: Bearer kr\r\n", "grpc-status: 7")] {
        let (status, answer) = server.post(grpc, &format!("Content-Type: text/plain\r\n{header}"), b"");
        assert!(status == 200 && answer.contains(want), "{answer}");
    }
    let text = server.metrics.encode();
    assert!(text.contains("catena_http_answers_total{route=\"ingest\",status=\"401\"} 14"), "{text}");
}

#[test]
fn no_other_site_embeds_an_answer() {
    let server = Setup::default().start();
    let site = "Sec-Fetch-Site: cross-site\r\n";
    server.check((403, "site_foreign"), "/ingest/v1/events", site, event("a").as_bytes());
    server.check((403, "site_foreign"), "/logs", "Sec-Fetch-Site: same-site\r\n", b"[]");
    server.check((200, ""), "/ingest/v1/events", "Sec-Fetch-Site: same-origin\r\n", event("b").as_bytes());
    assert_eq!(ids(&server.intake), ["b"]);
    let keyed = Setup { keys: vec![key("ka", "a", May::Ingest)], ..Setup::default() }.start();
    for (server, target) in [(&server, "/healthz"), (&server, "/nothing"), (&keyed, "/metrics"), (&keyed, "/logs")] {
        let answer = server.get(target).1;
        assert!(answer.contains("cross-origin-resource-policy: same-origin\r\n"), "{target}: {answer}");
    }
}

/// S26: what can be read two ways.
#[test]
fn a_request_names_one_host_and_its_lines_end_whole() {
    let server = Setup::default().start();
    let check = |head: &str, want: u16| {
        assert_eq!(status(&mut open(&server, head.as_bytes())), want, "{head:?}");
        // The same in two parts, as a network may cut it, and after a request that is fine.
        for cut in [1, 30, head.len() - 1] {
            let good = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut stream = open(&server, good);
            assert_eq!(status(&mut stream), 200);
            let (first, second) = head.as_bytes().split_at(cut.min(head.len()));
            stream.write_all(first).unwrap();
            stream.flush().unwrap();
            std::thread::sleep(Duration::from_millis(5));
            let _ = stream.write_all(second);
            assert_eq!(status(&mut stream), want, "{head:?} cut at {cut}");
        }
    };
    check("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
    check("GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", 200);
    check("GET /healthz HTTP/1.1\r\n\r\n", 400);
    check("GET /healthz HTTP/1.0\r\n\r\n", 400);
    check("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400);
    check("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400);
    check("GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400);
    check("GET /healthz HTTP/1.1\nHost: localhost\n\n", 400);
    check("GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n", 400);
    check("GET /healthz HTTP/1.1\r\nX: y\nHost: localhost\r\n\r\n", 400);
    check("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\n", 400);
    // Bodies may hold what heads may not.
    let body = format!("{}\n\n{}\n", event("a"), event("b"));
    server.check((200, ""), "/ingest/v1/events", "", body.as_bytes());
    let mut stream = open(&server, b"");
    for n in 0..3 {
        let head =
            format!("POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(body.as_bytes()).unwrap();
        assert_eq!(status(&mut stream), 200, "request {n} of one connection");
    }
}

/// S2, S11: connections that say nothing make way, of the same address as of others.
#[test]
fn silent_connections_make_way() {
    let limits = Limits { connections_per_address_max: 8, connections_max: 16, ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let mut silent = Vec::new();
    for n in 0..40 {
        silent.push(open(&server, b"GET /healthz HTTP/1.1\r\nX-Slow"));
        assert_eq!(health(&server), 200, "after {n} silent ones");
    }
}

/// A connection whose request is under way is not closed for another, which is refused then.
#[test]
fn busy_connections_stay() {
    let limits = Limits { connections_per_address_max: 4, ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let body = event("a");
    let head = format!(
        "POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut busy: Vec<_> = (0..4).map(|_| open(&server, head.as_bytes())).collect();
    busy.iter_mut().for_each(|stream| assert_eq!(status(stream), 100, "its body is waited for"));
    assert_eq!(health(&server), 0, "all four are busy");
    for stream in &mut busy {
        stream.write_all(body.as_bytes()).unwrap();
        assert_eq!(status(stream), 200);
    }
    assert_eq!(health(&server), 200);
}

/// S11: answering PINGs is no request.
#[test]
fn idle_connections_of_both_versions_are_closed() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(600),
        header_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Setup { limits, ..Setup::default() }.start();
    let closed = |mut stream: TcpStream, what: &str| {
        let began = Instant::now();
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..read]);
            // Frames: length, type, flags, stream, payload. SETTINGS and PING are acknowledged.
            while let Some(head) = seen.first_chunk::<9>().copied() {
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                if seen.len() < 9 + length {
                    break;
                }
                let payload: Vec<u8> = seen.drain(..9 + length).skip(9).collect();
                let answer: Option<(u8, &[u8])> = match (head[3], head[4] & 1) {
                    (4, 0) => Some((4, &[])),
                    (6, 0) => Some((6, &payload)),
                    _ => None,
                };
                if let Some((kind, payload)) = answer {
                    let _ = stream.write_all(&[&[0, 0, payload.len() as u8, kind, 1, 0, 0, 0, 0], payload].concat());
                }
            }
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: open after {:?}", began.elapsed());
    };
    closed(open(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"), "HTTP/2");
    let mut kept = open(&server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status(&mut kept), 200);
    closed(kept, "HTTP/1.1");
}

/// S12: a client that reads a byte now and then is cut off as well.
#[test]
fn an_answer_has_a_time_limit() {
    let large = axum::Router::new().route("/large", get(|| async { vec![b'x'; 64 << 20] }));
    let limits = Limits {
        answer_timeout: Duration::from_millis(500),
        answer_rate_min: 1 << 30,
        write_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cancel = CancellationToken::new();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve(listener, large, limits, cancel.clone()));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let began = Instant::now();
    let mut read = 0;
    let ended = loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) | Err(_) => break true,
            Ok(n) => read += n,
        }
        if began.elapsed() > Duration::from_secs(15) {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended && read < 64 << 20, "read {read} bytes in {:?}", began.elapsed());
    cancel.cancel();
}

/// S21: slow packed bodies of one tenant take nothing of another's.
#[test]
fn slow_bodies_of_a_tenant_hold_no_other_up() {
    let bodies = Bodies { budget_wait: Duration::from_millis(500), per_tenant_max: 32, ..Bodies::default() };
    let keys = vec![key("ka", "a", May::Ingest), key("kb", "b", May::Ingest)];
    let server = Setup { keys, bodies, ..Setup::default() }.start();
    let head = "POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
                Content-Encoding: gzip\r\nExpect: 100-continue\r\nAuthorization: Bearer ka\r\n\r\n";
    let mut slow: Vec<_> = (0..24).map(|_| open(&server, head.as_bytes())).collect();
    for stream in &mut slow {
        assert_eq!(status(stream), 100, "its body is being read");
        stream.write_all(b"2\r\n\x1f\x8b\r\n").unwrap();
    }
    // A budget that is waited for would say 503 after half a second.
    for n in 0..20 {
        let body = gzip(event(&n.to_string()).as_bytes());
        server.check((200, ""), "/ingest/v1/events", "Content-Encoding: gzip\r\nAuthorization: Bearer kb\r\n", &body);
        server.check(
            (200, ""),
            "/ingest/v1/events",
            "Authorization: Bearer ka\r\n",
            event(&format!("a{n}")).as_bytes(),
        );
    }
    // As many as a tenant may have under way, and one more waits and is refused; others are not.
    slow.extend((0..8).map(|_| open(&server, head.as_bytes())));
    slow[24..].iter_mut().for_each(|stream| assert_eq!(status(stream), 100));
    server.check((503, "busy"), "/ingest/v1/events", "Authorization: Bearer ka\r\n", event("x").as_bytes());
    server.check((200, ""), "/ingest/v1/events", "Authorization: Bearer kb\r\n", event("y").as_bytes());
}

/// Larger bodies than the first part, chunked and not, come whole, and end at the limit.
#[test]
fn bodies_of_every_size() {
    let bodies = Bodies { bytes_max: 300_000, ..Bodies::default() };
    let server = Setup { bodies, ..Setup::default() }.start();
    for size in [1000, budget::FIRST_BYTES - 1, budget::FIRST_BYTES, budget::FIRST_BYTES + 1, 290_000, 310_000] {
        let mut body = event(&size.to_string()).into_bytes();
        body.resize(size, b' ');
        let want = if size > 300_000 { 413 } else { 200 };
        assert_eq!(server.post("/ingest/v1/events", "", &body).0, want, "{size}");
        let mut chunks = Vec::new();
        for part in body.chunks(7000) {
            chunks.extend(format!("{:x}\r\n", part.len()).into_bytes());
            chunks.extend_from_slice(part);
            chunks.extend_from_slice(b"\r\n");
        }
        chunks.extend_from_slice(b"0\r\n\r\n");
        let head = "POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(server.send(head, &chunks).0, want, "{size} in chunks");
    }
    assert_eq!(ids(&server.intake).len(), 10);
}

/// S19: topics are for a key that may see them.
#[test]
fn figures_of_topics_need_a_key_for_them() {
    let keys = vec![key("ki", "a", May::Ingest), key("km", "a", May::Metrics)];
    let server = Setup { keys, ..Setup::default() }.start();
    let standing = crate::metrics::Standing {
        topic: "acme-orders".into(),
        partition: 0,
        records: 1,
        position: 1,
        seen: Micros(1),
    };
    server.metrics.landed("kafka", crate::metrics::Landing::default(), &[standing], 1, Duration::ZERO);
    for (header, shown) in
        [("", false), ("Authorization: Bearer ki\r\n", false), ("Authorization: Bearer km\r\n", true)]
    {
        let (status, answer) = server.send(&format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{header}"), b"");
        assert!(status == 200 && answer.contains("catena_lake_version"), "{answer}");
        assert_eq!(answer.contains("acme-orders"), shown, "{header}: {answer}");
    }
}

#[test]
fn why_it_is_not_ready_needs_a_key_for_figures() {
    let keys = vec![key("ki", "a", May::Ingest), key("km", "a", May::Metrics)];
    let low = Settings { free_bytes_min: u64::MAX, ..Settings::default() };
    let server = Setup { keys, settings: low, ..Setup::default() }.start();
    for (header, shown) in
        [("", false), ("Authorization: Bearer ki\r\n", false), ("Authorization: Bearer km\r\n", true)]
    {
        let (status, answer) = server.send(&format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\n{header}"), b"");
        assert!(status == 503 && answer.contains("not_ready"), "{answer}");
        assert_eq!(answer.contains("nearly full"), shown, "{header}: {answer}");
    }
}

#[test]
fn what_an_operator_should_look_at_is_said_though_it_is_ready() {
    let note: Check = Arc::new(|| Some("query threads were given up".to_owned()));
    let never: Check = Arc::new(|| None);
    let text = |health: Health| {
        let answer = health.answer(health.refusal());
        let body = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let status = answer.status().as_u16();
        let bytes = body.block_on(axum::body::to_bytes(answer.into_body(), 1 << 20)).unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(text(Health::default()), (200, "ready\n".to_owned()));
    let noted = Health { checks: vec![never], notes: vec![note.clone()] };
    assert_eq!(text(noted), (200, "ready\nquery threads were given up\n".to_owned()));
    let (status, body) = text(Health { checks: vec![note], notes: Vec::new() });
    assert!(status == 503 && body.contains("query threads were given up"), "{body}");
}
