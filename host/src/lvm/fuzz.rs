//! Whatever a disk that somebody plugs in says of itself: names, labels, tags, health, as the programs report them.
//!
//! Route in: reports as lsblk, wipefs, smartctl, pvs and lvs print them, changed at random. Route out: [`sheaf_fuzz`].

use super::report;
use crate::{block, smart};
use serde_json::{Value, json};
use sheaf_fuzz::{fuzz, json::change};

/// One report of each program.
fn reports() -> [Value; 5] {
    [
        json!({"blockdevices": [{"name": "sdb", "path": "/dev/sdb", "type": "disk", "size": 1073741824, "ro": false,
            "rm": true, "log-sec": 512, "phy-sec": 4096, "serial": "A1", "wwn": "0x5000", "model": "disk", "tran": "usb",
            "hctl": "1:0:0:0", "maj:min": "8:16", "mountpoints": [null], "children": [{"name": "sdb1", "path": "/dev/sdb1",
            "type": "part", "size": 1048576, "ro": false, "rm": true, "log-sec": 512, "phy-sec": 4096, "partn": 1,
            "fstype": "LVM2_member", "label": "x", "maj:min": "8:17", "mountpoints": ["[SWAP]"]}]}]}),
        json!({"signatures": [{"device": "sdb", "offset": "0x1fe", "type": "dos"}, {"device": "sdb1", "offset": "0x438", "type": "ext4"}]}),
        json!({"smart_status": {"passed": true}, "temperature": {"current": 41}, "power_on_time": {"hours": 20211},
            "nvme_smart_health_information_log": {"critical_warning": 1, "percentage_used": 104, "media_errors": 7},
            "ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": 2}}, {"id": 197, "raw": {"value": 8}}]}}),
        json!({"report": [{"pv": [{"pv_name": "/dev/sdb", "pv_uuid": "a", "pv_size": "1069547520", "pv_free": "0",
            "pv_tags": "sheaf.device=serial-a,b", "pv_missing": "", "pv_allocatable": "allocatable", "vg_name": "sheaf-fast",
            "vg_uuid": "g1", "vg_tags": "sheaf.node=n1", "vg_extent_size": "4194304", "vg_size": "2139095040",
            "vg_free": "4194304"}]}]}),
        json!({"report": [{"lv": [{"lv_name": "thin", "segtype": "thin-pool", "lv_size": "805306368", "lv_tags": "a,b",
            "origin": "", "lv_active": "active", "lv_device_open": "open", "data_percent": "12.50", "metadata_percent": "10.16",
            "lv_metadata_size": "67108864", "copy_percent": "41.67", "move_pv": "/dev/sdb", "lv_health_status": ""}]}]}),
    ]
}

#[test]
fn what_a_disk_says_of_itself_is_read_or_refused() {
    let reports = reports();
    fuzz("reports about disks", |random| {
        let which = random.below(reports.len());
        let mut report = reports[which].clone();
        change(random, &mut report, 3);
        let mut bytes = report.to_string().into_bytes();
        if random.once_in(4) {
            random.change(&mut bytes, &["\"", "\\u0000", "}", ","]);
        }
        match which {
            0 => block::parse_devices(&bytes).is_ok_and(|devices| {
                devices.iter().for_each(|device| drop(device.uses()));
                true
            }),
            1 => block::parse_signatures(&bytes).is_ok(),
            2 => smart::parse(&bytes) != smart::Health::default(),
            3 => report::groups(&bytes).is_ok(),
            _ => report::volumes(&bytes).is_ok(),
        }
    });
}
