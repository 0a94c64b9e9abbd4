//! Figures of the collector, as Prometheus reads them.
//!
//! Guarantee: per source, what was received is what was landed: `catena_received_total` equals `catena_accepted_total` plus
//! `catena_rejected_total` plus `catena_asides_total`, counted in facts (decisions, executions, records of
//! authority), and `catena_unaccounted` is the difference. Anything but 0 there is data lost or counted twice. Names are constants here and nowhere else; tenants, tools and
//! anything else that a record holds never become a label, and neither does the path of a file ([`topic_label`]). Topics do, and
//! are left out of what is shown to anyone without a key for them ([`Metrics::encode_totals`]).

use crate::intake::{Intake, Stats};
use crate::receive::http::Answer;
use crate::worker::Report;
use catena_schemas::Micros;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Where records come from: `http`, `kafka`, `file`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

/// One partition of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    source: &'static str,
    topic: String,
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    format: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    source: &'static str,
    kind: &'static str,
}

/// A step of upkeep.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

/// What landed in one flush, counted in facts: decisions, executions and records of authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landing {
    /// Pushed into the worker.
    pub received: u64,
    /// Facts landed, duplicates included.
    pub accepted: u64,
    /// Facts that were there already.
    pub duplicates: u64,
    /// Rejections landed.
    pub rejected: u64,
    /// Asides landed.
    pub asides: u64,
}

/// Where a partition stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Topic, or the intake log.
    pub topic: String,
    /// Number.
    pub partition: i32,
    /// Entries of it that landed.
    pub records: u64,
    /// Next offset to read.
    pub position: i64,
    /// When the last of them was received.
    pub seen: Micros,
}

/// What the topic of a source is called in labels: a path tells more than a figure should, so a file is called by the first
/// eight hex digits of its path's SHA-256, which is the same after every restart and for every collector.
pub fn topic_label(topic: &str) -> String {
    match topic.strip_prefix("file:") {
        Some(path) => format!("file-{}", hex::encode(&Sha256::digest(path)[..4])),
        None => topic.to_owned(),
    }
}

