//! Boxes: what each says.
//!
//! Guarantee: whatever is odd about a call, and whatever a hop widened, stands in its box in words; what is cut short stands
//! whole in its title.

use super::ink::{cut, evidence, plural};
use super::{
    Drawing, Drawn, Is, LINE_COLUMNS, NAME_COLUMNS, NAME_LINE, NAME_PX, Node, PAD, SMALL_LINE, SMALL_PX, Shape, Shown,
};
use crate::authority::{Authority, Bound, Recorded, Within};
use crate::chain::rules::store::NOBODY;
use crate::chain::rules::{Link, Mark, Name, Standing};
use crate::text::escape;
use std::collections::BTreeMap;
use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

impl Drawing<'_> {
    pub(super) fn content(&self, tree: &[Node], all: &[Shown], shown: &Shown) -> Drawn {
        let mut drawn = match (&shown.rest, &tree[shown.node].is) {
            (Some(left), _) => self.rest(left),
            (None, Is::Top) => blank(Shape::Square, ""),
            (None, Is::Missing(ghost)) => self.missing(*ghost),
            (None, Is::Party { event, hop }) => self.party(*event, *hop),
            (None, Is::Calls(calls)) => self.calls(calls),
        };
        if shown.above.is_some_and(|above| matches!(tree[all[above].node].is, Is::Missing(_))) {
            drawn.edge.1 = "edge lost";
        }
        let small = drawn.lines.iter().filter(|l| l.0 != "name");
        let small = small.map(|l| (l.1.width() as f64 * SMALL_PX).ceil() as i64).max().unwrap_or(0);
        let name = drawn.lines.iter().filter(|l| l.0 == "name");
        let name = name.map(|l| (l.1.width() as f64 * NAME_PX).ceil() as i64).max().unwrap_or(0);
        let sides = 2 * drawn.shape.inset();
        drawn.width = (small.max(name) + 2 * PAD + sides).max(72);
        let lines: i64 = drawn.lines.iter().map(|l| if l.0 == "name" { NAME_LINE } else { SMALL_LINE }).sum();
        drawn.height = lines + if drawn.shape == Shape::Ellipse { 26 } else { 14 };
        drawn
    }

    pub(super) fn text(&self, name: Name) -> &str {
        self.store.text(name)
    }

    pub(super) fn party(&self, event: usize, hop: usize) -> Drawn {
        let path = &self.chain.paths[self.chain.links[event].path as usize];
        let h = &path.hops[hop];
        let known = evidence(h.tier.as_str(), h.confidence);
        if h.id.is_none() {
            let mut drawn = blank(Shape::Round, "box absent");
            drawn.lines = vec![("small", "requester".into()), ("name", "unknown".into())];
            drawn.title = "The record does not say on whose behalf.".into();
            return drawn;
        }
        let (id, kind) = (self.text(h.id), kind_of(self.text(h.kind), self.text(h.id)));
        let shape = match kind {
            "human" | "person" | "user" => Shape::Round,
            "agent" => Shape::Hexagon,
            "" if hop == 0 => Shape::Round,
            _ => Shape::Soft,
        };
        let is_wide = self.widened(event, hop);
        let mut drawn = blank(shape, if is_wide { "box party wide" } else { "box party" });
        let role = if kind.is_empty() { if hop == 0 { "requester" } else { "actor" } } else { kind };
        let caption = if hop == 0 { format!("{} · {known}", cut(role, 20)) } else { cut(role, LINE_COLUMNS) };
        drawn.lines = vec![("small", caption), ("name", cut(id, NAME_COLUMNS))];
        drawn.title = format!("{} {}\nknown by {known}", escape(role), escape(id));
        if h.issuer.is_some() {
            let _ = write!(drawn.title, "\nissuer {}", escape(self.text(h.issuer)));
        }
        // What is known of a root stands in its box.
        let label = if hop == 0 { String::new() } else { known };
        drawn.edge = (label, if is_wide { "edge wide" } else { "edge" });
        if let Some(bound) = self.bound(event, hop) {
            bound_lines(bound, &mut drawn);
        }
        drawn
    }

    pub(super) fn calls(&self, calls: &[usize]) -> Drawn {
        let at = calls[0];
        let link = self.first(at);
        let row = self.store.row_at(link.row);
        let mut drawn = blank(Shape::Square, "box call");
        let (server, tool) = (self.text(row.server), self.text(row.tool));
        drawn.lines.push(("small", if server.is_empty() { "call".into() } else { cut(server, LINE_COLUMNS) }));
        let times = if calls.len() > 1 { format!("  × {}", calls.len()) } else { String::new() };
        let name = if tool.is_empty() { "(no tool)".into() } else { cut(tool, NAME_COLUMNS - times.len()) };
        drawn.lines.push(("name", name + &times));
        let outcomes = self.outcomes(at);
        const SHOWN: usize = 3;
        let mut words = outcomes.iter().take(SHOWN).map(|o| o.as_str()).collect::<Vec<_>>().join(" → ");
        if outcomes.len() > SHOWN {
            let last = self.decided(at).as_str();
            let _ = write!(words, " → … {} attempts, {last}", outcomes.len());
        }
        drawn.sign = Some(self.decided(at));
        drawn.lines.push(("sign", format!("  {words}")));
        let said = self.says(at);
        drawn.lines.extend(said.iter().map(|s| ("alert", (*s).to_owned())));
        if said.contains(&"OUT OF BOUNDS") {
            drawn.class = "box call wide";
        }
        drawn.edge = (self.link_text(link), "edge");
        let event = self.chain.event(self.store, link);
        let (from, to) = (self.chain.time(self.store, link), self.last_time(calls));
        drawn.title = format!("{} {}: {words}", escape(server), escape(tool));
        let _ = write!(drawn.title, "\nfrom {} to {}\nevent {}", from.to_rfc3339(), to.to_rfc3339(), escape(event));
        if calls.len() > 1 {
            let _ = write!(drawn.title, ", the first of {} calls alike", calls.len());
        }
        drawn.event = Some(event.to_owned());
        drawn
    }

    pub(super) fn last_time(&self, calls: &[usize]) -> catena_schemas::Micros {
        let last =
            |at: &usize| self.chain.time(self.store, &self.chain.links[self.chain.operations[*at].last as usize]);
        calls.iter().map(last).max().unwrap_or(catena_schemas::Micros(0))
    }

    pub(super) fn missing(&self, ghost: usize) -> Drawn {
        let ghost = &self.chain.ghosts[ghost];
        let name = if ghost.names[1].is_some() { ghost.names[1] } else { ghost.names[0] };
        let mut drawn = blank(Shape::Ellipse, "box absent");
        let kind = ghost.kind.as_str();
        drawn.lines = vec![
            ("small", kind.into()),
            ("name", cut(self.text(name), NAME_COLUMNS - 8)),
            ("alert", "is not here".into()),
        ];
        drawn.title = format!("{kind} {} is named as a parent, and is not here", escape(self.text(name)));
        drawn
    }

    pub(super) fn rest(&self, left: &[usize]) -> Drawn {
        let mut drawn = blank(Shape::Soft, "box rest");
        let mut by: BTreeMap<&str, usize> = BTreeMap::new();
        for at in left {
            *by.entry(self.decided(*at).as_str()).or_default() += 1;
        }
        let by = by.iter().map(|(o, n)| format!("{n} {o}")).collect::<Vec<_>>().join(", ");
        let odd = left.iter().filter(|at| !self.says(**at).is_empty()).count();
        drawn.lines = vec![("name", format!("… {} more", plural(left.len(), "operation"))), ("small", by)];
        if odd > 0 {
            drawn.lines.push(("alert", format!("{odd} of them odd")));
        }
        drawn.edge = (String::new(), "edge lost");
        drawn
    }

    pub(super) fn link_text(&self, link: &Link) -> String {
        match link.tier.filter(|_| link.parent != NOBODY) {
            Some(tier) => evidence(tier.as_str(), link.confidence),
            None => String::new(),
        }
    }

    /// What is odd about a call, in words.
    pub(super) fn says(&self, at: usize) -> Vec<&'static str> {
        let mut said = Vec::new();
        let decided_by = self.chain.operations[at].decided_by as usize;
        if self.bounds.get(decided_by).is_some_and(|b| b.state == Within::Out) {
            said.push("OUT OF BOUNDS");
        }
        if self.first(at).standing == Standing::Cut {
            said.push("cut: its parent leads back to it");
        }
        for (mark, words) in [
            (Mark::Conflict, "its parents contradict"),
            (Mark::Mutated, "the record changed"),
            (Mark::RootDiffers, "its parent acts for somebody else"),
            (Mark::Truncated, "actors are missing"),
        ] {
            if self.attempts(at).any(|l| l.marks.has(mark)) {
                said.push(words);
            }
        }
        let orphan = self.first(at).standing == Standing::Orphan;
        if !orphan && self.attempts(at).any(|l| l.marks.has(Mark::Missing)) {
            said.push("names a parent that is not here");
        }
        said
    }
}

