//! Reports about VMs that wait or have ended.
//!
//! Why here: reasons and messages in one place, apart from the rules that choose them. Pure. Route in: why. Route
//! out: [`Report`]s.

use super::is_deleted;
use crate::vms::admission::Why;
use crate::vms::record::Started;
use crate::vms::report::{Phase, Report, State};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::{REASON_NODE_REBOOTED, REASON_NODE_SHUTDOWN};
use sheaf_host::libvirt::Stop;

/// It is not started yet, and why.
pub(super) fn waiting(why: &Why) -> Report {
    let state = State::Waiting { reason: why.reason.into(), message: why.message.clone() };
    Report { phase: Phase::Pending, state, ..Report::default() }
}

/// It ended badly.
pub(super) fn failed(why: Why, exit_code: i32, started: Option<&Started>) -> Report {
    Report {
        phase: Phase::Failed,
        state: State::Terminated {
            exit_code,
            reason: why.reason.into(),
            message: why.message,
            started_at: started.map(|started| started.at.clone()),
        },
        uuid: started.map(|started| started.uuid.clone()),
        ..Report::default()
    }
}

/// What happened to the node of a VM that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// Nothing.
    Runs,
    /// It is going down.
    ShuttingDown,
    /// It stopped the VM because its lease was not renewed.
    WithoutLease,
    /// It was started again since.
    Rebooted,
}

/// The final report about a VM that ran. One that was stopped for a shutdown of its node has failed, however well its guest
/// powered off: that was not the guest's own decision, and RerunOnFailure starts it again.
pub(super) fn ended(pod: &Pod, started: Option<&Started>, machine: Machine, stop: Option<Stop>) -> Report {
    const KILLED: i32 = 137; // 128 + SIGKILL, as shells and kubelets say
    let fail = |reason, exit_code, message: &str| {
        failed(Why { reason, message: message.into() }, exit_code, started)
    };
    if machine == Machine::Rebooted {
        return fail(REASON_NODE_REBOOTED, KILLED, "the node was restarted while the VM ran");
    }
    match stop {
        Some(Stop::Shutdown) if machine == Machine::ShuttingDown && !is_deleted(pod) => {
            fail(REASON_NODE_SHUTDOWN, 0, "the guest was asked to power off because its node is going down")
        }
        Some(Stop::Destroyed) if machine == Machine::ShuttingDown && !is_deleted(pod) => fail(
            REASON_NODE_SHUTDOWN,
            KILLED,
            "its node is going down, and the guest did not power off in its time",
        ),
        Some(Stop::Shutdown) => {
            let done = fail("Completed", 0, "the guest powered itself off");
            Report { phase: Phase::Succeeded, ..done }
        }
        Some(Stop::Destroyed) if is_deleted(pod) => {
            fail("Killed", KILLED, "the guest did not power off within its terminationGracePeriodSeconds")
        }
        Some(Stop::Destroyed) if machine == Machine::WithoutLease => fail(
            "NodeLost",
            KILLED,
            "the node could not renew its lease and stopped the VM, which may have been started on another node",
        ),
        Some(Stop::Destroyed) => {
            fail("Destroyed", KILLED, "the VM was destroyed on the node, not through Kubernetes")
        }
        Some(Stop::Crashed) => {
            fail("Crashed", 1, "QEMU ended unexpectedly; see its log in /var/log/libvirt/qemu on the node")
        }
        Some(Stop::Unknown) | None => {
            fail("Lost", 1, "the domain is gone, and neither libvirt nor QEMU's log says why")
        }
    }
}
