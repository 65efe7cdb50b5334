//! A running node: what it withstands, and what it does not let happen.

use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{READY, RUNNING, case, field};
use std::time::Duration;

const VM: &str = include_str!("../../docs/examples/vm.yaml");

#[test]
fn root_and_usr_are_not_writable() {
    case("read-only", |case| {
        let cluster = case.cluster()?;
        for path in ["/x", "/usr/x", "/usr/bin/sheaf-agent"] {
            let (code, said) =
                cluster.machine.shell().exit_code(&format!("touch {path}"), Duration::from_secs(30))?;
            assert_ne!(code, 0, "{path}");
            assert!(said.contains("Read-only file system"), "{path}: {said}");
        }
        assert_eq!(cluster.root("findmnt --noheadings --output FSTYPE /")?, "erofs");
        let device = "cat /sys/dev/block/$(findmnt --noheadings --output MAJ:MIN / | tr -d ' ')/dm/uuid";
        assert!(cluster.root(device)?.starts_with("CRYPT-VERITY-"), "the root is verified as it is read");
        Ok(())
    });
}

#[test]
fn no_unit_fails_while_a_node_boots_its_initrd_included() {
    case("units", |case| {
        let cluster = case.cluster()?;
        // SD_MESSAGE_UNIT_FAILED of systemd's sd-messages.h.
        let failed = "journalctl --boot --no-pager --output cat MESSAGE_ID=be02cf6855d2428ba40df7e9d022f03d";
        assert_eq!(cluster.root(failed)?.trim(), "");
        assert_eq!(cluster.root("systemctl --failed --no-legend --plain")?.trim(), "");
        let counted = cluster.root("journalctl --boot --no-pager --output cat -u sheaf-boots")?;
        assert!(counted.contains("Finished sheaf-boots.service"), "{counted}");
        Ok(())
    });
}

#[test]
fn a_vm_outlives_its_killed_agent() {
    case("agent-killed", |case| {
        let cluster = case.cluster()?;
        let up = cluster.start_vm(VM, "wheat")?;
        let before = cluster.root("systemctl show --property MainPID --value sheaf-agent")?;
        let pod = cluster.operator.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])?;

        cluster.root("systemctl kill --signal KILL sheaf-agent")?;
        let after = sheaf_host::wait::until(READY, Duration::from_secs(1), || {
            cluster
                .root("systemctl show --property MainPID --value sheaf-agent")
                .ok()
                .filter(|pid| *pid != before && pid != "0")
        });
        assert!(after.is_some(), "systemd starts the agent again");
        cluster.operator.wait_node_ready("node1", READY)?;
        cluster.operator.wait_vm_running("wheat", RUNNING)?;

        // A heartbeat that is younger than the kill: the guest went on all the time, and its Pod is the same.
        let beat: u64 =
            field(&cluster.console_line("wheat", "guest: alive")?, "uptime").trim_end_matches('s').parse()?;
        let younger = sheaf_host::wait::until(RUNNING, Duration::from_secs(2), || {
            let line = cluster.console_line("wheat", "guest: alive").ok()?;
            let uptime: u64 = field(&line, "uptime").trim_end_matches('s').parse().ok()?;
            (uptime > beat).then_some(line)
        });
        let younger = younger.expect("the guest's heart beats on");
        assert_eq!(field(&younger, "boot-id"), field(&up, "boot-id"));
        assert_eq!(
            cluster.operator.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])?,
            pod
        );
        Ok(())
    });
}

#[test]
#[cfg_attr(not(feature = "all"), ignore = "two boots: `make test-all`")]
fn a_node_whose_power_was_cut_comes_back_and_so_does_its_vm() {
    case("power-cut", |case| {
        let mut cluster = case.cluster()?;
        let before = cluster.start_vm(VM, "wheat")?;
        cluster.power_cycle()?;

        // The API server's memory of the node is older than the cut; a new boot id is not.
        let boot_id = cluster.boot_id(BOOT_DEADLINE)?;
        cluster.operator.wait(
            "node with its new boot id, Ready",
            &["node", "node1"],
            BOOT_DEADLINE,
            |node| {
                let same = node["status"]["nodeInfo"]["bootID"] == boot_id.as_str();
                (same && sheaf_machine::operator::condition(node, "Ready") == Some("True")).then_some(())
            },
        )?;
        let again = cluster.new_console_line("wheat", "guest: up", &field(&before, "boot-id"))?;
        assert_eq!(field(&again, "hostname"), "wheat");
        Ok(())
    });
}

#[test]
fn the_agent_is_small() {
    case("agent-memory", |case| {
        let cluster = case.cluster()?;
        let of = |field: &str| -> anyhow::Result<u64> {
            let look = format!(
                "awk '/^{field}:/ {{print $2}}' /proc/$(systemctl show --property MainPID --value sheaf-agent)/status"
            );
            Ok(cluster.root(&look)?.trim().parse()?)
        };
        // What it has for itself; the rest is its program, which is in the page cache anyway and grows with what it can do.
        let (own, all) = (of("RssAnon")?, of("VmRSS")?);
        eprintln!("idle agent: {own} KiB of its own, {all} KiB with its program");
        assert!(own <= 8 * 1024, "idle agent: {own} KiB of its own");
        assert!(all <= 28 * 1024, "idle agent: {all} KiB with its program");
        Ok(())
    });
}
