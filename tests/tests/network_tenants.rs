//! What tenants may do about networks, on the real API server: which definitions they may make, use and share, and whose
//! MACs their VMs may have.
//!
//! Why here: who a user is, and what a namespace is annotated with, only the API server knows.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use sheaf_api::VirtualMachineInstance;
use sheaf_tests::controlled::{Controlled, wait};

/// Two tenants: `shop`, whose networks an administrator allowed, and `bank`, where nothing is allowed.
const TENANTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {sheaf.dev/allowed-networks: "br1:100-199 br1:300 br2 br3:x br4:"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: edit-networks, labels: {rbac.authorization.k8s.io/aggregate-to-edit: "true"}}
rules:
  - {apiGroups: [k8s.cni.cncf.io], resources: [network-attachment-definitions], verbs: [get, list, create, update, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edit, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: tenant}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edit, namespace: bank}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: tenant}]
"#;

fn definition(namespace: &str, name: &str, labels: &str, config: &str) -> String {
    format!(
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\nspec:\n  config: '{config}'\n"
    )
}

fn bridge(bridge: &str, more: &str) -> String {
    format!(r#"{{"type": "bridge", "bridge": "{bridge}"{more}}}"#)
}

const AS_TENANT: [&str; 2] = ["apply", "--as=tenant"];
const AS_ADMIN: [&str; 1] = ["apply"];

async fn with_tenants() -> Result<Controlled> {
    let on = Controlled::start().await?;
    let made = on.kubectl_with(&AS_ADMIN, TENANTS)?;
    ensure!(made.contains("rolebinding.rbac.authorization.k8s.io/edit created"), "{made}");
    // The role that `edit` is made of is put together by a controller.
    wait("the tenant may make definitions", async || {
        let words =
            ["auth", "can-i", "create", "network-attachment-definitions", "-n", "shop", "--as=tenant"];
        Ok(on.kubectl(&words).ok().filter(|said| said.trim() == "yes"))
    })
    .await?;
    Ok(on)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_names_only_bridges_and_vlans_that_its_namespace_is_allowed() -> Result<()> {
    let on = with_tenants().await?;
    let vlan = |id: u16| format!(r#", "vlan": {id}"#);
    for (index, config) in
        [bridge("br1", &vlan(100)), bridge("br1", &vlan(199)), bridge("br1", &vlan(300)), bridge("br2", "")]
            .iter()
            .enumerate()
    {
        let said = on.kubectl_with(&AS_TENANT, &definition("shop", &format!("good-{index}"), "", config))?;
        ensure!(said.contains("created"), "{config}: {said}");
    }
    for (config, why) in [
        (bridge("br1", &vlan(99)), "bridge br1 with VLAN 99 is not allowed in namespace shop"),
        (bridge("br1", &vlan(200)), "bridge br1 with VLAN 200 is not allowed"),
        (bridge("br1", &vlan(4094)), "bridge br1 with VLAN 4094 is not allowed"),
        (bridge("br1", ""), "bridge br1 without VLAN is not allowed"),
        (bridge("br2", &vlan(100)), "bridge br2 with VLAN 100 is not allowed"),
        (bridge("br3", &vlan(1)), "bridge br3 with VLAN 1 is not allowed"),
        (bridge("br4", ""), "bridge br4 without VLAN is not allowed"),
        (bridge("br0", ""), "bridge br0 without VLAN is not allowed"),
        (bridge("br1", r#", "vlanTrunk": [{"id": 100}]"#), "bridge br1 with a trunk is not allowed"),
        (bridge("br2", r#", "bridge": "br0""#), "spec.config has a field twice"),
        (bridge("br1", &[vlan(100), vlan(1)].concat()), "spec.config has a field twice"),
        (bridge("br2", r#", "\u0062ridge": "br0""#), "spec.config has an escape"),
        (r#"{"type": "sriov"}"#.into(), "only an administrator makes a definition of the type sriov"),
        (r#"{"type": "sriov", "bridge": "br2"}"#.into(), "only an administrator makes a definition"),
        (r#"{"type": "bridge", "bridge": "br2", "type": "sriov"}"#.into(), "spec.config has a field twice"),
    ] {
        let said = on.kubectl_with(&AS_TENANT, &definition("shop", "bad", "", &config))?;
        ensure!(said.contains(why), "{config}: {said}");
    }
    let said = on.kubectl_with(&AS_TENANT, &definition("bank", "bad", "", &bridge("br2", "")))?;
    ensure!(said.contains("is not allowed in namespace bank; ask an administrator"), "{said}");

    // What an administrator made stays as it is: not moved elsewhere, and not shared.
    let fast = definition("bank", "fast", "", r#"{"type": "sriov", "vlan": 100}"#);
    ensure!(on.kubectl_with(&AS_ADMIN, &fast)?.contains("created"));
    let resource = "k8s.v1.cni.cncf.io/resourceName=intel.com/other";
    let said = on.kubectl(&["annotate", "net-attach-def", "fast", "-n", "bank", resource, "--as=tenant"])?;
    ensure!(said.contains("only an administrator makes a definition of the type sriov"), "{said}");

    let made = definition("bank", "made", "", &bridge("br0", ""));
    ensure!(on.kubectl_with(&AS_ADMIN, &made)?.contains("created"));
    let said = on.kubectl_with(&AS_TENANT, &definition("bank", "made", "a: b", &bridge("br0", "")))?;
    ensure!(said.contains("configured"), "its other labels are the tenant's: {said}");
    let said = on.kubectl_with(&AS_TENANT, &definition("bank", "made", "", &bridge("br1", "")))?;
    ensure!(said.contains("is not allowed in namespace bank"), "{said}");
    for namespace in ["bank", "shop"] {
        let shared = r#"sheaf.dev/shared: "true""#;
        let name = if namespace == "bank" { "made" } else { "shared" };
        let config = bridge(if namespace == "bank" { "br0" } else { "br2" }, "");
        let said = on.kubectl_with(&AS_TENANT, &definition(namespace, name, shared, &config))?;
        ensure!(said.contains("only an administrator shares a network"), "{said}");
        let said = on.kubectl_with(&AS_ADMIN, &definition(namespace, name, shared, &config))?;
        ensure!(said.contains("configured") || said.contains("created"), "{said}");
    }
    Ok(())
}

fn instance(name: &str, network: &str, mac: &str) -> String {
    format!(
        r#"
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {{name: {name}, namespace: shop}}
spec:
  domain:
    memory: {{guest: 64Mi}}
    devices: {{interfaces: [{{name: lan, bridge: {{}}, macAddress: "{mac}"}}]}}
  networks: [{{name: lan, multus: {{networkName: {network}}}}}]
"#
    )
}

/// Reason and message of the instance's condition `Synchronized` that is not true.
async fn refused(on: &Controlled, name: &str) -> Result<(String, String)> {
    let instances: Api<VirtualMachineInstance> = Api::namespaced(on.client.clone(), "shop");
    wait(&format!("why {name} is not synchronized"), async || {
        let vmi = instances.get_opt(name).await?;
        let conditions = vmi.and_then(|vmi| vmi.status).map(|status| status.conditions).unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition.type_ == "Synchronized");
        let condition = condition.filter(|condition| condition.status == "False");
        Ok(condition
            .map(|condition| (condition.reason.unwrap_or_default(), condition.message.unwrap_or_default())))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_on_no_network_of_another_namespace_and_has_no_mac_of_another_vm() -> Result<()> {
    let on = with_tenants().await?;
    let made = [
        definition("bank", "private", "", &bridge("br0", r#", "vlan": 20"#)),
        definition("bank", "public", r#"sheaf.dev/shared: "true""#, &bridge("br0", "")),
        definition("shop", "own", "", &bridge("br0", "")),
        definition("default", "all", "", &bridge("br0", "")),
    ]
    .join("---\n");
    on.kubectl_with(&AS_ADMIN, &made)?;
    let said = on.kubectl_with(&AS_TENANT, &instance("thief", "bank/private", "02:00:00:00:00:01"))?;
    ensure!(said.contains("created"), "{said}");
    let (reason, message) = refused(&on, "thief").await?;
    ensure!(reason == "NetworkNotShared", "{reason}: {message}");
    ensure!(message.contains("bank/private is only for VMs of namespace bank"), "{message}");

    // Others have Pods: their networks are theirs to use, and so are their MACs.
    for (index, network) in ["own", "bank/public", "default/all"].into_iter().enumerate() {
        let name = format!("vm-{index}");
        on.kubectl_with(&AS_TENANT, &instance(&name, network, &format!("02:00:00:00:01:0{index}")))?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(on.client.clone(), "shop");
        let mine = kube::api::ListParams::default().labels(&format!("vm.kubevirt.io/name={name}"));
        wait(&format!("a Pod of {name}"), async || Ok(pods.list(&mine).await?.items.into_iter().next()))
            .await?;
    }
    on.kubectl_with(&AS_TENANT, &instance("copy", "own", "02-00-00-00-01-01"))?;
    let (reason, message) = refused(&on, "copy").await?;
    ensure!(reason == "MacAddressInUse", "{reason}: {message}");
    ensure!(message.contains("interface lan: VM vm-1 has its macAddress 02:00:00:00:01:01"), "{message}");

    // Free again with the one that had it.
    on.kubectl(&["delete", "vmi", "vm-1", "-n", "shop", "--wait=false"]).context("deleting vm-1")?;
    let instances: Api<VirtualMachineInstance> = Api::namespaced(on.client.clone(), "shop");
    wait("the copy is synchronized", async || {
        let vmi = instances.get_opt("copy").await?;
        let conditions = vmi.and_then(|vmi| vmi.status).map(|status| status.conditions).unwrap_or_default();
        let is_true = |type_: &str, status: &str| type_ == "Synchronized" && status == "True";
        Ok(conditions.iter().any(|condition| is_true(&condition.type_, &condition.status)).then_some(()))
    })
    .await
}
