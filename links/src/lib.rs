//! The links of a node: NICs, bonds, VLANs, bridges, and how they are addressed.
//!
//! Why here: node.toml, NodeNetworkPolicies, the agent and the installer mean the same links by the same words; types,
//! rules and renderer exist once. Route in: [`Links`], read by `sheaf-config` from TOML or by `sheaf-api` from JSON, and
//! the [`FoundNic`]s of a machine. Route out: [`mod@rules`], what is wrong with them; [`networkd`], the files that make them.

mod addressing;
mod link;
pub mod networkd;
mod resolve;
mod rules;
mod suggest;
pub mod value;

pub use addressing::{Addressing, Ipv6, Route};
pub use ipnet::IpNet;
pub use link::{
    Bond, BondMode, Bridge, HashPolicy, Kind, LacpRate, Link, LinkRef, Links, MIIMON, Nic, USUAL_MTU, Vlan,
    VlanRange,
};
pub use resolve::{FoundNic, Selector, default_nic};
pub use rules::{Place, Problem, rules};
pub use suggest::did_you_mean;
