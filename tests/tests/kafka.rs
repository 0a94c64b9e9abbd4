//! Real collectors, a real broker, real kills; judged by an oracle that reads the lake without the product.
//!
//! Sizes come from the environment, so that the same tests are quick in a pull request and long at night:
//! `CATENA_KAFKA_EVENTS`, `CATENA_KAFKA_KILLS` and `CATENA_SEED`; `CATENA_KEEP` keeps lakes and logs. The seed is printed; the faults of a run follow from it,
//! their exact moments do not.

#![expect(clippy::disallowed_methods, reason = "sizes come from the environment, and a measurement needs the time")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is a test")]

use catena_tests::fleet::{Dice, Fleet};
use catena_tests::kafka::{Broker, PASSWORD, USER, free_port};
use catena_tests::oracle::{self, Verdict};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminOptions;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const PARTITIONS: i32 = 8;
/// Longest time from one kill to the next: some hit a collector that has just started, most hit one at work.
const KILL_EVERY_MS: u64 = 2500;
/// Past it the group takes a silent member's partitions away.
const SESSION_MS: u64 = 3000;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

fn seed() -> u64 {
    let seed = setting("CATENA_SEED", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    println!("CATENA_SEED={seed}");
    seed
}

/// One broker serves the tests that wait for each other, and ends with the last of them.
fn broker() -> Shared {
    static BROKER: Mutex<Weak<Mutex<Started>>> = Mutex::new(Weak::new());
    let mut known = BROKER.lock().unwrap_or_else(PoisonError::into_inner);
    let started = known.upgrade().unwrap_or_else(|| {
        let folder = TempDir::new().unwrap();
        let broker = Broker::start(folder.path(), free_port().unwrap()).unwrap();
        let started = Arc::new(Mutex::new(Started { broker, _folder: folder }));
        *known = Arc::downgrade(&started);
        started
    });
    Shared(started)
}

struct Started {
    broker: Broker,
    // Dropped after the broker that writes into it.
    _folder: TempDir,
}

struct Shared(Arc<Mutex<Started>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Started> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A topic, a lake, and what is started on them.
struct Rig {
    brokers: String,
    topic: String,
    folder: TempDir,
    settings: Value,
}

impl Rig {
    fn new(broker: &Broker, settings: Value) -> Rig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let topic = format!("decisions-{}", COUNT.fetch_add(1, Relaxed));
        broker.create_topic(&topic, PARTITIONS, &[]).unwrap();
        let mut folder = TempDir::new().unwrap();
        if setting("CATENA_KEEP", 0) != 0 {
            folder.disable_cleanup(true);
            println!("kept in {}", folder.path().display());
        }
        Rig { brokers: broker.address(), topic, folder, settings }
    }

    fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    fn collector(&self, name: &str, more: Value) -> Collector {
        Collector::start(self, name, more)
    }

    /// Application id of a partition.
    fn apps(&self) -> BTreeMap<i32, String> {
        let named = |app: &String| app.contains(&format!("/{}@", self.topic));
        let positions = oracle::positions(&self.lake());
        positions
            .keys()
            .filter(|app| named(app))
            .map(|app| (app.rsplit_once('/').unwrap().1.parse().unwrap(), app.clone()))
            .collect()
    }

    /// Waits until the lake's positions have reached the ends of what was sent.
    fn drained(&self, ends: &[usize], longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let reached = || {
            let positions = oracle::positions(&self.lake());
            let apps = self.apps();
            ends.iter()
                .enumerate()
                .all(|(p, end)| apps.get(&(p as i32)).is_some_and(|app| positions[app] >= *end as i64))
        };
        while !reached() {
            if Instant::now() > deadline {
                println!("not drained: {:?}, sent {ends:?}", oracle::positions(&self.lake()));
                return false;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        true
    }

    /// Judges the lake against what was sent.
    fn judge(&self, sent: &Sent) -> Verdict {
        let mut verdict = oracle::judge(&self.lake(), false);
        let apps = self.apps();
        for (partition, ids) in sent.ids.iter().enumerate() {
            verdict.compare(apps.get(&(partition as i32)).map_or("", String::as_str), ids);
        }
        verdict
    }
}

/// A collector process. Killed when dropped.
struct Collector {
    child: Child,
    arguments: String,
    said: PathBuf,
}

impl Collector {
    fn start(rig: &Rig, name: &str, more: Value) -> Collector {
        let mut settings = json!({
            "lake": rig.lake(), "brokers": rig.brokers, "group": format!("group-{}", rig.topic), "instance": name,
            "topics": [{"name": rig.topic}], "flush_age_ms": 300,
            // Reading a million recent decisions back takes longer than a collector lives here.
            "window": 20_000,
            "properties": {
                "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 300, "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 300,
            },
        });
        for changes in [&rig.settings, &more] {
            for (key, value) in changes.as_object().into_iter().flatten() {
                settings[key] = value.clone();
            }
        }
        let said = rig.folder.path().join(format!("collector-{name}"));
        let arguments = settings.to_string();
        Collector { child: spawn(&arguments, &said), arguments, said }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(&self.arguments, &self.said);
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap().success()
        );
    }

    /// Asks it to stop, and returns how long it took.
    fn stop(&mut self) -> Duration {
        // Before its first words it cannot hear.
        self.wait_for("a first word", Duration::from_secs(20), |m| m["commits"].is_u64());
        let began = Instant::now();
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        began.elapsed()
    }

    /// Its last metrics.
    fn metrics(&self) -> Value {
        let said = fs::read_to_string(self.said.with_extension("metrics")).unwrap_or_default();
        said.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    /// Waits until its metrics say so.
    fn wait_for(&self, what: &str, longest: Duration, holds: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + longest;
        while !holds(&self.metrics()) {
            assert!(Instant::now() < deadline, "{what} did not come: {}\n{}", self.metrics(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.said.with_extension("log")).unwrap_or_default()
    }

    /// Milliseconds from each start to the first commit after it, for those that lived to see one.
    fn first_commits_ms(&self) -> Vec<u64> {
        let said = fs::read_to_string(self.said.with_extension("metrics")).unwrap_or_default();
        let mut times = Vec::new();
        let (mut uptime, mut seen) = (u64::MAX, false);
        for line in said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let now = line["uptime_ms"].as_u64().unwrap();
            seen &= now >= uptime;
            uptime = now;
            if !seen && line["commits"] != 0 {
                seen = true;
                times.push(now);
            }
        }
        times
    }

    /// A line of `/proc/<id>/status` in kB.
    fn status_kb(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Seconds of processor time used.
    fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // Ticks of 10 ms on every Linux.
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) as f64 / 100.0
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(arguments: &str, said: &Path) -> Child {
    let open =
        |extension: &str| File::options().create(true).append(true).open(said.with_extension(extension)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_collector"))
        .arg(arguments)
        .stdin(Stdio::null())
        .stdout(open("metrics"))
        .stderr(open("log"))
        .spawn()
        .unwrap()
}

/// What the broker acknowledged: event ids by partition and offset. `None` where what was sent has no id.
#[derive(Default)]
struct Sent {
    ids: Vec<Vec<Option<String>>>,
    failed: u64,
}

impl Sent {
    fn ends(&self) -> Vec<usize> {
        self.ids.iter().map(Vec::len).collect()
    }

    fn total(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

struct Acknowledged(Arc<Mutex<Sent>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<Option<String>>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Self::DeliveryOpaque) {
        let mut sent = self.0.lock().unwrap();
        match result {
            Ok(message) => {
                let ids = &mut sent.ids[message.partition() as usize];
                let at = message.offset() as usize;
                if ids.len() <= at {
                    ids.resize(at + 1, None);
                }
                ids[at] = *id;
            }
            Err((e, _)) => {
                println!("not acknowledged: {e}");
                sent.failed += 1;
            }
        }
    }
}

/// What is to be sent.
#[derive(Clone, Copy)]
struct Load {
    events: u64,
    seed: u64,
    /// Events a second; 0 for as many as possible.
    rate: u64,
    /// Of 1000 records so many are not events: cut, empty, or without a value.
    poison: u64,
    /// Events are decided when they are sent.
    live: bool,
}

/// Sends events to random partitions with an idempotent producer, changing the compression on the way.
fn produce(brokers: &str, topic: &str, load: Load) -> Sent {
    let sent = Arc::new(Mutex::new(Sent { ids: vec![Vec::new(); PARTITIONS as usize], failed: 0 }));
    let mut fleet = Fleet::new(load.seed);
    let mut dice = Dice::new(!load.seed);
    let began = Instant::now();
    let codecs: &[&str] = if load.live { &["lz4"] } else { &["snappy", "lz4", "zstd", "gzip", "none"] };
    let mut made = 0;
    for (turn, codec) in codecs.iter().enumerate() {
        let producer: BaseProducer<Acknowledged> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", *codec)
            .set("linger.ms", if load.live { "1" } else { "20" })
            .set("message.timeout.ms", "120000")
            .set("reconnect.backoff.max.ms", "300")
            .set("log_level", "2")
            .create_with_context(Acknowledged(sent.clone()))
            .unwrap();
        let until = load.events * (turn as u64 + 1) / codecs.len() as u64;
        let mut event = String::new();
        while made < until {
            event.clear();
            let id = match load.live {
                true => {
                    fleet.event_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64, &mut event)
                }
                false => fleet.event(&mut event),
            };
            let (id, payload) = match dice.per_mille(load.poison).then(|| dice.below(3)) {
                None => (Some(id), Some(event.as_bytes())),
                Some(0) => (None, Some(&event.as_bytes()[..event.len() / 2])),
                Some(1) => (None, Some(&[][..])),
                Some(_) => (None, None),
            };
            let partition = dice.below(PARTITIONS as u64) as i32;
            let mut record = BaseRecord::with_opaque_to(topic, Box::new(id)).partition(partition).key("k");
            record.payload = payload;
            while let Err((e, again)) = producer.send(record) {
                assert_eq!(e, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            made += 1;
            if made % 64 == 0 {
                producer.poll(Duration::ZERO);
                if load.rate > 0 {
                    let due = Duration::from_secs_f64(made as f64 / load.rate as f64);
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                }
            }
        }
        producer.flush(Duration::from_secs(120)).unwrap();
    }
    std::mem::take(&mut *sent.lock().unwrap())
}

/// Looks for anything but the expected rows.
fn check_exact(verdict: &Verdict, sent: &Sent) {
    assert_eq!(sent.failed, 0, "the producer gave up on records");
    assert!(verdict.complaints.is_empty(), "{:#?}", verdict.complaints);
    assert_eq!(verdict.total(), sent.total() as u64);
    let without_id: usize = sent.ids.iter().flatten().filter(|id| id.is_none()).count();
    assert_eq!(verdict.rows.get("reject").copied().unwrap_or(0), without_id as u64);
    assert_eq!(verdict.duplicates, 0, "every id was sent once");
}

/// TLS and passwords, against a listener that wants both.
#[test]
fn a_secured_broker_is_read_with_the_right_password_and_certificate_alone() {
    let seed = seed();
    let shared = broker();
    let started = shared.lock();
    let broker = &started.broker;
    let trusted = broker.certificate();
    let check = |mechanism: &str, password: &str, trust: bool, complaint: Option<&str>| {
        let mut properties = json!({
            "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": password,
            "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 300,
        });
        if trust {
            properties["ssl.ca.location"] = json!(trusted);
        }
        let rig = Rig::new(broker, json!({"brokers": broker.secured_address(), "properties": properties}));
        let load = Load { events: 2000, seed, rate: 0, poison: 0, live: false };
        let sent = produce(&rig.brokers, &rig.topic, load);
        let mut collector = rig.collector("c1", json!({}));
        match complaint {
            None => {
                assert!(rig.drained(&sent.ends(), Duration::from_secs(60)), "{mechanism}\n{}", collector.log());
                collector.stop();
                check_exact(&rig.judge(&sent), &sent);
            }
            Some(complaint) => {
                let deadline = Instant::now() + Duration::from_secs(30);
                while !collector.log().contains(complaint) {
                    assert!(Instant::now() < deadline, "no word of `{complaint}`:\n{}", collector.log());
                    std::thread::sleep(Duration::from_millis(50));
                }
                assert!(!collector.log().contains(password), "a password stands in the log");
                assert_eq!(oracle::positions(&rig.lake()).len(), 0);
            }
        }
    };
    check("SCRAM-SHA-512", PASSWORD, true, None);
    check("PLAIN", PASSWORD, true, None);
    check("SCRAM-SHA-512", "not-the-password", true, Some("Authentication failed"));
    check("SCRAM-SHA-512", PASSWORD, false, Some("certificate verify failed"));
}

/// Faults F01, F07, F08, F10 and F17 of one run: kills, a zombie, a rebalance, a broker that dies, and poison.
#[test]
fn every_record_lands_once_whatever_dies() {
    let events = setting("CATENA_KAFKA_EVENTS", 150_000);
    let kills = setting("CATENA_KAFKA_KILLS", 10);
    let seed = seed();
    let shared = broker();
    let mut started = shared.lock();
    let rig = Rig::new(&started.broker, json!({}));
    // Events flow for as long as there are faults.
    let cycle = kills.clamp(1, 40);
    let pauses_ms = kills.div_ceil(cycle) * (2 * (SESSION_MS + 1500) + 8000);
    let rate = events * 1000 / (kills * KILL_EVERY_MS / 2 + pauses_ms);
    let (brokers, topic) = (rig.brokers.clone(), rig.topic.clone());
    let load = Load { events, seed, rate, poison: 1, live: false };
    let done = Arc::new(AtomicBool::new(false));
    let producer = std::thread::spawn({
        let done = done.clone();
        move || {
            let sent = produce(&brokers, &topic, load);
            done.store(true, Relaxed);
            sent
        }
    });

    let mut dice = Dice::new(seed.rotate_left(32));
    let mut both = [rig.collector("a", json!({})), rig.collector("b", json!({"consumers": 2}))];
    let mut third = None;
    // The other faults happen between the kills, each at a place of its own, over and over.
    let turn = |n: u64| cycle * n / 8;
    for kill in (0..kills).map(|kill| kill % cycle) {
        std::thread::sleep(Duration::from_millis(50 + dice.below(KILL_EVERY_MS)));
        let victim = &mut both[dice.below(2) as usize];
        victim.kill();
        victim.restart();
        if kill == turn(1) || kill == turn(5) {
            third = Some(rig.collector("", json!({})));
        }
        if kill == turn(3) || kill == turn(7) {
            third.take().map(|mut c| c.stop());
        }
        if kill == turn(2) {
            started.broker.kill();
            std::thread::sleep(Duration::from_millis(300));
            started.broker.restart().unwrap();
        }
        if kill == turn(4) || kill == turn(6) {
            zombie(&both[dice.below(2) as usize], Duration::from_millis(SESSION_MS + 1500));
        }
    }
    let flowing = if done.load(Relaxed) { "before" } else { "after" };
    println!("{rate} events/s; the producer ended {flowing} the last fault");
    drop(third);
    let sent = producer.join().unwrap();
    assert!(rig.drained(&sent.ends(), Duration::from_secs(90)), "{}\n{}", both[0].log(), both[1].log());
    let stopped: Vec<Duration> = both.iter_mut().map(Collector::stop).collect();
    let verdict = rig.judge(&sent);
    println!("{} rows {:?} in {} versions; stopped in {stopped:?}", verdict.total(), verdict.rows, verdict.version + 1);
    println!("a: {}\nb: {}", totals(&both[0]), totals(&both[1]));
    let mut first: Vec<u64> = both.iter().flat_map(Collector::first_commits_ms).collect();
    first.sort_unstable();
    println!("{} of {} starts saw a commit, after {first:?} ms", first.len(), kills + 2);
    println!("{} files were written and not committed", oracle::orphans(&rig.lake()));
    check_exact(&verdict, &sent);
}

/// Freezes a collector until the group has given its partitions away, and lets it go on with what it holds in memory.
fn zombie(collector: &Collector, time: Duration) {
    collector.signal("STOP");
    std::thread::sleep(time);
    collector.signal("CONT");
}

/// Metrics without the partitions.
fn totals(collector: &Collector) -> Value {
    let mut metrics = collector.metrics();
    metrics.as_object_mut().map(|m| m.remove("partitions"));
    metrics
}

/// Two collectors under a steady load, and one of them sleeps past its session several times.
fn zombies(settings: Value) -> (Verdict, Sent) {
    let shared = broker();
    let started = shared.lock();
    let rig = Rig::new(&started.broker, settings);
    let (brokers, topic) = (rig.brokers.clone(), rig.topic.clone());
    let load = Load { events: 24_000, seed: seed(), rate: 1500, poison: 0, live: false };
    let producer = std::thread::spawn(move || produce(&brokers, &topic, load));
    // An age that leaves something in memory at any moment.
    let both = [rig.collector("a", json!({"flush_age_ms": 1500})), rig.collector("b", json!({}))];
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(2200));
        zombie(&both[0], Duration::from_millis(SESSION_MS + 1500));
    }
    let sent = producer.join().unwrap();
    rig.drained(&sent.ends(), Duration::from_secs(20));
    println!("a: {}\nb: {}", totals(&both[0]), totals(&both[1]));
    drop(both);
    (rig.judge(&sent), sent)
}

#[test]
fn a_zombie_adds_nothing() {
    let (verdict, sent) = zombies(json!({}));
    check_exact(&verdict, &sent);
}

/// The same with the protection off: had the oracle nothing to say, it would be no oracle.
#[test]
fn without_the_position_check_a_zombie_doubles() {
    let (verdict, _) = zombies(json!({"accept_any_position": true}));
    println!("{:#?}", verdict.complaints);
    assert!(
        verdict.complaints.iter().any(|c| c.contains("already") || c.contains("runs back")),
        "{:#?}",
        verdict.complaints
    );
}

/// A consumer that starts behind the position it was given.
fn misplaced(settings: Value) -> (Verdict, Sent) {
    let shared = broker();
    let started = shared.lock();
    let rig = Rig::new(&started.broker, settings);
    let load = Load { events: 4000, seed: seed(), rate: 0, poison: 0, live: false };
    let sent = produce(&rig.brokers, &rig.topic, load);
    let mut collector = rig.collector("a", json!({}));
    assert!(rig.drained(&sent.ends(), Duration::from_secs(20)), "{}", collector.log());
    collector.stop();
    println!("{}", totals(&collector));
    (rig.judge(&sent), sent)
}

#[test]
fn a_wrong_start_loses_nothing() {
    let (verdict, sent) = misplaced(json!({"misplace": 3}));
    check_exact(&verdict, &sent);
}

#[test]
fn without_the_offset_check_a_wrong_start_loses_records() {
    let (verdict, _) = misplaced(json!({"misplace": 3, "believe_gaps": true}));
    println!("{:#?}", verdict.complaints);
    assert!(verdict.complaints.iter().any(|c| c.contains("without a row")), "{:#?}", verdict.complaints);
}

/// Control records and aborted transactions leave holes; what stands between them is read, and the end is no stall.
#[test]
fn transactions_are_read_when_committed() {
    let shared = broker();
    let started = shared.lock();
    let rig = Rig::new(&started.broker, json!({"stall_after_ms": 1500}));
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &rig.brokers)
        .set("transactional.id", format!("t-{}", rig.topic))
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    let mut fleet = Fleet::new(seed());
    let mut committed = Vec::new();
    for turn in 0..6 {
        producer.begin_transaction().unwrap();
        for _ in 0..50 {
            let mut event = String::new();
            let id = fleet.event(&mut event);
            producer.send(BaseRecord::<str, str>::to(&rig.topic).partition(turn % 2).payload(&event)).unwrap();
            if turn % 3 != 1 {
                committed.push(id);
            }
        }
        // Aborted or not, they stand in the log first.
        producer.flush(Duration::from_secs(20)).unwrap();
        match turn % 3 {
            1 => producer.abort_transaction(Duration::from_secs(20)).unwrap(),
            _ => producer.commit_transaction(Duration::from_secs(20)).unwrap(),
        }
    }
    let mut collector = rig.collector("a", json!({}));
    // Each transaction is 50 records and a marker. Partition 0 ends with an aborted one, partition 1 with a marker: nobody
    // is given either.
    assert!(rig.drained(&[101, 152], Duration::from_secs(20)), "{}", collector.log());
    collector.wait_for("lag 0", Duration::from_secs(15), |m| {
        m["partitions"].as_array().is_some_and(|p| p.len() == PARTITIONS as usize && p.iter().all(|p| p["lag"] == 0))
    });
    std::thread::sleep(Duration::from_secs(2));
    let metrics = collector.metrics();
    assert!(metrics["partitions"].as_array().unwrap().iter().all(|p| p["stalled"] == false), "{metrics}");
    collector.stop();
    let verdict = oracle::judge(&rig.lake(), false);
    let mut held: Vec<String> = verdict.ids.values().flatten().flatten().cloned().collect();
    held.sort_unstable();
    committed.sort_unstable();
    assert_eq!(held, committed);
}

/// Faults F21 and F23: what Kafka no longer has, or has less of, stops its partition and no other.
#[test]
fn a_position_out_of_range_stops_the_partition() {
    let shared = broker();
    let started = shared.lock();
    let rig = Rig::new(&started.broker, json!({"stall_after_ms": 1500}));
    let load = Load { events: 4000, seed: seed(), rate: 0, poison: 0, live: false };
    let sent = produce(&rig.brokers, &rig.topic, load);
    let mut collector = rig.collector("a", json!({}));
    assert!(rig.drained(&sent.ends(), Duration::from_secs(20)), "{}", collector.log());
    collector.stop();
    let before = oracle::positions(&rig.lake());

    // More records come, and retention takes those of partition 0, read ones and unread ones.
    let more = produce(&rig.brokers, &rig.topic, Load { seed: load.seed + 1, ..load });
    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&rig.topic, 0, Offset::Offset(sent.ends()[0] as i64 + 100)).unwrap();
    let deleted = started.broker.admin().delete_records(&cut, &AdminOptions::new());
    futures::executor::block_on(deleted).unwrap();
    collector.restart();
    let mut ends = more.ends();
    ends[0] = sent.ends()[0];
    assert!(rig.drained(&ends, Duration::from_secs(20)), "{}", collector.log());
    collector.wait_for("a stop", Duration::from_secs(10), |m| m["partitions"][0]["stopped"] == 2);
    std::thread::sleep(Duration::from_secs(1));
    let after = oracle::positions(&rig.lake());
    let app = &rig.apps()[&0];
    assert_eq!(before[app], after[app], "a stopped partition keeps its position");
    collector.stop();

    // The topic is made anew under its name, with fewer records than were read.
    started.broker.delete_topic(&rig.topic).unwrap();
    let again = Instant::now() + Duration::from_secs(10);
    while started.broker.create_topic(&rig.topic, PARTITIONS, &[]).is_err() {
        assert!(Instant::now() < again, "the topic's name does not come free");
        std::thread::sleep(Duration::from_millis(100));
    }
    let fresh = produce(&rig.brokers, &rig.topic, Load { events: 400, seed: load.seed + 2, ..load });
    collector.restart();
    collector.wait_for("eight stops", Duration::from_secs(20), |m| {
        m["partitions"].as_array().is_some_and(|p| p.len() == 8 && p.iter().all(|p| p["stopped"] == 1))
    });
    assert_eq!(oracle::positions(&rig.lake()), after);
    collector.stop();

    // With a new epoch it is another source, and read from its beginning.
    let mut renewed = rig.collector("b", json!({"topics": [{"name": rig.topic, "epoch": 1}]}));
    let epoch = "@1/";
    let deadline = Instant::now() + Duration::from_secs(20);
    let landed = || -> i64 {
        oracle::positions(&rig.lake()).iter().filter(|(app, _)| app.contains(epoch)).map(|(_, to)| to).sum()
    };
    while landed() < fresh.total() as i64 {
        assert!(Instant::now() < deadline, "{}", renewed.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    renewed.stop();
    let verdict = oracle::judge(&rig.lake(), false);
    assert_eq!(
        verdict.ids.iter().filter(|(app, _)| app.contains(epoch)).map(|(_, ids)| ids.len()).sum::<usize>(),
        fresh.total()
    );
    assert!(verdict.complaints.is_empty(), "{:#?}", verdict.complaints);
}

/// A first look at the end of a topic is recorded: what comes while no collector runs is read later.
#[test]
fn latest_means_the_end_at_the_first_look() {
    let shared = broker();
    let started = shared.lock();
    let rig = Rig::new(&started.broker, json!({"latest": true}));
    let load = Load { events: 800, seed: seed(), rate: 0, poison: 0, live: false };
    let before = produce(&rig.brokers, &rig.topic, load);
    let mut collector = rig.collector("a", json!({}));
    assert!(rig.drained(&before.ends(), Duration::from_secs(20)), "{}", collector.log());
    collector.kill();
    let after = produce(&rig.brokers, &rig.topic, Load { seed: load.seed + 1, ..load });
    collector.restart();
    assert!(rig.drained(&after.ends(), Duration::from_secs(20)), "{}", collector.log());
    collector.stop();
    let verdict = oracle::judge(&rig.lake(), false);
    assert_eq!(verdict.total(), (after.total() - before.total()) as u64);
}

/// From a full topic to the lake with one collector: events a second, memory, processor time.
#[test]
#[ignore = "a measurement: run alone, with --nocapture"]
fn throughput() {
    let events = setting("CATENA_KAFKA_EVENTS", 1_000_000);
    let shared = broker();
    let started = shared.lock();
    let rig =
        Rig::new(&started.broker, json!({"flush_age_ms": 2000, "consumers": setting("CATENA_KAFKA_CONSUMERS", 2)}));
    let began = Instant::now();
    let sent = produce(&rig.brokers, &rig.topic, Load { events, seed: seed(), rate: 0, poison: 0, live: false });
    println!("produced {} in {:.1} s", sent.total(), began.elapsed().as_secs_f64());
    let began = Instant::now();
    let mut collector = rig.collector("a", json!({}));
    assert!(rig.drained(&sent.ends(), Duration::from_secs(600)), "{}", collector.log());
    let time = began.elapsed().as_secs_f64();
    let (rss, cpu) = (collector.status_kb("VmHWM") as f64 / 1024.0, collector.cpu_s());
    println!(
        "{:.0} events/s; {:.1} CPU-seconds per million; at most {rss:.0} MiB; {}",
        events as f64 / time,
        cpu * 1e6 / events as f64,
        totals(&collector)
    );
    collector.stop();
    let verdict = rig.judge(&sent);
    check_exact(&verdict, &sent);
}

/// From the moment an event is decided and sent to the moment its commit stands in the log.
#[test]
#[ignore = "a measurement: run alone, with --nocapture"]
fn latency() {
    let rate = setting("CATENA_KAFKA_RATE", 5000);
    let age = setting("CATENA_KAFKA_FLUSH_MS", 2000);
    let shared = broker();
    let started = shared.lock();
    let rig = Rig::new(&started.broker, json!({"flush_age_ms": age}));
    let mut collector = rig.collector("a", json!({}));
    collector.wait_for("an assignment", Duration::from_secs(20), |m| {
        m["partitions"].as_array().is_some_and(|p| p.len() == 8)
    });
    let sent = produce(&rig.brokers, &rig.topic, Load { events: rate * 20, seed: seed(), rate, poison: 0, live: true });
    assert!(rig.drained(&sent.ends(), Duration::from_secs(30)), "{}", collector.log());
    collector.stop();
    let verdict = oracle::judge(&rig.lake(), true);
    let mut waits: Vec<i64> = Vec::new();
    // The producer's own start is not the collector's: its first records wait for a connection.
    let warm = verdict.times.iter().flat_map(|(_, times)| times).min().unwrap() + 3_000_000;
    for (version, times) in &verdict.times {
        let path = rig.lake().join(format!("records/_delta_log/{version:020}.json"));
        let visible =
            fs::metadata(path).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        waits.extend(times.iter().filter(|decided| **decided >= warm).map(|decided| visible - decided));
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!(
        "{} events at {rate}/s, flush age {age} ms: visible after p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(waits.len() > sent.total() / 2, "{} of {}", waits.len(), sent.total());
}
