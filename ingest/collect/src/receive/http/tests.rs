//! A real server on loopback, a real log in a folder of its own, and clients that write bytes.

use super::*;
use crate::intake::{Block, Body as Entry, Settings};
use crate::receive::keep::ERRORS_MAX;
use catena_schemas::Micros;
use catena_schemas::rows::Rejection;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

mod doors;

fn now() -> Micros {
    Micros(1_755_698_591_000_000)
}

fn keeper(intake: Intake, secret: [u8; 32]) -> Arc<Keeper> {
    Arc::new(Keeper::new(intake, secret, &crate::worker::Settings::default(), now))
}

struct Server {
    address: SocketAddr,
    intake: Intake,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: TempDir,
}

struct Setup {
    settings: Settings,
    bodies: Bodies,
    limits: Limits,
    keys: Vec<Key>,
    aligned: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let settings = Settings { partitions: 2, ..Settings::default() };
        Setup { settings, bodies: Bodies::default(), limits: Limits::default(), keys: Vec::new(), aligned: true }
    }
}

impl Setup {
    fn start(self) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let intake = Intake::open(dir.path(), self.settings.clone()).unwrap();
        if self.aligned {
            (0..intake.partitions()).for_each(|p| intake.align(p, 0).unwrap());
        }
        let metrics = Arc::new(Metrics::default());
        metrics.watch_intake(&intake);
        let auth = Auth::new(&self.keys, "default").unwrap();
        let receiver = Arc::new(Receiver::new(keeper(intake.clone(), [7; 32]), auth, self.bodies, metrics.clone()));
        let cancel = CancellationToken::new();
        let (ready, address) = std::sync::mpsc::channel();
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, router(receiver), self.limits, stop).await.unwrap();
            });
        });
        Server { address: address.recv().unwrap(), intake, metrics, cancel, thread: Some(thread), _dir: dir }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Server {
    fn send(&self, request: &str, body: &[u8]) -> (u16, String) {
        send(self.address, request, body).unwrap()
    }

    fn post(&self, target: &str, headers: &str, body: &[u8]) -> (u16, String) {
        self.send(
            &format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}", body.len()),
            body,
        )
    }

    fn get(&self, target: &str) -> (u16, String) {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n"), b"")
    }

    fn answer(&self, target: &str, headers: &str, body: &[u8]) -> Answer {
        let (status, answer) = self.post(target, headers, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Posts, and asserts the status and, for refusals, the code.
    fn check(&self, expected: (u16, &str), target: &str, headers: &str, body: &[u8]) -> String {
        let (status, answer) = self.post(target, headers, body);
        assert_eq!(status, expected.0, "{target} {headers:?}: {answer}");
        assert!(
            expected.1.is_empty() || answer.contains(&format!("\"code\":\"{}\"", expected.1)),
            "{expected:?}: {answer}"
        );
        answer
    }
}

/// Sends a request and reads the answer to its end: status, and everything that came.
fn send(address: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    // A server that refuses by the head alone may close while the body is on its way.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let result = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.get(9..12).and_then(|s| s.parse().ok()) {
        Some(status) => Ok((status, answer)),
        None => Err(result.err().unwrap_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))),
    }
}

fn key(secret: &str, tenant: &str, may: May) -> Key {
    use sha2::{Digest, Sha256};
    Key { sha256: hex::encode(Sha256::digest(secret)), tenant: tenant.into(), may: vec![may] }
}

fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","time":"2025-08-20T14:03:11Z","decision":{{"verdict":"allow"}}}}"#)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Everything in a log, as (tenant, kind, text).
fn entries(intake: &Intake) -> Vec<(String, &'static str, String)> {
    let mut found = Vec::new();
    for partition in 0..intake.partitions() {
        let mut at = 0;
        loop {
            let blocks = intake.read(partition, at, 8 << 20).unwrap();
            let Some(last) = blocks.last() else { break };
            at = last.to;
            for record in blocks.iter().flat_map(Block::records) {
                let raw = |r: Rejection| {
                    format!("{} {} {}", r.reason, r.detail, String::from_utf8_lossy(&r.raw.unwrap_or_default()))
                };
                let (kind, text) = match record.body {
                    Entry::Event(bytes) => ("event", String::from_utf8(bytes.to_vec()).unwrap()),
                    Entry::Rejection(r) => ("rejection", raw(r)),
                    Entry::Aside(r) => ("aside", raw(r)),
                };
                found.push((record.tenant.to_owned(), kind, text));
            }
        }
    }
    found
}

fn ids(intake: &Intake) -> Vec<String> {
    let id = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["id"].as_str().unwrap().to_owned();
    entries(intake).iter().filter(|(_, kind, _)| *kind == "event").map(|(_, _, text)| id(text)).collect()
}

#[test]
fn bodies_of_every_shape() {
    let server = Setup::default().start();
    let ndjson = [event("a"), event("b")].join("\n");
    let array = format!("[{},\n{}]", event("c"), event("d"));
    let mut expected = HashSet::new();
    for (headers, body, new) in [
        ("", ndjson.clone().into_bytes(), ["a", "b"]),
        ("Content-Type: application/json\r\n", array.into_bytes(), ["c", "d"]),
        ("Content-Encoding: gzip\r\n", gzip([event("e"), event("f")].join("\n").as_bytes()), ["e", "f"]),
        (
            "Content-Encoding: zstd\r\n",
            zstd::encode_all([event("g"), event("h")].join("\n").as_bytes(), 3).unwrap(),
            ["g", "h"],
        ),
    ] {
        let answer = server.answer("/ingest/v1/events", headers, &body);
        assert_eq!(answer, Answer { records: 2, received: 2, accepted: 2, ..Answer::default() });
        expected.extend(new.map(str::to_owned));
        assert_eq!(ids(&server.intake).into_iter().collect::<HashSet<_>>(), expected);
    }
    assert_eq!(server.answer("/ingest/v1/events", "", b"").received, 0);
    let chunked = format!("{:x}\r\n{ndjson}\r\n0\r\n\r\n", ndjson.len());
    let head = "POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(server.send(head, chunked.as_bytes()).0, 200);
    assert_eq!(ids(&server.intake).len(), 10);
}

