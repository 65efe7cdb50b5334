//! Trials on a machine in memory: its networkd makes a bridge exactly when its file is there.

use super::*;
use crate::network::layers::Layer;
use sheaf_config::load::parse_node_config;
use sheaf_host::fakes::{Answers, FakeAlarm, FakeCall, FakeLinks, FakeNetworkd, FakeReach, FakeRun};
use sheaf_host::links::Link;
use sheaf_host::reach::Gateway;
use sheaf_links::Bridge;
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
    node: Links,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn links(with_br1: bool) -> Vec<Link> {
    let found_nic = |number: u8| Link {
        name: format!("enp{number}s0"),
        state: "up".into(),
        is_nic: true,
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
    let mut links = vec![found_nic(1), found_nic(2), br0];
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
    let timeouts = Timeouts {
        attempt: short,
        between: Duration::from_millis(1),
        alarm: Duration::from_secs(40),
        restore: short,
    };
    let trials = Trials { paths, hosts, timeouts };
    let node = parse_node_config("n", NODE).unwrap_or_else(|errors| panic!("{errors}")).network.links;
    World { root, trials, links: there, alarm, networkd, reach, run, node }
}

fn layer() -> Layer {
    let bridge = Bridge { name: "br1".into(), ports: vec!["enp2s0".into()], ..Bridge::default() };
    let links = Links { bridges: vec![bridge], ..Links::default() };
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
    let found_nics = crate::network::found_nics(&links(true));
    let (network, notes) = crate::network::at_boot(&world.trials.paths, &world.node, &found_nics, None);
    assert_eq!((network.bridges.len(), notes.len()), (2, 0));
}

#[tokio::test]
async fn what_cuts_the_node_off_is_rolled_back_and_the_probe_is_named() {
    let world = world("cut", true, FakeRun::default());
    let Ended::RolledBack(probe, why, probes) = world.attempt().await.unwrap() else { panic!("kept") };
    assert_eq!((probe.as_str(), why.as_str()), ("gateway", "10.0.2.2 over br0 does not answer"));
    let gateway = probes.iter().find(|probe| probe.name == "gateway").unwrap();
    assert_eq!((gateway.before, gateway.after, gateway.restored), (Some(true), Some(false), Some(true)));
    world.is_untouched();
    assert!(world.run.asked().contains(&"ip link delete dev br1".into()), "{:?}", world.run.asked());
    let last = world.trials.last().unwrap();
    assert_eq!((last.kept, last.why.as_str()), (false, "gateway: 10.0.2.2 over br0 does not answer"));
}

#[tokio::test]
async fn a_step_that_fails_is_rolled_back_with_those_before_it() {
    let world = world("step", false, FakeRun::default());
    world.networkd.fail_once("reload");
    let Ended::RolledBack(probe, why, _) = world.attempt().await.unwrap() else { panic!("kept") };
    assert_eq!(probe, "links");
    assert!(
        why.starts_with("the change could not be made: reload networkd: systemd-networkd cannot reload"),
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
async fn a_program_that_fails_while_rolling_back_does_not_stop_the_rest() {
    let run = FakeRun::default().fails("ip link delete", "device or resource busy");
    let world = world("busy", true, run);
    let Ended::RolledBack(..) = world.attempt().await.unwrap() else { panic!("kept") };
    world.is_untouched();
    let why = world.trials.last().unwrap().why;
    assert!(why.contains("delete br1: ") && why.contains("busy"), "{why}");
}

#[tokio::test]
async fn the_alarm_rolls_back_what_a_killed_agent_left() {
    let mut world = world("killed", true, FakeRun::default());
    world.trials.timeouts.attempt = Duration::from_secs(3600);
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
    assert_eq!(world.trials.last().unwrap().why, "it was not confirmed in time");
    // It rings once more, for whatever reason.
    assert_eq!(
        crate::network::by_hand::revert(&world.trials, Some(&id)).await.unwrap(),
        "nothing to roll back\n"
    );
}

#[tokio::test]
async fn an_agent_that_starts_rolls_back_a_policy_on_trial_and_leaves_an_operators() {
    for by_hand in [false, true] {
        let world = world(if by_hand { "hand-left" } else { "left" }, false, FakeRun::default());
        let change = Change { by_hand, ..world.change(Layers::default(), Layers::default().with(layer())) };
        let ended = world.trials.attempt(&change, server(), Some(Duration::from_secs(60))).await.unwrap();
        assert!(matches!(ended, Ended::Waits(_)), "{ended:?}");
        let settled = world.trials.settle(true).await.unwrap();
        assert_eq!(settled.is_some(), !by_hand);
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

/// Does `work` until it has waited `polls` times and then drops it, as a kill between two steps does; none when it was
/// killed. Every effect is awaited, so that each number of polls ends between two others.
async fn killed_after<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut left = polls;
    std::future::poll_fn(move |context| match left.checked_sub(1) {
        None => std::task::Poll::Ready(None),
        Some(fewer) => {
            left = fewer;
            work.as_mut().poll(context).map(Some)
        }
    })
    .await
}

/// What follows a kill.
#[derive(Clone, Copy, Debug)]
enum Then {
    AgentStarts,
    AlarmRings,
    OperatorConfirms,
}

impl World {
    /// A trial that waits for a hand, and its id.
    async fn on_trial(&self) -> String {
        let change = self.change(Layers::default(), Layers::default().with(layer()));
        let ended = self.trials.attempt(&change, server(), Some(Duration::from_secs(60))).await.unwrap();
        assert!(matches!(ended, Ended::Waits(_)), "{ended:?}");
        self.trials.current().unwrap().unwrap().id
    }

    async fn recover(&self, then: Then, id: &str) {
        if let Then::OperatorConfirms = then {
            // Refused where the roll-back was decided, and of no effect where it was kept.
            let _ = crate::network::by_hand::confirm(&self.trials).await;
        }
        if let Then::AlarmRings = then {
            crate::network::by_hand::revert(&self.trials, Some(id)).await.unwrap();
        }
        self.trials.settle(true).await.unwrap();
    }

    /// What runs is what the next boot brings, and no trial is left.
    fn agrees(&self, context: &str) -> bool {
        let confirmed = Layers::confirmed(&self.trials.paths).unwrap();
        let is_kept = confirmed.layers == [layer()];
        assert!(is_kept || confirmed == Layers::default(), "{context}");
        assert_eq!(self.files().is_empty(), !is_kept, "{context}: files and what was confirmed differ");
        assert_eq!(self.trials.hosts.links.list().unwrap(), links(is_kept), "{context}");
        assert!(!self.trials.file("trial.json").exists(), "{context}");
        assert_eq!(self.trials.last().unwrap().kept, is_kept, "{context}");
        is_kept
    }
}

#[tokio::test]
async fn killed_between_any_two_steps_of_keeping_or_rolling_back_what_runs_is_what_the_next_boot_brings() {
    for keeps in [true, false] {
        for then in [Then::AgentStarts, Then::AlarmRings, Then::OperatorConfirms] {
            let (mut outcomes, mut polls) = (Vec::new(), 0);
            loop {
                let world = world(&format!("cut-{keeps}-{then:?}-{polls}"), false, FakeRun::default());
                let id = world.on_trial().await;
                let is_done = match keeps {
                    true => killed_after(polls, world.trials.keep(None)).await.is_some(),
                    false => killed_after(polls, world.trials.roll_back(None, "an operator rolled it back"))
                        .await
                        .is_some(),
                };
                world.recover(then, &id).await;
                outcomes.push(world.agrees(&format!("keeps: {keeps}, then {then:?}, killed after {polls}")));
                if is_done {
                    break;
                }
                polls += 1;
                assert!(polls < 100, "it never ends");
            }
            assert!(outcomes.len() > 4, "{} places to be killed at", outcomes.len());
            // Whole at last, and decided once: no outcome changes to and fro.
            assert_eq!(outcomes.last(), Some(&keeps));
            let changes = outcomes.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes <= 1, "{keeps} {then:?}: {outcomes:?}");
        }
    }
}

#[tokio::test]
async fn what_is_being_rolled_back_cannot_be_confirmed() {
    let world = world("decided", false, FakeRun::default());
    world.on_trial().await;
    world.networkd.fail_once("reload");
    assert!(world.trials.roll_back(None, "an operator rolled it back").await.is_err());
    let error = world.trials.keep(None).await.unwrap_err().to_string();
    assert!(error.ends_with("is being rolled back: an operator rolled it back"), "{error}");
    world.trials.settle(true).await.unwrap();
    world.is_untouched();
}

#[tokio::test]
async fn what_was_confirmed_meanwhile_is_not_overwritten_by_a_change_that_did_not_know_of_it() {
    let world = world("meanwhile", false, FakeRun::default());
    world.attempt().await.unwrap();
    // Its `before` is that of an agent which read it earlier.
    let Err(NotTried::Later(why)) = world.attempt().await else { panic!("tried") };
    assert_eq!(why, "the confirmed links were changed meanwhile");
}

/// Whether the thread of the runtime went on while `work` was done.
async fn goes_on_while<T>(work: impl Future<Output = T>) -> (T, bool) {
    let mut ticks = 0;
    let mut work = std::pin::pin!(work);
    let mut interval = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            done = &mut work => return (done, ticks >= 10),
            _ = interval.tick() => ticks += 1,
        }
    }
}

#[tokio::test]
async fn a_program_that_hangs_does_not_stop_the_agents_thread() {
    #[allow(clippy::disallowed_methods)] // it plays a program that hangs
    let run = FakeRun::default().does("ip link delete", |_| std::thread::sleep(Duration::from_millis(300)));
    let world = world("hangs", true, run);
    let (ended, went_on) = goes_on_while(world.attempt()).await;
    assert!(matches!(ended.unwrap(), Ended::RolledBack(..)) && went_on);
}

#[tokio::test]
async fn a_lock_that_another_process_holds_does_not_stop_the_agents_thread() {
    let world = world("held", false, FakeRun::default());
    let id = world.on_trial().await;
    let held = std::fs::File::options().write(true).open(world.trials.file("lock")).unwrap();
    held.lock().unwrap();
    std::thread::spawn(move || {
        #[allow(clippy::disallowed_methods)] // it plays a process that holds the lock
        std::thread::sleep(Duration::from_millis(300));
        drop(held);
    });
    let (kept, went_on) = goes_on_while(world.trials.keep(Some(&id))).await;
    assert!(kept.is_ok() && went_on);
}
