//! Reads `.proto` text into the tables that the wire format is read by.
//!
//! Guarantees: a schema is refused with its line when it is read, never discovered while decoding; nothing panics and
//! nothing recurses beyond [`NESTING_MAX`], whatever the text, because schemas also come from registries. Options, services and
//! extensions are skipped: they do not change what bytes mean. Groups do, and are refused.
//!
//! Why our own: a schema is needed for its field numbers, types and names alone, which is a page of grammar; the libraries for it
//! bring a compiler with diagnostics and take half a minute of every clean build.

use super::descriptor;
use std::collections::HashMap;

/// Messages within messages.
pub(super) const NESTING_MAX: usize = 32;
/// Bytes of one text.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;

/// Why a schema was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`, line {line}: {problem}")]
pub struct SchemaError {
    /// The text's name.
    pub file: String,
    /// Line, from 1; 0 when it is about the whole.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// A type on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    /// Bytes that JSON has in hex; our own option, for OTLP.
    Hex,
    Message(usize),
    Enum(usize),
}

impl Kind {
    fn scalar(name: &str) -> Option<Kind> {
        Some(match name {
            "double" => Kind::Double,
            "float" => Kind::Float,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "uint32" => Kind::Uint32,
            "uint64" => Kind::Uint64,
            "sint32" => Kind::Sint32,
            "sint64" => Kind::Sint64,
            "fixed32" => Kind::Fixed32,
            "fixed64" => Kind::Fixed64,
            "sfixed32" => Kind::Sfixed32,
            "sfixed64" => Kind::Sfixed64,
            "bool" => Kind::Bool,
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            _ => return None,
        })
    }
}

/// One field of a message.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Its name in JSON.
    pub(crate) json: String,
    pub(crate) kind: Kind,
    pub(crate) repeated: bool,
    /// The type of its keys, when it is a map; `kind` is that of its values.
    pub(crate) key: Option<Kind>,
    /// Number of its `oneof` within the message.
    pub(crate) one_of: Option<usize>,
}

/// One message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// Its full name.
    pub(crate) name: String,
    /// By number.
    pub(crate) fields: Vec<Field>,
    /// Messages declared inside, in order.
    nested: Vec<usize>,
}

impl Message {
    /// Where a field of this number stands.
    pub(crate) fn position(&self, number: u32) -> Option<usize> {
        self.fields.binary_search_by_key(&number, |f| f.number).ok()
    }
}

/// Messages and enumerations of one text and of those it imports.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(crate) messages: Vec<Message>,
    /// Names by number.
    pub(crate) enums: Vec<HashMap<i32, String>>,
    /// By full name.
    names: HashMap<String, Kind>,
    /// Messages at the top of the main text, in order.
    top: Vec<usize>,
}

const WELL_KNOWN: &str = include_str!("../../schemas/well_known.proto");

impl Schema {
    /// Reads a text, or the base64 of the descriptor that was made of one. `imports` are the texts it refers to, with their names; the
    /// types of `google/protobuf` need not be given.
    pub fn parse(text: &str, imports: &[(&str, &str)]) -> Result<Schema, SchemaError> {
        let mut schema = Schema::default();
        let mut waiting = Vec::new();
        let own = [("google/protobuf", WELL_KNOWN)];
        for (file, text) in own.iter().chain(imports.iter().filter(|i| !i.0.starts_with("google/protobuf/"))) {
            let described = descriptor::text(text);
            Parser::new(file, described.as_deref().unwrap_or(text), &mut schema, &mut waiting)?.file()?;
        }
        let described = descriptor::text(text);
        schema.top = Parser::new("schema", described.as_deref().unwrap_or(text), &mut schema, &mut waiting)?.file()?;
        for open in waiting {
            let kind = schema.resolve(&open.scope, &open.type_name).ok_or_else(|| SchemaError {
                file: open.file.clone(),
                line: open.line,
                problem: format!("there is no type `{}`", open.type_name),
            })?;
            let field = schema.messages[open.message].fields.iter_mut().find(|f| f.number == open.number);
            field.expect("it was put there with its number").kind = kind;
        }
        Ok(schema)
    }

