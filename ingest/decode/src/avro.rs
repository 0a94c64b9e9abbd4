//! Avro's binary form into the JSON text that the one parser reads, by the schema that it was written with.
//!
//! Guarantees: what comes out is plain JSON, as the producer's own JSON would be: a value of a union stands for itself, without the
//! name of its branch; numbers are written to the last digit, timestamps in RFC 3339, decimals as text, bytes in base64. Malformed
//! bytes are refused with their offset, and so are bytes left over. Depth ([`DEPTH_MAX`]) and length ([`JSON_BYTES_MAX`])
//! are bounded, because a few bytes may claim to be any number of nulls; nothing panics.
//!
//! Why our own: with the writer's schema at hand the binary form is a page, and the library for it brings resolution between
//! schemas, containers and codecs that nothing here asks for.

use crate::json::{Kind, Tape, Value, write_string};
use crate::protobuf::{JSON_BYTES_MAX, SchemaError, double};
use base64::Engine;
use std::collections::HashMap;

/// Values within values. The parser of JSON draws the same line.
const DEPTH_MAX: usize = 64;

/// Why bytes are not what their schema says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct Malformed {
    /// Byte offset.
    pub at: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// What a whole number or some bytes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logical {
    Date,
    /// Ticks of the clock in a second.
    Timestamp(i64),
    Decimal(usize),
}

#[derive(Clone, Debug)]
enum Type {
    /// A name that is declared further down.
    Open,
    Null,
    Boolean,
    Int(Option<Logical>),
    Long(Option<Logical>),
    Float,
    Double,
    Bytes(Option<Logical>),
    String,
    Fixed(usize, Option<Logical>),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
}

/// A schema, as a table.
#[derive(Clone, Debug)]
pub struct Schema {
    types: Vec<Type>,
    root: usize,
}

impl Schema {
    /// Reads a schema. `references` are the texts whose names it uses, in the order in which they use one another.
    pub fn parse(text: &str, references: &[(&str, &str)]) -> Result<Schema, SchemaError> {
        let mut builder = Builder { types: Vec::new(), names: HashMap::new() };
        let mut root = 0;
        for (file, text) in references.iter().chain([&("schema", text)]) {
            let fail = |problem: String| SchemaError { file: (*file).to_owned(), line: 0, problem };
            // The name of a primitive type may stand without quotes around it.
            let bare = text.trim();
            let quoted = format!("\"{bare}\"");
            let text = if bare.bytes().all(|b| b.is_ascii_alphabetic()) { quoted.as_str() } else { bare };
            let mut tape = Tape::default();
            let value = tape.parse(text.as_bytes()).map_err(|e| fail(e.to_string()))?;
            root = builder.read(value, "").map_err(fail)?;
        }
        match builder.types.iter().position(|t| matches!(t, Type::Open)) {
            Some(at) => {
                let name = builder.names.iter().find(|n| *n.1 == at).map_or("", |n| n.0.as_str());
                let problem = format!("there is no type `{name}`");
                Err(SchemaError { file: "schema".to_owned(), line: 0, problem })
            }
            None => Ok(Schema { types: builder.types, root }),
        }
    }

    /// Writes a value as JSON.
    pub fn json(&self, bytes: &[u8]) -> Result<String, Malformed> {
        let mut reader = Reader { schema: self, bytes, rest: bytes, out: String::with_capacity(bytes.len() * 2) };
        reader.value(self.root, 0)?;
        if reader.rest.is_empty() { Ok(reader.out) } else { reader.fail("bytes are left over") }
    }
}

struct Builder {
    types: Vec<Type>,
    names: HashMap<String, usize>,
}

impl Builder {
    fn add(&mut self, t: Type) -> usize {
        self.types.push(t);
        self.types.len() - 1
    }

    /// The place of a name, declared or to be. A name without dots is looked for in the space it is used in, and then outside.
    fn named(&mut self, name: &str, space: &str) -> usize {
        let full = full(name, space);
        if let Some(at) = self.names.get(&full).or_else(|| self.names.get(name)) {
            return *at;
        }
        let at = self.add(Type::Open);
        self.names.insert(full, at);
        at
    }

