//! One chain judged, and all of them.
//!
//! Guarantee: a chain is judged from its own rows and the keys they hold; no other chain's rows matter (but for who showed
//! a token that was exchanged). So chains can be judged in any order, alone or at once.

use super::exchange::{Exchanged, Exchanges};
use super::forest::{Said, Walk, is_forward, joins, plant, weigh};
use super::keys::{self, Index, Key, Kind, Sets, Use, window};
use super::path::Laying;
use super::store::{NOBODY, Row, Store};
use super::texts::Name;
use super::ties::Witnesses;
use super::{Chain, Ghost, Link, Mark, NamedBy, Settings, Standing, operation};
use sha2::{Digest, Sha256};

/// All chains of a tenant.
#[derive(Debug)]
pub struct Chains {
    /// In the order of their first events.
    pub chains: Vec<Chain>,
}

/// Rebuilds all chains of a store. `tenant` enters the ids; `exchanges` are (issued, subject, actor) token references.
pub fn rebuild(tenant: &str, store: &mut Store, exchanged: &[Exchanged], settings: &Settings) -> Chains {
    rebuild_some(tenant, store, exchanged, &Witnesses::default(), settings)
}

/// Rebuilds the chains of a store that holds some of a tenant's: each whole. `exchanged` are those exchanges at least that its
/// tokens came from. Witnesses of theirs are told to the store as well, and stand in no chain unless they were there before.
pub fn rebuild_some(
    tenant: &str,
    store: &mut Store,
    exchanged: &[Exchanged],
    witnesses: &Witnesses,
    settings: &Settings,
) -> Chains {
    let own = store.len();
    witnesses.tell(store, exchanged);
    let mut exchanges = Exchanges::default();
    for (issued, subject, actor) in exchanged {
        exchanges.enter(store, issued, subject, actor.as_deref());
    }
    exchanges.show(store, 0..store.len() as u32);
    // What ties events and what lies near know nothing of each other.
    let ((index, mut sets), (order, near)) = std::thread::scope(|scope| {
        let store = &*store;
        let other = (settings.threads > 1).then(|| scope.spawn(|| neighbours(store, own, settings)));
        let tied = tied(store, own);
        let near = other.map(|other| other.join().expect("sorting does not panic"));
        (tied, near.unwrap_or_else(|| neighbours(store, own, settings)))
    });
    for (a, b) in near {
        sets.join(a, b);
    }
    let (rows, starts) = gather(&order, &mut sets);
    drop(order);
    let judge = Judge { tenant, store, index: &index, exchanges: &exchanges, settings };
    Chains { chains: judge.all(&rows, &starts) }
}

/// The keys of the first rows, and what they tie together.
fn tied(store: &Store, rows: usize) -> (Index, Sets) {
    let (mut index, mut sets) = (Index::with_room_for(store), Sets::default());
    sets.grow(rows);
    for row in 0..rows as u32 {
        index.enter(store, row, |other| {
            sets.join(row, other);
        });
    }
    (index, sets)
}

/// The first rows in the order of events, and the pairs that nearness ties.
fn neighbours(store: &Store, rows: usize, settings: &Settings) -> (Vec<u32>, Vec<(u32, u32)>) {
    let (order, mut near) = (in_order(store, rows), Vec::new());
    keys::near(store, settings, order.iter().copied(), |a, b| near.push((a, b)));
    (order, near)
}

/// The first rows, in the order of events. Most are told in it, or nearly.
fn in_order(store: &Store, rows: usize) -> Vec<u32> {
    let mut order: Vec<(i64, u32)> = store.rows[..rows].iter().enumerate().map(|(i, r)| (r.time, i as u32)).collect();
    // This sort finds what is in order already.
    order.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| store.order(a.1, b.1)));
    order.into_iter().map(|(_, row)| row).collect()
}

/// Rows by chain, each in order, chains in the order of their first rows; and where each chain starts.
fn gather(order: &[u32], sets: &mut Sets) -> (Vec<u32>, Vec<u32>) {
    let mut number = vec![NOBODY; order.len()];
    let mut sizes: Vec<u32> = Vec::new();
    for row in order {
        let set = sets.find(*row) as usize;
        if number[set] == NOBODY {
            number[set] = sizes.len() as u32;
            sizes.push(0);
        }
        sizes[number[set] as usize] += 1;
    }
    let mut starts = Vec::with_capacity(sizes.len() + 1);
    starts.push(0);
    for size in &sizes {
        starts.push(starts[starts.len() - 1] + size);
    }
    let mut next = starts.clone();
    let mut rows = vec![0; order.len()];
    for row in order {
        let at = &mut next[number[sets.find(*row) as usize] as usize];
        rows[*at as usize] = *row;
        *at += 1;
    }
    (rows, starts)
}

