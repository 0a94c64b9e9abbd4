//! Planted secrets by the thousand, and what only looks like them by the ten thousand: how many are found, and how many found
//! wrongly. The generators build on the lengths and alphabets of the makers' forms and share no code with `src/redact`, but one hand
//! wrote both and misses seen here were mended there: this guards against loss, it is no held-out test. Every literal is put
//! together at run time, so that scanners of repositories find nothing here.

use crate::seen::decode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use catena_decode::Format;
use std::collections::BTreeMap;

/// A seeded source of chance (xorshift): the same corpus every time.
pub(crate) struct Dice(u64);

pub(crate) const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PASSWORD: &str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789!#$^*~+-";

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn of(&mut self, alphabet: &str, length: usize) -> String {
        (0..length).map(|_| alphabet.as_bytes()[self.below(alphabet.len())] as char).collect()
    }

    fn between(&mut self, alphabet: &str, min: usize, max: usize) -> String {
        let length = min + self.below(max - min + 1);
        self.of(alphabet, length)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn pick<'s>(&mut self, of: &[&'s str]) -> &'s str {
        of[self.below(of.len())]
    }

    fn uuid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|n| self.of(HEX, n)).join("-")
    }

    fn words(&mut self, n: usize) -> String {
        const WORDS: &[&str] = &[
            "invoice",
            "customer",
            "quarterly",
            "refund",
            "renewal",
            "outage",
            "latency",
            "contract",
            "token",
            "password",
            "secret",
            "key",
            "audit",
            "ledger",
            "export",
            "schedule",
            "bearer",
            "basic",
            "authorization",
            "cookie",
            "session",
            "the",
            "of",
            "and",
            "reset",
        ];
        (0..n).map(|_| self.pick(WORDS)).collect::<Vec<_>>().join(" ")
    }
}

/// A secret in its surroundings, and the part that must not survive.
struct Secret {
    kind: &'static str,
    text: String,
    hidden: String,
}

const SECRETS: usize = 38;

/// CRC-32 by table-free long division, and base 62, as GitHub describes the end of its tokens.
fn github_checksum(body: &str) -> String {
    let mut crc = u32::MAX;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let (mut n, mut out) = (!crc, Vec::new());
    while out.len() < 6 {
        out.push(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(n % 62) as usize]);
        n /= 62;
    }
    out.reverse();
    String::from_utf8(out).expect("ASCII")
}

