//! The reader thread: polls, answers rebalances, and decides where each partition is read.
//!
//! Guarantee: a record is handed on only if it stands at its seat's next offset, or beyond it in a topic where reading the
//! place a second time showed that nothing stands between (control records, compaction). So a consumer that starts at
//! the wrong place loses nothing.

use super::decoder::{Decoder, Place, RECORD_OVERHEAD, Task};
use super::{Events, First, PartitionMetrics, Rebalance, Shared, Stop};
use crate::commit::Range;
use crate::worker::Partition;
use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Records handed over at a time, at most. Small enough that the decoder starts early, large enough to make the queue cheap.
const BATCH_RECORDS: usize = 256;
/// The longest that the reader waits for room before it pauses and goes back to polling.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// How long one question to a broker may take while partitions are settled.
const ASK_WAIT: Duration = Duration::from_secs(5);
/// How often a stopped partition is looked at again.
const STOPPED_RECHECK: Duration = Duration::from_secs(10);

/// What reader and decoder of one consumer share besides the queue.
#[derive(Default)]
pub(super) struct Link {
    bytes: Mutex<usize>,
    room: Condvar,
    /// A flush failed: some places are dead.
    pub(super) lost: AtomicBool,
    /// Flushes that failed in a row, other than by being fenced.
    pub(super) failures: AtomicU32,
}

impl Link {
    pub(super) fn release(&self, bytes: usize) {
        *self.bytes.lock() -= bytes;
        self.room.notify_one();
    }

    fn bytes(&self) -> usize {
        *self.bytes.lock()
    }

    /// Waits until at most `limit` bytes are queued; false when they were not in time.
    fn wait_for_room(&self, limit: usize, longest: Duration) -> bool {
        let mut bytes = self.bytes.lock();
        !self.room.wait_while_for(&mut bytes, |b| *b > limit, longest).timed_out()
    }
}

/// How a consumer ended.
enum End {
    Stopped,
    /// librdkafka says that this client cannot go on.
    Fatal(ClientError),
}

/// Reads with consumer `number` until told to stop; a consumer that breaks is built anew.
pub(super) fn run(shared: &Shared, number: usize) {
    // What the lake holds is learnt before the group gives us anything: others read on meanwhile, and a first flush that
    // takes that long would hold up the next rebalance. What fails here is tried again by that flush.
    let learn = async {
        tokio::select! {
            learnt = shared.worker.duplicates.learn(&shared.lake) => learnt,
            () = stopped(shared) => Ok(()),
        }
    };
    if let Err(e) = shared.runtime.block_on(learn) {
        warn!(error = chain(&e), "could not read recent decisions");
    }
    debug!(consumer = number, "recent decisions are known");
    let mut failures = 0;
    while !shared.stop.load(Relaxed) {
        let started = Instant::now();
        match consume(shared, number) {
            End::Stopped => return,
            End::Fatal(e) => {
                shared.metrics.restarts.fetch_add(1, Relaxed);
                failures = if started.elapsed() > Duration::from_secs(60) { 0 } else { failures + 1 };
                error!(error = %e, consumer = number, "kafka consumer broke, building it anew");
                sleep(shared, backoff(failures));
            }
        }
    }
}

fn consume(shared: &Shared, number: usize) -> End {
    let events = Events {
        rebalances: Mutex::default(),
        closing: AtomicBool::new(false),
        warned: Mutex::default(),
        metrics: shared.metrics.clone(),
    };
    let created = shared
        .settings
        .consumer(number)
        .expect("the same settings made a consumer when the receiver was started")
        .create_with_context::<_, BaseConsumer<Events>>(events);
    let consumer = match created {
        Ok(consumer) => consumer,
        Err(e) => return End::Fatal(e),
    };
    let link = Link::default();
    let (sender, tasks) = channel();
    let end = std::thread::scope(|scope| {
        let decoder = Decoder::new(shared, &consumer, &link);
        let spawned = std::thread::Builder::new()
            .name(format!("kafka-{number}-decode"))
            .spawn_scoped(scope, move || decoder.run(&tasks));
        let decoding = match spawned {
            Ok(thread) => thread,
            Err(e) => return End::Fatal(ClientError::ClientCreation(format!("could not start a thread: {e}"))),
        };
        let end = Reader::new(shared, &consumer, &link, sender).run();
        match decoding.join() {
            Ok(()) => end,
            // What it held in memory is gone and not in the lake: the next consumer reads it again.
            Err(_) => End::Fatal(ClientError::Canceled),
        }
    });
    // From here on nobody answers rebalances but the callback: dropping the consumer polls until it has left.
    consumer.context().closing.store(true, Relaxed);
    end
}

