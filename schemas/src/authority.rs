//! Records of authority: what was granted, renewed, exchanged, registered and ended, versioned by time.
//!
//! Guarantee: they share the envelope of the native event (`id`, `time`, `kind`, `source`) and its manners: only the
//! fields named here as required are, unknown members are kept. A record is a fact at a time: nothing is ever updated in
//! place, a grant that ends is a grant with an end, recorded later. [`schema`] is generated from these types, and
//! `schemas/event/authority-v1.json` is what it says. They land as rows of `records` with class `authority`; the tables below are
//! views of these ([`Table::rows`]).
//!
//! | kind | table | says |
//! |---|---|---|
//! | `grant` | [`GRANTS`] | somebody may act for somebody, within an authority |
//! | `reauth` | [`REAUTHS`] | a person or authority allowed more, for one use, a chain or until an end |
//! | `exchange` | [`EXCHANGES`] | a token was exchanged for another (RFC 8693) |
//! | `tool` | [`TOOLS`] | what a tool needs, does and returns |
//! | `lifecycle` | [`LIFECYCLE`] | something was revoked, registered, changed, rotated; or a gateway is alive |
//! | `principal` | [`PRINCIPALS`] | who a party is, and what else it is called |

mod entry;

use crate::table::Kind as Stored;
use crate::wire::{Id, Instant, Json, JsonObject, Source, Texts, document, object};
use arrow_schema::{Field as ArrowField, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use entry::{BodyError, Cell, Entry, EntryKind};

/// JSON Schema (2020-12) of the records of authority, version 1.
pub fn schema() -> Json {
    document::<Record>("urn:catena:authority:v1", "Record of authority, version 1")
}

/// A record of authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Somebody may act for somebody.
    Grant(Envelope<Grant>),
    /// More was allowed.
    Reauth(Envelope<Reauth>),
    /// A token was exchanged.
    Exchange(Envelope<Exchange>),
    /// What a tool is.
    Tool(Envelope<Tool>),
    /// Something began, changed or ended.
    Lifecycle(Envelope<Lifecycle>),
    /// Who a party is.
    Principal(Envelope<Principal>),
}

/// What every record has, and its own fields beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope<T> {
    /// Unique within tenant and source, per record. Not the id of the grant or tool that it speaks of.
    pub id: String,
    /// When it was so, by the source's clock.
    pub time: Instant,
    /// Where the record came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The fields of its kind.
    #[serde(flatten)]
    pub record: T,
}

object! {
    /// What is allowed, dimension by dimension. An absent dimension is unknown, an empty list allows nothing.
    Authority {
        /// Scopes of tokens, compared as a set.
        scope: Texts,
        /// Canonical URIs of resources (RFC 8707), compared as a set.
        resource: Texts,
        /// Authorization details (RFC 9396), compared object by object within one `type`.
        rar: Vec<JsonObject>,
        /// Atoms of capability: on which server, which action, on what.
        capability: Vec<Capability>,
        /// Audiences. Recorded and not compared: retargeting a token does not widen it.
        aud: Texts,
    }
}

object! {
    /// One thing that may be done.
    Capability {
        /// Tool server.
        server: String,
        /// Tool or action on it.
        action: String,
        /// Pattern of the resources.
        resource: String,
        /// Further conditions.
        constraints: JsonObject,
    }
}

/// Somebody may act for somebody, within an authority, between two instants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// Id of the grant: `grant.id` of decisions.
    pub grant_id: String,
    /// Who grants.
    pub grantor: Id,
    /// Who may act.
    pub grantee: Id,
    /// What it allows.
    pub authority: Authority,
    /// The rest.
    #[serde(flatten)]
    pub terms: Terms,
}

object! {
    /// On which terms a grant holds.
    Terms {
        /// Grant that it was derived from.
        parent_grant: String,
        /// What it is for.
        purposes: Texts,
        /// Who the grantee may pass it on to; absent means anybody.
        delegatees: Texts,
        /// How many more times it may be passed on.
        max_redelegation: u32,
        /// `interactive_consent`, `admin_policy`, `id_jag`, `step_up`, `refresh` or `policy_grant`.
        basis: String,
        /// From when it holds; absent means `time`.
        valid_from: Instant,
        /// Until when it holds; absent means without end.
        valid_to: Instant,
        /// When it was revoked, if it was.
        revoked_at: Instant,
        /// Whether it outlives the session that it was given in.
        standing: bool,
        /// Version of the grant: the highest one at an instant counts.
        version: i64,
    }
}

