//! Writes a canonical event as JSON, straight into bytes.
//!
//! Two dialects of one walk over the event. The native one is for whoever reads events: what holds JSON stands as JSON.
//! The internal one is for our own intake: JSON texts stand as strings, byte for byte, so that no depth, no duplicate key
//! and no cut text in them can ever spoil the record around them; and `catena` holds what the native event has no place
//! for.

use crate::authority::Entry;
use crate::event::{Actor, Event, EventKind, Source, Text, Texts};
use crate::time::Micros;
use std::io::Write as _;

/// Appends the event as one line of native JSON, without a line feed. `extra` and the other JSON texts are copied as they
/// are; flags and the index of a decision within its record have no place in it.
pub fn write_native(event: &Event<'_>, out: &mut Vec<u8>) {
    Writer { out, first: true, internal: false }.event(event, None);
}

/// Appends the event as one line in the dialect of the intake log, without a line feed: the decoder, told that the record
/// is trusted, makes the same event and the same `format` of it.
pub fn write_event(event: &Event<'_>, format: &str, out: &mut Vec<u8>) {
    Writer { out, first: true, internal: true }.event(event, Some(format));
}

/// Appends a record of authority as one line in the dialect of the intake log, without a line feed: its body stands as text.
pub fn write_authority(entry: &Entry<'_>, format: &str, out: &mut Vec<u8>) {
    let mut writer = Writer { out, first: true, internal: true };
    writer.out.push(b'{');
    writer.text("id", &entry.id);
    writer.time("time", Some(entry.time));
    writer.text("kind", entry.kind.as_str());
    writer.source(&entry.source);
    writer.text("body", &entry.body);
    writer.json("extra", &entry.extra);
    writer.internals(&entry.source, &entry.flags, format);
    writer.out.push(b'}');
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Whether the next member is the first of its object.
    first: bool,
    internal: bool,
}

