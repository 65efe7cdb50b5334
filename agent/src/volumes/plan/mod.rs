//! Decides what to do next for every volume of this node, and what is to be reported of it.
//!
//! Why here: the rules by which volumes come and go, in one pure function. Route in: [`Observed`]. Route out: at most
//! one [`Action`] a volume, where each [`VolumeState`]s, and when to look again.
//!
//! A complete volume is removed only because its own object is being deleted; one that has no object is shown and left
//! alone. An incomplete one that this agent did not begin itself is removed. A volume that was
//! Ready once and is gone is not made again: an empty disk under the old name would hide the loss.

mod making;
mod state;
#[cfg(test)]
mod tests;

pub use state::{VolumeState, status_of};

use super::fill::{SCRATCH, scratch_bytes};
use super::observed::{Group, ThinPool, Volume};
use super::{INCOMPLETE, SNAPSHOT, TAG};
use making::make;
use sheaf_api::storage::LocalVolume;
use sheaf_api::storage::local_volume::{
    FINALIZER, ImageSource, Progress, VolumeKind, VolumePhase, VolumeReason, volume_group,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many volumes are filled at a time, of as many namespaces: they share one uplink, one disk, and the memory that
/// unpacking takes.
const FILLS: usize = 2;

/// One look at everything.
pub struct Observed<'a> {
    /// Objects of this node by name, as a completed list or later.
    pub objects: &'a BTreeMap<String, Arc<LocalVolume>>,
    /// Groups by their own names, as LVM reports them.
    pub groups: &'a BTreeMap<String, Group>,
    /// What was seen and done before.
    pub memory: &'a Memory,
    /// Volumes for which somebody waits to send an image, with its size where that is known.
    pub offered: &'a BTreeMap<String, Option<u64>>,
    /// Whether images may be fetched now: the ImportPolicy is known; if not, why.
    pub imports: Result<(), &'a str>,
    /// Now, in seconds since 1970.
    pub now: i64,
    /// This agent has run long enough for its pools to be brought up: one that is not there is missing.
    pub settled: bool,
}

/// What was seen and done before; after its loss incomplete volumes are begun again, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Incomplete volumes that this agent began itself.
    pub begun: BTreeSet<String>,
    /// Volumes with an action under way.
    pub busy: BTreeSet<String>,
    /// Volumes that are being filled, with how much is here.
    pub filling: BTreeMap<String, Progress>,
    /// Bytes that an image needs beside its volume while it is converted; known once its first bytes were here.
    pub scratch: BTreeMap<String, u64>,
    /// Volumes whose source is in them and on the disk.
    pub filled: BTreeSet<String>,
    /// What failed last.
    pub failed: BTreeMap<String, Failure>,
    /// The finalizer is left alone until then: what was written has not come back in the list yet.
    pub held: BTreeMap<String, i64>,
}

impl Memory {
    /// Forgets why servers were not allowed: the policy is another one now.
    pub fn forget_forbidden(&mut self) {
        self.failed.retain(|_, failure| failure.reason != VolumeReason::SourceForbidden);
    }

    /// Forgets volumes that `known` does not know.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.begun.retain(|name| known(name));
        self.scratch.retain(|name, _| known(name));
        self.filled.retain(|name| known(name));
        self.failed.retain(|name, _| known(name));
        self.held.retain(|name, _| known(name));
    }
}

/// An action that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: VolumeReason,
    /// The same as a sentence.
    pub message: String,
    /// How often in a row.
    pub times: u32,
    /// Not tried again before; never, while the object stays as it is, without it.
    pub until: Option<i64>,
    /// The object's generation then.
    pub generation: Option<i64>,
    /// The image that was meant then; for an upload it is no part of the generation.
    pub image: Option<ImageSource>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the object.
    AddFinalizer,
    /// Take it off: nothing of the volume is here.
    RemoveFinalizer,
    /// Make an empty volume.
    Create {
        /// Its size.
        bytes: u64,
        /// Something is to come into it before it is complete.
        incomplete: bool,
    },
    /// Make it from what another holds now.
    Copy {
        /// The other.
        origin: String,
        /// It is a volume, and not a snapshot.
        writable: bool,
    },
    /// Bring its source in.
    Fill {
        /// The image.
        source: ImageSource,
        /// Bytes that are booked for a second volume from which the image is converted, once it is known to need one.
        scratch: Option<u64>,
    },
    /// Take in what somebody waits to send, and let it be complete.
    Receive {
        /// The same; booked from the start, since it is sent only once.
        scratch: u64,
    },
    /// Stop filling it: nobody wants it any more.
    StopFilling,
    /// It is complete: say so on the disk.
    Finish,
    /// Make it larger.
    Grow {
        /// Its new size.
        bytes: u64,
    },
    /// Remove it.
    Remove,
}

