//! Kafka: reads topics as a member of a consumer group.
//!
//! Guarantees:
//! - Where to read on stands in the lake and nowhere else. A partition is read from the position that the lake holds, or
//!   not at all: when Kafka no longer has that offset the partition stops and says so, it never jumps.
//! - A partition that the lake does not know is begun by recording its first position in the lake, before any record.
//! - Group offsets in Kafka are committed after the lake, for tools that show lag. They are never read.
//! - Memory is bounded: librdkafka's queue, then `buffer_bytes`, then the worker's buffer. Polling never stops, so a slow
//!   lake costs no membership.
//! - When a flush fails, for whatever reason, everything in memory is forgotten and read again from the lake's positions.
//!
//! ```text
//!  reader thread                                      decoder thread
//!  poll ─▶ seat (next offset, live?) ─▶ pending ══▶ queue ══▶ worker: decode, buffer ─▶ flush ─▶ lake
//!    ▲                                   pauses at 80 % of buffer_bytes                  │
//!    └────── settle: lake position + watermarks ◀──── seats marked dead when a flush fails
//! ```
//!
//! Two threads per consumer, and `consumers` of them; one more per receiver watches the watermarks from outside.

mod decoder;
mod metrics;
mod reader;
pub mod registry;
mod settings;
mod watcher;

pub use metrics::{KafkaMetrics, PartitionMetrics, Partitions, Stop};
#[cfg(feature = "faults")]
pub use settings::Faults;
pub use settings::{First, Settings, Topic};

use crate::lake::Lake;
use crate::metrics::Metrics;
use crate::worker;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Why a receiver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A setting that cannot be used.
    #[error("kafka setting `{name}`: {why}")]
    Setting {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// librdkafka refuses the configuration.
    #[error("could not set up the kafka client")]
    Client(#[from] ClientError),
    /// A thread could not be started.
    #[error("could not start thread `{name}`")]
    Thread {
        /// Its name.
        name: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The lake did not take the last records in time. They are read again at the next start.
    #[error("kafka receiver did not stop within {0:?}")]
    Stop(Duration),
}

/// A running receiver.
#[derive(Debug)]
pub struct Kafka {
    metrics: Arc<KafkaMetrics>,
    stop: Arc<AtomicBool>,
    stop_wait: Duration,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of a receiver share.
struct Shared {
    settings: Settings,
    worker: worker::Settings,
    lake: Arc<Lake>,
    runtime: tokio::runtime::Handle,
    metrics: Arc<KafkaMetrics>,
    /// The figures of the process.
    figures: Arc<Metrics>,
    stop: Arc<AtomicBool>,
    names: Vec<Arc<str>>,
}

/// This source's name in the figures.
const SOURCE: &str = "kafka";

impl Kafka {
    /// Starts reading. Wrong settings are refused here; brokers that cannot be reached are waited for.
    pub fn start(
        lake: Arc<Lake>,
        settings: Settings,
        worker: worker::Settings,
        figures: &Arc<Metrics>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Kafka, KafkaError> {
        // Built once to be refused with librdkafka's message, before any thread runs.
        settings.consumer(0)?.create::<BaseConsumer>()?;
        let metrics = Arc::new(KafkaMetrics::default());
        figures.register(|r| r.register_collector(Box::new(metrics::Figures(metrics.clone()))));
        let worker = worker::Settings { report: figures.report(SOURCE), ..worker };
        let stop = Arc::new(AtomicBool::new(false));
        let stop_wait = settings.stop_wait;
        let names = settings.topics.iter().map(|t| Arc::from(t.name.as_str())).collect();
        let shared = Arc::new(Shared {
            settings,
            worker,
            lake,
            runtime,
            metrics: metrics.clone(),
            figures: figures.clone(),
            stop: stop.clone(),
            names,
        });
        let mut threads = Vec::new();
        for number in 0..shared.settings.consumers {
            let shared = shared.clone();
            threads.push(thread(format!("kafka-{number}"), move || reader::run(&shared, number))?);
        }
        threads.push(thread("kafka-watch".to_owned(), move || watcher::run(&shared))?);
        Ok(Kafka { metrics, stop, stop_wait, threads })
    }

    /// Its numbers.
    pub fn metrics(&self) -> &Arc<KafkaMetrics> {
        &self.metrics
    }

    /// Whether all its threads have ended; they do so only when told to stop.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Stops: reading ends, what is buffered is flushed and committed, group offsets follow. Blocks for at most `stop_wait`.
    pub fn stop(self) -> Result<(), KafkaError> {
        self.stop.store(true, Relaxed);
        let deadline = Instant::now() + self.stop_wait;
        while !self.is_finished() {
            if Instant::now() >= deadline {
                return Err(KafkaError::Stop(self.stop_wait));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn thread(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, KafkaError> {
    std::thread::Builder::new().name(name.clone()).spawn(body).map_err(|source| KafkaError::Thread { name, source })
}

/// A rebalance that librdkafka waits for an answer to.
#[derive(Debug)]
enum Rebalance {
    Assign(Vec<(String, i32)>),
    Revoke,
}

/// Callbacks: they only note what happened, the reader acts on it between two polls.
struct Events {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Nobody reads the notes any more: answer at once.
    closing: AtomicBool,
    warned: Mutex<Option<Instant>>,
    metrics: Arc<KafkaMetrics>,
}

/// Errors of a client that come closer together than this are counted, and told at debug level only.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                warn!(facility, message, "librdkafka")
            }
            RDKafkaLogLevel::Warning => warn!(facility, message, "librdkafka"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(facility, message, "librdkafka"),
            RDKafkaLogLevel::Debug => debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let errors = self.metrics.errors.fetch_add(1, Relaxed) + 1;
        // Brokers that are away cause several a second, for as long as they are away.
        let mut warned = self.warned.lock();
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            warn!(%error, reason, errors, "kafka client");
        } else {
            debug!(%error, reason, errors, "kafka client");
        }
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = self.metrics.partitions.read();
        for topic in statistics.topics.values() {
            for (number, p) in &topic.partitions {
                let Some(metrics) = partitions.get(&(Arc::from(topic.topic.as_str()), *number)) else { continue };
                // Librdkafka tells of every partition of the topic; only ours have a place that it fetches at.
                if metrics.owned.load(Relaxed) && p.fetch_state == "active" {
                    metrics.fetch.store(p.next_offset, Relaxed);
                }
            }
        }
    }
}

impl ConsumerContext for Events {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if self.closing.load(Relaxed) {
            let _ = consumer.unassign();
            return;
        }
        let note = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Rebalance::Assign(partitions.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect())
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalance::Revoke,
            other => {
                error!(error = ?other, "rebalance failed");
                Rebalance::Revoke
            }
        };
        self.rebalances.lock().push_back(note);
    }
}
