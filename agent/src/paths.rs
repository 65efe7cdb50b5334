//! Where the agent's files lie.
//!
//! Why here: tests run the same code on a directory. Route in: the root (`/` on a node). Route out: paths.

use std::path::{Path, PathBuf};

/// Directories and files of a node, all under one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What they lie under: `/`.
    pub root: PathBuf,
    /// The operator's node config: `/state/node.toml`.
    pub node_toml: PathBuf,
    /// Rendered configuration, an overlay whose upper layer is memory: `/etc`.
    pub etc: PathBuf,
    /// Volatile files of the agent: `/run/sheaf`.
    pub run: PathBuf,
    /// Volatile files of every other service: `/run`.
    pub run_root: PathBuf,
    /// The agent's own lasting files: `/var/lib/sheaf`.
    pub lib: PathBuf,
    /// The control plane's keys and kubeconfigs: `/var/lib/kubernetes`.
    pub kubernetes: PathBuf,
    /// etcd's data: `/var/lib/etcd`.
    pub etcd: PathBuf,
    /// Images, disks and files of VMs: `/data`.
    pub data: PathBuf,
}

impl Paths {
    /// The paths of a machine whose root directory is `root`.
    pub fn under(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            node_toml: root.join("state/node.toml"),
            etc: root.join("etc"),
            run: root.join("run/sheaf"),
            run_root: root.join("run"),
            lib: root.join("var/lib/sheaf"),
            kubernetes: root.join("var/lib/kubernetes"),
            etcd: root.join("var/lib/etcd"),
            data: root.join("data"),
        }
    }

    /// What the agent says about itself: `/run/sheaf/status.json`.
    pub fn status_json(&self) -> PathBuf {
        self.run.join("status.json")
    }

    /// MAC of the NIC that was chosen for a config that names none: `/state/nic`.
    pub fn usual_nic(&self) -> PathBuf {
        self.node_toml.with_file_name("nic")
    }

    /// Links beyond node.toml that were tried and kept: `/state/network/confirmed.json`.
    pub fn confirmed_network(&self) -> PathBuf {
        self.node_toml.with_file_name("network").join("confirmed.json")
    }

    /// What is on trial, and how it is rolled back: `/run/sheaf/network`.
    pub fn network_trial(&self) -> PathBuf {
        self.run.join("network")
    }

    /// Files of networkd and udev: `/run/systemd/network`.
    pub fn networkd(&self) -> PathBuf {
        self.run_root.join("systemd/network")
    }

    /// Locked by the agent while it lives: `/run/sheaf/agent.alive`.
    pub fn alive(&self) -> PathBuf {
        self.run.join("agent.alive")
    }

    /// Where images for volumes come in: `/run/sheaf/upload.sock`.
    pub fn uploads(&self) -> PathBuf {
        self.run.join("upload.sock")
    }

    /// Where requests of `sheaf-agent update` come in: `/run/sheaf/update.sock`.
    pub fn update_socket(&self) -> PathBuf {
        self.run.join("update.sock")
    }

    /// The code by which the cluster can be claimed, while this node shows it; root alone reads it: `/run/sheaf/claim`.
    pub fn claim(&self) -> PathBuf {
        self.run.join("claim")
    }

    /// Where a drive with a release is mounted while it is read: `/run/sheaf/drive`.
    pub fn drive(&self) -> PathBuf {
        self.run.join("drive")
    }

    /// Trusted certificate authorities: `/etc/ssl/certs/ca-certificates.crt`.
    pub fn authorities(&self) -> PathBuf {
        self.etc.join("ssl/certs/ca-certificates.crt")
    }

    /// Read-only base images of VMs: `/data/images`.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Snapshots of etcd: `/data/etcd-snapshots`.
    pub fn etcd_snapshots(&self) -> PathBuf {
        self.data.join("etcd-snapshots")
    }

    /// What the updater keeps: `/state/update`.
    pub fn update(&self) -> PathBuf {
        self.node_toml.with_file_name("update")
    }

    /// Where the EFI system partition is mounted while it is changed: `/run/sheaf/esp`.
    pub fn esp(&self) -> PathBuf {
        self.run.join("esp")
    }

    /// What the initrd found out about this boot: `/run/sheaf/boot.env`.
    pub fn boot_env(&self) -> PathBuf {
        self.run.join("boot.env")
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::under(Path::new("/"))
    }
}
