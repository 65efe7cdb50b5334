//! The real program on two pseudo-terminals, as an operator sees it: a console of 80 x 24 and a wider one.

mod common;
mod desk;

use nix::pty::{OpenptyResult, Winsize, openpty};
use sheaf_host::run::{Command, System};
use sheaf_host::wait::until;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// A busy machine with two cores draws within this.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at a screen.
const LOOK: Duration = Duration::from_millis(10);

/// One terminal: what its user sees, and their hands.
struct Console {
    path: PathBuf,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
    // The program's end: while it is open here, nobody is hung up.
    _slave: std::os::fd::OwnedFd,
}

impl Console {
    fn new(columns: u16, rows: u16) -> Self {
        let console = Self::unread(columns, rows);
        let mut shown = console.keyboard.try_clone().unwrap();
        let parser = console.screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = shown.read(&mut bytes) {
                parser.lock().unwrap().process(&bytes[..length]);
            }
        });
        console
    }

    /// One whose screen nobody looks at yet.
    fn unread(columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows.max(1), columns.max(1), 0)));
        let path = nix::unistd::ttyname(slave.as_fd()).unwrap();
        Self { path, keyboard: master.into(), screen, _slave: slave }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen shows `text`.
    #[track_caller]
    fn sees(&self, text: &str) {
        let seen = until(TIMEOUT, LOOK, || self.screen().contains(text).then_some(()));
        assert!(seen.is_some(), "no \"{text}\" on\n{}", self.screen());
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Tab until the mark stands before `text`.
    #[track_caller]
    fn to(&mut self, text: &str) -> &mut Self {
        let marks =
            ["> ", "> (x) ", "> ( ) ", "> [x] ", "> [ ] ", "> [ "].map(|mark| format!("{mark}{text}"));
        let there = |screen: &str| marks.iter().any(|mark| screen.contains(mark.as_str()));
        for _ in 0..30 {
            let before = self.screen();
            if there(&before) {
                return self;
            }
            self.types("\t");
            until(Duration::from_secs(3), LOOK, || (self.screen() != before).then_some(()));
        }
        panic!("no mark before \"{text}\" on\n{}", self.screen());
    }

    #[track_caller]
    fn choose(&mut self, text: &str) {
        self.to(text).types("\r");
    }
}

/// The program; ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn start(folder: &Path, consoles: &[&Console]) -> Self {
        let machine = desk::server();
        let write = |name: &str, json: String| {
            std::fs::write(folder.join(name), json).unwrap();
            folder.join(name)
        };
        let inventory = write("inventory.json", serde_json::to_string(&machine.inventory).unwrap());
        let manifest = write("manifest.json", serde_json::to_string(&machine.manifest).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheaf-installer"))
            .args(["run", "--dry-run", "--inventory"])
            .arg(inventory)
            .arg("--manifest")
            .arg(manifest)
            .dir(folder)
            .log(folder.join("log"));
        for console in consoles {
            command = command.arg("--console").arg(&console.path);
        }
        Self(System.start(&command).unwrap())
    }

    fn ends_well(mut self) {
        let ended = until(TIMEOUT, LOOK, || self.0.try_wait().unwrap()).expect("still running");
        assert!(ended.success(), "{ended}");
    }
}

#[test]
fn a_cluster_is_made_on_two_consoles_at_once_and_its_node_toml_is_what_the_validator_reads() {
    let folder = TempDir::new().unwrap();
    let (mut serial, mut screen) = (Console::new(80, 24), Console::new(120, 40));
    let program = Program::start(folder.path(), &[&serial, &screen]);
    serial.sees("What this machine becomes (1 of 8)");
    screen.sees("sheaf 0.1.0 installer");

    serial.types("\x1b[[A");
    screen.sees("Any key closes this help");
    screen.types("x");
    serial.sees("> (x) Create a cluster");

    serial.choose("Continue");
    screen.sees("Disk (2 of 8)");
    screen.choose("/dev/sda");
    serial.sees("What is on /dev/sda is lost");
    serial.to("Serial").types("0000");
    screen.sees("[0000_");
    screen.choose("Continue");
    serial.sees("! \"0000\" is not the serial");
    serial.types("\x7f\x7f\x7f\x7f2345");
    serial.sees("[2345_");
    serial.choose("Continue");

    serial.sees("Network (3 of 8)");
    serial.choose("enp1s0f0");
    serial.sees("[x] enp1s0f0");
    serial.choose("Continue");
    serial.sees("Name (4 of 8)");
    screen.types("node-1");
    serial.sees("[node-1_");
    // Escape alone, then back again: what was typed is still there.
    serial.types("\x1b");
    screen.sees("Network (3 of 8)");
    screen.choose("Continue");
    screen.sees("[node-1_");
    screen.choose("Continue");
    screen.sees("Cluster (5 of 8)");
    screen.choose("Continue");
    serial.sees("Access (6 of 8)");
    serial.types(&desk::ADMIN_KEY.replace('\n', "\r"));
    serial.sees("-----END PUBLIC KEY-----");
    serial.choose("Continue");
    serial.sees("this is a dry run");
    serial.choose("Continue");

    serial.sees("Review (8 of 8)");
    screen.sees("erased     gpt on /dev/sda");
    serial.choose("Save node.toml");
    screen.sees("Saved as");
    let written = std::fs::read_to_string(folder.path().join("node.toml")).unwrap();
    let config = sheaf_config::load::parse_node_config("node.toml", &written).unwrap();
    assert_eq!(config.system.hostname, "node-1");
    assert_eq!(config.install.unwrap().wipe.as_deref(), Some("S3Z8NB0K512345"));
    serial.types("\x1b[Z");
    serial.sees("> [ Install ]");
    serial.choose("Install");
    serial.sees("This is a dry run: the installation ends here.");
    screen.sees("No disk was written.");
    serial.choose("Power off");
    program.ends_well();
}

#[test]
fn a_console_that_changes_its_size_is_drawn_anew_and_one_that_is_too_small_says_so() {
    let folder = TempDir::new().unwrap();
    let console = Console::new(80, 24);
    let _program = Program::start(folder.path(), &[&console]);
    console.sees("What this machine becomes");
    let resize = |columns: u16, rows: u16| {
        console.screen.lock().unwrap().screen_mut().set_size(rows, columns);
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&console.keyboard, size).unwrap();
    };
    resize(60, 20);
    console.sees("This screen is 60 x 20");
    resize(100, 30);
    console.sees("> (x) Create a cluster");
}

#[test]
fn a_line_without_a_size_is_asked_for_it() {
    let folder = TempDir::new().unwrap();
    let mut console = Console::unread(0, 0);
    console.screen = Arc::new(Mutex::new(vt100::Parser::new(40, 132, 0)));
    let parser = console.screen.clone();
    let mut shown = console.keyboard.try_clone().unwrap();
    let _program = Program::start(folder.path(), &[&console]);
    let mut bytes = [0; 4096];
    let mut asked = Vec::new();
    while !String::from_utf8_lossy(&asked).contains("\x1b[6n") {
        let length = shown.read(&mut bytes).unwrap();
        asked.extend_from_slice(&bytes[..length]);
    }
    console.types("\x1b[40;132R");
    std::thread::spawn(move || {
        while let Ok(length) = shown.read(&mut bytes) {
            parser.lock().unwrap().process(&bytes[..length]);
        }
    });
    let wide = until(TIMEOUT, LOOK, || {
        let screen = console.screen();
        screen.lines().next().is_some_and(|title| title.trim_end().len() > 100).then_some(())
    });
    assert!(wide.is_some(), "{}", console.screen());
}
