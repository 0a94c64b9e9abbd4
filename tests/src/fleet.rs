//! A fleet of agents: native decision events, as many as wanted, the same for the same seed on every machine.
//!
//! Every session is one human, one client, one to three agents and a walk over tools. Calls carry parent decisions, trace
//! and span ids and token references, so that chains can be rebuilt from them. About 1.4 KB each; ids are 104 random bits.

use std::fmt::Write;

const SERVERS: &[(&str, &[&str])] = &[
    ("crm", &["contact.search", "contact.read", "contact.update", "deal.read", "deal.update", "export.create"]),
    ("billing", &["invoice.search", "invoice.read", "refund.create", "payment.read", "account.close"]),
    ("support", &["ticket.search", "ticket.read", "ticket.reply", "ticket.delete", "kb.search"]),
    ("mail", &["mail.search", "mail.read", "mail.send", "mail.forward"]),
    ("files", &["file.search", "file.read", "file.write", "file.share", "file.delete"]),
    ("warehouse", &["sql.query", "sql.explain", "table.describe", "table.drop"]),
    ("deploy", &["service.status", "service.restart", "config.read", "config.write"]),
    ("web", &["page.fetch", "search.query"]),
];
const CLIENTS: &[&str] = &["claude-code", "chat-desktop", "ide-copilot", "support-bot", "ops-console"];
const AGENTS: &[&str] = &["planner", "researcher", "billing-agent", "mailer", "summarizer", "sre-agent", "crm-agent"];
const WORDS: &[&str] = &[
    "invoice",
    "customer",
    "quarterly",
    "refund",
    "renewal",
    "outage",
    "latency",
    "contract",
    "escalation",
    "shipment",
    "password",
    "reset",
    "onboarding",
    "audit",
    "ledger",
    "export",
    "schedule",
    "warranty",
    "replacement",
    "migration",
    "tenant",
    "policy",
    "reviewer",
    "summary",
    "overdue",
    "balance",
];
/// Sessions that are going on at the same time.
const LIVE: usize = 400;
/// Microseconds since the epoch at which [`Fleet::event`] starts to count.
const BEGIN: i64 = 1_760_000_000_000_000;

/// Random numbers whose sequence is ours, so that no library update changes a test.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers that follow from a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next 64 bits (SplitMix64).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// True `n` times in 1000.
    pub fn per_mille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
struct Session {
    user: u64,
    client: &'static str,
    agents: Vec<&'static str>,
    id: u64,
    trace: (u64, u64),
    token: (u64, u64),
    servers: Vec<usize>,
    left: u64,
    calls: u64,
    stack: Vec<String>,
}

/// Makes events.
#[derive(Clone, Debug)]
pub struct Fleet {
    dice: Dice,
    live: Vec<Session>,
    time: i64,
    seq: u64,
}

impl Fleet {
    /// The fleet of a seed.
    pub fn new(seed: u64) -> Fleet {
        let mut fleet = Fleet { dice: Dice::new(seed), live: Vec::new(), time: BEGIN, seq: 0 };
        fleet.live = (0..LIVE).map(|_| fleet.session()).collect();
        fleet
    }

    /// Writes the next event into `out` and returns its id. Time goes on by 0.2 to 4 ms.
    pub fn event(&mut self, out: &mut String) -> String {
        self.time += 200 + self.dice.below(3800) as i64;
        self.event_at(self.time, out)
    }

    /// Writes the next event, decided at a given time in microseconds since the epoch.
    pub fn event_at(&mut self, time: i64, out: &mut String) -> String {
        let at = self.dice.below(self.live.len() as u64) as usize;
        let id = self.write(at, time, out);
        let half = self.dice.per_mille(500);
        let s = &mut self.live[at];
        s.calls += 1;
        if half {
            s.stack.push(id.clone());
        } else if s.stack.len() > 1 {
            s.stack.pop();
        }
        s.left -= 1;
        if s.left == 0 {
            self.live[at] = self.session();
        }
        self.seq += 1;
        id
    }

    fn session(&mut self) -> Session {
        let dice = &mut self.dice;
        let mut agents: Vec<&str> = Vec::new();
        for _ in 0..[1, 1, 2, 3][dice.below(4) as usize] {
            let agent = dice.of(AGENTS);
            if !agents.contains(&agent) {
                agents.push(agent);
            }
        }
        let servers =
            (0..[1, 2, 2, 3, 4][dice.below(5) as usize]).map(|_| dice.below(SERVERS.len() as u64) as usize).collect();
        Session {
            user: dice.below(2000),
            client: dice.of(CLIENTS),
            agents,
            id: dice.roll() >> 16,
            trace: (dice.roll(), dice.roll()),
            token: (dice.roll(), dice.roll()),
            servers,
            // Long and short sessions: 1 to 32, or up to 8 times that.
            left: 1 + dice.below(32) * if dice.per_mille(100) { 8 } else { 1 },
            calls: 0,
            stack: Vec::new(),
        }
    }

