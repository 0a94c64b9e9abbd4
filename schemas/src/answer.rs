//! Answers: what the engine, the HTTP API and the command line say about a lake, as types.
//!
//! Guarantee: one type per answer. The engine fills it, the HTTP API and `--json` serialise it, the command line prints it, and its
//! JSON Schema comes from [`schemars`]. A value that no record has is `null` and never an invented default; members are added, and never
//! renamed or removed. Instants are RFC 3339 in UTC; shares and confidences are between 0 and 1.
//!
//! | module | holds |
//! |---|---|
//! | [`chain`] | chains: a summary for lists, all calls for one chain |
//! | [`why`] | one decision: what it says, its grants, executions and chain |
//! | [`source`] | counts, fill rates and gaps of each source; totals of a lake |

pub mod chain;
pub mod source;
pub mod why;

pub use chain::{Call, ChainDetail, ChainSummary};
pub use source::{Completeness, Source, Status};
pub use why::Why;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of a successful answer of the HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer<T> {
    /// What was asked for.
    pub data: T,
    /// What the answer reflects.
    pub meta: Meta,
}

/// What an answer reflects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Meta {
    /// Version of the lake; null before its first commit.
    pub lake_version: Option<u64>,
    /// Of a list: how many items match, listed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A refusal, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What kind of problem it is, for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code, for programs.
    pub code: String,
    /// What is wrong with this request, and what to do about it.
    pub detail: String,
}

impl Problem {
    /// Media type of a problem as JSON.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";
}
