//! Principal paths: on whose behalf each call was made, and through whom.
//!
//! Guarantee: a path says what records say. A nested `act` of a verified token stands; else the record of an exchange;
//! else what the calling call is known to have, if nothing contradicts; else the event's own word, shown as that. A root
//! that nobody names is unknown, and no other call's root is put in its place unless that call led to this one.
//!
//! ```text
//! alice ─P2─ client:cc ─P4─ agent:planner ─P2─ agent:coder      act of a verified token
//! alice ─P8─ client:cc ─P8─ agent:planner ─P9─ agent:coder      inherited from the parent, own word for the last hop
//! ?     ─P7─ client:cc                                          a verified client, nobody behind it
//! ```

use super::evidence::{Confidence, Principal};
use super::exchange::Exchanges;
use super::fact::Via;
use super::store::{NOBODY, Name, Row, Store};
use super::{Link, Mark};
use crate::fault::{self, Fault};

/// A principal of a path, and how its place there is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Id; none for an unknown root.
    pub id: Name,
    /// Issuer of the id.
    pub issuer: Name,
    /// Kind.
    pub kind: Name,
    /// How it is known.
    pub tier: Principal,
    /// How well.
    pub confidence: Confidence,
}

impl Hop {
    fn new(id: Name, issuer: Name, kind: Name, tier: Principal, confidence: u16) -> Hop {
        Hop { id, issuer, kind, tier, confidence: Confidence(confidence) }
    }

    /// The same principal, by exact key: likeness is not equality.
    pub(super) fn is(&self, other: &Hop) -> bool {
        (self.id, self.issuer) == (other.id, other.issuer)
    }

    /// The same principal, where a record that names no issuer means whom the other names.
    fn may_be(&self, other: &Hop) -> bool {
        self.id == other.id && (self.issuer == other.issuer || self.issuer.is_none() || other.issuer.is_none())
    }
}

/// A path of principals, root first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path {
    /// Principals.
    pub hops: Vec<Hop>,
}

impl Path {
    /// The weakest of its hops: longer is not worse.
    pub fn confidence(&self) -> Confidence {
        self.hops.iter().map(|h| h.confidence).min().unwrap_or_default()
    }

    /// Hops known from records, and all hops. The root is no hop.
    pub fn coverage(&self) -> (u32, u32) {
        let covered = self.hops.iter().skip(1).filter(|h| h.tier.is_covered()).count();
        (covered as u32, self.hops.len().saturating_sub(1) as u32)
    }

    /// Whether somebody is named as the root.
    pub fn is_rooted(&self) -> bool {
        self.hops.first().is_some_and(|h| h.id.is_some())
    }

    pub(super) fn add(&mut self, hop: Hop) {
        match self.hops.last_mut() {
            // Neighbours that are the same stand once, with the better evidence; coming back later is legal.
            Some(last) if last.is(&hop) => {
                if hop.confidence > last.confidence {
                    *last = hop;
                }
            }
            _ => self.hops.push(hop),
        }
    }

    fn starts_with(&self, other: &Path) -> bool {
        self.hops.len() >= other.hops.len() && self.hops.iter().zip(&other.hops).all(|(a, b)| a.may_be(b))
    }
}

/// The paths of a chain's events, parents first, each distinct path once.
pub(super) fn lay(store: &Store, exchanges: &Exchanges, rows: &[u32], order: &[u32], links: &mut [Link]) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    let mut known = ahash::HashMap::default();
    for at in order {
        let row = store.row_at(rows[*at as usize]);
        let own = own(store, row);
        let link = &links[*at as usize];
        let path = if row.via == Via::Act && row.proof.holds() && own.hops.len() > 1 {
            check_parent(&own, link, links, &paths, row.partial).inspect_mark(links, *at)
        } else if let Some(path) = exchanges.path(store, row, &own) {
            path
        } else if link.parent == NOBODY {
            own
        } else {
            let parent = &paths[links[link.parent as usize].path as usize];
            let (path, differs) = inherit(&own, parent, link.confidence);
            if differs {
                links[*at as usize].marks.set(Mark::RootDiffers);
            }
            path
        };
        // Most events have the path of one shortly before.
        let recent = paths.len().saturating_sub(4);
        let place = match paths[recent..].iter().position(|p| *p == path) {
            Some(i) => (recent + i) as u32,
            None => *known.entry(path.clone()).or_insert_with(|| {
                paths.push(path);
                paths.len() as u32 - 1
            }),
        };
        links[*at as usize].path = place;
    }
    paths
}

/// A path, and what its parent's path says against it.
struct Checked {
    path: Path,
    differs: bool,
    truncated: bool,
}

impl Checked {
    fn inspect_mark(self, links: &mut [Link], at: u32) -> Path {
        let marks = &mut links[at as usize].marks;
        if self.differs {
            marks.set(Mark::RootDiffers);
        }
        if self.truncated {
            marks.set(Mark::Truncated);
        }
        self.path
    }
}

