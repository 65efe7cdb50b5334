//! Images that need a password and an authority of one's own, imported by a node on the real API server: the node may read the
//! Secret while the import runs, and at no other time, and never one of another namespace.
//!
//! Why here: what a node may read, only the API server can say (Node authorizer, with the importer Pod that the controller
//! makes). The node is the agent's own code with LVM in memory; the servers are real ones, on the loopback, over TLS.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_agent::api_server::Joined;
use sheaf_agent::container_disks::Images;
use sheaf_agent::listed::Listed;
use sheaf_agent::paths::Paths;
use sheaf_agent::volumes::fill::policy;
use sheaf_agent::{channels, volumes};
use sheaf_api::cdi::{DataVolume, DataVolumePhase};
use sheaf_api::import_policy::ImportPolicy;
use sheaf_api::names::IMPORT_LABEL;
use sheaf_api::storage::{LocalVolume, StoragePool};
use sheaf_host::fakes::{FakeLvm, FakeRun, FakeTransientUnits};
use sheaf_host::fetch::Http;
use sheaf_host::lvm::{Lvm, ThinSize};
use sheaf_tests::controlled::{Controlled, wait};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

const MIB: u64 = 1 << 20;
const PASSWORD: &str = "correct-horse-battery-staple";
const TOKEN: &str = "t0p-s3cret-header";

/// An authority, and what servers show that it signed for 127.0.0.1.
struct Authority {
    pem: String,
    config: Arc<rustls::ServerConfig>,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut own = rcgen::CertificateParams::new(Vec::<String>::new())?;
        own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate()?;
        let der = own.self_signed(&key)?.der().clone();
        let issuer = rcgen::Issuer::new(own, key);
        let server_key = rcgen::KeyPair::generate()?;
        let mut server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        server.distinguished_name.push(rcgen::DnType::CommonName, "images");
        let certificate = server.signed_by(&server_key, &issuer)?.der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(server_key.serialize_der().into()))?;
        let text = BASE64_STANDARD.encode(&der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        Ok(Self { pem, config: Arc::new(config) })
    }
}

/// The head of a request, in lower case but for values.
type Head = Vec<String>;

/// A server over TLS that answers each request by its head.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<Head>>>,
}

impl Server {
    fn start(
        authority: &Authority,
        answer: impl Fn(&Head) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let heads: Arc<Mutex<Vec<Head>>> = Arc::default();
        let (log, config, answer) = (heads.clone(), authority.config.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, config, answer) = (log.clone(), config.clone(), answer.clone());
                std::thread::spawn(move || -> Result<()> {
                    let tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, stream);
                    let mut reader = BufReader::new(tls);
                    let mut head = Head::new();
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                            break;
                        }
                        let (name, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
                        head.push(format!("{} {value}", name.to_lowercase()));
                    }
                    log.lock().unwrap().push(head.clone());
                    let stream = reader.get_mut();
                    stream.write_all(&answer(&head))?;
                    stream.conn.send_close_notify();
                    Ok(stream.flush()?)
                });
            }
        });
        Ok(Self { port, heads })
    }

    fn heads(&self) -> Vec<Head> {
        self.heads.lock().unwrap().clone()
    }
}

fn answer(status: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A client that acts for the agent of `node`.
async fn as_node(on: &Controlled, node: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(on.plane.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info.impersonate = Some(format!("system:node:{node}"));
    config.auth_info.impersonate_groups = Some(vec!["system:nodes".into(), "system:authenticated".into()]);
    Ok(Client::try_from(config)?)
}

/// HTTP status by which `client` is answered that asks for a Secret; 200 when it is given.
async fn status_of_reading(client: &Client, namespace: &str, name: &str) -> kube::Result<u16> {
    match Api::<Secret>::namespaced(client.clone(), namespace).get(name).await {
        Ok(_) => Ok(200),
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(error) => Err(error),
    }
}

/// Namespaces with the same Secrets, a node with a pool, and the loopback allowed to imports.
async fn prepare(on: &Controlled, authority: &Authority) -> Result<()> {
    let basic = |namespace: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
               "stringData": {"accessKeyId": "shop", "secretKey": PASSWORD}})
    };
    let mut objects = Vec::new();
    for namespace in ["shop", "bank"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        objects.push(basic(namespace, "login"));
    }
    objects.push(basic("shop", "unrelated"));
    objects.push(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tokens", "namespace": "shop"},
                        "stringData": {"token": format!("X-Token: {TOKEN}")}}),
    );
    objects.push(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca", "namespace": "shop"},
                        "data": {"ca.crt": authority.pem}}),
    );
    for object in objects {
        let said = on.kubectl_with(&["create"], &object.to_string())?;
        ensure!(said.contains("created"), "{said}");
    }
    let nodes: Api<Node> = Api::all(on.client.clone());
    let labels = json!({"kubernetes.io/hostname": "n1", "sheaf.dev/vm-node": "true"});
    let node = json!({"metadata": {"name": "n1", "labels": labels}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    let pools: Api<StoragePool> = Api::all(on.client.clone());
    let pool = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
        "metadata": {"name": "default.n1", "labels": {"sheaf.dev/pool": "default"}},
        "spec": {"nodeName": "n1", "pool": "default"}});
    pools.create(&PostParams::default(), &serde_json::from_value(pool)?).await?;
    let status = json!({"status": {"phase": "Ready", "totalBytes": 256 * MIB, "freeBytes": 256 * MIB}});
    pools.patch_status("default.n1", &PatchParams::default(), &Patch::Merge(&status)).await?;
    let policies: Api<ImportPolicy> = Api::all(on.client.clone());
    wait("the ImportPolicy is there", async || policies.get_opt("default").await).await?;
    let allow = json!({"spec": {"allow": [{"cidrs": ["127.0.0.1/32"]}]}});
    policies.patch("default", &PatchParams::default(), &Patch::Merge(&allow)).await?;
    wait("namespace shop has its service account", async || {
        Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(on.client.clone(), "shop")
            .get_opt("default")
            .await
    })
    .await?;
    Ok(())
}

