//! What the reason codes of rejections mean, and the way out of each.
//!
//! Guarantee: every code that this crate can reject with is here; a test reads the sources and holds it to that. Codes are
//! stable: people alert on them.

/// Code, meaning, way out; in order of the code.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "avro_malformed",
        "The bytes do not follow the Avro schema that they name.",
        "Look whether the topic's schema id belongs to this topic; producers with a schema of their own need one of their own.",
    ),
    (
        "call_id_missing",
        "A Cerbos entry has no call id.",
        "Only entries of Cerbos' audit log can be read; something between it and here drops members.",
    ),
    (
        "cloudevent_invalid",
        "A CloudEvent lacks a required attribute, or one has a wrong type.",
        "Required are specversion, id, source and type (CloudEvents 1.0, section 3.1).",
    ),
    (
        "decision_id_missing",
        "The record is neither an OPA decision, which has an id, nor a line of OPA's console.",
        "Look at the record; for something that stands between OPA and here, write a mapping.",
    ),
    (
        "decisions_missing",
        "The entry holds no decision where its producer puts them.",
        "See whether the producer is set to log them; its page under docs/producers says how.",
    ),
    (
        "decisions_too_large",
        "One record multiplies into more bytes than are taken from one.",
        "Ask fewer questions at a time, or log fewer attributes with each.",
    ),
    (
        "decisions_too_many",
        "One record holds more decisions than are taken from one.",
        "Ask fewer questions at a time, or split the record.",
    ),
    (
        "encoding_unsupported",
        "The record says that it is encoded in a way that is not read.",
        "Set the producer to JSON.",
    ),
    (
        "entry_oversized",
        "An entry of Cerbos was too big for its log, which kept no more than that.",
        "Something was decided there; raise the limit of the audit back end, or ask fewer questions at a time.",
    ),
    (
        "entry_unknown",
        "A Cerbos record is neither a decision nor another entry that is known.",
        "Look at the record; a newer Cerbos may have new kinds of entries.",
    ),
    ("envelope_depth", "An envelope holds an envelope, and so on.", "Unwrap what comes before it is sent."),
    (
        "field_missing",
        "A required member is not there.",
        "The detail names it; docs/native-event.md has the required ones.",
    ),
    (
        "items_invalid",
        "The list that the mapping fans out over is no list.",
        "Look at the record with `catena mapping try`, and change `each` in the mapping.",
    ),
    (
        "items_missing",
        "The list that the mapping fans out over is not there.",
        "Look at the record with `catena mapping try`, and change `each` in the mapping.",
    ),
    ("json_bom", "The record begins with a byte order mark.", "Write UTF-8 without one."),
    (
        "json_control",
        "A control character stands unescaped in a string.",
        "Escape it: the writer is not a JSON encoder.",
    ),
    (
        "json_depth",
        "Arrays and objects are nested deeper than 64.",
        "Flatten the record; arguments of tools are the usual place.",
    ),
    (
        "json_duplicate_key",
        "An object has a key twice, so readers would disagree on what it says.",
        "Mend the producer; nothing here guesses which of the two was meant.",
    ),
    ("json_empty", "The record is empty.", "A producer that sends nothing has a fault of its own; it can be left."),
    (
        "json_escape",
        "A string holds an escape that JSON does not have.",
        "Mend the writer; often it is a regular expression or a Windows path that was not escaped.",
    ),
    (
        "json_number",
        "A number is not written as JSON wants it: a leading zero, NaN, Infinity.",
        "Write it as a string, or mend the writer.",
    ),
    (
        "json_surrogate",
        "An escape names half of a character.",
        "The text was cut in the middle of a character; cut it elsewhere.",
    ),
    (
        "json_syntax",
        "The record is not JSON.",
        "If it is another format, name it with --format or the topic's `format`; if it is text, the producer has to write JSON.",
    ),
    ("json_too_large", "The record is larger than 1 GiB.", "Split it."),
    ("json_trailing", "Something follows the JSON value.", "One value per record; several go one a line."),
    (
        "json_truncated",
        "The record ends before its JSON value does.",
        "It was cut on the way: look at size limits of the producer, the broker or the log rotation.",
    ),
    ("json_utf8", "The bytes are not UTF-8.", "Let the producer write UTF-8; Latin-1 and UTF-16 are not read."),
    (
        "kind_unsupported",
        "The native record has a `kind` that is not known.",
        "Known kinds are in docs/native-event.md; a newer Catena may know more.",
    ),
    (
        "mapping_missing",
        "No mapping's conditions hold for the record.",
        "Write one (docs/ingest.md) and try it with `catena mapping try`, then `catena rejects retry --mapping FILE`.",
    ),
    (
        "message_missing",
        "The record holds no JSON-RPC message.",
        "Look at the capture: it should hold the bodies of the exchange.",
    ),
    (
        "message_unknown",
        "A line of a known producer has an unknown message and members that tell of a call or of a verdict.",
        "A newer release may say it in other words: write a mapping, then `catena rejects retry --mapping FILE`.",
    ),
    (
        "message_unreadable",
        "What should be the body of a request is no JSON-RPC.",
        "Look at the capture: bodies are objects, lists, their text, or the text of an event stream; one that was cut off cannot be read.",
    ),
    (
        "method_unknown",
        "The method is none that is known to use something, and none that is known to use nothing.",
        "Map it to one that is known (`call.method` with a `lookup`, docs/ingest.md), then `catena rejects retry --mapping FILE`.",
    ),
    (
        "method_unmapped",
        "The record shows that it tells of a call, and no mapping knows the name under which its method stands.",
        "Write a mapping that extends the shipped one with `call.method` (docs/ingest.md), then `catena rejects retry --mapping FILE`.",
    ),
    ("not_an_object", "The record is JSON, but no object.", "Records are objects, or arrays of them."),
    (
        "otlp_unknown",
        "The export holds neither logs nor spans.",
        "Send to /v1/logs or /v1/traces; metrics are not taken.",
    ),
    (
        "otlp_unmapped",
        "No mapping knows the record of an export, and it shows that it tells of a call or of a verdict.",
        "Write a mapping of the format `otlp` (docs/producers/otlp.md), then `catena rejects retry --mapping FILE`.",
    ),
    (
        "protobuf_malformed",
        "The bytes do not follow the protobuf message that they should hold.",
        "Look at the topic's format and at the headers that name the encoding.",
    ),
    (
        "record_too_large",
        "A line of a file is longer than 16 MiB, which is the most that is taken as one record.",
        "Its beginning is kept. Look what writes it: a program that does not open its log for appending leaves zeros when the file is truncated.",
    ),
    (
        "record_unknown",
        "A record that would be set aside with all others of its kind shows that it tells of a call or of a verdict.",
        "Look at the record; write a mapping, then `catena rejects retry --mapping FILE`.",
    ),
    (
        "schema_unknown",
        "The schema registry has no schema of the number that the record names, or it cannot be understood.",
        "Look whether the topic's `registry` is the one that its producer uses; then `catena rejects retry`.",
    ),
    (
        "shape_unknown",
        "The record is an object of none of the known shapes.",
        "Name the format with --format, or write a mapping (docs/ingest.md).",
    ),
    (
        "time_invalid",
        "The time of the record cannot be read.",
        "RFC 3339, or seconds, milli-, micro- or nanoseconds since 1970.",
    ),
    (
        "tombstone",
        "A Kafka record without a value: a deletion mark of a compacted topic.",
        "Decisions do not belong into compacted topics; it can be left.",
    ),
    (
        "verdict_missing",
        "The record should say what was decided and does not.",
        "Let the producer write it, or map the field that holds it.",
    ),
    (
        "verdict_unknown",
        "The verdict is none of allow, deny, step_up, error, unknown.",
        "Spelled exactly so, in ASCII; other words need a mapping.",
    ),
];

