//! Delegation and calls as lines of text, for tests: the smallest story that shows the point.
//!
//! Guarantee: a story gives the same events and records every time; a line that is not understood is an error with its
//! number, never skipped.
//!
//! ```text
//! # alice lets planner act for her; planner passes it on; the last hop exceeds its scope
//! 10:00:00  alice      -> planner      grant  calendar.read, mail.read
//! 10:00:02  planner    -> summarizer   grant  mail.read                   id=g7 until=10:30:00
//! 10:00:05  summarizer => mcp:mail     call   mail.read    allow
//! 10:00:06  summarizer => mcp:mail     call   mail.send    deny  "not delegated"  session=s1 parent=e1
//! ```
//!
//! A line is `[time] who (->|=>) whom verb ... [key=value ...]`; `#` starts a comment; `"..."` holds what has spaces.
//!
//! - **time** is `HH:MM:SS[.fraction]` on 2026-01-01 UTC, or RFC 3339. Without one a line is a second after the line
//!   before; the first is at 10:00:00.
//! - **`a -> b grant x, y`**: `a` lets `b` act with the scopes `x` and `y`. Keys: `id` (else `g1`, `g2` ...), `from`, `until`,
//!   `revoked`, `parent` (grant), `basis`, `depth` (how often it may be passed on), `standing`, `to` (whom it may be passed
//!   on to), `purpose`, `server` (the scopes are capabilities on it as well).
//! - **`a -> b reauth x`**: `a` allows `b` to go beyond, with `x`. Keys: `id` (else `r1` ...), `anchor` (event), `use`, `until`, `method`.
//! - **`b => server call tool verdict ["reason" ...]`**: a decision. Keys: `id` (else `e1`, `e2` ...), `session`, `run`, `task`,
//!   `trace`, `span`, `parent_span`, `parent` (event id), `origin`, `request`, `grant`, `for` (requester), `scope`, `aud`, `resource`, `token`,
//!   `txn`, `action`, `impact`, `policy`, `enforced`, `phase`, `source`, `seq`, `actors_source`, `state_in`, `state_out`, `in`, `out` (handles).
//!
//! **The actors of a call** follow from the `->` lines above it: from the caller up to whoever let it act, most recent
//! line first (`grant=g7` chooses another; a ring is walked once), until nobody did. Who stands there is the requester;
//! the others are the actors, root first. A caller whom nobody let act is an actor without a requester. Lists hold commas,
//! no spaces (`scope=a,b`). Names starting with `client:`, `agent:`, `workload:` or `bot:` have that kind; other requesters
//! are persons, other actors agents.

mod arbitrary;
pub mod full;

pub use arbitrary::{entries, events, rejections, string, time};

use crate::authority::{Authority, Capability, Envelope, Grant, Reauth, ReauthTerms, Record, Terms};
use crate::event::{Actor, Basis, Enforced, Event, Outcome, Phase, Text, Texts};
use crate::time::Micros;
use crate::wire::{Id, Instant, Source};
use std::collections::BTreeMap;

/// A story: what was decided and what was granted.
#[derive(Clone, Debug, Default)]
pub struct Fixture {
    /// The calls, in the order of their lines.
    pub events: Vec<Event<'static>>,
    /// The grants and re-authorizations, in the order of their lines.
    pub authority: Vec<Record>,
}

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct FixtureError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Fixture {
    /// Reads a story.
    pub fn parse(text: &str) -> Result<Fixture, FixtureError> {
        let mut story = Story::default();
        for (i, line) in text.lines().enumerate() {
            story.line(line).map_err(|what| FixtureError { line: i + 1, what })?;
        }
        Ok(story.told)
    }

    /// The events of a story that is known to be well-formed.
    ///
    /// # Panics
    /// At the first line that is not, with its number.
    pub fn events(text: &str) -> Vec<Event<'static>> {
        match Fixture::parse(text) {
            Ok(fixture) => fixture.events,
            Err(e) => panic!("{e}"),
        }
    }
}

/// 2026-01-01T00:00:00Z, the day that every story happens on.
const DAY: Micros = Micros(1_767_225_600_000_000);
const SECOND_US: i64 = 1_000_000;

