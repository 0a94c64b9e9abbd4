//! Drains the intake log into the lake.
//!
//! Guarantees:
//! - Every entry of the log becomes a row once: a partition is read from the position that the lake holds, and what a
//!   flush that failed held is read again.
//! - An entry is removed only after a look at the lake, made after the commit, showed a position beyond it.
//! - A position that this log cannot explain (another node works under the same identity, say from a copied folder)
//!   stops the partition and is reported. Nothing is skipped, nothing removed.
//!
//! The drain has threads of its own: decoding and encoding are heavy. The log may have been written by an earlier run;
//! appends are refused until each partition was compared with the lake.

use crate::intake::{Block, Body, Intake, IntakeError};
use crate::lake::Lake;
use crate::metrics::{Landing, Metrics, Standing};
use crate::receive::http::Check;
use crate::worker::{FlushError, Partition, Record, Settings, Worker};
use catena_decode::Format;
use catena_schemas::Micros;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// The source's name in metrics, and the `topic` of its rows.
const SOURCE: &str = "http";
const TOPIC: &str = "intake";
/// Bytes read from one partition before the next has its turn.
const READ_BYTES: usize = 4 << 20;
/// Pauses after failures: doubling from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A lake that refuses for this long is reported.
const TROUBLE_AFTER: Duration = Duration::from_secs(30);

/// Threads that drain a log. They end with [`Drain::stop`].
pub struct Drain {
    threads: Vec<JoinHandle<()>>,
    cancel: CancellationToken,
    status: Arc<Mutex<Status>>,
}

#[derive(Default)]
struct Status {
    /// Partitions that stand still until somebody looks.
    stopped: Vec<String>,
    /// Since when the lake refuses, and what it last said.
    failing: Option<(Instant, String)>,
}

impl Drain {
    /// Starts draining. Each thread holds its own buffers, as large as the settings say.
    pub fn start(
        intake: &Intake,
        lake: &Arc<Lake>,
        settings: &Settings,
        metrics: &Arc<Metrics>,
        threads: usize,
        runtime: &Handle,
    ) -> std::io::Result<Drain> {
        let (cancel, status) = (CancellationToken::new(), Arc::new(Mutex::new(Status::default())));
        let partitions = intake.partitions();
        let count = threads.clamp(1, usize::from(partitions)) as u16;
        let threads = (0..count).map(|thread| {
            let lanes = (0..partitions).filter(|p| p % count == thread).map(|p| Lane::new(intake, p)).collect();
            let work = Work {
                worker: Worker::new(lake.clone(), settings.clone()),
                intake: intake.clone(),
                lake: lake.clone(),
                metrics: metrics.clone(),
                status: status.clone(),
                cancel: cancel.clone(),
                lanes,
                pushed: 0,
                pause: PAUSE_MIN,
            };
            let runtime = runtime.clone();
            std::thread::Builder::new().name(format!("drain-{thread}")).spawn(move || runtime.block_on(work.run()))
        });
        Ok(Drain { threads: threads.collect::<Result<_, _>>()?, cancel, status })
    }

    /// For `/readyz`: a partition that stands still, or a lake that has refused for long.
    pub fn check(&self) -> Check {
        let status = self.status.clone();
        Arc::new(move || {
            let status = status.lock();
            if let Some(stopped) = status.stopped.first() {
                return Some(stopped.clone());
            }
            let (since, error) = status.failing.as_ref()?;
            (since.elapsed() >= TROUBLE_AFTER)
                .then(|| format!("the lake has refused for {} s: {error}", since.elapsed().as_secs()))
        })
    }

    /// Flushes what was read and ends. What is left in the log is read by the next run.
    pub async fn stop(self) {
        self.cancel.cancel();
        let threads = self.threads;
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join()))).await;
    }
}

/// One partition of the log.
struct Lane {
    number: u16,
    place: Arc<Partition>,
    /// Next offset to push.
    at: u64,
    /// Where the lake stood when last seen.
    committed: u64,
    /// When the last pushed entry was received.
    seen: Micros,
    aligned: bool,
    stopped: bool,
}

impl Lane {
    fn new(intake: &Intake, number: u16) -> Lane {
        let place = Partition { app: intake.app(number), topic: TOPIC.into(), number: i32::from(number), start: 0 };
        Lane {
            number,
            place: Arc::new(place),
            at: 0,
            committed: 0,
            seen: Micros::default(),
            aligned: false,
            stopped: false,
        }
    }
}

