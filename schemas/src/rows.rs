//! Events become rows of Arrow.
//!
//! Guarantee: the row builder and the leaf encoder both read events through [`visit`], which takes from the table in [`crate::fields`]
//! which part of an [`Event`] stands in which column. A column that a row leaves out costs nothing: it is filled with nulls
//! when the batch is finished. Rows come out sorted by (15-minute bucket of time, session, time, offset), so that the
//! calls of one session lie together, compress well, and runs can be merged later.

use crate::authority::Entry;
use crate::event::{self, Actor, Event, EventKind, Source};
use crate::json_text::write_string;
use crate::revision::{REVISIONS, Revision};
use crate::table::{Field, Kind, LEAF_VERSION, file_schema};
use crate::time::Micros;
use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StringArray,
    UInt32Array, new_null_array,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use std::sync::Arc;

/// Where a record was read, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// From authentication.
    pub tenant: &'a str,
    /// Kafka topic, intake log or file.
    pub topic: &'a str,
    /// Partition of it.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Name of the decoder.
    pub format: &'a str,
    /// Version of the redaction policy.
    pub redaction: &'a str,
    /// When it arrived.
    pub ingest_time: Micros,
}

/// A record that holds no fact: bytes that could not be read, or a line of another kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rejection {
    /// Stable code, snake case.
    pub reason: &'static str,
    /// What exactly, for people; already redacted.
    pub detail: String,
    /// The record, redacted and cut to 1 MiB; `None` for an aside of a part whose record is kept with another part.
    pub raw: Option<Vec<u8>>,
    /// Which of those of its record it is, from 0: a record that is an array may hold several.
    pub index: u32,
}

/// Receives the present values of a row; those of the leaf's header, and those of its body, in ascending order of leaf id.
pub trait FieldSink {
    /// UTF-8.
    fn text(&mut self, field: Field, value: &str);
    /// List of UTF-8, not empty.
    fn list<'s>(&mut self, field: Field, values: impl ExactSizeIterator<Item = &'s str>);
    /// Integer of either width.
    fn int(&mut self, field: Field, value: i64);
    /// Instant.
    fn time(&mut self, field: Field, value: Micros);
    /// Boolean.
    fn bool(&mut self, field: Field, value: bool);
    /// Bytes.
    fn bytes(&mut self, field: Field, value: &[u8]);
}

/// Gives one field to a sink, by how the table says that it is kept.
macro_rules! visit_field {
    ($sink:ident texts $field:ident $value:expr) => { visit_field!($sink @list $field $value) };
    ($sink:ident scopes $field:ident $value:expr) => { visit_field!($sink @list $field $value) };
    ($sink:ident digests $field:ident $value:expr) => { visit_field!($sink @list $field $value) };
    ($sink:ident @list $field:ident $value:expr) => {
        if !$value.is_empty() {
            $sink.list(Field::$field, $value.iter().map(|v| v.as_ref()));
        }
    };
    ($sink:ident int $field:ident $value:expr) => {
        if let Some(v) = $value {
            $sink.int(Field::$field, i64::from(v));
        }
    };
    ($sink:ident long $field:ident $value:expr) => {
        if let Some(v) = $value {
            $sink.int(Field::$field, v);
        }
    };
    ($sink:ident time $field:ident $value:expr) => {
        if let Some(v) = $value {
            $sink.time(Field::$field, v);
        }
    };
    ($sink:ident basis $field:ident $value:expr) => { visit_field!($sink @word $field $value) };
    ($sink:ident enforced $field:ident $value:expr) => { visit_field!($sink @word $field $value) };
    ($sink:ident phase $field:ident $value:expr) => { visit_field!($sink @word $field $value) };
    ($sink:ident @word $field:ident $value:expr) => {
        if let Some(v) = $value {
            $sink.text(Field::$field, v.as_str());
        }
    };
    ($sink:ident $text:ident $field:ident $value:expr) => {
        if let Some(v) = &$value {
            $sink.text(Field::$field, v);
        }
    };
}

