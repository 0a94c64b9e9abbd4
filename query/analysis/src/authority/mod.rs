//! Authority: what may be done, compared.
//!
//! Guarantee: comparison is by set, never by likeness: `https://x/v1/` does not cover `https://x/v1/a`, and a scope covers
//! another only where a table of the tenant says so. What is not recorded is unknown, and unknown is never outside:
//! deleting a field can make an answer unknown, and never makes a widening.
//!
//! | dimension | compared |
//! |---|---|
//! | scope | as a set, with the tenant's table of what implies what |
//! | resource | as a set of canonical URIs |
//! | rar | object by object of one `type` (RFC 9396) |
//! | capability | atom by atom: server, action, resource, constraints |
//! | aud | recorded, not compared: retargeting a token does not widen it |

mod book;
mod bounds;

pub use book::{Book, Exchange, Grant, Held, Reauth, Touched, Use};
pub use bounds::{Bound, Bounds, Call, Party, Recorded, bounds};

use crate::fault::{self, Fault};
use catena_schemas::authority as wire;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Whether something lies within something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Within {
    /// It does.
    In,
    /// Nobody recorded enough to say.
    Unknown,
    /// It does not.
    Out,
}

impl Within {
    /// As it stands in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Within::In => "in",
            Within::Unknown => "unknown",
            Within::Out => "out",
        }
    }

    /// All of it within.
    fn and(self, other: Within) -> Within {
        self.max(other)
    }
}

/// One thing that may be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom {
    /// Tool server.
    pub server: String,
    /// Tool or action.
    pub action: String,
    /// On what; absent means anything.
    pub resource: Option<String>,
    /// Further conditions, as JSON text of an object; absent means none.
    pub constraints: Option<String>,
}

impl Atom {
    fn within(&self, other: &Atom) -> Within {
        if (&self.server, &self.action) != (&other.server, &other.action) {
            return Within::Out;
        }
        let resource = match (&self.resource, &other.resource) {
            (_, None) => Within::In,
            (Some(a), Some(b)) if a == b => Within::In,
            // A pattern may cover it; its grammar is the server's business.
            (Some(_), Some(b)) if b.contains('*') => Within::Unknown,
            (Some(_), Some(_)) => Within::Out,
            (None, Some(_)) => Within::Unknown,
        };
        let constraints = match (&self.constraints, &other.constraints) {
            (_, None) => Within::In,
            (a, b) if a == b => Within::In,
            _ => Within::Unknown,
        };
        resource.and(constraints)
    }
}

/// What is allowed, dimension by dimension. An absent dimension is unknown; an empty one allows nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authority {
    /// Scopes.
    pub scope: Option<BTreeSet<String>>,
    /// Resources.
    pub resource: Option<BTreeSet<String>>,
    /// Authorization details.
    pub rar: Option<Vec<Map<String, Value>>>,
    /// Atoms of capability.
    pub capability: Option<BTreeSet<Atom>>,
    /// Audiences.
    pub aud: Option<BTreeSet<String>>,
}

/// Which scopes imply which others, said by the tenant.
pub type Implied = BTreeMap<String, BTreeSet<String>>;

impl Authority {
    /// Of scopes alone.
    pub fn scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Authority {
        Authority { scope: Some(scopes.into_iter().map(str::to_owned).collect()), ..Authority::default() }
    }

    /// Whether nothing that can be compared is recorded.
    pub fn is_unknown(&self) -> bool {
        self.scope.is_none() && self.resource.is_none() && self.rar.is_none() && self.capability.is_none()
    }

    /// Whether all that is recorded here lies within another.
    pub fn within(&self, other: &Authority, implied: &Implied) -> Within {
        let mut all: Option<Within> = None;
        let mut and = |w: Within| all = Some(all.map_or(w, |a| a.and(w)));
        if let Some(mine) = &self.scope {
            and(each(mine, &other.scope, |a, b| scope_within(a, b, implied)));
        }
        if let Some(mine) = &self.resource {
            and(each(mine, &other.resource, |a, b| if a == b { Within::In } else { Within::Out }));
        }
        if let Some(mine) = &self.capability {
            and(each(mine, &other.capability, Atom::within));
        }
        if let Some(mine) = &self.rar {
            and(each(mine, &other.rar, rar_within));
        }
        let all = all.unwrap_or(Within::Unknown);
        if all == Within::Unknown && fault::on(Fault::UnknownIsOut) { Within::Out } else { all }
    }

