//! Debian's fio, iperf3 and curl with the libraries they link, and BusyBox, on a small disk that nodes and guests mount.
//!
//! Why here: a node has no programs to measure with, and its guests have BusyBox; both must run the very same ones.
//! Route in: Debian's mirror (`SHEAF_MIRROR`), by the tools chroot's apt. Route out: an ext4 image labelled `kit`, kept
//! under `target/sheaf/bench/`, with a script `run` that starts a program by the kit's own loader.

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sheaf_machine::{Disk, Machine, Tools, ext4, packages};
use sheaf_tests::harness::{Case, Cluster, READY, Server};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a node or guest runs what is in the kit, followed by a program and its arguments.
pub const RUN: &str = "/run/kit/run";
/// BusyBox there.
pub const BUSYBOX: &str = "/run/kit/bin/busybox";
/// Mounts the kit there.
pub const MOUNT: &str = "mkdir -p /run/kit && mount -t ext4 -o ro \"$(findfs LABEL=kit)\" /run/kit";

const SERIAL: &str = "KIT";
const PROGRAMS: [&str; 3] = ["fio", "iperf3", "curl"];
const SIZE: u64 = 96 << 20;
/// A disk appears and is mounted, emulated.
const PLUG_DEADLINE: Duration = Duration::from_secs(60);

/// The newest packages and all they need.
const FETCH: &str = r#"
apt-get "$@" install --yes --no-install-recommends --download-only $PACKAGES busybox-static"#;

/// In the tools chroot: each program and what its loader says it links.
const PICK: &str = r#"set -eu
cd /mnt/work
mkdir -p kit/bin kit/lib
libraries=$PWD/tree/usr/lib/x86_64-linux-gnu
loader=$PWD/tree/usr/lib64/ld-linux-x86-64.so.2
cp -L "$loader" kit/lib/
cp tree/usr/bin/busybox kit/bin/
for program in $PACKAGES; do
    cp "tree/usr/bin/$program" kit/bin/
    linked=$("$loader" --library-path "$libraries:$libraries/ceph" --list "tree/usr/bin/$program")
    echo "$linked" | sed -nE "s|.* => ($libraries/[^ ]+) .*|\1|p" | while read -r library; do cp -L "$library" kit/lib/; done
done"#;

const SCRIPT: &str = r#"#!/bin/sh
kit=${0%/*} program=$1; shift
exec "$kit/lib/ld-linux-x86-64.so.2" --library-path "$kit/lib" "$kit/bin/$program" "$@"
"#;

/// The disk's image.
pub struct Kit {
    /// The file.
    pub image: PathBuf,
}

impl Kit {
    /// The kit, made when there is none.
    pub fn get(case: &Case) -> Result<Self> {
        let image = case.made().join("bench/kit.ext4");
        if !image.exists() {
            make(&case.tools, &case.work().join("kit"), &image)
                .context("the programs that benchmarks measure with")?;
        }
        Ok(Self { image })
    }

    /// Offers it to VMs as the DataVolume `name`, filled when one uses it.
    pub fn offer(&self, cluster: &Cluster, name: &str) -> Result<()> {
        let bytes = std::fs::read(&self.image).with_context(|| self.image.display().to_string())?;
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let server = Server::start(bytes)?;
        let volume = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": name},
            "spec": {
                "source": {"http": {"url": server.url(), "checksum": format!("sha256:{sha256}")}},
                "storage": {"resources": {"requests": {"storage": SIZE.to_string()}}},
            },
        });
        cluster.operator.wait_apply(&volume.to_string(), READY)?;
        Ok(())
    }

    /// Plugs a copy of it into `machine` and mounts it there, for [`RUN`]: QEMU gives a disk to one machine alone.
    pub fn plug(&self, case: &Case, machine: &mut Machine) -> Result<()> {
        let name = machine.folder().file_name().context("a machine without a folder")?;
        let copy = case.work().join(name).with_extension("kit");
        std::fs::copy(&self.image, &copy).with_context(|| copy.display().to_string())?;
        mount(machine, &Disk::raw(&copy, SERIAL), MOUNT)
    }
}

/// Plugs `disk` into `machine`, where `script` mounts it as soon as it is found.
pub fn mount(machine: &mut Machine, disk: &Disk, script: &str) -> Result<()> {
    machine.plug(disk, None)?;
    let mounted = sheaf_host::wait::until(PLUG_DEADLINE, Duration::from_millis(500), || {
        machine.shell().run(script, PLUG_DEADLINE).ok()
    });
    mounted.map(drop).with_context(|| format!("the disk {} is not found: {script}", disk.serial))
}

fn make(tools: &Tools, work: &Path, image: &Path) -> Result<()> {
    let kit = work.join("kit");
    let programs = PROGRAMS.join(" ");
    packages::unpack(tools, work, FETCH, &programs)?;
    packages::inside(tools, work, PICK, &programs)?;
    sheaf_host::file::write_atomically(&kit.join("run"), SCRIPT.as_bytes(), 0o755)?;
    let new = work.join("kit.ext4");
    std::fs::File::create(&new)?.set_len(SIZE)?;
    ext4::make(tools, &new, "kit", Some(&kit))?;
    let folder = image.parent().context("an image in no folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::rename(&new, image).with_context(|| image.display().to_string())
}
