//! LVM in memory.

use crate::lvm::{Group, Groups, Lvm, LvmError, LvmReport, Member, THIN_POOL, ThinSize, Volume};
use crate::run::{Command, RunError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Size of an extent here, as on a node.
const EXTENT: u64 = 4 << 20;

/// Groups and volumes that act as LVM's: rounding, tags, missing members, and refusals on demand.
#[derive(Default)]
pub struct FakeLvm {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes of each disk there is; one that is taken out stays in its group as missing.
    disks: BTreeMap<PathBuf, u64>,
    groups: Vec<Group>,
    orphans: Vec<PathBuf>,
    volumes: BTreeMap<String, Vec<Volume>>,
    confined: BTreeMap<String, Vec<PathBuf>>,
    busy: BTreeSet<String>,
    failing: BTreeSet<&'static str>,
    asked: Vec<String>,
    /// Where devices of volumes lie, as sparse files `<group>/<volume>`; nowhere without it.
    devices: Option<PathBuf>,
    /// So many changes are made, and then none any more.
    power: Option<usize>,
}

impl FakeLvm {
    /// Volumes have sparse files under `devices` for devices.
    #[must_use]
    pub fn with_devices(self, devices: &Path) -> Self {
        self.state().devices = Some(devices.to_owned());
        self
    }

    /// Whether the power that [`Self::cut_power_after`] cuts is cut.
    pub fn is_cut(&self) -> bool {
        self.state().power == Some(0)
    }

    /// After `changes` more nothing is changed any more: the power is cut.
    pub fn cut_power_after(&self, changes: usize) {
        self.state().power = Some(changes);
    }

    /// There is a disk `path` of `bytes`.
    pub fn plug(&self, path: &str, bytes: u64) {
        self.state().disks.insert(path.into(), bytes);
    }

    /// The disk `path` is pulled: its group misses it.
    pub fn pull(&self, path: &str) {
        let mut state = self.state();
        state.disks.remove(Path::new(path));
        for member in state.groups.iter_mut().flat_map(|group| &mut group.members) {
            if member.device.as_deref() == Some(Path::new(path)) {
                member.device = None;
                member.is_missing = true;
            }
        }
    }

    /// The disk that was pulled as `before` is back as `path`; its group still continues without it.
    pub fn plug_again(&self, before: &str, path: &str, bytes: u64) {
        let mut state = self.state();
        state.disks.insert(path.into(), bytes);
        let uuid = format!("pv-{before}");
        for member in state.groups.iter_mut().flat_map(|group| &mut group.members) {
            if member.uuid == uuid {
                member.device = Some(path.into());
            }
        }
    }

    /// The method `name` fails from now on.
    pub fn fails(&self, name: &'static str) {
        self.state().failing.insert(name);
    }

    /// No method fails from now on.
    pub fn recovers(&self) {
        let mut state = self.state();
        state.failing.clear();
        state.power = None;
    }

    /// The device of the volume `name` is open.
    pub fn opens(&self, name: &str) {
        self.state().busy.insert(name.to_owned());
    }

    /// Nobody has it open any more.
    pub fn closes(&self, name: &str) {
        self.state().busy.remove(name);
    }

    /// Puts a group there that somebody else made.
    pub fn foreign_group(&self, group: Group) {
        self.state().groups.push(group);
    }

    /// Changes the volume `name` of `group`, as the kernel would.
    pub fn with_volume(&self, group: &str, name: &str, change: impl FnOnce(&mut Volume)) {
        let mut state = self.state();
        let found =
            state.volumes.entry(group.into()).or_default().iter_mut().find(|volume| volume.name == name);
        change(found.expect("the test names a volume that is there"));
    }

    /// Moves end: the data of the member that is emptied is on the others.
    pub fn finish_moves(&self, group: &str) {
        let mut state = self.state();
        let volumes = state.volumes.entry(group.into()).or_default();
        let from: Vec<PathBuf> = volumes.iter().filter_map(|volume| volume.moves_from.clone()).collect();
        volumes.retain(|volume| volume.moves_from.is_none());
        for from in from {
            move_data(&mut state, group, &from);
        }
    }

    /// The changes that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the change `name`, which may be told to fail.
    fn begin(&self, name: &'static str, words: &str) -> Result<MutexGuard<'_, State>, LvmError> {
        let mut state = self.state();
        state.asked.push(format!("{name} {words}"));
        let is_cut = match &mut state.power {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        };
        if is_cut || state.failing.contains(name) { Err(refusal(name, words)) } else { Ok(state) }
    }
}

fn refusal(name: &str, words: &str) -> LvmError {
    LvmError::Run(RunError::Failed {
        command: Box::new(Command::new("lvm").arg(name).args(words.split(' '))),
        ended: "exit status: 5".into(),
        code: Some(5),
        tail: "refused".into(),
    })
}

impl State {
    /// The file that stands for a volume's device.
    fn device(&self, group: &str, name: &str) -> Option<PathBuf> {
        Some(self.devices.as_ref()?.join(group).join(name))
    }

    /// Makes it as long as the volume, of what `origin` holds.
    fn make_device(&self, group: &str, name: &str, bytes: u64, origin: Option<&str>) {
        let Some(path) = self.device(group, name) else { return };
        let make = || -> std::io::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            if let Some(origin) = origin.and_then(|origin| self.device(group, origin)) {
                std::fs::copy(origin, &path)?;
            }
            std::fs::File::options().write(true).create(true).truncate(false).open(&path)?.set_len(bytes)
        };
        make().expect("the test's directory can be written");
    }

    /// The group that was confined.
    fn group(&mut self, name: &str) -> Result<&mut Group, LvmError> {
        let known = self.confined.contains_key(name);
        let group = self.groups.iter_mut().find(|group| group.name == name && known);
        group.ok_or_else(|| LvmError::Unknown(name.to_owned()))
    }

    fn volume(&mut self, group: &str, name: &str) -> Result<&mut Volume, LvmError> {
        let volumes = self.volumes.entry(group.into()).or_default();
        volumes.iter_mut().find(|volume| volume.name == name).ok_or_else(|| refusal("lvs", name))
    }

    /// Takes `bytes` from the members of `group`, first come, first served.
    fn take(&mut self, group: &str, bytes: u64, name: &'static str) -> Result<(), LvmError> {
        let found = self.group(group)?;
        if found.free < bytes {
            return Err(refusal(name, group));
        }
        let mut left = bytes;
        for member in &mut found.members {
            let part = left.min(member.free);
            member.free -= part;
            left -= part;
        }
        found.free -= bytes;
        Ok(())
    }

    fn join(&mut self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError> {
        let disk =
            self.disks.get(device).copied().ok_or_else(|| refusal("pvcreate", &device.to_string_lossy()))?;
        let bytes = (disk - (1 << 20)) / EXTENT * EXTENT;
        let found = self.group(group)?;
        let member = Member {
            device: Some(device.to_owned()),
            is_missing: false,
            is_allocatable: true,
            uuid: format!("pv-{}", device.display()),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: bytes,
            free: bytes,
        };
        found.members.push(member);
        found.size += bytes;
        found.free += bytes;
        Ok(())
    }
}

fn move_data(state: &mut State, group: &str, from: &Path) {
    let Some(group) = state.groups.iter_mut().find(|found| found.name == group) else { return };
    let mut left = 0;
    for member in &mut group.members {
        if member.device.as_deref() == Some(from) {
            left += member.size - member.free;
            member.free = member.size;
        }
    }
    for member in &mut group.members {
        if member.device.as_deref() != Some(from) {
            let part = left.min(member.free);
            member.free -= part;
            left -= part;
        }
    }
}

fn rounded(bytes: u64) -> u64 {
    bytes.div_ceil(EXTENT) * EXTENT
}

fn owned(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

impl LvmReport for FakeLvm {
    fn groups(&self) -> Result<Groups, LvmError> {
        let state = self.state();
        if state.failing.contains("groups") {
            return Err(refusal("pvs", ""));
        }
        // What a group is stands on its disks: of one that has none there any more LVM knows nothing.
        let is_there = |group: &&Group| group.members.iter().any(|member| member.device.is_some());
        let groups = state.groups.iter().filter(is_there).cloned().collect();
        Ok(Groups { groups, orphans: state.orphans.clone() })
    }

    fn confined(&self, group: &str) -> Vec<PathBuf> {
        self.state().confined.get(group).cloned().unwrap_or_default()
    }

    fn volumes(&self, group: &str) -> Result<Vec<Volume>, LvmError> {
        match self.confined(group) {
            none if none.is_empty() => Err(LvmError::Unknown(group.to_owned())),
            devices => self.volumes_on(group, &devices),
        }
    }

    fn volumes_on(&self, group: &str, devices: &[PathBuf]) -> Result<Vec<Volume>, LvmError> {
        let state = self.state();
        let is_there = |found: &Group| {
            let mut members = found.members.iter().filter_map(|member| member.device.as_ref());
            found.name == group && members.any(|device| devices.contains(device))
        };
        if state.failing.contains("volumes") || !state.groups.iter().any(is_there) {
            return Err(refusal("lvs", group));
        }
        let mut volumes = state.volumes.get(group).cloned().unwrap_or_default();
        for volume in &mut volumes {
            volume.is_open = state.busy.contains(&volume.name);
        }
        Ok(volumes)
    }
}

impl Lvm for FakeLvm {
    fn confine(&self, group: &str, devices: &[PathBuf]) {
        match devices {
            [] => drop(self.state().confined.remove(group)),
            _ => drop(self.state().confined.insert(group.to_owned(), devices.to_vec())),
        }
    }

    fn create_group(
        &self,
        group: &str,
        device: &Path,
        tags: &[&str],
        device_tags: &[&str],
    ) -> Result<(), LvmError> {
        let mut state = self.begin("create_group", &format!("{group} {}", device.display()))?;
        state.confined.insert(group.to_owned(), vec![device.to_owned()]);
        let uuid = format!("vg-{}", state.groups.len());
        state.groups.push(Group {
            name: group.into(),
            uuid,
            tags: owned(tags),
            extent: EXTENT,
            ..Group::default()
        });
        state.join(group, device, device_tags)
    }

    fn add_member(&self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError> {
        let mut state = self.begin("add_member", &format!("{group} {}", device.display()))?;
        state.join(group, device, tags)?;
        state.confined.entry(group.to_owned()).or_default().push(device.to_owned());
        Ok(())
    }

    fn tag_member(&self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError> {
        let mut state =
            self.begin("tag_member", &format!("{group} {} {}", device.display(), tags.join(",")))?;
        let members = &mut state.group(group)?.members;
        let member = members.iter_mut().find(|member| member.device.as_deref() == Some(device));
        member.ok_or_else(|| refusal("pvchange", group))?.tags.extend(owned(tags));
        Ok(())
    }

    fn remove_member(&self, group: &str, device: &Path) -> Result<(), LvmError> {
        let mut state = self.begin("remove_member", &format!("{group} {}", device.display()))?;
        let found = state.group(group)?;
        let place = found.members.iter().position(|member| member.device.as_deref() == Some(device));
        let place = place.ok_or_else(|| refusal("vgreduce", group))?;
        if found.members[place].free != found.members[place].size {
            return Err(refusal("vgreduce", group));
        }
        let member = found.members.remove(place);
        found.size -= member.size;
        found.free -= member.size;
        state.confined.entry(group.to_owned()).or_default().retain(|has| has != device);
        Ok(())
    }

    fn forget_missing(&self, group: &str) -> Result<(), LvmError> {
        let mut state = self.begin("forget_missing", group)?;
        let found = state.group(group)?;
        if found.members.iter().any(|member| member.device.is_none() && member.free != member.size) {
            return Err(refusal("vgreduce", group));
        }
        let gone: u64 = found.members.iter().filter(|member| member.device.is_none()).map(|m| m.size).sum();
        found.members.retain(|member| member.device.is_some());
        found.size -= gone;
        found.free -= gone;
        Ok(())
    }

    fn restore_member(&self, group: &str, device: &Path) -> Result<(), LvmError> {
        let mut state = self.begin("restore_member", &format!("{group} {}", device.display()))?;
        let found = state.group(group)?;
        found
            .members
            .iter_mut()
            .filter(|m| m.device.as_deref() == Some(device))
            .for_each(|m| m.is_missing = false);
        Ok(())
    }

    fn set_allocatable(&self, group: &str, device: &Path, yes: bool) -> Result<(), LvmError> {
        let mut state = self.begin("set_allocatable", &format!("{group} {} {yes}", device.display()))?;
        let members = &mut state.group(group)?.members;
        members
            .iter_mut()
            .filter(|m| m.device.as_deref() == Some(device))
            .for_each(|m| m.is_allocatable = yes);
        Ok(())
    }

    fn evacuate(&self, group: &str, device: &Path) -> Result<(), LvmError> {
        let mut state = self.begin("evacuate", &format!("{group} {}", device.display()))?;
        state.volumes.entry(group.into()).or_default().push(Volume {
            name: "[pvmove0]".into(),
            kind: "mirror".into(),
            is_active: true,
            copy_percent: Some(0.0),
            moves_from: Some(device.to_owned()),
            ..Volume::default()
        });
        Ok(())
    }

    fn resume_moves(&self, group: &str) -> Result<(), LvmError> {
        self.begin("resume_moves", group).map(drop)
    }

    fn abort_moves(&self, group: &str) -> Result<(), LvmError> {
        let mut state = self.begin("abort_moves", group)?;
        state.volumes.entry(group.into()).or_default().retain(|volume| volume.moves_from.is_none());
        Ok(())
    }

    fn create_thin_pool(&self, group: &str, size: ThinSize) -> Result<(), LvmError> {
        let words = format!("{group} {} {} {}", size.data, size.metadata, size.chunk);
        let mut state = self.begin("create_thin_pool", &words)?;
        state.take(group, rounded(size.data) + 2 * rounded(size.metadata), "lvcreate")?;
        state.volumes.entry(group.into()).or_default().push(Volume {
            name: THIN_POOL.into(),
            kind: "thin-pool".into(),
            size: rounded(size.data),
            metadata_size: rounded(size.metadata),
            is_active: true,
            data_percent: Some(0.0),
            metadata_percent: Some(10.0),
            ..Volume::default()
        });
        Ok(())
    }

    fn grow_data(&self, group: &str, bytes: u64) -> Result<(), LvmError> {
        let mut state = self.begin("grow_data", &format!("{group} {bytes}"))?;
        let more = rounded(bytes) - state.volume(group, THIN_POOL)?.size;
        state.take(group, more, "lvextend")?;
        let pool = state.volume(group, THIN_POOL)?;
        pool.data_percent = pool.data_percent.map(|full| full * pool.size as f64 / (pool.size + more) as f64);
        pool.size += more;
        pool.health = None;
        Ok(())
    }

    fn grow_metadata(&self, group: &str, bytes: u64) -> Result<(), LvmError> {
        let mut state = self.begin("grow_metadata", &format!("{group} {bytes}"))?;
        let more = rounded(bytes) - state.volume(group, THIN_POOL)?.metadata_size;
        state.take(group, 2 * more, "lvextend")?;
        let pool = state.volume(group, THIN_POOL)?;
        let before = pool.metadata_size as f64;
        pool.metadata_size += more;
        pool.metadata_percent = pool.metadata_percent.map(|full| full * before / pool.metadata_size as f64);
        Ok(())
    }

    fn activate(&self, group: &str) -> Result<(), LvmError> {
        let mut state = self.begin("activate", group)?;
        state.group(group)?;
        state.volumes.entry(group.into()).or_default().iter_mut().for_each(|volume| volume.is_active = true);
        Ok(())
    }

    fn deactivate(&self, group: &str) -> Result<(), LvmError> {
        let mut state = self.begin("deactivate", group)?;
        state.group(group)?;
        state.volumes.entry(group.into()).or_default().iter_mut().for_each(|volume| volume.is_active = false);
        Ok(())
    }

    fn create_volume(&self, group: &str, name: &str, bytes: u64, tags: &[&str]) -> Result<(), LvmError> {
        let mut state = self.begin("create_volume", &format!("{group} {name} {bytes}"))?;
        state.group(group)?;
        if state.volume(group, name).is_ok() {
            return Err(refusal("lvcreate", name));
        }
        state.volumes.entry(group.into()).or_default().push(Volume {
            name: name.into(),
            kind: "thin".into(),
            size: rounded(bytes),
            tags: owned(tags),
            is_active: true,
            data_percent: Some(0.0),
            ..Volume::default()
        });
        state.make_device(group, name, rounded(bytes), None);
        Ok(())
    }

    fn snapshot(&self, group: &str, origin: &str, name: &str, tags: &[&str]) -> Result<(), LvmError> {
        let mut state = self.begin("snapshot", &format!("{group} {origin} {name}"))?;
        state.group(group)?;
        let mut copy = state.volume(group, origin)?.clone();
        copy.name = name.into();
        copy.tags = owned(tags);
        copy.origin = Some(origin.into());
        state.make_device(group, name, copy.size, Some(origin));
        state.volumes.entry(group.into()).or_default().push(copy);
        Ok(())
    }

    fn extend_volume(&self, group: &str, name: &str, bytes: u64) -> Result<(), LvmError> {
        let mut state = self.begin("extend_volume", &format!("{group} {name} {bytes}"))?;
        state.group(group)?;
        let volume = state.volume(group, name)?;
        volume.size = volume.size.max(rounded(bytes));
        let size = volume.size;
        state.make_device(group, name, size, None);
        Ok(())
    }

    fn remove_volume(&self, group: &str, name: &str) -> Result<(), LvmError> {
        let mut state = self.begin("remove_volume", &format!("{group} {name}"))?;
        state.group(group)?;
        if state.busy.contains(name) {
            return Err(refusal("lvremove", name));
        }
        state.volume(group, name)?;
        state.volumes.entry(group.into()).or_default().retain(|volume| volume.name != name);
        if let Some(device) = state.device(group, name) {
            std::fs::remove_file(device).expect("the device is there");
        }
        Ok(())
    }

    fn retag(&self, group: &str, name: &str, add: &[&str], remove: &[&str]) -> Result<(), LvmError> {
        let mut state =
            self.begin("retag", &format!("{group} {name} +{} -{}", add.join(","), remove.join(",")))?;
        state.group(group)?;
        let tags = &mut state.volume(group, name)?.tags;
        tags.retain(|tag| !remove.contains(&tag.as_str()));
        tags.extend(owned(add));
        Ok(())
    }
}
