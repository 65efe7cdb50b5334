//! Carries out one action of the plan; takes no decisions.
//!
//! Blocks where LVM and images are concerned: those run off the agent's thread. Route in: an [`Action`], its volume.
//! Route out: logical volumes, the object's finalizer, or why it could not be done.

use super::api::Cluster;
use super::fill::credentials::{self, Credentials, CredentialsError};
use super::fill::registry::{self, fill_from};
use super::fill::{FillError, Order, fill};
use super::plan::Action;
use super::upload::receive::receive;
use super::{Hosts, INCOMPLETE, SNAPSHOT, TAG};
use crate::reconcile::blocking;
use anyhow::Context as _;
use sheaf_api::storage::LocalVolume;
use sheaf_api::storage::local_volume::{HttpSource, ImageSource, Progress, RegistrySource, VolumeReason};
use sheaf_host::disk::{Disk, RawDisk};
use sheaf_host::fetch::Source;
use sheaf_host::fetch::policy::Policy;
use sheaf_host::lvm::LvmError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an action needs besides itself.
pub struct ActionContext<C> {
    /// The machine.
    pub hosts: Hosts,
    /// The API server.
    pub cluster: Arc<C>,
    /// Group of the volume.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Its object, unless it has none.
    pub object: Option<Arc<LocalVolume>>,
    /// Which servers may be asked for its image.
    pub policy: Arc<Policy>,
    /// Ends its filling.
    pub stop: Arc<AtomicBool>,
    /// Where progress is told.
    pub show: Arc<dyn Fn(Progress) + Send + Sync>,
}

/// Why an action failed.
#[derive(Debug)]
pub struct Failed {
    /// The reason of the condition.
    pub reason: VolumeReason,
    /// The sentence.
    pub message: String,
    /// Another try can help.
    pub is_passing: bool,
    /// Not a failure of the image: it needs so many bytes beside its volume, which are to be booked first.
    pub scratch: Option<u64>,
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self {
            reason: VolumeReason::NodeFailed,
            message: format!("{error:#}"),
            is_passing: true,
            scratch: None,
        }
    }
}

impl From<FillError> for Failed {
    fn from(error: FillError) -> Self {
        let (reason, is_passing) = (error.reason(), error.is_passing());
        let scratch = match error {
            FillError::NeedsScratch { bytes } => Some(bytes),
            _ => None,
        };
        Self { reason, is_passing, message: format!("{:#}", anyhow::Error::from(error)), scratch }
    }
}

impl From<CredentialsError> for Failed {
    fn from(error: CredentialsError) -> Self {
        Self {
            reason: VolumeReason::CredentialsUnavailable,
            message: format!("{:#}", anyhow::Error::from(error)),
            // Whoever owns the Secret may correct it.
            is_passing: true,
            scratch: None,
        }
    }
}

impl From<LvmError> for Failed {
    fn from(error: LvmError) -> Self {
        anyhow::Error::from(error).into()
    }
}

/// Does `action`.
pub async fn apply<C: Cluster>(context: &ActionContext<C>, action: &Action) -> Result<(), Failed> {
    let object = || context.object.as_deref().context("its object is not listed any more");
    match action {
        Action::AddFinalizer => Ok(context.cluster.set_finalizer(object()?, true).await?),
        Action::RemoveFinalizer => Ok(context.cluster.set_finalizer(object()?, false).await?),
        _ => {
            let access = match action {
                Action::Fill { source, .. } => {
                    credentials::read(&*context.cluster, object()?.claim(), source).await?
                }
                _ => Credentials::default(),
            };
            let work = Work {
                hosts: context.hosts.clone(),
                group: context.group.clone(),
                name: context.name.clone(),
                bytes: context.object.as_ref().map_or(0, |object| object.spec.size_bytes),
                policy: context.policy.clone(),
                access,
                stop: context.stop.clone(),
                show: context.show.clone(),
            };
            let action = action.clone();
            // A panic in it is a failure of this volume alone.
            blocking(move || Ok(work.run(&action))).await?
        }
    }
}