macro_rules! visitors {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident: $Group:ident { $(
            $(#[doc = $doc:literal])+
            $field:ident: $how:ident $path:tt => $variant:ident $(, slot $slot:ident)?;
        )+ }
    )+) => { $(
        impl event::$Group<'_> {
            /// Gives the fields that the table lists to a sink.
            #[inline]
            fn visit(&self, sink: &mut impl FieldSink) {
                $(visit_field!(sink $how $variant self.$field);)+
            }
        }
    )+ };
}

crate::event_fields! { groups visitors }

/// Reads an event into a sink, column by column.
pub fn visit(event: &Event<'_>, place: &Place<'_>, sink: &mut impl FieldSink) {
    sink.text(Field::EventId, &event.id);
    sink.time(Field::Time, event.time);
    visit_place(place, sink);
    sink.text(Field::Outcome, event.decision.outcome.as_str());
    sink.text(Field::Redaction, place.redaction);
    sink.int(Field::DecisionIndex, i64::from(event.source.decision_index));
    sink.int(Field::LeafVersion, i64::from(LEAF_VERSION));
    sink.text(Field::Format, place.format);
    visit_source(&event.source, sink);
    event.decision.visit(sink);
    event.requester.visit(sink);
    visit_actors(event, sink);
    event.session.visit(sink);
    event.server.visit(sink);
    event.tool.visit(sink);
    event.call.visit(sink);
    event.token.visit(sink);
    event.grant.visit(sink);
    event.links.visit(sink);
    event.network.visit(sink);
    if let Some(extra) = &event.extra {
        sink.text(Field::Extra, extra);
    }
    if !event.flags.is_empty() {
        sink.list(Field::Flags, event.flags.iter().map(|f| f.as_ref()));
    }
    sink.time(Field::IngestTime, place.ingest_time);
    // A decision has no kind: its leaf is what it was before there were others.
    if event.kind != EventKind::Decision {
        sink.text(Field::Kind, event.kind.as_str());
    }
}

/// Reads a record of authority into a sink.
pub fn visit_authority(entry: &Entry<'_>, place: &Place<'_>, sink: &mut impl FieldSink) {
    sink.text(Field::EventId, &entry.id);
    sink.time(Field::Time, entry.time);
    visit_place(place, sink);
    sink.text(Field::Redaction, place.redaction);
    sink.int(Field::DecisionIndex, i64::from(entry.source.decision_index));
    sink.int(Field::LeafVersion, i64::from(LEAF_VERSION));
    sink.text(Field::Format, place.format);
    visit_source(&entry.source, sink);
    if let Some(extra) = &entry.extra {
        sink.text(Field::Extra, extra);
    }
    if !entry.flags.is_empty() {
        sink.list(Field::Flags, entry.flags.iter().map(|f| f.as_ref()));
    }
    sink.time(Field::IngestTime, place.ingest_time);
    sink.text(Field::Kind, entry.kind.as_str());
    sink.text(Field::Body, &entry.body);
}

fn visit_source(source: &Source<'_>, sink: &mut impl FieldSink) {
    source.visit(sink);
    if source.decision_count > 1 {
        sink.int(Field::DecisionCount, i64::from(source.decision_count));
    }
}

fn visit_place(place: &Place<'_>, sink: &mut impl FieldSink) {
    sink.text(Field::Topic, place.topic);
    sink.int(Field::Partition, i64::from(place.partition));
    sink.int(Field::Offset, place.offset);
}

fn visit_actors(event: &Event<'_>, sink: &mut impl FieldSink) {
    let actors = &event.actors;
    if let Some(last) = actors.last() {
        sink.text(Field::Agent, &last.id);
        sink.list(Field::Actors, actors.iter().map(|a| a.id.as_ref()));
        if actors.iter().any(|a| a.kind.is_some()) {
            sink.list(Field::ActorKinds, actors.iter().map(|a| a.kind.as_deref().unwrap_or("")));
        }
        if actors.iter().any(|a| a.assurance.is_some()) {
            sink.list(Field::ActorAssurance, actors.iter().map(|a| a.assurance.as_deref().unwrap_or("")));
        }
        if actors.iter().any(|a| a.issuer.is_some() || a.name.is_some() || a.version.is_some() || a.model.is_some()) {
            sink.text(Field::ActorDetails, &actor_details(actors));
        }
    }
    if let Some(source) = &event.actors_source {
        sink.text(Field::ActorsSource, source);
    }
    if let Some(complete) = event.actors_complete {
        sink.bool(Field::ActorsComplete, complete);
    }
}

