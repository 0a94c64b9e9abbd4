//! Properties of chains over generated event sets, and proof that each of them can fail.
//!
//! Every check takes a seed and says what is wrong. A check runs over [`CASES`] seeds; for every protection that can be
//! switched off (`catena_analysis::fault`), some check must object within a few thousand.

use crate::told::{Dice, Exchange, Told, chains, chains_after, json_of, rich};
use catena_analysis::authority::{self, Book, Touched};
use catena_analysis::chain::rules::layers::{Layer, Layers};
use catena_analysis::chain::rules::ties::{Groups, Tie, Ties};
use catena_analysis::chain::rules::watch::{Change, Published, Watcher};
use catena_analysis::chain::rules::{Settings, Store, Terms, TouchedNames, rebuild, rebuild_some};
use catena_analysis::fault::{self, Fault};
use catena_schemas::authority::{EntryKind, Record};
use catena_schemas::{Micros, Outcome};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CASES: u64 = 10_000;

type Found = BTreeMap<(String, String), Value>;
type Verdict = Result<(), String>;

fn all(set: &[Told]) -> Found {
    chains(set, &Settings::default())
}

fn same(what: &str, a: &Found, b: &Found) -> Verdict {
    if a == b {
        return Ok(());
    }
    let gone: Vec<_> = a.iter().filter(|(k, v)| b.get(*k) != Some(*v)).map(|(_, v)| v.to_string()).collect();
    let new: Vec<_> = b.iter().filter(|(k, v)| a.get(*k) != Some(*v)).map(|(_, v)| v.to_string()).collect();
    Err(format!("{what}:\n  {}\nagainst\n  {}", gone.join("\n  "), new.join("\n  ")))
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

fn set(seed: u64) -> (Dice, Vec<Told>) {
    let mut dice = Dice(seed);
    let n = 1 + dice.below(22);
    let set = rich(&mut dice, n);
    (dice, set)
}

fn doubled(dice: &mut Dice, set: &[Told]) -> Vec<Told> {
    let mut all = set.to_vec();
    for _ in 0..set.len() / 2 {
        all.push(set[dice.below(set.len())].clone());
    }
    dice.shuffle(&mut all);
    all
}

fn events(chain: &Value) -> &[Value] {
    chain["calls"].as_array().map_or(&[], Vec::as_slice)
}

fn key(event: &Value) -> String {
    format!("{}|{}|{}", event["source"], event["event_id"], event["content"])
}

fn members(found: &Found) -> Vec<BTreeSet<String>> {
    found.iter().map(|((t, _), c)| events(c).iter().map(|e| format!("{t}|{}", key(e))).collect()).collect()
}

/// P1, P2: order and repetition change nothing.
fn order_and_repetition(seed: u64) -> Verdict {
    let (mut dice, set) = set(seed);
    let again = doubled(&mut dice, &set);
    same("order or repetition", &all(&set), &all(&again))
}

/// P5: one tenant alone is judged as beside others.
fn tenants(seed: u64) -> Verdict {
    let (_, set) = set(seed);
    let both = all(&set);
    for tenant in ["t0", "t1"] {
        let alone: Vec<Told> = set.iter().filter(|e| e.tenant == tenant).cloned().collect();
        let beside: Found =
            both.iter().filter(|((t, _), _)| t == tenant).map(|(k, v)| (k.clone(), v.clone())).collect();
        same(tenant, &all(&alone), &beside)?;
    }
    Ok(())
}

/// P6, P7: every event once, every chain with events, parents within the chain and without cycles, further ones too.
fn partition_and_forest(seed: u64) -> Verdict {
    let (_, set) = set(seed);
    let mut stores: BTreeMap<&str, Store> = BTreeMap::new();
    for told in &set {
        told.tell(stores.entry(&told.tenant).or_default());
    }
    for (tenant, store) in &mut stores {
        let rows = store.len();
        let chains = rebuild(tenant, store, &[], &Settings::default()).chains;
        ensure(chains.iter().map(|c| c.links.len()).sum::<usize>() == rows, || "not every event once".into())?;
        for chain in &chains {
            ensure(!chain.links.is_empty(), || "a chain without events".into())?;
            let n = chain.links.len();
            let mut below = vec![Vec::new(); n];
            let mut above = vec![0; n];
            let primary = chain.links.iter().enumerate().filter_map(|(c, l)| Some((c, l.parent()?)));
            let further = chain.secondary.iter().map(|s| (s.child as usize, s.parent as usize));
            for (child, parent) in primary.chain(further) {
                below[parent].push(child);
                above[child] += 1;
            }
            // Taking away what has nothing above it takes away everything, unless there is a cycle.
            let mut free: Vec<usize> = (0..n).filter(|i| above[*i] == 0).collect();
            let mut taken = 0;
            while let Some(at) = free.pop() {
                taken += 1;
                for child in &below[at] {
                    above[*child] -= 1;
                    if above[*child] == 0 {
                        free.push(*child);
                    }
                }
            }
            ensure(taken == n, || format!("a cycle in {}", json_of(chain, tenant, store)))?;
            let attempts: u32 = chain.operations.iter().map(|o| o.attempts).sum();
            ensure(attempts as usize == n, || "attempts do not add up".into())?;
            ensure(
                chain.paths.iter().all(|p| p.hops.windows(2).all(|w| w[0].id != w[1].id || w[0].issuer != w[1].issuer)),
                || "neighbours of a path are the same".into(),
            )?;
        }
    }
    Ok(())
}

/// P21: a source changes only chains that hold events of its own.
fn one_source(seed: u64) -> Verdict {
    let (_, set) = set(seed);
    let both = all(&set);
    let without: Vec<Told> = set.iter().filter(|e| e.src != "g1").cloned().collect();
    let alone = all(&without);
    for (place, chain) in &both {
        if events(chain).iter().all(|e| e["source"] != "g1") {
            ensure(alone.get(place) == Some(chain), || format!("g1 changed {chain}"))?;
        }
    }
    Ok(())
}

/// P8: more events only bring chains together.
fn only_together(seed: u64) -> Verdict {
    let (mut dice, mut set) = set(seed);
    dice.shuffle(&mut set);
    let few = members(&all(&set[..set.len() / 2]));
    let many = members(&all(&set));
    for chain in few {
        ensure(many.iter().any(|m| chain.is_subset(m)), || format!("split: {chain:?}"))?;
    }
    Ok(())
}

/// P9: without strong evidence no chain holds two subjects, and nobody is not somebody.
fn weak_evidence(seed: u64) -> Verdict {
    let (_, mut set) = set(seed);
    for told in &mut set {
        (told.did, told.pdid, told.rs_in, told.rs_out, told.txn, told.task) = (None, None, None, None, None, None);
    }
    for chain in members(&all(&set)) {
        let of =
            |e: &Told| chain.contains(&format!("{}|\"{}\"|\"{}\"|\"{:032x}\"", e.tenant, e.src, e.eid, e.content()));
        let inside: Vec<&Told> = set.iter().filter(|e| of(e)).collect();
        let subjects: BTreeSet<_> = inside.iter().map(|e| &e.sub).collect();
        ensure(subjects.len() == 1, || format!("two subjects: {inside:?}"))?;
        let contents: BTreeSet<_> = inside.iter().map(|e| e.content()).collect();
        let is_blank = |e: &&Told| e.sub.is_none() && e.sess.is_none() && e.trace.is_none();
        let blank = inside.iter().filter(|e| is_blank(e)).count();
        ensure(blank == 0 || contents.len() == 1, || format!("nobody was taken for somebody: {inside:?}"))?;
    }
    Ok(())
}

/// Watchers of all tenants, and what they have said so far.
struct Live {
    watchers: BTreeMap<String, Watcher>,
    said: Found,
    aliases: BTreeMap<(String, String), String>,
    ever: BTreeSet<(String, String)>,
    asleep: BTreeMap<(String, String), Published>,
    revisions: BTreeMap<(String, String), u32>,
    facts: BTreeMap<String, Told>,
}

impl Live {
    fn new() -> Live {
        Live {
            watchers: BTreeMap::new(),
            said: BTreeMap::new(),
            aliases: BTreeMap::new(),
            ever: BTreeSet::new(),
            asleep: BTreeMap::new(),
            revisions: BTreeMap::new(),
            facts: BTreeMap::new(),
        }
    }

    fn feed(&mut self, told: &Told) {
        let place = format!("{}|\"{}\"|\"{}\"|\"{:032x}\"", told.tenant, told.src, told.eid, told.content());
        self.facts.insert(place, told.clone());
        let watcher =
            self.watchers.entry(told.tenant.clone()).or_insert_with(|| Watcher::new(&told.tenant, Settings::default()));
        told.with(|fact| watcher.feed(&fact));
    }

    /// Recalls what is wanted, and hears what changed.
    fn poll(&mut self) -> Verdict {
        for tenant in self.watchers.keys().cloned().collect::<Vec<_>>() {
            loop {
                let watcher = self.watchers.get_mut(&tenant).expect("a watcher");
                let Some(id) = watcher.wanted().into_iter().next().map(str::to_owned) else { break };
                let place = (tenant.clone(), id);
                let published = self.asleep.remove(&place).ok_or("an unknown chain is wanted")?;
                let facts: Vec<&Told> =
                    events(&self.said[&place]).iter().map(|e| &self.facts[&format!("{tenant}|{}", key(e))]).collect();
                let actors: Vec<_> = facts.iter().map(|told| told.parties()).collect();
                watcher.recall(published, facts.iter().zip(&actors).map(|(told, actors)| told.fact(actors)));
            }
            let changes = self.watchers.get_mut(&tenant).expect("a watcher").poll();
            for change in changes {
                self.hear(&tenant, change)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, tenant: &str, change: Change) -> Verdict {
        let place = |id: &str| (tenant.to_owned(), id.to_owned());
        let id = change.published.id.clone();
        ensure(!self.aliases.contains_key(&place(&id)), || format!("{id} was given up, and came back"))?;
        for old in &change.aliases {
            self.said.remove(&place(old));
            self.aliases.insert(place(old), id.clone());
        }
        let store = self.watchers[tenant].store();
        let revision = self.revisions.entry(place(&id)).or_default();
        ensure(change.published.revision >= *revision, || format!("revision of {id} went back"))?;
        *revision = change.published.revision;
        self.ever.insert(place(&id));
        self.said.insert(place(&id), json_of(&change.chain, tenant, store));
        Ok(())
    }

    /// Evicts some chains.
    fn evict(&mut self, dice: &mut Dice) {
        let ids: Vec<(String, String)> = self.said.keys().filter(|_| dice.chance(60)).cloned().collect();
        for (tenant, watcher) in &mut self.watchers {
            let own: Vec<String> = ids.iter().filter(|(t, _)| t == tenant).map(|(_, id)| id.clone()).collect();
            for published in watcher.evict(&own) {
                self.asleep.insert((tenant.clone(), published.id.clone()), published);
            }
        }
    }

    /// P19: every id ever said leads to a chain.
    fn ids_resolve(&self) -> Verdict {
        for (tenant, id) in &self.ever {
            let (mut at, mut steps) = (id.clone(), 0);
            while let Some(next) = self.aliases.get(&(tenant.clone(), at.clone())) {
                at = next.clone();
                steps += 1;
                ensure(steps <= self.ever.len(), || "aliases lead in a ring".into())?;
            }
            ensure(self.said.contains_key(&(tenant.clone(), at.clone())), || format!("{id} leads nowhere"))?;
        }
        Ok(())
    }
}

/// P3, P19: after every event the watcher says what a rebuild says.
fn incremental(seed: u64) -> Verdict {
    let (mut dice, mut set) = set(seed);
    set.truncate(10);
    let stream = doubled(&mut dice, &set);
    let mut live = Live::new();
    for (i, told) in stream.iter().enumerate() {
        live.feed(told);
        live.poll()?;
        same(&format!("after {} events", i + 1), &all(&stream[..=i]), &live.said)?;
    }
    live.ids_resolve()
}

/// P4: a watcher that takes in another's events, of any split and overlap, says what a rebuild says.
fn shards(seed: u64) -> Verdict {
    let (mut dice, set) = set(seed);
    let (cut, overlap) = (dice.below(set.len() + 1), dice.below(4));
    let mut live = Live::new();
    for told in &set[..cut] {
        live.feed(told);
    }
    live.poll()?;
    for told in set[cut.saturating_sub(overlap)..].iter().rev() {
        live.feed(told);
    }
    live.poll()?;
    same("two shards", &all(&set), &live.said)?;
    live.ids_resolve()
}

/// P10: evicted and recalled at any moment, chains are those that were never evicted.
fn eviction(seed: u64) -> Verdict {
    let (mut dice, set) = set(seed);
    let stream = doubled(&mut dice, &set);
    let mut live = Live::new();
    for told in &stream {
        live.feed(told);
        if dice.chance(60) {
            live.poll()?;
        }
        if dice.chance(40) {
            live.poll()?;
            live.evict(&mut dice);
        }
    }
    live.poll()?;
    same("eviction", &all(&set), &live.said)?;
    live.ids_resolve()
}

/// P17: an event that refers to its parent in a second way is no worse known, unless the two contradict.
fn stronger_is_not_worse(seed: u64) -> Verdict {
    let (_, mut set) = set(seed);
    let edge = |found: &Found, told: &Told| -> Option<(Value, Value, f64)> {
        let place = format!("\"{}\"|\"{}\"|", told.src, told.eid);
        let event = found.values().flat_map(events).find(|e| key(e).starts_with(&place) && e["tool"] == "marked")?;
        Some((event["parent_event"].clone(), event["parent_tier"].clone(), event["confidence"].as_f64()?))
    };
    // The same event twice over: once with one reference, once with a further one to the same parent.
    let Some(parent) = set.iter().find(|e| e.did.is_some() && e.rs_out.is_some()).cloned() else { return Ok(()) };
    let child = Told {
        tenant: parent.tenant.clone(),
        src: "gx".into(),
        eid: "marked".into(),
        t: 500,
        tool: Some("marked".into()),
        rs_in: parent.rs_out.clone(),
        sub: parent.sub.clone(),
        client: parent.client.clone(),
        ..Told::default()
    };
    set.push(child.clone());
    let one = edge(&all(&set), &child);
    let richer = Told { pdid: parent.did.clone(), ..child.clone() };
    let last = set.len() - 1;
    set[last] = richer.clone();
    let two = edge(&all(&set), &richer);
    let (Some(one), Some(two)) = (one, two) else { return Ok(()) };
    if one.0 == two.0 {
        ensure(two.1.as_str() <= one.1.as_str(), || format!("tier {one:?} became {two:?}"))?;
        ensure(two.2 >= one.2, || format!("confidence {one:?} became {two:?}"))?;
        // C2 and C3 are both the gateway's word: one witness.
        ensure(two.2 <= 0.97, || format!("one witness counted twice: {two:?}"))?;
    }
    Ok(())
}

/// P18: what is folded counts once: as many operations as calls, however often each was tried.
fn folding(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let (mut set, mut calls) = (Vec::new(), 0);
    for call in 0..1 + dice.below(5) {
        calls += 1;
        let attempts = 1 + dice.below(4);
        for attempt in 0..attempts {
            set.push(Told {
                tenant: "t0".into(),
                src: "g".into(),
                eid: format!("e{call}.{attempt}"),
                t: (call * 10 + attempt) as i64,
                sub: Some("alice".into()),
                client: Some("cli".into()),
                tool: Some("x".into()),
                sess: Some("s".into()),
                rs_in: (attempt > 0).then(|| format!("q{call}.{attempt}")),
                rs_out: Some(format!("q{call}.{}", attempt + 1)),
                ..Told::default()
            });
        }
    }
    dice.shuffle(&mut set);
    let operations: usize = all(&set).values().map(|c| c["logical_calls"].as_array().map_or(0, Vec::len)).sum();
    ensure(operations == calls, || format!("{operations} operations of {calls} calls"))?;
    // Somebody else who echoes the state makes a call of their own.
    let Some(last) = set.iter().find(|e| e.rs_out.is_some()).cloned() else { return Ok(()) };
    set.push(Told {
        eid: "thief".into(),
        sub: Some("mallory".into()),
        rs_in: last.rs_out.clone(),
        rs_out: None,
        t: 90,
        ..last
    });
    let operations: usize = all(&set).values().map(|c| c["logical_calls"].as_array().map_or(0, Vec::len)).sum();
    ensure(operations == calls + 1, || "another's attempt was folded".into())
}

/// P18: a call that took several attempts counts as it would, had it gone through at once.
fn attempts_count_once(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let calls = 1 + dice.below(6);
    let attempts: Vec<usize> = (0..calls).map(|_| 1 + dice.below(4)).collect();
    let led_by: Vec<Option<usize>> = (0..calls).map(|c| (c > 0 && dice.chance(70)).then(|| dice.below(c))).collect();
    let (mut once, mut split) = (Vec::new(), Vec::new());
    for call in 0..calls {
        let one = Told {
            tenant: "t0".into(),
            src: "g".into(),
            eid: format!("e{call}.0"),
            did: Some(format!("d{call}.0")),
            pdid: led_by[call].map(|p| format!("d{p}.0")),
            t: call as i64 * 10,
            sub: Some("alice".into()),
            client: Some("cli".into()),
            tool: Some(format!("x{}", call % 3)),
            args: Some("a".into()),
            sess: Some("s".into()),
            outcome: Some(Outcome::Allow),
            ..Told::default()
        };
        let n = attempts[call];
        for attempt in 0..n {
            let mut told = Told {
                eid: format!("e{call}.{attempt}"),
                did: Some(format!("d{call}.{attempt}")),
                t: one.t + attempt as i64,
                rs_in: (attempt > 0).then(|| format!("q{call}.{attempt}")),
                rs_out: (attempt + 1 < n).then(|| format!("q{call}.{}", attempt + 1)),
                ..one.clone()
            };
            if attempt + 1 < n {
                told.outcome = Some(if dice.chance(50) { Outcome::StepUp } else { Outcome::Deny });
            }
            // Children, and later attempts, may name any attempt that led to them.
            told.pdid = led_by[call]
                .filter(|_| attempt == 0 || dice.chance(50))
                .map(|p| format!("d{p}.{}", dice.below(attempts[p])));
            split.push(told);
        }
        once.push(one);
    }
    dice.shuffle(&mut split);
    let counts = |set: &[Told]| -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for chain in all_of(set) {
            all.insert(format!("{} {}", chain["depth"], chain["fanout"]));
            for operation in chain["logical_calls"].as_array().into_iter().flatten() {
                let mut operation = operation.clone();
                operation["attempts"] = Value::Null;
                all.insert(operation.to_string());
            }
        }
        all
    };
    let (a, b) = (counts(&once), counts(&split));
    ensure(a == b, || format!("at once {a:?}\nin attempts {b:?}"))
}

fn all_of(set: &[Told]) -> Vec<Value> {
    all(set).into_values().collect()
}

/// P14, the part of it that is here: neighbours of a path that are the same stand once, and once is enough.
fn neighbours_collapse(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let actors: Vec<String> = (0..dice.below(8)).map(|_| format!("agent{}", dice.below(3))).collect();
    let mut collapsed = actors.clone();
    collapsed.dedup();
    let path = |actors: &[String], act: bool| -> Vec<String> {
        let told = Told {
            tenant: "t".into(),
            src: "g".into(),
            eid: "e".into(),
            sub: Some("alice".into()),
            actors: actors.to_vec(),
            act,
            ..Told::default()
        };
        let chain = all_of(&[told]).remove(0);
        let hops = events(&chain)[0]["path"].as_array().cloned().unwrap_or_default();
        hops.iter().filter_map(|h| h["id"].as_str()).map(str::to_owned).collect()
    };
    let act = dice.chance(50);
    let (one, two) = (path(&actors, act), path(&collapsed, act));
    ensure(one == two, || format!("{actors:?} is {one:?}, collapsed {two:?}"))?;
    ensure(one.len() == 1 + collapsed.len() && one[1..] == collapsed[..], || format!("{actors:?} is {one:?}"))
}

/// The chains of one tenant's events: id, digest, JSON.
fn digests(tenant: &str, set: &[Told]) -> BTreeMap<String, (u128, Value)> {
    let mut store = Store::default();
    for told in set {
        told.tell(&mut store);
    }
    let chains = rebuild(tenant, &mut store, &[], &Settings::default()).chains;
    let said = |c: &catena_analysis::chain::rules::Chain| (c.fingerprint(tenant, &store), json_of(c, tenant, &store));
    chains.iter().map(|c| (c.id.clone(), said(c))).collect()
}

/// Digests of chains are equal where the chains are, whatever the store, and only there.
fn digests_follow_chains(seed: u64) -> Verdict {
    let (mut dice, set) = set(seed);
    let mut other = doubled(&mut dice, &set);
    if dice.chance(70) {
        let at = dice.below(other.len());
        match dice.below(3) {
            0 => drop(other.remove(at)),
            1 => other[at].t += 1,
            _ => other.push(Told { eid: "more".into(), ..other[at].clone() }),
        }
    }
    let (a, b) = (digests("t", &set), digests("t", &other));
    for (id, (digest, json)) in &a {
        if let Some((other_digest, other_json)) = b.get(id) {
            ensure((digest == other_digest) == (json == other_json), || format!("{json}\nagainst\n{other_json}"))?;
        }
    }
    Ok(())
}

/// P20: what is equal in two tenants has no id and no digest in common.
fn tenants_share_no_digest(seed: u64) -> Verdict {
    let (_, set) = set(seed);
    let (a, b) = (digests("a", &set), digests("b", &set));
    ensure(a.len() == b.len(), || "tenants change chains".into())?;
    ensure(a.keys().all(|id| !b.contains_key(id)), || "an id in two tenants".into())?;
    let digests: BTreeSet<u128> = a.values().chain(b.values()).map(|(digest, _)| *digest).collect();
    ensure(digests.len() == a.len() + b.len(), || "a digest in two tenants".into())
}

/// P3, P10, where tokens are exchanged: events and exchanges in any order, chains evicted between them.
fn exchanges_any_time(seed: u64) -> Verdict {
    let (mut dice, mut set) = set(seed);
    for told in &mut set {
        told.tenant = "t".into();
        told.token = dice.chance(70).then(|| format!("k{}", dice.below(5)));
        told.act &= dice.chance(30);
    }
    let exchanges: Vec<Exchange> = (0..dice.below(5))
        .map(|_| {
            let actor = dice.chance(60).then(|| format!("k{}", dice.below(5)));
            (format!("k{}", dice.below(5)), format!("k{}", dice.below(5)), actor)
        })
        .collect();
    let mut live = Live::new();
    let mut left: Vec<usize> = (0..set.len() + exchanges.len()).collect();
    dice.shuffle(&mut left);
    for at in left {
        match set.get(at) {
            Some(told) => live.feed(told),
            None => {
                let (issued, subject, actor) = &exchanges[at - set.len()];
                let new = || Watcher::new("t", Settings::default());
                let watcher = live.watchers.entry("t".into()).or_insert_with(new);
                watcher.exchange(issued, subject, actor.as_deref());
            }
        }
        if dice.chance(50) {
            live.poll()?;
            live.evict(&mut dice);
        }
    }
    live.poll()?;
    same("exchanges", &chains_after(&set, &exchanges, &Settings::default()), &live.said)?;
    live.ids_resolve()
}

/// An id with two contents is marked, on both.
fn mutation_shows(seed: u64) -> Verdict {
    let (_, set) = set(seed);
    let mut contents: BTreeMap<_, BTreeSet<u128>> = BTreeMap::new();
    for told in &set {
        contents.entry((&told.tenant, &told.src, &told.eid)).or_default().insert(told.content());
    }
    let want: usize = contents.values().filter(|c| c.len() > 1).map(BTreeSet::len).sum();
    let found = all(&set);
    let is_marked = |e: &&Value| e["marks"].as_array().is_some_and(|m| m.iter().any(|m| m == "record_mutated"));
    let got = found.values().flat_map(events).filter(is_marked).count();
    ensure(want == got, || format!("{got} marked, {want} changed"))
}

/// Chains judged some at a time are the chains judged all at once, however they are told apart. What a name means is found
/// among the names of the events that it was told apart by.
fn some_at_a_time(seed: u64) -> Verdict {
    let (mut dice, mut set) = set(seed);
    let token = |dice: &mut Dice| format!("tok{}", dice.below(4));
    set.iter_mut().for_each(|told| told.token = dice.chance(60).then(|| token(&mut dice)));
    let exchanges: Vec<Exchange> = (0..dice.below(4))
        .map(|_| (token(&mut dice), token(&mut dice), dice.chance(50).then(|| token(&mut dice))))
        .collect();
    let set = doubled(&mut dice, &set);
    let settings = Settings::default();
    let mut found = Found::new();
    for tenant in ["t0", "t1"] {
        let facts: Vec<&Told> = set.iter().filter(|told| told.tenant == tenant).collect();
        let (mut ties, mut groups) = (Ties::new(settings.clone(), &exchanges), Groups::new(facts.len()));
        let mut first: BTreeMap<u64, u32> = BTreeMap::new();
        let mut near: Vec<(u64, i64, u32, i64)> = Vec::new();
        for (i, told) in facts.iter().enumerate() {
            told.with(|fact| ties.tell(&fact));
            ties.ask(|_, tie| match tie {
                Tie::Key(key) => groups.join(*first.entry(key).or_insert(i as u32), i as u32),
                Tie::Near { key, time_us, gap_us } => near.push((key, time_us, i as u32, gap_us)),
                Tie::Name(_) => {}
            });
            if dice.chance(30) {
                ties.forget();
            }
        }
        near.sort_unstable();
        for pair in near.windows(2).filter(|w| w[0].0 == w[1].0 && w[1].1 - w[0].1 <= w[1].3) {
            groups.join(pair[0].2, pair[1].2);
        }
        let (_, witnesses) = ties.finish();
        let parts = 1 + dice.below(4) as u32;
        for part in 0..parts {
            let mut store = Store::default();
            for (i, told) in facts.iter().enumerate() {
                if groups.of(i as u32) % parts == part {
                    told.tell(&mut store);
                }
            }
            for chain in rebuild_some(tenant, &mut store, &exchanges, &witnesses, &settings).chains {
                let json = json_of(&chain, tenant, &store);
                let mut alone = store.only([&chain]);
                let again = rebuild_some(tenant, &mut alone, &exchanges, &witnesses, &settings).chains;
                ensure(again.len() == 1 && json_of(&again[0], tenant, &alone) == json, || {
                    format!("alone, not {json}")
                })?;
                let before = found.insert((tenant.to_owned(), chain.id.clone()), json);
                ensure(before.is_none(), || format!("{} stands in two parts", chain.id))?;
            }
        }
    }
    same("some at a time", &chains_after(&set, &exchanges, &settings), &found)
}

/// Facts and exchanges that come some at a time, each time laid over what was there: chains that lie open are those of a
/// rebuild, after every time; and whoever kept what was there before still has it.
fn layers(seed: u64) -> Verdict {
    let (mut dice, mut set) = set(seed);
    let token = |dice: &mut Dice| format!("tok{}", dice.below(5));
    for told in &mut set {
        told.tenant = "t".into();
        told.token = dice.chance(60).then(|| token(&mut dice));
    }
    let mut exchanges: Vec<Exchange> = (0..dice.below(5))
        .map(|_| (token(&mut dice), token(&mut dice), dice.chance(50).then(|| token(&mut dice))))
        .collect();
    exchanges.sort();
    exchanges.dedup();
    dice.shuffle(&mut exchanges);
    let set = doubled(&mut dice, &set);
    let settings = Settings::default();
    let open = |layers: &Layers| {
        let mut found = Found::new();
        for laid in layers.all() {
            let Layer { store, chains, .. } = laid.layer();
            for chain in laid.places().map(|at| &chains[at]) {
                let before = found.insert(("t".into(), chain.id.clone()), json_of(chain, "t", store));
                ensure(before.is_none(), || format!("{} lies open twice", chain.id))?;
            }
        }
        Ok::<_, String>(found)
    };
    let mut told = 1 + dice.below(set.len());
    let mut exchanged = dice.below(exchanges.len() + 1);
    let store = |told: &[Told]| {
        let mut store = Store::default();
        told.iter().for_each(|told| _ = told.tell(&mut store));
        store
    };
    let book = |exchanges: &[Exchange]| {
        let mut book = Book::default();
        for (issued, subject, actor) in exchanges {
            let (issued, subject, actor) = (issued.clone(), subject.clone(), actor.clone());
            book.exchange(authority::Exchange { issued, subject, actor, ..authority::Exchange::default() });
        }
        book
    };
    let mut layers = Layers::ground(&"t".into(), store(&set[..told]), &book(&exchanges[..exchanged]), &settings);
    let mut kept = Vec::new();
    loop {
        let found = open(&layers)?;
        same("layers", &chains_after(&set[..told], &exchanges[..exchanged], &settings), &found)?;
        kept.push((layers.clone(), found));
        if (told, exchanged) == (set.len(), exchanges.len()) {
            break;
        }
        let (more, swaps) = (dice.below(set.len() - told + 1), dice.below(exchanges.len() - exchanged + 1));
        let new = &exchanges[exchanged..exchanged + swaps];
        layers = layers.over(store(&set[told..told + more]), &book(&exchanges[..exchanged + swaps]), new);
        (told, exchanged) = (told + more, exchanged + swaps);
    }
    kept.iter().try_for_each(|(layers, found)| same("what was there before", found, &open(layers)?))
}

/// Calls by tokens and grants, all of one tenant, and records that say what some of them allow.
fn authorized(seed: u64) -> (Dice, Vec<Told>, Vec<Record>) {
    let (mut dice, mut set) = set(seed);
    let mut one = |of: &str, n: usize| format!("{of}{}", dice.below(n));
    for told in &mut set {
        told.tenant = "t".into();
        told.token = Some(one("tok", 4));
        told.grant = Some(one("g", 4));
    }
    let record = |_| {
        let (user, agent, other) = (one("u", 3), one("agent", 3), one("agent", 3));
        let (grant, parent) = (one("g", 4), one("g", 4));
        let (issued, subject) = (one("tok", 4), one("tok", 4));
        let scope = one("s", 3);
        let (kind, body) = match one("", 5).as_str() {
            "0" => (EntryKind::Grant, json!({"grant_id": grant, "grantor": user, "grantee": agent, "scope": [scope]})),
            "1" => {
                let terms = json!({"grant_id": grant, "grantor": other, "grantee": agent, "scope": [scope], "parent_grant": parent});
                (EntryKind::Grant, terms)
            }
            "2" => {
                let terms = json!({"reauth_id": "r", "by": agent, "approver": user, "at": 0, "scope": ["s0", "s1"], "use": "standing"});
                (EntryKind::Reauth, terms)
            }
            "3" => (EntryKind::Lifecycle, json!({"event": "revoked", "subject_kind": "grant", "subject": grant})),
            _ => {
                let swap = json!({"issued_token_ref": issued, "subject_token_ref": subject, "scope_in": ["s0"], "scope_out": [scope]});
                (EntryKind::Exchange, swap)
            }
        };
        kind.record("x", Micros(0), &body.to_string()).expect("a record")
    };
    let records = (0..6).map(record).collect();
    (dice, set, records)
}

/// P11, of the findings that there are: what widened, and at which hop, is a function of the set of events and of the set of
/// records, and names events by what they are.
fn widenings_are_a_function_of_the_set(seed: u64) -> Verdict {
    let (mut dice, set, records) = authorized(seed);
    let widened = |set: &[Told], records: &[Record]| {
        let (mut store, mut terms) = (Store::default(), Terms::default());
        set.iter().for_each(|told| _ = told.tell(&mut store));
        records.iter().for_each(|record| terms.book.enter(record));
        let exchanged = terms.book.exchanged();
        let mut found = BTreeSet::new();
        for chain in rebuild("t", &mut store, &exchanged, &Settings::default()).chains {
            let bounds = chain.all_bounds(&store, &terms);
            for (event, bound) in events(&json_of(&chain, "t", &store)).iter().zip(&bounds) {
                found.extend(bound.widened_at().map(|at| (chain.id.clone(), key(event), at)));
            }
        }
        found
    };
    let mut again = records.clone();
    again.extend(records.iter().filter(|_| dice.chance(50)).cloned());
    dice.shuffle(&mut again);
    let (a, b) = (widened(&set, &records), widened(&doubled(&mut dice, &set), &again));
    ensure(a == b, || format!("{a:?}\nagainst\n{b:?}"))
}

/// A record of authority changes what calls were allowed in chains that rest on it, and in no other.
fn records_touch_what_rests_on_them(seed: u64) -> Verdict {
    let (_, set, some) = authorized(seed);
    let mut store = Store::default();
    set.iter().for_each(|told| _ = told.tell(&mut store));
    let chains = rebuild("t", &mut store, &[], &Settings::default()).chains;
    let mut terms = Terms::default();
    for record in &some {
        let before: Vec<_> = chains.iter().map(|chain| chain.all_bounds(&store, &terms)).collect();
        terms.book.enter(record);
        let mut touched = Touched::default();
        terms.book.touch(record, &mut touched);
        let touched = TouchedNames::of(&store, &touched);
        for (chain, before) in chains.iter().zip(before) {
            let after = chain.all_bounds(&store, &terms);
            ensure(chain.rests_on(&store, &touched) || before == after, || format!("{record:?} changed {}", chain.id))?;
        }
    }
    Ok(())
}

type Check = fn(u64) -> Verdict;

fn run(name: &str, check: Check, cases: u64) {
    for seed in 0..cases {
        if let Err(what) = check(seed) {
            panic!("{name}, seed {seed}: {what}");
        }
    }
}

macro_rules! properties {
    ($($name:ident),+ $(,)?) => {
        /// Every check, by name.
        const CHECKS: &[(&str, Check)] = &[$((stringify!($name), $name)),+];
        mod hold {
            $(#[test] fn $name() { super::run(stringify!($name), super::$name, super::CASES) })+
        }
    };
}

properties![
    order_and_repetition,
    tenants,
    one_source,
    partition_and_forest,
    only_together,
    weak_evidence,
    incremental,
    shards,
    eviction,
    stronger_is_not_worse,
    folding,
    attempts_count_once,
    neighbours_collapse,
    mutation_shows,
    digests_follow_chains,
    tenants_share_no_digest,
    exchanges_any_time,
    some_at_a_time,
    layers,
    records_touch_what_rests_on_them,
    widenings_are_a_function_of_the_set,
];

/// Whether a check objects while a rule is broken. A panic is an objection too.
fn objects(fault: Fault, name: &str, cases: u64) -> bool {
    let check = CHECKS.iter().find(|(n, _)| *n == name).expect("a check of that name").1;
    (0..cases).any(|seed| !matches!(std::panic::catch_unwind(|| fault::with(fault, || check(seed))), Ok(Ok(()))))
}

#[test]
fn every_broken_rule_is_noticed() {
    for (fault, check) in [
        (Fault::OneWinnerPerId, "only_together"),
        (Fault::NeighboursApart, "some_at_a_time"),
        (Fault::WitnessesForgotten, "some_at_a_time"),
        (Fault::CoveredForgotten, "layers"),
        (Fault::BearersForgotten, "layers"),
        (Fault::DerivedForgotten, "records_touch_what_rests_on_them"),
        (Fault::LastExchangeWins, "widenings_are_a_function_of_the_set"),
        (Fault::LastWins, "order_and_repetition"),
        (Fault::NearUntilResolved, "only_together"),
        (Fault::SessionWithoutSubject, "weak_evidence"),
        (Fault::TraceWithoutSubject, "weak_evidence"),
        (Fault::SpanWithoutSubject, "weak_evidence"),
        (Fault::OrderOfArrival, "order_and_repetition"),
        (Fault::NobodyIsSomebody, "weak_evidence"),
        (Fault::SecondChoice, "partition_and_forest"),
        (Fault::JoinsUnchecked, "partition_and_forest"),
        (Fault::FoldAcrossCallers, "folding"),
        (Fault::WitnessesAdd, "stronger_is_not_worse"),
        (Fault::OnlyTheEventBefore, "incremental"),
        (Fault::AliasesForgotten, "incremental"),
        (Fault::SleepersForgotten, "eviction"),
        (Fault::MutationUnmarked, "mutation_shows"),
    ] {
        assert!(objects(fault, check, 4_000), "nobody noticed {fault:?}; {check} should");
    }
}

/// One store for all tenants is what keeps them apart: told together, they meet.
#[test]
fn without_a_store_of_its_own_a_tenant_meets_others() {
    let mixed = (0..200).any(|seed| {
        let (_, mut set) = set(seed);
        let tenants: BTreeMap<u128, BTreeSet<String>> = set.iter().fold(BTreeMap::new(), |mut m, e| {
            m.entry(e.content()).or_default().insert(e.tenant.clone());
            m
        });
        for told in &mut set {
            told.tenant = "all".into();
        }
        all(&set).values().any(|c| {
            let of = |e: &Value| {
                let content = u128::from_str_radix(e["content"].as_str().unwrap_or_default(), 16).unwrap_or(0);
                tenants.get(&content).cloned().unwrap_or_default()
            };
            events(c).iter().flat_map(of).collect::<BTreeSet<_>>().len() > 1
        })
    });
    assert!(mixed);
}

#[test]
fn states_follow_the_watermark() {
    let told = Told {
        tenant: "t".into(),
        src: "g".into(),
        eid: "a".into(),
        t: 0,
        sub: Some("alice".into()),
        ..Told::default()
    };
    let mut watcher = Watcher::new("t", Settings::default());
    told.with(|f| watcher.feed(&f));
    let says = |watcher: &mut Watcher, minute: i64| {
        watcher.advance(Micros(minute * 60_000_000));
        watcher
            .poll()
            .iter()
            .map(|c| format!("{} {}", c.published.state.as_str(), c.published.revision))
            .collect::<Vec<_>>()
    };
    assert_eq!(says(&mut watcher, 0), ["open 1"]);
    assert_eq!(says(&mut watcher, 15), Vec::<String>::new());
    assert_eq!(says(&mut watcher, 16), ["settled 1"]);
    assert_eq!(says(&mut watcher, 24 * 60 + 1), ["sealed 1"]);
    // A watermark never goes back.
    assert_eq!(says(&mut watcher, 3), Vec::<String>::new());
    // Late, and never dropped: a revision more, and settled at once.
    let late = Told { eid: "b".into(), ..told };
    late.with(|f| watcher.feed(&f));
    assert_eq!(says(&mut watcher, 3), ["sealed 2"]);
    assert_eq!(watcher.sealed().len(), 1);
}
