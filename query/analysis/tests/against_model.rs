//! Chains equal those of the executable model, over event sets that neither has seen.

use crate::told::{Dice, Told, as_model, simple};
use catena_analysis::chain::rules::{Settings, Store, rebuild};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

const CASES: u64 = 2_000;

/// The model's answers, or none when there is no Python here.
#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
fn ask(cases: &[Vec<Told>]) -> Option<Vec<Value>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model");
    let started = Command::new("python3")
        .args(["-B", "answer.py"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut model) = started else {
        eprintln!("skipped: there is no python3 to run the model");
        return None;
    };
    let mut input = model.stdin.take().expect("a pipe");
    let text: String =
        cases.iter().map(|c| format!("{}\n", json!(c.iter().map(Told::to_json).collect::<Vec<_>>()))).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let done = model.wait_with_output().expect("the model ends");
    writer.join().expect("a writer").expect("the model reads everything");
    assert!(done.status.success(), "the model failed");
    let lines = String::from_utf8(done.stdout).expect("text");
    Some(lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect())
}

fn ours(case: &[Told]) -> Vec<Value> {
    let mut stores: BTreeMap<&str, Store> = BTreeMap::new();
    for told in case {
        told.tell(stores.entry(&told.tenant).or_default());
    }
    let mut all = Vec::new();
    for (tenant, store) in &mut stores {
        let chains = rebuild(tenant, store, &[], &Settings::default());
        all.extend(chains.chains.iter().map(|c| as_model(tenant, store, c)));
    }
    all.sort_by_key(|c| (c["tenant"].to_string(), c["id"].to_string()));
    all
}

/// Lists as sets: the model sorts as Python does.
fn sorted(mut chain: Value) -> Value {
    for (_, value) in chain.as_object_mut().expect("an object") {
        if let Some(list) = value.as_array_mut() {
            list.sort_by_key(|v| v.to_string());
        }
    }
    chain
}

#[test]
fn chains_are_those_of_the_model() {
    let cases: Vec<Vec<Told>> = (0..CASES)
        .map(|seed| {
            let mut dice = Dice(seed);
            let n = 1 + dice.below(30);
            simple(&mut dice, n)
        })
        .collect();
    let Some(answers) = ask(&cases) else { return };
    assert_eq!(answers.len(), cases.len());
    let (mut chains, mut rings, mut ghosts) = (0, 0, 0);
    for (seed, (case, answer)) in cases.iter().zip(answers).enumerate() {
        let theirs: Vec<Value> = answer.as_array().expect("chains").iter().cloned().map(sorted).collect();
        let ours = ours(case);
        assert_eq!(ours, theirs, "seed {seed}: {case:#?}");
        chains += ours.len();
        rings += ours.iter().map(|c| c["cut"].as_array().map_or(0, Vec::len)).sum::<usize>();
        ghosts += ours.iter().map(|c| c["ghosts"].as_array().map_or(0, Vec::len)).sum::<usize>();
    }
    assert!(chains > 8_000 && rings > 60 && ghosts > 8_000, "{chains} chains, {rings} rings, {ghosts} ghosts");
}
