//! The canonical event: one decision on one action, as every producer's record becomes it.
//!
//! Guarantee: an [`Event`] says only what its source said. An absent field is `None`, never a default; what could not
//! be read is named in `flags`. Actors stand root first: the first was delegated to by the requester, the last made
//! the call. Strings borrow from the bytes they were read from wherever they can, so that filling one costs no copies.
//!
//! Field names and meanings follow the native event of `docs/native-event.md`; secrets are gone by the time one exists.

use crate::Micros;
use std::borrow::Cow;

/// Text that may be absent, borrowed from the record when it can be.
pub type Text<'a> = Option<Cow<'a, str>>;
/// A list of texts; empty when absent.
pub type Texts<'a> = Vec<Cow<'a, str>>;

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &[$name] = &[$($name::$variant),+];
            /// The value as it stands in columns and JSON.
            pub const fn as_str(self) -> &'static str { match self { $($name::$variant => $text),+ } }
            /// The value that a text names, exactly.
            pub fn parse(s: &str) -> Option<$name> { match s { $($text => Some($name::$variant),)+ _ => None } }
        }
    };
}

pub(crate) use vocabulary;

vocabulary! {
    /// What kind of fact an event is.
    #[derive(Default)]
    EventKind {
        /// A verdict on an action.
        #[default]
        Decision = "decision",
        /// An action that was carried out, or tried, as somebody saw it who gave no verdict. Its outcome is `unknown`, and it is
        /// never counted as a decision.
        Execution = "execution",
    }
}

vocabulary! {
    /// What was decided (`decision.verdict`; column `outcome`).
    Outcome { Allow = "allow", Deny = "deny", StepUp = "step_up", Error = "error", Unknown = "unknown" }
}
vocabulary! {
    /// Whether the source said the verdict itself or it was worked out from other fields.
    Basis { Explicit = "explicit", Inferred = "inferred" }
}
vocabulary! {
    /// What the enforcement point did with the call.
    Enforced { Forwarded = "forwarded", Blocked = "blocked", Held = "held", Modified = "modified", None = "none", Unknown = "unknown" }
}
vocabulary! {
    /// The moment in the life of a call that the decision belongs to.
    Phase {
        Invoke = "invoke", List = "list", TokenIssue = "token_issue", TokenExchange = "token_exchange",
        Session = "session", Approval = "approval", Plan = "plan",
    }
}

/// One decision on one action, or its execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event<'a> {
    /// Unique within tenant and source; given by the source, or derived from its record id.
    pub id: Cow<'a, str>,
    /// When it was decided, by the source's clock.
    pub time: Micros,
    /// A decision, or only the execution of something.
    pub kind: EventKind,
    /// What the gateway or engine decided.
    pub decision: Decision<'a>,
    /// Where the record came from.
    pub source: Source<'a>,
    /// On whose behalf: the root of the delegation.
    pub requester: Requester<'a>,
    /// Who acts, root first.
    pub actors: Vec<Actor<'a>>,
    /// How the actors are known: `act_claim`, `exchange`, `trace`, `impersonation`, `declared` or `inferred`.
    pub actors_source: Text<'a>,
    /// Whether the source vouches that no actor is missing.
    pub actors_complete: Option<bool>,
    /// What groups calls.
    pub session: Session<'a>,
    /// The tool server.
    pub server: Server<'a>,
    /// The tool.
    pub tool: Tool<'a>,
    /// The call itself.
    pub call: Call<'a>,
    /// The token presented, as a keyed digest and its claims.
    pub token: Token<'a>,
    /// `grant.id`: the grant or consent that the source says allowed it.
    pub grant_id: Text<'a>,
    /// What it hangs together with.
    pub links: Links<'a>,
    /// Where it came from on the network.
    pub network: Network<'a>,
    /// Everything else the record held: JSON text of an object, redacted.
    pub extra: Text<'a>,
    /// What was odd but kept, as codes: `time_missing`, `invalid:token.issued_at`, `cut:params` and so on.
    pub flags: Texts<'a>,
}

