//! Links by policy on a running node: what works stays over a reboot, what cuts off is back within a minute and told.
//!
//! Why here: only a kernel, networkd, systemd and a switch together show that a node comes back. The switch knows VLANs:
//! in one of them there is a second network with DHCP, which the node's further NICs reach.
//! Route in: a restored node. Route out: its links from inside, and what the API says of them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_machine::Vlans;
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{Cluster, FURTHER_NICS, FURTHER_VLAN, READY, case};
use std::time::Duration;

/// A policy's way to its end: its turn, the trial, taking back, the report; emulated.
const ENACTED: Duration = Duration::from_secs(180);
/// What the issue allows from the change until everything is as it was.
const BACK: f64 = 60.0;
/// The second network's gateway, and the address that its DHCP gives first.
const GATEWAY: &str = "10.0.3.2";
const ADDRESS: &str = "10.0.3.15";

/// A bond of both further NICs under a bridge that keeps VLANs apart, and the second network's VLAN on it.
fn uplink() -> Value {
    json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeNetworkPolicy", "metadata": {"name": "uplink"},
        "spec": {"network": {
            "bonds": [{"name": "bond1", "ports": FURTHER_NICS, "primary": FURTHER_NICS[0]}],
            "bridges": [{"name": "br1", "ports": ["bond1"], "vlanAware": true}],
            "vlans": [{"name": "stor", "id": FURTHER_VLAN, "parent": "br1", "dhcp": true}],
        }},
    })
}

/// What the node says of `generation` of the policy, once that is at an end.
fn enactment(cluster: &Cluster, policy: &str, generation: &Value) -> Result<Value> {
    let name = format!("{policy}.node1");
    let ended = cluster.operator.wait(
        &format!("end of policy {policy}"),
        &["nodenetworkenactment", &name],
        ENACTED,
        |enactment| {
            let status = &enactment["status"];
            let at_end =
                ["Applied", "Degraded", "RolledBack", "Refused"].contains(&status["phase"].as_str()?);
            (at_end && status["generation"] == *generation).then(|| status.clone())
        },
    )?;
    Ok(ended)
}

/// Applies `policy` and gives what became of it.
fn enact(cluster: &Cluster, policy: &Value) -> Result<Value> {
    cluster.operator.wait_apply(&policy.to_string(), READY)?;
    let name = policy["metadata"]["name"].as_str().context("a policy without a name")?;
    let text = cluster.operator.kubectl(&["get", "nodenetworkpolicy", name, "-o", "json"])?;
    let object: Value = serde_json::from_str(&text)?;
    enactment(cluster, name, &object["metadata"]["generation"])
}

/// From inside: bond, bridge and VLAN are as the good policy says, and their network answers.
fn uplink_works(cluster: &Cluster) -> Result<()> {
    let links = |words: &str| -> Result<Value> {
        Ok(serde_json::from_str(&cluster.root(&format!("ip -json -details {words}"))?)?)
    };
    let bond = links("link show bond1")?[0].clone();
    ensure!(bond["linkinfo"]["info_data"]["mode"] == "active-backup", "{bond}");
    ensure!(bond["master"] == "br1" && bond["mtu"] == 1500, "{bond}");
    let bridge = links("link show br1")?[0].clone();
    ensure!(bridge["linkinfo"]["info_data"]["vlan_filtering"] == 1, "{bridge}");
    let vlan = links("address show stor")?[0].clone();
    ensure!(vlan["linkinfo"]["info_data"]["id"] == FURTHER_VLAN, "{vlan}");
    ensure!(
        vlan["addr_info"].as_array().is_some_and(|all| all.iter().any(|is| is["local"] == ADDRESS)),
        "{vlan}"
    );
    let ports = links("link show master bond1")?;
    ensure!(ports.as_array().is_some_and(|ports| ports.len() == FURTHER_NICS.len()), "{ports}");
    let first = links("link show br0")?[0].clone();
    ensure!(first["mtu"] == 1500, "{first}");
    // A refused connection is an answer as well; what does not answer lets it wait.
    let knock = |address: &str| format!("timeout 20 bash -c 'echo > /dev/tcp/{address}/9' 2>&1 || true");
    for address in [GATEWAY, "10.0.2.2"] {
        let said = cluster.root(&knock(address))?;
        ensure!(said.contains("refused"), "{address}: {said}");
    }
    Ok(())
}

