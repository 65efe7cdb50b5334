//! What is made, said and erased.

use super::*;
use crate::channels::Facts;
use sheaf_api::storage::device::Wipe;
use sheaf_host::smart;

const NOW: &str = "2026-11-25T10:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn disk(serial: &str, device: &str) -> Disk {
    let facts = Facts {
        device: device.into(),
        serial: Some(serial.into()),
        model: Some("Disk".into()),
        size: 1_000_000_000,
        sector_size: 512,
        ..Facts::default()
    };
    Disk {
        id: format!("disk-{}", serial.to_lowercase()),
        facts,
        device: sheaf_host::block::Device { path: device.into(), ..Default::default() },
        links: Vec::new(),
        contents: Contents::Empty,
        signatures: Vec::new(),
        unreadable: None,
        uses: Vec::new(),
        health: smart::Health::default(),
        is_ambiguous: false,
        duplicate_serial: false,
        pool_partition: None,
    }
}

fn foreign(serial: &str) -> Disk {
    let what = "ext4 on /dev/sdb".to_owned();
    Disk { contents: Contents::Foreign(what.clone()), signatures: vec![what], ..disk(serial, "/dev/sdb") }
}

/// Objects of a node, which take what is reported.
#[derive(Default)]
struct Cluster(BTreeMap<String, Arc<BlockDevice>>);

impl Cluster {
    /// Plans and takes objects and statuses until nothing is new; gives the Events and the disks to wipe.
    fn settle(&mut self, disks: &[Disk]) -> (Vec<String>, Vec<String>) {
        self.settle_after(disks, &BTreeMap::new())
    }

    fn settle_after(
        &mut self,
        disks: &[Disk],
        failed: &BTreeMap<String, String>,
    ) -> (Vec<String>, Vec<String>) {
        let (mut told, mut wiped) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let mut is_new = false;
            for action in plan("n1", disks, &self.0, failed, now()) {
                match action {
                    Action::Create(object) => {
                        is_new = true;
                        self.0.insert(object.metadata.name.clone().unwrap(), Arc::new(*object));
                    }
                    Action::WriteStatus { name, status, events } => {
                        is_new = true;
                        told.extend(
                            events.into_iter().map(|event| format!("{}: {}", event.reason, event.note)),
                        );
                        Arc::make_mut(self.0.get_mut(&name).unwrap()).status = Some(*status);
                    }
                    Action::Wipe { id, .. } => wiped.push(id),
                }
            }
            if !is_new {
                return (told, wiped);
            }
        }
        panic!("the plan never ends: {:?}", plan("n1", disks, &self.0, failed, now()));
    }

    fn ask_to_wipe(&mut self, name: &str, serial: &str) {
        let object = Arc::make_mut(self.0.get_mut(name).unwrap());
        object.spec.wipe = Some(Wipe { confirm_serial: serial.into() });
    }

    fn status(&self, name: &str) -> BlockDeviceStatus {
        self.0[name].status.clone().unwrap()
    }

    fn wiped(&self, name: &str) -> (String, String) {
        let conditions = self.status(name).conditions;
        let condition = find(&conditions, WIPED).unwrap();
        (condition.reason.clone().unwrap(), condition.message.clone().unwrap_or_default())
    }
}

#[test]
fn a_disk_gets_an_object_and_keeps_it_with_its_settings_when_it_is_pulled_and_comes_back_elsewhere() {
    let mut cluster = Cluster::default();
    let (told, _) = cluster.settle(&[disk("A", "/dev/sdb")]);
    assert_eq!(told, [""; 0]);
    let object = Arc::make_mut(cluster.0.get_mut("n1.disk-a").unwrap());
    assert_eq!((object.spec.identity.serial.as_deref(), object.spec.role), (Some("A"), Role::None));
    object.spec.role = Role::Pool;
    object.spec.pool = Some("fast".into());

    let (told, _) = cluster.settle(&[]);
    assert_eq!(told, ["DiskMissing: it is not attached any more; it was /dev/sdb"]);
    let status = cluster.status("n1.disk-a");
    assert_eq!((status.state, status.dev_path), (Some(DeviceState::Missing), None));
    assert_eq!((status.serial.as_deref(), status.size.as_deref()), (Some("A"), Some("1 GB")));
    assert_eq!(cluster.settle(&[]).0, [""; 0], "said once");

    let (told, _) = cluster.settle(&[disk("A", "/dev/sdq")]);
    assert_eq!(told, ["DiskBack: it is attached again, as /dev/sdq"]);
    assert_eq!(cluster.0["n1.disk-a"].spec.pool.as_deref(), Some("fast"));
}

