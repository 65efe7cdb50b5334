//! Disk selectors: those of `[install]` and of storage pools.
//!
//! Route in: a table. Route out: [`Picked`], a selector that names at least one fact of a disk, and its place.

use super::{ELSEWHERE, plain};
use crate::diagnose::Report;
use crate::node::{Bus, DataDisk, DiskSelector, Size, SizeError};
use crate::spanned::{At, Table, Value, Wrong};
use crate::syntax::{self, quoted};

const BUSES: &[(&str, Bus)] = &[
    ("nvme", Bus::Nvme),
    ("sata", Bus::Sata),
    ("sas", Bus::Sas),
    ("scsi", Bus::Scsi),
    ("usb", Bus::Usb),
    ("virtio", Bus::Virtio),
];

/// A selector with its place.
#[derive(Clone)]
pub(super) struct Picked {
    pub place: At<()>,
    pub selector: DiskSelector,
}

pub(super) fn selector(mut table: Table<'_, '_>) -> Option<Picked> {
    let picked = keys(&mut table);
    table.finish(ELSEWHERE);
    picked
}

/// Reads a selector's keys and leaves the others to the caller.
fn keys(table: &mut Table<'_, '_>) -> Option<Picked> {
    let (report, place) = (table.report(), table.at());
    let keys = ["serial", "wwn", "path", "bus", "model", "min-size", "max-size"];
    let is_empty = keys.iter().all(|key| table.place(key).is_none());
    let serial = table.optional("serial", |value| value.text(syntax::disk_fact));
    let wwn = table.optional("wwn", |value| value.text(syntax::wwn));
    let path = table.optional("path", |value| value.text(syntax::disk_path));
    let bus = table.optional("bus", |value| value.one_of(BUSES));
    let model = table.optional("model", |value| value.text(syntax::disk_fact));
    let min_size = table.optional("min-size", size);
    let max_size = table.optional("max-size", size);
    if is_empty {
        place.wrong(
            report,
            "selects no disk",
            "give at least one of serial, wwn, path, bus, model, min-size, max-size",
        );
    }
    if let (Some(min), Some(max)) = (&min_size, &max_size)
        && min.value > max.value
    {
        max.wrong(report, format!("{} is below min-size {}", max.value, min.value), "swap the two values");
    }
    let selector = DiskSelector {
        serial: plain(serial),
        wwn: plain(wwn),
        path: plain(path),
        bus: plain(bus),
        model: plain(model),
        min_size: plain(min_size),
        max_size: plain(max_size),
    };
    Some(Picked { place, selector })
}

/// `install.data-disks`.
pub(super) fn data_disks(value: Value<'_, '_>) -> Option<Vec<(Picked, DataDisk)>> {
    let disks: Vec<_> = value.tables()?.into_iter().map(data_disk).collect();
    disks.into_iter().collect()
}

fn data_disk(mut table: Table<'_, '_>) -> Option<(Picked, DataDisk)> {
    let report = table.report();
    let picked = keys(&mut table);
    let wipe = table.optional("wipe", |value| value.text(syntax::disk_fact));
    table.finish(ELSEWHERE);
    let picked = picked?;
    wipe_is_of_that_disk(report, "this disk", &picked, wipe.as_ref());
    let disk = DataDisk { disk: picked.selector.clone(), wipe: plain(wipe) };
    Some((picked, disk))
}

/// Erasing is asked for by serial, so that the wrong line copied does not erase the wrong disk.
pub(super) fn wipe_is_of_that_disk(
    report: &Report<'_>,
    name: &str,
    disk: &Picked,
    wipe: Option<&At<String>>,
) {
    if let (Some(wipe), Some(serial)) = (wipe, &disk.selector.serial)
        && wipe.value != *serial
    {
        let what = format!("{} is not the serial of {name}, {}", quoted(&wipe.value), quoted(serial));
        wipe.wrong(report, what, "write the same serial in both, or remove wipe to keep what is on the disk");
    }
}

/// Two selectors that are the same, or that name the same serial, path or world-wide name, mean one disk.
pub(super) fn each_is_another(report: &Report<'_>, disks: &[Picked]) {
    for (index, disk) in disks.iter().enumerate() {
        let one = &disk.selector;
        let same = |other: &&Picked| {
            let other = &other.selector;
            let equal = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
            one == other
                || (equal(&one.serial, &other.serial) && (one.model == other.model || one.wwn == other.wwn))
                || equal(&one.path, &other.path)
                || equal(&one.wwn, &other.wwn)
        };
        if let Some(first) = disks[..index].iter().find(same) {
            let line = report.line(first.place.span.start);
            let what = format!("is the disk of {} in line {line}", first.place.path);
            disk.place.wrong(report, what, "name another disk, or remove it");
        }
    }
}

pub(super) fn size(value: Value<'_, '_>) -> Option<At<Size>> {
    value.text(|text| {
        let remedy = "write \"500GB\", \"465GiB\" or bytes";
        let refuse = |error: SizeError| Wrong(format!("{} {error}", quoted(text)), remedy.into());
        match text.parse::<Size>().map_err(refuse)? {
            Size(0) => Err(Wrong(format!("{} is not a size of a disk", quoted(text)), remedy.into())),
            size => Ok(size),
        }
    })
}
