//! Controller `config`: turns `/state/node.toml` into the files by which systemd's services run this node.
//!
//! Reads: `/state/node.toml`, the links that `network` had confirmed, the machine's NICs, `/etc/machine-id`, what the
//! image holds. Owns: `/state/nic`, the
//! files that [`mod@plan`] names under `/etc` and `/run`, the kernel's host name, further names of NICs.
//! Never touches: links and addresses themselves (networkd does), anything of VMs or the cluster.
//!
//! A node whose config is missing or refused still comes up: DHCP on one NIC, a name from its machine-id, no
//! cluster, and the reason on the status page. A node that cannot be reached cannot be fixed.
//!
//! observe ([`plan::Facts`]) → [`mod@plan`] ([`system`], [`crate::network::files`]) → [`apply`]; what the config asks for and
//! this node does not do becomes a note on the screen, in the journal and on the status page.

#[cfg(test)]
mod fuzz;
mod plan;
mod system;

pub use plan::{Content, Facts, File, Plan, plan};

use crate::paths::Paths;
use anyhow::Context as _;
use sheaf_config::diagnose::Errors;
use sheaf_config::load::Entry;
use sheaf_config::node::{Hostname, Identity, NodeConfig};
use sheaf_host::hostname::SetHostname;
use sheaf_host::nic;
use sheaf_host::run::{Command, Run};
use sheaf_links::{FoundNic, default_nic};
use std::path::Path;
use std::time::Duration;

/// How long NICs may take to appear: server NICs load firmware for several seconds each.
const NIC_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks for a NIC: far below what a boot takes.
const NIC_INTERVAL: Duration = Duration::from_millis(50);
/// Longest time the kernel may take to give a NIC one more name.
const NAME_DEADLINE: Duration = Duration::from_secs(5);
/// Digits of the machine-id in a name made of it: enough to tell the machines of one room apart.
const ID_DIGITS: usize = 8;

/// The config this node runs by.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// From node.toml, or the one that keeps a node reachable.
    pub config: NodeConfig,
    /// Why it is not that of node.toml.
    pub problem: Option<Errors>,
}

/// The config this node runs by; never fails. `machine` as in [`configure`].
pub fn effective(paths: &Paths, machine: &Path) -> Effective {
    match own_config(paths, machine) {
        Ok(config) => Effective { config, problem: None },
        Err(problem) => {
            let id = std::fs::read_to_string(paths.etc.join("machine-id")).unwrap_or_default();
            Effective { config: reachable(id.trim()), problem: Some(problem) }
        }
    }
}

