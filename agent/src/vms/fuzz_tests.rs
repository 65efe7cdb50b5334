//! Random changes of whatever a guest or a tenant can make the agent read: nothing panics, and what comes of it is bounded.
//!
//! Why here: one file that lists those ways in. Route in: `crate::fuzz`.

use super::admission::{Verdict, admit};
use super::console_tail;
use super::facts::Resources;
use super::filters::{Port, State};
use super::guest::{Disk, Source};
use super::interfaces;
use super::memory;
use super::testing::{VMI_UID, facts, pod_of};
use crate::fuzz::{Random, for_a_while};
use serde_json::{Value, json};
use sheaf_host::libvirt::{Interface, read_domain, rpc};
use std::collections::BTreeMap;

/// Changes some bytes, takes some away, doubles some.
fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(4) {
            0 if !bytes.is_empty() => bytes[at] = random.byte(),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part: Vec<u8> = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.insert(at, random.byte()),
        }
    }
}

/// Puts something else in the place of a value deep inside.
fn change_json(random: &mut Random, value: &mut Value) {
    let replace = random.below(6) == 0;
    match value {
        Value::Array(all) if !all.is_empty() && !replace => {
            let at = random.below(all.len());
            change_json(random, &mut all[at]);
        }
        Value::Object(all) if !all.is_empty() && !replace => {
            let at = random.below(all.len());
            if let Some((_, inner)) = all.iter_mut().nth(at) {
                change_json(random, inner);
            }
        }
        value => {
            *value = match random.below(9) {
                0 => Value::Null,
                1 => json!(random.next()),
                2 => json!(-(random.next() as i64 >> 1)),
                3 => json!(""),
                4 => json!("x".repeat(random.below(300))),
                5 => json!([]),
                6 => json!({}),
                7 => json!(format!("{}Ei", random.next())),
                _ => json!(["255.255.255.255", "::", 4294967295_u64, {"elem": {"val": 7}}]),
            }
        }
    }
}

/// An answer about a guest with two interfaces, as `remote_domain_interface_addresses_ret`.
fn reply(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    bytes.extend(2_u32.to_be_bytes());
    for _ in 0..2 {
        text(&mut bytes, "eth0");
        bytes.extend(1_u32.to_be_bytes());
        text(&mut bytes, "02:00:00:00:00:01");
        let addresses = random.below(64) as u32;
        bytes.extend(addresses.to_be_bytes());
        for number in 0..addresses {
            bytes.extend(0_u32.to_be_bytes());
            text(&mut bytes, &format!("192.0.2.{number}"));
            bytes.extend(24_u32.to_be_bytes());
        }
    }
    bytes
}

#[test]
fn an_answer_about_a_guests_addresses_is_bounded_whatever_is_in_it() {
    for_a_while("agent answer", |random| {
        let mut bytes = reply(random);
        if random.below(4) > 0 {
            change(random, &mut bytes);
        }
        let Some(found) = rpc::read_interfaces(&bytes) else { return };
        assert!(found.len() <= rpc::MOST_INTERFACES);
        assert!(found.iter().all(|interface| interface.addresses.len() <= rpc::MOST_ADDRESSES));
        let port = Port { mac: "02:00:00:00:00:01".into(), ..Port::default() };
        let observed = interfaces::observed(&[port], &State::default(), &[], &found);
        assert!(serde_json::to_string(&observed).unwrap().len() < 4096);
    });
}

#[test]
fn the_tail_of_a_console_is_short_and_plain_whatever_a_guest_prints() {
    for_a_while("console", |random| {
        let mut bytes: Vec<u8> = (0..random.below(200)).flat_map(|_| *b"\x1b[0;1mlogin: \r\n").collect();
        (0..random.below(400)).for_each(|_| bytes.push(random.byte()));
        change(random, &mut bytes);
        let Some(tail) = console_tail::of(&bytes) else { return };
        assert!(tail.lines().count() <= 10 && tail.len() <= 3 * bytes.len());
        assert!(tail.chars().all(|c| c == '\n' || !c.is_control()), "{tail:?}");
    });
}

