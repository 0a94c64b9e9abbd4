//! `catena sources`: counts, fill rates and gaps of each source.

use super::open_engine;
use super::sql::scope;
use crate::args::Sources;
use crate::config::Config;
use anyhow::Result;
use catena_engine::Limits;
use catena_engine::completeness::FIELDS;
use catena_schemas::answer::Source;
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, args: &Sources) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let found = engine.session(scope(tenant)).completeness(&Limits::local()).await?;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    let found = found.found;
    for source in &found.sources {
        print(source);
    }
    for s in found.sequences.iter().filter(|s| s.missing > 0) {
        let (source, epoch) = (s.source.as_deref().unwrap_or("?"), s.epoch.as_deref().unwrap_or("-"));
        println!(
            "{} of {source}, epoch {epoch}: {} missing between {} and {}",
            s.tenant,
            counted(s.missing, "sequence number"),
            s.first,
            s.last
        );
    }
    eprintln!("{}", counted(found.sources.len() as u64, "source"));
    Ok(ExitCode::SUCCESS)
}

/// A number and what it counts: `1 source`, `2 sources`.
fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn print(s: &Source) {
    println!("{}  {}  ({})", s.tenant, s.topic.escape_debug(), s.format);
    println!(
        "  received {}  decisions {}  executions {}  authority {}  duplicates {}  rejected {}  set aside {}  last seen {}",
        s.received,
        s.decisions,
        s.executions,
        s.authority,
        s.duplicates,
        s.rejected,
        s.asides,
        s.last_seen.as_deref().unwrap_or("never")
    );
    for (title, counts) in [("outcomes", &s.by_outcome), ("rejected", &s.by_reason)] {
        if !counts.is_empty() {
            let counts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
            println!("  {title}  {}", counts.join("  "));
        }
    }
    if s.decisions == 0 {
        return;
    }
    println!("  {:<16} {:>7} {:>7} {:>7}   filled, by outcome", "field", "allow", "deny", "other");
    for field in FIELDS {
        let shares = s.filled.get(*field);
        let share =
            |group: &str| shares.and_then(|by| by.get(group)).map_or("-".to_owned(), |s| format!("{:.0} %", s * 100.0));
        println!("  {field:<16} {:>7} {:>7} {:>7}", share("allow"), share("deny"), share("other"));
    }
}
