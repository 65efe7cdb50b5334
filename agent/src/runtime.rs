//! Starts the controllers and ends them.
//!
//! Why here: the one place that knows them all. Route in: `sheaf-agent run`. Route out: when SIGTERM comes every
//! controller returns; when one fails the agent ends with its error and systemd starts it again.

use crate::api_server::Kube;
use crate::channels::{self, Context, Publish};
use crate::config::Effective;
use crate::listed::Listed;
use crate::paths::Paths;
use crate::reconcile::Shutdown;
use crate::status::{BootSection, NodeSection, Section, Sections, Status};
use crate::vms::domain_xml::DomainType;
use crate::{
    administrators, boots, certificates, claim, cluster, container_disks, dhcp, disks, etcd, health,
    identity_provider, images, network, node_api, pools, power, shared_keys, update, vip, vms, volumes,
    without_lease,
};
use anyhow::{Context as _, anyhow};
use sheaf_config::diagnose::Errors;
use sheaf_host::alive;
use sheaf_host::disk::RawDisk;
use sheaf_host::disks::Programs;
use sheaf_host::esp::Folder;
use sheaf_host::fetch::{Http, Settings};
use sheaf_host::libvirt::{self, Libvirt, QEMU_LOGS};
use sheaf_host::links::Kernel;
use sheaf_host::lvm::{Lvm, Lvm2};
use sheaf_host::nft::Nft;
use sheaf_host::notify::{Notify as _, ServiceManager};
use sheaf_host::run::System;
use sheaf_host::systemd::Systemd;
use sheaf_host::transient::SystemdRun;
use sheaf_host::trust::Trust;
use sheaf_host::udev::Udev;
use sheaf_host::{alarm, call, cpus, networkd, pci, reach, segment, virtual_address, watchdog};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// The public key of releases, in the image.
const RELEASE_KEY: &str = "/usr/share/sheaf/release.pub";
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
        Systemd::connect().await.context("the system bus cannot be reached; is dbus.socket running?")?;
    let hosts = cluster::Hosts { run: Arc::new(System), units: Arc::new(units) };
    let _alive = alive::declare(&paths.alive()).context("the agent cannot register as running")?;
    let (ctx, publish) = channels::open(paths, effective.config);
    let Publish {
        config: _config,
        cluster: joined,
        lease,
        hypervisor,
        leases,
        network,
        images,
        container_disks: pulled,
        disks: found,
        pools: made,
        volumes,
        etcd: etcd_state,
        certificates: certificate_state,
        health: able,
        api_port,
        leaving,
        shutting_down,
        shutdown,
        sections,
    } = publish;
    let Sections {
        node,
        boot,
        network: links_section,
        policies,
        cluster: cluster_section,
        vms: vm_section,
        vm_ports,
        images: image_section,
        volumes: volume_section,
        disks: disk_section,
        pools: pool_section,
        update: update_section,
        power: power_section,
        etcd: etcd_section,
        vip: vip_section,
        console: console_section,
    } = sections;
    describe(&ctx, &node, &boot, effective.problem);

    let mut controllers = Controllers::default();
    let (path, status, end) = (ctx.paths.status_json(), ctx.status.subscribe(), ctx.shutdown.clone());
    controllers.start("status", keep_status_written(path, status, end));
    let limits = health::Limits::default();
    controllers.start("health", health::run(ctx.clone(), able, limits, Arc::new(ServiceManager)));
    controllers
        .start("network", network::run(ctx.clone(), network, links_section, Arc::new(Kernel::default())));
    let kube = Kube::new(ctx.cluster.clone());
    let trials = trials(ctx.paths.clone()).await?;
    controllers.start("policies", network::policies::run(ctx.clone(), policies, kube, trials));
    controllers.start("images", images::run(ctx.clone(), images, image_section, Arc::new(http(&ctx))));
    // One LVM for all: `pools` tells it which devices a group has.
    let lvm: Arc<dyn Lvm> = Arc::new(Lvm2::new(Arc::new(System), Arc::new(SystemdRun(Arc::new(System)))));
    let scan = Arc::new(Notify::new());
    let disk_hosts = disks::Hosts {
        disks: Arc::new(Programs(Arc::new(System))),
        lvm: lvm.clone(),
        news: Arc::new(Udev),
        root: "/".into(),
    };
    controllers.start("disks", disks::run(ctx.clone(), found, disk_section, disk_hosts, scan.clone()));
    let folder = ctx.paths.data.join("container-disks");
    let kept = Arc::new(container_disks::Images::new(folder, Arc::new(http(&ctx)), ctx.config.clone()));
    let volume_hosts = volumes::Hosts {
        uploads: Arc::default(),
        lvm: lvm.clone(),
        fetch: Arc::new(http(&ctx)),
        images: kept.clone(),
        units: Arc::new(SystemdRun(Arc::new(System))),
        devices: "/dev".into(),
    };
    // Imports and pulls of images are judged by the same policy.
    let policies = Arc::new(watch::Sender::new(Listed::default()));
    controllers.start("policy", volumes::fill::policy::follow(ctx.clone(), policies.clone()));
    let volumes_run = volumes::run(ctx.clone(), volumes, volume_section, volume_hosts, policies.subscribe());
    controllers.start("volumes", volumes_run);
    controllers.start("pools", pools::run(ctx.clone(), made, pool_section, pools::Hosts { lvm, scan }));
    let libvirt = Libvirt::connect(QEMU_LOGS.into(), ctx.paths.run_root.join(libvirt::SOCKET))
        .await
        .context("the system bus cannot be reached")?;
    let libvirt = Arc::new(libvirt);
    let pods = Arc::new(watch::Sender::new(Listed::default()));
    let lists = container_disks::Lists { pods: pods.subscribe(), policies: policies.subscribe() };
    let pulls = container_disks::run(ctx.clone(), lists, pulled, kept);
    controllers.start("container-disks", pulls);
    let api_hosts = node_api::Hosts {
        vms: libvirt.clone(),
        pods: pods.clone(),
        run: Arc::new(System),
        port: sheaf_api::names::NODE_API_PORT,
    };
    controllers.start("api", node_api::run(ctx.clone(), api_port, api_hosts));
    let update_hosts = update::Hosts {
        vms: libvirt.clone(),
        units: hosts.units.clone(),
        run: hosts.run.clone(),
        esp: Arc::new(Folder::new(ctx.paths.esp())),
        open: Arc::new(|path| Ok(Box::new(RawDisk::open(path)?))),
        fetch: Arc::new(http(&ctx)),
        devices: "/dev/disk/by-partuuid".into(),
        labels: "/dev/disk/by-label".into(),
        drive: ctx.paths.drive(),
        key: RELEASE_KEY.into(),
        is_uefi: Path::new("/sys/firmware/efi").exists(),
    };
    controllers.start("update", update::run(ctx.clone(), leaving, update_section, update_hosts));
    controllers.start("boots", boots::run(ctx.clone()));
    controllers.start("demotions", cluster::planes::demotions::run(ctx.clone(), hosts.clone()));
    let etcd_hosts = etcd::Hosts { run: Arc::new(System) };
    controllers.start("etcd", etcd::run(ctx.clone(), etcd_state, etcd_section, etcd_hosts));
    let vip_hosts = vip::Hosts {
        segments: Arc::new(segment::Kernel::default()),
        addresses: Arc::new(virtual_address::Kernel),
    };
    controllers.start("vip", vip::run(ctx.clone(), vip_section, vip_hosts));
    controllers.start("certificates", certificates::run(ctx.clone(), certificate_state));
    for kind in shared_keys::Kind::ALL {
        controllers.start(kind.document(), shared_keys::run(kind, ctx.clone(), hosts.clone()));
    }
    controllers.start("administrators", administrators::run(ctx.clone()));
    controllers.start("identity-provider", identity_provider::run(ctx.clone()));
    controllers.start("claim", claim::run(ctx.clone(), console_section));
    let power_hosts = power::Hosts { units: hosts.units.clone(), vms: libvirt.clone() };
    controllers
        .start("power", power::run(ctx.clone(), pods.subscribe(), shutting_down, power_section, power_hosts));
    let vm_hosts = vms::Hosts {
        vms: libvirt,
        run: Arc::new(System),
        filter: Arc::new(Nft::default()),
        segments: Arc::new(segment::Kernel::default()),
        cpus: Arc::new(cpus::Sysfs::default()),
        pci: Arc::new(pci::Sysfs::default()),
        domain_type: DomainType::from_environment()?,
    };
    let vm_sections = vms::Sections { vms: vm_section, ports: vm_ports };
    let no_bus = "the system bus cannot be reached";
    let without_hosts = without_lease::Hosts {
        alarm: Arc::new(alarm::Systemd::connect().await.context(no_bus)?),
        watchdog: Arc::new(watchdog::Systemd::connect().await.context(no_bus)?),
    };
    let without = without_lease::run(ctx.clone(), pods.subscribe(), without_hosts);
    controllers.start("without-lease", without);
    controllers.start("vms", vms::run(ctx.clone(), pods, hypervisor, leases, vm_sections, vm_hosts));
    controllers.start("dhcp", dhcp::run(ctx.clone(), Arc::new(sheaf_host::dhcp::Kernel)));
    controllers.start(
        "cluster",
        cluster::run(ctx.clone(), cluster::Publish { joined, lease }, cluster_section, hosts),
    );

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    ServiceManager.notify("READY=1")?;
    let first = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = controllers.ended() => ended.and_then(|name| Err(anyhow!("controller {name} returned early"))),
    };
    ServiceManager.notify("STOPPING=1")?;
    shutdown.send_replace(true);
    let all = async {
        while !controllers.0.is_empty() {
            if let Err(error) = controllers.ended().await {
                tracing::warn!("while shutting down: {error:#}");
            }
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIME, all).await.is_err() {
        tracing::warn!("controllers are still running after {} s; exiting", SHUTDOWN_TIME.as_secs());
    }
    first
}

