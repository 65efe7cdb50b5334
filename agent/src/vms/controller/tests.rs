//! The controller's loop with libvirt, QEMU and the API server in memory, each of which can fail.

use super::super::domain_xml::DomainType;
use super::super::filters::{self, State, masquerade};
use super::super::guest::{Identity, Object};
use super::super::testing::{VMI_UID, domain, pod, pod_of};
use super::*;
use crate::channels::{self, NetworkState};
use crate::paths::Paths;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_host::fakes::{FakeCpus, FakeFilter, FakePci, FakeRun, FakeSegments, FakeVms, Kill};
use sheaf_host::libvirt::{self, Interface};
use sheaf_host::nft::Filter as _;
use sheaf_host::segment::{Interface as NodeInterface, Segment};
use std::sync::Mutex;

mod attachments;
mod contents;
mod credentials;
mod nics;
mod size;

/// An API server in memory: one that can be away.
#[derive(Default)]
struct FakeCluster {
    pods: Mutex<BTreeMap<String, Pod>>,
    events: Mutex<Vec<String>>,
    /// Keys and values of `Secret NAME` and `ConfigMap NAME`.
    objects: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    away: Mutex<bool>,
    /// It takes requests for what it knows and never answers.
    hangs: Mutex<bool>,
    /// The agent ends before or after a request.
    kill: Arc<Kill>,
}

impl FakeCluster {
    fn here(&self) -> anyhow::Result<()> {
        if *self.away.lock().unwrap() { Err(anyhow!("the API server is away")) } else { Ok(()) }
    }

    fn patched(&self, pod: &Pod, patch: Value) -> anyhow::Result<Pod> {
        self.here()?;
        let mut pods = self.pods.lock().unwrap();
        let pod = pods.get_mut(pod.metadata.uid.as_ref().unwrap()).unwrap();
        pod.status = serde_json::from_value(patch["status"].clone())?;
        let annotations: BTreeMap<String, String> =
            serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap_or_default();
        pod.metadata.annotations.get_or_insert_default().extend(annotations);
        Ok(pod.clone())
    }

    async fn reads(&self) -> anyhow::Result<()> {
        if *self.hangs.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        self.here()
    }
}

impl Cluster for FakeCluster {
    async fn is_gone(&self, id: &Identity) -> anyhow::Result<bool> {
        self.here()?;
        Ok(!self.pods.lock().unwrap().contains_key(&id.pod_uid))
    }

    async fn patch(&self, pod: &Pod, patch: Value) -> anyhow::Result<Pod> {
        self.kill.moment().await;
        let patched = self.patched(pod, patch);
        self.kill.moment().await;
        patched
    }

    async fn delete(&self, pod: &Pod) -> anyhow::Result<()> {
        self.kill.moment().await;
        self.here()?;
        self.pods.lock().unwrap().remove(pod.metadata.uid.as_ref().unwrap());
        self.kill.moment().await;
        Ok(())
    }

    async fn event(&self, _pod: &Pod, _kind: &str, reason: &str, _message: &str) -> anyhow::Result<()> {
        self.events.lock().unwrap().push(reason.to_owned());
        Ok(())
    }

    async fn values(
        &self,
        _namespace: &str,
        object: &Object,
    ) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
        self.here()?;
        Ok(self.objects.lock().unwrap().get(&object.to_string()).cloned())
    }

    async fn claim(&self, _namespace: &str, name: &str) -> anyhow::Result<ClaimFact> {
        self.reads().await?;
        Ok(match name.strip_prefix("bound-") {
            Some(volume) => ClaimFact::Volume(volume.to_owned()),
            None => ClaimFact::NotBound,
        })
    }

    async fn allocatable(&self) -> anyhow::Result<(Resources, ClusterConfigSpec)> {
        self.reads().await?;
        let all =
            Resources { cpu: 4000, memory: 1 << 30, pods: 10, storage: 1 << 36, ..Resources::default() };
        Ok((all, ClusterConfigSpec::default()))
    }
}

