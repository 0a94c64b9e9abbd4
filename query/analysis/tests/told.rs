//! Event sets for tests: drawn from small pools, so that ids collide, rings close, parents are missing and clocks differ.
//!
//! The same seed gives the same set. Fields and pools are those of `model/delegation_model.py`, and more beside them that
//! the model does not know.

use catena_analysis::chain::rules::{Chain, Fact, Observed, Party, Proof, Settings, Store, Via, rebuild};
use catena_schemas::{Micros, Outcome};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const MINUTE_US: i64 = 60_000_000;

/// Random numbers from a seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
    }
}

/// An event that owns its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    pub(crate) tenant: String,
    pub(crate) src: String,
    pub(crate) eid: String,
    /// Minutes.
    pub(crate) t: i64,
    pub(crate) sub: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) tool: Option<String>,
    pub(crate) did: Option<String>,
    pub(crate) pdid: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) span: Option<String>,
    pub(crate) pspan: Option<String>,
    pub(crate) rs_out: Option<String>,
    pub(crate) rs_in: Option<String>,
    pub(crate) txn: Option<String>,
    pub(crate) sess: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) args: Option<String>,
    pub(crate) request: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) grant: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) actors: Vec<String>,
    pub(crate) act: bool,
}

impl Told {
    /// Fields that are there, as the model knows them.
    pub(crate) fn to_json(&self) -> Value {
        let mut all = Map::new();
        for (name, value) in [
            ("sub", &self.sub),
            ("client", &self.client),
            ("tool", &self.tool),
            ("did", &self.did),
            ("pdid", &self.pdid),
            ("trace", &self.trace),
            ("span", &self.span),
            ("pspan", &self.pspan),
            ("rs_out", &self.rs_out),
            ("rs_in", &self.rs_in),
            ("txn", &self.txn),
            ("sess", &self.sess),
        ] {
            if let Some(value) = value {
                all.insert(name.into(), value.as_str().into());
            }
        }
        for (name, value) in [("tenant", &self.tenant), ("src", &self.src), ("eid", &self.eid)] {
            all.insert(name.into(), value.as_str().into());
        }
        all.insert("t".into(), self.t.into());
        all.insert("content".into(), format!("{:032x}", self.content()).into());
        all.into()
    }

    pub(crate) fn content(&self) -> u128 {
        // The tenant is no part of what the record says.
        let text = format!("{:?}", Told { tenant: String::new(), ..self.clone() });
        let digest = Sha256::digest(text.as_bytes());
        u128::from_be_bytes(digest[..16].try_into().expect("sixteen bytes"))
    }

    pub(crate) fn tell(&self, store: &mut Store) -> (u32, bool) {
        self.with(|fact| store.tell(&fact))
    }

    pub(crate) fn with<R>(&self, then: impl FnOnce(Fact<'_>) -> R) -> R {
        let actors = self.parties();
        then(self.fact(&actors))
    }

    pub(crate) fn parties(&self) -> Vec<Party<'_>> {
        self.actors.iter().map(|id| Party { id, ..Party::default() }).collect()
    }

    pub(crate) fn fact<'a>(&'a self, actors: &'a [Party<'a>]) -> Fact<'a> {
        Fact {
            source: &self.src,
            event_id: &self.eid,
            content: self.content(),
            time: Micros(self.t * MINUTE_US),
            decision: self.did.as_deref(),
            parent: self.pdid.as_deref(),
            trace: self.trace.as_deref(),
            span: self.span.as_deref(),
            parent_span: self.pspan.as_deref(),
            state_out: self.rs_out.as_deref(),
            state_in: self.rs_in.as_deref(),
            txn: self.txn.as_deref(),
            session: self.sess.as_deref(),
            subject: self.sub.as_deref(),
            client: self.client.as_deref(),
            tool: self.tool.as_deref(),
            task: self.task.as_deref(),
            args: self.args.as_deref(),
            grant: self.grant.as_deref(),
            request: self.request.as_deref(),
            token: self.token.as_deref(),
            outcome: self.outcome,
            actors,
            via: if self.act { Via::Act } else { Via::Unsaid },
            proof: if self.act { Proof::Verified } else { Proof::None },
            ..Fact::default()
        }
    }
}

/// As many events as asked for, of the fields that the model knows.
pub(crate) fn simple(dice: &mut Dice, n: usize) -> Vec<Told> {
    (0..n).map(|_| one(dice, n)).collect()
}

