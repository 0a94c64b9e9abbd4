//! The committed JSON Schemas and the tables of the docs are what the types and the table of fields say. After a change of these: `UPDATE=1 cargo test -p catena-schemas`.

use catena_schemas::fixture::full::MEMBERS;
use catena_schemas::{authority, wire};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn check(file: &str, schema: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let want = serde_json::to_string_pretty(&sorted(schema)).expect("a schema is JSON") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &want).expect("the schema can be written");
    }
    let got = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(got == want, "schemas/{file} is stale: run the tests once with UPDATE=1");
}

/// Members in the order of their names, whether or not a crate of the build asked serde_json to keep another one.
fn sorted(json: &Value) -> Value {
    match json {
        Value::Object(members) => {
            let by_name: BTreeMap<_, _> = members.iter().map(|(name, member)| (name.clone(), sorted(member))).collect();
            Value::Object(by_name.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

#[test]
fn the_schema_of_the_event_is_current() {
    check("event/v1.json", &wire::schema());
}

#[test]
fn the_schema_of_the_records_of_authority_is_current() {
    check("event/authority-v1.json", &authority::schema());
}

/// Generators and people read the descriptions: every member has one.
#[test]
fn every_member_is_described() {
    for schema in [wire::schema(), authority::schema()] {
        let mut members = 0;
        walk(&schema, &mut members);
        assert!(members > 30, "{members} members seen");
    }
}

fn walk(schema: &Value, members: &mut usize) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        *members += 1;
        let described = member.get("description").is_some() || member.get("const").is_some();
        assert!(described, "{name} in {} has no description", schema["title"]);
    }
    for part in ["$defs", "properties"] {
        schema[part].as_object().into_iter().flatten().for_each(|(_, inner)| walk(inner, members));
    }
    for part in ["oneOf", "anyOf", "allOf"] {
        schema[part].as_array().into_iter().flatten().for_each(|inner| walk(inner, members));
    }
}

#[test]
fn only_three_members_of_an_event_are_required() {
    let schema = wire::schema();
    assert_eq!(schema["required"], serde_json::json!(["id", "time"]));
    assert_eq!(schema["else"]["required"], serde_json::json!(["decision"]), "unless it is an execution");
    assert_eq!(schema["$defs"]["Decision"]["required"], serde_json::json!(["verdict"]));
    for (name, def) in schema["$defs"].as_object().expect("definitions") {
        assert!(name == "Decision" || def.get("required").is_none(), "{name} requires something");
        assert!(def.get("additionalProperties").is_none_or(|a| a != false), "{name} refuses unknown members");
    }
}

/// The rows of one group in the tables of `docs/native-event.md`.
fn rows_of(group: &str) -> Vec<String> {
    let mut rows = Vec::new();
    if group == "decision" {
        let words = "`allow`, `deny`, `step_up` (more is asked for first), `error` (the decision failed), `unknown`";
        rows.push(format!("| `decision.verdict` | word | `outcome` | What was decided: {words}. Required. |"));
    }
    for member in MEMBERS.iter().filter(|m| m.path.split('.').next() == Some(group)) {
        let kind = match member.how {
            "scalar" | "digest" => "id",
            "texts" | "scopes" | "digests" => "texts",
            "int" | "long" => "integer",
            "basis" | "enforced" | "phase" => "word",
            "array" => "list",
            "challenge" => "object",
            same => same,
        };
        rows.push(format!("| `{}` | {kind} | `{}` | {} |", member.path, member.column.name(), member.doc.trim()));
    }
    rows
}

/// The tables of members, with the rows of each group as the table of fields has them.
#[test]
fn the_tables_of_members_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/native-event.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let groups: BTreeSet<&str> = MEMBERS.iter().filter_map(|m| m.path.split('.').next()).collect();
    for group in groups {
        let start = format!("| `{group}.");
        let first = lines.iter().position(|l| l.starts_with(&start)).unwrap_or_else(|| panic!("no rows of `{group}`"));
        let count = lines[first..].iter().take_while(|l| l.starts_with(&start)).count();
        lines.splice(first..first + count, rows_of(group));
    }
    let want = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &want).expect("the page can be written");
    } else {
        assert!(page == want, "the tables of docs/native-event.md are stale: run the tests once with UPDATE=1");
    }
}
