//! The actions of a commit, and when it is whole.
//!
//! Guarantee: [`Commit::parse`] gives every action of a file, or says why it does not. Our own commits say how many lines they
//! have (`commitInfo.catena.actions`), so that one cut at the end of a line is told from a whole one. A path that
//! leaves the table, a file of negative size or without its partition values is an error here, for every reader.

use crate::digest::{self, Digest};
use crate::width;
use catena_schemas::table::PARTITIONS;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::error::Category;
use std::collections::BTreeMap;

/// Why a commit is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No line.
    #[error("it is empty")]
    Empty,
    /// Cut at the end of a line.
    #[error("it has {found} of {of} lines")]
    Cut {
        /// Lines that are there.
        found: usize,
        /// Lines that it says it has.
        of: usize,
    },
    /// A line that is not JSON: cut, or overwritten.
    #[error("line {line}: {detail}")]
    Torn {
        /// Which.
        line: usize,
        /// What the parser says.
        detail: String,
    },
    /// A line that says something that cannot be.
    #[error("line {line}: {detail}")]
    Wrong {
        /// Which.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// A feature that this build does not have.
    #[error("line {line}: {what} are not supported")]
    Unsupported {
        /// Which.
        line: usize,
        /// Feature.
        what: &'static str,
    },
}

impl Fault {
    /// Whether the bytes are damaged, as opposed to saying something that this build refuses. Only what is torn may be put
    /// aside as a commit that never was.
    pub fn is_torn(&self) -> bool {
        matches!(self, Fault::Empty | Fault::Cut { .. } | Fault::Torn { .. })
    }
}

/// A file that became part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Path below the table, URL-encoded as Delta wants it.
    pub path: String,
    /// Values of the partition columns, all of [`PARTITIONS`] among them.
    pub partition: BTreeMap<String, String>,
    /// Bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modified: i64,
    /// Whether its rows are new, not only rewritten.
    pub data_change: bool,
    /// Delta statistics as JSON text.
    pub stats: Option<String>,
    /// Digest of its bytes, where the writer gave one.
    pub digest: Option<Digest>,
    /// Bytes that no row of it exceeds, where the writer gave them.
    pub row_bytes: Option<u64>,
}

/// A file that left the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    /// Path below the table.
    pub path: String,
    /// When, in milliseconds since the epoch.
    pub deleted: i64,
    /// Whether its rows went with it, as opposed to standing in another file.
    pub data_change: bool,
    /// Values of the partition columns, where they are said.
    pub partition: BTreeMap<String, Option<String>>,
    /// Bytes, where they are said.
    pub size: i64,
}

/// How far a source was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Application.
    pub app: String,
    /// Its position.
    pub version: i64,
    /// When, in milliseconds since the epoch.
    pub updated: Option<i64>,
}

/// The `metaData` action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Id of the table.
    pub id: String,
    /// Name of the table.
    pub name: Option<String>,
    /// Description of the table.
    pub description: Option<String>,
    /// Its schema as JSON text.
    pub schema_string: String,
    /// Columns that folders are named by.
    pub partition_columns: Vec<String>,
    /// Table properties.
    #[serde(deserialize_with = "set_ones")]
    pub configuration: BTreeMap<String, String>,
    /// When it was made, in milliseconds since the epoch.
    pub created_time: Option<i64>,
}

/// The `protocol` action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Version that a reader needs.
    pub min_reader_version: i32,
    /// Version that a writer needs.
    #[serde(default)]
    pub min_writer_version: i32,
    /// Features that a reader needs, from version 3 on.
    #[serde(default)]
    pub reader_features: Option<Vec<String>>,
    /// Features that a writer needs, from version 7 on.
    #[serde(default)]
    pub writer_features: Option<Vec<String>>,
}

