//! `[install]`: which disk, what may be erased, what follows.
//!
//! Route in: the table. Route out: [`Install`] whose selector names at least one fact of a disk.

use super::{ELSEWHERE, plain};
use crate::node::{Bus, DiskSelector, Install, Size, SizeError, Then};
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
const THEN: &[(&str, Then)] = &[("reboot", Then::Reboot), ("power-off", Then::PowerOff)];

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Install> {
    let report = table.report();
    let disk = table.required("disk", "disk = { serial = \"…\" }", |value| selector(value.table()?));
    let wipe = table.optional("wipe", |value| value.text(syntax::disk_fact));
    let then = table.optional("then", |value| value.one_of(THEN));
    table.finish(ELSEWHERE);
    let serial = disk.as_ref().and_then(|disk| disk.serial.as_ref());
    if let (Some(wipe), Some(serial)) = (&wipe, serial)
        && wipe.value != *serial
    {
        let what = format!("{} is not the serial of install.disk, {}", quoted(&wipe.value), quoted(serial));
        wipe.wrong(report, what, "write the same serial in both, or remove wipe to keep what is on the disk");
    }
    Some(Install { disk: disk?, wipe: plain(wipe), then: plain(then).unwrap_or_default() })
}

fn selector(mut table: Table<'_, '_>) -> Option<DiskSelector> {
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
    table.finish(ELSEWHERE);
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
        max.wrong(report, format!("{} is below min-size {}", max.value, min.value), "exchange the two");
    }
    Some(DiskSelector {
        serial: plain(serial),
        wwn: plain(wwn),
        path: plain(path),
        bus: plain(bus),
        model: plain(model),
        min_size: plain(min_size),
        max_size: plain(max_size),
    })
}

fn size(value: Value<'_, '_>) -> Option<At<Size>> {
    value.text(|text| {
        let remedy = "write \"500GB\", \"465GiB\" or bytes";
        let refuse = |error: SizeError| Wrong(format!("{} {error}", quoted(text)), remedy.into());
        match text.parse::<Size>().map_err(refuse)? {
            Size(0) => Err(Wrong(format!("{} is no size of a disk", quoted(text)), remedy.into())),
            size => Ok(size),
        }
    })
}
