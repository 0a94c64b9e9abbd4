//! Long words: where something that could be a token stands.
//!
//! Guarantee: [`long`] reports every maximal run of at least [`RUN_MIN`] letters, digits and `+ / _ -`, once, in order, and
//! nothing else. Tokens are such runs, or have one; ordinary text has few. So a clean text is read once, 64 bytes at a time,
//! with vector instructions, and only its long words are looked at.

/// The shortest run: an access key of AWS has 20, the head of the shortest JWT 19.
pub(crate) const RUN_MIN: usize = 16;

/// Whether a byte is one of a run.
#[inline]
pub(crate) fn of_run(b: u8) -> bool {
    OF_RUN[usize::from(b)]
}

static OF_RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = (b as u8).is_ascii_alphanumeric() || matches!(b as u8, b'+' | b'/' | b'_' | b'-');
        b += 1;
    }
    table
};

/// One bit for each byte, set when it is one of a run. Written so that compilers make vector instructions of it.
#[inline]
fn bits(block: &[u8; 64]) -> u64 {
    let mut flags = [0u8; 64];
    for (flag, &b) in flags.iter_mut().zip(block) {
        let letter = (b | 0x20).wrapping_sub(b'a') < 26;
        // `/` and the digits follow each other.
        let digit = b.wrapping_sub(b'/') < 11;
        *flag = u8::from(letter | digit | (b == b'+') | (b == b'-') | (b == b'_'));
    }
    let mut bits = 0;
    for (i, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // The multiplication moves bit 0 of byte n to bit 56 + n.
        bits |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    bits
}

/// Hands each long run to `found`, from its first to behind its last byte, until it says true; whether it did.
#[inline]
pub(crate) fn long(text: &[u8], mut found: impl FnMut(usize, usize) -> bool) -> bool {
    let (mut before, mut done, mut base) = (0u64, 0usize, 0usize);
    // From the place where a block ends in a run, or begins in one.
    let extend = |from: usize| text[from..].iter().position(|b| !of_run(*b)).map_or(text.len(), |n| from + n);
    let begin =
        |to: usize, done: usize| text[done..to].iter().rposition(|b| !of_run(*b)).map_or(done, |n| done + n + 1);
    while base < text.len() {
        let rest = &text[base..];
        let now = match rest.first_chunk::<64>() {
            Some(block) => bits(block),
            None => {
                let mut last = [0u8; 64];
                last[..rest.len()].copy_from_slice(rest);
                bits(&last)
            }
        };
        // One that began in the block before, and is long only together with this one.
        let (open, close) = (before.leading_ones() as usize, now.trailing_ones() as usize);
        if close > 0 && open + close >= RUN_MIN && base >= done {
            let start = if open < 64 { base - open } else { begin(base, done) };
            done = if close < 64 { base + close } else { extend(base) };
            if found(start, done) {
                return true;
            }
        }
        // A bit stays when the 15 after it are set too.
        let mut full = now & (now >> 1);
        full &= full >> 2;
        full &= full >> 4;
        full &= full >> 8;
        while full != 0 {
            let at = full.trailing_zeros() as usize;
            if base + at >= done {
                // It begins here: had it begun before, it would have been found above.
                let length = (now >> at).trailing_ones() as usize;
                done = if at + length < 64 { base + at + length } else { extend(base + at) };
                if found(base + at, done) {
                    return true;
                }
            }
            if done >= base + 64 {
                break;
            }
            full &= u64::MAX << (done - base);
        }
        before = now;
        base += 64;
        // Inside a very long run nothing new can begin.
        while base + 64 <= done {
            before = u64::MAX;
            base += 64;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plainly(text: &[u8]) -> Vec<(usize, usize)> {
        let (mut runs, mut from) = (Vec::new(), 0);
        for end in 0..=text.len() {
            if end == text.len() || !of_run(text[end]) {
                if end - from >= RUN_MIN {
                    runs.push((from, end));
                }
                from = end + 1;
            }
        }
        runs
    }

    fn check(text: &[u8]) {
        let mut runs = Vec::new();
        assert!(!long(text, |start, end| {
            runs.push((start, end));
            false
        }));
        assert_eq!(runs, plainly(text), "{:?}", String::from_utf8_lossy(text));
    }

    #[test]
    fn every_length_at_every_place() {
        for length in (0..40).chain([63, 64, 65, 127, 128, 200, 1000]) {
            for before in 0..130 {
                let word = "aZ09+/_-".repeat(length).into_bytes();
                let text = [&vec![b'.'; before], &word[..length], b".", &word[..length.min(17)], b"\xc3\xa9"].concat();
                check(&text);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_plain_way(text in "([a-zA-Z0-9+/_-]{0,40}[ .,:@\\[`{é]{1,3}){0,12}") {
            check(text.as_bytes());
        }
    }
}
