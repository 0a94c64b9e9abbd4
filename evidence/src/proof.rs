//! Proofs that a leaf is in a tree, and that a tree is the continuation of an older one (RFC 9162, 2.1.3 and 2.1.4).
//!
//! Guarantees: P-1 what [`inclusion`] and [`consistency`] make for a tree, [`verify_inclusion`] and
//! [`verify_consistency`] accept. P-2 a verifier accepts nothing else: no proof with a hash too many, too few or changed,
//! for another index or size. P-3 verifying needs the roots, the sizes and the proof, in a loop of at most 64 steps.
//!
//! A consistency proof from the empty tree says nothing, for every tree continues it: it is refused, so that "verified"
//! never means "not looked at".

use crate::tree::{Hash, node_hash};

/// Where a maker of proofs finds the hashes of perfect subtrees: `level` 0 are the leaves, and node `index` of `level`
/// covers the leaves `index << level` to `((index + 1) << level) - 1`.
pub trait Nodes {
    /// What reading a node can fail with.
    type Error;
    /// The hash of a perfect subtree that lies wholly inside the tree.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// All leaf hashes at hand: nodes are computed when they are asked for.
impl Nodes for [Hash] {
    type Error = std::convert::Infallible;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let from = (index << level) as usize;
        let mut row = self[from..from + (1 << level)].to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(row[0])
    }
}

/// Root of the tree of the first `size` leaves.
pub fn root<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 {
        return Ok(crate::tree::empty_root());
    }
    span(nodes, 0, size)
}

/// Hash of the leaves `from..to`, where `from` is a multiple of a power of two not smaller than their number: a subtree
/// as section 2.1.1 cuts it, folded from its perfect parts.
fn span<N: Nodes + ?Sized>(nodes: &N, from: u64, to: u64) -> Result<Hash, N::Error> {
    let mut right: Option<Hash> = None;
    let mut end = to;
    while end > from {
        // The last perfect part is as long as the lowest set bit of what is left.
        let level = (end - from).trailing_zeros();
        let start = end - (1 << level);
        let part = nodes.node(level, start >> level)?;
        right = Some(match right {
            Some(right) => node_hash(&part, &right),
            None => part,
        });
        end = start;
    }
    Ok(right.expect("a subtree holds a leaf"))
}

/// Where section 2.1.1 cuts `size` leaves: the largest power of two below it.
fn cut(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// Proof that leaf `index` is in the tree of the first `size` leaves; `None` if it is not in it.
pub fn inclusion<N: Nodes + ?Sized>(nodes: &N, index: u64, size: u64) -> Result<Option<Vec<Hash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while to - from > 1 {
        let middle = from + cut(to - from);
        if index < middle {
            proof.push(span(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(span(nodes, from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Proof that the tree of `new` leaves continues the one of `old`; `None` unless `0 < old <= new`.
pub fn consistency<N: Nodes + ?Sized>(nodes: &N, old: u64, new: u64) -> Result<Option<Vec<Hash>>, N::Error> {
    if old == 0 || old > new {
        return Ok(None);
    }
    let (mut from, mut to) = (0, new);
    let mut proof = Vec::new();
    // Down to the smallest subtree that ends where the old tree ends.
    while to != old {
        let middle = from + cut(to - from);
        if old <= middle {
            proof.push(span(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(span(nodes, from, middle)?);
            from = middle;
        }
    }
    // If that is the old tree itself, its root is known to whoever verifies.
    if from > 0 {
        proof.push(span(nodes, from, to)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `proof` shows that `leaf` is leaf `index` of the tree of `size` leaves with this `root`.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            (node, last) = skip(node, last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `new` leaves with `new_root` continues the tree of `old` leaves with `old_root`.
pub fn verify_consistency(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let (seed, rest) = match proof {
        [] => return false,
        _ if old.is_power_of_two() => (old_root, proof),
        [first, rest @ ..] => (first, rest),
    };
    // Above the perfect subtree that ends where the old tree ends, the way up is the same in both trees.
    let level = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> level, (new - 1) >> level);
    let (mut old_hash, mut new_hash) = (*seed, *seed);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            (node, last) = skip(node, last);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// At the right edge a node may have no sibling for some levels: the way leads straight up until it is a right child.
fn skip(node: u64, last: u64) -> (u64, u64) {
    if node & 1 == 1 || node == 0 {
        return (node, last);
    }
    let level = node.trailing_zeros();
    (node >> level, last >> level)
}
