//! Applies a mapping to a record: what all mapped formats share.
//!
//! Guarantees: a field that its decoder has set already is left alone; of a field's alternatives the first that the record has
//! and that is of the right type is taken, and one of a wrong type is flagged `invalid:<field>`; what was taken does not
//! appear in `extra`, and everything else does. Members of `params` and `extra` are sorted, because these producers change
//! their order from record to record, and re-sent records must come out equal.

mod actors;
mod extra;
mod time;

pub(crate) use extra::Extra;
pub(crate) use time::moment;

use crate::Context;
use crate::claims;
use crate::json::{Kind, Value};
use crate::mapping::removed::Gone;
use crate::mapping::{Alternative, Decided, Mapping, Origin, Roots, Slot};
use crate::redact::{Manner, Redactor, Taken, pieces};
use catena_schemas::event::{Basis, Decision, Enforced, Event, Outcome, Phase, Text, Texts};
use std::borrow::Cow;

/// Fills one event.
pub(crate) struct Filling<'t, 'r> {
    pub(crate) mapping: &'t Mapping,
    pub(crate) roots: Roots<'t>,
    pub(crate) redactor: &'r Redactor,
    /// Whether the record is suspected to hold secrets.
    pub(crate) dirty: bool,
    pub(crate) taken: &'r mut Taken,
    pub(crate) flags: Texts<'t>,
    /// What stands for absent in text: `-` in Envoy's.
    pub(crate) absent: Option<&'static str>,
    /// Whether text may be JSON text of a string, as older Cerbos writes attributes.
    pub(crate) quoted: bool,
}

