//! Protobuf into the JSON text that the one parser reads, so that an encoding is not a second path through the decoders.
//!
//! Guarantees: what comes out is the JSON form of protobuf: names in lowerCamelCase, 64-bit integers as strings, enumerations by
//! name, `Timestamp` in RFC 3339, `Struct` and `Value` as plain JSON. What is not on the wire is not in the text. Of a field or a
//! `oneof` written twice the last counts, and messages written twice are one, as the format has it. Fields that the schema does
//! not know are counted, never guessed. Malformed bytes are refused with their offset; depth ([`DEPTH_MAX`]) and length
//! ([`JSON_BYTES_MAX`]) are bounded, and nothing panics.
//!
//! Works on the bytes themselves: one pass finds a message's fields, a second writes them in order; no tree is built.

mod descriptor;
mod schema;
#[cfg(test)]
mod tests;

pub use schema::{MessageId, Schema, SchemaError};

use crate::json::write_string;
use base64::Engine;
use schema::{Field, Kind, Message};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Messages within messages. The parser of JSON draws its own line at fewer.
pub const DEPTH_MAX: usize = 100;
/// Bytes of JSON that one message may become: a byte of packed enumerations becomes dozens.
pub const JSON_BYTES_MAX: usize = 64 << 20;

/// Why bytes are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}, in `{message}`")]
pub struct Malformed {
    /// Full name of the message in which it showed.
    pub message: String,
    /// Byte offset in the whole.
    pub at: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// A message as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Json {
    /// An object.
    pub text: String,
    /// How many fields were on the wire that the schema does not know.
    pub unknown: usize,
}

/// The audit entries of Cerbos.
pub(crate) static CERBOS: LazyLock<Schema> = LazyLock::new(|| shipped(include_str!("../schemas/cerbos.proto")));
/// The export requests of OTLP.
pub(crate) static OTLP: LazyLock<Schema> = LazyLock::new(|| shipped(include_str!("../schemas/otlp.proto")));

fn shipped(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap_or_else(|e| panic!("a shipped schema is refused: {e}"))
}

impl Schema {
    /// Writes a message as JSON.
    pub fn json(&self, message: MessageId, bytes: &[u8]) -> Result<Json, Malformed> {
        let mut writer = Writer { schema: self, whole: bytes, out: Json::default() };
        writer.message(message.0, bytes, 0)?;
        Ok(writer.out)
    }
}

/// What stands behind a tag.
#[derive(Clone, Copy, Debug)]
enum Raw<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'b [u8]),
}

/// Reads tags and values, and knows where it is for messages of refusal.
struct Wire<'b> {
    rest: &'b [u8],
}

type Problem = &'static str;

impl<'b> Wire<'b> {
    fn take(&mut self, n: usize) -> Result<&'b [u8], Problem> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or("the bytes end early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or("the bytes end early")?;
        self.rest = rest;
        Ok(*taken)
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array::<1>()?;
            if shift == 63 && byte > 1 {
                return Err("a number of more than 64 bits");
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits")
    }

    /// The next field: its number and what it holds. Groups are read over, and come out as nothing.
    fn field(&mut self) -> Result<(u32, Option<Raw<'b>>), Problem> {
        let tag = self.varint()?;
        let number =
            u32::try_from(tag >> 3).ok().filter(|n| (1..=536_870_911).contains(n)).ok_or("a field without number")?;
        let raw = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "the bytes end early")?;
                Raw::Bytes(self.take(length)?)
            }
            3 => {
                self.group(number)?;
                return Ok((number, None));
            }
            5 => Raw::Fixed32(self.array()?),
            _ => return Err("a wire type that does not exist"),
        };
        Ok((number, Some(raw)))
    }

    /// Past the end of a group, and of those inside it.
    fn group(&mut self, number: u32) -> Result<(), Problem> {
        let mut open = vec![number];
        while let Some(last) = open.last().copied() {
            let tag = self.varint()?;
            let number = (tag >> 3) as u32;
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| "the bytes end early")?;
                    self.take(length)?;
                }
                3 if open.len() < DEPTH_MAX => open.push(number),
                4 if number == last => drop(open.pop()),
                5 => drop(self.array::<4>()?),
                _ => return Err("a group without end"),
            }
        }
        Ok(())
    }
}

struct Writer<'s> {
    schema: &'s Schema,
    whole: &'s [u8],
    out: Json,
}

/// Fields of one message, in the order of the schema and then of the wire.
type Found<'b> = Vec<(usize, Raw<'b>)>;

impl<'s> Writer<'s> {
    fn fail<T>(&self, message: &Message, rest: &[u8], problem: Problem) -> Result<T, Malformed> {
        // All slices are parts of the whole.
        let at = (rest.as_ptr() as usize).wrapping_sub(self.whole.as_ptr() as usize).min(self.whole.len());
        Err(Malformed { message: message.name.clone(), at, problem })
    }

