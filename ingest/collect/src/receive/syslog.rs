//! Syslog over TLS (RFC 5425): for gateways that have no other way out.
//!
//! Guarantees: a message that was read is in the intake log, on disk, before the next bytes of its connection are read, so
//! a full log slows the sender down instead of losing what it sends. Syslog itself acknowledges nothing: what lies in
//! buffers of the network when either side dies is lost, and only the sender's sequence numbers can tell. Connections
//! without TLS are refused, and those without a certificate of the authority `clients`; only a loopback address may be
//! listened on without one. Connections are counted in all and per address, and one that has not finished its handshake
//! makes way for a new one; handshakes, messages that have begun, and silence have time limits. Stopping ends within
//! `stop_timeout`, even while the log is full: what was read and could not be kept is then reported.
//!
//! Messages are framed by their length (RFC 5425) or by a line break (RFC 6587, 3.4.2). The header, RFC 5424 or the older
//! form of RFC 3164, is left behind: the decision is the message.

use super::keep::Keeper;
use super::seats::Seats;
use crate::intake::{AppendError, Batch};
use catena_decode::{Block, Format};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes of one message; a longer one ends its connection, since nothing after it can be found.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How long a full log is waited for before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(200);

/// Where to listen, and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Authority whose certificates clients must show, PEM.
    pub clients: Option<PathBuf>,
    /// How messages are read.
    pub format: Format,
    /// Whose they are.
    pub tenant: String,
    /// Limits on connections.
    pub limits: Limits,
}

/// Limits on connections.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections.
    pub connections_max: usize,
    /// Connections from one address; 0 is no limit per address.
    pub connections_per_address_max: usize,
    /// Time for a handshake.
    pub handshake_timeout: Duration,
    /// Time for the rest of a message that has begun.
    pub message_timeout: Duration,
    /// Time for a connection to stay silent between messages.
    pub idle_timeout: Duration,
    /// Time for what was read to be kept when stopping.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1024,
            connections_per_address_max: 256,
            handshake_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(3600),
            stop_timeout: Duration::from_secs(4),
        }
    }
}

/// Refuses an address that others can reach when senders need show no certificate.
pub fn check_listener(listen: SocketAddr, clients: Option<&Path>) -> Result<(), SyslogError> {
    if clients.is_none() && !listen.ip().is_loopback() { Err(SyslogError::Exposed(listen)) } else { Ok(()) }
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// Anyone could send.
    #[error(
        "refusing to listen for syslog on {0} without `syslog.clients`: anyone who reaches it could write into the trail. \
         Set `syslog.clients` to the authority of the senders' certificates (PEM), or `syslog.listen` to a loopback address"
    )]
    Exposed(SocketAddr),
    /// A PEM file.
    #[error("could not read `{}`", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: tokio_rustls::rustls::pki_types::pem::Error,
    },
    /// Certificate and key.
    #[error("the certificate, its key and the clients' authority do not make a TLS server")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address.
    #[error("could not listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Cause.
        source: std::io::Error,
    },
}

/// A listener that is bound and has its keys.
pub struct Syslog {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    settings: Settings,
    keeper: Arc<Keeper>,
}

impl Syslog {
    /// Binds; nothing is accepted before [`Syslog::serve`].
    pub async fn bind(settings: Settings, keeper: Arc<Keeper>) -> Result<Syslog, SyslogError> {
        check_listener(settings.listen, settings.clients.as_deref())?;
        let acceptor = TlsAcceptor::from(Arc::new(tls(&settings)?));
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|source| SyslogError::Listen { address: settings.listen, source })?;
        Ok(Syslog { listener, acceptor, settings, keeper })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until cancelled; what was read by then is kept, if the log takes it within `stop_timeout`.
    pub async fn serve(self, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let limits = &self.settings.limits;
        let seats = Seats::new(limits.connections_max, limits.connections_per_address_max);
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!(error = %e, "syslog connection could not be accepted");
                    seats.close_one();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(seat) = seats.take(peer.ip()) else {
                tracing::warn!(%peer, "syslog connection refused: as many as may be are open");
                continue;
            };
            let (acceptor, cancel) = (self.acceptor.clone(), cancel.clone());
            let (keeper, settings) = (self.keeper.clone(), self.settings.clone());
            tasks.spawn(async move {
                let handshake = tokio::time::timeout(settings.limits.handshake_timeout, acceptor.accept(stream));
                let shaken = tokio::select! {
                    () = seat.traffic.closed() => return,
                    () = cancel.cancelled() => return,
                    shaken = handshake => shaken,
                };
                // From here on the connection does not make way for another.
                let _open = seat.traffic.begin(false);
                match shaken {
                    Ok(Ok(stream)) => listen(stream, &keeper, &settings, peer, &cancel).await,
                    Ok(Err(e)) => tracing::warn!(%peer, error = %e, "syslog handshake failed"),
                    Err(_) => tracing::warn!(%peer, "syslog handshake took too long"),
                }
            });
        }
        tasks.close();
        let spare = Duration::from_secs(1);
        if tokio::time::timeout(limits.stop_timeout + spare, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "syslog connections did not end in time");
        }
    }
}

