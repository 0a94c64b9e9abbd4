//! Who may come in: from settings to keys, listeners and their limits.
//!
//! Guarantee: what anyone could reach without showing who they are is refused before anything starts, with the setting to
//! change; keys that only ingest cannot ask, and keys that only read cannot ingest.

use crate::config::{Config, Key, May, parse_format};
use anyhow::{Context, Result};
use axum::Router;
use catena_collect::receive::http::{self, Auth, Bodies};
use catena_collect::receive::syslog;
use catena_server::{Access, Holder, Settings};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Refuses settings that no service starts with.
pub(crate) fn check(config: &Config) -> Result<()> {
    auth(config)?.check_listener(config.listen).context("`listen` and `http.keys`")?;
    if let Some(settings) = syslog(config)? {
        syslog::check_listener(settings.listen, settings.clients.as_deref())?;
    }
    Ok(())
}

/// Who may send.
pub(super) fn auth(config: &Config) -> Result<Auth> {
    let may = |key: &Key| {
        let may = key.may().iter().map(|may| match may {
            May::Ingest => http::May::Ingest,
            May::Read => http::May::Read,
            May::Metrics => http::May::Metrics,
        });
        may.collect()
    };
    let key = |k: &Key| http::Key { sha256: k.sha256.clone(), tenant: k.tenant.clone(), may: may(k) };
    let keys: Vec<http::Key> = config.http.keys.iter().map(key).collect();
    Auth::new(&keys, &config.tenant).context("`http.keys`")
}

/// Keys of settings that do not say what they are for keep on doing both, and that is said once.
pub(super) fn warn_of_old_keys(config: &Config) {
    let old = config.http.keys.iter().filter(|key| key.may.is_none());
    let tenants: BTreeSet<&str> = old.map(|key| key.tenant.as_str()).collect();
    if !tenants.is_empty() {
        let tenants = tenants.into_iter().collect::<Vec<_>>().join(", ");
        tracing::warn!(
            tenants,
            "keys in `[http] keys` without `may` can ingest and read the whole trail of their tenant: give a gateway's key \
             may = [\"ingest\"], and a reader's key may = [\"read\"]"
        );
    }
}

/// Limits on connections.
pub(super) fn limits(config: &Config) -> http::Limits {
    let given = &config.http;
    let body_timeout = Duration::from_secs(given.body_timeout_s);
    http::Limits {
        connections_max: given.connections_max,
        connections_per_address_max: given.connections_per_address_max,
        header_timeout: Duration::from_secs(given.header_timeout_s),
        // The routes set the limit, and say that it was reached; this is for one that forgets to.
        body_timeout: body_timeout * 2,
        idle_timeout: Duration::from_secs(given.idle_timeout_s),
        answer_timeout: Duration::from_secs(given.answer_timeout_s),
        answer_rate_min: given.answer_bytes_per_s_min,
        ..http::Limits::default()
    }
}

/// Limits on bodies that are ingested.
pub(super) fn bodies(config: &Config) -> Bodies {
    Bodies {
        unpacked_bytes_max: config.http.body_bytes_max,
        records_max: config.http.body_records_max,
        timeout: Duration::from_secs(config.http.body_timeout_s),
        per_tenant_max: config.http.bodies_per_tenant_max,
        ..Bodies::default()
    }
}

/// What `/readyz` says of an engine: threads of queries that did not come back, and whether queries still run.
pub(super) fn health_of(engine: &catena_engine::Engine) -> http::Health {
    let (engine, same) = (engine.clone(), engine.clone());
    let stuck = move || {
        let health = engine.health();
        let why = "queries do not run: their threads did not come back too often; restart the process";
        (!health.runs).then(|| why.to_owned())
    };
    let given_up = move || match same.health().given_up {
        0 => None,
        n => Some(format!("query threads did not come back and were given up {n} times; the log says when")),
    };
    http::Health { checks: vec![Arc::new(stuck)], notes: vec![Arc::new(given_up)] }
}

/// Questions over HTTP: with keys each sees its tenant; without, only this machine may ask.
pub(super) fn answers(engine: catena_engine::Engine, config: &Config) -> Router {
    let holder = |key: &Key| Holder { tenant: key.tenant.clone(), may_read: key.may().contains(&May::Read) };
    let keys = config.http.keys.iter().filter_map(|key| {
        let mut digest = [0; 32];
        hex::decode_to_slice(&key.sha256, &mut digest).ok().map(|()| (digest, holder(key)))
    });
    let keys: HashMap<_, _> = keys.collect();
    let open = keys.is_empty();
    let limits = catena_engine::Limits {
        rows: config.query.rows_max as u64,
        memory: config.query.memory_bytes,
        time: Duration::from_secs(config.query.seconds_max),
        ..catena_engine::Limits::default()
    };
    let settings = Settings {
        access: if open { Access::Open } else { Access::Keys(keys) },
        limits,
        body_timeout: Duration::from_secs(config.http.body_timeout_s),
        unsent_bytes_max: config.query.unsent_bytes_max,
        unsent_bytes_per_tenant_max: config.query.unsent_bytes_per_tenant_max,
        ..Settings::default()
    };
    let routes = catena_server::router(engine, settings);
    if open { http::loopback_only(routes) } else { routes }
}

/// Where syslog listens, if it does.
pub(super) fn syslog(config: &Config) -> Result<Option<syslog::Settings>> {
    let given = &config.syslog;
    if given.listen.is_empty() {
        return Ok(None);
    }
    let listen =
        given.listen.parse().with_context(|| format!("`syslog.listen` is not an address: `{}`", given.listen))?;
    Ok(Some(syslog::Settings {
        listen,
        certificate: given.certificate.clone(),
        key: given.key.clone(),
        clients: (!given.clients.as_os_str().is_empty()).then(|| given.clients.clone()),
        format: parse_format(&given.format)?,
        tenant: if given.tenant.is_empty() { config.tenant.clone() } else { given.tenant.clone() },
        limits: syslog::Limits {
            connections_max: given.connections_max,
            connections_per_address_max: given.connections_per_address_max,
            ..syslog::Limits::default()
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, want: Result<(), &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catena.toml");
        std::fs::write(&path, file).unwrap();
        let config = Config::load(Some(&path), std::iter::empty(), &[]).unwrap();
        match (super::check(&config), want) {
            (Ok(()), Ok(())) => {}
            (Err(e), Err(part)) => assert!(format!("{e:#}").contains(part), "{file}: {e:#}"),
            (got, _) => panic!("{file}: {got:?}"),
        }
    }

    #[test]
    fn what_anyone_could_reach_is_refused() {
        let key = format!("[http]\nkeys = [{{sha256 = \"{}\", tenant = \"a\"}}]", "0".repeat(64));
        check("", Ok(()));
        check("listen = \"0.0.0.0:7878\"", Err("`http.keys`"));
        check(&format!("listen = \"0.0.0.0:7878\"\n{key}"), Ok(()));
        check("[http]\nkeys = [{sha256 = \"secret\", tenant = \"a\"}]", Err("64 hex digits"));
        check("[syslog]\nlisten = \"127.0.0.1:6514\"", Ok(()));
        check("[syslog]\nlisten = \"0.0.0.0:6514\"", Err("`syslog.clients`"));
        check("[syslog]\nlisten = \"0.0.0.0:6514\"\nclients = \"ca.pem\"", Ok(()));
        check("[syslog]\nlisten = \"6514\"", Err("`syslog.listen` is not an address"));
    }
}
