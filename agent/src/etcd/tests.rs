//! Rounds of the controller on an etcd in memory.

use super::controller::Controller;
use super::store::Store;
use super::testing::FakeEtcd;
use super::*;
use crate::api_server::Joined;
use crate::channels::{self, Publish};
use crate::paths::Paths;
use crate::reconcile::{Controller as _, Woken};
use sheaf_config::load::parse_node_config;
use tokio::sync::watch;

struct Rig {
    _root: tempfile::TempDir,
    ctx: Context,
    etcd: Arc<FakeEtcd>,
    controller: Controller,
    wakes: Wakes<controller::Source>,
    cluster: watch::Sender<Option<Joined>>,
}

impl Rig {
    fn new(cluster: &str, etcd: FakeEtcd) -> Self {
        let root = tempfile::tempdir().unwrap();
        let text = format!("version = 1\nsystem.hostname = \"n1\"\n{cluster}");
        let config = parse_node_config("node.toml", &text).unwrap();
        let (ctx, publish) = channels::open(Paths::under(root.path()), config);
        let Publish { etcd: channel, sections, cluster, .. } = publish;
        let etcd = Arc::new(etcd);
        let mut wakes = Wakes::new();
        let hosts = Hosts { run: etcd.clone() };
        let controller = Controller::new(ctx.clone(), channel, sections.etcd, hosts, &mut wakes);
        let uri = "http://127.0.0.1:1".parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
        cluster.send_replace(Some(Joined { client, node: "n1".into(), node_uid: String::new() }));
        Self { _root: root, ctx, etcd, controller, wakes, cluster }
    }

    /// A round, and one after what it started has ended.
    async fn rounds(&mut self) -> EtcdSection {
        self.controller.round(&Woken::start()).await;
        let woken = tokio::time::timeout(std::time::Duration::from_secs(20), self.wakes.next(None)).await;
        self.controller.round(&woken.expect("the steps end")).await;
        self.ctx.status.read().etcd.clone()
    }

    fn verdict(&self) -> (Option<bool>, &'static str) {
        let state = self.ctx.etcd.borrow().clone().unwrap();
        (state.snapshots.holds, state.snapshots.reason)
    }
}

const CREATE: &str = "[cluster]\nmode = \"create\"\n";

#[tokio::test]
async fn the_first_round_takes_a_snapshot_and_the_status_shows_it() {
    let mut rig = Rig::new(CREATE, FakeEtcd::default());
    let shown = rig.rounds().await;
    assert_eq!(shown.snapshots.len(), 1);
    assert_eq!((shown.snapshots[0].reason.as_str(), shown.snapshots[0].revision), ("schedule", 810));
    assert_eq!((shown.version.as_str(), shown.bytes, shown.problems), ("3.7.0", 4 << 20, Vec::new()));
    assert_eq!(rig.verdict(), (Some(true), "Current"));
    assert_eq!(Store::of(&rig.ctx.paths).list().unwrap().len(), 1);
}

#[tokio::test]
async fn a_control_plane_that_is_being_created_or_started_is_left_alone() {
    let mut rig = Rig::new(CREATE, FakeEtcd::default());
    rig.cluster.send_replace(None);
    rig.controller.round(&Woken::start()).await;
    assert!(rig.etcd.asked().is_empty());
    assert!(rig.ctx.status.read().etcd.problems.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_fails_is_on_the_status_page_and_not_tried_again_at_once() {
    let mut rig = Rig::new(CREATE, FakeEtcd::default());
    rig.etcd.fail("snapshot save");
    let shown = rig.rounds().await;
    assert_eq!(shown.snapshots, []);
    let why = shown.last_failure.unwrap();
    assert!(
        why.starts_with("etcd cannot be asked for a snapshot; read `journalctl -u etcd`: etcdctl "),
        "{why}"
    );
    assert_eq!(rig.verdict(), (Some(false), "Failed"));
    rig.etcd.recover();
    rig.controller.round(&Woken::start()).await;
    assert_eq!(Store::of(&rig.ctx.paths).list().unwrap(), []);
}

#[tokio::test]
async fn etcd_that_does_not_answer_is_reported() {
    let mut rig = Rig::new(CREATE, FakeEtcd::default());
    rig.etcd.fail("endpoint status");
    rig.controller.round(&Woken::start()).await;
    let state = rig.ctx.etcd.borrow().clone().unwrap();
    assert_eq!((state.health.holds, state.health.reason), (Some(false), "NoAnswer"));
}

#[tokio::test]
async fn a_full_database_is_compacted_and_defragmented_before_a_snapshot_is_taken() {
    let full = FakeEtcd {
        size: 2 << 30,
        in_use: 2 << 30,
        alarms: r#"{"alarms":[{"memberID":1,"alarm":1}]}"#,
        ..FakeEtcd::default()
    };
    let mut rig = Rig::new(CREATE, full);
    let shown = rig.rounds().await;
    assert_eq!(shown.alarms, ["NOSPACE"]);
    assert_eq!(rig.etcd.asked()[..2], ["compaction 812", "defrag"]);
}

#[tokio::test]
async fn a_node_without_a_control_plane_has_no_etcd_to_report() {
    let mut rig = Rig::new("", FakeEtcd::default());
    rig.controller.round(&Woken::start()).await;
    assert_eq!(*rig.ctx.etcd.borrow(), None);
    assert!(!rig.ctx.status.read().etcd.is_here);
}
