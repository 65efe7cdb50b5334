//! The whole controller with LVM, servers and the API server in memory, each of which can fail at every step.

use super::api::Cluster;
use super::controller::{Controller, Lists};
use super::*;
use crate::api_server::RequestError;
use crate::channels;
use crate::container_disks::Images;
use crate::listed::Listed;
use crate::paths::Paths;
use crate::registry::testing::{gzip, push, tar};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_api::import_policy::{IMPORT_POLICY, ImportPolicy};
use sheaf_api::storage::local_volume::{FINALIZER, VolumePhase};
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus};
use sheaf_host::fakes::{FakeFetch, FakeLvm, FakeRun, FakeTransientUnits};
use sheaf_host::lvm::{LvmReport as _, ThinSize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const URL: &str = "http://images/debian.raw";
const GROUP: &str = "sheaf-default";
const MIB: u64 = 1 << 20;

/// Data of a Secret, by key.
type SecretData = BTreeMap<String, Vec<u8>>;

/// A node without registries.
pub(super) struct NoImages;

impl fill::registry::Images for NoImages {
    fn pull(
        &self,
        _: &fill::registry::Order,
        _: &(dyn Fn(sheaf_api::storage::local_volume::Progress) + Sync),
    ) -> Result<fill::registry::Pulled, fill::FillError> {
        Err(fill::FillError::Stopped)
    }
}

/// An API server in memory whose list the controller follows.
pub(super) struct FakeCluster {
    pub(super) listed: watch::Sender<Listed<LocalVolume>>,
    away: std::sync::atomic::AtomicBool,
    /// Secrets that the node may read, by namespace and name.
    secrets: std::sync::Mutex<BTreeMap<(String, String), SecretData>>,
}

impl FakeCluster {
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut LocalVolume)) -> anyhow::Result<()> {
        anyhow::ensure!(!self.away.load(std::sync::atomic::Ordering::Relaxed), "the API server is away");
        self.listed.send_if_modified(|listed| {
            let Some(object) = listed.objects.get_mut(name) else { return false };
            let mut changed = LocalVolume::clone(object);
            change(&mut changed);
            let is_gone = changed.metadata.deletion_timestamp.is_some()
                && changed.metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
            *object = Arc::new(changed);
            if is_gone {
                listed.objects.remove(name);
            }
            true
        });
        Ok(())
    }
}

impl Cluster for FakeCluster {
    async fn set_finalizer(&self, volume: &LocalVolume, held: bool) -> anyhow::Result<()> {
        let finalizers = held.then(|| vec![FINALIZER.to_owned()]);
        self.change(volume.metadata.name.as_deref().unwrap(), |object| {
            object.metadata.finalizers = finalizers
        })
    }

    async fn report(&self, volume: &LocalVolume, status: &LocalVolumeStatus) -> anyhow::Result<()> {
        let status = Some(status.clone());
        self.change(volume.metadata.name.as_deref().unwrap(), |object| object.status = status)
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>, RequestError> {
        let key = (namespace.to_owned(), name.to_owned());
        let status = kube::core::Status { code: 403, ..Default::default() };
        let refused = || RequestError::Kube(kube::Error::Api(Box::new(status)));
        self.secrets.lock().unwrap().get(&key).cloned().ok_or_else(refused)
    }

    async fn config_map(&self, _: &str, _: &str) -> Result<BTreeMap<String, String>, RequestError> {
        Ok(BTreeMap::new())
    }
}

/// A node with a pool of 256 MiB, and an agent that can be ended and begun again.
pub(super) struct Node {
    pub(super) root: PathBuf,
    pub(super) lvm: Arc<FakeLvm>,
    fetch: Arc<FakeFetch>,
    pub(super) cluster: Arc<FakeCluster>,
    pub(super) image: Vec<u8>,
    pub(super) uploads: Arc<upload::server::Uploads>,
    policies: watch::Sender<Listed<ImportPolicy>>,
}

impl Node {
    pub(super) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(super) fn with(name: &str, change: impl FnOnce(&mut FakeFetch)) -> Self {
        let root = std::env::temp_dir().join(format!("sheaf-volumes-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let lvm = FakeLvm::default().with_devices(&root);
        lvm.plug("/dev/sdb", 1 << 30);
        lvm.create_group(GROUP, Path::new("/dev/sdb"), &[], &[]).unwrap();
        let size = ThinSize { data: 256 * MIB, metadata: 4 * MIB, chunk: 64 << 10 };
        lvm.create_thin_pool(GROUP, size).unwrap();
        let image: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut fetch = FakeFetch { files: [(URL.to_owned(), image.clone())].into(), ..FakeFetch::default() };
        change(&mut fetch);
        let listed = watch::Sender::new(Listed { synced: true, ..Listed::default() });
        let cluster = Arc::new(FakeCluster { listed, away: false.into(), secrets: Default::default() });
        let policies = watch::Sender::new(Listed { synced: true, ..Listed::default() });
        let (lvm, fetch, uploads) = (Arc::new(lvm), Arc::new(fetch), Arc::default());
        Self { root, lvm, fetch, cluster, image, uploads, policies }
    }

    fn checksum(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(&self.image)))
    }

