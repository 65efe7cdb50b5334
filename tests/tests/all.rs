//! The cases, in one program. A file of this folder is a line here and holds a case or several.
//!
//! Why one program: one for each file took 280 MB and a linker's run each. Route in: `cases` (`src/bin/cases/`) runs
//! each case as a process of its own; by hand `cargo test -p sheaf-tests --features all --test all FILE::`. What follows
//! `#[cfg(feature = "all")]` does not fit CI's hour.

mod certificates;
mod cluster_update;
mod console;
mod console_crawl;
mod console_files;
mod control_plane_join;
mod control_planes;
mod controller;
mod filters;
mod guest;
mod hostile_node;
mod hostile_tenant;
mod hotplug;
mod hotplug_nics;
mod import_credentials;
mod import_policy;
mod install;
mod instancetypes;
mod kubevirt_examples;
mod leader;
mod live;
mod machine;
mod maintenance;
mod membership;
mod network_tenants;
mod node;
mod node_lost;
mod objects;
mod operate;
mod removal;
mod replicas;
/// Ten minutes of restarts on three control planes.
#[cfg(feature = "all")]
mod rotations;
mod route;
mod sessions;
mod snapshots_etcd;
mod upload;
mod vip;
mod vm_snapshots;
mod volumes_agent;
mod volumes_cluster;

/// Drives the console of an emulated node in Chromium.
#[cfg(feature = "all")]
mod console_browser;
/// Three control-plane nodes, of which each in turn is lost under a browser: minutes of waiting.
#[cfg(feature = "all")]
mod console_failover;
/// Drives all pages of the console in Chromium: a quarter of an hour.
#[cfg(feature = "all")]
mod console_pages;
/// Builds a provider of OpenID Connect.
#[cfg(feature = "all")]
mod console_sso;
/// Sends an image through the console of an emulated node.
#[cfg(feature = "all")]
mod console_vm;
/// Builds a registry, and runs four VMs on a machine.
#[cfg(feature = "all")]
mod container_disk_vm;
/// Five minutes of faults on three control planes, or as many as SHEAF_FAULT_MINUTES says.
#[cfg(feature = "all")]
mod control_plane_faults;
/// Two disks are written, and each boots to a cluster.
#[cfg(feature = "all")]
mod disk;
/// Six disks and two moves of data, emulated.
#[cfg(feature = "all")]
mod disks;
/// Thirty VMs, one after the other.
#[cfg(feature = "all")]
mod examples_vm;
/// Downloads whole disks.
#[cfg(feature = "all")]
mod export;
#[cfg(feature = "all")]
mod hardware_vm;
#[cfg(feature = "all")]
mod hostile_guest;
/// Half an hour of emulation where two cores are shared.
#[cfg(feature = "all")]
mod interactive;
/// An installation by keyboard under two emulations.
#[cfg(feature = "all")]
mod iso_vm;
#[cfg(feature = "all")]
mod join;
/// An installation and a boot of its own.
#[cfg(feature = "all")]
mod kubeadm_cluster;
#[cfg(feature = "all")]
mod links;
/// Every way in, each a machine of its own: an hour of emulation.
#[cfg(feature = "all")]
mod media;
/// Policies on four restored nodes, one of them booted again.
#[cfg(feature = "all")]
mod network;
/// Three machines, one of which boots twice.
#[cfg(feature = "all")]
mod node_lost_vm;
#[cfg(feature = "all")]
mod operate_vm;
/// A NIC with virtual functions behind an IOMMU, given to VMs.
#[cfg(feature = "all")]
mod passthrough;
/// A node with two VMs is restarted and powered off, under two emulations.
#[cfg(feature = "all")]
mod power;
/// Records an installation and an update, judges every state of them, and boots three.
#[cfg(feature = "all")]
mod power_cut;
/// Four boots that end in an initrd, twice.
#[cfg(feature = "all")]
mod recovery;
/// Compiles everything twice.
#[cfg(feature = "all")]
mod reproducible;
/// Resets of installed nodes, and boots that die, each emulated.
#[cfg(feature = "all")]
mod reset;
/// Installations on several disks, and on disks that fail.
#[cfg(feature = "all")]
mod rules;
/// The same start again and again.
#[cfg(feature = "all")]
mod soak;
/// Minutes of waiting for what hangs.
#[cfg(feature = "all")]
mod stalls;
/// Builds a second release, and boots each several times by either firmware.
#[cfg(feature = "all")]
mod update;
/// Builds a release with a fault, and waits until it was tried three times, for each of its faults.
#[cfg(feature = "all")]
mod update_bad;
/// Builds virtctl from its Go module the first time: twenty minutes on two cores.
#[cfg(feature = "all")]
mod virtctl;
/// An upload, a download and a disk under a VM that runs, on a machine.
#[cfg(feature = "all")]
mod vm_disks;
/// Two VMs that try what they may not do, and wait for answers that must not come.
#[cfg(feature = "all")]
mod vm_network;
/// Longer than CI's hour allows.
#[cfg(feature = "all")]
mod vms;
/// VMs that write whole disks under two emulations.
#[cfg(feature = "all")]
mod volume_vm;
#[cfg(feature = "all")]
mod volumes;
