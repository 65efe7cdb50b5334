//! What wakes a controller: channels of others, requests, streams of changes, time.
//!
//! Why here: every loop needs the same, and several wakes at once must be one round. Route in: sources, each under a
//! name that the controller gave it. Route out: [`Woken`], which says why; [`Inbox`]es, for sources with values.

use futures::stream::{BoxStream, SelectAll, StreamExt as _, unfold};
use futures::{FutureExt as _, Stream};
use sheaf_host::links::Watch;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Everything that wakes one controller.
pub struct Wakes<S> {
    sources: SelectAll<BoxStream<'static, S>>,
}

/// Why a controller was woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woken<S> {
    sources: BTreeSet<S>,
    start: bool,
    time: bool,
}

impl<S: Copy + Ord> Woken<S> {
    /// Its first round.
    pub fn start() -> Self {
        Self { sources: BTreeSet::new(), start: true, time: false }
    }

    /// Whether this is its first round.
    pub fn is_start(&self) -> bool {
        self.start
    }

    /// Whether `source` has something new, as far as is known: always at the first round.
    pub fn by(&self, source: S) -> bool {
        self.start || self.sources.contains(&source)
    }

    /// Whether the time that the last round gave has passed.
    pub fn by_time(&self) -> bool {
        self.time
    }
}

impl<S: Copy + Ord + Debug + Send + 'static> Default for Wakes<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Copy + Ord + Debug + Send + 'static> Wakes<S> {
    /// None but time.
    pub fn new() -> Self {
        Self { sources: SelectAll::new() }
    }

    /// Every change of a channel from now on.
    #[must_use]
    pub fn watch<T: Send + Sync + 'static>(mut self, source: S, mut channel: watch::Receiver<T>) -> Self {
        channel.mark_unchanged();
        let changes = unfold(channel, move |mut channel| async move {
            channel.changed().await.ok()?;
            Some((source, channel))
        });
        self.sources.push(changes.boxed());
        self
    }

    /// Requests of other controllers.
    #[must_use]
    pub fn notify(mut self, source: S, notify: Arc<Notify>) -> Self {
        let requests = unfold(notify, move |notify| async move {
            notify.notified().await;
            Some((source, notify))
        });
        self.sources.push(requests.boxed());
        self
    }

    /// Changes of the machine, as a host trait reports them. After one, others are awaited for `settle`: a disk that is
    /// plugged in makes several. A source that cannot be opened or that ends is logged; the rest continues.
    #[must_use]
    pub fn changes(mut self, source: S, opened: std::io::Result<Box<dyn Watch>>, settle: Duration) -> Self {
        let watch = match opened {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!("{source:?}: no change notices: {error}");
                return self;
            }
        };
        let changes = unfold(watch, move |mut watch| async move {
            if let Err(error) = watch.changed().await {
                tracing::warn!("{source:?}: no more change notices: {error}");
                return None;
            }
            tokio::time::sleep(settle).await;
            // An error is met again by the next call.
            while let Some(Ok(())) = watch.changed().now_or_never() {}
            Some((source, watch))
        });
        self.sources.push(changes.boxed());
        self
    }

    /// A place for values that other tasks send.
    pub fn inbox<T: Send + 'static>(&mut self, source: S) -> (Outbox<T>, Inbox<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let notify = Arc::new(Notify::new());
        let wakes = std::mem::take(self).notify(source, notify.clone());
        *self = wakes;
        (Outbox { sender, notify }, Inbox { receiver })
    }

    /// The items of `stream`, which are kept until the controller takes them. Its end wakes the controller too.
    pub fn collect<T: Send + 'static>(
        &mut self,
        source: S,
        stream: impl Stream<Item = T> + Send + 'static,
    ) -> Inbox<T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let wakes = unfold(Some((stream.boxed(), sender)), move |state| async move {
            let (mut stream, sender) = state?;
            match stream.next().await {
                Some(item) => {
                    // The controller that is woken by this has the other end.
                    let _ = sender.send(item);
                    Some((source, Some((stream, sender))))
                }
                None => Some((source, None)),
            }
        });
        self.sources.push(wakes.boxed());
        Inbox { receiver }
    }

    /// Waits for the next wake, at most for `after`; all that is new by then is one wake.
    pub async fn next(&mut self, after: Option<Duration>) -> Woken<S> {
        let timer = async {
            match after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let mut woken = Woken { sources: BTreeSet::new(), start: false, time: false };
        tokio::select! {
            Some(source) = self.sources.next() => drop(woken.sources.insert(source)),
            () = timer => woken.time = true,
        }
        while let Some(Some(source)) = self.sources.next().now_or_never() {
            woken.sources.insert(source);
        }
        woken
    }
}

/// Sends values to an [`Inbox`], and wakes its controller.
pub struct Outbox<T> {
    sender: mpsc::UnboundedSender<T>,
    notify: Arc<Notify>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), notify: self.notify.clone() }
    }
}

impl<T> Outbox<T> {
    /// Sends `value`; a controller that ended needs it no more.
    pub fn send(&self, value: T) {
        let _ = self.sender.send(value);
        self.notify.notify_one();
    }
}

/// Values that were sent and not taken yet.
pub struct Inbox<T> {
    receiver: mpsc::UnboundedReceiver<T>,
}

impl<T> Inbox<T> {
    /// Takes all that is there.
    pub fn take(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).collect()
    }

    /// Whether all was taken and nothing can come any more.
    pub fn has_ended(&self) -> bool {
        self.receiver.is_closed() && self.receiver.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeBlockNews;
    use sheaf_host::udev::BlockNews as _;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Source {
        Values,
        Items,
        Disks,
    }

    #[tokio::test]
    async fn values_wait_until_they_are_taken_and_the_end_of_a_stream_is_seen() {
        let mut wakes = Wakes::new();
        let (outbox, mut inbox) = wakes.inbox(Source::Values);
        let mut items = wakes.collect(Source::Items, futures::stream::iter([1, 2]));
        outbox.send("a");
        outbox.send("b");
        let woken = wakes.next(None).await;
        assert!(woken.by(Source::Values) && woken.by(Source::Items));
        assert_eq!((inbox.take(), items.take()), (vec!["a", "b"], vec![1, 2]));
        assert!(items.has_ended() && !inbox.has_ended());
    }

    #[tokio::test]
    async fn several_change_notices_of_one_disk_are_one_wake() {
        let news = FakeBlockNews::default();
        let mut wakes = Wakes::new().changes(Source::Disks, news.watch(), Duration::from_millis(50));
        news.tell();
        let tell = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            news.tell();
        };
        let (woken, ()) = tokio::join!(wakes.next(None), tell);
        assert!(woken.by(Source::Disks));
        assert!(wakes.next(Some(Duration::from_millis(80))).await.by_time());
    }
}
