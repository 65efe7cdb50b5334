//! Resets on real files that stand for partitions, cut at every call of the disk and of a program, and run again.

use super::by_hand::{Ask, ask, mark_leaving};
use super::observe::observe;
use super::plan::{Step, plan};
use super::*;
use crate::cluster::identity::{CLIENT, Store};
use sheaf_host::disk::RawDisk;
use sheaf_host::fakes::{FakeRun, Fault, Faults};
use sheaf_host::lvm::{Group, Groups, LvmError, Member, NODE_TAG, Volume};
use sheaf_host::run::{Command, Output, RunError};
use sheaf_release::records::reset::{self, Mark};
use std::fs;
use std::sync::Mutex;

const INSTALL: &str = "6b1f7a3e-93c2-4d55-8f10-012345678900";
const MIB: usize = 1 << 20;
/// What was on the disks before.
const OLD: u8 = 0xaa;

/// mkfs.ext4 and blkdiscard of a machine whose power is cut at one of them.
#[derive(Default)]
struct Tools {
    asked: Mutex<Vec<String>>,
    fails_at: Option<usize>,
}

impl Run for Tools {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(command.to_string());
        let args: Vec<_> = command.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        let is_cut = self.fails_at == Some(asked.len() - 1);
        if let [_, _, offset, _, length, device] = &args[..]
            && args[0] == "--zeroout"
        {
            // Half of it is done when the power is cut.
            let (offset, length): (usize, usize) = (offset.parse().unwrap(), length.parse().unwrap());
            let length = if is_cut { length / 2 } else { length };
            let mut bytes = fs::read(device).unwrap();
            bytes[offset..offset + length].fill(0);
            fs::write(device, bytes).unwrap();
        }
        if is_cut {
            let command = Box::new(command.clone());
            return Err(RunError::Failed {
                command,
                ended: "exit status: 1".into(),
                code: Some(1),
                tail: "cut".into(),
            });
        }
        if command.program == "mkfs.ext4" {
            let [.., tree, device] = &args[..] else { panic!("{args:?}") };
            let mut names: Vec<_> = fs::read_dir(tree)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let config = fs::read_to_string(Path::new(tree).join("node.toml")).unwrap_or_default();
            let text = format!("ext4 {} {config}", names.join(" "));
            let mut bytes = fs::read(device).unwrap();
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            fs::write(device, bytes).unwrap();
        }
        Ok(Output::default())
    }
}

/// LVM, which knows a device by the label in its second sector; without devices it does not answer.
struct Marked(Option<Vec<PathBuf>>);

impl LvmReport for Marked {
    fn groups(&self) -> Result<Groups, LvmError> {
        let devices = self.0.as_ref().ok_or_else(|| LvmError::Unknown("x".into()))?;
        let has = |path: &&PathBuf| fs::read(path).unwrap()[512] == OLD;
        let member = |path: &PathBuf| Member { device: Some(path.clone()), ..Member::default() };
        let group = |name: &str, node: &str, members| Group {
            name: name.into(),
            tags: vec![format!("{NODE_TAG}{node}")],
            size: 2_000_000_000_000,
            members,
            ..Group::default()
        };
        let foreign = vec![Member { device: Some("/dev/foreign".into()), ..Member::default() }];
        let own: Vec<_> = devices.iter().filter(has).map(member).collect();
        let mut groups = vec![group("sheaf-fast", "n2", foreign)];
        if !own.is_empty() {
            groups.push(group("sheaf-default", "n1", own));
        }
        Ok(Groups { groups, orphans: Vec::new() })
    }

    fn confined(&self, _: &str) -> Vec<PathBuf> {
        Vec::new()
    }

    fn volumes(&self, _: &str) -> Result<Vec<Volume>, LvmError> {
        Ok(Vec::new())
    }

    fn volumes_on(&self, _: &str, _: &[PathBuf]) -> Result<Vec<Volume>, LvmError> {
        Ok(Vec::new())
    }
}

