//! One binary, so that the whole links once.

mod against_model;
mod chains;
mod properties;
mod told;
