//! What a Kafka receiver is told, and what that means for librdkafka.
//!
//! Guarantee: the properties that exactly-once rests on cannot be set from outside; every other property is librdkafka's
//! own, and one that it does not know is refused at start, with its message.

use super::KafkaError;
use super::registry::Registry;
use catena_decode::Format;
use catena_decode::mapping::Mappings;
use rdkafka::config::ClientConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One topic to read.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How its records are read.
    pub format: Format,
    /// Whose they are.
    pub tenant: String,
    /// Raised by the operator when the topic was created anew under its old name: offsets start over.
    pub epoch: u32,
    /// Mappings that its records are read with first; those of all sources if absent.
    pub mappings: Option<Arc<Mappings>>,
    /// Where the schemas of framed records are; without it such records are decoded as they stand.
    pub registry: Option<Arc<Registry>>,
}

/// Where to begin with a partition that the lake holds no position of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// At its oldest record.
    #[default]
    Earliest,
    /// At its end, as of the first look; that place is recorded at once.
    Latest,
}

/// Settings of a Kafka receiver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port,...`.
    pub brokers: String,
    /// Consumer group: all collectors of one lake share it.
    pub group: String,
    /// Static membership: a name that is this collector's own and outlives a restart. Empty for a dynamic member.
    pub instance: String,
    /// Topics.
    pub topics: Vec<Topic>,
    /// Where to begin.
    pub first: First,
    /// Consumers, each with a thread that reads and one that decodes and commits.
    pub consumers: usize,
    /// Bytes between reading and decoding, per consumer. At 80 % reading pauses, at 50 % it goes on.
    pub buffer_bytes: usize,
    /// How long a rebalance waits for the flush of what is given up. What is not in the lake by then is read again.
    pub revoke_wait: Duration,
    /// How long a graceful stop may take.
    pub stop_wait: Duration,
    /// A partition that has more to read and has not moved for so long is reported.
    pub stall_after: Duration,
    /// Further properties of librdkafka: TLS, SASL, timeouts.
    pub properties: BTreeMap<String, String>,
    /// Switches for tests.
    #[cfg(feature = "faults")]
    pub faults: Faults,
}

/// Faults of Kafka that a test may play, and parts of the protection that it may switch off, to see that it fails then.
#[cfg(feature = "faults")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Begin so many records behind the position, as if librdkafka had.
    pub misplace: i64,
    /// Believe a gap at first sight.
    pub believe_gaps: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            brokers: String::new(),
            group: "catena".to_owned(),
            instance: String::new(),
            topics: Vec::new(),
            first: First::Earliest,
            consumers: 1,
            buffer_bytes: 32 << 20,
            revoke_wait: Duration::from_secs(5),
            stop_wait: Duration::from_secs(20),
            stall_after: Duration::from_secs(30),
            properties: BTreeMap::new(),
            #[cfg(feature = "faults")]
            faults: Faults::default(),
        }
    }
}

/// Properties that are not for setting, each with what decides it.
const OURS: &[(&str, &str)] = &[
    ("auto.commit.enable", "positions live in the lake"),
    ("auto.offset.reset", "a position out of range stops the partition, nothing else may happen"),
    ("bootstrap.servers", "use the brokers setting"),
    ("check.crcs", "always on"),
    ("enable.auto.commit", "positions live in the lake"),
    ("enable.auto.offset.store", "positions live in the lake"),
    ("enable.partition.eof", "not used"),
    ("group.id", "use the group setting"),
    ("group.instance.id", "use the instance setting"),
    ("group.protocol", "only the classic protocol is supported"),
    ("isolation.level", "records of aborted transactions are no decisions"),
    ("metadata.broker.list", "use the brokers setting"),
    ("partition.assignment.strategy", "eager assignment is what the flush on revoke rests on"),
    ("statistics.interval.ms", "the stall detector needs it"),
];

/// Our choice where librdkafka's default does not fit; open to setting.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "catena"),
    // The local queue: what librdkafka fetches ahead. 65,536 is the most that we allow.
    ("queued.max.messages.kbytes", "16384"),
    // How long fetching rests when that queue is full. The default of a second starves a fast reader.
    ("fetch.queue.backoff.ms", "20"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("topic.metadata.refresh.interval.ms", "60000"),
];

