//! The harness itself, on the smallest machine there is.

use sheaf_machine::spec::Lan;
use sheaf_machine::{Disk, Firmware, Spec, Switch};
use sheaf_tests::harness::{case, field};
use std::path::Path;
use std::time::Duration;

/// SeaBIOS, GRUB and a kernel under emulation: some 10 s.
const BOOT: Duration = Duration::from_secs(120);

fn guest(name: &str, disk: &Path) -> Spec {
    let disks = vec![Disk::raw(disk, "GUEST")];
    Spec { firmware: Firmware::Bios, memory: 256, cpus: 1, disks, ..Spec::new(name, "") }
}

#[test]
fn a_restored_machine_goes_on_where_it_was_saved() {
    case("restore", |case| {
        let spec = guest("saved", &case.own_guest_disk()?);
        let mut machine = case.start(&spec)?;
        let up = machine.wait_for("guest: up", BOOT)?;
        let state = case.work().join("state");
        machine.save(&state)?;

        let mut restored = case.start(&Spec { restore: Some(state), ..spec })?;
        let alive = restored.wait_for("guest: alive", BOOT)?;
        assert_eq!(field(&alive, "boot-id"), field(&up, "boot-id"));
        restored.press_power()?;
        restored.wait_off(BOOT)?;
        Ok(())
    });
}

#[test]
fn two_machines_share_a_lan_and_its_addresses() {
    case("lan", |case| {
        let disk = case.own_guest_disk()?;
        let other = case.work().join("other.raw");
        std::fs::copy(&disk, &other)?;
        let switch = Switch::start()?;
        let mut first = case.start(&Spec { lan: Lan::Gateway(switch.socket()), ..guest("first", &disk) })?;
        let first_ip = field(&first.wait_for("guest: up", BOOT)?, "ip");
        let cable = Spec {
            lan: Lan::Cable(switch.socket()),
            mac: "52:54:00:5e:af:02".into(),
            ..guest("second", &other)
        };
        let mut second = case.start(&cable)?;
        let second_ip = field(&second.wait_for("guest: up", BOOT)?, "ip");
        assert!(
            first_ip.starts_with("10.0.2.") && second_ip.starts_with("10.0.2."),
            "{first_ip} {second_ip}"
        );
        assert_ne!(first_ip, second_ip);
        Ok(())
    });
}