#[test]
fn bad_records_are_kept_as_rejections_and_named() {
    let server = Setup::default().start();
    let body = [&event("a"), "{broken", r#"{"id":"x","time":"2025-08-20T14:03:11Z"}"#, &event("b")].join("\n");
    let answer = server.answer("/ingest/v1/events", "", body.as_bytes());
    assert_eq!((answer.records, answer.received, answer.accepted, answer.rejected), (4, 4, 2, 2));
    assert_eq!(answer.errors.iter().map(|e| e.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(answer.errors[1].reason, "verdict_missing");
    let kinds: Vec<_> = entries(&server.intake).into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(kinds, ["event", "rejection", "rejection", "event"], "in the order of the body");
    let many = "x\n".repeat(100);
    let answer = server.answer("/ingest/v1/events", "", many.as_bytes());
    assert_eq!((answer.rejected, answer.errors.len()), (100, ERRORS_MAX));
    assert_eq!(entries(&server.intake).len(), 104);
}

/// What is kept of a tiny record is many times its size, so that records are counted: as lines, as items of a list, and as what one
/// record holds. A body of too many is refused whole.
#[test]
fn a_body_holds_so_many_records() {
    let bodies = Bodies { records_max: 100, ..Bodies::default() };
    let server = Setup { bodies, ..Setup::default() }.start();
    let list = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    let logs = |n: usize| {
        let records = vec![r#"{"timeUnixNano":"1"}"#; n].join(",");
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#)
    };
    let (events, otlp) = ("/ingest/v1/events", "/ingest/v1/events?format=otlp");
    let lines = |n: usize| "{}\n".repeat(n);
    let item_of_lines = |n: usize| format!("{{}}\n{}", list(n - 1));
    let shapes: [(&str, &dyn Fn(usize) -> String); 4] =
        [(events, &lines), (events, &list), (events, &item_of_lines), (otlp, &logs)];
    let mut kept = 0;
    for (target, body) in shapes {
        let answer = server.answer(target, "", body(100).as_bytes());
        assert_eq!(answer.received, 100, "{target}");
        kept += 100;
        let said = server.check((413, "body_too_large"), target, "", body(101).as_bytes());
        assert!(said.contains("more than 100 records: send it in several"), "{said}");
        server.check((413, "body_too_large"), target, "Content-Encoding: gzip\r\n", &gzip(body(101).as_bytes()));
        assert_eq!(entries(&server.intake).len(), kept, "nothing of a body that was refused");
    }
    // One record of very many values: what the parser notes of it is many times its size.
    let values = format!("{{\"a\":{}}}", list(2_000_100));
    server.check((413, "body_too_large"), events, "", values.as_bytes());
}

#[test]
fn every_refusal_has_its_status_and_code() {
    let bodies = Bodies {
        bytes_max: 10_000,
        unpacked_bytes_max: 2 << 20,
        timeout: Duration::from_millis(300),
        ..Bodies::default()
    };
    let server = Setup { bodies, ..Setup::default() }.start();
    let (events, ok) = ("/ingest/v1/events", event("a"));
    server.check((200, ""), events, "", ok.as_bytes());
    server.check((400, "format_unknown"), "/ingest/v1/events?format=xml", "", ok.as_bytes());
    server.check((400, "body_damaged"), events, "Content-Encoding: gzip\r\n", &gzip(ok.as_bytes())[..20]);
    server.check((400, "encoding_wrong"), events, "Content-Encoding: gzip\r\n", ok.as_bytes());
    server.check((400, "encoding_wrong"), events, "", &gzip(ok.as_bytes()));
    server.check((400, "body_nested"), events, "Content-Encoding: gzip\r\n", &gzip(&gzip(ok.as_bytes())));
    server.check((415, "encoding_unknown"), events, "Content-Encoding: br\r\n", ok.as_bytes());
    server.check((415, "encoding_unknown"), events, "Content-Encoding: gzip, gzip\r\n", ok.as_bytes());
    server.check((413, "body_too_large"), events, "", &vec![b'x'; 10_001]);
    server.check((404, ""), "/ingest/v2/events", "", b"");
    assert_eq!(server.get("/ingest/v1/events").0, 405);
    let foreign = format!("POST {events} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n");
    assert_eq!(server.send(&foreign, b"").0, 403);
    server.check((403, "origin_foreign"), events, "Origin: https://evil.example\r\n", ok.as_bytes());
    server.check((403, "origin_foreign"), events, "Origin: null\r\n", ok.as_bytes());
    server.check((200, ""), events, "Origin: http://localhost\r\n", ok.as_bytes());
    // A body that is announced and does not come.
    let head = format!("POST {events} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n");
    assert_eq!(server.send(&head, b"short").0, 408);
    // More bytes than any body may have, without saying so first.
    let head = format!("POST {events} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 10_001, "x".repeat(10_001));
    assert_eq!(server.send(&head, chunk.as_bytes()).0, 413);
    assert_eq!(ids(&server.intake), ["a", "a"]);
    let text = server.metrics.encode();
    assert!(text.contains("catena_http_answers_total{route=\"ingest\",status=\"413\"} 2"), "{text}");
}

#[test]
fn bombs_are_refused_without_unpacking_them() {
    let server = Setup::default().start();
    let began = Instant::now();
    let bomb = gzip(&vec![b' '; 256 << 20]);
    assert!(bomb.len() < 300_000);
    server.check((413, "body_too_large"), "/ingest/v1/events", "Content-Encoding: gzip\r\n", &bomb);
    let bomb = zstd::encode_all(&vec![b'0'; 256 << 20][..], 3).unwrap();
    server.check((413, "body_too_large"), "/logs", "Content-Encoding: zstd\r\n", &bomb);
    assert!(began.elapsed() < Duration::from_secs(30) && entries(&server.intake).is_empty());
    // What compresses well but is small is no bomb.
    let plain = vec![event("a"); 3000].join("\n");
    assert_eq!(
        server.answer("/ingest/v1/events", "Content-Encoding: gzip\r\n", &gzip(plain.as_bytes())).accepted,
        3000
    );
}

#[test]
fn the_tenant_is_the_keys() {
    let server =
        Setup { keys: vec![key("ka", "a", May::Ingest), key("kb", "b", May::Ingest)], ..Setup::default() }.start();
    let events = "/ingest/v1/events";
    server.check((401, "unauthorized"), events, "", event("x").as_bytes());
    server.check((401, "unauthorized"), events, "Authorization: Bearer nope\r\n", event("x").as_bytes());
    let body = event("1").replace("{\"id\"", "{\"tenant\":\"b\",\"id\"");
    server.check((200, ""), events, "Authorization: Bearer ka\r\nX-Tenant: b\r\n", body.as_bytes());
    server.check((200, ""), events, "Authorization: Bearer kb\r\n", event("2").as_bytes());
    let tenants: BTreeMap<_, _> = entries(&server.intake).into_iter().map(|(tenant, _, text)| (tenant, text)).collect();
    assert_eq!(tenants.len(), 2);
    assert!(tenants["a"].contains("\"id\":\"1\"") && tenants["b"].contains("\"id\":\"2\""));
}

#[test]
fn says_when_it_takes_no_more() {
    let server =
        Setup { settings: Settings { bytes_max: 3000, partitions: 1, ..Settings::default() }, ..Setup::default() }
            .start();
    assert_eq!(server.get("/readyz").0, 200);
    let mut taken = 0;
    let refused = loop {
        let (status, answer) = server.post("/ingest/v1/events", "", event(&taken.to_string()).as_bytes());
        match status {
            200 => taken += 1,
            _ => break (status, answer),
        }
    };
    assert!(
        refused.0 == 429 && refused.1.contains("retry-after: 2") && refused.1.contains("intake_full"),
        "{}",
        refused.1
    );
    assert_eq!(ids(&server.intake).len(), taken, "what was refused is not in the log");
    server.intake.truncate(0, taken as u64).unwrap();
    server.check((200, ""), "/ingest/v1/events", "", event("again").as_bytes());

    let server = Setup { aligned: false, ..Setup::default() }.start();
    let answer = server.check((503, "starting"), "/logs", "", b"[]");
    assert!(answer.contains("retry-after: 2"));
    assert_eq!((server.get("/readyz").0, server.get("/healthz").0), (503, 200));

    let low = Settings { free_bytes_min: u64::MAX, ..Settings::default() };
    let server = Setup { settings: low, ..Setup::default() }.start();
    server.check((503, "disk_low"), "/logs", "", b"[]");
    let (status, answer) = server.get("/readyz");
    assert!(status == 503 && answer.contains("nearly full"), "{answer}");
}

#[test]
fn slow_and_silent_clients_are_cut_off() {
    let limits = Limits { header_timeout: Duration::from_millis(400), ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start();
    let check = |what: &str, drip: &dyn Fn(&mut TcpStream)| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let began = Instant::now();
        drip(&mut stream);
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(4), "{what}: {:?}", began.elapsed());
    };
    check("silent", &|_| {});
    check("half a head", &|s| s.write_all(b"POST /logs HTTP/1.1\r\nHost: localhost\r\nX-Long").unwrap());
    check("half a preface", &|s| s.write_all(b"PRI * HT").unwrap());
    check("dripping", &|s| {
        for _ in 0..100 {
            if s.write_all(b"X").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("a dripping head was borne for 2 s");
    });
}

#[test]
fn heads_are_bounded_and_unambiguous() {
    let server = Setup::default().start();
    let many: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    assert_eq!(server.post("/logs", &many, b"[]").0, 431);
    assert_eq!(server.post("/logs", &format!("X-Long: {}\r\n", "y".repeat(40_000)), b"[]").0, 431);
    for smuggled in [
        "POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "POST /logs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n",
        "POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n",
        "POST /logs HTTP/1.1\r\nHost : localhost\r\nContent-Length: 2\r\n",
    ] {
        assert_eq!(server.send(smuggled, b"[]").0, 400, "{smuggled}");
    }
}

#[test]
fn stops_when_told_and_answers_what_is_under_way() {
    let server =
        Setup { limits: Limits { stop_timeout: Duration::from_secs(5), ..Limits::default() }, ..Setup::default() }
            .start();
    let body = event("a");
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    server.cancel.cancel();
    std::thread::sleep(Duration::from_millis(100));
    assert!(TcpStream::connect(server.address).is_err(), "still accepting");
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ids(&server.intake), ["a"]);
}

#[test]
fn secrets_never_reach_the_disk() {
    let server = Setup::default().start();
    let jwt = concat!("eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiJkYW5hIiwiYSI6MX0", ".c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWc");
    let aws = concat!("AKIA", "IOSFODNN7EXAMPL3");
    let github = concat!("ghp_", "16C7e42F292c6912E7710c838347Ae178B4a");
    let secrets = [jwt, aws, github];
    let kept = format!(
        r#"{{"id":"s1","time":"2025-08-20T14:03:11Z","decision":{{"verdict":"deny","reasons":["{aws}"]}},"token":{{"ref":"{jwt}"}},"call":{{"params":{{"q":"use {github} now"}}}},"note":"{jwt}"}}"#
    );
    // The same in a record that is rejected, and in one that is not even JSON.
    let rejected = kept.replace("\"deny\"", "\"maybe\"");
    let broken = &kept[..kept.len() - 2];
    let answer = server.answer("/ingest/v1/events", "", [&kept, &rejected, broken].join("\n").as_bytes());
    assert_eq!((answer.accepted, answer.rejected), (1, 2));
    let found = entries(&server.intake);
    for secret in secrets {
        for (_, kind, text) in &found {
            assert!(!text.contains(secret), "{secret} in {kind}: {text}");
        }
    }
    // The store may compress: every file as it lies there, as well as every entry as it is read.
    let mut files = 0;
    let mut folders = vec![server._dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            for secret in secrets {
                assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} in {}", path.display());
            }
        }
    }
    assert!(files > 3);
}

const CHILD_DIR: &str = "CATENA_TEST_INTAKE_DIR";
const CHILD_FAULT: &str = "CATENA_TEST_INTAKE_FAULT";

/// Not a test: the process that the next ones kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child of the kill tests"]
#[expect(clippy::disallowed_methods, reason = "a child process is told what to do by its environment")]
async fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let fault = match std::env::var(CHILD_FAULT).as_deref() {
        Ok("skip_sync") => Some(crate::intake::Fault::SkipSync),
        Ok("acknowledge_first") => Some(crate::intake::Fault::AcknowledgeFirst),
        _ => None,
    };
    let intake = Intake::open(Path::new(&dir), Settings { partitions: 2, fault, ..Settings::default() }).unwrap();
    (0..2).for_each(|p| intake.align(p, 0).unwrap());
    let auth = Auth::new(&[], "default").unwrap();
    let receiver = Receiver::new(keeper(intake, [7; 32]), auth, Bodies::default(), Arc::new(Metrics::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    writeln!(std::io::stderr(), "listening {}", listener.local_addr().unwrap()).unwrap();
    serve(listener, router(Arc::new(receiver)), Limits::default(), CancellationToken::new()).await.unwrap();
}

struct Outcome {
    acknowledged: usize,
    missing: usize,
    twice: usize,
}

/// Kills a process that takes events again and again while clients post, and looks for every acknowledged id in its log.
fn kill(rounds: u64, fault: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{}::child", module_path!().split_once("::").unwrap().1);
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--ignored", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_FAULT, fault)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address: SocketAddr = loop {
            let line = lines.next().expect("the child says where it listens").unwrap();
            if let Some(address) = line.strip_prefix("listening ") {
                break address.parse().unwrap();
            }
        };
        let clients: Vec<_> = (0..4)
            .map(|client| std::thread::spawn(move || post_until_it_dies(address, &format!("{round}-{client}"))))
            .collect();
        std::thread::sleep(Duration::from_millis(40 + (round * 37) % 120));
        child.kill().unwrap();
        child.wait().unwrap();
        for client in clients {
            acknowledged.extend(client.join().unwrap());
        }
    }
    let intake = Intake::open(dir.path(), Settings { partitions: 2, ..Settings::default() }).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for id in ids(&intake) {
        *counts.entry(id).or_default() += 1;
    }
    let missing = acknowledged.iter().filter(|id| !counts.contains_key(*id)).count();
    Outcome { acknowledged: acknowledged.len(), missing, twice: counts.values().filter(|n| **n > 1).count() }
}

/// Posts pairs of events over one connection; the ids that were acknowledged.
fn post_until_it_dies(address: SocketAddr, prefix: &str) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return acknowledged };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for n in 0.. {
        let pair = [format!("{prefix}-{n}-a"), format!("{prefix}-{n}-b")];
        let body = format!("{}\n{}", event(&pair[0]), event(&pair[1]));
        let head =
            format!("POST /ingest/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).is_err() {
            break;
        }
        let mut answer = [0; 2048];
        match stream.read(&mut answer) {
            Ok(n) if answer[..n].starts_with(b"HTTP/1.1 200") => acknowledged.extend(pair),
            _ => break,
        }
    }
    acknowledged
}

