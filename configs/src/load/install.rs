//! `[install]`: which disk, what may be erased, what is kept, what follows.
//!
//! Route in: the table. Route out: [`Install`] whose selectors each name a fact of a disk, no two the same.

use super::disk::{self, Picked};
use super::{ELSEWHERE, plain, webhook};
use crate::diagnose::Report;
use crate::node::{Install, Reinstall, Size, Then};
use crate::spanned::{At, Table, Value};
use crate::syntax;
use std::ops::RangeInclusive;

const THEN: &[(&str, Then)] = &[("reboot", Then::Reboot), ("power-off", Then::PowerOff)];
const REINSTALL: &[(&str, Reinstall)] = &[("keep-data", Reinstall::KeepData)];

/// Bytes of a state partition: etcd and a journal need the least, and nothing fills the most.
const STATE: RangeInclusive<u64> = (2 << 30)..=(1 << 40);
/// Bytes of a data partition: one small image and a VM's disk; more than a disk has, the installer refuses.
const DATA: RangeInclusive<u64> = (1 << 30)..=(1 << 50);
/// Partitions begin and end at multiples of this many bytes.
const ALIGNMENT: u64 = 1 << 20;

/// What was read, with the places that rules outside need.
pub(super) struct Read {
    pub config: Install,
    pub disks: Vec<Picked>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let report = table.report();
    let disk = table.required("disk", "disk = { serial = \"…\" }", |value| disk::selector(value.table()?));
    let wipe = table.optional("wipe", |value| value.text(syntax::disk_fact));
    let reinstall = table.optional("reinstall", |value| value.one_of(REINSTALL));
    let state_size = table.optional("state-size", |value| partition_size(report, value, "state", STATE));
    let data_size = table.optional("data-size", |value| partition_size(report, value, "data", DATA));
    let data = table.optional("data-disks", |value| disk::data_disks(value)).unwrap_or_default();
    let then = table.optional("then", |value| value.one_of(THEN));
    let webhooks =
        table.optional("webhook", |value| webhook::read(report, value.tables()?)).unwrap_or_default();
    table.finish(ELSEWHERE);
    if let Some(disk) = &disk {
        disk::wipe_is_of_that_disk(report, "install.disk", disk, wipe.as_ref());
    }
    if let Some(reinstall) = &reinstall {
        if let Some(wipe) = &wipe {
            let what = format!(
                "cannot be combined with reinstall = \"keep-data\" of line {}",
                report.line(reinstall.span.start)
            );
            wipe.wrong(report, what, "remove wipe to keep the data, or reinstall to erase the disk");
        }
        for size in [&state_size, &data_size].into_iter().flatten() {
            let remedy = "remove it: the partitions of the disk stay as they are";
            size.wrong(report, "has no meaning with reinstall = \"keep-data\"", remedy);
        }
    }
    let disk = disk?;
    let (picked, data_disks): (Vec<_>, Vec<_>) = data.into_iter().unzip();
    let config = Install {
        disk: disk.selector.clone(),
        wipe: plain(wipe),
        reinstall: plain(reinstall),
        state_size: plain(state_size),
        data_size: plain(data_size),
        data_disks,
        then: plain(then).unwrap_or_default(),
        webhooks,
    };
    let disks: Vec<_> = std::iter::once(disk).chain(picked).collect();
    disk::each_is_another(report, &disks);
    Some(Read { config, disks })
}

/// The size of the partition `name`, in `bounds`.
fn partition_size(
    report: &Report<'_>,
    value: Value<'_, '_>,
    name: &str,
    bounds: RangeInclusive<u64>,
) -> Option<At<Size>> {
    let size = disk::size(value)?;
    if !bounds.contains(&size.value.0) {
        let what = format!("{} is not a size for the {name} partition", size.value);
        size.wrong(report, what, format!("write {} to {}", Size(*bounds.start()), Size(*bounds.end())));
        return None;
    }
    if !size.value.0.is_multiple_of(ALIGNMENT) {
        let nearest = Size(size.value.0.next_multiple_of(ALIGNMENT));
        size.wrong(
            report,
            format!("{} is not a multiple of 1MiB", size.value),
            format!("write \"{nearest}\""),
        );
        return None;
    }
    Some(size)
}
