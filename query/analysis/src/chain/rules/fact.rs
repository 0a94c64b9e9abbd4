//! What the rules are told of one decision.
//!
//! Guarantee: a [`Fact`] borrows everything, so that rows of the lake can be told without a copy. Absent and empty text
//! mean the same: the record does not say. The tenant stands beside the fact, never in it.
//!
//! A text is told as it is, or, by who has many facts with the same texts, as its name in the store ([`NamedFact`]).

use super::texts::Name;
use catena_schemas::{Enforced, Event, Micros, Outcome};

/// How far a token's claims can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// The record does not say, or there was no token.
    #[default]
    None,
    /// The token could not be read.
    Opaque,
    /// Read, and not said to be verified.
    Parsed,
    /// The issuer confirmed it.
    Introspected,
    /// Its signature was verified.
    Verified,
}

impl Proof {
    /// The proof that a column names.
    pub fn parse(text: &str) -> Proof {
        match text {
            "verified" => Proof::Verified,
            "introspected" => Proof::Introspected,
            "parsed" | "parsed_unverified" => Proof::Parsed,
            "opaque" => Proof::Opaque,
            _ => Proof::None,
        }
    }

    /// Whether claims are more than somebody's word.
    pub fn holds(self) -> bool {
        self >= Proof::Introspected
    }
}

/// How a record knows its actors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// The record does not say.
    #[default]
    Unsaid,
    /// Nested `act` claims of the token.
    Act,
    /// A record of a token exchange.
    Exchange,
    /// An exchange without an actor: the hop is invisible in the token.
    Impersonation,
    /// The trace.
    Trace,
    /// The caller said so.
    Declared,
    /// Worked out.
    Inferred,
}

impl Via {
    /// The way that the column `actors_source` names.
    pub fn parse(text: &str) -> Via {
        match text {
            "act_claim" => Via::Act,
            "exchange" => Via::Exchange,
            "impersonation" => Via::Impersonation,
            "trace" => Via::Trace,
            "declared" => Via::Declared,
            "inferred" => Via::Inferred,
            _ => Via::Unsaid,
        }
    }
}

/// What the call spoke. It decides what a task id means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Anything else, or not said.
    #[default]
    Other,
    /// Model Context Protocol, of either generation.
    Mcp,
    /// Agent to agent.
    A2a,
}

impl Protocol {
    /// The protocol that a column names.
    pub fn parse(text: &str) -> Protocol {
        match text {
            "mcp" => Protocol::Mcp,
            "a2a" => Protocol::A2a,
            _ => Protocol::Other,
        }
    }
}

/// An id of a trace or a span, if it says anything: one of zeroes alone is invalid (W3C Trace Context).
pub fn w3c_id(text: &str) -> Option<&str> {
    Some(text).filter(|t| t.bytes().any(|b| b != b'0'))
}

/// A party as a record names it, with texts of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartyOf<T> {
    /// Id.
    pub id: T,
    /// Issuer of the id.
    pub issuer: Option<T>,
    /// `client`, `agent`, `workload` ...
    pub kind: Option<T>,
    /// Whether the record says that the identity was verified.
    pub verified: bool,
}

/// A party.
pub type Party<'a> = PartyOf<&'a str>;

/// One decision, as far as chains need it, with texts of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FactOf<'a, T> {
    /// Producer instance.
    pub source: T,
    /// Id of the event, unique within tenant and source unless a source lies.
    pub event_id: T,
    /// Digest of what the record says (its leaf). Part of the identity: the same id with other content is another event.
    pub content: u128,
    /// When it was decided.
    pub time: Micros,
    /// The name under which others refer to this decision; usually the event id.
    pub decision: Option<T>,
    /// Id of the record, when it holds several decisions.
    pub record: Option<T>,
    /// The decision that led to this one.
    pub parent: Option<T>,
    /// Whether the caller chose that parent, and not a gateway.
    pub parent_by_client: bool,
    /// A signed reference to the decision that led to this one.
    pub predecessor: Option<T>,
    /// Trace.
    pub trace: Option<T>,
    /// Span.
    pub span: Option<T>,
    /// Span that led to it.
    pub parent_span: Option<T>,
    /// Opaque state that the call echoed.
    pub state_in: Option<T>,
    /// Opaque state that the answer handed out.
    pub state_out: Option<T>,
    /// Challenge that was put, or answered.
    pub challenge: Option<T>,
    /// Task.
    pub task: Option<T>,
    /// Transaction of the token.
    pub txn: Option<T>,
    /// Workflow id that all tokens of one workflow share.
    pub acti: Option<T>,
    /// Session, as the source keys it.
    pub session: Option<T>,
    /// Session of the tool server's protocol.
    pub mcp_session: Option<T>,
    /// Issuer of the subject.
    pub issuer: Option<T>,
    /// On whose behalf.
    pub subject: Option<T>,
    /// `human`, `service` ...
    pub subject_kind: Option<T>,
    /// Whether the record says that the subject was verified.
    pub subject_verified: bool,
    /// `client_id` of the token.
    pub client: Option<T>,
    /// Reference of the token.
    pub token: Option<T>,
    /// Reference of the token that it was exchanged from.
    pub parent_token: Option<T>,
    /// How far its claims can be believed.
    pub proof: Proof,
    /// Whether a key binds the token to its presenter.
    pub key_bound: bool,
    /// Who acts, root first.
    pub actors: &'a [PartyOf<T>],
    /// How the actors are known.
    pub via: Via,
    /// The source says that actors may be missing.
    pub partial: bool,
    /// Protocol.
    pub protocol: Protocol,
    /// Tool server.
    pub server: Option<T>,
    /// Tool.
    pub tool: Option<T>,
    /// Keyed digest of the arguments.
    pub args: Option<T>,
    /// Request id: the same for repetitions of one request.
    pub request: Option<T>,
    /// Verdict.
    pub outcome: Option<Outcome>,
    /// Why: the first reason code. Shown, not judged.
    pub reason: Option<T>,
    /// What was done with the call.
    pub enforced: Option<Enforced>,
    /// Grant that allowed it.
    pub grant: Option<T>,
    /// Scopes of the token; `None` when the record names none.
    pub scope: Option<&'a [T]>,
    /// Resources of the token.
    pub resource: Option<&'a [T]>,
    /// Audiences of the token.
    pub audience: Option<&'a [T]>,
}

