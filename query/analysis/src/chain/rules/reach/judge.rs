//! Whether what was reached was in reach, and what else was.
//!
//! Guarantee: the best of a start's lines of grants counts; tools are compared by what the catalogue says that they need.
//! Without a grant that anybody recorded, and where grants do not say, the answer is unknown.

use super::could::{HOLDINGS_MAX, Holding, Holdings, best};
use super::found::{Begin, Found, principal, thing};
use super::{Row, Span, Start, What};
use crate::authority::{Atom, Authority, Grant, Within};
use crate::chain::rules::{Name, Store, Terms};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What could have been reached.
pub(super) struct Judge<'a, 'h> {
    pub(super) holdings: &'h Holdings<'a>,
    pub(super) lines: Vec<Holding>,
    pub(super) terms: &'a Terms,
    pub(super) span: Span,
    pub(super) cut: bool,
}

/// Whether something was in reach, and why.
pub(super) type Verdict = (Within, String);

impl<'a> Judge<'a, '_> {
    fn grant(&self, line: &Holding, at: usize) -> &'a Grant {
        self.holdings.grants[line.via[at]].grant
    }

    pub(super) fn cap(&mut self) {
        self.cut = self.holdings.cut || self.lines.len() > HOLDINGS_MAX;
        self.lines.truncate(HOLDINGS_MAX);
    }

    /// A start in the names of the store. A grant counts with all that were derived from it.
    pub(super) fn begin(&self, store: &Store, start: Start<'_>) -> Begin {
        let name = |id: &str| store.name(id).unwrap_or_default();
        let id = match start {
            Start::Human(id) => return Begin::Root(name(id)),
            Start::Actor(id) => return Begin::Actor(name(id)),
            Start::Tool { .. } => return Begin::Actor(Name::NONE),
            Start::Grant(id) => id,
        };
        let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut grantees: BTreeMap<&str, &str> = BTreeMap::new();
        for held in &self.holdings.grants {
            let grant = held.grant;
            grantees.entry(grant.id.as_str()).or_insert(grant.grantee.as_str());
            if let Some(parent) = &grant.parent {
                below.entry(parent.as_str()).or_default().insert(grant.id.as_str());
            }
        }
        let grantee = |id: &str| grantees.get(id).map_or(Name::NONE, |g| name(g));
        let (mut seen, mut open, mut grants) = (BTreeSet::from([id]), vec![id], HashMap::new());
        while let Some(one) = open.pop() {
            // A grant that no call names is no name of the store.
            if let Some(named) = store.name(one) {
                grants.insert(named, grantee(one));
            }
            open.extend(below.get(one).into_iter().flatten().filter(|more| seen.insert(more)));
        }
        Begin::Grant { grantee: grantee(id), grants }
    }

    /// The place of a line's grant from which on it is the start's; none when it is not.
    fn begins(&self, line: &Holding, start: Start<'_>) -> Option<usize> {
        match start {
            Start::Human(id) => (self.grant(line, 0).grantor == id).then_some(0),
            Start::Actor(id) => {
                let held = (0..line.via.len()).rev().find(|i| self.grant(line, *i).grantee == id);
                held.map(|i| i + 1).or((self.grant(line, 0).grantor == id).then_some(0))
            }
            Start::Grant(id) => (0..line.via.len()).find(|i| self.grant(line, *i).id == id),
            Start::Tool { .. } => Some(0),
        }
    }

    /// Leaves the lines that are the start's.
    pub(super) fn only(&mut self, start: Start<'_>) {
        let lines = std::mem::take(&mut self.lines);
        self.lines = lines.into_iter().filter(|l| self.begins(l, start).is_some()).collect();
    }

    /// Whether anybody recorded a grant of a start, whenever it held.
    fn is_recorded(&self, start: Start<'_>) -> bool {
        self.terms.book.grants().any(|g| match start {
            Start::Human(id) => g.grantor == id,
            Start::Actor(id) => g.grantor == id || g.grantee == id,
            Start::Grant(id) => g.id == id,
            Start::Tool { .. } => false,
        })
    }

    /// What a call of a tool needs: as its catalogue says, else the tool itself.
    fn needs(&self, server: &str, tool: &str) -> (Authority, bool) {
        match self.terms.book.needs(server, tool, self.span.until) {
            Some(needs) => (needs.clone(), true),
            None if server.is_empty() || tool.is_empty() => (Authority::default(), false),
            None => {
                let atom = Atom { server: server.to_owned(), action: tool.to_owned(), ..Atom::default() };
                (Authority { capability: Some([atom].into()), ..Authority::default() }, false)
            }
        }
    }

    fn verdict(&self, best: Option<(Within, &Holding)>, recorded: bool) -> Verdict {
        match best {
            Some((Within::In, line)) => (Within::In, self.holdings.name(line)),
            Some((Within::Unknown, line)) => (Within::Unknown, format!("{} does not say", self.holdings.name(line))),
            _ if self.cut => (Within::Unknown, "there are more grants than were looked at".into()),
            _ if recorded => (Within::Out, "no grant that held gives it".into()),
            _ => (Within::Unknown, "no grant is recorded".into()),
        }
    }

    fn tool(&self, server: &str, tool: &str, tokens: &[Authority], recorded: bool) -> Verdict {
        let (needs, in_catalogue) = self.needs(server, tool);
        let judge = |a: &Authority| needs.within(a, &self.terms.implied);
        let (within, why) = self.verdict(best(self.lines.iter(), |l| judge(&l.authority)), recorded);
        if within != Within::In && tokens.iter().any(|t| judge(t) == Within::In) {
            return (Within::In, format!("needs {}, which a token held", needs.to_text()));
        }
        match (within, in_catalogue) {
            (Within::In, true) => (within, format!("needs {}, which {why} holds", needs.to_text())),
            _ => (within, why),
        }
    }

    fn server(&self, server: &str, tools: &BTreeMap<(String, String), Verdict>, recorded: bool) -> Verdict {
        let of_tools = tools.iter().filter(|((s, _), _)| s == server).map(|(_, verdict)| verdict.clone());
        let names = |l: &Holding| match &l.authority.capability {
            None => Within::Unknown,
            Some(atoms) if atoms.iter().any(|a| a.server == server) => Within::In,
            Some(_) => Within::Out,
        };
        let named = self.verdict(best(self.lines.iter(), names), recorded);
        of_tools.fold(named, |best, next| if next.0 < best.0 { next } else { best })
    }

    fn resource(&self, id: &str, recorded: bool) -> Verdict {
        let names = |l: &Holding| match &l.authority.resource {
            None => Within::Unknown,
            Some(all) if all.contains(id) => Within::In,
            Some(_) => Within::Out,
        };
        self.verdict(best(self.lines.iter(), names), recorded)
    }

    /// What a start could have reached, with what it did.
    pub(super) fn what(&self, found: &mut Found<'_>, start: Start<'_>) -> Vec<Row> {
        let recorded = self.is_recorded(start);
        let mut parties: BTreeMap<&str, String> = BTreeMap::new();
        let mut anybody: Option<String> = None;
        for line in &self.lines {
            let begins = self.begins(line, start).unwrap_or(0);
            for at in begins..line.via.len() {
                let id = self.grant(line, at).grantee.as_str();
                parties.entry(id).or_insert_with(|| self.holdings.name(line));
                let distance = (at - begins + 1) as i64;
                let tally = found.rows.entry(principal(id)).or_default();
                tally.distance = Some(tally.distance.map_or(distance, |d| d.min(distance)));
            }
        }
        for line in &self.lines {
            for to in self.holdings.open_to(line) {
                let why = format!("{} may be passed on", self.holdings.name(line));
                match to {
                    Some(id) => {
                        parties.entry(id).or_insert(why);
                        found.rows.entry(principal(id)).or_default();
                    }
                    None => anybody = anybody.or(Some(why)),
                }
            }
        }
        if let Start::Human(id) | Start::Actor(id) = start {
            found.rows.remove(&principal(id));
        }
        let tools = self.tools(found);
        for (server, tool) in &tools {
            found.rows.entry(thing(What::Tool, server, tool)).or_default();
            if !server.is_empty() {
                found.rows.entry(thing(What::Server, "", server)).or_default();
            }
        }
        for resource in self.lines.iter().flat_map(|l| l.authority.resource.iter().flatten()) {
            found.rows.entry(thing(What::Resource, "", resource)).or_default();
        }
        let tokens = std::mem::take(&mut found.tokens);
        let tools: BTreeMap<(String, String), Verdict> = tools
            .into_iter()
            .map(|(s, t)| {
                let verdict = self.tool(&s, &t, &tokens, recorded);
                ((s, t), verdict)
            })
            .collect();
        let party = |id: &str| match (parties.get(id), &anybody) {
            (Some(why), _) | (None, Some(why)) => (Within::In, why.clone()),
            (None, None) => self.verdict(None, recorded),
        };
        found.finish(|(_, what, server, id)| match what {
            None => party(id),
            Some(What::Tool) => tools[&(server.clone(), id.clone())].clone(),
            Some(What::Resource) => self.resource(id, recorded),
            Some(_) => self.server(id, &tools, recorded),
        })
    }

    /// Tools of the catalogue, tools that were called, and what grants name that no tool of the catalogue stands for.
    fn tools(&self, found: &Found<'_>) -> BTreeSet<(String, String)> {
        let mut tools: BTreeSet<(String, String)> =
            self.terms.book.tools().map(|(s, t)| (s.to_owned(), t.to_owned())).collect();
        let required: BTreeSet<(String, String)> = tools
            .iter()
            .filter_map(|(s, t)| self.terms.book.needs(s, t, self.span.until))
            .flat_map(|n| n.capability.iter().flatten().map(|a| (a.server.clone(), a.action.clone())))
            .collect();
        let called = found.rows.keys().filter(|k| k.1 == Some(What::Tool)).map(|k| (k.2.clone(), k.3.clone()));
        let called: Vec<_> = called.collect();
        tools.extend(called);
        let named = self.lines.iter().flat_map(|l| l.authority.capability.iter().flatten());
        let named = named.map(|a| (a.server.clone(), a.action.clone()));
        tools.extend(named.filter(|n| !n.0.is_empty() && !n.1.is_empty() && !required.contains(n)));
        tools
    }

    /// Who could have reached a tool, with who did.
    pub(super) fn who(&self, found: &mut Found<'_>, server: Option<&str>, tool: Option<&str>) -> Vec<Row> {
        let wanted = |s: &str, t: &str| server.is_none_or(|w| w == s) && tool.is_none_or(|w| w == t);
        let mut targets: Vec<(String, String)> =
            self.terms.book.tools().filter(|(s, t)| wanted(s, t)).map(|(s, t)| (s.to_owned(), t.to_owned())).collect();
        if let (Some(server), Some(tool), true) = (server, tool, targets.is_empty()) {
            targets.push((server.to_owned(), tool.to_owned()));
        }
        let needs: Vec<Authority> = targets.iter().map(|(s, t)| self.needs(s, t).0).collect();
        let judge = |line: &Holding| {
            let named = line.authority.capability.iter().flatten();
            let by_server = tool.is_none() && named.clone().any(|a| server == Some(a.server.as_str()));
            let of_tools = needs.iter().map(|n| n.within(&line.authority, &self.terms.implied)).min();
            let unsaid = if line.authority.capability.is_none() { Within::Unknown } else { Within::Out };
            if by_server { Within::In } else { of_tools.unwrap_or(unsaid) }
        };
        let mut of: BTreeMap<&str, Vec<(Within, &Holding)>> = BTreeMap::new();
        for line in &self.lines {
            let judged = line.sure(judge(line));
            let granted = (0..line.via.len()).map(|i| self.grant(line, i).grantee.as_str());
            let all: BTreeSet<&str> = granted.chain([self.grant(line, 0).grantor.as_str()]).collect();
            for id in all {
                of.entry(id).or_default().push((judged, line));
                let tally = found.rows.entry(principal(id)).or_default();
                if self.grant(line, 0).grantor == id {
                    tally.what = Some(What::Requester);
                }
            }
        }
        found.finish(|(_, _, _, id)| {
            let lines = of.get(id.as_str());
            let recorded = lines.is_some() || self.is_recorded(Start::Actor(id));
            self.verdict(lines.and_then(|all| all.iter().min_by_key(|(within, _)| *within).copied()), recorded)
        })
    }
}
