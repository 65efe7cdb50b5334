//! The rounds: what ended is noted, what is here is given, and the next image is pulled.
//!
//! Route in: Pods, policy, node config, ends of pulls, time. Route out: files in `/data/container-disks`, the channel.

use super::Lists;
use super::images::Images;
use super::index::Kept;
use super::plan::{Step, plan};
use super::pull::{Env, Failure, Order, pull};
use super::store::Store;
use super::wanted::{self, Key, Wanted};
use crate::channels::{ContainerDisk, ContainerDisks, Context, Shutdown};
use crate::reconcile::{self, Backoff, Next, Retries, Tasks, Wakes, Woken, blocking};
use crate::registry::PullError;
use crate::registry::credentials::{KEYS, Logins};
use crate::volumes::api::Cluster;
use crate::volumes::fill::policy;
use anyhow::Context as _;
use sheaf_api::names::{ERR_IMAGE_PULL, IMAGE_PULL_BACK_OFF};
use sheaf_config::node::NodeConfig;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Intervals of kubelet between two tries of a pull.
const RETRY: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// How often space is looked at.
const COLLECT: Duration = Duration::from_secs(60);
/// A message about a pull that is under way is written no more often.
const TELL: Duration = Duration::from_secs(10);
/// Timeout of a request for a Secret.
const SECRET: Duration = Duration::from_secs(20);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Pods of this node.
    Pods,
    /// The ImportPolicy.
    Policy,
    /// node.toml.
    Config,
    /// A pull ended.
    Ended,
}

type Outcome = anyhow::Result<Kept>;

/// The controller's state.
pub struct Controller<C> {
    lists: Lists,
    config: watch::Receiver<Arc<NodeConfig>>,
    store: Arc<Store>,
    images: Arc<Images>,
    cluster: Arc<C>,
    publish: Arc<watch::Sender<ContainerDisks>>,
    /// What was given to Pods that still wait.
    given: BTreeMap<Key, Kept>,
    /// Pulls that are under way, with their namespaces.
    busy: BTreeMap<Key, String>,
    retries: Retries<Key>,
    tasks: Tasks<Key, Outcome>,
    end: Shutdown,
}

impl<C: Cluster> Controller<C> {
    /// One that gives nothing yet.
    pub fn new(
        ctx: &Context,
        lists: Lists,
        store: Arc<Store>,
        images: Arc<Images>,
        cluster: Arc<C>,
        publish: watch::Sender<ContainerDisks>,
        wakes: &mut Wakes<Source>,
    ) -> Self {
        Self {
            lists,
            config: ctx.config.clone(),
            store,
            images,
            cluster,
            publish: Arc::new(publish),
            given: BTreeMap::new(),
            busy: BTreeMap::new(),
            retries: Retries::new(RETRY),
            tasks: Tasks::new(wakes, Source::Ended),
            end: ctx.shutdown.clone(),
        }
    }

    fn begin(&mut self, key: &Key, wanted: &Wanted) {
        let policy = match policy::of(&self.lists.policies.borrow()) {
            Ok(policy) => policy,
            // Its list wakes the next round.
            Err(why) => return self.say(key, "ImageNotReady", &format!("image {}: {why}", wanted.image)),
        };
        self.busy.insert(key.clone(), wanted.namespace.clone());
        self.say(key, "ImageNotReady", &format!("image {} is being pulled", wanted.image));
        let end = self.end.clone();
        let env = Env {
            store: self.store.clone(),
            fetch: self.images.fetch.clone(),
            registries: self.config.borrow().registries.clone(),
            policy,
            logins: Logins::default(),
            authorities: None,
            stop: Box::new(move || end.is_requested()),
            now: now(),
        };
        let told = told(self.publish.clone(), key.clone(), wanted.image.clone());
        let (cluster, wanted) = (self.cluster.clone(), wanted.clone());
        self.tasks.start(key.clone(), async move {
            let logins = logins(&*cluster, &wanted).await?;
            let Wanted { namespace: by, image, path, is_boot_file, .. } = wanted;
            let order = Order { image, path, is_boot_file, by };
            let pull = move || Ok(pull(&Env { logins, ..env }, &order, &*told)?);
            blocking(pull).await
        });
    }

    fn ended(&mut self, key: Key, outcome: Outcome) {
        let error = match outcome {
            Ok(kept) => {
                tracing::info!(
                    image = kept.image,
                    file = kept.file,
                    "container disk is present and verified"
                );
                self.retries.succeeded(&key);
                self.given.insert(key, kept);
                return;
            }
            Err(error) => error,
        };
        let failure = error.downcast_ref::<Failure>();
        if matches!(failure, Some(Failure::Pull(PullError::Stopped))) {
            return;
        }
        let message = format!("{error:#}");
        tracing::warn!(pod = key.0, volume = key.1, "{message}");
        let is_no_image = matches!(failure, Some(Failure::Pull(PullError::Reference(_))));
        self.retries.failed(key.clone(), message.clone());
        let is_repeated = self.retries.get(&key).is_some_and(|failure| failure.times > 1);
        match (is_no_image, is_repeated) {
            (true, _) => self.say(&key, "InvalidImageName", &message),
            (_, false) => self.say(&key, ERR_IMAGE_PULL, &message),
            (_, true) => self.say(&key, IMAGE_PULL_BACK_OFF, &message),
        }
    }

    fn say(&self, key: &Key, reason: &'static str, message: &str) {
        let state = ContainerDisk::NotReady { reason, message: format!("{}: {message}", about(key)) };
        self.publish
            .send_if_modified(|disks| disks.of_pods.insert(key.clone(), state.clone()) != Some(state));
    }

