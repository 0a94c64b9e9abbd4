//! Our own records: whatever an event holds, it survives the intake log; and nobody else can write one.

use catena_decode::{Context, Decoder, Format, Redactor, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::fixture::{entries, events};
use catena_schemas::rows::Rejection;
use catena_schemas::wire::{self, write_authority, write_event, write_native};
use catena_schemas::{Event, EventKind, Micros};
use proptest::prelude::*;
use std::sync::Arc;

/// Compares inside the sink, where the borrowed event lives, and keeps a picture of it.
#[derive(Default)]
struct Seen<'e> {
    want: Option<&'e Event<'e>>,
    equal: bool,
    events: Vec<(String, Format)>,
    rejections: Vec<Rejection>,
}

impl Sink for Seen<'_> {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        self.equal |= self.want.is_some_and(|want| want == event);
        self.events.push((format!("{event:?}"), format));
    }
    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        self.events.push((format!("{entry:?}"), format));
    }
    fn rejection(&mut self, rejection: Rejection, _: Format) {
        self.rejections.push(rejection);
    }
    fn aside(&mut self, aside: Rejection, _: Format) {
        self.rejections.push(aside);
    }
}

const RECEIVED: Micros = Micros(1_000_000_000_000_000);

fn decode<'e>(bytes: &[u8], trusted: bool, want: Option<&'e Event<'e>>) -> Seen<'e> {
    let mut sink = Seen { want, ..Seen::default() };
    decode_to(bytes, trusted, &mut sink);
    sink
}

fn decode_to(bytes: &[u8], trusted: bool, sink: &mut impl Sink) {
    let context = Context { received: RECEIVED, fallback_id: "fallback", trusted, ..Context::default() };
    Decoder::new(Arc::new(Redactor::new([7; 32]))).record(Format::Catena, bytes, &context, sink);
}

fn survives(event: &Event<'_>, format: Format) {
    let mut bytes = Vec::new();
    write_event(event, format.as_str(), &mut bytes);
    let got = decode(&bytes, true, Some(event));
    assert!(got.equal, "wanted {event:?}\ngot {:?} {:?}", got.events, got.rejections);
    assert_eq!(got.events[0].1, format, "the format it was first decoded from");
    assert!(!bytes.contains(&b'\n'), "one line");
}

