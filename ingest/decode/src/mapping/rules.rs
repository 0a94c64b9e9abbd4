//! Rules of a mapping: conditions, ways to fill a field, and what decides an outcome.
//!
//! Guarantee: rules are tried in their order and the first whose conditions hold decides; when none does the outcome stays
//! unknown, unless the mapping says otherwise in so many words.

use super::pointer::{Pointer, Roots};
use super::removed::{Gone, masked};
use crate::json::{Kind, Value};
use catena_schemas::event::{Basis, Enforced, Outcome, Phase};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) enum Test {
    /// There, and not null.
    Exists,
    /// Not there, null, or an empty text.
    Missing,
    Equals(Vec<String>),
    Starts(Vec<String>),
    Ends(Vec<String>),
    Contains(Vec<String>),
    Is(Vec<Kind>),
    /// A number, or a text that is one, of at least this.
    AtLeast(f64),
    /// A text of this many hexadecimal digits, not all of them zero: an id of a trace.
    Hex(usize),
    /// The same scalar as stands there.
    Same(Pointer),
    /// A scalar that the table of outcomes knows.
    Outcome,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(super) pointer: Pointer,
    /// Where in each item of a list it looks; one that passes is enough.
    pub(super) each: Option<Pointer>,
    pub(super) test: Test,
}

impl Condition {
    /// Whether it asks about a part of the record that only an item has.
    pub(super) fn is_of_item(&self) -> bool {
        self.pointer.is_of_item() || matches!(&self.test, Test::Same(other) if other.is_of_item())
    }

    pub(super) fn holds(&self, roots: &Roots<'_>, outcomes: &OutcomeRule) -> bool {
        let found = self.pointer.follow(roots);
        match &self.each {
            None => self.passes(found, roots, outcomes),
            Some(each) => found.is_some_and(|list| list.items().any(|i| self.passes(each.from(i), roots, outcomes))),
        }
    }

    /// Whether what it asks about was taken out of the record, so that it neither holds nor fails.
    pub(super) fn gone(&self, roots: &Roots<'_>) -> Option<Gone> {
        let other = match &self.test {
            Test::Same(other) => other.gone(roots),
            // That something is there is known also when a mark stands for it.
            Test::Exists | Test::Missing if !roots.lists_removed() && self.pointer.follow(roots).is_some() => {
                return None;
            }
            _ => None,
        };
        self.pointer.gone(roots).or(other)
    }

    /// Whether it holds because a mark stands around what it finds missing.
    pub(super) fn absent_for_a_mark(&self, roots: &Roots<'_>) -> Option<Gone> {
        if matches!(self.test, Test::Missing) { self.gone(roots) } else { None }
    }

    fn passes(&self, found: Option<Value<'_>>, roots: &Roots<'_>, outcomes: &OutcomeRule) -> bool {
        if matches!(self.test, Test::Missing) {
            return found.is_none_or(|v| v.is_null() || v.as_str() == Some(""));
        }
        let Some(v) = found else { return false };
        let any = |texts: &[String], test: &dyn Fn(&str, &str) -> bool| {
            v.as_str().is_some_and(|s| texts.iter().any(|t| test(s, t)))
        };
        match &self.test {
            Test::Exists => !v.is_null(),
            Test::Missing => false,
            Test::Equals(texts) => v.as_scalar().is_some_and(|s| texts.iter().any(|t| t == s)),
            Test::Starts(texts) => any(texts, &|s, t| s.starts_with(t)),
            Test::Ends(texts) => any(texts, &|s, t| s.ends_with(t)),
            Test::Contains(texts) if v.kind() == Kind::Array => {
                v.items().filter_map(|i| i.as_scalar()).any(|s| texts.iter().any(|t| t == s))
            }
            Test::Contains(texts) => any(texts, &|s, t| s.contains(t)),
            Test::Is(kinds) => kinds.contains(&v.kind()),
            Test::AtLeast(least) => v.as_scalar().and_then(|s| s.parse::<f64>().ok()).is_some_and(|n| n >= *least),
            Test::Hex(digits) => v.as_str().is_some_and(|s| {
                s.len() == *digits && s.bytes().all(|b| b.is_ascii_hexdigit()) && s.bytes().any(|b| b != b'0')
            }),
            Test::Same(other) => {
                v.as_scalar().is_some_and(|s| other.follow(roots).and_then(|o| o.as_scalar()) == Some(s))
            }
            Test::Outcome => v.as_str().is_some_and(|s| outcomes.values.contains_key(s)),
        }
    }
}

