use super::*;
use sheaf_host::fakes::FakeFilter;
use sheaf_host::nft::Filter;

fn port(tap: &str) -> Port {
    Port { tap: tap.into(), mac: "02:00:00:00:00:01".into(), bridge: "br0".into(), ..Port::default() }
}

fn wanted(ports: &[Port]) -> BTreeMap<String, Port> {
    ports.iter().map(|port| (port.tap.clone(), port.clone())).collect()
}

fn guard(address: &str) -> Guard {
    Guard { addresses: [address.parse().unwrap()].into(), ..Guard::default() }
}

fn observe(filter: &FakeFilter) -> State {
    State::read(&filter.table(FAMILY, TABLE).unwrap())
}

#[test]
fn what_fits_is_left_and_what_is_over_is_removed_with_all_that_belongs_to_it() {
    let (filter, guard) = (FakeFilter::default(), guard("192.0.2.1"));
    let two = wanted(&[port("vma"), port("vmb")]);
    filter.apply(&changes(&two, &guard, &observe(&filter))).unwrap();
    assert_eq!(observe(&filter).ports.keys().collect::<Vec<_>>(), ["vma", "vmb"]);
    assert_eq!(changes(&two, &guard, &observe(&filter)), Vec::<Value>::new());
    filter.apply(&changes(&wanted(&[port("vmb")]), &guard, &observe(&filter))).unwrap();
    let left = filter.table(FAMILY, TABLE).unwrap();
    let of_a = |object: &&Value| {
        let name = object.as_object().and_then(|object| object.values().next()?["name"].as_str());
        name.is_some_and(|name| name == "vma" || name.starts_with("vma."))
    };
    assert_eq!(left.iter().find(of_a), None);
    assert_eq!(changes(&wanted(&[port("vmb")]), &guard, &observe(&filter)), Vec::<Value>::new());
}

#[test]
fn rules_of_an_earlier_agent_are_replaced_and_its_counters_stay() {
    let (filter, guard) = (FakeFilter::default(), guard("192.0.2.1"));
    filter.apply(&put([&port("vma")], &guard)).unwrap();
    let changed = Port { addresses: Some(vec!["192.0.2.7".parse().unwrap()]), ..port("vma") };
    let commands = changes(&wanted(&[changed]), &guard, &observe(&filter));
    assert!(commands.iter().any(|command| command["flush"]["chain"]["name"] == "vma"), "{commands:?}");
    assert!(commands.iter().all(|command| command["delete"].is_null()), "{commands:?}");
}

#[test]
fn the_base_is_there_without_ports_and_follows_what_is_guarded() {
    let filter = FakeFilter::default();
    filter.apply(&changes(&BTreeMap::new(), &guard("192.0.2.1"), &State::default())).unwrap();
    assert_eq!(changes(&BTreeMap::new(), &guard("192.0.2.1"), &observe(&filter)), Vec::<Value>::new());
    let commands = changes(&BTreeMap::new(), &guard("192.0.2.2"), &observe(&filter));
    let elements = |command: &&Value| command["add"]["element"]["name"] == base::GUARDED_V4;
    let added = commands.iter().find(elements).unwrap();
    assert_eq!(added["add"]["element"]["elem"], serde_json::json!(["192.0.2.2"]));
    let flush = |command: &Value| command["flush"]["set"]["name"] == base::GUARDED_V4;
    assert!(
        commands.iter().any(flush),
        "an address that the node no longer has is not guarded: {commands:?}"
    );
}

#[test]
fn a_listing_of_nft_shows_counters_and_addresses_in_use() {
    let document: Value = serde_json::from_str(include_str!("../../../tests/nft/table.json")).unwrap();
    let state = State::read(document["nftables"].as_array().unwrap());
    assert_eq!(state.ports.len(), 1);
    let port = &state.ports["vm0b0e6d2c6an0"];
    assert_eq!((port.dropped["mac"], port.dropped["dhcp"], port.dropped["ra"]), (2, 1, 1));
    let used: Vec<_> = port.used.iter().map(ToString::to_string).collect();
    assert_eq!(used, ["192.0.2.50", "fe80::ff:fe00:1"]);
    assert_eq!(port.version.as_deref().map(str::len), Some(16));
    assert_eq!(state.version.as_deref().map(str::len), Some(16));
    let parts = (port.chains.len(), port.counters.len(), port.sets.len(), port.elements.len());
    assert_eq!(parts, (1, REASONS.len(), 2, 2));
}
