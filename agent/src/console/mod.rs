//! The status page on tty1 and on the serial line, `sheaf-agent status`, `network`, `disks`, `pools`.
//!
//! Reads: `/run/sheaf/status.json`, `/run/sheaf/claim`, whether the agent is alive. Owns: its terminal. Never touches: the agent; it is
//! a program of its own, so that a node whose agent died still says so.
//!
//! A screen is drawn over when something changed. A serial line is often a log: it gets a block of plain lines.

pub(crate) mod columns;
mod links;
mod page;
mod ports;
mod storage;
mod update;

pub use page::{HEIGHT, View, WIDTH, page};

use crate::claim;
use crate::paths::Paths;
use crate::status::Status;
use anyhow::Context as _;
use sheaf_host::{alive, console::Console, wait};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Between two looks at the status: a change is on the screen before an operator looks up.
const LOOK: Duration = Duration::from_secs(1);
/// The wait for a change begins again after it; any time does.
const LONG: Duration = Duration::from_secs(86400);
/// Moves to the top left without a cursor; each line ends the old one, the last ends the page.
const HOME: &str = "\x1b[?25l\x1b[H";
const END_OF_LINE: &str = "\x1b[K\r\n";
const END_OF_PAGE: &str = "\x1b[J";

/// What there is to show now.
fn observe(paths: &Paths) -> View {
    let file = paths.status_json();
    let read = std::fs::read(&file).ok();
    let status = read.and_then(|text| serde_json::from_slice::<Status>(&text).ok());
    let written = std::fs::metadata(&file).and_then(|facts| facts.modified()).ok();
    let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
    let is_alive = alive::is_alive(&paths.alive());
    // Only where it matters: an age that counts on would redraw a page on which nothing happens.
    let silent_for = if is_alive { None } else { Some(age.unwrap_or_default()) };
    View { status, silent_for, code: claim::shown(paths) }
}

/// `sheaf-agent console`: shows the page on `tty`, or on the terminal it was started on, forever.
pub fn run(paths: &Paths, tty: Option<PathBuf>) -> anyhow::Result<()> {
    let tty = tty.or_else(|| terminal(&std::fs::read_link("/proc/self/fd/1").ok()?));
    let mut console = match tty {
        Some(tty) => Console::open(&tty).with_context(|| format!("{} cannot be opened", tty.display()))?,
        None => Console::stdout(),
    };
    let mut shown = String::new();
    loop {
        let next = || {
            let view = observe(paths);
            let text = if console.rewritable() { screen(&view) } else { block(&view) };
            (text != shown).then_some(text)
        };
        if let Some(text) = wait::until(LONG, LOOK, next) {
            console.say(&text);
            shown = text;
        }
    }
}

/// The terminal that `output` is, if it is one by its name. systemd gives the terminal as standard output; its name
/// tells a screen from a serial line.
fn terminal(output: &Path) -> Option<PathBuf> {
    let name = output.file_name()?.to_str()?;
    (output.parent() == Some(Path::new("/dev")) && name.starts_with("tty")).then(|| output.to_owned())
}

/// The page for a screen.
fn screen(view: &View) -> String {
    let lines = page(view, WIDTH, HEIGHT);
    // No line end after the last: it would scroll the first one away.
    format!("{HOME}{}{END_OF_PAGE}", lines.join(END_OF_LINE) + "\x1b[K")
}

/// The page for a serial line: as long as it is, and without progress of less than a tenth.
fn block(view: &View) -> String {
    let mut view = view.clone();
    for image in view.status.iter_mut().flat_map(|status| &mut status.images) {
        if let Some(total) = image.total {
            let tenth = (total / 10).max(1);
            image.bytes = image.bytes / tenth * tenth;
        }
    }
    format!("\r\n{}\r\n", page(&view, WIDTH, usize::MAX).join("\r\n"))
}

