//! Acts on a played hypervisor, with failures.

use super::*;
use crate::node_api::fixture::Fixture;
use crate::vms::guest::{Folder, Identity};
use crate::vms::record::{Record, Started};
use sheaf_host::fakes::{FakeRun, FakeVms};
use sheaf_host::libvirt::{Domain, State as DomainState};
use std::time::Duration;

const UID: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";
const UUID: &str = "11111111-2222-3333-4444-555555555555";

struct Node(Fixture);

fn node() -> Node {
    let vms = FakeVms::default();
    vms.add(Domain {
        uuid: UUID.into(),
        name: "shop_web".into(),
        state: DomainState::Running,
        tags: Default::default(),
        devices: Default::default(),
        readonly: Default::default(),
        bases: Default::default(),
        aliases: Default::default(),
        nics: Default::default(),
        cpus: Default::default(),
        memory: None,
        pins: Default::default(),
        agent: true,
    });
    let node = Fixture::new(vms, FakeRun::default());
    let id = Identity {
        pod_uid: "p1".into(),
        vmi_uid: UID.into(),
        vmi: "web".into(),
        namespace: "shop".into(),
        ..Identity::default()
    };
    let started = Started { uuid: UUID.into(), ..Started::default() };
    Record { started: Some(started), ..Record::made(&id) }
        .write(&node.state.ctx.paths.data.join("vms"))
        .unwrap();
    Node(node)
}

impl Node {
    async fn act(&self, act: Act) -> Result<(), Refusal> {
        let vm = crate::node_api::vm::find(&self.0.state, UID).await?;
        apply(&self.0.state, &vm, &act).await.map(drop)
    }

    fn is_marked(&self) -> bool {
        Folder::of(&self.0.root.path().join("data/vms"), UID).0.join("frozen").exists()
    }

    fn asked(&self) -> Vec<String> {
        self.0
            .state
            .vms
            .asked()
            .iter()
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn each_act_is_one_request_to_libvirt_and_its_failure_is_told() {
    let node = node();
    for act in [Act::Pause, Act::Unpause, Act::Reset, Act::SoftReboot] {
        node.act(act).await.unwrap();
    }
    assert_eq!(node.asked(), ["pause", "resume", "reset", "reboot"]);
    node.0.state.vms.fail("reset", "QEMU does not answer");
    let refusal = node.act(Act::Reset).await.unwrap_err();
    assert_eq!((refusal.0.as_u16(), refusal.1.as_str()), (500, "QEMU does not answer"));
}

#[tokio::test]
async fn a_vm_of_another_node_or_one_that_never_started_is_not_found() {
    let node = node();
    let other = crate::node_api::vm::find(&node.0.state, "0b0e6d2c-6a4e-4c9f-9a53-000000000000").await;
    assert_eq!(other.unwrap_err().0.as_u16(), 404);
}

#[tokio::test]
async fn a_frozen_guest_is_marked_until_it_is_thawed() {
    let node = node();
    node.act(Act::Freeze { seconds: 300 }).await.unwrap();
    assert!(node.is_marked());
    node.act(Act::Unfreeze).await.unwrap();
    assert!(!node.is_marked());
    assert_eq!(node.asked(), ["freeze", "thaw"]);
}

#[tokio::test]
async fn a_freeze_that_fails_is_thawed_and_reported_as_failed() {
    let node = node();
    node.0.state.vms.fail("freeze", "guest agent is not responding");
    let refusal = node.act(Act::Freeze { seconds: 300 }).await.unwrap_err();
    assert!(refusal.1.contains("guest agent is not responding"), "{}", refusal.1);
    assert_eq!(node.asked(), ["freeze", "thaw"]);
    assert!(!node.is_marked());
}

#[tokio::test]
async fn a_guest_that_an_earlier_agent_left_frozen_is_thawed_at_its_time() {
    let node = node();
    let mark = Folder::of(&node.0.root.path().join("data/vms"), UID).0.join("frozen");
    // Long ago: the agent was killed, and its timer with it.
    std::fs::write(&mark, "1000").unwrap();
    freeze::thaw_what_was_left(&node.0.state).await;
    let thawed = async {
        while node.is_marked() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), thawed).await.expect("the guest is thawed");
    assert_eq!(node.asked(), ["thaw"]);
}
