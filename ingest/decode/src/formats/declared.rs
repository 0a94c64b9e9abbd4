//! Producers that are only data: a record and a mapping become events.
//!
//! Guarantees: nothing here knows a producer; which records are decisions, what they decide and where everything stands is
//! the mapping's to say. What it does not decide is `unknown`, under the reason `outcome_unmapped`, and what its producer took out is
//! never decided by. Nothing is set aside but what a mapping says is no fact: a list that is not there is no empty one, and a shipped
//! mapping that holds everything else aside does so only without a sign of a call or a verdict. A record that fans out
//! gives one event per item, in their order, and an item paired with nothing is an event all the same. What one record
//! multiplies into is bounded: [`COPIED_BYTES_MAX`] bytes of arguments and extra, beyond which
//! these are left out under a flag, and what [`super::bounds`] says. Items that cannot be read cost the record one rejection, and the others nothing.

use super::bounds::{DECISIONS_MAX, bounded};
use super::cerbos::{COPIED_BYTES_MAX, SHARED_BYTES_MAX, limit};
use super::mapped::{Extra, Filling, VERDICT_UNREAD};
use super::opened::Opening;
use super::signs;
use crate::json::{Kind, Tape, Value};
use crate::mapping::{Aside, Fan, Mapping, Mappings, Origin, Pairing, Roots, Slot};
use crate::redact::{Redactor, Taken};
use crate::{Context, Format, Sink};
use catena_schemas::event::{Basis, Event, Outcome};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

/// Whether a format is read by its mapping alone.
pub(crate) fn is_declared(format: Format) -> bool {
    matches!(
        format,
        Format::Authzen
            | Format::Openfga
            | Format::Teleport
            | Format::Cloudtrail
            | Format::Contextforge
            | Format::Kong
            | Format::Toolhive
            | Format::DockerMcp
            | Format::Obot
            | Format::Mapped
    )
}

/// The records inside a file of CloudTrail, which is one object around them.
pub(crate) fn batch(root: Value<'_>, format: Format) -> Option<Value<'_>> {
    let mut members = root.entries();
    let (name, records) = members.next()?;
    let wrapped = matches!(format, Format::Auto | Format::Cloudtrail)
        && name == "Records"
        && records.kind() == Kind::Array
        && members.next().is_none();
    wrapped.then_some(records)
}

/// What decoding one record needs besides it.
pub(crate) struct Work<'m, 'r> {
    pub(crate) mappings: &'m Mappings,
    pub(crate) redactor: &'r Redactor,
    pub(crate) taken: &'r mut Taken,
}

/// One decision of a record.
struct Item<'t> {
    roots: Roots<'t>,
    index: u32,
    count: u32,
}

