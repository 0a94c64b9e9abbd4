//! `catena ingest`: files into the lake, once, or followed while they grow.

use super::{flush_settings, now, open_lake};
use crate::args::Ingest;
use crate::config::{Config, parse_format};
use crate::nearest::did_you_mean;
use anyhow::{Context, Result, bail};
use catena_collect::batch::ROW_GROUP_ROWS;
use catena_collect::receive::file::{self, Job};
use catena_collect::worker::Counts;
use catena_decode::Format;
use catena_decode::authority::catalogue::{self, About, Kind};
use catena_decode::mapping::Mappings;
use catena_schemas::Micros;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub(crate) fn run(runtime: &tokio::runtime::Runtime, config: &Config, args: &Ingest) -> Result<ExitCode> {
    let lake = runtime.block_on(open_lake(config))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings = flush_settings(config)?;
    // Nobody waits for the first rows of a file that is read once: whole row groups store better.
    settings.flush_rows = settings.flush_rows.max(ROW_GROUP_ROWS);
    if let Some(mapping) = &args.mapping {
        settings.mappings = Arc::new(chosen(&settings.mappings, mapping)?);
    }
    let job = Job {
        format: parse_format(&args.format)?,
        tenant: config.tenant.clone(),
        threads: args.threads.unwrap_or(cores),
        settings,
        follow_symlinks: args.follow_symlinks,
        now,
    };
    if args.follow {
        return follow(runtime, &lake, args, &job);
    }
    let started = Instant::now();
    let mut counts = Counts::default();
    for path in &args.catalog {
        let lines = catalogue(path, args.catalog_server.as_deref())?;
        let job = Job { format: Format::Catena, ..job.clone() };
        counts.add(&file::ingest_lines(&lake, runtime.handle(), path, lines, &job)?);
    }
    for path in &args.files {
        let name = path.display().to_string();
        let progress = |bytes: u64| {
            if std::io::stderr().is_terminal() {
                let seconds = started.elapsed().as_secs_f64();
                eprint!("\r{name}: {} MB, {:.0} MB/s ", bytes >> 20, bytes as f64 / 1e6 / seconds);
            }
        };
        let read = file::ingest(&lake, runtime.handle(), path, &job, &progress)?;
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        counts.add(&read);
    }
    if args.json {
        println!("{}", report(&counts));
    } else {
        print_totals(&counts);
    }
    Ok(ExitCode::SUCCESS)
}

/// A catalogue of tools as native records. It counts from when the file was last changed.
fn catalogue(path: &Path, server: Option<&str>) -> Result<String> {
    let name = path.display();
    let unreadable = || format!("could not read the catalogue `{name}`");
    let bytes = std::fs::read(path).with_context(unreadable)?;
    let changed = std::fs::metadata(path).and_then(|m| m.modified()).with_context(unreadable)?;
    let changed = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let kind = match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "yaml" | "yml" => Kind::Yaml,
        "csv" => Kind::Csv,
        "json" => Kind::Json,
        other => {
            bail!(
                "`{name}` ends in `{other}`; a catalogue is .yaml, .csv or .json (of the same shape, or an answer to `tools/list`)"
            )
        }
    };
    let about = About { time: Micros(changed.as_micros() as i64), server };
    let lines = catalogue::read(&bytes, kind, &about)
        .with_context(|| format!("`{name}` is not a tool catalogue (tools without a server need --catalog-server)"))?;
    Ok(lines.join("\n"))
}

/// The shipped mapping of a name, or the mapping in a file, before all others.
pub(crate) fn chosen(shipped: &Mappings, mapping: &str) -> Result<Mappings> {
    if shipped.names().any(|(name, _)| name == mapping) {
        return Ok(shipped.prefer(mapping)?);
    }
    let text = match std::fs::read_to_string(mapping) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let names = shipped.names().map(|(name, _)| name);
            bail!(
                "`{mapping}` is neither a file nor a shipped mapping{} (`catena mapping ls` lists the shipped ones)",
                did_you_mean(mapping, names)
            )
        }
        Err(e) => return Err(e).with_context(|| format!("could not read the mapping `{mapping}`")),
    };
    Ok(shipped.with(&text, mapping)?)
}

/// Totals as the interface has them, counted in decisions: received = accepted + duplicates + rejected.
pub(crate) fn report(counts: &Counts) -> serde_json::Value {
    let accepted = counts.decisions - counts.duplicates;
    serde_json::json!({
        "received": counts.decisions + counts.rejected,
        "accepted": accepted,
        "rejected": counts.rejected,
        "duplicates": counts.duplicates,
        "decisions": accepted,
        "by_outcome": counts.by_outcome,
        "by_reason": counts.by_reason,
        "executions": counts.executions,
        "authority": counts.authority,
        "repeated": counts.repeated,
        "records": counts.records,
        "read_before": counts.read_before,
        "asides": counts.asides,
        "by_aside": counts.by_aside,
    })
}

pub(crate) fn print_totals(counts: &Counts) {
    let accepted = counts.decisions - counts.duplicates;
    println!("{} from {}", counted(accepted, "decision"), counted(counts.records, "record"));
    for (outcome, n) in &counts.by_outcome {
        println!("  {outcome:<10} {n:>9}");
    }
    for (name, n) in [("execution", counts.executions), ("authority record", counts.authority)] {
        if n > 0 {
            println!("{}", counted(n, name));
        }
    }
    if counts.duplicates > 0 {
        println!("{} (stored, shown once)", counted(counts.duplicates, "duplicate"));
    }
    if counts.read_before > 0 {
        let were = if counts.read_before == 1 { "was" } else { "were" };
        println!("{} {were} already ingested and {were} skipped", counted(counts.read_before, "record"));
        println!("  `catena rejects retry` reads rejected records again, and with --asides those set aside,");
        println!("  in another format (--format) or with a mapping (--mapping)");
    }
    for (title, total, by) in
        [("rejected", counts.rejected, &counts.by_reason), ("set aside", counts.asides, &counts.by_aside)]
    {
        if total > 0 {
            println!("{total} {title}");
            for (reason, n) in by {
                println!("  {reason:<28} {n:>9}");
            }
        }
    }
}

/// A number with its noun: `1 record`, `2 records`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn follow(
    runtime: &tokio::runtime::Runtime,
    lake: &Arc<catena_collect::lake::Lake>,
    args: &Ingest,
    job: &Job,
) -> Result<ExitCode> {
    static STOP: AtomicBool = AtomicBool::new(false);
    runtime.spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        STOP.store(true, Ordering::Relaxed);
    });
    for path in &args.files {
        file::followable(path, job)?;
    }
    let handle = runtime.handle();
    std::thread::scope(|scope| {
        let followers: Vec<_> = args
            .files
            .iter()
            .map(|path| {
                scope.spawn(move || {
                    file::follow(lake, handle, path, job, &STOP, &|counts| {
                        eprintln!(
                            "{}: {}, {} rejected",
                            path.display(),
                            counted(counts.decisions, "decision"),
                            counts.rejected
                        );
                    })
                })
            })
            .collect();
        for follower in followers {
            follower.join().map_err(|_| anyhow::anyhow!("a follower panicked"))??;
        }
        Ok(ExitCode::SUCCESS)
    })
}