/// Conditions of which all hold, and none of the contrary ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    pub(super) when: Vec<Condition>,
    pub(super) unless: Vec<Condition>,
}

impl Guard {
    pub(super) fn holds(&self, roots: &Roots<'_>, outcomes: &OutcomeRule) -> bool {
        self.when.iter().all(|c| c.holds(roots, outcomes)) && !self.unless.iter().any(|c| c.holds(roots, outcomes))
    }

    /// Whether it holds; `Err` when something that it asks about was taken out, and all else fits.
    fn judged(&self, roots: &Roots<'_>, outcomes: &OutcomeRule) -> Result<bool, Gone> {
        let mut found = None;
        for (condition, wanted) in self.when.iter().map(|c| (c, true)).chain(self.unless.iter().map(|c| (c, false))) {
            let fits = condition.holds(roots, outcomes) == wanted;
            // What fails to hold for a mark might have held.
            let gone = match fits && wanted && !roots.lists_removed() {
                true => condition.absent_for_a_mark(roots),
                false => condition.gone(roots),
            };
            if !fits && gone.is_none() {
                return Ok(false);
            }
            found = found.or(gone);
        }
        found.map_or(Ok(true), Err)
    }

    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.when.is_empty() && self.unless.is_empty()
    }

    /// Whether it asks about a part of the record that only an item has.
    pub(super) fn is_of_item(&self) -> bool {
        self.when.iter().chain(&self.unless).any(Condition::is_of_item)
    }
}

/// Where the content of a field comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Pointer(Pointer),
    Constant(String),
}

impl Origin {
    /// What its content is called in the record, if anything.
    pub(crate) fn name(&self) -> &str {
        match self {
            Origin::Pointer(pointer) => pointer.name(),
            Origin::Constant(_) => "",
        }
    }
}

/// One way to fill a field.
#[derive(Clone, Debug)]
pub(crate) struct Alternative {
    pub(crate) from: Origin,
    pub(crate) prefix: String,
    pub(crate) split: Option<String>,
    pub(crate) each: Option<Pointer>,
    /// A time without a zone is one of UTC.
    pub(crate) utc: bool,
    /// What stands there is its user's affair: what is no time is passed over.
    pub(crate) free: bool,
    /// The producer writes whole seconds, so that the order within one is not known.
    pub(crate) whole_seconds: bool,
    pub(super) guard: Guard,
    pub(super) cut: Cut,
}

impl Alternative {
    /// Whether it may be used on this record.
    pub(crate) fn applies(&self, roots: &Roots<'_>, outcomes: &OutcomeRule) -> bool {
        self.guard.holds(roots, outcomes)
    }

    /// What its content is called in the record, if anything.
    pub(crate) fn name(&self) -> &str {
        let each = self.each.as_ref().map(Pointer::name).filter(|name| !name.is_empty());
        each.unwrap_or_else(|| self.from.name())
    }

    /// Whether text is taken as it stands.
    pub(crate) fn is_whole(&self) -> bool {
        self.cut.after.is_none() && self.cut.before.is_none() && self.cut.lookup.is_none()
    }

    /// What a text stands for; `None` when a separator is not in it, or the table does not know it.
    pub(crate) fn word<'t, 'm: 't>(&'m self, text: &'t str) -> Option<&'t str> {
        let mut text = text;
        if let Some(separator) = &self.cut.after {
            text = text.split_once(separator.as_str())?.1;
        }
        if let Some(separator) = &self.cut.before {
            text = text.split_once(separator.as_str())?.0;
        }
        if let Some(table) = &self.cut.lookup {
            text = table.get(text)?;
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Which part of a text is meant, and what it means.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
    pub(super) lookup: Option<BTreeMap<String, String>>,
}

/// What a rule says of a decision.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) outcome: Outcome,
    pub(crate) basis: Basis,
    pub(crate) enforced: Option<Enforced>,
    pub(crate) phase: Option<Phase>,
    pub(crate) reasons: Vec<String>,
}

/// One rule of an outcome.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) guard: Guard,
    pub(super) said: Said,
}

/// How the outcome is read: rules in their order, then the table, then what is said otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutcomeRule {
    pub(super) from: Vec<Pointer>,
    pub(super) values: BTreeMap<String, Outcome>,
    pub(crate) basis: Option<Basis>,
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: Option<Said>,
}

