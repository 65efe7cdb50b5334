//! The disk rules on whole machines: several disks of which one is meant, and a disk that fails while it is written.

use anyhow::{Context as _, Result};
use serde_json::Value;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::{Disk, DiskBus, Medium, NodeMachine, Operator, lab};
use sheaf_tests::harness::{Case, case};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Firmware, kernel, and the payload read once; the image written as far as it goes.
const VERDICT: Duration = Duration::from_secs(400);
/// Where the first slot begins: behind 1 MiB of table, GRUB's MiB, 2 GiB of ESP and two hash trees (docs/install.md).
const ROOT_A: u64 = (1 + 1 + 2048 + 64 + 64) << 20;
/// The installer zeroes so much at the start of each partition before it writes images.
const ERASED: u64 = 1 << 20;

/// A disk of `size` bytes in a file, of which only what is written takes room.
fn blank(case: &Case, name: &str, size: u64) -> Result<PathBuf> {
    let path = case.work().join(format!("{name}.raw"));
    std::fs::File::create(&path)?.set_len(size)?;
    Ok(path)
}

/// What stands on a disk, and where: holes are told from zeros.
fn fingerprint(disk: &Path) -> Result<String> {
    let script = "tar --sparse --mtime=@0 -cf - -C \"$0\" \"$1\" | sha256sum";
    let (folder, name) = (disk.parent().context("no folder")?, disk.file_name().context("no name")?);
    Ok(System.run(&Command::new("sh").args(["-c", script]).arg(folder).arg(name))?.text())
}

/// Boots the medium and gives what the installer says when it refuses or fails.
fn failure(machine: &NodeMachine, iso: &Path) -> Result<String> {
    let mut running = machine.boot_medium(Medium::Cd(iso.into()))?;
    running.fatal.retain(|text| text != "INSTALLATION FAILED");
    running.wait_for("INSTALLATION FAILED", VERDICT)?;
    running.wait_for("The machine stays on", Duration::from_secs(60))?;
    let said = running.serial.lines().join("\n");
    running.cut_power();
    let (_, report) = said.rsplit_once("INSTALLATION FAILED").unwrap_or_default();
    Ok(report.to_owned())
}

/// The medium of the first node with its disk selected by `disk`.
fn medium(case: &Case, operator: &Operator, name: &str, disk: &str, key: &str) -> Result<PathBuf> {
    let node = lab::Node { name: name.into(), disk: disk.into(), ..lab::Node::first(key) };
    case.iso(operator, &case.built()?, &node)
}

#[test]
fn among_four_disks_the_one_that_is_meant_is_installed_and_the_others_stay_as_they_are() {
    case("four-disks", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let key = operator.admin_key()?;
        let node = lab::Node::first(&key);

        // One disk with an older installation, under another name; two that say they are the same, one of them in use as
        // swap elsewhere; one that says nothing.
        let old = Disk { bus: DiskBus::Sata, ..Disk::raw(blank(case, "old", 20_000_000_000)?, "OLD") };
        let twin = Disk { bus: DiskBus::Nvme, ..Disk::raw(blank(case, "twin", 20_000_000_000)?, "TWIN") };
        let other = Disk::raw(blank(case, "other-twin", 20_000_000_000)?, "TWIN");
        std::fs::File::options().write(true).open(&other.path)?.write_all_at(b"SWAPSPACE2", 4086)?;
        let silent = Disk::raw(blank(case, "silent", 16_000_000_000)?, "");

        let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        machine.spec.memory = 2048;
        machine.spec.disks = vec![old.clone()];
        let iso = medium(case, &operator, "older", "serial = \"OLD\"", &key)?;
        machine.install(Medium::Cd(iso), |_| ())?;

        let others = [&old, &twin, &other];
        let before: Vec<_> = others.iter().map(|disk| fingerprint(&disk.path)).collect::<Result<_>>()?;
        machine.spec.disks = vec![silent.clone(), old.clone(), other.clone(), twin.clone()];
        let iso = medium(case, &operator, "twins", "serial = \"TWIN\"", &key)?;
        let report = failure(&machine, &iso)?;
        for disk in ["/dev/vdb", "/dev/nvme0n1"] {
            assert!(report.contains(disk), "both are named: {report}");
        }
        assert!(report.contains("No disk was written."), "{report}");

        let iso = medium(case, &operator, "node1", "bus = \"virtio\", max-size = \"17GB\"", &key)?;
        machine.install(Medium::Cd(iso), |_| ())?;
        let after: Vec<_> = others.iter().map(|disk| fingerprint(&disk.path)).collect::<Result<_>>()?;
        assert_eq!(before, after, "not one byte of the others");

        // Same labels on two disks: the node takes its own.
        machine.spec.memory = 4096;
        let mut running = machine.boot()?;
        running.wait_for("node1  slot a", BOOT_DEADLINE)?;
        Ok(())
    });
}

#[test]
fn a_disk_that_fails_at_the_start_in_the_middle_or_at_the_end_boots_nothing_and_is_named() {
    case("eio", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let node = lab::Node::first(&operator.admin_key()?);
        let iso = case.iso(&operator, &built, &node)?;
        let manifest: Value = serde_json::from_slice(&built.manifest()?)?;
        let size = manifest["root"]["raw_size"].as_u64().context("manifest without the image's size")?;
        for (share, place) in [(0, ROOT_A + ERASED), (50, ROOT_A + size / 2), (100, ROOT_A + size - 4096)] {
            let sector = place / 512;
            let path = blank(case, &format!("fails-{share}"), 16_000_000_000)?;
            let faults = format!(
                "inject-error.0.event=write_aio,inject-error.0.errno=5,inject-error.0.sector={sector},\
                 inject-error.0.once=off"
            );
            let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
            machine.spec.memory = 2048;
            machine.spec.disks = vec![Disk { faults: Some(faults), ..Disk::raw(&path, "SHEAF-1") }];
            let report = failure(&machine, &iso)?;
            assert!(report.contains("root.erofs.zst"), "{share} %: the step is named: {report}");
            assert!(report.contains("Input/output error"), "{share} %: {report}");
            assert!(report.contains("The partition table of /dev/vda was wiped"), "{share} %: {report}");
            let mut start = vec![0; 1 << 20];
            std::fs::File::open(&path)?.read_exact_at(&mut start, 0)?;
            assert!(start.iter().all(|&byte| byte == 0), "{share} %: neither MBR nor table");
        }
        Ok(())
    });
}
