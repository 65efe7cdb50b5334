//! Texts for networkd and udev.
//!
//! Why here: each setting stands beside the reason for it. Route in: a [`Device`]. Route out: the contents of `.link`,
//! `.netdev` and `.network` files (systemd.network(5) and its neighbours).

use super::links::{Address, Device, Kind, Master, Selector, carried};
use sheaf_config::node::{Bond, Bridge, Ipv6, LacpRate, Vlan};

/// First line of every file.
pub(super) const HEADER: &str = "# Written from /state/node.toml at each boot.\n";

/// How long a link keeps its addresses when its last cable goes: a switch restarts within it.
const CARRIER_LOSS: &str = "30s";

/// The VLAN of untagged packets inside a VLAN-aware bridge: the kernel's own choice.
const UNTAGGED: u16 = 1;

/// What udev is told, if anything.
pub(super) fn link(device: &Device<'_>) -> Option<String> {
    let (name, driver) = match &device.kind {
        Kind::Bridge(bridge) => (&bridge.name, "bridge"),
        Kind::Bond(bond) => (&bond.name, "bonding"),
        // A VLAN has its parent's MAC, whatever udev thinks.
        Kind::Vlan(_) | Kind::Card(_, None) => return None,
        Kind::Card(selector, Some(name)) => {
            return Some(format!(
                "{HEADER}[Match]\n{}\n\n[Link]\n\
                 # As systemd's own file does, which this one stands in front of; and one more name.\n\
                 NamePolicy=keep kernel database onboard slot path\n\
                 AlternativeNamesPolicy=database onboard slot path mac\nMACAddressPolicy=persistent\n\
                 AlternativeName={name}\n",
                by(selector)
            ));
        }
    };
    // Keeps udev from giving it a MAC of its own: it has its first NIC's.
    Some(format!("{HEADER}[Match]\nOriginalName={name}\nDriver={driver}\n\n[Link]\nMACAddressPolicy=none\n"))
}

/// The device itself, when networkd makes it.
pub(super) fn netdev(device: &Device<'_>) -> Option<String> {
    let head = |name: &str, kind: &str| format!("{HEADER}[NetDev]\nName={name}\nKind={kind}\n");
    // The MAC of its first NIC: a DHCP server sees the machine that it knows. Without a known one the kernel takes
    // the NIC's; taps of VMs never win, libvirt gives them high ones.
    let mac = format!("MACAddress={}\n", device.mac.as_deref().unwrap_or("none"));
    Some(match &device.kind {
        Kind::Card(..) => return None,
        Kind::Bridge(link) => {
            let mtu = device.mtu.map(|mtu| format!("MTUBytes={mtu}\n")).unwrap_or_default();
            head(&link.name, "bridge") + &mac + &mtu + "\n" + &bridge(link)
        }
        Kind::Bond(link) => head(&link.name, "bond") + &mac + "\n" + &bond(link),
        Kind::Vlan(Vlan { name, id, .. }) => head(name, "vlan") + &format!("\n[VLAN]\nId={id}\n"),
    })
}

fn bridge(bridge: &Bridge) -> String {
    let mut text = "[Bridge]\n\
         # One uplink: nothing to find loops in, and no half minute of learning before a VM is heard.\n\
         STP=no\n\
         # Without a querier on the network, snooping loses IPv6 neighbour discovery and VRRP of VMs.\n\
         MulticastSnooping=no\n"
        .to_owned();
    if bridge.vlan_aware {
        text += &format!("VLANFiltering=yes\nDefaultPVID={UNTAGGED}\n");
    }
    text
}

fn bond(bond: &Bond) -> String {
    let mut text = format!("[Bond]\nMode={}\nMIIMonitorSec={}ms\n", bond.mode.name(), bond.miimon);
    if let Some(rate) = bond.lacp_rate {
        let rate = if rate == LacpRate::Fast { "fast" } else { "slow" };
        text += &format!("LACPTransmitRate={rate}\n");
    }
    if let Some(policy) = bond.transmit_hash_policy {
        text += &format!("TransmitHashPolicy={}\n", policy.name());
    }
    text
}

