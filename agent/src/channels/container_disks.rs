//! Container disks: what the VMs of this node asked for, and what the node keeps.

use crate::vms::guest::Format;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Disks of Pods that are yet to start, and everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDisks {
    /// By the UID of the Pod and the name of the volume.
    pub of_pods: BTreeMap<(String, String), ContainerDisk>,
    /// Bytes that a guest sees of what was pulled, by the image as VMs name it; the one used last is the first.
    pub kept: Vec<(String, u64)>,
}

/// One volume's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerDisk {
    /// It is complete and verified.
    Ready {
        /// The file, which is never written.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// Bytes that a guest sees of it.
        bytes: u64,
    },
    /// It is not here.
    NotReady {
        /// One CamelCase word, as kubelet has it.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
}