    fn fields<'b>(&mut self, message: &'s Message, bytes: &'b [u8]) -> Result<Found<'b>, Malformed> {
        let (mut wire, mut found) = (Wire { rest: bytes }, Found::new());
        // The last of each `oneof`; those before it are gone.
        let mut chosen: Vec<(usize, usize)> = Vec::new();
        while !wire.rest.is_empty() {
            let before = wire.rest;
            let (number, raw) = match wire.field() {
                Ok(field) => field,
                Err(problem) => return self.fail(message, before, problem),
            };
            match (message.position(number), raw) {
                (Some(at), Some(raw)) => {
                    if let Some(one_of) = message.fields[at].one_of {
                        chosen.retain(|c| c.0 != one_of);
                        chosen.push((one_of, at));
                    }
                    found.push((at, raw));
                }
                _ => self.out.unknown += 1,
            }
        }
        if !chosen.is_empty() {
            found.retain(|(at, _)| message.fields[*at].one_of.is_none_or(|one_of| chosen.contains(&(one_of, *at))));
        }
        found.sort_by_key(|f| f.0);
        Ok(found)
    }

    fn message(&mut self, at: usize, bytes: &[u8], depth: usize) -> Result<(), Malformed> {
        let schema = self.schema;
        let message = &schema.messages[at];
        if depth > DEPTH_MAX {
            return self.fail(message, bytes, "messages are nested too deep");
        }
        if self.out.text.len() > JSON_BYTES_MAX {
            return self.fail(message, bytes, "the message is too long as JSON");
        }
        let found = self.fields(message, bytes)?;
        if let Some(known) = message.name.strip_prefix("google.protobuf.")
            && let Some(result) = self.well_known(known, message, &found, bytes, depth)
        {
            return result;
        }
        self.out.text.push('{');
        let mut first = true;
        let mut rest = found.as_slice();
        while let Some(((at, _), _)) = rest.split_first() {
            let count = rest.iter().take_while(|f| f.0 == *at).count();
            let (same, after) = rest.split_at(count);
            rest = after;
            if !std::mem::take(&mut first) {
                self.out.text.push(',');
            }
            let field = &message.fields[*at];
            write_string(&field.json, &mut self.out.text);
            self.out.text.push(':');
            self.field(message, field, same, depth)?;
        }
        self.out.text.push('}');
        Ok(())
    }

