//! Images that clients send, by virtctl itself and by requests of their own, on the real API server.
//!
//! Why here: what virtctl waits for is annotations, statuses and a token that only the real API server puts together. The node
//! is the agent's own code with LVM in memory; qemu-img is a real one.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::Sha256;
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
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{PlayedNode, cluster};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const MIB: u64 = 1 << 20;
const TOKENS: &str = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/default/uploadtokenrequests";

/// A cluster with a node that has a pool.
struct Scene {
    on: Controlled,
    folder: tempfile::TempDir,
    _node: PlayedNode,
    _policies: watch::Sender<Listed<sheaf_api::import_policy::ImportPolicy>>,
    volumes: tokio::task::JoinHandle<Result<()>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.volumes.abort();
    }
}

impl Scene {
    async fn start() -> Result<Self> {
        let on = cluster().await?;
        let announced: Api<APIService> = Api::all(on.client.clone());
        wait("the API of tokens is available", async || {
            let found = announced.get_opt("v1beta1.upload.cdi.kubevirt.io").await?;
            let conditions = found.and_then(|found| found.status?.conditions).unwrap_or_default();
            Ok(conditions.iter().any(|one| one.type_ == "Available" && one.status == "True").then_some(()))
        })
        .await?;
        let mut node = PlayedNode::start(&on).await?;
        let pools: Api<StoragePool> = Api::all(on.client.clone());
        let pool = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
            "metadata": {"name": "default.n1", "labels": {"sheaf.dev/pool": "default"}},
            "spec": {"nodeName": "n1", "pool": "default"}});
        pools.create(&PostParams::default(), &serde_json::from_value(pool)?).await?;
        let status = json!({"status": {"phase": "Ready", "totalBytes": 256 * MIB, "freeBytes": 256 * MIB}});
        pools.patch_status("default.n1", &PatchParams::default(), &Patch::Merge(&status)).await?;

        let folder = tempfile::tempdir()?;
        let lvm = FakeLvm::default().with_devices(folder.path());
        lvm.plug("/dev/sdb", 1 << 30);
        lvm.create_group("sheaf-default", Path::new("/dev/sdb"), &[], &[])?;
        let size = ThinSize { data: 256 * MIB, metadata: 4 * MIB, chunk: 65536 };
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
        let policies = watch::Sender::new(Listed::default());
        let publish = &mut node.agent.publish;
        let section = std::mem::replace(&mut publish.sections, sheaf_agent::status::open().1).volumes;
        let run = volumes::run(
            node.agent.ctx.clone(),
            publish.volumes.clone(),
            section,
            hosts,
            policies.subscribe(),
        );
        let volumes = tokio::spawn(run);
        Ok(Self { on, folder, _node: node, _policies: policies, volumes })
    }

    /// A DataVolume that takes an image at once, once its node does.
    async fn asked(&self, name: &str) -> Result<()> {
        let data = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": name, "annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": ""}},
            "spec": {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": "8Mi"}}}},
        });
        let datas: Api<DataVolume> = Api::default_namespaced(self.on.client.clone());
        datas.create(&PostParams::default(), &serde_json::from_value(data)?).await?;
        self.phase(name, DataVolumePhase::UploadReady).await
    }

    async fn phase(&self, name: &str, phase: DataVolumePhase) -> Result<()> {
        let datas: Api<DataVolume> = Api::default_namespaced(self.on.client.clone());
        let reached = wait(&format!("DataVolume {name} is {phase}"), async || {
            let status = datas.get(name).await?.status.unwrap_or_default();
            Ok((status.phase == Some(phase)).then_some(()))
        })
        .await;
        if reached.is_err() {
            eprintln!("{}", self.on.kubectl(&["get", "localvolumes,dv,pvc,events", "-A", "-o", "yaml"])?);
        }
        reached
    }

    /// Waits until the DataVolume says `words`.
    async fn says(&self, name: &str, words: &str) -> Result<()> {
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
    async fn takes_bytes(&self) -> Result<()> {
        let volumes: Api<LocalVolume> = Api::all(self.on.client.clone());
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

    /// What is on the disk of the claim.
    async fn disk(&self, claim: &str) -> Result<Vec<u8>> {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.on.client.clone());
        let uid = claims.get(claim).await?.metadata.uid.context("the claim's UID")?;
        Ok(std::fs::read(self.folder.path().join("sheaf-default").join(format!("pvc-{uid}")))?)
    }

    /// A file for virtctl.
    fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    /// `raw` as a qcow2 file.
    fn qcow2(&self, raw: &[u8]) -> Result<PathBuf> {
        let (from, to) = (self.file("raw", raw)?, self.folder.path().join("image.qcow2"));
        let qemu_img = Tools::find()?.command("usr/bin/qemu-img");
        System.run(&qemu_img.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(from).arg(&to))?;
        Ok(to)
    }

    async fn token(&self, claim: &str) -> Result<String> {
        let asked = json!({"apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest",
            "metadata": {"name": "a"}, "spec": {"pvcName": claim}});
        let request = http::Request::post(TOKENS).header("content-type", "application/json");
        let answer: Value = self.on.client.request(request.body(serde_json::to_vec(&asked)?)?).await?;
        Ok(answer["status"]["token"].as_str().context("a token")?.to_owned())
    }

    /// Addresses of the replicas of the controller.
    async fn replicas(&self) -> Result<Vec<String>> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.on.client.clone(), "sheaf-system");
        let ours = ListParams::default().labels("kubernetes.io/service-name=sheaf-controller");
        let of = |slice: EndpointSlice| {
            let port = slice.ports?.first()?.port?;
            Some(format!("{}:{port}", slice.endpoints?.first()?.addresses.first()?))
        };
        Ok(slices.list(&ours).await?.items.into_iter().filter_map(of).collect())
    }

    /// The upload proxy, as virtctl finds it.
    async fn proxy(&self) -> Result<String> {
        let configs: Api<CdiConfig> = Api::all(self.on.client.clone());
        let url = wait("the CDIConfig has the proxy's URL", async || {
            Ok(configs.get_opt("config").await?.and_then(|config| config.status?.upload_proxy_url))
        })
        .await?;
        Ok(url.strip_prefix("https://").context("an https URL")?.to_owned())
    }

    /// A request of a client that trusts the CA of the aggregated API.
    fn connect(&self, address: &str) -> Result<Client> {
        let pem = std::fs::read(self.on.plane.paths.kubernetes.join("pki/aggregated-ca.crt"))?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("sheaf-controller.sheaf-system.svc")?;
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        Ok(Client(rustls::StreamOwned::new(rustls::ClientConnection::new(Arc::new(config), name)?, stream)))
    }

    /// POST of `image`; status and text.
    fn post(&self, address: &str, token: Option<&str>, image: &[u8]) -> Result<(u16, String)> {
        let mut client = self.connect(address)?;
        client.head("POST", token, image.len())?;
        client.0.write_all(image)?;
        client.answer()
    }
}

