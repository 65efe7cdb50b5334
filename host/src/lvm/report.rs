//! What LVM's reports say: JSON in which every value is text.
//!
//! Why here: pure, and tried on what the program really printed. Route in: `pvs` and `lvs` with
//! `--reportformat json --units b --nosuffix`. Route out: [`Groups`] and [`Volume`]s.

use super::{Group, Groups, LvmError, Member, Volume};
use serde::{Deserialize, de::DeserializeOwned};
use std::path::PathBuf;

/// Columns of [`groups`].
pub const MEMBER_COLUMNS: &str = "pv_name,pv_uuid,pv_size,pv_free,pv_tags,pv_missing,pv_allocatable,vg_name,vg_uuid,vg_tags,\
                                  vg_extent_size,vg_size,vg_free";
/// Columns of [`volumes`].
pub const VOLUME_COLUMNS: &str = "lv_name,segtype,lv_size,lv_tags,origin,lv_active,lv_device_open,data_percent,metadata_percent,\
                                  lv_metadata_size,copy_percent,move_pv,lv_health_status";

#[derive(Deserialize)]
struct MemberLine {
    pv_name: String,
    pv_uuid: String,
    pv_size: String,
    pv_free: String,
    pv_tags: String,
    pv_missing: String,
    pv_allocatable: String,
    vg_name: String,
    vg_uuid: String,
    vg_tags: String,
    vg_extent_size: String,
    vg_size: String,
    vg_free: String,
}

#[derive(Deserialize)]
struct VolumeLine {
    lv_name: String,
    segtype: String,
    lv_size: String,
    lv_tags: String,
    origin: String,
    lv_active: String,
    lv_device_open: String,
    data_percent: String,
    metadata_percent: String,
    lv_metadata_size: String,
    copy_percent: String,
    move_pv: String,
    lv_health_status: String,
}

/// Reads `pvs`.
pub fn groups(json: &[u8]) -> Result<Groups, LvmError> {
    let mut found = Groups::default();
    for line in lines::<MemberLine>(json, "pvs", "pv")? {
        let is_missing = !line.pv_missing.is_empty();
        // One that is not there has no path: LVM writes [unknown].
        let device = line.pv_name.starts_with('/').then(|| PathBuf::from(&line.pv_name));
        if line.vg_uuid.is_empty() {
            found.orphans.extend(device);
            continue;
        }
        let member = Member {
            device,
            is_missing,
            is_allocatable: line.pv_allocatable == "allocatable",
            uuid: line.pv_uuid,
            tags: words(&line.pv_tags),
            size: number(&line.pv_size),
            free: number(&line.pv_free),
        };
        match found.groups.iter_mut().find(|group| group.uuid == line.vg_uuid) {
            Some(group) => group.members.push(member),
            None => found.groups.push(Group {
                name: line.vg_name,
                uuid: line.vg_uuid,
                tags: words(&line.vg_tags),
                extent: number(&line.vg_extent_size),
                size: number(&line.vg_size),
                free: number(&line.vg_free),
                members: vec![member],
            }),
        }
    }
    Ok(found)
}

/// Reads `lvs -a`.
pub fn volumes(json: &[u8]) -> Result<Vec<Volume>, LvmError> {
    let mut volumes: Vec<Volume> = Vec::new();
    for line in lines::<VolumeLine>(json, "lvs", "lv")? {
        // A volume in several pieces has a line for each.
        if volumes.iter().any(|volume| volume.name == line.lv_name) {
            continue;
        }
        volumes.push(Volume {
            name: line.lv_name,
            kind: line.segtype,
            size: number(&line.lv_size),
            tags: words(&line.lv_tags),
            origin: given(line.origin),
            is_active: line.lv_active == "active",
            is_open: line.lv_device_open == "open",
            data_percent: line.data_percent.parse().ok(),
            metadata_percent: line.metadata_percent.parse().ok(),
            metadata_size: number(&line.lv_metadata_size),
            copy_percent: line.copy_percent.parse().ok(),
            moves_from: given(line.move_pv).map(PathBuf::from),
            health: given(line.lv_health_status),
        });
    }
    Ok(volumes)
}

