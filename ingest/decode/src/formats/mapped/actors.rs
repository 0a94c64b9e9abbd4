//! Who acts, as the fields of a mapping say.
//!
//! Guarantees: the acting agent as the record names it outweighs any chain, and no chain is put together from pieces of
//! different sources. An id is verified only when it stands in a token that was, or the mapping says so.

use super::{Filling, unquoted};
use crate::claims;
use crate::json::{Kind, Value};
use crate::mapping::Slot;
use catena_schemas::event::Text;
use catena_schemas::event::{Actor, Event};
use std::borrow::Cow;

impl<'t> Filling<'t, '_> {
    /// Who acts. The acting agent as the record names it outweighs any chain: a chain that does not end in it is somebody
    /// else's, and is left in `extra` under a flag.
    pub(super) fn actors(&mut self, e: &mut Event<'t>) {
        if !e.actors.is_empty() {
            return;
        }
        let agent = self.peek(Slot::ActorsId).map(|s| if self.quoted { unquoted(s) } else { s });
        let fits = |last: Option<&str>| last.is_some() && (agent.is_none() || last == agent);
        let mut contradicted = false;
        if let Some(act) = self.value(Slot::ActorsAct) {
            match claims::actors(act) {
                Some(chain) if fits(chain.last().map(|a| a.id)) => {
                    let clean = |s: &'t str| self.clean(s);
                    e.actors = chain.iter().map(|a| a.actor(&clean)).collect();
                    for level in &chain {
                        self.taken.insert(level.id_value);
                        level.issuer.into_iter().for_each(|v| self.taken.insert(v));
                    }
                    e.actors_source = Some(Cow::Borrowed("act_claim"));
                }
                Some(_) => contradicted = true,
                None => self.flag("invalid:actors.act"),
            }
        }
        if let Some(list) = self.value(Slot::ActorsList) {
            let name = self.way(Slot::ActorsList).map(|from| from.name()).unwrap_or_default();
            let named: Vec<_> = list.items().filter(|v| !v.is_null()).collect();
            let ids: Vec<&str> = named.iter().filter_map(|v| v.as_scalar()).collect();
            // A chain is a list of ids: anything else stays where it is, and half of one is none.
            let readable = list.kind() == Kind::Array && ids.len() == named.len();
            let ids = if readable { ids } else { Vec::new() };
            let told = |id: &'t str| self.redactor.told(name, id).map_or_else(|| self.clean(id), Cow::Owned);
            let said: Vec<Cow<'t, str>> = ids.iter().map(|id| told(id)).collect();
            if e.actors.is_empty() && fits(ids.last().copied()) {
                e.actors = said.iter().cloned().map(Actor::named).collect();
                e.actors_source = Some(Cow::Borrowed("declared"));
            }
            if !readable {
                self.flag("invalid:actors.list");
            } else if e.actors.iter().map(|a| &a.id).eq(&said) {
                self.taken.insert(list);
            } else if !ids.is_empty() {
                contradicted = true;
            }
        }
        if e.actors.is_empty() {
            let mut ids: Vec<(&str, Text<'t>, Value<'t>)> = Vec::new();
            for (found, alternative) in self.found(Slot::ActorsDeclared) {
                if let Some(v) = found.value()
                    && let Some(id) = found.scalar()
                    && !ids.iter().any(|known| known.0 == id)
                {
                    ids.push((id, self.redacted(found, alternative), v));
                }
            }
            if fits(ids.last().map(|l| l.0)) {
                ids.iter().for_each(|(.., v)| self.taken.insert(*v));
                e.actors = ids.into_iter().filter_map(|(_, id, _)| id.map(Actor::named)).collect();
                e.actors_source = Some(Cow::Borrowed("declared"));
            }
        }
        if let (true, Some(agent)) = (e.actors.is_empty(), self.said(Slot::ActorsId)) {
            e.actors = vec![Actor::named(agent)];
            e.actors_source = Some(Cow::Borrowed("declared"));
        }
        match (self.value(Slot::ActorsId), self.peek(Slot::ActorsId)) {
            (Some(_), None) => self.flag("invalid:actors.id"),
            _ => self.take(Slot::ActorsId),
        }
        // What the declared list repeats need not stand in `extra` as well.
        let repeats: Vec<_> =
            self.found(Slot::ActorsDeclared).filter_map(|(f, _)| Some((f.value()?, f.scalar()?))).collect();
        for (v, s) in repeats {
            if e.actors.iter().any(|a| a.id == s) {
                self.taken.insert(v);
            }
        }
        if contradicted {
            self.flag("actors_contradicted");
        }
        if let Some(kind) = self.text(Slot::ActorsKind) {
            e.actors.iter_mut().for_each(|a| a.kind = Some(kind.clone()));
        }
        // Without an actor there is nobody whom these could describe.
        if e.actors.is_empty() {
            return;
        }
        if let Some(source) = self.text(Slot::ActorsSource) {
            e.actors_source = Some(source);
        }
        if let Some(assurance) = self.text(Slot::ActorsAssurance) {
            e.actors.iter_mut().for_each(|a| a.assurance = Some(assurance.clone()));
        }
        let (name, version) = (self.text(Slot::ActorsName), self.text(Slot::ActorsVersion));
        let model = self.text(Slot::ActorsModel);
        if let Some(last) = e.actors.last_mut() {
            (last.name, last.version, last.model) = (name, version, model);
        }
    }
}

/// What is known of ids by the token they stand in.
pub(super) fn assurance(e: &mut Event<'_>) {
    let verified = matches!(e.token.proof.as_deref(), Some("verified" | "introspected"));
    if e.requester.id.is_some() {
        let by_token = e.token.subject == e.requester.id;
        if by_token && e.requester.issuer.is_none() {
            e.requester.issuer.clone_from(&e.token.issuer);
        }
        if e.requester.assurance.is_none() {
            e.requester.assurance = Some(Cow::Borrowed(if verified && by_token { "verified" } else { "asserted" }));
        }
    }
    let by_claim = e.actors_source.as_deref() == Some("act_claim");
    for actor in &mut e.actors {
        if actor.assurance.is_none() {
            actor.assurance = Some(Cow::Borrowed(if verified && by_claim { "verified" } else { "asserted" }));
        }
    }
}
