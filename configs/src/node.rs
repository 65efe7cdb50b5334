//! Node config (`node.toml`): everything an operator may ask of one node.
//!
//! The same file drives the unattended installer, is written by the interactive one and is read by the agent at
//! every boot. There is no Deserialize here: [`crate::load`] is the only way in, so a value that exists is valid.
//! Route in: `load`. Route out: installer's plan, agent's controllers; [`NodeConfig::to_toml`] writes the file.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The only version of the format so far.
pub const VERSION: u32 = 1;

/// Addresses of Services when `service-cidr` is not given: kubeadm's default, narrowed to what one cluster needs.
pub const SERVICE_CIDR: Cidr = Cidr { ip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), prefix: 16 };

/// One node's config, as written by an operator and accepted by validation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Format of the file: [`VERSION`].
    pub version: u32,
    /// How the machine is installed; not needed on a running node, kept for a reinstall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// Name and time of the node.
    pub system: System,
    /// Links and addresses.
    pub network: Network,
    /// The cluster it makes or joins; without it the node is installed and waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Disk images for VMs that the node fetches and keeps.
    #[serde(rename = "image", skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
}

/// `[install]`
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Install {
    /// Picks the one disk to install on.
    pub disk: DiskSelector,
    /// Serial number of that disk, repeated: allows its present contents to be erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe: Option<String>,
    /// What the installer does when it is done.
    pub then: Then,
}

/// `[install.disk]`: every given key must hold, and exactly one disk must be left.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskSelector {
    /// Serial number, exactly as `lsblk -o SERIAL` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World-wide name, `eui.…`, `naa.…` or `0x…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// A device path, or one of its stable links: `/dev/disk/by-path/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `nvme`, `sata`, `sas`, `virtio`, `usb` or `scsi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<Bus>,
    /// Model name, exactly as `lsblk -o MODEL` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Smallest size, `"500GB"` or `"465GiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// Largest size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Size(pub u64);

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// Units of a size, largest first; a size is written in the largest that divides it.
const UNITS: [(&str, u64); 6] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim();
        let factor = match UNITS.iter().find(|(known, _)| *known == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() || unit == "B" => 1,
            None => return Err(SizeError::Unit),
        };
        let number: u64 = number.parse().map_err(|_| SizeError::Number)?;
        number.checked_mul(factor).map(Size).ok_or(SizeError::TooLarge)
    }
}

/// Why a text is no [`Size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No digits, or too many.
    #[error("does not start with a whole number")]
    Number,
    /// None of [`UNITS`].
    #[error("has an unknown unit")]
    Unit,
    /// More than 64 bits.
    #[error("is larger than any disk")]
    TooLarge,
}

/// An address with a prefix length, `192.0.2.10/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Cidr {
    /// The address, all bits.
    pub ip: IpAddr,
    /// How many leading bits name the network.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl Cidr {
    /// Bits behind the prefix, as a mask in the low bits of 128.
    fn host_bits(self) -> u128 {
        let width = if self.ip.is_ipv4() { 32 } else { 128 };
        u128::MAX.checked_shr(128 - (width - u32::from(self.prefix))).unwrap_or(0)
    }

    fn address(self, bits: u128) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }

    /// First address of its network.
    pub fn first(self) -> IpAddr {
        self.address(bits(self.ip) & !self.host_bits())
    }

    /// Last address of its network.
    pub fn last(self) -> IpAddr {
        self.address(bits(self.ip) | self.host_bits())
    }

    /// Whether `ip` lies in its network.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.ip.is_ipv4() == ip.is_ipv4() && bits(ip) & !self.host_bits() == bits(self.first())
    }

    /// Whether the two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// What follows a successful installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names say it
pub enum Then {
    #[default]
    Reboot,
    PowerOff,
}

/// `[system]`
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct System {
    /// Host name and Kubernetes Node name: an RFC 1123 label in lower case, at most 63 characters.
    pub hostname: String,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// Name servers, besides those DHCP gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Time servers, besides those DHCP gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// `[[network.bridge]]`: VMs and the node itself are reached through these.
    #[serde(rename = "bridge")]
    pub bridges: Vec<Bridge>,
}

impl Default for Network {
    fn default() -> Self {
        Self { dns: Vec::new(), ntp: Vec::new(), bridges: vec![Bridge::default()] }
    }
}