/// A node in memory, with its controller.
struct Node {
    controller: Controller<FakeVms, FakeCluster>,
    vms: Arc<FakeVms>,
    cluster: Arc<FakeCluster>,
    filter: Arc<FakeFilter>,
    segments: Arc<FakeSegments>,
    root: PathBuf,
    publish: channels::Publish,
}

impl Node {
    fn new(name: &str, vms: FakeVms) -> Self {
        Self::killed_by(name, vms, Arc::default())
    }

    /// One whose agent ends where `kill` strikes.
    fn killed_by(name: &str, vms: FakeVms, kill: Arc<Kill>) -> Self {
        let root = std::env::temp_dir().join(format!("sheaf-vms-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let vms = Arc::new(vms.killed_by(kill.clone()));
        let cluster = Arc::new(FakeCluster { kill, ..FakeCluster::default() });
        let filter = Arc::new(FakeFilter::default());
        let segments = Arc::new(FakeSegments::default());
        let (controller, publish) = Self::agent(&root, &vms, &cluster, &filter, &segments);
        Self { controller, vms, cluster, filter, segments, root, publish }
    }

    fn agent(
        root: &std::path::Path,
        vms: &Arc<FakeVms>,
        cluster: &Arc<FakeCluster>,
        filter: &Arc<FakeFilter>,
        segments: &Arc<FakeSegments>,
    ) -> (Controller<FakeVms, FakeCluster>, channels::Publish) {
        let text = "version = 1\n[system]\nhostname = \"n1\"\n";
        let config = sheaf_config::load::parse_node_config("node.toml", text).unwrap();
        let (ctx, mut publish) = channels::open(Paths::under(root), config);
        let bridges = vec!["br0".to_owned(), "br1".to_owned(), "masq0".to_owned()];
        publish.network.send_replace(NetworkState { bridges, ..NetworkState::default() });
        let (run, filter) = (Arc::new(FakeRun::default()), filter.clone());
        let hosts = Hosts {
            vms: vms.clone(),
            run,
            filter,
            segments: segments.clone(),
            cpus: Arc::new(FakeCpus::of(1, 4, 1)),
            pci: Arc::new(FakePci::default()),
            domain_type: DomainType::Qemu,
        };
        let listed = Arc::new(watch::Sender::new(Listed { synced: true, objects: BTreeMap::new() }));
        let (hypervisor, _) = watch::channel(Hypervisor::default());
        let sections = std::mem::replace(&mut publish.sections, crate::status::open().1);
        let sections = Sections { vms: sections.vms, ports: sections.vm_ports };
        let leases = publish.leases.clone();
        (Controller::new(ctx, hosts, cluster.clone(), listed, hypervisor, leases, sections), publish)
    }

    /// The agent dies and another starts; nothing is told to anybody.
    fn restart_agent(&mut self) {
        (self.controller, self.publish) =
            Self::agent(&self.root, &self.vms, &self.cluster, &self.filter, &self.segments);
        self.list();
    }

    fn bind(&self, pod: Pod) {
        self.cluster.pods.lock().unwrap().insert(pod.metadata.uid.clone().unwrap(), pod);
        self.list();
    }

    /// The table of ports.
    fn ports(&self) -> State {
        State::read(&self.filter.table(filters::FAMILY, filters::TABLE).unwrap())
    }

    fn list(&self) {
        let pods = self.cluster.pods.lock().unwrap();
        let pods = pods.iter().map(|(uid, pod)| (uid.clone(), Arc::new(pod.clone()))).collect();
        self.controller.listed.send_replace(Listed { synced: true, objects: pods });
    }

    fn delete(&self, uid: &str, grace: i64) {
        let mut pod = self.cluster.pods.lock().unwrap()[uid].clone();
        let at = super::super::plan::rfc3339(now() + grace);
        let meta = json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": grace});
        let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
            serde_json::from_value(meta).unwrap();
        pod.metadata.deletion_timestamp = meta.deletion_timestamp;
        pod.metadata.deletion_grace_period_seconds = meta.deletion_grace_period_seconds;
        self.bind(pod);
    }

    /// Rounds until there is nothing more to do.
    async fn settle(&mut self) {
        loop {
            self.controller.reconcile().await;
            if self.controller.tasks.is_empty() && self.controller.lookups.is_idle() {
                return;
            }
            self.finish().await;
        }
    }

    /// Everything that is under way, but for guests that do not answer.
    async fn finish(&mut self) {
        while let Some(done) = self.controller.tasks.join_next().await {
            let (uid, action, result) = done.unwrap();
            self.controller.done(&uid, action, result);
        }
        while !self.controller.lookups.is_idle() {
            let answer =
                tokio::time::timeout(Duration::from_millis(100), self.controller.lookups.next()).await;
            let Ok((key, answer)) = answer else { return };
            self.controller.on_answer(key, answer);
        }
    }

    fn phase(&self, uid: &str) -> Option<String> {
        self.cluster.pods.lock().unwrap().get(uid)?.status.clone()?.phase
    }

    fn reason(&self, uid: &str) -> Option<String> {
        self.cluster.pods.lock().unwrap().get(uid)?.status.clone()?.reason
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

#[tokio::test]
async fn a_vm_lives_from_its_binding_to_its_deletion() {
    let mut node = Node::new("life", FakeVms::default().obeying_the_power_button());
    node.bind(pod("p1"));
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    assert!(node.root.join("data/vms").join(VMI_UID).join("vm.json").exists());

    node.delete("p1", 60);
    node.settle().await;
    assert_eq!(node.vms.asked(), ["start default_web".to_owned(), format!("shutdown {VMI_UID}")]);
    assert_eq!(node.phase("p1"), None, "the Pod is released");
    assert!(!node.root.join("data/vms").join(VMI_UID).exists(), "its folder is gone");
    assert_eq!(*node.cluster.events.lock().unwrap(), ["Started", "Completed"]);
}

#[tokio::test]
async fn a_vm_that_is_to_start_paused_waits_for_somebody_to_resume_it() {
    let mut node = Node::new("paused", FakeVms::default());
    let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "startStrategy": "Paused"});
    node.bind(pod_of("p1", spec));
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    assert_eq!(node.vms.running()[0].state, libvirt::State::Paused);
    assert_eq!(node.vms.asked(), ["start default_web".to_owned()], "the agent does not resume it");
}

#[tokio::test]
async fn a_restarted_agent_finds_its_vm_and_touches_nothing() {
    let mut node = Node::new("restart", FakeVms::default());
    node.bind(pod("p1"));
    node.settle().await;
    node.restart_agent();
    node.settle().await;
    assert_eq!(node.vms.asked(), ["start default_web"]);
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
}

/// Starts the VM and ends it.
async fn live(node: &mut Node) {
    node.settle().await;
    node.delete("p1", 60);
    node.settle().await;
}

#[tokio::test]
async fn an_agent_killed_before_or_after_any_request_of_a_vms_life_starts_it_once_and_leaves_nothing_behind()
{
    // One moment later each time, until the VM's whole life is over before.
    for moment in 0.. {
        let kill = Arc::new(Kill::after(moment));
        let mut node = Node::killed_by(
            &format!("kill-{moment}"),
            FakeVms::default().obeying_the_power_button(),
            kill.clone(),
        );
        node.bind(pod("p1"));
        let is_whole = tokio::select! {
            () = live(&mut node) => true,
            () = kill.struck() => false,
        };
        if !is_whole {
            kill.over();
            node.restart_agent();
            node.settle().await;
            assert!(node.vms.running().len() <= 1, "moment {moment}");
            let is_deleted = node
                .cluster
                .pods
                .lock()
                .unwrap()
                .get("p1")
                .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
            if !is_deleted {
                assert_eq!(node.phase("p1").as_deref(), Some("Running"), "moment {moment}");
                node.delete("p1", 60);
            }
            node.settle().await;
        }
        let starts = node.vms.asked().iter().filter(|asked| asked.starts_with("start ")).count();
        assert_eq!(starts, 1, "moment {moment}: {:?}", node.vms.asked());
        assert_eq!(node.vms.running(), [], "moment {moment}");
        assert_eq!(node.phase("p1"), None, "moment {moment}: the Pod is released");
        assert!(!node.root.join("data/vms").join(VMI_UID).exists(), "moment {moment}: its folder is gone");
        assert_eq!(node.vms.logs(), [""; 0], "moment {moment}: its log is gone");
        if is_whole {
            assert!(moment > 8, "nobody was killed");
            return;
        }
    }
}

#[tokio::test]
async fn an_agent_that_died_between_start_and_record_adopts_the_domain() {
    let mut node = Node::new("adopt", FakeVms::default());
    node.vms.add(domain("p1"));
    node.bind(pod("p1"));
    node.settle().await;
    assert_eq!(node.vms.asked(), [""; 0]);
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
}

#[tokio::test]
async fn a_vm_that_ended_while_the_agent_was_away_is_reported_by_its_log_and_not_started_again() {
    let mut node = Node::new("away", FakeVms::default());
    node.bind(pod("p1"));
    node.settle().await;
    node.vms.end_unseen(VMI_UID, Stop::Crashed);
    node.restart_agent();
    node.settle().await;
    assert_eq!(
        (node.phase("p1").as_deref(), node.reason("p1").as_deref()),
        (Some("Failed"), Some("Crashed"))
    );
    assert_eq!(node.vms.asked(), ["start default_web"]);
}

#[tokio::test]
async fn nothing_is_touched_while_the_api_server_is_away() {
    let mut node = Node::new("api-away", FakeVms::default());
    node.vms.add(domain("p1"));
    *node.cluster.away.lock().unwrap() = true;
    node.settle().await;
    assert_eq!(node.vms.asked(), [""; 0]);
    assert_eq!(node.vms.running().len(), 1);
}

#[tokio::test]
async fn a_list_that_was_never_complete_stops_nothing() {
    let mut node = Node::new("unsynced", FakeVms::default());
    node.vms.add(domain("p1"));
    node.controller.listed.send_replace(Listed::default());
    node.settle().await;
    assert_eq!(node.vms.asked(), [""; 0]);
}

#[tokio::test]
async fn a_vm_whose_pod_is_gone_from_the_api_server_is_stopped() {
    let mut node = Node::new("gone", FakeVms::default().obeying_the_power_button());
    node.vms.add(domain("p1"));
    node.settle().await;
    assert_eq!(node.vms.asked(), [format!("shutdown {VMI_UID}")]);
}

#[tokio::test]
async fn a_start_that_fails_is_said_in_the_pod_and_waits() {
    let mut node = Node::new("start-fails", FakeVms::default());
    node.vms.fail("start", "no such machine type");
    node.bind(pod("p1"));
    node.settle().await;
    let status = node.cluster.pods.lock().unwrap()["p1"].status.clone().unwrap();
    let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("StartError"));
    assert!(waiting.message.unwrap().contains("no such machine type"));
    node.vms.heal();
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Pending"), "not tried again at once");
    node.controller.memory.failures.get_mut("p1").unwrap().until = now();
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    assert!(node.controller.memory.failures.is_empty());
}

#[tokio::test]
async fn a_pod_whose_start_fails_is_released_at_once_when_it_is_deleted() {
    let mut node = Node::new("start-fails-deleted", FakeVms::default());
    node.vms.fail("start", "no such machine type");
    node.bind(pod("p1"));
    node.settle().await;
    node.delete("p1", 180);
    node.settle().await;
    assert_eq!(node.phase("p1"), None, "the Pod is released");
    assert!(!node.root.join("data/vms").join(VMI_UID).exists(), "its folder is gone");
}

#[tokio::test]
async fn a_pod_that_can_never_run_is_released_at_once_when_it_is_deleted() {
    let mut node = Node::new("rejected-deleted", FakeVms::default());
    let mut bad = pod("p1");
    bad.metadata.annotations = None;
    node.bind(bad);
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Failed"));
    node.delete("p1", 180);
    node.settle().await;
    assert_eq!(node.phase("p1"), None, "the Pod is released");
}

#[tokio::test]
async fn a_deleted_pod_keeps_while_its_domain_can_not_be_seen() {
    let mut node = Node::new("unseen-deleted", FakeVms::default());
    node.bind(pod("p1"));
    node.settle().await;
    node.vms.fail("list", "libvirtd is down");
    node.delete("p1", 0);
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
}

#[tokio::test]
async fn a_silent_libvirt_is_reported_and_changes_no_pod() {
    let mut node = Node::new("silent", FakeVms::default());
    node.vms.fail("list", "libvirtd is down");
    node.bind(pod("p1"));
    node.settle().await;
    let state = node.controller.hypervisor.borrow().clone();
    assert!(!state.answers && state.problem.unwrap().contains("libvirtd is down"));
    assert_eq!(node.phase("p1").as_deref(), Some("Pending"));
}

/// A VM with two interfaces, of which one is in VLAN 100 of br1.
fn connected(uid: &str) -> Pod {
    pod_of(
        uid,
        json!({
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [
                {"name": "lan", "bridge": {}, "macAddress": "02:00:00:00:00:01"}, {"name": "plain", "bridge": {}}]}},
            "networks": [{"name": "lan", "pod": {}}, {"name": "plain", "pod": {}}],
        }),
    )
}

