//! What somebody asks of a running VM: pause, resume, reset, reboot, freeze.
//!
//! Why here: libvirt does it at once, and the VM controller reports what came of it as it reports every change of a domain;
//! nothing is remembered but that a guest is frozen ([`super::freeze`]). Route in: a VM and an act. Route out: libvirt.

use super::answer::{self, Answer, Refusal};
use super::freeze;
use super::routes::Act;
use super::serve::State;
use super::vm::Vm;
use http::StatusCode;
use sheaf_host::libvirt::VmHost;
use std::sync::Arc;

/// Does it; returns when libvirt has.
pub async fn apply<V: VmHost>(state: &Arc<State<V>>, vm: &Vm, act: &Act) -> Result<Answer, Refusal> {
    let (vms, uuid) = (&state.vms, vm.uuid.as_str());
    let done = match act {
        Act::Pause => vms.pause(uuid).await,
        Act::Unpause => vms.resume(uuid).await,
        Act::Reset => vms.reset(uuid).await,
        Act::SoftReboot => vms.reboot(uuid).await,
        Act::Freeze { seconds } => freeze::freeze(state, vm, *seconds).await?,
        Act::Unfreeze => freeze::thaw(state, &vm.folder, uuid).await,
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    done.map_err(|error| {
        tracing::warn!("{}: {act:?}: {}", vm.name(), Refusal::failed(&error).1);
        Refusal::failed(&error)
    })?;
    Ok(answer::done())
}

#[cfg(test)]
mod tests;