/// A person or authority allowed more than the chain had: the only legal widening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reauth {
    /// Id of the re-authorization.
    pub reauth_id: String,
    /// Who asked for it.
    pub by: Id,
    /// Who allowed it.
    pub approver: Id,
    /// When it was allowed.
    pub at: Instant,
    /// What holds from then on.
    pub new_authority: Authority,
    /// The rest.
    #[serde(flatten)]
    pub terms: ReauthTerms,
}

object! {
    /// On which terms a re-authorization holds.
    ReauthTerms {
        /// How: `consent`, `approval`, `authentication` ...
        method: String,
        /// Decision that it was given for: its event id.
        anchor: String,
        /// The challenge that it answers.
        challenge: String,
        /// Reference of the signed artifact: consent receipt, approval token.
        artifact_ref: Id,
        /// `single_op`, `chain` or `standing`.
        r#use: String,
        /// Until when it holds.
        valid_to: Instant,
    }
}

object! {
    /// A token was exchanged for another, as the authorization server saw it (RFC 8693). Tokens are keyed digests.
    Exchange {
        /// `ref` of the token that names the subject.
        subject_token_ref: Id,
        /// `ref` of the token that names the actor; absent for an impersonation.
        actor_token_ref: Id,
        /// `ref` of the token that was issued.
        issued_token_ref: Id,
        /// Scopes of the subject token.
        scope_in: Texts,
        /// Scopes of the issued token.
        scope_out: Texts,
        /// Audiences of the subject token.
        aud_in: Texts,
        /// Audiences of the issued token.
        aud_out: Texts,
        /// Who may act according to the subject token (`may_act`).
        may_act: Texts,
        /// When it was exchanged; absent means `time`.
        at: Instant,
    }
}

/// What a tool needs, does and returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Tool server.
    pub server: String,
    /// Name within its server.
    pub tool: String,
    /// The rest.
    #[serde(flatten)]
    pub traits: ToolTraits,
}

object! {
    /// What is known of a tool.
    ToolTraits {
        /// Atoms of capability that a call needs.
        requires: Vec<Capability>,
        /// Class of its effect: `read`, `query`, `update`, `admin` ...
        effect: String,
        /// Class of the data that it touches.
        data_class: String,
        /// Trust in what it returns: `trusted`, `untrusted` or `sensitive`.
        output_trust: String,
        /// What a misuse would cost, from 0 (nothing) to 5.
        impact: i32,
        /// Digest of the definition that was approved, as `algorithm:hex`.
        definition_digest: String,
        /// Who approved it.
        approved_by: Id,
    }
}

/// Something began, changed or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lifecycle {
    /// `revoked`, `registered`, `changed`, `rotated`, `heartbeat` ...
    pub event: String,
    /// Kind of what it is about: `grant`, `token`, `session`, `client`, `key`, `gateway` ...
    pub subject_kind: String,
    /// Id of what it is about.
    pub subject: Id,
    /// The rest.
    #[serde(flatten)]
    pub details: LifecycleDetails,
}

object! {
    /// Details of a change.
    LifecycleDetails {
        /// From when it counts; absent means `time`.
        effective_at: Instant,
        /// Who caused it.
        by: Id,
        /// Why.
        reason: String,
        /// What changed, of any shape.
        changes: JsonObject,
        /// Of a heartbeat: the last sequence number that the source gave out.
        last_seq: i64,
        /// Of a heartbeat: the restart marker that it counts in.
        epoch: Id,
    }
}

/// Who a party is, and what else it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Principal {
    /// Id, as decisions name it.
    pub principal: Id,
    /// `human`, `client`, `agent`, `workload`, `tool_server` ...
    pub principal_kind: String,
    /// The rest.
    #[serde(flatten)]
    pub traits: PrincipalTraits,
}