/// Properties without those that are null.
fn set_ones<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all = Option::<BTreeMap<String, Option<String>>>::deserialize(from)?.unwrap_or_default();
    Ok(all.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddLine {
    path: String,
    #[serde(default, deserialize_with = "set_ones")]
    partition_values: BTreeMap<String, String>,
    size: i64,
    #[serde(default)]
    modification_time: i64,
    #[serde(default = "yes")]
    data_change: bool,
    stats: Option<String>,
    deletion_vector: Option<Value>,
    #[serde(default, deserialize_with = "set_ones")]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoveLine {
    path: String,
    deletion_timestamp: Option<i64>,
    #[serde(default = "yes")]
    data_change: bool,
    #[serde(default)]
    partition_values: Option<BTreeMap<String, Option<String>>>,
    size: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TxnLine {
    app_id: String,
    version: i64,
    last_updated: Option<i64>,
}

#[derive(Deserialize)]
struct InfoLine {
    catena: Option<OwnInfo>,
}

/// What our own commits say of themselves.
#[derive(Deserialize)]
struct OwnInfo {
    nonce: String,
    /// Lines of the commit.
    actions: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    add: Option<AddLine>,
    remove: Option<RemoveLine>,
    txn: Option<TxnLine>,
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
    commit_info: Option<InfoLine>,
    /// A checkpoint of version 2 keeps its files elsewhere.
    sidecar: Option<Value>,
}

/// Whoever does not say that rows stay what they are may have changed them.
fn yes() -> bool {
    true
}

/// Everything that a commit, or a checkpoint, says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Marks our own.
    pub nonce: Option<String>,
    /// Files that came.
    pub adds: Vec<Add>,
    /// Files that left.
    pub removes: Vec<Remove>,
    /// Positions.
    pub txns: Vec<Txn>,
    /// What the table is.
    pub metadata: Option<Metadata>,
    /// What it needs.
    pub protocol: Option<Protocol>,
}

impl Commit {
    /// Reads a commit, whole.
    pub fn parse(bytes: &[u8]) -> Result<Commit, Fault> {
        let mut commit = Commit::default();
        let (found, of) = commit.take(bytes)?;
        match of {
            _ if found == 0 => Err(Fault::Empty),
            Some(of) if of != found => Err(Fault::Cut { found, of }),
            _ => Ok(commit),
        }
    }

    /// Takes in lines of actions: how many there were, and how many there should be.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<usize>), Fault> {
        let (mut lines, mut expected) = (0, None);
        for text in bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()) {
            lines += 1;
            let line: Line = serde_json::from_slice(text).map_err(|e| match e.classify() {
                Category::Data => Fault::Wrong { line: lines, detail: e.to_string() },
                _ => Fault::Torn { line: lines, detail: e.to_string() },
            })?;
            if let Some(InfoLine { catena: Some(info) }) = &line.commit_info {
                self.nonce = Some(info.nonce.clone());
                expected = Some(info.actions);
            }
            self.line(line, lines)?;
        }
        Ok((lines, expected))
    }

    fn line(&mut self, line: Line, number: usize) -> Result<(), Fault> {
        if line.sidecar.is_some_and(|s| !s.is_null()) {
            return Err(Fault::Unsupported { line: number, what: "checkpoints of version 2 (v2Checkpoint)" });
        }
        if let Some(line) = line.add {
            self.adds.push(add(line, number)?);
        }
        if let Some(r) = line.remove {
            check_path(&r.path).map_err(|detail| Fault::Wrong { line: number, detail })?;
            self.removes.push(Remove {
                path: r.path,
                deleted: r.deletion_timestamp.unwrap_or(0),
                data_change: r.data_change,
                partition: r.partition_values.unwrap_or_default(),
                size: r.size.unwrap_or(0),
            });
        }
        if let Some(t) = line.txn {
            self.txns.push(Txn { app: t.app_id, version: t.version, updated: t.last_updated });
        }
        self.metadata = line.meta_data.or(self.metadata.take());
        self.protocol = line.protocol.or(self.protocol.take());
        Ok(())
    }
}

fn add(line: AddLine, number: usize) -> Result<Add, Fault> {
    if line.deletion_vector.as_ref().is_some_and(|v| !v.is_null()) {
        return Err(Fault::Unsupported { line: number, what: "deletion vectors" });
    }
    let wrong = |detail: String| Fault::Wrong { line: number, detail };
    check_path(&line.path).map_err(wrong)?;
    if let Some(missing) = PARTITIONS.iter().find(|name| !line.partition_values.contains_key(**name)) {
        return Err(wrong(format!("a file without partition value `{missing}`")));
    }
    Ok(Add {
        size: u64::try_from(line.size).map_err(|_| wrong("a file of negative size".into()))?,
        digest: line.tags.get(digest::TAG).and_then(|text| digest::parse(text)),
        row_bytes: line.tags.get(width::TAG).and_then(|text| width::parse(text)),
        path: line.path,
        partition: line.partition_values,
        modified: line.modification_time,
        data_change: line.data_change,
        stats: line.stats,
    })
}

