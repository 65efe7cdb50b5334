//! What is to be done to one pool, and how its members stand. Pure.
//!
//! Why here: every order given to LVM is decided here. One round gives the steps that are safe together; then it is
//! observed again. A thin pool never shrinks: a member leaves only when the others have room for what it holds, and while
//! one is to leave the pool does not grow into that room. Route in: [`super::wanted`], LVM's report. Route out: [`Plan`].

use super::observe::{Found, devices};
use super::size;
use super::wanted::{self, Wanted};
use crate::human;
use sheaf_api::storage::pool::MemberState;
use sheaf_host::lvm::{DEVICE_TAG, Group, Member, THIN_POOL, ThinSize, Volume};
use std::path::PathBuf;

/// What LVM has of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Its group.
    pub group: Option<Group>,
    /// All volumes of the group.
    pub volumes: Vec<Volume>,
    /// Nobody drives the moves that are under way: the agent has just begun.
    pub is_first: bool,
    /// A member came back, and the kernel still uses what it was before.
    pub is_stale: bool,
    /// It was there, and all its devices are gone.
    pub is_lost: bool,
    /// Devices that LVM's changes are confined to now.
    pub confined: Vec<PathBuf>,
}

/// What is remembered of a pool between two rounds, because LVM does not tell it.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Moves that are under way were not begun by this agent.
    is_first: bool,
    /// A member came back; the kernel still uses what it was before.
    is_stale: bool,
    /// A member was missing.
    is_missing: bool,
    /// Its group was there.
    was_there: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { is_first: true, is_stale: false, is_missing: false, was_there: false }
    }
}

impl Memory {
    /// What LVM has now, with what is remembered; remembers it.
    pub fn observe(&mut self, found: Found) -> Observed {
        let Found { group, volumes, confined } = found;
        // Of a group whose devices are all gone LVM reports nothing.
        let is_lost = group.is_none() && self.was_there;
        self.was_there |= group.is_some();
        let misses_one = |group: &Group| group.members.iter().any(|member| member.device.is_none());
        let is_missing = is_lost || group.as_ref().is_some_and(misses_one);
        // The kernel has the devices of volumes on what the disk was before it was pulled.
        self.is_stale |= self.is_missing && !is_missing;
        self.is_missing = is_missing;
        let is_first = std::mem::replace(&mut self.is_first, false);
        Observed { group, volumes, is_first, is_stale: self.is_stale, is_lost, confined }
    }

    /// `step` was done, or failed.
    pub fn applied(&mut self, step: &Step, done: bool) {
        match step {
            Step::Restore { .. } if done => self.is_stale = true,
            Step::Reactivate if done => self.is_stale = false,
            _ => {}
        }
    }
}

impl Observed {
    /// The thin pool.
    pub fn thin(&self) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == THIN_POOL)
    }

    /// The move that is under way.
    pub fn moving(&self) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.moves_from.is_some())
    }

    /// Space is so short that it is watched closely.
    pub fn is_short(&self) -> bool {
        let over = |percent: Option<f64>, limit: f64| percent.is_some_and(|full| full >= limit);
        self.thin().is_some_and(|thin| over(thin.data_percent, 80.0) || over(thin.metadata_percent, 70.0))
    }

    /// Thin volumes.
    pub fn in_pool(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().filter(|volume| volume.kind == "thin")
    }
}

/// One order to LVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The group is the one on these devices; on none it is not in use here any more.
    Confine { devices: Vec<PathBuf> },
    /// Make the group of its first device.
    CreateGroup { device: PathBuf, id: String },
    /// Add a device.
    Add { device: PathBuf, id: String },
    /// Write down which disk a member is.
    Tag { device: PathBuf, id: String },
    /// Tell the group that a member is back.
    Restore { device: PathBuf },
    /// Make the thin pool.
    CreateThin(ThinSize),
    /// Make devices of all volumes.
    Activate,
    /// Remove them and make them again, of the members that are back.
    Reactivate,
    /// Remove the devices of all volumes; nothing on the disks changes.
    Deactivate,
    /// Go on with a move that nobody drives.
    ResumeMoves,
    /// Give no further data to a device.
    Close { device: PathBuf },
    /// Give data to it again.
    Open { device: PathBuf },
    /// Move its data to the others.
    Evacuate { device: PathBuf },
    /// Take an empty device out.
    Remove { device: PathBuf },
    /// Forget missing members that held nothing.
    ForgetMissing,
    /// Grow the metadata to so many bytes.
    GrowMetadata(u64),
    /// Grow the data to so many bytes.
    GrowData(u64),
}

