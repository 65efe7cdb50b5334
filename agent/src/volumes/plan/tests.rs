//! The rules, one by one: sentences about what becomes of a volume.

use super::*;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use sheaf_api::storage::local_volume::HttpSource;

const GROUP: &str = "sheaf-default";
const GIB: u64 = 1 << 30;

fn object(name: &str, source: Value) -> LocalVolume {
    object_of(name, json!({"nodeName": "n1", "pool": "default", "sizeBytes": GIB, "source": source}))
}

fn object_of(name: &str, spec: Value) -> LocalVolume {
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
        "metadata": {"name": name, "uid": name, "generation": 1, "finalizers": [FINALIZER]},
        "spec": spec,
    }))
    .unwrap()
}

fn http() -> Value {
    json!({"http": {"url": "https://example.org/a", "checksum": format!("sha256:{}", "0".repeat(64))}})
}

fn volume(bytes: u64, tags: &[&str]) -> Volume {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Volume { bytes, tags, active: true, ..Volume::default() }
}

/// One node with one pool of 4 GiB.
#[derive(Debug)]
struct Node {
    objects: BTreeMap<String, Arc<LocalVolume>>,
    groups: BTreeMap<String, Group>,
    memory: Memory,
    offered: BTreeMap<String, Option<u64>>,
    imports: Result<(), &'static str>,
}

impl Node {
    fn new(objects: impl IntoIterator<Item = LocalVolume>) -> Self {
        let pool = ThinPool { bytes: 4 * GIB, ..ThinPool::default() };
        let group = Group { pool: Some(pool), volumes: BTreeMap::new() };
        let named = |object: LocalVolume| (object.metadata.name.clone().unwrap(), Arc::new(object));
        Self {
            objects: objects.into_iter().map(named).collect(),
            groups: [(GROUP.to_owned(), group)].into(),
            memory: Memory::default(),
            offered: BTreeMap::new(),
            imports: Ok(()),
        }
    }

    fn with(mut self, name: &str, volume: Volume) -> Self {
        self.groups.get_mut(GROUP).unwrap().volumes.insert(name.into(), volume);
        self
    }

    fn begun(mut self, name: &str) -> Self {
        self.memory.begun.insert(name.into());
        self
    }

    fn plan(&self) -> Plan {
        self.plan_when(true)
    }

    fn plan_when(&self, settled: bool) -> Plan {
        let Self { objects, groups, memory, offered, imports } = self;
        plan(&Observed { objects, groups, memory, offered, imports: *imports, now: 100, settled })
    }

    fn actions(&self) -> Vec<(String, Action)> {
        self.plan().actions.into_iter().map(|(name, _group, action)| (name, action)).collect()
    }

    fn only(&self) -> Option<Action> {
        let mut actions = self.actions();
        assert!(actions.len() < 2, "{actions:?}");
        actions.pop().map(|(_, action)| action)
    }

    fn stand(&self, name: &str) -> VolumeState {
        self.plan().states[name].clone()
    }