/// Refuses paths that leave the table. They are URLs relative to it, so `..` may be written with percent signs.
fn check_path(path: &str) -> Result<(), String> {
    if path.contains("://") || path.starts_with('/') || path.starts_with("file:") {
        return Err("files outside of the table are not supported".into());
    }
    for part in path.split('/') {
        let plain = part.replace("%2e", ".").replace("%2E", ".");
        if plain == ".." || plain == "." || part.to_ascii_lowercase().contains("%2f") {
            return Err(format!("path of a file: `{path}` leaves its folder"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: &str = r#""partitionValues":{"tenant":"t","ingest_date":"2026-11-20","class":"decision"}"#;

    fn check(text: &str, want: &str) {
        let found = Commit::parse(text.as_bytes());
        let found = found.map_or_else(
            |fault| format!("{}: {fault}", if fault.is_torn() { "torn" } else { "refused" }),
            |c| format!("{} adds, {} removes", c.adds.len(), c.removes.len()),
        );
        assert!(found.starts_with(want), "{text}\n found: {found}\nwanted: {want}");
    }

    #[test]
    fn a_commit_is_whole_or_says_why_not() {
        let own = |n: usize| format!(r#"{{"commitInfo":{{"catena":{{"nonce":"n","actions":{n}}}}}}}"#);
        let file = |path: &str| format!(r#"{{"add":{{"path":"{path}","size":1,{VALUES}}}}}"#);
        check("", "torn: it is empty");
        check("\n \n", "torn: it is empty");
        check("\0\0\0", "torn: line 1");
        check(r#"{"add":{"pa"#, "torn: line 1: EOF");
        check(&own(1), "0 adds");
        check(&format!("{}\n{}\n", own(2), file("a")), "1 adds");
        check(&format!("{}\n{}\n", own(3), file("a")), "torn: it has 2 of 3 lines");
        // Another's commit does not count its lines, and may hold actions that nobody here needs.
        check(&format!("{}\n{{\"cdc\":{{\"path\":\"x\"}}}}\n", file("a")), "1 adds");
        check("1", "refused: line 1: invalid type");
        check(r#"{"add":{"size":1}}"#, "refused: line 1: missing field `path`");
        check(
            r#"{"add":{"path":"x","size":1,"partitionValues":{"tenant":"t"}}}"#,
            "refused: line 1: a file without partition value `ingest_date`",
        );
        check(&file("x").replace(":1,", ":-1,"), "refused: line 1: a file of negative size");
        check(
            &file("x").replace(":1,", r#":1,"deletionVector":{"storageType":"u"},"#),
            "refused: line 1: deletion vectors",
        );
        check(r#"{"sidecar":{"path":"x"}}"#, "refused: line 1: checkpoints of version 2");
        for path in
            ["/etc/passwd", "file:///etc/passwd", "s3://other/x", "../x", "a/../x", "%2e%2e/x", "a/%2E./x", "..%2fx"]
        {
            check(&file(path), "refused: line 1:");
            check(&format!(r#"{{"remove":{{"path":"{path}"}}}}"#), "refused: line 1:");
        }
        for path in ["a..b/x", "tenant=a%20b/x", "..."] {
            check(&file(path), "1 adds");
        }
    }

    #[test]
    fn a_digest_is_read_where_there_is_one() {
        let of = |tags: &str| {
            let text = format!(r#"{{"add":{{"path":"a","size":1,{VALUES}{tags}}}}}"#);
            Commit::parse(text.as_bytes()).expect("a commit").adds.remove(0).digest
        };
        let digest = crate::digest::of(b"abc");
        assert_eq!(of(&format!(r#","tags":{{"catena.sha256":"{}"}}"#, digest::text(&digest))), Some(digest));
        assert_eq!(of(""), None);
        assert_eq!(of(r#","tags":null"#), None);
        assert_eq!(of(r#","tags":{"catena.sha256":null,"other":"x"}"#), None);
        assert_eq!(of(r#","tags":{"catena.sha256":"short"}"#), None);
    }
}
