//! What could have been reached: by grants, as far as they say.
//!
//! Guarantee: a grant counts only for the time that it and all it was derived from held together, and only as its parents'
//! terms allow: to whom, and how often it is passed on. It never allows more than what it was derived from. What nobody
//! recorded is unknown; when there are more ways than are looked at, nothing is said to be out of reach.

use crate::authority::{Authority, Held, Implied, Within};
use crate::chain::rules::Terms;
use catena_schemas::Micros;
use std::collections::{BTreeSet, HashMap};

/// Grants of a line.
const LINE_MAX: usize = 32;
/// Ways to hold one grant.
const WAYS_MAX: usize = 16;
/// Ways of one start.
pub(super) const HOLDINGS_MAX: usize = 4096;

/// A line of grants that held together, and what it allows.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) authority: Authority,
    pub(super) from: Micros,
    pub(super) until: Micros,
    /// Places of its grants, from the one that it begins with.
    pub(super) via: Vec<usize>,
    /// It was derived from a grant that nobody recorded.
    unsure: bool,
}

impl Holding {
    /// A judgement, which is not certain when it rests on a grant that nobody recorded.
    pub(super) fn sure(&self, within: Within) -> Within {
        if self.unsure { within.max(Within::Unknown) } else { within }
    }
}

/// All lines of grants.
pub(super) struct Holdings<'a> {
    pub(super) grants: Vec<Held<'a>>,
    by_id: HashMap<&'a str, Vec<usize>>,
    to: HashMap<&'a str, Vec<usize>>,
    roots: &'a BTreeSet<&'a str>,
    implied: &'a Implied,
    known: Vec<Option<Vec<Holding>>>,
    /// There are more than were looked at.
    pub(super) cut: bool,
}

impl<'a> Holdings<'a> {
    /// `roots` are those who act for themselves: what they grant begins with them, whatever they were granted.
    pub(super) fn of(terms: &'a Terms, roots: &'a BTreeSet<&'a str>) -> Holdings<'a> {
        let grants = terms.book.held();
        let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut to: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, held) in grants.iter().enumerate() {
            by_id.entry(held.grant.id.as_str()).or_default().push(at);
            to.entry(held.grant.grantee.as_str()).or_default().push(at);
        }
        let known = vec![None; grants.len()];
        Holdings { grants, by_id, to, roots, implied: &terms.implied, known, cut: false }
    }

    /// Every line that held at some instant between two, in an order of its own.
    pub(super) fn all(&mut self, from: Micros, until: Micros) -> Vec<Holding> {
        let mut all = Vec::new();
        for at in 0..self.grants.len() {
            self.hold(at, &mut Vec::new());
            let ways = self.known[at].iter().flatten();
            all.extend(ways.filter(|h| h.from <= until && h.until > from).cloned());
        }
        let ids = |h: &Holding| h.via.iter().map(|g| &self.grants[*g].grant.id).collect::<Vec<_>>();
        all.sort_by(|a, b| (a.via.len(), ids(a), &a.via).cmp(&(b.via.len(), ids(b), &b.via)));
        all
    }

    /// The ways to hold a grant.
    fn hold(&mut self, at: usize, open: &mut Vec<usize>) {
        if self.known[at].is_some() {
            return;
        }
        if open.len() == LINE_MAX {
            self.cut = true;
            return;
        }
        let held = self.grants[at];
        let above = match &held.grant.parent {
            Some(parent) => self.by_id.get(parent.as_str()),
            None => self.to.get(held.grant.grantor.as_str()),
        };
        let above: Vec<usize> =
            above.into_iter().flatten().copied().filter(|a| *a != at && !open.contains(a)).collect();
        let begins = above.is_empty() || self.roots.contains(held.grant.grantor.as_str());
        let unsure = held.grant.parent.as_ref().is_some_and(|p| !self.by_id.contains_key(p.as_str()));
        let mut ways = Vec::new();
        if held.grant.parent.is_none() && begins || unsure {
            let authority = held.grant.authority.clone();
            ways.push(Holding { authority, from: held.from, until: held.until, via: vec![at], unsure });
        }
        open.push(at);
        for one in above {
            self.hold(one, open);
            ways.extend(self.known[one].iter().flatten().filter_map(|h| self.pass_on(h, at)));
        }
        open.pop();
        if ways.len() > WAYS_MAX {
            self.cut = true;
            ways.truncate(WAYS_MAX);
        }
        self.known[at] = Some(ways);
    }

    /// A line that goes on, if its terms allow it and both held at once.
    fn pass_on(&self, line: &Holding, at: usize) -> Option<Holding> {
        let held = self.grants[at];
        let (from, until) = (line.from.max(held.from), line.until.min(held.until));
        let allowed = from < until && !line.via.contains(&at) && self.may_pass_on(line, &held.grant.grantee);
        allowed.then(|| Holding {
            authority: line.authority.meet(&held.grant.authority, self.implied),
            from,
            until,
            via: line.via.iter().copied().chain([at]).collect(),
            unsure: line.unsure,
        })
    }

    fn may_pass_on(&self, line: &Holding, to: &str) -> bool {
        let last = self.grants[*line.via.last().expect("a line has grants")].grant;
        let steps = |i: usize| (line.via.len() - i) as u32;
        last.delegatees.as_ref().is_none_or(|all| all.contains(to))
            && (0..line.via.len())
                .all(|i| self.grants[line.via[i]].grant.max_redelegation.is_none_or(|max| max >= steps(i)))
    }

    /// To whom a line may be passed on though nobody has: those that its last grant names. `None` stands for anybody, and
    /// only where the grant says how often.
    pub(super) fn open_to(&self, line: &Holding) -> Vec<Option<&'a str>> {
        let last = self.grants[*line.via.last().expect("a line has grants")].grant;
        match &last.delegatees {
            Some(all) => all.iter().map(String::as_str).filter(|to| self.may_pass_on(line, to)).map(Some).collect(),
            None if last.max_redelegation.is_some() && self.may_pass_on(line, "") => vec![None],
            None => Vec::new(),
        }
    }

    /// In words: `grant g2, from g1`.
    pub(super) fn name(&self, line: &Holding) -> String {
        let ids: Vec<&str> = line.via.iter().rev().map(|g| self.grants[*g].grant.id.as_str()).collect();
        match ids.as_slice() {
            [one] => format!("grant {one}"),
            [one, from @ ..] => format!("grant {one}, from {}", from.join(", from ")),
            [] => String::new(),
        }
    }
}

/// The best answer of several lines, the first of the best.
pub(super) fn best<'h>(
    lines: impl Iterator<Item = &'h Holding>,
    judge: impl Fn(&Holding) -> Within,
) -> Option<(Within, &'h Holding)> {
    let mut found: Option<(Within, &Holding)> = None;
    for line in lines {
        let within = line.sure(judge(line));
        if found.is_none_or(|(best, _)| within < best) {
            found = Some((within, line));
        }
        if within == Within::In {
            break;
        }
    }
    found
}
