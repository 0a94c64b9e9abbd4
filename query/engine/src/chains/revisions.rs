//! Revisions of chains as rows of the lake.
//!
//! Guarantee: a row says of one chain what it was at one version, or that its id was given up and for which other.

use super::columns::{COLUMNS, Seen, Widened};
use crate::engine::Engine;
use crate::error::QueryError;
use crate::limits::Limits;
use crate::log::Snapshot;
use crate::table::Scope;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use catena_analysis::chain::Chain;
use catena_analysis::chain::rules::Store;
use catena_analysis::chain::rules::watch::Published;
use catena_schemas::Micros;
use catena_schemas::authority::Cell;
use catena_schemas::revision::{REVISIONS, Revision};
use catena_schemas::rows::{Place, Rows};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Columns of `chain_revisions` after those of `chains`.
pub(super) const OWN: [&str; 5] = ["aliases", "first_source", "first_event", "fingerprint", "reflects"];

/// State of a chain whose events belong to another one now.
pub(super) const GONE: &str = "merged";

impl Engine {
    /// The newest revision of each chain of a tenant that was published by a version.
    pub(super) async fn published(
        &self,
        tenant: &Arc<str>,
        snapshot: &Arc<Snapshot>,
    ) -> Result<HashMap<String, i64>, QueryError> {
        let (explain, scope) = (|e| self.explain(e), Scope::Tenant(tenant.clone()));
        let context = self.context(&scope, snapshot.clone(), &Limits::local()).map_err(explain)?;
        let asked = "SELECT chain_id, max(revision) FROM chain_revisions GROUP BY chain_id";
        let mut batches = self.batches(&context, context.sql(asked).await.map_err(explain)?, Ok).await?;
        let mut published = HashMap::new();
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            let (ids, revisions) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            published.extend(ids.iter().flatten().map(str::to_owned).zip(revisions.values().iter().copied()));
        }
        Ok(published)
    }
}

/// Rows under construction.
pub(super) struct Writing<'a> {
    rows: Rows,
    count: i64,
    tenant: &'a str,
    version: u64,
    now: Micros,
}

impl<'a> Writing<'a> {
    /// Of a tenant, at a version of the lake.
    pub(super) fn new(tenant: &'a str, version: u64, now: Micros) -> Writing<'a> {
        Writing { rows: Rows::default(), count: 0, tenant, version, now }
    }

    /// The rows, if there are any.
    pub(super) fn finish(mut self) -> Option<RecordBatch> {
        (self.count > 0).then(|| self.rows.finish())
    }

    fn push(&mut self, chain_id: &str, revision: i64, ended: Micros, cells: &[Option<Cell<'_>>]) {
        let place = Place {
            tenant: self.tenant,
            topic: "chains",
            partition: 0,
            offset: self.version as i64,
            format: "catena",
            redaction: "",
            ingest_time: self.now,
        };
        let body = REVISIONS.body(cells);
        self.rows.push_revision(&Revision { chain_id, revision, ended, body: &body }, &place);
        self.count += 1;
    }

    /// An id was given up.
    pub(super) fn gone(&mut self, old: &Published, into: &str, ended: Micros) {
        let own = |name: &str| match name {
            "chain_id" => Some(text(&old.id)),
            "revision" => Some(Cell::Int(i64::from(old.revision))),
            "state" => Some(text(GONE)),
            "aliases" => Some(Cell::List(vec![Cow::Borrowed(into)])),
            "widened" => Some(Cell::Int(0)),
            "reflects" => Some(Cell::Int(self.version as i64)),
            _ => None,
        };
        let cells: Vec<Option<Cell<'_>>> = REVISIONS.own.iter().map(|c| own(c.name)).collect();
        self.push(&old.id, i64::from(old.revision), ended, &cells);
    }

    pub(super) fn say(
        &mut self,
        store: &Store,
        chain: &Chain,
        published: &Published,
        widened: i64,
        aliases: &[String],
    ) {
        let seen = Seen {
            store,
            chain,
            id: &published.id,
            revision: Some(i64::from(published.revision)),
            state: published.state,
            widened: Widened::Counted(widened),
        };
        let first = &chain.links[0];
        // In the order of [`OWN`].
        let own: [Cell<'_>; OWN.len()] = [
            Cell::List(aliases.iter().map(|a| Cow::Borrowed(a.as_str())).collect()),
            text(chain.source(store, first)),
            text(chain.event(store, first)),
            Cell::Text(Cow::Owned(format!("{:032x}", published.fingerprint))),
            Cell::Int(self.version as i64),
        ];
        let cells: Vec<Option<Cell<'_>>> =
            COLUMNS.iter().map(|column| column.cell(&seen)).chain(own.map(Some)).collect();
        self.push(&published.id, i64::from(published.revision), chain.ended(store), &cells);
    }
}

fn text(text: &str) -> Cell<'_> {
    Cell::Text(Cow::Borrowed(text))
}