/// Room that the judging of one chain needs, kept for the next; one per thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Places of rows in the chain at hand.
    place_of: Vec<u32>,
    said: Said,
    laying: Laying,
}

/// What judging needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    pub(super) tenant: &'a str,
    pub(super) store: &'a Store,
    pub(super) index: &'a Index,
    pub(super) exchanges: &'a Exchanges,
    pub(super) settings: &'a Settings,
}

impl Judge<'_> {
    fn all(&self, rows: &[u32], starts: &[u32]) -> Vec<Chain> {
        let count = starts.len() - 1;
        let threads = self.settings.threads.clamp(1, 64).min(count.max(1));
        let some = |from: usize, to: usize| {
            let mut scratch = Scratch::default();
            (from..to)
                .map(|c| self.one(&rows[starts[c] as usize..starts[c + 1] as usize], &mut scratch))
                .collect::<Vec<_>>()
        };
        if threads == 1 {
            return some(0, count);
        }
        let per_thread = count.div_ceil(threads);
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|t| (t * per_thread, ((t + 1) * per_thread).min(count)))
                .map(|(from, to)| scope.spawn(move || some(from.min(to), to)))
                .collect();
            parts.into_iter().flat_map(|p| p.join().expect("judging does not panic")).collect()
        })
    }

    /// One chain, from its rows in order.
    pub(super) fn one(&self, rows: &[u32], scratch: &mut Scratch) -> Chain {
        let store = self.store;
        scratch.place_of.resize(store.len().max(scratch.place_of.len()), NOBODY);
        for (at, row) in rows.iter().enumerate() {
            scratch.place_of[*row as usize] = at as u32;
        }
        scratch.said.read(store, self.index, rows, &scratch.place_of);
        let said = &scratch.said;
        let mut links: Vec<Link> = rows.iter().map(|row| Link::of(*row)).collect();
        if !store.mutated.is_empty() {
            for link in links.iter_mut().filter(|l| store.mutated.contains(&l.row)) {
                link.marks.set(Mark::Mutated);
            }
        }
        plant(said, &mut links, |at| store.row_at(rows[at as usize]).subject.is_some());
        let goes_forward = is_forward(links.iter().map(|l| l.parent));
        let walk = if !goes_forward || said.is_divided(&links) { Walk::over(&links) } else { Walk::default() };
        weigh(store, said, rows, &walk, &mut links);
        self.place(rows, &mut links);
        let (secondary, secondary_skipped) = joins(said, &links, &walk, self.settings);
        let operations = operation::fold(store, self.settings, said, rows, &mut links);
        let paths = if goes_forward {
            scratch.laying.lay(self, rows, 0..links.len() as u32, &mut links)
        } else {
            scratch.laying.lay(self, rows, walk.order.iter().copied(), &mut links)
        };
        let (id, named_by) = name(self.tenant, store, rows);
        let (depth, fanout) = operation::shape(&operations);
        Chain {
            id,
            named_by,
            operations,
            secondary,
            secondary_skipped,
            ghosts: ghosts(store, &said.ghosts),
            paths,
            depth,
            fanout,
            links,
        }
    }

    /// Says by what an event without a parent belongs to its chain.
    fn place(&self, rows: &[u32], links: &mut [Link]) {
        if links.len() == 1 {
            return;
        }
        let mut windows: ahash::HashMap<Key, u32> = ahash::HashMap::default();
        let key_of = |row: u32| {
            let r = self.store.row_at(row);
            window(self.store, r, self.settings)
        };
        let is_loose = |l: &Link| l.parent == NOBODY;
        if links.iter().filter(|l| is_loose(l)).count() > 1 || links.iter().any(|l| l.standing == Standing::Cut) {
            // Neighbours mostly have the same key.
            let (mut run, mut length) = (None, 0);
            for key in rows.iter().filter_map(|row| key_of(*row)).map(|(key, ..)| key) {
                if run == Some(key) {
                    length += 1;
                    continue;
                }
                if let Some(run) = run.replace(key) {
                    *windows.entry(run).or_insert(0) += length;
                }
                length = 1;
            }
            if let Some(run) = run {
                *windows.entry(run).or_insert(0) += length;
            }
        }
        for link in links.iter_mut().filter(|l| is_loose(l)) {
            let row = self.store.row_at(link.row);
            let mut best = None;
            keys::keys(self.store, row, |key, of| {
                if let Use::Groups(tier) = of {
                    let shared = self.index.get(key).is_some_and(|held| held.owner(link.row).is_some());
                    if shared && best.is_none_or(|b| tier < b) {
                        best = Some(tier);
                    }
                }
            });
            let near = key_of(link.row).filter(|(key, ..)| windows.get(key).is_some_and(|n| *n > 1));
            link.tier = best.or(near.map(|(_, _, tier)| tier));
            link.confidence = link.tier.map_or(super::Confidence(0), |t| t.confidence(false));
        }
    }
}

