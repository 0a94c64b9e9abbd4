//! Settings: defaults, file, environment and flags, in this order, to one type without an `Option` left to wonder about.
//!
//! Guarantee: a wrong setting is refused at start, with the line to change or the nearest known key; nothing after
//! start-up sees a raw one. The defaults are a commented TOML file, compiled in, and the manual at once.

use crate::nearest::did_you_mean;
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The commented defaults.
pub(crate) const DEFAULTS: &str = include_str!("defaults.toml");

/// All settings, decided.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) lake: String,
    pub(crate) listen: std::net::SocketAddr,
    pub(crate) tenant: String,
    pub(crate) lake_access: LakeAccess,
    pub(crate) mappings: Vec<String>,
    pub(crate) redaction: PathBuf,
    pub(crate) store: BTreeMap<String, String>,
    pub(crate) flush: Flush,
    pub(crate) duplicates: Duplicates,
    pub(crate) kafka: Kafka,
    pub(crate) intake: Intake,
    pub(crate) http: Http,
    pub(crate) files: Files,
    pub(crate) syslog: Syslog,
    pub(crate) maintain: Maintain,
    pub(crate) query: Query,
}

/// Who besides the process may read the files of `records`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LakeAccess {
    Owner,
    Group,
    Umask,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flush {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) age_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Duplicates {
    pub(crate) window: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    pub(crate) group: String,
    pub(crate) instance: String,
    pub(crate) workers: usize,
    pub(crate) topics: Vec<Topic>,
    pub(crate) start: Start,
    pub(crate) epoch: u32,
    pub(crate) memory_bytes: usize,
    pub(crate) properties: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Start {
    Earliest,
    Latest,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topic {
    pub(crate) name: String,
    #[serde(default = "auto")]
    pub(crate) format: String,
    #[serde(default)]
    pub(crate) tenant: String,
    #[serde(default)]
    pub(crate) mapping: Option<String>,
    #[serde(default)]
    pub(crate) registry: Option<String>,
}

fn auto() -> String {
    "auto".into()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intake {
    pub(crate) dir: PathBuf,
    pub(crate) partitions: u16,
    pub(crate) bytes_max: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) keys: Vec<Key>,
    pub(crate) body_bytes_max: usize,
    pub(crate) body_records_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    pub(crate) bodies_per_tenant_max: usize,
    pub(crate) header_timeout_s: u64,
    pub(crate) body_timeout_s: u64,
    pub(crate) idle_timeout_s: u64,
    pub(crate) answer_timeout_s: u64,
    pub(crate) answer_bytes_per_s_min: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub(crate) sha256: String,
    pub(crate) tenant: String,
    /// Absent in settings of before there was a choice: then a key ingests and reads.
    #[serde(default)]
    pub(crate) may: Option<Vec<May>>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum May {
    Ingest,
    Read,
    Metrics,
}

impl Key {
    pub(crate) fn may(&self) -> &[May] {
        self.may.as_deref().unwrap_or(&[May::Ingest, May::Read])
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) follow: Vec<Follow>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Follow {
    pub(crate) path: PathBuf,
    #[serde(default = "auto")]
    pub(crate) format: String,
    #[serde(default)]
    pub(crate) tenant: String,
    #[serde(default)]
    pub(crate) follow_symlinks: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Syslog {
    pub(crate) listen: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) clients: PathBuf,
    pub(crate) format: String,
    pub(crate) tenant: String,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Maintain {
    pub(crate) every_s: u64,
    pub(crate) target_bytes: u64,
    pub(crate) keep_removed_h: u64,
    /// Below 0: as many as dead writers leave behind.
    pub(crate) unexplained_max: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    pub(crate) memory_bytes: usize,
    pub(crate) memory_total_bytes: usize,
    pub(crate) process_bytes: u64,
    pub(crate) rows_max: usize,
    pub(crate) seconds_max: u64,
    pub(crate) unsent_bytes_max: usize,
    pub(crate) unsent_bytes_per_tenant_max: usize,
    pub(crate) chains_bytes: usize,
    pub(crate) verify_share: f64,
}

impl Config {
    /// Defaults, then the file, then `CATENA_*`, then flags (dotted key and value).
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Config> {
        let mut settings: Table = DEFAULTS.parse().expect("the compiled-in defaults are TOML");
        let known = settings.clone();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("could not read settings `{}`", path.display()))?;
            let table: Table = text.parse().map_err(|e| anyhow!("`{}` is not TOML: {e}", path.display()))?;
            check_keys(&known, &table, "").with_context(|| format!("in `{}`", path.display()))?;
            merge(&mut settings, table);
        }
        for (name, text) in environment {
            let Some(key) = name.strip_prefix("CATENA_") else { continue };
            let key = key.to_ascii_lowercase().replace("__", ".");
            if matches!(key.as_str(), "config" | "log" | "bin" | "peers_py") {
                continue;
            }
            set(&mut settings, &known, &key, &text).with_context(|| format!("in environment variable `{name}`"))?;
        }
        for (key, text) in flags {
            set(&mut settings, &known, key, text)?;
        }
        check_open(&settings)?;
        let mut config: Config = Value::Table(settings).try_into().map_err(|e| anyhow!("wrong setting: {e}"))?;
        config.resolve()?;
        Ok(config)
    }

    fn resolve(&mut self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.query.verify_share) {
            bail!("`query.verify_share` is a part, from 0 to 1, not {}", self.query.verify_share);
        }
        for tenant in self
            .kafka
            .topics
            .iter_mut()
            .map(|t| &mut t.tenant)
            .chain(self.files.follow.iter_mut().map(|f| &mut f.tenant))
            .chain(self.http.keys.iter_mut().map(|k| &mut k.tenant))
        {
            if tenant.is_empty() {
                *tenant = self.tenant.clone();
            }
            check_tenant(tenant)?;
        }
        check_tenant(&self.tenant)?;
        if let Some(key) = self.http.keys.iter().find(|key| key.may().is_empty()) {
            bail!(
                "`http.keys`: the key of tenant `{}` has an empty `may`; list what it may do: ingest, read, metrics",
                key.tenant
            );
        }
        if !self.syslog.tenant.is_empty() {
            check_tenant(&self.syslog.tenant)?;
        }
        parse_format(&self.syslog.format)?;
        for format in self.kafka.topics.iter().map(|t| &t.format).chain(self.files.follow.iter().map(|f| &f.format)) {
            parse_format(format)?;
        }
        if !self.kafka.brokers.is_empty() && self.kafka.topics.is_empty() {
            bail!(
                "`kafka.brokers` is set, but `kafka.topics` names none; add e.g. topics = [{{ name = \"decisions\" }}]"
            );
        }
        if self.intake.dir.as_os_str().is_empty() && !self.lake.contains("://") {
            self.intake.dir = Path::new(&self.lake).join("_catena/intake");
        }
        Ok(())
    }
}

/// A decoder by name.
pub(crate) fn parse_format(name: &str) -> Result<catena_decode::Format> {
    use catena_decode::Format;
    Format::parse(name).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|f| f.as_str()).collect();
        anyhow!("`{name}` is not a format{} (formats: {})", did_you_mean(name, known.iter().copied()), known.join(", "))
    })
}

