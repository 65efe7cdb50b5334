//! The support bundle of a node: what helps to find out what is wrong with it, without anything of its guests and without secrets.
//!
//! Why here: one archive for everybody who asks: the node's API, or `sheaf-agent support-bundle` at the machine. Guests' consoles, their
//! records (which have cloud-init data) and keys are left out. Route in: where files lie, the node config. Route out: tar.gz.

use crate::paths::Paths;
use sheaf_config::node::NodeConfig;
use sheaf_host::run::Run;
use sheaf_host::support::{self, Bundle, Program};
use std::io::{self, Write};

/// What a node has beyond any other machine. Lines of the journal are bounded: the agent holds one file at a time in memory.
const PROGRAMS: &[Program] = &[
    (
        "journal.log",
        &["journalctl", "--boot", "--no-pager", "--output=short-precise", "--utc", "--lines=20000"],
    ),
    (
        "journal-before.log",
        &["journalctl", "--boot=-1", "--no-pager", "--output=short-precise", "--utc", "--lines=5000"],
    ),
    ("boots.txt", &["journalctl", "--list-boots", "--no-pager"]),
    ("all-units.txt", &["systemctl", "--no-pager", "--all", "list-units"]),
    ("filters.txt", &["nft", "list", "ruleset"]),
    ("pools.json", &["vgs", "--reportformat", "json", "--units", "b"]),
    ("volumes.json", &["lvs", "--all", "--reportformat", "json", "--units", "b"]),
    ("space.txt", &["df", "--block-size=1", "--output"]),
    ("processes.txt", &["systemd-cgls", "--no-pager", "--full"]),
];
/// Files, likewise.
const FILES: &[&str] = &[
    "proc/pressure/cpu",
    "proc/pressure/io",
    "proc/pressure/memory",
    "proc/loadavg",
    "proc/uptime",
    "proc/interrupts",
    "etc/os-release",
    "run/sheaf/status.json",
];

/// Writes it.
pub fn write<W: Write>(run: &dyn Run, paths: &Paths, config: &NodeConfig, out: W) -> io::Result<W> {
    let mut bundle = Bundle::new(out);
    match config.to_masked_toml() {
        Ok(text) => bundle.add("node.toml", text.as_bytes())?,
        Err(error) => bundle.add("node.toml.error", error.to_string().as_bytes())?,
    }
    bundle.files(&paths.root, support::FILES)?;
    bundle.files(&paths.root, FILES)?;
    bundle.programs(run, support::PROGRAMS)?;
    bundle.programs(run, PROGRAMS)?;
    bundle.finish()
}
