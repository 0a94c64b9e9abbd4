//! Records of authority on their way into the lake, and back out as columns.
//!
//! Guarantees: [`Table::body`] and [`Table::cells`] are each other's inverse, so a record of authority lands as one text and comes
//! back as the typed columns of its table; numbers within JSON columns keep every digit. What a body does not hold is null, and a
//! body that was erased gives a row of nulls, never an error. [`Table::rows`] is all that a reader needs: rows of `records` with
//! class `authority` in, rows of the table out.
//!
//! ```text
//!  grant record ──decode──▶ Entry { kind, id, time, source, body } ──collect──▶ records, class=authority
//!                                                                                  │ Table::rows
//!  SELECT … FROM grants   ◀────────────────────────────────────────────────────────┘
//! ```

use super::{Column, EXCHANGES, GRANTS, LIFECYCLE, PRINCIPALS, REAUTHS, Record, TOOLS, Table};
use crate::Micros;
use crate::event::{Source, Text, Texts, vocabulary};
use crate::json_text::write_string;
use crate::table::Kind as Stored;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow_schema::{ArrowError, DataType, Field as ArrowField};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

vocabulary! {
    /// What a record of authority says (column `kind`).
    EntryKind {
        /// Somebody may act for somebody.
        Grant = "grant",
        /// More was allowed.
        Reauth = "reauth",
        /// A token was issued or exchanged.
        Exchange = "exchange",
        /// What a tool is.
        Tool = "tool",
        /// Something began, changed or ended.
        Lifecycle = "lifecycle",
        /// Who a party is.
        Principal = "principal",
    }
}

impl EntryKind {
    /// The record that a body holds, under the id and time of its row.
    ///
    /// A body has what a record keeps in its `authority` (or `new_authority`) as members of its own.
    pub fn record(self, id: &str, time: Micros, body: &str) -> Result<Record, BodyError> {
        let mut members: Map<String, Value> = serde_json::from_str(body)?;
        let group = match self {
            EntryKind::Grant => Some("authority"),
            EntryKind::Reauth => Some("new_authority"),
            _ => None,
        };
        if let Some(group) = group {
            let dimensions = ["scope", "resource", "rar", "capability", "aud"];
            let own: Map<_, _> = dimensions.iter().filter_map(|d| members.remove_entry(*d)).collect();
            members.insert(group.into(), own.into());
        }
        for (name, value) in [("kind", self.as_str()), ("id", id), ("time", &time.to_rfc3339())] {
            members.insert(name.into(), value.into());
        }
        Ok(serde_json::from_value(members.into())?)
    }

    /// The table that its rows make.
    pub const fn table(self) -> &'static Table {
        match self {
            EntryKind::Grant => &GRANTS,
            EntryKind::Reauth => &REAUTHS,
            EntryKind::Exchange => &EXCHANGES,
            EntryKind::Tool => &TOOLS,
            EntryKind::Lifecycle => &LIFECYCLE,
            EntryKind::Principal => &PRINCIPALS,
        }
    }
}

/// A record of authority: the envelope, and its own fields as one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// What it says.
    pub kind: EntryKind,
    /// Unique within tenant and source, per record. Not the id of the grant or tool that it speaks of.
    pub id: Cow<'a, str>,
    /// When it was so, by the source's clock: from then on it counts, until a later record says otherwise.
    pub time: Micros,
    /// Where the record came from. Its index and count tell the entries of one record apart.
    pub source: Source<'a>,
    /// Its own fields: see [`Table::body`].
    pub body: Cow<'a, str>,
    /// Everything else the record held: JSON text of an object, redacted.
    pub extra: Text<'a>,
    /// What was odd but kept, as codes.
    pub flags: Texts<'a>,
}

