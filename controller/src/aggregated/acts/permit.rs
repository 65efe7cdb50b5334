//! Whether an instance is in a state that allows what is asked of it.
//!
//! Why here: KubeVirt's checks and words (`pkg/virt-api/rest`), pure. virtctl retries a console each second while the answer
//! is 400, and gives up at any other: "not running" must be 400 there and 409 elsewhere. Route in: an instance. Route out:
//! nothing, or a refusal.

use sheaf_api::{VirtualMachineInstance, status::Phase};

use super::super::{
    answer::{Refusal, VMI},
    routes::{Stream, VmiAct},
};
use crate::{conditions::find, vm::plan::is_paused};

const VM_NOT_RUNNING: &str = "VM is not running";
const NOT_RUNNING: &str = "VMI is not running";

/// What the node is to do.
pub fn act(vmi: &VirtualMachineInstance, act: VmiAct) -> Result<(), Refusal> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let conflict = |why: &str| Err(Refusal::conflict(VMI, name, why));
    let phase = vmi.status.as_ref().and_then(|status| status.phase);
    let is_running = phase == Some(Phase::Running);
    match act {
        VmiAct::Pause if !is_running => conflict(VM_NOT_RUNNING),
        VmiAct::Pause if is_paused(vmi) => conflict("VMI is already paused"),
        VmiAct::Unpause if !is_running => conflict(NOT_RUNNING),
        VmiAct::Unpause if !is_paused(vmi) => conflict("VMI is not paused"),
        VmiAct::SoftReboot if !is_running => conflict(VM_NOT_RUNNING),
        VmiAct::SoftReboot if is_paused(vmi) => conflict("VMI is paused"),
        VmiAct::Reset if !is_running => {
            let phase = phase.map_or_else(String::new, |phase| phase.to_string());
            Err(Refusal::internal(format!(
                "Failed to reset non-running VMI with phase {phase}: {NOT_RUNNING}"
            )))
        }
        VmiAct::Freeze if !is_running => conflict(VM_NOT_RUNNING),
        // A paused guest cannot answer; its agent would not answer before the timeout.
        VmiAct::Freeze if is_paused(vmi) => conflict("VMI is paused"),
        VmiAct::Unfreeze if !is_running => conflict(NOT_RUNNING),
        VmiAct::GuestOsInfo | VmiAct::UserList | VmiAct::FilesystemList if !is_running => {
            conflict(NOT_RUNNING)
        }
        VmiAct::GuestOsInfo | VmiAct::UserList | VmiAct::FilesystemList if !has_agent(vmi) => {
            conflict("VMI does not have guest agent connected")
        }
        VmiAct::Screenshot { .. } => stream(vmi, &Stream::Vnc { preserve: true }),
        _ => Ok(()),
    }
}

/// What is to be connected.
pub fn stream(vmi: &VirtualMachineInstance, stream: &Stream) -> Result<(), Refusal> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let phase = vmi.status.as_ref().and_then(|status| status.phase);
    let devices = vmi.spec.devices();
    match stream {
        Stream::Console if devices.autoattach_serial_console == Some(false) => {
            Err(Refusal::bad_request("No serial consoles are present."))
        }
        Stream::Vnc { .. } if devices.autoattach_graphics_device == Some(false) => {
            Err(Refusal::bad_request("No graphics devices are present."))
        }
        Stream::Console if phase == Some(Phase::Failed) => {
            Err(Refusal::conflict(VMI, name, "VMI is in failed status"))
        }
        Stream::Console | Stream::Vnc { .. } if phase != Some(Phase::Running) => {
            Err(Refusal::bad_request(NOT_RUNNING))
        }
        Stream::PortForward { .. } if phase != Some(Phase::Running) => {
            Err(Refusal::conflict(VMI, name, NOT_RUNNING))
        }
        Stream::PortForward { .. } if is_paused(vmi) => Err(Refusal::conflict(VMI, name, "VMI is paused")),
        _ => Ok(()),
    }
}

fn has_agent(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, "AgentConnected").is_some_and(|agent| agent.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn vmi(phase: &str, conditions: &[&str], devices: Value) -> VirtualMachineInstance {
        let conditions: Vec<Value> =
            conditions.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "uid": "i"},
            "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": devices}},
            "status": {"phase": phase, "conditions": conditions},
        }))
        .unwrap()
    }

    fn why(result: Result<(), Refusal>) -> String {
        let prefix = "Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io \"web\": ";
        match result {
            Ok(()) => "yes".into(),
            Err(refusal) => format!("{} {}", refusal.code, refusal.message.replace(prefix, "")),
        }
    }

    #[test]
    fn acts_are_refused_by_state_in_kubevirts_words() {
        let of = |phase, conditions: &[&str], what| why(act(&vmi(phase, conditions, json!({})), what));
        let rows = [
            (VmiAct::Pause, "409 VM is not running", "yes", "409 VMI is already paused"),
            (VmiAct::Unpause, "409 VMI is not running", "409 VMI is not paused", "yes"),
            (VmiAct::SoftReboot, "409 VM is not running", "yes", "409 VMI is paused"),
            (
                VmiAct::Reset,
                "500 Internal error occurred: Failed to reset non-running VMI with phase Scheduled: VMI is not running",
                "yes",
                "yes",
            ),
            (VmiAct::Freeze, "409 VM is not running", "yes", "409 VMI is paused"),
            (VmiAct::Unfreeze, "409 VMI is not running", "yes", "yes"),
        ];
        for (what, scheduled, running, paused) in rows {
            assert_eq!(of("Scheduled", &[], what), scheduled, "{what:?}");
            assert_eq!(of("Running", &[], what), running, "{what:?}");
            assert_eq!(of("Running", &["Paused"], what), paused, "{what:?}");
        }
        for what in [VmiAct::GuestOsInfo, VmiAct::UserList, VmiAct::FilesystemList] {
            assert_eq!(of("Scheduled", &[], what), "409 VMI is not running");
            assert_eq!(of("Running", &[], what), "409 VMI does not have guest agent connected");
            assert_eq!(of("Running", &["AgentConnected"], what), "yes");
        }
    }

    #[test]
    fn virtctl_waits_for_a_console_of_a_vm_that_starts_and_gives_up_on_one_that_failed() {
        let console = |phase: &str, devices| why(stream(&vmi(phase, &[], devices), &Stream::Console));
        assert_eq!(console("Scheduling", json!({})), "400 VMI is not running");
        assert_eq!(console("Failed", json!({})), "409 VMI is in failed status");
        assert_eq!(
            console("Running", json!({"autoattachSerialConsole": false})),
            "400 No serial consoles are present."
        );
        let vnc = Stream::Vnc { preserve: false };
        let display = |devices| why(stream(&vmi("Running", &[], devices), &vnc));
        assert_eq!(
            display(json!({"autoattachGraphicsDevice": false})),
            "400 No graphics devices are present."
        );
        assert_eq!(display(json!({})), "yes");
        let port = Stream::PortForward { port: 22, udp: false };
        assert_eq!(why(stream(&vmi("Running", &["Paused"], json!({})), &port)), "409 VMI is paused");
    }
}