    /// Recursive: the parser has bounded the depth.
    fn read(&mut self, v: Value<'_>, space: &str) -> Result<usize, String> {
        let text = |key: &str| v.get(key).and_then(|v| v.as_str());
        let name = match (v.as_str(), text("type")) {
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) if v.kind() == Kind::Array => {
                let branches: Result<Vec<_>, _> = v.items().map(|i| self.read(i, space)).collect();
                return Ok(self.add(Type::Union(branches?)));
            }
            // A type may stand in an object of its own.
            (None, None) => match v.get("type") {
                Some(inner) => return self.read(inner, space),
                None => return Err(format!("a type is missing in {}", shortened(&v.to_json()))),
            },
        };
        let logical = match text("logicalType") {
            Some("date") => Some(Logical::Date),
            Some("timestamp-millis") => Some(Logical::Timestamp(1_000)),
            Some("timestamp-micros") => Some(Logical::Timestamp(1_000_000)),
            Some("timestamp-nanos") => Some(Logical::Timestamp(1_000_000_000)),
            Some("decimal") => {
                let scale = v.get("scale").and_then(|s| s.as_i64()).unwrap_or(0);
                usize::try_from(scale).ok().filter(|s| *s <= 64).map(Logical::Decimal)
            }
            _ => None,
        };
        let part = |key: &str| v.get(key).ok_or_else(|| format!("`{key}` is missing"));
        let plain = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(logical),
            "long" => Type::Long(logical),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(logical),
            "string" => Type::String,
            "array" => {
                let items = self.read(part("items")?, space)?;
                Type::Array(items)
            }
            "map" => {
                let values = self.read(part("values")?, space)?;
                Type::Map(values)
            }
            "record" | "error" | "enum" | "fixed" => return self.declared(name, v, space, logical),
            name => return Ok(self.named(name, space)),
        };
        Ok(self.add(plain))
    }

    fn declared(&mut self, kind: &str, v: Value<'_>, space: &str, logical: Option<Logical>) -> Result<usize, String> {
        let text = |key: &str| v.get(key).and_then(|v| v.as_str());
        let name = text("name").ok_or("a name is missing")?;
        let own = match name.rsplit_once('.') {
            Some((space, _)) => space,
            None => text("namespace").unwrap_or(space),
        };
        let full = full(name, own);
        let at = match self.names.get(&full) {
            Some(at) if matches!(self.types[*at], Type::Open) => *at,
            Some(_) => return Err(format!("`{full}` is declared twice")),
            None => {
                let at = self.add(Type::Open);
                self.names.insert(full, at);
                at
            }
        };
        let declared = match kind {
            "enum" => {
                let symbols = v.get("symbols").ok_or("`symbols` is missing")?;
                Type::Enum(symbols.items().filter_map(|s| s.as_str()).map(str::to_owned).collect())
            }
            "fixed" => {
                let size = v.get("size").and_then(|s| s.as_i64()).and_then(|n| usize::try_from(n).ok());
                Type::Fixed(size.ok_or("`size` is missing")?, logical)
            }
            _ => {
                let mut fields: Vec<(String, usize)> = Vec::new();
                for field in v.get("fields").ok_or("`fields` is missing")?.items() {
                    let name = field.get("name").and_then(|n| n.as_str()).ok_or("a field without name")?;
                    if fields.iter().any(|f| f.0 == name) {
                        return Err(format!("the field `{name}` is declared twice"));
                    }
                    let declared = field.get("type").ok_or_else(|| format!("the field `{name}` has no type"))?;
                    fields.push((name.to_owned(), self.read(declared, own)?));
                }
                Type::Record(fields)
            }
        };
        self.types[at] = declared;
        Ok(at)
    }
}

fn full(name: &str, space: &str) -> String {
    if space.is_empty() || name.contains('.') { name.to_owned() } else { format!("{space}.{name}") }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

struct Reader<'b> {
    schema: &'b Schema,
    bytes: &'b [u8],
    rest: &'b [u8],
    out: String,
}

