//! Tidy: the house rules as tests.
//!
//! Guarantees: who may depend on whom, who owns a heavy dependency, what every file starts with, which words never stand
//! in the repository, and that what the documents name is there. Needs none of the heavy crates, no network and no
//! build of them: it reads manifests and text. Each rule is a function from text to faults, and each is tried on
//! something broken, so that a rule that sees nothing is seen.

#![allow(clippy::disallowed_methods, reason = "a test finds cargo and its user in the environment")]

mod house;
mod map;
mod pages;
mod source;
mod words;

/// Fails with every fault, one a line.
#[track_caller]
fn clean(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} to tidy:\n  {}", faults.len(), faults.join("\n  "));
}
