//! Proofs made are accepted, and nothing near them is.

use catena_evidence::proof::{Nodes, consistency, inclusion, root, verify_consistency, verify_inclusion};
use catena_evidence::tree::{Accumulator, Hash, leaf_hash};
use proptest::prelude::*;

fn leaves(n: u64) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

/// Roots of all prefixes, by the accumulator.
fn roots(leaves: &[Hash]) -> Vec<Hash> {
    let mut tree = Accumulator::default();
    let mut roots = vec![tree.root()];
    for leaf in leaves {
        tree.push(leaf);
        roots.push(tree.root());
    }
    roots
}

fn make<N: Nodes<Error = std::convert::Infallible> + ?Sized>(nodes: &N, old: u64, new: u64) -> Option<Vec<Hash>> {
    let Ok(proof) = consistency(nodes, old, new);
    proof
}

fn path(nodes: &[Hash], index: u64, size: u64) -> Option<Vec<Hash>> {
    let Ok(proof) = inclusion(nodes, index, size);
    proof
}

const SIZE_MAX: u64 = 70;

#[test]
fn every_leaf_of_every_small_tree_has_a_proof() {
    let leaves = leaves(SIZE_MAX);
    let roots = roots(&leaves);
    for size in 1..=SIZE_MAX {
        let want = roots[size as usize];
        assert_eq!(root(leaves.as_slice(), size), Ok(want));
        for index in 0..size {
            let proof = path(&leaves, index, size).expect("the leaf is in the tree");
            assert!(proof.len() <= 7, "a path is as long as the tree is high");
            for (i, leaf) in leaves.iter().enumerate() {
                let accepted = verify_inclusion(index, size, leaf, &proof, &want);
                assert_eq!(accepted, i as u64 == index, "leaf {i} as leaf {index} of {size}");
            }
        }
        assert_eq!(path(&leaves, size, size), None);
    }
}

#[test]
fn every_small_tree_continues_every_smaller_one() {
    let leaves = leaves(SIZE_MAX);
    let roots = roots(&leaves);
    for new in 0..=SIZE_MAX {
        assert_eq!(make(leaves.as_slice(), 0, new), None);
        assert_eq!(make(leaves.as_slice(), new + 1, new), None);
        for old in 1..=new {
            let proof = make(leaves.as_slice(), old, new).expect("a proof");
            for (claimed, claimed_root) in roots.iter().enumerate().skip(1) {
                let accepted = verify_consistency(claimed as u64, new, &proof, claimed_root, &roots[new as usize]);
                assert_eq!(accepted, claimed as u64 == old, "the proof from {old} to {new} as one from {claimed}");
            }
        }
    }
}

#[test]
fn a_log_that_rewrote_a_leaf_is_no_continuation() {
    for old in 1..40 {
        for changed in 0..old {
            let honest = leaves(old);
            let mut forked = leaves(40);
            forked[changed as usize] = leaf_hash(b"rewritten");
            let proof = make(forked.as_slice(), old, 40).expect("a proof");
            assert!(!verify_consistency(old, 40, &proof, &roots(&honest)[old as usize], &roots(&forked)[40]));
        }
    }
}

/// Ways to tamper with a proof.
#[derive(Clone, Debug)]
enum Tamper {
    Flip { at: prop::sample::Index, bit: usize },
    Drop(prop::sample::Index),
    Insert(prop::sample::Index, Hash),
    Swap(prop::sample::Index, prop::sample::Index),
    Append,
}

fn tamper() -> impl Strategy<Value = Tamper> {
    prop_oneof![
        (any::<prop::sample::Index>(), 0..256usize).prop_map(|(at, bit)| Tamper::Flip { at, bit }),
        any::<prop::sample::Index>().prop_map(Tamper::Drop),
        (any::<prop::sample::Index>(), any::<Hash>()).prop_map(|(at, hash)| Tamper::Insert(at, hash)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(a, b)| Tamper::Swap(a, b)),
        Just(Tamper::Append),
    ]
}

impl Tamper {
    fn apply(&self, proof: &[Hash]) -> Vec<Hash> {
        let mut proof = proof.to_vec();
        match self {
            Tamper::Flip { at, bit } if !proof.is_empty() => {
                let at = at.index(proof.len());
                proof[at][bit / 8] ^= 1 << (bit % 8);
            }
            Tamper::Drop(at) if !proof.is_empty() => {
                proof.remove(at.index(proof.len()));
            }
            Tamper::Insert(at, hash) => proof.insert(at.index(proof.len() + 1), *hash),
            Tamper::Swap(a, b) if !proof.is_empty() => {
                let (a, b) = (a.index(proof.len()), b.index(proof.len()));
                proof.swap(a, b);
            }
            Tamper::Append => proof.push(proof.last().copied().unwrap_or([0; 32])),
            _ => {}
        }
        proof
    }
}

proptest! {
    #[test]
    fn a_tampered_proof_proves_nothing(size in 1..600u64, at in any::<prop::sample::Index>(), tamper in tamper()) {
        let leaves = leaves(size);
        let roots = roots(&leaves);
        let index = at.index(size as usize) as u64;
        let proof = path(&leaves, index, size).expect("the leaf is in the tree");
        let bad = tamper.apply(&proof);
        let (leaf, root) = (&leaves[index as usize], &roots[size as usize]);
        prop_assert!(verify_inclusion(index, size, leaf, &proof, root));
        prop_assert_eq!(verify_inclusion(index, size, leaf, &bad, root), bad == proof);

        let old = index + 1;
        let proof = make(leaves.as_slice(), old, size).expect("a proof");
        let bad = tamper.apply(&proof);
        let old_root = &roots[old as usize];
        prop_assert!(verify_consistency(old, size, &proof, old_root, root));
        prop_assert_eq!(verify_consistency(old, size, &bad, old_root, root), bad == proof);
    }

    #[test]
    fn verifiers_survive_anything(a in any::<u64>(), b in any::<u64>(), proof in prop::collection::vec(any::<Hash>(), 0..70)) {
        prop_assert!(!verify_inclusion(a, b, &[1; 32], &proof, &[2; 32]));
        prop_assert!(!verify_consistency(a, b, &proof, &[1; 32], &[2; 32]));
    }
}
