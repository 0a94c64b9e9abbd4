//! Effective bounds along a path: what a call may do at most, hop by hop.
//!
//! Guarantee: bounds only narrow from hop to hop, but where a valid re-authorization or another trust domain begins anew.
//! A hop that records nothing passes on what it was given. Widening is said only where both sides are recorded.
//!
//! ```text
//! alice      granted  calendar.read, mail.read
//! └ planner  recorded mail.read, mail.send      WIDENED by mail.send; bound: mail.read
//!   └ coder  recorded nothing                   sparse;               bound: mail.read
//! ```

use super::book::{Book, Reauth, Use};
use super::{Authority, Implied, Within};
use crate::fault::{self, Fault};
use catena_schemas::Micros;

/// A principal of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Party<'a> {
    /// Id; none for an unknown root.
    pub id: Option<&'a str>,
    /// Trust domain: the issuer of the id. None when it is not said; then it is that of the hop before.
    pub domain: Option<&'a str>,
    /// Whether it is a person.
    pub is_human: bool,
}

/// A call, as far as authority goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call<'a> {
    /// Path, root first.
    pub path: Vec<Party<'a>>,
    /// When.
    pub time: Micros,
    /// What the token says.
    pub token: Authority,
    /// Reference of the token.
    pub token_ref: Option<&'a str>,
    /// Grant that allowed it.
    pub grant: Option<&'a str>,
    /// What it needs.
    pub needs: Authority,
}

/// What a hop's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing: the bound before holds.
    Nothing,
    /// A token exchange.
    Exchange,
    /// Claims of the token presented.
    Token,
    /// Grants from the hop before.
    Grant,
}

impl Recorded {
    /// As it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Recorded::Nothing => "nothing",
            Recorded::Exchange => "exchange",
            Recorded::Token => "token",
            Recorded::Grant => "grant",
        }
    }
}

/// The bound at one hop.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// What the hop recorded: of each dimension the best record.
    pub recorded: Authority,
    /// Where that stands.
    pub by: Recorded,
    /// Whether all its records lie within the bound before.
    pub within: Within,
    /// What it has beyond, where that is certain.
    pub beyond: Authority,
    /// What holds from here on.
    pub effective: Authority,
    /// Another trust domain begins.
    pub reset: bool,
    /// The re-authorization that holds here.
    pub reauth: Option<String>,
}

/// Bounds along a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// One per principal.
    pub hops: Vec<Bound>,
    /// Whether what the call needs lies within.
    pub state: Within,
}

impl Bounds {
    /// The first hop that widened.
    pub fn widened_at(&self) -> Option<usize> {
        self.hops.iter().position(|h| h.within == Within::Out)
    }
}

/// Bounds of a call. `belongs` says of a decision whether it stands in the call's chain, and whether in its operation;
/// `authorities` may approve besides the root.
pub fn bounds(
    book: &Book,
    implied: &Implied,
    authorities: &[String],
    call: &Call<'_>,
    belongs: impl Fn(&str) -> Option<bool>,
) -> Bounds {
    let last = call.path.len().saturating_sub(1);
    let (mut records, root) = (records(book, call), root_grant(book, call));
    // Where somebody stands twice, it holds from the last place on.
    let reauthorized = |at: usize| {
        let by = call.path[at].id.filter(|id| call.path[at + 1..].iter().all(|p| p.id != Some(*id)))?;
        book.reauths_of(by).rev().find(|r| is_valid(r, call, authorities, &belongs))
    };
    let mut hops: Vec<Bound> = Vec::with_capacity(call.path.len());
    let mut domain: Option<&str> = None;
    for (i, party) in call.path.iter().enumerate() {
        let said = std::mem::take(&mut records[i]);
        let by = said.first().map_or(Recorded::Nothing, |(by, _)| *by);
        let recorded = said.iter().fold(Authority::default(), |all, (_, one)| all.or(one));
        let before = hops.last().map(|b| b.effective.clone());
        let reset = matches!((domain, party.domain), (Some(a), Some(b)) if a != b);
        domain = party.domain.or(domain);
        let reauth = reauthorized(i);
        let mut bound = Bound {
            within: Within::Unknown,
            beyond: Authority::default(),
            effective: Authority::default(),
            reset,
            reauth: reauth.map(|r| r.id.clone()),
            recorded,
            by,
        };
        match (&before, reauth) {
            (_, Some(reauth)) => bound.effective = reauth.authority.clone(),
            (None, None) if last == 0 => bound.effective = bound.recorded.clone(),
            (None, None) => bound.effective = root.clone().unwrap_or_default(),
            (Some(_), None) if reset => bound.effective = bound.recorded.clone(),
            (Some(before), None) if by == Recorded::Nothing => bound.effective = before.clone(),
            (Some(before), None) => {
                // Every record of the hop is held against the bound: were only the best one, losing it would uncover
                // another, and absence would make a widening.
                let judged = said.iter().map(|(_, one)| one.within(before, implied));
                bound.within = judged.clone().find(|w| *w == Within::Out).or(judged.min()).unwrap_or(Within::Unknown);
                bound.effective = before.clone();
                for (_, one) in &said {
                    if one.within(before, implied) == Within::Out {
                        bound.beyond = std::mem::take(&mut bound.beyond).or(&one.beyond(before, implied));
                    }
                    bound.effective = bound.effective.meet(one, implied);
                }
            }
        }
        hops.push(bound);
    }
    let state = hops.last().map_or(Within::Unknown, |b| call.needs.within(&b.effective, implied));
    Bounds { hops, state }
}