    fn reason(&self, name: &str) -> VolumeReason {
        match self.stand(name) {
            VolumeState::Waiting(reason, _)
            | VolumeState::Failed(reason, _)
            | VolumeState::Deleting(reason, _) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn deleted(mut object: LocalVolume) -> LocalVolume {
    object.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    object
}

fn ready(mut object: LocalVolume) -> LocalVolume {
    let stand = VolumeState::Ready { bytes: object.spec.size_bytes, short: None };
    object.status = Some(status_of(&object, &stand, Timestamp::UNIX_EPOCH));
    object
}

fn failure(reason: VolumeReason, until: Option<i64>) -> Failure {
    Failure { reason, message: "no".into(), times: 1, until, generation: Some(1), image: None }
}

#[test]
fn a_volume_that_was_filled_says_so_whatever_was_told_last_of_it() {
    let mut object = object("pvc-1", http());
    let half = Progress { done_bytes: 3, total_bytes: Some(8), percent: Some(37) };
    object.status = Some(status_of(&object, &VolumeState::Filling(half), Timestamp::UNIX_EPOCH));
    let good = VolumeState::Ready { bytes: GIB, short: None };
    let whole = Progress { done_bytes: 8, total_bytes: Some(8), percent: Some(100) };
    assert_eq!(status_of(&object, &good, Timestamp::UNIX_EPOCH).progress, Some(whole));
}

#[test]
fn a_new_volume_is_held_then_made_and_finished_once_it_is_filled() {
    let mut bare = object("pvc-1", json!({"blank": {}}));
    bare.metadata.finalizers = None;
    assert_eq!(Node::new([bare]).only(), Some(Action::AddFinalizer));
    let node = || Node::new([object("pvc-1", json!({"blank": {}}))]);
    assert_eq!(node().only(), Some(Action::Create { bytes: GIB, incomplete: false }));
    let filled = Node::new([object("pvc-1", http())]);
    assert_eq!(filled.only(), Some(Action::Create { bytes: GIB, incomplete: true }));
    let mut half = filled.with("pvc-1", volume(GIB, &[TAG, INCOMPLETE])).begun("pvc-1");
    half.memory.filled.insert("pvc-1".into());
    assert_eq!(half.only(), Some(Action::Finish));
    let good = node().with("pvc-1", volume(GIB, &[TAG]));
    assert_eq!((good.only(), good.stand("pvc-1")), (None, VolumeState::Ready { bytes: GIB, short: None }));
}

#[test]
fn a_half_made_volume_that_another_agent_left_is_removed_and_begun_again() {
    for source in [json!({"blank": {}}), http(), json!({"volume": {"name": "pvc-0"}})] {
        let node = Node::new([object("pvc-1", source)]).with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]));
        assert_eq!(node.only(), Some(Action::Remove));
    }
}

#[test]
fn a_half_made_volume_that_nobody_asks_for_is_removed_and_a_complete_one_is_left() {
    let node = Node::new([])
        .with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]))
        .with("pvc-2", volume(GIB, &[TAG]))
        .with("root", volume(GIB, &[]));
    assert_eq!(node.actions(), [("pvc-1".to_owned(), Action::Remove)]);
}

#[test]
fn the_image_beside_a_volume_that_is_being_filled_stays_until_that_ends() {
    let mut node = Node::new([object("pvc-1", http())])
        .with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]))
        .with("pvc-1-image", volume(GIB, &[TAG, INCOMPLETE]))
        .begun("pvc-1");
    node.memory.busy.insert("pvc-1".into());
    node.memory.filling.insert("pvc-1".into(), Progress::default());
    assert_eq!(node.only(), None);
    node.memory = Memory::default();
    let both = [("pvc-1".to_owned(), Action::Remove), ("pvc-1-image".to_owned(), Action::Remove)];
    assert_eq!(node.actions(), both);
}

#[test]
fn a_volume_from_a_server_is_filled_and_only_then_finished() {
    let mut node =
        Node::new([object("pvc-1", http())]).with("pvc-1", volume(GIB, &[TAG, INCOMPLETE])).begun("pvc-1");
    assert!(matches!(node.only(), Some(Action::Fill { .. })));
    node.memory.filled.insert("pvc-1".into());
    assert_eq!(node.only(), Some(Action::Finish));
}

#[test]
fn only_so_many_volumes_are_filled_at_a_time() {
    let names = ["pvc-1", "pvc-2", "pvc-3"];
    let spec = |size: u64| json!({"nodeName": "n1", "pool": "default", "sizeBytes": size, "source": http()});
    let mut node = Node::new(names.map(|name| object_of(name, spec(GIB))));
    for name in names {
        node = node.with(name, volume(GIB, &[TAG, INCOMPLETE])).begun(name);
    }
    assert_eq!(node.actions().len(), FILLS);
    assert_eq!(node.stand("pvc-3"), VolumeState::Filling(Progress::default()));
}

#[test]
fn a_filling_that_failed_leaves_nothing_and_is_tried_again_later_if_that_can_help() {
    let mut node = Node::new([object("pvc-1", http())]).with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]));
    node.memory.failed.insert("pvc-1".into(), failure(VolumeReason::SourceUnreachable, Some(130)));
    assert_eq!((node.only(), node.reason("pvc-1")), (Some(Action::Remove), VolumeReason::SourceUnreachable));
    node.groups.get_mut(GROUP).unwrap().volumes.clear();
    assert_eq!((node.only(), node.plan().wake), (None, Some(130)));
    node.memory.failed.insert("pvc-1".into(), failure(VolumeReason::SourceUnreachable, Some(100)));
    assert_eq!(node.only(), Some(Action::Create { bytes: GIB, incomplete: true }));
    node.memory.failed.insert("pvc-1".into(), failure(VolumeReason::ChecksumMismatch, None));
    assert_eq!(node.only(), None);
    assert!(matches!(node.stand("pvc-1"), VolumeState::Failed(VolumeReason::ChecksumMismatch, _)));
}

