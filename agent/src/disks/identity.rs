//! Which disk is which: a name made of what the disk says of itself. Pure.
//!
//! Why here: `/dev/sdb` is another disk after the next boot, and another again on another controller. A disk is its
//! world-wide name; without one its model and serial; without those its place. Disks that say the same of themselves are
//! told apart by their place, and the first to come keeps the plain name. Route in: facts of all present disks, the
//! identities that are known already. Route out: an identifier for each, the same in whatever order they are met.

use crate::channels::Facts;
use sha2::{Digest as _, Sha256};
use sheaf_api::storage::device::Identity;
use std::collections::BTreeMap;

/// Longest identifier: with the node's name before it, it must fit the name of an object and LVM's tags.
const LONGEST: usize = 120;

/// The identifier, as far as the disk alone can tell.
fn plain(facts: &Facts) -> String {
    let words = match (&facts.wwn, &facts.serial, &facts.place) {
        (Some(wwn), _, _) => format!("wwn-{}", wwn.to_lowercase().trim_start_matches("0x")),
        (None, Some(serial), _) => format!("{}-{serial}", facts.model.as_deref().unwrap_or("serial")),
        (None, None, Some(place)) => format!("path-{place}"),
        (None, None, None) => {
            format!("name-{}", facts.device.file_name().unwrap_or_default().to_string_lossy())
        }
    };
    slug(&words)
}

/// The identifier of one of several that say the same.
fn placed(facts: &Facts) -> String {
    let place = facts.place.clone().unwrap_or_else(|| facts.device.display().to_string());
    slug(&format!("{}-at-{place}", plain(facts)))
}

/// An identifier for each of `disks`, in their order. `known` are the identities of the node's objects by identifier.
pub fn assign(disks: &[Facts], known: &BTreeMap<String, Identity>) -> Vec<String> {
    let plain: Vec<String> = disks.iter().map(plain).collect();
    let is_known_at =
        |id: &str, disk: &Facts| known.get(id).is_some_and(|identity| identity.path == disk.place);
    let choose = |(index, disk): (usize, &Facts)| {
        let id = &plain[index];
        let twins: Vec<&Facts> = disks
            .iter()
            .zip(&plain)
            .enumerate()
            .filter(|(i, (_, other))| *i != index && *other == id)
            .map(|(_, (d, _))| d)
            .collect();
        let placed = placed(disk);
        let is_first = match (is_known_at(id, disk), twins.iter().any(|twin| is_known_at(id, twin))) {
            (true, _) => true,
            (false, true) => false,
            // Nobody has the plain name yet: the first by place, so that the order of meeting does not matter.
            (false, false) => !known.contains_key(id) && twins.iter().all(|twin| disk.place < twin.place),
        };
        let alone = twins.is_empty() && (!known.contains_key(&placed) || is_known_at(id, disk));
        if alone || (is_first && !twins.is_empty()) { id.clone() } else { placed }
    };
    disks.iter().enumerate().map(choose).collect()
}

/// Whether another of `disks` cannot be told from `disk` but by its place.
pub fn is_ambiguous(disk: &Facts, disks: &[Facts]) -> bool {
    disks.iter().any(|other| other.device != disk.device && plain(other) == plain(disk))
}

/// Whether another of `disks` has the same serial.
pub fn has_duplicate_serial(disk: &Facts, disks: &[Facts]) -> bool {
    disk.serial.is_some()
        && disks.iter().any(|other| other.device != disk.device && other.serial == disk.serial)
}

