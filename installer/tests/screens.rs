//! Every screen, at 80 x 24 and at 120 x 40: `tui/NAME.WIDTHxHEIGHT.txt`.
//! `UPDATE=1 cargo test -p sheaf-installer --test screens` writes them again; read the difference.

mod common;
mod desk;

use desk::{ADMIN_KEY, CA_HASH, Desk, check, golden, screen, server, small_server};
use sheaf_installer::progress::Told;
use sheaf_installer::tui::event::{CheckState, Event, Failed};
use sheaf_installer::tui::key::Key;
use sheaf_installer::tui::pages::Page;
use std::time::Duration;

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];

fn shows(desk: &Desk, name: &str) {
    for (width, height) in SIZES {
        golden(&format!("{name}.{width}x{height}"), &desk.screen(width, height));
    }
}

/// A joining server on its page of the cluster.
fn joining() -> Desk {
    let mut desk = Desk::at(server());
    desk.choose("Join").go_on().choose("/dev/sda").fill("Serial", "2345").go_on();
    desk.choose("enp1s0f0").choose("enp1s0f1").choose("Fixed").fill("Address", "192.0.2.12/24");
    desk.fill("Gateway", "192.0.2.1").fill("VLAN", "110").go_on().fill("Host name", "node-2").go_on();
    desk.is_at(Page::Cluster);
    desk
}

/// The same, in front of its review.
fn reviewing() -> Desk {
    let mut desk = joining();
    desk.fill("Server", "https://192.0.2.10:6443").fill("Token", "abcdef.0123456789abcdef");
    desk.fill("CA hash", CA_HASH).go_on().network(Vec::new()).go_on().is_at(Page::Review);
    desk
}

/// The same, installing.
fn installing() -> Desk {
    let mut desk = reviewing();
    desk.choose("Install").is_at(Page::Progress);
    let second = Duration::from_secs(1);
    for (number, what) in
        [(1, "check 412 MB of the medium before anything is written"), (2, "erase the table")]
    {
        desk.event(Event::Told(Told::Phase { number, of: 11, what: what.into() }));
        desk.event(Event::Told(Told::Bytes { done: 10, total: 10, elapsed: second }));
    }
    desk.event(Event::Told(Told::Phase { number: 3, of: 11, what: "write root.erofs.zst (1.2 GB)".into() }));
    let (done, total) = (517_000_000, 1_200_000_000);
    desk.event(Event::Told(Told::Bytes { done, total, elapsed: 5 * second }));
    desk
}

#[test]
fn the_mode() {
    shows(&Desk::new(), "mode");
    let mut desk = Desk::new();
    desk.event(Event::Looked(Err(
        "no install medium found: looked for an iso9660 file system on /dev/sda (ext4)".into(),
    )));
    shows(&desk, "mode-no-medium");
}

#[test]
fn the_disk() {
    let mut desk = Desk::new();
    desk.go_on();
    shows(&desk, "disk");
    desk.choose("/dev/sda").fill("Serial", "9999").go_on();
    shows(&desk, "disk-wrong-proof");
}

#[test]
fn the_network() {
    let mut desk = Desk::at(small_server());
    desk.go_on().choose("/dev/nvme0n1").go_on();
    shows(&desk, "network-one-nic");
    let mut desk = Desk::at(server());
    desk.go_on().choose("/dev/nvme0n1").go_on();
    desk.choose("enp1s0f0").choose("enp1s0f1").choose("Fixed").fill("Address", "192.0.2.12").go_on();
    shows(&desk, "network-bond-and-mistake");
}

#[test]
fn the_name() {
    let mut desk = joining();
    desk.press(&[Key::Escape]).fill("Host name", "Node_2").go_on();
    shows(&desk, "host-mistake");
}