#[derive(Default)]
struct Story {
    told: Fixture,
    now: Option<Micros>,
    /// Who let whom act, in order: grantor, grantee, id of the grant.
    hops: Vec<(String, String, String)>,
    reauths: usize,
}

/// A word of a line; quoted ones are never keys, arrows or verbs.
#[derive(Debug)]
struct Word {
    text: String,
    quoted: bool,
}

type Parsed<T> = Result<T, String>;

impl Story {
    fn line(&mut self, line: &str) -> Parsed<()> {
        let mut words = split(line)?;
        if words.is_empty() {
            return Ok(());
        }
        let after = self.now.map_or(Micros(DAY.0 + 10 * 3600 * SECOND_US), |now| Micros(now.0 + SECOND_US));
        let time = match instant(&words[0]) {
            Some(time) => {
                words.remove(0);
                time
            }
            None => after,
        };
        self.now = Some(time);
        let mut keys = Keys::take(&mut words)?;
        let mut words = words.into_iter();
        let mut next = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
        let (who, arrow, whom, verb) =
            (next("who acts")?.text, next("`->` or `=>`")?.text, next("on whom")?.text, next("the verb")?.text);
        let rest: Vec<Word> = words.collect();
        match (arrow.as_str(), verb.as_str()) {
            ("->", "grant") => self.grant(time, who, whom, &rest, &mut keys)?,
            ("->", "reauth") => self.reauth(time, who, whom, &rest, &mut keys)?,
            ("=>", "call") => self.call(time, who, whom, rest, &mut keys)?,
            ("->" | "=>", _) => {
                return Err(format!("`{arrow} {verb}` is not a verb: `-> grant`, `-> reauth` and `=> call` are"));
            }
            _ => return Err(format!("`{arrow}` is not `->` or `=>`")),
        }
        keys.nothing_left()
    }

    fn grant(
        &mut self,
        time: Micros,
        grantor: String,
        grantee: String,
        scopes: &[Word],
        keys: &mut Keys,
    ) -> Parsed<()> {
        let number = self.hops.len() + 1;
        let id = keys.text("id").unwrap_or_else(|| format!("g{number}"));
        let scope = list(scopes);
        let capability = keys.text("server").map(|server| {
            let atom = |action: &String| Capability {
                server: Some(server.clone()),
                action: Some(action.clone()),
                ..Capability::default()
            };
            scope.iter().map(atom).collect()
        });
        let terms = Terms {
            parent_grant: keys.text("parent"),
            purposes: keys.list("purpose"),
            delegatees: keys.list("to"),
            max_redelegation: keys.number("depth")?,
            basis: keys.text("basis"),
            valid_from: keys.instant("from")?,
            valid_to: keys.instant("until")?,
            revoked_at: keys.instant("revoked")?,
            standing: keys.boolean("standing")?,
            version: None,
        };
        let authority = Authority { scope: Some(several(scope)), capability, ..Authority::default() };
        let record = Grant {
            grant_id: id.clone(),
            grantor: Id::Text(grantor.clone()),
            grantee: Id::Text(grantee.clone()),
            authority,
            terms,
        };
        self.told.authority.push(Record::Grant(envelope(format!("grant-{number}"), time, record)));
        self.hops.push((grantor, grantee, id));
        Ok(())
    }

    fn reauth(&mut self, time: Micros, approver: String, by: String, scopes: &[Word], keys: &mut Keys) -> Parsed<()> {
        self.reauths += 1;
        let number = self.reauths;
        let terms = ReauthTerms {
            method: keys.text("method"),
            anchor: keys.text("anchor"),
            r#use: keys.text("use"),
            valid_to: keys.instant("until")?,
            ..ReauthTerms::default()
        };
        let record = Reauth {
            reauth_id: keys.text("id").unwrap_or_else(|| format!("r{number}")),
            by: Id::Text(by),
            approver: Id::Text(approver),
            at: Instant::Text(time.to_rfc3339()),
            new_authority: Authority { scope: Some(several(list(scopes))), ..Authority::default() },
            terms,
        };
        self.told.authority.push(Record::Reauth(envelope(format!("reauth-{number}"), time, record)));
        Ok(())
    }

