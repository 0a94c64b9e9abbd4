//! The command line, as clap reads it. Deciding what it means is left to `config` and `commands`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Catena collects the decisions of AI gateways and rebuilds who delegated what to whom.
#[derive(Debug, Parser)]
#[command(name = "catena", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
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
    /// Run everything in one process on a local lake, fed with bundled real decision logs
    Demo(Demo),
    /// Run the service: receivers, upkeep and answers
    Serve(Serve),
    /// Read files into the lake (gzip and zstd are recognised; - is standard input)
    Ingest(Ingest),
    /// Query the lake with read-only SQL
    Sql(Sql),
    /// List delegation chains, or show one
    #[command(subcommand)]
    Chain(Chain),
    /// Explain why a decision was made: verdict, policy, principals, grant, chain
    Why(Why),
    /// Try a mapping on sample records, or list the mappings
    #[command(subcommand)]
    Mapping(MappingCommand),
    /// Show what redaction would remove from sample records; nothing is stored
    Redact(Redact),
    /// List records that could not be read, explain them, and read them again
    #[command(subcommand)]
    Rejects(Rejects),
    /// Show counts, filled fields, gaps and the last record of each source
    Sources(Sources),
    /// Run maintenance once: checkpoint, merge small files, remove files that no version needs
    Maintain(MaintainOnce),
    /// Check the settings, or print the defaults
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder of the demo's lake; a new temporary one by default
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to serve on
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Stop once all bundled logs are processed
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Parts of the service to run in this process
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
    /// Follow chains and publish their revisions
    Watch,
    /// Serve SQL, chains and the page
    Answer,
    /// Merge small files, write checkpoints and remove files that no version needs
    Maintain,
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Files to read; - is standard input
    #[arg(required_unless_present = "catalog", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Tool catalogue to load before the files: YAML, CSV, or the JSON answer to `tools/list`; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) catalog: Vec<PathBuf>,
    /// Default server for catalogue tools without one
    #[arg(long, value_name = "URL", requires = "catalog")]
    pub(crate) catalog_server: Option<String>,
    /// Format of the records
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
    /// Mapping to use: the name of a shipped one, or a TOML file
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
    /// Number of worker threads; the number of cores by default
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One JSON array
    Json,
    /// One JSON object per line
    Jsonl,
    /// Comma-separated values
    Csv,
    /// An aligned text table
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
    /// Same as --output json
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    /// Maximum number of rows
    #[arg(long, value_name = "N")]
    pub(crate) rows_max: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Chain {
    /// List chains, newest first
    Ls(ChainList),
    /// Draw one chain as a tree
    Show(ChainShow),
}

#[derive(Debug, Args)]
pub(crate) struct ChainList {
    /// Only chains of this requester
    #[arg(long)]
    pub(crate) requester: Option<String>,
    /// Only chains with this agent, client or other actor
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Only chains with this tool
    #[arg(long)]
    pub(crate) tool: Option<String>,
    /// Only chains with this tool server
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// Only chains with a denied call
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only chains with a hop that holds more than it was delegated
    #[arg(long)]
    pub(crate) widened: bool,
    /// Only chains with a call whose parent is missing
    #[arg(long, conflicts_with = "unknown")]
    pub(crate) orphan: bool,
    /// Only chains with a call that has no known requester
    #[arg(long)]
    pub(crate) unknown: bool,
    /// Only chains with a path of at least N principals
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<usize>,
    /// Only chains with calls at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Only chains with calls before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Maximum number of chains
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChainShow {
    /// Id of a chain, a decision, a session or a trace
    #[arg(value_parser = id)]
    pub(crate) id: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "tree")]
    pub(crate) output: Picture,
    /// Same as --output json
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Picture {
    /// A tree of text
    Tree,
    /// The whole chain as JSON
    Json,
    /// Graphviz
    Dot,
    /// An SVG picture
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Id of a decision
    #[arg(value_parser = id)]
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
    /// Rules to use instead of those in the settings
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with code 6 if anything would be removed
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MappingCommand {
    /// List the mappings in the order in which they are tried
    Ls,
    /// Show, for each sample record, which value became which field, what stayed unmapped and which fields are empty
    Try(MappingTry),
}

#[derive(Debug, Args)]
pub(crate) struct MappingTry {
    /// Files of sample records, and mapping files (.toml); - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Mapping to try: a TOML file, or the name of a shipped one; by default, the one that matches each record
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) mapping: Option<String>,
    /// Format of the records
    #[arg(long, default_value = "auto")]
    pub(crate) format: String,
    /// Maximum number of records
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) records: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rejects {
    /// List rejected records (with --asides, records set aside), by reason or one by one, without those that a retry has read
    Ls(RejectsList),
    /// Show one rejected record, or one that was set aside, why, and how to fix it
    Show(RejectsShow),
    /// Read rejected records (with --asides, those set aside) again, with this version and its mappings
    Retry(RejectsRetry),
}

#[derive(Debug, Args)]
pub(crate) struct RejectFilter {
    /// Only records with this reason
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only records read as this format
    #[arg(long, value_name = "FORMAT")]
    pub(crate) of_format: Option<String>,
    /// Only records from this topic or file
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Records that were set aside instead of rejected ones
    #[arg(long)]
    pub(crate) asides: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RejectsList {
    #[command(flatten)]
    pub(crate) filter: RejectFilter,
    /// List each record instead of totals
    #[arg(long)]
    pub(crate) each: bool,
    /// Maximum number of lines
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RejectsShow {
    /// Id of the record, <topic>/<partition>/<offset>, as `catena rejects ls --each` prints it
    #[arg(value_parser = id)]
    pub(crate) id: String,
    /// Maximum number of bytes of the record to show
    #[arg(long, default_value_t = 4096, value_name = "N")]
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
    /// Mapping to use: the name of a shipped one, or a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) mapping: Option<String>,
    /// Report the result without storing anything
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Maximum number of records
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
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
    /// Change nothing; compare every data file with its digest in the log and name the damaged ones
    #[arg(long, conflicts_with = "unexplained_max")]
    pub(crate) scrub: bool,
    /// Delete up to N files that no log entry explains, even when the log is in doubt
    #[arg(long, value_name = "N")]
    pub(crate) unexplained_max: Option<usize>,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the settings and the environment, and report what to change
    Check,
    /// Print every setting with its default
    Defaults,
}

/// An id without the spaces that copying it brings along.
fn id(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("the id is empty".to_owned()),
        id => Ok(id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_trimmed() {
        for words in [["chain", "show"].as_slice(), &["why"], &["rejects", "show"]] {
            let given = ["catena"].iter().chain(words).chain(&[" d-1\n"]);
            let id = match Cli::try_parse_from(given).expect("an id with spaces around it").command {
                Command::Chain(Chain::Show(show)) => show.id,
                Command::Why(why) => why.id,
                Command::Rejects(Rejects::Show(show)) => show.id,
                other => panic!("{other:?}"),
            };
            assert_eq!(id, "d-1");
            assert!(Cli::try_parse_from(["catena"].iter().chain(words).chain(&["  "])).is_err());
        }
    }
}
