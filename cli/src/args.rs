//! The command line, as clap reads it. Deciding what it means is left to `config` and `commands`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Catena: who let this agent do that, on whose behalf, under which policy, and can you prove it?
#[derive(Debug, Parser)]
#[command(name = "catena", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The lake: a folder, or s3://bucket/prefix
    #[arg(long, global = true, env = "CATENA_LAKE", value_name = "URL")]
    pub(crate) lake: Option<String>,
    /// Tenant to read or write
    #[arg(long, global = true, env = "CATENA_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Settings file; `catena config defaults` prints them all
    #[arg(long, global = true, env = "CATENA_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Log filter on standard error, e.g. info or catena_collect=debug
    #[arg(long, global = true, env = "CATENA_LOG", default_value = "warn", value_name = "FILTER")]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in one process on an embedded lake, fed with bundled real decision logs
    Demo(Demo),
    /// Run the service: receivers, upkeep and answers
    Serve(Serve),
    /// Decode files (gzip and zstd recognised; - is standard input) into the lake, once
    Ingest(Ingest),
    /// Ask the lake in SQL, read-only
    Sql(Sql),
    /// Delegation chains
    #[command(subcommand)]
    Chain(Chain),
    /// Why a decision fell as it did: verdict, policy, who stood behind the call, grant, chain
    Why(Why),
    /// What a mapping makes of records
    #[command(subcommand)]
    Mapping(MappingCommand),
    /// What redaction would remove from samples; nothing is stored
    Redact(Redact),
    /// Records that could not be read: what and why, and reading them again
    #[command(subcommand)]
    Rejects(Rejects),
    /// What came of each source: counts, fields filled, numbers missing, last seen
    Sources(Sources),
    /// Look after the lake once: checkpoint, merge small files, remove what no version needs
    Maintain(MaintainOnce),
    /// Settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder of the demo's lake; a fresh temporary one unless given
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to serve on
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Stop when all bundled logs are processed
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Parts of the service to run here
    #[arg(long, value_delimiter = ',', default_value = "collect,watch,answer,maintain")]
    pub(crate) role: Vec<Role>,
    /// Address to serve on
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Receive from Kafka, HTTP and files
    Collect,
    /// Follow chains, and publish their revisions
    Watch,
    /// Serve SQL, chains and the page
    Answer,
    /// Look after the lake
    Maintain,
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Files to read; - is standard input
    #[arg(required_unless_present = "catalog", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Catalogue of tools to take in first: YAML, CSV, or the JSON answer to `tools/list`; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) catalog: Vec<PathBuf>,
    /// Tool server of the catalogue's tools that name none
    #[arg(long, value_name = "URL", requires = "catalog")]
    pub(crate) catalog_server: Option<String>,
    /// Format of the records
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
    /// Mapping to use: a shipped one by name, or a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) mapping: Option<String>,
    /// Keep reading as the files grow, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
    /// Follow files whose path is a symbolic link
    #[arg(long, requires = "follow")]
    pub(crate) follow_symlinks: bool,
    /// Print totals as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Worker threads; as many as there are cores unless given
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One JSON array
    Json,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values
    Csv,
    /// A table for people
    Table,
    /// Parquet, to standard output
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// The query; - reads it from standard input
    pub(crate) query: String,
    /// How to print the rows
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    /// Rows at most
    #[arg(long)]
    pub(crate) rows_max: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Chain {
    /// List chains, the newest first
    Ls(ChainList),
    /// Draw one chain as a tree
    Show(ChainShow),
}

#[derive(Debug, Args)]
pub(crate) struct ChainList {
    /// Only of this requester
    #[arg(long)]
    pub(crate) requester: Option<String>,
    /// Only with this agent, client or other actor
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Only with this tool
    #[arg(long)]
    pub(crate) tool: Option<String>,
    /// Only with this tool server
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// Only with a call that was denied
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only with a hop that widened what it was given
    #[arg(long)]
    pub(crate) widened: bool,
    /// Only with a call whose parent is missing
    #[arg(long, conflicts_with = "unknown")]
    pub(crate) orphan: bool,
    /// Only with a call on nobody's behalf
    #[arg(long)]
    pub(crate) unknown: bool,
    /// Only with a path of at least so many principals
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<usize>,
    /// Only with calls from this instant on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Only with calls before this instant (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Chains at most
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChainShow {
    /// Id of a chain, a decision, a session or a trace
    pub(crate) id: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "tree")]
    pub(crate) output: Picture,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Picture {
    /// A tree of text
    Tree,
    /// Everything, as JSON
    Json,
    /// For Graphviz
    Dot,
    /// A picture
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Id of a decision
    pub(crate) id: String,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Redact {
    /// Files of sample records; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Rules to try instead of those of the settings
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 6 when something would be removed
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MappingCommand {
    /// Mappings in the order in which they are tried
    Ls,
    /// For each sample record: what became what, what stayed unmapped, and which fields are empty
    Try(MappingTry),
}

#[derive(Debug, Args)]
pub(crate) struct MappingTry {
    /// Files of sample records, - is standard input; a mapping file (.toml) may stand among them
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Mapping to try: a TOML file, or a shipped one by name; without it, those that fit
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) mapping: Option<String>,
    /// Format of the records
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
    /// Records at most
    #[arg(long, default_value_t = 100)]
    pub(crate) records: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rejects {
    /// Rejections (or with --asides, records set aside) by reason, or one by one; those that a retry has read are left out
    Ls(RejectsList),
    /// One rejected record, or one that was set aside: what it was, what is wrong with it, and the way out
    Show(RejectsShow),
    /// Read rejected records (or with --asides, those set aside) again, with what this version and its mappings know
    Retry(RejectsRetry),
}

#[derive(Debug, Args)]
pub(crate) struct RejectFilter {
    /// Only with this reason
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only those rejected as this format
    #[arg(long, value_name = "FORMAT")]
    pub(crate) of_format: Option<String>,
    /// Only from this topic or file
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Records that were set aside, instead of rejected ones
    #[arg(long)]
    pub(crate) asides: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RejectsList {
    #[command(flatten)]
    pub(crate) filter: RejectFilter,
    /// Each record instead of totals
    #[arg(long)]
    pub(crate) each: bool,
    /// Lines at most
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RejectsShow {
    /// <topic>/<partition>/<offset>, as `rejects ls` prints it
    pub(crate) id: String,
    /// Bytes of the record to show
    #[arg(long, default_value_t = 4096)]
    pub(crate) bytes: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RejectsRetry {
    #[command(flatten)]
    pub(crate) filter: RejectFilter,
    /// Read them as this format
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Mapping to use: a shipped one by name, or a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) mapping: Option<String>,
    /// Only say what would come of it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Records at most
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) limit: usize,
    /// Print totals as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MaintainOnce {
    /// Change nothing: compare every data file with the digest in the log, and name those that are damaged
    #[arg(long, conflicts_with = "unexplained_max")]
    pub(crate) scrub: bool,
    /// Delete up to N files that no log entry explains, also when the log is in doubt
    #[arg(long, value_name = "N")]
    pub(crate) unexplained_max: Option<usize>,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check settings and environment, and say what to change
    Check,
    /// Print every setting with its default
    Defaults,
}