    fn field(
        &mut self,
        message: &'s Message,
        field: &'s Field,
        same: &[(usize, Raw<'_>)],
        depth: usize,
    ) -> Result<(), Malformed> {
        if let Some(key) = field.key {
            return self.map(message, field, key, same, depth);
        }
        if field.repeated {
            self.out.text.push('[');
            let mut first = true;
            for (_, raw) in same {
                self.items(message, field.kind, *raw, depth, &mut first)?;
            }
            self.out.text.push(']');
            return Ok(());
        }
        match (field.kind, same) {
            // Parts of one message that were written apart: one after the other they are that message.
            (Kind::Message(at), [_, _, ..]) => {
                let mut joined = Vec::new();
                for (_, raw) in same {
                    match raw {
                        Raw::Bytes(part) => joined.extend_from_slice(part),
                        _ => return self.fail(message, self.whole, "a field of another type than the schema has"),
                    }
                }
                self.message(at, &joined, depth + 1)
            }
            (kind, [.., (_, last)]) => self.value(message, kind, *last, depth),
            (_, []) => Ok(()),
        }
    }

    /// One occurrence of a repeated field: an item, or many that are packed.
    fn items(
        &mut self,
        message: &'s Message,
        kind: Kind,
        raw: Raw<'_>,
        depth: usize,
        first: &mut bool,
    ) -> Result<(), Malformed> {
        if self.out.text.len() > JSON_BYTES_MAX {
            return self.fail(message, self.whole, "the message is too long as JSON");
        }
        let packed = match (kind, raw) {
            (Kind::String | Kind::Bytes | Kind::Hex | Kind::Message(_), _) => None,
            (_, Raw::Bytes(packed)) => Some(packed),
            _ => None,
        };
        let Some(packed) = packed else {
            self.comma(first);
            return self.value(message, kind, raw, depth);
        };
        let mut wire = Wire { rest: packed };
        while !wire.rest.is_empty() {
            let before = wire.rest;
            let raw = match kind {
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => wire.array().map(Raw::Fixed64),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => wire.array().map(Raw::Fixed32),
                _ => wire.varint().map(Raw::Varint),
            };
            match raw {
                Ok(raw) => {
                    self.comma(first);
                    self.value(message, kind, raw, depth)?;
                }
                Err(problem) => return self.fail(message, before, problem),
            }
            if self.out.text.len() > JSON_BYTES_MAX {
                return self.fail(message, before, "the message is too long as JSON");
            }
        }
        Ok(())
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.text.push(',');
        }
    }

    /// Entries of a map: of those with the same key the last counts.
    fn map(
        &mut self,
        message: &'s Message,
        field: &Field,
        key: Kind,
        same: &[(usize, Raw<'_>)],
        depth: usize,
    ) -> Result<(), Malformed> {
        let mut entries: Vec<(String, Option<Raw<'_>>)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (_, raw) in same {
            let Raw::Bytes(entry) = *raw else {
                return self.fail(message, self.whole, "a field of another type than the schema has");
            };
            let (mut wire, mut name, mut value) = (Wire { rest: entry }, None, None);
            while !wire.rest.is_empty() {
                let before = wire.rest;
                match wire.field() {
                    Ok((1, Some(raw))) => name = Some(raw),
                    Ok((2, Some(raw))) => value = Some(raw),
                    Ok(_) => self.out.unknown += 1,
                    Err(problem) => return self.fail(message, before, problem),
                }
            }
            let name = self.map_key(message, key, name)?;
            match known.get(&name) {
                Some(at) => entries[*at].1 = value,
                None => {
                    known.insert(name.clone(), entries.len());
                    entries.push((name, value));
                }
            }
        }
        self.out.text.push('{');
        let mut first = true;
        for (name, value) in entries {
            self.comma(&mut first);
            write_string(&name, &mut self.out.text);
            self.out.text.push(':');
            let value = value.unwrap_or(match field.kind {
                Kind::String | Kind::Bytes | Kind::Hex | Kind::Message(_) => Raw::Bytes(&[]),
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Raw::Fixed64([0; 8]),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Raw::Fixed32([0; 4]),
                _ => Raw::Varint(0),
            });
            self.value(message, field.kind, value, depth)?;
        }
        self.out.text.push('}');
        Ok(())
    }

    fn map_key(&mut self, message: &'s Message, key: Kind, raw: Option<Raw<'_>>) -> Result<String, Malformed> {
        match (key, raw) {
            (Kind::String, None) => Ok(String::new()),
            (Kind::String, Some(Raw::Bytes(bytes))) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => self.fail(message, bytes, "text that is not UTF-8"),
            },
            (Kind::Bool, None) => Ok("false".to_owned()),
            (_, None) => Ok("0".to_owned()),
            (key, Some(raw)) => {
                // The same digits as a value, without the quotes of 64-bit ones.
                let from = self.out.text.len();
                self.value(message, key, raw, 0)?;
                Ok(self.out.text.split_off(from).trim_matches('"').to_owned())
            }
        }
    }

    fn value(&mut self, message: &'s Message, kind: Kind, raw: Raw<'_>, depth: usize) -> Result<(), Malformed> {
        let out = &mut self.out.text;
        match (kind, raw) {
            (Kind::Message(at), Raw::Bytes(bytes)) => return self.message(at, bytes, depth + 1),
            (Kind::String, Raw::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => write_string(text, out),
                Err(_) => return self.fail(message, bytes, "text that is not UTF-8"),
            },
            (Kind::Bytes, Raw::Bytes(bytes)) => {
                out.push('"');
                base64::engine::general_purpose::STANDARD.encode_string(bytes, out);
                out.push('"');
            }
            (Kind::Hex, Raw::Bytes(bytes)) => {
                out.push('"');
                out.push_str(&hex::encode(bytes));
                out.push('"');
            }
            (Kind::Double, Raw::Fixed64(b)) => double(f64::from_le_bytes(b), None, out),
            (Kind::Float, Raw::Fixed32(b)) => {
                let number = f32::from_le_bytes(b);
                double(number.into(), Some(number), out);
            }
            (Kind::Fixed64, Raw::Fixed64(b)) => out.push_str(&format!("\"{}\"", u64::from_le_bytes(b))),
            (Kind::Sfixed64, Raw::Fixed64(b)) => out.push_str(&format!("\"{}\"", i64::from_le_bytes(b))),
            (Kind::Fixed32, Raw::Fixed32(b)) => out.push_str(&u32::from_le_bytes(b).to_string()),
            (Kind::Sfixed32, Raw::Fixed32(b)) => out.push_str(&i32::from_le_bytes(b).to_string()),
            (Kind::Bool, Raw::Varint(n)) => out.push_str(if n != 0 { "true" } else { "false" }),
            (Kind::Int64, Raw::Varint(n)) => out.push_str(&format!("\"{}\"", n as i64)),
            (Kind::Uint64, Raw::Varint(n)) => out.push_str(&format!("\"{n}\"")),
            (Kind::Sint64, Raw::Varint(n)) => out.push_str(&format!("\"{}\"", zigzag(n))),
            (Kind::Int32, Raw::Varint(n)) => out.push_str(&(n as i32).to_string()),
            (Kind::Uint32, Raw::Varint(n)) => out.push_str(&(n as u32).to_string()),
            (Kind::Sint32, Raw::Varint(n)) => out.push_str(&zigzag(u64::from(n as u32)).to_string()),
            (Kind::Enum(at), Raw::Varint(n)) => match self.schema.enums[at].get(&(n as i32)) {
                Some(name) => write_string(name, out),
                None => out.push_str(&(n as i32).to_string()),
            },
            (_, Raw::Bytes(bytes)) => return self.fail(message, bytes, "a field of another type than the schema has"),
            _ => return self.fail(message, self.whole, "a field of another type than the schema has"),
        }
        Ok(())
    }

    /// The types that have a JSON form of their own; `None` for those that do not.
    fn well_known(
        &mut self,
        name: &str,
        message: &'s Message,
        found: &Found<'_>,
        bytes: &[u8],
        depth: usize,
    ) -> Option<Result<(), Malformed>> {
        let varint = |number: u32| {
            found.iter().rev().find(|f| message.fields[f.0].number == number).map_or(0, |f| match f.1 {
                Raw::Varint(n) => n,
                _ => 0,
            })
        };
        match name {
            "Timestamp" => {
                let (seconds, nanos) = (varint(1) as i64, varint(2) as i32);
                let instant = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000).and_then(|nanos| {
                    // Years 1 to 9999, as the format has it.
                    let sound = (-62_135_596_800..=253_402_300_799).contains(&seconds);
                    sound.then(|| chrono::DateTime::from_timestamp(seconds, nanos)).flatten()
                });
                let Some(instant) = instant else {
                    return Some(self.fail(message, bytes, "a time that does not exist"));
                };
                let text = instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
                write_string(&text, &mut self.out.text);
            }
            "Duration" => {
                let (seconds, nanos) = (varint(1) as i64, varint(2) as i32);
                let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
                let fraction = match nanos.unsigned_abs() {
                    0 => String::new(),
                    n => format!(".{}", format!("{n:09}").trim_end_matches('0')),
                };
                self.out.text.push_str(&format!("\"{sign}{}{fraction}s\"", seconds.unsigned_abs()));
            }
            "Struct" | "ListValue" => {
                let Some(field) = message.fields.first() else { return Some(Ok(())) };
                if found.is_empty() {
                    self.out.text.push_str(if name == "Struct" { "{}" } else { "[]" });
                    return Some(Ok(()));
                }
                return Some(self.field(message, field, found, depth));
            }
            "Value" => {
                return Some(match found.last() {
                    // All that is left of a `oneof` is of one field.
                    Some((at, _)) if message.fields[*at].number != 1 => {
                        self.field(message, &message.fields[*at], found, depth)
                    }
                    _ => {
                        self.out.text.push_str("null");
                        Ok(())
                    }
                });
            }
            "FieldMask" => {
                let paths: Vec<_> = found
                    .iter()
                    .filter_map(|f| match f.1 {
                        Raw::Bytes(path) => Some(String::from_utf8_lossy(path)),
                        _ => None,
                    })
                    .collect();
                write_string(&paths.join(","), &mut self.out.text);
            }
            _ if name.ends_with("Value") && message.fields.len() == 1 => {
                let field = &message.fields[0];
                let last = found.last().map(|f| f.1).unwrap_or(match field.kind {
                    Kind::Double => Raw::Fixed64([0; 8]),
                    Kind::Float => Raw::Fixed32([0; 4]),
                    Kind::String | Kind::Bytes => Raw::Bytes(&[]),
                    _ => Raw::Varint(0),
                });
                return Some(self.value(message, field.kind, last, depth));
            }
            // `Any` is left as its URL and bytes: what is inside is a schema of its own.
            _ => return None,
        }
        Some(Ok(()))
    }
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// A number as JSON has it: shortest digits that read back, an exponent for the very large and small.
pub(crate) fn double(number: f64, short: Option<f32>, out: &mut String) {
    let magnitude = number.abs();
    let text = match short {
        _ if number.is_nan() => "\"NaN\"".to_owned(),
        _ if number.is_infinite() => (if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }).to_owned(),
        _ if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) => {
            let text = short.map_or_else(|| format!("{number:e}"), |n| format!("{n:e}"));
            if magnitude >= 1e21 { text.replace('e', "e+") } else { text }
        }
        Some(short) => short.to_string(),
        None => number.to_string(),
    };
    out.push_str(&text);
}
