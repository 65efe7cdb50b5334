//! Whatever a tenant writes into an object, the programs that read it neither panic nor break a promise.
//!
//! Why here: quantities, host disk paths, network definitions and the JSON of annotations are read by hand-written parsers,
//! in the controller and on every node. Route in: texts of the right shape, changed at random. Route out: [`sheaf_fuzz`].

use serde_json::{Value, json};
use sheaf_api::{
    Amount,
    domain::Cpu,
    ephemeral::{self, Base},
    host_disk::{HostDiskPlace, place},
    names::IMAGE_ANNOTATION,
    network::{self, LAST_VLAN},
    placeholder::PlacedVmi,
    storage::{
        LocalVolume,
        local_volume::{VolumeReason, VolumeSource},
    },
    strict,
    vmi::VirtualMachineInstanceSpec,
};
use sheaf_controller::{placeholder::overhead, resolve::resolve};
use sheaf_fuzz::{Random, fuzz};

/// Texts to start from, each of which a parser accepts.
const SEEDS: [&str; 4] = [
    r#"{"name":"web","namespace":"shop","uid":"0f9a1c52-1111-2222-3333-444455556666","spec":{"domain":{"cpu":{"cores":2,
       "sockets":1,"threads":1},"memory":{"guest":"1Gi"},"resources":{"requests":{"memory":"2Gi","cpu":"500m"}},"devices":
       {"disks":[{"name":"a","disk":{"bus":"virtio"}}],"interfaces":[{"name":"lan","bridge":{},"macAddress":
       "02-00-00-00-00-01"}]}},"volumes":[{"name":"a","emptyDisk":{"capacity":"2Gi"}},{"name":"b","hostDisk":{"path":
       "/data/disks/shop/b","type":"DiskOrCreate","capacity":1073741824}}],"networks":[{"name":"lan","pod":{}}],
       "terminationGracePeriodSeconds":30}}"#,
    r#"{"http":{"url":"https://mirror.example/disk.qcow2?x=1","checksum":"sha256:00"}}"#,
    "https://mirror.example/disk.qcow2 sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "/data/disks/shop/team-a/db.raw",
];
/// What changes put in.
const WORDS: [&str; 24] = [
    "",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "/",
    "..",
    "\u{0}",
    "é",
    "\u{202e}",
    "null",
    "true",
    "-1",
    "1e400",
    "99999999Ei",
    "18446744073709551615",
    "9223372036854775807",
    "4294967295",
    ".",
    "@",
    "::",
];

/// Definitions of networks that are accepted.
const NETWORKS: [&str; 3] = [
    r#"{"cniVersion":"0.3.1","name":"lan","type":"bridge","bridge":"br0","vlan":100,"ipam":{},"macspoofchk":true}"#,
    r#"{"type":"bridge","bridge":"br1","vlanTrunk":[{"minID":20,"maxID":29},{"id":10},{"minID":2,"maxID":4094}]}"#,
    r#"{"type":"bridge","bridge":"br0","vlan":0,"isGateway":false,"preserveDefaultVlan":false}"#,
];

fn read_everything(text: &str) -> bool {
    let mut accepted = strict::from_json::<VolumeSource>(text).is_ok();
    let _ = VolumeReason::of(text);
    let noted = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
        "metadata": {"name": "a", "annotations": {IMAGE_ANNOTATION: text}},
        "spec": {"nodeName": "n1", "pool": "default", "sizeBytes": 1, "source": {"upload": {}}}});
    if let Ok(volume) = serde_json::from_value::<LocalVolume>(noted) {
        accepted |= volume.image().is_some_and(|image| image.is_ok());
    }
    if let Ok(placed) = PlacedVmi::from_annotation(text) {
        let again =
            PlacedVmi::from_annotation(&placed.to_annotation()).expect("what was read can be written");
        assert_eq!(again, placed);
        costs(&placed.spec);
        accepted = true;
    }
    accepted
}

