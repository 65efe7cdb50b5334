//! One arm per step: what the plan ordered, done by LVM.
//!
//! Why here: no decision is taken here. Route in: [`Step`]. Route out: [`Lvm`].

use super::plan::Step;
use crate::human;
use sheaf_host::lvm::{DEVICE_TAG, Lvm, LvmError, NODE_TAG};

/// Does `step` to the group `group` of the node `node`.
pub fn apply(lvm: &dyn Lvm, group: &str, node: &str, step: &Step) -> Result<(), LvmError> {
    let tag = |id: &str| format!("{DEVICE_TAG}{id}");
    match step {
        Step::CreateGroup { device, id } => {
            lvm.create_group(group, device, &[&format!("{NODE_TAG}{node}")], &[&tag(id)])
        }
        Step::Add { device, id } => lvm.add_member(group, device, &[&tag(id)]),
        Step::Tag { device, id } => lvm.tag_member(group, device, &[&tag(id)]),
        Step::Restore { device } => lvm.restore_member(group, device),
        Step::CreateThin(size) => lvm.create_thin_pool(group, *size),
        Step::Activate => lvm.activate(group),
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

/// Whether the kernel uses members as they were before, after `step` that was done or not.
pub fn is_stale_after(step: &Step, was: bool, done: bool) -> bool {
    match step {
        Step::Restore { .. } if done => true,
        Step::Reactivate if done => false,
        _ => was,
    }
}

/// `step` in words.
pub fn say(step: &Step) -> String {
    match step {
        Step::CreateGroup { device, .. } => format!("makes the pool on {}", device.display()),
        Step::Add { device, .. } => format!("adds {}", device.display()),
        Step::Tag { device, id } => format!("marks {} as {id}", device.display()),
        Step::Restore { device } => format!("takes {} back", device.display()),
        Step::CreateThin(size) => {
            format!(
                "makes the thin pool, {} and {} of metadata",
                human::binary(size.data),
                human::binary(size.metadata)
            )
        }
        Step::Activate => "switches its volumes on".into(),
        Step::Reactivate => "switches its volumes off and on".into(),
        Step::ResumeMoves => "goes on moving data".into(),
        Step::Close { device } => format!("puts no more data on {}", device.display()),
        Step::Open { device } => format!("puts data on {} again", device.display()),
        Step::Evacuate { device } => format!("moves the data off {}", device.display()),
        Step::Remove { device } => format!("takes {} out", device.display()),
        Step::ForgetMissing => "forgets missing devices that held nothing".into(),
        Step::GrowMetadata(bytes) => format!("grows its metadata to {}", human::binary(*bytes)),
        Step::GrowData(bytes) => format!("grows to {}", human::binary(*bytes)),
    }
}
