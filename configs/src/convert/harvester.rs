//! Harvester's `config.yaml` (harvester-installer, pkg/config/config.go).
//!
//! Route in: its values. Route out: a table for `node.toml`.

use super::source::Source;
use toml::{Table, Value};

pub(super) fn convert(source: &mut Source) -> Table {
    source.take("scheme_version");
    let mut os = source.table("os");
    let mut from = source.table("install");
    let mut install = Table::new();
    let system = system(&mut os);
    let mut network = network(&mut from.table("management_interface"));
    servers(&mut os, &mut network);
    disks(&mut from, &mut install);
    webhooks(&mut from, &mut install);
    let cluster = cluster(source, &mut os, &mut from);
    leftovers(source, &mut os, &mut from);
    super::document([("install", install), ("system", system), ("network", network), ("cluster", cluster)])
}

fn system(os: &mut Source) -> Table {
    let mut system = Table::new();
    if let Some(name) = os.text("hostname") {
        let host = name.split('.').next().unwrap_or_default();
        if host != name {
            os.note("hostname", "a node has no domain setting: its name servers provide it");
        }
        system.insert("hostname".into(), host.to_lowercase().into());
    }
    let (keys, others): (Vec<_>, Vec<_>) =
        os.texts("ssh_authorized_keys").into_iter().partition(|key| !key.starts_with("github:"));
    if !others.is_empty() {
        os.note("ssh_authorized_keys", "keys of GitHub users are not fetched: write the keys");
    }
    if !keys.is_empty() {
        system.insert("ssh-keys".into(), keys.into());
    }
    match os.text("password") {
        Some(hash) if hash.starts_with('$') => drop(system.insert("password-hash".into(), hash.into())),
        Some(_) => os.note("password", "is not hashed; write what `mkpasswd` prints as system.password-hash"),
        None => {}
    }
    let modules = os.texts("modules");
    if !modules.is_empty() {
        system.insert("modules".into(), modules.into());
    }
    let sysctl = os.map("sysctls");
    if !sysctl.is_empty() {
        system
            .insert("sysctl".into(), Value::Table(sysctl.into_iter().map(|(k, v)| (k, v.into())).collect()));
    }
    let arguments = os.text("additionalKernelArguments").unwrap_or_default();
    let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    if !arguments.is_empty() {
        system.insert("kernel-arguments".into(), arguments.into());
    }
    let files: Vec<Value> = os.tables("write_files").into_iter().filter_map(file).collect();
    if !files.is_empty() {
        system.insert("file".into(), files.into());
    }
    system
}

fn file(mut file: Source) -> Option<Value> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let path = file.text("path")?;
    let content = file.text("content").unwrap_or_default();
    let content = match file.text("encoding").as_deref() {
        None => Some(content),
        Some("b64" | "base64") => STANDARD
            .decode(content.replace(char::is_whitespace, ""))
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()),
        Some(_) => None,
    };
    let mode = file.text("permissions");
    if file.text("owner").is_some_and(|owner| !owner.starts_with("root")) {
        file.note("owner", "files belong to root");
    }
    let Some(content) = content else {
        file.note("encoding", "cannot be read here: the file was left out");
        return None;
    };
    if !path.starts_with("/etc/") {
        file.note("path", "is outside /etc, the only folder that can be written: the file was left out");
        return None;
    }
    let mut table =
        Table::from_iter([("path".to_owned(), Value::from(path)), ("content".to_owned(), content.into())]);
    if let Some(mode) = mode {
        table.insert("mode".into(), mode.into());
    }
    Some(Value::Table(table))
}

