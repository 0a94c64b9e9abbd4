//! `catena serve`: receivers, upkeep and answers in one process, or some of them by role.

mod doors;
mod stopping;

pub(crate) use doors::check;

use super::ingest::chosen;
use super::maintain::upkeep;
use super::{flush_settings, key_files, mappings, now, open_engine_or_wait, open_lake, watch};
use crate::args::{Role, Serve};
use crate::config::{Config, Start, parse_format};
use anyhow::{Context, Result, bail};
use axum::Router;
use catena_collect::intake::{self, Intake};
use catena_collect::lake::Lake;
use catena_collect::metrics::Metrics;
use catena_collect::receive::Keeper;
use catena_collect::receive::file::{self, Job};
use catena_collect::receive::http::{self, Auth, Health, Receiver};
use catena_collect::receive::intake::Drain;
use catena_collect::receive::kafka::registry::Registry;
use catena_collect::receive::kafka::{self, Kafka};
use catena_collect::receive::syslog::Syslog;
use catena_collect::{metrics, worker};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use stopping::Stopping;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Time for what came over HTTP and syslog to be kept, of the time for all.
const RECEIVING_MAX: Duration = Duration::from_secs(6);
/// Time for everything to stop: a supervisor that waits 10 s sees the process end by itself.
const STOP_MAX: Duration = Duration::from_secs(9);