/// A DataVolume of namespace shop that is filled at once.
async fn import(on: &Controlled, name: &str, url: &str, image: &[u8], more: Value) -> Result<()> {
    let digest: String = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut http = json!({"url": url, "checksum": format!("sha256:{digest}"), "certConfigMap": "ca"});
    for (key, value) in more.as_object().into_iter().flatten() {
        http[key] = value.clone();
    }
    let data = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": name, "annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {"source": {"http": http}, "storage": {"resources": {"requests": {"storage": "8Mi"}}}},
    });
    let datas: Api<DataVolume> = Api::namespaced(on.client.clone(), "shop");
    datas.create(&PostParams::default(), &serde_json::from_value(data)?).await?;
    Ok(())
}

async fn succeeded(on: &Controlled, name: &str) -> Result<()> {
    let datas: Api<DataVolume> = Api::namespaced(on.client.clone(), "shop");
    let done = wait(&format!("DataVolume {name} is filled"), async || {
        let status = datas.get(name).await?.status.unwrap_or_default();
        Ok((status.phase == Some(DataVolumePhase::Succeeded)).then_some(()))
    })
    .await;
    if done.is_err() {
        eprintln!("{}", on.kubectl(&["get", "localvolumes,pods,events", "-A", "-o", "yaml"])?);
    }
    done
}

