//! Values as JSON, with what is secret in them replaced.
//!
//! Guarantee: every string and every name that is written has been looked at (in a suspected record), every value under a
//! telling name is replaced, and rules of the rule file come first. Recursive: the parser has bounded the depth.

use super::dry_run::Watch;
use super::names::{self, Says};
use super::{Action, Manner, Redactor, Why, blocks, commands, left, places};
use crate::json::{Kind, Value, write_string};
use std::borrow::Cow;
use std::collections::VecDeque;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is looked at.
    Look,
    /// The same, and it is a secret if it looks random.
    Perhaps,
    /// The same, and nothing below it is telling by its name.
    Keep,
    /// It is a secret, all of it.
    Secret(Why),
    /// All of it becomes digests.
    Digest,
    /// It is not looked at.
    Never,
}

/// Items of a list before an option in which its program is looked for.
const COMMAND_ITEMS_MAX: usize = 16;

pub(crate) struct Writer<'w> {
    redactor: &'w Redactor,
    manner: Manner<'w>,
    depth: u8,
    /// Names down to the value at hand; kept only for rules.
    path: Option<Vec<String>>,
    watch: Option<&'w mut Watch>,
    found: bool,
    /// Whether the record was rejected: a text that is a line of a key by its look alone goes too.
    rejected: bool,
}

