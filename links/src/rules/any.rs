//! Links of every shape, for property tests: names from a small set, so that links meet.

use crate::{
    Addressing, Bond, BondMode, Bridge, HashPolicy, Ipv6, LacpRate, Links, Nic, Route, Vlan, VlanRange,
};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn name() -> impl Strategy<Value = String> {
    let words = vec![
        "",
        "a",
        "b",
        "bond0",
        "br0",
        "br1",
        "enp1s0",
        "enp2s0",
        "mgmt",
        "lo",
        "52:54:00:00:00:01",
        "52:54:00:00:00:02",
        "52:54:00:00:00:0F",
        "ff:ff:ff:ff:ff:ff",
        "é",
        "a-very-long-name-of-a-link",
    ];
    select(words).prop_map(str::to_owned)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (0..4_u32).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        Just(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))),
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=128_u8).prop_map(|(ip, prefix)| {
        IpNet::new(ip, prefix.min(if ip.is_ipv4() { 32 } else { 128 })).unwrap_or(IpNet::from(ip))
    })
}

fn addressing() -> impl Strategy<Value = Addressing> {
    let ipv6 = select(vec![Ipv6::Auto, Ipv6::Dhcp, Ipv6::Static, Ipv6::Off]);
    let route = (net(), of(ip()), of(any::<u32>())).prop_map(|(to, via, metric)| Route { to, via, metric });
    let gateways = (of(any::<u32>()), of(any::<u128>()));
    (of(any::<bool>()), of(ipv6), vec(net(), 0..3), gateways, vec(route, 0..3)).prop_map(
        |(dhcp, ipv6, addresses, (gateway, gateway6), routes)| Addressing {
            dhcp,
            ipv6,
            addresses,
            gateway: gateway.map(Ipv4Addr::from_bits),
            gateway6: gateway6.map(Ipv6Addr::from_bits),
            routes,
        },
    )
}

fn mtu() -> impl Strategy<Value = Option<u32>> {
    of(prop_oneof![Just(1500), Just(9000), any::<u32>()])
}

fn bond() -> impl Strategy<Value = Bond> {
    let modes: Vec<_> = BondMode::WORDS.iter().map(|(_, mode)| *mode).collect();
    let rates: Vec<_> = LacpRate::WORDS.iter().map(|(_, rate)| *rate).collect();
    let policies: Vec<_> = HashPolicy::WORDS.iter().map(|(_, policy)| *policy).collect();
    let settings = (of(select(modes)), of(select(rates)), of(select(policies)), of(name()), of(any::<u32>()));
    (name(), vec(name(), 0..3), settings, mtu(), addressing()).prop_map(
        |(name, ports, (mode, lacp_rate, transmit_hash_policy, primary, miimon), mtu, addressing)| Bond {
            name,
            ports,
            mode,
            lacp_rate,
            transmit_hash_policy,
            primary,
            miimon,
            mtu,
            addressing,
        },
    )
}

/// Any links.
pub(crate) fn links() -> impl Strategy<Value = Links> {
    let path = of(Just("pci-0000:01:00.0".to_owned()));
    let nic = (name(), of(name()), path, mtu(), addressing())
        .prop_map(|(name, mac, path, mtu, addressing)| Nic { name, mac, path, mtu, addressing });
    let vlan = (name(), any::<u16>(), name(), mtu(), addressing())
        .prop_map(|(name, id, parent, mtu, addressing)| Vlan { name, id, parent, mtu, addressing });
    let range = (any::<u16>(), any::<u16>()).prop_map(|(first, last)| VlanRange { first, last });
    let bridge = (name(), vec(name(), 0..3), of(any::<bool>()), vec(range, 0..3), mtu(), addressing())
        .prop_map(|(name, ports, vlan_aware, vlans, mtu, addressing)| Bridge {
            name,
            ports,
            vlan_aware,
            vlans,
            mtu,
            addressing,
        });
    (vec(nic, 0..3), vec(bond(), 0..3), vec(vlan, 0..3), vec(bridge, 0..3))
        .prop_map(|(nics, bonds, vlans, bridges)| Links { nics, bonds, vlans, bridges })
}