    /// What both allow; where one is unknown, what the other allows. What may lie within both is kept: it never lies outside
    /// of either for certain, and nothing that is inside is lost.
    pub fn meet(&self, other: &Authority, implied: &Implied) -> Authority {
        Authority {
            scope: both(&self.scope, &other.scope, |a, b| scope_within(a, b, implied)),
            resource: both(&self.resource, &other.resource, |a, b| if a == b { Within::In } else { Within::Out }),
            capability: both(&self.capability, &other.capability, Atom::within),
            rar: match (&self.rar, &other.rar) {
                (Some(a), Some(b)) => {
                    let covered = |x: &Map<String, Value>, by: &[Map<String, Value>]| {
                        by.iter().any(|y| rar_within(x, y) != Within::Out)
                    };
                    let mut kept: Vec<_> = a.iter().filter(|x| covered(x, b)).cloned().collect();
                    kept.extend(b.iter().filter(|x| covered(x, a) && !a.contains(x)).cloned());
                    Some(kept)
                }
                (a, b) => a.clone().or_else(|| b.clone()),
            },
            aud: other.aud.clone().or_else(|| self.aud.clone()),
        }
    }

    /// Dimensions that this lacks, from another.
    pub fn or(self, other: &Authority) -> Authority {
        Authority {
            scope: self.scope.or_else(|| other.scope.clone()),
            resource: self.resource.or_else(|| other.resource.clone()),
            rar: self.rar.or_else(|| other.rar.clone()),
            capability: self.capability.or_else(|| other.capability.clone()),
            aud: self.aud.or_else(|| other.aud.clone()),
        }
    }

    /// What several allow together. A dimension that one of them does not record is unknown: it may allow anything there.
    pub fn join(all: &[&Authority]) -> Authority {
        fn union<T: Ord + Clone>(
            all: &[&Authority],
            of: impl Fn(&Authority) -> &Option<BTreeSet<T>>,
        ) -> Option<BTreeSet<T>> {
            let mut joined = BTreeSet::new();
            for one in all {
                joined.extend(of(one).as_ref()?.iter().cloned());
            }
            (!all.is_empty()).then_some(joined)
        }
        let rar: Option<Vec<Vec<_>>> = all.iter().map(|a| a.rar.clone()).collect();
        Authority {
            scope: union(all, |a| &a.scope),
            resource: union(all, |a| &a.resource),
            capability: union(all, |a| &a.capability),
            rar: rar.filter(|_| !all.is_empty()).map(|lists| lists.into_iter().flatten().collect()),
            aud: union(all, |a| &a.aud),
        }
    }

    /// What a record says.
    pub fn of(record: &wire::Authority) -> Authority {
        let set = |texts: &Option<catena_schemas::wire::Texts>| texts.as_ref().map(book::texts);
        Authority {
            scope: set(&record.scope),
            resource: set(&record.resource),
            rar: record.rar.clone(),
            capability: record.capability.as_ref().map(|atoms| atoms.iter().map(atom).collect()),
            aud: set(&record.aud),
        }
    }

