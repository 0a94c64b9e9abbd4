//! What documents and data claim is there: linked pages, named tests, generated files, a corpus for every format.

use crate::clean;
use crate::house::{self, Page};
use std::collections::BTreeSet;

/// Pages that a reader is sent to by name, and that must stand.
const MUST_STAND: &[&str] = &[
    "README.md",
    "LICENSE",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/conventions.md",
    "docs/invariants.md",
    "docs/operating.md",
    "docs/ingest.md",
    "docs/native-event.md",
    "docs/glossary.md",
];

/// Relative links `](there)` of a Markdown page that lead nowhere.
fn broken_links(page: &str, text: &str, stands: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ', '#']).next().unwrap_or_default();
            let is_elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !is_elsewhere && !stands(&resolve(page, target)) {
                faults.push(format!("{page}:{}: `{target}` is not there", n + 1));
            }
        }
    }
    faults
}

/// A link below the folder of its page, as a path below the root.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Pages of `docs/` that any text names, comments included, and that are not there.
fn missing_pages(page: &str, text: &str, stands: &dyn Fn(&str) -> bool) -> Vec<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let mut faults = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("docs/") {
            let is_middle = line[..at].chars().next_back().is_some_and(is_path);
            let rest = &line[at..];
            let named = rest[..rest.find(|c| !is_path(c)).unwrap_or(rest.len())].trim_end_matches('.');
            // A pattern (`NNNN-name.md`) is no page.
            if !is_middle && named.ends_with(".md") && !named.contains("NNNN") && !stands(named) {
                faults.push(format!("{page}:{}: `{named}` is not there", n + 1));
            }
        }
    }
    faults
}

/// Tests that a page names as `path/to/file.rs::name`, and that are not there.
fn missing_tests(page: &str, text: &str, source: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for code in line.split('`').skip(1).step_by(2) {
            let Some((path, name)) = code.split_once(".rs::") else { continue };
            let path = format!("{path}.rs");
            let is_there = source(&path).is_some_and(|text| text.contains(&format!("fn {name}(")));
            if !is_there {
                faults.push(format!("{page}:{}: no test `{name}` in `{path}`", n + 1));
            }
        }
    }
    faults
}

/// Ids of invariants, `C-1` and the like, in a text.
fn ids(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.match_indices("C-")
        .filter(|(at, _)| !text[..*at].chars().next_back().is_some_and(is_name))
        .map(|(at, _)| {
            let digits: String = text[at + 2..].chars().take_while(char::is_ascii_digit).collect();
            (at + 2 + digits.len(), digits)
        })
        .filter(|(end, digits)| !digits.is_empty() && !text[*end..].chars().next().is_some_and(is_name))
        .map(|(_, digits)| format!("C-{digits}"))
        .collect()
}

/// Generated files that no test compares with what the code writes.
fn unwatched(generated: &[String], sources: &[Page]) -> Vec<String> {
    let names = |text: &str, file: &str| text.contains(file) && text.contains("#[test]");
    generated
        .iter()
        .filter(|path| {
            let (room, below) = path.split_once('/').unwrap_or(("", path.as_str()));
            let of_room = sources.iter().filter(|p| p.path.starts_with(&format!("{room}/")) && p.path.ends_with(".rs"));
            !of_room.into_iter().any(|p| names(&p.text, below))
        })
        .map(|path| format!("{path}: generated, and no test of its room names it to see whether it is stale"))
        .collect()
}

/// Names of formats in `as_str` of the decoder's `Format`.
fn formats(decoder: &str) -> Vec<String> {
    decoder
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Format::")?.split_once("=> \"")?.1.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "auto")
        .collect()
}

fn source(path: &str) -> Option<String> {
    house::pages().iter().find(|p| p.path == path).map(|p| p.text.clone())
}

#[test]
fn pages_stand() {
    clean(MUST_STAND.iter().filter(|p| !house::stands(p)).map(|p| format!("{p} is missing")).collect());
}

#[test]
fn links_lead_somewhere() {
    let ours = house::pages().iter().filter(|p| p.path.ends_with(".md") && !p.path.starts_with("tests/corpus/"));
    clean(ours.flat_map(|p| broken_links(&p.path, &p.text, &house::stands)).collect());
}

#[test]
fn named_pages_are_there() {
    let ours = house::pages()
        .iter()
        .filter(|p| !p.path.starts_with("tests/corpus/") && !p.path.starts_with("tests/tests/tidy/"));
    clean(ours.flat_map(|p| missing_pages(&p.path, &p.text, &house::stands)).collect());
}