pub(crate) fn run(runtime: &tokio::runtime::Runtime, config: Config, args: &Serve) -> Result<ExitCode> {
    runtime.block_on(async {
        let service = Service::start(&config, &args.role).await?;
        eprintln!("catena {} on http://{}, lake {}", env!("CARGO_PKG_VERSION"), service.address, config.lake);
        stopped().await;
        eprintln!("stopping: flushing what was received");
        service.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Resolves on SIGINT or SIGTERM.
pub(crate) async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    cancel: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    upkeep: Option<tokio::task::JoinHandle<()>>,
    watch: Option<tokio::task::JoinHandle<()>>,
    collector: Option<Collector>,
}

/// The receiving half: what has to be flushed before the process may end.
struct Collector {
    drain: Option<Drain>,
    /// Ends with the server, before the log that it writes to is drained.
    syslog: Option<tokio::task::JoinHandle<()>>,
    kafka: Option<Kafka>,
    followers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Service {
    pub(crate) async fn start(config: &Config, roles: &[Role]) -> Result<Service> {
        key_files::check(config)?;
        let auth = doors::auth(config)?;
        auth.check_listener(config.listen)?;
        doors::warn_of_old_keys(config);
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("could not listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let cancel = CancellationToken::new();
        let lake = open_lake(config).await?;
        let metrics = Arc::new(Metrics::default());
        let (mut router, mut collector, mut health) = (None, None, Health::default());
        let mut answers = None;
        if roles.contains(&Role::Answer) {
            let engine = open_engine_or_wait(config).await?;
            health = doors::health_of(&engine);
            answers = Some(doors::answers(engine, config));
        }
        if roles.contains(&Role::Collect) {
            let (routes, running) =
                Collector::start(config, &lake, auth.clone(), health.clone(), &metrics, &cancel).await?;
            router = routes;
            collector = Some(running);
        }
        let router = router.unwrap_or_else(|| http::health_router(health)).merge(answers.unwrap_or_default());
        let upkeep = roles.contains(&Role::Maintain).then(|| {
            let (upkeep, cancel) = (upkeep(lake.clone(), config, None).counting(metrics.clone()), cancel.clone());
            let every = Duration::from_secs(config.maintain.every_s);
            tokio::spawn(async move { upkeep.run(every, cancel).await })
        });
        let watch = if roles.contains(&Role::Watch) {
            let engine = open_engine_or_wait(config).await?;
            let settings = catena_analysis::chain::Settings::default();
            Some(tokio::spawn(watch::run(lake.clone(), engine, settings, cancel.clone())))
        } else {
            None
        };
        let server = tokio::spawn(http::serve(listener, router, doors::limits(config), cancel.clone()));
        Ok(Service { address, cancel, server, upkeep, watch, collector })
    }

    /// Stops receiving, flushes and commits what was received, then ends: all parts at the same time, so that none waits
    /// for another that hangs. A part that does not end within the limit is given up, and named in the error; nothing
    /// that was acknowledged is lost by that, since the next start reads it again.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.cancel.cancel();
        let mut stopping = Stopping::new(STOP_MAX);
        let server = async move { Ok(self.server.await??) };
        match self.collector.take() {
            Some(collector) => collector.stop(&mut stopping, server),
            None => stopping.part("HTTP", server),
        }
        if let Some(upkeep) = self.upkeep {
            stopping.part("upkeep", async move { Ok(upkeep.await?) });
        }
        if let Some(watch) = self.watch {
            stopping.part("the role watch", async move { Ok(watch.await?) });
        }
        let failed = stopping.ended().await;
        if !failed.is_empty() {
            bail!("stopped, but not cleanly: {}", failed.join("; "));
        }
        Ok(())
    }
}

impl Collector {
    async fn start(
        config: &Config,
        lake: &Arc<Lake>,
        auth: Auth,
        health: Health,
        metrics: &Arc<Metrics>,
        cancel: &CancellationToken,
    ) -> Result<(Option<Router>, Collector)> {
        let runtime = tokio::runtime::Handle::current();
        let settings = worker::Settings { collector: config.kafka.instance.clone(), ..flush_settings(config)? };
        let mut routes = None;
        let (mut drain, mut syslog) = (None, None);
        // A lake in an object store has no folder of its own for the intake log: HTTP needs `intake.dir` then.
        if !config.intake.dir.as_os_str().is_empty() {
            let limits = intake::Settings {
                partitions: config.intake.partitions,
                bytes_max: config.intake.bytes_max,
                ..intake::Settings::default()
            };
            let intake = Intake::open(&config.intake.dir, limits)?;
            metrics.watch_intake(&intake);
            let draining = Drain::start(&intake, lake, &settings, metrics, 2, &runtime)?;
            let keeper = Arc::new(Keeper::new(intake, lake.secret(), &settings, now));
            let receiver = Receiver::new(keeper.clone(), auth, doors::bodies(config), metrics.clone());
            let receiver = receiver.check(draining.check()).health(health);
            routes = Some(http::router(Arc::new(receiver)));
            drain = Some(draining);
            if let Some(settings) = doors::syslog(config)? {
                let listening = Syslog::bind(settings, keeper).await?;
                tracing::info!(address = %listening.address()?, "listening for syslog over TLS");
                syslog = Some(tokio::spawn(listening.serve(cancel.clone())));
            }
        }
        let kafka = match config.kafka.brokers.as_str() {
            "" => None,
            _ => Some(Kafka::start(lake.clone(), kafka_settings(config)?, settings.clone(), metrics, runtime.clone())?),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut followers = Vec::new();
        for followed in &config.files.follow {
            let job = Job {
                format: parse_format(&followed.format)?,
                tenant: followed.tenant.clone(),
                threads: 1,
                settings: worker::Settings { report: metrics.report("file"), ..settings.clone() },
                follow_symlinks: followed.follow_symlinks,
                now,
            };
            let (lake, runtime, stop, path) = (lake.clone(), runtime.clone(), stop.clone(), followed.path.clone());
            let label = metrics::topic_label(&format!("file:{}", path.display()));
            tracing::info!(path = %path.display(), topic = label, "following a file; its figures have this topic");
            followers.push(std::thread::Builder::new().name(format!("follow {}", path.display())).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(e) = file::follow(&lake, &runtime, &path, &job, &stop, &|_| {}) {
                        tracing::error!(path = %path.display(), error = &e as &dyn std::error::Error, "following failed, trying again");
                        std::thread::sleep(Duration::from_secs(1));
                    }
                }
            })?);
        }
        Ok((routes, Collector { drain, syslog, kafka, followers, stop }))
    }

    /// Adds its parts to those that stop. The log is drained when nothing more comes into it, or after a while anyway.
    fn stop(self, stopping: &mut Stopping, server: impl Future<Output = Result<()>> + Send + 'static) {
        self.stop.store(true, Ordering::Relaxed);
        let Collector { drain, syslog, kafka, followers, .. } = self;
        stopping.part("HTTP, syslog and the intake log", async move {
            let receiving = async {
                let syslog =
                    async { if let Some(syslog) = syslog { syslog.await.map_err(Into::into) } else { Ok(()) } };
                let (server, syslog) = tokio::join!(server, syslog);
                server.and(syslog)
            };
            let received = tokio::time::timeout(RECEIVING_MAX, receiving).await;
            if let Some(drain) = drain {
                drain.stop().await;
            }
            received.context("receivers did not end in time")?
        });
        if let Some(kafka) = kafka {
            stopping.blocking_part("Kafka", move || Ok(kafka.stop()?));
        }
        for follower in followers {
            stopping.blocking_part("a followed file", move || {
                // It panicked: that was reported when it happened.
                let _ = follower.join();
                Ok(())
            });
        }
    }
}

fn registry(url: &str) -> Result<Arc<Registry>> {
    let parsed = url.parse().with_context(|| format!("`{url}` is no address of a schema registry"))?;
    Ok(Arc::new(Registry::new(parsed)?))
}

fn kafka_settings(config: &Config) -> Result<kafka::Settings> {
    let mappings = mappings(config)?;
    let topics = config.kafka.topics.iter().map(|t| {
        Ok(kafka::Topic {
            name: t.name.clone(),
            format: parse_format(&t.format)?,
            tenant: t.tenant.clone(),
            epoch: config.kafka.epoch,
            registry: t.registry.as_deref().map(registry).transpose()?,
            mappings: t.mapping.as_deref().map(|m| chosen(&mappings, m).map(Arc::new)).transpose()?,
        })
    });
    Ok(kafka::Settings {
        brokers: config.kafka.brokers.clone(),
        group: config.kafka.group.clone(),
        instance: config.kafka.instance.clone(),
        topics: topics.collect::<Result<_>>()?,
        first: match config.kafka.start {
            Start::Earliest => kafka::First::Earliest,
            Start::Latest => kafka::First::Latest,
        },
        consumers: config.kafka.workers,
        buffer_bytes: config.kafka.memory_bytes / config.kafka.workers.max(1),
        properties: config.kafka.properties.clone(),
        stop_wait: STOP_MAX - Duration::from_secs(1),
        ..kafka::Settings::default()
    })
}
