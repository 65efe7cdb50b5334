//! Disks that come, go and come back elsewhere, and pools made of them: a node with six disks plugged in while it runs.
//!
//! Why a whole machine: only there are udev, LVM and the device mapper. What is decided about disks is tried in
//! `agent/src/{disks,pools}`; here it is seen that the machine does as it was decided.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_machine::Disk;
use sheaf_tests::harness::{Case, Cluster, case};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for anything here, emulated, where others use the processors too: a move of half a gigabyte.
const SOON: Duration = Duration::from_secs(480);
/// Length of each disk in bytes.
const SIZE: u64 = 640 << 20;
/// World-wide names of the first two; the others are known by their serials.
const WWNS: [(&str, u64); 2] = [("A", 0x5000_c500_a1b2_c3d4), ("B", 0x5000_c500_a1b2_c3d5)];
const POOL: &str = "fast.node1";

/// Six disks beside the node.
struct Shelf<'c> {
    cluster: Cluster,
    case: &'c Case,
}

impl Shelf<'_> {
    fn file(&self, serial: &str) -> PathBuf {
        self.case.work().join(format!("disk-{serial}.raw"))
    }

    fn plug(&mut self, serial: &str) -> Result<()> {
        let wwn = WWNS.iter().find(|(of, _)| *of == serial).map(|(_, wwn)| *wwn);
        let disk = Disk::raw(self.file(serial), serial);
        Ok(self.cluster.machine.plug(&disk, wwn)?)
    }

    fn pull(&mut self, serial: &str) -> Result<()> {
        Ok(self.cluster.machine.pull(serial)?)
    }

    /// Names of the disks that are there, by serial, once these and no others are.
    fn present(&self, serials: &[&str]) -> Result<BTreeMap<String, String>> {
        let wanted: Vec<String> = serials.iter().map(|serial| (*serial).to_owned()).collect();
        let found = self.cluster.operator.wait(
            &format!("disks {}", serials.join(" ")),
            &["blockdevices"],
            SOON,
            |list| {
                let here = |item: &&Value| item["status"]["state"] == "Active";
                let name = |item: &Value| {
                    let serial = item["spec"]["identity"]["serial"].as_str()?;
                    Some((serial.to_owned(), item["metadata"]["name"].as_str()?.to_owned()))
                };
                let mut all: BTreeMap<String, String> =
                    list["items"].as_array()?.iter().filter(here).filter_map(name).collect();
                all.retain(|serial, _| serial.len() == 1); // not the node's own
                let mut missing = wanted.clone();
                missing.retain(|serial| !all.contains_key(serial));
                (missing.is_empty() && all.len() == wanted.len()).then_some(all)
            },
        )?;
        Ok(found)
    }

    fn patch(&self, kind: &str, name: &str, spec: Value) -> Result<String> {
        let patch = json!({"spec": spec}).to_string();
        Ok(self.cluster.operator.kubectl(&["patch", kind, name, "--type=merge", "-p", &patch])?)
    }

    fn pool<T>(&self, what: &str, name: &str, look: impl Fn(&Value) -> Option<T>) -> Result<T> {
        Ok(self.cluster.operator.wait(what, &["storagepool", name], SOON, |pool| look(&pool["status"]))?)
    }

    /// Waits until the pool is healthy, of exactly these disks, and no move is under way; gives its size.
    fn well(&self, pool: &str, devices: &[&String]) -> Result<i64> {
        self.pool(&format!("{pool} is Ready"), pool, |status| {
            let has = status["devices"].as_array()?;
            let all =
                has.iter().all(|d| d["state"] == "Active" && devices.iter().any(|name| d["name"] == **name));
            (status["phase"] == "Ready" && all && has.len() == devices.len())
                .then(|| status["totalBytes"].as_i64())?
        })
    }

    fn make_pool(&self, pool: &str, devices: &[&String]) -> Result<()> {
        let object = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
            "metadata": {"name": format!("{pool}.node1"), "labels": {"sheaf.dev/pool": pool}},
            "spec": {"nodeName": "node1", "pool": pool, "devices": devices}});
        self.cluster.operator.apply(&object.to_string())?;
        Ok(())
    }

    /// SHA-256 of what the volume holds, read from the disks.
    fn hash(&self) -> Result<String> {
        self.cluster.root("dd if=/dev/sheaf-fast/test bs=1M iflag=direct status=none | sha256sum")
    }
}