    fn call(&mut self, time: Micros, caller: String, server: String, words: Vec<Word>, keys: &mut Keys) -> Parsed<()> {
        let mut words = words.into_iter();
        let tool = words.next().ok_or("the tool is missing")?.text;
        let verdict = words.next().ok_or("the verdict is missing")?.text;
        let outcome = Outcome::parse(&verdict)
            .ok_or_else(|| format!("`{verdict}` is not a verdict: allow, deny, step_up, error or unknown"))?;
        let number = self.told.events.len() + 1;
        let mut event =
            Event { id: keys.text("id").unwrap_or_else(|| format!("e{number}")).into(), time, ..Event::default() };
        event.grant.id = keys.cow("grant");
        let path = self.path(&caller, event.grant.id.as_deref());
        let requester = keys.text("for").or_else(|| (path.len() > 1).then(|| path[0].clone()));
        if let Some(person) = requester {
            event.requester.kind = Some(kind(&person).unwrap_or("human").to_owned().into());
            event.requester.id = Some(person.into());
            event.requester.assurance = Some("verified".into());
        }
        event.actors = path[usize::from(path.len() > 1)..].iter().map(|name| actor(name)).collect();
        event.actors_source = keys.cow("actors_source").or(Some("declared".into()));
        event.decision.outcome = outcome;
        event.decision.basis = Some(Basis::Explicit);
        event.decision.enforced = match keys.word("enforced", Enforced::parse)? {
            None => enforced(outcome),
            given => given,
        };
        event.decision.phase = keys.word("phase", Phase::parse)?.or(Some(Phase::Invoke));
        event.decision.policy_id = keys.cow("policy");
        event.decision.reasons = words.map(|w| w.text.into()).collect();
        event.source.kind = Some("catena".into());
        event.source.instance = keys.cow("source").or(Some("fixture".into()));
        event.source.seq = keys.number("seq")?;
        event.source.decision_count = 1;
        event.server.id = Some(server.into());
        event.tool.name = Some(tool.into());
        event.tool.action = keys.cow("action");
        event.tool.impact = keys.number("impact")?;
        event.session.id = keys.cow("session");
        event.session.run = keys.cow("run");
        event.session.task = keys.cow("task");
        event.links.trace = keys.cow("trace");
        event.links.span = keys.cow("span");
        event.links.parent_span = keys.cow("parent_span");
        event.links.parent_decision = keys.cow("parent");
        event.links.parent_origin = keys.cow("origin");
        event.links.request = keys.cow("request");
        event.token.reference = keys.cow("token");
        event.token.scope = keys.cows("scope");
        event.token.audience = keys.cows("aud");
        event.token.txn = keys.cow("txn");
        event.call.resources = keys.cows("resource");
        event.call.state_in = keys.cow("state_in");
        event.call.state_out = keys.cow("state_out");
        event.call.handles_in = keys.cows("in");
        event.call.handles_out = keys.cows("out");
        self.told.events.push(event);
        Ok(())
    }

    /// Who let the caller act, root first, the caller last. `grant` chooses the last hop.
    fn path(&self, caller: &str, grant: Option<&str>) -> Vec<String> {
        let mut path = vec![caller.to_owned()];
        let mut wanted = grant.filter(|grant| self.hops.iter().any(|hop| hop.1 == caller && hop.2 == *grant));
        loop {
            let at = path.last().expect("the path starts with the caller");
            let leads_on = |hop: &&(String, String, String)| hop.1 == *at && !path.contains(&hop.0);
            let hop = self.hops.iter().rev().filter(leads_on).find(|hop| wanted.is_none_or(|grant| hop.2 == grant));
            wanted = None;
            match hop {
                Some((grantor, ..)) => path.push(grantor.clone()),
                None => break,
            }
        }
        path.reverse();
        path
    }
}

fn envelope<T>(id: String, time: Micros, record: T) -> Envelope<T> {
    let source = Source { kind: Some("catena".into()), instance: Some("fixture".into()), ..Source::default() };
    Envelope { id, time: Instant::Text(time.to_rfc3339()), source: Some(source), record }
}

