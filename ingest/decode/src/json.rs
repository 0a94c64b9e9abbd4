//! The one JSON parser: bytes to a flat tape.
//!
//! Guarantees: every byte sequence gives a tape or a [`JsonError`], never a panic, in time linear in its length; nothing
//! recurses. What it accepts is RFC 8259 and nothing more, and of that it refuses what two readers could read
//! differently: duplicate keys at any level (compared after unescaping), lone surrogates, a byte order mark, nesting
//! beyond [`DEPTH_MAX`]. Numbers are kept as they were written, to the last digit.
//!
//! Why not a library: those that are as fast turn numbers into `f64` or 64-bit integers, so `2^70` or `0.10` would not
//! come out as they went in; those that keep the text are half as fast or recurse. `docs/decisions/0002-json.md` has the
//! measurements. The differential test below holds it to `serde_json`.

mod parse;

/// Containers within containers.
pub const DEPTH_MAX: usize = 64;

/// Why bytes are not JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct JsonError {
    /// Stable code.
    pub reason: &'static str,
    /// Byte offset in the record.
    pub at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Null,
    True,
    False,
    /// `start..end` of the text, sign to last digit.
    Number,
    /// `start..end` of the text between the quotes.
    Plain,
    /// `start..end` of the arena.
    Unescaped,
    /// `start..end` of the text, brackets included; `next` is the node after the container.
    Array,
    Object,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    tag: Tag,
    start: u32,
    end: u32,
    /// Of a container the node after it, of a member's name its fingerprint.
    next: u32,
}

/// Reused from record to record, so that parsing allocates nothing once it is warm.
#[derive(Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    arena: String,
    /// Keys of the open objects: fingerprint and node.
    keys: Vec<(u32, u32)>,
    open: Vec<Open>,
    verbatim: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    node: u32,
    object: bool,
    keys_from: u32,
}

/// A value in a parsed record.
#[derive(Clone, Copy)]
pub struct Value<'t> {
    tape: &'t Tape,
    text: &'t str,
    at: u32,
}

impl Tape {
    /// Bytes that it holds on to for the next record.
    pub(crate) fn held_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.arena.capacity() + self.keys.capacity() * 8
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_json())
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// As it is called in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}

impl Tape {
    /// Parses one document; white space around it is allowed, anything else is not.
    pub fn parse<'t>(&'t mut self, bytes: &'t [u8]) -> Result<Value<'t>, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|e| JsonError { reason: "json_utf8", at: e.valid_up_to() })?;
        if bytes.len() > u32::MAX as usize / 2 {
            return Err(JsonError { reason: "json_too_large", at: 0 });
        }
        self.nodes.clear();
        self.arena.clear();
        self.keys.clear();
        self.open.clear();
        self.verbatim = true;
        parse::document(self, text)?;
        Ok(Value { tape: self, text, at: 0 })
    }
}

/// Length and last three bytes: tells most keys apart without looking at them again, also those that begin alike.
#[inline]
fn fingerprint(key: &[u8]) -> u32 {
    let byte = |i: usize| key.len().checked_sub(i + 1).map_or(0, |at| u32::from(key[at]) << (8 * i));
    (key.len() as u32) << 24 | byte(0) | byte(1) | byte(2)
}

impl Tape {
    #[inline]
    fn string<'t>(&'t self, text: &'t str, node: u32) -> &'t str {
        let n = self.nodes[node as usize];
        let source = if n.tag == Tag::Unescaped { self.arena.as_str() } else { text };
        &source[n.start as usize..n.end as usize]
    }
}

impl<'t> Value<'t> {
    #[inline]
    fn node(&self) -> Node {
        self.tape.nodes[self.at as usize]
    }

    #[inline]
    fn step(&self, at: u32) -> u32 {
        match self.tape.nodes[at as usize] {
            Node { tag: Tag::Array | Tag::Object, next, .. } => next,
            _ => at + 1,
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.node().tag {
            Tag::Null => Kind::Null,
            Tag::True | Tag::False => Kind::Bool,
            Tag::Number => Kind::Number,
            Tag::Plain | Tag::Unescaped => Kind::String,
            Tag::Array => Kind::Array,
            Tag::Object => Kind::Object,
        }
    }

    /// Its number within the record: no two values of one record share it.
    pub fn index(&self) -> usize {
        self.at as usize
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.node().tag == Tag::Null
    }

    /// The string, unescaped.
    #[inline]
    pub fn as_str(&self) -> Option<&'t str> {
        matches!(self.node().tag, Tag::Plain | Tag::Unescaped).then(|| self.tape.string(self.text, self.at))
    }

