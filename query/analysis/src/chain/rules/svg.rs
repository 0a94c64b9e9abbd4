//! A chain as a picture: self-contained SVG, laid out here, so that no reader needs a layout of its own.
//!
//! Guarantee: the same chain gives the same bytes. Every operation is drawn, folded into a box that counts it, or counted
//! as left out; at most 80 boxes and as many notes of what was left out. No name can leave its text: names are
//! escaped twice, for eyes and for XML, and cut where they are long, with the whole in a `<title>`. Nothing is said by
//! colour alone: shapes and words say it too. There is no script, no id, no reference to anything outside.
//!
//! ```text
//! ( alice )──P7 0.60──< planner >─────────┬──▶ [ mail › read    ✓ allow   ]
//!                       granted mail.read └──▶ [ mail › send    ✕ deny    ]
//! ```
//!
//! Parties are laid as in the tree of text: below the call that led to theirs, each once. Left to right is who let whom
//! act and which call led to which; top to bottom is the order of calls.

mod boxes;
mod ink;
mod lay;
mod tree;

use super::{Chain, Link, Store};
use crate::authority::{Bound, Bounds, Within};
use catena_schemas::Outcome;
use ink::{STYLE, cut, edge, plural, xml};
use lay::lay;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// Boxes of one picture. Beyond, a picture is no longer read, and layout costs more than linear time.
const BOXES_MAX: usize = 80;
/// Boxes beside each other below one box; those that matter most stay.
const BESIDE_MAX: usize = 12;
/// Columns.
const DEPTH_MAX: usize = 14;
/// Further parents, which make a tree a graph.
const FURTHER_MAX: usize = 60;
/// Columns that further parents may cross, all together: each is a place that layout has to find.
const CROSSED_MAX: usize = 400;

/// Columns of text of a name, and of a line below it.
const NAME_COLUMNS: usize = 34;
const LINE_COLUMNS: usize = 40;
/// Characters of a `<title>`.
const TITLE_MAX: usize = 2000;

/// Pixels. Text is monospaced, so that its width is known: 0.602 em.
const NAME_PX: f64 = 7.3;
const SMALL_PX: f64 = 6.4;
const NAME_LINE: i64 = 17;
const SMALL_LINE: i64 = 15;
const PAD: i64 = 12;
const GAP: i64 = 96;
const MARGIN: i64 = 24;
const BETWEEN: f64 = 14.0;

impl Chain {
    /// The chain as SVG. `bounds` are those of every event ([`Chain::all_bounds`]), or none.
    pub fn svg(&self, store: &Store, bounds: &[Bounds]) -> String {
        let mut attempts = vec![Vec::new(); self.operations.len()];
        for (at, link) in self.links.iter().enumerate() {
            attempts[link.operation as usize].push(at);
        }
        let drawing = Drawing { chain: self, store, bounds, attempts };
        let tree = drawing.plant();
        let shown = drawing.choose(&tree);
        let boxes: Vec<Drawn> = shown.iter().map(|s| drawing.content(&tree, &shown, s)).collect();
        let (further, undrawn) = drawing.further(&tree, &shown);
        let places = lay(&shown, &boxes, &further);
        drawing.write(&shown, &boxes, &places, &further, undrawn)
    }
}

/// What a place of the tree stands for.
enum Is {
    Top,
    Missing(usize),
    Party { event: usize, hop: usize },
    Calls(Vec<usize>),
}

struct Node {
    is: Is,
    below: Vec<usize>,
    /// How much it matters, with all below it.
    weight: u8,
}

/// What is drawn, each after the box it stands below.
struct Shown {
    /// Place in the tree; for a note of what was left out, the place that it was left out below.
    node: usize,
    above: Option<usize>,
    depth: usize,
    /// Operations that this note stands for, when it is one.
    rest: Option<Vec<usize>>,
}

/// A box with its text.
struct Drawn {
    shape: Shape,
    class: &'static str,
    lines: Vec<(&'static str, String)>,
    sign: Option<Outcome>,
    title: String,
    /// The event that it stands for, for whoever links it.
    event: Option<String>,
    edge: (String, &'static str),
    width: i64,
    height: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Persons.
    Round,
    /// Agents.
    Hexagon,
    /// Clients and others.
    Soft,
    /// Calls.
    Square,
    /// What is not here.
    Ellipse,
}

impl Shape {
    /// How far its text stands from where that of a rectangle would.
    fn inset(self) -> i64 {
        match self {
            Shape::Square => 0,
            Shape::Round | Shape::Hexagon | Shape::Soft => 8,
            Shape::Ellipse => 16,
        }
    }
}

/// Middle of a box, by its left edge.
#[derive(Clone, Copy)]
struct Place {
    x: i64,
    y: i64,
}

struct Drawing<'a> {
    chain: &'a Chain,
    store: &'a Store,
    bounds: &'a [Bounds],
    /// Events of each operation.
    attempts: Vec<Vec<usize>>,
}

impl Drawing<'_> {
    fn bound(&self, event: usize, hop: usize) -> Option<&Bound> {
        self.bounds.get(event)?.hops.get(hop)
    }

    fn widened(&self, event: usize, hop: usize) -> bool {
        self.bound(event, hop).is_some_and(|b| b.within == Within::Out && b.reauth.is_none())
    }

