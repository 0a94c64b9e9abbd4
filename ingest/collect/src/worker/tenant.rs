//! What one tenant has in the buffer, and the decoders that fill it.
//!
//! Guarantees: every tenant has a key of its own, under which its secrets are digested and its leaves are made; each row that is appended
//! has its leaf in the span of its partition, in the same order.

use super::{Settings, Span};
use crate::duplicates::Landing;
use catena_decode::mapping::Mappings;
use catena_decode::{Decoder, Format, Redactor, Sink};
use catena_evidence::tree::Accumulator;
use catena_schemas::authority::Entry;
use catena_schemas::canonical::LeafEncoder;
use catena_schemas::rows::{Place, Rejection, Rows};
use catena_schemas::{Event, EventKind, Micros, Outcome};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One tenant's decoder and rows.
pub(super) struct Tenant {
    /// The first is that of the settings; one more for each set of mappings that a source prefers.
    decoders: Vec<Decoder>,
    preferred: Vec<Arc<Mappings>>,
    /// Version of the redaction policy, for every row.
    redaction: Box<str>,
    leaf: LeafEncoder,
    pub(super) decisions: Facts,
    pub(super) executions: Facts,
    pub(super) authority: Facts,
    pub(super) rejects: Rows,
    pub(super) asides: Rows,
    pub(super) by_reason: BTreeMap<&'static str, u64>,
    pub(super) by_aside: BTreeMap<&'static str, u64>,
    pub(super) arrived: Micros,
}

/// Rows that can be sent twice, and what tells that they were.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) rows: Rows,
    /// Of each row, and the outcome of a decision.
    contents: Vec<(u128, Option<Outcome>)>,
}

impl Facts {
    /// Marks the rows that were there already, and says how many; `new` hears of the others.
    pub(super) fn mark(&mut self, landing: &mut Landing, mut new: impl FnMut(Outcome)) -> u64 {
        let mut duplicates = 0;
        for (row, (content, outcome)) in self.contents.drain(..).enumerate() {
            if landing.insert(content) {
                outcome.into_iter().for_each(&mut new);
            } else {
                self.rows.mark_duplicate(row);
                duplicates += 1;
            }
        }
        duplicates
    }
}

impl Tenant {
    pub(super) fn new(key: [u8; 32], settings: &Settings) -> Tenant {
        let redactor = Arc::new(Redactor::with_rules(key, settings.rules.clone()));
        Tenant {
            redaction: redactor.policy_version().into(),
            decoders: vec![Decoder::with_mappings(redactor, settings.mappings.clone())],
            preferred: Vec::new(),
            leaf: LeafEncoder::new(key),
            decisions: Facts::default(),
            executions: Facts::default(),
            authority: Facts::default(),
            rejects: Rows::default(),
            asides: Rows::default(),
            by_reason: BTreeMap::new(),
            by_aside: BTreeMap::new(),
            arrived: Micros::default(),
        }
    }

    /// Index of the decoder with these mappings.
    pub(super) fn decoder(&mut self, mappings: &Arc<Mappings>) -> usize {
        let known = self.preferred.iter().position(|p| Arc::ptr_eq(p, mappings));
        1 + known.unwrap_or_else(|| {
            let redactor = self.decoders[0].shared_redactor();
            self.decoders.push(Decoder::with_mappings(redactor, mappings.clone()));
            self.preferred.push(mappings.clone());
            self.preferred.len() - 1
        })
    }

    /// The decoders, and what takes the rows of a record at one place.
    pub(super) fn sink<'w>(
        &'w mut self,
        span: &'w mut Span,
        topic: Option<&'w str>,
        tenant: &'w str,
        offset: i64,
        received: Micros,
    ) -> (&'w mut [Decoder], Appender<'w>) {
        let place = Place {
            tenant,
            topic: topic.unwrap_or(&span.partition.topic),
            partition: span.partition.number,
            offset,
            format: "",
            redaction: &self.redaction,
            ingest_time: received,
        };
        let appender = Appender {
            place,
            leaf: &mut self.leaf,
            leaves: &mut span.leaves,
            decisions: &mut self.decisions,
            executions: &mut self.executions,
            authority: &mut self.authority,
            rejects: &mut self.rejects,
            asides: &mut self.asides,
            by_reason: &mut self.by_reason,
            by_aside: &mut self.by_aside,
            refused: 0,
        };
        (&mut self.decoders, appender)
    }

    fn buffers(&self) -> impl Iterator<Item = &Rows> {
        let facts = [&self.decisions, &self.executions, &self.authority].map(|f| &f.rows);
        facts.into_iter().chain([&self.rejects, &self.asides])
    }

    pub(super) fn rows(&self) -> usize {
        self.buffers().map(Rows::len).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.buffers().map(Rows::bytes).sum()
    }
}

/// Appends what the decoder hands on to the rows of its tenant.
pub(super) struct Appender<'w> {
    place: Place<'w>,
    leaf: &'w mut LeafEncoder,
    leaves: &'w mut Accumulator,
    decisions: &'w mut Facts,
    executions: &'w mut Facts,
    authority: &'w mut Facts,
    rejects: &'w mut Rows,
    asides: &'w mut Rows,
    by_reason: &'w mut BTreeMap<&'static str, u64>,
    by_aside: &'w mut BTreeMap<&'static str, u64>,
    /// Of this record so far.
    refused: u32,
}

impl Sink for Appender<'_> {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        let place = Place { format: format.as_str(), ..self.place };
        let leaf = self.leaf.event(event, &place);
        self.leaves.push(&leaf.hash);
        let (facts, outcome) = match event.kind {
            EventKind::Decision => (&mut *self.decisions, Some(event.decision.outcome)),
            EventKind::Execution => (&mut *self.executions, None),
        };
        facts.contents.push((leaf.content, outcome));
        facts.rows.push(event, &place, false);
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        let place = Place { format: format.as_str(), ..self.place };
        let leaf = self.leaf.authority(entry, &place);
        self.leaves.push(&leaf.hash);
        self.authority.contents.push((leaf.content, None));
        self.authority.rows.push_authority(entry, &place);
    }

    fn rejection(&mut self, rejection: Rejection, format: Format) {
        let place = Place { format: format.as_str(), ..self.place };
        let rejection = Rejection { index: self.refused, ..rejection };
        self.refused += 1;
        self.leaves.push(&self.leaf.rejection(&rejection, &place).hash);
        *self.by_reason.entry(rejection.reason).or_default() += 1;
        self.rejects.push_rejection(&rejection, &place);
    }

    fn aside(&mut self, aside: Rejection, format: Format) {
        let place = Place { format: format.as_str(), ..self.place };
        // Counted with the rejections of the record, so that each has an id of its own.
        let aside = Rejection { index: self.refused, ..aside };
        self.refused += 1;
        self.leaves.push(&self.leaf.rejection(&aside, &place).hash);
        *self.by_aside.entry(aside.reason).or_default() += 1;
        self.asides.push_rejection(&aside, &place);
    }
}
