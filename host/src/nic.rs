//! Network NICs of this machine, from sysfs.
//!
//! Route in: the root of the machine's tree. Route out: one [`Nic`] for each wired NIC; bridges, bonds, VLANs,
//! wireless NICs and other links that are no NIC are left out.

use std::fs;
use std::path::Path;

/// ARPHRD_ETHER of linux/if_arp.h.
const ETHERNET: &str = "1";

/// One wired NIC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nic {
    /// Kernel name, `enp1s0`.
    pub name: String,
    /// MAC address the NIC was made with, lower case; a changed address is not it, then this is empty.
    pub permanent_mac: Option<String>,
    /// Its place on the machine's buses, as udev names it: `pci-0000:01:00.0`.
    pub path: Option<String>,
    /// Driver, `virtio_net`.
    pub driver: Option<String>,
    /// A cable is in it; unknown while the link is down.
    pub carrier: Option<bool>,
}

/// All wired NICs, by name.
pub fn wired(root: &Path) -> std::io::Result<Vec<Nic>> {
    let mut nics = Vec::new();
    for entry in fs::read_dir(root.join("sys/class/net"))? {
        let entry = entry?;
        let dir = entry.path();
        let text =
            |file: &str| fs::read_to_string(dir.join(file)).ok().map(|text| text.trim().to_lowercase());
        let is_nic = dir.join("device").exists() && text("type").as_deref() == Some(ETHERNET);
        if !is_nic || dir.join("wireless").exists() || dir.join("phy80211").exists() {
            continue;
        }
        let driver = fs::read_link(dir.join("device/driver")).ok();
        nics.push(Nic {
            name: entry.file_name().to_string_lossy().into_owned(),
            path: place(root, &entry.file_name().to_string_lossy()),
            permanent_mac: permanent_mac(&dir),
            driver: driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned())),
            carrier: text("carrier").map(|carrier| carrier == "1"),
        });
    }
    nics.sort();
    Ok(nics)
}

/// The MAC that the NIC whose directory is `dir` was made with, as far as sysfs tells.
pub(crate) fn permanent_mac(dir: &Path) -> Option<String> {
    let text = |file: &str| fs::read_to_string(dir.join(file)).ok().map(|text| text.trim().to_lowercase());
    let is_untouched = text("addr_assign_type").as_deref() == Some("0"); // NET_ADDR_PERM
    // A bond gives its ports one address and remembers theirs.
    text("bonding_slave/perm_hwaddr").or_else(|| text("address").filter(|_| is_untouched))
}

/// The place of the NIC `name` on its bus, `pci-0000:01:00.0`: udev's `ID_PATH`.
pub fn place(root: &Path, name: &str) -> Option<String> {
    let index = fs::read_to_string(root.join("sys/class/net").join(name).join("ifindex")).ok()?;
    // udev's database: one file for each interface, one line for each property.
    let known = fs::read_to_string(root.join("run/udev/data").join(format!("n{}", index.trim()))).ok()?;
    known.lines().find_map(|line| line.strip_prefix("E:ID_PATH=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nics_are_found_and_bridges_and_wireless_are_not() {
        let root = std::env::temp_dir().join(format!("sheaf-nic-{}", std::process::id()));
        let link = |name: &str, files: &[(&str, &str)]| {
            let dir = root.join("sys/class/net").join(name);
            fs::create_dir_all(&dir).unwrap();
            for (file, text) in files {
                fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
                fs::write(dir.join(file), text).unwrap();
            }
        };
        let found_nic = [
            ("type", "1\n"),
            ("device/x", ""),
            ("addr_assign_type", "0\n"),
            ("address", "52:54:00:AA:00:01\n"),
        ];
        link("enp1s0", &found_nic);
        link("br0", &[("type", "1\n"), ("address", "52:54:00:aa:00:02\n")]);
        let port = [
            ("addr_assign_type", "3\n"),
            ("bonding_slave/perm_hwaddr", "52:54:00:aa:00:07\n"),
            ("ifindex", "7\n"),
        ];
        link("enp3s0", &[&found_nic[..], &port].concat());
        fs::create_dir_all(root.join("run/udev/data")).unwrap();
        fs::write(root.join("run/udev/data/n7"), "I:1\nE:ID_PATH=pci-0000:03:00.0\n").unwrap();
        link("wlp2s0", &[&found_nic[..], &[("wireless/x", "")]].concat());
        let nics = wired(&root).unwrap();
        assert_eq!(nics.len(), 2);
        assert_eq!(
            nics[1].permanent_mac.as_deref(),
            Some("52:54:00:aa:00:07"),
            "a bond's port keeps its own"
        );
        let places = nics.iter().map(|nic| nic.path.as_deref()).collect::<Vec<_>>();
        assert_eq!(places, [None, Some("pci-0000:03:00.0")]);
        assert_eq!(
            (nics[0].name.as_str(), nics[0].permanent_mac.as_deref()),
            ("enp1s0", Some("52:54:00:aa:00:01"))
        );
        fs::remove_dir_all(root).unwrap();
    }
}
