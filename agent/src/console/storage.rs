//! `sheaf-agent disks` and `sheaf-agent pools`: what the controllers see, want and did last, and why, in columns.
//!
//! Pure. Route in: sections `disks` and `pools` of the status. Route out: a table, what is to be said below it.

use super::columns::columns;
use crate::human::{binary, decimal};
use crate::status::{DiskSection, PoolSection};

fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// The disks of the node.
pub(super) fn disks(disks: &[DiskSection]) -> String {
    if disks.is_empty() {
        return "no disk was found yet\n".into();
    }
    let head = ["DISK", "STATE", "DEVICE", "SIZE", "BUS", "MODEL", "SERIAL", "HEALTH", "ROLE", "USED BY"];
    let row = |disk: &DiskSection| {
        [
            disk.name.clone(),
            disk.state.clone(),
            or_dash(disk.device.as_deref()),
            decimal(disk.bytes),
            or_dash(disk.bus.as_deref()),
            or_dash(disk.model.as_deref()),
            or_dash(disk.serial.as_deref()),
            disk.health.clone(),
            disk.role.clone(),
            or_dash(disk.used_by.as_deref()),
        ]
    };
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(disks.iter().map(row)).collect();
    let mut text = columns(&rows);
    for disk in disks {
        for note in &disk.notes {
            text += &format!("! {}: {note}\n", disk.name);
        }
    }
    text
}

/// The pools of the node, each with its members.
pub(super) fn pools(pools: &[PoolSection]) -> String {
    if pools.is_empty() {
        return "no pools\n".into();
    }
    let percent = |full: Option<f64>| full.map_or("-".to_owned(), |full| format!("{full:.1} %"));
    let mut rows =
        vec![["POOL", "PHASE", "SIZE", "DATA", "METADATA", "VOLUMES", "DEVICE"].map(str::to_owned)];
    for pool in pools {
        rows.push([
            pool.name.clone(),
            pool.phase.clone(),
            if pool.total == 0 { "-".into() } else { binary(pool.total) },
            percent(pool.data_percent),
            percent(pool.metadata_percent),
            pool.volumes.to_string(),
            String::new(),
        ]);
        for member in &pool.members {
            let state = match member.progress {
                Some(done) => format!("{} {done:.0} %", member.state),
                None => member.state.clone(),
            };
            let size = if member.bytes == 0 { "-".into() } else { binary(member.bytes) };
            let at = member.device.as_ref().map_or(String::new(), |device| format!(" ({device})"));
            let empty = String::new;
            rows.push([empty(), state, size, empty(), empty(), empty(), format!("{}{at}", member.name)]);
        }
    }
    let mut text = columns(&rows);
    for pool in pools {
        for problem in &pool.problems {
            text += &format!("! {}: {problem}\n", pool.name);
        }
        for member in &pool.members {
            let note =
                member.note.iter().filter(|note| !pool.problems.iter().any(|p| p.contains(note.as_str())));
            text.extend(note.map(|note| format!("! {}: {}: {note}\n", pool.name, member.name)));
        }
        if let Some(last) = &pool.last {
            text += &format!("  {}: last: {last}\n", pool.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::MemberSection;

    #[test]
    fn disks_stand_in_columns_and_what_is_odd_below() {
        let disk = DiskSection {
            name: "n1.wwn-5000c500a1b2c3d4".into(),
            state: "Active".into(),
            device: Some("/dev/sdb".into()),
            bytes: 1_000_000_000_000,
            bus: Some("sata".into()),
            model: Some("ST1000".into()),
            health: "passed".into(),
            role: "none".into(),
            notes: vec!["tells no serial number".into()],
            ..DiskSection::default()
        };
        let gone = DiskSection {
            name: "n1.disk-b".into(),
            state: "Missing".into(),
            bytes: 500_000_000,
            serial: Some("B".into()),
            health: "unknown".into(),
            role: "pool fast".into(),
            used_by: Some("pool fast".into()),
            ..DiskSection::default()
        };
        let expected = "\
DISK                     STATE    DEVICE    SIZE    BUS   MODEL   SERIAL  HEALTH   ROLE       USED BY
n1.wwn-5000c500a1b2c3d4  Active   /dev/sdb  1 TB    sata  ST1000  -       passed   none       -
n1.disk-b                Missing  -         500 MB  -     -       B       unknown  pool fast  pool fast
! n1.wwn-5000c500a1b2c3d4: tells no serial number
";
        assert_eq!(disks(&[disk, gone]), expected);
    }

    #[test]
    fn pools_stand_above_their_members_with_progress_and_the_last_step() {
        let member = |name: &str, state: &str, progress, note: Option<&str>| MemberSection {
            name: name.into(),
            state: state.into(),
            device: Some("/dev/sdb".into()),
            bytes: 10 << 30,
            progress,
            note: note.map(str::to_owned),
        };
        let pool = PoolSection {
            name: "fast".into(),
            phase: "Degraded".into(),
            total: 19 << 30,
            data_percent: Some(41.25),
            metadata_percent: Some(10.2),
            volumes: 3,
            members: vec![
                member("n1.a", "Leaving", Some(41.6), None),
                member("n1.b", "Waiting", None, Some("it carries ext4")),
            ],
            last: Some("moves the data off /dev/sdb".into()),
            problems: vec!["a device fails".into()],
        };
        let expected = "\
POOL  PHASE         SIZE    DATA    METADATA  VOLUMES  DEVICE
fast  Degraded      19 GiB  41.2 %  10.2 %    3
      Leaving 42 %  10 GiB                             n1.a (/dev/sdb)
      Waiting       10 GiB                             n1.b (/dev/sdb)
! fast: a device fails
! fast: n1.b: it carries ext4
  fast: last: moves the data off /dev/sdb
";
        assert_eq!(pools(&[pool]), expected);
    }
}