/// How a member stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Name of its BlockDevice.
    pub name: String,
    /// Where it is.
    pub device: Option<PathBuf>,
    /// Its state.
    pub state: MemberState,
    /// Bytes it gives.
    pub size: u64,
    /// Bytes of it that hold nothing.
    pub free: u64,
    /// While it is emptied: how much is done, in percent.
    pub progress: Option<f64>,
    /// Why it stands so.
    pub message: Option<String>,
}

/// What is to be done now, and what there is to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Orders, one after the other.
    pub steps: Vec<Step>,
    /// Members, wanted and present.
    pub members: Vec<Standing>,
    /// What stands in the way, in sentences.
    pub problems: Vec<String>,
}

/// What is to be done to the pool `wanted` of `node`. `certain`: all lists are complete, a member that none names may go.
pub fn plan(node: &str, wanted: &Wanted, observed: &Observed, certain: bool) -> Plan {
    let mut plan = Plan { problems: wanted.problems.clone(), ..Plan::default() };
    let devices = observed.group.as_ref().map(devices).unwrap_or_default();
    if !same(&devices, &observed.confined) {
        // Everything else is planned on what is reported of these devices.
        plan.steps.push(Step::Confine { devices });
        return Plan { members: members_of(node, wanted, observed, certain), ..plan };
    }
    match &observed.group {
        None => without_group(wanted, observed.is_lost, &mut plan),
        Some(group) => with_group(node, wanted, group, observed, certain, &mut plan),
    }
    plan
}

/// Whether two lists name the same devices; LVM reports them in an order of its own.
pub fn same(some: &[PathBuf], others: &[PathBuf]) -> bool {
    some.len() == others.len() && some.iter().all(|device| others.contains(device))
}

/// How members stand, without a step.
fn members_of(node: &str, wanted: &Wanted, observed: &Observed, certain: bool) -> Vec<Standing> {
    let mut plan = Plan::default();
    match &observed.group {
        None => without_group(wanted, observed.is_lost, &mut plan),
        Some(group) => with_group(node, wanted, group, observed, certain, &mut plan),
    }
    plan.members
}

fn waiting(member: &wanted::Member, message: Option<String>) -> Standing {
    Standing { name: member.name.clone(), device: member.device.clone(), message, ..Standing::default() }
}

fn without_group(wanted: &Wanted, is_lost: bool, plan: &mut Plan) {
    for member in &wanted.members {
        let message = match (&member.device, &member.refusal, &member.failing) {
            (_, Some(refusal), _) => Some(refusal.clone()),
            (None, None, _) => Some("it is not attached".into()),
            (Some(_), None, Some(failing)) => Some(format!("SMART reports a failure: {failing}")),
            (Some(device), None, None) => {
                if plan.steps.is_empty() {
                    plan.steps.push(Step::CreateGroup { device: device.clone(), id: member.id.clone() });
                }
                None
            }
        };
        let state = match is_lost && member.device.is_none() {
            true => MemberState::Missing,
            false => MemberState::default(),
        };
        plan.members.push(Standing { state, ..waiting(member, message) });
    }
}

/// A member of the group with what is wanted of it.
struct Known<'a> {
    member: &'a Member,
    wanted: Option<&'a wanted::Member>,
    id: Option<&'a str>,
}

impl Known<'_> {
    fn used(&self) -> u64 {
        self.member.size.saturating_sub(self.member.free)
    }

    /// Where it is, if it is there.
    fn device(&self) -> Option<&PathBuf> {
        self.member.device.as_ref()
    }
}

