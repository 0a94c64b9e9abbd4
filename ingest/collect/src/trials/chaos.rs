//! A store that lies about commits.

use crate::store::Store;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What happens to a put of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// It lands, and an error is reported.
    LandsAndFails,
    /// It does not land, and an error is reported.
    Fails,
    /// It is on its way for long; an error is reported.
    Held,
    /// It is refused for good.
    Refused,
}

#[derive(Debug)]
pub(super) struct Chaos {
    inner: Arc<dyn ObjectStore>,
    /// Commits are let through when there is no lie left.
    pub(super) lies: Mutex<VecDeque<Lie>>,
    held: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    /// Data files named like this get these bytes instead of theirs.
    pub(super) swapped: Mutex<Option<(&'static str, Bytes)>>,
}

impl Chaos {
    pub(super) fn over(store: Store) -> (Store, Arc<Chaos>) {
        let chaos = Chaos {
            inner: store.objects.clone(),
            lies: Mutex::default(),
            held: Mutex::default(),
            swapped: Mutex::default(),
        };
        let chaos = Arc::new(chaos);
        (Store { objects: chaos.clone(), folder: store.folder }, chaos)
    }

    pub(super) fn tell(&self, lies: &[Lie]) {
        self.lies.lock().extend(lies);
    }

    /// Lets what was held arrive. Says how many of them took their name.
    pub(super) async fn release(&self) -> usize {
        let held = std::mem::take(&mut *self.held.lock());
        let mut landed = 0;
        for (path, payload, options) in held {
            landed += usize::from(self.inner.put_opts(&path, payload, options).await.is_ok());
        }
        landed
    }
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chaos")
    }
}

fn lost() -> Error {
    Error::Generic { store: "chaos", source: "connection reset".into() }
}

#[async_trait]
impl ObjectStore for Chaos {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let swapped = self.swapped.lock().clone();
        if let Some((part, bytes)) = swapped
            && path.as_ref().contains(part)
        {
            return self.inner.put_opts(path, bytes.into(), options).await;
        }
        let commit = path.as_ref().contains("_delta_log/") && path.as_ref().ends_with(".json");
        let lie = if commit { self.lies.lock().pop_front() } else { None };
        match lie {
            None => self.inner.put_opts(path, payload, options).await,
            Some(Lie::LandsAndFails) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(lost())
            }
            Some(Lie::Fails) => Err(lost()),
            Some(Lie::Held) => {
                self.held.lock().push((path.clone(), payload, options));
                Err(lost())
            }
            Some(Lie::Refused) => Err(Error::PermissionDenied { path: path.to_string(), source: "no".into() }),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