/// What networkd does with the device.
pub(super) fn network(device: &Device<'_>) -> String {
    let is_card = matches!(device.kind, Kind::Card(..));
    let matches = match &device.kind {
        Kind::Card(selector, _) => by(selector),
        Kind::Bond(Bond { name, .. }) | Kind::Vlan(Vlan { name, .. }) | Kind::Bridge(Bridge { name, .. }) => {
            format!("Name={name}")
        }
    };
    // A bridge is made with its MTU.
    let mtu = device.mtu.filter(|_| !matches!(device.kind, Kind::Bridge(_)));
    let mtu = mtu.map(|mtu| format!("MTUBytes={mtu}\n")).unwrap_or_default();
    let online = if device.address.is_some() { "routable" } else { "no" };
    let mut text =
        format!("{HEADER}[Match]\n{matches}\n\n[Link]\n{mtu}RequiredForOnline={online}\n\n[Network]\n");
    match &device.master {
        Some(Master::Bridge(bridge)) => text += &format!("Bridge={}\n", bridge.name),
        Some(Master::Bond(bond, primary)) => {
            text += &format!("Bond={}\n", bond.name);
            if *primary {
                text += "PrimarySlave=yes\n";
            }
        }
        None => {}
    }
    for vlan in &device.vlans {
        text += &format!("VLAN={}\n", vlan.name);
    }
    match &device.address {
        Some(address) => text += &addressing(address),
        // For VMs, VLANs or a bridge alone: up, and without any address of the node.
        None => {
            text += "LinkLocalAddressing=no\nIPv6AcceptRA=no\n";
            if !is_card {
                text += "ConfigureWithoutCarrier=yes\n";
            }
        }
    }
    if is_card {
        // The switch and the node show each other where a cable ends.
        text += "# The switch and the node show each other where a cable ends.\nLLDP=yes\nEmitLLDP=nearest-bridge\n";
    }
    if let Some(address) = &device.address {
        text += &protocols(address);
    }
    text + &bridge_vlans(device)
}

fn by(selector: &Selector) -> String {
    match selector {
        Selector::Mac(mac) => {
            format!("PermanentMACAddress={mac}\n# Not the VLANs and bridges that inherit it.\nKind=!*")
        }
        Selector::Path(path) => format!("Path={path}\nKind=!*"),
        Selector::Name(name) => format!("Name={name}"),
    }
}

/// Lines of `[Network]`.
fn addressing(address: &Address<'_>) -> String {
    let Address { dhcp, ipv6, fixed } = address;
    let mut text = match (dhcp, ipv6) {
        (true, Ipv6::Auto) => "DHCP=yes\n",
        (true, Ipv6::Dhcp) => "DHCP=yes\nIPv6AcceptRA=yes\n",
        (true, Ipv6::Static | Ipv6::Off) => "DHCP=ipv4\nIPv6AcceptRA=no\n",
        (false, Ipv6::Auto) => "DHCP=no\nIPv6AcceptRA=yes\n",
        (false, Ipv6::Dhcp) => "DHCP=ipv6\nIPv6AcceptRA=yes\n",
        (false, Ipv6::Static | Ipv6::Off) => "DHCP=no\nIPv6AcceptRA=no\n",
    }
    .to_owned();
    if *ipv6 == Ipv6::Off {
        text += "LinkLocalAddressing=no\n";
    }
    for address in &fixed.addresses {
        text += &format!("Address={address}\n");
    }
    for gateway in fixed.gateways() {
        text += &format!("Gateway={gateway}\n");
    }
    text += &match fixed.addresses.is_empty() {
        // There before a cable is, and after: a control plane does not wait for a switch.
        false => "ConfigureWithoutCarrier=yes\n".to_owned(),
        true => format!("IgnoreCarrierLoss={CARRIER_LOSS}\n"),
    };
    if *dhcp || *ipv6 == Ipv6::Dhcp {
        // networkd may be restarted under a running cluster.
        text += "KeepConfiguration=dhcp-on-stop\n";
    }
    text
}

/// Sections behind `[Network]`.
fn protocols(address: &Address<'_>) -> String {
    let mut text = String::new();
    if address.dhcp {
        text += "\n[DHCPv4]\n# The same address after a reinstall.\nClientIdentifier=mac\nUseHostname=no\n";
    }
    match address.ipv6 {
        Ipv6::Dhcp => {
            text += "\n[DHCPv6]\n# Asked also where no router says so.\nWithoutRA=solicit\nUseHostname=no\n"
        }
        Ipv6::Auto => text += "\n[DHCPv6]\nUseHostname=no\n",
        Ipv6::Static | Ipv6::Off => {}
    }
    for route in &address.fixed.routes {
        text += &format!("\n[Route]\nDestination={}\n", route.to);
        if let Some(via) = route.via {
            text += &format!("Gateway={via}\n");
        }
        if let Some(metric) = route.metric {
            text += &format!("Metric={metric}\n");
        }
    }
    text
}

/// Which VLANs pass: tagged ones through the ports of a VLAN-aware bridge, and those that the node itself has of it.
fn bridge_vlans(device: &Device<'_>) -> String {
    let untagged = format!("\n[BridgeVLAN]\nPVID={UNTAGGED}\nEgressUntagged={UNTAGGED}\n");
    let tagged = |vlans: String| format!("\n[BridgeVLAN]\nVLAN={vlans}\n");
    match (&device.kind, &device.master) {
        (Kind::Bridge(bridge), _) if bridge.vlan_aware => {
            device.vlans.iter().fold(untagged, |text, vlan| text + &tagged(vlan.id.to_string()))
        }
        (_, Some(Master::Bridge(bridge))) if bridge.vlan_aware => {
            carried(bridge).iter().fold(untagged, |text, range| text + &tagged(range.to_string()))
        }
        _ => String::new(),
    }
}
