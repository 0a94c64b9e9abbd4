//! OTLP: logs and spans that follow the conventions for generative AI, agents and MCP, and the proposals for verdicts in them.
//!
//! Guarantees: one request holds many records, and each is decided by itself. A verdict is read only where an attribute says it (the
//! mapping lists which); no status and no error code stands for one, because servers are told to call denials successes. A record
//! about a call without a verdict goes where [`without_verdict`] says. Records that no mapping's conditions know are asides, unless they
//! show a sign of a call or of a verdict: those are refused with their bytes, and so is a part of a request that is no record. Spans
//! are flagged `from_span`: they are sampled, and both ends of a call make one. Of the verdicts in a span's events the strictest counts,
//! under a flag when they differ. A parent span becomes a link, never an actor.
//!
//! The records of agentgateway are recognised by their scope and read by its own decoder; a record whose body is the line of
//! another producer, as collectors forward it, is decoded as that.

mod flatten;

use super::agentgateway;
use super::bounds::bounded;
use super::mapped::{Extra, Filling, VERDICT_UNREAD, removed};
use super::signs;
use crate::json::{Kind, Tape, Value};
use crate::mapping::{Mappings, Roots, Slot};
use crate::redact::{Redactor, Taken, pieces};
use crate::{Context, Decoded, Format};
use catena_schemas::event::{Basis, Decision, Enforced, Event, EventKind, Outcome, Phase, Text};
use flatten::{Flat, Signal};
use std::borrow::Cow;

/// Bytes that resources and scopes may add to the records of one request together, besides the request's own length.
pub(crate) const SHARED_BYTES_MAX: usize = 16 << 20;
/// Operations by which an agent does something or is made to.
const OPERATIONS: &[&str] = &["execute_tool", "invoke_agent", "create_agent", "invoke_workflow"];
/// The operation of a guard, which tells nothing of a call unless it says its verdict.
const GUARDRAIL: &str = "apply_guardrail";
/// Pomerium's spans around a check: its log tells of the same, with who asked, and only a mapping of one's own reads these.
const TOLD_ELSEWHERE: &[&str] = &["authorize.grpc.", "envoy.service.auth."];
/// Greetings and lists under the names that several gateways give their spans.
const KNOWN_SPANS: &[&str] = &["mcp.initialize", "mcp.ping", "mcp.list", "mcp.notification", "initialize", "ping"];
/// The span of AgentCore's gateway around a call.
const INVOKES: &str = "AgentCore.Gateway.InvokeTool";
/// What stands between server and tool in the names that AgentCore gives them.
const TARGET: &str = "___";
/// AgentCore says by tool which it showed and which it hid.
const LISTED: [(&str, Outcome); 2] =
    [("aws.agentcore.policy.allowed_tools", Outcome::Allow), ("aws.agentcore.policy.denied_tools", Outcome::Deny)];

/// Whether an object is an export request.
pub(crate) fn is_request(root: Value<'_>) -> bool {
    ["resourceLogs", "resourceSpans"].iter().any(|key| root.get(key).is_some_and(|v| v.kind() == Kind::Array))
}

/// One record of a request as a flat object.
pub(crate) struct Record {
    pub(crate) text: String,
    flags: Vec<&'static str>,
}

impl Record {
    /// One that was flattened before.
    pub(crate) fn again(text: String) -> Record {
        Record { text, flags: Vec::new() }
    }
}

