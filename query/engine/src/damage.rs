//! Opens data files, and notices those that are not what was written.
//!
//! Guarantee: a file that is damaged is an error of the lake, never a panic: its end is checked before the library reads it, and
//! a panic over its footer is caught. With a share of 1 every file is compared with the digest that the log has of it before
//! its rows are given out; with less, each so-many-th file that is opened is compared in the background, and from then on a
//! damaged one is refused. A file is compared once per process. The log of the service names the file; the error that a caller
//! sees does not.

use crate::error::{Code, LakeError, QueryError};
use crate::log::DataFile;
use bytes::Bytes;
use catena_lake::digest::{Digest, Digester};
use catena_lake::parquet_file::{END_BYTES, caught, check_end};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use std::collections::HashSet;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files that are remembered as compared, or as having a good end; beyond it they are looked at again.
const REMEMBERED_MAX: usize = 1 << 20;

/// Opens the data files of a lake. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    factory: CachedParquetFileReaderFactory,
    /// The lake's root: messages name files below it.
    root: Path,
    /// Part of the opened files that is compared with its digest.
    share: f64,
    opened: AtomicU64,
    /// One comparison at a time in the background.
    background: Arc<tokio::sync::Semaphore>,
    compared: Mutex<HashSet<Path>>,
    damaged: Mutex<HashSet<Path>>,
    ends: Mutex<HashSet<Path>>,
    /// Whether the end of a file is looked at before it is opened: cheap on a disk, one more request in a bucket.
    is_local: bool,
}

impl Readers {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        factory: CachedParquetFileReaderFactory,
        root: Path,
        share: f64,
        is_local: bool,
    ) -> Readers {
        let inner = Inner {
            store,
            factory,
            root,
            share,
            opened: AtomicU64::new(0),
            background: Arc::new(tokio::sync::Semaphore::new(1)),
            compared: Mutex::default(),
            damaged: Mutex::default(),
            ends: Mutex::default(),
            is_local,
        };
        Readers { inner: Arc::new(inner) }
    }

    /// Compares those files whose turn it is with their digests: at once when all are wanted, else in the background.
    pub(crate) async fn compare(&self, files: &[Arc<DataFile>]) -> Result<()> {
        let suspect: Vec<_> = {
            let damaged = self.inner.damaged.lock();
            files.iter().filter(|f| damaged.contains(&f.location)).cloned().collect()
        };
        for file in suspect {
            // It may have been restored since.
            self.inner.check(&file).await.map_err(external)?;
        }
        let due: Vec<_> = files.iter().filter(|f| f.digest.is_some() && self.inner.is_due(f)).cloned().collect();
        if self.inner.share >= 1.0 {
            for file in due {
                self.inner.check(&file).await.map_err(external)?;
            }
        } else if !due.is_empty()
            && let Ok(permit) = self.inner.background.clone().try_acquire_owned()
        {
            let inner = self.inner.clone();
            tokio::spawn(async move {
                let _permit = permit;
                for file in due {
                    // What is wrong was logged, and is remembered for the next query.
                    let _ = inner.check(&file).await;
                }
            });
        }
        Ok(())
    }
}

impl Inner {
    /// Whether a file that is opened is one to compare.
    fn is_due(&self, file: &DataFile) -> bool {
        if self.share <= 0.0 || self.compared.lock().contains(&file.location) {
            return false;
        }
        let nth = self.opened.fetch_add(1, Ordering::Relaxed);
        ((nth + 1) as f64 * self.share).floor() > (nth as f64 * self.share).floor()
    }

