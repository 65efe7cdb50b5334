//! One arm per step; no decision is taken here.
//!
//! Why the partition is mounted step by step: a FAT that is not mounted cannot be damaged by a power cut. Route in: a
//! [`Step`], the machine. Route out: nothing, or why it failed; each step may be done again.

use super::observe::Machine;
use super::observed::Observed;
use super::plan::{Step, environment_text};
use super::records::{Fetched, Place, Records, Saved};
use super::{Hosts, artifact, bundle, drive, gate, loaders, remedy};
use crate::channels::Context as Channels;
use crate::etcd::store::Reason;
use crate::etcd::take::take;
use crate::human::binary;
use crate::power::stop;
use anyhow::{Context as _, anyhow, bail, ensure};
use sheaf_config::manifest::Manifest;
use sheaf_host::background;
use sheaf_host::disk::{Disk, Hold};
use sheaf_host::esp::BootFiles;
use sheaf_host::libvirt::VmHost;
use sheaf_release::boot::{self, ENVIRONMENT, Slot, TRIES, UKIS};
use sheaf_release::image;
use sheaf_release::origin::Origin;
use sheaf_release::remote::Remote;
use sheaf_release::slot::{Donor, fill};
use sheaf_release::verity::{self, Tree};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// Mounts the EFI system partition while it is active.
const ESP_UNIT: &str = "sheaf-esp.service";
/// GRUB's variables lie in the first sector of its file.
const SECTOR: usize = 512;

/// What steps are applied with.
pub struct Env<V> {
    /// The machine.
    pub hosts: Hosts<V>,
    /// The agent's channels.
    pub ctx: Channels,
    /// Becomes true when the node's VMs are stopped for a restart.
    pub leaving: Arc<watch::Sender<bool>>,
    /// Files of the updater.
    pub records: Records,
    /// What this boot is.
    pub machine: Machine,
    /// What the plan was made from.
    pub observed: Observed,
    /// Says how far a step is.
    pub progress: Arc<watch::Sender<String>>,
}

impl<V> Clone for Env<V> {
    fn clone(&self) -> Self {
        Self {
            hosts: self.hosts.clone(),
            ctx: self.ctx.clone(),
            leaving: self.leaving.clone(),
            records: self.records.clone(),
            machine: self.machine.clone(),
            observed: self.observed.clone(),
            progress: self.progress.clone(),
        }
    }
}

/// Runs `work` at the lowest priority.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = background::spawn("update", work).context("no thread for the update")?;
    done.await.map_err(|_| anyhow!("bug in sheaf-agent: the update panicked; see its journal"))?
}

/// Runs `work` on the files of the EFI system partition while that is mounted.
pub async fn on_esp<V, T: Send + 'static>(
    hosts: &Hosts<V>,
    work: impl FnOnce(&dyn BootFiles) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    hosts.units.start(ESP_UNIT).await?;
    let files = hosts.esp.clone();
    let done = apart(move || work(&*files)).await;
    // What was written is on the disk already.
    let unmounted = hosts.units.stop(ESP_UNIT).await;
    let value = done?;
    unmounted?;
    Ok(value)
}

/// Runs `work` on the release of `version` at `from`. A drive is mounted meanwhile.
async fn at_source<V, T: Send + 'static>(
    env: &Env<V>,
    from: Place,
    version: &str,
    work: impl FnOnce(&Origin<'_>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let fetch = env.hosts.fetch.clone();
    let base = from.to_string();
    match from {
        Place::Url(url) => apart(move || work(&Origin::Server(&Remote::new(&url, &*fetch)))).await,
        Place::Oci(reference) => {
            let registries = env.ctx.config.borrow().registries.clone();
            apart(move || {
                let done = artifact::with(&*fetch, &reference, &registries, |files| {
                    work(&Origin::Server(&Remote::new(&base, files)))
                });
                done.map_err(bundle::BundleError::from)?
            })
            .await
        }
        Place::Drive(label) => {
            let title = format!("{}-{version}", env.observed.running.name);
            let mounted = drive::mount(&env.hosts, &label).await.map_err(bundle::BundleError::from)?;
            let name = label.clone();
            let done = apart(move || {
                let folder = drive::folder(&mounted, &name, &title).map_err(bundle::BundleError::from)?;
                work(&Origin::Folder(&folder))
            })
            .await;
            let released = drive::release(&env.hosts, &label).await;
            let value = done?;
            released?;
            Ok(value)
        }
    }
}

