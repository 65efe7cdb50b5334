//! Networks of VMs on a node: VLANs apart and together, the way out, and what a bad guest does not get through.
//!
//! Why here: only a node has VLAN-aware bridges, networkd's DHCP and NAT, and libvirt that puts taps into VLANs.

use anyhow::{Context as _, Result};
use serde_json::Value;
use sheaf_tests::harness::{Cluster, READY, RUNNING, case};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The node's own bridge keeps VLANs apart from now on.
const POLICY: &str = r#"
apiVersion: sheaf.dev/v1alpha1
kind: NodeNetworkPolicy
metadata: {name: vlans}
spec: {network: {bridges: [{name: br0, vlanAware: true}]}}
"#;
const NETWORKS: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: lan100}
spec: {config: '{"cniVersion": "0.3.1", "type": "bridge", "bridge": "br0", "vlan": 100}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: trunk}
spec: {config: '{"cniVersion": "0.3.1", "type": "bridge", "bridge": "br0", "vlanTrunk": [{"id": 100}, {"id": 200}]}'}
"#;

/// In VLAN 100 without knowing it; tries everything that it may not do. `OUTSIDE` is the place of a server beyond the node's
/// networks: address and port.
const BAD: &str = r#"#!/bin/sh
# hostname: bad
[ "$(nc -w 20 OUTSIDE </dev/null)" = "hello guest" ] && echo outside reached || echo outside silent
nslookup node1 100.127.240.1 >/dev/null 2>&1 && echo names reached || echo names silent
ping -c 3 -W 3 10.0.2.2 >/dev/null && echo node network reached || echo node network silent
ping -c 3 -W 3 100.127.240.1 >/dev/null && echo node reached || echo node silent
nc -w 5 100.127.240.1 6443 </dev/null >/dev/null 2>&1 && echo api reached || echo api silent
ip link set eth1 up
ip addr add 192.168.100.1/24 dev eth1
ip addr add 192.168.200.1/24 dev eth1
until ping -c 1 -W 2 192.168.100.2 >/dev/null; do sleep 1; done
echo lan reached
ping -c 3 -W 2 192.168.200.2 >/dev/null && echo other lan reached || echo other lan silent
printf 'start 192.168.100.20\nend 192.168.100.30\ninterface eth1\nlease_file /tmp/leases\n' > /tmp/udhcpd.conf
: > /tmp/leases
udhcpd -f /tmp/udhcpd.conf >/dev/null 2>&1 &
ip addr add 192.168.100.77/24 dev eth1
arping -c 2 -w 3 -I eth1 -s 192.168.100.77 192.168.100.2 >/dev/null 2>&1 && echo arp reached || echo arp silent
ip neigh replace 192.168.100.2 lladdr "$(ip neigh show 192.168.100.2 dev eth1 | awk '{print $3}')" dev eth1
ping -c 2 -W 2 -I 192.168.100.77 192.168.100.2 >/dev/null && echo address reached || echo address silent
sleep 40
mac=$(cat /sys/class/net/eth1/address)
ip link set eth1 down; ip link set eth1 address 02:00:00:00:00:99; ip link set eth1 up
ping -c 3 -W 2 192.168.100.2 >/dev/null && echo mac reached || echo mac silent
ip link set eth1 down; ip link set eth1 address "$mac"; ip link set eth1 up
ping -c 5 -W 3 192.168.100.2 >/dev/null && echo lan reached again || echo lan lost
echo bad done
"#;

/// Of the one with a trunk beside it.
const GOOD: &str = r#"until ping -c 1 -W 2 192.168.100.1 >/dev/null; do sleep 1; done
echo trunk reached
sleep 5
udhcpc -i t100 -n -q -t 5 -T 3 -s /bin/true >/dev/null 2>&1 && echo lease taken || echo lease none
echo good done
"#;

/// Untagged in VLAN 100, on another node; it has an address that the other VM looks for in VLAN 200, too.
const ACCESS: &str = r#"#!/bin/sh
# hostname: access
ip addr add 192.168.100.2/24 dev eth1
ip addr add 192.168.200.2/24 dev eth1
ip link set eth1 up
"#;

/// Of the one with a trunk on the first node.
const TRUNK: &str = r#"until ping -c 1 -W 2 192.168.100.2 >/dev/null; do sleep 1; done
echo other node reached
ping -c 3 -W 2 192.168.200.2 >/dev/null && echo other vlan reached || echo other vlan silent
"#;

/// The script of a VM with a trunk: it is host number `host` in VLANs 100 and 200 by its own tags, then does `script`.
fn tagged(name: &str, host: u8, script: &str) -> String {
    format!(
        r#"#!/bin/sh
# hostname: {name}
ip link set eth1 up
for id in 100 200; do
    ip link add link eth1 name t$id type vlan id $id
    ip addr add 192.168.$id.{host}/24 dev t$id
    ip link set t$id up
done
{script}"#
    )
}

/// A VM on a node of these labels, with an interface behind its node and one in `network`.
fn vm(name: &str, node: &str, network: &str, script: &str, annotations: &str) -> String {
    let script: String = script.lines().map(|line| format!("              {line}\n")).collect();
    format!(
        r#"---
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: {name}}}
spec:
  runStrategy: Always
  template:
    metadata: {{annotations: {{{annotations}}}}}
    spec:
      nodeSelector: {{{node}}}
      domain:
        memory: {{guest: 192Mi}}
        devices:
          disks: [{{name: system}}, {{name: seed}}]
          interfaces: [{{name: out, masquerade: {{}}}}, {{name: lan, bridge: {{}}}}]
      networks: [{{name: out, pod: {{}}}}, {{name: lan, multus: {{networkName: {network}}}}}]
      volumes:
        - name: system
          hostDisk: {{path: /data/images/guest.raw, type: Disk}}
        - name: seed
          cloudInitNoCloud:
            userData: |
{script}"#
    )
}

