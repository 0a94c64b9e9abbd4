//! Rebuilds the chains of made-up events and says how long it took.
//!
//! Usage: `cargo run --release -p catena-analysis --example rebuild -- [EVENTS] [THREADS]`. About 14 events a session, as
//! `tests/bench/gen.py` makes them: half of the calls name a parent, all have a trace, a span, a session and a token.
//! `-- watch [EVENTS]` feeds them to a watcher instead, 10,000 at a time, and evicts what is sealed.
//!
//! Times are the processor's, of all threads together, so that other programs on the machine do not count; memory is what
//! is resident. Both come from `/proc`.

use catena_analysis::chain::rules::watch::Watcher;
use catena_analysis::chain::rules::{Fact, Party, Proof, Settings, Store, Via, rebuild};
use catena_schemas::{Micros, Outcome};
use std::time::Instant;

const MILLION: usize = 1_000_000;

fn main() {
    let words: Vec<String> = arguments().collect();
    let mut numbers = words.iter().filter_map(|a| a.parse::<usize>().ok());
    let events = numbers.next().unwrap_or(MILLION);
    if words.iter().any(|w| w == "watch") {
        watch(events);
    } else {
        batch(events, numbers.next().unwrap_or(1));
    }
}

#[expect(clippy::print_stdout, reason = "an example talks")]
fn batch(events: usize, threads: usize) {
    let made: Vec<Made> = Maker::new().take(events).collect();
    let empty = Used::now();
    let mut store = Store::default();
    for made in &made {
        made.with(|fact| store.tell(&fact));
    }
    let told = Used::now();
    let chains = rebuild("acme", &mut store, &[], &Settings { threads, ..Settings::default() });
    let all = Used::now();
    println!(
        "{events} events, {} chains, {threads} threads: {:.2} us an event told, {:.2} us rebuilt, {:.2} us together \
         ({:.2} us on the clock); {} bytes an event told ({} by count), {} with chains",
        chains.chains.len(),
        told.since(&empty, events),
        all.since(&told, events),
        all.since(&empty, events),
        (all.clock - empty.clock).as_secs_f64() * 1e6 / events as f64,
        (told.resident - empty.resident) / events,
        store.bytes() / events,
        (all.resident - empty.resident) / events,
    );
}

