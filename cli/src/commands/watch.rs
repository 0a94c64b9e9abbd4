//! The role `watch`: chains followed as the lake grows, and their revisions published into it.
//!
//! Guarantee: revisions of a tenant are committed in the order in which they were worked out, each once: a publication that
//! is refused because another watch was faster is thrown away, and the tenant is read again. What happens to one tenant
//! keeps no other's revisions from being committed.

use super::now;
use anyhow::Result;
use catena_analysis::chain::Settings;
use catena_collect::commit::Range;
use catena_collect::lake::Lake;
use catena_collect::publish::publish;
use catena_engine::Engine;
use catena_engine::chains::{Publication, Stepped, Watch};
use catena_schemas::revision::application;
use catena_schemas::table::Class;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause between two looks at the lake.
const EVERY: Duration = Duration::from_millis(250);
/// Pause after something failed, or after another watch was faster.
const LATER: Duration = Duration::from_secs(5);

/// Watches until it is cancelled.
pub(crate) async fn run(lake: Arc<Lake>, engine: Engine, settings: Settings, cancel: CancellationToken) {
    let mut watching = Watching { lake, watch: Watch::new(engine, settings), positions: HashMap::new() };
    loop {
        let pause = match watching.once().await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "chains could not be followed, trying again");
                LATER
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is known between two looks.
struct Watching {
    lake: Arc<Lake>,
    watch: Watch,
    /// Positions that what was read began with.
    positions: HashMap<Arc<str>, i64>,
}

impl Watching {
    async fn once(&mut self) -> Result<()> {
        // Positions first: what was published after them makes ours be refused, instead of being overlooked.
        for (app, position) in self.lake.positions().await? {
            if let Some(tenant) = app.strip_prefix(&application("")) {
                self.positions.entry(tenant.into()).or_insert(position);
            }
        }
        let Stepped { publications, failed } = self.watch.step(now()).await?;
        // The position of a tenant that is read anew stays as it was: should somebody else have published, ours is refused.
        let mut first: Option<anyhow::Error> =
            failed.into_iter().next().map(|(tenant, e)| anyhow::Error::new(e).context(format!("tenant `{tenant}`")));
        for publication in publications {
            let tenant = publication.tenant.clone();
            if let Err(error) = self.publish(publication).await {
                self.watch.forget(&tenant);
                self.positions.remove(&tenant);
                first.get_or_insert(error.context(format!("tenant `{tenant}`")));
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn publish(&mut self, publication: Publication) -> Result<()> {
        let Publication { tenant, rows, position } = publication;
        let from = self.positions.get(&tenant).copied().unwrap_or(0);
        let range = Range { app: application(&tenant), from, to: position, start: 0 };
        publish(&self.lake, &tenant, Class::Chain, &rows, range, now()).await?;
        tracing::debug!(tenant = &*tenant, revisions = rows.num_rows(), position, "chains published");
        self.positions.insert(tenant, position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catena_collect::receive::file::{self, Job};
    use catena_collect::store::StoreOptions;
    use catena_decode::Format;
    use catena_engine::{Limits, Options};

    async fn decide(lake: &Arc<Lake>, tenant: &str, id: &str) {
        let (lake, runtime, tenant) = (lake.clone(), tokio::runtime::Handle::current(), tenant.to_owned());
        let line = format!(
            r#"{{"id":"{id}","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"session":{{"id":"{id}"}},"requester":{{"id":"a"}}}}"#
        );
        let settings = Default::default();
        let job = Job { format: Format::Catena, tenant, threads: 1, settings, follow_symlinks: false, now };
        let ingest =
            move || file::ingest_lines(&lake, &runtime, std::path::Path::new("decisions"), line, &job).map(|_| ());
        tokio::task::spawn_blocking(ingest).await.unwrap().unwrap();
    }

    /// Another follower is faster for the first tenant: the second's revisions are committed all the same, and the
    /// first's by the next look.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_of_one_tenant_loses_nothing_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("lake").to_str().unwrap().to_owned();
        let lake = Lake::open(&url, &StoreOptions::new([])).await.unwrap();
        let follow = async || {
            let engine = Engine::open(&url, Options::default()).await.unwrap();
            let watch = Watch::new(engine, Settings::default());
            Watching { lake: lake.clone(), watch, positions: HashMap::new() }
        };
        decide(&lake, "a", "a1").await;
        decide(&lake, "b", "b1").await;
        let (mut slow, mut fast) = (follow().await, follow().await);
        slow.once().await.unwrap();
        decide(&lake, "a", "a2").await;
        fast.once().await.unwrap();
        decide(&lake, "a", "a3").await;
        decide(&lake, "b", "b2").await;
        assert!(slow.once().await.is_err(), "another one was faster");
        let said = async || {
            let engine = Engine::open(&url, Options::default()).await.unwrap();
            let sql = "SELECT tenant, chain_id, revision, first_event FROM chain_revisions ORDER BY tenant, first_event, revision";
            let rows = engine.sql(sql, &Limits::local()).await.unwrap().collect().await.unwrap();
            let bytes = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Json).unwrap();
            let rows: Vec<serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
            let line = |r: &serde_json::Value| format!("{} {}", r["first_event"].as_str().unwrap(), r["revision"]);
            rows.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(said().await, ["a1 1", "a2 1", "b1 1", "b2 1"]);
        slow.once().await.unwrap();
        assert_eq!(said().await, ["a1 1", "a2 1", "a3 1", "b1 1", "b2 1"]);
    }
}
