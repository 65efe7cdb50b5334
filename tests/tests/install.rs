//! What the installer refuses, on machines whose disks must stay as they were.

use sheaf_machine::{Disk, Medium, NodeMachine, Operator, files, lab};
use sheaf_tests::harness::{Case, case};
use std::path::Path;
use std::time::Duration;

/// Firmware, kernel, and the payload read once.
const VERDICT: Duration = Duration::from_secs(400);

/// A key that is one, for nodes that are never installed.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----";

/// Boots the medium of `node` and gives what the installer says when it refuses.
fn refusal(case: &Case, machine: &NodeMachine, iso: &Path) -> anyhow::Result<String> {
    let mut running = machine.boot_medium(Medium::Cd(iso.into()))?;
    running.fatal.retain(|text| text != "INSTALLATION FAILED");
    running.wait_for("INSTALLATION FAILED", VERDICT)?;
    running.wait_for("The machine stays on", Duration::from_secs(30))?;
    let said = running.serial.lines().join("\n");
    running.cut_power();
    let (_, report) = said.split_once("INSTALLATION FAILED").unwrap_or_default();
    assert!(case.artefacts().exists());
    Ok(report.to_owned())
}

/// Whether the first MiB of a disk holds nothing but zeros: no table, no boot sector.
fn is_blank(case: &Case, disk: &Path) -> anyhow::Result<bool> {
    let start = case.work().join("start.raw");
    files::first_mib(&case.tools, disk, &start)?;
    Ok(std::fs::read(&start)?.iter().all(|&byte| byte == 0))
}

#[test]
fn a_flipped_byte_of_the_payload_is_refused_and_no_table_is_written() {
    case("flipped-byte", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let node = lab::Node::first(KEY);
        let iso = case.iso(&operator, &built, &node)?;
        let payload = std::fs::read(built.release.join("root.erofs.zst"))?;
        case.flip_byte(&iso, &payload, payload.len() / 2)?;

        let machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        let report = refusal(case, &machine, &iso)?;
        assert!(report.contains("root.erofs.zst"), "the file is named: {report}");
        assert!(is_blank(case, &machine.spec.disks[0].path)?, "nothing makes the disk look installed");
        Ok(())
    });
}

#[test]
fn two_disks_that_match_are_both_named_and_neither_is_touched() {
    case("two-disks", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let node = lab::Node { disk: "bus = \"virtio\"".into(), ..lab::Node::first(KEY) };
        let iso = case.iso(&operator, &built, &node)?;

        let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        let second = case.work().join("second.qcow2");
        files::blank(&case.tools, &second, "64G")?;
        machine.spec.disks.push(Disk::qcow2(&second, "SHEAF-OTHER"));
        let report = refusal(case, &machine, &iso)?;
        assert!(report.contains("SHEAF-1") && report.contains("SHEAF-OTHER"), "both are named: {report}");
        for disk in &machine.spec.disks {
            assert!(is_blank(case, &disk.path)?, "{}", disk.path.display());
        }
        Ok(())
    });
}
