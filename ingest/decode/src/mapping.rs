//! Mapping files: what is what in records whose shape the producer leaves to its user.
//!
//! Guarantees: a mapping is data, never code; a mistake in one is refused when it is read, with the line, the key and the
//! nearest known key, never discovered while decoding. A field takes the first of its alternatives that the record has.
//! What a mapping does not point at stays in `extra`. Pointers are split when the file is read, so that following one is a
//! walk over the tape. `mappings/README.md` shows the form, beside the mappings that ship.

use crate::Format;
use crate::json::{Kind, Value};
use catena_schemas::event::{Basis, Outcome, Phase};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a mapping file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapping `{mapping}`, line {line}: {problem}")]
pub struct MappingError {
    /// Name of the file.
    pub mapping: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it, naming the key.
    pub problem: String,
}

macro_rules! slots {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// What a mapping can fill.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Slot { $($variant),+ }
        impl Slot {
            pub(crate) const ALL: &[Slot] = &[$(Slot::$variant),+];
            pub(crate) const fn name(self) -> &'static str { match self { $(Slot::$variant => $name),+ } }
            fn parse(name: &str) -> Option<Slot> { match name { $($name => Some(Slot::$variant),)+ _ => None } }
        }
    };
}

slots! {
    Id "id", Time "time",
    SourceInstance "source.instance", SourceRecord "source.record",
    PolicyEngine "decision.policy.engine", PolicyId "decision.policy.id", PolicyVersion "decision.policy.version",
    PolicyDigest "decision.policy.digest", Rules "decision.policy.rules", Reasons "decision.reasons",
    Obligations "decision.obligations", Challenge "decision.challenge",
    RequesterId "requester.id", RequesterIssuer "requester.issuer", RequesterKind "requester.kind", RequesterEmail "requester.email",
    RequesterRoles "requester.roles",
    ActorsId "actors.id", ActorsAct "actors.act", ActorsList "actors.list", ActorsDeclared "actors.declared", ActorsKind "actors.kind",
    SessionId "session.id", SessionRun "session.run", SessionConversation "session.conversation", SessionMcp "session.mcp",
    SessionTask "session.task",
    ServerId "server.id", ServerName "server.name",
    ToolName "tool.name", ToolAction "tool.action", ToolDataClass "tool.data_class",
    Protocol "call.protocol", ProtocolVersion "call.protocol_version", Method "call.method", JsonrpcId "call.jsonrpc_id",
    JsonrpcError "call.jsonrpc_error", HttpMethod "call.http.method", HttpHost "call.http.host", HttpPath "call.http.path",
    HttpStatus "call.http.status", Params "call.params", Resources "call.resources", Destination "call.destination",
    TokenReference "token.ref", TokenProof "token.proof", TokenClaims "token.claims", TokenScope "token.scope",
    GrantId "grant.id",
    ParentDecision "links.parent_decision", ParentOrigin "links.parent_origin", Trace "links.trace", Span "links.span",
    ParentSpan "links.parent_span", HttpTrace "links.http_trace", Request "links.request", Traceparent "links.traceparent",
    Ip "network.ip", UserAgent "network.user_agent", Spiffe "network.spiffe",
    EnvoyDetails "envoy.response_code_details", EnvoyFlags "envoy.response_flags", EnvoyEffect "envoy.effect",
    EnvoyRbac "envoy.rbac_result", EnvoyRbacPolicy "envoy.rbac_policy",
    StepUp "cerbos.step_up", Reason "cerbos.reason",
}

/// Which part of a record a pointer starts from: only Cerbos records have more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Record,
    Input,
    Output,
    /// The value of one rule output.
    Val,
}

/// The parts of a record that pointers start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roots<'t> {
    pub(crate) record: Value<'t>,
    pub(crate) input: Option<Value<'t>>,
    pub(crate) output: Option<Value<'t>>,
    pub(crate) val: Option<Value<'t>>,
}