    /// The boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.node().tag {
            Tag::True => Some(true),
            Tag::False => Some(false),
            _ => None,
        }
    }

    /// The number as it was written.
    pub fn as_number(&self) -> Option<&'t str> {
        let n = self.node();
        (n.tag == Tag::Number).then(|| &self.text[n.start as usize..n.end as usize])
    }

    /// A whole number that fits; `1e3` and `1.0` do not count as one.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.parse().ok()
    }

    /// A scalar as text: strings as they are, numbers and booleans as written. For ids, which producers write both ways.
    pub fn as_scalar(&self) -> Option<&'t str> {
        let n = self.node();
        match n.tag {
            Tag::Plain | Tag::Unescaped => self.as_str(),
            Tag::Number | Tag::True | Tag::False => Some(&self.text[n.start as usize..n.end as usize]),
            _ => None,
        }
    }

    /// The members of an object in their order; nothing for other kinds.
    pub fn entries(&self) -> Entries<'t> {
        let n = self.node();
        let (at, end) = if n.tag == Tag::Object { (self.at + 1, n.next) } else { (0, 0) };
        Entries { of: *self, at, end }
    }

    /// The members of an object with their names as values; nothing for other kinds.
    pub fn members(&self) -> impl Iterator<Item = (Value<'t>, Value<'t>)> + use<'t> {
        let of = *self;
        // A member's name stands on the tape right before its value.
        self.entries().map(move |(_, v)| (Value { at: v.at - 1, ..of }, v))
    }

    /// The items of an array; nothing for other kinds.
    pub fn items(&self) -> Items<'t> {
        let n = self.node();
        let (at, end) = if n.tag == Tag::Array { (self.at + 1, n.next) } else { (0, 0) };
        Items { of: *self, at, end }
    }

    /// The member of an object.
    pub fn get(&self, key: &str) -> Option<Value<'t>> {
        let n = self.node();
        let (mut at, end) = if n.tag == Tag::Object { (self.at + 1, n.next) } else { (0, 0) };
        let print = fingerprint(key.as_bytes());
        while at < end {
            // Mappings ask a record for many members that it does not have.
            if self.tape.nodes[at as usize].next == print && self.tape.string(self.text, at) == key {
                return Some(Value { at: at + 1, ..*self });
            }
            at = self.step(at + 1);
        }
        None
    }

    /// The value at an RFC 6901 pointer; empty points at the value itself.
    pub fn pointer(&self, pointer: &str) -> Option<Value<'t>> {
        let mut value = *self;
        for token in pointer.split('/').skip(1) {
            value = match value.kind() {
                Kind::Object if token.contains('~') => value.get(&token.replace("~1", "/").replace("~0", "~"))?,
                Kind::Object => value.get(token)?,
                Kind::Array => value.items().nth(token.parse().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// Where the value stands in the record: first byte and the one after its last. Unknown for strings with escapes.
    pub fn span(&self) -> Option<(usize, usize)> {
        let n = self.node();
        let quote = usize::from(n.tag == Tag::Plain);
        (n.tag != Tag::Unescaped).then(|| (n.start as usize - quote, n.end as usize + quote))
    }

    /// The bytes of the value in the record.
    pub fn source(&self) -> &'t str {
        let n = self.node();
        match n.tag {
            Tag::Plain => &self.text[n.start as usize - 1..n.end as usize + 1],
            Tag::Unescaped => "",
            _ => &self.text[n.start as usize..n.end as usize],
        }
    }

    /// Whether the record holds no escapes and no white space, so that [`Value::source`] is compact JSON as it stands.
    pub fn is_verbatim(&self) -> bool {
        self.tape.verbatim
    }

    /// All unescaped strings of the record that had escapes, a quote behind each: what [`Value::source`] hides.
    pub fn unescaped(&self) -> &'t str {
        &self.tape.arena
    }

    /// Compact JSON; numbers as they were written.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Appends compact JSON.
    pub fn write(&self, out: &mut String) {
        if self.tape.verbatim {
            out.push_str(self.source());
        } else {
            self.write_with(out, &mut |_, value, out| {
                if let Some(s) = value.as_str() {
                    write_string(s, out);
                } else {
                    out.push_str(value.source());
                }
            });
        }
    }

    /// Appends compact JSON whose scalars `scalar` writes, being told the key of the object member it stands in (for
    /// items of an array, the key of the array). Iterative: a cursor over the tape and a stack of ends.
    pub fn write_with(&self, out: &mut String, scalar: &mut dyn FnMut(&'t str, Value<'t>, &mut String)) {
        struct Level<'t> {
            end: u32,
            object: bool,
            key: &'t str,
        }
        let mut levels: Vec<Level<'t>> = Vec::new();
        let mut at = self.at;
        let last = self.step(self.at);
        let mut first = true;
        while at < last || !levels.is_empty() {
            if let Some(level) = levels.last()
                && at == level.end
            {
                out.push(if level.object { '}' } else { ']' });
                levels.pop();
                first = false;
                continue;
            }
            let mut key = levels.last().map_or("", |l| l.key);
            if let Some(level) = levels.last() {
                if !first {
                    out.push(',');
                }
                if level.object {
                    key = self.tape.string(self.text, at);
                    write_string(key, out);
                    out.push(':');
                    at += 1;
                }
            }
            let value = Value { at, ..*self };
            let node = value.node();
            match node.tag {
                Tag::Object | Tag::Array => {
                    let object = node.tag == Tag::Object;
                    out.push(if object { '{' } else { '[' });
                    levels.push(Level { end: node.next, object, key });
                    first = true;
                }
                _ => {
                    scalar(key, value, out);
                    first = false;
                }
            }
            at += 1;
        }
    }
}

