//! Real logs: paths, parents and sessions are those that the drivers know, and nothing is guessed.
//!
//! The logs are read here by hand, so that this room need not know the decoders.

use catena_analysis::chain::rules::{Fact, Party, Proof, Protocol, Settings, Store, Via, rebuild};
use catena_schemas::Micros;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut text = String::new();
    match file.ends_with(".gz") {
        true => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("a packed text"),
        false => (&bytes[..]).read_to_string(&mut text).expect("a text"),
    };
    text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

/// Ids of nested `act` claims, root first.
fn act(claims: &Value) -> Vec<&str> {
    let mut ids = Vec::new();
    let mut level = &claims["act"];
    while let Some(id) = level["sub"].as_str() {
        ids.push(id);
        level = &level["act"];
    }
    ids.reverse();
    ids
}

fn time(text: &Value) -> Micros {
    Micros::parse_rfc3339(text.as_str().expect("an instant")).expect("an instant")
}

/// Chains, each with the events it holds: id, path of ids, session that the log names.
struct Seen {
    chain: String,
    event: String,
    path: Vec<String>,
}

fn judge(store: &mut Store) -> Vec<Seen> {
    let chains = rebuild("acme", store, &[], &Settings::default()).chains;
    let mut seen = Vec::new();
    for chain in &chains {
        for link in &chain.links {
            let hops = &chain.paths[link.path as usize].hops;
            seen.push(Seen {
                chain: chain.id.clone(),
                event: chain.event(store, link).to_owned(),
                path: hops.iter().map(|h| store.text(h.id).to_owned()).collect(),
            });
        }
    }
    seen
}

/// Two ways of telling apart are the same way.
fn same_partition<'a>(what: &str, pairs: impl Iterator<Item = (&'a str, String)>) -> usize {
    let (mut there, mut back): (BTreeMap<_, BTreeSet<_>>, BTreeMap<_, BTreeSet<_>>) = Default::default();
    for (chain, known) in pairs {
        there.entry(chain.to_owned()).or_default().insert(known.clone());
        back.entry(known).or_default().insert(chain.to_owned());
    }
    for (chain, known) in &there {
        assert_eq!(known.len(), 1, "{what}: {chain} holds {known:?}");
    }
    for (known, chains) in &back {
        assert_eq!(chains.len(), 1, "{what}: {known} lies in {chains:?}");
    }
    there.len()
}

fn tell_opa(store: &mut Store, record: &Value, content: u128, with_session: bool) {
    let (input, claims) = (&record["input"], &record["input"]["token"]["claims"]);
    let acting = act(claims);
    let declared: Vec<&str> =
        [&input["agent"]["parent"], &input["agent"]["id"]].iter().filter_map(|v| v.as_str()).collect();
    let ids = if acting.last() == input["agent"]["id"].as_str().as_ref() { acting } else { declared };
    let actors: Vec<Party<'_>> = ids.into_iter().map(|id| Party { id, ..Party::default() }).collect();
    let text = |v: &'static str| input.pointer(v).and_then(Value::as_str);
    store.tell(&Fact {
        source: "opa",
        event_id: record["decision_id"].as_str().expect("an id"),
        decision: record["decision_id"].as_str(),
        content,
        time: time(&record["timestamp"]),
        session: text("/session/id").filter(|_| with_session),
        trace: record["trace_id"].as_str(),
        issuer: claims["iss"].as_str(),
        subject: text("/user/id"),
        client: claims["client_id"].as_str(),
        token: claims["jti"].as_str(),
        proof: if claims.is_object() { Proof::Parsed } else { Proof::None },
        via: Via::Act,
        actors: &actors,
        protocol: Protocol::Mcp,
        server: text("/server/name"),
        tool: text("/tool/name"),
        ..Fact::default()
    });
}

#[test]
fn opa() {
    let mut store = Store::default();
    let drivers = lines("opa/main/driver.jsonl");
    let known: BTreeMap<&str, &Value> = drivers
        .iter()
        .filter(|d| d["kind"] == "decision")
        .map(|d| (d["decision_id"].as_str().expect("an id"), d))
        .collect();
    let records = lines("opa/main/console.stderr.gz");
    for (i, record) in records.iter().enumerate() {
        if record["decision_id"].as_str().is_some_and(|id| known.contains_key(id)) {
            tell_opa(&mut store, record, i as u128, true);
        }
    }
    let seen = judge(&mut store);
    assert_eq!(seen.len(), 400);
    for s in &seen {
        let truth = known[s.event.as_str()];
        let want: Vec<&str> = ["user", "parent", "agent"].iter().filter_map(|k| truth[*k].as_str()).collect();
        assert_eq!(s.path.first().map(String::as_str), want.first().copied(), "{truth}");
        assert_eq!(s.path.last().map(String::as_str), want.last().copied(), "{truth}");
        match truth["parent"].as_str() {
            Some(parent) => assert_eq!(s.path[s.path.len() - 2], parent, "{truth}"),
            None => assert_eq!(s.path.len(), 2, "{truth}"),
        }
    }
    let chains = same_partition(
        "sessions",
        seen.iter().map(|s| (s.chain.as_str(), known[s.event.as_str()]["session"].to_string())),
    );
    assert_eq!(chains, 35);
}

