//! Laws of authority: comparison, meeting, bounds along a path.

use crate::told::Dice;
use catena_analysis::authority::{Authority, Book, Bounds, Call, Grant, Implied, Party, Reauth, Use, Within, bounds};
use catena_analysis::fault::{self, Fault};
use catena_schemas::Micros;
use std::collections::BTreeSet;

const CASES: u64 = 10_000;
type Verdict = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

fn some(dice: &mut Dice, percent: u64) -> Option<BTreeSet<String>> {
    dice.chance(percent).then(|| (0..4).filter(|_| dice.chance(50)).map(|i| format!("s{i}")).collect())
}

fn authority(dice: &mut Dice) -> Authority {
    let (scope, resource) = (some(dice, 80), some(dice, 40));
    let rar = dice.chance(30).then(|| {
        let one = |dice: &mut Dice| {
            let actions: Vec<_> = (0..3).filter(|_| dice.chance(60)).map(|i| format!("a{i}")).collect();
            let mut object = serde_json::Map::new();
            object.insert("type".into(), format!("t{}", dice.below(2)).into());
            object.insert("actions".into(), actions.into());
            if dice.chance(20) {
                object.insert("house".into(), dice.below(2).into());
            }
            object
        };
        (0..dice.below(3)).map(|_| one(dice)).collect()
    });
    Authority { scope, resource, rar, ..Authority::default() }
}

/// P15: within is reflexive and transitive, meet is a lower bound.
fn comparison(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let (a, b, c) = (authority(&mut dice), authority(&mut dice), authority(&mut dice));
    let none = Implied::new();
    let within = |x: &Authority, y: &Authority| x.within(y, &none);
    ensure(a.is_unknown() || within(&a, &a) == Within::In, || format!("not within itself: {a:?}"))?;
    if within(&a, &b) == Within::In && within(&b, &c) == Within::In {
        ensure(within(&a, &c) == Within::In, || format!("not transitive: {a:?} {b:?} {c:?}"))?;
    }
    let meet = a.meet(&b, &none);
    for side in [&a, &b] {
        ensure(within(&meet, side) != Within::Out, || format!("{meet:?} is outside of {side:?}"))?;
    }
    ensure(within(&a.beyond(&b, &none), &b) != Within::In, || "what lies beyond lies within".into())
}

fn path(n: usize) -> Vec<String> {
    (0..=n).map(|i| format!("p{i}")).collect()
}

fn judge(book: &Book, names: &[String], time: i64, token: Authority) -> Bounds {
    let path = names.iter().map(|id| Party { id: Some(id), domain: None, is_human: id == "p0" }).collect();
    let call = Call { path, time: Micros(time), token, ..Call::default() };
    bounds(book, &Implied::new(), &[], &call, |anchor| (anchor == "here").then_some(true))
}

fn grant(i: usize, authority: Authority) -> Grant {
    Grant {
        id: format!("g{i}"),
        grantor: format!("p{i}"),
        grantee: format!("p{}", i + 1),
        authority,
        ..Grant::default()
    }
}

/// P16: who only narrows never widens; who widens at a hop is named at that hop, and no other.
fn widening_is_found(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let n = 2 + dice.below(5);
    let names = path(n);
    let at = 1 + dice.below(n);
    let mut scopes: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
    let (mut narrow, mut wide) = (Book::default(), Book::default());
    for i in 0..n {
        if i > 0 {
            scopes.retain(|_| dice.chance(80));
        }
        let given = Authority::scopes(scopes.iter().map(String::as_str));
        let mut more = given.clone();
        if i + 1 == at && i > 0 {
            more.scope.get_or_insert_default().insert("more".into());
        }
        // A hop that records nothing passes on what it was given.
        if i > 0 && i + 1 != at && dice.chance(30) {
            continue;
        }
        narrow.grant(grant(i, given));
        wide.grant(grant(i, more));
    }
    let held = judge(&narrow, &names, 1, Authority::default());
    ensure(held.widened_at().is_none(), || format!("{held:?}"))?;
    for pair in held.hops.windows(2) {
        ensure(pair[1].effective.within(&pair[0].effective, &Implied::new()) != Within::Out, || {
            format!("wider: {pair:?}")
        })?;
    }
    let broken = judge(&wide, &names, 1, Authority::default());
    let want = (at > 1).then_some(at);
    ensure(broken.widened_at() == want, || format!("widened at {at}, found {:?}: {broken:?}", broken.widened_at()))
}

/// P13: a field that is gone never makes a widening.
fn absence_is_not_drift(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let n = 1 + dice.below(4);
    let names = path(n);
    let mut grants: Vec<Grant> = (0..n).map(|i| grant(i, authority(&mut dice))).collect();
    grants.retain(|_| dice.chance(80));
    let token = authority(&mut dice);
    let book = |grants: &[Grant]| {
        let mut book = Book::default();
        grants.iter().for_each(|g| book.grant(g.clone()));
        book
    };
    let before = judge(&book(&grants), &names, 1, token.clone());
    let out = |b: &Bounds| b.hops.iter().filter(|h| h.within == Within::Out).count();
    let mut less = Vec::new();
    for i in 0..grants.len() {
        let mut fewer = grants.clone();
        let authority = &mut fewer[i].authority;
        match dice.below(3) {
            0 => authority.scope = None,
            1 => authority.resource = None,
            _ => authority.rar = None,
        }
        less.push(judge(&book(&fewer), &names, 1, token.clone()));
    }
    less.push(judge(&book(&grants), &names, 1, Authority { scope: None, ..token.clone() }));
    for after in less {
        // A hop less may let the next one be the first to stand out, but nothing stands out that was fine before.
        ensure(out(&before) > 0 || out(&after) == 0, || format!("{before:?} became {after:?}"))?;
    }
    Ok(())
}

