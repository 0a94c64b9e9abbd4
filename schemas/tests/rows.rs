//! Rows: what goes in comes out, in the documented order, and the builder can be used again.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use catena_schemas::canonical::LeafEncoder;
use catena_schemas::event::{Decision, Grant, Outcome, Requester, Session, Source, Tool};
use catena_schemas::fixture::full::{self, MEMBERS, Member};
use catena_schemas::fixture::{events, rejections};
use catena_schemas::rows::{FieldSink, Place, Rows, visit, visit_rejection};
use catena_schemas::table::{Field, Kind, file_schema};
use catena_schemas::wire::write_native;
use catena_schemas::{Actor, Event, Micros};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A row as text, column by column; absent columns are not in it.
#[derive(Default, Debug, PartialEq, Clone)]
struct Row(BTreeMap<Field, String>);

impl Row {
    fn set(&mut self, field: Field, value: String) {
        let previous = self.0.insert(field, value);
        assert_eq!(previous, None, "{} was visited twice", field.name());
    }
}

impl FieldSink for Row {
    fn text(&mut self, field: Field, value: &str) {
        assert!(matches!(field.kind(), Kind::Text | Kind::Id | Kind::Json));
        self.set(field, value.into());
    }
    fn list<'s>(&mut self, field: Field, values: impl ExactSizeIterator<Item = &'s str>) {
        assert!(field.kind() == Kind::List && values.len() > 0);
        self.set(field, format!("{:?}", values.collect::<Vec<_>>()));
    }
    fn int(&mut self, field: Field, value: i64) {
        assert!(matches!(field.kind(), Kind::Int | Kind::Long));
        self.set(field, value.to_string());
    }
    fn time(&mut self, field: Field, value: Micros) {
        assert_eq!(field.kind(), Kind::Time);
        self.set(field, value.0.to_string());
    }
    fn bool(&mut self, field: Field, value: bool) {
        assert_eq!(field.kind(), Kind::Bool);
        self.set(field, value.to_string());
    }
    fn bytes(&mut self, field: Field, value: &[u8]) {
        assert_eq!(field.kind(), Kind::Bytes);
        self.set(field, hex::encode(value));
    }
}

/// The same picture, read from the arrays.
fn read(batch: &RecordBatch, row: usize) -> Row {
    let mut read = Row::default();
    for (field, array) in Field::ALL.iter().zip(batch.columns()) {
        if array.is_null(row) {
            continue;
        }
        let value = match field.kind() {
            Kind::Text | Kind::Id | Kind::Json => array.as_string::<i32>().value(row).to_owned(),
            Kind::Bytes => hex::encode(array.as_binary::<i32>().value(row)),
            Kind::Time => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
            Kind::Int => array.as_primitive::<Int32Type>().value(row).to_string(),
            Kind::Long => array.as_primitive::<Int64Type>().value(row).to_string(),
            Kind::Bool => array.as_boolean().value(row).to_string(),
            Kind::List => {
                let items = array.as_list::<i32>().value(row);
                format!("{:?}", items.as_string::<i32>().iter().flatten().collect::<Vec<_>>())
            }
        };
        read.set(*field, value);
    }
    read
}

fn place(offset: i64) -> Place<'static> {
    Place {
        tenant: "t",
        topic: "decisions",
        partition: 3,
        offset,
        format: "catena",
        redaction: "r1",
        ingest_time: Micros(7),
    }
}

