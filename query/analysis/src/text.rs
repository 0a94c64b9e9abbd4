//! Names made harmless for a terminal.
//!
//! Guarantee: what [`escape`] returns holds no character that a terminal obeys, or that hides or reorders others.

use std::borrow::Cow;

/// Text with control, invisible and reordering characters written as `\n`, `\t` or `\u{..}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_harmful(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The same for a text of several lines: line breaks and tabs stay.
pub fn escape_lines(text: &str) -> String {
    let lines = text.split('\n').map(|line| line.split('\t').map(escape).collect::<Vec<_>>().join("\t"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Controls (C0, DEL, C1), and zero-width, direction and tag characters.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_lies_still() {
        assert_eq!(escape("alice@corp.example"), "alice@corp.example");
        assert_eq!(escape("a\nb\tc"), "a\\nb\\tc");
        assert_eq!(escape("\u{1b}[2Jgone"), "\\u{1b}[2Jgone");
        assert_eq!(escape("abc\u{202e}fdp"), "abc\\u{202e}fdp");
        assert_eq!(escape_lines("a\n\tb\r\u{1b}\n"), "a\n\tb\\r\\u{1b}\n");
        assert_eq!(escape("\u{e0041}\u{9b}1m"), "\\u{e0041}\\u{9b}1m");
    }
}
