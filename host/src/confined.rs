//! Programs that read data which nobody trusts: each in a transient unit, as a user of its own, with the devices it needs.
//!
//! Why here: a parser of foreign images (`qemu-img`) is where a file becomes code. What it can reach after that is decided
//! here: no capability, no network, no file to write, no other device, bounded memory and time. It is systemd that confines
//! it (systemd.exec(5), systemd.resource-control(5)); `systemd-run` waits for it and hands its output over. Pure. Route in:
//! a [`Command`] and its devices. Route out: the [`Command`] that [`crate::run::Run`] runs instead.

use crate::run::Command;
use std::path::PathBuf;
use std::time::Duration;

/// A program and what it may use.
#[derive(Clone, Debug)]
pub struct Confined {
    /// Name of the unit: one of that name runs at a time.
    pub unit: String,
    /// What to run.
    pub command: Command,
    /// Block devices that it reads.
    pub reads: Vec<PathBuf>,
    /// Block devices that it reads and writes.
    pub writes: Vec<PathBuf>,
    /// Memory of all its processes, in bytes; killed beyond.
    pub memory: u64,
    /// Killed after this time.
    pub runtime: Duration,
}

/// What holds for all of them. The group `disk` opens block devices by their mode; the device list of the control group
/// opens none but those that are named.
const PROPERTIES: &[&str] = &[
    "DynamicUser=yes",
    "SupplementaryGroups=disk",
    "DevicePolicy=closed",
    "CapabilityBoundingSet=",
    "NoNewPrivileges=yes",
    "PrivateNetwork=yes",
    "PrivateIPC=yes",
    "RestrictAddressFamilies=none",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
    "MemorySwapMax=0",
    "TasksMax=64",
    "TimeoutStopSec=5",
    // Never outlives the agent that waits for it.
    "BindsTo=sheaf-agent.service",
];

impl Confined {
    /// The command that runs it confined.
    pub fn command(&self) -> Command {
        let mut command =
            Command::new("systemd-run").args(["--wait", "--pipe", "--collect", "--service-type=exec"]);
        command = command.arg(format!("--unit={}", self.unit));
        for property in PROPERTIES {
            command = command.arg(format!("--property={property}"));
        }
        command = command
            .arg(format!("--property=MemoryMax={}", self.memory))
            .arg(format!("--property=RuntimeMaxSec={}", self.runtime.as_secs()));
        for (devices, access) in [(&self.reads, "r"), (&self.writes, "rw")] {
            for device in devices {
                command = command.arg(format!("--property=DeviceAllow={} {access}", device.display()));
            }
        }
        command.arg("--").arg(&self.command.program).args(&self.command.args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_given_its_devices_its_bounds_and_nothing_else() {
        let confined = Confined {
            unit: "sheaf-import-pvc-1".into(),
            command: Command::new("qemu-img").args(["convert", "a b"]),
            reads: vec!["/dev/vg/from".into()],
            writes: vec!["/dev/vg/to".into()],
            memory: 512 << 20,
            runtime: Duration::from_secs(600),
        };
        let text = confined.command().to_string();
        for part in [
            "systemd-run --wait --pipe --collect --service-type=exec --unit=sheaf-import-pvc-1 ",
            " --property=DynamicUser=yes ",
            " --property=DevicePolicy=closed ",
            " --property=CapabilityBoundingSet= ",
            " --property=PrivateNetwork=yes ",
            " --property=MemoryMax=536870912 ",
            " --property=RuntimeMaxSec=600 ",
            " '--property=DeviceAllow=/dev/vg/from r' '--property=DeviceAllow=/dev/vg/to rw' ",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(text.ends_with(" -- qemu-img convert 'a b'"), "{text}");
        assert_eq!(text.matches("DeviceAllow").count(), 2);
    }
}
