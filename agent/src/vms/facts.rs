//! What the node knows of itself when it plans.
//!
//! Why here: admission decides from values alone. Route in: channels of other controllers, `/data`, the Node object. Route out: values for the plan.

use super::admission;
use super::cpus::NodeCpus;
use super::guest::{Blocks, Format};
use super::host_devices::Offer;
use crate::channels::{ContainerDisk, Volumes};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sheaf_api::Amount;
use sheaf_api::cluster_config::ClusterConfigSpec;
use sheaf_api::domain::PageSize;
use sheaf_api::host_disk::{HostDiskPlace, place};
use sheaf_api::names::VMI_ANNOTATION;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_host::qcow2;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The kernel's random identifier of this boot.
    pub boot_id: String,
    /// Address by which the node is reached.
    pub host_ip: Option<IpAddr>,
    /// What VMs may take of the node; nothing before the Node object is there.
    pub allocatable: Option<Resources>,
    /// Why that is not known.
    pub allocatable_problem: Option<String>,
    /// Settings for all VMs of the cluster.
    pub cluster: ClusterConfigSpec,
    /// Images that are complete and verified, each with the bytes that a guest sees of it.
    pub images: BTreeMap<String, u64>,
    /// Container disks of Pods that are yet to start, by the UID of the Pod and the name of the volume; without those that are
    /// not known yet.
    pub container_disks: BTreeMap<(String, String), ContainerDisk>,
    /// Images of the node config.
    pub expected_images: BTreeSet<String>,
    /// Bridges that are up.
    pub bridges: BTreeSet<String>,
    /// Those of them that know VLANs.
    pub vlan_bridges: BTreeSet<String>,
    /// Bridges of the node config, and the node's own.
    pub expected_bridges: BTreeSet<String>,
    /// Files that `hostDisk.path`s of Pods lead to, by that path.
    pub files: BTreeMap<String, FileFact>,
    /// Folder of disks that are written in place.
    pub disks: PathBuf,
    /// `/data` itself.
    pub data: PathBuf,
    /// Folder of state of firmware and TPMs that outlives instances.
    pub states: PathBuf,
    /// Block sizes of volumes, by their device, and of the file system of `/data`; none unless a VM wants to know.
    pub blocks: BTreeMap<PathBuf, Blocks>,
    /// Claims that Pods name which are yet to start, by namespace and name; without those that are still being asked for.
    pub claims: BTreeMap<(String, String), ClaimFact>,
    /// Volumes of this node; nothing before they are known.
    pub volumes: Volumes,
    /// Processors, if VMs may have some to themselves.
    pub cpus: Option<NodeCpus>,
    /// Why they may not, though the node config says so.
    pub cpus_problem: Option<String>,
    /// PCI devices that VMs may have to themselves.
    pub devices: Offer,
    /// The machine is going down.
    pub shutting_down: bool,
    /// UIDs of Pods whose VMs this node stopped because its lease was not renewed.
    pub without_lease: BTreeSet<String>,
}

impl Facts {
    /// Bytes of the volume of this node that a claim is bound to.
    pub fn claim_bytes(&self, namespace: &str, name: &str) -> Option<u64> {
        match self.claims.get(&(namespace.to_owned(), name.to_owned()))? {
            ClaimFact::Volume(handle) => Some(self.volumes.as_ref()?.get(handle)?.bytes),
            _ => None,
        }
    }
}

/// What is behind a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimFact {
    /// It is bound to a volume of a pool, the LocalVolume of this name.
    Volume(String),
    /// It is not bound to anything yet.
    NotBound,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It is bound to what another driver has; its name.
    Foreign(String),
}

/// Where a `hostDisk.path` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFact {
    /// Nowhere.
    Missing,
    /// To a file in the folder.
    File {
        /// Its real path.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// Size that a guest sees, in bytes.
        bytes: u64,
    },
    /// Out of the folder, by a link.
    Elsewhere(PathBuf),
    /// To something that is no file.
    NoFile,
}

/// Amounts that the scheduler counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Number of Pods.
    pub pods: u64,
    /// Bytes of /data that files of VMs may grow to (`ephemeral-storage`).
    pub storage: u64,
    /// Bytes of huge pages of 2 MiB.
    pub huge_2mi: u64,
    /// Bytes of huge pages of 1 GiB.
    pub huge_1gi: u64,
}

