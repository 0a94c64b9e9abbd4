//! Statements that would take all memory or all threads, each in a process that may not have much of either.
//!
//! The list runs in a process of its own under `ulimit -v`: where a ceiling is missing, that process is ended by its
//! allocator, and the test says at which statement.

use crate::lake::{Lake, events};
use catena_engine::{Code, Engine, Limits, Options};
use std::process::Command;
use std::time::{Duration, Instant};

/// Address space of the process that runs the statements, in KiB. Stacks and mapped files count too.
const ADDRESS_SPACE_KIB: u64 = 6 << 20;
/// A statement ends this long after its time at the latest: this build is not optimised, and other tests run beside it.
const GRACE: Duration = Duration::from_secs(30);
/// Sets of threads that may be given up all the same, on a machine that is busy.
const GIVEN_UP_MAX: u64 = 2;

fn limits() -> Limits {
    Limits { time: Duration::from_secs(1), ..Limits::default() }
}

/// The statements of `bombs.txt`.
fn bombs() -> Vec<String> {
    let lines = include_str!("bombs.txt").lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(expand).collect()
}

/// Writes out `⟦40×text⟧`.
fn expand(line: &str) -> String {
    let mut parts = line.split('⟦');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (repeated, rest) = part.split_once('⟧').expect("a bracket that is closed");
        let (times, text) = repeated.split_once('×').expect("how often");
        for i in 1..=times.parse::<usize>().expect("a number") {
            out.push_str(&text.replace("§-", &(i - 1).to_string()).replace('§', &i.to_string()));
        }
        out.push_str(rest);
    }
    out
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by `bombs_end_within_the_memory_of_a_process`"]
async fn bombs_one_after_the_other() {
    let mut lake = Lake::new();
    for file in 0..6 {
        let numbers = file * 500..(file + 1) * 500;
        let lines: String =
            numbers.map(|i| format!("e{i} {i} allow alice > agent:a @s-{} srv/tool{i}\n", i % 7)).collect();
        lake.decisions("acme", 0, &events(&lines));
    }
    let engine = Engine::open(&lake.url(), Options { threads: 2, ..Options::default() }).await.expect("a lake");
    for sql in bombs() {
        let shown: String = sql.chars().take(90).collect();
        // The parent shows the last line when this process ends early.
        eprintln!("statement: {shown}");
        let began = Instant::now();
        let outcome = match engine.sql(&sql, &limits()).await {
            Ok(answer) => answer.collect().await,
            Err(error) => Err(error),
        };
        let took = began.elapsed();
        assert!(took < limits().time + GRACE, "{shown}: {took:?}");
        match outcome {
            Ok(rows) => {
                let written =
                    catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Json).expect(&shown);
                assert!(written.len() < 64 << 20, "{shown}: {} bytes of JSON", written.len());
            }
            Err(error) => assert_ne!(error.code, Code::Internal, "{shown}: {error}"),
        }
        let patient = Limits { time: Duration::from_secs(60), ..Limits::default() };
        let rows = engine.sql("SELECT count(*) FROM decisions", &patient).await.expect(&shown).collect().await;
        assert!(rows.is_ok(), "after {shown}: {rows:?}");
        assert!(engine.health().given_up <= GIVEN_UP_MAX, "{shown}: threads did not come back");
    }
    eprintln!("statements: all ended");
}

#[test]
fn bombs_end_within_the_memory_of_a_process() {
    let this = std::env::current_exe().expect("a test knows itself");
    let shell = format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" \"$@\"");
    let done = Command::new("sh")
        .args(["-c", &shell])
        .arg(this)
        .args(["--exact", "bombs::bombs_one_after_the_other", "--ignored", "--nocapture", "--test-threads", "1"])
        .output()
        .expect("a shell runs");
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.rfind("statement: ").unwrap_or(0);
    let end: String = said[last..].lines().take(6).collect::<Vec<_>>().join("\n");
    assert!(done.status.success() && said.contains("statements: all ended"), "{}\n{end}", done.status);
}
