//! An installed node is as its node.toml asks: a bond, VLANs on it, bridges, a NIC known by its place; and what
//! `[system]` says of the host.
//!
//! Asked is networkd itself, over D-Bus, and the kernel, as JSON; that a VLAN's tag is on the wire is seen by a listener
//! at the switch.

use anyhow::{Context as _, Result};
use serde_json::Value;
use sheaf_host::wait::until;
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::spec::Nic;
use sheaf_machine::{Medium, NodeMachine, Operator, Switch, lab};
use sheaf_tests::harness::case;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ports of the bond, then the NIC that is told by its place.
const NICS: [&str; 3] = ["52:54:00:5e:af:81", "52:54:00:5e:af:82", "52:54:00:5e:af:83"];
/// A look whether the shell is there.
const LOOK: Duration = Duration::from_secs(5);
/// One command in the node.
const ANSWER: Duration = Duration::from_secs(60);
/// What networkd does after its files are there.
const CONFIGURED: Duration = Duration::from_secs(120);
/// Ethernet's type of a frame with a VLAN's tag, and of ARP.
const TAGGED: [u8; 2] = [0x81, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

/// What is added to `[system]`.
const SYSTEM: &str = r#"timezone = "Asia/Tokyo"
sysctl = { "vm.swappiness" = "7" }
modules = ["dummy"]
kernel-arguments = ["sheaf_case=links"]
"#;
/// And behind everything.
const FILE: &str = r#"
[[system.file]]
path = "/etc/case/secret.conf"
mode = "0600"
content = "as asked\n"
"#;

/// What is added to the first node's config, whose br0 with its address stays.
fn links() -> String {
    let [first, second, _] = NICS;
    let place = Nic::place(2);
    format!(
        r#"
[[network.bond]]
name = "bond0"
ports = ["{first}", "{second}"]
mode = "active-backup"
primary = "{second}"
mtu = 9000

[[network.vlan]]
name = "storage"
id = 30
parent = "bond0"
mtu = 8000
addresses = ["10.30.0.11/24", "2001:db8:30::11/64"]
routes = [{{ to = "10.31.0.0/16", via = "10.30.0.1", metric = 50 }}]

[[network.vlan]]
name = "vms"
id = 40
parent = "bond0"

[[network.bridge]]
name = "br40"
ports = ["vms"]
mtu = 1400
dhcp = false

[[network.nic]]
name = "trunk0"
path = "{place}"

[[network.bridge]]
name = "br1"
ports = ["trunk0"]
vlan-aware = true
vlans = ["100-109", "200"]
dhcp = false

[[network.vlan]]
name = "backup"
id = 105
parent = "br1"
addresses = ["10.105.0.11/24"]
"#
    )
}

#[test]
fn bond_vlans_and_bridges_of_an_installed_node_are_as_its_node_toml_asks() {
    case("links", |case| {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let node = lab::Node::first(&operator.admin_key()?);
        let config = case.work().join("node.toml");
        let text = node.toml().replacen("[system]\n", &format!("[system]\n{SYSTEM}"), 1);
        std::fs::write(&config, text + FILE + &links())?;
        let iso = case.work().join("links.iso");
        operator.iso(&built.release, &config, &[], &iso)?;

        let switch = Switch::start()?;
        let mut machine = NodeMachine::blank(&case.tools, &node, case.work(), &case.artefacts())?;
        machine.spec.nics = NICS.map(Nic::new).to_vec();
        machine.spec.nics[..2].iter_mut().for_each(|nic| nic.switch = Some(switch.socket()));
        let mut complaints = Vec::new();
        machine.install(Medium::Cd(iso), |line| {
            if line.contains("mode dependency failed") {
                complaints.push(line.to_owned());
            }
        })?;
        assert_eq!(complaints, [""; 0], "the installer's bond has the mode that was asked for");
        machine.spec.shell = true;
        let running = machine.boot()?;
        let shell = running.shell();
        let root = |command: &str| -> Result<String> { Ok(shell.run(command, ANSWER)?) };
        // It comes with the control plane.
        let ready = until(BOOT_DEADLINE, Duration::from_secs(1), || shell.run("true", LOOK).ok());
        ready.context("the node's shell does not answer")?;

        let networkd = Networkd::ask(&root)?;
        // Addresses with prefixes, MTU, master: by networkd.
        assert_eq!(networkd.addresses("br0"), ["10.0.2.11/24"]);
        assert_eq!(networkd.addresses("storage"), ["10.30.0.11/24", "2001:db8:30::11/64"]);
        assert_eq!(networkd.addresses("backup"), ["10.105.0.11/24"]);
        for bare in ["bond0", "vms", "br40", "br1"] {
            assert_eq!(networkd.addresses(bare), [""; 0], "{bare} has no address");
        }
        for (name, mtu) in
            [("br0", 1500), ("bond0", 9000), ("storage", 8000), ("vms", 1400), ("br40", 1400), ("br1", 1500)]
        {
            assert_eq!(networkd.link(name)["MTU"], mtu, "{name}");
        }
        let nics = NICS.map(|mac| networkd.nic(mac));
        for (port, master) in [(&*nics[0], "bond0"), (&nics[1], "bond0"), ("vms", "br40"), (&nics[2], "br1")]
        {
            assert_eq!(networkd.master(port), Some(master.to_owned()), "{port}");
        }
        assert!(
            networkd.link(&nics[2])["AlternativeNames"]
                .as_array()
                .is_some_and(|names| { names.iter().any(|name| name == "trunk0") })
        );
        for (name, kind) in
            [("bond0", "bond"), ("storage", "vlan"), ("vms", "vlan"), ("br40", "bridge"), ("br1", "bridge")]
        {
            assert_eq!(networkd.link(name)["Kind"], kind, "{name}");
            assert_eq!(networkd.link(name)["AdministrativeState"], "configured", "{name}");
        }
        assert!(networkd.has_route("storage", [10, 31, 0, 0], 16, [10, 30, 0, 1]));

        // Numbers of VLANs, mode of the bond, tags that pass: by the kernel.
        let kernel = Kernel::ask(&root)?;
        for (name, id, parent) in [("storage", 30, "bond0"), ("vms", 40, "bond0"), ("backup", 105, "br1")] {
            let link = kernel.link(name);
            assert_eq!(link["linkinfo"]["info_data"]["id"], id, "{name}");
            assert_eq!(link["link"], parent, "{name}");
        }
        let bond = &kernel.link("bond0")["linkinfo"]["info_data"];
        assert_eq!(bond["mode"], "active-backup");
        assert_eq!(bond["active_slave"], nics[1].as_str(), "the preferred port is in use");
        assert_eq!(kernel.link("br1")["linkinfo"]["info_data"]["vlan_filtering"], 1);
        assert_eq!(kernel.tags(&nics[2]), [(1, 1), (100, 109), (200, 200)]);
        assert_eq!(kernel.tags("br1"), [(1, 1), (105, 105)]);

        // The host.
        assert_eq!(root("cat /proc/sys/vm/swappiness")?, "7");
        assert_eq!(root("readlink /etc/localtime")?, "../usr/share/zoneinfo/Asia/Tokyo");
        assert_eq!(root("test -d /sys/module/dummy && echo loaded")?, "loaded");
        assert!(root("cat /proc/cmdline")?.split(' ').any(|word| word == "sheaf_case=links"));
        assert_eq!(root("stat -c %a /etc/case/secret.conf; cat /etc/case/secret.conf")?, "600\nas asked");

        // And on the wire.
        let sent = listen(&switch.socket(), || root("bash -c 'echo >/dev/udp/10.30.0.77/9'").map(drop))?;
        assert_eq!(sent, 30, "who looks for a neighbour on storage asks with its tag");
        Ok(())
    });
}

/// What networkd says of all links.
struct Networkd(Vec<Value>);

impl Networkd {
    /// Waits until no link is being configured.
    fn ask(root: &dyn Fn(&str) -> Result<String>) -> Result<Self> {
        const CALL: &str = "busctl --json=short call org.freedesktop.network1 /org/freedesktop/network1 \
                            org.freedesktop.network1.Manager Describe";
        let mut last = String::new();
        let found = until(CONFIGURED, Duration::from_secs(2), || {
            let answer: Value = serde_json::from_str(&root(CALL).ok()?).ok()?;
            let all: Value = serde_json::from_str(answer["data"][0].as_str()?).ok()?;
            last = all.to_string();
            let links = all["Interfaces"].as_array()?;
            let is_busy = |link: &Value| {
                ["pending", "initialized", "configuring"]
                    .map(Value::from)
                    .contains(&link["AdministrativeState"])
            };
            let there = |name: &str| links.iter().any(|link| link["Name"] == name);
            (!links.iter().any(is_busy) && there("backup")).then(|| Self(links.clone()))
        });
        found.with_context(|| format!("networkd is not done: {last}"))
    }

    fn link(&self, name: &str) -> &Value {
        let found = self.0.iter().find(|link| link["Name"] == name);
        found.unwrap_or_else(|| panic!("networkd knows no {name}: {:?}", self.0))
    }

    /// The name of the NIC that was made with `mac`.
    fn nic(&self, mac: &str) -> String {
        let mac: Vec<Value> =
            mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap().into()).collect();
        let found = self.0.iter().find(|link| link["PermanentHardwareAddress"].as_array() == Some(&mac));
        found.unwrap_or_else(|| panic!("no NIC {mac:?}: {:?}", self.0))["Name"].as_str().unwrap().to_owned()
    }

    /// Addresses that somebody gave: not those that the kernel makes of the MAC.
    fn addresses(&self, name: &str) -> Vec<String> {
        let addresses = self.link(name)["Addresses"].as_array().cloned().unwrap_or_default();
        let mut given: Vec<_> = addresses
            .iter()
            .filter(|address| address["ConfigSource"] == "static")
            .map(|address| format!("{}/{}", ip(&address["Address"]), address["PrefixLength"]))
            .collect();
        given.sort();
        given
    }

    fn master(&self, name: &str) -> Option<String> {
        let index = self.link(name)["MasterInterfaceIndex"].as_u64()?;
        let master = self.0.iter().find(|link| link["Index"] == index)?;
        master["Name"].as_str().map(str::to_owned)
    }

    fn has_route(&self, name: &str, to: [u8; 4], prefix: u8, via: [u8; 4]) -> bool {
        let routes = self.link(name)["Routes"].as_array().cloned().unwrap_or_default();
        routes.iter().any(|route| {
            route["Destination"] == Value::from(to.to_vec())
                && route["DestinationPrefixLength"] == prefix
                && route["Gateway"] == Value::from(via.to_vec())
                && route["Priority"] == 50
        })
    }
}