struct Work {
    worker: Worker,
    intake: Intake,
    lake: Arc<Lake>,
    metrics: Arc<Metrics>,
    status: Arc<Mutex<Status>>,
    cancel: CancellationToken,
    lanes: Vec<Lane>,
    /// Entries in the worker's buffer.
    pushed: u64,
    pause: Duration,
}

impl Work {
    async fn run(mut self) {
        let mut appended = self.intake.appended();
        while !self.align().await {
            if self.wait().await {
                return;
            }
        }
        while !self.cancel.is_cancelled() {
            appended.borrow_and_update();
            let mut idle = true;
            for lane in 0..self.lanes.len() {
                match self.read(lane) {
                    Ok(more) => idle &= !more,
                    Err(e) => {
                        tracing::warn!(error = %e, partition = lane, "intake log could not be read");
                        self.pause_for(e.to_string());
                        if self.wait().await {
                            break;
                        }
                    }
                }
                if self.worker.is_full() {
                    self.flush().await;
                }
            }
            if self.worker.due_at().is_some_and(|at| at <= Instant::now()) {
                self.flush().await;
            } else if idle {
                let due = self.worker.due_at().unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
                tokio::select! {
                    () = self.cancel.cancelled() => {}
                    _ = appended.changed() => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                }
            }
        }
        self.flush().await;
    }

    /// Compares each partition with the lake; false when the lake does not answer.
    async fn align(&mut self) -> bool {
        for lane in self.lanes.iter_mut().filter(|l| !l.aligned) {
            let position = match self.lake.position(&lane.place.app).await {
                Ok(position) => position.and_then(|p| u64::try_from(p).ok()).unwrap_or(0),
                Err(e) => {
                    tracing::warn!(error = &e as &dyn std::error::Error, "lake could not be asked for positions");
                    self.status.lock().failing.get_or_insert((Instant::now(), e.to_string())).1 = e.to_string();
                    return false;
                }
            };
            if let Err(e) = self.intake.align(lane.number, position) {
                tracing::warn!(error = &e as &dyn std::error::Error, "intake log could not be compared with the lake");
                return false;
            }
            (lane.at, lane.committed, lane.aligned) = (position, position, true);
            // A crash between commit and removal leaves entries that the lake has: this removes them.
            remove(&self.intake, lane.number, position);
        }
        self.status.lock().failing = None;
        true
    }

    /// Pushes some entries of a partition; whether there were any.
    fn read(&mut self, lane: usize) -> Result<bool, IntakeError> {
        let lane = &mut self.lanes[lane];
        if lane.stopped {
            return Ok(false);
        }
        let blocks = self.intake.read(lane.number, lane.at, READ_BYTES)?;
        for block in &blocks {
            self.pushed += push(&mut self.worker, lane, block);
            if lane.at != block.to {
                stop(
                    &self.status,
                    lane,
                    format!("intake log: block at {} of partition {} is damaged", block.from, lane.number),
                );
                return Ok(false);
            }
        }
        Ok(!blocks.is_empty())
    }

    async fn flush(&mut self) {
        let began = Instant::now();
        let received = std::mem::take(&mut self.pushed);
        match self.worker.flush().await {
            Ok(None) => {}
            Ok(Some(landed)) => {
                let counts = &landed.counts;
                let landing = Landing {
                    received,
                    accepted: counts.facts(),
                    duplicates: counts.duplicates + counts.repeated,
                    rejected: counts.rejected,
                    asides: counts.asides,
                };
                let mut standings = Vec::new();
                for lane in &mut self.lanes {
                    let Some((_, position)) = landed.positions.iter().find(|(app, _)| *app == lane.place.app) else {
                        continue;
                    };
                    let position = *position as u64;
                    standings.push(Standing {
                        topic: TOPIC.into(),
                        partition: i32::from(lane.number),
                        records: position - lane.committed,
                        position: position as i64,
                        seen: lane.seen,
                    });
                    lane.committed = position;
                }
                self.metrics.landed(SOURCE, landing, &standings, landed.version, began.elapsed());
                self.pause = PAUSE_MIN;
                self.status.lock().failing = None;
                self.clear().await;
            }
            Err(e) => {
                self.worker.discard();
                self.metrics.failed(SOURCE, kind(&e));
                tracing::warn!(error = &e as &dyn std::error::Error, "flush did not land, its records are read again");
                self.pause_for(e.to_string());
                while !self.resume().await {
                    if self.wait().await {
                        return;
                    }
                }
                let _ = self.wait().await;
            }
        }
    }