impl<'t> Roots<'t> {
    pub(crate) fn record(record: Value<'t>) -> Roots<'t> {
        Roots { record, input: None, output: None, val: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    /// A number: an item of an array, or a member so named.
    Item(usize, String),
    /// `*`: the first member or item, whatever its name.
    First,
}

/// An RFC 6901 pointer, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    root: Root,
    steps: Box<[Step]>,
}

impl Pointer {
    fn parse(text: &str, format: Format) -> Result<Pointer, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not a pointer: it must start with `/`"));
        }
        let mut steps: Vec<Step> = text
            .split('/')
            .skip(1)
            .map(|token| match token.parse() {
                _ if token == "*" => Step::First,
                Ok(n) => Step::Item(n, token.to_owned()),
                Err(_) => Step::Member(token.replace("~1", "/").replace("~0", "~")),
            })
            .collect();
        let mut root = Root::Record;
        if format == Format::Cerbos {
            root = match steps.remove(0) {
                Step::Member(name) if name == "record" => Root::Record,
                Step::Member(name) if name == "input" => Root::Input,
                Step::Member(name) if name == "output" => Root::Output,
                Step::Member(name) if name == "val" => Root::Val,
                _ => return Err(format!("`{text}` starts at none of `/record`, `/input`, `/output`, `/val`")),
            };
        }
        Ok(Pointer { root, steps: steps.into() })
    }

    pub(crate) fn follow<'t>(&self, roots: &Roots<'t>) -> Option<Value<'t>> {
        let value = match self.root {
            Root::Record => roots.record,
            Root::Input => roots.input?,
            Root::Output => roots.output?,
            Root::Val => roots.val?,
        };
        self.from(value)
    }

    pub(crate) fn from<'t>(&self, mut value: Value<'t>) -> Option<Value<'t>> {
        for step in &self.steps {
            value = match (step, value.kind()) {
                (Step::Member(name) | Step::Item(_, name), Kind::Object) => value.get(name)?,
                (Step::Item(n, _), Kind::Array) => value.items().nth(*n)?,
                (Step::First, Kind::Object) => value.entries().next()?.1,
                (Step::First, Kind::Array) => value.items().next()?,
                _ => return None,
            };
        }
        Some(value)
    }
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Equals(Vec<String>),
    Starts(String),
    Is(Vec<Kind>),
    /// A scalar that the table of outcomes knows.
    Outcome,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pointer: Pointer,
    test: Test,
}

impl Condition {
    fn holds(&self, roots: &Roots<'_>, outcomes: &OutcomeRule) -> bool {
        let Some(v) = self.pointer.follow(roots) else { return false };
        match &self.test {
            Test::Exists => !v.is_null(),
            Test::Equals(texts) => v.as_scalar().is_some_and(|s| texts.iter().any(|t| t == s)),
            Test::Starts(text) => v.as_str().is_some_and(|s| s.starts_with(text.as_str())),
            Test::Is(kinds) => kinds.contains(&v.kind()),
            Test::Outcome => v.as_str().is_some_and(|s| outcomes.values.contains_key(s)),
        }
    }
}

/// Where the content of a field comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Pointer(Pointer),
    Constant(String),
}

/// One way to fill a field.
#[derive(Clone, Debug)]
pub(crate) struct Alternative {
    pub(crate) from: Origin,
    pub(crate) prefix: String,
    pub(crate) split: Option<String>,
    pub(crate) each: Option<Pointer>,
    when: Option<Condition>,
    unless: Option<Condition>,
}

impl Alternative {
    /// Whether it may be used on this record.
    pub(crate) fn applies(&self, roots: &Roots<'_>, outcomes: &OutcomeRule) -> bool {
        self.when.as_ref().is_none_or(|c| c.holds(roots, outcomes))
            && !self.unless.as_ref().is_some_and(|c| c.holds(roots, outcomes))
    }
}

/// How the outcome is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutcomeRule {
    from: Vec<Pointer>,
    values: BTreeMap<String, Outcome>,
    pub(crate) basis: Option<Basis>,
}

impl OutcomeRule {
    /// The first value that the table knows.
    pub(crate) fn read<'t>(&self, roots: &Roots<'t>) -> Option<(Outcome, Value<'t>)> {
        self.from.iter().filter_map(|p| p.follow(roots)).find_map(|v| Some((self.word(v.as_scalar()?)?, v)))
    }

    /// What a word means.
    pub(crate) fn word(&self, word: &str) -> Option<Outcome> {
        self.values.get(word).copied()
    }
}

