//! `catena maintain`: upkeep once, by hand; or a look at every file.
//!
//! Steps are independent: one that fails is named at the end, and the others have run. A file of a newer version is a note and no
//! failure; a damaged one, and files that vacuum refuses to delete, are.

use super::{open_engine, open_lake};
use crate::args::MaintainOnce;
use crate::config::Config;
use anyhow::Result;
use catena_collect::commit::CommitError;
use catena_collect::lake::Lake;
use catena_collect::upkeep::{Cleaned, Scrubbed, Upkeep, UpkeepError, UpkeepSettings, Vacuumed};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a scrub says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

pub(crate) async fn run(config: &Config, args: &MaintainOnce) -> Result<ExitCode> {
    // Upkeep of a mistyped path must not make a lake there.
    open_engine(config).await?;
    let upkeep = upkeep(open_lake(config).await?, config, args.unexplained_max);
    if args.scrub {
        return scrub(&upkeep, args.json).await;
    }
    let mut round = Round::default();
    round.compact(&upkeep).await;
    match upkeep.checkpoint_once().await {
        Ok(written) => round.checkpoint = written.map(|c| c.version),
        Err(e) => round.failed("checkpoint", &e),
    }
    match upkeep.cleanup_once().await {
        Ok(cleaned) => round.cleaned = cleaned,
        Err(e) => round.failed("log cleanup", &e),
    }
    match upkeep.vacuum_once().await {
        Ok(vacuumed) => round.vacuumed = vacuumed,
        Err(e) => round.failed("vacuum", &e),
    }
    Ok(round.report(args.json))
}

/// What one round did.
#[derive(Default)]
struct Round {
    inputs: usize,
    rows: u64,
    checkpoint: Option<u64>,
    cleaned: Cleaned,
    vacuumed: Vacuumed,
    /// Files of newer versions.
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Round {
    async fn compact(&mut self, upkeep: &Upkeep) {
        loop {
            match upkeep.compact_once().await {
                Ok(None) => return,
                Ok(Some(compacted)) => {
                    self.inputs += compacted.inputs;
                    self.rows += compacted.rows;
                    eprintln!("merged {} files, {} rows", compacted.inputs, compacted.rows);
                }
                Err(e @ UpkeepError::Newer { .. }) => self.notes.push(e.to_string()),
                // The others can still be merged.
                Err(e) if e.is_of_one_file() => self.failed("compaction", &e),
                // Another process looks after the lake: it merges what is left.
                Err(UpkeepError::Commit(CommitError::Fenced { .. })) => return,
                Err(e) => return self.failed("compaction", &e),
            }
        }
    }

    fn failed(&mut self, step: &str, error: &UpkeepError) {
        let chain = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
        let mut text = format!("{step}: {}", chain.map(ToString::to_string).collect::<Vec<_>>().join(": "));
        if let UpkeepError::Refused(refused) = error {
            text.push_str("\n  hint: ");
            text.push_str(refused.hint());
        }
        self.failures.push(text);
    }

    fn report(&self, json: bool) -> ExitCode {
        let Round { inputs, rows, checkpoint, cleaned, vacuumed, notes, failures } = self;
        if json {
            println!(
                "{}",
                serde_json::json!({
                    "merged_files": inputs, "merged_rows": rows, "checkpoint": checkpoint,
                    "removed_commits": cleaned.commits, "removed_files": vacuumed.files, "removed_bytes": vacuumed.bytes,
                    "notes": notes, "failures": failures,
                })
            );
        } else {
            println!("merged {inputs} files with {rows} rows");
            if let Some(version) = checkpoint {
                println!("checkpoint at version {version}");
            }
            println!("removed {} old commits and {} files that no version needs", cleaned.commits, vacuumed.files);
        }
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        failures.iter().for_each(|failure| eprintln!("error: {failure}"));
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

async fn scrub(upkeep: &Upkeep, json: bool) -> Result<ExitCode> {
    let mut said = Instant::now();
    let found = upkeep
        .scrub(|so_far| {
            if said.elapsed() >= PROGRESS_EVERY {
                said = Instant::now();
                eprintln!("{}", progress(so_far));
            }
        })
        .await?;
    for damage in &found.damaged {
        eprintln!("error: damaged file `records/{}`: {}", damage.path, damage.detail);
    }
    if json {
        let damaged: Vec<_> = found
            .damaged
            .iter()
            .map(|d| serde_json::json!({"path": format!("records/{}", d.path), "detail": d.detail}))
            .collect();
        println!(
            "{}",
            serde_json::json!({"files": found.files, "bytes": found.bytes, "without_digest": found.without_digest, "damaged": damaged})
        );
    } else {
        println!("checked {} files, {} bytes: {} damaged", found.files, found.bytes, found.damaged.len());
        if found.without_digest > 0 {
            println!(
                "{} files of an older version have no digest: their rows were read and counted",
                found.without_digest
            );
        }
    }
    if found.damaged.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "  hint: restore these files from a copy of the lake, then run this again (docs/operating.md, \"Damaged files\")"
    );
    Ok(ExitCode::FAILURE)
}

fn progress(so_far: &Scrubbed) -> String {
    let Scrubbed { files, files_all, bytes, bytes_all, damaged, .. } = so_far;
    format!(
        "checked {files} of {files_all} files, {} of {} MB, {} damaged",
        bytes >> 20,
        bytes_all >> 20,
        damaged.len()
    )
}

/// Upkeep as the settings have it. `unexplained_max` beats the one of the settings.
pub(crate) fn upkeep(lake: Arc<Lake>, config: &Config, unexplained_max: Option<usize>) -> Upkeep {
    let settings = UpkeepSettings {
        target_bytes: config.maintain.target_bytes,
        file_retention: Duration::from_secs(config.maintain.keep_removed_h * 3600),
        unexplained_max: unexplained_max.or_else(|| usize::try_from(config.maintain.unexplained_max).ok()),
        ..UpkeepSettings::default()
    };
    Upkeep::new(lake, settings)
}
