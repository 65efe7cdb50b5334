//! Images that clients send, by virtctl itself and by requests of their own, on the real API server.
//!
//! Why here: what virtctl waits for is annotations, statuses and a token that only the real API server puts together. The node
//! is the agent's own code with LVM in memory; qemu-img is a real one.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::Api;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::Sha256;
use sheaf_api::cdi::{DataVolume, DataVolumePhase};
use sheaf_tests::controlled::{Replica, wait};
use sheaf_tests::played_pool::{PlayedPool, TOKENS};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
#[cfg(feature = "all")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The client's side of a [`PlayedPool`].
struct Scene(PlayedPool);

impl std::ops::Deref for Scene {
    type Target = PlayedPool;

    fn deref(&self) -> &PlayedPool {
        &self.0
    }
}

impl Scene {
    async fn start() -> Result<Self> {
        Ok(Self(PlayedPool::start(256).await?))
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
    scene.asked("disk", 8).await?;

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
    dead.kill();
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
    scene.asked("disk", 8).await?;
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

/// Half of `image`, sent through a replica beside the one at `address`.
async fn through_another_replica(
    scene: &Scene,
    address: &str,
    token: &str,
    image: &[u8],
) -> Result<(Client, Replica)> {
    let replica = scene.on.replica()?;
    let other = wait("the other replica is an endpoint", async || {
        let all = scene.on.replicas().await.unwrap_or_default();
        Ok(all.into_iter().find(|one| one != address))
    })
    .await?;
    let mut client = scene.connect(&other)?;
    client.head("POST", Some(token), image.len())?;
    client.0.write_all(&image[..image.len() / 2])?;
    scene.takes_bytes().await?;
    Ok((client, replica))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_under_an_upload_leaves_nothing_that_is_taken_as_good() -> Result<()> {
    let mut scene = Scene::start().await?;
    let image = noise(6 << 20);
    scene.asked("disk", 8).await?;
    let (address, token) = (scene.proxy().await?, scene.token("disk").await?);
    let mut sending = scene.connect(&address)?;
    sending.head("POST", Some(&token), image.len())?;
    sending.0.write_all(&image[..image.len() / 2])?;
    scene.takes_bytes().await?;

    scene.0.node.kill();
    // The proxy says that the node is gone, or the connection breaks: never that the image was taken.
    if let Ok((status, said)) = sending.answer() {
        ensure!(status >= 500 && said.contains("n1"), "{status}: {said}");
    }
    let datas: Api<DataVolume> = Api::default_namespaced(scene.on.client.clone());
    let status = datas.get("disk").await?.status.unwrap_or_default();
    ensure!(status.phase != Some(DataVolumePhase::Succeeded), "{status:?}");

    // The next agent makes the volume again, and takes the whole image.
    scene.0.again().await?;
    scene.phase("disk", DataVolumePhase::UploadReady).await?;
    let mut answer = scene.post(&address, Some(&token), &image)?;
    for _ in 0..60 {
        // What the former agent said of the volume is true until the next one has seen it.
        if answer.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await; // the next attempt of the client
        answer = scene.post(&address, Some(&token), &image)?;
    }
    ensure!(answer == (200, String::new()), "{answer:?}");
    scene.phase("disk", DataVolumePhase::Succeeded).await?;
    ensure!(scene.disk("disk").await?.starts_with(&image), "the image is on the disk");
    Ok(())
}