    /// An administrator's ImportPolicy; none without `spec`.
    fn import_policy(&self, spec: Option<Value>) {
        let object = spec.map(|spec| {
            let mut object = ImportPolicy::new(IMPORT_POLICY, Default::default());
            object.spec = serde_json::from_value(spec).unwrap();
            (IMPORT_POLICY.to_owned(), Arc::new(object))
        });
        self.policies.send_replace(Listed { synced: true, objects: object.into_iter().collect() });
    }

    fn http(&self) -> Value {
        json!({"http": {"url": URL, "checksum": self.checksum()}})
    }

    pub(super) fn ask(&self, name: &str, kind: &str, mib: u64, source: Value) {
        let object: LocalVolume = serde_json::from_value(json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
            "metadata": {"name": name, "uid": name, "generation": 1},
            "spec": {"nodeName": "n1", "pool": "default", "sizeBytes": mib * MIB, "kind": kind, "source": source},
        }))
        .unwrap();
        self.cluster.listed.send_modify(|listed| {
            listed.objects.insert(name.into(), Arc::new(object));
        });
    }

    pub(super) fn delete(&self, name: &str) {
        let time = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        self.cluster.change(name, |object| object.metadata.deletion_timestamp = time).unwrap();
    }

    /// Runs an agent until `done`, then ends it at once, as a crash does.
    pub(super) async fn until(&self, done: impl FnMut(&Listed<LocalVolume>) -> bool) {
        self.until_within(Duration::from_secs(60), done).await.expect("within a minute");
    }

    async fn until_within(
        &self,
        time: Duration,
        done: impl FnMut(&Listed<LocalVolume>) -> bool,
    ) -> Option<()> {
        let mut listed = self.cluster.listed.subscribe();
        // A fill that was cut off writes to nobody's volume.
        self.during(tokio::time::timeout(time, listed.wait_for(done))).await.map(drop).ok()
    }

    /// Runs an agent until `work` is done.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let text = "version = 1\nsystem.hostname = \"n1\"\n";
        let config = sheaf_config::load::parse_node_config("node.toml", text).unwrap();
        let (ctx, publish) = channels::open(Paths::under(&self.root), config);
        let folder = self.root.join("container-disks");
        let hosts = Hosts {
            lvm: self.lvm.clone(),
            fetch: self.fetch.clone(),
            images: Arc::new(Images::new(folder, self.fetch.clone(), ctx.config.clone()).leaving(0)),
            units: Arc::new(FakeTransientUnits::over(Arc::new(FakeRun::default()))),
            devices: self.root.clone(),
            uploads: self.uploads.clone(),
        };
        let lists = Lists { volumes: self.cluster.listed.subscribe(), policies: self.policies.subscribe() };
        let volumes = publish.volumes.clone();
        let section = publish.sections.volumes;
        let controller = Controller::new(ctx, hosts, self.cluster.clone(), lists, volumes, section);
        tokio::select! {
            ended = controller.run() => panic!("{ended:?}"),
            done = work => done,
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let volumes = self.lvm.volumes(GROUP).unwrap().into_iter();
        volumes.map(|volume| volume.name).filter(|name| name != "thin").collect()
    }

    pub(super) fn device(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.root.join(GROUP).join(name)).unwrap()
    }

    pub(super) fn asked(&self, name: &str) -> usize {
        self.lvm.asked().iter().filter(|asked| asked.starts_with(name)).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

pub(super) fn is(name: &'static str, phase: VolumePhase) -> impl FnMut(&Listed<LocalVolume>) -> bool {
    move |listed| {
        let status = listed.objects.get(name).and_then(|object| object.status.clone());
        status.and_then(|status| status.phase) == Some(phase)
    }
}

pub(super) fn condition(listed: &Listed<LocalVolume>, name: &str) -> (String, String) {
    let object = &listed.objects[name];
    let ready = object.status.iter().flat_map(|status| &status.conditions).find(|c| c.type_ == "Ready");
    ready
        .map(|c| (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default()))
        .unwrap_or_default()
}

#[tokio::test]
async fn a_volume_is_made_shown_grown_and_removed() {
    let node = Node::new("life");
    node.ask("pvc-1", "Volume", 9, json!({"blank": {}}));
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    let status = node.cluster.listed.borrow().objects["pvc-1"].status.clone().unwrap();
    assert_eq!(status.device_path.as_deref(), Some("/dev/sheaf-default/pvc-1"));
    assert_eq!(status.size_bytes, Some(12 * MIB));
    assert_eq!(node.lvm.volumes(GROUP).unwrap()[1].tags, [TAG]);
    node.cluster.change("pvc-1", |object| object.spec.size_bytes = 20 * MIB).unwrap();
    let grown = |listed: &Listed<LocalVolume>| {
        listed.objects["pvc-1"].status.as_ref().and_then(|status| status.size_bytes) == Some(20 * MIB)
    };
    node.until(grown).await;
    node.delete("pvc-1");
    node.until(|listed| listed.objects.is_empty()).await;
    assert_eq!(node.names(), [""; 0]);
}

const REGISTRY: &str = "https://quay.io/v2/a/b";

fn in_registry(disk: &[u8]) -> impl FnOnce(&mut FakeFetch) + use<'_> {
    |fetch| drop(push(fetch, REGISTRY, "1", &[gzip(&tar(&[("disk/disk.img", disk)]))]))
}