/// `decision`: verdict, basis and policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<'a> {
    /// Allow, deny, step-up, error or unknown.
    pub outcome: Outcome,
    /// Explicit or inferred.
    pub basis: Option<Basis>,
    /// What was done with the call.
    pub enforced: Option<Enforced>,
    /// Which moment it belongs to.
    pub phase: Option<Phase>,
    /// `policy.engine`.
    pub policy_engine: Text<'a>,
    /// `policy.id`.
    pub policy_id: Text<'a>,
    /// `policy.version`: bundle revision, git hash, route checksum.
    pub policy_version: Text<'a>,
    /// `policy.digest`.
    pub policy_digest: Text<'a>,
    /// `policy.rules`: the rules that determined the verdict.
    pub rules: Texts<'a>,
    /// Reason codes.
    pub reasons: Texts<'a>,
    /// JSON text of an array.
    pub obligations: Text<'a>,
    /// JSON text of an object: what a step-up asks for.
    pub challenge: Text<'a>,
}

impl Default for Decision<'_> {
    fn default() -> Self {
        Decision {
            outcome: Outcome::Unknown,
            basis: None,
            enforced: None,
            phase: None,
            policy_engine: None,
            policy_id: None,
            policy_version: None,
            policy_digest: None,
            rules: Vec::new(),
            reasons: Vec::new(),
            obligations: None,
            challenge: None,
        }
    }
}

/// `source`: the producer, and the record within it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source<'a> {
    /// Producer kind: `catena`, `opa`, `cerbos`, `envoy` ...
    pub kind: Text<'a>,
    /// Which instance of it.
    pub instance: Text<'a>,
    /// Sequence number of the instance, for gap detection.
    pub seq: Option<i64>,
    /// Restart marker: `seq` counts within one epoch.
    pub epoch: Text<'a>,
    /// The producer's own id of the record; the same for every decision of one record.
    pub record: Text<'a>,
    /// Which decision of the record this is, from 0.
    pub decision_index: u32,
    /// How many decisions the record holds.
    pub decision_count: u32,
}

/// `requester`: the party on whose behalf the chain acts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requester<'a> {
    /// Stable id.
    pub id: Text<'a>,
    /// Issuer of that id.
    pub issuer: Text<'a>,
    /// `human`, `service` ...
    pub kind: Text<'a>,
    /// `verified`, `asserted`, `inferred` or `absent`.
    pub assurance: Text<'a>,
    /// E-mail address, if apart from the id.
    pub email: Text<'a>,
    /// Roles or groups.
    pub roles: Texts<'a>,
}

/// One acting party.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actor<'a> {
    /// Stable id.
    pub id: Cow<'a, str>,
    /// `client`, `agent`, `workload` or `bot`.
    pub kind: Text<'a>,
    /// Issuer of that id.
    pub issuer: Text<'a>,
    /// `verified`, `asserted`, `inferred` or `absent`.
    pub assurance: Text<'a>,
    /// Display name.
    pub name: Text<'a>,
    /// Software version.
    pub version: Text<'a>,
    /// Model that drives it.
    pub model: Text<'a>,
}

impl<'a> Actor<'a> {
    /// An actor of which only the id is known.
    pub fn named(id: impl Into<Cow<'a, str>>) -> Actor<'a> {
        Actor { id: id.into(), ..Actor::default() }
    }
}

/// `session`: what groups calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session<'a> {
    /// Session id as the source keys it.
    pub id: Text<'a>,
    /// Agent run.
    pub run: Text<'a>,
    /// Conversation.
    pub conversation: Text<'a>,
    /// `Mcp-Session-Id`; never a key by itself.
    pub mcp: Text<'a>,
    /// Task (A2A, MCP tasks).
    pub task: Text<'a>,
}

/// `server`: the tool server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server<'a> {
    /// Stable id, usually its URL.
    pub id: Text<'a>,
    /// Name.
    pub name: Text<'a>,
}

