//! Node config to files: what the node's services are told, as a value.
//!
//! Pure: the same config and NICs give the same files, compared with golden ones in tests/configure.
//! Route in: [`NodeConfig`] and the NICs found. Route out: [`File`]s, written by the caller.

use super::units;
use sheaf_config::node::{Bridge, NodeConfig};
use sheaf_host::nic::Nic;
use std::path::PathBuf;

/// Part of the name of every network file that is ours.
pub(super) const MARK: &str = "-sheaf-";

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path on the node, under `/etc` or `/run`.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Text.
    pub content: String,
}

/// All files of a node with this config and these NICs, of which `usual` (a MAC) was taken at an earlier boot.
pub fn plan(config: &NodeConfig, nics: &[Nic], usual: Option<&str>) -> Vec<File> {
    // World-readable: none of them holds a secret, and each service reads them as its own user.
    let file = |path: String, content: String| File { path: path.into(), mode: 0o644, content };
    let name = &config.system.hostname;
    let network = &config.network;
    let mut files = vec![
        file("/etc/hostname".into(), format!("{name}\n")),
        // The node's own name is answered by systemd-resolved with the addresses it really has.
        file("/etc/hosts".into(), "127.0.0.1 localhost\n::1 localhost\n".into()),
        file("/run/systemd/resolved.conf.d/50-sheaf.conf".into(), units::resolved(&network.dns)),
        file("/run/systemd/timesyncd.conf.d/50-sheaf.conf".into(), units::timesyncd(&network.ntp)),
    ];
    for bridge in &network.bridges {
        let at =
            |place: &str| format!("/run/systemd/network/{}{MARK}{}{}", &place[..2], bridge.name, &place[2..]);
        let ports = ports(bridge, nics, usual);
        let mac = ports.first().and_then(|port| port.mac(nics));
        files.push(file(at("20.link"), units::bridge_link(bridge)));
        files.push(file(at("20.netdev"), units::bridge_netdev(bridge, mac)));
        files.push(file(at("20.network"), units::bridge_network(bridge)));
        for (index, port) in ports.iter().enumerate() {
            files.push(file(at(&format!("30-port{index}.network")), units::port_network(bridge, port)));
        }
    }
    files
}

/// How a NIC is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// By the MAC it was made with.
    Mac(String),
    /// By its kernel name.
    Name(String),
}

impl Port {
    fn mac<'a>(&'a self, nics: &'a [Nic]) -> Option<&'a str> {
        match self {
            Self::Mac(mac) => Some(mac),
            Self::Name(name) => nics.iter().find(|nic| nic.name == *name)?.permanent_mac.as_deref(),
        }
    }
}

/// The NIC of a bridge that names none: the machine's only one. Where there are several it is the one of the earlier
/// boot, else the first by name, and never all of them: two cables into one switch and a bridge that joins them stop
/// a whole network.
pub(super) fn default_nic<'a>(nics: &'a [Nic], usual: Option<&str>) -> Option<&'a Nic> {
    let is_usual = |nic: &&Nic| usual.is_some() && nic.permanent_mac.as_deref() == usual;
    nics.iter().find(is_usual).or_else(|| nics.iter().min_by_key(|nic| &nic.name))
}

/// The NICs of `bridge`.
fn ports(bridge: &Bridge, nics: &[Nic], usual: Option<&str>) -> Vec<Port> {
    let of_nic = |nic: &Nic| match &nic.permanent_mac {
        Some(mac) => Port::Mac(mac.clone()),
        None => Port::Name(nic.name.clone()),
    };
    if bridge.ports.is_empty() {
        return default_nic(nics, usual).map(of_nic).into_iter().collect();
    }
    let of_text = |text: &String| match text.contains(':') {
        true => Port::Mac(text.clone()),
        false => Port::Name(text.clone()),
    };
    bridge.ports.iter().map(of_text).collect()
}
