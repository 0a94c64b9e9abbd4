//! Chains of a lake that moves: what is new is laid over what is there.

use crate::answers::{csv, same, same_reach};
use crate::lake::{File, Lake, decisions, events};
use crate::parts::lake;
use crate::watched::Watched;
use catena_engine::{Engine, Options};
use catena_schemas::authority::EntryKind;
use catena_schemas::table::Class;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const CHAINS: &str = "SELECT count(*) FROM chains";

/// An engine that goes on, beside the lake that it reads.
struct Going {
    engine: Engine,
    store: Arc<Watched>,
}

impl Going {
    async fn with(lake: &Lake, options: Options) -> Going {
        let store = Watched::new();
        let engine = Engine::open_with(&lake.url(), options, store.clone()).await.expect("a lake");
        let going = Going { engine, store };
        csv(&going.engine, CHAINS).await;
        going
    }

    /// It says what one says that begins anew, and has opened these files for that; none means all.
    async fn agrees(&self, lake: &Lake, names: &[&str], opens: Option<&[&String]>, note: &str) {
        self.store.take();
        csv(&self.engine, CHAINS).await;
        let opened = self.store.take();
        match opens {
            Some(paths) => assert_eq!(opened, paths.iter().map(|p| (*p).clone()).collect::<BTreeSet<_>>(), "{note}"),
            None => assert!(opened.len() > 3, "{note}: {opened:?}"),
        }
        let anew = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
        same(&self.engine, &anew, "acme", names, note).await;
        same_reach(&self.engine, &anew, note).await;
    }
}

fn removed(path: &str, is_lost: bool) -> Value {
    json!({"remove": {"path": path, "deletionTimestamp": 0, "dataChange": is_lost}})
}

const ACME: File<'_> = File { tenant: "acme", day: 5, class: Class::Decision };

