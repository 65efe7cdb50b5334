//! Rounds of the controller: whose request counts, and when the EFI system partition is mounted.

use super::*;
use crate::channels::{self, Publish};
use crate::listed::Listed;
use crate::objects::testing::Memory;
use crate::reconcile::{Controller as _, Outbox, Wakes, Woken};
use crate::status::UpdateSection;
use crate::update::by_hand::{self, Ask, Asked};
use crate::update::controller::{Controller, Source};
use kube::ResourceExt as _;
use sheaf_api::node_update::{self, NodeUpdate, NodeUpdateSpec, NodeUpdateStatus};
use std::time::Duration;

type Updates = Arc<Memory<NodeUpdate, NodeUpdateStatus>>;

/// An agent of `world`.
struct Agent {
    controller: Controller<FakeVms, Updates>,
    ctx: Context,
    updates: Updates,
    asked: Outbox<Asked>,
    socket: PathBuf,
    /// Channels stay open.
    _wakes: Wakes<Source>,
    _network: tokio::sync::watch::Sender<channels::NetworkState>,
}

impl World {
    fn agent(&self, updates: &Updates) -> Agent {
        let paths = crate::paths::Paths::under(self.root.path());
        fs::create_dir_all(&paths.run).unwrap();
        fs::create_dir_all(&paths.etc).unwrap();
        let slot = self.running.slot.name();
        fs::write(paths.boot_env(), format!("SLOT={slot}\nINSTALL_ID={INSTALL}\n")).unwrap();
        let release = format!("IMAGE_ID=sheaf\nIMAGE_VERSION={}\n", self.running.version);
        fs::write(paths.etc.join("os-release"), release).unwrap();
        let config =
            sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
        let socket = paths.update_socket();
        let (ctx, publish) = channels::open(paths, config);
        let Publish { leaving, sections, network, .. } = publish;
        let mut wakes = Wakes::new();
        let (controller, _, asked) = Controller::new(
            ctx.clone(),
            leaving,
            sections.update,
            self.hosts(),
            updates.clone(),
            updates.listed.subscribe(),
            &mut wakes,
        );
        Agent { controller, ctx, updates: updates.clone(), asked, socket, _wakes: wakes, _network: network }
    }

    fn mounts(&self) -> usize {
        self.units.asked().iter().filter(|asked| *asked == "start sheaf-esp.service").count()
    }
}

fn updates() -> Updates {
    Memory::new(|object, status| object.status = Some(status))
}

/// The NodeUpdate of the node, in its `generation`.
fn object(version: &str, generation: i64) -> NodeUpdate {
    let spec = NodeUpdateSpec {
        node_name: "n1".into(),
        version: version.into(),
        source: Some(node_update::Source { url: Some(URL.into()), ..node_update::Source::default() }),
        action: Action::Check,
        health_timeout_seconds: 600,
        ..NodeUpdateSpec::default()
    };
    let mut object = NodeUpdate::new("n1", spec);
    object.metadata.uid = Some("u1".into());
    object.metadata.generation = Some(generation);
    object
}

fn put(updates: &Updates, object: NodeUpdate) {
    updates.listed.send_modify(|listed| {
        listed.objects.insert(object.name_any(), Arc::new(object));
    });
}

impl Agent {
    async fn round(&mut self) -> UpdateSection {
        self.controller.round(&Woken::start()).await;
        self.ctx.status.read().update.clone()
    }

