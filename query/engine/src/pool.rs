//! Memory of queries: each has a share, and all together have a ceiling.
//!
//! Guarantee: what operators reserve never exceeds the limit of their query, nor the ceiling of all queries.

use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all queries of an engine may reserve.
#[derive(Debug)]
pub(crate) struct Ceiling {
    bytes_max: usize,
    used: AtomicUsize,
}

impl Ceiling {
    pub(crate) fn new(bytes_max: usize) -> Arc<Ceiling> {
        Arc::new(Ceiling { bytes_max, used: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) -> Result<()> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(used) => Err(DataFusionError::ResourcesExhausted(format!(
                "all queries together reserve {used} bytes of {}",
                self.bytes_max
            ))),
        }
    }
}

/// The pool of one query.
#[derive(Debug)]
pub(crate) struct Share {
    own: FairSpillPool,
    all: Arc<Ceiling>,
}

impl Share {
    pub(crate) fn new(bytes_max: usize, all: Arc<Ceiling>) -> Share {
        Share { own: FairSpillPool::new(bytes_max), all }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.own.fmt(f)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.all.used.fetch_add(additional, Ordering::Relaxed);
        self.own.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.all.used.fetch_sub(shrink, Ordering::Relaxed);
        self.own.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.all.take(additional)?;
        self.own.try_grow(reservation, additional).inspect_err(|_| {
            self.all.used.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_queries_together_have_a_ceiling() {
        let all = Ceiling::new(100);
        let query = || -> Arc<dyn MemoryPool> { Arc::new(Share::new(80, all.clone())) };
        let (a, b) = (query(), query());
        let first = MemoryConsumer::new("first").register(&a);
        let second = MemoryConsumer::new("second").register(&b);
        first.try_grow(70).expect("it fits");
        assert!(first.try_grow(20).is_err(), "beyond its own share");
        assert!(second.try_grow(40).is_err(), "beyond the ceiling");
        second.try_grow(30).expect("it fits");
        drop(first);
        second.try_grow(50).expect("what was freed is there again");
        drop(second);
        assert_eq!(all.used.load(Ordering::Relaxed), 0);
    }
}
