//! Chains: which calls hang together, and along which path each was made.
//!
//! A call's path is requester -> actors, root first -> server -> tool. Calls of one tenant that share a session, a
//! trace or a parent decision are one chain. Within it, a call stands below the decision that led to it where that is
//! known; the others stand below their path. Guarantees:
//!
//! - any order of calls, and any repetition of them, gives the same chains, to the letter;
//! - calls of two tenants never stand in one chain, whatever they name;
//! - every call stands in exactly one chain, once;
//! - a call that names a parent that is not there is an orphan, said so, and not taken for a root;
//! - a ring of parents is cut at its earliest call, said so.

mod build;
mod render;
pub mod rules;

pub use build::build;
pub use render::Limits;

use catena_schemas::{Micros, Outcome};
use serde_json::{Value, json};

/// One decision on one call, as far as chains need it.
///
/// The order of fields is the order of calls: by time, then by id, then by everything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// Tenant: from authentication.
    pub tenant: String,
    /// When it was decided.
    pub time: Micros,
    /// Id of the decision.
    pub event_id: String,
    /// Session.
    pub session: Option<String>,
    /// Trace.
    pub trace: Option<String>,
    /// Id of the decision that led to this one.
    pub parent_decision: Option<String>,
    /// On whose behalf.
    pub requester: Option<String>,
    /// Who acts, root first.
    pub actors: Vec<String>,
    /// Tool server.
    pub server: Option<String>,
    /// Tool.
    pub tool: Option<String>,
    /// What the tool does.
    pub action: Option<String>,
    /// What was decided.
    pub outcome: Outcome,
    /// Why.
    pub reasons: Vec<String>,
}

impl Call {
    /// Requester and actors, root first; neighbours that are the same party stand once. An absent requester is `None`.
    pub fn parties(&self) -> Vec<Option<&str>> {
        let mut parties = vec![self.requester.as_deref()];
        parties.extend(self.actors.iter().map(|a| Some(a.as_str())));
        parties.dedup();
        parties
    }
}

/// Calls that hang together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Tenant of all its calls.
    pub tenant: String,
    /// Made of its smallest session, or trace, or event id: the same for the same calls.
    pub id: String,
    /// Calls, in order of time.
    pub calls: Vec<Call>,
    /// For each call, the call it stands below.
    pub parents: Vec<Option<usize>>,
    /// Calls that name a parent that is not there.
    pub orphans: Vec<usize>,
    /// Calls whose parent was cut off because it led back to them.
    pub cut: Vec<usize>,
    tree: Vec<Node>,
}

/// A place in the tree: a party, or a call.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    is: Is,
    children: Vec<usize>,
    /// Calls in and below it.
    calls: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    /// Holds the roots; always the first node.
    Top,
    /// A decision that is not there.
    Missing(String),
    /// A requester or an actor.
    Party(Option<String>),
    /// A call, by its place in `calls`.
    Call(usize),
}

/// What is known of where a chain begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// Every call leads back to a requester.
    Root,
    /// A parent is missing.
    Orphan,
    /// A call names no requester.
    Unknown,
}

impl Lineage {
    /// As it stands in columns and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lineage::Root => "root",
            Lineage::Orphan => "orphan",
            Lineage::Unknown => "unknown",
        }
    }
}

fn distinct<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Vec<&'a str> {
    let mut values: Vec<&str> = values.flatten().collect();
    values.sort_unstable();
    values.dedup();
    values
}

impl Chain {
    /// Sessions, sorted.
    pub fn sessions(&self) -> Vec<&str> {
        distinct(self.calls.iter().map(|c| c.session.as_deref()))
    }

    /// Traces, sorted.
    pub fn traces(&self) -> Vec<&str> {
        distinct(self.calls.iter().map(|c| c.trace.as_deref()))
    }

    /// Requesters, sorted.
    pub fn requesters(&self) -> Vec<&str> {
        distinct(self.calls.iter().map(|c| c.requester.as_deref()))
    }

    /// Time of the first call.
    pub fn started(&self) -> Micros {
        self.calls.first().map_or(Micros(0), |c| c.time)
    }

    /// Time of the last call.
    pub fn ended(&self) -> Micros {
        self.calls.last().map_or(Micros(0), |c| c.time)
    }

    /// Calls with an outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.calls.iter().filter(|c| c.outcome == outcome).count()
    }

    /// Whether it holds a decision.
    pub fn holds(&self, event_id: &str) -> bool {
        self.calls.iter().any(|c| c.event_id == event_id)
    }

    /// Where it begins.
    pub fn lineage(&self) -> Lineage {
        if !self.orphans.is_empty() {
            Lineage::Orphan
        } else if self.calls.iter().any(|c| c.requester.is_none()) {
            Lineage::Unknown
        } else {
            Lineage::Root
        }
    }

    /// Longest path of parties.
    pub fn depth(&self) -> usize {
        self.calls.iter().map(|c| c.parties().len()).max().unwrap_or(0)
    }

    /// The chain without its calls, as JSON.
    pub fn summary(&self) -> Value {
        let outcomes: serde_json::Map<String, Value> = Outcome::ALL
            .iter()
            .map(|o| (o.as_str().to_owned(), self.count(*o)))
            .filter(|(_, n)| *n > 0)
            .map(|(o, n)| (o, n.into()))
            .collect();
        json!({
            "tenant": self.tenant, "chain_id": self.id, "lineage": self.lineage().as_str(), "requesters": self.requesters(),
            "sessions": self.sessions(), "traces": self.traces(), "started": self.started().to_rfc3339(),
            "ended": self.ended().to_rfc3339(), "events": self.calls.len(), "depth": self.depth(), "by_outcome": outcomes,
            "orphans": self.orphans.len(), "cycle_broken": !self.cut.is_empty(),
        })
    }

    /// The chain as JSON. Calls are a flat list: each names its parent, so that no depth of nesting can hurt a reader.
    pub fn to_json(&self) -> Value {
        let mut all = self.summary();
        let calls: Vec<Value> = self
            .calls
            .iter()
            .enumerate()
            .map(|(at, call)| {
                json!({
                    "event_id": call.event_id, "time": call.time.to_rfc3339(), "outcome": call.outcome.as_str(),
                    "path": call.parties(), "server": call.server, "tool": call.tool, "action": call.action,
                    "reasons": call.reasons, "session": call.session, "trace": call.trace,
                    "parent_event": self.parents[at].map(|p| self.calls[p].event_id.as_str()),
                    "parent_decision": call.parent_decision,
                    "orphan": self.orphans.contains(&at), "cycle_broken": self.cut.contains(&at),
                })
            })
            .collect();
        all["calls"] = calls.into();
        all
    }
}