/// Events come at 500 a second of their own time, so that a day, after which chains are sealed, is not reached: chains are
/// sealed after ten minutes here, 300,000 events later.
#[expect(clippy::print_stdout, reason = "an example talks")]
fn watch(events: usize) {
    const BATCH: usize = 10_000;
    const MINUTE_US: i64 = 60_000_000;
    let settings = Settings {
        lateness_us: 2 * MINUTE_US,
        session_gap_us: 5 * MINUTE_US,
        near_gap_us: 5 * MINUTE_US,
        seal_us: 10 * MINUTE_US,
        ..Settings::default()
    };
    let mut watcher = Watcher::new("acme", settings);
    let mut made = Maker::new();
    let (mut spent, mut fed, mut changes, mut evicted, mut recalled) = (0.0, 0, 0, 0, 0);
    while fed < events {
        let some: Vec<Made> = made.by_ref().take(BATCH).collect();
        let before = Used::now();
        for made in &some {
            made.with(|fact| watcher.feed(&fact));
        }
        recalled += watcher.wanted().len();
        watcher.advance(Micros(some[some.len() - 1].time));
        changes += watcher.poll().len();
        let sealed = watcher.sealed();
        evicted += watcher.evict(&sealed).len();
        let after = Used::now();
        spent += after.since(&before, 1);
        fed += some.len();
        if fed.is_multiple_of(MILLION) || fed >= events {
            println!(
                "{fed} events: {:.2} us an event of the last million, {changes} changes, {evicted} chains evicted, {recalled} \
                 wanted, {} in memory; {} MB by count, {} MB resident",
                spent / MILLION.min(fed) as f64,
                watcher.len(),
                watcher.bytes() >> 20,
                after.resident >> 20,
            );
            spent = 0.0;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an example is its own command line")]
fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(1)
}

/// Time and memory used so far.
struct Used {
    clock: Instant,
    cpu_us: f64,
    resident: usize,
}

impl Used {
    fn now() -> Used {
        let number = |text: &str, at: usize| text.split_whitespace().nth(at).and_then(|n| n.parse::<f64>().ok());
        // Nanoseconds of each thread; threads that ended count in the process's hundredths only.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let hundredths = number(after_name, 11).unwrap_or(0.0) + number(after_name, 12).unwrap_or(0.0);
        let main = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let nanos = number(&main, 0).unwrap_or(0.0);
        let cpu_us = (nanos / 1e3).max(hundredths * 1e4);
        let memory = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = number(&memory, 1).unwrap_or(0.0) as usize * 4096;
        Used { clock: Instant::now(), cpu_us, resident }
    }

    fn since(&self, before: &Used, events: usize) -> f64 {
        (self.cpu_us - before.cpu_us) / events as f64
    }
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

impl Made {
    fn with<R>(&self, then: impl FnOnce(Fact<'_>) -> R) -> R {
        let actors = [Party { id: self.client, ..Party::default() }, Party { id: self.agent, ..Party::default() }];
        then(Fact {
            source: self.source,
            event_id: &self.id,
            content: self.content,
            time: Micros(self.time),
            decision: Some(&self.id),
            parent: self.parent.as_deref(),
            trace: Some(&self.trace),
            span: Some(&self.span),
            session: Some(&self.session),
            issuer: Some("https://idp.corp.example"),
            subject: Some(&self.person),
            client: Some(self.client),
            token: Some(&self.token),
            proof: Proof::Verified,
            via: Via::Act,
            actors: &actors,
            server: Some(self.server),
            tool: Some(self.tool),
            args: Some(&self.args),
            outcome: Some(Outcome::Allow),
            ..Fact::default()
        })
    }
}

/// Makes events, the same every time.
struct Maker {
    dice: u64,
    made: usize,
    live: Vec<(u64, u64, Option<String>)>,
}

impl Maker {
    fn new() -> Maker {
        Maker { dice: 7, made: 0, live: Vec::new() }
    }

    fn draw(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Iterator for Maker {
    type Item = Made;

    fn next(&mut self) -> Option<Made> {
        let pick = |n: u64, all: &[&'static str]| all[(n % all.len() as u64) as usize];
        let i = self.made;
        self.made += 1;
        while self.live.len() < 400 {
            let session = (self.draw(), 4 + self.draw() % 20, None);
            self.live.push(session);
        }
        let turn = (self.draw() % self.live.len() as u64) as usize;
        let (seed, _, parent) = self.live[turn].clone();
        let id = format!("{:016X}{:010X}", self.draw(), i);
        let made = Made {
            content: u128::from(self.draw()) << 64 | u128::from(self.draw()),
            time: i as i64 * 2_000,
            source: pick(self.draw(), &["gw-0", "gw-1", "gw-2", "gw-3"]),
            person: format!("user{:04}@corp.example", seed % 2000),
            client: pick(seed >> 8, &["claude-code", "chat-desktop", "ide-copilot"]),
            agent: pick(self.draw(), &["agent:planner", "agent:mailer", "agent:coder"]),
            server: pick(self.draw(), &["https://crm-mcp.corp.example", "https://mail-mcp.corp.example"]),
            tool: pick(self.draw(), &["contact.search", "contact.read", "mail.send", "deal.update", "file.read"]),
            args: format!("hmac:{:016x}", self.draw()),
            session: format!("s-{:012x}", seed & 0xffff_ffff_ffff),
            trace: format!("{:016x}{:016x}", seed.rotate_left(9) | 1, seed.rotate_left(33) | 1),
            span: format!("{:016x}", self.draw() | 1),
            token: format!("{:016x}{:016x}", seed.rotate_left(5), seed.rotate_left(27)),
            parent,
            id: id.clone(),
        };
        if self.draw().is_multiple_of(2) {
            self.live[turn].2 = Some(id);
        }
        self.live[turn].1 -= 1;
        if self.live[turn].1 == 0 {
            self.live.swap_remove(turn);
        }
        Some(made)
    }
}
