//! Records of authority, as they held at an instant.
//!
//! Guarantee: the book is a set. A grant that arrives late gives the same answers as one that arrived early, a record told
//! twice counts once, and of several versions the highest that had begun counts.

use super::Authority;
use crate::fault::{self, Fault};
use catena_schemas::Micros;
use catena_schemas::authority::Record;
use catena_schemas::wire::{Id, Instant, Texts};
use std::collections::{BTreeMap, BTreeSet};

/// Somebody may act for somebody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grant {
    /// Id.
    pub id: String,
    /// Who grants.
    pub grantor: String,
    /// Who may act.
    pub grantee: String,
    /// Grant that it was derived from.
    pub parent: Option<String>,
    /// What it allows.
    pub authority: Authority,
    /// Whom it may be passed on to; absent means anybody.
    pub delegatees: Option<BTreeSet<String>>,
    /// How often it may be passed on.
    pub max_redelegation: Option<u32>,
    /// From when it holds.
    pub valid_from: Micros,
    /// Until when.
    pub valid_to: Option<Micros>,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// The highest at an instant counts.
    pub version: i64,
    /// When it was recorded; among equal versions the last counts.
    pub recorded: Micros,
}

impl Grant {
    /// Whether it holds at an instant, as far as it says itself.
    pub fn holds(&self, at: Micros) -> bool {
        let begun = self.valid_from <= at || fault::on(Fault::GrantsAlwaysHold);
        begun && self.valid_to.is_none_or(|to| at <= to) && self.revoked_at.is_none_or(|r| at < r)
    }
}

/// For what a re-authorization was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// For one operation.
    #[default]
    SingleOp,
    /// For the chain.
    Chain,
    /// For all that comes.
    Standing,
}

/// More was allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reauth {
    /// Id.
    pub id: String,
    /// Who asked.
    pub by: String,
    /// Who allowed it.
    pub approver: String,
    /// When.
    pub at: Micros,
    /// What holds from then on.
    pub authority: Authority,
    /// The decision that it was given for.
    pub anchor: Option<String>,
    /// For what.
    pub of: Use,
    /// Until when.
    pub valid_to: Option<Micros>,
}

/// A token was exchanged for another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// Token that was issued.
    pub issued: String,
    /// Token of the subject.
    pub subject: String,
    /// Token of the actor.
    pub actor: Option<String>,
    /// Authority of the subject token.
    pub before: Authority,
    /// Authority of the issued token.
    pub after: Authority,
}

/// A version of a grant, and the time that it held.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The version.
    pub grant: &'a Grant,
    /// From when.
    pub from: Micros,
    /// The first instant at which it no longer did.
    pub until: Micros,
}

/// What a catalogue says that a tool needs.
#[derive(Clone, Debug, PartialEq)]
struct Need {
    recorded: Micros,
    /// None when the catalogue does not say.
    authority: Option<Authority>,
}

/// What records bear on: calls along whose path one of the parties stands, and calls by one of the grants or tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Who may act, or asked for more.
    pub parties: BTreeSet<String>,
    /// Ids of grants.
    pub grants: BTreeSet<String>,
    /// References of tokens.
    pub tokens: BTreeSet<String>,
}

impl Touched {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.parties.is_empty() && self.grants.is_empty() && self.tokens.is_empty()
    }
}

/// One, and whatever came from it.
fn all_from(one: &str, next: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut all = BTreeSet::from([one.to_owned()]);
    let mut left = vec![one];
    while let Some(one) = left.pop().filter(|_| !fault::on(Fault::DerivedForgotten)) {
        for came in next.get(one).into_iter().flatten() {
            if all.insert(came.clone()) {
                left.push(came);
            }
        }
    }
    all
}

/// All records of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Versions of each grant.
    grants: BTreeMap<String, Vec<Grant>>,
    /// Ids of grants from one to another.
    between: BTreeMap<(String, String), BTreeSet<String>>,
    /// Ids of grants that were derived from one.
    derived: BTreeMap<String, BTreeSet<String>>,
    revoked: BTreeMap<String, Micros>,
    /// By who asked: in order of time, then of ids and of what they say.
    reauths: BTreeMap<String, BTreeMap<(Micros, String, String), Reauth>>,
    /// By issued token. Two that differ say nothing certain.
    exchanges: BTreeMap<String, Option<Exchange>>,
    /// References of the issued token, the subject's and the actor's, as each exchange says.
    swaps: BTreeSet<(String, String, Option<String>)>,
    /// Tokens that were issued for one, be it the subject's or the actor's.
    given: BTreeMap<String, BTreeSet<String>>,
    /// Tokens that were issued for one.
    issued_for: BTreeMap<String, BTreeSet<String>>,
    /// What tools need, by server and tool, in order of time.
    tools: BTreeMap<(String, String), Vec<Need>>,
}

