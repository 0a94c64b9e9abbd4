//! Stories in, SVG out: what stands in the picture, that it is well-formed, the same every time, and bounded.

use crate::told::{Dice, rich};
use catena_analysis::authority::Bounds;
use catena_analysis::chain::rules::{Chain, Fact, Lists, Party, Settings, Store, Terms, rebuild};
use catena_schemas::fixture::Fixture;
use catena_schemas::{Micros, Outcome};
use expect_test::{Expect, expect};
use std::collections::BTreeMap;
use std::time::Duration;

/// The chains of a story as SVG.
fn pictures(story: &str) -> Vec<String> {
    let told = Fixture::parse(story).unwrap_or_else(|e| panic!("{e}"));
    let (mut store, mut terms) = (Store::default(), Terms::default());
    for record in &told.authority {
        terms.book.enter(record);
    }
    for (i, event) in told.events.iter().enumerate() {
        let mut lists = Lists::default();
        store.tell(&Fact::of(event, i as u128, &mut lists));
    }
    let chains = rebuild("acme", &mut store, &terms.book.exchanged(), &Settings::default()).chains;
    chains.iter().map(|c| svg(c, &store, &terms)).collect()
}

fn svg(chain: &Chain, store: &Store, terms: &Terms) -> String {
    let bounds: Vec<Bounds> = if terms.book.is_empty() { Vec::new() } else { chain.all_bounds(store, terms) };
    let svg = chain.svg(store, &bounds);
    let elements = parse(&svg);
    assert!(!overlaps(&elements), "boxes overlap:\n{svg}");
    svg
}

/// An element: name, attributes, text. Whatever is not well-formed, or could do anything, panics.
#[derive(Debug)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
}

/// A parser that knows the little XML that a picture may hold, and nothing else.
fn parse(svg: &str) -> Vec<Element> {
    let is_xml = |c: char| matches!(c, '\n' | ' '..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    assert!(svg.chars().all(is_xml), "a character that XML does not know, or that is obeyed");
    let (mut all, mut open, mut rest) = (Vec::new(), Vec::new(), svg);
    while let Some(start) = rest.find('<') {
        let text = unescape(&rest[..start]);
        if let Some(at) = open.last() {
            let element: &mut Element = &mut all[*at];
            element.text.push_str(&text);
        } else {
            assert_eq!(text, "");
        }
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let at: usize = open.pop().expect("something is open");
            assert_eq!(all[at].name, name);
            continue;
        }
        let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(["svg", "style", "rect", "path", "ellipse", "text", "title", "g"].contains(&name), "<{name}>");
        if !is_empty {
            open.push(all.len());
        }
        all.push(Element { name: name.into(), attributes: attributes_of(attributes), text: String::new() });
    }
    assert_eq!((rest, open.len()), ("\n", 0));
    all
}

fn attributes_of(mut rest: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    while let Some((name, value)) = rest.trim_start().split_once("=\"") {
        let (value, more) = value.split_once('"').expect("a value ends");
        const KNOWN: &str = "xmlns class role aria-label width height viewBox x y rx ry cx cy d text-anchor data-event";
        assert!(KNOWN.split(' ').any(|k| k == name), "attribute {name}");
        assert!(all.insert(name.to_owned(), unescape(value)).is_none(), "{name} twice");
        rest = more;
    }
    assert_eq!(rest.trim(), "");
    all
}

fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (entity, c) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")] {
        plain = plain.replace(entity, c);
    }
    let entities = ["&lt;", "&gt;", "&quot;", "&#39;", "&amp;"].iter().map(|e| text.matches(e).count()).sum::<usize>();
    assert_eq!(entities, text.matches('&').count(), "{text}");
    plain
}

fn overlaps(elements: &[Element]) -> bool {
    let number = |e: &Element, name: &str| e.attributes.get(name).and_then(|v| v.parse::<i64>().ok());
    let boxes: Vec<[i64; 4]> = elements
        .iter()
        .filter(|e| e.name == "rect" && e.attributes.get("class").is_some_and(|c| c.starts_with("box")))
        .filter_map(|e| Some([number(e, "x")?, number(e, "y")?, number(e, "width")?, number(e, "height")?]))
        .collect();
    let cross = |a: &[i64; 4], b: &[i64; 4]| {
        a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3]
    };
    boxes.iter().enumerate().any(|(i, a)| boxes[i + 1..].iter().any(|b| cross(a, b)))
}

/// What a picture says, without its places: boxes with their shape and texts, then lines.
fn says(svg: &str) -> String {
    let mut out = String::new();
    let elements = parse(svg);
    for e in elements.iter().filter(|e| !["svg", "style", "g", "title"].contains(&e.name.as_str())) {
        let class = e.attributes.get("class").map_or("", String::as_str);
        match (e.name.as_str(), class.split(' ').next().unwrap_or_default()) {
            (_, "ground" | "sign" | "head") => {}
            ("text", _) => out.push_str(&format!("{} | ", e.text)),
            (shape, "box") => out.push_str(&format!("\n{shape} {class}: ")),
            (_, "edge") if class != "edge" => out.push_str(&format!("({class}) ")),
            _ => {}
        }
    }
    out.push('\n');
    let id = elements[0].attributes["aria-label"].split([' ', '.']).nth(1).expect("an id").to_owned();
    out.lines().map(|l| l.trim_end().replace(&id, "c") + "\n").collect()
}

