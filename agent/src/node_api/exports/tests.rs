//! Downloads of a volume that is a file, with the API server played by lists.

use super::*;
use crate::channels::Usable;
use crate::node_api::fixture::Fixture;
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use sheaf_host::fakes::{FakeRun, FakeVms};

const UID: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";
const MIB: u64 = 1 << 20;

struct Node(Fixture);

impl Node {
    fn new() -> Self {
        let this = Self(Fixture::new(FakeVms::default(), FakeRun::default()));
        std::fs::write(this.0.root.path().join("pvc-1"), vec![7; 4 * MIB as usize]).unwrap();
        this.volume(true);
        this.0.state.pods.send_modify(|listed| {
            listed.objects.insert(UID.into(), Arc::new(pod()));
        });
        this
    }

    fn volume(&self, readable: bool) {
        let device = self.0.root.path().join("pvc-1");
        let usable = Usable { ready: readable, readable, device, bytes: 4 * MIB, problem: None };
        self.0.publish.volumes.send_replace(Some([("pvc-1".to_owned(), usable)].into()));
    }

    async fn get(&self, from: u64, bytes: u64) -> Result<Answer, Refusal> {
        let pod = Arc::new(pod());
        let export = Export { exported: exported(&pod).unwrap(), pod, uid: UID.into() };
        serve(&self.0.state, &export, Part { volume: "pvc-1".into(), from, bytes, packed: false }).await
    }
}

fn pod() -> Pod {
    let volumes = json!({"expires": "2999-01-01T00:00:00Z", "secret": "token",
                         "volumes": [{"name": "disk", "volume": "pvc-1", "bytes": 4 * MIB}]});
    serde_json::from_value(json!({
        "metadata": {"name": "virt-export-u-0", "namespace": "shop", "uid": UID,
                     "labels": {"sheaf.dev/export": "u"},
                     "annotations": {"sheaf.dev/exported-volumes": volumes.to_string()}},
        "spec": {"runtimeClassName": "sheaf-vm", "containers": []},
    }))
    .unwrap()
}

async fn cut(answer: Answer) {
    assert!(answer.into_body().collect().await.is_err(), "it looks complete");
}

#[tokio::test]
async fn a_part_of_a_volume_is_sent_with_its_length() {
    let node = Node::new();
    let answer = node.get(MIB, 5).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "5");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), [7; 5][..]);
    let code = |refused: Result<Answer, Refusal>| refused.map(drop).unwrap_err().0.as_u16();
    assert_eq!(code(node.get(4 * MIB, 1).await), 416);
    assert_eq!(code(node.get(u64::MAX, 2).await), 416);
    node.volume(false);
    assert_eq!(code(node.get(0, 1).await), 409);
}

#[tokio::test]
async fn a_download_is_cut_when_its_export_goes() {
    let node = Node::new();
    let answer = node.get(0, 4 * MIB).await.unwrap();
    node.0.state.pods.send_modify(|listed| listed.objects.clear());
    cut(answer).await;
}

#[tokio::test]
async fn a_download_is_cut_when_its_volume_is_being_deleted() {
    let node = Node::new();
    let answer = node.get(0, 4 * MIB).await.unwrap();
    node.volume(false);
    cut(answer).await;
}

#[tokio::test]
async fn a_newer_download_of_a_volume_ends_the_former() {
    let node = Node::new();
    let former = node.get(0, 4 * MIB).await.unwrap();
    let newer = node.get(0, 4 * MIB).await.unwrap();
    cut(former).await;
    assert_eq!(newer.into_body().collect().await.unwrap().to_bytes().len() as u64, 4 * MIB);
}

#[tokio::test]
async fn without_a_token_nothing_is_looked_for() {
    let node = Node::new();
    let refused = find(&node.0.state, UID, &HeaderMap::new()).await.map(drop).unwrap_err();
    assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
}

#[test]
fn an_empty_token_opens_nothing() {
    assert!(is_same(b"secret", b"secret"));
    assert!(!is_same(b"secret", b"secre") && !is_same(b"", b""));
}

#[test]
fn a_pod_that_ends_or_is_none_of_the_controllers_exports_nothing() {
    assert!(exported(&pod()).is_some());
    let mut ending = pod();
    ending.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut foreign = pod();
    foreign.spec.as_mut().unwrap().runtime_class_name = None;
    assert!(exported(&ending).is_none() && exported(&foreign).is_none());
}
