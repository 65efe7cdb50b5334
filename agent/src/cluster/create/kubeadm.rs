//! The config file of kubeadm's phases, and the commands that run them.
//!
//! Why here: kubeadm's own phases make the PKI, so it is what any Kubernetes tool expects. Route in: what a
//! control plane needs to know. Route out: text and commands, as values.

use sheaf_host::run::Command;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Longest time a phase may take: making keys on an emulated CPU takes 20 s.
const DEADLINE: Duration = Duration::from_secs(180);

pub use sheaf_api::join_token::GROUP as BOOTSTRAP_GROUP;

/// Port of the API server.
pub const API_PORT: u16 = 6443;

/// What makes one control plane different from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    /// Name of this node.
    pub node: String,
    /// Address by which others reach the API server.
    pub address: IpAddr,
    /// Further names and addresses in its certificate.
    pub sans: Vec<String>,
    /// Addresses of Services.
    pub service_cidr: String,
    /// Version of the `kube` binary, `v1.37.2`.
    pub version: String,
}

impl ControlPlane {
    /// `https://ADDRESS:6443`.
    pub fn server(&self) -> String {
        server(self.address)
    }
}

/// `https://ADDRESS:6443`.
pub fn server(address: IpAddr) -> String {
    format!("https://{}:{API_PORT}", crate::etcd::program::host(address))
}

/// kubeadm's config, its keys in `certificates`. JSON is YAML, and quotes whatever needs quotes.
pub fn config(plane: &ControlPlane, certificates: &Path, token: Option<&str>) -> String {
    let mut sans = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    sans.extend(plane.sans.iter().cloned());
    // Without a list kubeadm makes up a token of its own.
    let tokens = token.map(|token| {
        serde_json::json!([{
            "token": token,
            "ttl": "15m0s",
            "description": "Bootstrap token of the first node",
            "usages": ["signing", "authentication"],
            "groups": [BOOTSTRAP_GROUP],
        }])
    });
    let mut init = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": plane.address, "bindPort": API_PORT},
        // There is no container runtime; a name keeps kubeadm from searching for one.
        "nodeRegistration": {"name": plane.node, "criSocket": "unix:///run/sheaf/no-container-runtime.sock"},
    });
    if let Some(tokens) = tokens {
        init["bootstrapTokens"] = tokens;
    }
    let cluster = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": "sheaf",
        // Named, so that kubeadm does not ask the internet for one.
        "kubernetesVersion": plane.version,
        "certificatesDir": certificates,
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {"serviceSubnet": plane.service_cidr},
        "apiServer": {"certSANs": sans},
    });
    format!("{init}\n---\n{cluster}\n")
}

/// `kubeadm init phase …` with its config file.
pub fn phase(words: &[&str], config: &Path) -> Command {
    Command::new("kubeadm").args(["init", "phase"]).args(words).arg("--config").arg(config).deadline(DEADLINE)
}

/// `kubeadm version -o short`.
pub fn version() -> Command {
    Command::new("kubeadm").args(["version", "-o", "short"]).deadline(DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane() -> ControlPlane {
        ControlPlane {
            node: "n1".into(),
            address: "192.0.2.10".parse().unwrap(),
            sans: vec!["api.example".into()],
            service_cidr: "10.96.0.0/16".into(),
            version: "v1.37.2".into(),
        }
    }

    #[test]
    fn the_certificate_names_the_loopback_and_what_the_operator_added() {
        let text = config(&plane(), Path::new("/pki"), None);
        assert!(text.contains(r#""certSANs":["127.0.0.1","localhost","api.example"]"#), "{text}");
        assert!(text.contains(r#""encryptionAlgorithm":"ECDSA-P256""#), "{text}");
        assert!(!text.contains("bootstrapTokens"), "{text}");
    }

    #[test]
    fn the_servers_address_is_a_url_in_both_families() {
        assert_eq!(plane().server(), "https://192.0.2.10:6443");
        assert_eq!(
            ControlPlane { address: "2001:db8::1".parse().unwrap(), ..plane() }.server(),
            "https://[2001:db8::1]:6443"
        );
    }
}
