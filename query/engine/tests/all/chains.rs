//! Chains from a lake.

use crate::lake::{Lake, events};
use catena_analysis::chain;
use catena_engine::chains::Filter;
use catena_engine::{Engine, Limits, Options, Scope};
use expect_test::{Expect, expect};

fn lake() -> Lake {
    let mut lake = Lake::new();
    // One chain over three files: session s-1, then trace t-9, then a parent decision.
    lake.decisions(
        "acme",
        0,
        &events(
            "
        e1 1 allow alice > client:cc > agent:planner @s-1 tickets/read
        e2 2 allow alice > client:cc > agent:planner @s-1 agents/delegate trace=t-9
        o1 5 deny  olga > agent:o crm/export parent=gone
    ",
        ),
    );
    lake.decisions(
        "acme",
        1,
        &events(
            "
        e3 1441 deny alice > client:cc > agent:planner > agent:coder @s-2 repo/push trace=t-9 reason=out_of_bounds
        b1 1442 allow bob > client:cursor @s-3 crm/read
    ",
        ),
    );
    lake.decisions(
        "acme",
        2,
        &events(
            "
        e4 2881 allow alice > client:cc > agent:planner > agent:coder > agent:tester ci/run parent=e3
        o2 2882 allow olga > agent:o crm/read parent=gone
    ",
        ),
    );
    lake.decisions(
        "zeta",
        0,
        &events(
            "
        z1 3 deny zoe > agent:z @s-1 tickets/read
    ",
        ),
    );
    lake
}

async fn show(scope: Scope, name: &str, want: Expect) {
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let found = engine.session(scope).chain(name, &Limits::default()).await.expect("chains");
    assert!(found.iter().all(|shown| !shown.cut));
    let drawn: Vec<String> =
        found.iter().map(|s| format!("{}: {}", s.chain.tenant, s.chain.render(&chain::Limits::default()))).collect();
    want.assert_eq(&drawn.join("\n"));
}

#[tokio::test]
async fn any_name_of_a_chain_finds_all_of_it() {
    show(
        Scope::tenant("acme"),
        "e1",
        expect![[r#"
        acme: alice  chain c-23cc100f9fe1  sessions s-1, s-2 · 4 calls · 1 denied
        └─ client:cc
           └─ agent:planner
              ├─ tickets › read     allow
              ├─ agents › delegate  allow
              └─ agent:coder
                 └─ repo › push  deny  out_of_bounds
                    └─ agent:tester
                       └─ ci › run  allow
    "#]],
    )
    .await;
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::tenant("acme"));
    let ids = async |name: &str| {
        let found = session.chain(name, &Limits::default()).await.expect("chains");
        found.iter().flat_map(|s| s.chain.calls.iter().map(|c| c.event_id.clone())).collect::<Vec<_>>().join(" ")
    };
    for name in ["e1", "e2", "e3", "e4", "s-1", "s-2", "t-9"] {
        assert_eq!(ids(name).await, "e1 e2 e3 e4", "{name}");
    }
    show(
        Scope::All,
        "s-1",
        expect![[r#"
        acme: alice  chain c-23cc100f9fe1  sessions s-1, s-2 · 4 calls · 1 denied
        └─ client:cc
           └─ agent:planner
              ├─ tickets › read     allow
              ├─ agents › delegate  allow
              └─ agent:coder
                 └─ repo › push  deny  out_of_bounds
                    └─ agent:tester
                       └─ ci › run  allow

        zeta: zoe  chain c-5b09786b2b61  session s-1 · 1 call · 1 denied
        └─ agent:z
           └─ tickets › read  deny
    "#]],
    )
    .await;
    show(Scope::All, "gone", expect![[r#"
        acme: (decision gone is not here)  chain c-8a4486f15c49  no session · 2 calls · 1 denied · 2 calls without their parent
        └─ olga
           └─ agent:o
              ├─ crm › export  deny
              └─ crm › read    allow
    "#]]).await;
    show(Scope::All, "o2", expect![[r#"
        acme: (decision gone is not here)  chain c-8a4486f15c49  no session · 2 calls · 1 denied · 2 calls without their parent
        └─ olga
           └─ agent:o
              ├─ crm › export  deny
              └─ crm › read    allow
    "#]]).await;
    show(Scope::tenant("zeta"), "e1", expect![[r#""#]]).await;
    show(Scope::All, "x' OR 'a' = 'a", expect![[r#""#]]).await;
}

#[tokio::test]
async fn lists_are_filtered_and_newest_last() {
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::All);
    let list = async |limit: usize, filter: Filter| {
        let found = session.chains(limit, &filter, &Limits::default()).await.expect("chains");
        let lines: Vec<String> = found.chains.iter().map(|c| format!("{} {}", c.tenant, c.headline())).collect();
        format!("{}\n{} in all", lines.join("\n"), found.total)
    };
    expect![[r#"
        zeta chain c-5b09786b2b61  session s-1 · 1 call · 1 denied
        acme chain c-3eb51251549e  session s-3 · 1 call
        acme chain c-23cc100f9fe1  sessions s-1, s-2 · 4 calls · 1 denied
        acme chain c-8a4486f15c49  no session · 2 calls · 1 denied · 2 calls without their parent
        4 in all"#]]
    .assert_eq(&list(10, Filter::default()).await);
    expect![[r#"
        acme chain c-8a4486f15c49  no session · 2 calls · 1 denied · 2 calls without their parent
        3 in all"#]]
    .assert_eq(&list(1, Filter { tenant: Some("acme".into()), ..Filter::default() }).await);
    expect![[r#"
        acme chain c-3eb51251549e  session s-3 · 1 call
        1 in all"#]]
    .assert_eq(&list(10, Filter { requester: Some("bob".into()), ..Filter::default() }).await);
    // A chain id leads back to its chain.
    let all = session.chains(10, &Filter::default(), &Limits::default()).await.expect("chains");
    for chain in &all.chains {
        let found = session.chain(&chain.id, &Limits::default()).await.expect("a chain");
        assert_eq!(found.iter().map(|s| &s.chain).collect::<Vec<_>>(), [chain]);
    }
}
