//! `catena sql`: read-only SQL over the lake.

use super::open_engine;
use crate::args::{Output, Sql};
use crate::config::Config;
use anyhow::Result;
use catena_engine::output::{Format, LineEnd, Writer};
use catena_engine::{Limits, Scope};
use std::io::{BufWriter, Read, Write};
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, args: &Sql) -> Result<ExitCode> {
    let query = match args.query.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        query => query.to_owned(),
    };
    let engine = open_engine(config).await?;
    let limits = Limits {
        rows: args.rows_max.map_or(u64::MAX, |n| n as u64),
        memory: config.query.memory_bytes,
        ..Limits::local()
    };
    let mut answer = engine.session(scope(tenant)).sql(&query, &limits).await?;
    let format = match args.output {
        Output::Json => Format::Json,
        _ if args.json => Format::Json,
        Output::Jsonl => Format::Jsonl,
        Output::Csv => Format::Csv,
        Output::Table => Format::Table,
        Output::Parquet => Format::Parquet,
    };
    let mut writer = Writer::with_line_end(BufWriter::new(std::io::stdout()), format, LineEnd::Lf, answer.schema())?;
    while let Some(batch) = answer.next().await {
        writer.write(&batch?)?;
    }
    writer.finish()?.flush()?;
    if answer.cut().is_some() {
        eprintln!("only the first {} rows; --rows-max raises the limit", limits.rows);
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose rows: everybody's for the person at the lake, one tenant's when asked for.
pub(crate) fn scope(tenant: Option<&str>) -> Scope {
    tenant.map_or(Scope::All, |t| Scope::tenant(t.to_owned()))
}
