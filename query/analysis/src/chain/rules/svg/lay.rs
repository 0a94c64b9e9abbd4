//! Places of boxes: layers from left to right, the order of calls from top to bottom.
//!
//! Guarantee: boxes never overlap. The layout sees a graph without rings, doubled edges or parts, with few edges that cross
//! columns: doubled edges and rings are what it may stumble over, long edges what makes it slow.

use super::{BETWEEN, CROSSED_MAX, Drawn, GAP, MARGIN, NAME_LINE, Place, Shown};
use rust_sugiyama::configure::{Config, RankingType};
use rust_sugiyama::from_vertices_and_edges;

/// Places of boxes. Further parents take part as far as they neither close a ring nor cross too much.
pub(super) fn lay(shown: &[Shown], boxes: &[Drawn], further: &[(usize, usize, &'static str)]) -> Vec<Place> {
    let n = shown.len();
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (at, s) in shown.iter().enumerate() {
        if let Some(above) = s.above {
            below[above].push(at);
        }
    }
    let mut ranks = ranks(&below);
    for (parent, child, _) in further {
        if below[*parent].contains(child) || below[*child].contains(parent) || leads(&below, *child, *parent) {
            continue;
        }
        below[*parent].push(*child);
        let tried = self::ranks(&below);
        let crossed: usize =
            (0..n).flat_map(|a| below[a].iter().map(|b| tried[*b] - tried[a] - 1).collect::<Vec<_>>()).sum();
        if crossed > CROSSED_MAX {
            below[*parent].pop();
        } else {
            ranks = tried;
        }
    }
    // Ranks run downwards there and to the right here, so that sizes and places change sides. The last edge that is named
    // comes first there.
    let vertices: Vec<(u32, (f64, f64))> =
        boxes.iter().enumerate().map(|(i, b)| (i as u32, (b.height as f64, 1.0))).collect();
    let edges: Vec<(u32, u32)> =
        (0..n).flat_map(|a| below[a].iter().rev().map(move |b| (a as u32, *b as u32))).collect();
    let config = Config { vertex_spacing: BETWEEN, ranking_type: RankingType::Up, ..Config::default() };
    let mut across = vec![0.0; n];
    for (layout, _, _) in from_vertices_and_edges(&vertices, &edges, &config) {
        for (at, (x, _)) in layout {
            across[at] = x;
        }
    }
    let across = apart(boxes, &ranks, &across);
    let last = ranks.iter().max().copied().unwrap_or(0);
    let mut left = vec![MARGIN; last + 2];
    for rank in 1..=last {
        let widest = (1..n).filter(|at| ranks[*at] == rank).map(|at| boxes[at].width).max().unwrap_or(0);
        left[rank + 1] = left[rank] + widest + GAP;
    }
    (0..n).map(|at| Place { x: left[ranks[at]], y: across[at] }).collect()
}

/// The longest way to each box from the first.
pub(super) fn ranks(below: &[Vec<usize>]) -> Vec<usize> {
    let mut above = vec![0; below.len()];
    for b in below.iter().flatten() {
        above[*b] += 1;
    }
    let mut ranks = vec![0; below.len()];
    let mut free: Vec<usize> = (0..below.len()).filter(|at| above[*at] == 0).collect();
    while let Some(at) = free.pop() {
        for b in &below[at] {
            ranks[*b] = ranks[*b].max(ranks[at] + 1);
            above[*b] -= 1;
            if above[*b] == 0 {
                free.push(*b);
            }
        }
    }
    ranks
}

pub(super) fn leads(below: &[Vec<usize>], from: usize, to: usize) -> bool {
    let (mut seen, mut open) = (vec![false; below.len()], vec![from]);
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if !std::mem::replace(&mut seen[at], true) {
            open.extend(&below[at]);
        }
    }
    false
}

/// Whole pixels, boxes of one rank apart in the order that layout gave them, all below the heading.
pub(super) fn apart(boxes: &[Drawn], ranks: &[usize], across: &[f64]) -> Vec<i64> {
    let mut order: Vec<usize> = (1..boxes.len()).collect();
    order.sort_by(|a, b| ranks[*a].cmp(&ranks[*b]).then(across[*a].total_cmp(&across[*b])).then(a.cmp(b)));
    let mut y: Vec<i64> = across.iter().map(|a| a.round() as i64).collect();
    for pair in order.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if ranks[a] == ranks[b] {
            y[b] = y[b].max(y[a] + (boxes[a].height + boxes[b].height) / 2 + BETWEEN as i64);
        }
    }
    let top = (1..boxes.len()).map(|at| y[at] - boxes[at].height / 2).min().unwrap_or(0);
    y.iter().map(|y| y - top + 2 * MARGIN + NAME_LINE).collect()
}
