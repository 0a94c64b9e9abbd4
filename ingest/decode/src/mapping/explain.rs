//! Explains a mapping on sample records: what became what, what stayed unmapped, and which fields stay empty.
//!
//! Guarantees: what is shown is what decoding made of the records, by the same decoder and redacted by it, never what it
//! would have liked to make. Pure: no clock, no I/O. Values are cut at [`VALUE_CHARS_MAX`] and what cannot be printed on a
//! terminal is replaced, so that a record cannot write on the screen of whoever looks at it.

mod render;

use super::rules::Said;
use super::{Decided, Mapping, Mappings, Origin, Slot};
use crate::formats::declared::{Work, batch, views};
use crate::formats::mapped::Filling;
use crate::json::{Kind, Tape, Value};
use crate::redact::Taken;
use crate::{Context, Decoder, Format, Redactor, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, EventKind, Micros};
use serde::Serialize;
use std::sync::Arc;

/// Characters of a value that are shown.
pub const VALUE_CHARS_MAX: usize = 80;
/// Fields and unmapped pointers that are shown of one record.
pub const LINES_MAX: usize = 500;

/// What became of sample records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What each record gave, in order; one entry per decision.
    pub records: Vec<Told>,
    /// Decisions by outcome.
    pub outcomes: Counts,
    /// Records held aside.
    pub asides: usize,
    /// Records that could not be read.
    pub rejections: usize,
    /// Each canonical field and how many decisions have it.
    pub fields: Vec<Coverage>,
}

/// Counts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Of decisions that allow.
    pub allow: usize,
    /// Of decisions that deny.
    pub deny: usize,
    /// Of all others.
    pub other: usize,
}

impl Counts {
    fn of(&mut self, outcome: &str) -> &mut usize {
        match outcome {
            "allow" => &mut self.allow,
            "deny" => &mut self.deny,
            _ => &mut self.other,
        }
    }
}

/// How many decisions have a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// Name in the native event.
    pub field: &'static str,
    /// Decisions that have it.
    pub filled: Counts,
}

/// What one record, or one decision of it, became.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Told {
    /// Number of the record, from 1.
    pub record: usize,
    /// Its format.
    pub format: &'static str,
    /// The mapping that was used.
    pub mapping: Option<String>,
    /// `event`, `execution`, `authority`, `aside` or `rejection`.
    pub kind: &'static str,
    /// Outcome of an event; reason of the others.
    pub verdict: String,
    /// What is told of an aside or a rejection.
    pub detail: Option<String>,
    /// Oddities that were kept.
    pub flags: Vec<String>,
    /// What was filled.
    pub fields: Vec<Filled>,
    /// What was not taken, and stays in `extra`.
    pub unmapped: Vec<Unmapped>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Filled {
    /// Name in the native event.
    pub field: String,
    /// The pointer, `= constant` or `rule 2` by which it was filled; nothing when the decoder itself did.
    pub from: Option<String>,
    /// Its value, redacted and cut.
    pub value: String,
}

/// One value of the record that no field has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmapped {
    /// Where it stands.
    pub pointer: String,
    /// Its value, redacted and cut.
    pub value: String,
}

/// Decodes sample records and tells what became of them.
pub fn explain<'r>(
    mappings: &Arc<Mappings>,
    redactor: &Arc<Redactor>,
    format: Format,
    records: impl IntoIterator<Item = &'r [u8]>,
    received: Micros,
) -> Report {
    let mut report = Report {
        fields: canonical().map(|field| Coverage { field, filled: Counts::default() }).collect(),
        ..Report::default()
    };
    let mut decoder = Decoder::with_mappings(redactor.clone(), mappings.clone());
    for (at, bytes) in records.into_iter().enumerate() {
        let mut tape = Tape::default();
        // Each record of a batch is explained by itself.
        let parts: Option<Vec<String>> = tape.parse(bytes).ok().and_then(|root| {
            let batch = batch(root, format).unwrap_or(root);
            let first = batch.items().next();
            first.map(|_| batch.items().map(|v| v.to_json()).collect())
        });
        let whole = [bytes];
        let parts: Vec<&[u8]> = match &parts {
            Some(parts) => parts.iter().map(|p| p.as_bytes()).collect(),
            None => whole.to_vec(),
        };
        for part in parts {
            let mut seen = Seen { record: at + 1, told: Vec::new() };
            let context = Context { received, fallback_id: "sample", ..Context::default() };
            decoder.record(format, part, &context, &mut seen);
            trace(mappings, redactor, part, &mut seen.told);
            seen.told.into_iter().for_each(|(told, _)| report.add(told));
        }
    }
    report
}

