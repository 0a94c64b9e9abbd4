//! Parents: which call led to which.
//!
//! Guarantee: every event has at most one primary parent, and following parents ends; with the secondary parents it is
//! still without a cycle. Time orders candidates and never forbids one: clocks are wrong more often than references.

use super::evidence::{Call, Witnesses};
use super::keys::{self, Index, Key, Use};
use super::store::{NOBODY, Store};
use super::{Link, Mark, Secondary, Settings, Standing};
use crate::fault::{self, Fault};

/// A parent that a reference resolved to, as a place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) tier: Call,
    pub(super) by_client: bool,
    pub(super) parent: u32,
}

/// What the references of a chain say.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Candidates of all events, in order of events; `starts` has one more entry than there are events.
    pub(super) candidates: Vec<Candidate>,
    pub(super) starts: Vec<u32>,
    /// References that no event answers to.
    pub(super) ghosts: Vec<(u32, Key)>,
}

impl Said {
    pub(super) fn of(&self, at: u32) -> &[Candidate] {
        &self.candidates[self.starts[at as usize] as usize..self.starts[at as usize + 1] as usize]
    }
}

impl Said {
    /// Reads the references of a chain's rows, which are in order. `place_of` has the place of each row in the chain.
    pub(super) fn read(&mut self, store: &Store, index: &Index, rows: &[u32], place_of: &[u32]) {
        let said = self;
        said.candidates.clear();
        said.starts.clear();
        said.ghosts.clear();
        said.starts.push(0);
        for (at, row) in rows.iter().enumerate() {
            let r = store.row_at(*row);
            let start = said.candidates.len();
            keys::keys(store, r, |key, of| {
                let (tier, is_reference) = match of {
                    Use::Refers(tier) => (tier, true),
                    Use::Shares(tier) => (tier, false),
                    Use::Own | Use::Groups(_) => return,
                };
                let held = index.get(key).expect("a row's keys are entered with it");
                // Of several attempts the first leads the others, and nobody leads it.
                let parent = if is_reference { held.owner(*row) } else { Some(held.best).filter(|b| b != row) };
                match parent {
                    Some(parent) => said.candidates.push(Candidate {
                        tier,
                        by_client: tier == Call::C2 && r.parent_by_client,
                        parent: place_of[parent as usize],
                    }),
                    None if is_reference && held.best == NOBODY => said.ghosts.push((at as u32, key)),
                    None => {}
                }
            });
            // The best first: tier, then confidence, then the earliest parent. Places are in the order of events.
            said.candidates[start..]
                .sort_unstable_by_key(|c| (c.tier, std::cmp::Reverse(c.tier.confidence(c.by_client)), c.parent));
            said.starts.push(said.candidates.len() as u32);
        }
    }

    /// Whether an event refers to something else than its primary parent.
    pub(super) fn is_divided(&self, links: &[Link]) -> bool {
        links.iter().enumerate().any(|(at, l)| self.of(at as u32).iter().any(|c| c.parent != l.parent))
    }
}

/// Gives every event its primary parent, cuts rings, and says how each event stands.
pub(super) fn plant(said: &Said, links: &mut [Link], is_known: impl Fn(u32) -> bool) {
    for at in 0..links.len() as u32 {
        let candidates = said.of(at);
        let link = &mut links[at as usize];
        if let Some(best) = candidates.first() {
            (link.parent, link.tier) = (best.parent, Some(best.tier));
            if candidates.iter().any(|c| c.parent != best.parent) {
                link.marks.set(Mark::Several);
            }
        }
    }
    let mut parents: Vec<u32> = links.iter().map(|l| l.parent).collect();
    let cut = cut_rings(&mut parents, |ring| {
        if fault::on(Fault::RingCutAnywhere) {
            return ring[0];
        }
        // The worst tier, then the earliest: places are in the order of events.
        *ring.iter().max_by_key(|at| (links[**at as usize].tier, std::cmp::Reverse(**at))).expect("a ring has members")
    });
    for at in cut {
        let link = &mut links[at as usize];
        (link.parent, link.tier) = (NOBODY, None);
        link.standing = Standing::Cut;
        if let Some(next) = said.of(at).get(1).filter(|_| fault::on(Fault::SecondChoice)) {
            (link.parent, link.tier) = (next.parent, Some(next.tier));
        }
    }
    for (at, _) in &said.ghosts {
        links[*at as usize].marks.set(Mark::Missing);
    }
    for (at, link) in links.iter_mut().enumerate() {
        link.standing = match link.standing {
            _ if link.parent != NOBODY => Standing::Child,
            Standing::Cut => Standing::Cut,
            _ if link.marks.has(Mark::Missing) => Standing::Orphan,
            _ if is_known(at as u32) => Standing::Root,
            _ => Standing::Unknown,
        };
    }
}