#[test]
fn a_good_policy_stays_over_a_reboot_and_goes_when_it_is_deleted() {
    case("network-policy", |case| {
        let mut cluster = case.cluster()?;
        let status = enact(&cluster, &uplink())?;
        assert_eq!(status["phase"], "Applied", "{status}");
        uplink_works(&cluster)?;
        cluster.operator.wait("bridge among the node's resources", &["node", "node1"], READY, |node| {
            node["status"]["capacity"].as_object()?.keys().any(|key| key.ends_with("/br1")).then_some(())
        })?;
        let shown = cluster.operator.kubectl(&["get", "nodenetworkstate", "node1", "-o", "json"])?;
        let shown: Value = serde_json::from_str(&shown)?;
        let links = shown["status"]["links"].as_array().context("no links")?;
        let stor = links.iter().find(|link| link["name"] == "stor").context("stor is not shown")?;
        assert_eq!(
            (&stor["askedBy"], &stor["vlan"]),
            (&json!("policy uplink"), &json!(FURTHER_VLAN)),
            "{stor}"
        );
        assert_eq!(shown["status"]["management"], "br0");
        let page = cluster.root("sheaf-agent network")?;
        assert!(page.contains("policy uplink") && page.contains("Applied"), "{page}");

        cluster.power_cycle()?;
        cluster.boot_id(BOOT_DEADLINE)?;
        let back = sheaf_host::wait::until(READY, Duration::from_secs(2), || uplink_works(&cluster).ok());
        assert!(back.is_some(), "after the reboot: {:?}", uplink_works(&cluster));
        // It was there from the start, not tried again.
        let tried =
            cluster.root("journalctl --boot --unit sheaf-agent --grep 'on trial, rolled back' || true")?;
        assert!(!tried.contains("policy uplink"), "{tried}");

        cluster.operator.wait_node_ready("node1", BOOT_DEADLINE)?;
        cluster.operator.kubectl(&["delete", "nodenetworkpolicy", "uplink", "--wait=false"])?;
        let gone = sheaf_host::wait::until(ENACTED, Duration::from_secs(2), || {
            let said = cluster.operator.kubectl(&["get", "nodenetworkpolicies", "-o", "name"]).ok()?;
            said.trim().is_empty().then_some(())
        });
        assert!(gone.is_some(), "the policy goes when its node is rid of it");
        let links = cluster.root("ls /sys/class/net")?;
        assert!(["br1", "bond1", "stor"].iter().all(|link| !links.contains(link)), "{links}");
        Ok(())
    });
}

#[test]
fn every_broken_property_of_an_uplink_is_taken_back_within_a_minute_and_told() {
    case("network-broken", |case| {
        let cluster = case.cluster()?;
        let status = enact(&cluster, &uplink())?;
        assert_eq!(status["phase"], "Applied", "{status}");
        uplink_works(&cluster)?;
        // The switch carries packets of 1500 bytes, and knows nothing behind the second NIC.
        cluster.switch.limit(1514);
        cluster.switch.set(&cluster.further_port(1), Vlans::trunk(&[]));

        let broken = |change: &dyn Fn(&mut Value)| {
            let mut policy = uplink();
            change(&mut policy["spec"]["network"]);
            policy
        };
        let bond = |bond: Value| broken(&|links| links["bonds"][0] = bond.clone());
        let cases: [(&str, Value, &str, &str); 5] = [
            (
                "wrong VLAN",
                broken(&|links| links["vlans"][0]["id"] = json!(FURTHER_VLAN + 1)),
                "links",
                "stor",
            ),
            (
                "bond mode",
                bond(json!({"name": "bond1", "ports": FURTHER_NICS, "mode": "802.3ad"})),
                "links",
                "LACP",
            ),
            (
                "gateway",
                broken(&|links| {
                    links["vlans"][0]["routes"] = json!([{"to": "10.0.2.2/32", "via": "10.0.3.99"}]);
                }),
                "gateway",
                "10.0.2.2",
            ),
            ("port removed", bond(json!({"name": "bond1", "ports": [FURTHER_NICS[1]]})), "links", "stor"),
            (
                "packets that the path swallows",
                broken(&|links| {
                    let first = json!({"name": "br0", "mtu": 9000});
                    links["bridges"]
                        .as_array_mut()
                        .into_iter()
                        .for_each(|bridges| bridges.push(first.clone()));
                }),
                "packets",
                "9000",
            ),
        ];
        for (what, policy, probe, word) in cases {
            let status = enact(&cluster, &policy).with_context(|| what.to_owned())?;
            ensure!(status["phase"] == "RolledBack", "{what}: {status}");
            ensure!(status["failedProbe"] == probe, "{what}: {status}");
            ensure!(status["message"].as_str().is_some_and(|said| said.contains(word)), "{what}: {status}");
            let back = trial_seconds(&cluster)?;
            eprintln!("{what}: back {back:.1} s after the change");
            ensure!(back <= BACK, "{what}: back after {back} s");
            let works = sheaf_host::wait::until(Duration::from_secs(30), Duration::from_secs(2), || {
                uplink_works(&cluster).ok()
            });
            ensure!(works.is_some(), "{what}: {:?}", uplink_works(&cluster));
        }
        Ok(())
    });
}

