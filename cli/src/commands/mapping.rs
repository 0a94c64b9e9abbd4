//! `catena mapping`: what a mapping makes of sample records, and what the shipped ones are.

use super::ingest::chosen;
use super::{mappings, now, rules};
use crate::args::{MappingCommand, MappingTry};
use crate::config::{Config, parse_format};
use anyhow::{Context, Result};
use catena_decode::frame::{self, Limits};
use catena_decode::mapping::explain::explain;
use catena_decode::redact::Redactor;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn run(config: &Config, command: &MappingCommand) -> Result<ExitCode> {
    match command {
        MappingCommand::Ls => {
            for (name, format) in mappings(config)?.names() {
                println!("{name:<44} {}", format.as_str());
            }
            Ok(ExitCode::SUCCESS)
        }
        MappingCommand::Try(args) => attempt(config, args),
    }
}

/// Reads samples without a lake: nothing is stored, and what is shown is redacted as it would be stored.
fn attempt(config: &Config, args: &MappingTry) -> Result<ExitCode> {
    let known = mappings(config)?;
    // Samples are never TOML, so a mapping can stand among them.
    let (files, samples): (Vec<_>, Vec<_>) =
        args.files.iter().partition(|path| path.extension().is_some_and(|e| e == "toml"));
    let files = files.iter().map(|path| path.display().to_string());
    let known = args.mapping.iter().cloned().chain(files).try_fold(known, |known, mapping| chosen(&known, &mapping))?;
    if samples.is_empty() {
        println!("the mapping is sound; give it sample records to see what becomes of them");
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = Vec::new();
    for path in samples {
        let read = if path.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut body).map(|_| ())
        } else {
            std::fs::read(path).map(|bytes| body.extend(bytes))
        };
        read.with_context(|| format!("could not read `{}`", path.display()))?;
    }
    let unpacked = frame::decompress(&body, &Limits::default())?;
    let records: Vec<&[u8]> = frame::records(&unpacked).into_iter().map(|r| r.1).take(args.records).collect();
    // Digests are of no lake: they only show that there would be one.
    let redactor = Arc::new(Redactor::with_rules([0; 32], Arc::new(rules(config)?)));
    let report = explain(&Arc::new(known), &redactor, parse_format(&args.format)?, records, now());
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
