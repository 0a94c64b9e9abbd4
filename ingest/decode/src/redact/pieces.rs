//! Texts of which a part is meant: cut after they have been redacted, never before, because a secret may stand in two of the parts,
//! or be known by what stands in another.

use super::names;
use std::borrow::Cow;

/// The pieces of a redacted text between any of the separators, without empty ones. A marker is never cut.
pub(crate) fn pieces<'t>(text: Cow<'t, str>, separators: &[&str]) -> Vec<Cow<'t, str>> {
    match text {
        Cow::Borrowed(s) => between(s, separators).map(Cow::Borrowed).collect(),
        Cow::Owned(s) => between(&s, separators).map(|s| Cow::Owned(s.to_owned())).collect(),
    }
}

fn between<'t>(text: &'t str, separators: &[&str]) -> impl Iterator<Item = &'t str> {
    let (mut from, mut at) = (0, 0);
    std::iter::from_fn(move || {
        while at < text.len() {
            let rest = &text[at..];
            if let Some(marker) = names::marker(rest.as_bytes()) {
                at += marker;
                continue;
            }
            let separator = separators.iter().find(|s| !s.is_empty() && rest.starts_with(**s));
            let Some(separator) = separator else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let piece = &text[from..at];
            at += separator.len();
            from = at;
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        let last = text.get(from..).filter(|s| !s.is_empty());
        from = text.len() + 1;
        last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_texts() {
        for (text, separators, expected) in [
            ("a b  c", &[" "][..], "a|b|c"),
            ("", &[" "], ""),
            ("a{b}[none]", &["{", "}", "[", "]"], "a|b|none"),
            ("a[redacted:key:01234567]b]c", &["[", "]"], "a[redacted:key:01234567]b|c"),
            ("a::b", &["::", ""], "a|b"),
            ("é,ü", &[","], "é|ü"),
        ] {
            assert_eq!(pieces(text.into(), separators).join("|"), expected, "{text}");
            assert_eq!(pieces(text.to_owned().into(), separators).join("|"), expected, "{text}");
        }
    }
}
