//! Files of every shape end with each record in the lake once, at the byte where it begins.

use super::segments::{SEGMENT_BYTES_MAX, segment_bytes};
use super::*;
use crate::store::StoreOptions;
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io::Write;
use std::time::Duration;

fn now() -> Micros {
    Micros(1_795_000_000_000_000)
}

pub(super) fn job(threads: usize) -> Job {
    let settings = Settings { flush_rows: 300, flush_age: Duration::from_millis(50), ..Settings::default() };
    Job { format: Format::Catena, tenant: "default".into(), threads, settings, follow_symlinks: false, now }
}

/// Line `n`: an event, or, every 13th, something else.
fn line(n: usize) -> String {
    match n % 13 {
        5 => format!("not json {n}"),
        7 => String::new(),
        _ => format!(
            r#"{{"id":"e{n}","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"session":{{"id":"s{}"}}}}"#,
            n % 7
        ),
    }
}

/// Tenant, offset, event id, and the kept bytes of a rejection.
pub(super) type Row = (String, i64, Option<String>, Option<Vec<u8>>);

pub(super) struct Try {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) folder: tempfile::TempDir,
    pub(super) lake: Arc<Lake>,
}

impl Try {
    pub(super) fn new() -> Try {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("lake");
        let lake = runtime.block_on(Lake::open(url.to_str().unwrap(), &StoreOptions::new([]))).unwrap();
        Try { runtime, folder, lake }
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn ingest(&self, path: &Path, threads: usize) -> Counts {
        ingest(&self.lake, self.runtime.handle(), path, &job(threads), &|_| {}).unwrap()
    }

    /// All rows.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for file in self.runtime.block_on(self.lake.files()) {
            let bytes = self.runtime.block_on(self.lake.get(&file.path)).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let ids = batch.column_by_name("event_id").unwrap().as_string::<i32>();
                let raws = batch.column_by_name("raw").unwrap().as_binary::<i32>();
                let offsets = batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
                rows.extend((0..batch.num_rows()).map(|row| {
                    let id = ids.is_valid(row).then(|| ids.value(row).to_owned());
                    let raw = raws.is_valid(row).then(|| raws.value(row).to_vec());
                    (file.partition["tenant"].clone(), offsets.value(row), id, raw)
                }));
            }
        }
        rows
    }

    /// Offsets of all rows, sorted.
    fn offsets(&self) -> Vec<i64> {
        let mut offsets: Vec<_> = self.rows().into_iter().map(|row| row.1).collect();
        offsets.sort_unstable();
        offsets
    }
}

/// The text of lines, and the offsets at which those that are records begin.
fn lines(numbers: std::ops::Range<usize>, end: &str) -> (String, Vec<i64>) {
    let (mut text, mut offsets) = (String::new(), Vec::new());
    for n in numbers {
        let line = line(n);
        if !line.is_empty() {
            offsets.push(text.len() as i64);
        }
        text.push_str(&line);
        text.push_str(end);
    }
    (text, offsets)
}

#[test]
fn every_record_once_however_the_file_is_cut() {
    for (threads, end) in [(1, "\n"), (2, "\n"), (7, "\r\n")] {
        let t = Try::new();
        // More than one segment of the smallest size for every thread.
        let (text, offsets) = lines(0..30_000, end);
        let counts = t.ingest(&t.write("log", text.as_bytes()), threads);
        assert_eq!(t.offsets(), offsets, "{threads} threads");
        assert_eq!(counts.records, offsets.len() as u64);
        assert_eq!(counts.decisions + counts.rejected, offsets.len() as u64);
        assert!(counts.rejected > 2000);
    }
}

