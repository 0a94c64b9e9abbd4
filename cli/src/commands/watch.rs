//! The role `watch`: chains followed as the lake grows, and their revisions published into it.
//!
//! Guarantee: revisions of a tenant are committed in the order in which they were worked out, each once: a publication that
//! is refused because another watch was faster is thrown away, and the tenant is read again.

use super::now;
use anyhow::Result;
use catena_analysis::chain::Settings;
use catena_collect::commit::Range;
use catena_collect::lake::Lake;
use catena_collect::publish::publish;
use catena_engine::Engine;
use catena_engine::chains::{Publication, Watch};
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
        let publications = match self.watch.step(now()).await {
            Ok(publications) => publications,
            Err(error) => {
                self.positions.clear();
                return Err(error.into());
            }
        };
        for publication in publications {
            let tenant = publication.tenant.clone();
            if let Err(error) = self.publish(publication).await {
                self.watch.forget(&tenant);
                self.positions.remove(&tenant);
                return Err(error);
            }
        }
        Ok(())
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