#[tokio::test]
async fn a_port_has_its_rules_before_the_guest_runs_and_none_after_it_is_gone() {
    let mut node = Node::new("ports", FakeVms::default().obeying_the_power_button());
    node.filter.fails(Some("nft: no such table"));
    node.bind(connected("p1"));
    node.settle().await;
    assert_eq!(node.vms.asked(), [""; 0], "no VM without its filters");
    node.filter.fails(None);
    node.controller.lookups.expire_all();
    node.settle().await;
    node.controller.memory.failures.get_mut("p1").unwrap().until = now();
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    let taps = ["vm0b0e6d2c6an0", "vm0b0e6d2c6an1"];
    assert_eq!(node.ports().ports.keys().collect::<Vec<_>>(), taps);

    let applied = node.filter.applied().len();
    node.restart_agent();
    node.settle().await;
    assert_eq!(node.filter.applied().len(), applied, "another agent leaves them as they are");
    let ports = node.controller.ctx.status.subscribe().borrow().vm_ports.clone();
    assert_eq!((ports[0].vm.as_str(), ports[0].interface.as_str()), ("default/web", "lan"));

    node.delete("p1", 60);
    node.settle().await;
    node.controller.lookups.expire_all();
    node.settle().await;
    assert_eq!(node.ports().ports, BTreeMap::new());
    assert!(node.ports().version.is_some(), "taps without rules stay closed");
}