fn servers(os: &mut Source, network: &mut Table) {
    for (theirs, ours) in [("dns_nameservers", "dns"), ("ntp_servers", "ntp")] {
        let servers = os.texts(theirs);
        if !servers.is_empty() {
            network.insert(ours.into(), servers.into());
        }
    }
    let mut environment = os.table("environment");
    let mut proxy = Table::new();
    for (upper, ours) in [("HTTP_PROXY", "http"), ("HTTPS_PROXY", "https"), ("NO_PROXY", "no-proxy")] {
        let lower = environment.text(&upper.to_lowercase());
        let Some(value) = environment.text(upper).or(lower) else { continue };
        let value = match ours {
            "no-proxy" => {
                Value::from(value.split(',').map(|host| host.trim().to_owned()).collect::<Vec<_>>())
            }
            _ => Value::from(value),
        };
        proxy.insert(ours.into(), value);
    }
    if !proxy.is_empty() {
        network.insert("proxy".into(), Value::Table(proxy));
    }
}

/// The management interface: a bridge over one NIC or over a bond, its addresses on a VLAN where there is one.
fn network(from: &mut Source) -> Table {
    let mut network = Table::new();
    let ports: Vec<String> = from
        .tables("interfaces")
        .into_iter()
        .filter_map(|mut nic| nic.text("hwAddr").map(|mac| mac.to_lowercase()).or(nic.text("name")))
        .collect();
    let mtu = from.number("mtu");
    let is_static = from.text("method").as_deref() == Some("static");
    let mut addressing = Table::new();
    let (ip, mask, gateway) = (from.text("ip"), from.text("subnet_mask"), from.text("gateway"));
    if is_static {
        match (&ip, mask.as_deref().map(prefix)) {
            (Some(ip), Some(Some(prefix))) => {
                addressing.insert("addresses".into(), vec![format!("{ip}/{prefix}")].into());
            }
            (Some(ip), _) if ip.contains('/') => {
                drop(addressing.insert("addresses".into(), vec![ip.clone()].into()))
            }
            _ => from.note("subnet_mask", "has no prefix length: write addresses with one"),
        }
        if let Some(gateway) = gateway {
            addressing.insert("gateway".into(), gateway.into());
        }
    }
    let mut options = from.table("bond_options");
    let mut bridge = Table::from_iter([("name".to_owned(), Value::from("br0"))]);
    match &ports[..] {
        [] => {}
        [one] => drop(bridge.insert("ports".into(), vec![one.clone()].into())),
        _ => {
            let mut bond = bond(&mut options);
            bond.insert("ports".into(), ports.clone().into());
            if let Some(mtu) = mtu {
                bond.insert("mtu".into(), mtu.into());
            }
            network.insert("bond".into(), Value::Array(vec![Value::Table(bond)]));
            bridge.insert("ports".into(), vec!["bond0".to_owned()].into());
        }
    }
    if ports.len() < 2 {
        options.none_of(&["mode", "miimon"], "one NIC needs no bond");
    }
    drop(options);
    if let Some(mtu) = mtu {
        bridge.insert("mtu".into(), mtu.into());
    }
    match from.number("vlan_id") {
        Some(id) if id > 1 => {
            bridge.insert("vlan-aware".into(), true.into());
            bridge.insert("dhcp".into(), false.into());
            let mut vlan = Table::from_iter([
                ("name".to_owned(), Value::from("mgmt")),
                ("id".to_owned(), id.into()),
                ("parent".to_owned(), "br0".into()),
            ]);
            if addressing.is_empty() {
                vlan.insert("dhcp".into(), true.into());
            }
            vlan.extend(addressing);
            network.insert("vlan".into(), Value::Array(vec![Value::Table(vlan)]));
        }
        _ => bridge.extend(addressing),
    }
    if bridge.len() > 1 {
        network.insert("bridge".into(), Value::Array(vec![Value::Table(bridge)]));
    }
    network
}

