//! Addresses with a prefix length, and the networks they lie in.
//!
//! Route in: `192.0.2.10/24`, checked by `syntax`. Route out: the network's ends, what it contains and overlaps.

use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with a prefix length, `192.0.2.10/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(into = "String")]
#[schemars(inline, with = "String")]
pub struct Cidr {
    /// The address, all bits.
    pub ip: IpAddr,
    /// How many leading bits name the network.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl Cidr {
    /// Bits behind the prefix, as a mask in the low bits of 128.
    fn host_bits(self) -> u128 {
        let width = if self.ip.is_ipv4() { 32 } else { 128 };
        u128::MAX.checked_shr(128 - (width - u32::from(self.prefix))).unwrap_or(0)
    }

    fn address(self, bits: u128) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }

    /// First address of its network.
    pub fn first(self) -> IpAddr {
        self.address(bits(self.ip) & !self.host_bits())
    }

    /// Last address of its network.
    pub fn last(self) -> IpAddr {
        self.address(bits(self.ip) | self.host_bits())
    }

    /// Whether `ip` lies in its network.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.ip.is_ipv4() == ip.is_ipv4() && bits(ip) & !self.host_bits() == bits(self.first())
    }

    /// Whether the two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        crate::syntax::cidr(text).unwrap()
    }

    #[test]
    fn a_network_knows_its_ends_and_what_lies_in_it() {
        let network = cidr("192.0.2.77/26");
        assert_eq!(network.first().to_string(), "192.0.2.64");
        assert_eq!(network.last().to_string(), "192.0.2.127");
        assert!(network.contains("192.0.2.100".parse().unwrap()));
        assert!(!network.contains("192.0.2.128".parse().unwrap()));
        assert!(!network.contains("2001:db8::".parse().unwrap()));
        assert!(Cidr { prefix: 0, ..network }.contains("203.0.113.9".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.96.0.0/16")));
        assert_eq!(cidr("2001:db8::1/64").last().to_string(), "2001:db8::ffff:ffff:ffff:ffff");
        assert_eq!(cidr("192.0.2.1/32").last().to_string(), "192.0.2.1");
    }
}
