//! Every rule of the plan, and what it says when the rule is broken, in tests/plan/*.txt.
//! `UPDATE=1 cargo test -p sheaf-installer --test plan` writes the files again; read the difference.

mod common;

use common::{ID, Release, config, disk, machine, nic, signature};
use sheaf_config::load::parse_node_config;
use sheaf_config::manifest::Manifest;
use sheaf_config::node::{Bus, NodeConfig};
use sheaf_installer::inventory::{Firmware, Inventory};
use sheaf_installer::plan::{ReleaseContents, plan};
use std::collections::BTreeMap;
use std::path::Path;

/// A machine and its config; the release is the same but for what a case breaks.
struct Case {
    config: NodeConfig,
    machine: Inventory,
    manifest: Manifest,
}

fn manifest() -> Manifest {
    // Made once: the payload itself does not matter here.
    static MANIFEST: std::sync::OnceLock<Manifest> = std::sync::OnceLock::new();
    MANIFEST.get_or_init(|| Release::new().manifest.clone()).clone()
}

/// Compares what planning `case` says with `tests/plan/NAME.txt`.
fn says(name: &str, change: impl FnOnce(&mut Case)) {
    let mut case = Case { config: config(""), machine: machine(), manifest: manifest() };
    change(&mut case);
    let images = BTreeMap::from([("guest.raw".to_owned(), 2_000_000)]);
    let contents = ReleaseContents { manifest: &case.manifest, images: &images };
    let said = match plan(&case.config, &case.machine, contents, ID) {
        Ok(plan) => plan.to_string(),
        Err(errors) => format!("{errors}\n"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &said).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, expected, "{}", path.display());
}

fn with_disk_selector(selector: &str) -> NodeConfig {
    let text = format!("version = 1\nsystem.hostname = \"node-1\"\n[install]\ndisk = {{ {selector} }}\n");
    parse_node_config("node.toml", &text).unwrap()
}

fn with_bridges(bridges: &str) -> NodeConfig {
    config(bridges)
}

#[test]
fn one_empty_disk_is_installed_on() {
    says("empty-disk", |_| ());
}

#[test]
fn a_disk_whose_serial_is_named_twice_is_erased_and_every_old_signature_with_it() {
    says("wiped-disk", |case| {
        case.config = config("wipe = \"A\"\nthen = \"power-off\"\n");
        case.machine.disks[0].signatures = vec![
            signature("/dev/vda", 512, "gpt"),
            signature("/dev/vda1", 5_000_000_512, "LVM2_member"),
            signature("/dev/vda", 15_999_999_488, "gpt"),
        ];
    });
}

#[test]
fn images_of_the_medium_are_put_on_data() {
    says("medium-image", |case| {
        let sha256 = "ab".repeat(32);
        let image =
            format!("[[image]]\nname = \"guest\"\nurl = \"medium:guest.raw\"\nsha256 = \"{sha256}\"\n");
        case.config = config(&image);
    });
}

#[test]
fn sectors_of_4096_bytes_are_fine() {
    says("sectors-of-4096", |case| case.machine.disks[0].sector_size = 4096);
}

#[test]
fn without_an_install_section_no_disk_is_touched() {
    says("no-install", |case| {
        let text = "version = 1\nsystem.hostname = \"node-1\"\n";
        case.config = parse_node_config("node.toml", text).unwrap();
    });
}

#[test]
fn a_selector_that_fits_no_disk_lists_them_all_with_reasons() {
    says("no-disk-fits", |case| {
        case.config = with_disk_selector(
            "serial = \"Z\", wwn = \"naa.5000c500a1b2c3d4\", bus = \"nvme\", min-size = \"1TB\", path = \"/dev/sdx\"",
        );
        let mut sata = disk("sda", "B");
        sata.wwn = Some("0x5000c500a1b2c3d4".into());
        sata.bus = Some(Bus::Sata);
        sata.size = 2_000_398_934_016;
        let mut unnamed = disk("sdb", "");
        (unnamed.serial, unnamed.model, unnamed.bus) = (None, None, None);
        case.machine.disks.extend([sata, unnamed]);
    });
}

#[test]
fn a_selector_that_fits_two_disks_names_both() {
    says("two-disks-fit", |case| {
        case.config = with_disk_selector("bus = \"virtio\", max-size = \"20GB\"");
        let mut large = disk("vdc", "C");
        large.size = 32_000_000_000;
        case.machine.disks.extend([disk("vdb", "B"), large]);
    });
}

#[test]
fn a_disk_that_can_not_be_used_still_makes_a_selector_ambiguous() {
    says("two-disks-fit-one-read-only", |case| {
        case.config = with_disk_selector("model = \"QEMU\"");
        let mut other = disk("vdb", "B");
        other.read_only = true;
        case.machine.disks.push(other);
    });
}