#[test]
fn bytes_that_were_wrong_are_not_fetched_again_by_the_next_agent_until_the_object_changes() {
    let mut wrong = object("pvc-1", http());
    let stand = VolumeState::Failed(VolumeReason::ChecksumMismatch, "another file".into());
    wrong.status = Some(status_of(&wrong, &stand, Timestamp::UNIX_EPOCH));
    let node = Node::new([wrong.clone()]);
    assert_eq!((node.only(), node.stand("pvc-1")), (None, stand));
    wrong.metadata.generation = Some(2);
    assert_eq!(Node::new([wrong]).only(), Some(Action::Create { bytes: GIB, incomplete: true }));
}

#[test]
fn bytes_that_were_wrong_stay_so_said_while_the_next_agent_removes_what_is_there_of_them() {
    let mut wrong = object("pvc-1", http());
    let stand = VolumeState::Failed(VolumeReason::ChecksumMismatch, "another file".into());
    wrong.status = Some(status_of(&wrong, &stand, Timestamp::UNIX_EPOCH));
    let node = Node::new([wrong]).with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]));
    assert_eq!((node.only(), node.stand("pvc-1")), (Some(Action::Remove), stand));
}

#[test]
fn a_pool_is_promised_once() {
    let object = |name: &str, size: u64| {
        object_of(
            name,
            json!({"nodeName": "n1", "pool": "default", "sizeBytes": size, "source": {"blank": {}}}),
        )
    };
    let node = Node::new([object("pvc-1", 3 * GIB), object("pvc-2", 3 * GIB)]);
    assert_eq!(node.actions(), [("pvc-1".to_owned(), Action::Create { bytes: 3 * GIB, incomplete: false })]);
    assert_eq!(node.reason("pvc-2"), VolumeReason::OutOfSpace);
    assert!(node.reason("pvc-2").is_for_another_node());
    // What a volume that nobody asks for holds is promised, too.
    let node = Node::new([object("pvc-1", 3 * GIB)]).with("pvc-0", volume(2 * GIB, &[TAG]));
    assert_eq!(node.reason("pvc-1"), VolumeReason::OutOfSpace);
}

#[test]
fn a_full_pool_takes_no_further_volume_or_snapshot() {
    let snapshot = json!({"nodeName": "n1", "pool": "default", "sizeBytes": GIB, "kind": "Snapshot",
                          "source": {"volume": {"name": "pvc-1"}}});
    let mut node = Node::new([
        ready(object("pvc-1", json!({"blank": {}}))),
        object_of("snap-1", snapshot),
        object("pvc-2", json!({"blank": {}})),
    ])
    .with("pvc-1", volume(GIB, &[TAG]));
    assert_eq!(node.actions().len(), 2);
    node.groups.get_mut(GROUP).unwrap().pool.as_mut().unwrap().data_percent = 100.0;
    assert_eq!(node.only(), None);
    assert_eq!(
        [node.reason("snap-1"), node.reason("pvc-2")],
        [VolumeReason::OutOfSpace, VolumeReason::OutOfSpace]
    );
}

#[test]
fn a_pool_that_is_missing_is_said_and_nothing_is_done() {
    let mut node = Node::new([object("pvc-1", json!({"blank": {}}))]);
    node.groups.get_mut(GROUP).unwrap().pool = None;
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::PoolNotFound));
    node.groups.clear();
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::PoolNotFound));
}

#[test]
fn a_pool_that_is_still_being_brought_up_after_a_start_is_not_called_missing() {
    let mut node = Node::new([ready(object("pvc-1", json!({"blank": {}})))]);
    node.groups.clear();
    let stand = node.plan_when(false).states["pvc-1"].clone();
    assert_eq!(stand, VolumeState::Unknown);
    let object = &node.objects["pvc-1"];
    assert_eq!(Some(status_of(object, &stand, Timestamp::now())), object.status);
}

#[test]
fn a_volume_that_was_ready_and_is_gone_is_not_made_anew() {
    let node = Node::new([ready(object("pvc-1", json!({"blank": {}})))]);
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::Lost));
}

