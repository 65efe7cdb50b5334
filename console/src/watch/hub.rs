//! One kind: the objects as they are now, and a channel of their changes.
//!
//! Why here: each object is turned into text once, however many browsers there are, without what no page shows (managed
//! fields). Route in: a watch at the API server. Route out: [`Hub::subscribe`]: a state and the changes from it on, without a gap.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::broadcast;

use super::Kind;

/// Changes that a slow browser may be behind; then it begins again.
const BEHIND: usize = 2048;
/// Annotation with a second copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object as browsers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its namespace; of a Namespace its name; none of a kind of the cluster.
    pub namespace: Option<Arc<str>>,
    /// Namespace and name.
    pub key: Arc<str>,
    /// JSON, in one line.
    pub json: Arc<str>,
}

/// A change of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, like this.
    Set(Item),
    /// It is gone.
    Gone(Item),
}

/// State and channel.
pub struct Hub {
    /// Of which kind.
    pub kind: &'static Kind,
    objects: Api<DynamicObject>,
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct State {
    items: BTreeMap<Arc<str>, Item>,
    /// Everything was read once.
    is_whole: bool,
}

impl Hub {
    /// Nothing is watched yet.
    pub fn new(kind: &'static Kind, client: Client) -> Self {
        let api_version = match kind.group {
            "" => kind.version.to_owned(),
            group => format!("{group}/{}", kind.version),
        };
        let resource = ApiResource {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            api_version,
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
        };
        let objects = Api::all_with(client, &resource);
        Self { kind, objects, state: Mutex::default(), changes: broadcast::channel(BEHIND).0 }
    }

    /// Watches, until dropped.
    pub async fn follow(&self) {
        let mut config = watcher::Config::default();
        if let Some(fields) = self.kind.fields {
            config = config.fields(fields);
        }
        let mut events = pin!(watcher(self.objects.clone(), config).default_backoff());
        let mut reading = BTreeMap::new();
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            let failed = event.is_err();
            match event {
                Ok(event) => self.take(event, &mut reading),
                // Once, not at each of its tries: a kind may be missing for good.
                Err(error) if !is_failing => {
                    tracing::warn!("watching {}: {error}; trying again", self.kind.plural)
                }
                Err(_) => {}
            }
            is_failing = failed;
        }
    }

    fn take(&self, event: Event<DynamicObject>, reading: &mut BTreeMap<Arc<str>, Item>) {
        match event {
            Event::Init => reading.clear(),
            Event::InitApply(object) => {
                let item = item(object, self.kind);
                reading.insert(item.key.clone(), item);
            }
            Event::InitDone => self.replace(std::mem::take(reading)),
            Event::Apply(object) => self.set(item(object, self.kind)),
            Event::Delete(object) => self.remove(&item(object, self.kind).key),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects, as they were read again; browsers get what differs.
    fn replace(&self, items: BTreeMap<Arc<str>, Item>) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.items, items);
        state.is_whole = true;
        for (key, item) in &before {
            if !state.items.contains_key(key) {
                self.send(Change::Gone(item.clone()));
            }
        }
        for (key, item) in &state.items {
            if before.get(key) != Some(item) {
                self.send(Change::Set(item.clone()));
            }
        }
    }

    fn set(&self, item: Item) {
        let mut state = self.lock();
        if state.items.get(&item.key) != Some(&item) {
            state.items.insert(item.key.clone(), item.clone());
            self.send(Change::Set(item));
        }
    }

    fn remove(&self, key: &str) {
        if let Some(item) = self.lock().items.remove(key) {
            self.send(Change::Gone(item));
        }
    }

    /// Under the lock, so that no change comes before the state that has it.
    fn send(&self, change: Change) {
        // Without a browser nobody listens.
        let _ = self.changes.send(change);
    }

    /// The objects now, and whether they are all.
    pub fn items(&self) -> (Vec<Item>, bool) {
        let state = self.lock();
        (state.items.values().cloned().collect(), state.is_whole)
    }

    /// The objects now, whether they are all, and the changes that follow.
    pub fn subscribe(&self) -> (Vec<Item>, bool, broadcast::Receiver<Change>) {
        let state = self.lock();
        (state.items.values().cloned().collect(), state.is_whole, self.changes.subscribe())
    }
}

/// An object as browsers get it.
fn item(mut object: DynamicObject, kind: &Kind) -> Item {
    object.metadata.managed_fields = None;
    if let Some(annotations) = object.metadata.annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = match kind.plural {
        "namespaces" => Some(name),
        _ => object.metadata.namespace.as_deref(),
    };
    let key = format!("{}/{name}", object.metadata.namespace.as_deref().unwrap_or_default());
    // An object that came as JSON goes as JSON.
    let json = serde_json::to_string(&object).unwrap_or_default();
    Item { namespace: namespace.map(Arc::from), key: Arc::from(key), json: Arc::from(json) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::{Value, json};

    fn hub() -> Hub {
        Hub::new(&super::super::KINDS[0], testing::api_server(|_| Err("not asked".into())))
    }

    fn vm(name: &str, generation: u64) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": name, "namespace": "shop", "generation": generation,
                "annotations": {LAST_APPLIED: "{}", "kept": "yes"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply"}]},
            "spec": {"runStrategy": "Always"},
        }))
        .unwrap()
    }

    #[test]
    fn an_object_loses_what_no_page_shows_and_keeps_the_rest() {
        let kept = item(vm("web", 1), &super::super::KINDS[0]);
        let value: Value = serde_json::from_str(&kept.json).unwrap();
        assert_eq!(value["metadata"]["annotations"], json!({"kept": "yes"}));
        assert_eq!(value["metadata"].get("managedFields"), None);
        assert_eq!(value["spec"]["runStrategy"], "Always");
        assert_eq!((kept.namespace.as_deref(), &*kept.key), (Some("shop"), "shop/web"));
        assert!(!kept.json.contains('\n'));
    }

    #[tokio::test]
    async fn who_subscribes_gets_the_state_and_each_change_after_it_once() {
        let (hub, mut reading) = (hub(), BTreeMap::new());
        let (before, whole, mut changes) = hub.subscribe();
        assert!(before.is_empty() && !whole);
        for event in
            [Event::Init, Event::InitApply(vm("web", 1)), Event::InitApply(vm("db", 1)), Event::InitDone]
        {
            hub.take(event, &mut reading);
        }
        let key = |change: Change| match change {
            Change::Set(item) => format!("set {}", item.key),
            Change::Gone(item) => format!("gone {}", item.key),
        };
        let mut next = || key(changes.try_recv().unwrap());
        assert_eq!([next(), next()], ["set shop/db", "set shop/web"]);
        hub.take(Event::Apply(vm("web", 1)), &mut reading);
        hub.take(Event::Apply(vm("web", 2)), &mut reading);
        assert_eq!(next(), "set shop/web", "what is as before is no change");
        // The watch began again, and one was deleted meanwhile.
        for event in [Event::Init, Event::InitApply(vm("web", 2)), Event::InitDone] {
            hub.take(event, &mut reading);
        }
        assert_eq!(next(), "gone shop/db");
        hub.take(Event::Delete(vm("web", 2)), &mut reading);
        assert_eq!(next(), "gone shop/web");
        let (after, whole, _) = hub.subscribe();
        assert!(after.is_empty() && whole);
        assert!(changes.try_recv().is_err());
    }
}
