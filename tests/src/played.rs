//! A cluster whose VMs can be operated: its aggregated API is available, and a node of it is played.
//!
//! Why here: what operates VMs is tried with plain requests (`tests/operate.rs`) and with virtctl (`tests/virtctl.rs`). The
//! node is the agent's own code: it joins, gets its certificates and serves its API; libvirt is played, a guest's serial port
//! is a socket of the test. Route in: a [`Controlled`] cluster. Route out: a [`PlayedNode`] and the VMs that run on it.

use crate::cluster::{AgentNode, RunningAgent, TOKEN};
use crate::controlled::{Controlled, own_runtime, wait};
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use sheaf_agent::listed::{self, Listed};
use sheaf_agent::node_api;
use sheaf_agent::vms::guest::{Folder, Identity};
use sheaf_agent::vms::record::{Record, Started};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, status::Phase};
use sheaf_host::fakes::{FakeRun, FakeUnits, FakeVms};
use sheaf_host::libvirt::{Domain, State};
use sheaf_host::run::System;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Longest time until an agent listens: it joins first.
const START_TIME: Duration = Duration::from_secs(90);

/// The group that virtctl asks.
pub const GROUP: &str = "/apis/subresources.kubevirt.io/v1";

/// A cluster whose aggregated server is available.
pub async fn cluster() -> Result<Controlled> {
    let on = Controlled::start().await?;
    let announced: Api<APIService> = Api::all(on.client.clone());
    for version in ["v1", "v1alpha3"] {
        wait(&format!("{version} of the aggregated API is available"), async || {
            let found = announced.get_opt(&format!("{version}.subresources.kubevirt.io")).await?;
            let conditions = found.and_then(|found| found.status?.conditions).unwrap_or_default();
            Ok(conditions.iter().any(|one| one.type_ == "Available" && one.status == "True").then_some(()))
        })
        .await?;
    }
    Ok(on)
}

/// An act on a VM, as virtctl asks for it: HTTP status and message.
pub async fn act(on: &Controlled, path: &str, body: &str) -> Result<(u16, String)> {
    let path = format!("{GROUP}/namespaces/default/{path}");
    let request =
        http::Request::put(path).header("content-type", "application/json").body(body.as_bytes().to_vec())?;
    match on.client.request_text(request).await {
        Ok(_) => Ok((200, String::new())),
        Err(kube::Error::Api(status)) => Ok((status.code, status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

/// A claim called `name` that is bound to a volume of node n1.
pub async fn claim(on: &Controlled, name: &str) -> Result<()> {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
                      "resources": {"requests": {"storage": "1Gi"}}});
    let term =
        json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]});
    let volume = json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "lvm.sheaf.dev", "volumeHandle": name},
        "claimRef": {"namespace": "default", "name": name},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
    let volumes: Api<PersistentVolume> = Api::all(on.client.clone());
    volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(on.client.clone());
    let claim = json!({"metadata": {"name": name}, "spec": spec});
    claims.create(&PostParams::default(), &serde_json::from_value(claim)?).await?;
    wait("the claim is bound", async || {
        let status = claims.get(name).await?.status.unwrap_or_default();
        Ok((status.phase.as_deref() == Some("Bound")).then_some(()))
    })
    .await
}

/// Patches a Pod's annotations or status as node n1 does: it may write the status of its Pods, and not read it alone.
pub async fn as_node(on: &Controlled, pod: &str, patch: &Value) -> Result<()> {
    let request = http::Request::patch(format!("/api/v1/namespaces/default/pods/{pod}/status"))
        .header("content-type", "application/merge-patch+json")
        .header("impersonate-user", "system:node:n1")
        .header("impersonate-group", "system:nodes")
        .header("impersonate-group", "system:authenticated")
        .body(patch.to_string().into_bytes())?;
    on.client.request_text(request).await.context("what the node reports")?;
    Ok(())
}

/// A VM of 64 MiB.
pub fn vm(name: &str, strategy: &str) -> Result<VirtualMachine> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {
            "memory": {"guest": "64Mi"}, "devices": {}}, "terminationGracePeriodSeconds": 5}}},
    }))?)
}

/// A node of that cluster, played by the agent's own code with libvirt played.
pub struct PlayedNode {
    /// Its agent: cluster and node API.
    pub agent: RunningAgent,
    /// Its files.
    pub node: Arc<AgentNode>,
    /// Its libvirt.
    pub vms: Arc<FakeVms>,
    _pods: Arc<watch::Sender<Listed<Pod>>>,
    /// All of the agent is on it, so that its end is that of a process.
    runtime: Option<Runtime>,
}

impl Drop for PlayedNode {
    fn drop(&mut self) {
        self.kill();
    }
}

impl PlayedNode {
    /// Joins, and waits until the Node says where its API is.
    pub async fn start(on: &Controlled) -> Result<Self> {
        let node = on.plane.joining("n1", "aaaa", TOKEN, &on.plane.ca_hash)?;
        Self::with(on, Arc::new(node), Arc::new(FakeVms::default())).await
    }