/// Appends a JSON string: quotes, backslash and control characters escaped, the rest as it is.
pub fn write_string(s: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    loop {
        let at = parse::special(s.as_bytes(), from);
        out.push_str(&s[from..at]);
        let Some(byte) = s.as_bytes().get(at) else { break };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => out.push_str(&format!("\\u{other:04x}")),
        }
        from = at + 1;
    }
    out.push('"');
}

/// Members of an object.
#[derive(Clone, Debug)]
pub struct Entries<'t> {
    of: Value<'t>,
    at: u32,
    end: u32,
}

impl<'t> Iterator for Entries<'t> {
    type Item = (&'t str, Value<'t>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let key = self.of.tape.string(self.of.text, self.at);
        let value = Value { at: self.at + 1, ..self.of };
        self.at = self.of.step(self.at + 1);
        Some((key, value))
    }
}

/// Items of an array.
#[derive(Clone, Debug)]
pub struct Items<'t> {
    of: Value<'t>,
    at: u32,
    end: u32,
}

impl<'t> Iterator for Items<'t> {
    type Item = Value<'t>;

    #[inline]
    fn next(&mut self) -> Option<Value<'t>> {
        if self.at >= self.end {
            return None;
        }
        let value = Value { at: self.at, ..self.of };
        self.at = self.of.step(self.at);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], want: &str) {
        let mut tape = Tape::default();
        let got = match tape.parse(input) {
            Ok(value) => value.to_json(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, want, "{}", String::from_utf8_lossy(input));
    }

    /// Each row repairs a fault of the row above, so that the order in which faults are found is pinned too.
    #[test]
    fn ladder() {
        for (input, want) in [
            (&b""[..], "json_empty at byte 0"),
            (b"\xff{", "json_utf8 at byte 0"),
            (b"\xef\xbb\xbf{}", "json_bom at byte 0"),
            (b"{", "json_truncated at byte 1"),
            (b"{\"a", "json_truncated at byte 3"),
            (b"{\"a\"", "json_truncated at byte 4"),
            (b"{'a':1}", "json_syntax at byte 1"),
            (b"{\"a\":01}", "json_number at byte 5"),
            (b"{\"a\":-}", "json_number at byte 5"),
            (b"{\"a\":1.}", "json_number at byte 5"),
            (b"{\"a\":1e}", "json_number at byte 5"),
            (b"{\"a\":NaN}", "json_syntax at byte 5"),
            (b"{\"a\":1,}", "json_syntax at byte 7"),
            (b"{\"a\":1 \"b\":2}", "json_syntax at byte 7"),
            (b"{\"a\":1,\"\\u0061\":2}", "json_duplicate_key at byte 7"),
            (b"{\"a\":1,\"b\":\"\\ud800\"}", "json_surrogate at byte 12"),
            (b"{\"a\":1,\"b\":\"\\x\"}", "json_escape at byte 12"),
            (b"{\"a\":1,\"b\":\"\x01\"}", "json_control at byte 12"),
            (b"{\"a\":1,\"b\":[true}", "json_syntax at byte 16"),
            (b"{\"a\":1,\"b\":[true]}}", "json_trailing at byte 18"),
            (b"{\"a\":1,\"b\":[true]} ", r#"{"a":1,"b":[true]}"#),
        ] {
            check(input, want);
        }
    }

    #[test]
    fn keeps_what_was_written() {
        let text = r#"{"big":1180591620717411303424,"odd":0.10,"exp":-1E+5,"empty":{},"none":[],"null":null,"deep":[[1],{"a":[]}]}"#;
        check(text.as_bytes(), text);
        check(b" { \"a\" : [ 1 , \"x\\u0041\\n\\ud83d\\ude00\" , { } ] } ", "{\"a\":[1,\"xA\\n😀\",{}]}");
    }

    #[test]
    fn depth_is_counted_before_it_hurts() {
        let nested = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(Tape::default().parse(&nested(64)).is_ok());
        for n in [65, 10_000, 1_000_000] {
            assert_eq!(Tape::default().parse(&nested(n)).unwrap_err().reason, "json_depth");
        }
    }

    #[test]
    fn duplicates_in_objects_of_any_size() {
        let object = |keys: usize, extra: &str| {
            let mut text: String = (0..keys).map(|i| format!("\"k{i}\":{i},")).collect();
            text.push_str(extra);
            format!("{{{text}}}")
        };
        let reason = |text: String| Tape::default().parse(text.as_bytes()).map(|_| ()).map_err(|e| e.reason);
        for keys in [1, 32, 33, 100_000] {
            assert_eq!(reason(object(keys, "\"x\":1")), Ok(()));
            assert_eq!(reason(object(keys, "\"k0\":1")), Err("json_duplicate_key"), "{keys}");
        }
        assert_eq!(reason(r#"{"a":{"x":1},"b":{"x":1}}"#.into()), Ok(()));
        assert_eq!(reason(r#"[{"a":{"x":1,"x":1}}]"#.into()), Err("json_duplicate_key"));
    }

    #[test]
    fn pointers() {
        let mut tape = Tape::default();
        let v = tape.parse(br#"{"a":[{"b/c":{"~":7}}],"":1}"#).unwrap();
        assert_eq!(v.pointer("/a/0/b~1c/~0").and_then(|v| v.as_i64()), Some(7));
        assert_eq!(v.pointer("").map(|v| v.kind()), Some(Kind::Object));
        assert!(v.pointer("/a/1").is_none());
        assert!(v.pointer("/a/x").is_none());
        assert!(v.pointer("/a/0/b~1c/~0/deeper").is_none());
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                proptest::collection::hash_map(".*", inner, 0..8)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn reads_what_serde_writes(json in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json).unwrap() } else { json.to_string() };
            let mut tape = Tape::default();
            let ours = tape.parse(text.as_bytes()).unwrap().to_json();
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).unwrap(), json);
        }

        /// Small edits of a valid document: accepted exactly when serde_json accepts it, duplicates and depth apart.
        #[test]
        fn agrees_with_serde_on_broken_text(json in any_json(), at: proptest::sample::Index, byte: u8, insert: bool) {
            let mut bytes = json.to_string().into_bytes();
            let i = at.index(bytes.len());
            if insert { bytes.insert(i, byte) } else { bytes[i] = byte }
            let ours = Tape::default().parse(&bytes).map(|_| ());
            let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() && std::str::from_utf8(&bytes).is_ok();
            match ours {
                Err(JsonError { reason: "json_duplicate_key" | "json_depth" | "json_surrogate", .. }) => {}
                other => proptest::prop_assert_eq!(other.is_ok(), theirs, "{}", String::from_utf8_lossy(&bytes)),
            }
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Tape::default().parse(&bytes);
        }
    }
}