    /// Reads a file whole and compares it with its digest.
    async fn check(&self, file: &DataFile) -> Result<(), LakeError> {
        let Some(wanted) = file.digest else { return Ok(()) };
        let path = self.shown(&file.location);
        let failed = |source| LakeError::Store { path: path.clone(), source };
        let mut parts = self.store.get(&file.location).await.map_err(failed)?.into_stream();
        let mut digester = Digester::default();
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            digester.update(&part);
        }
        match difference(file, digester.bytes(), digester.finish(), wanted) {
            None => {
                self.damaged.lock().remove(&file.location);
                remember(&mut self.compared.lock(), &file.location);
                Ok(())
            }
            Some(detail) => {
                remember(&mut self.damaged.lock(), &file.location);
                Err(self.damage(&file.location, detail))
            }
        }
    }

    /// The error of a damaged file, once it was told to the operator.
    fn damage(&self, location: &Path, detail: String) -> LakeError {
        let path = self.shown(location);
        tracing::error!(path, detail, "damaged data file");
        LakeError::Damaged { path, detail }
    }

    /// Checks the end of a file that was not opened before.
    async fn check_first(&self, location: &Path, size: u64) -> Result<(), LakeError> {
        if !self.is_local || self.ends.lock().contains(location) {
            return Ok(());
        }
        self.check_end(location, size).await?;
        remember(&mut self.ends.lock(), location);
        Ok(())
    }

    /// Reads the end of a file: the store fails, the file is damaged, or its end is in order.
    async fn check_end(&self, location: &Path, size: u64) -> Result<(), LakeError> {
        let range = size.saturating_sub(END_BYTES)..size;
        if range.is_empty() {
            return Err(self.damage(location, "it is empty".into()));
        }
        let end = self.store.get_range(location, range).await;
        let end = end.map_err(|source| LakeError::Store { path: self.shown(location), source })?;
        check_end(&end, size).map_err(|e| self.damage(location, e.to_string()))
    }

    /// Why a footer could not be read.
    async fn footer_error(&self, location: &Path, size: u64, error: &ParquetError) -> LakeError {
        match self.check_end(location, size).await {
            Err(e) => e,
            // The store answers, so it is the file.
            Ok(()) => {
                let detail = error.to_string().replace(location.as_ref(), "it");
                self.damage(location, format!("its footer cannot be read: {detail}"))
            }
        }
    }

    /// A path as the operator knows it: below the lake.
    fn shown(&self, location: &Path) -> String {
        location.prefix_match(&self.root).map_or_else(
            || location.to_string(),
            |rest| rest.map(|p| p.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
        )
    }
}

fn remember(known: &mut HashSet<Path>, location: &Path) {
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(location.clone());
}

fn difference(file: &DataFile, bytes: u64, found: Digest, wanted: Digest) -> Option<String> {
    if bytes != file.size {
        return Some(format!("it has {bytes} bytes, the log says {}", file.size));
    }
    (found != wanted).then(|| "its bytes do not have the digest that they were written with".to_owned())
}

/// What a caller is told: that a file is at fault, not which.
fn told(e: LakeError) -> QueryError {
    if let LakeError::Store { path, source } = &e {
        tracing::warn!(path, error = %source, "data file could not be read");
        return QueryError::new(Code::Lake, "a file of the lake could not be read");
    }
    e.into()
}

fn external(e: LakeError) -> DataFusionError {
    DataFusionError::External(Box::new(told(e)))
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let (location, size) = (file.object_meta.location.clone(), file.object_meta.size);
        let reader = self.inner.factory.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Checked { inner: self.inner.clone(), reader, location, size }))
    }
}

/// A reader of one file whose failures name no place.
struct Checked {
    inner: Arc<Inner>,
    reader: Box<dyn AsyncFileReader + Send>,
    location: Path,
    size: u64,
}

fn ours(e: LakeError) -> ParquetError {
    ParquetError::External(Box::new(told(e)))
}

impl Checked {
    /// Metadata that lie point outside of the file.
    fn within(&self, ranges: &[Range<u64>]) -> Result<(), ParquetError> {
        match ranges.iter().find(|r| r.start > r.end || r.end > self.size) {
            None => Ok(()),
            Some(r) => {
                let detail = format!("it points to bytes {} to {}, and has {}", r.start, r.end, self.size);
                Err(ours(self.inner.damage(&self.location, detail)))
            }
        }
    }
}

impl AsyncFileReader for Checked {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        match self.within(std::slice::from_ref(&range)) {
            Ok(()) => self.reader.get_bytes(range),
            Err(e) => std::future::ready(Err(e)).boxed(),
        }
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        match self.within(&ranges) {
            Ok(()) => self.reader.get_byte_ranges(ranges),
            Err(e) => std::future::ready(Err(e)).boxed(),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            self.inner.check_first(&self.location, self.size).await.map_err(ours)?;
            let loaded = AssertUnwindSafe(self.reader.get_metadata(options)).catch_unwind().await;
            match loaded.unwrap_or_else(|panic| Err(caught(panic.as_ref()))) {
                Ok(metadata) => Ok(metadata),
                Err(e) => Err(ours(self.inner.footer_error(&self.location, self.size, &e).await)),
            }
        }
        .boxed()
    }
}