/// One mapping.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) name: String,
    pub(crate) format: Format,
    /// Whether it is tried without being asked for.
    automatic: bool,
    any: Vec<Condition>,
    all: Vec<Condition>,
    pub(crate) outcome: OutcomeRule,
    pub(crate) phase: Option<Phase>,
    pub(crate) fields: Vec<(Slot, Vec<Alternative>)>,
    /// What is left out of `extra`.
    pub(crate) drop: Vec<Pointer>,
}

impl Mapping {
    pub(crate) fn matches(&self, roots: &Roots<'_>) -> bool {
        (self.any.is_empty() || self.any.iter().any(|c| c.holds(roots, &self.outcome)))
            && self.all.iter().all(|c| c.holds(roots, &self.outcome))
    }

    pub(crate) fn field(&self, slot: Slot) -> &[Alternative] {
        match self.fields.binary_search_by_key(&slot, |f| f.0) {
            Ok(at) => &self.fields[at].1,
            Err(_) => &[],
        }
    }
}

/// Mappings in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Mappings {
    list: Vec<Mapping>,
}

/// Those that ship, in order. Later ones may extend earlier ones.
const SHIPPED: &[(&str, &str)] = &[
    ("opa-gateway", include_str!("../mappings/opa-gateway.toml")),
    ("opa-boolean", include_str!("../mappings/opa-boolean.toml")),
    ("opa-query", include_str!("../mappings/opa-query.toml")),
    ("cerbos-mcp", include_str!("../mappings/cerbos-mcp.toml")),
    ("envoy-mcp", include_str!("../mappings/envoy-mcp.toml")),
];

static SHIPPED_PARSED: LazyLock<Arc<Mappings>> = LazyLock::new(|| {
    let mut list = Vec::new();
    for (name, text) in SHIPPED {
        let mapping = parse(text, name, &list).unwrap_or_else(|e| panic!("a shipped mapping is refused: {e}"));
        list.push(mapping);
    }
    Arc::new(Mappings { list })
});

impl Mappings {
    /// Those that ship.
    pub fn shipped() -> Arc<Mappings> {
        SHIPPED_PARSED.clone()
    }

    /// These, with one more that is tried before them. `name` is the file's, for messages, and the mapping's own unless it
    /// gives itself one.
    pub fn with(&self, text: &str, name: &str) -> Result<Mappings, MappingError> {
        let mapping = parse(text, name, &self.list)?;
        let mut list = self.list.clone();
        list.retain(|m| m.name != mapping.name);
        list.insert(0, mapping);
        Ok(Mappings { list })
    }

    /// These, with the named one tried first; how mappings that are not automatic are switched on.
    pub fn prefer(&self, name: &str) -> Result<Mappings, MappingError> {
        let Some(at) = self.list.iter().position(|m| m.name == name) else {
            let near = nearest(name, self.list.iter().map(|m| m.name.as_str()));
            return Err(MappingError {
                mapping: name.to_owned(),
                line: 0,
                problem: format!("there is no mapping of this name{near}"),
            });
        };
        let mut list = self.list.clone();
        let mut mapping = list.remove(at);
        mapping.automatic = true;
        list.insert(0, mapping);
        Ok(Mappings { list })
    }

    /// Names and formats, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, Format)> {
        self.list.iter().map(|m| (m.name.as_str(), m.format))
    }

    /// The first of a format whose conditions hold.
    pub(crate) fn choose(&self, format: Format, roots: &Roots<'_>) -> Option<&Mapping> {
        self.list.iter().find(|m| m.format == format && m.automatic && m.matches(roots))
    }
}

