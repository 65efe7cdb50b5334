//! What is ordered, step by step, on an LVM in memory.

use super::*;
use crate::pools::apply;
use sheaf_host::fakes::FakeLvm;
use sheaf_host::lvm::{Lvm as _, LvmReport as _};

const GIB: u64 = 1 << 30;
const GROUP: &str = "sheaf-fast";

fn member(id: &str, device: Option<&str>) -> wanted::Member {
    wanted::Member {
        name: format!("n1.{id}"),
        id: id.into(),
        device: device.map(PathBuf::from),
        ..wanted::Member::default()
    }
}

fn wanted(members: &[wanted::Member]) -> Wanted {
    Wanted { members: members.to_vec(), problems: Vec::new() }
}

/// A pool on disks in memory.
struct Bench {
    lvm: FakeLvm,
    is_stale: bool,
}

impl Bench {
    fn new(disks: &[&str]) -> Self {
        let lvm = FakeLvm::default();
        disks.iter().for_each(|disk| lvm.plug(disk, 10 * GIB));
        Self { lvm, is_stale: false }
    }

    fn observed(&self) -> Observed {
        let group = self.lvm.groups().unwrap().groups.into_iter().find(|group| group.name == GROUP);
        let volumes = if group.is_some() { self.lvm.volumes(GROUP).unwrap() } else { Vec::new() };
        Observed { group, volumes, is_first: false, is_stale: self.is_stale, is_lost: false }
    }

    /// Plans and acts until nothing is left to do; gives the orders in words, and the last plan.
    fn settle(&mut self, wanted: &Wanted) -> (Vec<String>, Plan) {
        self.settle_when(wanted, true)
    }

    fn settle_when(&mut self, wanted: &Wanted, certain: bool) -> (Vec<String>, Plan) {
        let mut said = Vec::new();
        for _ in 0..20 {
            let plan = plan("n1", wanted, &self.observed(), certain);
            if plan.steps.is_empty() {
                return (said, plan);
            }
            for step in &plan.steps {
                said.push(apply::say(step));
                let done = apply::apply(&self.lvm, GROUP, "n1", step);
                self.is_stale = apply::is_stale_after(step, self.is_stale, done.is_ok());
                if done.is_err() {
                    return (said, plan);
                }
            }
        }
        panic!("it never settles: {said:?}");
    }

    fn thin(&self) -> Volume {
        self.observed().thin().unwrap().clone()
    }
}

fn states(plan: &Plan) -> Vec<String> {
    plan.members
        .iter()
        .map(|m| format!("{} {:?} {}", m.name, m.state, m.message.as_deref().unwrap_or("-")))
        .collect()
}

#[test]
fn a_pool_is_made_of_its_first_device_and_grown_by_the_others() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    let (a, b) = (member("a", Some("/dev/sda")), member("b", Some("/dev/sdb")));
    let (said, plan) = bench.settle(&wanted(std::slice::from_ref(&a)));
    assert_eq!(said, ["makes the pool on /dev/sda", "makes the thin pool, 9.9 GiB and 64 MiB of metadata"]);
    assert_eq!(states(&plan), ["n1.a Active -"]);
    let before = bench.thin().size;
    let (said, plan) = bench.settle(&wanted(&[a, b]));
    assert_eq!(said, ["adds /dev/sdb", "grows to 20 GiB"]);
    assert!(bench.thin().size > before + 9 * GIB);
    assert_eq!(states(&plan), ["n1.a Active -", "n1.b Active -"]);
}

#[test]
fn a_foreign_device_is_not_touched_and_says_why() {
    let mut bench = Bench::new(&["/dev/sda"]);
    let foreign = wanted::Member { refusal: Some("it carries ext4".into()), ..member("a", Some("/dev/sda")) };
    let (said, plan) = bench.settle(&wanted(&[foreign]));
    assert_eq!((said.len(), states(&plan)), (0, vec!["n1.a Waiting it carries ext4".to_owned()]));
    assert_eq!(bench.lvm.asked(), [""; 0]);
}

#[test]
fn a_device_is_replaced_by_one_that_comes_as_it_goes_and_the_pool_does_not_grow_into_the_room_before() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    bench.settle(&wanted(&[member("a", Some("/dev/sda"))]));
    let (said, plan) = bench.settle(&wanted(&[member("b", Some("/dev/sdb"))]));
    assert_eq!(said, ["adds /dev/sdb", "puts no more data on /dev/sda", "moves the data off /dev/sda"]);
    assert_eq!(states(&plan), ["n1.a Leaving -", "n1.b Active -"]);
    assert_eq!(plan.members[0].progress, Some(0.0));
    bench.lvm.with_volume(GROUP, "[pvmove0]", |volume| volume.copy_percent = Some(41.0));
    assert_eq!(bench.settle(&wanted(&[member("b", Some("/dev/sdb"))])).1.members[0].progress, Some(41.0));
    bench.lvm.finish_moves(GROUP);
    let (said, plan) = bench.settle(&wanted(&[member("b", Some("/dev/sdb"))]));
    assert_eq!(said, ["takes /dev/sda out"]);
    assert_eq!(states(&plan), ["n1.b Active -"]);
}

#[test]
fn a_device_stays_while_the_others_have_no_room_for_what_it_holds() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    let (a, b) = (member("a", Some("/dev/sda")), member("b", Some("/dev/sdb")));
    bench.settle(&wanted(&[a.clone(), b]));
    let (said, plan) = bench.settle(&wanted(&[a]));
    assert_eq!(said, ["puts no more data on /dev/sdb"]);
    assert!(
        plan.problems[0].starts_with("/dev/sdb is to be emptied, and the other devices have 0 bytes free of the 10 GiB it holds; a pool does not shrink: add a device of at least"),
        "{:?}",
        plan.problems
    );
}