impl<'b> Reader<'b> {
    fn fail<T>(&self, problem: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.bytes.len() - self.rest.len(), problem })
    }

    fn take(&mut self, n: usize) -> Result<&'b [u8], Malformed> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => self.fail("the bytes end early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => self.fail("the bytes end early"),
        }
    }

    fn long(&mut self) -> Result<i64, Malformed> {
        let (mut value, before) = (0u64, self.rest);
        for shift in (0..70).step_by(7) {
            let [byte] = self.array::<1>()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        self.rest = before;
        self.fail("a number of more than 64 bits")
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        match usize::try_from(self.long()?) {
            Ok(length) => Ok(length),
            Err(_) => self.fail("a length below zero"),
        }
    }

    fn text(&mut self) -> Result<&'b str, Malformed> {
        let length = self.length()?;
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("text that is not UTF-8"),
        }
    }

    fn value(&mut self, at: usize, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return self.fail("values are nested too deep");
        }
        if self.out.len() > JSON_BYTES_MAX {
            return self.fail("the value is too long as JSON");
        }
        let schema = self.schema;
        match &schema.types[at] {
            Type::Open | Type::Null => self.out.push_str("null"),
            Type::Boolean => match self.array::<1>()? {
                [0] => self.out.push_str("false"),
                [1] => self.out.push_str("true"),
                _ => return self.fail("a boolean that is neither"),
            },
            Type::Int(logical) | Type::Long(logical) => {
                let number = self.long()?;
                self.whole(number, *logical);
            }
            Type::Float => {
                let number = f32::from_le_bytes(self.array()?);
                double(number.into(), Some(number), &mut self.out);
            }
            Type::Double => double(f64::from_le_bytes(self.array()?), None, &mut self.out),
            Type::Bytes(logical) => {
                let length = self.length()?;
                let bytes = self.take(length)?;
                self.binary(bytes, *logical);
            }
            Type::Fixed(length, logical) => {
                let bytes = self.take(*length)?;
                self.binary(bytes, *logical);
            }
            Type::String => {
                let text = self.text()?;
                write_string(text, &mut self.out);
            }
            Type::Enum(symbols) => match usize::try_from(self.long()?).ok().and_then(|n| symbols.get(n)) {
                Some(symbol) => write_string(symbol, &mut self.out),
                None => return self.fail("a symbol that does not exist"),
            },
            Type::Union(branches) => match usize::try_from(self.long()?).ok().and_then(|n| branches.get(n)) {
                Some(branch) => return self.value(*branch, depth + 1),
                None => return self.fail("a branch that does not exist"),
            },
            Type::Array(items) => {
                self.out.push('[');
                let mut first = true;
                self.blocks(|reader| {
                    reader.comma(&mut first);
                    reader.value(*items, depth + 1)
                })?;
                self.out.push(']');
            }
            Type::Map(values) => self.map(*values, depth)?,
            Type::Record(fields) => {
                self.out.push('{');
                let mut first = true;
                for (name, field) in fields {
                    self.comma(&mut first);
                    write_string(name, &mut self.out);
                    self.out.push(':');
                    self.value(*field, depth + 1)?;
                }
                self.out.push('}');
            }
        }
        Ok(())
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(',');
        }
    }

    /// Of entries with the same key the last counts: JSON with two would be refused.
    fn map(&mut self, values: usize, depth: usize) -> Result<(), Malformed> {
        let outer = std::mem::take(&mut self.out);
        let (mut entries, mut known): (Vec<(&str, String)>, HashMap<&str, usize>) = Default::default();
        let mut length = outer.len();
        self.blocks(|reader| {
            let key = reader.text()?;
            reader.value(values, depth + 1)?;
            let json = std::mem::take(&mut reader.out);
            length += json.len();
            if length > JSON_BYTES_MAX {
                return reader.fail("the value is too long as JSON");
            }
            match known.get(key) {
                Some(at) => entries[*at].1 = json,
                None => {
                    known.insert(key, entries.len());
                    entries.push((key, json));
                }
            }
            Ok(())
        })?;
        self.out = outer;
        self.out.push('{');
        let mut first = true;
        for (key, json) in entries {
            self.comma(&mut first);
            write_string(key, &mut self.out);
            self.out.push(':');
            self.out.push_str(&json);
        }
        self.out.push('}');
        Ok(())
    }

    /// Items in blocks, each led by their number; below zero it is followed by the block's length.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn whole(&mut self, number: i64, logical: Option<Logical>) {
        let instant = match logical {
            Some(Logical::Date) => number.checked_mul(86_400).and_then(|s| chrono::DateTime::from_timestamp(s, 0)),
            Some(Logical::Timestamp(ticks)) => {
                let nanos = number.rem_euclid(ticks) * (1_000_000_000 / ticks);
                chrono::DateTime::from_timestamp(number.div_euclid(ticks), nanos as u32)
            }
            _ => None,
        };
        match (instant, logical) {
            (Some(t), Some(Logical::Date)) => write_string(&t.format("%Y-%m-%d").to_string(), &mut self.out),
            (Some(t), _) => write_string(&t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true), &mut self.out),
            (None, _) => self.out.push_str(&number.to_string()),
        }
    }

    fn binary(&mut self, bytes: &[u8], logical: Option<Logical>) {
        let decimal = match logical {
            Some(Logical::Decimal(scale)) => decimal(bytes, scale),
            _ => None,
        };
        let text = decimal.unwrap_or_else(|| base64::engine::general_purpose::STANDARD.encode(bytes));
        write_string(&text, &mut self.out);
    }
}

