//! The agent's volumes on the real API server, as a node that may write only what is its own; LVM is in memory.
//!
//! Why here: whether a node may watch, hold and report its volumes is said by the API server alone.

use anyhow::{Context as _, Result};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_agent::api_server::Joined;
use sheaf_agent::container_disks::Images;
use sheaf_agent::listed::Listed;
use sheaf_agent::paths::Paths;
use sheaf_agent::volumes::fill::policy;
use sheaf_agent::{channels, volumes};
use sheaf_api::storage::LocalVolume;
use sheaf_host::fakes::{FakeFetch, FakeLvm, FakeRun, FakeTransientUnits};
use sheaf_host::lvm::{Lvm, LvmReport as _, ThinSize};
use sheaf_tests::controlled::{Controlled, wait};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

const URL: &str = "http://images/a.raw";
const MIB: u64 = 1 << 20;

/// A client that acts for the agent of `node`.
async fn as_node(bench: &Controlled, node: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(bench.plane.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info.impersonate = Some(format!("system:node:{node}"));
    config.auth_info.impersonate_groups = Some(vec!["system:nodes".into(), "system:authenticated".into()]);
    Ok(Client::try_from(config)?)
}

fn object(name: &str, node: &str, source: Value) -> LocalVolume {
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": name},
        "spec": {"nodeName": node, "pool": "default", "sizeBytes": 8 * MIB, "source": source},
    }))
    .expect("a LocalVolume")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_fills_grows_and_removes_its_volumes_and_leaves_those_of_others() -> Result<()> {
    let bench = Controlled::start().await?;
    let folder = tempfile::tempdir()?;
    let lvm = FakeLvm::default().with_devices(folder.path());
    lvm.plug("/dev/sdb", 1 << 30);
    lvm.create_group("sheaf-default", Path::new("/dev/sdb"), &[], &[])?;
    lvm.create_thin_pool("sheaf-default", ThinSize { data: 64 * MIB, metadata: 4 * MIB, chunk: 65536 })?;
    let lvm = Arc::new(lvm);
    let image: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let digest: String = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
    let fetch = FakeFetch { files: [(URL.to_owned(), image.clone())].into(), ..FakeFetch::default() };

    let config = sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n")
        .map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let (ctx, publish) = channels::open(Paths::under(folder.path()), config);
    let fetch = Arc::new(fetch);
    let hosts = volumes::Hosts {
        uploads: Arc::default(),
        lvm: lvm.clone(),
        fetch: fetch.clone(),
        images: Arc::new(Images::new(folder.path().join("container-disks"), fetch, ctx.config.clone())),
        units: Arc::new(FakeTransientUnits::over(Arc::new(FakeRun::default()))),
        devices: folder.path().to_owned(),
    };
    publish.cluster.send_replace(Some(Joined {
        client: as_node(&bench, "n1").await?,
        node: "n1".into(),
        node_uid: String::new(),
    }));
    let policies = Arc::new(watch::Sender::new(Listed::default()));
    let rules = policies.subscribe();
    tokio::spawn(policy::follow(ctx.clone(), policies));
    let (made, section) = (publish.volumes.clone(), publish.sections.volumes);
    let agent = tokio::spawn(volumes::run(ctx.clone(), made, section, hosts, rules));

    let api: Api<LocalVolume> = Api::all(bench.client.clone());
    let http = json!({"http": {"url": URL, "checksum": format!("sha256:{digest}")}});
    api.create(&PostParams::default(), &object("pvc-1", "n1", http)).await?;
    api.create(&PostParams::default(), &object("pvc-9", "n2", json!({"blank": {}}))).await?;
    let ready = async |name: &str, bytes: u64| {
        wait(&format!("{name} is ready with {bytes} bytes"), async || {
            let volume = api.get(name).await?;
            let size = volume.status.as_ref().and_then(|status| status.size_bytes);
            Ok((volume.is_ready() && size == Some(bytes)).then_some(volume))
        })
        .await
    };
    let volume = ready("pvc-1", 8 * MIB).await?;
    let status = volume.status.clone().context("a status")?;
    assert_eq!(status.device_path.as_deref(), Some("/dev/sheaf-default/pvc-1"));
    assert_eq!(status.progress.and_then(|progress| progress.percent), Some(100));
    assert_eq!(volume.metadata.finalizers, Some(vec!["sheaf.dev/local-volume".into()]));
    assert!(std::fs::read(folder.path().join("sheaf-default/pvc-1"))?.starts_with(&image));

    let larger = Patch::Merge(json!({"spec": {"sizeBytes": 12 * MIB}}));
    api.patch("pvc-1", &PatchParams::default(), &larger).await?;
    ready("pvc-1", 12 * MIB).await?;

    let wrong = json!({"http": {"url": URL, "checksum": format!("sha256:{}", "0".repeat(64))}});
    api.create(&PostParams::default(), &object("pvc-2", "n1", wrong)).await?;
    let message = wait("pvc-2 has failed", async || {
        let volume = api.get("pvc-2").await?;
        let why = volume.why().map(|(reason, message)| (reason.to_string(), message.to_owned()));
        Ok(why.filter(|(reason, _)| reason == "ChecksumMismatch").map(|(_, message)| message))
    })
    .await?;
    assert!(message.contains(URL) && !message.contains(&digest), "{message}");

    // What LVM has is what the status page shows.
    let shown = ctx.status.subscribe().borrow().volumes.clone();
    assert_eq!(shown.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(), ["pvc-1", "pvc-2"]);

    for name in ["pvc-1", "pvc-2"] {
        api.delete(name, &DeleteParams::default()).await?;
        wait(&format!("{name} is gone"), async || Ok(api.get_opt(name).await?.is_none().then_some(())))
            .await?;
    }
    let left: Vec<_> = lvm.volumes("sheaf-default")?.into_iter().map(|volume| volume.name).collect();
    assert_eq!(left, ["thin"]);
    assert_eq!(api.get("pvc-9").await?.status, None, "another node's volume is left alone");
    publish.shutdown.send_replace(true);
    agent.await??;
    Ok(())
}
