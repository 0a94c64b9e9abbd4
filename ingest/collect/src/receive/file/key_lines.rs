//! Whether a private key is open where a file is read from.
//!
//! Guarantee: the bytes before a place decide, so every segment of a file, and every run that goes on where another stopped, redacts
//! the lines of a key as one run over the whole file would.

use catena_decode::Block;
use catena_decode::redact::LOOK_BACK_BYTES;
use std::io::{Read, Result};

/// Of a file that is read from `at`, where a line begins. `read_from` reads the file from a position on.
pub(super) fn before<R: Read>(at: u64, read_from: impl FnOnce(u64) -> R) -> Result<Block> {
    let start = at.saturating_sub(LOOK_BACK_BYTES as u64);
    let mut bytes = Vec::new();
    if start < at {
        read_from(start).take(at - start).read_to_end(&mut bytes)?;
    }
    Ok(Block::default().behind_lines(&bytes))
}

/// Behind a part of a stream, given whether a key was open before it.
pub(super) fn behind(block: Block, part: &[u8]) -> Block {
    match part.len().checked_sub(LOOK_BACK_BYTES) {
        Some(start) => Block::default().behind_lines(&part[start..]),
        None => block.behind_lines(part),
    }
}

/// Keeps the end of what is read through it.
pub(super) struct Tail<R> {
    inner: R,
    bytes: Vec<u8>,
}

impl<R: Read> Tail<R> {
    pub(super) fn of(inner: R) -> Tail<R> {
        Tail { inner, bytes: Vec::new() }
    }

    /// Whether a key is open behind it.
    pub(super) fn block(&self) -> Block {
        behind(Block::default(), &self.bytes)
    }
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(into)?;
        self.bytes.extend_from_slice(&into[..read]);
        if self.bytes.len() > 16 * LOOK_BACK_BYTES {
            self.bytes.drain(..self.bytes.len() - LOOK_BACK_BYTES);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aYPuJoAoGCCqGSM49\n";

    /// At every line of a text, looking back from it and reading up to it say the same.
    fn check(text: &str, expected: &[bool]) {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let found: Vec<bool> = starts
            .map(|at| {
                let looked = before(at as u64, |start| &text.as_bytes()[start as usize..]).unwrap();
                let mut tail = Tail::of(&text.as_bytes()[..at]);
                std::io::copy(&mut tail, &mut std::io::sink()).unwrap();
                assert_eq!(looked, tail.block(), "{at}");
                let (first, second) = text.as_bytes()[..at].split_at(at / 2);
                let line = first.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                let in_two = behind(behind(Block::default(), &first[..line]), &[&first[line..], second].concat());
                assert_eq!(looked, in_two, "{at}");
                looked.is_open()
            })
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn looking_back_says_what_reading_would() {
        let key = format!("x\n-----BEGIN PRIVATE KEY-----\r\n\n  {KEY}-----END PRIVATE KEY-----\n{KEY}");
        check(&key, &[false, false, true, true, true, false, false]);
        let long = format!("-----BEGIN PRIVATE KEY-----\n{}", KEY.repeat(2 * LOOK_BACK_BYTES / KEY.len()));
        let lines = long.matches('\n').count();
        let open = catena_decode::redact::KEY_RECORDS_MAX as usize;
        check(&long, &(0..=lines).map(|n| (1..=open).contains(&n)).collect::<Vec<_>>());
    }
}
