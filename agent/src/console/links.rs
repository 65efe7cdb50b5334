//! `sheaf-agent network`: every link of node.toml as it is now, in columns or as data.
//!
//! Pure. Route in: the `network` section of the status. Route out: a table, problems below it.

use super::columns::columns;
use crate::status::{LinkSection, NetworkSection};

/// The table of `network`.
pub(super) fn table(network: &NetworkSection) -> String {
    let head = ["LINK", "KIND", "STATE", "MTU", "OVER", "VMS", "ADDRESSES"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(network.links.iter().map(row)).collect();
    let mut text = columns(&rows);
    if let Some(problem) = &network.problem {
        text += &format!("! {problem}\n");
    }
    if !network.time_synchronised {
        text += "clock not yet set by a time server\n";
    }
    text
}

fn row(link: &LinkSection) -> [String; 7] {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let kind = match (&link.mode, link.vlan, &link.kernel_name) {
        (Some(mode), _, _) => format!("{} {mode}", link.kind),
        (None, Some(id), _) => format!("{} {id}", link.kind),
        (None, None, Some(name)) => format!("{} {name}", link.kind),
        (None, None, None) => link.kind.clone(),
    };
    let in_use = |port: &String| match link.active_port.as_ref() == Some(port) {
        true => format!("{port}*"),
        false => port.clone(),
    };
    let addresses: Vec<_> = link.addresses.iter().map(ToString::to_string).collect();
    [
        link.name.clone(),
        kind,
        link.state.clone(),
        if link.mtu == 0 { "-".into() } else { link.mtu.to_string() },
        or_dash(link.ports.iter().map(in_use).collect::<Vec<_>>().join(",")),
        if link.kind == "bridge" { link.vms.to_string() } else { "-".into() },
        if addresses.is_empty() && link.is_addressed {
            "none yet".into()
        } else {
            or_dash(addresses.join(","))
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    #[test]
    fn links_stand_in_columns_and_what_is_wrong_below() {
        let document = include_str!("../../tests/page/bond-and-vlan.json");
        let status: Status = serde_json::from_str(document).unwrap();
        let expected = "\
LINK   KIND                STATE  MTU   OVER            VMS  ADDRESSES
br0    bridge              up     9000  bond0           2    -
mgmt   vlan 10             up     1500  bond0           -    192.0.2.10,2001:db8::10
bond0  bond active-backup  up     9000  enp1s0*,enp2s0  -    -
left   nic enp1s0          up     1500  -               -    -
right  nic enp2s0          down   1500  -               -    -
! bond bond0 runs on fewer cables: none in enp2s0
";
        assert_eq!(table(&status.network), expected);
    }
}
