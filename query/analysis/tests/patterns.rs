//! Hop patterns: what they mean, how they are refused, and that a matcher without any wit finds the same.

use crate::told::Dice;
use catena_analysis::chain::rules::pattern::{Kind, Pattern, Place};
use catena_analysis::chain::rules::{Fact, Party, Settings, Store, rebuild};
use std::time::Instant;

/// A path as text: `kind=id`, or an id of no known kind.
fn path(text: &str) -> Vec<Place<'_>> {
    text.split_whitespace()
        .map(|hop| match hop.split_once('=') {
            Some((kind, id)) => Place { kind: kind_named(kind), id },
            None => Place { kind: Kind::of("", hop), id: hop },
        })
        .collect()
}

fn kind_named(name: &str) -> Kind {
    Kind::NAMED.into_iter().find(|k| k.as_str() == name).unwrap_or_default()
}

const PATH: &str = "human=alice client:cc agent=planner agent=agent:coder server=mcp:mail tool=payments.refund";

fn found(pattern: &str, hops: &str) -> Option<Vec<usize>> {
    Pattern::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}")).find(&path(hops))
}

#[test]
fn what_matches_where() {
    for (pattern, want) in [
        ("human:alice > client:* > agent:*", Some(vec![0, 1, 2])),
        ("human:alice >> tool:payments.*", Some(vec![0, 5])),
        ("human:alice > tool:payments.*", None),
        ("human:alice >> agent:* > tool:*", None),
        ("agent:* >> agent:* >> tool:*", Some(vec![2, 3, 5])),
        ("agent:planner > agent:coder", Some(vec![2, 3])),
        ("agent:agent:coder", Some(vec![3])),
        ("\"agent:coder\"", Some(vec![3])),
        ("\"agent:planner\"", None),
        ("planner", Some(vec![2])),
        ("coder", Some(vec![3])),
        ("any:coder > *:*", Some(vec![3, 4])),
        ("client:cc", Some(vec![1])),
        ("mcp:mail > payments.*", Some(vec![4, 5])),
        ("server:mcp:*", Some(vec![4])),
        ("tool:*ment*fund", Some(vec![5])),
        ("tool:payments.refund*", Some(vec![5])),
        ("tool:pay", None),
        ("Alice", None),
        ("^ human:*", Some(vec![0])),
        ("^client:*", None),
        ("^human:* >> tool:* $", Some(vec![0, 5])),
        ("agent:* $", None),
        ("tool:payments.refund$", Some(vec![5])),
        ("* > * > * > * > * > *", Some(vec![0, 1, 2, 3, 4, 5])),
        ("* > * > * > * > * > * > *", None),
        ("^ * >> * >> * $", Some(vec![0, 1, 5])),
        ("bot:*", None),
    ] {
        assert_eq!(found(pattern, PATH), want, "{pattern}");
    }
    assert_eq!(found("tool:\"send mail > now\"", ""), None);
    let spaced = [Place { kind: Kind::Tool, id: "send mail > now" }, Place { kind: Kind::Tool, id: "2*3" }];
    let find = |pattern: &str| Pattern::parse(pattern).expect("a pattern").find(&spaced);
    assert_eq!(find("tool:\"send mail > now\" > tool:2\\*3"), Some(vec![0, 1]));
    assert_eq!(find("\"*il > *\""), Some(vec![0]));
    assert_eq!(find("2\\*"), None);
    // Nobody recorded what it is: only a name can match it, and a star matches an unknown requester too.
    assert_eq!(found("agent:x", "x"), None);
    assert_eq!(found("x", "x"), Some(vec![0]));
    let unknown = [Place::default()];
    assert!(Pattern::parse("*").expect("a pattern").matches(&unknown));
    assert!(!Pattern::parse("human:*").expect("a pattern").matches(&unknown));
    assert!(!Pattern::parse("*").expect("a pattern").matches(&[]));
}

