//! Schemas that come as descriptors: what a compiler made of a `.proto` text, in protobuf itself and in base64.
//!
//! Some clients register those instead of the text, and not every registry turns them back. Here they become text again, as much
//! of it as decides what bytes mean, so that there is one reader of schemas and one place that refuses. Guarantees: what is no
//! descriptor is `None`; nothing panics, and nothing recurses beyond the schema reader's own bound.

use super::schema::{NESTING_MAX, TEXT_BYTES_MAX};
use super::{Problem, Raw, Wire};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

/// The text of a schema that came as a descriptor.
pub(super) fn text(schema: &str) -> Option<String> {
    // No text of a schema is without a space, a brace or a semicolon.
    let bytes = STANDARD.decode(schema.trim()).ok().filter(|b| b.len() <= TEXT_BYTES_MAX)?;
    let mut out = String::with_capacity(bytes.len() * 2);
    file(&bytes, &mut out).ok().filter(|()| !out.is_empty())?;
    Some(out)
}

/// Hands out the fields of a message.
fn each<'b>(bytes: &'b [u8], mut take: impl FnMut(u32, Raw<'b>) -> Result<(), Problem>) -> Result<(), Problem> {
    let mut wire = Wire { rest: bytes };
    while !wire.rest.is_empty() {
        if let (number, Some(raw)) = wire.field()? {
            take(number, raw)?;
        }
    }
    Ok(())
}

/// A name: nothing that would read as something else.
fn name<'b>(raw: Raw<'b>) -> Result<&'b str, Problem> {
    let Raw::Bytes(bytes) = raw else { return Err("a name is no text") };
    let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && name.bytes().all(|b| word(&b)) => Ok(name),
        _ => Err("a name has other characters than names have"),
    }
}

fn inside(raw: Raw<'_>) -> Result<&[u8], Problem> {
    match raw {
        Raw::Bytes(bytes) => Ok(bytes),
        _ => Err("a message is none"),
    }
}

fn number(raw: Raw<'_>) -> Result<i64, Problem> {
    match raw {
        Raw::Varint(n) => Ok(n as i64),
        _ => Err("a number is none"),
    }
}

fn file(bytes: &[u8], out: &mut String) -> Result<(), Problem> {
    each(bytes, |n, raw| {
        // The package stands before the messages in every descriptor that a compiler writes, and has to in a text.
        match n {
            2 => _ = writeln!(out, "package {};", name(raw)?),
            4 => message(inside(raw)?, out, 0)?,
            5 => enumeration(inside(raw)?, out)?,
            _ => {}
        }
        Ok(())
    })
}

/// What is said of one field.
#[derive(Default)]
struct Field<'b> {
    name: &'b str,
    number: i64,
    label: i64,
    kind: i64,
    type_name: &'b str,
    json: Option<&'b str>,
    one_of: Option<i64>,
}

const LABEL_REPEATED: i64 = 3;

impl<'b> Field<'b> {
    fn read(bytes: &'b [u8]) -> Result<Field<'b>, Problem> {
        let mut field = Field::default();
        let mut is_optional = false;
        each(bytes, |n, raw| {
            match n {
                1 => field.name = name(raw)?,
                3 => field.number = number(raw)?,
                4 => field.label = number(raw)?,
                5 => field.kind = number(raw)?,
                6 => field.type_name = name(raw)?,
                9 => field.one_of = Some(number(raw)?),
                10 => field.json = name(raw).ok(),
                17 => is_optional = number(raw)? != 0,
                _ => {}
            }
            Ok(())
        })?;
        // Whether such a field is there is told by a `oneof` of its own, which nobody wrote.
        field.one_of = field.one_of.filter(|_| !is_optional);
        if field.name.is_empty() { Err("a field without name") } else { Ok(field) }
    }

    fn type_name(&self) -> Result<&'b str, Problem> {
        const SCALARS: [&str; 19] = [
            "", "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "group", "",
            "bytes", "uint32", "", "sfixed32", "sfixed64", "sint32", "sint64",
        ];
        let scalar =
            usize::try_from(self.kind).ok().and_then(|n| SCALARS.get(n)).ok_or("a type that does not exist")?;
        match (self.type_name, *scalar) {
            ("", "") => Err("a field without type"),
            (named, "") => Ok(named),
            (_, scalar) => Ok(scalar),
        }
    }

    fn write(&self, prefix: &str, kind: &str, out: &mut String) {
        let json = self.json.map(|json| format!(" [json_name = \"{json}\"]")).unwrap_or_default();
        _ = writeln!(out, "{prefix}{kind} {} = {}{json};", self.name, self.number);
    }
}

