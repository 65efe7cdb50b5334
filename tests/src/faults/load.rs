//! The load: ConfigMaps and VirtualMachines are created, changed and deleted without a pause.
//!
//! Why these: a ConfigMap is written by nobody else, so every write of it is seen as it was made; a VM goes through every part of the
//! control plane until it runs on a node. A name is not used again after a write without an answer. Route in: a client, the nodes. Route
//! out: writes, each with its answer, in the [`Judge`]'s record.

use super::client::Client;
use super::judge::Judge;
use super::locked;
use super::observe::node;
use super::writes::State;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sheaf_api::VirtualMachine;
use sheaf_host::fakes::FakeVms;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::RwLock;

/// Writers of ConfigMaps.
pub const MAPS: usize = 2;
/// Writers of VMs, each with one at a time.
pub const MACHINES: usize = 2;
/// Longest time for an answer to a write; then its outcome is unknown.
const WRITE_TIME: Duration = Duration::from_secs(4);
/// Longest time for reading one's own write.
const READ_TIME: Duration = Duration::from_secs(3);
/// Longest time for a list of everything.
const LIST_TIME: Duration = Duration::from_secs(30);
/// Between two writes of a writer.
const PAUSE: Duration = Duration::from_millis(150);
/// Between two looks at the domains of nodes.
const LOOK: Duration = Duration::from_millis(100);
/// Writes to a ConfigMap before it is deleted.
const WRITES: u64 = 4;
/// How long a VM may take to start or stop before its writer continues with the next request: under faults, some do not.
const RUN_TIME: Duration = Duration::from_secs(15);
/// The same when all faults are healed: a sheaf-controller may have to wait for its lease, and a start after a failure for its turn.
const LAST_TIME: Duration = Duration::from_secs(240);

/// On every object of the load: number of the write.
const WRITE: &str = "faults.sheaf.dev/write";
/// Selects them.
const LABEL: &str = "faults.sheaf.dev/load";

/// The writers.
#[derive(Clone)]
pub struct Load {
    /// Asks.
    pub client: Arc<Client>,
    /// Keeps the record.
    pub judge: Arc<Judge>,
    /// Shut while everything is read.
    pub gate: Arc<RwLock<()>>,
    /// Nodes, by name.
    pub nodes: Vec<(String, Arc<FakeVms>)>,
}

/// What the load writes.
trait Written:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Written for ConfigMap {}
impl Written for VirtualMachine {}

/// `KIND/NAME`.
fn key<K: Written>(name: &str) -> String {
    format!("{}/{name}", K::kind(&()))
}

/// What an object holds; one that is being deleted counts as absent.
fn state<K: Written>(object: Option<&K>) -> State {
    let here = object.filter(|object| object.meta().deletion_timestamp.is_none());
    here.map_or(State::Absent, |object| {
        let number = object.annotations().get(WRITE).and_then(|number| number.parse().ok());
        State::Holds(number.unwrap_or_default())
    })
}

fn revision<K: Written>(object: &K) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

fn metadata(number: u64) -> Value {
    json!({"annotations": {WRITE: number.to_string()}, "labels": {LABEL: ""}})
}

fn vm(name: &str) -> Value {
    let mut metadata = metadata(1);
    metadata["name"] = name.into();
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata,
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "domain": {"memory": {"guest": "64Mi"}, "devices": {}, "resources": {"requests": {"cpu": "10m"}}},
            "terminationGracePeriodSeconds": 5}}},
    })
}

/// Name of a VM's domain on its node.
fn domain(name: &str) -> String {
    format!("default_{name}")
}

impl Load {
    fn api<K: Written>(&self) -> Api<K> {
        Api::default_namespaced(self.client.kube.clone())
    }

