//! The language of mappings: what each word of it does, and how mistakes in it are told.

use crate::declared::told;
use crate::seen::{Collected, KEY, context};
use catena_decode::mapping::Mappings;
use catena_decode::{Decoder, Format, Redactor};
use std::sync::Arc;

fn refused(text: &str, expected: &str) {
    let got = match Mappings::shipped().with(text, "mine") {
        Ok(_) => "fine".to_owned(),
        Err(e) => e.to_string().replace("mapping `mine`, line ", ""),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn mistakes_have_a_line_and_a_column() {
    let head = "format = 'mapped'\n";
    let check = |text: &str, expected: &str| refused(&format!("{head}{text}"), expected);
    check("", "fine");
    check("each = 'list'", "2, column 8: `each`: `list` is not a pointer: it must start with `/`");
    check("each = '/list'", "fine");
    check("pair = { with = '/b' }", "2, column 8: `pair` needs an `each` to pair with");
    check("each = '/a'\npair = {}", "3, column 8: `pair` needs `with`, a pointer");
    check("each = '/a'\npair = { with = '/b', other = '/x' }", "3, column 8: `pair.other` needs `pair.item`");
    check("each = '/a'\npair = { with = '/b', item = '/x', other = '/y' }", "fine");
    check(
        "each = '/a'\npair = { with = '/b', item = '/x', also = [{ item = '/y' }] }",
        "3, column 44: `pair.also` needs `item` and `other`, pointers",
    );
    check(
        "each = '/a'\npair = { with = '/b', also = [] }",
        "3, column 30: `pair.also` is a list of tables, and needs `pair.item`",
    );
    check(
        "each = '/a'\n[fields]\nid = '/x'",
        "4, column 6: `id`: `/x` starts at none of `/record`, `/item`, `/key`, `/pair`",
    );
    check(
        "each = '/a'\n[when]\nall = [{ pointer = '/item/x', exists = true }]",
        "4, column 7: `when` asks about the record, not about `/item/x`",
    );
    check(
        "[[aside]]\nreason = 'Not a call'",
        "3, column 10: `reason` is a code of small letters, digits and `_`, not `Not a call`",
    );
    check("[[aside]]\nwhen = []", "2, column 3: an aside needs a `reason`".replace("column 3", "column 1").as_str());
    check("[aside]\nreason = 'x'", "2, column 1: `aside` is a list of tables: `[[aside]]`");
    check("[[outcome.rules]]\nreasons = ['x']", "2, column 1: a rule needs an `outcome`");
    check(
        "[[outcome.rules]]\noutcome = 'alow'",
        "3, column 11: `outcome` does not know `alow`, the nearest known one is `allow`",
    );
    check(
        "[[outcome.rules]]\noutcome = 'deny'\nenforced = 'stopped'",
        "4, column 12: `enforced` does not know `stopped`",
    );
    check("[outcome]\notherwise = { outcome = 'deny' }", "fine");
    check(
        "[fields]\ndecision.phase = { value = 'invoked' }",
        "3, column 28: `decision.phase` does not know `invoked`, the nearest known one is `invoke`",
    );
    check(
        "[fields]\ndecision.phase = { pointer = '/a', lookup = { x = 'lst' } }",
        "3, column 51: `decision.phase` does not know `lst`, the nearest known one is `list`",
    );
    check("[fields]\nid = { pointer = '/a', utc = true }", "3, column 30: `utc` is for `time` alone");
    check("[fields]\nid = { pointer = '/a', free = true }", "3, column 31: `free` is for `time` alone");
    check("[fields]\ntime = { pointer = '/a', free = 1 }", "3, column 33: `free` is true or false");
    check("[[aside]]\nreason = 'x'\nwhen = { pointer = '/a', hex = 'x' }", "4, column 32: `hex` is a number of digits");
    check("[fields]\nid = { pointer = '/a', after = '' }", "3, column 32: `after` is a text, not an empty one");
    check(
        "[fields]\nid = { pointer = '/ä', when = { pointer = '/b', at_least = 'x' } }",
        "3, column 60: `at_least` is a number",
    );
    // What another decoder would not follow is no silent nothing.
    refused("format = 'opa'\neach = '/a'", "2, column 1: `each` means nothing for `opa`");
    refused(
        "format = 'envoy'\n[[outcome.rules]]\noutcome = 'deny'",
        "2, column 3: `outcome.rules` means nothing for `envoy`".replace("column 3", "column 1").as_str(),
    );
    refused("format = 'opa'\n[[outcome.rules]]\noutcome = 'deny'", "fine");
}

fn under(mapping: &str, format: Format, record: &str) -> String {
    let mappings = Mappings::shipped().with(mapping, "own").unwrap_or_else(|e| panic!("{e}"));
    let mut seen = Collected::default();
    Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(mappings)).record(
        format,
        record.as_bytes(),
        &context(),
        &mut seen,
    );
    told(&seen)
}

const OWN: &str = r#"
format = "mapped"
parse = "/args"

[when]
all = [{ pointer = "/kind", equals = "authz" }]

[[aside]]
when = { pointer = "/method", starts = ["ping", "notifications/"] }
reason = "not_a_call"
detail = "/method"

[[outcome.rules]]
when = { pointer = "/status", at_least = 500 }
outcome = "error"

[[outcome.rules]]
when = [{ pointer = "/tags", contains = "stopped" }, { pointer = "/who", missing = true }]
outcome = "deny"
basis = "explicit"
enforced = "blocked"
phase = "session"
reasons = ["nobody"]

[outcome]
from = "/answer"

[outcome.values]
allow = "yes"
deny = "no"

[fields]
id = "/id"
time = { pointer = "/at", utc = true }
requester.id = { pointer = "/who", after = ":" }
requester.kind = [
  { pointer = "/who", before = ":", lookup = { u = "human", s = "service" } },
  { value = "unheard-of", when = { pointer = "/who", starts = "x:" } },
]
server.name = { pointer = "/name", before = "___" }
tool.name = [{ pointer = "/name", after = "___" }, "/name"]
call.params = "/args/arguments"
actors.id = { pointer = "/client", unless = { pointer = "/client", same = "/who" } }
"#;

#[test]
fn a_producer_of_ones_own() {
    let check = |rest: &str, expected: &str| {
        let record = format!(r#"{{"kind":"authz","id":"1","at":"2026-11-20 14:03:11.5"{rest}}}"#);
        assert_eq!(under(OWN, Format::Mapped, &record), expected, "{record}");
        assert_eq!(under(OWN, Format::Auto, &record), expected, "{record}");
    };
    check(
        r#","answer":"yes","who":"u:dana","client":"cc","name":"tickets___delete","args":"{\"arguments\":{\"a\":1}}""#,
        r#"allow explicit - - | dana(human) > cc(-) > tickets/delete params={"a":1} via=declared"#,
    );
    check(
        r#","answer":"no","who":"s:job","client":"s:job","name":"delete""#,
        "deny explicit - - | job(service) > -(-) > -/delete",
    );
    check(r#","answer":"no","who":"x:job""#, "deny explicit - - | job(unheard-of) > -(-) > -/-");
    // Neither the separator nor the word is known: nothing is made of it.
    check(r#","answer":"no","who":"dana""#, "deny explicit - - | -(-) > -(-) > -/-");
    check(r#","answer":"yes","status":"502""#, "error inferred - - | -(-) > -(-) > -/-");
    check(
        r#","answer":"yes","tags":["a","stopped"]"#,
        "deny explicit blocked session | -(-) > -(-) > -/- reasons=nobody",
    );
    check(r#","answer":"yes","tags":["a","stopped"],"who":"u:d""#, "allow explicit - - | d(human) > -(-) > -/-");
    check(
        r#","answer":"maybe""#,
        "unknown inferred - - | -(-) > -(-) > -/- reasons=outcome_unmapped flags=invalid:decision.verdict",
    );
    check(r#","answer":"yes","method":"ping""#, "aside not_a_call ping");
    // Arguments that are no JSON are no arguments.
    check(r#","answer":"yes","args":"{oops""#, "allow explicit - - | -(-) > -(-) > -/-");
    assert_eq!(
        under(OWN, Format::Mapped, r#"{"kind":"other"}"#),
        "reject mapping_missing no mapping of `mapped` knows the record"
    );
    assert!(under(OWN, Format::Auto, r#"{"kind":"other"}"#).starts_with("reject"));
}

#[test]
fn its_events_carry_the_name_of_the_mapping() {
    let mappings = Mappings::shipped().with(&format!("name = 'my-gateway'\n{OWN}"), "own").expect("well written");
    let mut seen = Collected::default();
    Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(mappings)).record(
        Format::Auto,
        br#"{"kind":"authz","id":"1","at":"2026-11-20T14:03:11Z","answer":"yes"}"#,
        &context(),
        &mut seen,
    );
    assert!(seen.events[0].native.contains(r#""kind":"my-gateway""#), "{}", seen.events[0].native);
}

#[test]
fn objects_fan_out_by_their_names() {
    let mapping = r#"
format = "mapped"
each = "/answers"
pair = { with = "/questions" }

[[aside]]
when = { pointer = "/item", equals = "skipped" }
reason = "skipped"
detail = "/key"

[outcome]
from = "/item"

[outcome.values]
allow = true
deny = false

[fields]
id = "/record/id"
tool.name = "/key"
requester.id = "/pair/who"
"#;
    assert_eq!(
        under(
            mapping,
            Format::Mapped,
            r#"{"id":"r","answers":{"b":false,"a":true,"c":"skipped"},"questions":{"a":{"who":"dana"},"x":1}}"#
        ),
        "deny explicit - - | -(-) > -(-) > -/b flags=time_missing\n\
         allow explicit - - | dana(-) > -(-) > -/a flags=time_missing\n\
         aside skipped c"
    );
}

/// Rules stand before OPA's table as well.
#[test]
fn rules_decide_for_opa() {
    let mapping = r#"
extends = "opa-gateway"
[when]
all = [{ pointer = "/path", equals = "p" }]
[[outcome.rules]]
when = { pointer = "/result/obligations/0/type", equals = "step_up" }
outcome = "step_up"
reasons = ["asked_for_more"]
[outcome]
from = "/result/allow"
[outcome.values]
allow = true
deny = false
"#;
    let record = |obligations: &str| {
        format!(
            r#"{{"decision_id":"d","labels":{{}},"timestamp":"2026-11-20T14:03:11Z","path":"p","result":{{"allow":false,"obligations":{obligations}}}}}"#
        )
    };
    assert!(under(mapping, Format::Auto, &record(r#"[{"type":"step_up"}]"#)).starts_with("step_up inferred"));
    assert!(under(mapping, Format::Auto, &record("[]")).starts_with("deny explicit"));
}

/// What the record says beside its lists is redacted like everything else, and a raw token is kept in no form.
#[test]
fn what_is_shared_is_clean() {
    let secret = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let mapping = "format = 'mapped'\neach = '/list'\nparse = '/list/*/nested'\n[fields]\ntoken.ref = { pointer = '/record/bearer', when = { pointer = '/item/never', exists = true } }";
    let record = format!(
        r#"{{"bearer":"opaque-token-of-no-shape","note":"{secret}","list":[{{"a":"{secret}"}},{{"nested":"{{\"password\":\"hunter2\",\"k\":\"{secret}\"}}"}},{{"{secret}":1}}]}}"#
    );
    let mappings = Mappings::shipped().with(mapping, "own").expect("well written");
    let mut seen = Collected::default();
    Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(mappings)).record(
        Format::Mapped,
        record.as_bytes(),
        &context(),
        &mut seen,
    );
    let all: String = seen.events.iter().map(|e| e.native.as_str()).collect();
    assert_eq!(seen.events.len(), 3);
    for hidden in [secret.as_str(), "hunter2", "opaque-token-of-no-shape"] {
        assert!(!all.contains(hidden), "{hidden}: {all}");
    }
}

/// What the page shows is what the program reads.
#[test]
fn the_page_of_the_language_is_true() {
    let page = include_str!("../mappings/README.md");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    let mut known = Mappings::shipped().with(blocks[0], "page").unwrap_or_else(|e| panic!("{e}"));
    for block in &blocks[1..] {
        known = known.with(&format!("format = 'mapped'\n{block}"), "page").unwrap_or_else(|e| panic!("{e}"));
    }
}
