//! The native event (`docs/native-event.md`): the shape that everything else is brought into.
//!
//! Guarantees: a valid event comes out with every field it had: unknown members, and optional ones of a wrong type, go to
//! `extra` under their dotted path, the latter with a flag `invalid:<path>`. Only a missing or unreadable verdict or an
//! unreadable time makes a rejection; a missing id or time is filled from the context and flagged. An execution needs no verdict,
//! and gets none. This is the hot path:
//! one pass over the tape, strings borrowed from the record.
//!
//! A trusted record (`catena_schemas::wire::write_event`) has been through all this before: it comes out as it went in,
//! with the flags and the place in its record that its member `catena` holds, and nothing is redacted or judged again.

use crate::json::{Kind, Value, write_string};
use crate::mapping::removed::{Gone, masked};
use crate::redact::{Redactor, pieces};
use crate::{Context, Format};
use catena_schemas::Micros;
use catena_schemas::event::{self, Actor, Basis, Enforced, Event, EventKind, Outcome, Phase, Text, Texts};
use std::borrow::Cow;
use std::collections::HashMap;

/// A refusal: reason code and detail.
pub type Refusal = (&'static str, String);

/// Digests kept at hand; a session repeats its token with every call.
const DIGESTS_MAX: usize = 8192;
/// An event this far ahead of its receipt is flagged `skew`.
const SKEW_US_MAX: i64 = 24 * 3600 * 1_000_000;

/// Decodes native events; keeps recent digests.
#[derive(Debug, Default)]
pub struct Native {
    digests: HashMap<String, String>,
}

impl Native {
    /// Reads one event.
    pub fn decode<'t>(
        &mut self,
        root: Value<'t>,
        redactor: &Redactor,
        context: &Context<'t>,
    ) -> Result<Event<'t>, Refusal> {
        if root.kind() != Kind::Object {
            return Err(("not_an_object", format!("the record is {}", root.kind().as_str())));
        }
        let kind = match root.get("kind").filter(|k| !k.is_null()).map(|k| k.as_str().unwrap_or("")) {
            Some("") => return Err(("kind_unsupported", "`kind` is no text".to_owned())),
            Some(word) => EventKind::parse(word)
                .ok_or_else(|| ("kind_unsupported", format!("records of kind `{word}` are not read")))?,
            None => EventKind::Decision,
        };
        if self.digests.len() > DIGESTS_MAX {
            self.digests.clear();
        }
        let trusted = context.trusted;
        let dirty = !trusted && redactor.suspects_record(root);
        let mut reader = Reader {
            redactor,
            dirty,
            trusted,
            digests: &mut self.digests,
            extra: String::new(),
            kept: HashMap::new(),
            flags: Vec::new(),
        };
        let mut own_extra = None;
        let mut event = Event { kind, ..Event::default() };
        let (mut time, mut outcome) = (None, None);
        event.source.decision_count = 1;
        for (key, v) in root.entries() {
            match key {
                "id" => event.id = reader.text(v, "id").unwrap_or_default(),
                "time" => {
                    time = Some(instant(v).ok_or_else(|| ("time_invalid", format!("`time` is {}", v.to_json())))?)
                }
                "kind" => {}
                "source" => reader.group(v, &mut event.source),
                "decision" => outcome = reader.decision(v, &mut event)?,
                "requester" => reader.group(v, &mut event.requester),
                "actors" => event.actors = reader.actors(v),
                "actors_source" => event.actors_source = reader.text(v, key),
                "actors_complete" => event.actors_complete = reader.bool(v, key),
                "session" => reader.group(v, &mut event.session),
                "server" => reader.group(v, &mut event.server),
                "tool" => reader.group(v, &mut event.tool),
                "call" => reader.group(v, &mut event.call),
                "token" => reader.group(v, &mut event.token),
                "grant" => reader.group(v, &mut event.grant),
                "links" => reader.group(v, &mut event.links),
                "network" => reader.group(v, &mut event.network),
                "catena" if trusted => reader.internals(v, &mut event),
                "extra" if trusted => own_extra = Some(v),
                "extra" if v.kind() == Kind::Object => {
                    for (k, v) in v.entries() {
                        reader.keep("", k, v);
                    }
                }
                _ => reader.keep("", key, v),
            }
        }
        event.decision.outcome = match (kind, outcome) {
            (EventKind::Decision, None) => {
                return Err(("verdict_missing", "`decision.verdict` is required".to_owned()));
            }
            (EventKind::Decision, Some(outcome)) => outcome,
            (EventKind::Execution, outcome) => reader.no_verdict(outcome),
        };
        match time {
            Some(t) => {
                event.time = t;
                if !trusted && context.received.0 != 0 && t.0 - context.received.0 > SKEW_US_MAX {
                    reader.flag("skew");
                }
            }
            None => {
                event.time = context.received;
                reader.flag("time_missing");
            }
        }
        if event.id.is_empty() {
            event.id = Cow::Borrowed(context.fallback_id);
            reader.flag("id_missing");
        }
        if !trusted && event.source.record.as_deref() == Some(event.id.as_ref()) {
            event.source.record = None;
        }
        if let Some(v) = own_extra {
            match v.as_str() {
                Some(text) if reader.extra.is_empty() => event.extra = Some(Cow::Borrowed(text)),
                _ => reader.keep("", "extra", v),
            }
        }
        event.flags.extend(reader.flags);
        if !reader.extra.is_empty() {
            event.extra = Some(Cow::Owned(reader.extra + "}"));
        }
        Ok(event)
    }
}

