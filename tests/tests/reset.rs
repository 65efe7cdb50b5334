//! Resets on machines: a control-plane node by hand with its pools, its power cut in the middle; a node that leaves and erases itself;
//! a release that is damaged in the middle, whose boots die in the kernel.
//!
//! Why whole machines: initrd, dm-verity and boot loaders take part, and only a disk says what is left on it. Each case is its own
//! cluster.

use anyhow::{Context as _, Result, ensure};
use sheaf_machine::Firmware;
use sheaf_machine::node::{self, BOOT_DEADLINE};
use sheaf_tests::harness::{Cluster, READY, case};
use std::time::Duration;

/// Partitions of some GiB are overwritten and made again under emulation; QEMU's disk does it by itself.
const RESET: Duration = Duration::from_secs(900);
/// Four boots that die at their agent, each emulated, and the boot of what comes next.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// What no reset may leave.
const MARKER: &str = "kept-by-nobody-4711";

/// One value of the node, by a command.
fn value(cluster: &Cluster, command: &str) -> Result<String> {
    Ok(cluster.root(command)?.trim().to_owned())
}

/// Says of state and data whether the marker is in its first 384 MiB: ext4 puts the first files into the group after those with the
/// inodes, which begins at 128 MiB.
const SEARCH: &str = ". /run/sheaf/boot.env; for of in 09 0a; do \
    dd if=/dev/disk/by-partuuid/${INSTALL_ID%00}$of bs=1M count=384 iflag=direct 2>/dev/null | grep -qa kept-by-nobody && \
    echo found || echo gone; done";

/// What [`SEARCH`] says, one word for each.
fn search(cluster: &Cluster) -> Result<String> {
    Ok(cluster.machine.shell().run(SEARCH, READY)?.split_whitespace().collect::<Vec<_>>().join(" "))
}

const GROUP: &str = "lvm vgs --noheadings -o vg_uuid sheaf-default";

#[test]
fn a_control_plane_node_is_reset_by_hand_with_its_pools_and_a_power_cut_in_between_is_made_up_for() {
    case("reset", |case| {
        let mut cluster = case.cluster()?;
        cluster.root(&format!("for at in state data; do echo {MARKER} >/$at/marker; done; sync"))?;
        let before: Vec<String> = [GROUP, "cat /etc/machine-id", "cat /run/sheaf/boot.env | grep SLOT="]
            .iter()
            .map(|command| value(&cluster, command))
            .collect::<Result<_>>()?;
        ensure!(search(&cluster)? == "found found", "the search finds nothing");

        // It shows what is lost, and refuses a node of a control plane.
        let said = value(&cluster, "sheaf-agent reset --wipe-pools")?;
        ensure!(
            said.contains("erased  pool default") && said.contains("repeat it with --node node1"),
            "{said}"
        );
        let (code, said) = cluster.machine.shell().exit_code("sheaf-agent reset --node node1 2>&1", READY)?;
        ensure!(code != 0 && said.contains("node node1 has the control plane"), "{code}: {said}");

        cluster.machine.goes_on_after_reboots()?;
        cluster.machine.serial.skip_all();
        // Later: the shell that is asked is stopped at once.
        cluster.root("(sleep 2; sheaf-agent reset --node node1 --wipe-pools --force) >/dev/null 2>&1 &")?;
        cluster.machine.wait_for("sheaf: this node is being reset", BOOT_DEADLINE)?;
        cluster.machine.wait_for("sheaf: reset: overwrite data", RESET)?;
        cluster.machine.cut_power();
        cluster.machine = cluster.node.boot()?;
        cluster.machine.wait_for("sheaf: this node is being reset", BOOT_DEADLINE)?;
        cluster.machine.wait_for("sheaf: reset: the reset is complete", RESET)?;

        // node.toml creates a cluster: another one, with keys of its own.
        let ca_hash = node::ca_hash(&mut cluster.machine)?;
        ensure!(ca_hash != cluster.ca_hash, "the cluster is the former one");
        cluster.boot_id(BOOT_DEADLINE)?;
        let again = sheaf_host::wait::until(READY, Duration::from_secs(5), || {
            value(&cluster, GROUP).ok().filter(|group| !group.is_empty() && *group != before[0])
        });
        again.context("the pool is not made again, or is the former one")?;
        ensure!(value(&cluster, "cat /etc/machine-id")? != before[1], "the machine-id is the former one");
        ensure!(value(&cluster, "grep SLOT= /run/sheaf/boot.env")? == before[2], "it runs from another slot");
        let config = value(&cluster, "cat /state/node.toml")?;
        ensure!(config.contains("node1"), "{config}");
        ensure!(search(&cluster)? == "gone gone", "what was before is still on the disk");
        let records = "dd if=/dev/disk/by-partuuid/${INSTALL_ID%00}07 bs=4096 skip=128 count=64 2>/dev/null | tr -d '\\0' | wc -c";
        let records = value(&cluster, &format!(". /run/sheaf/boot.env; {records}"))?;
        ensure!(records == "0", "the mark is still there: {records} bytes");
        Ok(())
    });
}

