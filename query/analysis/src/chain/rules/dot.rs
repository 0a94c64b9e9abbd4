//! A chain as a Graphviz graph.
//!
//! Guarantee: valid DOT, whatever the names hold; operations are boxes, primary parents solid arrows with their tier,
//! further parents dashed, what is missing a dotted ellipse.

use super::{Chain, Standing, Store};
use crate::text::escape;
use std::fmt::Write;

impl Chain {
    /// The chain in the DOT language.
    pub fn to_dot(&self, store: &Store) -> String {
        let mut out = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quote(&self.id));
        for (at, operation) in self.operations.iter().enumerate() {
            let first = &self.links[operation.first as usize];
            let row = store.row_at(first.row);
            let path = &self.paths[first.path as usize];
            let who: Vec<&str> =
                path.hops.iter().map(|h| if h.id.is_some() { store.text(h.id) } else { "?" }).collect();
            let outcome = self.outcome(store, &self.links[operation.decided_by as usize]);
            let tool = if row.tool.is_some() { store.text(row.tool) } else { "(no tool)" };
            let label = format!("{}\n{}\n{}", escape(&who.join(" > ")), escape(tool), outcome.as_str());
            let style = if first.standing == Standing::Cut { ", style=bold" } else { "" };
            let _ = writeln!(out, "  o{at} [label={}{style}];", quote(&label));
            if let Some(parent) = operation.parent() {
                let tier = first.tier.map_or("", |t| t.as_str());
                let _ = writeln!(
                    out,
                    "  o{parent} -> o{at} [label={}];",
                    quote(&format!("{tier} {:.2}", first.confidence.share()))
                );
            }
        }
        for s in &self.secondary {
            let of = |link: u32| self.links[link as usize].operation;
            if of(s.parent) != of(s.child) {
                let _ = writeln!(
                    out,
                    "  o{} -> o{} [style=dashed, label={}];",
                    of(s.parent),
                    of(s.child),
                    quote(s.tier.as_str())
                );
            }
        }
        for (at, ghost) in self.ghosts.iter().enumerate() {
            let names: Vec<&str> = ghost.names.iter().filter(|n| n.is_some()).map(|n| store.text(*n)).collect();
            let label = format!("{} {}", ghost.kind.as_str(), escape(&names.join(" ")));
            let _ = writeln!(out, "  g{at} [shape=ellipse, style=dotted, label={}];", quote(&label));
            let _ = writeln!(out, "  g{at} -> o{} [style=dotted];", self.links[ghost.by as usize].operation);
        }
        out.push_str("}\n");
        out
    }
}

/// A quoted DOT string, of harmless text; line ends are ours.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
