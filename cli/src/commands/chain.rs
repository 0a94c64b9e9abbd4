//! `catena chain`: chains, listed and drawn.

use super::sql::scope;
use super::{not_found, open_engine};
use crate::args::{Chain, ChainList, ChainShow};
use crate::config::Config;
use anyhow::Result;
use catena_analysis::chain;
use catena_engine::Limits;
use catena_engine::chains::Filter;
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, command: &Chain) -> Result<ExitCode> {
    match command {
        Chain::Ls(args) => list(config, tenant, args).await,
        Chain::Show(args) => show(config, tenant, args).await,
    }
}

async fn list(config: &Config, tenant: Option<&str>, args: &ChainList) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let found = engine.session(scope(tenant)).chains(args.limit, &Filter::default(), &Limits::local()).await?;
    if args.json {
        let chains: Vec<_> = found.chains.iter().rev().map(chain::Chain::summary).collect();
        println!("{}", serde_json::json!({"chains": chains, "total": found.total, "lake_version": found.version}));
        return Ok(ExitCode::SUCCESS);
    }
    for chain in found.chains.iter().rev() {
        println!("{}", chain.headline());
    }
    eprintln!("{} of {} chains", found.chains.len(), found.total);
    if found.cut {
        eprintln!("the oldest calls were not read; the first chains may lack some");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(config: &Config, tenant: Option<&str>, args: &ChainShow) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let shown = engine.session(scope(tenant)).chain(&args.id, &Limits::local()).await?;
    if shown.is_empty() {
        eprintln!("error: no chain, decision, session or trace `{}`\n  hint: `catena chain ls` lists chains", args.id);
        return Ok(not_found());
    }
    for found in &shown {
        if args.json {
            let mut json = found.chain.to_json();
            json["lake_version"] = found.version.into();
            json["cut"] = found.cut.into();
            println!("{json}");
        } else {
            print!("{}", found.chain.render(&chain::Limits::default()));
            if found.cut {
                eprintln!("the chain is longer than what was read");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
