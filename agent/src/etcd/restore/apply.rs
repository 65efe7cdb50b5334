//! One arm per step; no decision is taken here.
//!
//! Route in: [`Step`]s. Route out: nothing, or why it failed. A restore that fails after the agent was stopped starts
//! it again: the control plane then runs with the data that is in place.

use super::pending::{self, Pending};
use super::plan::Step;
use crate::cluster::create::pki::Pki;
use crate::cluster::{Hosts, kubeconfig, release};
use crate::encryption::keys::Ring;
use crate::etcd::keys::Keys;
use crate::etcd::program;
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::{Context as _, anyhow};
use sheaf_host::file::sync_tree;
use sheaf_host::run::Run;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The unit that starts the control plane.
const AGENT: &str = "sheaf-agent.service";
/// How long the API server may take: the agent may wait for the time and make certificates first.
const READY_TIME: Duration = Duration::from_secs(420);
/// Between two questions whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(500);
/// Longest time for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Carries `steps` out.
pub async fn all(
    paths: &Arc<Paths>,
    hosts: &Hosts,
    keys: Option<&Keys>,
    pending: &Pending,
    steps: &[Step],
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    let mut is_stopped = false;
    for step in steps {
        say(&step.to_string());
        is_stopped |= matches!(step, Step::Stop(_));
        let done = apply(paths, hosts, keys, pending, step).await;
        let Err(error) = done.with_context(|| format!("cannot {step}")) else { continue };
        if !is_stopped || *step == Step::Start {
            return Err(error);
        }
        return match hosts.units.start(AGENT).await {
            Ok(()) => Err(error),
            Err(unit) => Err(error.context(format!("{unit}; start it: systemctl start {AGENT}"))),
        };
    }
    Ok(())
}

async fn apply(
    paths: &Arc<Paths>,
    hosts: &Hosts,
    keys: Option<&Keys>,
    pending: &Pending,
    step: &Step,
) -> anyhow::Result<()> {
    match step {
        Step::Prepare(data) => {
            let (run, paths, data) = (hosts.run.clone(), paths.clone(), data.clone());
            blocking(move || prepare(&*run, &paths, &data)).await
        }
        Step::PrepareKeys => {
            let into = Pending::keys(paths);
            remove(&into)?;
            keys.context("no keys were given")?.write(&into)
        }
        Step::AddKeys => {
            let given = keys.and_then(Keys::ring).context("no keys of Secrets were given")?;
            match Ring::load(paths)? {
                Some(own) => own.with(given).save(paths),
                None => given.save(paths),
            }
        }
        Step::Stop(unit) => Ok(hosts.units.stop(unit).await?),
        Step::Switch => {
            pending.begin(paths)?;
            pending::finish(paths).map(drop)
        }
        Step::Start => {
            hosts.units.start(AGENT).await?;
            ready(paths).await
        }
        Step::ReleaseName(name) => release::release(paths, name).await.map(drop),
    }
}

/// Makes the data folder, of etcd's user and on the disk.
fn prepare(run: &dyn Run, paths: &Paths, data: &Path) -> anyhow::Result<()> {
    let into = Pending::data(paths);
    fs::create_dir_all(&paths.etcd).with_context(|| format!("{}: cannot be made", paths.etcd.display()))?;
    remove(&into)?;
    run.run(&program::restore(data, &into))?;
    // Of the user that the folder is of: systemd gave it to etcd's when it started it first, and does so again
    // otherwise.
    let owner =
        fs::metadata(&paths.etcd).with_context(|| format!("{}: cannot be read", paths.etcd.display()))?;
    give(&into, owner.uid(), owner.gid())
        .with_context(|| format!("{}: owner cannot be set", into.display()))?;
    Ok(sync_tree(&into)?)
}

fn give(path: &Path, user: u32, group: u32) -> std::io::Result<()> {
    chown(path, Some(user), Some(group))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}

/// Removes what a restore that was interrupted left.
fn remove(folder: &Path) -> anyhow::Result<()> {
    match folder.exists() {
        true => {
            fs::remove_dir_all(folder).with_context(|| format!("{}: cannot be removed", folder.display()))
        }
        false => Ok(()),
    }
}

/// Waits until the API server says ok. The kubeconfig is read again each time: the agent may make another.
async fn ready(paths: &Paths) -> anyhow::Result<()> {
    let path = Pki { dir: paths.kubernetes.clone() }.kubeconfig("super-admin");
    let mut last = anyhow!("no answer yet");
    let asked = async {
        loop {
            match tokio::time::timeout(ANSWER_TIME, ask(&path)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => last = error,
                Err(_) => last = anyhow!("no answer within {} s", ANSWER_TIME.as_secs()),
            }
            tokio::time::sleep(READY_INTERVAL).await; // until the next question
        }
    };
    match tokio::time::timeout(READY_TIME, asked).await {
        Ok(()) => Ok(()),
        Err(_) => Err(last.context(format!(
            "the API server did not answer within {} s; read `journalctl -u sheaf-agent -u etcd -u kube-apiserver`",
            READY_TIME.as_secs()
        ))),
    }
}

async fn ask(kubeconfig: &Path) -> anyhow::Result<()> {
    let client = kubeconfig::client_from_file(kubeconfig).await?;
    client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
    Ok(())
}
