//! Rows of what was reached: each thing once, with the decisions that led to it.
//!
//! Guarantee: a decision counts once for each place that it reached, whatever way it was reached by; only decisions of the
//! span count, though the way may lead through others.

use super::did::Calls;
use super::judge::Verdict;
use super::{Row, Span, TOKENS_MAX, WORK_MAX, What};
use crate::authority::{Authority, Within};
use crate::chain::rules::pattern::Kind;
use crate::chain::rules::store::Span as List;
use crate::chain::rules::{Chain, Hop, Name, Store, operation};
use catena_schemas::{Micros, Outcome};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a row is about: principals by id, whatever their kind; tools by server.
pub(super) type Key = (bool, Option<What>, String, String);

pub(super) fn principal(id: &str) -> Key {
    (false, None, String::new(), id.to_owned())
}

pub(super) fn thing(what: What, server: &str, id: &str) -> Key {
    (true, Some(what), server.to_owned(), id.to_owned())
}

#[derive(Default)]
pub(super) struct Tally {
    /// The kind of a principal, as far as it is known.
    pub(super) what: Option<What>,
    by_outcome: BTreeMap<Outcome, u64>,
    operations: HashSet<(usize, u32)>,
    went_through: bool,
    /// Time, source and event of the first.
    first: Option<(bool, i64, Name, Name)>,
    times: Option<(i64, i64)>,
    pub(super) distance: Option<i64>,
}

/// A start, in the names of the store.
pub(super) enum Begin {
    Root(Name),
    Actor(Name),
    /// Its grantee; and the grants that count, each with its own.
    Grant {
        grantee: Name,
        grants: HashMap<Name, Name>,
    },
}

/// What was reached.
pub(super) struct Found<'a> {
    pub(super) store: &'a Store,
    pub(super) span: Span,
    pub(super) rows: BTreeMap<Key, Tally>,
    /// What tokens of the start's calls say, each once.
    pub(super) tokens: Vec<Authority>,
    pub(super) cut: bool,
}

impl<'a> Found<'a> {
    pub(super) fn downwards(&mut self, chain: &'a Chain, begin: &Begin) {
        let calls = Calls::of(self.store, chain);
        let reached = calls.reached(&|event| self.starts(&calls, event, begin));
        if reached.iter().all(Option::is_none) {
            return;
        }
        for event in 0..chain.links.len() {
            let row = self.store.row_at(chain.links[event].row);
            if !self.span.holds(row.time) {
                continue;
            }
            let own = self.starts(&calls, event, begin);
            let distances = calls.distances(event, &own, &reached);
            if !own.is_empty() {
                self.token(chain, event);
            }
            for (place, distance) in distances.into_iter().enumerate() {
                let Some(distance) = distance else { continue };
                for (key, what) in self.names(&calls, event, place) {
                    self.count(key, what, chain, event, distance);
                }
            }
        }
    }

    /// Places of the start on the path of a call.
    fn starts(&self, calls: &Calls<'_>, event: usize, begin: &Begin) -> Vec<i64> {
        let hops = calls.hops(event);
        let at = |id: Name| -> Vec<i64> {
            let is = |(i, h): (usize, &Hop)| (id.is_some() && h.id == id).then_some(i as i64);
            hops.iter().enumerate().filter_map(is).collect()
        };
        match begin {
            Begin::Root(id) => at(*id).into_iter().filter(|i| *i == 0).collect(),
            Begin::Actor(id) => at(*id),
            Begin::Grant { grantee, grants } => {
                let row = self.store.row_at(calls.chain.links[event].row);
                let Some(named) = grants.get(&self.store.rare_of(row).grant) else {
                    return Vec::new();
                };
                // The grant stands before its grantee; where that one is not on the path, before whoever called.
                let place = at(*grantee).first().copied().or_else(|| at(*named).last().copied());
                vec![place.unwrap_or(hops.len() as i64 - 1) - 1]
            }
        }
    }

    /// What stands at a place of a call: a principal, the server, or the tool and the resources.
    fn names(&self, calls: &Calls<'_>, event: usize, place: usize) -> Vec<(Key, Option<What>)> {
        let (chain, hops) = (calls.chain, calls.hops(event));
        let row = self.store.row_at(chain.links[event].row);
        if let Some(hop) = hops.get(place) {
            let id = self.store.text(hop.id);
            let what = what_of(Kind::of(self.store.text(hop.kind), id), place == 0);
            return if id.is_empty() { Vec::new() } else { vec![(principal(id), Some(what))] };
        }
        let server = self.store.text(row.server);
        if place == hops.len() && row.server.is_some() {
            return vec![(thing(What::Server, "", server), None)];
        }
        let mut names = vec![(thing(What::Tool, server, self.store.text(row.tool)), None)];
        let resources = self.store.names_of(self.store.bearer_of(row).resource).iter().map(|n| self.store.text(*n));
        names.extend(resources.map(|r| (thing(What::Resource, "", r), None)));
        names
    }

