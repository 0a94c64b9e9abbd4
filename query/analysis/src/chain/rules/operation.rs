//! Operations: attempts at one call, folded.
//!
//! Guarantee: only what a record says folds attempts: state that was echoed, a task, a challenge, a request id that came
//! again; or the answer "not yet", followed by the same call. Attempts of two callers never fold: whoever echoes another's
//! state makes a call of its own.

use super::evidence::Call;
use super::forest::{Said, cut_rings};
use super::keys::Sets;
use super::store::{NOBODY, Row, Store};
use super::{Link, Operation, Settings};
use crate::fault::{self, Fault};
use ahash::HashMap;
use catena_schemas::{Enforced, Outcome};

/// Folds the events of a chain. Numbers every link with its operation and attempt.
pub(super) fn fold(
    store: &Store,
    settings: &Settings,
    said: &Said,
    rows: &[u32],
    links: &mut [Link],
) -> Vec<Operation> {
    let row = |at: u32| store.row_at(rows[at as usize]);
    let mut sets = Sets::default();
    sets.grow(rows.len());
    // Most chains repeat nothing and ask for nothing more; then there is nothing to look up.
    let asks = rows.iter().any(|r| store.row_at(*r).outcome == Some(Outcome::StepUp));
    let mut last_of = HashMap::default();
    let mut repeats = HashMap::default();
    for at in 0..rows.len() as u32 {
        let r = row(at);
        for c in said.of(at).iter().filter(|c| c.tier == Call::C3) {
            if row(c.parent).caller == r.caller || fault::on(Fault::FoldAcrossCallers) {
                sets.join(at, c.parent);
            }
        }
        let request = store.rare_of(r).request;
        if !asks && request.is_none() {
            continue;
        }
        let Some(what) = same_call(r) else { continue };
        let parent = links[at as usize].parent;
        if request.is_some() {
            let first = *repeats.entry((parent, what, request)).or_insert(at);
            sets.join(at, first);
        }
        // An attempt that echoed the answer stands where the first one stands: what follows it is another call.
        let parent = links[sets.find(at) as usize].parent;
        if let Some(before) = last_of.insert((parent, what), at) {
            let b = row(before);
            // Nobody is not somebody: the calls of two unknown callers are not the same call.
            let asked_for_more = b.outcome == Some(Outcome::StepUp) && r.subject.is_some();
            if asked_for_more && r.time.saturating_sub(b.time) <= settings.session_gap_us {
                sets.join(at, before);
            }
        }
    }
    number(store, rows, links, &mut sets)
}

type Same = (u32, super::texts::Name, super::texts::Name, super::texts::Name);

/// What makes two calls the same call: caller, server, tool and arguments, all of them known.
fn same_call(r: &Row) -> Option<Same> {
    (r.tool.is_some() && r.args.is_some()).then_some((r.caller, r.server, r.tool, r.args))
}

fn number(store: &Store, rows: &[u32], links: &mut [Link], sets: &mut Sets) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    for at in 0..rows.len() as u32 {
        // The earliest event stands for its set, so an operation is made at its first attempt.
        let first = sets.find(at);
        if first == at {
            links[at as usize].operation = operations.len() as u32;
            operations.push(Operation {
                first: at,
                last: at,
                attempts: 0,
                parent: NOBODY,
                decided_by: at,
                forwarded: false,
            });
        }
        let number = links[first as usize].operation;
        let operation = &mut operations[number as usize];
        operation.attempts += 1;
        operation.last = at;
        let forwarded = forwarded(store.row_at(rows[at as usize]));
        if forwarded || !operation.forwarded {
            operation.decided_by = at;
            operation.forwarded |= forwarded;
        }
        let link = &mut links[at as usize];
        (link.operation, link.attempt) = (number, operation.attempts);
    }
    for operation in &mut operations {
        let parent = links[operation.first as usize].parent;
        if parent != NOBODY {
            operation.parent = links[parent as usize].operation;
        }
    }
    // Folding can close a ring: the child of one attempt that led to the next.
    let mut parents: Vec<u32> =
        operations.iter().enumerate().map(|(i, o)| if o.parent == i as u32 { NOBODY } else { o.parent }).collect();
    cut_rings(&mut parents, |ring| *ring.iter().min().expect("a ring has members"));
    for (operation, parent) in operations.iter_mut().zip(parents) {
        operation.parent = parent;
    }
    operations
}

/// The longest line of operations, and the most that one of them led to. Attempts count once.
pub(super) fn shape(operations: &[Operation]) -> (u32, u32) {
    let mut children = vec![0u32; operations.len()];
    for operation in operations.iter().filter(|o| o.parent != NOBODY) {
        children[operation.parent as usize] += 1;
    }
    let fanout = children.iter().copied().max().unwrap_or(0);
    let mut depths = children;
    depths.fill(0);
    let mut line = Vec::new();
    for start in 0..operations.len() as u32 {
        let mut at = start;
        while at != NOBODY && depths[at as usize] == 0 {
            line.push(at);
            at = operations[at as usize].parent;
        }
        let mut depth = if at == NOBODY { 0 } else { depths[at as usize] };
        for at in line.drain(..).rev() {
            depth += 1;
            depths[at as usize] = depth;
        }
    }
    (depths.into_iter().max().unwrap_or(0), fanout)
}

/// Whether the call went through. A gateway that does not say forwards what it allows.
pub(super) fn forwarded(r: &Row) -> bool {
    match r.enforced {
        Some(Enforced::Forwarded | Enforced::Modified) => true,
        Some(Enforced::Blocked | Enforced::Held | Enforced::None) => false,
        Some(Enforced::Unknown) | None => r.outcome == Some(Outcome::Allow),
    }
}
