//! The leaf encoder against its second implementation (`tests/leaf_v1.py`), and against the rows it has to be recomputed from.

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field as ArrowField, Schema};
use catena_schemas::authority::{Entry, EntryKind};
use catena_schemas::canonical::{
    Leaf, LeafEncoder, SubjectKey, Value, encode_fields, leaf_data, leaf_hash, tenant_key,
};
use catena_schemas::event::Grant;
use catena_schemas::fixture::{entries, events, rejections};
use catena_schemas::rows::{Place, Rejection, Rows};
use catena_schemas::table::{Field, Kind};
use catena_schemas::{Actor, Event, Micros};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;

type Json = serde_json::Value;

fn vectors() -> Json {
    serde_json::from_str(include_str!("leaf-v1.json")).expect("the vectors are JSON")
}

fn each(part: &str) -> Vec<Json> {
    vectors()[part].as_array().expect("a list of vectors").clone()
}

fn text(json: &Json) -> &str {
    json.as_str().expect("text")
}

fn bytes(json: &Json) -> Vec<u8> {
    hex::decode(text(json)).expect("hex")
}

/// A value as `leaf_v1.py` writes it: type and content.
fn value(json: &Json) -> Value {
    let content = &json[1];
    let int = || content.as_i64().expect("an integer");
    match text(&json[0]) {
        "utf8" => Value::Text(text(content).into()),
        "repeat" => Value::Text(text(&content[0]).repeat(content[1].as_u64().expect("a count") as usize)),
        "bytes" => Value::Bytes(bytes(content)),
        "i64" => Value::Int(int()),
        "bool" => Value::Bool(content.as_bool().expect("a boolean")),
        "time" => Value::Time(Micros(int())),
        "list" => Value::List(content.as_array().expect("a list").iter().map(value).collect()),
        "map" => Value::Map(content.as_object().expect("a map").iter().map(|(k, v)| (k.clone(), value(v))).collect()),
        "commitment" => Value::Commitment(bytes(content).try_into().expect("32 bytes")),
        other => panic!("unknown type {other}"),
    }
}

fn encoded(json: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    value(json).write(&mut out);
    out
}

#[test]
fn values_agree() {
    let values = each("values");
    for v in &values {
        let encoded = encoded(&v["value"]);
        assert_eq!(encoded.len() as u64, v["bytes"].as_u64().expect("a length"), "{v}");
        assert_eq!(hex::encode(Sha256::digest(&encoded)), text(&v["sha256"]), "{v}");
    }
    assert_eq!(values.len(), 80);
}

#[test]
fn leaves_agree() {
    let part = |v: &Json| {
        let fields: Vec<(u16, Value)> =
            v.as_object().expect("fields").iter().map(|(id, v)| (id.parse().expect("a field id"), value(v))).collect();
        encode_fields(&fields)
    };
    let leaves = each("leaves");
    for v in &leaves {
        let data = leaf_data(&part(&v["header"]), &part(&v["body"]));
        assert_eq!(hex::encode(&data), text(&v["leaf_data"]), "{v}");
        assert_eq!(hex::encode(leaf_hash(&data)), text(&v["leaf_hash"]), "{v}");
    }
    assert_eq!(leaves.len(), 61);
    assert_eq!(bytes(&leaves[0]["leaf_data"]).len(), 206, "the published vector comes first");
    assert_eq!(text(&leaves[0]["leaf_hash"]), "1442ca222d792d9f98ec3435721486fe9c96c3796ab5d22626b3320e7673cfc0");
}

#[test]
fn commitments_agree() {
    let commitments = each("commitments");
    for v in &commitments {
        let field = v["field"].as_u64().expect("a field id") as u16;
        let commitment =
            SubjectKey::new(&bytes(&v["subject_key"])).commit(&bytes(&v["event_id"]), field, &encoded(&v["value"]));
        assert_eq!(hex::encode(commitment), text(&v["commitment"]), "{v}");
    }
    assert_eq!(commitments.len(), 40);
}

#[test]
fn rows_agree() {
    let rows = each("rows");
    for v in &rows {
        let mut encoder = LeafEncoder::new(bytes(&v["tenant_key"]).try_into().expect("32 bytes"));
        let leaf = encoder.row(text(&v["tenant"]), &stored(&v["columns"]), 0);
        assert_eq!(hex::encode(leaf.hash), text(&v["leaf_hash"]), "{v}");
    }
    assert_eq!(rows.len(), 73);
    let kinds = rows.iter().filter_map(|v| v["columns"]["kind"].as_str()).collect::<std::collections::BTreeSet<_>>();
    assert!(EntryKind::ALL.iter().all(|k| kinds.contains(k.as_str())) && kinds.contains("execution"));
    // Those of decisions are what they were before there were other kinds.
    let before: Vec<_> =
        rows.iter().filter(|v| v["columns"]["kind"].is_null()).map(|v| text(&v["leaf_hash"])).collect();
    assert_eq!(before.len(), 61);
    assert_eq!(
        hex::encode(Sha256::digest(before.concat())),
        "31e31606f2f939b400c531630e8b8c9469b140d246b584ea79d8e4424bb3a518"
    );
}