#[test]
fn disks_keep_their_identity_and_pools_are_made_grown_replaced_and_missed() {
    case("disks", |case| {
        let mut shelf = Shelf { cluster: case.cluster()?, case };
        // The image loads them at boot; one whose agent is on trial may be older.
        shelf.cluster.root("modprobe -a dm_thin_pool dm_mirror")?;
        for serial in ["A", "B", "C", "D", "E", "F"] {
            std::fs::File::create(shelf.file(serial))?.set_len(SIZE)?;
        }
        case.format_ext4(&shelf.file("F"))?;

        // Identity: in shuffled order, and again after half of them were pulled and came back in another.
        for serial in ["D", "A", "F", "B", "C", "E"] {
            shelf.plug(serial)?;
        }
        let names = shelf.present(&["A", "B", "C", "D", "E", "F"])?;
        ensure!(names["A"] == "node1.wwn-5000c500a1b2c3d4", "{names:?}");
        for serial in ["B", "C", "D"] {
            shelf.pull(serial)?;
        }
        shelf.present(&["A", "E", "F"])?;
        for serial in ["D", "C", "B"] {
            shelf.plug(serial)?;
        }
        ensure!(shelf.present(&["A", "B", "C", "D", "E", "F"])? == names, "other names after other places");

        // A pool, with something in it.
        shelf.make_pool("fast", &[&names["A"]])?;
        let small = shelf.well(POOL, &[&names["A"]])?;
        shelf.cluster.root(
            "lvm lvcreate --config 'activation{monitoring=0}' -qq -y --type thin -V 300m -n test --thinpool thin sheaf-fast && \
             udevadm wait --timeout=30 /dev/sheaf-fast/test && \
             head -c 200M /dev/urandom | dd of=/dev/sheaf-fast/test bs=1M oflag=direct iflag=fullblock status=none",
        )?;
        let hash = shelf.hash()?;

        // A foreign disk is refused and stays as it is; with its serial repeated it is taken.
        shelf.patch("storagepool", POOL, json!({"devices": [names["A"], names["F"]]}))?;
        let refused = shelf.pool("the pool refuses the foreign disk", POOL, |status| {
            let device = status["devices"].as_array()?.iter().find(|device| device["name"] == names["F"])?;
            device["message"].as_str().map(str::to_owned)
        })?;
        ensure!(refused.contains("ext4") && refused.contains("spec.wipe.confirmSerial"), "{refused}");
        let mark = "lsblk --noheadings --output FSTYPE $(readlink -f /dev/disk/by-id/*_F | head -n 1)";
        ensure!(shelf.cluster.root(mark)?.trim() == "ext4", "the foreign disk was changed");
        let wrong = shelf.patch("blockdevice", &names["F"], json!({"wipe": {"confirmSerial": "E"}}));
        ensure!(wrong.is_err(), "a wipe with another disk's serial was accepted");
        shelf.patch("blockdevice", &names["F"], json!({"wipe": {"confirmSerial": "F"}}))?;
        let grown = shelf.well(POOL, &[&names["A"], &names["F"]])?;
        ensure!(grown > small, "the pool did not grow: {small} to {grown}");

        // A device is replaced while the pool is in use.
        shelf.patch("storagepool", POOL, json!({"devices": [names["F"], names["B"]]}))?;
        shelf.well(POOL, &[&names["F"], &names["B"]])?;
        ensure!(shelf.hash()? == hash, "data changed on its way to another disk");

        // Another pool loses its only disk: that one says so, this one continues.
        shelf.make_pool("slow", &[&names["D"]])?;
        shelf.well("slow.node1", &[&names["D"]])?;
        shelf.pull("D")?;
        let lost = shelf.pool("the pool misses its disk", "slow.node1", |status| {
            (status["phase"] == "Failed")
                .then(|| status["devices"][0]["message"].as_str().map(str::to_owned))?
        })?;
        ensure!(lost.contains("attached"), "{lost}");
        shelf.present(&["A", "B", "C", "E", "F"])?;
        shelf.well(POOL, &[&names["F"], &names["B"]])?;
        ensure!(shelf.hash()? == hash, "another pool's disk was pulled and data changed here");
        shelf.plug("D")?;
        shelf.well("slow.node1", &[&names["D"]])?;

        let events =
            shelf.cluster.operator.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"])?;
        for reason in
            ["DiskMissing", "DiskBack", "PoolReady", "PoolGrown", "Erased", "Evacuating", "PoolNotReady"]
        {
            ensure!(events.contains(reason), "no Event {reason} in: {events}");
        }
        let shown = shelf.cluster.root("sheaf-agent pools && sheaf-agent disks")?;
        ensure!(shown.contains("fast") && shown.contains(&names["B"]), "{shown}");
        eprintln!("{shown}");
        Ok(())
    });
}

/// Of a node that was installed with this image: its own pool on its own disk.
#[test]
fn a_node_has_a_default_pool_on_its_boot_disk() {
    if std::env::var_os("SHEAF_TRY").is_some() {
        eprintln!("the table of a restored node is that of its image: not tried");
        return;
    }
    case("default-pool", |case| {
        let shelf = Shelf { cluster: case.cluster()?, case };
        let device = shelf.pool("the default pool is ready", "default.node1", |status| {
            (status["phase"] == "Ready").then(|| status["devices"][0]["name"].as_str().map(str::to_owned))?
        })?;
        let listed = shelf.cluster.operator.kubectl(&[
            "get",
            "blockdevice",
            &device,
            "-o",
            "jsonpath={.status.usedBy}",
        ])?;
        ensure!(listed == "system", "{listed}");
        let part = shelf.cluster.root("lsblk --noheadings --output PARTLABEL,FSTYPE | grep LVM2_member")?;
        ensure!(part.split_whitespace().next() == Some("pool"), "{part}");
        shelf
            .cluster
            .root("test -b /dev/mapper/sheaf--default-thin || dmsetup ls | grep sheaf--default-thin")
            .context("its thin pool")?;
        Ok(())
    });
}
