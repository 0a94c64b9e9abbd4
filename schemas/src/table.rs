//! The lake's tables: names, columns, partitions.
//!
//! Guarantee: [`Field`] lists every stored column of `records` once, with its type and its place in the leaf. The Arrow
//! schema, the Delta schema, the row builder and the leaf encoder are all derived from this list, so they cannot differ.
//! A released column keeps its name, type and leaf id for ever; new ones are added at the end with a new id.
//!
//! `records` is the one table that ingestion writes. Its partition columns are
//!
//! - `tenant`: from authentication, never from the payload, and leading, so that a query for one tenant lists no other's files;
//! - `ingest_date`: the UTC day of arrival, not of the event: a hostile clock cannot scatter a flush over a thousand folders;
//! - `class`: `decision`; `execution` (what was done, without a verdict); `authority` (a record of what may be done);
//!   `reject` (with reason and raw bytes); or `aside` (recognised, but none of these: a start-up message). Every offset of every
//!   source stands in exactly one of them, or in several rows if its record holds several things. Rows of class `chain` come
//!   from no source: they are what the role `watch` said of chains (see [`crate::revision`]).

use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use std::sync::{Arc, LazyLock};

/// Folder of the records table below the lake's root.
pub const RECORDS: &str = "records";
/// Partition columns of `records`, in order.
pub const PARTITIONS: [&str; 3] = ["tenant", "ingest_date", "class"];

/// What a row is: the `class` partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A decision.
    Decision,
    /// Something done, without a verdict.
    Execution,
    /// A record of authority: see [`crate::authority`].
    Authority,
    /// Bytes that could not be read, with the reason.
    Reject,
    /// Recognised, but none of these.
    Aside,
    /// A revision of a chain, worked out from the others.
    Chain,
}

impl Class {
    /// Every class.
    pub const ALL: &[Class] =
        &[Class::Decision, Class::Execution, Class::Authority, Class::Reject, Class::Aside, Class::Chain];

    /// The class of a partition value.
    pub fn parse(value: &str) -> Option<Class> {
        Class::ALL.iter().copied().find(|c| c.as_str() == value)
    }

    /// Whether its rows are facts that can be sent twice, of which the second is marked: everything but rejections and asides.
    pub fn is_fact(self) -> bool {
        matches!(self, Class::Decision | Class::Execution | Class::Authority)
    }

    /// The partition value.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Decision => "decision",
            Class::Execution => "execution",
            Class::Authority => "authority",
            Class::Reject => "reject",
            Class::Aside => "aside",
            Class::Chain => "chain",
        }
    }
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// UTF-8 of high cardinality: no dictionary, it would only be built to be thrown away.
    Id,
    /// JSON text, high cardinality.
    Json,
    /// List of UTF-8.
    List,
    /// Microseconds since the epoch, UTC.
    Time,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Boolean.
    Bool,
    /// Bytes.
    Bytes,
}

impl Kind {
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Kind::Text | Kind::Id | Kind::Json => DataType::Utf8,
            Kind::List => DataType::List(Arc::new(ArrowField::new("element", DataType::Utf8, true))),
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Int => DataType::Int32,
            Kind::Long => DataType::Int64,
            Kind::Bool => DataType::Boolean,
            Kind::Bytes => DataType::Binary,
        }
    }

    fn delta(self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Kind::Text | Kind::Id | Kind::Json => json!("string"),
            Kind::List => json!({"type": "array", "elementType": "string", "containsNull": true}),
            Kind::Time => json!("timestamp"),
            Kind::Int => json!("integer"),
            Kind::Long => json!("long"),
            Kind::Bool => json!("boolean"),
            Kind::Bytes => json!("binary"),
        }
    }
}

macro_rules! fields {
    ($($variant:ident $name:literal $kind:ident $leaf:literal $doc:literal),+ $(,)?) => {
        /// A stored column of `records`; the number of a variant is its index in the Arrow schema.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Field { $(#[doc = $doc] $variant),+ }
        impl Field {
            /// Every column, in order.
            pub const ALL: &[Field] = &[$(Field::$variant),+];
            /// Column name.
            pub const fn name(self) -> &'static str { match self { $(Field::$variant => $name),+ } }
            /// Storage.
            pub const fn kind(self) -> Kind { match self { $(Field::$variant => Kind::$kind),+ } }
            /// Field id in the leaf: 1 to 19 header, 20 to 249 body, [`PERSONAL`] inside the one commitment to personal
            /// fields, 0 not in the leaf.
            pub const fn leaf(self) -> u16 { match self { $(Field::$variant => $leaf),+ } }
        }
    };
}

/// Leaf id of the commitment that covers all personal fields of a row.
pub const PERSONAL: u16 = 250;