/// A connection to the upload proxy.
struct Client(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Client {
    fn head(&mut self, method: &str, token: Option<&str>, length: usize) -> Result<()> {
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} /v1beta1/upload-async HTTP/1.1\r\nHost: proxy\r\n{authorization}Connection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        Ok(self.0.write_all(head.as_bytes())?)
    }

    fn answer(&mut self) -> Result<(u16, String)> {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => text.extend_from_slice(&piece[..read]),
                // It may end without TLS's own end.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            }
        }
        let text = String::from_utf8(text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_owned()))
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

// Building virtctl takes twenty minutes the first time.
#[cfg(feature = "all")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtctl_sends_a_qcow2_image_into_a_data_volume_and_a_raw_one_into_a_claim() -> Result<()> {
    let scene = Scene::start().await?;
    let virtctl = sheaf_tests::virtctl::Virtctl::new(scene.on.plane.kubeconfig())?;
    let address = scene.proxy().await?;
    let send = |kind: &str, name: &str, file: &Path, more: &[&str]| {
        let path = format!("--image-path={}", file.display());
        let words = ["image-upload", kind, name, &path, "--insecure", "--wait-secs=90", "--retry=1"];
        virtctl.run(&[&words, more].concat())
    };

    let raw = noise(4 << 20);
    let qcow2 = scene.qcow2(&raw)?;
    let (good, said) = send("dv", "disk", &qcow2, &["--size=8Mi", "--force-bind"])?;
    ensure!(good && said.contains("completed successfully"), "{said}");
    ensure!(said.contains(&format!("Uploading data to https://{address}")), "{said}");
    scene.phase("disk", DataVolumePhase::Succeeded).await?;
    ensure!(scene.disk("disk").await?.starts_with(&raw), "the image is on the disk");
    let (good, said) = send("dv", "disk", &qcow2, &[])?;
    ensure!(!good && said.contains("already successfully"), "{said}");

    let file = scene.file("plain.raw", &raw)?;
    let (good, said) = send("pvc", "plain", &file, &["--size=8Mi", "--force-bind"])?;
    ensure!(good && said.contains("completed successfully"), "{said}");
    ensure!(scene.disk("plain").await?.starts_with(&raw), "the image is on the disk");

    // A disk that is too large, and then the right one into the same claim.
    let large = scene.qcow2(&noise(16 << 20))?;
    let (good, said) = send("dv", "small", &large, &["--size=8Mi", "--force-bind"])?;
    ensure!(!good && said.contains("16777216 bytes, the volume 8388608"), "{said}");
    scene.says("small", "16777216 bytes, the volume 8388608").await?;
    let (good, said) = send("dv", "small", &file, &[])?;
    ensure!(good && said.contains("completed successfully"), "{said}");
    scene.phase("small", DataVolumePhase::Succeeded).await?;

    // Without a node there is nothing to send to.
    let (good, said) = send("dv", "waits", &file, &["--size=8Mi"])?;
    ensure!(!good && said.contains("WaitForFirstConsumer"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_taken_with_a_token_of_its_claim_alone_and_only_as_a_whole() -> Result<()> {
    let scene = Scene::start().await?;
    let address = scene.proxy().await?;
    let image = noise(4 << 20);
    scene.asked("disk").await?;

    // Who may not create requests in a namespace gets no token for its claims.
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": "edits", "namespace": "bank"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
               "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "teller"}]}),
    ] {
        let said = scene.on.kubectl_with(&["create"], &object.to_string())?;
        ensure!(said.contains("created"), "{said}");
    }
    let asked = json!({"spec": {"pvcName": "disk"}}).to_string();
    let by_teller = |path: &str| scene.on.kubectl_with(&["create", "--raw", path, "--as=teller"], &asked);
    let said = by_teller(TOKENS)?;
    ensure!(said.contains("cannot create resource \"uploadtokenrequests\""), "{said}");
    let said = by_teller(&TOKENS.replace("default", "bank"))?;
    ensure!(said.contains("\"disk\" not found"), "the role lets him ask in his own namespace: {said}");

    // Tokens that are none.
    let token = scene.token("disk").await?;
    ensure!(scene.post(&address, None, b"x")?.0 == 400, "without a token");
    ensure!(scene.post(&address, Some("nonsense"), b"x")?.0 == 401, "nonsense");
    let (status, said) = scene.post(&address, Some(&expired(&scene, &token).await?), b"x")?;
    ensure!(status == 401 && said.contains("older than 5 minutes"), "{status}: {said}");
    let mut head = scene.connect(&address)?;
    head.head("HEAD", Some(&token), 0)?;
    ensure!(head.answer()?.0 == 200, "virtctl asks first");

    // A connection that breaks in the middle leaves nothing.
    let mut broken = scene.connect(&address)?;
    broken.head("POST", Some(&token), image.len())?;
    broken.0.write_all(&image[..image.len() / 2])?;
    scene.takes_bytes().await?;
    drop(broken);
    scene.says("disk", "the upload ended after").await?;

    // So does a replica that dies; another one takes its tokens.
    let (mut sending, dead) = through_another_replica(&scene, &address, &token, &image).await?;
    dead.shutdown_background();
    ensure!(sending.answer().is_err(), "the replica is gone");
    scene.phase("disk", DataVolumePhase::UploadReady).await?;
    // A disk that is too large is refused with both sizes; the right one may follow at once.
    let large = std::fs::read(scene.qcow2(&noise(16 << 20))?)?;
    let (status, said) = scene.post(&address, Some(&token), &large)?;
    ensure!(status == 500 && said.contains("16777216 bytes, the volume 8388608"), "{status}: {said}");
    let qcow2 = std::fs::read(scene.qcow2(&image)?)?;
    let (status, said) = scene.post(&address, Some(&token), &qcow2)?;
    ensure!((status, said.as_str()) == (200, ""), "the whole image: {status}: {said}");
    scene.phase("disk", DataVolumePhase::Succeeded).await?;
    ensure!(scene.disk("disk").await?.starts_with(&image), "the image is on the disk");
    let (status, said) = scene.post(&address, Some(&token), &image)?;
    ensure!((status, said.as_str()) == (503, "the claim disk is filled already"), "{status}: {said}");

    // A later claim of that name is another one.
    let said = scene.on.kubectl(&["delete", "dv", "disk", "--wait"])?;
    ensure!(said.contains("deleted"), "{said}");
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(scene.on.client.clone());
    wait("the claim is gone", async || Ok(claims.get_opt("disk").await?.is_none().then_some(()))).await?;
    scene.asked("disk").await?;
    let (status, said) = scene.post(&address, Some(&token), &image)?;
    ensure!(status == 503 && said.contains("does not exist any more"), "{status}: {said}");
    Ok(())
}

/// The same token as it would be if it had expired: signed by the cluster's own key.
async fn expired(scene: &Scene, token: &str) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(scene.on.client.clone(), "sheaf-system");
    let key = secrets.get("upload-token-key").await?.data.and_then(|mut data| data.remove("key"));
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, _] = parts.as_slice() else { bail!("{token}: not three parts") };
    let mut claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    claims["exp"] = json!(1);
    let text = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signer = Hmac::<Sha256>::new_from_slice(&key.context("the key")?.0).ok().context("a signer")?;
    let signed = signer.chain_update(&text).finalize();
    Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signed.into_bytes())))
}

/// Half of `image`, sent through a replica beside the one at `address`; it lives on the runtime.
async fn through_another_replica(
    scene: &Scene,
    address: &str,
    token: &str,
    image: &[u8],
) -> Result<(Client, tokio::runtime::Runtime)> {
    let replica = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let options = scene.on.plane.controller_options();
    replica.spawn(async move { sheaf_controller::run(&options).await });
    let other = wait("the other replica is an endpoint", async || {
        let all = scene.replicas().await.unwrap_or_default();
        Ok(all.into_iter().find(|one| one != address))
    })
    .await?;
    let mut client = scene.connect(&other)?;
    client.head("POST", Some(token), image.len())?;
    client.0.write_all(&image[..image.len() / 2])?;
    scene.takes_bytes().await?;
    Ok((client, replica))
}