/// The figures. One for the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    received: Family<Source, Counter>,
    accepted: Family<Source, Counter>,
    duplicates: Family<Source, Counter>,
    rejected: Family<Source, Counter>,
    asides: Family<Source, Counter>,
    unaccounted: Family<Source, Gauge>,
    records: Family<Partition, Counter>,
    position: Family<Partition, Gauge>,
    seen: Family<Partition, Gauge<f64, AtomicU64>>,
    flush: Family<Source, Histogram>,
    failures: Family<Failure, Counter>,
    version: Gauge,
    http: Family<Route, Counter>,
    sent: Family<Sent, Counter>,
    upkeep_failures: Family<Step, Counter>,
    vacuum_refused: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = || Histogram::new([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]);
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("catena")),
            received: Family::default(),
            accepted: Family::default(),
            duplicates: Family::default(),
            rejected: Family::default(),
            asides: Family::default(),
            unaccounted: Family::default(),
            records: Family::default(),
            position: Family::default(),
            seen: Family::default(),
            flush: Family::new_with_constructor(buckets),
            failures: Family::default(),
            version: Gauge::default(),
            http: Family::default(),
            sent: Family::default(),
            upkeep_failures: Family::default(),
            vacuum_refused: Gauge::default(),
        };
        metrics.register(|r| {
            let m = &metrics;
            r.register("received", "Facts, rejections and asides read from a source and landed", m.received.clone());
            r.register("accepted", "Facts in the lake, duplicates included", m.accepted.clone());
            r.register("duplicates", "Facts that were in the lake already", m.duplicates.clone());
            r.register("rejected", "Rejections in the lake", m.rejected.clone());
            r.register("asides", "Records without a fact in the lake", m.asides.clone());
            r.register("unaccounted", "Received less what landed; anything but 0 is an error", m.unaccounted.clone());
            r.register("records", "Records of a partition that landed", m.records.clone());
            r.register("position", "Next offset to read, as the lake holds it", m.position.clone());
            r.register_with_unit(
                "last_seen",
                "When the last landed record was received",
                Unit::Seconds,
                m.seen.clone(),
            );
            r.register_with_unit("flush", "Time to make a flush durable and commit it", Unit::Seconds, m.flush.clone());
            r.register("flush_failures", "Flushes that did not land; their records are read again", m.failures.clone());
            r.register(
                "lake_version",
                "Version of the lake after the last commit of this collector",
                m.version.clone(),
            );
            r.register("http_answers", "Answers of the ingest routes by status", m.http.clone());
            r.register("http_sent", "What bodies held, by format, as answered with 200", m.sent.clone());
            r.register("upkeep_failures", "Steps of upkeep that failed or were refused", m.upkeep_failures.clone());
            r.register(
                "vacuum_refused_files",
                "Files that the last vacuum left because the log does not explain them",
                m.vacuum_refused.clone(),
            );
        });
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers figures of another part; every name gets the prefix `catena_`.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// Shows the figures of an intake log for as long as it is open.
    pub fn watch_intake(&self, intake: &Intake) {
        let watched = Watched(Box::new(intake.watcher()));
        self.register(|r| r.register_collector(Box::new(watched)));
    }

    /// The figures in the OpenMetrics text format, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }

    /// A step of upkeep failed.
    pub fn upkeep_failed(&self, step: &'static str) {
        self.upkeep_failures.get_or_create(&Step { step }).inc();
    }

    /// How many files the last vacuum refused to delete.
    pub fn vacuum_refused(&self, files: usize) {
        self.vacuum_refused.set(files as i64);
    }

    /// The figures without those of single topics, but for the intake log, which names no source.
    pub fn encode_totals(&self) -> String {
        let named = |line: &str| line.contains("topic=\"") && !line.contains("topic=\"intake\"");
        self.encode().split_inclusive('\n').filter(|line| line.starts_with('#') || !named(line)).collect()
    }

    /// A flush landed.
    pub fn landed(&self, source: &'static str, landing: Landing, standings: &[Standing], version: u64, took: Duration) {
        let label = Source { source };
        self.received.get_or_create(&label).inc_by(landing.received);
        self.accepted.get_or_create(&label).inc_by(landing.accepted);
        self.duplicates.get_or_create(&label).inc_by(landing.duplicates);
        self.rejected.get_or_create(&label).inc_by(landing.rejected);
        self.asides.get_or_create(&label).inc_by(landing.asides);
        let accounted = landing.accepted + landing.rejected + landing.asides;
        self.unaccounted.get_or_create(&label).inc_by(landing.received as i64 - accounted as i64);
        self.flush.get_or_create(&label).observe(took.as_secs_f64());
        self.version.set(version as i64);
        for s in standings {
            let label = Partition { source, topic: topic_label(&s.topic), partition: s.partition };
            self.records.get_or_create(&label).inc_by(s.records);
            self.position.get_or_create(&label).set(s.position);
            if s.seen.0 != 0 {
                self.seen.get_or_create(&label).set(s.seen.0 as f64 / 1e6);
            }
        }
    }

    /// A report to these figures, for the workers of a source.
    pub fn report(self: &Arc<Metrics>, source: &'static str) -> Report {
        let metrics = self.clone();
        Report::to(move |landed, took| {
            let c = &landed.counts;
            let landing = Landing {
                received: c.received,
                accepted: c.facts(),
                duplicates: c.duplicates + c.repeated,
                rejected: c.rejected,
                asides: c.asides,
            };
            metrics.landed(source, landing, &landed.standings, landed.version, took);
        })
    }

    /// A flush did not land.
    pub fn failed(&self, source: &'static str, kind: &'static str) {
        self.failures.get_or_create(&Failure { source, kind }).inc();
    }

    /// Received less what landed, of a source.
    pub fn unaccounted(&self, source: &'static str) -> i64 {
        self.unaccounted.get_or_create(&Source { source }).get()
    }

    /// An ingest route answered.
    pub fn answered(&self, route: &'static str, status: u16) {
        self.http.get_or_create(&Route { route, status }).inc();
    }

    /// A body was kept.
    pub fn received_over_http(&self, format: &'static str, answer: &Answer) {
        for (outcome, n) in [("accepted", answer.accepted), ("rejected", answer.rejected), ("aside", answer.asides)] {
            self.sent.get_or_create(&Sent { format, outcome }).inc_by(n);
        }
    }
}

