//! Open Policy Agent: decision logs, as console lines and as uploaded events.
//!
//! Guarantees: the two forms of one decision come out equal, so that one can stand for the other: what the console adds is
//! left out, and an `error` object is written as the text that the console has. What `input` and `result` mean is the
//! policy's own affair, so a mapping says it. A decision whose result is missing is `unknown`, one with an error `error`;
//! nothing is taken for a denial that does not say so, and an answer that OPA masked or erased is `unknown` under a reason of its
//! own. Other lines of the console, which have no members but those that OPA writes, are asides, and so are OPA's questions to its
//! own package `system`: whether it is healthy decides about nobody.

use super::mapped::{Extra, Filling, VERDICT_UNREAD, removed};
use super::signs;
use crate::json::{Kind, Value};
use crate::mapping::removed::{Gone, masked};
use crate::mapping::{Mappings, Roots};
use crate::redact::{Redactor, Taken};
use crate::{Context, Decoded, Format};
use catena_schemas::event::{Basis, Event, Outcome};
use std::borrow::Cow;

/// Members of an answer that say it.
const ANSWER: &[&str] = &["allow", "allowed", "effect", "decision"];

/// Marks a decision among the lines of the console.
const TYPE: &str = "openpolicyagent.org/decision_logs";

/// Whether an object is a decision.
pub(crate) fn is_decision(root: Value<'_>) -> bool {
    root.get("decision_id").is_some_and(|v| v.as_str().is_some())
        && ["labels", "path", "query", "result", "mapped_result", "input", "timestamp"]
            .iter()
            .any(|key| root.get(key).is_some())
        || root.get("type").and_then(|v| v.as_str()) == Some(TYPE)
}

/// What every line of the console has.
const CONSOLE: [&str; 3] = ["level", "msg", "time"];
/// What other lines of OPA's console have besides.
const CONSOLE_MORE: &[&str] = &[
    "addrs",
    "bundle",
    "bundles",
    "client_addr",
    "current_version",
    "diagnostic-addrs",
    "discovery",
    "download_opa",
    "dropped",
    "err",
    "error",
    "errors",
    "fields.time",
    "headers",
    "latest_version",
    "limit",
    "max_procs",
    "maxprocs",
    "metrics",
    "name",
    "path",
    "plugin",
    "plugins",
    "release_notes",
    "req_body",
    "req_id",
    "req_method",
    "req_params",
    "req_path",
    "resp_body",
    "resp_bytes",
    "resp_duration",
    "resp_status",
    "retry",
    "service",
    "size",
    "state",
    "status",
    "trigger",
    "url",
    "version",
    "warning",
];
/// Members that only an event of a decision has, also when its id is gone.
const ANSWERED: &[&str] = &["result", "mapped_result", "input", "query", "decision_id", "nd_builtin_cache"];

/// Whether an object is another line of the console.
pub(crate) fn is_console(root: Value<'_>) -> bool {
    let text = |key: &str| root.get(key).is_some_and(|v| v.as_str().is_some());
    let known = |key: &str| CONSOLE.contains(&key) || CONSOLE_MORE.contains(&key);
    CONSOLE.iter().all(|key| text(key))
        && root.entries().all(|(key, _)| known(key))
        && signs::names_a_call(root).is_none()
}

