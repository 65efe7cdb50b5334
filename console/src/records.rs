//! What the console remembers: users, their second factors, sessions, tokens.
//!
//! Why here: every replica must know a session at once, and a user who is deleted must be out everywhere, so all of it is in
//! the cluster, in Secrets of [`crate::names::NAMESPACE`] (`kube`), which are encrypted at rest. Reads come from memory that a
//! watch keeps; writes go to the API server. Route in: a kind and a name. Route out: JSON.

use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::answer::Refusal;

#[cfg(test)]
pub mod fake;
pub mod kube;

/// Of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A local user.
    User,
    /// Somebody who logged in.
    Session,
    /// A program's way in.
    Token,
    /// What a user is asked for besides the password.
    Factor,
}

impl Kind {
    /// As in the label, and before the name of the Secret.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Token => "token",
            Self::Factor => "factor",
        }
    }

    /// The one with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::User, Self::Session, Self::Token, Self::Factor].into_iter().find(|kind| kind.word() == word)
    }
}

/// One.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which.
    pub kind: Kind,
    /// Its name within its kind: lowercase letters, digits, hyphens.
    pub name: String,
    /// What is in it.
    pub data: Value,
    /// The API server's resource version; empty for one that is to be created.
    pub version: String,
}

impl Record {
    /// One that is to be created.
    pub fn new(kind: Kind, name: &str, data: &impl Serialize) -> Result<Self, Refusal> {
        let data = serde_json::to_value(data).map_err(Refusal::internal)?;
        Ok(Self { kind, name: name.to_owned(), data, version: String::new() })
    }

    /// The data as a type; none if it is damaged.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        let read = T::deserialize(&self.data);
        read.inspect_err(|error| tracing::warn!("the record {} {}: {error}", self.kind.word(), self.name))
            .ok()
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is one of this name, or it was changed since it was read.
    #[error("it exists already, or was changed by somebody else")]
    Conflict,
    /// The API server refused it or did not answer.
    #[error("writing it: {0}")]
    Api(String),
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Conflict => Self::conflict(error.to_string()),
            RecordError::Api(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// Where they are.
pub trait Records: Send + Sync {
    /// Keeps the memory in step with the cluster, until dropped.
    fn follow(&self) -> BoxFuture<'_, ()>;
    /// Whether everything was read once. Before, a session that exists is not known.
    fn is_ready(&self) -> bool;
    /// One, from memory.
    fn get(&self, kind: Kind, name: &str) -> Option<Record>;
    /// All of a kind, from memory.
    fn list(&self, kind: Kind) -> Vec<Record>;
    /// A new one.
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), RecordError>>;
    /// One that was read, changed.
    fn replace(&self, record: Record) -> BoxFuture<'_, Result<(), RecordError>>;
    /// One that may be gone already.
    fn delete<'a>(&'a self, kind: Kind, name: &'a str) -> BoxFuture<'a, Result<(), RecordError>>;
}