impl<'t> Filling<'t, '_> {
    pub(crate) fn flag(&mut self, flag: impl Into<Cow<'static, str>>) {
        let flag: Cow<'static, str> = flag.into();
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    pub(crate) fn clean(&self, s: &'t str) -> Cow<'t, str> {
        if self.dirty { self.redactor.text(s) } else { Cow::Borrowed(s) }
    }

    pub(crate) fn manner(&self) -> Manner<'_> {
        Manner { dirty: self.dirty, sorted: true, taken: None }
    }

    /// The values that a field's alternatives find, in order, without absent ones.
    fn found(&self, slot: Slot) -> impl Iterator<Item = (Found<'t>, &'t Alternative)> + use<'t> {
        let (roots, absent, mapping) = (self.roots, self.absent, self.mapping);
        mapping.field(slot).iter().filter(move |a| a.applies(&roots, &mapping.outcome)).filter_map(move |a| {
            let found = match &a.from {
                Origin::Constant(text) => Found::Constant(text),
                Origin::Pointer(pointer) => {
                    let v = pointer.follow(&roots)?;
                    let nothing = v.is_null() || v.as_str().is_some_and(|s| s.is_empty() || Some(s) == absent);
                    if nothing {
                        return None;
                    }
                    match v.as_scalar().filter(|_| !a.is_whole()) {
                        Some(text) => Found::Part(v, a.word(text)?),
                        None => Found::Value(v),
                    }
                }
            };
            Some((found, a))
        })
    }

    /// Text of a field, without secrets; not taken.
    pub(crate) fn said(&self, slot: Slot) -> Text<'t> {
        self.found(slot).find_map(|(found, alternative)| self.redacted(found, alternative))
    }

    /// Text of a field, as it is, for the decoder's own use: what comes out of the record is [`Filling::said`]; not taken.
    pub(crate) fn peek(&self, slot: Slot) -> Option<&'t str> {
        self.found(slot).find_map(|(found, _)| found.scalar())
    }

    /// The first way by which a field is found; not taken.
    pub(crate) fn way(&self, slot: Slot) -> Option<&'t Origin> {
        self.found(slot).next().map(|(_, alternative)| &alternative.from)
    }

    /// The first value of a field; not taken.
    pub(crate) fn value(&self, slot: Slot) -> Option<Value<'t>> {
        self.found(slot).find_map(|(found, _)| found.value())
    }

    /// Marks what a field finds as used.
    pub(crate) fn take(&mut self, slot: Slot) {
        if let Some(v) = self.value(slot) {
            self.taken.insert(v);
        }
    }

    pub(crate) fn text(&mut self, slot: Slot) -> Text<'t> {
        for (found, alternative) in self.found(slot) {
            let Some(text) = self.redacted(found, alternative) else {
                self.flag(format!("invalid:{}", slot.name()));
                continue;
            };
            found.value().into_iter().for_each(|v| self.taken.insert(v));
            return Some(prefixed(text, alternative));
        }
        None
    }

    /// What was found, without secrets: redacted as a whole, and then cut as the mapping wants it, because what gives a secret away
    /// may be on the other side of the cut.
    fn redacted(&self, found: Found<'t>, alternative: &'t Alternative) -> Text<'t> {
        match found {
            Found::Constant(text) => Some(Cow::Borrowed(text)),
            Found::Value(v) | Found::Part(v, _) => self.part(v.as_scalar()?, alternative),
        }
    }

    /// The part of a text that is meant; `None` when it has none.
    fn part(&self, text: &'t str, alternative: &'t Alternative) -> Text<'t> {
        let part = alternative.word(text)?;
        if let Some(marker) = self.redactor.told(alternative.name(), text) {
            return Some(Cow::Owned(marker));
        }
        match self.plain(text) {
            Cow::Borrowed(_) => Some(self.plain(part)),
            whole if alternative.is_whole() => Some(whole),
            // Where the cut would be is gone when it was part of the secret.
            Cow::Owned(redacted) => Some(match alternative.word(&redacted) {
                Some(part) => Cow::Owned(self.redactor.text(part).into_owned()),
                None => Cow::Owned(redacted),
            }),
        }
    }

    fn plain(&self, s: &'t str) -> Cow<'t, str> {
        self.clean(if self.quoted { unquoted(s) } else { s })
    }

    fn texts(&mut self, slot: Slot) -> Texts<'t> {
        for (found, alternative) in self.found(slot) {
            let text = self.redacted(found, alternative);
            let Some(v) = found.value() else {
                return text.map(|s| prefixed(s, alternative)).into_iter().collect();
            };
            if let Some(text) = text {
                self.taken.insert(v);
                let several = match &alternative.split {
                    Some(split) => pieces(text, &[split]),
                    None => vec![text],
                };
                return several.into_iter().map(|s| prefixed(s, alternative)).collect();
            }
            let mut texts = Vec::new();
            let mut odd = v.kind() != Kind::Array;
            for item in v.items() {
                let item = match &alternative.each {
                    Some(each) => each.from(item),
                    None => Some(item),
                };
                match item.map(|i| (i, i.as_scalar())) {
                    Some((item, Some(s))) => {
                        let Some(text) = self.part(s, alternative) else { continue };
                        let text = prefixed(text, alternative);
                        if !texts.contains(&text) {
                            texts.push(text);
                        }
                        self.taken.insert(item);
                    }
                    Some((_, None)) => odd = true,
                    None => {}
                }
            }
            if odd {
                self.flag(format!("invalid:{}", slot.name()));
            }
            if !texts.is_empty() {
                return texts;
            }
        }
        Vec::new()
    }

    fn json(&mut self, slot: Slot) -> Text<'t> {
        let (found, alternative) = self.found(slot).next()?;
        let Some(v) = found.value() else { return found.scalar().map(Cow::Borrowed) };
        // An object that was cut off is no argument; what is left of it stays where it is.
        if slot == Slot::Params && v.as_str().is_some_and(|s| s.starts_with(['{', '['])) {
            self.flag("cut:params");
            return None;
        }
        self.taken.insert(v);
        let empty = matches!(v.kind(), Kind::Array | Kind::Object)
            && v.items().next().is_none()
            && v.entries().next().is_none();
        if empty {
            return None;
        }
        let mut out = String::with_capacity(64);
        if self.redactor.tells(alternative.name(), false) {
            self.redactor.write(v, self.manner(), true, &mut out);
        } else {
            self.redactor.write_column(slot.name(), v, self.manner(), &mut out);
        }
        Some(Cow::Owned(out))
    }

    fn number<T: std::str::FromStr>(&mut self, slot: Slot) -> Option<T> {
        for (found, _) in self.found(slot) {
            let Some(n) = found.scalar().and_then(|s| s.parse().ok()) else {
                self.flag(format!("invalid:{}", slot.name()));
                continue;
            };
            found.value().into_iter().for_each(|v| self.taken.insert(v));
            return Some(n);
        }
        None
    }

    /// Applies every field to the event.
    pub(crate) fn apply(&mut self, e: &mut Event<'t>) {
        if e.decision.phase.is_none() {
            e.decision.phase = self.one_of(Slot::Phase, Phase::parse).or(self.mapping.phase);
        }
        if e.decision.enforced.is_none() {
            e.decision.enforced = self.one_of(Slot::Enforced, Enforced::parse);
        }
        for (slot, _) in &self.mapping.fields {
            match *slot {
                Slot::Id => {
                    if e.id.is_empty() {
                        e.id = self.text(Slot::Id).unwrap_or_default();
                    }
                }
                // A mapping that points at the reference wins over the claims.
                Slot::TokenClaims => {
                    self.set(Slot::TokenReference, e);
                    self.claims(e);
                }
                Slot::Traceparent => self.traceparent(e),
                // Read above.
                Slot::Phase | Slot::Enforced => {}
                // What the decoder set stays, and the mapping adds to it.
                Slot::Rules => {
                    let rules = self.texts(Slot::Rules);
                    e.decision.rules.extend(rules);
                }
                Slot::Reasons => {
                    let reasons = self.texts(Slot::Reasons);
                    e.decision.reasons.extend(reasons);
                }
                Slot::Resources => {
                    let resources = self.texts(Slot::Resources);
                    e.call.resources.extend(resources);
                }
                // Without an id there is nothing to assure.
                Slot::RequesterAssurance if e.requester.id.is_none() => {}
                Slot::Ip => {
                    if let (None, Some(address)) = (&e.network.ip, self.text(Slot::Ip)) {
                        e.network.ip = Some(without_port(address));
                    }
                }
                slot => self.set(slot, e),
            }
        }
        self.actors(e);
        actors::assurance(e);
    }

    /// A digest of a text, unless it is one already.
    fn digest(&mut self, slot: Slot) -> Text<'t> {
        let digest = Cow::Owned(self.redactor.digest(self.peek(slot)?));
        self.take(slot);
        Some(digest)
    }

    /// A word of a vocabulary.
    fn one_of<T>(&mut self, slot: Slot, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let word = self.peek(slot)?;
        let parsed = parse(word);
        match parsed {
            Some(_) => self.take(slot),
            None => self.flag(format!("invalid:{}", slot.name())),
        }
        parsed
    }

    fn claims(&mut self, e: &mut Event<'t>) {
        let Some(claims) = self.value(Slot::TokenClaims) else { return };
        if claims.kind() != Kind::Object {
            // Claims that cannot be read may name the token.
            self.taken.insert(claims);
            return self.flag("invalid:token.claims");
        }
        let (dirty, redactor) = (self.dirty, self.redactor);
        let text = |s: &'t str| if dirty { redactor.text(s) } else { Cow::Borrowed(s) };
        claims::fill(&mut e.token, claims, redactor, self.taken, &text);
    }

    fn traceparent(&mut self, e: &mut Event<'t>) {
        let Some(header) = self.peek(Slot::Traceparent) else { return };
        let Some((trace, span)) = traceparent(header) else { return self.flag("invalid:links.traceparent") };
        if e.links.trace.is_none() {
            e.links.trace = Some(Cow::Borrowed(trace));
            // The caller's span, under which this decision was taken.
            e.links.parent_span = Some(Cow::Borrowed(span));
        }
        self.take(Slot::Traceparent);
    }

    /// Sets the outcome that the mapping reads; false when nothing of the record decides it.
    pub(crate) fn decide(&mut self, e: &mut Event<'t>) -> bool {
        let d = &mut e.decision;
        match self.mapping.decide(&self.roots) {
            None => return false,
            Some(Decided::Table(outcome, v)) => {
                d.outcome = outcome;
                d.basis = Some(self.mapping.outcome.basis.unwrap_or(Basis::Explicit));
                self.taken.insert(v);
            }
            Some(Decided::Removed(gone)) => removed(d, gone),
            Some(Decided::Rule(said, number)) => {
                // A word that the table does not know is said, though another rule decides.
                if number == 0 && self.mapping.outcome.named(&self.roots) {
                    self.flags.push(Cow::Borrowed(VERDICT_UNREAD));
                }
                (d.outcome, d.basis) = (said.outcome, Some(said.basis));
                (d.enforced, d.phase) = (said.enforced.or(d.enforced), said.phase.or(d.phase));
                d.reasons.extend(said.reasons.iter().map(|r| Cow::Borrowed(r.as_str())));
            }
        }
        true
    }

    /// Gives the event an id and its flags.
    pub(crate) fn finish(&mut self, e: &mut Event<'t>, context: &Context<'t>) {
        if e.id.is_empty() {
            e.id = Cow::Borrowed(context.fallback_id);
            self.flag("id_missing");
        }
        if e.source.record.as_deref() == Some(e.id.as_ref()) {
            e.source.record = None;
        }
        e.flags = std::mem::take(&mut self.flags);
    }

    /// Marks what the mapping drops.
    pub(crate) fn drop(&mut self) {
        for pointer in &self.mapping.drop {
            if let Some(v) = pointer.follow(&self.roots) {
                self.taken.insert(v);
            }
        }
    }
}

