//! Raw MCP traffic: what went over the wire, of both generations of the protocol.
//!
//! Guarantees: each `tools/call`, `prompts/get` and `resources/read` becomes one execution, joined to its answer where the record
//! holds it; nobody decided anything here, so there is no verdict, and an error of JSON-RPC is an error code, never a denial. A message
//! of a method that is known to use nothing, and an answer alone, becomes an aside that says what it was; what is no message, or has
//! a method that is not known, is refused. Of an answer only its size, error and whether the tool failed are kept,
//! never its content; a record that is refused is kept whole, to be read again. Who calls is what the client says of itself in the record, and nothing else; a session id, a trace or a
//! protocol version is taken only from where it stands. What a batch multiplies into is bounded: see [`super::bounds`], and
//! [`COPIED_BYTES_MAX`] for what stood around its messages.
//!
//! ```text
//!  exchange   {"request_headers": …, "request_body": "…", "status": 200, "response_headers": …, "response_body": "…"}
//!  message    {"jsonrpc": "2.0", "id": 7, "method": "tools/call", …}
//!  wrapped    {"ts": …, "direction": "client_to_server", "message": {"jsonrpc": …}}
//! ```
//! Bodies may be objects, batches, JSON text, or the text of an event stream. [`normal`] brings all of them to one object,
//! `{"record": …, "messages": […], "answers": […]}`, so that one parse and one look for secrets cover everything.

use super::bounds::bounded;
use super::cerbos::{COPIED_BYTES_MAX, limit};
use super::mapped::{Extra, traceparent};
use super::signs;
use crate::json::{Kind, Tape, Value, write_string};
use crate::redact::{Redactor, Taken};
use crate::{Context, Format, Sink, claims};
use catena_schemas::event::{Actor, Event, EventKind, Phase, Text};
use std::borrow::Cow;
use std::collections::HashMap;