    fn write(&mut self, at: usize, time: i64, out: &mut String) -> String {
        let (dice, s) = (&mut self.dice, &self.live[at]);
        let (server, tools) = SERVERS[s.servers[dice.below(s.servers.len() as u64) as usize]];
        let tool = dice.of(tools);
        let action = match tool.split_once('.').map_or("", |(_, verb)| verb) {
            "search" | "query" => "query",
            "read" | "describe" | "explain" | "status" | "fetch" => "read",
            "drop" | "close" | "delete" | "restart" => "admin",
            _ => "update",
        };
        let (verdict, enforced, reason) = match dice.below(100) {
            0..6 => ("deny", "blocked", "\"scope_missing\""),
            6..9 => ("step_up", "held", "\"mfa_required\""),
            _ => ("allow", "forwarded", ""),
        };
        let depth = 1 + s.calls as usize % s.agents.len();
        let id = format!("{:010X}{:016X}", dice.roll() >> 24, dice.roll());
        let (gateway, span) = (dice.below(8), dice.roll());
        let (time, expires) = (instant(time), instant(time + 900_000_000));
        let mut put = |args: std::fmt::Arguments<'_>| out.write_fmt(args).expect("a string takes everything");
        put(format_args!(
            r#"{{"id":"{id}","time":"{time}","source":{{"kind":"catena","instance":"gw-{gateway}","seq":{}}},"decision":{{"verdict":"{verdict}","basis":"explicit","enforced":"{enforced}","phase":"invoke","policy":{{"engine":"opa","id":"mcp/authz","version":"git-9f3c1d2","rules":["tool_{action}"]}},"reasons":[{reason}]}},"#,
            self.seq
        ));
        put(format_args!(
            r#""requester":{{"id":"user{:04}@corp.example","issuer":"https://idp.corp.example","kind":"human","assurance":"verified","roles":["staff"]}},"actors":[{{"id":"client:{}","kind":"client","assurance":"verified"}}"#,
            s.user, s.client
        ));
        for agent in &s.agents[..depth] {
            put(format_args!(r#",{{"id":"agent:{agent}","kind":"agent","assurance":"verified"}}"#));
        }
        put(format_args!(
            r#"],"actors_source":"act_claim","actors_complete":true,"session":{{"id":"s-{:012x}"}},"server":{{"id":"https://{server}-mcp.corp.example","name":"{server}"}},"tool":{{"name":"{tool}","action":"{action}"}},"#,
            s.id
        ));
        put(format_args!(
            r#""call":{{"protocol":"mcp","method":"tools/call","jsonrpc_id":"{}","params":{{"q":""#,
            s.calls
        ));
        for word in 0..2 + dice.below(7) {
            put(format_args!("{}{}", if word == 0 { "" } else { " " }, dice.of(WORDS)));
        }
        put(format_args!(
            r#"","id":"{}-{}","limit":{}}}}},"token":{{"ref":"{:016x}{:016x}","proof":"verified","issuer":"https://idp.corp.example","client_id":"{}","audience":["https://{server}-mcp.corp.example"],"scope":["{server}:read","{server}:write"],"expires_at":"{expires}"}},"#,
            server.to_uppercase(),
            dice.below(100_000),
            [10, 50, 100][dice.below(3) as usize],
            s.token.0,
            s.token.1,
            s.client
        ));
        put(format_args!(r#""links":{{"trace":"{:016x}{:016x}","span":"{span:016x}""#, s.trace.0, s.trace.1));
        if let Some(parent) = s.stack.last() {
            put(format_args!(r#","parent_decision":"{parent}""#));
        }
        put(format_args!(r#"}},"network":{{"ip":"10.{}.{}.{}"}}}}"#, dice.below(8), dice.below(250), dice.below(250)));
        id
    }
}

fn instant(time: i64) -> String {
    catena_schemas::Micros(time).to_rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_events_with_ids_of_their_own() {
        let lines = |seed| {
            let mut fleet = Fleet::new(seed);
            let mut ids = std::collections::HashSet::new();
            let mut all = String::new();
            for _ in 0..2000 {
                assert!(ids.insert(fleet.event(&mut all)), "an id came twice");
                all.push('\n');
            }
            all
        };
        assert_eq!(lines(7), lines(7));
        assert_ne!(lines(7), lines(8));
        for line in lines(7).lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(event["decision"]["verdict"].is_string(), "{line}");
            assert!((700..2200).contains(&line.len()), "{} bytes: {line}", line.len());
        }
    }
}
