//! What was reached: along paths, and from call to call.
//!
//! Guarantee: a place is reached from a start when it comes after it on the path of a call, or is new on the path of a call
//! that a reached call led to. Its distance is the least number of steps; a call that led to another is one step from it.
//!
//! ```text
//!   place     0        1        2       3
//!   call 1    alice ─▶ cc ────▶ repo ─▶ push          from cc: repo 1, push 2
//!                                        └─ led to
//!   call 2    alice ─▶ cc ──────────▶ coder ─▶ ci ─▶ run       coder 1: it comes after cc; from push it is 3
//! ```

use super::super::{Chain, Hop, Store};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The calls of a chain, seen from below.
pub(super) struct Calls<'a> {
    store: &'a Store,
    pub(super) chain: &'a Chain,
    /// Calls that each led to, further ones included.
    led_to: Vec<Vec<usize>>,
    led_from: Vec<Vec<usize>>,
}

impl<'a> Calls<'a> {
    pub(super) fn of(store: &'a Store, chain: &'a Chain) -> Calls<'a> {
        let (mut led_to, mut led_from) = (vec![Vec::new(); chain.links.len()], vec![Vec::new(); chain.links.len()]);
        let primary = chain.links.iter().enumerate().filter_map(|(child, l)| Some((child, l.parent()?)));
        let further = chain.secondary.iter().map(|s| (s.child as usize, s.parent as usize));
        for (child, parent) in primary.chain(further) {
            led_to[parent].push(child);
            led_from[child].push(parent);
        }
        Calls { store, chain, led_to, led_from }
    }

    pub(super) fn hops(&self, event: usize) -> &'a [Hop] {
        &self.chain.paths[self.chain.links[event].path as usize].hops
    }

    /// Places of a call: its hops, its server, its tool.
    pub(super) fn places(&self, event: usize) -> usize {
        let row = self.store.row_at(self.chain.links[event].row);
        self.hops(event).len() + usize::from(row.server.is_some()) + usize::from(row.tool.is_some())
    }

    /// Hops that a call has in common with the one that led to it.
    fn shared(&self, event: usize, parent: usize) -> usize {
        self.hops(event).iter().zip(self.hops(parent)).take_while(|(a, b)| a.is(b)).count()
    }

    /// For every call, the distance of its last place; none where it was not reached. `starts` are places of the start on
    /// the path of a call, in order; -1 is the place before the first.
    pub(super) fn reached(&self, starts: &dyn Fn(usize) -> Vec<i64>) -> Vec<Option<i64>> {
        let n = self.chain.links.len();
        let mut least: Vec<Option<i64>> = vec![None; n];
        let mut open = BinaryHeap::new();
        for event in 0..n {
            if let Some(last) = starts(event).last() {
                open.push(Reverse((self.places(event) as i64 - 1 - last, event)));
            }
        }
        while let Some(Reverse((distance, event))) = open.pop() {
            if least[event].is_some() {
                continue;
            }
            least[event] = Some(distance);
            for child in self.led_to[event].iter().filter(|c| least[**c].is_none()) {
                let new = self.places(*child) - self.shared(*child, event);
                open.push(Reverse((distance + new as i64, *child)));
            }
        }
        least
    }

    /// The distance of each place of a call, given those of the last places of all calls.
    pub(super) fn distances(&self, event: usize, starts: &[i64], reached: &[Option<i64>]) -> Vec<Option<i64>> {
        let mut all: Vec<Option<i64>> = vec![None; self.places(event)];
        let mut closer = |place: usize, distance: i64| {
            let held = &mut all[place];
            *held = Some(held.map_or(distance, |h| h.min(distance)));
        };
        let mut starts = starts.iter().copied().peekable();
        let mut last = None;
        for place in 0..self.places(event) {
            while let Some(start) = starts.next_if(|s| *s < place as i64) {
                last = Some(start);
            }
            if let Some(last) = last {
                closer(place, place as i64 - last);
            }
        }
        for parent in &self.led_from[event] {
            if let Some(base) = reached[*parent] {
                let shared = self.shared(event, *parent);
                (shared..self.places(event)).for_each(|place| closer(place, base + 1 + (place - shared) as i64));
            }
        }
        all
    }
}
