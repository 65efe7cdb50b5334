//! A VM from the request to running, beside libvirt's own start of the same domain.
//!
//! Why here: what Sheaf adds to a start (API server, controller, scheduler, agent) is its own cost. Route in: a node
//! restored from its snapshot. Route out: seconds.

use super::VM;
use anyhow::{Context as _, Result};
use sheaf_host::run::{Run as _, System};
use sheaf_tests::harness::{Case, Cluster, READY, RUNNING};
use std::time::{Duration, Instant};

/// Starts that are measured on each side; the first of a node is not among them, since libvirt probes QEMU before it.
const ROUNDS: usize = 3;
/// One start, emulated.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts the domain that runs, from its own XML, and prints the seconds from the call to its return, as `virsh start`
/// waits for it: with the agent stopped, which would restart it otherwise.
const DIRECT: &str = r#"set -eu
connect='org.libvirt /org/libvirt/QEMU org.libvirt.Connect'
path=$(busctl call $connect ListDomains u 1 | cut -d '"' -f 2)
xml=$(busctl --json=short call org.libvirt "$path" org.libvirt.Domain GetXMLDesc u 0)
xml=$(printf '%s' "$xml" | sed -e 's/^{"type":"s","data":\["//' -e 's/"\]}$//')
xml=$(printf '%b' "$(printf '%s' "$xml" | sed -e 's/\\"/"/g')")
busctl call org.libvirt "$path" org.libvirt.Domain Destroy u 0
begin=$(date +%s%N)
busctl call --timeout=120 $connect DomainCreateXML su "$xml" 0 >/dev/null
end=$(date +%s%N)
echo $(( (end - begin) / 1000000 ))"#;

/// Medians, in seconds.
pub struct Starts {
    /// From `kubectl apply` to a VirtualMachine that is Running.
    pub created: f64,
    /// libvirt's start of the same domain.
    pub direct: f64,
}

/// Measures both on one node.
pub fn starts(case: &Case) -> Result<Starts> {
    let cluster = case.cluster()?;
    cluster.start_vm(VM, "wheat")?;
    remove(&cluster)?;
    let mut created = Vec::new();
    for round in 0..ROUNDS {
        let begin = Instant::now();
        cluster.operator.wait_apply(VM, READY)?;
        // A watch, not a poll: it returns when the status changes.
        let timeout = format!("--timeout={}s", RUNNING.as_secs());
        let wait = ["wait", "vm/wheat", "--for=jsonpath={.status.printableStatus}=Running", &timeout];
        System.run(&cluster.operator.kubectl_command(&wait).deadline(RUNNING))?;
        created.push(begin.elapsed().as_secs_f64());
        if round + 1 < ROUNDS {
            remove(&cluster)?;
        }
    }
    cluster.root("systemctl stop sheaf-agent")?;
    let mut direct = Vec::new();
    for _ in 0..ROUNDS {
        let milliseconds = cluster.machine.shell().run(DIRECT, START_TIMEOUT)?;
        let milliseconds = milliseconds.lines().last().unwrap_or_default().trim().parse::<f64>();
        direct.push(milliseconds.context("libvirt's start")? / 1000.0);
    }
    Ok(Starts { created: super::median(created), direct: super::median(direct) })
}

/// Deletes the VM and waits until nothing of it is left.
fn remove(cluster: &Cluster) -> Result<()> {
    let timeout = format!("--timeout={}s", RUNNING.as_secs());
    let delete = ["delete", "vm", "wheat", "--cascade=foreground", "--wait=true", &timeout];
    System.run(&cluster.operator.kubectl_command(&delete).deadline(RUNNING))?;
    Ok(())
}
