//! One decision explained.
//!
//! Guarantee: everything is read from one version of the lake. Members of [`Decision`], [`Grant`] and [`Execution`] are columns of the
//! tables of that name; each of the three lists its members once, and that list is also what is selected.

use super::chain::{Call, Missing, Operation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a decision was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The decision.
    pub decision: Decision,
    /// Every version of the grant that it names.
    pub grants: Vec<Grant>,
    /// What was observed of the call that it allowed.
    pub executions: Vec<Execution>,
    /// Its place in a chain; absent where it is in none.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// Version of the lake.
    pub lake_version: Option<u64>,
}

/// The place of a decision in its chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The decision as a call of its chain.
    pub event: Call,
    /// The logical call that it is an attempt at.
    pub operation: Operation,
    /// All attempts at that call.
    pub attempts: Vec<Attempt>,
    /// The call that led to it.
    pub led_to_by: Option<Parent>,
    /// The chain.
    pub chain: InChain,
}

/// One attempt at a logical call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Its decision.
    pub event_id: String,
    /// When it was decided.
    pub time: String,
    /// What was decided.
    pub outcome: String,
}

/// The call that led to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// Its decision.
    pub event_id: String,
    /// Server that was called, by its id or else its name.
    pub server: Option<String>,
    /// Tool that was called.
    pub tool: Option<String>,
    /// What was decided.
    pub outcome: String,
}

/// A chain, as one of its decisions names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InChain {
    /// Id of the chain.
    pub chain_id: String,
    /// `root`, `orphan` or `unknown`.
    pub lineage: String,
    /// `open`, `settled` or `sealed`.
    pub state: String,
    /// Calls of the chain.
    pub events: u64,
    /// Roots of the paths of its calls.
    pub requesters: Vec<String>,
    /// References that no event of the lake answers to.
    pub missing: Vec<Missing>,
}

/// A type whose members are columns, and the list of them.
macro_rules! columns {
    ($(#[doc = $of:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $column:ident: $type:ty),+ $(,)? }) => {
        $(#[doc = $of])+
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[doc = $doc])+ pub $column: $type),+ }

        impl $name {
            /// Names of its members.
            pub const COLUMNS: &[&str] = &[$(stringify!($column)),+];
        }
    };
}

columns! {
    /// What a decision says.
    Decision {
        /// Tenant.
        tenant: String,
        /// Unique within tenant and source.
        event_id: String,
        /// When it was decided, by the source's clock.
        time: Option<String>,
        /// When it arrived, by the collector's clock.
        ingest_time: Option<String>,
        /// Producer instance.
        source: Option<String>,
        /// Decoder that read the record.
        format: Option<String>,
        /// `allow`, `deny`, `step_up`, `error` or `unknown`.
        outcome: Option<String>,
        /// `explicit` or `inferred`.
        basis: Option<String>,
        /// `forwarded`, `blocked`, `held`, `modified`, `none` or `unknown`.
        enforced: Option<String>,
        /// `invoke`, `list`, `token_issue`, `token_exchange`, `session`, `approval` or `plan`.
        phase: Option<String>,
        /// Policy engine.
        policy_engine: Option<String>,
        /// Policy.
        policy_id: Option<String>,
        /// Bundle revision, git hash or checksum.
        policy_version: Option<String>,
        /// Digest of the policy.
        policy_digest: Option<String>,
        /// Rules that determined the verdict.
        policy_rules: Option<Vec<String>>,
        /// Reason codes.
        reasons: Option<Vec<String>>,
        /// JSON array.
        obligations: Option<String>,
        /// JSON object: what a step-up asks for.
        challenge: Option<String>,
        /// On whose behalf the call was made.
        requester: Option<String>,
        /// The last actor: the one that made the call.
        agent: Option<String>,
        /// Ids of all actors, root first.
        actors: Option<Vec<String>>,
        /// Id of the tool server.
        server: Option<String>,
        /// Name of the tool server, if it is known apart from the id.
        server_name: Option<String>,
        /// The tool server as it is shown: its id or else its name.
        target_server: Option<String>,
        /// Tool, within its server.
        tool: Option<String>,
        /// `read`, `query`, `update`, `admin`, or the source's own class.
        action: Option<String>,
        /// Keyed digest of the arguments.
        params_digest: Option<String>,
        /// Session.
        session: Option<String>,
        /// Keyed digest of the token.
        token_ref: Option<String>,
        /// `verified`, `introspected`, `parsed`, `opaque` or `none`.
        token_proof: Option<String>,
        /// Scopes of the token.
        scopes: Option<Vec<String>>,
        /// Audiences of the token.
        audience: Option<Vec<String>>,
        /// Resources of the token (RFC 8707).
        token_resource: Option<Vec<String>>,
        /// When the token expires.
        token_expires: Option<String>,
        /// Grant or consent that allowed the call.
        grant_id: Option<String>,
        /// Version of the redaction policy that the row went through.
        redaction: Option<String>,
        /// Kafka topic, intake log or file.
        topic: Option<String>,
        /// Partition of the topic.
        partition: Option<i32>,
        /// Offset in the partition; for files, the byte at which the record starts.
        offset: Option<i64>,
        /// Which decision of its record, from 0.
        decision_index: Option<i32>,
    }
}

columns! {
    /// One version of a grant.
    Grant {
        /// Id of the grant.
        grant_id: Option<String>,
        /// Principal that grants.
        grantor: Option<String>,
        /// Principal that may act.
        grantee: Option<String>,
        /// Scopes that it allows.
        scope: Option<Vec<String>>,
        /// Resources that it allows.
        resource: Option<Vec<String>>,
        /// JSON array of capabilities.
        capability: Option<String>,
        /// How it was given.
        basis: Option<String>,
        /// Start of its validity.
        valid_from: Option<String>,
        /// End of its validity.
        valid_to: Option<String>,
        /// When it was revoked.
        revoked_at: Option<String>,
        /// Version of the grant.
        version: Option<i64>,
        /// When this version was recorded.
        time: Option<String>,
        /// Producer instance.
        source: Option<String>,
    }
}

columns! {
    /// What was observed of a call.
    Execution {
        /// Id of the execution record.
        execution_id: Option<String>,
        /// Producer instance that observed it.
        execution_source: Option<String>,
        /// What ties it to the decision: `request` or `span`.
        tie: Option<String>,
        /// When it was observed.
        time: Option<String>,
        /// Id of the tool server.
        server: Option<String>,
        /// Tool.
        tool: Option<String>,
        /// HTTP status.
        http_status: Option<i32>,
        /// JSON-RPC error code.
        jsonrpc_error: Option<i64>,
        /// Reason codes.
        reasons: Option<Vec<String>>,
        /// `trusted`, `untrusted` or `sensitive`.
        result_class: Option<String>,
        /// Bytes of the result.
        result_bytes: Option<i64>,
        /// User agent.
        user_agent: Option<String>,
    }
}