/// A decimal of at most 128 bits: two's complement, high byte first.
fn decimal(bytes: &[u8], scale: usize) -> Option<String> {
    let mut wide = [if bytes.first()? & 0x80 != 0 { 0xff } else { 0 }; 16];
    wide[16usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    let number = i128::from_be_bytes(wide);
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if number < 0 { "-" } else { "" };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, hex_bytes: &str, expected: &str) {
        let got = match Schema::parse(schema, &[]) {
            Ok(schema) => {
                let bytes = hex::decode(hex_bytes.replace(' ', "")).expect("the test writes hex");
                schema.json(&bytes).unwrap_or_else(|e| e.to_string())
            }
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{schema} {hex_bytes}");
    }

    #[test]
    fn values_of_every_type() {
        check("\"null\"", "", "null");
        check("null", "", "null");
        check("\"boolean\"", "01", "true");
        check("\"int\"", "03", "-2");
        check("\"long\"", "ff ff ff ff ff ff ff ff ff 01", "-9223372036854775808");
        check("\"float\"", "cd cc cc 3d", "0.1");
        check("\"double\"", "00 00 00 00 00 00 f8 7f", "\"NaN\"");
        check("\"string\"", "06 66 6f 6f", "\"foo\"");
        check("\"bytes\"", "04 01 02", "\"AQI=\"");
        check(r#"{"type":"fixed","name":"f","size":2}"#, "01 02", "\"AQI=\"");
        check(r#"{"type":"enum","name":"e","symbols":["allow","deny"]}"#, "02", "\"deny\"");
        check(r#"["null","string"]"#, "02 02 61", "\"a\"");
        check(r#"{"type":"array","items":"int"}"#, "04 02 04 01 02 06 00", "[1,2,3]");
        check(r#"{"type":"map","values":"int"}"#, "06 02 61 02 02 62 04 02 61 06 00", r#"{"a":3,"b":2}"#);
        check(r#"{"type":{"type":"string"}}"#, "02 61", "\"a\"");
        check(
            r#"{"type":"record","name":"n.r","fields":[{"name":"a","type":"int"},{"name":"next","type":["null","r"]}]}"#,
            "02 02 04 00",
            r#"{"a":1,"next":{"a":2,"next":null}}"#,
        );
    }

    #[test]
    fn what_numbers_and_bytes_stand_for() {
        check(r#"{"type":"int","logicalType":"date"}"#, "02", "\"1970-01-02\"");
        check(r#"{"type":"long","logicalType":"timestamp-millis"}"#, "01", "\"1969-12-31T23:59:59.999Z\"");
        check(r#"{"type":"long","logicalType":"timestamp-micros"}"#, "02", "\"1970-01-01T00:00:00.000001Z\"");
        check(r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#, "02 fb", "\"-0.05\"");
        check(r#"{"type":"bytes","logicalType":"decimal","precision":5}"#, "04 01 00", "\"256\"");
        check(r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#, "00", "\"\"");
        check(r#"{"type":"string","logicalType":"uuid"}"#, "02 61", "\"a\"");
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        check("\"string\"", "06 66 6f", "the bytes end early at byte 1");
        check("\"string\"", "01", "a length below zero at byte 1");
        check("\"string\"", "02 ff", "text that is not UTF-8 at byte 2");
        check("\"boolean\"", "02", "a boolean that is neither at byte 1");
        check("\"int\"", "02 02", "bytes are left over at byte 1");
        check("\"long\"", "ff ff ff ff ff ff ff ff ff ff 01", "a number of more than 64 bits at byte 0");
        check(r#"["null"]"#, "02", "a branch that does not exist at byte 1");
        check(r#"{"type":"enum","name":"e","symbols":[]}"#, "00", "a symbol that does not exist at byte 1");
        // Six bytes that claim to be two thousand million nulls.
        check(r#"{"type":"array","items":"null"}"#, "fe ff ff ff 0f", "the value is too long as JSON at byte 5");
        let list = r#"{"type":"record","name":"r","fields":[{"name":"r","type":["r","null"]}]}"#;
        check(list, &"00".repeat(100), "values are nested too deep at byte 32");
    }

    #[test]
    fn a_schema_says_what_is_wrong_with_it() {
        check("{", "", "`schema`, line 0: json_truncated at byte 1");
        check("{}", "", "`schema`, line 0: a type is missing in {}");
        check("\"far\"", "", "`schema`, line 0: there is no type `far`");
        check(r#"{"type":"array"}"#, "", "`schema`, line 0: `items` is missing");
        check(r#"{"type":"record","fields":[]}"#, "", "`schema`, line 0: a name is missing");
        check(r#"{"type":"record","name":"r"}"#, "", "`schema`, line 0: `fields` is missing");
        check(
            r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "",
            "`schema`, line 0: the field `a` is declared twice",
        );
        let with = Schema::parse(r#"["null","x.R"]"#, &[("x", r#"{"type":"fixed","name":"x.R","size":1}"#)]);
        assert_eq!(with.expect("the reference has it").json(&[2, 255]).as_deref(), Ok("\"/w==\""));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_json_or_refused(bytes: Vec<u8>) {
            let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":["null","r",{"type":"map","values":"bytes"}]},{"name":"b","type":{"type":"array","items":["int","double","string"]}}]}"#;
            let schema = Schema::parse(schema, &[]).expect("the test writes a schema");
            if let Ok(json) = schema.json(&bytes) {
                proptest::prop_assert!(Tape::default().parse(json.as_bytes()).is_ok(), "{}", json);
            }
        }
    }
}