/// Reads one file.
fn parse(text: &str, file: &str, known: &[Mapping]) -> Result<Mapping, MappingError> {
    let reader = Reader { text, file };
    let root = DeTable::parse(text).map_err(|e| reader.error(e.span().unwrap_or_default(), e.message().to_owned()))?;
    let root = root.get_ref();
    let mut mapping = Mapping {
        name: file.to_owned(),
        format: Format::Auto,
        automatic: true,
        any: Vec::new(),
        all: Vec::new(),
        outcome: OutcomeRule::default(),
        phase: None,
        fields: Vec::new(),
        drop: Vec::new(),
    };
    const KEYS: &[&str] = &["name", "format", "extends", "automatic", "phase", "drop", "when", "outcome", "fields"];
    reader.known(root, KEYS)?;
    if let Some(v) = root.get("extends") {
        let base = reader.string(v, "extends")?;
        let Some(found) = known.iter().find(|m| m.name == base) else {
            let near = nearest(base, known.iter().map(|m| m.name.as_str()));
            return reader.fail(v, format!("`extends` names no mapping: `{base}`{near}"));
        };
        mapping = Mapping { name: file.to_owned(), automatic: true, any: Vec::new(), all: Vec::new(), ..found.clone() };
    }
    if let Some(v) = root.get("name") {
        mapping.name = reader.string(v, "name")?.to_owned();
    }
    match root.get("format") {
        Some(v) => {
            let word = reader.string(v, "format")?;
            mapping.format = match Format::parse(word) {
                Some(f @ (Format::Opa | Format::Cerbos | Format::Envoy)) => f,
                _ => return reader.fail(v, format!("`format` is one of `opa`, `cerbos`, `envoy`, not `{word}`")),
            };
        }
        None if mapping.format == Format::Auto => return Err(reader.error(0..0, "`format` is required".into())),
        None => {}
    }
    if let Some(v) = root.get("automatic") {
        mapping.automatic =
            v.get_ref().as_bool().ok_or_else(|| reader.error(v.span(), "`automatic` is true or false".into()))?;
    }
    if let Some(v) = root.get("phase") {
        let word = reader.string(v, "phase")?;
        mapping.phase = Some(reader.word(v, "phase", word, Phase::parse, Phase::ALL.iter().map(|p| p.as_str()))?);
    }
    if let Some(v) = root.get("drop") {
        mapping.drop = reader.pointers(v, "drop", mapping.format)?;
    }
    if let Some(v) = root.get("outcome") {
        mapping.outcome = reader.outcome(v, mapping.format)?;
    }
    if let Some(v) = root.get("when") {
        let table = reader.table(v, "when")?;
        reader.known(table, &["any", "all"])?;
        for (key, into) in [("any", &mut mapping.any), ("all", &mut mapping.all)] {
            if let Some(v) = table.get(key) {
                let list = v
                    .get_ref()
                    .as_array()
                    .ok_or_else(|| reader.error(v.span(), format!("`when.{key}` is a list of conditions")))?;
                *into = list.iter().map(|c| reader.condition(c, mapping.format)).collect::<Result<_, _>>()?;
            }
        }
    }
    if let Some(v) = root.get("fields") {
        reader.fields(reader.table(v, "fields")?, "", &mut mapping)?;
    }
    mapping.fields.sort_by_key(|f| f.0);
    Ok(mapping)
}

struct Reader<'r> {
    text: &'r str,
    file: &'r str,
}

