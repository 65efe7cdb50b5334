//! A disk that is added to a VM while it runs, and removed, by an agent that may be killed at any moment.

use super::super::super::testing::{attachment, medium, with_drive};
use super::*;
use crate::channels::Usable;

const ALIAS: &str = "hotplug_data";

impl Node {
    /// The node has volume pvc-1.
    fn with_volume(&self) {
        self.with_device("/dev/sheaf-default/pvc-1");
    }

    /// The same, under this path.
    fn with_device(&self, device: &str) {
        let volume =
            Usable { ready: true, device: device.into(), bytes: 1 << 30, problem: None, readable: true };
        self.publish.volumes.send_replace(Some([("pvc-1".to_owned(), volume)].into()));
    }

    /// The controller marks the attachment Pod and deletes it.
    fn detach(&self) {
        let status = self.cluster.pods.lock().unwrap()["a1"].status.clone();
        self.bind(Pod { status, ..attachment("bound-pvc-1", true) });
        self.delete("a1", 0);
    }

    fn has_disk(&self) -> bool {
        self.vms.running().iter().any(|domain| domain.aliases.contains_key(ALIAS))
    }

    /// Whether the claim is free: its Pod is gone, or says that it has ended.
    fn is_released(&self) -> bool {
        self.cluster.pods.lock().unwrap().get("a1").is_none_or(super::super::super::report::says_ended)
    }

    fn asked_to(&self, doing: &str) -> usize {
        self.vms.asked().iter().filter(|asked| asked.starts_with(doing)).count()
    }
}

fn placed(name: &str, kill: Arc<Kill>) -> Node {
    let node = Node::killed_by(name, FakeVms::default(), kill);
    node.with_volume();
    node.bind(pod("p1"));
    node.bind(attachment("bound-pvc-1", false));
    node
}