#[test]
fn a_duplicate_serial_and_an_absent_one_are_shown() {
    let mut cluster = Cluster::default();
    let twin = Disk { duplicate_serial: true, ..disk("A", "/dev/sdb") };
    let mut no_serial = disk("", "/dev/sdc");
    no_serial.facts.serial = None;
    no_serial.id = "path-p3".into();
    let (told, _) = cluster.settle(&[twin, no_serial]);
    assert_eq!(
        told,
        ["DuplicateSerial: another disk of this node has the serial A; it is identified by only its path"]
    );
    assert!(cluster.status("n1.disk-a").duplicate_serial);
    let conditions = cluster.status("n1.path-p3").conditions;
    assert_eq!(find(&conditions, SERIAL_UNIQUE).unwrap().reason.as_deref(), Some("NoSerial"));
}

#[test]
fn a_foreign_disk_is_erased_once_when_its_serial_is_repeated_and_not_without() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.settle(&[foreign("A")]).1, [""; 0]);
    cluster.ask_to_wipe("n1.disk-a", "A");
    assert_eq!(
        plan("n1", &[foreign("A")], &cluster.0, &BTreeMap::new(), now())[0],
        Action::Wipe { name: "n1.disk-a".into(), id: "disk-a".into() }
    );
    cluster.settle(&[foreign("A")]);
    // The wipe was done: the disk is empty.
    let (told, wiped) = cluster.settle(&[disk("A", "/dev/sdb")]);
    assert_eq!((told, wiped), (vec!["Erased: erased: ext4 on /dev/sdb".to_owned()], vec![]));
    assert_eq!(cluster.wiped("n1.disk-a").0, "Erased");
    // It is pulled, filled elsewhere and comes back: the old request does not erase it.
    let (told, wiped) = cluster.settle(&[foreign("A")]);
    assert_eq!(wiped, [""; 0]);
    assert!(
        told[0].starts_with("NotErased: it was erased for this request, and it has contents again"),
        "{told:?}"
    );
    // A new request does.
    Arc::make_mut(cluster.0.get_mut("n1.disk-a").unwrap()).spec.wipe = None;
    cluster.settle(&[foreign("A")]);
    assert_eq!(cluster.status("n1.disk-a").wiped, None);
    cluster.ask_to_wipe("n1.disk-a", "A");
    assert!(cluster.settle(&[foreign("A")]).1.contains(&"disk-a".to_owned()));
}

#[test]
fn every_reason_against_erasing_is_a_sentence() {
    let used = Disk { uses: vec!["/dev/sdb1 is mounted at /mnt".into()], ..foreign("A") };
    let mut read_only = foreign("A");
    read_only.facts.read_only = true;
    let unreadable = Disk { unreadable: Some("it cannot be searched: EIO".into()), ..foreign("A") };
    let twin = Disk { is_ambiguous: true, ..foreign("A") };
    let system = Disk { contents: Contents::System, ..disk("A", "/dev/sdb") };
    let held = vec!["/dev/sdb belongs to /dev/mapper/sheaf--fast-thin_tdata (lvm)".to_owned()];
    let member = Disk { contents: Contents::Pool("fast".into()), uses: held, ..disk("A", "/dev/sdb") };
    let other = Disk { id: "disk-a".into(), ..foreign("B") };
    for (disk, reason, sentence) in [
        (used, "InUse", "/dev/sdb1 is mounted at /mnt"),
        (read_only, "ReadOnly", "it is read-only"),
        (unreadable, "Unreadable", "it cannot be searched: EIO"),
        (
            twin,
            "Ambiguous",
            "another disk of this node reports the same serial; remove the one that is to keep its data",
        ),
        (system, "InUse", "this node runs from it"),
        (
            member,
            "InUse",
            "it belongs to pool fast; take it out of the pool first, or delete the pool's StoragePool",
        ),
        (other, "OtherDisk", "a different disk is attached: B"),
    ] {
        let mut cluster = Cluster::default();
        cluster.settle(&[Disk { signatures: Vec::new(), ..foreign("A") }]);
        cluster.ask_to_wipe("n1.disk-a", "A");
        let (told, wiped) = cluster.settle(std::slice::from_ref(&disk));
        assert_eq!(wiped, [""; 0], "{disk:?}");
        assert_eq!(cluster.wiped("n1.disk-a"), (reason.to_owned(), sentence.to_owned()));
        assert_eq!(told, [format!("NotErased: {sentence}")]);
    }
}

#[test]
fn a_wipe_that_failed_is_said_and_not_tried_at_every_look() {
    let mut cluster = Cluster::default();
    cluster.settle(&[foreign("A")]);
    cluster.ask_to_wipe("n1.disk-a", "A");
    let failed = BTreeMap::from([("n1.disk-a".to_owned(), "wipefs --all: exit status: 1".to_owned())]);
    let (told, wiped) = cluster.settle_after(&[foreign("A")], &failed);
    assert_eq!((told, wiped), (vec!["NotErased: wipefs --all: exit status: 1".to_owned()], vec![]));
}

