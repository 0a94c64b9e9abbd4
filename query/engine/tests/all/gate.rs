//! What may not run, and what happens to what runs too long.

use crate::lake::{Lake, events};
use catena_engine::views::TABLES;
use catena_engine::{Code, Cut, Engine, Limits, Options};
use std::time::{Duration, Instant};

async fn engine() -> (Lake, Engine) {
    let mut lake = Lake::new();
    let lines: String =
        (0..200).map(|i| format!("e{i} {i} allow alice > agent:a @s-{} srv/tool{i}\n", i % 7)).collect();
    lake.decisions("acme", 0, &events(&lines));
    let engine = Engine::open(&lake.url(), Options { threads: 2, ..Options::default() }).await.expect("a lake");
    (lake, engine)
}

fn small() -> Limits {
    Limits { time: Duration::from_secs(2), memory: 32 << 20, spill: 64 << 20, ..Limits::default() }
}

async fn run(engine: &Engine, sql: &str, limits: &Limits) -> Result<usize, (Code, String)> {
    let answer = engine.sql(sql, limits).await.map_err(|e| (e.code, e.message))?;
    answer.collect().await.map(|rows| rows.len()).map_err(|e| (e.code, e.message))
}

#[tokio::test]
async fn only_reading_passes() {
    let (_lake, engine) = engine().await;
    let nested = format!("SELECT {}1{}", "(".repeat(3000), ")".repeat(3000));
    let or_chain = format!("SELECT 1 FROM decisions WHERE {}", vec!["tool='x'"; 5000].join(" OR "));
    let sum = format!("SELECT {}", vec!["1"; 20_000].join("+"));
    let minus = format!("SELECT {}1", "- ".repeat(20_000));
    let not = format!("SELECT {} true", "NOT ".repeat(15_000));
    let casts = format!("SELECT '1'{}", "::text".repeat(5000));
    let indexes = format!("SELECT actors{} FROM decisions", "[1]".repeat(5000));
    let unions = vec!["SELECT 1"; 400].join(" UNION ALL ");
    let joins = format!(
        "SELECT 1 FROM decisions a {}",
        (0..40).map(|i| format!("JOIN decisions b{i} ON true ")).collect::<String>()
    );
    let commas =
        format!("SELECT 1 FROM {}", (0..100).map(|i| format!("decisions d{i}")).collect::<Vec<_>>().join(", "));
    let cases = format!("SELECT CASE {} END", "WHEN true THEN 1 ".repeat(1000));
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    let wide = format!("SELECT * FROM {}", (0..8).map(|i| format!("decisions d{i}")).collect::<Vec<_>>().join(", "));
    let subqueries = format!("{}SELECT 1{}", "SELECT * FROM (".repeat(500), ") x".repeat(500));
    let hostile: &[(&str, Code)] = &[
        ("", Code::Empty),
        ("   ;;  ", Code::Empty),
        ("SELECT 1; SELECT 2", Code::ManyStatements),
        ("SELEKT 1", Code::Syntax),
        ("SELECT 'unclosed", Code::Syntax),
        ("INSERT INTO decisions VALUES (1)", Code::NotRead),
        ("DELETE FROM decisions", Code::NotRead),
        ("UPDATE decisions SET outcome = 'allow'", Code::NotRead),
        ("DROP TABLE decisions", Code::NotRead),
        ("CREATE TABLE t AS SELECT 1", Code::NotRead),
        ("CREATE VIEW v AS SELECT 1", Code::NotRead),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", Code::NotRead),
        ("COPY decisions TO '/var/out.csv'", Code::NotRead),
        ("COPY (SELECT 1) TO '/var/out.csv'", Code::NotRead),
        ("SET datafusion.execution.batch_size = 1", Code::NotRead),
        ("RESET datafusion.execution.batch_size", Code::NotRead),
        ("SHOW ALL", Code::NotRead),
        ("SHOW datafusion.execution.batch_size", Code::NotRead),
        ("SHOW FUNCTIONS", Code::NotRead),
        ("PREPARE p AS SELECT 1", Code::NotRead),
        ("EXECUTE p", Code::NotRead),
        ("BEGIN", Code::NotRead),
        ("SELECT 1 INTO t", Code::NotRead),
        ("WITH x AS (SELECT 1) INSERT INTO decisions SELECT * FROM x", Code::NotRead),
        ("EXPLAIN ANALYZE SELECT * FROM decisions", Code::NotRead),
        ("EXPLAIN ANALYZE VERBOSE SELECT * FROM decisions", Code::NotRead),
        ("EXPLAIN INSERT INTO decisions VALUES (1)", Code::NotRead),
        ("EXPLAIN COPY decisions TO 'x.csv'", Code::NotRead),
        ("SELECT * FROM decisions FOR UPDATE", Code::NotRead),
        ("SELECT * FROM '/etc/passwd'", Code::FileTable),
        ("SELECT * FROM \"/etc/passwd\"", Code::FileTable),
        ("SELECT * FROM 's3://bucket/x.parquet'", Code::FileTable),
        ("SELECT * FROM 'x.parquet'", Code::FileTable),
        ("DESCRIBE '/etc/passwd'", Code::FileTable),
        ("SELECT * FROM information_schema.df_settings", Code::UnknownTable),
        ("SELECT * FROM catena.information_schema.df_settings", Code::UnknownTable),
        ("SELECT * FROM INFORMATION_SCHEMA.DF_SETTINGS", Code::UnknownTable),
        ("SELECT * FROM information_schema.routines", Code::UnknownTable),
        ("SELECT * FROM information_schema.views", Code::UnknownTable),
        ("WITH x AS (SELECT * FROM information_schema.df_settings) SELECT * FROM x", Code::UnknownTable),
        ("SELECT (SELECT count(*) FROM information_schema.df_settings)", Code::UnknownTable),
        ("SELECT * FROM other.public.decisions", Code::UnknownTable),
        ("SELECT * FROM read_parquet('/x')", Code::UnknownFunction),
        ("SELECT * FROM parquet_metadata('/x')", Code::UnknownFunction),
        ("SELECT input_file_name() FROM decisions", Code::FunctionNotAllowed),
        ("SELECT repeat('x', 2000000000)", Code::FunctionNotAllowed),
        ("SELECT \"repeat\"('x', 2000000000)", Code::FunctionNotAllowed),
        ("SELECT REPEAT('x', 2000000000)", Code::FunctionNotAllowed),
        ("SELECT lpad('x', 2000000000)", Code::FunctionNotAllowed),
        ("SELECT array_repeat(1, 1000000000)", Code::FunctionNotAllowed),
        ("SELECT generate_series(1, 1000000000000)", Code::FunctionNotAllowed),
        ("SELECT range(1, 1000000000000)", Code::FunctionNotAllowed),
        ("SELECT 1 WHERE EXISTS (SELECT repeat('x', 10))", Code::FunctionNotAllowed),
        ("SELECT no_such_function(1)", Code::UnknownFunction),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", Code::RecursiveCte),
        (&nested, Code::TooComplex),
        (&or_chain, Code::TooComplex),
        (&sum, Code::TooComplex),
        (&minus, Code::TooComplex),
        (&not, Code::TooComplex),
        (&casts, Code::TooComplex),
        (&indexes, Code::TooComplex),
        (&unions, Code::TooComplex),
        (&joins, Code::TooComplex),
        (&commas, Code::TooComplex),
        (&cases, Code::TooComplex),
        (&subqueries, Code::TooComplex),
        (&wide, Code::TooComplex),
        (&long, Code::TextTooLong),
        ("SELECT outcom FROM decisions", Code::UnknownColumn),
        ("SELECT * FROM decison", Code::UnknownTable),
        ("SELECT 1 / 0", Code::Execution),
        ("SELECT CAST(tool AS INT) FROM decisions", Code::Execution),
        ("SELECT outcome FROM decisions GROUP BY tool", Code::Invalid),
    ];
    let mut wrong = Vec::new();
    for (sql, code) in hostile {
        let shown: String = sql.chars().take(70).collect();
        match run(&engine, sql, &small()).await {
            Err((found, message)) if found == *code => {
                assert!(!message.contains('\n') && message.len() < 600, "{shown}: {message}");
            }
            other => wrong.push(format!("{shown}: {code} wanted, {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(run(&engine, "SELECT * FROM decisions", &small()).await, Ok(200), "the engine still answers");
}

#[tokio::test]
async fn errors_name_the_nearest() {
    let (_lake, engine) = engine().await;
    let message = async |sql: &str| run(&engine, sql, &small()).await.expect_err("an error").1;
    assert_eq!(message("SELECT outcom FROM decisions").await, "there is no column `outcom`; did you mean `outcome`?");
    assert_eq!(message("SELECT 1 FROM decison").await, "there is no table `decison`; did you mean `decisions`?");
    assert_eq!(
        message("SELECT 1 FROM zebra").await,
        format!("there is no table `zebra`; there are {}", TABLES.join(", "))
    );
}

/// What a statement asks for wrongly is its own fault: never one of the service or of the lake.
#[tokio::test]
async fn mistakes_are_told_as_such() {
    let (_lake, engine) = engine().await;
    let converted = "a value cannot be converted to the type that the statement asks for; TRY_CAST gives null instead";
    let pattern = "a regular expression cannot be read: unclosed group";
    for (sql, code, message) in [
        ("SELECT FROM decisions", "invalid", "the answer has no columns; name one after SELECT"),
        ("SELECT tool ~ '(' FROM decisions", "invalid", pattern),
        ("SELECT count(*) FROM decisions WHERE tool ~ '('", "invalid", pattern),
        ("SELECT regexp_replace(tool, '(', '') FROM decisions", "invalid", pattern),
        ("SELECT count(*) FROM decisions WHERE CAST(requester AS BIGINT) > 0", "execution", converted),
        ("SELECT CAST(requester AS BIGINT) FROM decisions", "execution", converted),
        (
            "SELECT count(*) FROM decisions WHERE 1 / (length(requester) - length(requester)) > 0",
            "execution",
            "division by zero; write `x / nullif(y, 0)` to get null instead",
        ),
        (
            "SELECT time AT TIME ZONE 'Mars/Base' FROM decisions",
            "invalid",
            "a time zone is not known; use one such as 'UTC', 'Europe/Berlin' or '+02:00'",
        ),
        ("SELECT count(*) OVER (ORDER BY raw) FROM rejects", "invalid", "Cannot run range queries on datatype: Binary"),
    ] {
        let (found, said) = run(&engine, sql, &small()).await.expect_err(sql);
        assert_eq!((found.as_str(), said.trim_end_matches('.')), (code, message), "{sql}");
    }
}

#[tokio::test]
async fn ordinary_questions_pass() {
    let (_lake, engine) = engine().await;
    let list: String = (0..3000).map(|i| format!("'x{i}'")).collect::<Vec<_>>().join(",");
    let many = format!("SELECT count(*) FROM decisions WHERE tool IN ({list})");
    let ors = format!("SELECT 1 FROM decisions WHERE {}", vec!["tool = 'x'"; 90].join(" OR "));
    for (sql, rows) in [
        ("SELECT 1", 1),
        ("select Count(*) from DECISIONS;", 1),
        (
            "WITH t AS (SELECT tool, count(*) n FROM decisions GROUP BY 1) SELECT * FROM t WHERE n > 0 ORDER BY 2 DESC, 1 LIMIT 3",
            3,
        ),
        ("SELECT a.event_id FROM decisions a JOIN decisions b ON a.session = b.session AND a.time < b.time LIMIT 5", 5),
        ("SELECT session, row_number() OVER (PARTITION BY session ORDER BY time) FROM decisions", 200),
        ("SELECT unnest(actors) FROM decisions", 200),
        ("SELECT * FROM generate_series(1, 10)", 10),
        ("SELECT date_trunc('hour', time), count(*) FROM decisions GROUP BY 1", 4),
        ("SELECT * FROM decisions WHERE array_has(actors, 'agent:a')", 200),
        ("VALUES (1), (2)", 2),
        ("SELECT * FROM catena.public.decisions", 200),
        ("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", TABLES.len()),
        ("SELECT count(*) FROM decisions WHERE time > now() - INTERVAL '100 years'", 1),
        (&many, 1),
        (&ors, 0),
    ] {
        assert_eq!(run(&engine, sql, &small()).await, Ok(rows), "{:.80}", sql);
    }
}

#[tokio::test]
async fn bombs_end_at_the_limits() {
    let (_lake, engine) = engine().await;
    for sql in [
        "SELECT count(*) FROM generate_series(1, 1000000000000)",
        "SELECT count(*) FROM decisions a, decisions b, decisions c, decisions d, decisions e WHERE a.tool || b.tool || c.tool < d.tool || e.tool",
        "SELECT * FROM generate_series(1, 1000000000000) ORDER BY 1 DESC",
        "SELECT a.value, b.value FROM generate_series(1, 10000000) a JOIN generate_series(1, 10000000) b ON a.value < b.value ORDER BY 1",
        "SELECT array_agg(value) FROM generate_series(1, 1000000000000)",
        "SELECT string_agg(a.params || b.value::text, ',') FROM decisions a, generate_series(1, 100000000) b",
        "SELECT count(DISTINCT value) FROM generate_series(1, 1000000000000)",
    ] {
        let started = Instant::now();
        let (code, message) = run(&engine, sql, &small()).await.expect_err(sql);
        assert!(matches!(code, Code::Time | Code::Memory), "{sql}: {code}: {message}");
        assert!(started.elapsed() < Duration::from_secs(6), "{sql}: {:?}", started.elapsed());
        // What was cut off lets go of the threads.
        let after = Instant::now();
        assert_eq!(run(&engine, "SELECT count(*) FROM decisions", &Limits::default()).await, Ok(1));
        eprintln!("{sql}: {code}, {:?}, then {:?}", started.elapsed(), after.elapsed());
    }
    assert_eq!(run(&engine, "SELECT count(*) FROM decisions", &small()).await, Ok(1), "the engine still answers");
}

#[tokio::test]
async fn values_do_not_grow_without_end() {
    let (_lake, engine) = engine().await;
    let (a, x) = ("a".repeat(20_000), "x".repeat(20_000));
    let squared = format!("SELECT length(replace('{a}', 'a', '{x}'))");
    let matched = format!("SELECT length(regexp_replace('{a}', 'a', '{x}', 'g'))");
    let tower = |step: &str, levels: usize| {
        (0..levels).fold(format!("SELECT '{x}' AS v"), |inner, _| format!("SELECT {step} AS v FROM ({inner}) t"))
    };
    let ops = tower("v || v || v || v || v || v || v || v", 4);
    let concat = tower("concat(v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v)", 3);
    let separated = tower("concat_ws(v, v, v, v, v, v, v, v, v, v, v, v, v, v)", 3);
    let encoded = tower("encode(v, 'hex')", 11);
    let lists = tower("array_to_string([v, v, v, v, v, v, v, v, v, v], v)", 4);
    let rows = format!(
        "SELECT max(length(v)) FROM (SELECT tool || '{x}' || '{x}' || value::text AS v FROM decisions, generate_series(1, 1000)) t"
    );
    for sql in [&squared, &matched, &ops, &concat, &separated, &encoded, &lists, &rows] {
        let (code, message) = run(&engine, sql, &small()).await.expect_err(sql);
        // Doubling, and rows that a join makes wide, are slow in a build for tests: time can be up first.
        let slow = (sql == &encoded || sql == &rows) && code == Code::Time;
        assert!(code == Code::Memory || slow, "{:.90}: {message}", sql);
    }
    for (sql, want) in [
        ("SELECT 'a' || 1 || NULL AS v", ""),
        ("SELECT tool || '-' || session AS v FROM decisions WHERE event_id = 'e3'", "tool3-s-3"),
        (
            "SELECT tool || '-' || session FROM decisions WHERE event_id = 'e3' GROUP BY tool || '-' || session",
            "tool3-s-3",
        ),
        (
            "SELECT concat(tool, '-', session) AS v FROM decisions WHERE concat(tool, 'x') = 'tool4x' ORDER BY time LIMIT 1",
            "tool4-s-4",
        ),
        ("SELECT replace(tool, 'tool', 't') AS v FROM decisions WHERE event_id = 'e3'", "t3"),
        ("SELECT array_to_string(actors || ['b'], '+') AS v FROM decisions WHERE event_id = 'e3'", "agent:a+b"),
        ("SELECT array_to_string([tool, session], '/') AS v FROM decisions WHERE event_id = 'e3'", "tool3/s-3"),
    ] {
        // One step of a function cannot be interrupted; the last bomb may still be in one.
        let rows = engine.sql(sql, &Limits::default()).await.expect(sql).collect().await.expect(sql);
        let text = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Csv).expect("CSV");
        let text = String::from_utf8(text).expect("UTF-8");
        assert_eq!(text.lines().nth(1), Some(want), "{sql}");
    }
}

#[tokio::test]
async fn cut_answers_say_so() {
    let (_lake, engine) = engine().await;
    let cut = async |sql: &str, limits: Limits| {
        let rows = engine.sql(sql, &limits).await.expect("an answer").collect().await.expect("rows");
        (rows.len(), rows.cut)
    };
    let sql = "SELECT * FROM decisions";
    assert_eq!(cut(sql, small()).await, (200, None));
    assert_eq!(cut(sql, Limits { rows: 200, ..small() }).await, (200, None));
    assert_eq!(cut(sql, Limits { rows: 199, ..small() }).await, (199, Some(Cut::Rows)));
    let (rows, why) =
        cut("SELECT value FROM generate_series(1, 1000000)", Limits { rows: u64::MAX, bytes: 1 << 20, ..small() })
            .await;
    assert!(why == Some(Cut::Bytes) && rows > 1000 && rows < 200_000, "{rows}");
}

#[tokio::test]
async fn a_dropped_answer_ends_its_query() {
    let (_lake, engine) = engine().await;
    for _ in 0..20 {
        let mut answer =
            engine.sql("SELECT * FROM generate_series(1, 1000000000000)", &small()).await.expect("an answer");
        assert!(answer.next().await.is_some());
    }
    let started = Instant::now();
    assert_eq!(run(&engine, "SELECT count(*) FROM decisions", &small()).await, Ok(1));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
