//! The ways in. They look alike and stay apart until something really is the same.

pub mod file;
pub mod http;
pub mod intake;
pub mod kafka;
mod keep;
mod seats;
pub mod syslog;
mod traffic;

pub use keep::{Answer, Keeper, RecordError};