impl Report {
    fn add(&mut self, told: Told) {
        match told.kind {
            "aside" => self.asides += 1,
            "rejection" => self.rejections += 1,
            "execution" | "authority" => {}
            _ => {
                *self.outcomes.of(&told.verdict) += 1;
                for coverage in &mut self.fields {
                    if told.fields.iter().any(|f| f.field == coverage.field) {
                        *coverage.filled.of(&told.verdict) += 1;
                    }
                }
            }
        }
        self.records.push(told);
    }

    /// Fields that no decision has.
    pub fn empty(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().filter(|c| c.filled == Counts::default()).map(|c| c.field)
    }
}

/// Names of the fields that a mapping is there to fill.
fn canonical() -> impl Iterator<Item = &'static str> {
    // These fill others, or tell the decoder something.
    const MEANS: &[&str] =
        &["actors.act", "actors.list", "actors.declared", "actors.source", "token.claims", "links.traceparent"];
    const MORE: &[&str] =
        &["decision.verdict", "decision.basis", "actors_source", "token.issued_at", "token.expires_at"];
    let slots = Slot::ALL.iter().map(|s| s.name());
    MORE.iter()
        .copied()
        .chain(slots.filter(|n| !MEANS.contains(n) && !n.starts_with("envoy.") && !n.starts_with("cerbos.")))
}

/// Collects; beside each entry stands the number of the decision within its record.
struct Seen {
    record: usize,
    told: Vec<(Told, Option<u32>)>,
}

impl Seen {
    fn refused(&mut self, kind: &'static str, refused: Rejection, format: Format) {
        self.told.push((
            Told {
                record: self.record,
                format: format.as_str(),
                kind,
                verdict: refused.reason.to_owned(),
                detail: Some(shown(&refused.detail)).filter(|d| !d.is_empty()),
                ..Told::default()
            },
            None,
        ));
    }
}

impl Sink for Seen {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        let mut told = Told {
            record: self.record,
            format: format.as_str(),
            kind: match event.kind {
                EventKind::Decision => "event",
                EventKind::Execution => "execution",
            },
            verdict: event.decision.outcome.as_str().to_owned(),
            flags: event.flags.iter().map(|f| f.to_string()).collect(),
            ..Told::default()
        };
        let mut native = Vec::new();
        catena_schemas::wire::write_native(event, &mut native);
        let mut tape = Tape::default();
        if let Ok(root) = tape.parse(&native) {
            fields(root, "", &mut told.fields);
            root.get("extra").into_iter().for_each(|extra| leaves(extra, "", &mut told.unmapped));
        }
        self.told.push((told, Some(event.source.decision_index)));
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        let mut told = Told {
            record: self.record,
            format: format.as_str(),
            kind: "authority",
            verdict: entry.kind.as_str().to_owned(),
            flags: entry.flags.iter().map(|f| f.to_string()).collect(),
            ..Told::default()
        };
        let mut tape = Tape::default();
        if let Ok(root) = tape.parse(entry.body.as_bytes()) {
            fields(root, "", &mut told.fields);
        }
        let mut tape = Tape::default();
        if let Some(extra) = entry.extra.as_ref().and_then(|e| tape.parse(e.as_bytes()).ok()) {
            leaves(extra, "", &mut told.unmapped);
        }
        self.told.push((told, Some(entry.source.decision_index)));
    }

    fn rejection(&mut self, rejection: Rejection, format: Format) {
        self.refused("rejection", rejection, format);
    }

    fn aside(&mut self, aside: Rejection, format: Format) {
        self.refused("aside", aside, format);
    }
}

/// The members of a native event, under their dotted names.
fn fields(of: Value<'_>, prefix: &str, into: &mut Vec<Filled>) {
    /// Members whose content is one value, whatever it holds.
    const WHOLE: &[&str] = &["call.params", "decision.obligations", "decision.challenge"];
    for (key, v) in of.entries() {
        let field = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match field.as_str() {
            "extra" | "kind" => {}
            "actors" => actors(v, into),
            name if v.kind() == Kind::Object && !WHOLE.contains(&name) => fields(v, name, into),
            _ => into.push(Filled { field, from: None, value: value(v) }),
        }
    }
}

/// The actors, member by member, root first.
fn actors(list: Value<'_>, into: &mut Vec<Filled>) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in list.items().flat_map(|a| a.entries()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let values: Vec<_> = list.items().filter_map(|a| a.get(name)).filter_map(|v| v.as_scalar()).collect();
        into.push(Filled { field: format!("actors.{name}"), from: None, value: shown(&values.join(" > ")) });
    }
}

