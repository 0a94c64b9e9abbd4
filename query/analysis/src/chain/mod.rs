//! Chains: which calls hang together, along which path each was made, and how well that is known.
//!
//! Guarantee: see [`rules`]; what is drawn of a chain is bounded by [`Limits`] and says what it left out.

pub mod rules;

pub use rules::{Chain, Chains, Fact, Settings, Store, rebuild};

/// How much of a chain is drawn. What is left out is counted in the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels below the first line.
    pub depth: usize,
    /// Lines.
    pub lines: usize,
    /// Characters of a name.
    pub name: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth: 24, lines: 200, name: 80 }
    }
}

/// What is known of where a chain begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// Every call leads back to somebody.
    Root,
    /// A parent is missing.
    Orphan,
    /// A call names nobody on whose behalf it was made.
    Unknown,
}

impl Lineage {
    /// The lineage that a word names.
    pub fn parse(text: &str) -> Option<Lineage> {
        [Lineage::Root, Lineage::Orphan, Lineage::Unknown].into_iter().find(|l| l.as_str() == text)
    }

    /// As it stands in columns and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lineage::Root => "root",
            Lineage::Orphan => "orphan",
            Lineage::Unknown => "unknown",
        }
    }
}