/// What to do, where, and what is to be said.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// By volume: its group and the step.
    pub actions: Vec<(String, String, Action)>,
    /// The state of each volume that has an object.
    pub states: BTreeMap<String, VolumeState>,
    /// Look again then at the latest, in seconds since 1970.
    pub wake: Option<i64>,
}

/// The next steps.
pub fn plan(o: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut room: BTreeMap<&str, Room> =
        o.groups.iter().map(|(name, group)| (name.as_str(), Room::of(group, o.memory))).collect();
    let mut objects: Vec<_> = o.objects.iter().collect();
    // The first to ask is the first to be given space.
    objects.sort_by_key(|(name, object)| {
        (object.metadata.creation_timestamp.clone().map(|time| time.0), (*name).clone())
    });
    for (name, object) in objects {
        let group = volume_group(&object.spec.pool);
        let mut fresh = Room::default();
        let one = One { o, name, object, group: o.groups.get(&group) };
        let (stand, action) = one.next(room.get_mut(group.as_str()).unwrap_or(&mut fresh), &mut plan);
        let held = o.memory.held.get(name).copied().filter(|until| *until > o.now);
        let held = held.filter(|_| matches!(action, Some(Action::AddFinalizer | Action::RemoveFinalizer)));
        match (action, held) {
            (Some(action), None) if action == Action::StopFilling || !o.memory.busy.contains(name) => {
                plan.actions.push((name.clone(), group, action));
            }
            (Some(_), Some(until)) => plan.wake_at(until),
            _ => {}
        }
        plan.states.insert(name.clone(), stand);
    }
    for (group_name, group) in o.groups {
        for (name, volume) in &group.volumes {
            let is_stray = !o.objects.contains_key(name) && volume.has(TAG) && volume.has(INCOMPLETE);
            // An image on its way into a volume lies beside it.
            let of = name.strip_suffix(SCRATCH).unwrap_or(name);
            if is_stray && !o.memory.busy.contains(name) && !o.memory.filling.contains_key(of) {
                plan.actions.push((name.clone(), group_name.clone(), Action::Remove));
            }
        }
    }
    plan
}

impl Action {
    /// Bytes come, for a while.
    pub fn fills(&self) -> bool {
        matches!(self, Self::Fill { .. } | Self::Receive { .. })
    }
}

impl Plan {
    fn wake_at(&mut self, time: i64) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// Space of a group that is not promised yet.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    pool: Option<ThinPool>,
    promised: u64,
}

impl Room {
    fn of(group: &Group, memory: &Memory) -> Self {
        let volumes = group.volumes.values().filter(|volume| volume.has(TAG) && !volume.has(SNAPSHOT));
        // Booked by a fill that has not made its second volume yet.
        let booked = memory.scratch.iter().filter(|(name, _)| {
            memory.filling.contains_key(*name)
                && group.volumes.contains_key(*name)
                && !group.volumes.contains_key(&format!("{name}{SCRATCH}"))
        });
        let bytes = volumes.map(|volume| volume.bytes).chain(booked.map(|(_, bytes)| *bytes));
        Self { pool: group.pool, promised: bytes.fold(0, u64::saturating_add) }
    }

    /// Promises `bytes` more, or says why not.
    fn take(&mut self, bytes: u64) -> Result<(), String> {
        let pool = self.pool.unwrap_or_default();
        let sum = self.promised.saturating_add(bytes);
        if sum > pool.bytes {
            return Err(format!(
                "the pool holds {} bytes, {} of them are promised to volumes, {bytes} more are asked for",
                pool.bytes, self.promised
            ));
        }
        self.has_metadata()?;
        self.promised = sum;
        Ok(())
    }

    /// Whether the pool can note down another volume.
    fn has_metadata(&self) -> Result<(), String> {
        let pool = self.pool.unwrap_or_default();
        if pool.data_percent >= 100.0 || pool.metadata_percent >= 95.0 {
            return Err(format!(
                "the pool is full: data {:.1} %, metadata {:.1} %",
                pool.data_percent, pool.metadata_percent
            ));
        }
        Ok(())
    }
}

/// One volume that has an object.
struct One<'a> {
    o: &'a Observed<'a>,
    name: &'a str,
    object: &'a LocalVolume,
    group: Option<&'a Group>,
}