/// The format that a record was first decoded from: its own word if it is trusted.
pub fn original(root: Value<'_>, context: &Context<'_>) -> Format {
    let named = || root.get("catena")?.get("format")?.as_str().and_then(Format::parse);
    if context.trusted { named().unwrap_or(Format::Catena) } else { Format::Catena }
}

/// An instant as native events and most producers write it: RFC 3339 or a number whose unit its size tells.
pub fn instant(v: Value<'_>) -> Option<Micros> {
    match v.as_str() {
        Some(s) => Micros::parse_rfc3339(s),
        None => v.as_i64().and_then(Micros::from_epoch_guess),
    }
}

struct Reader<'r> {
    redactor: &'r Redactor,
    /// Whether the quick look found anything: only then are strings looked at one by one.
    dirty: bool,
    /// Whether the record is our own, see [`Context::trusted`].
    trusted: bool,
    digests: &'r mut HashMap<String, String>,
    /// JSON object under construction, without its closing brace; empty when nothing was kept.
    extra: String,
    /// Names in `extra`, and how often each was wanted: two actors may have the same unknown member, and an object with
    /// two equal names would be read differently by different readers.
    kept: HashMap<String, u32>,
    flags: Texts<'static>,
}

macro_rules! members {
    ($reader:ident, $value:ident, $path:literal, { $($key:literal => $target:expr, $how:ident;)* }) => {
        $reader.members($value, $path, |r, key, v| {
            match key {
                $($key => $target = r.$how(v, concat!($path, ".", $key)),)*
                _ => return false,
            }
            true
        })
    };
}

impl<'r> Reader<'r> {
    fn flag(&mut self, flag: impl Into<Cow<'static, str>>) {
        self.flags.push(flag.into());
    }

