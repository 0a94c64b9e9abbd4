//! Chains as answers.
//!
//! Guarantee: chains, calls and operations are named by texts, never by the numbers of a store, so equal chains of two stores are equal
//! answers. Calls are a flat list in which each names its parent: depth cannot hurt a reader.

use crate::wire::JsonObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A chain without its calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChainSummary {
    /// Tenant that the chain belongs to.
    pub tenant: String,
    /// `c-` and twenty hex digits.
    pub chain_id: String,
    /// What the id is derived from: `transaction`, `trace` or `event`.
    pub named_by: String,
    /// `open`, `settled` or `sealed`.
    pub state: String,
    /// `root`, `orphan` or `unknown`.
    pub lineage: String,
    /// Roots of the paths of its calls, sorted.
    pub requesters: Vec<String>,
    /// Other principals of these paths, sorted.
    pub agents: Vec<String>,
    /// Tools that were called, sorted.
    pub tools: Vec<String>,
    /// Servers that were called, each by its id or else its name, sorted.
    pub servers: Vec<String>,
    /// Time of the first call.
    pub started: String,
    /// Time of the last call.
    pub ended: String,
    /// Calls.
    pub events: u64,
    /// Logical calls: all attempts at one count once.
    pub operations: u64,
    /// Longest line of operations.
    pub depth: u32,
    /// Most operations that one operation led to.
    pub fanout: u32,
    /// Calls by outcome; outcomes without a call are absent.
    pub by_outcome: BTreeMap<String, u64>,
    /// Calls by source: `events`, and how many of them are `root`, `child`, `orphan`, `unknown` or `cycle_broken`.
    pub by_source: BTreeMap<String, BTreeMap<String, u64>>,
    /// Calls that were denied.
    pub denied: u64,
    /// Calls with a hop that widened what it was given.
    pub widened: u64,
    /// Calls that begin a line: they name no parent, and their requester is known.
    pub roots: u64,
    /// Calls whose parent is missing.
    pub orphans: u64,
    /// Calls that name neither a parent nor a requester.
    pub unknown: u64,
    /// Calls that were cut from a parent that led back to them.
    pub cycle_broken: u64,
    /// Confidence of the weakest path or link.
    pub confidence: f64,
    /// Share of hops that are known from records; null without a hop.
    pub coverage: Option<f64>,
    /// Share of calls with a known parent.
    pub link_coverage: f64,
    /// Version of the lake that the chain was rebuilt from.
    pub lake_version: Option<u64>,
}

/// A whole chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChainDetail {
    /// Its summary.
    #[serde(flatten)]
    pub summary: ChainSummary,
    /// Calls, in the order of time.
    pub calls: Vec<Call>,
    /// Logical calls, in the order of their first attempts.
    pub logical_calls: Vec<Operation>,
    /// References that no event of the lake answers to.
    pub missing: Vec<Missing>,
    /// Further parents that were left out: they would close a cycle, or the limit of steps was reached.
    pub secondary_skipped: u32,
}

/// One call of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// Id of the decision, unique within tenant and source.
    pub event_id: String,
    /// Producer instance.
    pub source: String,
    /// Digest of the decision's content, 32 hex digits.
    pub content: String,
    /// When it was decided, by the source's clock.
    pub time: String,
    /// `allow`, `deny`, `step_up`, `error` or `unknown`.
    pub outcome: String,
    /// First reason code.
    pub reason: Option<String>,
    /// Server that was called, by its id or else its name.
    pub server: Option<String>,
    /// Tool that was called.
    pub tool: Option<String>,
    /// Session of the agent, or else of MCP.
    pub session: Option<String>,
    /// Trace.
    pub trace: Option<String>,
    /// Decision that the call names as its parent, whether the lake has it or not.
    pub parent_decision: Option<String>,
    /// `root`, `child`, `orphan`, `unknown` or `cycle_broken`.
    pub standing: String,
    /// Anomalies.
    pub marks: Vec<String>,
    /// The call that led to this one.
    pub parent_event: Option<String>,
    /// `content` of that call.
    pub parent_content: Option<String>,
    /// Evidence for the parent, or else for membership in the chain: `C1` to `C9`.
    pub parent_tier: Option<String>,
    /// That evidence, in words.
    pub parent_evidence: Option<String>,
    /// Confidence in that evidence; null where there is none.
    pub confidence: Option<f64>,
    /// Further parents.
    pub secondary_parents: Vec<SecondaryParent>,
    /// The logical call that this one is an attempt at.
    pub operation_id: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Principals from the requester to the caller.
    pub path: Vec<Hop>,
    /// Confidence of the weakest hop.
    pub path_confidence: f64,
    /// Whether the call is within what was delegated: `in`, `out` or `unknown`. Absent where it was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_state: Option<String>,
    /// Index of the first hop that widened what it was given, from 0.
    pub widened_at: Option<u64>,
}

/// A further parent of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecondaryParent {
    /// The parent.
    pub event_id: String,
    /// Evidence for it.
    pub tier: String,
}

/// One principal of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// Id; null for an unknown requester.
    pub id: Option<String>,
    /// Issuer of the id.
    pub issuer: Option<String>,
    /// `human`, `client`, `agent` and so on.
    pub kind: Option<String>,
    /// Evidence for the principal: `P1` to `P10`.
    pub tier: String,
    /// That evidence, in words.
    pub evidence: String,
    /// Confidence in that evidence.
    pub confidence: f64,
    /// What the hop was allowed. Absent where it was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<HopAuthority>,
}

/// What one hop of a path was allowed, and what it claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HopAuthority {
    /// What is recorded for the hop; null where no record says.
    pub recorded: Option<Authority>,
    /// Kind of that record.
    pub recorded_by: String,
    /// Whether the recorded authority is within the hop before: `in`, `out` or `unknown`.
    pub within: String,
    /// What is recorded beyond the hop before; null where nothing is.
    pub widened_by: Option<Authority>,
    /// What the hop may do at most; null where no record says.
    pub bound: Option<Authority>,
    /// Whether the hop begins another trust domain.
    pub new_domain: bool,
    /// Re-authorization that allowed more.
    pub reauthorized_by: Option<String>,
}

/// What is allowed, by dimension. An absent dimension is unknown; an empty one allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Authority {
    /// Scopes of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<String>>,
    /// Resources (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Vec<String>>,
    /// Audiences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Vec<String>>,
    /// Authorization details (RFC 9396).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rar: Option<Vec<JsonObject>>,
    /// Capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Vec<Capability>>,
}

/// One thing that may be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capability {
    /// Tool server.
    pub server: String,
    /// Tool or action.
    pub action: String,
    /// Pattern of the resources; null for any.
    pub resource: Option<String>,
    /// Further conditions, as the text of a JSON object.
    pub constraints: Option<String>,
}

/// One logical call: all attempts at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// Source and event id of the first attempt.
    pub operation_id: String,
    /// Number of attempts.
    pub attempts: u32,
    /// The operation that led to this one.
    pub parent_operation: Option<String>,
    /// Outcome of the last attempt that was forwarded, or else of the last one.
    pub outcome: String,
    /// Whether an attempt was forwarded.
    pub forwarded: bool,
}

/// A reference that no event of the lake answers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// What is referred to: a decision, a span and so on.
    pub kind: String,
    /// Its names; a span has a trace and a span.
    pub names: Vec<String>,
    /// The earliest event that refers to it.
    pub named_by: String,
}
