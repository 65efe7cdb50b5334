//! The network of nodes as the API shows it, `sheaf.dev/v1alpha1`: what is asked of many, what became of it on each,
//! what each one sees.
//!
//! Why here: the operator writes a [`NodeNetworkPolicy`], the controller gives turns in its status, the node's agent
//! answers with a [`NodeNetworkEnactment`] and shows its links in a [`NodeNetworkState`]. The types of links are
//! [`sheaf_links`]', which node.toml has, too. Route in: manifests, checked by the API server against
//! [`crate::crd`]. Route out: the agent's `network`, the controller's `network`.

pub mod enactment;
pub mod policy;
pub(crate) mod rules;
pub mod state;

pub use enactment::{NodeNetworkEnactment, NodeNetworkEnactmentSpec, NodeNetworkEnactmentStatus};
pub use policy::{NodeNetworkPolicy, NodeNetworkPolicySpec, NodeNetworkPolicyStatus};
pub use sheaf_links::Links;
pub use state::{NodeNetworkState, NodeNetworkStateSpec, NodeNetworkStateStatus};