#[test]
fn mcp_of_both_generations() {
    let records: Vec<Value> =
        lines("mcp/python-sdk/opa-decisions.jsonl").into_iter().filter(|r| r["decision_id"].is_string()).collect();
    let drivers = lines("mcp/python-sdk/driver.jsonl");
    // The newer protocol has no sessions; what the gateway put there is taken away, and the runs must come out all the same.
    for with_session in [true, false] {
        let mut store = Store::default();
        for (i, record) in records.iter().enumerate() {
            let is_legacy = record["input"]["context"]["protocol_version"] == "2025-11-25";
            tell_opa(&mut store, record, i as u128, with_session && is_legacy);
        }
        let seen = judge(&mut store);
        assert_eq!(seen.len(), 120);
        let run_of: BTreeMap<&str, &str> = records
            .iter()
            .map(|r| {
                (
                    r["decision_id"].as_str().expect("an id"),
                    r["input"]["token"]["claims"]["jti"].as_str().expect("a run"),
                )
            })
            .collect();
        let agent_of: BTreeMap<&str, (&str, &str)> = drivers
            .iter()
            .map(|d| {
                (
                    d["run"].as_str().expect("a run"),
                    (d["user"].as_str().expect("a user"), d["agent"].as_str().expect("an agent")),
                )
            })
            .collect();
        for s in &seen {
            let (user, agent) = agent_of[run_of[s.event.as_str()]];
            assert_eq!((s.path.len(), s.path[0].as_str(), s.path[2].as_str()), (3, user, agent));
            assert!(s.path[1].starts_with("agent:root-"), "{:?}", s.path);
        }
        let chains =
            same_partition("runs", seen.iter().map(|s| (s.chain.as_str(), run_of[s.event.as_str()].to_owned())));
        assert_eq!(chains, 20);
    }
}

#[test]
fn cerbos() {
    let mut store = Store::default();
    let drivers = lines("cerbos/file/driver.jsonl");
    let known: BTreeMap<&str, &Value> = drivers.iter().filter_map(|d| Some((d["call_id"].as_str()?, d))).collect();
    let mut acting: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in lines("cerbos/file/audit.log.gz") {
        let Some(inputs) = record["checkResources"]["inputs"].as_array() else { continue };
        let call = record["callId"].as_str().expect("an id");
        if !known.contains_key(call) {
            continue;
        }
        for (i, input) in inputs.iter().enumerate() {
            let (principal, jwt) = (&input["principal"], &input["auxData"]["jwt"]);
            let verified = jwt.is_object();
            let listed: Vec<&str> =
                principal["attr"]["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            // The driver also asks with somebody else's token or chain: then who asks is who the gateway says.
            let me = principal["id"].as_str().expect("an id");
            let ends_with_me = |ids: &[&str]| ids.last() == Some(&me);
            let verified = verified && ends_with_me(&act(jwt));
            let ids = [act(jwt), listed].into_iter().find(|ids| ends_with_me(ids)).unwrap_or_else(|| vec![me]);
            acting.insert(call.to_owned(), ids.iter().map(|s| s.to_string()).collect());
            let actors: Vec<Party<'_>> = ids.into_iter().map(|id| Party { id, ..Party::default() }).collect();
            let id = format!("{call}/{i}");
            store.tell(&Fact {
                source: "cerbos",
                event_id: &id,
                decision: Some(&id),
                record: Some(call),
                time: time(&record["timestamp"]),
                session: input["resource"]["attr"]["session"].as_str().or(principal["attr"]["session"].as_str()),
                subject: principal["attr"]["on_behalf_of"].as_str(),
                proof: if verified { Proof::Verified } else { Proof::None },
                via: if verified { Via::Act } else { Via::Declared },
                actors: &actors,
                tool: input["resource"]["id"].as_str(),
                ..Fact::default()
            });
        }
    }
    let seen = judge(&mut store);
    assert!(seen.len() > 500, "{}", seen.len());
    for s in &seen {
        let call = s.event.split('/').next().expect("an id");
        let truth = known[call];
        assert_eq!(s.path.first().map(String::as_str), truth["user"].as_str(), "{truth}");
        assert_eq!(s.path.last().map(String::as_str), truth["agent"].as_str(), "{truth}");
        assert_eq!(s.path.len(), acting[call].len() + 1, "{truth}");
    }
    let session = |s: &Seen| known[s.event.split('/').next().expect("an id")]["session"].to_string();
    same_partition("sessions", seen.iter().map(|s| (s.chain.as_str(), session(s))));
}
