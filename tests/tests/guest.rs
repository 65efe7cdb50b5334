//! The guest disk alone: what cases expect of a VM must hold before a node runs one.

use sheaf_machine::{Disk, Firmware, Spec};
use sheaf_tests::harness::{case, field};
use std::time::Duration;

/// SeaBIOS, GRUB and a kernel under emulation: some 10 s.
const BOOT: Duration = Duration::from_secs(120);

fn spec(disk: &std::path::Path) -> Spec {
    let disks = vec![Disk::raw(disk, "GUEST")];
    Spec { firmware: Firmware::Bios, memory: 256, cpus: 1, disks, ..Spec::new("guest", "") }
}

#[test]
fn the_guest_says_who_it_is_stops_at_the_power_button_and_remembers_its_boots() {
    case("guest", |case| {
        let disk = case.own_guest_disk()?;
        let mut machine = case.start(&spec(&disk))?;
        let up = machine.wait_for("guest: up", BOOT)?;
        assert_eq!(field(&up, "boots"), "1", "{up}");
        assert_eq!(field(&up, "ip"), "10.0.2.15", "{up}");
        assert_eq!(field(&up, "boot-id").len(), 36, "{up}");
        let alive = machine.wait_for("guest: alive", BOOT)?;
        assert_eq!(field(&alive, "boot-id"), field(&up, "boot-id"));
        machine.press_power()?;
        machine.wait_for("guest: stopped", BOOT)?;
        machine.wait_off(BOOT)?;

        let mut machine = case.start(&spec(&disk))?;
        let again = machine.wait_for("guest: up", BOOT)?;
        assert_eq!(field(&again, "boots"), "2", "{again}");
        assert_ne!(field(&again, "boot-id"), field(&up, "boot-id"));
        Ok(())
    });
}

#[test]
fn the_guest_takes_its_name_and_its_keys_from_a_nocloud_seed() {
    case("guest-seed", |case| {
        let user_data = "#cloud-config\nhostname: wheat\nssh_authorized_keys:\n  - ssh-ed25519 AAAA me\n";
        let seed = case.seed("instance-id: i-7\n", user_data)?;
        let mut spec = spec(&case.own_guest_disk()?);
        spec.disks.push(Disk::raw(&seed, "SEED"));
        let mut machine = case.start(&spec)?;
        let up = machine.wait_for("guest: up", BOOT)?;
        assert_eq!(field(&up, "hostname"), "wheat", "{up}");
        assert_eq!(field(&up, "instance-id"), "i-7", "{up}");
        assert_eq!(field(&up, "keys"), "1", "{up}");
        Ok(())
    });
}
