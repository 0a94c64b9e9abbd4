//! What a producer took out of a record: erased members, and marks that stand in a value's place.
//!
//! Guarantees: a value that was taken out is neither absent nor what stands in its place, so that no condition and no table of outcomes
//! reads it: what would have been decided by it is unknown, under the reason of [`Gone`]. A mark is a text that says nothing else:
//! stars, `[REDACTED]`, `<masked>`, `**REDACTED**` and their like; a word of a vocabulary is none.

use super::pointer::{Pointer, Roots, Step};
use crate::json::Value;

/// How a value was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Its member was removed.
    Erased,
    /// Something stands in its place.
    Masked,
}

impl Gone {
    /// The reason of a decision whose answer was taken out.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Gone::Erased => "result_erased",
            Gone::Masked => "result_masked",
        }
    }
}

/// Words that, between brackets or stars, say that something was taken out.
const TAKEN_OUT: &[&str] = &[
    "redacted",
    "masked",
    "hidden",
    "erased",
    "removed",
    "filtered",
    "scrubbed",
    "sanitized",
    "sanitised",
    "suppressed",
    "omitted",
    "obfuscated",
    "secret",
    "sensitive",
    "confidential",
];
/// Marks that stand without brackets.
const BARE: &[&str] = &["redacted", "masked", "hidden_due_to_security_reasons"];

/// Whether a text stands in the place of a value that was taken out.
pub(crate) fn is_mask(text: &str) -> bool {
    // Most values begin with a letter: the quick way out.
    let Some(first) = text.bytes().next().filter(|_| text.len() <= 100) else { return false };
    if first.is_ascii_alphabetic() {
        let repeated = matches!(first, b'x' | b'X') && text.len() >= 4 && text.bytes().all(|b| b == first);
        return repeated || BARE.iter().any(|word| text.eq_ignore_ascii_case(word));
    }
    let text = text.trim();
    if text.chars().count() >= 3 && text.chars().all(|c| matches!(c, '*' | '#' | '•' | '█' | '●' | '·')) {
        return true;
    }
    let inner = text.trim_matches(|c: char| "[]<>(){}*#_-% ".contains(c));
    if inner.len() == text.len() {
        return false;
    }
    let mut words = inner.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| TAKEN_OUT.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Whether a value is a mark.
pub(crate) fn masked(v: Value<'_>) -> bool {
    v.as_str().is_some_and(is_mask)
}

impl Roots<'_> {
    /// Whether the answer of a policy was taken out: all of it, or also a part.
    pub(super) fn answer_removed(&self, parts: bool) -> Option<Gone> {
        let of = |list: Option<Value<'_>>| {
            let mut paths = list.into_iter().flat_map(|l| l.items()).filter_map(|v| v.as_str());
            paths.any(|path| {
                ["/result", "/mapped_result"].iter().any(|answer| {
                    path.strip_prefix(answer).is_some_and(|rest| rest.is_empty() || (parts && rest.starts_with('/')))
                })
            })
        };
        if of(self.erased) {
            return Some(Gone::Erased);
        }
        of(self.masked).then_some(Gone::Masked)
    }
}

impl Pointer {
    /// Whether what it leads to was taken out, or something around or inside it.
    pub(crate) fn gone(&self, roots: &Roots<'_>) -> Option<Gone> {
        if self.is_of_record() {
            for (list, gone) in [(roots.erased, Gone::Erased), (roots.masked, Gone::Masked)] {
                let mut removed = list.into_iter().flat_map(|l| l.items()).filter_map(|v| v.as_str());
                if removed.any(|path| self.meets(path)) {
                    return Some(gone);
                }
            }
        }
        let mut marked = false;
        let end = self.walk(roots, &mut |v| marked |= masked(v));
        end.is_some_and(masked).then_some(Gone::Masked).or(marked.then_some(Gone::Masked))
    }

    /// Whether a written pointer leads to the same value, to one around it or to one inside.
    fn meets(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return path.is_empty() };
        self.steps().iter().zip(path.split('/')).all(|(step, name)| match step {
            Step::First => true,
            Step::Member(known) | Step::Item(_, known) => *known == name.replace("~1", "/").replace("~0", "~"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_words() {
        for mark in [
            "**REDACTED**",
            "[REDACTED]",
            "***",
            "****************",
            "<masked>",
            "[Filtered]",
            "(hidden)",
            "{{redacted}}",
            "XXXX",
            "•••",
            "REDACTED",
            "HIDDEN_DUE_TO_SECURITY_REASONS",
            "[redacted:key:0123abcd]",
            "__MASKED__",
            "<value redacted by policy>",
        ] {
            assert!(is_mask(mark), "{mark}");
        }
        for word in [
            "allow",
            "deny",
            "hidden",
            "filtered",
            "removed",
            "*",
            "**",
            "xx",
            "",
            "[]",
            "-",
            "EFFECT_DENY",
            "masked-user",
        ] {
            assert!(!is_mask(word), "{word}");
        }
    }
}
