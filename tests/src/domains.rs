//! A domain as the agent writes it, on a libvirt of its own: what libvirt says to it, and to the XML of devices.
//!
//! Why here: libvirt's own parser and QEMU judge what no schema does. Route in: a guest of the agent. Route out: `virsh` on
//! the domain `default_web`; all of it is gone when the [`Domain`] is dropped.

use crate::libvirt::Libvirt;
use anyhow::{Context as _, Result};
use sheaf_agent::vms::cpus::Placement;
use sheaf_agent::vms::domain_xml::{DomainType, render};
use sheaf_agent::vms::guest::{CpuModel, Disk, Folder, Guest, Hardware, Identity};
use sheaf_host::run::{Command, Output, Run as _, RunError, System};
use std::path::Path;

/// The domain's name in libvirt.
pub const NAME: &str = "default_web";

/// A network namespace, until it is dropped.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        // One that is left over has a name that no other test takes.
        let _ = System.run(&Command::new("ip").args(["netns", "delete", &self.0]));
    }
}

/// A domain that runs.
pub struct Domain {
    libvirt: Libvirt,
    folder: tempfile::TempDir,
    // Last: libvirt is in it.
    _namespace: Namespace,
}

/// A guest of 64 MiB with one processor.
pub fn guest(disks: Vec<Disk>) -> Guest {
    Guest {
        id: Identity { namespace: "default".into(), vmi: "web".into(), ..Identity::default() },
        uuid: "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c".into(),
        grace_seconds: 1,
        priority: 0,
        memory: 64 << 20,
        placement: Placement::default(),
        host_devices: Vec::new(),
        topology: (1, 1, 1),
        cpu: CpuModel::Named("qemu64".into()),
        machine: "q35".into(),
        disks,
        space: 0,
        interfaces: Vec::new(),
        rng: true,
        graphics: true,
        serial: true,
        hardware: Hardware::default(),
    }
}

impl Domain {
    /// Starts the guest that `guest` describes, whose files lie in the folder that it is given, beside a bridge br0; `test` is a name
    /// of its own.
    pub fn start(test: &str, guest: impl FnOnce(&Path) -> Result<Guest>) -> Result<Self> {
        let name = format!("sh-{test}-{}", std::process::id());
        System.run(&Command::new("ip").args(["netns", "add", &name]))?;
        let _namespace = Namespace(name);
        for words in [["link", "add", "br0", "type", "bridge"].as_slice(), &["link", "set", "br0", "up"]] {
            System.run(&Command::new("ip").args(["-n", &_namespace.0]).args(words.iter().copied()))?;
        }
        let libvirt = Libvirt::start(&_namespace.0)?;
        let this = Self { libvirt, folder: tempfile::tempdir()?, _namespace };
        let folder = Folder(this.folder().to_owned());
        let xml = render(&guest(this.folder())?, &folder, DomainType::Qemu);
        this.virsh(&["create", &this.write("domain.xml", &xml)?])
            .with_context(|| format!("{xml}\n{}", this.log()))?;
        Ok(this)
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs virsh with these words.
    pub fn virsh(&self, words: &[&str]) -> Result<Output, RunError> {
        System.run(&Command::new(self.libvirt.programs().join("virsh")).args(words))
    }

    /// Writes `text` to a file, for virsh; its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// The domain as libvirt has it now.
    pub fn dump(&self) -> Result<String> {
        let out = self.virsh(&["dumpxml", NAME])?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// What libvirt said.
    pub fn log(&self) -> String {
        self.libvirt.log()
    }
}