/// On the bridge of the nodes, where it was asked for: says that it is the gateway, to everybody, for two minutes.
const CLAIMS: &str = r#"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: claims}
spec:
  runStrategy: Always
  template:
    spec:
      domain:
        memory: {guest: 192Mi}
        devices:
          disks: [{name: system}, {name: seed}]
          interfaces: [{name: lan, bridge: {}}]
      networks: [{name: lan, pod: {}}]
      volumes:
        - name: system
          hostDisk: {path: /data/images/guest.raw, type: Disk}
        - name: seed
          cloudInitNoCloud:
            userData: |
              #!/bin/sh
              # hostname: claims
              ip link set eth0 up
              ip addr add 10.0.2.2/24 dev eth0
              echo claims begin
              for round in $(seq 1 60); do
                  arping -U -c 1 -w 1 -I eth0 -s 10.0.2.2 10.0.2.2 >/dev/null 2>&1
                  ping -c 1 -W 1 -I 10.0.2.2 10.0.2.15 >/dev/null 2>&1 && echo node reached
              done
              echo claims done
"#;

/// A server that greets anyone who connects, at this machine's own address: beyond the networks of the nodes.
fn outside() -> Result<String> {
    // Sends nothing: the kernel says which of its addresses it would use.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9").context("this machine has no route to anywhere; the case needs one")?;
    let listener = std::net::TcpListener::bind((socket.local_addr()?.ip(), 0))?;
    let place = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A guest that goes away is its own matter.
            let _ = std::io::Write::write_all(&mut stream, b"hello guest\n");
        }
    });
    Ok(format!("{} {}", place.ip(), place.port()))
}

/// The port of interface `name` of VM `vm`, as the node shows it.
fn port(cluster: &Cluster, vm: &str, name: &str) -> Result<Value> {
    let network: Value = serde_json::from_str(&cluster.root("sheaf-agent network --json")?)?;
    let ports = network["vm_ports"].as_array().cloned().unwrap_or_default();
    let is_it = |port: &Value| port["vm"] == format!("default/{vm}") && port["interface"] == name;
    ports.into_iter().find(is_it).with_context(|| format!("no port {name} of {vm} in {network}"))
}

/// Has the bridges of `nodes` keep VLANs apart.
fn keep_vlans_apart(cluster: &Cluster, nodes: &[&str]) -> Result<()> {
    cluster.operator.wait_apply(POLICY, READY)?;
    for name in nodes {
        cluster.operator.wait(
            &format!("VLANs of br0 among {name}'s resources"),
            &["node", name],
            READY,
            |node| {
                let offered = node["status"]["allocatable"].as_object()?;
                offered.contains_key("vlan.bridge.sheaf.dev/br0").then_some(())
            },
        )?;
    }
    Ok(())
}

#[test]
fn vms_on_two_nodes_meet_in_a_vlan_that_one_has_untagged_and_the_other_tagged() {
    case("vm-network-nodes", |case| {
        let cluster = case.cluster()?;
        let _second = case.second_node(&cluster)?;
        keep_vlans_apart(&cluster, &["node1", "node2"])?;
        let on = |node: &str| format!("kubernetes.io/hostname: {node}");
        let access = vm("access", &on("node2"), "lan100", ACCESS, "");
        let trunk = vm("trunk", &on("node1"), "default/trunk", &tagged("trunk", 1, TRUNK), "");
        cluster.operator.wait_apply(&[NETWORKS, &access, &trunk].concat(), READY)?;
        for (name, node) in [("access", "node2"), ("trunk", "node1")] {
            let vmi = cluster.operator.wait_vm_running(name, RUNNING)?;
            assert_eq!(vmi["status"]["nodeName"], node, "{name}");
        }
        for line in ["other node reached", "other vlan silent"] {
            cluster.console_line("trunk", &format!("guest: {line}"))?;
        }
        Ok(())
    });
}