fn with_group(
    node: &str,
    wanted: &Wanted,
    group: &Group,
    observed: &Observed,
    certain: bool,
    plan: &mut Plan,
) {
    let tag =
        |member: &Member| member.tags.iter().find_map(|tag| tag.strip_prefix(DEVICE_TAG).map(str::to_owned));
    let tags: Vec<Option<String>> = group.members.iter().map(tag).collect();
    let known: Vec<Known<'_>> = group
        .members
        .iter()
        .zip(&tags)
        .map(|(member, id)| {
            let by_device =
                |wanted: &&wanted::Member| member.device.is_some() && wanted.device == member.device;
            let by_id = |wanted: &&wanted::Member| id.as_deref() == Some(&wanted.id);
            let found = wanted.members.iter().find(by_device).or_else(|| wanted.members.iter().find(by_id));
            Known { member, wanted: found, id: id.as_deref() }
        })
        .collect();
    let is_missing = known.iter().any(|known| known.device().is_none());
    restore(&known, plan);
    let leaving = |known: &Known<'_>| {
        certain && known.wanted.is_none() || known.wanted.is_some_and(|wanted| wanted.failing.is_some())
    };
    let goes: Vec<&Known<'_>> =
        known.iter().filter(|known| known.device().is_some() && leaving(known)).collect();
    let stays: Vec<&Known<'_>> =
        known.iter().filter(|known| known.device().is_some() && !leaving(known)).collect();
    for member in &known {
        plan.members.push(standing(node, member, observed, leaving(member)));
    }
    for member in &wanted.members {
        if known.iter().any(|known| known.wanted.is_some_and(|wanted| wanted.name == member.name)) {
            continue;
        }
        match (&member.refusal, &member.device, &member.failing) {
            (Some(refusal), ..) => plan.members.push(waiting(member, Some(refusal.clone()))),
            (None, None, _) => plan.members.push(waiting(member, Some("it is not attached".into()))),
            (None, Some(_), Some(failing)) => {
                plan.members.push(waiting(member, Some(format!("SMART reports a failure: {failing}"))));
            }
            (None, Some(device), None) => {
                let late = is_missing.then(|| "it joins once the missing device is back".into());
                if !is_missing {
                    plan.steps.push(Step::Add { device: device.clone(), id: member.id.clone() });
                }
                plan.members.push(waiting(member, late));
            }
        }
    }
    if is_missing {
        // LVM changes no group that is not whole.
        let holds_nothing = |known: &&Known<'_>| known.device().is_none() && known.used() == 0;
        let gone: Vec<_> = known.iter().filter(|known| known.device().is_none()).collect();
        if certain && gone.iter().all(|known| holds_nothing(known) && known.wanted.is_none()) {
            plan.steps.push(Step::ForgetMissing);
        }
        return;
    }
    if !plan.steps.is_empty() {
        return; // observe again first
    }
    volumes(group, observed, &stays, plan);
    if plan.steps.is_empty() {
        depart(&goes, &stays, observed, plan);
    }
    if plan.steps.is_empty() && goes.iter().all(|known| known.used() == 0) {
        grow(group, observed, &stays, plan);
    }
}