/// One action for a thread that may block.
struct Work {
    hosts: Hosts,
    group: String,
    name: String,
    bytes: u64,
    policy: Arc<Policy>,
    access: Credentials,
    stop: Arc<AtomicBool>,
    show: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl Work {
    /// The order to fill the volume.
    fn order(&self, source: Source, checksum: Option<&String>, scratch: Option<u64>) -> Order {
        Order {
            group: self.group.clone(),
            name: self.name.clone(),
            bytes: self.bytes,
            source,
            checksum: checksum.cloned(),
            scratch,
            stop: self.stop.clone(),
        }
    }

    fn run(&self, action: &Action) -> Result<(), Failed> {
        let (lvm, group, name) = (&self.hosts.lvm, self.group.as_str(), self.name.as_str());
        match action {
            Action::Create { bytes, incomplete } => {
                let tags: &[&str] = if *incomplete { &[TAG, INCOMPLETE] } else { &[TAG] };
                lvm.create_volume(group, name, *bytes, tags)?;
            }
            Action::Copy { origin, writable } => {
                let tags: &[&str] = if *writable { &[TAG, INCOMPLETE] } else { &[TAG, INCOMPLETE, SNAPSHOT] };
                lvm.snapshot(group, origin, name, tags)?;
            }
            Action::Fill { source: ImageSource::Http(HttpSource { url, checksum, .. }), scratch } => {
                let (policy, access) = (self.policy.clone(), self.access.http.clone());
                let source = Source { url: url.clone(), policy, access };
                fill(&self.hosts, &self.order(source, Some(checksum), *scratch), &*self.show)?;
            }
            Action::Fill { source: ImageSource::Registry(RegistrySource { image, .. }), scratch } => {
                let from = registry::Order {
                    image: image.clone(),
                    volume: self.name.clone(),
                    access: self.access.registry.clone(),
                    policy: self.policy.clone(),
                    stop: self.stop.clone(),
                };
                let into = self.order(Source::trusted(image), None, *scratch);
                fill_from(&self.hosts, &from, &into, &*self.show)?;
            }
            Action::Receive { scratch } => {
                let sent = Source::trusted("the upload");
                receive(&self.hosts, self.order(sent, None, Some(*scratch)), &*self.show)?;
            }
            Action::Finish => {
                // What was copied or poured is on the disk before the volume counts as complete.
                // A device that is missing has flushed nothing: that is a failure, and it is tried again.
                let device = self.hosts.devices.join(group).join(name);
                let disk = RawDisk::open(&device).map_err(FillError::from)?;
                disk.sync().map_err(FillError::from)?;
                lvm.retag(group, name, &[], &[INCOMPLETE])?;
            }
            Action::Grow { bytes } => lvm.extend_volume(group, name, *bytes)?,
            Action::Remove => lvm.remove_volume(group, name)?,
            Action::StopFilling => self.stop.store(true, Ordering::Relaxed),
            Action::AddFinalizer | Action::RemoveFinalizer => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::tests::NoImages;
    use sheaf_host::fakes::{FakeFetch, FakeLvm, FakeRun, FakeTransientUnits};
    use sheaf_host::lvm::{Lvm as _, LvmReport as _, ThinSize};
    use std::path::Path;

    #[test]
    fn a_volume_whose_device_is_missing_is_not_marked_complete() {
        let root = std::env::temp_dir().join(format!("sheaf-finish-{}", std::process::id()));
        let lvm = FakeLvm::default().with_devices(&root);
        lvm.plug("/dev/sda", 1 << 30);
        lvm.create_group("sheaf-fast", Path::new("/dev/sda"), &[], &[]).unwrap();
        let size = ThinSize { data: 256 << 20, metadata: 4 << 20, chunk: 65536 };
        lvm.create_thin_pool("sheaf-fast", size).unwrap();
        lvm.create_volume("sheaf-fast", "pvc-1", 1 << 20, &[TAG, INCOMPLETE]).unwrap();
        std::fs::remove_file(root.join("sheaf-fast/pvc-1")).unwrap();
        let lvm = Arc::new(lvm);
        let work = Work {
            hosts: Hosts {
                lvm: lvm.clone(),
                fetch: Arc::new(FakeFetch::default()),
                images: Arc::new(NoImages),
                units: Arc::new(FakeTransientUnits::over(Arc::new(FakeRun::default()))),
                devices: root.clone(),
                uploads: Arc::default(),
            },
            group: "sheaf-fast".into(),
            name: "pvc-1".into(),
            bytes: 1 << 20,
            policy: Arc::new(Policy::trusted()),
            access: Credentials::default(),
            stop: Arc::default(),
            show: Arc::new(|_| {}),
        };
        let failed = work.run(&Action::Finish).unwrap_err();
        assert!(failed.message.contains("sheaf-fast/pvc-1") && failed.is_passing, "{failed:?}");
        let volumes = lvm.volumes("sheaf-fast").unwrap();
        assert!(volumes.iter().any(|volume| volume.name == "pvc-1" && volume.has_tag(INCOMPLETE)));
        std::fs::remove_dir_all(root).unwrap();
    }
}
