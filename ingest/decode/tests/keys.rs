//! Private keys that are written over several records or texts, and the secrets of command lines and SQL: none of their lines is kept.
//!
//! In the cases `§` stands for the secret, which by itself could be anything.

use crate::planted::{ALNUM, Dice};
use crate::seen::{Collected, KEY, context, decode};
use catena_decode::redact::dry_run;
use catena_decode::{Block, Decoder, Format, Redactor};
use std::sync::Arc;

const KINDS: [(&str, &str); 8] = [
    ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
    ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"),
    ("-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"),
    ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----END ENCRYPTED PRIVATE KEY-----"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "-----END PGP PRIVATE KEY BLOCK-----"),
    ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----", "---- END SSH2 ENCRYPTED PRIVATE KEY ----"),
    ("PuTTY-User-Key-File-3: ssh-ed25519", "Private-MAC: 00112233445566778899aabbccddeeff"),
];

/// The lines of the body of a key, the last of them short.
fn body(dice: &mut Dice) -> Vec<String> {
    let alphabet = format!("{ALNUM}+/");
    let line = |dice: &mut Dice, n: usize| format!("M1z{}", dice.of(&alphabet, n - 3));
    vec![line(dice, 64), line(dice, 64), line(dice, 40)]
}

/// Records of one source, in their order.
fn read(records: &[String]) -> Collected {
    let mut decoder = Decoder::new(Arc::new(Redactor::new(KEY)));
    let (mut block, mut seen) = (Block::default(), Collected::default());
    for record in records {
        decoder.record_after(&mut block, Format::Auto, record.as_bytes(), &context(), &mut seen);
    }
    assert!(seen.total() >= records.len());
    assert!(!block.is_open(), "the key has ended: {records:?}");
    seen
}

fn absent(seen: &Collected, lines: &[String], of: &[String]) {
    let all = seen.everything();
    for line in lines {
        assert!(!all.contains(line.as_str()), "{line} survived in {all}\nof {of:?}");
    }
}

fn event(id: &str, note: &str) -> String {
    let params = serde_json::json!({"note": note});
    serde_json::json!({"id": id, "time": "2026-11-21T00:00:00Z", "decision": {"verdict": "allow"}, "requester": {"id": "dana@corp.example"}, "call": {"params": params}}).to_string()
}

#[test]
fn a_key_over_several_records_is_redacted_to_its_last_line() {
    let mut dice = Dice::new(0x5ec7e);
    for (begin, end) in KINDS {
        let lines = body(&mut dice);
        let key: Vec<String> =
            [begin].into_iter().chain(lines.iter().map(String::as_str)).chain([end]).map(str::to_owned).collect();
        for write in [
            |line: &str| line.to_owned(),
            |line: &str| format!("2026-12-01T00:00:00Z api-1  | {line}\r"),
            |line: &str| format!("\"{line}\","),
            |line: &str| format!("    '{line}\\n' +"),
            |line: &str| serde_json::json!({"log": format!("{line}\n"), "stream": "stdout"}).to_string(),
            |line: &str| serde_json::json!({"level": "info", "msg": line}).to_string(),
            |line: &str| serde_json::json!(line).to_string(),
            |line: &str| event("e", line),
        ] {
            let mut records: Vec<String> = key.iter().map(|line| write(line)).collect();
            absent(&read(&records), &lines, &records);
            // Others write to the same log: what they say of facts is not lost.
            records.insert(2, event("between", "hello"));
            records.insert(3, "api-2 | started".to_owned());
            records.push("and on".to_owned());
            let seen = read(&records);
            absent(&seen, &lines, &records);
            let between: Vec<_> = seen.events.iter().filter(|e| e.id == "between").collect();
            assert_eq!(between.len(), 1, "{records:?}");
            assert_eq!(
                (between[0].requester.as_str(), between[0].params.as_str()),
                ("dana@corp.example", r#"{"note":"hello"}"#)
            );
            let last = seen.rejections.last().and_then(|r| r.raw.clone()).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&last), "and on", "reading as ever goes on");
        }
    }
}