/// A node's disks.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.devices()).unwrap();
        fs::write(world.partition(records::PARTITION), vec![0; MIB]).unwrap();
        for number in [records::STATE, records::DATA] {
            fs::write(world.partition(number), vec![OLD; 6 * MIB]).unwrap();
        }
        for pool in world.pools() {
            fs::write(pool, vec![OLD; 3 * MIB]).unwrap();
        }
        let paths = world.paths();
        fs::create_dir_all(&paths.run).unwrap();
        fs::write(paths.boot_env(), format!("SLOT=a\nINSTALL_ID={INSTALL}\n")).unwrap();
        fs::create_dir_all(paths.node_toml.parent().unwrap()).unwrap();
        fs::write(&paths.node_toml, "version = 1\n").unwrap();
        world
    }

    fn devices(&self) -> PathBuf {
        self.root.path().join("dev/disk/by-partuuid")
    }

    fn paths(&self) -> Paths {
        Paths::under(self.root.path())
    }

    fn partition(&self, number: u8) -> PathBuf {
        records::partition(&self.devices(), INSTALL, number).unwrap()
    }

    fn pools(&self) -> Vec<PathBuf> {
        ["sda", "sdb"].map(|name| self.root.path().join("dev").join(name)).to_vec()
    }

    fn hosts(&self, faults: &Faults, run: Arc<dyn Run>) -> Hosts {
        let faults = faults.clone();
        Hosts {
            run,
            lvm: Arc::new(Marked(Some(self.pools()))),
            open: Arc::new(move |path| Ok(faults.disk(Box::new(RawDisk::open(path)?)))),
            devices: self.devices(),
            scratch: self.root.path().join("run/sheaf/reset"),
        }
    }

    fn mark(&self, pools: bool, config: Option<&str>) {
        let config = config.map(str::to_owned);
        let mark = Mark { install: INSTALL.into(), node: "n1".into(), pools, config };
        reset::write(&RawDisk::open(&self.partition(records::PARTITION)).unwrap(), &mark).unwrap();
    }

    fn marked(&self) -> Option<Mark> {
        reset::read(&RawDisk::open(&self.partition(records::PARTITION)).unwrap()).unwrap()
    }

    /// Starts the machine; whether the initrd found an error.
    fn boot(&self, faults: &Faults, run: Arc<dyn Run>) -> anyhow::Result<()> {
        at_boot(&self.hosts(faults, run), INSTALL, &|_| ())
    }

    fn begins(&self, number: u8, with: &str) -> bool {
        fs::read(self.partition(number)).unwrap().starts_with(with.as_bytes())
    }

    /// Nothing of before is on state and data, which are new file systems; nor, if they were erased, on both ends of pools.
    fn is_reset(&self, pools: bool, config: &str) -> Result<(), String> {
        for number in [records::STATE, records::DATA] {
            if fs::read(self.partition(number)).unwrap().contains(&OLD) {
                return Err(format!("partition {number} still has what it had"));
            }
        }
        let state =
            if config.is_empty() { "ext4 var ".to_owned() } else { format!("ext4 node.toml var {config}") };
        if !self.begins(records::STATE, &state) || !self.begins(records::DATA, "ext4 disks images vms ") {
            return Err("a file system is missing".into());
        }
        for pool in self.pools() {
            let bytes = fs::read(&pool).unwrap();
            let ends = [&bytes[..MIB], &bytes[2 * MIB..]].concat();
            match pools {
                true if ends.contains(&OLD) => return Err(format!("{}: has marks", pool.display())),
                false if bytes.iter().any(|byte| *byte != OLD) => {
                    return Err(format!("{}: was written", pool.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn a_node_that_is_not_marked_is_not_touched_nor_one_whose_mark_is_of_another_installation() {
    let world = World::new();
    let run = Arc::new(Tools::default());
    world.boot(&Faults::default(), run.clone()).unwrap();
    let other = Mark { install: INSTALL.replace('6', "7"), node: "n1".into(), pools: true, config: None };
    reset::write(&RawDisk::open(&world.partition(records::PARTITION)).unwrap(), &other).unwrap();
    world.boot(&Faults::default(), run.clone()).unwrap();
    assert_eq!(run.asked.lock().unwrap().len(), 0);
    assert!(fs::read(world.partition(records::STATE)).unwrap().iter().all(|byte| *byte == OLD));
}

#[test]
fn a_reset_keeps_pools_and_node_toml_or_erases_them_and_removes_its_mark() {
    for pools in [false, true] {
        for config in ["", "version = 1\n"] {
            let world = World::new();
            world.mark(pools, Some(config).filter(|config| !config.is_empty()));
            let run = Arc::new(Tools::default());
            world.boot(&Faults::default(), run.clone()).unwrap();
            world.is_reset(pools, config).unwrap();
            assert_eq!(world.marked(), None);
            let discards = run
                .asked
                .lock()
                .unwrap()
                .iter()
                .filter(|asked| asked.starts_with("blkdiscard --offset "))
                .count();
            assert_eq!(discards, if pools { 4 } else { 2 });
        }
    }
}

#[test]
fn file_systems_are_those_of_the_installer() {
    let world = World::new();
    world.mark(false, None);
    let run = Arc::new(Tools::default());
    world.boot(&Faults::default(), run.clone()).unwrap();
    let asked = run.asked.lock().unwrap();
    let scratch = world.root.path().join("run/sheaf/reset");
    let stem = &INSTALL[..34];
    let of = |name: &str, number: &str, journal, reserved| {
        format!(
            "mkfs.ext4 -q -F -b 4096 -L {name} -U {stem}{number} -m {reserved} -J size={journal} -E nodiscard,root_owner=0:0 -d \
             {}/{name} {}/{stem}{number}",
            scratch.display(),
            world.devices().display()
        )
    };
    assert_eq!(asked[4..], [of("data", "0a", 128, 0), of("state", "09", 64, 1)]);
}

/// The mark goes only when everything is done, and the next start does all of it.
fn is_completed(world: &World, what: &str, pools: bool) {
    if world.marked().is_none() {
        world
            .is_reset(pools, "version = 1\n")
            .unwrap_or_else(|error| panic!("{what}: not marked any more: {error}"));
    }
    // Whatever the mark's remains are, the initrd sees them.
    world
        .boot(&Faults::default(), Arc::new(Tools::default()))
        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
    world.is_reset(pools, "version = 1\n").unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(world.marked(), None, "{what}");
}

#[test]
fn a_power_cut_at_any_call_of_the_disk_is_followed_by_the_same_reset() {
    for pools in [false, true] {
        let world = World::new();
        world.mark(pools, Some("version = 1\n"));
        let faults = Faults::default();
        world.boot(&faults, Arc::new(Tools::default())).unwrap();
        let calls = faults.calls();
        assert!(calls.len() >= 8, "{calls:?}");
        for (call, what) in calls.iter().enumerate() {
            // Not done, and half done.
            for fault in [Fault::Io, Fault::NoSpace] {
                let what = format!("{fault:?} at call {call}: {what}");
                let world = World::new();
                world.mark(pools, Some("version = 1\n"));
                let faults = Faults::at(call, fault);
                let error = world.boot(&faults, Arc::new(Tools::default())).expect_err(&what);
                assert!(faults.was_hit(), "{what}");
                assert!(
                    format!("{error:#}").contains("; it is tried again at the next start"),
                    "{what}: {error:#}"
                );
                is_completed(&world, &what, pools);
            }
        }
        println!(
            "| reset, pools {} | {} | {} |",
            if pools { "erased" } else { "kept" },
            calls.len(),
            calls.len() * 2
        );
    }
}

#[test]
fn a_power_cut_at_any_program_is_followed_by_the_same_reset_and_a_disk_that_discards_nothing_is_reset_too() {
    let world = World::new();
    world.mark(true, Some("version = 1\n"));
    let run = Arc::new(Tools::default());
    world.boot(&Faults::default(), run.clone()).unwrap();
    let asked = run.asked.lock().unwrap().clone();
    for (number, what) in asked.iter().enumerate() {
        let world = World::new();
        world.mark(true, Some("version = 1\n"));
        let tools = Tools { fails_at: Some(number), ..Tools::default() };
        let done = world.boot(&Faults::default(), Arc::new(tools));
        assert_eq!(done.is_ok(), what.starts_with("blkdiscard --offset "), "{what}");
        is_completed(&world, what, true);
    }
}

#[test]
fn keys_go_first_file_systems_when_all_is_erased_and_the_mark_last() {
    for pools in [false, true] {
        let world = World::new();
        world.mark(pools, None);
        let observed =
            observe(&world.hosts(&Faults::default(), Arc::new(Tools::default())), INSTALL).unwrap().unwrap();
        let steps = plan(&observed);
        assert!(matches!(&steps[0], Step::Overwrite { name: "state", .. }), "{steps:?}");
        assert!(matches!(steps.last(), Some(Step::ClearMark(_))), "{steps:?}");
        let erases =
            |step: &Step| matches!(step, Step::Overwrite { .. } | Step::Discard(_) | Step::ErasePool { .. });
        let last = steps.iter().rposition(erases).unwrap();
        assert!(steps[..=last].iter().all(erases), "{steps:?}");
        let devices = steps.iter().filter(|step| matches!(step, Step::ErasePool { .. })).count();
        assert_eq!(devices, if pools { 2 } else { 0 }, "only those of this node");
    }
}

#[test]
fn a_node_whose_pools_cannot_be_found_is_not_reset_half() {
    let world = World::new();
    world.mark(true, None);
    let mut hosts = world.hosts(&Faults::default(), Arc::new(Tools::default()));
    hosts.lvm = Arc::new(Marked(None));
    let error = at_boot(&hosts, INSTALL, &|_| ()).unwrap_err().to_string();
    assert_eq!(error, "the pools of the node cannot be found; nothing is erased");
    assert!(fs::read(world.partition(records::STATE)).unwrap().iter().all(|byte| *byte == OLD));
    assert!(world.marked().is_some());
}

#[test]
fn what_is_lost_is_shown_and_nothing_is_done_without_the_nodes_name() {
    let world = World::new();
    let lvm = Marked(Some(world.pools()));
    let said = ask(&world.paths(), &lvm, "n1", &Ask::default()).unwrap();
    let devices = world.pools().iter().map(|pool| pool.display().to_string()).collect::<Vec<_>>().join(", ");
    assert_eq!(
        said.text,
        format!(
            "Reset of node n1 at its next start\n  \
             erased  /state: keys and certificates of the node, logs, records of updates\n  \
             erased  /data: images, disks and files of VMs, UEFI variables and TPMs, snapshots of etcd\n  \
             kept    pool default (2 TB on {devices})\n  \
             kept    node.toml\n  \
             kept    both slots, and what starts them\n\
             Nothing is done yet: repeat it with --node n1\n"
        )
    );
    assert!(!said.restarts);
    assert_eq!(world.marked(), None);
    let of = |ask_for: Ask| ask(&world.paths(), &lvm, "n1", &ask_for);
    let all = of(Ask { pools: true, forget_config: true, ..Ask::default() }).unwrap().text;
    assert!(all.contains("erased  pool default (2 TB on "), "{all}");
    assert!(
        all.contains("erased  node.toml: the node then has no cluster, and an address by DHCP\n"),
        "{all}"
    );
    assert_eq!(
        of(Ask { node: Some("n2".into()), ..Ask::default() }).unwrap_err().to_string(),
        "this is node n1, not n2; confirm with the name of this node: --node n1"
    );
    assert_eq!(
        of(Ask { cancel: true, ..Ask::default() }).unwrap_err().to_string(),
        "no reset of this node is asked for"
    );
    let error = ask(&world.paths(), &Marked(None), "n1", &Ask { pools: true, ..Ask::default() })
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the pools of this node cannot be found");
}

#[test]
fn a_node_is_marked_by_its_name_and_the_mark_can_be_withdrawn() {
    let world = World::new();
    let lvm = Marked(Some(world.pools()));
    let of = |ask_for: Ask| ask(&world.paths(), &lvm, "n1", &ask_for).unwrap();
    let named = Ask { node: Some("n1".into()), ..Ask::default() };
    let said = of(named.clone());
    assert!(said.restarts);
    assert!(
        said.text.ends_with("The machine restarts, and is reset before it starts the node again.\n"),
        "{}",
        said.text
    );
    let mark = world.marked().unwrap();
    assert_eq!((mark.pools, mark.config.as_deref()), (false, Some("version = 1\n")));
    let shown = of(Ask::default()).text;
    assert!(
        shown.contains("\nIt is asked for already, and done at the next start; --cancel withdraws it.\n"),
        "{shown}"
    );
    let said = of(Ask { cancel: true, ..Ask::default() });
    assert_eq!((said.text.as_str(), said.restarts), ("withdrawn: node n1 keeps what it has\n", false));
    assert_eq!(world.marked(), None);
    of(Ask { pools: true, forget_config: true, ..named });
    let mark = world.marked().unwrap();
    assert_eq!((mark.pools, mark.config), (true, None));
}

#[test]
fn a_node_in_its_cluster_is_refused_with_what_to_do_unless_it_left_or_somebody_insists() {
    let world = World::new();
    let (paths, lvm) = (world.paths(), Marked(Some(Vec::new())));
    let named = Ask { node: Some("n1".into()), ..Ask::default() };
    let keys = Store::of(&paths).dir;
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join(format!("{CLIENT}.pem")), "").unwrap();
    assert_eq!(
        ask(&paths, &lvm, "n1", &named).unwrap_err().to_string(),
        "node n1 is in its cluster: remove it by a NodeRemoval, whose spec.wipe resets it. With --force it is reset all the same: its \
         Node, volumes and VMs stay in the cluster until a NodeRemoval with spec.poweredOff removes them"
    );
    assert_eq!(world.marked(), None);
    fs::create_dir_all(paths.kubernetes.join("pki")).unwrap();
    fs::write(paths.kubernetes.join("pki/ca.key"), "").unwrap();
    assert_eq!(
        ask(&paths, &lvm, "n1", &named).unwrap_err().to_string(),
        "node n1 has the control plane: take its member out of etcd (`sheaf-agent etcd remove n1` on another control-plane node), \
         then remove it by a NodeRemoval. With --force it is reset all the same: its member of etcd is lost, and with the only one the \
         whole cluster"
    );
    let shown = ask(&paths, &lvm, "n1", &Ask::default()).unwrap().text;
    assert!(shown.contains("  erased  etcd of this node, and the keys of the cluster\n"), "{shown}");
    assert!(ask(&paths, &lvm, "n1", &Ask { force: true, ..named.clone() }).unwrap().restarts);
    fs::write(paths.lib.join("removed.json"), "{}").unwrap();
    assert!(ask(&paths, &lvm, "n1", &named).unwrap().restarts);
}

#[test]
fn another_node_toml_is_checked_before_it_takes_the_place_of_the_one_that_is_there() {
    let world = World::new();
    let (paths, lvm) = (world.paths(), Marked(Some(Vec::new())));
    let file = world.root.path().join("new.toml");
    let asked = Ask { node: Some("n1".into()), config: Some(file.clone()), ..Ask::default() };
    let error = ask(&paths, &lvm, "n1", &asked).unwrap_err().to_string();
    assert_eq!(error, format!("{}: cannot be read", file.display()));
    fs::write(&file, "version = 1\nsystem.hostnam = \"n1\"\n").unwrap();
    let error = ask(&paths, &lvm, "n1", &asked).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:2:", file.display())), "{error}");
    assert_eq!(world.marked(), None);
    let text = "version = 1\nsystem.hostname = \"n1\"\n";
    fs::write(&file, text).unwrap();
    let said = ask(&paths, &lvm, "n1", &asked).unwrap();
    assert!(
        said.text.contains(&format!("  erased  node.toml: {} takes its place\n", file.display())),
        "{}",
        said.text
    );
    assert_eq!(world.marked().unwrap().config.as_deref(), Some(text));
}

#[test]
fn node_toml_is_not_kept_from_a_state_partition_that_is_not_there() {
    let world = World::new();
    let (paths, lvm) = (world.paths(), Marked(Some(Vec::new())));
    fs::write(paths.run.join("state-degraded"), "it cannot be mounted\n").unwrap();
    let named = Ask { node: Some("n1".into()), ..Ask::default() };
    assert_eq!(
        ask(&paths, &lvm, "n1", &named).unwrap_err().to_string(),
        "the state partition is not mounted, so node.toml cannot be kept; repeat it with --forget-config"
    );
    assert!(ask(&paths, &lvm, "n1", &Ask { forget_config: true, ..named }).unwrap().restarts);
}

#[test]
fn a_node_that_leaves_keeps_nothing() {
    let world = World::new();
    mark_leaving(&world.paths(), "n1", true).unwrap();
    let mark = world.marked().unwrap();
    assert_eq!((mark.node.as_str(), mark.pools, mark.config), ("n1", true, None));
    world.boot(&Faults::default(), Arc::new(Tools::default())).unwrap();
    world.is_reset(true, "").unwrap();
}

#[test]
fn a_boot_of_unknown_origin_cannot_be_marked() {
    let world = World::new();
    fs::write(world.paths().boot_env(), "SLOT=a\nINSTALL_ID=\n").unwrap();
    let error =
        ask(&world.paths(), &Marked(Some(Vec::new())), "n1", &Ask::default()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: has no INSTALL_ID", world.paths().boot_env().display()));
    let run: Arc<dyn Run> = Arc::new(FakeRun::default());
    let error = at_boot(&world.hosts(&Faults::default(), run), "nothing", &|_| ()).unwrap_err().to_string();
    assert_eq!(error, "\"nothing\" is not the UUID of an installation");
}
