//! Images that a program on the node sends into a volume: `sheaf-agent volumes upload`.
//!
//! Why here: not every image lies on a server that a node can fetch from (`sheaf serve` is one). The agent alone writes
//! volumes; a sender connects to it over a socket: a [`Hello`], an [`Answer::Go`] once the volume is there, the bytes,
//! [`Answer::Done`] once they are checked, on the disk, and the volume is complete. [`server`] accepts senders,
//! [`receive`](mod@receive) pours, [`send`](mod@send) is the sender.

pub mod receive;
pub mod send;
pub mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Timeout of either side between two bytes: a sender that reads from a far machine pauses for seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// What a sender begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The volume: the claim that it is for, `namespace/name`, or its own name.
    pub into: String,
    /// How many bytes come, where that is known.
    pub bytes: Option<u64>,
    /// SHA-256 of them, in hexadecimal digits, where that is known. Without both a whole file could not be told from
    /// half of one, and nothing is taken.
    pub sha256: Option<String>,
}

/// What a sender is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Wait; this is what for.
    Wait(String),
    /// Send now.
    Go,
    /// The volume is complete.
    Done,
    /// The upload is refused; why.
    Refused(String),
}