type Entry<'v, 'i> = &'v Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn error(&self, span: Range<usize>, problem: String) -> MappingError {
        let line = self.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
        MappingError { mapping: self.file.to_owned(), line, problem }
    }

    fn fail<T>(&self, at: Entry<'_, '_>, problem: String) -> Result<T, MappingError> {
        Err(self.error(at.span(), problem))
    }

    fn known(&self, table: &DeTable<'_>, keys: &[&str]) -> Result<(), MappingError> {
        match table.iter().find(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some((key, _)) => {
                let near = nearest(key.get_ref(), keys.iter().copied());
                Err(self.error(key.span(), format!("unknown key `{}`{near}", key.get_ref())))
            }
        }
    }

    fn string<'v>(&self, v: Entry<'v, '_>, key: &str) -> Result<&'v str, MappingError> {
        v.get_ref()
            .as_str()
            .ok_or_else(|| self.error(v.span(), format!("`{key}` is text, not {}", v.get_ref().type_str())))
    }

    fn table<'v, 'i>(&self, v: Entry<'v, 'i>, key: &str) -> Result<&'v DeTable<'i>, MappingError> {
        v.get_ref()
            .as_table()
            .ok_or_else(|| self.error(v.span(), format!("`{key}` is a table, not {}", v.get_ref().type_str())))
    }

    fn word<'w, T>(
        &self,
        v: Entry<'_, '_>,
        key: &str,
        word: &str,
        parse: impl Fn(&str) -> Option<T>,
        known: impl Iterator<Item = &'w str>,
    ) -> Result<T, MappingError> {
        match parse(word) {
            Some(value) => Ok(value),
            None => self.fail(v, format!("`{key}` does not know `{word}`{}", nearest(word, known))),
        }
    }

    /// One text, or a list of them.
    fn strings(&self, v: Entry<'_, '_>, key: &str) -> Result<Vec<String>, MappingError> {
        match v.get_ref() {
            DeValue::Array(list) => list.iter().map(|i| self.scalar(i, key)).collect(),
            _ => Ok(vec![self.scalar(v, key)?]),
        }
    }

    fn scalar(&self, v: Entry<'_, '_>, key: &str) -> Result<String, MappingError> {
        match v.get_ref() {
            DeValue::String(s) => Ok(s.to_string()),
            DeValue::Boolean(b) => Ok(b.to_string()),
            DeValue::Integer(n) => Ok(n.as_str().to_owned()),
            other => self.fail(v, format!("`{key}` is text, not {}", other.type_str())),
        }
    }

    fn pointer(&self, v: Entry<'_, '_>, key: &str, format: Format) -> Result<Pointer, MappingError> {
        Pointer::parse(self.string(v, key)?, format)
            .map_err(|problem| self.error(v.span(), format!("`{key}`: {problem}")))
    }

    fn pointers(&self, v: Entry<'_, '_>, key: &str, format: Format) -> Result<Vec<Pointer>, MappingError> {
        match v.get_ref() {
            DeValue::Array(list) => list.iter().map(|i| self.pointer(i, key, format)).collect(),
            _ => Ok(vec![self.pointer(v, key, format)?]),
        }
    }

    fn outcome(&self, v: Entry<'_, '_>, format: Format) -> Result<OutcomeRule, MappingError> {
        let table = self.table(v, "outcome")?;
        self.known(table, &["from", "basis", "values"])?;
        let mut rule = OutcomeRule::default();
        if let Some(v) = table.get("from") {
            rule.from = self.pointers(v, "outcome.from", format)?;
        }
        if let Some(v) = table.get("basis") {
            let word = self.string(v, "outcome.basis")?;
            rule.basis =
                Some(self.word(v, "outcome.basis", word, Basis::parse, Basis::ALL.iter().map(|b| b.as_str()))?);
        }
        if let Some(v) = table.get("values") {
            let table = self.table(v, "outcome.values")?;
            let words: Vec<_> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
            self.known(table, &words)?;
            for (key, v) in table {
                let outcome = Outcome::parse(key.get_ref()).expect("the keys have been checked");
                for word in self.strings(v, &format!("outcome.values.{}", key.get_ref()))? {
                    if let Some(other) = rule.values.insert(word.clone(), outcome)
                        && other != outcome
                    {
                        return self.fail(
                            v,
                            format!("`{word}` is listed under `{}` and under `{}`", other.as_str(), outcome.as_str()),
                        );
                    }
                }
            }
        }
        Ok(rule)
    }

    fn condition(&self, v: Entry<'_, '_>, format: Format) -> Result<Condition, MappingError> {
        let table = self.table(v, "condition")?;
        const TESTS: &[&str] = &["exists", "equals", "starts", "is", "in"];
        self.known(table, &["pointer", "exists", "equals", "starts", "is", "in"])?;
        let Some(pointer) = table.get("pointer") else { return self.fail(v, "a condition needs a `pointer`".into()) };
        let pointer = self.pointer(pointer, "pointer", format)?;
        let mut tests = TESTS.iter().filter_map(|t| Some((*t, table.get(*t)?)));
        let (Some((name, value)), None) = (tests.next(), tests.next()) else {
            return self.fail(v, "a condition has exactly one of `exists`, `equals`, `starts`, `is`, `in`".into());
        };
        let test = match name {
            "exists" if value.get_ref().as_bool() == Some(true) => Test::Exists,
            "exists" => return self.fail(value, "`exists` is `true`; for the contrary use `unless`".into()),
            "equals" => Test::Equals(self.strings(value, "equals")?),
            "starts" => Test::Starts(self.string(value, "starts")?.to_owned()),
            "is" => {
                let kinds = [
                    ("null", Kind::Null),
                    ("boolean", Kind::Bool),
                    ("number", Kind::Number),
                    ("string", Kind::String),
                    ("array", Kind::Array),
                    ("object", Kind::Object),
                ];
                let words = self.strings(value, "is")?;
                let find = |w: &str| kinds.iter().find(|k| k.0 == w).map(|k| k.1);
                Test::Is(
                    words
                        .iter()
                        .map(|w| self.word(value, "is", w, find, kinds.iter().map(|k| k.0)))
                        .collect::<Result<_, _>>()?,
                )
            }
            _ => match self.string(value, "in")? {
                "outcome" => Test::Outcome,
                other => return self.fail(value, format!("`in` knows only the table `outcome`, not `{other}`")),
            },
        };
        Ok(Condition { pointer, test })
    }

    fn fields(&self, table: &DeTable<'_>, prefix: &str, mapping: &mut Mapping) -> Result<(), MappingError> {
        for (key, v) in table {
            let name =
                if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            let Some(slot) = Slot::parse(&name) else {
                let inner = format!("{name}.");
                match v.get_ref().as_table() {
                    Some(table) if Slot::ALL.iter().any(|s| s.name().starts_with(&inner)) => {
                        self.fields(table, &name, mapping)?
                    }
                    _ => {
                        let near = nearest(&name, Slot::ALL.iter().map(|s| s.name()));
                        return Err(self.error(key.span(), format!("unknown field `{name}`{near}")));
                    }
                }
                continue;
            };
            mapping.fields.retain(|f| f.0 != slot);
            let alternatives = match v.get_ref() {
                // Takes back what an extended mapping says.
                DeValue::Boolean(false) => continue,
                DeValue::Array(list) => {
                    list.iter().map(|a| self.alternative(a, &name, mapping.format)).collect::<Result<_, _>>()?
                }
                _ => vec![self.alternative(v, &name, mapping.format)?],
            };
            mapping.fields.push((slot, alternatives));
        }
        Ok(())
    }

    fn alternative(&self, v: Entry<'_, '_>, name: &str, format: Format) -> Result<Alternative, MappingError> {
        let plain =
            |from| Alternative { from, prefix: String::new(), split: None, each: None, when: None, unless: None };
        let Some(table) = v.get_ref().as_table() else {
            return Ok(plain(Origin::Pointer(self.pointer(v, name, format)?)));
        };
        self.known(table, &["pointer", "value", "prefix", "split", "each", "when", "unless"])?;
        let from = match (table.get("pointer"), table.get("value")) {
            (Some(p), None) => Origin::Pointer(self.pointer(p, name, format)?),
            (None, Some(c)) => Origin::Constant(self.scalar(c, name)?),
            _ => return self.fail(v, format!("`{name}` needs either a `pointer` or a `value`")),
        };
        let text = |key: &str| table.get(key).map(|v| self.string(v, key).map(str::to_owned)).transpose();
        let condition = |key: &str| table.get(key).map(|v| self.condition(v, format)).transpose();
        Ok(Alternative {
            prefix: text("prefix")?.unwrap_or_default(),
            split: text("split")?.filter(|s| !s.is_empty()),
            // Relative to each item, so it has no root of its own.
            each: table.get("each").map(|v| self.pointer(v, "each", Format::Opa)).transpose()?,
            when: condition("when")?,
            unless: condition("unless")?,
            ..plain(from)
        })
    }
}

/// `, the nearest known one is ...`, or nothing when none is near.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let best = known.map(|k| (distance(word, k), k)).min();
    match best {
        Some((d, k)) if d <= 1 + word.len().max(k.len()) / 3 => format!(", the nearest known one is `{k}`"),
        _ => String::new(),
    }
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