#[test]
fn a_key_over_several_texts_of_a_record_is_redacted() {
    let mut dice = Dice::new(0x11575);
    for (begin, end) in KINDS {
        let mut lines = body(&mut dice);
        // In a list the shortest last line goes too.
        lines.push("qQzw".to_owned());
        let key: Vec<&str> = [begin].into_iter().chain(lines.iter().map(String::as_str)).chain([end]).collect();
        let members: serde_json::Map<_, _> = key
            .iter()
            .enumerate()
            .filter(|(_, l)| **l != "qQzw")
            .map(|(n, l)| (format!("line{n}"), (*l).into()))
            .collect();
        let objects: Vec<_> = key.iter().filter(|l| **l != "qQzw").map(|l| serde_json::json!({"line": l})).collect();
        let inside = serde_json::json!({"k": key}).to_string();
        for params in [
            serde_json::json!({"k": key, "id": "T-1182"}),
            serde_json::json!({"a": [["x", key], 1]}),
            serde_json::json!(members),
            serde_json::json!({"lines": objects}),
            serde_json::json!({"text": inside}),
            serde_json::json!({"text": key.join("\n")}),
        ] {
            let lines = if params.to_string().contains("qQzw") { &lines[..] } else { &lines[..3] };
            for record in [
                serde_json::json!({"id": "1", "time": "2026-11-21T00:00:00Z", "decision": {"verdict": "allow"}, "call": {"params": params}}),
                serde_json::json!({"id": "1", "time": "2026-11-21T00:00:00Z", "decision": {"verdict": "allow"}, "other": params}),
                serde_json::json!({"what": "nobody knows", "x": params}),
                serde_json::json!([{"what": "nobody knows", "x": params}, {"y": params}]),
            ] {
                let record = record.to_string();
                let seen = decode(Format::Auto, record.as_bytes());
                absent(&seen, lines, std::slice::from_ref(&record));
                assert!(!record.contains("T-1182") || seen.everything().contains("T-1182"), "{record}");
            }
        }
    }
    let logs: Vec<_> = std::iter::once("-----BEGIN PRIVATE KEY-----".to_owned())
        .chain(body(&mut dice))
        .map(|line| serde_json::json!({"timeUnixNano": "1787234591000000000", "body": {"stringValue": line}}))
        .collect();
    let export = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}).to_string();
    let lines: Vec<_> = logs[1..].iter().filter_map(|l| l["body"]["stringValue"].as_str().map(str::to_owned)).collect();
    absent(&decode(Format::Auto, export.as_bytes()), &lines, &[export]);
}

/// Where nothing is known of what came before, a line of a key is known by its look.
#[test]
fn a_line_of_a_key_by_itself_is_not_kept_as_a_rejection() {
    let mut dice = Dice::new(0x10e);
    let lines = body(&mut dice);
    for record in [
        lines[0].clone(),
        format!("api | {}", lines[0]),
        format!("\"{}\",", lines[0]),
        serde_json::json!({"log": format!("{}\n", lines[0])}).to_string(),
    ] {
        absent(&decode(Format::Auto, record.as_bytes()), &lines[..1], std::slice::from_ref(&record));
    }
    for kept in [
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkPj4Abc",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "GET /srv/Data/v1/Customers/2026/Reports/Quarter/Final/Signed/Of/All/Things",
    ] {
        let seen = decode(Format::Auto, kept.as_bytes());
        assert_eq!(seen.rejections[0].raw.as_deref(), Some(kept.as_bytes()));
    }
}

/// Who only speaks of a key loses a few lines, not the log.
#[test]
fn a_key_that_is_only_spoken_of_does_not_hide_what_follows() {
    let mut decoder = Decoder::new(Arc::new(Redactor::new(KEY)));
    let (mut block, mut seen) = (Block::default(), Collected::default());
    let first = std::iter::once("error: expected -----BEGIN PRIVATE KEY----- in file".to_owned());
    for record in first.chain((0..40).map(|n| format!("line {n}"))) {
        decoder.record_after(&mut block, Format::Auto, record.as_bytes(), &context(), &mut seen);
    }
    let kept = seen.rejections.iter().filter(|r| r.raw.as_deref().unwrap_or_default().starts_with(b"line ")).count();
    assert_eq!(kept, 40 - 16);
    assert!(seen.everything().contains("line 16") && !seen.everything().contains("line 15"));
}

#[test]
fn a_dry_run_says_so_too() {
    let lines = body(&mut Dice::new(7));
    let sample = serde_json::json!({"k": ["-----BEGIN EC PRIVATE KEY-----", lines[0], "-----END EC PRIVATE KEY-----"]});
    let run = dry_run(&Redactor::new(KEY), sample.to_string().as_bytes());
    let found: Vec<_> = run.findings.iter().map(|f| (f.pointer.as_str(), f.kind)).collect();
    assert_eq!(found, [("/k/0", "private_key"), ("/k/1", "private_key"), ("/k/2", "private_key")]);
}

/// A text in the places that texts have, and what must be gone from all of them.
fn check(text: &str, kept: bool) {
    const SECRET: &str = "hunter2Xy";
    let text = text.replace('§', SECRET);
    for record in [
        event("1", &text),
        event("1", &serde_json::json!({"deep": text}).to_string()),
        serde_json::json!({"what": "nobody knows", "x": [text]}).to_string(),
        format!("@@ {text}"),
    ] {
        let all = decode(Format::Auto, record.as_bytes()).everything();
        assert_eq!(all.contains(SECRET), kept, "{all}\nof {record}");
    }
}