/// Segments are read side by side, a run goes on where another stopped, and a packed file passes in parts: none of them begins a
/// key, but its lines are theirs.
#[test]
fn a_private_key_is_redacted_however_the_file_is_cut() {
    let key_line = |n: usize| {
        format!("M1z{}", format!("{:04}Ab/+", n % 10_000).repeat(8)).chars().take(63).collect::<String>() + "="
    };
    let filler = format!("{{\"level\":\"{}\"}}\n", "info ".repeat(200)).repeat(((1 << 20) - 2000) / 1013);
    let mut text = filler.clone();
    // The borders between segments, wherever they are, lie within a key.
    for block in 0..160 {
        text += "-----BEGIN RSA PRIVATE KEY-----\n";
        (0..120).for_each(|n| text += &(key_line(block * 120 + n) + "\n"));
        text += "aB1=\n-----END RSA PRIVATE KEY-----\n";
    }
    let rejects = |t: &Try| {
        let mut raws = Vec::new();
        for file in t.runtime.block_on(t.lake.files()) {
            let bytes = t.runtime.block_on(t.lake.get(&file.path)).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let raw = batch.column_by_name("raw").unwrap().as_binary::<i32>().clone();
                raws.extend(raw.iter().flatten().map(<[u8]>::to_vec));
            }
        }
        raws
    };
    let gzip = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    for (name, threads, whole) in [("log", 1, true), ("log", 3, true), ("log", 1, false), ("log.gz", 2, true)] {
        let t = Try::new();
        let bytes = if name == "log" { text.as_bytes() } else { &gzip };
        if !whole {
            // In the middle of a key.
            let half = filler.len() + 500;
            let half = text[..half].rfind('\n').unwrap() + 1;
            t.ingest(&t.write(name, &bytes[..half]), threads);
        }
        t.ingest(&t.write(name, bytes), threads);
        let raws = rejects(&t);
        let kept = raws.iter().filter(|raw| raw.windows(3).any(|w| w == b"M1z" || w == b"aB1")).count();
        assert!(raws.len() >= 160 * 122 && kept == 0, "{name}, {threads} threads: {kept} of {}", raws.len());
    }
}

#[test]
fn threads_end_together() {
    const MB: u64 = 1 << 20;
    for (left, threads, each) in
        [(0, 2, 0), (MB / 2, 2, 1), (10 * MB, 2, 1), (353 * MB, 2, 2), (1616 * MB, 2, 5), (1616 * MB, 3, 4)]
    {
        let segment = segment_bytes(left, threads);
        let segments = left.div_ceil(segment);
        assert!(segment <= SEGMENT_BYTES_MAX, "{left} bytes, {threads} threads: {segment}");
        assert_eq!(segments.div_ceil(threads), each, "{left} bytes, {threads} threads");
        // No thread waits for more than a sliver.
        assert!(left < 2 * MB || segments * segment - left < MB, "{left} bytes, {threads} threads");
    }
}

#[test]
fn compressed_and_last_line_without_end() {
    let (text, offsets) = lines(0..3000, "\n");
    let text = text.trim_end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let packed = [
        ("log", text.as_bytes().to_vec()),
        ("log.gz", gzip.finish().unwrap()),
        ("log.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
    ];
    for (name, bytes) in packed {
        let t = Try::new();
        t.ingest(&t.write(name, &bytes), 2);
        assert_eq!(t.offsets(), offsets, "{name}");
    }
}

#[test]
fn read_again_adds_nothing_and_growth_is_added() {
    let t = Try::new();
    let (text, offsets) = lines(0..20_000, "\n");
    let half = text[..text.len() / 2].rfind('\n').unwrap() + 1;
    let path = t.write("log", &text.as_bytes()[..half]);
    let first = t.ingest(&path, 2);
    let again = t.ingest(&path, 2);
    assert_eq!((again.records, again.duplicates), (first.records, first.decisions));
    assert_eq!((first.read_before, again.read_before), (0, first.records));
    t.write("log", text.as_bytes());
    t.ingest(&path, 2);
    assert_eq!(t.offsets(), offsets);
}

#[test]
fn another_file_with_the_same_records_is_marked() {
    let t = Try::new();
    let (text, offsets) = lines(0..1000, "\n");
    let first = t.ingest(&t.write("one", text.as_bytes()), 2);
    let second = t.ingest(&t.write("two", text.as_bytes()), 2);
    assert_eq!(first.duplicates, 0);
    assert_eq!(second.duplicates, first.decisions);
    assert_eq!(t.offsets().len(), 2 * offsets.len(), "rows stay, so that offsets stay complete");
}

#[test]
fn documents_are_split_into_their_records() {
    for (text, records) in [
        (format!("[{},\n {},17]", line(0), line(1)), 3),
        (format!("{{\n \"id\": \"e\",\n{}", &line(1)[10..]), 1),
        ("[]".to_owned(), 1),
        ("[1,".to_owned(), 1),
        (format!("[{}", line(0)), 1),
    ] {
        let t = Try::new();
        let counts = t.ingest(&t.write("document", text.as_bytes()), 2);
        assert_eq!((counts.records, t.offsets().len()), (records, records as usize), "{text}");
    }
}

#[test]
fn an_empty_file_is_no_record() {
    let t = Try::new();
    assert_eq!(t.ingest(&t.write("empty", b""), 2), Counts::default());
    assert_eq!(t.ingest(&t.write("blank", b"\n\n \n"), 2).records, 0);
}

#[test]
fn a_growing_file_is_followed_over_rotation_and_restart() {
    let t = Try::new();
    let path = t.folder.path().join("live.log");
    let stop = AtomicBool::new(false);
    let (text, offsets) = lines(0..40, "\n");
    let (after, after_offsets) = lines(100..120, "\n");
    let wait = |rows: usize| {
        let begun = Instant::now();
        while t.offsets().len() < rows {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} of {rows} rows", t.offsets().len());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let follow_while = |act: &dyn Fn()| {
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| follow(&t.lake, t.runtime.handle(), &path, &job(1), &stop, &|_| {}));
            act();
            stop.store(true, Ordering::Relaxed);
            follower.join().unwrap().unwrap();
        });
    };
    let append = |bytes: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.write_all(bytes.as_bytes()).unwrap();
    };
    let middle = text[..text.len() / 2].len();
    follow_while(&|| {
        append(&text[..middle]);
        wait(10);
    });
    // The first half ends within a line: what is left of it comes with the second run.
    follow_while(&|| {
        append(&text[middle..]);
        wait(offsets.len());
        std::fs::rename(&path, t.folder.path().join("live.log.1")).unwrap();
        append(&after);
        wait(offsets.len() + after_offsets.len());
    });
    let mut all = [offsets, after_offsets].concat();
    all.sort_unstable();
    assert_eq!(t.offsets(), all);
}

