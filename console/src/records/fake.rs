//! Records in memory, which can fail.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;

use super::{Kind, Record, RecordError, Records};

/// [`Records`] of tests.
#[derive(Default)]
pub struct Fake {
    memory: Mutex<BTreeMap<(Kind, String), Record>>,
    version: AtomicU64,
    /// Writes fail.
    pub fails: AtomicBool,
}

impl Fake {
    fn write(&self, mut record: Record, expected: Option<String>) -> Result<(), RecordError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(RecordError::Api("etcd has no space left".into()));
        }
        let key = (record.kind, record.name.clone());
        let mut memory = self.memory.lock().unwrap();
        if memory.get(&key).map(|there| there.version.clone()) != expected {
            return Err(RecordError::Conflict);
        }
        record.version = (self.version.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        memory.insert(key, record);
        Ok(())
    }
}

impl Records for Fake {
    fn follow(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Record> {
        self.memory.lock().unwrap().get(&(kind, name.to_owned())).cloned()
    }

    fn list(&self, kind: Kind) -> Vec<Record> {
        self.memory.lock().unwrap().values().filter(|record| record.kind == kind).cloned().collect()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), RecordError>> {
        let written = self.write(record, None);
        Box::pin(async move { written })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<(), RecordError>> {
        let expected = Some(record.version.clone());
        let written = self.write(record, expected);
        Box::pin(async move { written })
    }

    fn delete<'a>(&'a self, kind: Kind, name: &'a str) -> BoxFuture<'a, Result<(), RecordError>> {
        let fails = self.fails.load(Ordering::Relaxed);
        if !fails {
            self.memory.lock().unwrap().remove(&(kind, name.to_owned()));
        }
        Box::pin(async move {
            if fails { Err(RecordError::Api("etcd has no space left".into())) } else { Ok(()) }
        })
    }
}