impl<'w> Writer<'w> {
    pub(crate) fn new(
        redactor: &'w Redactor,
        manner: Manner<'w>,
        depth: u8,
        watch: Option<&'w mut Watch>,
    ) -> Writer<'w> {
        let path = redactor.rules.has_rules().then(Vec::new);
        Writer { redactor, manner, depth, path, watch, found: false, rejected: false }
    }

    /// The same for a record that was rejected.
    pub(crate) fn of_rejected(self) -> Writer<'w> {
        Writer { rejected: true, ..self }
    }

    /// What is one of the lines of a private key, whatever it looks like.
    pub(crate) fn key_line(&mut self, line: &str, out: &mut String) {
        self.found = true;
        if let Some(watch) = &mut self.watch {
            watch.whole(line, blocks::KIND, Why::Shape);
        }
        write_string(&self.redactor.marker(blocks::KIND, line.as_bytes()), out);
    }

    /// Whether anything was replaced.
    pub(crate) fn found(&self) -> bool {
        self.found
    }

    /// Says where in the event the value stands.
    pub(crate) fn enter(&mut self, name: &str) {
        if let Some(path) = &mut self.path {
            path.push(name.to_owned());
        }
    }

    pub(crate) fn value(&mut self, value: Value<'_>, out: &mut String) {
        self.write(value, Fate::Look, out);
    }

    /// The value of a whole column, which a rule may name.
    pub(crate) fn root(&mut self, value: Value<'_>, out: &mut String) {
        let fate = self.ruled().unwrap_or(Fate::Look);
        self.write(value, fate, out);
    }

    pub(crate) fn secret(&mut self, value: Value<'_>, out: &mut String) {
        self.write(value, Fate::Secret(Why::Name), out);
    }

    /// The value of a member of which the name is known.
    pub(crate) fn named(&mut self, key: &str, value: Value<'_>, out: &mut String) {
        self.member(key, value, (Fate::Look, Fate::Look), out);
    }

    /// A member, with what becomes of the object it is one of, and what the name beside it says of it.
    fn member(&mut self, key: &str, value: Value<'_>, (above, beside): (Fate, Fate), out: &mut String) {
        self.enter(key);
        if let Some(watch) = &mut self.watch {
            watch.enter(key);
        }
        let fate = self.fate(key, value, above, beside);
        self.write(value, fate, out);
        if let Some(path) = &mut self.path {
            path.pop();
        }
        if let Some(watch) = &mut self.watch {
            watch.leave();
        }
    }

    fn ruled(&self) -> Option<Fate> {
        let path: Vec<&str> = self.path.as_ref()?.iter().map(String::as_str).collect();
        Some(match self.redactor.rules.action(&path, &self.redactor.scope)? {
            Action::Always => Fate::Secret(Why::Rule),
            Action::Digest => Fate::Digest,
            Action::Keep => Fate::Keep,
            Action::Never => Fate::Never,
        })
    }

    fn fate(&self, key: &str, value: Value<'_>, above: Fate, beside: Fate) -> Fate {
        if matches!(above, Fate::Secret(_) | Fate::Digest | Fate::Never) {
            return above;
        }
        if let Some(fate) = self.ruled() {
            return fate;
        }
        if above == Fate::Keep {
            return above;
        }
        match (self.told(key.as_bytes(), names::is_scalar(value)), beside, above) {
            (fate @ Fate::Secret(_), ..) => fate,
            (_, fate @ Fate::Secret(_), _) => fate,
            (Fate::Look, Fate::Look, Fate::Perhaps) => above,
            (Fate::Look, fate, _) | (fate, ..) => fate,
        }
    }

    /// What becomes of what a name stands for.
    fn told(&self, name: &[u8], scalar: bool) -> Fate {
        match self.redactor.rules.name(name) {
            Some(true) => Fate::Secret(Why::Rule),
            Some(false) => Fate::Look,
            None => match names::says(name, scalar) {
                Says::Secret => Fate::Secret(Why::Name),
                Says::Perhaps => Fate::Perhaps,
                Says::Nothing => Fate::Look,
            },
        }
    }

    fn write(&mut self, value: Value<'_>, fate: Fate, out: &mut String) {
        match value.kind() {
            Kind::Object => self.object(value, fate, out),
            Kind::Array => self.array(value, fate, out),
            Kind::Null | Kind::Bool => out.push_str(value.source()),
            Kind::Number => match fate {
                Fate::Secret(_) | Fate::Digest => write_string(&self.whole(value.source(), fate), out),
                _ => out.push_str(value.source()),
            },
            Kind::String => {
                let s = value.as_str().unwrap_or_default();
                write_string(&self.string(s, fate), out);
            }
        }
    }

    fn array(&mut self, value: Value<'_>, fate: Fate, out: &mut String) {
        out.push('[');
        let taken = self.manner.taken;
        let left = |v: &Value<'_>| !taken.is_some_and(|taken| taken.contains(*v));
        let judged = matches!(fate, Fate::Look | Fate::Perhaps);
        let pairs = judged && names::pairs(value);
        let key_lines = if judged && self.redactor.in_key() { blocks::items(value) } else { Vec::new() };
        // What the item before says of the next: `"--password", "..."`.
        let mut next = Fate::Look;
        let mut command: VecDeque<&str> = VecDeque::new();
        for (i, (at, item)) in value.items().enumerate().filter(|(_, v)| left(v)).enumerate() {
            if i > 0 {
                out.push(',');
            }
            if let Some(watch) = &mut self.watch {
                watch.enter(&i.to_string());
            }
            let before = std::mem::replace(&mut next, Fate::Look);
            match item.as_str() {
                Some(s) if judged && !s.starts_with('-') && before != Fate::Look => self.write(item, before, out),
                Some(s)
                    if judged && let Some(commands::Item::Holds(from)) = commands::item(s, command.iter().copied()) =>
                {
                    let secret = self.whole(&s[from..], Fate::Secret(Why::Place));
                    write_string(&format!("{}{secret}", &s[..from]), out);
                }
                Some(s) if key_lines.get(at) == Some(&true) => self.key_line(s, out),
                _ if pairs => self.pair(item, fate, out),
                _ => self.write(item, fate, out),
            }
            if let Some(watch) = &mut self.watch {
                watch.leave();
            }
            let Some(s) = item.as_str().filter(|_| judged) else { continue };
            if s.starts_with('-') {
                next = match (places::option(s), commands::item(s, command.iter().copied())) {
                    (Some(option), _) => self.told(option.as_bytes(), true),
                    (None, Some(commands::Item::Announces)) => Fate::Secret(Why::Place),
                    _ => Fate::Look,
                };
            }
            if command.len() == COMMAND_ITEMS_MAX {
                command.pop_front();
            }
            command.push_back(s);
        }
        out.push(']');
    }

    /// A name and its value.
    fn pair(&mut self, pair: Value<'_>, fate: Fate, out: &mut String) {
        let mut items = pair.items();
        let left = |v: &Value<'_>| !self.manner.taken.is_some_and(|taken| taken.contains(*v));
        let (Some(name), Some(value)) = (items.next().filter(left), items.next().filter(left)) else {
            return self.write(pair, fate, out);
        };
        let told = self.told(name.as_str().unwrap_or_default().as_bytes(), true);
        out.push('[');
        self.write(name, fate, out);
        out.push(',');
        self.write(value, if told == Fate::Look { fate } else { told }, out);
        out.push(']');
    }

    fn object(&mut self, value: Value<'_>, fate: Fate, out: &mut String) {
        out.push('{');
        let (taken, sorted) = (self.manner.taken, self.manner.sorted);
        let left = |e: &(&str, Value<'_>)| taken.is_none_or(|taken| left(e.1, taken));
        let beside = match fate {
            Fate::Look | Fate::Perhaps => names::named_beside(value).map(|name| self.told(name.as_bytes(), true)),
            _ => None,
        }
        .unwrap_or(Fate::Look);
        let is_key = matches!(fate, Fate::Look | Fate::Perhaps) && names::is_key(value);
        let mut first = true;
        let mut member = |(key, value): (&str, Value<'_>)| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            match self.manner.dirty && fate != Fate::Never {
                true => write_string(&self.look(key), out),
                false => write_string(key, out),
            }
            out.push(':');
            let beside = match () {
                () if is_key && names::is_key_part(key.as_bytes()) => Fate::Secret(Why::Name),
                () if places::is_valued(key) => beside,
                () => Fate::Look,
            };
            self.member(key, value, (fate, beside), out);
        };
        if sorted {
            let mut members: Vec<_> = value.entries().filter(left).collect();
            members.sort_unstable_by_key(|e| e.0);
            members.into_iter().for_each(&mut member);
        } else {
            value.entries().filter(left).for_each(&mut member);
        }
        out.push('}');
    }

    fn string<'s>(&mut self, s: &'s str, fate: Fate) -> Cow<'s, str> {
        match fate {
            Fate::Never => Cow::Borrowed(s),
            Fate::Secret(_) if s.is_empty() || names::is_marker(s.as_bytes()) || names::is_digest(s.as_bytes()) => {
                Cow::Borrowed(s)
            }
            Fate::Secret(_) | Fate::Digest => Cow::Owned(self.whole(s, fate)),
            Fate::Perhaps if names::random(s.as_bytes()) => Cow::Owned(self.whole(s, Fate::Secret(Why::Entropy))),
            _ if self.rejected && blocks::is_key_line(s.as_bytes()) && self.redactor.rules.wants(blocks::KIND) => {
                self.found = true;
                Cow::Owned(self.redactor.marker(blocks::KIND, s.as_bytes()))
            }
            _ if self.manner.dirty => self.look(s),
            _ => Cow::Borrowed(s),
        }
    }

    fn look<'s>(&mut self, s: &'s str) -> Cow<'s, str> {
        let looked = self.redactor.scrub(s, self.depth, self.watch.as_deref_mut());
        self.found |= matches!(looked, Cow::Owned(_));
        looked
    }

    /// What stands for a whole value.
    fn whole(&mut self, s: &str, fate: Fate) -> String {
        let why = if let Fate::Secret(why) = fate { why } else { Why::Rule };
        let kind = if why == Why::Rule { "rule" } else { "key" };
        self.found = true;
        if let Some(watch) = &mut self.watch {
            watch.whole(s, kind, why);
        }
        match fate {
            Fate::Digest => self.redactor.digest(s),
            _ => self.redactor.marker(kind, s.as_bytes()),
        }
    }
}
