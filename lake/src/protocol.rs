//! Which tables this build may read, and which it may write.
//!
//! Guarantee: what this build does not understand is refused by name, never guessed; for reading the verdict is one, for
//! writing more is asked.

use crate::commit::{Metadata, Protocol};
use catena_schemas::table::PARTITIONS;

/// Features that change nothing for a reader of this table.
const KNOWN: &[&str] = &["timestampNtz", "vacuumProtocolCheck"];

/// What a table needs that this build does not have, for reading it.
pub fn not_readable(protocol: Option<&Protocol>, metadata: Option<&Metadata>) -> Option<String> {
    let by_protocol = protocol.and_then(|p| match p.min_reader_version {
        ..=2 => None,
        3 => p.reader_features.iter().flatten().find(|f| !KNOWN.contains(&f.as_str())).cloned(),
        other => Some(format!("reader version {other}")),
    });
    by_protocol.or_else(|| metadata.and_then(layout))
}

/// What a table needs that this build does not have, for writing it.
pub fn not_writable(protocol: Option<&Protocol>, metadata: Option<&Metadata>) -> Option<String> {
    match protocol {
        Some(p) if p.min_reader_version >= 3 || p.min_writer_version >= 3 => {
            Some(format!("Delta reader version {} and writer version {}", p.min_reader_version, p.min_writer_version))
        }
        _ => not_readable(protocol, metadata),
    }
}

fn layout(metadata: &Metadata) -> Option<String> {
    if metadata.partition_columns != PARTITIONS {
        return Some(format!("a table that is partitioned by {:?}", metadata.partition_columns));
    }
    match metadata.configuration.get("delta.columnMapping.mode").map(String::as_str) {
        None | Some("none") => None,
        Some(mode) => Some(format!("column mapping by {mode}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_named() {
        let metadata = |mode: Option<&str>| Metadata {
            partition_columns: PARTITIONS.map(str::to_owned).to_vec(),
            configuration: mode.map(|m| ("delta.columnMapping.mode".to_owned(), m.to_owned())).into_iter().collect(),
            ..Metadata::default()
        };
        let protocol = |reader, writer, features: &[&str]| Protocol {
            min_reader_version: reader,
            min_writer_version: writer,
            reader_features: (reader == 3).then(|| features.iter().map(|f| (*f).to_owned()).collect()),
            writer_features: None,
        };
        for (protocol, mode, read, write) in [
            (protocol(1, 2, &[]), None, "", ""),
            (protocol(2, 2, &[]), Some("none"), "", ""),
            (protocol(1, 2, &[]), Some("name"), "column mapping by name", "column mapping by name"),
            (protocol(1, 7, &[]), None, "", "Delta reader version 1 and writer version 7"),
            (protocol(3, 7, &["timestampNtz"]), None, "", "Delta reader version 3 and writer version 7"),
            (
                protocol(3, 7, &["deletionVectors"]),
                None,
                "deletionVectors",
                "Delta reader version 3 and writer version 7",
            ),
            (protocol(9, 9, &[]), None, "reader version 9", "Delta reader version 9 and writer version 9"),
        ] {
            let found = not_readable(Some(&protocol), Some(&metadata(mode))).unwrap_or_default();
            assert_eq!(found, read, "{protocol:?}");
            let found = not_writable(Some(&protocol), Some(&metadata(mode))).unwrap_or_default();
            assert_eq!(found, write, "{protocol:?}");
        }
        let other = Metadata { partition_columns: vec!["day".into()], ..Metadata::default() };
        assert!(not_readable(None, Some(&other)).is_some_and(|what| what.contains("partitioned by")));
    }
}
