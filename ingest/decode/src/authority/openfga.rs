//! OpenFGA: tuples written and deleted, in its request log. A tuple is a grant; its deletion is the end of it.
//!
//! Guarantees: each tuple of a request that succeeded becomes one entry, writes before deletes, in their order; one that failed
//! becomes an aside. Members that OpenFGA writes empty count as absent, and times are read as those of its checks are. A grant is named by its store and its tuple, so that the deletion names the same one. Who wrote it is not in the
//! log, so `grantor` stays empty; what a relation means is the model's affair, so the tuple stands as one atom of capability: the
//! relation as action, the object as resource, a condition as constraint.

use super::Draft;
use crate::formats::bounds::bounded;
use crate::formats::cerbos::SHARED_BYTES_MAX;
use crate::formats::mapped::{Extra, moment};
use crate::json::{Value, write_string};
use crate::redact::{Redactor, Taken};
use crate::{Context, Decoded};
use catena_schemas::Micros;
use catena_schemas::authority::{Cell, Entry, EntryKind};
use std::borrow::Cow;

/// Whether an object is the line of a request that writes tuples.
pub(crate) fn is_write(root: Value<'_>) -> bool {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str());
    text("grpc_method") == Some("Write") && text("grpc_service").is_some_and(|s| s.starts_with("openfga."))
}

/// A member of a line; what was never set is written as an empty text or null.
fn said<'t>(root: Value<'t>, name: &str) -> Option<Value<'t>> {
    root.get(name).filter(|v| !v.is_null() && v.as_str() != Some(""))
}

/// One entry for each tuple.
pub(crate) fn entries<'t>(
    root: Value<'t>,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Result<Vec<Entry<'t>>, Decoded<'t>> {
    let failed = said(root, "grpc_code").is_some_and(|c| c.as_scalar() != Some("0"))
        || ["error", "internal_error"].iter().any(|name| said(root, name).is_some());
    if failed {
        return Err(Decoded::Aside("grants_nothing", "a write that failed".into()));
    }
    let Some(request) = root.get("raw_request") else {
        return Err(Decoded::Aside(
            "authority_write",
            "without `raw_request`: what was written is not in the log".into(),
        ));
    };
    let mut line = Line { root, redactor, dirty: redactor.suspects_record(root), store: "", time: None };
    line.store = request.get("store_id").or_else(|| root.get("store_id")).and_then(|s| s.as_str()).unwrap_or_default();
    if let Some(v) = ["ts", "timestamp", "time"].iter().find_map(|name| said(root, name)) {
        let time =
            moment(v).ok_or_else(|| Decoded::Rejection("time_invalid", format!("the time is {}", v.to_json())))?;
        line.time = Some(time);
    }
    let tuples = |name: &str| {
        request
            .get(name)
            .and_then(|w| w.get("tuple_keys"))
            .into_iter()
            .flat_map(|list| list.items())
            .collect::<Vec<_>>()
    };
    let (writes, deletes) = (tuples("writes"), tuples("deletes"));
    let listed: usize = writes.iter().chain(&deletes).map(|t| t.source().len()).sum();
    bounded(writes.len() + deletes.len(), root.source().len().saturating_sub(listed))
        .map_err(|(reason, detail)| Decoded::Rejection(reason, detail))?;
    let mut entries = Vec::with_capacity(writes.len() + deletes.len());
    taken.clear();
    line.take(request, taken);
    let mut extra = Extra::new(redactor, line.dirty, taken);
    extra.members(root);
    let extra: Option<Cow<'t, str>> = extra.finish();
    for (number, (tuple, written)) in
        writes.iter().map(|t| (t, true)).chain(deletes.iter().map(|t| (t, false))).enumerate()
    {
        let Some(draft) = line.tuple(*tuple, written, number) else {
            return Err(Decoded::Rejection("field_missing", "a tuple has no user, relation or object".into()));
        };
        // What is long stands with the first alone.
        let repeated = extra.as_ref().filter(|x| number == 0 || x.len() <= SHARED_BYTES_MAX);
        entries.push(draft.finish(repeated.cloned(), context));
    }
    match entries.is_empty() {
        true => Err(Decoded::Aside("grants_nothing", "a write without tuples".into())),
        false => Ok(entries),
    }
}

struct Line<'t, 'r> {
    root: Value<'t>,
    redactor: &'r Redactor,
    dirty: bool,
    store: &'t str,
    time: Option<Micros>,
}

impl<'t> Line<'t, '_> {
    fn clean(&self, s: &str) -> String {
        if self.dirty { self.redactor.text(s).into_owned() } else { s.to_owned() }
    }

    /// Marks what each entry says itself.
    fn take(&self, request: Value<'t>, taken: &mut Taken) {
        let of_root = ["ts", "timestamp", "time", "msg", "level", "grpc_code", "request_id", "store_id"];
        of_root.iter().filter_map(|name| self.root.get(name)).for_each(|v| taken.insert(v));
        ["writes", "deletes", "store_id"].iter().filter_map(|name| request.get(name)).for_each(|v| taken.insert(v));
    }

    fn tuple(&self, tuple: Value<'t>, written: bool, number: usize) -> Option<Draft<'t>> {
        let part = |name: &str| tuple.get(name).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
        let (user, relation, object) = (part("user")?, part("relation")?, part("object")?);
        // Each part by itself: what a secret is can hang on what stands before it.
        let (user, relation, object) = (self.clean(user), self.clean(relation), self.clean(object));
        let grant = format!("{}/{object}#{relation}@{user}", self.clean(self.store));
        let mut draft = Draft::new(if written { EntryKind::Grant } else { EntryKind::Lifecycle });
        draft.time = self.time;
        draft.source.kind = Some(Cow::Borrowed("openfga"));
        draft.source.instance = (!self.store.is_empty()).then(|| Cow::Owned(self.clean(self.store)));
        if let Some(request) = self.root.get("request_id").and_then(|v| v.as_str()).filter(|s| !s.is_empty()) {
            draft.id = Cow::Owned(format!("{}/{number}", self.clean(request)));
            draft.source.record = Some(Cow::Owned(self.clean(request)));
        }
        if !written {
            draft.text("event", "revoked");
            draft.text("subject_kind", "grant");
            draft.text("subject", grant);
            return Some(draft);
        }
        draft.text("grant_id", grant);
        draft.text("grantee", user);
        draft.text("basis", "policy_grant");
        let mut atom = Vec::new();
        for (name, value) in [("action", relation), ("resource", object)] {
            atom.push(format!("\"{name}\":{}", quoted(&value)));
        }
        if let Some(condition) = tuple.get("condition").filter(|c| !c.is_null()) {
            let mut text = String::new();
            self.redactor.json(condition, self.dirty, &mut text);
            atom.push(format!("\"constraints\":{text}"));
        }
        draft.set("capability", Cell::Json(Cow::Owned(format!("[{{{}}}]", atom.join(",")))));
        Some(draft)
    }
}

fn quoted(s: &str) -> String {
    let mut out = String::new();
    write_string(s, &mut out);
    out
}
