//! A [`Filter`] in memory: remembers transactions, shows what a test puts there.

use crate::nft::{Filter, NftError};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Filters nothing. Shows the objects that were added, those of [`FakeFilter::shows`] in front.
#[derive(Default)]
pub struct FakeFilter(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    applied: Vec<Vec<Value>>,
    shown: Vec<Value>,
    added: Vec<Value>,
    failure: Option<String>,
}

impl FakeFilter {
    /// A listing begins with `objects`.
    pub fn shows(&self, objects: Vec<Value>) {
        self.inner().shown = objects;
    }

    /// Everything fails with `why` until it is told [`None`].
    pub fn fails(&self, why: Option<&str>) {
        self.inner().failure = why.map(str::to_owned);
    }

    /// Every transaction, in order.
    pub fn applied(&self) -> Vec<Vec<Value>> {
        self.inner().applied.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn may(&self) -> Result<(), NftError> {
        self.failure.clone().map_or(Ok(()), |why| Err(NftError::Told(why)))
    }

    /// `delete` removes what has the same kind and name, `flush` the rules of a chain.
    fn change(&mut self, command: &Value) {
        let Some((verb, object)) = command.as_object().and_then(|command| command.iter().next()) else {
            return;
        };
        let Some((kind, it)) = object.as_object().and_then(|object| object.iter().next()) else { return };
        match verb.as_str() {
            "add" if !self.added.contains(object) => self.added.push(object.clone()),
            "delete" => self.added.retain(|old| old[kind].is_null() || old[kind]["name"] != it["name"]),
            "flush" => self.added.retain(|old| old["rule"].is_null() || old["rule"]["chain"] != it["name"]),
            _ => {}
        }
    }
}

impl Filter for FakeFilter {
    fn apply(&self, commands: &[Value]) -> Result<(), NftError> {
        let mut inner = self.inner();
        inner.may()?;
        commands.iter().for_each(|command| inner.change(command));
        inner.applied.push(commands.to_vec());
        Ok(())
    }

    fn table(&self, family: &str, name: &str) -> Result<Vec<Value>, NftError> {
        let inner = self.inner();
        inner.may()?;
        // What a test shows without a table is in every one.
        let is_of = |object: &&Value| {
            let it = object.as_object().and_then(|object| object.iter().next());
            it.is_some_and(|(kind, it)| {
                let table = if kind == "table" { &it["name"] } else { &it["table"] };
                (table.is_null() || table == name) && (it["family"].is_null() || it["family"] == family)
            })
        };
        Ok(inner.shown.iter().chain(&inner.added).filter(is_of).cloned().collect())
    }
}