/// Starts the VM, adds the disk and removes it.
async fn change(node: &mut Node) {
    node.settle().await;
    node.detach();
    node.settle().await;
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_adds_a_disk_once_and_frees_its_claim_only_after_the_domain_did() {
    for moment in 0.. {
        let kill = Arc::new(Kill::after(moment));
        let mut node = placed(&format!("attach-{moment}"), kill.clone());
        let is_whole = tokio::select! {
            () = change(&mut node) => true,
            () = kill.struck() => false,
        };
        if !is_whole {
            assert!(!(node.is_released() && node.has_disk()), "moment {moment}");
            kill.over();
            node.restart_agent();
            node.with_volume();
            node.settle().await;
            let is_kept = node
                .cluster
                .pods
                .lock()
                .unwrap()
                .get("a1")
                .is_some_and(|pod| pod.metadata.deletion_timestamp.is_none());
            if is_kept {
                assert!(node.has_disk(), "moment {moment}: {:?}", node.vms.asked());
                assert_eq!(node.phase("a1").as_deref(), Some("Running"), "moment {moment}");
                node.detach();
                node.settle().await;
            }
        }
        assert_eq!(node.asked_to("attach "), 1, "moment {moment}: {:?}", node.vms.asked());
        assert_eq!(node.asked_to("start "), 1, "moment {moment}: {:?}", node.vms.asked());
        assert!(!node.has_disk(), "moment {moment}");
        assert_eq!(node.phase("a1"), None, "moment {moment}: the attachment Pod is released");
        assert_eq!(node.phase("p1").as_deref(), Some("Running"), "moment {moment}");
        if is_whole {
            assert!(moment > 10, "nobody was killed");
            return;
        }
    }
}

#[tokio::test]
async fn a_guest_that_keeps_its_disk_keeps_its_claim_until_the_vm_ends() {
    let mut node = placed("keeps-disk", Arc::default());
    node.settle().await;
    node.vms.keep_disks(true);
    node.detach();
    node.settle().await;
    assert_eq!(node.asked_to("detach "), 1);
    assert!(node.has_disk() && !node.is_released());
    node.vms.end(VMI_UID, Stop::Shutdown);
    node.settle().await;
    assert_eq!((node.phase("p1").as_deref(), node.phase("a1")), (Some("Succeeded"), None));
}

#[tokio::test]
async fn libvirts_answer_to_a_disk_that_cannot_be_added_is_what_its_pod_says() {
    let mut node = placed("no-port", Arc::default());
    node.vms.fail("attach", "No more available PCI slots");
    node.settle().await;
    let pod = node.cluster.pods.lock().unwrap()["a1"].clone();
    let state = pod.status.unwrap().container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(state.reason.as_deref(), Some("AttachError"));
    assert!(state.message.unwrap().contains("No more available PCI slots"));
    assert_eq!(node.phase("p1").as_deref(), Some("Running"), "its VM runs on");
}

impl Node {
    /// The controller marks the Pod of the medium and deletes it.
    fn eject(&self) {
        let status = self.cluster.pods.lock().unwrap()["a1"].status.clone();
        self.bind(Pod { status, ..medium("bound-pvc-1", true) });
        self.delete("a1", 0);
    }

    fn has_medium(&self) -> bool {
        self.vms.running().iter().any(|domain| domain.devices.contains_key("sda"))
    }
}

/// A VM with an empty drive that runs, and then a medium for it.
async fn with_medium(name: &str) -> Node {
    let mut node = Node::new(name, FakeVms::default());
    node.with_volume();
    node.bind(with_drive("p1", false));
    node.settle().await;
    node.bind(medium("bound-pvc-1", false));
    node.settle().await;
    node
}

#[tokio::test]
async fn a_medium_is_inserted_and_ejected_while_the_vm_runs() {
    let mut node = with_medium("medium").await;
    assert!(node.has_medium());
    assert_eq!(node.phase("a1").as_deref(), Some("Running"));
    node.eject();
    node.settle().await;
    assert!(!node.has_medium());
    assert_eq!(node.phase("a1"), None, "the attachment Pod is released");
    assert_eq!(
        node.vms.asked()[1..],
        [format!("medium {VMI_UID} cd /dev/sheaf-default/pvc-1"), format!("medium {VMI_UID} cd none"),]
    );
    assert_eq!(*node.cluster.events.lock().unwrap(), ["Started", "Attached", "Detached"]);
}

#[tokio::test]
async fn a_guest_that_locks_the_tray_is_reported_and_the_tray_is_opened_by_force_later() {
    let mut node = with_medium("locked").await;
    node.vms.lock_trays(true);
    node.eject();
    node.settle().await;
    assert!(node.has_medium() && !node.is_released());
    assert_eq!(node.cluster.events.lock().unwrap().last().map(String::as_str), Some("TrayLocked"));
    let memory = &mut node.controller.memory;
    memory.ejecting.values_mut().chain(memory.detached.values_mut()).for_each(|at| *at -= 30);
    node.settle().await;
    assert_eq!(node.vms.asked().last().unwrap(), &format!("medium {VMI_UID} cd none by force"));
    assert_eq!(node.phase("a1"), None, "the attachment Pod is released");
}

#[tokio::test]
async fn a_vm_with_a_medium_starts_with_it_and_an_agent_that_is_killed_inserts_it_no_second_time() {
    for moment in 0.. {
        let kill = Arc::new(Kill::after(moment));
        let mut node = Node::killed_by(&format!("medium-{moment}"), FakeVms::default(), kill.clone());
        // A VM starts only with a device that is there.
        node.with_device("/dev/null");
        node.bind(with_drive("p1", true));
        node.bind(medium("bound-pvc-1", false));
        let is_whole = tokio::select! {
            () = node.settle() => true,
            () = kill.struck() => false,
        };
        if !is_whole {
            kill.over();
            node.restart_agent();
            node.with_device("/dev/null");
            node.settle().await;
        }
        assert!(node.has_medium(), "moment {moment}");
        assert_eq!(node.vms.asked(), ["start default_web"], "moment {moment}");
        assert_eq!(node.phase("a1").as_deref(), Some("Running"), "moment {moment}");
        if is_whole {
            assert!(moment > 4, "nobody was killed");
            return;
        }
    }
}
