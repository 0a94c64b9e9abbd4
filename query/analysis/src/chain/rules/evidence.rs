//! How well something is known: tiers, families, confidence.
//!
//! Guarantee: numbers only order and cap. More agreeing evidence never lowers a confidence; only evidence that
//! contradicts does, and then the link says so.

use crate::fault::{self, Fault};

/// Evidence that one call led to another, or that two belong together. The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Signed reference to the predecessor.
    C1,
    /// Parent decision.
    C2,
    /// Echoed state, task or challenge: another attempt at the same.
    C3,
    /// Parent span, same subject.
    C4,
    /// Same transaction or workflow: together, no order.
    C5,
    /// Same trace, same subject: together.
    C6,
    /// Same session, same subject and client, without a long silence: together.
    C7,
    /// A handle that one gave out and the other used: a suggestion.
    C8,
    /// Same subject and client within minutes, and nothing better: together.
    C9,
}

/// Who vouches for a piece of evidence. Two pieces of one family are one witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Signatures.
    Crypto,
    /// The authorization server.
    Issuer,
    /// The gateway that decided.
    Gateway,
    /// The trace.
    Trace,
    /// The session.
    Session,
    /// Nearness.
    Heuristic,
}

/// Thousandths. Whole numbers, so that equal evidence is equal everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confidence(pub u16);

impl Confidence {
    /// Nothing is ever certain.
    pub const MAX: Confidence = Confidence(990);

    /// As a share of one.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Call {
    /// As it stands in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Call::C1 => "C1",
            Call::C2 => "C2",
            Call::C3 => "C3",
            Call::C4 => "C4",
            Call::C5 => "C5",
            Call::C6 => "C6",
            Call::C7 => "C7",
            Call::C8 => "C8",
            Call::C9 => "C9",
        }
    }

    /// The evidence in words, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Call::C1 => "signed reference to the parent",
            Call::C2 => "named as the parent decision",
            Call::C3 => "another attempt at the same call",
            Call::C4 => "parent span, same requester",
            Call::C5 => "same transaction or workflow",
            Call::C6 => "same trace and requester",
            Call::C7 => "same session, requester and client",
            Call::C8 => "a handle of the other call was used",
            Call::C9 => "same requester and client within minutes",
        }
    }

    /// Confidence of one piece of it. A parent that the caller chose is worth less than one that a gateway stamped.
    pub const fn confidence(self, by_client: bool) -> Confidence {
        Confidence(match self {
            Call::C1 => 980,
            Call::C2 if by_client => 600,
            Call::C2 => 920,
            Call::C3 => 900,
            Call::C4 => 750,
            Call::C5 => 900,
            Call::C6 => 600,
            Call::C7 => 550,
            Call::C8 => 500,
            Call::C9 => 300,
        })
    }

    /// Who vouches for it.
    pub const fn family(self) -> Family {
        match self {
            Call::C1 => Family::Crypto,
            Call::C2 | Call::C3 => Family::Gateway,
            Call::C4 | Call::C6 => Family::Trace,
            Call::C5 => Family::Issuer,
            Call::C7 => Family::Session,
            Call::C8 | Call::C9 => Family::Heuristic,
        }
    }
}

/// Evidence of who a principal is, and who let it act. The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// Proof of the hop, verified independently of the token's issuer.
    P1,
    /// Current actor of a verified token.
    P2,
    /// Record of the authorization server.
    P3,
    /// Earlier actor of a verified token: its issuer's word.
    P4,
    /// Transaction and requesting workload.
    P5,
    /// A grant that names it.
    P6,
    /// Verified client or caller without `act`.
    P7,
    /// Inherited from the call that led to this one.
    P8,
    /// Somebody's own word.
    P9,
    /// Nothing.
    P10,
}

impl Principal {
    /// As it stands in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Principal::P1 => "P1",
            Principal::P2 => "P2",
            Principal::P3 => "P3",
            Principal::P4 => "P4",
            Principal::P5 => "P5",
            Principal::P6 => "P6",
            Principal::P7 => "P7",
            Principal::P8 => "P8",
            Principal::P9 => "P9",
            Principal::P10 => "P10",
        }
    }

    /// The evidence in words, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Principal::P1 => "proved independently of the token",
            Principal::P2 => "named by a verified token",
            Principal::P3 => "recorded by a token exchange",
            Principal::P4 => "named by a verified token as an earlier actor",
            Principal::P5 => "known from the transaction and its workload",
            Principal::P6 => "named by a grant",
            Principal::P7 => "identified by a verified client id",
            Principal::P8 => "inherited from the call that led to this one",
            Principal::P9 => "declared by the caller",
            Principal::P10 => "not known",
        }
    }

    /// Whether it counts as covered: known from records, not from words.
    pub const fn is_covered(self) -> bool {
        matches!(self, Principal::P1 | Principal::P2 | Principal::P3 | Principal::P4)
    }
}

/// What speaks for and against one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Witnesses {
    best: [u16; 6],
    against: [bool; 6],
}

impl Witnesses {
    pub(super) fn agree(&mut self, family: Family, confidence: Confidence) {
        let best = &mut self.best[family as usize];
        *best = if fault::on(Fault::WitnessesAdd) { 1000.min(*best + confidence.0) } else { (*best).max(confidence.0) };
    }

    pub(super) fn object(&mut self, family: Family) {
        self.against[family as usize] = true;
    }

    /// `1 - product(1 - best of each agreeing family)`, at most [`Confidence::MAX`], times 0.8 for each family against.
    pub(super) fn confidence(&self) -> Confidence {
        let mut doubt: u32 = 1_000_000;
        for best in self.best {
            doubt = doubt * (1000 - u32::from(best)) / 1000;
        }
        let mut value = ((1_000_000 - doubt) / 1000).min(u32::from(Confidence::MAX.0));
        for against in self.against {
            if against {
                value = value * 4 / 5;
            }
        }
        Confidence(value as u16)
    }
}