/// Reads the intake log's figures when asked.
struct Watched(Box<dyn Fn() -> Option<Stats> + Send + Sync>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(stats) = (self.0)() else { return Ok(()) };
        for (name, help, value) in [
            ("intake_bytes", "Bytes that wait in the intake log", stats.bytes),
            ("intake_bytes_max", "Bytes that may wait in the intake log", stats.bytes_max),
            ("intake_entries", "Entries that wait in the intake log", stats.entries),
            ("intake_broken", "1 while the intake log cannot be written", u64::from(stats.broken)),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in [
            ("intake_syncs", "fsyncs of the intake log", stats.syncs),
            ("intake_appends", "Appends acknowledged", stats.appends),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_and_add_up() {
        let metrics = Metrics::default();
        let standing =
            Standing { topic: "intake".into(), partition: 3, records: 5, position: 17, seen: Micros(2_500_000) };
        let landing = Landing { received: 5, accepted: 3, duplicates: 1, rejected: 1, asides: 1 };
        metrics.landed("http", landing, &[standing], 9, Duration::from_millis(30));
        metrics.failed("http", "fenced");
        metrics.answered("ingest", 200);
        let text = metrics.encode();
        for line in [
            "catena_received_total{source=\"http\"} 5",
            "catena_duplicates_total{source=\"http\"} 1",
            "catena_unaccounted{source=\"http\"} 0",
            "catena_position{source=\"http\",topic=\"intake\",partition=\"3\"} 17",
            "catena_last_seen_seconds{source=\"http\",topic=\"intake\",partition=\"3\"} 2.5",
            "catena_flush_seconds_count{source=\"http\"} 1",
            "catena_flush_failures_total{source=\"http\",kind=\"fenced\"} 1",
            "catena_http_answers_total{route=\"ingest\",status=\"200\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        metrics.landed("http", Landing { received: 2, accepted: 1, ..Landing::default() }, &[], 10, Duration::ZERO);
        assert_eq!(metrics.unaccounted("http"), 1);
    }

    #[test]
    fn paths_are_no_labels_and_topics_are_not_for_everybody() {
        let metrics = Metrics::default();
        let standing = |topic: &str| Standing {
            topic: topic.into(),
            partition: 0,
            records: 5,
            position: 17,
            seen: Micros(2_500_000),
        };
        let landing = Landing { received: 5, accepted: 5, ..Landing::default() };
        metrics.landed("file", landing, &[standing("file:/var/log/acme/opa.log")], 1, Duration::ZERO);
        metrics.landed("kafka", landing, &[standing("acme-decisions")], 2, Duration::ZERO);
        metrics.landed("http", landing, &[standing("intake")], 3, Duration::ZERO);
        let (all, totals) = (metrics.encode(), metrics.encode_totals());
        assert!(!all.contains("/var/log") && !all.contains("opa.log"), "{all}");
        let file = topic_label("file:/var/log/acme/opa.log");
        assert!(
            file.len() == 13 && all.contains(&format!("catena_position{{source=\"file\",topic=\"{file}\"")),
            "{all}"
        );
        assert!(all.contains("acme-decisions"), "{all}");
        for (name, shown) in [
            ("acme-decisions", false),
            (file.as_str(), false),
            ("catena_position{source=\"http\",topic=\"intake\",partition=\"0\"} 17", true),
            ("catena_received_total{source=\"kafka\"} 5", true),
            ("catena_flush_seconds_count{source=\"file\"} 1", true),
        ] {
            assert_eq!(totals.contains(name), shown, "{name}\nin\n{totals}");
        }
        assert!(totals.ends_with("# EOF\n"));
    }
}
