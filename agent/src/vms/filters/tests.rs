//! Which changes of the packet filter follow from ports, records and what the kernel has. What the rules let pass is
//! tried on a kernel by `tests/tests/filters.rs`.

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

/// One command a line, as nft gets them.
fn golden(name: &str, commands: &[Value]) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/filters").join(name);
    let text: String = commands.iter().map(|command| format!("{command}\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        return std::fs::write(file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "{}; UPDATE=1 writes it again", file.display());
}

#[test]
fn the_rules_of_every_kind_of_port_are_these() {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let guard = Guard {
        addresses: ["192.0.2.1", "192.0.2.10", "fe80::1"].map(ip).into(),
        macs: ["52:55:0a:00:02:02".to_owned()].into(),
        networks: [([192, 0, 2, 0].into(), 24)].into(),
    };
    golden("base.json", &base::commands(&guard));
    golden("bridge.json", &rules::port(&port("vma")));
    let addresses = Some(vec![ip("192.0.2.7"), ip("2001:db8::7")]);
    golden("bridge-with-addresses.json", &rules::port(&Port { addresses, ..port("vma") }));
    let trunk = vec![sheaf_api::network::VlanRange { first: 10, last: 19 }];
    golden("trunk.json", &rules::port(&Port { trunk, ..port("vma") }));
    let addresses = Some(vec![ip("100.127.240.7")]);
    golden("masquerade.json", &rules::port(&Port { masquerade: true, addresses, ..port("vma") }));
    golden("masquerade-without-lease.json", &rules::port(&Port { masquerade: true, ..port("vma") }));
    golden("forward.json", &masquerade::changes(&guard, &masquerade::State::default()));
}

mod fuzz {
    use super::*;
    use sheaf_fuzz::Random;

    fn some_ports(random: &mut Random) -> BTreeMap<String, Port> {
        let count = random.below(4);
        let ports: Vec<_> = (0..count).map(|_| some_port(random)).collect();
        wanted(&ports)
    }

    fn some_port(random: &mut Random) -> Port {
        let address = |random: &mut Random| std::net::Ipv4Addr::from_bits(random.next() as u32).into();
        let mac = [2, 0, 0, 0, random.byte(), random.byte()].map(|byte| format!("{byte:02x}")).join(":");
        let first = random.below(4000) as u16 + 1;
        Port {
            mac,
            masquerade: random.below(2) == 0,
            vlan: (random.below(2) == 0).then_some(first),
            trunk: (0..random.below(3))
                .map(|_| sheaf_api::network::VlanRange { first, last: first + 1 })
                .collect(),
            addresses: (random.below(2) == 0)
                .then(|| (0..random.below(3)).map(|_| address(random)).collect()),
            ..port(&crate::names::tap(&format!("{:010x}", random.below(6)), 0))
        }
    }

    fn some_guard(random: &mut Random) -> Guard {
        let addresses =
            (0..random.below(3)).map(|_| std::net::Ipv4Addr::from_bits(random.next() as u32).into());
        Guard { addresses: addresses.collect(), ..Guard::default() }
    }

    /// Whatever was there, once its changes are made there is nothing left to change, and exactly the wanted ports exist.
    #[test]
    fn changes_lead_from_any_ports_to_any_others_in_one_transaction() {
        sheaf_fuzz::fuzz("packet filters of ports", |random| {
            let filter = FakeFilter::default();
            for _ in 0..3 {
                let (ports, guard) = (some_ports(random), some_guard(random));
                filter.apply(&changes(&ports, &guard, &observe(&filter))).unwrap();
                let state = observe(&filter);
                assert_eq!(changes(&ports, &guard, &state), Vec::<Value>::new());
                assert!(state.ports.keys().eq(ports.keys()), "{:?} {:?}", state.ports, ports);
            }
            true
        });
    }

    /// What nft prints of sets that guests fill, changed at random: no panic, and no port that is not wanted stays.
    #[test]
    fn a_listing_with_anything_in_it_is_read() {
        let listing = include_bytes!("../../../tests/nft/table.json");
        sheaf_fuzz::fuzz("listings of the packet filter", |random| {
            let mut text = listing.to_vec();
            for _ in 0..=random.below(6) {
                let at = random.below(text.len());
                // Half of the changes keep it JSON.
                text[at] = if random.below(2) == 0 {
                    b"0123456789.:@abcdef"[random.below(19)]
                } else {
                    random.byte()
                };
            }
            let Ok(document) = serde_json::from_slice::<Value>(&text) else { return false };
            let objects: Vec<Value> =
                serde_json::from_value(document["nftables"].clone()).unwrap_or_default();
            let state = State::read(&objects);
            let commands = changes(&BTreeMap::new(), &Guard::default(), &state);
            let removed = commands.iter().filter(|command| !command["delete"].is_null()).count();
            let parts = |port: &PortState| {
                port.chains.len() + port.counters.len() + port.sets.len() + port.elements.len()
            };
            assert_eq!(removed, state.ports.values().map(parts).sum::<usize>());
            masquerade::State::read(&objects);
            true
        });
    }
}