/// The installer leaves the config of this machine alone, its name made out. One that was put there by hand may still
/// be for many machines, or hold a template: both are decided by what the machine says of itself.
fn own_config(paths: &Paths, machine: &Path) -> Result<NodeConfig, Errors> {
    let file = sheaf_config::load::config_file(&paths.node_toml)?;
    let hostname = |entry: &Entry| Hostname::parse(&entry.config.system.hostname);
    let is_fixed = |entry: &Entry| hostname(entry).is_ok_and(|hostname| hostname.is_fixed());
    if !file.is_fleet() && file.entries().iter().all(is_fixed) {
        return file.single();
    }
    let nics = await_nics(machine, None).unwrap_or_default();
    let dmi = |name: &str| {
        let text = std::fs::read_to_string(machine.join("sys/class/dmi/id").join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    file.for_machine(&Identity {
        serial: dmi("product_serial"),
        uuid: dmi("product_uuid").map(|uuid| uuid.to_lowercase()),
        macs: nics.into_iter().filter_map(|nic| nic.permanent_mac).collect(),
    })
}

/// What keeps a node reachable that has no usable config.
fn reachable(machine_id: &str) -> NodeConfig {
    let digits: String = machine_id.chars().filter(char::is_ascii_hexdigit).take(ID_DIGITS).collect();
    let hostname =
        if digits.is_empty() { "sheaf".into() } else { format!("sheaf-{}", digits.to_lowercase()) };
    NodeConfig::named(hostname)
}

/// What `config` asks for and this node does not do, for the status page. `machine` as in [`configure`].
pub fn notes(paths: &Paths, config: &NodeConfig, machine: &Path) -> Vec<String> {
    system::notes(config, &facts(paths, config, machine, Vec::new(), None))
}

/// `sheaf-agent configure`: renders everything once. `machine` is the root that sysfs and udev are read under.
pub fn configure(
    paths: &Paths,
    machine: &Path,
    hostname: &dyn SetHostname,
    run: &dyn Run,
) -> anyhow::Result<(Effective, Plan)> {
    let effective = effective(paths, machine);
    let config = &effective.config;
    let usual = std::fs::read_to_string(paths.usual_nic()).ok().map(|mac| mac.trim().to_owned());
    let leaves_choice = config.network.links.bridges.iter().any(|bridge| bridge.ports.is_empty());
    let nics = if leaves_choice { await_nics(machine, usual.as_deref())? } else { look(machine)? };
    let facts = facts(paths, config, machine, nics, usual);
    let (links, dropped) =
        crate::network::at_boot(paths, &config.network.links, &facts.nics, facts.usual_nic.as_deref());
    let mut plan = plan(config, &links, &facts);
    plan.notes.extend(dropped);
    apply(paths, &plan.files)?;
    if leaves_choice {
        let usual = facts.usual_nic.as_deref();
        remember(paths, default_nic(&facts.nics, usual), usual);
    }
    name_nics(config, &facts.nics, run);
    let name = &config.system.hostname;
    hostname.set(name).with_context(|| format!("the kernel's host name cannot be set to {name}"))?;
    Ok((effective, plan))
}

fn facts(
    paths: &Paths,
    config: &NodeConfig,
    machine: &Path,
    nics: Vec<FoundNic>,
    usual_nic: Option<String>,
) -> Facts {
    let read = |path: &str| std::fs::read_to_string(machine.join(path)).unwrap_or_default();
    let zones = machine.join("usr/share/zoneinfo");
    Facts {
        nics,
        usual_nic,
        has_sshd: machine.join("usr/sbin/sshd").exists(),
        has_timezone: config.system.timezone.as_ref().is_some_and(|zone| zones.join(zone).is_file()),
        authorities: std::fs::read_to_string(paths.authorities()).unwrap_or_default(),
        kernel_arguments: read("proc/cmdline"),
    }
}

/// Gives NICs that are there the names they have in node.toml: udev may have seen them before it could read of those.
fn name_nics(config: &NodeConfig, nics: &[FoundNic], run: &dyn Run) {
    for wanted in &config.network.links.nics {
        let found_nic = wanted.selector().find(nics);
        let Some(nic) = found_nic.filter(|found_nic| found_nic.name != wanted.name) else { continue };
        let words = ["link", "property", "add", "dev", &nic.name, "altname", &wanted.name];
        if let Err(error) = run.run(&Command::new("ip").args(words).deadline(NAME_DEADLINE)) {
            // udev may have been faster; nothing else goes by that name.
            tracing::info!("{}: has no further name {}: {error}", nic.name, wanted.name);
        }
    }
}

fn look(machine: &Path) -> anyhow::Result<Vec<FoundNic>> {
    let nics = nic::wired(machine).context("cannot list the NICs")?;
    let found_nic =
        |nic: nic::Nic| FoundNic { name: nic.name, permanent_mac: nic.permanent_mac, path: nic.path };
    Ok(nics.into_iter().map(found_nic).collect())
}

/// The machine's NICs, for a config that leaves the choice to us. They are waited for, since this runs while udev
/// still loads drivers: until the usual one is there, or, without it, until nothing more is to come.
fn await_nics(machine: &Path, usual: Option<&str>) -> anyhow::Result<Vec<FoundNic>> {
    // udev keeps this file while it has devices to handle.
    let queue = machine.join("run/udev/queue");
    let is_usual = |nic: &FoundNic| usual.is_some() && nic.permanent_mac.as_deref() == usual;
    let found = sheaf_host::wait::until(NIC_DEADLINE, NIC_INTERVAL, || match look(machine) {
        Ok(nics) if nics.iter().any(is_usual) => Some(Ok(nics)),
        Ok(nics) if nics.is_empty() || queue.exists() => None,
        found => Some(found),
    });
    found.unwrap_or_else(|| look(machine))
}

/// Keeps the choice for later boots, which then need not wait for NICs that are not coming.
fn remember(paths: &Paths, chosen: Option<&FoundNic>, usual: Option<&str>) {
    let Some(mac) = chosen.and_then(|nic| nic.permanent_mac.as_deref()) else { return };
    if usual == Some(mac) {
        return;
    }
    if let Err(error) =
        sheaf_host::file::write_atomically(&paths.usual_nic(), format!("{mac}\n").as_bytes(), 0o644)
    {
        tracing::warn!("{error}: the next boot chooses its NIC again");
    }
}

/// Writes `files` and removes those of an earlier one.
fn apply(paths: &Paths, files: &[File]) -> anyhow::Result<()> {
    let path_of = |file: &File| match file.path.strip_prefix("/etc") {
        Ok(inner) => paths.etc.join(inner),
        Err(_) => paths.run_root.join(file.path.strip_prefix("/run").unwrap_or(&file.path)),
    };
    let written: Vec<_> = files.iter().map(path_of).collect();
    let networks = paths.run_root.join("systemd/network");
    for entry in std::fs::read_dir(&networks).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().contains(crate::network::files::MARK);
        if ours && !written.contains(&entry.path()) {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("{} cannot be removed", entry.path().display()))?;
        }
    }
    for (file, path) in files.iter().zip(&written) {
        match &file.content {
            Content::Text(text) => sheaf_host::file::write_atomically(path, text.as_bytes(), file.mode)?,
            Content::Hidden(text) => {
                sheaf_host::file::write_atomically(path, text.reveal().as_bytes(), file.mode)?;
            }
            Content::Link(target) => sheaf_host::file::link_atomically(path, target)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::{FakeHostname, FakeRun};

    fn machine(name: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("sheaf-configure-{name}-{}", std::process::id()));
        let nic = root.join("sys/class/net/enp1s0");
        std::fs::create_dir_all(nic.join("device")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("state")).unwrap();
        for (file, text) in [("type", "1"), ("addr_assign_type", "0"), ("address", "52:54:00:aa:00:01")] {
            std::fs::write(nic.join(file), text).unwrap();
        }
        std::fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        root
    }

    #[test]
    fn a_node_without_a_usable_config_comes_up_by_dhcp_and_says_why() {
        let root = machine("broken");
        std::fs::write(root.join("state/node.toml"), "version = 1\n").unwrap();
        let hostname = FakeHostname::default();
        let (effective, _) = configure(&Paths::under(&root), &root, &hostname, &FakeRun::default()).unwrap();
        assert_eq!(hostname.name().as_deref(), Some("sheaf-01234567"));
        let problem = effective.problem.unwrap().to_string();
        assert!(
            problem.ends_with("node.toml:1: system: is missing; add [system] with hostname = \"node-1\""),
            "{problem}"
        );
        let port =
            std::fs::read_to_string(root.join("run/systemd/network/30-sheaf-br0-port0.network")).unwrap();
        assert!(port.contains("PermanentMACAddress=52:54:00:aa:00:01"), "{port}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_name_that_is_a_template_is_made_of_what_the_machine_says() {
        let root = machine("template");
        std::fs::write(root.join("state/node.toml"), "version = 1\nsystem.hostname = \"rack-{mac:4}\"\n")
            .unwrap();
        let hostname = FakeHostname::default();
        let (effective, _) = configure(&Paths::under(&root), &root, &hostname, &FakeRun::default()).unwrap();
        assert_eq!(effective.problem.map(|problem| problem.to_string()), None);
        assert_eq!(hostname.name().as_deref(), Some("rack-0001"));
        assert_eq!(std::fs::read_to_string(root.join("etc/hostname")).unwrap(), "rack-0001\n");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn files_of_the_operator_and_names_of_nics_are_applied() {
        let root = machine("applied");
        std::fs::create_dir_all(root.join("usr/share/zoneinfo/Europe")).unwrap();
        std::fs::write(root.join("usr/share/zoneinfo/Europe/Berlin"), "TZif").unwrap();
        let text = "version = 1\n[system]\nhostname = \"a\"\ntimezone = \"Europe/Berlin\"\n\
                    [[system.file]]\npath = \"/etc/app/secret\"\nmode = \"0600\"\ncontent = \"hush\"\n\
                    [[network.nic]]\nname = \"up0\"\nmac = \"52:54:00:aa:00:01\"\ndhcp = true\n";
        std::fs::write(root.join("state/node.toml"), text).unwrap();
        let run = FakeRun::default();
        configure(&Paths::under(&root), &root, &FakeHostname::default(), &run).unwrap();
        let secret = root.join("etc/app/secret");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "hush");
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&secret.metadata().unwrap().permissions()) & 0o777,
            0o600
        );
        let zone = std::fs::read_link(root.join("etc/localtime")).unwrap();
        assert_eq!(zone.to_str(), Some("../usr/share/zoneinfo/Europe/Berlin"));
        assert_eq!(run.asked(), ["ip link property add dev enp1s0 altname up0"]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_nic_that_was_taken_once_is_taken_again_when_another_comes_before_it() {
        let root = machine("usual");
        let paths = Paths::under(&root);
        std::fs::write(&paths.node_toml, "version = 1\nsystem.hostname = \"a\"\n").unwrap();
        configure(&paths, &root, &FakeHostname::default(), &FakeRun::default()).unwrap();
        let earlier = root.join("sys/class/net/aaa0");
        std::fs::create_dir_all(earlier.join("device")).unwrap();
        for (file, text) in [("type", "1"), ("addr_assign_type", "0"), ("address", "52:54:00:aa:00:09")] {
            std::fs::write(earlier.join(file), text).unwrap();
        }
        // udev still works; nobody waits for it, since the usual NIC is there.
        std::fs::create_dir_all(root.join("run/udev")).unwrap();
        std::fs::write(root.join("run/udev/queue"), "").unwrap();
        let begin = std::time::Instant::now();
        configure(&paths, &root, &FakeHostname::default(), &FakeRun::default()).unwrap();
        assert!(begin.elapsed() < NIC_DEADLINE / 2);
        let port =
            std::fs::read_to_string(root.join("run/systemd/network/30-sheaf-br0-port0.network")).unwrap();
        assert!(port.contains("PermanentMACAddress=52:54:00:aa:00:01"), "{port}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_bridge_that_left_the_config_leaves_no_file_behind() {
        let root = machine("stale");
        let paths = Paths::under(&root);
        let config = |bridge: &str| {
            format!(
                "version = 1\nsystem.hostname = \"a\"\n[[network.bridge]]\nname = \"{bridge}\"\nports = [\"enp1s0\"]\n"
            )
        };
        let names = || {
            let entries = std::fs::read_dir(root.join("run/systemd/network")).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        for bridge in ["br7", "br8"] {
            std::fs::write(&paths.node_toml, config(bridge)).unwrap();
            configure(&paths, &root, &FakeHostname::default(), &FakeRun::default()).unwrap();
        }
        std::fs::write(root.join("run/systemd/network/10-other.network"), "").unwrap();
        configure(&paths, &root, &FakeHostname::default(), &FakeRun::default()).unwrap();
        let expected = [
            "10-other.network",
            "20-sheaf-br8.link",
            "20-sheaf-br8.netdev",
            "20-sheaf-br8.network",
            "30-sheaf-br8-port0.network",
        ];
        assert_eq!(names(), expected);
        std::fs::remove_dir_all(root).unwrap();
    }
}
