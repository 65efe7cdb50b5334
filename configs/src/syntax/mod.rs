//! What a single value may look like: names, addresses, URLs, hashes.
//!
//! Why here: the same name is checked the same way in every file. Each check is pure and returns what it read, or
//! what is wrong and what to write instead. Route in: a text. Route out: a value, or [`crate::spanned::Wrong`].

mod credential;
mod disk;
mod host;
mod label;
mod system;
mod url;

pub use credential::{
    ca_hash, certificate_chain, certificates, password_hash, private_key, public_key, sha256, ssh_key, token,
};
pub use disk::{disk_fact, disk_path, wwn};
pub use host::{domain, host, hostname, hostname_template};
pub use label::{image_name, label_key, label_value, pool_name, taint};
pub use sheaf_links::value::{
    VLAN_IDS, address, cidr, destination, host_cidr, interface, ipv4, ipv6, mac, network, nic_path, port,
    quoted, server_address, vlan_range,
};
pub use system::{
    cpus, file_mode, file_path, kernel_argument, machine_fact, module, sysctl_key, sysctl_value, timezone,
    uuid,
};
pub use url::{header_name, header_value, image_url, mirror, no_proxy, proxy, registry, server, webhook};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_urls_may_be_names_or_addresses_of_both_families() {
        for good in ["https://a.example:6443", "https://192.0.2.1:6443", "https://[2001:db8::1]:6443"] {
            assert_eq!(server(good).unwrap(), good);
        }
        assert_eq!(server("https://a:6443/").unwrap(), "https://a:6443");
        for bad in [
            "https://2001:db8::1:6443",
            "https://:6443",
            "https://a:0",
            "https://a:6443/x",
            "https://300.1.1.1:1",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_may_not_give_itself_a_role() {
        for bad in [
            "node-role.kubernetes.io/control-plane",
            "node-restriction.kubernetes.io/x",
            "k8s.io/x",
            "x.kubernetes.io/y",
        ] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        for good in ["rack", "example.org/rack", "topology.kubernetes.io/zone", "node.kubernetes.io/x"] {
            assert!(label_key(good).is_ok(), "{good}");
        }
    }
}
