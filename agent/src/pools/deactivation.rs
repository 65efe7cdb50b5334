//! Groups of ours that no pool is wanted of any more: their volumes are deactivated, so that their disks are free to be
//! wiped. Nothing of them is removed. Pure.
//!
//! Route in: LVM's groups, the pools that are wanted, the volumes of a group. Route out: steps for [`super::apply`].

use super::observe::{Found, devices};
use super::plan::{Step, same};
use crate::disks::contents;
use sheaf_host::lvm::{Group, Groups};

/// What the volume group of a pool is called before the pool's name.
const PREFIX: &str = "sheaf-";

/// Groups of the node `node` whose pool is not wanted.
pub fn unwanted<'g>(
    groups: &'g Groups,
    node: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'g Group> {
    let is_left = move |group: &&Group| {
        let pool = group.name.strip_prefix(PREFIX);
        contents::is_ours(&group.tags, node) && pool.is_some_and(|pool| !is_wanted(pool))
    };
    groups.groups.iter().filter(is_left)
}

/// What is to be done to one of them.
pub fn plan(found: &Found) -> Vec<Step> {
    let Some(group) = &found.group else { return Vec::new() };
    let mut steps = Vec::new();
    let devices = devices(group);
    if !same(&devices, &found.confined) {
        steps.push(Step::Confine { devices });
    }
    if found.volumes.iter().any(|volume| volume.is_active) {
        steps.push(Step::Deactivate);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::lvm::{Member, Volume};

    fn group(name: &str, node: &str) -> Group {
        let member = Member { device: Some("/dev/sda".into()), ..Member::default() };
        Group {
            name: name.into(),
            tags: vec![format!("sheaf.node={node}")],
            members: vec![member],
            ..Group::default()
        }
    }

    #[test]
    fn only_groups_of_this_node_whose_pool_is_not_wanted_are_deactivated() {
        let all = ["sheaf-fast", "sheaf-old", "debian"].map(|name| group(name, "n1"));
        let groups = [all.to_vec(), vec![group("sheaf-theirs", "n2")]].concat();
        let groups = Groups { groups, ..Groups::default() };
        let names: Vec<_> = unwanted(&groups, "n1", |pool| pool == "fast").map(|group| &group.name).collect();
        assert_eq!(names, ["sheaf-old"]);
    }

    #[test]
    fn a_group_is_confined_before_it_is_deactivated_and_left_alone_once_it_is() {
        let volume = |is_active| Volume { is_active, ..Volume::default() };
        let mut found = Found {
            group: Some(group("sheaf-old", "n1")),
            volumes: vec![volume(false), volume(true)],
            confined: Vec::new(),
        };
        let devices = vec!["/dev/sda".into()];
        assert_eq!(plan(&found), [Step::Confine { devices: devices.clone() }, Step::Deactivate]);
        (found.confined, found.volumes) = (devices, vec![volume(false)]);
        assert_eq!(plan(&found), []);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_left_of_a_group_it_is_only_confined_and_deactivated_and_then_left_alone(
            devices in proptest::collection::vec(proptest::option::of("/dev/sd[a-c]"), 0..4),
            active: Vec<bool>,
            confined in proptest::collection::vec("/dev/sd[a-c]", 0..4),
            is_there: bool,
        ) {
            let member = |device: &Option<String>| {
                Member { device: device.as_ref().map(Into::into), ..Member::default() }
            };
            let group = Group { members: devices.iter().map(member).collect(), ..group("sheaf-old", "n1") };
            let volume = |is_active: &bool| Volume { is_active: *is_active, ..Volume::default() };
            let mut found = Found {
                group: is_there.then_some(group),
                volumes: active.iter().map(volume).collect(),
                confined: confined.iter().map(Into::into).collect(),
            };
            for step in plan(&found) {
                match step {
                    Step::Confine { devices } => found.confined = devices,
                    Step::Deactivate => found.volumes.iter_mut().for_each(|volume| volume.is_active = false),
                    other => proptest::prop_assert!(false, "{:?}", other),
                }
            }
            proptest::prop_assert_eq!(plan(&found), []);
        }
    }
}
