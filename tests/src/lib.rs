//! Tries the other rooms.
//!
//! What the tests share lives here. The feature `whole` brings the heavy rooms and real servers; without it only the
//! thinking rooms are built.

pub mod fleet;
#[cfg(feature = "whole")]
pub mod kafka;
#[cfg(feature = "whole")]
pub mod oracle;