#[tokio::test]
async fn a_table_that_somebody_flushed_is_made_anew() {
    let mut node = Node::new("flushed", FakeVms::default());
    node.bind(connected("p1"));
    node.settle().await;
    let applied = node.filter.applied().len();
    let delete = json!({"delete": {"chain": {"name": "vm0b0e6d2c6an0"}}});
    let flush = json!({"flush": {"chain": {"name": "vm0b0e6d2c6an0"}}});
    node.filter.apply(&[flush, delete]).unwrap();
    node.controller.lookups.expire_all();
    node.settle().await;
    assert_eq!(node.filter.applied().len(), applied + 2);
    assert!(node.ports().ports["vm0b0e6d2c6an0"].version.is_some());
}

#[tokio::test]
async fn a_running_vm_whose_record_is_lost_has_its_own_filter_again_or_none_that_lets_anything_pass() {
    let mut node = Node::new("unreadable", FakeVms::default());
    node.bind(connected("p1"));
    node.settle().await;
    let lose = async |node: &mut Node| {
        std::fs::write(node.root.join("data/vms").join(VMI_UID).join("vm.json"), "{").unwrap();
        for _ in 0..3 {
            node.controller.lookups.expire_all();
            node.settle().await;
        }
    };
    lose(&mut node).await;
    assert_eq!(node.ports().ports.len(), 2, "its ports are known by its Pod");
    let mut pod = node.cluster.pods.lock().unwrap()["p1"].clone();
    pod.metadata.annotations = None;
    node.bind(pod);
    lose(&mut node).await;
    // Without a chain of its own, the rule for unknown taps decides: tests/filters.rs tries it on a kernel.
    assert_eq!(node.ports().ports, BTreeMap::new());
    let rules = serde_json::to_string(&node.filter.table(filters::FAMILY, filters::TABLE).unwrap()).unwrap();
    assert!(rules.contains("iifkind") && rules.contains("oifkind"), "{rules}");
}