    /// As JSON; absent dimensions are left out.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        for (name, set) in [("scope", &self.scope), ("resource", &self.resource), ("aud", &self.aud)] {
            if let Some(set) = set {
                all.insert(name.into(), json!(set));
            }
        }
        if let Some(rar) = &self.rar {
            all.insert("rar".into(), json!(rar));
        }
        if let Some(atoms) = &self.capability {
            let atoms: Vec<_> = atoms
                .iter()
                .map(|a| json!({"server": a.server, "action": a.action, "resource": a.resource, "constraints": a.constraints}))
                .collect();
            all.insert("capability".into(), atoms.into());
        }
        all.into()
    }

    /// For people: `mail.read, mail.send`.
    pub fn to_text(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for set in [&self.scope, &self.resource].into_iter().flatten() {
            parts.extend(set.iter().cloned());
        }
        if self.scope.is_none() {
            parts.extend(self.capability.iter().flatten().map(|a| format!("{}/{}", a.server, a.action)));
        }
        parts.extend(self.rar.iter().flatten().filter_map(|o| o.get("type")?.as_str().map(|t| format!("[{t}]"))));
        if parts.is_empty() && !self.is_unknown() { "nothing".to_owned() } else { parts.join(", ") }
    }

    /// What this has and another has not, where that is certain.
    pub fn beyond(&self, other: &Authority, implied: &Implied) -> Authority {
        fn out<T: Ord + Clone>(
            mine: &Option<BTreeSet<T>>,
            other: &Option<BTreeSet<T>>,
            covers: impl Fn(&T, &T) -> Within,
        ) -> Option<BTreeSet<T>> {
            let other = other.as_ref()?;
            let is_out = |a: &&T| other.iter().all(|b| covers(a, b) == Within::Out);
            let found: BTreeSet<T> = mine.as_ref()?.iter().filter(is_out).cloned().collect();
            (!found.is_empty()).then_some(found)
        }
        Authority {
            scope: out(&self.scope, &other.scope, |a, b| scope_within(a, b, implied)),
            resource: out(&self.resource, &other.resource, |a, b| if a == b { Within::In } else { Within::Out }),
            capability: out(&self.capability, &other.capability, Atom::within),
            ..Authority::default()
        }
    }
}

/// Every member of `mine` within some member of `other`.
fn each<'a, T: 'a, B>(
    mine: impl IntoIterator<Item = &'a T>,
    other: &'a Option<B>,
    covers: impl Fn(&T, &T) -> Within,
) -> Within
where
    &'a B: IntoIterator<Item = &'a T>,
{
    let Some(other) = other else { return Within::Unknown };
    let best = |a: &T| other.into_iter().map(|b| covers(a, b)).min().unwrap_or(Within::Out);
    mine.into_iter().map(best).max().unwrap_or(Within::In)
}

fn both<T: Ord + Clone>(
    a: &Option<BTreeSet<T>>,
    b: &Option<BTreeSet<T>>,
    covers: impl Fn(&T, &T) -> Within,
) -> Option<BTreeSet<T>> {
    let (Some(x), Some(y)) = (a, b) else { return a.clone().or_else(|| b.clone()) };
    let covered = |one: &T, by: &BTreeSet<T>| by.iter().any(|other| covers(one, other) != Within::Out);
    let mine = x.iter().filter(|one| covered(one, y));
    let theirs = y.iter().filter(|one| covered(one, x));
    Some(mine.chain(theirs).cloned().collect())
}

fn scope_within(a: &String, b: &String, implied: &Implied) -> Within {
    let named = a == b || implied.get(b).is_some_and(|all| all.contains(a));
    if named { Within::In } else { Within::Out }
}

/// Members of authorization details that RFC 9396 defines as sets.
const RAR_SETS: [&str; 4] = ["actions", "locations", "datatypes", "privileges"];

fn rar_within(a: &Map<String, Value>, b: &Map<String, Value>) -> Within {
    if a.get("type") != b.get("type") || a.get("type").is_none() {
        return Within::Out;
    }
    let mut all = Within::In;
    for (name, value) in b {
        all = all.and(match (a.get(name), name.as_str()) {
            (Some(mine), _) if mine == value => Within::In,
            (Some(Value::Array(mine)), name) if RAR_SETS.contains(&name) => match value.as_array() {
                Some(theirs) if mine.iter().all(|m| theirs.contains(m)) => Within::In,
                Some(_) => Within::Out,
                None => Within::Unknown,
            },
            (Some(_), "identifier") => Within::Out,
            _ => Within::Unknown,
        });
    }
    // What `b` leaves open, `a` may narrow, as far as the RFC says what it means.
    for name in a.keys().filter(|n| !b.contains_key(*n)) {
        let narrows = RAR_SETS.contains(&name.as_str()) || name == "identifier";
        all = all.and(if narrows { Within::In } else { Within::Unknown });
    }
    all
}

fn atom(record: &wire::Capability) -> Atom {
    Atom {
        server: record.server.clone().unwrap_or_default(),
        action: record.action.clone().unwrap_or_default(),
        resource: record.resource.clone(),
        constraints: record.constraints.as_ref().and_then(|c| serde_json::to_string(c).ok()),
    }
}
