//! A collector that reads Kafka into a lake and nothing else: what the fault tests start, stop and kill.
//!
//! Its settings are one JSON object as the only argument. Beside those of the receiver there are switches that turn
//! protections off, which is why this is not the product's own binary. It writes its metrics as one line of JSON, four
//! times a second, and stops gracefully at SIGTERM.

#![expect(clippy::disallowed_methods, reason = "this is a program of its own: its settings are its argument")]

use catena_collect::duplicates::{Duplicates, WINDOW_DECISIONS};
use catena_collect::lake::Lake;
use catena_collect::metrics::Metrics;
use catena_collect::receive::kafka::{Faults, First, Kafka, KafkaMetrics, Settings, Topic};
use catena_collect::store::StoreOptions;
use catena_collect::worker;
use catena_decode::Format;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let began = Instant::now();
    let Some(argument) = std::env::args().nth(1) else { return fail("one argument: settings as JSON") };
    let settings: Value = match serde_json::from_str(&argument) {
        Ok(settings) => settings,
        Err(e) => return fail(&format!("settings: {e}")),
    };
    let filter = tracing_subscriber::EnvFilter::new("info,catena_collect=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    match runtime.block_on(run(&settings, began)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{why}");
    ExitCode::FAILURE
}

async fn run(given: &Value, began: Instant) -> Result<(), Box<dyn std::error::Error>> {
    let text = |key: &str| given[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str, otherwise: u64| given[key].as_u64().unwrap_or(otherwise);
    let on = |key: &str| given[key].as_bool().unwrap_or(false);
    // First of all, so that it is heard however early it comes.
    let mut terminate = signal(SignalKind::terminate())?;
    let store = StoreOptions { collector: text("instance"), ..StoreOptions::default() };
    let lake = Lake::open(&text("lake"), &store).await?;
    tracing::info!(time_ms = began.elapsed().as_millis() as u64, "lake is open");
    lake.records().faults.accept_any_position.store(on("accept_any_position"), Relaxed);
    let topics = given["topics"].as_array().into_iter().flatten().map(|t| Topic {
        name: t["name"].as_str().unwrap_or_default().to_owned(),
        format: Format::parse(t["format"].as_str().unwrap_or("catena")).unwrap_or(Format::Catena),
        tenant: t["tenant"].as_str().unwrap_or("main").to_owned(),
        epoch: t["epoch"].as_u64().unwrap_or(0) as u32,
        mappings: None,
        registry: None,
    });
    let kafka = Settings {
        brokers: text("brokers"),
        group: text("group"),
        instance: text("instance"),
        topics: topics.collect(),
        first: if on("latest") { First::Latest } else { First::Earliest },
        consumers: number("consumers", 1) as usize,
        buffer_bytes: number("buffer_bytes", 32 << 20) as usize,
        stall_after: Duration::from_millis(number("stall_after_ms", 30_000)),
        properties: given["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
            .collect(),
        faults: Faults { misplace: number("misplace", 0) as i64, believe_gaps: on("believe_gaps") },
        ..Settings::default()
    };
    let defaults = worker::Settings::default();
    let worker = worker::Settings {
        flush_rows: number("flush_rows", defaults.flush_rows as u64) as usize,
        flush_bytes: number("flush_bytes", defaults.flush_bytes as u64) as usize,
        flush_age: Duration::from_millis(number("flush_age_ms", 2000)),
        collector: text("instance"),
        duplicates: Arc::new(Duplicates::new(number("window", WINDOW_DECISIONS as u64) as usize)),
        ..defaults
    };
    let kafka = Kafka::start(lake, kafka, worker, &Arc::new(Metrics::default()), tokio::runtime::Handle::current())?;
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = tick.tick() => report(kafka.metrics(), began),
        }
    }
    let metrics = kafka.metrics().clone();
    let stopped = tokio::task::spawn_blocking(|| kafka.stop()).await?;
    report(&metrics, began);
    Ok(stopped?)
}

fn report(metrics: &KafkaMetrics, began: Instant) {
    let partitions: Vec<Value> = metrics
        .partitions
        .read()
        .iter()
        .map(|((topic, number), p)| {
            json!({
                "topic": **topic, "partition": number, "received": p.received.load(Relaxed), "position": p.position.load(Relaxed),
                "high": p.high.load(Relaxed), "lag": p.lag(), "owned": p.owned.load(Relaxed), "paused": p.paused.load(Relaxed),
                "stalled": p.stalled.load(Relaxed), "stopped": p.stopped.load(Relaxed),
            })
        })
        .collect();
    let line = json!({
        "uptime_ms": began.elapsed().as_millis() as u64, "commits": metrics.commits.load(Relaxed), "fenced": metrics.fenced.load(Relaxed), "failures": metrics.failures.load(Relaxed),
        "assignments": metrics.assignments.load(Relaxed), "unflushed": metrics.revokes_unflushed.load(Relaxed),
        "pauses": metrics.pauses.load(Relaxed), "repeated": metrics.repeated.load(Relaxed), "gaps": metrics.gaps_checked.load(Relaxed),
        "errors": metrics.errors.load(Relaxed), "restarts": metrics.restarts.load(Relaxed), "partitions": partitions,
    });
    let _ = writeln!(std::io::stdout(), "{line}");
}