/// The value of one column of a record of authority.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// For `Text` and `Id`.
    Text(Cow<'a, str>),
    /// For `List`. An empty one is not the same as none: it allows nothing.
    List(Vec<Cow<'a, str>>),
    /// For `Time`.
    Time(Micros),
    /// For `Int` and `Long`.
    Int(i64),
    /// For `Bool`.
    Bool(bool),
    /// For `Json`: JSON text.
    Json(Cow<'a, str>),
}

/// A body that is not one.
#[derive(Debug, thiserror::Error)]
#[error("could not read the body of a record of authority")]
pub struct BodyError(#[from] serde_json::Error);

impl Table {
    /// The place of one of its own columns.
    pub fn own_column(&self, name: &str) -> Option<usize> {
        self.own.iter().position(|c| c.name == name)
    }

    /// The body that holds these cells, which stand beside `own`: a JSON object whose members are the columns that have a value,
    /// in their order. Instants are RFC 3339.
    pub fn body(&self, cells: &[Option<Cell<'_>>]) -> String {
        let mut out = vec![b'{'];
        for (column, cell) in self.own.iter().zip(cells) {
            let Some(cell) = cell else { continue };
            if out.len() > 1 {
                out.push(b',');
            }
            write_string(column.name, &mut out);
            out.push(b':');
            match cell {
                Cell::Text(s) => write_string(s, &mut out),
                Cell::Json(s) => out.extend_from_slice(s.as_bytes()),
                Cell::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
                Cell::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
                Cell::Time(t) => write_string(&t.to_rfc3339(), &mut out),
                Cell::List(items) => {
                    out.push(b'[');
                    for (i, item) in items.iter().enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        write_string(item, &mut out);
                    }
                    out.push(b']');
                }
            }
        }
        out.push(b'}');
        String::from_utf8(out).expect("texts and punctuation")
    }

    /// The cells of a body, beside `own`. A member of another type than its column's is none.
    pub fn cells(&self, body: &str) -> Result<Vec<Option<Cell<'static>>>, BodyError> {
        let mut members: HashMap<String, Box<RawValue>> = serde_json::from_str(body)?;
        Ok(self.own.iter().map(|c| cell(c, members.remove(c.name)?.get())).collect())
    }

    /// The rows of this table among rows of `records`: those of its kind, with the columns of [`Table::schema`]. `records` holds
    /// columns of [`crate::table::file_schema`] by name, in any order; one that is missing counts as null.
    pub fn rows(&self, records: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let kinds = records.column_by_name("kind").map(|kinds| kinds.as_string::<i32>());
        let wanted: BooleanArray = (0..records.num_rows())
            .map(|row| Some(kinds.is_some_and(|k| k.is_valid(row) && k.value(row) == self.record)))
            .collect();
        let records = arrow_select::filter::filter_record_batch(records, &wanted)?;
        let rows = records.num_rows();
        let bodies = records.column_by_name("body").map(|bodies| bodies.as_string::<i32>());
        let mut own: Vec<Builder> = self.own.iter().map(|c| Builder::new(c.kind)).collect();
        for row in 0..rows {
            let body = bodies.filter(|b| b.is_valid(row)).map(|b| b.value(row));
            let mut cells = body.and_then(|b| self.cells(b).ok()).unwrap_or_default();
            cells.resize_with(own.len(), || None);
            own.iter_mut().zip(cells).for_each(|(builder, cell)| builder.push(cell));
        }
        let mut own = own.into_iter();
        let columns = self.columns().map(|column| -> ArrayRef {
            if self.own.iter().any(|c| std::ptr::eq(c, column)) {
                return own.next().expect("a builder for each").finish();
            }
            match records.column_by_name(column.name) {
                Some(array) => array.clone(),
                None => new_null_array(&column.kind.arrow(), rows),
            }
        });
        RecordBatch::try_new(self.schema(), columns.collect())
    }
}

fn cell(column: &Column, json: &str) -> Option<Cell<'static>> {
    Some(match column.kind {
        Stored::Json => Cell::Json(Cow::Owned(json.to_owned())),
        Stored::Bool => Cell::Bool(serde_json::from_str(json).ok()?),
        Stored::Int | Stored::Long => Cell::Int(serde_json::from_str(json).ok()?),
        Stored::Time => Cell::Time(Micros::parse_rfc3339(&serde_json::from_str::<String>(json).ok()?)?),
        Stored::List => Cell::List(serde_json::from_str(json).ok()?),
        Stored::Text | Stored::Id | Stored::Bytes => Cell::Text(Cow::Owned(serde_json::from_str(json).ok()?)),
    })
}

/// A column under construction.
enum Builder {
    Text(StringBuilder),
    List(ListBuilder<StringBuilder>),
    Time(TimestampMicrosecondBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Bool(BooleanBuilder),
    Bytes(BinaryBuilder),
}

impl Builder {
    fn new(kind: Stored) -> Builder {
        match kind {
            Stored::Text | Stored::Id | Stored::Json => Builder::Text(StringBuilder::new()),
            Stored::List => {
                let item = ArrowField::new("element", DataType::Utf8, true);
                Builder::List(ListBuilder::new(StringBuilder::new()).with_field(item))
            }
            Stored::Time => Builder::Time(TimestampMicrosecondBuilder::new().with_data_type(kind.arrow())),
            Stored::Int => Builder::Int(Int32Builder::new()),
            Stored::Long => Builder::Long(Int64Builder::new()),
            Stored::Bool => Builder::Bool(BooleanBuilder::new()),
            Stored::Bytes => Builder::Bytes(BinaryBuilder::new()),
        }
    }

    fn push(&mut self, cell: Option<Cell<'_>>) {
        match (self, cell) {
            (Builder::Text(b), Some(Cell::Text(s) | Cell::Json(s))) => b.append_value(s),
            (Builder::Text(b), _) => b.append_null(),
            (Builder::List(b), Some(Cell::List(items))) => b.append_value(items.into_iter().map(Some)),
            (Builder::List(b), _) => b.append_null(),
            (Builder::Time(b), Some(Cell::Time(t))) => b.append_value(t.0),
            (Builder::Time(b), _) => b.append_null(),
            (Builder::Int(b), Some(Cell::Int(n))) => b.append_option(i32::try_from(n).ok()),
            (Builder::Int(b), _) => b.append_null(),
            (Builder::Long(b), Some(Cell::Int(n))) => b.append_value(n),
            (Builder::Long(b), _) => b.append_null(),
            (Builder::Bool(b), Some(Cell::Bool(v))) => b.append_value(v),
            (Builder::Bool(b), _) => b.append_null(),
            (Builder::Bytes(b), _) => b.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Builder::Text(mut b) => Arc::new(b.finish()),
            Builder::List(mut b) => Arc::new(b.finish()),
            Builder::Time(mut b) => Arc::new(b.finish()),
            Builder::Int(mut b) => Arc::new(b.finish()),
            Builder::Long(mut b) => Arc::new(b.finish()),
            Builder::Bool(mut b) => Arc::new(b.finish()),
            Builder::Bytes(mut b) => Arc::new(b.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TABLES;
    use super::*;
    use crate::fixture::entries;
    use crate::rows::{Place, Rows};
    use proptest::prelude::*;

    fn place() -> Place<'static> {
        Place {
            tenant: "t",
            topic: "a",
            partition: 0,
            offset: 0,
            format: "catena",
            redaction: "r1",
            ingest_time: Micros(7),
        }
    }

    /// What a table's rows hold in its own columns, as a body.
    fn bodies(table: &Table, rows: &RecordBatch) -> Vec<String> {
        let of_row = |row: usize| {
            let cells: Vec<Option<Cell<'_>>> = table
                .own
                .iter()
                .map(|c| {
                    let array = rows.column_by_name(c.name).expect("a column of the table");
                    let text = || Cow::Borrowed(array.as_string::<i32>().value(row));
                    array.is_valid(row).then(|| match c.kind {
                        Stored::Text | Stored::Id | Stored::Bytes => Cell::Text(text()),
                        Stored::Json => Cell::Json(text()),
                        Stored::Time => Cell::Time(Micros(
                            array.as_primitive::<arrow_array::types::TimestampMicrosecondType>().value(row),
                        )),
                        Stored::Int => {
                            Cell::Int(array.as_primitive::<arrow_array::types::Int32Type>().value(row).into())
                        }
                        Stored::Long => Cell::Int(array.as_primitive::<arrow_array::types::Int64Type>().value(row)),
                        Stored::Bool => Cell::Bool(array.as_boolean().value(row)),
                        Stored::List => {
                            let items = array.as_list::<i32>().value(row);
                            let items = items.as_string::<i32>();
                            Cell::List((0..items.len()).map(|i| Cow::Owned(items.value(i).to_owned())).collect())
                        }
                    })
                })
                .collect();
            table.body(&cells)
        };
        (0..rows.num_rows()).map(of_row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A body becomes a row of its table and of no other, and the row has what the body had.
        #[test]
        fn bodies_become_rows_and_back(list in prop::collection::vec(entries(), 1..6)) {
            let mut rows = Rows::default();
            list.iter().for_each(|e| rows.push_authority(e, &place()));
            let records = rows.finish();
            let mut found = Vec::new();
            for table in TABLES {
                let rows = table.rows(&records).expect("rows of the table");
                prop_assert_eq!(rows.schema(), table.schema());
                found.extend(bodies(table, &rows));
            }
            let mut want: Vec<String> = list.iter().map(|e| e.body.to_string()).collect();
            want.sort();
            found.sort();
            prop_assert_eq!(found, want);
        }

        #[test]
        fn cells_are_read_back(entry in entries()) {
            let table = entry.kind.table();
            let cells = table.cells(&entry.body).expect("a body");
            prop_assert_eq!(table.body(&cells), entry.body.as_ref());
        }
    }

    #[test]
    fn a_body_is_a_record_again() {
        let time = Micros::parse_rfc3339("2026-08-20T14:00:00Z").expect("an instant");
        let check = |kind: EntryKind, body: &str, want: &str| {
            let record = kind.record("r1", time, body).map(|r| serde_json::to_value(&r).expect("JSON"));
            let got = record.map_or_else(
                |e| format!("{e}: {}", e.0),
                |mut r| {
                    let head = r.as_object_mut().expect("an object");
                    for (name, value) in
                        [("kind", kind.as_str()), ("id", "r1"), ("time", "2026-08-20T14:00:00.000000Z")]
                    {
                        assert_eq!(head.remove(name), Some(value.into()), "{name}");
                    }
                    r.to_string()
                },
            );
            assert_eq!(got, want);
        };
        check(
            EntryKind::Grant,
            r#"{"grant_id":"g","grantor":"a","grantee":"b","scope":["x"],"capability":[{"server":"s","action":"t"}],"version":2}"#,
            r#"{"authority":{"capability":[{"action":"t","server":"s"}],"scope":["x"]},"grant_id":"g","grantee":"b","grantor":"a","version":2}"#,
        );
        check(
            EntryKind::Reauth,
            r#"{"reauth_id":"r","by":"b","approver":"a","at":"2026-08-20T14:00:00Z","scope":["x"],"use":"chain"}"#,
            r#"{"approver":"a","at":"2026-08-20T14:00:00Z","by":"b","new_authority":{"scope":["x"]},"reauth_id":"r","use":"chain"}"#,
        );
        check(EntryKind::Tool, r#"{"server":"s","tool":"t","impact":3}"#, r#"{"impact":3,"server":"s","tool":"t"}"#);
        check(EntryKind::Grant, "{}", "could not read the body of a record of authority: missing field `grant_id`");
    }

    #[test]
    fn what_is_missing_or_erased_is_null() {
        for body in ["{}", "", "[1]", r#"{"scope":7,"version":"x","valid_to":"soon","new":1}"#] {
            let entry = Entry {
                kind: EntryKind::Grant,
                id: "g".into(),
                time: Micros(1),
                source: Source::default(),
                body: body.into(),
                extra: None,
                flags: Vec::new(),
            };
            let mut rows = Rows::default();
            rows.push_authority(&entry, &place());
            let rows = GRANTS.rows(&rows.finish()).expect("a row");
            assert_eq!((rows.num_rows(), bodies(&GRANTS, &rows)[0].as_str()), (1, "{}"), "{body}");
        }
    }

    #[test]
    fn numbers_of_json_columns_keep_every_digit() {
        let body = r#"{"changes":{"n":36893488147419103232,"f":0.10}}"#;
        let cells = LIFECYCLE.cells(body).expect("a body");
        assert_eq!(LIFECYCLE.body(&cells), body);
    }
}
