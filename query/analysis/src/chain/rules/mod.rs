//! The rules of delegation chains: decisions in, chains out.
//!
//! A pure function of the *set* of facts told. Guarantees, each hunted by a test of its name in `query/analysis/tests`:
//!
//! - any order of facts, and any repetition, gives the same chains: ids, parents, ghosts, cuts, paths, to the letter;
//! - one tenant's chains depend on no other tenant's data: each tenant has a store of its own;
//! - every event stands in one chain, once; following parents ends, secondary ones included;
//! - more events only bring chains together, never part them; a late parent is as good as an early one;
//! - weak evidence (trace, session, nearness) never joins two subjects;
//! - a root, an orphan and an event of unknown origin are three different things.
//!
//! ```text
//!  Fact ──tell──▶ Store      texts become numbers, events become a set
//!                   │
//!                keys        own · reference · group · window, from what an event carries
//!                   │
//!                 sets       union-find over shared keys: membership
//!                   │
//!        forest ─ operation ─ path      per chain: parents, attempts, principals
//! ```
//!
//! Two questions are kept apart: which call led to which ([`evidence::Call`], C1 to C9), and who let whom act
//! ([`evidence::Principal`], P1 to P10). `act` answers the second and never the first.
//!
//! State that outlives a process is the lake's: [`watch::Watcher`] can be rebuilt from the events of the chains that are
//! not sealed, and from what was published of them.

mod answer;
mod asleep;
mod bounded;
mod dot;
mod draw;
pub mod evidence;
mod exchange;
pub mod fact;
mod find;
mod footprints;
mod forest;
mod judge;
mod keys;
pub mod layers;
mod operation;
mod path;
pub mod pattern;
pub mod reach;
mod store;
mod svg;
mod tell;
mod texts;
pub mod ties;
pub mod watch;

pub use answer::Observed;
pub use bounded::{Terms, TouchedNames};
pub use evidence::Confidence;
pub use exchange::Exchanged;
pub use fact::{Fact, FactOf, Lists, NamedFact, Party, PartyOf, Proof, Protocol, Via};
pub use find::Index;
pub use judge::{Chains, rebuild, rebuild_some};
pub use keys::Kind;
pub use path::{Hop, Path};
pub use store::{Listener, Store};
pub use tell::Told;
pub use texts::{Lexicon, Name, Words};

use evidence::Call;
use store::NOBODY;

/// What can be set about the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Silence that parts a session.
    pub session_gap_us: i64,
    /// Silence that parts calls which only have their caller in common.
    pub near_gap_us: i64,
    /// How late events are expected: a chain is settled that long after its last event.
    pub lateness_us: i64,
    /// A chain is sealed that long after its last event.
    pub seal_us: i64,
    /// Events of one chain from which on it is called oversized.
    pub events_max: u32,
    /// Principals of one path; of a longer one the first and the last are kept, and the event is marked.
    pub hops_max: u32,
    /// Steps per event that the search for cycles of further parents may take; parents that are left then are counted as
    /// skipped.
    pub join_steps: u32,
    /// Threads for the judging of chains.
    pub threads: usize,
}

const MINUTE_US: i64 = 60_000_000;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            session_gap_us: 30 * MINUTE_US,
            near_gap_us: 10 * MINUTE_US,
            lateness_us: 15 * MINUTE_US,
            seal_us: 24 * 60 * MINUTE_US,
            events_max: 100_000,
            hops_max: 64,
            join_steps: 64,
            threads: 1,
        }
    }
}

/// How an event stands in its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It has a parent.
    Child,
    /// It names no parent, and somebody on whose behalf it was made.
    Root,
    /// It names a parent that is not here.
    Orphan,
    /// It names neither.
    #[default]
    Unknown,
    /// Its parent was cut off, because it led back to it.
    Cut,
}

impl Standing {
    /// As it stands in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Child => "child",
            Standing::Root => "root",
            Standing::Orphan => "orphan",
            Standing::Unknown => "unknown",
            Standing::Cut => "cycle_broken",
        }
    }
}

