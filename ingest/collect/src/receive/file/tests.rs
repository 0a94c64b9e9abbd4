//! Files of every shape end with each record in the lake once, at the byte where it begins.

use super::*;
use crate::store::StoreOptions;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io::Write;

fn now() -> Micros {
    Micros(1_795_000_000_000_000)
}

fn job(threads: usize) -> Job {
    let settings = Settings { flush_rows: 300, flush_age: Duration::from_millis(50), ..Settings::default() };
    Job { format: Format::Catena, tenant: "default".into(), threads, settings, now }
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

struct Try {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    lake: Arc<Lake>,
}

impl Try {
    fn new() -> Try {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("lake");
        let lake = runtime.block_on(Lake::open(url.to_str().unwrap(), &StoreOptions::new([]))).unwrap();
        Try { runtime, folder, lake }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn ingest(&self, path: &Path, threads: usize) -> Counts {
        ingest(&self.lake, self.runtime.handle(), path, &job(threads), &|_| {}).unwrap()
    }

    /// Offsets of all rows, sorted.
    fn offsets(&self) -> Vec<i64> {
        let mut offsets = Vec::new();
        for file in self.runtime.block_on(self.lake.files()) {
            let bytes = self.runtime.block_on(self.lake.get(&file.path)).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                offsets.extend(batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().values());
            }
        }
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
