//! The digest of what a file holds before a position.
//!
//! Guarantee: equal bytes before a position give an equal digest, however they were read: at once, bit by bit, or in
//! segments by several threads. Blocks of 64 KiB are hashed one by one and then folded in the order of the file, so a
//! thread can hash the blocks of its segment before those ahead of it are known. The hash is xxh3 with a seed derived
//! from the lake's secret: at memory speed it costs an ingest less than one percent (SHA-256 costs ten), and whoever
//! writes a log does not know the seed. 63 bits of it are kept, as a `txn` version of a Delta log holds no more.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Bytes that are hashed as one.
pub(super) const BLOCK: usize = 64 << 10;
/// The start of a file that is compared before its whole prefix is read.
pub(super) const HEAD: usize = 4096;

/// Hashes of the whole blocks of a stretch of a file, in order, and the bytes after the last of them.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    seed: u64,
    tail: Vec<u8>,
}

impl Blocks {
    pub(super) fn new(seed: u64) -> Blocks {
        Blocks { seed, tail: Vec::new() }
    }

    /// Takes the next bytes; `each` gets the hash of every block that is whole by then.
    pub(super) fn update(&mut self, mut bytes: &[u8], mut each: impl FnMut(u128)) {
        if !self.tail.is_empty() {
            let (more, rest) = bytes.split_at((BLOCK - self.tail.len()).min(bytes.len()));
            self.tail.extend_from_slice(more);
            if self.tail.len() < BLOCK {
                return;
            }
            each(xxh3_128_with_seed(&self.tail, self.seed));
            self.tail.clear();
            bytes = rest;
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in blocks.by_ref() {
            each(xxh3_128_with_seed(block, self.seed));
        }
        self.tail.extend_from_slice(blocks.remainder());
    }
}

/// What a file holds before a position, as far as it has to be known to go on from there.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    seed: u64,
    folded: u128,
    whole: u64,
    blocks: Blocks,
    head: Vec<u8>,
}

impl Prefix {
    /// Nothing, at position 0.
    pub(super) fn new(seed: u64) -> Prefix {
        Prefix { seed, folded: 0, whole: 0, blocks: Blocks::new(seed), head: Vec::new() }
    }

    /// The position.
    pub(super) fn at(&self) -> u64 {
        self.whole * BLOCK as u64 + self.blocks.tail.len() as u64
    }

    /// What it is hashed with.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Start of the last block, which is not whole yet.
    pub(super) fn block_start(&self) -> u64 {
        self.whole * BLOCK as u64
    }

    /// The last block so far, to go on hashing from.
    pub(super) fn last_block(&self) -> Blocks {
        self.blocks.clone()
    }

    /// The first bytes of the file, [`HEAD`] of them at most.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Goes on over bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if self.head.len() < HEAD && self.at() == self.head.len() as u64 {
            self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD - self.head.len())]);
        }
        let Prefix { seed, folded, whole, blocks, .. } = self;
        blocks.update(bytes, |hash| {
            *folded = fold(*seed, *folded, hash);
            *whole += 1;
        });
    }

    /// Goes on over one whole block that was hashed elsewhere.
    pub(super) fn push(&mut self, hash: u128) {
        self.folded = fold(self.seed, self.folded, hash);
        self.whole += 1;
        self.blocks.tail.clear();
    }

    /// Says how the file begins, when its blocks are hashed elsewhere.
    pub(super) fn begin_with(&mut self, mut head: Vec<u8>) {
        head.truncate(HEAD);
        self.head = head;
    }

    /// The digest: not negative.
    pub(super) fn digest(&self) -> i64 {
        let tail = xxh3_128_with_seed(&self.blocks.tail, self.seed);
        let mut whole = [0; 40];
        whole[..16].copy_from_slice(&self.folded.to_le_bytes());
        whole[16..32].copy_from_slice(&tail.to_le_bytes());
        whole[32..].copy_from_slice(&self.at().to_le_bytes());
        (xxh3_64_with_seed(&whole, self.seed) >> 1) as i64
    }

    /// Whether the file begins with exactly one line so far.
    pub(super) fn is_one_line(&self) -> bool {
        self.whole == 0 && memchr::memchr(b'\n', &self.blocks.tail).is_none_or(|at| at + 1 == self.blocks.tail.len())
    }
}

fn fold(seed: u64, folded: u128, hash: u128) -> u128 {
    let mut both = [0; 32];
    both[..16].copy_from_slice(&folded.to_le_bytes());
    both[16..].copy_from_slice(&hash.to_le_bytes());
    xxh3_128_with_seed(&both, seed)
}

/// A digest of the first bytes of a file that has been read up to `position`: equal where the prefix is.
pub(super) fn head_digest(seed: u64, start: &[u8], position: u64) -> u32 {
    xxh3_64_with_seed(&start[..start.len().min(HEAD).min(position.min(HEAD as u64) as usize)], seed) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_give_the_same_digest_however_they_are_cut() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 777).map(|n| (n * 31 % 251) as u8).collect();
        let mut once = Prefix::new(7);
        once.update(&bytes);
        for step in [1, 1000, BLOCK - 1, BLOCK, BLOCK + 1] {
            let mut parts = Prefix::new(7);
            bytes.chunks(step).for_each(|part| parts.update(part));
            assert_eq!((parts.digest(), parts.at()), (once.digest(), bytes.len() as u64), "{step}");
            assert_eq!(parts.head(), once.head());
        }
        // Blocks of a later segment are hashed before those of an earlier one.
        let (mut last, mut hashes) = (Blocks::new(7), Vec::new());
        last.update(&bytes[BLOCK..3 * BLOCK], |hash| hashes.push(hash));
        let mut folded = Prefix::new(7);
        folded.update(&bytes[..BLOCK]);
        hashes.into_iter().for_each(|hash| folded.push(hash));
        folded.update(&bytes[3 * BLOCK..]);
        assert_eq!(folded.digest(), once.digest());
    }

    #[test]
    fn any_other_byte_or_position_gives_another_digest() {
        let bytes = vec![0u8; 2 * BLOCK + 10];
        let digest = |bytes: &[u8], seed| {
            let mut prefix = Prefix::new(seed);
            prefix.update(bytes);
            prefix.digest()
        };
        let whole = digest(&bytes, 7);
        assert_ne!(digest(&bytes, 8), whole);
        for at in [0, BLOCK - 1, BLOCK, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] = 1;
            assert_ne!(digest(&other, 7), whole, "{at}");
            assert_ne!(digest(&bytes[..at], 7), whole, "{at}");
        }
        assert!(whole >= 0);
    }
}
