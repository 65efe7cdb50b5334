//! The interactive installer on a machine, driven over its serial line as an operator does: once to create a cluster, once
//! to join it.

use anyhow::Result;
use sheaf_host::wait::until;
use sheaf_machine::node::{BOOT_DEADLINE, INSTALL_DEADLINE, ca_hash};
use sheaf_machine::{Forward, Lan, Machine, Medium, NodeMachine, Operator, lab, ports};
use sheaf_tests::harness::{Built, Case, READY, case};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Firmware, kernel and initrd under emulation.
const START: Duration = Duration::from_secs(300);
/// A key's effect on the screen, under emulation.
const ANSWER: Duration = Duration::from_secs(30);
/// All probes of the network that may fail one after the other.
const NETWORK: Duration = Duration::from_secs(180);
/// A screen that does not show by then what it should is asked to be drawn again.
const REDRAW: Duration = Duration::from_secs(5);
/// A screen that was the same for so long is not being drawn any more.
const QUIET: Duration = Duration::from_millis(200);
/// Between two looks at the screen.
const LOOK: Duration = Duration::from_millis(20);
/// Columns and rows of the terminal: the smallest that the installer takes.
const SIZE: (u16, u16) = (80, 24);
/// What a program sends to learn where the cursor is.
const ASKS_CURSOR: &[u8] = b"\x1b[6n";

/// Where `words` begins in `bytes`.
fn position(bytes: &[u8], words: &[u8]) -> Option<usize> {
    bytes.windows(words.len()).position(|window| window == words)
}

/// With how many of the first bytes of `words` do `bytes` end?
fn begun(bytes: &[u8], words: &[u8]) -> usize {
    (1..words.len()).rev().find(|length| bytes.ends_with(&words[..*length])).unwrap_or(0)
}

/// A terminal at the other end of a machine's serial line.
struct Terminal {
    line: UnixStream,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn at(machine: &Machine) -> Result<Self> {
        let line = machine.line()?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(SIZE.1, SIZE.0, 0)));
        let (mut reader, mut answers, parser) = (line.try_clone()?, line.try_clone()?, screen.clone());
        std::thread::spawn(move || {
            let (mut bytes, mut heard) = ([0; 4096], Vec::new());
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                heard.extend_from_slice(&bytes[..length]);
                let Ok(mut parser) = parser.lock() else { return };
                // As a terminal does: where the cursor is when it is asked, and not after what was drawn since.
                while let Some(asked) = position(&heard, ASKS_CURSOR) {
                    parser.process(&heard[..asked]);
                    heard.drain(..asked + ASKS_CURSOR.len());
                    let (row, column) = parser.screen().cursor_position();
                    let _ = write!(answers, "\x1b[{};{}R", row + 1, column + 1);
                }
                // The end may be the beginning of a question.
                let whole = heard.len() - begun(&heard, ASKS_CURSOR);
                parser.process(&heard[..whole]);
                heard.drain(..whole);
            }
        });
        Ok(Self { line, screen })
    }

    fn screen(&self) -> String {
        self.screen.lock().map(|parser| parser.screen().contents()).unwrap_or_default()
    }

    /// The screen, once nothing is drawn on it any more: a key's effect may come in two pieces.
    fn settled(&self) -> String {
        let mut before = None;
        let shown = until(REDRAW, QUIET, || {
            let now = self.screen();
            let is_still = before.as_ref() == Some(&now);
            before = Some(now.clone());
            is_still.then_some(now)
        });
        shown.unwrap_or_else(|| self.screen())
    }

    /// Waits until the screen shows `text`. An emulated line repeats a byte now and then where the processor is shared by
    /// many: like an operator, it is asked to draw its screen again.
    fn sees(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if until(REDRAW, LOOK, || self.screen().contains(text).then_some(())).is_some() {
                return Ok(());
            }
            self.types("\x0c")?;
        }
        anyhow::bail!("no \"{text}\" within {} s on\n{}", deadline.as_secs(), self.screen())
    }

    fn types(&mut self, text: &str) -> Result<()> {
        Ok(self.line.write_all(text.as_bytes())?)
    }

    /// Tab until the mark stands before `text`.
    fn to(&mut self, text: &str) -> Result<()> {
        let marks =
            ["> ", "> (x) ", "> ( ) ", "> [x] ", "> [ ] ", "> [ "].map(|mark| format!("{mark}{text}"));
        for _ in 0..60 {
            let before = self.settled();
            if marks.iter().any(|mark| before.contains(mark.as_str())) {
                return Ok(());
            }
            self.types("\t")?;
            if until(REDRAW, LOOK, || (self.screen() != before).then_some(())).is_none() {
                self.types("\x0c")?;
            }
        }
        anyhow::bail!("no mark before \"{text}\" on\n{}", self.screen())
    }

    fn choose(&mut self, text: &str) -> Result<()> {
        self.to(text)?;
        self.types("\r")
    }

    /// Types `text` where `label` is, and waits until it stands there.
    fn fill(&mut self, label: &str, text: &str) -> Result<()> {
        self.to(label)?;
        self.types("\x05\x15")?; // to the end, and all before it away
        self.types(text)?;
        let shown: String = text.chars().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect();
        self.sees(&shown, ANSWER)
    }

    /// Goes on to the page called `title`.
    fn go_on(&mut self, title: &str) -> Result<()> {
        self.choose("Continue")?;
        self.sees(title, ANSWER)
    }

    /// Goes on, which is refused with `reason`.
    fn is_refused(&mut self, reason: &str) -> Result<()> {
        self.choose("Continue")?;
        self.sees(reason, ANSWER)
    }
}

