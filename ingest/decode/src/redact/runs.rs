//! Long words and signs: where something that could be a token stands, and where something that could announce a secret.
//!
//! Guarantee: [`scan`] reports every maximal run of at least [`RUN_MIN`] letters, digits and `+ / _ -`, and every sign, each once, and
//! nothing else; runs in their order, and signs in theirs. Tokens are such runs, or have one; what stands behind a name stands
//! behind a sign; ordinary text has few of either. So a clean text is read once, 64 bytes at a time, with vector instructions,
//! and only its long words and signs are looked at.

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

/// Which bytes are of a run, and which are signs: `= > ? @ %`, a colon, the second of two dashes, a dash or a single quote behind a
/// space or a quote, and a space that could be the one after `Bearer`, `Basic` or `DPoP`. Without `MEMBERS` a colon after a quote is none: in JSON every member has one. Written so that
/// compilers make vector instructions of it; in one loop it takes half as long again.
#[inline]
fn flags<const MEMBERS: bool>(block: &[u8; 64], before: &[u8; 64]) -> ([u8; 64], [u8; 64]) {
    let (mut words, mut signs) = ([0u8; 64], [0u8; 64]);
    for (word, &b) in words.iter_mut().zip(block) {
        let letter = (b | 0x20).wrapping_sub(b'a') < 26;
        // `/` and the digits follow each other, and so do `=`, `>`, `?` and `@`.
        let digit = b.wrapping_sub(b'/') < 11;
        *word = u8::from(letter | digit | (b == b'+') | (b == b'-') | (b == b'_'));
    }
    for ((sign, &b), &p) in signs.iter_mut().zip(block).zip(before) {
        // A space or a double quote.
        let gap = (p & 0xfd) == b' ';
        // `p` and `r`, small or not, and `c`.
        let scheme = ((p | 0x22) == b'r') | ((p | 0x20) == b'c');
        let is_sign = (b.wrapping_sub(b'=') < 4)
            | (b == b'%')
            | ((b == b':') & (MEMBERS | (p != b'"')))
            | ((b == b'-') & (p == b'-'))
            | (((b == b'-') | (b == b'\'')) & gap)
            | ((b == b' ') & scheme);
        *sign = u8::from(is_sign);
    }
    (words, signs)
}

/// One bit for each byte, set when its flag is.
#[inline]
fn bits(flags: &[u8; 64]) -> u64 {
    let mut bits = 0;
    for (i, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // The multiplication moves bit 0 of byte n to bit 56 + n.
        bits |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    bits
}

/// Hands each long run to `run`, from its first to behind its last byte, and each sign to `sign`, until one says true; whether it did.
#[inline]
pub(crate) fn scan<const MEMBERS: bool>(
    text: &[u8],
    mut run: impl FnMut(usize, usize) -> bool,
    mut sign: impl FnMut(usize) -> bool,
) -> bool {
    let (mut open, mut done, mut base) = (0u64, 0usize, 0usize);
    // From the place where a block ends in a run, or begins in one.
    let extend = |from: usize| text[from..].iter().position(|b| !of_run(*b)).map_or(text.len(), |n| from + n);
    let begin =
        |to: usize, done: usize| text[done..to].iter().rposition(|b| !of_run(*b)).map_or(done, |n| done + n + 1);
    while base < text.len() {
        let shifted = base.checked_sub(1).and_then(|from| text[from..].first_chunk::<64>());
        let (words, signs) = match (text[base..].first_chunk::<64>(), shifted) {
            (Some(block), Some(before)) => flags::<MEMBERS>(block, before),
            _ => {
                let (block, before) = padded(text, base);
                flags::<MEMBERS>(&block, &before)
            }
        };
        if signs.as_chunks::<8>().0.iter().fold(0, |all, eight| all | u64::from_le_bytes(*eight)) != 0 {
            let mut signs = bits(&signs);
            while signs != 0 {
                if sign(base + signs.trailing_zeros() as usize) {
                    return true;
                }
                signs &= signs - 1;
            }
        }
        let now = bits(&words);
        // One that began in the block before, and is long only together with this one.
        let (head, tail) = (open.leading_ones() as usize, now.trailing_ones() as usize);
        if tail > 0 && head + tail >= RUN_MIN && base >= done {
            let start = if head < 64 { base - head } else { begin(base, done) };
            done = if tail < 64 { base + tail } else { extend(base) };
            if run(start, done) {
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
                if run(base + at, done) {
                    return true;
                }
            }
            if done >= base + 64 {
                break;
            }
            full &= u64::MAX << (done - base);
        }
        open = now;
        base += 64;
    }
    false
}

/// The 64 bytes from a place on, and the 64 that stand one before them; zeros where there are none.
#[cold]
fn padded(text: &[u8], base: usize) -> ([u8; 64], [u8; 64]) {
    let (mut block, mut before) = ([0u8; 64], [0u8; 64]);
    let rest = &text[base..text.len().min(base + 64)];
    block[..rest.len()].copy_from_slice(rest);
    before[1..].copy_from_slice(&block[..63]);
    before[0] = base.checked_sub(1).map_or(0, |from| text[from]);
    (block, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plainly(text: &[u8]) -> (Vec<(usize, usize)>, Vec<usize>) {
        let (mut runs, mut from) = (Vec::new(), 0);
        for end in 0..=text.len() {
            if end == text.len() || !of_run(text[end]) {
                if end - from >= RUN_MIN {
                    runs.push((from, end));
                }
                from = end + 1;
            }
        }
        let sign = |at: &usize| {
            let before = at.checked_sub(1).map_or(0, |n| text[n]);
            match text[*at] {
                b'=' | b'>' | b'?' | b'@' | b'%' => true,
                b':' => before != b'"',
                b'-' => matches!(before, b'-' | b' ' | b'"'),
                b'\'' => matches!(before, b' ' | b'"'),
                b' ' => matches!(before | 0x22, b'r') || matches!(before | 0x20, b'c'),
                _ => false,
            }
        };
        (runs, (0..text.len()).filter(sign).collect())
    }

    fn check(text: &[u8]) {
        let (mut runs, mut signs) = (Vec::new(), Vec::new());
        let mut run = |start, end| {
            runs.push((start, end));
            false
        };
        let mut sign = |at| {
            signs.push(at);
            false
        };
        assert!(!scan::<false>(text, &mut run, &mut sign));
        assert_eq!((runs, signs), plainly(text), "{:?}", String::from_utf8_lossy(text));
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
        fn agrees_with_the_plain_way(text in "([a-zA-Z0-9+/_-]{0,40}[ .,:@\\[`{é=>?%\"'rcPR-]{1,3}){0,12}") {
            check(text.as_bytes());
        }
    }
}
