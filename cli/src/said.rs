//! What goes to standard error: lines of the log, errors, panics.
//!
//! Guarantee: no character that a terminal obeys, and no line break but our own, comes out of a value, whatever field or message it
//! comes in; what looks like a secret is removed as it is from a record. There is one way out for each: [`log`] for `tracing`,
//! [`error`] and [`panic`] for the rest. Logs have no colours: an escape in them is never ours.

use catena_analysis::text;
use catena_decode::Redactor;
use std::io::{self, Write};
use std::sync::LazyLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Equal secrets have equal markers within one run, and none can be tried out afterwards.
static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(rand::random()));

/// Sends the log to standard error.
pub(crate) fn log(filter: EnvFilter) {
    let lines = Lines(io::stderr as fn() -> io::Stderr);
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(lines).init();
}

/// Prints an error, and a hint unless it is empty. Its lines after the first are indented, so none of them looks like one of ours.
pub(crate) fn error(message: &str, hint: &str) {
    let hint = if hint.is_empty() { String::new() } else { format!("\n  hint: {hint}") };
    eprintln!("error: {}", indented(&format!("{message}{hint}")));
}

/// What a panic says, as one line: where it was, and its message without the text that it quotes.
pub(crate) fn panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = unquoted(panic.payload_as_str().unwrap_or("panicked"));
    eprintln!("panic in thread `{}` at {place}: {}", thread.name().unwrap_or("unnamed"), harmless(&message, "\\n"));
}

/// Lines after the first begin with spaces.
fn indented(text: &str) -> String {
    let indent = |line: &str| if line.starts_with(' ') { line.to_owned() } else { format!("  {line}") };
    harmless(text, "\n").split('\n').map(indent).collect::<Vec<_>>().join("\n").trim_start().to_owned()
}

/// A text with its secrets and harmful characters replaced, and its line breaks by `line_break`.
fn harmless(text: &str, line_break: &str) -> String {
    REDACTOR.line(text).lines().map(text::escape).collect::<Vec<_>>().join(line_break)
}

/// The standard library quotes the text that it could not slice, from a backtick on.
fn unquoted(message: &str) -> String {
    match message.split_once(" `") {
        Some((before, quoted)) if quoted.contains('`') => format!("{before} `…`"),
        _ => message.to_owned(),
    }
}

/// Writes each event of the log as one line.
#[derive(Clone)]
struct Lines<M>(M);

impl<'w, W: Write, M: Fn() -> W + 'w> MakeWriter<'w> for Lines<M> {
    type Writer = Line<W>;

    fn make_writer(&'w self) -> Line<W> {
        Line { to: self.0(), bytes: Vec::new() }
    }
}

/// One event: kept until it is whole.
struct Line<W: Write> {
    to: W,
    bytes: Vec<u8>,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Line<W> {
    fn drop(&mut self) {
        let event = String::from_utf8_lossy(&self.bytes);
        let event = event.strip_suffix('\n').unwrap_or(&event);
        let mut line = harmless(event, "\\n");
        line.push('\n');
        // Where the log cannot be written there is nowhere to say so.
        let _ = self.to.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Every way by which a value gets into an event.
    fn check(value: &str, expected: &str) {
        #[derive(Debug)]
        struct Quoting(String);
        impl std::fmt::Display for Quoting {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::error::Error for Quoting {}
        let kept = Kept::default();
        let to = kept.clone();
        let events = tracing_subscriber::fmt().with_ansi(false).with_writer(Lines(move || to.clone())).finish();
        tracing::subscriber::with_default(events, || {
            let error = Quoting(value.to_owned());
            tracing::warn!(error = %error, "by Display");
            tracing::warn!(error = ?error, "by Debug");
            tracing::warn!(error = &error as &dyn std::error::Error, "as an error");
            tracing::warn!(value, "as text");
            tracing::warn!("in the message: {value}");
            tracing::warn_span!("span", value).in_scope(|| tracing::warn!("in a span"));
        });
        let said = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.lines().count(), 6, "{said}");
        assert!(said.ends_with('\n') && !said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
        assert!(!said.contains('\u{202e}') && !said.contains("hunter2"), "{said}");
        assert!(said.matches(expected).count() >= 3, "{said}");
    }

    #[test]
    fn a_value_cannot_forge_a_line_of_the_log() {
        check("a\n2026-12-01T00:00:00Z ERROR fake\u{1b}[31m", "\\n2026-12-01T00:00:00Z ERROR fake\\u{1b}[31m");
        check("a\rb\u{9b}2Jc\u{202e}d", "a");
        check("https://app:hunter2-very-long@registry.example/", "[redacted:url_password:");
        check("sasl.password=hunter2-very-long", "[redacted:assignment:");
    }

    #[test]
    fn errors_and_panics() {
        assert_eq!(indented("a\nerror: b\u{1b}[2J\r\nc\n  d"), "a\n  error: b\\u{1b}[2J\n  c\n  d");
        let sliced = "byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `é secret` x";
        assert_eq!(unquoted(sliced), "byte index 1 is not a char boundary; it is inside 'é' (bytes 0..2) of `…`");
        assert_eq!(unquoted("called `Option::unwrap()` on a `None` value"), "called `…`");
        assert_eq!(unquoted("plain"), "plain");
    }
}
