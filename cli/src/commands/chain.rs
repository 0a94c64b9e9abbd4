//! `catena chain`: chains, listed and drawn.

mod table;

use super::sql::scope;
use super::{not_found, open_engine};
use crate::args::{Chain, ChainList, ChainShow, Picture};
use crate::config::Config;
use crate::said;
use anyhow::{Context, Result};
use catena_analysis::chain::{Limits as Drawing, Lineage};
use catena_engine::Limits;
use catena_engine::chains::{Filter, Shown};
use catena_schemas::answer::ChainSummary;
use catena_schemas::{Micros, Outcome};
use serde::Serialize;
use std::process::ExitCode;

/// Width of a table where that of the window is not known, in columns.
const WIDTH: usize = 120;

/// What `catena chain ls --json` prints.
#[derive(Serialize)]
struct List {
    chains: Vec<ChainSummary>,
    total: usize,
    lake_version: Option<u64>,
}

pub(crate) async fn run(config: &Config, tenant: Option<&str>, command: &Chain) -> Result<ExitCode> {
    match command {
        Chain::Ls(args) => list(config, tenant, args).await,
        Chain::Show(args) => show(config, tenant, args).await,
    }
}

fn filter(args: &ChainList) -> Result<Filter> {
    let time = |name: &str, text: &Option<String>| {
        text.as_deref()
            .map(|t| Micros::parse_rfc3339(t).with_context(|| format!("--{name} `{t}` is not an RFC 3339 timestamp")))
            .transpose()
    };
    Ok(Filter {
        from: time("from", &args.from)?,
        until: time("until", &args.until)?,
        requester: args.requester.clone(),
        agent: args.agent.clone(),
        tool: args.tool.clone(),
        server: args.server.clone(),
        outcome: args.denied.then_some(Outcome::Deny),
        lineage: match (args.orphan, args.unknown) {
            (true, _) => Some(Lineage::Orphan),
            (_, true) => Some(Lineage::Unknown),
            _ => None,
        },
        widened: args.widened,
        depth: args.depth,
        tenant: None,
    })
}

async fn list(config: &Config, tenant: Option<&str>, args: &ChainList) -> Result<ExitCode> {
    let filter = filter(args)?;
    let engine = open_engine(config).await?;
    let found = engine.session(scope(tenant)).chains(args.limit, &filter, &Limits::local()).await?;
    let chains: Vec<_> = found.chains.iter().rev().map(Shown::summary).collect();
    let list = List { chains, total: found.total, lake_version: found.version };
    if args.json {
        println!("{}", serde_json::to_string(&list)?);
        return Ok(ExitCode::SUCCESS);
    }
    if !list.chains.is_empty() {
        let width = terminal_size::terminal_size_of(std::io::stdout()).map_or(WIDTH, |(width, _)| width.0.into());
        for line in table::lines(list.chains.iter(), width) {
            println!("{line}");
        }
    }
    let matching = if filter == Filter::default() { "" } else { " that match" };
    eprintln!("{} of {} chains{matching}", list.chains.len(), list.total);
    Ok(ExitCode::SUCCESS)
}

async fn show(config: &Config, tenant: Option<&str>, args: &ChainShow) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let shown = engine.session(scope(tenant)).chain(&args.id, &Limits::local()).await?;
    if shown.is_empty() {
        said::error(&format!("no chain, decision, session or trace `{}`", args.id), "`catena chain ls` lists chains");
        return Ok(not_found());
    }
    for found in &shown {
        match if args.json { Picture::Json } else { args.output } {
            Picture::Json => println!("{}", serde_json::to_string(&found.detail())?),
            Picture::Tree => print!("{}", found.draw(&Drawing::default())),
            Picture::Dot => print!("{}", found.to_dot()),
            Picture::Svg => print!("{}", found.svg()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