/// Hands out every record of a request; `Err` when it holds none.
pub(crate) fn records(
    root: Value<'_>,
    mappings: &Mappings,
    scratch: &mut Tape,
    each: &mut dyn FnMut(Record, (u32, u32)),
) -> Result<(), Decoded<'static>> {
    if root.kind() != Kind::Object {
        return Err(Decoded::Rejection("not_an_object", format!("the record is {}", root.kind().as_str())));
    }
    if !is_request(root) {
        return Err(match root.entries().next() {
            None => Decoded::Aside("otlp_empty", String::new()),
            Some(("resourceMetrics", _)) => Decoded::Aside("otlp_metrics", String::new()),
            Some((key, _)) => Decoded::Rejection("otlp_unknown", format!("neither logs nor spans: `{key}`")),
        });
    }
    let mut count = 0;
    walk(root, &mut |_, _, _, _| count += 1);
    let unread = unread(root);
    if count == 0 && unread.is_none() {
        return Err(Decoded::Aside("otlp_empty", String::new()));
    }
    let mut budget = SHARED_BYTES_MAX + root.source().len();
    let mut index = 0;
    walk(root, &mut |signal, resource, scope, record| {
        let scope = scope.get("scope");
        let attributes = |of: Option<Value<'_>>| of.and_then(|v| v.get("attributes")).map_or(0, |v| v.source().len());
        let size = attributes(scope) + attributes(resource.get("resource"));
        let affordable = size <= budget;
        budget -= size.min(budget);
        let shared: Vec<_> = [scope, resource.get("resource")]
            .into_iter()
            .flatten()
            .filter_map(|v| v.get("attributes").filter(|_| affordable))
            .collect();
        let (events, differ) = events(record, mappings);
        let flat = Flat::new(signal, record, &events, &shared, scope, scratch);
        let mut flags = Vec::new();
        flags.extend(differ.then_some("verdicts_differ"));
        flags.extend((!affordable).then_some("cut:resource"));
        flags.extend(flat.duplicated.then_some("attribute_duplicated"));
        each(Record { text: flat.text, flags }, (index, count));
        index += 1;
    });
    unread.map_or(Ok(()), |part| Err(Decoded::Rejection("otlp_unknown", part)))
}

/// Whether an object is one record of an export, flattened: as it is kept, to be read again.
pub(crate) fn is_flat(root: Value<'_>) -> bool {
    root.get("otlp.signal").and_then(|v| v.as_str()).is_some_and(|s| matches!(s, "log" | "span"))
}

/// The first part of a request that is neither a record nor around one: older releases called the levels by other names.
fn unread(root: Value<'_>) -> Option<String> {
    let list = |v: Value<'_>| v.is_null() || v.kind() == Kind::Array;
    for (_, resources, scopes, records) in SIGNALS {
        let Some(of_signal) = root.get(resources) else { continue };
        if !list(of_signal) {
            return Some(format!("`{resources}` is {}", of_signal.kind().as_str()));
        }
        let odd = |of: Value<'_>, known: [&str; 3], inner: &str| {
            let unknown = |(key, v): &(&str, Value<'_>)| {
                (!known.contains(key) && matches!(v.kind(), Kind::Array | Kind::Object)) || (*key == inner && !list(*v))
            };
            match of.kind() {
                Kind::Object => of.entries().find(unknown).map(|(key, v)| format!("`{key}` is {}", v.kind().as_str())),
                kind => Some(format!("an item is {}", kind.as_str())),
            }
        };
        for resource in of_signal.items() {
            let found = odd(resource, ["resource", "schemaUrl", scopes], scopes);
            let mut inner = resource.get(scopes).into_iter().flat_map(|v| v.items());
            if let Some(part) =
                found.or_else(|| inner.find_map(|scope| odd(scope, ["scope", "schemaUrl", records], records)))
            {
                return Some(format!("in `{resources}`: {part}"));
            }
        }
    }
    None
}

/// The events of a span, the one with the strictest verdict first, and whether the verdicts of span and events differ. First, so that the
/// rule and the reason that are read are those of the verdict that is: an event's attributes count where none before it has the name.
fn events<'v>(record: Value<'v>, mappings: &Mappings) -> (Vec<Value<'v>>, bool) {
    let verdict = |of: Value<'_>| {
        let attributes = of.get("attributes").into_iter().flat_map(|list| list.items());
        let said = attributes.filter_map(|a| {
            let word = a.get("value")?.entries().next()?.1.as_scalar()?;
            mappings.outcome(Format::Otlp, a.get("key")?.as_str()?, word)
        });
        said.max_by_key(strictness)
    };
    let mut events: Vec<_> =
        record.get("events").into_iter().flat_map(|list| list.items()).map(|event| (verdict(event), event)).collect();
    if events.is_empty() {
        return (Vec::new(), false);
    }
    let own = verdict(record);
    let mut said = own.iter().chain(events.iter().filter_map(|e| e.0.as_ref()));
    let first = said.next();
    let differ = said.any(|other| Some(other) != first);
    events.sort_by_key(|e| std::cmp::Reverse(e.0.as_ref().map_or(0, strictness)));
    (events.into_iter().map(|e| e.1).collect(), differ)
}

/// What one check denies no other allows.
fn strictness(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Deny => 5,
        Outcome::StepUp => 4,
        Outcome::Error => 3,
        Outcome::Unknown => 2,
        Outcome::Allow => 1,
    }
}