/// Installs `machine` by screens over its serial line: `walk` is what is typed.
fn by_screens(
    case: &Case,
    built: &Built,
    operator: &Operator,
    machine: &NodeMachine,
    walk: impl FnOnce(&mut Terminal) -> Result<()>,
) -> Result<()> {
    let iso = case.work().join("plain.iso");
    operator.plain_iso(&built.release, &iso)?;
    let mut asked = machine.clone();
    asked.spec.typed = true;
    let mut running = asked.boot_medium(Medium::Cd(iso))?;
    running.fatal.retain(|line| !line.contains("INSTALLATION FAILED"));
    let mut terminal = Terminal::at(&running)?;
    walk(&mut terminal)?;
    terminal.choose("Restart")?;
    running.wait_off(INSTALL_DEADLINE)?;
    Ok(())
}

#[test]
fn a_node_is_installed_over_the_serial_line_with_a_mistake_on_every_page_and_makes_its_cluster() {
    case("interactive", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let key = operator.admin_key()?;
        let node = lab::Node::first(&key);
        let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        by_screens(case, &built, &operator, &machine, |terminal| create(terminal, &key))?;

        let port = ports::free_port()?;
        machine.spec.forwards = vec![Forward { host: port, guest: node.address, port: 6443 }];
        let mut running = machine.boot()?;
        let hash = ca_hash(&mut running)?;
        operator.wait_kubeconfig(&format!("https://127.0.0.1:{port}"), &hash, BOOT_DEADLINE)?;
        operator.wait_node_ready("node1", READY)?;
        Ok(())
    });
}

#[test]
fn a_second_node_is_installed_over_the_serial_line_with_a_mistake_on_every_page_and_joins() {
    case("interactive-join", |case| {
        let built = case.built()?;
        let cluster = case.cluster()?;
        let node = lab::Node::second(&cluster.ca_hash, lab::TOKEN);
        let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        machine.spec.lan = Lan::Cable(cluster.switch.socket());
        by_screens(case, &built, &cluster.operator, &machine, |terminal| join(terminal, &cluster.ca_hash))?;
        let _second = machine.boot()?;
        cluster.operator.wait_node_ready("node2", READY)?;
        Ok(())
    });
}

/// The first page, and its help.
fn begin(terminal: &mut Terminal) -> Result<()> {
    terminal.sees("What this machine becomes (1 of 8)", START)?;
    terminal.sees("sheaf 0.1.0 installer", START)?;
    terminal.types("\x1b[11~")?; // F1 of a VT220
    terminal.sees("Any key closes this help", ANSWER)?;
    terminal.types("x")?;
    terminal.sees("> (x) Create a cluster", ANSWER)
}