/// Missing names, each once, in the order of the events that name them.
fn ghosts(store: &Store, said: &[(u32, Key)]) -> Vec<Ghost> {
    let mut ghosts: Vec<(Key, u32)> = said.iter().map(|(at, key)| (*key, *at)).collect();
    ghosts.sort_unstable();
    ghosts.dedup_by_key(|(key, _)| *key);
    let mut ghosts: Vec<Ghost> = ghosts
        .into_iter()
        .map(|(key, by)| {
            let (kind, [a, b, c]) = keys::names(key);
            let (kind, names) = match kind {
                k if k == Kind::Span as u8 => (Kind::Span, [Name(b), Name(c)]),
                k if k == Kind::State as u8 => (Kind::State, [Name(a), Name::NONE]),
                _ => (Kind::Decision, [Name(a), Name::NONE]),
            };
            Ghost { kind, names, by }
        })
        .collect();
    ghosts.sort_by(|x, y| {
        (x.by, x.kind)
            .cmp(&(y.by, y.kind))
            .then_with(|| store.text_order(x.names[1], y.names[1]))
            .then_with(|| store.text_order(x.names[0], y.names[0]))
    });
    ghosts
}

/// The smallest key of the strongest class. The earliest event comes last of all classes: arrivals in order of time then
/// never rename a chain.
fn name(tenant: &str, store: &Store, rows: &[u32]) -> (String, NamedBy) {
    let smallest = |key: fn(&Store, &Row) -> [Name; 3]| {
        let mut best: Option<[Name; 3]> = None;
        for row in rows {
            let key = key(store, store.row_at(*row));
            if key[0].is_none() || best == Some(key) {
                continue;
            }
            let order = |b: [Name; 3]| {
                (0..3).fold(std::cmp::Ordering::Equal, |o, i| o.then_with(|| store.text_order(key[i], b[i])))
            };
            if best.is_none_or(|b| order(b).is_lt()) {
                best = Some(key);
            }
        }
        best.map(|key| key.map(|n| store.text(n)))
    };
    let transaction = smallest(|store, r| {
        let few = store.rare_of(r);
        [few.txn.or(few.acti), r.issuer, if few.txn.is_some() { Name::NONE } else { few.acti }]
    });
    if let Some(key) = transaction {
        return (digest(tenant, "transaction", &key, &[]), NamedBy::Transaction);
    }
    if let Some(key) = smallest(|_, r| [r.trace, r.issuer, r.subject]) {
        return (digest(tenant, "trace", &key, &[]), NamedBy::Trace);
    }
    let first = store.row_at(rows[0]);
    let key = [store.text(first.source), store.text(first.event)];
    (digest(tenant, "event", &key, &first.content.to_be_bytes()), NamedBy::Event)
}

fn digest(tenant: &str, kind: &str, parts: &[&str], tail: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [tenant, kind].iter().chain(parts) {
        // Lengths stand before texts, so that no two keys read the same.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(tail);
    let mut id = String::with_capacity(22);
    id.push_str("c-");
    for byte in &hash.finalize()[..10] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        id.push(HEX[usize::from(byte >> 4)] as char);
        id.push(HEX[usize::from(byte & 15)] as char);
    }
    id
}
