//! Columns of a chain, for the table `chains` and for the rows of `chain_revisions`.
//!
//! Guarantee: each column is made in one place, so both say the same of a chain. A column that no query asks for is not made.

use super::rebuilt::Rebuilt;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, TimeUnit};
use catena_analysis::chain::rules::watch::State;
use catena_analysis::chain::rules::{Confidence, Standing};
use catena_analysis::chain::{Chain, Store};
use catena_schemas::authority::Cell;
use catena_schemas::{Micros, Outcome};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A chain, and what it does not know of itself.
pub(super) struct Seen<'r> {
    pub(super) store: &'r Store,
    pub(super) chain: &'r Chain,
    /// The id that it is published under.
    pub(super) id: &'r str,
    pub(super) revision: Option<i64>,
    pub(super) state: State,
    pub(super) widened: Widened<'r>,
}

/// Calls with a hop that widened what it was given.
pub(super) enum Widened<'r> {
    Counted(i64),
    /// Of a chain by its place: counted when it is asked for, because that judges all chains.
    Of(&'r Rebuilt, usize),
}

impl Widened<'_> {
    fn count(&self) -> i64 {
        match self {
            Widened::Counted(n) => *n,
            Widened::Of(all, at) => {
                let judged = all.judged(*at).unwrap_or_default();
                judged.iter().filter(|j| j.widened_at.is_some()).count() as i64
            }
        }
    }
}

/// Value of one column.
pub(super) enum Value<'r> {
    Text(&'r str),
    List(BTreeSet<&'r str>),
    Time(Micros),
    Number(i64),
    Share(Confidence),
}

/// Type of a column in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    List,
    Time,
    Int,
    Long,
    /// Between 0 and 1; in thousandths at rest.
    Share,
}

/// A column of a chain.
pub(super) struct ChainColumn {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    of: for<'r> fn(&Seen<'r>) -> Option<Value<'r>>,
}

const fn column(name: &'static str, kind: Kind, of: for<'r> fn(&Seen<'r>) -> Option<Value<'r>>) -> ChainColumn {
    ChainColumn { name, kind, of }
}

fn number<'r>(n: usize) -> Option<Value<'r>> {
    Some(Value::Number(n as i64))
}

/// The revision of a chain that was published last.
pub(super) const REVISION: &str = "revision";

/// Columns, in the order of both tables.
pub(super) static COLUMNS: &[ChainColumn] = &[
    column("chain_id", Kind::Text, |s| Some(Value::Text(s.id))),
    column(REVISION, Kind::Long, |s| s.revision.map(Value::Number)),
    column("state", Kind::Text, |s| Some(Value::Text(s.state.as_str()))),
    column("root", Kind::Text, |s| Some(Value::Text(s.store.text(s.chain.root()?.id)))),
    column("root_kind", Kind::Text, |s| {
        let kind = s.chain.root()?.kind;
        kind.is_some().then(|| Value::Text(s.store.text(kind)))
    }),
    column("lineage", Kind::Text, |s| Some(Value::Text(s.chain.lineage().as_str()))),
    column("started", Kind::Time, |s| Some(Value::Time(s.chain.started(s.store)))),
    column("ended", Kind::Time, |s| Some(Value::Time(s.chain.ended(s.store)))),
    column("events", Kind::Long, |s| number(s.chain.links.len())),
    column("operations", Kind::Long, |s| number(s.chain.operations.len())),
    column("depth", Kind::Int, |s| number(s.chain.depth as usize)),
    column("fanout", Kind::Int, |s| number(s.chain.fanout as usize)),
    column("agents", Kind::List, |s| Some(Value::List(s.chain.agents(s.store)))),
    column("tools", Kind::List, |s| Some(Value::List(s.chain.tools(s.store)))),
    column("servers", Kind::List, |s| Some(Value::List(s.chain.servers(s.store)))),
    column("denied", Kind::Long, |s| number(s.chain.with_outcome(s.store, Outcome::Deny))),
    column("stepped_up", Kind::Long, |s| number(s.chain.with_outcome(s.store, Outcome::StepUp))),
    column("widened", Kind::Long, |s| Some(Value::Number(s.widened.count()))),
    column("orphans", Kind::Long, |s| number(s.chain.count(Standing::Orphan))),
    column("unknown", Kind::Long, |s| number(s.chain.count(Standing::Unknown))),
    column("cycle_broken", Kind::Long, |s| number(s.chain.count(Standing::Cut))),
    column("confidence", Kind::Share, |s| Some(Value::Share(s.chain.confidence()))),
    column("coverage", Kind::Share, |s| s.chain.coverage().map(Value::Share)),
    column("link_coverage", Kind::Share, |s| Some(Value::Share(s.chain.link_coverage()))),
];

impl ChainColumn {
    /// Type of the column in SQL.
    pub(super) fn data_type(&self) -> DataType {
        match self.kind {
            Kind::Text => DataType::Utf8,
            Kind::List => DataType::List(element()),
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Int => DataType::Int32,
            Kind::Long => DataType::Int64,
            Kind::Share => DataType::Float64,
        }
    }

    /// The column over some chains.
    pub(super) fn array<'r>(&self, chains: impl Iterator<Item = Seen<'r>>) -> ArrayRef {
        let values = chains.map(|seen| (self.of)(&seen));
        let numbers = |value: Option<Value<'_>>| match value {
            Some(Value::Number(n)) => Some(n),
            _ => None,
        };
        match self.kind {
            Kind::Text => Arc::new(StringArray::from_iter(values.map(|value| match value {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            }))),
            Kind::List => {
                let mut list = ListBuilder::new(StringBuilder::new()).with_field(element());
                for value in values {
                    list.append_option(match value {
                        Some(Value::List(names)) => Some(names.into_iter().map(Some)),
                        _ => None,
                    });
                }
                Arc::new(list.finish())
            }
            Kind::Time => {
                let times = values.map(|value| match value {
                    Some(Value::Time(time)) => Some(time.0),
                    _ => None,
                });
                Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
            }
            Kind::Int => {
                Arc::new(Int32Array::from_iter(values.map(|v| numbers(v).and_then(|n| i32::try_from(n).ok()))))
            }
            Kind::Long => Arc::new(Int64Array::from_iter(values.map(numbers))),
            Kind::Share => Arc::new(Float64Array::from_iter(values.map(|value| match value {
                Some(Value::Share(share)) => Some(share.share()),
                _ => None,
            }))),
        }
    }

    /// Value of the column at rest.
    pub(super) fn cell<'r>(&self, seen: &Seen<'r>) -> Option<Cell<'r>> {
        Some(match (self.of)(seen)? {
            Value::Text(text) => Cell::Text(text.into()),
            Value::List(names) => Cell::List(names.into_iter().map(Cow::Borrowed).collect()),
            Value::Time(time) => Cell::Time(time),
            Value::Number(n) => Cell::Int(n),
            Value::Share(share) => Cell::Int(share.0.into()),
        })
    }
}