#[test]
fn a_copy_waits_for_its_origin_and_is_made_from_it_alone() {
    let clone = || object("pvc-2", json!({"volume": {"name": "pvc-1"}}));
    let origin = || ready(object("pvc-1", json!({"blank": {}})));
    assert_eq!(Node::new([clone()]).reason("pvc-2"), VolumeReason::SourceNotFound);
    let half = Node::new([clone(), origin()]).with("pvc-1", volume(GIB, &[TAG, INCOMPLETE])).begun("pvc-1");
    assert_eq!(half.reason("pvc-2"), VolumeReason::SourceNotReady);
    let node = Node::new([clone(), origin()]).with("pvc-1", volume(GIB, &[TAG]));
    assert_eq!(node.only(), Some(Action::Copy { origin: "pvc-1".into(), writable: true }));
    let made = node.with("pvc-2", volume(GIB, &[TAG, INCOMPLETE])).begun("pvc-2");
    assert_eq!(made.only(), Some(Action::Finish));
}

#[test]
fn a_copy_that_is_to_be_larger_is_grown_before_it_is_finished_and_a_smaller_one_is_refused() {
    let origin = || ready(object("pvc-1", json!({"blank": {}})));
    let clone = |size: u64| {
        object_of(
            "pvc-2",
            json!({"nodeName": "n1", "pool": "default", "sizeBytes": size,
                   "source": {"volume": {"name": "pvc-1"}}}),
        )
    };
    let node = Node::new([origin(), clone(2 * GIB)])
        .with("pvc-1", volume(GIB, &[TAG]))
        .with("pvc-2", volume(GIB, &[TAG, INCOMPLETE]))
        .begun("pvc-2");
    assert_eq!(node.only(), Some(Action::Grow { bytes: 2 * GIB }));
    let node = Node::new([origin(), clone(GIB / 2)]).with("pvc-1", volume(GIB, &[TAG]));
    assert_eq!((node.only(), node.reason("pvc-2")), (None, VolumeReason::ImageTooLarge));
}

#[test]
fn a_copy_has_the_size_of_its_origin_though_the_node_rounded_that_up() {
    let size = GIB - 1;
    let spec =
        |source: Value| json!({"nodeName": "n1", "pool": "default", "sizeBytes": size, "source": source});
    let node = Node::new([
        ready(object_of("pvc-1", spec(json!({"blank": {}})))),
        object_of("pvc-2", spec(json!({"volume": {"name": "pvc-1"}}))),
    ])
    .with("pvc-1", volume(GIB, &[TAG]));
    assert_eq!(node.only(), Some(Action::Copy { origin: "pvc-1".into(), writable: true }));
}

#[test]
fn a_volume_grows_when_asked_and_says_why_it_can_not() {
    let larger = |size: u64| {
        let mut object = ready(object("pvc-1", json!({"blank": {}})));
        object.spec.size_bytes = size;
        Node::new([object]).with("pvc-1", volume(GIB, &[TAG]))
    };
    assert_eq!(larger(2 * GIB).only(), Some(Action::Grow { bytes: 2 * GIB }));
    let node = larger(5 * GIB);
    assert_eq!(node.only(), None);
    let VolumeState::Ready { bytes: GIB, short: Some((VolumeReason::OutOfSpace, _)) } = node.stand("pvc-1")
    else {
        panic!("{:?}", node.stand("pvc-1"))
    };
    let object = &node.objects["pvc-1"];
    let status = status_of(object, &node.stand("pvc-1"), Timestamp::UNIX_EPOCH);
    let words: Vec<_> = status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
    assert_eq!(words, [("Ready", "True"), ("Resized", "False")]);
}

#[test]
fn a_deleted_volume_is_removed_and_let_go_but_not_while_somebody_has_it_open() {
    let gone = || deleted(ready(object("pvc-1", json!({"blank": {}}))));
    let mut node = Node::new([gone()]).with("pvc-1", volume(GIB, &[TAG]));
    assert_eq!(node.only(), Some(Action::Remove));
    node.groups.get_mut(GROUP).unwrap().volumes.get_mut("pvc-1").unwrap().open = true;
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::InUse));
    assert_eq!(Node::new([gone()]).only(), Some(Action::RemoveFinalizer));
}