type Next = (VolumeState, Option<Action>);

fn wait(reason: VolumeReason, message: impl Into<String>) -> Next {
    (VolumeState::Waiting(reason, message.into()), None)
}

fn fail(reason: VolumeReason, message: impl Into<String>) -> Next {
    (VolumeState::Failed(reason, message.into()), None)
}

impl<'a> One<'a> {
    fn volume(&self) -> Option<&'a Volume> {
        self.group?.volumes.get(self.name)
    }

    /// It was complete once.
    fn was_ready(&self) -> bool {
        self.object.status.as_ref().is_some_and(|status| status.size_bytes.is_some())
    }

    /// The image that is to be fetched into it.
    fn image(&self) -> Option<ImageSource> {
        self.object.image()?.ok()
    }

    fn next(&self, room: &mut Room, plan: &mut Plan) -> Next {
        if self.object.metadata.deletion_timestamp.is_some() {
            return self.leave();
        }
        let volume = self.volume();
        if !self.object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
            return (VolumeState::Making, Some(Action::AddFinalizer));
        }
        let Some(group) = self.group.filter(|group| group.pool.is_some()) else {
            if !self.o.settled {
                return (VolumeState::Unknown, None);
            }
            return wait(
                VolumeReason::PoolNotFound,
                format!("this node has no pool {}, or a device of it is missing", self.object.spec.pool),
            );
        };
        match volume {
            None => make(self, group, room, plan),
            Some(volume) if !volume.has(TAG) => fail(
                VolumeReason::NameTaken,
                format!(
                    "logical volume {} is there and was not made by Sheaf; rename or remove it",
                    self.name
                ),
            ),
            Some(volume) if volume.has(INCOMPLETE) => self.complete(volume, room, plan),
            Some(volume) => self.keep(volume, room),
        }
    }

    /// Its object is being deleted.
    fn leave(&self) -> Next {
        let memory = &self.o.memory;
        let leaving = VolumeState::Deleting(VolumeReason::InUse, String::new());
        if memory.filling.contains_key(self.name) {
            return (leaving, Some(Action::StopFilling));
        }
        match self.volume() {
            Some(volume) if volume.has(TAG) && volume.open && !volume.has(INCOMPLETE) => {
                let why = "its device is still open; it is removed once that is closed";
                (VolumeState::Deleting(VolumeReason::InUse, why.into()), None)
            }
            Some(volume) if volume.has(TAG) => match self.failure() {
                Some(failure) if failure.until.is_some_and(|until| until > self.o.now) => {
                    (VolumeState::Deleting(failure.reason, failure.message.clone()), None)
                }
                _ => (leaving, Some(Action::Remove)),
            },
            // It may lie on a device that is away, and would come back with it.
            None if self.was_ready() && self.group.is_none_or(|group| group.pool.is_none()) => {
                let why = "its pool is not there, so it cannot be removed; attach the pool's devices again, or remove \
                           the finalizer";
                (VolumeState::Deleting(VolumeReason::PoolNotFound, why.into()), None)
            }
            _ => (leaving, Some(Action::RemoveFinalizer)),
        }
    }

    /// What failed last, while it still counts.
    fn failure(&self) -> Option<&'a Failure> {
        let failure = self.o.memory.failed.get(self.name)?;
        let same = failure.generation == self.object.metadata.generation;
        let meant = self.object.spec.source.upload.is_none() || failure.image == self.image();
        (same && meant).then_some(failure)
    }

    /// It is there, incomplete.
    fn complete(&self, volume: &Volume, room: &mut Room, plan: &mut Plan) -> Next {
        let (memory, spec) = (&self.o.memory, &self.object.spec);
        if let Some(progress) = memory.filling.get(self.name) {
            return (VolumeState::Filling(*progress), None);
        }
        if !memory.begun.contains(self.name) {
            // A power cut or a crash left it, or its filling failed.
            let failed = self.failure().map(VolumeState::of);
            // An agent that was started again knows of a failure from the object alone, and must not unsay it.
            let failed_before =
                || self.has_failed_before().map(|(reason, message)| VolumeState::Failed(reason, message));
            let stand = failed.or_else(failed_before).unwrap_or(VolumeState::Making);
            return (stand, Some(Action::Remove));
        }
        if let Some(failure) = self.failure()
            && failure.until.is_none_or(|until| until > self.o.now)
        {
            return (VolumeState::of(failure), None);
        }
        if spec.kind == VolumeKind::Volume && volume.bytes < spec.size_bytes {
            return (VolumeState::Making, Some(Action::Grow { bytes: spec.size_bytes }));
        }
        if memory.filled.contains(self.name) {
            return (VolumeState::Making, Some(Action::Finish));
        }
        let scratch = format!("{}{SCRATCH}", self.name);
        if self.group.is_some_and(|group| group.volumes.contains_key(&scratch)) {
            // An earlier try left it; the plan removes it first, as any volume that no object is there for.
            return (VolumeState::Making, None);
        }
        if let Some(bytes) = self.o.offered.get(self.name)
            && spec.source.upload.is_some()
        {
            let scratch = scratch_bytes(spec.size_bytes, *bytes);
            return match room.take(scratch) {
                Ok(()) => (self.awaiting_upload(), Some(Action::Receive { scratch })),
                Err(why) => wait(VolumeReason::OutOfSpace, why),
            };
        }
        match self.object.image() {
            Some(Ok(source)) => {
                if let Err(why) = self.o.imports {
                    return wait(VolumeReason::SourceForbidden, why);
                }
                let filling = VolumeState::Filling(Progress::default());
                if !self.has_slot(plan) {
                    return (filling, None);
                }
                let scratch = memory.scratch.get(self.name).copied();
                match scratch.map_or(Ok(()), |bytes| room.take(bytes)) {
                    Ok(()) => (filling, Some(Action::Fill { source, scratch })),
                    Err(why) => wait(
                        VolumeReason::OutOfSpace,
                        format!(
                            "the image is converted from a second volume, and there is no room for it: {why}"
                        ),
                    ),
                }
            }
            Some(Err(why)) => wait(VolumeReason::BadImage, why),
            None if spec.source.upload.is_some() => (self.awaiting_upload(), None),
            None => (VolumeState::Making, Some(Action::Finish)),
        }
    }

    fn awaiting_upload(&self) -> VolumeState {
        VolumeState::AwaitingUpload { refused: self.failure().map(|failure| failure.message.clone()) }
    }

    /// Whether another volume may be filled now: there is a slot, and no other volume of its namespace has one.
    fn has_slot(&self, plan: &Plan) -> bool {
        let planned = plan.actions.iter().filter(|(_, _, action)| action.fills()).map(|(name, ..)| name);
        let busy: Vec<_> = self.o.memory.filling.keys().chain(planned).collect();
        let namespace = |object: &LocalVolume| object.claim().split('/').next().map(str::to_owned);
        let own = namespace(self.object);
        let is_own =
            |name: &&String| self.o.objects.get(*name).map(|object| namespace(object)) == Some(own.clone());
        busy.len() < FILLS && !busy.iter().any(is_own)
    }

    /// It is there and complete.
    fn keep(&self, volume: &Volume, room: &mut Room) -> Next {
        let spec = &self.object.spec;
        let good = |short| VolumeState::Ready { bytes: volume.bytes, short };
        if spec.kind == VolumeKind::Snapshot {
            return (good(None), None);
        }
        let retry = self.failure().filter(|failure| failure.until.is_none_or(|until| until > self.o.now));
        let missing = spec.size_bytes.saturating_sub(volume.bytes);
        if missing > 0 {
            return match (room.take(missing), retry) {
                (Err(why), _) => (good(Some((VolumeReason::OutOfSpace, why))), None),
                (Ok(()), Some(failure)) => (good(Some((failure.reason, failure.message.clone()))), None),
                (Ok(()), None) => {
                    let growing = Some((VolumeReason::Creating, "it is being made larger".into()));
                    (good(growing), Some(Action::Grow { bytes: spec.size_bytes }))
                }
            };
        }
        if !volume.active {
            if !self.o.settled {
                return (VolumeState::Unknown, None);
            }
            return wait(VolumeReason::PoolNotFound, "it has no device yet: its pool is being brought up");
        }
        (good(None), None)
    }

    /// The object says that it failed for good, and nothing about it has changed since.
    fn has_failed_before(&self) -> Option<(VolumeReason, String)> {
        use VolumeReason::{BadImage, ChecksumMismatch, ImageTooLarge};
        let status = self.object.status.as_ref()?;
        // What an operator notes for an upload is no part of the generation: it is tried again.
        let same = status.observed_generation == self.object.metadata.generation
            && self.object.spec.source.upload.is_none();
        let (reason, message) = self.object.why()?;
        let is_final = matches!(reason, BadImage | ChecksumMismatch | ImageTooLarge);
        (same && is_final && status.phase == Some(VolumePhase::Failed)).then(|| (reason, message.to_owned()))
    }
}
