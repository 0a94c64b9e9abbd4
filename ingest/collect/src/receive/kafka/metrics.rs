//! What a Kafka receiver can say of itself: plain numbers, and their names for Prometheus.

use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

/// Numbers of partitions, by topic and partition.
pub type Partitions = BTreeMap<(Arc<str>, i32), Arc<PartitionMetrics>>;

/// Counters of a receiver.
#[derive(Debug, Default)]
pub struct KafkaMetrics {
    /// Partitions that this process has owned, now or before.
    pub partitions: RwLock<Partitions>,
    /// Flushes that landed.
    pub commits: AtomicU64,
    /// Flushes refused because the partition's position had moved.
    pub fenced: AtomicU64,
    /// Flushes that failed otherwise.
    pub failures: AtomicU64,
    /// Assignments received.
    pub assignments: AtomicU64,
    /// Rebalances that did not wait for a flush to end; its records are read again.
    pub revokes_unflushed: AtomicU64,
    /// Times that reading paused because decoding was behind.
    pub pauses: AtomicU64,
    /// Records read again below the expected offset, and dropped.
    pub repeated: AtomicU64,
    /// Times that a record stood beyond the expected offset and the place was read a second time.
    pub gaps_checked: AtomicU64,
    /// Errors reported by librdkafka.
    pub errors: AtomicU64,
    /// Times that a consumer was built anew after a fatal error.
    pub restarts: AtomicU64,
}

/// One partition.
#[derive(Debug)]
pub struct PartitionMetrics {
    /// Records received.
    pub received: AtomicU64,
    /// Their bytes.
    pub received_bytes: AtomicU64,
    /// Next offset to receive; -1 before the first.
    pub next: AtomicI64,
    /// Next offset to fetch, by librdkafka's account; -1 if unknown. Ahead of `next` over control records.
    pub fetch: AtomicI64,
    /// Position in the lake; -1 if unknown.
    pub position: AtomicI64,
    /// Oldest offset of the partition; -1 if unknown.
    pub low: AtomicI64,
    /// End of the partition for a reader of committed records; -1 if unknown.
    pub high: AtomicI64,
    /// Whether this process owns it.
    pub owned: AtomicBool,
    /// Whether reading is paused.
    pub paused: AtomicBool,
    /// Whether it has more to read and does not move.
    pub stalled: AtomicBool,
    /// Why it stopped, as a [`Stop`] number; 0 when it did not.
    pub stopped: AtomicU8,
    /// When its position last moved, in microseconds since the epoch; 0 before.
    pub committed_at: AtomicI64,
}

impl Default for PartitionMetrics {
    fn default() -> Self {
        PartitionMetrics {
            received: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            next: AtomicI64::new(-1),
            fetch: AtomicI64::new(-1),
            position: AtomicI64::new(-1),
            low: AtomicI64::new(-1),
            high: AtomicI64::new(-1),
            owned: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            stopped: AtomicU8::new(0),
            committed_at: AtomicI64::new(0),
        }
    }
}

impl PartitionMetrics {
    /// Records that are in Kafka and not in the lake. Control records at the end count until librdkafka has passed them.
    pub fn lag(&self) -> u64 {
        let (position, next, fetch) = (self.position.load(Relaxed), self.next.load(Relaxed), self.fetch.load(Relaxed));
        let all_landed = next <= position;
        let done = if all_landed { position.max(fetch) } else { position };
        (self.high.load(Relaxed) - done.max(0)).max(0) as u64
    }
}

impl KafkaMetrics {
    /// The numbers of one partition.
    pub fn partition(&self, topic: &Arc<str>, number: i32) -> Arc<PartitionMetrics> {
        if let Some(found) = self.partitions.read().get(&(topic.clone(), number)) {
            return found.clone();
        }
        self.partitions.write().entry((topic.clone(), number)).or_default().clone()
    }
}

