//! The snapshot of etcd before a control-plane node restarts into another release.

use super::*;
use crate::etcd::store::{Reason, Store};
use crate::update::report::{self, Report};
use k8s_openapi::jiff::Timestamp;
use sheaf_api::node_update::{NodeUpdate, NodeUpdateSpec};

impl World {
    /// What is observed on a node with a control plane.
    fn of_control_plane(&self) -> Observed {
        Observed { has_etcd: true, ..self.observed() }
    }

    /// The steps to the restart into 0.2.0, which is staged.
    async fn staged_steps(&self, wanted: &Wanted, observed: fn(&Self) -> Observed) -> Vec<Step> {
        let stage = Wanted { action: Action::Stage, ..wanted.clone() };
        self.work(&stage, usize::MAX).await;
        match plan(&observed(self), Some(wanted)) {
            Plan::Work(Phase::Restarting, steps) => steps,
            other => panic!("{other:?}"),
        }
    }

    fn snapshots(&self) -> Vec<crate::etcd::store::Snapshot> {
        Store::of(&crate::paths::Paths::under(self.root.path())).list().unwrap()
    }
}

#[tokio::test]
async fn a_control_plane_node_saves_etcd_first_and_the_node_update_names_the_snapshot() {
    let world = World::new(true);
    let steps = world.staged_steps(&wanted(), World::of_control_plane).await;
    assert_eq!(steps[0].to_string(), "take a snapshot of etcd");
    assert_eq!(steps[1], Step::Verify { slot: Slot::B });
    apply::apply(&world.env(world.of_control_plane()), steps[0].clone()).await.unwrap();
    let taken = world.snapshots();
    assert_eq!((taken.len(), taken[0].reason), (1, Reason::Update));
    let spec = NodeUpdateSpec { version: "0.2.0".into(), ..NodeUpdateSpec::default() };
    let object = NodeUpdate::new("n1", spec);
    let slots = world.observed().slots();
    let (status, _) = report::status(&object, Some(&slots), &Report::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(status.snapshot.as_ref(), Some(&taken[0].name));
    // The rest is tried again without another.
    let again = plan(&world.of_control_plane(), Some(&wanted()));
    assert!(
        matches!(&again, Plan::Work(_, steps) if steps[0] == Step::Verify { slot: Slot::B }),
        "{again:?}"
    );
    let other = Wanted { request: Request { uid: "u2".into(), generation: 1 }, ..wanted() };
    let another = plan(&world.of_control_plane(), Some(&other));
    assert!(
        matches!(&another, Plan::Work(_, steps) if matches!(steps[0], Step::SaveEtcd { .. })),
        "{another:?}"
    );
}

#[tokio::test]
async fn without_a_snapshot_the_node_does_not_restart_and_says_what_to_do() {
    let world = World::new(true);
    let steps = world.staged_steps(&wanted(), World::of_control_plane).await;
    world.etcd.fail("snapshot save");
    let error = format!("{:#}", apply::all(world.env(world.of_control_plane()), steps).await.unwrap_err());
    assert!(
        error.starts_with(
            "cannot take a snapshot of etcd: it must succeed before this node restarts; see `sheaf-agent etcd`, and for a \
             control plane that does not work: sheaf-agent update apply --without-snapshot: etcd cannot be asked for a snapshot"
        ),
        "{error}"
    );
    assert_eq!(world.snapshots(), []);
    assert!(!world.units.asked().contains(&"start reboot.target".to_owned()), "{:?}", world.units.asked());
    assert_eq!(world.observed().trial, None);
}

#[tokio::test]
async fn a_worker_an_update_without_snapshot_and_a_way_back_take_none() {
    let mut world = World::new(true);
    let takes = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::SaveEtcd { .. }));
    assert!(!takes(&world.staged_steps(&wanted(), World::observed).await));
    let forced = Wanted { without_snapshot: true, is_local: true, ..wanted() };
    assert!(!takes(&world.staged_steps(&forced, World::of_control_plane).await));
    world.finish(&wanted(), "an update").await;
    let back = Wanted { version: "0.1.0".into(), source: None, ..wanted() };
    let Plan::Work(_, steps) = plan(&world.of_control_plane(), Some(&back)) else { panic!("no way back") };
    assert!(!takes(&steps), "a control plane that is broken must not keep a node from going back");
}
