//! Every field of the event, one by one: read from JSON, filled by a mapping, reached by a rule of redaction.

use crate::seen::{Collected, KEY, context, received};
use catena_decode::mapping::Mappings;
use catena_decode::mapping::explain::explain;
use catena_decode::redact::Rules;
use catena_decode::{Context, Decoder, Format, Redactor};
use catena_schemas::fixture::full::{self, MEMBERS, Member};
use catena_schemas::wire::{write_event, write_native};
use serde_json::Value;
use std::sync::Arc;

fn native() -> Value {
    let mut out = Vec::new();
    write_native(&full::event(), &mut out);
    serde_json::from_slice(&out).expect("JSON")
}

/// The one event that a decoder makes of a record, as native JSON.
fn decoded(decoder: &mut Decoder, format: Format, record: &[u8], context: &Context<'_>) -> (Value, Vec<String>) {
    let mut seen = Collected::default();
    decoder.record(format, record, context, &mut seen);
    assert_eq!((seen.events.len(), seen.total()), (1, 1), "{:?}", seen.rejections);
    (serde_json::from_str(&seen.events[0].native).expect("JSON"), seen.events[0].flags.clone())
}

fn decoder(rules: &str) -> Decoder {
    let rules = Rules::parse(rules, "redact.toml").expect("the rules are good");
    Decoder::new(Arc::new(Redactor::with_rules(KEY, Arc::new(rules))))
}

#[test]
fn a_full_event_is_read_as_it_was_written() {
    let read = decoded(&mut decoder(""), Format::Catena, native().to_string().as_bytes(), &context());
    assert_eq!(read, (native(), Vec::new()));
    let mut out = Vec::new();
    write_event(&full::event(), "catena", &mut out);
    let trusted = Context { trusted: true, ..context() };
    assert_eq!(decoded(&mut decoder(""), Format::Catena, &out, &trusted).0, native());
}

/// Each member alone: an event that has nothing else gets nothing else.
#[test]
fn every_member_is_read() {
    for member in MEMBERS {
        let mut event = serde_json::json!({ "id": "id", "time": 1_790_000_000, "decision": { "verdict": "allow" } });
        put(&mut event, member, native().pointer(&member.pointer()).expect("the event is full").clone());
        let mut expected = event.clone();
        expected["time"] = "2026-09-21T14:13:20.000000Z".into();
        expected["kind"] = "decision".into();
        let read = decoded(&mut decoder(""), Format::Catena, event.to_string().as_bytes(), &context());
        assert_eq!(read, (expected, Vec::new()), "{}", member.path);
    }
}

/// A value of the wrong type is flagged under the member's own path.
#[test]
fn every_member_is_flagged_under_its_path() {
    for member in MEMBERS.iter().filter(|m| !matches!(m.how, "json" | "array" | "challenge")) {
        let mut event = native();
        put(&mut event, member, serde_json::json!({ "odd": 1 }));
        let (read, flags) = decoded(&mut decoder(""), Format::Catena, event.to_string().as_bytes(), &context());
        assert_eq!(flags, [format!("invalid:{}", member.path)]);
        assert_eq!(read.pointer(&member.pointer()), None, "{}", member.path);
    }
}

fn put(event: &mut Value, member: &Member, value: Value) {
    let mut at = event;
    for name in member.path.split('.') {
        at = &mut at[name];
    }
    *at = value;
}

/// Each slot can be filled by a mapping, and the explanation names it and where it came from.
#[test]
fn every_slot_is_filled_by_a_mapping() {
    let slots: Vec<_> = MEMBERS.iter().filter(|m| m.slot).collect();
    assert!(slots.len() > 50, "{} slots", slots.len());
    for member in slots {
        let value = match member.how {
            "int" | "long" => Value::from(7),
            "texts" | "scopes" => serde_json::json!(["one", "two"]),
            "json" | "array" | "challenge" => serde_json::json!({ "some": "value" }),
            "enforced" => "held".into(),
            "phase" => "plan".into(),
            _ => "value".into(),
        };
        // Assurance is of a requester.
        let needs = if member.path == "requester.assurance" { "requester.id = { value = 'who' }" } else { "" };
        let mapping = format!(
            "name = 'mine'\nformat = 'mapped'\n[outcome]\notherwise = {{ outcome = 'allow' }}\n[fields]\n{needs}\n{} = '/here'\n",
            member.path
        );
        let mappings = Arc::new(
            Mappings::shipped().with(&mapping, "mine").expect("a mapping").prefer("mine").expect("it is there"),
        );
        let redactor = Arc::new(Redactor::new(KEY));
        let record = serde_json::json!({ "here": value }).to_string();
        let mut decoder = Decoder::with_mappings(redactor.clone(), mappings.clone());
        let (event, _) = decoded(&mut decoder, Format::Mapped, record.as_bytes(), &context());
        let filled = event.pointer(&member.pointer());
        let kept = if member.how == "digest" { Some(Value::from(redactor.digest("value"))) } else { Some(value) };
        assert_eq!(filled, kept.as_ref(), "{}", member.path);
        assert_eq!(event.get("extra"), None, "{} is taken", member.path);

        let report = explain(&mappings, &redactor, Format::Mapped, [record.as_bytes()], received());
        let explained = report.records[0].fields.iter().find(|f| f.field.starts_with(member.path));
        let from = explained.and_then(|f| f.from.as_deref());
        assert_eq!(from, Some("/here"), "{} in {:?}", member.path, report.records[0].fields);
    }
}

/// A rule reaches each text under its path, and nothing else.
#[test]
fn every_text_is_reached_by_a_rule() {
    let record = native().to_string();
    for member in MEMBERS {
        let rule = format!("[[rule]]\nfield = '{}'\naction = 'always'\n", member.pointer());
        let (mut event, _) = decoded(&mut decoder(&rule), Format::Catena, record.as_bytes(), &context());
        let reached = event.pointer(&member.pointer()).expect("the field stays").to_string();
        assert_eq!(reached.contains("[redacted:rule:"), member.is_text(), "{}: {reached}", member.path);
        put(&mut event, member, native().pointer(&member.pointer()).expect("the event is full").clone());
        assert_eq!(event, native(), "{} alone", member.path);
    }
    for at in [
        "/actors_source",
        "/actors/id",
        "/actors/kind",
        "/actors/issuer",
        "/actors/assurance",
        "/actors/name",
        "/actors/version",
        "/actors/model",
    ] {
        let rule = format!("[[rule]]\nfield = '{at}'\naction = 'always'\n");
        let (event, _) = decoded(&mut decoder(&rule), Format::Catena, record.as_bytes(), &context());
        let reached = event.to_string().matches("[redacted:rule:").count();
        assert_eq!(reached, if at == "/actors_source" { 1 } else { 2 }, "{at}");
    }
}