/// Carries `step` out.
pub async fn apply<V: VmHost>(env: &Env<V>, step: Step) -> anyhow::Result<()> {
    let manifest = env.observed.kept.as_ref().map(|kept| kept.manifest.clone());
    let staged = || manifest.clone().context("no release is kept; it is fetched again");
    match step {
        Step::Fetch { wanted, from } => {
            let (key, named, version) = (env.hosts.key.clone(), from.clone(), wanted.version.clone());
            let (observed, records) = (env.observed.clone(), env.records.clone());
            at_source(env, from, &version, move |origin| {
                bundle::fetch((origin, &named), &key, &wanted, &observed, &records).map(drop)
            })
            .await
        }
        Step::Disarm { environment, remove } => {
            on_esp(&env.hosts, move |files| {
                set_environment(files, &environment)?;
                for name in remove {
                    files.remove(&format!("{UKIS}/{name}"))?;
                }
                Ok(())
            })
            .await
        }
        Step::WriteTree { slot, from } => {
            let (disks, manifest) = (Disks::of(env, slot), staged()?);
            let progress = Progress::new(env, "hash tree", manifest.verity.raw_size);
            let version = manifest.version.clone();
            at_source(env, from, &version, move |origin| write_tree(&disks, origin, &manifest, &progress))
                .await
        }
        Step::WriteRoot { slot, from } => {
            let (disks, manifest) = (Disks::of(env, slot), staged()?);
            let progress = Progress::new(env, "root", manifest.root.raw_size);
            let version = manifest.version.clone();
            at_source(env, from, &version, move |origin| write_root(&disks, origin, &manifest, &progress))
                .await
        }
        Step::Verify { slot } => {
            let (disks, manifest) = (Disks::of(env, slot), staged()?);
            let progress = Progress::new(env, "verification", manifest.root.raw_size);
            apart(move || {
                let (root, verity) = disks.open()?;
                let tree = Tree::read(&*verity, &manifest.root_hash)?;
                Ok(tree.verify(&*root, &|bytes| progress.advance(bytes))?)
            })
            .await
        }
        Step::MarkStaged => {
            let kept = env.observed.kept.as_ref().context("no release is kept")?;
            env.records.set_fetched(&Fetched { staged: true, ..kept.fetched.clone() })
        }
        Step::SaveEtcd { request, version } => {
            let (run, paths, records) = (env.hosts.run.clone(), env.ctx.paths.clone(), env.records.clone());
            let node = env.ctx.config.borrow().system.hostname.clone();
            let remedy = "it must succeed before this node restarts; see `sheaf-agent etcd`, and for a control plane that does not \
                          work: sheaf-agent update apply --without-snapshot";
            apart(move || {
                let taken = take(&paths, &*run, &node, Reason::Update, SystemTime::now()).context(remedy)?;
                records.set_snapshot(&Saved { request, version, name: taken.name })
            })
            .await
        }
        Step::WriteEntry { slot } => {
            let (manifest, arguments) = (staged()?, env.observed.arguments.clone());
            on_esp(&env.hosts, move |files| {
                let text = boot::entry(&manifest.node_uki, &manifest.version, &arguments);
                files.replace(&slot.entry(), &mut text.as_bytes())?;
                ensure!(
                    files.read(&slot.entry())?.as_deref() == Some(text.as_bytes()),
                    "{} differs from what was written when it is read back",
                    slot.entry()
                );
                Ok(())
            })
            .await
        }
        Step::BeginTrial(mut trial) => {
            let before = trial.before.take().unwrap_or_else(|| gate::parts(&env.ctx).before());
            trial.before = Some(before);
            env.records.set_trial(&trial)
        }
        Step::StopVms => stop_vms(&*env.hosts.vms, &env.leaving, &env.progress).await,
        Step::WriteUki { version } => {
            let (manifest, records) = (staged()?, env.records.clone());
            on_esp(&env.hosts, move |files| write_uki(files, &records, &manifest, &version)).await
        }
        Step::WriteEnvironment(environment) => {
            on_esp(&env.hosts, move |files| set_environment(files, &environment)).await
        }
        Step::RenameUki { from, to } => {
            on_esp(&env.hosts, move |files| {
                Ok(files.rename(&format!("{UKIS}/{from}"), &format!("{UKIS}/{to}"))?)
            })
            .await
        }
        Step::Refresh(file) => {
            let (manifest, records, esp) = (staged()?, env.records.clone(), env.machine.esp());
            on_esp(&env.hosts, move |files| loaders::apply(files, &records, &manifest, file, &esp)).await
        }
        Step::Restart => Ok(env.hosts.units.reboot().await?),
        Step::RaiseFloor(version) => env.records.set_floor(&version),
        Step::Forbid(version) => env.records.set_oldest(&version),
        Step::Remember(outcome) => env.records.set_outcome(&outcome),
        Step::EndTrial(outcome) => {
            env.records.set_outcome(&outcome)?;
            env.records.forget_release()?;
            env.records.end_trial()
        }
    }
}

/// Partitions of the slot that is written, and of the one that runs.
struct Disks {
    open: super::OpenDisk,
    target: (PathBuf, PathBuf),
    running: (PathBuf, PathBuf),
}

type Pair = (Box<dyn Disk + Send>, Box<dyn Disk + Send>);

impl Disks {
    fn of<V>(env: &Env<V>, slot: Slot) -> Self {
        let of = |slot| env.machine.partitions(&env.hosts.devices, slot);
        Self { open: env.hosts.open.clone(), target: of(slot), running: of(slot.other()) }
    }

