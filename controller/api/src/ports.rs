//! Ports of a VM's interface: what a manifest says that the guest listens on.
//!
//! Why here: names and meanings are KubeVirt's, where a list closes all other ports of an interface with masquerade. Here no port
//! of such a guest is open to others, so the list opens and closes nothing; it stays in the spec for people and tools.
//! Route in: `spec.domain.devices.interfaces[].ports` of a VMI. Route out: nothing that the node acts on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port that the guest listens on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// Its name, as of a port of a Service; no two of an interface are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), regex(pattern = r"^([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$"))]
    pub name: Option<String>,
    /// TCP or UDP. Default: TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
}

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
