//! Writes a canonical event as JSON, straight into bytes.
//!
//! Two dialects of one walk over the event. The native one is for whoever reads events: what holds JSON stands as JSON.
//! The internal one is for our own intake: JSON texts stand as strings, byte for byte, so that no depth, no duplicate key
//! and no cut text in them can ever spoil the record around them; and `catena` holds what the native event has no place
//! for.

use crate::authority::Entry;
use crate::event::{self, Actor, Event, EventKind, Source, Text, Texts};
use crate::json_text::write_string;
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
    writer.object("source", |w| entry.source.write(w));
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
        self.object("source", |w| e.source.write(w));
        self.object("decision", |w| {
            w.text("verdict", e.decision.outcome.as_str());
            e.decision.write(w);
        });
        self.object("requester", |w| e.requester.write(w));
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
        self.object("session", |w| e.session.write(w));
        self.object("server", |w| e.server.write(w));
        self.object("tool", |w| e.tool.write(w));
        self.object("links", |w| e.links.write(w));
        self.object("network", |w| e.network.write(w));
        self.object("call", |w| e.call.write(w));
        self.object("token", |w| e.token.write(w));
        self.object("grant", |w| e.grant.write(w));
        self.json("extra", &e.extra);
        if let Some(format) = format {
            self.internals(&e.source, &e.flags, format);
        }
        self.out.push(b'}');
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

/// Writes one member, by how the table says that it is kept.
macro_rules! write_member {
    ($w:ident texts $member:literal $value:expr) => {
        $w.list($member, &$value)
    };
    ($w:ident scopes $member:literal $value:expr) => {
        $w.list($member, &$value)
    };
    ($w:ident digests $member:literal $value:expr) => {
        $w.list($member, &$value)
    };
    ($w:ident int $member:literal $value:expr) => {
        $w.int($member, $value.map(i64::from))
    };
    ($w:ident long $member:literal $value:expr) => {
        $w.int($member, $value)
    };
    ($w:ident time $member:literal $value:expr) => {
        $w.time($member, $value)
    };
    ($w:ident basis $member:literal $value:expr) => {
        $w.word($member, $value.map(|v| v.as_str()))
    };
    ($w:ident enforced $member:literal $value:expr) => {
        $w.word($member, $value.map(|v| v.as_str()))
    };
    ($w:ident phase $member:literal $value:expr) => {
        $w.word($member, $value.map(|v| v.as_str()))
    };
    ($w:ident json $member:literal $value:expr) => {
        $w.json($member, &$value)
    };
    ($w:ident array $member:literal $value:expr) => {
        $w.json($member, &$value)
    };
    ($w:ident challenge $member:literal $value:expr) => {
        $w.json($member, &$value)
    };
    ($w:ident $text:ident $member:literal $value:expr) => {
        $w.option($member, &$value)
    };
}

macro_rules! writers {
    ($(
        columns $columns:tt
        $(
            $(#[$group_doc:meta])+
            $group:ident: $Group:ident { $(
                members { $(
                    $(#[$doc:meta])+
                    $field:ident: $how:ident $member:literal => $variant:ident $name:literal $kind:ident $leaf:literal $(, slot $slot:ident)?;
                )* }
                $(
                    $(#[$object_doc:meta])+
                    object $object:ident: $Object:ident { $(
                        $(#[$inner_doc:meta])+
                        $inner:ident: $inner_how:ident $inner_member:literal
                            => $inner_variant:ident $inner_name:literal $inner_kind:ident $inner_leaf:literal $(, slot $inner_slot:ident)?;
                    )* }
                )?
            )+ }
        )*
    )+) => { $($(
        impl event::$Group<'_> {
            /// Writes the members that the table lists.
            fn write(&self, w: &mut Writer<'_>) {
                $(
                    $(write_member!(w $how $member self.$field);)*
                    $(w.object(stringify!($object), |w| { $(write_member!(w $inner_how $inner_member self.$inner);)* });)?
                )+
            }
        }
    )*)+ };
}

crate::event_fields! { objects writers }
