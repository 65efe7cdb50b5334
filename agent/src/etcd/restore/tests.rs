//! Whole restores on a node in memory: units as a list, etcd's programs as a fake.

use super::*;
use crate::etcd::by_hand::{save, save_keys, take_one};
use crate::etcd::keys::tests::make;
use crate::etcd::store::Store;
use crate::etcd::testing::FakeEtcd;
use sheaf_host::fakes::FakeUnits;
use std::fs;
use std::sync::Mutex;

struct Node {
    _root: tempfile::TempDir,
    paths: Paths,
    etcd: Arc<FakeEtcd>,
    units: Arc<FakeUnits>,
    said: Mutex<Vec<String>>,
}

impl Node {
    fn new(etcd: FakeEtcd) -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        make(&paths);
        fs::create_dir_all(paths.etcd.join("data/member")).unwrap();
        fs::write(paths.etcd.join("data/member/db"), "before").unwrap();
        Self { _root: root, paths, etcd: Arc::new(etcd), units: Arc::default(), said: Mutex::default() }
    }

    fn hosts(&self) -> Hosts {
        Hosts { run: self.etcd.clone(), units: self.units.clone() }
    }

    /// The name of a snapshot on it.
    fn snapshot(&self) -> String {
        take_one(&self.paths, &*self.etcd, "n1").unwrap();
        Store::of(&self.paths).list().unwrap()[0].name.clone()
    }

    async fn restore(&self, request: Request) -> Result<String, String> {
        let say = |line: &str| self.said.lock().unwrap().push(line.to_owned());
        let done = restore(&self.paths, &self.hosts(), "n1", &request, &say).await;
        done.map_err(|error| format!("{error:#}"))
    }

    fn data(&self) -> String {
        fs::read_to_string(self.paths.etcd.join("data/member/db")).unwrap_or_default()
    }
}

#[tokio::test]
async fn what_would_be_done_is_said_and_nothing_is_touched() {
    let node = Node::new(FakeEtcd::default());
    let file = node.snapshot();
    let said = node.restore(Request { file, dry_run: true, ..Request::default() }).await.unwrap();
    assert!(
        said.starts_with("would make etcd's data from ") && said.contains("would stop etcd.service"),
        "{said}"
    );
    assert_eq!(node.units.asked(), [""; 0]);
    assert_eq!(node.data(), "before");
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_before_anything_is_stopped() {
    let node = Node::new(FakeEtcd::default());
    let file = node.snapshot();
    let data = Store::of(&node.paths).data(&file);
    let mut bytes = fs::read(&data).unwrap();
    bytes[3] ^= 1;
    fs::write(&data, bytes).unwrap();
    let why = node.restore(Request { file, force: true, ..Request::default() }).await.unwrap_err();
    assert_eq!(
        why,
        format!(
            "{}: its contents do not have the SHA-256 at its end: it is damaged; take another copy",
            data.display()
        )
    );
    assert_eq!(node.units.asked(), [""; 0]);
}

#[tokio::test]
async fn a_name_or_file_that_is_not_there_is_refused() {
    let node = Node::new(FakeEtcd::default());
    let why = node.restore(Request { file: "etcd-x".into(), ..Request::default() }).await.unwrap_err();
    assert_eq!(
        why,
        "etcd-x is neither a file nor a snapshot on this node; `sheaf-agent snapshot list` shows those"
    );
}

#[tokio::test]
async fn a_snapshot_of_a_newer_etcd_is_refused_and_leaves_no_part() {
    let node = Node::new(FakeEtcd { storage_version: "3.8.0", ..FakeEtcd::default() });
    let to = node.paths.data.join("away.tar");
    save(&node.paths, &*node.etcd, "n1", None, to.to_str().unwrap()).unwrap();
    let request = Request { file: to.display().to_string(), force: true, ..Request::default() };
    let why = node.restore(request).await.unwrap_err();
    assert!(why.contains("was taken by etcd with storage version 3.8.0"), "{why}");
    assert!(!Store::of(&node.paths).dir().join("restore.part").exists());
}

#[tokio::test]
async fn an_agent_that_cannot_be_stopped_leaves_the_data_as_it_was_and_the_agent_started() {
    let node = Node::new(FakeEtcd::default());
    let file = node.snapshot();
    node.units.fail("kube-scheduler.service", "timeout");
    let why = node.restore(Request { file, ..Request::default() }).await.unwrap_err();
    assert!(why.starts_with("cannot stop kube-scheduler.service: "), "{why}");
    assert_eq!(node.data(), "before");
    assert_eq!(
        node.units.asked(),
        [
            "stop sheaf-agent.service",
            "stop sheaf-console.service",
            "stop sheaf-controller.service",
            "stop kube-scheduler.service",
            "start sheaf-agent.service"
        ]
    );
}

#[tokio::test]
async fn data_that_cannot_be_made_stops_nothing() {
    let node = Node::new(FakeEtcd::default());
    let file = node.snapshot();
    node.etcd.fail("snapshot restore");
    let why = node.restore(Request { file, ..Request::default() }).await.unwrap_err();
    assert!(why.starts_with("cannot make etcd's data from "), "{why}");
    assert_eq!((node.units.asked(), node.data()), (Vec::new(), "before".to_owned()));
}

/// Nothing answers as an API server here, so the last step fails; all before it is done.
#[tokio::test(start_paused = true)]
async fn the_data_and_the_keys_are_put_in_place_and_the_former_are_kept() {
    let (there, here) = (Node::new(FakeEtcd::default()), Node::new(FakeEtcd::default()));
    let (saved, keys) = (there.paths.data.join("away.tar"), there.paths.kubernetes.join("keys.json"));
    save(&there.paths, &*there.etcd, "n1", None, saved.to_str().unwrap()).unwrap();
    save_keys(&there.paths, keys.to_str().unwrap()).unwrap();
    let request = Request { file: saved.display().to_string(), ..Request::default() };
    let why = here.restore(request.clone()).await.unwrap_err();
    assert!(why.contains("is of the cluster with the CA sha256:"), "{why}");
    let request = Request { keys: Some(keys), ..request };
    let why = here.restore(request).await.unwrap_err();
    assert!(why.starts_with("cannot start sheaf-agent.service and wait for the API server: "), "{why}");
    assert!(Keys::collect(&here.paths).unwrap() == Keys::collect(&there.paths).unwrap());
    assert_eq!(fs::read(here.paths.etcd.join("data/member/db")).unwrap(), there.etcd.data);
    let kept: Vec<_> = fs::read_dir(&here.paths.etcd).unwrap().map(|entry| entry.unwrap().path()).collect();
    let former = kept.iter().find(|path| path.to_string_lossy().contains("data.before-")).unwrap();
    assert_eq!(fs::read_to_string(former.join("member/db")).unwrap(), "before");
    assert_eq!(here.units.asked().last().unwrap(), "start sheaf-agent.service");
    assert!(here.said.lock().unwrap()[0].starts_with("make etcd's data from "));
}
