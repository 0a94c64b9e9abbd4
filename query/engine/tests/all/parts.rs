//! Chains that do not fit into memory at once.

use crate::lake::{Lake, events};
use catena_engine::chains::Filter;
use catena_engine::{Engine, Limits, Options, Scope, output};
use catena_schemas::authority::EntryKind;
use expect_test::expect;

/// Forty chains over four files, the later calls of each in another file than the first: by a session, by a trace, by a
/// parent, by nothing but the caller, and by a token that was exchanged for one that another chain showed.
fn lake() -> Lake {
    let mut lake = Lake::new();
    let mut files = vec![String::new(); 4];
    for n in 0..40 {
        let (who, minute, file) = (format!("user{}", n % 7), n * 50, n as usize % 4);
        let (here, there) = (file, (file + 1 + n as usize % 3) % 4);
        let mut say = |file: usize, line: String| files[file] += &format!("{line}\n");
        let first = format!("e{n}a {minute} allow {who} > client:cc > agent:p{n}");
        let (then, after) = (minute + 3, format!("allow {who} > client:cc > agent:p{n}"));
        match n % 5 {
            0 => {
                say(here, format!("{first} @s-{n} tickets/read"));
                say(there, format!("e{n}b {then} {after} @s-{n} tickets/write"));
            }
            1 => {
                say(here, format!("{first} repo/push trace=t-{n}"));
                say(there, format!("e{n}b {then} {after} > agent:sub repo/push trace=t-{n}"));
            }
            2 => {
                say(here, format!("{first} ci/run"));
                say(there, format!("e{n}b {then} deny {who} > client:cc > agent:sub ci/run parent=e{n}a"));
                say(there, format!("e{n}c {then} deny {who} > client:cc > agent:sub ci/stop parent=gone{n}"));
            }
            3 => {
                say(here, format!("{first} crm/read"));
                say(there, format!("e{n}b {then} {after} crm/export"));
                // The same again, by another collector.
                say(here, format!("e{n}b {then} {after} crm/export"));
            }
            _ => say(here, format!("{first} mail/send")),
        }
    }
    for (day, file) in files.iter().enumerate() {
        let mut told = events(file);
        for event in &mut told {
            let token = match event.id.as_ref() {
                "e4a" => "root",
                "e9a" | "e20b" => "issued",
                _ => continue,
            };
            event.token.reference = Some(token.into());
        }
        lake.decisions("acme", day as i64, &told);
    }
    lake.decisions("zeta", 0, &events("z1 3 deny zoe > agent:z @s-0 tickets/read"));
    let exchange = r#"{"issued_token_ref":"issued","subject_token_ref":"root"}"#;
    let grant = r#"{"grant_id":"g-1","grantor":"client:cc","grantee":"agent:p1","scope":["repo.push"]}"#;
    lake.authority("acme", 4, &[(EntryKind::Exchange, exchange), (EntryKind::Grant, grant)]);
    lake
}

async fn engine(lake: &Lake, chains_bytes: usize) -> Engine {
    Engine::open(&lake.url(), Options { chains_bytes, threads: 2, ..Options::default() }).await.expect("a lake")
}

async fn csv(engine: &Engine, sql: &str) -> String {
    let rows = engine.sql(sql, &Limits::default()).await.expect("a query").collect().await.expect("rows");
    String::from_utf8(output::to_bytes(&rows, output::Format::Csv).expect("CSV")).expect("UTF-8").replace('\r', "")
}

/// Room for so many decisions at once.
fn room(decisions: usize) -> usize {
    decisions * 2 * 600
}

