//! One binary, so that the whole links once.

mod against_model;
mod authority;
mod chains;
mod hostile;
mod properties;
mod samples;
mod stories;
mod told;