#[test]
fn a_deleted_volume_whose_pool_is_away_is_not_let_go() {
    let mut node = Node::new([deleted(ready(object("pvc-1", json!({"blank": {}}))))]);
    node.groups.clear();
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::PoolNotFound));
    let mut never = Node::new([deleted(object("pvc-1", json!({"blank": {}})))]);
    never.groups.clear();
    assert_eq!(never.only(), Some(Action::RemoveFinalizer));
}

#[test]
fn a_deleted_volume_that_is_being_filled_is_stopped_first() {
    let mut node = Node::new([deleted(object("pvc-1", http()))])
        .with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]))
        .begun("pvc-1");
    node.memory.filling.insert("pvc-1".into(), Progress::default());
    node.memory.busy.insert("pvc-1".into());
    assert_eq!(node.only(), Some(Action::StopFilling));
}

#[test]
fn a_logical_volume_that_is_not_ours_is_never_touched() {
    let node = Node::new([object("pvc-1", json!({"blank": {}}))]).with("pvc-1", volume(GIB, &[]));
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::NameTaken));
    let node = Node::new([deleted(object("pvc-1", json!({"blank": {}})))]).with("pvc-1", volume(GIB, &[]));
    assert_eq!(node.only(), Some(Action::RemoveFinalizer));
}

#[test]
fn a_volume_without_device_after_a_boot_is_waited_for_and_a_snapshot_needs_none() {
    let inactive = |tags: &[&str]| Volume { active: false, ..volume(GIB, tags) };
    let node = Node::new([ready(object("pvc-1", json!({"blank": {}})))]).with("pvc-1", inactive(&[TAG]));
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::PoolNotFound));
    let snapshot = object_of(
        "snap-1",
        json!({"nodeName": "n1", "pool": "default", "sizeBytes": GIB, "kind": "Snapshot",
               "source": {"volume": {"name": "pvc-1"}}}),
    );
    let node = Node::new([ready(snapshot)]).with("snap-1", inactive(&[TAG, SNAPSHOT]));
    assert_eq!((node.only(), node.stand("snap-1")), (None, VolumeState::Ready { bytes: GIB, short: None }));
}

#[test]
fn a_volume_for_an_upload_is_made_says_how_to_send_and_takes_what_somebody_sends() {
    let mut asked = object("pvc-1", json!({"upload": {}}));
    asked.metadata.annotations = Some([("sheaf.dev/claim".to_owned(), "web/root".to_owned())].into());
    let node = Node::new([asked.clone()]);
    assert_eq!(node.only(), Some(Action::Create { bytes: GIB, incomplete: true }));
    let half = || volume(GIB, &[TAG, INCOMPLETE]);
    // It is unknown how much had arrived.
    assert_eq!(node.with("pvc-1", half()).only(), Some(Action::Remove));
    let mut node = Node::new([asked.clone()]).with("pvc-1", half()).begun("pvc-1");
    assert_eq!((node.only(), node.stand("pvc-1")), (None, VolumeState::AwaitingUpload { refused: None }));
    let status = status_of(&asked, &VolumeState::AwaitingUpload { refused: None }, Timestamp::UNIX_EPOCH);
    assert_eq!(
        (status.phase, status.conditions[0].message.as_deref()),
        (
            Some(VolumePhase::Populating),
            Some(
                "it waits for an image: virtctl image-upload; or sheaf serve FILE, then kubectl annotate localvolume pvc-1 \
                 sheaf.dev/image='URL sha256:DIGITS'; or on n1: sheaf-agent volumes upload web/root FILE"
            )
        )
    );
    node.offered.insert("pvc-1".into(), Some(GIB / 2));
    assert_eq!(node.only(), Some(Action::Receive { scratch: GIB / 2 }));
    node.memory.busy.insert("pvc-1".into());
    let half_way = Progress { done_bytes: 5, total_bytes: Some(10), percent: Some(50) };
    node.memory.filling.insert("pvc-1".into(), half_way);
    assert_eq!((node.only(), node.stand("pvc-1")), (None, VolumeState::Filling(half_way)));
}

