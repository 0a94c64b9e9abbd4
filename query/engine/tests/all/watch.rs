//! Chains followed from version to version.

use crate::lake::{File, Lake, START, event, events};
use catena_analysis::chain::Settings;
use catena_engine::chains::{Publication, Watch};
use catena_engine::{Engine, Limits, Options, Scope, output};
use catena_schemas::Micros;
use catena_schemas::authority::EntryKind;
use catena_schemas::table::Class;
use expect_test::{Expect, expect};

const NOW: Micros = Micros(START.0 + 3_600_000_000);

async fn engine(lake: &Lake) -> Engine {
    Engine::open(&lake.url(), Options::default()).await.expect("a lake")
}

async fn watch(lake: &Lake) -> Watch {
    Watch::new(engine(lake).await, Settings::default())
}

/// With room for so many decisions at once, so that tenants with more are followed from afar.
async fn short_of_memory(lake: &Lake, decisions: usize) -> Watch {
    let options = Options { chains_bytes: decisions * 600, ..Options::default() };
    Watch::new(Engine::open(&lake.url(), options).await.expect("a lake"), Settings::default())
}

fn publish(lake: &mut Lake, publications: Vec<Publication>) -> usize {
    let mut rows = 0;
    for p in publications {
        rows += p.rows.num_rows();
        lake.land(&File { tenant: &p.tenant, day: 0, class: Class::Chain }, &p.rows);
    }
    rows
}

async fn step(watch: &mut Watch, lake: &mut Lake, now: Micros) -> usize {
    let stepped = watch.step(now).await.expect("a step");
    assert!(stepped.failed.is_empty(), "{:?}", stepped.failed);
    publish(lake, stepped.publications)
}

async fn csv(lake: &Lake, sql: &str) -> String {
    let session = engine(lake).await.session(Scope::All);
    let rows = session.sql(sql, &Limits::default()).await.expect("a query").collect().await.expect("rows");
    String::from_utf8(output::to_bytes(&rows, output::Format::Csv).expect("CSV")).expect("UTF-8").replace('\r', "")
}

async fn ask(lake: &Lake, sql: &str, want: Expect) {
    want.assert_eq(&csv(lake, sql).await);
}

/// What was last said of every chain is what a rebuild says.
async fn agrees(lake: &Lake) {
    let columns = "tenant, chain_id, root, lineage, started, ended, events, operations, depth, fanout, agents, tools, servers, denied, stepped_up, \
        widened, orphans, unknown, cycle_broken";
    let last = format!(
        "SELECT {columns} FROM chain_revisions r JOIN (SELECT tenant, chain_id, max(revision) AS revision FROM chain_revisions GROUP BY ALL) last \
         USING (tenant, chain_id, revision) WHERE state <> 'merged' ORDER BY tenant, chain_id"
    );
    let rebuilt = format!("SELECT {columns} FROM chains ORDER BY tenant, chain_id");
    assert_eq!(csv(lake, &last).await, csv(lake, &rebuilt).await);
}

const STORY: [&str; 5] = [
    "e1 1 allow alice > client:cc > agent:planner @s-1 tickets/read
     b1 2 allow bob > client:cursor @s-3 crm/read",
    // An orphan, before the one that led to it.
    "e4 5 allow alice > client:cc > agent:planner > agent:tester ci/run parent=e3",
    "b2 6 deny bob > client:cursor @s-3 crm/read",
    // Whoever led to it, and with it two chains become one.
    "e3 4 deny alice > client:cc > agent:planner > agent:coder @s-1 repo/push",
    "c1 90 allow carol > agent:c @s-9 crm/read",
];

#[tokio::test]
async fn after_every_version_the_last_revisions_are_what_a_rebuild_says() {
    // At last the tenant has eleven decisions, and three of them make one chain. From afar the rows are the same.
    for room in [1000, 10, 7, 6] {
        follows(async |lake| short_of_memory(lake, room).await).await;
    }
}

