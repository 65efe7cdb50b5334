//! Starts the controllers and ends them.
//!
//! Why here: the one place that knows them all. Route in: `sheaf-agent run`. Route out: when SIGTERM comes every
//! controller returns; when one fails the agent ends with its error and systemd starts it again.

use crate::channels::{self, Context, Publish};
use crate::config::Effective;
use crate::paths::Paths;
use crate::vms::domain_xml::DomainType;
use crate::{cluster, dhcp, disks, images, network, objects, pools, status, vms, volumes};
use anyhow::{Context as _, anyhow};
use sheaf_config::diagnose::Errors;
use sheaf_host::alive;
use sheaf_host::fetch::{Http, Settings};
use sheaf_host::libvirt::{Libvirt, QEMU_LOGS};
use sheaf_host::links::Kernel;
use sheaf_host::lvm::{Lvm, Lvm2};
use sheaf_host::nft::Nft;
use sheaf_host::run::System;
use sheaf_host::systemd::{Systemd, notify};
use sheaf_host::trust::Trust;
use sheaf_host::udev::Udev;
use sheaf_host::{alarm, call, networkd, reach, segment};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
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
pub async fn run(paths: Paths, effective: Effective) -> anyhow::Result<()> {
    let units =
        Systemd::connect().await.context("the system bus can not be reached; is dbus.socket running?")?;
    let hosts = cluster::Hosts { run: Arc::new(System), units: Arc::new(units) };
    let _alive = alive::declare(&paths.alive()).context("the agent can not declare itself alive")?;
    let (ctx, publish) = channels::open(paths, effective.config);
    describe(&ctx, effective.problem);
    let Publish {
        config: _config,
        cluster: joined,
        hypervisor,
        leases,
        network,
        images,
        disks: found,
        pools: made,
        volumes,
        shutdown,
    } = publish;

    let mut controllers = Controllers::default();
    let (path, status, end) = (ctx.paths.status_json(), ctx.status.subscribe(), ctx.shutdown.clone());
    controllers.start("status", async move { status::keep_written(&path, status, end).await });
    controllers.start("network", network::run(ctx.clone(), network, Arc::new(Kernel::default())));
    let desk = objects::Kube::new(ctx.cluster.clone());
    controllers
        .start("policies", network::policies::run(ctx.clone(), desk, trials(ctx.paths.clone()).await?));
    controllers.start("images", images::run(ctx.clone(), images, Arc::new(http(&ctx))));
    // One LVM for all: `pools` tells it which devices a group has.
    let lvm: Arc<dyn Lvm> = Arc::new(Lvm2::new(Arc::new(System)));
    let look = Arc::new(Notify::new());
    let disk_hosts =
        disks::Hosts { run: Arc::new(System), lvm: lvm.clone(), news: Arc::new(Udev), root: "/".into() };
    controllers.start("disks", disks::run(ctx.clone(), found, disk_hosts, look.clone()));
    let volume_hosts = volumes::Hosts {
        uploads: Arc::default(),
        lvm: lvm.clone(),
        fetch: Arc::new(http(&ctx)),
        run: Arc::new(System),
        devices: "/dev".into(),
    };
    controllers.start("volumes", volumes::run(ctx.clone(), volumes, volume_hosts));
    controllers.start("pools", pools::run(ctx.clone(), made, pools::Hosts { lvm, look }));
    let libvirt = Libvirt::connect(QEMU_LOGS.into()).await.context("the system bus can not be reached")?;
    let vm_hosts = vms::Hosts {
        vms: Arc::new(libvirt),
        run: Arc::new(System),
        filter: Arc::new(Nft::default()),
        segments: Arc::new(segment::Kernel::default()),
        domain_type: DomainType::from_environment()?,
    };
    controllers.start("vms", vms::run(ctx.clone(), hypervisor, leases, vm_hosts));
    controllers.start("dhcp", dhcp::run(ctx.clone(), Arc::new(sheaf_host::dhcp::Kernel)));
    controllers.start("cluster", cluster::run(ctx.clone(), joined, hosts));

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can not be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can not be caught")?;
    notify("READY=1")?;
    let first = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = controllers.ended() => ended.and_then(|name| Err(anyhow!("controller {name} returned early"))),
    };
    notify("STOPPING=1")?;
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

/// What changes the links of this machine, whose files are `paths`.
pub async fn trials(paths: Arc<Paths>) -> anyhow::Result<network::trial::Trials> {
    let bus = "the system bus can not be reached; is dbus.socket running?";
    let hosts = network::trial::Hosts {
        links: Arc::new(Kernel::default()),
        networkd: Arc::new(networkd::System::connect().await.context(bus)?),
        alarm: Arc::new(alarm::Systemd::connect().await.context(bus)?),
        run: Arc::new(System),
        reach: Arc::new(reach::System::default()),
        call: Arc::new(call::Http),
    };
    Ok(network::trial::Trials { paths, hosts, patience: Default::default() })
}

/// How this node fetches files: by the proxy of its config, trusting the image's authorities and those of the config,
/// which `sheaf-agent configure` put beside them.
fn http(ctx: &Context) -> Http {
    let config = ctx.config.borrow();
    let proxy = config.network.proxy.clone().unwrap_or_default();
    let reveal = |secret: Option<sheaf_config::node::Secret>| secret.map(|secret| secret.reveal().to_owned());
    let trust = std::fs::read_to_string(ctx.paths.authorities()).map_or(Trust::Public, Trust::Authorities);
    let settings = Settings {
        http_proxy: reveal(proxy.http),
        https_proxy: reveal(proxy.https),
        no_proxy: proxy.no_proxy,
        trust,
    };
    // An image without authorities trusts those that are built in.
    let built_in = Settings { trust: Trust::Public, ..settings.clone() };
    Http::new(settings).or_else(|_| Http::new(built_in)).unwrap_or_default()
}

/// Fills the sections that do not change while the agent runs.
fn describe(ctx: &Context, config_problem: Option<Errors>) {
    let name = ctx.config.borrow().system.hostname.clone();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let boot = read(&ctx.paths.boot_env());
    let release = read(&ctx.paths.etc.join("os-release"));
    let boot_id = read("/proc/sys/kernel/random/boot_id".as_ref()).trim().to_owned();
    // Written by the initrd when the state partition is not what this boot runs on.
    let degraded = read(&ctx.paths.run.join("state-degraded"));
    // /proc, /usr and /etc of the machine itself.
    let root = ctx.paths.etc.parent().unwrap_or(std::path::Path::new("/"));
    let notes = crate::config::notes(&ctx.paths, &ctx.config.borrow(), root);
    for note in &notes {
        tracing::warn!("node.toml: not done: {note}");
    }
    let degraded =
        (!degraded.is_empty()).then(|| format!("state partition: {}; nothing is kept", degraded.trim()));
    let problem = config_problem.map(|problem| problem.to_string()).or(degraded);
    ctx.status.update(|status| {
        status.node.problem = problem;
        status.node.notes = notes;
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