    /// Reads the members of an object with `read`, keeping those it does not know.
    fn members<'t>(&mut self, v: Value<'t>, path: &str, mut read: impl FnMut(&mut Self, &'t str, Value<'t>) -> bool) {
        if v.kind() != Kind::Object {
            if !v.is_null() {
                self.invalid(v, path);
            }
            return;
        }
        for (key, v) in v.entries() {
            if !read(self, key, v) {
                self.keep(path, key, v);
            }
        }
    }

    /// Keeps an unknown member in `extra`, under its dotted path.
    #[cold]
    fn keep(&mut self, path: &str, key: &str, v: Value<'_>) {
        let name = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        self.name(self.redactor.text(&name).into_owned());
        self.redactor.member(key, v, self.dirty, &mut self.extra);
    }

    /// Begins a member of `extra`.
    fn name(&mut self, name: String) {
        self.extra.push(if self.extra.is_empty() { '{' } else { ',' });
        write_string(&self.unused(name), &mut self.extra);
        self.extra.push(':');
    }

    /// The name, or the first of `name~2`, `name~3` ... that is not in `extra` yet.
    fn unused(&mut self, name: String) -> String {
        let Some(wanted) = self.kept.get(&name) else {
            self.kept.insert(name.clone(), 1);
            return name;
        };
        let mut number = *wanted;
        let free = loop {
            number += 1;
            let numbered = format!("{name}~{number}");
            if !self.kept.contains_key(&numbered) {
                break numbered;
            }
        };
        self.kept.insert(name, number);
        self.kept.insert(free.clone(), 1);
        free
    }

    /// Who saw only the execution has no verdict to give: one that is there all the same is kept, and decides nothing.
    fn no_verdict(&mut self, outcome: Option<Outcome>) -> Outcome {
        match outcome {
            Some(outcome) if self.trusted => outcome,
            None | Some(Outcome::Unknown) => Outcome::Unknown,
            Some(outcome) => {
                self.flag("invalid:decision.verdict");
                self.name("decision.verdict".to_owned());
                write_string(outcome.as_str(), &mut self.extra);
                Outcome::Unknown
            }
        }
    }

    #[cold]
    fn invalid(&mut self, v: Value<'_>, path: &str) {
        self.keep("", path, v);
        self.flag(format!("invalid:{path}"));
    }

    #[inline]
    fn string<'t>(&self, s: &'t str) -> Cow<'t, str> {
        if self.dirty { self.redactor.text(s) } else { Cow::Borrowed(s) }
    }

    #[inline]
    fn text<'t>(&mut self, v: Value<'t>, path: &str) -> Text<'t> {
        match v.as_str() {
            Some(s) => Some(self.string(s)),
            None => {
                if !v.is_null() {
                    self.invalid(v, path);
                }
                None
            }
        }
    }

    /// Ids that producers write as numbers too.
    fn scalar<'t>(&mut self, v: Value<'t>, path: &str) -> Text<'t> {
        match v.as_scalar() {
            Some(s) => Some(self.string(s)),
            None => self.text(v, path),
        }
    }

    fn texts<'t>(&mut self, v: Value<'t>, path: &str) -> Texts<'t> {
        // RFC 7519 and its relatives allow one string where a list is meant (`aud`).
        if let Some(s) = v.as_str() {
            return vec![self.string(s)];
        }
        let items = v.items();
        if v.kind() != Kind::Array || items.clone().any(|i| i.as_str().is_none()) {
            if !v.is_null() {
                self.invalid(v, path);
            }
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(4);
        texts.extend(items.filter_map(|i| i.as_str()).map(|s| self.string(s)));
        texts
    }

    /// Scopes: a list, or one string with spaces (RFC 6749, section 3.3).
    fn scopes<'t>(&mut self, v: Value<'t>, path: &str) -> Texts<'t> {
        match v.as_str() {
            Some(s) => pieces(self.string(s), &[" "]),
            None => self.texts(v, path),
        }
    }

    fn bool(&mut self, v: Value<'_>, path: &str) -> Option<bool> {
        let read = v.as_bool();
        if read.is_none() && !v.is_null() {
            self.invalid(v, path);
        }
        read
    }

    fn long(&mut self, v: Value<'_>, path: &str) -> Option<i64> {
        let read = v.as_i64();
        if read.is_none() && !v.is_null() {
            self.invalid(v, path);
        }
        read
    }

    fn int(&mut self, v: Value<'_>, path: &str) -> Option<i32> {
        let read = v.as_i64().and_then(|n| i32::try_from(n).ok());
        if read.is_none() && !v.is_null() {
            self.invalid(v, path);
        }
        read
    }

    fn time(&mut self, v: Value<'_>, path: &str) -> Option<Micros> {
        let read = instant(v);
        if read.is_none() && !v.is_null() {
            self.invalid(v, path);
        }
        read
    }

    fn word<T>(&mut self, v: Value<'_>, path: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let read = v.as_str().and_then(parse);
        if read.is_none() && !v.is_null() {
            self.invalid(v, path);
        }
        read
    }

    fn basis(&mut self, v: Value<'_>, path: &str) -> Option<Basis> {
        self.word(v, path, Basis::parse)
    }

    fn enforced(&mut self, v: Value<'_>, path: &str) -> Option<Enforced> {
        self.word(v, path, Enforced::parse)
    }

    fn phase(&mut self, v: Value<'_>, path: &str) -> Option<Phase> {
        self.word(v, path, Phase::parse)
    }

    /// JSON text of a value, redacted; empty lists and objects say nothing and are left out. In our own records the text
    /// stands as a string.
    fn json<'t>(&mut self, v: Value<'t>, path: &str) -> Text<'t> {
        match v.kind() {
            _ if self.trusted => self.text(v, path),
            Kind::Null => None,
            Kind::Array if v.items().next().is_none() => None,
            Kind::Object if v.entries().next().is_none() => None,
            _ => Some(self.redactor.json_column(path, v, self.dirty)),
        }
    }

    fn array<'t>(&mut self, v: Value<'t>, path: &str) -> Text<'t> {
        self.json(v, path)
    }

    fn challenge<'t>(&mut self, v: Value<'t>, path: &str) -> Text<'t> {
        self.json(v, path)
    }

    /// A token or handle: only its keyed digest is kept.
    fn digest<'t>(&mut self, v: Value<'t>, path: &str) -> Text<'t> {
        if self.trusted {
            return self.text(v, path);
        }
        let Some(s) = v.as_scalar() else {
            if !v.is_null() {
                self.flag(format!("invalid:{path}"));
            }
            return None;
        };
        Some(Cow::Owned(self.digest_of(s)))
    }

    fn digest_of(&mut self, s: &str) -> String {
        if let Some(known) = self.digests.get(s) {
            return known.clone();
        }
        let digest = self.redactor.digest(s);
        self.digests.insert(s.to_owned(), digest.clone());
        digest
    }

    fn digests<'t>(&mut self, v: Value<'t>, path: &str) -> Texts<'t> {
        if self.trusted {
            return self.texts(v, path);
        }
        // A list that is not one of texts may still hold handles: unlike others it is not kept.
        let readable =
            v.as_str().is_some() || v.is_null() || (v.kind() == Kind::Array && v.items().all(|i| i.as_str().is_some()));
        if !readable {
            self.flag(format!("invalid:{path}"));
            return Vec::new();
        }
        // Of what was sent: the digest of what redaction left of it would join with no other.
        let texts = v.as_str().into_iter().chain(v.items().filter_map(|i| i.as_str()));
        texts.map(|s| Cow::Owned(self.digest_of(s))).collect()
    }

    /// `catena` of our own records: what the native event has no place for.
    fn internals<'t>(&mut self, v: Value<'t>, e: &mut Event<'t>) {
        let (mut index, mut count) = (None, None);
        self.members(v, "catena", |r, key, v| {
            match key {
                "format" => {}
                "index" => index = r.long(v, "catena.index"),
                "count" => count = r.long(v, "catena.count"),
                "flags" => e.flags = r.texts(v, "catena.flags"),
                _ => return false,
            }
            true
        });
        let small = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        e.source.decision_index = small(index).unwrap_or(e.source.decision_index);
        e.source.decision_count = small(count).unwrap_or(e.source.decision_count);
    }

    /// Reads an object of the event whose members the table lists.
    fn group<'t, G: Group<'t>>(&mut self, v: Value<'t>, group: &mut G) {
        self.members(v, G::NAME, |r, key, v| group.member(r, key, v));
    }

    fn decision<'t>(&mut self, v: Value<'t>, e: &mut Event<'t>) -> Result<Option<Outcome>, Refusal> {
        let mut verdict = None;
        self.members(v, "decision", |r, key, v| match key {
            "verdict" => {
                verdict = Some(v);
                true
            }
            _ => e.decision.member(r, key, v),
        });
        let Some(verdict) = verdict else { return Ok(None) };
        match verdict.as_str().and_then(Outcome::parse) {
            Some(outcome) => Ok(Some(outcome)),
            // What its producer wrote over is not what was decided.
            None if masked(verdict) => {
                e.decision.reasons.push(Cow::Borrowed(Gone::Masked.reason()));
                Ok(Some(Outcome::Unknown))
            }
            None => {
                Err(("verdict_unknown", format!("`decision.verdict` is {}", self.redactor.text(&verdict.to_json()))))
            }
        }
    }

    fn actors<'t>(&mut self, v: Value<'t>) -> Vec<Actor<'t>> {
        if v.kind() != Kind::Array {
            if !v.is_null() {
                self.invalid(v, "actors");
            }
            return Vec::new();
        }
        let mut actors = Vec::with_capacity(4);
        for item in v.items() {
            let mut a = Actor::default();
            let mut id = None;
            members!(self, item, "actors", {
                "id" => id, scalar;
                "kind" => a.kind, text;
                "issuer" => a.issuer, text;
                "assurance" => a.assurance, text;
                "name" => a.name, text;
                "version" => a.version, scalar;
                "model" => a.model, text;
            });
            a.id = id.unwrap_or_default();
            actors.push(a);
        }
        actors
    }
}

