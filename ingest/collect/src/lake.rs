//! The lake as ingestion sees it: the table of records, and what belongs to the lake itself.
//!
//! Guarantee: an open lake has its table and its secret, both durable, whoever opened it first.
//!
//! ```text
//!  <lake>/records/            the Delta table that ingestion writes
//!  <lake>/_catena/secret.key  32 bytes in hex: the root of every keyed digest. Made once, readable by its owner alone
//! ```

use crate::commit::{CommitError, Committed, DataFile, Patience, Range, Table, TableSpec};
use crate::log::{ActiveFile, LogError, object_path};
use crate::private::{self, NotPrivate};
use crate::store::{Store, StoreError, StoreOptions, read};
use bytes::Bytes;
use catena_schemas::table::{PARTITIONS, RECORDS, STATISTICS, delta_schema};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use parquet::errors::ParquetError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why the lake could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// Its place could not be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// Its table could not be opened.
    #[error(transparent)]
    Table(#[from] CommitError),
    /// Its log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An object could not be read or written.
    #[error("could not {attempted} `{path}`")]
    Store {
        /// What was tried.
        attempted: &'static str,
        /// Path below the lake or its table.
        path: String,
        /// Cause.
        source: Error,
    },
    /// The secret is not 64 hex digits.
    #[error("`{path}` does not hold a secret of 64 hex digits")]
    Secret {
        /// Path below the lake.
        path: &'static str,
    },
    /// Others can read the secret.
    #[error("the secret of the lake is not private")]
    NotPrivate(#[source] NotPrivate),
    /// A data file is not readable Parquet.
    #[error("could not read data file `{path}`")]
    DataFile {
        /// Path below the table.
        path: String,
        /// Cause.
        source: ParquetError,
    },
}

const SECRET: &str = "_catena/secret.key";

/// An open lake.
#[derive(Debug)]
pub struct Lake {
    store: Store,
    records: Table,
    secret: [u8; 32],
    url: String,
}

impl Lake {
    /// Opens a lake: a folder, `file://` or `s3://bucket/prefix`. What is missing is made.
    pub async fn open(url: &str, options: &StoreOptions) -> Result<Arc<Lake>, LakeError> {
        Lake::open_store(Store::open(url, options)?, url, options, Patience::default()).await
    }

    /// Opens a lake in a place that is open already.
    pub async fn open_store(
        store: Store,
        url: &str,
        options: &StoreOptions,
        patience: Patience,
    ) -> Result<Arc<Lake>, LakeError> {
        // The table first: a place that is refused stays as it was.
        let folder = store.folder.clone().map(|f| (f, Path::from(RECORDS)));
        let records = Table::open(
            store.below(RECORDS),
            folder,
            &records_spec(),
            options.clock.clone(),
            &options.collector,
            patience,
        )
        .await?;
        let (secret, is_fresh) = secret(&store).await?;
        if is_fresh && !records.files().await.is_empty() {
            tracing::warn!(
                path = SECRET,
                "the lake holds rows and its secret was missing: digests of tokens from now on do not match older ones; restore the file if there is a copy"
            );
        }
        Ok(Arc::new(Lake { store, records, secret, url: url.to_owned() }))
    }

    /// Where it was opened.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its place: objects are addressed from the lake's root.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The table of records.
    pub fn records(&self) -> &Table {
        &self.records
    }

    /// The root of every keyed digest.
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// The next offset to read of a source; `None` when the lake knows nothing of it.
    pub async fn position(&self, app: &str) -> Result<Option<i64>, LakeError> {
        Ok(self.records.position(app).await?)
    }

    /// All positions.
    pub async fn positions(&self) -> Result<BTreeMap<String, i64>, LakeError> {
        Ok(self.records.positions().await?)
    }

    /// Adds files to the records and moves the sources they came from, all of it or nothing. `info` stands in the commit
    /// under `commitInfo.catena.info`.
    pub async fn commit(
        &self,
        adds: Vec<DataFile>,
        ranges: Vec<Range>,
        info: Map<String, Value>,
    ) -> Result<Committed, CommitError> {
        self.records.commit(adds, ranges, info).await
    }

    /// Makes a data file durable. It is not part of the table before it is committed.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), LakeError> {
        let failed = |source| LakeError::Store { attempted: "write", path: path.to_owned(), source };
        let at = object_path(path).map_err(failed)?;
        self.records.objects().put(&at, bytes.into()).await.map_err(failed)?;
        Ok(())
    }

    /// Reads a data file.
    pub async fn get(&self, path: &str) -> Result<Bytes, LakeError> {
        let failed = |source| LakeError::Store { attempted: "read", path: path.to_owned(), source };
        let at = object_path(path).map_err(failed)?;
        self.records.objects().get(&at).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// Files of the records, newest first, as of the last look at the log.
    pub async fn files(&self) -> Vec<DataFile> {
        self.records.files().await.iter().map(plain).collect()
    }

    /// Files that others have added since this was last asked, as of the last look at the log.
    pub async fn take_foreign(&self) -> Vec<DataFile> {
        self.records.take_foreign().await.iter().map(plain).collect()
    }
}

fn plain(file: &Arc<ActiveFile>) -> DataFile {
    file.file.clone()
}

/// What `records` is to look like.
pub fn records_spec() -> TableSpec {
    let statistics = STATISTICS.iter().map(|f| f.name()).collect::<Vec<_>>().join(",");
    TableSpec {
        name: RECORDS.to_owned(),
        schema: delta_schema(),
        partitions: PARTITIONS.iter().map(|p| (*p).to_owned()).collect(),
        configuration: BTreeMap::from(
            [
                // For other writers; ours are made by upkeep.
                ("delta.checkpointInterval", "200"),
                // A writer that slept longer than this could commit to a version that nobody reads.
                ("delta.logRetentionDuration", "interval 7 days"),
                ("delta.deletedFileRetentionDuration", "interval 7 days"),
                ("delta.enableExpiredLogCleanup", "false"),
                ("delta.dataSkippingStatsColumns", statistics.as_str()),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        ),
    }
}

/// Reads the secret, or makes it, and says so; one in a folder that others can read is refused. Two that make it at once end with the
/// same one.
async fn secret(store: &Store) -> Result<([u8; 32], bool), LakeError> {
    let path = Path::from(SECRET);
    let failed = |attempted| move |source| LakeError::Store { attempted, path: SECRET.to_owned(), source };
    let mut is_fresh = false;
    loop {
        if let Some(bytes) = read(store.objects.as_ref(), &path).await.map_err(failed("read"))? {
            if let Some(folder) = &store.folder {
                let file = folder.file(&path).map_err(failed("read"))?;
                private::check(&file).map_err(LakeError::NotPrivate)?;
            }
            let mut secret = [0; 32];
            hex::decode_to_slice(bytes.trim_ascii(), &mut secret).map_err(|_| LakeError::Secret { path: SECRET })?;
            return Ok((secret, is_fresh));
        }
        let fresh: [u8; 32] = rand::random();
        let secret = format!("{}\n", hex::encode(fresh)).into();
        is_fresh = store.create_private(&path, secret).await.map_err(failed("write"))?;
    }
}
