//! Blast radius: stories in, rows out; and laws over generated sets.

use crate::told::{Dice, Told, rich};
use catena_analysis::authority::{Atom, Authority, Book, Grant, Within};
use catena_analysis::chain::rules::reach::{Reach, Row, Span, Start, What, reach};
use catena_analysis::chain::rules::{Chain, Fact, Lists, Party, Settings, Store, Terms, rebuild};
use catena_schemas::authority::Record;
use catena_schemas::fixture::Fixture;
use catena_schemas::{Micros, Outcome};
use expect_test::{Expect, expect};
use std::collections::{BTreeMap, BTreeSet};

struct World {
    store: Store,
    terms: Terms,
    chains: Vec<Chain>,
}

fn world(story: &str, catalogue: &str) -> World {
    let told = Fixture::parse(story).unwrap_or_else(|e| panic!("{e}"));
    let (mut store, mut terms) = (Store::default(), Terms::default());
    for record in &told.authority {
        terms.book.enter(record);
    }
    for (i, line) in catalogue.lines().map(str::trim).filter(|l| !l.is_empty()).enumerate() {
        let (tool, needs) = line.split_once(" needs ").map_or((line, None), |(t, n)| (t, Some(n)));
        let (server, tool) = tool.split_once('/').expect("server/tool");
        let requires: Option<Vec<_>> =
            needs.map(|n| n.split(' ').map(|a| serde_json::json!({"server": server, "action": a})).collect());
        let mut record =
            serde_json::json!({"kind": "tool", "id": format!("t{i}"), "time": 0, "server": server, "tool": tool});
        if let Some(requires) = requires {
            record["requires"] = requires.into();
        }
        terms.book.enter(&serde_json::from_value::<Record>(record).expect("a tool"));
    }
    for (i, event) in told.events.iter().enumerate() {
        let mut lists = Lists::default();
        store.tell(&Fact::of(event, i as u128, &mut lists));
    }
    let chains = rebuild("acme", &mut store, &terms.book.exchanged(), &Settings::default()).chains;
    World { store, terms, chains }
}

fn line(row: &Row) -> String {
    let server = row.server.as_ref().map(|s| format!("{s} › ")).unwrap_or_default();
    let by: Vec<String> = row.by_outcome.iter().map(|(o, n)| format!("{n} {}", o.as_str())).collect();
    let did = match row.by_outcome.is_empty() {
        true => "never".to_owned(),
        false => format!(
            "{} {} in {} operations, first {}",
            if row.reached { "reached" } else { "tried" },
            by.join(" "),
            row.operations,
            row.example.as_deref().unwrap_or("?")
        ),
    };
    let distance = row.distance.map_or("-".to_owned(), |d| d.to_string());
    let beyond = if row.beyond { "  BEYOND" } else { "" };
    format!("{distance} {} {server}{}: {did}; {}: {}{beyond}", row.what.as_str(), row.id, row.could.as_str(), row.why)
}

fn text(reach: &Reach) -> String {
    reach.rows.iter().map(|r| line(r) + "\n").collect()
}

fn check(world: &World, start: Start<'_>, want: Expect) {
    want.assert_eq(&text(&reach(&world.store, &world.chains, &world.terms, start, Span::default())));
}

const STORY: &str = "
    10:00:00 alice   -> planner  grant   mail.read, mail.send  server=mcp:mail  depth=1 to=coder,tester
    10:00:01 planner -> coder    grant   mail.read, mail.purge server=mcp:mail  parent=g1
    10:00:02 bob     -> other    grant   mail.read             server=mcp:mail
    10:00:05 planner => mcp:mail call    read    allow    grant=g1 id=e1
    10:00:06 coder   => mcp:mail call    purge   allow    parent=e1 id=e2 grant=g2
    10:00:07 coder   => mcp:mail call    send    deny     parent=e1 id=e3
    10:00:08 coder   => ci       call    run     step_up  parent=e1 id=e4
";

const CATALOGUE: &str = "
    mcp:mail/read needs mail.read
    mcp:mail/send needs mail.send
    mcp:mail/purge needs mail.purge
    mcp:mail/count
    ci/run
";

