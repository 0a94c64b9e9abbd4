//! Mapping files: what is what in records whose shape the producer leaves to its user.
//!
//! Guarantees: a mapping is data, never code; a mistake in one is refused when it is read, with line, column, the key and the
//! nearest known key, never discovered while decoding. A field takes the first of its alternatives that the record has.
//! What a mapping does not point at stays in `extra`. Pointers are split when the file is read, so that following one is a
//! walk over the tape. `mappings/README.md` shows the form, beside the mappings that ship.

pub mod explain;
mod pointer;
mod read;
pub(crate) mod records;
pub(crate) mod removed;
mod rules;

use crate::Format;
use crate::json::Value;
use catena_schemas::event::{Outcome, Phase};
pub(crate) use pointer::{Pointer, Roots};
pub(crate) use read::nearest;
use read::parse;
use rules::Condition;
pub(crate) use rules::{Alternative, Aside, Decided, Fan, Origin, OutcomeRule, Pairing};
use std::sync::{Arc, LazyLock};

/// Why a mapping file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapping `{mapping}`{}: {problem}", place(*.line, *.column))]
pub struct MappingError {
    /// Name of the file.
    pub mapping: String,
    /// Line, from 1; 0 when it is no line that is wrong.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong with it, naming the key.
    pub problem: String,
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!(", line {line}, column {column}") }
}

macro_rules! path {
    ($group:ident [$($object:ident)? $member:literal]) => {
        concat!(stringify!($group), $(".", stringify!($object),)? ".", $member)
    };
}

macro_rules! slots {
    (
        head { $($head:ident $head_name:literal,)+ }
        tail { $($tail:ident $tail_name:literal,)+ }
        $(
            $(#[doc = $group_doc:literal])+
            $group:ident: $Group:ident { $(
                $(#[doc = $doc:literal])+
                $field:ident: $how:ident $path:tt => $variant:ident $(, slot $slot:ident)?;
            )+ }
        )+
    ) => {
        /// What a mapping can fill, in the order in which it is filled: the fields that the table of the event marks as slots under
        /// their path, and what only mappings know.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Slot { $($head,)+ $($($($slot,)?)+)+ $($tail,)+ }
        impl Slot {
            pub(crate) const ALL: &[Slot] = &[$(Slot::$head,)+ $($($(Slot::$slot,)?)+)+ $(Slot::$tail,)+];
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Slot::$head => $head_name,)+
                    $($($(Slot::$slot => path!($group $path),)?)+)+
                    $(Slot::$tail => $tail_name,)+
                }
            }
            fn parse(name: &str) -> Option<Slot> {
                Slot::ALL.iter().copied().find(|s| s.name() == name)
            }
        }
    };
}

/// The slots that are no single field of the event. Claims come before the fields that they may fill.
macro_rules! all_slots {
    ($($groups:tt)+) => {
        slots! {
            head { Id "id", Time "time", TokenClaims "token.claims", }
            tail {
                ActorsId "actors.id", ActorsAct "actors.act", ActorsList "actors.list", ActorsDeclared "actors.declared",
                ActorsKind "actors.kind", ActorsName "actors.name", ActorsVersion "actors.version", ActorsModel "actors.model",
                ActorsAssurance "actors.assurance", ActorsSource "actors.source",
                Traceparent "links.traceparent",
                EnvoyDetails "envoy.response_code_details", EnvoyFlags "envoy.response_flags", EnvoyEffect "envoy.effect",
                EnvoyRbac "envoy.rbac_result", EnvoyRbacPolicy "envoy.rbac_policy",
                StepUp "cerbos.step_up", Reason "cerbos.reason",
            }
            $($groups)+
        }
    };
}

catena_schemas::event_fields! { groups all_slots }

/// One mapping.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) name: String,
    pub(crate) format: Format,
    /// Whether it is tried without being asked for.
    automatic: bool,
    /// Whether it ships, and nobody named it.
    shipped: bool,
    /// Whether its conditions tell a record from those of all other formats.
    recognised: bool,
    any: Vec<Condition>,
    all: Vec<Condition>,
    pub(crate) outcome: OutcomeRule,
    pub(crate) phase: Option<Phase>,
    pub(crate) fields: Vec<(Slot, Vec<Alternative>)>,
    /// What is left out of `extra`.
    pub(crate) drop: Vec<Pointer>,
    /// Texts that hold JSON and are read as what they hold; `*` is each.
    pub(crate) parse: Vec<Pointer>,
    /// What was escaped for HTML, with all texts inside, and is read as it was before; `*` is each.
    pub(crate) unescape: Vec<Pointer>,
    pub(crate) fan: Option<Fan>,
    pub(crate) asides: Vec<Aside>,
}