/// `sheaf-agent status`: the page once, or the document itself.
pub fn status(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let view = observe(paths);
    if !as_json {
        return Ok(page(&view, WIDTH, usize::MAX).join("\n") + "\n");
    }
    let status = view.status.with_context(|| missing(&paths.status_json()))?;
    let mut document = serde_json::to_value(status)?;
    if let Some(document) = document.as_object_mut() {
        document.insert("agent_running".into(), view.silent_for.is_none().into());
    }
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// `sheaf-agent network`: links, policies and the ports of VMs, in columns or as data.
pub fn network(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let status = observe(paths).status.with_context(|| missing(&paths.status_json()))?;
    match as_json {
        true => {
            let mut document = serde_json::to_value(&status.network)?;
            document["policies"] = serde_json::to_value(&status.policies)?;
            document["vm_ports"] = serde_json::to_value(&status.vm_ports)?;
            Ok(serde_json::to_string_pretty(&document)? + "\n")
        }
        false => Ok(links::table(&status.network, &status.policies) + &ports::table(&status.vm_ports)),
    }
}

/// `sheaf-agent volumes`: the volumes of this node, in columns or as data.
pub fn volumes(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let status = observe(paths).status.with_context(|| missing(&paths.status_json()))?;
    match as_json {
        true => Ok(serde_json::to_string_pretty(&status.volumes)? + "\n"),
        false => Ok(crate::volumes::view::table(&status.volumes)),
    }
}

/// `sheaf-agent disks`: the disks of this node, in columns or as data.
pub fn disks(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let status = observe(paths).status.with_context(|| missing(&paths.status_json()))?;
    match as_json {
        true => Ok(serde_json::to_string_pretty(&status.disks)? + "\n"),
        false => Ok(storage::disks(&status.disks)),
    }
}

/// `sheaf-agent pools`: the pools of this node, in columns or as data.
pub fn pools(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let status = observe(paths).status.with_context(|| missing(&paths.status_json()))?;
    match as_json {
        true => Ok(serde_json::to_string_pretty(&status.pools)? + "\n"),
        false => Ok(storage::pools(&status.pools)),
    }
}

/// `sheaf-agent update`: the slots and the NodeUpdate, in lines or as data.
pub fn update(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let status = observe(paths).status.with_context(|| missing(&paths.status_json()))?;
    match as_json {
        true => Ok(serde_json::to_string_pretty(&status.update)? + "\n"),
        false => Ok(update::text(&status.update)),
    }
}

/// Prints what `look` sees; with `watch` again at every change, forever.
pub fn show(watch: bool, look: impl Fn() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let mut shown = look()?;
    print!("{shown}");
    if !watch {
        return Ok(());
    }
    loop {
        let changed = || Some(look()).filter(|seen| seen.as_ref().map_or(true, |seen| *seen != shown));
        if let Some(seen) = wait::until(LONG, LOOK, changed) {
            shown = seen?;
            println!();
            print!("{shown}");
        }
    }
}

fn missing(path: &Path) -> String {
    format!("{} is not there; does sheaf-agent.service run?", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_agent_died_says_so_and_shows_its_last_words() {
        let root = std::env::temp_dir().join(format!("sheaf-console-{}", std::process::id()));
        let paths = Paths::under(&root);
        std::fs::create_dir_all(&paths.run).unwrap();
        std::fs::write(paths.status_json(), r#"{"node":{"name":"node-1","version":"0.1.0"}}"#).unwrap();
        let dead = status(&paths, false).unwrap();
        assert!(dead.contains("node-1") && dead.contains("The agent is not running"), "{dead}");
        let alive = alive::declare(&paths.alive()).unwrap();
        assert!(!status(&paths, false).unwrap().contains("is not running"));
        assert!(status(&paths, true).unwrap().contains("\"agent_running\": true"));
        drop(alive);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn standard_output_on_a_serial_port_is_known_by_its_name() {
        assert_eq!(terminal(Path::new("/dev/ttyS0")), Some("/dev/ttyS0".into()));
        assert_eq!(terminal(Path::new("/dev/tty1")), Some("/dev/tty1".into()));
        for other in ["/dev/pts/0", "socket:[7]", "/tmp/tty", "/dev/null"] {
            assert_eq!(terminal(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_serial_line_hears_of_progress_ten_times_and_a_screen_always() {
        let view = |bytes| {
            let text =
                format!(r#"{{"images":[{{"name":"a","phase":"fetching","bytes":{bytes},"total":1000}}]}}"#);
            View { status: serde_json::from_str(&text).ok(), ..View::default() }
        };
        assert_eq!(block(&view(110)), block(&view(190)));
        assert_ne!(block(&view(110)), block(&view(210)));
        assert_ne!(screen(&view(110)), screen(&view(190)));
    }
}