fn one(dice: &mut Dice, n: usize) -> Told {
    let pick = |dice: &mut Dice, prefix: &str, pool: usize| format!("{prefix}{}", dice.below(pool));
    let some = |dice: &mut Dice, percent: u64, prefix: &str, pool: usize| {
        dice.chance(percent).then(|| pick(dice, prefix, pool))
    };
    let mut told = Told {
        tenant: pick(dice, "t", 2),
        src: pick(dice, "g", 2),
        eid: pick(dice, "e", n * 3),
        t: dice.below(200) as i64,
        sub: Some(pick(dice, "u", 2)),
        client: Some(pick(dice, "c", 2)),
        tool: Some(pick(dice, "x", 4)),
        did: some(dice, 70, "d", n),
        pdid: some(dice, 50, "d", n),
        ..Told::default()
    };
    if dice.chance(40) {
        told.trace = Some(pick(dice, "T", 4));
        told.span = Some(pick(dice, "s", n));
        told.pspan = some(dice, 70, "s", n);
    }
    told.rs_out = some(dice, 20, "q", 5);
    told.rs_in = some(dice, 20, "q", 5);
    told.txn = some(dice, 20, "x", 4);
    told.sess = some(dice, 30, "S", 2);
    told
}

/// The same, and what the model does not know: unknown subjects, tasks, actors, repeated requests, verdicts.
pub(crate) fn rich(dice: &mut Dice, n: usize) -> Vec<Told> {
    let mut all = simple(dice, n);
    for told in &mut all {
        let pool = |dice: &mut Dice, percent: u64, prefix: &str, n: usize| {
            dice.chance(percent).then(|| format!("{prefix}{}", dice.below(n)))
        };
        if dice.chance(15) {
            told.sub = None;
        }
        if dice.chance(30) {
            told.client = None;
        }
        told.task = pool(dice, 10, "k", 3);
        told.args = pool(dice, 60, "a", 3);
        told.request = pool(dice, 20, "r", 4);
        told.outcome = Some(Outcome::ALL[dice.below(Outcome::ALL.len())]);
        told.act = dice.chance(40);
        for _ in 0..dice.below(4) {
            told.actors.push(format!("agent{}", dice.below(3)));
        }
    }
    all
}

/// The chains of all tenants, each as JSON, by tenant and id.
pub(crate) fn chains(all: &[Told], settings: &Settings) -> BTreeMap<(String, String), Value> {
    chains_after(all, &[], settings)
}

/// An exchange: the token that was issued, the subject's, and the actor's.
pub(crate) type Exchange = (String, String, Option<String>);

/// The same, where tokens were exchanged.
pub(crate) fn chains_after(
    all: &[Told],
    exchanges: &[Exchange],
    settings: &Settings,
) -> BTreeMap<(String, String), Value> {
    let mut stores: BTreeMap<&str, Store> = BTreeMap::new();
    for told in all {
        told.tell(stores.entry(&told.tenant).or_default());
    }
    let mut found = BTreeMap::new();
    for (tenant, store) in &mut stores {
        let chains = rebuild(tenant, store, exchanges, settings);
        for chain in &chains.chains {
            let before = found.insert((tenant.to_string(), chain.id.clone()), json_of(chain, tenant, store));
            assert!(before.is_none(), "two chains are called {}", chain.id);
        }
    }
    found
}

/// A chain as JSON: everything that an answer holds of it.
pub(crate) fn json_of(chain: &Chain, tenant: &str, store: &Store) -> Value {
    let observed = Observed { tenant, ..Observed::default() };
    serde_json::to_value(chain.detail(store, &observed, &[])).expect("an answer is JSON")
}

/// What the model says of a chain.
pub(crate) fn as_model(tenant: &str, store: &Store, chain: &Chain) -> Value {
    use catena_analysis::chain::rules::{Mark, Standing};
    let json = json_of(chain, tenant, store);
    let events = json["calls"].as_array().expect("events");
    let short = |e: &Value| {
        let text = |k: &str| e[k].as_str().unwrap_or_default().to_owned();
        format!("{}|{}|{}", text("source"), text("event_id"), text("content"))
    };
    let sorted = |mut all: Vec<Value>| {
        all.sort_by_key(|v| v.to_string());
        all
    };
    let which = |test: &dyn Fn(usize) -> bool| {
        sorted((0..events.len()).filter(|i| test(*i)).map(|i| short(&events[i]).into()).collect())
    };
    let edges = chain.links.iter().enumerate().filter_map(|(i, link)| {
        let parent = &events[link.parent()?];
        Some(json!([short(&events[i]), short(parent), link.tier.map(|t| t.as_str())]))
    });
    let ghosts = chain.ghosts.iter().map(|g| {
        let names = g.names.iter().filter(|n| n.is_some()).map(|n| store.text(*n));
        std::iter::once(g.kind.as_str()).chain(names).collect::<Vec<_>>().into()
    });
    json!({
        "tenant": tenant, "id": chain.id, "members": which(&|_| true), "edges": sorted(edges.collect()),
        "ghosts": sorted(ghosts.collect()), "several": which(&|i| chain.links[i].marks.has(Mark::Several)),
        "cut": which(&|i| chain.links[i].standing == Standing::Cut),
    })
}
