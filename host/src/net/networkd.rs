//! systemd-networkd without a bus: files in, its state files out.
//!
//! Why state files: an initrd has no D-Bus. They are what networkd's own library reads, and dracut does the same.
//! Route in: files for /run/systemd/network. Route out: [`NetLink`]s; the resolver's file follows what DHCP said.

use super::{Lease, NetError, NetLink};
use crate::links::{Kernel, Links};
use crate::run::{Command, Run};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Where networkd reads what lives as long as the machine runs.
const FILES: &str = "/run/systemd/network";
/// Beginning of the names of our files there; others may come from kernel arguments.
const OURS: &str = "50-sheaf-";
/// Where networkd says how it stands.
const STATE: &str = "/run/systemd/netif";
/// What the C library resolves names by.
const RESOLVER: &str = "/etc/resolv.conf";
/// networkd starts in a second; a udev that does not settle holds it up.
const START: Duration = Duration::from_secs(60);

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> NetError + '_ {
    move |source| NetError::File { path: path.to_owned(), source }
}

pub(super) fn configure(run: &dyn Run, files: &[(String, String)]) -> Result<(), NetError> {
    let folder = Path::new(FILES);
    fs::create_dir_all(folder).map_err(file_error(folder))?;
    for device in remove_ours(folder)? {
        // Gone already, or never made: either is fine.
        let _ = run.run(&Command::new("networkctl").args(["delete", &device]).deadline(START));
    }
    for (name, text) in files {
        let path = folder.join(format!("{OURS}{name}"));
        fs::write(&path, text).map_err(file_error(&path))?;
    }
    let restart = Command::new("systemctl").args(["restart", "systemd-networkd.service"]).deadline(START);
    run.run(&restart)?;
    Ok(())
}

/// Removes the files of an earlier call; the names of devices that they made.
fn remove_ours(folder: &Path) -> Result<Vec<String>, NetError> {
    let mut made = Vec::new();
    for entry in fs::read_dir(folder).map_err(file_error(folder))?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(OURS) {
            continue;
        }
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "netdev") {
            let text = fs::read_to_string(&path).map_err(file_error(&path))?;
            made.extend(text.lines().find_map(|line| line.strip_prefix("Name=")).map(str::to_owned));
        }
        fs::remove_file(&path).map_err(file_error(&path))?;
    }
    Ok(made)
}

pub(super) fn links() -> Result<Vec<NetLink>, NetError> {
    let sysfs = Path::new("/sys/class/net");
    let mut links = Vec::new();
    for link in Kernel::default().list().map_err(file_error(sysfs))? {
        let text = |file: &str| {
            fs::read_to_string(sysfs.join(&link.name).join(file)).ok().map(|text| text.trim().to_owned())
        };
        let lease = text("ifindex").and_then(|index| lease(&Path::new(STATE).join("leases").join(index)));
        let carrier = text("carrier").map(|carrier| carrier == "1");
        links.push(NetLink { name: link.name, carrier, addresses: link.addresses, lease });
    }
    resolve_by(&values(&Path::new(STATE).join("state")))?;
    Ok(links)
}

/// `KEY=value` lines of one of networkd's files; none when it is not there yet.
fn values(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn lease(path: &Path) -> Option<Lease> {
    let values = values(path);
    let list = |key: &str| values.get(key).into_iter().flat_map(|text| text.split_ascii_whitespace());
    let address = |key: &str| list(key).next().and_then(|text| text.parse::<IpAddr>().ok());
    Some(Lease {
        address: values.get("ADDRESS")?.clone(),
        server: address("SERVER_ADDRESS"),
        router: address("ROUTER"),
        ntp: list("NTP").map(str::to_owned).collect(),
    })
}

/// Writes the resolver's file by what networkd knows of name servers.
fn resolve_by(state: &BTreeMap<String, String>) -> Result<(), NetError> {
    let Some(servers) = state.get("DNS").filter(|servers| !servers.is_empty()) else { return Ok(()) };
    let mut text: String = servers
        .split_ascii_whitespace()
        // A server may carry a port, an interface and a name for TLS, which the C library does not know.
        .map(|server| format!("nameserver {}\n", server.split(['#', '%']).next().unwrap_or(server)))
        .collect();
    if let Some(domains) = state.get("DOMAINS").filter(|domains| !domains.is_empty()) {
        text.push_str(&format!("search {domains}\n"));
    }
    let path = Path::new(RESOLVER);
    match fs::read_to_string(path) {
        Ok(present) if present == text => Ok(()),
        _ => fs::write(path, text).map_err(file_error(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_networkd_writes_it() {
        let path = std::env::temp_dir().join(format!("sheaf-lease-{}", std::process::id()));
        let text = "# This is private data. Do not parse.\nADDRESS=10.0.2.15\nNETMASK=255.255.255.0\n\
                    ROUTER=10.0.2.2\nSERVER_ADDRESS=10.0.2.2\nNTP=10.0.2.3 10.0.2.4\nDNS=10.0.2.3\n";
        fs::write(&path, text).unwrap();
        let lease = lease(&path).unwrap();
        assert_eq!((lease.address.as_str(), lease.router), ("10.0.2.15", "10.0.2.2".parse().ok()));
        assert_eq!(lease.ntp, ["10.0.2.3", "10.0.2.4"]);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn files_of_others_stay_and_devices_of_ours_are_named() {
        let folder = std::env::temp_dir().join(format!("sheaf-networkd-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("70-ens3.network"), "[Match]\n").unwrap();
        fs::write(folder.join("50-sheaf-bond0.netdev"), "[NetDev]\nName=bond0\nKind=bond\n").unwrap();
        fs::write(folder.join("50-sheaf-bond0.network"), "[Match]\nName=bond0\n").unwrap();
        assert_eq!(remove_ours(&folder).unwrap(), ["bond0"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
