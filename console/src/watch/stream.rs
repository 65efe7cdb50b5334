//! One browser's stream: what is there, then every change, as server-sent events.
//!
//! Why here: `text/event-stream` is read by `EventSource`, which connects again by itself. Each line of data is
//! `{"kind": "machines", "change": "set" | "gone" | "synced", "key": …, "object": …}`. The stream ends when the session does, when a right changes, or
//! when the browser is too slow; connected again, it begins with what is there then. Route in: hubs, rights. Route out: a body
//! of bounded memory.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::SelectAll};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::{
    hub::{Change, Hub, Item},
    rights::{KEPT, Rights},
};
use crate::{answer::Answer, caller::Caller, clock, serve::State};

/// Messages between the stream and a connection that is slow.
const WAITING: usize = 64;
/// Between two looks at rights. At the session, which is in memory, one looks with each sign of life.
const LOOK: Duration = KEPT;
/// Between two signs of life: a page that hears none for 12 s (`web/src/api/watch.ts`) connects again, as a node that lost its power ends no
/// connection.
const ALIVE: Duration = Duration::from_secs(5);
/// An event and not a comment: no script is told of comments. The first one says that there will be more.
const SIGN: &[u8] = b"event: alive\ndata: 1\n\n";
/// After it a browser that lost the connection tries again, in ms.
const RETRY: &str = "retry: 2000\n\n";

/// Begins one.
pub fn open(state: Arc<State>, rights: Arc<Rights>, caller: Caller, hubs: Vec<Arc<Hub>>) -> Answer {
    let (lines, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let feed = Feed { state, rights, caller, lines, seen: HashMap::new() };
        // Its end is the end of the body.
        let _ = feed.run(&hubs).await;
    });
    let mut answer = Response::new(
        Lines(receiver).map_err(|never: std::convert::Infallible| match never {}).boxed_unsync(),
    );
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

/// What ends a stream.
struct End;

struct Feed {
    state: Arc<State>,
    rights: Arc<Rights>,
    caller: Caller,
    lines: mpsc::Sender<Bytes>,
    /// What was said about kinds and namespaces: when the answer changes, the browser begins again.
    seen: HashMap<(&'static str, Option<Arc<str>>), bool>,
}

impl Feed {
    async fn run(mut self, hubs: &[Arc<Hub>]) -> Result<(), End> {
        self.say(Bytes::from_static(RETRY.as_bytes())).await?;
        self.say(Bytes::from_static(SIGN)).await?;
        let mut changes = SelectAll::new();
        for hub in hubs {
            let (items, whole, receiver) = hub.subscribe();
            for item in items {
                self.change(hub, &Change::Set(item)).await?;
            }
            if whole {
                self.say(synced(hub.kind.word)).await?;
            }
            let of_hub = hub.clone();
            let stream = futures::stream::unfold(receiver, |mut receiver| async move {
                // None when changes were missed.
                let change = receiver.recv().await.ok();
                Some((change, receiver))
            });
            changes.push(Box::pin(stream.map(move |change| (of_hub.clone(), change))));
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        let mut alive = tokio::time::interval(ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        alive.tick().await;
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some((hub, Some(change))) => self.change(&hub, &change).await?,
                    // Too slow: what was missed is not known.
                    Some((_, None)) | None => return Err(End),
                },
                _ = look.tick() => self.look(hubs).await?,
                _ = alive.tick() => self.live().await?,
            }
        }
    }

    /// Sends a change, if its object may be seen.
    async fn change(&mut self, hub: &Hub, change: &Change) -> Result<(), End> {
        let (Change::Set(item) | Change::Gone(item)) = change;
        if !self.may_see(hub, item.namespace.as_ref()).await? {
            return Ok(());
        }
        self.say(line(hub.kind.word, change, item)).await
    }

    async fn may_see(&mut self, hub: &Hub, namespace: Option<&Arc<str>>) -> Result<bool, End> {
        let may = self.rights.may_see(&self.state.upstream, &self.caller, hub.kind, namespace).await;
        let may = may.map_err(|_| End)?;
        let before = self.seen.insert((hub.kind.word, namespace.cloned()), may);
        match before {
            // What it may see is another now: it begins again.
            Some(before) if before != may => Err(End),
            _ => Ok(may),
        }
    }

    /// A sign of life, while the session lasts.
    async fn live(&self) -> Result<(), End> {
        if !self.caller.is_valid(&*self.state.records, clock::now()) {
            return Err(End);
        }
        self.say(Bytes::from_static(SIGN)).await
    }

    /// Whether rights are as they were.
    async fn look(&mut self, hubs: &[Arc<Hub>]) -> Result<(), End> {
        let questions: Vec<_> = self.seen.keys().cloned().collect();
        for (word, namespace) in questions {
            if let Some(hub) = hubs.iter().find(|hub| hub.kind.word == word) {
                self.may_see(hub, namespace.as_ref()).await?;
            }
        }
        Ok(())
    }

    async fn say(&self, line: Bytes) -> Result<(), End> {
        self.lines.send(line).await.map_err(|_| End)
    }
}

/// An event. Key and object are JSON without line breaks.
fn line(word: &str, change: &Change, item: &Item) -> Bytes {
    let key = serde_json::Value::from(&*item.key);
    match change {
        Change::Set(_) => format!(
            "data: {{\"kind\":\"{word}\",\"change\":\"set\",\"key\":{key},\"object\":{}}}\n\n",
            item.json
        ),
        Change::Gone(_) => format!("data: {{\"kind\":\"{word}\",\"change\":\"gone\",\"key\":{key}}}\n\n"),
    }
    .into()
}

/// All that is there was sent.
fn synced(word: &str) -> Bytes {
    format!("data: {{\"kind\":\"{word}\",\"change\":\"synced\"}}\n\n").into()
}

/// The body: what comes over the channel.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json() {
        let item = Item { namespace: None, key: "shop/a\"b".into(), json: "{\"a\":1}".into() };
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        for (bytes, change) in [
            (line("machines", &Change::Set(item.clone()), &item), "set"),
            (line("machines", &Change::Gone(item.clone()), &item), "gone"),
            (synced("machines"), "synced"),
        ] {
            let text = text(bytes);
            let data = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
            assert!(!data.contains('\n'));
            let value: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!((value["kind"].as_str(), value["change"].as_str()), (Some("machines"), Some(change)));
        }
    }
}