    /// A message by its full name.
    pub fn message(&self, name: &str) -> Option<MessageId> {
        match self.names.get(name) {
            Some(Kind::Message(at)) => Some(MessageId(*at)),
            _ => None,
        }
    }

    /// A message of the main text by the path that registries write before it: which at the top, which of those inside ...
    pub fn message_at(&self, path: &[usize]) -> Option<MessageId> {
        let (first, rest) = path.split_first()?;
        let mut at = *self.top.get(*first)?;
        for step in rest {
            at = *self.messages[at].nested.get(*step)?;
        }
        Some(MessageId(at))
    }

    /// The type of a name as it is seen from a message: the innermost that fits.
    fn resolve(&self, scope: &str, name: &str) -> Option<Kind> {
        if let Some(full) = name.strip_prefix('.') {
            return self.names.get(full).copied();
        }
        let mut scope = scope;
        loop {
            let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
            if let Some(kind) = self.names.get(&full) {
                return Some(*kind);
            }
            if scope.is_empty() {
                return None;
            }
            scope = scope.rsplit_once('.').map_or("", |s| s.0);
        }
    }
}

/// A message of one schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(pub(crate) usize);

/// A field whose type is a name, to be looked up when all names are known.
struct Open {
    file: String,
    line: usize,
    message: usize,
    number: u32,
    scope: String,
    type_name: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Token<'t> {
    /// A name, dots included, or a number.
    Word(&'t str),
    Text(&'t str),
    Symbol(char),
}

struct Parser<'p> {
    file: &'p str,
    tokens: Vec<(Token<'p>, usize)>,
    at: usize,
    schema: &'p mut Schema,
    waiting: &'p mut Vec<Open>,
    package: String,
}

fn tokens<'t>(file: &str, text: &'t str) -> Result<Vec<(Token<'t>, usize)>, SchemaError> {
    let fail = |line, problem: &str| SchemaError { file: file.to_owned(), line, problem: problem.to_owned() };
    if text.len() > TEXT_BYTES_MAX {
        return Err(fail(0, "the text is too long"));
    }
    let (bytes, mut at, mut line, mut found) = (text.as_bytes(), 0, 1, Vec::new());
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'+');
    while at < bytes.len() {
        let (start, first) = (at, bytes[at]);
        match (first, bytes.get(at + 1)) {
            (b'/', Some(b'/')) => at = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n),
            (b'/', Some(b'*')) => {
                let end =
                    memchr::memmem::find(&bytes[at + 2..], b"*/").ok_or_else(|| fail(line, "a comment without end"))?;
                at += end + 4;
                line += bytes[start..at].iter().filter(|b| **b == b'\n').count();
            }
            (b'"' | b'\'', _) => {
                at += 1;
                while at < bytes.len() && bytes[at] != first && bytes[at] != b'\n' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if bytes.get(at) != Some(&first) {
                    return Err(fail(line, "a string without end"));
                }
                found.push((Token::Text(&text[start + 1..at]), line));
                at += 1;
            }
            (b'\n', _) => {
                line += 1;
                at += 1;
            }
            _ if first.is_ascii_whitespace() => at += 1,
            _ if word(first) => {
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
                found.push((Token::Word(&text[start..at]), line));
            }
            _ if first.is_ascii_punctuation() => {
                found.push((Token::Symbol(first as char), line));
                at += 1;
            }
            _ => return Err(fail(line, "a character that no schema has")),
        }
    }
    Ok(found)
}

