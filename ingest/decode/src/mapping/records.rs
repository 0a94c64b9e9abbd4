//! Mapping files for records of authority: which pointer of a log line is which column of which table.
//!
//! Guarantees: as for other mappings, a mistake is refused when the file is read. A file names one `kind`, and its fields are the
//! columns of that kind's table and of the envelope. Every mapping whose conditions hold makes one entry of a line; a mapping with
//! `skip = true` makes none, and says that such lines are known and hold nothing. One that extends another speaks in its place on the
//! lines that it knows, so that no line is told twice.

use super::pointer::Start;
use super::read::{Reader, nearest};
use super::rules::Condition;
use super::{Alternative, MappingError, Mappings, OutcomeRule, Pointer, Roots};
use catena_schemas::authority::EntryKind;
use catena_schemas::table::Kind as Stored;
use toml::de::{DeTable, DeValue};

/// How one column is filled: the first that applies.
#[derive(Clone, Debug)]
pub(crate) enum Filler {
    /// As in other mappings.
    Plain(Box<Alternative>),
    /// Several scalars that name something only together, all of which must be there.
    Joined(Vec<Pointer>, String),
}

impl Filler {
    /// By what a text of several is split.
    pub(crate) fn split(&self) -> Option<&str> {
        match self {
            Filler::Plain(alternative) => alternative.split.as_deref(),
            Filler::Joined(..) => None,
        }
    }

    /// Whether a time without a zone is one of UTC.
    pub(crate) fn utc(&self) -> bool {
        matches!(self, Filler::Plain(alternative) if alternative.utc)
    }
}