/// The list `key` of a report; a report of nothing may be empty text.
fn lines<T: DeserializeOwned>(json: &[u8], command: &'static str, key: &str) -> Result<Vec<T>, LvmError> {
    #[derive(Deserialize)]
    struct Document {
        report: Vec<serde_json::Map<String, serde_json::Value>>,
    }
    let fail = |source| LvmError::Json { command, source };
    if json.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let document: Document = serde_json::from_slice(json).map_err(fail)?;
    let mut all = Vec::new();
    for mut section in document.report {
        if let Some(lines) = section.remove(key) {
            all.extend(serde_json::from_value::<Vec<T>>(lines).map_err(fail)?);
        }
    }
    Ok(all)
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn words(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_gathered_by_the_groups_uuid_since_two_groups_may_share_a_name() {
        let json = br#"{"report": [ {"pv": [
          {"pv_name":"/dev/sdb", "pv_uuid":"aaaa", "pv_size":"1069547520", "pv_free":"0",
           "pv_tags":"sheaf.device=serial-a", "pv_missing":"", "pv_allocatable":"allocatable", "vg_name":"sheaf-fast", "vg_uuid":"g1",
           "vg_tags":"sheaf.node=n1", "vg_extent_size":"4194304", "vg_size":"2139095040", "vg_free":"4194304"},
          {"pv_name":"[unknown]", "pv_uuid":"bbbb", "pv_size":"1069547520", "pv_free":"4194304",
           "pv_tags":"sheaf.device=serial-b", "pv_missing":"missing", "pv_allocatable":"", "vg_name":"sheaf-fast", "vg_uuid":"g1",
           "vg_tags":"sheaf.node=n1", "vg_extent_size":"4194304", "vg_size":"2139095040", "vg_free":"4194304"},
          {"pv_name":"/dev/sdc", "pv_uuid":"cccc", "pv_size":"1069547520", "pv_free":"0", "pv_tags":"",
           "pv_missing":"", "pv_allocatable":"allocatable", "vg_name":"sheaf-fast", "vg_uuid":"g2", "vg_tags":"sheaf.node=n2,b",
           "vg_extent_size":"4194304", "vg_size":"1069547520", "vg_free":"0"},
          {"pv_name":"/dev/sdd", "pv_uuid":"dddd", "pv_size":"1073741824", "pv_free":"1073741824", "pv_tags":"",
           "pv_missing":"", "pv_allocatable":"allocatable", "vg_name":"", "vg_uuid":"", "vg_tags":"", "vg_extent_size":"0", "vg_size":"0",
           "vg_free":"0"} ] } ] }"#;
        let found = groups(json).unwrap();
        assert_eq!(found.orphans, [PathBuf::from("/dev/sdd")]);
        let [ours, theirs] = &found.groups[..] else { panic!("{found:?}") };
        assert_eq!((ours.uuid.as_str(), theirs.uuid.as_str()), ("g1", "g2"));
        assert_eq!((ours.members[1].device.as_ref(), ours.members[1].is_missing), (None, true));
        assert_eq!(ours.members[1].tags, ["sheaf.device=serial-b"]);
        assert_eq!(theirs.tags, ["sheaf.node=n2", "b"]);
    }

    #[test]
    fn a_pool_tells_how_full_it_is_and_a_move_how_far() {
        let json = br#"{"report": [ {"lv": [
          {"lv_name":"thin", "segtype":"thin-pool", "lv_size":"805306368", "lv_tags":"", "origin":"",
           "lv_active":"active", "lv_device_open":"", "data_percent":"12.50", "metadata_percent":"10.16", "lv_metadata_size":"67108864",
           "copy_percent":"", "move_pv":"", "lv_health_status":"out_of_data"},
          {"lv_name":"snap-1", "segtype":"thin", "lv_size":"104857600", "lv_tags":"sheaf.incomplete,sheaf.volume",
           "origin":"pvc-1", "lv_active":"", "lv_device_open":"", "data_percent":"", "metadata_percent":"", "lv_metadata_size":"",
           "copy_percent":"", "move_pv":"", "lv_health_status":""},
          {"lv_name":"[pvmove0]", "segtype":"mirror", "lv_size":"805306368", "lv_tags":"", "origin":"",
           "lv_active":"active", "lv_device_open":"", "data_percent":"", "metadata_percent":"", "lv_metadata_size":"",
           "copy_percent":"41.67", "move_pv":"/dev/sdb", "lv_health_status":""},
          {"lv_name":"[pvmove0]", "segtype":"mirror", "lv_size":"805306368", "lv_tags":"", "origin":"",
           "lv_active":"active", "lv_device_open":"", "data_percent":"", "metadata_percent":"", "lv_metadata_size":"",
           "copy_percent":"41.67", "move_pv":"/dev/sdb", "lv_health_status":""} ] } ] }"#;
        let found = volumes(json).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].data_percent, found[0].metadata_percent), (Some(12.5), Some(10.16)));
        assert_eq!(found[0].health.as_deref(), Some("out_of_data"));
        assert!(found[1].has_tag("sheaf.incomplete") && !found[1].is_active);
        assert_eq!(found[1].origin.as_deref(), Some("pvc-1"));
        assert_eq!(
            (found[2].copy_percent, found[2].moves_from.clone()),
            (Some(41.67), Some("/dev/sdb".into()))
        );
    }

    #[test]
    fn a_report_that_is_none_names_its_command() {
        let error = volumes(b"Volume group not found").unwrap_err();
        assert_eq!(error.to_string(), "lvm lvs: unexpected JSON");
        assert_eq!(groups(b"\n").unwrap(), Groups::default());
    }
}
