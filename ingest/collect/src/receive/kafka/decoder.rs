//! The decoder thread: takes batches from the reader's queue into a worker, and flushes it.
//!
//! Guarantee: records of a place are pushed only while it is live. When a flush fails, every place that the worker had
//! begun is dead before anything else is pushed, so nothing can follow the records that were lost from memory.

use super::reader::Link;
use super::registry::{Registry, Unreachable};
use super::{SOURCE, Shared};
use crate::worker::{FlushError, Landed, Partition, Record, Worker};
use catena_decode::framing::{self, Framed};
use catena_decode::{Format, Redactor};
use catena_schemas::rows::Rejection;
use catena_schemas::{Micros, canonical};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// A partition as read from one position on. A new position is a new place; a dead one takes no more records.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) partition: Arc<Partition>,
    pub(super) position: i64,
    /// Index of the topic in the settings.
    pub(super) topic: usize,
    pub(super) metrics: Arc<super::PartitionMetrics>,
    pub(super) live: AtomicBool,
    begun: AtomicBool,
}

impl Place {
    pub(super) fn new(
        partition: Partition,
        position: i64,
        topic: usize,
        metrics: Arc<super::PartitionMetrics>,
    ) -> Arc<Place> {
        let partition = Arc::new(partition);
        Arc::new(Place {
            partition,
            position,
            topic,
            metrics,
            live: AtomicBool::new(true),
            begun: AtomicBool::new(false),
        })
    }
}

