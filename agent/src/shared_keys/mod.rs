//! Keys that change while the cluster runs, the same on every control-plane node: those of Secrets, of service accounts, of CAs.
//!
//! Reads: the files of keys of the three rooms, members of etcd. Owns: the ConfigMap `kube-system/sheaf-shared-keys`, the lock of
//! keys. Never touches: what a key is; that is in the rooms `encryption`, `service_accounts` and `authorities`.
//!
//! A change is a document with a number (generation). It is written to the cluster first, over the state it was planned on, and
//! then to the disk of each node, which restarts what uses it in its turn and reports. The next change is written only when every
//! control-plane node has reported. So after a kill or a power cut at any point each node has the document of before or of now,
//! and these two can always be mixed. A cluster with one control-plane node needs none of this: its disk is the document.
//! [`board`] carries, [`seal`] encrypts, [`peers`] and [`follow()`] judge, [`controller`] makes the rounds. docs/decisions/0051.

pub mod board;
mod controller;
mod follow;
pub mod peers;
pub mod seal;

pub use controller::{Kind, run};
pub use follow::{Follow, follow};

use crate::cluster::create::pki::Pki;
use crate::cluster::{Hosts, servers, token};
use crate::etcd::program::{self, Etcd};
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::{Context as _, bail, ensure};
use board::Board;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use peers::Peers;
use seal::SealKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, TryLockError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Steps in a row after which a change that is not complete has an error of its own: the longest takes nine.
const MOST_STEPS: usize = 24;
/// What the names of Secrets begin with by which the keys of the cluster get to one more control-plane node.
const PARCEL: &str = "sheaf-control-plane-";
/// Between two looks of a command that waits for other nodes.
const POLL: Duration = Duration::from_secs(2);
/// Longest wait of a command for other nodes in one step: a restart of etcd and of the API server on a slow machine, and the
/// interval of their agents.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A document that control-plane nodes share.
pub trait Document: Serialize + DeserializeOwned {
    /// Its name in the ConfigMap.
    const NAME: &'static str;

    /// One more with every change.
    fn generation(&self) -> u64;

    /// What a node reports when it runs with it.
    fn mark(&self) -> String {
        self.generation().to_string()
    }
}

/// What this node knows of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared<T> {
    /// The document as it was shared last, if it was.
    pub document: Option<T>,
    /// Who has it.
    pub peers: Peers,
}

/// Where a step is done, and for whom.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Files of this node.
    pub paths: &'a Paths,
    /// What runs etcd's programs and restarts units.
    pub hosts: &'a Hosts,
    /// The time.
    pub now: SystemTime,
    /// An administrator asked for the change here: this node leads it.
    pub by_hand: bool,
}

/// How far a change is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do now.
    Done,
    /// Other nodes come first: their names, or what else is waited for.
    Waiting(Vec<String>),
}

