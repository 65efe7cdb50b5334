//! VMs on volumes, end to end: made, filled, booted from, kept, grown; and what a full pool does to anyone who writes.
//!
//! Why a whole machine: the scheduler, LVM, QEMU and the guest's own kernel all have a hand in a block that is kept.
//! Guests do what is asked by scripts in their user data and say on their consoles how it went.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::wait::until;
use sheaf_machine::{Disk, ports};
use sheaf_tests::harness::{Case, Cluster, READY, Server, case, field};
use std::time::Duration;

/// One step of a node takes seconds under emulation, and minutes where others use the processors too.
const STEP: Duration = Duration::from_secs(300);
const GIB: u64 = 1 << 30;
const EXAMPLE: &str = include_str!("../../docs/examples/vm-datavolume.yaml");
const UPLOAD: &str = include_str!("../../docs/examples/vm-upload.yaml");

/// Makes a file system on its second disk at its first boot, looks into it at the next, and waits for the disk to grow.
const MILL: &str = r#"#!/bin/sh
mkdir -p /data
if mount -t ext4 /dev/vdb /data 2>/dev/null; then
    (cd /data && sha256sum -c sums) >/dev/null 2>&1 && echo data kept || echo data lost
else
    mke2fs -i 1048576 /dev/vdb >/dev/null 2>&1 && mount -t ext4 /dev/vdb /data || echo no file system
    head -c 16777216 /dev/urandom > /data/grain && (cd /data && sha256sum grain > sums) && sync && echo data written
fi
umount /data
before=$(cat /sys/block/vdb/size)
while [ "$(cat /sys/block/vdb/size)" = "$before" ]; do sleep 1; done
sectors=$(cat /sys/block/vdb/size)
echo "data disk has $((sectors * 512)) bytes"
yes grain | head -c 1048576 > /tmp/piece
last=$((sectors / 2048 - 1))
dd if=/tmp/piece of=/dev/vdb bs=1M seek=$last oflag=direct 2>/dev/null
dd if=/dev/vdb bs=1M skip=$last count=1 iflag=direct 2>/dev/null | cmp - /tmp/piece && echo its new end keeps what is written
"#;

/// Writes its second disk from end to end, each piece of 4 MiB another, and reads all of it again.
const SILO: &str = r#"#!/bin/sh
piece() { yes "piece $1 of the silo" | head -c 4194304; }
pieces=$(($(cat /sys/block/vdb/size) / 8192))
failed=0
bad=0
n=0
while [ $n -lt $pieces ]; do
    piece $n | dd of=/dev/vdb bs=1M seek=$((n * 4)) iflag=fullblock oflag=direct conv=notrunc,fsync 2>/dev/null || failed=$((failed + 1))
    n=$((n + 1))
    echo "written $n"
done
echo 3 > /proc/sys/vm/drop_caches
n=0
while [ $n -lt $pieces ]; do
    piece $n > /tmp/piece
    dd if=/dev/vdb bs=1M skip=$((n * 4)) count=4 iflag=fullblock,direct 2>/dev/null | cmp - /tmp/piece || bad=$((bad + 1))
    n=$((n + 1))
done
echo "silo done: pieces=$pieces failed=$failed bad=$bad"
"#;

/// `script` as it stands below `userData: |`.
fn user_data(script: &str) -> String {
    script.lines().map(|line| format!("              {line}\n")).collect()
}

fn replaced(manifest: &str, text: &str, by: &str) -> Result<String> {
    ensure!(manifest.contains(text), "the example has no \"{text}\" any more");
    Ok(manifest.replace(text, by))
}

