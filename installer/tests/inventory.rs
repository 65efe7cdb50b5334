//! What a machine has, from what lsblk says of it.

use sheaf_config::node::Bus;
use sheaf_host::fakes::FakeRun;
use sheaf_installer::inventory::{self, Inventory, Reserved};
use std::path::Path;

mod common;

/// A machine with `disks`, as `lsblk --json -b -O` lists them.
fn probed(disks: &str, reserved: Reserved<'_>) -> Inventory {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("sys/class/net")).unwrap();
    std::fs::create_dir_all(root.path().join("proc")).unwrap();
    std::fs::write(root.path().join("proc/meminfo"), "MemTotal: 2048 kB\n").unwrap();
    let run =
        FakeRun::default().prints("lsblk", &format!("{{\"blockdevices\": [{disks}]}}")).prints("wipefs", "");
    inventory::probe(&run, root.path(), reserved).unwrap()
}

fn lsblk(path: &str, rest: &str) -> String {
    format!("{{\"path\":\"{path}\", \"type\":\"disk\", \"size\":16000000000, \"log-sec\":512{rest}}}")
}

#[test]
fn disks_are_known_by_how_they_are_attached() {
    let cases = [
        ("/dev/nvme0n1", ", \"tran\":\"nvme\"", Some(Bus::Nvme)),
        ("/dev/sda", ", \"tran\":\"sata\", \"hctl\":\"0:0:0:0\"", Some(Bus::Sata)),
        ("/dev/sdb", ", \"tran\":\"sas\", \"hctl\":\"1:0:0:0\"", Some(Bus::Sas)),
        ("/dev/sdc", ", \"tran\":null, \"hctl\":\"2:0:0:0\"", Some(Bus::Scsi)),
        ("/dev/sdd", ", \"tran\":\"usb\", \"hctl\":\"3:0:0:0\"", Some(Bus::Usb)),
        ("/dev/vda", ", \"tran\":\"virtio\"", Some(Bus::Virtio)),
        ("/dev/mmcblk0", "", None),
    ];
    for (path, rest, bus) in cases {
        let machine = probed(&lsblk(path, rest), Reserved::default());
        assert_eq!(machine.disks[0].bus, bus, "{path}");
    }
}

#[test]
fn what_is_no_disk_to_install_on_is_left_out() {
    let others = ["/dev/zram0", "/dev/ram0", "/dev/fd0", "/dev/mmcblk0boot0"].map(|path| lsblk(path, ""));
    let rom = "{\"path\":\"/dev/sr0\", \"type\":\"rom\", \"size\":1000}".to_owned();
    let empty = "{\"path\":\"/dev/sde\", \"type\":\"disk\", \"size\":0}".to_owned();
    let all = [&others[..], &[rom, empty, lsblk("/dev/vda", "")]].concat().join(",");
    let machine = probed(&all, Reserved::default());
    assert_eq!(
        machine.disks.iter().map(|disk| disk.path.as_path()).collect::<Vec<_>>(),
        [Path::new("/dev/vda")]
    );
}

#[test]
fn secure_boot_is_on_when_the_firmware_says_1() {
    let variable = |bytes: Option<&[u8]>| {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/class/net")).unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/meminfo"), "").unwrap();
        let folder = root.path().join("sys/firmware/efi/efivars");
        std::fs::create_dir_all(&folder).unwrap();
        if let Some(bytes) = bytes {
            std::fs::write(folder.join("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"), bytes).unwrap();
        }
        let run = FakeRun::default().prints("lsblk", "{\"blockdevices\": []}");
        inventory::probe(&run, root.path(), Reserved::default()).unwrap().secure_boot
    };
    assert!(variable(Some(&[6, 0, 0, 0, 1])));
    assert!(!variable(Some(&[6, 0, 0, 0, 0])));
    assert!(!variable(None));
}

