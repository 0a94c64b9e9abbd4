//! Mappings that were written for earlier versions: each is read, and makes the same events of the same records.

use crate::seen::{Collected, KEY, context};
use catena_decode::mapping::Mappings;
use catena_decode::{Decoder, Format, Redactor};
use expect_test::expect_file;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of a kind in the folders of all versions.
fn files(ending: &str) -> Vec<PathBuf> {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat");
    let mut found = Vec::new();
    for version in std::fs::read_dir(&versions).expect("the corpus of versions") {
        let Ok(folder) = std::fs::read_dir(version.expect("a folder").path().join("mappings")) else { continue };
        found.extend(folder.map(|file| file.expect("a file").path()));
    }
    found.retain(|path| path.extension().is_some_and(|e| e == ending));
    found.sort();
    found
}

#[test]
fn mappings_of_earlier_versions_read_as_before() {
    let mappings = files("toml");
    assert!(mappings.len() >= 2, "the corpus has {} mappings", mappings.len());
    for path in mappings {
        let text = std::fs::read_to_string(&path).expect("a mapping");
        let mapping = Mappings::shipped().with(&text, "mine").unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut decoder = Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(mapping));
        let mut seen = Collected::default();
        let records = std::fs::read_to_string(path.with_extension("ndjson")).expect("its records");
        for record in records.lines() {
            decoder.record(Format::Auto, record.as_bytes(), &context(), &mut seen);
        }
        let mut out = String::new();
        seen.events.iter().for_each(|event| out += &format!("{}\n", event.native));
        seen.asides.iter().for_each(|aside| out += &format!("aside: {} {}\n", aside.reason, aside.detail));
        seen.rejections.iter().for_each(|r| out += &format!("rejected: {} {}\n", r.reason, r.detail));
        expect_file![path.with_extension("expected")].assert_eq(&out);
    }
}