/// The scalars of what is left, under their pointers.
fn leaves(of: Value<'_>, pointer: &str, into: &mut Vec<Unmapped>) {
    if into.len() >= LINES_MAX {
        return;
    }
    match of.kind() {
        Kind::Object => {
            for (key, v) in of.entries() {
                leaves(v, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), into);
            }
        }
        Kind::Array => of.items().enumerate().for_each(|(i, v)| leaves(v, &format!("{pointer}/{i}"), into)),
        _ => into.push(Unmapped { pointer: shown(pointer), value: value(of) }),
    }
}

fn value(v: Value<'_>) -> String {
    match v.as_scalar() {
        Some(s) => shown(s),
        None => shown(&v.to_json()),
    }
}

/// Text as it may stand on a terminal, cut.
fn shown(text: &str) -> String {
    let printable = |c: char| {
        let turns =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns { '\u{fffd}' } else { c }
    };
    let mut out: String = text.chars().take(VALUE_CHARS_MAX).map(printable).collect();
    if text.chars().nth(VALUE_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// Says of each field by which pointer it was filled: follows the mapping once more, as the decoder did.
fn trace(mappings: &Mappings, redactor: &Redactor, bytes: &[u8], told: &mut [(Told, Option<u32>)]) {
    let Some(format) = told.first().and_then(|t| Format::parse(t.0.format)) else { return };
    let (mut tape, mut inner, mut scratch) = (Tape::default(), Tape::default(), Tape::default());
    let Ok(mut root) = tape.parse(bytes) else { return };
    let work = Work { mappings, redactor, taken: &mut Taken::default() };
    let expanded = work.expand(format, root, &mut scratch);
    if let Some(expanded) = &expanded
        && let Ok(parsed) = inner.parse(expanded.as_bytes())
    {
        root = parsed;
    }
    let Some(mapping) = mappings.choose(format, &super::Roots::record(root)) else { return };
    let items = views(mapping, root);
    for (told, index) in told {
        told.mapping = Some(mapping.name.clone());
        let Some(index) = index else { continue };
        let Some(roots) = (if mapping.fan.is_some() { items.get(*index as usize) } else { items.first() }) else {
            continue;
        };
        let mut taken = Taken::default();
        let fill = Filling {
            mapping,
            roots: *roots,
            redactor,
            dirty: false,
            taken: &mut taken,
            flags: Vec::new(),
            absent: None,
            quoted: false,
        };
        let ways = Ways { mapping, fill };
        let act = told.fields.iter().any(|f| f.field == "actors_source" && f.value == "act_claim");
        for filled in &mut told.fields {
            filled.from = ways.of(&filled.field, act).map(|from| shown(&from));
        }
    }
}

/// Finds by which way a field was filled.
struct Ways<'t, 'r> {
    mapping: &'t Mapping,
    fill: Filling<'t, 'r>,
}

impl Ways<'_, '_> {
    fn slot(&self, slot: Slot) -> Option<String> {
        Some(match self.fill.way(slot)? {
            Origin::Pointer(pointer) => pointer.to_string(),
            Origin::Constant(constant) => format!("= {constant}"),
        })
    }

    fn rule(&self) -> Option<String> {
        Some(match self.mapping.decide(&self.fill.roots)? {
            Decided::Rule(_, 0) => "otherwise".to_owned(),
            Decided::Rule(_, number) => format!("rule {number}"),
            Decided::Removed(gone) => gone.reason().to_owned(),
            Decided::Table(_, v) => self.mapping.outcome.pointer(&self.fill.roots, v)?.to_string(),
        })
    }

    /// The rule that decided, if it says something more.
    fn said(&self, more: impl Fn(&Said) -> bool) -> Option<String> {
        match self.mapping.decide(&self.fill.roots)? {
            Decided::Rule(said, _) if more(said) => self.rule(),
            _ => None,
        }
    }

    fn of(&self, field: &str, act: bool) -> Option<String> {
        let own = Slot::ALL.iter().find(|s| s.name() == field).and_then(|s| self.slot(*s));
        match field {
            "decision.verdict" | "decision.basis" => self.rule(),
            "decision.enforced" => self.said(|said| said.enforced.is_some()).or(own),
            "decision.phase" => self
                .said(|said| said.phase.is_some())
                .or(own)
                .or_else(|| self.mapping.phase.map(|phase| format!("= {}", phase.as_str()))),
            "decision.reasons" => own.or_else(|| self.rule()),
            "actors.id" if act => self.slot(Slot::ActorsAct),
            "actors.id" => {
                let ways = [Slot::ActorsList, Slot::ActorsDeclared, Slot::ActorsId];
                ways.into_iter().find_map(|slot| self.slot(slot))
            }
            "links.trace" | "links.parent_span" => own.or_else(|| self.slot(Slot::Traceparent)),
            name if name.starts_with("token.") => own.or_else(|| self.slot(Slot::TokenClaims)),
            _ => own,
        }
    }
}