/// An outcome, and by what it was decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decided<'t> {
    /// By a rule, of which this is the number from 1, or by what is said otherwise (0).
    Rule(&'t Said, usize),
    /// By the table, from this value.
    Table(Outcome, Value<'t>),
    /// By nobody: what would decide was taken out of the record.
    Removed(Gone),
}

impl OutcomeRule {
    /// Whether a rule (0 is what is said otherwise) asks nothing of the record.
    pub(super) fn is_blind(&self, number: usize) -> bool {
        number.checked_sub(1).is_none_or(|at| self.rules[at].guard.is_empty())
    }

    /// What the rules, the table and what is said otherwise decide.
    pub(super) fn decide<'t>(&'t self, roots: &Roots<'t>) -> Option<Decided<'t>> {
        for (at, rule) in self.rules.iter().enumerate() {
            match rule.guard.judged(roots, self) {
                Ok(true) => return Some(Decided::Rule(&rule.said, at + 1)),
                Ok(false) => {}
                Err(gone) => return Some(Decided::Removed(gone)),
            }
        }
        match self.read(roots) {
            Some(Ok((outcome, v))) => Some(Decided::Table(outcome, v)),
            Some(Err(gone)) => Some(Decided::Removed(gone)),
            None => self.otherwise.as_ref().map(|said| Decided::Rule(said, 0)),
        }
    }

    /// What the table says, by the first value that it knows; `Err` when one before it was taken out.
    pub(crate) fn read<'t>(&self, roots: &Roots<'t>) -> Option<Result<(Outcome, Value<'t>), Gone>> {
        for pointer in &self.from {
            let found = pointer.follow(roots);
            let known = found.and_then(|v| Some((self.word(v.as_scalar()?)?, v)));
            // A record that lists what was taken out may have written a word over another.
            if (known.is_none() || roots.lists_removed() || found.is_some_and(masked))
                && let Some(gone) = pointer.gone(roots)
            {
                return Some(Err(gone));
            }
            if let Some(known) = known {
                return Some(Ok(known));
            }
        }
        None
    }

    /// Whether there is a word at all, known to the table or not.
    pub(crate) fn named(&self, roots: &Roots<'_>) -> bool {
        self.from.iter().filter_map(|p| p.follow(roots)).any(|v| v.as_scalar().is_some_and(|s| !s.is_empty()))
    }

    /// What a word means.
    pub(crate) fn word(&self, word: &str) -> Option<Outcome> {
        self.values.get(word).copied()
    }

    /// The pointer of the table that led to a value.
    pub(super) fn pointer<'t>(&self, roots: &Roots<'t>, value: Value<'t>) -> Option<&Pointer> {
        self.from.iter().find(|p| p.follow(roots).is_some_and(|v| v.index() == value.index()))
    }
}

/// Holds records aside.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    pub(super) guard: Guard,
    pub(crate) reason: &'static str,
    /// What of the record is told of it.
    pub(crate) detail: Option<Pointer>,
}

impl Aside {
    /// Whether it asks nothing, and so holds everything aside that no rule before it knows.
    pub(crate) fn is_for_all(&self) -> bool {
        self.guard.is_empty()
    }

    /// Whether a record, or an item of one when `item` is set, is held aside.
    pub(crate) fn holds(&self, roots: &Roots<'_>, outcomes: &OutcomeRule, item: bool) -> bool {
        self.guard.is_of_item() == item && self.guard.holds(roots, outcomes)
    }
}

/// What a record fans out over.
#[derive(Clone, Debug)]
pub(crate) struct Fan {
    /// The list, or the object.
    pub(crate) each: Pointer,
    pub(crate) pair: Option<Pairing>,
}

/// A second list whose items belong to those of the first.
#[derive(Clone, Debug)]
pub(crate) struct Pairing {
    pub(crate) with: Pointer,
    /// Member of the item, and of the other, that are equal; without, position counts. Into an object, the item's member
    /// is the name looked up.
    pub(crate) by: Option<(Pointer, Option<Pointer>)>,
    /// Other pairs of members, tried in their order for what is still alone.
    pub(crate) also: Vec<Also>,
}

/// Another way to tell what belongs together.
#[derive(Clone, Debug)]
pub(crate) struct Also {
    pub(crate) item: Pointer,
    pub(crate) other: Pointer,
    /// What the item's words are called by the other.
    pub(crate) lookup: Option<BTreeMap<String, String>>,
}
