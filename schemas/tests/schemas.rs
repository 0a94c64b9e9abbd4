//! The committed JSON Schemas are what the types say. After a change of the types: `UPDATE=1 cargo test -p catena-schemas`.

use catena_schemas::{authority, wire};
use serde_json::Value;
use std::collections::BTreeMap;
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