const QUEUED_KBYTES_MAX: u64 = 65_536;

impl Settings {
    /// librdkafka's configuration of consumer `number`.
    pub(super) fn consumer(&self, number: usize) -> Result<ClientConfig, KafkaError> {
        let mut config = self.watcher()?;
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("partition.assignment.strategy", "range")
            .set("statistics.interval.ms", "5000");
        if !self.instance.is_empty() {
            config.set("group.instance.id", format!("{}-{number}", self.instance));
        }
        Ok(config)
    }

    /// Configuration of the client that only asks for watermarks.
    pub(super) fn watcher(&self) -> Result<ClientConfig, KafkaError> {
        let refuse = |name: &str, why: &str| Err(KafkaError::Setting { name: name.to_owned(), why: why.to_owned() });
        for (name, missing) in
            [("brokers", self.brokers.is_empty()), ("topics", self.topics.is_empty()), ("group", self.group.is_empty())]
        {
            if missing {
                return refuse(name, "must be given");
            }
        }
        if self.consumers == 0 {
            return refuse("consumers", "must be at least 1");
        }
        let mut names: Vec<_> = self.topics.iter().map(|t| &t.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return refuse("topics", &format!("`{}` is named twice", twice[0]));
        }
        let mut config = ClientConfig::new();
        for (name, value) in DEFAULTS {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
                return refuse(name, why);
            }
            if name == "queued.max.messages.kbytes" && value.parse::<u64>().is_ok_and(|n| n > QUEUED_KBYTES_MAX) {
                return refuse(name, &format!("at most {QUEUED_KBYTES_MAX}"));
            }
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("isolation.level", "read_committed");
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::consumer::BaseConsumer;

    fn settings(properties: &[(&str, &str)]) -> Settings {
        let topic = Topic {
            name: "t".into(),
            format: Format::Catena,
            tenant: "main".into(),
            epoch: 0,
            mappings: None,
            registry: None,
        };
        Settings {
            brokers: "127.0.0.1:1".into(),
            topics: vec![topic],
            properties: properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            ..Settings::default()
        }
    }

    fn outcome(settings: &Settings) -> String {
        match settings.consumer(0).and_then(|c| c.create::<BaseConsumer>().map_err(KafkaError::from)) {
            Ok(_) => "accepted".into(),
            Err(e) => match std::error::Error::source(&e) {
                Some(cause) => format!("{e}: {cause}"),
                None => e.to_string(),
            },
        }
    }

    #[test]
    fn what_may_be_set() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "accepted"),
            (&[("fetch.wait.max.ms", "100"), ("session.timeout.ms", "6000")], "accepted"),
            (&[("security.protocol", "ssl")], "accepted"),
            (
                &[
                    ("security.protocol", "sasl_ssl"),
                    ("sasl.mechanisms", "SCRAM-SHA-256"),
                    ("sasl.username", "u"),
                    ("sasl.password", "p"),
                ],
                "accepted",
            ),
            (&[("enable.auto.commit", "true")], "kafka setting `enable.auto.commit`: positions live in the lake"),
            (&[("auto.offset.reset", "earliest")], "out of range"),
            (&[("queued.max.messages.kbytes", "1000000")], "at most 65536"),
            (&[("fetch.wait.max", "1")], "No such configuration property: \"fetch.wait.max\""),
            (&[("session.timeout.ms", "soon")], "Invalid value for configuration property"),
        ];
        for (properties, expected) in cases {
            let got = outcome(&settings(properties));
            assert!(got.contains(expected), "{properties:?}: {got}");
        }
    }

    #[test]
    fn what_must_be_given() {
        for (broken, expected) in [
            (Settings { brokers: String::new(), ..settings(&[]) }, "`brokers`: must be given"),
            (Settings { topics: Vec::new(), ..settings(&[]) }, "`topics`: must be given"),
            (Settings { consumers: 0, ..settings(&[]) }, "`consumers`: must be at least 1"),
        ] {
            assert!(outcome(&broken).contains(expected), "{}", outcome(&broken));
        }
    }
}
