//! Calls in, trees out.

use catena_analysis::chain::{Call, Limits, build};
use catena_schemas::{Micros, Outcome};
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// Reads a call from words: `id minute outcome requester [> actor]* [@session] [server/tool] [key=value]*`.
/// `-` is an absent requester; keys are `parent`, `trace`, `reason`, `tenant`.
fn call(line: &str) -> Call {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("more words in `{line}`")).to_owned();
    let (event_id, minute, outcome, requester) = (word(), word(), word(), word());
    let mut call = Call {
        tenant: "acme".into(),
        time: Micros(minute.parse::<i64>().expect("a minute") * 60_000_000),
        event_id,
        session: None,
        trace: None,
        parent_decision: None,
        requester: (requester != "-").then_some(requester),
        actors: Vec::new(),
        server: None,
        tool: None,
        action: None,
        outcome: Outcome::parse(&outcome).expect("an outcome"),
        reasons: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("parent", v)) => call.parent_decision = Some(v.into()),
            Some(("trace", v)) => call.trace = Some(v.into()),
            Some(("tenant", v)) => call.tenant = v.into(),
            Some(("reason", v)) => call.reasons.push(v.into()),
            Some((key, _)) => panic!("no key `{key}`"),
            None if word == ">" => call.actors.push(words.next().expect("an actor").into()),
            None if word.starts_with('@') => call.session = Some(word[1..].into()),
            None => {
                let (server, tool) = word.split_once('/').expect("server/tool");
                call.server = Some(server.into());
                call.tool = Some(tool.into());
            }
        }
    }
    call
}

fn calls(lines: &str) -> Vec<Call> {
    lines.lines().map(str::trim).filter(|l| !l.is_empty()).map(call).collect()
}

fn draw(calls: Vec<Call>, limits: &Limits) -> String {
    build(calls).iter().map(|c| c.render(limits)).collect::<Vec<_>>().join("\n")
}

fn check(lines: &str, want: Expect) {
    want.assert_eq(&draw(calls(lines), &Limits::default()));
}

