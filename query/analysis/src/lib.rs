//! Judges: given facts, says something about them.
//!
//! Guarantee: the same calls give the same judgement, on any day and in any order of arrival. This room knows no
//! clocks, no I/O, no async and no SQL.
//!
//! | module | holds |
//! |---|---|
//! | [`authority`] | what may be done, compared; effective bounds along a path |
//! | [`chain`] | calls to chains: who asked whom to call what, drawn as trees |
//! | [`fault`] | protections that tests switch off |
//! | [`text`] | names made harmless for a terminal |

pub mod authority;
pub mod chain;
pub mod fault;
pub mod text;
