//! A control plane with a controller that leads it: what the API server then accepts and refuses.
//!
//! Why here: several files of cases need the same beginning. Route in: [`ControlPlane`]. Route out: an administrator's
//! client and kubectl; dropped, it leaves nothing behind.

use crate::cluster::{ControlPlane, kube_binary};
use anyhow::{Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::{
    core::v1::{Node, Pod, ServiceAccount},
    discovery::v1::EndpointSlice,
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use sheaf_host::run::{Command, System};
use std::{
    fs,
    time::{Duration, Instant},
};

/// How long anything may take here; the longest is a start that waits after a failure, on a
/// machine that has other work.
const SOON: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What a policy refuses, and nothing else does.
struct Refused {
    policy: &'static str,
    /// Whom kubectl acts for; nobody is the administrator.
    by: &'static [&'static str],
    object: &'static str,
}

/// One a policy.
const REFUSED: &[Refused] = &[
    Refused {
        policy: "sheaf-node-owns",
        by: &["--as=system:node:n2", "--as-group=system:nodes"],
        object: r#"{"apiVersion": "sheaf.dev/v1alpha1", "kind": "BlockDevice", "metadata": {"name": "n1.serial-a"},
            "spec": {"nodeName": "n1", "identity": {"serial": "A"}}}"#,
    },
    Refused {
        policy: "sheaf-networks",
        by: &[],
        object: r#"{"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "none"}, "spec": {"config": "none"}}"#,
    },
    Refused {
        policy: "sheaf-host-disks",
        by: &[],
        object: r#"{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "foreign"},
            "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "a"}]}},
            "volumes": [{"name": "a", "hostDisk": {"path": "/data/disks/other/a", "type": "Disk"}}]}}"#,
    },
    Refused {
        policy: "sheaf-hooks",
        by: &[],
        object: r#"{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "hooked",
            "annotations": {"hooks.kubevirt.io/hookSidecars": "[]"}},
            "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}"#,
    },
    Refused {
        policy: "sheaf-placeholder-pods",
        by: &[],
        object: r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "not-the-controllers"},
            "spec": {"runtimeClassName": "sheaf-vm", "containers": [{"name": "vm", "image": "vm"}]}}"#,
    },
    Refused {
        policy: "sheaf-node-status",
        by: &["--as=system:node:n9", "--as-group=system:nodes"],
        object: r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n9"},
            "status": {"addresses": [{"type": "InternalDNS", "address": "kubernetes.default.svc"}]}}"#,
    },
    Refused {
        policy: "sheaf-node-creates",
        by: &["--as=system:node:n9", "--as-group=system:nodes"],
        object: r#"{"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n9"},
            "spec": {"drivers": []}}"#,
    },
];

/// A control plane with a controller that leads it.
pub struct Controlled {
    /// The control plane.
    pub plane: ControlPlane,
    /// May do everything.
    pub client: Client,
    controller: Replica,
    _reads: NodeReads,
}

/// A sheaf-controller on threads of its own. Ended, nothing of it goes on: connections that it serves break as those of a
/// killed process do, and it does not release its Lease.
pub struct Replica(std::sync::Mutex<Option<tokio::runtime::Runtime>>);

impl Replica {
    /// Starts one for the cluster of `plane`.
    pub fn start(plane: &ControlPlane) -> Result<Self> {
        Self::of(plane.controller_options())
    }

    /// Starts one with these options.
    pub fn of(options: sheaf_controller::Options) -> Result<Self> {
        let runtime = own_runtime()?;
        runtime.spawn(async move { sheaf_controller::run(&options).await });
        Ok(Self(std::sync::Mutex::new(Some(runtime))))
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        let runtime = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A runtime for a part that a test kills; `shutdown_background` ends everything on it.
pub fn own_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// What refuses nodes' reads, on the loopback of the API server: the controller of this process is in another network
/// namespace. It ends when this is dropped.
pub struct NodeReads(
    #[expect(dead_code, reason = "its end is the message")] tokio::sync::oneshot::Sender<()>,
);

impl NodeReads {
    /// Starts it in the network namespace of an API server.
    pub fn start(namespace: &str) -> Result<Self> {
        let file = fs::File::open(format!("/run/netns/{namespace}"))?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        // A thread of its own, since a namespace is a thread's.
        std::thread::spawn(move || -> Result<()> {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                tokio::select! {
                    () = sheaf_controller::node_reads::run() => {}
                    _ = stopped => {}
                }
            });
            Ok(())
        });
        Ok(Self(stop))
    }
}

impl Controlled {
    /// Starts both and waits until the controller has installed what it needs.
    pub async fn start() -> Result<Self> {
        let plane = ControlPlane::start("").await?;
        // What it says is shown with a test that fails.
        let log = tracing_subscriber::fmt()
            .with_test_writer()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .without_time()
            .with_ansi(false);
        // The second test of a program finds the first one's.
        drop(log.try_init());
        let controller = Replica::start(&plane)?;
        let reads = NodeReads::start(plane.namespace())?;
        let this = Self { client: plane.admin.clone(), plane, controller, _reads: reads };
        // The nodes' role is the last thing that is installed.
        let bindings: Api<ClusterRoleBinding> = Api::all(this.client.clone());
        wait("the controller installs what it needs", async || bindings.get_opt("sheaf:node").await).await?;
        // Without it no Pod is admitted at all.
        let accounts: Api<ServiceAccount> = Api::default_namespaced(this.client.clone());
        wait("the namespace has its service account", async || accounts.get_opt("default").await).await?;
        for refused in REFUSED {
            this.enforces(refused).await?;
        }
        Ok(this)
    }