    /// Makes one write and notes what came of it: whether it was acknowledged.
    async fn write<K: Written>(
        &self,
        name: &str,
        state: State,
        request: impl Future<Output = kube::Result<Option<u64>>>,
    ) -> bool {
        let _open = self.gate.read().await;
        let (key, passed) = (key::<K>(name), locked(&self.judge.writes).begin());
        match tokio::time::timeout(WRITE_TIME, request).await {
            Ok(Ok(revision)) => {
                self.judge.acknowledged();
                self.judge.check(locked(&self.judge.writes).acknowledge(&key, state, passed, revision));
                true
            }
            Ok(Err(kube::Error::Api(status))) if [400, 422].contains(&status.code) => {
                self.judge.wrong(format!("{key}: the load is refused: {}", status.message));
                false
            }
            _ => {
                locked(&self.judge.writes).unknown(&key, state);
                false
            }
        }
    }

    async fn create<K: Written>(&self, name: &str, object: Value) -> bool {
        let api = self.api::<K>();
        let request = async {
            let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            Ok(revision(&api.create(&PostParams::default(), &object).await?))
        };
        self.write::<K>(name, State::Holds(1), request).await && self.is_there::<K>(name).await
    }

    async fn patch<K: Written>(&self, name: &str, number: u64, mut patch: Value) -> bool {
        let api = self.api::<K>();
        patch["metadata"] = metadata(number);
        let request = async {
            let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            Ok(revision(&patched))
        };
        self.write::<K>(name, State::Holds(number), request).await && self.is_there::<K>(name).await
    }

    async fn delete<K: Written>(&self, name: &str) -> bool {
        let api = self.api::<K>();
        // What deletion answers has no revision, or that of an object that waits for finalizers.
        let request = async { api.delete(name, &DeleteParams::default()).await.map(|_| None) };
        self.write::<K>(name, State::Absent, request).await && self.is_there::<K>(name).await
    }

    /// Reads one's own write, by a majority of etcd's members; no answer is no failure.
    async fn is_there<K: Written>(&self, name: &str) -> bool {
        let _open = self.gate.read().await;
        if let Ok(Ok(found)) = tokio::time::timeout(READ_TIME, self.api::<K>().get_opt(name)).await {
            let found = state(found.as_ref());
            self.judge.check(locked(&self.judge.writes).judge_one(&key::<K>(name), found));
        }
        true
    }

    /// Writes ConfigMaps, for good.
    pub async fn maps(self, writer: usize) {
        for number in 0_u64.. {
            self.map(&format!("map-{writer}-{number}")).await;
            tokio::time::sleep(PAUSE).await; // a request each: no more load than the machine bears
        }
    }

    async fn map(&self, name: &str) -> bool {
        let mut metadata = metadata(1);
        metadata["name"] = name.into();
        if !self.create::<ConfigMap>(name, json!({"metadata": metadata})).await {
            return false;
        }
        for write in 2..=WRITES {
            tokio::time::sleep(PAUSE).await; // as above
            if !self.patch::<ConfigMap>(name, write, json!({"data": {"of": write.to_string()}})).await {
                return false;
            }
        }
        tokio::time::sleep(PAUSE).await; // as above
        self.delete::<ConfigMap>(name).await
    }

    /// Creates, stops, starts and deletes VMs, for good.
    pub async fn machines(self, writer: usize) {
        for number in 0_u64.. {
            self.machine(&format!("vm-{writer}-{number}")).await;
            tokio::time::sleep(PAUSE).await; // as in maps
        }
    }

    async fn machine(&self, name: &str) -> bool {
        locked(&self.judge.starts).ask(&domain(name));
        if !self.create::<VirtualMachine>(name, vm(name)).await {
            return false;
        }
        self.runs(name, true, RUN_TIME).await;
        if !self.patch::<VirtualMachine>(name, 2, json!({"spec": {"runStrategy": "Halted"}})).await {
            return false;
        }
        self.runs(name, false, RUN_TIME).await;
        locked(&self.judge.starts).ask(&domain(name));
        if !self.patch::<VirtualMachine>(name, 3, json!({"spec": {"runStrategy": "Always"}})).await {
            return false;
        }
        self.runs(name, true, RUN_TIME).await;
        self.delete::<VirtualMachine>(name).await
    }