#[test]
fn the_medium_is_never_the_disk() {
    says("only-the-medium-fits", |case| {
        case.config = with_disk_selector("bus = \"usb\"");
        let mut stick = disk("sda", "STICK");
        (stick.bus, stick.is_medium) = (Some(Bus::Usb), true);
        case.machine.disks.push(stick);
    });
}

#[test]
fn a_stable_path_selects_like_a_serial() {
    says("by-path", |case| {
        case.config = with_disk_selector("path = \"/dev/disk/by-id/virtio-A\"");
        case.machine.disks.push(disk("vdb", "B"));
    });
}

#[test]
fn a_disk_with_data_is_refused_with_what_to_write() {
    says("holds-data", |case| {
        case.machine.disks[0].signatures =
            vec![signature("/dev/vda", 512, "gpt"), signature("/dev/vda2", 2_097_152, "ext4")];
    });
}

#[test]
fn a_disk_with_data_and_without_serial_can_not_be_named_to_be_wiped() {
    says("holds-data-no-serial", |case| {
        case.config = with_disk_selector("path = \"/dev/vda\"");
        case.machine.disks[0].serial = None;
        case.machine.disks[0].signatures = vec![signature("/dev/vda", 512, "gpt")];
    });
}

#[test]
fn wipe_with_another_serial_is_refused_even_on_an_empty_disk() {
    says("wipe-another-serial", |case| {
        let text = "version = 1\nsystem.hostname = \"node-1\"\n[install]\nwipe = \"B\"\ndisk = { bus = \"virtio\" }\n";
        case.config = parse_node_config("node.toml", text).unwrap();
    });
}

#[test]
fn a_disk_in_use_read_only_and_unreadable_is_refused_for_each_reason() {
    says("unusable-disk", |case| {
        let disk = &mut case.machine.disks[0];
        disk.read_only = true;
        disk.uses = vec!["/dev/vda1 is mounted at /mnt".into(), "/dev/vda2 is swapped to".into()];
        disk.unreadable = Some("wipefs --json /dev/vda: exit status: 1".into());
    });
}

#[test]
fn a_disk_too_small_is_refused() {
    says("too-small", |case| case.machine.disks[0].size = 15_999_999_488);
}

#[test]
fn sectors_of_another_size_are_refused() {
    says("odd-sectors", |case| case.machine.disks[0].sector_size = 520);
}

#[test]
fn an_empty_disk_without_a_serial_is_taken_by_its_path() {
    says("no-serial-empty", |case| {
        case.config = with_disk_selector("path = \"/dev/disk/by-path/pci-0000:00:05.0\"");
        let mut unnamed = disk("sda", "");
        (unnamed.serial, unnamed.bus) = (None, Some(Bus::Sata));
        unnamed.links = vec!["/dev/disk/by-path/pci-0000:00:05.0".into()];
        case.machine.disks.push(unnamed);
    });
}

/// Four disks in no order: A on virtio, two clones with one serial, one without.
fn shuffled(case: &mut Case) {
    let (mut first, mut second) = (disk("sda", "TWIN"), disk("sdb", "TWIN"));
    (first.bus, second.bus) = (Some(Bus::Sas), Some(Bus::Sas));
    (first.wwn, second.wwn) = (Some("0x5000c500a1b2c3d4".into()), Some("0x5000c500a1b2c3d5".into()));
    let mut unnamed = disk("nvme0n1", "");
    (unnamed.serial, unnamed.bus) = (None, Some(Bus::Nvme));
    let disks = &mut case.machine.disks;
    disks.insert(0, second);
    disks.insert(0, unnamed);
    disks.push(first);
}

#[test]
fn a_serial_that_two_disks_have_names_neither() {
    says("twins", |case| {
        shuffled(case);
        case.config = with_disk_selector("serial = \"TWIN\"");
    });
}

#[test]
fn an_empty_twin_is_taken_by_its_wwn() {
    says("twin-by-wwn", |case| {
        shuffled(case);
        case.config = with_disk_selector("wwn = \"naa.5000c500a1b2c3d5\"");
    });
}

#[test]
fn a_twin_with_data_is_not_wiped_by_a_serial_that_another_disk_has_too() {
    says("twin-holds-data", |case| {
        shuffled(case);
        let text = "version = 1\nsystem.hostname = \"node-1\"\n\
                    [install]\ndisk = { wwn = \"0x5000c500a1b2c3d5\" }\nwipe = \"TWIN\"\n";
        case.config = parse_node_config("node.toml", text).unwrap();
        case.machine.disks[1].signatures = vec![signature("/dev/sdb", 0, "zfs_member")];
    });
}