impl Mapping {
    pub(crate) fn matches(&self, roots: &Roots<'_>) -> bool {
        // What an erased answer was cannot tell one question from another: the first mapping that asks about it has it.
        let holds = |c: &Condition| c.holds(roots, &self.outcome) || (roots.lists_removed() && c.gone(roots).is_some());
        (self.any.is_empty() || self.any.iter().any(holds)) && self.all.iter().all(holds)
    }

    /// The decision of a record; `None` when nothing decides. Who matched or decided for want of what was taken out decides nothing.
    pub(crate) fn decide<'t>(&'t self, roots: &Roots<'t>) -> Option<Decided<'t>> {
        let decided = self.outcome.decide(roots)?;
        let Decided::Rule(said, number) = decided else { return Some(decided) };
        if matches!(said.outcome, Outcome::Error | Outcome::Unknown) {
            return Some(decided);
        }
        let blind = self.outcome.is_blind(number);
        let absent = || self.any.iter().chain(&self.all).find_map(|c| c.absent_for_a_mark(roots));
        let gone = roots.answer_removed(blind).or_else(|| if blind { absent() } else { None });
        Some(gone.map_or(decided, Decided::Removed))
    }

    /// Whether it came with the program, and nobody asked for it by name.
    pub(crate) fn is_shipped(&self) -> bool {
        self.shipped
    }

    /// Whether it says by itself which records are its own.
    pub(crate) fn is_conditional(&self) -> bool {
        !self.any.is_empty() || !self.all.is_empty()
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
    /// For records of authority; all that match are used.
    records: Vec<records::RecordMapping>,
}

/// Those that ship, in order. Later ones may extend earlier ones.
const SHIPPED: &[(&str, &str)] = &[
    ("opa-authzen", include_str!("../mappings/opa-authzen.toml")),
    ("opa-gateway", include_str!("../mappings/opa-gateway.toml")),
    ("opa-boolean", include_str!("../mappings/opa-boolean.toml")),
    ("opa-query", include_str!("../mappings/opa-query.toml")),
    ("cerbos-mcp", include_str!("../mappings/cerbos-mcp.toml")),
    ("envoy-mcp", include_str!("../mappings/envoy-mcp.toml")),
    ("pomerium-authorize", include_str!("../mappings/pomerium-authorize.toml")),
    ("pomerium-access", include_str!("../mappings/pomerium-access.toml")),
    ("openfga-batch", include_str!("../mappings/openfga-batch.toml")),
    ("openfga", include_str!("../mappings/openfga.toml")),
    ("authzen-batch", include_str!("../mappings/authzen-batch.toml")),
    ("authzen", include_str!("../mappings/authzen.toml")),
    ("teleport", include_str!("../mappings/teleport.toml")),
    ("teleport-other", include_str!("../mappings/teleport-other.toml")),
    ("cloudtrail-verified-permissions-batch", include_str!("../mappings/cloudtrail-verified-permissions-batch.toml")),
    ("cloudtrail-verified-permissions", include_str!("../mappings/cloudtrail-verified-permissions.toml")),
    ("cloudtrail-agentcore", include_str!("../mappings/cloudtrail-agentcore.toml")),
    ("cloudtrail", include_str!("../mappings/cloudtrail.toml")),
    ("contextforge-siem", include_str!("../mappings/contextforge-siem.toml")),
    ("contextforge-permission", include_str!("../mappings/contextforge-permission.toml")),
    ("contextforge-log", include_str!("../mappings/contextforge-log.toml")),
    ("contextforge-audit", include_str!("../mappings/contextforge-audit.toml")),
    ("contextforge-lines", include_str!("../mappings/contextforge-lines.toml")),
    ("kong", include_str!("../mappings/kong.toml")),
    ("kong-http", include_str!("../mappings/kong-http.toml")),
    ("toolhive", include_str!("../mappings/toolhive.toml")),
    ("docker-mcp", include_str!("../mappings/docker-mcp.toml")),
    ("obot", include_str!("../mappings/obot.toml")),
    ("obot-keyed", include_str!("../mappings/obot-keyed.toml")),
    ("agentgateway", include_str!("../mappings/agentgateway.toml")),
    ("otlp-authz", include_str!("../mappings/otlp-authz.toml")),
    ("otlp-contextforge", include_str!("../mappings/otlp-contextforge.toml")),
    ("otlp-docker-mcp", include_str!("../mappings/otlp-docker-mcp.toml")),
    ("otlp-agents", include_str!("../mappings/otlp-agents.toml")),
    ("plain", include_str!("../mappings/plain.toml")),
];

static SHIPPED_PARSED: LazyLock<Arc<Mappings>> = LazyLock::new(|| {
    let mut list = Vec::new();
    for (name, text) in SHIPPED {
        let mapping = parse(text, name, &list).unwrap_or_else(|e| panic!("a shipped mapping is refused: {e}"));
        list.push(Mapping { shipped: true, ..mapping });
    }
    Arc::new(Mappings { list, records: records::shipped() })
});

impl Mappings {
    /// Those that ship.
    pub fn shipped() -> Arc<Mappings> {
        SHIPPED_PARSED.clone()
    }

