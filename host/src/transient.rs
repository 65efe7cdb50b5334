//! Programs in transient units of systemd: outside the caller's own unit, within limits of their own.
//!
//! Why here: a program that the agent starts is in the agent's cgroup, and is killed with it. One that changes LVM's
//! metadata must come to its end whatever becomes of the agent; one that parses what a tenant sent must reach nothing
//! but what it needs. Route in: a [`Command`], a [`TransientUnit`]. Route out: `systemd-run --wait --pipe`, or
//! [`crate::fakes::FakeTransientUnits`] in tests. Settings: systemd.exec(5), systemd.resource-control(5).
//!
//! A [`Command::deadline`] ends the waiting, not the program: the unit continues. [`Limits::runtime_max`] ends the program.

use crate::run::{Command, Output, Run, RunError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a program is run apart from the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransientUnit {
    /// What the unit's name begins with, `sheaf-lvm`; process and number of the call follow.
    pub name: String,
    /// Processes that it leaves behind continue, as `pvmove --background` does; otherwise they are killed when it ends.
    pub leaves_processes: bool,
    /// What it may use. Without it: root, with everything, and the last to be killed when memory is short.
    pub limits: Option<Limits>,
}

/// What a program may use. Whatever is not named it does not have: no network, no capabilities, no other devices, nothing
/// of the file system to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups of the user that is made for it and gone with it: `disk` to open block devices.
    pub groups: Vec<String>,
    /// Devices that it may open, and how.
    pub devices: Vec<(PathBuf, Access)>,
    /// Memory in bytes, page cache of what it reads and writes included; it is killed beyond.
    pub memory_max: u64,
    /// Longest time; it is killed after.
    pub runtime_max: Duration,
    /// Most processes and threads.
    pub tasks_max: u32,
    /// System calls that it may make, systemd's sets (`@system-service`) included; another one is answered by EPERM.
    pub system_calls: Vec<String>,
}

/// How a device may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write.
    ReadWrite,
}

/// Something that runs programs in transient units: [`SystemdRun`], or [`crate::fakes::FakeTransientUnits`] in tests.
pub trait TransientUnits: Send + Sync {
    /// Runs `command` to its end in a unit of its own; an exit code other than 0 is an error. Errors name `command`.
    fn run_in(&self, unit: &TransientUnit, command: &Command) -> Result<Output, RunError>;
}

/// systemd of the machine.
pub struct SystemdRun(pub Arc<dyn Run>);

impl TransientUnits for SystemdRun {
    fn run_in(&self, unit: &TransientUnit, command: &Command) -> Result<Output, RunError> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{call}", unit.name, std::process::id());
        self.0.run(&wrapped(&name, unit, command)).map_err(|error| named(error, command))
    }
}

/// `command` as systemd-run is told to run it in the unit `name`.
fn wrapped(name: &str, unit: &TransientUnit, command: &Command) -> Command {
    let property = |text: String| format!("--property={text}");
    let mut run = Command {
        stdin: command.stdin.clone(),
        log: command.log.clone(),
        deadline: command.deadline,
        any_code: command.any_code,
        ..Command::new("systemd-run")
    };
    run = run.args(["--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"]);
    run = run.arg(format!("--unit={name}"));
    if unit.leaves_processes {
        run = run.arg(property("KillMode=process".into()));
    }
    run = match &unit.limits {
        None => run.arg(property("OOMScoreAdjust=-900".into())),
        Some(limits) => run.args(properties(limits).into_iter().map(property)),
    };
    for (name, value) in &command.env {
        let mut setting = std::ffi::OsString::from("--setenv=");
        setting.push(name);
        setting.push("=");
        setting.push(value);
        run = run.arg(setting);
    }
    if let Some(dir) = &command.dir {
        run = run.arg(format!("--working-directory={}", dir.display()));
    }
    run.arg("--").arg(&command.program).args(&command.args)
}

