//! `sheaf disk`: a disk that no installer was booted for, in machines of both firmwares, to a node that is Ready.

use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::spec::Forward;
use sheaf_machine::{Firmware, NodeMachine, Operator, lab, node, ports};
use sheaf_tests::harness::{Case, READY, case};
use std::time::Duration;

/// A release is read and hashed, written and read back by one of two busy processors.
const WRITTEN: Duration = Duration::from_secs(600);
/// Of the disk: small enough that the file system of a test machine has room for what is written to it.
const SIZE: &str = "32GiB";

/// A disk of the first node, written by `sheaf disk` as `format`, in a machine with `firmware` (UEFI when there is none).
fn machine(
    case: &Case,
    operator: &Operator,
    firmware: Option<Firmware>,
) -> anyhow::Result<(NodeMachine, u16)> {
    let built = case.built()?;
    let node = lab::Node::first(&operator.admin_key()?);
    let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
    machine.spec.firmware = firmware.unwrap_or(machine.spec.firmware);
    let disk = machine.spec.disks[0].path.clone();
    std::fs::remove_file(&disk)?;
    let config = case.work().join("node.toml");
    std::fs::write(&config, node.toml())?;
    let write = Command::new(&built.sheaf)
        .arg("disk")
        .arg(&built.release)
        .arg("--config")
        .arg(&config)
        .arg("--output")
        .arg(&disk)
        .args(["--size", SIZE, "--format", "qcow2"])
        .dir(case.root())
        .log(case.artefacts().join("disk.log"))
        .deadline(WRITTEN);
    let said = System.run(&write)?;
    assert_eq!(said.text(), disk.display().to_string(), "the path is all that it prints");
    let left: Vec<_> = std::fs::read_dir(case.work())?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.starts_with(".disk-"))
        .collect();
    assert!(left.is_empty(), "nothing is left beside it: {left:?}");
    let port = ports::free_port()?;
    machine.spec.forwards.push(Forward { host: port, guest: node.address, port: 6443 });
    Ok((machine, port))
}

/// The machine boots from the disk, makes its cluster, and its node becomes Ready.
fn becomes_ready(operator: &Operator, machine: &NodeMachine, port: u16) -> anyhow::Result<()> {
    let mut running = machine.boot()?;
    let pin = node::ca_hash(&mut running)?;
    operator.wait_kubeconfig(&format!("https://127.0.0.1:{port}"), &pin, BOOT_DEADLINE)?;
    operator.wait_node_ready("node1", READY)?;
    // The rest of the disk is the pool of volumes, as on an installed node.
    operator.wait("default pool", &["storagepool", "default.node1"], READY, |pool| {
        (pool["status"]["phase"] == "Ready").then_some(())
    })?;
    running.cut_power();
    Ok(())
}

#[test]
fn a_disk_that_was_written_as_a_file_boots_to_a_ready_node_by_uefi() {
    case("disk-uefi", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let (machine, port) = machine(case, &operator, None)?;
        becomes_ready(&operator, &machine, port)
    });
}

#[test]
fn a_disk_that_was_written_as_a_file_boots_to_a_ready_node_by_bios() {
    case("disk-bios", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let (machine, port) = machine(case, &operator, Some(Firmware::Bios))?;
        becomes_ready(&operator, &machine, port)
    });
}