#[test]
fn command_lines_and_sql() {
    for text in [
        "CREATE USER app IDENTIFIED BY '§'",
        "CREATE USER 'app'@'%' IDENTIFIED WITH mysql_native_password BY '§'",
        "create role app with login password '§'",
        "ALTER ROLE app WITH ENCRYPTED PASSWORD '§' VALID UNTIL 'infinity'",
        "CREATE LOGIN app WITH PASSWORD = N'§'",
        "SET PASSWORD FOR 'app'@'%' = PASSWORD('§')",
        "curl -u app:§ https://api.example/v1",
        "curl -s -u 'app:§' https://api.example/v1",
        "/usr/bin/curl -X POST -uapp:§ https://api.example",
        "mysql -h db -uroot -p§ shop",
        "mysqldump --single-transaction -p'§' shop > x.sql",
        "sshpass -p § ssh root@host",
        "sshpass -p§ ssh root@host",
        "redis-cli -h cache -a § ping",
        "mongosh -u app -p § admin",
        "docker login -u app -p § registry.example",
        "ldapsearch -x -D cn=admin -w § -b dc=corp",
        "keytool -list -keystore k.jks -storepass §",
        "Connect-Thing -User app -Password §",
        "https://app.example/cb?code=§&state=af0ifjsldkj",
        "https://app.example/cb?state=af0ifjsldkj&code=§",
        "https://app.example/cb?code=4P0AX4XfWh§8sLJ2",
        "db:\n  user: app\n  password:\n    §\n  host: x",
        "password: |\n  §\n",
        "password: >-\n  §\n",
    ] {
        check(text, false);
    }
    for text in [
        "docker run -p 8080:80 -u 1000:1000 hunter2Xy",
        "mysql -p hunter2Xy",
        "ssh -p 22 hunter2Xy",
        "curl -o hunter2Xy https://x.example",
        "https://x.example/?code=hunter2Xy",
        "https://x.example/?code=404&x=hunter2Xy",
        "user 'hunter2Xy' was found",
        "written by 'hunter2Xy'",
        "a dash - hunter2Xy",
        "password:\n  min_length: hunter2Xy",
    ] {
        check(text, true);
    }
    for list in [
        serde_json::json!(["curl", "-s", "-u", "app:§", "https://x.example"]),
        serde_json::json!(["mysql", "-uroot", "-p§", "shop"]),
        serde_json::json!(["/usr/bin/sshpass", "-p", "§", "ssh", "host"]),
        serde_json::json!(["keytool", "-storepass", "§"]),
    ] {
        let record = serde_json::json!({"id": "1", "time": "2026-11-21T00:00:00Z", "decision": {"verdict": "allow"}, "call": {"params": {"argv": list}}});
        let all = decode(Format::Auto, record.to_string().replace('§', "hunter2Xy").as_bytes()).everything();
        assert!(!all.contains("hunter2Xy"), "{all}");
        let broken = record.to_string().replace('§', "hunter2Xy");
        let all = decode(Format::Auto, &broken.as_bytes()[..broken.len() - 1]).everything();
        assert!(!all.contains("hunter2Xy"), "{all}");
    }
    for netrc in ["machine api.example login app password §", "  password §"] {
        let all = decode(Format::Auto, netrc.replace('§', "hunter2Xy").as_bytes()).everything();
        assert!(!all.contains("hunter2Xy"), "{all}");
    }
}

#[test]
fn other_encodings_and_keys_in_json() {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let plain = "password=hunter2Xy";
    let bits: String = plain.bytes().map(|b| format!("{b:08b}")).collect::<String>() + "0";
    let base32: String = bits
        .as_bytes()
        .chunks(5)
        .map(|five| BASE32[five.iter().fold(0, |n, b| n * 2 + usize::from(b - b'0')) << (5 - five.len())] as char)
        .collect();
    for word in [hex::encode(plain), hex::encode(plain).to_uppercase(), base32] {
        for text in [word.clone(), format!("x {word} y")] {
            let all = decode(Format::Auto, event("1", &text).as_bytes()).everything();
            assert!(!all.contains(&word), "{all}");
        }
    }
    let d = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";
    let event = |key: &serde_json::Value| {
        serde_json::json!({"id": "1", "time": "2026-11-21T00:00:00Z", "decision": {"verdict": "allow"}, "call": {"params": {"keys": [key], "text": key.to_string()}}})
            .to_string()
    };
    for key in [
        serde_json::json!({"kty": "EC", "crv": "P-256", "x": "public", "d": d}),
        serde_json::json!({"kty": "oct", "k": d}),
        serde_json::json!({"kty": "RSA", "n": "public", "e": "AQAB", "d": d, "p": d, "qi": d}),
    ] {
        let record = event(&key);
        let whole = decode(Format::Auto, record.as_bytes()).everything();
        let broken = decode(Format::Auto, format!("{{\"k\":{key},").as_bytes()).everything();
        assert!(!whole.contains(d) && !broken.contains(d), "{whole}\n{broken}");
    }
    let plain = event(&serde_json::json!({"d": d, "k": 1}));
    assert!(decode(Format::Auto, plain.as_bytes()).everything().contains(d), "without `kty` these names say nothing");
}
