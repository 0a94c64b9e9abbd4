//! What Rust files look like: they begin by saying what they guarantee, and hold no word that is banned.

use crate::{clean, house};

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc", "stuff"];
/// What must not stand in code, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("unsafe", "there is a safe way, or a crate that has one"),
    ("todo!", "finish it, or leave the room for it without a stub"),
    ("unimplemented!", "finish it, or leave the room for it without a stub"),
    ("dbg!", "use tracing, or nothing"),
];

/// The text with comments, strings and characters blanked: what is left is code, on its old lines.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if is_raw_string(bytes, at) => end_of_raw(bytes, at),
            b'\'' if is_character(bytes, at) => end_of_character(bytes, at),
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole pieces were blanked")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|w| w == what).map(|i| from + i)
}

fn end_of_block(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn hashes(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().take_while(|b| **b == b'#').count()
}

fn is_raw_string(bytes: &[u8], at: usize) -> bool {
    let follows_a_name =
        at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b';
    !follows_a_name && bytes.get(at + 1 + hashes(bytes, at + 1)) == Some(&b'"')
}

fn end_of_raw(bytes: &[u8], at: usize) -> usize {
    let hashes = hashes(bytes, at + 1);
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    find(bytes, at + 2 + hashes, &close).map_or(bytes.len(), |i| i + close.len())
}

/// A quote opens a character, unless it opens a lifetime: `'a'` does, `'a` and `'static` do not.
fn is_character(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at + 1) {
        Some(b'\\') => true,
        Some(first) if first.is_ascii() => bytes.get(at + 2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

fn end_of_character(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'\'' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Lines that hold `word` as a word of its own.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back().is_some_and(is_name);
            let after = line[at + word.len()..].chars().next().is_some_and(is_name);
            !before && (!after || word.ends_with('!'))
        })
    };
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(n, _)| n + 1).collect()
}

fn missing_doc(path: &str, text: &str) -> Vec<String> {
    let says_something = text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 12);
    if says_something { Vec::new() } else { vec![format!("{path}:1: begin with `//!`: what this file guarantees")] }
}

fn empty_name(path: &str) -> Vec<String> {
    let is_empty = path.split('/').any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")));
    if is_empty {
        vec![format!("{path}: the name says nothing; name what it does, or put it where it is used")]
    } else {
        Vec::new()
    }
}

fn banned_words(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut faults = Vec::new();
    for (word, instead) in BANNED {
        faults.extend(lines_with(&code, word).into_iter().map(|line| format!("{path}:{line}: `{word}`: {instead}")));
    }
    faults
}

/// The part of a file that is built into the product: tests come last.
fn production(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

/// Arguments and environment belong to `cli`; every other room is handed values.
fn surroundings(path: &str, text: &str) -> Vec<String> {
    let is_free =
        path.starts_with("cli/") || path.starts_with("tests/") || !path.contains("src/") || path.ends_with("/tests.rs");
    if is_free {
        return Vec::new();
    }
    let code = code_only(production(text));
    let mut faults = Vec::new();
    for word in ["std::env", "env::var", "env::vars", "env::args", "env::current_dir"] {
        faults.extend(
            lines_with(&code, word)
                .into_iter()
                .map(|line| format!("{path}:{line}: `{word}`: only cli/ reads it; pass the value in")),
        );
    }
    faults.sort();
    faults.dedup_by_key(|f| f.split(": ").next().unwrap_or_default().to_owned());
    faults
}

fn each(rule: impl Fn(&str, &str) -> Vec<String>) {
    let rust: Vec<_> = house::pages().iter().filter(|p| p.path.ends_with(".rs")).collect();
    assert!(rust.len() > 30, "only {} Rust files found", rust.len());
    clean(rust.iter().flat_map(|p| rule(&p.path, &p.text)).collect());
}

#[test]
fn every_file_says_what_it_guarantees() {
    each(missing_doc);
}

#[test]
fn names_say_something() {
    each(|path, _| empty_name(path));
}

#[test]
fn banned_words_stay_out() {
    each(banned_words);
}

#[test]
fn only_cli_looks_around() {
    each(surroundings);
}

/// The checkers object to broken files, and to nothing else.
#[test]
fn rules_of_source_are_watched() {
    let check = |faults: Vec<String>, want: &[&str]| {
        assert_eq!(faults.len(), want.len(), "{faults:?}");
        for (fault, want) in faults.iter().zip(want) {
            assert!(fault.contains(want), "{fault} / {want}");
        }
    };
    check(missing_doc("a.rs", "use x;\n"), &["a.rs:1"]);
    check(missing_doc("a.rs", "//! Doc\n"), &["a.rs:1"]);
    check(missing_doc("a.rs", "//! Cuts the stream.\n"), &[]);
    check(empty_name("x/src/utils.rs"), &["says nothing"]);
    check(empty_name("x/common/deep.rs"), &["says nothing"]);
    check(empty_name("x/src/uncommon.rs"), &[]);
    check(banned_words("a.rs", "fn f() {\n    todo!()\n}"), &["a.rs:2: `todo!`"]);
    check(banned_words("a.rs", "x; unsafe { y }"), &["`unsafe`"]);
    check(banned_words("a.rs", "let a = 'a'; dbg!(a);"), &["`dbg!`"]);
    check(banned_words("a.rs", "fn f<'a>(x: &'a str) { unimplemented!() }"), &["`unimplemented!`"]);
    check(
        banned_words("a.rs", "// unsafe\n/* dbg! /* todo! */ unsafe */ let unsafe_code = \"todo!() \\\" unsafe\";"),
        &[],
    );
    check(
        banned_words("a.rs", "let x = r#\"unsafe \" todo!\"#; let y = br\"dbg!\"; let q = '\"'; let b = '\\'';"),
        &[],
    );
    check(banned_words("a.rs", "let q = '\"'; unsafe { x } // \""), &["`unsafe`"]);
    let reads = "fn f() { std::env::var(\"X\") }\n#[cfg(test)]\nmod tests { fn g() { std::env::temp_dir() } }";
    check(surroundings("query/engine/src/a.rs", reads), &["a.rs:1"]);
    check(surroundings("query/engine/src/a.rs", "use std::env;\n"), &["a.rs:1"]);
    check(surroundings("cli/src/a.rs", reads), &[]);
    check(surroundings("query/engine/src/a.rs", "let v = env!(\"CARGO_PKG_VERSION\"); // std::env\n"), &[]);
}