#[test]
fn what_cannot_be_read_is_named() {
    let t = Try::new();
    let missing = t.folder.path().join("nowhere");
    let e = ingest(&t.lake, t.runtime.handle(), &missing, &job(1), &|_| {}).unwrap_err();
    assert!(e.to_string().contains("nowhere"), "{e}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lines(0..50_000, "\n").0.into_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    let cut = t.write("cut.gz", &whole[..whole.len() / 2]);
    let e = ingest(&t.lake, t.runtime.handle(), &cut, &job(2), &|_| {}).unwrap_err();
    assert!(e.to_string().contains("cut.gz"), "{e}");
}

#[test]
fn lines_made_of_a_file_stand_in_the_lake_once() {
    let t = Try::new();
    let lines = (0..40).map(line).collect::<Vec<_>>().join("\n");
    let take =
        || ingest_lines(&t.lake, t.runtime.handle(), Path::new("tools.yaml"), lines.clone(), &job(1)).expect("lines");
    let first = take();
    let offsets = t.offsets();
    assert_eq!(first.records, offsets.len() as u64);
    assert!(first.decisions > 0 && first.rejected > 0);
    take();
    assert_eq!(t.offsets(), offsets);
}

#[test]
fn a_stream_of_one_line_without_an_end_is_read() {
    let t = Try::new();
    let take = |lines: &str| {
        let took = ingest_lines(&t.lake, t.runtime.handle(), Path::new("one"), lines.into(), &job(2)).expect("lines");
        (took.records, took.decisions)
    };
    assert_eq!(take(&line(1)), (1, 1));
    assert_eq!(take(&format!("{}\n{}", line(2), line(3))), (2, 2));
    assert_eq!(take(""), (0, 0));
    // Longer than what is read at once, and without a line's end until then.
    let long = format!("{}{}", " ".repeat((1 << 20) + 5), line(4));
    assert_eq!(take(&long), (1, 1));
    assert_eq!(take(&format!("{long}\n{}", line(6))), (2, 2));
}

/// Reads a file, writes it again in some way, reads it again: how many rows the second time adds.
#[test]
fn content_decides_whether_a_file_is_the_same() {
    let banner = "{\"msg\":\"gateway 1.4 started\"}\n".to_owned();
    let of = |range: std::ops::Range<usize>| range.map(|n| format!("{}\n", line(13 * n))).collect::<String>();
    let (old, new) = (banner.clone() + &of(100..129), banner.clone() + &of(200..228));
    for (case, text, adds) in [
        ("identical", old.clone(), 0),
        ("grown", old.clone() + &of(129..131), 2),
        ("overwritten, with an equal first line", new.clone(), 29),
        ("shorter, with an equal first line", banner.clone() + &of(300..302), 3),
        ("equal length, other middle", old.replace("e1430", "e9430"), 30),
        ("empty", String::new(), 0),
        ("only the first line is left", banner.clone(), 1),
    ] {
        for renamed in [false, true] {
            let t = Try::new();
            let path = t.write("log", old.as_bytes());
            t.ingest(&path, 2);
            let before = t.rows().len();
            if renamed {
                std::fs::rename(t.write("new", text.as_bytes()), &path).unwrap();
            } else {
                t.write("log", text.as_bytes());
            }
            let counts = t.ingest(&path, 2);
            assert_eq!(t.rows().len() - before, adds, "{case}, renamed: {renamed}");
            assert_eq!(counts.records - counts.read_before, adds as u64, "{case}, renamed: {renamed}");
            // Copied back, it is what it was, and so is the other one. Of what grew, no earlier state is known.
            for text in [&old, &text].into_iter().filter(|text| case != "grown" || text.len() > old.len()) {
                t.write("log", text.as_bytes());
                assert_eq!(t.ingest(&path, 2).read_before, text.lines().count() as u64, "{case}");
            }
            assert_eq!(t.rows().len() - before, adds, "{case}, copied back");
        }
    }
}

#[test]
fn without_the_digest_lines_are_lost() {
    for (switched_off, rows) in [(false, 40), (true, 20)] {
        let t = Try::new();
        t.lake.records().faults.go_on_in_any_file.store(switched_off, Ordering::Relaxed);
        for numbers in [0..20, 20..40] {
            let text: String = numbers.map(|n| format!("{}\n", line(13 * n + 13_000))).collect();
            t.ingest(&t.write("log", text.as_bytes()), 1);
        }
        assert_eq!(t.rows().len(), rows);
    }
}

#[test]
fn packed_files_and_documents_are_known_by_their_content() {
    let gzip = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let (one, two) = (lines(0..100, "\n").0, lines(0..3, "\n").0 + &lines(500..540, "\n").0);
    let array = |records: &[usize]| format!("[{}]", records.iter().map(|n| line(*n)).collect::<Vec<_>>().join(",\n"));
    for (name, first, second, adds) in [
        ("log.gz", gzip(&one), gzip(&one), 0),
        ("log.gz", gzip(&one), gzip(&two), two.lines().filter(|l| !l.is_empty()).count()),
        ("array", array(&[1, 2]).into_bytes(), array(&[1, 2]).into_bytes(), 0),
        ("array", array(&[1, 2]).into_bytes(), array(&[1, 2, 3]).into_bytes(), 1),
        ("array", array(&[1, 2]).into_bytes(), array(&[1, 3]).into_bytes(), 2),
    ] {
        let t = Try::new();
        t.ingest(&t.write(name, &first), 2);
        let before = t.rows().len();
        t.ingest(&t.write(name, &second), 2);
        assert_eq!(t.rows().len() - before, adds, "{name}");
    }
}

#[test]
fn each_tenant_has_a_position_of_its_own() {
    let t = Try::new();
    let (text, offsets) = lines(0..50, "\n");
    let path = t.write("log", text.as_bytes());
    let of = |tenant: &str| Job { tenant: tenant.into(), ..job(2) };
    for tenant in ["a", "b", "a", "b"] {
        ingest(&t.lake, t.runtime.handle(), &path, &of(tenant), &|_| {}).unwrap();
        ingest_lines(&t.lake, t.runtime.handle(), Path::new("tools"), text.clone(), &of(tenant)).unwrap();
    }
    for tenant in ["a", "b"] {
        assert_eq!(t.rows().iter().filter(|row| row.0 == tenant).count(), 2 * offsets.len(), "{tenant}");
    }
}

/// A lake of the version before: its position has neither tenant nor digest.
#[test]
fn positions_of_earlier_versions_hold_for_the_tenant_that_was_read() {
    let t = Try::new();
    let (text, offsets) = lines(0..50, "\n");
    let half = offsets[20] as usize;
    let path = t.write("log", &text.as_bytes()[..half]);
    let app = Source::of(&t.lake, t.runtime.handle(), &path, "a").unwrap().legacy(text.as_bytes());
    let partition = Partition { app, topic: format!("file:{}", path.display()).into(), number: 0, start: 0 };
    let mut identity = Source::once(&path);
    identity.partition = Arc::new(partition);
    let of = |tenant: &str| Job { tenant: tenant.into(), ..job(2) };
    Ingestion::new(&t.lake, t.runtime.handle(), &identity, &of("a"), &|_| {})
        .read(&path, Input::open(&path).unwrap())
        .unwrap();
    let rows = |tenant: &str| t.rows().iter().filter(|row| row.0 == tenant).count();
    assert_eq!(rows("a"), 20);
    for (tenant, text, expected) in [
        ("a", &text[..half], 20),
        ("b", &text[..half], 20),
        ("a", &text[..], offsets.len()),
        ("a", &text[..], offsets.len()),
        ("b", &text[..], offsets.len()),
    ] {
        t.write("log", text.as_bytes());
        ingest(&t.lake, t.runtime.handle(), &path, &of(tenant), &|_| {}).unwrap();
        assert_eq!(rows(tenant), expected, "{tenant}");
    }
}

#[test]
fn blank_lines_between_segments_are_no_gap() {
    let t = Try::new();
    let blank = "\n".repeat(1 << 20);
    let text = [line(0), line(1), line(2), line(3)].join(&blank) + &blank;
    assert_eq!(t.ingest(&t.write("log", text.as_bytes()), 3).records, 4);
    assert_eq!(t.ingest(&t.write("log", (text + &line(4)).as_bytes()), 3).read_before, 4);
    assert_eq!(t.rows().len(), 5);
}

#[test]
fn a_line_without_end_is_rejected_with_its_first_part() {
    let gzip = |text: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        gzip.finish().unwrap()
    };
    let (one, two) = (line(0) + "\n", line(1) + "\n");
    for (long, ended) in [(RECORD_BYTES_MAX, true), (RECORD_BYTES_MAX + 1, true), (70 << 20, true), (70 << 20, false)] {
        let middle = "x".repeat(long - usize::from(ended)) + if ended { "\n" } else { "" };
        let text = one.clone() + &middle + if ended { &two } else { "" };
        let mut offsets = vec![0, one.len() as i64];
        offsets.extend(ended.then_some((one.len() + long) as i64));
        let too_long = long > RECORD_BYTES_MAX;
        for (name, bytes, threads) in [
            ("plain", text.clone().into_bytes(), 1),
            ("cut", text.clone().into_bytes(), 5),
            ("log.gz", gzip(text.as_bytes()), 2),
        ] {
            let t = Try::new();
            let path = t.write(name, &bytes);
            let counts = t.ingest(&path, threads);
            assert_eq!(t.offsets(), offsets, "{name}, {long} bytes");
            assert_eq!((counts.rejected, counts.by_reason.contains_key("record_too_large")), (1, too_long), "{name}");
            assert_eq!(t.ingest(&path, threads).read_before, offsets.len() as u64, "{name}");
            assert_eq!(t.offsets(), offsets, "{name}, {long} bytes, read again");
        }
    }
}

