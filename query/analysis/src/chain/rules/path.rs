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
use super::fact::Via;
use super::judge::Judge;
use super::store::{Bearer, NOBODY, Store};
use super::texts::Name;
use super::{Link, Mark};
use crate::fault::{self, Fault};
use ahash::{HashMap, RandomState};
use hashbrown::HashTable;

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
    /// Principals are missing before the last, because there were more than [`Settings::hops_max`](super::Settings).
    pub is_capped: bool,
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

    /// Leaves out what stands before the last hop, from a length on: the root, the first hops and the presenter stay.
    pub(super) fn cap(&mut self, hops_max: usize) {
        if self.hops.len() > hops_max.max(2) {
            let from = hops_max.max(2) - 1;
            self.hops.drain(from..self.hops.len() - 1);
            self.is_capped = true;
        }
    }

    fn starts_with(&self, other: &Path) -> bool {
        self.hops.len() >= other.hops.len() && self.hops.iter().zip(&other.hops).all(|(a, b)| a.may_be(b))
    }
}

/// What is kept while the paths of a chain are laid: whoever stands behind many calls is worked out once.
#[derive(Debug, Default)]
pub(super) struct Laying {
    /// What bearers say of themselves.
    owns: Vec<Own>,
    own_of: HashMap<u32, u32>,
    /// What was inherited: by own path, parent's path and link.
    inherited: HashMap<(u32, u32, Confidence), (u32, bool)>,
    places: HashTable<(u64, u32)>,
    paths: Vec<Path>,
    hasher: RandomState,
}

/// What a bearer says of itself.
#[derive(Debug)]
struct Own {
    bearer: u32,
    path: Path,
    /// Its place among the chain's paths, once an event has it.
    place: u32,
}

impl Laying {
    /// The paths of a chain's events, each distinct path once. `order` has parents before children.
    pub(super) fn lay(
        &mut self,
        judge: &Judge<'_>,
        rows: &[u32],
        order: impl Iterator<Item = u32>,
        links: &mut [Link],
    ) -> Vec<Path> {
        let (store, exchanges, hops_max) = (judge.store, judge.exchanges, judge.settings.hops_max as usize);
        self.owns.clear();
        empty(&mut self.own_of);
        empty(&mut self.inherited);
        self.places.clear();
        for at in order {
            let row = store.row_at(rows[at as usize]);
            let own = self.own(store, row.bearer, hops_max);
            let bearer = store.bearer_at(row.bearer);
            let link = links[at as usize];
            let own_path = &self.owns[own as usize].path;
            let speaks = bearer.via == Via::Act && bearer.proof.holds() && own_path.hops.len() > 1;
            let place = if speaks && link.parent != NOBODY {
                let parent = &self.paths[links[link.parent as usize].path as usize];
                check_parent(own_path, parent, bearer.partial, &mut links[at as usize]);
                self.place_of_own(own)
            } else if speaks {
                self.place_of_own(own)
            } else if let Some(path) = exchanges.path(store, row, own_path, hops_max) {
                self.place_of(path)
            } else if link.parent == NOBODY {
                self.place_of_own(own)
            } else {
                let of_parent = links[link.parent as usize].path;
                let (place, differs) = self.place_of_inherited(own, of_parent, link.confidence, hops_max);
                if differs {
                    links[at as usize].marks.set(Mark::RootDiffers);
                }
                place
            };
            if self.paths[place as usize].is_capped {
                links[at as usize].marks.set(Mark::PathCapped);
            }
            links[at as usize].path = place;
        }
        std::mem::take(&mut self.paths)
    }

    fn own(&mut self, store: &Store, bearer: u32, hops_max: usize) -> u32 {
        // Most events have the bearer of one shortly before.
        let recent = self.owns.len().saturating_sub(4);
        if let Some(at) = self.owns[recent..].iter().position(|o| o.bearer == bearer) {
            return (recent + at) as u32;
        }
        if let Some(at) = self.own_of.get(&bearer).filter(|_| recent > 0) {
            return *at;
        }
        let at = self.owns.len() as u32;
        self.owns.push(Own { bearer, path: own(store, store.bearer_at(bearer), hops_max), place: NOBODY });
        self.own_of.insert(bearer, at);
        at
    }

    fn place_of_own(&mut self, own: u32) -> u32 {
        let known = self.owns[own as usize].place;
        if known != NOBODY {
            return known;
        }
        let place = self.place_of(self.owns[own as usize].path.clone());
        self.owns[own as usize].place = place;
        place
    }

    fn place_of_inherited(&mut self, own: u32, parent: u32, edge: Confidence, hops_max: usize) -> (u32, bool) {
        if let Some(known) = self.inherited.get(&(own, parent, edge)) {
            return *known;
        }
        let (path, differs) = inherit(&self.owns[own as usize].path, &self.paths[parent as usize], edge, hops_max);
        let found = (self.place_of(path), differs);
        self.inherited.insert((own, parent, edge), found);
        found
    }

    fn place_of(&mut self, path: Path) -> u32 {
        let hash = self.hasher.hash_one(&path);
        let paths = &self.paths;
        if let Some((_, place)) = self.places.find(hash, |(h, at)| *h == hash && paths[*at as usize] == path) {
            return *place;
        }
        let place = self.paths.len() as u32;
        self.paths.push(path);
        self.places.insert_unique(hash, (hash, place), |(h, _)| *h);
        place
    }
}

/// Empties a map. One that a large chain left would take long to empty for every small one.
fn empty<K, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 1024 { *map = HashMap::default() } else { map.clear() }
}

/// Holds a path of its own against that of the parent: another root, or actors that are gone without a word.
fn check_parent(own: &Path, parent: &Path, is_partial: bool, link: &mut Link) {
    let (Some(a), Some(b)) = (own.hops.first(), parent.hops.first()) else { return };
    let known = a.id.is_some() && b.id.is_some();
    let differs = known && !a.may_be(b);
    if differs {
        link.marks.set(Mark::RootDiffers);
    }
    if !known || differs || is_partial {
        return;
    }
    let from_act = parent.hops.iter().skip(1).all(|h| matches!(h.tier, Principal::P2 | Principal::P4));
    let other_actor = own.hops.last().zip(parent.hops.last()).is_some_and(|(x, y)| !x.may_be(y));
    // The caller of the parent may go on by itself: then its own path is the beginning of the parent's.
    if from_act && other_actor && !own.starts_with(parent) && !parent.starts_with(own) {
        link.marks.set(Mark::Truncated);
    }
}

/// What a bearer says of itself.
pub(super) fn own(store: &Store, row: &Bearer, hops_max: usize) -> Path {
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
    path.cap(hops_max);
    path
}

/// The parent's path, extended by whom this event adds; and whether the event names another root.
fn inherit(own: &Path, parent: &Path, edge: Confidence, hops_max: usize) -> (Path, bool) {
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
    let mut path = Path { is_capped: own.is_capped || parent.is_capped, ..Path::default() };
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
    path.cap(hops_max);
    (path, false)
}