fn bond(options: &mut Source) -> Table {
    let mut bond = Table::from_iter([("name".to_owned(), Value::from("bond0"))]);
    // Harvester's own default.
    let mode = options.text("mode").unwrap_or_else(|| "active-backup".into());
    bond.insert("mode".into(), mode.into());
    for (theirs, ours) in
        [("lacp_rate", "lacp-rate"), ("xmit_hash_policy", "transmit-hash-policy"), ("primary", "primary")]
    {
        if let Some(value) = options.text(theirs) {
            bond.insert(ours.into(), value.into());
        }
    }
    if let Some(miimon) = options.number("miimon") {
        bond.insert("miimon".into(), miimon.into());
    }
    bond
}

/// Prefix length of `255.255.255.0`.
fn prefix(mask: &str) -> Option<u32> {
    let bits = mask.parse::<std::net::Ipv4Addr>().ok()?.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() == u32::BITS).then(|| bits.leading_ones())
}

fn disks(from: &mut Source, install: &mut Table) {
    let disk = |key: &str, from: &mut Source| {
        let path = from.text(key)?;
        if !path.starts_with("/dev/disk/") {
            from.note(
                key,
                "the kernel may give this name to another disk at the next boot: select it by its serial",
            );
        }
        Some(Value::Table(Table::from_iter([("path".to_owned(), Value::from(path))])))
    };
    let (system, data) = (disk("device", from), disk("data_disk", from));
    if let Some(system) = system {
        install.insert("disk".into(), system);
    }
    if let Some(data) = data {
        install.insert("data-disks".into(), Value::Array(vec![data]));
        from.note("data_disk", "is emptied for [[storage.pool]]: name it there");
    }
    from.none_of(
        &["wipe_all_disks", "wipe_disks_list", "no_format"],
        "each disk is erased by its serial: write wipe = \"SERIAL\" in [install] or install.data-disks",
    );
    if from.flag("poweroff") {
        install.insert("then".into(), "power-off".into());
    }
}

fn webhooks(from: &mut Source, install: &mut Table) {
    let mut hooks: Vec<Value> = Vec::new();
    for mut hook in from.tables("webhooks") {
        hook.none_of(&["payload"], "the installer sends its own document");
        hook.none_of(&["insecure"], "servers are always verified: write their authority as ca");
        let Some(url) = hook.text("url") else { continue };
        let mut table = Table::from_iter([("url".to_owned(), Value::from(url))]);
        match hook.text("event").map(|event| event.to_lowercase()) {
            Some(event) if ["started", "succeeded", "failed"].contains(&event.as_str()) => {
                table.insert("on".into(), vec![event].into());
            }
            _ => hook.note("event", "is unknown: the webhook is called for all events"),
        }
        if let Some(method) = hook.text("method") {
            table.insert("method".into(), method.to_uppercase().into());
        }
        let mut headers = Table::new();
        if let Some(serde_json::Value::Object(given)) = hook.take("headers") {
            for (name, value) in given {
                let first = match &value {
                    serde_json::Value::Array(list) => list.first().and_then(|value| value.as_str()),
                    value => value.as_str(),
                };
                match first {
                    Some(_) if name.eq_ignore_ascii_case("content-type") => {}
                    Some(value) => drop(headers.insert(name, value.into())),
                    None => hook.note("headers", "has an item that is not a string"),
                }
            }
        }
        if !headers.is_empty() {
            table.insert("headers".into(), Value::Table(headers));
        }
        let mut basic = hook.table("basicAuth");
        if let (Some(user), Some(password)) = (basic.text("user"), basic.text("password")) {
            let basic = [("user".to_owned(), Value::from(user)), ("password".to_owned(), password.into())];
            table.insert("basic".into(), Value::Table(Table::from_iter(basic)));
        }
        hooks.push(Value::Table(table));
    }
    if !hooks.is_empty() {
        install.insert("webhook".into(), hooks.into());
    }
}

