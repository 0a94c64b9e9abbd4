//! The native decision event as JSON: its types, its schema, and the writers that turn a canonical event back into it.
//!
//! Guarantees: W-1 [`schema`] is generated from the types here, and `schemas/event/v1.json` is what it says (a test
//! compares them). W-2 what [`write_event`] writes, the native decoder reads back into an equal event once it is told
//! that the record is our own, whatever the event holds. W-3 what [`write_native`] writes is valid under the schema.
//!
//! These types describe the contract to people, generators and tests. They do not read what producers send: that is the
//! decoder's work, which never fails over a wrong optional field and keeps what it does not know (`docs/native-event.md`).

use crate::event;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

mod write;

pub use write::{write_authority, write_event, write_native};

/// Any JSON value.
pub type Json = serde_json::Value;
/// A JSON object whose members are the producer's own.
pub type JsonObject = serde_json::Map<String, Json>;

/// JSON Schema (2020-12) of the native event, version 1: a decision, or an execution, which needs no verdict.
pub fn schema() -> Json {
    let mut schema = document::<Event>("urn:catena:event:v1", "Native decision event, version 1");
    let execution = serde_json::json!({ "properties": { "kind": { "const": "execution" } }, "required": ["kind"] });
    schema["if"] = execution;
    schema["else"] = serde_json::json!({ "required": ["decision"] });
    schema
}

/// A schema document with its name on it.
pub(crate) fn document<T: JsonSchema>(id: &str, title: &str) -> Json {
    let mut root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    root.insert("$id".into(), id.into());
    root.insert("title".into(), title.into());
    root.to_value()
}

/// A struct whose members may all be absent.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>),+
        }
    };
}

pub(crate) use object;

/// A closed vocabulary, with the type of the canonical event that holds the same words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident = $canonical:ty { $($(#[$word_doc:meta])* $variant:ident $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$word_doc])* #[serde(rename = $word)] $variant),+ }

        impl From<$name> for $canonical {
            fn from(word: $name) -> $canonical { match word { $($name::$variant => <$canonical>::$variant),+ } }
        }

        impl From<$canonical> for $name {
            fn from(word: $canonical) -> $name { match word { $(<$canonical>::$variant => $name::$variant),+ } }
        }
    };
}

/// An instant. RFC 3339 with any offset and any number of digits, of which six are kept; or a whole number since the Unix
/// epoch whose size tells its unit: 10 digits are seconds, 13 milliseconds, 16 microseconds, 19 nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Instant {
    /// RFC 3339.
    Text(String),
    /// Since the epoch.
    Number(i64),
}

impl JsonSchema for Instant {
    fn schema_name() -> Cow<'static, str> {
        "Instant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An instant: RFC 3339 with any offset (six digits of the fraction are kept), or a whole number since the Unix \
                            epoch whose size tells its unit: 10 digits are seconds, 13 milliseconds, 16 microseconds, 19 nanoseconds.",
            "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "integer", "minimum": 1_000_000_000 }]
        })
    }
}

/// An id. Text; a number or boolean is kept as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// Text.
    Text(String),
    /// A number, to the last digit.
    Number(serde_json::Number),
    /// A boolean.
    Bool(bool),
}

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An id. Text; a number or boolean is kept as it was written.",
            "type": ["string", "number", "boolean"]
        })
    }
}

/// A list of texts; one text alone is a list of one (RFC 7519, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A list of texts; one text alone is a list of one (RFC 7519, section 4.1.3).",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

words! {
    /// What was decided.
    Verdict = event::Outcome {
        /// The call may go ahead.
        Allow "allow",
        /// The call may not.
        Deny "deny",
        /// More is asked for first: see `challenge`.
        StepUp "step_up",
        /// The decision itself failed.
        Error "error",
        /// The producer does not say, or says something new.
        Unknown "unknown",
    }
}

words! {
    /// Whether the producer said the verdict itself or it was worked out from other fields.
    Basis = event::Basis {
        /// Said.
        Explicit "explicit",
        /// Worked out, for instance from an HTTP status.
        Inferred "inferred",
    }
}

words! {
    /// What the enforcement point did with the call.
    Enforced = event::Enforced {
        /// Passed on.
        Forwarded "forwarded",
        /// Stopped.
        Blocked "blocked",
        /// Kept waiting, for instance for an approval.
        Held "held",
        /// Passed on changed.
        Modified "modified",
        /// Nothing was enforced: a dry run, or advice.
        None "none",
        /// Not known.
        Unknown "unknown",
    }
}

words! {
    /// The moment in the life of a call that the decision belongs to.
    Phase = event::Phase {
        /// A tool is about to be called.
        Invoke "invoke",
        /// Tools are listed.
        List "list",
        /// A token is issued.
        TokenIssue "token_issue",
        /// A token is exchanged (RFC 8693).
        TokenExchange "token_exchange",
        /// A session starts or ends.
        Session "session",
        /// Somebody approves or refuses.
        Approval "approval",
        /// A plan is judged before its calls.
        Plan "plan",
    }
}