    /// Removes what the lake holds, as a look at it after the commit says.
    async fn clear(&mut self) {
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.stopped || self.intake.low(lane.number) >= lane.committed {
                continue;
            }
            match self.lake.position(&lane.place.app).await {
                Ok(Some(position)) if position as u64 == lane.committed => {
                    remove(&self.intake, lane.number, lane.committed);
                }
                Ok(position) => stop_foreign(&self.status, lane, position),
                // The next flush tries again.
                Err(e) => tracing::warn!(error = &e as &dyn std::error::Error, "lake could not be asked for positions"),
            }
        }
    }

    /// After a flush that failed: goes back to where the lake stands. False when the lake does not say.
    async fn resume(&mut self) -> bool {
        for lane in self.lanes.iter_mut().filter(|l| !l.stopped) {
            match self.lake.position(&lane.place.app).await {
                Ok(position) => {
                    let found = position.and_then(|p| u64::try_from(p).ok()).unwrap_or(0);
                    // Nothing landed, or all of it did and only the answer was lost. There is no third way.
                    if found == lane.committed || found == lane.at {
                        (lane.at, lane.committed) = (found, found);
                    } else {
                        stop_foreign(&self.status, lane, position);
                    }
                }
                Err(e) => {
                    tracing::warn!(error = &e as &dyn std::error::Error, "lake could not be asked for positions");
                    return false;
                }
            }
        }
        true
    }

    fn pause_for(&self, error: String) {
        let mut status = self.status.lock();
        let since = status.failing.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        status.failing = Some((since, error));
    }

    /// Waits before the next try; true when it is time to end.
    async fn wait(&mut self) -> bool {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        tokio::time::timeout(pause, self.cancel.cancelled()).await.is_ok()
    }
}

fn remove(intake: &Intake, partition: u16, to: u64) {
    if let Err(e) = intake.truncate(partition, to) {
        tracing::warn!(error = &e as &dyn std::error::Error, partition, "committed entries could not be removed yet");
    }
}

/// Pushes the entries of a block that the lake does not have; how many.
fn push(worker: &mut Worker, lane: &mut Lane, block: &Block) -> u64 {
    let mut pushed = 0;
    for record in block.records() {
        if record.offset < lane.at {
            continue;
        }
        let (offset, next) = (record.offset as i64, record.offset as i64 + 1);
        match record.body {
            Body::Event(bytes) => worker.push(
                &lane.place,
                &Record {
                    tenant: record.tenant,
                    format: Format::Catena,
                    offset,
                    next,
                    bytes,
                    headers: &[],
                    received: record.received,
                    trusted: true,
                    mappings: None,
                    again: None,
                },
            ),
            Body::Rejection(r) => {
                worker.push_rejection(
                    &lane.place,
                    (offset, next),
                    record.tenant,
                    record.format,
                    r,
                    record.received,
                    false,
                );
            }
            Body::Aside(r) => {
                worker.push_rejection(
                    &lane.place,
                    (offset, next),
                    record.tenant,
                    record.format,
                    r,
                    record.received,
                    true,
                );
            }
        }
        lane.at = record.offset + 1;
        lane.seen = record.received;
        pushed += 1;
    }
    pushed
}

fn stop(status: &Mutex<Status>, lane: &mut Lane, why: String) {
    tracing::error!(partition = lane.number, %why, "partition of the intake log stands still");
    lane.stopped = true;
    status.lock().stopped.push(why);
}

fn stop_foreign(status: &Mutex<Status>, lane: &mut Lane, found: Option<i64>) {
    let why = format!(
        "the lake stands at {found:?} for `{}`, which this node brought to {}: another node works under the same identity, \
         perhaps with a copy of this folder; stop it",
        lane.place.app, lane.committed
    );
    stop(status, lane, why);
}

fn kind(e: &FlushError) -> &'static str {
    match e {
        e if e.is_fenced() => "fenced",
        FlushError::Commit(_) => "commit",
        FlushError::Put { .. } => "put",
        _ => "encode",
    }
}

#[cfg(test)]
mod tests;
