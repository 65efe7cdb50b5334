//! What is shown of the volumes: to other controllers, on the status page, by `sheaf-agent volumes`.
//!
//! Route in: objects, LVM's report, the state of each volume. Route out: [`Usable`]s, the status section, a table.

use super::observed::{GROUP_PREFIX, Group};
use super::plan::{Plan, VolumeState};
use super::{INCOMPLETE, SNAPSHOT, TAG};
use crate::channels::Usable;
use crate::listed::Listed;
use crate::status::VolumeSection;
use sheaf_api::Amount;
use sheaf_api::storage::LocalVolume;
use sheaf_api::storage::local_volume::{Progress, VolumeKind, VolumeSource, volume_group};
use sheaf_host::fetch::redacted;
use std::collections::BTreeMap;
use std::path::Path;

/// What users of the volume may know.
pub(super) fn usable(name: &str, object: &LocalVolume, stand: &VolumeState, devices: &Path) -> Usable {
    let device = devices.join(volume_group(&object.spec.pool)).join(name);
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let readable = !is_deleted && matches!(stand, VolumeState::Ready { .. });
    let (ready, bytes, problem) = match stand {
        VolumeState::Ready { bytes, .. } if object.spec.kind == VolumeKind::Volume => {
            (!is_deleted, *bytes, None)
        }
        VolumeState::Ready { bytes, .. } => {
            (false, *bytes, Some("it is a snapshot; make a volume of it".to_owned()))
        }
        stand => {
            let (phase, problem) = words(stand);
            (false, 0, problem.or(Some(phase)))
        }
    };
    Usable { ready, readable, device, bytes, problem }
}

/// Phase and problem.
fn words(stand: &VolumeState) -> (String, Option<String>) {
    let because = |reason: &dyn std::fmt::Display, message: &str| {
        Some(if message.is_empty() { reason.to_string() } else { format!("{reason}: {message}") })
    };
    match stand {
        VolumeState::Unknown => ("Unknown".into(), Some("its pool is not up yet".into())),
        VolumeState::Waiting(reason, message) => ("Pending".into(), because(reason, message)),
        VolumeState::Making => ("Creating".into(), None),
        VolumeState::AwaitingUpload { .. } => ("UploadReady".into(), Some("it waits for an image".into())),
        VolumeState::Filling(_) => ("Populating".into(), None),
        VolumeState::Ready { short: Some((reason, message)), .. } => {
            ("Ready".into(), because(reason, message))
        }
        VolumeState::Ready { .. } => ("Ready".into(), None),
        VolumeState::Failed(reason, message) => ("Failed".into(), because(reason, message)),
        VolumeState::Deleting(_, message) if message.is_empty() => ("Removing".into(), None),
        VolumeState::Deleting(reason, message) => ("Removing".into(), because(reason, message)),
    }
}

