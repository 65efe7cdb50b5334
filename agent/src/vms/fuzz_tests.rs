//! Random changes of whatever a guest or a tenant can make the agent read: nothing panics, and what comes of it is bounded.
//!
//! Why here: one file that lists those ways in. Route out: [`sheaf_fuzz`].

use super::admission::{Verdict, admit};
use super::console_tail;
use super::credentials;
use super::facts::Resources;
use super::filters::{Port, State};
use super::guest::{DataSource, Disk, Seed, Source};
use super::interfaces;
use super::iso9660;
use super::memory;
use super::seed;
use super::testing::{VMI_UID, facts, guest, pod_of};
use serde_json::{Value, json};
use sheaf_fuzz::{Random, fuzz, json::change as change_json};
use sheaf_host::libvirt::{DomainNic, Interface, read_domain, rpc};
use std::collections::BTreeMap;

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
    fuzz("answers of guest agents", |random| {
        let mut bytes = reply(random);
        if random.below(4) > 0 {
            random.change(&mut bytes, &[]);
        }
        let Some(found) = rpc::read_interfaces(&bytes) else { return false };
        assert!(found.len() <= rpc::MOST_INTERFACES);
        assert!(found.iter().all(|interface| interface.addresses.len() <= rpc::MOST_ADDRESSES));
        let port = Port { mac: "02:00:00:00:00:01".into(), ..Port::default() };
        let nics = [DomainNic { tap: port.tap.clone(), ..DomainNic::default() }];
        let observed = interfaces::observed(&[port], &nics, &State::default(), &[], &found);
        assert!(serde_json::to_string(&observed).unwrap().len() < 4096);
        true
    });
}

#[test]
fn the_tail_of_a_console_is_short_and_plain_whatever_a_guest_prints() {
    fuzz("consoles", |random| {
        let mut bytes: Vec<u8> = (0..random.below(200)).flat_map(|_| *b"\x1b[0;1mlogin: \r\n").collect();
        (0..random.below(400)).for_each(|_| bytes.push(random.byte()));
        random.change(&mut bytes, &[]);
        let Some(tail) = console_tail::of(&bytes) else { return false };
        assert!(tail.lines().count() <= 10 && tail.len() <= 3 * bytes.len());
        assert!(tail.chars().all(|c| c == '\n' || !c.is_control()), "{tail:?}");
        true
    });
}

#[test]
fn the_packet_filters_table_is_read_whatever_addresses_guests_put_there() {
    let document: Value = serde_json::from_str(include_str!("../../tests/nft/table.json")).unwrap();
    fuzz("addresses in the packet filter", |random| {
        let mut table = document.clone();
        change_json(random, &mut table, 6);
        let objects = table["nftables"].as_array().cloned().unwrap_or_default();
        let state = State::read(&objects);
        let ports: Vec<Port> =
            state.ports.keys().map(|tap| Port { tap: tap.clone(), ..Port::default() }).collect();
        let arp = Interface { mac: String::new(), addresses: vec![[192, 0, 2, 1].into(); random.below(99)] };
        let nic = |port: &Port| DomainNic { tap: port.tap.clone(), ..DomainNic::default() };
        let nics: Vec<DomainNic> = ports.iter().map(nic).collect();
        for interface in interfaces::observed(&ports, &nics, &state, &[arp], &[]) {
            assert!(interface.ip_addresses.len() <= 16);
        }
        !ports.is_empty()
    });
}

#[test]
fn a_domains_xml_is_read_or_refused() {
    let xml = include_str!("../../tests/golden/rich.xml");
    fuzz("domain XML", |random| {
        let mut bytes = xml.as_bytes().to_vec();
        random.change(&mut bytes, &[]);
        read_domain(&String::from_utf8_lossy(&bytes)).is_ok()
    });
}

