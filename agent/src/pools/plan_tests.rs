//! What is ordered, step by step, on an LVM in memory.

use super::*;
use crate::pools::{apply, observe};
use proptest::prelude::*;
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
        let found = observe::pool(&self.lvm, &self.lvm.groups().unwrap(), "n1", "fast").unwrap();
        let Found { group, volumes, confined } = found;
        Observed { group, volumes, is_first: false, is_stale: self.is_stale, is_lost: false, confined }
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
                // It goes before whatever else is planned on devices that came or left.
                if !matches!(step, Step::Confine { .. }) {
                    said.push(apply::describe(step));
                }
                let done = apply::by_lvm(&self.lvm, GROUP, "n1", step);
                let mut memory = Memory { is_stale: self.is_stale, ..Memory::default() };
                memory.applied(step, done.is_ok());
                self.is_stale = memory.is_stale;
                if done.is_err() {
                    return (said, plan);
                }
            }
        }
        panic!("it did not converge: {said:?}");
    }

    fn thin(&self) -> Volume {
        self.observed().thin().unwrap().clone()
    }
}

/// What is on the disks in the end.
fn on_disk(lvm: &FakeLvm) -> (Vec<sheaf_host::lvm::Group>, Vec<Volume>) {
    (lvm.groups().unwrap().groups, lvm.volumes(GROUP).unwrap())
}

#[test]
fn a_power_cut_between_any_two_changes_of_a_pool_leaves_one_that_the_next_agent_completes() {
    let devices = ["/dev/sda", "/dev/sdb", "/dev/sdc"];
    let [a, b, c] = ["a", "b", "c"].map(|id| member(id, Some(&format!("/dev/sd{id}"))));
    // Made, moved to another device, and grown.
    let steps = [wanted(&[a]), wanted(std::slice::from_ref(&b)), wanted(&[b, c])];
    let live = |bench: &mut Bench, from: usize| {
        for wanted in &steps[from..] {
            bench.settle(wanted);
            bench.lvm.finish_moves(GROUP);
            bench.settle(wanted);
        }
    };
    let mut uncut = Bench::new(&devices);
    live(&mut uncut, 0);
    let expected = on_disk(&uncut.lvm);
    assert_eq!(expected.0[0].members.len(), 2, "{expected:?}");
    for changes in 0.. {
        // What was wanted when the power went is wanted after it, or what came next.
        for (reached, wanted) in steps.iter().enumerate() {
            let mut bench = Bench::new(&devices);
            bench.lvm.cut_power_after(changes);
            for before in &steps[..reached] {
                bench.settle(before);
            }
            bench.settle(wanted);
            // Cut before the group was made there is none to ask.
            let (is_cut, held) = (bench.lvm.is_cut(), bench.lvm.volumes(GROUP).unwrap_or_default());
            bench.lvm.recovers();
            // The next boot: nothing is active, and no agent remembers anything.
            for volume in held.iter().filter(|volume| !volume.name.starts_with('[')) {
                bench.lvm.with_volume(GROUP, &volume.name, |volume| volume.is_active = false);
            }
            bench.is_stale = false;
            live(&mut bench, reached);
            assert_eq!(on_disk(&bench.lvm), expected, "cut after {changes} changes");
            let thin =
                |volumes: &[Volume]| volumes.iter().filter(|volume| volume.kind == "thin-pool").count();
            assert!(thin(&held) <= 1, "two thin pools");
            if !is_cut && reached + 1 == steps.len() {
                assert!(changes > 4, "the cut never came");
                return;
            }
        }
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
    assert_eq!(
        said,
        ["creates the pool on /dev/sda", "creates the thin pool, 9.9 GiB and 64 MiB of metadata"]
    );
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
    assert_eq!(said, ["adds /dev/sdb", "stops placing data on /dev/sda", "moves the data off /dev/sda"]);
    assert_eq!(states(&plan), ["n1.a Leaving -", "n1.b Active -"]);
    assert_eq!(plan.members[0].progress, Some(0.0));
    bench.lvm.with_volume(GROUP, "[pvmove0]", |volume| volume.copy_percent = Some(41.0));
    assert_eq!(bench.settle(&wanted(&[member("b", Some("/dev/sdb"))])).1.members[0].progress, Some(41.0));
    bench.lvm.finish_moves(GROUP);
    let (said, plan) = bench.settle(&wanted(&[member("b", Some("/dev/sdb"))]));
    assert_eq!(said, ["removes /dev/sda"]);
    assert_eq!(states(&plan), ["n1.b Active -"]);
}

#[test]
fn a_device_stays_while_the_others_have_no_room_for_what_it_holds() {
    let mut bench = Bench::new(&["/dev/sda", "/dev/sdb"]);
    let (a, b) = (member("a", Some("/dev/sda")), member("b", Some("/dev/sdb")));
    bench.settle(&wanted(&[a.clone(), b]));
    let (said, plan) = bench.settle(&wanted(&[a]));
    assert_eq!(said, ["stops placing data on /dev/sdb"]);
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
    let failing = wanted::Member {
        failing: Some("it is running out of spare blocks".into()),
        ..member("a", Some("/dev/sda"))
    };
    let both = wanted(&[failing, member("b", Some("/dev/sdb"))]);
    let (said, plan) = bench.settle(&both);
    assert_eq!(said, ["adds /dev/sdb", "stops placing data on /dev/sda", "moves the data off /dev/sda"]);
    assert_eq!(states(&plan)[0], "n1.a Failing it is running out of spare blocks");
    bench.lvm.finish_moves(GROUP);
    let (said, plan) = bench.settle(&both);
    assert_eq!(said, [""; 0]);
    assert_eq!(
        states(&plan)[0],
        "n1.a Failing it is running out of spare blocks; it is empty and can be pulled"
    );
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
            "n1.b Missing it is not attached, and 10 GiB of the pool are on it",
            "n1.c Waiting it joins once the missing device is back"
        ]
    );
    bench.lvm.plug_again("/dev/sdb", "/dev/sdq", 10 * GIB);
    let (said, plan) = bench.settle(&wanted(&[a, member("b", Some("/dev/sdq"))]));
    assert_eq!(said, ["restores /dev/sdq", "deactivates its volumes and activates them"]);
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
    assert_eq!(bench.settle(&wanted(&[a])).0, ["removes missing devices that held no data"]);
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

