//! What is shown of the images: to the operator on the status page, to the cluster as labels of the node.
//!
//! Why here: fetching takes minutes, and how far it is is shown while it continues, from the thread that does it. Route in: what
//! node.toml lists, what lies there, progress and ends. Route out: the status section `images`, the channel.

use crate::channels::PresentImage;
use crate::status::{ImageSection, Section};
use sheaf_config::node::Image;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Both places where images are shown.
#[derive(Clone)]
pub(super) struct Report {
    section: Arc<Section<Vec<ImageSection>>>,
    publish: watch::Sender<Vec<PresentImage>>,
}

impl Report {
    pub(super) fn new(
        section: Section<Vec<ImageSection>>,
        publish: watch::Sender<Vec<PresentImage>>,
    ) -> Self {
        Self { section: Arc::new(section), publish }
    }

    /// These are listed, and these lie there besides, with their lengths; what was shown of the listed ones stays.
    pub(super) fn list(&self, wanted: &[Image], unlisted: &BTreeMap<String, u64>) {
        self.keep_present(|name| wanted.iter().any(|image| image.name == name));
        self.section.change(|images| {
            let old = std::mem::take(images);
            let listed = wanted.iter().map(|image| {
                let before = old.iter().find(|shown| shown.name == image.name && shown.phase != "unlisted");
                before.cloned().unwrap_or_else(|| in_phase(&image.name, "waiting", 0))
            });
            let others = unlisted.iter().map(|(name, bytes)| in_phase(name, "unlisted", *bytes));
            *images = listed.chain(others).collect();
        });
    }

    /// An image is on its way.
    pub(super) fn progress(&self, name: &str, phase: &str, bytes: u64, total: Option<u64>) {
        self.change(name, |image| {
            image.phase = phase.to_owned();
            image.bytes = bytes;
            image.total = total;
        });
    }

    /// An image is complete and verified; a guest sees `virtual_bytes` of it.
    pub(super) fn present(&self, name: &str, bytes: u64, virtual_bytes: u64) {
        self.change(name, |image| *image = in_phase(name, "present", bytes));
        self.publish.send_if_modified(|present| {
            let image = PresentImage { name: name.to_owned(), virtual_bytes };
            if present.contains(&image) {
                return false;
            }
            present.retain(|other| other.name != name);
            present.push(image);
            true
        });
    }

    /// An image cannot be used, and why.
    pub(super) fn failed(&self, name: &str, problem: String) {
        self.change(name, |image| {
            image.phase = "failed".into();
            image.problem = Some(problem);
        });
        self.keep_present(|present| present != name);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut ImageSection)) {
        self.section.change(|images| {
            if let Some(image) = images.iter_mut().find(|image| image.name == name) {
                change(image);
            }
        });
    }

    fn keep_present(&self, keep: impl Fn(&str) -> bool) {
        self.publish.send_if_modified(|present| {
            let before = present.len();
            present.retain(|image| keep(&image.name));
            before != present.len()
        });
    }
}

fn in_phase(name: &str, phase: &str, bytes: u64) -> ImageSection {
    ImageSection { name: name.to_owned(), phase: phase.to_owned(), bytes, ..ImageSection::default() }
}