fields! {
    EventId "event_id" Id 2 "Id of the decision, unique within tenant and source.",
    Time "time" Time 3 "When it was decided, by the source's clock.",
    Topic "topic" Text 4 "Where it was read from: Kafka topic, intake log or file.",
    Partition "partition" Int 5 "Partition of the topic.",
    Offset "offset" Long 6 "Offset in the partition; for files, the byte at which the record starts.",
    Outcome "outcome" Text 7 "allow, deny, step_up, error or unknown.",
    Redaction "redaction" Text 9 "Version of the redaction policy that the row went through.",
    DecisionIndex "decision_index" Int 10 "Which decision of its record, from 0. Of a rejection which of those of its record; the first has none.",
    LeafVersion "leaf_version" Int 11 "Version of the leaf encoding.",
    Format "format" Text 20 "Decoder that read the record.",
    SourceKind "source_kind" Text 21 "Producer kind.",
    Source "source" Text 22 "Producer instance.",
    SourceSeq "source_seq" Long 23 "Sequence number of the instance.",
    SourceEpoch "source_epoch" Text 24 "Restart marker of the instance.",
    SourceRecord "source_record" Id 25 "The producer's id of the record, if it is not the event id.",
    DecisionCount "decision_count" Int 26 "How many decisions the record holds, if more than one.",
    Basis "basis" Text 30 "explicit or inferred.",
    Enforced "enforced" Text 31 "forwarded, blocked, held, modified, none or unknown.",
    Phase "phase" Text 32 "invoke, list, token_issue, token_exchange, session, approval or plan.",
    PolicyEngine "policy_engine" Text 33 "Policy engine.",
    PolicyId "policy_id" Text 34 "Policy.",
    PolicyVersion "policy_version" Text 35 "Bundle revision, git hash or checksum.",
    PolicyDigest "policy_digest" Text 36 "Digest of the policy.",
    PolicyRules "policy_rules" List 37 "Rules that determined the verdict.",
    Reasons "reasons" List 38 "Reason codes.",
    Obligations "obligations" Json 39 "JSON array.",
    Challenge "challenge" Json 40 "JSON object: what a step-up asks for.",
    Requester "requester" Text 250 "On whose behalf. Personal.",
    RequesterEmail "requester_email" Text 250 "Personal.",
    RequesterIssuer "requester_issuer" Text 43 "Issuer of the requester's id.",
    RequesterKind "requester_kind" Text 44 "human, service ...",
    RequesterAssurance "requester_assurance" Text 45 "verified, asserted, inferred or absent.",
    RequesterRoles "requester_roles" List 46 "Roles or groups.",
    Agent "agent" Text 50 "The last actor: the one that made the call.",
    Actors "actors" List 51 "Ids, root first.",
    ActorKinds "actor_kinds" List 52 "client, agent, workload or bot, beside `actors`; empty where unknown.",
    ActorAssurance "actor_assurance" List 53 "verified, asserted, inferred or absent, beside `actors`; empty where unknown.",
    ActorDetails "actor_details" Json 54 "JSON array beside `actors`: issuer, name, version, model.",
    ActorsSource "actors_source" Text 55 "act_claim, exchange, trace, impersonation, declared or inferred.",
    ActorsComplete "actors_complete" Bool 56 "Whether the source vouches that no actor is missing.",
    Session "session" Text 60 "Session.",
    Run "run" Text 61 "Agent run.",
    Conversation "conversation" Text 62 "Conversation.",
    McpSession "mcp_session" Text 63 "Mcp-Session-Id.",
    Task "task" Text 64 "Task.",
    Server "server" Text 70 "Tool server.",
    ServerName "server_name" Text 71 "Its name, if apart from the id.",
    Tool "tool" Text 72 "Tool, within its server.",
    Action "action" Text 73 "read, query, update, admin, or the source's own class.",
    DataClass "data_class" Text 74 "Class of the data.",
    Impact "impact" Int 75 "0 (none) to 5.",
    DefinitionDigest "definition_digest" Text 76 "Digest of the tool's definition.",
    Protocol "protocol" Text 80 "mcp, a2a, http ...",
    ProtocolVersion "protocol_version" Text 81 "Its revision.",
    Method "method" Text 82 "JSON-RPC method.",
    JsonrpcId "jsonrpc_id" Text 83 "JSON-RPC id, as text.",
    JsonrpcError "jsonrpc_error" Long 84 "JSON-RPC error code.",
    HttpMethod "http_method" Text 85 "HTTP verb.",
    HttpHost "http_host" Text 86 "HTTP authority.",
    HttpPath "http_path" Text 87 "HTTP path.",
    HttpStatus "http_status" Int 88 "HTTP status.",
    Params "params" Json 250 "JSON text of the arguments, redacted. Personal.",
    ParamsDigest "params_digest" Id 91 "Keyed digest of the arguments.",
    Resources "resources" List 92 "What it touched.",
    Destination "destination" Text 93 "Where data went.",
    HandlesIn "handles_in" List 94 "Handles consumed.",
    HandlesOut "handles_out" List 95 "Handles produced.",
    StateIn "state_in" Text 96 "State before.",
    StateOut "state_out" Text 97 "State after.",
    ResultClass "result_class" Text 98 "trusted, untrusted or sensitive.",
    ResultBytes "result_bytes" Long 99 "Bytes of the result.",
    TokenRef "token_ref" Text 110 "Keyed digest of the token.",
    TokenProof "token_proof" Text 111 "verified, introspected, parsed, opaque or none.",
    TokenIssuer "token_issuer" Text 112 "iss.",
    TokenSubject "token_subject" Text 250 "sub. Personal.",
    TokenClient "token_client" Text 114 "client_id or azp.",
    Audience "audience" List 115 "aud.",
    TokenResource "token_resource" List 116 "RFC 8707 resource.",
    Scopes "scopes" List 117 "scope.",
    TokenIssued "token_issued" Time 118 "iat.",
    TokenExpires "token_expires" Time 119 "exp.",
    TokenAuthTime "token_auth_time" Time 120 "auth_time.",
    TokenAcr "token_acr" Text 121 "acr.",
    TokenCnf "token_cnf" Text 122 "cnf thumbprint.",
    TokenTxn "token_txn" Text 123 "txn.",
    TokenActi "token_acti" Text 124 "acti.",
    TokenParentRef "token_parent_ref" Text 125 "Reference of the token it was exchanged from.",
    GrantId "grant_id" Text 130 "Grant or consent that allowed it.",
    ParentDecision "parent_decision" Id 140 "Event id of the decision that led to this one.",
    ParentOrigin "parent_origin" Text 141 "gateway or client.",
    TraceId "trace_id" Text 142 "W3C trace id.",
    SpanId "span_id" Id 143 "Span id.",
    ParentSpanId "parent_span_id" Id 144 "Parent span id.",
    HttpTrace "http_trace" Text 145 "Trace id of the HTTP request.",
    RequestId "request_id" Id 146 "Request id.",
    Ip "ip" Text 250 "Caller's address. Personal.",
    UserAgent "user_agent" Text 151 "User agent.",
    Spiffe "spiffe" Text 152 "SPIFFE id.",
    Extra "extra" Json 160 "JSON object: everything else the record held, redacted.",
    Flags "flags" List 161 "What was odd but kept.",
    Reason "reject_reason" Text 170 "Why it is a rejection or an aside.",
    ReasonDetail "reject_detail" Text 171 "Detail for people.",
    Raw "raw" Bytes 172 "Bytes of a rejected record, redacted; at most 1 MiB.",
    IngestTime "ingest_time" Time 0 "When it arrived, by the collector's clock.",
    Duplicate "duplicate" Bool 0 "True when the same record with the same content was already there.",
    Kind "kind" Text 12 "execution, or the kind of a record of authority; empty for decisions, rejections and asides.",
    Body "body" Json 250 "Of a record of authority: its fields, as JSON under the names of its table's columns. Personal.",
}

