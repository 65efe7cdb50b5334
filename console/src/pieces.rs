//! A body that is handed on one piece at a time, on its way in or out.
//!
//! Why here: images and disks are larger than the memory of a control-plane node, and either side may stop. One piece is held, and the
//! next is read once it is taken. Route in: a body. Route out: its pieces, and how it ended.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

/// Longest time in which no byte comes, or none is taken: a node may wait a minute for its volume.
pub const STALL_TIME: Duration = Duration::from_secs(120);

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it was handed on.
    Whole,
    /// It is not wanted any more.
    Unwanted,
    /// Whoever sends it broke off, and why.
    Broken(String),
    /// Nothing came.
    Silent,
    /// Nothing was taken.
    Stalled,
}

/// Hands the pieces of `body` on.
pub async fn hand_on<B>(body: &mut Pin<Box<B>>, sender: &mpsc::Sender<Bytes>) -> Ended
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    loop {
        let piece = match tokio::time::timeout(STALL_TIME, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(error))) => return Ended::Broken(error.into().to_string()),
            Ok(None) => return Ended::Whole,
            Err(_) => return Ended::Silent,
        };
        match tokio::time::timeout(STALL_TIME, sender.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::Unwanted,
            Err(_) => return Ended::Stalled,
        }
    }
}
