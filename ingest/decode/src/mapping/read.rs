//! Reads a mapping file.
//!
//! Guarantee: what comes out has been checked whole: every key is known, every word is of its vocabulary, every pointer starts
//! where this mapping's pointers may. What does not is refused with its line and column.

use super::pointer::{Pointer, Start};
use super::rules::{Also, Aside, Condition, Cut, Fan, Guard, OutcomeRule, Pairing, Rule, Said, Test};
use super::{Alternative, Mapping, MappingError, Origin, Slot};
use crate::Format;
use crate::formats::declared::is_declared;
use crate::json::Kind;
use catena_schemas::event::{Basis, Enforced, Outcome, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads one file.
pub(super) fn parse(text: &str, file: &str, known: &[Mapping]) -> Result<Mapping, MappingError> {
    let reader = Reader { text, file };
    let root = DeTable::parse(text).map_err(|e| reader.error(e.span().unwrap_or_default(), e.message().to_owned()))?;
    let root = root.get_ref();
    let mut mapping = Mapping {
        name: file.to_owned(),
        format: Format::Auto,
        automatic: true,
        shipped: false,
        recognised: true,
        any: Vec::new(),
        all: Vec::new(),
        outcome: OutcomeRule::default(),
        phase: None,
        fields: Vec::new(),
        drop: Vec::new(),
        parse: Vec::new(),
        unescape: Vec::new(),
        fan: None,
        asides: Vec::new(),
    };
    const KEYS: &[&str] = &[
        "name",
        "format",
        "extends",
        "automatic",
        "recognised",
        "phase",
        "drop",
        "parse",
        "unescape",
        "each",
        "pair",
        "when",
        "aside",
        "outcome",
        "fields",
    ];
    reader.known(root, KEYS)?;
    if let Some(v) = root.get("extends") {
        let base = reader.string(v, "extends")?;
        let Some(found) = known.iter().find(|m| m.name == base) else {
            let near = nearest(base, known.iter().map(|m| m.name.as_str()));
            return reader.fail(v, format!("`extends` names no mapping: `{base}`{near}"));
        };
        mapping = Mapping {
            name: file.to_owned(),
            automatic: true,
            shipped: false,
            recognised: true,
            any: Vec::new(),
            all: Vec::new(),
            ..found.clone()
        };
    }
    if let Some(v) = root.get("name") {
        mapping.name = reader.string(v, "name")?.to_owned();
    }
    match root.get("format") {
        Some(v) => {
            let word = reader.string(v, "format")?;
            let formats = || {
                Format::ALL.iter().filter(|f| {
                    !matches!(f, Format::Auto | Format::Catena | Format::Mcp | Format::Authority | Format::Cloudevents)
                })
            };
            let Some(format) = formats().find(|f| f.as_str() == word) else {
                // Those for records of authority are read elsewhere, and named here.
                let all = formats().chain([&Format::Authority]);
                let names: Vec<_> = all.map(|f| format!("`{}`", f.as_str())).collect();
                return reader.fail(v, format!("`format` is one of {}, not `{word}`", names.join(", ")));
            };
            mapping.format = *format;
        }
        None if mapping.format == Format::Auto => return Err(reader.error(0..0, "`format` is required".into())),
        None => {}
    }
    // What only the decoder of declared producers follows would silently mean nothing elsewhere.
    for key in ["parse", "unescape", "each", "pair", "aside", "recognised"] {
        if let Some((key, _)) = root.iter().find(|(k, _)| k.get_ref() == key && !is_declared(mapping.format)) {
            let problem = format!("`{}` means nothing for `{}`", key.get_ref(), mapping.format.as_str());
            return Err(reader.error(key.span(), problem));
        }
    }
    let plain = |key: &str| root.get(key).map(|v| reader.pointers(v, key, Start::Plain)).transpose();
    if let Some(pointers) = plain("parse")? {
        mapping.parse = pointers;
    }
    if let Some(pointers) = plain("unescape")? {
        mapping.unescape = pointers;
    }
    if let Some(v) = root.get("each") {
        mapping.fan = Some(Fan { each: reader.pointer(v, "each", Start::Plain)?, pair: None });
    }
    if let Some(v) = root.get("pair") {
        let pair = reader.pair(v)?;
        let Some(fan) = &mut mapping.fan else { return reader.fail(v, "`pair` needs an `each` to pair with".into()) };
        fan.pair = Some(pair);
    }
    let start = Start::of(mapping.format, mapping.fan.is_some());
    for (key, into) in [("automatic", &mut mapping.automatic), ("recognised", &mut mapping.recognised)] {
        if let Some(v) = root.get(key) {
            let word = v.get_ref().as_bool();
            *into = word.ok_or_else(|| reader.error(v.span(), format!("`{key}` is true or false")))?;
        }
    }
    if let Some(v) = root.get("phase") {
        let word = reader.string(v, "phase")?;
        mapping.phase = Some(reader.word(v, "phase", word, Phase::parse, Phase::ALL.iter().map(|p| p.as_str()))?);
    }
    if let Some(v) = root.get("drop") {
        mapping.drop = reader.pointers(v, "drop", start)?;
    }
    if let Some(v) = root.get("outcome") {
        mapping.outcome = reader.outcome(v, mapping.format, start)?;
    }
    if let Some(v) = root.get("when") {
        let table = reader.table(v, "when")?;
        reader.known(table, &["any", "all"])?;
        for (key, into) in [("any", &mut mapping.any), ("all", &mut mapping.all)] {
            if let Some(v) = table.get(key) {
                if v.get_ref().as_array().is_none() {
                    return reader.fail(v, format!("`when.{key}` is a list of conditions"));
                }
                *into = reader.conditions(v, &format!("when.{key}"), start)?;
                if let Some(odd) = into.iter().find(|c| c.is_of_item()) {
                    return reader.fail(v, format!("`when` asks about the record, not about `{}`", odd.pointer));
                }
            }
        }
    }
    if let Some(v) = root.get("aside") {
        let Some(list) = v.get_ref().as_array() else {
            return reader.fail(v, "`aside` is a list of tables: `[[aside]]`".into());
        };
        mapping.asides = list.iter().map(|a| reader.aside(a, start)).collect::<Result<_, _>>()?;
    }
    if let Some(v) = root.get("fields") {
        reader.fields(reader.table(v, "fields")?, "", start, &mut mapping)?;
    }
    mapping.fields.sort_by_key(|f| f.0);
    Ok(mapping)
}

pub(super) struct Reader<'r> {
    pub(super) text: &'r str,
    pub(super) file: &'r str,
}

