//! The threads that plan and run queries, and a watchdog over them.
//!
//! Guarantees: a query whose thread does not come back after its time is up costs that thread and no other query: the
//! watchdog notices it, starts new threads for the queries to come, and leaves the old ones to themselves. How many were
//! given up is known to whoever asks for the health of the service. When the process is about to run out of memory, the
//! queries that are running are ended, before the system ends the process.

use crate::control::{Control, Over};
use crate::limits::Limits;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Stack of a thread. Only touched pages cost memory.
const STACK_BYTES: usize = 64 << 20;
/// How long after its time a query may still be in the one step that nothing interrupts.
pub(crate) const OVERDUE: Duration = Duration::from_secs(5);
/// How often the watchdog looks.
const EVERY: Duration = Duration::from_millis(50);
/// Looks over which memory is compared.
const LOOKS: usize = 4;
/// Growth over these looks that is stopped when memory is short.
const GROWTH_BYTES: u64 = 32 << 20;
/// Sets of threads that may be given up before the process has to be started again.
const GIVEN_UP_MAX: u64 = 8;
/// How much nicer query threads are than those that take records in.
const NICENESS: i32 = 5;

/// The threads of an engine. They go away with it, also when that happens inside another runtime.
#[derive(Debug)]
pub(crate) struct Threads {
    count: usize,
    /// The set that takes new work, and its number.
    current: Mutex<(u64, Gone)>,
    running: Mutex<Vec<Weak<Control>>>,
    /// Sets given up.
    given_up: AtomicU64,
    stop: AtomicBool,
    memory: Mutex<Vec<u64>>,
}

/// A runtime that ends in the background.
#[derive(Debug)]
struct Gone(Option<Runtime>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn start(count: usize) -> io::Result<Gone> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(count)
        .thread_name("catena-query")
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(|| {
            // Taking records in goes before answering. Without the right to say so, both are equal.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
        })
        .enable_all()
        .build()?;
    Ok(Gone(Some(runtime)))
}

impl Threads {
    /// Starts threads and the watchdog. `process_bytes_max` is what the process may have in memory, `None` if unknown.
    pub(crate) fn start(count: usize, process_bytes_max: Option<u64>) -> io::Result<Arc<Threads>> {
        let count = count.max(1);
        let threads = Arc::new(Threads {
            count,
            current: Mutex::new((0, start(count)?)),
            running: Mutex::default(),
            given_up: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            memory: Mutex::default(),
        });
        let watched = Arc::downgrade(&threads);
        std::thread::Builder::new().name("catena-watchdog".into()).spawn(move || {
            while let Some(threads) = watched.upgrade() {
                if threads.stop.load(Ordering::Relaxed) {
                    return;
                }
                threads.look(Instant::now());
                if let Some(bytes_max) = process_bytes_max
                    && let Some(bytes) = resident_bytes()
                {
                    threads.look_at_memory(bytes, bytes_max);
                }
                drop(threads);
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(threads)
    }

    /// Runs something on the threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.current.lock().1.0.as_ref().expect("a set in use has its runtime").spawn(work)
    }

    /// Control of a query that is about to start.
    pub(crate) fn control(&self, limits: &Limits) -> Arc<Control> {
        let control = Arc::new(Control::new(limits, self.current.lock().0));
        self.running.lock().push(Arc::downgrade(&control));
        control
    }

    /// How many sets of threads were given up, and whether there may be more.
    pub(crate) fn given_up(&self) -> (u64, bool) {
        let n = self.given_up.load(Ordering::Relaxed);
        (n, n < GIVEN_UP_MAX)
    }

    /// Gives threads up that a query does not leave.
    fn look(&self, now: Instant) {
        let mut running = self.running.lock();
        running.retain(|control| control.strong_count() > 0);
        let current = self.current.lock().0;
        let late = running
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|control| control.threads == current)
            .filter_map(|control| control.overdue(now))
            .max();
        drop(running);
        let Some(late) = late.filter(|late| *late > OVERDUE) else { return };
        let (given_up, more) = self.given_up();
        if !more {
            return;
        }
        match start(self.count) {
            Ok(fresh) => {
                let mut set = self.current.lock();
                self.given_up.store(given_up + 1, Ordering::Relaxed);
                tracing::error!(
                    overdue_s = late.as_secs(),
                    given_up = given_up + 1,
                    "query threads do not come back: given up, new ones started"
                );
                // Queries of the old set that still run end there; the threads go away with them.
                *set = (current + 1, fresh);
            }
            Err(e) => tracing::error!(error = %e, "query threads do not come back, and no new ones could be started"),
        }
    }

    /// Ends the queries that are running when memory is short and still shrinking.
    fn look_at_memory(&self, bytes: u64, bytes_max: u64) {
        let mut seen = self.memory.lock();
        if seen.len() == LOOKS {
            seen.remove(0);
        }
        seen.push(bytes);
        let before = seen.iter().copied().min().unwrap_or(bytes);
        if bytes < bytes_max || bytes - before < GROWTH_BYTES {
            return;
        }
        let mut ended = 0;
        for control in self.running.lock().iter().filter_map(Weak::upgrade) {
            control.end(Over::Memory);
            ended += 1;
        }
        // What they held goes away now: queries that come meanwhile are not to blame for it.
        seen.clear();
        if ended > 0 {
            tracing::warn!(bytes, bytes_max, queries = ended, "memory is short: running queries were ended");
        }
    }
}

/// Bytes of the process that are in memory, where the system says so.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(time: Duration) -> Limits {
        Limits { time, ..Limits::default() }
    }

    #[test]
    fn threads_that_do_not_come_back_are_given_up() {
        let threads = Threads::start(1, None).expect("threads");
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let stuck = threads.control(&limits(Duration::ZERO));
        threads.spawn(async move { wait.recv() });
        let runs = |threads: &Threads| {
            let (done, seen) = std::sync::mpsc::channel();
            threads.spawn(async move { done.send(()) });
            seen
        };
        let waiting = runs(&threads);
        assert!(waiting.recv_timeout(Duration::from_millis(100)).is_err(), "the only thread is busy");
        threads.look(Instant::now());
        assert_eq!(threads.given_up(), (0, true), "not overdue yet");
        threads.look(Instant::now() + OVERDUE * 2);
        assert_eq!(threads.given_up(), (1, true));
        assert!(runs(&threads).recv_timeout(Duration::from_secs(10)).is_ok(), "new threads run");
        threads.look(Instant::now() + OVERDUE * 3);
        assert_eq!(threads.given_up(), (1, true), "one query costs one set");
        drop((stuck, release));
    }

    #[test]
    fn short_memory_ends_what_runs() {
        let threads = Threads::start(1, None).expect("threads");
        let control = threads.control(&limits(Duration::from_secs(60)));
        let gib = 1 << 30;
        for (bytes, ends) in [(4 * gib, false), (5 * gib, false), (6 * gib - 1, false), (7 * gib, true)] {
            threads.look_at_memory(bytes, 6 * gib);
            assert_eq!(control.check().is_err(), ends, "{bytes}");
        }
        let later = threads.control(&limits(Duration::from_secs(60)));
        for _ in 0..LOOKS * 2 {
            threads.look_at_memory(7 * gib, 6 * gib);
        }
        assert!(later.check().is_ok(), "memory that stays is not the fault of a query");
    }
}
