//! Catalogues of tools, as records of authority: YAML and CSV that people keep, and answers to `tools/list`.
//!
//! Guarantees: pure; each tool becomes one native record of kind `tool`, a line of JSON for the ordinary way in, so that nothing gets
//! past redaction here. What a catalogue does not say stays empty: the hints by which a server praises its own tools
//! (`readOnlyHint` and the like) are kept and decide nothing. Records of one catalogue at one time always have the same ids, so a
//! catalogue read twice adds nothing.
//!
//! ```yaml
//! server: https://tickets-mcp.corp.example      # for tools that name none
//! approved_by: ops@corp.example
//! tools:
//!   - tool: ticket.delete
//!     requires: [ticket.write]                  # actions, or atoms {server, action, resource}
//!     effect: update
//!     data_class: pii
//!     output_trust: trusted
//!     impact: 3
//!     definition_digest: sha256:…
//! ```
//! A CSV has the same names in its first line; several `requires` are parted by semicolons. JSON is one or the other: what a server
//! says of its tools is never taken for what a person says of them.

use crate::json::{JsonError, Kind as Json, Tape, Value, write_string};
use catena_schemas::Micros;
use serde_yaml_ng::Value as Yaml;
use sha2::{Digest, Sha256};

/// How a catalogue is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// YAML.
    Yaml,
    /// CSV with a first line of names.
    Csv,
    /// JSON: the answer to MCP's `tools/list`, or its result alone; or a catalogue of the shape that YAML has.
    Json,
}

/// What is known of a catalogue besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// From when it counts.
    pub time: Micros,
    /// The server of tools that name none.
    pub server: Option<&'a str>,
}

