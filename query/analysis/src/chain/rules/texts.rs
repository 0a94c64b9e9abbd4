//! Texts, each once, by number.
//!
//! Guarantee: two texts have one name when they are the same, byte for byte, and only then.

use ahash::RandomState;
use std::mem::size_of;

/// A text of a store. Zero is the absent text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub(super) u32);

impl Name {
    /// No text.
    pub const NONE: Name = Name(0);

    /// Whether there is a text.
    pub fn is_some(self) -> bool {
        self != Name::NONE
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Name::NONE
    }

    /// This text, or the other where there is none.
    pub fn or(self, other: Name) -> Name {
        if self.is_some() { self } else { other }
    }
}

/// Texts, each once.
///
/// The table is open: a slot holds the upper half of a hash, and a name; zero is free. A text's slot is the next free one
/// from the place that the upper bits of its hash name, so growing reads and writes from left to right.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    bytes: String,
    /// Where each text ends; the first is the absent one.
    ends: Vec<usize>,
    slots: Vec<u64>,
    bits: u32,
    hasher: RandomState,
}

/// Who gives names to texts: a store, whoever has one, or the [`Words`] that a store has lent.
pub trait Lexicon {
    /// Names of texts, in their order: for many at once this is faster than to tell them one by one.
    fn learn_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>, names: &mut Vec<Name>);
}

/// The texts of a store, apart from it: names can be given while facts are told in them.
#[derive(Debug)]
pub struct Words(pub(super) Texts);

impl Lexicon for Words {
    fn learn_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>, names: &mut Vec<Name>) {
        self.0.intern_all(texts, names);
    }
}

const UPPER: u64 = 0xffff_ffff_0000_0000;

/// Texts whose slots are asked for at once.
const AT_ONCE: usize = 16;

impl Texts {
    pub(super) fn new() -> Texts {
        let bits = 6;
        Texts { bytes: String::new(), ends: vec![0], slots: vec![0; 1 << bits], bits, hasher: RandomState::new() }
    }

    /// Texts, the absent one among them: names are smaller than this.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, name: Name) -> &str {
        match name.0 {
            0 => "",
            name => &self.bytes[self.ends[name as usize - 1]..self.ends[name as usize]],
        }
    }

    fn get_bytes(&self, name: u32) -> &[u8] {
        &self.bytes.as_bytes()[self.ends[name as usize - 1]..self.ends[name as usize]]
    }

    fn hash(&self, text: &str) -> u64 {
        self.hasher.hash_one(text)
    }

    fn slot(&self, hash: u64) -> usize {
        (hash >> (64 - self.bits)) as usize
    }

    /// Makes room for so many texts: five slots of eight may be taken.
    pub(super) fn reserve(&mut self, more: usize) {
        let most = |bits: u32| (1usize << bits) / 8 * 5;
        if self.ends.len() + more <= most(self.bits) {
            return;
        }
        while self.ends.len() + more > most(self.bits) {
            self.bits += 1;
        }
        self.ends.reserve(more);
        let old = std::mem::replace(&mut self.slots, vec![0; 1 << self.bits]);
        for entry in old.into_iter().filter(|e| *e != 0) {
            let free = self.free_from(self.slot(entry & UPPER));
            self.slots[free] = entry;
        }
    }

    fn free_from(&self, mut at: usize) -> usize {
        while self.slots[at] != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    /// The name of a text, or the free slot where it belongs.
    fn look(&self, hash: u64, text: &str) -> Result<Name, usize> {
        let mut at = self.slot(hash);
        loop {
            let entry = self.slots[at];
            if entry == 0 {
                return Err(at);
            }
            if (entry ^ hash) & UPPER == 0 && self.get_bytes(entry as u32) == text.as_bytes() {
                return Ok(Name(entry as u32));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The name of a text, a new one if need be. The empty text is the absent one.
    pub(super) fn intern(&mut self, text: &str) -> Name {
        if text.is_empty() {
            return Name::NONE;
        }
        self.reserve(1);
        self.intern_hashed(self.hash(text), text)
    }

    /// Names of texts, in their order.
    pub(super) fn intern_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>, names: &mut Vec<Name>) {
        let mut texts = texts.fuse();
        let (mut some, mut hashes) = ([""; AT_ONCE], [0; AT_ONCE]);
        loop {
            let mut count = 0;
            for text in texts.by_ref().take(AT_ONCE) {
                (some[count], hashes[count]) = (text, self.hash(text));
                count += 1;
            }
            if count == 0 {
                return;
            }
            self.reserve(count);
            // Their slots lie far apart: all are asked for before any is needed, so that the waits overlap. A loop of its
            // own: hashing between two of the waits would leave no room for that.
            let seen = hashes[..count].iter().fold(0, |seen, hash| seen ^ self.slots[self.slot(*hash)]);
            std::hint::black_box(seen);
            for (text, hash) in some[..count].iter().zip(hashes) {
                names.push(if text.is_empty() { Name::NONE } else { self.intern_hashed(hash, text) });
            }
        }
    }

    /// There must be room.
    fn intern_hashed(&mut self, hash: u64, text: &str) -> Name {
        let free = match self.look(hash, text) {
            Ok(name) => return name,
            Err(free) => free,
        };
        let name = u32::try_from(self.ends.len()).expect("a store holds fewer than four billion texts");
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        self.slots[free] = hash & UPPER | u64::from(name);
        Name(name)
    }

    /// The name of a text, if it has one.
    pub(super) fn find(&self, text: &str) -> Option<Name> {
        self.look(self.hash(text), text).ok()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>() + self.slots.len() * size_of::<u64>()
    }
}
