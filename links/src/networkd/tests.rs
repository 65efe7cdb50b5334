//! The renderer takes any links, and both purposes render the same devices.

use super::*;
use crate::rules::any;
use proptest::prelude::*;

fn found_nics() -> Vec<FoundNic> {
    let found_nic = |number: u8| FoundNic {
        name: format!("enp{number}s0"),
        permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
        path: Some(format!("pci-0000:0{number}:00.0")),
    };
    (1..=3).map(found_nic).collect()
}

proptest! {
    #[test]
    fn any_links_are_rendered_without_a_panic_and_every_file_has_one_owner(links in any::links()) {
        let found_nics = found_nics();
        let units = render(&links, &found_nics, None, Purpose::Node);
        prop_assert!(units.iter().all(|unit| unit.text.contains("[Match]\n") || unit.text.contains("[NetDev]\n")));
        if crate::rules(&links).is_empty() {
            let mut names: Vec<_> = units.iter().map(|unit| &unit.name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), units.len());
        }
    }

    #[test]
    fn the_installers_trial_makes_the_devices_of_the_node_with_their_mtu(links in any::links()) {
        let found_nics = found_nics();
        let trial = Purpose::Preflight { static_addresses: true, dns: &[], search: &[] };
        let body = |unit: &Unit| (unit.name.clone(), unit.text.split_once('\n').map(|(_, body)| body.to_owned()));
        let node: Vec<_> = render(&links, &found_nics, None, Purpose::Node).iter().map(body).collect();
        let tried: Vec<_> = render(&links, &found_nics, None, trial)
            .iter()
            .filter(|unit| !unit.name.starts_with("unused-"))
            .map(body)
            .collect();
        prop_assert_eq!(node, tried);
    }
}
