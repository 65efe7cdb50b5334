//! KubeVirt's own example manifests, of the release that virtctl is built from: where they are, and which no node can do.
//!
//! Why here: one test asks the API server about them, another a node. Route in: the module cache of Go. Route out: a folder.

use crate::go;
use anyhow::{Context as _, Result};
use sheaf_host::run::{Command, Run as _, System};
use std::path::PathBuf;
use std::time::Duration;

/// Those that are refused, with what the message must name.
pub const REFUSED: &[(&str, &str)] = &[
    // Sidecars are containers, which no node runs.
    ("vm-cirros-with-sidecar-hook-configmap.yaml", "hooks.kubevirt.io/hookSidecars"),
    ("vmi-with-sidecar-hook-configmap.yaml", "hooks.kubevirt.io/hookSidecars"),
    ("vmi-with-sidecar-hook.yaml", "hooks.kubevirt.io/hookSidecars"),
];

/// Kinds that are no VMs and that Sheaf does not have.
pub const OTHER_KINDS: &[&str] = &[
    "example-migration-policy.yaml",
    "migration-job.yaml",
    "pgpu-resource-claim-tmpl.yaml",
    "vmi-preset-small.yaml",
];

/// Files without a VM: others refer to what they make.
pub const DEFINITIONS: &[&str] = &[
    "clarge.yaml",
    "cluster-csmall.yaml",
    "csmall.yaml",
    "virtio.yaml",
    "windows.yaml",
    "preemtible.yaml",
    "non-preemtible.yaml",
];

/// KubeVirt's folder of examples.
pub fn examples() -> Result<PathBuf> {
    let go = |arguments: &[&str]| {
        let command =
            Command::new("go").args(arguments).dir(go::module("virtctl")).deadline(Duration::from_secs(600));
        System.run(&command)
    };
    go(&["mod", "download", "kubevirt.io/kubevirt"]).context("KubeVirt's module, which has the examples")?;
    let folder = go(&["list", "-m", "-f", "{{.Dir}}", "kubevirt.io/kubevirt"])?.text();
    Ok(PathBuf::from(folder).join("examples"))
}