/// A batch of one row that holds only the columns named, in the order of their names.
fn stored(columns: &Json) -> RecordBatch {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (name, json) in columns.as_object().expect("columns") {
        let field = Field::ALL.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no column {name}"));
        let array: ArrayRef = match field.kind() {
            Kind::Text | Kind::Id | Kind::Json => Arc::new(StringArray::from(vec![text(json)])),
            Kind::Bytes => Arc::new(BinaryArray::from_vec(vec![&bytes(json)])),
            Kind::Time => {
                Arc::new(TimestampMicrosecondArray::from(vec![json.as_i64().expect("micros")]).with_timezone("UTC"))
            }
            Kind::Int => Arc::new(Int32Array::from(vec![json.as_i64().expect("an integer") as i32])),
            Kind::Long => Arc::new(Int64Array::from(vec![json.as_i64().expect("an integer")])),
            Kind::Bool => Arc::new(BooleanArray::from(vec![json.as_bool().expect("a boolean")])),
            Kind::List => {
                let mut list = ListBuilder::new(StringBuilder::new());
                list.append_value(json.as_array().expect("a list").iter().map(|v| v.as_str()));
                Arc::new(list.finish())
            }
        };
        fields.push(ArrowField::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("one row")
}

// ---- leaves of events and of the rows they became -------------------------------------------------------------------

const TENANT: &str = "tenant-a";

fn place(offset: i64) -> Place<'static> {
    Place {
        tenant: TENANT,
        topic: "decisions",
        partition: 3,
        offset,
        format: "catena",
        redaction: "r1",
        ingest_time: Micros(1_763_683_200_000_000),
    }
}

fn encoder() -> LeafEncoder {
    LeafEncoder::new(tenant_key(b"secret", TENANT))
}

fn leaf(event: &Event<'_>, place: &Place<'_>) -> Leaf {
    encoder().event(event, place)
}

fn offset_of(batch: &RecordBatch, row: usize) -> usize {
    use arrow_array::cast::AsArray;
    let column = batch.column_by_name("offset").expect("the schema has it");
    column.as_primitive::<arrow_array::types::Int64Type>().value(row) as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order rows are stored in, and whoever else was encoded before, each row gives the leaf of its event.
    #[test]
    fn rows_give_the_leaves_of_their_events(events in prop::collection::vec(events(), 1..5)) {
        let mut rows = Rows::default();
        let mut one = encoder();
        let mut leaves = Vec::new();
        for (offset, event) in events.iter().enumerate() {
            rows.push(event, &place(offset as i64), offset % 2 == 0);
            leaves.push(one.event(event, &place(offset as i64)));
        }
        let batch = rows.finish();
        let mut other = encoder();
        for row in 0..batch.num_rows() {
            prop_assert_eq!(other.row(TENANT, &batch, row), leaves[offset_of(&batch, row)]);
        }
    }

    #[test]
    fn rows_give_the_leaves_of_their_rejections(rejections in prop::collection::vec(rejections(), 1..5)) {
        let mut rows = Rows::default();
        rejections.iter().enumerate().for_each(|(offset, r)| rows.push_rejection(r, &place(offset as i64)));
        let batch = rows.finish();
        for row in 0..batch.num_rows() {
            let offset = offset_of(&batch, row);
            prop_assert_eq!(encoder().row(TENANT, &batch, row), encoder().rejection(&rejections[offset], &place(offset as i64)));
        }
    }

    #[test]
    fn rows_give_the_leaves_of_their_records_of_authority(entries in prop::collection::vec(entries(), 1..5)) {
        let mut rows = Rows::default();
        entries.iter().enumerate().for_each(|(offset, e)| rows.push_authority(e, &place(offset as i64)));
        let batch = rows.finish();
        for row in 0..batch.num_rows() {
            let offset = offset_of(&batch, row);
            prop_assert_eq!(encoder().row(TENANT, &batch, row), encoder().authority(&entries[offset], &place(offset as i64)));
        }
    }

    #[test]
    fn any_changed_part_of_a_record_of_authority_changes_the_leaf(a in entries(), b in entries()) {
        let leaf = |e: &Entry<'_>| encoder().authority(e, &place(1));
        macro_rules! taken { ($($($path:ident).+),+) => { [$({ let mut e = a.clone(); e.$($path).+ = b.$($path).+.clone(); e }),+] } }
        let changed = taken!(kind, id, time, source.kind, source.instance, source.seq, source.epoch, source.record, source.decision_index,
            source.decision_count, body, extra, flags);
        for changed in changed.iter().filter(|c| **c != a) {
            prop_assert_ne!(leaf(changed).hash, leaf(&a).hash, "{:?}", changed);
            prop_assert_ne!(leaf(changed).content, leaf(&a).content, "{:?}", changed);
        }
    }

    /// Every field counts: taking any one of them from another event gives another leaf and other content.
    #[test]
    fn any_changed_field_changes_the_leaf(a in events(), b in events()) {
        let base = leaf(&a, &place(1));
        for (field, changed) in one_field_taken(&a, &b).into_iter().filter(|(_, changed)| *changed != a) {
            let got = leaf(&changed, &place(1));
            prop_assert_ne!(got.hash, base.hash, "{}", field);
            prop_assert_ne!(got.content, base.content, "{}", field);
        }
    }

    /// Where a record was read is part of its leaf and not of its content; when it arrived is part of neither.
    #[test]
    fn places_change_the_leaf_and_not_the_content(event in events()) {
        let base = leaf(&event, &place(1));
        for changed in [
            place(2),
            Place { topic: "other", ..place(1) },
            Place { partition: 4, ..place(1) },
            Place { redaction: "r2", ..place(1) },
        ] {
            let got = leaf(&event, &changed);
            prop_assert_ne!(got.hash, base.hash, "{:?}", changed);
            prop_assert_eq!(got.content, base.content, "{:?}", changed);
        }
        prop_assert_eq!(leaf(&event, &Place { ingest_time: Micros(0), ..place(1) }), base);
        let foreign = leaf(&event, &Place { tenant: "tenant-b", ..place(1) });
        prop_assert!(foreign.hash != base.hash && foreign.content != base.content);
        let decoded_otherwise = leaf(&event, &Place { format: "opa", ..place(1) });
        prop_assert!(decoded_otherwise.hash != base.hash && decoded_otherwise.content != base.content);
    }

    /// Without the tenant's key nobody can try out guesses for a personal field.
    #[test]
    fn personal_fields_are_salted(event in events()) {
        let other = LeafEncoder::new([9; 32]).event(&event, &place(1));
        let personal = [&event.requester.id, &event.requester.email, &event.call.params, &event.token.subject, &event.network.ip];
        let some = personal.iter().any(|p| p.is_some());
        prop_assert_eq!(other.hash != leaf(&event, &place(1)).hash, some);
    }

    #[test]
    fn any_changed_part_of_a_rejection_changes_the_leaf(a in rejections(), b in rejections()) {
        let leaf = |r: &Rejection| encoder().rejection(r, &place(1)).hash;
        for changed in [
            Rejection { reason: b.reason, ..a.clone() },
            Rejection { detail: b.detail.clone(), ..a.clone() },
            Rejection { raw: b.raw.clone(), ..a.clone() },
            Rejection { index: b.index, ..a.clone() },
        ] {
            prop_assert_eq!(leaf(&changed) == leaf(&a), changed == a);
        }
    }
}

/// `a` with one field taken from `b`, for every field.
fn one_field_taken<'a>(a: &Event<'a>, b: &Event<'a>) -> Vec<(&'static str, Event<'a>)> {
    let mut changed = Vec::new();
    macro_rules! fields {
        ($($($path:ident).+),+ $(,)?) => {
            $({
                let mut event = a.clone();
                event.$($path).+ = b.$($path).+.clone();
                changed.push((stringify!($($path).+), event));
            })+
        };
    }
    fields!(
        id,
        time,
        kind,
        decision.outcome,
        source.decision_index,
        source.decision_count,
        actors,
        actors_source,
        actors_complete,
        extra,
        flags,
    );
    macro_rules! groups {
        ($($(#[$group_doc:meta])+ $group:ident: $Group:ident { $(
            $(#[$doc:meta])+ $field:ident: $how:ident $path:tt => $variant:ident $(, slot $slot:ident)?;
        )+ })+) => { $($(fields!($group.$field);)+)+ };
    }
    catena_schemas::event_fields! { groups groups }
    for (i, (ours, theirs)) in a.actors.iter().zip(&b.actors).enumerate() {
        macro_rules! of_actor {
            ($($field:ident),+) => {
                $({
                    let mut event = a.clone();
                    event.actors[i] = Actor { $field: theirs.$field.clone(), ..ours.clone() };
                    changed.push((concat!("actor ", stringify!($field)), event));
                })+
            };
        }
        of_actor!(id, kind, issuer, assurance, name, version, model);
    }
    changed
}

#[test]
fn no_field_is_left_out_above() {
    let event = Event { actors: vec![Actor::default()], ..Event::default() };
    let taken = one_field_taken(&event, &event).len();
    // The debug picture names every field by itself: those of the event, and of the groups that it consists of.
    let groups =
        ["decision", "source", "requester", "session", "server", "tool", "call", "token", "grant", "links", "network"];
    let named = format!("{event:?}").matches(": ").count() - groups.len();
    assert_eq!(taken, named);
}

#[test]
fn a_batch_may_have_other_columns_in_any_order() {
    let mut rows = Rows::default();
    let event = Event { id: "e".into(), grant: Grant { id: Some("g".into()) }, ..Event::default() };
    rows.push(&event, &place(1), false);
    let batch = rows.finish();
    let order: Vec<usize> = (0..batch.num_columns()).rev().filter(|c| batch.column(*c).null_count() == 0).collect();
    let few = batch.project(&order).expect("columns of the batch");
    assert_eq!(encoder().row(TENANT, &few, 0), leaf(&event, &place(1)));
}
