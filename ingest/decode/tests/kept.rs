//! What fuzzing found worth keeping is tried on every run: on its own target, and as a record of every format.

use catena_decode::Format;
use std::path::{Path, PathBuf};

/// The targets themselves, so that a run here holds to what a run of the fuzzer does.
#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "its own crate shows these to its targets")]
mod fuzz;

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn targets() -> Vec<&'static str> {
    let mut all: Vec<_> = Format::ALL.iter().map(|f| f.as_str()).chain(fuzz::OTHERS.iter().copied()).collect();
    all.sort_unstable();
    all
}

/// The kept inputs of a target.
fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = house().join("corpus").join(target);
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("it is kept here"))).collect()
}

fn holds(target: &str, path: &Path, data: &[u8]) {
    let tried = std::panic::catch_unwind(|| fuzz::run(target, data));
    assert!(tried.is_ok(), "`{target}` on {}", path.display());
}

#[test]
fn every_format_has_a_target_and_kept_inputs() {
    let manifest = std::fs::read_to_string(house().join("Cargo.toml")).expect("the targets have a manifest");
    for target in targets() {
        let source = std::fs::read_to_string(house().join(format!("fuzz_targets/{target}.rs"))).unwrap_or_default();
        assert!(source.contains(&format!("run(\"{target}\", data)")), "fuzz_targets/{target}.rs");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "`{target}` in fuzz/Cargo.toml");
        assert!(!kept(target).is_empty(), "fuzz/corpus/{target} is empty");
    }
}

#[test]
fn kept_inputs_hold_on_their_targets() {
    for target in targets() {
        kept(target).iter().for_each(|(path, data)| holds(target, path, data));
    }
}

#[test]
fn kept_inputs_hold_as_records_of_every_format() {
    for (path, data) in targets().into_iter().flat_map(kept) {
        Format::ALL.iter().for_each(|format| holds(format.as_str(), &path, &data));
    }
}
