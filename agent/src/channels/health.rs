//! Whether this node can do what a node must.

/// What keeps this node from its work. A node that has a problem does not renew its lease: the cluster then starts its
/// VMs elsewhere, and gives it no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// In words, one sentence each; none on a node that is able.
    pub problems: Vec<String>,
}
