//! The kinds and acts that the console offers.
//!
//! Why here: one row each, to be read as a whole. A kind that a page needs is added here; Secrets are written and never read,
//! Pods, roles, webhooks and proxies are not there, but for a node's journal and support bundle. Pure.

/// Where a kind lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In namespaces.
    Namespace,
    /// In the cluster.
    Cluster,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET of one or a list.
    Read,
    /// POST.
    Create,
    /// PUT or PATCH of one.
    Change,
    /// DELETE of one.
    Delete,
    /// GET of a part of one.
    Open,
    /// PUT on a part of one.
    Act,
}

/// Of a kind, the objects that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// All.
    Any,
    /// Those in projects, not in namespaces of the cluster's own.
    Projects,
    /// One: its namespace, its name.
    Object(&'static str, &'static str),
}

/// One kind, or one part of it.
pub struct Row {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub scope: Scope,
    /// The part: a subresource.
    pub under: Option<&'static str>,
    pub verbs: &'static [Verb],
    /// Which objects.
    pub only: Only,
    /// Opening it is a WebSocket.
    pub streams: bool,
}

use Scope::{Cluster, Namespace};
use Verb::{Act, Change, Create, Delete, Open, Read};

const READ: &[Verb] = &[Read];
const ALL: &[Verb] = &[Read, Create, Change, Delete];
const ACT: &[Verb] = &[Act];
const OPEN: &[Verb] = &[Open];
const SUBRESOURCES: &str = "subresources.kubevirt.io";
const VM: &str = "virtualmachines";
const VMI: &str = "virtualmachineinstances";

const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    scope: Scope,
    verbs: &'static [Verb],
) -> Row {
    Row { group, version, kind, scope, under: None, verbs, only: Only::Any, streams: false }
}

const fn part(kind: &'static str, under: &'static str, verbs: &'static [Verb]) -> Row {
    Row {
        group: SUBRESOURCES,
        version: "v1",
        kind,
        scope: Namespace,
        under: Some(under),
        verbs,
        only: Only::Any,
        streams: false,
    }
}

/// What a node serves of itself at its own API.
const fn of_node(under: &'static str) -> Row {
    Row { under: Some(under), ..row("", "v1", "nodes", Cluster, OPEN) }
}

/// Of `row`, only these objects.
const fn only(only: Only, row: Row) -> Row {
    Row { only, ..row }
}

const fn stream(under: &'static str) -> Row {
    Row { streams: true, ..part(VMI, under, OPEN) }
}

/// All of them.
pub const ROWS: &[Row] = &[
    // Projects.
    row("", "v1", "namespaces", Cluster, &[Read, Create, Delete]),
    row("", "v1", "events", Namespace, READ),
    // Nodes: cordoning is a maintenance; nothing is changed in the Node.
    row("", "v1", "nodes", Cluster, READ),
    row("sheaf.dev", "v1alpha1", "nodemaintenances", Cluster, ALL),
    row("sheaf.dev", "v1alpha1", "noderemovals", Cluster, ALL),
    // What a node tells of itself, and no other proxy to it.
    of_node("proxy/logs"),
    of_node("proxy/logs/node.toml"),
    of_node("proxy/logs/support-bundle.tar.gz"),
    // One that was rolled back is tried again when it is deleted.
    row("sheaf.dev", "v1alpha1", "nodeupdates", Cluster, &[Read, Create, Delete]),
    row("sheaf.dev", "v1alpha1", "clusterupdates", Cluster, ALL),
    row("sheaf.dev", "v1alpha1", "clusterconfigs", Cluster, READ),
    // Which key has which node's name: a name is released, and the list is not read.
    only(Only::Object("sheaf-system", "node-identities"), row("", "v1", "configmaps", Namespace, &[Change])),
    // Machines.
    row("kubevirt.io", "v1", VM, Namespace, ALL),
    row("kubevirt.io", "v1", VMI, Namespace, &[Read, Delete]),
    part(VM, "start", ACT),
    part(VM, "stop", ACT),
    part(VM, "restart", ACT),
    part(VM, "addvolume", ACT),
    part(VM, "removevolume", ACT),
    part(VM, "expand-spec", OPEN),
    part(VMI, "pause", ACT),
    part(VMI, "unpause", ACT),
    part(VMI, "reset", ACT),
    part(VMI, "softreboot", ACT),
    part(VMI, "guestosinfo", OPEN),
    part(VMI, "userlist", OPEN),
    part(VMI, "filesystemlist", OPEN),
    part(VMI, "vnc/screenshot", OPEN),
    stream("vnc"),
    stream("console"),
    row("instancetype.kubevirt.io", "v1beta1", "virtualmachineinstancetypes", Namespace, ALL),
    row("instancetype.kubevirt.io", "v1beta1", "virtualmachinepreferences", Namespace, ALL),
    row("instancetype.kubevirt.io", "v1beta1", "virtualmachineclusterinstancetypes", Cluster, READ),
    row("instancetype.kubevirt.io", "v1beta1", "virtualmachineclusterpreferences", Cluster, READ),
    row("snapshot.kubevirt.io", "v1beta1", "virtualmachinesnapshots", Namespace, ALL),
    row("snapshot.kubevirt.io", "v1beta1", "virtualmachinerestores", Namespace, ALL),
    row("clone.kubevirt.io", "v1beta1", "virtualmachineclones", Namespace, ALL),
    row("export.kubevirt.io", "v1beta1", "virtualmachineexports", Namespace, ALL),
    // What a new machine is given (cloud-init); never read back.
    only(Only::Projects, row("", "v1", "secrets", Namespace, &[Create])),
    // Images and disks.
    row("cdi.kubevirt.io", "v1beta1", "datavolumes", Namespace, ALL),
    // A disk grows by its claim.
    row("", "v1", "persistentvolumeclaims", Namespace, &[Read, Change, Delete]),
    // Made with the first pool of a name.
    row("storage.k8s.io", "v1", "storageclasses", Cluster, &[Read, Create]),
    // Deleted by who knows that a disk does not come back.
    row("sheaf.dev", "v1alpha1", "blockdevices", Cluster, &[Read, Change, Delete]),
    row("sheaf.dev", "v1alpha1", "storagepools", Cluster, ALL),
    row("sheaf.dev", "v1alpha1", "localvolumes", Cluster, READ),
    row("sheaf.dev", "v1alpha1", "importpolicies", Cluster, ALL),
    // Networks.
    row("k8s.cni.cncf.io", "v1", "network-attachment-definitions", Namespace, ALL),
    row("sheaf.dev", "v1alpha1", "nodenetworkpolicies", Cluster, ALL),
    row("sheaf.dev", "v1alpha1", "nodenetworkenactments", Cluster, READ),
    row("sheaf.dev", "v1alpha1", "nodenetworkstates", Cluster, READ),
    // What is used, and what the user may do.
    row("metrics.k8s.io", "v1beta1", "nodes", Cluster, READ),
    row("metrics.k8s.io", "v1beta1", "pods", Namespace, READ),
    row("authorization.k8s.io", "v1", "selfsubjectaccessreviews", Cluster, &[Create]),
    row("authorization.k8s.io", "v1", "selfsubjectrulesreviews", Cluster, &[Create]),
];
