//! One node of a fleet: the agent's own controllers, each started as `sheaf_agent::runtime` starts it, on fakes of the machine.
//!
//! Why here: an agent of a process of its own takes 20 MiB, and a machine of its own two processors. Which controllers are
//! left out, and why:
//! - `update` writes boot loaders and partitions before it has anything to report: its watch is kept alone;
//! - `etcd`, `encryption`, `administrators`: a worker has none;
//! - `network`, `dhcp`, `power`, `images`, `container-disks`, `health`, `status`: they make no request to the API server on a node
//!   that has what it needs; what `network` publishes is set here;
//! - `api` is asked, and asks the API server only then: nobody asks here.
//!
//! Route in: a cluster, a number. Route out: a node that is Ready, and VMs on it that run in memory.

use super::Cluster;
use super::machine::Machine;
use crate::cluster::AgentNode;
use anyhow::{Context as _, Result, anyhow, bail};
use sheaf_agent::api_server::Kube;
use sheaf_agent::channels::{self, Context};
use sheaf_agent::cluster::token::{self, Grant, LIFETIME, Token};
use sheaf_agent::container_disks::Images;
use sheaf_agent::listed::{self, Listed, Scope};
use sheaf_agent::network::{policies, trial};
use sheaf_agent::status::{self, Phase, Sections};
use sheaf_agent::vms::domain_xml::DomainType;
use sheaf_agent::{certificates, cluster, disks, pools, vms, volumes};
use sheaf_api::node_update::NodeUpdate;
use sheaf_config::load::parse_node_config;
use sheaf_host::disks::Programs;
use sheaf_host::fakes::{
    FakeAlarm, FakeBlockNews, FakeCall, FakeCpus, FakeFilter, FakeNetworkd, FakePci, FakeReach, FakeSegments,
    FakeTransientUnits, FakeUnits, FakeVms,
};
use sheaf_host::fetch::{Fetch, Http};
use sheaf_host::lvm::Lvm;
use sheaf_host::run::Run;
use std::any::Any;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Longest time from an agent's start to a Ready node, on a machine that also runs the control plane.
const READY_TIME: Duration = Duration::from_secs(900);
/// Addresses of nodes: nothing listens there, and nobody asks. RFC 6598 sets 100.64.0.0/10 aside.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// What nodes need not have each for itself.
#[derive(Clone)]
pub struct Shared {
    /// Servers of images. Authorities of a real client alone take 200 KiB.
    fetch: Arc<dyn Fetch>,
    /// What each of them is on.
    machine: Machine,
}

impl Shared {
    /// Nodes on machines like this one.
    pub fn of(machine: Machine) -> Self {
        let fetch: Arc<dyn Fetch> = match machine.files.is_empty() {
            true => Arc::new(Http::default()),
            false => Arc::new(machine.servers()),
        };
        Self { fetch, machine }
    }
}

/// A node; dropped, its agent ends as after `kill -9`.
pub struct SimulatedNode {
    /// Name of its Node.
    pub name: String,
    /// Its domains.
    pub vms: Arc<FakeVms>,
    ctx: Context,
    began: Instant,
    controllers: JoinSet<(&'static str, Result<()>)>,
    /// Writing ends of channels whose controllers are not started: a channel that is closed wakes its readers all the time.
    _writers: Box<dyn Any + Send + Sync>,
    _files: AgentNode,
}

/// `fleet-0007`.
pub fn name(number: u32) -> String {
    format!("fleet-{number:04}")
}

/// The address of node `number`: each has its own, or certificates for it were refused.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(FIRST_ADDRESS) + number)
}

impl SimulatedNode {
    /// Makes a token for the node and starts its agent; the time until it is Ready counts from the latter.
    pub async fn start(to: &Cluster, number: u32, shared: &Shared) -> Result<Self> {
        let name = name(number);
        let token = Token::generate()?;
        let grant = Grant { lifetime: LIFETIME, description: "a simulated node", only_for: Some(&name) };
        token::allow(&to.admin, &token, grant).await?;
        let text = format!(
            "version = 1\n[system]\nhostname = \"{name}\"\n[cluster]\nmode = \"join\"\nserver = \"{}\"\ntoken = \"{}\"\n\
             ca-hash = \"{}\"\n",
            to.server,
            token.reveal(),
            to.ca_hash
        );
        let files = AgentNode::new(&text, &format!("{number:032x}"))?;
        let paths = files.paths();
        std::fs::create_dir_all(&paths.run).with_context(|| paths.run.display().to_string())?;
        let config = parse_node_config("node.toml", &text).map_err(|errors| anyhow!("{errors}"))?;
        let (ctx, publish) = channels::open(paths, config);
        let vms = Arc::new(FakeVms::default().obeying_the_power_button());
        let began = Instant::now();
        let mut node = Self {
            name,
            vms,
            ctx,
            began,
            controllers: JoinSet::new(),
            _writers: Box::new(()),
            _files: files,
        };
        node._writers = node.run(number, publish, shared);
        Ok(node)
    }