/// Why a catalogue was refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not YAML.
    #[error("could not read the catalogue as YAML")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// It is not CSV.
    #[error("could not read the catalogue as CSV")]
    Csv(#[from] csv::Error),
    /// It is not JSON.
    #[error("could not read the catalogue as JSON")]
    Json(#[from] JsonError),
    /// It is something else.
    #[error("the catalogue is not a list of tools: expected {expected}")]
    Shape {
        /// What was looked for.
        expected: &'static str,
    },
    /// A tool lacks what it cannot do without.
    #[error("tool {number} of the catalogue has no `{missing}`")]
    Incomplete {
        /// Which tool, from 1.
        number: usize,
        /// Which member.
        missing: &'static str,
    },
}

/// The records of a catalogue, as lines of native JSON in the order of the catalogue.
pub fn read(bytes: &[u8], kind: Kind, about: &About<'_>) -> Result<Vec<String>, CatalogueError> {
    let mut tape = Tape::default();
    let written;
    let root = match kind {
        Kind::Json => tape.parse(bytes)?,
        Kind::Yaml => {
            let mut out = String::new();
            json(&serde_yaml_ng::from_slice(bytes)?, &mut out);
            written = out;
            tape.parse(written.as_bytes())?
        }
        Kind::Csv => {
            written = table(bytes)?;
            tape.parse(written.as_bytes())?
        }
    };
    let listed = root.get("result").unwrap_or(root);
    let Some(tools) = [listed.get("tools"), Some(listed)].into_iter().flatten().find(|v| v.kind() == Json::Array)
    else {
        return Err(CatalogueError::Shape { expected: "a list, or a member `tools` that is one" });
    };
    let defined = kind == Kind::Json && !is_by_hand(root, tools);
    let of_all = |name: &str| root.get(name).filter(|v| !v.is_null());
    let mut records = Vec::new();
    for (index, tool) in tools.items().enumerate() {
        let number = index + 1;
        let name = tool.get("tool").or_else(|| tool.get("name")).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
        let Some(name) = name else { return Err(CatalogueError::Incomplete { number, missing: "tool" }) };
        let server = tool.get("server").or_else(|| of_all("server")).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
        let Some(server) = server.or(about.server) else {
            return Err(CatalogueError::Incomplete { number, missing: "server" });
        };
        let mut line = Line::new(server, name, about.time);
        match defined {
            true => definition(tool, &mut line),
            false => entry(tool, of_all("approved_by"), &mut line),
        }
        records.push(line.finish());
    }
    Ok(records)
}

/// Whether JSON is a catalogue that somebody keeps. The protocol gives every tool an `inputSchema`: where there is one, or the frame of
/// an answer, a server is speaking, and what it says of `effect` or `impact` counts for nothing.
fn is_by_hand(root: Value<'_>, tools: Value<'_>) -> bool {
    const OF_ALL: &[&str] = &["server", "approved_by"];
    const OF_ONE: &[&str] = &[
        "tool",
        "server",
        "requires",
        "effect",
        "data_class",
        "output_trust",
        "impact",
        "definition_digest",
        "approved_by",
    ];
    let has = |v: Value<'_>, names: &[&str]| names.iter().any(|name| v.get(name).is_some());
    let by_server = has(root, &["jsonrpc", "result"]) || tools.items().any(|t| has(t, &["inputSchema"]));
    !by_server && (has(root, OF_ALL) || tools.items().any(|t| has(t, OF_ONE)))
}

/// One record under construction.
struct Line(String);

impl Line {
    fn new(server: &str, tool: &str, time: Micros) -> Line {
        let mut line = Line("{\"kind\":\"tool\"".into());
        let time = time.to_rfc3339();
        line.text("id", &format!("catalogue/{server}/{tool}@{time}"));
        line.text("time", &time);
        line.raw("source", "{\"kind\":\"catalogue\"}");
        line.text("server", server);
        line.text("tool", tool);
        line
    }

    fn raw(&mut self, name: &str, json: &str) {
        self.0.push(',');
        write_string(name, &mut self.0);
        self.0.push(':');
        self.0.push_str(json);
    }

    fn text(&mut self, name: &str, text: &str) {
        let mut json = String::new();
        write_string(text, &mut json);
        self.raw(name, &json);
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A tool as people describe it.
fn entry(tool: Value<'_>, approved_by: Option<Value<'_>>, line: &mut Line) {
    let mut approved = false;
    for (name, v) in tool.entries() {
        match name {
            "tool" | "name" | "server" => {}
            _ if v.is_null() || v.as_str() == Some("") => {}
            "requires" => requires(v, line),
            // A cell of a CSV is text, and may say `+3` or `007`, which is no JSON.
            "impact" => match v.as_scalar().map(str::parse::<i32>) {
                Some(Ok(n)) => line.raw(name, &n.to_string()),
                _ => line.raw(name, &v.to_json()),
            },
            // These are the record's own.
            "id" | "time" | "kind" | "source" => {}
            _ => {
                approved |= name == "approved_by";
                line.raw(name, &v.to_json());
            }
        }
    }
    if let (false, Some(by)) = (approved, approved_by) {
        line.raw("approved_by", &by.to_json());
    }
}

/// Actions, as a list or as text with semicolons, or whole atoms of capability.
fn requires(v: Value<'_>, line: &mut Line) {
    let atom = |action: &str| {
        let mut out = "{\"action\":".to_owned();
        write_string(action, &mut out);
        out + "}"
    };
    let atoms: Vec<String> = match v.as_str() {
        Some(text) => text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(atom).collect(),
        None => v.items().map(|item| item.as_str().map_or_else(|| item.to_json(), atom)).collect(),
    };
    line.raw("requires", &format!("[{}]", atoms.join(",")));
}

/// A tool as its server defines it: the digest is of the whole definition.
fn definition(tool: Value<'_>, line: &mut Line) {
    let mut canonical = String::new();
    sorted(tool, &mut canonical);
    line.text("definition_digest", &format!("sha256:{}", hex::encode(Sha256::digest(canonical))));
    for name in ["title", "description", "annotations", "_meta"] {
        if let Some(v) = tool.get(name) {
            line.raw(name, &v.to_json());
        }
    }
}

/// Compact JSON whose members are sorted by name (RFC 8785, but for fractions, which stay as they were written). Recursive: the
/// parser has bounded the depth.
fn sorted(v: Value<'_>, out: &mut String) {
    match v.kind() {
        Json::Object => {
            let mut members: Vec<_> = v.entries().collect();
            members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            for (i, (name, value)) in members.into_iter().enumerate() {
                out.push(if i == 0 { '{' } else { ',' });
                write_string(name, out);
                out.push(':');
                sorted(value, out);
            }
            out.push_str(if v.entries().next().is_none() { "{}" } else { "}" });
        }
        Json::Array => {
            for (i, item) in v.items().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                sorted(item, out);
            }
            out.push_str(if v.items().next().is_none() { "[]" } else { "]" });
        }
        _ => match v.as_str() {
            Some(s) => write_string(s, out),
            None => out.push_str(v.source()),
        },
    }
}

/// YAML as JSON. Names that are no text become what they look like; tags are taken off.
fn json(yaml: &Yaml, out: &mut String) {
    match yaml {
        Yaml::Null => out.push_str("null"),
        Yaml::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Yaml::Number(n) if n.is_f64() && !n.is_finite() => write_string(&n.to_string(), out),
        Yaml::Number(n) => out.push_str(&n.to_string()),
        Yaml::String(s) => write_string(s, out),
        Yaml::Sequence(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json(item, out);
            }
            out.push(']');
        }
        Yaml::Mapping(members) => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                match name {
                    Yaml::String(s) => write_string(s, out),
                    other => {
                        let mut text = String::new();
                        json(other, &mut text);
                        write_string(&text, out);
                    }
                }
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
        Yaml::Tagged(tagged) => json(&tagged.value, out),
    }
}

/// A CSV as JSON.
fn table(bytes: &[u8]) -> Result<String, CatalogueError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(bytes);
    let names = reader.headers()?.clone();
    if !names.iter().any(|n| matches!(n, "tool" | "name")) {
        return Err(CatalogueError::Shape { expected: "a first line with the name `tool`" });
    }
    let mut out = "[".to_owned();
    for (i, row) in reader.records().enumerate() {
        out.push_str(if i == 0 { "{" } else { ",{" });
        for (column, (name, cell)) in names.iter().zip(row?.iter()).enumerate() {
            if column > 0 {
                out.push(',');
            }
            write_string(name, &mut out);
            out.push(':');
            write_string(cell, &mut out);
        }
        out.push('}');
    }
    Ok(out + "]")
}
