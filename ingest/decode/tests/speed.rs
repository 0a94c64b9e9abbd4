//! How fast redaction is. Not a judgement but a figure: run it with `cargo test -p catena-decode speed -- --ignored --nocapture`.

use crate::seen::{KEY, context};
use catena_decode::json::Tape;
use catena_decode::{Decoder, Format, Redactor, Sink};
use catena_schemas::Event;
use catena_schemas::rows::Rejection;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Counted(usize);

impl Sink for Counted {
    fn event(&mut self, event: &Event<'_>, _: Format) {
        self.0 += event.id.len();
    }
    fn rejection(&mut self, _: Rejection, _: Format) {}
    fn aside(&mut self, _: Rejection, _: Format) {}
}

/// Runs it for a second, and says how many megabytes that were. The best round counts: others had to share the core.
fn measure(name: &str, bytes: usize, mut once: impl FnMut()) {
    let batch = 1 + 100_000 / bytes;
    let (began, mut best) = (Instant::now(), Duration::MAX);
    while began.elapsed() < Duration::from_secs(1) {
        let began = Instant::now();
        (0..batch).for_each(|_| once());
        best = best.min(began.elapsed());
    }
    let each = best.as_secs_f64() / batch as f64;
    println!("{name}: {:.0} MB/s, {:.2} us each", bytes as f64 / each / 1e6, each * 1e6);
}

const CLEAN: &str = r#"{"id":"01K36G5QCE6D3M2XJ0Z9B4T7VA","time":"2026-08-20T14:03:11.482913Z","kind":"decision","source":{"kind":"catena","instance":"gw-eu-1","seq":1842,"epoch":"b7"},"decision":{"verdict":"allow","basis":"explicit","enforced":"forwarded","phase":"invoke","policy":{"engine":"opa","id":"mcp/authz","version":"git-9f3c1d2","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","rules":["tool_update"]},"reasons":[]},"requester":{"id":"user0042@corp.example","issuer":"https://idp.corp.example","kind":"human","assurance":"verified","roles":["support"]},"actors":[{"id":"client:claude-code","kind":"client","assurance":"verified"},{"id":"agent:billing-agent","kind":"agent","issuer":"https://idp.corp.example"}],"actors_source":"act_claim","actors_complete":true,"session":{"id":"s-9f86d081884c"},"server":{"id":"https://crm-mcp.corp.example","name":"crm"},"tool":{"name":"contact.search","action":"query","data_class":"pii"},"call":{"protocol":"mcp","method":"tools/call","http":{"method":"POST","host":"gw.corp.example","path":"/mcp","status":200},"params":{"query":"password reset onboarding of the customer","ticket":"T-1182","limit":20}},"token":{"ref":"hmac:00112233445566778899aabbccddeeff","proof":"verified","issuer":"https://idp.corp.example","audience":["https://crm-mcp.corp.example"],"scope":["crm:read","crm:write"],"issued_at":"2026-08-20T14:00:00Z","expires_at":"2026-08-20T14:15:00Z"},"links":{"parent_decision":"01K36G5QCE6D3M2XJ0Z9B4T7V0","trace":"4bf92f3577b34da6a3ce929d0e0e4736","span":"00f067aa0ba902b7","parent_span":"00f067aa0ba902b8","request":"6b1f7d0e-8c1f-4a57-9c39-0d6d9f7f2f10"},"network":{"ip":"10.0.0.1","user_agent":"claude-code/2.1"}}"#;

#[test]
#[ignore = "a figure for people, not a judgement"]
fn speed() {
    let redactor = Arc::new(Redactor::new(KEY));
    let mut tape = Tape::default();
    let root = tape.parse(CLEAN.as_bytes()).expect("JSON");
    measure("quick look at a clean event", CLEAN.len(), || assert!(!redactor.suspects_record(root)));
    let mut decoder = Decoder::new(redactor.clone());
    measure("decode a clean event", CLEAN.len(), || {
        decoder.record(Format::Catena, CLEAN.as_bytes(), &context(), &mut Counted::default())
    });
    let token = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let dirty = CLEAN.replace("of the customer", &format!("of the customer {token}"));
    measure("decode an event with a token", dirty.len(), || {
        decoder.record(Format::Catena, dirty.as_bytes(), &context(), &mut Counted::default())
    });
    let prose =
        "The bearer of good news has a basic understanding of tokens; see https://corp.example/a/b?c=d#e for more. "
            .repeat(1000);
    measure("clean text", prose.len(), || drop(redactor.text(&prose)));
    let dirty = format!("{prose}{token} and {prose}");
    measure("text with one token", dirty.len(), || drop(redactor.text(&dirty)));
    let dense = format!("curl -H 'Authorization: Bearer {token}' https://api.example/v1?api_key={token}&x=1 password=hunter2! and so on. ").repeat(1000);
    measure("text full of secrets", dense.len(), || drop(redactor.text(&dense)));
    measure("raw bytes full of secrets", dense.len(), || {
        drop(redactor.reject("json_syntax", String::new(), dense.as_bytes()))
    });
}