fn properties(limits: &Limits) -> Vec<String> {
    let mut all: Vec<String> = [
        "DynamicUser=yes",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "PrivateNetwork=yes",
        "PrivateIPC=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "ProtectProc=invisible",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        // What the node keeps: keys, kubeconfigs, the state partition.
        "InaccessiblePaths=-/state -/var/lib/kubernetes -/var/lib/sheaf -/etc/kubernetes",
        "RestrictAddressFamilies=none",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM",
        "MemorySwapMax=0",
        "OOMScoreAdjust=500",
        "DevicePolicy=closed",
    ]
    .map(str::to_owned)
    .into();
    if !limits.groups.is_empty() {
        all.push(format!("SupplementaryGroups={}", limits.groups.join(" ")));
    }
    all.extend(limits.devices.iter().map(|(path, access)| {
        let letters = match access {
            Access::Read => "r",
            Access::ReadWrite => "rw",
        };
        format!("DeviceAllow={} {letters}", path.display())
    }));
    all.push(format!("MemoryMax={}", limits.memory_max));
    all.push(format!("RuntimeMaxSec={}", limits.runtime_max.as_secs()));
    all.push(format!("TasksMax={}", limits.tasks_max));
    // One assignment each: `~` takes away only at the beginning of one.
    all.extend(limits.system_calls.iter().map(|set| format!("SystemCallFilter={set}")));
    all
}

/// The error as if `command` had been run itself; what systemd-run says where it cannot be started stays.
fn named(error: RunError, command: &Command) -> RunError {
    let command = Box::new(command.clone());
    match error {
        RunError::Failed { ended, code, tail, .. } => RunError::Failed { command, ended, code, tail },
        RunError::Late { after, tail, .. } => RunError::Late { command, after, tail },
        RunError::Output { source, .. } => RunError::Output { command, source },
        start @ RunError::Start { .. } => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeRun;

    #[test]
    fn a_program_is_run_outside_the_callers_unit_with_its_environment_and_its_output_comes_back() {
        let run = Arc::new(FakeRun::default().prints("systemd-run", "done"));
        let unit = TransientUnit { name: "sheaf-lvm".into(), ..TransientUnit::default() };
        let command = Command::new("lvm").args(["lvremove", "--yes", "a/b"]).env("LC_ALL", "C");
        let output = SystemdRun(run.clone()).run_in(&unit, &command).unwrap();
        assert_eq!(output.text(), "done");
        let asked = run.asked().remove(0);
        let (settings, program) = asked.split_once(" -- ").unwrap();
        assert_eq!(program, "lvm lvremove --yes a/b");
        let name = format!("--unit=sheaf-lvm-{}-", std::process::id());
        assert!(settings.contains(&name), "{settings}");
        assert!(settings.contains("--wait --pipe") && settings.contains("--setenv=LC_ALL=C"), "{settings}");
        assert!(!settings.contains("KillMode"), "{settings}");
    }

    #[test]
    fn what_a_program_leaves_behind_goes_on_when_it_is_meant_to() {
        let unit = TransientUnit { leaves_processes: true, ..TransientUnit::default() };
        let text = wrapped("u", &unit, &Command::new("lvm").arg("pvmove")).to_string();
        assert!(text.contains("--property=KillMode=process"), "{text}");
    }

    #[test]
    fn a_confined_program_has_its_devices_its_memory_its_time_and_nothing_else() {
        let limits = Limits {
            groups: vec!["disk".into()],
            devices: vec![("/dev/a".into(), Access::Read), ("/dev/b".into(), Access::ReadWrite)],
            memory_max: 512 << 20,
            runtime_max: Duration::from_secs(3600),
            tasks_max: 16,
            system_calls: vec!["@system-service".into(), "~@privileged".into()],
        };
        let unit = TransientUnit { name: "u".into(), limits: Some(limits), ..TransientUnit::default() };
        let wrapped = wrapped("u", &unit, &Command::new("qemu-img"));
        let has = |property: &str| {
            let property = format!("--property={property}");
            assert!(wrapped.args.iter().any(|arg| *arg == *property), "{property} is not in {wrapped}");
        };
        for property in [
            "DynamicUser=yes",
            "CapabilityBoundingSet=",
            "PrivateNetwork=yes",
            "DevicePolicy=closed",
            "DeviceAllow=/dev/a r",
            "DeviceAllow=/dev/b rw",
            "MemoryMax=536870912",
            "RuntimeMaxSec=3600",
            "TasksMax=16",
            "SupplementaryGroups=disk",
            "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged",
        ] {
            has(property);
        }
    }

    #[test]
    fn a_failure_names_the_program_and_not_what_started_it() {
        let run = FakeRun::default().fails("systemd-run", "no space left");
        let command = Command::new("lvm").arg("lvcreate");
        let error = SystemdRun(Arc::new(run)).run_in(&TransientUnit::default(), &command).unwrap_err();
        assert_eq!(error.to_string(), "lvm lvcreate: exit status: 1; its output:\nno space left");
    }
}
