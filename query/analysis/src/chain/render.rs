//! Chains as text.

use super::{Call, Chain, Is, Node};
use crate::text::escape;
use catena_schemas::Outcome;
use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// How much of a chain is drawn. What is left out is counted in the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels below the first line.
    pub depth: usize,
    /// Lines.
    pub lines: usize,
    /// Characters of a name.
    pub name: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth: 24, lines: 200, name: 80 }
    }
}

/// Ids of sessions and traces named on the first line.
const IDS_SHOWN: usize = 3;
/// Columns to which the names of calls are padded, so that one long name does not push all outcomes away.
const ALIGN_MAX: usize = 48;

impl Chain {
    /// Draws the chain as a tree.
    ///
    /// ```text
    /// alice@corp.example  chain c-4f1d  session s-1 · 3 calls · 1 denied
    /// └─ client:claude-code
    ///    └─ agent:planner
    ///       ├─ tickets › ticket.read    allow  × 2
    ///       └─ tickets › ticket.delete  deny   scope_missing
    /// ```
    pub fn render(&self, limits: &Limits) -> String {
        let mut drawing = Drawing { chain: self, limits, out: String::new(), lines: 0, told: 0 };
        drawing.draw();
        drawing.out
    }

    /// The first line: what the chain is.
    pub fn headline(&self) -> String {
        let mut text = format!("chain {}", self.id);
        let (sessions, traces) = (self.sessions(), self.traces());
        for (what, ids) in [("session", &sessions), ("trace", &traces)] {
            // A trace says little to a person who has the session.
            if ids.is_empty() || what == "trace" && !sessions.is_empty() {
                continue;
            }
            let shown: Vec<_> = ids.iter().take(IDS_SHOWN).map(|id| escape(id)).collect();
            let plural = if ids.len() > 1 { "s" } else { "" };
            let _ = write!(text, "  {what}{plural} {}", shown.join(", "));
            if ids.len() > IDS_SHOWN {
                let _ = write!(text, " and {} more", ids.len() - IDS_SHOWN);
            }
        }
        if sessions.is_empty() && traces.is_empty() {
            text.push_str("  no session");
        }
        let _ = write!(text, " · {}", count(self.calls.len()));
        for (outcome, word) in [
            (Outcome::Deny, "denied"),
            (Outcome::StepUp, "stepped up"),
            (Outcome::Error, "failed"),
            (Outcome::Unknown, "undecided"),
        ] {
            let n = self.count(outcome);
            if n > 0 {
                let _ = write!(text, " · {n} {word}");
            }
        }
        if !self.orphans.is_empty() {
            let _ = write!(text, " · {} without their parent", count(self.orphans.len()));
        }
        if !self.cut.is_empty() {
            text.push_str(" · a ring of parents was cut");
        }
        text
    }
}

fn count(calls: usize) -> String {
    if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") }
}

struct Drawing<'a> {
    chain: &'a Chain,
    limits: &'a Limits,
    out: String,
    lines: usize,
    /// Calls that are drawn, or counted where they were left out.
    told: usize,
}

/// A line to be drawn: what stands before its branch, and the branch below which its children stand.
struct Line {
    what: What,
    stem: String,
    last: bool,
    depth: usize,
}

enum What {
    Node { node: usize, text: String, folded: usize },
    Deeper { calls: usize },
}