#[test]
fn every_disk_is_listed_with_what_is_known_of_it() {
    says("shuffled", |case| {
        shuffled(case);
        case.config = with_disk_selector("model = \"OTHER\"");
    });
}

#[test]
fn an_older_install_of_ours_is_data_like_any_other() {
    says("older-install", |case| {
        case.machine.disks[0].older = Some(common::older(common::SIZE));
        case.machine.disks[0].signatures = vec![signature("/dev/vda", 512, "gpt")];
    });
}

/// The machine has an older install of ours on its disk.
fn with_older_install(case: &mut Case) {
    let older = common::older(common::SIZE);
    let place = |name: &str| older.partitions.iter().find(|p| p.name == name).unwrap().offset;
    case.machine.disks[0].signatures = vec![
        signature("/dev/vda", 512, "gpt"),
        signature("/dev/vda2", place("esp"), "vfat"),
        signature("/dev/vda9", place("state") + 0x438, "ext4"),
        signature("/dev/vda11", place("pool") + 0x218, "LVM2_member"),
        signature("/dev/vda10", place("data") + 0x438, "ext4"),
    ];
    case.machine.disks[0].older = Some(older);
    case.config = config("reinstall = \"keep-data\"\n");
}

#[test]
fn the_data_of_an_older_install_is_kept_with_its_table_and_its_uuid() {
    says("keep-data", with_older_install);
    // As tables were before there were pools.
    says("keep-data-no-pool", |case| {
        with_older_install(case);
        let partitions = &mut case.machine.disks[0].older.as_mut().unwrap().partitions;
        let pool = partitions.pop().unwrap();
        partitions.last_mut().unwrap().size += pool.size;
        case.machine.disks[0].signatures.retain(|found| found.kind != "LVM2_member");
    });
}

#[test]
fn keeping_data_needs_an_older_install_of_the_same_layout_with_data_on_it() {
    says("keep-data-none", |case| {
        with_older_install(case);
        case.machine.disks[0].older = None;
    });
    says("keep-data-other-layout", |case| {
        with_older_install(case);
        case.machine.disks[0].older.as_mut().unwrap().partitions[4].size *= 2;
    });
    says("keep-data-fewer-partitions", |case| {
        with_older_install(case);
        case.machine.disks[0].older.as_mut().unwrap().partitions.truncate(9);
    });
    says("keep-data-no-file-system", |case| {
        with_older_install(case);
        case.machine.disks[0].signatures.pop();
    });
    says("keep-data-medium-image", |case| {
        with_older_install(case);
        let sha256 = "ab".repeat(32);
        case.config = config(&format!(
            "reinstall = \"keep-data\"\n[[image]]\nname = \"guest\"\nurl = \"medium:guest.raw\"\nsha256 = \"{sha256}\"\n"
        ));
    });
}

#[test]
fn data_disks_are_emptied_by_their_own_proof() {
    says("data-disks", |case| {
        let mut full = disk("vdb", "B");
        full.signatures = vec![signature("/dev/vdb", 536, "LVM2_member")];
        case.machine.disks.extend([full, disk("vdc", "C")]);
        case.config = config("data-disks = [{ serial = \"B\", wipe = \"B\" }, { serial = \"C\" }]\n");
    });
    says("data-disks-refused", |case| {
        let mut full = disk("vdb", "B");
        full.signatures = vec![signature("/dev/vdb", 536, "LVM2_member")];
        case.machine.disks.extend([full, disk("vdc", "C")]);
        case.config = config(
            "data-disks = [{ serial = \"B\" }, { path = \"/dev/vda\" }, { path = \"/dev/vdc\" }, \
             { path = \"/dev/disk/by-id/virtio-C\" }, { serial = \"Z\" }]\n",
        );
    });
}

#[test]
fn partitions_of_sizes_that_leave_no_room_are_refused() {
    says("state-size", |case| case.config = config("state-size = \"3GiB\"\n"));
    says("state-too-large", |case| case.config = config("state-size = \"8GiB\"\n"));
    says("data-size", |case| case.config = config("data-size = \"1536MiB\"\n"));
    says("data-too-large", |case| case.config = config("data-size = \"8GiB\"\n"));
}