    fn count(&mut self, key: Key, what: Option<What>, chain: &Chain, event: usize, distance: i64) {
        let link = &chain.links[event];
        let row = self.store.row_at(link.row);
        let through = operation::forwarded(row);
        let tally = self.rows.entry(key).or_default();
        tally.what = match (tally.what, what) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        *tally.by_outcome.entry(chain.outcome(self.store, link)).or_default() += 1;
        let first_row = chain.links.first().map_or(0, |l| l.row as usize);
        tally.operations.insert((first_row, link.operation));
        tally.went_through |= through;
        let (first, last) = tally.times.unwrap_or((row.time, row.time));
        tally.times = Some((first.min(row.time), last.max(row.time)));
        let this = (!through, row.time, row.source, row.event);
        let order =
            |x: &(bool, i64, Name, Name)| (x.0, x.1, self.store.text(x.2).to_owned(), self.store.text(x.3).to_owned());
        if tally.first.is_none_or(|held| (this.0, this.1) <= (held.0, held.1) && order(&this) < order(&held)) {
            tally.first = Some(this);
        }
        tally.distance = Some(tally.distance.map_or(distance, |d| d.min(distance)));
    }

    fn token(&mut self, chain: &Chain, event: usize) {
        let bearer = self.store.bearer_of(self.store.row_at(chain.links[event].row));
        let set = |span: List| {
            span.said.then(|| self.store.names_of(span).iter().map(|n| self.store.text(*n).to_owned()).collect())
        };
        let token = Authority { scope: set(bearer.scope), resource: set(bearer.resource), ..Authority::default() };
        if !token.is_unknown() && self.tokens.len() < TOKENS_MAX && !self.tokens.contains(&token) {
            self.tokens.push(token);
        }
    }

    /// Who reached a tool: each who stands on a path of the chain is a start of its own.
    pub(super) fn upwards(&mut self, chain: &'a Chain, server: Option<&str>, tool: Option<&str>) {
        let is = |wanted: Option<&str>, name: Name| wanted.is_none_or(|w| name.is_some() && self.store.text(name) == w);
        let target = |event: usize| {
            let row = self.store.row_at(chain.links[event].row);
            let named = server.is_some() && row.server.is_some() || tool.is_some() && row.tool.is_some();
            named && is(server, row.server) && is(tool, row.tool) && self.span.holds(row.time)
        };
        let targets: Vec<usize> = (0..chain.links.len()).filter(|e| target(*e)).collect();
        if targets.is_empty() {
            return;
        }
        let calls = Calls::of(self.store, chain);
        let mut who: BTreeMap<&str, What> = BTreeMap::new();
        for path in &chain.paths {
            for (i, hop) in path.hops.iter().enumerate().filter(|(_, h)| h.id.is_some()) {
                let id = self.store.text(hop.id);
                let what = what_of(Kind::of(self.store.text(hop.kind), id), i == 0);
                who.entry(id).and_modify(|w| *w = (*w).min(what)).or_insert(what);
            }
        }
        let most = WORK_MAX / chain.links.len();
        self.cut |= who.len() > most;
        for (id, what) in who.into_iter().take(most) {
            let begin = Begin::Actor(self.store.name(id).unwrap_or_default());
            let reached = calls.reached(&|event| self.starts(&calls, event, &begin));
            let counted: Vec<(usize, i64)> = targets
                .iter()
                .filter_map(|event| {
                    let distances = calls.distances(*event, &self.starts(&calls, *event, &begin), &reached);
                    let back = usize::from(tool.is_none() && self.store.row_at(chain.links[*event].row).tool.is_some());
                    Some((*event, distances[distances.len() - 1 - back]?))
                })
                .collect();
            for (event, distance) in counted {
                self.count(principal(id), Some(what), chain, event, distance);
            }
        }
    }
}

pub(super) fn what_of(kind: Kind, is_root: bool) -> What {
    match kind {
        _ if is_root => What::Requester,
        Kind::Client => What::Client,
        Kind::Agent => What::Agent,
        _ => What::Actor,
    }
}

impl Found<'_> {
    /// Rows of all that was reached, or may have been.
    pub(super) fn finish(&mut self, judge: impl Fn(&Key) -> Verdict) -> Vec<Row> {
        let mut rows = Vec::new();
        for (key, tally) in std::mem::take(&mut self.rows) {
            let (could, why) = judge(&key);
            let was_decided = !tally.by_outcome.is_empty();
            if !was_decided && could == Within::Out {
                continue;
            }
            let what = key.1.or(tally.what).unwrap_or_else(|| what_of(Kind::of("", &key.3), false));
            let reached = if key.1.is_some() { tally.went_through } else { was_decided };
            rows.push(Row {
                what,
                server: Some(key.2).filter(|s| !s.is_empty()),
                id: key.3,
                reached,
                by_outcome: tally.by_outcome,
                operations: tally.operations.len() as u64,
                first: tally.times.map(|t| Micros(t.0)),
                last: tally.times.map(|t| Micros(t.1)),
                example: tally.first.map(|f| self.store.text(f.3).to_owned()),
                distance: tally.distance.map(|d| d.max(0) as u32),
                could,
                why,
                beyond: reached && could == Within::Out,
            });
        }
        rows.sort_by(|a, b| (a.what, &a.server, &a.id).cmp(&(b.what, &b.server, &b.id)));
        rows
    }
}
