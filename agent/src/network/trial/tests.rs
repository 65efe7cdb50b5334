//! Trials on a machine in memory: its networkd makes a bridge exactly when its file is there.

use super::*;
use crate::network::layers::Layer;
use sheaf_api::node_network::links::{Bridge, Links as AskedLinks};
use sheaf_config::load::parse_node_config;
use sheaf_host::fakes::{Answers, FakeAlarm, FakeCall, FakeLinks, FakeNetworkd, FakeReach, FakeRun};
use sheaf_host::links::Link;
use sheaf_host::reach::Gateway;
use std::path::Path;
use std::path::PathBuf;

const NODE: &str = "version = 1\nsystem.hostname = \"a\"\n[[network.bridge]]\nname = \"br0\"\n\
                    ports = [\"52:54:00:00:00:01\"]\naddresses = [\"10.0.2.11/24\"]\ngateway = \"10.0.2.2\"\n";

struct World {
    root: PathBuf,
    trials: Trials,
    links: Arc<FakeLinks>,
    alarm: Arc<FakeAlarm>,
    networkd: Arc<FakeNetworkd>,
    reach: Arc<FakeReach>,
    run: Arc<FakeRun>,
    node: Network,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn links(with_br1: bool) -> Vec<Link> {
    let card = |number: u8| Link {
        name: format!("enp{number}s0"),
        state: "up".into(),
        is_card: true,
        permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
        mtu: 1500,
        ..Link::default()
    };
    let bridge = |name: &str, port: &str| Link {
        name: name.into(),
        state: "up".into(),
        bridge_ports: Some(vec![port.into()]),
        mtu: 1500,
        ..Link::default()
    };
    let br0 = Link { addresses: vec!["10.0.2.11".parse().unwrap()], ..bridge("br0", "enp1s0") };
    let mut links = vec![card(1), card(2), br0];
    if with_br1 {
        links.push(bridge("br1", "enp2s0"));
    }
    links
}

fn answers(gateway: bool) -> Answers {
    let there = Gateway { address: "10.0.2.2".parse().unwrap(), link: "br0".into() };
    let name_servers = vec![("10.0.2.3".parse().unwrap(), true)];
    Answers { gateways: vec![(there, if gateway { 1500 } else { 0 })], name_servers }
}

/// A machine on which `br1` cuts the gateway off when `cuts`.
fn world(name: &str, cuts: bool, run: FakeRun) -> World {
    let root = std::env::temp_dir().join(format!("sheaf-trial-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let paths = Arc::new(Paths::under(&root));
    let (there, reach) = (Arc::new(FakeLinks::default()), Arc::new(FakeReach::default()));
    there.set(links(false));
    reach.set(answers(true));
    let (file, sets, says) = (paths.networkd().join("20-sheaf-br1.netdev"), there.clone(), reach.clone());
    let networkd = Arc::new(FakeNetworkd::with(move |_| {
        let has = file.exists();
        sets.set(links(has));
        says.set(answers(!(has && cuts)));
    }));
    let (alarm, run) = (Arc::new(FakeAlarm::default()), Arc::new(run));
    let hosts = Hosts {
        links: there.clone(),
        networkd: networkd.clone(),
        alarm: alarm.clone(),
        run: run.clone(),
        reach: reach.clone(),
        call: Arc::new(FakeCall::default().answers("https://a:6443", 401, "")),
    };
    let short = Duration::from_millis(20);
    let patience = Patience {
        attempt: short,
        between: Duration::from_millis(1),
        alarm: Duration::from_secs(40),
        restore: short,
    };
    let trials = Trials { paths, hosts, patience };
    let node = parse_node_config("n", NODE).unwrap_or_else(|errors| panic!("{errors}")).network;
    World { root, trials, links: there, alarm, networkd, reach, run, node }
}

fn layer() -> Layer {
    let bridge = Bridge { name: "br1".into(), ports: vec!["enp2s0".into()], ..Bridge::default() };
    let links = AskedLinks { bridges: vec![bridge], ..AskedLinks::default() };
    Layer { name: "p".into(), generation: 1, links, ..Layer::default() }
}

impl World {
    fn change(&self, before: Layers, after: Layers) -> Change {
        Change {
            title: "policy p, generation 1".into(),
            node: self.node.clone(),
            before,
            after,
            by_hand: false,
        }
    }

    async fn attempt(&self) -> Result<Ended, NotTried> {
        let change = self.change(Layers::default(), Layers::default().with(layer()));
        self.trials.attempt(&change, server(), None).await
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.trials.paths.networkd()).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// As it was: no file, no link, nothing on trial, nothing confirmed, no alarm.
    fn is_untouched(&self) {
        assert_eq!(self.files(), Vec::<String>::new());
        assert_eq!(self.trials.hosts.links.list().unwrap(), links(false));
        assert_eq!(self.trials.current().unwrap(), None);
        assert_eq!(Layers::confirmed(&self.trials.paths).unwrap(), Layers::default());
        assert!(self.alarm.armed().is_empty());
    }
}

fn server() -> Option<ApiServer> {
    Some(ApiServer { url: "https://a:6443".into(), ca: None })
}

#[tokio::test]
async fn what_answers_is_kept_over_reboots_and_the_alarm_is_called_off() {
    let world = world("kept", false, FakeRun::default());
    let Ended::Kept(probes, None) = world.attempt().await.unwrap() else { panic!("not kept") };
    let names: Vec<_> = probes.iter().map(|probe| (probe.name.as_str(), probe.before, probe.after)).collect();
    let yes = Some(true);
    assert!(names.contains(&("gateway", yes, yes)) && names.contains(&("links", None, yes)), "{names:?}");
    assert_eq!(Layers::confirmed(&world.trials.paths).unwrap().layers, [layer()]);
    assert_eq!(world.trials.current().unwrap(), None);
    assert!(world.alarm.armed().is_empty());
    assert_eq!(
        world.files(),
        ["20-sheaf-br1.link", "20-sheaf-br1.netdev", "20-sheaf-br1.network", "30-sheaf-br1-port0.network"]
    );
    // The next boot renders the same.
    let cards = cards(&links(true));
    let (network, notes) = crate::network::at_boot(&world.trials.paths, &world.node, &cards, None);
    assert_eq!((network.bridges.len(), notes.len()), (2, 0));
}

#[tokio::test]
async fn what_cuts_the_node_off_is_taken_back_and_the_probe_is_named() {
    let world = world("cut", true, FakeRun::default());
    let Ended::TakenBack(probe, why, probes) = world.attempt().await.unwrap() else { panic!("kept") };
    assert_eq!((probe.as_str(), why.as_str()), ("gateway", "10.0.2.2 over br0 does not answer"));
    let gateway = probes.iter().find(|probe| probe.name == "gateway").unwrap();
    assert_eq!((gateway.before, gateway.after, gateway.restored), (Some(true), Some(false), Some(true)));
    world.is_untouched();
    assert!(world.run.asked().contains(&"ip link delete dev br1".into()), "{:?}", world.run.asked());
    let last = world.trials.last().unwrap();
    assert_eq!((last.kept, last.why.as_str()), (false, "gateway: 10.0.2.2 over br0 does not answer"));
}

#[tokio::test]
async fn a_step_that_fails_is_taken_back_with_those_before_it() {
    let world = world("step", false, FakeRun::default());
    world.networkd.fail_once("reload");
    let Ended::TakenBack(probe, why, _) = world.attempt().await.unwrap() else { panic!("kept") };
    assert_eq!(probe, "links");
    assert!(
        why.starts_with("the change could not be made: reload networkd: systemd-networkd can not be asked"),
        "{why}"
    );
    world.is_untouched();
}

#[tokio::test]
async fn without_an_alarm_nothing_is_touched() {
    let world = world("alarm", false, FakeRun::default());
    world.alarm.fail();
    assert!(matches!(world.attempt().await, Err(NotTried::Failed(_))));
    world.is_untouched();
    assert!(world.networkd.asked().is_empty());
}

#[tokio::test]
async fn without_the_api_server_nothing_is_touched() {
    let mut world = world("api", false, FakeRun::default());
    world.trials.hosts.call = Arc::new(FakeCall::default());
    assert!(matches!(world.attempt().await, Err(NotTried::Later(_))));
    world.is_untouched();
}

#[tokio::test]
async fn a_program_that_fails_while_taking_back_does_not_stop_the_rest() {
    let run = FakeRun::default().fails("ip link delete", "device or resource busy");
    let world = world("busy", true, run);
    let Ended::TakenBack(..) = world.attempt().await.unwrap() else { panic!("kept") };
    world.is_untouched();
    let why = world.trials.last().unwrap().why;
    assert!(why.contains("delete br1: ") && why.contains("busy"), "{why}");
}

#[tokio::test]
async fn the_alarm_takes_back_what_a_killed_agent_left() {
    let mut world = world("killed", true, FakeRun::default());
    world.trials.patience.attempt = Duration::from_secs(3600);
    let change = world.change(Layers::default(), Layers::default().with(layer()));
    {
        let attempt = world.trials.attempt(&change, server(), None);
        // Killed once the change is made, while it waits for answers.
        let made = async {
            while world.trials.hosts.links.list().unwrap() != links(true) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            ended = attempt => panic!("{ended:?}"),
            () = made => {}
        }
    }
    let armed = world.alarm.armed();
    assert_eq!((armed.len(), armed[0].1), (1, Duration::from_secs(40)));
    let id = world.trials.current().unwrap().unwrap().id;
    assert_eq!(armed[0].2, ["/usr/bin/sheaf-agent", "network", "revert", "--trial", &id]);
    assert_eq!(world.trials.hosts.links.list().unwrap(), links(true));
    // What systemd runs.
    crate::network::by_hand::revert(&world.trials, Some(&id)).await.unwrap();
    world.is_untouched();
    assert!(world.trials.keep(Some(&id)).await.is_err(), "it came too late");
    assert_eq!(world.trials.last().unwrap().why, "nobody confirmed it in time");
    // It rings once more, for whatever reason.
    assert_eq!(
        crate::network::by_hand::revert(&world.trials, Some(&id)).await.unwrap(),
        "nothing to take back\n"
    );
}

#[tokio::test]
async fn an_agent_that_starts_takes_back_a_policy_on_trial_and_leaves_an_operators() {
    for by_hand in [false, true] {
        let world = world(if by_hand { "hand-left" } else { "left" }, false, FakeRun::default());
        let change = Change { by_hand, ..world.change(Layers::default(), Layers::default().with(layer())) };
        let ended = world.trials.attempt(&change, server(), Some(Duration::from_secs(60))).await.unwrap();
        assert!(matches!(ended, Ended::Waits(_)), "{ended:?}");
        let taken = world.trials.take_back_left_over(true).await.unwrap();
        assert_eq!(taken.is_some(), !by_hand);
        if by_hand {
            assert_eq!(
                crate::network::by_hand::confirm(&world.trials).await.unwrap(),
                "policy p, generation 1: kept\n"
            );
            assert_eq!(Layers::confirmed(&world.trials.paths).unwrap().layers, [layer()]);
        } else {
            world.is_untouched();
        }
    }
}

#[tokio::test]
async fn only_one_change_is_on_trial_at_a_time() {
    let world = world("busy-trial", false, FakeRun::default());
    let change = world.change(Layers::default(), Layers::default().with(layer()));
    world.trials.attempt(&change, server(), Some(Duration::from_secs(60))).await.unwrap();
    let Err(NotTried::Later(why)) = world.attempt().await else { panic!("tried") };
    assert_eq!(why, "policy p, generation 1 is on trial");
}

#[tokio::test]
async fn a_bridge_is_not_removed_under_vms() {
    let world = world("vms", false, FakeRun::default());
    world.attempt().await.unwrap();
    let mut with_vm = links(true);
    with_vm[3].bridge_ports.as_mut().unwrap().push("vnet0".into());
    world.links.set(with_vm);
    let change = world.change(Layers::default().with(layer()), Layers::default());
    let Err(NotTried::Later(why)) = world.trials.attempt(&change, server(), None).await else {
        panic!("tried")
    };
    assert_eq!(why, "an interface of a VM is in bridge br1, which would go; stop or move them");
    world.links.set(links(true));
    let ended = world.trials.attempt(&change, server(), None).await.unwrap();
    assert!(matches!(ended, Ended::Kept(..)), "{ended:?}");
    assert_eq!(world.files(), Vec::<String>::new());
    assert_eq!(world.reach.name_servers().len(), 1);
}

#[test]
fn paths_of_a_trial_are_gone_with_a_reboot_and_what_was_confirmed_is_not() {
    let paths = Paths::under(Path::new("/"));
    assert!(paths.network_trial().starts_with("/run") && paths.confirmed_network().starts_with("/state"));
}