/// Tenants are folder names: short, plain, and the same on every file system.
pub(crate) fn check_tenant(tenant: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let fits = (1..=64).contains(&tenant.len()) && tenant.bytes().all(plain) && !tenant.starts_with('.');
    if !fits {
        bail!("tenant `{tenant}` is not 1 to 64 of a-z, 0-9, `-`, `_` and `.`, not beginning with `.`");
    }
    Ok(())
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Sections whose keys are somebody else's.
fn is_open(path: &str) -> bool {
    matches!(path, "store" | "kafka.properties")
}

/// Values of sections whose keys are somebody else's are text. Said here, because the message of another type quotes the value, and
/// passwords stand there.
fn check_open(settings: &Table) -> Result<()> {
    let kafka = settings.get("kafka").and_then(|kafka| kafka.get("properties"));
    for (section, values) in [("store", settings.get("store")), ("kafka.properties", kafka)] {
        for (key, value) in values.and_then(Value::as_table).into_iter().flatten() {
            if !value.is_str() {
                bail!("`{section}.{key}` is {}, not text; put it in quotes", value.type_str());
            }
        }
    }
    Ok(())
}

fn check_keys(known: &Table, given: &Table, path: &str) -> Result<()> {
    for (key, value) in given {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (known.get(key), value) {
            (Some(Value::Table(known)), Value::Table(given)) if !is_open(&full) => check_keys(known, given, &full)?,
            (Some(_), _) => {}
            (None, _) => return Err(unknown_key(known, &full, key)),
        }
    }
    Ok(())
}

fn unknown_key(known: &Table, full: &str, key: &str) -> anyhow::Error {
    let nearest = did_you_mean(key, known.keys().map(String::as_str));
    anyhow!("`{full}` is not a setting{nearest} (`catena config defaults` prints every setting)")
}

fn set(settings: &mut Table, known: &Table, key: &str, text: &str) -> Result<()> {
    let (mut table, mut known) = (settings, known);
    let mut path = String::new();
    let parts: Vec<&str> = key.split('.').collect();
    for (depth, part) in parts.iter().enumerate() {
        let at_end = depth + 1 == parts.len();
        let full = if path.is_empty() { (*part).to_owned() } else { format!("{path}.{part}") };
        if is_open(&path) {
            // Names of others hold dots themselves: the rest of the key is one name.
            table.insert(parts[depth..].join("."), Value::String(text.to_owned()));
            return Ok(());
        }
        let Some(default) = known.get(*part) else { return Err(unknown_key(known, &full, part)) };
        if at_end {
            table.insert((*part).to_owned(), typed(default, text).with_context(|| format!("setting `{full}`"))?);
            return Ok(());
        }
        let (Value::Table(inner), Some(Value::Table(into))) = (default, table.get_mut(*part)) else {
            bail!("`{path}` is a setting, not a section");
        };
        (known, table) = (inner, into);
        path = full;
    }
    Ok(())
}

/// Text as the type of the default.
fn typed(default: &Value, text: &str) -> Result<Value> {
    Ok(match default {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Integer(_) => Value::Integer(text.parse().map_err(|_| anyhow!("`{text}` is not a whole number"))?),
        Value::Boolean(_) => Value::Boolean(text.parse().map_err(|_| anyhow!("`{text}` is not true or false"))?),
        _ => {
            let table: Table = format!("value = {text}").parse().map_err(|e| anyhow!("`{text}` is not TOML: {e}"))?;
            table["value"].clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, environment: &[(&str, &str)], want: Result<fn(&Config) -> bool, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catena.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let got = Config::load(Some(&path), environment, &[]);
        match (got, want) {
            (Ok(config), Ok(holds)) => assert!(holds(&config), "{file}: {config:?}"),
            (Err(e), Err(part)) => assert!(format!("{e:#}").contains(part), "{file}: {e:#}"),
            (got, _) => panic!("{file}: {got:?}"),
        }
    }

    #[test]
    fn layers() {
        check("", &[], Ok(|c| c.flush.age_ms == 2000 && c.intake.dir.ends_with("_catena/intake")));
        check("[flush]\nage_ms = 5", &[], Ok(|c| c.flush.age_ms == 5));
        check("[flush]\nage_ms = 5", &[("CATENA_FLUSH__AGE_MS", "7")], Ok(|c| c.flush.age_ms == 7));
        let key = "[http]\nkeys = [{sha256 = \"\", tenant = \"a\"}, {sha256 = \"\", tenant = \"b\", may = [\"read\"]}]";
        check(
            key,
            &[],
            Ok(|c| c.http.keys[0].may() == [May::Ingest, May::Read] && c.http.keys[1].may() == [May::Read]),
        );
        check("", &[("CATENA_KAFKA__TOPICS", "[{ name = \"d\" }]")], Ok(|c| c.kafka.topics[0].tenant == "default"));
        check(
            "[kafka.properties]\n\"security.protocol\" = \"ssl\"",
            &[],
            Ok(|c| c.kafka.properties["security.protocol"] == "ssl"),
        );
        check(
            "",
            &[("CATENA_KAFKA__PROPERTIES__SASL.MECHANISM", "PLAIN")],
            Ok(|c| c.kafka.properties["sasl.mechanism"] == "PLAIN"),
        );
    }

    /// A setting that was released stays one: files that name it are there.
    #[test]
    fn settings_of_earlier_versions_are_read() {
        check(include_str!("../../../tests/compat/0.1/catena.toml"), &[], Ok(|c| c.flush.age_ms == 2000));
    }

    #[test]
    fn ladder_of_faults() {
        check("flush = ", &[], Err("is not TOML"));
        check("[flush]\nage = 5", &[], Err("`flush.age` is not a setting; did you mean `age_ms`?"));
        check("[flush]\nage_ms = \"x\"", &[], Err("invalid type"));
        check("", &[("CATENA_FLUSH__AGE_MS", "x")], Err("`x` is not a whole number"));
        check("", &[("CATENA_LAEK", "x")], Err("did you mean `lake`?"));
        check(
            "[kafka.properties]\n\"sasl.password\" = 4242",
            &[],
            Err("`kafka.properties.sasl.password` is integer, not text"),
        );
        check("tenant = \"A\"", &[], Err("tenant `A` is not"));
        check("[kafka]\nbrokers = \"h:1\"", &[], Err("`kafka.topics` names none"));
        check("[http]\nkeys = [{sha256 = \"\", tenant = \"a\", may = []}]", &[], Err("tenant `a` has an empty `may`"));
        check(
            "[http]\nkeys = [{sha256 = \"\", tenant = \"a\", may = [\"write\"]}]",
            &[],
            Err("`ingest`, `read`, `metrics`"),
        );
        check(
            "[kafka]\ntopics = [{name = \"d\", format = \"opus\"}]",
            &[],
            Err("`opus` is not a format; did you mean `opa`?"),
        );
    }
}
