//! Shows the numbers of a Kafka receiver to Prometheus.

use super::KafkaMetrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The numbers as figures; every name gets the prefix `catena_`.
pub struct Exported(pub Arc<KafkaMetrics>);

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exported")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    topic: String,
    partition: i32,
}

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let m = &self.0;
        for (name, help, value) in [
            ("kafka_commits", "Flushes that landed", &m.commits),
            ("kafka_fenced", "Flushes refused because another collector owns a partition", &m.fenced),
            ("kafka_failures", "Flushes that did not land for other reasons", &m.failures),
            ("kafka_assignments", "Assignments received", &m.assignments),
            ("kafka_revokes_unflushed", "Revocations that could not wait for the flush", &m.revokes_unflushed),
            ("kafka_pauses", "Times that partitions were paused for memory", &m.pauses),
            ("kafka_errors", "Errors of librdkafka", &m.errors),
        ] {
            let counter = ConstCounter::new(value.load(Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let partitions: Vec<_> = m.partitions.read().iter().map(|(key, p)| (key.clone(), p.clone())).collect();
        type Read = fn(&super::PartitionMetrics) -> i64;
        let gauges: [(&str, &str, Read); 6] = [
            ("kafka_lag", "Records in Kafka that are not in the lake", |p| p.lag() as i64),
            ("kafka_high_watermark", "End of the partition", |p| p.high.load(Relaxed)),
            ("kafka_owned", "1 while this collector owns the partition", |p| i64::from(p.owned.load(Relaxed))),
            ("kafka_paused", "1 while paused for memory", |p| i64::from(p.paused.load(Relaxed))),
            ("kafka_stalled", "1 while there is more to read and nothing moves", |p| i64::from(p.stalled.load(Relaxed))),
            ("kafka_stopped", "Not 0 while the partition waits for a person", |p| i64::from(p.stopped.load(Relaxed))),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((topic, partition), p) in &partitions {
                let labels = Partition { topic: topic.to_string(), partition: *partition };
                let gauge = ConstGauge::new(read(p));
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
