//! Stories in, pictures out: what the rules make of small, told cases.

use catena_analysis::authority::{Bounds, Exchange};
use catena_analysis::chain::Limits;
use catena_analysis::chain::rules::{Chain, Fact, Lists, Party, Proof, Protocol, Settings, Store, Terms, Via, rebuild};
use catena_analysis::fault::{self, Fault};
use catena_schemas::fixture::Fixture;
use catena_schemas::{Micros, Outcome};
use expect_test::{Expect, expect};

/// The chains of a story, drawn.
fn draw(story: &str) -> String {
    let told = Fixture::parse(story).unwrap_or_else(|e| panic!("{e}"));
    let (mut store, mut terms) = (Store::default(), Terms::default());
    for record in &told.authority {
        terms.book.enter(record);
    }
    for (i, event) in told.events.iter().enumerate() {
        let mut lists = Lists::default();
        let fact = Fact::of(event, i as u128, &mut lists);
        store.tell(&fact);
    }
    let exchanged = terms.book.exchanged();
    let chains = rebuild("acme", &mut store, &exchanged, &Settings::default()).chains;
    picture(&store, &terms, &chains)
}

fn picture(store: &Store, terms: &Terms, chains: &[Chain]) -> String {
    let draw = |c: &Chain| {
        let bounds: Vec<Bounds> = if terms.book.is_empty() { Vec::new() } else { c.all_bounds(store, terms) };
        // Ids are long, and pinned elsewhere.
        c.draw(store, &bounds, &Limits::default()).replace(&c.id, "c")
    };
    chains.iter().map(draw).collect::<Vec<_>>().join("\n")
}

fn check(story: &str, want: Expect) {
    want.assert_eq(&draw(story));
}

const WIDENED: &str = "
    alice      -> planner    grant  calendar.read, mail.read              server=mcp:mail
    planner    -> summarizer grant  mail.read, mail.send                  server=mcp:mail
    summarizer => mcp:mail   call   mail.read  allow  session=s1
    summarizer => mcp:mail   call   mail.send  allow  session=s1
";