impl Writer<'_> {
    fn event(&mut self, e: &Event<'_>, format: Option<&str>) {
        self.out.push(b'{');
        self.text("id", &e.id);
        self.time("time", Some(e.time));
        if !self.internal || e.kind != EventKind::Decision {
            self.text("kind", e.kind.as_str());
        }
        self.source(&e.source);
        self.decision(e);
        self.requester(e);
        if !e.actors.is_empty() {
            self.key("actors");
            self.out.push(b'[');
            for (i, actor) in e.actors.iter().enumerate() {
                if i > 0 {
                    self.out.push(b',');
                }
                self.actor(actor);
            }
            self.out.push(b']');
            self.first = false;
        }
        self.option("actors_source", &e.actors_source);
        if let Some(complete) = e.actors_complete {
            self.key("actors_complete");
            self.out.extend_from_slice(if complete { b"true" } else { b"false" });
        }
        self.surroundings(e);
        self.call(e);
        self.token(e);
        self.object("grant", |w| w.option("id", &e.grant_id));
        self.json("extra", &e.extra);
        if let Some(format) = format {
            self.internals(&e.source, &e.flags, format);
        }
        self.out.push(b'}');
    }

    fn source(&mut self, s: &Source<'_>) {
        self.object("source", |w| {
            w.option("kind", &s.kind);
            w.option("instance", &s.instance);
            w.int("seq", s.seq);
            w.option("epoch", &s.epoch);
            w.option("record", &s.record);
        });
    }

    fn decision(&mut self, e: &Event<'_>) {
        let d = &e.decision;
        self.object("decision", |w| {
            w.text("verdict", d.outcome.as_str());
            w.word("basis", d.basis.map(|v| v.as_str()));
            w.word("enforced", d.enforced.map(|v| v.as_str()));
            w.word("phase", d.phase.map(|v| v.as_str()));
            w.object("policy", |w| {
                w.option("engine", &d.policy_engine);
                w.option("id", &d.policy_id);
                w.option("version", &d.policy_version);
                w.option("digest", &d.policy_digest);
                w.list("rules", &d.rules);
            });
            w.list("reasons", &d.reasons);
            w.json("obligations", &d.obligations);
            w.json("challenge", &d.challenge);
        });
    }

    fn requester(&mut self, e: &Event<'_>) {
        let r = &e.requester;
        self.object("requester", |w| {
            w.option("id", &r.id);
            w.option("issuer", &r.issuer);
            w.option("kind", &r.kind);
            w.option("assurance", &r.assurance);
            w.option("email", &r.email);
            w.list("roles", &r.roles);
        });
    }

    fn actor(&mut self, a: &Actor<'_>) {
        self.out.push(b'{');
        self.first = true;
        self.text("id", &a.id);
        self.option("kind", &a.kind);
        self.option("issuer", &a.issuer);
        self.option("assurance", &a.assurance);
        self.option("name", &a.name);
        self.option("version", &a.version);
        self.option("model", &a.model);
        self.out.push(b'}');
    }

    fn surroundings(&mut self, e: &Event<'_>) {
        let (session, server, tool, links, network) = (&e.session, &e.server, &e.tool, &e.links, &e.network);
        self.object("session", |w| {
            w.option("id", &session.id);
            w.option("run", &session.run);
            w.option("conversation", &session.conversation);
            w.option("mcp", &session.mcp);
            w.option("task", &session.task);
        });
        self.object("server", |w| {
            w.option("id", &server.id);
            w.option("name", &server.name);
        });
        self.object("tool", |w| {
            w.option("name", &tool.name);
            w.option("action", &tool.action);
            w.option("data_class", &tool.data_class);
            w.int("impact", tool.impact.map(i64::from));
            w.option("definition_digest", &tool.definition_digest);
        });
        self.object("links", |w| {
            w.option("parent_decision", &links.parent_decision);
            w.option("parent_origin", &links.parent_origin);
            w.option("trace", &links.trace);
            w.option("span", &links.span);
            w.option("parent_span", &links.parent_span);
            w.option("http_trace", &links.http_trace);
            w.option("request", &links.request);
        });
        self.object("network", |w| {
            w.option("ip", &network.ip);
            w.option("user_agent", &network.user_agent);
            w.option("spiffe", &network.spiffe);
        });
    }

    fn call(&mut self, e: &Event<'_>) {
        let c = &e.call;
        self.object("call", |w| {
            w.option("protocol", &c.protocol);
            w.option("protocol_version", &c.protocol_version);
            w.option("method", &c.method);
            w.option("jsonrpc_id", &c.jsonrpc_id);
            w.int("jsonrpc_error", c.jsonrpc_error);
            w.object("http", |w| {
                w.option("method", &c.http_method);
                w.option("host", &c.http_host);
                w.option("path", &c.http_path);
                w.int("status", c.http_status.map(i64::from));
            });
            w.json("params", &c.params);
            w.option("params_digest", &c.params_digest);
            w.list("resources", &c.resources);
            w.option("destination", &c.destination);
            w.list("handles_in", &c.handles_in);
            w.list("handles_out", &c.handles_out);
            w.option("state_in", &c.state_in);
            w.option("state_out", &c.state_out);
            w.object("result", |w| {
                w.option("class", &c.result_class);
                w.int("bytes", c.result_bytes);
            });
        });
    }

    fn token(&mut self, e: &Event<'_>) {
        let t = &e.token;
        self.object("token", |w| {
            w.option("ref", &t.reference);
            w.option("proof", &t.proof);
            w.option("issuer", &t.issuer);
            w.option("subject", &t.subject);
            w.option("client_id", &t.client_id);
            w.list("audience", &t.audience);
            w.list("resource", &t.resource);
            w.list("scope", &t.scope);
            w.time("issued_at", t.issued_at);
            w.time("expires_at", t.expires_at);
            w.time("auth_time", t.auth_time);
            w.option("acr", &t.acr);
            w.option("cnf", &t.cnf);
            w.option("txn", &t.txn);
            w.option("acti", &t.acti);
            w.option("parent_ref", &t.parent_reference);
        });
    }

    fn internals(&mut self, source: &Source<'_>, flags: &Texts<'_>, format: &str) {
        self.object("catena", |w| {
            w.text("format", format);
            w.int("index", Some(i64::from(source.decision_index)));
            w.int("count", Some(i64::from(source.decision_count)));
            w.list("flags", flags);
        });
    }

    #[inline]
    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Writes a member that is an object, unless `members` writes nothing.
    #[inline]
    fn object(&mut self, key: &str, members: impl FnOnce(&mut Self)) {
        let (start, first) = (self.out.len(), self.first);
        self.key(key);
        self.out.push(b'{');
        self.first = true;
        members(self);
        if self.first {
            self.out.truncate(start);
            self.first = first;
        } else {
            self.out.push(b'}');
        }
    }

    #[inline]
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        write_string(value, self.out);
    }

    #[inline]
    fn option(&mut self, key: &str, value: &Text<'_>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    #[inline]
    fn word(&mut self, key: &str, value: Option<&'static str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    #[inline]
    fn list(&mut self, key: &str, values: &Texts<'_>) {
        if values.is_empty() {
            return;
        }
        self.key(key);
        for (i, value) in values.iter().enumerate() {
            self.out.push(if i == 0 { b'[' } else { b',' });
            write_string(value, self.out);
        }
        self.out.push(b']');
    }

    #[inline]
    fn int(&mut self, key: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.key(key);
            write!(self.out, "{value}").expect("a vector takes every byte");
        }
    }

    #[inline]
    fn time(&mut self, key: &str, value: Option<Micros>) {
        if let Some(value) = value {
            self.key(key);
            self.out.push(b'"');
            value.write_rfc3339(self.out);
            self.out.push(b'"');
        }
    }

    #[inline]
    fn json(&mut self, key: &str, value: &Text<'_>) {
        match value {
            Some(value) if self.internal => self.text(key, value),
            Some(value) => {
                self.key(key);
                self.out.extend_from_slice(value.as_bytes());
            }
            None => {}
        }
    }
}

/// Which bytes a JSON string cannot hold as they are.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Appends a JSON string: quotes, backslash and control characters escaped, the rest as it is.
pub(crate) fn write_string(s: &str, out: &mut Vec<u8>) {
    let bytes = s.as_bytes();
    out.push(b'"');
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !ESCAPED[usize::from(*byte)] {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => write!(out, "\\u{other:04x}").expect("a vector takes every byte"),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}