/// Members that are back, and members of which the group does not know which disk they are.
fn restore(known: &[Known<'_>], plan: &mut Plan) {
    for known in known {
        let Some(device) = known.device() else { continue };
        if known.member.is_missing {
            plan.steps.push(Step::Restore { device: device.clone() });
        }
        if let (None, Some(wanted)) = (known.id, known.wanted) {
            plan.steps.push(Step::Tag { device: device.clone(), id: wanted.id.clone() });
        }
    }
}

/// The thin pool is there and everything has its device.
fn volumes(group: &Group, observed: &Observed, stays: &[&Known<'_>], plan: &mut Plan) {
    if observed.thin().is_none() {
        let bytes = total(stays.iter().map(|known| known.member.size));
        match size::of_group(bytes, group.extent) {
            Some(size) => plan.steps.push(Step::CreateThin(size)),
            None => plan
                .problems
                .push(format!("its devices have {}, too little for any pool", human::binary(bytes))),
        }
        return;
    }
    if observed.is_stale {
        plan.steps.push(Step::Reactivate);
        plan.problems.push(
            "a device that was removed is back; stop the VMs that use the pool, then it is reactivated"
                .into(),
        );
    } else if observed.volumes.iter().any(|v| !v.is_active && (v.kind == "thin" || v.name == THIN_POOL)) {
        plan.steps.push(Step::Activate);
    }
    if observed.is_first && observed.moving().is_some() {
        plan.steps.push(Step::ResumeMoves);
    }
}

/// Devices that are to go: emptied, then taken out; those that fail stay as empty members until the operator takes them.
fn depart(goes: &[&Known<'_>], stays: &[&Known<'_>], observed: &Observed, plan: &mut Plan) {
    for known in stays {
        if let Some(device) = known.device().filter(|_| !known.member.is_allocatable) {
            plan.steps.push(Step::Open { device: device.clone() });
        }
    }
    for known in goes {
        let Some(device) = known.device() else { continue };
        if known.member.is_allocatable && !stays.is_empty() {
            plan.steps.push(Step::Close { device: device.clone() });
        }
        if observed.moving().is_some() {
            continue;
        }
        let room = total(stays.iter().map(|known| known.member.free));
        match known.used() {
            0 if known.wanted.is_none() && !stays.is_empty() => plan.steps.push(Step::Remove { device: device.clone() }),
            0 => {}
            used if used <= room => {
                plan.steps.push(Step::Evacuate { device: device.clone() });
                return; // one after the other
            }
            used => plan.problems.push(format!(
                "{} is to be emptied, and the other devices have {} free of the {} it holds; a pool does not shrink: \
                 add a device of at least {}",
                device.display(),
                human::binary(room),
                human::binary(used),
                human::binary(used - room)
            )),
        }
    }
}

/// The sum of sizes in bytes; what does not fit is as much as fits.
fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// What the members that stay allow beyond what there is.
fn grow(group: &Group, observed: &Observed, stays: &[&Known<'_>], plan: &mut Plan) {
    let (Some(thin), None) = (observed.thin(), observed.moving()) else { return };
    let bytes = total(stays.iter().map(|known| known.member.size));
    let Some(target) = size::of_group(bytes, group.extent) else { return };
    let extent = group.extent.max(1);
    let room = total(stays.iter().map(|known| known.member.free)) / extent * extent;
    let is_short = thin.metadata_percent.is_some_and(|full| full >= size::METADATA_GROWS_AT);
    let half_more = thin.metadata_size.saturating_add(thin.metadata_size / 2);
    let enough = half_more.checked_next_multiple_of(extent).unwrap_or(half_more);
    let metadata = if is_short { target.metadata.max(enough) } else { target.metadata };
    // With its spare.
    let more = metadata.saturating_sub(thin.metadata_size);
    if more > 0 && more <= room / 2 {
        plan.steps.push(Step::GrowMetadata(metadata));
        return;
    }
    if target.data > thin.size && room > 0 {
        plan.steps.push(Step::GrowData(target.data.min(thin.size.saturating_add(room))));
    }
}

fn standing(node: &str, known: &Known<'_>, observed: &Observed, leaves: bool) -> Standing {
    let name = match (known.wanted, known.id) {
        (Some(wanted), _) => wanted.name.clone(),
        (None, Some(id)) => crate::disks::object_name(node, id),
        (None, None) => {
            known.device().map_or(known.member.uuid.clone(), |device| device.display().to_string())
        }
    };
    let failing = known.wanted.and_then(|wanted| wanted.failing.clone());
    let moving = observed.moving().filter(|volume| volume.moves_from.as_ref() == known.device());
    let progress = moving.and_then(|volume| volume.copy_percent);
    let (state, message) = match (known.device(), failing) {
        (None, _) if known.used() == 0 => {
            (MemberState::Missing, Some("it is not attached; it held nothing".into()))
        }
        (None, _) => (
            MemberState::Missing,
            Some(format!("it is not attached, and {} of the pool are on it", human::binary(known.used()))),
        ),
        (Some(_), Some(why)) if known.used() == 0 => {
            (MemberState::Failing, Some(format!("{why}; it is empty and can be pulled")))
        }
        (Some(_), Some(why)) => (MemberState::Failing, Some(why)),
        (Some(_), None) if leaves => (MemberState::Leaving, None),
        (Some(_), None) => (MemberState::Active, None),
    };
    Standing {
        name,
        device: known.device().cloned(),
        state,
        size: known.member.size,
        free: known.member.free,
        progress,
        message,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