impl Drawing<'_> {
    fn node(&self, at: usize) -> &Node {
        &self.chain.tree[at]
    }

    fn draw(&mut self) {
        let top = self.node(0).children.clone();
        let headline = self.chain.headline();
        let mut stack = Vec::new();
        match top.as_slice() {
            [only] if !matches!(self.node(*only).is, Is::Call(_)) => {
                let name = self.name(*only);
                self.line(&format!("{name}  {headline}"));
                self.push_children(&mut stack, *only, "", 1);
            }
            _ => {
                self.line(&headline);
                self.push_children(&mut stack, 0, "", 1);
            }
        }
        while let Some(line) = stack.pop() {
            // The last line is kept for what did not fit.
            if self.lines + 1 >= self.limits.lines && !stack.is_empty() || self.lines >= self.limits.lines {
                let left = self.chain.calls.len() - self.told;
                self.line(&format!("… {} not shown, more than {} lines", count(left), self.limits.lines));
                return;
            }
            let branch = if line.last { "└─ " } else { "├─ " };
            match line.what {
                What::Deeper { calls } => {
                    self.told += calls;
                    self.line(&format!(
                        "{}{branch}… {} deeper than {} levels",
                        line.stem,
                        count(calls),
                        self.limits.depth
                    ));
                }
                What::Node { node, text, folded } => {
                    self.told += folded;
                    self.line(&format!("{}{branch}{text}", line.stem));
                    let stem = format!("{}{}", line.stem, if line.last { "   " } else { "│  " });
                    self.push_children(&mut stack, node, &stem, line.depth + 1);
                }
            }
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
        self.lines += 1;
    }

    /// Puts the children of a node on the stack, last one first; calls that repeat become one line.
    fn push_children(&self, stack: &mut Vec<Line>, at: usize, stem: &str, depth: usize) {
        let node = self.node(at);
        if node.children.is_empty() {
            return;
        }
        if depth > self.limits.depth {
            let calls = node.calls - usize::from(matches!(node.is, Is::Call(_)));
            stack.push(Line { what: What::Deeper { calls }, stem: stem.to_owned(), last: true, depth });
            return;
        }
        let mut groups: Vec<(usize, usize)> = Vec::new();
        for child in &node.children {
            match groups.last_mut() {
                Some((first, folded)) if self.repeats(*first, *child) => *folded += 1,
                _ => groups.push((*child, 1)),
            }
        }
        let widths = self.widths(&groups);
        for (i, (child, folded)) in groups.iter().enumerate().rev() {
            let text = match self.node(*child).is {
                Is::Call(call) => self.call_text(call, *folded, widths),
                _ => self.name(*child),
            };
            let folded = if matches!(self.node(*child).is, Is::Call(_)) { *folded } else { 0 };
            let what = What::Node { node: *child, text, folded };
            stack.push(Line { what, stem: stem.to_owned(), last: i + 1 == groups.len(), depth });
        }
    }

    /// Whether two neighbours look the same and have nothing below.
    fn repeats(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.node(a), self.node(b));
        let (Is::Call(first), Is::Call(second)) = (&a.is, &b.is) else { return false };
        if !a.children.is_empty() || !b.children.is_empty() || self.is_cut(*first) || self.is_cut(*second) {
            return false;
        }
        let (first, second) = (&self.chain.calls[*first], &self.chain.calls[*second]);
        let same = |f: fn(&Call) -> (&Option<String>, &Option<String>)| f(first) == f(second);
        same(|c| (&c.server, &c.tool)) && first.outcome == second.outcome && first.reasons == second.reasons
    }

    fn is_cut(&self, call: usize) -> bool {
        self.chain.cut.binary_search(&call).is_ok()
    }

    /// Columns of names and outcomes among neighbours.
    fn widths(&self, groups: &[(usize, usize)]) -> (usize, usize) {
        let calls = || {
            groups.iter().filter_map(|(child, _)| match self.node(*child).is {
                Is::Call(call) => Some(&self.chain.calls[call]),
                _ => None,
            })
        };
        let name = calls().map(|c| self.call_name(c).width()).filter(|w| *w <= ALIGN_MAX).max().unwrap_or(0);
        (name, calls().map(|c| c.outcome.as_str().len()).max().unwrap_or(0))
    }

    fn call_name(&self, call: &Call) -> String {
        let tool = call.tool.as_deref().map_or_else(|| "(no tool)".to_owned(), |t| self.short(t));
        match &call.server {
            Some(server) => format!("{} › {tool}", self.short(server)),
            None => tool,
        }
    }

    fn call_text(&self, at: usize, folded: usize, (name_width, outcome_width): (usize, usize)) -> String {
        let call = &self.chain.calls[at];
        let name = self.call_name(call);
        let pad = " ".repeat(name_width.saturating_sub(name.width()));
        let mut text = format!("{name}{pad}  {:outcome_width$}", call.outcome.as_str());
        if folded > 1 {
            let _ = write!(text, "  × {folded}");
        }
        if !call.reasons.is_empty() {
            let reasons: Vec<String> = call.reasons.iter().map(|r| self.short(r)).collect();
            let _ = write!(text, "  {}", reasons.join(", "));
        }
        if self.is_cut(at) {
            let parent = call.parent_decision.as_deref().unwrap_or_default();
            let _ = write!(text, "  (its parent {} leads back to it)", self.short(parent));
        }
        text
    }

    fn name(&self, at: usize) -> String {
        match &self.node(at).is {
            Is::Party(Some(name)) => self.short(name),
            Is::Party(None) => "(unknown requester)".to_owned(),
            Is::Missing(id) => format!("(decision {} is not here)", self.short(id)),
            Is::Top | Is::Call(_) => String::new(),
        }
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
