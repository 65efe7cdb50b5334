//! `sheaf-agent network`: every link of node.toml and of policies as it is now, and what became of each policy.
//!
//! Pure. Route in: the `network` section of the status. Route out: a table, problems below it.

use super::columns::columns;
use crate::status::{LinkSection, NetworkSection, PolicySection};

/// The table of `network`.
pub(super) fn table(network: &NetworkSection, policies: &[PolicySection]) -> String {
    let head = ["LINK", "KIND", "STATE", "MTU", "OVER", "VMS", "ASKED BY", "ADDRESSES"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(network.links.iter().map(row)).collect();
    let mut text = columns(&rows);
    if !policies.is_empty() {
        text.push('\n');
        let head = ["POLICY", "GENERATION", "RUNS", "PHASE", "WHY"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(policies.iter().map(policy)).collect();
        text += &columns(&rows);
    }
    for policy in policies.iter().filter(|policy| policy.failed_probe.is_some()) {
        text += &format!("\nprobes of policy {}, generation {}\n", policy.name, policy.generation);
        text.extend(policy.probes.iter().map(|probe| format!("  {probe}\n")));
    }
    if let Some(trial) = &network.trial {
        let end = if trial.by_hand { "; sheaf-agent network confirm keeps it" } else { "" };
        text += &format!("on trial: {}{end}\n", trial.title);
    }
    if let Some(problem) = &network.problem {
        text += &format!("! {problem}\n");
    }
    if !network.time_synchronised {
        text += "clock not yet set by a time server\n";
    }
    text
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn policy(policy: &PolicySection) -> [String; 5] {
    [
        policy.name.clone(),
        policy.generation.to_string(),
        or_dash(policy.applied.map(|applied| applied.to_string()).unwrap_or_default()),
        or_dash(policy.phase.clone()),
        or_dash(policy.message.clone().unwrap_or_default()),
    ]
}

fn row(link: &LinkSection) -> [String; 8] {
    let kind = match (&link.mode, link.vlan, &link.kernel_name) {
        (Some(mode), _, _) => format!("{} {mode}", link.kind),
        (None, Some(id), _) => format!("{} {id}", link.kind),
        (None, None, Some(name)) => format!("{} {name}", link.kind),
        (None, None, None) if link.vlan_aware => format!("{} with VLANs", link.kind),
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
        link.asked_by.clone().unwrap_or_else(|| "node.toml".into()),
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
LINK   KIND                STATE  MTU   OVER            VMS  ASKED BY   ADDRESSES
br0    bridge              up     9000  bond0           2    node.toml  -
mgmt   vlan 10             up     1500  bond0           -    node.toml  192.0.2.10,2001:db8::10
bond0  bond active-backup  up     9000  enp1s0*,enp2s0  -    node.toml  -
left   nic enp1s0          up     1500  -               -    node.toml  -
right  nic enp2s0          down   1500  -               -    node.toml  -
! bond bond0 is degraded: no cable in enp2s0
";
        assert_eq!(table(&status.network, &[]), expected);
    }

    #[test]
    fn policies_stand_below_with_the_probe_that_failed() {
        let network = NetworkSection { time_synchronised: true, ..NetworkSection::default() };
        let policies = [PolicySection {
            name: "storage".into(),
            generation: 3,
            applied: Some(2),
            phase: "RolledBack".into(),
            message: Some("10.0.2.2 over br0 does not answer; rolled back".into()),
            failed_probe: Some("gateway".into()),
            probes: vec![
                "gateway: before yes, after no, restored yes: 10.0.2.2 over br0 does not answer".into(),
            ],
        }];
        let text = table(&network, &policies);
        let expected = "\
LINK  KIND  STATE  MTU  OVER  VMS  ASKED BY  ADDRESSES

POLICY   GENERATION  RUNS  PHASE       WHY
storage  3           2     RolledBack  10.0.2.2 over br0 does not answer; rolled back

probes of policy storage, generation 3
  gateway: before yes, after no, restored yes: 10.0.2.2 over br0 does not answer
";
        assert_eq!(text, expected);
    }
}
