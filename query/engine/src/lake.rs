//! Where the lake is: a folder or a bucket, as a store and a path in it.
//!
//! Guarantee: nothing here writes, and no setting is read from anywhere but the arguments.

use crate::error::LakeError;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, parse_url_opts};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// A place for a lake, opened for reading.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As given.
    pub(crate) url: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Under which the store is known to DataFusion: scheme and bucket.
    pub(crate) store_url: ObjectStoreUrl,
    /// The lake's root in the store.
    pub(crate) root: Path,
}

impl Place {
    /// From a folder or a URL; `store` replaces the one that the URL names.
    pub(crate) fn new(
        url: &str,
        options: &BTreeMap<String, String>,
        store: Option<Arc<dyn ObjectStore>>,
    ) -> Result<Place, LakeError> {
        let bad = |reason: String| LakeError::Url { url: url.to_owned(), reason };
        let full = if url.contains("://") {
            Url::parse(url).map_err(|e| bad(e.to_string()))?
        } else {
            if url.is_empty() {
                return Err(bad("it is empty; name a folder or s3://bucket/prefix".into()));
            }
            let path = std::path::absolute(url).map_err(|e| bad(e.to_string()))?;
            Url::from_directory_path(&path).map_err(|()| bad("it is no path".into()))?
        };
        let bad_store = |e: object_store::Error| bad(e.to_string());
        let root = Path::from_url_path(full.path()).map_err(|e| bad(e.to_string()))?;
        let (made, root): (Arc<dyn ObjectStore>, Path) = match full.scheme() {
            "file" => (Arc::new(LocalFileSystem::new()), root),
            "s3" | "s3a" | "memory" => {
                let (store, root) = parse_url_opts(&full, options).map_err(bad_store)?;
                (store.into(), root)
            }
            other => return Err(bad(format!("`{other}://` is not supported; name a folder or s3://bucket/prefix"))),
        };
        let store_url = ObjectStoreUrl::parse(&full[..url::Position::BeforePath]).map_err(|e| bad(e.to_string()))?;
        Ok(Place { url: url.to_owned(), store: store.unwrap_or(made), store_url, root })
    }

    /// Refuses places that hold something else. A place that holds nothing is an empty lake.
    pub(crate) async fn check(&self) -> Result<(), LakeError> {
        let not = |reason: &str| LakeError::NotALake { url: self.url.clone(), reason: reason.to_owned() };
        if self.store_url.as_str().starts_with("file:") {
            let path = std::path::Path::new("/").join(self.root.as_ref());
            match tokio::fs::metadata(&path).await {
                Ok(found) if !found.is_dir() => return Err(not("it is a file; name the folder of the lake")),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(not(&e.to_string())),
            }
        }
        let has = async |below: &str| {
            let mut list = self.store.list(Some(&self.root.clone().join(below)));
            list.try_next()
                .await
                .map(|first| first.is_some())
                .map_err(|source| LakeError::Store { path: below.to_owned(), source })
        };
        if has(catena_schemas::table::RECORDS).await? || has("_catena").await? {
            return Ok(());
        }
        if has("_delta_log").await? {
            return Err(not("it is a Delta table; name the folder above it"));
        }
        let any = self.store.list_with_delimiter(Some(&self.root)).await;
        match any {
            Ok(found) if found.objects.is_empty() => Ok(()),
            Ok(_) => {
                Err(not("it holds other files and no folder `records`; name the folder of the lake, or an empty one"))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(LakeError::Store { path: String::new(), source }),
        }
    }
}
