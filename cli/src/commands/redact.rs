//! `catena redact`: what redaction would remove from samples, without storing anything.

use super::rules;
use crate::args::Redact;
use crate::config::Config;
use anyhow::{Context, Result};
use catena_decode::frame::{self, Limits};
use catena_decode::redact::Redactor;
use catena_decode::redact::dry_run;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code when there is something to find.
const FINDINGS: u8 = 6;

pub(crate) fn run(config: &Config, args: &Redact) -> Result<ExitCode> {
    let config = match &args.rules {
        Some(path) => Config { redaction: path.clone(), ..config.clone() },
        None => config.clone(),
    };
    let redactor = Redactor::with_rules([0; 32], Arc::new(rules(&config)?));
    let mut found = 0;
    for path in &args.files {
        let name = path.display();
        let mut body = Vec::new();
        let read = if path.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut body).map(|_| ())
        } else {
            std::fs::read(path).map(|bytes| body = bytes)
        };
        read.with_context(|| format!("could not read `{name}`"))?;
        let unpacked = frame::decompress(&body, &Limits::default())?;
        for (at, record) in frame::records(&unpacked) {
            let run = dry_run(&redactor, record);
            found += run.findings.len();
            if args.json {
                let mut said = serde_json::to_value(&run)?;
                said["file"] = name.to_string().into();
                said["offset"] = at.into();
                println!("{said}");
            } else if !run.findings.is_empty() {
                print!("{name} at byte {at}\n{run}");
            }
        }
    }
    if !args.json {
        eprintln!("{found} would be removed, under policy {}", redactor.policy_version());
    }
    Ok(if args.exit_code && found > 0 { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS })
}
