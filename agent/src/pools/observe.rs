//! What LVM has of the pools of this node.
//!
//! Why here: it is given the reporting half of LVM, and can change nothing. Route in: LVM's reports. Route out: [`Found`].

use crate::disks::contents;
use sheaf_api::names::volume_group;
use sheaf_host::lvm::{Group, Groups, LvmReport, Volume};
use std::path::PathBuf;

/// A pool's group as LVM reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The group, unless it is not there.
    pub group: Option<Group>,
    /// All volumes of it; none while all its devices are missing.
    pub volumes: Vec<Volume>,
    /// Devices that LVM's changes are confined to now.
    pub confined: Vec<PathBuf>,
}

/// Devices of `group` that are there.
pub fn devices(group: &Group) -> Vec<PathBuf> {
    group.members.iter().filter_map(|member| member.device.clone()).collect()
}

/// The pool `name` of the node `node` among `groups`, as they were reported.
pub fn pool(lvm: &dyn LvmReport, groups: &Groups, node: &str, name: &str) -> anyhow::Result<Found> {
    let group = volume_group(name);
    let is_it = |found: &&Group| found.name == group && contents::is_ours(&found.tags, node);
    let ours: Vec<&Group> = groups.groups.iter().filter(is_it).collect();
    anyhow::ensure!(
        ours.len() < 2,
        "two volume groups on this node's disks are named {group}; remove the disks of one of them"
    );
    match ours.first() {
        Some(found) => this(lvm, found),
        None => Ok(Found { confined: lvm.confined(&group), ..Found::default() }),
    }
}

/// The group `found` itself.
pub fn this(lvm: &dyn LvmReport, found: &Group) -> anyhow::Result<Found> {
    let devices = devices(found);
    let volumes = match devices.is_empty() {
        true => Vec::new(),
        false => lvm.volumes_on(&found.name, &devices)?,
    };
    Ok(Found { group: Some(found.clone()), volumes, confined: lvm.confined(&found.name) })
}
