//! What [`Lvm`] promises, claim by claim: run on [`crate::fakes::FakeLvm`] by a test of this crate, and on [`super::Lvm2`]
//! in a machine by the program `lvm-contract` of the tests (this needs the device mapper and two empty disks).
//!
//! Why here: what rooms above are tested with is only worth as much as it is like the real one. Route in: an [`Lvm`] and
//! its disks. Route out: the claims that hold, or the first that does not.

use super::{Group, INCOMPLETE_TAG, Lvm, LvmError, THIN_POOL, ThinSize, VOLUME_TAG, Volume};
use std::path::{Path, PathBuf};

/// Name of the group that is made and left empty of volumes.
pub const GROUP: &str = "sheaf-contract";

const MIB: u64 = 1 << 20;
/// An extent of our groups.
const EXTENT: u64 = 4 * MIB;

/// Where the claims are tried.
pub struct Site<'a> {
    /// What promises them.
    pub lvm: &'a dyn Lvm,
    /// Two disks of at least 1 GiB without signatures. Everything on them is lost.
    pub disks: [PathBuf; 2],
    /// Opens the device of a volume, or closes it again.
    pub hold: &'a dyn Fn(&str, bool),
}

/// A claim that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// What was reported contradicts it.
    #[error("{claim}: it does not hold; {found}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What was found instead.
        found: String,
    },
    /// A call that must work failed.
    #[error("after \"{after}\"")]
    Call {
        /// The last claim that held.
        after: &'static str,
        /// Why it failed.
        source: LvmError,
    },
}