object! {
    /// What is known of a party.
    PrincipalTraits {
        /// Who issued the id.
        issuer: String,
        /// Display name.
        name: String,
        /// Who answers for it.
        owner: Id,
        /// Ids that mean the same party. Equality is only ever by such a record, never by likeness.
        aliases: Texts,
        /// Roles or groups.
        roles: Texts,
        /// From when it is known.
        valid_from: Instant,
        /// Until when it was.
        valid_to: Instant,
    }
}

/// A column of a table of authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: &'static str,
    /// How it is stored.
    pub kind: Stored,
}

/// A table of authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name in SQL.
    pub name: &'static str,
    /// `kind` of its records.
    pub record: &'static str,
    /// Its own columns, after those of [`ENVELOPE`].
    pub own: &'static [Column],
}

impl Table {
    /// Columns in order: the envelope, its own, and what the record held besides.
    pub fn columns(&self) -> impl Iterator<Item = &'static Column> {
        ENVELOPE.iter().chain(self.own).chain(REST)
    }

    /// Arrow schema of its rows. The partition columns are those of `records`, without `class`.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns().map(|c| ArrowField::new(c.name, c.kind.arrow(), true)).collect::<Vec<_>>()))
    }
}

macro_rules! columns {
    ($($kind:ident $($name:literal)+),+ $(,)?) => {
        &[$($($crate::authority::Column { name: $name, kind: $crate::table::Kind::$kind }),+),+]
    };
}
pub(crate) use columns;

/// Columns that every table of authority starts with.
pub const ENVELOPE: &[Column] = columns![
    Id "event_id", Time "time", Text "topic", Int "partition", Long "offset", Text "redaction", Text "format", Text "source_kind" "source",
    Long "source_seq", Text "source_epoch", Id "source_record", Time "ingest_time",
];

/// Columns that every table of authority ends with.
const REST: &[Column] = columns![Json "extra", List "flags"];

/// Who may act for whom.
pub const GRANTS: Table = Table {
    name: "grants",
    record: "grant",
    own: columns![
        Id "grant_id", Text "grantor" "grantee", Id "parent_grant", List "scope" "resource" "aud", Json "rar" "capability", List "purposes",
        List "delegatees", Int "max_redelegation", Text "basis", Time "valid_from" "valid_to" "revoked_at", Bool "standing", Long "version",
    ],
};

/// Who allowed more, when and for what.
pub const REAUTHS: Table = Table {
    name: "reauths",
    record: "reauth",
    own: columns![
        Id "reauth_id", Text "by" "approver", Time "at", List "scope" "resource" "aud", Json "rar" "capability", Text "method",
        Id "anchor", Text "challenge", Id "artifact_ref", Text "use", Time "valid_to",
    ],
};

/// Which token became which.
pub const EXCHANGES: Table = Table {
    name: "exchanges",
    record: "exchange",
    own: columns![
        Id "subject_token_ref" "actor_token_ref" "issued_token_ref", List "scope_in" "scope_out" "aud_in" "aud_out" "may_act", Time "at",
    ],
};

/// What tools need and do.
pub const TOOLS: Table = Table {
    name: "tools",
    record: "tool",
    own: columns![
        Text "server" "tool", Json "requires", Text "effect" "data_class" "output_trust", Int "impact", Text "definition_digest" "approved_by",
    ],
};

/// What began, changed and ended.
pub const LIFECYCLE: Table = Table {
    name: "lifecycle",
    record: "lifecycle",
    own: columns![
        Text "event" "subject_kind", Id "subject", Time "effective_at", Text "by" "reason", Json "changes", Long "last_seq", Text "epoch",
    ],
};

/// Who parties are.
pub const PRINCIPALS: Table = Table {
    name: "principals",
    record: "principal",
    own: columns![
        Text "principal" "principal_kind" "issuer" "name" "owner", List "aliases" "roles", Time "valid_from" "valid_to",
    ],
};

