//! One file per command.

mod chain;
mod demo;
mod ingest;
mod key_files;
mod maintain;
mod mapping;
mod redact;
mod rejects;
mod serve;
mod sources;
mod sql;
mod watch;
mod why;

use crate::args::{Cli, Command, ConfigCommand, Global};
use crate::config::{self, Config, LakeAccess};
use crate::memory::process_bytes_max;
use crate::said;
use anyhow::{Context, Result};
use catena_collect::lake::Lake;
use catena_collect::private::NotPrivate;
use catena_collect::store::{Access, StoreOptions};
use catena_decode::mapping::Mappings;
use catena_decode::redact::Rules;
use catena_engine::{Engine, Options};
use catena_schemas::Micros;
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code of a wrong setting, as sysexits has it.
const BAD_CONFIGURATION: u8 = 78;
/// Exit code of an id that is not there.
const NOT_FOUND: u8 = 5;

/// How long a service that has stopped waits for threads that were given up.
const LINGER: std::time::Duration = std::time::Duration::from_millis(500);

/// Reads arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.global.log);
    let filter = match filter {
        Ok(filter) => filter,
        Err(e) => {
            said::error(&format!("--log: {e}"), "try `info`");
            return ExitCode::from(2);
        }
    };
    said::log(filter);
    let outcome = match cli.command {
        Command::Config(ConfigCommand::Defaults) => {
            print!("{}", config::DEFAULTS);
            return ExitCode::SUCCESS;
        }
        command => match settings(&cli.global, &command) {
            Err(e) => {
                said::error(&format!("{e:#}"), "`catena config defaults` prints every setting");
                return ExitCode::from(BAD_CONFIGURATION);
            }
            Ok(config) => dispatch(command, &cli.global, config),
        },
    };
    match outcome {
        Ok(code) => code,
        // A reader that has seen enough, such as `head`, is no failure.
        Err(e)
            if e.chain().any(|c| {
                c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            }) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = std::io::stdout().flush();
            said::error(&format!("{e:#}"), "");
            failed(&e)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn settings(global: &Global, command: &Command) -> Result<Config> {
    let mut flags = Vec::new();
    if let Some(lake) = &global.lake {
        flags.push(("lake", lake.clone()));
    }
    if let Some(tenant) = &global.tenant {
        flags.push(("tenant", tenant.clone()));
    }
    if let Command::Serve(crate::args::Serve { listen: Some(listen), .. })
    | Command::Demo(crate::args::Demo { listen: Some(listen), .. }) = command
    {
        flags.push(("listen", listen.clone()));
    }
    // clap has read CATENA_LAKE and its like already; they are the flags above.
    let environment = std::env::vars().filter(|(name, _)| !matches!(name.as_str(), "CATENA_LAKE" | "CATENA_TENANT"));
    let config = Config::load(global.config.as_deref(), environment, &flags)?;
    if matches!(command, Command::Serve(_) | Command::Demo(_) | Command::Config(_)) {
        serve::check(&config)?;
    }
    Ok(config)
}

fn dispatch(command: Command, global: &Global, config: Config) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Demo(args) => demo::run(&runtime, config, &args),
        Command::Serve(args) => {
            let outcome = serve::run(&runtime, config, &args);
            // A part that was given up may hang for ever; dropping the runtime would wait for it.
            runtime.shutdown_timeout(LINGER);
            outcome
        }
        Command::Ingest(args) => ingest::run(&runtime, &config, &args),
        Command::Sql(args) => runtime.block_on(sql::run(&config, global.tenant.as_deref(), &args)),
        Command::Chain(args) => runtime.block_on(chain::run(&config, global.tenant.as_deref(), &args)),
        Command::Why(args) => runtime.block_on(why::run(&config, global.tenant.as_deref(), &args)),
        Command::Mapping(args) => mapping::run(&config, &args),
        Command::Redact(args) => redact::run(&config, &args),
        Command::Rejects(args) => runtime.block_on(rejects::run(&config, global.tenant.as_deref(), &args)),
        Command::Sources(args) => runtime.block_on(sources::run(&config, global.tenant.as_deref(), &args)),
        Command::Maintain(args) => runtime.block_on(maintain::run(&config, &args)),
        Command::Config(_) => {
            println!("settings are fine; lake {}, address {}", config.lake, config.listen);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Exit code of an error: a key file that others can read is a wrong set-up.
fn failed(e: &anyhow::Error) -> ExitCode {
    match e.chain().any(|cause| cause.is::<NotPrivate>()) {
        true => ExitCode::from(BAD_CONFIGURATION),
        false => ExitCode::FAILURE,
    }
}

/// The collector's clock: the one place that reads it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(crate) fn now() -> Micros {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(elapsed.as_micros() as i64)
}

/// How the lake is reached, and with which modes files are made in it.
pub(crate) fn store_options(config: &Config) -> StoreOptions {
    let access = match config.lake_access {
        LakeAccess::Owner => Access::Owner,
        LakeAccess::Group => Access::Group,
        LakeAccess::Umask => Access::Umask,
    };
    StoreOptions { access, ..StoreOptions::new(config.store.clone()) }
}

/// Opens the lake for writing, making it if there is none.
pub(crate) async fn open_lake(config: &Config) -> Result<Arc<Lake>> {
    let options = store_options(config);
    Lake::open(&config.lake, &options).await.with_context(|| not_opened(config))
}

fn not_opened(config: &Config) -> String {
    format!("could not open the lake `{}`", config.lake)
}

/// Opens a lake for reading.
///
/// # Errors
///
/// Also when there is no lake: a mistyped path must not read as a lake without rows.
pub(crate) async fn open_engine(config: &Config) -> Result<Engine> {
    let engine = open_engine_or_wait(config).await?;
    if engine.version().is_none() {
        anyhow::bail!(
            "there is no lake at `{0}`: check `--lake`, or make one with `catena ingest --lake {0} FILE`",
            config.lake
        );
    }
    Ok(engine)
}

/// Opens a lake for reading that another process may not have made yet.
pub(crate) async fn open_engine_or_wait(config: &Config) -> Result<Engine> {
    let options = Options {
        store: config.store.clone(),
        chains_bytes: config.query.chains_bytes,
        queries_bytes: config.query.memory_total_bytes,
        process_bytes_max: match config.query.process_bytes {
            0 => process_bytes_max(),
            bytes => Some(bytes),
        },
        verify_share: config.query.verify_share,
        ..Options::default()
    };
    Engine::open(&config.lake, options).await.with_context(|| not_opened(config))
}

/// How workers of this process flush.
pub(crate) fn flush_settings(config: &Config) -> Result<catena_collect::worker::Settings> {
    Ok(catena_collect::worker::Settings {
        mappings: Arc::new(mappings(config)?),
        rules: Arc::new(rules(config)?),
        flush_rows: config.flush.rows,
        flush_bytes: config.flush.bytes,
        flush_age: std::time::Duration::from_millis(config.flush.age_ms),
        duplicates: Arc::new(catena_collect::duplicates::Duplicates::new(config.duplicates.window)),
        ..Default::default()
    })
}

/// What the site wants removed besides secrets of known shape.
pub(crate) fn rules(config: &Config) -> Result<Rules> {
    if config.redaction.as_os_str().is_empty() {
        return Ok(Rules::default());
    }
    let path = config.redaction.display().to_string();
    let text = std::fs::read_to_string(&config.redaction)
        .with_context(|| format!("could not read the redaction rules `{path}`"))?;
    Ok(Rules::parse(&text, &path)?)
}

/// The mappings that ship, and before them those of the settings, the first named first.
pub(crate) fn mappings(config: &Config) -> Result<Mappings> {
    config.mappings.iter().rev().try_fold((*Mappings::shipped()).clone(), |known, m| ingest::chosen(&known, m))
}

/// Exit code of an id that is not there.
pub(crate) fn not_found() -> ExitCode {
    ExitCode::from(NOT_FOUND)
}