/// Something odd about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mark {
    /// References to more than one parent.
    Several,
    /// References to parents that have nothing to do with each other, from different witnesses.
    Conflict,
    /// A reference that no event answers to.
    Missing,
    /// The same id came with other content too.
    Mutated,
    /// Its parent acts for somebody else.
    RootDiffers,
    /// Actors of its parent are gone from its verified path, and nobody said that some may be missing.
    Truncated,
    /// Its path has more principals than are kept.
    PathCapped,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Mark; 7] = [
        Mark::Several,
        Mark::Conflict,
        Mark::Missing,
        Mark::Mutated,
        Mark::RootDiffers,
        Mark::Truncated,
        Mark::PathCapped,
    ];

    /// As it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mark::Several => "several_parents",
            Mark::Conflict => "evidence_conflict",
            Mark::Missing => "parent_missing",
            Mark::Mutated => "record_mutated",
            Mark::RootDiffers => "root_differs",
            Mark::Truncated => "path_truncated",
            Mark::PathCapped => "path_capped",
        }
    }
}

/// A set of marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks(u8);

impl Marks {
    fn set(&mut self, mark: Mark) {
        self.0 |= 1 << mark as u8;
    }

    /// Whether a mark is set.
    pub fn has(self, mark: Mark) -> bool {
        self.0 & (1 << mark as u8) != 0
    }
}

/// An event in its chain. Places are places in [`Chain::links`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub(crate) row: u32,
    parent: u32,
    /// By what the parent is known; without a parent, by what it belongs to its chain.
    pub tier: Option<Call>,
    /// How well.
    pub confidence: Confidence,
    /// How it stands.
    pub standing: Standing,
    /// What is odd.
    pub marks: Marks,
    /// Place of its operation.
    pub operation: u32,
    /// Which attempt at it, from 1.
    pub attempt: u32,
    /// Place of its path.
    pub path: u32,
}

impl Link {
    fn of(row: u32) -> Link {
        Link {
            row,
            parent: NOBODY,
            tier: None,
            confidence: Confidence(0),
            standing: Standing::Unknown,
            marks: Marks::default(),
            operation: 0,
            attempt: 0,
            path: 0,
        }
    }

    /// The primary parent.
    pub fn parent(&self) -> Option<usize> {
        (self.parent != NOBODY).then_some(self.parent as usize)
    }
}

/// A further parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secondary {
    /// Place of the child.
    pub child: u32,
    /// Place of the parent.
    pub parent: u32,
    /// By what it is known.
    pub tier: Call,
}

/// One logical call: its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Place of the first attempt.
    pub first: u32,
    /// Place of the last attempt.
    pub last: u32,
    /// How many.
    pub attempts: u32,
    /// Place of the operation that led to it, or `u32::MAX`.
    parent: u32,
    /// Place of the attempt whose outcome counts: the last that went through, else the last.
    pub decided_by: u32,
    forwarded: bool,
}

impl Operation {
    /// The operation that led to it.
    pub fn parent(&self) -> Option<usize> {
        (self.parent != NOBODY).then_some(self.parent as usize)
    }

    /// Whether an attempt went through.
    pub fn forwarded(&self) -> bool {
        self.forwarded
    }
}

/// What names a chain: the smallest key of the strongest class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedBy {
    /// A transaction or workflow.
    Transaction,
    /// A trace.
    Trace,
    /// Its earliest event.
    Event,
}

/// A reference that no event answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ghost {
    /// What is named.
    pub kind: Kind,
    /// Its names; a span has a trace and a span.
    pub names: [Name; 2],
    /// Place of the earliest event that names it.
    pub by: u32,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// `c-` and twenty hex digits over the tenant and the key that names it.
    pub id: String,
    /// What names it.
    pub named_by: NamedBy,
    /// Events, in the order of time.
    pub links: Vec<Link>,
    /// Operations, in the order of their first attempts.
    pub operations: Vec<Operation>,
    /// Further parents, in the order of events.
    pub secondary: Vec<Secondary>,
    /// Further parents that would close a cycle, or were not tried.
    pub secondary_skipped: u32,
    /// What is missing, each once.
    pub ghosts: Vec<Ghost>,
    /// Distinct principal paths.
    pub paths: Vec<Path>,
    /// Longest line of operations: attempts at one call count once.
    pub depth: u32,
    /// Most operations that one led to.
    pub fanout: u32,
}