    /// Gives what is here and says what is not; everything that nobody waits for any more is forgotten.
    fn report(&self, wanted: &BTreeMap<Key, Wanted>) {
        let kept = self.store.index().sizes();
        self.publish.send_if_modified(|disks| {
            let before = disks.clone();
            disks.kept = kept;
            disks.of_pods.retain(|key, _| wanted.contains_key(key));
            for (key, kept) in &self.given {
                let (path, format, bytes) = (self.store.path(kept), kept.format(), kept.bytes);
                disks.of_pods.insert(key.clone(), ContainerDisk::Ready { path, format, bytes });
            }
            before != *disks
        });
    }

    async fn collect(&self, is_idle: bool) {
        self.store.need(self.given.values().map(|kept| kept.file.clone()).collect());
        let store = self.store.clone();
        let work = move || {
            if is_idle {
                store.remove_parts()?;
            }
            Ok(store.collect(0, now())?)
        };
        match blocking(work).await {
            Ok(gone) => gone.iter().for_each(|kept| {
                tracing::info!(
                    image = kept.image,
                    file = kept.file,
                    "container disk is removed: nobody uses it"
                );
            }),
            Err(error) => tracing::warn!("container disks that nobody uses cannot be removed: {error:#}"),
        }
    }
}

impl<C: Cluster> reconcile::Controller for Controller<C> {
    type Source = Source;

    async fn round(&mut self, woken: &Woken<Source>) -> Next {
        let wanted = {
            let pods = self.lists.pods.borrow_and_update();
            if !pods.synced {
                return Next::after(COLLECT);
            }
            wanted::of(&pods)
        };
        self.given.retain(|key, _| wanted.contains_key(key));
        self.retries.retain(|key| wanted.contains_key(key));
        for (key, outcome) in self.tasks.finished() {
            self.busy.remove(&key);
            // Whoever wanted it may be gone.
            if wanted.contains_key(&key) {
                self.ended(key, outcome.map_err(anyhow::Error::from).flatten());
            }
        }
        let index = self.store.index();
        let kept = |one: &Wanted| index.of_image(&one.image, one.path.as_deref(), one.is_boot_file).cloned();
        let steps = plan(
            &wanted,
            |key| self.given.contains_key(key),
            kept,
            |key| self.retries.is_waiting(key),
            &self.busy.values().cloned().collect(),
        );
        for (key, step) in steps {
            let Some(one) = wanted.get(&key) else { continue };
            match step {
                Step::Take(kept) => self.given.insert(key, kept).map_or((), drop),
                Step::Pull => self.begin(&key, one),
                Step::Wait if !self.busy.contains_key(&key) => {
                    self.say(&key, "ImageNotReady", &format!("image {} waits for another pull", one.image));
                }
                // Its own pull says how far it is, its last failure why it waits.
                Step::Wait | Step::BackOff => {}
                Step::Absent => {
                    let message =
                        format!("image {} is not on this node, and imagePullPolicy is Never", one.image);
                    self.say(&key, "ErrImageNeverPull", &message);
                }
            }
        }
        self.report(&wanted);
        if woken.by_time() || woken.is_start() {
            let is_idle = self.busy.is_empty() && wanted.keys().all(|key| self.given.contains_key(key));
            self.collect(is_idle).await;
        }
        Next { after: self.retries.next(), waiting_for: None }.within(COLLECT)
    }
}

/// What of the VM it is for.
fn about(key: &Key) -> String {
    match key.1.contains('.') {
        true => format!("domain.firmware.{}", key.1),
        false => format!("volume {}", key.1),
    }
}

/// Says how far the pull for `key` is.
fn told(
    publish: Arc<watch::Sender<ContainerDisks>>,
    key: Key,
    image: String,
) -> Box<dyn Fn(u64, u64) + Send> {
    let last = Mutex::new(Instant::now());
    Box::new(move |bytes, total| {
        let Ok(mut last) = last.lock() else { return };
        if last.elapsed() < TELL {
            return;
        }
        *last = Instant::now();
        let message =
            format!("{}: image {image} is being pulled: {} of {} MiB", about(&key), bytes >> 20, total >> 20);
        let state = ContainerDisk::NotReady { reason: "ImageNotReady", message };
        publish.send_if_modified(|disks| match disks.of_pods.get_mut(&key) {
            Some(shown) => {
                *shown = state;
                true
            }
            None => false,
        });
    })
}

/// The logins in the Secrets that the Pod names. One that is not there does not matter, as with kubelet: the image may be
/// public.
async fn logins<C: Cluster>(cluster: &C, wanted: &Wanted) -> anyhow::Result<Logins> {
    let mut logins = Logins::default();
    for name in &wanted.secrets {
        let about = || format!("Secret {}/{name}", wanted.namespace);
        let read = tokio::time::timeout(SECRET, cluster.secret(&wanted.namespace, name)).await;
        let secret = match read.with_context(|| format!("{}: no answer of the API server", about()))? {
            Err(error) if error.code() == Some(404) => {
                tracing::warn!("{}: is not there; {} is asked without it", about(), wanted.image);
                continue;
            }
            secret => secret.with_context(|| format!("{}: cannot be read", about()))?,
        };
        let found = KEYS.iter().find_map(|key| Some((*key, secret.get(*key)?)));
        let (key, value) = found.with_context(|| format!("{}: has no key {}", about(), KEYS.join(" or ")))?;
        logins.add(key, value).with_context(about)?;
    }
    Ok(logins)
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
