//! Rules for certain tools: the record is read once to learn its tools, and a second time under the rules for them.
//!
//! Guarantee: only records under rules are read twice, and what the first reading finds goes nowhere.

use super::rules::Scope;
use crate::{Format, Sink};
use catena_schemas::Event;
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;

/// Keeps the names of the tools, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    names: Vec<String>,
    /// Whether a decision names no tool, or a part of the record could not be read.
    nameless: bool,
}

impl Tools {
    /// What is known; nothing, unless all is.
    pub(crate) fn scope(self) -> Scope {
        if self.nameless || self.names.is_empty() { Scope::Unknown } else { Scope::Tools(self.names) }
    }
}

impl Sink for Tools {
    fn event(&mut self, event: &Event<'_>, _: Format) {
        match &event.tool.name {
            Some(name) if self.names.iter().any(|n| n == name) => {}
            Some(name) => self.names.push(name.to_string()),
            None => self.nameless = true,
        }
    }

    /// What grants something names tools that it is about, not one that was called.
    fn authority(&mut self, _: &Entry<'_>, _: Format) {
        self.nameless = true;
    }

    fn rejection(&mut self, _: Rejection, _: Format) {
        self.nameless = true;
    }

    fn aside(&mut self, _: Rejection, _: Format) {}
}
