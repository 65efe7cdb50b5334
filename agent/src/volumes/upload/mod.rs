//! Images that a program on the node sends into a volume: `sheaf-agent volumes upload`.
//!
//! Why here: not every image lies on a server that a node can fetch from (`sheaf serve` is one). The agent alone writes
//! volumes; who sends talks to it over a socket: a [`Hello`], an [`Answer::Go`] once the volume is there, the bytes,
//! [`Answer::Done`] once they are checked, on the disk, and the volume is complete. [`desk`] is where senders come in,
//! [`receive`](mod@receive) pours, [`send`](mod@send) is the sender. A future HTTP door would lead to the same desk.

pub mod desk;
pub mod receive;
pub mod send;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Either side counts as gone when it is silent for so long: a sender that reads from a far machine pauses for seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// What a sender begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The volume: the claim that it is for, `namespace/name`, or its own name.
    pub into: String,
    /// How many bytes come, where that is known.
    pub bytes: Option<u64>,
    /// SHA-256 of them, in hexadecimal digits, where that is known. Without both nobody could tell a whole file from
    /// half of one, and nothing is taken.
    pub sha256: Option<String>,
}

/// What a sender hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Wait; this is what for.
    Wait(String),
    /// Send now.
    Go,
    /// The volume is complete.
    Done,
    /// Nothing comes of it; why.
    Refused(String),
}