/// One mapping.
#[derive(Clone, Debug)]
pub(crate) struct RecordMapping {
    pub(crate) name: String,
    /// What its entries say; `None` when it makes none.
    pub(crate) kind: Option<EntryKind>,
    /// `source.kind` of its entries.
    pub(crate) source: Option<String>,
    any: Vec<Condition>,
    all: Vec<Condition>,
    none: Vec<Condition>,
    pub(crate) id: Vec<Filler>,
    pub(crate) time: Vec<Filler>,
    pub(crate) instance: Vec<Filler>,
    /// Columns, and what fills them.
    pub(crate) columns: Vec<(&'static str, Vec<Filler>)>,
    pub(crate) drop: Vec<Pointer>,
    /// Names of those that it extends, directly or not.
    extends: Vec<String>,
}

impl RecordMapping {
    pub(crate) fn matches(&self, roots: &Roots<'_>) -> bool {
        let outcomes = OutcomeRule::default();
        (self.any.is_empty() || self.any.iter().any(|c| c.holds(roots, &outcomes)))
            && self.all.iter().all(|c| c.holds(roots, &outcomes))
            && !self.none.iter().any(|c| c.holds(roots, &outcomes))
    }
}

/// Those that ship, in order.
const SHIPPED: &[(&str, &str)] = &[
    ("keycloak-consent", include_str!("../../mappings/authority/keycloak-consent.toml")),
    ("keycloak-revocation", include_str!("../../mappings/authority/keycloak-revocation.toml")),
    ("keycloak-exchange", include_str!("../../mappings/authority/keycloak-exchange.toml")),
    ("keycloak-issuance", include_str!("../../mappings/authority/keycloak-issuance.toml")),
    ("keycloak-client", include_str!("../../mappings/authority/keycloak-client.toml")),
    ("keycloak-other", include_str!("../../mappings/authority/keycloak-other.toml")),
    ("cloudtrail-workload-token", include_str!("../../mappings/authority/cloudtrail-workload-token.toml")),
    ("cloudtrail-consent", include_str!("../../mappings/authority/cloudtrail-consent.toml")),
    ("cloudtrail-web-identity", include_str!("../../mappings/authority/cloudtrail-web-identity.toml")),
    ("cloudtrail-failed", include_str!("../../mappings/authority/cloudtrail-failed.toml")),
    ("contextforge-exchange", include_str!("../../mappings/authority/contextforge-exchange.toml")),
    ("contextforge-failed", include_str!("../../mappings/authority/contextforge-failed.toml")),
];

/// The shipped ones, read.
pub(super) fn shipped() -> Vec<RecordMapping> {
    let mut list = Vec::new();
    for (name, text) in SHIPPED {
        let mapping = parse(text, name, &list).unwrap_or_else(|e| panic!("a shipped mapping is refused: {e}"));
        list.push(mapping);
    }
    list
}

/// Whether a file is one of these: its `format` says so, or without one that of the mapping that it extends.
pub(super) fn is_of_records(text: &str, known: &[RecordMapping]) -> bool {
    let Ok(root) = DeTable::parse(text) else { return false };
    let text_of = |key: &str| root.get_ref().get(key).and_then(|v| v.get_ref().as_str());
    match text_of("format") {
        Some(format) => format == "authority",
        None => text_of("extends").is_some_and(|base| known.iter().any(|m| m.name == base)),
    }
}

impl Mappings {
    /// Those for records of authority whose conditions hold, without those in whose place another speaks.
    pub(crate) fn of_records<'m>(&'m self, roots: &Roots<'_>) -> impl Iterator<Item = &'m RecordMapping> {
        let replaced = |m: &RecordMapping| self.records.iter().any(|o| o.extends.contains(&m.name) && o.matches(roots));
        self.records.iter().filter(move |m| m.matches(roots) && !replaced(m))
    }
}

/// Reads one file.
pub(super) fn parse(text: &str, file: &str, known: &[RecordMapping]) -> Result<RecordMapping, MappingError> {
    let reader = Reader { text, file };
    let root = DeTable::parse(text).map_err(|e| reader.error(e.span().unwrap_or_default(), e.message().to_owned()))?;
    let root = root.get_ref();
    reader.known(root, &["name", "format", "extends", "kind", "skip", "source", "drop", "when", "fields"])?;
    let mut mapping = RecordMapping {
        name: file.to_owned(),
        kind: None,
        source: None,
        any: Vec::new(),
        all: Vec::new(),
        none: Vec::new(),
        id: Vec::new(),
        time: Vec::new(),
        instance: Vec::new(),
        columns: Vec::new(),
        drop: Vec::new(),
        extends: Vec::new(),
    };
    if let Some(v) = root.get("extends") {
        let base = reader.string(v, "extends")?;
        let Some(found) = known.iter().find(|m| m.name == base) else {
            let near = nearest(base, known.iter().map(|m| m.name.as_str()));
            return reader.fail(v, format!("`extends` names no mapping of `authority`: `{base}`{near}"));
        };
        mapping = RecordMapping { name: file.to_owned(), ..found.clone() };
        mapping.extends.push(base.to_owned());
    }
    if let Some(v) = root.get("name") {
        mapping.name = reader.string(v, "name")?.to_owned();
    }
    // One that takes the name of what it extends takes its place everywhere.
    mapping.extends.retain(|base| *base != mapping.name);
    let skip = root.get("skip").is_some_and(|v| v.get_ref().as_bool() == Some(true));
    match root.get("kind") {
        Some(v) => {
            let word = reader.string(v, "kind")?;
            let known = EntryKind::ALL.iter().map(|k| k.as_str());
            let kind = reader.word(v, "kind", word, EntryKind::parse, known)?;
            if let Some(other) = mapping.kind.filter(|other| *other != kind) {
                return reader
                    .fail(v, format!("`kind` is `{}` in what it extends: its columns are others", other.as_str()));
            }
            mapping.kind = Some(kind);
        }
        None if skip => (mapping.kind, mapping.columns) = (None, Vec::new()),
        None if root.contains_key("extends") => {}
        None => return Err(reader.error(0..0, "`kind` is required, or `skip = true`".into())),
    }
    if let Some(v) = root.get("source") {
        mapping.source = Some(reader.string(v, "source")?.to_owned());
    }
    if let Some(v) = root.get("drop") {
        mapping.drop = reader.pointers(v, "drop", Start::Plain)?;
    }
    if let Some(v) = root.get("when") {
        let table = reader.table(v, "when")?;
        reader.known(table, &["any", "all", "none"])?;
        // Conditions of its own take the place of all that it extends: half of them would say something else.
        (mapping.any, mapping.all, mapping.none) = Default::default();
        for (key, into) in [("any", &mut mapping.any), ("all", &mut mapping.all), ("none", &mut mapping.none)] {
            if let Some(v) = table.get(key) {
                let Some(list) = v.get_ref().as_array() else {
                    return reader.fail(v, format!("`when.{key}` is a list of conditions"));
                };
                *into = list.iter().map(|c| reader.condition(c, Start::Plain)).collect::<Result<_, _>>()?;
            }
        }
    }
    if let Some(v) = root.get("fields") {
        fields(&reader, reader.table(v, "fields")?, &mut mapping)?;
    }
    Ok(mapping)
}

fn fields(reader: &Reader<'_>, table: &DeTable<'_>, mapping: &mut RecordMapping) -> Result<(), MappingError> {
    const ENVELOPE: &[&str] = &["id", "time", "instance"];
    let own = mapping.kind.map_or(&[][..], |k| k.table().own);
    for (key, v) in table {
        let name = key.get_ref().as_ref();
        let column = own.iter().find(|c| c.name == name);
        let is_time = name == "time" || column.is_some_and(|c| c.kind == Stored::Time);
        let fillers = match v.get_ref() {
            // Takes back what an extended mapping says.
            DeValue::Boolean(false) => Vec::new(),
            DeValue::Array(list) => list.iter().map(|f| filler(reader, f, name, is_time)).collect::<Result<_, _>>()?,
            _ => vec![filler(reader, v, name, is_time)?],
        };
        match (name, column) {
            ("id", _) => mapping.id = fillers,
            ("time", _) => mapping.time = fillers,
            ("instance", _) => mapping.instance = fillers,
            (_, Some(column)) => {
                mapping.columns.retain(|c| c.0 != column.name);
                mapping.columns.push((column.name, fillers));
            }
            (_, None) => {
                let near = nearest(name, own.iter().map(|c| c.name).chain(ENVELOPE.iter().copied()));
                return Err(reader.error(key.span(), format!("unknown column `{name}`{near}")));
            }
        }
    }
    Ok(())
}

fn filler(
    reader: &Reader<'_>,
    v: &toml::Spanned<DeValue<'_>>,
    name: &str,
    is_time: bool,
) -> Result<Filler, MappingError> {
    let Some((table, joined)) = v.get_ref().as_table().and_then(|t| Some((t, t.get("join")?))) else {
        return Ok(Filler::Plain(Box::new(reader.plain_alternative(v, name, is_time)?)));
    };
    reader.known(table, &["join", "with"])?;
    let with = table.get("with").map(|w| reader.string(w, "with")).transpose()?.unwrap_or("/");
    Ok(Filler::Joined(reader.pointers(joined, name, Start::Plain)?, with.to_owned()))
}
