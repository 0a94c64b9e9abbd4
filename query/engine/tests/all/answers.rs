//! What engines answer about chains, to be held against each other.

use catena_engine::chains::{Filter, Shown};
use catena_engine::{Engine, Limits, Scope, output};
use catena_schemas::answer::ChainSummary;

pub(crate) async fn csv(engine: &Engine, sql: &str) -> String {
    let rows = engine.sql(sql, &Limits::default()).await.expect("a query").collect().await.expect("rows");
    String::from_utf8(output::to_bytes(&rows, output::Format::Csv).expect("CSV")).expect("UTF-8").replace('\r', "")
}

/// Rows are the same, in whatever order; or which are not.
fn agree(some: &str, whole: &str, asked: &str, note: &str) {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (a, b) = (sorted(some), sorted(whole));
    let only = |a: &[String], b: &[String]| a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>().join("\n");
    assert!(a == b, "{asked}, {note}:\n{}\nagainst\n{}", only(&a, &b), only(&b, &a));
}

/// Whether two engines say the same of all chains, and of those that some names mean.
pub(crate) async fn same(some: &Engine, whole: &Engine, tenant: &str, names: &[&str], note: &str) {
    for sql in [
        "SELECT * FROM chains",
        "SELECT * FROM chain_events",
        "SELECT * FROM operations",
        "SELECT tenant, event_id, chain_id FROM decisions",
        "SELECT count(*) FROM paths('human:user1 >> agent:sub')",
        "SELECT e.event_id FROM chain_events e JOIN chains c USING (tenant, chain_id) WHERE c.depth > 1",
    ] {
        agree(&csv(some, sql).await, &csv(whole, sql).await, sql, note);
    }
    let (limits, tenant) = (Limits::default(), Scope::tenant(tenant));
    let first = whole.session(tenant.clone()).chain(names[0], &limits).await.expect("a chain");
    let id = first.first().map_or_else(|| "c-0".to_owned(), |shown| shown.chain().id.clone());
    for name in names.iter().copied().chain([id.as_str()]) {
        for scope in [tenant.clone(), Scope::All] {
            let [a, b] = [some, whole].map(|engine| engine.session(scope.clone()));
            let [a, b] = [a.chain(name, &limits).await, b.chain(name, &limits).await].map(|f| f.expect("an answer"));
            let details = |found: Vec<Shown>| found.iter().map(Shown::detail).collect::<Vec<_>>();
            assert_eq!(details(a), details(b), "{name}, {note}");
        }
    }
    let filter = Filter { agent: Some("agent:sub".into()), ..Filter::default() };
    let [a, b] = [some, whole].map(|engine| engine.session(Scope::All));
    let [a, b] = [a.chains(5, &filter, &limits).await, b.chains(5, &filter, &limits).await].map(|f| f.expect("chains"));
    assert_eq!((summaries(&a.chains), a.total), (summaries(&b.chains), b.total), "{note}");
}

fn summaries(chains: &[Shown]) -> Vec<ChainSummary> {
    chains.iter().map(Shown::summary).collect()
}

/// Whether they say the same of what somebody reached: for that it has to fit, from all parts together.
pub(crate) async fn same_reach(some: &Engine, whole: &Engine, note: &str) {
    for (kind, id) in
        [("human", "user1"), ("agent", "agent:sub"), ("grant", "g-1"), ("tool", "push"), ("server", "crm")]
    {
        let sql = format!("SELECT * FROM reach('{kind}', '{id}')");
        agree(&csv(some, &sql).await, &csv(whole, &sql).await, &sql, note);
    }
}
