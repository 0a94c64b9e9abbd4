//! The engine over real lakes, from outside.

mod answers;
mod bombs;
mod chains;
mod gate;
mod interop;
mod lake;
mod layers;
mod log;
mod parts;
mod prune;
mod sql;
mod watch;
mod watched;
