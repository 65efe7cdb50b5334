//! What firmware and TPM of a VM keep, copied for a snapshot and put back.
//!
//! Why here: only the node has it, and libvirt knows nothing of copies. A VM is named by namespace and UUID of its domain, for it
//! need not run; the copy by the UID of its snapshot. Each act can be repeated. Route in: a [`StateAct`]. Route out: folders,
//! by [`crate::vms::state_copies`].

use super::answer::{self, Answer, Refusal};
use super::routes::StateAct;
use super::serve::State;
use crate::reconcile::blocking;
use crate::vms::record;
use crate::vms::state_copies::{self, LoadError};
use http::StatusCode;
use sheaf_host::libvirt::VmHost;

/// Does it.
pub async fn apply<V: VmHost>(
    state: &State<V>,
    namespace: &str,
    snapshot: &str,
    act: StateAct,
) -> Result<Answer, Refusal> {
    let folder = state.ctx.paths.data.join("state").join(namespace);
    let (vms, snapshot, owner) = (state.vms_dir(), snapshot.to_owned(), namespace.to_owned());
    let work = move || {
        Ok(match act {
            StateAct::Save { uuid } => {
                state_copies::save(&folder, &uuid, &snapshot).map_err(|error| Refusal::failed(&error))
            }
            StateAct::Drop => {
                state_copies::remove(&folder, &snapshot).map_err(|error| Refusal::failed(&error))
            }
            StateAct::Load { uuid } => {
                // Its record goes after its domain.
                let runs = |one: &record::Record| {
                    one.namespace == owner && one.started.as_ref().is_some_and(|started| started.uuid == uuid)
                };
                if let Some(one) = record::read_all(&vms)?.values().find(|one| runs(one)) {
                    let text = format!("{owner}/{} runs on this node; stop it first", one.vmi);
                    return Ok(Err(Refusal::new(StatusCode::CONFLICT, text)));
                }
                state_copies::load(&folder, &uuid, &snapshot).map_err(|error| match &error {
                    LoadError::NoCopy(_) => Refusal::new(StatusCode::NOT_FOUND, &error),
                    LoadError::Copy(_) => Refusal::failed(&error),
                })
            }
        })
    };
    let done = blocking(work).await;
    done.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))??;
    Ok(answer::done())
}