    /// Starts the controllers; what must be kept for them.
    fn run(
        &mut self,
        number: u32,
        publish: channels::Publish,
        shared: &Shared,
    ) -> Box<dyn Any + Send + Sync> {
        let ctx = self.ctx.clone();
        let channels::Publish {
            config,
            cluster: joined,
            lease,
            hypervisor,
            leases,
            network,
            images,
            container_disks,
            disks: found,
            pools: made,
            volumes: volumes_out,
            etcd,
            certificates: verdict,
            health,
            api_port,
            leaving,
            shutting_down,
            shutdown,
            sections,
        } = publish;
        let Sections {
            cluster: cluster_section,
            policies: policy_section,
            vms: vm_section,
            vm_ports,
            volumes: volume_section,
            disks: disk_section,
            pools: pool_section,
            ..
        } = sections;
        network.send_modify(|network| {
            network.addresses = vec![address(number).into()];
            network.bridges = shared.machine.bridges();
            network.vlan_bridges = shared.machine.vlan_bridges();
            network.time_synchronised = true;
        });

        let Shared { fetch, machine } = shared;
        let run: Arc<dyn Run> = Arc::new(machine.programs(&self.name));
        let hosts = cluster::Hosts { run: run.clone(), units: Arc::new(FakeUnits::default()) };
        self.controls(
            "cluster",
            cluster::run(ctx.clone(), cluster::Publish { joined, lease }, cluster_section, hosts),
        );
        self.controls("certificates", certificates::run(ctx.clone(), verdict));
        let trials = trial::Trials {
            paths: ctx.paths.clone(),
            hosts: trial::Hosts {
                links: Arc::new(machine.kernel()),
                networkd: Arc::new(FakeNetworkd::default()),
                alarm: Arc::new(FakeAlarm::default()),
                run: run.clone(),
                reach: Arc::new(FakeReach::default()),
                call: Arc::new(FakeCall::default()),
            },
            timeouts: Default::default(),
        };
        let kube = Kube::new(ctx.cluster.clone());
        self.controls("policies", policies::run(ctx.clone(), policy_section, kube, trials));

        let devices = self.root().join("dev");
        let lvm: Arc<dyn Lvm> = Arc::new(machine.lvm(&devices));
        let scan = Arc::new(Notify::new());
        let hosts = disks::Hosts {
            disks: Arc::new(Programs(run.clone())),
            lvm: lvm.clone(),
            news: Arc::new(FakeBlockNews::default()),
            root: self.root(),
        };
        self.controls("disks", disks::run(ctx.clone(), found, disk_section, hosts, scan.clone()));
        let hosts = volumes::Hosts {
            uploads: Arc::default(),
            lvm: lvm.clone(),
            fetch: fetch.clone(),
            images: Arc::new(Images::new(
                ctx.paths.data.join("container-disks"),
                fetch.clone(),
                ctx.config.clone(),
            )),
            units: Arc::new(FakeTransientUnits::over(run.clone())),
            devices,
        };
        let import = Arc::new(watch::Sender::new(Listed::default()));
        self.controls("policy", volumes::fill::policy::follow(ctx.clone(), import.clone()));
        let run_volumes = volumes::run(ctx.clone(), volumes_out, volume_section, hosts, import.subscribe());
        self.controls("volumes", run_volumes);
        self.controls("pools", pools::run(ctx.clone(), made, pool_section, pools::Hosts { lvm, scan }));
        let updates = ctx.cluster.clone();
        self.controls("update", async move {
            let listed = watch::Sender::new(Listed::<NodeUpdate>::default());
            listed::follow(updates, &listed, listed::by_name, Scope::ThisNode).await;
            Ok(())
        });

        let hosts = vms::Hosts {
            vms: self.vms.clone(),
            run,
            filter: Arc::new(FakeFilter::default()),
            segments: Arc::new(FakeSegments::default()),
            cpus: Arc::new(FakeCpus::of(1, 2, 1)),
            pci: Arc::new(FakePci::default()),
            // Nothing is emulated: with KVM the node would ask this machine for /dev/kvm.
            domain_type: DomainType::Qemu,
        };
        let sections = vms::Sections { vms: vm_section, ports: vm_ports };
        let pods = Arc::new(watch::Sender::new(Listed::default()));
        self.controls("vms", vms::run(ctx, pods.clone(), hypervisor, leases, sections, hosts));
        let others = (config, network, images, container_disks, etcd, health);
        Box::new((others, api_port, leaving, shutting_down, shutdown, pods, import))
    }

    /// Starts one on the runtime that this is called on.
    fn controls(&mut self, name: &'static str, run: impl Future<Output = Result<()>> + Send + 'static) {
        self.controllers.spawn(async move { (name, run.await) });
    }

    /// Directory that is `/` to it.
    fn root(&self) -> PathBuf {
        self._files.root().to_owned()
    }

    /// Waits until the agent says that its node is Ready; the time since its start.
    pub async fn ready(&self) -> Result<Duration> {
        let mut status = self.ctx.status.subscribe();
        let is_ready = |status: &status::Status| status.cluster.phase == Phase::Ready;
        match tokio::time::timeout(READY_TIME, status.wait_for(is_ready)).await {
            Ok(found) => drop(found?),
            Err(_) => {
                let section = self.ctx.status.read().cluster.clone();
                bail!("{} is not Ready after {} s: {section:#?}", self.name, READY_TIME.as_secs());
            }
        }
        Ok(self.began.elapsed())
    }

    /// Fails if one of its controllers has ended.
    pub fn check(&mut self) -> Result<()> {
        let Some(ended) = self.controllers.try_join_next() else { return Ok(()) };
        let (controller, result) = ended.with_context(|| format!("{}: a controller panicked", self.name))?;
        let why = result.err().map_or("without an error".into(), |error| format!("{error:#}"));
        bail!("{}: controller {controller} ended: {why}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_nodes_have_names_and_addresses_of_their_own_in_the_range_for_it() {
        let all: std::collections::BTreeSet<_> =
            (0..1000).map(|number| (name(number), address(number))).collect();
        assert_eq!(all.len(), 1000);
        assert_eq!(all.first().unwrap(), &("fleet-0000".to_owned(), Ipv4Addr::new(100, 64, 0, 1)));
        assert!(all.iter().all(|(_, address)| address.octets()[0] == 100 && address.octets()[1] == 64));
    }
}
