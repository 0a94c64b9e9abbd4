//! A chain as a tree of text.
//!
//! Guarantee: every operation is told of, by a line, in a fold, or in the count of what was left out; no name can move the
//! cursor; what is missing, cut, widened or guessed says so.
//!
//! ```text
//! alice  chain c-4f1d…  4 calls in 3 operations · lineage root · confidence 0.60 · coverage 1.00
//! └─ planner  P2 0.93  granted mail.read
//!    ├─ mail › mail.read  allow  C2 0.92
//!    └─ coder  P2 0.93  granted mail.read, mail.send  WIDENED mail.send  bound mail.read
//!       └─ mail › mail.send  step_up → allow  C3 0.90  out of bounds
//! ```

use super::store::NOBODY;
use super::{Chain, Mark, Standing, Store};
use crate::authority::{Bound, Bounds, Recorded, Within};
use crate::chain::Limits;
use crate::text::escape;
use std::collections::HashMap;
use std::fmt::Write;

enum Is {
    Top,
    Missing(String),
    Party(String),
    Operation { text: String },
}

struct Node {
    is: Is,
    children: Vec<usize>,
    operations: usize,
}

impl Chain {
    /// Draws the chain. `bounds` are those of every event ([`Chain::all_bounds`]), or none.
    pub fn draw(&self, store: &Store, bounds: &[Bounds], limits: &Limits) -> String {
        let nodes = Planting { chain: self, store, bounds, limits, nodes: Vec::new() }.plant();
        let mut out = String::new();
        let headline = self.headline();
        let mut stack: Vec<(usize, String, bool, usize)> = Vec::new();
        let push = |stack: &mut Vec<_>, at: usize, stem: &str, depth: usize| {
            let children = &nodes[at].children;
            for (i, child) in children.iter().enumerate().rev() {
                stack.push((*child, stem.to_owned(), i + 1 == children.len(), depth));
            }
        };
        match nodes[0].children.as_slice() {
            [only] if matches!(nodes[*only].is, Is::Party(_)) => {
                let Is::Party(name) = &nodes[*only].is else { return out };
                let _ = writeln!(out, "{name}  {headline}");
                push(&mut stack, *only, "", 1);
            }
            _ => {
                let _ = writeln!(out, "{headline}");
                push(&mut stack, 0, "", 1);
            }
        }
        let (mut lines, mut told) = (1, 0);
        while let Some((at, stem, is_last, depth)) = stack.pop() {
            if lines + 1 >= limits.lines && !stack.is_empty() {
                let _ = writeln!(out, "… {} more, beyond {} lines", self.operations.len() - told, limits.lines);
                break;
            }
            let branch = if is_last { "└─ " } else { "├─ " };
            lines += 1;
            if depth > limits.depth {
                told += nodes[at].operations;
                let _ = writeln!(out, "{stem}{branch}… {} deeper than {} levels", nodes[at].operations, limits.depth);
                continue;
            }
            let text = match &nodes[at].is {
                Is::Operation { text } => {
                    told += 1;
                    text.as_str()
                }
                Is::Missing(text) | Is::Party(text) => text,
                Is::Top => "",
            };
            let _ = writeln!(out, "{stem}{branch}{text}");
            push(&mut stack, at, &format!("{stem}{}", if is_last { "   " } else { "│  " }), depth + 1);
        }
        out
    }

    /// What the chain is, in a line.
    pub fn headline(&self) -> String {
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let mut text = format!(
            "chain {}  {} in {} · lineage {}",
            self.id,
            plural(self.links.len(), "call"),
            plural(self.operations.len(), "operation"),
            self.lineage().as_str()
        );
        for (n, word) in [
            (self.count(Standing::Orphan), "without their parent"),
            (self.count(Standing::Unknown), "of unknown origin"),
            (self.count(Standing::Cut), "cut from a ring"),
        ] {
            if n > 0 {
                let _ = write!(text, " · {n} {word}");
            }
        }
        let _ = write!(text, " · confidence {:.2}", self.confidence().share());
        match self.coverage() {
            Some(coverage) => {
                let _ = write!(text, " · coverage {:.2}", coverage.share());
            }
            None => text.push_str(" · no hop"),
        }
        text
    }
}

