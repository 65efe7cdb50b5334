//! Node config: text to [`NodeConfig`], or every mistake in it at once.
//!
//! Why here: installer, agent and `sheaf config check` refuse the same files with the same words. One file for
//! each table of the config; rules that join two tables stand here. Route in: a path, or a name and a text.
//! Route out: a config that is valid, or [`Errors`] that name file, line, key, reason and remedy.

mod cluster;
mod image;
mod install;
mod network;

use crate::diagnose::{Errors, Report};
use crate::node::{NodeConfig, SERVICE_CIDR, System, VERSION};
use crate::spanned::{At, Document, Table, read};
use crate::syntax;
use std::path::Path;

/// Keys that are often written into the wrong table, and the table they belong to.
const ELSEWHERE: &[(&str, &str)] = &[
    ("hostname", "system"),
    ("disk", "install"),
    ("wipe", "install"),
    ("then", "install"),
    ("serial", "install.disk"),
    ("wwn", "install.disk"),
    ("min-size", "install.disk"),
    ("max-size", "install.disk"),
    ("dns", "network"),
    ("ntp", "network"),
    ("bridge", "network"),
    ("ports", "[network.bridge]"),
    ("dhcp", "[network.bridge]"),
    ("addresses", "[network.bridge]"),
    ("gateway", "[network.bridge]"),
    ("mtu", "[network.bridge]"),
    ("mode", "cluster"),
    ("server", "cluster"),
    ("token", "cluster"),
    ("ca-hash", "cluster"),
    ("admin-keys", "cluster"),
    ("labels", "cluster"),
    ("sha256", "[image]"),
    ("url", "[image]"),
];

/// Reads the node config at `path`.
pub fn node_config(path: &Path) -> Result<NodeConfig, Errors> {
    parse_node_config(&path.display().to_string(), &read(path)?)
}

/// Reads a node config from `text`; messages call it `name`.
pub fn parse_node_config(name: &str, text: &str) -> Result<NodeConfig, Errors> {
    let report = Report::new(name, text);
    let config = Document::parse(&report).and_then(|document| read_root(document.root(&report)));
    report.finish(config)
}

fn read_root(mut root: Table<'_, '_>) -> Option<NodeConfig> {
    let report = root.report();
    let version = root.required("version", "version = 1", |value| value.integer());
    if let Some(version) = version.as_ref().filter(|version| version.value != i64::from(VERSION)) {
        // Another version means other keys: complaints about those would mislead.
        let what = format!("{} is not a version this Sheaf reads", version.value);
        version.wrong(report, what, format!("write {VERSION}, or use a newer Sheaf"));
        return None;
    }
    // Every table is read before the first missing one ends the function: all mistakes at once.
    let install = root.optional("install", |value| install::read(value.table()?));
    let system =
        root.required("system", "[system] with hostname = \"node-1\"", |value| system(value.table()?));
    let network = root.optional("network", |value| network::read(value.table()?));
    let cluster = root.optional("cluster", |value| cluster::read(value.table()?));
    let images = root.optional("image", |value| image::read(report, value.tables()?)).unwrap_or_default();
    root.finish(ELSEWHERE);
    if let (Some(network), Some(cluster)) = (&network, &cluster) {
        services_are_not_on_a_link(report, network, cluster);
    }
    version?;
    Some(NodeConfig {
        version: VERSION,
        install,
        system: system?,
        network: network.map(|network| network.config).unwrap_or_default(),
        cluster: cluster.map(|cluster| cluster.config),
        images,
    })
}

fn system(mut table: Table<'_, '_>) -> Option<System> {
    let hostname = table.required("hostname", "hostname = \"node-1\"", |value| value.text(syntax::hostname));
    table.finish(ELSEWHERE);
    Some(System { hostname: hostname?.value })
}

/// A Service whose address lies on a link is never reached: the neighbour is asked for it.
fn services_are_not_on_a_link(report: &Report<'_>, network: &network::Read, cluster: &cluster::Read) {
    let services = cluster.config.service_cidr.unwrap_or(SERVICE_CIDR);
    for address in network.addresses.iter().filter(|address| address.value.overlaps(services)) {
        let what = format!("\"{}\" overlaps the cluster's Service addresses {services}", address.value);
        address.wrong(
            report,
            what,
            "write another service-cidr in [cluster], the same on every node's network",
        );
    }
}

/// `value` of something that was read, without its place.
fn plain<T>(at: Option<At<T>>) -> Option<T> {
    at.map(|at| at.value)
}