/// JSON array of what has no column of its own. Written by hand: the leaf is taken of this text, so the order of its members
/// must not hang on how a library was built.
fn actor_details(actors: &[Actor<'_>]) -> String {
    let mut out = vec![b'['];
    for (i, a) in actors.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
        let mut separator = "\"";
        for (key, value) in [("issuer", &a.issuer), ("model", &a.model), ("name", &a.name), ("version", &a.version)] {
            if let Some(value) = value {
                out.extend_from_slice(separator.as_bytes());
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b"\":");
                write_string(value, &mut out);
                separator = ",\"";
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    String::from_utf8(out).expect("texts and punctuation")
}

/// Reads a rejection or an aside into a sink.
pub fn visit_rejection(rejection: &Rejection, place: &Place<'_>, sink: &mut impl FieldSink) {
    visit_place(place, sink);
    sink.text(Field::Redaction, place.redaction);
    if rejection.index > 0 {
        sink.int(Field::DecisionIndex, i64::from(rejection.index));
    }
    sink.int(Field::LeafVersion, i64::from(LEAF_VERSION));
    sink.text(Field::Format, place.format);
    sink.text(Field::Reason, rejection.reason);
    if !rejection.detail.is_empty() {
        sink.text(Field::ReasonDetail, &rejection.detail);
    }
    if let Some(raw) = &rejection.raw {
        sink.bytes(Field::Raw, raw);
    }
    sink.time(Field::IngestTime, place.ingest_time);
}

/// Builds the rows of one file: one tenant, one class.
#[derive(Debug)]
pub struct Rows {
    rows: usize,
    bytes: usize,
    columns: Vec<Column>,
}

impl Default for Rows {
    fn default() -> Self {
        Rows { rows: 0, bytes: 0, columns: Field::ALL.iter().map(|f| Column::new(f.kind())).collect() }
    }
}

impl Rows {
    /// Rows so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes held, for budgets: values and offsets, not capacity.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a decision or an execution.
    pub fn push(&mut self, event: &Event<'_>, place: &Place<'_>, duplicate: bool) {
        visit(event, place, self);
        if duplicate {
            self.bool(Field::Duplicate, true);
        }
        self.rows += 1;
    }

    /// Marks a row as sent before; rows are marked in ascending order.
    pub fn mark_duplicate(&mut self, row: usize) {
        self.columns[Field::Duplicate as usize].push_long(row, 1);
    }

    /// Appends a record of authority.
    pub fn push_authority(&mut self, entry: &Entry<'_>, place: &Place<'_>) {
        visit_authority(entry, place, self);
        self.rows += 1;
    }

    /// Appends a revision of a chain.
    pub fn push_revision(&mut self, revision: &Revision<'_>, place: &Place<'_>) {
        self.text(Field::EventId, revision.chain_id);
        self.time(Field::Time, revision.ended);
        visit_place(place, self);
        self.text(Field::Format, place.format);
        self.int(Field::SourceSeq, revision.revision);
        self.time(Field::IngestTime, place.ingest_time);
        self.text(Field::Kind, REVISIONS.record);
        self.text(Field::Body, revision.body);
        self.rows += 1;
    }

    /// Appends a rejection or an aside.
    pub fn push_rejection(&mut self, rejection: &Rejection, place: &Place<'_>) {
        visit_rejection(rejection, place, self);
        self.rows += 1;
    }

    /// Finishes the batch, sorted, and leaves the builder empty.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let order = self.order(rows);
        let columns: Vec<ArrayRef> = self
            .columns
            .iter_mut()
            .zip(file_schema().fields())
            .map(|(column, field)| {
                let array = column.finish(rows, field.data_type());
                match &order {
                    Some(order) if array.null_count() < rows => {
                        arrow_select::take::take(&array, order, None).expect("the order holds every row once")
                    }
                    _ => array,
                }
            })
            .collect();
        RecordBatch::try_new(file_schema(), columns).expect("columns are built from the schema")
    }

    /// The sorted order of rows, or `None` if they stand in it already.
    fn order(&self, rows: usize) -> Option<UInt32Array> {
        const BUCKET_US: i64 = 15 * 60 * 1_000_000;
        let (times, sessions) = (&self.columns[Field::Time as usize], &self.columns[Field::Session as usize]);
        let offsets = &self.columns[Field::Offset as usize];
        let mut keys: Vec<(i64, u64, i64, i64, u32)> = (0..rows)
            .map(|row| {
                let time = times.long(row).unwrap_or(0);
                let mut prefix = [0; 8];
                let session = sessions.text(row);
                let cut = session.len().min(8);
                prefix[..cut].copy_from_slice(&session[..cut]);
                (
                    time.div_euclid(BUCKET_US),
                    u64::from_be_bytes(prefix),
                    time,
                    offsets.long(row).unwrap_or(0),
                    row as u32,
                )
            })
            .collect();
        let compare = |a: &(i64, u64, i64, i64, u32), b: &(i64, u64, i64, i64, u32)| {
            (a.0, a.1)
                .cmp(&(b.0, b.1))
                .then_with(|| sessions.text(a.4 as usize).cmp(sessions.text(b.4 as usize)))
                .then_with(|| (a.2, a.3, a.4).cmp(&(b.2, b.3, b.4)))
        };
        if keys.is_sorted_by(|a, b| compare(a, b).is_le()) {
            return None;
        }
        keys.sort_unstable_by(compare);
        Some(UInt32Array::from_iter_values(keys.into_iter().map(|k| k.4)))
    }
}

impl FieldSink for Rows {
    #[inline]
    fn text(&mut self, field: Field, value: &str) {
        self.bytes += value.len() + 4;
        self.columns[field as usize].push_bytes(self.rows, value.as_bytes());
    }

    #[inline]
    fn bytes(&mut self, field: Field, value: &[u8]) {
        self.bytes += value.len() + 4;
        self.columns[field as usize].push_bytes(self.rows, value);
    }

    #[inline]
    fn list<'s>(&mut self, field: Field, values: impl ExactSizeIterator<Item = &'s str>) {
        self.bytes += self.columns[field as usize].push_list(self.rows, values);
    }

    #[inline]
    fn int(&mut self, field: Field, value: i64) {
        self.bytes += 8;
        self.columns[field as usize].push_long(self.rows, value);
    }

    #[inline]
    fn time(&mut self, field: Field, value: Micros) {
        self.int(field, value.0);
    }

    #[inline]
    fn bool(&mut self, field: Field, value: bool) {
        self.int(field, i64::from(value));
    }
}

