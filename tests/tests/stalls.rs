//! A node on which something hangs: its lease continues while the node can do its work, ends when it cannot, and comes back.
//!
//! Why here: only on a machine do libvirt and the API server hang as programs do. What hangs below the agent's own
//! programs (`ip`, locks, disks) is tried in agent/src/stalls.rs and agent/src/network/trial/tests.rs.

use anyhow::Result;
use sheaf_tests::harness::{Cluster, READY, case};
use std::time::{Duration, Instant};

const AGENT: &str = "systemctl show --property MainPID --value sheaf-agent";
/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(10);
/// A busy emulator takes longer for one.
const RENEWED: Duration = Duration::from_secs(40);

fn renewal(cluster: &Cluster) -> Result<String> {
    let lease = ["get", "lease", "node1", "-n", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}"];
    Ok(cluster.operator.kubectl(&lease)?)
}

/// Waits until the lease was renewed after `old`.
fn renewed_after(cluster: &Cluster, old: &str) -> String {
    let look = || renewal(cluster).ok().filter(|new| new.as_str() > old);
    sheaf_host::wait::until(RENEWED, Duration::from_secs(1), look)
        .unwrap_or_else(|| panic!("the lease was not renewed within {} s after {old}", RENEWED.as_secs()))
}

#[test]
fn a_libvirt_that_hangs_ends_the_lease_after_a_minute_and_one_that_answers_again_brings_it_back() {
    case("stalled-libvirt", |case| {
        let cluster = case.cluster()?;
        let agent = cluster.root(AGENT)?;
        let old = renewal(&cluster)?;
        let stalled = Instant::now();
        cluster.root("systemctl kill --signal STOP libvirtd")?;
        // Nothing waits for libvirt on the way to the lease.
        let new = renewed_after(&cluster, &old);
        renewed_after(&cluster, &new);

        // A node that can start no VM must not say that it can, and after a minute others may count on its end.
        cluster.operator.wait("a node that is not Ready", &["node", "node1"], READY, |node| {
            let ready = node["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?;
            (ready["status"] == "False" && ready["reason"] == "HypervisorNotReady").then_some(())
        })?;
        let two_renewals = format!("sleep {}", 2 * RENEWAL.as_secs() + 5);
        let ended = sheaf_host::wait::until(READY, Duration::ZERO, || {
            let last = renewal(&cluster).ok()?;
            cluster.root(&two_renewals).ok()?;
            (renewal(&cluster).ok()? == last).then_some(())
        });
        assert!(ended.is_some(), "the lease is renewed on and on");
        assert!(
            stalled.elapsed() > Duration::from_secs(60),
            "a short stall is none: {:?}",
            stalled.elapsed()
        );
        assert_eq!(cluster.root(AGENT)?, agent, "the agent was not restarted: that would help nothing");

        cluster.root("systemctl kill --signal CONT libvirtd")?;
        cluster.operator.wait_node_ready("node1", READY)?;
        let last = renewal(&cluster)?;
        renewed_after(&cluster, &last);
        Ok(())
    });
}

#[test]
fn an_api_server_that_hangs_for_a_while_costs_no_node_and_restarts_no_agent() {
    case("stalled-api-server", |case| {
        let cluster = case.cluster()?;
        let agent = cluster.root(AGENT)?;
        let old = renewal(&cluster)?;
        // Longer than two renewals, shorter than the lease.
        cluster.root(
            "systemctl kill --signal STOP kube-apiserver; sleep 25; systemctl kill --signal CONT kube-apiserver",
        )?;
        renewed_after(&cluster, &old);
        cluster.operator.wait_node_ready("node1", READY)?;
        assert_eq!(cluster.root(AGENT)?, agent);
        Ok(())
    });
}