/// Where a record may hold what the client sent, and what it got.
const REQUESTS: &[&str] = &["request_body", "request"];
const ANSWERS: &[&str] = &["response_body", "response"];
const TIMES: &[&str] = &["time", "ts", "timestamp", "t", "started_at"];
/// Names of the members of `_meta` that the protocol itself defines.
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// A refusal: reason code and detail.
type Refusal = (&'static str, String);

/// Whether an object is MCP traffic.
pub(crate) fn is_traffic(root: Value<'_>) -> bool {
    is_message(root)
        || (root.get("request_body").is_some()
            && (root.get("request_headers").is_some() || root.get("response_body").is_some()))
        || (root.get("direction").is_some() && root.get("message").is_some_and(wraps_message))
}

/// A message, or the text of one.
fn wraps_message(v: Value<'_>) -> bool {
    is_message(v) || v.as_str().is_some_and(|s| s.starts_with(['{', '[']) && s.contains("\"jsonrpc\""))
}

/// Whether a message answers another (JSON-RPC 2.0, section 5).
fn is_answer(v: Value<'_>) -> bool {
    v.get("method").is_none() && (v.get("result").is_some() || v.get("error").is_some())
}

fn is_message(v: Value<'_>) -> bool {
    v.get("jsonrpc").is_some_and(|version| version.as_str() == Some("2.0"))
}

/// The record in the one shape that is read.
pub(crate) fn normal(root: Value<'_>, scratch: &mut Tape) -> Result<String, Refusal> {
    let mut out = String::with_capacity(root.source().len() + 64);
    out.push_str("{\"record\":{");
    let (mut messages, mut answers) = (Vec::new(), Vec::new());
    let mut unreadable = false;
    if is_message(root) {
        let side = if is_answer(root) { &mut answers } else { &mut messages };
        side.push(root.to_json());
    } else {
        let mut first = true;
        for (key, v) in root.entries() {
            let bodies = if REQUESTS.contains(&key) {
                Some(body(v, scratch).map_err(|reason| ("message_unreadable", format!("`{key}`: {reason}")))?)
            } else if ANSWERS.contains(&key) {
                match body(v, scratch) {
                    Ok(found) => {
                        answers.extend(found);
                        continue;
                    }
                    // The call was made all the same.
                    Err(_) => {
                        unreadable = true;
                        continue;
                    }
                }
            } else if key == "message" {
                Some(body(v, scratch).map_err(|reason| ("message_unreadable", format!("`{key}`: {reason}")))?)
            } else {
                None
            };
            match bodies {
                Some(found) => {
                    for message in found {
                        let is_answer = scratch.parse(message.as_bytes()).is_ok_and(is_answer);
                        if is_answer { answers.push(message) } else { messages.push(message) }
                    }
                }
                None => {
                    if !std::mem::take(&mut first) {
                        out.push(',');
                    }
                    write_string(key, &mut out);
                    out.push(':');
                    v.write(&mut out);
                }
            }
        }
    }
    let list = |items: &[String]| items.join(",");
    out.push_str(&format!("}},\"messages\":[{}],\"answers\":[{}]", list(&messages), list(&answers)));
    if unreadable {
        out.push_str(",\"unreadable\":true");
    }
    out.push('}');
    Ok(out)
}

/// The messages of a body, as JSON: an object, a batch, text of either, or the text of an event stream.
fn body(v: Value<'_>, scratch: &mut Tape) -> Result<Vec<String>, &'static str> {
    let Some(text) = v.as_str() else {
        return match v.kind() {
            Kind::Null => Ok(Vec::new()),
            // `{"headers": …, "body": …}`, as some recorders have it.
            Kind::Object if !is_message(v) && v.get("body").is_some() => body_of_part(v, scratch),
            Kind::Object | Kind::Array => Ok(items(v)),
            _ => Err("not JSON-RPC"),
        };
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.starts_with(['{', '[']) {
        return scratch.parse(text.as_bytes()).map(items).map_err(|e| e.reason);
    }
    let mut messages = Vec::new();
    for data in stream(text) {
        // A stream that was cut in the middle ends in half a message.
        messages.extend(scratch.parse(data.as_bytes()).map(items).map_err(|e| e.reason)?);
    }
    if messages.is_empty() && !text.starts_with(':') { Err("not JSON-RPC") } else { Ok(messages) }
}

fn body_of_part(part: Value<'_>, scratch: &mut Tape) -> Result<Vec<String>, &'static str> {
    match part.get("body") {
        Some(inner) if inner.kind() == Kind::String || is_message(inner) || inner.kind() == Kind::Array => {
            body(inner, scratch)
        }
        _ => Ok(Vec::new()),
    }
}

fn items(v: Value<'_>) -> Vec<String> {
    match v.kind() {
        Kind::Array => v.items().map(|i| i.to_json()).collect(),
        _ => vec![v.to_json()],
    }
}

/// The data of each event of a stream (WHATWG, server-sent events): lines `data:` of one event belong together.
fn stream(text: &str) -> impl Iterator<Item = String> {
    let mut events = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("data:") {
            _ if line.is_empty() => events.push(String::new()),
            Some(data) => {
                let event = events.last_mut().expect("one is always open");
                if !event.is_empty() {
                    event.push('\n');
                }
                event.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
            None => {}
        }
    }
    events.into_iter().filter(|e| !e.is_empty())
}

/// Hands on what a record in its normal shape holds, one by one. A refusal is of the record as it came: its normal shape is nobody's
/// format, and could not be read again.
pub(crate) fn decode<'t>(
    root: Value<'t>,
    came: (Value<'_>, &[u8]),
    (redactor, taken): (&Redactor, &mut Taken),
    context: &Context<'t>,
    place: (u32, u32),
    sink: &mut impl Sink,
) -> Result<(), Refusal> {
    let format = Format::Mcp;
    let list = |name: &str| root.get(name).into_iter().flat_map(|l| l.items()).collect::<Vec<_>>();
    let (messages, answers) = (list("messages"), list("answers"));
    let record = root.get("record").unwrap_or(root);
    if messages.is_empty() {
        let method = first(record, &["method"]).and_then(|v| v.as_str()).unwrap_or_default();
        // A body that is there and holds nothing is known to be none; one that is nowhere may stand under another name.
        let bodies = REQUESTS.iter().chain(&["message"]);
        let has_body = bodies.clone().any(|key| came.0.get(key).is_some());
        let (reason, detail) = match (method, answers.is_empty()) {
            (_, false) if answers.iter().all(|a| is_answer(*a)) => ("mcp_answer", "an answer without its request"),
            ("GET", true) => ("mcp_stream", "a stream of events was asked for"),
            ("DELETE", true) => ("mcp_session_end", "a session was ended"),
            (other, true) if has_body || matches!(other, "OPTIONS" | "HEAD") => ("mcp_no_message", other),
            _ => return Err(("message_missing", "the record has no body of a request that is known".into())),
        };
        if let Some(sign) = signs::names_a_call(record) {
            return Err(("message_missing", sign));
        }
        sink.aside(redactor.aside(reason, detail.to_owned(), came.0, came.1), format);
        return Ok(());
    }
    let dirty = redactor.suspects_record(root);
    let several = messages.len() > 1;
    bounded(messages.len(), record.source().len())?;
    let stray = stray(&messages, &answers);
    let answers = by_id(&answers);
    let mut budget = COPIED_BYTES_MAX + root.source().len();
    let mut refusal: Option<Refusal> = None;
    for (index, message) in messages.iter().enumerate() {
        let Some(method) = message.get("method").and_then(|m| m.as_str()) else {
            refusal.get_or_insert_with(|| ("message_unreadable", format!("message {index} has no method")));
            continue;
        };
        if let Some(reason) = aside(method, *message) {
            let aside = match several {
                false => redactor.aside(reason, method.to_owned(), came.0, came.1),
                true => redactor.aside(reason, method.to_owned(), *message, message.to_json().as_bytes()),
            };
            sink.aside(aside, format);
            continue;
        }
        if !EXECUTED.contains(&method) {
            refusal.get_or_insert_with(|| ("method_unknown", format!("method `{method}`")));
            continue;
        }
        let id = message.get("id").filter(|v| !v.is_null());
        let own = id.and_then(|id| answers.get(&known_as(id))).copied();
        let answer = own.or(stray.filter(|_| id.is_some()));
        taken.clear();
        let mut call = Execution { redactor, dirty, taken, record, message: *message, answer, event: Event::default() };
        call.event.source.decision_count = 1;
        if root.get("unreadable").is_some() {
            call.flag("answer_unreadable");
        }
        if own.is_none() && answer.is_some() {
            call.flag("answer_id_differs");
        }
        let place = if several { (index as u32, messages.len() as u32) } else { place };
        match call.read(method, context, several.then_some(index)) {
            Ok(mut event) => {
                (event.source.decision_index, event.source.decision_count) = place;
                limit(&mut event, &mut budget);
                sink.event(&event, format);
            }
            // What is wrong is wrong with the record, and so with all of its messages.
            Err(refused) => {
                refusal.get_or_insert(refused);
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// Methods of which each request is an execution.
const EXECUTED: &[&str] = &["tools/call", "prompts/get", "resources/read"];

/// Why a message is known to be no execution.
fn aside(method: &str, message: Value<'_>) -> Option<&'static str> {
    Some(match method {
        "ping" => "mcp_ping",
        "initialize" | "server/discover" => "mcp_initialize",
        _ if method.starts_with("notifications/") => "mcp_notification",
        _ if method.ends_with("/list") => "mcp_list",
        // A subscription reads nothing yet: what changes is read by name.
        "resources/subscribe" => "mcp_other",
        // A call without an id asks for no answer, and is none.
        _ if (signs::is_no_use(method) || EXECUTED.contains(&method)) && message.get("id").is_none() => {
            "mcp_notification"
        }
        _ if signs::is_no_use(method) => "mcp_other",
        _ => return None,
    })
}

/// Ids are equal as JSON is: `7` is not `"7"`.
fn known_as(id: Value<'_>) -> (bool, Option<&str>) {
    (id.kind() == Kind::String, id.as_scalar())
}

/// Answers by their ids, of each the first. A server's own request in the same stream may bear the same id.
fn by_id<'t>(answers: &[Value<'t>]) -> HashMap<(bool, Option<&'t str>), Value<'t>> {
    let mut found = HashMap::new();
    for answer in answers.iter().filter(|a| a.get("method").is_none()) {
        if let Some(id) = answer.get("id").filter(|id| id.as_scalar().is_some()) {
            found.entry(known_as(id)).or_insert(*answer);
        }
    }
    found
}

/// The one answer to the one request of a record, when it is an error that goes by another id or by none: a server that does not know
/// the session, or could not read the request, cannot repeat its id (JSON-RPC 2.0, section 5). Results are never handed on like this.
fn stray<'t>(messages: &[Value<'t>], answers: &[Value<'t>]) -> Option<Value<'t>> {
    let is_request = |m: &&Value<'t>| m.get("id").is_some_and(|id| !id.is_null());
    let mut answers = answers.iter().filter(|a| a.get("method").is_none());
    let (answer, None) = (answers.next()?, answers.next()) else { return None };
    let alone = messages.iter().filter(is_request).count() == 1;
    (alone && answer.get("error").is_some()).then_some(*answer)
}

fn first<'t>(of: Value<'t>, names: &[&str]) -> Option<Value<'t>> {
    names.iter().find_map(|name| of.get(name)).filter(|v| !v.is_null())
}

/// One call under construction.
struct Execution<'t, 'r> {
    redactor: &'r Redactor,
    dirty: bool,
    taken: &'r mut Taken,
    /// What stood around the messages.
    record: Value<'t>,
    message: Value<'t>,
    answer: Option<Value<'t>>,
    event: Event<'t>,
}

impl<'t> Execution<'t, '_> {
    fn flag(&mut self, flag: &'static str) {
        self.event.flags.push(Cow::Borrowed(flag));
    }

    fn clean(&self, s: &'t str) -> Cow<'t, str> {
        if self.dirty { self.redactor.text(s) } else { Cow::Borrowed(s) }
    }

    /// Text of a value, which is then used.
    fn take(&mut self, v: Option<Value<'t>>) -> Text<'t> {
        let v = v?;
        let s = v.as_scalar().filter(|s| !s.is_empty())?;
        self.taken.insert(v);
        Some(self.clean(s))
    }

    fn header(&self, side: &str, name: &str) -> Option<Value<'t>> {
        let headers = self.record.get(side)?;
        let (_, v) = headers.entries().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        v.items().next().or(Some(v))
    }

    fn read(mut self, method: &'t str, context: &Context<'t>, index: Option<usize>) -> Result<Event<'t>, Refusal> {
        self.event.kind = EventKind::Execution;
        self.event.source.kind = Some(Cow::Borrowed("mcp"));
        self.event.decision.phase = Some(Phase::Invoke);
        self.envelope(context, index)?;
        self.http();
        self.call(method);
        self.answered();
        self.event.extra = self.extra();
        Ok(self.event)
    }

    fn envelope(&mut self, context: &Context<'t>, index: Option<usize>) -> Result<(), Refusal> {
        match first(self.record, TIMES) {
            Some(v) => {
                let read = super::catena::instant(v).or_else(|| claims::numeric_date(v));
                self.event.time = read.ok_or_else(|| ("time_invalid", format!("the time is {}", v.to_json())))?;
                self.taken.insert(v);
            }
            None => {
                self.event.time = context.received;
                self.flag("time_missing");
            }
        }
        if let Some(id) = self.take(first(self.record, &["id", "event_id"])) {
            self.event.id = match index {
                // The messages of a batch are told apart by their place in it.
                Some(index) => Cow::Owned(format!("{id}/{index}")),
                None => id,
            };
            return Ok(());
        }
        self.event.id = match index {
            Some(index) => Cow::Owned(format!("{}/{index}", context.fallback_id)),
            None => Cow::Borrowed(context.fallback_id),
        };
        self.flag("id_missing");
        Ok(())
    }

    fn http(&mut self) {
        if self.record.get("request_headers").is_none() && self.record.get("status").is_none() {
            return;
        }
        let of_record = |name: &str| self.record.get(name);
        let (method, path, status) = (of_record("method"), of_record("path"), of_record("status"));
        self.event.call.http_method = self.take(method);
        self.event.call.http_path = self.take(path);
        if let Some(code) = status.and_then(|v| v.as_i64()).and_then(|n| i32::try_from(n).ok()) {
            self.event.call.http_status = Some(code);
            status.into_iter().for_each(|v| self.taken.insert(v));
        } else if status.is_some_and(|v| !v.is_null()) {
            self.flag("invalid:call.http.status");
        }
        let request = |name| self.header("request_headers", name);
        let (host, agent, request_id) = (request("host"), request("user-agent"), request("x-request-id"));
        // The server makes a session in its answer to the handshake; afterwards the client repeats it.
        let session = request("mcp-session-id").or_else(|| self.header("response_headers", "mcp-session-id"));
        let repeated = self.header("response_headers", "mcp-session-id");
        let (version, trace) = (request("mcp-protocol-version"), request("traceparent"));
        let named = ["mcp-method", "mcp-name"].map(request);
        let authorization = request("authorization");
        self.event.call.http_host = self.take(host);
        self.event.network.user_agent = self.take(agent);
        self.event.links.request = self.take(request_id);
        self.event.session.mcp = self.take(session);
        if repeated.and_then(|v| v.as_str()) == self.event.session.mcp.as_deref() {
            repeated.into_iter().for_each(|v| self.taken.insert(v));
        }
        self.event.call.protocol_version = self.take(version);
        if let Some((id, _)) = trace.and_then(|v| v.as_str()).and_then(traceparent) {
            // What surrounds the call on the network is not what the call belongs to: that stands in `_meta`.
            self.event.links.http_trace = Some(Cow::Borrowed(id));
            trace.into_iter().for_each(|v| self.taken.insert(v));
        }
        // A server refuses a request whose headers say otherwise than its body (2026-07-28).
        let of_body = [self.message.get("method"), self.message.get("params").and_then(|p| first(p, &["name", "uri"]))];
        for (header, body) in named.into_iter().zip(of_body) {
            if let Some(header) = header {
                if header.as_str() == body.and_then(|b| b.as_str()) {
                    self.taken.insert(header);
                } else {
                    self.flag("header_contradicts");
                }
            }
        }
        self.token(authorization);
    }

    /// The token that the request carried, as a keyed digest. What a recorder left in its place is none.
    fn token(&mut self, authorization: Option<Value<'t>>) {
        let Some(v) = authorization else { return };
        self.taken.insert(v);
        let token = v.as_str().unwrap_or_default();
        let Some((_, token)) = token
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("dpop"))
        else {
            return;
        };
        let plausible =
            token.len() >= 16 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b));
        if plausible {
            self.event.token.reference = Some(Cow::Owned(self.redactor.digest(token)));
            self.event.token.proof = Some(Cow::Borrowed("opaque"));
        }
    }

    fn call(&mut self, method: &'t str) {
        let message = self.message;
        message.get("method").into_iter().for_each(|v| self.taken.insert(v));
        match message.get("jsonrpc") {
            Some(v) if v.as_str() == Some("2.0") => self.taken.insert(v),
            Some(_) => self.flag("invalid:jsonrpc"),
            None => {}
        }
        if message.get("id").is_some_and(|v| !v.is_null() && v.as_scalar().is_none()) {
            self.flag("invalid:call.jsonrpc_id");
        }
        let c = &mut self.event.call;
        c.protocol = Some(Cow::Borrowed("mcp"));
        c.method = Some(Cow::Borrowed(method));
        self.event.call.jsonrpc_id = self.take(message.get("id"));
        let Some(params) = message.get("params") else { return };
        let named = match method {
            "resources/read" => params.get("uri"),
            _ => params.get("name"),
        };
        if named.is_some_and(|v| !v.is_null() && v.as_scalar().is_none()) {
            self.flag(if method == "tools/call" { "invalid:tool.name" } else { "invalid:call.resources" });
        }
        let target = self.take(named);
        match method {
            "tools/call" => self.event.tool.name = target,
            "prompts/get" => self.event.call.resources.extend(target.map(|name| Cow::Owned(format!("prompt:{name}")))),
            _ => self.event.call.resources.extend(target),
        }
        match params.get("arguments").map(|v| (v, v.kind())) {
            Some((arguments, Kind::Object)) => {
                self.taken.insert(arguments);
                if arguments.entries().next().is_some() {
                    self.event.call.params = Some(self.redactor.json_text(arguments, self.dirty));
                }
            }
            // The protocol wants an object. What else there is was sent all the same, and stays in `extra`.
            Some((_, kind)) if kind != Kind::Null => self.flag("invalid:call.params"),
            _ => {}
        }
        if let Some(state) = params.get("requestState") {
            self.event.call.state_in = state.as_str().map(|s| Cow::Owned(self.redactor.digest(s)));
            self.taken.insert(state);
        }
        self.meta(params);
    }

    /// `_meta` of a request: the trace it belongs to, who the client says it is, which revision it speaks.
    fn meta(&mut self, params: Value<'t>) {
        let Some(meta) = params.get("_meta") else { return };
        if let Some(v) = meta.get("traceparent") {
            match v.as_str().and_then(traceparent) {
                Some((trace, span)) => {
                    self.event.links.trace = Some(Cow::Borrowed(trace));
                    self.event.links.parent_span = Some(Cow::Borrowed(span));
                    self.taken.insert(v);
                }
                None => self.flag("invalid:links.traceparent"),
            }
        }
        if let Some(version) = self.take(meta.get(PROTOCOL_VERSION)) {
            self.event.call.protocol_version = Some(version);
        }
        if let Some(task) = meta.get(RELATED_TASK).and_then(|t| t.get("taskId")) {
            self.event.session.task = self.take(Some(task));
        }
        let Some(client) = meta.get(CLIENT_INFO) else { return };
        if let Some(name) = self.take(client.get("name")) {
            let mut actor = Actor::named(name);
            actor.kind = Some(Cow::Borrowed("client"));
            actor.assurance = Some(Cow::Borrowed("asserted"));
            actor.version = self.take(client.get("version"));
            self.event.actors.push(actor);
            self.event.actors_source = Some(Cow::Borrowed("declared"));
        }
    }

    fn answered(&mut self) {
        let Some(answer) = self.answer else { return };
        for name in ["jsonrpc", "id"] {
            answer.get(name).into_iter().for_each(|v| self.taken.insert(v));
        }
        if let Some(error) = answer.get("error") {
            match error.get("code").map(|v| (v, v.as_i64())) {
                Some((v, Some(code))) => {
                    self.event.call.jsonrpc_error = Some(code);
                    self.taken.insert(v);
                }
                // What it says of the error stays in `extra`.
                _ => self.flag("invalid:call.jsonrpc_error"),
            }
            return;
        }
        let Some(result) = answer.get("result") else { return };
        self.event.call.result_bytes = Some(result.to_json().len() as i64);
        match result.get("isError").map(|v| v.as_bool()) {
            Some(Some(true)) => self.event.decision.reasons.push(Cow::Borrowed("tool_error")),
            Some(None) => self.flag("invalid:call.result.class"),
            _ => {}
        }
        if let Some(state) = result.get("requestState").and_then(|s| s.as_str()) {
            self.event.call.state_out = Some(Cow::Owned(self.redactor.digest(state)));
        }
        if let Some(task) = result.get("task").and_then(|t| t.get("taskId")).and_then(|t| t.as_scalar()) {
            self.event.session.task = Some(self.clean(task));
        }
        self.taken.insert(result);
    }

    /// What stood around the messages, and what of them has no column.
    fn extra(&mut self) -> Text<'t> {
        let mut extra = Extra::new(self.redactor, self.dirty, self.taken);
        let error = self.answer.and_then(|a| a.get("error"));
        let mut members: Vec<(&str, Value<'t>)> = self.record.entries().collect();
        members.extend(self.message.get("params").map(|v| ("params", v)));
        members.extend(error.map(|v| ("error", v)));
        // What JSON-RPC does not know stands with its message, and so does an id that is none.
        let known = |key: &str| matches!(key, "method" | "params");
        members.extend(self.message.entries().filter(|(key, v)| !known(key) && !self.taken.contains(*v)));
        members.sort_by_key(|m| m.0);
        members.dedup_by_key(|m| m.0);
        members.into_iter().for_each(|(key, v)| extra.member(key, v));
        extra.finish()
    }
}