#[test]
fn the_cluster() {
    let mut desk = joining();
    desk.go_on();
    shows(&desk, "cluster-join-mistakes");
    let mut desk = joining();
    desk.fill("Server", "https://192.0.2.10:6443").fill("Token", "abcdef.0123456789abcdef");
    desk.fill("CA hash", CA_HASH).choose("Control plane").go_on();
    shows(&desk, "cluster-join-control-plane");
    let mut desk = Desk::at(small_server());
    desk.go_on().choose("/dev/nvme0n1").go_on().go_on().fill("Host name", "node-1").go_on();
    shows(&desk, "cluster-create");
    desk.go_on();
    shows(&desk, "access");
    desk.to("Public key").types(ADMIN_KEY).go_on().is_at(Page::Checks);
    shows(&desk, "checks-trying");
    desk.press(&[Key::Escape]);
    shows(&desk, "access-filled");
}

#[test]
fn the_checks() {
    let mut desk = joining();
    desk.fill("Server", "https://192.0.2.10:6443").fill("Token", "abcdef.0123456789abcdef");
    desk.fill("CA hash", CA_HASH).go_on();
    desk.network(vec![
        check("cable in enp1s0f0", CheckState::Passed, "10 Gb/s", None, true),
        check("192.0.2.12 is free on vlan110", CheckState::Passed, "", None, true),
        check("gateway 192.0.2.1", CheckState::Passed, "answers in 0.4 ms", None, true),
        check(
            "time server of DHCP",
            CheckState::Warned,
            "the clock is 31 s behind",
            Some("it is set before the node starts; set it in the firmware too"),
            false,
        ),
        check(
            "API server https://192.0.2.10:6443",
            CheckState::Failed,
            "its CA is not that of the CA hash",
            Some("compare the CA hash with the first node's screen; another cluster may answer there"),
            true,
        ),
        check("token abcdef.***", CheckState::Skipped, "", None, true),
    ]);
    shows(&desk, "checks-failed");
}

#[test]
fn the_review() {
    let mut desk = reviewing();
    shows(&desk, "review");
    desk.press(&[Key::PageDown; 6]);
    shows(&desk, "review-end");
}

#[test]
fn the_progress_and_its_ends() {
    let mut desk = installing();
    shows(&desk, "progress");
    desk.event(Event::Ended(Ok(())));
    shows(&desk, "end-installed");
    let mut desk = installing();
    desk.event(Event::Ended(Err(Failed {
        reason: "write root.erofs.zst (1.2 GB) failed: /dev/sda: sector 1048576 cannot be written: \
                 Input/output error (os error 5)"
            .into(),
        remedy: Some(
            "the disk may be failing: check its cable and SMART data, or select another disk".into(),
        ),
        disk: "The partition table of /dev/sda was wiped: it boots nothing.".into(),
    })));
    shows(&desk, "end-failed");
}

#[test]
fn a_webhook_that_could_not_be_told_is_a_warning_until_the_end() {
    let mut desk = installing();
    let warning = "webhook https://inventory.example.org/sheaf could not be told: HTTP status 503";
    desk.event(Event::Told(Told::Warn(warning.into())));
    shows(&desk, "progress-warned");
    desk.event(Event::Ended(Ok(())));
    shows(&desk, "end-installed-warned");
}

#[test]
fn the_help_of_every_page_fits_the_smallest_screen() {
    let mut desk = Desk::new();
    let pages = [
        (Page::Mode, "mode"),
        (Page::Disk, "disk"),
        (Page::Network, "network"),
        (Page::Host, "host"),
        (Page::Cluster, "cluster"),
        (Page::Access, "access"),
        (Page::Checks, "checks"),
        (Page::Review, "review"),
        (Page::Progress, "progress"),
        (Page::End, "end"),
    ];
    desk.state.help = true;
    for (page, name) in pages {
        desk.state.page = page;
        let shown = screen(&desk.state, 80, 24);
        assert!(!shown.contains("more below"), "{shown}");
        shows(&desk, &format!("help-{name}"));
    }
}

#[test]
fn a_screen_that_is_too_small() {
    golden("too-small.60x20", &Desk::new().screen(60, 20));
}

/// What a machine says of itself is words from elsewhere.
#[test]
fn a_disk_with_a_strange_name_can_not_move_the_cursor() {
    let mut strange = server();
    strange.inventory.disks[0].model = Some("\x1b[2J\u{202e}\u{1f4a9} disk".repeat(9));
    let mut desk = Desk::at(strange);
    desk.go_on();
    let shown = desk.screen(80, 24);
    assert!(shown.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{shown:?}");
}