proptest! {
    #[test]
    fn any_event_survives_the_intake_log(event in events(), format in prop::sample::select(Format::ALL)) {
        survives(&event, format);
    }

    #[test]
    fn any_record_of_authority_survives_the_intake_log(entry in entries(), format in prop::sample::select(Format::ALL)) {
        let mut bytes = Vec::new();
        write_authority(&entry, format.as_str(), &mut bytes);
        prop_assert!(!bytes.contains(&b'\n'), "one line");
        let got = decode(&bytes, true, None);
        prop_assert_eq!(&got.events, &[(format!("{entry:?}"), format)], "{:?}", got.rejections);
    }

    /// JSON texts are not looked into: also those that are cut, too deep or hold a key twice do no harm.
    #[test]
    fn broken_json_texts_do_not_spoil_the_record(event in events(), broken in ".*") {
        let mut event = event;
        event.call.params = Some(broken.clone().into());
        event.decision.challenge = Some("[".repeat(500).into());
        event.decision.obligations = Some(r#"{"a":1,"a":2}"#.into());
        event.extra = Some(broken.into());
        survives(&event, Format::Opa);
    }

    /// The walk that writes bytes and the types that describe them agree, member for member.
    #[test]
    fn native_events_are_what_the_types_describe(event in events()) {
        let mut bytes = Vec::new();
        write_native(&event, &mut bytes);
        let as_json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let typed: wire::Event = serde_json::from_slice(&bytes).expect("a native event");
        prop_assert_eq!(serde_json::to_value(&typed).expect("JSON"), as_json);
        prop_assert_eq!(Some(event.decision.outcome), typed.decision.map(|d| d.verdict.into()));
    }

    /// What the decoder makes of a foreign record can always be kept by the intake log, odd members and all.
    #[test]
    fn what_a_producer_sent_survives_too(event in events(), key in "[a-z.]{0,8}", other in any::<i64>()) {
        let mut native = Vec::new();
        write_native(&event, &mut native);
        native.pop();
        let odd = format!(r#","{key}!":{other},"actors.!":{{"!":[{other}]}},"catena":{{"flags":["forged"],"count":9}}}}"#);
        native.extend_from_slice(odd.as_bytes());
        let mut again = Again(0);
        decode_to(&native, false, &mut again);
        prop_assert_eq!(again.0, 1);
    }
}

/// Puts each event through the intake log.
struct Again(usize);

impl Sink for Again {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        assert!(!event.flags.iter().any(|f| f == "forged"));
        // A verdict on an execution is nobody's.
        assert!(event.kind == EventKind::Decision || event.decision.outcome.as_str() == "unknown");
        assert_eq!((event.source.decision_index, event.source.decision_count), (0, 1));
        survives(event, format);
        self.0 += 1;
    }
    fn authority(&mut self, entry: &Entry<'_>, _: Format) {
        panic!("{entry:?}");
    }
    fn rejection(&mut self, rejection: Rejection, _: Format) {
        panic!("{rejection:?}");
    }
    fn aside(&mut self, aside: Rejection, _: Format) {
        panic!("{aside:?}");
    }
}

#[test]
fn outsiders_cannot_speak_for_us() {
    let forged =
        br#"{"id":"1","time":"2026-01-01T00:00:00Z","decision":{"verdict":"allow"},"token":{"ref":"handle-77"},
        "catena":{"format":"opa","index":3,"count":9,"flags":["forged"]}}"#;
    let foreign = decode(forged, false, None);
    let (picture, format) = &foreign.events[0];
    assert_eq!(*format, Format::Catena);
    for (text, wanted) in [
        (r#"\"catena\":{\"format\":\"opa\",\"index\":3,\"count\":9,\"flags\":[\"forged\"]}"#, true),
        ("decision_count: 1", true),
        (r#"flags: ["forged"]"#, false),
        ("handle-77", false),
    ] {
        assert_eq!(picture.contains(text), wanted, "{text} in {picture}");
    }
    let own = decode(forged, true, None);
    let (picture, format) = &own.events[0];
    assert_eq!(*format, Format::Opa);
    for text in ["decision_count: 9", r#"flags: ["forged"]"#, "handle-77"] {
        assert!(picture.contains(text), "{text} in {picture}");
    }
}

#[test]
fn equal_names_in_extra_are_told_apart() {
    let record = br#"{"id":"1","time":"2026-01-01T00:00:00Z","decision":{"verdict":"allow","x":0},
        "actors":[{"id":"a","x":1},{"id":"b","x":2},{"id":"c","kind":[]},{"id":"d","kind":{}}],
        "decision.x":3,"extra":{"actors.x":4,"actors.x~2":5,"decision.x":6}}"#;
    let got = decode(record, false, None);
    let want = [
        r#"{\"decision.x\":0,\"actors.x\":1,\"actors.x~2\":2,\"actors.kind\":[],\"actors.kind~2\":{},"#,
        r#"\"decision.x~2\":3,\"actors.x~3\":4,\"actors.x~2~2\":5,\"decision.x~3\":6}"#,
    ];
    assert!(got.events[0].0.contains(&want.concat()), "{}", got.events[0].0);
}

#[test]
fn a_later_version_may_add_members() {
    let record =
        br#"{"id":"1","time":"2026-01-01T00:00:00Z","decision":{"verdict":"allow"},"new":1,"extra":"{\"a\":1}",
        "catena":{"format":"later","new":2}}"#;
    let got = decode(record, true, None);
    assert_eq!(got.events[0].1, Format::Catena);
    let want = r#"{\"new\":1,\"catena.new\":2,\"extra\":\"{\\\"a\\\":1}\"}"#;
    assert!(got.events[0].0.contains(want), "{}", got.events[0].0);
}

#[test]
fn unreadable_handles_are_flagged_and_not_kept() {
    let record = br#"{"id":"1","time":"2026-01-01T00:00:00Z","decision":{"verdict":"allow"},
        "call":{"handles_in":["plain-1",7],"handles_out":{"h":"plain-2"},"state_in":["plain-3"]},"token":{"ref":{"t":"plain-4"}}}"#;
    let picture = &decode(record, false, None).events[0].0;
    assert!(!picture.contains("plain-"), "{picture}");
    for path in ["call.handles_in", "call.handles_out", "call.state_in", "token.ref"] {
        assert!(picture.contains(&format!("\"invalid:{path}\"")), "{path} in {picture}");
    }
}
