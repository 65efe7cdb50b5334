//! Fills a volume from a container disk.
//!
//! Why here: what lies in an image of a registry is an image of a disk like any other, once it is here: it is read, checked and
//! poured like one from a server. Who brings it here is `container_disks`, which keeps it for the next volume; it is known
//! to this room by a trait, as servers are. Route in: an [`Order`]. Route out: the volume filled, or [`FillError`]. Blocks.

use super::{FillError, Hosts, fill};
use sheaf_api::storage::local_volume::{Progress, VolumeReason};
use sheaf_host::fetch::policy::Policy;
use sheaf_host::fetch::{Fetch, FetchError, Rest, Source};
use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Registries, and what is kept of them on this node.
pub trait Images: Send + Sync {
    /// Makes the disk of `order` present; tells how far it is.
    fn pull(&self, order: &Order, show: &(dyn Fn(Progress) + Sync)) -> Result<Pulled, FillError>;
}

/// Who asks a registry.
#[derive(Clone, Default)]
pub struct RegistryAccess {
    /// User and password.
    pub login: Option<Login>,
    /// Authorities in PEM that are trusted for the registry.
    pub authorities: Option<String>,
}

/// User and password of a registry.
#[derive(Clone)]
pub struct Login {
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for RegistryAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|login| &login.user);
        f.debug_struct("RegistryAccess").field("user", &user).finish_non_exhaustive()
    }
}

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct Order {
    /// The image, as a tenant wrote it.
    pub image: String,
    /// The volume that it is for.
    pub volume: String,
    /// Who asks.
    pub access: RegistryAccess,
    /// Which servers may be asked.
    pub policy: Arc<Policy>,
    /// Set when the volume is not wanted any more.
    pub stop: Arc<AtomicBool>,
}

/// A disk that is here, complete and verified.
#[derive(Debug)]
pub struct Pulled {
    /// It, open for reading.
    pub file: File,
    /// Length of the file.
    pub bytes: u64,
}

/// A pull that failed.
#[derive(Debug, thiserror::Error)]
#[error("the container disk is not here")]
pub struct PullFailed {
    /// The reason of the condition.
    pub reason: VolumeReason,
    /// Whether another try can help.
    pub is_passing: bool,
    /// What is in the way.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Pulls `from` and fills the volume of `into` with it.
pub fn fill_from(
    hosts: &Hosts,
    from: &Order,
    into: &super::Order,
    show: &(dyn Fn(Progress) + Sync),
) -> Result<(), FillError> {
    let Pulled { file, bytes } = hosts.images.pull(from, show)?;
    // What is copied on the node is not shown as what comes in.
    let fetch = Arc::new(Kept { file, bytes });
    fill(&Hosts { fetch, ..hosts.clone() }, into, &|_| {})
}

/// A file of this node, as a server has one.
struct Kept {
    file: File,
    bytes: u64,
}

impl Fetch for Kept {
    fn fetch(&self, source: &Source, from: u64) -> Result<Rest, FetchError> {
        let url = || source.url.clone();
        let broken = |error: std::io::Error| FetchError::Reach { url: url(), source: error.into() };
        let mut file = self.file.try_clone().map_err(broken)?;
        file.seek(SeekFrom::Start(from)).map_err(broken)?;
        Ok(Rest { from, total: Some(self.bytes), reader: Box::new(file) })
    }
}