/// Fills a field that is empty, by how the table says that it is kept.
macro_rules! set {
    ($filling:ident basis $slot:ident $target:expr) => { set!($filling @one_of Basis $slot $target) };
    ($filling:ident enforced $slot:ident $target:expr) => { set!($filling @one_of Enforced $slot $target) };
    ($filling:ident phase $slot:ident $target:expr) => { set!($filling @one_of Phase $slot $target) };
    ($filling:ident @one_of $words:ident $slot:ident $target:expr) => {
        if $target.is_none() {
            $target = $filling.one_of(Slot::$slot, $words::parse);
        }
    };
    ($filling:ident texts $slot:ident $target:expr) => {
        if $target.is_empty() {
            $target = $filling.texts(Slot::$slot);
        }
    };
    ($filling:ident scopes $slot:ident $target:expr) => { set!($filling texts $slot $target) };
    ($filling:ident int $slot:ident $target:expr) => { set!($filling @option number $slot $target) };
    ($filling:ident long $slot:ident $target:expr) => { set!($filling @option number $slot $target) };
    ($filling:ident scalar $slot:ident $target:expr) => { set!($filling @option text $slot $target) };
    ($filling:ident array $slot:ident $target:expr) => { set!($filling @option json $slot $target) };
    ($filling:ident challenge $slot:ident $target:expr) => { set!($filling @option json $slot $target) };
    ($filling:ident @option $how:ident $slot:ident $target:expr) => {
        if $target.is_none() {
            $target = $filling.$how(Slot::$slot);
        }
    };
    ($filling:ident $how:ident $slot:ident $target:expr) => { set!($filling @option $how $slot $target) };
}

