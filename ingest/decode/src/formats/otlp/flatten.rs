//! Makes one flat object of an OTLP record: what its resource, its scope and the record itself say.
//!
//! Guarantees: attributes stand under their own names, dots and all, so that a mapping points at `/gen_ai.tool.name`; what is no
//! attribute stands under `otlp.`. A name that is there already is never overwritten: of resource, scope and record the record
//! wins, and another value under the same name follows as `name~2`, under a flag if one list had both. Integers come out as
//! numbers whether they came as such or as text, ids in lower case, text that is a JSON object or array as that. Times and ids of
//! zeros, which say nothing, are left out; an attribute without a name or a value stands under [`UNREAD`].

use crate::json::{Kind, Tape, Value, write_string};
use hashbrown::HashMap;

/// Where attributes stand that have no name or no value.
pub(super) const UNREAD: &str = "otlp.attributes";

/// Which kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Log,
    Span,
}

/// The object, and what was odd about it.
#[derive(Debug, Default)]
pub(super) struct Flat {
    pub(super) text: String,
    pub(super) duplicated: bool,
    members: HashMap<String, Member>,
}

impl Flat {
    /// A record, and its events in the order in which they count, under what its resource and scope say.
    pub(super) fn new(
        signal: Signal,
        record: Value<'_>,
        events: &[Value<'_>],
        shared: &[Value<'_>],
        scope: Option<Value<'_>>,
        scratch: &mut Tape,
    ) -> Flat {
        let mut flat =
            Flat { text: String::with_capacity(1024), members: HashMap::with_capacity(32), duplicated: false };
        flat.put("otlp.signal", |json| json.push_str(if signal == Signal::Span { "\"span\"" } else { "\"log\"" }));
        let own: &[(&str, &str, How)] = match signal {
            Signal::Log => &[
                ("timeUnixNano", "otlp.time", How::Time),
                ("observedTimeUnixNano", "otlp.observed_time", How::Time),
                ("severityNumber", "otlp.severity_number", How::Plain),
                ("severityText", "otlp.severity", How::Plain),
                ("eventName", "otlp.event_name", How::Plain),
                ("traceId", "otlp.trace_id", How::Id),
                ("spanId", "otlp.span_id", How::Id),
                ("flags", "otlp.flags", How::Count),
                ("body", "otlp.body", How::Any),
                ("droppedAttributesCount", "otlp.dropped_attributes", How::Count),
            ],
            Signal::Span => &[
                ("startTimeUnixNano", "otlp.time", How::Time),
                ("endTimeUnixNano", "otlp.end_time", How::Time),
                ("name", "otlp.name", How::Plain),
                ("kind", "otlp.kind", How::SpanKind),
                ("traceId", "otlp.trace_id", How::Id),
                ("spanId", "otlp.span_id", How::Id),
                ("parentSpanId", "otlp.parent_span_id", How::Id),
                ("traceState", "otlp.trace_state", How::Plain),
                ("flags", "otlp.flags", How::Count),
                ("links", "otlp.links", How::Links),
                ("droppedAttributesCount", "otlp.dropped_attributes", How::Count),
            ],
        };
        for (key, name, how) in own {
            if let Some(v) = record.get(key).filter(|v| !v.is_null()) {
                flat.envelope(name, v, *how, scratch);
            }
        }
        if let Some(status) = record.get("status") {
            for (key, name) in [("code", "otlp.status"), ("message", "otlp.status_message")] {
                status.get(key).into_iter().for_each(|v| flat.envelope(name, v, How::Plain, scratch));
            }
        }
        for (key, name) in [("name", "otlp.scope"), ("version", "otlp.scope_version")] {
            scope.and_then(|s| s.get(key)).into_iter().for_each(|v| flat.envelope(name, v, How::Plain, scratch));
        }
        record.get("attributes").into_iter().for_each(|list| flat.attributes(list, true, scratch));
        // A span's events carry what happened in it; their attributes count as the span's where it has none of the name.
        for event in events {
            event.get("name").into_iter().for_each(|v| flat.envelope("otlp.event_name", v, How::Plain, scratch));
            event.get("attributes").into_iter().for_each(|list| flat.attributes(list, false, scratch));
        }
        shared.iter().for_each(|list| flat.attributes(*list, false, scratch));
        flat.text.push('}');
        flat
    }

    /// Whether a name is there.
    #[cfg(test)]
    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn envelope(&mut self, name: &str, v: Value<'_>, how: How, scratch: &mut Tape) {
        let silent = match how {
            How::Plain => v.as_str() == Some(""),
            How::Time | How::Count => matches!(v.as_scalar(), Some("0" | "")),
            How::Id => v.as_str().is_some_and(|id| id.bytes().all(|b| b == b'0')),
            How::Links => v.kind() == Kind::Array && v.items().next().is_none(),
            How::SpanKind | How::Any => false,
        };
        if silent {
            return;
        }
        self.put(name, |json| match how {
            How::Plain => v.write(json),
            // What is no number stays as it is, for its reader to refuse.
            How::Time | How::Count => match v.as_scalar() {
                Some(digits) => write_digits(digits, json),
                None => v.write(json),
            },
            How::Id => match v.as_str() {
                Some(id) => write_string(&id.to_ascii_lowercase(), json),
                None => v.write(json),
            },
            How::SpanKind => {
                const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
                let word = v.as_str().map(|s| s.trim_start_matches("SPAN_KIND_").to_ascii_lowercase());
                let by_number = v.as_i64().and_then(|n| KINDS.get(usize::try_from(n).ok()?)).map(|s| s.to_string());
                match by_number.or(word) {
                    Some(kind) => write_string(&kind, json),
                    None => v.write(json),
                }
            }
            How::Any => any(v, true, json, scratch),
            How::Links if v.kind() != Kind::Array => v.write(json),
            How::Links => {
                for (i, link) in v.items().enumerate() {
                    json.push(if i == 0 { '[' } else { ',' });
                    json.push_str(&Flat::link(link, scratch));
                }
                json.push(']');
            }
        });
    }

    /// Another span that a span names: its ids, and the attributes of the link under their own names.
    fn link(link: Value<'_>, scratch: &mut Tape) -> String {
        let mut flat = Flat::default();
        const OWN: [(&str, &str, How); 4] = [
            ("traceId", "trace_id", How::Id),
            ("spanId", "span_id", How::Id),
            ("traceState", "trace_state", How::Plain),
            ("flags", "flags", How::Count),
        ];
        for (key, name, how) in OWN {
            link.get(key).filter(|v| !v.is_null()).into_iter().for_each(|v| flat.envelope(name, v, how, scratch));
        }
        link.get("attributes").into_iter().for_each(|list| flat.attributes(list, true, scratch));
        if flat.text.is_empty() {
            flat.text.push('{');
        }
        flat.text.push('}');
        flat.text
    }

    /// Adds a list of attributes; `own` says that two of one name in it are odd.
    fn attributes(&mut self, list: Value<'_>, own: bool, scratch: &mut Tape) {
        if !list.is_null() && list.kind() != Kind::Array {
            self.put(UNREAD, |json| list.write(json));
        }
        for attribute in list.items() {
            let (Some(key), Some(value)) = (attribute.get("key").and_then(|k| k.as_str()), attribute.get("value"))
            else {
                self.put(UNREAD, |json| attribute.write(json));
                continue;
            };
            let added = self.put(key, |json| any(value, true, json, scratch));
            self.duplicated |= own && !added;
        }
    }

    /// Adds a member; false when the name was there with another value.
    fn put(&mut self, name: &str, value: impl FnOnce(&mut String)) -> bool {
        let Some(first) = self.members.get(name) else {
            self.write(name.to_owned(), value);
            return true;
        };
        let mut json = String::new();
        value(&mut json);
        if self.text[first.from..first.to] == json {
            return true;
        }
        let mut number = first.number;
        let free = loop {
            number += 1;
            let free = format!("{name}~{number}");
            if !self.members.contains_key(&free) {
                break free;
            }
        };
        // The next one starts from here, so that many of one name do not cost their square.
        self.members.entry(name.to_owned()).and_modify(|m| m.number = number);
        self.write(free, |out| out.push_str(&json));
        false
    }

    fn write(&mut self, name: String, value: impl FnOnce(&mut String)) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        write_string(&name, &mut self.text);
        self.text.push(':');
        let from = self.text.len();
        value(&mut self.text);
        self.members.insert(name, Member { from, to: self.text.len(), number: 1 });
    }
}

/// Where a member's value stands in the text, and the number of the last that wanted its name.
#[derive(Clone, Copy, Debug)]
struct Member {
    from: usize,
    to: usize,
    number: u32,
}

/// How a member of the record that is no attribute is written.
#[derive(Clone, Copy, Debug)]
enum How {
    Plain,
    Time,
    Count,
    Id,
    SpanKind,
    Any,
    Links,
}

/// Whole numbers as such, whether they came as text or not.
fn write_digits(digits: &str, out: &mut String) {
    let canonical = digits.parse::<i64>().is_ok_and(|n| n.to_string() == digits);
    if canonical { out.push_str(digits) } else { write_string(digits, out) }
}

/// Writes an AnyValue. Recursive: the parser has bounded the depth.
fn any(v: Value<'_>, outermost: bool, out: &mut String, scratch: &mut Tape) {
    let Some((kind, inner)) = v.entries().next() else {
        // Some exporters write the value itself.
        return if v.kind() == Kind::Object { out.push_str("null") } else { v.write(out) };
    };
    match (kind, inner.kind()) {
        ("stringValue", Kind::String) => {
            let text = inner.as_str().unwrap_or_default();
            let nested =
                (text.starts_with('{') && text.ends_with('}')) || (text.starts_with('[') && text.ends_with(']'));
            match outermost && nested && scratch.parse(text.as_bytes()).is_ok() {
                true => out.push_str(text),
                false => write_string(text, out),
            }
        }
        ("intValue", Kind::String) => write_digits(inner.as_str().unwrap_or_default(), out),
        ("arrayValue", Kind::Object) => {
            out.push('[');
            for (i, item) in inner.get("values").iter().flat_map(|l| l.items()).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                any(item, false, out, scratch);
            }
            out.push(']');
        }
        ("kvlistValue", Kind::Object) => {
            let mut flat = Flat::default();
            for pair in inner.get("values").iter().flat_map(|l| l.items()) {
                flat.put(pair.get("key").and_then(|k| k.as_str()).unwrap_or_default(), |json| {
                    match pair.get("value") {
                        Some(value) => any(value, false, json, scratch),
                        None => json.push_str("null"),
                    }
                });
            }
            if flat.text.is_empty() {
                flat.text.push('{');
            }
            out.push_str(&flat.text);
            out.push('}');
        }
        _ => inner.write(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &str, expected: &str) {
        let (mut tape, mut scratch) = (Tape::default(), Tape::default());
        let root = tape.parse(record.as_bytes()).expect("the test writes JSON");
        let resource: Vec<_> = root.get("resource").into_iter().collect();
        let flat = Flat::new(Signal::Log, root, &[], &resource, None, &mut scratch);
        assert!(flat.has("otlp.signal"));
        let written = if flat.duplicated { format!("{} duplicated", flat.text) } else { flat.text };
        assert_eq!(written, format!(r#"{{"otlp.signal":"log"{expected}"#), "{record}");
        let mut again = Tape::default();
        again.parse(written.trim_end_matches(" duplicated").as_bytes()).expect("JSON comes out");
    }

    #[test]
    fn values_of_every_kind() {
        let attribute = |value: &str| format!(r#"{{"attributes":[{{"key":"a","value":{value}}}]}}"#);
        for (value, expected) in [
            (r#"{"stringValue":"x\"y"}"#, r#","a":"x\"y"}"#),
            (r#"{"stringValue":"{\"p\":1}"}"#, r#","a":{"p":1}}"#),
            (r#"{"stringValue":"{p:1}"}"#, r#","a":"{p:1}"}"#),
            (r#"{"intValue":"403"}"#, r#","a":403}"#),
            (r#"{"intValue":403}"#, r#","a":403}"#),
            (r#"{"intValue":"007"}"#, r#","a":"007"}"#),
            (r#"{"doubleValue":0.10}"#, r#","a":0.10}"#),
            (r#"{"boolValue":false}"#, r#","a":false}"#),
            (r#"{"bytesValue":"AQI="}"#, r#","a":"AQI="}"#),
            (r#"{"arrayValue":{"values":[{"stringValue":"[1]"},{}]}}"#, r#","a":["[1]",null]}"#),
            (r#"{"arrayValue":{}}"#, r#","a":[]}"#),
            (
                r#"{"kvlistValue":{"values":[{"key":"k","value":{"intValue":1}},{"key":"k","value":{"intValue":2}}]}}"#,
                r#","a":{"k":1,"k~2":2}}"#,
            ),
            (r#"{"kvlistValue":{}}"#, r#","a":{}}"#),
            ("{}", r#","a":null}"#),
            (r#""bare""#, r#","a":"bare"}"#),
        ] {
            check(&attribute(value), expected);
        }
    }

    #[test]
    fn the_record_wins_and_nothing_is_lost() {
        check(
            r#"{"attributes":[{"key":"a","value":{"intValue":1}}],"resource":[{"key":"a","value":{"intValue":2}},{"key":"b","value":{"intValue":3}}]}"#,
            r#","a":1,"a~2":2,"b":3}"#,
        );
        check(
            r#"{"attributes":[{"key":"a","value":{"intValue":1}},{"key":"a","value":{"intValue":1}}]}"#,
            r#","a":1}"#,
        );
        check(
            r#"{"attributes":[{"key":"a","value":{"intValue":1}},{"key":"a","value":{"intValue":2}}]}"#,
            r#","a":1,"a~2":2} duplicated"#,
        );
        // An attribute cannot pass for what the record says itself.
        check(
            r#"{"timeUnixNano":"5","attributes":[{"key":"otlp.time","value":{"intValue":1}}]}"#,
            r#","otlp.time":5,"otlp.time~2":1} duplicated"#,
        );
    }

    /// Five thousand million steps if each looked past all before it.
    #[test]
    fn many_of_one_name_do_not_cost_their_square() {
        let list: Vec<_> = (0..100_000).map(|n| format!(r#"{{"key":"a","value":{{"intValue":{n}}}}}"#)).collect();
        let record = format!(r#"{{"attributes":[{}]}}"#, list.join(","));
        let (mut tape, mut scratch) = (Tape::default(), Tape::default());
        let root = tape.parse(record.as_bytes()).expect("the test writes JSON");
        let flat = Flat::new(Signal::Log, root, &[], &[], None, &mut scratch);
        assert!(flat.text.ends_with(r#","a~100000":99999}"#));
    }

    #[test]
    fn ids_and_times() {
        check(
            r#"{"traceId":"4BF92F","spanId":"0000000000000000","timeUnixNano":"0"}"#,
            r#","otlp.trace_id":"4bf92f"}"#,
        );
        check(r#"{"traceId":"","body":{"stringValue":"denied"}}"#, r#","otlp.body":"denied"}"#);
        check(r#"{"flags":1}"#, r#","otlp.flags":1}"#);
        check(r#"{"flags":0}"#, "}");
    }

    #[test]
    fn links_of_a_span() {
        for (links, expected) in [
            ("[]", ""),
            (
                r#"[{"traceId":"4BF9","spanId":"00F0","flags":257,"attributes":[{"key":"why","value":{"stringValue":"retry"}}]},{}]"#,
                r#","otlp.links":[{"trace_id":"4bf9","span_id":"00f0","flags":257,"why":"retry"},{}]"#,
            ),
        ] {
            let (mut tape, mut scratch) = (Tape::default(), Tape::default());
            let record = format!(r#"{{"flags":257,"links":{links}}}"#);
            let root = tape.parse(record.as_bytes()).expect("the test writes JSON");
            let flat = Flat::new(Signal::Span, root, &[], &[], None, &mut scratch);
            assert_eq!(flat.text, format!(r#"{{"otlp.signal":"span","otlp.flags":257{expected}}}"#));
        }
    }
}