fn check(story: &str, want: Expect) {
    want.assert_eq(&pictures(story).iter().map(|p| says(p)).collect::<Vec<_>>().join("\n"));
}

const WIDENED: &str = "
    alice      -> planner    grant  calendar.read, mail.read              server=mcp:mail
    planner    -> summarizer grant  mail.read, mail.send                  server=mcp:mail
    summarizer => mcp:mail   call   mail.read  allow  session=s1
    summarizer => mcp:mail   call   mail.read  allow  session=s1
    summarizer => mcp:mail   call   mail.send  deny   session=s1
";

#[test]
fn a_hop_that_widens() {
    check(
        WIDENED,
        expect![[r#"
        chain c · for alice | 3 calls in 3 operations · lineage root · confidence 0.55 · coverage 0.00 | P7 0.60 | (edge wide) P7 0.60 | WIDENED |
        rect box party: human · P7 0.60 | alice |
        path box party: agent | planner | granted calendar.read, mail.read |
        path box party wide: agent | summarizer | granted mail.read, mail.send | WIDENED by mail.send | bound mail.read |
        rect box call: mcp:mail | mail.read  × 2 | allow |
        rect box call wide: mcp:mail | mail.send | deny | OUT OF BOUNDS |
    "#]],
    );
}

const STEP_UP: &str = "
    10:00:00 alice   -> client:cc     grant   mail.read   server=mcp:mail
    10:00:01 client:cc -> agent:planner grant   mail.read   server=mcp:mail
    10:00:05 agent:planner => mcp:mail call    mail.send   step_up  state_out=q1 id=e1
    10:00:30 agent:planner => mcp:mail call    mail.send   allow    state_in=q1
    10:00:40 agent:coder => repo call    push   deny    parent=e1 for=alice
    10:00:50 agent:coder => repo call    pull   allow    parent=e1 trace=4bf9 parent_span=02 for=alice
    10:00:20 agent:planner => repo call   clone  allow    parent=e1 trace=4bf9 span=02 for=alice
";

#[test]
fn attempts_sub_agents_and_further_parents() {
    check(
        STEP_UP,
        expect![[r#"
        chain c · for alice | 5 calls in 4 operations · lineage root · confidence 0.60 · coverage 0.00 | P7 0.60 | P7 0.60 | C2 0.92 | P7 0.60 | C2 0.92 | C2 0.92 | (edge further) also C4 |
        rect box party: human · P7 0.60 | alice |
        rect box party: client | client:cc | granted mail.read |
        path box party: agent | agent:planner | granted mail.read |
        rect box call wide: mcp:mail | mail.send | step_up → allow | OUT OF BOUNDS |
        rect box call wide: repo | clone | allow | OUT OF BOUNDS |
        path box party: agent | agent:coder |
        rect box call wide: repo | push | deny | OUT OF BOUNDS |
        rect box call wide: repo | pull | allow | OUT OF BOUNDS |
    "#]],
    );
}

const LINEAGE: &str = "
    planner => mcp:mail call b allow for=alice parent=gone trace=4bf9 id=e0
    coder => mcp:mail call c deny trace=4bf9 parent=gone
    10:00:03 a => s call one   allow id=e1 parent=e3 for=alice
    10:00:01 a => s call two   error id=e2 parent=e1 for=alice trace=4bf8 span=01
    10:00:02 a => s call three allow id=e3 trace=4bf8 parent_span=01 for=alice
    10:00:09 b => s call four unknown
";

#[test]
fn what_is_missing_cut_and_unknown() {
    check(
        LINEAGE,
        expect![[r#"
            chain c · for alice | 5 calls in 5 operations · lineage orphan · 2 without their parent · 1 cut from a ring · confidence 0.00 · coverage 0.00 | (edge lost) (edge lost) P7 0.60 | P7 0.60 | P7 0.60 | C2 0.92 | C2 0.92 |
            ellipse box absent: decision | gone | is not here |
            rect box party: human · P7 0.60 | alice |
            rect box party: human · P7 0.60 | alice |
            rect box absent: requester | unknown |
            path box party: agent | a |
            path box party: agent | planner |
            path box party: agent | coder |
            rect box call: s | three | allow | cut: its parent leads back to it |
            rect box call: mcp:mail | b | allow |
            rect box call: mcp:mail | c | deny | the record changed |
            rect box call: s | one | allow |
            rect box call: s | two | error | the record changed |

            chain c | 1 call in 1 operation · lineage unknown · 1 of unknown origin · confidence 0.00 · coverage 0.00 | P7 0.60 |
            rect box absent: requester | unknown |
            path box party: agent | b |
            rect box call: s | four | unknown |
        "#]],
    );
}

#[test]
fn hostile_names_stay_in_their_places() {
    let names = [
        "</text><script>alert(1)</script>",
        "\" onload=\"x\" x=\"",
        "'&amp;<!--]]>",
        "al\u{1b}[2Jice\n└─ bob",
        "\u{202e}gnp.exe\u{0}\u{fffe}\u{ffff}\u{feff}",
        "<image href=\"https://evil.example/\"/>",
        &"e\u{301}".repeat(500),
        &"漢".repeat(100),
        &"\u{301}".repeat(9000),
        "javascript:alert(1)",
        "url(https://evil.example/)",
        "}text{display:none}",
    ];
    for name in names {
        let mut store = Store::default();
        let actors = [Party { id: name, kind: Some(name), ..Party::default() }];
        for (event, tool) in [(name, name), ("other", "tool")] {
            store.tell(&Fact {
                event_id: event,
                source: name,
                subject: Some(name),
                issuer: Some(name),
                subject_kind: Some(name),
                actors: &actors,
                server: Some(name),
                tool: Some(tool),
                parent: Some("\u{202e}<x>"),
                outcome: Some(Outcome::Deny),
                ..Fact::default()
            });
        }
        let chain = &rebuild("acme", &mut store, &[], &Settings::default()).chains[0];
        let picture = svg(chain, &store, &Terms::default());
        assert!(picture.len() < 60_000, "{}", picture.len());
        let elements = parse(&picture);
        assert_eq!(elements.iter().filter(|e| e.name == "style").count(), 1);
        let style = &elements.iter().find(|e| e.name == "style").expect("a style").text;
        assert!(!style.contains("url(") && !style.contains("@import") && !style.contains("evil"));
        let width: i64 = elements[0].attributes["width"].parse().expect("a number");
        assert!(width < 3000, "{width}");
    }
}

/// The same events in another order give the same bytes; odd graphs neither panic nor overlap.
#[test]
fn the_same_chain_gives_the_same_bytes() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let n = 1 + dice.below(40);
        let mut set = rich(&mut dice, n);
        set.retain(|t| t.tenant == "t0");
        let draw = |set: &[crate::told::Told]| {
            let mut store = Store::default();
            for told in set {
                told.tell(&mut store);
            }
            let chains = rebuild("t0", &mut store, &[], &Settings::default()).chains;
            chains.iter().map(|c| svg(c, &store, &Terms::default())).collect::<Vec<_>>()
        };
        let first = draw(&set);
        dice.shuffle(&mut set);
        assert_eq!(first, draw(&set), "seed {seed}");
    }
}

fn large(
    n: i64,
    is_joined: bool,
    parent: impl Fn(i64) -> Option<i64>,
    tool: impl Fn(i64) -> i64,
) -> (String, Duration) {
    let mut store = Store::default();
    for i in 0..n {
        let (id, parent, tool) = (format!("e{i}"), parent(i).map(|p| format!("e{p}")), format!("tool{}", tool(i)));
        store.tell(&Fact {
            event_id: &id,
            decision: Some(&id),
            time: Micros(i),
            parent: parent.as_deref(),
            predecessor: (is_joined && i > 2).then(|| format!("e{}", i / 3)).as_deref(),
            subject: Some("alice"),
            session: Some("s"),
            tool: Some(&tool),
            outcome: Some(if i % 1000 == 999 { Outcome::Deny } else { Outcome::Allow }),
            ..Fact::default()
        });
    }
    let chains = rebuild("acme", &mut store, &[], &Settings::default()).chains;
    assert_eq!(chains.len(), 1);
    let started = std::time::Instant::now();
    let drawn = svg(&chains[0], &store, &Terms::default());
    (drawn, started.elapsed())
}

/// Big chains give small pictures that say what they leave out.
#[test]
fn ten_thousand_events() {
    let (star, star_took) = large(10_000, false, |_| None, |i| i);
    assert!(star.contains("operations are not drawn"), "{star}");
    let (line, line_took) = large(10_000, true, |i| (i > 0).then(|| i - 1), |i| i);
    let (tree, tree_took) = large(10_000, true, |i| (i > 0).then(|| (i - 1) / 7), |i| i % 13);
    let (orphans, orphans_took) = large(10_000, true, |i| Some(-i), |i| i % 13);
    println!("drawn: star {star_took:?}, line {line_took:?}, tree {tree_took:?}, orphans {orphans_took:?}");
    for picture in [&star, &line, &tree, &orphans] {
        assert!(picture.len() < 150_000, "{}", picture.len());
        let boxes = parse(picture).iter().filter(|e| e.name == "g").count();
        assert!((2..=300).contains(&boxes), "{boxes}");
    }
    let (alike, _) = large(10_000, false, |_| None, |_| 7);
    assert!(alike.contains("tool7  × "), "{alike}");
}
