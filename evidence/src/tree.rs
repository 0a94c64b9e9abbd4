//! The Merkle tree of RFC 9162, section 2.1.1: hashes of leaves and nodes, and the root of everything pushed so far.
//!
//! Guarantees: T-1 [`Accumulator::root`] is the Merkle Tree Hash of exactly the leaves pushed, in order, whatever batches
//! they came in. T-2 its state is one hash per set bit of its length (at most 64), and can be taken out with
//! [`Accumulator::peaks`], kept, and resumed.
//!
//! ```text
//!            root                 length 7 = 111b
//!          /      \
//!         p        .              peaks: p (4 leaves), q (2 leaves), g (1 leaf), largest first
//!       /   \     / \             root  = node(p, node(q, g)): folded from the right
//!      .     .   q   g
//!     / \   / \  /\
//!    a   b c  d e  f
//! ```

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Hash of a leaf: `SHA256(0x00 || data)`.
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// Hash of an inner node: `SHA256(0x01 || left || right)`.
#[inline]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut block = [1; 65];
    block[1..33].copy_from_slice(left);
    block[33..].copy_from_slice(right);
    Sha256::digest(block).into()
}

/// Root of the empty tree: `SHA256("")`.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The right edge of a growing tree: all that is needed to append and to name the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accumulator {
    len: u64,
    /// Roots of the perfect subtrees that the length's set bits name, largest first.
    peaks: Vec<Hash>,
}

impl Accumulator {
    /// Takes up again where [`Accumulator::peaks`] was read; `None` if there is not one peak per set bit of `len`.
    pub fn resume(len: u64, peaks: Vec<Hash>) -> Option<Accumulator> {
        (peaks.len() == len.count_ones() as usize).then_some(Accumulator { len, peaks })
    }

    /// Appends a leaf, given by its hash.
    pub fn push(&mut self, leaf: &Hash) {
        // Each trailing one bit of the length is a perfect subtree that the new leaf completes to the next size.
        let mut hash = *leaf;
        for _ in 0..self.len.trailing_ones() {
            let left = self.peaks.pop().expect("there is a peak for every set bit of the length");
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.len += 1;
    }

    /// Leaves pushed.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Roots of the perfect subtrees, largest first: the whole state, with the length.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Merkle Tree Hash of the leaves pushed so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9162, section 2.1.1, word by word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => empty_root(),
            1 => leaves[0],
            n => {
                let (left, right) = leaves.split_at(n.next_power_of_two() / 2);
                node_hash(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    fn leaves(n: u32) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn roots_follow_the_definition_at_every_size() {
        let leaves = leaves(300);
        let mut tree = Accumulator::default();
        for n in 0..=leaves.len() {
            assert_eq!(tree.len(), n as u64);
            assert_eq!(tree.peaks().len(), n.count_ones() as usize);
            assert_eq!(tree.root(), root_by_definition(&leaves[..n]), "{n} leaves");
            if let Some(leaf) = leaves.get(n) {
                tree.push(leaf);
            }
        }
    }

    #[test]
    fn resumes_from_its_peaks() {
        let leaves = leaves(77);
        let mut whole = Accumulator::default();
        leaves.iter().for_each(|l| whole.push(l));
        for cut in 0..leaves.len() {
            let mut head = Accumulator::default();
            leaves[..cut].iter().for_each(|l| head.push(l));
            let mut tail = Accumulator::resume(head.len(), head.peaks().to_vec()).expect("its own state");
            leaves[cut..].iter().for_each(|l| tail.push(l));
            assert_eq!(tail, whole);
        }
        assert_eq!(Accumulator::resume(3, vec![[0; 32]]), None);
    }

    #[test]
    fn known_roots() {
        // The eight leaves and the roots of certificate-transparency's own reference test.
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Accumulator::default();
        assert_eq!(hex(&tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (input, root) in inputs.iter().zip(roots) {
            let data: Vec<u8> =
                (0..input.len() / 2).map(|i| u8::from_str_radix(&input[2 * i..2 * i + 2], 16).expect("hex")).collect();
            tree.push(&leaf_hash(&data));
            assert_eq!(hex(&tree.root()), root);
        }
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }
}