#[test]
fn a_node_that_leaves_erases_itself_when_its_removal_wants_it() {
    case("reset-leaving", |case| {
        let cluster = case.cluster()?;
        let mut second = case.second_node(&cluster)?;
        second.goes_on_after_reboots()?;
        second.serial.skip_all();
        let removal = "apiVersion: sheaf.dev/v1alpha1
kind: NodeRemoval
metadata: {name: node2}
spec:
  nodeName: node2
  acceptLoss: [StoragePool/default.node2]
  wipe: {confirmNode: node2, pools: true}
";
        cluster.operator.wait_apply(removal, READY)?;
        second.wait_for("sheaf: this node is being reset", READY + BOOT_DEADLINE)?;
        second.wait_for("sheaf: reset: the reset is complete", RESET)?;
        let message =
            cluster.operator.wait("end of the removal", &["noderemoval", "node2"], READY, |object| {
                let status = &object["status"];
                (status["phase"] == "Removed")
                    .then(|| status["message"].as_str().unwrap_or_default().to_owned())
            })?;
        ensure!(message.contains("It erases itself; its screen shows when that is done"), "{message}");
        // It comes up as a machine without a config.
        let answer = sheaf_host::wait::until(BOOT_DEADLINE, Duration::from_secs(5), || {
            let shell = second.shell();
            shell.run("ls /state/node.toml /var/lib/sheaf/pki 2>&1; uname -n", Duration::from_secs(5)).ok()
        });
        let answer = answer.context("the machine does not start again")?;
        ensure!(answer.contains("sheaf-") && !answer.contains(".pem"), "{answer}");
        Ok(())
    });
}

/// Spoils slot a behind the first block of its root, by which the initrd finds it: dm-verity starts, and the first directory that is
/// read restarts the machine in the kernel. Later: the shell runs from that root.
const DAMAGE: &str = "(sleep 2; . /run/sheaf/boot.env
    dd if=/dev/zero of=/dev/disk/by-partuuid/${INSTALL_ID%00}05 bs=4096 seek=1 count=2048 conv=notrunc,fsync
    systemctl reboot --force) >/dev/null 2>&1 &";

fn is_given_up(name: &str, firmware: Option<Firmware>) {
    case(name, |case| {
        let mut node = case.installed(firmware.as_ref())?;
        node.machine.spec.shell = true;
        let mut booted = node.boot()?;
        booted.shell().run(DAMAGE, READY)?;
        // The other slot is empty: the recovery says why it is there.
        booted
            .wait_for("boots in a row ended before the node worked; another release is started", GIVEN_UP)?;
        booted.wait_for("SHEAF RECOVERY", BOOT_DEADLINE)?;
        booted.wait_for("no try left", READY)?;
        booted.wait_for("was given up: 3 boots in a row", READY)?;
        Ok(())
    });
}

#[test]
fn a_good_release_that_is_damaged_in_the_middle_is_given_up_after_three_boots_by_uefi() {
    is_given_up("given-up", None);
}

#[test]
fn a_good_release_that_is_damaged_in_the_middle_is_given_up_after_three_boots_by_bios() {
    is_given_up("given-up-bios", Some(Firmware::Bios));
}