impl Chain {
    /// Operations, each after the one that led to it.
    pub(super) fn parents_first(&self) -> Vec<usize> {
        let operations = &self.operations;
        let mut placed = vec![false; operations.len()];
        let mut order = Vec::with_capacity(operations.len());
        let mut walk = Vec::new();
        for start in 0..operations.len() {
            let mut at = Some(start);
            while let Some(operation) = at.filter(|o| !placed[*o]) {
                placed[operation] = true;
                walk.push(operation);
                at = operations[operation].parent();
            }
            order.extend(walk.drain(..).rev());
        }
        order
    }
}

struct Planting<'a> {
    chain: &'a Chain,
    store: &'a Store,
    bounds: &'a [Bounds],
    limits: &'a Limits,
    nodes: Vec<Node>,
}

impl Planting<'_> {
    fn add(&mut self, below: usize, is: Is) -> usize {
        self.nodes.push(Node { is, children: Vec::new(), operations: 0 });
        let new = self.nodes.len() - 1;
        self.nodes[below].children.push(new);
        new
    }

    fn plant(mut self) -> Vec<Node> {
        self.nodes.push(Node { is: Is::Top, children: Vec::new(), operations: 0 });
        let mut node_of = vec![0; self.chain.operations.len()];
        let mut parties: HashMap<(usize, u32, u32), usize> = HashMap::new();
        let mut missing: HashMap<usize, usize> = HashMap::new();
        for at in self.chain.parents_first() {
            let operation = self.chain.operations[at];
            let link = &self.chain.links[operation.first as usize];
            let hops = &self.chain.paths[link.path as usize].hops;
            let (mut below, shared) = match operation.parent() {
                Some(parent) => {
                    let first = &self.chain.links[self.chain.operations[parent].first as usize];
                    let theirs = &self.chain.paths[first.path as usize].hops;
                    (node_of[parent], hops.iter().zip(theirs).take_while(|(a, b)| a.is(b)).count())
                }
                None => match self.ghost_of(operation.first).filter(|_| link.standing == Standing::Orphan) {
                    Some(ghost) => {
                        let known = missing.get(&ghost).copied();
                        let node = known.unwrap_or_else(|| {
                            let text = self.ghost_text(ghost);
                            self.add(0, Is::Missing(text))
                        });
                        missing.insert(ghost, node);
                        (node, 0)
                    }
                    None => (0, 0),
                },
            };
            for (i, hop) in hops.iter().enumerate().skip(shared) {
                let key = (below, hop.id.0, hop.issuer.0);
                below = match parties.get(&key) {
                    Some(node) => *node,
                    None => {
                        let text = self.party_text(operation.first as usize, i);
                        let node = self.add(below, Is::Party(text));
                        parties.insert(key, node);
                        node
                    }
                };
            }
            let text = self.operation_text(at);
            node_of[at] = self.add(below, Is::Operation { text });
        }
        for at in (0..self.nodes.len()).rev() {
            let below: usize = self.nodes[at].children.iter().map(|c| self.nodes[*c].operations).sum();
            self.nodes[at].operations = below + usize::from(matches!(self.nodes[at].is, Is::Operation { .. }));
        }
        self.nodes
    }

    /// The first reference of an event that no event answers to. Each missing thing stands once, by its earliest child.
    fn ghost_of(&self, event: u32) -> Option<usize> {
        let row = self.store.row_at(self.chain.links[event as usize].row);
        let names = |g: &super::Ghost| {
            g.names[0] == row.parent && row.parent.is_some()
                || g.names[0] == row.predecessor && row.predecessor.is_some()
                || g.names[0] == row.state_in && row.state_in.is_some()
                || g.names[1] == row.parent_span && row.parent_span.is_some()
        };
        self.chain.ghosts.iter().position(names)
    }

    fn ghost_text(&self, ghost: usize) -> String {
        let ghost = &self.chain.ghosts[ghost];
        let name = if ghost.names[1].is_some() { ghost.names[1] } else { ghost.names[0] };
        format!("({} {} is not here)", ghost.kind.as_str(), self.short(self.store.text(name)))
    }

    fn party_text(&self, event: usize, hop: usize) -> String {
        let path = &self.chain.paths[self.chain.links[event].path as usize];
        let h = &path.hops[hop];
        if h.id.is_none() {
            return "(unknown requester)".to_owned();
        }
        let mut text = self.short(self.store.text(h.id));
        if hop > 0 {
            let _ = write!(text, "  {} {:.2}", h.tier.as_str(), h.confidence.share());
        }
        if let Some(bound) = self.bounds.get(event).and_then(|b| b.hops.get(hop)) {
            self.bound_text(bound, &mut text);
        }
        text
    }

    fn bound_text(&self, bound: &Bound, text: &mut String) {
        let short = |a: &crate::authority::Authority| self.short(&a.to_text());
        if let Some(reauth) = &bound.reauth {
            let _ = write!(text, "  re-authorized by {}: {}", self.short(reauth), short(&bound.effective));
            return;
        }
        if bound.reset {
            text.push_str("  another trust domain");
        }
        if bound.by != Recorded::Nothing {
            let word = if bound.by == Recorded::Grant { "granted" } else { "holds" };
            let _ = write!(text, "  {word} {}", short(&bound.recorded));
        }
        if bound.within == Within::Out {
            let _ = write!(text, "  WIDENED {}  bound {}", short(&bound.beyond), short(&bound.effective));
        } else if bound.by != Recorded::Nothing && bound.within == Within::In && bound.effective != bound.recorded {
            let _ = write!(text, "  bound {}", short(&bound.effective));
        }
    }

    fn operation_text(&self, at: usize) -> String {
        let operation = &self.chain.operations[at];
        let first = &self.chain.links[operation.first as usize];
        let row = self.store.row_at(first.row);
        let name = |n: super::Name, absent: &str| {
            if n.is_some() { self.short(self.store.text(n)) } else { absent.to_owned() }
        };
        let mut text = String::new();
        if row.server.is_some() {
            let _ = write!(text, "{} › ", name(row.server, ""));
        }
        let _ = write!(text, "{}  ", name(row.tool, "(no tool)"));
        // Attempts lie between the first and the last, not always side by side.
        let between = &self.chain.links[operation.first as usize..=operation.last as usize];
        let attempts = between.iter().filter(|l| l.operation == first.operation);
        let outcomes: Vec<&str> = attempts.clone().map(|l| self.chain.outcome(self.store, l).as_str()).collect();
        const SHOWN: usize = 6;
        text.push_str(&outcomes[..outcomes.len().min(SHOWN)].join(" → "));
        if outcomes.len() > SHOWN {
            let _ = write!(text, " → … {} attempts", outcomes.len());
        }
        let decided = self.store.row_at(self.chain.links[operation.decided_by as usize].row);
        if decided.reason.is_some() {
            let _ = write!(text, "  {}", name(decided.reason, ""));
        }
        if let (Some(tier), true) = (first.tier, first.parent != NOBODY) {
            let _ = write!(text, "  {} {:.2}", tier.as_str(), first.confidence.share());
        }
        match self.bounds.get(operation.decided_by as usize).map(|b| b.state) {
            Some(Within::Out) => text.push_str("  out of bounds"),
            Some(Within::Unknown) | Some(Within::In) | None => {}
        }
        if first.standing == Standing::Cut {
            text.push_str("  (its parent leads back to it)");
        }
        for (mark, said) in [
            (Mark::Conflict, "(its parents contradict)"),
            (Mark::Mutated, "(the record changed)"),
            (Mark::RootDiffers, "(its parent acts for somebody else)"),
            (Mark::Truncated, "(actors are missing)"),
        ] {
            if attempts.clone().any(|l| l.marks.has(mark)) {
                let _ = write!(text, "  {said}");
            }
        }
        text
    }

    /// A name, harmless and not too long.
    fn short(&self, name: &str) -> String {
        let name = escape(name);
        match name.char_indices().nth(self.limits.name) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name.into_owned(),
        }
    }
}
