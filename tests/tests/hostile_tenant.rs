//! A tenant with the role `edit` in one namespace tries what would harm others, on the real API server.
//!
//! Why here: roles, schemas and policies only together say what such a user can do. The node is played by the test; it
//! reports what an agent would. Rows of docs/security.md are named at each attempt (S8 is row 8). Route in:
//! kubectl as the user `mallory`. Route out: a refusal with a sentence, or no effect on anything else.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use sheaf_api::{VirtualMachineInstance, status::Phase};
use sheaf_tests::controlled::{Controlled, node_says, wait};
use std::time::Duration;

/// kubectl acts for a user of namespace `tenant`.
const MALLORY: [&str; 3] = ["--as=mallory", "--namespace", "tenant"];
/// For so long a second Pod must not appear; the controllers' intervals are shorter.
const QUIET: Duration = Duration::from_secs(15);

/// kube-controller-manager collects Pods of missing Nodes every 20 s, 40 s after it first misses them.
const COLLECTED_WITHIN: Duration = Duration::from_secs(180);

/// A cluster with a node, a namespace `tenant` in which `mallory` may edit, and a namespace `other`.
struct Ground {
    on: Controlled,
}

impl Ground {
    async fn make() -> Result<Self> {
        let on = Controlled::start().await?;
        for namespace in ["tenant", "other"] {
            on.kubectl(&["create", "namespace", namespace])?;
        }
        on.kubectl(&[
            "create",
            "rolebinding",
            "edit",
            "-n",
            "tenant",
            "--clusterrole=edit",
            "--user=mallory",
        ])?;
        on.node("n1", json!({"taints": [{"key": "sheaf.dev/vm-only", "effect": "NoSchedule"}]})).await?;
        let ground = Self { on };
        // Kubernetes adds the rules of aggregated roles after a moment.
        wait("mallory may make VMs", async || {
            let may = ground.mallory(&["auth", "can-i", "create", "virtualmachines.kubevirt.io"]);
            Ok(may.is_ok_and(|may| may.starts_with("yes")).then_some(()))
        })
        .await?;
        Ok(ground)
    }

    fn mallory(&self, words: &[&str]) -> Result<String> {
        self.on.kubectl(&[words, &MALLORY].concat())
    }

