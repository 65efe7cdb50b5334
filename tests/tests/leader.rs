//! Leader election on the real API server: who leads, who gives up, who follows.
//!
//! Why here: only the API server decides a race for a Lease, and only a connection that carries nothing shows whether a
//! leader gives up in time. Route in: electors, and whole controllers. Route out: the order of what they do.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use sheaf_controller::lease::Elector;
use sheaf_tests::{
    cluster::ControlPlane,
    controlled::{Controlled, wait},
};
use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longer than a lease lasts without renewal (30 s), with room for a machine that has other work.
const TAKE_OVER: Duration = Duration::from_secs(90);

/// Carries bytes between a client and the API server, until it is cut: then it carries nothing, and closes nothing.
struct Wire {
    cut: Arc<AtomicBool>,
    port: u16,
}

impl Wire {
    async fn to(address: std::net::IpAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect((address, 6443)).await else { continue };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(carry(near_in, far_out, is_cut.clone()));
                tokio::spawn(carry(far_in, near_out, is_cut.clone()));
            }
        });
        Ok(Self { cut, port })
    }

    /// A client of the controller's identity that speaks over this wire.
    async fn client(&self, plane: &ControlPlane) -> Result<Client> {
        let read = Kubeconfig::read_from(plane.controller_kubeconfig())?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        config.cluster_url = format!("https://127.0.0.1:{}", self.port).parse()?;
        config.tls_server_name = Some(plane.address.to_string());
        Ok(Client::try_from(config)?)
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if cut.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

async fn holder(admin: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(admin.clone(), "sheaf-system");
    let lease = leases.get("sheaf-controller").await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_leads_the_other_follows_a_release_and_a_leader_that_is_cut_off_gives_up_first()
-> Result<()> {
    let plane = ControlPlane::start("").await?;
    let wire = Wire::to(plane.address).await?;
    let through = wire.client(&plane).await?;
    sheaf_controller::install::namespace(&through).await?;
    let mut first = Elector::new(plane.admin.clone(), "first".into());
    let mut second = Elector::new(through, "second".into());

    first.acquire().await;
    let early = tokio::time::timeout(Duration::from_secs(5), second.acquire()).await;
    ensure!(early.is_err(), "two led at once");
    ensure!(holder(&plane.admin).await? == "first");

    first.release().await;
    let after = tokio::time::timeout(TAKE_OVER, second.acquire()).await;
    after.context("nobody followed a release")?;
    ensure!(holder(&plane.admin).await? == "second");

    wire.cut();
    let gives_up = async {
        tokio::time::timeout(TAKE_OVER, second.keep()).await.context("a leader that is cut off leads on")?;
        anyhow::Ok(Instant::now())
    };
    let follows = async {
        tokio::time::timeout(TAKE_OVER, first.acquire()).await.context("nobody followed")?;
        anyhow::Ok(Instant::now())
    };
    let (gave_up, followed) = tokio::try_join!(gives_up, follows)?;
    ensure!(gave_up < followed, "another led {:?} before the one before gave up", gave_up - followed);
    ensure!(holder(&plane.admin).await? == "first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leading_controller_is_killed_the_other_goes_on_with_its_vms_and_starts_none_twice()
-> Result<()> {
    let on = Controlled::start().await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let vm = |name: &str| -> Result<VirtualMachine> {
        Ok(serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
            "spec": {"runStrategy": "Always", "template": {"spec":
                {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}},
        }))?)
    };
    let before = holder(&on.client).await?;
    let options = on.plane.controller_options();
    let other = tokio::spawn(async move { sheaf_controller::run(&options).await });
    machines.create(&PostParams::default(), &vm("before")?).await?;
    wait("the first leader makes an instance", async || instances.get_opt("before").await).await?;
    on.kill_controller();
    machines.create(&PostParams::default(), &vm("after")?).await?;
    wait("the second leader makes an instance", async || instances.get_opt("after").await).await?;
    ensure!(holder(&on.client).await? != before);
    let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
    let pods = wait("both have Pods", async || {
        let pods = pods.list(&ListParams::default().labels("kubevirt.io=virt-launcher")).await?.items;
        Ok((pods.len() >= 2).then_some(pods))
    })
    .await?;
    other.abort();
    ensure!(pods.len() == 2, "{} Pods of two VMs", pods.len());
    Ok(())
}