/// Whether every parent stands before its child. Then there is no ring, and children can be taken as they come.
pub(super) fn is_forward(mut parents: impl Iterator<Item = u32>) -> bool {
    let mut at = 0;
    parents.all(|parent| {
        at += 1;
        parent == NOBODY || parent < at - 1
    })
}

/// Cuts every ring of parents at the member that `weakest` names; the members whose parent was cut. Each ring is walked
/// once, however long it is.
pub(super) fn cut_rings(parents: &mut [u32], weakest: impl Fn(&[u32]) -> u32) -> Vec<u32> {
    if is_forward(parents.iter().copied()) {
        return Vec::new();
    }
    const NEVER: u32 = u32::MAX;
    const DONE: u32 = u32::MAX - 1;
    // Place in the current walk, or one of the two above.
    let mut seen = vec![NEVER; parents.len()];
    let (mut walk, mut cut): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    for start in 0..parents.len() as u32 {
        let mut at = start;
        while at != NOBODY && seen[at as usize] == NEVER {
            seen[at as usize] = walk.len() as u32;
            walk.push(at);
            at = parents[at as usize];
        }
        if at != NOBODY && seen[at as usize] != DONE {
            cut.push(weakest(&walk[seen[at as usize] as usize..]));
        }
        for at in walk.drain(..) {
            seen[at as usize] = DONE;
        }
    }
    for at in &cut {
        parents[*at as usize] = NOBODY;
    }
    cut
}

/// A walk over a forest: parents before children, and for each member the stretch of its descendants.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Members, parents first; siblings in the order of events.
    pub(super) order: Vec<u32>,
    enter: Vec<u32>,
    leave: Vec<u32>,
}

impl Walk {
    /// Walks the forest. Parents must be without rings.
    pub(super) fn over(links: &[Link]) -> Walk {
        let n = links.len();
        let mut next = vec![NOBODY; n];
        let mut first = vec![NOBODY; n];
        let mut roots = Vec::new();
        for at in (0..n as u32).rev() {
            match links[at as usize].parent {
                NOBODY => roots.push(at),
                parent => {
                    next[at as usize] = first[parent as usize];
                    first[parent as usize] = at;
                }
            }
        }
        let mut walk = Walk { order: Vec::with_capacity(n), enter: vec![0; n], leave: vec![0; n] };
        for root in roots.into_iter().rev() {
            let mut at = root;
            loop {
                walk.enter[at as usize] = walk.order.len() as u32;
                walk.order.push(at);
                if first[at as usize] != NOBODY {
                    at = first[at as usize];
                    continue;
                }
                // Up, until somebody has a sibling.
                loop {
                    walk.leave[at as usize] = walk.order.len() as u32;
                    if at == root || next[at as usize] != NOBODY {
                        break;
                    }
                    at = links[at as usize].parent;
                }
                if at == root {
                    break;
                }
                at = next[at as usize];
            }
        }
        walk
    }

    /// Whether `a` is `b`, or leads to it.
    pub(super) fn leads_to(&self, a: u32, b: u32) -> bool {
        self.enter[a as usize] <= self.enter[b as usize] && self.leave[b as usize] <= self.leave[a as usize]
    }
}

