//! One file per producer's dialect.

pub mod catena;
