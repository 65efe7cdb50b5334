//! A NIC that is added to a VM while it runs, and removed, by an agent that may be killed at any moment.

use super::super::super::testing::{nic, with_nics};
use super::*;
use sheaf_api::links::Links;

const TAPS: [&str; 3] = ["vm0b0e6d2c6an0", "vm0b0e6d2c6an1", "vm0b0e6d2c6an2"];

impl Node {
    /// The controller marks the attachment Pod and deletes it.
    fn unplug(&self) {
        let status = self.cluster.pods.lock().unwrap()["a1"].status.clone();
        self.bind(Pod { status, ..nic(true) });
        self.delete("a1", 0);
    }

    /// The controller changes the annotation with the links.
    fn links(&self, down: &[&str], removed: &[&str]) {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let links = Links { down: of(down), removed: of(removed) };
        let mut pod = self.cluster.pods.lock().unwrap()["p1"].clone();
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert("sheaf.dev/links".into(), links.to_annotation());
        self.bind(pod);
    }

    fn has_nic(&self) -> bool {
        self.vms.running().iter().any(|domain| domain.nics.iter().any(|nic| nic.alias.is_some()))
    }

    fn times(&self, doing: &str) -> usize {
        self.vms.asked().iter().filter(|asked| asked.starts_with(doing)).count()
    }

    fn names(&self) -> Vec<String> {
        let pod = self.cluster.pods.lock().unwrap()["p1"].clone();
        let seen: Vec<Value> =
            serde_json::from_str(&pod.metadata.annotations.unwrap()["sheaf.dev/interfaces"]).unwrap();
        seen.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Rounds in which the filter is read again.
    async fn settle_filter(&mut self) {
        for _ in 0..2 {
            self.controller.lookups.expire_all();
            self.settle().await;
        }
    }
}

fn placed(name: &str, kill: Arc<Kill>) -> Node {
    let node = Node::killed_by(name, FakeVms::default(), kill);
    node.bind(with_nics("p1", &Links::default()));
    node.bind(nic(false));
    node
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_adds_a_nic_once_and_ends_its_pod_only_after_the_domain_lost_it() {
    for moment in 0.. {
        let kill = Arc::new(Kill::after(moment));
        let mut node = placed(&format!("nic-{moment}"), kill.clone());
        let change = async |node: &mut Node| {
            node.settle().await;
            node.unplug();
            node.settle().await;
        };
        let is_whole = tokio::select! {
            () = change(&mut node) => true,
            () = kill.struck() => false,
        };
        if !is_whole {
            kill.over();
            node.restart_agent();
            node.settle().await;
            let is_kept = node
                .cluster
                .pods
                .lock()
                .unwrap()
                .get("a1")
                .is_some_and(|pod| pod.metadata.deletion_timestamp.is_none());
            if is_kept {
                assert!(node.has_nic(), "moment {moment}: {:?}", node.vms.asked());
                assert_eq!(node.phase("a1").as_deref(), Some("Running"), "moment {moment}");
                node.unplug();
                node.settle().await;
            }
        }
        assert_eq!(node.times("attach-nic "), 1, "moment {moment}: {:?}", node.vms.asked());
        assert_eq!(node.times("start "), 1, "moment {moment}: {:?}", node.vms.asked());
        assert!(!node.has_nic(), "moment {moment}");
        assert_eq!(node.phase("a1"), None, "moment {moment}: the attachment Pod is released");
        assert_eq!(node.phase("p1").as_deref(), Some("Running"), "moment {moment}");
        node.settle_filter().await;
        assert_eq!(node.ports().ports.keys().collect::<Vec<_>>(), TAPS[..2], "moment {moment}");
        if is_whole {
            assert!(moment > 10, "nobody was killed");
            return;
        }
    }
}

#[tokio::test]
async fn a_nic_is_added_only_behind_its_packet_filter_and_the_filter_stays_with_another_agent() {
    let mut node = Node::new("nic-filter", FakeVms::default());
    node.bind(with_nics("p1", &Links::default()));
    node.settle().await;
    node.filter.fails(Some("nft: no such table"));
    node.bind(nic(false));
    node.settle().await;
    assert_eq!(node.times("attach-nic "), 0, "no NIC without its filter");
    assert_eq!(node.cluster.events.lock().unwrap().last().map(String::as_str), Some("AttachError"));
    node.filter.fails(None);
    node.controller.memory.failures.get_mut("a1").unwrap().until = now();
    node.settle().await;
    assert!(node.has_nic());
    assert_eq!(node.ports().ports.keys().collect::<Vec<_>>(), TAPS);
    node.settle_filter().await;
    let applied = node.filter.applied().len();
    node.restart_agent();
    node.settle_filter().await;
    assert_eq!(node.filter.applied().len(), applied, "another agent leaves it as it is");
    assert_eq!(node.names(), ["out", "old", "lan"]);
}

#[tokio::test]
async fn a_guest_that_keeps_its_nic_keeps_the_pod_and_the_filter_until_the_vm_ends() {
    let mut node = placed("keeps-nic", Arc::default());
    node.settle().await;
    node.vms.keep_nics(true);
    node.unplug();
    node.settle_filter().await;
    assert_eq!(node.times("detach-nic "), 1);
    assert!(node.has_nic() && node.phase("a1").is_some());
    assert_eq!(node.ports().ports.keys().collect::<Vec<_>>(), TAPS);
    node.vms.end(VMI_UID, Stop::Shutdown);
    node.settle().await;
    assert_eq!((node.phase("p1").as_deref(), node.phase("a1")), (Some("Succeeded"), None));
}

#[tokio::test]
async fn a_nic_that_the_vm_was_started_with_is_removed_and_links_go_down_and_up() {
    let mut node = placed("links", Arc::default());
    node.settle().await;
    node.links(&["out", "lan"], &["old"]);
    node.settle_filter().await;
    assert_eq!(node.names(), ["out", "lan"]);
    assert_eq!(node.ports().ports.keys().collect::<Vec<_>>(), [TAPS[0], TAPS[2]]);
    let down = |node: &Node| -> Vec<bool> { node.vms.running()[0].nics.iter().map(|nic| nic.down).collect() };
    assert_eq!(down(&node), [true, true]);
    node.links(&[], &["old"]);
    node.controller.memory.links.clear();
    node.settle().await;
    assert_eq!(down(&node), [false, false]);
    assert_eq!(
        node.vms.asked()[1..],
        [
            format!("attach-nic {VMI_UID} {} 02:00:00:00:00:03", TAPS[2]),
            format!("link {VMI_UID} {} down", TAPS[0]),
            format!("detach-nic {VMI_UID} {}", TAPS[1]),
            format!("link {VMI_UID} {} down", TAPS[2]),
            format!("link {VMI_UID} {} up", TAPS[0]),
            format!("link {VMI_UID} {} up", TAPS[2]),
        ]
    );
}