fn tls(settings: &Settings) -> Result<ServerConfig, SyslogError> {
    let pem = |path: &Path, source| SyslogError::Pem { path: path.to_owned(), source };
    let chain = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|e| pem(path, e))
    };
    let certificate = chain(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|e| pem(&settings.key, e))?;
    // Named, because a program with two of them compiled in has no default.
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| SyslogError::Tls(e.into()))?;
    let builder = match &settings.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in chain(path)? {
                roots.add(authority).map_err(|e| SyslogError::Tls(e.into()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| SyslogError::Tls(e.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(certificate, key).map_err(|e| SyslogError::Tls(e.into()))
}

async fn listen(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    keeper: &Keeper,
    settings: &Settings,
    peer: SocketAddr,
    cancel: &CancellationToken,
) {
    let mut buffer: Vec<u8> = Vec::with_capacity(64 << 10);
    let mut block = Block::default();
    // Since the first byte of a message whose end has not come yet.
    let mut begun: Option<Instant> = None;
    loop {
        let patience = match begun {
            Some(begun) => begun + settings.limits.message_timeout,
            None => Instant::now() + settings.limits.idle_timeout,
        };
        let read = tokio::select! {
            () = cancel.cancelled() => break,
            read = tokio::time::timeout_at(patience, stream.read_buf(&mut buffer)) => read,
        };
        let ended = !matches!(read, Ok(Ok(1..)));
        let (messages, used) = match frames(&buffer, ended) {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(%peer, why, "syslog connection ended: what follows cannot be found");
                return;
            }
        };
        if !messages.is_empty() {
            let contents = messages.iter().map(|m| content(m));
            let (batch, _) = keeper.decode_after(&mut block, &settings.tenant, settings.format, &[], contents);
            if !keep(keeper, batch, settings.limits.stop_timeout, cancel).await {
                tracing::warn!(%peer, messages = messages.len(), "syslog messages were read and could not be kept");
                return;
            }
        }
        buffer.drain(..used);
        begun = match (buffer.is_empty(), used) {
            (true, _) => None,
            (false, 0) => begun.or_else(|| Some(Instant::now())),
            (false, _) => Some(Instant::now()),
        };
        if ended {
            // Says that nothing was cut off.
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Appends a batch, and waits for a log that is full; false when it did not take it before the end.
async fn keep(keeper: &Keeper, batch: Batch, stop_timeout: Duration, cancel: &CancellationToken) -> bool {
    let appending = async {
        loop {
            match keeper.intake().append(batch.clone()).await {
                Ok(_) => return true,
                Err(AppendError::Closed) => return false,
                Err(e) => {
                    tracing::debug!(error = %e, "syslog waits for the intake log");
                    tokio::time::sleep(FULL_WAIT).await;
                }
            }
        }
    };
    tokio::select! {
        kept = appending => kept,
        () = async { cancel.cancelled().await; tokio::time::sleep(stop_timeout).await } => false,
    }
}

/// The complete messages of a buffer, and how many bytes they took. What is left at the end of a connection is one more.
fn frames(buffer: &[u8], ended: bool) -> Result<(Vec<&[u8]>, usize), &'static str> {
    let (mut messages, mut at) = (Vec::new(), 0);
    while at < buffer.len() {
        let rest = &buffer[at..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        match rest.get(digits) {
            // A length and a space; a line that begins with a number is none of ours, since messages begin with `<`.
            Some(b' ') if digits > 0 => {
                let length: usize = std::str::from_utf8(&rest[..digits])
                    .ok()
                    .and_then(|n| n.parse().ok())
                    .filter(|n| *n <= MESSAGE_BYTES_MAX)
                    .ok_or("a message is longer than 1 MiB")?;
                let Some(message) = rest.get(digits + 1..digits + 1 + length) else { break };
                messages.push(message);
                at += digits + 1 + length;
            }
            None if digits > 0 && !ended => break,
            _ => {
                let end = rest.iter().position(|b| *b == b'\n');
                match end {
                    Some(end) => {
                        messages.push(&rest[..end]);
                        at += end + 1;
                    }
                    None if ended => {
                        messages.push(rest);
                        at = buffer.len();
                    }
                    None if rest.len() > MESSAGE_BYTES_MAX => return Err("a line is longer than 1 MiB"),
                    None => break,
                }
            }
        }
    }
    messages.retain(|m| !m.trim_ascii().is_empty());
    Ok((messages, at))
}

/// The message without its header: after the structured data of RFC 5424, or after the tag of RFC 3164.
fn content(message: &[u8]) -> &[u8] {
    let message = message.trim_ascii();
    let Some(rest) = message.strip_prefix(b"<").and_then(|m| {
        let end = m.iter().take(4).position(|b| *b == b'>')?;
        m[..end].iter().all(u8::is_ascii_digit).then(|| &m[end + 1..])
    }) else {
        return message;
    };
    let body = match rest.strip_prefix(b"1 ") {
        // VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA [SP MSG]
        Some(fields) => after_fields(fields, 5).and_then(after_structured_data),
        None => rest.windows(2).position(|w| w == b": ").map(|at| &rest[at + 2..]),
    };
    let body = body.unwrap_or(rest).trim_ascii();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    // Some senders mark JSON so (CEE).
    body.strip_prefix(b"@cee:").unwrap_or(body).trim_ascii()
}

fn after_fields(mut rest: &[u8], fields: usize) -> Option<&[u8]> {
    for _ in 0..fields {
        rest = &rest[rest.iter().position(|b| *b == b' ')? + 1..];
    }
    Some(rest)
}

fn after_structured_data(rest: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = rest.strip_prefix(b"-") {
        return Some(rest);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted && rest.get(at + 1) != Some(&b'[') => return Some(&rest[at + 1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{self, Intake};
    use catena_schemas::Micros;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::pki_types::ServerName;

    /// A listener with keys of its own, and the log behind it.
    struct Site {
        folder: tempfile::TempDir,
        authority: CertificateDer<'static>,
        intake: Intake,
        address: SocketAddr,
        cancel: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Site {
        async fn start(ask_clients: bool) -> Site {
            Site::with(ask_clients, Limits::default(), intake::Settings::default()).await
        }

        async fn with(ask_clients: bool, limits: Limits, log: intake::Settings) -> Site {
            let folder = tempfile::tempdir().unwrap();
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let path = |name: &str| folder.path().join(name);
            std::fs::write(path("chain.pem"), made.cert.pem()).unwrap();
            std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
            let intake = Intake::open(&path("intake"), intake::Settings { partitions: 1, ..log }).unwrap();
            intake.align(0, 0).unwrap();
            let keeper = Keeper::new(intake.clone(), [7; 32], &crate::worker::Settings::default(), || {
                Micros(1_755_698_591_000_000)
            });
            let settings = Settings {
                listen: ([127, 0, 0, 1], 0).into(),
                certificate: path("chain.pem"),
                key: path("key.pem"),
                clients: ask_clients.then(|| path("chain.pem")),
                format: Format::Auto,
                tenant: "acme".into(),
                limits,
            };
            let syslog = Syslog::bind(settings, Arc::new(keeper)).await.unwrap();
            let (address, cancel) = (syslog.address().unwrap(), CancellationToken::new());
            let serving = tokio::spawn(syslog.serve(cancel.clone()));
            Site { folder, authority: made.cert.der().clone(), intake, address, cancel, serving }
        }

        /// Sends bytes over TLS, and ends the connection.
        async fn send(&self, bytes: &[u8]) -> std::io::Result<()> {
            let mut stream = self.connect().await?;
            for part in bytes.chunks(700) {
                stream.write_all(part).await?;
                stream.flush().await?;
            }
            stream.shutdown().await?;
            // A refusal after the handshake (TLS 1.3) is seen by reading.
            stream.read(&mut [0]).await.map(|_| ())
        }

        async fn connect(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.clone()).unwrap();
            let client =
                ClientConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let tcp = TcpStream::connect(self.address).await?;
            TlsConnector::from(Arc::new(client)).connect(name, tcp).await
        }

        async fn entries(&self, wanted: u64) -> u64 {
            let until = Instant::now() + Duration::from_secs(20);
            while self.intake.stats().entries < wanted && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.intake.stats().entries
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            self.cancel.cancel();
            assert!(self.folder.path().is_dir());
        }
    }

    fn decision(number: u32) -> String {
        let event = format!(
            r#"{{"id":"e{number}","time":"2026-08-20T14:03:11Z","decision":{{"verdict":"deny"}},"requester":{{"id":"dana"}}}}"#
        );
        format!("<165>1 2026-08-20T14:03:11.482Z gw app 12 ID47 - {event}")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn messages_are_kept_in_either_framing() {
        let site = Site::start(false).await;
        let counted: String = (0..50).map(decision).map(|m| format!("{} {m}", m.len())).collect();
        let lines: String = (50..100).map(|n| decision(n) + "\n").collect();
        site.send(counted.as_bytes()).await.unwrap();
        site.send(lines.trim_end().as_bytes()).await.unwrap();
        assert_eq!(site.entries(100).await, 100);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn strangers_are_refused() {
        let site = Site::start(true).await;
        assert!(site.send(decision(1).as_bytes()).await.is_err(), "no certificate was shown");
        let mut plain = TcpStream::connect(site.address).await.unwrap();
        plain.write_all(decision(2).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.windows(2).any(|w| w == b"ok"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(site.intake.stats().entries, 0);
    }

    #[test]
    fn without_certificates_of_senders_only_loopback() {
        for (address, clients, allowed) in [
            ("127.0.0.1:6514", None, true),
            ("[::1]:6514", None, true),
            ("0.0.0.0:6514", None, false),
            ("10.0.0.1:6514", None, false),
            ("0.0.0.0:6514", Some(Path::new("ca.pem")), true),
        ] {
            let checked = check_listener(address.parse().unwrap(), clients);
            assert_eq!(checked.is_ok(), allowed, "{address} {clients:?}");
            if let Err(e) = checked {
                assert!(e.to_string().contains("`syslog.clients`"), "{e}");
            }
        }
    }

    /// S13: a log that takes nothing must not keep the service from ending.
    #[tokio::test(flavor = "multi_thread")]
    async fn stopping_ends_while_the_log_takes_nothing() {
        let limits = Limits { stop_timeout: Duration::from_millis(300), ..Limits::default() };
        let full = intake::Settings { free_bytes_min: u64::MAX, ..intake::Settings::default() };
        let mut site = Site::with(false, limits, full).await;
        let mut stream = site.connect().await.unwrap();
        stream.write_all((decision(1) + "\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // It waits for the log now; nothing shows that from outside, and stopping before that must end as well.
        tokio::time::sleep(Duration::from_millis(200)).await;
        site.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), &mut site.serving).await;
        assert!(ended.is_ok(), "still serving");
        assert_eq!(site.intake.stats().entries, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn handshakes_make_way_and_senders_do_not() {
        let limits = Limits { connections_max: 3, ..Limits::default() };
        let site = Site::with(false, limits, intake::Settings::default()).await;
        let mut sender = site.connect().await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(site.address).await.unwrap());
        }
        site.send(decision(1).as_bytes()).await.unwrap();
        sender.write_all((decision(2) + "\n").as_bytes()).await.unwrap();
        sender.flush().await.unwrap();
        assert_eq!(site.entries(2).await, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_that_never_ends_costs_its_connection() {
        let limits = Limits { message_timeout: Duration::from_millis(200), ..Limits::default() };
        let site = Site::with(false, limits, intake::Settings::default()).await;
        let mut stream = site.connect().await.unwrap();
        stream.write_all(b"500 <165>1 half").await.unwrap();
        stream.flush().await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }

    #[test]
    fn headers_are_left_behind() {
        for (message, want) in [
            (r#"<165>1 2026-08-20T14:03:11.482Z gw app 12 ID47 - {"a":1}"#, r#"{"a":1}"#),
            (r#"<165>1 2026-08-20T14:03:11Z gw app - - [x@1 k="]\"" l="2"][y@2 m="3"] {"a":1}"#, r#"{"a":1}"#),
            ("<34>1 - - - - - - \u{feff}{\"a\":1}", r#"{"a":1}"#),
            (r#"<34>Oct 11 22:14:15 gw kong[12]: {"a": 1}"#, r#"{"a": 1}"#),
            (r#"<34>Oct 11 22:14:15 gw app: @cee: {"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("<34>1 - - - -", "1 - - - -"),
            ("<x>y", "<x>y"),
        ] {
            assert_eq!(std::str::from_utf8(content(message.as_bytes())).unwrap(), want, "{message}");
        }
    }

    #[test]
    fn messages_are_found() {
        let check = |bytes: &str, ended: bool, want: &[&str], left: &str| {
            let (found, used) = frames(bytes.as_bytes(), ended).unwrap();
            let found: Vec<_> = found.iter().map(|m| std::str::from_utf8(m).unwrap()).collect();
            assert_eq!((found.as_slice(), &bytes[used..]), (want, left), "{bytes:?}");
        };
        check("5 <1>ab4 <1>c", false, &["<1>ab", "<1>c"], "");
        check("5 <1>ab4 <1>", false, &["<1>ab"], "4 <1>");
        check("5", false, &[], "5");
        check("<1>a\n<1>b", false, &["<1>a"], "<1>b");
        check("<1>a\n<1>b", true, &["<1>a", "<1>b"], "");
        check("\n\n", false, &[], "");
        assert!(frames(b"99999999 <1>", false).is_err());
    }
}
