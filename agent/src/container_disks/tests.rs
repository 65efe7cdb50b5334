//! The whole controller on a directory, with a registry in memory.

use super::*;
use crate::api_server::RequestError;
use crate::channels::{self, ContainerDisk};
use crate::paths::Paths;
use crate::registry::testing::{gzip, push, tar};
use crate::vms::guest::Format;
use crate::vms::testing::pod_of;
use serde_json::json;
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus};
use sheaf_config::node::NodeConfig;
use sheaf_host::fakes::FakeFetch;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const BASE: &str = "https://quay.io/v2/a/b";
/// Far beyond what a slow machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// An API server with Secrets.
#[derive(Default)]
struct Secrets(BTreeMap<String, BTreeMap<String, Vec<u8>>>);

impl Cluster for Secrets {
    async fn set_finalizer(&self, _: &LocalVolume, _: bool) -> anyhow::Result<()> {
        Ok(())
    }

    async fn report(&self, _: &LocalVolume, _: &LocalVolumeStatus) -> anyhow::Result<()> {
        Ok(())
    }

    async fn secret(&self, _: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>, RequestError> {
        let status = kube::core::Status { code: 404, ..Default::default() };
        let missing = || RequestError::Kube(kube::Error::Api(Box::new(status)));
        self.0.get(name).cloned().ok_or_else(missing)
    }

    async fn config_map(&self, _: &str, _: &str) -> Result<BTreeMap<String, String>, RequestError> {
        Ok(BTreeMap::new())
    }
}

struct Node {
    root: PathBuf,
    registry: FakeFetch,
    secrets: Secrets,
    pods: Listed<Pod>,
    /// What is asked about.
    what: &'static str,
}

impl Node {
    /// A node with nothing on it; the registry has `a/b:1`, a disk of 2 MiB.
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("sheaf-container-disks-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let mut registry = FakeFetch::default();
        push(&mut registry, BASE, "1", &[gzip(&tar(&[("disk/disk.img", &disk())]))]);
        let pods = Listed { synced: true, ..Listed::default() };
        Self { root, registry, secrets: Secrets::default(), pods, what: "root" }
    }

    fn folder(&self) -> PathBuf {
        self.root.join("data/container-disks")
    }

