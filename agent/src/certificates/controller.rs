//! The rounds: read every certificate, judge it, report.
//!
//! Route in: time, a renewed client certificate. Route out: the channel, Events of the Node.

use super::judge::{judge, verdict};
use super::list::{Part, list};
use super::report;
use crate::channels::{Context, Verdict};
use crate::reconcile::events::EventRecorder;
use crate::reconcile::{self, Next, Woken, blocking, publish};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Between two looks: ends are days away, and what was renewed is shown within the hour.
const LOOK: Duration = Duration::from_secs(3600);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The node has joined, or has another client certificate.
    Joined,
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    channel: watch::Sender<Option<Verdict>>,
    events: EventRecorder,
}

impl Controller {
    /// One that has observed nothing yet.
    pub fn new(ctx: Context, channel: watch::Sender<Option<Verdict>>) -> Self {
        let events = EventRecorder::new(ctx.cluster.clone());
        Self { ctx, channel, events }
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let (paths, config) = (self.ctx.paths.clone(), self.ctx.config.borrow().clone());
        let part = Part::of(config.cluster.as_ref());
        let Ok(entries) = blocking(move || Ok(list(&paths, part))).await else { return Next::after(LOOK) };
        let now = verdict(&judge(&entries, part, SystemTime::now()));
        let before = self.channel.borrow().clone();
        if let Some(event) = report::event(before.as_ref(), &now) {
            tracing::warn!("{}", event.note);
            self.events.announce(event);
        }
        publish(&self.channel, (part != Part::None).then_some(now));
        Next::after(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels;
    use crate::cluster::identity::{CLIENT, Store};
    use crate::cluster::keys::{Authority, Subject};
    use crate::paths::Paths;
    use crate::reconcile::Controller as _;
    use sheaf_config::load::parse_node_config;

    const JOIN: &str = "[cluster]\nmode = \"join\"\nserver = \"https://a:6443\"\ntoken = \"redeemed\"\nca-hash = \
                        \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";

    #[tokio::test]
    async fn a_worker_whose_certificate_expired_says_so_and_one_without_a_cluster_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let round = async |cluster: &str| {
            let text = format!("version = 1\nsystem.hostname = \"n1\"\n{cluster}");
            let config = parse_node_config("node.toml", &text).unwrap();
            let (ctx, _publish) = channels::open(paths.clone(), config);
            let (channel, state) = watch::channel(None);
            Controller::new(ctx, channel).round(&Woken::start()).await;
            state.borrow().clone()
        };
        assert_eq!(round("").await, None);
        assert_eq!(round(JOIN).await.unwrap().holds, Some(true), "nothing is there yet");
        let store = Store::of(&paths);
        let key = store.pending(CLIENT).unwrap();
        let (authority, _, _) = Authority::of_tests();
        let (subject, public) = (Subject::node("n1"), key.public_der().unwrap());
        let expired = authority.issue_client(&subject, &public, Duration::ZERO, SystemTime::now()).unwrap();
        store.save(CLIENT, &expired, &key).unwrap();
        let found = round(JOIN).await.unwrap();
        assert_eq!((found.holds, found.reason), (Some(false), "Expired"));
        assert!(found.message.contains("put a new token"), "{}", found.message);
    }
}
