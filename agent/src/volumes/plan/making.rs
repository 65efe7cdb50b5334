//! How a volume that is not there comes to be.
//!
//! Why here: everything that may stand in its way, in the order in which it is told. Pure. Route in: an object without a
//! logical volume. Route out: the step that makes it, or why there is none.

use super::super::observed::Group;
use super::{Action, INCOMPLETE, Next, One, Plan, Room, TAG, VolumeState, fail, wait};
use sheaf_api::storage::local_volume::{Origin, VolumeKind, VolumeReason};

/// Makes the volume of `one`.
pub(super) fn make(one: &One<'_>, group: &Group, room: &mut Room, plan: &mut Plan) -> Next {
    let spec = &one.object.spec;
    if one.was_ready() {
        let why = "its logical volume is gone from the pool; restore the data into another volume and delete this one";
        return fail(VolumeReason::Lost, why);
    }
    if let Some((reason, message)) = one.has_failed_before() {
        return fail(reason, message);
    }
    if let Some(failure) = one.failure() {
        match failure.until {
            Some(until) if until <= one.o.now => {}
            Some(until) => {
                plan.wake_at(until);
                return (VolumeState::of(failure), None);
            }
            None => return (VolumeState::of(failure), None),
        }
    }
    let source = &spec.source;
    match source.volume.as_ref().or(source.snapshot.as_ref()) {
        Some(origin) => copy(one, group, origin, room),
        None => match room.take(spec.size_bytes) {
            // A blank one is complete with LVM's own commit.
            Ok(()) => {
                let incomplete = source.is_brought_in();
                (VolumeState::Making, Some(Action::Create { bytes: spec.size_bytes, incomplete }))
            }
            Err(why) => wait(VolumeReason::OutOfSpace, why),
        },
    }
}

fn copy(one: &One<'_>, group: &Group, origin: &Origin, room: &mut Room) -> Next {
    let spec = &one.object.spec;
    let known = one.o.objects.get(&origin.name);
    let from = match (group.volumes.get(&origin.name).filter(|volume| volume.has(TAG)), known) {
        (Some(volume), Some(_)) if !volume.has(INCOMPLETE) => volume,
        (_, Some(object)) if object.spec.pool == spec.pool => {
            return wait(VolumeReason::SourceNotReady, format!("{} is not ready yet", origin.name));
        }
        (_, Some(object)) => {
            return fail(
                VolumeReason::SourceNotFound,
                format!(
                    "{} is in pool {}; a copy is made in the pool of its origin",
                    origin.name, object.spec.pool
                ),
            );
        }
        (_, None) => {
            return wait(VolumeReason::SourceNotFound, format!("{} is not on this node", origin.name));
        }
    };
    let writable = spec.kind == VolumeKind::Volume;
    if writable
        && spec.size_bytes < from.bytes
        && known.is_none_or(|known| spec.size_bytes < known.spec.size_bytes)
    {
        return fail(
            VolumeReason::ImageTooLarge,
            format!("{} has {} bytes, more than the {} requested", origin.name, from.bytes, spec.size_bytes),
        );
    }
    let space = if writable { room.take(spec.size_bytes.max(from.bytes)) } else { room.has_metadata() };
    match space {
        Ok(()) => (VolumeState::Making, Some(Action::Copy { origin: origin.name.clone(), writable })),
        Err(why) => wait(VolumeReason::OutOfSpace, why),
    }
}
