//! The engine over real lakes, from outside.

mod lake;
mod sql;