struct Claims(Vec<&'static str>);

impl Claims {
    fn holds(&mut self, claim: &'static str, holds: bool, found: impl std::fmt::Debug) -> Result<(), Broken> {
        if !holds {
            return Err(Broken::Claim { claim, found: format!("{found:?}") });
        }
        self.0.push(claim);
        Ok(())
    }

    fn call<T>(&self, done: Result<T, LvmError>) -> Result<T, Broken> {
        let after = self.0.last().copied().unwrap_or("the beginning");
        done.map_err(|source| Broken::Call { after, source })
    }
}

impl Site<'_> {
    /// Tries every claim; those that hold, in order.
    pub fn check(&self) -> Result<Vec<&'static str>, Broken> {
        let mut claims = Claims(Vec::new());
        self.groups(&mut claims)?;
        self.volumes(&mut claims)?;
        self.members(&mut claims)?;
        self.activation(&mut claims)?;
        Ok(claims.0)
    }

    fn group(&self, claims: &Claims) -> Result<Group, Broken> {
        let found = claims.call(self.lvm.groups())?.groups.into_iter().find(|group| group.name == GROUP);
        found.ok_or_else(|| Broken::Claim { claim: "the group is reported", found: "no such group".into() })
    }

    fn volume(&self, claims: &Claims, name: &str) -> Result<Option<Volume>, Broken> {
        let volumes = claims.call(self.lvm.volumes(GROUP))?;
        Ok(volumes.into_iter().find(|volume| volume.name == name))
    }

    fn groups(&self, claims: &mut Claims) -> Result<(), Broken> {
        let (lvm, first) = (self.lvm, self.disks[0].as_path());
        let early = lvm.create_volume(GROUP, "pvc-1", MIB, &[]);
        let is_unknown = matches!(early, Err(LvmError::Unknown(_)));
        claims.holds("nothing is changed in a group that is not confined", is_unknown, &early)?;
        claims.call(lvm.create_group(GROUP, first, &["sheaf.node=n1"], &["sheaf.device=a"]))?;
        let group = self.group(claims)?;
        claims.holds("a group has its tags", group.tags == ["sheaf.node=n1"], &group)?;
        claims.holds("its extents are of 4 MiB", group.extent == EXTENT, &group)?;
        let member = group.members.first().cloned().unwrap_or_default();
        let is_it = member.device.as_deref() == Some(first) && member.tags == ["sheaf.device=a"];
        claims.holds("its member is the disk, with its tag", is_it && group.members.len() == 1, &group)?;
        let is_free = member.free == member.size && group.free == group.size && group.size % EXTENT == 0;
        claims.holds("a new group is free, in whole extents", is_free && group.size > 0, &group)?;
        let confined = lvm.confined(GROUP);
        claims.holds("a new group is confined to its disk", confined == [first], &confined)
    }

    fn volumes(&self, claims: &mut Claims) -> Result<(), Broken> {
        let lvm = self.lvm;
        let size = ThinSize { data: 256 * MIB, metadata: 4 * MIB, chunk: 64 << 10 };
        claims.call(lvm.create_thin_pool(GROUP, size))?;
        let pool = self.volume(claims, THIN_POOL)?.unwrap_or_default();
        let is_pool = pool.kind == "thin-pool" && pool.is_active && pool.size == size.data;
        claims.holds("a thin pool is active and has its size", is_pool, &pool)?;
        claims.holds("it has its metadata", pool.metadata_size == size.metadata, &pool)?;
        claims.holds("it is empty", pool.data_percent == Some(0.0), &pool)?;

        claims.call(lvm.create_volume(GROUP, "pvc-1", 5 * MIB, &[VOLUME_TAG, INCOMPLETE_TAG]))?;
        let volume = self.volume(claims, "pvc-1")?.unwrap_or_default();
        claims.holds("a volume is rounded up to whole extents", volume.size == 2 * EXTENT, &volume)?;
        let has_tags = volume.has_tag(VOLUME_TAG) && volume.has_tag(INCOMPLETE_TAG);
        claims.holds("it has its tags from the first moment on", has_tags, &volume)?;
        claims.holds("it is thin and active", volume.kind == "thin" && volume.is_active, &volume)?;
        let again = lvm.create_volume(GROUP, "pvc-1", MIB, &[]);
        claims.holds("a name is given once", again.is_err(), &again)?;
        claims.call(lvm.retag(GROUP, "pvc-1", &["sheaf.other"], &[INCOMPLETE_TAG]))?;
        let volume = self.volume(claims, "pvc-1")?.unwrap_or_default();
        let tags =
            volume.has_tag("sheaf.other") && volume.has_tag(VOLUME_TAG) && !volume.has_tag(INCOMPLETE_TAG);
        claims.holds("tags are added and removed in one step", tags, &volume)?;

        claims.call(lvm.snapshot(GROUP, "pvc-1", "snap-1", &[VOLUME_TAG]))?;
        let copy = self.volume(claims, "snap-1")?.unwrap_or_default();
        let is_copy = copy.origin.as_deref() == Some("pvc-1") && copy.size == volume.size && copy.is_active;
        claims.holds("a snapshot is active, as large as its origin, and names it", is_copy, &copy)?;
        claims.holds("it has its own tags", copy.tags == [VOLUME_TAG], &copy)?;

        claims.call(lvm.extend_volume(GROUP, "pvc-1", 3 * EXTENT))?;
        let grown = self.volume(claims, "pvc-1")?.unwrap_or_default();
        claims.holds("a volume grows", grown.size == 3 * EXTENT, &grown)?;
        claims.call(lvm.extend_volume(GROUP, "pvc-1", EXTENT))?;
        let same = self.volume(claims, "pvc-1")?.unwrap_or_default();
        claims.holds("it never shrinks", same.size == 3 * EXTENT, &same)?;

        (self.hold)("snap-1", true);
        let open = self.volume(claims, "snap-1")?.unwrap_or_default();
        claims.holds("a device that is open is reported", open.is_open, &open)?;
        let refused = lvm.remove_volume(GROUP, "snap-1");
        claims.holds("a volume that is open is not removed", refused.is_err(), &refused)?;
        (self.hold)("snap-1", false);
        claims.call(lvm.remove_volume(GROUP, "snap-1"))?;
        let gone = self.volume(claims, "snap-1")?;
        claims.holds("a volume that is removed is gone", gone.is_none(), &gone)?;
        let missing = lvm.remove_volume(GROUP, "snap-1");
        claims.holds("what is not there cannot be removed", missing.is_err(), &missing)
    }

    fn members(&self, claims: &mut Claims) -> Result<(), Broken> {
        let (lvm, second) = (self.lvm, self.disks[1].as_path());
        let of = |group: &Group, device: &Path| {
            group.members.iter().find(|member| member.device.as_deref() == Some(device)).cloned()
        };
        let before = self.group(claims)?;
        claims.call(lvm.add_member(GROUP, second, &["sheaf.device=b"]))?;
        let group = self.group(claims)?;
        let member = of(&group, second).unwrap_or_default();
        let joined = member.tags == ["sheaf.device=b"] && group.size == before.size + member.size;
        claims.holds("a member that is added gives its space", joined, &group)?;
        let confined = lvm.confined(GROUP);
        claims.holds("the group is confined to both", confined.len() == 2, &confined)?;
        claims.call(lvm.set_allocatable(GROUP, second, false))?;
        let closed = of(&self.group(claims)?, second).unwrap_or_default();
        claims.holds("a member can be closed for new data", !closed.is_allocatable, &closed)?;
        claims.call(lvm.set_allocatable(GROUP, second, true))?;
        let open = of(&self.group(claims)?, second).unwrap_or_default();
        claims.holds("and opened again", open.is_allocatable, &open)?;
        let full = lvm.remove_member(GROUP, &self.disks[0]);
        claims.holds("a member that holds data is not removed", full.is_err(), &full)?;
        claims.call(lvm.remove_member(GROUP, second))?;
        let group = self.group(claims)?;
        let left = of(&group, second).is_none() && group.size == before.size;
        claims.holds("an empty member is removed with its space", left, &group)?;
        let confined = lvm.confined(GROUP);
        claims.holds("the group is confined to what is left", confined == self.disks[..1], &confined)?;
        claims.call(lvm.grow_data(GROUP, 320 * MIB))?;
        let pool = self.volume(claims, THIN_POOL)?.unwrap_or_default();
        claims.holds("the pool's data grow online", pool.size == 320 * MIB, &pool)?;
        claims.call(lvm.grow_metadata(GROUP, 8 * MIB))?;
        let pool = self.volume(claims, THIN_POOL)?.unwrap_or_default();
        claims.holds("the pool's metadata grow online", pool.metadata_size == 8 * MIB, &pool)?;
        let more = lvm.grow_data(GROUP, 1 << 50);
        claims.holds("a pool does not grow beyond its members", more.is_err(), &more)
    }

    fn activation(&self, claims: &mut Claims) -> Result<(), Broken> {
        let lvm = self.lvm;
        let on = |claims: &Claims| -> Result<Vec<(String, bool)>, Broken> {
            let volumes = claims.call(lvm.volumes(GROUP))?.into_iter();
            let seen = volumes.filter(|volume| volume.kind.starts_with("thin"));
            Ok(seen.map(|volume| (volume.name, volume.is_active)).collect())
        };
        claims.call(lvm.deactivate(GROUP))?;
        let volumes = on(claims)?;
        claims.holds("deactivated volumes have no device", volumes.iter().all(|(_, on)| !on), &volumes)?;
        claims.call(lvm.activate(GROUP))?;
        let volumes = on(claims)?;
        let all = volumes.len() == 2 && volumes.iter().all(|(_, on)| *on);
        claims.holds("activated ones have theirs, the pool's too", all, &volumes)?;
        let devices = lvm.confined(GROUP);
        let (confined, named) = (lvm.volumes(GROUP), lvm.volumes_on(GROUP, &devices));
        let same = matches!((&confined, &named), (Ok(confined), Ok(named)) if confined == named);
        claims.holds(
            "a group is reported alike by its name and by its devices",
            same,
            (&confined, &named),
        )?;
        claims.call(lvm.remove_volume(GROUP, "pvc-1"))?;
        claims.call(lvm.deactivate(GROUP))?;
        lvm.confine(GROUP, &[]);
        let unknown = lvm.volumes(GROUP);
        let is_unknown = matches!(unknown, Err(LvmError::Unknown(_))) && lvm.confined(GROUP).is_empty();
        claims.holds("a group that is confined to nothing is not in use", is_unknown, &unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeLvm;

    #[test]
    fn the_fake_keeps_every_promise_of_lvm() {
        let lvm = FakeLvm::default();
        let disks = [PathBuf::from("/dev/sda"), PathBuf::from("/dev/sdb")];
        disks.iter().for_each(|disk| lvm.plug(&disk.to_string_lossy(), 1 << 30));
        let hold = |name: &str, open: bool| if open { lvm.opens(name) } else { lvm.closes(name) };
        let claims = Site { lvm: &lvm, disks, hold: &hold }.check();
        let claims =
            claims.unwrap_or_else(|broken| panic!("{broken}: {:?}", std::error::Error::source(&broken)));
        assert!(claims.len() > 30, "{claims:#?}");
    }
}
