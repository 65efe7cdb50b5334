//! Node config (`node.toml`): everything an operator may ask of one node.
//!
//! The same file drives the unattended installer, is written by the interactive one and is read by the agent at
//! every boot. Route in: `load` gives it after `validate`. Route out: installer's plan, agent's controllers.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The only version of the format so far.
pub const VERSION: u32 = 1;

/// One node's config, as written by an operator and accepted by validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Format of the file: [`VERSION`].
    pub version: u32,
    /// How the machine is installed; not needed on a running node, kept for a reinstall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// Name and time of the node.
    pub system: System,
    /// Links and addresses.
    #[serde(default)]
    pub network: Network,
    /// The cluster it makes or joins; without it the node is installed and waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Disk images for VMs that the node fetches and keeps.
    #[serde(default, rename = "image", skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
}

/// `[install]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Install {
    /// Picks the one disk to install on.
    pub disk: DiskSelector,
    /// Serial number of that disk, repeated: allows its present contents to be erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<String>,
    /// What the installer does when it is done.
    #[serde(default)]
    pub then: Then,
}

/// `[install.disk]`: every given key must hold, and exactly one disk must be left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskSelector {
    /// Serial number, exactly as `lsblk -o SERIAL` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World-wide name, `eui.…`, `naa.…` or `0x…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// A device path, or one of its stable links: `/dev/disk/by-path/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `nvme`, `sata`, `sas`, `virtio`, `usb` or `scsi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<Bus>,
    /// Model name, exactly as `lsblk -o MODEL` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Smallest size, `"500GB"` or `"465GiB"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// Largest size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Bus {
    Nvme,
    Sata,
    Sas,
    Scsi,
    Usb,
    Virtio,
}

/// A number of bytes, written `"32GiB"`, `"500GB"`, `"4096"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.0.to_string()
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(format!("\"{text}\" is no size; write \"500GB\", \"465GiB\" or bytes")),
        };
        let number: u64 = number.parse().map_err(|_| format!("\"{text}\" is no size; write \"500GB\""))?;
        number.checked_mul(factor).map(Size).ok_or_else(|| format!("\"{text}\" is larger than any disk"))
    }
}

/// What follows a successful installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names say it
pub enum Then {
    #[default]
    Reboot,
    PowerOff,
}

/// `[system]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct System {
    /// Host name and Kubernetes Node name: an RFC 1123 label in lower case, at most 63 characters.
    pub hostname: String,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Name servers, besides those DHCP gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<std::net::IpAddr>,
    /// Time servers, besides those DHCP gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// `[[network.bridge]]`: VMs and the node itself are reached through these.
    #[serde(default = "one_bridge", rename = "bridge")]
    pub bridges: Vec<Bridge>,
}

impl Default for Network {
    fn default() -> Self {
        Self { dns: Vec::new(), ntp: Vec::new(), bridges: one_bridge() }
    }
}

/// What a file without `[[network.bridge]]` means: `br0` by DHCP over the machine's only NIC.
fn one_bridge() -> Vec<Bridge> {
    vec![Bridge { name: "br0".into(), ports: Vec::new(), dhcp: None, addresses: Vec::new(), gateway: None, mtu: None }]
}

/// One bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bridge {
    /// Interface name, `br0`.
    pub name: String,
    /// NICs in it: permanent MAC (`"52:54:00:12:34:56"`) or kernel name (`"enp1s0"`). Empty: the only NIC there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Ask DHCP for an address; default: exactly when no address is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// Static addresses with prefix length, `"192.0.2.10/24"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<std::net::IpAddr>,
    /// Largest frame, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// Make a cluster, or join one.
    pub mode: ClusterMode,
    /// join: `https://HOST:6443`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Bootstrap token `abcdef.0123456789abcdef`. join: redeemed once. create: made valid for joining nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// join: `sha256:<64 hex digits>` of the CA certificate's SubjectPublicKeyInfo, as kubeadm prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_hash: Option<String>,
    /// create: further names and addresses in the API server's certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// create: public keys (PEM, `sheaf admin new`) whose owners administer the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin_keys: Vec<String>,
    /// create: addresses of Services; default `10.96.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<String>,
    /// Labels of the Node object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The node's part in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum ClusterMode {
    Create,
    Join,
}

/// `[[image]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// File name under the node's image directory (`/data/images`).
    pub name: String,
    /// `https://…`, `http://…`, or `medium:PATH` for a file that `sheaf iso --image` put on the install medium.
    pub url: String,
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: String,
}

/// Text that is never shown: not in Debug, logs or status.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}