#[test]
fn a_long_line_takes_no_more_memory_than_the_longest_record() {
    let mut reader = std::io::BufReader::new(std::io::repeat(b'x').take(1 << 30));
    let mut line = lines::Line::default();
    assert!(lines::next(&mut reader, &mut line).unwrap());
    assert_eq!((line.length, line.bytes.len()), (1 << 30, RECORD_BYTES_MAX + 1));
    assert!(line.bytes.capacity() <= 4 * RECORD_BYTES_MAX);
}

#[test]
fn nothing_but_files_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("file"), "x").unwrap();
    std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (name, links, opened) in [
        ("file", false, true),
        ("link", false, false),
        ("link", true, true),
        ("device", true, false),
        ("pipe", true, false),
        ("socket", true, false),
        (".", true, false),
    ] {
        let job = Job { follow_symlinks: links, ..job(1) };
        let tried = (open::open(&at(name), links), followable(&at(name), &job));
        assert_eq!((tried.0.is_ok(), tried.1.is_ok()), (opened, opened), "{name}, links {links}: {tried:?}");
    }
}

/// Steps of a follower, with what is written to the folder before each.
fn followed(t: &Try, job: &Job, acts: &[&dyn Fn(&Path)]) {
    let path = t.folder.path().join("live.log");
    let mut follower = follow::Follower::new(&t.lake, t.runtime.handle(), &path, job, &|_| {});
    for act in acts {
        act(&path);
        let mut idle = 0;
        while idle < 3 {
            idle = if follower.step().unwrap() { 0 } else { idle + 1 };
        }
    }
    follower.flush().unwrap();
}