#[test]
fn of_a_person() {
    check(
        &world(STORY, CATALOGUE),
        Start::Human("alice"),
        expect![[r#"
            2 agent coder: reached 1 allow 1 deny 1 step_up in 3 operations, first e2; in: grant g2, from g1
            1 agent planner: reached 2 allow 1 deny 1 step_up in 4 operations, first e1; in: grant g1
            - actor tester: never; in: grant g1 may be passed on
            3 server ci: tried 1 step_up in 1 operations, first e4; out: no grant that held gives it
            2 server mcp:mail: reached 2 allow 1 deny in 3 operations, first e1; in: grant g1
            4 tool ci › run: tried 1 step_up in 1 operations, first e4; out: no grant that held gives it
            4 tool mcp:mail › purge: reached 1 allow in 1 operations, first e2; out: no grant that held gives it  BEYOND
            3 tool mcp:mail › read: reached 1 allow in 1 operations, first e1; in: needs mcp:mail/mail.read, which grant g1 holds
            4 tool mcp:mail › send: tried 1 deny in 1 operations, first e3; in: needs mcp:mail/mail.send, which grant g1 holds
        "#]],
    );
}

#[test]
fn of_an_agent() {
    check(
        &world(STORY, CATALOGUE),
        Start::Actor("coder"),
        expect![[r#"
        1 server ci: tried 1 step_up in 1 operations, first e4; out: no grant that held gives it
        1 server mcp:mail: reached 1 allow 1 deny in 2 operations, first e2; in: grant g2, from g1
        2 tool ci › run: tried 1 step_up in 1 operations, first e4; out: no grant that held gives it
        2 tool mcp:mail › purge: reached 1 allow in 1 operations, first e2; out: no grant that held gives it  BEYOND
        - tool mcp:mail › read: never; in: needs mcp:mail/mail.read, which grant g2, from g1 holds
        2 tool mcp:mail › send: tried 1 deny in 1 operations, first e3; out: no grant that held gives it
    "#]],
    );
}

#[test]
fn of_a_grant() {
    check(
        &world(STORY, CATALOGUE),
        Start::Grant("g1"),
        expect![[r#"
            2 agent coder: reached 1 allow 1 deny 1 step_up in 3 operations, first e2; in: grant g2, from g1
            1 agent planner: reached 2 allow in 2 operations, first e1; in: grant g1
            - actor tester: never; in: grant g1 may be passed on
            5 server ci: tried 1 step_up in 1 operations, first e4; out: no grant that held gives it
            2 server mcp:mail: reached 2 allow 1 deny in 3 operations, first e1; in: grant g1
            6 tool ci › run: tried 1 step_up in 1 operations, first e4; out: no grant that held gives it
            4 tool mcp:mail › purge: reached 1 allow in 1 operations, first e2; out: no grant that held gives it  BEYOND
            3 tool mcp:mail › read: reached 1 allow in 1 operations, first e1; in: needs mcp:mail/mail.read, which grant g1 holds
            6 tool mcp:mail › send: tried 1 deny in 1 operations, first e3; in: needs mcp:mail/mail.send, which grant g1 holds
        "#]],
    );
}

#[test]
fn of_a_tool_and_of_a_server() {
    let world = world(STORY, CATALOGUE);
    check(
        &world,
        Start::Tool { server: Some("mcp:mail"), tool: Some("read") },
        expect![[r#"
        3 requester alice: reached 1 allow in 1 operations, first e1; in: grant g1
        - requester bob: never; in: grant g3
        2 agent planner: reached 1 allow in 1 operations, first e1; in: grant g1
        - actor coder: never; in: grant g2, from g1
        - actor other: never; in: grant g3
    "#]],
    );
    check(
        &world,
        Start::Tool { server: Some("mcp:mail"), tool: None },
        expect![[r#"
        2 requester alice: reached 2 allow 1 deny in 3 operations, first e1; in: grant g1
        - requester bob: never; in: grant g3
        1 agent coder: reached 1 allow 1 deny in 2 operations, first e2; in: grant g2, from g1
        1 agent planner: reached 2 allow 1 deny in 3 operations, first e1; in: grant g1
        - actor other: never; in: grant g3
    "#]],
    );
}

#[test]
fn what_nobody_recorded_is_unknown() {
    let story = "a => s call one allow for=alice scope=x resource=r1 token=t1";
    check(
        &world(story, "s/one\ns/two"),
        Start::Actor("a"),
        expect![[r#"
        1 server s: reached 1 allow in 1 operations, first e1; unknown: no grant is recorded
        2 tool s › one: reached 1 allow in 1 operations, first e1; unknown: no grant is recorded
        - tool s › two: never; unknown: no grant is recorded
    "#]],
    );
    // Scopes alone say nothing about tools.
    check(
        &world("alice -> a grant x\na => s call one allow", "s/one"),
        Start::Actor("a"),
        expect![[r#"
        1 server s: reached 1 allow in 1 operations, first e1; unknown: grant g1 does not say
        2 tool s › one: reached 1 allow in 1 operations, first e1; unknown: grant g1 does not say
    "#]],
    );
}

#[test]
fn grants_count_while_they_and_their_parents_hold() {
    let story = "
        10:00:00 alice -> a grant one server=s until=10:30:00
        10:00:00 a     -> b grant one server=s parent=g1 until=12:00:00
        10:00:00 b     -> c grant one server=s parent=g2
        10:00:00 alice -> d grant one server=s depth=0
        10:00:00 d     -> e grant one server=s
        10:00:00 alice -> f grant one server=s revoked=09:00:00
    ";
    let world = world(story, "s/one");
    let at = |h: i64| Micros::parse_rfc3339(&format!("2026-01-01T{h:02}:00:00Z")).expect("a time");
    let could = |id: &str, from: i64, until: i64| {
        let span = Span { from: at(from), until: at(until) };
        let found = reach(&world.store, &world.chains, &world.terms, Start::Actor(id), span);
        found.rows.iter().find(|r| r.what == What::Tool).map(|r| r.could)
    };
    for (id, from, until, want) in [
        ("a", 10, 11, Some(Within::In)),
        ("b", 10, 11, Some(Within::In)),
        ("c", 10, 11, Some(Within::In)),
        ("b", 11, 13, None),
        ("c", 11, 13, None),
        ("a", 8, 9, None),
        ("d", 10, 11, Some(Within::In)),
        ("e", 10, 11, None),
        ("f", 8, 23, None),
        ("nobody", 8, 23, Some(Within::Unknown)),
    ] {
        assert_eq!(could(id, from, until), want, "{id} {from} {until}");
    }
}

fn told_world(set: &[Told], terms: Terms) -> World {
    let mut store = Store::default();
    for told in set {
        told.tell(&mut store);
    }
    let chains = rebuild("t0", &mut store, &[], &Settings::default()).chains;
    World { store, terms, chains }
}

fn generated(seed: u64) -> (Dice, Vec<Told>, Terms) {
    let mut dice = Dice(seed);
    let n = 1 + dice.below(30);
    let mut set = rich(&mut dice, n);
    set.retain(|t| t.tenant == "t0");
    let mut terms = Terms::default();
    let parties = ["u0", "u1", "agent0", "agent1", "agent2", "c0"];
    for i in 0..dice.below(7) {
        let tools = (0..4).filter(|_| dice.chance(50)).map(|t| Atom {
            server: "s".into(),
            action: format!("x{t}"),
            ..Atom::default()
        });
        let capability = Some(tools.collect());
        let authority = Authority { capability: capability.filter(|_| dice.chance(80)), ..Authority::default() };
        terms.book.grant(Grant {
            id: format!("g{i}"),
            grantor: parties[dice.below(6)].into(),
            grantee: parties[dice.below(6)].into(),
            parent: dice.chance(30).then(|| format!("g{}", dice.below(7))),
            authority,
            max_redelegation: dice.chance(30).then(|| dice.below(2) as u32),
            ..Grant::default()
        });
    }
    for t in 0..4 {
        let atom = Atom { server: "s".into(), action: format!("x{t}"), ..Atom::default() };
        let needs = Authority { capability: Some([atom].into()), ..Authority::default() };
        terms.book.tool("", &format!("x{t}"), Micros(0), dice.chance(80).then_some(needs));
    }
    (dice, set, terms)
}

fn ask(world: &World, start: Start<'_>) -> Reach {
    reach(&world.store, &world.chains, &world.terms, start, Span::default())
}

/// What somebody reached, by following every step there is.
fn naive(world: &World, id: &str) -> BTreeMap<(bool, String), u64> {
    let mut counts = BTreeMap::new();
    for chain in &world.chains {
        let n = chain.links.len();
        let path = |e: usize| &chain.paths[chain.links[e].path as usize].hops;
        let shared = |e: usize, p: usize| {
            path(e).iter().zip(path(p)).take_while(|(a, b)| (a.id, a.issuer) == (b.id, b.issuer)).count()
        };
        let parents = |e: usize| {
            let further = chain.secondary.iter().filter(move |s| s.child as usize == e).map(|s| s.parent as usize);
            chain.links[e].parent().into_iter().chain(further).collect::<Vec<_>>()
        };
        let own = |e: usize| path(e).iter().position(|h| world.store.text(h.id) == id);
        let mut is_reached = vec![false; n];
        loop {
            let more = (0..n).filter(|e| !is_reached[*e]);
            let more = more.filter(|e| own(*e).is_some() || parents(*e).iter().any(|p| is_reached[*p]));
            let more: Vec<usize> = more.collect();
            if more.is_empty() {
                break;
            }
            more.into_iter().for_each(|e| is_reached[e] = true);
        }
        for e in (0..n).filter(|e| is_reached[*e]) {
            let places = chain.places(&world.store, e);
            let after = own(e).map(|i| i + 1);
            let new = parents(e).into_iter().filter(|p| is_reached[*p]).map(|p| shared(e, p)).min();
            let from = after.into_iter().chain(new).min().expect("one of them");
            for (i, place) in places.iter().enumerate().skip(from) {
                if !place.id.is_empty() && place.id != id {
                    *counts.entry((i >= path(e).len(), place.id.to_owned())).or_default() += 1;
                }
            }
        }
    }
    counts
}

const PARTIES: [&str; 8] = ["u0", "u1", "u2", "agent0", "agent1", "agent2", "c0", "c1"];

#[test]
fn following_every_step_finds_the_same() {
    let mut found = 0;
    for seed in 0..1500 {
        let (_, set, terms) = generated(seed);
        let world = told_world(&set, terms);
        for id in PARTIES {
            let want = naive(&world, id);
            let rows = ask(&world, Start::Actor(id)).rows;
            let decided = rows.iter().filter(|r| !r.by_outcome.is_empty());
            let counts: BTreeMap<(bool, String), u64> =
                decided.map(|r| ((r.what >= What::Server, r.id.clone()), r.by_outcome.values().sum())).collect();
            // A principal that stands twice after the start is counted at each place.
            let keys = |c: &BTreeMap<(bool, String), u64>| c.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&want), keys(&counts), "seed {seed} {id}");
            found += counts.len();
            for row in rows {
                assert_eq!(row.beyond, row.reached && row.could == Within::Out);
                assert!(row.reached || row.could != Within::Out || !row.by_outcome.is_empty(), "{}", line(&row));
                assert!(row.operations <= row.by_outcome.values().sum(), "{}", line(&row));
                assert_eq!(row.by_outcome.is_empty(), row.first.is_none() && row.example.is_none());
            }
        }
    }
    assert!(found > 5_000, "{found}");
}

/// Who reached a tool is whose reach holds it, as far, as often.
#[test]
fn both_ways_are_the_same_way() {
    for seed in 0..800 {
        let (_, set, terms) = generated(seed);
        let world = told_world(&set, terms);
        let mut down: BTreeSet<String> = BTreeSet::new();
        let mut up: BTreeSet<String> = BTreeSet::new();
        let say = |who: &str, tool: &str, r: &Row| {
            format!("{who} {tool} {:?} {:?} {} {:?} {:?}", r.distance, r.by_outcome, r.operations, r.first, r.example)
        };
        for tool in ["x0", "x1", "x2", "x3"] {
            let rows = ask(&world, Start::Tool { server: None, tool: Some(tool) }).rows;
            up.extend(rows.iter().filter(|r| !r.by_outcome.is_empty()).map(|r| say(&r.id, tool, r)));
        }
        for id in PARTIES {
            let rows = ask(&world, Start::Actor(id)).rows;
            let tools = rows.iter().filter(|r| r.what == What::Tool && !r.by_outcome.is_empty());
            down.extend(tools.map(|r| say(id, &r.id, r)));
        }
        assert_eq!(up, down, "seed {seed}");
    }
}

/// How each event stands: its parents and its path.
fn steps(world: &World) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for chain in &world.chains {
        let name = |at: usize| {
            let link = &chain.links[at];
            format!(
                "{} {} {}",
                chain.source(&world.store, link),
                chain.event(&world.store, link),
                chain.time(&world.store, link).0
            )
        };
        for (at, link) in chain.links.iter().enumerate() {
            let further = chain.secondary.iter().filter(|s| s.child as usize == at).map(|s| name(s.parent as usize));
            let parents: Vec<String> = link.parent().map(name).into_iter().chain(further).collect();
            let path: Vec<&str> = chain.places(&world.store, at).iter().map(|p| p.id).collect();
            all.insert(format!("{} {parents:?} {path:?}", name(at)));
        }
    }
    all
}

/// A call that led to nothing, taken away, takes away and never adds.
#[test]
fn fewer_events_never_add() {
    let better = |a: Within, b: Within| a < b;
    let mut compared = 0;
    for seed in 0..1500 {
        let (mut dice, mut set, terms) = generated(seed);
        if set.len() < 2 {
            continue;
        }
        let all = told_world(&set, terms.clone());
        let leads: BTreeSet<&str> = all
            .chains
            .iter()
            .flat_map(|c| {
                let primary = c.links.iter().filter_map(|l| l.parent());
                let further = c.secondary.iter().map(|s| s.parent as usize);
                primary.chain(further).map(|p| c.event(&all.store, &c.links[p])).collect::<Vec<_>>()
            })
            .collect();
        let leaves: Vec<usize> = (0..set.len()).filter(|i| !leads.contains(set[*i].eid.as_str())).collect();
        if leaves.is_empty() {
            continue;
        }
        set.remove(leaves[dice.below(leaves.len())]);
        let fewer = told_world(&set, terms);
        // Where another call now leads, because this one led before it, there are new steps.
        let before = steps(&all);
        if steps(&fewer).iter().any(|s| !before.contains(s)) {
            continue;
        }
        compared += 1;
        for id in PARTIES {
            for start in [Start::Actor(id), Start::Human(id), Start::Tool { server: None, tool: Some("x1") }] {
                let (many, few) = (ask(&all, start), ask(&fewer, start));
                for row in few.rows {
                    let same = |r: &&Row| {
                        (&r.id, &r.server, r.what >= What::Server) == (&row.id, &row.server, row.what >= What::Server)
                    };
                    let held = many
                        .rows
                        .iter()
                        .find(same)
                        .unwrap_or_else(|| panic!("seed {seed} {start:?}: new {}", line(&row)));
                    let counts = |o| held.by_outcome.get(o).copied().unwrap_or(0);
                    assert!(row.by_outcome.iter().all(|(o, n)| counts(o) >= *n), "seed {seed} {}", line(&row));
                    assert!(!row.reached || held.reached, "seed {seed} {}", line(&row));
                    assert!(!better(row.could, held.could), "seed {seed}: {} against {}", line(&row), line(held));
                }
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

/// What held when, said for all instants at once, is what the book says of each.
#[test]
fn grants_held_when_the_book_says() {
    for seed in 0..5000 {
        let mut dice = Dice(seed);
        let mut book = Book::default();
        for _ in 0..1 + dice.below(5) {
            let begins = dice.below(6) as i64;
            book.grant(Grant {
                id: format!("g{}", dice.below(2)),
                valid_from: Micros(begins),
                valid_to: dice.chance(50).then(|| Micros(begins + dice.below(6) as i64)),
                revoked_at: dice.chance(20).then(|| Micros(dice.below(12) as i64)),
                version: dice.below(3) as i64,
                recorded: Micros(dice.below(3) as i64),
                ..Grant::default()
            });
        }
        if dice.chance(30) {
            book.revoke("g0", Micros(dice.below(12) as i64));
        }
        for at in (-1..14).map(Micros) {
            for id in ["g0", "g1"] {
                let held: Vec<_> =
                    book.held().into_iter().filter(|h| h.grant.id == id && h.from <= at && at < h.until).collect();
                assert!(held.len() <= 1);
                assert_eq!(held.first().map(|h| h.grant), book.grant_at(id, at), "seed {seed} {id} {at:?}");
            }
        }
    }
}

#[test]
fn ten_thousand_events() {
    let (mut store, mut terms) = (Store::default(), Terms::default());
    for i in 0..10_000i64 {
        let (id, parent, agent) = (format!("e{i}"), format!("e{}", (i - 1) / 3), format!("agent{}", i % 50));
        let (tool, session) = (format!("tool{}", i % 200), format!("s{}", i % 20));
        let actors = [Party { id: &agent, ..Party::default() }];
        store.tell(&Fact {
            event_id: &id,
            decision: Some(&id),
            parent: (i > 0).then_some(parent.as_str()),
            session: Some(&session),
            time: Micros(i),
            subject: Some("alice"),
            actors: &actors,
            server: Some("mcp"),
            tool: Some(&tool),
            outcome: Some(Outcome::Allow),
            ..Fact::default()
        });
    }
    for i in 0..1000 {
        let atoms = (0..20).map(|k| Atom {
            server: "mcp".into(),
            action: format!("tool{}", (i + k * 7) % 200),
            ..Atom::default()
        });
        let authority = Authority { capability: Some(atoms.collect()), ..Authority::default() };
        terms.book.grant(Grant {
            id: format!("g{i}"),
            grantor: "alice".into(),
            grantee: format!("agent{}", i % 50),
            authority,
            ..Grant::default()
        });
    }
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    let world = World { store, terms, chains };
    for start in [
        Start::Human("alice"),
        Start::Actor("agent7"),
        Start::Grant("g7"),
        Start::Tool { server: Some("mcp"), tool: None },
    ] {
        let started = std::time::Instant::now();
        let found = ask(&world, start);
        println!("{start:?}: {} rows in {:?}", found.rows.len(), started.elapsed());
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