#[test]
fn nothing_leaves_before_every_source_was_heard() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    bench.settle(&wanted(&[member("a", Some("/dev/sda")), member("b", Some("/dev/sdb"))]));
    let (said, plan) = bench.settle_when(&wanted(&[member("a", Some("/dev/sda"))]), false);
    assert_eq!((said.len(), states(&plan)), (0, vec!["n1.a Active -".to_owned(), "n1.b Active -".into()]));
}

#[test]
fn a_failing_device_is_emptied_onto_a_new_one_and_stays_until_it_is_taken_out() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    bench.settle(&wanted(&[member("a", Some("/dev/sda"))]));
    let failing =
        wanted::Member { failing: Some("its spare blocks run out".into()), ..member("a", Some("/dev/sda")) };
    let both = wanted(&[failing, member("b", Some("/dev/sdb"))]);
    let (said, plan) = bench.settle(&both);
    assert_eq!(said, ["adds /dev/sdb", "puts no more data on /dev/sda", "moves the data off /dev/sda"]);
    assert_eq!(states(&plan)[0], "n1.a Failing its spare blocks run out");
    bench.lvm.finish_moves(GROUP);
    let (said, plan) = bench.settle(&both);
    assert_eq!(said, [""; 0]);
    assert_eq!(states(&plan)[0], "n1.a Failing its spare blocks run out; it is empty and can be pulled");
}

#[test]
fn a_missing_device_stops_all_change_and_comes_back_under_another_name() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb", "/dev/sdc"]);
    let (a, b) = (member("a", Some("/dev/sda")), member("b", Some("/dev/sdb")));
    bench.settle(&wanted(&[a.clone(), b]));
    bench.lvm.pull("/dev/sdb");
    let (said, plan) = bench.settle(&wanted(&[a.clone(), member("b", None), member("c", Some("/dev/sdc"))]));
    assert_eq!(said, [""; 0]);
    assert_eq!(
        states(&plan),
        [
            "n1.a Active -",
            "n1.b Missing the node does not see it, and 10 GiB of the pool are on it",
            "n1.c Waiting it joins once the missing device is back"
        ]
    );
    bench.lvm.plug_again("/dev/sdb", "/dev/sdq", 10 * GIB);
    let (said, plan) = bench.settle(&wanted(&[a, member("b", Some("/dev/sdq"))]));
    assert_eq!(said, ["takes /dev/sdq back", "switches its volumes off and on"]);
    assert_eq!(states(&plan), ["n1.a Active -", "n1.b Active -"]);
}

#[test]
fn a_missing_device_that_held_nothing_and_is_wanted_no_more_is_forgotten() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    let a = member("a", Some("/dev/sda"));
    bench.settle(&wanted(std::slice::from_ref(&a)));
    bench.lvm.add_member(GROUP, std::path::Path::new("/dev/sdb"), &["sheaf.device=b"]).unwrap();
    bench.lvm.pull("/dev/sdb");
    assert_eq!(bench.settle_when(&wanted(std::slice::from_ref(&a)), false).0, [""; 0]);
    assert_eq!(bench.settle(&wanted(&[a])).0, ["forgets missing devices that held nothing"]);
}

#[test]
fn metadata_that_fills_grows_before_it_is_full() {
    let mut bench = Bench::new(&["/dev/sda"]);
    bench.lvm.plug("/dev/sda", 100 * GIB);
    let all = wanted(&[member("a", Some("/dev/sda"))]);
    bench.settle(&all);
    assert_eq!(bench.settle(&all).0, [""; 0]);
    bench.lvm.with_volume(GROUP, THIN_POOL, |thin| thin.metadata_percent = Some(76.0));
    assert_eq!(bench.settle(&all).0, ["grows its metadata to 300 MiB"]);
}

#[test]
fn after_a_start_volumes_are_switched_on_and_a_move_that_was_cut_off_goes_on() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    bench.settle(&wanted(&[member("a", Some("/dev/sda"))]));
    bench.lvm.create_volume(GROUP, "pvc-1", GIB, &[]).unwrap();
    bench.settle(&wanted(&[member("b", Some("/dev/sdb"))]));
    bench.lvm.deactivate(GROUP).unwrap();
    let observed = Observed { is_first: true, ..bench.observed() };
    let plan = plan("n1", &wanted(&[member("b", Some("/dev/sdb"))]), &observed, true);
    assert_eq!(plan.steps, [Step::Activate, Step::ResumeMoves]);
}

#[test]
fn a_member_whose_disk_the_group_does_not_know_is_marked() {
    let mut bench = Bench::new(&["/dev/sda"]);
    bench.lvm.create_group(GROUP, std::path::Path::new("/dev/sda"), &["sheaf.node=n1"], &[]).unwrap();
    let (said, _) = bench.settle(&wanted(&[member("a", Some("/dev/sda"))]));
    assert_eq!(said[0], "marks /dev/sda as a");
}

#[test]
fn devices_too_small_for_any_pool_are_said_so() {
    let mut bench = Bench::new(&[]);
    bench.lvm.plug("/dev/sda", 100 << 20);
    let (_, plan) = bench.settle(&wanted(&[member("a", Some("/dev/sda"))]));
    assert_eq!(plan.problems, ["its devices have 96 MiB, too little for any pool"]);
}