/// Version of the leaf encoding that this build writes.
pub const LEAF_VERSION: i32 = 1;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(
        Field::ALL.iter().map(|f| ArrowField::new(f.name(), f.kind().arrow(), true)).collect::<Vec<_>>(),
    ))
});

/// Arrow schema of a data file of `records`: no partition columns.
pub fn file_schema() -> SchemaRef {
    SCHEMA.clone()
}

static TABLE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<_> = PARTITIONS
        .iter()
        .map(|name| {
            let kind = if *name == "ingest_date" { DataType::Date32 } else { DataType::Utf8 };
            Arc::new(ArrowField::new(*name, kind, true))
        })
        .collect();
    fields.extend(SCHEMA.fields().iter().cloned());
    Arc::new(Schema::new(fields))
});

/// Arrow schema of `records` as a table: partition columns first.
pub fn table_schema() -> SchemaRef {
    TABLE_SCHEMA.clone()
}

/// The `schemaString` of the table's Delta metadata.
pub fn delta_schema() -> String {
    let mut fields: Vec<serde_json::Value> = PARTITIONS
        .iter()
        .map(|n| serde_json::json!({"name": n, "type": if *n == "ingest_date" { "date" } else { "string" }, "nullable": true, "metadata": {}}))
        .collect();
    fields.extend(
        Field::ALL
            .iter()
            .map(|f| serde_json::json!({"name": f.name(), "type": f.kind().delta(), "nullable": true, "metadata": {}})),
    );
    serde_json::json!({"type": "struct", "fields": fields}).to_string()
}

/// Columns whose minimum and maximum stand in the Delta log, so that a query opens few files.
pub const STATISTICS: &[Field] = &[
    Field::EventId,
    Field::Time,
    Field::IngestTime,
    Field::Partition,
    Field::Offset,
    Field::Session,
    Field::TraceId,
    Field::Requester,
    Field::Agent,
    Field::Tool,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_leaf_ids_are_unique() {
        let mut names: Vec<_> = Field::ALL.iter().map(|f| f.name()).chain(PARTITIONS).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Field::ALL.len() + PARTITIONS.len());
        // Header and body are written apart, so that a column added later may belong to the header.
        for part in [1..=19, 20..=PERSONAL - 1] {
            let ids: Vec<_> = Field::ALL.iter().map(|f| f.leaf()).filter(|id| part.contains(id)).collect();
            assert!(
                ids.is_sorted_by(|a, b| a < b),
                "columns of a part stand in ascending order of leaf id, so that the encoder can stream: {ids:?}"
            );
        }
    }
}
