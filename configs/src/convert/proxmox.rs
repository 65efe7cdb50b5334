//! `answer.toml` of Proxmox VE (proxmox-installer-types, answer.rs).
//!
//! Route in: its values. Route out: a table for `node.toml`.

use super::source::Source;
use toml::{Table, Value};

pub(super) fn convert(source: &mut Source) -> Table {
    let mut install = Table::new();
    let system = global(&mut source.table("global"), &mut install);
    disk(&mut source.table("disk-setup"), &mut install);
    webhook(&mut source.table("post-installation-webhook"), &mut install);
    let network = network(&mut source.table("network"));
    let cluster = Table::from_iter([("mode".to_owned(), Value::from("create"))]);
    source.note(
        "(cluster)",
        "Proxmox VE joins clusters later; this node creates one: write mode = \"join\" for further nodes",
    );
    source.none_of(&["first-boot"], "a node runs no scripts: write its files in [[system.file]]");
    super::document([("install", install), ("system", system), ("network", network), ("cluster", cluster)])
}

fn global(global: &mut Source, install: &mut Table) -> Table {
    let mut system = Table::new();
    match global.take("fqdn") {
        Some(serde_json::Value::String(name)) => {
            let (host, domain) =
                name.split_once('.').map_or((name.as_str(), ""), |(host, domain)| (host, domain));
            system.insert("hostname".into(), host.to_lowercase().into());
            if !domain.is_empty() {
                global.note("fqdn", "a node has no domain setting: its name servers provide it");
            }
        }
        Some(_) => {
            system.insert("hostname".into(), "node-{serial}".into());
            global.note("fqdn", "comes from DHCP there; here from the machine's serial number");
        }
        None => {}
    }
    if let Some(zone) = global.text("timezone") {
        system.insert("timezone".into(), zone.into());
    }
    let keys = global.texts("root-ssh-keys");
    if !keys.is_empty() {
        system.insert("ssh-keys".into(), keys.into());
    }
    if let Some(hash) = global.text("root-password-hashed") {
        system.insert("password-hash".into(), hash.into());
    }
    if global.text("root-password").is_some() {
        global.note("root-password", "is not hashed; write what `mkpasswd` prints as system.password-hash");
    }
    match global.text("reboot-mode").as_deref() {
        Some("power-off") => drop(install.insert("then".into(), "power-off".into())),
        Some("reboot") | None => {}
        Some(_) => global.note("reboot-mode", "is unknown; the node restarts"),
    }
    global.none_of(
        &["keyboard", "country", "mailto", "subscription-key"],
        "has no counterpart: a node has no shell, mail or subscription",
    );
    global.none_of(
        &["reboot-on-error"],
        "has no counterpart: a failed installation shows its reason and waits",
    );
    system
}

fn disk(setup: &mut Source, install: &mut Table) {
    let mut selector = Table::new();
    match &setup.texts("disk-list")[..] {
        [] => {}
        [one] => {
            let name = one.trim_start_matches("/dev/");
            selector.insert("path".into(), format!("/dev/{name}").into());
            setup.note(
                "disk-list",
                "the kernel may give this name to another disk at the next boot: write its serial in install.disk",
            );
        }
        _ => setup.note(
            "disk-list",
            "names several disks: a node is installed on one, the others go to [[storage.pool]]",
        ),
    }
    let mut filter = setup.table("filter");
    let known =
        [("ID_SERIAL_SHORT", "serial"), ("ID_SERIAL", "serial"), ("ID_MODEL", "model"), ("ID_WWN", "wwn")];
    for (key, ours) in known {
        let Some(value) = filter.text(key) else { continue };
        if value.contains(['*', '?', '[']) {
            filter.note(key, "is a pattern: write exactly what the disk reports");
        } else {
            if key == "ID_SERIAL" {
                filter.note(key, "is often model and serial in one: compare with `lsblk -o NAME,SERIAL`");
            }
            selector.insert(ours.into(), value.into());
        }
    }
    setup.none_of(&["filter-match"], "all keys of install.disk must match exactly one disk");
    setup.none_of(
        &["filesystem", "zfs", "lvm", "btrfs"],
        "has no counterpart: a node's partitions are its own",
    );
    if !selector.is_empty() {
        install.insert("disk".into(), Value::Table(selector));
    }
}

fn webhook(hook: &mut Source, install: &mut Table) {
    hook.none_of(&["cert-fingerprint"], "write the authority of that server as ca, in PEM");
    let Some(url) = hook.text("url") else { return };
    let mut table = Table::from_iter([
        ("url".to_owned(), Value::from(url)),
        ("on".to_owned(), Value::from(vec!["succeeded"])),
    ]);
    if let Some(token) = hook.text("auth-token") {
        table.insert("bearer".into(), token.into());
    }
    hook.note("url", "gets another document than that of Proxmox VE");
    install.insert("webhook".into(), Value::Array(vec![Value::Table(table)]));
}

fn network(network: &mut Source) -> Table {
    let mut table = Table::new();
    let is_static = network.text("source").as_deref() == Some("from-answer");
    let mut filter = network.table("filter");
    let mac = filter.text("ID_NET_NAME_MAC").and_then(|pattern| {
        let mac = mac_in(&pattern);
        if mac.is_none() {
            filter.note("ID_NET_NAME_MAC", "is not a whole MAC: write the NIC in network.bridge.ports");
        }
        mac
    });
    drop(filter);
    let mut pinning = network.table("interface-name-pinning");
    pinning.none_of(
        &["enabled", "mapping"],
        "NICs are named by MAC or place in [[network.nic]], and keep the kernel's names",
    );
    drop(pinning);
    if is_static || mac.is_some() {
        let mut bridge = Table::from_iter([("name".to_owned(), Value::from("br0"))]);
        if let Some(mac) = mac {
            bridge.insert("ports".into(), vec![mac].into());
        }
        if let Some(address) = network.text("cidr") {
            bridge.insert("addresses".into(), vec![address].into());
        }
        if let Some(gateway) = network.text("gateway") {
            let key = if gateway.contains(':') { "gateway6" } else { "gateway" };
            bridge.insert(key.into(), gateway.into());
        }
        table.insert("bridge".into(), Value::Array(vec![Value::Table(bridge)]));
    }
    if let Some(dns) = network.text("dns") {
        table.insert("dns".into(), vec![dns].into());
    }
    table
}

/// The MAC in udev's `enx525400123456`, also where the beginning is a pattern.
fn mac_in(pattern: &str) -> Option<String> {
    let digits: String = pattern.trim_start_matches('*').trim_start_matches("enx").to_lowercase();
    let whole = digits.len() == 12 && digits.chars().all(|c| c.is_ascii_hexdigit());
    whole.then(|| {
        digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair)).collect::<Vec<_>>().join(":")
    })
}
