//! A node none of whose slots can be started: its disk starts the recovery, which says so on the serial line, installs a release
//! again, and the node comes back with its cluster.
//!
//! Why whole machines: two boot loaders, an initrd that counts and another one that repairs take part. The slot that was never
//! written stays empty; the other one loses the superblocks of its root and of its hash tree.

use anyhow::{Context as _, ensure};
use sheaf_machine::Firmware;
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{READY, Server, case};
use std::io::Write as _;
use std::time::Duration;

/// Three boots whose initrd waits 90 s for its root, each emulated, and the boot of the recovery.
const GIVEN_UP: Duration = Duration::from_secs(2400);
/// A release is fetched, decoded, written and read back under emulation.
const INSTALLED: Duration = Duration::from_secs(1500);

/// Takes root and hash tree of slot a away under the node that runs from them, and restarts it.
const DAMAGE: &str = ". /run/sheaf/boot.env; stem=/dev/disk/by-partuuid/${INSTALL_ID%00}
    for number in 05 03; do dd if=/dev/zero of=${stem}$number bs=4096 count=1 conv=notrunc,fsync 2>/dev/null; done
    echo damaged; (sleep 2; systemctl reboot --force) >/dev/null 2>&1 &";

fn recovers(name: &str, firmware: Option<Firmware>) {
    case(name, |case| {
        let server = Server::folder(&case.built()?.release)?;
        let mut node = case.installed(firmware.as_ref())?;
        (node.machine.spec.shell, node.machine.spec.typed) = (true, true);
        let mut booted = node.boot()?;
        let operator = &node.operator;
        let boot = booted.shell().run("cat /proc/sys/kernel/random/boot_id", BOOT_DEADLINE)?;

        let said = booted.shell().run(DAMAGE, READY)?;
        ensure!(said.contains("damaged"), "{said}");
        booted.wait_for("has 2 tries left", GIVEN_UP)?;
        booted.wait_for("SHEAF RECOVERY", GIVEN_UP)?;
        booted.wait_for("slot a: ", READY)?;
        booted.wait_for("slot b: empty", READY)?;
        booted.wait_for("Without a key", READY)?;

        // Somebody attached a cable, and leaves it there: what is typed waits until the machine takes it.
        let mut cable = booted.line().context("the serial line")?;
        // A cable that nobody reads is full after some hundred bytes, and the machine waits. The copy ends with the machine.
        let mut said = cable.try_clone()?;
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        cable.write_all(b"u")?;
        booted.wait_for("URL of the release's folder", READY)?;
        cable.write_all(format!("{}\r", server.url()).as_bytes())?;
        booted.wait_for("goes into slot a", READY)?;
        booted.wait_for("Done; the machine restarts.", INSTALLED)?;

        // The same cluster: its administrator's certificate still counts, and the node is the one that it was.
        let again =
            operator.wait("the node's next boot", &["node", "node1"], BOOT_DEADLINE + READY, |node| {
                let id = node["status"]["nodeInfo"]["bootID"].as_str()?.trim().to_owned();
                (id != boot.trim()).then_some(id)
            })?;
        ensure!(!again.is_empty(), "a boot without an identifier");
        operator.wait_node_ready("node1", READY)?;
        Ok(())
    });
}

#[test]
fn a_node_whose_slots_are_damaged_starts_the_recovery_and_is_installed_again_by_uefi() {
    recovers("recovery", None);
}

#[test]
fn a_node_whose_slots_are_damaged_starts_the_recovery_and_is_installed_again_by_bios() {
    recovers("recovery-bios", Some(Firmware::Bios));
}
