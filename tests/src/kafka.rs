//! A real Kafka broker for tests: Apache Kafka in KRaft mode, on loopback, with its data in a folder of the test's own.
//!
//! It is killed the hard way on purpose (`kill`), comes back with the same data (`restart`), and ends with the test that
//! started it, by its process id and nothing else.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take to answer.
const READY_WAIT: Duration = Duration::from_secs(60);
/// Heap of the broker.
const HEAP: &str = "-Xmx384m";

/// Who may use the secured listener.
pub const USER: &str = "collector";
/// Password of [`USER`], for SCRAM-SHA-512 and PLAIN alike. A test's own, worth nothing.
pub const PASSWORD: &str = "only-for-this-test";
const KEYSTORE: &str = "broker.p12";
const CERTIFICATE: &str = "broker.pem";

/// A running broker. Ends when dropped.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    port: u16,
    secured: u16,
    child: Option<Child>,
}

impl Broker {
    /// Starts a broker with its data below `folder` and waits until it answers. Jars are fetched when they are missing.
    pub fn start(folder: &Path, port: u16) -> io::Result<Broker> {
        install()?;
        fs::create_dir_all(folder)?;
        let settings = folder.join("server.properties");
        let (controller, secured) = (free_port()?, free_port()?);
        keys(folder)?;
        fs::write(&settings, properties(folder, [port, secured, controller]))?;
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "-t", "Q2F0ZW5hS2Fma2FUZXN0MA", "-c"]).arg(&settings);
        format.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]"));
        let done = format.stdout(log(folder)?).stderr(log(folder)?).status()?;
        if !done.success() {
            return Err(io::Error::other(format!("could not format {}: {done}", folder.display())));
        }
        let mut broker = Broker { folder: folder.to_owned(), port, secured, child: None };
        broker.restart()?;
        Ok(broker)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the listener that wants TLS and a password (SCRAM-SHA-512 or PLAIN).
    pub fn secured_address(&self) -> String {
        format!("127.0.0.1:{}", self.secured)
    }

    /// The certificate to trust, in PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the data that it has, after a kill if it still runs, and waits until it answers.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let mut server = java("kafka.Kafka");
        // C1 alone: compiling hard for a broker that lives a minute costs more than it gives.
        server.arg(self.folder.join("server.properties")).stdout(log(&self.folder)?).stderr(log(&self.folder)?);
        self.child = Some(server.stdin(Stdio::null()).spawn()?);
        let client = self.admin();
        let deadline = Instant::now() + READY_WAIT;
        loop {
            if let Ok(metadata) = client.inner().fetch_metadata(None, Duration::from_millis(500))
                && !metadata.brokers().is_empty()
            {
                return Ok(());
            }
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
                return Err(io::Error::other(format!("broker does not answer (ended: {ended:?}):\n{said}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> io::Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let admin = self.admin();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let results = futures::executor::block_on(admin.create_topics([&topic], &options)).map_err(io::Error::other)?;
        for result in results {
            result.map_err(|(topic, code)| io::Error::other(format!("could not make topic `{topic}`: {code}")))?;
        }
        Ok(())
    }

    /// Removes a topic.
    pub fn delete_topic(&self, name: &str) -> io::Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let results =
            futures::executor::block_on(self.admin().delete_topics(&[name], &options)).map_err(io::Error::other)?;
        for result in results {
            result.map_err(|(topic, code)| io::Error::other(format!("could not remove topic `{topic}`: {code}")))?;
        }
        Ok(())
    }

    /// A client for what is not here.
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("reconnect.backoff.max.ms", "200")
            .set("log_level", "0")
            .create()
            .expect("these properties are librdkafka's")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of the loopback address that nobody listens on right now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' crate lies in the project").to_owned()
}

fn install() -> io::Result<()> {
    let done = Command::new("sh").arg(root().join("tests/kafka/install.sh")).stdout(Stdio::null()).status()?;
    match done.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("tests/kafka/install.sh: {done}"))),
    }
}

fn java(class: &str) -> Command {
    let mut java = Command::new("java");
    java.args([HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]);
    java.arg(root().join(".cache/kafka/libs/*")).arg(class);
    java
}

fn log(folder: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(folder.join("broker.log"))
}

/// A key and a certificate for this broker alone.
fn keys(folder: &Path) -> io::Result<()> {
    let keytool = |arguments: &[&str]| {
        let store = folder.join(KEYSTORE);
        let mut tool = Command::new("keytool");
        tool.args(arguments).arg("-keystore").arg(store).args(["-storepass", PASSWORD, "-alias", "broker"]);
        match tool.stdout(log(folder)?).stderr(log(folder)?).status()? {
            done if done.success() => Ok(()),
            done => Err(io::Error::other(format!("keytool {}: {done}", arguments[0]))),
        }
    };
    if folder.join(CERTIFICATE).try_exists()? {
        return Ok(());
    }
    let names = ["-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", "-validity", "7"];
    keytool(&[&["-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12"], &names[..]].concat())?;
    let certificate = folder.join(CERTIFICATE);
    keytool(&["-exportcert", "-rfc", "-file", &certificate.to_string_lossy()])
}

fn properties(folder: &Path, [port, secured, controller]: [u16; 3]) -> String {
    let modules = "org.apache.kafka.common.security";
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secured},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secured}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password={PASSWORD}
log.dirs={}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1000
controller.quorum.election.timeout.ms=300
controller.quorum.fetch.timeout.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
num.network.threads=2
num.io.threads=2
",
        folder.join(KEYSTORE).display(),
        folder.join("data").display(),
    )
}