/// networkd writes an address as a list of bytes.
fn ip(bytes: &Value) -> String {
    let bytes: Vec<u8> = serde_json::from_value(bytes.clone()).unwrap_or_default();
    match (<[u8; 4]>::try_from(&bytes[..]), <[u8; 16]>::try_from(&bytes[..])) {
        (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
        (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
        _ => format!("{bytes:?}"),
    }
}

/// What the kernel says.
struct Kernel {
    links: BTreeMap<String, Value>,
    bridged: Vec<Value>,
}

impl Kernel {
    fn ask(root: &dyn Fn(&str) -> Result<String>) -> Result<Self> {
        let list = |command: &str| -> Result<Vec<Value>> {
            let text = root(command)?;
            serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
        };
        let named = |link: Value| Some((link["ifname"].as_str()?.to_owned(), link));
        Ok(Self {
            links: list("ip -json -details link show")?.into_iter().filter_map(named).collect(),
            bridged: list("bridge -json vlan show")?,
        })
    }

    fn link(&self, name: &str) -> &Value {
        &self.links[name]
    }

    /// First and last number of each range of VLANs that pass at `port`.
    fn tags(&self, port: &str) -> Vec<(u64, u64)> {
        let vlans = self.bridged.iter().find(|link| link["ifname"] == port);
        let vlans = vlans.and_then(|link| link["vlans"].as_array()).cloned().unwrap_or_default();
        let range = |vlan: &Value| {
            let first = vlan["vlan"].as_u64()?;
            Some((first, vlan["vlanEnd"].as_u64().unwrap_or(first)))
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (first, last) in vlans.iter().filter_map(range) {
            match ranges.last_mut() {
                // The kernel may list each by itself.
                Some(before) if before.1 + 1 == first && before.0 > 1 => before.1 = last,
                _ => ranges.push((first, last)),
            }
        }
        ranges
    }
}

/// Plugs into the switch, does `act`, and gives the VLAN of the first ARP question with a tag that comes by.
fn listen(switch: &Path, act: impl Fn() -> Result<()>) -> Result<u16> {
    let mut cable = UnixStream::connect(switch)?;
    cable.set_read_timeout(Some(ANSWER))?;
    act()?;
    let begin = Instant::now();
    while begin.elapsed() < ANSWER {
        let mut length = [0; 4];
        cable.read_exact(&mut length).context("no tagged question came by")?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        cable.read_exact(&mut frame)?;
        if frame.get(12..14) == Some(&TAGGED) && frame.get(16..18) == Some(&ARP) {
            return Ok(u16::from_be_bytes([frame[14], frame[15]]) & 0x0fff);
        }
    }
    anyhow::bail!("no tagged question came by within {} s", ANSWER.as_secs())
}
