//! NICs that are added to a VM while it runs, and removed, and links: by a changed template, on the real control plane; and what
//! libvirt says to the XML that the agent writes for it.
//!
//! Why here: kube-scheduler alone counts ports and binds an attachment Pod, and policies of the API server alone refuse what others
//! try. The node is played by the test: what it reports of its Pods. What the agent decides is in agent/src/vms/plan/tests.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_agent::vms::domain_xml::render_nic;
use sheaf_agent::vms::filters::Port;
use sheaf_agent::vms::guest::{Guest, Nic};
use sheaf_api::devices::InterfaceModel;
use sheaf_api::links::Links;
use sheaf_api::network::NetworkAttachmentDefinitionSpec;
use sheaf_api::status::InterfaceStatus;
use sheaf_api::{NetworkAttachmentDefinition, VirtualMachine, VirtualMachineInstance};
use sheaf_host::libvirt::{nic_of, nic_with_link, read_domain};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::domains::{Domain, NAME, guest};
use sheaf_tests::played::{PlayedNode, as_node, cluster, vm};

/// A cluster whose node has the bridge br1, and a network `lan` in it.
async fn with_lan() -> Result<(Controlled, PlayedNode)> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    node.agent.publish.network.send_modify(|network| network.bridges.push("br1".into()));
    let nodes: Api<Node> = Api::all(on.client.clone());
    wait("the node offers ports of br1", async || {
        let status = nodes.get("n1").await?.status.unwrap_or_default();
        Ok(status.allocatable.unwrap_or_default().contains_key("bridge.sheaf.dev/br1").then_some(()))
    })
    .await?;
    let config = r#"{"cniVersion": "0.3.1", "type": "bridge", "bridge": "br1"}"#;
    let lan =
        NetworkAttachmentDefinition::new("lan", NetworkAttachmentDefinitionSpec { config: config.into() });
    let networks: Api<NetworkAttachmentDefinition> = Api::default_namespaced(on.client.clone());
    networks.create(&PostParams::default(), &lan).await?;
    Ok((on, node))
}

/// The template of a VM with the pod network and these interfaces of multus networks of their names.
fn template(lans: &[Value]) -> Value {
    let network = |lan: &Value| json!({"name": lan["name"], "multus": {"networkName": lan["name"]}});
    let of = |first: Value, rest: Vec<Value>| [first].into_iter().chain(rest).collect::<Vec<_>>();
    let interfaces = of(json!({"name": "default", "masquerade": {}}), lans.to_vec());
    let networks = of(json!({"name": "default", "pod": {}}), lans.iter().map(network).collect());
    json!({"domain": {"devices": {"interfaces": interfaces}}, "networks": networks})
}

/// Changes the template of VM `web`.
async fn change(on: &Controlled, lans: &[Value]) -> Result<()> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let patch = json!({"spec": {"template": {"spec": template(lans)}}});
    machines.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

fn lan(state: &str) -> Value {
    json!({"name": "lan", "bridge": {}, "state": state})
}

/// What the node reports of the attachment Pod of a NIC.
async fn says(pods: &Api<Pod>, pod: &str, state: Value) -> Result<()> {
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "hotplug-nic", "image": "x",
        "imageID": "", "ready": true, "restartCount": 0, "state": state}]}});
    pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

/// The node reports these interfaces of the VM.
async fn reports(on: &Controlled, launcher: &str, names: &[&str]) -> Result<()> {
    let seen: Vec<Value> = names.iter().map(|name| json!({"name": name, "infoSource": "domain"})).collect();
    let annotations = json!({"sheaf.dev/interfaces": json!(seen).to_string()});
    as_node(on, launcher, &json!({"metadata": {"annotations": annotations}})).await
}

/// Interface `lan` in the status of instance `web`.
async fn status(on: &Controlled) -> kube::Result<Option<InterfaceStatus>> {
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let status = instances.get("web").await?.status.unwrap_or_default();
    Ok(status.interfaces.into_iter().find(|one| one.name.as_deref() == Some("lan")))
}

/// Reason and message of a condition, of those of the instance or of the VM.
fn of_condition(
    conditions: &[sheaf_api::status::Condition],
    type_: &str,
) -> Option<(Option<String>, Option<String>)> {
    let found = conditions.iter().find(|one| one.type_ == type_ && one.status == "True");
    found.map(|one| (one.reason.clone(), one.message.clone()))
}