#[tokio::test]
async fn a_volume_is_filled_from_a_container_disk_and_the_next_one_from_what_is_kept() {
    let disk = b"disk".repeat(100_000);
    let mut node = Node::with("registry", in_registry(&disk));
    let source = json!({"registry": {"image": "quay.io/a/b:1"}});
    node.ask("pvc-1", "Volume", 8, source.clone());
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    assert_eq!(node.device("pvc-1")[..disk.len()], disk);
    let progress = node.cluster.listed.borrow().objects["pvc-1"].status.clone().unwrap().progress.unwrap();
    assert_eq!(progress.percent, Some(100));
    // The registry still says what the tag means; the layers are here.
    let mut emptied = FakeFetch { files: node.fetch.files.clone(), ..FakeFetch::default() };
    emptied.files.retain(|url, _| !url.contains("/blobs/"));
    node.fetch = Arc::new(emptied);
    node.ask("pvc-2", "Volume", 8, source);
    node.until(is("pvc-2", VolumePhase::Ready)).await;
    assert_eq!(node.device("pvc-2")[..disk.len()], disk);
}

#[tokio::test]
async fn a_volume_says_why_its_container_disk_is_not_here_and_waits_where_another_try_can_help() {
    let node = Node::with("registry-errors", |fetch| {
        in_registry(&[7; 10 << 20])(fetch);
        push(fetch, REGISTRY, "2", &[gzip(&tar(&[("bin/sh", b"")]))]);
    });
    for (name, phase, image, reason, says) in [
        ("pvc-1", VolumePhase::Pending, "quay.io/a/other:1", "SourceRefused", "quay.io/a/other:1: "),
        ("pvc-2", VolumePhase::Pending, "127.0.0.1:5000/a/b:1", "SourceForbidden", "127.0.0.1"),
        ("pvc-3", VolumePhase::Failed, "quay.io/a/b:1", "ImageTooLarge", "ask for a larger volume"),
    ] {
        node.ask(name, "Volume", 8, json!({"registry": {"image": image}}));
        node.until(is(name, phase)).await;
        let (found, message) = condition(&node.cluster.listed.borrow(), name);
        assert!(found == reason && message.contains(says), "{name}: {found}: {message}");
    }
    node.ask("pvc-4", "Volume", 8, json!({"registry": {"image": "quay.io/a/b:2"}}));
    node.until(is("pvc-4", VolumePhase::Failed)).await;
    let (reason, message) = condition(&node.cluster.listed.borrow(), "pvc-4");
    assert_eq!(reason, "BadImage");
    assert!(message.ends_with("it has no file in /disk; is it a container disk?"), "{message}");
}

