//! A VM that grows while it runs, by an agent that may be killed at any moment.

use super::super::super::testing::growing;
use super::*;
use sheaf_api::size::{Plugged, Size};

const MIB: u64 = 1 << 20;

impl Node {
    /// The API server takes a resize, and the controller writes the size once it is allocated.
    async fn grow(&mut self, requests: &str, size: Size) {
        let before = self.cluster.pods.lock().unwrap()["p1"].clone();
        self.bind(Pod { spec: growing("p1", requests).spec, ..before });
        self.settle().await;
        let mut pod = self.cluster.pods.lock().unwrap()["p1"].clone();
        let status = pod.status.clone().unwrap().container_statuses.unwrap().remove(0);
        assert_eq!(status.allocated_resources.unwrap()["memory"].0, requests, "it is set aside first");
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert("sheaf.dev/size".into(), size.to_annotation());
        self.bind(pod);
        self.settle().await;
    }

    fn plugged(&self) -> Plugged {
        Plugged::of(&self.cluster.pods.lock().unwrap()["p1"]).unwrap()
    }
}

const GROWN: Size = Size { memory: 512 * MIB, sockets: 2 };

#[tokio::test]
async fn a_vm_grows_in_memory_and_processors_and_gives_memory_back() {
    let mut node = Node::new("grow", FakeVms::default());
    node.bind(growing("p1", "381Mi"));
    node.settle().await;
    assert_eq!(node.plugged().size, Size { memory: 256 * MIB, sockets: 1 });
    node.grow("645Mi", GROWN).await;
    assert_eq!((node.plugged().size, node.plugged().taken), (GROWN, 512 * MIB));
    let asked = [format!("memory {VMI_UID} {}", 256 * MIB), format!("cpus {VMI_UID} 2")];
    assert_eq!(node.vms.asked()[1..], asked);
    let less = Size { memory: 256 * MIB, ..GROWN };
    node.grow("645Mi", less).await;
    assert_eq!(node.plugged().size, less);
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_grows_a_vm_once() {
    for moment in 0.. {
        let kill = Arc::new(Kill::after(moment));
        let mut node = Node::killed_by(&format!("grow-{moment}"), FakeVms::default(), kill.clone());
        let mut pod = growing("p1", "645Mi");
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert("sheaf.dev/size".into(), GROWN.to_annotation());
        node.bind(pod);
        let is_whole = tokio::select! {
            () = node.settle() => true,
            () = kill.struck() => false,
        };
        if !is_whole {
            kill.over();
            node.restart_agent();
            node.settle().await;
        }
        assert_eq!(node.plugged().size, GROWN, "moment {moment}: {:?}", node.vms.asked());
        assert_eq!(node.vms.running().len(), 1, "moment {moment}");
        if is_whole {
            assert!(moment > 4, "nobody was killed");
            return;
        }
    }
}

#[tokio::test]
async fn a_guest_without_a_driver_is_reported_as_it_is() {
    let vms = FakeVms::default();
    vms.ignore_memory();
    let mut node = Node::new("no-driver", vms);
    node.bind(growing("p1", "381Mi"));
    node.settle().await;
    node.grow("645Mi", GROWN).await;
    assert_eq!((node.plugged().size, node.plugged().taken), (GROWN, 256 * MIB));
}

#[tokio::test]
async fn libvirts_answer_to_a_size_that_cannot_be_made_is_what_the_pod_says() {
    let mut node = Node::new("no-memory", FakeVms::default());
    node.bind(growing("p1", "381Mi"));
    node.settle().await;
    node.vms.fail("memory", "cannot allocate memory");
    node.grow("645Mi", GROWN).await;
    let conditions = node.cluster.pods.lock().unwrap()["p1"].status.clone().unwrap().conditions.unwrap();
    let found = conditions.iter().find(|one| one.type_ == "PodResizeInProgress").unwrap();
    assert_eq!((found.status.as_str(), found.reason.as_deref()), ("True", Some("Error")));
    assert!(found.message.as_ref().unwrap().contains("cannot allocate memory"));
    assert_eq!(node.plugged().size, Size { memory: 256 * MIB, sockets: 1 });
}
