//! A node of a cluster whose agent makes volumes and takes images: the agent's own code, with LVM in memory and a real qemu-img.
//!
//! Why here: uploads are tried (`tests/upload.rs`) and measured (`bench`) on a machine without device mapper. Volumes are files.
//! Route in: a cluster of its own. Route out: DataVolumes that take images, where the upload proxy is, tokens for it.

use crate::controlled::{Controlled, wait};
use crate::played::{PlayedNode, cluster};
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_agent::container_disks::Images;
use sheaf_agent::listed::Listed;
use sheaf_agent::volumes;
use sheaf_api::cdi::{CdiConfig, DataVolume, DataVolumePhase};
use sheaf_api::storage::{LocalVolume, StoragePool};
use sheaf_host::fakes::{FakeLvm, FakeRun, FakeTransientUnits};
use sheaf_host::fetch::Http;
use sheaf_host::lvm::{Lvm as _, ThinSize};
use sheaf_host::run::{Run as _, System};
use sheaf_machine::tools::Tools;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

const MIB: u64 = 1 << 20;
/// Where tokens of uploads are asked for, in the default namespace.
pub const TOKENS: &str = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/default/uploadtokenrequests";

/// A cluster with a node that has a pool.
pub struct PlayedPool {
    /// The cluster.
    pub on: Controlled,
    /// The node.
    pub node: PlayedNode,
    volumes: PlayedDisks,
}

impl std::ops::Deref for PlayedPool {
    type Target = PlayedDisks;

    fn deref(&self) -> &PlayedDisks {
        &self.volumes
    }
}

/// What the node n1 keeps volumes on: LVM in memory, volumes as files, a real qemu-img.
pub struct PlayedDisks {
    /// Files: volumes, and what is sent.
    pub folder: tempfile::TempDir,
    policies: watch::Sender<Listed<sheaf_api::import_policy::ImportPolicy>>,
    hosts: volumes::Hosts,
}

impl PlayedDisks {
    /// Makes the pool `default` of `node`, of so many MiB, and announces it.
    pub async fn make(client: &kube::Client, node: &PlayedNode, mebibytes: u64) -> Result<Self> {
        let pools: Api<StoragePool> = Api::all(client.clone());
        let pool = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
            "metadata": {"name": "default.n1", "labels": {"sheaf.dev/pool": "default"}},
            "spec": {"nodeName": "n1", "pool": "default"}});
        pools.create(&PostParams::default(), &serde_json::from_value(pool)?).await?;
        let status = json!({"status": {"phase": "Ready", "totalBytes": mebibytes * MIB, "freeBytes": mebibytes * MIB}});
        pools.patch_status("default.n1", &PatchParams::default(), &Patch::Merge(&status)).await?;

        let folder = tempfile::tempdir()?;
        let lvm = FakeLvm::default().with_devices(folder.path());
        lvm.plug("/dev/sdb", 2 * mebibytes * MIB);
        lvm.create_group("sheaf-default", Path::new("/dev/sdb"), &[], &[])?;
        let size = ThinSize { data: mebibytes * MIB, metadata: 4 * MIB, chunk: 65536 };
        lvm.create_thin_pool("sheaf-default", size)?;
        let tools = Tools::find()?;
        let run = FakeRun::default().does("qemu-img", move |line| {
            let qemu_img = tools.command("usr/bin/qemu-img").args(line.split(' ').skip(1));
            System.run(&qemu_img).expect("qemu-img converts");
        });
        let (fetch, config) = (Arc::new(Http::default()), node.agent.ctx.config.clone());
        let hosts = volumes::Hosts {
            uploads: Arc::default(),
            lvm: Arc::new(lvm),
            fetch: fetch.clone(),
            images: Arc::new(Images::new(folder.path().join("container-disks"), fetch, config).leaving(0)),
            units: Arc::new(FakeTransientUnits::over(Arc::new(run))),
            devices: folder.path().to_owned(),
        };
        Ok(Self { folder, policies: watch::Sender::new(Listed::default()), hosts })
    }

    /// Starts the controller of volumes of its agent.
    pub fn serve(&self, node: &mut PlayedNode) {
        let publish = &mut node.agent.publish;
        let section = std::mem::replace(&mut publish.sections, sheaf_agent::status::open().1).volumes;
        let run = volumes::run(
            node.agent.ctx.clone(),
            publish.volumes.clone(),
            section,
            // Who waits to send an image is known to one agent only.
            volumes::Hosts { uploads: Arc::default(), ..self.hosts.clone() },
            self.policies.subscribe(),
        );
        node.runs(run);
    }

    /// A file for virtctl.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    /// What is on the disk of a claim of the default namespace.
    pub async fn disk_of(&self, client: &kube::Client, claim: &str) -> Result<Vec<u8>> {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
        let uid = claims.get(claim).await?.metadata.uid.context("the claim's UID")?;
        Ok(std::fs::read(self.folder.path().join("sheaf-default").join(format!("pvc-{uid}")))?)
    }
}

/// Asks for a DataVolume of so many MiB that takes an image, as soon as its node does.
pub async fn asked(client: &kube::Client, name: &str, mebibytes: u64) -> Result<()> {
    let data = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": name, "annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": ""}},
        "spec": {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": format!("{mebibytes}Mi")}}}},
    });
    let datas: Api<DataVolume> = Api::default_namespaced(client.clone());
    datas.create(&PostParams::default(), &serde_json::from_value(data)?).await?;
    Ok(())
}