#[test]
fn a_symlink_in_place_of_a_followed_file_is_not_read() {
    let text = |n: usize| format!("{}\n", line(n));
    let append = |path: &Path, text: &str| {
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let secret = |path: &Path| {
        std::fs::rename(path, path.with_extension("log.1")).unwrap();
        std::fs::write(path.with_file_name("shadow"), "root:secret\n").unwrap();
        std::os::unix::fs::symlink(path.with_file_name("shadow"), path).unwrap();
    };
    let back = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        append(path, &text(2));
    };
    for (follow_symlinks, rows) in [(false, 2), (true, 3)] {
        let t = Try::new();
        followed(&t, &Job { follow_symlinks, ..job(1) }, &[&|path| append(path, &text(1)), &secret, &back]);
        assert_eq!(t.rows().len(), rows, "{:?}", t.rows());
    }
}

#[test]
fn a_first_line_alone_does_not_make_two_files_one() {
    let t = Try::new();
    let banner = "{\"msg\":\"gateway 1.4 started\"}\n";
    let more = format!("{banner}{}\n", line(1));
    let rotate = |path: &Path| {
        let _ = std::fs::rename(path.with_extension("log.1"), path.with_extension("log.2"));
        std::fs::rename(path, path.with_extension("log.1")).unwrap();
        std::fs::write(path, &more).unwrap();
    };
    followed(&t, &job(1), &[&|path| std::fs::write(path, banner).unwrap(), &rotate]);
    assert_eq!(t.rows().len(), 3, "each file has its first line");
    // A copy of the first one that is put in its place has nothing new.
    followed(&t, &job(1), &[&|path| std::fs::write(path, banner).unwrap()]);
    assert_eq!(t.rows().len(), 3);
    // After a restart the file beside still shows it.
    let t = Try::new();
    followed(&t, &job(1), &[&|path| std::fs::write(path, banner).unwrap()]);
    rotate(&t.folder.path().join("live.log"));
    followed(&t, &job(1), &[&|_| {}]);
    assert_eq!(t.rows().len(), 3);
}