/// `text` as part of an object's name: lowercase letters, digits and single hyphens.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.len() <= LONGEST {
        return slug.to_owned();
    }
    let hash: String = Sha256::digest(slug).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", slug[..LONGEST - 13].trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(device: &str, wwn: &str, serial: &str, place: &str) -> Facts {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Facts {
            device: device.into(),
            wwn: given(wwn),
            serial: given(serial),
            model: Some("QEMU HARDDISK".into()),
            place: given(place),
            ..Facts::default()
        }
    }

    fn objects(disks: &[Facts], ids: &[String]) -> BTreeMap<String, Identity> {
        ids.iter().cloned().zip(disks.iter().map(Facts::identity)).collect()
    }

    #[test]
    fn a_disk_is_its_wwn_else_its_model_and_serial_else_its_place() {
        let disks = [
            disk("/dev/sda", "0x5000C500A1B2C3D4", "A", "pci-0000:00:05.0-scsi-0:0:0:0"),
            disk("/dev/nvme0n1", "eui.0025385b11b2aa01", "B", "pci-0000:01:00.0-nvme-1"),
            disk("/dev/sdb", "", "S6B0NL0W", "pci-0000:00:05.0-scsi-0:0:1:0"),
            disk("/dev/vda", "", "", "pci-0000:00:04.0"),
        ];
        assert_eq!(
            assign(&disks, &BTreeMap::new()),
            [
                "wwn-5000c500a1b2c3d4",
                "wwn-eui-0025385b11b2aa01",
                "qemu-harddisk-s6b0nl0w",
                "path-pci-0000-00-04-0"
            ]
        );
    }

    #[test]
    fn other_names_places_and_order_leave_the_identifiers_as_they_were() {
        let before = [
            disk("/dev/sda", "0x1", "A", "p1"),
            disk("/dev/sdb", "", "B", "p2"),
            disk("/dev/sdc", "", "C", "p3"),
        ];
        let ids = assign(&before, &BTreeMap::new());
        let after = [
            disk("/dev/sda", "", "C", "p9"),
            disk("/dev/sdb", "", "B", "p8"),
            disk("/dev/nvme1n1", "0x1", "A", "p7"),
        ];
        let again = assign(&after, &objects(&before, &ids));
        assert_eq!(again, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    }

    #[test]
    fn twins_are_told_apart_by_their_place_and_the_first_to_come_keeps_its_name() {
        let first = disk("/dev/sdb", "", "SAME", "p2");
        let ids = assign(std::slice::from_ref(&first), &BTreeMap::new());
        assert_eq!(ids, ["qemu-harddisk-same"]);
        let known = objects(std::slice::from_ref(&first), &ids);
        // The twin is at a smaller place, and comes later.
        let twin = disk("/dev/sda", "", "SAME", "p1");
        let both = [twin.clone(), first.clone()];
        let ids = assign(&both, &known);
        assert_eq!(ids, ["qemu-harddisk-same-at-p1", "qemu-harddisk-same"]);
        assert!(both.iter().all(|disk| is_ambiguous(disk, &both) && has_duplicate_serial(disk, &both)));
        // The first is pulled: the twin keeps its own name.
        let known = objects(&both, &ids);
        assert_eq!(assign(std::slice::from_ref(&twin), &known), ["qemu-harddisk-same-at-p1"]);
        assert_eq!(assign(std::slice::from_ref(&first), &known), ["qemu-harddisk-same"]);
    }

    #[test]
    fn twins_that_come_together_get_the_same_names_in_either_order() {
        let (a, b) = (disk("/dev/sda", "", "SAME", "p1"), disk("/dev/sdb", "", "SAME", "p2"));
        let one = assign(&[a.clone(), b.clone()], &BTreeMap::new());
        let mut other = assign(&[b, a], &BTreeMap::new());
        other.reverse();
        assert_eq!(one, other);
        assert_eq!(one, ["qemu-harddisk-same", "qemu-harddisk-same-at-p2"]);
    }

    #[test]
    fn a_disk_of_the_same_serial_and_another_wwn_is_another_disk_that_is_shown_as_such() {
        let disks = [disk("/dev/sda", "0x1", "SAME", "p1"), disk("/dev/sdb", "0x2", "SAME", "p2")];
        assert_eq!(assign(&disks, &BTreeMap::new()), ["wwn-1", "wwn-2"]);
        assert!(has_duplicate_serial(&disks[0], &disks) && !is_ambiguous(&disks[0], &disks));
    }

    #[test]
    fn a_moved_disk_keeps_its_name_though_an_older_object_remembers_another_place() {
        let before = disk("/dev/sda", "", "A", "p1");
        let known =
            objects(std::slice::from_ref(&before), &assign(std::slice::from_ref(&before), &BTreeMap::new()));
        assert_eq!(assign(&[disk("/dev/sdq", "", "A", "p99")], &known), ["qemu-harddisk-a"]);
    }

    #[test]
    fn an_identifier_is_never_too_long_for_a_name() {
        let long = slug(&format!("wwn-{}", "x.".repeat(200)));
        assert!(long.len() <= LONGEST && long.starts_with("wwn-x-x"), "{long}");
        assert_ne!(long, slug(&format!("wwn-{}", "x.".repeat(201))));
    }
}
