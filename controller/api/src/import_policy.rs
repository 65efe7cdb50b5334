//! `sheaf.dev/v1alpha1` ImportPolicy: which servers the nodes fetch the images of DataVolumes from.
//!
//! Why here: a user who can create a DataVolume makes a node fetch a URL from inside the node's networks; an administrator says
//! which servers that may reach. There is one, called `default`. Route in: an administrator's manifest; the controller
//! writes which addresses belong to the cluster itself. Route out: the policy that each node judges every connection by.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::rule::{Reason, Rule};

/// The name of the only ImportPolicy that counts.
pub const IMPORT_POLICY: &str = "default";

/// Which servers nodes fetch the images of DataVolumes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "ImportPolicy",
    plural = "importpolicies",
    category = "sheaf",
    derive = "PartialEq",
    status = "ImportPolicyStatus",
    doc = "Which servers nodes fetch the images of DataVolumes from.",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ImportPolicySpec {
    /// Servers that may be used. Empty: all that are neither denied nor protected. Protected are loopback and link-local
    /// addresses, those of the nodes and of the API server, Services and masq0; a rule opens one of them only by a CIDR
    /// that lies within the protected network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow: Vec<ServerRule>,
    /// Servers that may not be used, whatever allow says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub deny: Vec<ServerRule>,
    /// Whether a redirect may lead from https to http. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
}

/// A set of servers: those that match each of the lists that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerRule {
    /// Networks in which the server's address lies: `192.0.2.0/24`, `2001:db8::/32`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49), regex(pattern = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")))]
    pub cidrs: Vec<String>,
    /// Names in the URL: `images.example.org`, or `*.example.org` for all names below that domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(max = 253), regex(pattern = r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$"))
    )]
    pub hosts: Vec<String>,
    /// Ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
}

/// What the controller knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportPolicyStatus {
    /// Addresses and networks of the cluster itself, which are protected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected: Vec<ProtectedNetwork>,
}

/// A network that is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedNetwork {
    /// The network; a single address is one of /32 or /128.
    pub cidr: String,
    /// What it belongs to: `node n1`, `Services`, `the API server`.
    pub what: String,
}

/// The rules of an ImportPolicy, as the API server checks them (CEL).
pub const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == 'default'",
        says: "there is one ImportPolicy, called default",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "(has(self.allow) ? self.allow : []).all(r, has(r.cidrs) || has(r.hosts) || has(r.ports))",
        says: "a rule names cidrs, hosts or ports",
        field: ".allow",
        reason: Reason::Required,
    },
    Rule {
        at: "spec",
        rule: "(has(self.deny) ? self.deny : []).all(r, has(r.cidrs) || has(r.hosts) || has(r.ports))",
        says: "a rule names cidrs, hosts or ports",
        field: ".deny",
        reason: Reason::Required,
    },
    Rule {
        at: "spec.allow[].cidrs[]",
        rule: "isCIDR(self)",
        says: "is not a network like 192.0.2.0/24",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.deny[].cidrs[]",
        rule: "isCIDR(self)",
        says: "is not a network like 192.0.2.0/24",
        field: "",
        reason: Reason::Invalid,
    },
];
