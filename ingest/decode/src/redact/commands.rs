//! Secrets in words without a name of their own: command lines and SQL.
//!
//! Guarantee: each begins at a sign of [`super::runs::scan`] (a dash or a single quote behind a space or a quote), and a bounded part of
//! the text before and behind it is read.
//!
//! ```text
//!  curl -u user:X   mysql -pX   sshpass -p X   keytool -storepass X   IDENTIFIED BY 'X'   WITH PASSWORD 'X'
//!       ▲                 ▲             ▲              ▲                            ▲                     ▲
//! ```

use super::names::{self, Says};
use super::places::{bare_or_quoted, judge, word_before};
use super::search::Net;
use super::tokens::Hit;

/// Bytes of a command before an option in which its program is looked for.
const COMMAND_MAX: usize = 256;
/// Longest name of an option with one dash.
const OPTION_MAX: usize = 32;
/// Bytes between a program's option and its value where each is a text of a list.
const GAP_MAX: usize = 16;

/// How a program takes its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Right behind the letter alone: a space would make it ask.
    Attached,
    /// There, or as the next word.
    Either,
    /// The same, as `user:secret`.
    Pair,
}

const PROGRAMS: &[(&[&str], &[u8], Takes)] = &[
    (&["curl"], b"uU", Takes::Pair),
    (&["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlsh"], b"p", Takes::Attached),
    (&["mariadb", "mariadb-dump", "mariadb-admin", "7z", "7za", "7zz"], b"p", Takes::Attached),
    (&["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"], b"p", Takes::Either),
    (&["login"], b"p", Takes::Either),
    (&["redis-cli"], b"a", Takes::Either),
    (&["ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldapwhoami", "ldappasswd"], b"w", Takes::Either),
    (&["sqlcmd", "bcp", "zip", "unzip", "ipmitool"], b"P", Takes::Either),
];

fn takes(program: &[u8], letter: u8) -> Option<Takes> {
    let program = program.rsplit(|b| *b == b'/').next()?;
    let known = |(names, letters, _): &&(&[&str], &[u8], Takes)| {
        letters.contains(&letter) && names.iter().any(|name| name.as_bytes() == program)
    };
    PROGRAMS.iter().find(known).map(|p| p.2)
}

/// How the program that is called before an option takes it.
fn taken(text: &[u8], at: usize, letter: u8) -> Option<Takes> {
    if !PROGRAMS.iter().any(|(_, letters, _)| letters.contains(&letter)) {
        return None;
    }
    let floor = at.saturating_sub(COMMAND_MAX);
    let command = text[floor..at].rsplit(|b| matches!(b, b'\n' | b';' | b'|' | b'`')).next()?;
    let of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    command.split(|b| !of_word(b)).find_map(|word| takes(word, letter))
}

/// The name of `-name`, given where its dash is.
fn name(text: &[u8], at: usize) -> &[u8] {
    let rest = &text[at + 1..];
    &rest[..rest.iter().take(OPTION_MAX).take_while(|b| b.is_ascii_alphabetic()).count()]
}

/// Whether an option with one dash, or a text in single quotes, may be a secret; false is certain.
#[inline]
pub(super) fn announced(text: &[u8], at: usize) -> bool {
    match text.get(at + 1) {
        _ if text[at] == b'\'' => quoted_says(text, at, |name| names::says(name, true)) != Says::Nothing,
        Some(letter) if letter.is_ascii_alphabetic() => {
            let name = name(text, at);
            (name.len() > 2 && names::says(name, true) != Says::Nothing) || taken(text, at, *letter).is_some()
        }
        _ => false,
    }
}

/// What stands behind an option with one dash.
pub(super) fn option(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    let letter = *text.get(at + 1)?;
    let name = name(text, at);
    let (from, takes) = match taken(text, at, letter) {
        Some(takes) => (at + 2, takes),
        None if name.len() > 2 && net.says(name) == Says::Secret => (at + 1 + name.len(), Takes::Either),
        None => return None,
    };
    let attached_quote = attached_quote(text, from);
    let apart = !attached_quote && text.get(from).is_none_or(|b| matches!(b, b' ' | b'"' | b'\'' | b'\\' | b','));
    let from = match (takes, apart) {
        (_, false) if takes == Takes::Either && from > at + 2 => return None,
        (_, false) => from,
        (Takes::Attached, true) => return None,
        (_, true) => value_behind(text, from)?,
    };
    let (mut start, end) = bare_or_quoted(text, from, net.loose);
    if takes == Takes::Pair {
        start += text[start..end].iter().position(|b| *b == b':')? + 1;
    } else if text.get(start) == Some(&b'-') {
        return None;
    }
    judge(text, start, end, Says::Secret, "assignment", 1)
}

