//! The text format of systemd.network(5), systemd.netdev(5) and systemd.link(5): typed sections in, lines out.
//!
//! Why types and not pasted text: a key exists once, beside its manual's name, and cannot land in the wrong section.
//! Order of fields is order of lines. Route in: [`mod@super::render`]. Route out: text.

use std::fmt::Display;

/// A value that may give any number of lines.
pub(super) trait Put {
    /// Adds its lines.
    fn put(&self, key: &str, text: &mut String);
}

impl<T: Put> Put for Option<T> {
    fn put(&self, key: &str, text: &mut String) {
        self.iter().for_each(|value| value.put(key, text));
    }
}

impl<T: Put> Put for Vec<T> {
    fn put(&self, key: &str, text: &mut String) {
        self.iter().for_each(|value| value.put(key, text));
    }
}

impl Put for bool {
    fn put(&self, key: &str, text: &mut String) {
        line(key, if *self { "yes" } else { "no" }, text);
    }
}

macro_rules! put_display {
    ($($type:ty),*) => { $(impl Put for $type {
        fn put(&self, key: &str, text: &mut String) {
            line(key, self, text);
        }
    })* };
}
put_display!(&str, String, u16, u32, ipnet::IpNet, std::net::IpAddr, crate::VlanRange);

fn line(key: &str, value: impl Display, text: &mut String) {
    text.push_str(&format!("{key}={value}\n"));
}

/// A section.
pub(super) trait Section {
    /// Its header and its lines.
    fn write(&self, text: &mut String);
}

macro_rules! sections {
    ($($type:ident = $title:literal { $($field:ident: $kind:ty = $key:literal),* $(,)? })*) => { $(
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(super) struct $type<'a> {
            $(pub $field: $kind,)*
            pub _life: std::marker::PhantomData<&'a ()>,
        }

        impl Section for $type<'_> {
            fn write(&self, text: &mut String) {
                text.push_str(concat!("\n[", $title, "]\n"));
                $(self.$field.put($key, text);)*
            }
        }
    )* };
}

sections! {
    Match = "Match" {
        permanent_mac: Option<&'a str> = "PermanentMACAddress",
        path: Option<&'a str> = "Path",
        name: Option<&'a str> = "Name",
        original_name: Option<&'a str> = "OriginalName",
        driver: Option<&'a str> = "Driver",
        kind: Option<&'a str> = "Kind",
    }
    // Of systemd.network(5).
    LinkSettings = "Link" {
        mtu: Option<u32> = "MTUBytes",
        required_for_online: &'a str = "RequiredForOnline",
    }
    // Of systemd.link(5).
    Names = "Link" {
        name_policy: Option<&'a str> = "NamePolicy",
        alternative_names_policy: Option<&'a str> = "AlternativeNamesPolicy",
        mac_policy: &'a str = "MACAddressPolicy",
        alternative_name: Option<&'a str> = "AlternativeName",
    }
    Network = "Network" {
        bridge: Option<&'a str> = "Bridge",
        bond: Option<&'a str> = "Bond",
        primary: Option<bool> = "PrimarySlave",
        vlans: Vec<&'a str> = "VLAN",
        dhcp: Option<&'a str> = "DHCP",
        link_local: Option<&'a str> = "LinkLocalAddressing",
        accept_ra: Option<bool> = "IPv6AcceptRA",
        addresses: Vec<ipnet::IpNet> = "Address",
        gateways: Vec<std::net::IpAddr> = "Gateway",
        dns: Vec<std::net::IpAddr> = "DNS",
        domains: Option<String> = "Domains",
        without_carrier: Option<bool> = "ConfigureWithoutCarrier",
        carrier_loss: Option<&'a str> = "IgnoreCarrierLoss",
        keep: Option<&'a str> = "KeepConfiguration",
        lldp: Option<bool> = "LLDP",
        emit_lldp: Option<&'a str> = "EmitLLDP",
    }
    Dhcp4 = "DHCPv4" {
        client_identifier: &'a str = "ClientIdentifier",
        use_hostname: bool = "UseHostname",
    }
    Dhcp6 = "DHCPv6" {
        without_ra: Option<&'a str> = "WithoutRA",
        use_hostname: bool = "UseHostname",
    }
    Route = "Route" {
        destination: Option<ipnet::IpNet> = "Destination",
        gateway: Option<std::net::IpAddr> = "Gateway",
        metric: Option<u32> = "Metric",
    }
    BridgeVlan = "BridgeVLAN" {
        vlan: Option<crate::VlanRange> = "VLAN",
        pvid: Option<u16> = "PVID",
        untagged: Option<u16> = "EgressUntagged",
    }
    NetDev = "NetDev" {
        name: &'a str = "Name",
        kind: &'a str = "Kind",
        mac: Option<&'a str> = "MACAddress",
        mtu: Option<u32> = "MTUBytes",
    }
    BondSettings = "Bond" {
        mode: &'a str = "Mode",
        miimon: String = "MIIMonitorSec",
        lacp_rate: Option<&'a str> = "LACPTransmitRate",
        hash_policy: Option<&'a str> = "TransmitHashPolicy",
    }
    BridgeSettings = "Bridge" {
        stp: bool = "STP",
        multicast_snooping: bool = "MulticastSnooping",
        vlan_filtering: Option<bool> = "VLANFiltering",
        default_pvid: Option<u16> = "DefaultPVID",
    }
    VlanSettings = "VLAN" {
        id: u16 = "Id",
    }
}

/// A file: a comment, then sections.
pub(super) fn file(header: &str, sections: &[&dyn Section]) -> String {
    let mut text = String::new();
    sections.iter().for_each(|section| section.write(&mut text));
    header.to_owned() + text.trim_start_matches('\n')
}