#[test]
fn an_upload_that_was_not_taken_is_told_and_the_next_one_need_not_wait() {
    let asked = object("pvc-1", json!({"upload": {}}));
    let mut node = Node::new([asked.clone()]);
    node.memory.failed.insert("pvc-1".into(), failure(VolumeReason::ImageTooLarge, Some(100)));
    assert_eq!(node.only(), Some(Action::Create { bytes: GIB, incomplete: true }));
    let node = node.with("pvc-1", volume(GIB, &[TAG, INCOMPLETE])).begun("pvc-1");
    let waits = VolumeState::AwaitingUpload { refused: Some("no".into()) };
    assert_eq!((node.only(), node.stand("pvc-1")), (None, waits.clone()));
    let status = status_of(&asked, &waits, Timestamp::UNIX_EPOCH);
    let message = status.conditions[0].message.as_deref().unwrap();
    assert!(message.starts_with("no; it waits for an image: virtctl"), "{message}");
}

#[test]
fn a_volume_for_an_upload_fetches_the_image_that_an_operator_notes_and_the_next_one_after_a_wrong_one() {
    let note = |text: &str| {
        let mut asked = object("pvc-1", json!({"upload": {}}));
        asked.metadata.annotations = Some([("sheaf.dev/image".to_owned(), text.to_owned())].into());
        asked
    };
    let half = |object| Node::new([object]).with("pvc-1", volume(GIB, &[TAG, INCOMPLETE])).begun("pvc-1");
    let (first, second) = ("1".repeat(64), "2".repeat(64));
    let mut node = half(note(&format!("http://10.0.0.1/a sha256:{first}")));
    let fetch = |digits: &str| {
        let source = HttpSource {
            url: "http://10.0.0.1/a".into(),
            checksum: format!("sha256:{digits}"),
            ..HttpSource::default()
        };
        Action::Fill { source: ImageSource::Http(source), scratch: None }
    };
    assert_eq!(node.only(), Some(fetch(&first)));
    let image = node.objects["pvc-1"].image().unwrap().ok();
    let wrong = Failure { image, ..failure(VolumeReason::ChecksumMismatch, None) };
    node.memory.failed.insert("pvc-1".into(), wrong.clone());
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::ChecksumMismatch));
    let mut node = half(note(&format!("http://10.0.0.1/a  sha256:{second}")));
    node.memory.failed.insert("pvc-1".into(), wrong);
    assert_eq!(node.only(), Some(fetch(&second)));
    node.memory.filled.insert("pvc-1".into());
    assert_eq!(node.only(), Some(Action::Finish));
    for bad in ["", "http://10.0.0.1/a", "ftp://10.0.0.1/a sha256:00", "http:///a sha256:00"] {
        let node = half(note(bad));
        assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::BadImage), "{bad}");
    }
}

/// Volumes for `claims`, ready to be filled.
fn to_fill(claims: &[&str]) -> Node {
    let named = claims.iter().enumerate().map(|(number, claim)| {
        let mut asked = object(&format!("pvc-{number}"), http());
        asked.metadata.annotations = Some([("sheaf.dev/claim".to_owned(), (*claim).to_owned())].into());
        asked
    });
    let mut node = Node::new(named);
    for number in 0..claims.len() {
        let name = format!("pvc-{number}");
        node = node.with(&name, volume(GIB / 4, &[TAG, INCOMPLETE])).begun(&name);
        Arc::make_mut(node.objects.get_mut(&name).unwrap()).spec.size_bytes = GIB / 4;
    }
    node
}

fn filled_now(node: &Node) -> Vec<String> {
    node.actions().into_iter().filter(|(_, action)| action.fills()).map(|(name, _)| name).collect()
}

#[test]
fn a_namespace_has_one_slot_so_that_two_slow_imports_do_not_keep_others_out() {
    let mut node = to_fill(&["a/one", "a/two", "b/three", "c/four"]);
    assert_eq!(filled_now(&node), ["pvc-0", "pvc-2"]);
    for name in ["pvc-0", "pvc-1"] {
        // Whatever an earlier version had begun.
        node.memory.filling.insert(name.into(), Progress::default());
    }
    assert_eq!(filled_now(&node), [""; 0]);
    node.memory.filling.remove("pvc-1");
    assert_eq!(filled_now(&node), ["pvc-2"]);
}