/// The status section.
pub(super) fn sections(
    listed: &Listed<LocalVolume>,
    groups: &BTreeMap<String, Group>,
    planned: &Plan,
) -> Vec<VolumeSection> {
    let mut sections: Vec<_> = listed
        .objects
        .iter()
        .map(|(name, object)| {
            let spec = &object.spec;
            let volume = groups.get(&volume_group(&spec.pool)).and_then(|group| group.volumes.get(name));
            let stand = planned.states.get(name);
            let (phase, problem) = stand.map(words).unwrap_or_default();
            let progress = match stand {
                Some(VolumeState::Filling(Progress { percent, .. })) => *percent,
                _ => None,
            };
            let action = planned.actions.iter().find(|(of, ..)| of == name);
            VolumeSection {
                name: name.clone(),
                pool: spec.pool.clone(),
                kind: if spec.kind == VolumeKind::Snapshot { "snapshot" } else { "volume" }.into(),
                phase,
                bytes: volume.map_or(spec.size_bytes, |volume| volume.bytes),
                data_percent: volume.and_then(|volume| volume.data_percent),
                source: source(&spec.source),
                progress,
                device: volume
                    .filter(|volume| volume.active)
                    .map(|_| sheaf_api::storage::local_volume::device_path(&spec.pool, name)),
                open: volume.is_some_and(|volume| volume.open),
                last: action.map(|(_, _, action)| format!("{action:?}")),
                problem,
            }
        })
        .collect();
    for (group_name, group) in groups {
        let strays = group
            .volumes
            .iter()
            .filter(|(name, volume)| volume.has(TAG) && !listed.objects.contains_key(*name));
        sections.extend(strays.map(|(name, volume)| {
            VolumeSection {
                name: name.clone(),
                pool: group_name.strip_prefix(GROUP_PREFIX).unwrap_or(group_name).into(),
                kind: if volume.has(SNAPSHOT) { "snapshot" } else { "volume" }.into(),
                phase: match (listed.synced, volume.has(INCOMPLETE)) {
                    (false, _) => "Unknown",
                    (true, true) => "Half",
                    (true, false) => "Unclaimed",
                }
                .into(),
                bytes: volume.bytes,
                data_percent: volume.data_percent,
                open: volume.open,
                problem: (listed.synced && !volume.has(INCOMPLETE)).then(|| {
                    format!(
                        "no LocalVolume asks for it; if its data is not needed: lvremove {group_name}/{name}"
                    )
                }),
                ..VolumeSection::default()
            }
        }));
    }
    sections
}

fn source(source: &VolumeSource) -> String {
    if let Some(http) = &source.http {
        return redacted(&http.url);
    }
    if let Some(registry) = &source.registry {
        return registry.image.clone();
    }
    match (&source.volume, &source.snapshot) {
        (Some(origin), _) | (_, Some(origin)) => origin.name.clone(),
        _ if source.upload.is_some() => "upload".into(),
        _ => "blank".into(),
    }
}

/// The section as a table for people.
pub fn table(volumes: &[VolumeSection]) -> String {
    if volumes.is_empty() {
        return "This node holds no volumes.\n".into();
    }
    let head = ["NAME", "POOL", "KIND", "SIZE", "WRITTEN", "PHASE", "USED", "SOURCE"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(volumes.iter().map(|volume| {
        let phase = match volume.progress {
            Some(percent) => format!("{} {percent} %", volume.phase),
            None => volume.phase.clone(),
        };
        [
            volume.name.clone(),
            volume.pool.clone(),
            volume.kind.clone(),
            Amount::of_bytes(volume.bytes).as_str().to_owned(),
            volume.data_percent.map_or_else(|| "-".into(), |percent| format!("{percent:.1} %")),
            phase,
            if volume.open { "yes" } else { "no" }.into(),
            volume.source.clone(),
        ]
    }));
    let widths: [usize; 8] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let line: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += line.join("  ").trim_end();
        text.push('\n');
        if let Some(problem) = index.checked_sub(1).and_then(|index| volumes[index].problem.as_deref()) {
            text += &format!("    {problem}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_volume_and_a_line_for_each_problem() {
        let volume = VolumeSection {
            name: "pvc-1".into(),
            pool: "default".into(),
            kind: "volume".into(),
            phase: "Populating".into(),
            bytes: 1 << 30,
            data_percent: Some(12.5),
            source: "https://example.org/debian.qcow2".into(),
            progress: Some(40),
            ..VolumeSection::default()
        };
        let failed = VolumeSection {
            name: "pvc-22".into(),
            phase: "Pending".into(),
            progress: None,
            data_percent: None,
            problem: Some("OutOfSpace: the pool is full".into()),
            source: "blank".into(),
            ..volume.clone()
        };
        assert_eq!(
            table(&[volume, failed]),
            "NAME    POOL     KIND    SIZE  WRITTEN  PHASE            USED  SOURCE\n\
             pvc-1   default  volume  1Gi   12.5 %   Populating 40 %  no    https://example.org/debian.qcow2\n\
             pvc-22  default  volume  1Gi   -        Pending          no    blank\n    \
             OutOfSpace: the pool is full\n"
        );
    }
}