/// One decision on one action, or its execution. Only `id`, `time` and, of a decision, `decision.verdict` are required; `null` is
/// the same as absent; members that are not listed here are kept under `extra`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Unique within tenant and source, at most once per decision; a ULID or UUID serves well.
    pub id: String,
    /// When it was decided, by the producer's clock.
    pub time: Instant,
    /// Kind of record: a decision unless it says otherwise. Other kinds are records of authority (`authority-v1.json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Where the record came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What was decided, by which policy. An execution has no verdict: one that it brings is kept under `extra`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// On whose behalf: the root of the delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// Who acts, root first: the first was delegated to by the requester, the last made the call. (`act` of RFC 8693,
    /// section 4.1, nests the other way round.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actors: Option<Vec<Actor>>,
    /// How the actors are known: `act_claim`, `exchange`, `trace`, `impersonation`, `declared` or `inferred`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actors_source: Option<String>,
    /// Whether the producer vouches that no actor is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actors_complete: Option<bool>,
    /// What groups calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The tool server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
    /// The call itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Claims of the token presented. Never the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The grant that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// Ids that tie it to other decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Links>,
    /// The caller's surroundings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The producer's own members. Unknown members of the event join them, under their dotted path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<JsonObject>,
}

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A decision.
    #[serde(rename = "decision")]
    Decision,
    /// Something done, or tried, as somebody saw it who gave no verdict.
    #[serde(rename = "execution")]
    Execution,
}

/// What a step-up asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Challenge {
    /// Id of the challenge: the answer to it carries the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `insufficient_scope` (RFC 6750, section 3.1), `user_authentication` (RFC 9470) or `device_authentication`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Scopes asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Texts>,
    /// Authentication context asked for (RFC 9470, `acr_values`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Greatest age of the authentication, in seconds (RFC 9470, `max_age`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<i64>,
    /// The producer's own members.
    #[serde(flatten)]
    pub other: JsonObject,
}

object! {
    /// One acting party.
    Actor {
        /// Stable id.
        id: Id,
        /// `client`, `agent`, `workload` or `bot`.
        kind: String,
        /// Who issued the id.
        issuer: String,
        /// `verified`, `asserted`, `inferred` or `absent`.
        assurance: String,
        /// Display name.
        name: String,
        /// Version of the software.
        version: Id,
        /// Model that drives it.
        model: String,
    }
}

/// The JSON type of a member, by how it is read.
macro_rules! member {
    (text) => { String };
    (scalar) => { Id };
    (digest) => { Id };
    (texts) => { Texts };
    (scopes) => { Texts };
    (digests) => { Texts };
    (int) => { i32 };
    (long) => { i64 };
    (time) => { Instant };
    (basis) => { Basis };
    (enforced) => { Enforced };
    (phase) => { Phase };
    (json) => { Json };
    (array) => { Vec<Json> };
    (challenge) => { Challenge };
}

/// One type per JSON object of the table. A decision has a verdict besides, the one member that is required.
macro_rules! group {
    ($(#[$doc:meta])+ decision: $($rest:tt)+) => {
        group! { @ [] [
            /// `allow`, `deny`, `step_up` (more is asked for first), `error` (the decision failed) or `unknown`.
            pub verdict: Verdict,
        ] $(#[$doc])+ $($rest)+ }
    };
    ($(#[$doc:meta])+ $group:ident: $($rest:tt)+) => { group! { @ [#[derive(Default)]] [] $(#[$doc])+ $($rest)+ } };
    (@ [$($derive:tt)*] [$($required:tt)*]
        $(#[$group_doc:meta])+
        $Group:ident { $(
            members { $(
                $(#[$doc:meta])+
                $field:ident: $how:ident $member:literal => $variant:ident $name:literal $kind:ident $leaf:literal $(, slot $slot:ident)?;
            )* }
            $(
                $(#[$object_doc:meta])+
                object $object:ident: $Object:ident { $(
                    $(#[$inner_doc:meta])+
                    $inner:ident: $inner_how:ident $inner_member:literal
                        => $inner_variant:ident $inner_name:literal $inner_kind:ident $inner_leaf:literal $(, slot $inner_slot:ident)?;
                )* }
            )?
        )+ }
    ) => {
        $(#[$group_doc])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        $($derive)*
        pub struct $Group {
            $($required)*
            $(
                $(
                    $(#[$doc])+
                    #[serde(default, rename = $member, skip_serializing_if = "Option::is_none")]
                    pub $field: Option<member!($how)>,
                )*
                $(
                    $(#[$object_doc])+
                    #[serde(default, skip_serializing_if = "Option::is_none")]
                    pub $object: Option<$Object>,
                )?
            )+
        }

        $($(
            $(#[$object_doc])+
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
            pub struct $Object {
                $(
                    $(#[$inner_doc])+
                    #[serde(default, rename = $inner_member, skip_serializing_if = "Option::is_none")]
                    pub $inner: Option<member!($inner_how)>,
                )*
            }
        )?)+
    };
}

macro_rules! groups {
    ($(
        columns $columns:tt
        $($(#[$doc:meta])+ $group:ident: $Group:ident $rows:tt)*
    )+) => { $($(
        group! { $(#[$doc])+ $group: $Group $rows }
    )*)+ };
}

crate::event_fields! { objects groups }
