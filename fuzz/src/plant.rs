//! Redaction: a planted secret comes out nowhere, wherever in a record it stands.
//!
//! An input is a format, a secret and a template; `$$` in the template is where the secret goes. Secrets are planted with what a rule
//! needs to see around them (a space before `Bearer`), because a fuzzer finds at once that `xBearer` is another word.

use super::heard::Heard;
use super::{HEADERS_MAX, Input};
use catena_decode::json::Tape;
use catena_decode::{Format, Redactor};
use std::sync::LazyLock;

struct Plant {
    text: String,
    /// What must not come out.
    secret: &'static str,
    /// Whether it is a secret only by the member it stands under, so that there must be one.
    member: bool,
}

const RANDOM: &str = "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae";
const PLAIN: &str = "hunter2-very-long";
const KEY_ID: &str = "IOSFODNN7EXAMPLE";

/// Put together from parts, so that scanners of repositories do not take them for real.
static PLANTS: LazyLock<Vec<Plant>> = LazyLock::new(|| {
    let plant = |secret, text: String| Plant { text, secret, member: false };
    let member = |text: String| Plant { text, secret: PLAIN, member: true };
    vec![
        plant(RANDOM, format!(" gh{}_{RANDOM}", "p")),
        plant(RANDOM, format!(" Bearer {RANDOM}")),
        plant(PLAIN, format!(" postgres://app:{PLAIN}@db.example/x")),
        plant(PLAIN, format!(" password={PLAIN}")),
        plant(KEY_ID, format!(" AK{}{KEY_ID} ", "IA")),
        plant(RANDOM, format!("-----BEGIN RSA {k}-----\\n{RANDOM}\\n-----END RSA {k}-----", k = "PRIVATE KEY")),
        plant(RANDOM, format!(" gh\\u0070_{RANDOM}")),
        plant(RANDOM, format!(" sk-{}-{RANDOM}", "proj")),
        member(format!("\"password\":\"{PLAIN}\"")),
        member(format!("{{\"client_secret\":[{{\"a\":\"{PLAIN}\"}}]}}")),
        member(format!("{{\\\"password\\\":\\\"{PLAIN}\\\"}}")),
        member(format!("\"passwords\":[\"{PLAIN}\"]")),
        member(format!("{{\"value\":\"{PLAIN}\",\"name\":\"password\"}}")),
        plant(PLAIN, format!(" {{'password': ['{PLAIN}']}}")),
        plant(PLAIN, format!(" user[password]={PLAIN}")),
        plant(PLAIN, format!(" --password {PLAIN} ")),
        plant(PLAIN, format!(" <password>{PLAIN}</password>")),
    ]
});

/// Tries one template.
pub(crate) fn run(data: &[u8]) {
    let [format, plant, template @ ..] = data else { return };
    let format = Format::ALL[*format as usize % Format::ALL.len()];
    let plant = &PLANTS[*plant as usize % PLANTS.len()];
    // By chance the template may hold it already, also with zeros between, which are taken for those of UTF-16.
    let without_zeros: Vec<u8> = template.iter().copied().filter(|b| *b != 0).collect();
    if holds(&without_zeros, plant.secret) {
        return;
    }
    let record = planted(template, plant.text.as_bytes());
    let input = Input::of(&record);
    assert!(input.headers.len() <= HEADERS_MAX);
    if plant.member && Tape::default().parse(input.body).is_err() {
        return;
    }
    let heard = Heard::of(format, &input, false);
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(!holds(&heard.text, plant.secret), "{} survived in {}", plant.secret, show(&heard.text));
    if let (Ok(text), false) = (std::str::from_utf8(&record), plant.member) {
        let redactor = Redactor::new([7; 32]);
        // An escape is one only in JSON.
        let text = redactor.text(text);
        assert!(plant.text.contains("\\u") || !holds(text.as_bytes(), plant.secret), "{text}");
    }
}

fn planted(template: &[u8], plant: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(template.len() + plant.len());
    let mut rest = template;
    while let Some(at) = rest.windows(2).position(|w| w == b"$$") {
        record.extend_from_slice(&rest[..at]);
        record.extend_from_slice(plant);
        rest = &rest[at + 2..];
    }
    record.extend_from_slice(rest);
    record
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|w| w == secret.as_bytes())
}

/// What is no secret does survive, and is seen to.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_is_watched() {
        assert_eq!(planted(b"a$$b$$", b"x"), b"axbx");
        let record = br#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"allow"},"note":"$$"}"#;
        let seen = |text: &str| {
            let record = planted(record, text.as_bytes());
            holds(&Heard::of(Format::Auto, &Input::of(&record), false).text, RANDOM)
        };
        assert!(seen(RANDOM), "by itself it could be anything");
        assert!(PLANTS.iter().filter(|p| p.secret == RANDOM).all(|p| !seen(&p.text)));
        run(&[b"\0\0".as_slice(), record].concat());
    }
}