/// Whether a quoted word follows, as in `-p'x'`: not the quote that ends a text with the option in it.
fn attached_quote(text: &[u8], from: usize) -> bool {
    const WORD_MAX: usize = 128;
    let Some(b'\'') = text.get(from) else { return false };
    let near = &text[from + 1..text.len().min(from + 1 + WORD_MAX)];
    let end = near.iter().position(|b| *b == b'\'').unwrap_or(0);
    end > 0 && !near[..end].iter().any(|b| b.is_ascii_whitespace() || *b == b',')
}

/// Where the next word begins, which may be the next text of a list.
fn value_behind(text: &[u8], from: usize) -> Option<usize> {
    let gap = &text[from..text.len().min(from + GAP_MAX)];
    let between = |b: &&u8| matches!(b, b'\\' | b'"' | b'\'' | b',' | b' ' | b'\t');
    match gap.first()? {
        b' ' => Some(from + gap.iter().take_while(|b| **b == b' ').count()),
        _ => {
            let gap = &gap[..gap.iter().take_while(between).count()];
            let comma = memchr::memchr(b',', gap)?;
            Some(from + comma + 1 + gap[comma + 1..].iter().take_while(|b| **b == b' ').count())
        }
    }
}

/// What the words before a single quote say of the text that it opens.
fn quoted_says(text: &[u8], at: usize, says: impl Fn(&[u8]) -> Says) -> Says {
    let end = at - text[..at].iter().rev().take_while(|b| **b == b' ').count();
    let word = word_before(text, end);
    if word.eq_ignore_ascii_case(b"by") {
        let floor = end.saturating_sub(COMMAND_MAX / 4);
        let identified = text[floor..end].windows(10).any(|w| w.eq_ignore_ascii_case(b"identified"));
        return if identified { Says::Secret } else { Says::Nothing };
    }
    match says(word) {
        Says::Secret => Says::Secret,
        _ => Says::Nothing,
    }
}

/// `IDENTIFIED BY 'x'`, `PASSWORD 'x'`; in prose a telling name may stand before the name of something.
pub(super) fn quoted(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    const PASSWORDS: [&[u8]; 4] = [b"password", b"passwd", b"pwd", b"by"];
    let says = quoted_says(text, at, |name| net.says(name));
    if says == Says::Nothing {
        return None;
    }
    let (start, end) = bare_or_quoted(text, at, net.loose);
    let near = &text[start..end.min(start + OPTION_MAX * 4)];
    let word = word_before(text, at - text[..at].iter().rev().take_while(|b| **b == b' ').count());
    let surely = PASSWORDS.iter().any(|name| word.eq_ignore_ascii_case(name)) && !near.contains(&b' ');
    (surely || super::places::odd(near)).then(|| judge(text, start, end, says, "assignment", 1)).flatten()
}

/// What an item of a list of arguments says of itself or the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The secret begins in it, behind so many bytes.
    Holds(usize),
    /// The next one is it.
    Announces,
}

/// The same where each word is an item of a list, given those before it.
pub(super) fn item<'t>(item: &str, mut before: impl Iterator<Item = &'t str>) -> Option<Item> {
    let [b'-', letter, rest @ ..] = item.as_bytes() else { return None };
    if *letter == b'-' || !PROGRAMS.iter().any(|(_, letters, _)| letters.contains(letter)) {
        let telling = rest.len() > 1 && *letter != b'-' && names::says(&item.as_bytes()[1..], true) == Says::Secret;
        return telling.then_some(Item::Announces);
    }
    match (before.find_map(|word| takes(word.as_bytes(), *letter)), rest.is_empty()) {
        (Some(Takes::Either | Takes::Pair), true) => Some(Item::Announces),
        (Some(_), false) => Some(Item::Holds(2)),
        _ => {
            let telling = rest.len() > 1 && names::says(&item.as_bytes()[1..], true) == Says::Secret;
            telling.then_some(Item::Announces)
        }
    }
}

/// A file `.netrc`, which has no signs at all: `machine x login y password z`. For bytes that nothing could read.
pub(super) fn netrc(text: &[u8], net: Net<'_>, hits: &mut Vec<Hit>) {
    const NAME: &[u8] = b"password ";
    for at in memchr::memmem::find_iter(text, NAME) {
        let floor = at.saturating_sub(COMMAND_MAX);
        let before = text[floor..at].rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let near = &text[at + NAME.len()..text.len().min(at + NAME.len() + COMMAND_MAX)];
        let alone = before.iter().all(u8::is_ascii_whitespace)
            && near.split(|b| *b == b'\n').next().is_some_and(|v| !v.trim_ascii().contains(&b' '));
        if alone || memchr::memmem::find(before, b"login ").is_some() {
            let (start, end) = bare_or_quoted(text, at + NAME.len(), net.loose);
            hits.extend(judge(text, start, end, Says::Secret, "assignment", 1));
        }
    }
}
