//! Our verifiers against the public vectors of transparency-dev/merkle, most of them adversarial.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catena_evidence::Hash;
use catena_evidence::proof::{verify_consistency, verify_inclusion};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The one vector where we differ: both trees have one leaf and the same root, a 12-byte stand-in ("dont care 2"). Equal
/// strings are equal, says the vector; a root that is not a hash is no root, say we.
const STRICTER: &str = "consistency/additional/sizes-are-equal-one-and-proof-is-empty.json";

#[test]
fn every_public_vector_is_judged_as_its_authors_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let (mut accepted, mut refused) = (0, 0);
    for file in files(&folder) {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).expect("a vector")).expect("JSON");
        let name = file.strip_prefix(&folder).expect("below the folder").to_string_lossy().into_owned();
        let want = !case["wantErr"].as_bool().expect("wantErr") && name != STRICTER;
        assert_eq!(judge(&case), want, "{name}: {}", case["desc"]);
        if want { accepted += 1 } else { refused += 1 }
    }
    assert_eq!((accepted, refused), (11, 185));
}

/// A vector holds base64 of any length; what is no hash cannot be handed to the verifier at all.
fn judge(case: &Value) -> bool {
    let proof = case["proof"].as_array().map_or(Some(Vec::new()), |p| p.iter().map(hash).collect());
    let size = |key: &str| case[key].as_u64().expect("a size");
    let Some(proof) = proof else { return false };
    if case.get("leafIdx").is_some() {
        let (Some(leaf), Some(root)) = (hash(&case["leafHash"]), hash(&case["root"])) else { return false };
        return verify_inclusion(size("leafIdx"), size("treeSize"), &leaf, &proof, &root);
    }
    let (Some(old), Some(new)) = (hash(&case["root1"]), hash(&case["root2"])) else { return false };
    verify_consistency(size("size1"), size("size2"), &proof, &old, &new)
}

fn hash(value: &Value) -> Option<Hash> {
    STANDARD.decode(value.as_str()?).expect("base64").try_into().ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
    }
    found
}