/// Holds a path of its own against that of the parent: another root, or actors that are gone without a word.
fn check_parent(own: &Path, link: &Link, links: &[Link], paths: &[Path], partial: bool) -> Checked {
    let mut checked = Checked { path: own.clone(), differs: false, truncated: false };
    if link.parent == NOBODY {
        return checked;
    }
    let parent = &paths[links[link.parent as usize].path as usize];
    let (a, b) = (own.hops.first(), parent.hops.first());
    if let (Some(a), Some(b)) = (a, b) {
        let known = a.id.is_some() && b.id.is_some();
        checked.differs = known && !a.may_be(b);
        let from_act = parent.hops.iter().skip(1).all(|h| matches!(h.tier, Principal::P2 | Principal::P4));
        let other_actor = own.hops.last().zip(parent.hops.last()).is_some_and(|(x, y)| !x.may_be(y));
        // The caller of the parent may go on by itself: then its own path is the beginning of the parent's.
        let unrelated = !own.starts_with(parent) && !parent.starts_with(own);
        checked.truncated = known && !checked.differs && from_act && other_actor && unrelated && !partial;
    }
    checked
}

/// What an event says of itself.
pub(super) fn own(store: &Store, row: &Row) -> Path {
    let holds = row.proof.holds();
    let mut path = Path::default();
    let root = if row.subject.is_none() {
        Hop::new(Name::NONE, Name::NONE, Name::NONE, Principal::P10, 0)
    } else if holds {
        Hop::new(row.subject, row.issuer, row.subject_kind, Principal::P2, if row.key_bound { 970 } else { 930 })
    } else if row.subject_verified {
        Hop::new(row.subject, row.issuer, row.subject_kind, Principal::P7, 600)
    } else {
        Hop::new(row.subject, row.issuer, row.subject_kind, Principal::P9, 250)
    };
    path.add(root);
    let actors = store.actors_of(row);
    for (i, actor) in actors.iter().enumerate() {
        let is_current = i + 1 == actors.len();
        let (tier, confidence) = match row.via {
            Via::Act if holds && is_current => (Principal::P2, if row.key_bound { 970 } else { 930 }),
            Via::Act if holds && actor.issuer.is_some() && actor.issuer == row.issuer => (Principal::P4, 950),
            Via::Act if holds => (Principal::P4, 900),
            Via::Exchange if holds => (Principal::P3, 950),
            // The client of a verified token is known, and whoever stands behind it is not.
            _ if holds && is_current && row.client.is_some() && actor.id == row.client => (Principal::P7, 600),
            Via::Declared | Via::Unsaid | Via::Trace if actor.verified => (Principal::P7, 600),
            _ => (Principal::P9, 250),
        };
        path.add(Hop::new(actor.id, actor.issuer, actor.kind, tier, confidence));
    }
    if actors.is_empty() && row.client.is_some() && row.client != row.subject {
        let (tier, confidence) = if holds { (Principal::P7, 600) } else { (Principal::P9, 250) };
        path.add(Hop::new(row.client, Name::NONE, Name::NONE, tier, confidence));
    }
    path
}

/// The parent's path, extended by whom this event adds; and whether the event names another root.
fn inherit(own: &Path, parent: &Path, edge: Confidence) -> (Path, bool) {
    let (Some(root), Some(parent_root)) = (own.hops.first(), parent.hops.first()) else { return (own.clone(), false) };
    let differs = root.id.is_some() && parent_root.id.is_some() && !root.may_be(parent_root);
    // An event whose parent acts for somebody else has only its own word; an unknown parent has nothing to give.
    if differs && !fault::on(Fault::InheritAnyRoot) || parent_root.id.is_none() {
        return (own.clone(), differs);
    }
    let inherited = |hop: &Hop, mine: Option<&Hop>| {
        let from_parent = Hop { tier: Principal::P8, confidence: hop.confidence.min(edge), ..*hop };
        match mine.filter(|m| m.may_be(hop)) {
            Some(m) if m.confidence >= from_parent.confidence => Hop { issuer: hop.issuer.or(m.issuer), ..*m },
            _ => from_parent,
        }
    };
    let mut path = Path::default();
    if root.id.is_some() && own.hops.len() > 1 && parent.starts_with(own) {
        // Its caller is on the parent's path already: it says so itself, and nothing speaks against it.
        for (mine, hop) in own.hops.iter().zip(&parent.hops) {
            path.add(inherited(hop, Some(mine)));
        }
        return (path, false);
    }
    for (i, hop) in parent.hops.iter().enumerate() {
        path.add(inherited(hop, own.hops.get(i)));
    }
    if own.starts_with(parent) {
        for hop in &own.hops[parent.hops.len()..] {
            path.add(*hop);
        }
    } else if let Some(presenter) = own.hops.last().filter(|_| own.hops.len() > 1) {
        let is_new = path.hops.last().is_none_or(|last| !last.may_be(presenter));
        path.hops.extend(is_new.then_some(*presenter));
    }
    (path, false)
}
