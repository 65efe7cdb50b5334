//! The network, tried for real before the disk is touched.
//!
//! Why here: a node that cannot be reached after its installation has to be fixed by hand, in front of it. The
//! screens show each [`Outcome`] as it comes; an installation without questions says them and stops at the first
//! that would leave the node alone. Route in: the node config and the inventory. [`plan()`] says what is tried, in which
//! order, and is pure; [`run`] tries it through [`sheaf_host`]. Route out: one [`Outcome`] for each [`Probe`].

mod attempt;
mod cluster;
mod files;
mod plan;

pub use attempt::{Attempt, Timeouts, run};
pub use files::{boot, of as files_of};
pub use plan::plan;

use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// One thing that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// What it is.
    pub what: What,
    /// The node is of no use when this fails: an installation without questions ends here.
    pub required: bool,
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "try", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// A cable is in the NIC, with a switch or machine at its other end.
    Link {
        /// Kernel name of the NIC.
        nic: String,
    },
    /// A DHCP server answers, on the VLAN that the address is for.
    Dhcp {
        /// The interface that asks: a NIC, a bond or a VLAN on one of them.
        link: String,
        /// VLAN id of the requests, when they are tagged.
        vlan: Option<u16>,
    },
    /// Nobody else has the address that is to be set.
    Free {
        /// The interface.
        link: String,
        /// The address.
        address: IpAddr,
    },
    /// The default gateway answers on its link.
    Gateway {
        /// Its address; none: the one that DHCP names.
        address: Option<IpAddr>,
    },
    /// A name server answers for this name.
    Dns {
        /// A name of the config, which the node will ask for.
        name: String,
    },
    /// A time server answers, and this machine's clock is near its time.
    Time {
        /// Its name; none: the one that DHCP names.
        server: Option<String>,
    },
    /// The cluster's API server answers over TLS, with the CA that node.toml pins.
    ApiServer {
        /// Its URL.
        server: String,
    },
    /// The cluster knows the token of node.toml.
    Token {
        /// Its public half.
        id: String,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { nic } => write!(f, "cable in {nic}"),
            Self::Dhcp { link, vlan: None } => write!(f, "DHCP on {link}"),
            Self::Dhcp { link, vlan: Some(vlan) } => write!(f, "DHCP on {link} (VLAN {vlan})"),
            Self::Free { link, address } => write!(f, "{address} is free on {link}"),
            Self::Gateway { address: Some(address) } => write!(f, "gateway {address}"),
            Self::Gateway { address: None } => write!(f, "gateway of DHCP"),
            Self::Dns { name } => write!(f, "DNS for {name}"),
            Self::Time { server: Some(server) } => write!(f, "time of {server}"),
            Self::Time { server: None } => write!(f, "time server of DHCP"),
            Self::ApiServer { server } => write!(f, "API server {server}"),
            Self::Token { id } => write!(f, "token {id}.***"),
        }
    }
}

/// How far a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being tried now.
    Running,
    /// As it should be.
    Passed,
    /// Not as it should be, and the node will come up all the same.
    Warned,
    /// The node would be of no use.
    Failed,
    /// Not tried: what it needs failed before.
    Skipped,
}

/// What trying came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// What was tried.
    pub probe: Probe,
    /// Its status.
    pub state: State,
    /// What was found, in words: `192.0.2.10/24 from 192.0.2.1`, `no answer in 20 s`.
    pub found: String,
    /// What to do about it, when it did not pass.
    pub remedy: Option<String>,
    /// How long it took.
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
}

fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64())
}

impl fmt::Display for Outcome {
    /// One line: `ok      DHCP on enp1s0: 192.0.2.10/24 from 192.0.2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.state {
            State::Running => "...",
            State::Passed => "ok",
            State::Warned => "warning",
            State::Failed => "FAILED",
            State::Skipped => "skipped",
        };
        write!(f, "{word:<8}{}", self.probe.what)?;
        if !self.found.is_empty() {
            write!(f, ": {}", self.found)?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}