#[tokio::test]
async fn what_is_guarded_follows_the_addresses_of_the_node() {
    let mut node = Node::new("guarded", FakeVms::default());
    let has = |address: &str| {
        let address = Some((address.parse().unwrap(), 24));
        let br0 = NodeInterface { link: "br0".into(), mac: None, address };
        Segment { interfaces: vec![br0], ..Segment::default() }
    };
    node.segments.set(has("192.0.2.10"));
    node.settle().await;
    let rules = |node: &Node| {
        let of = |family, table| node.filter.table(family, table).unwrap();
        json!([of(filters::FAMILY, filters::TABLE), of(masquerade::FAMILY, masquerade::TABLE)]).to_string()
    };
    assert!(
        rules(&node).contains("\"192.0.2.10\"") && rules(&node).contains("\"192.0.2.0\""),
        "{}",
        rules(&node)
    );
    node.segments.set(has("198.51.100.10"));
    node.controller.lookups.expire_all();
    node.settle().await;
    let last = json!(node.filter.applied().last().unwrap()).to_string();
    assert!(last.contains("\"198.51.100.10\"") && !last.contains("192.0.2"), "{last}");

    // Unknown networks start no VM: its rules would guard nothing.
    node.restart_agent();
    node.segments.fails(true);
    node.bind(connected("p1"));
    node.settle().await;
    assert_eq!(node.vms.asked(), [""; 0]);
}