/// Signals, with the names of their levels.
const SIGNALS: [(Signal, &str, &str, &str); 2] =
    [(Signal::Log, "resourceLogs", "scopeLogs", "logRecords"), (Signal::Span, "resourceSpans", "scopeSpans", "spans")];

/// Visits the records with their resource and scope. Twice is cheaper than remembering where millions of them stand.
fn walk<'v>(root: Value<'v>, visit: &mut dyn FnMut(Signal, Value<'v>, Value<'v>, Value<'v>)) {
    for (signal, resources, scopes, records) in SIGNALS {
        for resource in root.get(resources).iter().flat_map(|v| v.items()) {
            for scope in resource.get(scopes).iter().flat_map(|v| v.items()) {
                for record in scope.get(records).iter().flat_map(|v| v.items()) {
                    visit(signal, resource, scope, record);
                }
            }
        }
    }
}

/// The line of another producer that a record carries as its body.
pub(crate) fn carried(root: Value<'_>) -> Option<Value<'_>> {
    root.get("otlp.body").filter(|v| v.kind() == Kind::Object && v.entries().next().is_some())
}

/// What a record knows of the line that it carries.
pub(crate) fn envelope(root: Value<'_>, redactor: &Redactor) -> crate::envelope::Envelope {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str()).map(|s| redactor.text(s).into_owned());
    let nanos = |key: &str| root.get(key).and_then(|v| v.as_i64()).and_then(catena_schemas::Micros::from_epoch_guess);
    crate::envelope::Envelope {
        instance: text("service.instance.id").or_else(|| text("service.name")),
        time: nanos("otlp.time").or_else(|| nanos("otlp.observed_time")),
        trace: text("otlp.trace_id").filter(|t| hex(t, 32)),
        span: text("otlp.span_id").filter(|t| hex(t, 16)),
        ..Default::default()
    }
}

/// Whether a flat object is a record of agentgateway's access log.
pub(crate) fn is_agentgateway(root: Value<'_>) -> bool {
    root.get("otlp.scope").and_then(|v| v.as_str()) == Some(agentgateway::SCOPE)
}

/// Reads one flat object into the events of it: one, or one for each tool that it lists.
pub(crate) fn decode<'t>(
    record: &Record,
    root: Value<'t>,
    mappings: &'t Mappings,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Vec<Decoded<'t>> {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
    let roots = Roots::record(root);
    let Some(mapping) = mappings.choose(Format::Otlp, &roots) else {
        let what = text("otlp.name").or(text("otlp.event_name")).or(text("otlp.scope")).unwrap_or_default();
        return vec![match sign(root) {
            Some(sign) => Decoded::Rejection("otlp_unmapped", format!("`{what}`: {sign}")),
            None => Decoded::Aside("otlp_unrelated", what.to_owned()),
        }];
    };
    let name = text("otlp.name").unwrap_or_default();
    if mapping.is_shipped() && TOLD_ELSEWHERE.iter().any(|known| name.starts_with(known)) {
        return vec![Decoded::Aside("otlp_unrelated", name.to_owned())];
    }
    taken.clear();
    let dirty = redactor.suspects_record(root);
    let mut fill = Filling { mapping, roots, redactor, dirty, taken, flags: Vec::new(), absent: None, quoted: false };
    record.flags.iter().for_each(|flag| fill.flag(*flag));
    let mut e = Event::default();
    e.source.kind = Some(Cow::Borrowed("otlp"));
    e.source.decision_count = 1;
    if let Err((reason, detail)) = fill.time(&mut e, None, context) {
        return vec![Decoded::Rejection(reason, detail)];
    }
    if text("otlp.signal") == Some("span") {
        fill.flag("from_span");
        if let (Some(trace), Some(span)) = (text("otlp.trace_id"), text("otlp.span_id")) {
            e.id = Cow::Owned(format!("{}/{}", redactor.text(trace), redactor.text(span)));
        }
    }
    if root.get(flatten::UNREAD).is_some() {
        fill.flag("invalid:otlp.attributes");
    }
    root.get("otlp.signal").into_iter().for_each(|v| fill.taken.insert(v));
    let method = fill.peek(Slot::Method);
    let operation = text("gen_ai.operation.name");
    e.decision.phase = match (method, operation) {
        _ if name.ends_with("PartiallyAuthorizeActions") => Some(Phase::List),
        (Some(m), _) if signs::is_call(m) => Some(Phase::Invoke),
        (Some(m), _) if m.ends_with("/list") => Some(Phase::List),
        (None, Some("execute_tool")) => Some(Phase::Invoke),
        _ if name == INVOKES || name.ends_with(".AuthorizeAction") => Some(Phase::Invoke),
        _ => None,
    };
    match fill.mapping.outcome.read(&roots) {
        Some(Err(gone)) => removed(&mut e.decision, gone),
        Some(Ok((outcome, v))) => {
            e.decision.outcome = outcome;
            e.decision.basis = Some(fill.mapping.outcome.basis.unwrap_or(Basis::Explicit));
            e.decision.enforced = enforced(root, &e.decision, v.as_str());
            fill.taken.insert(v);
        }
        None if e.decision.phase == Some(Phase::List) && LISTED.iter().any(|(key, _)| root.get(key).is_some()) => {}
        None => {
            // A word that no table knows is kept, and decides nothing.
            let said = fill.mapping.outcome.named(&roots);
            let is_use = method.is_some_and(signs::is_call)
                || operation.is_some_and(|o| OPERATIONS.contains(&o))
                || (method.is_none() && fill.peek(Slot::ToolName).is_some())
                || name == INVOKES
                || mapping.phase == Some(Phase::Invoke);
            if !is_use && !said {
                let what = method.or(operation).unwrap_or(name).to_owned();
                let named = [text("otlp.event_name"), text("event.name")].into_iter().flatten();
                if named.clone().any(|name| name.starts_with("authz.")) {
                    let detail = "the record is called a decision, and its verdict stands under no name that is known";
                    return vec![Decoded::Rejection("verdict_missing", detail.into())];
                }
                let no_use = match (method, operation) {
                    (Some(method), _) => signs::is_no_use(method),
                    (None, Some(operation)) => signs::is_of_model(operation) || operation == GUARDRAIL,
                    (None, None) => sign(root).is_none(),
                };
                return vec![match no_use {
                    true => Decoded::Aside("not_a_call", what),
                    false => Decoded::Rejection("method_unknown", format!("`{what}`")),
                }];
            }
            if said {
                fill.flag(VERDICT_UNREAD);
            }
            without_verdict(&mut e, said);
        }
    }
    e.links.trace = id(&mut fill, root, "otlp.trace_id", 32);
    e.links.span = id(&mut fill, root, "otlp.span_id", 16);
    e.links.parent_span = id(&mut fill, root, "otlp.parent_span_id", 16);
    fill.apply(&mut e);
    acting(&mut fill, root, &mut e);
    fill.drop();
    let listed = listed(&mut fill, root, &e);
    if listed.is_empty() && e.decision.basis.is_none() {
        return vec![Decoded::Aside("items_none", name.to_owned())];
    }
    fill.finish(&mut e, context);
    let mut extra = Extra::new(redactor, dirty, fill.taken);
    extra.members(root);
    e.extra = extra.finish();
    if listed.is_empty() {
        return vec![Decoded::Event(Box::new(e))];
    }
    let lists: usize = LISTED.iter().filter_map(|(key, _)| root.get(key)).map(|v| v.source().len()).sum();
    if let Err((reason, detail)) = bounded(listed.len(), root.source().len().saturating_sub(lists)) {
        return vec![Decoded::Rejection(reason, detail)];
    }
    let count = listed.len() as u32;
    let one = |(index, (tool, outcome)): (usize, (Cow<'t, str>, Outcome))| {
        let mut e = e.clone();
        e.id = Cow::Owned(format!("{}/{index}", e.id));
        (e.source.decision_index, e.source.decision_count) = (index as u32, count);
        e.decision.outcome = outcome;
        e.decision.basis = Some(Basis::Explicit);
        e.decision.enforced = enforced(root, &e.decision, None);
        match tool.split_once(TARGET).map(|(server, tool)| (server.to_owned(), tool.to_owned())) {
            Some((server, tool)) => {
                (e.server.name, e.tool.name) = (Some(Cow::Owned(server)), Some(Cow::Owned(tool)));
            }
            None => e.tool.name = Some(tool),
        }
        // What they share stands with the first.
        e.extra = e.extra.filter(|_| index == 0);
        Decoded::Event(Box::new(e))
    };
    listed.into_iter().enumerate().map(one).collect()
}

/// A sign that a record which no mapping knows tells of a call or of a verdict. Of a body, which may be the log of anything, only the
/// method of a call is one.
fn sign(root: Value<'_>) -> Option<String> {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str()).unwrap_or_default();
    let (name, operation) = (text("otlp.name"), text("gen_ai.operation.name"));
    let of_model = signs::is_of_model(operation);
    if of_model || TOLD_ELSEWHERE.iter().chain(KNOWN_SPANS).any(|known| name.starts_with(known)) {
        return None;
    }
    if !operation.is_empty() {
        return Some(format!("operation `{operation}`"));
    }
    const NOT_ITS_OWN: &[&str] = &["otlp.body", "otlp.links", "otlp.scope", "event.outcome"];
    signs::sign(root, NOT_ITS_OWN).or_else(|| signs::names_a_call(root)).or_else(|| {
        let calls = name.contains("tools/call") || name.contains("tool.call") || name.contains("execute_tool");
        calls.then(|| "its name tells of a call".to_owned())
    })
}

/// The one place that says what becomes of a call of which nobody says whether it was allowed. It happened, or was tried: that is
/// all that is known, so it is an execution; a verdict in words that nobody mapped is a decision all the same.
fn without_verdict(e: &mut Event<'_>, said: bool) {
    e.decision.outcome = Outcome::Unknown;
    e.decision.basis = Some(Basis::Inferred);
    if said {
        e.decision.reasons.push(Cow::Borrowed("verdict_unmapped"));
    } else {
        e.kind = EventKind::Execution;
    }
}

/// What was done with the call, where the verdict's own words or AgentCore's mode say it. What is left out of a list is no call
/// that was blocked.
fn enforced(root: Value<'_>, decision: &Decision<'_>, verdict: Option<&str>) -> Option<Enforced> {
    let mode = root
        .entries()
        .find(|(k, _)| k.starts_with("aws.agentcore.") && k.ends_with("mode"))
        .and_then(|(_, v)| v.as_str());
    let is = |word: &str| mode.is_some_and(|m| m.eq_ignore_ascii_case(word));
    let blocks = decision.outcome == Outcome::Deny && decision.phase != Some(Phase::List);
    match verdict {
        _ if is("LOG_ONLY") => Some(Enforced::None),
        Some("audit" | "warn") => Some(Enforced::None),
        Some("modify") => Some(Enforced::Modified),
        _ if is("ENFORCE") && blocks => Some(Enforced::Blocked),
        Some("block") => Some(Enforced::Blocked),
        _ => None,
    }
}

/// An id of as many hex digits; anything else stays in `extra` under a flag.
fn id<'t>(fill: &mut Filling<'t, '_>, root: Value<'t>, key: &'static str, digits: usize) -> Text<'t> {
    let v = root.get(key)?;
    match v.as_str() {
        Some(s) if hex(s, digits) => {
            fill.taken.insert(v);
            Some(Cow::Borrowed(s))
        }
        _ => {
            fill.flag(format!("invalid:{key}"));
            None
        }
    }
}

fn hex(s: &str, digits: usize) -> bool {
    s.len() == digits && s.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What else is said of the agent that acts.
fn acting<'t>(fill: &mut Filling<'t, '_>, root: Value<'t>, e: &mut Event<'t>) {
    let Some(actor) = e.actors.last_mut() else { return };
    for (key, slot) in [
        ("gen_ai.agent.name", &mut actor.name),
        ("gen_ai.agent.version", &mut actor.version),
        ("gen_ai.request.model", &mut actor.model),
    ] {
        if let Some(v) = root.get(key)
            && let Some(s) = v.as_str().filter(|s| !s.is_empty() && *s != actor.id)
        {
            *slot = Some(fill.clean(s));
            fill.taken.insert(v);
        }
    }
}

/// The tools of a list that was filtered, each with what was decided of it.
fn listed<'t>(fill: &mut Filling<'t, '_>, root: Value<'t>, e: &Event<'t>) -> Vec<(Cow<'t, str>, Outcome)> {
    let mut found = Vec::new();
    if e.decision.phase != Some(Phase::List) {
        return found;
    }
    for (key, outcome) in LISTED {
        let Some(list) = root.get(key) else { continue };
        let known = found.len();
        found.extend(list.items().filter_map(|v| v.as_str()).map(|s| (fill.clean(s), outcome)));
        if let Some(text) = list.as_str() {
            let names = pieces(fill.clean(text), &[","]).into_iter().map(|name| match name {
                Cow::Borrowed(s) => Cow::Borrowed(s.trim()),
                Cow::Owned(s) => Cow::Owned(s.trim().to_owned()),
            });
            found.extend(names.filter(|s| !s.is_empty()).map(|s| (s, outcome)));
        }
        if found.len() > known {
            fill.taken.insert(list);
        }
    }
    found
}