#[test]
fn refusals_name_the_column() {
    for (pattern, want) in [
        ("", "column 1: expected a hop: `kind:name`, a name or `*`, found the end"),
        ("a >", "column 4: expected a hop: `kind:name`, a name or `*`, found the end"),
        ("a > > b", "column 5: expected a hop: `kind:name`, a name or `*`, found `>`"),
        ("a >>> b", "column 5: expected a hop: `kind:name`, a name or `*`, found `>`"),
        ("a b", "column 3: expected `>`, `>>`, `$` or the end, found `b`"),
        ("ä \"b\"", "column 3: expected `>`, `>>`, `$` or the end, found `\"`"),
        ("agent: > b", "column 7: expected a name or `*` after the kind, found ` `"),
        ("tool:\"a", "column 8: expected `\"` at the end of the name, found the end"),
        ("a\\b", "column 3: expected `*`, `\\` or `\"` after the backslash, found `b`"),
        ("\"a\"$ > b", "column 6: expected the end after `$`, found `>`"),
        ("\u{1b}[2J \u{1b}", "column 6: expected `>`, `>>`, `$` or the end, found `\\u{1b}`"),
    ] {
        let error = Pattern::parse(pattern).expect_err(pattern);
        assert_eq!(error.to_string(), want, "{pattern}");
    }
    assert_eq!(Pattern::parse(&"a".repeat(5000)).expect_err("too long").column, 4097);
    let many = vec!["a"; 65].join(" > ");
    assert_eq!(Pattern::parse(&many).expect_err("too many").column, 64 * 4 + 1);
}

/// A hop of a generated pattern.
#[derive(Clone, Debug)]
struct Wanted {
    kind: Option<Kind>,
    /// None is a star.
    name: Vec<Option<char>>,
    later: bool,
}

fn naive_glob(name: &[Option<char>], text: &[char]) -> bool {
    match (name.first(), text.first()) {
        (None, None) => true,
        (None, _) => false,
        (Some(None), _) => (0..=text.len()).any(|n| naive_glob(&name[1..], &text[n..])),
        (Some(Some(c)), Some(d)) => c == d && naive_glob(&name[1..], &text[1..]),
        (Some(_), None) => false,
    }
}

fn naive_hop(wanted: &Wanted, place: &Place<'_>) -> bool {
    let is = |text: &str| naive_glob(&wanted.name, &text.chars().collect::<Vec<_>>());
    let may_carry: Vec<Kind> = match place.kind {
        Kind::Server | Kind::Tool => vec![place.kind],
        _ => Kind::NAMED.into_iter().filter(|k| !matches!(k, Kind::Server | Kind::Tool)).collect(),
    };
    let carried = may_carry.into_iter().find_map(|k| Some((k, place.id.strip_prefix(&format!("{}:", k.as_str()))?)));
    let by_rest = carried.is_some_and(|(k, rest)| wanted.kind.is_none_or(|w| w == k) && is(rest));
    wanted.kind.is_none_or(|w| w == place.kind) && is(place.id) || by_rest
}

