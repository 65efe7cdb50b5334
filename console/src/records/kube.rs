//! Records as Secrets: label `console.sheaf.dev/kind`, name `<kind>-<name>`, JSON at the key `record`.
//!
//! Route in: a watch of the labelled Secrets of the namespace. Route out: [`Records`].

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{PoisonError, RwLock},
};

use futures::{StreamExt as _, future::BoxFuture};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};

use super::{Kind, Record, RecordError, Records};
use crate::names::NAMESPACE;

/// Label of the Secrets.
pub const LABEL: &str = "console.sheaf.dev/kind";
/// Key of the JSON.
pub const KEY: &str = "record";

type Memory = BTreeMap<(Kind, String), Record>;

/// [`Records`] in the cluster.
pub struct Secrets {
    secrets: Api<Secret>,
    /// None before everything was read once.
    memory: RwLock<Option<Memory>>,
}

impl Secrets {
    /// Those of `client`'s cluster; nothing is read yet.
    pub fn new(client: Client) -> Self {
        Self { secrets: Api::namespaced(client, NAMESPACE), memory: RwLock::default() }
    }

    fn remember(&self, record: Record) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.get_or_insert_default().insert((record.kind, record.name.clone()), record);
    }

    fn forget(&self, kind: Kind, name: &str) {
        if let Some(memory) = self.memory.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            memory.remove(&(kind, name.to_owned()));
        }
    }

    fn read<T>(&self, of: impl FnOnce(&Memory) -> T) -> Option<T> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(of)
    }

    async fn watch(&self) {
        let config = watcher::Config::default().labels(LABEL);
        let mut events = pin!(watcher(self.secrets.clone(), config).default_backoff());
        let mut reading = Memory::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => reading.clear(),
                Ok(Event::InitApply(secret)) => {
                    if let Some(record) = record_of(&secret) {
                        reading.insert((record.kind, record.name.clone()), record);
                    }
                }
                Ok(Event::InitDone) => {
                    let all = std::mem::take(&mut reading);
                    *self.memory.write().unwrap_or_else(PoisonError::into_inner) = Some(all);
                }
                Ok(Event::Apply(secret)) => {
                    if let Some(record) = record_of(&secret) {
                        self.remember(record);
                    }
                }
                Ok(Event::Delete(secret)) => {
                    if let Some(record) = record_of(&secret) {
                        self.forget(record.kind, &record.name);
                    }
                }
                Err(error) => tracing::warn!("watching Secrets of {NAMESPACE}: {error}; trying again"),
            }
        }
    }
}

/// The Secret of a record.
pub fn secret_of(record: &Record) -> Secret {
    let labels = BTreeMap::from([(LABEL.to_owned(), record.kind.word().to_owned())]);
    let data = BTreeMap::from([(KEY.to_owned(), ByteString(record.data.to_string().into_bytes()))]);
    let version = Some(record.version.clone()).filter(|version| !version.is_empty());
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(record.kind, &record.name)),
            labels: Some(labels),
            resource_version: version,
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    }
}

/// Name of the Secret of a record.
pub fn secret_name(kind: Kind, name: &str) -> String {
    format!("{}-{name}", kind.word())
}

/// The record in a Secret; none if it is somebody else's, or damaged.
pub fn record_of(secret: &Secret) -> Option<Record> {
    let kind = Kind::of_word(secret.metadata.labels.as_ref()?.get(LABEL)?)?;
    let name = secret.metadata.name.as_deref()?.strip_prefix(kind.word())?.strip_prefix('-')?;
    let data = serde_json::from_slice(&secret.data.as_ref()?.get(KEY)?.0).ok()?;
    let version = secret.metadata.resource_version.clone().unwrap_or_default();
    Some(Record { kind, name: name.to_owned(), data, version })
}

fn failed(error: kube::Error) -> RecordError {
    match error {
        kube::Error::Api(status) if status.code == 409 => RecordError::Conflict,
        error => RecordError::Api(error.to_string()),
    }
}

impl Records for Secrets {
    fn follow(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.watch())
    }

    fn is_ready(&self) -> bool {
        self.read(|_| ()).is_some()
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Record> {
        self.read(|memory| memory.get(&(kind, name.to_owned())).cloned()).flatten()
    }

    fn list(&self, kind: Kind) -> Vec<Record> {
        let of_kind =
            |memory: &Memory| memory.values().filter(|record| record.kind == kind).cloned().collect();
        self.read(of_kind).unwrap_or_default()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            let made =
                self.secrets.create(&PostParams::default(), &secret_of(&record)).await.map_err(failed)?;
            // The watch brings it, too; the next request of this browser may be faster.
            if let Some(record) = record_of(&made).filter(|_| self.is_ready()) {
                self.remember(record);
            }
            Ok(())
        })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            let name = secret_name(record.kind, &record.name);
            let secret = secret_of(&record);
            let written =
                self.secrets.replace(&name, &PostParams::default(), &secret).await.map_err(failed)?;
            if let Some(record) = record_of(&written).filter(|_| self.is_ready()) {
                self.remember(record);
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, kind: Kind, name: &'a str) -> BoxFuture<'a, Result<(), RecordError>> {
        Box::pin(async move {
            let deleted = self.secrets.delete(&secret_name(kind, name), &DeleteParams::default()).await;
            match deleted {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                answer => drop(answer.map_err(failed)?),
            }
            self.forget(kind, name);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_comes_back_from_its_secret_and_others_secrets_are_none() {
        let record =
            Record { version: "7".into(), ..Record::new(Kind::Token, "a-b", &json!({"x": 1})).unwrap() };
        let secret = secret_of(&record);
        assert_eq!(secret.metadata.name.as_deref(), Some("token-a-b"));
        assert_eq!(record_of(&secret), Some(record));
        for damage in [
            |secret: &mut Secret| secret.metadata.labels = None,
            |secret: &mut Secret| secret.metadata.name = Some("user-a-b".into()),
            |secret: &mut Secret| secret.data = None,
            |secret: &mut Secret| {
                secret.data = Some(BTreeMap::from([(KEY.to_owned(), ByteString(b"{".to_vec()))]));
            },
            |secret: &mut Secret| {
                secret.metadata.labels = Some(BTreeMap::from([(LABEL.to_owned(), "cat".to_owned())]));
            },
        ] {
            let mut damaged = secret.clone();
            damage(&mut damaged);
            assert_eq!(record_of(&damaged), None, "{damaged:?}");
        }
    }
}