/// The kind that a name begins with.
fn kind(name: &str) -> Option<&str> {
    let (kind, _) = name.split_once(':')?;
    matches!(kind, "client" | "agent" | "workload" | "bot").then_some(kind)
}

fn actor(name: &str) -> Actor<'static> {
    let kind = kind(name).unwrap_or("agent").to_owned();
    Actor { kind: Some(kind.into()), assurance: Some("verified".into()), ..Actor::named(name.to_owned()) }
}

fn enforced(outcome: Outcome) -> Option<Enforced> {
    match outcome {
        Outcome::Allow => Some(Enforced::Forwarded),
        Outcome::Deny => Some(Enforced::Blocked),
        Outcome::StepUp => Some(Enforced::Held),
        Outcome::Error | Outcome::Unknown => None,
    }
}

fn several(texts: Vec<String>) -> crate::wire::Texts {
    crate::wire::Texts::Several(texts)
}

/// `a, b,c` in any spacing.
fn list(words: &[Word]) -> Vec<String> {
    words.iter().flat_map(|w| w.text.split(',')).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Words, comment cut off.
fn split(line: &str) -> Parsed<Vec<Word>> {
    let mut words: Vec<Word> = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        if c == '#' {
            break;
        }
        let mut word = Word { text: String::new(), quoted: c == '"' };
        let mut inside = false;
        while let Some(&c) = chars.peek() {
            if c.is_whitespace() && !inside {
                break;
            }
            chars.next();
            if c == '"' {
                inside = !inside;
            } else {
                word.text.push(c);
            }
        }
        if inside {
            return Err("a quote is not closed".into());
        }
        words.push(word);
    }
    Ok(words)
}

/// `HH:MM:SS[.fraction]` on the day of the story, or RFC 3339.
fn instant(word: &Word) -> Option<Micros> {
    let on_the_day = || Micros::parse_rfc3339(&format!("2026-01-01T{}Z", word.text));
    if word.quoted { None } else { Micros::parse_rfc3339(&word.text).or_else(on_the_day) }
}

/// The `key=value` words of a line, taken one by one.
struct Keys(BTreeMap<String, String>);

impl Keys {
    /// Removes them from the words.
    fn take(words: &mut Vec<Word>) -> Parsed<Keys> {
        let mut keys = Keys(BTreeMap::new());
        let mut fault = None;
        words.retain(|word| match word.text.split_once('=') {
            Some((key, value)) if !word.quoted && !key.is_empty() && !value.starts_with('>') => {
                if keys.0.insert(key.to_owned(), value.to_owned()).is_some() {
                    fault = Some(format!("`{key}` stands twice"));
                }
                false
            }
            _ => true,
        });
        fault.map_or(Ok(keys), Err)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    fn cow(&mut self, key: &str) -> Text<'static> {
        self.text(key).map(Into::into)
    }

