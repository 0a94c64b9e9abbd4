//! P21: what one producer can write costs in proportion to what it wrote, and where something is left out, that is said.
//!
//! Each shape is judged small and four times as large. Linear work takes four times as long, quadratic work sixteen.

use crate::told::{Told, chains, json_of};
use catena_analysis::chain::rules::watch::Watcher;
use catena_analysis::chain::rules::{Chain, Fact, Mark, Party, Protocol, Settings, Standing, Store, rebuild};
use catena_schemas::{Micros, Outcome};
use std::time::{Duration, Instant};

fn judged(all: &[Told]) -> (Store, Vec<Chain>) {
    let mut store = Store::default();
    for told in all {
        told.tell(&mut store);
    }
    let chains = rebuild("t", &mut store, &[], &Settings::default()).chains;
    (store, chains)
}

fn blank(i: usize) -> Told {
    Told {
        tenant: "t".into(),
        src: "g".into(),
        eid: format!("e{i}"),
        did: Some(format!("d{i}")),
        t: i as i64,
        sub: Some("alice".into()),
        ..Told::default()
    }
}

const FEW: usize = 10_000;

/// What this thread has worked so far; where that is not known, what time it is.
fn worked(began: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    nanos.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// Judges a shape in two sizes. The quickest of three of each: other programs disturb.
fn grows_as_told(name: &str, shape: impl Fn(usize) -> Vec<Told>) -> Vec<Chain> {
    let time = |n: usize| -> (Duration, Vec<Chain>) {
        let all = shape(n);
        let mut store = Store::default();
        let parties: Vec<_> = all.iter().map(|told| told.parties()).collect();
        let facts: Vec<Fact<'_>> = all.iter().zip(&parties).map(|(told, parties)| told.fact(parties)).collect();
        let began = Instant::now();
        let before = worked(began);
        for fact in &facts {
            store.tell(fact);
        }
        let chains = rebuild("t", &mut store, &[], &Settings::default()).chains;
        (worked(began) - before, chains)
    };
    let best = |n: usize| (0..3).map(|_| time(n).0).min().expect("three");
    let (few, many) = (best(FEW), best(4 * FEW));
    let floor = Duration::from_millis(5);
    assert!(many < few.max(floor) * 10, "{name}: {few:?} for {FEW}, {many:?} for four times as many");
    time(FEW).1
}

#[test]
fn a_decision_with_many_children() {
    let chains = grows_as_told("children", |n| {
        let child = |i: usize| Told { pdid: (i > 0).then(|| "d0".into()), ..blank(i) };
        (0..n).map(child).collect()
    });
    assert_eq!((chains.len(), chains[0].fanout as usize), (1, FEW - 1));
}

#[test]
fn a_line_of_new_actors() {
    let chains = grows_as_told("actors", |n| {
        let next = |i: usize| Told {
            pdid: i.checked_sub(1).map(|p| format!("d{p}")),
            actors: vec![format!("agent{i}")],
            ..blank(i)
        };
        (0..n).map(next).collect()
    });
    let chain = &chains[0];
    let path = &chain.paths[chain.links[FEW - 1].path as usize];
    assert_eq!((path.hops.len(), path.is_capped), (64, true));
    assert!(chain.links[FEW - 1].marks.has(Mark::PathCapped) && !chain.links[62].marks.has(Mark::PathCapped));
    assert!(chain.links[63].marks.has(Mark::PathCapped));
}

#[test]
fn a_long_ring_is_cut_once() {
    let chains = grows_as_told("ring", |n| {
        (0..n).map(|i| Told { pdid: Some(format!("d{}", (i + n - 1) % n)), ..blank(i) }).collect()
    });
    assert_eq!((chains[0].count(Standing::Cut), chains[0].depth as usize), (1, FEW));
}

#[test]
fn further_parents_against_the_order() {
    // Everybody follows the first, and names one of the last besides: each such edge moves all that stand between.
    let shape = |n: usize| -> Vec<Told> {
        let told = |i: usize| Told {
            pdid: (i > 0).then(|| "d0".into()),
            rs_in: (i > 0 && i < n / 2).then(|| format!("q{}", n - i)),
            rs_out: (i >= n / 2).then(|| format!("q{i}")),
            client: Some(format!("c{i}")),
            ..blank(i)
        };
        (0..n).map(told).collect()
    };
    let chains = grows_as_told("further parents", shape);
    let chain = &chains[0];
    assert_eq!(chain.secondary.len() + chain.secondary_skipped as usize, FEW / 2 - 1);
    assert!(chain.secondary_skipped > 0 && !chain.secondary.is_empty());
}

#[test]
fn one_name_for_everything() {
    grows_as_told("one span id in every trace", |n| {
        let told = |i: usize| Told { trace: Some(format!("a{i}")), span: Some("1".into()), ..blank(i) };
        (0..n).map(told).collect()
    });
    let chains = grows_as_told("one task", |n| (0..n).map(|i| Told { task: Some("k".into()), ..blank(i) }).collect());
    assert_eq!((chains.len(), chains[0].operations.len()), (1, 1));
    let chains = grows_as_told("one id, other content", |n| {
        (0..n).map(|i| Told { eid: "e".into(), did: None, args: Some(i.to_string()), ..blank(i) }).collect()
    });
    assert!(chains.iter().all(|c| c.links.iter().all(|l| l.marks.has(Mark::Mutated))));
    grows_as_told("one request", |n| {
        let told = |i: usize| Told {
            request: Some("r".into()),
            tool: Some("x".into()),
            args: Some(format!("{}", i % 7)),
            outcome: Some(Outcome::StepUp),
            sess: Some(format!("s{}", i % 3)),
            txn: Some("one".into()),
            ..blank(i)
        };
        (0..n).map(told).collect()
    });
}

#[test]
fn an_event_with_thousands_of_actors() {
    let actors = (0..5_000).map(|i| format!("agent{i}")).collect();
    let told = Told { actors, act: true, ..blank(0) };
    let (store, chains) = judged(&[told]);
    let path = &chains[0].paths[0];
    assert_eq!(path.hops.len(), 64);
    assert_eq!((store.text(path.hops[0].id), store.text(path.hops[63].id)), ("alice", "agent4999"));
    let json = json_of(&chains[0], "t", &store);
    assert_eq!(json["calls"][0]["marks"], serde_json::json!(["path_capped"]));
}

#[test]
fn an_event_with_every_key() {
    // A key that is forgotten in the count of the watcher would be a panic here, when all of them tie.
    let mut watcher = Watcher::new("t", Settings::default());
    let actors = [Party { id: "agent", ..Party::default() }];
    for event_id in ["e1", "e2", "e3"] {
        for protocol in [Protocol::Mcp, Protocol::A2a] {
            let text = |what: &'static str| Some(what);
            watcher.feed(&Fact {
                source: "g",
                event_id,
                content: protocol as u128,
                time: Micros(1),
                decision: text("d"),
                record: text("r"),
                parent: text("p"),
                predecessor: text("pp"),
                trace: text("7"),
                span: text("8"),
                parent_span: text("9"),
                state_in: text("i"),
                state_out: text("o"),
                challenge: text("c"),
                task: text("k"),
                txn: text("x"),
                acti: text("y"),
                session: text("s"),
                mcp_session: text("m"),
                issuer: text("iss"),
                subject: text("alice"),
                client: text("cli"),
                token: text("t"),
                actors: &actors,
                protocol,
                server: text("srv"),
                ..Fact::default()
            });
        }
    }
    let changes = watcher.poll();
    assert_eq!((changes.len(), changes[0].chain.links.len()), (1, 6));
}

#[test]
fn an_oversized_chain_is_not_judged_for_every_event() {
    let settings = Settings { events_max: 100, ..Settings::default() };
    let mut watcher = Watcher::new("t", settings.clone());
    watcher.advance(Micros(0));
    let all: Vec<Told> = (0..2_000).map(|i| Told { txn: Some("x".into()), t: 0, ..blank(i) }).collect();
    let (mut judgements, mut oversized) = (0, 0);
    for told in &all {
        told.with(|fact| watcher.feed(&fact));
        for change in watcher.poll() {
            judgements += 1;
            oversized += usize::from(change.oversized);
        }
    }
    // A hundred one by one, then one for every sixteenth more.
    assert!((100..180).contains(&judgements), "{judgements}");
    assert!(oversized > 20 && watcher.postponed() == 1, "{oversized}");
    // At rest it is what a rebuild says.
    watcher.advance(Micros(settings.lateness_us + 1));
    let last = watcher.poll().pop().expect("a change");
    assert_eq!(watcher.postponed(), 0);
    let want = chains(&all, &settings);
    assert_eq!(want.values().next(), Some(&json_of(&last.chain, "t", watcher.store())));
}

#[test]
fn what_was_evicted_leaves_memory() {
    let mut watcher = Watcher::new("t", Settings::default());
    let (mut most, mut rows, mut sleeping) = (0, 0, 0);
    for hour in 0..400 {
        for i in 0..25 {
            let told = Told { txn: Some(format!("x{hour}.{}", i / 5)), t: hour * 60, ..blank(hour as usize * 100 + i) };
            told.with(|fact| watcher.feed(&fact));
        }
        watcher.advance(Micros(hour * 3_600_000_000));
        watcher.poll();
        sleeping += watcher.evict(&watcher.sealed()).len();
        assert!(watcher.wanted().is_empty());
        most = most.max(watcher.len());
        rows = rows.max(watcher.store().len());
    }
    // A day of five chains an hour, and no more dead rows than living ones.
    assert_eq!((most, sleeping), (25 * 5, 375 * 5));
    assert!(rows <= 2 * 26 * 25, "{rows}");
}
