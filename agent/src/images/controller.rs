//! The rounds: what ended is noted and shown, and the next image is begun.
//!
//! Route in: node.toml, ends of fetches, time. Route out: files in `/data/images`, [`Report`], `images.json`.

use super::known::Known;
use super::plan::{Key, key, plan};
use super::report::Report;
use super::store::{ImageError, Outcome, Store};
use super::{CHECK_INTERVAL, LAST_RETRY, WRONG_RETRY};
use crate::channels::Context;
use crate::reconcile::{self, Backoff, Next, Retries, Tasks, Wakes, Woken, blocking};
use sheaf_config::node::{Image, NodeConfig};
use sheaf_host::qcow2;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// node.toml changed.
    Config,
    /// An image is there, or could not be brought.
    Ended,
}

/// The controller's state.
pub(super) struct Controller {
    store: Arc<Store>,
    known: Known,
    known_path: PathBuf,
    config: watch::Receiver<Arc<NodeConfig>>,
    report: Report,
    verified: BTreeSet<Key>,
    verified_since: Instant,
    /// What is under way: one at a time, also when node.toml does not list it any more.
    busy: Option<Key>,
    /// Failures that may pass by themselves.
    passing: Retries<Key>,
    /// Files that were complete and wrong.
    wrong: Retries<Key>,
    tasks: Tasks<Key, anyhow::Result<Result<Outcome, ImageError>>>,
}

impl Controller {
    /// One that knows what `images.json` says.
    pub(super) fn new(
        ctx: &Context,
        store: Store,
        report: Report,
        first_retry: Duration,
        wakes: &mut Wakes<Source>,
    ) -> Self {
        let known_path = ctx.paths.lib.join("images.json");
        Self {
            store: Arc::new(store),
            known: Known::read(&known_path),
            known_path,
            config: ctx.config.clone(),
            report,
            verified: BTreeSet::new(),
            verified_since: Instant::now(),
            busy: None,
            passing: Retries::new(Backoff::new(first_retry, LAST_RETRY)),
            wrong: Retries::new(Backoff::new(WRONG_RETRY, WRONG_RETRY)),
            tasks: Tasks::new(wakes, Source::Ended),
        }
    }

    fn begin(&mut self, image: &Image) {
        let (store, report, image) = (self.store.clone(), self.report.clone(), image.clone());
        let remembered = self.known.get(&image.name).cloned();
        let of = key(&image);
        self.busy = Some(of.clone());
        // Hashing and fetching block for minutes.
        let work = blocking(move || {
            Ok(store.ensure(&image, remembered.as_ref(), &|phase, bytes, total| {
                report.progress(&image.name, phase, bytes, total);
            }))
        });
        self.tasks.start(of, work);
    }

    async fn ended(&mut self, key: Key, outcome: anyhow::Result<Result<Outcome, ImageError>>) {
        let name = key.0.as_str();
        let failure = match outcome {
            Ok(Ok(Outcome::Interrupted)) => return,
            Ok(Ok(Outcome::Present(file))) => {
                let bytes = file.bytes;
                if self.known.get(name) != Some(&file) {
                    tracing::info!(image = name, bytes, "image is present and verified");
                    self.known.put(name, file);
                    let (known, path) = (self.known.clone(), self.known_path.clone());
                    if let Err(error) = blocking(move || Ok(known.write(&path)?)).await {
                        tracing::warn!("{error:#}: images will be verified again at the next boot");
                    }
                }
                let path = self.store.images.join(name);
                let read = blocking(move || Ok(qcow2::virtual_size(&path))).await;
                self.report.present(name, bytes, read.ok().flatten().unwrap_or(bytes));
                self.passing.succeeded(&key);
                self.wrong.succeeded(&key);
                self.verified.insert(key);
                return;
            }
            Ok(Err(error)) if !error.is_passing() => {
                self.wrong.failed(key.clone(), error.to_string());
                anyhow::Error::from(error)
            }
            Ok(Err(error)) => {
                self.passing.failed(key.clone(), error.to_string());
                error.into()
            }
            Err(error) => {
                self.passing.failed(key.clone(), error.to_string());
                error
            }
        };
        tracing::warn!("image {name}: {failure:#}");
        self.report.failed(name, format!("{failure:#}"));
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, woken: &Woken<Source>) -> Next {
        let wanted = self.config.borrow_and_update().images.clone();
        if woken.by(Source::Config) {
            let keys: BTreeSet<_> = wanted.iter().map(key).collect();
            self.verified.retain(|key| keys.contains(key));
            self.passing.retain(|key| keys.contains(key));
            self.wrong.retain(|key| keys.contains(key));
        }
        let (store, listed) = (self.store.clone(), wanted.clone());
        match blocking(move || Ok(store.unlisted(&listed))).await {
            Ok(unlisted) => self.report.list(&wanted, &unlisted),
            Err(error) => tracing::warn!("the images of this node cannot be listed: {error:#}"),
        }
        if self.verified_since.elapsed() >= CHECK_INTERVAL {
            self.verified.clear();
            self.verified_since = Instant::now();
        }
        for (key, outcome) in self.tasks.finished() {
            self.busy = None;
            self.ended(key, outcome.map_err(anyhow::Error::from).flatten()).await;
        }
        let is_waiting = |key: &Key| self.passing.is_waiting(key) || self.wrong.is_waiting(key);
        if let Some(image) = plan(&wanted, &self.verified, is_waiting, self.busy.is_some()) {
            self.begin(image);
        }
        let due = |after| Next { after, waiting_for: None };
        due(self.passing.next()).sooner(due(self.wrong.next())).within(CHECK_INTERVAL)
    }
}
