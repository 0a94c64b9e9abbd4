//! Records that schema registries have framed: a zero byte, the schema's number, and then the record in the schema's encoding.
//!
//! Guarantees: no I/O; whoever has the registry gives the schema's text. JSON and the other encodings never begin with a zero byte, so
//! a frame is not mistaken. What comes out is JSON, for [`crate::Decoder::record`]; what cannot is a reason code and a detail.

use crate::avro;
use crate::protobuf::{Json, Schema, SchemaError};

/// A framed record, apart from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'b> {
    /// The number under which the registry has the schema.
    pub schema_id: u32,
    /// What follows.
    pub payload: &'b [u8],
}

/// The parts of a framed record; `None` when it is not framed.
pub fn framed(bytes: &[u8]) -> Option<Framed<'_>> {
    let (head, payload) = bytes.split_first_chunk::<5>()?;
    let [0, id @ ..] = *head else { return None };
    Some(Framed { schema_id: u32::from_be_bytes(id), payload })
}

/// A schema as a registry has it.
#[derive(Clone, Debug)]
pub enum Registered {
    /// The payload is JSON; the schema only says what is in it.
    Json,
    /// Avro's binary form.
    Avro(avro::Schema),
    /// Protobuf, led by the path to the message.
    Protobuf(Schema),
}

impl Registered {
    /// Reads a schema. `kind` is the registry's `schemaType`: `AVRO` (also when it is empty), `JSON` or `PROTOBUF`; `references` are
    /// the texts that the schema refers to, with the names by which it does.
    pub fn parse(kind: &str, text: &str, references: &[(&str, &str)]) -> Result<Registered, SchemaError> {
        match kind {
            "JSON" => Ok(Registered::Json),
            "" | "AVRO" => avro::Schema::parse(text, references).map(Registered::Avro),
            "PROTOBUF" => Schema::parse(text, references).map(Registered::Protobuf),
            other => Err(SchemaError {
                file: "schema".to_owned(),
                line: 0,
                problem: format!("schemas of kind `{other}` are not supported"),
            }),
        }
    }

    /// The JSON of a payload.
    pub fn json(&self, payload: &[u8]) -> Result<Json, (&'static str, String)> {
        match self {
            Registered::Json => match std::str::from_utf8(payload) {
                Ok(text) => Ok(Json { text: text.to_owned(), unknown: 0 }),
                Err(e) => Err(("json_utf8", format!("at byte {}", e.valid_up_to()))),
            },
            Registered::Avro(schema) => match schema.json(payload) {
                Ok(text) => Ok(Json { text, unknown: 0 }),
                Err(e) => Err(("avro_malformed", e.to_string())),
            },
            Registered::Protobuf(schema) => {
                let Some((path, bytes)) = message_path(payload) else {
                    return Err(("protobuf_malformed", "the path to the message is cut off or too long".to_owned()));
                };
                let Some(message) = schema.message_at(&path) else {
                    return Err(("protobuf_malformed", format!("the schema has no message at {path:?}")));
                };
                schema.json(message, bytes).map_err(|e| ("protobuf_malformed", e.to_string()))
            }
        }
    }
}

/// Steps of a path to a message.
const PATH_STEPS_MAX: i64 = 32;

/// Which message of its schema a protobuf payload is: the number of steps and the steps, as zigzag numbers; a single zero
/// stands for the first message.
fn message_path(payload: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let mut rest = payload;
    let mut number = || -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    };
    let count = number()?;
    let path = match count {
        0 => vec![0],
        1..=PATH_STEPS_MAX => (0..count).map(|_| usize::try_from(number()?).ok()).collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    Some((path, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, schema: &str, hex_bytes: &str, expected: &str) {
        let bytes = hex::decode(hex_bytes.replace(' ', "")).expect("the test writes hex");
        let got = match framed(&bytes) {
            None => "not framed".to_owned(),
            Some(framed) => {
                let json = match Registered::parse(kind, schema, &[]) {
                    Ok(schema) => match schema.json(framed.payload) {
                        Ok(json) => json.text,
                        Err((reason, detail)) => format!("{reason}: {detail}"),
                    },
                    Err(e) => e.to_string(),
                };
                format!("{} {json}", framed.schema_id)
            }
        };
        assert_eq!(got, expected, "{kind} {schema} {hex_bytes}");
    }

    #[test]
    fn frames() {
        check("JSON", "", "7b 7d", "not framed");
        check("JSON", "", "00 00 00 01", "not framed");
        check("JSON", "", "00 00 00 01 02 7b 7d", "258 {}");
        check("JSON", "", "00 00 00 00 01 ff", "1 json_utf8: at byte 0");
        check("AVRO", "\"string\"", "00 00 00 00 01 02 61", "1 \"a\"");
        check("", "\"string\"", "00 00 00 00 01 04 61", "1 avro_malformed: the bytes end early at byte 1");
        check("XML", "", "00 00 00 00 01", "1 `schema`, line 0: schemas of kind `XML` are not supported");
        let proto = "message A { string a = 1; message B { string b = 1; } } message C { string c = 1; }";
        check("PROTOBUF", proto, "00 00 00 00 01 00 0a 01 78", r#"1 {"a":"x"}"#);
        check("PROTOBUF", proto, "00 00 00 00 01 02 02 0a 01 78", r#"1 {"c":"x"}"#);
        check("PROTOBUF", proto, "00 00 00 00 01 04 00 00 0a 01 78", r#"1 {"b":"x"}"#);
        check("PROTOBUF", proto, "00 00 00 00 01 02 04", "1 protobuf_malformed: the schema has no message at [2]");
        for cut in ["00 00 00 00 01", "00 00 00 00 01 04 00", "00 00 00 00 01 01", "00 00 00 00 01 80 80"] {
            check("PROTOBUF", proto, cut, "1 protobuf_malformed: the path to the message is cut off or too long");
        }
        check("PROTOBUF", "message A { B b = 1; }", "00 00 00 00 01 00", "1 `schema`, line 1: there is no type `B`");
    }
}