pub(super) fn blank(shape: Shape, class: &'static str) -> Drawn {
    Drawn {
        shape,
        class,
        lines: Vec::new(),
        sign: None,
        title: String::new(),
        event: None,
        edge: (String::new(), "edge"),
        width: 0,
        height: 0,
    }
}

pub(super) fn bound_lines(bound: &Bound, drawn: &mut Drawn) {
    let mut say = |class, word: &str, authority: &Authority| {
        let text = format!("{word} {}", authority.to_text());
        drawn.lines.push((class, cut(&text, LINE_COLUMNS)));
        let _ = write!(drawn.title, "\n{}", escape(&text));
    };
    if let Some(reauth) = &bound.reauth {
        say("small", &format!("re-authorized by {}:", cut(reauth, 16)), &bound.effective);
        return;
    }
    if bound.by != Recorded::Nothing {
        say("small", if bound.by == Recorded::Grant { "granted" } else { "holds" }, &bound.recorded);
    }
    if bound.within == Within::Out {
        say("alert", "WIDENED by", &bound.beyond);
        say("small", "bound", &bound.effective);
    } else if bound.by != Recorded::Nothing && bound.within == Within::In && bound.effective != bound.recorded {
        say("small", "bound", &bound.effective);
    }
    if bound.reset {
        drawn.lines.push(("small", "another trust domain".into()));
    }
}

/// The kind of a party: as recorded, or as its id says it.
pub(super) fn kind_of<'a>(kind: &'a str, id: &'a str) -> &'a str {
    let named = id.split_once(':').map(|(kind, _)| kind);
    match kind {
        "" => named.filter(|k| matches!(*k, "human" | "client" | "agent" | "workload" | "bot")).unwrap_or(""),
        kind => kind,
    }
}