fn message(bytes: &[u8], out: &mut String, depth: usize) -> Result<(), Problem> {
    if depth > NESTING_MAX {
        return Err("messages are nested too deep");
    }
    let (mut own, mut fields, mut nested) = ("", Vec::new(), Vec::new());
    each(bytes, |n, raw| {
        match n {
            1 => own = name(raw)?,
            2 => fields.push(Field::read(inside(raw)?)?),
            3 => nested.push((inside(raw)?, Entry::read(inside(raw)?)?)),
            _ => {}
        }
        Ok(())
    })?;
    _ = writeln!(out, "message {own} {{");
    // Those that stand for the entries of a map are written too: the path to a message counts them.
    for (bytes, _) in &nested {
        message(bytes, out, depth + 1)?;
    }
    each(bytes, |n, raw| if n == 4 { enumeration(inside(raw)?, out) } else { Ok(()) })?;
    for field in fields.iter().filter(|f| f.one_of.is_none()) {
        let kind = field.type_name()?;
        let entry = nested.iter().find_map(|(_, e)| e.as_ref().filter(|e| is_last(kind, e.name)));
        match entry {
            Some(entry) => field.write("", &format!("map<{}, {}>", entry.key, entry.value), out),
            None => field.write(if field.label == LABEL_REPEATED { "repeated " } else { "" }, kind, out),
        }
    }
    let mut groups: Vec<i64> = fields.iter().filter_map(|f| f.one_of).collect();
    groups.dedup();
    for group in groups {
        _ = writeln!(out, "oneof choice{group} {{");
        for field in fields.iter().filter(|f| f.one_of == Some(group)) {
            field.write("", field.type_name()?, out);
        }
        out.push_str("}\n");
    }
    out.push_str("}\n");
    Ok(())
}

/// Whether a name ends in another as its last part.
fn is_last(name: &str, last: &str) -> bool {
    name.rsplit_once('.').map_or(name, |n| n.1) == last
}

/// A message that stands for the entries of a map.
struct Entry<'b> {
    name: &'b str,
    key: &'b str,
    value: &'b str,
}

impl<'b> Entry<'b> {
    fn read(bytes: &'b [u8]) -> Result<Option<Entry<'b>>, Problem> {
        let (mut own, mut is_entry, mut key, mut value) = ("", false, None, None);
        each(bytes, |n, raw| {
            match n {
                1 => own = name(raw)?,
                2 => {
                    let field = Field::read(inside(raw)?)?;
                    match field.number {
                        1 => key = Some(field.type_name()?),
                        2 => value = Some(field.type_name()?),
                        _ => {}
                    }
                }
                7 => each(inside(raw)?, |n, raw| {
                    is_entry |= n == 7 && number(raw)? != 0;
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(key.zip(value).filter(|_| is_entry).map(|(key, value)| Entry { name: own, key, value }))
    }
}

fn enumeration(bytes: &[u8], out: &mut String) -> Result<(), Problem> {
    let (mut own, mut values) = ("", Vec::new());
    each(bytes, |n, raw| {
        match n {
            1 => own = name(raw)?,
            2 => {
                let (mut word, mut value) = ("", 0);
                each(inside(raw)?, |n, raw| {
                    match n {
                        1 => word = name(raw)?,
                        2 => value = number(raw)?,
                        _ => {}
                    }
                    Ok(())
                })?;
                values.push((word, value));
            }
            _ => {}
        }
        Ok(())
    })?;
    _ = writeln!(out, "enum {own} {{");
    values.iter().for_each(|(word, value)| _ = writeln!(out, "{word} = {value};"));
    out.push_str("}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Schema;
    use super::*;
    use proptest::prelude::*;

    /// What Confluent's client for Python registers of
    /// ```proto
    /// syntax = "proto3";
    /// package a.b;
    /// import "a/who.proto";
    /// message First { message In { string deep = 1; } enum E { none = 0; some = 2; } map<string, int64> n = 1; E e = 2; }
    /// message Second { oneof x { string s = 1; Who w = 2; } repeated a.b.First.In many = 3; optional bool on = 4; }
    /// ```
    const DESCRIPTOR: &str = include_str!("../../schemas/tests/descriptor.base64");
    const WHO: &str = include_str!("../../schemas/tests/who.base64");

    #[test]
    fn a_descriptor_is_the_schema_it_was_made_from() {
        let schema = Schema::parse(DESCRIPTOR, &[("a/who.proto", WHO)]).unwrap();
        let check = |path: &[usize], hex_bytes: &str, expected: &str| {
            let message = schema.message_at(path).unwrap();
            let bytes = hex::decode(hex_bytes.replace(' ', "")).unwrap();
            let json = schema.json(message, &bytes).unwrap();
            assert_eq!((json.text.as_str(), json.unknown), (expected, 0), "{path:?} {hex_bytes}");
        };
        check(&[0], "0a 05 0a 01 6b 10 07 10 02", r#"{"n":{"k":"7"},"e":"some"}"#);
        // The entries of the map are the second of the messages inside.
        check(&[0, 0], "0a 01 78", r#"{"deep":"x"}"#);
        check(&[0, 1], "0a 01 6b 10 07", r#"{"key":"k","value":"7"}"#);
        check(&[1], "0a 01 78 12 03 0a 01 79", r#"{"w":{"id":"y"}}"#);
        check(&[1], "1a 03 0a 01 78 1a 00 20 01", r#"{"many":[{"deep":"x"},{}],"on":true}"#);
    }

    #[test]
    fn what_is_no_descriptor_is_read_as_text() {
        for schema in ["", "AAAA", "message", "CgFhEgE7", "message A { string a = 1; }"] {
            assert_eq!(text(schema), None, "{schema}");
        }
        let error = Schema::parse("AAAA", &[]).unwrap_err();
        assert_eq!(error.to_string(), "`schema`, line 1: `AAAA` is not expected here");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..300, other in any::<u8>()) {
            _ = text(&STANDARD.encode(&bytes));
            let mut real = STANDARD.decode(DESCRIPTOR.trim()).unwrap();
            let at = at % real.len();
            real[at] = other;
            if let Some(text) = text(&STANDARD.encode(&real)) {
                _ = Schema::parse(&text, &[]);
            }
        }
    }
}
