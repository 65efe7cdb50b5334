//! Every write of an installation and of an update, recorded on one machine and cut off everywhere.
//!
//! Why a recording: the states that a power cut may leave are too many to boot, so the rig in tests/powercut judges them
//! for both firmwares (docs/reliability.md), and a sample is booted here to show that the rig agrees with a machine.
//! The tables go to `target/sheaf/power-cut.md`. When the case fails, the recordings stay with its artefacts.

use anyhow::{Context as _, Result, ensure};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::{Disk, Medium, NodeMachine, Operator, files, lab};
use sheaf_powercut::log::Log;
use sheaf_powercut::release::Release;
use sheaf_powercut::replay::{Phase, Recording, Replay};
use sheaf_powercut::report::Report;
use sheaf_tests::harness::{Case, NEXT, READY, Server, boot_first, case, node_update, wait_update};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A slot of 500 MB written and read twice under emulation, each write logged.
const STAGED: Duration = Duration::from_secs(1200);
/// Restart, boot, control plane, 90 s of health.
const UPDATED: Duration = Duration::from_secs(1500);
/// Seconds in which a healthy node is found healthy under emulation.
const PATIENT: u32 = 1800;
/// Bytes of a node's disk: `DISK_SIZE` of tests/machine/src/node.rs.
const DISK_SIZE: u64 = 64 << 30;
/// Chooses which sets of writes are tried where there are too many.
const SEED: u64 = 1;

/// An empty file for the recording `name`. Not `.log`: these are searched for what ended a machine, and a disk holds a kernel.
fn log(case: &Case, name: &str) -> Result<PathBuf> {
    let path = case.artefacts().join(format!("{name}.writes"));
    File::create(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Asks for `action` and waits until the NodeUpdate is in `phase`.
fn update(operator: &Operator, url: &str, action: &str, phase: &str, deadline: Duration) -> Result<()> {
    operator.wait_apply(&node_update(NEXT, url, action, PATIENT), READY)?;
    wait_update(operator, phase, deadline).map(drop)
}

/// Installs a node and updates it; the two logs.
fn record(case: &Case, next: &Path) -> Result<[PathBuf; 2]> {
    let server = Server::folder(next)?;
    let built = case.built()?;
    let operator = Operator::new(&built.sheaf, &built.kube, case.work());
    let node = lab::Node::first(&operator.admin_key()?);
    let iso = case.iso(&operator, &built, &node)?;
    let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
    let logs = [log(case, "install")?, log(case, "update")?];
    machine.spec.disks[0].log_writes = Some(logs[0].clone());
    machine.install(Medium::Cd(iso), |_| ())?;

    machine.spec.disks[0].log_writes = Some(logs[1].clone());
    let mut booted = boot_first(&mut machine, &node, &operator)?;
    update(&operator, &server.url(), "Stage", "Staged", STAGED)?;
    update(&operator, &server.url(), "Apply", "Updated", UPDATED)?;
    booted.cut_power();
    Ok(logs)
}

/// How the report counts a state that starts.
fn boots(version: &str, slot: char) -> String {
    format!("boots {version} from slot {slot}")
}

/// Boots a state and waits until the status page shows this release and slot.
fn boot(case: &Case, disk: &Path, version: &str, slot: char) -> Result<()> {
    let node = lab::Node::first("");
    let mut machine = NodeMachine::existing(&case.tools, &node, case.work(), &case.artefacts());
    for file in machine.spec.files_mut() {
        // Variables of a board that never saw this disk: firmware takes EFI/BOOT/BOOTX64.EFI.
        if file.to_string_lossy().ends_with("-vars.qcow2") {
            *file = case.work().join("new-board-vars.qcow2");
            files::uefi_variables(&case.tools, file)?;
        }
    }
    machine.spec.disks = vec![Disk::raw(disk, &node.disk_serial())];
    let mut booted = machine.boot()?;
    let what = format!("status page of {version} in slot {slot}");
    let place = format!("{}  slot {slot}", node.name);
    let title = format!("Sheaf {version}");
    booted.wait(&what, BOOT_DEADLINE, |machine| {
        machine.serial.next(|line| (line.contains(&title) && line.contains(&place)).then_some(()))
    })?;
    Ok(())
}

/// Boots a state of each kind that starts; `first` is the version that was installed.
fn boot_sample(case: &Case, replay: &Replay<'_>, report: &Report, first: &str) -> Result<()> {
    for (recording, version, slot) in [("install", first, 'a'), ("update", first, 'a'), ("update", NEXT, 'b')]
    {
        let label = boots(version, slot);
        let examples = &report.of(recording).context("no such recording")?.examples;
        let name = examples.get(&label).with_context(|| format!("no state of {recording} {label}"))?;
        let path = case.work().join("state.raw");
        replay.state(name)?.copy_to(&File::create(&path)?)?;
        boot(case, &path, version, slot).with_context(|| format!("state {name}: {label}"))?;
        fs::remove_file(&path)?;
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_write_of_an_installation_or_an_update_leaves_a_node_that_starts() {
    case("every-write", |case| {
        let (first, next) = (case.built()?.release, case.next_release()?);
        let paths = record(case, &next)?;
        let logs = paths.iter().map(|path| Log::open(path)).collect::<Result<Vec<_>, _>>()?;
        let recordings = [
            Recording { name: "install".into(), phase: Phase::Installation },
            Recording { name: "update".into(), phase: Phase::Installed },
        ];
        let releases = [Release::read(&first, &[])?, Release::read(&next, &[])?];
        let replay = Replay::new(&recordings, &logs, &releases, DISK_SIZE)?;
        let report = replay.run(SEED)?;
        let tables = report.markdown();
        println!("{tables}");
        fs::write(case.made().join("power-cut.md"), &tables)?;
        ensure!(report.failed() == 0, "{} states fail:\n{tables}", report.failed());
        let version = releases[0].version.as_str();
        for (recording, label) in [("install", boots(version, 'a')), ("update", boots(NEXT, 'b'))] {
            for end in &report.of(recording).context("no such recording")?.end {
                let end = end.as_ref().context("nothing was recorded")?;
                ensure!(end.label() == label, "{recording} ends with a disk that {}", end.label());
            }
        }
        boot_sample(case, &replay, &report, version)
    });
}
