//! Delegation chains as lines of text, for tests.

mod arbitrary;

pub use arbitrary::{events, rejections, string, time};