macro_rules! setters {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident: $Group:ident { $(
            $(#[doc = $doc:literal])+
            $field:ident: $how:ident $path:tt => $variant:ident $(, slot $slot:ident)?;
        )+ }
    )+) => {
        impl<'t> Filling<'t, '_> {
            /// Fills the field of a slot that has one, if it is empty.
            fn set(&mut self, slot: Slot, e: &mut Event<'t>) {
                match slot {
                    $($($(Slot::$slot => set!(self $how $slot e.$group.$field),)?)+)+
                    // Read when all that they depend on is there, or by the decoder itself.
                    Slot::Id
                    | Slot::Time
                    | Slot::TokenClaims
                    | Slot::Traceparent
                    | Slot::ActorsId
                    | Slot::ActorsAct
                    | Slot::ActorsList
                    | Slot::ActorsDeclared
                    | Slot::ActorsKind
                    | Slot::ActorsName
                    | Slot::ActorsVersion
                    | Slot::ActorsModel
                    | Slot::ActorsAssurance
                    | Slot::ActorsSource
                    | Slot::EnvoyDetails
                    | Slot::EnvoyFlags
                    | Slot::EnvoyEffect
                    | Slot::EnvoyRbac
                    | Slot::EnvoyRbacPolicy
                    | Slot::StepUp
                    | Slot::Reason => {}
                }
            }
        }
    };
}