fn secret(dice: &mut Dice, number: usize) -> Secret {
    let d = dice;
    let whole = |kind, text: String| Secret { kind, hidden: text.clone(), text };
    let within = |kind, before: &str, hidden: String, after: &str| Secret {
        kind,
        text: format!("{before}{hidden}{after}"),
        hidden,
    };
    match number % SECRETS {
        0 => whole("aws key id", format!("{}{}", d.pick(&["AK", "AS"]), "IA") + &d.of(BASE32, 16)),
        1 => within("aws secret", "aws_secret_access_key=", d.of(&(ALNUM.to_owned() + "+/"), 40), ""),
        2 => whole("google api key", format!("AI{}", "za") + &d.of(URL, 35)),
        3 => {
            let body = STANDARD.encode(d.bytes(600));
            let pem = format!("-----BEGIN {k}-----\n{body}\n-----END {k}-----\n", k = "PRIVATE KEY");
            let json =
                serde_json::json!({"type": "service_account", "project_id": "p", "private_key": pem}).to_string();
            Secret { kind: "google service account", text: json, hidden: body }
        }
        4 => within(
            "azure account key",
            "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=",
            STANDARD.encode(d.bytes(64)),
            ";EndpointSuffix=core.windows.net",
        ),
        5 => {
            let sig = STANDARD.encode(d.bytes(32)).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            within(
                "azure sas",
                "https://acc.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sr=b&sp=r&sig=",
                sig,
                "",
            )
        }
        6 => {
            let text = d.of(ALNUM, 3) + "8Q~" + &d.of(&(URL.to_owned() + ".~"), 34).replace('~', "a");
            whole("azure client secret", text)
        }
        7 => {
            let body = d.of(ALNUM, 30);
            whole(
                "github classic",
                format!("gh{}_", d.pick(&["p", "o", "u", "s", "r"])) + &body + &github_checksum(&body),
            )
        }
        8 => whole("github fine-grained", format!("github_{}_", "pat") + &d.of(ALNUM, 22) + "_" + &d.of(ALNUM, 59)),
        9 => whole("gitlab", format!("gl{}-", d.pick(&["pat", "rt", "dt", "ptt"])) + &d.of(URL, 20)),
        10 => {
            let (a, b) = (d.of("123456789", 12), d.of("123456789", 12));
            whole("slack bot", format!("xo{}-{a}-{b}-", "xb") + &d.of(ALNUM, 24))
        }
        11 => {
            let hidden = d.of(ALNUM, 24);
            let text =
                format!("https://hooks.{}/services/T{}/B{}/{hidden}", "slack.com", d.of(UPPER, 8), d.of(UPPER, 8));
            Secret { kind: "slack webhook", text, hidden }
        }
        12 => whole(
            "stripe",
            format!("{}k_{}_", d.pick(&["s", "r"]), d.pick(&["live", "test"])) + &d.between(ALNUM, 24, 99),
        ),
        13 => whole("openai", format!("sk-{}-", "proj") + &d.of(URL, 74) + "T3BlbkFJ" + &d.of(URL, 74)),
        14 => whole("openai legacy", "sk-".to_owned() + &d.of(ALNUM, 20) + "T3BlbkFJ" + &d.of(ALNUM, 20)),
        15 => whole("anthropic", format!("sk-ant-{}-", "api03") + &d.of(URL, 93) + "AA"),
        16 => {
            let header =
                serde_json::json!({"alg": d.pick(&["HS256", "RS256", "ES256"]), "typ": "JWT", "kid": d.of(ALNUM, 8)})
                    .to_string();
            let claims = serde_json::json!({"sub": d.words(1), "exp": d.below(2_000_000_000)}).to_string();
            let hidden = URL_SAFE_NO_PAD.encode(d.bytes(32));
            let text = format!("{}.{}.{hidden}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            Secret { kind: "jwt", text, hidden }
        }
        17 => {
            let body = STANDARD.encode(d.bytes(120));
            let kind = d.pick(&["RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", ""]);
            within(
                "pem",
                &format!("-----BEGIN {kind}{k}-----\n", k = "PRIVATE KEY"),
                body,
                &format!("\n-----END {kind}{k}-----", k = "PRIVATE KEY"),
            )
        }
        18 => within("url basic auth", "https://deploy:", d.between(ALNUM, 8, 30), "@git.corp.example/repo.git"),
        19 => {
            let scheme = d.pick(&["postgres", "mysql", "mongodb+srv", "amqps", "redis", "rediss", "postgresql"]);
            within(
                "connection url",
                &format!("{scheme}://app:"),
                d.between(ALNUM, 8, 30),
                "@db.corp.example:5432/orders?sslmode=require",
            )
        }
        20 => within(
            "ado",
            "Server=tcp:db,1433;Database=x;User ID=app;Password=",
            d.between(PASSWORD, 8, 30),
            ";Encrypt=True;",
        ),
        21 => within("jdbc", "jdbc:mysql://db:3306/x?user=app&password=", d.between(ALNUM, 8, 30), "&useSSL=true"),
        22 => within(
            "bearer header",
            d.pick(&["Authorization: Bearer ", "authorization: bearer ", "-H 'Authorization: Bearer "]),
            d.between(URL, 20, 60),
            "",
        ),
        23 => within(
            "basic header",
            "Authorization: Basic ",
            STANDARD.encode(format!("user:{}", d.between(ALNUM, 8, 20))),
            "",
        ),
        24 => within("cookie", "Cookie: theme=dark; sid=", d.of(ALNUM, 32), "; lang=en"),
        25 => {
            let body = d.of(ALNUM, 30);
            whole("npm", format!("np{}_", "m") + &body + &github_checksum(&body))
        }
        26 => whole("pypi", format!("pypi-{}", "AgEIcHlwaS5vcmc") + &d.between(URL, 70, 150)),
        27 => whole("sendgrid", format!("S{}.", "G") + &d.of(URL, 22) + "." + &d.of(URL, 43)),
        28 => whole("twilio", format!("S{}", "K") + &d.of(HEX, 32)),
        29 => whole(
            "hugging face",
            format!("h{}_", "f") + &d.of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 34),
        ),
        30 => whole("digitalocean", format!("do{}_v1_", d.pick(&["p", "o", "r"])) + &d.of(HEX, 64)),
        31 => whole("vault", format!("hv{}.", "s") + &d.between(URL, 90, 100)),
        32 => whole("databricks", format!("da{}", "pi") + &d.of(HEX, 32)),
        33 => whole("telegram", d.of("123456789", 10) + ":AA" + &d.of(URL, 33)),
        34 => {
            let id = URL_SAFE_NO_PAD.encode(d.of("123456789", 18));
            whole("discord", format!("{id}.{}.{}", d.of(URL, 6), d.of(URL, 38)))
        }
        35 => within(
            "password assignment",
            d.pick(&["password=", "DB_PASSWORD=", "export PGPASSWORD=", "api_key=", "--client-secret="]),
            d.between(PASSWORD, 8, 24),
            "",
        ),
        36 => within(
            "yaml password",
            d.pick(&["password: ", "api_key: ", "clientSecret: ", "x-api-key: "]),
            d.of(ALNUM, 11) + "7" + &d.of(ALNUM, 8),
            "",
        ),
        _ => {
            let name = d.pick(&["password", "access_token", "clientSecret", "apiKey", "refresh_token"]);
            let hidden = d.between(ALNUM, 8, 40);
            Secret { kind: "json member", text: serde_json::json!({"user": "app", name: &hidden}).to_string(), hidden }
        }
    }
}

