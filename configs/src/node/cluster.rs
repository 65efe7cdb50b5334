//! `[cluster]`: what the node makes or joins, and what its Node object says.
//!
//! Route in: `load`. Route out: the agent's cluster controller.

use super::{Secret, Size, Taint};
use schemars::JsonSchema;
use serde::Serialize;
use sheaf_links::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of Services when `service-cidr` is not given: kubeadm's default, narrowed to what one cluster needs.
pub const SERVICE_CIDR: IpNet = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 16);

/// What replaces a token once a node has used it: the node has joined and needs no token.
pub const REDEEMED: &str = "redeemed";

/// The cluster that the node makes or joins.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Cluster {
    /// What the node does at its first start.
    pub mode: ClusterMode,
    /// join, required: where the cluster is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"https://192.0.2.10:6443")]
    pub server: Option<String>,
    /// join, required: used once, for the node's certificate; then the node writes `"redeemed"` in its place. create:
    /// this token is made valid for joining nodes. Never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"abcdef.0123456789abcdef")]
    pub token: Option<Secret>,
    /// join as control-plane, required: 64 hex digits that `sheaf-agent token create --control-plane` prints. They decrypt the
    /// cluster's keys, once; then the node writes `"redeemed"` in their place. Never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"6a0c2b8f5d1e4937a8b6c5d4e3f201926a0c2b8f5d1e4937a8b6c5d4e3f20192")]
    pub certificate_key: Option<Secret>,
    /// join, required: `sha256:` and 64 hex digits of the cluster CA's key, as the first node's screen shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub ca_hash: Option<String>,
    /// join: `"control-plane"` makes the node one more of those that run the cluster; it needs a token of
    /// `sheaf-agent token create --control-plane`. Default: `"worker"`. The node that creates a cluster is always of its control
    /// plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// create and control-plane: further names and addresses under which the API server is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["cluster.example.org"]]))]
    pub sans: Vec<String>,
    /// create and control-plane: an address for people, IPv4 or IPv6, in the network of the node's own address and used by no
    /// machine. One control-plane node whose API server is ready has it at a time. Write the same on every control-plane node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"192.0.2.100")]
    pub vip: Option<IpAddr>,
    /// create: public keys in PEM (`sheaf admin new DIR` makes a pair) whose owners administer the cluster. Without any, the
    /// node's screen shows a code by which the first administrator claims the cluster in the console.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub admin_keys: Vec<String>,
    /// create: addresses of Services; must not overlap the nodes' networks. Default: `10.96.0.0/16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"10.96.0.0/16")]
    pub service_cidr: Option<IpNet>,
    /// Labels of the Node object. The API server does not let a node give itself a role (`node-role.kubernetes.io/…`) or
    /// other reserved labels; such are refused here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints that the Node object has from its first moment, as kubectl writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["dedicated=db:NoSchedule"]]))]
    pub taints: Vec<Taint>,
    /// create and control-plane: when snapshots of etcd are taken on the node, and how many are kept in
    /// `/data/etcd-snapshots`.
    #[serde(skip_serializing_if = "Snapshots::is_default")]
    #[schemars(default)]
    pub snapshots: Snapshots,
}

/// Hours between two snapshots of etcd.
pub const SNAPSHOT_HOURS: u32 = 6;
/// Snapshots that are kept: three days of them.
pub const SNAPSHOTS_KEPT: u32 = 12;
/// Bytes that snapshots may take together: a database of 50 MiB is usual, etcd's own bound for one is 2 GiB.
pub const SNAPSHOTS_SIZE: Size = Size(4 << 30);

/// When snapshots of etcd are taken, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields, default)]
pub struct Snapshots {
    /// Hours between two snapshots.
    #[schemars(range(min = 1, max = 168))]
    pub interval_hours: u32,
    /// Snapshots that are kept; the newest that was taken before an update is kept besides.
    #[schemars(range(min = 1, max = 100))]
    pub keep: u32,
    /// What they may take together, at least 256 MiB; beyond it the oldest are removed, and never the newest.
    pub max_size: Size,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { interval_hours: SNAPSHOT_HOURS, keep: SNAPSHOTS_KEPT, max_size: SNAPSHOTS_SIZE }
    }
}

impl Snapshots {
    /// Whether nothing was said about them.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Cluster {
    /// The role of the node in the cluster.
    pub fn role(&self) -> Role {
        match self.mode {
            ClusterMode::Create => Role::ControlPlane,
            ClusterMode::Join => self.role.unwrap_or(Role::Worker),
        }
    }
}

/// What a node does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ClusterMode {
    /// The first node: makes the control plane and runs VMs.
    Create,
    /// Every further node.
    Join,
}

/// The role of a node in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Role {
    /// Runs VMs.
    Worker,
    /// Runs VMs and the cluster.
    ControlPlane,
}