fn element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chains::revisions;
    use catena_schemas::revision::REVISIONS;
    use catena_schemas::table::Kind as Stored;

    /// A column that only one of the two tables has would be null at rest, or never be published.
    #[test]
    fn revisions_hold_the_columns_of_chains_and_their_own() {
        let stored: Vec<(&str, Stored)> = REVISIONS.own.iter().map(|c| (c.name, c.kind)).collect();
        let (shared, own) = stored.split_at(COLUMNS.len());
        for (column, (name, stored)) in COLUMNS.iter().zip(shared) {
            let suffix = if column.kind == Kind::Share { "_permille" } else { "" };
            assert_eq!(format!("{}{suffix}", column.name), *name);
            let fits = match column.kind {
                Kind::Text => matches!(stored, Stored::Text | Stored::Id),
                Kind::List => *stored == Stored::List,
                Kind::Time => *stored == Stored::Time,
                Kind::Long => *stored == Stored::Long,
                Kind::Int | Kind::Share => *stored == Stored::Int,
            };
            assert!(fits, "{name}: {:?} in SQL, {stored:?} at rest", column.kind);
        }
        assert_eq!(own.iter().map(|(name, _)| *name).collect::<Vec<_>>(), revisions::OWN);
    }

    #[test]
    fn the_documentation_lists_every_column() {
        let page = include_str!("../../../../docs/chains.md");
        let start = page.find("`chains`, a row a chain").expect("the paragraph about `chains`");
        let paragraph = page[start..].split("\n\n").next().unwrap_or_default();
        let mut rest = paragraph;
        for name in ["tenant"].into_iter().chain(COLUMNS.iter().map(|c| c.name)).chain(["lake_version"]) {
            let at = rest.match_indices(name).find(|(at, _)| is_word(rest, *at, name)).map(|(at, _)| at);
            rest = &rest[at.unwrap_or_else(|| panic!("`{name}` is missing, or not in the order of the table"))..];
        }
    }

    fn is_word(text: &str, at: usize, word: &str) -> bool {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next())
    }
}
