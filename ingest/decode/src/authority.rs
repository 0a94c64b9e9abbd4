//! Records of authority: what may be done, as those who grant, exchange and register tell it.
//!
//! Guarantees: a record says only what its source said; a column that it does not fill is empty, an empty list stays an empty list
//! (it allows nothing). Tokens become keyed digests, and secrets are gone, before an entry exists. A record without which the others
//! would be read wrongly (a grant that does not say what it allows) is refused, not repaired. `docs/authority.md` says which source
//! fills what.
//!
//! | module | reads |
//! |---|---|
//! | [`native`] | records in the native envelope, and our own |
//! | [`catalogue`] | catalogues of tools: YAML, CSV, answers to `tools/list` |
//! | [`mapped`] | logs of authorization servers, by mapping |
//! | [`openfga`] | tuples written and deleted, in OpenFGA's request log |

pub mod catalogue;
pub(crate) mod mapped;
pub(crate) mod native;
pub(crate) mod openfga;

use crate::json::{Kind, Value};
use crate::mapping::{Mappings, Roots};
use crate::redact::{Redactor, Taken};
use crate::{Context, Decoded};
use catena_schemas::Micros;
use catena_schemas::authority::{Cell, Entry, EntryKind};
use catena_schemas::event::{Source, Texts};
use std::borrow::Cow;

/// A record of this far ahead of its receipt is flagged `skew`.
const SKEW_US_MAX: i64 = 24 * 3600 * 1_000_000;

/// Whether an object is a line of a log that speaks of authority.
pub(crate) fn is_of_a_granter(root: Value<'_>, mappings: &Mappings) -> bool {
    openfga::is_write(root) || mappings.of_records(&Roots::record(root)).next().is_some()
}

/// What a line of a log says of authority: entries, in an order that is always the same, or why there are none.
pub(crate) fn entries<'t>(
    root: Value<'t>,
    mappings: &'t Mappings,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Result<Vec<Entry<'t>>, Decoded<'t>> {
    if root.kind() != Kind::Object {
        return Err(Decoded::Rejection("not_an_object", format!("the record is {}", root.kind().as_str())));
    }
    let mut entries = match openfga::is_write(root) {
        true => openfga::entries(root, redactor, taken, context)?,
        false => mapped::entries(root, mappings, redactor, taken, context)?,
    };
    let count = entries.len() as u32;
    for (index, entry) in entries.iter_mut().enumerate() {
        (entry.source.decision_index, entry.source.decision_count) = (index as u32, count);
    }
    Ok(entries)
}

/// An entry under construction.
#[derive(Debug)]
pub(crate) struct Draft<'t> {
    pub(crate) kind: EntryKind,
    pub(crate) id: Cow<'t, str>,
    pub(crate) time: Option<Micros>,
    pub(crate) source: Source<'t>,
    cells: Vec<Option<Cell<'t>>>,
    pub(crate) flags: Texts<'t>,
}

impl<'t> Draft<'t> {
    pub(crate) fn new(kind: EntryKind) -> Draft<'t> {
        let cells = kind.table().own.iter().map(|_| None).collect();
        let source = Source { decision_count: 1, ..Source::default() };
        Draft { kind, id: Cow::Borrowed(""), time: None, source, cells, flags: Vec::new() }
    }

    /// Fills a column, unless something has filled it before. A name that is no column of the kind is a mistake of ours.
    pub(crate) fn set(&mut self, column: &str, cell: Cell<'t>) {
        let Some(at) = self.kind.table().own_column(column) else {
            debug_assert!(false, "`{}` has no column `{column}`", self.kind.table().name);
            return;
        };
        self.cells[at].get_or_insert(cell);
    }

    pub(crate) fn text(&mut self, column: &str, value: impl Into<Cow<'t, str>>) {
        self.set(column, Cell::Text(value.into()));
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.kind.table().own_column(column).is_some_and(|at| self.cells[at].is_some())
    }

    /// The first column without which a record of this kind says nothing, if one is empty.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let required: &[&'static str] = match self.kind {
            EntryKind::Grant => &["grant_id", "grantor", "grantee"],
            EntryKind::Reauth => &["reauth_id", "by", "approver", "at"],
            EntryKind::Exchange => &[],
            EntryKind::Tool => &["server", "tool"],
            EntryKind::Lifecycle => &["event", "subject_kind", "subject"],
            EntryKind::Principal => &["principal", "principal_kind"],
        };
        required.iter().copied().find(|column| !self.has(column))
    }

    pub(crate) fn flag(&mut self, flag: impl Into<Cow<'static, str>>) {
        let flag: Cow<'static, str> = flag.into();
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    /// The entry; what it lacks of the envelope is filled from the context, and flagged. `extra` is the inside of an object.
    pub(crate) fn finish(mut self, extra: Option<Cow<'t, str>>, context: &Context<'t>) -> Entry<'t> {
        let time = match self.time {
            Some(time) => {
                if context.received.0 != 0 && time.0 - context.received.0 > SKEW_US_MAX {
                    self.flag("skew");
                }
                time
            }
            None => {
                self.flag("time_missing");
                context.received
            }
        };
        if self.id.is_empty() {
            self.id = Cow::Borrowed(context.fallback_id);
            self.flag("id_missing");
        }
        if self.source.record.as_deref() == Some(self.id.as_ref()) {
            self.source.record = None;
        }
        let body = Cow::Owned(self.kind.table().body(&self.cells));
        Entry { kind: self.kind, id: self.id, time, source: self.source, body, extra, flags: self.flags }
    }
}
