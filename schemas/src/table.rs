//! The lake's tables: names, columns, partitions.
//!
//! Guarantee: [`Field`] lists every stored column of `records` once, with its type and its place in the leaf. The Arrow
//! schema, the Delta schema, the row builder and the leaf encoder are all derived from this list, so they cannot differ.
//! The list itself is generated from the table in [`crate::fields`]. A released column keeps its name, type and leaf id; a new one
//! gets a new id.
//!
//! `records` is the one table that ingestion writes. Its partition columns are
//!
//! - `tenant`: from authentication, never from the payload, and leading, so that a query for one tenant lists no other's files;
//! - `ingest_date`: the UTC day of arrival, not of the event: a hostile clock cannot scatter a flush over a thousand folders;
//! - `class`: `decision`; `execution` (what was done, without a verdict); `authority` (a record of what may be done);
//!   `reject` (with reason and raw bytes); or `aside` (recognised, but none of these: a start-up message). Every offset of every
//!   source stands in exactly one of them, or in several rows if its record holds several things. Rows of class `chain` come
//!   from no source: they are what the role `watch` said of chains (see [`crate::revision`]).

use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use std::sync::{Arc, LazyLock};

/// Folder of the records table below the lake's root.
pub const RECORDS: &str = "records";
/// Partition columns of `records`, in order.
pub const PARTITIONS: [&str; 3] = ["tenant", "ingest_date", "class"];

/// What a row is: the `class` partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A decision.
    Decision,
    /// Something done, without a verdict.
    Execution,
    /// A record of authority: see [`crate::authority`].
    Authority,
    /// Bytes that could not be read, with the reason.
    Reject,
    /// Recognised, but none of these.
    Aside,
    /// A revision of a chain, worked out from the others.
    Chain,
}

impl Class {
    /// Every class.
    pub const ALL: &[Class] =
        &[Class::Decision, Class::Execution, Class::Authority, Class::Reject, Class::Aside, Class::Chain];

    /// The class of a partition value.
    pub fn parse(value: &str) -> Option<Class> {
        Class::ALL.iter().copied().find(|c| c.as_str() == value)
    }

    /// Whether its rows are facts that can be sent twice, of which the second is marked: everything but rejections and asides.
    pub fn is_fact(self) -> bool {
        matches!(self, Class::Decision | Class::Execution | Class::Authority)
    }

    /// The partition value.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Decision => "decision",
            Class::Execution => "execution",
            Class::Authority => "authority",
            Class::Reject => "reject",
            Class::Aside => "aside",
            Class::Chain => "chain",
        }
    }
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// UTF-8 of high cardinality: no dictionary, it would only be built to be thrown away.
    Id,
    /// JSON text, high cardinality.
    Json,
    /// List of UTF-8.
    List,
    /// Microseconds since the epoch, UTC.
    Time,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Boolean.
    Bool,
    /// Bytes.
    Bytes,
}

impl Kind {
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Kind::Text | Kind::Id | Kind::Json => DataType::Utf8,
            Kind::List => DataType::List(Arc::new(ArrowField::new("element", DataType::Utf8, true))),
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Int => DataType::Int32,
            Kind::Long => DataType::Int64,
            Kind::Bool => DataType::Boolean,
            Kind::Bytes => DataType::Binary,
        }
    }

    fn delta(self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Kind::Text | Kind::Id | Kind::Json => json!("string"),
            Kind::List => json!({"type": "array", "elementType": "string", "containsNull": true}),
            Kind::Time => json!("timestamp"),
            Kind::Int => json!("integer"),
            Kind::Long => json!("long"),
            Kind::Bool => json!("boolean"),
            Kind::Bytes => json!("binary"),
        }
    }
}

macro_rules! columns {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $kind:ident $leaf:literal,)+) => {
        /// A stored column of `records`; the number of a variant is its index in the Arrow schema.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Field { $($(#[doc = $doc])+ $variant),+ }
        impl Field {
            /// Every column, in order.
            pub const ALL: &[Field] = &[$(Field::$variant),+];
            /// Column name.
            pub const fn name(self) -> &'static str { match self { $(Field::$variant => $name),+ } }
            /// Storage.
            pub const fn kind(self) -> Kind { match self { $(Field::$variant => Kind::$kind),+ } }
            /// Field id in the leaf: 1 to 19 header, 20 to 249 body, [`PERSONAL`] inside the one commitment to personal
            /// fields, 0 not in the leaf.
            pub const fn leaf(self) -> u16 { match self { $(Field::$variant => $leaf),+ } }
        }
    };
}

crate::event_fields! { columns columns }

/// Leaf id of the commitment that covers all personal fields of a row.
pub const PERSONAL: u16 = 250;

/// Version of the leaf encoding that this build writes.
pub const LEAF_VERSION: i32 = 1;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(
        Field::ALL.iter().map(|f| ArrowField::new(f.name(), f.kind().arrow(), true)).collect::<Vec<_>>(),
    ))
});

/// Arrow schema of a data file of `records`: no partition columns.
pub fn file_schema() -> SchemaRef {
    SCHEMA.clone()
}

static TABLE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<_> = PARTITIONS
        .iter()
        .map(|name| {
            let kind = if *name == "ingest_date" { DataType::Date32 } else { DataType::Utf8 };
            Arc::new(ArrowField::new(*name, kind, true))
        })
        .collect();
    fields.extend(SCHEMA.fields().iter().cloned());
    Arc::new(Schema::new(fields))
});

/// Arrow schema of `records` as a table: partition columns first.
pub fn table_schema() -> SchemaRef {
    TABLE_SCHEMA.clone()
}

/// The `schemaString` of the table's Delta metadata.
pub fn delta_schema() -> String {
    let mut fields: Vec<serde_json::Value> = PARTITIONS
        .iter()
        .map(|n| serde_json::json!({"name": n, "type": if *n == "ingest_date" { "date" } else { "string" }, "nullable": true, "metadata": {}}))
        .collect();
    fields.extend(
        Field::ALL
            .iter()
            .map(|f| serde_json::json!({"name": f.name(), "type": f.kind().delta(), "nullable": true, "metadata": {}})),
    );
    serde_json::json!({"type": "struct", "fields": fields}).to_string()
}

/// Columns whose minimum and maximum stand in the Delta log, so that a query opens few files.
pub const STATISTICS: &[Field] = &[
    Field::EventId,
    Field::Time,
    Field::IngestTime,
    Field::Partition,
    Field::Offset,
    Field::Session,
    Field::TraceId,
    Field::Requester,
    Field::Agent,
    Field::Tool,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_leaf_ids_are_unique() {
        let mut names: Vec<_> = Field::ALL.iter().map(|f| f.name()).chain(PARTITIONS).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Field::ALL.len() + PARTITIONS.len());
        // Header and body are written apart, so that a column added later may belong to the header.
        for part in [1..=19, 20..=PERSONAL - 1] {
            let ids: Vec<_> = Field::ALL.iter().map(|f| f.leaf()).filter(|id| part.contains(id)).collect();
            assert!(
                ids.is_sorted_by(|a, b| a < b),
                "columns of a part stand in ascending order of leaf id, so that the encoder can stream: {ids:?}"
            );
        }
    }
}