/// Reads one event.
pub(crate) fn decode<'t>(
    root: Value<'t>,
    mappings: &'t Mappings,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Decoded<'t> {
    if root.kind() != Kind::Object {
        return Decoded::Rejection("not_an_object", format!("the record is {}", root.kind().as_str()));
    }
    if !is_decision(root) {
        if is_console(root) {
            let message = root.get("msg").and_then(|v| v.as_str()).unwrap_or_default();
            return Decoded::Aside("console_line", message.to_owned());
        }
        let reports = root.get("plugins").is_some() || root.get("bundles").is_some();
        if root.get("labels").is_some() && reports && ANSWERED.iter().all(|key| root.get(key).is_none()) {
            return Decoded::Aside("status_report", String::new());
        }
        return Decoded::Rejection(
            "decision_id_missing",
            "the record is neither a decision nor a line of the console".into(),
        );
    }
    let list = |key: &str| root.get(key).filter(|v| v.items().next().is_some());
    let roots = Roots::record(root).with_removed(list("erased"), list("masked"));
    let Some(mapping) = mappings.choose(Format::Opa, &roots) else {
        return Decoded::Rejection("mapping_missing", "no mapping's conditions hold".into());
    };
    // A gateway may have the question put to `system.main`, where OPA looks when it is asked for nothing by name: then there is
    // somebody's input, and an answer that a mapping knows.
    let path = root.get("path").and_then(|v| v.as_str()).unwrap_or_default();
    let is_system = path.strip_prefix('/').unwrap_or(path).split('/').next() == Some("system");
    // A question with somebody's input that no mapping knows the answer of is kept as what it is: undecided.
    let asked = root.get("input").is_some_and(|v| v.entries().next().is_some());
    let is_main = path.trim_start_matches('/') == "system/main";
    let is_asked = asked && (mapping.is_conditional() || is_main);
    if is_system && !is_asked {
        return Decoded::Aside("system_query", path.to_owned());
    }
    taken.clear();
    let dirty = redactor.suspects_record(root);
    let mut fill = Filling { mapping, roots, redactor, dirty, taken, flags: Vec::new(), absent: None, quoted: false };
    let mut e = Event::default();
    e.source.kind = Some(Cow::Borrowed("opa"));
    e.source.decision_count = 1;
    if let Err((reason, detail)) = fill.time(&mut e, root.get("timestamp"), context) {
        return Decoded::Rejection(reason, detail);
    }
    for (key, v) in root.entries() {
        let text = v.as_str().filter(|s| !s.is_empty());
        let known = match (key, text) {
            ("decision_id", Some(s)) => {
                e.id = fill.clean(s);
                true
            }
            ("trace_id", Some(s)) => {
                e.links.trace = Some(fill.clean(s));
                true
            }
            ("span_id", Some(s)) => {
                e.links.span = Some(fill.clean(s));
                true
            }
            ("path", Some(s)) => {
                e.decision.policy_id = Some(fill.clean(s.strip_prefix('/').unwrap_or(s)));
                true
            }
            ("level" | "msg" | "time", _) => root.get("type").is_some(),
            ("type", Some(s)) => s == TYPE,
            // An empty list says nothing.
            ("erased" | "masked", _) => {
                if v.items().next().is_some() {
                    fill.flag(if key == "erased" { "producer_erased" } else { "producer_masked" });
                }
                false
            }
            _ => false,
        };
        if known {
            fill.taken.insert(v);
        }
    }
    labels(root, &mut fill, &mut e);
    policy(root, &mut fill, &mut e);
    headers(root, &mut fill, &mut e);
    let error = error(root, &mut fill, &mut e);
    if error.is_none() {
        outcome(root, &mut fill, &mut e);
    }
    fill.apply(&mut e);
    fill.drop();
    fill.finish(&mut e, context);
    let mut extra = Extra::new(redactor, dirty, fill.taken);
    let mut members: Vec<_> = root.entries().collect();
    members.sort_unstable_by_key(|m| m.0);
    for (key, v) in members {
        match (key, &error) {
            ("error", Some(text)) => extra.text(key, text),
            // That a bundle without a revision took part is said by its name alone.
            ("bundles", _) if v.entries().any(|(_, bundle)| revision(bundle).is_none()) => extra.whole(key, v),
            _ => extra.member(key, v),
        }
    }
    e.extra = extra.finish();
    Decoded::Event(Box::new(e))
}

/// The instance's id is new at each start; the labels that its operator gave it stay in `extra`.
fn labels<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    if let Some(id) = root.get("labels").and_then(|l| l.get("id"))
        && let Some(s) = id.as_str()
    {
        e.source.instance = Some(fill.clean(s));
        fill.taken.insert(id);
    }
}

fn revision(of: Value<'_>) -> Option<(Value<'_>, &str)> {
    let revision = of.get("revision")?;
    Some((revision, revision.as_str().filter(|s| !s.is_empty())?))
}

