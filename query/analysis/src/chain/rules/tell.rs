//! What can be asked of a chain: counts, coverage, lineage.

use super::evidence::{Call, Confidence};
use super::{Chain, Link, Mark, Standing, Store};
use crate::chain::Lineage;
use catena_schemas::{Micros, Outcome};

/// What the record of an event says, as far as the rules keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'s> {
    /// Producer instance.
    pub source: &'s str,
    /// Id of the event.
    pub event_id: &'s str,
    /// Tool server.
    pub server: Option<&'s str>,
    /// Tool.
    pub tool: Option<&'s str>,
    /// Session.
    pub session: Option<&'s str>,
    /// Trace.
    pub trace: Option<&'s str>,
    /// The decision that it names as its parent, whether it is here or not.
    pub parent: Option<&'s str>,
    /// Reference of the token.
    pub token: Option<&'s str>,
    /// Grant that allowed it.
    pub grant: Option<&'s str>,
}

impl Chain {
    /// What the record of a link says.
    pub fn told<'s>(&self, store: &'s Store, link: &Link) -> Told<'s> {
        let row = store.row_at(link.row);
        let text = |name: super::Name| name.is_some().then(|| store.text(name));
        Told {
            source: store.text(row.source),
            event_id: store.text(row.event),
            server: text(row.server),
            tool: text(row.tool),
            session: text(row.session).or_else(|| text(store.rare_of(row).mcp_session)),
            trace: text(row.trace),
            parent: text(row.parent),
            token: text(row.token),
            grant: text(store.rare_of(row).grant),
        }
    }

    /// The path of a link.
    pub fn path(&self, link: &Link) -> &super::Path {
        &self.paths[link.path as usize]
    }

    /// The event id of a link.
    pub fn event<'s>(&self, store: &'s Store, link: &Link) -> &'s str {
        store.text(store.row_at(link.row).event)
    }

    /// The source of a link.
    pub fn source<'s>(&self, store: &'s Store, link: &Link) -> &'s str {
        store.text(store.row_at(link.row).source)
    }

    /// The server and the tool that a link calls, by their names in the store.
    pub fn target(&self, store: &Store, link: &Link) -> (super::Name, super::Name) {
        let row = store.row_at(link.row);
        (row.server, row.tool)
    }

    /// When it was decided.
    pub fn time(&self, store: &Store, link: &Link) -> Micros {
        Micros(store.row_at(link.row).time)
    }

    /// What was decided.
    pub fn outcome(&self, store: &Store, link: &Link) -> Outcome {
        store.row_at(link.row).outcome.unwrap_or(Outcome::Unknown)
    }

    /// Time of the first event.
    pub fn started(&self, store: &Store) -> Micros {
        self.links.first().map_or(Micros(0), |l| self.time(store, l))
    }

    /// Time of the last event.
    pub fn ended(&self, store: &Store) -> Micros {
        self.links.last().map_or(Micros(0), |l| self.time(store, l))
    }

    /// Events that stand in a way.
    pub fn count(&self, standing: Standing) -> usize {
        self.links.iter().filter(|l| l.standing == standing).count()
    }

    /// Where it begins: something is missing, nobody is named, or all is known.
    pub fn lineage(&self) -> Lineage {
        if self.links.iter().any(|l| l.standing == Standing::Orphan) {
            Lineage::Orphan
        } else if self.links.iter().any(|l| !self.paths[l.path as usize].is_rooted()) {
            Lineage::Unknown
        } else {
            Lineage::Root
        }
    }

    /// Hops known from records, of all hops, in thousandths; none when there is no hop.
    pub fn coverage(&self) -> Option<Confidence> {
        let (mut covered, mut hops) = (0u64, 0u64);
        for link in &self.links {
            let (c, h) = self.paths[link.path as usize].coverage();
            covered += u64::from(c);
            hops += u64::from(h);
        }
        (hops > 0).then(|| Confidence((covered * 1000 / hops) as u16))
    }

    /// Events with a parent, of all events, in thousandths.
    pub fn link_coverage(&self) -> Confidence {
        let linked = self.links.iter().filter(|l| l.parent().is_some_and(|_| l.tier <= Some(Call::C4))).count();
        Confidence((linked * 1000 / self.links.len().max(1)) as u16)
    }

    /// The weakest path, and the weakest link that holds an event in the chain.
    pub fn confidence(&self) -> Confidence {
        let paths = self.links.iter().map(|l| self.paths[l.path as usize].confidence());
        let links = self.links.iter().filter(|l| l.tier.is_some()).map(|l| l.confidence);
        paths.chain(links).min().unwrap_or_default()
    }

    /// Whether an event has a mark.
    pub fn is_marked(&self, mark: Mark) -> bool {
        self.links.iter().any(|l| l.marks.has(mark))
    }
}
