//! Blast radius: what somebody reached, and what they could have reached; and of a tool, who did and who could have.
//!
//! Guarantee: whatever was reached and was not in reach by the grants that are recorded says `beyond`. An event that leaves the
//! parents and paths of others as they are only adds. Grants that nobody recorded are unknown, never guessed. One store,
//! one tenant.
//!
//! ```text
//!             what was reached                         what could have been
//!   start ──▶ places after it on the path     start ──▶ lines of grants that held together
//!             calls that these led to                   compared with what the catalogue says that a tool needs
//! ```
//!
//! | start | what is below it |
//! |---|---|
//! | a person, an agent | whoever comes after it on a path, and what its calls led to |
//! | a grant | its grantee, with the calls that name it or a grant derived from it |
//! | a tool, a server | the other way: on whose behalf and by whom it was called, directly or through another call |

mod could;
mod did;
mod found;
mod judge;

use super::pattern::Kind;
use super::{Chain, Store, Terms, TouchedNames};
use crate::authority::{Touched, Within};
use catena_schemas::{Micros, Outcome};
use could::Holdings;
use found::Found;
use judge::Judge;
use std::collections::{BTreeMap, BTreeSet};

/// Tokens that are compared with the catalogue.
const TOKENS_MAX: usize = 256;
/// Parties of a chain times its calls, when it is asked who reached a tool.
const WORK_MAX: usize = 50_000_000;

/// Whose reach is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A person, at the root of paths.
    Human(&'a str),
    /// Anybody who acts: an agent, a client, a workload.
    Actor(&'a str),
    /// A grant.
    Grant(&'a str),
    /// A tool of a server, all tools of a server, or a tool of whatever server.
    Tool {
        /// Tool server.
        server: Option<&'a str>,
        /// Tool.
        tool: Option<&'a str>,
    },
}

impl Start<'_> {
    /// Whether calls of a chain of a store can count for what was reached from here.
    pub fn may_reach<'s>(&'s self, store: &'s Store, terms: &Terms) -> impl Fn(&Chain) -> bool + 's {
        let mut touched = Touched::default();
        match *self {
            Start::Human(id) | Start::Actor(id) => _ = touched.parties.insert(id.to_owned()),
            Start::Grant(id) => terms.book.touch_grant(id, &mut touched),
            Start::Tool { .. } => {}
        }
        let touched = TouchedNames::of(store, &touched);
        move |chain| match *self {
            Start::Tool { server, tool } => {
                let is = |named: Option<&str>, wanted: Option<&str>| wanted.is_none() || named == wanted;
                let told = |link| chain.told(store, link);
                chain.links.iter().map(told).any(|told| is(told.server, server) && is(told.tool, tool))
            }
            _ => chain.rests_on(store, &touched),
        }
    }
}

/// A stretch of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
}

impl Default for Span {
    /// All time.
    fn default() -> Span {
        Span { from: Micros(i64::MIN), until: Micros(i64::MAX) }
    }
}

impl Span {
    fn holds(&self, at: i64) -> bool {
        (self.from.0..=self.until.0).contains(&at)
    }
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// On whose behalf.
    Requester,
    /// A client.
    Client,
    /// An agent.
    Agent,
    /// Somebody who acts, of another kind or of none that is recorded.
    Actor,
    /// A tool server.
    Server,
    /// A tool.
    Tool,
    /// A resource that a token or a grant names.
    Resource,
}

impl What {
    /// As it stands in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Requester => "requester",
            What::Client => "client",
            What::Agent => "agent",
            What::Actor => "actor",
            What::Server => "server",
            What::Tool => "tool",
            What::Resource => "resource",
        }
    }
}

/// Something in reach, or out of it and reached all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What.
    pub what: What,
    /// Server of a tool, where it is known.
    pub server: Option<String>,
    /// Id.
    pub id: String,
    /// Whether it was reached: somebody acted, a call went through.
    pub reached: bool,
    /// Decisions on the way to it, by outcome, without those of which there were none.
    pub by_outcome: BTreeMap<Outcome, u64>,
    /// Distinct operations that these belong to.
    pub operations: u64,
    /// Time of the first.
    pub first: Option<Micros>,
    /// Time of the last.
    pub last: Option<Micros>,
    /// The first of them that went through, else the first.
    pub example: Option<String>,
    /// Fewest steps.
    pub distance: Option<u32>,
    /// Whether it could have been reached.
    pub could: Within,
    /// Why: the grant that gives it, or what is missing.
    pub why: String,
    /// Reached, and not in reach by any grant.
    pub beyond: bool,
}

/// A blast radius.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Rows, each thing once, by kind, server and id.
    pub rows: Vec<Row>,
    /// There were more grants than are looked at: what is not found in reach is unknown.
    pub cut: bool,
}

/// What a start reached, and could have.
pub fn reach(store: &Store, chains: &[Chain], terms: &Terms, start: Start<'_>, span: Span) -> Reach {
    reach_among(&people(store, chains).collect(), store, chains, terms, start, span)
}

/// The same, of some chains: those that a start [`may_reach`](Start::may_reach) are enough. `people` are those of all chains.
pub fn reach_among(
    people: &BTreeSet<&str>,
    store: &Store,
    chains: &[Chain],
    terms: &Terms,
    start: Start<'_>,
    span: Span,
) -> Reach {
    let roots: BTreeSet<&str> =
        people.iter().copied().chain(if let Start::Human(id) = start { Some(id) } else { None }).collect();
    let mut holdings = Holdings::of(terms, &roots);
    let lines = holdings.all(span.from, span.until);
    let mut found = Found { store, span, rows: BTreeMap::new(), tokens: Vec::new(), cut: false };
    let mut judge = Judge { holdings: &holdings, lines, terms, span, cut: false };
    let rows = match start {
        Start::Tool { server, tool } => {
            for chain in chains {
                found.upwards(chain, server, tool);
            }
            judge.cap();
            judge.who(&mut found, server, tool)
        }
        start => {
            let begin = judge.begin(store, start);
            for chain in chains {
                found.downwards(chain, &begin);
            }
            judge.only(start);
            judge.cap();
            judge.what(&mut found, start)
        }
    };
    Reach { rows, cut: judge.cut || found.cut }
}

/// Ids that stand for persons on some path.
/// Persons on the paths of chains, as often as they stand there.
pub fn people<'s>(store: &'s Store, chains: &'s [Chain]) -> impl Iterator<Item = &'s str> {
    let paths = chains.iter().flat_map(|c| &c.paths);
    let hops = paths.flat_map(|p| p.hops.iter().enumerate()).filter(|(_, h)| h.id.is_some());
    hops.filter_map(|(i, h)| {
        let id = store.text(h.id);
        let kind = Kind::of(store.text(h.kind), id);
        let is_person = kind == Kind::Human || i == 0 && kind == Kind::Unknown && h.kind.is_none();
        is_person.then_some(id)
    })
}
