//! Shutdowns on fakes: the unit, the agent and the program that stops VMs.

use super::*;
use crate::paths::Paths;
use crate::status::Status;
use crate::vms::testing::domain;
use sheaf_host::alive;
use sheaf_host::fakes::{FakeUnits, FakeVms};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// A node that runs one VM, and its folder.
struct Node {
    root: tempfile::TempDir,
    units: Arc<FakeUnits>,
    vms: Arc<FakeVms>,
}

impl Node {
    fn new() -> Self {
        let vms = FakeVms::default().obeying_the_power_button();
        vms.add(domain("p1"));
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/sheaf")).unwrap();
        Self { root, units: Arc::default(), vms: Arc::new(vms) }
    }

    fn paths(&self) -> Paths {
        Paths::under(self.root.path())
    }

    fn say(&self, status: &Status) {
        std::fs::write(self.paths().status_json(), serde_json::to_string(status).unwrap()).unwrap();
    }

    async fn stop(&self) -> (anyhow::Result<()>, Vec<String>) {
        let lines = Mutex::new(Vec::new());
        let ended = guests::stop(&self.paths(), &*self.vms, &|line| lines.lock().unwrap().push(line)).await;
        (ended, lines.into_inner().unwrap())
    }
}

fn opened(node: &Node) -> (Context, crate::channels::Publish) {
    let config =
        sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
    crate::channels::open(node.paths(), config)
}

#[tokio::test]
async fn a_shutdown_is_noticed_as_soon_as_the_unit_is_being_stopped_and_shown_until_it_is_cancelled() {
    let node = Node::new();
    let (ctx, publish) = opened(&node);
    let pods = watch::Sender::new(Listed::default());
    let hosts = Hosts { units: node.units.clone(), vms: node.vms.clone() };
    let mut shutting_down = ctx.shutting_down.clone();
    let section = publish.sections.power;
    let run = run(ctx.clone(), pods.subscribe(), publish.shutting_down, section, hosts);
    let task = tokio::spawn(run);
    // Its first round found a unit that runs.
    let registered = || ctx.status.read().controllers.contains_key("power");
    while !registered() {
        tokio::task::yield_now().await;
    }
    assert!(!*shutting_down.borrow());
    node.units.set_state(GUESTS_UNIT, "deactivating");
    let noticed = tokio::time::timeout(Duration::from_secs(5), shutting_down.wait_for(|now| *now)).await;
    noticed.expect("a change of the unit wakes it").unwrap();
    let mut status = ctx.status.subscribe();
    let shown = status.wait_for(|status| status.power.shutting_down).await.unwrap().power.clone();
    assert_eq!(shown.message, "waiting for VMs to power off, at most 10 min in all: default/web");
    node.units.set_state(GUESTS_UNIT, "active");
    shutting_down.wait_for(|now| !*now).await.unwrap();
    status.wait_for(|status| status.power == PowerSection::default()).await.unwrap();
    publish.shutdown.send_replace(true);
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_vms_power_off_all_the_same() {
    let node = Node::new();
    // What an agent that died had said.
    node.say(&Status::default());
    let (ended, lines) = node.stop().await;
    ended.unwrap();
    assert_eq!(node.vms.running(), []);
    assert_eq!(lines, ["waiting at most 60 s for VMs to power off: default/web"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_runs_has_noticed_before_the_first_power_button_is_pressed() {
    let node = Node::new();
    let _alive = alive::declare(&node.paths().alive()).unwrap();
    node.say(&Status::default());
    let (path, vms) = (node.paths().status_json(), node.vms.clone());
    let agent = std::thread::spawn(move || {
        std::thread::yield_now();
        let untouched = vms.asked().is_empty();
        let mut status = Status::default();
        status.power.shutting_down = true;
        sheaf_host::file::write_atomically(&path, &serde_json::to_vec(&status).unwrap(), 0o644).unwrap();
        untouched
    });
    let (ended, lines) = node.stop().await;
    ended.unwrap();
    assert!(agent.join().unwrap(), "a button was pressed too early");
    assert_eq!(node.vms.running(), []);
    assert_eq!(lines, ["waiting at most 60 s for VMs to power off: default/web"]);
}

/// The value of `key` in a file of the image.
fn of_image(file: &str, key: &str) -> Vec<String> {
    let rootfs =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../os-image/image/rootfs/usr/lib/systemd/system");
    let text = std::fs::read_to_string(rootfs.join(file)).unwrap();
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn systemd_waits_for_the_program_longer_than_it_waits_for_vms() {
    let timeout = of_image(GUESTS_UNIT, "TimeoutStopSec").remove(0);
    let timeout = Duration::from_secs(timeout.strip_suffix('s').unwrap().parse().unwrap());
    let longest = guests::NOTICED + stop::LIMIT + 2 * stop::SPARE + guests::REPORTED;
    assert!(timeout > longest, "{timeout:?} {longest:?}");
    // reboot.target and poweroff.target force their way after 30 min.
    assert!(timeout < Duration::from_secs(1500), "{timeout:?}");
    assert_eq!(of_image(GUESTS_UNIT, "ExecStop"), ["/usr/bin/sheaf-agent", "power", "stop-guests"]);
}