/// Waits until a DataVolume is in `phase`.
pub async fn phase(client: &kube::Client, name: &str, phase: DataVolumePhase) -> Result<()> {
    let datas: Api<DataVolume> = Api::default_namespaced(client.clone());
    wait(&format!("DataVolume {name} is {phase}"), async || {
        let status = datas.get(name).await?.status.unwrap_or_default();
        Ok((status.phase == Some(phase)).then_some(()))
    })
    .await
}

/// Waits until an upload into a volume has begun.
pub async fn takes_bytes(client: &kube::Client) -> Result<()> {
    let volumes: Api<LocalVolume> = Api::all(client.clone());
    wait("the node takes bytes", async || {
        let volumes = volumes.list(&ListParams::default()).await?.items;
        let arrives = |one: &LocalVolume| {
            let status = one.status.clone().unwrap_or_default();
            status.size_bytes.is_none()
                && status.progress.is_some_and(|progress| progress.total_bytes.is_some())
        };
        Ok(volumes.iter().any(arrives).then_some(()))
    })
    .await
}

impl PlayedPool {
    /// Starts all of it; the pool has so many MiB.
    pub async fn start(mebibytes: u64) -> Result<Self> {
        let on = cluster().await?;
        let announced: Api<APIService> = Api::all(on.client.clone());
        wait("the API of tokens is available", async || {
            let found = announced.get_opt("v1beta1.upload.cdi.kubevirt.io").await?;
            let conditions = found.and_then(|found| found.status?.conditions).unwrap_or_default();
            Ok(conditions.iter().any(|one| one.type_ == "Available" && one.status == "True").then_some(()))
        })
        .await?;
        let node = PlayedNode::start(&on).await?;
        let volumes = PlayedDisks::make(&on.client, &node, mebibytes).await?;
        let mut this = Self { on, node, volumes };
        this.serve();
        Ok(this)
    }

    /// Starts the agent's controller of volumes.
    pub fn serve(&mut self) {
        self.volumes.serve(&mut self.node);
    }

    /// Starts the agent again after its end, on the same files and volumes.
    pub async fn again(&mut self) -> Result<()> {
        self.node.again(&self.on).await?;
        self.serve();
        Ok(())
    }

    /// A DataVolume of so many MiB that takes an image at once, once its node does.
    pub async fn asked(&self, name: &str, mebibytes: u64) -> Result<()> {
        asked(&self.on.client, name, mebibytes).await?;
        self.phase(name, DataVolumePhase::UploadReady).await
    }

    /// Waits until the DataVolume is in `phase`.
    pub async fn phase(&self, name: &str, phase: DataVolumePhase) -> Result<()> {
        let reached = self::phase(&self.on.client, name, phase).await;
        if reached.is_err() {
            eprintln!("{}", self.on.kubectl(&["get", "localvolumes,dv,pvc,events", "-A", "-o", "yaml"])?);
        }
        reached
    }

    /// Waits until the DataVolume says `words`.
    pub async fn says(&self, name: &str, words: &str) -> Result<()> {
        let datas: Api<DataVolume> = Api::default_namespaced(self.on.client.clone());
        wait(&format!("DataVolume {name} says {words:?}"), async || {
            let conditions = datas.get(name).await?.status.unwrap_or_default().conditions;
            let said = |one: &&sheaf_api::status::Condition| {
                one.message.as_ref().is_some_and(|message| message.contains(words))
            };
            Ok(conditions.iter().find(said).map(|_| ()))
        })
        .await
    }

    /// Waits until an upload into a volume has begun.
    pub async fn takes_bytes(&self) -> Result<()> {
        takes_bytes(&self.on.client).await
    }

    /// What is on the disk of the claim.
    pub async fn disk(&self, claim: &str) -> Result<Vec<u8>> {
        self.disk_of(&self.on.client, claim).await
    }

    /// `raw` as a qcow2 file.
    pub fn qcow2(&self, raw: &[u8]) -> Result<PathBuf> {
        let (from, to) = (self.file("raw", raw)?, self.folder.path().join("image.qcow2"));
        let qemu_img = Tools::find()?.command("usr/bin/qemu-img");
        System.run(&qemu_img.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(from).arg(&to))?;
        Ok(to)
    }

    /// A token for an upload into the claim.
    pub async fn token(&self, claim: &str) -> Result<String> {
        let asked = json!({"apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest",
            "metadata": {"name": "a"}, "spec": {"pvcName": claim}});
        let request = http::Request::post(TOKENS).header("content-type", "application/json");
        let answer: Value = self.on.client.request(request.body(serde_json::to_vec(&asked)?)?).await?;
        Ok(answer["status"]["token"].as_str().context("a token")?.to_owned())
    }

    /// The upload proxy, as virtctl finds it.
    pub async fn proxy(&self) -> Result<String> {
        let configs: Api<CdiConfig> = Api::all(self.on.client.clone());
        let url = wait("the CDIConfig has the proxy's URL", async || {
            Ok(configs.get_opt("config").await?.and_then(|config| config.status?.upload_proxy_url))
        })
        .await?;
        Ok(url.strip_prefix("https://").context("an https URL")?.to_owned())
    }
}