async fn stopped(shared: &Shared) {
    while !shared.stop.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn sleep(shared: &Shared, time: Duration) {
    let until = Instant::now() + time;
    while !shared.stop.load(Relaxed) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// 100 ms, doubled with each failure up to 5 s; and a little apart from what others wait.
fn backoff(failures: u32) -> Duration {
    let base = 100u64 << failures.min(6);
    Duration::from_millis(base.min(5000) + rand::random_range(0..100))
}

/// One assigned partition.
struct Seat {
    topic: usize,
    number: i32,
    metrics: Arc<PartitionMetrics>,
    state: State,
}

enum State {
    /// To be settled at this time.
    Waiting(Instant),
    /// Read.
    Placed { place: Arc<Place>, next: i64, beyond: Option<i64> },
    /// Not read, and looked at again at this time.
    Stopped(Stop, Instant),
}

/// A partition as Kafka and the lake see it.
struct View {
    seat: usize,
    app: String,
    low: i64,
    high: i64,
    position: i64,
}

struct Reader<'c, 's> {
    shared: &'s Shared,
    consumer: &'c BaseConsumer<Events>,
    link: &'s Link,
    sender: Sender<Task<'c>>,
    cluster: String,
    seats: Vec<Seat>,
    /// The seat of the last record: the next one is nearly always beside it.
    last: usize,
    pending: Vec<(Arc<Place>, BorrowedMessage<'c>)>,
    pending_bytes: usize,
    paused: bool,
    /// Topics in which offsets were seen to be missing for good.
    sparse: Vec<bool>,
    settle_failures: u32,
    /// Places have changed: tell librdkafka.
    moved: bool,
    /// The decoder is gone.
    broken: bool,
}

impl<'c, 's> Reader<'c, 's> {
    fn new(shared: &'s Shared, consumer: &'c BaseConsumer<Events>, link: &'s Link, sender: Sender<Task<'c>>) -> Self {
        Reader {
            shared,
            consumer,
            link,
            sender,
            cluster: String::new(),
            seats: Vec::new(),
            last: 0,
            pending: Vec::with_capacity(BATCH_RECORDS),
            pending_bytes: 0,
            paused: false,
            #[cfg(not(feature = "faults"))]
            sparse: vec![false; shared.names.len()],
            #[cfg(feature = "faults")]
            sparse: vec![shared.settings.faults.believe_gaps; shared.names.len()],
            settle_failures: 0,
            moved: false,
            broken: false,
        }
    }

    fn run(mut self) -> End {
        // The cluster's id is part of every position's name. It comes with metadata, which must be asked for.
        let first = &*self.shared.names[0];
        loop {
            if self.shared.stop.load(Relaxed) {
                return End::Stopped;
            }
            while self.consumer.poll(Duration::ZERO).is_some() {}
            if self.consumer.fetch_metadata(Some(first), Duration::from_millis(500)).is_ok()
                && let Some(id) = self.consumer.client().fetch_cluster_id(Duration::ZERO)
            {
                self.cluster = id;
                break;
            }
        }
        let names: Vec<&str> = self.shared.names.iter().map(|n| &**n).collect();
        if let Err(e) = self.consumer.subscribe(&names) {
            return End::Fatal(e);
        }
        info!(cluster = self.cluster, topics = names.join(","), "reading from kafka");
        while !self.shared.stop.load(Relaxed) {
            // While something is pending the poll does not wait: an empty queue hands it over at once.
            let wait = if self.pending.is_empty() { Duration::from_millis(50) } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => self.receive(message),
                Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                    return End::Fatal(ClientError::MessageConsumptionFatal(code));
                }
                Some(Err(e)) => self.fault(&e),
                None => self.hand_over(),
            }
            while let Some(event) = { self.consumer.context().rebalances.lock().pop_front() } {
                self.rebalance(event);
            }
            self.after_poll();
            if self.broken {
                return End::Fatal(ClientError::Canceled);
            }
        }
        self.finish()
    }

    /// What a poll may have made due.
    fn after_poll(&mut self) {
        if self.pending.len() >= BATCH_RECORDS {
            self.hand_over();
        }
        if self.paused && self.link.bytes() <= self.shared.settings.buffer_bytes / 2 {
            self.pause(false);
        }
        if self.link.lost.swap(false, Relaxed) {
            self.bury();
        }
        self.settle();
    }

    fn receive(&mut self, message: BorrowedMessage<'c>) {
        let Some(at) = self.find(message.topic(), message.partition()) else { return };
        let seat = &mut self.seats[at];
        let State::Placed { place, next, beyond } = &mut seat.state else { return };
        let offset = message.offset();
        if offset < *next {
            self.shared.metrics.repeated.fetch_add(1, Relaxed);
            return;
        }
        if offset > *next && !self.sparse[seat.topic] {
            if *beyond != Some(offset) {
                // Either nothing stands between, or librdkafka began at the wrong place. Reading it again tells.
                *beyond = Some(offset);
                self.shared.metrics.gaps_checked.fetch_add(1, Relaxed);
                self.moved = true;
                return;
            }
            info!(topic = %self.shared.names[seat.topic], partition = seat.number, next = *next, offset, "offsets are missing for good");
            self.sparse[seat.topic] = true;
        }
        *next = offset + 1;
        let size = message.payload_len();
        seat.metrics.received.fetch_add(1, Relaxed);
        seat.metrics.received_bytes.fetch_add(size as u64, Relaxed);
        seat.metrics.next.store(offset + 1, Relaxed);
        self.pending_bytes += size + RECORD_OVERHEAD;
        self.pending.push((place.clone(), message));
    }

    fn find(&mut self, topic: &str, number: i32) -> Option<usize> {
        let is = |seat: &Seat| seat.number == number && *self.shared.names[seat.topic] == *topic;
        if !self.seats.get(self.last).is_some_and(is) {
            self.last = self.seats.iter().position(is)?;
        }
        Some(self.last)
    }

    /// Hands the pending records to the decoder, and pauses when it is too far behind.
    fn hand_over(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending_bytes);
        let records = std::mem::replace(&mut self.pending, Vec::with_capacity(BATCH_RECORDS));
        *self.link.bytes.lock() += bytes;
        if self.sender.send(Task::Batch { records, bytes }).is_err() {
            self.broken = true;
            return;
        }
        let budget = self.shared.settings.buffer_bytes;
        // Pausing makes librdkafka throw away what it has fetched ahead, so first see whether a moment is enough.
        if !self.paused && self.link.bytes() > budget / 10 * 8 && !self.link.wait_for_room(budget / 2, ROOM_WAIT) {
            self.pause(true);
        }
    }

    fn pause(&mut self, paused: bool) {
        if paused {
            self.shared.metrics.pauses.fetch_add(1, Relaxed);
        }
        self.paused = paused;
        self.tell_paused();
    }

    /// Tells librdkafka whether to fetch. It keeps a pause with the partition, not with the assignment: one that is given
    /// up while paused would come back paused. So this follows every assignment, both ways.
    fn tell_paused(&self) {
        let list = self.list(false);
        let done = if self.paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(e) = done {
            warn!(error = %e, paused = self.paused, "could not pause or resume");
        }
        for seat in &self.seats {
            seat.metrics.paused.store(self.paused, Relaxed);
        }
    }

    /// The partitions that are read, with or without the place to read them from.
    fn list(&self, offsets: bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for seat in &self.seats {
            if matches!(seat.state, State::Placed { .. }) {
                let offset = if offsets { Offset::Offset(self.begin(seat)) } else { Offset::Invalid };
                list.add_partition_offset(&self.shared.names[seat.topic], seat.number, offset)
                    .expect("topic names hold no zero byte, librdkafka gave them to us");
            }
        }
        list
    }

    /// Where librdkafka is to begin with a placed seat.
    fn begin(&self, seat: &Seat) -> i64 {
        let State::Placed { next, .. } = &seat.state else { return 0 };
        #[cfg(feature = "faults")]
        if let State::Placed { place, beyond: None, .. } = &seat.state
            && *next == place.position
        {
            return (next + self.shared.settings.faults.misplace).min(seat.metrics.high.load(Relaxed));
        }
        *next
    }

    fn rebalance(&mut self, event: Rebalance) {
        match event {
            Rebalance::Assign(partitions) => {
                self.shared.metrics.assignments.fetch_add(1, Relaxed);
                info!(partitions = partitions.len(), "assigned");
                self.kill();
                self.seats = partitions.into_iter().filter_map(|(topic, number)| self.seat(&topic, number)).collect();
                self.moved = true;
            }
            Rebalance::Revoke => {
                info!(partitions = self.seats.len(), "revoked");
                self.let_go(self.shared.settings.revoke_wait);
                self.seats.clear();
                if let Err(e) = self.consumer.unassign() {
                    warn!(error = %e, "could not give up partitions");
                }
                self.paused = false;
            }
        }
    }

    fn seat(&self, topic: &str, number: i32) -> Option<Seat> {
        let topic = self.shared.names.iter().position(|n| **n == *topic)?;
        let metrics = self.shared.metrics.partition(&self.shared.names[topic], number);
        metrics.owned.store(true, Relaxed);
        metrics.paused.store(false, Relaxed);
        metrics.next.store(-1, Relaxed);
        metrics.fetch.store(-1, Relaxed);
        Some(Seat { topic, number, metrics, state: State::Waiting(Instant::now()) })
    }

    /// Takes no more records for any seat; those that wait in the queue are dropped.
    fn kill(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
        for seat in &mut self.seats {
            seat.metrics.owned.store(false, Relaxed);
            if let State::Placed { place, .. } = &seat.state {
                place.live.store(false, Relaxed);
            }
        }
    }

    /// Takes no more records for any seat, and waits for a while for what was taken to land.
    fn let_go(&mut self, wait: Duration) -> bool {
        self.kill();
        let (done, landed) = sync_channel(1);
        if self.sender.send(Task::Flush(done)).is_err() {
            return false;
        }
        let answer = landed.recv_timeout(wait);
        if answer.is_err() {
            self.shared.metrics.revokes_unflushed.fetch_add(1, Relaxed);
        }
        answer.unwrap_or(false)
    }

    /// Seats whose place died with a failed flush are settled anew.
    fn bury(&mut self) {
        let failures = self.link.failures.load(Relaxed);
        let at = Instant::now() + if failures == 0 { Duration::ZERO } else { backoff(failures - 1) };
        for seat in &mut self.seats {
            if matches!(&seat.state, State::Placed { place, .. } if !place.live.load(Relaxed)) {
                seat.state = State::Waiting(at);
                self.moved = true;
            }
        }
    }

    /// Finds a place for each seat that is due, and tells librdkafka what is to be read where.
    fn settle(&mut self) {
        let now = Instant::now();
        let due = |seat: &Seat| matches!(seat.state, State::Waiting(at) | State::Stopped(_, at) if at <= now);
        let due: Vec<usize> = (0..self.seats.len()).filter(|at| due(&self.seats[*at])).collect();
        if !due.is_empty() {
            match self.look(&due) {
                Ok(views) => {
                    self.settle_failures = 0;
                    for view in views {
                        let seat = view.seat;
                        self.seats[seat].state = self.place(view);
                    }
                    self.moved = true;
                }
                Err(why) => {
                    let wait = backoff(self.settle_failures);
                    self.settle_failures += 1;
                    warn!(why, ?wait, "could not find out where to read on");
                    for at in due {
                        if let State::Waiting(at) | State::Stopped(_, at) = &mut self.seats[at].state {
                            *at = now + wait;
                        }
                    }
                }
            }
        }
        if std::mem::take(&mut self.moved) {
            // Restarts the others too, each at its next offset: librdkafka knows only whole assignments here.
            if let Err(e) = self.consumer.assign(&self.list(true)) {
                error!(error = %e, "could not take partitions");
            }
            self.tell_paused();
        }
    }

    /// What Kafka and the lake say of seats. Whoever does not answer for one will not answer for the others either.
    fn look(&self, due: &[usize]) -> Result<Vec<View>, String> {
        let (lake, runtime) = (&self.shared.lake, &self.shared.runtime);
        let mut views = Vec::with_capacity(due.len());
        let mut begun = Vec::new();
        for &seat in due {
            let Seat { topic, number, .. } = self.seats[seat];
            let name = &self.shared.names[topic];
            let (low, high) = self
                .consumer
                .fetch_watermarks(name, number, ASK_WAIT)
                .map_err(|e| format!("watermarks of {name}/{number}: {e}"))?;
            let app = format!("kafka:{}/{name}@{}/{number}", self.cluster, self.shared.settings.topics[topic].epoch);
            let held =
                runtime.block_on(lake.position(&app)).map_err(|e| format!("position of `{app}`: {}", chain(&e)))?;
            let position = held.unwrap_or_else(|| {
                let start = match self.shared.settings.first {
                    First::Earliest => low,
                    First::Latest => high,
                };
                begun.push(Range { app: app.clone(), from: start, to: start, start });
                start
            });
            views.push(View { seat, app, low, high, position });
        }
        if !begun.is_empty() {
            // Recorded before anything is read: what retention removes from now on is missed by somebody.
            let recorded = runtime.block_on(lake.commit(Vec::new(), begun, serde_json::Map::new()));
            recorded.map_err(|e| format!("first positions: {}", chain(&e)))?;
        }
        Ok(views)
    }

    /// What follows for a seat.
    fn place(&self, View { seat, app, low, high, position }: View) -> State {
        let seat = &self.seats[seat];
        let name = &self.shared.names[seat.topic];
        seat.metrics.low.store(low, Relaxed);
        seat.metrics.high.store(high, Relaxed);
        seat.metrics.position.store(position, Relaxed);
        let stop = Stop::judge(position, low, high);
        seat.metrics.stopped.store(stop.map_or(0, |s| s as u8), Relaxed);
        if let Some(stop) = stop {
            if !matches!(seat.state, State::Stopped(before, _) if before == stop) {
                error!(
                    topic = %name, partition = seat.number, position, low, high,
                    "partition stopped: {}; raise its topic's epoch to begin anew", stop.text()
                );
            }
            return State::Stopped(stop, Instant::now() + STOPPED_RECHECK);
        }
        seat.metrics.next.store(position, Relaxed);
        let partition = Partition { app, topic: name.clone(), number: seat.number, start: position };
        State::Placed {
            place: Place::new(partition, position, seat.topic, seat.metrics.clone()),
            next: position,
            beyond: None,
        }
    }

    fn fault(&mut self, e: &ClientError) {
        // The client's own callback has warned of it.
        debug!(error = %e, "kafka");
        // The error does not name its partition, so all of them are looked at. A place that is still good is found again.
        if matches!(
            e,
            ClientError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
        ) {
            let flushed = self.drain();
            for seat in &mut self.seats {
                if let State::Placed { place, .. } = &seat.state {
                    place.live.store(false, Relaxed);
                    seat.state = State::Waiting(Instant::now() + backoff(if flushed { 1 } else { 4 }));
                }
            }
            self.moved = true;
        }
    }

    /// Lets everything handed over land, without giving up a seat.
    fn drain(&mut self) -> bool {
        self.hand_over();
        let (done, landed) = sync_channel(1);
        self.sender.send(Task::Flush(done)).is_ok()
            && landed.recv_timeout(self.shared.settings.revoke_wait).unwrap_or(false)
    }

    /// The graceful end. The group offsets that the decoder commits go out while the consumer closes.
    fn finish(mut self) -> End {
        self.hand_over();
        let _ = self.consumer.pause(&self.list(false));
        // The queue is decoded to its end first, which is why nothing is let go before.
        let (done, landed) = sync_channel(1);
        if self.sender.send(Task::Flush(done)).is_ok()
            && landed.recv_timeout(self.shared.settings.stop_wait) == Ok(true)
        {
            info!("stopped, everything received is in the lake");
        } else {
            warn!("stopped, the last records will be read again");
        }
        for seat in &self.seats {
            seat.metrics.owned.store(false, Relaxed);
        }
        self.consumer.unsubscribe();
        End::Stopped
    }
}

/// An error and its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}
