//! Chains from a lake.

use crate::lake::{Lake, START, event, events};
use catena_analysis::chain::{Limits as Drawing, Lineage};
use catena_engine::chains::{Filter, Found, Shown};
use catena_engine::{Engine, Limits, Options, Scope, output};
use catena_schemas::answer::Why;
use catena_schemas::authority::EntryKind;
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
    let drawn: Vec<String> =
        found.iter().map(|s| format!("{}: {}", s.of.tenant, s.draw(&Drawing::default()))).collect();
    want.assert_eq(&drawn.join("\n"));
}

#[tokio::test]
async fn any_name_of_a_chain_finds_all_of_it() {
    show(Scope::tenant("acme"), "e1", expect![[r#"
        acme: alice  chain c-07d853a6a758b57ca8a5  4 calls in 4 operations · lineage root · confidence 0.25 · coverage 0.00
        └─ client:cc  P9 0.25
           └─ agent:planner  P9 0.25
              ├─ tickets › read  allow
              ├─ agents › delegate  allow
              └─ agent:coder  P9 0.25
                 └─ repo › push  deny  out_of_bounds
                    └─ agent:tester  P9 0.25
                       └─ ci › run  allow  C2 0.92
    "#]]).await;
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::tenant("acme"));
    let ids = async |name: &str| {
        let found = session.chain(name, &Limits::default()).await.expect("chains");
        let of = |s: &catena_engine::chains::Shown| {
            let chain = s.chain();
            chain.links.iter().map(|l| chain.event(s.of.store(), l).to_owned()).collect::<Vec<_>>()
        };
        found.iter().flat_map(of).collect::<Vec<_>>().join(" ")
    };
    for name in ["e1", "e2", "e3", "e4", "s-1", "s-2", "t-9"] {
        assert_eq!(ids(name).await, "e1 e2 e3 e4", "{name}");
    }
    show(Scope::All, "s-1", expect![[r#"
        acme: alice  chain c-07d853a6a758b57ca8a5  4 calls in 4 operations · lineage root · confidence 0.25 · coverage 0.00
        └─ client:cc  P9 0.25
           └─ agent:planner  P9 0.25
              ├─ tickets › read  allow
              ├─ agents › delegate  allow
              └─ agent:coder  P9 0.25
                 └─ repo › push  deny  out_of_bounds
                    └─ agent:tester  P9 0.25
                       └─ ci › run  allow  C2 0.92

        zeta: zoe  chain c-9a901163059f7d98994f  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        └─ agent:z  P9 0.25
           └─ tickets › read  deny
    "#]]).await;
    show(Scope::All, "gone", expect![[r#"
        acme: chain c-87bba3e71181abebd5eb  2 calls in 2 operations · lineage orphan · 2 without their parent · confidence 0.25 · coverage 0.00
        └─ (decision gone is not here)
           └─ olga
              └─ agent:o  P9 0.25
                 ├─ crm › export  deny
                 └─ crm › read  allow
    "#]]).await;
    show(Scope::All, "o2", expect![[r#"
        acme: chain c-87bba3e71181abebd5eb  2 calls in 2 operations · lineage orphan · 2 without their parent · confidence 0.25 · coverage 0.00
        └─ (decision gone is not here)
           └─ olga
              └─ agent:o  P9 0.25
                 ├─ crm › export  deny
                 └─ crm › read  allow
    "#]]).await;
    show(Scope::tenant("zeta"), "e1", expect![[r#""#]]).await;
    show(Scope::All, "x' OR 'a' = 'a", expect![[r#""#]]).await;
}

fn lines(found: &Found) -> String {
    let line = |s: &Shown| format!("{} {}  {}", s.of.tenant, s.summary().requesters.join(", "), s.chain().headline());
    let lines: Vec<String> = found.chains.iter().map(line).collect();
    format!("{}\n{} in all", lines.join("\n"), found.total)
}

#[tokio::test]
async fn lists_are_filtered_and_newest_last() {
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::All);
    let all = session.chains(10, &Filter::default(), &Limits::default()).await.expect("chains");
    expect![[r#"
        zeta zoe  chain c-9a901163059f7d98994f  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        acme bob  chain c-9ecb94108df27c8d279e  1 call in 1 operation · lineage root · confidence 0.25 · coverage 0.00
        acme alice  chain c-07d853a6a758b57ca8a5  4 calls in 4 operations · lineage root · confidence 0.25 · coverage 0.00
        acme olga  chain c-87bba3e71181abebd5eb  2 calls in 2 operations · lineage orphan · 2 without their parent · confidence 0.25 · coverage 0.00
        4 in all"#]].assert_eq(&lines(&all));
    let newest = session.chains(2, &Filter::default(), &Limits::default()).await.expect("chains");
    let ids = |found: &Found| found.chains.iter().map(|s| s.chain().id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&newest), newest.total), (ids(&all)[2..].to_vec(), 4));
    let check = async |filter: Filter, events: &[&str]| {
        let found = session.chains(10, &filter, &Limits::default()).await.expect("chains");
        let firsts: Vec<&str> =
            found.chains.iter().map(|s| s.chain().event(s.of.store(), &s.chain().links[0])).collect();
        assert_eq!(firsts, events, "{filter:?}");
    };
    let some = |text: &str| Some(text.to_owned());
    check(Filter { tenant: some("zeta"), ..Filter::default() }, &["z1"]).await;
    check(Filter { requester: some("bob"), ..Filter::default() }, &["b1"]).await;
    check(Filter { requester: some("agent:o"), ..Filter::default() }, &[]).await;
    check(Filter { agent: some("agent:o"), ..Filter::default() }, &["o1"]).await;
    check(Filter { agent: some("bob"), ..Filter::default() }, &[]).await;
    check(Filter { tool: some("push"), ..Filter::default() }, &["e1"]).await;
    check(Filter { tool: some("no such tool"), ..Filter::default() }, &[]).await;
    check(Filter { tool: some(""), ..Filter::default() }, &[]).await;
    check(Filter { server: some("crm"), ..Filter::default() }, &["b1", "o1"]).await;
    check(Filter { lineage: Some(Lineage::Orphan), ..Filter::default() }, &["o1"]).await;
    check(Filter { outcome: Some(catena_schemas::Outcome::Deny), ..Filter::default() }, &["z1", "e1", "o1"]).await;
    check(Filter { depth: Some(5), ..Filter::default() }, &["e1"]).await;
    check(Filter { depth: Some(6), ..Filter::default() }, &[]).await;
    check(Filter { widened: true, ..Filter::default() }, &[]).await;
    check(
        Filter {
            from: Some(START),
            until: Some(catena_schemas::Micros(START.0 + 2 * 60_000_000)),
            ..Filter::default()
        },
        &["e1"],
    )
    .await;
    // A chain id leads back to its chain.
    for chain in &all.chains {
        let found = session.chain(&chain.chain().id, &Limits::default()).await.expect("a chain");
        assert_eq!(found.iter().map(|s| s.chain()).collect::<Vec<_>>(), [chain.chain()]);
    }
}

async fn ask(lake: &Lake, scope: Scope, sql: &str, want: Expect) {
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let rows =
        engine.session(scope).sql(sql, &Limits::default()).await.expect("a query").collect().await.expect("rows");
    let bytes = output::to_bytes(&rows, output::Format::Csv).expect("CSV");
    want.assert_eq(&String::from_utf8(bytes).expect("UTF-8").replace('\r', ""));
}

#[tokio::test]
async fn chains_events_and_operations_are_tables() {
    let lake = lake();
    let acme = || Scope::tenant("acme");
    ask(
        &lake,
        acme(),
        "SELECT root, root_kind, lineage, events, operations, depth, fanout, agents, tools, servers, denied, orphans, widened, coverage, \
         link_coverage, state, lake_version FROM chains ORDER BY started, chain_id",
        expect![[r#"
            root,root_kind,lineage,events,operations,depth,fanout,agents,tools,servers,denied,orphans,widened,coverage,link_coverage,state,lake_version
            alice,human,root,4,4,2,1,"[""agent:coder"",""agent:planner"",""agent:tester"",""client:cc""]","[""delegate"",""push"",""read"",""run""]","[""agents"",""ci"",""repo"",""tickets""]",1,0,0,0.0,0.25,open,4
            olga,human,orphan,2,2,1,0,"[""agent:o""]","[""export"",""read""]","[""crm""]",1,2,0,0.0,0.0,open,4
            bob,human,root,1,1,1,0,"[""client:cursor""]","[""read""]","[""crm""]",0,0,0,0.0,0.0,open,4
        "#]],
    )
    .await;
    ask(
        &lake,
        acme(),
        "SELECT event_id, operation_id, attempt, parent_event, parent_tier, standing, path, path_tiers, bound_state, widened_at \
         FROM chain_events ORDER BY time",
        expect![[r#"
            event_id,operation_id,attempt,parent_event,parent_tier,standing,path,path_tiers,bound_state,widened_at
            e1,catena/e1,1,,C7,root,"[""alice"",""client:cc"",""agent:planner""]","[""P9"",""P9"",""P9""]",unknown,
            e2,catena/e2,1,,C6,root,"[""alice"",""client:cc"",""agent:planner""]","[""P9"",""P9"",""P9""]",unknown,
            o1,catena/o1,1,,,orphan,"[""olga"",""agent:o""]","[""P9"",""P9""]",unknown,
            e3,catena/e3,1,,C6,root,"[""alice"",""client:cc"",""agent:planner"",""agent:coder""]","[""P9"",""P9"",""P9"",""P9""]",unknown,
            b1,catena/b1,1,,,root,"[""bob"",""client:cursor""]","[""P9"",""P9""]",unknown,
            e4,catena/e4,1,e3,C2,child,"[""alice"",""client:cc"",""agent:planner"",""agent:coder"",""agent:tester""]","[""P9"",""P9"",""P9"",""P9"",""P9""]",unknown,
            o2,catena/o2,1,,,orphan,"[""olga"",""agent:o""]","[""P9"",""P9""]",unknown,
        "#]],
    )
    .await;
    ask(&lake, acme(), "SELECT operation_id, parent_operation, attempts, outcome, forwarded, requester, agent, tool FROM operations ORDER BY started", expect![[r#"
        operation_id,parent_operation,attempts,outcome,forwarded,requester,agent,tool
        catena/e1,,1,allow,true,alice,agent:planner,read
        catena/e2,,1,allow,true,alice,agent:planner,delegate
        catena/o1,,1,deny,false,olga,agent:o,export
        catena/e3,,1,deny,false,alice,agent:coder,push
        catena/b1,,1,allow,true,bob,client:cursor,read
        catena/e4,catena/e3,1,allow,true,alice,agent:tester,run
        catena/o2,,1,allow,true,olga,agent:o,read
    "#]])
        .await;
    // One tenant sees nothing of another, whatever it asks for.
    ask(
        &lake,
        acme(),
        "SELECT count(*) FROM chains WHERE tenant = 'zeta'",
        expect![[r#"
            count(*)
            0
        "#]],
    )
    .await;
    ask(
        &lake,
        Scope::All,
        "SELECT count(*) FROM chains WHERE tenant = 'zeta'",
        expect![[r#"
            count(*)
            1
        "#]],
    )
    .await;
    ask(
        &lake,
        Scope::All,
        "SELECT tenant, event_id FROM chain_events WHERE chain_id = (SELECT chain_id FROM chain_events WHERE event_id = 'e4') ORDER BY time",
        expect![[r#"
            tenant,event_id
            acme,e1
            acme,e2
            acme,e3
            acme,e4
        "#]],
    )
    .await;
    // Decisions and the chains that they stand in.
    ask(
        &lake,
        Scope::All,
        "SELECT event_id, lineage, outcome FROM decisions JOIN chains USING (tenant, chain_id) WHERE outcome = 'deny' ORDER BY time",
        expect![[r#"
            event_id,lineage,outcome
            z1,root,deny
            o1,orphan,deny
            e3,root,deny
        "#]],
    )
    .await;
}

#[tokio::test]
async fn functions_answer_for_chains_paths_and_reach() {
    let lake = lake();
    let acme = || Scope::tenant("acme");
    let all = "SELECT event_id FROM chain_of('t-9') ORDER BY time";
    ask(
        &lake,
        acme(),
        all,
        expect![[r#"
            event_id
            e1
            e2
            e3
            e4
        "#]],
    )
    .await;
    ask(
        &lake,
        acme(),
        "SELECT count(*) FROM chain_of('z1')",
        expect![[r#"
            count(*)
            0
        "#]],
    )
    .await;
    let fitting = "SELECT event_id FROM paths('human:alice > client:* >> agent:coder >> tool:*') ORDER BY time";
    ask(
        &lake,
        acme(),
        fitting,
        expect![[r#"
            event_id
            e3
            e4
        "#]],
    )
    .await;
    let reached = "SELECT what, server, id, reached, operations, allowed, denied, distance, could_reach FROM reach('agent', 'agent:coder') ORDER BY distance, what, id";
    ask(
        &lake,
        acme(),
        reached,
        expect![[r#"
            what,server,id,reached,operations,allowed,denied,distance,could_reach
            agent,,agent:tester,true,1,1,0,1,unknown
            server,,repo,false,1,0,1,1,unknown
            server,,ci,true,1,1,0,2,unknown
            tool,repo,push,false,1,0,1,2,unknown
            tool,ci,run,true,1,1,0,3,unknown
        "#]],
    )
    .await;
    ask(
        &lake,
        acme(),
        "SELECT what, id, reached, denied FROM reach('tool', 'push') ORDER BY what, id",
        expect![[r#"
            what,id,reached,denied
            agent,agent:coder,true,1
            agent,agent:planner,true,1
            client,client:cc,true,1
            requester,alice,true,1
        "#]],
    )
    .await;
    ask(&lake, acme(), "SELECT * FROM reach('human', 'zoe') WHERE reached", expect![[r#"
        tenant,what,server,id,reached,operations,allowed,denied,stepped_up,first,last,example,distance,could_reach,why,beyond,cut,lake_version
    "#]]).await;
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let refused = async |sql: &str| match engine.session(acme()).sql(sql, &Limits::default()).await {
        Ok(_) => "answered".to_owned(),
        Err(e) => e.to_string(),
    };
    expect!["`human:alice > > x`: column 15: expected a hop: `kind:name`, a name or `*`, found `>`"]
        .assert_eq(&refused("SELECT * FROM paths('human:alice > > x')").await);
    expect!["usage: reach(kind, id[, server]); kind is human, agent, grant, tool or server"]
        .assert_eq(&refused("SELECT * FROM reach('alice')").await);
    expect!["usage: reach(kind, id[, server]); kind is human, agent, grant, tool or server"]
        .assert_eq(&refused("SELECT * FROM reach('planet', 'x')").await);
    expect!["usage: chain_of('event, session, trace or chain')"].assert_eq(&refused("SELECT * FROM chain_of(1)").await);
}

#[tokio::test]
async fn a_new_version_brings_new_chains_and_an_old_session_keeps_its_own() {
    let mut lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let old = engine.session(Scope::tenant("acme")).pin().await.expect("a version");
    let count = async |session: &catena_engine::Session| {
        session.chains(10, &Filter::default(), &Limits::default()).await.expect("chains").total
    };
    assert_eq!(count(&old).await, 3);
    // Whoever led to the orphans arrives, and the one orphan chain has a root.
    lake.decisions("acme", 3, &events("gone 4 allow olga > agent:o crm/list"));
    let new = engine.session(Scope::tenant("acme"));
    let found = new.chain("o1", &Limits::default()).await.expect("chains");
    assert_eq!((found.len(), found[0].chain().lineage()), (1, Lineage::Root));
    assert_eq!((count(&new).await, count(&old).await), (3, 3));
    let found = old.chain("o1", &Limits::default()).await.expect("chains");
    assert_eq!(found[0].chain().lineage(), Lineage::Orphan);
}

#[tokio::test]
async fn why_quotes_the_decision_its_path_and_its_grant() {
    let mut lake = lake();
    let grant = r#"{"grant_id":"g-1","grantor":"dora","grantee":"agent:p","scope":["mail.read"]}"#;
    lake.authority("acme", 4, &[(EntryKind::Grant, grant)]);
    let mut event = event("w1 6000 allow dora > agent:p @s-w mail/send");
    event.token.scope = vec!["mail.read".into(), "mail.send".into()];
    event.grant.id = Some("g-1".into());
    lake.decisions("acme", 4, &[event]);
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::tenant("acme"));
    let answers = session.why("w1", &Limits::default()).await.expect("an answer");
    assert_eq!(answers.len(), 1);
    // As callers of the API read it: names and shapes of members stay.
    let why = serde_json::to_value(&answers[0]).expect("JSON");
    let authority = &why["event"]["path"][1]["authority"];
    expect![[r#"
        "allow" 1 "root"
        {"scope":["mail.send"]} ["mail.read"] ["mail.read"]"#]]
    .assert_eq(&format!(
        "{} {} {}\n{} {} {}",
        why["decision"]["outcome"],
        why["event"]["widened_at"],
        why["chain"]["lineage"],
        authority["widened_by"],
        authority["bound"]["scope"],
        why["grants"][0]["scope"],
    ));
    assert!(session.why("nobody", &Limits::default()).await.expect("an answer").is_empty());
    assert!(engine.session(Scope::tenant("zeta")).why("w1", &Limits::default()).await.expect("an answer").is_empty());
    // The widening stands in the tables too.
    ask(
        &lake,
        Scope::All,
        "SELECT e.event_id, e.widened_at, c.widened FROM chain_events e JOIN chains c USING (chain_id) WHERE c.widened > 0",
        expect![[r#"
            event_id,widened_at,widened
            w1,1,1
        "#]],
    )
    .await;
}

/// Many producers know a server by its name alone.
#[tokio::test]
async fn why_names_a_server_by_its_id_or_else_its_name() {
    let mut lake = Lake::new();
    let mut told = events(
        "s1 1 allow alice > agent:p @s-1 tickets/read
         s2 2 allow alice > agent:p @s-1 crm/read parent=s1",
    );
    told[0].server.id = None;
    told[0].server.name = Some("tickets-mcp".into());
    told[1].server.name = Some("The CRM".into());
    lake.decisions("acme", 0, &told);
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let why = async |id: &str| {
        let found = engine.session(Scope::All).why(id, &Limits::default()).await.expect("an answer");
        <[Why; 1]>::try_from(found).expect("one decision")
    };
    let [named] = why("s1").await;
    assert_eq!((named.decision.server, named.decision.target_server.as_deref()), (None, Some("tickets-mcp")));
    let [known] = why("s2").await;
    assert_eq!(known.decision.target_server.as_deref(), Some("crm"));
    let place = known.place.expect("a chain");
    let parent = place.led_to_by.expect("a parent");
    assert_eq!((parent.event_id.as_str(), parent.server.as_deref()), ("s1", Some("tickets-mcp")));
    let found = engine.session(Scope::All).chains(1, &Filter::default(), &Limits::default()).await.expect("chains");
    assert_eq!(found.chains[0].summary().servers, ["crm", "tickets-mcp"]);
    assert_eq!(found.chains[0].detail().calls[0].server.as_deref(), Some("tickets-mcp"));
}

#[tokio::test]
async fn a_confidence_without_evidence_is_null_in_every_answer() {
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::All);
    let found = session.chains(10, &Filter::default(), &Limits::default()).await.expect("chains");
    let mut answers: Vec<String> = found
        .chains
        .iter()
        .flat_map(|chain| chain.detail().calls)
        .map(|call| format!("{},{}", call.event_id, call.confidence.map_or(String::new(), |c| format!("{c:?}"))))
        .collect();
    answers.sort();
    let sql = "SELECT event_id, parent_confidence FROM chain_events ORDER BY event_id";
    let rows = crate::answers::csv(&engine, sql).await;
    assert_eq!(answers, rows.lines().skip(1).collect::<Vec<_>>());
    assert!(answers.iter().any(|line| line.ends_with(',')) && answers.iter().any(|line| !line.ends_with(',')));
}

/// Ids are values of a plan: no text of theirs becomes SQL.
#[tokio::test]
async fn ids_with_quotes_are_ids() {
    let mut lake = Lake::new();
    let grant = r#"{"grant_id":"g'1","grantor":"dora","grantee":"agent:p","scope":["mail.read"]}"#;
    lake.authority("acme", 0, &[(EntryKind::Grant, grant)]);
    let mut sent = event("w1 1 allow dora > agent:p @s-w mail/read");
    sent.id = "w' OR 'a' = 'a".into();
    sent.grant.id = Some("g'1".into());
    lake.decisions("acme", 0, &[sent, event("w2 2 allow dora > agent:p @s-w mail/read")]);
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let session = engine.session(Scope::All);
    let why = session.why("w' OR 'a' = 'a", &Limits::default()).await.expect("an answer");
    assert_eq!((why.len(), why[0].decision.event_id.as_str(), why[0].grants.len()), (1, "w' OR 'a' = 'a", 1));
    assert!(session.why("w1' OR 'a' = 'a", &Limits::default()).await.expect("an answer").is_empty());
    assert!(session.chain("c-1' OR 'a' = 'a", &Limits::default()).await.expect("an answer").is_empty());
}