/// What is accepted is what a bridge can do: VLANs that there are, each once, and never both kinds of port.
fn definition(text: &str) -> bool {
    match network::parse(text) {
        Ok(network) => {
            assert!(!network.bridge.is_empty() && network.bridge.len() <= 15 && network.bridge != "masq0");
            assert!(network.vlan.is_none_or(|id| (1..=LAST_VLAN).contains(&id)));
            assert!(network.vlan.is_none() || network.trunk.is_empty());
            let within = |range: &network::VlanRange| 0 < range.first && range.last <= LAST_VLAN;
            assert!(network.trunk.iter().all(|range| within(range) && range.first <= range.last));
            assert!(network.trunk.windows(2).all(|pair| pair[0].last < pair[1].first));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn costs(spec: &VirtualMachineInstanceSpec) {
    let once = resolve(spec, "u-1");
    assert_eq!(resolve(&once, "u-2"), once, "a resolved spec is resolved again");
    let cpus = once.domain.cpu.as_ref().map_or(1, Cpu::count);
    assert!(overhead::bytes(&once, u64::MAX, cpus) > 0);
    let base = |base: Base<'_>| matches!(base, Base::Claim(name) | Base::Image(name) if name.len() > 4);
    assert!(ephemeral::bytes(&once, |of| base(of).then_some(u64::MAX)) >= ephemeral::FIXED_BYTES);
}

/// Something like a path below /data.
fn path(random: &mut Random) -> String {
    let mut path = (*random.of(&["/data/disks", "/data/images", "/etc", ""])).to_owned();
    for _ in 0..random.below(6) {
        path += "/";
        path += *random
            .of(&["..", ".", "shop", "other", "", "a", "b.raw", "c.qcow2", ".hidden", "\u{0}", "é", "a b"]);
    }
    path
}

fn place_of(path: &str) -> bool {
    match place(path, "shop") {
        Ok(HostDiskPlace::Image { name }) => {
            assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
        }
        Ok(HostDiskPlace::Disk { relative }) => {
            assert!(relative.starts_with("shop/"), "{path}");
            assert!(relative.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{path}");
        }
        Err(_) => return false,
    }
    true
}

/// Something like a quantity.
fn quantity(random: &mut Random) -> String {
    let digits = |random: &mut Random| -> String {
        (0..random.below(4) * random.below(9)).map(|_| char::from(b'0' + random.byte() % 10)).collect()
    };
    let mut text = (*random.of(&["", "", "", "+", "-"])).to_owned() + &digits(random);
    if random.once_in(3) {
        text = text + "." + &digits(random);
    }
    const ENDS: [&str; 18] =
        ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "m", "k", "M", "G", "T", "P", "E", "e", "e-3", "E9", "xyz"];
    text + random.of::<&str>(&ENDS)
}

fn amount(text: &str) -> bool {
    let Ok(amount) = serde_json::from_value::<Amount>(json!(text)) else { return false };
    assert_eq!(amount.as_str(), text);
    if let (Ok(units), Ok(milli)) = (amount.units(), amount.milli()) {
        assert!(
            units >= milli / 1000 && units <= milli.div_ceil(1000),
            "{text}: {units} units, {milli} thousandths"
        );
    }
    true
}

#[test]
fn no_text_that_a_tenant_can_write_makes_a_parser_panic() {
    fuzz("annotations", |random| {
        let seed = *random.of(&SEEDS);
        read_everything(&random.changed(seed, &WORDS))
    });
}

#[test]
fn no_network_definition_asks_for_what_a_bridge_cannot_do() {
    fuzz("NetworkAttachmentDefinitions", |random| {
        if random.once_in(2) {
            let seed = *random.of(&NETWORKS);
            return definition(&random.changed(seed, &WORDS));
        }
        let mut value: Value = serde_json::from_str(random.of::<&str>(&NETWORKS)).unwrap();
        sheaf_fuzz::json::change(random, &mut value, 4);
        definition(&value.to_string())
    });
}

#[test]
fn no_path_leaves_the_folder_of_its_namespace() {
    fuzz("paths of host disks", |random| place_of(&path(random)));
}

#[test]
fn every_quantity_that_is_accepted_means_one_amount() {
    fuzz("quantities", |random| {
        let bytes = random.number();
        assert_eq!(Amount::of_bytes(bytes).units(), Ok(bytes), "written as a quantity");
        amount(&quantity(random))
    });
}
