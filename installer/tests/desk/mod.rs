//! An operator in front of the screens: presses keys, reads what is shown, and plays the machine's part.

#![allow(dead_code)] // each test file uses a part

use crate::common::{Release, signature};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use sheaf_config::manifest::Manifest;
use sheaf_config::node::Bus;
use sheaf_installer::inventory::{Disk, Inventory, Nic};
use sheaf_installer::tui::event::{Action, Check, CheckState, Event};
use sheaf_installer::tui::key::Key;
use sheaf_installer::tui::machine::Machine;
use sheaf_installer::tui::pages::Page;
use sheaf_installer::tui::state::State;
use sheaf_installer::tui::view::view;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A key as `sheaf admin new` makes it.
pub const ADMIN_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0XgAyRUJ6NF7yIfX/TUktZDYdK0i\n\
    pI4WskIwwyt3Ao8Tbl/NrC6aZon3axPdRcIuYmjR1+qSW9wbD0SS5zUw8w==\n\
    -----END PUBLIC KEY-----";
/// A CA hash.
pub const CA_HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The screens and who sits in front of them.
pub struct Desk {
    pub state: State,
    /// What was asked for and not looked at yet.
    pub asked: Vec<Action>,
}

impl Desk {
    /// In front of a server with four disks and three NICs that was looked at.
    pub fn new() -> Self {
        Self::at(server())
    }

    /// In front of `machine`.
    pub fn at(machine: Machine) -> Self {
        let (state, asked) = State::start();
        let mut desk = Self { state, asked };
        assert!(matches!(desk.asked.pop(), Some(Action::Look)));
        desk.event(Event::Looked(Ok(Box::new(machine))));
        desk
    }

    pub fn event(&mut self, event: Event) {
        let actions = self.state.update(event);
        self.asked.extend(actions);
    }

    /// Presses keys by their names; `'text'` types text.
    pub fn press(&mut self, keys: &[Key]) -> &mut Self {
        keys.iter().for_each(|key| self.event(Event::Key(*key)));
        self
    }

    /// Types `text`, Enter for its line ends.
    pub fn types(&mut self, text: &str) -> &mut Self {
        for char in text.chars() {
            self.event(Event::Key(if char == '\n' { Key::Enter } else { Key::Char(char) }));
        }
        self
    }

    /// Moves to what the screen marks with `>` when it stands before `text`, the way a person does: Tab until there.
    pub fn to(&mut self, text: &str) -> &mut Self {
        for _ in 0..60 {
            if self.has_focus(text) {
                return self;
            }
            self.press(&[Key::Tab]);
        }
        panic!("no \"{text}\" on\n{}", self.screen(80, 60));
    }

    fn has_focus(&self, text: &str) -> bool {
        let screen = self.screen(120, 80);
        let focus = |line: &str| {
            line.find("> ").is_some_and(|at| {
                let rest = line[at + 2..].trim_start_matches(['(', ')', '[', ']', 'x', ' ', '-']);
                (at < 2 || line[..at].ends_with("  ") || line[..at].ends_with(']')) && rest.starts_with(text)
            })
        };
        screen.lines().any(focus)
    }

    /// Chooses what is called `text`.
    pub fn choose(&mut self, text: &str) -> &mut Self {
        self.to(text).press(&[Key::Enter])
    }

    /// Fills in what is called `label`, in place of what is there.
    pub fn fill(&mut self, label: &str, text: &str) -> &mut Self {
        self.to(label).press(&[Key::End, Key::Ctrl('u')]).types(text)
    }

    /// Goes on to the next page.
    pub fn go_on(&mut self) -> &mut Self {
        self.choose("Continue")
    }

