//! `catena serve`: receivers, upkeep and answers in one process, or some of them by role.

use super::ingest::chosen;
use super::maintain::upkeep;
use super::{flush_settings, key_files, mappings, now, open_engine, open_lake, watch};
use crate::args::{Role, Serve};
use crate::config::{Config, Start, parse_format};
use anyhow::{Context, Result};
use axum::Router;
use catena_collect::intake::{self, Intake};
use catena_collect::lake::Lake;
use catena_collect::metrics::Metrics;
use catena_collect::receive::Keeper;
use catena_collect::receive::file::{self, Job};
use catena_collect::receive::http::{self, Auth, Bodies, Receiver};
use catena_collect::receive::intake::Drain;
use catena_collect::receive::kafka::registry::Registry;
use catena_collect::receive::kafka::{self, Kafka};
use catena_collect::receive::syslog::{self, Syslog};
use catena_collect::worker;
use catena_server::{Access, Settings};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) fn run(runtime: &tokio::runtime::Runtime, config: Config, args: &Serve) -> Result<ExitCode> {
    runtime.block_on(async {
        let mut service = Service::start(&config, &args.role).await?;
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
        let auth = auth(config)?;
        auth.check_listener(config.listen)?;
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("could not listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let cancel = CancellationToken::new();
        let lake = open_lake(config).await?;
        let metrics = Arc::new(Metrics::default());
        let mut router = Router::new();
        let mut collector = None;
        if roles.contains(&Role::Collect) {
            let (routes, running) = Collector::start(config, &lake, auth.clone(), &metrics, &cancel).await?;
            router = router.merge(routes);
            collector = Some(running);
        }
        if roles.contains(&Role::Answer) {
            router = router.merge(answers(open_engine(config).await?, config));
        }
        let upkeep = roles.contains(&Role::Maintain).then(|| {
            let (upkeep, cancel) = (upkeep(lake.clone(), config, None).counting(metrics.clone()), cancel.clone());
            let every = std::time::Duration::from_secs(config.maintain.every_s);
            tokio::spawn(async move { upkeep.run(every, cancel).await })
        });
        let watch = if roles.contains(&Role::Watch) {
            let engine = open_engine(config).await?;
            let settings = catena_analysis::chain::Settings::default();
            Some(tokio::spawn(watch::run(lake.clone(), engine, settings, cancel.clone())))
        } else {
            None
        };
        let limits = http::Limits { connections_max: config.http.connections_max, ..http::Limits::default() };
        let server = tokio::spawn(http::serve(listener, router, limits, cancel.clone()));
        Ok(Service { address, cancel, server, upkeep, watch, collector })
    }

    /// Stops receiving, flushes and commits what was received, then ends.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.cancel.cancel();
        (&mut self.server).await??;
        if let Some(upkeep) = &mut self.upkeep {
            upkeep.await?;
        }
        if let Some(watch) = &mut self.watch {
            watch.await?;
        }
        if let Some(collector) = self.collector.take() {
            collector.stop().await?;
        }
        Ok(())
    }
}

impl Collector {
    async fn start(
        config: &Config,
        lake: &Arc<Lake>,
        auth: Auth,
        metrics: &Arc<Metrics>,
        cancel: &CancellationToken,
    ) -> Result<(Router, Collector)> {
        let runtime = tokio::runtime::Handle::current();
        let settings = worker::Settings { collector: config.kafka.instance.clone(), ..flush_settings(config)? };
        let mut routes = Router::new();
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
            let bodies = Bodies {
                unpacked_bytes_max: config.http.body_bytes_max,
                records_max: config.http.body_records_max,
                ..Bodies::default()
            };
            let keeper = Arc::new(Keeper::new(intake, lake.secret(), &settings, now));
            let receiver = Receiver::new(keeper.clone(), auth, bodies, metrics.clone()).check(draining.check());
            routes = http::router(Arc::new(receiver));
            drain = Some(draining);
            if let Some(settings) = syslog_settings(config)? {
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
            followers.push(std::thread::Builder::new().name(format!("follow {}", path.display())).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(e) = file::follow(&lake, &runtime, &path, &job, &stop, &|_| {}) {
                        tracing::error!(path = %path.display(), error = &e as &dyn std::error::Error, "following failed, trying again");
                        std::thread::sleep(std::time::Duration::from_secs(1));
                    }
                }
            })?);
        }
        Ok((routes, Collector { drain, syslog, kafka, followers, stop }))
    }

    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(syslog) = self.syslog {
            syslog.await?;
        }
        if let Some(drain) = self.drain {
            drain.stop().await;
        }
        tokio::task::spawn_blocking(move || {
            if let Some(kafka) = self.kafka {
                kafka.stop()?;
            }
            for follower in self.followers {
                let _ = follower.join();
            }
            anyhow::Ok(())
        })
        .await?
    }
}

/// Questions over HTTP: with keys each sees its tenant; without, only this machine may ask.
fn answers(engine: catena_engine::Engine, config: &Config) -> Router {
    let keys = config.http.keys.iter().filter_map(|key| {
        let mut digest = [0; 32];
        hex::decode_to_slice(&key.sha256, &mut digest).ok().map(|()| (digest, key.tenant.clone()))
    });
    let keys: std::collections::HashMap<_, _> = keys.collect();
    let open = keys.is_empty();
    let limits = catena_engine::Limits {
        rows: config.query.rows_max as u64,
        memory: config.query.memory_bytes,
        time: std::time::Duration::from_secs(config.query.seconds_max),
        ..catena_engine::Limits::default()
    };
    let access = if open { Access::Open } else { Access::Keys(keys) };
    let routes = catena_server::router(engine, Settings { access, limits, ..Settings::default() });
    if open { http::loopback_only(routes) } else { routes }
}

fn syslog_settings(config: &Config) -> Result<Option<syslog::Settings>> {
    let given = &config.syslog;
    if given.listen.is_empty() {
        return Ok(None);
    }
    let listen = given.listen.parse().with_context(|| format!("`syslog.listen` is no address: `{}`", given.listen))?;
    Ok(Some(syslog::Settings {
        listen,
        certificate: given.certificate.clone(),
        key: given.key.clone(),
        clients: (!given.clients.as_os_str().is_empty()).then(|| given.clients.clone()),
        format: parse_format(&given.format)?,
        tenant: if given.tenant.is_empty() { config.tenant.clone() } else { given.tenant.clone() },
    }))
}

fn auth(config: &Config) -> Result<Auth> {
    let keys: Vec<http::Key> =
        config.http.keys.iter().map(|k| http::Key { sha256: k.sha256.clone(), tenant: k.tenant.clone() }).collect();
    Ok(Auth::new(&keys, &config.tenant)?)
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
        ..kafka::Settings::default()
    })
}
