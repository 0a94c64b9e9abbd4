//! Chains that do not fit into memory at once.

use crate::answers::{csv, same, same_reach};
use crate::lake::{Lake, events};
use catena_engine::{Engine, Limits, Options};
use catena_schemas::authority::EntryKind;
use expect_test::expect;

/// Forty chains over four files, the later calls of each in another file than the first: by a session, by a trace, by a
/// parent, by nothing but the caller, and by a token that was exchanged for one that another chain showed.
pub(crate) fn lake() -> Lake {
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
                "e11b" | "e25b" => "issued",
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

/// Room for so many decisions at once.
fn room(decisions: usize) -> usize {
    decisions * 2 * 600
}

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_together_are_what_a_rebuild_at_once_is() {
    let lake = lake();
    let whole = engine(&lake, 1 << 30).await;
    for decisions in [4, 5, 11, 30] {
        let parted = engine(&lake, room(decisions)).await;
        let names = ["e2c", "gone2", "s-10", "t-11", "e11b", "e25a", "nobody"];
        same(&parted, &whole, "acme", &names, &format!("room for {decisions}")).await;
        if decisions == 30 {
            same_reach(&parted, &whole, "room for all that they reached").await;
        }
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