pub(super) type Entry<'v, 'i> = &'v Spanned<DeValue<'i>>;

impl Reader<'_> {
    pub(super) fn error(&self, span: Range<usize>, problem: String) -> MappingError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        MappingError { mapping: self.file.to_owned(), line, column, problem }
    }

    pub(super) fn fail<T>(&self, at: Entry<'_, '_>, problem: String) -> Result<T, MappingError> {
        Err(self.error(at.span(), problem))
    }

    pub(super) fn known(&self, table: &DeTable<'_>, keys: &[&str]) -> Result<(), MappingError> {
        match table.iter().find(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some((key, _)) => {
                let near = nearest(key.get_ref(), keys.iter().copied());
                Err(self.error(key.span(), format!("unknown key `{}`{near}", key.get_ref())))
            }
        }
    }

    pub(super) fn string<'v>(&self, v: Entry<'v, '_>, key: &str) -> Result<&'v str, MappingError> {
        v.get_ref()
            .as_str()
            .ok_or_else(|| self.error(v.span(), format!("`{key}` is text, not {}", v.get_ref().type_str())))
    }

    pub(super) fn table<'v, 'i>(&self, v: Entry<'v, 'i>, key: &str) -> Result<&'v DeTable<'i>, MappingError> {
        v.get_ref()
            .as_table()
            .ok_or_else(|| self.error(v.span(), format!("`{key}` is a table, not {}", v.get_ref().type_str())))
    }

    pub(super) fn word<'w, T>(
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

    fn pointer(&self, v: Entry<'_, '_>, key: &str, start: Start) -> Result<Pointer, MappingError> {
        Pointer::parse(self.string(v, key)?, start)
            .map_err(|problem| self.error(v.span(), format!("`{key}`: {problem}")))
    }

    pub(super) fn pointers(&self, v: Entry<'_, '_>, key: &str, start: Start) -> Result<Vec<Pointer>, MappingError> {
        match v.get_ref() {
            DeValue::Array(list) => list.iter().map(|i| self.pointer(i, key, start)).collect(),
            _ => Ok(vec![self.pointer(v, key, start)?]),
        }
    }

    fn outcome(&self, v: Entry<'_, '_>, format: Format, start: Start) -> Result<OutcomeRule, MappingError> {
        let table = self.table(v, "outcome")?;
        self.known(table, &["from", "basis", "values", "rules", "otherwise"])?;
        for key in ["rules", "otherwise"] {
            if let Some(v) = table.get(key).filter(|_| format != Format::Opa && !is_declared(format)) {
                return self.fail(v, format!("`outcome.{key}` means nothing for `{}`", format.as_str()));
            }
        }
        let mut rule = OutcomeRule::default();
        if let Some(v) = table.get("from") {
            rule.from = self.pointers(v, "outcome.from", start)?;
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
        if let Some(v) = table.get("rules") {
            let Some(list) = v.get_ref().as_array() else {
                return self.fail(v, "`outcome.rules` is a list of tables: `[[outcome.rules]]`".into());
            };
            for v in list {
                const KEYS: &[&str] = &["when", "unless", "outcome", "basis", "enforced", "phase", "reasons"];
                let table = self.table(v, "outcome.rules")?;
                self.known(table, KEYS)?;
                let guard = self.guard(table, start)?;
                rule.rules.push(Rule { guard, said: self.said(v)? });
            }
        }
        if let Some(v) = table.get("otherwise") {
            self.known(self.table(v, "outcome.otherwise")?, &["outcome", "basis", "enforced", "phase", "reasons"])?;
            rule.otherwise = Some(self.said(v)?);
        }
        Ok(rule)
    }

    /// What a rule says. An outcome that follows from conditions is inferred unless the rule says otherwise.
    fn said(&self, v: Entry<'_, '_>) -> Result<Said, MappingError> {
        let table = self.table(v, "rule")?;
        fn one<T: Copy>(
            reader: &Reader<'_>,
            table: &DeTable<'_>,
            key: &str,
            parse: impl Fn(&str) -> Option<T>,
            known: &[T],
            name: impl Fn(T) -> &'static str,
        ) -> Result<Option<T>, MappingError> {
            let Some(v) = table.get(key) else { return Ok(None) };
            let word = reader.string(v, key)?;
            reader.word(v, key, word, parse, known.iter().map(|k| name(*k))).map(Some)
        }
        let Some(outcome) = one(self, table, "outcome", Outcome::parse, Outcome::ALL, Outcome::as_str)? else {
            return self.fail(v, "a rule needs an `outcome`".into());
        };
        Ok(Said {
            outcome,
            basis: one(self, table, "basis", Basis::parse, Basis::ALL, Basis::as_str)?.unwrap_or(Basis::Inferred),
            enforced: one(self, table, "enforced", Enforced::parse, Enforced::ALL, Enforced::as_str)?,
            phase: one(self, table, "phase", Phase::parse, Phase::ALL, Phase::as_str)?,
            reasons: table.get("reasons").map(|v| self.strings(v, "reasons")).transpose()?.unwrap_or_default(),
        })
    }

    fn aside(&self, v: Entry<'_, '_>, start: Start) -> Result<Aside, MappingError> {
        let table = self.table(v, "aside")?;
        self.known(table, &["when", "unless", "reason", "detail"])?;
        let Some(reason) = table.get("reason") else { return self.fail(v, "an aside needs a `reason`".into()) };
        let word = self.string(reason, "reason")?;
        let Some(code) = code(word) else {
            return self.fail(reason, format!("`reason` is a code of small letters, digits and `_`, not `{word}`"));
        };
        let detail = table.get("detail").map(|v| self.pointer(v, "detail", start)).transpose()?;
        Ok(Aside { guard: self.guard(table, start)?, reason: code, detail })
    }

    fn pair(&self, v: Entry<'_, '_>) -> Result<Pairing, MappingError> {
        let table = self.table(v, "pair")?;
        self.known(table, &["with", "item", "other", "also"])?;
        let Some(with) = table.get("with") else { return self.fail(v, "`pair` needs `with`, a pointer".into()) };
        let side = |key: &str| table.get(key).map(|v| self.pointer(v, key, Start::Plain)).transpose();
        let by = match (side("item")?, side("other")?) {
            (Some(item), other) => Some((item, other)),
            (None, None) => None,
            (None, Some(_)) => return self.fail(v, "`pair.other` needs `pair.item`".into()),
        };
        let mut also = Vec::new();
        if let Some(v) = table.get("also") {
            let Some(list) = v.get_ref().as_array().filter(|_| by.is_some()) else {
                return self.fail(v, "`pair.also` is a list of tables, and needs `pair.item`".into());
            };
            also = list.iter().map(|v| self.also(v)).collect::<Result<_, _>>()?;
        }
        Ok(Pairing { with: self.pointer(with, "pair.with", Start::Plain)?, by, also })
    }

    fn also(&self, v: Entry<'_, '_>) -> Result<Also, MappingError> {
        let table = self.table(v, "pair.also")?;
        self.known(table, &["item", "other", "lookup"])?;
        let (Some(item), Some(other)) = (table.get("item"), table.get("other")) else {
            return self.fail(v, "`pair.also` needs `item` and `other`, pointers".into());
        };
        let pointer = |v| self.pointer(v, "pair.also", Start::Plain);
        let lookup = table.get("lookup").map(|v| self.lookup(v, None)).transpose()?;
        Ok(Also { item: pointer(item)?, other: pointer(other)?, lookup })
    }

    /// What words stand for.
    fn lookup(&self, v: Entry<'_, '_>, slot: Option<Slot>) -> Result<BTreeMap<String, String>, MappingError> {
        let mut lookup = BTreeMap::new();
        for (key, v) in self.table(v, "lookup")? {
            let word = self.scalar(v, "lookup")?;
            self.vocabulary(v, slot, &word)?;
            lookup.insert(key.get_ref().to_string(), word);
        }
        Ok(lookup)
    }

    fn guard(&self, table: &DeTable<'_>, start: Start) -> Result<Guard, MappingError> {
        let list = |key: &str| table.get(key).map(|v| self.conditions(v, key, start)).transpose();
        Ok(Guard { when: list("when")?.unwrap_or_default(), unless: list("unless")?.unwrap_or_default() })
    }

    /// One condition, or a list of them.
    fn conditions(&self, v: Entry<'_, '_>, key: &str, start: Start) -> Result<Vec<Condition>, MappingError> {
        match v.get_ref() {
            DeValue::Array(list) => list.iter().map(|c| self.condition(c, start)).collect(),
            DeValue::Table(_) => Ok(vec![self.condition(v, start)?]),
            other => self.fail(v, format!("`{key}` is a condition or a list of them, not {}", other.type_str())),
        }
    }

    pub(super) fn condition(&self, v: Entry<'_, '_>, start: Start) -> Result<Condition, MappingError> {
        let table = self.table(v, "condition")?;
        const TESTS: &[&str] =
            &["exists", "missing", "equals", "starts", "ends", "contains", "is", "at_least", "hex", "same", "in"];
        const KEYS: &[&str] = &[
            "pointer", "each", "exists", "missing", "equals", "starts", "ends", "contains", "is", "at_least", "hex",
            "same", "in",
        ];
        self.known(table, KEYS)?;
        // Relative to each item, so it has no root of its own.
        let each = table.get("each").map(|v| self.pointer(v, "each", Start::Plain)).transpose()?;
        let Some(pointer) = table.get("pointer") else { return self.fail(v, "a condition needs a `pointer`".into()) };
        let pointer = self.pointer(pointer, "pointer", start)?;
        let mut tests = TESTS.iter().filter_map(|t| Some((*t, table.get(*t)?)));
        let (Some((name, value)), None) = (tests.next(), tests.next()) else {
            let names: Vec<_> = TESTS.iter().map(|t| format!("`{t}`")).collect();
            return self.fail(v, format!("a condition has exactly one of {}", names.join(", ")));
        };
        let test = match name {
            "exists" if value.get_ref().as_bool() == Some(true) => Test::Exists,
            "exists" => return self.fail(value, "`exists` is `true`; for the contrary use `missing`".into()),
            "missing" if value.get_ref().as_bool() == Some(true) => Test::Missing,
            "missing" => return self.fail(value, "`missing` is `true`; for the contrary use `exists`".into()),
            "equals" => Test::Equals(self.strings(value, "equals")?),
            "starts" => Test::Starts(self.strings(value, "starts")?),
            "ends" => Test::Ends(self.strings(value, "ends")?),
            "contains" => Test::Contains(self.strings(value, "contains")?),
            "same" => Test::Same(self.pointer(value, "same", start)?),
            "at_least" => match self.scalar(value, "at_least")?.parse() {
                Ok(n) => Test::AtLeast(n),
                Err(_) => return self.fail(value, "`at_least` is a number".into()),
            },
            "hex" => match self.scalar(value, "hex")?.parse() {
                Ok(digits) => Test::Hex(digits),
                Err(_) => return self.fail(value, "`hex` is a number of digits".into()),
            },
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
        Ok(Condition { pointer, each, test })
    }

    fn fields(
        &self,
        table: &DeTable<'_>,
        prefix: &str,
        start: Start,
        mapping: &mut Mapping,
    ) -> Result<(), MappingError> {
        for (key, v) in table {
            let name =
                if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            let Some(slot) = Slot::parse(&name) else {
                let inner = format!("{name}.");
                match v.get_ref().as_table() {
                    Some(table) if Slot::ALL.iter().any(|s| s.name().starts_with(&inner)) => {
                        self.fields(table, &name, start, mapping)?
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
                    list.iter().map(|a| self.alternative(a, slot, start)).collect::<Result<_, _>>()?
                }
                _ => vec![self.alternative(v, slot, start)?],
            };
            mapping.fields.push((slot, alternatives));
        }
        Ok(())
    }

    /// An alternative of a column that is no field of events: its texts are taken as they stand.
    pub(super) fn plain_alternative(
        &self,
        v: Entry<'_, '_>,
        name: &str,
        is_time: bool,
    ) -> Result<Alternative, MappingError> {
        if let Some(table) = v.get_ref().as_table() {
            self.known(table, &["pointer", "value", "prefix", "split", "each", "when", "unless", "lookup", "utc"])?;
            if let Some(utc) = table.get("utc").filter(|_| !is_time) {
                return self.fail(utc, "`utc` is for times alone".into());
            }
        }
        self.alternative_of(v, name, None, Start::Plain)
    }

    fn alternative(&self, v: Entry<'_, '_>, slot: Slot, start: Start) -> Result<Alternative, MappingError> {
        for key in ["utc", "free", "whole_seconds"] {
            if let Some(flag) = v.get_ref().as_table().and_then(|t| t.get(key)).filter(|_| slot != Slot::Time) {
                return self.fail(flag, format!("`{key}` is for `time` alone"));
            }
        }
        self.alternative_of(v, slot.name(), Some(slot), start)
    }

    fn alternative_of(
        &self,
        v: Entry<'_, '_>,
        name: &str,
        slot: Option<Slot>,
        start: Start,
    ) -> Result<Alternative, MappingError> {
        let plain = |from| Alternative {
            from,
            prefix: String::new(),
            split: None,
            each: None,
            utc: false,
            free: false,
            whole_seconds: false,
            guard: Guard::default(),
            cut: Cut::default(),
        };
        let Some(table) = v.get_ref().as_table() else {
            return Ok(plain(Origin::Pointer(self.pointer(v, name, start)?)));
        };
        const KEYS: &[&str] = &[
            "pointer",
            "value",
            "prefix",
            "split",
            "each",
            "when",
            "unless",
            "after",
            "before",
            "lookup",
            "utc",
            "free",
            "whole_seconds",
        ];
        self.known(table, KEYS)?;
        let from = match (table.get("pointer"), table.get("value")) {
            (Some(p), None) => Origin::Pointer(self.pointer(p, name, start)?),
            (None, Some(c)) => {
                let constant = self.scalar(c, name)?;
                self.vocabulary(c, slot, &constant)?;
                Origin::Constant(constant)
            }
            _ => return self.fail(v, format!("`{name}` needs either a `pointer` or a `value`")),
        };
        let text = |key: &str| table.get(key).map(|v| self.string(v, key).map(str::to_owned)).transpose();
        let separator = |key: &str| match table.get(key) {
            Some(v) if v.get_ref().as_str() == Some("") => self.fail(v, format!("`{key}` is a text, not an empty one")),
            _ => text(key),
        };
        let mut cut = Cut { after: separator("after")?, before: separator("before")?, lookup: None };
        cut.lookup = table.get("lookup").map(|v| self.lookup(v, slot)).transpose()?;
        let flag = |key: &str| match table.get(key) {
            None => Ok(false),
            Some(v) => v.get_ref().as_bool().ok_or_else(|| self.error(v.span(), format!("`{key}` is true or false"))),
        };
        Ok(Alternative {
            prefix: text("prefix")?.unwrap_or_default(),
            split: text("split")?.filter(|s| !s.is_empty()),
            // Relative to each item, so it has no root of its own.
            each: table.get("each").map(|v| self.pointer(v, "each", Start::Plain)).transpose()?,
            guard: self.guard(table, start)?,
            utc: flag("utc")?,
            free: flag("free")?,
            whole_seconds: flag("whole_seconds")?,
            cut,
            ..plain(from)
        })
    }

    /// Refuses a word for a field that has a vocabulary and does not know it.
    fn vocabulary(&self, v: Entry<'_, '_>, slot: Option<Slot>, word: &str) -> Result<(), MappingError> {
        let (slot, known): (Slot, Vec<&str>) = match slot {
            Some(slot @ Slot::Phase) => (slot, Phase::ALL.iter().map(|p| p.as_str()).collect()),
            Some(slot @ Slot::Enforced) => (slot, Enforced::ALL.iter().map(|e| e.as_str()).collect()),
            _ => return Ok(()),
        };
        let find = |w: &str| known.iter().find(|k| **k == w).map(drop);
        self.word(v, slot.name(), word, find, known.iter().copied())
    }
}

/// Reason codes live as long as the program: there are as many as the mapping files name, and each is kept once.
fn code(word: &str) -> Option<&'static str> {
    static CODES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    const CODE_BYTES_MAX: usize = 60;
    let well_formed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if word.is_empty() || word.len() > CODE_BYTES_MAX || !word.bytes().all(well_formed) {
        return None;
    }
    let mut codes = CODES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = codes.get(word) {
        return Some(known);
    }
    let kept: &'static str = Box::leak(word.to_owned().into_boxed_str());
    codes.insert(kept);
    Some(kept)
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
