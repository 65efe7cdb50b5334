//! Node config to files: what the node's services are told, as a value.
//!
//! Pure: the same config and facts give the same files, compared with golden ones in tests/configure.
//! Route in: [`NodeConfig`] and [`Facts`]. Route out: a [`Plan`], written by the caller.

use super::{links, system, units};
use sheaf_config::node::{Network, NodeConfig, Secret};
use sheaf_host::nic::Nic;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Part of the name of every network file that is ours.
pub(super) const MARK: &str = "-sheaf-";

/// What is known of the machine and of the image it runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its wired NICs.
    pub nics: Vec<Nic>,
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

/// All of a node with this config, whose links are those of `network`: node.toml's, and what was laid over them.
pub fn plan(config: &NodeConfig, network: &Network, facts: &Facts) -> Plan {
    let mut files = system::files(config, facts);
    files.extend(network_files(network, &facts.nics, facts.usual_nic.as_deref()));
    Plan { files, notes: system::notes(config, facts) }
}

/// What networkd and udev are told of the links of `network`.
pub(crate) fn network_files(network: &Network, cards: &[Nic], usual: Option<&str>) -> Vec<File> {
    let mut files = Vec::new();
    for device in links::devices(network, cards, usual) {
        let place = if matches!(device.kind, links::Kind::Card(..)) { "30" } else { "20" };
        let at = |kind: &str| format!("/run/systemd/network/{place}{MARK}{}.{kind}", device.file);
        // udev takes the first file that matches: ours stands in front of systemd's 99-default.link.
        files.extend(units::link(&device).map(|text| File::text(at("link"), text)));
        files.extend(units::netdev(&device).map(|text| File::text(at("netdev"), text)));
        files.push(File::text(at("network"), units::network(&device)));
    }
    files
}

/// The MTU that each link of `network` is given, by the kernel's name of it; none leaves what is usual.
pub(crate) fn mtus(network: &Network, cards: &[Nic], usual: Option<&str>) -> BTreeMap<String, Option<u32>> {
    let devices = links::devices(network, cards, usual);
    devices.iter().filter_map(|device| Some((device.kernel_name(cards)?.to_owned(), device.mtu))).collect()
}
