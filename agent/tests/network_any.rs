//! Any layers over any links: merged or refused, and the steps lead there; nothing panics.
//!
//! Why here: layers are what users write, and what an earlier version confirmed; a panic would end the agent at each boot.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use sheaf_agent::network::change::{Machine, Step, steps};
use sheaf_agent::network::layers::Layer;
use sheaf_agent::network::merge::{merge, merge_what_fits};
use sheaf_links::{Bond, BondMode, Bridge, FoundNic, Links, Nic, Vlan};
use std::collections::BTreeSet;

fn found_nics() -> Vec<FoundNic> {
    let found_nic = |number: u8| FoundNic {
        name: format!("enp{number}s0"),
        permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
        path: Some(format!("pci-0000:0{number}:00.0")),
    };
    (1..=3).map(found_nic).collect()
}

/// Few names, so that links of several layers meet.
fn name() -> impl Strategy<Value = String> {
    let names = vec![
        "br0",
        "br1",
        "bond0",
        "v",
        "enp1s0",
        "enp2s0",
        "enp9s0",
        "52:54:00:00:00:01",
        "52:54:00:00:00:0F",
        "",
        "-",
    ];
    select(names).prop_map(str::to_owned)
}

fn links() -> impl Strategy<Value = Links> {
    let mtu = || of(select(vec![0, 1500, 9000, u32::MAX]));
    let nic =
        (name(), of(name()), mtu()).prop_map(|(name, mac, mtu)| Nic { name, mac, mtu, ..Nic::default() });
    let mode = of(select(BondMode::WORDS.iter().map(|(_, mode)| *mode).collect::<Vec<_>>()));
    let bond =
        (name(), vec(name(), 0..3), mode, of(name()), mtu()).prop_map(|(name, ports, mode, primary, mtu)| {
            Bond { name, ports, mode, primary, mtu, ..Bond::default() }
        });
    let vlan = (name(), any::<u16>(), name(), mtu()).prop_map(|(name, id, parent, mtu)| Vlan {
        name,
        id,
        parent,
        mtu,
        ..Vlan::default()
    });
    let bridge =
        (name(), vec(name(), 0..3), of(any::<bool>()), mtu()).prop_map(|(name, ports, vlan_aware, mtu)| {
            Bridge { name, ports, vlan_aware, mtu, ..Bridge::default() }
        });
    (vec(nic, 0..2), vec(bond, 0..2), vec(vlan, 0..2), vec(bridge, 0..3))
        .prop_map(|(nics, bonds, vlans, bridges)| Links { nics, bonds, vlans, bridges })
}

fn layers() -> impl Strategy<Value = Vec<Layer>> {
    let layer = (select(vec!["a", "b", "by hand"]), 0..3_u32, links())
        .prop_map(|(name, rank, links)| Layer { name: name.to_owned(), rank, links, ..Layer::default() });
    vec(layer, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn any_layers_over_any_links_are_merged_or_refused_and_what_fits_obeys_the_rules(node in links(), layers in layers()) {
        let found_nics = found_nics();
        let _ = merge(&node, &layers, &found_nics, None);
        let only_nic = Links::only_nic();
        let (merged, refused) = merge_what_fits(&only_nic, &layers, &found_nics, Some("52:54:00:00:00:02"));
        prop_assert!(sheaf_links::rules(&merged.links).is_empty(), "{:?}", sheaf_links::rules(&merged.links));
        prop_assert!(refused.len() <= layers.len());
    }

    #[test]
    fn from_any_links_to_any_others_there_are_steps_and_none_where_nothing_differs(now in links(), then in links()) {
        let found_nics = found_nics();
        let machine = Machine { found_nics: &found_nics, usual: None };
        // Of two links with one name it is not defined which is meant; the rules refuse them.
        let names: BTreeSet<_> = now.all().map(|link| link.name()).collect();
        if names.len() == now.all().count() {
            prop_assert_eq!(steps(&now, &now, machine), Vec::<Step>::new());
        }
        let there = steps(&now, &then, machine);
        let reload = there.iter().filter(|step| **step == Step::Reload).count();
        prop_assert!(reload == usize::from(!there.is_empty()), "{there:?}");
    }
}
