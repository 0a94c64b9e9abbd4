//! One binary, so that the whole links once.

mod against_model;
mod authority;
mod hostile;
mod patterns;
mod pictures;
mod properties;
mod reach;
mod samples;
mod stories;
mod told;
