//! Node config: text to [`NodeConfig`], or every mistake in it at once.
//!
//! Why here: installer, agent and `sheaf config check` refuse the same files with the same words. One file for
//! each table of the config; rules that join two tables stand here. Route in: a path, or a name and a text.
//! Route out: a config that is valid, or [`Errors`] that name file, line, key, reason and remedy.

mod cluster;
mod console;
mod disk;
mod fleet;
mod image;
mod install;
mod network;
mod registry;
mod storage;
mod system;
mod vms;
mod webhook;

use crate::diagnose::{Errors, Report};
use crate::node::{NodeConfig, SERVICE_CIDR, VERSION};
use crate::spanned::{At, Document, Table, read};
use std::collections::BTreeMap;
use std::path::Path;

pub use fleet::{ConfigFile, Entry};

/// Keys that are often written into the wrong table, and the table they belong to.
const ELSEWHERE: &[(&str, &str)] = &[
    ("hostname", "system"),
    ("ssh-keys", "system"),
    ("password-hash", "system"),
    ("timezone", "system"),
    ("sysctl", "system"),
    ("modules", "system"),
    ("kernel-arguments", "system"),
    ("file", "system"),
    ("disk", "install"),
    ("wipe", "install"),
    ("reinstall", "install"),
    ("state-size", "install"),
    ("data-size", "install"),
    ("data-disks", "install"),
    ("then", "install"),
    ("webhook", "install"),
    ("serial", "install.disk"),
    ("wwn", "install.disk"),
    ("min-size", "install.disk"),
    ("max-size", "install.disk"),
    ("dns", "network"),
    ("ntp", "network"),
    ("search", "network"),
    ("proxy", "network"),
    ("ca-certificates", "network"),
    ("nic", "network"),
    ("bond", "network"),
    ("vlan", "network"),
    ("bridge", "network"),
    ("ports", "[network.bridge]"),
    ("dhcp", "[network.bridge]"),
    ("addresses", "[network.bridge]"),
    ("gateway", "[network.bridge]"),
    ("gateway6", "[network.bridge]"),
    ("mtu", "[network.bridge]"),
    ("vlan-aware", "[network.bridge]"),
    ("lacp-rate", "[network.bond]"),
    ("transmit-hash-policy", "[network.bond]"),
    ("miimon", "[network.bond]"),
    ("parent", "[network.vlan]"),
    ("mode", "cluster"),
    ("server", "cluster"),
    ("token", "cluster"),
    ("ca-hash", "cluster"),
    ("vip", "cluster"),
    ("role", "cluster"),
    ("admin-keys", "cluster"),
    ("labels", "cluster"),
    ("taints", "cluster"),
    ("certificate", "console"),
    ("key", "console"),
    ("pool", "storage"),
    ("nested", "vms"),
    ("reserved-cpus", "vms"),
    ("sha256", "[image]"),
    ("url", "[image]"),
    ("mirrors", "[registry]"),
    ("match", "[node]"),
];

/// Reads the node config at `path`, which is for one machine.
pub fn node_config(path: &Path) -> Result<NodeConfig, Errors> {
    parse_node_config(&path.display().to_string(), &read(path)?)
}

/// Reads a node config for one machine from `text`; messages call it `name`. A template of a host name stays one.
pub fn parse_node_config(name: &str, text: &str) -> Result<NodeConfig, Errors> {
    parse_config_file(name, text)?.single()
}

/// Reads the file at `path`, for one machine or for many.
pub fn config_file(path: &Path) -> Result<ConfigFile, Errors> {
    parse_config_file(&path.display().to_string(), &read(path)?)
}

/// Reads a file for one machine or for many from `text`; messages call it `name`.
pub fn parse_config_file(name: &str, text: &str) -> Result<ConfigFile, Errors> {
    let report = Report::new(name, text);
    let entries = Document::parse(&report).and_then(|document| {
        let root = document.root(&report);
        version(&root)?;
        match root.place("node") {
            Some(_) => fleet::read(root),
            None => Some(vec![Entry::single(read_root(root, true)?, &report)]),
        }
    });
    report.finish(entries).map(|entries| ConfigFile::new(name, entries))
}

/// Another version means other keys: complaints about those would mislead.
fn version(root: &Table<'_, '_>) -> Option<()> {
    let mut root = root.over(root.raw());
    let report = root.report();
    match root.optional("version", |value| value.integer()) {
        Some(version) if version.value != i64::from(VERSION) => {
            let what = format!("{} is not a version this Sheaf reads", version.value);
            version.wrong(report, what, format!("write {VERSION}, or use a newer Sheaf"));
            None
        }
        _ => Some(()),
    }
}

/// What was read of one machine, with the places that rules between machines need.
struct Read {
    config: NodeConfig,
    hostname: At<String>,
    addresses: Vec<At<sheaf_links::IpNet>>,
}

