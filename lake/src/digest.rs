//! The digest of a data file, which stands in the tags of its log entry.
//!
//! Guarantee: SHA-256 over all bytes of the file, as lower-case hex under [`TAG`]. `tags` is a field of Delta's `add` that
//! every reader may ignore and that checkpoints keep. A tag of another form counts as no digest, not as an error.

use sha2::{Digest as _, Sha256};

/// Name of the tag.
pub const TAG: &str = "catena.sha256";

/// SHA-256 of a file.
pub type Digest = [u8; 32];

/// The digest of bytes in memory.
pub fn of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Takes the digest of a file that comes in parts.
#[derive(Clone, Debug, Default)]
pub struct Digester {
    hash: Sha256,
    bytes: u64,
}

impl Digester {
    /// Takes in the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.hash.update(part);
        self.bytes += part.len() as u64;
    }

    /// Bytes taken in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all parts.
    pub fn finish(self) -> Digest {
        self.hash.finalize().into()
    }
}

/// As it stands in the log.
pub fn text(digest: &Digest) -> String {
    hex::encode(digest)
}

/// Reads it from the log.
pub fn parse(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok().map(|()| digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_give_the_digest_of_the_whole() {
        let mut parts = Digester::default();
        parts.update(b"ab");
        parts.update(b"c");
        assert_eq!(parts.bytes(), 3);
        let digest = parts.finish();
        assert_eq!(digest, of(b"abc"));
        assert_eq!(text(&digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(parse(&text(&digest)), Some(digest));
        assert_eq!(parse("ba78"), None);
    }
}
