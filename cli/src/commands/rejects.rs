//! `catena rejects`: what could not be read or was set aside, why, and once more with another decoder or mapping.
//!
//! Guarantees: a rejected record stays where it is; what a retry reads lands beside it, once, however often and from
//! however many places it is run: the rows stand under the topic `retry:<id>`, and their position moves in the same commit. What
//! still cannot be read, or of what was set aside still holds no fact, is counted and left alone. An id is `<topic>/<partition>/<offset>`, and of the further rejections of a
//! record that is a list `<topic>/<partition>/<offset>.<item>`: what is read of one says nothing of the others. Rejections and asides
//! of one record share this count.

use super::ingest::{chosen, print_totals, report};
use super::sql::scope;
use super::{flush_settings, not_found, now, open_engine, open_lake};
use crate::args::{RejectFilter, Rejects, RejectsList, RejectsRetry, RejectsShow};
use crate::config::{Config, parse_format};
use crate::said;
use anyhow::{Context as _, Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use catena_analysis::text::escape_lines;
use catena_collect::worker::{Again, Counts, Partition, Record, Worker};
use catena_decode::{Context, Decoder, Format, Redactor, Sink, reasons};
use catena_engine::output::{Format as Shape, Writer};
use catena_engine::{Engine, Limits, Rows};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros, canonical};
use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// Application id under which the position of retries is kept.
const APP: &str = "retry";
/// Records that are read and pushed at a time.
const PAGE: usize = 20_000;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, command: &Rejects) -> Result<ExitCode> {
    match command {
        Rejects::Ls(args) => list(config, tenant, args).await,
        Rejects::Show(args) => show(config, tenant, args).await,
        Rejects::Retry(args) => retry(config, tenant, args).await,
    }
}

/// The id of a rejection, in SQL.
const ID: &str = "concat(r.topic, '/', r.partition, '/', r.\"offset\", CASE WHEN r.item IS NULL THEN '' ELSE concat('.', r.item) END)";

/// The table that holds what is asked for.
fn table(asides: bool) -> &'static str {
    if asides { "asides" } else { "rejects" }
}

/// Rejects, or asides, that fit and were not read by a retry: what was set aside is read when a fact has come of it.
fn wanted(filter: &RejectFilter) -> String {
    let unread = if filter.asides { "NOT IN ('reject', 'aside')" } else { "<> 'reject'" };
    let mut conditions = vec![format!(
        "NOT EXISTS (SELECT 1 FROM records d WHERE d.class {unread} AND d.tenant = r.tenant AND d.topic = concat('retry:', {ID}))"
    )];
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    for (column, value) in [("reason", &filter.reason), ("format", &filter.of_format), ("topic", &filter.topic)] {
        conditions.extend(value.as_ref().map(|v| format!("r.{column} = {}", quote(v))));
    }
    conditions.join(" AND ")
}

