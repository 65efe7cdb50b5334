//! Whole installations on the screens, key by key, with the machine's part played.

mod common;
mod desk;

use desk::{ADMIN_KEY, CA_HASH, Desk, check, server, small_server};
use sheaf_config::node::{ClusterMode, Then};
use sheaf_installer::progress::Told;
use sheaf_installer::tui::event::{Action, CheckState, Event, Failed};
use sheaf_installer::tui::file::Ready;
use sheaf_installer::tui::key::Key;
use sheaf_installer::tui::pages::Page;

/// From a review to what would be installed.
fn install(desk: &mut Desk) -> Box<Ready> {
    desk.is_at(Page::Review).choose("Install");
    match desk.is_at(Page::Progress).asked() {
        Action::Install(ready) => ready,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_made_on_a_small_server_with_enter_and_three_answers() {
    let mut desk = Desk::at(small_server());
    desk.choose("Create").go_on().is_at(Page::Disk);
    desk.choose("/dev/nvme0n1").go_on().is_at(Page::Network);
    desk.go_on().is_at(Page::Host).fill("Host name", "node-1");
    desk.go_on().is_at(Page::Cluster).go_on().is_at(Page::Access);
    desk.to("Public key").types(ADMIN_KEY).go_on().is_at(Page::Checks);
    desk.network(vec![check("DHCP on enp1s0f0", CheckState::Passed, "192.0.2.10/24", None, false)]);
    desk.go_on();
    let ready = install(&mut desk);
    assert_eq!(ready.config.cluster.as_ref().unwrap().mode, ClusterMode::Create);
    assert_eq!(ready.config.cluster.as_ref().unwrap().admin_keys.len(), 1);
    assert_eq!(ready.config.install.as_ref().unwrap().disk.serial.as_deref(), Some("S6B0NL0W123456"));
    assert_eq!(ready.plan.disk.path.to_str(), Some("/dev/nvme0n1"));
    desk.event(Event::Told(Told::Phase { number: 1, of: 11, what: "check".into() }));
    desk.event(Event::Ended(Ok(())));
    let screen = desk.is_at(Page::End).screen(80, 24);
    assert!(screen.contains("192.0.2.10/24") && screen.contains("on /dev/nvme0n1"), "{screen}");
    desk.choose("Restart");
    assert!(matches!(desk.asked(), Action::Leave(Then::Reboot)));
}

#[test]
fn a_join_with_a_mistake_on_every_page_is_refused_and_corrected_on_each() {
    let mut desk = Desk::at(server());
    desk.choose("Join").go_on().is_at(Page::Disk);
    desk.is_refused("is missing");
    desk.choose("/dev/sda").is_refused("holds data");
    desk.fill("Serial", "9999").is_refused("is not the serial of install.disk");
    desk.fill("Serial", "345").is_refused("is not the serial of install.disk");
    desk.fill("Serial", "2345").fill("Webhook", "inventory.example.org").is_refused("is not a URL");
    desk.fill("Webhook", "https://inventory.example.org/sheaf").go_on().is_at(Page::Network);

    desk.is_refused("");
    desk.choose("enp1s0f0").choose("enp1s0f1").choose("802.3ad").choose("Fixed");
    desk.fill("Address", "192.0.2.12").is_refused("/24");
    desk.fill("Address", "192.0.2.12/24").fill("Gateway", "192.0.3.1");
    desk.is_refused("is in none of");
    desk.fill("Gateway", "192.0.2.1").fill("DNS", "ns1").is_refused("\"ns1\"");
    desk.fill("DNS", "192.0.2.53, 192.0.2.54").fill("VLAN", "4095").is_refused("4095");
    desk.fill("VLAN", "ten").is_refused("must be a whole number");
    desk.fill("VLAN", "110").fill("MTU", "20").is_refused("20");
    desk.fill("MTU", "9000").fill("Time", "ntp_1").is_refused("ntp_1");
    desk.fill("Time", "ntp1.example.org").go_on().is_at(Page::Host);

    desk.is_refused("is missing");
    desk.fill("Host name", "Node_2").is_refused("Node_2");
    desk.fill("Host name", "node-2").go_on().is_at(Page::Cluster);

    desk.is_refused("mode \"join\" needs it");
    desk.fill("Server", "http://192.0.2.10").fill("Token", "abc").fill("CA hash", "sha256:12");
    desk.is_refused("https://");
    desk.fill("Server", "https://192.0.2.10:6443").fill("Token", "abcdef.0123456789abcdef");
    desk.is_refused("sha256:");
    desk.fill("CA hash", CA_HASH).go_on().is_at(Page::Checks);

    let wrong = check("token abcdef.***", CheckState::Failed, "unknown there", Some("make a new one"), true);
    desk.network(vec![wrong]);
    let screen = desk.screen(80, 24);
    assert!(screen.contains("FAILED") && screen.contains("make a new one"), "{screen}");
    desk.press(&[Key::Escape]).is_at(Page::Cluster).fill("Token", "abcdef.fedcba9876543210").go_on();
    desk.network(vec![check("token abcdef.***", CheckState::Passed, "", None, true)]).go_on();

    let ready = install(&mut desk);
    let text = &ready.text;
    for line in [
        "disk = { serial = \"S3Z8NB0K512345\" }",
        "wipe = \"S3Z8NB0K512345\"",
        "[[install.webhook]]\nurl = \"https://inventory.example.org/sheaf\"",
        "mode = \"802.3ad\"",
        "ports = [\"52:54:00:12:34:56\", \"52:54:00:12:34:57\"]",
        "id = 110",
        "parent = \"bond0\"",
        "ports = [\"vlan110\"]",
        "addresses = [\"192.0.2.12/24\"]",
        "dns = [\"192.0.2.53\", \"192.0.2.54\"]",
        "token = \"abcdef.fedcba9876543210\"",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    sheaf_config::load::parse_node_config("node.toml", text).unwrap();
}

#[test]
fn a_control_plane_node_joins_with_the_key_that_was_printed_with_its_token_and_a_worker_is_not_asked_for_it()
{
    const KEY: &str = "6a0c1d2e3f405162738495a6b7c8d9ea0b1c2d3e4f5061728394a5b6c7d8e9fa";
    let mut desk = Desk::at(small_server());
    desk.choose("Join").go_on().choose("/dev/nvme0n1").go_on().go_on().fill("Host name", "node-2").go_on();
    desk.is_at(Page::Cluster)
        .fill("Server", "https://192.0.2.10:6443")
        .fill("Token", "abcdef.0123456789abcdef");
    desk.fill("CA hash", CA_HASH);
    assert!(!desk.screen(80, 24).contains("certificate-key"), "{}", desk.screen(80, 24));
    desk.choose("Control plane").is_refused("is missing, role \"control-plane\" needs it");
    desk.fill("Key", "6a0c").is_refused("is not a key of 64 hex digits");
    // A worker has no such key, and what was typed is not lost.
    desk.choose("Worker");
    assert!(!desk.screen(80, 24).contains("certificate-key"), "{}", desk.screen(80, 24));
    desk.choose("Control plane").fill("Key", KEY).go_on().is_at(Page::Checks);
    desk.network(Vec::new()).go_on().is_at(Page::Review);
    assert!(!desk.screen(120, 200).contains(KEY), "the review shows the key:\n{}", desk.screen(120, 200));
    let ready = install(&mut desk);
    let cluster = sheaf_config::load::parse_node_config("node.toml", &ready.text).unwrap().cluster.unwrap();
    assert_eq!(cluster.role(), sheaf_config::node::Role::ControlPlane);
    assert_eq!(cluster.certificate_key.unwrap().reveal(), KEY);
}

#[test]
fn going_back_and_forth_loses_nothing() {
    let mut desk = Desk::at(small_server());
    desk.choose("Join").go_on().choose("/dev/nvme0n1").choose("power off").go_on();
    desk.choose("Fixed").fill("Address", "192.0.2.12/24").go_on().fill("Host name", "node-2").go_on();
    desk.fill("Server", "https://192.0.2.10:6443").fill("Token", "abcdef.01234");
    for _ in 0..9 {
        desk.press(&[Key::Escape]);
    }
    desk.is_at(Page::Mode);
    let before: Vec<_> = [Page::Mode, Page::Disk, Page::Network, Page::Host]
        .map(|page| {
            let screen = desk.is_at(page).screen(80, 24);
            desk.go_on();
            screen
        })
        .into();
    let cluster = desk.is_at(Page::Cluster).screen(80, 24);
    assert!(before[0].contains("(x) Join") && before[1].contains("(x) power off"), "{}", before[1]);
    assert!(before[2].contains("[192.0.2.12/24_") && before[3].contains("[node-2_"), "{}", before[2]);
    assert!(cluster.contains("[abcdef.01234_") && cluster.contains("[https://192.0.2.10:6443_"), "{cluster}");
}

#[test]
fn a_disk_that_can_not_be_chosen_says_why_and_is_not_taken() {
    let mut desk = Desk::new();
    desk.go_on().is_at(Page::Disk);
    let screen = desk.screen(80, 40);
    assert!(screen.contains("is the install medium"), "{screen}");
    assert!(screen.contains("is in use (/dev/sdb1 is mounted at /mnt)"), "{screen}");
    desk.choose("/dev/sdc").choose("/dev/sdb").is_refused("is missing");
    assert_eq!(desk.state.answers.disk, None);
}

#[test]
fn the_proof_for_one_disk_is_none_for_another() {
    let mut desk = Desk::new();
    desk.go_on().choose("/dev/sda").fill("Serial", "S3Z8NB0K512345");
    desk.choose("/dev/nvme0n1").choose("/dev/sda").is_refused("holds data");
}

#[test]
fn two_disks_with_one_serial_are_told_apart_by_their_place() {
    let mut twins = small_server();
    let mut twin = twins.inventory.disks[0].clone();
    twin.path = "/dev/nvme1n1".into();
    twin.links = vec!["/dev/disk/by-path/pci-0000:02:00.0-nvme-1".into()];
    twins.inventory.disks.push(twin);
    let mut desk = Desk::at(twins);
    desk.choose("Install only").go_on().choose("/dev/nvme1n1").go_on().go_on().fill("Host name", "a").go_on();
    desk.network(Vec::new()).go_on();
    let ready = install(&mut desk);
    assert_eq!(ready.plan.disk.path.to_str(), Some("/dev/nvme1n1"));
    assert!(ready.text.contains("path = \"/dev/disk/by-path/pci-0000:02:00.0-nvme-1\""), "{}", ready.text);
}

#[test]
fn a_node_without_a_cluster_is_not_asked_about_one() {
    let mut desk = Desk::at(small_server());
    desk.choose("Install only").go_on().choose("/dev/nvme0n1").go_on().go_on().fill("Host name", "a").go_on();
    desk.is_at(Page::Checks).network(Vec::new()).go_on();
    assert_eq!(install(&mut desk).config.cluster, None);
}

#[test]
fn a_token_is_never_shown_after_its_page_and_is_written_to_the_stick() {
    let mut desk = Desk::at(small_server());
    desk.go_on().choose("/dev/nvme0n1").go_on().go_on().fill("Host name", "a").go_on();
    desk.fill("Token", "abcdef.0123456789abcdef").go_on().go_on();
    desk.network(Vec::new()).go_on().is_at(Page::Review);
    for _ in 0..40 {
        let screen = desk.screen(80, 24);
        assert!(!screen.contains("0123456789abcdef"), "{screen}");
        desk.press(&[Key::Down]);
    }
    desk.choose("Save");
    let Action::Save { name, text } = desk.asked() else { panic!() };
    assert!(name == "node.toml" && text.contains("token = \"abcdef.0123456789abcdef\""), "{text}");
    desk.event(Event::Saved(Ok("node.toml on /dev/sdd1".into())));
    assert!(desk.screen(80, 24).contains("Saved as node.toml on /dev/sdd1."));
}

#[test]
fn results_of_checks_that_were_left_are_not_taken_for_those_of_the_present_answers() {
    let mut desk = Desk::at(small_server());
    desk.choose("Install only").go_on().choose("/dev/nvme0n1").go_on().go_on().fill("Host name", "a").go_on();
    let Action::TryNetwork { run, .. } = desk.asked() else { panic!() };
    desk.press(&[Key::Escape]).is_at(Page::Host).go_on().is_at(Page::Checks);
    let old = vec![check("cable in enp1s0f0", CheckState::Failed, "", None, true)];
    desk.event(Event::Checks { run, checks: old, done: true });
    assert!(!desk.screen(80, 24).contains("FAILED"));
    desk.network(vec![check("cable in enp1s0f0", CheckState::Passed, "", None, true)]);
    assert!(desk.screen(80, 24).contains("ok       cable in enp1s0f0"), "{}", desk.screen(80, 24));
}

#[test]
fn a_failure_shows_reason_remedy_and_log_and_starting_over_looks_at_the_machine_anew() {
    let mut desk = Desk::at(server());
    desk.choose("Install only").go_on().choose("/dev/sda").fill("Serial", "S3Z8NB0K512345").go_on();
    desk.choose("enp1s0f0").go_on().fill("Host name", "a").go_on().network(Vec::new()).go_on();
    install(&mut desk);
    desk.event(Event::Told(Told::Say("mkfs.ext4: exit status 1".into())));
    desk.event(Event::Ended(Err(Failed {
        reason: "make state failed: mkfs.ext4 ended with 1".into(),
        remedy: Some("check the disk's cable".into()),
        disk: "The partition table of /dev/sda was wiped: it boots nothing.".into(),
    })));
    let screen = desk.is_at(Page::End).screen(80, 24);
    for text in [
        "INSTALLATION FAILED",
        "mkfs.ext4 ended with 1",
        "boots nothing",
        "What to do: check",
        "exit status 1",
    ] {
        assert!(screen.contains(text), "no {text} on\n{screen}");
    }
    desk.choose("Save this");
    assert!(matches!(desk.asked(), Action::Save { name: "sheaf-install.log", .. }));
    desk.press(&[Key::Escape]).is_at(Page::End);
    desk.choose("Start over");
    assert!(matches!(desk.asked(), Action::Look));
    desk.event(Event::Looked(Ok(Box::new(server()))));
    desk.is_at(Page::Disk).is_refused("holds data");
    desk.fill("Serial", "2345").go_on().go_on().go_on().network(Vec::new()).go_on();
    assert_eq!(install(&mut desk).config.system.hostname, "a");
}

#[test]
fn a_machine_that_can_not_be_looked_at_says_why_and_can_be_looked_at_again() {
    let mut desk = Desk::at(small_server());
    desk.event(Event::Looked(Err("no install medium found".into())));
    assert!(desk.screen(80, 24).contains("no install medium found"));
    desk.choose("Scan again");
    assert!(matches!(desk.asked(), Action::Look));
}

#[test]
fn help_is_one_key_away_on_every_page_and_one_key_takes_it_away() {
    let mut desk = Desk::at(small_server());
    for key in [Key::Function(1), Key::Char('?')] {
        let before = desk.screen(80, 24);
        assert!(desk.press(&[key]).screen(80, 24).contains("Any key closes this help"));
        assert_eq!(desk.press(&[Key::Char('x')]).screen(80, 24), before);
    }
}

#[test]
fn a_screen_that_is_too_small_says_so_and_the_answers_stay() {
    let mut desk = Desk::at(small_server());
    desk.go_on().choose("/dev/nvme0n1").go_on().go_on().fill("Host name", "node-1");
    let small = desk.screen(79, 24);
    assert!(small.contains("This screen is 79 x 24. The installer needs 80 x 24"), "{small}");
    desk.screen(20, 3);
    desk.screen(1, 1);
    assert!(desk.screen(80, 24).contains("[node-1_"));
}

#[test]
fn any_keys_in_any_order_never_panic_and_never_install_without_the_whole_way() {
    let keys = [
        Key::Tab,
        Key::Enter,
        Key::Down,
        Key::Up,
        Key::Char(' '),
        Key::Char('1'),
        Key::Escape,
        Key::Enter,
        Key::BackTab,
        Key::Backspace,
        Key::PageDown,
        Key::Left,
        Key::Delete,
        Key::Function(1),
        Key::Home,
    ];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..10 {
        let mut desk = Desk::new();
        for _ in 0..200 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            desk.press(&[keys[(random % keys.len() as u64) as usize]]);
            desk.screen(80, 24);
            // Without a host name, which these keys cannot type in full, nothing is ever installed.
            assert!(
                !desk.asked.iter().any(|a| matches!(a, Action::Install(r) if r.config.install.is_none()))
            );
            desk.asked.clear();
        }
    }
}