#[test]
fn what_was_rotated_while_nobody_read_is_found() {
    let lines = |range: std::ops::Range<usize>| range.map(|n| format!("{}\n", line(13 * n))).collect::<String>();
    let append = |path: &Path, text: &str| {
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let beside = |path: &Path, ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    type Act<'a> = &'a dyn Fn(&Path);
    let rename: Act<'_> = &|path| std::fs::rename(path, beside(path, ".1")).unwrap();
    let copy: Act<'_> = &|path| {
        std::fs::copy(path, beside(path, ".1")).unwrap();
        std::fs::write(path, "").unwrap();
    };
    let twice: Act<'_> = &|path| {
        std::fs::rename(path, beside(path, ".2")).unwrap();
        append(path, &lines(40..50));
        std::fs::rename(path, beside(path, ".1")).unwrap();
    };
    for (case, rotate, rows) in [("renamed", rename, 30), ("copied", copy, 30), ("twice", twice, 40)] {
        let t = Try::new();
        // What was there before the file was followed is not read.
        let old = std::fs::File::create(t.folder.path().join("live.log.7")).unwrap();
        (&old).write_all(lines(70..80).as_bytes()).unwrap();
        let now = old.metadata().unwrap().modified().unwrap();
        old.set_modified(now - Duration::from_secs(3600)).unwrap();
        let path = t.folder.path().join("live.log");
        followed(&t, &job(1), &[&|path| append(path, &lines(0..10))]);
        append(&path, &lines(10..20));
        rotate(&path);
        append(&path, &lines(20..30));
        followed(&t, &job(1), &[&|_| {}]);
        assert_eq!(t.rows().len(), rows, "{case}");
        followed(&t, &job(1), &[&|_| {}]);
        assert_eq!(t.rows().len(), rows, "{case}, again");
    }
}