#[test]
fn a_blank_serial_is_none() {
    let machine = probed(&lsblk("/dev/vda", ", \"serial\":\"  \", \"model\":\"X \""), Reserved::default());
    assert_eq!((machine.disks[0].serial.as_deref(), machine.disks[0].model.as_deref()), (None, Some("X")));
}

#[test]
fn disks_in_use_say_by_whom() {
    let member = ", \"children\":[{\"path\":\"/dev/md0\", \"type\":\"raid1\", \"mountpoints\":[\"/srv\"]}]";
    let machine = probed(&lsblk("/dev/sda", member), Reserved::default());
    assert_eq!(
        machine.disks[0].uses,
        ["/dev/sda belongs to /dev/md0 (raid1)", "/dev/md0 is mounted at /srv"]
    );
    let drive = lsblk("/dev/sdb", ", \"children\":[{\"path\":\"/dev/sdb1\", \"type\":\"part\"}]");
    let reserved = Reserved { medium: None, config: Some(Path::new("/dev/sdb1")) };
    assert_eq!(probed(&drive, reserved).disks[0].uses, ["this installation's node.toml is on it"]);
    let reserved = Reserved { medium: Some(Path::new("/dev/sdb1")), config: None };
    assert!(probed(&drive, reserved).disks[0].is_medium);
}

/// Partitions of an older install of ours; `number` may be changed to break the pattern.
fn table(second_uuid: &str) -> String {
    let part = |n: u32, name: &str, uuid: &str| {
        format!(
            "{{\"path\":\"/dev/vda{n}\", \"type\":\"part\", \"partn\":{n}, \"start\":{}, \"size\":1048576, \
             \"partlabel\":\"{name}\", \"parttype\":\"0fc63daf-8483-4772-8e79-3d69d8477de4\", \"partuuid\":\"{uuid}\"}}",
            n * 2048
        )
    };
    let children = [part(1, "bios", "6b1f7a3e-93c2-4d55-8f10-012345678901"), part(2, "esp", second_uuid)];
    let rest = format!(
        ", \"ptuuid\":\"6b1f7a3e-93c2-4d55-8f10-012345678900\", \"children\":[{}]",
        children.join(",")
    );
    lsblk("/dev/vda", &rest)
}

#[test]
fn an_older_install_of_ours_is_known_by_the_pattern_of_its_uuids() {
    let ours = probed(&table("6b1f7a3e-93c2-4d55-8f10-012345678902"), Reserved::default());
    let older = ours.disks[0].older.as_ref().unwrap();
    assert_eq!(older.id.to_string(), "6b1f7a3e-93c2-4d55-8f10-012345678900");
    assert_eq!((older.partitions[1].name.as_str(), older.partitions[1].offset), ("esp", 2 << 20));
    let foreign = probed(&table("6b1f7a3e-93c2-4d55-8f10-0123456789aa"), Reserved::default());
    assert_eq!(foreign.disks[0].older, None);
}

#[test]
fn nics_are_known_by_mac_and_by_their_place_on_the_bus() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/meminfo", "MemTotal: 2048 kB\n");
    write("sys/class/net/enp1s0/device/x", "");
    for (file, text) in
        [("type", "1"), ("addr_assign_type", "0"), ("address", "52:54:00:00:00:01"), ("ifindex", "2")]
    {
        write(&format!("sys/class/net/enp1s0/{file}"), text);
    }
    write("run/udev/data/n2", "E:ID_PATH=pci-0000:01:00.0\n");
    let run = FakeRun::default().prints("lsblk", "{\"blockdevices\": []}");
    let inventory = inventory::probe(&run, root.path(), Reserved::default()).unwrap();
    let nic = &inventory.nics[0];
    assert_eq!(
        (nic.permanent_mac.as_deref(), nic.path.as_deref()),
        (Some("52:54:00:00:00:01"), Some("pci-0000:01:00.0"))
    );
    let shown = inventory::Shown(&inventory).to_string();
    assert!(shown.contains("NIC enp1s0  mac 52:54:00:00:00:01, path pci-0000:01:00.0, driver"), "{shown}");
}