#[tokio::test]
async fn a_snapshot_and_a_copy_hold_what_their_origin_held_and_outlive_it() {
    let node = Node::new("copies");
    node.ask("pvc-1", "Volume", 8, node.http());
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    node.ask("snap-1", "Snapshot", 8, json!({"volume": {"name": "pvc-1"}}));
    node.until(is("snap-1", VolumePhase::Ready)).await;
    std::fs::write(node.root.join(GROUP).join("pvc-1"), "written over").unwrap();
    node.ask("pvc-2", "Volume", 16, json!({"snapshot": {"name": "snap-1"}}));
    node.until(is("pvc-2", VolumePhase::Ready)).await;
    node.delete("pvc-1");
    node.delete("snap-1");
    node.until(|listed| listed.objects.len() == 1).await;
    let copy = node.device("pvc-2");
    assert_eq!((copy.len() as u64, copy[..node.image.len()] == node.image), (16 * MIB, true));
}

#[tokio::test]
async fn a_power_cut_at_any_step_leaves_no_half_volume_that_is_taken_as_good_and_none_that_leaks() {
    // One step more each time, until everything is done before the cut.
    for steps in 0.. {
        let node = Node::new(&format!("cut-{steps}"));
        node.ask("pvc-1", "Volume", 8, node.http());
        node.ask("pvc-2", "Volume", 8, json!({"volume": {"name": "pvc-1"}}));
        node.ask("snap-1", "Snapshot", 8, json!({"volume": {"name": "pvc-1"}}));
        let all_ready = |listed: &Listed<LocalVolume>| {
            ["pvc-1", "pvc-2", "snap-1"].into_iter().all(|name| is(name, VolumePhase::Ready)(listed))
        };
        node.lvm.cut_power_after(steps);
        let cut = async {
            while !node.lvm.is_cut() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Whatever is under way when the power goes meets the cut.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let is_whole = tokio::select! {
            () = node.until(all_ready) => true,
            () = cut => all_ready(&node.cluster.listed.borrow()),
        };
        // What is complete after the cut really is; what is not says so on the disk.
        for volume in node.lvm.volumes(GROUP).unwrap() {
            if volume.has_tag(TAG) && !volume.has_tag(INCOMPLETE) {
                let held = node.device(&volume.name);
                assert!(held[..node.image.len()] == node.image, "{} after {steps} steps", volume.name);
            }
        }
        node.lvm.recovers();
        node.until(all_ready).await;
        for name in ["pvc-1", "pvc-2", "snap-1"] {
            assert!(node.device(name)[..node.image.len()] == node.image, "{name} after {steps} steps");
            node.delete(name);
        }
        node.until(|listed| listed.objects.is_empty()).await;
        assert_eq!(node.names(), [""; 0], "after {steps} steps");
        if is_whole {
            assert!(steps > 4, "the cut never came");
            return;
        }
    }
}

#[tokio::test]
async fn a_volume_that_its_agent_left_half_filled_is_begun_again() {
    let node = Node::new("crash");
    node.ask("pvc-1", "Volume", 8, node.http());
    node.until(is("pvc-1", VolumePhase::Populating)).await;
    let before = node.asked("create_volume");
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    assert_eq!((before, node.asked("create_volume"), node.asked("remove_volume")), (1, 2, 1));
    assert!(node.device("pvc-1")[..node.image.len()] == node.image);
}

#[tokio::test]
async fn a_wrong_checksum_fails_for_good_and_leaves_no_volume() {
    let node = Node::new("checksum");
    let wrong = json!({"http": {"url": URL, "checksum": format!("sha256:{}", "0".repeat(64))}});
    node.ask("pvc-1", "Volume", 8, wrong);
    node.until(is("pvc-1", VolumePhase::Failed)).await;
    let (reason, message) = condition(&node.cluster.listed.borrow(), "pvc-1");
    assert_eq!(reason, "ChecksumMismatch");
    assert!(message.contains(URL), "{message}");
    assert!(
        !message.contains(&node.checksum()[7..]),
        "it tells the hash of a file that its author cannot read"
    );
    let gone = node.until_within(Duration::from_secs(1), |_| false).await;
    assert_eq!((gone, node.names().len(), node.fetch.asked.lock().unwrap().len()), (None, 0, 1));
}

#[tokio::test]
async fn a_server_that_is_mended_is_asked_again() {
    let node = Node::with("fixed", |fetch| fetch.breaks = vec![100; 6].into());
    node.ask("pvc-1", "Volume", 8, node.http());
    let seen = node.cluster.listed.subscribe();
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    drop(seen);
    assert!(node.device("pvc-1")[..node.image.len()] == node.image);
}

#[tokio::test]
async fn what_lvm_refuses_is_said_in_its_words_and_tried_again() {
    let node = Node::new("refused");
    node.lvm.fails("create_volume");
    node.ask("pvc-1", "Volume", 8, json!({"blank": {}}));
    node.until(is("pvc-1", VolumePhase::Pending)).await;
    let (reason, message) = condition(&node.cluster.listed.borrow(), "pvc-1");
    assert_eq!(reason, "NodeFailed");
    assert!(message.contains("create_volume"), "{message}");
    node.lvm.recovers();
    node.until(is("pvc-1", VolumePhase::Ready)).await;
}

#[tokio::test]
async fn a_volume_that_is_open_is_removed_once_it_is_closed() {
    let node = Node::new("open");
    node.ask("pvc-1", "Volume", 8, json!({"blank": {}}));
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    node.lvm.opens("pvc-1");
    node.delete("pvc-1");
    node.until(|listed| condition(listed, "pvc-1").0 == "InUse").await;
    assert_eq!(node.names(), ["pvc-1"]);
    node.lvm.closes("pvc-1");
    node.until(|listed| listed.objects.is_empty()).await;
    assert_eq!(node.names(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_the_import_policy_denies_is_not_asked_until_the_policy_allows_it() {
    let node = Node::new("denied");
    node.import_policy(Some(json!({"deny": [{"hosts": ["images"]}]})));
    node.ask("pvc-1", "Volume", 8, node.http());
    node.until(|listed| condition(listed, "pvc-1").0 == "SourceForbidden").await;
    let (_, message) = condition(&node.cluster.listed.borrow(), "pvc-1");
    assert!(message.contains("the ImportPolicy denies images port 80"), "{message}");
    assert_eq!(node.fetch.asked.lock().unwrap().len(), 0);
    let ready = node.until(is("pvc-1", VolumePhase::Ready));
    let allow = async {
        node.import_policy(None);
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = ready => {}
        () = allow => {}
    }
}

#[tokio::test]
async fn nothing_is_imported_before_the_import_policy_was_read() {
    let node = Node::new("unread");
    node.policies.send_replace(Listed::default());
    node.ask("pvc-1", "Volume", 8, node.http());
    node.until(|listed| condition(listed, "pvc-1").0 == "SourceForbidden").await;
    assert_eq!(node.fetch.asked.lock().unwrap().len(), 0);
    node.import_policy(None);
    node.until(is("pvc-1", VolumePhase::Ready)).await;
}

#[tokio::test]
async fn no_status_shows_what_may_be_a_password_in_a_url() {
    let node = Node::new("redacted");
    let source = json!({"http": {"url": "http://images/missing?token=secret", "checksum": node.checksum()}});
    node.ask("pvc-1", "Volume", 8, source);
    node.until(|listed| condition(listed, "pvc-1").0 == "SourceRefused").await;
    let (_, message) = condition(&node.cluster.listed.borrow(), "pvc-1");
    assert!(message.contains("http://images/missing?... is answered with"), "{message}");
}

#[tokio::test]
async fn an_image_behind_a_password_comes_as_soon_as_the_node_may_read_the_secret_of_the_claims_namespace() {
    let node = Node::with("password", |fetch| {
        fetch.passwords = [(URL.to_owned(), "Basic dXNlcjpodXNo".to_owned())].into();
    });
    let secret = |namespace: &str, password: &str| {
        let data = [("accessKeyId", "user"), ("secretKey", password)];
        let data = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into();
        let key = (namespace.to_owned(), "login".to_owned());
        node.cluster.secrets.lock().unwrap().insert(key, data);
    };
    secret("bank", "hush");
    let mut source = node.http();
    source["http"]["secretRef"] = json!("login");
    node.ask("pvc-1", "Volume", 8, source);
    let claim = [("sheaf.dev/claim".to_owned(), "shop/disk".to_owned())].into();
    node.cluster.change("pvc-1", |object| object.metadata.annotations = Some(claim)).unwrap();
    let reported = || condition(&node.cluster.listed.borrow(), "pvc-1");
    node.until(|listed| condition(listed, "pvc-1").0 == "CredentialsUnavailable").await;
    assert!(reported().1.starts_with("Secret login of namespace shop cannot be read"), "{:?}", reported());
    assert_eq!(node.fetch.asked.lock().unwrap().len(), 0, "the server was asked without the password");

    secret("shop", "wrong-hush");
    node.until(|listed| condition(listed, "pvc-1").0 == "SourceRefused").await;
    assert!(reported().1.contains("HTTP status 401") && !reported().1.contains("hush"), "{:?}", reported());
    secret("shop", "hush");
    node.until(is("pvc-1", VolumePhase::Ready)).await;
    assert!(node.device("pvc-1")[..node.image.len()] == node.image);
}