    /// The node n1 of a cluster that `client` asks, with these files and this address.
    pub async fn of(client: &kube::Client, node: AgentNode, address: IpAddr) -> Result<Self> {
        Self::at(client, address, Arc::new(node), Arc::new(FakeVms::default())).await
    }

    /// Ends the agent as `kill -9` does: connections break, and its domains run on.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Runs a further controller of the agent, which ends with it.
    pub fn runs<T: Send + 'static>(&self, controller: impl Future<Output = T> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(controller);
        }
    }

    /// Starts the agent again, on the same files and domains.
    pub async fn again(&mut self, on: &Controlled) -> Result<()> {
        self.kill();
        *self = Self::with(on, self.node.clone(), self.vms.clone()).await?;
        Ok(())
    }

    async fn with(on: &Controlled, node: Arc<AgentNode>, vms: Arc<FakeVms>) -> Result<Self> {
        Self::at(&on.client, on.plane.near_address(), node, vms).await
    }

    async fn at(
        client: &kube::Client,
        address: IpAddr,
        node: Arc<AgentNode>,
        vms: Arc<FakeVms>,
    ) -> Result<Self> {
        let runtime = own_runtime()?;
        let hosts = sheaf_agent::cluster::Hosts {
            run: Arc::new(FakeRun::default()),
            units: Arc::new(FakeUnits::default()),
        };
        let mut agent = {
            let _on = runtime.enter();
            node.start_at(address, hosts)?
        };
        let pods = Arc::new(watch::Sender::new(Listed::default()));
        let hosts = node_api::Hosts { vms: vms.clone(), pods: pods.clone(), run: Arc::new(System), port: 0 };
        let port = std::mem::replace(&mut agent.publish.api_port, watch::Sender::new(None));
        let (ctx, follow) = (agent.ctx.clone(), (agent.ctx.cluster.clone(), pods.clone()));
        runtime.spawn(async move { drop(node_api::run(ctx, port, hosts).await) });
        runtime.spawn(async move {
            listed::follow(follow.0, &follow.1, listed::by_uid, listed::Scope::ThisNode).await
        });
        // The former port of an agent that is started again is no answer.
        let mut listens = agent.ctx.api_port.clone();
        let port = tokio::time::timeout(START_TIME, listens.wait_for(Option::is_some)).await;
        let port = (*port.context("the node's API does not listen")??).context("a port")?;
        let nodes: Api<Node> = Api::all(client.clone());
        wait("the node says where its API is", async || {
            let status = nodes.get_opt("n1").await?.and_then(|node| node.status).unwrap_or_default();
            let said = status
                .daemon_endpoints
                .and_then(|all| all.kubelet_endpoint)
                .map_or(0, |endpoint| endpoint.port);
            Ok((said == i32::from(port)).then_some(()))
        })
        .await?;
        Ok(Self { agent, node, vms, _pods: pods, runtime: Some(runtime) })
    }

    /// Its VM `name` runs from now on, with this on its console so far. Waits until the instance says so.
    pub async fn run(
        &self,
        on: &Controlled,
        name: &str,
        console: &str,
    ) -> Result<(VirtualMachineInstance, UnixListener)> {
        let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
        let vmi = wait("the VM has an instance", async || instances.get_opt(name).await).await?;
        let uid = vmi.metadata.uid.clone().unwrap_or_default();
        let launcher = sheaf_controller::placeholder::name(&vmi);
        let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
        let pod = wait("its Pod is bound to the node", async || {
            let pod = pods.get_opt(&launcher).await?;
            Ok(pod.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())))
        })
        .await?;
        let id = Identity {
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            pod: launcher.clone(),
            namespace: "default".into(),
            vmi: name.into(),
            vmi_uid: uid.clone(),
        };
        let data = self.node.paths().data.join("vms");
        // As the agent names its domains.
        let uuid = vmi.spec.domain.firmware.as_ref().and_then(|firmware| firmware.uuid.clone());
        let uuid = uuid.unwrap_or_else(|| uid.clone());
        let started = Started { uuid: uuid.clone(), ..Started::default() };
        Record { started: Some(started), ..Record::made(&id) }.write(&data)?;
        let folder = Folder::of(&data, &uid);
        std::fs::write(folder.console_log(), console)?;
        let serial = UnixListener::bind(folder.console_socket())?;
        self.vms.add(Domain {
            uuid,
            name: id.domain(),
            state: State::Running,
            tags: Default::default(),
            devices: Default::default(),
            readonly: Default::default(),
            bases: Default::default(),
            aliases: Default::default(),
            pins: Default::default(),
            nics: Default::default(),
            cpus: Default::default(),
            memory: None,
            agent: false,
        });
        on.node_says(&launcher, "Running", "").await?;
        let vmi = wait("the instance runs", async || {
            let vmi = instances.get_opt(name).await?;
            Ok(vmi.filter(|vmi| vmi.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running)))
        })
        .await?;
        Ok((vmi, serial))
    }
}