#[tokio::test]
async fn a_guest_behind_the_node_has_one_lease_from_before_its_start_until_it_is_gone() {
    let mut node = Node::new("leases", FakeVms::default().obeying_the_power_button());
    let leases = node.controller.ctx.leases.clone();
    node.bind(pod_of(
        "p1",
        json!({
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [
                {"name": "out", "masquerade": {}, "macAddress": "02:00:00:00:00:01"}]}},
            "networks": [{"name": "out", "pod": {}}],
        }),
    ));
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    let given = leases.borrow().clone();
    let lease = given[&[2, 0, 0, 0, 0, 1]];
    let rules = json!(node.filter.table(filters::FAMILY, filters::TABLE).unwrap()).to_string();
    assert!(rules.contains(&lease.to_string()), "the filter lets its address pass: {rules}");
    node.controller.lookups.expire_all();
    node.settle().await;
    let pod = node.cluster.pods.lock().unwrap()["p1"].clone();
    let ips = pod.status.unwrap().pod_ips.unwrap();
    assert!(ips.iter().any(|ip| ip.ip == lease.to_string()), "{ips:?}");

    node.restart_agent();
    let leases = node.controller.ctx.leases.clone();
    node.settle().await;
    assert_eq!(*leases.borrow(), given, "it is kept in the record");

    node.delete("p1", 60);
    node.settle().await;
    node.settle().await;
    assert!(leases.borrow().is_empty());
}

#[tokio::test]
async fn addresses_of_every_interface_reach_the_vmi_and_those_that_a_guest_claims_not_its_pod() {
    let mut node = Node::new("addresses", FakeVms::default());
    let heard = json!({"set": {"name": "vm0b0e6d2c6an0.ipv4", "elem": ["192.0.2.50"]}});
    node.filter.shows(vec![heard]);
    let reported =
        Interface { mac: "02:00:00:00:00:01".into(), addresses: vec!["2001:db8::50".parse().unwrap()] };
    node.vms.agents_report(vec![reported]);
    node.bind(connected("p1"));
    node.settle().await;
    node.vms.open_agents();
    node.controller.lookups.expire_all();
    node.settle().await;
    let pod = node.cluster.pods.lock().unwrap()["p1"].clone();
    let seen: Value =
        serde_json::from_str(&pod.metadata.annotations.unwrap()["sheaf.dev/interfaces"]).unwrap();
    assert_eq!(seen[0]["ipAddresses"], json!(["192.0.2.50", "2001:db8::50"]));
    assert_eq!(seen[0]["infoSource"], "domain, neighbour, guest-agent");
    assert_eq!(seen[1], json!({"name": "plain", "infoSource": "domain"}));
    assert_eq!(pod.status.unwrap().pod_ips, None, "what only the guest claims is no address of its Pod");
}