#[test]
fn survives_being_killed_twenty_times() {
    let Outcome { acknowledged, missing, twice } = kill(20, "");
    assert!(acknowledged > 200, "only {acknowledged} were acknowledged: the test saw nothing");
    assert_eq!((missing, twice), (0, 0), "of {acknowledged} acknowledged");
}

#[test]
fn a_kill_shows_when_acknowledging_before_the_sync() {
    let Outcome { acknowledged, missing, .. } = kill(6, "skip_sync");
    assert!(missing > 0, "nothing of {acknowledged} was lost although nothing was flushed");
}

#[test]
fn a_kill_shows_when_acknowledging_before_the_append() {
    let Outcome { acknowledged, missing, .. } = kill(10, "acknowledge_first");
    assert!(missing > 0, "nothing of {acknowledged} was lost although nothing was written");
}

/// What Open Policy Agent really uploaded, as it was received: packed arrays, one of them three times.
#[test]
fn uploads_of_a_real_policy_engine_are_taken() {
    let server = Setup::default().start();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus/opa/main/uploads");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.retain(|f| f.extension().is_some_and(|e| e == "gz"));
    let (mut uploads, mut accepted) = (0, 0);
    for file in files {
        let target = if uploads % 2 == 0 { "/logs" } else { "/logs/partition-1" };
        let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
        let answer = server.answer(target, headers, &std::fs::read(&file).unwrap());
        assert_eq!((answer.rejected, answer.errors), (0, vec![]), "{}", file.display());
        (uploads, accepted) = (uploads + 1, accepted + answer.accepted);
    }
    assert!(uploads == 14 && accepted > 400, "{uploads} uploads, {accepted} decisions");
    assert_eq!(ids(&server.intake).len() as u64, accepted);
}