/// Waits until the Pod of VM `web` tells its node this of its links.
async fn told(pods: &Api<Pod>, launcher: &str, wanted: &Links) -> Result<()> {
    wait(&format!("the node is told {wanted:?}"), async || {
        Ok((Links::of(&pods.get(launcher).await?) == *wanted).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nic_is_added_to_a_vm_that_runs_by_its_template_and_removed_once_the_guest_released_it()
-> Result<()> {
    let (on, node) = with_lan().await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Always")?).await?;
    let (vmi, _serial) = node.run(&on, "web", "").await?;
    let launcher = sheaf_controller::placeholder::name(&vmi);

    change(&on, &[lan("up")]).await?;
    let name = sheaf_controller::placeholder::nic::name(&vmi, "lan");
    let pod = wait("the attachment Pod has the VM's node", async || {
        let pod = pods.get_opt(&name).await?;
        Ok(pod.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some("n1"))))
    })
    .await?;
    let requests = pod.spec.context("a spec")?.containers[0].resources.clone().unwrap_or_default().requests;
    ensure!(requests.context("requests")?["bridge.sheaf.dev/br1"].0 == "1");
    let followed = instances.get("web").await?;
    ensure!(followed.metadata.uid == vmi.metadata.uid, "it is the same instance");
    wait("the status lists it by its Pod", async || {
        let source = status(&on).await?.and_then(|one| one.info_source);
        Ok((source.as_deref() == Some("multus-status")).then_some(()))
    })
    .await?;
    says(&pods, &name, json!({"running": {}})).await?;
    reports(&on, &launcher, &["default", "lan"]).await?;
    wait("the guest has it", async || {
        let found = status(&on).await?.unwrap_or_default();
        let is_there = found.info_source.as_deref() == Some("domain, multus-status");
        Ok((is_there && found.link_state.as_deref() == Some("up")).then_some(()))
    })
    .await?;
    let conditions = machines.get("web").await?.status.unwrap_or_default().conditions;
    ensure!(of_condition(&conditions, "RestartRequired").is_none(), "{conditions:?}");
    let conditions = instances.get("web").await?.status.unwrap_or_default().conditions;
    ensure!(of_condition(&conditions, "HotInterfaceChange").is_none(), "{conditions:?}");

    // A drain deletes the Pod: it stays, and the guest keeps its NIC.
    pods.delete(&name, &DeleteParams::default()).await?;
    ensure!(!sheaf_api::attachment::is_to_detach(&pods.get(&name).await?));

    change(&on, &[lan("down")]).await?;
    told(&pods, &launcher, &Links { down: ["lan".to_owned()].into(), ..Links::default() }).await?;
    // An administrator is no controller.
    let forged = json!({"metadata": {"annotations": {"sheaf.dev/links": "{}"}}}).to_string();
    let said = on.kubectl(&["patch", "pod", &launcher, "--type=merge", "-p", &forged])?;
    ensure!(said.contains("may change these annotations"), "{said}");

    change(&on, &[lan("absent")]).await?;
    wait("the Pod is marked", async || {
        Ok(pods.get_opt(&name).await?.filter(sheaf_api::attachment::is_to_detach).map(drop))
    })
    .await?;
    let is_detaching = |vmi: VirtualMachineInstance| {
        let conditions = vmi.status.unwrap_or_default().conditions;
        of_condition(&conditions, "HotInterfaceChange").and_then(|(reason, _)| reason).as_deref()
            == Some("Detaching")
    };
    wait("the instance says so", async || Ok(is_detaching(instances.get("web").await?).then_some(())))
        .await?;
    ensure!(status(&on).await?.is_some(), "the guest still has it");
    reports(&on, &launcher, &["default"]).await?;
    says(&pods, &name, json!({"terminated": {"exitCode": 0, "reason": "Detached"}})).await?;
    wait("the Pod is gone", async || Ok(pods.get_opt(&name).await?.is_none().then_some(()))).await?;
    wait("it left the instance", async || {
        let vmi = instances.get("web").await?;
        Ok((vmi.spec.interface("lan").is_none() && vmi.spec.network("lan").is_none()).then_some(()))
    })
    .await?;
    ensure!(status(&on).await?.is_none());
    let conditions = machines.get("web").await?.status.unwrap_or_default().conditions;
    ensure!(of_condition(&conditions, "RestartRequired").is_none(), "{conditions:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nic_of_the_start_is_removed_and_added_again_and_what_is_in_the_way_is_said() -> Result<()> {
    let (on, node) = with_lan().await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
    let mut web = serde_json::to_value(vm("web", "Always")?)?;
    let spec = template(&[lan("up")]);
    web["spec"]["template"]["spec"]["domain"]["devices"] = spec["domain"]["devices"].clone();
    web["spec"]["template"]["spec"]["networks"] = spec["networks"].clone();
    machines.create(&PostParams::default(), &serde_json::from_value(web)?).await?;
    let (vmi, _serial) = node.run(&on, "web", "").await?;
    let launcher = sheaf_controller::placeholder::name(&vmi);
    let name = sheaf_controller::placeholder::nic::name(&vmi, "lan");
    reports(&on, &launcher, &["default", "lan"]).await?;

    change(&on, &[lan("absent")]).await?;
    told(&pods, &launcher, &Links { removed: ["lan".to_owned()].into(), ..Links::default() }).await?;
    ensure!(pods.get_opt(&name).await?.is_none(), "a NIC of the start has no Pod");
    reports(&on, &launcher, &["default"]).await?;
    wait("it left the instance", async || {
        Ok(instances.get("web").await?.spec.interface("lan").is_none().then_some(()))
    })
    .await?;
    change(&on, &[lan("up")]).await?;
    wait("it has a Pod now", async || Ok(pods.get_opt(&name).await?.map(drop))).await?;

    // One whose network does not exist keeps no other away, and is added as soon as it does.
    let more = json!({"name": "more", "bridge": {}});
    let e1000 = json!({"name": "slow", "bridge": {}, "model": "e1000"});
    change(&on, &[lan("up"), more, e1000]).await?;
    says(&pods, &name, json!({"running": {}})).await?;
    let message = wait("the instance says what is missing", async || {
        let status = instances.get("web").await?.status.unwrap_or_default();
        let found = of_condition(&status.conditions, "HotInterfaceChange");
        Ok(found
            .filter(|(reason, _)| reason.as_deref() == Some("NetworkNotFound"))
            .and_then(|(_, message)| message))
    })
    .await?;
    ensure!(
        message
            == "network more: there is no NetworkAttachmentDefinition default/more; create it, or correct networkName",
        "{message}"
    );
    let message = wait("a restart is required", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        Ok(of_condition(&status.conditions, "RestartRequired").and_then(|(_, message)| message))
    })
    .await?;
    ensure!(
        message
            == "spec.template.spec.domain.devices.interfaces[slow] (only a NIC of the model virtio is added while the VM runs) \
                changed since this instance was started; restart the VM to use the template",
        "{message}"
    );
    let config = r#"{"cniVersion": "0.3.1", "type": "bridge", "bridge": "br1"}"#;
    let more =
        NetworkAttachmentDefinition::new("more", NetworkAttachmentDefinitionSpec { config: config.into() });
    let networks: Api<NetworkAttachmentDefinition> = Api::default_namespaced(on.client.clone());
    networks.create(&PostParams::default(), &more).await?;
    let more = sheaf_controller::placeholder::nic::name(&vmi, "more");
    wait("it has a Pod", async || Ok(pods.get_opt(&more).await?.map(drop))).await
}

/// Number `index` of the VM's NICs, on br0.
fn nic(index: u8, down: bool) -> Nic {
    let port = Port {
        tap: sheaf_agent::names::tap("0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c", index.into()),
        interface: format!("Lan_{index}"),
        bridge: "br0".into(),
        mac: format!("02:00:00:00:00:{index:02x}"),
        ..Port::default()
    };
    Nic { port, model: InterfaceModel::Virtio, down }
}

#[test]
fn libvirt_takes_nics_on_the_four_free_ports_and_sets_links_by_the_elements_that_it_wrote() -> Result<()> {
    let domain =
        Domain::start("nics", |_folder| Ok(Guest { interfaces: vec![nic(0, true)], ..guest(Vec::new()) }))?;
    for index in 1..6 {
        let nic = nic(index, index == 2);
        let xml = domain.write(&format!("{index}.xml"), &render_nic(&nic, None))?;
        let added = domain.virsh(&["attach-device", NAME, &xml, "--live"]);
        match index {
            5 => ensure!(added.is_err(), "a fifth NIC has a port that is not there"),
            _ => drop(added.with_context(|| format!("{}: {}", nic.port.tap, domain.log()))?),
        }
    }
    let nics = read_domain(&domain.dump()?)?.nics;
    let found: Vec<_> = nics.iter().map(|nic| (nic.alias.as_deref(), nic.down)).collect();
    let aliases =
        ["hotplug_nic_Lan_1", "hotplug_nic_Lan_2", "hotplug_nic_Lan_3", "hotplug_nic_Lan_4"].map(Some);
    ensure!(
        found
            == [
                (None, true),
                (aliases[0], false),
                (aliases[1], true),
                (aliases[2], false),
                (aliases[3], false)
            ],
        "{found:?}"
    );
    ensure!(nics[1].tap == nic(1, false).port.tap && nics[1].mac == "02:00:00:00:00:01", "{nics:?}");

    // Of a NIC of the start, and of one that was added.
    for (index, down) in [(0, false), (1, true), (2, false)] {
        let tap = nic(index, false).port.tap;
        let changed = nic_with_link(&domain.dump()?, &tap, down)?.context("the NIC is there")?;
        let xml = domain.write("link.xml", &changed)?;
        domain
            .virsh(&["update-device", NAME, &xml, "--live"])
            .with_context(|| format!("{changed}: {}", domain.log()))?;
        let nics = read_domain(&domain.dump()?)?.nics;
        ensure!(nics.iter().any(|nic| nic.tap == tap && nic.down == down), "{nics:?}");
    }

    // The guest is asked; whether it releases a NIC is its own business.
    let element = nic_of(&domain.dump()?, &nic(1, false).port.tap)?.context("the NIC is there")?;
    let xml = domain.write("gone.xml", &element)?;
    domain
        .virsh(&["detach-device", NAME, &xml, "--live"])
        .with_context(|| format!("{element}: {}", domain.log()))?;
    Ok(())
}