#[test]
fn bonds_vlans_and_named_nics_lead_to_nics_of_the_machine() {
    let links = "[[network.nic]]\nname = \"uplink\"\npath = \"pci-0000:01:00.0\"\n\
                 [[network.bond]]\nname = \"bond0\"\nports = [\"uplink\", \"52:54:00:00:00:02\"]\n\
                 [[network.vlan]]\nname = \"mgmt\"\nid = 20\nparent = \"bond0\"\n\
                 [[network.bridge]]\nname = \"br0\"\nports = [\"mgmt\"]\n";
    says("bond-and-vlan", |case| {
        case.machine.nics[0].path = Some("pci-0000:01:00.0".into());
        case.machine.nics.push(nic("enp2s0", "52:54:00:00:00:02"));
        case.config = with_bridges(links);
    });
    says("bond-without-nics", |case| case.config = with_bridges(links));
}

#[test]
fn kernel_arguments_go_beside_the_uki_and_may_not_be_longer_than_the_kernel_takes() {
    let with = |arguments: &str| {
        let text = format!(
            "version = 1\n[system]\nhostname = \"node-1\"\nkernel-arguments = [{arguments}]\n\
             [install]\ndisk = {{ serial = \"A\" }}\n"
        );
        parse_node_config("node.toml", &text).unwrap()
    };
    says("kernel-arguments", |case| case.config = with("\"intel_iommu=on\", \"hugepages=64\""));
    says("kernel-arguments-too-long", |case| {
        let many: Vec<_> = (0..10).map(|n| format!("\"a{n}={}\"", "x".repeat(240))).collect();
        case.config = with(&many.join(", "));
    });
    says("kernel-arguments-secure-boot", |case| {
        case.config = with("\"intel_iommu=on\"");
        case.machine.secure_boot = true;
    });
}

#[test]
fn secure_boot_alone_changes_nothing() {
    says("empty-disk", |case| case.machine.secure_boot = true);
}

#[test]
fn a_machine_without_disks_says_so() {
    says("no-disks", |case| case.machine.disks.clear());
}

#[test]
fn a_bridge_without_ports_needs_exactly_one_nic() {
    says("several-nics", |case| case.machine.nics.push(nic("enp2s0", "52:54:00:00:00:02")));
    says("no-nic", |case| case.machine.nics.clear());
}

#[test]
fn ports_are_found_by_name_and_by_permanent_address() {
    says("ports", |case| {
        case.machine.nics.push(nic("enp2s0", "52:54:00:00:00:02"));
        case.config = with_bridges(
            "[[network.bridge]]\nname = \"br0\"\nports = [\"52:54:00:00:00:02\"]\n\
             [[network.bridge]]\nname = \"br1\"\nports = [\"enp1s0\"]\n",
        );
    });
}

#[test]
fn a_port_that_is_no_nic_and_a_nic_in_two_bridges_are_refused() {
    says("bad-ports", |case| {
        case.config = with_bridges(
            "[[network.bridge]]\nname = \"br0\"\nports = [\"52:54:00:00:00:01\"]\n\
             [[network.bridge]]\nname = \"br1\"\nports = [\"enp1s0\"]\n\
             [[network.bridge]]\nname = \"br2\"\nports = [\"52:54:00:00:00:99\"]\n",
        );
    });
}

#[test]
fn an_image_that_the_medium_lacks_is_named() {
    says("image-missing", |case| {
        let sha256 = "ab".repeat(32);
        let image = format!("[[image]]\nname = \"deb\"\nurl = \"medium:deb.raw\"\nsha256 = \"{sha256}\"\n");
        case.config = config(&image);
    });
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    says("bad-manifest", |case| {
        case.manifest.arch = "riscv64".into();
        case.manifest.version = "1/2".into();
        case.manifest.node_uki.file = "../node.efi".into();
        case.manifest.root.size += 1;
        case.manifest.verity.frames[0].raw_size = 1 << 30;
        case.manifest.verity.raw_size = 1 << 30;
    });
}

#[test]
fn a_release_that_does_not_fit_is_refused_with_sizes() {
    says("release-too-large", |case| {
        let frame = case.manifest.root.frames[0].clone();
        case.manifest.root.frames = vec![frame.clone(); 1025];
        case.manifest.root.size = frame.size * 1025;
        case.manifest.root.raw_size = frame.raw_size * 1025;
        case.manifest.node_uki.size = 800 << 20;
    });
}

#[test]
fn a_machine_without_uefi_gets_the_same_disk_and_no_boot_entry() {
    says("bios", |case| case.machine.firmware = Firmware::Bios);
}

#[test]
fn a_disk_that_no_bios_starts_is_refused_where_there_is_no_uefi() {
    says("bios-sectors-of-4096", |case| {
        case.machine.firmware = Firmware::Bios;
        case.machine.disks[0].sector_size = 4096;
    });
}

#[test]
fn all_reasons_come_at_once() {
    says("everything-wrong", |case| {
        case.machine.nics.clear();
        case.machine.disks[0].read_only = true;
        case.manifest.arch = "riscv64".into();
    });
}