async fn follows(begin: impl AsyncFn(&Lake) -> Watch) {
    let mut lake = Lake::new();
    let others: String = (0..5).map(|n| format!("d{n} {n} allow dora > agent:d @s-d{n} mail/read\n")).collect();
    lake.decisions("acme", 0, &events(&others));
    let mut following = begin(&lake).await;
    step(&mut following, &mut lake, NOW).await;
    for lines in STORY {
        lake.decisions("acme", 0, &events(lines));
        assert!(step(&mut following, &mut lake, NOW).await > 0);
        assert_eq!(step(&mut following, &mut lake, NOW).await, 0, "nothing is said twice");
        agrees(&lake).await;
        let newest = "SELECT chain_id, max(revision) AS revision FROM chain_revisions WHERE chain_id NOT IN (SELECT old_id FROM \
            chain_aliases) GROUP BY chain_id ORDER BY chain_id";
        assert_eq!(
            csv(&lake, newest).await,
            csv(&lake, "SELECT chain_id, revision FROM chains ORDER BY chain_id").await
        );
        // Somebody who begins now has nothing to add.
        assert_eq!(step(&mut begin(&lake).await, &mut lake, NOW).await, 0);
        assert_eq!(step(&mut watch(&lake).await, &mut lake, NOW).await, 0);
    }
    ask(
        &lake,
        "SELECT revision, state, events, lineage, list_element(aliases, 1) IS NOT NULL AS alias, reflects FROM chain_revisions WHERE reflects > 1 \
         ORDER BY reflects, revision, events",
        expect![[r#"
            revision,state,events,lineage,alias,reflects
            1,settled,1,root,false,3
            1,settled,1,root,false,3
            1,settled,1,orphan,false,5
            2,settled,2,root,false,7
            2,settled,3,root,true,9
            2,merged,,,true,9
            1,open,1,root,false,11
        "#]],
    )
    .await;
}

#[tokio::test]
async fn whoever_begins_anew_goes_on_where_the_last_one_stopped() {
    let (mut once, mut anew) = (Lake::new(), Lake::new());
    let mut following = watch(&once).await;
    for lines in STORY {
        once.decisions("acme", 0, &events(lines));
        anew.decisions("acme", 0, &events(lines));
        step(&mut following, &mut once, NOW).await;
        step(&mut watch(&anew).await, &mut anew, NOW).await;
    }
    let all = "SELECT chain_id, revision, state, events, aliases, fingerprint, reflects FROM chain_revisions ORDER BY chain_id, revision";
    assert_eq!(csv(&anew, all).await, csv(&once, all).await);
}

#[tokio::test]
async fn chains_settle_and_are_sealed_with_the_watermark() {
    let mut lake = Lake::new();
    lake.decisions("acme", 0, &events("e1 0 allow alice > agent:a @s-1 crm/read"));
    let mut following = watch(&lake).await;
    for minutes in [1, 10, 16, 60 * 24 + 1, 60 * 48] {
        step(&mut following, &mut lake, Micros(START.0 + minutes * 60_000_000)).await;
    }
    ask(
        &lake,
        "SELECT revision, state FROM chain_revisions ORDER BY ingest_time",
        expect![[r#"
        revision,state
        1,open
        2,settled
        3,sealed
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_grant_that_arrives_late_is_a_new_revision() {
    let mut lake = Lake::new();
    let mut sent = event("w1 1 allow dora > agent:p @s-w mail/send");
    sent.token.scope = vec!["mail.read".into(), "mail.send".into()];
    sent.grant.id = Some("g-1".into());
    lake.decisions("acme", 0, &[sent]);
    lake.decisions("acme", 0, &events("x1 1 allow xena > agent:p @s-x mail/send"));
    let mut following = watch(&lake).await;
    assert_eq!(step(&mut following, &mut lake, NOW).await, 2);
    let grant = r#"{"grant_id":"g-1","grantor":"dora","grantee":"agent:p","scope":["mail.read"]}"#;
    lake.authority("acme", 0, &[(EntryKind::Grant, grant)]);
    assert_eq!(step(&mut following, &mut lake, NOW).await, 1);
    agrees(&lake).await;
    ask(
        &lake,
        "SELECT root, revision, widened FROM chain_revisions ORDER BY root, revision",
        expect![[r#"
        root,revision,widened
        dora,1,0
        dora,2,1
        xena,1,0
    "#]],
    )
    .await;
    assert_eq!(step(&mut watch(&lake).await, &mut lake, NOW).await, 0);
}

#[tokio::test]
async fn an_exchange_that_contradicts_another_is_a_new_revision() {
    let mut lake = Lake::new();
    let mut told = events(
        "x1 1 allow yan > agent:p @s-x mail/send
         y1 2 allow yan > agent:q @s-y mail/send",
    );
    for (event, token) in told.iter_mut().zip(["root", "issued"]) {
        event.token.reference = Some(token.into());
    }
    lake.decisions("acme", 0, &told);
    let mut following = watch(&lake).await;
    assert_eq!(step(&mut following, &mut lake, NOW).await, 2);
    for subject in ["root", "elsewhere"] {
        let body = format!(r#"{{"issued_token_ref":"issued","subject_token_ref":"{subject}"}}"#);
        lake.authority("acme", 0, &[(EntryKind::Exchange, &body)]);
        step(&mut following, &mut lake, NOW).await;
        agrees(&lake).await;
    }
}

#[tokio::test]
async fn what_upkeep_merges_is_not_told_again_and_tenants_are_apart() {
    let mut lake = Lake::new();
    let first = lake.decisions("acme", 0, &events(STORY[0]));
    let second = lake.decisions("acme", 0, &events(STORY[1]));
    lake.decisions("zeta", 0, &events("e1 1 allow zoe > agent:z @s-1 tickets/read"));
    let mut following = watch(&lake).await;
    assert_eq!(step(&mut following, &mut lake, NOW).await, 4);
    let both = format!("{}\n{}", STORY[0], STORY[1]);
    let merged = lake.write(
        &File { tenant: "acme", day: 0, class: Class::Decision },
        &crate::lake::decisions("acme", 0, &events(&both)),
    );
    let remove =
        |path: &str| serde_json::json!({"remove": {"path": path, "deletionTimestamp": 0, "dataChange": false}});
    lake.commit(&[remove(&first), remove(&second), merged]);
    assert_eq!(step(&mut following, &mut lake, NOW).await, 0);
    agrees(&lake).await;
}

#[tokio::test]
async fn an_id_that_was_given_up_leads_to_the_chain_that_has_its_events_now() {
    // Three orphans, brought together one after another: first two, then the third.
    let story = [
        "a1 10 allow alice > agent:a crm/read parent=p1
         a2 20 allow alice > agent:b crm/read parent=p2
         a3 30 allow alice > agent:c crm/read parent=p3",
        "p3 9 allow alice > agent:r crm/list parent=p2",
        "p2 8 allow alice > agent:r crm/list parent=p1",
    ];
    for anew in [false, true] {
        let mut lake = Lake::new();
        let mut following = watch(&lake).await;
        let mut given_up = Vec::new();
        for lines in story {
            lake.decisions("acme", 0, &events(lines));
            if anew {
                following = watch(&lake).await;
            }
            step(&mut following, &mut lake, NOW).await;
            agrees(&lake).await;
            given_up.push(csv(&lake, "SELECT chain_id FROM chains ORDER BY 1").await);
        }
        let first: Vec<&str> = given_up[0].lines().skip(1).collect();
        let last: Vec<&str> = given_up[2].lines().skip(1).collect();
        assert_eq!((first.len(), last.len()), (3, 1));
        let session = engine(&lake).await.session(Scope::All);
        for id in first {
            let found = session.chain(id, &Limits::default()).await.expect("chains");
            assert_eq!(found.iter().map(|s| s.chain().id.as_str()).collect::<Vec<_>>(), last, "{id}");
        }
        let twice = "SELECT count(*) FROM (SELECT chain_id, revision, count(*) AS n FROM chain_revisions GROUP BY ALL) WHERE n > 1";
        assert_eq!(csv(&lake, twice).await, "count(*)\n0\n");
    }
}

#[tokio::test]
async fn what_cannot_be_judged_fails_alone() {
    let mut lake = Lake::new();
    lake.decisions("acme", 0, &events(STORY[0]));
    let many: Vec<String> = (0..9).map(|n| format!("e{n} {n} allow zoe > agent:z @s-1 tickets/read")).collect();
    lake.decisions("many", 0, &events(&many.join("\n")));
    lake.decisions("zeta", 0, &events("e1 1 allow zoe > agent:z @s-1 tickets/read"));
    let mut following = short_of_memory(&lake, 8).await;
    let stepped = following.step(NOW).await.expect("a step");
    let failed: Vec<String> = stepped.failed.iter().map(|(tenant, error)| format!("{tenant}: {error}")).collect();
    expect![
        "many: 9 decisions that belong together need about 1 MiB at once, more than 0 MiB; raise `query.chains_bytes`"
    ]
    .assert_eq(&failed.join("\n"));
    publish(&mut lake, stepped.publications);
    // It is not tried again and again.
    assert!(following.step(NOW).await.expect("a step").failed.is_empty());
    ask(
        &lake,
        "SELECT tenant, count(*) AS n FROM chain_revisions GROUP BY tenant ORDER BY tenant",
        expect![[r#"
        tenant,n
        acme,2
        zeta,1
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_tenant_that_cannot_be_read_keeps_nobody_from_being_followed() {
    let mut lake = Lake::new();
    lake.decisions("acme", 0, &events(STORY[0]));
    let broken = lake.decisions("many", 0, &events(STORY[0]));
    lake.decisions("zeta", 0, &events(STORY[0]));
    let (path, aside) = (lake.table().join(&broken), lake.path().join("aside"));
    std::fs::rename(&path, &aside).expect("a file");
    let mut following = watch(&lake).await;
    let stepped = following.step(NOW).await.expect("a step");
    assert_eq!(stepped.failed.iter().map(|(t, _)| t.as_ref()).collect::<Vec<_>>(), ["many"]);
    assert_eq!(publish(&mut lake, stepped.publications), 4);
    std::fs::rename(&aside, &path).expect("a file");
    assert_eq!(step(&mut following, &mut lake, NOW).await, 2);
    agrees(&lake).await;
}