impl Resources {
    /// The sum; as large as can be when it is larger.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            pods: self.pods.saturating_add(other.pods),
            storage: self.storage.saturating_add(other.storage),
            huge_2mi: self.huge_2mi.saturating_add(other.huge_2mi),
            huge_1gi: self.huge_1gi.saturating_add(other.huge_1gi),
        }
    }

    /// Amounts of a Kubernetes object; what is not there is 0.
    pub fn of(quantities: &BTreeMap<String, Quantity>) -> Self {
        let amount = |name: &str| -> Option<Amount> {
            serde_json::from_value(serde_json::Value::String(quantities.get(name)?.0.clone())).ok()
        };
        Self {
            cpu: amount("cpu").and_then(|amount| amount.milli().ok()).unwrap_or(0),
            memory: amount("memory").and_then(|amount| amount.units().ok()).unwrap_or(0),
            pods: amount("pods").and_then(|amount| amount.units().ok()).unwrap_or(0),
            storage: amount("ephemeral-storage").and_then(|amount| amount.units().ok()).unwrap_or(0),
            huge_2mi: amount(PageSize::Mi2.resource()).and_then(|amount| amount.units().ok()).unwrap_or(0),
            huge_1gi: amount(PageSize::Gi1.resource()).and_then(|amount| amount.units().ok()).unwrap_or(0),
        }
    }
}

/// Every file that `pods` name. Reads headers only.
pub fn observe_files<'a>(pods: impl Iterator<Item = &'a Pod>, data: &Path) -> BTreeMap<String, FileFact> {
    let annotations = pods
        .filter(|pod| admission::is_vm(pod))
        .filter_map(|pod| pod.metadata.annotations.as_ref()?.get(VMI_ANNOTATION));
    let mut files = BTreeMap::new();
    for placed in annotations.filter_map(|text| PlacedVmi::from_annotation(text).ok()) {
        for disk in placed.spec.volumes.iter().filter_map(|volume| volume.host_disk.as_ref()) {
            let (folder, path) = match place(&disk.path, &placed.namespace) {
                Ok(HostDiskPlace::Image { name }) => (data.join("images"), data.join("images").join(name)),
                Ok(HostDiskPlace::Disk { relative }) => {
                    (data.join("disks"), data.join("disks").join(relative))
                }
                // Admission says so.
                Err(_) => continue,
            };
            files.insert(disk.path.clone(), observe_file(&folder, &path));
        }
    }
    files
}

fn observe_file(folder: &Path, path: &Path) -> FileFact {
    let Ok(real) = path.canonicalize() else {
        // A file that is to be made must not be made through a link: the nearest parent that exists decides.
        let parent = path.ancestors().skip(1).find_map(|parent| parent.canonicalize().ok());
        let inside =
            folder.canonicalize().is_ok_and(|folder| parent.as_ref().is_some_and(|p| p.starts_with(folder)));
        // A link that leads nowhere would be followed when the file is made.
        let dangling = path.symlink_metadata().is_ok();
        return match parent {
            Some(parent) if folder.exists() && (!inside || dangling) => FileFact::Elsewhere(parent),
            _ => FileFact::Missing,
        };
    };
    if !folder.canonicalize().is_ok_and(|folder| real.starts_with(folder)) {
        return FileFact::Elsewhere(real);
    }
    let Some(length) = real.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len()) else {
        return FileFact::NoFile;
    };
    let images = folder.ends_with("images");
    match qcow2::virtual_size(&real) {
        // A guest can write such a header into its raw disk: what it can write is believed by its name only.
        Some(bytes) if images || real.extension().is_some_and(|extension| extension == "qcow2") => {
            FileFact::File { path: real, format: Format::Qcow2, bytes }
        }
        _ => FileFact::File { path: real, format: Format::Raw, bytes: length },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sheaf-facts-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("disks")).unwrap();
        dir.canonicalize().unwrap()
    }

    #[test]
    fn a_link_out_of_the_folder_is_seen_even_when_its_end_is_missing() {
        let dir = folder("links");
        let disks = dir.join("disks");
        std::os::unix::fs::symlink("/etc/passwd", disks.join("out")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", disks.join("dangling")).unwrap();
        std::os::unix::fs::symlink("/etc", disks.join("dir")).unwrap();
        assert_eq!(observe_file(&disks, &disks.join("out")), FileFact::Elsewhere("/etc/passwd".into()));
        assert!(matches!(observe_file(&disks, &disks.join("dangling")), FileFact::Elsewhere(_)));
        assert!(matches!(observe_file(&disks, &disks.join("dir/new")), FileFact::Elsewhere(_)));
        assert_eq!(observe_file(&disks, &disks.join("sub/new")), FileFact::Missing);
        assert_eq!(observe_file(&disks, &disks), FileFact::NoFile);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_raw_disk_in_which_a_guest_wrote_a_qcow2_header_stays_raw() {
        let dir = folder("format");
        let header = [b"QFI\xfb".as_slice(), &[0; 20], &(5_u64 << 30).to_be_bytes()].concat();
        std::fs::write(dir.join("disks/a.raw"), &header).unwrap();
        std::fs::write(dir.join("disks/b.qcow2"), &header).unwrap();
        let at = |name: &str| observe_file(&dir.join("disks"), &dir.join("disks").join(name));
        assert!(matches!(at("a.raw"), FileFact::File { format: Format::Raw, bytes: 32, .. }));
        assert!(matches!(at("b.qcow2"), FileFact::File { format: Format::Qcow2, bytes: 5368709120, .. }));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