/// One column under construction. `filled` rows are accounted for; a row beyond it that is never pushed is null.
#[derive(Debug)]
struct Column {
    filled: usize,
    nulls: usize,
    valid: BooleanBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bytes { ends: Vec<i32>, data: Vec<u8> },
    Long(Vec<i64>),
    List { ends: Vec<i32>, item_ends: Vec<i32>, data: Vec<u8> },
}

impl Column {
    fn new(kind: Kind) -> Column {
        let values = match kind {
            Kind::Text | Kind::Id | Kind::Json | Kind::Bytes => Values::Bytes { ends: vec![0], data: Vec::new() },
            Kind::List => Values::List { ends: vec![0], item_ends: vec![0], data: Vec::new() },
            Kind::Time | Kind::Int | Kind::Long | Kind::Bool => Values::Long(Vec::new()),
        };
        Column { filled: 0, nulls: 0, valid: BooleanBufferBuilder::new(0), values }
    }

    /// Fills with nulls up to `row`, then marks `row` as present.
    #[inline]
    fn reach(&mut self, row: usize) {
        if self.filled < row {
            self.fill(row);
        }
        self.valid.append(true);
        self.filled = row + 1;
    }

    fn fill(&mut self, row: usize) {
        let gap = row - self.filled;
        self.valid.append_n(gap, false);
        self.nulls += gap;
        match &mut self.values {
            Values::Bytes { ends, .. } | Values::List { ends, .. } => {
                let end = ends[ends.len() - 1];
                ends.resize(ends.len() + gap, end);
            }
            Values::Long(values) => values.resize(values.len() + gap, 0),
        }
        self.filled = row;
    }

