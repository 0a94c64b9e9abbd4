//! Watches from outside: asks the brokers for watermarks on a connection of its own, and notices partitions that have
//! more to read and do not move. What the consumer says of itself is not enough: a fetch that can never be unpacked, or
//! a commit that never lands, looks like an idle topic from inside.

use super::{PartitionMetrics, Shared};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How far a partition had come when it was last seen to move.
struct Seen {
    next: i64,
    position: i64,
    moved_at: Instant,
}

pub(super) fn run(shared: &Shared) {
    let Ok(Ok(client)) = shared.settings.watcher().map(|c| c.create::<BaseConsumer>()) else {
        warn!("no client to watch kafka with: lag and stalls are not seen");
        return;
    };
    let every = (shared.settings.stall_after / 3).clamp(Duration::from_millis(200), Duration::from_secs(10));
    let mut seen: HashMap<(Arc<str>, i32), Seen> = HashMap::new();
    let mut round_at = Instant::now();
    loop {
        while Instant::now() < round_at {
            if shared.stop.load(Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        round_at = Instant::now() + every;
        client.poll(Duration::ZERO);
        let partitions: Vec<_> = shared.metrics.partitions.read().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        for ((topic, number), metrics) in partitions {
            if shared.stop.load(Relaxed) {
                return;
            }
            if !metrics.owned.load(Relaxed) {
                metrics.stalled.store(false, Relaxed);
                seen.remove(&(topic, number));
                continue;
            }
            let Ok((low, high)) = client.fetch_watermarks(&topic, number, Duration::from_secs(2)) else { break };
            metrics.low.store(low, Relaxed);
            metrics.high.store(high, Relaxed);
            let now = Instant::now();
            let (next, position) = (metrics.next.load(Relaxed), metrics.position.load(Relaxed));
            let before = seen.entry((topic.clone(), number)).or_insert(Seen { next, position, moved_at: now });
            if (before.next, before.position) != (next, position) || metrics.lag() == 0 {
                *before = Seen { next, position, moved_at: now };
            }
            let stalled = now.duration_since(before.moved_at) >= shared.settings.stall_after;
            report(&metrics, stalled, &topic, number);
        }
    }
}

fn report(metrics: &PartitionMetrics, stalled: bool, topic: &str, partition: i32) {
    if metrics.stalled.swap(stalled, Relaxed) == stalled {
        return;
    }
    let (next, position) = (metrics.next.load(Relaxed), metrics.position.load(Relaxed));
    let (high, paused) = (metrics.high.load(Relaxed), metrics.paused.load(Relaxed));
    if stalled {
        warn!(topic, partition, position, next, high, paused, "partition has more to read and does not move");
    } else {
        info!(topic, partition, position, "partition moves again");
    }
}