/// What the reader hands over.
pub(super) enum Task<'c> {
    /// Records, in order within each place. They still lie in librdkafka's memory.
    Batch { records: Vec<(Arc<Place>, BorrowedMessage<'c>)>, bytes: usize },
    /// Flush now and say when done: whether it landed.
    Flush(SyncSender<bool>),
}

/// Header that names the format of a record, as `--format` does.
const FORMAT_HEADER: &str = "catena-format";

/// Reason code and detail.
type Refusal = (&'static str, String);

/// What a record costs in the queue besides its payload: headers of librdkafka and ours.
pub(super) const RECORD_OVERHEAD: usize = 256;

pub(super) struct Decoder<'c, 's, C: rdkafka::consumer::ConsumerContext> {
    shared: &'s Shared,
    consumer: &'c BaseConsumer<C>,
    link: &'s Link,
    worker: Worker,
    /// Places that the worker holds a position of.
    begun: Vec<Arc<Place>>,
    /// By topic, for records that are refused before the worker sees them. Each is made once: that takes longer than to use it.
    redactors: HashMap<usize, Redactor>,
}

impl<'c, 's, C: rdkafka::consumer::ConsumerContext> Decoder<'c, 's, C> {
    pub(super) fn new(shared: &'s Shared, consumer: &'c BaseConsumer<C>, link: &'s Link) -> Self {
        let worker = Worker::new(shared.lake.clone(), shared.worker.clone());
        Decoder { shared, consumer, link, worker, begun: Vec::new(), redactors: HashMap::new() }
    }

    /// Runs until the reader drops its end of the queue.
    pub(super) fn run(mut self, tasks: &Receiver<Task<'c>>) {
        loop {
            // Without a deadline there is nothing to wake up for but the next task.
            let wait = self
                .worker
                .due_at()
                .map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(Instant::now()));
            match tasks.recv_timeout(wait) {
                Ok(Task::Batch { records, bytes }) => {
                    self.push(records);
                    self.link.release(bytes);
                }
                Ok(Task::Flush(done)) => {
                    let landed = self.flush();
                    let _ = done.send(landed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.worker.due_at().is_some_and(|due| due <= Instant::now()) || self.worker.is_full() {
                self.flush();
            }
        }
    }

    fn push(&mut self, records: Vec<(Arc<Place>, BorrowedMessage<'c>)>) {
        let received = self.now();
        for (place, message) in &records {
            if !place.live.load(Relaxed) {
                continue;
            }
            if !place.begun.swap(true, Relaxed) {
                self.begin(place);
            }
            let settings = &self.shared.settings.topics[place.topic];
            let mut headers: smallvec::SmallVec<[(&str, &[u8]); 8]> = smallvec::SmallVec::new();
            if let Some(found) = message.headers() {
                headers.extend(found.iter().map(|h| (h.key, h.value.unwrap_or_default())));
            }
            let enveloped = matches!(settings.format, Format::Auto | Format::Cloudevents)
                && headers.iter().any(|h| h.0.eq_ignore_ascii_case("ce_specversion"));
            let bytes = match message.payload() {
                Some(bytes) => bytes,
                // Its envelope stands in the headers, and names what was deleted.
                None if enveloped => &[],
                None => {
                    let rejection = Rejection {
                        reason: "tombstone",
                        detail: "the record has no value, only a key".into(),
                        raw: Some(Vec::new()),
                        index: 0,
                    };
                    let offsets = (message.offset(), message.offset() + 1);
                    let (tenant, format) = (&settings.tenant, settings.format);
                    self.worker.push_rejection(&place.partition, offsets, tenant, format, rejection, received, false);
                    continue;
                }
            };
            let opened;
            let bytes = match (&settings.registry, framing::framed(bytes)) {
                (Some(registry), Some(framed)) => match self.open(registry, framed) {
                    Ok(Ok(json)) => {
                        opened = json;
                        opened.as_bytes()
                    }
                    Ok(Err((reason, detail))) => {
                        let shared = self.shared;
                        let redactor = self.redactors.entry(place.topic).or_insert_with(|| {
                            let key = canonical::tenant_key(&shared.lake.secret(), &settings.tenant);
                            Redactor::with_rules(key, shared.worker.rules.clone())
                        });
                        let rejection = redactor.reject(reason, detail, bytes);
                        let offsets = (message.offset(), message.offset() + 1);
                        let (tenant, format) = (&settings.tenant, settings.format);
                        self.worker.push_rejection(
                            &place.partition,
                            offsets,
                            tenant,
                            format,
                            rejection,
                            received,
                            false,
                        );
                        continue;
                    }
                    Err(error) => {
                        // Nothing is known of the record: its place is read again from what the lake holds, after a while.
                        warn!(error = &error as &dyn std::error::Error, "a schema could not be had, reading again");
                        place.live.store(false, Relaxed);
                        self.link.failures.fetch_add(1, Relaxed);
                        self.link.lost.store(true, Relaxed);
                        continue;
                    }
                },
                _ => bytes,
            };
            // A topic that carries several dialects says so record by record; what it says of itself is tried first.
            let named = headers.iter().find(|h| h.0 == FORMAT_HEADER).and_then(|h| std::str::from_utf8(h.1).ok());
            let record = Record {
                tenant: &settings.tenant,
                format: named.and_then(Format::parse).unwrap_or(settings.format),
                offset: message.offset(),
                next: message.offset() + 1,
                // An empty value is a record too: the decoder says what is wrong with it.
                bytes,
                headers: &headers,
                received,
                trusted: false,
                mappings: settings.mappings.as_ref(),
                again: None,
            };
            self.worker.push(&place.partition, &record);
            if self.worker.is_full() {
                self.flush();
            }
        }
    }

    /// What a frame holds, as JSON; the inner error is why it cannot be read.
    fn open(&self, registry: &Registry, framed: Framed<'_>) -> Result<Result<String, Refusal>, Unreachable> {
        let schema = match self.shared.runtime.block_on(registry.schema(framed.schema_id))? {
            Ok(schema) => schema,
            Err(detail) => return Ok(Err(("schema_unknown", detail))),
        };
        Ok(schema.json(framed.payload).map(|json| json.text))
    }

    /// The lake's clock.
    fn now(&self) -> Micros {
        self.shared.lake.records().clock().wall()
    }

    fn begin(&mut self, place: &Arc<Place>) {
        self.begun.retain(|p| p.live.load(Relaxed) && p.partition.app != place.partition.app);
        self.begun.push(place.clone());
        self.worker.begin(&place.partition, place.position);
    }

    /// Flushes; false when what was buffered is lost from memory.
    fn flush(&mut self) -> bool {
        let began = Instant::now();
        match self.shared.runtime.block_on(self.worker.flush()) {
            Ok(None) => true,
            Ok(Some(landed)) => {
                self.landed(&landed, began.elapsed());
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    fn landed(&mut self, landed: &Landed, took: Duration) {
        debug!(version = landed.version, records = landed.counts.records, ?took, "committed");
        self.link.failures.store(0, Relaxed);
        self.shared.metrics.commits.fetch_add(1, Relaxed);
        let now = self.now();
        let mut offsets = TopicPartitionList::new();
        for (app, position) in &landed.positions {
            let Some(place) = self.begun.iter().find(|p| &p.partition.app == app) else { continue };
            let (topic, partition) = (&place.partition.topic, place.partition.number);
            place.metrics.position.store(*position, Relaxed);
            place.metrics.committed_at.store(now.0, Relaxed);
            let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(*position));
        }
        // For lag tools. It may fail, for instance when the partition has just moved on; nothing rests on it.
        let _ = self.consumer.commit(&offsets, CommitMode::Async);
    }

    /// Nothing of the buffer is in the lake: forgets it, and where everything stood.
    fn lost(&mut self, error: &FlushError) {
        self.worker.discard();
        for place in self.begun.drain(..) {
            place.live.store(false, Relaxed);
        }
        let cause = error as &dyn std::error::Error;
        if error.is_fenced() {
            self.shared.metrics.fenced.fetch_add(1, Relaxed);
            self.shared.figures.failed(SOURCE, "fenced");
            info!(error = cause, "flush refused, reading again from the lake's positions");
        } else {
            self.shared.metrics.failures.fetch_add(1, Relaxed);
            let kind = match error {
                FlushError::Commit(_) => "commit",
                FlushError::Put { .. } => "put",
                _ => "encode",
            };
            self.shared.figures.failed(SOURCE, kind);
            self.link.failures.fetch_add(1, Relaxed);
            warn!(error = cause, "flush failed, reading again from the lake's positions");
        }
        self.link.lost.store(true, Relaxed);
    }
}