/// The guest disk as cloud images come: qcow2.
fn image(case: &Case) -> Result<Vec<u8>> {
    let qcow2 = case.work().join("guest.qcow2");
    let convert = case.tools.command("usr/bin/qemu-img").args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
    System.run(&convert.arg(case.guest_disk()?).arg(&qcow2))?;
    std::fs::read(&qcow2).with_context(|| qcow2.display().to_string())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wait_pool(cluster: &Cluster, pool: &str, phase: &str) -> Result<u64> {
    let what = format!("pool {pool} {phase}");
    Ok(cluster.operator.wait(&what, &["storagepool", pool], READY, |pool| {
        (pool["status"]["phase"] == phase).then(|| pool["status"]["totalBytes"].as_u64())?
    })?)
}

fn wait_data_volume(cluster: &Cluster, name: &str, phase: &str) -> Result<()> {
    Ok(cluster.operator.wait(&format!("DataVolume {name} {phase}"), &["dv", name], STEP, |volume| {
        (volume["status"]["phase"] == phase).then_some(())
    })?)
}

/// Reasons of all Events about objects of a kind, each with how often it was said.
fn events(cluster: &Cluster, kind: &str) -> Result<Vec<(String, u64)>> {
    let selector = format!("involvedObject.kind={kind}");
    let text =
        cluster.operator.kubectl(&["get", "events", "-A", "-o", "json", "--field-selector", &selector])?;
    let list: Value = serde_json::from_str(&text)?;
    let said = |event: &Value| {
        let times = event["count"].as_u64().or(event["series"]["count"].as_u64()).unwrap_or(1);
        Some((event["reason"].as_str()?.to_owned(), times))
    };
    Ok(list["items"].as_array().into_iter().flatten().filter_map(said).collect())
}

#[test]
fn a_vm_boots_from_what_a_server_has_keeps_what_it_writes_and_its_disk_grows() {
    case("volume-vm", |case| {
        let cluster = case.cluster()?;
        wait_pool(&cluster, "default.node1", "Ready")?;
        let image = image(case)?;
        let server = Server::start(image.clone())?;
        let url = "https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2";
        let manifest = replaced(EXAMPLE, url, &server.url())?;
        let manifest = replaced(&manifest, &"0".repeat(64), &hex(&image))?;
        let seed = "              #cloud-config\n              hostname: mill\n";
        let manifest = replaced(&manifest, seed, &user_data(MILL))?;

        let first = cluster.start_vm(&manifest, "mill")?;
        ensure!(field(&first, "boots") == "1" && field(&first, "hostname") == "mill", "{first}");
        cluster.console_line("mill", "guest: data written")?;
        for disk in ["mill-system", "mill-data"] {
            wait_data_volume(&cluster, disk, "Succeeded")?;
        }

        // Another run of it, which has both disks as the first left them.
        cluster.operator.kubectl(&["delete", "--wait=false", "vmi", "mill"])?;
        let second = cluster.new_console_line("mill", "guest: up", &field(&first, "boot-id"))?;
        ensure!(field(&second, "boots") == "2", "the disk it booted from is another: {second}");
        cluster.console_line("mill", "guest: data kept")?;

        let size = json!({"spec": {"resources": {"requests": {"storage": "20Gi"}}}}).to_string();
        cluster.operator.kubectl(&["patch", "pvc", "mill-data", "-p", &size])?;
        cluster.operator.wait("larger claim", &["pvc", "mill-data"], STEP, |claim| {
            (claim["status"]["capacity"]["storage"] == "20Gi").then_some(())
        })?;
        cluster.console_line("mill", &format!("guest: data disk has {} bytes", 20 * GIB))?;
        cluster.console_line("mill", "guest: its new end keeps what is written")?;

        // The VM takes its disks along, down to the logical volumes.
        cluster.operator.kubectl(&["delete", "--wait=false", "vm", "mill"])?;
        for kind in ["vm", "dv", "pvc", "pv", "localvolume"] {
            cluster.operator.wait(&format!("{kind} that are gone"), &[kind], READY, |list| {
                list["items"].as_array()?.is_empty().then_some(())
            })?;
        }
        let left = cluster.root("lvs --noheadings -o lv_name -S 'lv_tags=sheaf.volume' sheaf-default")?;
        ensure!(left.trim().is_empty(), "left on the node: {left}");
        Ok(())
    });
}

#[test]
fn a_vm_waits_for_an_image_that_is_sent_to_its_node_and_boots_from_it() {
    case("upload", |case| {
        let cluster = case.cluster()?;
        wait_pool(&cluster, "default.node1", "Ready")?;
        cluster.operator.apply(UPLOAD)?;
        wait_data_volume(&cluster, "barley-system", "UploadReady")?;
        let send = "sheaf-agent volumes upload default/barley-system";
        let image = "/data/images/guest.raw";
        let shell = cluster.machine.shell();
        // As a connection that breaks does it: standard input ends too early, and who reads it cannot know.
        let (code, said) = shell.exit_code(
            &format!("head -c 5000000 {image} | {send} - --bytes $(stat -c %s {image}) 2>&1"),
            STEP,
        )?;
        ensure!(
            code == 1 && said.contains("the upload ended after 5000000 of"),
            "half an image: {code}: {said}"
        );
        let sum = cluster.root(&format!("sha256sum {image}"))?;
        let sum = sum.split_whitespace().next().unwrap_or_default();
        let said = cluster.root(&format!("{send} {image} --sha256 {sum}"))?;
        ensure!(said.trim_end().ends_with("default/barley-system is filled"), "{said}");
        let up = cluster.console_line("barley", "guest: up")?;
        ensure!(field(&up, "boots") == "1", "{up}");
        wait_data_volume(&cluster, "barley-system", "Succeeded")?;
        Ok(())
    });
}

#[test]
fn a_vm_boots_from_an_image_that_its_node_fetches_from_the_operators_own_machine() {
    case("served", |case| {
        let cluster = case.cluster()?;
        wait_pool(&cluster, "default.node1", "Ready")?;
        let (folder, log) = (case.work().join("my images"), case.work().join("serve.log"));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("guest disk.qcow2"), image(case)?)?;
        let port = ports::free_port()?;
        let serve = Command::new(case.built()?.sheaf).arg("serve").arg(folder.join("guest disk.qcow2"));
        let serve = serve.args(["--listen", &format!("127.0.0.1:{port}"), "--url"]);
        let mut serving = System.start(&serve.arg(format!("http://10.0.2.2:{port}")).log(log.clone()))?;
        let noted = until(STEP, Duration::from_millis(100), || {
            let said = std::fs::read_to_string(&log).ok()?;
            said.lines().find(|line| line.starts_with("http://10.0.2.2:")).map(str::to_owned)
        });
        let noted = noted.context("sheaf serve says no URL")?;
        ensure!(noted.contains("/guest%20disk.qcow2 sha256:"), "{noted}");

        cluster.operator.apply(UPLOAD)?;
        let volume = cluster.operator.wait("barley's volume", &["localvolumes"], STEP, |list| {
            let is_it =
                |one: &&Value| one["metadata"]["annotations"]["sheaf.dev/claim"] == "default/barley-system";
            Some(list["items"].as_array()?.iter().find(is_it)?["metadata"]["name"].as_str()?.to_owned())
        })?;
        let note = |text: &str| {
            let note = format!("sheaf.dev/image={text}");
            cluster.operator.kubectl(&["annotate", "--overwrite", "localvolume", &volume, &note])
        };
        // The file of another day.
        let (url, _) = noted.split_once(' ').context("no checksum")?;
        note(&format!("{url} sha256:{}", "0".repeat(64)))?;
        wait_data_volume(&cluster, "barley-system", "Failed")?;
        note(&noted)?;
        let up = cluster.console_line("barley", "guest: up")?;
        ensure!(field(&up, "boots") == "1", "{up}");
        wait_data_volume(&cluster, "barley-system", "Succeeded")?;
        serving.kill()?;
        Ok(())
    });
}

