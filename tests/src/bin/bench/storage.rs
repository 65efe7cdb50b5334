//! What a VM's disk costs: one fio on a raw disk of the node, on a thin volume of the node, and in a VM on such a volume.
//!
//! Why here: raw disk and pool are plugged into the node as two files of one sort, so that nothing but Sheaf's way is
//! between them. Route in: two empty disks, the kit, a claim. Route out: what each job reached, and the quotients.

use crate::Report;
use crate::kit::{Kit, MOUNT, RUN};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sheaf_machine::Disk;
use sheaf_tests::harness::{Case, Cluster, READY};
use std::time::Duration;

/// Length of each disk, sparse.
const DISK: u64 = 2 << 30;
/// Serial numbers of the disk that is used as it is, and of the pool's.
const RAW: &str = "BENCHRAW";
const POOLED: &str = "BENCHPOOL";
const SEEN: Duration = Duration::from_secs(180);
/// All jobs one after the other, and a kit that comes from an emulated disk.
const JOBS_TAKE: Duration = Duration::from_secs(300);

/// Everything is written once before anything counts: neither thin blocks nor a sparse file's are given out later.
const FIO: &str = "fio --minimal --filename=DEVICE --size=384M --direct=1 --ioengine=libaio --name=fill --rw=write --bs=1M --iodepth=4 \
     --name=4k-random-read --stonewall --time_based --runtime=8 --rw=randread --bs=4k --iodepth=16 \
     --name=4k-random-write --stonewall --time_based --runtime=8 --rw=randwrite --bs=4k --iodepth=16 \
     --name=1M-read --stonewall --time_based --runtime=8 --rw=read --bs=1M --iodepth=4 \
     --name=1M-write --stonewall --time_based --runtime=8 --rw=write --bs=1M --iodepth=4";
/// Of fio's terse line, version 3: name, KiB/s and IOPS of what was read and written.
const PICK: &str = "awk -F';' '$1 == 3 {print \"fio\", $3, $7 + $48, $8 + $49}'";
/// fio's name of a job, what is said of it, and whether bytes count or requests.
const JOBS: [(&str, &str, bool); 4] = [
    ("4k-random-read", "4k random read, IOPS", false),
    ("4k-random-write", "4k random write, IOPS", false),
    ("1M-read", "1M sequential read, MB/s", true),
    ("1M-write", "1M sequential write, MB/s", true),
];

impl Report {
    /// The section of this file.
    pub fn storage(&mut self, case: &Case) -> Result<()> {
        let kit = Kit::get(case)?;
        let mut cluster = case.cluster()?;
        kit.plug(case, &mut cluster.machine)?;
        kit.offer(&cluster, "kit")?;
        for serial in [RAW, POOLED] {
            let file = case.work().join(format!("{serial}.raw"));
            std::fs::File::create(&file)?.set_len(DISK)?;
            cluster.machine.plug(&Disk::raw(file, serial), None)?;
        }
        let raw = device(&cluster, RAW)?;
        make_pool(&cluster, &device(&cluster, POOLED)?.0)?;
        self.head(
            "A VM's disk (a claim in a pool of one plugged disk) beside a plugged disk used raw",
            &FIO.split_whitespace().collect::<Vec<_>>().join(" "),
            "job | raw disk, on the node | thin volume, on the node | thin volume, in a VM | ÷ raw, on the node | ÷ raw, in a VM",
        );
        let on_raw = on_node(&cluster, &raw.1)?;
        cluster.operator.apply(&json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": "beside"},
            "spec": {"nodeName": "node1", "pool": "bench", "sizeBytes": 400 << 20, "source": {"blank": {}}},
        }).to_string())?;
        cluster.operator.wait("volume beside", &["localvolume", "beside"], SEEN, |volume| {
            (volume["status"]["phase"] == "Ready").then_some(())
        })?;
        let on_thin = on_node(&cluster, "/dev/sheaf-bench/beside")?;
        let in_vm = in_vm(&cluster)?;
        for (name, title, is_bytes) in JOBS {
            let [raw, thin, vm] = [&on_raw, &on_thin, &in_vm].map(|said| reached(said, name, is_bytes));
            let (raw, thin, vm) = (raw?, thin?, vm?);
            let cells = [raw, thin, vm].map(|number| format!("{number:.0}"));
            let quotients = [thin / raw, vm / raw].map(|number| format!("{number:.2}"));
            self.row(&[title, &cells[0], &cells[1], &cells[2], &quotients[0], &quotients[1]]);
        }
        Ok(())
    }
}