const LOOK_ALIKES: usize = 44;

fn look_alike(dice: &mut Dice, number: usize) -> (&'static str, String) {
    let d = dice;
    match number % LOOK_ALIKES {
        0 => ("uuid", d.uuid()),
        1 => ("sha-256", d.of(HEX, 64)),
        2 => ("git id", d.of(HEX, 40)),
        3 => ("short git id", format!("git-{}", d.of(HEX, 7))),
        4 => ("traceparent", format!("00-{}-{}-01", d.of(HEX, 32), d.of(HEX, 16))),
        5 => ("ulid", "01".to_owned() + &d.of("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24)),
        6 => (
            "base64 image",
            format!("data:image/png;base64,iVBORw0KGgo{}", {
                let n = 60 + d.below(600);
                STANDARD.encode(d.bytes(n))
            }),
        ),
        7 => ("base64 bytes", {
            let n = 20 + d.below(300);
            STANDARD.encode(d.bytes(n))
        }),
        8 => ("base64url bytes", {
            let n = 20 + d.below(60);
            URL_SAFE_NO_PAD.encode(d.bytes(n))
        }),
        9 => ("base64 prose", STANDARD.encode(format!("note: {} for review", d.words(8)))),
        10 => ("long digits", d.between("0123456789", 13, 40)),
        11 => ("doi", format!("doi:10.{}/{}.{}", d.of("123456789", 4), d.of("abcdefgh", 6), d.of("123456789", 8))),
        12 => (
            "url",
            format!(
                "https://api.corp.example:8443/v1/{}/{}?limit=20&sort_key=created_at#top",
                d.of("abcdefgh", 8),
                d.uuid()
            ),
        ),
        13 => {
            ("url with at", format!("https://corp.example/@{}/posts/{}", d.of("abcdefgh", 8), d.of("0123456789", 10)))
        }
        14 => ("sentence", format!("Please reset the password of {}; the token is in the vault.", d.words(3))),
        15 => ("sentence", format!("the bearer of {} has a basic understanding of secrets", d.words(4))),
        16 => ("sentence", format!("Authorization required: {}", d.words(3))),
        17 => ("words", d.words(12)),
        18 => ("e-mail", format!("{}@corp.example", d.of("abcdefgh", 9))),
        19 => ("path", format!("/srv/data/{}/{}/report-2026-final.tar.gz", d.of("abcdefgh", 8), d.of(HEX, 12))),
        20 => ("slug", d.words(6).replace(' ', "-")),
        21 => ("identifier", d.words(6).replace(' ', "_")),
        22 => ("pod", format!("billing-agent-{}-{}", d.of(HEX, 10), d.of("bcdfghjklmnpqrstvwxz", 5))),
        23 => ("image digest", format!("registry.corp.example/team/app@sha256:{}", d.of(HEX, 64))),
        24 => ("arn", format!("arn:aws:iam::{}:role/{}", d.of("123456789", 12), d.of("abcdefgh", 10))),
        25 => ("k-sorted", format!("task-{}", d.of("0123456789", 25))),
        26 => ("slug of risk", format!("risk-assessment-{}-2026", d.words(2).replace(' ', "-"))),
        27 => ("sk learn", format!("sk-learn-{}-pipeline", d.words(2).replace(' ', "-"))),
        28 => ("assignment", format!("sort_key=created_at&page={}&primary_key=id", d.below(1000))),
        29 => ("page token", format!("next_page_token={}", URL_SAFE_NO_PAD.encode(d.bytes(24)))),
        30 => (
            "placeholder",
            d.pick(&[
                "password=****",
                "api_key=${API_KEY}",
                "password=<your password>",
                "secret={{ secret }}",
                "token=null",
            ])
            .to_owned(),
        ),
        31 => ("code", format!("if token == null && password != {} {{ return }}", d.of("abcdefgh", 3))),
        32 => ("percent prose", format!("q={}", d.words(6).replace(' ', "%20"))),
        33 => ("percent url", format!("next=https%3A%2F%2Fcorp.example%2F{}%3Fa%3D1", d.of("abcdefgh", 8))),
        34 => ("digest", format!("hmac:{}", d.of(HEX, 32))),
        35 => ("etag", format!("W/\"{}\"", d.of(HEX, 27))),
        36 => ("json", serde_json::json!({"id": d.uuid(), "sha": d.of(HEX, 40), "limit": 20}).to_string()),
        37 => ("json in json", serde_json::json!({"a": serde_json::json!({"b": d.words(4)}).to_string()}).to_string()),
        38 => ("ipv6", (0..8).map(|_| d.of(HEX, 4)).collect::<Vec<_>>().join(":")),
        39 => ("version", format!("v1.{}.{}+build.{}", d.below(90), d.below(90), d.of(HEX, 12))),
        40 => ("class name", "CustomerInvoiceRefundTokenRepositoryFactory".to_owned() + &d.of("0123456789", 2)),
        41 => ("spiffe", format!("spiffe://corp.example/ns/{}/sa/{}", d.of("abcdefgh", 6), d.of("abcdefgh", 8))),
        42 => ("time", format!("2026-08-20T14:03:11.{}Z", d.of("0123456789", 6))),
        _ => ("upper words", format!("ASIA AND THE {} SKILLS OF AKIRA", d.words(3).to_uppercase())),
    }
}

const PLACES: [&str; 6] = ["value", "key", "nested", "base64", "url", "text"];

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Brings a text into one of the places: the arguments it stands in, and how `part` of it then looks.
fn place(place: &str, text: &str, part: &str) -> (serde_json::Value, Vec<String>) {
    use serde_json::json;
    let same = vec![part.to_owned()];
    match place {
        "value" => (json!({"note": text, "limit": 20}), same),
        "key" => (json!({text: {"a": [1, 2]}}), same),
        "nested" => (json!({"body": json!({"rows": [{"note": text}], "n": 1}).to_string()}), same),
        "base64" => (json!({"content": STANDARD.encode(text)}), vec![part.to_owned(), STANDARD.encode(text)]),
        "url" => (json!({"query": format!("a=1&body={}&z=2", percent(text))}), vec![part.to_owned(), percent(part)]),
        _ => (json!({"note": format!("Before it, {text} and so on.")}), same),
    }
}

/// What decoding leaves of the arguments.
fn left(arguments: &serde_json::Value) -> String {
    let record = serde_json::json!({"id": "1", "time": "2026-11-21T00:00:00Z", "decision": {"verdict": "allow"}, "call": {"params": arguments}});
    let seen = decode(Format::Catena, record.to_string().as_bytes());
    seen.events[0].params.clone()
}

/// As it stands in JSON text, at both depths.
fn survives(params: &str, part: &str) -> bool {
    let once = |s: &str| {
        let mut out = String::new();
        catena_decode::json::write_string(s, &mut out);
        out[1..out.len() - 1].to_owned()
    };
    let (first, second) = (once(part), once(&once(part)));
    params.contains(part) || params.contains(&first) || params.contains(&second)
}

#[test]
fn recall_and_precision() {
    const PER_PLACE: usize = 12;
    let mut dice = Dice::new(0x05ee_d0f5_ec7e);
    let mut missed: BTreeMap<(&str, &str), (usize, usize, String)> = BTreeMap::new();
    let (mut planted, mut found) = (0, 0);
    for number in 0..SECRETS * PER_PLACE {
        let secret = secret(&mut dice, number);
        for at in PLACES {
            let (arguments, forms) = place(at, &secret.text, &secret.hidden);
            let params = left(&arguments);
            let entry = missed.entry((secret.kind, at)).or_default();
            planted += 1;
            entry.1 += 1;
            if forms.iter().any(|form| survives(&params, form)) {
                entry.0 += 1;
                entry.2 = params;
            } else {
                found += 1;
            }
        }
    }
    let mut wrong: BTreeMap<(&str, &str), (usize, usize, String)> = BTreeMap::new();
    let (mut innocent, mut hurt) = (0, 0);
    for number in 0..LOOK_ALIKES * 80 {
        let (kind, text) = look_alike(&mut dice, number);
        for at in PLACES {
            let (arguments, _) = place(at, &text, &text);
            let params = left(&arguments);
            let entry = wrong.entry((kind, at)).or_default();
            innocent += 1;
            entry.1 += 1;
            if params.contains("[redacted:") {
                hurt += 1;
                entry.0 += 1;
                entry.2 = format!("{params} of {arguments}");
            }
        }
    }
    let kinds = missed.keys().map(|k| k.0).collect::<std::collections::BTreeSet<_>>().len();
    let recall = found as f64 / planted as f64;
    let precision = found as f64 / (found + hurt) as f64;
    println!("{planted} planted, {kinds} kinds, {} places: recall {recall:.4}", PLACES.len());
    println!("{innocent} look-alikes, {hurt} taken for secrets: precision {precision:.4}");
    for (name, table) in [("missed", &missed), ("taken wrongly", &wrong)] {
        let mut worst: Vec<_> = table.iter().filter(|(_, n)| n.0 > 0).collect();
        worst.sort_by_key(|(_, n)| std::cmp::Reverse(n.0));
        for ((kind, at), (n, of, sample)) in worst.into_iter().take(12) {
            println!(
                "  {name}: {kind} as {at}: {n} of {of}, such as {}",
                &sample.chars().take(220).collect::<String>()
            );
        }
    }
    assert!(planted >= 2000 && kinds >= 20 && innocent >= 20_000);
    assert!(recall >= 0.98, "recall {recall}");
    assert!(precision >= 0.90, "precision {precision}");
}