/// The authority that the root gave away.
fn root_grant(book: &Book, call: &Call<'_>) -> Option<Authority> {
    if let Some(grant) = call.grant.and_then(|g| book.root_of(g, call.time)) {
        return Some(grant.authority.clone());
    }
    let (root, first) = (call.path.first()?.id?, call.path.get(1)?.id?);
    book.between(root, first, call.time)
}

/// What each hop recorded: exchanges before claims before grants.
fn records(book: &Book, call: &Call<'_>) -> Vec<Vec<(Recorded, Authority)>> {
    let n = call.path.len();
    let mut all: Vec<Vec<(Recorded, Authority)>> = vec![Vec::new(); n];
    let mut add = |at: usize, by: Recorded, authority: &Authority| {
        if !authority.is_unknown() {
            all[at].push((by, authority.clone()));
        }
    };
    let (mut at, mut token) = (n.saturating_sub(1), call.token_ref);
    let mut steps = 0;
    while let Some(exchange) = token.and_then(|t| book.exchange_of(t)).filter(|_| at > 0 && steps < n + 16) {
        add(at, Recorded::Exchange, &exchange.after);
        // Without an actor the exchange adds no hop.
        if exchange.actor.is_some() && at > 1 {
            at -= 1;
            add(at, Recorded::Exchange, &exchange.before);
        }
        token = Some(exchange.subject.as_str());
        steps += 1;
    }
    if n > 0 {
        add(n - 1, Recorded::Token, &call.token);
    }
    for i in 1..n {
        let named = call.grant.filter(|_| i + 1 == n).and_then(|g| book.grant_at(g, call.time));
        let named = named.filter(|g| call.path[i].id == Some(g.grantee.as_str())).map(|g| g.authority.clone());
        let pair = call.path[i - 1].id.zip(call.path[i].id);
        let granted = named.or_else(|| pair.and_then(|(from, to)| book.between(from, to, call.time)));
        if let Some(granted) = granted {
            add(i, Recorded::Grant, &granted);
        }
    }
    all
}

/// Whether a re-authorization counts for a call: given by the root or an authority, never by an actor of the path, in
/// time, and for this operation, this chain or for good.
fn is_valid(r: &Reauth, call: &Call<'_>, authorities: &[String], belongs: &impl Fn(&str) -> Option<bool>) -> bool {
    let is_root = call.path.first().is_some_and(|p| p.id == Some(r.approver.as_str()));
    let approves = is_root || authorities.contains(&r.approver);
    let is_actor = call.path.iter().skip(1).any(|p| !p.is_human && p.id == Some(r.approver.as_str()));
    let is_actor = is_actor && !fault::on(Fault::SelfApproval);
    let approves = approves || fault::on(Fault::SelfApproval);
    let given = r.at <= call.time || fault::on(Fault::ReauthBeforeItsTime);
    let in_time = given && r.valid_to.is_none_or(|to| call.time <= to);
    let anchored = r.anchor.as_deref().and_then(belongs);
    let applies = match r.of {
        Use::Standing => true,
        Use::Chain => anchored.is_some(),
        Use::SingleOp => anchored == Some(true),
    };
    approves && !is_actor && in_time && applies
}
