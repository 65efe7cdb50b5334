//! Volumes of a node: made, grown, copied, filled, used by a VM, and what a power cut leaves.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{Case, Cluster, READY, Server, case};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// One step of LVM takes seconds under emulation.
const STEP: Duration = Duration::from_secs(120);

fn volume(name: &str, mib: u64, kind: &str, source: &Value) -> String {
    json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": name},
        "spec": {"nodeName": "node1", "pool": "default", "sizeBytes": mib * MIB, "kind": kind, "source": source},
    })
    .to_string()
}

/// The pool that every node has from its installation.
fn cluster_with_pool(case: &Case) -> Result<Cluster> {
    let cluster = case.cluster()?;
    cluster.operator.wait("ready pool", &["storagepool", "default.node1"], READY, |pool| {
        (pool["status"]["phase"] == "Ready").then_some(())
    })?;
    Ok(cluster)
}

fn wait_phase(cluster: &Cluster, name: &str, phase: &str, deadline: Duration) -> Result<Value> {
    let what = format!("LocalVolume {name} {phase}");
    Ok(cluster.operator.wait(&what, &["localvolume", name], deadline, |volume| {
        (volume["status"]["phase"] == phase).then(|| volume.clone())
    })?)
}

fn reason(volume: &Value) -> &str {
    let conditions = volume["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready.and_then(|condition| condition["reason"].as_str()).unwrap_or_default()
}

/// SHA-256 of the first `bytes` of a volume, read from its device.
fn sha256_on(cluster: &Cluster, name: &str, bytes: usize) -> Result<String> {
    let sum = format!("head -c {bytes} /dev/sheaf-default/{name} | sha256sum | cut -d' ' -f1");
    cluster.root(&sum)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names of logical volumes with a tag.
fn tagged(cluster: &Cluster, tag: &str) -> Result<String> {
    cluster.root(&format!("lvs --noheadings -o lv_name -S 'lv_tags={tag}' sheaf-default | xargs"))
}

#[test]
fn a_volume_is_made_grown_copied_and_removed_and_copies_outlive_it() {
    case("volumes", |case| {
        let cluster = cluster_with_pool(case)?;
        cluster.operator.apply(&volume("pvc-1", 33, "Volume", &json!({"blank": {}})))?;
        let made = wait_phase(&cluster, "pvc-1", "Ready", STEP)?;
        assert_eq!(made["status"]["devicePath"], "/dev/sheaf-default/pvc-1");
        assert_eq!(made["status"]["sizeBytes"], 36 * MIB, "a whole number of extents");
        assert_eq!(cluster.root("blockdev --getsize64 /dev/sheaf-default/pvc-1")?, (36 * MIB).to_string());
        cluster.root("echo before | dd of=/dev/sheaf-default/pvc-1 conv=fsync status=none")?;

        let origin = json!({"volume": {"name": "pvc-1"}});
        cluster.operator.apply(&volume("snap-1", 33, "Snapshot", &origin))?;
        wait_phase(&cluster, "snap-1", "Ready", STEP)?;
        cluster.root("echo after. | dd of=/dev/sheaf-default/pvc-1 conv=fsync status=none")?;
        cluster.operator.apply(&volume("pvc-2", 64, "Volume", &json!({"snapshot": {"name": "snap-1"}})))?;
        wait_phase(&cluster, "pvc-2", "Ready", STEP)?;
        assert_eq!(cluster.root("blockdev --getsize64 /dev/sheaf-default/pvc-2")?, (64 * MIB).to_string());

        cluster.operator.apply(&volume("pvc-1", 48, "Volume", &json!({"blank": {}})))?;
        cluster.operator.wait("larger volume", &["localvolume", "pvc-1"], STEP, |volume| {
            (volume["status"]["sizeBytes"] == 48 * MIB).then_some(())
        })?;
        assert_eq!(cluster.root("blockdev --getsize64 /dev/sheaf-default/pvc-1")?, (48 * MIB).to_string());

        cluster.operator.kubectl(&["delete", "--timeout=120s", "localvolume", "pvc-1", "snap-1"])?;
        assert_eq!(tagged(&cluster, "sheaf.volume")?, "pvc-2");
        assert_eq!(cluster.root("head -c 7 /dev/sheaf-default/pvc-2")?, "before");
        let table = cluster.root("sheaf-agent volumes")?;
        assert!(table.contains("pvc-2") && table.contains("Ready"), "{table}");
        Ok(())
    });
}

#[test]
fn an_image_is_brought_in_by_http_and_a_wrong_checksum_leaves_nothing() {
    case("populate", |case| {
        let cluster = cluster_with_pool(case)?;
        let image: Vec<u8> = (0..20 * MIB as u32).map(|at| (at % 251) as u8).collect();
        let server = Server::start(image.clone())?;
        let http =
            |checksum: &str| json!({"http": {"url": server.url(), "checksum": format!("sha256:{checksum}")}});
        cluster.operator.apply(&volume("pvc-1", 32, "Volume", &http(&hex(&image))))?;
        let made = wait_phase(&cluster, "pvc-1", "Ready", STEP)?;
        assert_eq!(made["status"]["progress"]["percent"], 100);
        assert_eq!(sha256_on(&cluster, "pvc-1", image.len())?, hex(&image));

        cluster.operator.apply(&volume("pvc-2", 32, "Volume", &http(&"0".repeat(64))))?;
        let failed = wait_phase(&cluster, "pvc-2", "Failed", STEP)?;
        assert_eq!(reason(&failed), "ChecksumMismatch");
        let gone = sheaf_host::wait::until(STEP, Duration::from_secs(1), || {
            (tagged(&cluster, "sheaf.volume").ok()? == "pvc-1").then_some(())
        });
        gone.context("the volume that was filled with another file is removed")?;

        // qcow2, packed: what it holds is known by what qemu-img makes of it here.
        let (raw, qcow2) = (case.work().join("a.raw"), case.work().join("a.qcow2"));
        std::fs::write(&raw, &image)?;
        let convert =
            case.tools.command("usr/bin/qemu-img").args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
        sheaf_host::run::Run::run(&sheaf_host::run::System, &convert.arg(&raw).arg(&qcow2))?;
        let packed = std::fs::read(&qcow2)?;
        let server = Server::start(packed.clone())?;
        let source = json!({"http": {"url": server.url(), "checksum": format!("sha256:{}", hex(&packed))}});
        cluster.operator.apply(&volume("pvc-3", 32, "Volume", &source))?;
        wait_phase(&cluster, "pvc-3", "Ready", STEP)?;
        assert_eq!(sha256_on(&cluster, "pvc-3", image.len())?, hex(&image));
        assert_eq!(tagged(&cluster, "sheaf.incomplete")?, "");
        Ok(())
    });
}

#[test]
fn a_power_cut_while_an_image_comes_in_leaves_no_half_volume() {
    case("populate-power-cut", |case| {
        let mut cluster = cluster_with_pool(case)?;
        let image: Vec<u8> = (0..64 * MIB as u32).map(|at| (at % 251) as u8).collect();
        let server = Server::start(image.clone())?;
        server.stall_at(40 * MIB);
        let source = json!({"http": {"url": server.url(), "checksum": format!("sha256:{}", hex(&image))}});
        cluster.operator.apply(&volume("pvc-1", 64, "Volume", &source))?;
        wait_phase(&cluster, "pvc-1", "Populating", STEP)?;
        let half = sheaf_host::wait::until(STEP, Duration::from_millis(500), || {
            (server.sent() >= 40 * MIB).then_some(())
        });
        half.context("the image comes half way")?;
        assert_eq!(tagged(&cluster, "sheaf.incomplete")?, "pvc-1");
        server.stall_at(u64::MAX);

        cluster.power_cycle()?;
        cluster.boot_id(BOOT_DEADLINE)?;
        // The API server's memory is older than the cut: it says Populating until the agent has begun again.
        wait_phase(&cluster, "pvc-1", "Ready", BOOT_DEADLINE)?;
        assert_eq!(sha256_on(&cluster, "pvc-1", image.len())?, hex(&image));
        assert_eq!(
            (tagged(&cluster, "sheaf.incomplete")?, tagged(&cluster, "sheaf.volume")?),
            (String::new(), "pvc-1".into())
        );
        Ok(())
    });
}

/// Each cut falls later than the one before: on LVM's first write, in the middle, and after the object said Ready.
#[test]
#[cfg_attr(not(feature = "all"), ignore = "a boot for each cut: `make test-all`")]
fn a_power_cut_at_any_moment_of_a_snapshot_and_a_copy_leaves_whole_volumes_or_none() {
    case("copy-power-cut", |case| {
        let mut cluster = cluster_with_pool(case)?;
        const BYTES: usize = 24 << 20;
        cluster.operator.apply(&volume("pvc-0", 32, "Volume", &json!({"blank": {}})))?;
        wait_phase(&cluster, "pvc-0", "Ready", STEP)?;
        let fill = format!(
            "head -c {BYTES} /dev/urandom | dd of=/dev/sheaf-default/pvc-0 bs=1M iflag=fullblock oflag=direct conv=fsync status=none"
        );
        cluster.root(&fill)?;
        let content = sha256_on(&cluster, "pvc-0", BYTES)?;

        let origin = json!({"volume": {"name": "pvc-0"}});
        let mut made = vec!["pvc-0".to_owned()];
        for moment in ["asked", "begun", "ready"] {
            let (snapshot, copy) = (format!("snap-{moment}"), format!("pvc-{moment}"));
            cluster.operator.apply(&volume(&snapshot, 32, "Snapshot", &origin))?;
            cluster.operator.apply(&volume(&copy, 32, "Volume", &origin))?;
            match moment {
                "begun" => sheaf_host::wait::until(STEP, Duration::from_millis(100), || {
                    let lists = cluster.root("lvs --noheadings -o lv_name sheaf-default | xargs").ok()?;
                    lists.contains(&snapshot).then_some(())
                })
                .context("the snapshot is begun")?,
                "ready" => drop(wait_phase(&cluster, &copy, "Ready", STEP)?),
                _ => {}
            }
            cluster.power_cycle()?;
            cluster.boot_id(BOOT_DEADLINE)?;
            made.extend([copy, snapshot]);
            // The API server's memory may be older than the cut; what counts is that all of them come to be, whole.
            for name in &made {
                wait_phase(&cluster, name, "Ready", BOOT_DEADLINE)?;
                let whole = sheaf_host::wait::until(STEP, Duration::from_secs(1), || {
                    sha256_on(&cluster, name, BYTES).ok().filter(|sum| *sum == content)
                });
                whole
                    .with_context(|| format!("after a cut when it was {moment}, {name} has other content"))?;
            }
            made.sort();
            let mut there: Vec<String> =
                tagged(&cluster, "sheaf.volume")?.split_whitespace().map(str::to_owned).collect();
            there.sort();
            assert_eq!(
                (there, tagged(&cluster, "sheaf.incomplete")?),
                (made.clone(), String::new()),
                "{moment}"
            );
        }
        Ok(())
    });
}
