//! `catena maintain`: upkeep, once, by hand.

use super::open_lake;
use crate::args::MaintainOnce;
use crate::config::Config;
use anyhow::Result;
use catena_collect::lake::Lake;
use catena_collect::upkeep::{Upkeep, UpkeepSettings};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn run(config: &Config, args: &MaintainOnce) -> Result<ExitCode> {
    let upkeep = upkeep(open_lake(config).await?, config);
    let (mut inputs, mut rows) = (0, 0);
    while let Some(compacted) = upkeep.compact_once().await? {
        inputs += compacted.inputs;
        rows += compacted.rows;
        eprintln!("merged {} files, {} rows", compacted.inputs, compacted.rows);
    }
    let checkpoint = upkeep.checkpoint_once().await?.map(|c| c.version);
    let cleaned = upkeep.cleanup_once().await?;
    let vacuumed = upkeep.vacuum_once().await?;
    if args.json {
        println!(
            "{}",
            serde_json::json!({
                "merged_files": inputs, "merged_rows": rows, "checkpoint": checkpoint,
                "removed_commits": cleaned.commits, "removed_files": vacuumed.files, "removed_bytes": vacuumed.bytes,
            })
        );
    } else {
        println!("merged {inputs} files with {rows} rows");
        if let Some(version) = checkpoint {
            println!("checkpoint at version {version}");
        }
        println!("removed {} old commits and {} files nobody needs", cleaned.commits, vacuumed.files);
    }
    Ok(ExitCode::SUCCESS)
}

/// Upkeep as the settings have it.
pub(crate) fn upkeep(lake: Arc<Lake>, config: &Config) -> Upkeep {
    let settings = UpkeepSettings {
        target_bytes: config.maintain.target_bytes,
        file_retention: Duration::from_secs(config.maintain.keep_removed_h * 3600),
        ..UpkeepSettings::default()
    };
    Upkeep::new(lake, settings)
}