/// P12, P15: what holds at an instant does not depend on when it was told, nor on what comes later.
fn valid_time(seed: u64) -> Verdict {
    let mut dice = Dice(seed);
    let mut records: Vec<(Grant, Option<i64>)> = Vec::new();
    for version in 0..1 + dice.below(4) {
        let from = dice.below(100) as i64;
        let mut given = grant(0, authority(&mut dice));
        given.version = version as i64;
        given.valid_from = Micros(from);
        given.valid_to = dice.chance(40).then(|| Micros(from + dice.below(60) as i64));
        records.push((given, dice.chance(15).then(|| dice.below(120) as i64)));
    }
    let reauth = Reauth {
        id: "r".into(),
        by: "p1".into(),
        approver: "p0".into(),
        at: Micros(dice.below(100) as i64),
        authority: Authority::scopes(["more"]),
        anchor: Some("here".into()),
        of: Use::Chain,
        valid_to: None,
    };
    let tell = |order: &[(Grant, Option<i64>)], with_reauth: bool| {
        let mut book = Book::default();
        for (grant, revoked) in order {
            if let Some(at) = revoked {
                book.revoke(&grant.id, Micros(*at));
            }
            book.grant(grant.clone());
        }
        if with_reauth {
            book.reauth(reauth.clone());
        }
        book
    };
    let early = tell(&records, true);
    let before = tell(&records, false);
    let again: Vec<_> = records.iter().rev().chain(&records).cloned().collect();
    let late = tell(&again, true);
    for time in [0, 10, 50, 99, 150, reauth.at.0 - 1, reauth.at.0] {
        let now = judge(&early, &path(1), time, Authority::default());
        ensure(now == judge(&late, &path(1), time, Authority::default()), || format!("late at {time}"))?;
        if time < reauth.at.0 {
            let without = judge(&before, &path(1), time, Authority::default());
            ensure(now == without, || format!("a re-authorization of {} holds at {time}", reauth.at.0))?;
        } else {
            ensure(now.hops[1].effective == reauth.authority, || "the re-authorization does not hold".into())?;
        }
        let begun = records.iter().any(|(g, _)| g.valid_from.0 <= time);
        ensure(begun || now.hops[0].effective.is_unknown(), || format!("a grant holds at {time}, before it begins"))?;
    }
    Ok(())
}

fn run(name: &str, check: fn(u64) -> Verdict) {
    for seed in 0..CASES {
        if let Err(what) = check(seed) {
            panic!("{name}, seed {seed}: {what}");
        }
    }
}

#[test]
fn comparison_has_its_laws() {
    run("comparison", comparison);
}

#[test]
fn widening_is_found_at_its_hop() {
    run("widening", widening_is_found);
}

#[test]
fn what_is_absent_is_no_drift() {
    run("absence", absence_is_not_drift);
}

#[test]
fn grants_hold_when_they_hold() {
    run("valid time", valid_time);
}

#[test]
fn every_broken_rule_is_noticed() {
    for (fault, check) in [
        (Fault::UnknownIsOut, absence_is_not_drift as fn(u64) -> Verdict),
        (Fault::GrantsAlwaysHold, valid_time),
        (Fault::ReauthBeforeItsTime, valid_time),
    ] {
        let noticed = (0..2_000).any(|seed| fault::with(fault, || check(seed)).is_err());
        assert!(noticed, "nobody noticed {fault:?}");
    }
}

#[test]
fn another_domain_begins_anew() {
    let mut book = Book::default();
    book.grant(grant(0, Authority::scopes(["a"])));
    let at = |domain: Option<&'static str>| Party {
        id: Some(if domain.is_none() { "p0" } else { "p1" }),
        domain,
        is_human: false,
    };
    let call = |second: &'static str| Call {
        path: vec![Party { domain: Some("one"), ..at(None) }, at(Some(second))],
        token: Authority::scopes(["b"]),
        ..Call::default()
    };
    let judge = |call: &Call<'_>| bounds(&book, &Implied::new(), &[], call, |_| None);
    assert_eq!(judge(&call("one")).widened_at(), Some(1));
    let crossed = judge(&call("two"));
    assert_eq!((crossed.widened_at(), crossed.hops[1].reset), (None, true));
    assert_eq!(crossed.hops[1].effective, Authority::scopes(["b"]));
}

#[test]
fn only_the_table_says_what_implies_what() {
    let implied: Implied = [("repo".to_owned(), BTreeSet::from(["repo:read".to_owned()]))].into();
    let (whole, part) = (Authority::scopes(["repo"]), Authority::scopes(["repo:read"]));
    assert_eq!(part.within(&whole, &Implied::new()), Within::Out);
    assert_eq!(part.within(&whole, &implied), Within::In);
    assert_eq!(whole.within(&part, &implied), Within::Out);
    assert_eq!(whole.meet(&part, &implied), part);
    let uri = |text: &str| Authority { resource: Some([text.to_owned()].into()), ..Authority::default() };
    assert_eq!(uri("https://x/v1/a").within(&uri("https://x/v1/"), &implied), Within::Out);
}
