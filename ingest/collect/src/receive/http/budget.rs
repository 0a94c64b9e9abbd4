//! Memory of the bodies under way, and whose it is.
//!
//! Guarantees: bodies that arrive and bodies that are decoded have a budget each, and of each a tenant has a share; what
//! one tenant sends, or sends slowly, never waits in front of another tenant's bodies. A body that arrives holds what it
//! has sent, not what it may still become: [`FIRST_BYTES`], and the rest only once it has sent that much. Memory for
//! unpacking and decoding is taken when the body is there, so no client decides how long it is held. A tenant has so many
//! bodies under way at once.
//!
//! A request waits in the queue of its tenant first, and only the first of that queue waits in the queue of all.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of memory.
const UNIT: usize = 1 << 10;
/// What a body holds until it has sent this much.
pub(super) const FIRST_BYTES: usize = 64 << 10;
/// Tenants that the budget is divided by at most: so many less one can send what they like, and the next has its share.
const SHARES_MAX: usize = 4;

/// The budgets of a receiver.
pub(super) struct Budget {
    under_way: Pool,
    arriving: Pool,
    decoding: Pool,
}

/// What is held until dropped.
pub(super) type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Budget {
    /// A quarter of `bytes` for bodies that arrive and the rest for those that are decoded, shared by `tenants`.
    pub(super) fn new(bytes: usize, tenants: usize, under_way_max: usize) -> Budget {
        let shares = tenants.clamp(1, SHARES_MAX);
        let pool = |bytes: usize| Pool::new((bytes / UNIT).max(1), (bytes / UNIT / shares).max(1));
        Budget {
            under_way: Pool::new(Semaphore::MAX_PERMITS, under_way_max.max(1)),
            arriving: pool(bytes / 4),
            decoding: pool(bytes - bytes / 4),
        }
    }

    /// Waits until the tenant may have one more body under way.
    pub(super) async fn enter(&self, tenant: &str) -> Held {
        self.under_way.take(tenant, 1).await
    }

    /// Waits for memory for bytes that arrive.
    pub(super) async fn arriving(&self, tenant: &str, bytes: usize) -> Held {
        self.arriving.take(tenant, bytes.div_ceil(UNIT)).await
    }

    /// Waits for memory to decode in.
    pub(super) async fn decoding(&self, tenant: &str, bytes: usize) -> Held {
        self.decoding.take(tenant, bytes.div_ceil(UNIT)).await
    }
}

/// So many units for all, and so many for each.
struct Pool {
    all: Arc<Semaphore>,
    share: usize,
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Pool {
    fn new(all: usize, share: usize) -> Pool {
        Pool { all: Arc::new(Semaphore::new(all)), share: share.min(u32::MAX as usize), tenants: Mutex::default() }
    }

    /// Takes units; more than a share are a share.
    async fn take(&self, tenant: &str, units: usize) -> Held {
        let units = units.clamp(1, self.share) as u32;
        let own = self.own(tenant);
        let own = own.acquire_many_owned(units).await.expect("the semaphores are never closed");
        let all = self.all.clone().acquire_many_owned(units).await.expect("the semaphores are never closed");
        (own, all)
    }

    /// The tenants are those of the keys, so there are not many.
    fn own(&self, tenant: &str) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock();
        if let Some(own) = tenants.get(tenant) {
            return own.clone();
        }
        let own = Arc::new(Semaphore::new(self.share));
        tenants.insert(tenant.to_owned(), own.clone());
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// What is had at once, without waiting.
    fn now<T>(taking: impl Future<Output = T>) -> Option<T> {
        match pin!(taking).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(held) => Some(held),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_tenant_never_has_what_is_anothers() {
        let budget = Budget::new(256 << 20, 2, 8);
        let bodies: Vec<_> = (0..100).filter_map(|_| now(budget.decoding("a", 24 << 20))).collect();
        assert_eq!(bodies.len(), 4, "its share of 96 MiB");
        assert!(now(budget.decoding("b", 24 << 20)).is_some());
        let arriving: Vec<_> = (0..100).filter_map(|_| now(budget.arriving("a", 8 << 20))).collect();
        assert_eq!(arriving.len(), 4, "its share of 32 MiB");
        assert!(now(budget.arriving("b", 8 << 20)).is_some());
        let under_way: Vec<_> = (0..100).filter_map(|_| now(budget.enter("a"))).collect();
        assert_eq!(under_way.len(), 8);
        assert!(now(budget.enter("b")).is_some());
        drop((bodies, arriving, under_way));
        assert!(now(budget.decoding("a", 24 << 20)).is_some());
    }

    #[test]
    fn one_tenant_has_all_and_many_leave_room() {
        let all = |tenants: usize| {
            let budget = Budget::new(256 << 20, tenants, 8);
            let held: Vec<_> = (0..1000).map_while(|_| now(budget.decoding("a", 1 << 20))).collect();
            held.len()
        };
        assert_eq!([all(0), all(1), all(2), all(4), all(100)], [192, 192, 96, 48, 48]);
    }

    #[test]
    fn waiting_in_its_own_queue_blocks_no_other_tenant() {
        let budget = Budget::new(4 << 20, 2, 8);
        let first = now(budget.decoding("a", 1 << 20)).unwrap();
        // The next of `a` waits for its share, not for that of all.
        let mut second = pin!(budget.decoding("a", 1 << 20));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(now(budget.decoding("b", 1 << 20)).is_some());
        drop(first);
        assert!(second.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
