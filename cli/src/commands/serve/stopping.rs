//! Ending the parts of a service.
//!
//! Guarantee: all parts end at the same time, and within one limit; a part that hangs keeps no other from ending and is
//! named afterwards.

use anyhow::Result;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Parts that are ending.
pub(super) struct Stopping {
    until: Instant,
    parts: JoinSet<Option<String>>,
}

impl Stopping {
    pub(super) fn new(limit: Duration) -> Stopping {
        Stopping { until: Instant::now() + limit, parts: JoinSet::new() }
    }

    /// A part that ends when this is done.
    pub(super) fn part(&mut self, name: &'static str, ending: impl Future<Output = Result<()>> + Send + 'static) {
        let until = self.until;
        self.parts.spawn(async move {
            match tokio::time::timeout_at(until, ending).await {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(format!("{name}: {e:#}")),
                Err(_) => Some(format!("{name}: did not end in time")),
            }
        });
    }

    /// A part that blocks a thread until it has ended. The thread is given up with it.
    pub(super) fn blocking_part(&mut self, name: &'static str, ending: impl FnOnce() -> Result<()> + Send + 'static) {
        let ending = tokio::task::spawn_blocking(ending);
        self.part(name, async move { ending.await? });
    }

    /// Waits for all of them; what went wrong.
    pub(super) async fn ended(mut self) -> Vec<String> {
        let mut failed = Vec::new();
        while let Some(part) = self.parts.join_next().await {
            match part {
                Ok(none_or_failed) => failed.extend(none_or_failed),
                Err(e) => failed.push(e.to_string()),
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_hangs_keeps_no_other_from_ending() {
        let mut stopping = Stopping::new(Duration::from_millis(300));
        let ended = Arc::new(AtomicUsize::new(0));
        let (blocked, release) = std::sync::mpsc::channel::<()>();
        stopping.part("syslog", std::future::pending());
        stopping.blocking_part("thread", move || Ok(release.recv()?));
        for name in ["Kafka", "follower"] {
            let ended = ended.clone();
            stopping.blocking_part(name, move || {
                ended.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        }
        stopping.part("watch", async { anyhow::bail!("it failed") });
        let mut failed = tokio::time::timeout(Duration::from_secs(20), stopping.ended()).await.unwrap();
        failed.sort();
        assert_eq!(failed, ["syslog: did not end in time", "thread: did not end in time", "watch: it failed"]);
        assert_eq!(ended.load(Ordering::Relaxed), 2);
        drop(blocked);
    }
}
