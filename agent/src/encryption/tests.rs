//! Steps on a node in memory: units as a list, etcdctl as a script. What needs an API server is in `tests/tests/certificates.rs`.

use super::*;
use crate::cluster::Hosts;
use crate::encryption::plan::Step;
use crate::shared_keys::lock;
use sheaf_host::fakes::{FakeRun, FakeUnits};
use std::sync::Arc;
use std::time::SystemTime;

struct Node {
    _root: tempfile::TempDir,
    paths: Paths,
    units: Arc<FakeUnits>,
    hosts: Hosts,
}

impl Node {
    /// One whose etcd prints `stored` when it is asked for Secrets.
    fn new(stored: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let units = Arc::new(FakeUnits::default());
        let run = FakeRun::default().prints("etcdctl", stored);
        let hosts = Hosts { run: Arc::new(run), units: units.clone() };
        Self { _root: root, paths, units, hosts }
    }

    fn ring(&self) -> Ring {
        Ring::load(&self.paths).unwrap().unwrap()
    }

    async fn step(&self) -> Result<Option<Step>, String> {
        let place = Place { paths: &self.paths, hosts: &self.hosts, now: SystemTime::now(), by_hand: false };
        let step = step(place, &|_| {}).await;
        step.map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn a_control_plane_gets_its_first_key_once_and_its_api_server_is_started_with_it() {
    let node = Node::new("");
    assert!(prepare(&node.paths, SystemTime::now()).unwrap(), "it does not run with it yet");
    let ring = node.ring();
    assert!(prepare(&node.paths, SystemTime::now()).unwrap(), "it was killed before the start");
    served(&node.paths).unwrap();
    assert!(!prepare(&node.paths, SystemTime::now()).unwrap());
    assert_eq!(node.ring(), ring);
    let given = std::fs::read_to_string(node.paths.run.join("encryption.json")).unwrap();
    assert_eq!(given, ring.configuration());
}

#[tokio::test]
async fn an_etcd_without_secrets_settles_without_a_restart_and_another_etcd_is_looked_at_again() {
    let node = Node::new(r#"{"members":[{}]}"#);
    prepare(&node.paths, SystemTime::now()).unwrap();
    served(&node.paths).unwrap();
    let name = node.ring().keys[0].name.clone();
    assert_eq!(node.step().await, Ok(Some(Step::Settle(name.clone()))));
    assert_eq!(node.step().await, Ok(None));
    assert!(node.ring().is_settled());
    unsettle(&node.paths).unwrap();
    assert_eq!(node.step().await, Ok(Some(Step::Settle(name))));
    assert_eq!(node.units.asked(), [""; 0]);
}

#[tokio::test]
async fn an_api_server_that_cannot_be_restarted_leaves_the_former_key_first_and_the_step_to_be_done() {
    let node = Node::new(r#"{"members":[{}]}"#);
    prepare(&node.paths, SystemTime::now()).unwrap();
    served(&node.paths).unwrap();
    node.step().await.unwrap();
    let mut ring = node.ring();
    ring.add(SystemTime::now()).unwrap();
    ring.save(&node.paths).unwrap();
    node.units.fail("kube-apiserver.service", "timeout");
    let why = node.step().await.unwrap_err();
    assert!(
        why.starts_with("cannot restart kube-apiserver with the keys of Secrets as they are now: "),
        "{why}"
    );
    assert_eq!(node.ring(), ring);
    assert!(!is_served(&node.paths, &ring));
    // As after a restart that succeeded.
    served(&node.paths).unwrap();
    let newer = ring.keys[1].name.clone();
    assert_eq!(node.step().await, Ok(Some(Step::Promote(newer.clone()))));
    assert_eq!(node.ring().keys[0].name, newer);
    assert!(!is_served(&node.paths, &node.ring()), "it encrypts with the former key until it is restarted");
}

#[tokio::test]
async fn keys_are_changed_by_one_process_at_a_time() {
    let node = Node::new(r#"{"members":[{}]}"#);
    prepare(&node.paths, SystemTime::now()).unwrap();
    let held = lock(&node.paths).unwrap();
    assert!(held.is_some());
    let why = by_hand::rotate(&node.paths, &node.hosts, SystemTime::now(), &|_| {}).await.unwrap_err();
    assert_eq!(
        why.to_string(),
        "the agent is changing keys of the cluster now; run this again in a few minutes"
    );
    drop(held);
    assert!(lock(&node.paths).unwrap().is_some());
}