/// A group of the table, as an object of the event.
trait Group<'t> {
    /// The member of the event.
    const NAME: &'static str;

    /// Reads one member of it; false when the table has none of this name.
    fn member(&mut self, r: &mut Reader<'_>, key: &'t str, v: Value<'t>) -> bool;
}

macro_rules! readers {
    ($(
        columns $columns:tt
        $(
            $(#[$group_doc:meta])+
            $group:ident: $Group:ident { $(
                members { $(
                    $(#[$doc:meta])+
                    $field:ident: $how:ident $member:literal => $variant:ident $name:literal $kind:ident $leaf:literal $(, slot $slot:ident)?;
                )* }
                $(
                    $(#[$object_doc:meta])+
                    object $object:ident: $Object:ident { $(
                        $(#[$inner_doc:meta])+
                        $inner:ident: $inner_how:ident $inner_member:literal
                            => $inner_variant:ident $inner_name:literal $inner_kind:ident $inner_leaf:literal $(, slot $inner_slot:ident)?;
                    )* }
                )?
            )+ }
        )*
    )+) => { $($(
        impl<'t> Group<'t> for event::$Group<'t> {
            const NAME: &'static str = stringify!($group);

            #[inline]
            fn member(&mut self, r: &mut Reader<'_>, key: &'t str, v: Value<'t>) -> bool {
                match key {
                    $(
                        $($member => self.$field = r.$how(v, concat!(stringify!($group), ".", $member)),)*
                        $(
                            stringify!($object) => {
                                r.members(v, concat!(stringify!($group), ".", stringify!($object)), |r, key, v| {
                                    match key {
                                        $($inner_member => {
                                            let path = concat!(stringify!($group), ".", stringify!($object), ".", $inner_member);
                                            self.$inner = r.$inner_how(v, path);
                                        })*
                                        _ => return false,
                                    }
                                    true
                                });
                            }
                        )?
                    )+
                    _ => return false,
                }
                true
            }
        }
    )*)+ };
}

catena_schemas::event_fields! { objects readers }
