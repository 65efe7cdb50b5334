//! The program of `sheaf-guests.service`: stops the node's VMs when the machine goes down, with or without an agent.
//!
//! Why a program beside the agent: an agent that crashed, or that systemd starts again, must not cost guests their disks. An
//! agent that runs is waited for at both ends: before, so that it takes no end of a VM for the guest's own; after, so that
//! the last end is reported before the network goes. Route in: systemd stops the unit. Route out: no VM runs; lines on the
//! console.

use super::stop;
use crate::paths::Paths;
use crate::status::{PowerSection, Status};
use sheaf_host::libvirt::VmHost;
use sheaf_host::{alive, wait};
use std::time::Duration;

/// An agent that runs notices a shutdown at once, or when it next reads the unit's state (10 s).
pub const NOTICED: Duration = Duration::from_secs(15);
/// The API server may be slow, or away with the network.
pub const REPORTED: Duration = Duration::from_secs(15);
/// Between two looks at what the agent says.
const LOOK: Duration = Duration::from_millis(100);

/// What the agent says of the shutdown; nothing when no agent runs.
fn section(paths: &Paths) -> Option<PowerSection> {
    let text = std::fs::read_to_string(paths.status_json()).ok()?;
    let status: Status = serde_json::from_str(&text).ok()?;
    alive::is_alive(&paths.alive()).then_some(status.power)
}

/// Waits until an agent that runs says what `holds` asks for; false if it did not in time.
fn agent_says(paths: &Paths, deadline: Duration, holds: impl Fn(&PowerSection) -> bool) -> bool {
    wait::until(deadline, LOOK, || section(paths).is_none_or(|power| holds(&power)).then_some(())).is_some()
}

/// Stops all VMs; `say` gets lines for people.
pub async fn stop<V: VmHost>(paths: &Paths, vms: &V, say: &(dyn Fn(String) + Sync)) -> anyhow::Result<()> {
    if !agent_says(paths, NOTICED, |power| power.shutting_down) {
        say("sheaf-agent does not notice the shutdown; VMs are stopped without it".into());
    }
    stop::all(vms, stop::LIMIT, say).await?;
    if !agent_says(paths, REPORTED, |power| power.unreported.is_empty()) {
        say("not every end of a VM is reported to the cluster; it is after the restart".into());
    }
    Ok(())
}