/// Whatever LVM and the cluster may report: all integers, tags of others, members and devices in any combination.
fn anything() -> impl Strategy<Value = (Wanted, Observed, bool)> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let device = || prop::option::of(name().prop_map(|name| PathBuf::from(format!("/dev/{name}"))));
    let percent = || prop::option::of(prop::num::f64::ANY);
    let text = || prop::option::of(Just("why".to_owned()));
    let member = (device(), name(), any::<(bool, bool, u64, u64)>(), any::<bool>()).prop_map(
        |(device, id, (is_missing, is_allocatable, size, free), is_tagged)| Member {
            device,
            is_missing,
            is_allocatable,
            uuid: id.into(),
            tags: if is_tagged { vec![format!("{DEVICE_TAG}{id}")] } else { Vec::new() },
            size,
            free,
        },
    );
    let group = (prop::collection::vec(member, 0..4), any::<(u64, u64, u64)>()).prop_map(
        |(members, (extent, size, free))| Group {
            name: GROUP.into(),
            extent,
            size,
            free,
            members,
            tags: vec!["sheaf.node=n1".into()],
            ..Group::default()
        },
    );
    let kind = prop::sample::select(vec!["thin", "thin-pool", "linear"]);
    let volume = (kind, any::<(bool, bool, u64, u64)>(), percent(), percent(), device(), text()).prop_map(
        |(kind, (is_pool, is_active, size, metadata_size), data, metadata, moves_from, health)| Volume {
            name: if is_pool { THIN_POOL.into() } else { "pvc-1".into() },
            kind: kind.into(),
            size,
            is_active,
            metadata_size,
            data_percent: data,
            metadata_percent: metadata,
            copy_percent: data,
            moves_from,
            health,
            ..Volume::default()
        },
    );
    let wanted = prop::collection::vec(
        (name(), device(), text(), text()).prop_map(|(id, device, refusal, failing)| wanted::Member {
            device,
            refusal,
            failing,
            ..member_named(id)
        }),
        0..4,
    );
    let observed = (
        prop::option::of(group),
        prop::collection::vec(volume, 0..4),
        any::<(bool, bool, bool)>(),
        prop::collection::vec(device().prop_filter_map("a device", |device| device), 0..2),
    )
        .prop_map(|(group, volumes, (is_first, is_stale, is_lost), confined)| Observed {
            group,
            volumes,
            is_first,
            is_stale,
            is_lost,
            confined,
        });
    (wanted.prop_map(|members| Wanted { members, problems: Vec::new() }), observed, any::<bool>())
}

fn member_named(id: &str) -> wanted::Member {
    member(id, None)
}

proptest! {
    #[test]
    fn whatever_is_observed_the_plan_does_not_panic_and_its_report_neither((wanted, observed, certain) in anything()) {
        let plan = plan("n1", &wanted, &observed, certain);
        let known = crate::pools::report::Known { pool: "fast", observed: &observed, plan: &plan, failure: None };
        let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        let status = known.status(&Default::default(), None, now);
        crate::pools::report::events(&Default::default(), &status);
        known.section(None);
        known.pool();
    }

    #[test]
    fn no_data_is_given_up_whatever_is_observed((wanted, observed, certain) in anything()) {
        let plan = plan("n1", &wanted, &observed, certain);
        let members = observed.group.iter().flat_map(|group| &group.members);
        for step in &plan.steps {
            match step {
                Step::Remove { device } => {
                    let mut holds = members.clone().filter(|member| member.device.as_ref() == Some(device));
                    prop_assert!(holds.any(|member| member.size <= member.free) && certain);
                }
                Step::ForgetMissing => {
                    let mut gone = members.clone().filter(|member| member.device.is_none());
                    prop_assert!(gone.all(|member| member.size <= member.free) && certain);
                }
                Step::Deactivate => prop_assert!(false, "a pool that is wanted is never deactivated"),
                _ => {}
            }
        }
    }

    #[test]
    fn sizes_never_exceed_what_the_members_have(bytes in any::<u64>(), extent in any::<u64>()) {
        if let Some(size) = size::of_group(bytes, extent) {
            prop_assert!(size.data.saturating_add(size.metadata.saturating_mul(2)) <= bytes);
        }
    }
}
