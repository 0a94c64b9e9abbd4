//! The map of rooms: who may depend on whom, and who owns a heavy dependency.
//!
//! Read from the manifests (`cargo metadata --no-deps`), not from a resolved graph: what is declared is what was decided,
//! and it can be read on a machine that has downloaded nothing.

use crate::{clean, house};
use serde_json::Value;
use std::process::Command;

/// Who may depend on whom. Absent edges are the architecture.
const MAY_USE: &[(&str, &[&str])] = &[
    ("catena-schemas", &[]),
    ("catena-evidence", &[]),
    ("catena-lake", &["catena-schemas"]),
    ("catena-decode", &["catena-schemas"]),
    ("catena-collect", &["catena-schemas", "catena-evidence", "catena-lake", "catena-decode"]),
    ("catena-analysis", &["catena-schemas"]),
    ("catena-engine", &["catena-schemas", "catena-lake", "catena-analysis"]),
    ("catena-server", &["catena-schemas", "catena-evidence", "catena-analysis", "catena-engine"]),
    (
        "catena",
        &[
            "catena-schemas",
            "catena-evidence",
            "catena-decode",
            "catena-collect",
            "catena-analysis",
            "catena-engine",
            "catena-server",
        ],
    ),
];

/// Heavy dependencies, by the start of their name, and the only rooms that may build them.
const OWNERS: &[(&str, &[&str])] = &[
    ("rdkafka", &["catena-collect"]),
    ("fjall", &["catena-collect"]),
    ("deltalake", &["catena-collect"]),
    ("datafusion", &["catena-engine"]),
    ("ballista", &["catena-engine"]),
    ("tantivy", &["catena-engine"]),
    ("parquet", &["catena-lake", "catena-collect", "catena-engine"]),
    ("object_store", &["catena-collect", "catena-engine"]),
    ("axum", &["catena-collect", "catena-server", "catena"]),
    ("hyper", &["catena-collect", "catena-server", "catena"]),
    ("tokio", &["catena-collect", "catena-engine", "catena-server", "catena"]),
    ("clap", &["catena"]),
];

/// One line of a manifest: `user` depends on `used`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    user: String,
    used: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Part of what the crate is.
    Normal,
    /// Only for its tests or its build script.
    Aside,
}

fn edges(metadata: &Value) -> Vec<Edge> {
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().expect("cargo lists packages") {
        for dependency in package["dependencies"].as_array().expect("cargo lists dependencies") {
            edges.push(Edge {
                user: package["name"].as_str().unwrap_or_default().to_owned(),
                used: dependency["name"].as_str().unwrap_or_default().to_owned(),
                kind: if dependency["kind"].is_null() { Kind::Normal } else { Kind::Aside },
            });
        }
    }
    edges
}

/// The tests may use everything.
fn is_free(user: &str) -> bool {
    user == "catena-tests"
}

fn forbidden_edges(edges: &[Edge]) -> Vec<String> {
    let rooms: Vec<&str> = MAY_USE.iter().map(|(room, _)| *room).collect();
    let is_ours = |name: &str| name == "catena" || name.starts_with("catena-");
    let mut faults = Vec::new();
    for Edge { user, used, kind } in edges.iter().filter(|e| is_ours(&e.used) && !is_free(&e.user)) {
        let Some((_, may)) = MAY_USE.iter().find(|(room, _)| room == user) else {
            faults
                .push(format!("`{user}` is not on the map (tests/tests/tidy/map.rs); rooms are {}", rooms.join(", ")));
            continue;
        };
        // A crate may depend on itself for its own tests: that is how it switches a feature of its own on.
        let is_own_feature = user == used && *kind == Kind::Aside;
        if !may.contains(&used.as_str()) && !is_own_feature {
            faults.push(format!("`{user}` must not know `{used}`; it may use {may:?}"));
        }
    }
    faults
}

