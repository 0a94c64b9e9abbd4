//! `extra`: what of a record no field has.
//!
//! Guarantee: an object, or nothing when nothing is left. What was taken is not in it, everything else is, without secrets.

use crate::json::{Value, write_string};
use crate::redact::{Manner, Redactor, Taken, left};
use catena_schemas::event::Text;
use std::borrow::Cow;

/// `extra` under construction: an object whose members are given in order.
pub(crate) struct Extra<'x> {
    redactor: &'x Redactor,
    dirty: bool,
    taken: &'x Taken,
    out: String,
}

impl<'x> Extra<'x> {
    pub(crate) fn new(redactor: &'x Redactor, dirty: bool, taken: &'x Taken) -> Extra<'x> {
        Extra { redactor, dirty, taken, out: String::new() }
    }

    fn key(&mut self, key: &str) {
        self.out.push(if self.out.is_empty() { '{' } else { ',' });
        write_string(&if self.dirty { self.redactor.text(key) } else { Cow::Borrowed(key) }, &mut self.out);
        self.out.push(':');
    }

    /// A member, if anything of its value is left.
    pub(crate) fn member(&mut self, key: &str, value: Value<'_>) {
        if !left(value, self.taken) {
            return;
        }
        self.key(key);
        let manner = Manner { dirty: self.dirty, sorted: true, taken: Some(self.taken) };
        self.redactor.write_member(key, value, manner, &mut self.out);
    }

    /// A member as it stands, though some of it is told elsewhere or there is nothing in it but names.
    pub(crate) fn whole(&mut self, key: &str, value: Value<'_>) {
        self.key(key);
        let manner = Manner { dirty: self.dirty, sorted: true, taken: None };
        self.redactor.write_member(key, value, manner, &mut self.out);
    }

    /// A member of text.
    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        write_string(&self.redactor.text(text), &mut self.out);
    }

    /// The members of an object, sorted.
    pub(crate) fn members(&mut self, of: Value<'_>) {
        let mut members: Vec<_> = of.entries().collect();
        members.sort_unstable_by_key(|m| m.0);
        members.into_iter().for_each(|(key, v)| self.member(key, v));
    }

    pub(crate) fn finish(self) -> Text<'static> {
        self.finish_with("")
    }

    /// With members that another has written.
    pub(crate) fn finish_with(mut self, members: &str) -> Text<'static> {
        if !members.is_empty() {
            self.out.push(if self.out.is_empty() { '{' } else { ',' });
            self.out.push_str(members);
        }
        if self.out.is_empty() {
            return None;
        }
        self.out.push('}');
        Some(Cow::Owned(self.out))
    }

    /// The members as they stand inside the braces.
    pub(crate) fn into_members(mut self) -> String {
        if !self.out.is_empty() {
            self.out.remove(0);
        }
        self.out
    }
}