#[test]
fn space_for_a_second_volume_is_booked_before_an_image_is_converted() {
    let mut node = to_fill(&["a/one", "b/two"]);
    let room = 4 * GIB - 2 * (GIB / 4);
    node.memory.scratch = [("pvc-0".to_owned(), room), ("pvc-1".to_owned(), 4 << 20)].into();
    let actions = node.actions();
    assert!(
        matches!(&actions[..], [(name, Action::Fill { scratch: Some(bytes), .. })] if name == "pvc-0" && *bytes == room)
    );
    assert_eq!(node.reason("pvc-1"), VolumeReason::OutOfSpace);
    // It counts as long as it is not made, and as what it is from then on.
    node.memory.filling.insert("pvc-0".into(), Progress::default());
    assert_eq!((filled_now(&node), node.reason("pvc-1")), (Vec::new(), VolumeReason::OutOfSpace));
    let node = node.with("pvc-0-image", volume(GIB, &[TAG, INCOMPLETE]));
    assert_eq!(filled_now(&node), ["pvc-1"]);
}

#[test]
fn an_upload_waits_until_there_is_room_to_convert_it() {
    let mut node = Node::new([object("pvc-1", json!({"upload": {}}))])
        .with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]))
        .with("pvc-9", volume(GIB * 5 / 2, &[TAG]))
        .begun("pvc-1");
    node.offered.insert("pvc-1".into(), None);
    assert_eq!((node.only(), node.reason("pvc-1")), (None, VolumeReason::OutOfSpace));
    node.offered.insert("pvc-1".into(), Some(1000));
    assert_eq!(node.only(), Some(Action::Receive { scratch: 4 << 20 }));
}

#[test]
fn nothing_is_fetched_while_the_import_policy_is_not_known() {
    let mut node = to_fill(&["a/one"]);
    node.imports = Err("the node has not read the ImportPolicy yet");
    assert_eq!((node.only(), node.reason("pvc-0")), (None, VolumeReason::SourceForbidden));
}

/// Whatever sizes, claims and fills there are: no panic, no more fills than slots, one a namespace, and never more promised
/// than the pool holds.
#[test]
fn no_state_of_fills_promises_more_than_the_pool_holds() {
    let mut state = 0x5eaf_u64;
    let mut next = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    };
    let mut fills = 0;
    for _ in 0..2_000 {
        let claims: Vec<_> = (0..next() % 6)
            .map(|number| format!("{}/{number}", ["a", "b", "c"][(next() % 3) as usize]))
            .collect();
        let mut node = to_fill(&claims.iter().map(String::as_str).collect::<Vec<_>>());
        let size = |random: u64| match random % 6 {
            0 => random,
            1 => u64::MAX - random % 3,
            _ => random % (2 * GIB),
        };
        for number in 0..claims.len() {
            let name = format!("pvc-{number}");
            let bytes = size(next());
            Arc::make_mut(node.objects.get_mut(&name).unwrap()).spec.size_bytes = bytes;
            node.groups.get_mut(GROUP).unwrap().volumes.get_mut(&name).unwrap().bytes = bytes;
            if next() % 2 == 0 {
                node.memory
                    .scratch
                    .insert(name.clone(), scratch_bytes(bytes, (next() % 2 == 0).then(|| size(next()))));
            }
            if next() % 5 == 0 {
                node.memory.filling.insert(name, Progress::default());
            }
        }
        let promised: u128 = node.groups[GROUP].volumes.values().map(|volume| u128::from(volume.bytes)).sum();
        let mut booked = 0_u128;
        for (name, _, action) in &node.plan().actions {
            let Action::Fill { scratch, .. } = action else { continue };
            fills += 1;
            booked += u128::from(scratch.unwrap_or(0));
            let namespace = |name: &str| node.objects[name].claim().split('/').next().unwrap().to_owned();
            assert!(node.memory.filling.keys().all(|other| namespace(other) != namespace(name)));
        }
        assert!(booked == 0 || promised + booked <= u128::from(4 * GIB), "{promised} + {booked}");
        let planned = filled_now(&node).len();
        assert!(planned == 0 || planned + node.memory.filling.len() <= FILLS);
    }
    assert!(fills > 500, "{fills} fills were planned: the test tries too little");
}

#[test]
fn what_an_earlier_try_left_beside_a_volume_is_removed_before_it_is_filled() {
    let left = format!("pvc-1{SCRATCH}");
    let node = Node::new([object("pvc-1", http())])
        .with("pvc-1", volume(GIB, &[TAG, INCOMPLETE]))
        .with(&left, volume(GIB, &[TAG, INCOMPLETE]))
        .begun("pvc-1");
    assert_eq!(node.actions(), [(left, Action::Remove)]);
}