fn wrong_owners(edges: &[Edge]) -> Vec<String> {
    let mut faults = Vec::new();
    for Edge { user, used, kind } in edges.iter().filter(|e| !is_free(&e.user)) {
        for (heavy, owners) in OWNERS {
            let is_it = used == heavy || used.strip_prefix(heavy).is_some_and(|rest| rest.starts_with(['-', '_']));
            if *kind == Kind::Normal && is_it && !owners.contains(&user.as_str()) {
                faults.push(format!("`{user}` must not build `{used}`; its owners are {owners:?}"));
            }
        }
    }
    faults
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(house::root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON")
}

#[test]
fn rooms_know_only_what_they_may() {
    let edges = edges(&metadata());
    for (room, _) in MAY_USE {
        let stands = *room == "catena-evidence" || edges.iter().any(|e| e.user == *room);
        assert!(stands, "`{room}` is on the map, and in no manifest");
    }
    clean(forbidden_edges(&edges));
}

#[test]
fn heavy_dependencies_have_owners() {
    clean(wrong_owners(&edges(&metadata())));
}

#[test]
fn plain_cargo_test_builds_no_heavy_crate() {
    let metadata = metadata();
    let default: Vec<&str> = metadata["workspace_default_members"]
        .as_array()
        .expect("cargo lists default members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(default.iter().any(|id| id.contains("/tests")), "tidy itself is a default member: {default:?}");
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().expect("cargo lists packages") {
        let (id, name) = (package["id"].as_str().unwrap_or_default(), package["name"].as_str().unwrap_or_default());
        if !default.contains(&id) {
            continue;
        }
        for dependency in package["dependencies"].as_array().expect("cargo lists dependencies") {
            let used = dependency["name"].as_str().unwrap_or_default();
            let optional = dependency["optional"].as_bool().unwrap_or(false);
            let is_heavy = matches!(used, "catena-collect" | "catena-engine" | "catena-server" | "catena")
                || OWNERS.iter().any(|(heavy, _)| used == *heavy);
            if is_heavy && !optional {
                faults.push(format!(
                    "`{name}` is a default member and builds `{used}`; make it optional, behind `whole`"
                ));
            }
        }
    }
    clean(faults);
}

#[test]
fn every_room_takes_the_lints_of_the_root() {
    let mut faults = Vec::new();
    for page in house::pages().iter().filter(|p| p.path.ends_with("Cargo.toml") && p.path != "Cargo.toml") {
        if !takes_lints(&page.text) {
            faults.push(format!("{}: add\n[lints]\nworkspace = true", page.path));
        }
    }
    let root = std::fs::read_to_string(house::root().join("Cargo.toml")).expect("the workspace has a manifest");
    if !root.contains("unsafe_code = \"forbid\"") {
        faults.push("Cargo.toml: [workspace.lints.rust] has lost unsafe_code = \"forbid\"".into());
    }
    clean(faults);
}

#[test]
fn every_dependency_is_used() {
    let metadata = metadata();
    let root = house::root();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().expect("cargo lists packages") {
        let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().and_then(|f| f.strip_prefix(&root).ok()).expect("a crate of the workspace");
        let own = |p: &&house::Page| std::path::Path::new(&p.path).starts_with(folder) && p.path.ends_with(".rs");
        let mut sources: Vec<&str> = house::pages().iter().filter(own).map(|p| p.text.as_str()).collect();
        // A test may take in a file of another crate: `#[path = "../../engine/tests/all/lake.rs"]`.
        let taken: Vec<&str> = sources.iter().flat_map(|source| source.split("#[path = \"").skip(1)).collect();
        for path in taken {
            let end = path.split('"').next().unwrap_or_default().trim_start_matches("../");
            sources.extend(house::pages().iter().filter(|p| p.path.ends_with(end)).map(|p| p.text.as_str()));
        }
        for dependency in package["dependencies"].as_array().expect("cargo lists dependencies") {
            let name = dependency["rename"].as_str().or(dependency["name"].as_str()).unwrap_or_default();
            if !is_used(name, &sources) {
                faults.push(format!("{}: `{name}` is not used in this crate; remove it", folder.display()));
            }
        }
    }
    clean(faults);
}

/// Whether a crate stands in a source as a word of its own: `name::`, `use name;` or `extern crate name`.
fn is_used(dependency: &str, sources: &[&str]) -> bool {
    let name = dependency.replace('-', "_");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    sources.iter().any(|source| {
        source.match_indices(&name).any(|(at, _)| {
            let (before, after) = (&source[..at], &source[at + name.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word)
        })
    })
}

fn takes_lints(manifest: &str) -> bool {
    manifest
        .split("\n[")
        .any(|section| section.trim_start_matches('[').starts_with("lints]") && section.contains("workspace = true"))
}

/// The checkers object to a broken house.
#[test]
fn the_map_is_watched() {
    assert!(is_used("http-body-util", &["use http_body_util::BodyExt;"]));
    assert!(!is_used("hyper", &["use hyper_util::rt;", "// nohyper"]));
    let edge = |user: &str, used: &str, kind| Edge { user: user.into(), used: used.into(), kind };
    for (edge, want) in [
        (edge("catena-collect", "catena-engine", Kind::Normal), "must not know"),
        (edge("catena-engine", "catena-decode", Kind::Normal), "must not know"),
        (edge("catena-evidence", "catena-schemas", Kind::Aside), "must not know"),
        (edge("catena-schemas", "catena-schemas", Kind::Normal), "must not know"),
        (edge("catena-common", "catena-schemas", Kind::Normal), "not on the map"),
    ] {
        let faults = forbidden_edges(std::slice::from_ref(&edge));
        assert!(faults.len() == 1 && faults[0].contains(want), "{edge:?}: {faults:?}");
    }
    assert!(forbidden_edges(&[edge("catena-schemas", "catena-schemas", Kind::Aside)]).is_empty());
    assert!(forbidden_edges(&[edge("catena-tests", "catena-collect", Kind::Normal)]).is_empty());
    for (user, used, faults) in [
        ("catena-decode", "rdkafka", 1),
        ("catena-server", "datafusion-common", 1),
        ("catena-collect", "rdkafka", 0),
        ("catena-schemas", "axumatic", 0),
    ] {
        assert_eq!(wrong_owners(&[edge(user, used, Kind::Normal)]).len(), faults, "{user} {used}");
    }
    assert!(takes_lints("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"));
    assert!(!takes_lints("[package]\nversion.workspace = true\n"));
    let sample = serde_json::json!({"packages": [{"name": "catena-x", "dependencies": [
        {"name": "a", "kind": null}, {"name": "b", "kind": "dev"}]}]});
    let kinds: Vec<Kind> = edges(&sample).iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [Kind::Normal, Kind::Aside]);
}