    fn first(&self, operation: usize) -> &Link {
        &self.chain.links[self.chain.operations[operation].first as usize]
    }

    fn outcomes(&self, at: usize) -> Vec<Outcome> {
        let attempts = self.attempts(at);
        attempts.map(|l| self.chain.outcome(self.store, l)).collect()
    }

    fn attempts(&self, at: usize) -> impl Iterator<Item = &Link> {
        self.attempts[at].iter().map(|event| &self.chain.links[*event])
    }

    fn decided(&self, at: usize) -> Outcome {
        self.chain.outcome(self.store, &self.chain.links[self.chain.operations[at].decided_by as usize])
    }

    /// Further parents between boxes, each once; and how many are not drawn.
    fn further(&self, tree: &[Node], shown: &[Shown]) -> (Vec<(usize, usize, &'static str)>, usize) {
        let mut box_of: HashMap<usize, usize> = HashMap::new();
        for (at, s) in shown.iter().enumerate().filter(|(_, s)| s.rest.is_none()) {
            if let Is::Calls(calls) = &tree[s.node].is {
                box_of.extend(calls.iter().map(|c| (*c, at)));
            }
        }
        let (mut drawn, mut seen, mut undrawn) = (Vec::new(), BTreeSet::new(), 0);
        for s in &self.chain.secondary {
            let of = |link: u32| self.chain.links[link as usize].operation as usize;
            if of(s.parent) == of(s.child) {
                continue;
            }
            match (box_of.get(&of(s.parent)), box_of.get(&of(s.child))) {
                (Some(parent), Some(child)) if parent == child || !seen.insert((*parent, *child)) => {}
                (Some(parent), Some(child)) if drawn.len() < FURTHER_MAX => {
                    drawn.push((*parent, *child, s.tier.as_str()));
                }
                _ => undrawn += 1,
            }
        }
        (drawn, undrawn)
    }

    fn write(
        &self,
        shown: &[Shown],
        boxes: &[Drawn],
        places: &[Place],
        further: &[(usize, usize, &'static str)],
        undrawn: usize,
    ) -> String {
        let heading = self.heading();
        let left: usize = shown.iter().filter_map(|s| s.rest.as_ref()).map(Vec::len).sum();
        let mut footer = Vec::new();
        if left > 0 {
            footer.push(format!("{left} of {} are not drawn", plural(self.chain.operations.len(), "operation")));
        }
        if undrawn > 0 {
            footer.push(format!("{} not drawn", plural(undrawn, "further parent")));
        }
        let right = boxes.iter().zip(places).skip(1).map(|(b, p)| p.x + b.width).max().unwrap_or(0);
        let bottom = boxes.iter().zip(places).skip(1).map(|(b, p)| p.y + (b.height + 1) / 2).max().unwrap_or(0);
        let text = heading.iter().chain(&footer).map(|l| (l.width() as f64 * NAME_PX).ceil() as i64).max().unwrap_or(0);
        let width = right.max(text + MARGIN) + MARGIN;
        let height = bottom + MARGIN + footer.len() as i64 * NAME_LINE;
        let label =
            xml(&format!("{}{}", heading.join(". "), footer.iter().map(|f| format!(". {f}")).collect::<String>()));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"catena-chain\" role=\"img\" aria-label=\"{label}\" \
             width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n"
        );
        for (i, line) in heading.iter().enumerate() {
            let (class, y) = (if i == 0 { "title" } else { "small" }, MARGIN + 4 + i as i64 * NAME_LINE);
            let _ = writeln!(out, "<text class=\"{class}\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", xml(line));
        }
        for (at, s) in shown.iter().enumerate() {
            if let Some(above) = s.above.filter(|a| *a != 0) {
                let from = (places[above].x + boxes[above].width, places[above].y);
                let (label, class) = &boxes[at].edge;
                edge(&mut out, from, (places[at].x, places[at].y), class, label);
            }
        }
        for (parent, child, tier) in further {
            let from = (places[*parent].x + boxes[*parent].width, places[*parent].y + boxes[*parent].height / 4);
            let to = (places[*child].x, places[*child].y + boxes[*child].height / 4);
            edge(&mut out, from, to, "edge further", &format!("also {tier}"));
        }
        for (drawn, place) in boxes.iter().zip(places).skip(1) {
            drawn.write(&mut out, *place);
        }
        for (i, line) in footer.iter().enumerate() {
            let y = bottom + MARGIN + i as i64 * NAME_LINE;
            let _ = writeln!(out, "<text class=\"small\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", xml(line));
        }
        out.push_str("</svg>\n");
        out
    }

    /// The headline, in two lines.
    fn heading(&self) -> Vec<String> {
        let headline = self.chain.headline();
        let mut parts = headline.splitn(3, "  ");
        let chain = parts.next().unwrap_or_default().to_owned();
        let who: Vec<&str> = self.chain.requesters(self.store).into_iter().collect();
        let who = match who.as_slice() {
            [] => String::new(),
            [one] => format!(" · for {}", cut(one, NAME_COLUMNS)),
            [one, more @ ..] => format!(" · for {} and {} more", cut(one, NAME_COLUMNS), more.len()),
        };
        vec![chain + &who, parts.collect::<Vec<_>>().join("  ")]
    }
}