#[test]
fn guests_are_in_their_vlans_go_out_behind_the_node_and_send_only_as_themselves() {
    case("vm-network", |case| {
        let cluster = case.cluster()?;
        cluster.operator.wait_apply(POLICY, READY)?;
        cluster.operator.wait(
            "VLANs of br0 among the node's resources",
            &["node", "node1"],
            READY,
            |node| {
                let offered = node["status"]["allocatable"].as_object()?;
                offered.contains_key("vlan.bridge.sheaf.dev/br0").then_some(())
            },
        )?;
        let own = r#"sheaf.dev/addresses: '{"lan": ["192.168.100.1", "192.168.200.1"]}'"#;
        let manifest = [
            NETWORKS,
            &vm("bad", "", "lan100", &BAD.replace("OUTSIDE", &outside()?), own),
            &vm("good", "", "default/trunk", &tagged("good", 2, GOOD), ""),
        ]
        .concat();
        cluster.operator.wait_apply(&manifest, READY)?;
        cluster.operator.wait_vm_running("bad", RUNNING)?;
        cluster.operator.wait_vm_running("good", RUNNING)?;

        for (vm, line) in [("good", "trunk reached"), ("good", "lease none"), ("bad", "bad done")] {
            cluster.console_line(vm, &format!("guest: {line}"))?;
        }
        let done = [
            "outside reached",
            "names reached",
            "node network silent",
            "node silent",
            "api silent",
            "lan reached",
            "other lan silent",
            "arp silent",
            "address silent",
            "mac silent",
            "lan reached again",
        ];
        for line in done {
            cluster.console_line("bad", &format!("guest: {line}"))?;
        }

        // Counted, each for what it is; the agent looks every ten seconds.
        let counted = sheaf_host::wait::until(Duration::from_secs(60), Duration::from_secs(3), || {
            let dropped = port(&cluster, "bad", "lan").ok()?["dropped"].clone();
            let all = ["mac", "arp", "ip", "dhcp"].iter().all(|why| dropped[*why].as_u64() > Some(0));
            all.then_some(dropped)
        });
        assert!(counted.is_some(), "{}", port(&cluster, "bad", "lan")?);
        let good = port(&cluster, "good", "lan")?;
        assert_eq!(
            (good["vlans"].as_str(), &good["dropped"]["mac"]),
            (Some("100,200"), &Value::from(0)),
            "{good}"
        );

        let address = |vmi: &Value, name: &str| {
            let interfaces = vmi["status"]["interfaces"].as_array()?;
            interfaces.iter().find(|interface| interface["name"] == name).cloned()
        };
        let known =
            cluster.operator.wait("addresses of both interfaces", &["vmi", "bad"], RUNNING, |vmi| {
                let (out, lan) = (address(vmi, "out")?, address(vmi, "lan")?);
                let is_leased = out["infoSource"].as_str()?.contains("dhcp");
                (is_leased && lan["ipAddress"].is_string()).then_some((out, lan))
            })?;
        // 100.127.240.0/20 is the nodes' private network.
        let out: Ipv4Addr = known.0["ipAddress"].as_str().unwrap_or_default().parse()?;
        let [100, 127, 240..=255, _] = out.octets() else { anyhow::bail!("{known:?}") };
        assert_eq!(known.1["ipAddress"], "192.168.100.1", "{known:?}");

        let vlans = cluster.root("bridge -j vlan show")?;
        let vlans: Value = serde_json::from_str(&vlans)?;
        let of = |tap: &Value| {
            let port = vlans.as_array()?.iter().find(|port| port["ifname"] == *tap)?;
            Some(
                port["vlans"].as_array()?.iter().filter_map(|vlan| vlan["vlan"].as_u64()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&good["name"]), Some(vec![100, 200]), "{vlans}");
        assert_eq!(of(&port(&cluster, "bad", "lan")?["name"]), Some(vec![100]), "{vlans}");
        Ok(())
    });
}

#[test]
fn a_guest_on_the_bridge_of_the_nodes_that_claims_their_gateway_is_not_heard() {
    case("vm-network-gateway", |case| {
        let cluster = case.cluster()?;
        cluster.operator.wait_apply(CLAIMS, READY)?;
        cluster.operator.wait_vm_running("claims", RUNNING)?;
        cluster.console_line("claims", "guest: claims done")?;
        let counted = sheaf_host::wait::until(Duration::from_secs(60), Duration::from_secs(3), || {
            let dropped = port(&cluster, "claims", "lan").ok()?["dropped"].clone();
            (dropped["arp"].as_u64() >= Some(30)).then_some(dropped)
        });
        assert!(counted.is_some(), "{}", port(&cluster, "claims", "lan")?);
        let console = cluster.root("cat /data/vms/*/console.log")?;
        assert!(!console.contains("node reached"), "{console}");
        // Its gateway is the node's still, by the MAC that QEMU gives it.
        let gateway = cluster.root("ip neigh show 10.0.2.2")?;
        assert!(gateway.contains("52:55:0a:00:02:02"), "{gateway}");
        let node = cluster.operator.wait("node1", &["node", "node1"], READY, |node| Some(node.clone()))?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        assert_eq!(ready.context("Ready")?["status"], "True", "{node}");
        Ok(())
    });
}