impl<'p> Parser<'p> {
    fn new(
        file: &'p str,
        text: &'p str,
        schema: &'p mut Schema,
        waiting: &'p mut Vec<Open>,
    ) -> Result<Parser<'p>, SchemaError> {
        Ok(Parser { file, tokens: tokens(file, text)?, at: 0, schema, waiting, package: String::new() })
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, SchemaError> {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |t| t.1);
        Err(SchemaError { file: self.file.to_owned(), line, problem: problem.into() })
    }

    fn next(&mut self) -> Option<Token<'p>> {
        let token = self.tokens.get(self.at)?.0.clone();
        self.at += 1;
        Some(token)
    }

    fn word(&mut self) -> Result<&'p str, SchemaError> {
        match self.tokens.get(self.at) {
            Some((Token::Word(word), _)) => {
                self.at += 1;
                Ok(word)
            }
            _ => self.fail("a name is missing"),
        }
    }

    fn take(&mut self, symbol: char) -> bool {
        let there = self.tokens.get(self.at).is_some_and(|t| t.0 == Token::Symbol(symbol));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, symbol: char) -> Result<(), SchemaError> {
        if self.take(symbol) { Ok(()) } else { self.fail(format!("`{symbol}` is missing")) }
    }

    /// Past the end of a statement: its `;`, or the block it ends in.
    fn skip(&mut self) -> Result<(), SchemaError> {
        let mut depth = 0usize;
        while let Some(token) = self.next() {
            match token {
                Token::Symbol('{' | '[' | '(') => depth += 1,
                Token::Symbol('}') if depth <= 1 => {
                    // An aggregate value goes on to its `;`.
                    self.take(';');
                    return Ok(());
                }
                Token::Symbol('}' | ']' | ')') => depth = depth.saturating_sub(1),
                Token::Symbol(';') if depth == 0 => return Ok(()),
                _ => {}
            }
        }
        self.fail("a statement without end")
    }

    /// Reads a whole text; the messages at its top.
    fn file(mut self) -> Result<Vec<usize>, SchemaError> {
        let mut top = Vec::new();
        while self.at < self.tokens.len() {
            if self.take(';') {
                continue;
            }
            match self.word()? {
                "package" => {
                    self.package = self.word()?.to_owned();
                    self.expect(';')?;
                }
                "message" => {
                    let package = self.package.clone();
                    top.push(self.message(&package, 0)?);
                }
                "enum" => {
                    let package = self.package.clone();
                    self.enumeration(&package)?;
                }
                "syntax" | "edition" | "import" | "option" | "service" | "extend" => self.skip()?,
                other => return self.fail(format!("`{other}` is not expected here")),
            }
        }
        Ok(top)
    }

    fn declare(&mut self, scope: &str, kind: Kind) -> Result<String, SchemaError> {
        let name = self.word()?;
        let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        if self.schema.names.insert(full.clone(), kind).is_some() {
            return self.fail(format!("`{full}` is declared twice"));
        }
        Ok(full)
    }

    fn enumeration(&mut self, scope: &str) -> Result<(), SchemaError> {
        self.declare(scope, Kind::Enum(self.schema.enums.len()))?;
        self.expect('{')?;
        let mut names = HashMap::new();
        while !self.take('}') {
            if self.take(';') {
                continue;
            }
            let name = self.word()?;
            if matches!(name, "option" | "reserved")
                && self.tokens.get(self.at).is_none_or(|t| t.0 != Token::Symbol('='))
            {
                self.skip()?;
                continue;
            }
            self.expect('=')?;
            let Some(number) = integer(self.word()?) else { return self.fail("a number is missing") };
            // Of aliases the first is the one that JSON has.
            names.entry(number as i32).or_insert_with(|| name.to_owned());
            self.skip()?;
        }
        self.schema.enums.push(names);
        Ok(())
    }

    fn message(&mut self, scope: &str, depth: usize) -> Result<usize, SchemaError> {
        if depth > NESTING_MAX {
            return self.fail("messages are nested too deep");
        }
        let at = self.schema.messages.len();
        let name = self.declare(scope, Kind::Message(at))?;
        self.schema.messages.push(Message { name: name.clone(), ..Message::default() });
        self.expect('{')?;
        let mut one_ofs = 0;
        while !self.take('}') {
            if self.take(';') {
                continue;
            }
            let line = self.at;
            match self.word()? {
                "message" => {
                    let nested = self.message(&name, depth + 1)?;
                    self.schema.messages[at].nested.push(nested);
                }
                "enum" => self.enumeration(&name)?,
                "option" | "reserved" | "extensions" | "extend" => self.skip()?,
                "oneof" => {
                    self.word()?;
                    self.expect('{')?;
                    while !self.take('}') {
                        match self.word()? {
                            "option" => self.skip()?,
                            kind => self.field(at, kind, false, Some(one_ofs))?,
                        }
                    }
                    one_ofs += 1;
                }
                "map" if self.take('<') => self.map(at)?,
                "repeated" => {
                    let kind = self.word()?;
                    self.field(at, kind, true, None)?;
                }
                "optional" | "required" => {
                    let kind = self.word()?;
                    self.field(at, kind, false, None)?;
                }
                "group" => {
                    self.at = line;
                    return self.fail("groups are not supported");
                }
                kind => self.field(at, kind, false, None)?,
            }
        }
        self.schema.messages[at].fields.sort_by_key(|f| f.number);
        Ok(at)
    }

    fn map(&mut self, message: usize) -> Result<(), SchemaError> {
        let Some(key) = Kind::scalar(self.word()?) else { return self.fail("the keys of a map are scalars") };
        if matches!(key, Kind::Double | Kind::Float | Kind::Bytes) {
            return self.fail("the keys of a map are integers, booleans or strings");
        }
        self.expect(',')?;
        let kind = self.word()?;
        self.expect('>')?;
        self.field_of(message, kind, true, None, Some(key))
    }

    fn field(
        &mut self,
        message: usize,
        kind: &'p str,
        repeated: bool,
        one_of: Option<usize>,
    ) -> Result<(), SchemaError> {
        if kind == "group" {
            return self.fail("groups are not supported");
        }
        self.field_of(message, kind, repeated, one_of, None)
    }

    fn field_of(
        &mut self,
        message: usize,
        type_name: &str,
        repeated: bool,
        one_of: Option<usize>,
        key: Option<Kind>,
    ) -> Result<(), SchemaError> {
        let line = self.tokens.get(self.at).map_or(0, |t| t.1);
        let name = self.word()?;
        self.expect('=')?;
        let number = match integer(self.word()?) {
            Some(n @ 1..=536_870_911) => n as u32,
            _ => return self.fail(format!("`{name}` has no number that fields can have")),
        };
        let (json_name, hex) = self.options()?;
        self.expect(';')?;
        // A name is looked up when all are known; until then it stands for nothing.
        let kind = match Kind::scalar(type_name) {
            Some(Kind::Bytes) if hex => Kind::Hex,
            Some(kind) => kind,
            None => Kind::Message(usize::MAX),
        };
        let fields = &mut self.schema.messages[message].fields;
        if fields.iter().any(|f| f.number == number) {
            return self.fail(format!("the number {number} is used twice"));
        }
        let json = json_name.map_or_else(|| camel(name), str::to_owned);
        if fields.iter().any(|f| f.json == json) {
            return self.fail(format!("the name `{json}` is used twice"));
        }
        fields.push(Field { number, json, kind, repeated, key, one_of });
        if kind == Kind::Message(usize::MAX) {
            self.waiting.push(Open {
                file: self.file.to_owned(),
                line,
                message,
                number,
                scope: self.schema.messages[message].name.clone(),
                type_name: type_name.to_owned(),
            });
        }
        Ok(())
    }

    /// The options of a field: its name in JSON, and whether its bytes are hex there.
    fn options(&mut self) -> Result<(Option<&'p str>, bool), SchemaError> {
        let (mut json, mut hex) = (None, false);
        if !self.take('[') {
            return Ok((json, hex));
        }
        let mut depth = 1usize;
        while depth > 0 {
            match self.next() {
                Some(Token::Symbol('[' | '{' | '(')) => {
                    let is_hex = matches!(self.tokens.get(self.at), Some((Token::Word("hex"), _)));
                    hex |= depth == 1 && is_hex;
                    depth += 1;
                }
                Some(Token::Symbol(']' | '}' | ')')) => depth -= 1,
                Some(Token::Word("json_name")) if depth == 1 => {
                    self.expect('=')?;
                    match self.next() {
                        Some(Token::Text(text)) => json = Some(text),
                        _ => return self.fail("`json_name` is text"),
                    }
                }
                Some(_) => {}
                None => return self.fail("options without end"),
            }
        }
        Ok((json, hex))
    }
}

fn integer(word: &str) -> Option<i64> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |d| (-1, d));
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let read = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) => i64::from_str_radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => i64::from_str_radix(octal, 8),
        _ => digits.parse(),
    };
    read.ok().map(|n| n * sign)
}

/// `policy_source` is `policySource` in JSON.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if std::mem::take(&mut upper) => out.push(c.to_ascii_uppercase()),
            c => out.push(c),
        }
    }
    out
}
