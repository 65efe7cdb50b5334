//! Disks that are swapped, changed or taken between the scan and the first write: nothing is written to them.

mod common;

use common::{ID, Release, SIZE, config};
use sheaf_host::disk::{Disk, DiskError};
use sheaf_host::fakes::{FakeDisk, FakeRun};
use sheaf_installer::claim::{self, ClaimError, Claimed, Machine};
use sheaf_installer::inventory::{self, Inventory, Reserved};
use sheaf_installer::plan::{InstallPlan, ReleaseContents, plan};
use std::path::Path;
use tempfile::TempDir;

/// A server with two disks, as the kernel, lsblk and wipefs show it at one moment.
struct Moment {
    root: TempDir,
    run: FakeRun,
}

/// One disk at that moment: name, number, serial, diskseq, what wipefs finds.
struct Shown(&'static str, &'static str, &'static str, u64, Option<(u64, &'static str)>);

const TARGET: Shown = Shown("sda", "8:0", "A", 1, None);
const DATA: Shown = Shown("sdb", "8:16", "B", 2, Some((512, "LVM2_member")));

impl Moment {
    fn new(disks: &[Shown]) -> Self {
        let root = TempDir::new().unwrap();
        let write = |path: String, text: String| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/meminfo".into(), "MemTotal: 2097152 kB\n".into());
        std::fs::create_dir_all(root.path().join("sys/class/net")).unwrap();
        let mut run = FakeRun::default();
        let mut listed = Vec::new();
        for Shown(name, number, serial, sequence, holds) in disks {
            write(format!("sys/dev/block/{number}/diskseq"), format!("{sequence}\n"));
            listed.push(format!(
                r#"{{"path":"/dev/{name}","type":"disk","maj:min":"{number}","size":{SIZE},"log-sec":512,"serial":"{serial}"}}"#
            ));
            let found = holds.map(|(offset, kind)| {
                format!(r#"{{"signatures":[{{"device":"{name}","offset":"{offset:#x}","type":"{kind}"}}]}}"#)
            });
            let command = format!("wipefs --json --output DEVICE,OFFSET,TYPE /dev/{name}");
            run = run.prints(&command, &found.unwrap_or_default());
        }
        let run = run.prints("lsblk", &format!(r#"{{"blockdevices":[{}]}}"#, listed.join(",")));
        Self { root, run }
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = inventory::probe(&self.run, self.root.path(), Reserved::default()).unwrap();
        inventory.nics = vec![common::nic("enp1s0", "52:54:00:00:00:01")];
        inventory
    }
}

/// A plan that installs on A and empties B, and the inventory it was made from.
fn planned() -> (InstallPlan, Inventory) {
    let release = Release::new();
    let inventory = Moment::new(&[TARGET, DATA]).inventory();
    let wanted = config("data-disks = [{ serial = \"B\", wipe = \"B\" }]\n");
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    (plan(&wanted, &inventory, contents, ID).unwrap(), inventory)
}

fn number(path: &Path) -> &'static str {
    if path == Path::new("/dev/sda") { "8:0" } else { "8:16" }
}

fn open(path: &Path) -> Result<Box<dyn Disk>, DiskError> {
    Ok(Box::new(FakeDisk::new(path, SIZE).numbered(number(path))))
}

/// What claiming the plan's disks says when the machine shows `now` while they are open.
fn claimed(now: &[Shown]) -> Result<Claimed, ClaimError> {
    let (plan, inventory) = planned();
    let now = Moment::new(now);
    let machine =
        Machine { open: &open, run: &now.run, root: now.root.path(), reserved: Reserved::default() };
    claim::claim(&plan, &inventory, &machine)
}

fn refusal(now: &[Shown]) -> String {
    claimed(now).err().expect("the disks were claimed").to_string()
}

#[test]
fn the_disks_of_a_plan_are_claimed_when_nothing_changed() {
    let claimed = claimed(&[TARGET, DATA]).unwrap();
    assert_eq!(claimed.target.path(), Path::new("/dev/sda"));
    assert_eq!(claimed.data.iter().map(|disk| disk.path()).collect::<Vec<_>>(), [Path::new("/dev/sdb")]);
}

#[test]
fn a_disk_that_took_the_name_of_the_chosen_one_is_refused() {
    assert_eq!(
        refusal(&[Shown("sda", "8:0", "OTHER", 3, Some((512, "gpt"))), DATA]),
        "/dev/sda: changed since the plan was made: serial is \"OTHER\", was \"A\", it was unplugged, or its medium was \
         changed (diskseq is 3, was 1), it holds gpt on /dev/sda, held nothing"
    );
}

#[test]
fn a_data_disk_that_was_swapped_is_refused_before_the_boot_disk_is_written() {
    assert_eq!(
        refusal(&[TARGET, Shown("sdb", "8:16", "C", 3, Some((512, "LVM2_member")))]),
        "/dev/sdb: changed since the plan was made: serial is \"C\", was \"B\", it was unplugged, or its medium was \
         changed (diskseq is 3, was 2)"
    );
}

#[test]
fn a_clone_with_the_same_serial_is_told_by_the_kernels_count() {
    assert_eq!(
        refusal(&[Shown("sda", "8:0", "A", 7, None), DATA]),
        "/dev/sda: changed since the plan was made: it was unplugged, or its medium was changed (diskseq is 7, was 1)"
    );
}

#[test]
fn contents_that_came_after_the_wipe_proof_are_refused() {
    assert_eq!(
        refusal(&[Shown("sda", "8:0", "A", 1, Some((1080, "ext4"))), DATA]),
        "/dev/sda: changed since the plan was made: it holds ext4 on /dev/sda, held nothing"
    );
    assert_eq!(
        refusal(&[TARGET, Shown("sdb", "8:16", "B", 2, Some((4096, "LVM2_member")))]),
        "/dev/sdb: changed since the plan was made: its contents (LVM2_member on /dev/sdb) are at other offsets"
    );
}

#[test]
fn a_disk_whose_number_is_not_that_of_the_open_one_is_refused() {
    // The names were given again after the disk was opened: sda is 8:32 now, and ours has no entry.
    assert_eq!(
        refusal(&[Shown("sda", "8:32", "A", 1, None), DATA]),
        "/dev/sda: changed since the plan was made: it is gone"
    );
}

#[test]
fn a_disk_that_another_program_holds_is_refused() {
    let (plan, inventory) = planned();
    let now = Moment::new(&[TARGET, DATA]);
    let open = |path: &Path| {
        let disk = FakeDisk::new(path, SIZE).numbered(number(path));
        Ok(Box::new(if path == Path::new("/dev/sdb") { disk.busy() } else { disk }) as Box<dyn Disk>)
    };
    let machine =
        Machine { open: &open, run: &now.run, root: now.root.path(), reserved: Reserved::default() };
    let error = claim::claim(&plan, &inventory, &machine).err().unwrap();
    assert_eq!(error.to_string(), "/dev/sdb: is in use by another program or a mount");
    assert_eq!(error.remedy(), "another program uses the disk: boot the medium again");
}

#[test]
fn the_scan_that_decides_comes_after_all_disks_are_open() {
    let (plan, inventory) = planned();
    let now = Moment::new(&[TARGET, DATA]);
    let asked = std::sync::Mutex::new(Vec::new());
    let open = |path: &Path| {
        asked.lock().unwrap().push(now.run.asked().len());
        open(path)
    };
    let machine =
        Machine { open: &open, run: &now.run, root: now.root.path(), reserved: Reserved::default() };
    assert!(claim::claim(&plan, &inventory, &machine).is_ok());
    assert_eq!(*asked.lock().unwrap(), [0, 0], "nothing was scanned before both were open");
    assert_eq!(
        now.run.asked(),
        [
            "udevadm settle --timeout=10",
            "lsblk --json -b -O",
            "wipefs --json --output DEVICE,OFFSET,TYPE /dev/sda",
            "wipefs --json --output DEVICE,OFFSET,TYPE /dev/sdb",
        ]
    );
}