#[test]
fn a_disk_that_fails_is_news_once() {
    let mut cluster = Cluster::default();
    cluster.settle(&[disk("A", "/dev/sdb")]);
    let health = smart::Health {
        verdict: Verdict::Failing,
        reason: Some("it is running out of spare blocks".into()),
        ..smart::Health::default()
    };
    let failing = Disk { health, ..disk("A", "/dev/sdb") };
    assert_eq!(
        cluster.settle(std::slice::from_ref(&failing)).0,
        ["DiskFailing: SMART reports a failure: it is running out of spare blocks"]
    );
    assert_eq!(cluster.settle(&[failing]).0, [""; 0]);
}

mod any {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A disk in any state; `A` and `B` have serials, a third kind has none.
    fn any_disk() -> impl Strategy<Value = Disk> {
        let contents = prop_oneof![
            2 => Just(Contents::Empty),
            1 => Just(Contents::System),
            1 => Just(Contents::Pool("fast".into())),
            4 => Just(Contents::Foreign("ext4 on /dev/sdb".into())),
        ];
        (0..3_usize, contents, any::<u64>(), proptest::collection::vec(prop::bool::weighted(0.15), 4))
            .prop_map(|(which, contents, size, is)| {
                let mut disk = disk(["A", "B", "C"][which], "/dev/sdb");
                if which == 2 {
                    disk.facts.serial = None;
                    disk.facts.place = Some("pci-1".into());
                }
                if let Contents::Foreign(what) = &contents {
                    disk.signatures = vec![what.clone()];
                }
                (disk.contents, disk.facts.size, disk.facts.read_only) = (contents, size, is[0]);
                disk.unreadable = is[1].then(|| "EIO".to_owned());
                disk.is_ambiguous = is[2];
                disk.uses = is[3].then(|| "/dev/sdb1 is mounted at /mnt".to_owned()).into_iter().collect();
                disk
            })
    }

    /// The disks that are there, and the serial that every object is asked to be erased for.
    fn any_round() -> impl Strategy<Value = (Vec<Disk>, Option<&'static str>)> {
        let asked = prop_oneof![
            1 => Just(None),
            3 => prop_oneof![Just("A"), Just("B"), Just("pci-1"), Just("")].prop_map(Some),
        ];
        let disks = proptest::collection::vec(any_disk(), 0..4).prop_map(|mut disks| {
            disks.sort_by(|a, b| a.id.cmp(&b.id));
            disks.dedup_by(|a, b| a.id == b.id);
            disks
        });
        (disks, asked)
    }

    proptest! {
        #[test]
        fn in_no_order_of_events_a_disk_is_erased_that_is_used_or_another_or_twice_for_one_request(
            rounds in proptest::collection::vec(any_round(), 1..8)
        ) {
            let mut cluster = Cluster::default();
            let mut erased = BTreeSet::new();
            for (mut disks, asked) in rounds {
                let names: Vec<_> = cluster.0.keys().cloned().collect();
                for name in names {
                    let object = Arc::make_mut(cluster.0.get_mut(&name).unwrap());
                    object.spec.wipe = asked.map(|serial| Wipe { confirm_serial: serial.into() });
                }
                erased.retain(|(_, serial)| Some(*serial) == asked);
                let (_, wiped) = cluster.settle(&disks);
                for disk in disks.iter_mut().filter(|disk| wiped.contains(&disk.id)) {
                    let is_erasable = !disk.facts.read_only && disk.unreadable.is_none() && !disk.is_ambiguous;
                    prop_assert!(is_erasable && disk.uses.is_empty(), "{disk:?}");
                    prop_assert!(!matches!(disk.contents, Contents::System), "{disk:?}");
                    let identity = disk.facts.identity();
                    prop_assert_eq!(identity.proof(), asked);
                    prop_assert!(erased.insert((disk.id.clone(), asked.unwrap())), "erased twice: {:?}", disk);
                    (disk.contents, disk.signatures) = (Contents::Empty, Vec::new());
                }
                let (_, again) = cluster.settle(&disks);
                prop_assert_eq!(again, Vec::<String>::new(), "it is empty already");
                for (name, object) in &cluster.0 {
                    let wiped = object.status.as_ref().and_then(|status| find(&status.conditions, WIPED));
                    let is_explained = wiped.is_none_or(|wiped| wiped.reason.as_ref().is_some_and(|why| !why.is_empty()));
                    prop_assert!(is_explained, "{name}");
                }
            }
        }
    }
}
