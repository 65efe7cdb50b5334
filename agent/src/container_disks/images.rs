//! The container disks of this node, for everyone who needs one: VMs by the controller, and volumes that are filled from one.
//!
//! Why here: both pull into one folder, whose index has one owner. Route in: what `volumes` asks for. Route out: the store;
//! a disk as an open file, which stays readable when its name is removed.

use super::pull::{Env, Failure, Order, pull};
use super::store::{RESERVE, Store};
use crate::registry::client::PullError;
use crate::registry::credentials::Logins;
use crate::volumes::fill::FillError;
use crate::volumes::fill::registry::{self, PullFailed, Pulled};
use sheaf_api::storage::local_volume::{Progress, VolumeReason};
use sheaf_config::node::NodeConfig;
use sheaf_host::fetch::{Fetch, FetchError};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The folder and the registries from which it is filled.
pub struct Images {
    folder: PathBuf,
    reserve: u64,
    /// The network.
    pub fetch: Arc<dyn Fetch>,
    config: watch::Receiver<Arc<NodeConfig>>,
    store: Mutex<Option<Arc<Store>>>,
}

impl Images {
    /// Those in `folder`, which is opened when it is needed first.
    pub fn new(folder: PathBuf, fetch: Arc<dyn Fetch>, config: watch::Receiver<Arc<NodeConfig>>) -> Self {
        Self { folder, reserve: RESERVE, fetch, config, store: Mutex::default() }
    }

    /// Pulls leave `percent` of the file system free. For tests, whose file system is that of the machine.
    #[must_use]
    pub fn leaving(self, percent: u64) -> Self {
        Self { reserve: percent, ..self }
    }

    /// The folder, open. Blocks.
    pub fn store(&self) -> io::Result<Arc<Store>> {
        let mut open = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*open {
            return Ok(store.clone());
        }
        let store = Arc::new(Store::open(self.folder.clone(), self.reserve)?);
        *open = Some(store.clone());
        Ok(store)
    }
}

impl registry::Images for Images {
    fn pull(&self, wanted: &registry::Order, show: &(dyn Fn(Progress) + Sync)) -> Result<Pulled, FillError> {
        let mut logins = Logins::default();
        if let Some(login) = &wanted.access.login {
            // The Secret is for the registry that the image names, whichever that is.
            let reference = crate::registry::Reference::parse(&wanted.image);
            let reference = reference.map_err(|error| failed(PullError::from(error).into()))?;
            logins.add_login(&reference.registry, &login.user, &login.password);
        }
        let store = self.store().map_err(|error| failed(error.into()))?;
        let stop = wanted.stop.clone();
        let env = Env {
            store: store.clone(),
            fetch: self.fetch.clone(),
            registries: self.config.borrow().registries.clone(),
            policy: wanted.policy.clone(),
            logins,
            authorities: wanted.access.authorities.clone(),
            stop: Box::new(move || stop.load(Ordering::Relaxed)),
            now: super::controller::now(),
        };
        let told = |bytes, total| show(Progress::of(bytes, Some(total)));
        // No namespace has a dot in its name.
        let order = Order {
            image: wanted.image.clone(),
            path: None,
            is_boot_file: false,
            by: format!("volume.{}", wanted.volume),
        };
        let kept = pull(&env, &order, &told).map_err(failed)?;
        let file = File::open(store.path(&kept)).map_err(|error| failed(error.into()))?;
        Ok(Pulled { file, bytes: kept.length })
    }
}

/// What a volume says of it.
fn failed(failure: Failure) -> FillError {
    let (reason, is_passing) = match &failure {
        Failure::Pull(PullError::Stopped) => return FillError::Stopped,
        Failure::Pull(PullError::Servers { tried, .. }) => (refused(tried), true),
        Failure::Pull(PullError::Reference(_) | PullError::Manifest { .. }) => {
            (VolumeReason::BadImage, false)
        }
        Failure::Layer { .. } | Failure::Disk { .. } => (VolumeReason::BadImage, false),
        Failure::NoRoom { .. } => (VolumeReason::OutOfSpace, true),
        Failure::Pull(PullError::Disk { .. }) | Failure::Store(_) => (VolumeReason::NodeFailed, true),
        Failure::Pull(_) => (VolumeReason::SourceUnreachable, true),
    };
    FillError::Pull(PullFailed { reason, is_passing, source: Box::new(failure) })
}

/// The registry itself is asked last; its mirrors are no news to a tenant.
fn refused(tried: &[FetchError]) -> VolumeReason {
    match tried.last() {
        Some(FetchError::Refused { .. } | FetchError::Unauthorized { .. }) => VolumeReason::SourceRefused,
        Some(FetchError::Forbidden { .. } | FetchError::BadUrl { .. }) => VolumeReason::SourceForbidden,
        _ => VolumeReason::SourceUnreachable,
    }
}