/// Shows the numbers to Prometheus. Partitions that another process owns by now are left out: their numbers are old.
#[derive(Debug)]
pub(super) struct Figures(pub(super) Arc<KafkaMetrics>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &self.0;
        for (name, help, value) in [
            ("kafka_assignments", "Times that the group gave partitions to this process", &metrics.assignments),
            ("kafka_errors", "Errors reported by librdkafka", &metrics.errors),
            ("kafka_fenced", "Flushes refused because another process had moved on", &metrics.fenced),
            ("kafka_gaps_checked", "Times that a gap in the offsets was read a second time", &metrics.gaps_checked),
            ("kafka_pauses", "Times that reading paused because decoding was behind", &metrics.pauses),
            ("kafka_repeated", "Records received a second time and dropped", &metrics.repeated),
            ("kafka_restarts", "Times that a consumer was built anew after a fatal error", &metrics.restarts),
            ("kafka_revokes_unflushed", "Rebalances that did not wait for a flush to end", &metrics.revokes_unflushed),
        ] {
            let counter = ConstCounter::new(value.load(Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let partitions = metrics.partitions.read();
        let owned = || partitions.iter().filter(|(_, p)| p.owned.load(Relaxed));
        type Read = fn(&PartitionMetrics) -> i64;
        let gauges: [(&str, &str, Read); 5] = [
            ("kafka_lag", "Records in Kafka that are not in the lake", |p| p.lag() as i64),
            ("kafka_high_watermark", "End of the partition", |p| p.high.load(Relaxed)),
            ("kafka_paused", "1 while reading is paused", |p| p.paused.load(Relaxed).into()),
            ("kafka_stalled", "1 while there is more to read and nothing moves", |p| p.stalled.load(Relaxed).into()),
            (
                "kafka_stopped",
                "1 when the log was cut back behind the lake's position, 2 when retention removed unread records",
                |p| p.stopped.load(Relaxed).into(),
            ),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((topic, number), p) in owned() {
                let labels = [("topic", topic.to_string()), ("partition", number.to_string())];
                ConstGauge::new(value(p)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Why a partition stopped. Reading on would jump over records or read a different log; both need a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// The lake's position is beyond the end: the log was cut back, or the topic was created anew.
    Beyond = 1,
    /// The lake's position is before the oldest record: retention has removed what was not read yet.
    Removed = 2,
}

impl Stop {
    /// Whether a position can be read on from, given the watermarks.
    pub fn judge(position: i64, low: i64, high: i64) -> Option<Stop> {
        if position > high {
            Some(Stop::Beyond)
        } else if position < low {
            Some(Stop::Removed)
        } else {
            None
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Stop::Beyond => {
                "the lake's position is beyond the end of the partition: the log was cut back, or the topic was created anew"
            }
            Stop::Removed => {
                "the lake's position is before the oldest record: retention removed records that were not read"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_out_of_range_stop() {
        for (position, low, high, expected) in [
            (0, 0, 0, None),
            (5, 0, 5, None),
            (5, 5, 9, None),
            (6, 0, 5, Some(Stop::Beyond)),
            (4, 5, 9, Some(Stop::Removed)),
        ] {
            assert_eq!(Stop::judge(position, low, high), expected, "{position} in {low}..{high}");
        }
    }

    #[test]
    fn prometheus_sees_what_is_owned() {
        let metrics = Arc::new(KafkaMetrics::default());
        metrics.repeated.store(3, Relaxed);
        for (number, owned) in [(0, true), (1, false)] {
            let p = metrics.partition(&Arc::from("decisions"), number);
            p.owned.store(owned, Relaxed);
            p.position.store(4, Relaxed);
            p.high.store(9, Relaxed);
            p.stopped.store(Stop::Removed as u8, Relaxed);
        }
        let all = crate::metrics::Metrics::default();
        all.register(|r| r.register_collector(Box::new(Figures(metrics))));
        let text = all.encode();
        for line in [
            "catena_kafka_repeated_total 3",
            "catena_kafka_lag{topic=\"decisions\",partition=\"0\"} 5",
            "catena_kafka_stopped{topic=\"decisions\",partition=\"0\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("partition=\"1\""), "{text}");
    }

    #[test]
    fn lag_counts_what_is_not_in_the_lake() {
        for (position, next, fetch, high, expected) in [
            (-1, -1, -1, -1, 0),
            (0, 0, 0, 10, 10),
            (4, 9, 9, 10, 6),
            (9, 9, 10, 10, 0), // the last offset is a control record
            (10, 10, -1, 10, 0),
        ] {
            let m = PartitionMetrics::default();
            m.position.store(position, Relaxed);
            m.next.store(next, Relaxed);
            m.fetch.store(fetch, Relaxed);
            m.high.store(high, Relaxed);
            assert_eq!(m.lag(), expected, "position {position}, next {next}, fetch {fetch}, high {high}");
        }
    }
}