/// One decision, as its record says it.
pub type Fact<'a> = FactOf<'a, &'a str>;

/// One decision in the names of a store, which are of no use to another. Ids of traces and spans have been through [`w3c_id`].
pub type NamedFact<'a> = FactOf<'a, Name>;

/// Lists of an event, held while its fact is told.
#[derive(Debug, Default)]
pub struct Lists<'a> {
    actors: Vec<Party<'a>>,
    scope: Vec<&'a str>,
    resource: Vec<&'a str>,
    audience: Vec<&'a str>,
}

impl<'a> Fact<'a> {
    /// The fact of an event. `content` is its leaf, or the first half of it. A challenge id must be read by the caller,
    /// who has a JSON parser.
    pub fn of(event: &'a Event<'_>, content: u128, lists: &'a mut Lists<'a>) -> Fact<'a> {
        let some = |list: &'a [std::borrow::Cow<'_, str>]| list.iter().map(|t| t.as_ref()).collect::<Vec<&'a str>>();
        lists.actors = event
            .actors
            .iter()
            .map(|a| Party {
                id: &a.id,
                issuer: a.issuer.as_deref(),
                kind: a.kind.as_deref(),
                verified: a.assurance.as_deref() == Some("verified"),
            })
            .collect();
        lists.scope = some(&event.token.scope);
        lists.resource = some(&event.token.resource);
        lists.audience = some(&event.token.audience);
        let lists: &'a Lists<'a> = lists;
        let listed = |list: &'a [&'a str]| (!list.is_empty()).then_some(list);
        let own_record = event.source.decision_count > 1;
        Fact {
            source: event.source.instance.as_deref().or(event.source.kind.as_deref()).unwrap_or_default(),
            event_id: &event.id,
            content,
            time: event.time,
            decision: Some(&event.id),
            record: event.source.record.as_deref().filter(|_| own_record),
            parent: event.links.parent_decision.as_deref(),
            parent_by_client: event.links.parent_origin.as_deref() == Some("client"),
            predecessor: None,
            trace: event.links.trace.as_deref(),
            span: event.links.span.as_deref(),
            parent_span: event.links.parent_span.as_deref(),
            state_in: event.call.state_in.as_deref(),
            state_out: event.call.state_out.as_deref(),
            challenge: None,
            task: event.session.task.as_deref(),
            txn: event.token.txn.as_deref(),
            acti: event.token.acti.as_deref(),
            session: event.session.id.as_deref(),
            mcp_session: event.session.mcp.as_deref(),
            issuer: event.requester.issuer.as_deref().or(event.token.issuer.as_deref()),
            subject: event.requester.id.as_deref().or(event.token.subject.as_deref()),
            subject_kind: event.requester.kind.as_deref(),
            subject_verified: event.requester.assurance.as_deref() == Some("verified"),
            client: event.token.client_id.as_deref(),
            token: event.token.reference.as_deref(),
            parent_token: event.token.parent_reference.as_deref(),
            proof: event.token.proof.as_deref().map_or(Proof::None, Proof::parse),
            key_bound: event.token.cnf.is_some(),
            actors: &lists.actors,
            via: event.actors_source.as_deref().map_or(Via::Unsaid, Via::parse),
            partial: event.actors_complete == Some(false),
            protocol: event.call.protocol.as_deref().map_or(Protocol::Other, Protocol::parse),
            server: event.server.id.as_deref().or(event.server.name.as_deref()),
            tool: event.tool.name.as_deref(),
            args: event.call.params_digest.as_deref(),
            request: event.links.request.as_deref(),
            outcome: Some(event.decision.outcome),
            reason: event.decision.reasons.first().map(|r| r.as_ref()),
            enforced: event.decision.enforced,
            grant: event.grant.id.as_deref(),
            scope: listed(&lists.scope),
            resource: listed(&lists.resource),
            audience: listed(&lists.audience),
        }
    }
}