#[test]
fn invariants_have_their_tests() {
    let page = source("docs/invariants.md").expect("docs/invariants.md is there");
    let listed = ids(&page);
    assert!(listed.len() >= 10, "{listed:?}");
    let mut faults = missing_tests("docs/invariants.md", &page, &source);
    for line in page.lines().filter(|line| line.starts_with("| C-")) {
        let hunted = line.contains(".rs::") || line.contains(".py`") || line.contains(".sh`");
        if !hunted {
            faults.push(format!("docs/invariants.md: no test in `{line}`"));
        }
    }
    for page in house::pages().iter().filter(|p| p.path.ends_with(".rs") && !p.path.starts_with("tests/tests/tidy/")) {
        faults.extend(
            ids(&page.text).difference(&listed).map(|id| format!("{}: {id} is not in docs/invariants.md", page.path)),
        );
    }
    clean(faults);
}

#[test]
fn generated_files_are_watched() {
    let generated: Vec<String> = house::pages()
        .iter()
        .map(|p| p.path.clone())
        .filter(|p| p.starts_with("schemas/event/") || p == "schemas/openapi.json")
        .collect();
    assert!(generated.iter().any(|p| p.starts_with("schemas/event/")), "the schema of the event is committed");
    clean(unwatched(&generated, house::pages()));
}

fn stands_in_docs(name: &str) -> bool {
    house::pages().iter().any(|p| p.path == format!("docs/producers/{name}.md"))
}

#[test]
fn every_format_has_a_corpus_or_a_page() {
    let decoder = source("ingest/decode/src/lib.rs").expect("the decoder is there");
    let formats = formats(&decoder);
    assert!(formats.len() >= 4, "{formats:?}");
    let has = |name: &str| house::pages().iter().any(|p| p.path.starts_with(&format!("tests/corpus/{name}/")));
    // Where no real log can be had, a page says what the decoder was made from; these two are no producers.
    let told = |name: &str| stands_in_docs(name) || matches!(name, "authority" | "mapped");
    let faults = formats.iter().filter(|name| !has(name) && !told(name));
    clean(faults.map(|name| format!("neither tests/corpus/{name}/ nor docs/producers/{name}.md")).collect());
}

/// The checkers object to broken pages, and to nothing else.
#[test]
fn rules_of_pages_are_watched() {
    let stands = |path: &str| matches!(path, "docs/a.md" | "README.md" | "tests/x.rs");
    assert_eq!(broken_links("docs/a.md", "[x](b.md) and [y](../README.md#top)", &stands).len(), 1);
    assert_eq!(broken_links("docs/a.md", "[x](a.md) [y](https://example.org/b.md) [z](#here)", &stands).len(), 0);
    assert_eq!(missing_pages("x.rs", "//! see `docs/b.md`.", &stands).len(), 1);
    assert_eq!(
        missing_pages("x.rs", "//! see docs/a.md. Then docs/decisions/NNNN-name.md; other/docs/b.md", &stands).len(),
        0
    );
    let source = |path: &str| (path == "tests/x.rs").then(|| "#[test]\nfn holds() {}".to_owned());
    assert_eq!(missing_tests("a.md", "`tests/x.rs::breaks` `tests/y.rs::holds`", &source).len(), 2);
    assert_eq!(missing_tests("a.md", "`tests/x.rs::holds` plain.rs::text", &source).len(), 0);
    assert_eq!(ids("C-1, (C-22) not RFC-3, C-x, AC-4 or C-5a"), ["C-1", "C-22"].map(str::to_owned).into());
    let page = |path: &str, text: &str| Page { path: path.into(), text: text.into() };
    let generated = ["schemas/event/v1.json".to_owned()];
    let stale = [
        page("schemas/src/wire.rs", "const X: &str = \"../event/v1.json\";"),
        page("cli/src/a.rs", "#[test] event/v1.json"),
    ];
    assert_eq!(unwatched(&generated, &stale).len(), 1);
    let fresh = [page("schemas/src/wire.rs", "#[test]\nfn stale() { include_str!(\"../event/v1.json\") }")];
    assert_eq!(unwatched(&generated, &fresh).len(), 0);
    assert_eq!(formats("  Format::Auto => \"auto\",\n Format::Opa => \"opa\",\n Format::Opa | x"), ["opa"]);
}