/// What they reached must fit, from all parts together.
const REACH: [&str; 5] = [
    "SELECT * FROM reach('human', 'user1') ORDER BY what, server, id",
    "SELECT * FROM reach('agent', 'agent:sub') ORDER BY what, server, id",
    "SELECT * FROM reach('grant', 'g-1') ORDER BY what, server, id",
    "SELECT * FROM reach('tool', 'push') ORDER BY what, server, id",
    "SELECT * FROM reach('server', 'crm') ORDER BY tenant, what, server, id",
];

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_together_are_what_a_rebuild_at_once_is() {
    let lake = lake();
    let whole = engine(&lake, 1 << 30).await;
    for decisions in [4, 5, 11, 30] {
        let parted = engine(&lake, room(decisions)).await;
        for sql in [
            "SELECT * FROM chains ORDER BY tenant, chain_id",
            "SELECT * FROM chain_events ORDER BY tenant, event_id, source",
            "SELECT * FROM operations ORDER BY tenant, operation_id",
            "SELECT tenant, event_id, chain_id FROM decisions ORDER BY tenant, event_id, ingest_date",
            "SELECT count(*) FROM paths('human:user1 >> agent:sub')",
            "SELECT e.event_id FROM chain_events e JOIN chains c USING (tenant, chain_id) WHERE c.depth > 1 ORDER BY event_id",
        ] {
            assert_eq!(csv(&parted, sql).await, csv(&whole, sql).await, "{sql}, room for {decisions}");
        }
        for sql in REACH.iter().filter(|_| decisions == 30) {
            assert_eq!(csv(&parted, sql).await, csv(&whole, sql).await, "{sql}");
        }
        let (limits, tenant) = (Limits::default(), Scope::tenant("acme"));
        let id = whole.session(tenant.clone()).chain("e3a", &limits).await.expect("a chain")[0].chain().id.clone();
        for name in ["e2c", "gone2", "s-10", "t-11", "e9a", "e20a", "nobody", &id] {
            let [a, b] = [&whole, &parted].map(|engine| engine.session(tenant.clone()));
            let [a, b] = [a.chain(name, &limits).await, b.chain(name, &limits).await].map(|f| f.expect("an answer"));
            let json = |found: Vec<catena_engine::chains::Shown>| found.iter().map(|s| s.to_json()).collect::<Vec<_>>();
            assert_eq!(json(a), json(b), "{name}, room for {decisions}");
        }
        let filter = Filter { agent: Some("agent:sub".into()), ..Filter::default() };
        let [a, b] = [&whole, &parted].map(|engine| engine.session(Scope::All));
        let (a, b) = (
            a.chains(5, &filter, &limits).await.expect("chains"),
            b.chains(5, &filter, &limits).await.expect("chains"),
        );
        let shown = |found: &catena_engine::chains::Found| found.chains.iter().map(|s| s.summary()).collect::<Vec<_>>();
        assert_eq!((shown(&a), a.total), (shown(&b), b.total), "room for {decisions}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_follow_the_lake() {
    let mut lake = lake();
    let parted = engine(&lake, room(6)).await;
    let count = "SELECT count(*) AS chains, sum(events) AS events FROM chains";
    expect![[r#"
        chains,events
        49,81
    "#]]
    .assert_eq(&csv(&parted, count).await);
    lake.decisions("acme", 0, &events("late 1 allow user0 > client:cc > agent:p0 ci/run parent=e4a"));
    expect![[r#"
        chains,events
        49,82
    "#]]
    .assert_eq(&csv(&parted, count).await);
    // Two chains become one.
    lake.decisions("acme", 0, &events("m 305 allow user6 > client:cc > agent:p6 ci/run trace=t-6 parent=e1a"));
    expect![[r#"
        chains,events
        48,83
    "#]]
    .assert_eq(&csv(&parted, count).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_parted_is_refused_with_its_size() {
    let mut lake = Lake::new();
    let line: String = (0..50).map(|n| format!("e{n} {n} allow olga > agent:o @s-1 crm/read\n")).collect();
    lake.decisions("acme", 0, &events(&line));
    let check = async |bytes: usize, sql: &str| {
        let engine = engine(&lake, bytes).await;
        match engine.sql(sql, &Limits::default()).await {
            Ok(answer) => answer.collect().await.map_or_else(|e| e.to_string(), |_| "answered".into()),
            Err(error) => error.to_string(),
        }
    };
    let chains = "SELECT * FROM chains";
    expect!["50 decisions that belong together need about 1 MiB at once, more than 0 MiB; raise `query.chains_bytes`"]
        .assert_eq(&check(room(20), chains).await);
    expect!["chains of 50 decisions need about 1 MiB at once, more than 0 MiB; raise `query.chains_bytes`"]
        .assert_eq(&check(200, chains).await);
    assert_eq!(check(room(50), chains).await, "answered");
}