/// A node on which anything may be: objects that are deleted or not, volumes in any state, all times and sizes.
fn any_node() -> impl Strategy<Value = (Node, i64, bool)> {
    let name = || prop::sample::select(vec!["pvc-1", "pvc-2", "snap-1", "pvc-1-image"]);
    let source = prop::sample::select(vec![
        json!({"blank": {}}),
        http(),
        json!({"upload": {}}),
        json!({"volume": {"name": "pvc-2"}}),
        json!({"snapshot": {"name": "snap-1"}}),
    ]);
    let object =
        (name(), source, any::<i64>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<Option<u64>>());
    let object = object.prop_map(|(name, source, bytes, deleted, held, snapshot, had)| {
        let kind = if snapshot { "Snapshot" } else { "Volume" };
        let bytes = bytes.unsigned_abs();
        let spec =
            json!({"nodeName": "n1", "pool": "default", "sizeBytes": bytes, "source": source, "kind": kind});
        let mut object = object_of(name, spec);
        object.metadata.deletion_timestamp =
            deleted.then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        if !held {
            object.metadata.finalizers = None;
        }
        let status = sheaf_api::storage::LocalVolumeStatus { size_bytes: had, ..Default::default() };
        object.status = Some(status);
        object
    });
    let tags = prop::sample::subsequence(vec![TAG, INCOMPLETE, SNAPSHOT], 0..=3);
    let found = (name(), any::<u64>(), tags, any::<(bool, bool)>()).prop_map(
        |(name, bytes, tags, (active, open))| {
            (name.to_owned(), Volume { active, open, ..volume(bytes, &tags) })
        },
    );
    let failure = (name(), any::<Option<i64>>(), any::<u32>()).prop_map(|(name, until, times)| {
        let failure = Failure {
            reason: VolumeReason::NodeFailed,
            message: String::new(),
            times,
            until,
            generation: Some(1),
            image: None,
        };
        (name.to_owned(), failure)
    });
    let pool = prop::option::of((any::<u64>(), prop::num::f64::ANY, prop::num::f64::ANY).prop_map(
        |(bytes, data_percent, metadata_percent)| ThinPool { bytes, data_percent, metadata_percent },
    ));
    let names = || prop::collection::btree_set(name().prop_map(str::to_owned), 0..3);
    (
        prop::collection::vec(object, 0..4),
        prop::collection::btree_map(name().prop_map(str::to_owned), any::<u64>(), 0..3),
        prop::collection::vec(found, 0..4),
        prop::collection::vec(failure, 0..3),
        (names(), names(), names(), names()),
        pool,
        any::<(i64, bool)>(),
    )
        .prop_map(
            |(objects, scratch, found, failed, (begun, busy, filling, filled), pool, (now, settled))| {
                let mut node = Node::new(objects);
                let group = node.groups.get_mut(GROUP).unwrap();
                group.pool = pool;
                group.volumes.extend(found);
                node.memory = Memory {
                    begun,
                    busy,
                    filled,
                    scratch,
                    failed: failed.into_iter().collect(),
                    filling: filling.into_iter().map(|name| (name, Progress::default())).collect(),
                    ..Memory::default()
                };
                (node, now, settled)
            },
        )
}

proptest! {
    #[test]
    fn whatever_is_there_the_plan_does_not_panic_and_removes_no_complete_volume_that_is_wanted(
        (node, now, settled) in any_node()
    ) {
        let Node { objects, groups, memory, offered, imports } = &node;
        let observed = Observed { objects, groups, memory, offered, imports: *imports, now, settled };
        let plan = plan(&observed);
        for (name, group, action) in &plan.actions {
            prop_assert!(*action == Action::StopFilling || !memory.busy.contains(name));
            let is_complete = groups[group].volumes.get(name).is_some_and(|volume| !volume.has(INCOMPLETE));
            if *action == Action::Remove && is_complete {
                let object = objects.get(name);
                prop_assert!(object.is_some_and(|object| object.metadata.deletion_timestamp.is_some()));
            }
        }
        for (name, stand) in &plan.states {
            status_of(&objects[name], stand, Timestamp::UNIX_EPOCH);
        }
    }
}
