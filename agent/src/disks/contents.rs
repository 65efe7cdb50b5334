//! What is on a disk, in the sense that decides whether it may be taken. Pure.
//!
//! Why here: one answer for pools, wipes and people. Route in: the boot disk, LVM's groups, the marks that `wipefs`
//! found. Route out: [`Contents`].

use crate::channels::Contents;
use sheaf_host::block::{Device, Signature};
use sheaf_host::lvm::{Groups, NODE_TAG};
use std::collections::BTreeMap;
use std::path::Path;

/// What LVM's own mark is called.
const LVM: &str = "LVM2_member";
/// What a group of ours is called before the pool's name.
pub const GROUP: &str = "sheaf-";

/// The pool whose group of this node has the device `device`.
pub fn pool_of<'g>(device: &Path, groups: &'g Groups, node: &str) -> Option<&'g str> {
    let has =
        |group: &&sheaf_host::lvm::Group| group.members.iter().any(|m| m.device.as_deref() == Some(device));
    let group = groups.groups.iter().find(has)?;
    is_ours(&group.tags, node).then(|| group.name.strip_prefix(GROUP)).flatten()
}

/// Whether a group with these tags was made by the node `node`.
pub fn is_ours(tags: &[String], node: &str) -> bool {
    tags.iter().any(|tag| tag.strip_prefix(NODE_TAG) == Some(node))
}

/// What is on `disk`, on which `signatures` were found.
pub fn contents(disk: &Device, signatures: &[Signature], groups: &Groups, node: &str) -> Contents {
    if let Some(pool) = pool_of(&disk.path, groups, node) {
        return Contents::Pool(pool.to_owned());
    }
    // A device that LVM prepared and that is in no group holds nothing.
    let is_blank = |mark: &&Signature| mark.kind == LVM && groups.orphans.contains(&mark.device);
    // The two copies of a table, the several marks of one file system: said once.
    let mut found: BTreeMap<String, ()> = BTreeMap::new();
    for mark in signatures.iter().filter(|mark| !is_blank(mark)) {
        let group =
            groups.groups.iter().find(|g| g.members.iter().any(|m| m.device.as_ref() == Some(&mark.device)));
        let of = group.map(|group| {
            let node = group.tags.iter().find_map(|tag| tag.strip_prefix(NODE_TAG));
            format!(
                " of group {}{}",
                group.name,
                node.map_or(String::new(), |node| format!(" of node {node}"))
            )
        });
        found.insert(format!("{}{} on {}", mark.kind, of.unwrap_or_default(), mark.device.display()), ());
    }
    if found.is_empty() {
        Contents::Empty
    } else {
        Contents::Foreign(found.into_keys().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::lvm::{Group, Member};

    fn disk() -> Device {
        Device { path: "/dev/sdb".into(), kind: "disk".into(), ..Device::default() }
    }

    fn mark(device: &str, kind: &str) -> Signature {
        Signature { device: device.into(), offset: 0, kind: kind.into() }
    }

    fn group(name: &str, tags: &[&str]) -> Groups {
        let member = Member { device: Some("/dev/sdb".into()), ..Member::default() };
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Groups {
            groups: vec![Group { name: name.into(), tags, members: vec![member], ..Group::default() }],
            orphans: vec![],
        }
    }

    #[test]
    fn a_disk_without_marks_or_with_lvms_mark_and_no_group_is_empty() {
        let none = Groups::default();
        assert_eq!(contents(&disk(), &[], &none, "n1"), Contents::Empty);
        let orphan = Groups { orphans: vec!["/dev/sdb".into()], ..Groups::default() };
        assert_eq!(contents(&disk(), &[mark("/dev/sdb", LVM)], &orphan, "n1"), Contents::Empty);
    }

    #[test]
    fn a_group_is_ours_by_its_tag_and_not_by_its_name() {
        let marks = [mark("/dev/sdb", LVM)];
        let ours = group("sheaf-fast", &["sheaf.node=n1"]);
        assert_eq!(contents(&disk(), &marks, &ours, "n1"), Contents::Pool("fast".into()));
        let theirs = group("sheaf-fast", &["sheaf.node=n2"]);
        let foreign = "LVM2_member of group sheaf-fast of node n2 on /dev/sdb";
        assert_eq!(contents(&disk(), &marks, &theirs, "n1"), Contents::Foreign(foreign.into()));
        let guest = group("vg0", &[]);
        assert_eq!(
            contents(&disk(), &marks, &guest, "n1"),
            Contents::Foreign("LVM2_member of group vg0 on /dev/sdb".into())
        );
    }

    #[test]
    fn every_mark_is_named_once() {
        let marks = [mark("/dev/sdb", "gpt"), mark("/dev/sdb", "gpt"), mark("/dev/sdb1", "ext4")];
        let expected = Contents::Foreign("ext4 on /dev/sdb1, gpt on /dev/sdb".into());
        assert_eq!(contents(&disk(), &marks, &Groups::default(), "n1"), expected);
    }
}