    /// Goes on, which must be refused with `reason` on the screen.
    pub fn is_refused(&mut self, reason: &str) -> &mut Self {
        let page = self.state.page;
        self.go_on();
        let screen = self.screen(80, 24);
        assert_eq!(self.state.page, page, "went on:\n{screen}");
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat(&screen).contains(&flat(reason)), "no \"{reason}\" on\n{screen}");
        self
    }

    pub fn is_at(&mut self, page: Page) -> &mut Self {
        assert_eq!(self.state.page, page, "{}", self.screen(80, 24));
        self
    }

    /// The one thing that was asked for.
    pub fn asked(&mut self) -> Action {
        let action = self.asked.pop().unwrap_or_else(|| panic!("nothing asked:\n{}", self.screen(80, 24)));
        assert!(self.asked.is_empty(), "{:?}", self.asked);
        action
    }

    /// Answers the checks of the network that were asked for.
    pub fn network(&mut self, checks: Vec<Check>) -> &mut Self {
        let Action::TryNetwork { run, .. } = self.asked() else { panic!("no checks were asked for") };
        self.event(Event::Checks { run, checks, done: true });
        self
    }

    /// What a terminal of this size shows, without leading or trailing spaces of lines.
    pub fn screen(&self, width: u16, height: u16) -> String {
        screen(&self.state, width, height)
    }
}

/// What `state` looks like.
pub fn screen(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(state, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Compares `text` with `tests/tui/NAME.txt`; `UPDATE=1` (or `UPDATE_GOLDEN=1`) writes it again.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tui").join(format!("{name}.txt"));
    if ["UPDATE", "UPDATE_GOLDEN"].iter().any(|name| std::env::var_os(name).is_some()) {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

pub fn check(what: &str, state: CheckState, found: &str, remedy: Option<&str>, required: bool) -> Check {
    Check {
        what: what.into(),
        state,
        found: found.into(),
        remedy: remedy.map(str::to_owned),
        required,
        is_address: what.starts_with("DHCP"),
        took: Duration::from_secs(1),
    }
}

/// The manifest of a small release; made once.
pub fn manifest() -> Manifest {
    static MANIFEST: std::sync::OnceLock<Manifest> = std::sync::OnceLock::new();
    MANIFEST.get_or_init(|| Release::new().manifest.clone()).clone()
}

/// A server: an empty NVMe disk, a SATA disk with an old system, one that is in use, the stick; three NICs.
pub fn server() -> Machine {
    let disk = |path: &str, serial: &str, model: &str, bus, size| Disk {
        path: path.into(),
        serial: Some(serial.into()),
        model: Some(model.into()),
        bus: Some(bus),
        size,
        ..crate::common::disk("x", serial)
    };
    let mut old = disk("/dev/sda", "S3Z8NB0K512345", "Samsung SSD 860", Bus::Sata, 500_107_862_016);
    old.signatures = vec![signature("/dev/sda", 512, "gpt"), signature("/dev/sda1", 1_048_576, "ext4")];
    let mut used = disk("/dev/sdb", "WD-WX11D", "WDC WD10EZEX", Bus::Sata, 1_000_204_886_016);
    used.uses = vec!["/dev/sdb1 is mounted at /mnt".into()];
    let mut stick = disk("/dev/sdc", "4C530001", "SanDisk Ultra", Bus::Usb, 30_752_000_000);
    (stick.is_medium, stick.removable) = (true, true);
    let empty = disk("/dev/nvme0n1", "S6B0NL0W123456", "SAMSUNG MZQL2960HCJR", Bus::Nvme, 960_197_124_096);
    machine(Inventory {
        disks: vec![empty, old, used, stick],
        nics: vec![
            nic("enp1s0f0", "52:54:00:12:34:56", Some(true)),
            nic("enp1s0f1", "52:54:00:12:34:57", Some(true)),
            nic("eno1", "52:54:00:ab:cd:ef", Some(false)),
        ],
        ..crate::common::machine()
    })
}

/// A server with one empty disk and one NIC.
pub fn small_server() -> Machine {
    let mut machine = server();
    machine.inventory.disks.truncate(1);
    machine.inventory.nics.truncate(1);
    machine
}

pub fn machine(inventory: Inventory) -> Machine {
    Machine { inventory, manifest: manifest(), images: BTreeMap::new(), id: crate::common::ID }
}

pub fn nic(name: &str, mac: &str, carrier: Option<bool>) -> Nic {
    Nic { carrier, driver: Some("igb".into()), ..crate::common::nic(name, mac) }
}
