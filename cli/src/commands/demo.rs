//! `catena demo`: everything in one process on an embedded lake, fed with bundled real decision logs through the same
//! doors that a deployment uses: HTTP with the intake log behind it, and files.

use super::serve::{Service, stopped};
use super::{now, open_engine_or_wait};
use crate::args::{Demo, Role};
use crate::config::Config;
use anyhow::{Context, Result, bail};
use catena_analysis::chain::Limits as Drawing;
use catena_collect::lake::Lake;
use catena_collect::receive::file::{self, Job};
use catena_collect::worker::Counts;
use catena_decode::Format;
use catena_engine::chains::{Filter, Shown};
use catena_engine::{Engine, Limits, Scope};
use catena_schemas::Outcome;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

macro_rules! corpus {
    ($($path:literal),+ $(,)?) => { &[$(($path, include_bytes!(concat!("../../../tests/corpus/", $path)))),+] };
}

/// Decision logs of real producers: `tests/corpus/README.md` says how each was made.
const FILES: &[(&str, &[u8])] =
    corpus!["cerbos/file/audit.log.gz", "envoy/access.jsonl", "mcp/python-sdk/opa-decisions.jsonl",];

/// What an Open Policy Agent uploaded; three of them are one chunk sent three times, after two answers of 503.
const UPLOADS: &[(&str, &[u8])] = corpus![
    "opa/main/uploads/upload-0001.json.gz",
    "opa/main/uploads/upload-0002.json.gz",
    "opa/main/uploads/upload-0003.json.gz",
    "opa/main/uploads/upload-0004.json.gz",
    "opa/main/uploads/upload-0005.json.gz",
    "opa/main/uploads/upload-0006.json.gz",
    "opa/main/uploads/upload-0007.json.gz",
    "opa/main/uploads/upload-0008.json.gz",
    "opa/main/uploads/upload-0009.json.gz",
    "opa/main/uploads/upload-0010.json.gz",
    "opa/main/uploads/upload-0011.json.gz",
    "opa/main/uploads/upload-0012.json.gz",
    "opa/main/uploads/upload-0013.json.gz",
    "opa/main/uploads/upload-0014.json.gz",
];

/// How long the uploads may take from the intake log to the lake.
const PATIENCE: Duration = Duration::from_secs(60);
/// Chains that are drawn.
const CHAINS: usize = 3;