    fn cows(&mut self, key: &str) -> Texts<'static> {
        let text = self.text(key).unwrap_or_default();
        text.split(',').filter(|s| !s.is_empty()).map(|s| s.to_owned().into()).collect()
    }

    fn list(&mut self, key: &str) -> Option<crate::wire::Texts> {
        self.text(key).map(|text| several(text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()))
    }

    fn word<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Parsed<Option<T>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| format!("`{key}` is not `{text}`"))
    }

    fn number<T: std::str::FromStr>(&mut self, key: &str) -> Parsed<Option<T>> {
        self.word(key, |text| text.parse().ok())
    }

    fn boolean(&mut self, key: &str) -> Parsed<Option<bool>> {
        self.number(key)
    }

    fn instant(&mut self, key: &str) -> Parsed<Option<Instant>> {
        let time = self.word(key, |text| instant(&Word { text: text.to_owned(), quoted: false }))?;
        Ok(time.map(|time| Instant::Text(time.to_rfc3339())))
    }

    fn nothing_left(&self) -> Parsed<()> {
        match self.0.keys().next() {
            Some(key) => Err(format!("`{key}` is not a key of this verb")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Who acts for whom, how far, and what came of it.
    fn check(story: &str, want: Expect) {
        let got = match Fixture::parse(story) {
            Ok(fixture) => fixture.events.iter().map(|e| line(e) + "\n").collect::<String>(),
            Err(e) => e.to_string(),
        };
        want.assert_eq(got.trim_end());
    }

    fn line(e: &Event<'_>) -> String {
        let text = |t: &Text<'_>| t.as_deref().unwrap_or("-").to_owned();
        let actors: Vec<&str> = e.actors.iter().map(|a| a.id.as_ref()).collect();
        let time = &e.time.to_rfc3339()[11..19];
        let reasons: String = e.decision.reasons.iter().map(|reason| format!(", {reason}")).collect();
        let path = format!("{} -> {}", text(&e.requester.id), actors.join(" -> "));
        format!(
            "{time} {} {path} => {} {} {}{reasons}",
            e.id,
            text(&e.server.id),
            text(&e.tool.name),
            e.decision.outcome.as_str()
        )
    }

    #[test]
    fn a_story() {
        check(
            r#"
            # alice lets planner act for her; planner passes it on; the last hop exceeds its scope
            10:00:00  alice      -> planner      grant  calendar.read, mail.read
            10:00:02  planner    -> summarizer   grant  mail.read
            10:00:05  summarizer => mcp:mail     call   mail.read    allow
            10:00:06  summarizer => mcp:mail     call   mail.send    deny  "not delegated"   # the end
            "#,
            expect![[r#"
                10:00:05 e1 alice -> planner -> summarizer => mcp:mail mail.read allow
                10:00:06 e2 alice -> planner -> summarizer => mcp:mail mail.send deny, not delegated"#]],
        );
    }

    #[test]
    fn times_and_ids_follow_when_they_are_left_out() {
        check(
            "alice -> planner grant a\nplanner => tool call b deny\n\nplanner => tool call b allow id=x",
            expect![[r#"
            10:00:01 e1 alice -> planner => tool b deny
            10:00:02 x alice -> planner => tool b allow"#]],
        );
        check(
            "2026-03-01T08:00:00+01:00 a => s call t allow\na => s call t allow",
            expect![[r#"
            07:00:00 e1 - -> a => s t allow
            07:00:01 e2 - -> a => s t allow"#]],
        );
    }

    #[test]
    fn paths_lead_up_to_a_person() {
        check("planner => tool call b unknown", expect!["10:00:00 e1 - -> planner => tool b unknown"]);
        check("planner => tool call b unknown for=alice", expect!["10:00:00 e1 alice -> planner => tool b unknown"]);
        check(
            "a -> b grant x\nb -> c grant x\nc -> b grant x\nc => s call t allow\nb => s call t allow",
            expect![[r#"
                10:00:03 e1 a -> b -> c => s t allow
                10:00:04 e2 c -> b => s t allow"#]],
        );
        check(
            "a -> c grant x\nb -> c grant x\nc => s call t allow\nc => s call t allow grant=g1\nc => s call t allow grant=other",
            expect![[r#"
            10:00:02 e1 b -> c => s t allow
            10:00:03 e2 a -> c => s t allow
            10:00:04 e3 b -> c => s t allow"#]],
        );
        check(
            "c => s call t allow\na -> c grant x\nc => s call t allow",
            expect![[r#"
            10:00:00 e1 - -> c => s t allow
            10:00:02 e2 a -> c => s t allow"#]],
        );
    }

    #[test]
    fn faults_have_a_line_and_a_reason() {
        check("a -> b grant x\n\nb", expect!["line 3: `->` or `=>` is missing"]);
        check("b =>", expect!["line 1: on whom is missing"]);
        check("b => s", expect!["line 1: the verb is missing"]);
        check("b = s call t allow", expect!["line 1: `=` is not `->` or `=>`"]);
        check("b => s dance", expect!["line 1: `=> dance` is not a verb: `-> grant`, `-> reauth` and `=> call` are"]);
        check(
            "b -> s call t allow",
            expect!["line 1: `-> call` is not a verb: `-> grant`, `-> reauth` and `=> call` are"],
        );
        check("b => s call", expect!["line 1: the tool is missing"]);
        check("b => s call t", expect!["line 1: the verdict is missing"]);
        check(
            "b => s call t maybe",
            expect!["line 1: `maybe` is not a verdict: allow, deny, step_up, error or unknown"],
        );
        check("b => s call t deny \"open", expect!["line 1: a quote is not closed"]);
        check("b => s call t deny colour=red", expect!["line 1: `colour` is not a key of this verb"]);
        check("b => s call t deny id=1 id=2", expect!["line 1: `id` stands twice"]);
        check("b => s call t deny impact=high", expect!["line 1: `impact` is not `high`"]);
        check("b => s call t deny enforced=perhaps", expect!["line 1: `enforced` is not `perhaps`"]);
        check("a -> b grant x until=noon", expect!["line 1: `until` is not `noon`"]);
    }

    #[test]
    fn keys_land_in_their_fields() {
        let story = r#"c => s call t step_up "more scope" session=s1 run=r1 task=t1 trace=tr span=sp parent_span=ps parent=e0 origin=client request=q
            "#;
        let event = &Fixture::events(story)[0];
        assert_eq!(event.session.id.as_deref(), Some("s1"));
        assert_eq!(event.links.parent_decision.as_deref(), Some("e0"));
        assert_eq!(event.links.parent_origin.as_deref(), Some("client"));
        assert_eq!(event.decision.enforced, Some(Enforced::Held));
        assert_eq!(event.decision.reasons, ["more scope"]);
        let story = "agent:c => s call t allow scope=a,b aud=x resource=f:1 token=hmac:1 in=h1,h2 impact=3 enforced=none phase=plan policy=p seq=7";
        let event = &Fixture::events(story)[0];
        assert_eq!(event.token.scope, ["a", "b"]);
        assert_eq!(event.call.handles_in, ["h1", "h2"]);
        assert_eq!((event.tool.impact, event.source.seq), (Some(3), Some(7)));
        assert_eq!((event.decision.enforced, event.decision.phase), (Some(Enforced::None), Some(Phase::Plan)));
        assert_eq!(event.actors[0].kind.as_deref(), Some("agent"));
    }

    #[test]
    fn grants_are_records_of_authority() {
        let story = "10:00:00 alice -> planner grant mail.read,mail.send id=g7 until=10:30:00 depth=1 to=summarizer server=mcp:mail standing=true
            alice -> planner reauth mail.delete anchor=e1 use=single_op";
        let records = Fixture::parse(story).expect("a story").authority;
        let json = serde_json::to_string_pretty(&records).expect("JSON");
        expect![[r#"
            [
              {
                "kind": "grant",
                "id": "grant-1",
                "time": "2026-01-01T10:00:00.000000Z",
                "source": {
                  "kind": "catena",
                  "instance": "fixture"
                },
                "grant_id": "g7",
                "grantor": "alice",
                "grantee": "planner",
                "authority": {
                  "scope": [
                    "mail.read",
                    "mail.send"
                  ],
                  "capability": [
                    {
                      "server": "mcp:mail",
                      "action": "mail.read"
                    },
                    {
                      "server": "mcp:mail",
                      "action": "mail.send"
                    }
                  ]
                },
                "delegatees": [
                  "summarizer"
                ],
                "max_redelegation": 1,
                "valid_to": "2026-01-01T10:30:00.000000Z",
                "standing": true
              },
              {
                "kind": "reauth",
                "id": "reauth-1",
                "time": "2026-01-01T10:00:01.000000Z",
                "source": {
                  "kind": "catena",
                  "instance": "fixture"
                },
                "reauth_id": "r1",
                "by": "planner",
                "approver": "alice",
                "at": "2026-01-01T10:00:01.000000Z",
                "new_authority": {
                  "scope": [
                    "mail.delete"
                  ]
                },
                "anchor": "e1",
                "use": "single_op"
              }
            ]"#]]
        .assert_eq(&json);
    }

    #[test]
    #[should_panic(expected = "line 2: the verdict is missing")]
    fn a_broken_story_stops_its_test() {
        Fixture::events("# title\na => s call t");
    }
}
