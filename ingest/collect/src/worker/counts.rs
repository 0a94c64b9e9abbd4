//! What became of records, in figures.
//!
//! Guarantee: what is counted twice is said to be: duplicates are among the decisions, and never among the outcomes.

use std::collections::BTreeMap;

/// What became of records, counted in decisions, executions, records of authority, rejections and asides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records pushed.
    pub records: u64,
    /// Those of them that an earlier run had read: counted, and not read anew.
    pub read_before: u64,
    /// What the decoder made of them: facts, rejections and asides, counted before they became rows.
    pub received: u64,
    /// Decisions, duplicates included.
    pub decisions: u64,
    /// Executions, duplicates included. Never counted as decisions.
    pub executions: u64,
    /// Records of authority, duplicates included.
    pub authority: u64,
    /// Decisions that were there already.
    pub duplicates: u64,
    /// Executions and records of authority that were there already.
    pub repeated: u64,
    /// Rejections.
    pub rejected: u64,
    /// Recognised records that hold no fact.
    pub asides: u64,
    /// Decisions that are no duplicates, by outcome.
    pub by_outcome: BTreeMap<&'static str, u64>,
    /// Rejections by reason.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// Asides by reason.
    pub by_aside: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Facts: everything that landed and is neither a rejection nor an aside.
    pub fn facts(&self) -> u64 {
        self.decisions + self.executions + self.authority
    }

    /// Adds others.
    pub fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.read_before += other.read_before;
        self.received += other.received;
        self.decisions += other.decisions;
        self.executions += other.executions;
        self.authority += other.authority;
        self.duplicates += other.duplicates;
        self.repeated += other.repeated;
        self.rejected += other.rejected;
        self.asides += other.asides;
        for (into, from) in [
            (&mut self.by_outcome, &other.by_outcome),
            (&mut self.by_reason, &other.by_reason),
            (&mut self.by_aside, &other.by_aside),
        ] {
            for (key, n) in from {
                *into.entry(key).or_default() += n;
            }
        }
    }
}