/// What a reason code means, and the way out.
pub fn explain(code: &str) -> Option<(&'static str, &'static str)> {
    let at = REASONS.binary_search_by_key(&code, |r| r.0).ok()?;
    Some((REASONS[at].1, REASONS[at].2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Codes in the sources: the first text of what is returned as a rejection.
    fn codes(folder: &std::path::Path, into: &mut BTreeSet<String>) {
        const BEFORE: &[&str] =
            &["Rejection(", "reject(", "reject_value(", "Err((", "map_err(|reason| (", "self.fail(", "reason: "];
        for entry in std::fs::read_dir(folder).expect("the sources are here") {
            let path = entry.expect("the sources are here").path();
            if path.is_dir() {
                codes(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("reasons.rs") {
                let text = std::fs::read_to_string(&path).expect("the sources are here");
                let text = text.split("#[cfg(test)]").next().unwrap_or_default();
                for (at, before) in BEFORE.iter().flat_map(|b| text.match_indices(b)) {
                    let rest = text[at + before.len()..].trim_start();
                    let code = rest.strip_prefix('"').and_then(|r| r.split_once('"')).map_or("", |r| r.0);
                    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
                    if !code.is_empty() && code.bytes().all(plain) {
                        into.insert(code.to_owned());
                    }
                }
            }
        }
    }

    #[test]
    fn every_code_is_explained() {
        let mut found = BTreeSet::new();
        codes(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
        assert!(found.len() > 20, "{found:?}");
        let missing: Vec<_> = found.iter().filter(|code| explain(code).is_none()).collect();
        assert!(missing.is_empty(), "not explained: {missing:?}");
    }

    #[test]
    fn codes_are_in_order() {
        assert!(REASONS.is_sorted_by_key(|r| r.0));
        assert!(explain("json_empty").is_some() && explain("nothing").is_none());
    }
}