    /// A Pod is bound to the node whose VM has the container disk `disk`.
    fn bind(&mut self, uid: &str, disk: serde_json::Value) -> &mut Pod {
        let pod = pod_of(
            uid,
            json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "volumes": [{"name": "root", "containerDisk": disk}]}),
        );
        self.pods.objects.insert(uid.to_owned(), Arc::new(pod));
        Arc::make_mut(self.pods.objects.get_mut(uid).unwrap())
    }

    /// Runs the controller until the disk of the Pod `uid` is `done`; what it is then.
    async fn until(&mut self, uid: &str, done: impl Fn(&ContainerDisk) -> bool) -> ContainerDisk {
        let (ctx, publish) = channels::open(Paths::under(&self.root), NodeConfig::named("n1"));
        let pods = watch::Sender::new(self.pods.clone());
        let policies = watch::Sender::new(Listed { synced: true, ..Listed::default() });
        let lists = Lists { pods: pods.subscribe(), policies: policies.subscribe() };
        let mut disks = ctx.container_disks.clone();
        let fetch = Arc::new(std::mem::take(&mut self.registry));
        let cluster = Arc::new(Secrets(self.secrets.0.clone()));
        let images = Arc::new(Images::new(self.folder(), fetch.clone(), ctx.config.clone()).leaving(0));
        let task = tokio::spawn(run_with(ctx, lists, publish.container_disks, images, cluster));
        let key = (uid.to_owned(), self.what.to_owned());
        let of_pod = |disks: &ContainerDisks| disks.of_pods.get(&key).cloned();
        let seen = disks.wait_for(|disks| of_pod(disks).is_some_and(|disk| done(&disk)));
        let seen = tokio::time::timeout(DEADLINE, seen).await;
        let seen = of_pod(&seen.unwrap().unwrap()).unwrap();
        publish.shutdown.send_replace(true);
        task.await.unwrap().unwrap();
        // A pull that was under way ends by itself.
        let last = async {
            while Arc::strong_count(&fetch) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, last).await.unwrap();
        self.registry = Arc::into_inner(fetch).unwrap();
        seen
    }

    async fn ready(&mut self, uid: &str) -> (PathBuf, Format, u64) {
        match self.until(uid, |disk| matches!(disk, ContainerDisk::Ready { .. })).await {
            ContainerDisk::Ready { path, format, bytes } => (path, format, bytes),
            other => panic!("{other:?}"),
        }
    }

    async fn fails(&mut self, uid: &str) -> (&'static str, String) {
        let has_failed = |disk: &ContainerDisk| matches!(disk, ContainerDisk::NotReady { reason, .. } if *reason != "ImageNotReady");
        match self.until(uid, has_failed).await {
            ContainerDisk::NotReady { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.registry.asked.lock().unwrap()).into_iter().map(|(url, _)| url).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// A disk of 2 MiB, most of it zero.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 2 << 20];
    disk[1 << 20] = 7;
    disk
}

#[tokio::test]
async fn the_disk_in_an_image_is_kept_read_only_and_pulled_once_for_all_vms() {
    let mut node = Node::new("plain");
    node.bind("p1", json!({"image": "quay.io/a/b:1"}));
    let (path, format, bytes) = node.ready("p1").await;
    assert_eq!((std::fs::read(&path).unwrap(), format, bytes), (disk(), Format::Raw, 2 << 20));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(node.asked().len(), 2, "its manifest and its layer");
    node.bind("p2", json!({"image": "quay.io/a/b:1"}));
    assert_eq!(node.ready("p2").await.0, path);
    assert_eq!(node.asked(), [""; 0]);
    assert_eq!(std::fs::read_dir(node.folder().join("parts")).unwrap().count(), 0);
}

/// Binds a VM that boots the kernel at `path` of image `tag`.
fn bind_kernel(node: &mut Node, uid: &str, tag: &str, path: &str) {
    let container = json!({"image": format!("quay.io/a/b:{tag}"), "kernelPath": path});
    let domain = json!({"memory": {"guest": "64Mi"}, "devices": {}, "firmware": {"kernelBoot": {"container": container}}});
    node.pods.objects.insert(uid.to_owned(), Arc::new(pod_of(uid, json!({ "domain": domain }))));
    node.what = "kernelBoot.kernel";
}

#[tokio::test]
async fn a_kernel_is_kept_as_it_is_and_apart_from_a_disk_of_the_same_path() {
    let mut node = Node::new("kernel");
    push(&mut node.registry, BASE, "k", &[tar(&[("boot/vmlinuz", &qcow2(64))])]);
    bind_kernel(&mut node, "p1", "k", "/boot/vmlinuz");
    let (kernel, format, _) = node.ready("p1").await;
    assert_eq!((std::fs::read(&kernel).unwrap(), format), (qcow2(64), Format::Raw));
    node.pods.objects.clear();
    node.bind("p2", json!({"image": "quay.io/a/b:k", "path": "/boot/vmlinuz"}));
    node.what = "root";
    let (_, message) = node.fails("p2").await;
    assert!(
        message.contains("the qcow2 image has a backing file"),
        "what was not checked is no disk: {message}"
    );
}

#[tokio::test]
async fn a_kernel_that_is_missing_or_empty_is_refused() {
    let mut node = Node::new("bad-kernel");
    push(&mut node.registry, BASE, "k", &[tar(&[("none", b"")])]);
    for (uid, path, why) in [
        ("p1", "/gone", "it has no file /gone; is it a container disk?"),
        ("p2", "/none", "/none: it is empty"),
    ] {
        node.pods.objects.clear();
        bind_kernel(&mut node, uid, "k", path);
        let (reason, message) = node.fails(uid).await;
        assert_eq!(reason, "ErrImagePull");
        assert!(
            message.starts_with("domain.firmware.kernelBoot.kernel: ") && message.contains(why),
            "{message}"
        );
    }
}

#[tokio::test]
async fn always_asks_what_a_tag_leads_to_and_takes_what_is_here_when_it_is_the_same() {
    let mut node = Node::new("always");
    node.bind("p1", json!({"image": "quay.io/a/b:1", "imagePullPolicy": "Always"}));
    let (first, ..) = node.ready("p1").await;
    node.asked();
    node.pods.objects.clear();
    node.bind("p2", json!({"image": "quay.io/a/b:1", "imagePullPolicy": "Always"}));
    assert_eq!(node.ready("p2").await.0, first);
    assert_eq!(node.asked(), [format!("{BASE}/manifests/1")]);
    push(&mut node.registry, BASE, "1", &[tar(&[("disk/new.img", &[7; 512])])]);
    node.pods.objects.clear();
    node.bind("p3", json!({"image": "quay.io/a/b:1", "imagePullPolicy": "Always"}));
    let (second, ..) = node.ready("p3").await;
    assert_eq!(std::fs::read(second).unwrap(), [7; 512]);
    assert!(first.exists(), "a VM may still have it");
}

#[tokio::test]
async fn an_image_that_may_not_be_pulled_and_is_not_here_says_so() {
    let mut node = Node::new("never");
    node.bind("p1", json!({"image": "quay.io/a/b:1", "imagePullPolicy": "Never"}));
    let message = "volume root: image quay.io/a/b:1 is not on this node, and imagePullPolicy is Never";
    assert_eq!(node.fails("p1").await, ("ErrImageNeverPull", message.to_owned()));
    assert_eq!(node.asked(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_pulled_says_why_and_holds_up_no_other_vm() {
    let mut node = Node::new("fails");
    node.bind("p1", json!({"image": "quay.io/a/none:1"}));
    node.bind("p2", json!({"image": "quay.io/a/b:1"}));
    let (reason, message) = node.fails("p1").await;
    assert_eq!(
        (reason, message.as_str()),
        (
            "ErrImagePull",
            "volume root: quay.io/a/none:1: https://quay.io/v2/a/none/manifests/1 is answered with HTTP status 404"
        )
    );
    node.ready("p2").await;
    node.bind("p3", json!({"image": "Quay.io/A"}));
    assert_eq!(node.fails("p3").await.0, "InvalidImageName");
    for (tag, layer, why) in [
        ("empty", tar(&[("etc/passwd", b"")]), "it has no file in /disk; is it a container disk?"),
        (
            "vmdk",
            tar(&[("disk/a.vmdk", &[b"KDMV".as_slice(), &[0; 600]].concat())]),
            "the file is a VMDK image",
        ),
        ("backed", tar(&[("disk/a.qcow2", &qcow2(64))]), "the qcow2 image has a backing file"),
    ] {
        push(&mut node.registry, BASE, tag, &[layer]);
        let uid = format!("p-{tag}");
        node.bind(&uid, json!({"image": format!("quay.io/a/b:{tag}")}));
        let (_, message) = node.fails(&uid).await;
        assert!(message.contains(why), "{message}");
    }
    let kept = std::fs::read_dir(node.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<_> = kept.filter(|name| name.to_string_lossy().contains(".qcow2")).collect();
    assert_eq!(kept, [""; 0], "nothing that is refused is kept");
}

/// The header of a qcow2 image of 1 GiB whose backing file is named at byte `backing`.
fn qcow2(backing: u64) -> Vec<u8> {
    let mut header = vec![0; 600];
    header[..4].copy_from_slice(b"QFI\xfb");
    header[7] = 3;
    header[8..16].copy_from_slice(&backing.to_be_bytes());
    header[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    header[103] = 104;
    header
}

#[tokio::test]
async fn of_a_qcow2_image_the_size_is_what_its_guest_sees() {
    let mut node = Node::new("qcow2");
    push(&mut node.registry, BASE, "1", &[tar(&[("disk/a.bin", &qcow2(0))])]);
    node.bind("p1", json!({"image": "quay.io/a/b:1"}));
    let (_, format, bytes) = node.ready("p1").await;
    assert_eq!((format, bytes), (Format::Qcow2, 1 << 30));
}

#[tokio::test]
async fn a_private_image_is_pulled_with_the_login_of_the_secret_that_its_pod_names() {
    let mut node = Node::new("private");
    node.registry.challenge = Some("Basic realm=\"quay\"".into());
    // `ann:hush`
    node.registry.passwords = [(format!("{BASE}/manifests/1"), "Basic YW5uOmh1c2g=".to_owned())].into();
    let login = json!({"auths": {"quay.io": {"username": "ann", "password": "hush"}}}).to_string();
    node.secrets.0.insert("login".into(), [(".dockerconfigjson".to_owned(), login.into_bytes())].into());
    let image = json!({"image": "quay.io/a/b:1", "imagePullSecret": "login"});
    node.bind("p1", image.clone());
    // The Pod does not name it, so the node may not use it.
    assert!(node.fails("p1").await.1.contains("it needs credentials"));
    let secrets = json!([{"name": "other"}, {"name": "login"}]);
    node.bind("p2", image).spec.as_mut().unwrap().image_pull_secrets =
        serde_json::from_value(secrets).unwrap();
    node.ready("p2").await;
}

#[tokio::test]
async fn what_a_power_cut_left_is_no_disk_and_what_was_whole_still_is() {
    let mut node = Node::new("power");
    node.bind("p1", json!({"image": "quay.io/a/b:1"}));
    let (path, ..) = node.ready("p1").await;
    let half = node.folder().join("0123.img");
    std::fs::write(&half, "half").unwrap();
    std::fs::write(node.folder().join("unfinished-default"), "half").unwrap();
    node.asked();
    node.ready("p1").await;
    assert!(!half.exists() && !node.folder().join("unfinished-default").exists() && node.asked().is_empty());
    // A file that is not as long as it was is not what was verified.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "short").unwrap();
    node.ready("p1").await;
    assert_eq!(std::fs::read(&path).unwrap(), disk());
    // An index that cannot be read costs a pull, and no VM its disk.
    std::fs::write(node.folder().join("index.json"), "{\"disks\": [").unwrap();
    node.ready("p1").await;
    assert_eq!(std::fs::read(&path).unwrap(), disk());
}