fn naive(wanted: &[Wanted], places: &[Place<'_>], at: usize, to_end: bool) -> Option<Vec<usize>> {
    let Some(first) = wanted.first() else { return (!to_end || at == places.len()).then(Vec::new) };
    let until = if first.later { places.len() } else { places.len().min(at + 1) };
    (at..until).filter(|p| naive_hop(first, &places[*p])).find_map(|p| {
        let mut found = vec![p];
        found.extend(naive(&wanted[1..], places, p + 1, to_end)?);
        Some(found)
    })
}

#[test]
fn a_matcher_without_wit_finds_the_same() {
    const IDS: [&str; 8] = ["a", "ab", "aab", "agent:a", "agent:b", "client:a*", "tool:b", ""];
    let kinds = [Kind::Unknown, Kind::Human, Kind::Agent, Kind::Client, Kind::Server, Kind::Tool];
    let mut matched = 0;
    for seed in 0..40_000 {
        let mut dice = Dice(seed);
        let n = dice.below(7);
        let places: Vec<Place<'_>> =
            (0..n).map(|_| Place { kind: kinds[dice.below(6)], id: IDS[dice.below(8)] }).collect();
        let (from_start, to_end) = (dice.chance(20), dice.chance(20));
        let mut wanted: Vec<Wanted> = (0..1 + dice.below(4))
            .map(|_| Wanted {
                kind: dice.chance(40).then(|| kinds[1 + dice.below(5)]),
                name: (0..1 + dice.below(4))
                    .map(|_| [None, Some('a'), Some('b'), None, Some('*')][dice.below(5)])
                    .collect(),
                later: dice.chance(50),
            })
            .collect();
        let mut text = String::from(if from_start { "^" } else { "" });
        for (i, w) in wanted.iter().enumerate() {
            text.push_str(if i == 0 {
                ""
            } else if w.later {
                " >> "
            } else {
                ">"
            });
            let kind = w.kind.map_or(String::new(), |k| format!("{}:", k.as_str()));
            let name: String = w
                .name
                .iter()
                .map(|c| c.map_or("*".into(), |c| if c == '*' { "\\*".into() } else { c.to_string() }))
                .collect();
            text.push_str(&if dice.chance(20) { format!("{kind}\"{name}\"") } else { kind + &name });
        }
        text.push_str(if to_end { "$" } else { "" });
        wanted[0].later = !from_start;
        let pattern = Pattern::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let want = naive(&wanted, &places, 0, to_end);
        matched += usize::from(want.is_some());
        assert_eq!(pattern.find(&places), want, "{text} on {places:?}");
    }
    assert!((2_000..38_000).contains(&matched), "{matched}");
}

/// What makes a matcher that goes back and forth take years.
#[test]
fn hostile_patterns_take_no_time() {
    let started = Instant::now();
    let stars = "*a".repeat(2000) + "b";
    let text = "a".repeat(1_000_000);
    assert!(!Pattern::parse(&stars).expect("a pattern").matches(&[Place { kind: Kind::Tool, id: &text }]));
    let halves = format!("*{}b*", "a".repeat(4000));
    assert!(!Pattern::parse(&halves).expect("a pattern").matches(&[Place { kind: Kind::Tool, id: &text }]));
    let many = vec!["*"; 63].join(" >> ") + " >> b";
    let places = vec![Place { kind: Kind::Agent, id: "a" }; 5000];
    assert!(!Pattern::parse(&many).expect("a pattern").matches(&places));
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let n = dice.below(12);
        let text: String =
            (0..n).map(|_| ['a', '>', ' ', '"', '\\', '*', ':', '$', '^', 'é'][dice.below(10)]).collect();
        if let Err(e) = Pattern::parse(&text) {
            assert!(e.column <= text.chars().count() + 1 && e.found == text.chars().nth(e.column - 1), "{text}: {e}");
        }
    }
}

#[test]
fn an_event_has_its_path_then_server_and_tool() {
    let mut store = Store::default();
    let actors =
        [Party { id: "cc", kind: Some("client"), ..Party::default() }, Party { id: "agent:coder", ..Party::default() }];
    let base = Fact { actors: &actors, server: Some("repo"), tool: Some("push"), trace: Some("1"), ..Fact::default() };
    store.tell(&Fact { event_id: "e1", subject: Some("alice"), ..base });
    store.tell(&Fact { event_id: "e2", ..base });
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    let mut seen: Vec<Vec<String>> = Vec::new();
    for chain in &chains {
        for event in 0..chain.links.len() {
            let places = chain.places(&store, event);
            seen.push(places.iter().map(|p| format!("{} {}", p.kind.as_str(), p.id)).collect());
            let pattern = Pattern::parse("client:* > agent:coder > server:repo > push$").expect("a pattern");
            assert!(pattern.matches(&places));
        }
    }
    seen.sort();
    let rest = ["client cc", "agent agent:coder", "server repo", "tool push"];
    assert_eq!(seen, [["human alice"], ["unknown "]].map(|root| [&root[..], &rest].concat()));
}
