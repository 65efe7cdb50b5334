//! The installer's write path alone, for `make bench`: a release's root image is checked, decoded and written to a disk,
//! flushed, read back and compared, by the very steps of an installation.
//!
//! `cargo run --release -p sheaf-installer --example write_path -- RELEASE DISK` ERASES what is at the start of DISK, a
//! block device or a file of at least 16 GB, and prints one line of JSON: bytes, and seconds of each step. No partition
//! table is written, so nothing boots from the disk afterwards.

use anyhow::Context as _;
use sheaf_config::load::parse_node_config;
use sheaf_config::manifest::Manifest;
use sheaf_host::disk::{Disk as _, RawDisk};
use sheaf_host::efi::EfiVars;
use sheaf_host::run::System;
use sheaf_installer::execute::{self, Env};
use sheaf_installer::inventory::{Disk, Firmware, Inventory};
use sheaf_installer::plan::{ReleaseContents, Step, plan};
use sheaf_installer::progress::Progress;
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// A node without a network of its own: only its disk matters here.
const CONFIG: &str = "version = 1\nsystem.hostname = \"bench\"\ninstall.disk = { serial = \"BENCH\" }\n\
                      [[network.nic]]\nname = \"eth0\"\ndhcp = true\n";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [release, disk] = &arguments[..] else { anyhow::bail!("usage: write_path RELEASE DISK") };
    let release = Path::new(release);
    let manifest = std::fs::read(release.join("manifest.json")).context("manifest.json")?;
    let manifest: Manifest = serde_json::from_slice(&manifest).context("manifest.json")?;
    let disk = RawDisk::open(Path::new(disk))?;
    let config = parse_node_config("bench.toml", CONFIG)?;
    let images = BTreeMap::new();
    let contents = ReleaseContents { manifest: &manifest, images: &images };
    let mut plan = plan(&config, &machine(&disk), contents, Uuid::new_v4())?;
    let root = manifest.root.file.as_str();
    plan.steps.retain(|step| match step {
        Step::WriteImage { payload, .. } | Step::VerifyImage { payload, .. } => payload.file == root,
        _ => false,
    });
    let timing = execute::install(
        &plan,
        &Env {
            run: &System,
            mount: &sheaf_host::mount::System,
            firmware: &EfiVars::default(),
            disk: &disk,
            data_disks: &[],
            medium: release,
            remote: None,
            scratch: &std::env::temp_dir(),
            node_toml: "",
            progress: &Progress::new(Vec::new()),
        },
    )?;
    println!("{}", serde_json::to_string(&timing)?);
    Ok(())
}

/// A machine that has `disk` alone, empty.
fn machine(disk: &RawDisk) -> Inventory {
    let disk = Disk {
        path: disk.path().to_owned(),
        links: Vec::new(),
        number: None,
        sequence: None,
        serial: Some("BENCH".into()),
        wwn: None,
        model: None,
        bus: None,
        size: disk.size(),
        sector_size: 512,
        read_only: false,
        removable: false,
        is_medium: false,
        uses: Vec::new(),
        signatures: Vec::new(),
        unreadable: None,
        older: None,
    };
    let nic = sheaf_installer::inventory::Nic { name: "eth0".into(), ..Default::default() };
    Inventory {
        firmware: Firmware::Uefi,
        secure_boot: false,
        memory: 0,
        machine: Default::default(),
        disks: vec![disk],
        nics: vec![nic],
    }
}