/// Rows in, in the order given, as pictures.
fn wanted(events: &[Event<'_>]) -> Vec<Row> {
    let row = |(offset, event): (usize, &Event<'_>)| {
        let mut row = Row::default();
        visit(event, &place(offset as i64), &mut row);
        if offset.is_multiple_of(3) {
            row.bool(Field::Duplicate, true);
        }
        row
    };
    events.iter().enumerate().map(row).collect()
}

/// Duplicates are known at once, or only when all rows are there.
#[derive(Clone, Copy)]
enum Marked {
    AtOnce,
    Later,
}

fn push(rows: &mut Rows, events: &[Event<'_>], marked: Marked) {
    let duplicate = |offset: usize| offset.is_multiple_of(3);
    for (offset, event) in events.iter().enumerate() {
        rows.push(event, &place(offset as i64), duplicate(offset) && matches!(marked, Marked::AtOnce));
    }
    if let Marked::Later = marked {
        (0..events.len()).filter(|offset| duplicate(*offset)).for_each(|row| rows.mark_duplicate(row));
    }
}

/// Sorted by (15-minute bucket of time, session, time, offset).
fn sorted(events: &[Event<'_>], mut rows: Vec<Row>) -> Vec<Row> {
    let key = |row: &Row| {
        let offset: usize = row.0[&Field::Offset].parse().expect("a number");
        let (time, session) = (events[offset].time.0, events[offset].session.id.as_deref().unwrap_or("").as_bytes());
        (time.div_euclid(900_000_000), session.to_vec(), time, offset)
    };
    rows.sort_by_key(key);
    rows
}

fn check(rows: &mut Rows, events: &[Event<'_>], marked: Marked) {
    assert!(rows.is_empty() && Rows::bytes(rows) == 0);
    push(rows, events, marked);
    assert_eq!(rows.len(), events.len());
    let batch = rows.finish();
    assert_eq!(batch.schema(), file_schema());
    let got: Vec<Row> = (0..batch.num_rows()).map(|row| read(&batch, row)).collect();
    assert_eq!(got, sorted(events, wanted(events)));
}

/// Events that differ only in what decides the order.
fn crowded() -> impl Strategy<Value = Vec<Event<'static>>> {
    let session = prop::option::of(prop_oneof!["[ab]{0,2}", "session-[ab]{0,2}"]);
    let event = (0i64..4, 0i64..3, session).prop_map(|(bucket, time, session)| Event {
        id: "e".into(),
        time: Micros((bucket - 2) * 900_000_000 + time),
        session: Session { id: session.map(Into::into), ..Session::default() },
        ..Event::default()
    });
    prop::collection::vec(event, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(batches in prop::collection::vec(prop::collection::vec(events(), 0..4), 1..4)) {
        let mut rows = Rows::default();
        for events in &batches {
            check(&mut rows, events, Marked::AtOnce);
            check(&mut rows, events, Marked::Later);
        }
    }

    #[test]
    fn order_is_by_bucket_session_time_and_offset(batches in prop::collection::vec(crowded(), 1..3)) {
        let mut rows = Rows::default();
        for events in &batches {
            check(&mut rows, events, Marked::AtOnce);
            check(&mut rows, events, Marked::Later);
        }
    }

    #[test]
    fn rejections_come_out_too(rejections in prop::collection::vec(rejections(), 0..5), between in events()) {
        let mut rows = Rows::default();
        for _ in 0..2 {
            let mut want = Vec::new();
            for (offset, rejection) in rejections.iter().enumerate() {
                let mut row = Row::default();
                visit_rejection(rejection, &place(offset as i64), &mut row);
                want.push(row);
                rows.push_rejection(rejection, &place(offset as i64));
            }
            let batch = rows.finish();
            let got: Vec<Row> = (0..batch.num_rows()).map(|row| read(&batch, row)).collect();
            prop_assert_eq!(got, want);
            check(&mut rows, std::slice::from_ref(&between), Marked::AtOnce);
        }
    }

    /// Columns are visited as they stand in the table, so that the leaf encoder can stream: header and body ascend.
    #[test]
    fn fields_of_the_leaf_are_visited_in_ascending_order(event in events()) {
        #[derive(Default)]
        struct Ascending { header: u16, body: u16 }
        impl Ascending {
            fn see(&mut self, field: Field) {
                let last = match field.leaf() {
                    0 | 250 => return,
                    1..=19 => &mut self.header,
                    _ => &mut self.body,
                };
                assert!(*last < field.leaf(), "{} comes too late", field.name());
                *last = field.leaf();
            }
        }
        impl FieldSink for Ascending {
            fn text(&mut self, field: Field, _: &str) { self.see(field) }
            fn list<'s>(&mut self, field: Field, _: impl ExactSizeIterator<Item = &'s str>) { self.see(field) }
            fn int(&mut self, field: Field, _: i64) { self.see(field) }
            fn time(&mut self, field: Field, _: Micros) { self.see(field) }
            fn bool(&mut self, field: Field, _: bool) { self.see(field) }
            fn bytes(&mut self, field: Field, _: &[u8]) { self.see(field) }
        }
        visit(&event, &place(1), &mut Ascending::default());
    }
}

proptest! {
    #[test]
    fn details_are_json(event in events()) {
        let mut row = Row::default();
        visit(&event, &place(1), &mut row);
        let Some(details) = row.0.get(&Field::ActorDetails) else { return Ok(()) };
        let read: Vec<BTreeMap<String, String>> = serde_json::from_str(details).expect("a list of objects");
        prop_assert_eq!(read.len(), event.actors.len());
        for (read, actor) in read.iter().zip(&event.actors) {
            let of = |key: &str| read.get(key).map(String::as_str);
            let all = [of("issuer"), of("name"), of("version"), of("model")];
            prop_assert_eq!(all, [actor.issuer.as_deref(), actor.name.as_deref(), actor.version.as_deref(), actor.model.as_deref()]);
        }
    }
}

/// Which part of an event stands in which column, by example: the rest of this file compares two readings of `visit`.
#[test]
fn each_part_stands_in_its_column() {
    let mut event = Event {
        id: "e-1".into(),
        time: Micros(5),
        decision: Decision {
            outcome: Outcome::StepUp,
            policy_version: Some("v3".into()),
            rules: vec!["r1".into(), "r2".into()],
            ..Decision::default()
        },
        source: Source {
            instance: Some("gw".into()),
            record: Some("rec".into()),
            decision_index: 1,
            decision_count: 2,
            ..Source::default()
        },
        requester: Requester { id: Some("dana".into()), ..Requester::default() },
        actors: vec![
            Actor { kind: Some("client".into()), model: Some("m-1".into()), ..Actor::named("client:a") },
            Actor { assurance: Some("verified".into()), ..Actor::named("agent:b") },
        ],
        actors_complete: Some(false),
        session: Session { id: Some("s".into()), mcp: Some("mcp-s".into()), ..Session::default() },
        tool: Tool { name: Some("mail.send".into()), impact: Some(3), ..Tool::default() },
        grant: Grant { id: Some("g".into()) },
        flags: vec!["skew".into()],
        ..Event::default()
    };
    event.token.reference = Some("hmac:1".into());
    event.token.scope = vec!["mail:send".into()];
    event.token.expires_at = Some(Micros(9));
    event.links.trace = Some("trace".into());
    event.links.request = Some("req".into());
    event.call.params = Some("{}".into());
    event.network.ip = Some("10.0.0.1".into());

    let mut rows = Rows::default();
    rows.push(&event, &place(41), true);
    let got = read(&rows.finish(), 0);
    let got: Vec<String> = got.0.iter().map(|(field, value)| format!("{} = {value}", field.name())).collect();
    expect_test::expect![[r#"
        event_id = e-1
        time = 5
        topic = decisions
        partition = 3
        offset = 41
        outcome = step_up
        redaction = r1
        decision_index = 1
        leaf_version = 1
        format = catena
        source = gw
        source_record = rec
        decision_count = 2
        policy_version = v3
        policy_rules = ["r1", "r2"]
        requester = dana
        agent = agent:b
        actors = ["client:a", "agent:b"]
        actor_kinds = ["client", ""]
        actor_assurance = ["", "verified"]
        actor_details = [{"model":"m-1"},{}]
        actors_complete = false
        session = s
        mcp_session = mcp-s
        tool = mail.send
        impact = 3
        params = {}
        token_ref = hmac:1
        scopes = ["mail:send"]
        token_expires = 9
        grant_id = g
        trace_id = trace
        request_id = req
        ip = 10.0.0.1
        flags = ["skew"]
        ingest_time = 7
        duplicate = true"#]]
    .assert_eq(&got.join("\n"));
}

fn row_of(event: &Event<'_>) -> BTreeMap<Field, String> {
    let mut row = Row::default();
    visit(event, &place(1), &mut row);
    row.0
}

/// Columns that a decision leaves empty: they belong to other rows, or the collector sets them.
const NOT_OF_DECISIONS: &[Field] =
    &[Field::Reason, Field::ReasonDetail, Field::Raw, Field::Duplicate, Field::Kind, Field::Body];

#[test]
fn a_full_event_fills_every_column() {
    let event = full::event();
    let empty: Vec<_> = Field::ALL.iter().copied().filter(|f| !row_of(&event).contains_key(f)).collect();
    assert_eq!(empty, NOT_OF_DECISIONS);
    // Fields that are not in the table by themselves.
    let members: Vec<Field> = MEMBERS.iter().map(|m| m.column).collect();
    let by_hand: Vec<_> = row_of(&event).into_iter().filter(|(f, _)| !members.contains(f)).collect();
    let by_hand: Vec<_> = by_hand.iter().map(|(f, value)| format!("{} = {value}", f.name())).collect();
    expect_test::expect![[r#"
        event_id = id
        time = 1789999999000000
        topic = decisions
        partition = 3
        offset = 1
        outcome = step_up
        redaction = r1
        decision_index = 1
        leaf_version = 1
        format = catena
        decision_count = 3
        agent = actors.id/2
        actors = ["actors.id/1", "actors.id/2"]
        actor_kinds = ["actors.kind/1", "actors.kind/2"]
        actor_assurance = ["actors.assurance/1", "actors.assurance/2"]
        actor_details = [{"issuer":"actors.issuer/1","model":"actors.model/1","name":"actors.name/1","version":"actors.version/1"},{"issuer":"actors.issuer/2","model":"actors.model/2","name":"actors.name/2","version":"actors.version/2"}]
        actors_source = actors_source
        actors_complete = true
        extra = {"at":"extra"}
        flags = ["flags/1"]
        ingest_time = 7"#]].assert_eq(&by_hand.join("\n"));
}

/// The value of a field of the full event, as its column holds it.
fn wanted_of(member: &Member) -> String {
    let (path, number) = (member.path, member.column as usize);
    match member.how {
        "text" | "scalar" => path.to_owned(),
        "digest" => format!("hmac:{number:032x}"),
        "digests" => format!("[\"hmac:{number:032x}\"]"),
        "texts" | "scopes" => format!("[\"{path}/1\", \"{path}/2\"]"),
        "int" | "long" => number.to_string(),
        "time" => (1_790_000_000_000_000 + number).to_string(),
        "basis" => "inferred".to_owned(),
        "enforced" => "modified".to_owned(),
        "phase" => "approval".to_owned(),
        "json" => format!(r#"{{"at":"{path}"}}"#),
        "array" => format!(r#"["{path}"]"#),
        "challenge" => format!(r#"{{"id":"{path}"}}"#),
        other => panic!("no way to read `{other}` is known"),
    }
}

/// Each field has one column, in the row and in the leaf, and no other field touches it.
#[test]
fn every_field_has_its_column() {
    let (event, mut encoder) = (full::event(), LeafEncoder::new([1; 32]));
    let (all, leaf) = (row_of(&event), encoder.event(&event, &place(1)));
    for member in MEMBERS {
        assert_eq!(all[&member.column], wanted_of(member), "{}", member.path);
        let mut without = event.clone();
        (member.clear)(&mut without);
        let mut expected = all.clone();
        expected.remove(&member.column);
        assert_eq!(row_of(&without), expected, "{}", member.path);
        assert_ne!(encoder.event(&without, &place(1)).hash, leaf.hash, "{} is in the leaf", member.path);
    }
}

#[test]
fn a_full_event_comes_back_from_its_row() {
    let event = full::event();
    let mut rows = Rows::default();
    rows.push(&event, &place(1), false);
    let batch = rows.finish();
    assert_eq!(read(&batch, 0).0, row_of(&event));
    let mut encoder = LeafEncoder::new([1; 32]);
    assert_eq!(encoder.row("t", &batch, 0), encoder.event(&event, &place(1)));
}

/// Each field is written under its member, and no other field touches that.
#[test]
fn every_field_is_written_under_its_member() {
    let written = |event: &Event<'_>| -> serde_json::Value {
        let mut out = Vec::new();
        write_native(event, &mut out);
        serde_json::from_slice(&out).expect("JSON")
    };
    let event = full::event();
    let all = written(&event);
    for member in MEMBERS {
        let value = all.pointer(&member.pointer()).unwrap_or_else(|| panic!("{} is not written", member.path));
        let plain = match value {
            serde_json::Value::String(text) if member.how == "time" => {
                Micros::parse_rfc3339(text).expect("a time").0.to_string()
            }
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string().replace("\",\"", "\", \""),
        };
        assert_eq!(plain, wanted_of(member), "{}", member.path);
        let mut without = event.clone();
        (member.clear)(&mut without);
        let (parent, name) =
            member.pointer().rsplit_once('/').map(|(p, n)| (p.to_owned(), n.to_owned())).expect("a path");
        let mut expected = all.clone();
        let object = expected.pointer_mut(&parent).and_then(|o| o.as_object_mut()).expect("an object");
        object.remove(&name);
        if object.is_empty() {
            expected.as_object_mut().expect("an object").remove(parent.trim_start_matches('/'));
        }
        assert_eq!(written(&without), expected, "{}", member.path);
    }
}