/// Every regular file below `folder`: all that the node wrote.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            all.extend(files(&entry.path())?);
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_the_secrets_of_an_import_while_it_runs_and_no_others_and_sends_them_to_one_server()
-> Result<()> {
    let on = Controlled::start().await?;
    let authority = Authority::new()?;
    prepare(&on, &authority).await?;
    let image: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();

    // One that wants a password and, for /held, waits until the test has looked; one beside it that wants none.
    let basic = format!("authorization: Basic {}", BASE64_STANDARD.encode(format!("shop:{PASSWORD}")));
    let elsewhere = Server::start(&authority, {
        let image = image.clone();
        move |_| answer("200 OK", "", &image)
    })?;
    let (release, held): (Sender<()>, Receiver<()>) = channel();
    let (held, moved) = (Mutex::new(held), elsewhere.port);
    let guarded = Server::start(&authority, {
        let (image, basic) = (image.clone(), basic.clone());
        move |head| {
            let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
            match path {
                _ if !head.contains(&basic) => answer("401 Unauthorized", "", b""),
                "/moved" => {
                    answer("302 Found", &format!("Location: https://127.0.0.1:{moved}/file\r\n"), b"")
                }
                _ => {
                    // It ends, too, when the test has ended.
                    let _ = held.lock().unwrap().recv();
                    answer("200 OK", "", &image)
                }
            }
        }
    })?;

    let folder = tempfile::tempdir()?;
    let lvm = FakeLvm::default().with_devices(folder.path());
    lvm.plug("/dev/sdb", 1 << 30);
    lvm.create_group("sheaf-default", Path::new("/dev/sdb"), &[], &[])?;
    lvm.create_thin_pool("sheaf-default", ThinSize { data: 256 * MIB, metadata: 4 * MIB, chunk: 65536 })?;
    let config = sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n")
        .map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let (ctx, publish) = channels::open(Paths::under(folder.path()), config);
    let node = as_node(&on, "n1").await?;
    let joined = Joined { client: node.clone(), node: "n1".into(), node_uid: String::new() };
    publish.cluster.send_replace(Some(joined));
    let fetch = Arc::new(Http::default());
    let hosts = volumes::Hosts {
        uploads: Arc::default(),
        lvm: Arc::new(lvm),
        fetch: fetch.clone(),
        images: Arc::new(Images::new(folder.path().join("container-disks"), fetch, ctx.config.clone())),
        units: Arc::new(FakeTransientUnits::over(Arc::new(FakeRun::default()))),
        devices: folder.path().to_owned(),
    };
    let policies = Arc::new(watch::Sender::new(Listed::default()));
    let rules = policies.subscribe();
    tokio::spawn(policy::follow(ctx.clone(), policies));
    let (volumes, section) = (publish.volumes.clone(), publish.sections.volumes);
    let agent = tokio::spawn(volumes::run(ctx, volumes, section, hosts, rules));

    // Before: nothing.
    for (namespace, name) in [("shop", "login"), ("shop", "tokens"), ("bank", "login")] {
        let status = status_of_reading(&node, namespace, name).await?;
        ensure!(status == 403, "before any import the node reads {namespace}/{name}: {status}");
    }
    let credentials = json!({"secretRef": "login", "secretExtraHeaders": ["tokens"]});
    let url = format!("https://127.0.0.1:{}/held", guarded.port);
    import(&on, "held", &url, &image, credentials.clone()).await?;
    wait("the server is asked with the password", async || {
        Ok(guarded.heads().iter().any(|head| head.contains(&basic)).then_some(()))
    })
    .await?;

    // While it runs: what the source names, and nothing else, by this node and no other.
    for (namespace, name, expected) in
        [("shop", "login", 200), ("shop", "tokens", 200), ("shop", "unrelated", 403), ("bank", "login", 403)]
    {
        let status = status_of_reading(&node, namespace, name).await?;
        ensure!(status == expected, "while the import runs the node reads {namespace}/{name}: {status}");
    }
    ensure!(status_of_reading(&as_node(&on, "n2").await?, "shop", "login").await? == 403, "another node");
    let all = Api::<Secret>::namespaced(node.clone(), "shop").list(&ListParams::default()).await;
    ensure!(matches!(all, Err(kube::Error::Api(status)) if status.code == 403), "it lists Secrets");
    let pods: Api<Pod> = Api::namespaced(on.client.clone(), "shop");
    let importers = || ListParams::default().labels(IMPORT_LABEL);
    let importer = pods.list(&importers()).await?.items.pop().context("the importer Pod")?;
    let name = importer.metadata.name.clone().context("its name")?;
    // It cannot keep the Pod, and with it the right.
    let keep = Patch::Merge(json!({"metadata": {"finalizers": ["example.org/keep"]}}));
    let kept = Api::<Pod>::namespaced(node.clone(), "shop")
        .patch_status(&name, &PatchParams::default(), &keep)
        .await;
    ensure!(pods.get(&name).await?.metadata.finalizers.is_none(), "the node keeps the Pod: {kept:?}");

    // After: nothing again.
    release.send(())?;
    succeeded(&on, "held").await?;
    wait("the importer Pod is gone", async || {
        Ok(pods.list(&importers()).await?.items.is_empty().then_some(()))
    })
    .await?;
    for name in ["login", "tokens"] {
        wait(&format!("the node cannot read {name} any more"), async || {
            Ok((status_of_reading(&node, "shop", name).await? == 403).then_some(()))
        })
        .await?;
    }
    let token = format!("x-token: {TOKEN}");
    ensure!(guarded.heads().iter().all(|head| head.contains(&token)), "{:?}", guarded.heads());
    let volumes: Api<LocalVolume> = Api::all(on.client.clone());
    let volume = volumes.list(&ListParams::default()).await?.items.pop().context("its volume")?;
    let device = folder.path().join("sheaf-default").join(volume.metadata.name.unwrap_or_default());
    ensure!(std::fs::read(device)?.starts_with(&image), "the image is on the disk");

    // A redirect to another server: the image comes, the password does not go there.
    let url = format!("https://127.0.0.1:{}/moved", guarded.port);
    import(&on, "moved", &url, &image, credentials).await?;
    succeeded(&on, "moved").await?;
    let heads = elsewhere.heads();
    ensure!(!heads.is_empty(), "the redirect was followed");
    let leaks = |text: &str| {
        let encoded = BASE64_STANDARD.encode(format!("shop:{PASSWORD}"));
        [PASSWORD, TOKEN, &encoded].into_iter().any(|secret| text.contains(secret))
    };
    ensure!(!leaks(&format!("{heads:?}")), "sent to another origin: {heads:?}");

    // A Secret of another namespace cannot even be named; nothing of a password is in what people and nodes read.
    let said = on.kubectl(&["get", "localvolumes,datavolumes,pvc,pv,pods,events", "-A", "-o", "json"])?;
    ensure!(said.contains("importer-pvc-") || said.contains("held"), "{said}");
    ensure!(!leaks(&said), "an object shows a password");
    let files = files(folder.path())?;
    ensure!(files.len() > 1, "the node has files: {files:?}");
    for file in files {
        let text = std::fs::read(&file)?;
        ensure!(!leaks(&String::from_utf8_lossy(&text)), "{} shows a password", file.display());
    }
    publish.shutdown.send_replace(true);
    agent.await??;
    Ok(())
}
