//! Texts for networkd, udev, resolved and timesyncd.
//!
//! Why here: each setting stands beside the reason for it. Route in: parts of the node config. Route out: the
//! contents of `.link`, `.netdev`, `.network` and drop-in files (systemd.network(5) and its neighbours).

use super::plan::Port;
use sheaf_config::node::Bridge;
use std::fmt::Display;
use std::net::IpAddr;

/// First line of every file.
const HEADER: &str = "# Written from /state/node.toml at each boot.\n";

/// How long a bridge keeps its addresses when its last cable goes: a switch restarts within it.
const CARRIER_LOSS: &str = "30s";

fn words<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// Name servers beside those of DHCP. Neighbours are not asked for names: on a server network that is a way in.
pub(super) fn resolved(dns: &[IpAddr]) -> String {
    let servers = if dns.is_empty() { String::new() } else { format!("DNS={}\n", words(dns)) };
    format!("{HEADER}[Resolve]\n{servers}FallbackDNS=\nLLMNR=no\nMulticastDNS=no\n")
}

/// Time servers beside those of DHCP.
pub(super) fn timesyncd(ntp: &[String]) -> String {
    let servers = if ntp.is_empty() { String::new() } else { format!("NTP={}\n", words(ntp)) };
    format!("{HEADER}[Time]\n{servers}")
}

/// Keeps udev from giving the bridge a MAC of its own: it has its first NIC's.
pub(super) fn bridge_link(bridge: &Bridge) -> String {
    format!("{HEADER}[Match]\nOriginalName={}\nDriver=bridge\n\n[Link]\nMACAddressPolicy=none\n", bridge.name)
}

/// The bridge itself, with the MAC of its first NIC: a DHCP server sees the machine that it knows. Without a known
/// one the kernel takes the NIC's; taps of VMs never win, libvirt gives them high ones.
pub(super) fn bridge_netdev(bridge: &Bridge, mac: Option<&str>) -> String {
    let mtu = bridge.mtu.map(|mtu| format!("MTUBytes={mtu}\n")).unwrap_or_default();
    format!(
        "{HEADER}[NetDev]\nName={}\nKind=bridge\nMACAddress={}\n{mtu}\n\
         [Bridge]\n\
         # One uplink: nothing to find loops in, and no half minute of learning before a VM is heard.\n\
         STP=no\n\
         # Without a querier on the network, snooping loses IPv6 neighbour discovery and VRRP of VMs.\n\
         MulticastSnooping=no\n",
        bridge.name,
        mac.unwrap_or("none"),
    )
}

/// Addresses of the bridge, which are the node's own.
pub(super) fn bridge_network(bridge: &Bridge) -> String {
    let mut text = format!("{HEADER}[Match]\nName={}\n\n", bridge.name);
    let is_static = !bridge.addressing.addresses.is_empty();
    if !bridge.uses_dhcp() && !is_static {
        // For VMs alone: up, and without any address of the node on their network.
        text += "[Link]\nRequiredForOnline=no\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\
                 ConfigureWithoutCarrier=yes\n";
        return text;
    }
    text += "[Link]\nRequiredForOnline=routable\n\n[Network]\n";
    text += if bridge.uses_dhcp() { "DHCP=yes\n" } else { "DHCP=no\nIPv6AcceptRA=no\n" };
    for address in &bridge.addressing.addresses {
        text += &format!("Address={address}\n");
    }
    for gateway in bridge.addressing.gateways() {
        text += &format!("Gateway={gateway}\n");
    }
    text += &match is_static {
        // There before a cable is, and after: a control plane does not wait for a switch.
        true => "ConfigureWithoutCarrier=yes\n".to_owned(),
        false => format!("IgnoreCarrierLoss={CARRIER_LOSS}\n"),
    };
    if bridge.uses_dhcp() {
        // networkd may be restarted under a running cluster.
        text += "KeepConfiguration=dhcp-on-stop\n\n[DHCPv4]\n# The same address after a reinstall.\n\
                 ClientIdentifier=mac\nUseHostname=no\n\n[DHCPv6]\nUseHostname=no\n";
    }
    text
}

/// A NIC in the bridge.
pub(super) fn port_network(bridge: &Bridge, port: &Port) -> String {
    let by = match port {
        Port::Mac(mac) => {
            format!("PermanentMACAddress={mac}\n# Not the VLANs and bridges that inherit it.\nKind=!*")
        }
        Port::Name(name) => format!("Name={name}"),
    };
    let mtu = bridge.mtu.map(|mtu| format!("MTUBytes={mtu}\n")).unwrap_or_default();
    format!(
        "{HEADER}[Match]\n{by}\n\n[Link]\n{mtu}RequiredForOnline=no\n\n\
         [Network]\nBridge={}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\
         # The switch and the node show each other where a cable ends.\n\
         LLDP=yes\nEmitLLDP=nearest-bridge\n",
        bridge.name
    )
}
