//! The tree that a picture shows: parties below the call that led to theirs, calls below their caller; and which of it.
//!
//! Guarantee: every operation stands in one place, once; calls fold only where they led to nothing and their boxes read the
//! same. What is chosen depends on the chain alone, and everything that is not is in a note below the box that it belongs to.

use super::{BESIDE_MAX, BOXES_MAX, DEPTH_MAX, Drawing, Is, Node, Shown};
use crate::chain::rules::{Hop, Link, Name, Standing};
use catena_schemas::Outcome;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

impl Drawing<'_> {
    pub(super) fn plant(&self) -> Vec<Node> {
        let mut nodes = vec![Node { is: Is::Top, below: Vec::new(), weight: 0 }];
        let mut node_of = vec![0; self.chain.operations.len()];
        let mut parties: HashMap<(usize, u32, u32), usize> = HashMap::new();
        let mut missing: HashMap<usize, usize> = HashMap::new();
        let add = |nodes: &mut Vec<Node>, below: usize, is: Is| {
            nodes.push(Node { is, below: Vec::new(), weight: 0 });
            let new = nodes.len() - 1;
            nodes[below].below.push(new);
            new
        };
        let ghosts = self.ghosts();
        for at in self.chain.parents_first() {
            let operation = &self.chain.operations[at];
            let (first, link) = (operation.first as usize, &self.chain.links[operation.first as usize]);
            let hops = &self.chain.paths[link.path as usize].hops;
            let (mut below, shared) = match operation.parent() {
                Some(parent) => {
                    (node_of[parent], hops.iter().zip(self.hops(parent)).take_while(|(a, b)| a.is(b)).count())
                }
                None => match self.ghost_of(&ghosts, link).filter(|_| link.standing == Standing::Orphan) {
                    Some(ghost) => (*missing.entry(ghost).or_insert_with(|| add(&mut nodes, 0, Is::Missing(ghost))), 0),
                    None => (0, 0),
                },
            };
            for (hop, h) in hops.iter().enumerate().skip(shared) {
                let key = (below, h.id.0, h.issuer.0);
                below = *parties.entry(key).or_insert_with(|| add(&mut nodes, below, Is::Party { event: first, hop }));
                // The first to widen speaks for the box.
                if let Is::Party { event, hop } = &mut nodes[below].is
                    && self.widened(first, *hop)
                    && !self.widened(*event, *hop)
                {
                    *event = first;
                }
            }
            node_of[at] = add(&mut nodes, below, Is::Calls(vec![at]));
        }
        self.fold(&mut nodes);
        self.weigh(&mut nodes);
        nodes
    }

    /// Places of what is missing, by the name that a reference has: as the whole of it, or as the span of its trace.
    pub(super) fn ghosts(&self) -> HashMap<(bool, Name), usize> {
        let mut ghosts = HashMap::new();
        for (at, ghost) in self.chain.ghosts.iter().enumerate() {
            for (is_span, name) in [(false, ghost.names[0]), (true, ghost.names[1])] {
                ghosts.entry((is_span, name)).or_insert(at);
            }
        }
        ghosts
    }

    /// The first reference of an event that no event answers to.
    pub(super) fn ghost_of(&self, ghosts: &HashMap<(bool, Name), usize>, link: &Link) -> Option<usize> {
        let row = self.store.row_at(link.row);
        let named = [(false, row.parent), (false, row.predecessor), (false, row.state_in), (true, row.parent_span)];
        named.iter().filter(|(_, name)| name.is_some()).filter_map(|n| ghosts.get(n)).min().copied()
    }

    pub(super) fn hops(&self, operation: usize) -> &[Hop] {
        let first = &self.chain.links[self.chain.operations[operation].first as usize];
        &self.chain.paths[first.path as usize].hops
    }

    /// Calls that led to nothing and read the same stand in one box.
    pub(super) fn fold(&self, nodes: &mut [Node]) {
        let mut like: HashMap<(usize, String), usize> = HashMap::new();
        for at in 0..nodes.len() {
            let below = std::mem::take(&mut nodes[at].below);
            let mut kept = Vec::with_capacity(below.len());
            like.clear();
            for child in below {
                let Is::Calls(calls) = &nodes[child].is else {
                    kept.push(child);
                    continue;
                };
                if !nodes[child].below.is_empty() {
                    kept.push(child);
                    continue;
                }
                let call = calls[0];
                match like.entry((at, self.reads(call))) {
                    Entry::Occupied(first) => {
                        if let Is::Calls(all) = &mut nodes[*first.get()].is {
                            all.push(call);
                        }
                    }
                    Entry::Vacant(first) => {
                        first.insert(child);
                        kept.push(child);
                    }
                }
            }
            nodes[at].below = kept;
        }
    }

    /// Everything that a call's box says, but for its time.
    pub(super) fn reads(&self, at: usize) -> String {
        let link = self.first(at);
        let row = self.store.row_at(link.row);
        let outcomes: String = self.outcomes(at).iter().map(|o| o.as_str()).collect::<Vec<_>>().join(" ");
        format!("{} {} {outcomes} {:?} {:?}", row.server.0, row.tool.0, self.says(at), self.link_text(link))
    }

    pub(super) fn weigh(&self, nodes: &mut [Node]) {
        // Whatever stands below has a greater number than what it stands below.
        for at in (0..nodes.len()).rev() {
            let own = match &nodes[at].is {
                Is::Top => 0,
                Is::Missing(_) => 2,
                Is::Party { event, hop } => {
                    if self.widened(*event, *hop) {
                        3
                    } else {
                        0
                    }
                }
                Is::Calls(calls) if !self.says(calls[0]).is_empty() => 3,
                Is::Calls(calls) => u8::from(self.decided(calls[0]) != Outcome::Allow),
            };
            let below = nodes[at].below.iter().map(|b| nodes[*b].weight).max().unwrap_or(0);
            nodes[at].weight = own.max(below);
        }
    }

    /// Chooses what is drawn: near before far, and beside each other what matters most, in the order of calls.
    pub(super) fn choose(&self, tree: &[Node]) -> Vec<Shown> {
        let mut shown = vec![Shown { node: 0, above: None, depth: 0, rest: None }];
        let (mut next, mut boxes) = (0, 0);
        while next < shown.len() {
            let Shown { node, depth, .. } = shown[next];
            if shown[next].rest.is_some() {
                next += 1;
                continue;
            }
            let below = &tree[node].below;
            let room = if depth < DEPTH_MAX { BESIDE_MAX.min(BOXES_MAX - boxes) } else { 0 };
            let mut kept = below.clone();
            kept.sort_by_key(|b| std::cmp::Reverse(tree[*b].weight));
            let left = kept.split_off(room.min(kept.len()));
            kept.sort_unstable();
            boxes += kept.len();
            shown.extend(kept.into_iter().map(|b| Shown { node: b, above: Some(next), depth: depth + 1, rest: None }));
            if !left.is_empty() {
                let rest = Some(operations_of(tree, left));
                shown.push(Shown { node, above: Some(next), depth: depth + 1, rest });
            }
            next += 1;
        }
        shown
    }
}

/// Operations in and below places of the tree.
pub(super) fn operations_of(tree: &[Node], mut open: Vec<usize>) -> Vec<usize> {
    let mut all = Vec::new();
    while let Some(at) = open.pop() {
        if let Is::Calls(calls) = &tree[at].is {
            all.extend(calls);
        }
        open.extend(&tree[at].below);
    }
    all
}
