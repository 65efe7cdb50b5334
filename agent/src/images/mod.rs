//! Controller `images`: keeps the disk images that node.toml lists in `/data/images`.
//!
//! Reads: the node config, servers that hold images. Owns: files in `/data/images` that node.toml lists, their
//! `.part` files, `/var/lib/sheaf/images.json`, the channel and the status section `images`. Never touches: files
//! that node.toml does not list (a VM's disk may be an overlay over one), anything outside that directory.
//!
//! An image appears under its name only when it is complete and its SHA-256 is right; then it is never written
//! again. What was verified is remembered with size and time of change, so that a boot does not read gigabytes.

mod fetch;
mod known;
mod store;
#[cfg(test)]
mod tests;

use crate::channels::{Context, PresentImage};
use crate::status::{ImageSection, Section};
use known::Known;
use sheaf_config::node::Image;
use sheaf_host::fetch::Fetch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Outcome, Store};
use tokio::sync::watch;

/// Waits between tries: short at first, since most failures are a link that is not up yet.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest wait between tries: a server that was mended is noticed within it.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Wait before a file that was complete and wrong is asked for again: gigabytes are not fetched in vain all day.
const WRONG_RETRY: Duration = Duration::from_secs(3600);
/// Wait when there is nothing to do: any time, since news of the config end it.
const IDLE: Duration = Duration::from_secs(86400);

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Vec<PresentImage>>,
    section: Section<Vec<ImageSection>>,
    source: Arc<dyn Fetch>,
) -> anyhow::Result<()> {
    run_with(ctx, publish, section, source, FIRST_RETRY).await
}

/// [`run`] with a first wait of `first_retry`, which doubles.
async fn run_with(
    mut ctx: Context,
    publish: watch::Sender<Vec<PresentImage>>,
    section: Section<Vec<ImageSection>>,
    source: Arc<dyn Fetch>,
    first_retry: Duration,
) -> anyhow::Result<()> {
    let section = Arc::new(section);
    let store = Arc::new(Store { images: ctx.paths.images(), source, end: ctx.shutdown.clone() });
    let known_path = ctx.paths.lib.join("images.json");
    let mut known = Known::read(&known_path);
    let mut config = ctx.config.clone();
    let mut retry = first_retry;
    loop {
        let wanted = config.borrow_and_update().images.clone();
        let board = Board::new(section.clone(), publish.clone(), &wanted, store.unlisted(&wanted));
        let mut next = IDLE;
        // One at a time: they share one uplink and one disk.
        for image in &wanted {
            if ctx.shutdown.is_requested() {
                return Ok(());
            }
            next = next.min(settle(&store, &mut known, image, &board, retry).await?);
        }
        if let Err(error) = known.write(&known_path) {
            tracing::warn!("{error}: images will be verified again at the next boot");
        }
        retry = if next == retry { (retry * 2).min(LAST_RETRY) } else { first_retry };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            changed = config.changed() => if changed.is_err() { return Ok(()) },
            () = ctx.shutdown.requested() => return Ok(()),
        }
    }
}

/// Brings one image to be present; returns when it is to be looked at again, `retry` after a passing failure.
async fn settle(
    store: &Arc<Store>,
    known: &mut Known,
    image: &Image,
    board: &Board,
    retry: Duration,
) -> anyhow::Result<Duration> {
    let (worker, progress, wanted) = (store.clone(), board.clone(), image.clone());
    let remembered = known.get(&image.name).cloned();
    // Hashing and fetching block for minutes; the agent's one thread goes on meanwhile.
    let outcome = tokio::task::spawn_blocking(move || {
        worker.ensure(&wanted, remembered.as_ref(), &|phase, bytes, total| {
            progress.show(&wanted.name, phase, bytes, total);
        })
    })
    .await?;
    match outcome {
        Ok(Outcome::Present(file)) => {
            if known.get(&image.name) != Some(&file) {
                tracing::info!(image = image.name, bytes = file.bytes, "image is present and verified");
            }
            board.present(&image.name, file.bytes);
            known.put(&image.name, file);
            Ok(IDLE)
        }
        Ok(Outcome::Interrupted) => Ok(IDLE),
        Err(error) => {
            let again = if error.is_passing() { retry } else { WRONG_RETRY };
            let error = anyhow::Error::from(error);
            tracing::warn!("image {}: {error:#}", image.name);
            board.failed(&image.name, format!("{error:#}"));
            Ok(again)
        }
    }
}

/// What is shown of the images, to the operator and to the cluster.
#[derive(Clone)]
struct Board {
    section: Arc<Section<Vec<ImageSection>>>,
    publish: watch::Sender<Vec<PresentImage>>,
    listed: Arc<Vec<String>>,
    unlisted: Arc<BTreeMap<String, u64>>,
}

impl Board {
    fn new(
        section: Arc<Section<Vec<ImageSection>>>,
        publish: watch::Sender<Vec<PresentImage>>,
        wanted: &[Image],
        unlisted: BTreeMap<String, u64>,
    ) -> Self {
        let listed: Vec<_> = wanted.iter().map(|image| image.name.clone()).collect();
        publish.send_if_modified(|present| {
            let before = present.len();
            present.retain(|image| listed.contains(&image.name));
            before != present.len()
        });
        let board = Self { section, publish, listed: listed.into(), unlisted: unlisted.into() };
        board.section.change(|images| {
            let old = std::mem::take(images);
            let of_name = |name: &String| old.iter().find(|image| image.name == *name).cloned();
            let waiting = |name: &String| ImageSection {
                name: name.clone(),
                phase: "waiting".into(),
                ..ImageSection::default()
            };
            *images =
                board.listed.iter().map(|name| of_name(name).unwrap_or_else(|| waiting(name))).collect();
            images.extend(board.unlisted.iter().map(|(name, bytes)| ImageSection {
                name: name.clone(),
                phase: "unlisted".into(),
                bytes: *bytes,
                ..ImageSection::default()
            }));
        });
        board
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut ImageSection)) {
        self.section.change(|images| {
            if let Some(image) = images.iter_mut().find(|image| image.name == name) {
                change(image);
            }
        });
    }

    fn show(&self, name: &str, phase: &str, bytes: u64, total: Option<u64>) {
        self.change(name, |image| {
            image.phase = phase.to_owned();
            image.bytes = bytes;
            image.total = total;
        });
    }

    fn present(&self, name: &str, bytes: u64) {
        self.change(name, |image| {
            *image =
                ImageSection { name: name.into(), phase: "present".into(), bytes, ..ImageSection::default() };
        });
        self.publish.send_if_modified(|present| {
            let image = PresentImage { name: name.to_owned(), bytes };
            if present.contains(&image) {
                return false;
            }
            present.retain(|other| other.name != name);
            present.push(image);
            true
        });
    }

    fn failed(&self, name: &str, problem: String) {
        self.change(name, |image| {
            image.phase = "failed".into();
            image.problem = Some(problem);
        });
        self.publish.send_if_modified(|present| {
            let before = present.len();
            present.retain(|image| image.name != name);
            before != present.len()
        });
    }
}