fn cluster(source: &mut Source, os: &mut Source, from: &mut Source) -> Table {
    let mut cluster = Table::new();
    let mode = from.text("mode");
    let role = from.text("role");
    match mode.as_deref() {
        Some(mode @ ("create" | "join")) => drop(cluster.insert("mode".into(), mode.into())),
        Some("install") => from.note("mode", "only installs: the node waits until [cluster] is written"),
        _ => from.note("mode", "is missing: write [cluster] with mode"),
    }
    match (mode.as_deref(), role.as_deref()) {
        (Some("join"), Some("management")) => drop(cluster.insert("role".into(), "control-plane".into())),
        (Some("join"), Some("worker")) => drop(cluster.insert("role".into(), "worker".into())),
        (_, Some("witness")) => {
            from.note("role", "there are no witnesses: a control plane node runs VMs too, or has a taint")
        }
        (_, Some(_)) => from.note("role", "nodes are not promoted by themselves: write role"),
        _ => {}
    }
    if let (Some(cidr), Some("create")) = (from.text("cluster_service_cidr"), mode.as_deref()) {
        cluster.insert("service-cidr".into(), cidr.into());
    }
    let sans = source.texts("sans");
    if !sans.is_empty() && mode.as_deref() == Some("create") {
        cluster.insert("sans".into(), sans.into());
    }
    match (from.text("vip"), from.text("vip_mode").as_deref(), mode.as_deref()) {
        (Some(vip), None | Some("static"), Some("create")) => drop(cluster.insert("vip".into(), vip.into())),
        (Some(_), Some("dhcp"), _) | (None, Some("dhcp"), _) => {
            from.note(
                "vip",
                "is asked of DHCP: write an address that DHCP gives to nobody as vip of [cluster]",
            );
        }
        (Some(_), ..) => {
            from.note(
                "vip",
                "is of a Harvester cluster: write vip of the Sheaf cluster on control plane nodes",
            );
        }
        (None, ..) => {}
    }
    let labels = os.map("labels");
    if !labels.is_empty() && !cluster.is_empty() {
        cluster
            .insert("labels".into(), Value::Table(labels.into_iter().map(|(k, v)| (k, v.into())).collect()));
    }
    source.none_of(&["server_url"], "is an address of a Harvester cluster: write server of a Sheaf cluster");
    source.none_of(
        &["token"],
        "is a token of another kind: write token and ca-hash, which the first node's screen shows",
    );
    cluster
}

/// Keys whose absence has a reason that can be said.
fn leftovers(source: &mut Source, os: &mut Source, from: &mut Source) {
    from.none_of(&["vip_hw_addr"], "the address is at the MAC of the node that has it");
    from.none_of(&["cluster_pod_cidr", "cluster_dns"], "VMs are on bridges, not on a network of Pods");
    from.none_of(&["force_efi", "force_gpt", "force_mbr"], "every disk boots on UEFI and BIOS, with a GPT");
    from.none_of(
        &["iso_url", "config_url", "with_net_images", "raw_disk_image_path"],
        "the medium holds all, or the boot arguments say where it is",
    );
    from.none_of(
        &["automatic", "silent", "skipchecks", "debug", "tty"],
        "an installation with a node.toml asks nothing, on every screen and serial port",
    );
    from.none_of(
        &["persistent_partition_size"],
        "install.state-size is only for the system, install.data-size for images; the pool has the rest of the disk",
    );
    from.none_of(&["addons", "harvester"], "has no counterpart: there are no add-ons and no Longhorn");
    os.none_of(
        &["after_install_chroot_commands"],
        "a node runs no commands: write its files in [[system.file]]",
    );
    os.none_of(&["persistent_state_paths"], "what a node keeps is fixed: /state and /data");
    os.none_of(&["sshd"], "is decided by the image");
    os.none_of(
        &["externalStorageConfig"],
        "has no counterpart: write /etc/multipath.conf in [[system.file]]",
    );
    source.none_of(&["system_settings"], "are settings of Harvester's cluster");
    source.none_of(&["runtime_version", "rancher_version"], "the release says what runs");
}
