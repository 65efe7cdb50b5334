//! Agents as programs of the control plane ask them: where one listens, by what identity, and how its counters are read.
//!
//! Why here: sheaf-controller and sheaf-console both ask. Pure but for [`identity`], which may read the files that a kubeconfig
//! names. Route in: a Node, the user of a kubeconfig, lines of Prometheus' text format. Route out: an address, PEM, numbers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Node;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;
use std::net::IpAddr;

/// Where a node's agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the node.
    pub node: String,
    /// Its internal address.
    pub address: IpAddr,
    /// The port of its API.
    pub port: u16,
}

/// Why there is no way to a node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// The Node has no address.
    #[error("node {0} reports no address")]
    Address(String),
    /// Its agent does not listen, or is of an earlier version.
    #[error("node {0} does not serve its API yet; look at `journalctl -u sheaf-agent` there")]
    Port(String),
}

impl Target {
    /// The agent of `node`.
    pub fn of(node: &Node) -> Result<Self, NoTarget> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let address = addresses
            .iter()
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse().ok())
            .ok_or_else(|| NoTarget::Address(name.clone()))?;
        let port = status
            .and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref())
            .and_then(|endpoint| u16::try_from(endpoint.port).ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| NoTarget::Port(name.clone()))?;
        Ok(Self { node: name, address, port })
    }
}

/// Why a kubeconfig has no identity that an agent takes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Neither data nor a file.
    #[error("the kubeconfig has no client certificate")]
    Missing,
    /// Data of it.
    #[error("certificate data is not base64: {0}")]
    Base64(#[source] base64::DecodeError),
    /// A file that it names.
    #[error("{0}: cannot be read: {1}")]
    File(String, #[source] std::io::Error),
}

/// Certificate (with its chain) and key of a kubeconfig's user, in PEM.
pub fn identity(user: &AuthInfo) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
    let read = |data: Option<&str>, file: &Option<String>| match (data, file) {
        (Some(text), _) => STANDARD.decode(text.trim()).map_err(IdentityError::Base64),
        (None, Some(path)) => std::fs::read(path).map_err(|error| IdentityError::File(path.clone(), error)),
        (None, None) => Err(IdentityError::Missing),
    };
    let key = user.client_key_data.as_ref().map(|key| key.expose_secret());
    Ok((
        read(user.client_certificate_data.as_deref(), &user.client_certificate)?,
        read(key, &user.client_key)?,
    ))
}

/// Name, labels and value of a line of Prometheus' text format; `None` for comments and for anything else. A node writes the text, so
/// nothing of it is trusted: a value is finite and not negative.
pub fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.trim_end().rsplit_once(' ')?;
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels.trim_end_matches('}'), value))
}

/// Value of a label; the first of its name. Names of namespaces, Pods and machines have no character that would be escaped.
pub fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_reached_at_its_first_internal_address_and_the_port_that_it_reports() {
        let node = |status| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": status})).unwrap()
        };
        let addresses =
            json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.7"}]);
        let endpoint = json!({"kubeletEndpoint": {"Port": 10250}});
        let whole = Target::of(&node(json!({"addresses": addresses, "daemonEndpoints": endpoint}))).unwrap();
        assert_eq!((whole.address.to_string().as_str(), whole.port), ("192.0.2.7", 10250));
        let silent =
            node(json!({"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}));
        assert_eq!(Target::of(&silent), Err(NoTarget::Port("n1".into())));
        assert_eq!(
            Target::of(&node(json!({"daemonEndpoints": endpoint}))),
            Err(NoTarget::Address("n1".into()))
        );
    }
}