/// `tool`: what was called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool<'a> {
    /// Name within its server.
    pub name: Text<'a>,
    /// `read`, `query`, `update`, `admin`, or the source's own class.
    pub action: Text<'a>,
    /// Class of the data it touches.
    pub data_class: Text<'a>,
    /// 0 (none) to 5.
    pub impact: Option<i32>,
    /// Digest of the tool's definition.
    pub definition_digest: Text<'a>,
}

/// `call`: protocol, arguments, result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call<'a> {
    /// `mcp`, `a2a`, `http` ...
    pub protocol: Text<'a>,
    /// Its revision.
    pub protocol_version: Text<'a>,
    /// JSON-RPC method.
    pub method: Text<'a>,
    /// JSON-RPC id, as text.
    pub jsonrpc_id: Text<'a>,
    /// JSON-RPC error code.
    pub jsonrpc_error: Option<i64>,
    /// HTTP verb.
    pub http_method: Text<'a>,
    /// HTTP authority.
    pub http_host: Text<'a>,
    /// HTTP path.
    pub http_path: Text<'a>,
    /// HTTP status.
    pub http_status: Option<i32>,
    /// JSON text of the arguments, redacted.
    pub params: Text<'a>,
    /// Keyed digest of the arguments before redaction.
    pub params_digest: Text<'a>,
    /// What it touched.
    pub resources: Texts<'a>,
    /// Where data went.
    pub destination: Text<'a>,
    /// Handles consumed.
    pub handles_in: Texts<'a>,
    /// Handles produced.
    pub handles_out: Texts<'a>,
    /// State before.
    pub state_in: Text<'a>,
    /// State after.
    pub state_out: Text<'a>,
    /// `trusted`, `untrusted` or `sensitive`.
    pub result_class: Text<'a>,
    /// Bytes of the result.
    pub result_bytes: Option<i64>,
}

/// `token`: claims of the token presented. The token itself is never kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token<'a> {
    /// `hmac:` and a keyed digest.
    pub reference: Text<'a>,
    /// `verified`, `introspected`, `parsed`, `opaque` or `none`.
    pub proof: Text<'a>,
    /// `iss`.
    pub issuer: Text<'a>,
    /// `sub`.
    pub subject: Text<'a>,
    /// `client_id` or `azp`.
    pub client_id: Text<'a>,
    /// `aud`.
    pub audience: Texts<'a>,
    /// RFC 8707 resource.
    pub resource: Texts<'a>,
    /// `scope`, split.
    pub scope: Texts<'a>,
    /// `iat`.
    pub issued_at: Option<Micros>,
    /// `exp`.
    pub expires_at: Option<Micros>,
    /// `auth_time`.
    pub auth_time: Option<Micros>,
    /// `acr`.
    pub acr: Text<'a>,
    /// `cnf`: proof-of-possession key, as a thumbprint.
    pub cnf: Text<'a>,
    /// `txn` (RFC 8417, transaction tokens).
    pub txn: Text<'a>,
    /// `acti`: id of the acting token.
    pub acti: Text<'a>,
    /// Reference of the token this one was exchanged from.
    pub parent_reference: Text<'a>,
}

/// `links`: ids that tie a decision to others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Links<'a> {
    /// Event id of the decision that led to this one.
    pub parent_decision: Text<'a>,
    /// `gateway` or `client`: who says so.
    pub parent_origin: Text<'a>,
    /// W3C trace id, 32 hex digits.
    pub trace: Text<'a>,
    /// Span id, 16 hex digits.
    pub span: Text<'a>,
    /// Parent span id.
    pub parent_span: Text<'a>,
    /// Trace id of the HTTP request, if apart from `trace`.
    pub http_trace: Text<'a>,
    /// Request id.
    pub request: Text<'a>,
}

/// `network`: the caller's surroundings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network<'a> {
    /// Address.
    pub ip: Text<'a>,
    /// User agent.
    pub user_agent: Text<'a>,
    /// SPIFFE id.
    pub spiffe: Text<'a>,
}

impl<'a> Event<'a> {
    /// The last actor: the one that made the call (column `agent`).
    pub fn agent(&self) -> Option<&str> {
        self.actors.last().map(|a| a.id.as_ref())
    }
}