impl<'m> Work<'m, '_> {
    /// The record with the texts that the mapping parses replaced by what they hold, and those that it unescapes by what they were;
    /// `None` when there is none.
    pub(crate) fn expand(&self, format: Format, root: Value<'_>, scratch: &mut Tape) -> Option<String> {
        let mapping = self.mappings.choose(format, &Roots::record(root))?;
        let opening = Opening {
            json: mapping.parse.iter().flat_map(|p| p.each(root)),
            begin: &['{', '['],
            html: mapping.unescape.iter().flat_map(|p| p.each(root)),
        };
        opening.of(root, scratch)
    }

    /// Reads one record. `place` is where it stands in its batch.
    pub(crate) fn decode<'t>(
        &mut self,
        format: Format,
        (root, bytes): (Value<'t>, &[u8]),
        place: (u32, u32),
        context: &Context<'t>,
        sink: &mut impl Sink,
    ) -> Result<(), (&'static str, String)>
    where
        'm: 't,
    {
        if root.kind() != Kind::Object {
            return Err(("not_an_object", format!("the record is {}", root.kind().as_str())));
        }
        let roots = Roots::record(root);
        let Some(mapping) = self.mappings.choose(format, &roots) else {
            return Err(("mapping_missing", format!("no mapping of `{}` knows the record", format.as_str())));
        };
        if let Some((aside, detail)) = self.aside(mapping, &roots, false) {
            let sign = if mapping.is_shipped() && aside.is_for_all() { signs::sign(root, &[]) } else { None };
            return match sign {
                Some(sign) => Err(("record_unknown", sign)),
                None => {
                    sink.aside(self.redactor.aside(aside.reason, detail, root, bytes), format);
                    Ok(())
                }
            };
        }
        let Some(fan) = &mapping.fan else {
            let item = Item { roots, index: place.0, count: place.1 };
            let dirty = self.redactor.suspects_record(root);
            let mut e = self.event(mapping, format, &item, None, dirty, context)?;
            let mut extra = Extra::new(self.redactor, dirty, self.taken);
            extra.members(root);
            e.extra = extra.finish();
            sink.event(&e, format);
            return Ok(());
        };
        self.fan_out((mapping, fan), format, (root, bytes), context, sink)
    }

    fn fan_out<'t>(
        &mut self,
        (mapping, fan): (&'t Mapping, &'t Fan),
        format: Format,
        (root, bytes): (Value<'t>, &[u8]),
        context: &Context<'t>,
        sink: &mut impl Sink,
    ) -> Result<(), (&'static str, String)> {
        let items = items(fan, root)?;
        let Some(first) = items.first() else {
            sink.aside(self.redactor.aside("items_none", fan.each.to_string(), root, bytes), format);
            return Ok(());
        };
        let dirty = self.redactor.suspects_record(root);
        let shared = self.shared(mapping, fan, root, &items, first, dirty);
        let mut budget = COPIED_BYTES_MAX + root.source().len();
        let mut failed: Option<(&'static str, String)> = None;
        let mut failures = 0;
        let mut kept = false;
        for item in &items {
            if let Some((aside, detail)) = self.aside(mapping, &item.roots, true) {
                // An item alone is no record: the whole stands with the first.
                let aside = match std::mem::replace(&mut kept, true) {
                    false => self.redactor.aside(aside.reason, detail, root, bytes),
                    true => self.redactor.aside_of_part(aside.reason, detail),
                };
                sink.aside(aside, format);
                continue;
            }
            let mut e = match self.event(mapping, format, item, Some(item.index), dirty, context) {
                Ok(e) => e,
                Err((reason, detail)) => {
                    failures += 1;
                    failed.get_or_insert((reason, format!("decision {}: {detail}", item.index)));
                    continue;
                }
            };
            let mut extra = Extra::new(self.redactor, dirty, self.taken);
            for (name, v) in [("item", item.roots.item), ("key", item.roots.key), ("pair", item.roots.pair)] {
                v.into_iter().for_each(|v| extra.member(name, v));
            }
            let repeated = item.index == 0 || shared.len() <= SHARED_BYTES_MAX;
            e.extra = extra.finish_with(if repeated { &shared } else { "" });
            limit(&mut e, &mut budget);
            sink.event(&e, format);
        }
        match failed {
            None => Ok(()),
            Some((reason, detail)) if failures == 1 => Err((reason, detail)),
            Some((reason, detail)) => Err((reason, format!("{detail}; and {} more", failures - 1))),
        }
    }

    /// What the record says of all its decisions, as a member of `extra`: what neither a list nor a field has.
    fn shared<'t>(
        &mut self,
        mapping: &'t Mapping,
        fan: &'t Fan,
        root: Value<'t>,
        items: &[Item<'t>],
        first: &Item<'t>,
        dirty: bool,
    ) -> String {
        self.taken.clear();
        let mut fill = self.filling(mapping, first.roots, dirty);
        fill.time(&mut Event::default(), None, &Context::default()).ok();
        fill.decide(&mut Event::default());
        fill.apply(&mut Event::default());
        fill.drop();
        // A raw token is kept in no form, whatever the conditions under which a decision wants it.
        for way in mapping.field(Slot::TokenReference) {
            if let Origin::Pointer(pointer) = &way.from
                && let Some(v) = pointer.follow(&first.roots)
            {
                fill.taken.insert(v);
            }
        }
        fan.each.follow(&Roots::record(root)).into_iter().for_each(|v| fill.taken.insert(v));
        items.iter().filter_map(|i| i.roots.pair).for_each(|v| fill.taken.insert(v));
        let mut extra = Extra::new(self.redactor, dirty, self.taken);
        extra.member("record", root);
        extra.into_members()
    }

    fn filling<'t>(&mut self, mapping: &'t Mapping, roots: Roots<'t>, dirty: bool) -> Filling<'t, '_> {
        Filling {
            mapping,
            roots,
            redactor: self.redactor,
            dirty,
            taken: self.taken,
            flags: Vec::new(),
            absent: None,
            quoted: false,
        }
    }

    /// One event, but for its `extra`. `part` is its number within the record, if it may have others.
    fn event<'t>(
        &mut self,
        mapping: &'t Mapping,
        format: Format,
        item: &Item<'t>,
        part: Option<u32>,
        dirty: bool,
        context: &Context<'t>,
    ) -> Result<Event<'t>, (&'static str, String)> {
        self.taken.clear();
        let mut fill = self.filling(mapping, item.roots, dirty);
        let mut e = Event::default();
        fill.time(&mut e, None, context)?;
        e.source.kind = Some(match format {
            Format::Mapped => Cow::Borrowed(mapping.name.as_str()),
            format => Cow::Borrowed(format.as_str()),
        });
        (e.source.decision_index, e.source.decision_count) = (item.index, item.count);
        if !fill.decide(&mut e) {
            (e.decision.outcome, e.decision.basis) = (Outcome::Unknown, Some(Basis::Inferred));
            e.decision.reasons.push(Cow::Borrowed("outcome_unmapped"));
            if mapping.outcome.named(&item.roots) {
                fill.flag(VERDICT_UNREAD);
            }
        }
        if let Some(index) = part {
            let record = fill.said(Slot::Id);
            fill.take(Slot::Id);
            if record.is_none() {
                fill.flag("id_missing");
            }
            e.id = Cow::Owned(format!("{}/{index}", record.as_deref().unwrap_or(context.fallback_id)));
            e.source.record = record;
        }
        fill.apply(&mut e);
        fill.drop();
        fill.finish(&mut e, context);
        Ok(e)
    }

    /// Whether the mapping holds a record, or one item of it, aside, and what it tells of it.
    fn aside<'t>(&self, mapping: &'t Mapping, roots: &Roots<'_>, item: bool) -> Option<(&'t Aside, String)> {
        let aside = mapping.asides.iter().find(|a| a.holds(roots, &mapping.outcome, item))?;
        let detail = aside.detail.as_ref().and_then(|p| {
            let text = p.follow(roots)?.as_scalar()?;
            Some(self.redactor.told(p.name(), text).unwrap_or_else(|| text.to_owned()))
        });
        Some((aside, detail.unwrap_or_default()))
    }
}