/// Reads the keys of one machine; `is_whole`: of a file for one, where `[[node]]` could stand too.
fn read_root(mut root: Table<'_, '_>, is_whole: bool) -> Option<Read> {
    if is_whole {
        root.allow("node");
    }
    let report = root.report();
    let version = root.required("version", "version = 1", |value| value.integer());
    // Every table is read before the first missing one ends the function: all mistakes at once.
    let install = root.optional("install", |value| install::read(value.table()?));
    let system =
        root.required("system", "[system] with hostname = \"node-1\"", |value| system::read(value.table()?));
    let network = root.optional("network", |value| network::read(value.table()?));
    let cluster = root.optional("cluster", |value| cluster::read(value.table()?));
    let console = root.optional("console", |value| console::read(value.table()?));
    let storage = root.optional("storage", |value| storage::read(value.table()?));
    let vms = root.optional("vms", |value| vms::read(value.table()?)).unwrap_or_default();
    let images = root.optional("image", |value| image::read(report, value.tables()?)).unwrap_or_default();
    let registries =
        root.optional("registry", |value| registry::read(report, value.tables()?)).unwrap_or_default();
    root.finish(ELSEWHERE);
    if let (Some(network), Some(cluster)) = (&network, &cluster) {
        services_are_not_on_a_link(report, network, cluster);
        a_node_joins_another(report, network, cluster);
        the_address_for_people_is_on_a_link(report, network, cluster);
    }
    if let Some(cluster) = &cluster {
        the_address_for_people_is_no_service(report, cluster);
    }
    if let (Some(install), Some(storage)) = (&install, &storage) {
        pools_are_not_on_the_system_disk(report, install, storage);
    }
    version?;
    let system = system?;
    let addresses = network.as_ref().map(|network| network.addresses.clone()).unwrap_or_default();
    let config = NodeConfig {
        version: VERSION,
        install: install.map(|install| install.config),
        system: system.config,
        network: network.map(|network| network.config).unwrap_or_default(),
        cluster: cluster.map(|cluster| cluster.config),
        console,
        storage: storage.map(|storage| storage.config).unwrap_or_default(),
        vms,
        images,
        registries,
    };
    Some(Read { config, hostname: system.hostname, addresses })
}

/// A Service whose address lies on a link is never reached: the neighbour is asked for it.
fn services_are_not_on_a_link(report: &Report<'_>, network: &network::Read, cluster: &cluster::Read) {
    let services = cluster.config.service_cidr.unwrap_or(SERVICE_CIDR);
    for address in network.addresses.iter().filter(|at| sheaf_links::value::overlap(&at.value, &services)) {
        let what = format!("\"{}\" overlaps the cluster's Service addresses {services}", address.value);
        address.wrong(
            report,
            what,
            "write another service-cidr in [cluster], the same on every node's network",
        );
    }
}

/// Nothing but the neighbours on a link finds an address that moves; and it cannot move if a node always has it.
fn the_address_for_people_is_on_a_link(
    report: &Report<'_>,
    network: &network::Read,
    cluster: &cluster::Read,
) {
    let Some(vip) = &cluster.vip else { return };
    if let Some(own) = network.addresses.iter().find(|at| at.value.addr() == vip.value) {
        let line = report.line(own.span.start);
        let what = format!("\"{}\" is this node's own address of line {line}", vip.value);
        return vip.wrong(report, what, "write a free address of the same network");
    }
    // With DHCP the networks are not known here.
    let family = |at: &&At<sheaf_links::IpNet>| at.value.addr().is_ipv4() == vip.value.is_ipv4();
    let known: Vec<_> = network.addresses.iter().filter(family).collect();
    if !known.is_empty() && !known.iter().any(|at| at.value.contains(&vip.value)) {
        let networks: Vec<_> = known.iter().map(|at| at.value.trunc().to_string()).collect();
        let what = format!("\"{}\" is in none of this node's networks: {}", vip.value, networks.join(", "));
        vip.wrong(report, what, "write a free address of one of them");
    }
}

/// An address of Services is never on a link.
fn the_address_for_people_is_no_service(report: &Report<'_>, cluster: &cluster::Read) {
    let Some(vip) = &cluster.vip else { return };
    let services = cluster.config.service_cidr.unwrap_or(SERVICE_CIDR);
    if services.contains(&vip.value) {
        let what = format!("\"{}\" is one of the cluster's Service addresses {services}", vip.value);
        vip.wrong(report, what, "write a free address of the node's network");
    }
}

/// A node that joins itself waits forever.
fn a_node_joins_another(report: &Report<'_>, network: &network::Read, cluster: &cluster::Read) {
    let Some(server) = &cluster.server else { return };
    for address in &network.addresses {
        let ip = address.value.addr();
        let host = if ip.is_ipv4() { format!("//{ip}:") } else { format!("//[{ip}]:") };
        if server.value.contains(&host) {
            let line = report.line(address.span.start);
            let what = format!("\"{}\" is this node's own address of line {line}", server.value);
            server.wrong(report, what, "write the address of a node that is in the cluster");
        }
    }
}

/// The installer owns the whole disk that it installs on.
fn pools_are_not_on_the_system_disk(report: &Report<'_>, install: &install::Read, storage: &storage::Read) {
    let Some(system) = install.disks.first() else { return };
    for disk in storage.disks.iter().filter(|disk| disk.selector == system.selector) {
        let line = report.line(system.place.span.start);
        let what = format!("is the disk of {} in line {line}", system.place.path);
        disk.place.wrong(report, what, "name another disk: that one holds the system");
    }
}

/// Refuses what stands in a list twice; `key` is what must differ.
fn each_once<T, K: Ord>(report: &Report<'_>, list: &[At<T>], key: impl Fn(&T) -> K) {
    let mut seen = BTreeMap::new();
    for at in list {
        if let Some(first) = seen.insert(key(&at.value), report.line(at.span.start)) {
            at.wrong(report, format!("is already in line {first}"), "remove one");
        }
    }
}

/// The values of a list that was read.
fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}

/// `value` of something that was read, without its place.
fn plain<T>(at: Option<At<T>>) -> Option<T> {
    at.map(|at| at.value)
}