/// Rounds with everything due, each of which must end at once.
async fn rounds(node: &mut Node, number: usize) {
    for _ in 0..number {
        node.controller.lookups.expire_all();
        let round = tokio::time::timeout(Duration::from_secs(1), node.controller.reconcile()).await;
        round.expect("a round waits for nothing but libvirt");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_guest_whose_agent_never_answers_is_asked_once_and_holds_up_no_other_vm() {
    let mut node = Node::new("silent-agent", FakeVms::default());
    node.bind(pod("p1"));
    node.settle().await;
    node.vms.open_agents();
    node.vms.silence_agents();
    rounds(&mut node, 5).await;
    assert_eq!(node.vms.agent_queries(), 1);
    let other = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4d";
    let text = json!({"name": "other", "namespace": "default", "uid": other,
                      "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}});
    let mut pod = pod("p2");
    pod.metadata.annotations = Some([("sheaf.dev/vmi".to_owned(), text.to_string())].into());
    node.bind(pod);
    for _ in 0..4 {
        rounds(&mut node, 1).await;
        node.finish().await;
    }
    assert_eq!(node.phase("p2").as_deref(), Some("Running"));
}

#[tokio::test]
async fn an_api_server_that_takes_requests_and_never_answers_holds_up_no_vm() {
    let mut node = Node::new("api-hangs", FakeVms::default());
    node.bind(pod("p1"));
    node.settle().await;
    *node.cluster.hangs.lock().unwrap() = true;
    let mut waiting = connected("p2");
    let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    waiting.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
    node.bind(waiting);
    node.vms.set_state(VMI_UID, sheaf_host::libvirt::State::PausedByDisk);
    for _ in 0..4 {
        rounds(&mut node, 1).await;
        node.finish().await;
    }
    assert!(node.vms.asked().contains(&format!("resume {VMI_UID}")), "{:?}", node.vms.asked());
}

#[tokio::test]
async fn a_vm_has_processors_to_itself_once_the_node_reserves_some_and_its_record_has_them() {
    let mut node = Node::new("dedicated", FakeVms::default());
    let text = "version = 1\n[system]\nhostname = \"n1\"\n[vms]\nreserved-cpus = \"0\"\n";
    let config = sheaf_config::load::parse_node_config("node.toml", text).unwrap();
    node.publish.config.send_replace(Arc::new(config));
    let cpu = json!({"cores": 2, "dedicatedCpuPlacement": true});
    node.bind(pod_of("p1", json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}, "cpu": cpu}})));
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    assert_eq!(node.controller.hypervisor.borrow().reserved_cpus, Some(1));
    let folder = crate::vms::guest::Folder::of(&node.root.join("data/vms"), VMI_UID);
    let record = crate::vms::record::read(&folder).unwrap();
    assert_eq!(record.cpus.unwrap().to_string(), "1-2");
    assert_eq!(node.vms.running()[0].tags["cpus"], "1-2");
}

#[tokio::test]
async fn qemu_of_a_vm_is_limited_in_memory_and_a_vm_without_its_limit_is_shown() {
    let mut node = Node::new("limit", FakeVms::default());
    node.controller.hosts.domain_type = DomainType::Kvm;
    node.bind(pod("p1"));
    node.settle().await;
    // 64 MiB for the guest, twice (100 + 8 + 16 MiB and its page tables), 256 MiB.
    let kib = (64 + 2 * 124 + 256) * 1024 + 2 * 128;
    assert_eq!(node.vms.memory_limit(VMI_UID), Some(kib));

    let mut node = Node::new("no-limit", FakeVms::default());
    node.controller.hosts.domain_type = DomainType::Kvm;
    node.vms.fail("limit", "no memory controller");
    node.bind(pod("p1"));
    node.settle().await;
    assert_eq!(node.phase("p1").as_deref(), Some("Running"));
    assert!(node.cluster.events.lock().unwrap().contains(&"NoMemoryLimit".to_owned()));
}