/// Held by the one process of this node that changes keys; none while another does.
pub fn lock(paths: &Paths) -> anyhow::Result<Option<File>> {
    let path = paths.kubernetes.join("encryption.lock");
    let shown = path.display();
    let file = File::create(&path).with_context(|| format!("{shown}: cannot be opened; run this as root"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{shown}: cannot be locked")),
    }
}

/// Name of this node.
pub fn node(paths: &Paths) -> anyhow::Result<String> {
    let env = paths.run.join("control-plane.env");
    let text = fs::read_to_string(&env).with_context(|| format!("{}: cannot be read", env.display()))?;
    let name = text.lines().find_map(|line| line.strip_prefix("SHEAF_NODE="));
    name.map(str::to_owned)
        .with_context(|| format!("{}: SHEAF_NODE is missing; restart the agent", env.display()))
}

/// Names of etcd's members, in order; a control-plane node is one from the moment it joins.
pub async fn members(place: &Place<'_>) -> anyhow::Result<Vec<String>> {
    let (run, paths) = (place.hosts.run.clone(), place.paths.clone());
    let asked = blocking(move || Ok(program::members(&run.run(&Etcd::of(&paths).members())?.text())?)).await;
    let asked = asked.context("etcd cannot be asked for its members; read `journalctl -u etcd`")?;
    let name = |name: String| if name.is_empty() { "(a node that joins)".to_owned() } else { name };
    let mut names: Vec<String> = asked.into_iter().map(|member| name(member.name)).collect();
    names.sort();
    Ok(names)
}

/// What the others have; none if this is the only control-plane node. `underway`: a change is not complete. While all is quiet
/// etcd is not asked, and no member is listed.
pub async fn observe<T: Document>(
    place: &Place<'_>,
    generation: u64,
    underway: bool,
) -> anyhow::Result<Option<Shared<T>>> {
    let paths = place.paths;
    let has_others = servers::kept(&servers::file(paths)).len() > 1;
    if !has_others && !underway {
        return Ok(None);
    }
    let mut known = None;
    if !has_others {
        let asked = members(place).await?;
        if asked.len() < 2 {
            return Ok(None);
        }
        known = Some(asked);
    }
    let board = Board::read(&token::administrator(paths).await?).await?;
    let document = board.document(T::NAME, &seal_keys(paths)?)?;
    let document: Option<T> = document
        .map(|plain| serde_json::from_slice(&plain))
        .transpose()
        .with_context(|| format!("{}: what the control-plane nodes share is damaged", T::NAME))?;
    let mut peers = Peers {
        node: node(paths)?,
        members: Vec::new(),
        applied: board.applied(T::NAME),
        leads: place.by_hand,
    };
    let is_quiet = !underway
        && document.as_ref().is_none_or(|shared| {
            shared.generation() < generation
                || shared.generation() == generation && peers.has_reported(&shared.mark())
        });
    if !is_quiet {
        peers.members = match known {
            Some(known) => known,
            None => members(place).await?,
        };
        peers.leads |= peers.members.first() == Some(&peers.node);
    }
    Ok(Some(Shared { document, peers }))
}

/// Shares `document`; false if the nodes share that or a later one already, or another node wrote meanwhile.
pub async fn publish<T: Document>(paths: &Paths, document: &T) -> anyhow::Result<bool> {
    let client = token::administrator(paths).await?;
    let keys = seal_keys(paths)?;
    let first = keys.first().context("this node has no key of the cluster's CA")?;
    let mut board = Board::read(&client).await?;
    if let Some(plain) = board.document(T::NAME, &keys)? {
        let shared: T = serde_json::from_slice(&plain)
            .with_context(|| format!("{}: what the control-plane nodes share is damaged", T::NAME))?;
        if shared.generation() >= document.generation() {
            return Ok(false);
        }
    }
    // Documents that were sealed before the CA was renewed are sealed again while their key is here.
    for kind in Kind::ALL.into_iter().filter(|kind| kind.document() != T::NAME) {
        if let Ok(Some(plain)) = board.document(kind.document(), &keys) {
            board.put(kind.document(), first, &plain)?;
        }
    }
    board.put(T::NAME, first, &serde_json::to_vec(document)?)?;
    board.write(&client).await
}

/// Says that this node runs with `document`.
pub async fn report<T: Document>(paths: &Paths, document: &T) -> anyhow::Result<()> {
    Board::report(&token::administrator(paths).await?, T::NAME, &node(paths)?, &document.mark()).await
}

/// Refuses while the keys of now are on their way to one more control-plane node, which would not have the new ones.
async fn refuse_while_a_node_joins(paths: &Paths) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(token::administrator(paths).await?, "kube-system");
    let listed =
        secrets.list_metadata(&ListParams::default()).await.context("listing Secrets of kube-system")?;
    let parcel = listed.iter().map(|secret| secret.name_any()).find(|name| name.starts_with(PARCEL));
    ensure!(
        parcel.is_none(),
        "Secret kube-system/{} holds the keys of the cluster for a control-plane node that is to join: wait until it has joined, or \
         delete the Secret",
        parcel.unwrap_or_default()
    );
    Ok(())
}

