//! Proves: an append-only log of hashes whose every state is one root, and short proofs about it.
//!
//! Guarantee: plain RFC 9162 (the tree of RFC 6962) and nothing invented, so that anybody's verifier agrees with ours.
//! This room knows no events, no tables, no storage and no clock: what a leaf stands for is the business of
//! `catena_schemas::canonical`, where it is kept that of the sealer.
//!
//! | module | holds |
//! |---|---|
//! | [`tree`] | leaf and node hashes, and the accumulator: the root of what was pushed so far |
//! | [`proof`] | inclusion and consistency proofs: made from a tree's nodes, checked from nothing but roots |

pub mod proof;
pub mod tree;

pub use tree::{Accumulator, Hash};