impl Default for Bridge {
    /// What a file without `[[network.bridge]]` means: `br0` by DHCP over the machine's only NIC.
    fn default() -> Self {
        let (ports, addresses) = (Vec::new(), Vec::new());
        Self { name: "br0".into(), ports, dhcp: None, addresses, gateway: None, mtu: None }
    }
}

impl Bridge {
    /// Whether it asks DHCP for an address.
    pub fn uses_dhcp(&self) -> bool {
        self.dhcp.unwrap_or(self.addresses.is_empty())
    }
}

/// One bridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bridge {
    /// Interface name, `br0`.
    pub name: String,
    /// NICs in it: permanent MAC (`"52:54:00:12:34:56"`) or kernel name (`"enp1s0"`). Empty: the only NIC there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Ask DHCP for an address; default: exactly when no address is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// Static addresses with prefix length, `"192.0.2.10/24"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
    /// Default gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Largest frame, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// Make a cluster, or join one.
    pub mode: ClusterMode,
    /// join: `https://HOST:6443`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Bootstrap token `abcdef.0123456789abcdef`. join: redeemed once. create: made valid for joining nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// join: `sha256:<64 hex digits>` of the CA certificate's SubjectPublicKeyInfo, as kubeadm prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_hash: Option<String>,
    /// create: further names and addresses in the API server's certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// create: public keys (PEM, `sheaf admin new`) whose owners administer the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admin_keys: Vec<String>,
    /// create: addresses of Services; default [`SERVICE_CIDR`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<Cidr>,
    /// Labels of the Node object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What stands in place of a token that a node has used up: the node is in, and needs none.
pub const REDEEMED: &str = "redeemed";

/// The node's part in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum ClusterMode {
    Create,
    Join,
}

/// `[[image]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// File name under the node's image directory (`/data/images`).
    pub name: String,
    /// `https://…`, `http://…`, or `medium:PATH` for a file that `sheaf iso --image` put on the install medium.
    pub url: String,
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: String,
}

/// Text that is never shown: not in Debug, logs, status, nor where a config is serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// What stands for a secret wherever one is shown.
const MASK: &str = "***";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{MASK}\"")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl NodeConfig {
    /// The file's text, secrets included: for `node.toml` itself, mode 0600, and nothing else.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut tree = toml::Table::try_from(self)?;
        let token = self.cluster.as_ref().and_then(|cluster| cluster.token.as_ref());
        if let (Some(Secret(token)), Some(toml::Value::Table(cluster))) = (token, tree.get_mut("cluster")) {
            cluster.insert("token".into(), toml::Value::String(token.clone()));
        }
        toml::to_string_pretty(&tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        crate::syntax::cidr(text).unwrap()
    }

    #[test]
    fn a_network_knows_its_ends_and_what_lies_in_it() {
        let network = cidr("192.0.2.77/26");
        assert_eq!(network.first().to_string(), "192.0.2.64");
        assert_eq!(network.last().to_string(), "192.0.2.127");
        assert!(network.contains("192.0.2.100".parse().unwrap()));
        assert!(!network.contains("192.0.2.128".parse().unwrap()));
        assert!(!network.contains("2001:db8::".parse().unwrap()));
        assert!(Cidr { prefix: 0, ..network }.contains("203.0.113.9".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.96.0.0/16")));
        assert_eq!(cidr("2001:db8::1/64").last().to_string(), "2001:db8::ffff:ffff:ffff:ffff");
        assert_eq!(cidr("192.0.2.1/32").last().to_string(), "192.0.2.1");
    }

    #[test]
    fn a_size_is_written_as_it_was_read() {
        for text in ["500GB", "465GiB", "2TiB", "4096", "1TB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("99999999TiB".parse::<Size>(), Err(SizeError::TooLarge));
        assert_eq!("12 parsecs".parse::<Size>(), Err(SizeError::Unit));
        assert_eq!("GB".parse::<Size>(), Err(SizeError::Number));
    }

    #[test]
    fn a_token_is_written_to_the_file_and_nowhere_else() {
        let text = "version = 1\nsystem.hostname = \"a\"\n[cluster]\nmode = \"create\"\ntoken = \"abcdef.0123456789abcdef\"\n";
        let config = crate::load::parse_node_config("node.toml", text).unwrap();
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        assert!(shown.contains("***"));
        let written = config.to_toml().unwrap();
        assert_eq!(crate::load::parse_node_config("node.toml", &written).unwrap(), config);
    }
}
