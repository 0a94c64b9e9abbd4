//! `catena chain`: chains, listed and drawn.

use super::sql::scope;
use super::{not_found, open_engine};
use crate::args::{Chain, ChainList, ChainShow, Picture};
use crate::config::Config;
use crate::said;
use anyhow::{Context, Result};
use catena_analysis::chain::{Limits as Drawing, Lineage};
use catena_engine::Limits;
use catena_engine::chains::{Filter, Shown};
use catena_schemas::{Micros, Outcome};
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, command: &Chain) -> Result<ExitCode> {
    match command {
        Chain::Ls(args) => list(config, tenant, args).await,
        Chain::Show(args) => show(config, tenant, args).await,
    }
}

fn filter(args: &ChainList) -> Result<Filter> {
    let time = |name: &str, text: &Option<String>| {
        text.as_deref()
            .map(|t| Micros::parse_rfc3339(t).with_context(|| format!("--{name} `{t}` is no instant as RFC 3339")))
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
    if args.json {
        let chains: Vec<_> = found.chains.iter().rev().map(Shown::summary).collect();
        println!("{}", serde_json::json!({"chains": chains, "total": found.total, "lake_version": found.version}));
        return Ok(ExitCode::SUCCESS);
    }
    for chain in found.chains.iter().rev() {
        println!("{}", chain.headline());
    }
    let fit = if filter == Filter::default() { "" } else { " that fit" };
    eprintln!("{} of {} chains{fit}", found.chains.len(), found.total);
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
            Picture::Json => println!("{}", found.to_json()),
            Picture::Tree => print!("{}", found.draw(&Drawing::default())),
            Picture::Dot => print!("{}", found.to_dot()),
            Picture::Svg => print!("{}", found.svg()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
