//! Debian's fio, iperf3 and curl with the libraries they link, and BusyBox, on a small disk that nodes and guests mount.
//!
//! Why here: a node has no programs to measure with, and its guests have BusyBox; both must run the very same ones.
//! Route in: Debian's mirror (`SHEAF_MIRROR`), by the tools chroot's apt. Route out: an ext4 image labelled `kit`, kept
//! under `target/sheaf/bench/`, with a script `run` that starts a program by the kit's own loader.

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sheaf_host::chroot::{Chroot, Privilege};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::{Disk, Machine, Tools};
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
/// Some 50 MB over a slow line.
const FETCH_DEADLINE: Duration = Duration::from_secs(600);
/// A disk appears and is mounted, emulated.
const PLUG_DEADLINE: Duration = Duration::from_secs(60);

/// In the tools chroot: the newest packages and all they need, unpacked; no maintainer script runs.
const FETCH: &str = r#"set -eu
cd /mnt/work
mkdir -p apt/lists/partial apt/archives/partial tree
: > apt/status
set -- -q -o Dir::State::lists=/mnt/work/apt/lists -o Dir::State::status=/mnt/work/apt/status \
    -o Dir::Cache=/mnt/work/apt -o Dir::Etc::sourcelist=/mnt/work/sources.list -o Dir::Etc::sourceparts=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none
apt-get "$@" update
apt-get "$@" install --yes --no-install-recommends --download-only $PROGRAMS busybox-static
for package in apt/archives/*.deb; do dpkg-deb -x "$package" tree; done"#;

/// In the tools chroot, too: each program and what its loader says it links.
const PICK: &str = r#"set -eu
cd /mnt/work
mkdir -p kit/bin kit/lib
libraries=$PWD/tree/usr/lib/x86_64-linux-gnu
loader=$PWD/tree/usr/lib64/ld-linux-x86-64.so.2
cp -L "$loader" kit/lib/
cp tree/usr/bin/busybox kit/bin/
for program in $PROGRAMS; do
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

    /// Plugs it into `machine` and mounts it there, for [`RUN`].
    pub fn plug(&self, machine: &mut Machine) -> Result<()> {
        mount(machine, &Disk::raw(&self.image, SERIAL), MOUNT)
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
    std::fs::create_dir_all(work).with_context(|| work.display().to_string())?;
    let mirror = std::env::var("SHEAF_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into());
    std::fs::write(work.join("sources.list"), format!("deb {mirror} trixie main\n"))?;
    let chroot = Chroot::new(tools.root(), Privilege::current()).network().write(work, "work");
    for script in [FETCH, PICK] {
        let inside = Command::new("sh").args(["-c", script]).env("PROGRAMS", PROGRAMS.join(" "));
        System.run(&chroot.enter(&inside.deadline(FETCH_DEADLINE)))?;
    }
    sheaf_host::file::write_atomically(&kit.join("run"), SCRIPT.as_bytes(), 0o755)?;
    let new = work.join("kit.ext4");
    ext4_of(tools, &kit, "kit", SIZE, &new)?;
    let folder = image.parent().context("an image in no folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::rename(&new, image).with_context(|| image.display().to_string())
}

/// A file system labelled `label` with what is in `folder`, in a new file of `size`.
pub fn ext4_of(tools: &Tools, folder: &Path, label: &str, size: u64, image: &Path) -> Result<()> {
    std::fs::File::create(image)?.set_len(size)?;
    let mkfs = tools.command("usr/sbin/mke2fs").args(["-q", "-F", "-t", "ext4", "-L", label]);
    let mkfs = mkfs.args(["-O", "^has_journal", "-E", "root_owner=0:0", "-d"]).arg(folder).arg(image);
    System.run(&mkfs.env("MKE2FS_CONFIG", tools.file("etc/mke2fs.conf")))?;
    Ok(())
}