    /// Root and tree of the slot that is written: nobody else has them open.
    fn open(&self) -> anyhow::Result<Pair> {
        let open = |path: &Path| {
            let disk = (self.open)(path)?;
            disk.hold(Hold::Alone)?;
            anyhow::Ok(disk)
        };
        Ok((open(&self.target.0)?, open(&self.target.1)?))
    }
}

/// Says how far a step is, in steps of a tenth.
struct Progress {
    to: Arc<watch::Sender<String>>,
    what: &'static str,
    total: u64,
    done: std::sync::atomic::AtomicU64,
}

impl Progress {
    fn new<V>(env: &Env<V>, what: &'static str, total: u64) -> Self {
        Self { to: env.progress.clone(), what, total: total.max(1), done: Default::default() }
    }

    fn advance(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        let tenth = |done: u64| done.saturating_mul(10) / self.total;
        if tenth(before) != tenth(before + bytes) {
            let percent = tenth(before + bytes).min(10) * 10;
            self.to.send_replace(format!("{}: {percent} % of {}", self.what, binary(self.total)));
        }
    }
}

fn write_tree(
    disks: &Disks,
    origin: &Origin<'_>,
    manifest: &Manifest,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (_, disk) = disks.open()?;
    let image = (&manifest.verity).into();
    image::write(origin, &image, &*disk, 0, &|bytes| progress.advance(bytes))?;
    Tree::read(&*disk, &manifest.root_hash)?;
    Ok(())
}

fn write_root(
    disks: &Disks,
    origin: &Origin<'_>,
    manifest: &Manifest,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (root, verity) = disks.open()?;
    let tree = Tree::read(&*verity, &manifest.root_hash)?;
    let (donor, donor_tree) = ((disks.open)(&disks.running.0)?, (disks.open)(&disks.running.1)?);
    let donor = Donor { blocks: verity::blocks(&*donor_tree)?, disk: &*donor };
    let image = (&manifest.root).into();
    let filled = fill(origin, &image, &tree, &*root, Some(&donor), &|bytes| progress.advance(bytes))?;
    tracing::info!(
        kept = filled.kept,
        copied = filled.copied,
        fetched = filled.fetched,
        "bytes of the new root: in place, copied from the running one, fetched"
    );
    Ok(())
}

fn write_uki(
    files: &dyn BootFiles,
    records: &Records,
    manifest: &Manifest,
    version: &str,
) -> anyhow::Result<()> {
    let name = format!("{UKIS}/{}", boot::counted(version, TRIES));
    let mut uki = bundle::uki(records).context("the UKI that was fetched")?;
    files.replace(&name, &mut uki)?;
    let mut written = files.open(&name)?.with_context(|| format!("{name} is gone"))?;
    if bundle::hash(&mut written)? != manifest.node_uki.sha256.to_lowercase() {
        // It must not be started.
        files.remove(&name)?;
        bail!("{name} differs from what was written when it is read back; the boot disk may be failing");
    }
    Ok(())
}

/// Sets GRUB's variables, in place: its file may not move.
fn set_environment(files: &dyn BootFiles, variables: &[(String, String)]) -> anyhow::Result<()> {
    let text = environment_text(variables).into_bytes();
    let is_whole = files.read(ENVIRONMENT)?.is_some_and(|now| now.len() == text.len());
    match is_whole {
        true => files.overwrite(ENVIRONMENT, &text[..SECTOR])?,
        // It was lost: GRUB then takes slot a, until this.
        false => files.replace(ENVIRONMENT, &mut &text[..])?,
    }
    ensure!(
        files.read(ENVIRONMENT)?.as_deref() == Some(&text[..]),
        "{ENVIRONMENT} differs from what was written when it is read back"
    );
    Ok(())
}

/// Stops the VMs of the node. Their Pods stay as they are: after the restart they are reported as ended by it, and those
/// that shall run are started again.
async fn stop_vms<V: VmHost>(
    vms: &V,
    leaving: &watch::Sender<bool>,
    progress: &watch::Sender<String>,
) -> anyhow::Result<()> {
    leaving.send_replace(true);
    stop::all(vms, stop::LIMIT, &|line| drop(progress.send_replace(line))).await
}

/// Carries `steps` out, one after the other, until one fails.
pub async fn all<V: VmHost>(env: Env<V>, steps: Vec<Step>) -> anyhow::Result<()> {
    // What is remembered of the slots is no longer true from now on.
    env.records.forget_slots().map_err(|error| explained(error, "forget how the slots were"))?;
    for step in steps {
        let what = step.to_string();
        tracing::info!("update: {what}");
        env.progress.send_replace(what.clone());
        apply(&env, step).await.map_err(|error| explained(error, &what))?;
    }
    Ok(())
}

/// `error`, after what was to be done, and what a person does about it.
fn explained(error: anyhow::Error, what: &str) -> anyhow::Error {
    let remedy = remedy::of(&error).map_or(String::new(), |remedy| format!("; {remedy}"));
    error.context(format!("cannot {what}{remedy}"))
}
