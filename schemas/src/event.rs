//! The canonical event: one decision on one action, as every producer's record becomes it.
//!
//! Guarantee: an [`Event`] says only what its source said. An absent field is `None`, never a default; what could not
//! be read is named in `flags`. Actors stand root first: the first was delegated to by the requester, the last made
//! the call. Strings borrow from the bytes they were read from wherever they can, so that filling one costs no copies.
//!
//! Field names and meanings follow the native event of `docs/native-event.md`; secrets are gone by the time one exists. The structs of
//! the groups, such as [`Call`], are generated from the table in [`crate::fields`].

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
    #[derive(Default)]
    Outcome {
        Allow = "allow", Deny = "deny", StepUp = "step_up", Error = "error",
        #[default]
        Unknown = "unknown",
    }
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
    /// The grant that allowed it.
    pub grant: Grant<'a>,
    /// What it hangs together with.
    pub links: Links<'a>,
    /// Where it came from on the network.
    pub network: Network<'a>,
    /// Everything else the record held: JSON text of an object, redacted.
    pub extra: Text<'a>,
    /// What was odd but kept, as codes: `time_missing`, `invalid:token.issued_at`, `cut:params` and so on.
    pub flags: Texts<'a>,
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

/// The type of a field, by how it is read.
macro_rules! kept {
    ($a:lifetime texts) => { Texts<$a> };
    ($a:lifetime scopes) => { Texts<$a> };
    ($a:lifetime digests) => { Texts<$a> };
    ($a:lifetime int) => { Option<i32> };
    ($a:lifetime long) => { Option<i64> };
    ($a:lifetime time) => { Option<Micros> };
    ($a:lifetime basis) => { Option<Basis> };
    ($a:lifetime enforced) => { Option<Enforced> };
    ($a:lifetime phase) => { Option<Phase> };
    ($a:lifetime $text:ident) => { Text<$a> };
}

/// One struct per group of the table, with the fields that have no row there.
macro_rules! group {
    ($(#[$doc:meta])+ decision: $($rest:tt)+) => {
        group! { @ [
            /// Allow, deny, step-up, error or unknown.
            outcome: Outcome,
        ] $(#[$doc])+ $($rest)+ }
    };
    ($(#[$doc:meta])+ source: $($rest:tt)+) => {
        group! { @ [
            /// Which decision of the record this is, from 0.
            decision_index: u32,
            /// How many decisions the record holds.
            decision_count: u32,
        ] $(#[$doc])+ $($rest)+ }
    };
    ($(#[$doc:meta])+ $group:ident: $($rest:tt)+) => { group! { @ [] $(#[$doc])+ $($rest)+ } };
    (@ [$($(#[$other_doc:meta])+ $other:ident: $type:ty,)*]
        $(#[$group_doc:meta])+ $Group:ident { $($(#[$doc:meta])+ $field:ident: $how:ident)+ }
    ) => {
        $(#[$group_doc])+
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $Group<'a> {
            $($(#[$other_doc])+ pub $other: $type,)*
            $($(#[$doc])+ pub $field: kept!('a $how),)+
        }
    };
}

macro_rules! groups {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident: $Group:ident { $(
            $(#[doc = $doc:literal])+
            $field:ident: $how:ident $path:tt => $variant:ident $(, slot $slot:ident)?;
        )+ }
    )+) => { $(
        group! { $(#[doc = $group_doc])+ $group: $Group { $($(#[doc = $doc])+ $field: $how)+ } }
    )+ };
}

crate::event_fields! { groups groups }

impl<'a> Event<'a> {
    /// The last actor: the one that made the call (column `agent`).
    pub fn agent(&self) -> Option<&str> {
        self.actors.last().map(|a| a.id.as_ref())
    }
}