#[test]
fn a_hop_that_widens() {
    check(
        WIDENED,
        expect![[r#"
        alice  chain c  2 calls in 2 operations · lineage root · confidence 0.55 · coverage 0.00
        └─ planner  P7 0.60  granted calendar.read, mail.read
           └─ summarizer  P7 0.60  granted mail.read, mail.send  WIDENED mail.send  bound mail.read
              ├─ mcp:mail › mail.read  allow
              └─ mcp:mail › mail.send  allow  out of bounds
    "#]],
    );
}

const APPROVED: &str = "
    10:00:00 alice   -> planner  grant   mail.read   server=mcp:mail
    10:00:05 planner => mcp:mail call    mail.send   step_up  state_out=q1 id=e1
    10:00:20 alice   -> planner  reauth  mail.read, mail.send anchor=e1 use=single_op id=r1
    10:00:30 planner => mcp:mail call    mail.send   allow    state_in=q1  session=s1
    10:00:40 planner => mcp:mail call    mail.send   allow    parent=e1
";

#[test]
fn a_step_up_is_one_operation_and_its_approval_covers_no_other() {
    check(
        APPROVED,
        expect![[r#"
        alice  chain c  3 calls in 2 operations · lineage root · confidence 0.60 · coverage 0.00
        └─ planner  P7 0.60  granted mail.read
           └─ mcp:mail › mail.send  step_up → allow
              └─ mcp:mail › mail.send  allow  C2 0.92  out of bounds
    "#]],
    );
}

const APPROVED_BY_ITSELF: &str = "
    10:00:00 alice   -> planner  grant   mail.read   server=mcp:mail
    10:00:05 planner => mcp:mail call    mail.send   step_up  id=e1 session=s
    10:00:20 planner -> planner  reauth  mail.send   anchor=e1 use=chain id=r1
    10:00:30 planner => mcp:mail call    mail.send   allow    session=s for=alice
";

#[test]
fn nobody_approves_for_themselves() {
    check(
        APPROVED_BY_ITSELF,
        expect![[r#"
            alice  chain c  2 calls in 2 operations · lineage root · confidence 0.55 · coverage 0.00
            └─ planner  P7 0.60  granted mail.read
               ├─ mcp:mail › mail.send  step_up  out of bounds
               └─ mcp:mail › mail.send  allow  out of bounds
        "#]],
    );
}

#[test]
fn root_orphan_and_unknown_are_three_things() {
    check(
        "
        planner => mcp:mail call a allow for=alice session=s1
        planner => mcp:mail call b allow for=alice parent=gone
        planner => mcp:mail call c allow
        ",
        expect![[r#"
            alice  chain c  1 call in 1 operation · lineage root · confidence 0.60 · coverage 0.00
            └─ planner  P7 0.60
               └─ mcp:mail › a  allow

            chain c  1 call in 1 operation · lineage orphan · 1 without their parent · confidence 0.60 · coverage 0.00
            └─ (decision gone is not here)
               └─ alice
                  └─ planner  P7 0.60
                     └─ mcp:mail › b  allow

            (unknown requester)  chain c  1 call in 1 operation · lineage unknown · 1 of unknown origin · confidence 0.00 · coverage 0.00
            └─ planner  P7 0.60
               └─ mcp:mail › c  allow
        "#]],
    );
}

const RING: &str = "
    10:00:03 a => s call one   allow id=e1 parent=e3 for=alice
    10:00:01 a => s call two   allow id=e2 parent=e1 for=alice trace=4bf9 span=01
    10:00:02 a => s call three allow id=e3 trace=4bf9 parent_span=01 for=alice
";

#[test]
fn a_ring_is_cut_at_its_weakest_link() {
    check(
        RING,
        expect![[r#"
        alice  chain c  3 calls in 3 operations · lineage root · 1 cut from a ring · confidence 0.60 · coverage 0.00
        └─ a  P7 0.60
           └─ s › three  allow  (its parent leads back to it)
              └─ s › one  allow  C2 0.92
                 └─ s › two  allow  C2 0.92
    "#]],
    );
}

const OWN_PARENT: &str = "a => s call one allow id=e1 parent=e1 for=alice";

#[test]
fn nobody_is_their_own_parent() {
    check(
        OWN_PARENT,
        expect![[r#"
        alice  chain c  1 call in 1 operation · lineage root · confidence 0.60 · coverage 0.00
        └─ a  P7 0.60
           └─ s › one  allow
    "#]],
    );
}

const OTHER_ROOT: &str = "
    planner => agents call delegate allow id=e1 for=alice
    coder   => repo   call push     allow parent=e1 for=bob
    tester  => ci     call run      allow parent=e1
";

#[test]
fn a_path_is_inherited_from_the_parent_and_never_from_anothers() {
    check(
        OTHER_ROOT,
        expect![[r#"
        alice  chain c  3 calls in 3 operations · lineage root · confidence 0.60 · coverage 0.00
        └─ planner  P7 0.60
           └─ agents › delegate  allow
              ├─ bob
              │  └─ coder  P7 0.60
              │     └─ repo › push  allow  C2 0.92  (its parent acts for somebody else)
              └─ tester  P7 0.60
                 └─ ci › run  allow  C2 0.92
    "#]],
    );
}

#[test]
fn two_witnesses_that_contradict() {
    check(
        "
        10:00:00 a => s call one   allow id=e1 for=alice
        10:00:01 a => s call two   allow id=e2 for=alice trace=4bf9 span=01
        10:00:02 a => s call three allow parent=e1 for=alice trace=4bf9 parent_span=01
        ",
        expect![[r#"
            alice  chain c  3 calls in 3 operations · lineage root · confidence 0.60 · coverage 0.00
            └─ a  P7 0.60
               ├─ s › one  allow
               │  └─ s › three  allow  C2 0.74  (its parents contradict)
               └─ s › two  allow
        "#]],
    );
}

#[test]
fn sessions_part_after_a_long_silence_and_tell_subjects_apart() {
    check(
        "
        10:00:00 a => s call one   allow for=alice session=s1
        10:29:00 a => s call two   allow for=alice session=s1
        10:29:30 a => s call other allow for=bob   session=s1
        11:30:00 a => s call three allow for=alice session=s1
        ",
        expect![[r#"
            alice  chain c  2 calls in 2 operations · lineage root · confidence 0.55 · coverage 0.00
            └─ a  P7 0.60
               ├─ s › one  allow
               └─ s › two  allow

            bob  chain c  1 call in 1 operation · lineage root · confidence 0.60 · coverage 0.00
            └─ a  P7 0.60
               └─ s › other  allow

            alice  chain c  1 call in 1 operation · lineage root · confidence 0.60 · coverage 0.00
            └─ a  P7 0.60
               └─ s › three  allow
        "#]],
    );
}

/// Facts that the language of stories does not know.
fn told(facts: &[Fact<'_>], exchanges: &[Exchange]) -> String {
    let (mut store, mut terms) = (Store::default(), Terms::default());
    for exchange in exchanges {
        terms.book.exchange(exchange.clone());
    }
    for (i, fact) in facts.iter().enumerate() {
        let id = format!("e{i}");
        store.tell(&Fact {
            event_id: &id,
            decision: fact.decision.or(Some(&id)),
            time: Micros(i as i64 * 1_000_000),
            outcome: Some(Outcome::Allow),
            source: "g",
            ..*fact
        });
    }
    let chains = rebuild("acme", &mut store, &terms.book.exchanged(), &Settings::default()).chains;
    picture(&store, &Terms::default(), &chains)
}

fn party(id: &str) -> Party<'_> {
    Party { id, ..Party::default() }
}

#[test]
fn sessions_of_a_server_and_tasks_of_peers_say_nothing_beyond_it() {
    let base = Fact { subject: Some("alice"), client: Some("cli"), ..Fact::default() };
    let legacy = |server| Fact {
        server: Some(server),
        mcp_session: Some("1"),
        tool: Some("t"),
        protocol: Protocol::Mcp,
        ..base
    };
    let peer =
        |server| Fact { server: Some(server), task: Some("1"), tool: Some("t"), protocol: Protocol::A2a, ..base };
    expect![[r#"
        alice  chain c  2 calls in 2 operations · lineage root · confidence 0.25 · coverage 0.00
        └─ cli  P9 0.25
           ├─ a › t  allow
           └─ a › t  allow

        alice  chain c  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        └─ cli  P9 0.25
           └─ b › t  allow

        alice  chain c  2 calls in 2 operations · lineage root · confidence 0.25 · coverage 0.00
        └─ cli  P9 0.25
           ├─ a › t  allow
           └─ a › t  allow

        alice  chain c  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        └─ cli  P9 0.25
           └─ b › t  allow
    "#]]
    .assert_eq(&told(&[legacy("a"), legacy("a"), legacy("b"), peer("a"), peer("a"), peer("b")], &[]));
}

#[test]
fn without_sessions_tokens_tell_runs_apart() {
    let run = |token| Fact {
        subject: Some("zoe"),
        token: Some(token),
        tool: Some("t"),
        protocol: Protocol::Mcp,
        ..Fact::default()
    };
    expect![[r#"
        zoe  chain c  2 calls in 2 operations · lineage root · confidence 0.25 · no hop
        ├─ t  allow
        └─ t  allow

        zoe  chain c  1 call in 1 operation · lineage root · confidence 0.25 · no hop
        └─ t  allow

        (unknown requester)  chain c  1 call in 1 operation · lineage unknown · 1 of unknown origin · confidence 0.00 · no hop
        └─ t  allow
    "#]].assert_eq(&told(&[run("r1"), run("r2"), run("r1"), Fact { subject: None, ..run("r1") }], &[]));
}

#[test]
fn an_exchange_says_who_stands_behind_a_token() {
    let (planner, coder) = ([party("planner")], [party("coder")]);
    let facts = [
        Fact { subject: Some("alice"), token: Some("t1"), actors: &planner, tool: Some("plan"), ..Fact::default() },
        Fact { subject: Some("alice"), token: Some("t2"), actors: &coder, tool: Some("push"), ..Fact::default() },
    ];
    let exchange = Exchange { issued: "t2".into(), subject: "t1".into(), ..Exchange::default() };
    expect![[r#"
        alice  chain c  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        └─ planner  P9 0.25
           └─ plan  allow

        alice  chain c  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        └─ planner  P9 0.25
           └─ coder  P9 0.25
              └─ push  allow
    "#]]
    .assert_eq(&told(&facts, &[exchange]));
}

#[test]
fn a_verified_act_stands_and_missing_actors_are_noticed() {
    let verified =
        Fact { subject: Some("alice"), proof: Proof::Verified, via: Via::Act, tool: Some("t"), ..Fact::default() };
    let (long, short) = ([party("cc"), party("planner")], [party("coder")]);
    let facts = [
        Fact { actors: &long, decision: Some("p"), ..verified },
        Fact { actors: &short, parent: Some("p"), ..verified },
        Fact { actors: &short, parent: Some("p"), partial: true, ..verified },
    ];
    expect![[r#"
        alice  chain c  3 calls in 3 operations · lineage root · confidence 0.90 · coverage 1.00
        └─ cc  P4 0.90
           └─ planner  P2 0.93
              └─ t  allow
                 └─ coder  P2 0.93
                    ├─ t  allow  C2 0.92  (actors are missing)
                    └─ t  allow  C2 0.92
    "#]]
    .assert_eq(&told(&facts, &[]));
}

#[test]
fn the_same_call_after_not_yet_is_the_same_operation() {
    let call = |outcome| Fact {
        subject: Some("alice"),
        session: Some("s"),
        tool: Some("t"),
        args: Some("h"),
        outcome,
        ..Fact::default()
    };
    let mut store = Store::default();
    for (i, outcome) in [Outcome::StepUp, Outcome::Allow, Outcome::Allow].into_iter().enumerate() {
        let id = format!("e{i}");
        store.tell(&Fact { event_id: &id, time: Micros(i as i64), ..call(Some(outcome)) });
    }
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    expect![[r#"
        alice  chain c  3 calls in 2 operations · lineage root · confidence 0.25 · no hop
        ├─ t  step_up → allow
        └─ t  allow
    "#]]
    .assert_eq(&picture(&store, &Terms::default(), &chains));
}

#[test]
fn hostile_names_lie_still_in_pictures_and_graphs() {
    let mut store = Store::default();
    store.tell(&Fact {
        event_id: "e\"1",
        subject: Some("al\u{1b}[2Jice\n└─ bob"),
        tool: Some("t\" ] evil"),
        parent: Some("\u{202e}x"),
        ..Fact::default()
    });
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    expect![[r#"
        chain c  1 call in 1 operation · lineage orphan · 1 without their parent · confidence 0.25 · no hop
        └─ (decision \u{202e}x is not here)
           └─ al\u{1b}[2Jice\n└─ bob
              └─ t" ] evil  unknown
    "#]]
    .assert_eq(&picture(&store, &Terms::default(), &chains));
    expect![[r#"
        digraph "c" {
          rankdir=LR;
          node [shape=box];
          o0 [label="al\\u{1b}[2Jice\\n└─ bob\nt\" ] evil\nunknown"];
          g0 [shape=ellipse, style=dotted, label="decision \\u{202e}x"];
          g0 -> o0 [style=dotted];
        }
    "#]]
    .assert_eq(&chains[0].to_dot(&store).replace(&chains[0].id, "c"));
}

#[test]
fn a_line_of_a_hundred_thousand_calls_does_not_hurt() {
    let mut store = Store::default();
    for i in 0..100_000i64 {
        let (id, parent) = (format!("e{i}"), format!("e{}", i - 1));
        store.tell(&Fact {
            event_id: &id,
            decision: Some(&id),
            time: Micros(i),
            parent: (i > 0).then_some(&parent),
            subject: Some("a"),
            ..Fact::default()
        });
    }
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    assert_eq!((chains.len(), chains[0].depth), (1, 100_000));
    let drawn = chains[0].draw(&store, &[], &Limits::default());
    assert!(drawn.contains("… 99976 deeper than 24 levels"), "{drawn}");
}

/// Late grants give what early ones give; any order of lines of authority does.
#[test]
fn late_grants_are_as_good_as_early_ones() {
    let early = draw(WIDENED);
    let told = Fixture::parse(WIDENED).expect("a story");
    let (mut store, mut terms) = (Store::default(), Terms::default());
    for (i, event) in told.events.iter().enumerate() {
        let mut lists = Lists::default();
        store.tell(&Fact::of(event, i as u128, &mut lists));
    }
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    let without = picture(&store, &terms, &chains);
    for record in told.authority.iter().rev().chain(&told.authority) {
        terms.book.enter(record);
    }
    assert_eq!(early, picture(&store, &terms, &chains));
    assert_ne!(early, without);
}

#[test]
fn every_broken_rule_changes_a_picture() {
    for (fault, story) in [
        (Fault::RingCutAnywhere, RING),
        (Fault::OwnParent, OWN_PARENT),
        (Fault::InheritAnyRoot, OTHER_ROOT),
        (Fault::SelfApproval, APPROVED_BY_ITSELF),
        (Fault::ReauthBeforeItsTime, APPROVED),
    ] {
        let right = draw(story);
        let broken = std::panic::catch_unwind(|| fault::with(fault, || draw(story)));
        assert!(broken.as_ref().ok() != Some(&right), "{fault:?} changes nothing:\n{right}");
    }
}
