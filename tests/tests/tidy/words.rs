//! Words that stand nowhere in the repository: places of the machine it was written on, and where packages come from.
//!
//! Whoever builds this has other folders and other mirrors. Patterns are put together from halves here, so that this
//! file does not hold them.

use crate::{clean, house};

/// Folders of somebody's machine.
const PLACES: &[(&str, &str)] = &[("/wo", "rk/"), ("/ro", "ot/"), ("/tm", "p/"), ("/ho", "me/")];
/// Hosts of package registries: names of packages are enough, each tool knows its own.
const HOSTS: &[(&str, &str)] = &[
    ("pypi.", "org"),
    ("files.python", "hosted.org"),
    ("registry.npm", "js.org"),
    ("repo1.ma", "ven.org"),
    ("repo.maven.ap", "ache.org"),
    ("static.cra", "tes.io"),
    ("index.cra", "tes.io"),
    ("crates", ".io/"),
    ("proxy.gol", "ang.org"),
    ("deb.deb", "ian.org"),
];
/// Cargo writes this itself, the same on every machine.
const LOCK_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

fn words(path: &str, text: &str, own: &[String]) -> Vec<String> {
    // Recorded logs are others' text: their servers had folders too.
    let is_recorded = path.starts_with("tests/corpus/");
    let join = |list: &[(&str, &str)]| -> Vec<String> { list.iter().map(|(a, b)| [*a, *b].concat()).collect() };
    let (places, hosts) = (join(PLACES), join(HOSTS));
    let mut faults = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| *line != LOCK_SOURCE) {
        let at = n + 1;
        for place in places.iter().chain(own).filter(|place| !is_recorded && stands_alone(line, place)) {
            faults.push(format!("{path}:{at}: `{place}` is a place of one machine"));
        }
        for host in hosts.iter().filter(|host| line.contains(host.as_str())) {
            faults
                .push(format!("{path}:{at}: `{host}`: name the package; where it comes from is the reader's setting"));
        }
    }
    faults
}

/// Whether a path begins here, and is not the middle of a longer one or of an address.
fn stands_alone(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        !line[..at]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '>' | '}' | '~' | '*'))
    })
}

/// Where this very checkout lies, and who builds it.
fn own_places() -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    [house::root().display().to_string(), home].into_iter().filter(|p| p.len() >= 6).collect()
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let own = own_places();
    clean(house::pages().iter().flat_map(|p| words(&p.path, &p.text, &own)).collect());
}

/// The checker objects to each word, and to nothing else.
#[test]
fn words_are_watched() {
    for (a, b) in PLACES.iter().chain(HOSTS) {
        let line = format!("see {a}{b}x");
        assert_eq!(words("docs/a.md", &line, &[]).len(), 1, "{line}");
    }
    let own = ["/somewhere/else".to_owned()];
    assert_eq!(words("a", "cd /somewhere/else/now", &own).len(), 1);
    assert_eq!(words("a", LOCK_SOURCE, &own), Vec::<String>::new());
    assert_eq!(words("a", "https://corp.example/wor/k/ at x/tmp/y, <lake>/tmp/z", &own), Vec::<String>::new());
    let place = ["/wo", "rk/"].concat();
    assert_eq!(words("tests/corpus/x/log", &place, &own), Vec::<String>::new());
}