    #[inline]
    fn push_bytes(&mut self, row: usize, value: &[u8]) {
        self.reach(row);
        if let Values::Bytes { ends, data } = &mut self.values {
            data.extend_from_slice(value);
            ends.push(data.len() as i32);
        }
    }

    #[inline]
    fn push_long(&mut self, row: usize, value: i64) {
        self.reach(row);
        if let Values::Long(values) = &mut self.values {
            values.push(value);
        }
    }

    #[inline]
    fn push_list<'s>(&mut self, row: usize, items: impl ExactSizeIterator<Item = &'s str>) -> usize {
        self.reach(row);
        let mut bytes = 4;
        if let Values::List { ends, item_ends, data } = &mut self.values {
            for item in items {
                data.extend_from_slice(item.as_bytes());
                item_ends.push(data.len() as i32);
                bytes += item.len() + 4;
            }
            ends.push(item_ends.len() as i32 - 1);
        }
        bytes
    }

    fn long(&self, row: usize) -> Option<i64> {
        match &self.values {
            Values::Long(values) => values.get(row).copied(),
            _ => None,
        }
    }

    fn text(&self, row: usize) -> &[u8] {
        match &self.values {
            Values::Bytes { ends, data } if row + 1 < ends.len() => &data[ends[row] as usize..ends[row + 1] as usize],
            _ => &[],
        }
    }

    fn finish(&mut self, rows: usize, data_type: &DataType) -> ArrayRef {
        let untouched = self.filled == 0;
        if self.filled < rows && !untouched {
            self.fill(rows);
        }
        self.filled = 0;
        let nulls = std::mem::take(&mut self.nulls);
        let valid = self.valid.finish();
        if untouched {
            return new_null_array(data_type, rows);
        }
        let nulls = (nulls > 0).then(|| NullBuffer::new(valid));
        match &mut self.values {
            Values::Bytes { ends, data } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(fresh(ends)));
                let data = Buffer::from_vec(renew(data));
                match data_type {
                    DataType::Binary => Arc::new(BinaryArray::new(offsets, data, nulls)),
                    _ => Arc::new(StringArray::new(offsets, data, nulls)),
                }
            }
            Values::Long(values) => {
                let values = renew(values);
                match data_type {
                    DataType::Int32 => {
                        primitive::<Int32Type>(values.into_iter().map(|v| v as i32).collect(), nulls, data_type)
                    }
                    DataType::Boolean => {
                        Arc::new(BooleanArray::new(values.into_iter().map(|v| v != 0).collect(), nulls))
                    }
                    DataType::Int64 => primitive::<Int64Type>(values, nulls, data_type),
                    _ => primitive::<TimestampMicrosecondType>(values, nulls, data_type),
                }
            }
            Values::List { ends, item_ends, data } => {
                let DataType::List(item) = data_type else { unreachable!("list values belong to list columns") };
                let items = StringArray::new(
                    OffsetBuffer::new(ScalarBuffer::from(fresh(item_ends))),
                    Buffer::from_vec(renew(data)),
                    None,
                );
                Arc::new(ListArray::new(
                    item.clone(),
                    OffsetBuffer::new(ScalarBuffer::from(fresh(ends))),
                    Arc::new(items),
                    nulls,
                ))
            }
        }
    }
}

/// Takes a vector and leaves one of the same capacity, so that the next batch does not grow step by step.
fn renew<T>(v: &mut Vec<T>) -> Vec<T> {
    let capacity = v.len();
    std::mem::replace(v, Vec::with_capacity(capacity))
}

fn fresh(ends: &mut Vec<i32>) -> Vec<i32> {
    let taken = renew(ends);
    ends.push(0);
    taken
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type.clone()))
}
