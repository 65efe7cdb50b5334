//! One arm per step: what the plan ordered, done by LVM.
//!
//! Why here: no decision is taken here. Route in: [`Step`]. Route out: [`Lvm`]; statuses and Events.

use super::plan::Step;
use crate::human;
use crate::objects::Cluster;
use crate::reconcile::blocking;
use crate::reconcile::events::Event;
use sheaf_api::storage::pool::{StoragePool, StoragePoolStatus};
use sheaf_host::lvm::{DEVICE_TAG, Lvm, LvmError, NODE_TAG};
use std::sync::Arc;

/// Does `step` to the group `group` of the node `node`, off the agent's thread.
pub async fn apply(lvm: &Arc<dyn Lvm>, group: &str, node: &str, step: &Step) -> anyhow::Result<()> {
    let (lvm, group, node, step) = (lvm.clone(), group.to_owned(), node.to_owned(), step.clone());
    blocking(move || Ok(by_lvm(&*lvm, &group, &node, &step)?)).await
}

/// Writes the status, then records what changed; a change whose Event cannot be recorded is in the journal.
pub async fn write_status<C: Cluster<StoragePool, StoragePoolStatus>>(
    cluster: &C,
    object: &StoragePool,
    status: &StoragePoolStatus,
    events: &[Event],
) -> anyhow::Result<()> {
    cluster.write_status(object, status).await?;
    for event in events {
        tracing::info!(pool = object.spec.pool, "{}: {}", event.reason, event.note);
        if let Err(error) = cluster.record(object, event).await {
            tracing::warn!("{error:#}");
        }
    }
    Ok(())
}

/// Does `step`; blocks.
pub fn by_lvm(lvm: &dyn Lvm, group: &str, node: &str, step: &Step) -> Result<(), LvmError> {
    let tag = |id: &str| format!("{DEVICE_TAG}{id}");
    match step {
        Step::Confine { devices } => {
            lvm.confine(group, devices);
            Ok(())
        }
        Step::CreateGroup { device, id } => {
            lvm.create_group(group, device, &[&format!("{NODE_TAG}{node}")], &[&tag(id)])
        }
        Step::Add { device, id } => lvm.add_member(group, device, &[&tag(id)]),
        Step::Tag { device, id } => lvm.tag_member(group, device, &[&tag(id)]),
        Step::Restore { device } => lvm.restore_member(group, device),
        Step::CreateThin(size) => lvm.create_thin_pool(group, *size),
        Step::Activate => lvm.activate(group),
        Step::Deactivate => lvm.deactivate(group),
        Step::Reactivate => lvm.deactivate(group).and_then(|()| lvm.activate(group)),
        Step::ResumeMoves => lvm.resume_moves(group),
        Step::Close { device } => lvm.set_allocatable(group, device, false),
        Step::Open { device } => lvm.set_allocatable(group, device, true),
        Step::Evacuate { device } => lvm.evacuate(group, device),
        Step::Remove { device } => lvm.remove_member(group, device),
        Step::ForgetMissing => lvm.forget_missing(group),
        Step::GrowMetadata(bytes) => lvm.grow_metadata(group, *bytes),
        Step::GrowData(bytes) => lvm.grow_data(group, *bytes),
    }
}

/// `step` in words.
pub fn describe(step: &Step) -> String {
    match step {
        Step::Confine { devices } if devices.is_empty() => "it has no device any more".into(),
        Step::Confine { devices } => {
            let devices: Vec<_> = devices.iter().map(|device| device.display().to_string()).collect();
            format!("uses {}", devices.join(", "))
        }
        Step::CreateGroup { device, .. } => format!("creates the pool on {}", device.display()),
        Step::Add { device, .. } => format!("adds {}", device.display()),
        Step::Tag { device, id } => format!("marks {} as {id}", device.display()),
        Step::Restore { device } => format!("restores {}", device.display()),
        Step::CreateThin(size) => {
            format!(
                "creates the thin pool, {} and {} of metadata",
                human::binary(size.data),
                human::binary(size.metadata)
            )
        }
        Step::Activate => "activates its volumes".into(),
        Step::Reactivate => "deactivates its volumes and activates them".into(),
        Step::Deactivate => "deactivates its volumes".into(),
        Step::ResumeMoves => "resumes moving data".into(),
        Step::Close { device } => format!("stops placing data on {}", device.display()),
        Step::Open { device } => format!("places data on {} again", device.display()),
        Step::Evacuate { device } => format!("moves the data off {}", device.display()),
        Step::Remove { device } => format!("removes {}", device.display()),
        Step::ForgetMissing => "removes missing devices that held no data".into(),
        Step::GrowMetadata(bytes) => format!("grows its metadata to {}", human::binary(*bytes)),
        Step::GrowData(bytes) => format!("grows to {}", human::binary(*bytes)),
    }
}
