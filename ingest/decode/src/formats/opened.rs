//! Texts of a record that stand for more: JSON written as text, and text escaped for HTML.
//!
//! Guarantees: a text is taken for JSON only where its format says that one may stand, when it begins as one does and parses; all else
//! comes out as it was. What a text holds is unescaped text by text, before the whole becomes one: an escape that stands for a quote
//! cannot end the text it is in. A record in which nothing stands for more is not written anew.

mod html;

use crate::json::{Tape, Value, write_string};
use crate::redact::Taken;

/// Those of a record's values that may stand for more.
pub(super) struct Opening<'b, J, H> {
    /// May hold JSON.
    pub(super) json: J,
    /// How a text begins that does.
    pub(super) begin: &'b [char],
    /// Escaped for HTML, with all texts inside them.
    pub(super) html: H,
}

impl<'t, 'b, J: Iterator<Item = Value<'t>>> Opening<'b, J, std::iter::Empty<Value<'t>>> {
    pub(super) fn json(json: J, begin: &'b [char]) -> Self {
        Opening { json, begin, html: std::iter::empty() }
    }
}

impl<'t, J: Iterator<Item = Value<'t>>, H: Iterator<Item = Value<'t>>> Opening<'_, J, H> {
    /// The record with what these texts stand for in their places; `None` when they stand for nothing else.
    pub(super) fn of(self, root: Value<'t>, scratch: &mut Tape) -> Option<String> {
        let (mut holding, mut escaped) = (Taken::default(), Taken::default());
        let mut any = false;
        let mut mark = |v, marked: &mut Taken| {
            marked.insert(v);
            any = true;
        };
        for v in self.html {
            each_text(v, &mut |v, s| {
                if html::unescaped(s).is_some() {
                    mark(v, &mut escaped);
                }
            });
        }
        for v in self.json {
            if v.as_str().is_some_and(|s| s.starts_with(self.begin) && scratch.parse(s.as_bytes()).is_ok()) {
                mark(v, &mut holding);
            }
        }
        if !any {
            return None;
        }
        let mut out = String::with_capacity(root.source().len());
        root.write_with(&mut out, &mut |_, v, out| match v.as_str() {
            Some(s) if holding.contains(v) && escaped.contains(v) => match scratch.parse(s.as_bytes()) {
                Ok(held) => held.write_with(out, &mut |_, v, out| write_unescaped(v, out)),
                Err(_) => write_string(s, out),
            },
            Some(s) if holding.contains(v) => out.push_str(s),
            Some(_) if escaped.contains(v) => write_unescaped(v, out),
            Some(s) => write_string(s, out),
            None => out.push_str(v.source()),
        });
        Some(out)
    }
}

/// Every text of a value. Recursive: the parser has bounded the depth.
fn each_text<'t>(v: Value<'t>, visit: &mut dyn FnMut(Value<'t>, &'t str)) {
    v.as_str().into_iter().for_each(|s| visit(v, s));
    v.items().for_each(|item| each_text(item, visit));
    v.entries().for_each(|(_, member)| each_text(member, visit));
}

fn write_unescaped(v: Value<'_>, out: &mut String) {
    match v.as_str() {
        Some(s) => write_string(html::unescaped(s).as_deref().unwrap_or(s), out),
        None => out.push_str(v.source()),
    }
}