    /// Waits until the VM runs on a node, or on none: whether it came to that.
    async fn runs(&self, name: &str, is_running: bool, longest: Duration) -> bool {
        let domain = domain(name);
        let end = Instant::now() + longest;
        loop {
            let mut nodes = self.nodes.iter().map(|(name, vms)| node(name, vms));
            if nodes.any(|node| node.running.contains(&domain)) == is_running {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(LOOK).await; // until the next look
        }
    }

    /// Everything that is there, as this API server reads it from a majority of etcd's members.
    pub async fn found(api_server: &kube::Client) -> Result<BTreeMap<String, u64>> {
        let mut found = BTreeMap::new();
        list::<ConfigMap>(api_server, &mut found).await?;
        list::<VirtualMachine>(api_server, &mut found).await?;
        Ok(found)
    }

    /// Deletes what writes without an answer have left.
    pub async fn clean(&self) {
        let retired = locked(&self.judge.writes).retired();
        for key in retired {
            locked(&self.judge.writes).abandon(&key);
            let Some((kind, name)) = key.split_once('/') else { continue };
            let how = DeleteParams::default();
            let deleted = async {
                match kind {
                    "ConfigMap" => drop(self.api::<ConfigMap>().delete(name, &how).await),
                    _ => drop(self.api::<VirtualMachine>().delete(name, &how).await),
                }
            };
            // One that stays takes up room, no more.
            drop(tokio::time::timeout(WRITE_TIME, deleted).await);
        }
    }

    /// A VM is created, runs, is stopped, and runs nowhere: everything works again.
    pub async fn last(&self) -> Result<()> {
        for number in 0..3 {
            let name = format!("last-{number}");
            locked(&self.judge.starts).ask(&domain(&name));
            if !self.create::<VirtualMachine>(&name, vm(&name)).await {
                continue;
            }
            let seconds = LAST_TIME.as_secs();
            ensure!(
                self.runs(&name, true, LAST_TIME).await,
                "VM {name} does not run {seconds} s after everything was healed"
            );
            let stop = self.patch::<VirtualMachine>(&name, 2, json!({"spec": {"runStrategy": "Halted"}}));
            ensure!(stop.await, "stopping {name} is not acknowledged");
            ensure!(
                self.runs(&name, false, LAST_TIME).await,
                "VM {name} runs {seconds} s after it was stopped"
            );
            return Ok(());
        }
        anyhow::bail!("no VM can be created after everything was healed")
    }
}

async fn list<K: Written>(api_server: &kube::Client, found: &mut BTreeMap<String, u64>) -> Result<()> {
    let api: Api<K> = Api::default_namespaced(api_server.clone());
    let labelled = ListParams::default().labels(LABEL);
    let listed = tokio::time::timeout(LIST_TIME, api.list(&labelled)).await.context("no answer")??;
    for object in listed.items {
        if let State::Holds(number) = state(Some(&object)) {
            found.insert(key::<K>(&object.name_any()), number);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: Value) -> ConfigMap {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn an_object_says_which_write_it_holds_and_one_that_is_being_deleted_counts_as_absent() {
        let mut text =
            json!({"metadata": {"name": "a", "annotations": {WRITE: "3"}, "resourceVersion": "12"}});
        assert_eq!(state(Some(&map(text.clone()))), State::Holds(3));
        assert_eq!(revision(&map(text.clone())), Some(12));
        text["metadata"]["deletionTimestamp"] = "2026-11-30T07:00:00Z".into();
        assert_eq!(state(Some(&map(text))), State::Absent);
        assert_eq!(state::<ConfigMap>(None), State::Absent);
        assert_eq!(state(Some(&map(json!({})))), State::Holds(0), "somebody took the number away");
        assert_eq!(
            (key::<ConfigMap>("a"), key::<VirtualMachine>("a")),
            ("ConfigMap/a".into(), "VirtualMachine/a".into())
        );
    }
}
