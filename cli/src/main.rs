//! Assembles: arguments, settings and wiring; the binary `catena`.
//!
//! Guarantee: the only place that reads arguments, environment and files of settings, and the only one that prints. Data
//! goes to standard output, talk to standard error. Exit codes: 0 done, 1 error, 2 usage, 5 not found, 7 partial,
//! 78 bad configuration.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod commands;
mod config;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
