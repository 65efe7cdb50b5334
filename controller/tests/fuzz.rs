//! Whatever a tenant writes into an object, the programs that read it neither panic nor break a promise.
//!
//! Why here: quantities, host disk paths, network definitions and the JSON of annotations are read by hand-written parsers,
//! in the controller and on every node. Route in: texts of the right shape, changed at random. Route out: the first that
//! breaks a promise, in its smallest form. A moment in `cargo test`; SHEAF_FUZZ_SECONDS makes it longer.

use std::time::{Duration, Instant};

use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};
use serde_json::json;
use sheaf_api::{
    Amount,
    domain::Cpu,
    ephemeral,
    host_disk::{HostDiskPlace, place},
    names::IMAGE_ANNOTATION,
    network,
    placeholder::PlacedVmi,
    storage::{
        LocalVolume,
        local_volume::{VolumeReason, VolumeSource},
    },
    strict,
    vmi::VirtualMachineInstanceSpec,
};
use sheaf_controller::{placeholder::overhead, resolve::resolve};

/// Texts to start from, each of which a parser accepts.
const SEEDS: [&str; 5] = [
    r#"{"name":"web","namespace":"shop","uid":"0f9a1c52-1111-2222-3333-444455556666","spec":{"domain":{"cpu":{"cores":2,
       "sockets":1,"threads":1},"memory":{"guest":"1Gi"},"resources":{"requests":{"memory":"2Gi","cpu":"500m"}},"devices":
       {"disks":[{"name":"a","disk":{"bus":"virtio"}}],"interfaces":[{"name":"lan","bridge":{},"macAddress":
       "02-00-00-00-00-01"}]}},"volumes":[{"name":"a","emptyDisk":{"capacity":"2Gi"}},{"name":"b","hostDisk":{"path":
       "/data/disks/shop/b","type":"DiskOrCreate","capacity":1073741824}}],"networks":[{"name":"lan","pod":{}}],
       "terminationGracePeriodSeconds":30}}"#,
    r#"{"http":{"url":"https://mirror.example/disk.qcow2?x=1","checksum":"sha256:00"}}"#,
    r#"{"cniVersion":"0.3.1","type":"bridge","bridge":"br0","vlan":100,"vlanTrunk":[{"minID":2,"maxID":4094}],"ipam":{}}"#,
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

/// A text, some of whose stretches were replaced.
fn changed() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0..6usize, prop::sample::select(&WORDS[..]));
    (prop::sample::select(&SEEDS[..]), prop::collection::vec(change, 0..5)).prop_map(|(seed, changes)| {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, length, word) in changes {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, word.chars());
        }
        text.into_iter().collect()
    })
}

/// Something like a quantity.
fn quantity() -> impl Strategy<Value = String> {
    "[+-]?[0-9]{0,30}(\\.[0-9]{0,30})?(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E|[eE][0-9]{0,4}|[a-zA-Z]{0,3})?"
}

/// Something like a path below /data.
fn path() -> impl Strategy<Value = String> {
    "(/data/(disks|images)|/etc|)(/(\\.\\.|\\.|shop|other|[a-z.]{0,4}|)){0,5}"
}

fn parse_everything(text: &str) {
    let _ = strict::from_json::<VolumeSource>(text);
    let _ = network::parse(text);
    let _ = VolumeReason::of(text);
    let noted = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
        "metadata": {"name": "a", "annotations": {IMAGE_ANNOTATION: text}},
        "spec": {"nodeName": "n1", "pool": "default", "sizeBytes": 1, "source": {"upload": {}}}});
    if let Ok(volume) = serde_json::from_value::<LocalVolume>(noted) {
        let _ = volume.image();
    }
    if let Ok(placed) = PlacedVmi::from_annotation(text) {
        let again =
            PlacedVmi::from_annotation(&placed.to_annotation()).expect("what was read can be written");
        assert_eq!(again, placed);
        costs(&placed.spec);
    }
}

fn costs(spec: &VirtualMachineInstanceSpec) {
    let once = resolve(spec, "u-1");
    assert_eq!(resolve(&once, "u-2"), once, "a resolved spec is resolved again");
    let cpus = once.domain.cpu.as_ref().map_or(1, Cpu::count);
    assert!(overhead::bytes(&once, u64::MAX, cpus) > 0);
    assert!(ephemeral::bytes(&once, |name| (name.len() > 4).then_some(u64::MAX)) >= ephemeral::FIXED_BYTES);
}

fn places(path: &str) {
    match place(path, "shop") {
        Ok(HostDiskPlace::Image { name }) => {
            assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
        }
        Ok(HostDiskPlace::Disk { relative }) => {
            assert!(relative.starts_with("shop/"), "{path}");
            assert!(relative.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{path}");
        }
        Err(_) => {}
    }
}

fn amounts(text: &str) {
    let Ok(amount) = serde_json::from_value::<Amount>(json!(text)) else { return };
    assert_eq!(amount.as_str(), text);
    if let (Ok(units), Ok(milli)) = (amount.units(), amount.milli()) {
        assert!(
            units >= milli / 1000 && units <= milli.div_ceil(1000),
            "{text}: {units} units, {milli} thousandths"
        );
    }
}

/// Runs `property` on batches until the time is over; the number of inputs.
fn run<S: Strategy>(strategy: S, property: impl Fn(&S::Value)) -> u64
where
    S::Value: std::fmt::Debug,
{
    const BATCH: u32 = 1000;
    let seconds: u64 =
        std::env::var("SHEAF_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(seconds) / 3;
    let mut inputs = 0;
    loop {
        let config = Config { cases: BATCH, failure_persistence: None, ..Config::default() };
        let result = TestRunner::new(config).run(&strategy, |value| {
            property(&value);
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, value)) => panic!("{why}\ninput: {value:?}"),
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
        inputs += u64::from(BATCH);
        if Instant::now() >= end {
            return inputs;
        }
    }
}

#[test]
fn no_text_that_a_tenant_can_write_makes_a_parser_panic() {
    let texts = run(changed(), |text| parse_everything(text));
    println!("{texts} texts");
}

#[test]
fn no_path_leaves_the_folder_of_its_namespace() {
    let paths = run(path(), |path| places(path));
    println!("{paths} paths");
}

#[test]
fn every_quantity_that_is_accepted_means_one_amount() {
    let quantities = run(quantity(), |text| amounts(text));
    println!("{quantities} quantities");
}

proptest! {
    #[test]
    fn bytes_written_as_a_quantity_are_the_same_bytes(bytes in any::<u64>()) {
        prop_assert_eq!(Amount::of_bytes(bytes).units(), Ok(bytes));
    }
}