pub(crate) fn run(runtime: &tokio::runtime::Runtime, mut config: Config, args: &Demo) -> Result<ExitCode> {
    let temporary =
        args.data.is_none().then(|| tempfile::Builder::new().prefix("catena-demo-").tempdir()).transpose()?;
    let data = match (&args.data, &temporary) {
        (Some(data), _) => data.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => unreachable!("without --data there is a temporary folder"),
    };
    config.lake = data.join("lake").to_str().context("the folder's name is not UTF-8")?.to_owned();
    config.intake.dir = data.join("intake");
    config.kafka.brokers.clear();
    runtime.block_on(async {
        let service = Service::start(&config, &[Role::Collect, Role::Watch, Role::Answer, Role::Maintain])
            .await
            .with_context(|| {
                format!("could not start on {}; `catena demo --listen 127.0.0.1:0` takes a free port", config.listen)
            })?;
        let posted = upload(service.address).await?;
        let read = read_files(&config, &data.join("logs")).await?;
        let engine = open_engine_or_wait(&config).await?;
        wait_for(&engine, posted + read.decisions + read.rejected + read.asides).await?;
        report(&engine, &service, &config).await?;
        if !args.once {
            println!("\nserving until Ctrl-C");
            stopped().await;
        }
        service.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Posts the uploads as the agent did; gives the rows that they must become.
async fn upload(address: SocketAddr) -> Result<u64> {
    let mut rows = 0;
    let started = Instant::now();
    for (name, bytes) in UPLOADS {
        // An uploader tries again when told to: right after the start the intake log still compares itself with the lake.
        let body = loop {
            let answer = post(address, bytes).await?;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
            match head.get(..12) {
                Some("HTTP/1.1 200") => break body.to_owned(),
                Some("HTTP/1.1 503" | "HTTP/1.1 429") if started.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => bail!("{name} was not taken: {answer}"),
            }
        };
        let counts: serde_json::Value =
            serde_json::from_str(&body).with_context(|| format!("answer to {name}: {body}"))?;
        rows += ["accepted", "rejected", "asides"].iter().filter_map(|k| counts[k].as_u64()).sum::<u64>();
    }
    Ok(rows)
}

async fn post(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let head = format!(
        "POST /logs HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(bytes).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Writes the bundled files down and reads them as `catena ingest` would.
async fn read_files(config: &Config, folder: &Path) -> Result<Counts> {
    let lake = Lake::open(&config.lake, &super::store_options(config)).await?;
    let (config, folder, runtime) = (config.clone(), folder.to_owned(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let job = Job {
            format: Format::Auto,
            tenant: config.tenant.clone(),
            threads: 1,
            settings: super::flush_settings(&config)?,
            follow_symlinks: false,
            now,
        };
        let mut counts = Counts::default();
        for (name, bytes) in FILES {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().context("every bundled file stands in a folder")?)?;
            std::fs::write(&path, bytes)?;
            counts.add(&file::ingest(&lake, &runtime, &path, &job, &|_| {})?);
        }
        Ok(counts)
    })
    .await?
}

async fn wait_for(engine: &Engine, rows: u64) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = cell(engine, "SELECT count(*) FROM records WHERE class <> 'chain'").await?.parse().unwrap_or(0u64);
        if found >= rows {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("only {found} of {rows} rows are in the lake after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn report(engine: &Engine, service: &Service, config: &Config) -> Result<()> {
    println!("decisions of real gateways, by format and outcome");
    print_rows(engine, "SELECT format, outcome, count(*) AS decisions FROM decisions GROUP BY ALL ORDER BY 1, 2")
        .await?;
    let again = cell(engine, "SELECT count(*) FROM records WHERE duplicate").await?;
    println!("\n{again} were sent again and show once; records that are no decisions, and rejections:");
    print_rows(
        engine,
        "SELECT class, format, reject_reason AS reason, count(*) AS records FROM records WHERE class NOT IN ('decision', 'chain') GROUP BY ALL ORDER BY 1, 2, 3",
    )
    .await?;
    let found = engine.session(Scope::All).chains(usize::MAX, &Filter::default(), &Limits::local()).await?;
    println!("\n{} chains; some that reach deep and met a refusal:", found.total);
    let count = |shown: &Shown, outcome: Outcome| {
        let chain = shown.chain();
        chain.links.iter().filter(|l| chain.outcome(shown.of.store(), l) == outcome).count()
    };
    let longest = |shown: &Shown| shown.chain().paths.iter().map(|p| p.hops.len()).max();
    let mut worth: Vec<&Shown> = found
        .chains
        .iter()
        .filter(|s| (3..=16).contains(&s.chain().links.len()) && count(s, Outcome::Deny) > 0)
        .collect();
    worth.sort_by_key(|s| std::cmp::Reverse((longest(s), count(s, Outcome::StepUp), s.chain().links.len())));
    for shown in worth.iter().take(CHAINS) {
        println!("\n{}", shown.draw(&Drawing::default()).trim_end());
    }
    let lake = &config.lake;
    println!("\nask on");
    println!("  page and API    http://{}", service.address);
    println!("  catena sql      --lake {lake} \"SELECT requester, agent, tool, outcome FROM decisions LIMIT 10\"");
    if let Some(chain) = worth.first() {
        println!("  catena chain    --lake {lake} show {}", chain.chain().id);
    }
    println!("  curl            --data-binary @events.ndjson http://{}/ingest/v1/events", service.address);
    Ok(())
}

async fn print_rows(engine: &Engine, query: &str) -> Result<()> {
    let rows = engine.sql(query, &Limits::local()).await?.collect().await?;
    let table = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Table)?;
    print!("{}", String::from_utf8_lossy(&table));
    Ok(())
}

/// The one value that a query answers with.
async fn cell(engine: &Engine, query: &str) -> Result<String> {
    let rows = engine.sql(query, &Limits::local()).await?.collect().await?;
    let csv = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Csv)?;
    Ok(String::from_utf8_lossy(&csv).lines().nth(1).unwrap_or_default().to_owned())
}
