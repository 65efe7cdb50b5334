//! A guest whose file systems are held for a copy, and that is always thawed.
//!
//! Why here: a guest that stays frozen hangs (kubevirt/kubevirt#9998). When it is to be thawed at the latest is written down
//! before it is frozen: `frozen` in its folder, seconds after 1970. An agent that was killed meanwhile finds it at its next
//! start. Route in: a VM and a time. Route out: libvirt; the mark, made and removed.

use super::answer::Refusal;
use super::serve::State;
use super::vm::Vm;
use crate::reconcile::blocking;
use crate::vms::guest::Folder;
use crate::vms::record;
use http::StatusCode;
use sheaf_host::file::write_atomically;
use sheaf_host::libvirt::{VmError, VmHost};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two attempts to thaw a guest that does not answer.
const RETRY: Duration = Duration::from_secs(10);
/// Attempts; after that the guest is left to itself, and the log says so.
const ATTEMPTS: u32 = 30;

fn mark(folder: &Folder) -> PathBuf {
    folder.0.join("frozen")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Freezes it, for at most `seconds`. A freeze that fails is thawed: part of it may be done.
pub async fn freeze<V: VmHost>(
    state: &Arc<State<V>>,
    vm: &Vm,
    seconds: u64,
) -> Result<Result<(), VmError>, Refusal> {
    let until = now().saturating_add(seconds);
    let path = mark(&vm.folder);
    let written = blocking(move || Ok(write_atomically(&path, until.to_string().as_bytes(), 0o600)?)).await;
    written.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))?;
    if let Err(error) = state.vms.freeze(&vm.uuid).await {
        if let Err(error) = thaw(state, &vm.folder, &vm.uuid).await {
            tracing::warn!("{}: after a freeze that failed: {error}", vm.name());
        }
        return Ok(Err(error));
    }
    thaw_later(state.clone(), vm.folder.clone(), vm.uuid.clone(), until);
    Ok(Ok(()))
}

/// Thaws it. The mark goes once the guest said that it is done.
pub async fn thaw<V: VmHost>(state: &State<V>, folder: &Folder, uuid: &str) -> Result<(), VmError> {
    let thawed = state.vms.thaw(uuid).await;
    if thawed.is_ok() {
        let path = mark(folder);
        // That it is gone already is no error.
        let _ = blocking(move || Ok(std::fs::remove_file(path)?)).await;
    }
    thawed.map(drop)
}

/// Thaws at `until`, if the mark still says so then.
fn thaw_later<V: VmHost>(state: Arc<State<V>>, folder: Folder, uuid: String, until: u64) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(until.saturating_sub(now()))).await;
        for _ in 0..ATTEMPTS {
            // Thawed meanwhile, frozen again for longer, or gone with its VM.
            if marked(&folder).await != Some(until) {
                return;
            }
            match thaw(&state, &folder, &uuid).await {
                Ok(()) => {
                    return tracing::warn!("domain {uuid} was frozen longer than it may be and is thawed");
                }
                Err(error) => tracing::warn!("domain {uuid} cannot be thawed: {error}; it is tried again"),
            }
            tokio::time::sleep(RETRY).await;
        }
        tracing::error!("domain {uuid} stays frozen: its agent does not answer; reset the VM");
    });
}

async fn marked(folder: &Folder) -> Option<u64> {
    let path = mark(folder);
    let text = blocking(move || Ok(std::fs::read_to_string(path)?)).await.ok()?;
    text.trim().parse().ok()
}

/// Takes up what an agent before this one did not thaw.
pub async fn thaw_what_was_left<V: VmHost>(state: &Arc<State<V>>) {
    let vms = state.vms_dir();
    let read = vms.clone();
    let records = blocking(move || Ok(record::read_all(&read)?)).await.unwrap_or_default();
    for record in records.into_values() {
        let folder = Folder::of(&vms, &record.vmi_uid);
        if let (Some(until), Some(started)) = (marked(&folder).await, record.started) {
            thaw_later(state.clone(), folder, started.uuid, until);
        }
    }
}