async fn list(config: &Config, tenant: Option<&str>, args: &RejectsList) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let (of, table) = (wanted(&args.filter), table(args.filter.asides));
    let sql = if args.each {
        format!(
            "SELECT {ID} AS id, r.tenant, r.format, r.reason, r.detail, length(encode(r.raw, 'hex')) / 2 AS bytes, \
             r.ingest_time FROM {table} r WHERE {of} ORDER BY r.ingest_time DESC LIMIT {}",
            args.limit
        )
    } else {
        format!(
            "SELECT r.reason, r.format, r.topic, count(*) AS n, max(r.ingest_time) AS last_seen, \
             max({ID}) AS example FROM {table} r WHERE {of} \
             GROUP BY r.reason, r.format, r.topic ORDER BY n DESC LIMIT {}",
            args.limit
        )
    };
    let mut answer = engine.session(scope(tenant)).sql(&sql, &local()).await?;
    let shape = if args.json { Shape::Json } else { Shape::Table };
    let mut writer = Writer::new(BufWriter::new(std::io::stdout()), shape, answer.schema())?;
    while let Some(batch) = answer.next().await {
        writer.write(&batch?)?;
    }
    writer.finish()?.flush()?;
    if !args.json {
        let flag = if args.filter.asides { " --asides" } else { "" };
        eprintln!("`catena rejects show ID` explains one; `catena rejects retry{flag}` reads them again");
        if !args.filter.asides {
            eprintln!("`catena rejects ls --asides` lists what was set aside as no fact");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(config: &Config, tenant: Option<&str>, args: &RejectsShow) -> Result<ExitCode> {
    let Some((topic, partition, offset, item)) = coordinates(&args.id) else {
        bail!("`{}` is not <topic>/<partition>/<offset>, as `catena rejects ls` prints ids", args.id);
    };
    let engine = open_engine(config).await?;
    let topic = topic.replace('\'', "''");
    let mut condition = format!("r.topic = '{topic}' AND r.partition = {partition} AND r.\"offset\" = {offset}");
    if let Some(item) = item {
        condition += &format!(" AND r.item = {item}");
    }
    let mut rejected = kept(&engine, tenant, "rejects", &condition, 1000).await?;
    rejected.extend(kept(&engine, tenant, "asides", &condition, 1000).await?);
    if rejected.is_empty() {
        said::error(
            &format!("nothing was rejected or set aside at `{}`", args.id),
            "`catena rejects ls --each` lists ids",
        );
        return Ok(not_found());
    }
    for r in &rejected {
        let explained = reasons::explain(&r.reason);
        if args.json {
            let json = serde_json::json!({
                "id": r.id(), "tenant": r.tenant, "format": r.format, "reason": r.reason, "detail": r.detail,
                "explanation": explained.map(|e| e.0), "way_out": explained.map(|e| e.1),
                "raw": String::from_utf8_lossy(&r.raw), "received": r.received.to_rfc3339(),
            });
            println!("{json}");
            continue;
        }
        println!("{}  {}  tenant {}  format {}", r.id(), r.received.to_rfc3339(), r.tenant, r.format);
        println!("  reason   {}", r.reason);
        println!("  detail   {}", printable(r.detail.as_bytes()));
        if let Some((what, way_out)) = explained {
            println!("  meaning  {what}");
            println!("  way out  {way_out}");
        }
        println!("  raw      {} bytes, secrets removed", r.raw.len());
        println!("{}", printable(&r.raw[..r.raw.len().min(args.bytes)]));
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry(config: &Config, tenant: Option<&str>, args: &RejectsRetry) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let lake = open_lake(config).await?;
    let mut settings = flush_settings(config)?;
    if let Some(mapping) = &args.mapping {
        settings.mappings = Arc::new(chosen(&settings.mappings, mapping)?);
    }
    let forced = args.format.as_deref().map(parse_format).transpose()?;
    let asides = args.filter.asides;
    // Of a part of a record the whole is kept with another of its parts, and an older version kept nothing of asides.
    let with_bytes = if asides { " AND r.raw IS NOT NULL" } else { "" };
    let condition = format!("{}{with_bytes}", wanted(&args.filter));
    let found = kept(&engine, tenant, table(asides), &condition, args.limit).await?;
    let total = found.len();
    let partition = Arc::new(Partition { app: APP.into(), topic: APP.into(), number: 0, start: 0 });
    let mut at = lake.position(APP).await?.unwrap_or(0);
    let mut worker = Worker::new(lake.clone(), settings.clone());
    worker.begin(&partition, at);
    let mut decoders: BTreeMap<String, Decoder> = BTreeMap::new();
    let (mut counts, mut still) = (Counts::default(), BTreeMap::<String, u64>::new());
    for (done, r) in found.iter().enumerate() {
        let format = forced.or_else(|| Format::parse(&r.format)).unwrap_or(Format::Auto);
        let decoder = decoders.entry(r.tenant.clone()).or_insert_with(|| {
            let key = canonical::tenant_key(&lake.secret(), &r.tenant);
            let redactor = Redactor::with_rules(key, settings.rules.clone());
            Decoder::with_mappings(Arc::new(redactor), settings.mappings.clone())
        });
        let topic = format!("retry:{}", r.id());
        let mut trial = Trial::default();
        let context = Context { received: r.received, fallback_id: &topic, ..Context::default() };
        decoder.record(format, &r.raw, &context, &mut trial);
        match trial.refused {
            Some(reason) => *still.entry(reason).or_default() += 1,
            None if asides && trial.events == 0 => *still.entry(r.reason.clone()).or_default() += 1,
            None if args.dry_run => {
                counts.decisions += trial.events;
                counts.asides += trial.asides;
                counts.records += 1;
            }
            None => {
                let record = Record {
                    tenant: &r.tenant,
                    format,
                    offset: at,
                    next: at + 1,
                    bytes: &r.raw,
                    headers: &[],
                    received: now(),
                    trusted: false,
                    mappings: None,
                    again: Some(Again { topic: &topic, received: r.received }),
                };
                worker.push(&partition, &record);
                at += 1;
            }
        }
        if worker.is_full() || (done + 1).is_multiple_of(PAGE) || done + 1 == total {
            if let Some(landed) =
                worker.flush().await.context("another retry is under way; nothing of this part was kept")?
            {
                counts.add(&landed.counts);
            }
            if std::io::stderr().is_terminal() {
                eprint!("\r{} of {total} ", done + 1);
            }
        }
    }
    if std::io::stderr().is_terminal() && total > 0 {
        eprintln!();
    }
    let left: u64 = still.values().sum();
    if args.json {
        let mut said = report(&counts);
        said["tried"] = total.into();
        said["still_rejected"] = left.into();
        said["still_by_reason"] = serde_json::json!(still);
        said["dry_run"] = args.dry_run.into();
        println!("{said}");
    } else {
        let what = if asides { "set-aside" } else { "rejected" };
        println!("{total} {what} records {}", if args.dry_run { "would be read again:" } else { "read again" });
        print_totals(&counts);
        if left > 0 {
            println!("{left} still {}", if asides { "hold no fact that can be read" } else { "cannot be read" });
            for (reason, n) in &still {
                println!("  {reason:<28} {n:>9}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a record would become.
#[derive(Default)]
struct Trial {
    events: u64,
    asides: u64,
    refused: Option<String>,
}

impl Sink for Trial {
    fn event(&mut self, _: &Event<'_>, _: Format) {
        self.events += 1;
    }

    fn authority(&mut self, _: &Entry<'_>, _: Format) {
        self.events += 1;
    }

    fn rejection(&mut self, rejection: Rejection, _: Format) {
        self.refused = Some(rejection.reason.to_owned());
    }

    fn aside(&mut self, _: Rejection, _: Format) {
        self.asides += 1;
    }
}

/// One rejected record.
struct Rejected {
    tenant: String,
    topic: String,
    partition: i32,
    offset: i64,
    item: Option<i32>,
    format: String,
    reason: String,
    detail: String,
    raw: Vec<u8>,
    received: Micros,
}

impl Rejected {
    fn id(&self) -> String {
        let item = self.item.map(|n| format!(".{n}")).unwrap_or_default();
        format!("{}/{}/{}{item}", self.topic, self.partition, self.offset)
    }
}

async fn kept(
    engine: &Engine,
    tenant: Option<&str>,
    table: &str,
    condition: &str,
    limit: usize,
) -> Result<Vec<Rejected>> {
    let sql = format!(
        "SELECT r.tenant, r.topic, r.partition, r.\"offset\", r.format, r.reason, r.detail, r.raw, r.ingest_time, r.item FROM {table} r \
         WHERE {condition} ORDER BY r.ingest_time, r.topic, r.partition, r.\"offset\", r.item NULLS FIRST LIMIT {limit}"
    );
    let rows: Rows = engine.session(scope(tenant)).sql(&sql, &local()).await?.collect().await?;
    let mut found = Vec::new();
    for batch in &rows.batches {
        read(batch, &mut found);
    }
    Ok(found)
}

fn read(batch: &RecordBatch, into: &mut Vec<Rejected>) {
    let text = |column: usize, row: usize| {
        let array = batch.column(column).as_string::<i32>();
        if array.is_valid(row) { array.value(row).to_owned() } else { String::new() }
    };
    for row in 0..batch.num_rows() {
        into.push(Rejected {
            tenant: text(0, row),
            topic: text(1, row),
            partition: batch.column(2).as_primitive::<Int32Type>().value(row),
            offset: batch.column(3).as_primitive::<Int64Type>().value(row),
            item: batch.column(9).is_valid(row).then(|| batch.column(9).as_primitive::<Int32Type>().value(row)),
            format: text(4, row),
            reason: text(5, row),
            detail: text(6, row),
            raw: match batch.column(7).is_valid(row) {
                true => batch.column(7).as_binary::<i32>().value(row).to_vec(),
                false => Vec::new(),
            },
            received: Micros(batch.column(8).as_primitive::<arrow_array::types::TimestampMicrosecondType>().value(row)),
        });
    }
}

/// Topic, partition, offset and item of an id.
fn coordinates(id: &str) -> Option<(&str, i32, i64, Option<i32>)> {
    let (rest, offset) = id.rsplit_once('/')?;
    let (topic, partition) = rest.rsplit_once('/')?;
    let (offset, item) = offset.split_once('.').map_or((offset, None), |(offset, item)| (offset, Some(item)));
    let item = item.map(str::parse).transpose().ok()?;
    Some((topic, partition.parse().ok()?, offset.parse().ok()?, item))
}

fn local() -> Limits {
    Limits { rows: u64::MAX, bytes: u64::MAX, ..Limits::local() }
}

/// Bytes of strangers, harmless to a terminal.
fn printable(bytes: &[u8]) -> String {
    escape_lines(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_the_end() {
        assert_eq!(coordinates("file:/a/b.log/0/17"), Some(("file:/a/b.log", 0, 17, None)));
        assert_eq!(coordinates("decisions/3/17.2"), Some(("decisions", 3, 17, Some(2))));
        assert_eq!(coordinates("decisions/3/17.x"), None);
        assert_eq!(coordinates("decisions/17"), None);
        assert_eq!(coordinates("decisions/x/17"), None);
    }

    #[test]
    fn what_strangers_wrote_cannot_move_the_cursor() {
        assert_eq!(printable(b"a\x1b[2Jb\xff"), "a\\u{1b}[2Jb\u{fffd}");
        assert_eq!(printable("x\u{202e}y\u{ad}z".as_bytes()), "x\\u{202e}y\\u{ad}z");
    }
}
