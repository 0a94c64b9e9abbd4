//! Text that a producer escaped for HTML, as it was before.
//!
//! Guarantee: one pass, so what was written as an escape (`&amp;lt;`) comes out as one. Only the five characters that have to be escaped,
//! and numbers, are known; an `&` that begins none of these is an `&`.

/// No escape that is known is longer: `&#x10FFFF;`.
const ESCAPE_BYTES_MAX: usize = 10;

/// The text without escapes; `None` when it has none.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, from) = rest.split_at(at);
        let end = from.bytes().take(ESCAPE_BYTES_MAX).position(|b| b == b';');
        let known = end.and_then(|end| Some((character(&from[1..end])?, end + 1)));
        let (meant, length) = known.unwrap_or(('&', 1));
        if length > 1 || out.is_some() {
            let out = out.get_or_insert_with(|| text[..text.len() - rest.len()].to_owned());
            out.push_str(before);
            out.push(meant);
        }
        rest = &from[length..];
    }
    out.map(|out| out + rest)
}

fn character(name: &str) -> Option<char> {
    let number = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        name => name.strip_prefix('#')?,
    };
    let digits =
        |s: &str, radix: u32| s.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(s, radix).ok())?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => digits(hex, 16),
        None => digits(number, 10),
    };
    code.and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_every_kind() {
        for (text, expected) in [
            ("tickets&#x2F;read", Some("tickets/read")),
            ("https:&#x2F;&#x2f;idp&#47;a", Some("https://idp/a")),
            ("&lt;a&gt; &quot;b&quot; &apos;c&#39;", Some("<a> \"b\" 'c'")),
            // Once, not until nothing is left.
            ("&amp;lt;", Some("&lt;")),
            ("a&b=c&amp;d&", Some("a&b=c&d&")),
            ("&#x1F600;", Some("\u{1f600}")),
            ("a", None),
            ("a&b;c", None),
            ("&copy;", None),
            ("&#xD800;", None),
            ("&#x;&#;&#+1;&#x110000;", None),
            ("&éé;", None),
            ("&", None),
            ("", None),
        ] {
            assert_eq!(unescaped(text).as_deref(), expected, "{text}");
        }
    }
}
