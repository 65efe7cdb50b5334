//! `sheaf-agent network`: ports of VMs, with the addresses that were seen and the frames that were dropped.
//!
//! Pure. Route in: the section `vm_ports` of the status. Route out: a table; nothing without ports.

use crate::status::PortSection;

/// The table of `ports`, below that of links.
pub(super) fn table(ports: &[PortSection]) -> String {
    if ports.is_empty() {
        return String::new();
    }
    let head =
        ["PORT", "VM", "INTERFACE", "BRIDGE", "VLAN", "MAC", "ADDRESSES", "DROPPED"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(ports.iter().map(row)).collect();
    "\n".to_owned() + &super::columns::columns(&rows)
}

fn row(port: &PortSection) -> [String; 8] {
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
    let dropped = port.dropped.iter().filter(|(_, frames)| **frames > 0);
    let dropped: Vec<_> = dropped.map(|(reason, frames)| format!("{reason} {frames}")).collect();
    [
        port.name.clone(),
        port.vm.clone(),
        port.interface.clone(),
        port.bridge.clone(),
        or(port.vlans.clone(), "-"),
        port.mac.clone(),
        or(addresses.join(","), "none seen"),
        or(dropped.join(", "), "-"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stand_in_columns_with_what_was_dropped_and_why() {
        let port = PortSection {
            name: "vm0b0e6d2c6an0".into(),
            vm: "shop/web".into(),
            interface: "lan".into(),
            bridge: "br0".into(),
            vlans: "100".into(),
            mac: "02:00:00:00:00:01".into(),
            addresses: vec!["192.0.2.7".parse().unwrap()],
            dropped: [("arp", 3), ("dhcp", 1), ("mac", 0)].map(|(why, n)| (why.to_owned(), n)).into(),
        };
        let silent = PortSection {
            name: "vm0b0e6d2c6an1".into(),
            interface: "out".into(),
            bridge: "masq0".into(),
            vlans: String::new(),
            addresses: Vec::new(),
            dropped: Default::default(),
            ..port.clone()
        };
        let expected = "
PORT            VM        INTERFACE  BRIDGE  VLAN  MAC                ADDRESSES  DROPPED
vm0b0e6d2c6an0  shop/web  lan        br0     100   02:00:00:00:00:01  192.0.2.7  arp 3, dhcp 1
vm0b0e6d2c6an1  shop/web  out        masq0   -     02:00:00:00:00:01  none seen  -
";
        assert_eq!(table(&[port, silent]), expected);
        assert_eq!(table(&[]), "");
    }
}
