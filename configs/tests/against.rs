//! A config against a machine: what is meant, and each thing that does not fit, with its line.

use sheaf_config::against;
use sheaf_config::inventory::{Disk, Firmware, Inventory, Nic, Signature};
use sheaf_config::load::parse_config_file;
use sheaf_config::node::{Bus, Identity};

fn disk(name: &str, serial: Option<&str>, holds: &[&str]) -> Disk {
    let signature =
        |kind: &&str| Signature { device: format!("/dev/{name}").into(), offset: 0, kind: (*kind).into() };
    Disk {
        path: format!("/dev/{name}").into(),
        links: Vec::new(),
        number: None,
        sequence: None,
        serial: serial.map(Into::into),
        wwn: None,
        model: None,
        bus: Some(Bus::Nvme),
        size: 960_000_000_000,
        sector_size: 512,
        read_only: false,
        removable: false,
        is_medium: false,
        uses: Vec::new(),
        signatures: holds.iter().map(signature).collect(),
        unreadable: None,
        older: None,
    }
}

fn machine() -> Inventory {
    let nic = |name: &str, mac: &str| Nic {
        name: name.into(),
        permanent_mac: Some(mac.into()),
        path: Some(format!("pci-0000:0{}:00.0", &name[3..4])),
        ..Nic::default()
    };
    Inventory {
        machine: Identity { serial: Some("M1".into()), uuid: None, macs: vec!["52:54:00:00:00:01".into()] },
        firmware: Firmware::Uefi,
        secure_boot: false,
        memory: 0,
        disks: vec![
            disk("nvme0n1", Some("A"), &[]),
            disk("nvme1n1", Some("B"), &["LVM2_member"]),
            disk("nvme2n1", None, &[]),
        ],
        nics: vec![nic("enp1s0", "52:54:00:00:00:01"), nic("enp2s0", "52:54:00:00:00:02")],
    }
}

fn said(text: &str) -> String {
    let file = parse_config_file("node.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    match against::check(&file, text, &machine()) {
        Ok((config, found)) => format!("{}\n{}", config.system.hostname, found.join("\n")),
        Err(errors) => errors.to_string(),
    }
}

const BRIDGE: &str = "[[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\n";

#[test]
fn disks_and_nics_that_are_meant_are_named() {
    let text = format!(
        "version = 1\nsystem.hostname = \"n-{{serial}}\"\n[install]\ndisk = {{ serial = \"A\" }}\n\
         data-disks = [{{ serial = \"B\", wipe = \"B\" }}]\n[[network.nic]]\nname = \"up\"\npath = \"pci-0000:02:00.0\"\n\
         dhcp = true\n{BRIDGE}[[storage.pool]]\nname = \"p\"\ndisks = [{{ serial = \"B\" }}]\n"
    );
    assert_eq!(
        said(&text),
        "n-m1\ninstall.disk: /dev/nvme0n1 960.0 GB nvme serial A\n\
         install.data-disks[0]: /dev/nvme1n1 960.0 GB nvme serial B\n\
         storage.pool[0].disks[0]: /dev/nvme1n1 960.0 GB nvme serial B\n\
         network.nic[0]: enp2s0 (52:54:00:00:00:02)\n\
         network.bridge[0].ports: \"enp1s0\" is enp1s0 (52:54:00:00:00:01)"
    );
}

#[test]
fn a_selector_that_fits_several_disks_or_none_lists_them() {
    let config = |selector: &str| {
        format!("version = 1\nsystem.hostname = \"a\"\ninstall.disk = {{ {selector} }}\n{BRIDGE}")
    };
    let several = said(&config("bus = \"nvme\""));
    assert!(
        several.starts_with("node.toml:3: install.disk: 3 disks have bus = \"nvme\"; there are /dev/nvme0n1"),
        "{several}"
    );
    let none = said(&config("serial = \"Z\""));
    assert!(none.contains("no disk has serial = \"Z\"") && none.contains("(its serial is A)"), "{none}");
}

#[test]
fn contents_are_erased_by_serial_only() {
    let config = |rest: &str| format!("version = 1\nsystem.hostname = \"a\"\n[install]\n{rest}\n{BRIDGE}");
    assert_eq!(
        said(&config("disk = { serial = \"B\" }")),
        "node.toml:3: install: /dev/nvme1n1 960.0 GB nvme serial B holds data (LVM2_member); \
         if that may be lost, write wipe = \"B\""
    );
    let other = said(&config("disk = { min-size = \"1GB\", serial = \"B\" }\nwipe = \"B\""));
    assert!(other.starts_with("a\n"), "{other}");
    let keep = said(&config("disk = { serial = \"A\" }\nreinstall = \"keep-data\""));
    assert!(keep.contains("holds no installation of Sheaf to keep data of"), "{keep}");
}

#[test]
fn a_nic_that_is_not_there_is_said_with_those_that_are() {
    let text =
        "version = 1\nsystem.hostname = \"a\"\n[[network.bridge]]\nname = \"br0\"\nports = [\"enp9s0\"]\n";
    assert_eq!(
        said(text),
        "node.toml:5: network.bridge[0].ports: no NIC is \"enp9s0\"; there are enp1s0 (52:54:00:00:00:01), \
         enp2s0 (52:54:00:00:00:02); write the MAC of one of them"
    );
    let text = "version = 1\nsystem.hostname = \"a\"\n";
    assert!(said(text).contains("names no NIC, and there are enp1s0"), "{}", said(text));
}

#[test]
fn the_machine_s_own_part_of_a_fleet_is_taken_and_its_lines_are_named() {
    let text = "version = 1\nsystem.hostname = \"n-{serial}\"\n[[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\n\
                [[node]]\nmatch = { serial = \"M2\" }\n[[node]]\nmatch = { mac = \"52:54:00:00:00:01\" }\n\
                system.hostname = \"first\"\ninstall.disk = { serial = \"Z\" }\n";
    let refused = said(text);
    assert!(
        refused.starts_with("node.toml:11: node[1].install.disk: no disk has serial = \"Z\""),
        "{refused}"
    );
    let found = said(&text.replace("\"Z\"", "\"A\""));
    assert!(found.starts_with("first\ninstall.disk: /dev/nvme0n1"), "{found}");
    let none = said(&text.replace("00:01", "00:09"));
    assert_eq!(
        none,
        "node.toml: file: no [[node]] matches this machine (serial \"M1\", no uuid, mac 52:54:00:00:00:01); there are \
         serial \"M2\" (line 6), mac \"52:54:00:00:00:09\" (line 8); add one with a match that this machine has"
    );
    let several = said(&text.replace("M2", "M1"));
    assert!(several.contains("several [[node]] match this machine"), "{several}");
}