#[test]
fn the_packet_filters_table_is_read_whatever_addresses_guests_put_there() {
    let document: Value = serde_json::from_str(include_str!("../../tests/nft/table.json")).unwrap();
    for_a_while("packet filter", |random| {
        let mut table = document.clone();
        (0..=random.below(6)).for_each(|_| change_json(random, &mut table));
        let objects = table["nftables"].as_array().cloned().unwrap_or_default();
        let state = State::read(&objects);
        let ports: Vec<Port> =
            state.ports.keys().map(|tap| Port { tap: tap.clone(), ..Port::default() }).collect();
        let arp = Interface { mac: String::new(), addresses: vec![[192, 0, 2, 1].into(); random.below(99)] };
        for interface in interfaces::observed(&ports, &state, &[arp], &[]) {
            assert!(interface.ip_addresses.len() <= 16);
        }
    });
}

#[test]
fn a_domains_xml_is_read_or_refused() {
    let xml = include_str!("../../tests/golden/rich.xml");
    for_a_while("domain XML", |random| {
        let mut bytes = xml.as_bytes().to_vec();
        change(random, &mut bytes);
        let _ = read_domain(&String::from_utf8_lossy(&bytes));
    });
}

#[test]
fn an_annotation_that_anybody_wrote_gets_a_verdict() {
    let spec = json!({
        "domain": {
            "cpu": {"sockets": 1, "cores": 2, "threads": 1, "model": "host-model"},
            "memory": {"guest": "64Mi"}, "firmware": {"uuid": VMI_UID}, "machine": {"type": "q35"},
            "devices": {
                "disks": [{"name": "a", "disk": {"bus": "virtio"}, "bootOrder": 1}, {"name": "b", "cdrom": {}}, {"name": "c"}],
                "interfaces": [{"name": "out", "masquerade": {}}, {"name": "lan", "bridge": {}, "macAddress": "02:00:00:00:00:01"}],
                "rng": {},
            },
        },
        "networks": [{"name": "out", "pod": {}}, {"name": "lan", "pod": {}}],
        "volumes": [
            {"name": "a", "hostDisk": {"path": "/data/images/base.qcow2", "type": "Disk", "capacity": "1Gi"}},
            {"name": "b", "cloudInitNoCloud": {"userData": "x", "networkDataBase64": "eA=="}},
            {"name": "c", "emptyDisk": {"capacity": "1Mi"}},
        ],
        "hostname": "web", "terminationGracePeriodSeconds": 30,
    });
    for_a_while("annotation", |random| {
        let mut changed = spec.clone();
        (0..random.below(4)).for_each(|_| change_json(random, &mut changed));
        let mut pod = pod_of("p1", changed);
        if random.below(4) == 0 {
            let annotations = pod.metadata.annotations.as_mut().unwrap();
            let text = annotations.get_mut("sheaf.dev/vmi").unwrap();
            let mut bytes = std::mem::take(text).into_bytes();
            change(random, &mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let used = Resources { memory: random.next(), storage: random.next(), ..Resources::default() };
        let used = if random.below(2) == 0 { used } else { Resources::default() };
        let _ = super::admission::ports(&pod);
        if let Verdict::Accept(guest) = admit(&pod, &facts(), used) {
            assert!(memory::limit(&guest) > guest.memory && guest.memory <= 1 << 30);
            assert!(guest.space <= 1 << 36 && guest.grace_seconds >= 0);
            let of = |disk: &Disk| match &disk.source {
                Source::Overlay { bytes, .. } | Source::Empty(bytes) => *bytes,
                Source::InPlace { create, .. } => create.unwrap_or(0),
                Source::Device(_) | Source::Seed(_) => 0,
            };
            let made: BTreeMap<_, _> = guest.disks.iter().map(|disk| (&disk.name, of(disk))).collect();
            assert!(made.values().sum::<u64>() < guest.space, "more is made than is counted: {made:?}");
        }
    });
}