impl Book {
    /// Whether nothing is recorded that bounds anybody. A catalogue of tools bounds nobody.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.reauths.is_empty() && self.exchanges.is_empty()
    }

    /// Enters a record. Those that say nothing about authority are passed over.
    pub fn enter(&mut self, record: &Record) {
        match record {
            Record::Grant(r) => {
                let terms = &r.record.terms;
                let recorded = instant(&r.time).unwrap_or(Micros(0));
                self.grant(Grant {
                    id: r.record.grant_id.clone(),
                    grantor: id(&r.record.grantor),
                    grantee: id(&r.record.grantee),
                    parent: terms.parent_grant.clone(),
                    authority: Authority::of(&r.record.authority),
                    delegatees: terms.delegatees.as_ref().map(texts),
                    max_redelegation: terms.max_redelegation,
                    valid_from: terms.valid_from.as_ref().and_then(instant).unwrap_or(recorded),
                    valid_to: terms.valid_to.as_ref().and_then(instant),
                    revoked_at: terms.revoked_at.as_ref().and_then(instant),
                    version: terms.version.unwrap_or(0),
                    recorded,
                });
            }
            Record::Reauth(r) => self.reauth(Reauth {
                id: r.record.reauth_id.clone(),
                by: id(&r.record.by),
                approver: id(&r.record.approver),
                at: instant(&r.record.at).or_else(|| instant(&r.time)).unwrap_or(Micros(0)),
                authority: Authority::of(&r.record.new_authority),
                anchor: r.record.terms.anchor.clone(),
                of: match r.record.terms.r#use.as_deref() {
                    Some("chain") => Use::Chain,
                    Some("standing") => Use::Standing,
                    _ => Use::SingleOp,
                },
                valid_to: r.record.terms.valid_to.as_ref().and_then(instant),
            }),
            Record::Exchange(r) => {
                let r = &r.record;
                let (Some(issued), Some(subject)) = (&r.issued_token_ref, &r.subject_token_ref) else { return };
                let authority = |scope: &Option<Texts>, aud: &Option<Texts>| Authority {
                    scope: scope.as_ref().map(texts),
                    aud: aud.as_ref().map(texts),
                    ..Authority::default()
                };
                self.exchange(Exchange {
                    issued: id(issued),
                    subject: id(subject),
                    actor: r.actor_token_ref.as_ref().map(id),
                    before: authority(&r.scope_in, &r.aud_in),
                    after: authority(&r.scope_out, &r.aud_out),
                });
            }
            Record::Lifecycle(r) if r.record.event == "revoked" && r.record.subject_kind == "grant" => {
                let at = r.record.details.effective_at.as_ref().and_then(instant).or_else(|| instant(&r.time));
                if let Some(at) = at {
                    self.revoke(&id(&r.record.subject), at);
                }
            }
            Record::Tool(r) => {
                let requires = r.record.traits.requires.as_ref();
                let capability = requires.map(|atoms| atoms.iter().map(super::atom).collect());
                let needs = capability.map(|c| Authority { capability: Some(c), ..Authority::default() });
                self.tool(&r.record.server, &r.record.tool, instant(&r.time).unwrap_or(Micros(0)), needs);
            }
            Record::Lifecycle(_) | Record::Principal(_) => {}
        }
    }

    /// Enters a tool of a catalogue, and what a call of it needs, where that is said.
    pub fn tool(&mut self, server: &str, tool: &str, recorded: Micros, needs: Option<Authority>) {
        let known = self.tools.entry((server.to_owned(), tool.to_owned())).or_default();
        let need = Need { recorded, authority: needs };
        if !known.contains(&need) {
            known.push(need);
            known.sort_by_key(|n| (n.recorded, n.authority.as_ref().map(|a| a.to_json().to_string())));
        }
    }

    /// What a tool needed at an instant, as its catalogue said last; one that was recorded later counts when none was before.
    /// None when no catalogue says.
    pub fn needs(&self, server: &str, tool: &str, at: Micros) -> Option<&Authority> {
        let known = self.tools.get(&(server.to_owned(), tool.to_owned()))?;
        known.iter().rev().find(|n| n.recorded <= at).or(known.first())?.authority.as_ref()
    }

    /// Server and name of every tool of the catalogue.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tools.keys().map(|(server, tool)| (server.as_str(), tool.as_str()))
    }

    /// Enters a grant.
    pub fn grant(&mut self, grant: Grant) {
        self.between.entry((grant.grantor.clone(), grant.grantee.clone())).or_default().insert(grant.id.clone());
        if let Some(parent) = &grant.parent {
            self.derived.entry(parent.clone()).or_default().insert(grant.id.clone());
        }
        let versions = self.grants.entry(grant.id.clone()).or_default();
        if !versions.contains(&grant) {
            versions.push(grant);
            // What they say comes last: then it is never the order of their arrival that counts.
            versions.sort_by_key(|g| (g.version, g.recorded, format!("{g:?}")));
        }
    }

    /// Enters the end of a grant. The earliest counts.
    pub fn revoke(&mut self, grant: &str, at: Micros) {
        let held = self.revoked.entry(grant.to_owned()).or_insert(at);
        *held = (*held).min(at);
    }

    /// Enters a re-authorization.
    pub fn reauth(&mut self, reauth: Reauth) {
        // Two that differ under one id both count, in an order that is not that of their arrival.
        let place = (reauth.at, reauth.id.clone(), format!("{reauth:?}"));
        self.reauths.entry(reauth.by.clone()).or_default().insert(place, reauth);
    }

    /// Enters an exchange.
    pub fn exchange(&mut self, exchange: Exchange) {
        self.issued_for.entry(exchange.subject.clone()).or_default().insert(exchange.issued.clone());
        for given in std::iter::once(&exchange.subject).chain(&exchange.actor) {
            self.given.entry(given.clone()).or_default().insert(exchange.issued.clone());
        }
        self.swaps.insert((exchange.issued.clone(), exchange.subject.clone(), exchange.actor.clone()));
        let held = self.exchanges.entry(exchange.issued.clone()).or_insert_with(|| Some(exchange.clone()));
        if held.as_ref() != Some(&exchange) {
            *held = fault::on(Fault::LastExchangeWins).then_some(exchange);
        }
    }

    /// Notes what a grant bears on, and whatever was derived from it.
    pub fn touch_grant(&self, grant: &str, touched: &mut Touched) {
        // A version takes the place of those before, whoever they were for.
        let versions = self.grants.get(grant).into_iter().flatten();
        touched.parties.extend(versions.map(|version| version.grantee.clone()));
        touched.grants.extend(all_from(grant, &self.derived));
    }

    /// A grant as it held at an instant.
    pub fn grant_at(&self, id: &str, at: Micros) -> Option<&Grant> {
        let begun =
            self.grants.get(id)?.iter().rev().find(|g| g.valid_from <= at || fault::on(Fault::GrantsAlwaysHold))?;
        let revoked = self.revoked.get(id).is_some_and(|r| *r <= at);
        (begun.holds(at) && !revoked).then_some(begun)
    }

    /// Every version of every grant, whether it ever held or not.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().flatten()
    }

    /// Every version of every grant that held at some instant, with the time that it did: what [`Book::grant_at`] says of all
    /// instants at once.
    pub fn held(&self) -> Vec<Held<'_>> {
        let mut all = Vec::new();
        for (id, versions) in &self.grants {
            // A version counts until a higher one begins.
            let mut higher = Micros(i64::MAX);
            for grant in versions.iter().rev() {
                let after_end = grant.valid_to.map(|to| Micros(to.0.saturating_add(1)));
                let ends = [after_end, grant.revoked_at, self.revoked.get(id).copied()];
                let until = ends.into_iter().flatten().min().map_or(higher, |end| end.min(higher));
                if grant.valid_from < until {
                    all.push(Held { grant, from: grant.valid_from, until });
                }
                higher = higher.min(grant.valid_from);
            }
        }
        all
    }

    /// The first of the grants that one was derived from, as it held at an instant; itself when it was derived from none.
    /// None when one of them did not hold, or they lead in a ring.
    pub fn root_of(&self, id: &str, at: Micros) -> Option<&Grant> {
        let mut grant = self.grant_at(id, at)?;
        let mut steps = 0;
        while let Some(parent) = &grant.parent {
            steps += 1;
            if steps > 64 {
                return None;
            }
            grant = self.grant_at(parent, at)?;
        }
        Some(grant)
    }

    /// What somebody had granted somebody at an instant, all grants together.
    pub fn between(&self, grantor: &str, grantee: &str, at: Micros) -> Option<Authority> {
        let ids = self.between.get(&(grantor.to_owned(), grantee.to_owned()))?;
        let valid: Vec<&Authority> = ids.iter().filter_map(|id| Some(&self.grant_at(id, at)?.authority)).collect();
        (!valid.is_empty()).then(|| Authority::join(&valid))
    }

    /// Re-authorizations that somebody asked for, in order of time.
    pub fn reauths_of(&self, by: &str) -> impl DoubleEndedIterator<Item = &Reauth> {
        self.reauths.get(by).into_iter().flat_map(BTreeMap::values)
    }

    /// Notes what a record that was entered bears on: whatever is not touched is bounded as before.
    pub fn touch(&self, record: &Record, touched: &mut Touched) {
        match record {
            Record::Grant(r) => self.touch_grant(&r.record.grant_id, touched),
            Record::Reauth(r) => _ = touched.parties.insert(id(&r.record.by)),
            Record::Exchange(r) => {
                let issued = r.record.issued_token_ref.iter().map(id);
                touched.tokens.extend(issued.flat_map(|token| all_from(&token, &self.issued_for)));
            }
            Record::Lifecycle(r) if r.record.subject_kind == "grant" => {
                self.touch_grant(&id(&r.record.subject), touched);
            }
            Record::Tool(_) | Record::Lifecycle(_) | Record::Principal(_) => {}
        }
    }

    /// The exchange that a token came from.
    pub fn exchange_of(&self, issued: &str) -> Option<&Exchange> {
        self.exchanges.get(issued)?.as_ref()
    }

    /// Those of the exchanges that the paths of calls with some tokens rest on, and some more.
    pub fn exchanged_for<'t>(
        &self,
        tokens: impl IntoIterator<Item = &'t str>,
    ) -> Vec<(String, String, Option<String>)> {
        let mut found = Vec::new();
        if self.swaps.is_empty() {
            return found;
        }
        let mut left: Vec<String> = tokens.into_iter().map(str::to_owned).collect();
        let mut seen: BTreeSet<String> = left.iter().cloned().collect();
        while let Some(token) = left.pop() {
            let of_token = self.swaps.range((token.clone(), String::new(), None)..).take_while(|swap| swap.0 == token);
            for swap in of_token {
                let given = std::iter::once(&swap.1).chain(&swap.2);
                left.extend(given.filter(|given| seen.insert((*given).clone())).cloned());
                found.push(swap.clone());
            }
        }
        found
    }

    /// A token, and those whose calls can have another path when it is known who showed it: issued for it, or for one of those.
    pub fn issued_from(&self, token: &str) -> BTreeSet<String> {
        all_from(token, &self.given)
    }

    /// (issued, subject, actor) of all exchanges, for the paths of principals. They only become more: who uses them settles
    /// what two say of one token that cannot both be true.
    pub fn exchanged(&self) -> Vec<(String, String, Option<String>)> {
        self.swaps.iter().cloned().collect()
    }
}

fn id(id: &Id) -> String {
    match id {
        Id::Text(text) => text.clone(),
        Id::Number(number) => number.to_string(),
        Id::Bool(value) => value.to_string(),
    }
}

fn instant(instant: &Instant) -> Option<Micros> {
    match instant {
        Instant::Text(text) => Micros::parse_rfc3339(text),
        Instant::Number(number) => Micros::from_epoch_guess(*number),
    }
}

pub(super) fn texts(texts: &Texts) -> BTreeSet<String> {
    match texts {
        Texts::One(one) => [one.clone()].into(),
        Texts::Several(all) => all.iter().cloned().collect(),
    }
}