/// Confidence of each primary link, and marks for witnesses that contradict one another.
pub(super) fn weigh(store: &Store, said: &Said, rows: &[u32], walk: &Walk, links: &mut [Link]) {
    for at in 0..links.len() as u32 {
        let link = &mut links[at as usize];
        if link.parent == NOBODY {
            continue;
        }
        let mut witnesses = Witnesses::default();
        for c in said.of(at) {
            if c.parent == link.parent {
                witnesses.agree(c.tier.family(), c.tier.confidence(c.by_client));
            }
        }
        let chosen = link.tier.map(Call::family);
        for c in said.of(at).iter().filter(|c| c.parent != link.parent) {
            let related = walk.leads_to(c.parent, link.parent) || walk.leads_to(link.parent, c.parent);
            if !related && Some(c.tier.family()) != chosen {
                witnesses.object(c.tier.family());
                link.marks.set(Mark::Conflict);
            }
        }
        let (child, parent) = (store.row_at(rows[at as usize]), store.row_at(rows[link.parent as usize]));
        let (few, of_parent) = (store.rare_of(child), store.rare_of(parent));
        let same_issuer = child.issuer == parent.issuer;
        let same = |a: super::texts::Name, b| a == b && a.is_some();
        for (agrees, tier) in [
            (same_issuer && (same(few.txn, of_parent.txn) || same(few.acti, of_parent.acti)), Call::C5),
            (child.principal == parent.principal && same(child.trace, parent.trace), Call::C6),
            (child.caller == parent.caller && same(child.session, parent.session), Call::C7),
        ] {
            if agrees {
                witnesses.agree(tier.family(), tier.confidence(false));
            }
        }
        link.confidence = witnesses.confidence();
    }
}

/// Further references as secondary parents, in the order of events; those that would close a cycle are skipped. The
/// second number is how many were skipped.
pub(super) fn joins(said: &Said, links: &[Link], walk: &Walk, settings: &Settings) -> (Vec<Secondary>, u32) {
    let mut kept: Vec<Secondary> = Vec::new();
    let mut skipped = 0;
    // Any order in which parents come first; edges that agree with it cannot close a cycle.
    let mut place: Vec<u32> = Vec::new();
    let mut order: Vec<u32> = Vec::new();
    let mut below: Vec<Vec<u32>> = Vec::new();
    let mut steps = settings.join_steps as usize * links.len();
    for at in 0..links.len() as u32 {
        let link = &links[at as usize];
        // An event whose ring was cut gets no second choice.
        if link.standing == Standing::Cut {
            continue;
        }
        let mut last = NOBODY;
        for c in said.of(at) {
            if c.parent == link.parent
                || c.parent == last
                || kept.iter().rev().take(8).any(|s| (s.child, s.parent) == (at, c.parent))
            {
                continue;
            }
            last = c.parent;
            if place.is_empty() {
                place = vec![0; links.len()];
                below = vec![Vec::new(); links.len()];
                order.clone_from(&walk.order);
                for (i, member) in walk.order.iter().enumerate() {
                    place[*member as usize] = i as u32;
                }
                for (child, link) in links.iter().enumerate().filter(|(_, l)| l.parent != NOBODY) {
                    below[link.parent as usize].push(child as u32);
                }
            }
            let against = place[c.parent as usize] > place[at as usize];
            if against
                && !fault::on(Fault::JoinsUnchecked)
                && !reorder(&mut place, &mut order, &below, c.parent, at, &mut steps)
            {
                skipped += 1;
                continue;
            }
            below[c.parent as usize].push(at);
            kept.push(Secondary { child: at, parent: c.parent, tier: c.tier });
        }
    }
    (kept, skipped)
}

/// Makes room for an edge against the order (Pearce and Kelly): everything that `child` leads to, and that stands before
/// `parent`, moves behind it. False when `child` leads to `parent`.
fn reorder(
    place: &mut [u32],
    order: &mut [u32],
    below: &[Vec<u32>],
    parent: u32,
    child: u32,
    steps: &mut usize,
) -> bool {
    let (from, limit) = (place[child as usize], place[parent as usize]);
    // What stands between them is moved one by one: that is work too.
    let between = (limit - from) as usize + 1;
    if *steps < between {
        *steps = 0;
        return false;
    }
    let mut stack = vec![child];
    let mut seen = ahash::HashSet::default();
    seen.insert(child);
    while let Some(at) = stack.pop() {
        for next in &below[at as usize] {
            if *steps == 0 || *next == parent {
                return false;
            }
            *steps -= 1;
            if place[*next as usize] < limit && seen.insert(*next) {
                stack.push(*next);
            }
        }
    }
    // What stands between the two keeps its order; what was found goes behind the rest, in its own.
    let between = &mut order[from as usize..=limit as usize];
    *steps = steps.saturating_sub(between.len());
    let (moved, kept): (Vec<u32>, Vec<u32>) = between.iter().partition(|m| seen.contains(m));
    for (i, member) in kept.into_iter().chain(moved).enumerate() {
        between[i] = member;
        place[member as usize] = from + i as u32;
    }
    true
}
