//! Starts the controllers and ends them.
//!
//! Why here: the one place that knows them all. Route in: `sheaf-agent run`. Route out: when SIGTERM comes every
//! controller returns; when one fails the agent ends with its error and systemd starts it again.

use crate::channels::{self, Context, Publish};
use crate::paths::Paths;
use crate::{cluster, status};
use anyhow::{Context as _, anyhow};
use sheaf_config::node::NodeConfig;
use std::future::Future;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long controllers may take to return: less than systemd's TimeoutStopSec of the unit.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// The controllers that run.
#[derive(Default)]
struct Controllers(JoinSet<(&'static str, anyhow::Result<()>)>);

impl Controllers {
    fn start(&mut self, name: &'static str, run: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.spawn(async move { (name, run.await) });
    }

    /// Waits for a controller to end; `Ok` when it may.
    async fn ended(&mut self) -> anyhow::Result<&'static str> {
        match self.0.join_next().await {
            None => std::future::pending().await,
            Some(Ok((name, Ok(())))) => Ok(name),
            Some(Ok((name, Err(error)))) => Err(error.context(format!("controller {name} failed"))),
            Some(Err(error)) => Err(anyhow!(error).context("a controller panicked")),
        }
    }
}

/// Runs the agent of the node whose files are `paths`, until SIGTERM or SIGINT.
pub async fn run(paths: Paths, config: NodeConfig) -> anyhow::Result<()> {
    let (ctx, publish) = channels::open(paths, config);
    describe(&ctx);
    let Publish {
        config: _config,
        cluster: joined,
        hypervisor: _hypervisor,
        network: _network,
        images: _images,
        shutdown,
    } = publish;

    let mut controllers = Controllers::default();
    let (path, status, end) = (ctx.paths.status_json(), ctx.status.subscribe(), ctx.shutdown.clone());
    controllers.start("status", async move { status::keep_written(&path, status, end).await });
    controllers.start("cluster", cluster::run(ctx.clone(), joined));

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can not be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can not be caught")?;
    let first = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = controllers.ended() => ended.and_then(|name| Err(anyhow!("controller {name} returned early"))),
    };
    shutdown.send_replace(true);
    let all = async {
        while !controllers.0.is_empty() {
            if let Err(error) = controllers.ended().await {
                tracing::warn!("while ending: {error:#}");
            }
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIME, all).await.is_err() {
        tracing::warn!("controllers still run after {} s; leaving them", SHUTDOWN_TIME.as_secs());
    }
    first
}

/// Fills the sections that do not change while the agent runs.
fn describe(ctx: &Context) {
    let name = ctx.config.borrow().system.hostname.clone();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let boot = read(&ctx.paths.boot_env());
    let release = read(&ctx.paths.etc.join("os-release"));
    let boot_id = read("/proc/sys/kernel/random/boot_id".as_ref()).trim().to_owned();
    ctx.status.update(|status| {
        status.node.name = name;
        status.node.version = variable(&release, "IMAGE_VERSION").unwrap_or_default();
        status.boot.slot = variable(&boot, "SLOT").unwrap_or_default();
        status.boot.disk = variable(&boot, "BOOT_DISK").unwrap_or_default();
        status.boot.boot_id = boot_id;
    });
}

/// Value of `name` in a file of `NAME=value` lines.
fn variable(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}