catena_schemas::event_fields! { groups setters }

/// Flag of a verdict in words, or of a kind, that nothing here knows: it stays in `extra`.
pub(crate) const VERDICT_UNREAD: &str = "invalid:decision.verdict";

/// The decision of a record whose answer was taken out by its producer.
pub(crate) fn removed(d: &mut Decision<'_>, gone: Gone) {
    (d.outcome, d.basis) = (Outcome::Unknown, Some(Basis::Inferred));
    d.reasons.push(Cow::Borrowed(gone.reason()));
}

/// A value of the record, or a constant of the mapping.
#[derive(Clone, Copy)]
enum Found<'t> {
    Value(Value<'t>),
    /// A value of which a part, or what it stands for, is meant.
    Part(Value<'t>, &'t str),
    Constant(&'t str),
}

impl<'t> Found<'t> {
    fn scalar(self) -> Option<&'t str> {
        match self {
            Found::Value(v) => v.as_scalar(),
            Found::Part(_, s) | Found::Constant(s) => Some(s),
        }
    }

    fn value(self) -> Option<Value<'t>> {
        match self {
            Found::Value(v) | Found::Part(v, _) => Some(v),
            Found::Constant(_) => None,
        }
    }
}

/// Trace id and span id of a W3C `traceparent`.
pub(crate) fn traceparent(header: &str) -> Option<(&str, &str)> {
    let mut parts = header.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |s: &str, length: usize| {
        s.len() == length && s.bytes().all(|b| b.is_ascii_hexdigit()) && s.bytes().any(|b| b != b'0')
    };
    let well_formed =
        version.len() == 2 && version != "ff" && hex(trace, 32) && hex(span, 16) && parts.next().is_some();
    well_formed.then_some((trace, span))
}

/// An address without its port: `1.2.3.4:5`, `[::1]:5`.
fn without_port(address: Cow<'_, str>) -> Cow<'_, str> {
    let bare = match (address.strip_prefix('['), address.rsplit_once(':')) {
        (Some(inner), _) => inner.split(']').next(),
        (None, Some((host, port))) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => Some(host),
        _ => None,
    };
    match bare {
        Some(bare) => Cow::Owned(bare.to_owned()),
        None => address,
    }
}

fn prefixed<'t>(text: Cow<'t, str>, alternative: &Alternative) -> Cow<'t, str> {
    match alternative.prefix.as_str() {
        "" => text,
        prefix => Cow::Owned(format!("{prefix}{text}")),
    }
}

/// Text without the quotes of a JSON string, when it is one without escapes.
fn unquoted(s: &str) -> &str {
    match s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
        Some(inner) if !inner.contains(['"', '\\']) => inner,
        _ => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_are_checked() {
        let t = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (header, good) in [
            (format!("00-{t}-00f067aa0ba902b7-01"), true),
            (format!("cc-{t}-00f067aa0ba902b7-01-more"), true),
            (format!("ff-{t}-00f067aa0ba902b7-01"), false),
            (format!("00-{t}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{t}-00f067aa0ba902b7"), false),
            ("-".into(), false),
        ] {
            assert_eq!(traceparent(&header).is_some(), good, "{header}");
        }
    }

    #[test]
    fn addresses_lose_their_port() {
        for (address, bare) in [
            ("10.0.0.1:80", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("host:x", "host:x"),
        ] {
            assert_eq!(without_port(address.into()), bare);
        }
    }
}