#[test]
fn one_session_is_one_chain() {
    check(
        "
        e1 1 allow alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.read
        e2 2 allow alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.read
        e3 3 deny  alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.delete reason=scope_missing
        ",
        expect![[r#"
            alice@corp.example  chain c-23cc100f9fe1  session s-1 · 3 calls · 1 denied
            └─ client:claude-code
               └─ agent:planner
                  ├─ tickets › ticket.read    allow  × 2
                  └─ tickets › ticket.delete  deny   scope_missing
        "#]],
    );
}

#[test]
fn paths_share_their_beginnings() {
    check(
        "
        e1 1 allow alice > client:cc > agent:planner @s-1 tickets/read
        e2 2 allow alice > client:cc > agent:planner > agent:writer @s-1 docs/write
        e3 3 step_up alice > client:cc > agent:planner @s-1 crm/export reason=needs_mfa
        e4 4 allow alice > client:cc @s-1 tickets/list
        e5 5 allow alice > client:cc > agent:planner @s-1 tickets/read
        e6 6 error bob > client:cc @s-1 tickets/read
        ",
        expect![[r#"
            chain c-23cc100f9fe1  session s-1 · 6 calls · 1 stepped up · 1 failed
            ├─ alice
            │  └─ client:cc
            │     ├─ agent:planner
            │     │  ├─ tickets › read  allow
            │     │  ├─ agent:writer
            │     │  │  └─ docs › write  allow
            │     │  ├─ crm › export    step_up  needs_mfa
            │     │  └─ tickets › read  allow
            │     └─ tickets › list  allow
            └─ bob
               └─ client:cc
                  └─ tickets › read  error
        "#]],
    );
}

#[test]
fn a_parent_decision_nests_what_it_led_to() {
    check(
        "
        p  1 allow alice > agent:planner @s-1 agents/delegate
        c1 2 allow alice > agent:planner > agent:coder @s-2 repo/read parent=p
        c2 3 deny  alice > agent:planner > agent:coder @s-2 repo/push parent=p reason=out_of_bounds
        g  4 allow alice > agent:planner > agent:coder > agent:tester trace=t1 ci/run parent=c1
        x  5 allow carol > agent:other trace=t1 ci/log parent=g
        ",
        expect![[r#"
            alice  chain c-23cc100f9fe1  sessions s-1, s-2 · 5 calls · 1 denied
            └─ agent:planner
               └─ agents › delegate  allow
                  └─ agent:coder
                     ├─ repo › read  allow
                     │  └─ agent:tester
                     │     └─ ci › run  allow
                     │        └─ carol
                     │           └─ agent:other
                     │              └─ ci › log  allow
                     └─ repo › push  deny   out_of_bounds
        "#]],
    );
}

#[test]
fn an_orphan_is_no_root() {
    check(
        "
        a 1 allow alice > agent:a x/one parent=gone
        b 2 deny  alice > agent:b x/two parent=gone
        c 3 allow alice > agent:a x/three
        ",
        expect![[r#"
            (decision gone is not here)  chain c-e5fdee92997c  no session · 2 calls · 1 denied · 2 calls without their parent
            └─ alice
               ├─ agent:a
               │  └─ x › one  allow
               └─ agent:b
                  └─ x › two  deny

            alice  chain c-23fa1785e97e  no session · 1 call
            └─ agent:a
               └─ x › three  allow
        "#]],
    );
}

#[test]
fn rings_are_cut_at_their_earliest_call() {
    check(
        "
        a 3 allow alice > agent:a x/one parent=c
        b 1 allow alice > agent:a x/two parent=a
        c 2 allow alice > agent:a x/three parent=b
        d 4 allow alice > agent:a x/four parent=d
        ",
        expect![[r#"
            alice  chain c-e5fdee92997c  no session · 3 calls · a ring of parents was cut
            └─ agent:a
               └─ x › two  allow  (its parent a leads back to it)
                  └─ x › three  allow
                     └─ x › one  allow

            alice  chain c-6bad1c9dbef9  no session · 1 call · a ring of parents was cut
            └─ agent:a
               └─ x › four  allow  (its parent d leads back to it)
        "#]],
    );
}

#[test]
fn what_is_absent_is_said() {
    check(
        "a 1 unknown - trace=4bf92f",
        expect![[r#"
        (unknown requester)  chain c-b3319cf99f8b  trace 4bf92f · 1 call · 1 undecided
        └─ (no tool)  unknown
    "#]],
    );
    check(
        "a 1 allow - > agent:x @s files/read",
        expect![[r#"
        (unknown requester)  chain c-b82528db99e8  session s · 1 call
        └─ agent:x
           └─ files › read  allow
    "#]],
    );
    check(
        "a 1 allow alice files/read",
        expect![[r#"
        alice  chain c-e5fdee92997c  no session · 1 call
        └─ files › read  allow
    "#]],
    );
}

#[test]
fn tenants_do_not_meet() {
    check(
        "
        a 1 allow alice @s-1 trace=t x/one
        a 1 deny  mallory @s-1 trace=t x/one tenant=evil parent=a
        b 2 allow mallory x/two tenant=evil parent=a
        ",
        expect![[r#"
            alice  chain c-23cc100f9fe1  session s-1 · 1 call
            └─ x › one  allow

            mallory  chain c-0983709c5a01  session s-1 · 2 calls · 1 denied · a ring of parents was cut
            └─ x › one  deny  (its parent a leads back to it)
               └─ x › two  allow
        "#]],
    );
}

#[test]
fn hostile_names_lie_still() {
    let mut all = calls("a 1 deny alice > agent:x @s x/y");
    all[0].actors[0] = "agent\u{1b}[2J\u{202e}x\n└─ bob".into();
    all[0].tool = Some("t".repeat(200));
    all[0].reasons = vec!["\u{7}bell".into()];
    expect![[r#"
        alice  chain c-b82528db99e8  session s · 1 call · 1 denied
        └─ agent\u{1b}[2J\u{202e}x\n└─ bob
           └─ x › tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt…  deny  \u{7}bell
    "#]]
    .assert_eq(&draw(all, &Limits::default()));
}

#[test]
fn limits_say_what_they_cut() {
    let mut lines = String::new();
    for i in 0..12 {
        lines.push_str(&format!("e{i:02} {i} allow alice > agent:a @s x/tool{i}\n"));
    }
    expect![[r#"
        alice  chain c-b82528db99e8  session s · 12 calls
        └─ agent:a
           ├─ x › tool0   allow
           ├─ x › tool1   allow
           ├─ x › tool2   allow
        … 9 calls not shown, more than 6 lines
    "#]]
    .assert_eq(&draw(calls(&lines), &Limits { lines: 6, ..Limits::default() }));

    let mut deep = "e0 0 allow alice > agent:a @s x/t\n".to_owned();
    for i in 1..9 {
        deep.push_str(&format!("e{i} {i} allow alice > agent:a @s x/t parent=e{}\n", i - 1));
    }
    expect![[r#"
        alice  chain c-b82528db99e8  session s · 9 calls
        └─ agent:a
           └─ x › t  allow
              └─ x › t  allow
                 └─ x › t  allow
                    └─ … 6 calls deeper than 4 levels
    "#]]
    .assert_eq(&draw(calls(&deep), &Limits { depth: 4, ..Limits::default() }));
}

#[test]
fn a_path_of_a_hundred_thousand_does_not_hurt() {
    let mut all = calls("e0 0 allow alice > agent:a @s x/t");
    for i in 1..100_000 {
        let mut next = all[0].clone();
        next.event_id = format!("e{i}");
        next.parent_decision = Some(format!("e{}", i - 1));
        next.time = Micros(i);
        all.push(next);
    }
    let chains = build(all);
    assert_eq!(chains.len(), 1);
    let drawn = chains[0].render(&Limits::default());
    assert!(drawn.contains("… 99977 calls deeper than 24 levels"), "{drawn}");
    assert_eq!(chains[0].to_json()["calls"].as_array().expect("calls").len(), 100_000);
}

#[test]
fn json_names_paths_and_parents() {
    let chains = build(calls(
        "
        p 1 allow alice > agent:planner @s-1 agents/delegate
        c 2 deny alice > agent:planner > agent:coder repo/push parent=p reason=late
        o 3 allow alice @s-1 repo/read parent=gone
        ",
    ));
    expect![[r#"
        {
          "by_outcome": {
            "allow": 2,
            "deny": 1
          },
          "calls": [
            {
              "action": null,
              "cycle_broken": false,
              "event_id": "p",
              "orphan": false,
              "outcome": "allow",
              "parent_decision": null,
              "parent_event": null,
              "path": [
                "alice",
                "agent:planner"
              ],
              "reasons": [],
              "server": "agents",
              "session": "s-1",
              "time": "1970-01-01T00:01:00.000000Z",
              "tool": "delegate",
              "trace": null
            },
            {
              "action": null,
              "cycle_broken": false,
              "event_id": "c",
              "orphan": false,
              "outcome": "deny",
              "parent_decision": "p",
              "parent_event": "p",
              "path": [
                "alice",
                "agent:planner",
                "agent:coder"
              ],
              "reasons": [
                "late"
              ],
              "server": "repo",
              "session": null,
              "time": "1970-01-01T00:02:00.000000Z",
              "tool": "push",
              "trace": null
            },
            {
              "action": null,
              "cycle_broken": false,
              "event_id": "o",
              "orphan": true,
              "outcome": "allow",
              "parent_decision": "gone",
              "parent_event": null,
              "path": [
                "alice"
              ],
              "reasons": [],
              "server": "repo",
              "session": "s-1",
              "time": "1970-01-01T00:03:00.000000Z",
              "tool": "read",
              "trace": null
            }
          ],
          "chain_id": "c-23cc100f9fe1",
          "cycle_broken": false,
          "depth": 3,
          "ended": "1970-01-01T00:03:00.000000Z",
          "events": 3,
          "lineage": "orphan",
          "orphans": 1,
          "requesters": [
            "alice"
          ],
          "sessions": [
            "s-1"
          ],
          "started": "1970-01-01T00:01:00.000000Z",
          "tenant": "acme",
          "traces": []
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&chains[0].to_json()).expect("JSON"));
}

/// Calls over few names, so that they meet often.
fn any_calls() -> impl Strategy<Value = Vec<Call>> {
    let name = |prefix: &'static str, n: u8| (0..n).prop_map(move |i| format!("{prefix}{i}"));
    let call = (
        (name("t", 2), name("e", 12), 0..6i64),
        (
            proptest::option::of(name("s", 4)),
            proptest::option::weighted(0.2, name("tr", 3)),
            proptest::option::of(name("e", 14)),
        ),
        (
            proptest::option::weighted(0.9, name("user", 3)),
            proptest::collection::vec(name("agent", 3), 0..4),
            name("tool", 3),
        ),
        proptest::sample::select(Outcome::ALL.to_vec()),
    )
        .prop_map(
            |((tenant, event_id, time), (session, trace, parent_decision), (requester, actors, tool), outcome)| Call {
                tenant,
                time: Micros(time),
                event_id,
                session,
                trace,
                parent_decision,
                requester,
                actors,
                server: Some("srv".into()),
                tool: Some(tool),
                action: None,
                outcome,
                reasons: Vec::new(),
            },
        );
    proptest::collection::vec(call, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn order_and_repetition_change_nothing(
        (calls, other) in any_calls().prop_flat_map(|c| {
            let twice: Vec<Call> = c.iter().chain(c.iter().step_by(3)).cloned().collect();
            (Just(c), Just(twice).prop_shuffle())
        })
    ) {
        let (a, b) = (build(calls), build(other));
        prop_assert_eq!(&a, &b);
        for (a, b) in a.iter().zip(&b) {
            prop_assert_eq!(a.render(&Limits::default()), b.render(&Limits::default()));
        }
    }

    #[test]
    fn every_call_stands_once_and_with_its_own(mut calls in any_calls()) {
        let chains = build(calls.clone());
        let mut placed: Vec<Call> = chains.iter().flat_map(|c| c.calls.clone()).collect();
        placed.sort();
        calls.sort();
        calls.dedup();
        prop_assert_eq!(&placed, &calls);
        for chain in &chains {
            prop_assert!(chain.calls.iter().all(|c| c.tenant == chain.tenant));
            // Nothing that two chains name ties them: sessions, traces and decisions stay within one.
            for other in chains.iter().filter(|o| o.id != chain.id && o.tenant == chain.tenant) {
                prop_assert!(chain.sessions().iter().all(|s| !other.sessions().contains(s)));
                prop_assert!(chain.calls.iter().all(|c| !other.holds(&c.event_id)));
            }
            // Parents lead somewhere and never back.
            for start in 0..chain.calls.len() {
                let mut at = start;
                let mut steps = 0;
                while let Some(parent) = chain.parents[at] {
                    at = parent;
                    steps += 1;
                    prop_assert!(steps <= chain.calls.len());
                }
            }
            // A drawing without limits tells of every call: a line each, or a repeat counted.
            let drawn = chain.render(&Limits { depth: usize::MAX, lines: usize::MAX, name: 80 });
            let told: usize = drawn
                .lines()
                .filter(|l| l.contains(" › "))
                .map(|l| l.split("× ").nth(1).map_or(1, |n| n.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)))
                .sum();
            prop_assert_eq!(told, chain.calls.len(), "{}", drawn);
        }
    }

    #[test]
    fn one_tenant_alone_is_judged_the_same(calls in any_calls()) {
        let alone = build(calls.iter().filter(|c| c.tenant == "t0").cloned());
        let beside: Vec<_> = build(calls).into_iter().filter(|c| c.tenant == "t0").collect();
        prop_assert_eq!(alone, beside);
    }

    #[test]
    fn limits_hold(calls in any_calls(), lines in 2usize..20, depth in 1usize..6) {
        for chain in build(calls) {
            let drawn = chain.render(&Limits { lines, depth, name: 10 });
            // One more line says what was left out.
            prop_assert!(drawn.lines().count() <= lines + 1, "{}", drawn);
        }
    }
}