    /// These, with one more that is tried before them. `name` is the file's, for messages, and the mapping's own unless it
    /// gives itself one.
    pub fn with(&self, text: &str, name: &str) -> Result<Mappings, MappingError> {
        let mut with = self.clone();
        if records::is_of_records(text, &self.records) {
            let mapping = records::parse(text, name, &self.records)?;
            with.records.retain(|m| m.name != mapping.name);
            with.records.insert(0, mapping);
            return Ok(with);
        }
        let mapping = parse(text, name, &self.list)?;
        with.list.retain(|m| m.name != mapping.name);
        with.list.insert(0, mapping);
        Ok(with)
    }

    /// These, with the named one tried first; how mappings that are not automatic are switched on.
    pub fn prefer(&self, name: &str) -> Result<Mappings, MappingError> {
        let Some(at) = self.list.iter().position(|m| m.name == name) else {
            let mut with = self.clone();
            if let Some(at) = with.records.iter().position(|m| m.name == name) {
                with.records[..=at].rotate_right(1);
                return Ok(with);
            }
            let near = nearest(name, self.names().map(|(name, _)| name));
            return Err(MappingError {
                mapping: name.to_owned(),
                line: 0,
                column: 0,
                problem: format!("there is no mapping of this name{near}"),
            });
        };
        let mut list = self.list.clone();
        let mut mapping = list.remove(at);
        (mapping.automatic, mapping.shipped) = (true, false);
        list.insert(0, mapping);
        Ok(Mappings { list, records: self.records.clone() })
    }

    /// The format of the first automatic mapping that knows a record by its conditions, of producers that are only data.
    /// With `own`, only of those whose format is [`Format::Mapped`] and that do not ship: what somebody wrote for his records comes
    /// before everything, and what ships for records of nobody after everything.
    pub(crate) fn recognise(&self, root: Value<'_>, own: bool) -> Option<Format> {
        let roots = Roots::record(root);
        let of = |m: &Mapping| match own {
            true => m.format == Format::Mapped && !m.shipped,
            false => crate::formats::declared::is_declared(m.format) && m.format != Format::Mapped,
        };
        let mut candidates = self.list.iter().filter(|m| m.automatic && m.recognised && m.is_conditional() && of(m));
        candidates.find(|m| m.matches(&roots)).map(|m| m.format)
    }

    /// Whether a mapping that ships knows a record that no producer has as its own.
    pub(crate) fn knows_plain(&self, root: Value<'_>) -> bool {
        let roots = Roots::record(root);
        self.list.iter().any(|m| m.format == Format::Mapped && m.shipped && m.automatic && m.matches(&roots))
    }

    /// What a word under a name says of the outcome, by the first mapping of a format whose table knows both.
    pub(crate) fn outcome(&self, format: Format, name: &str, word: &str) -> Option<Outcome> {
        let mappings = self.list.iter().filter(|m| m.format == format && m.automatic);
        let mut tables = mappings.map(|m| &m.outcome).filter(|t| t.from.iter().any(|p| p.is_member(name)));
        tables.find_map(|t| t.word(word))
    }

    /// Names and formats, in order; those for records of authority last.
    pub fn names(&self) -> impl Iterator<Item = (&str, Format)> {
        let records = self.records.iter().map(|m| (m.name.as_str(), Format::Authority));
        self.list.iter().map(|m| (m.name.as_str(), m.format)).chain(records)
    }

    /// The first of a format whose conditions hold.
    pub(crate) fn choose(&self, format: Format, roots: &Roots<'_>) -> Option<&Mapping> {
        self.list.iter().find(|m| m.format == format && m.automatic && m.matches(roots))
    }
}
