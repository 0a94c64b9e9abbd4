//! Rebuilds the chains of made-up events and says how long it took.
//!
//! Usage: `cargo run --release -p catena-analysis --example rebuild -- [EVENTS] [THREADS]`. About 14 events a session, as
//! `tests/bench/gen.py` makes them: half of the calls name a parent, all have a trace, a span, a session and a token.

use catena_analysis::chain::rules::{Fact, Party, Proof, Settings, Store, Via, rebuild};
use catena_schemas::{Micros, Outcome};
use std::time::Instant;

#[expect(clippy::print_stdout, reason = "an example talks")]
fn main() {
    let mut numbers = std::iter::empty::<String>().chain(arguments()).filter_map(|a| a.parse::<usize>().ok());
    let events = numbers.next().unwrap_or(1_000_000);
    let threads = numbers.next().unwrap_or(1);
    let made = make(events);
    let started = Instant::now();
    let mut store = Store::default();
    for e in &made {
        let actors = [Party { id: e.client, ..Party::default() }, Party { id: e.agent, ..Party::default() }];
        store.tell(&Fact {
            source: e.source,
            event_id: &e.id,
            content: e.content,
            time: Micros(e.time),
            decision: Some(&e.id),
            parent: e.parent.as_deref(),
            trace: Some(&e.trace),
            span: Some(&e.span),
            session: Some(&e.session),
            issuer: Some("https://idp.corp.example"),
            subject: Some(&e.person),
            client: Some(e.client),
            token: Some(&e.token),
            proof: Proof::Verified,
            via: Via::Act,
            actors: &actors,
            server: Some(e.server),
            tool: Some(e.tool),
            args: Some(&e.args),
            outcome: Some(Outcome::Allow),
            ..Fact::default()
        });
    }
    let told = started.elapsed();
    let chains = rebuild("acme", &mut store, &[], &Settings { threads, ..Settings::default() });
    let all = started.elapsed();
    let per_event = |d: std::time::Duration| d.as_secs_f64() * 1e6 / events as f64;
    println!(
        "{events} events, {} chains, {threads} threads: {:.2} us an event told, {:.2} us rebuilt, {:.2} us together",
        chains.chains.len(),
        per_event(told),
        per_event(all - told),
        per_event(all)
    );
}

#[expect(clippy::disallowed_methods, reason = "an example is its own command line")]
fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(1)
}

struct Made {
    id: String,
    content: u128,
    time: i64,
    source: &'static str,
    person: String,
    client: &'static str,
    agent: &'static str,
    server: &'static str,
    tool: &'static str,
    args: String,
    session: String,
    trace: String,
    span: String,
    token: String,
    parent: Option<String>,
}

fn make(events: usize) -> Vec<Made> {
    let mut dice = 7u64;
    let mut draw = move || {
        dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let pick = |n: u64, all: &[&'static str]| all[(n % all.len() as u64) as usize];
    let mut live: Vec<(u64, u64, Option<String>)> = Vec::new();
    let mut made = Vec::with_capacity(events);
    for i in 0..events {
        while live.len() < 400 {
            live.push((draw(), 4 + draw() % 20, None));
        }
        let turn = (draw() % live.len() as u64) as usize;
        let (seed, left, parent) = &mut live[turn];
        let id = format!("{:016X}{:010X}", draw(), i);
        made.push(Made {
            content: u128::from(draw()) << 64 | u128::from(draw()),
            time: i as i64 * 2_000,
            source: pick(draw(), &["gw-0", "gw-1", "gw-2", "gw-3"]),
            person: format!("user{:04}@corp.example", *seed % 2000),
            client: pick(*seed >> 8, &["claude-code", "chat-desktop", "ide-copilot"]),
            agent: pick(draw(), &["agent:planner", "agent:mailer", "agent:coder"]),
            server: pick(draw(), &["https://crm-mcp.corp.example", "https://mail-mcp.corp.example"]),
            tool: pick(draw(), &["contact.search", "contact.read", "mail.send", "deal.update", "file.read"]),
            args: format!("hmac:{:016x}", draw()),
            session: format!("s-{:012x}", *seed & 0xffff_ffff_ffff),
            trace: format!("{:016x}{:016x}", seed.rotate_left(9) | 1, seed.rotate_left(33) | 1),
            span: format!("{:016x}", draw() | 1),
            token: format!("{:016x}{:016x}", seed.rotate_left(5), seed.rotate_left(27)),
            parent: parent.clone(),
            id: id.clone(),
        });
        if draw() % 2 == 0 {
            *parent = Some(id);
        }
        *left -= 1;
        if *left == 0 {
            live.swap_remove(turn);
        }
    }
    made
}
