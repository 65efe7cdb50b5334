//! Nodes of the lab: what their node.toml says. Pure.
//!
//! Why here: demo and cases install the same nodes. The user-mode network of [`crate::arguments`] is 10.0.2.0/24;
//! nodes have fixed addresses below .15, where its DHCP (for VMs) begins.
//! Route in: a [`Node`]. Route out: its file, as an operator would write it.

use std::net::Ipv4Addr;

/// The bootstrap token in node.toml of every first node of the lab: good for one node.
pub const TOKEN: &str = "sheaf0.0123456789abcdef";

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Host name.
    pub name: String,
    /// Its address, /24.
    pub address: Ipv4Addr,
    /// MAC address of its NIC.
    pub mac: String,
    /// How its disk is selected, the inside of `disk = { … }`.
    pub disk: String,
    /// Its part in the cluster.
    pub role: Role,
    /// Images on its medium: name and SHA-256.
    pub images: Vec<(String, String)>,
}

/// A node's part in its cluster.
#[derive(Clone, Debug)]
pub enum Role {
    /// Makes the cluster, which the owner of this public key (PEM) administers.
    Create {
        /// The key.
        admin_key: String,
    },
    /// Joins the cluster at this address whose CA has this hash.
    Join {
        /// Address of the first node.
        server: Ipv4Addr,
        /// `sha256:…`
        ca_hash: String,
        /// A token that no other node has used.
        token: String,
    },
}

impl Node {
    /// The first node: makes the cluster.
    pub fn first(admin_key: &str) -> Self {
        Self::numbered(1, Role::Create { admin_key: admin_key.into() })
    }

    /// The second node: joins the first, by `token`.
    pub fn second(ca_hash: &str, token: &str) -> Self {
        Self::joining(2, ca_hash, token)
    }

    /// A third one.
    pub fn third(ca_hash: &str, token: &str) -> Self {
        Self::joining(3, ca_hash, token)
    }

    fn joining(number: u8, ca_hash: &str, token: &str) -> Self {
        let (ca_hash, token) = (ca_hash.to_owned(), token.to_owned());
        Self::numbered(number, Role::Join { server: [10, 0, 2, 11].into(), ca_hash, token })
    }

    fn numbered(number: u8, role: Role) -> Self {
        Self {
            name: format!("node{number}"),
            address: [10, 0, 2, 10 + number].into(),
            mac: format!("52:54:00:5e:af:{number:02x}"),
            disk: format!("serial = \"SHEAF-{number}\""),
            role,
            images: Vec::new(),
        }
    }

    /// Serial number of its disk.
    pub fn disk_serial(&self) -> String {
        format!("SHEAF-{}", self.name.trim_start_matches("node"))
    }

    /// Its `node.toml`.
    pub fn toml(&self) -> String {
        let Self { name, address, mac, disk, .. } = self;
        let cluster = match &self.role {
            Role::Create { admin_key } => format!(
                "mode = \"create\"\ntoken = \"{TOKEN}\"\nsans = [\"127.0.0.1\"]\nadmin-keys = [\"\"\"\n{}\n\"\"\"]\n",
                admin_key.trim()
            ),
            Role::Join { server, ca_hash, token } => format!(
                "mode = \"join\"\nserver = \"https://{server}:6443\"\ntoken = \"{token}\"\nca-hash = \"{ca_hash}\"\n"
            ),
        };
        let images: String = self
            .images
            .iter()
            .map(|(name, sha256)| {
                format!("\n[[image]]\nname = \"{name}\"\nurl = \"medium:{name}\"\nsha256 = \"{sha256}\"\n")
            })
            .collect();
        format!(
            "version = 1\n\n[install]\ndisk = {{ {disk} }}\n\n[system]\nhostname = \"{name}\"\n\n\
             [network]\ndns = [\"10.0.2.3\"]\n\n[[network.bridge]]\nname = \"br0\"\nports = [\"{mac}\"]\n\
             addresses = [\"{address}/24\"]\ngateway = \"10.0.2.2\"\n\n[cluster]\n{cluster}{images}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joining_node_is_told_server_token_and_pin() {
        let toml = Node::second("sha256:00", TOKEN).toml();
        assert!(
            toml.contains("mode = \"join\"\nserver = \"https://10.0.2.11:6443\"\ntoken = \"sheaf0."),
            "{toml}"
        );
        assert!(toml.contains("ca-hash = \"sha256:00\""), "{toml}");
        assert!(toml.contains("disk = { serial = \"SHEAF-2\" }"), "{toml}");
    }
}
