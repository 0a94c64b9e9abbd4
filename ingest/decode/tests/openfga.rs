//! OpenFGA's real request log, against what the driver of the requests knows.

use crate::seen::{Collected, Seen, corpus, decode_body, jsonl};
use catena_decode::Format;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    v[key].as_str().unwrap_or_default()
}

fn tally<'s>(keys: impl Iterator<Item = &'s str>) -> BTreeMap<&'s str, usize> {
    keys.fold(BTreeMap::new(), |mut counts, key| {
        *counts.entry(key).or_default() += 1;
        counts
    })
}

fn check(seen: &Collected) {
    let expected: Value = serde_json::from_slice(&corpus("openfga/expected.json")).expect("JSON");
    let number = |v: &Value| v.as_u64().unwrap_or_default() as usize;
    assert_eq!(seen.rejections, []);
    let (batched, single): (Vec<&Seen>, Vec<&Seen>) = seen.events.iter().partition(|e| e.count == 4);
    // Checks as the driver counts them, and those that failed.
    let (checks, errors) = (number(&expected["checks"]), number(&expected["errors"]));
    assert_eq!(single.len(), checks + errors);
    let by_outcome = &expected["by_outcome"];
    assert_eq!(
        tally(single.iter().map(|e| e.outcome.as_str())),
        BTreeMap::from([
            ("allow", number(&by_outcome["allow"])),
            ("deny", number(&by_outcome["deny"])),
            ("error", errors)
        ])
    );
    assert!(single.iter().filter(|e| e.outcome == "error").all(|e| e.reasons == ["check_error", "validation_error"]));
    assert!(seen.events.iter().all(|e| e.policy == text(&expected, "store_id")));
    assert!(seen.events.iter().all(|e| e.version == text(&expected, "model_id")));

    let by_request: HashMap<&str, &Seen> = single.iter().map(|e| (e.request.as_str(), *e)).collect();
    let mut matched = 0;
    for truth in jsonl("openfga/driver.jsonl").iter().filter(|t| t["kind"] == "check") {
        let e = by_request[text(truth, "response_request_id")];
        assert_eq!(e.id, e.request);
        assert_eq!((e.outcome.as_str(), e.agent.as_str()), (text(truth, "expected"), text(truth, "user")), "{truth}");
        assert_eq!(e.action, text(truth, "relation"));
        assert_eq!(e.resources, [text(truth, "object")]);
        assert_eq!(format!("tool:{}/{}", e.server, e.tool), text(truth, "object"));
        assert_eq!(e.phase, if e.action == "can_list" { "list" } else { "invoke" });
        matched += 1;
    }
    assert_eq!(matched, checks);

    let batches: Vec<Value> =
        jsonl("openfga/driver.jsonl").into_iter().filter(|t| t["kind"] == "batch_check").collect();
    assert_eq!((batches.len(), batched.len()), (number(&expected["batch_checks"]), 16));
    for (truth, events) in batches.iter().zip(batched.chunks(4)) {
        for (at, e) in events.iter().enumerate() {
            assert_eq!(Some(e.outcome.as_str()), truth["expected"][at].as_str());
            assert_eq!((e.index, e.id.clone()), (at as u32, format!("{}/{at}", e.record)));
            assert_eq!(e.agent, "agent:coder-1");
        }
    }
    assert_eq!(
        tally(seen.asides.iter().map(|a| a.reason)),
        BTreeMap::from([
            ("authority_write", 2),
            ("not_a_check", number(&expected["list_objects"])),
            ("server_log", 12)
        ])
    );
}

#[test]
fn every_check_is_there_and_as_decided() {
    check(&decode_body(Format::Openfga, &corpus("openfga/openfga.log")));
    check(&decode_body(Format::Auto, &corpus("openfga/openfga.log")));
}

/// The person on whose behalf the agent asks stands in a contextual tuple.
#[test]
fn people_stand_in_contextual_tuples() {
    let seen = decode_body(Format::Auto, &corpus("openfga/openfga.log"));
    let people = tally(seen.events.iter().map(|e| e.requester.as_str()));
    assert_eq!(people["user:alice"], 40);
}