/// The items of a record, each with what belongs to it.
fn items<'t>(fan: &Fan, root: Value<'t>) -> Result<Vec<Item<'t>>, (&'static str, String)> {
    let record = Roots::record(root);
    let Some(list) = fan.each.follow(&record).filter(|v| !v.is_null()) else {
        return Err(("items_missing", format!("there is no `{}`", fan.each)));
    };
    let found: Vec<(Option<Value<'t>>, Value<'t>)> = match list.kind() {
        Kind::Array => list.items().take(DECISIONS_MAX + 1).map(|v| (None, v)).collect(),
        Kind::Object => list.members().take(DECISIONS_MAX + 1).map(|(key, v)| (Some(key), v)).collect(),
        kind => return Err(("items_invalid", format!("`{}` is {}", fan.each, kind.as_str()))),
    };
    let paired = fan.pair.as_ref().and_then(|p| p.with.follow(&record)).map_or(0, |v| v.source().len());
    let around = root.source().len().saturating_sub(list.source().len()).saturating_sub(paired);
    bounded(found.len(), around)?;
    let pairs = match &fan.pair {
        Some(pairing) => pairs(pairing, &record, &found),
        None => vec![None; found.len()],
    };
    let count = found.len() as u32;
    let items = found.into_iter().zip(pairs).enumerate().map(|(index, ((key, item), pair))| Item {
        roots: Roots { item: Some(item), key, pair, ..record },
        index: index as u32,
        count,
    });
    Ok(items.collect())
}

/// What belongs to each item: by position, by name, or by equal members, of which each counts once and in order.
fn pairs<'t>(
    pairing: &Pairing,
    record: &Roots<'t>,
    items: &[(Option<Value<'t>>, Value<'t>)],
) -> Vec<Option<Value<'t>>> {
    let Some(others) = pairing.with.follow(record) else { return vec![None; items.len()] };
    let Some((ours, theirs)) = &pairing.by else {
        if others.kind() == Kind::Object {
            // Two objects are paired by the names of their members.
            let by_name: HashMap<&str, Value<'t>> = others.entries().collect();
            let name = |key: &Option<Value<'t>>| key.and_then(|k| k.as_str());
            return items.iter().map(|(key, _)| name(key).and_then(|n| by_name.get(n).copied())).collect();
        }
        let mut others = others.items();
        return items.iter().map(|_| others.next()).collect();
    };
    if others.kind() == Kind::Object {
        let mut waiting: HashMap<&str, Value<'t>> = others.entries().collect();
        let name = |item: Value<'t>| ours.from(item).and_then(|v| v.as_scalar());
        return items.iter().map(|(_, item)| name(*item).and_then(|name| waiting.remove(name))).collect();
    }
    let others: Vec<Value<'t>> = others.items().collect();
    let (mut found, mut used) = (vec![None; items.len()], vec![false; others.len()]);
    let also = pairing.also.iter().map(|a| (&a.item, &a.other, a.lookup.as_ref()));
    for (ours, theirs, lookup) in std::iter::once((ours, theirs.as_ref().unwrap_or(ours), None)).chain(also) {
        let mut waiting: HashMap<&str, VecDeque<usize>> = HashMap::new();
        for (at, other) in others.iter().enumerate().filter(|(at, _)| !used[*at]) {
            let name = theirs.from(*other).and_then(|v| v.as_scalar());
            name.into_iter().for_each(|name| waiting.entry(name).or_default().push_back(at));
        }
        for (pair, (_, item)) in found.iter_mut().zip(items).filter(|(pair, _)| pair.is_none()) {
            let name = ours.from(*item).and_then(|v| v.as_scalar());
            let name = match lookup {
                Some(lookup) => name.and_then(|name| lookup.get(name)).map(String::as_str),
                None => name,
            };
            if let Some(at) = name.and_then(|name| waiting.get_mut(name)?.pop_front()) {
                (*pair, used[at]) = (Some(others[at]), true);
            }
        }
    }
    found
}

/// The items of a record as their fields see them, for explanations.
pub(crate) fn views<'t>(mapping: &Mapping, root: Value<'t>) -> Vec<Roots<'t>> {
    match &mapping.fan {
        None => vec![Roots::record(root)],
        Some(fan) => items(fan, root).unwrap_or_default().into_iter().map(|i| i.roots).collect(),
    }
}