    fn mallory_makes(&self, object: &Value) -> Result<String> {
        self.on.kubectl_with(&[&["create"][..], &MALLORY].concat(), &object.to_string())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.on.client.clone(), "tenant")
    }

    fn instances(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.on.client.clone(), "tenant")
    }

    async fn pods_of(&self, vm: &str) -> Result<Vec<Pod>> {
        let of_vm = format!("virt-launcher-{vm}-");
        let all = self.pods().list(&ListParams::default()).await?.items;
        Ok(all.into_iter().filter(|pod| name_of(pod).starts_with(&of_vm)).collect())
    }

    /// The Pod of `vm` that is bound to the node and is not `not`.
    async fn placed(&self, vm: &str, not: &str) -> Result<Pod> {
        wait(&format!("a Pod of {vm} has a node"), async || {
            let pods = self.pods_of(vm).await.unwrap_or_default();
            let bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            Ok(pods.into_iter().find(|pod| bound(pod) && name_of(pod) != not))
        })
        .await
    }

    async fn gone(&self, pod: &str) -> Result<()> {
        wait(&format!("Pod {pod} is gone"), async || {
            Ok(self.pods().get_opt(pod).await?.is_none().then_some(()))
        })
        .await
    }

    /// A VM of mallory's that runs, and its Pod.
    async fn running(&self, name: &str) -> Result<Pod> {
        let made =
            self.mallory_makes(&vm(name, json!({"memory": {"guest": "512Mi"}, "devices": {}}), json!([])))?;
        ensure!(made.contains("created"), "{made}");
        let pod = self.placed(name, "").await?;
        node_says(&self.pods(), name_of(&pod), "Running", "").await?;
        wait(&format!("the instance of {name} runs"), async || {
            let vmi = self.instances().get_opt(name).await?;
            Ok(vmi.filter(|vmi| vmi.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running)))
        })
        .await?;
        Ok(pod)
    }
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn vm(name: &str, domain: Value, volumes: Value) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"spec": {"domain": domain, "volumes": volumes}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_may_not_make_or_change_is_refused_with_the_reason() -> Result<()> {
    let ground = Ground::make().await?;
    let disk = |path: &str| {
        let domain = json!({"memory": {"guest": "512Mi"}, "devices": {"disks": [{"name": "a"}]}});
        vm("thief", domain, json!([{"name": "a", "hostDisk": {"path": path, "type": "Disk"}}]))
    };
    let memory = |resources: Value| {
        vm("greedy", json!({"memory": {"guest": "4Gi"}, "resources": resources, "devices": {}}), json!([]))
    };
    let own = |kind: &str, spec: Value| json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": kind, "metadata": {"name": "cluster"}, "spec": spec});
    for (what, object, words) in [
        (
            "S8: less memory set aside than the guest has",
            memory(json!({"requests": {"memory": "1Mi"}})),
            "all of a guest's memory is set aside on its node",
        ),
        ("S8: a limit below it", memory(json!({"limits": {"memory": "1Mi"}})), "raise or remove the limit"),
        (
            "S8: an overcommit ratio of one's own",
            own("ClusterConfig", json!({"memoryOvercommitPercent": 400})),
            "cannot create resource \"clusterconfigs\"",
        ),
        (
            "S11: the disk of another namespace",
            disk("/data/disks/other/db.raw"),
            "a hostDisk of this namespace must be in /data/disks/tenant/",
        ),
        (
            "S11: a path that leads there",
            disk("/data/disks/tenant/../other/db.raw"),
            "Invalid value: use /data/images/<name>",
        ),
        ("S11: a disk of no namespace", disk("/data/disks/db.raw"), "/data/disks/<namespace>/<file>"),
        (
            "S22: a network of one's own making",
            json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": "mgmt"},
                   "spec": {"config": r#"{"type": "bridge", "bridge": "br0"}"#}}),
            "cannot create resource \"network-attachment-definitions\"",
        ),
        (
            "a Pod that is a VM without a VirtualMachine",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "forged"}, "spec":
                   {"runtimeClassName": "sheaf-vm", "containers": [{"name": "compute", "image": "x"}]}}),
            "create a VirtualMachine instead",
        ),
        (
            "a volume on a node of one's choice",
            json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": "mine"},
                   "spec": {"nodeName": "n1", "pool": "default", "sizeBytes": 1_073_741_824, "source": {"blank": {}}}}),
            "cannot create resource \"localvolumes\"",
        ),
    ] {
        let answer = ground.mallory_makes(&object)?;
        ensure!(answer.contains(words) && !answer.contains(" created"), "{what}: {answer}");
    }
    for words in
        [["get", "localvolumes"], ["get", "persistentvolumes"], ["get", "blockdevices"], ["get", "nodes"]]
    {
        let answer = ground.mallory(&words)?;
        ensure!(answer.contains("Forbidden"), "S26: {words:?}: {answer}");
    }

    // S11: what a VM may fill of a node's /data counts, so more than there is runs nowhere.
    let domain = json!({"memory": {"guest": "512Mi"}, "devices": {"disks": [{"name": "a"}]}});
    let answer = ground.mallory_makes(&vm(
        "hoarder",
        domain,
        json!([{"name": "a", "emptyDisk": {"capacity": "30Gi"}}]),
    ))?;
    ensure!(answer.contains("created"), "{answer}");
    wait("the scheduler finds no node with so much space", async || {
        let pods = ground.pods_of("hoarder").await.unwrap_or_default();
        let conditions = pods.into_iter().filter_map(|pod| pod.status?.conditions).flatten();
        let messages =
            conditions.filter(|condition| condition.type_ == "PodScheduled").filter_map(|one| one.message);
        Ok(messages.into_iter().find(|message| message.contains("Insufficient ephemeral-storage")))
    })
    .await?;
    // S8: without a word about it, all of the guest's memory and QEMU's own is set aside.
    let pod = ground.pods_of("hoarder").await?.pop().and_then(|pod| pod.spec);
    let requests = serde_json::to_value(pod.map(|spec| spec.containers[0].resources.clone()))?;
    ensure!(requests["requests"]["memory"] == "637Mi", "{requests}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_tenant_does_to_a_running_vm_no_second_run_of_it_begins_before_its_node_reported()
-> Result<()> {
    let ground = Ground::make().await?;
    let pod = ground.running("web").await?;
    let name = name_of(&pod).to_owned();

    // S9: by force, without the objects that guard the run.
    let answer = ground.mallory(&["delete", "pod", &name, "--force", "--grace-period=0", "--wait=false"])?;
    ensure!(answer.contains("deleted"), "{answer}");
    let strip = ["patch", "vmi", "web", "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#];
    ground.mallory(&strip)?;
    ground.mallory(&["delete", "vmi", "web", "--wait=false"])?;
    ground.mallory(&strip)?;
    let end = tokio::time::Instant::now() + QUIET;
    while tokio::time::Instant::now() < end {
        let pods = ground.pods_of("web").await?;
        let names: Vec<&str> = pods.iter().map(name_of).collect();
        ensure!(names == [name.as_str()], "beside the Pod whose VM runs: {names:?}");
        tokio::time::sleep(Duration::from_millis(500)).await; // the next look, until the time is over
    }
    // Its node ends the VM and says so; then, and only then, there is another run.
    node_says(&ground.pods(), &name, "Failed", "").await?;
    let second = ground.placed("web", &name).await?;
    ground.gone(&name).await?;

    // S2: the longest grace there can be. The controller continues, and the node's word ends it.
    let huge = ["delete", "pod", name_of(&second), "--grace-period=9223372036854775807", "--wait=false"];
    let answer = ground.mallory(&huge)?;
    ensure!(answer.contains("deleted"), "{answer}");
    node_says(&ground.pods(), name_of(&second), "Failed", "").await?;
    ground.placed("web", name_of(&second)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_of_a_node_that_is_gone_runs_again_only_when_an_administrator_says_that_the_machine_is_off()
-> Result<()> {
    let ground = Ground::make().await?;
    let pod = ground.running("web").await?;
    let name = name_of(&pod).to_owned();
    let nodes: Api<Node> = Api::all(ground.on.client.clone());
    // The garbage collector of Pods fails and removes what is bound to a Node that does not exist, after 40 s.
    nodes.delete("n1", &DeleteParams::default()).await?;
    let end = tokio::time::Instant::now() + COLLECTED_WITHIN;
    loop {
        let pod = ground.pods().get_opt(&name).await?;
        let pod = pod.context("the Pod is gone without a word of its node")?;
        if pod.metadata.deletion_timestamp.is_some() {
            break;
        }
        ensure!(tokio::time::Instant::now() < end, "the garbage collector leaves the Pod alone");
        tokio::time::sleep(Duration::from_secs(1)).await; // the next look at whether it was collected
    }
    let vmi = wait("people are told what to do", async || {
        let vmi = ground.instances().get_opt("web").await?;
        let status = vmi.and_then(|vmi| vmi.status).unwrap_or_default();
        let told = status.conditions.iter().any(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            condition.type_ == "Ready" && message.contains("node.kubernetes.io/out-of-service")
        });
        Ok(told.then_some(status))
    })
    .await?;
    ensure!(vmi.phase == Some(Phase::Running), "{:?}", vmi.phase);
    tokio::time::sleep(QUIET).await; // time in which a second Pod must not appear
    let names: Vec<String> = ground.pods_of("web").await?.iter().map(|pod| name_of(pod).to_owned()).collect();
    ensure!(names == [name.clone()], "{names:?}");

    let off = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec":
        {"taints": [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]}});
    let answer = ground.on.kubectl_with(&["create"], &off.to_string())?;
    ensure!(answer.contains("created"), "{answer}");
    wait("the Pod is gone and another was made", async || {
        let pods = ground.pods_of("web").await.unwrap_or_default();
        Ok(pods.into_iter().find(|pod| name_of(pod) != name))
    })
    .await?;
    ground.gone(&name).await
}