/// Revisions of the bundles that took part: one as it is, several with their names, sorted.
fn policy<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    e.decision.policy_engine = Some(Cow::Borrowed("opa"));
    let bundles = root.get("bundles");
    let mut found: Vec<(&str, Value<'t>, &str)> = bundles
        .iter()
        .flat_map(|b| b.entries())
        .filter_map(|(name, v)| revision(v).map(|(r, s)| (name, r, s)))
        .collect();
    found.sort_unstable_by_key(|f| f.0);
    let single = found.len() == 1;
    e.decision.policy_version = match found.as_slice() {
        [] => revision(root).map(|(r, s)| {
            fill.taken.insert(r);
            fill.clean(s)
        }),
        [(_, _, only)] => Some(fill.clean(only)),
        several => {
            let named: Vec<_> = several.iter().map(|(name, _, s)| format!("{name}:{s}")).collect();
            Some(Cow::Owned(fill.redactor.text(&named.join(",")).into_owned()))
        }
    };
    // The name of a single bundle would be lost with its revision.
    if !single {
        found.iter().for_each(|f| fill.taken.insert(f.1));
    }
}

/// Headers of the question that OPA was set to log; their spelling is that of its configuration.
fn headers<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    let Some(headers) = root.get("request_context").and_then(|c| c.get("http")).and_then(|h| h.get("headers")) else {
        return;
    };
    for (name, values) in headers.entries() {
        let Some((item, s)) =
            values.items().next().or(Some(values)).and_then(|v| Some((v, v.as_str().filter(|s| !s.is_empty())?)))
        else {
            continue;
        };
        if name.eq_ignore_ascii_case("x-request-id") {
            e.links.request = Some(fill.clean(s));
        } else if name.eq_ignore_ascii_case("mcp-session-id") {
            e.session.mcp = Some(fill.clean(s));
        } else if name.eq_ignore_ascii_case("traceparent") && e.links.trace.is_none() {
            let Some((trace, span)) = super::mapped::traceparent(s) else { continue };
            e.links.trace = Some(Cow::Borrowed(trace));
            e.links.parent_span = Some(Cow::Borrowed(span));
        } else {
            continue;
        }
        if values.items().nth(1).is_none() {
            fill.taken.insert(item);
            fill.taken.insert(values);
        }
    }
}

/// An error of evaluation, as the text `file:row: code: message`; the code becomes the reason.
fn error<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) -> Option<String> {
    let error = root.get("error").filter(|v| !v.is_null())?;
    e.decision.outcome = Outcome::Error;
    e.decision.basis = Some(Basis::Explicit);
    let text = match error.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let part = |v: Option<Value<'t>>| v.and_then(|v| v.as_scalar()).unwrap_or_default();
            let location = error.get("location");
            let place = match (part(location.and_then(|l| l.get("file"))), part(location.and_then(|l| l.get("row")))) {
                ("", "") => String::new(),
                (file, row) => format!("{file}:{row}: "),
            };
            match (part(error.get("code")), part(error.get("message"))) {
                // OPA writes some errors as `{}`.
                ("", "") => error.to_json(),
                (code, message) => format!("{place}{code}: {message}"),
            }
        }
    };
    let code =
        text.split(": ").find(|p| p.ends_with("_error") && p.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    e.decision.reasons.push(Cow::Owned(code.unwrap_or("evaluation_error").to_owned()));
    fill.taken.insert(error);
    Some(text)
}

fn outcome<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    if fill.decide(e) {
        return;
    }
    // The usual names of an answer, where no mapping knows the rest of it.
    let answers = ["result", "mapped_result"].iter().filter_map(|key| root.get(key));
    let mut named = answers.flat_map(|answer| ANSWER.iter().filter_map(move |key| answer.get(key)));
    if named.any(masked) {
        return removed(&mut e.decision, Gone::Masked);
    }
    e.decision.outcome = Outcome::Unknown;
    e.decision.basis = Some(Basis::Inferred);
    let is_undefined = ["result", "mapped_result"].iter().all(|key| root.get(key).is_none());
    e.decision.reasons.push(Cow::Borrowed(if is_undefined { "result_undefined" } else { "result_unmapped" }));
    if fill.mapping.outcome.named(&fill.roots) {
        fill.flag(VERDICT_UNREAD);
    }
}
