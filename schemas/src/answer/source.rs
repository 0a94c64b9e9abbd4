//! Sources: how much came from each, how complete it is, and what is missing.
//!
//! Guarantee: all figures of one answer are of one version of the lake.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All sources of a scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completeness {
    /// Version of the lake.
    pub lake_version: Option<u64>,
    /// Counts and gaps.
    #[serde(flatten)]
    pub found: Found,
}

/// Sources and their sequences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// Sources, in order of tenant, topic and format.
    pub sources: Vec<Source>,
    /// Sequences with gaps first, then the others.
    pub sequences: Vec<Sequence>,
}

/// One source: a topic, a file or the intake log, in one format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Tenant.
    pub tenant: String,
    /// Kafka topic, file or intake log.
    pub topic: String,
    /// Decoder.
    pub format: String,
    /// Rows of any kind.
    pub received: u64,
    /// Decisions, without duplicates.
    pub decisions: u64,
    /// Decisions that were received again.
    pub duplicates: u64,
    /// Records that could not be read.
    pub rejected: u64,
    /// Observed calls without a verdict.
    pub executions: u64,
    /// Records of authority: grants, exchanges, tools and so on.
    pub authority: u64,
    /// Records that were recognised and hold no fact.
    pub asides: u64,
    /// Decisions by outcome.
    pub by_outcome: BTreeMap<String, u64>,
    /// Rejections by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// For each field, the share of decisions that fill it: by `allow`, `deny` and `other`; absent where there are none.
    pub filled: BTreeMap<String, BTreeMap<String, f64>>,
    /// First arrival.
    pub first_seen: Option<String>,
    /// Last arrival.
    pub last_seen: Option<String>,
}

/// Sequence numbers of one instance of a producer, within one of its epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sequence {
    /// Tenant.
    pub tenant: String,
    /// Producer instance.
    pub source: Option<String>,
    /// Restart marker.
    pub epoch: Option<String>,
    /// Lowest number.
    pub first: i64,
    /// Highest number.
    pub last: i64,
    /// Different numbers that are in the lake.
    pub seen: u64,
    /// Numbers between `first` and `last` that are not.
    pub missing: u64,
}

/// Totals of a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the service.
    pub version: String,
    /// Version of the lake.
    pub lake_version: Option<u64>,
    /// Rows of any kind.
    pub received: u64,
    /// Decisions, without duplicates.
    pub decisions: u64,
    /// Decisions that were received again.
    pub duplicates: u64,
    /// Observed calls without a verdict.
    pub executions: u64,
    /// Records of authority.
    pub authority: u64,
    /// Records that could not be read.
    pub rejected: u64,
    /// Records that were recognised and hold no fact.
    pub asides: u64,
    /// Decisions by outcome.
    pub by_outcome: BTreeMap<String, u64>,
    /// Rejections by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Asides by reason.
    pub by_aside: BTreeMap<String, u64>,
    /// Partitions that records were read from, at most 500.
    pub sources: Vec<Partition>,
}

/// One partition that records were read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// Kafka topic, file or intake log.
    pub topic: Option<String>,
    /// Partition of the topic; null where the reader may not see positions.
    pub partition: Option<i32>,
    /// Decoder.
    pub format: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Lowest offset; null where the reader may not see positions.
    pub first_offset: Option<i64>,
    /// Highest offset; null where the reader may not see positions.
    pub last_offset: Option<i64>,
    /// Last arrival.
    pub last_seen: Option<String>,
}
