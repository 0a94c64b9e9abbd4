//! Assembles: arguments, settings and wiring; the binary `catena`.
//!
//! Guarantee: the only place that reads arguments, environment and files of settings, and the only one that prints. Data
//! goes to standard output, talk to standard error. Exit codes: 0 done, 1 error, 2 usage, 5 not found,
//! 6 something to redact (`catena redact --exit-code`), 78 bad configuration, 141 the reader of the output has gone.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod commands;
mod config;
mod memory;
mod nearest;
mod said;

use std::process::ExitCode;

/// As a shell counts an end by SIGPIPE.
const READER_GONE: i32 = 141;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(move |panic| {
        // `catena ... | head` has read enough, and closed the pipe.
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            #[expect(clippy::disallowed_methods, reason = "there is no way back from here, and nothing left to write")]
            std::process::exit(READER_GONE);
        }
        said::panic(panic);
    }));
    commands::run()
}
