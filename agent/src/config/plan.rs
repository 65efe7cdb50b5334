//! Node config to files: what the node's services are told, as a value.
//!
//! Pure: the same config and facts give the same files, compared with golden ones in tests/configure.
//! Route in: [`NodeConfig`] and [`Facts`]. Route out: a [`Plan`], written by the caller.

use super::system;
use crate::network::files;
use sheaf_config::node::{NodeConfig, Secret};
use sheaf_links::{FoundNic, Links};
use std::path::PathBuf;

/// First line of every file.
pub(super) const HEADER: &str = "# Written from /state/node.toml at each boot.\n";

/// What is known of the machine and of the image it runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its wired NICs.
    pub nics: Vec<FoundNic>,
    /// MAC of the NIC that was taken at an earlier boot, where the config names none.
    pub usual_nic: Option<String>,
    /// The image holds an SSH server.
    pub has_sshd: bool,
    /// Time zones that the image knows; `None` when it knows none but UTC.
    pub has_timezone: bool,
    /// The image's trusted authorities, PEM.
    pub authorities: String,
    /// The kernel's arguments of this boot.
    pub kernel_arguments: String,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// Text that is never shown.
    Hidden(Secret),
    /// It is a symbolic link to this path.
    Link(String),
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path on the node, under `/etc` or `/run`.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

impl File {
    /// World-readable: each service reads them as its own user.
    pub(super) fn text(path: impl Into<PathBuf>, text: String) -> Self {
        Self { path: path.into(), mode: 0o644, content: Content::Text(text) }
    }
}

/// What is done with a node config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Written in this order.
    pub files: Vec<File>,
    /// What the config asks for and this node does not do: field, why, remedy.
    pub notes: Vec<String>,
}

/// All of a node with this config and these links: node.toml's, and what was laid over them.
pub fn plan(config: &NodeConfig, links: &Links, facts: &Facts) -> Plan {
    let of_links = files::files(links, &facts.nics, facts.usual_nic.as_deref());
    let of_links =
        of_links.into_iter().map(|(name, text)| File::text(format!("{}/{name}", files::FOLDER), text));
    Plan {
        files: system::files(config, facts).into_iter().chain(of_links).collect(),
        notes: system::notes(config, facts),
    }
}