#[test]
fn an_annotation_that_anybody_wrote_gets_a_verdict() {
    let spec = json!({
        "domain": {
            "cpu": {"sockets": 1, "cores": 2, "threads": 1, "model": "host-model"},
            "memory": {"guest": "64Mi"}, "machine": {"type": "q35"}, "ioThreadsPolicy": "auto",
            "firmware": {"uuid": VMI_UID, "serial": "s", "bootloader": {"efi": {"persistent": true}}},
            "features": {"smm": {}, "hyperv": {"spinlocks": {"spinlocks": 8191}, "vendorid": {"vendorid": "v"}}},
            "clock": {"utc": {"offsetSeconds": 1}, "timer": {"rtc": {"tickPolicy": "catchup"}}},
            "devices": {
                "disks": [{"name": "a", "disk": {"bus": "virtio"}, "bootOrder": 1}, {"name": "b", "cdrom": {}}, {"name": "c"},
                          {"name": "d"}],
                "interfaces": [{"name": "out", "masquerade": {}}, {"name": "lan", "bridge": {}, "macAddress": "02:00:00:00:00:01"}],
                "rng": {}, "tpm": {"persistent": true}, "blockMultiQueue": true, "networkInterfaceMultiqueue": true,
                "watchdog": {"name": "w", "i6300esb": {"action": "reset"}},
            },
        },
        "networks": [{"name": "out", "pod": {}}, {"name": "lan", "pod": {}}],
        "volumes": [
            {"name": "a", "hostDisk": {"path": "/data/images/base.qcow2", "type": "Disk", "capacity": "1Gi"}},
            {"name": "b", "cloudInitNoCloud": {"userData": "x", "networkDataBase64": "eA=="}},
            {"name": "c", "emptyDisk": {"capacity": "1Mi"}},
            {"name": "d", "downwardAPI": {"volumeLabel": "l", "fields": [
                {"path": "a/b", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "c", "fieldRef": {"fieldPath": "metadata.annotations['k']"}}]}},
        ],
        "accessCredentials": [{"sshPublicKey": {"source": {"secret": {"secretName": "s"}},
            "propagationMethod": {"qemuGuestAgent": {"users": ["root"]}}}}],
        "hostname": "web", "terminationGracePeriodSeconds": 30,
    });
    fuzz("Pods of VMs", |random| {
        let mut changed = spec.clone();
        change_json(random, &mut changed, 3);
        let mut pod = pod_of("p1", changed);
        if random.below(4) == 0 {
            let annotations = pod.metadata.annotations.as_mut().unwrap();
            let text = annotations.get_mut("sheaf.dev/vmi").unwrap();
            let mut bytes = std::mem::take(text).into_bytes();
            random.change(&mut bytes, &[]);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let used = Resources { memory: random.next(), storage: random.next(), ..Resources::default() };
        let used = if random.below(2) == 0 { used } else { Resources::default() };
        let _ = (super::admission::ports(&pod), credentials::of(&pod));
        let Verdict::Accept(guest) = admit(&pod, &facts(), used) else { return false };
        assert!(memory::limit(&guest) > guest.memory && guest.memory <= 1 << 30);
        assert!(guest.space <= 1 << 36 && guest.grace_seconds >= 0);
        let of = |disk: &Disk| match &disk.source {
            Source::Overlay { bytes, .. } | Source::Empty(bytes) => *bytes,
            Source::InPlace { create, .. } => create.unwrap_or(0),
            Source::DeviceOverlay { bytes, .. } => *bytes,
            Source::Device(_) | Source::NoMedium { .. } | Source::Seed(_) | Source::Files(_) => 0,
        };
        let made: BTreeMap<_, _> = guest.disks.iter().map(|disk| (&disk.name, of(disk))).collect();
        assert!(made.values().sum::<u64>() < guest.space, "more is made than is counted: {made:?}");
        true
    });
}

#[test]
fn a_seed_holds_what_a_tenant_wrote_and_only_that() {
    fuzz("cloud-init seeds", |random| {
        let data = |random: &mut Random| {
            let mut bytes = vec![0; random.below(3 * 2048)];
            bytes.iter_mut().for_each(|byte| *byte = random.byte());
            random.once_in(2).then_some(bytes)
        };
        let texts = seed::Texts { user_data: data(random), network_data: data(random), keys: Vec::new() };
        let hostname = random.changed("www.example.org", &["\"", "\n", "\u{0}", "é", ": ", "{"]);
        let source = *random.of(&[DataSource::NoCloud, DataSource::ConfigDrive]);
        let seed = Seed {
            source,
            hostname: hostname.clone(),
            user_data: None,
            network_data: None,
            keys: Vec::new(),
        };
        let files = seed::files(&guest(), &seed, texts);
        let image = iso9660::image(seed::label(source), &files);
        assert_eq!(image.len() % 2048, 0);
        // As cloud-init reads it.
        let (path, names) = match source {
            DataSource::NoCloud => ("meta-data", ["instance-id", "local-hostname"]),
            DataSource::ConfigDrive => ("openstack/latest/meta_data.json", ["instance_id", "hostname"]),
        };
        let meta: Value = serde_json::from_slice(&files[path]).unwrap();
        assert_eq!((&meta[names[0]], &meta[names[1]]), (&json!("web.default"), &json!(hostname)));
        true
    });
}

#[test]
fn an_images_header_is_read_or_is_none() {
    let dir = std::env::temp_dir().join(format!("sheaf-fuzz-header-{}", std::process::id()));
    fuzz("headers of disk files", |random| {
        let mut bytes = b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\x01\0\0\0\0".to_vec();
        random.change(&mut bytes, &["QFI", "\u{0}\u{0}"]);
        std::fs::write(&dir, &bytes).unwrap();
        let size = sheaf_host::qcow2::virtual_size(&dir);
        assert!(size.is_none() || bytes.starts_with(b"QFI\xfb"));
        size.is_some()
    });
    std::fs::remove_file(dir).unwrap();
}
