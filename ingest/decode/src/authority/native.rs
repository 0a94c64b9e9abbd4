//! Records of authority in the native envelope: `kind` is `grant`, `reauth`, `exchange`, `tool`, `lifecycle` or `principal`.
//!
//! Guarantees: each member goes to the column of its name, those of `authority` and `new_authority` flat; unknown members, and
//! optional ones of a wrong type, go to `extra`, the latter with a flag `invalid:<name>`. A missing required member, or an unreadable
//! time, makes a rejection. References of tokens and artifacts are kept as keyed digests, and so is the subject of a lifecycle
//! record that is about a token. A trusted record (`catena_schemas::wire::write_authority`) comes out as it went in.

use super::Draft;
use crate::Context;
use crate::formats::catena::{Refusal, instant};
use crate::formats::mapped::Extra;
use crate::json::{Kind, Value};
use crate::redact::{Redactor, Taken, pieces};
use catena_schemas::authority::{Cell, Column, Entry, EntryKind};
use catena_schemas::table::Kind as Stored;
use std::borrow::Cow;

/// The kind that a record names, if it is one of authority.
pub(crate) fn kind(root: Value<'_>) -> Option<EntryKind> {
    root.get("kind").and_then(|k| k.as_str()).and_then(EntryKind::parse)
}

/// Reads one record, `kind` being what it names.
pub(crate) fn decode<'t>(
    kind: EntryKind,
    root: Value<'t>,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Result<Entry<'t>, Refusal> {
    if context.trusted {
        return Ok(own(kind, root, context));
    }
    taken.clear();
    let dirty = redactor.suspects_record(root);
    let mut reader = Reader { draft: Draft::new(kind), redactor, dirty, taken };
    for key in ["kind", "time"] {
        root.get(key).into_iter().for_each(|v| reader.taken.insert(v));
    }
    if let Some(v) = root.get("id").filter(|v| !v.is_null()) {
        match v.as_scalar() {
            Some(id) => {
                reader.draft.id = reader.clean(id);
                reader.taken.insert(v);
            }
            None => reader.draft.flag("invalid:id"),
        }
    }
    if let Some(v) = root.get("time").filter(|v| !v.is_null()) {
        let time = instant(v).ok_or_else(|| ("time_invalid", format!("`time` is {}", v.to_json())))?;
        reader.draft.time = Some(time);
    }
    reader.source(root);
    let authority = match kind {
        EntryKind::Grant => Some("authority"),
        EntryKind::Reauth => Some("new_authority"),
        _ => None,
    };
    if let Some(name) = authority {
        let Some(authority) = root.get(name).filter(|v| v.kind() == Kind::Object) else {
            return Err(("field_missing", format!("`{name}` is required of a {}", kind.as_str())));
        };
        for dimension in DIMENSIONS {
            let column = reader.column(dimension);
            column.into_iter().for_each(|c| reader.member(authority, c));
        }
    }
    for column in kind.table().own.iter().filter(|c| authority.is_none() || !DIMENSIONS.contains(&c.name)) {
        reader.member(root, column);
    }
    if let Some(missing) = reader.draft.missing() {
        return Err(("field_missing", format!("`{missing}` is required of a {}", kind.as_str())));
    }
    let Reader { draft, taken, .. } = reader;
    let mut extra = Extra::new(redactor, dirty, taken);
    extra.members(root);
    let extra = extra.finish();
    Ok(draft.finish(extra, context))
}

/// Dimensions of an authority: members of it in a record, columns in a table.
const DIMENSIONS: &[&str] = &["scope", "resource", "aud", "rar", "capability"];

struct Reader<'t, 'r> {
    draft: Draft<'t>,
    redactor: &'r Redactor,
    dirty: bool,
    taken: &'r mut Taken,
}