#[test]
fn writers_of_a_full_pool_wait_are_reported_and_go_on_without_a_bad_block_once_it_has_grown() {
    case("full-pool", |case| {
        let mut cluster = case.cluster()?;
        let plug = |cluster: &mut Cluster, serial: &str, bytes: u64| -> Result<String> {
            let file = case.work().join(format!("{serial}.raw"));
            std::fs::File::create(&file)?.set_len(bytes)?;
            cluster.machine.plug(&Disk::raw(file, serial), None)?;
            Ok(cluster.operator.wait(&format!("disk {serial}"), &["blockdevices"], STEP, |list| {
                let is_it = |item: &&Value| item["spec"]["identity"]["serial"] == serial;
                Some(list["items"].as_array()?.iter().find(is_it)?["metadata"]["name"].as_str()?.to_owned())
            })?)
        };
        let first = plug(&mut cluster, "S1", 288 << 20)?;
        cluster.operator.apply(&small_pool(&first))?;
        wait_pool(&cluster, "small.node1", "Ready")?;
        let up = cluster.start_vm(&silo(&user_data(SILO)), "silo")?;

        // What Sheaf promises does not fill a pool, so something else must: a volume that is not Sheaf's. Its own writes
        // are refused at the end.
        cluster.root(
            "lvm lvcreate --config 'activation{monitoring=0}' -qq -y --type thin -V 96m -n other --thinpool thin sheaf-small && \
             (dd if=/dev/urandom of=/dev/sheaf-small/other bs=1M count=96 oflag=direct iflag=fullblock status=none || true)",
        )?;
        wait_pool(&cluster, "small.node1", "Full")?;
        cluster.operator.wait("silo is said to wait", &["vmi", "silo"], STEP, |vmi| {
            let paused =
                vmi["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "Paused")?;
            (paused["status"] == "True" && paused["reason"] == "PausedIOError").then_some(())
        })?;

        let second = plug(&mut cluster, "S2", 512 << 20)?;
        let devices = json!({"spec": {"devices": [first, second]}}).to_string();
        cluster.operator.kubectl(&["patch", "storagepool", "small.node1", "--type=merge", "-p", &devices])?;
        wait_pool(&cluster, "small.node1", "Ready")?;
        let done = cluster.console_line("silo", "guest: silo done:")?;
        ensure!(field(&done, "failed") == "0" && field(&done, "bad") == "0", "{done}");
        let beat = cluster.console_line("silo", "guest: alive")?;
        ensure!(field(&beat, "boot-id") == field(&up, "boot-id"), "another guest: {up}\n{beat}");
        cluster.operator.wait("silo is said to run", &["vmi", "silo"], STEP, |vmi| {
            let conditions = vmi["status"]["conditions"].as_array()?;
            conditions.iter().all(|one| one["type"] != "Paused" || one["status"] == "False").then_some(())
        })?;

        let (of_pool, of_pod) = (events(&cluster, "StoragePool")?, events(&cluster, "Pod")?);
        eprintln!("{of_pool:?} {of_pod:?}");
        let said = |all: &[(String, u64)], reason: &str| {
            all.iter().filter(|(of, _)| of == reason).map(|(_, times)| times).sum::<u64>()
        };
        ensure!(said(&of_pool, "PoolFull") > 0, "no Event of the pool that it is full: {of_pool:?}");
        ensure!(said(&of_pod, "PausedIOError") == 1, "that it waits is to be said once: {of_pod:?}");
        ensure!(said(&of_pod, "Resumed") == 1, "that it goes on is to be said once: {of_pod:?}");
        Ok(())
    });
}

/// A pool of one disk, and the class of volumes in it.
fn small_pool(device: &str) -> String {
    format!(
        r#"
apiVersion: sheaf.dev/v1alpha1
kind: StoragePool
metadata: {{name: small.node1, labels: {{sheaf.dev/pool: small}}}}
spec: {{nodeName: node1, pool: small, devices: [{device}]}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: small}}
provisioner: lvm.sheaf.dev
parameters: {{pool: small}}
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
"#
    )
}

/// A VM with a claim in that pool, and its script.
fn silo(script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: silo-data}}
spec:
  storageClassName: small
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  resources: {{requests: {{storage: 128Mi}}}}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: silo}}
spec:
  runStrategy: Always
  template:
    spec:
      domain:
        memory: {{guest: 192Mi}}
        devices: {{disks: [{{name: system}}, {{name: data}}, {{name: seed}}]}}
      volumes:
        - name: system
          hostDisk: {{path: /data/images/guest.raw, type: Disk}}
        - name: data
          persistentVolumeClaim: {{claimName: silo-data}}
        - name: seed
          cloudInitNoCloud:
            userData: |
{script}"#
    )
}