/// Keys that documents may be sealed with, the one to seal with first.
fn seal_keys(paths: &Paths) -> anyhow::Result<Vec<SealKey>> {
    let path = Pki { dir: paths.kubernetes.clone() }.file("ca.key");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: cannot be read; run this as root", path.display()))?;
    Ok(vec![SealKey::of(&text)?])
}

/// Does steps until nothing is left, or until one `waits` for other nodes, whose names it returns. `what` is for people.
pub async fn settle<S, F: Future<Output = anyhow::Result<Option<S>>>>(
    what: &str,
    mut step: impl FnMut() -> F,
    waits: impl Fn(&S) -> Option<Vec<String>>,
) -> anyhow::Result<Progress> {
    for _ in 0..MOST_STEPS {
        let Some(done) = step().await? else { return Ok(Progress::Done) };
        if let Some(names) = waits(&done) {
            return Ok(Progress::Waiting(names));
        }
    }
    bail!(
        "{what} is not complete after {MOST_STEPS} steps; it is tried again: read `journalctl -u sheaf-agent`"
    )
}

/// What a command that asks for a change finds.
pub enum Turn {
    /// None is under way: another may begin.
    Begin {
        /// The highest generation that there was: above what was shared before this was, for a time, the only control-plane node.
        generation: u64,
        /// Other nodes follow.
        is_shared: bool,
    },
    /// One was interrupted, here or on another node.
    UnderWay,
}

/// Whether another change of `document` may begin; `is_settled` says that this node has none under way.
pub async fn turn<T: Document>(place: &Place<'_>, document: &T, is_settled: bool) -> anyhow::Result<Turn> {
    let own = document.generation();
    let is_one_of_several = members(place).await?.len() > 1;
    let shared = observe::<T>(place, own, is_one_of_several).await?;
    let newer = shared.as_ref().and_then(|shared| shared.document.as_ref()).map(T::generation);
    if !is_settled || newer.is_some_and(|newer| newer > own) {
        return Ok(Turn::UnderWay);
    }
    refuse_while_a_node_joins(place.paths).await?;
    Ok(Turn::Begin { generation: own.max(newer.unwrap_or_default()), is_shared: shared.is_some() })
}

/// For a command: `settle` until it is done, waiting for other nodes; each wait is told to `say` once.
pub async fn complete(
    say: &(dyn Fn(&str) + Sync),
    mut settle: impl AsyncFnMut() -> anyhow::Result<Progress>,
) -> anyhow::Result<()> {
    let mut before = Vec::new();
    let mut deadline = Instant::now() + TIMEOUT;
    loop {
        match settle().await? {
            Progress::Done => return Ok(()),
            Progress::Waiting(names) => {
                let shown = names.join(", ");
                if names != before {
                    say(&format!("waiting for {shown}"));
                    (before, deadline) = (names, Instant::now() + TIMEOUT);
                }
                if Instant::now() > deadline {
                    bail!(
                        "waited {} min for {shown}; the agents complete the change when they are back. Start the nodes, or take \
                         one that is lost out of the cluster: `sheaf-agent etcd remove NAME`, and a NodeRemoval",
                        TIMEOUT.as_secs() / 60
                    );
                }
                tokio::time::sleep(POLL).await; // until the next look; the deadline is above
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_command_that_waits_names_the_nodes_once_and_gives_up_in_time() {
        let said = std::sync::Mutex::new(Vec::new());
        let say = |line: &str| said.lock().unwrap().push(line.to_owned());
        let settle = async || Ok(Progress::Waiting(vec!["b".into(), "c".into()]));
        let error = complete(&say, settle).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "waited 15 min for b, c; the agents complete the change when they are back. Start the nodes, or take one that is lost \
             out of the cluster: `sheaf-agent etcd remove NAME`, and a NodeRemoval"
        );
        assert_eq!(*said.lock().unwrap(), ["waiting for b, c"]);
    }
}
