//! From calls to chains.

use super::{Call, Chain, Is, Node};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// What ties calls together. The tenant is part of every key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key<'a> {
    Session(&'a str),
    Trace(&'a str),
    Event(&'a str),
}

/// Builds all chains of some calls, sorted by tenant, start and id.
pub fn build(calls: impl IntoIterator<Item = Call>) -> Vec<Chain> {
    let mut calls: Vec<Call> = calls.into_iter().collect();
    // Sorted and each once: from here on nothing depends on how they came.
    calls.sort_unstable();
    calls.dedup();
    let mut chains: Vec<Chain> = group(&calls)
        .into_iter()
        .map(|members| chain(members.into_iter().map(|m| calls[m].clone()).collect()))
        .collect();
    chains.sort_by(|a, b| (&a.tenant, a.started(), &a.id).cmp(&(&b.tenant, b.started(), &b.id)));
    chains
}

/// Places of calls that share a key, directly or through others. A missing parent is a key too, so that two orphans of
/// the same decision stand together.
fn group(calls: &[Call]) -> Vec<Vec<usize>> {
    let mut sets = Sets::new(calls.len());
    let mut first: HashMap<(&str, Key<'_>), usize> = HashMap::new();
    for (at, call) in calls.iter().enumerate() {
        let keys = [
            call.session.as_deref().map(Key::Session),
            call.trace.as_deref().map(Key::Trace),
            Some(Key::Event(&call.event_id)),
            call.parent_decision.as_deref().map(Key::Event),
        ];
        for key in keys.into_iter().flatten() {
            let with = *first.entry((&call.tenant, key)).or_insert(at);
            sets.join(at, with);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for at in 0..calls.len() {
        groups.entry(sets.find(at)).or_default().push(at);
    }
    groups.into_values().collect()
}

/// Union-find: the smallest member stands for its set.
struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Sets {
        Sets((0..n).collect())
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        let (low, high) = (a.min(b), a.max(b));
        self.0[high] = low;
    }
}

/// One chain from its calls, which are sorted.
fn chain(calls: Vec<Call>) -> Chain {
    let mut at_id: HashMap<&str, usize> = HashMap::new();
    for (at, call) in calls.iter().enumerate() {
        at_id.entry(&call.event_id).or_insert(at);
    }
    let named: Vec<Option<Option<usize>>> =
        calls.iter().map(|c| c.parent_decision.as_deref().map(|id| at_id.get(id).copied())).collect();
    let orphans: Vec<usize> = (0..calls.len()).filter(|at| named[*at] == Some(None)).collect();
    let mut parents: Vec<Option<usize>> = named.into_iter().map(Option::flatten).collect();
    let cut = cut_rings(&mut parents);
    let tree = tree(&calls, &parents, &orphans);
    let (tenant, id) = (calls[0].tenant.clone(), chain_id(&calls));
    Chain { tenant, id, calls, parents, orphans, cut, tree }
}

/// Cuts every ring of parents at its earliest call, and names those calls.
fn cut_rings(parents: &mut [Option<usize>]) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Never,
        Now(usize),
        Before,
    }
    let mut seen = vec![Seen::Never; parents.len()];
    let mut cut = Vec::new();
    for start in 0..parents.len() {
        let mut walk = Vec::new();
        let mut at = Some(start);
        while let Some(call) = at {
            match seen[call] {
                Seen::Before => break,
                Seen::Now(since) => {
                    // Calls are in order of time, so the smallest place is the earliest call.
                    let earliest = walk[since..].iter().copied().min().unwrap_or(call);
                    parents[earliest] = None;
                    cut.push(earliest);
                    break;
                }
                Seen::Never => {
                    seen[call] = Seen::Now(walk.len());
                    walk.push(call);
                    at = parents[call];
                }
            }
        }
        for call in walk {
            seen[call] = Seen::Before;
        }
    }
    cut.sort_unstable();
    cut
}

/// Puts every call below its parent, or below its path.
fn tree(calls: &[Call], parents: &[Option<usize>], orphans: &[usize]) -> Vec<Node> {
    let mut nodes = vec![Node { is: Is::Top, children: Vec::new(), calls: 0 }];
    let mut node_of: Vec<Option<usize>> = vec![None; calls.len()];
    let mut party_below: HashMap<(usize, Option<&str>), usize> = HashMap::new();
    let mut missing: HashMap<&str, usize> = HashMap::new();
    fn add(nodes: &mut Vec<Node>, below: usize, is: Is) -> usize {
        nodes.push(Node { is, children: Vec::new(), calls: 0 });
        let new = nodes.len() - 1;
        nodes[below].children.push(new);
        new
    }
    // Parents come before their children, whatever the clocks say; among the others the order of time stands.
    for at in parents_first(parents) {
        let call = &calls[at];
        let parties = call.parties();
        let (mut below, skip) = match parents[at] {
            Some(parent) => {
                let known = calls[parent].parties();
                let shared = known.iter().zip(&parties).take_while(|(a, b)| a == b).count();
                (node_of[parent].expect("parents come first"), shared)
            }
            None if orphans.binary_search(&at).is_ok() => {
                let id = call.parent_decision.as_deref().unwrap_or_default();
                let ghost = *missing.entry(id).or_insert_with(|| add(&mut nodes, 0, Is::Missing(id.to_owned())));
                (ghost, 0)
            }
            None => (0, 0),
        };
        for party in parties.into_iter().skip(skip) {
            below = *party_below
                .entry((below, party))
                .or_insert_with(|| add(&mut nodes, below, Is::Party(party.map(str::to_owned))));
        }
        node_of[at] = Some(add(&mut nodes, below, Is::Call(at)));
    }
    sort_and_count(&mut nodes);
    nodes
}

/// Places of calls such that no call stands before its parent.
fn parents_first(parents: &[Option<usize>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(parents.len());
    let mut placed = vec![false; parents.len()];
    for start in 0..parents.len() {
        let mut walk = Vec::new();
        let mut at = Some(start);
        while let Some(call) = at.filter(|c| !placed[*c]) {
            placed[call] = true;
            walk.push(call);
            at = parents[call];
        }
        order.extend(walk.into_iter().rev());
    }
    order
}

/// Orders children by their earliest call, and counts calls. Children stand behind their parents in `nodes`.
fn sort_and_count(nodes: &mut [Node]) {
    let mut earliest = vec![usize::MAX; nodes.len()];
    for at in (0..nodes.len()).rev() {
        let mut children = std::mem::take(&mut nodes[at].children);
        children.sort_by_key(|c| (earliest[*c], *c));
        let own = match nodes[at].is {
            Is::Call(call) => Some(call),
            _ => None,
        };
        // A call stands where it was made, even if a clock puts one below it earlier.
        earliest[at] = own.unwrap_or_else(|| children.first().map_or(usize::MAX, |c| earliest[*c]));
        nodes[at].calls = usize::from(own.is_some()) + children.iter().map(|c| nodes[*c].calls).sum::<usize>();
        nodes[at].children = children;
    }
}

/// `c-` and twelve hex digits over the tenant and the smallest session, or trace, or event id.
fn chain_id(calls: &[Call]) -> String {
    let session = calls.iter().filter_map(|c| c.session.as_deref()).min();
    let trace = calls.iter().filter_map(|c| c.trace.as_deref()).min();
    let event = calls.iter().map(|c| c.event_id.as_str()).min();
    let (kind, key) = match (session, trace, event) {
        (Some(session), ..) => ("session", session),
        (None, Some(trace), _) => ("trace", trace),
        (None, None, event) => ("event", event.unwrap_or_default()),
    };
    let digest = Sha256::new()
        .chain_update(calls[0].tenant.as_bytes())
        .chain_update([0])
        .chain_update(kind)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    digest[..6].iter().fold("c-".to_owned(), |mut id, byte| {
        id.push_str(&format!("{byte:02x}"));
        id
    })
}