impl<'t> Reader<'t, '_> {
    fn clean(&self, s: &'t str) -> Cow<'t, str> {
        if self.dirty { self.redactor.text(s) } else { Cow::Borrowed(s) }
    }

    fn column(&self, name: &str) -> Option<&'static Column> {
        let table = self.draft.kind.table();
        table.own_column(name).map(|at| &table.own[at])
    }

    /// Reads the member that a column is named after.
    fn member(&mut self, of: Value<'t>, column: &'static Column) {
        let Some(v) = of.get(column.name).filter(|v| !v.is_null()) else { return };
        let digested = digested(self.draft.kind, column.name, of);
        let cell = match column.kind {
            Stored::Text | Stored::Id | Stored::Bytes => v
                .as_scalar()
                .map(|s| Cell::Text(if digested { Cow::Owned(self.redactor.digest(s)) } else { self.clean(s) })),
            Stored::List => self.list(v, column.name).map(Cell::List),
            Stored::Time => instant(v).map(Cell::Time),
            Stored::Int => v.as_i64().filter(|n| i32::try_from(*n).is_ok()).map(Cell::Int),
            Stored::Long => v.as_i64().map(Cell::Int),
            Stored::Bool => v.as_bool().map(Cell::Bool),
            Stored::Json => matches!(v.kind(), Kind::Object | Kind::Array)
                .then(|| Cell::Json(self.redactor.json_text(v, self.dirty))),
        };
        match cell {
            Some(cell) => {
                self.taken.insert(v);
                self.draft.set(column.name, cell);
            }
            None => {
                self.draft.flag(format!("invalid:{}", column.name));
                // A list or object where a token is meant may hold one: unlike others it is not kept.
                if digested {
                    self.taken.insert(v);
                }
            }
        }
    }

    /// A list, or one text; scopes also as one text with spaces (RFC 6749, section 3.3).
    fn list(&self, v: Value<'t>, name: &str) -> Option<Vec<Cow<'t, str>>> {
        if let Some(s) = v.as_str() {
            let scopes = name.starts_with("scope");
            let text = self.clean(s);
            return Some(if scopes { pieces(text, &[" "]) } else { vec![text] });
        }
        let texts = v.items().all(|i| i.as_str().is_some());
        (v.kind() == Kind::Array && texts)
            .then(|| v.items().filter_map(|i| i.as_str()).map(|s| self.clean(s)).collect())
    }

    fn source(&mut self, root: Value<'t>) {
        let Some(v) = root.get("source").filter(|v| !v.is_null()) else { return };
        if v.kind() != Kind::Object {
            return self.draft.flag("invalid:source");
        }
        for (key, v) in v.entries() {
            let text = v.as_scalar().map(|s| self.clean(s));
            let s = &mut self.draft.source;
            match key {
                "kind" => s.kind = text,
                "instance" => s.instance = text,
                "epoch" => s.epoch = text,
                "record" => s.record = text,
                "seq" => s.seq = v.as_i64(),
                _ => continue,
            }
            let read = if key == "seq" { v.as_i64().is_some() } else { v.as_scalar().is_some() };
            match read {
                true => self.taken.insert(v),
                false if !v.is_null() => self.draft.flag(format!("invalid:source.{key}")),
                false => {}
            }
        }
    }
}

/// Whether the value of a column is a token, or as good as one.
fn digested(kind: EntryKind, column: &str, of: Value<'_>) -> bool {
    let about_a_token = || of.get("subject_kind").and_then(|k| k.as_str()) == Some("token");
    column.ends_with("_ref") || (kind == EntryKind::Lifecycle && column == "subject" && about_a_token())
}

/// A record of our own.
fn own<'t>(kind: EntryKind, root: Value<'t>, context: &Context<'t>) -> Entry<'t> {
    let text = |of: Value<'t>, key: &str| of.get(key).and_then(|v| v.as_str()).map(Cow::Borrowed);
    let mut draft = Draft::new(kind);
    draft.id = text(root, "id").unwrap_or_default();
    draft.time = root.get("time").and_then(instant);
    if let Some(source) = root.get("source") {
        let s = &mut draft.source;
        (s.kind, s.instance, s.epoch) = (text(source, "kind"), text(source, "instance"), text(source, "epoch"));
        s.seq = source.get("seq").and_then(|v| v.as_i64());
    }
    let small = |v: Value<'_>| v.as_i64().and_then(|n| u32::try_from(n).ok());
    let mut flags = Vec::new();
    if let Some(internals) = root.get("catena") {
        let s = &mut draft.source;
        s.decision_index = internals.get("index").and_then(small).unwrap_or(s.decision_index);
        s.decision_count = internals.get("count").and_then(small).unwrap_or(s.decision_count);
        flags.extend(
            internals.get("flags").iter().flat_map(|f| f.items()).filter_map(|f| f.as_str()).map(Cow::Borrowed),
        );
    }
    let record = root.get("source").and_then(|s| text(s, "record"));
    let mut entry = draft.finish(text(root, "extra"), &Context { received: catena_schemas::Micros(0), ..*context });
    entry.source.record = record;
    entry.flags = flags;
    entry.body = text(root, "body").unwrap_or(entry.body);
    entry
}