/// Disk and network of a node whose address is `address`, in a walk of `pages` pages.
fn disk_and_network(terminal: &mut Terminal, pages: usize, address: &str) -> Result<()> {
    let page = |title: &str, number: usize| format!("{title} ({number} of {pages})");
    terminal.go_on(&page("Disk", 2))?;
    terminal.is_refused("! is missing")?;
    terminal.choose("/dev/vda")?;
    terminal.go_on(&page("Network", 3))?;

    terminal.choose("Fixed address")?;
    terminal.fill("Address", address)?;
    terminal.is_refused("has no prefix length")?;
    terminal.fill("Address", &format!("{address}/24"))?;
    terminal.fill("Gateway", "10.0.2.2")?;
    terminal.fill("DNS servers", "10.0.2.3")?;
    terminal.go_on(&page("Name", 4))
}

/// From the first page to the first node of a cluster.
fn create(terminal: &mut Terminal, key: &str) -> Result<()> {
    begin(terminal)?;
    disk_and_network(terminal, 8, "10.0.2.11")?;

    terminal.fill("Host name", "Node_1")?;
    terminal.is_refused("is not a host name")?;
    terminal.fill("Host name", "node1")?;
    // Back and forth: what was answered stays.
    terminal.types("\x1b")?;
    terminal.sees("[10.0.2.11/24_", ANSWER)?;
    terminal.go_on("[node1_")?;
    terminal.go_on("Cluster (5 of 8)")?;

    terminal.fill("Token", "short")?;
    terminal.is_refused("! ")?;
    terminal.fill("Token", lab::TOKEN)?;
    terminal.fill("Further names", "127.0.0.1")?;
    terminal.go_on("Access (6 of 8)")?;

    terminal.types("ssh-ed25519 AAAA")?;
    terminal.is_refused("! ")?;
    terminal.types("\x05\x15")?;
    terminal.types(&key.trim().replace('\n', "\r"))?;
    terminal.sees("-----END PUBLIC KEY-----", ANSWER)?;
    terminal.go_on("Checking the network (7 of 8)")?;

    terminal.sees("[ Try again ]", NETWORK)?;
    terminal.go_on("Review (8 of 8)")?;
    install(terminal, "10.0.2.11")
}

/// From the first page to a node that joins.
fn join(terminal: &mut Terminal, ca_hash: &str) -> Result<()> {
    begin(terminal)?;
    terminal.choose("Join a cluster")?;
    disk_and_network(terminal, 7, "10.0.2.12")?;

    terminal.is_refused("! is missing")?;
    terminal.fill("Host name", "node2")?;
    terminal.go_on("Cluster (5 of 7)")?;

    terminal.fill("Server", "http://10.0.2.11:6443")?;
    terminal.fill("Token", "sheaf0.fedcba9876543210")?;
    terminal.fill("CA hash", "sha256:12")?;
    terminal.is_refused("! ")?;
    terminal.fill("Server", "https://10.0.2.11:6443")?;
    terminal.fill("CA hash", ca_hash)?;
    terminal.go_on("Checking the network (6 of 7)")?;

    // A token that has the right form, and that the cluster does not know.
    terminal.sees("FAILED   token sheaf0.***", NETWORK)?;
    terminal.sees("The node could not join the cluster like this.", ANSWER)?;
    terminal.types("\x1b")?;
    terminal.sees("Cluster (5 of 7)", ANSWER)?;
    terminal.fill("Token", lab::TOKEN)?;
    terminal.go_on("Checking the network (6 of 7)")?;
    terminal.sees("ok       token sheaf0.***", NETWORK)?;
    terminal.sees("> [ Continue ]", NETWORK)?;
    terminal.go_on("Review (7 of 7)")?;
    install(terminal, "10.0.2.12")
}

/// From the review to the installed node.
fn install(terminal: &mut Terminal, address: &str) -> Result<()> {
    terminal.sees("Install sheaf", ANSWER)?;
    terminal.choose("Install")?;
    terminal.sees(&format!("Node's address: {address}/24"), INSTALL_DEADLINE)
}