/// Keeps the file `path` equal to the status until shutdown. What cannot be written now (no space on `/run`) is logged,
/// and written with the next change.
async fn keep_status_written(
    path: PathBuf,
    mut status: watch::Receiver<Status>,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let json = serde_json::to_vec_pretty(&*status.borrow_and_update())?;
        if let Err(error) = sheaf_host::file::write_atomically(&path, &json, 0o644) {
            tracing::error!(
                "{}: cannot be written: {error}; the status page is not up to date",
                path.display()
            );
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return Ok(()) },
            () = shutdown.requested() => return Ok(()),
        }
    }
}

/// What changes the links of this machine, whose files are `paths`.
pub async fn trials(paths: Arc<Paths>) -> anyhow::Result<network::trial::Trials> {
    let bus = "the system bus cannot be reached; is dbus.socket running?";
    let hosts = network::trial::Hosts {
        links: Arc::new(Kernel::default()),
        networkd: Arc::new(networkd::System::connect().await.context(bus)?),
        alarm: Arc::new(alarm::Systemd::connect().await.context(bus)?),
        run: Arc::new(System),
        reach: Arc::new(reach::System::default()),
        call: Arc::new(call::Http),
    };
    Ok(network::trial::Trials { paths, hosts, timeouts: Default::default() })
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
fn describe(
    ctx: &Context,
    node: &Section<NodeSection>,
    boot: &Section<BootSection>,
    config_problem: Option<Errors>,
) {
    let name = ctx.config.borrow().system.hostname.clone();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let env = read(&ctx.paths.boot_env());
    let release = read(&ctx.paths.etc.join("os-release"));
    let boot_id = read("/proc/sys/kernel/random/boot_id".as_ref()).trim().to_owned();
    // Written by the initrd when the state partition is not what this boot runs on.
    let degraded = read(&ctx.paths.run.join("state-degraded"));
    // /proc, /usr and /etc of the machine itself.
    let root = ctx.paths.etc.parent().unwrap_or(Path::new("/"));
    let notes = crate::config::notes(&ctx.paths, &ctx.config.borrow(), root);
    for note in &notes {
        tracing::warn!("node.toml: not applied: {note}");
    }
    let degraded = (!degraded.is_empty())
        .then(|| format!("state partition: {}; nothing is kept across a reboot", degraded.trim()));
    let problem = config_problem.map(|problem| problem.to_string()).or(degraded);
    let version = variable(&release, "IMAGE_VERSION").unwrap_or_default();
    node.set(NodeSection { name, version, problem, notes });
    boot.set(BootSection {
        slot: variable(&env, "SLOT").unwrap_or_default(),
        disk: variable(&env, "BOOT_DISK").unwrap_or_default(),
        boot_id,
    });
}

/// Value of `name` in a file of `NAME=value` lines.
fn variable(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;

    #[tokio::test]
    async fn a_status_file_that_cannot_be_written_does_not_end_the_agent_and_is_written_once_it_can() {
        let root = std::env::temp_dir().join(format!("sheaf-status-{}", std::process::id()));
        let path = root.join("run/status.json");
        // No directory can be made below a file.
        std::fs::write(&root, "").unwrap();
        let (reader, sections, _) = status::open();
        let (end, shutdown) = Shutdown::channel();
        let task = tokio::spawn(keep_status_written(path.clone(), reader.subscribe(), shutdown));
        sections.node.change(|node| node.name = "n1".into());
        tokio::task::yield_now().await;
        assert!(!task.is_finished() && !path.exists());
        std::fs::remove_file(&root).unwrap();
        sections.node.change(|node| node.version = "1".into());
        tokio::task::yield_now().await;
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"n1\""));
        end.send_replace(true);
        task.await.unwrap().unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }
}
