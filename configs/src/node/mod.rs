//! Node config (`node.toml`): everything an operator may ask of one node.
//!
//! The same file drives the unattended installer, is written by the interactive one and is read by the agent at
//! every boot. There is no Deserialize here: [`crate::load`] is the only way in, so a value that exists is valid.
//! One file for each table; their comments are the operator's reference (docs/config.md and the JSON Schema are
//! made of them). Route in: `load`. Route out: installer's plan, agent's controllers; [`NodeConfig::to_toml`].

mod cluster;
mod console;
mod disk;
pub mod fleet;
mod image;
mod install;
mod links;
mod network;
mod registry;
mod secret;
mod size;
mod storage;
mod system;
mod taint;
mod vms;
mod webhook;

pub use cluster::{Cluster, ClusterMode, REDEEMED, Role, SERVICE_CIDR, Snapshots};
pub use console::Console;
pub use disk::{Bus, DataDisk, DiskSelector};
pub use fleet::{Identity, Match};
pub use image::Image;
pub use install::{Install, Reinstall, Then};
pub use network::{Network, Proxy};
pub use registry::Registry;
pub use secret::Secret;
pub use size::{Size, SizeError};
pub use storage::{Pool, Storage};
pub use system::{File, Hostname, System};
pub use taint::{Effect, Taint};
pub use vms::Vms;
pub use webhook::{Basic, Event, Method, Webhook};

pub(crate) use system::default_mode;

use schemars::JsonSchema;
use serde::Serialize;

/// The only version of the format so far.
pub const VERSION: u32 = 1;

/// One node's config, as written by an operator and accepted by validation.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NodeConfig {
    /// Format of the file: `1`.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// How the machine is installed. Read by the installer and kept on the node for a reinstall. Without it a medium
    /// only shows what it finds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// Name, access and settings of the host.
    pub system: System,
    /// Links and addresses, name and time servers.
    #[schemars(default)]
    pub network: Network,
    /// The cluster that the node makes or joins. Without it a node is installed and waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// The administration console, on a control-plane node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<Console>,
    /// Disks that hold volumes of VMs.
    #[serde(skip_serializing_if = "Storage::is_empty")]
    #[schemars(default)]
    pub storage: Storage,
    /// What virtual machines of this node may do.
    #[serde(skip_serializing_if = "Vms::is_empty")]
    #[schemars(default)]
    pub vms: Vms,
    /// Disk images for VMs that the node fetches and keeps.
    #[serde(rename = "image", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub images: Vec<Image>,
    /// How registries of container disks are reached, where not by https at their own names.
    #[serde(rename = "registry", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub registries: Vec<Registry>,
}

impl NodeConfig {
    /// A config that asks for a name and nothing else: one bridge by DHCP, no cluster.
    pub fn named(hostname: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            install: None,
            system: System { hostname: hostname.into(), ..System::default() },
            network: Network::default(),
            cluster: None,
            console: None,
            storage: Storage::default(),
            vms: Vms::default(),
            images: Vec::new(),
            registries: Vec::new(),
        }
    }

    /// The file's text, secrets included: for `node.toml` itself, mode 0600, and nothing else.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        secret::in_the_clear(|| toml::to_string_pretty(self))
    }

    /// The file's text as it may be shown: secrets are `***`.
    pub fn to_masked_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_is_written_to_the_file_and_nowhere_else() {
        let text = "version = 1\nsystem.hostname = \"a\"\n[cluster]\nmode = \"create\"\ntoken = \"abcdef.0123456789abcdef\"\n";
        let config = crate::load::parse_node_config("node.toml", text).unwrap();
        let shown = format!(
            "{config:?} {} {}",
            serde_json::to_string(&config).unwrap(),
            config.to_masked_toml().unwrap()
        );
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        assert!(shown.contains("***"));
        let written = config.to_toml().unwrap();
        assert_eq!(crate::load::parse_node_config("node.toml", &written).unwrap(), config);
    }
}
