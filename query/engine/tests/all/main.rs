//! The engine over real lakes, from outside.

mod chains;
mod gate;
mod interop;
mod lake;
mod log;
mod parts;
mod prune;
mod sql;
mod watch;