    /// Makes rounds until the phase is `phase`; what the status says then.
    async fn until(&mut self, phase: Phase) -> UpdateSection {
        let wanted = format!("{phase:?}");
        for _ in 0..2000 {
            let now = self.round().await;
            if now.phase.as_ref() == Some(&wanted) && now.steps.is_empty() {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("it is never {phase:?}: {:?}", self.round().await);
    }

    /// Asks as `sheaf-agent update` does; what it prints, or its error.
    async fn ask(&mut self, ask: Ask) -> Result<String, String> {
        let socket = self.socket.clone();
        let asking = tokio::task::spawn_blocking(move || by_hand::ask(&socket, &ask));
        while !asking.is_finished() {
            self.round().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        asking.await.unwrap().map_err(|error| format!("{error:#}"))
    }

    fn opened(self) -> Self {
        by_hand::open(&self.socket, self.asked.clone()).unwrap();
        self
    }

    /// What the NodeUpdate says.
    fn object_says(&self) -> (Option<Phase>, String) {
        let listed: Listed<NodeUpdate> = self.updates.listed.borrow().clone();
        let status = listed.objects["n1"].status.clone().unwrap_or_default();
        (status.phase, status.message.unwrap_or_default())
    }
}

fn ask(version: &str, action: Action) -> Ask {
    let source = Some(Place::Url(URL.into()));
    Ask::Update { version: version.into(), source, action, timeout: 600, without_snapshot: false }
}

#[tokio::test]
async fn a_node_at_rest_mounts_its_boot_partition_once_and_not_at_each_start_of_the_agent() {
    let world = World::new(true);
    let updates = updates();
    let first = world.agent(&updates).round().await;
    assert_eq!((first.running.as_str(), world.mounts()), ("slot a: 0.1.0", 1), "nothing was known");
    for _ in 0..3 {
        let again = world.agent(&updates).round().await;
        assert_eq!((again, world.mounts()), (first.clone(), 1));
    }
    // A trial, whatever else is known.
    world.records().set_trial(&crate::update::records::Trial::default()).unwrap();
    world.agent(&updates).round().await;
    assert_eq!(world.mounts(), 2);
}

#[tokio::test]
async fn a_release_on_trial_is_judged_also_when_the_state_partition_was_lost() {
    let mut world = World::new(true);
    world.agent(&updates()).round().await;
    world.work(&wanted(), usize::MAX).await;
    world.boot();
    world.records().end_trial().unwrap();
    let section = world.agent(&updates()).round().await;
    assert_eq!(section.phase.as_deref(), Some("OnTrial"), "{section:?}");
    assert_eq!(section.running, "slot b: 0.2.0, 2 tries left");
}

#[tokio::test]
async fn a_release_that_the_initrd_gave_up_is_named_until_a_release_is_found_good() {
    let world = World::new(true);
    let why =
        "slot b was given up: 3 boots in a row ended before it had run for 90 s; its root may be damaged";
    let file = crate::paths::Paths::under(world.root.path()).update().join("given-up");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("{why}\n")).unwrap();
    // Slots are observed, then known.
    for _ in 0..2 {
        assert_eq!(world.agent(&updates()).round().await.message, why);
    }
    world.records().end_trial().unwrap();
    assert_eq!(world.agent(&updates()).round().await.message, "");
}

#[tokio::test]
async fn what_was_remembered_of_the_slots_is_forgotten_before_they_change() {
    let world = World::new(true);
    world.agent(&updates()).round().await;
    assert!(world.records().slots().is_some());
    apply::all(world.env(world.observed()), Vec::new()).await.unwrap();
    assert_eq!(world.records().slots(), None);
}

#[tokio::test]
async fn what_is_asked_for_on_the_node_counts_without_an_api_server_and_survives_the_agent() {
    let world = World::new(true);
    let updates = updates();
    updates.listed.send_modify(|listed| listed.synced = false);
    let mut agent = world.agent(&updates).opened();
    let said = agent.ask(ask("0.2.0", Action::Stage)).await.unwrap();
    assert_eq!(said, "0.2.0 is asked for; `sheaf-agent update status --watch` shows how far it is");
    let staged = agent.until(Phase::Staged).await;
    assert_eq!((staged.wanted.as_deref(), staged.is_local), (Some("0.2.0"), true));
    assert_eq!(staged.staged.as_deref(), Some("0.2.0"));
    drop(agent);
    let mut agent = world.agent(&updates);
    assert!(agent.until(Phase::Staged).await.is_local);
}

#[tokio::test]
async fn the_later_of_node_update_and_local_request_counts_and_the_other_is_told() {
    let world = World::new(true);
    let updates = updates();
    put(&updates, object("0.2.0", 1));
    let mut agent = world.agent(&updates).opened();
    agent.until(Phase::Checked).await;
    // Asked for on the node: the NodeUpdate is passed over, also by the next agent.
    agent.ask(ask("0.3.0", Action::Check)).await.unwrap();
    let refused = agent.until(Phase::Refused).await;
    assert!(refused.is_local && refused.message.contains("0.3.0"), "{refused:?}");
    let (phase, message) = agent.object_says();
    assert_eq!(phase, Some(Phase::Refused));
    assert!(message.starts_with("an administrator asked for checking 0.3.0 on the node itself"), "{message}");
    let mut agent = world.agent(&updates);
    assert!(agent.round().await.is_local);
    // Changed afterwards: it counts, and the request on the node is over.
    put(&updates, object("0.2.0", 2));
    assert!(!agent.until(Phase::Checked).await.is_local);
    assert_eq!(agent.object_says().0, Some(Phase::Checked));
    assert_eq!(world.records().local(), None);
}

#[tokio::test]
async fn a_local_request_can_be_withdrawn_and_what_makes_no_sense_is_refused() {
    let world = World::new(true);
    let updates = updates();
    let mut agent = world.agent(&updates).opened();
    assert_eq!(agent.ask(Ask::Cancel).await.unwrap_err(), "nothing is asked for on this node");
    assert_eq!(
        agent.ask(ask("latest", Action::Apply)).await.unwrap_err(),
        "\"latest\" is not a version; write three numbers, as in 0.2.0"
    );
    assert_eq!(
        agent.ask(Ask::Rollback).await.unwrap_err(),
        "the other slot holds no release that ran well; name a version and where it is: sheaf-agent update apply"
    );
    agent.ask(ask("0.2.0", Action::Check)).await.unwrap();
    agent.until(Phase::Checked).await;
    let said = agent.ask(Ask::Cancel).await.unwrap();
    assert_eq!(said, "withdrawn; the NodeUpdate of this node counts again");
    assert_eq!(agent.round().await.wanted, None);
    assert_eq!(world.records().local(), None);
}

#[tokio::test]
async fn a_rollback_by_hand_starts_the_release_in_the_other_slot_and_stays_there() {
    let mut world = World::new(true);
    world.work(&wanted(), usize::MAX).await;
    world.boot();
    world.finish(&wanted(), "an update").await;
    let updates = updates();
    let mut agent = world.agent(&updates).opened();
    agent.ask(Ask::Rollback).await.unwrap();
    for _ in 0..2000 {
        agent.round().await;
        if world.units.asked().contains(&"start reboot.target".to_owned()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(agent);
    assert_eq!(world.boot(), "0.1.0");
    let section = world.agent(&updates).until(Phase::Updated).await;
    assert_eq!((section.running.as_str(), section.wanted.as_deref()), ("slot a: 0.1.0", Some("0.1.0")));
}