    /// Waits until the API server refuses an object by a policy: it reads policies once a second and reports nowhere
    /// that it has.
    async fn enforces(&self, Refused { policy, by, object }: &Refused) -> Result<()> {
        let verb = [&["create", "--dry-run=server"], *by].concat();
        let end = Instant::now() + SOON;
        loop {
            let said = self.kubectl_with(&verb, object)?;
            if said.contains(&format!("ValidatingAdmissionPolicy '{policy}'")) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "not within {SOON:?}: policy {policy} is in force: {said}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the node reports of a Pod of the default namespace: [`node_says`].
    pub async fn node_says(&self, pod: &str, phase: &str, reason: &str) -> Result<()> {
        node_says(&self.pods(), pod, phase, reason).await
    }

    /// The node stops the VM of a deleted Pod, reports it, and deletes the Pod without grace, as its agent does.
    pub async fn node_ends(&self, pod: &str) -> Result<()> {
        wait(&format!("Pod {pod} is being deleted"), async || {
            let pod = self.pods().get_opt(pod).await?;
            Ok(pod.filter(|pod| pod.metadata.deletion_timestamp.is_some()))
        })
        .await?;
        self.node_says(pod, "Failed", "Killed").await?;
        match self.pods().delete(pod, &DeleteParams::default().grace_period(0)).await {
            // The controller may have been faster.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
    /// The Pods of the default namespace.
    fn pods(&self) -> Api<Pod> {
        self.here()
    }

    /// Objects of the default namespace.
    pub fn here<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates one there.
    pub async fn make<K>(&self, object: serde_json::Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        Ok(self.here::<K>().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// Registers node `name` with this `spec` as an agent would: Ready, with room for a few VMs.
    pub async fn node(&self, name: &str, spec: serde_json::Value) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let labels = json!({"kubernetes.io/hostname": name, "sheaf.dev/vm-node": "true",
            "image.sheaf.dev/debian-13": "present"});
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
        let room = json!({"cpu": "4", "memory": "8Gi", "pods": "20", "ephemeral-storage": "20Gi",
            "devices.kubevirt.io/kvm": "1000", "bridge.sheaf.dev/br0": "1000", "bridge.sheaf.dev/masq0": "1000"});
        let status = json!({"status": {"capacity": room, "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Ends the controller as `kill -9` does: it does not release its Lease.
    pub fn kill_controller(&self) {
        self.controller.kill();
    }

    /// Another controller of the same cluster, which follows.
    pub fn replica(&self) -> Result<Replica> {
        Replica::start(&self.plane)
    }

    /// Where the aggregated servers of the replicas listen, `ADDRESS:PORT`, as the API server finds them.
    pub async fn replicas(&self) -> kube::Result<Vec<String>> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "sheaf-system");
        let ours = ListParams::default().labels("kubernetes.io/service-name=sheaf-controller");
        let of = |slice: EndpointSlice| {
            let port = slice.ports?.first()?.port?;
            Some(format!("{}:{port}", slice.endpoints?.first()?.addresses.first()?))
        };
        Ok(slices.list(&ours).await?.items.into_iter().filter_map(of).collect())
    }

    /// What kubectl says, on either stream.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("said");
        let command = Command::new(kube_binary()?)
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig())
            .args(words)
            .log(log.clone());
        System.start(&command)?.wait()?;
        Ok(fs::read_to_string(log)?)
    }

    /// What kubectl says to `object`, given as JSON or YAML, done with `verb` (`create`, `apply`, …) and `more` words.
    pub fn kubectl_with(&self, verb: &[&str], object: &str) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("object");
        fs::write(&file, object)?;
        let file = file.display().to_string();
        let mut words = verb.to_vec();
        words.extend(["-f", &file]);
        Ok(self.kubectl(&words)?.replace(&file, "FILE"))
    }
}

/// What the node reports of a Pod; of one that has ended, that its domain is gone.
pub async fn node_says(pods: &Api<Pod>, pod: &str, phase: &str, reason: &str) -> Result<()> {
    let (ready, state) = match phase {
        "Running" => ("True", json!({"running": {}})),
        _ => ("False", json!({"terminated": {"exitCode": 0, "reason": reason}})),
    };
    let status = json!({"status": {"phase": phase, "reason": reason,
        "containerStatuses": [{"name": "compute", "image": "vm", "imageID": "", "ready": ready == "True",
                               "restartCount": 0, "state": state}],
        "conditions": [{"type": "Ready", "status": ready}], "podIPs": [{"ip": "192.0.2.50"}], "podIP": "192.0.2.50"}});
    pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

/// Looks until there is something, or fails with what was waited for.
pub async fn wait<T>(what: &str, mut look: impl AsyncFnMut() -> kube::Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + SOON;
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => ensure!(Instant::now() < end, "not within {SOON:?}: {what}"),
            Err(error) => ensure!(Instant::now() < end, "not within {SOON:?}: {what}: {error}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