/// Every table of authority.
pub const TABLES: &[Table] = &[GRANTS, REAUTHS, EXCHANGES, TOOLS, LIFECYCLE, PRINCIPALS];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check(json: &str, kind: &str) {
        let value: Json = serde_json::from_str(json).expect("JSON");
        let record: Record = serde_json::from_value(value.clone()).expect("a record of authority");
        let back = serde_json::to_value(&record).expect("JSON");
        assert_eq!(back, value, "nothing is lost or added");
        assert_eq!(back["kind"], kind);
    }

    #[test]
    fn records_read_and_write() {
        check(
            r#"{"kind":"grant","id":"r1","time":"2026-08-20T14:00:00Z","source":{"kind":"catena","instance":"as-1"},"grant_id":"g-1",
            "grantor":"dana@corp.example","grantee":"agent:planner","authority":{"scope":["mail.read"],"capability":[{"server":"mcp:mail","action":"mail.read"}]},
            "delegatees":["agent:summarizer"],"max_redelegation":1,"basis":"interactive_consent","valid_to":1787000000,"standing":false}"#,
            "grant",
        );
        check(
            r#"{"kind":"reauth","id":"r2","time":"2026-08-20T14:00:00Z","reauth_id":"ra-1","by":"agent:planner","approver":"dana@corp.example",
            "at":"2026-08-20T14:00:00Z","new_authority":{"scope":"mail.send"},"anchor":"e-7","use":"single_op"}"#,
            "reauth",
        );
        check(
            r#"{"kind":"exchange","id":"r3","time":1787000000,"subject_token_ref":"hmac:1","issued_token_ref":"hmac:2","scope_in":["a","b"],"scope_out":["a"]}"#,
            "exchange",
        );
        check(
            r#"{"kind":"tool","id":"r4","time":1787000000,"server":"mcp:mail","tool":"mail.send","effect":"update","impact":3}"#,
            "tool",
        );
        check(
            r#"{"kind":"lifecycle","id":"r5","time":1787000000,"event":"revoked","subject_kind":"grant","subject":"g-1","reason":"left the company"}"#,
            "lifecycle",
        );
        check(
            r#"{"kind":"principal","id":"r6","time":1787000000,"principal":"agent:planner","principal_kind":"agent","aliases":["spiffe://corp/planner"]}"#,
            "principal",
        );
    }

    #[test]
    fn a_grant_names_both_sides_and_what_it_allows() {
        for missing in ["grant_id", "grantor", "grantee", "authority", "id", "time"] {
            let mut grant: Json = serde_json::json!({"kind": "grant", "id": "r", "time": 1_787_000_000, "grant_id": "g", "grantor": "a",
                "grantee": "b", "authority": {"scope": []}});
            assert!(serde_json::from_value::<Record>(grant.clone()).is_ok());
            grant.as_object_mut().expect("an object").remove(missing);
            assert!(serde_json::from_value::<Record>(grant).is_err(), "{missing}");
        }
    }

    /// The tables hold the fields of the records: those of `authority` flat, everything else under its own name.
    #[test]
    fn tables_and_records_have_the_same_fields() {
        let schema = schema();
        let variants = schema["oneOf"].as_array().expect("one variant per kind");
        assert_eq!(variants.len(), TABLES.len());
        for table in TABLES {
            let variant = variants.iter().find(|v| v["properties"]["kind"]["const"] == table.record).expect("the kind");
            let mut fields = properties(&schema, variant);
            for (group, members) in [("authority", "Authority"), ("new_authority", "Authority")] {
                if fields.remove(group) {
                    fields.extend(properties(&schema, &schema["$defs"][members]));
                }
            }
            for envelope in ["kind", "id", "time", "source"] {
                assert!(fields.remove(envelope), "{envelope} of {}", table.record);
            }
            let columns: BTreeSet<String> = table.own.iter().map(|c| c.name.to_owned()).collect();
            assert_eq!(columns, fields, "{}", table.name);
        }
    }

    /// Names of the properties of a schema and of the schemas that it refers to beside them.
    fn properties(root: &Json, schema: &Json) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            names.extend(properties(root, part));
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            names.extend(properties(root, &root["$defs"][name]));
        }
        names
    }

    #[test]
    fn names_of_columns_are_unique() {
        for table in TABLES {
            let names: Vec<&str> = table.columns().map(|c| c.name).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{}", table.name);
            assert_eq!(table.schema().fields().len(), names.len());
        }
    }
}
