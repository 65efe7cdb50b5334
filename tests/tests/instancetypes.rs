//! VMs of instancetypes and preferences, on the real API server.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{GROUP, cluster};

const SIZE: &str = r#"
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachineInstancetype
metadata: {name: tiny}
spec: {cpu: {guest: 2}, memory: {guest: 64Mi}}
---
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachinePreference
metadata: {name: cores}
spec: {cpu: {preferredCPUTopology: cores}, devices: {preferredInterfaceModel: e1000e}}
"#;

fn vm(name: &str, more: Value) -> Result<VirtualMachine> {
    let mut spec = json!({"runStrategy": "Always", "template": {"spec": {"domain": {"devices": {}}}}});
    let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) else {
        anyhow::bail!("specs are objects")
    };
    spec.extend(more.clone());
    Ok(serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name}, "spec": spec}))?)
}

async fn instance(on: &Controlled, name: &str, not: Option<&str>) -> Result<VirtualMachineInstance> {
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    wait(&format!("VM {name} has an instance"), async || {
        Ok(instances.get_opt(name).await?.filter(|vmi| vmi.metadata.uid.as_deref() != not))
    })
    .await
}

/// Reason and message of the condition Failure.
async fn failure(on: &Controlled, name: &str) -> Result<(String, String)> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let found = wait(&format!("VM {name} says what is wrong"), async || {
        let conditions = machines.get(name).await?.status.unwrap_or_default().conditions;
        Ok(conditions.into_iter().find(|condition| condition.type_ == "Failure"))
    })
    .await?;
    Ok((found.reason.unwrap_or_default(), found.message.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_has_the_size_that_it_names_and_keeps_it_when_the_instancetype_changes() -> Result<()> {
    let on = cluster().await?;
    let said = on.kubectl_with(&["apply"], SIZE)?;
    ensure!(said.matches("created").count() == 2, "{said}");
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let names = json!({"instancetype": {"kind": "VirtualMachineInstancetype", "name": "tiny"},
                       "preference": {"kind": "virtualmachinepreference", "name": "cores"}});
    machines.create(&PostParams::default(), &vm("web", names)?).await?;
    let first = instance(&on, "web", None).await?;
    let domain = serde_json::to_value(&first.spec.domain)?;
    ensure!(domain["memory"]["guest"] == "64Mi", "{domain}");
    ensure!(domain["cpu"]["cores"] == 2 && domain["cpu"]["sockets"] == 1, "{domain}");
    ensure!(
        domain["devices"]["interfaces"][0]["model"] == "virtio",
        "an interface that is added later has none: {domain}"
    );

    // Kept as it was: a change is for VMs to come.
    let said = on.kubectl(&[
        "patch",
        "vmf",
        "tiny",
        "--type=merge",
        "-p",
        r#"{"spec":{"memory":{"guest":"128Mi"}}}"#,
    ])?;
    ensure!(said.contains("patched"), "{said}");
    let kept = wait("the VM's status names the revision", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        Ok(status.instancetype_ref.and_then(|named| named.revision().map(str::to_owned)))
    })
    .await?;
    let revisions: Api<ControllerRevision> = Api::default_namespaced(on.client.clone());
    let owner = revisions.get(&kept).await?.metadata.owner_references.unwrap_or_default();
    ensure!(
        owner.first().is_some_and(|owner| owner.kind == "VirtualMachine" && owner.name == "web"),
        "{owner:?}"
    );
    let said = on.kubectl(&["delete", "vmi", "web", "--wait=false"])?;
    ensure!(said.contains("deleted"), "{said}");
    let second = instance(&on, "web", first.metadata.uid.as_deref()).await?;
    ensure!(second.spec == first.spec, "{:?}", second.spec);
    let shown = on.kubectl(&[
        "get",
        "--raw",
        &format!("{GROUP}/namespaces/default/virtualmachines/web/expand-spec"),
    ])?;
    let shown: Value = serde_json::from_str(&shown).with_context(|| shown.clone())?;
    ensure!(
        shown["spec"]["instancetype"].is_null()
            && shown["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "64Mi",
        "{shown}"
    );

    // Another size is another revision.
    let other =
        json!({"spec": {"instancetype": {"kind": "VirtualMachineClusterInstancetype", "name": "u1.nano"}}});
    machines.patch("web", &PatchParams::default(), &Patch::Merge(&other)).await?;
    wait("the VM is to be restarted", async || {
        let conditions = machines.get("web").await?.status.unwrap_or_default().conditions;
        Ok(conditions.iter().any(|one| one.type_ == "RestartRequired" && one.status == "True").then_some(()))
    })
    .await?;
    ensure!(revisions.list(&ListParams::default()).await?.items.len() == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_cannot_be_put_together_is_not_started_and_says_why() -> Result<()> {
    let on = cluster().await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    machines
        .create(&PostParams::default(), &vm("lost", json!({"instancetype": {"name": "u1.lost"}}))?)
        .await?;
    let said = failure(&on, "lost").await?;
    ensure!(
        said.0 == "FailedFindInstancetype"
            && said.1 == "virtualmachineclusterinstancetypes.instancetype.kubevirt.io \"u1.lost\" not found",
        "{said:?}"
    );
    let own = json!({"instancetype": {"name": "u1.nano"},
                     "template": {"spec": {"domain": {"cpu": {"cores": 4}, "devices": {}}}}});
    machines.create(&PostParams::default(), &vm("both", own)?).await?;
    let said = failure(&on, "both").await?;
    ensure!(
        said.0 == "VMFieldsConflict" && said.1.contains("spec.template.spec.domain.cpu.cores"),
        "{said:?}"
    );
    let small = json!({"instancetype": {"name": "u1.nano"}, "preference": {"name": "windows.11"}});
    machines.create(&PostParams::default(), &vm("small", small)?).await?;
    let said = failure(&on, "small").await?;
    ensure!(
        said.1 == "insufficient CPU resources of 1 vCPU provided, preference requires 2 vCPU",
        "{said:?}"
    );
    let inferred = json!({"instancetype": {"inferFromVolume": "root"}});
    machines.create(&PostParams::default(), &vm("inferred", inferred)?).await?;
    let said = failure(&on, "inferred").await?;
    ensure!(said.1 == "unable to find volume root to infer defaults", "{said:?}");
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    ensure!(instances.list(&ListParams::default()).await?.items.is_empty());

    // It is started once what it names is there.
    let said = on.kubectl_with(
        &["apply"],
        &SIZE
            .replace("VirtualMachineInstancetype", "VirtualMachineClusterInstancetype")
            .replace("tiny", "u1.lost"),
    )?;
    ensure!(said.contains("u1.lost created"), "{said}");
    instance(&on, "lost", None).await?;
    Ok(())
}