/// Seconds from the last change until it was rolled back, by the journal.
fn trial_seconds(cluster: &Cluster) -> Result<f64> {
    let time = |words: &str| -> Result<f64> {
        let line = cluster.root(&format!(
            "journalctl --boot --output short-monotonic --no-hostname --grep '{words}' | tail -n 1"
        ))?;
        let seconds = line.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
        seconds.parse().with_context(|| format!("no time in {line}"))
    };
    Ok(time("rolled back: the links are as before")? - time("on trial, rolled back in")?)
}

#[test]
fn a_killed_agent_does_not_leave_its_node_cut_off() {
    case("network-agent-killed", |case| {
        let cluster = case.cluster()?;
        cluster.switch.limit(1514);
        // Dead for good: it is systemd that rolls back, and nothing of ours that lives.
        cluster.root(
            "mkdir -p /run/systemd/system/sheaf-agent.service.d && \
             printf '[Service]\\nRestart=no\\n' > /run/systemd/system/sheaf-agent.service.d/dead.conf && \
             systemctl daemon-reload",
        )?;
        let policy = json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeNetworkPolicy", "metadata": {"name": "jumbo"},
            "spec": {"network": {"bridges": [{"name": "br0", "mtu": 9000}]}},
        });
        cluster.operator.wait_apply(&policy.to_string(), READY)?;
        let mtu = "cat /sys/class/net/br0/mtu";
        let changed = sheaf_host::wait::until(ENACTED, Duration::from_millis(300), || {
            (cluster.root(mtu).ok()? == "9000").then_some(())
        });
        assert!(changed.is_some(), "the change is tried");
        cluster.root("systemctl kill --signal KILL sheaf-agent")?;
        let killed = std::time::Instant::now();
        let back = sheaf_host::wait::until(Duration::from_secs(90), Duration::from_millis(300), || {
            (cluster.root(mtu).ok()? == "1500").then_some(())
        });
        assert!(back.is_some(), "systemd takes it back");
        let after = killed.elapsed().as_secs_f64();
        eprintln!("back {after:.1} s after the agent was killed");
        assert!(after <= BACK, "back after {after} s");
        assert_eq!(cluster.root("systemctl is-active sheaf-agent || true")?, "failed");

        cluster.root("rm -r /run/systemd/system/sheaf-agent.service.d && systemctl daemon-reload && systemctl start sheaf-agent")?;
        let status = enactment(&cluster, "jumbo", &json!(1))?;
        assert_eq!(status["phase"], "RolledBack", "{status}");
        assert!(
            status["message"].as_str().is_some_and(|said| said.contains("it was not confirmed in time")),
            "{status}"
        );
        assert_eq!(cluster.root(mtu)?, "1500");
        Ok(())
    });
}

#[test]
fn an_operators_hand_comes_the_same_way() {
    case("network-by-hand", |case| {
        let cluster = case.cluster()?;
        let file = "bridges: [{name: br7, ports: [\"52:54:00:5e:af:81\"], vlanAware: true}]";
        cluster.root(&format!("echo '{file}' > /run/br7.yaml"))?;
        let shell = |command: &str| cluster.machine.shell().run(command, ENACTED);
        let said = shell("sheaf-agent network apply /run/br7.yaml --within 60")?;
        assert!(said.contains("sheaf-agent network confirm"), "{said}");
        assert!(cluster.root("ls /sys/class/net")?.contains("br7"));
        assert!(cluster.root("sheaf-agent network confirm")?.contains("kept"));
        assert!(cluster.root("cat /state/network/confirmed.json")?.contains("br7"));

        // One that nobody confirms goes by itself; one that is reverted, at once.
        cluster.root("echo '{}' > /run/nothing.yaml")?;
        let said = shell("sheaf-agent network apply /run/nothing.yaml --within 40")?;
        assert!(said.contains("on trial"), "{said}");
        let back = sheaf_host::wait::until(Duration::from_secs(90), Duration::from_secs(1), || {
            cluster.root("ls /sys/class/net").ok()?.contains("br7").then_some(())
        });
        assert!(back.is_some(), "br7 comes back");
        shell("sheaf-agent network apply /run/nothing.yaml --within 300")?;
        assert!(cluster.root("sheaf-agent network revert")?.contains("rolled back"));
        assert!(cluster.root("ls /sys/class/net")?.contains("br7"));
        shell("sheaf-agent network apply /run/nothing.yaml --confirm")?;
        assert!(!cluster.root("ls /sys/class/net")?.contains("br7"));
        let (code, said) =
            cluster.machine.shell().exit_code("echo 'bridges: [{name: br0, dhcp: true}]' > /run/bad.yaml; sheaf-agent network apply /run/bad.yaml", ENACTED)?;
        assert!(code != 0 && said.contains("br0 is a link of node.toml"), "{said}");
        Ok(())
    });
}