/// An event that shows a token.
fn showing(lake: &mut Lake, line: &str, token: &str) -> String {
    let mut told = events(line);
    told[0].token.reference = Some(token.to_owned().into());
    lake.decisions("acme", 5, &told)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_laid_over_what_is_there() {
    let mut lake = lake();
    let going = Going::with(&lake, Options::default()).await;
    let late = lake.decisions("acme", 5, &events("late 1 allow user0 > client:cc > agent:p0 ci/run parent=e4a"));
    going.agrees(&lake, &["late", "e4a"], Some(&[&late]), "a late child").await;
    let joins = "m 305 allow user6 > client:cc > agent:p6 ci/run trace=t-6 parent=e1a";
    let joins = lake.decisions("acme", 5, &events(joins));
    going.agrees(&lake, &["m", "e1a", "t-6"], Some(&[&joins]), "two chains that become one").await;
    let parent = lake.decisions("acme", 5, &events("gone2 99 allow user2 > client:cc > agent:p2 ci/list"));
    going.agrees(&lake, &["gone2", "e2c"], Some(&[&parent]), "a parent that was missing").await;
    let near =
        "n1 153 allow user3 > client:cc > agent:p3 crm/list\n n2 9000 allow user3 > client:cc > agent:p3 crm/list";
    let near = lake.decisions("acme", 5, &events(near));
    going.agrees(&lake, &["n1", "n2", "e3a"], Some(&[&near]), "a neighbour, and one that is none").await;
    let other = lake.decisions("acme", 5, &events("e10a 500 deny user3 > client:cc > agent:p10 @s-other tickets/read"));
    going.agrees(&lake, &["e10a"], Some(&[&other]), "an id with other content").await;
    let root = showing(&mut lake, "r0 1 allow user4 > client:dd > agent:first mail/send", "root");
    going.agrees(&lake, &["r0", "e11b", "e25a"], Some(&[&root]), "somebody else who showed a token first").await;
    let zeta = lake.decisions("zeta", 0, &events("z2 4 deny zoe > agent:z @s-0 tickets/read"));
    going.agrees(&lake, &["late"], Some(&[&zeta]), "another tenant").await;

    let again = r#"{"issued_token_ref":"again","subject_token_ref":"issued"}"#;
    let swap = lake.authority("acme", 5, &[(EntryKind::Exchange, again)]);
    going.agrees(&lake, &["r0"], Some(&[&swap]), "an exchange of tokens that nobody showed").await;
    let shown = showing(&mut lake, "a0 3000 allow user4 > client:cc > agent:q mail/read", "again");
    going.agrees(&lake, &["a0"], Some(&[&shown]), "the token of an exchange").await;
    let other = r#"{"issued_token_ref":"issued","subject_token_ref":"elsewhere"}"#;
    let contradiction = lake.authority("acme", 5, &[(EntryKind::Exchange, other)]);
    going.agrees(&lake, &["a0", "e11b", "e25a"], Some(&[&contradiction]), "an exchange that contradicts another").await;
    let grant = r#"{"grant_id":"g-2","grantor":"user6","grantee":"agent:p6","scope":["ci.run"]}"#;
    let grant = lake.authority("acme", 5, &[(EntryKind::Grant, grant)]);
    going.agrees(&lake, &["m"], Some(&[&grant]), "a grant").await;

    // Upkeep: the same rows in other files.
    let merge = |lake: &mut Lake, gone: &[&String], lines: &str| {
        let mut add = lake.write(&ACME, &decisions("acme", 5, &events(lines)));
        add["add"]["dataChange"] = false.into();
        let mut actions: Vec<Value> = gone.iter().map(|path| removed(path, false)).collect();
        let path = add["add"]["path"].as_str().expect("a path").to_owned();
        actions.push(add);
        lake.commit(&actions);
        path
    };
    let m = "m 305 allow user6 > client:cc > agent:p6 ci/run trace=t-6 parent=e1a";
    let g = "gone2 99 allow user2 > client:cc > agent:p2 ci/list";
    let merged = merge(&mut lake, &[&joins, &parent], &format!("{m}\n{g}"));
    going.agrees(&lake, &["m", "gone2"], Some(&[]), "files that were merged").await;
    let unseen = "u 310 allow user6 > client:cc > agent:p6 ci/stop parent=m";
    let first = lake.decisions("acme", 5, &events(unseen));
    let mixed = merge(&mut lake, &[&first, &merged], &format!("{m}\n{g}\n{unseen}"));
    going.agrees(&lake, &["u", "m"], Some(&[&mixed]), "a file that was merged before anybody read it").await;
    lake.commit(&[removed(&near, true)]);
    going.agrees(&lake, &["n1", "e3a"], None, "rows that are gone").await;
    let after = lake.decisions("acme", 5, &events("v 2 allow user0 > client:cc > agent:p0 ci/run parent=late"));
    going.agrees(&lake, &["v", "e4a"], Some(&[&after]), "a child after that").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_over_is_not_more_than_memory_has_room_for() {
    let mut lake = lake();
    // Acme's 88 decisions, and ten more.
    let going = Going::with(&lake, Options { chains_bytes: 98 * 600, ..Options::default() }).await;
    let (mut laid, mut rebuilt) = (0, 0);
    for n in 0..10 {
        let line = format!("late{n} 1 allow user0 > client:cc > agent:p0 ci/run parent=e{}a", 4 * n);
        lake.decisions("acme", 5, &events(&line));
        going.store.take();
        csv(&going.engine, "SELECT count(*) FROM chains WHERE tenant = 'acme'").await;
        let opened = going.store.take().len();
        *(if opened <= 2 { &mut laid } else { &mut rebuilt }) += 1;
    }
    assert!(laid > 3 && rebuilt > 0, "{laid} times laid over, {rebuilt} times rebuilt");
    let anew = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    same(&going.engine, &anew, "acme", &["late7", "e28a", "e11b", "e25a"], "a ceiling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_answered_beside_a_newer_one() {
    let mut lake = lake();
    let going = Going::with(&lake, Options::default()).await;
    let count = async |session: &catena_engine::Session| {
        let found = session.chain("e4a", &catena_engine::Limits::default()).await.expect("an answer");
        found[0].chain().links.len()
    };
    let mut sessions = vec![going.engine.session(catena_engine::Scope::All).pin().await.expect("a version")];
    for n in 0..3 {
        let line = format!("late{n} 1 allow user0 > client:cc > agent:p0 ci/run parent=e4a");
        lake.decisions("acme", 5, &events(&line));
        sessions.push(going.engine.session(catena_engine::Scope::All).pin().await.expect("a version"));
    }
    going.store.take();
    // The newest first: the others begin with what is older than they are.
    for (n, session) in sessions.iter().enumerate().rev() {
        assert_eq!(count(session).await, 1 + n);
    }
    for (n, session) in sessions.iter().enumerate() {
        assert_eq!(count(session).await, 1 + n);
    }
    assert_eq!(going.store.take().len(), 3, "each new file was opened, and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_heavy_is_rebuilt_beside_what_is_asked() {
    let mut lake = lake();
    let going = Going::with(&lake, Options::default()).await;
    let lines: String =
        (0..1100).map(|n| format!("h{n} {} allow hugo > agent:h @s-h{n} crm/read\n", 9000 + n)).collect();
    lake.decisions("acme", 5, &events(&lines));
    going.store.take();
    csv(&going.engine, CHAINS).await;
    let mut opened = going.store.take();
    let waits = std::time::Instant::now();
    while opened.len() < 6 {
        assert!(waits.elapsed().as_secs() < 30, "nothing was rebuilt: {opened:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        opened.append(&mut going.store.take());
    }
    // It may come at any time between these.
    for n in 0..3 {
        let line = format!("late{n} 1 allow user0 > client:cc > agent:p0 ci/run parent=e4a");
        lake.decisions("acme", 5, &events(&line));
        let anew = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
        same(&going.engine, &anew, "acme", &["late0", "h7", "e4a"], "around a rebuild").await;
    }
}