/// Name and path of the disk with this serial number, once the agent shows it.
fn device(cluster: &Cluster, serial: &str) -> Result<(String, String)> {
    Ok(cluster.operator.wait(&format!("disk {serial}"), &["blockdevices"], SEEN, |list| {
        let has_it = |disk: &&Value| disk["spec"]["identity"]["serial"] == serial;
        let disk = list["items"].as_array()?.iter().find(has_it)?;
        let name = disk["metadata"]["name"].as_str()?.to_owned();
        Some((name, disk["status"]["devPath"].as_str()?.to_owned()))
    })?)
}

/// A pool of this disk, and a class for claims in it.
fn make_pool(cluster: &Cluster, device: &str) -> Result<()> {
    let pool = json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
        "metadata": {"name": "bench.node1", "labels": {"sheaf.dev/pool": "bench"}},
        "spec": {"nodeName": "node1", "pool": "bench", "devices": [device]},
    });
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "bench"},
        "provisioner": "lvm.sheaf.dev", "parameters": {"pool": "bench"},
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    });
    for object in [pool, class] {
        cluster.operator.wait_apply(&object.to_string(), READY)?;
    }
    cluster.operator.wait("ready pool", &["storagepool", "bench.node1"], SEEN, |pool| {
        (pool["status"]["phase"] == "Ready").then_some(())
    })?;
    Ok(())
}

fn script(run: &str, device: &str) -> String {
    format!("{run} {} | {PICK}", FIO.replace("DEVICE", device))
}

fn on_node(cluster: &Cluster, device: &str) -> Result<String> {
    Ok(cluster.machine.shell().run(&script(RUN, device), JOBS_TAKE)?)
}

/// What the jobs say on the console of a VM whose second disk is a claim.
fn in_vm(cluster: &Cluster) -> Result<String> {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "bench"},
        "spec": {"storageClassName": "bench", "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
            "resources": {"requests": {"storage": "400Mi"}}},
    });
    let find = "device=$(dirname $(grep -l BENCH /sys/block/vd*/serial))";
    let jobs = script(RUN, "/dev/${device##*/}");
    let user_data = format!("#!/bin/sh\n# hostname: bench\n{MOUNT}\n{find}\n{jobs}\necho fio done\n");
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "bench"},
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "domain": {"memory": {"guest": "384Mi"}, "devices": {"disks": [
                {"name": "system", "bootOrder": 1, "disk": {"bus": "virtio"}},
                {"name": "kit", "disk": {"bus": "virtio"}},
                {"name": "data", "serial": "BENCH", "disk": {"bus": "virtio"}},
                {"name": "seed", "disk": {"bus": "virtio"}},
            ]}},
            "volumes": [
                {"name": "system", "hostDisk": {"path": "/data/images/guest.raw", "type": "Disk"}},
                {"name": "kit", "dataVolume": {"name": "kit"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "bench"}},
                {"name": "seed", "cloudInitNoCloud": {"userData": user_data}},
            ],
        }}},
    });
    for object in [claim, vm] {
        cluster.operator.wait_apply(&object.to_string(), READY)?;
    }
    cluster.console_line("bench", "guest: up")?;
    cluster.console_line("bench", "guest: fio done")?;
    let mut said = String::new();
    for (name, ..) in JOBS {
        said += &(cluster.console_line("bench", &format!("guest: fio {name} "))? + "\n");
    }
    Ok(said)
}

/// What the job `name` reached: MB/s or IOPS.
fn reached(said: &str, name: &str, is_bytes: bool) -> Result<f64> {
    let mark = format!("fio {name} ");
    let line = said.lines().find_map(|line| Some(line.split_once(&mark)?.1));
    let line = line.with_context(|| format!("no result of {name} in {said:?}"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<f64>);
    let (kib, iops) = (numbers.next().context("no rate")??, numbers.next().context("no IOPS")??);
    Ok(if is_bytes { kib * 1024.0 / 1e6 } else { iops })
}
