//! One change of the links: tried, then kept or taken back.
//!
//! Why here: both the policies' controller and the operator's hand come this way. What is on trial lies in a file with
//! the steps that lead back, and a timer of systemd's carries them out ([`Trials::take_back`]) unless it is called off:
//! no life of ours is needed for it. /run is gone with a reboot, which then renders what was confirmed before. Whoever
//! keeps, or takes back, holds a lock: the two never meet. Route in: layers as they were and as they shall be. Route
//! out: [`Ended`]; `/run/sheaf/network/trial.json` while it lasts, `last.json` after.

use super::change::{self, Machine, Step};
use super::layers::Layers;
use super::merge::{Merged, Refusal, merge, merge_what_fits};
use super::probes::{self, Answer, ApiServer, Questions};
use super::verify;
use crate::paths::Paths;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sheaf_api::node_network::enactment::Probe;
use sheaf_config::node::Network;
use sheaf_host::alarm::Alarm;
use sheaf_host::call::Call;
use sheaf_host::links::{Link, Links};
use sheaf_host::networkd::Networkd;
use sheaf_host::nic::Nic as Card;
use sheaf_host::reach::Reach;
use sheaf_host::run::{Command, Run};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest run of `ip`: a driver that resets its card takes seconds.
const IP: Duration = Duration::from_secs(10);
/// A trial this much older than its alarm had none: it was killed before it could be armed.
const OVERDUE: f64 = 15.0;
/// Longest wait until networkd has heard of what was done to links, and the time between two looks.
const HEARD: Duration = Duration::from_secs(8);
const HEARD_LOOK: Duration = Duration::from_millis(50);
/// The program that takes back.
const REVERTER: &str = "/usr/bin/sheaf-agent";

/// What a change does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// The kernel's links.
    pub links: Arc<dyn Links>,
    /// Makes and configures them.
    pub networkd: Arc<dyn Networkd>,
    /// Takes back.
    pub alarm: Arc<dyn Alarm>,
    /// Runs `ip`.
    pub run: Arc<dyn Run>,
    /// Gateways, name servers.
    pub reach: Arc<dyn Reach>,
    /// The API server.
    pub call: Arc<dyn Call>,
}

/// How long things may take. All of it, with what networkd needs, stays below a minute.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the change until everything answers.
    pub attempt: Duration,
    /// Between two rounds of questions.
    pub between: Duration,
    /// Until the change is taken back by systemd, whatever happened to us.
    pub alarm: Duration,
    /// From taking back until everything answers again.
    pub restore: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { attempt: seconds(25), between: seconds(2), alarm: seconds(40), restore: seconds(20) }
    }
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub struct Change {
    /// As people call it: `policy storage, generation 3`.
    pub title: String,
    /// Links of node.toml.
    pub node: Network,
    /// What is laid over them now.
    pub before: Layers,
    /// What shall be.
    pub after: Layers,
    /// An operator asks, and not the cluster.
    pub by_hand: bool,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It is kept. With what does not work, though nobody is cut off.
    Kept(Vec<Probe>, Option<String>),
    /// All answers, and it waits for a hand to confirm it.
    Waits(Vec<Probe>),
    /// It was taken back: the probe, why, all probes.
    TakenBack(String, String, Vec<Probe>),
}

/// Why a change was not even tried; nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum NotTried {
    /// It can not be, whenever.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It can be later.
    #[error("{0}")]
    Later(String),
    /// The machine refused.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// `trial.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its own, new for each.
    pub id: String,
    /// As people call it.
    pub title: String,
    /// An operator tried it.
    pub by_hand: bool,
    /// Seconds since boot when it began.
    pub began: f64,
    /// Seconds until it is taken back.
    pub lasts: f64,
    /// What is confirmed with it.
    pub after: Layers,
    /// What leads back.
    pub undo: Vec<Step>,
}

impl Trial {
    /// Seconds until it is taken back.
    pub fn left(&self) -> f64 {
        self.began + self.lasts - uptime()
    }
}

/// `last.json`: the last trial that ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Of the trial.
    pub id: String,
    /// As people call it.
    pub title: String,
    /// It was kept.
    pub kept: bool,
    /// Why it was not.
    pub why: String,
}

/// Links to be looked at, and the names of those that worked before.
type Verified = (Network, BTreeSet<String>);

/// Changes links of this machine, one trial at a time.
#[derive(Clone)]
pub struct Trials {
    /// Where files lie.
    pub paths: Arc<Paths>,
    /// What is done to the machine.
    pub hosts: Hosts,
    /// How long it may take.
    pub patience: Patience,
}

/// Seconds since boot, by a clock that nobody sets.
fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}

/// The cards among the kernel's links.
pub fn cards(links: &[Link]) -> Vec<Card> {
    let card = |link: &Link| Card {
        name: link.name.clone(),
        permanent_mac: link.permanent_mac.clone(),
        path: link.place.clone(),
        driver: None,
        carrier: None,
    };
    links.iter().filter(|link| link.is_card).map(card).collect()
}

impl Trials {
    fn file(&self, name: &str) -> PathBuf {
        self.paths.network_trial().join(name)
    }

    /// Held by whoever begins, keeps or takes back.
    fn lock(&self) -> anyhow::Result<File> {
        let path = self.file("lock");
        let lock = || -> std::io::Result<File> {
            std::fs::create_dir_all(self.paths.network_trial())?;
            let file = File::options().write(true).create(true).truncate(false).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().with_context(|| format!("{}: can not be locked", path.display()))
    }

    /// What is on trial.
    pub fn current(&self) -> anyhow::Result<Option<Trial>> {
        let path = self.file("trial.json");
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// The last trial that ended.
    pub fn last(&self) -> Option<Last> {
        serde_json::from_slice(&std::fs::read(self.file("last.json")).ok()?).ok()
    }

    fn usual(&self) -> Option<String> {
        std::fs::read_to_string(self.paths.usual_nic()).ok().map(|mac| mac.trim().to_owned())
    }

    /// node.toml's links with `layers` over them, on this machine as it is now.
    pub fn merged(&self, node: &Network, layers: &Layers) -> Result<Merged, NotTried> {
        let links = self.hosts.links.list().map_err(|error| NotTried::Failed(error.into()))?;
        Ok(merge(node, &layers.layers, &cards(&links), self.usual().as_deref())?)
    }

    /// Tries `change`: kept when everything that must answer does, or, with `wait`, when somebody confirms it before that
    /// span is over.
    pub async fn attempt(
        &self,
        change: &Change,
        api_server: Option<ApiServer>,
        wait: Option<Duration>,
    ) -> Result<Ended, NotTried> {
        let merged = self.merged(&change.node, &change.after)?;
        let links = self.hosts.links.list().map_err(|error| NotTried::Failed(error.into()))?;
        let worked = verify::working(&merged.network, &links);
        let as_it_was = self.as_it_is(change, &links);
        let before = self.ask(&api_server, None).await;
        let api_always = !change.by_hand && api_server.is_some();
        if api_always && !before.iter().any(|answer| answer.name == probes::API_SERVER && answer.passed) {
            return Err(NotTried::Later("the API server does not answer, so nothing is changed now".into()));
        }
        let Some((trial, steps)) = self.begin(change, &merged, wait).await? else {
            // Nothing to do on the machine: only to be remembered.
            let kept = change.after.confirm(&self.paths).map_err(NotTried::Failed);
            return kept.map(|()| Ended::Kept(probes::table(&before, &[], &[]), None));
        };
        let mut after = Vec::new();
        let failed = match self.apply(&trial, &steps).await {
            Ok(()) => {
                let verified = Some((merged.network, worked));
                self.watch(&trial, &before, api_always, &api_server, verified, &mut after).await
            }
            Err(error) => Some(Answer {
                name: probes::LINKS,
                passed: false,
                message: format!("the change could not be made: {error:#}"),
            }),
        };
        let Some(failed) = failed else {
            if wait.is_some() {
                return Ok(Ended::Waits(probes::table(&before, &after, &[])));
            }
            return match self.keep(Some(&trial.id)).await {
                Ok(_) => {
                    let links = after.iter().find(|answer| answer.name == probes::LINKS);
                    let degraded = links.map(|links| links.message.clone()).filter(|said| !said.is_empty());
                    Ok(Ended::Kept(probes::table(&before, &after, &[]), degraded))
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    self.give_up(&trial, &why).await;
                    Ok(Ended::TakenBack("keep".to_owned(), why, probes::table(&before, &after, &[])))
                }
            };
        };
        tracing::warn!("{}: {}: {}; taking it back", trial.title, failed.name, failed.message);
        self.give_up(&trial, &format!("{}: {}", failed.name, failed.message)).await;
        let restored = self.restored(&before, &api_server, &as_it_was).await;
        let why = match restored.iter().find(|answer| answer.name == probes::LINKS && !answer.passed) {
            None => failed.message,
            Some(still) => format!("{}; and not all is as it was: {}", failed.message, still.message),
        };
        let probes = probes::table(&before, &after, &restored);
        Ok(Ended::TakenBack(failed.name.to_owned(), why, probes))
    }

    /// Takes `trial` back; where that fails the alarm comes on top.
    async fn give_up(&self, trial: &Trial, why: &str) {
        if let Err(error) = self.take_back(Some(&trial.id), why).await {
            tracing::error!("{}: taking it back: {error:#}", trial.title);
        }
    }

    /// Writes down how to come back, and has systemd do so unless told otherwise; gives the steps there, if there are any.
    async fn begin(
        &self,
        change: &Change,
        merged: &Merged,
        wait: Option<Duration>,
    ) -> Result<Option<(Trial, Vec<Step>)>, NotTried> {
        let _lock = self.lock().map_err(NotTried::Failed)?;
        if let Some(other) = self.current().map_err(NotTried::Failed)? {
            return Err(NotTried::Later(format!("{} is on trial", other.title)));
        }
        let links = self.hosts.links.list().map_err(|error| NotTried::Failed(error.into()))?;
        let (steps, undo) = self.steps(change, merged, &links);
        if steps.is_empty() {
            return Ok(None);
        }
        if let Some((bridge, vms)) = change::under_vms(&steps, &links).first() {
            let are = if *vms == 1 {
                "an interface of a VM is".into()
            } else {
                format!("{vms} interfaces of VMs are")
            };
            return Err(NotTried::Later(format!(
                "{are} in bridge {bridge}, which would go; stop or move them"
            )));
        }
        let lasts = wait.unwrap_or(self.patience.alarm);
        let id = format!("{:x}-{}", (uptime() * 100.0) as u64, std::process::id());
        let trial = Trial {
            id,
            title: change.title.clone(),
            by_hand: change.by_hand,
            began: uptime(),
            lasts: lasts.as_secs_f64(),
            after: change.after.clone(),
            undo,
        };
        let text = serde_json::to_vec(&trial).map_err(|error| NotTried::Failed(error.into()))?;
        let path = self.file("trial.json");
        sheaf_host::file::write_atomically(&path, &text, 0o600)
            .map_err(|error| NotTried::Failed(error.into()))?;
        let command = [REVERTER, "network", "revert", "--trial", &trial.id].map(str::to_owned);
        if let Err(error) = self.hosts.alarm.arm(&unit(&trial.id), lasts, &command).await {
            let _ = std::fs::remove_file(&path);
            return Err(NotTried::Failed(error.into()));
        }
        tracing::info!("{}: on trial, taken back in {} s unless all is well", trial.title, lasts.as_secs());
        Ok(Some((trial, steps)))
    }

    /// The network that a change leaves. What was confirmed and no longer fits node.toml was left out at boot.
    fn network_before(&self, change: &Change, cards: &[Card]) -> Network {
        merge_what_fits(&change.node, &change.before.layers, cards, self.usual().as_deref()).0.network
    }

    /// The network that a change leaves and which of its links work in `links`; none when not all is as it was asked for
    /// even now.
    fn as_it_is(&self, change: &Change, links: &[Link]) -> Option<Verified> {
        let network = self.network_before(change, &cards(links));
        let works = verify::working(&network, links);
        let is_whole = verify::verify(&network, links, &works).iter().all(|finding| !finding.is_grave);
        is_whole.then_some((network, works))
    }

    /// The way there and the way back.
    fn steps(&self, change: &Change, merged: &Merged, links: &[Link]) -> (Vec<Step>, Vec<Step>) {
        let (cards, usual) = (cards(links), self.usual());
        let now = self.network_before(change, &cards);
        let machine = Machine { cards: &cards, usual: usual.as_deref() };
        (change::steps(&now, &merged.network, machine), change::steps(&merged.network, &now, machine))
    }

    async fn apply(&self, trial: &Trial, steps: &[Step]) -> anyhow::Result<()> {
        for step in steps {
            tracing::info!("{}: {step}", trial.title);
            self.carry_out(step).await.with_context(|| step.to_string())?;
        }
        Ok(())
    }

    /// Asks until two rounds are well, or the patience is over: then the last failure.
    async fn watch(
        &self,
        trial: &Trial,
        before: &[Answer],
        api_always: bool,
        api_server: &Option<ApiServer>,
        verified: Option<Verified>,
        after: &mut Vec<Answer>,
    ) -> Option<Answer> {
        let end = tokio::time::Instant::now() + self.patience.attempt;
        let mut well = 0;
        loop {
            // One round a link as it was may still pass; by the second, what a change cuts is cut.
            tokio::time::sleep(self.patience.between).await;
            if !matches!(self.current(), Ok(Some(now)) if now.id == trial.id) {
                let message = "it was taken back before all answers were in".to_owned();
                return Some(Answer { name: "time", passed: false, message });
            }
            *after = self.ask(api_server, verified.clone()).await;
            match probes::worse(before, after, api_always) {
                None => {
                    well += 1;
                    if well == 2 {
                        return None;
                    }
                }
                Some(failed) => {
                    tracing::info!("{}: not yet: {}: {}", trial.title, failed.name, failed.message);
                    well = 0;
                    if tokio::time::Instant::now() >= end {
                        return Some(failed);
                    }
                }
            }
        }
    }

    /// Asks until all that answered before does again, or the patience is over.
    async fn restored(
        &self,
        before: &[Answer],
        api_server: &Option<ApiServer>,
        verified: &Option<Verified>,
    ) -> Vec<Answer> {
        let end = tokio::time::Instant::now() + self.patience.restore;
        loop {
            let answers = self.ask(api_server, verified.clone()).await;
            if probes::worse(before, &answers, false).is_none() || tokio::time::Instant::now() >= end {
                return answers;
            }
            tokio::time::sleep(self.patience.between).await;
        }
    }

    async fn ask(&self, api_server: &Option<ApiServer>, verified: Option<Verified>) -> Vec<Answer> {
        let (hosts, api_server) = (self.hosts.clone(), api_server.clone());
        let ask = move || {
            let questions = Questions {
                reach: hosts.reach.as_ref(),
                call: hosts.call.as_ref(),
                links: hosts.links.as_ref(),
                api_server: api_server.as_ref(),
            };
            questions.ask(verified.as_ref().map(|(network, before)| (network, before)))
        };
        // A question that panicked was not answered.
        tokio::task::spawn_blocking(ask).await.unwrap_or_default()
    }

    /// Makes what is on trial last; an error when nothing is, or not `id`.
    pub async fn keep(&self, id: Option<&str>) -> anyhow::Result<Trial> {
        let _lock = self.lock()?;
        let trial = self.current()?.context("nothing is on trial")?;
        if id.is_some_and(|id| id != trial.id) {
            anyhow::bail!("another change is on trial: {}", trial.title);
        }
        trial.after.confirm(&self.paths)?;
        self.end(&trial, true, "")?;
        self.hosts.alarm.call_off(&unit(&trial.id)).await.unwrap_or_else(|error| {
            // It finds nothing on trial.
            tracing::warn!("{error}");
        });
        tracing::info!("{}: kept", trial.title);
        Ok(trial)
    }

    /// Leads back from what is on trial; none when nothing is, or not `id`. A step that fails does not stop the others.
    pub async fn take_back(&self, id: Option<&str>, why: &str) -> anyhow::Result<Option<Trial>> {
        let _lock = self.lock()?;
        let Some(trial) = self.current()? else { return Ok(None) };
        if id.is_some_and(|id| id != trial.id) {
            return Ok(None);
        }
        tracing::warn!("{}: taken back: {why}", trial.title);
        let (mut failures, mut failed_reload) = (Vec::new(), false);
        for step in &trial.undo {
            if let Err(error) = self.carry_out(step).await {
                tracing::error!("{}: taking back: {step}: {error:#}", trial.title);
                failures.push(format!("{step}: {error:#}"));
                failed_reload |= *step == Step::Reload;
            }
        }
        // Without networkd nothing is back: whoever asked tries again. Any other step that failed is told.
        anyhow::ensure!(!failed_reload, "{}", failures.join("; "));
        let told =
            if failures.is_empty() { why.to_owned() } else { format!("{why} ({})", failures.join("; ")) };
        self.end(&trial, false, &told)?;
        tracing::warn!("{}: back: all is as it was", trial.title);
        // Of the alarm itself, too: its service is what runs us then, and stays.
        if let Err(error) = self.hosts.alarm.call_off(&unit(&trial.id)).await {
            tracing::warn!("{error}");
        }
        Ok(Some(trial))
    }

    /// Takes back what nobody watches: a policy's trial when the agent starts (`at_start`), anything whose time is long over.
    pub async fn take_back_left_over(&self, at_start: bool) -> anyhow::Result<Option<Trial>> {
        let Some(trial) = self.current()? else { return Ok(None) };
        if at_start && !trial.by_hand {
            return self.take_back(Some(&trial.id), "the agent ended while it was on trial").await;
        }
        if trial.left() < -OVERDUE {
            return self.take_back(Some(&trial.id), "its time was over").await;
        }
        Ok(None)
    }

    fn end(&self, trial: &Trial, kept: bool, why: &str) -> anyhow::Result<()> {
        let last = Last { id: trial.id.clone(), title: trial.title.clone(), kept, why: why.to_owned() };
        sheaf_host::file::write_atomically(&self.file("last.json"), &serde_json::to_vec(&last)?, 0o644)?;
        std::fs::remove_file(self.file("trial.json")).context("trial.json can not be removed")
    }

    async fn carry_out(&self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Delete(link) => self.ip(link, &["link", "delete", "dev", link])?,
            Step::Release(link) => {
                self.ip(link, &["link", "set", "dev", link, "nomaster", "down"])?;
                self.ip(link, &["address", "flush", "dev", link])?;
            }
            Step::Filter(link, on) => {
                let on = if *on { "1" } else { "0" };
                self.ip(link, &["link", "set", "dev", link, "type", "bridge", "vlan_filtering", on])?;
            }
            Step::Mtu(link, mtu) => self.ip(link, &["link", "set", "dev", link, "mtu", &mtu.to_string()])?,
            Step::Mac(link, mac) => self.ip(link, &["link", "set", "dev", link, "address", mac])?,
            Step::Write(file, text) => {
                let path = self.paths.networkd().join(file);
                sheaf_host::file::write_atomically(&path, text.as_bytes(), 0o644)?;
            }
            Step::Remove(file) => match std::fs::remove_file(self.paths.networkd().join(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            },
            Step::Heard => self.heard().await?,
            Step::Reload => self.hosts.networkd.reload().await?,
            Step::Reconfigure(link) => self.hosts.networkd.reconfigure(link).await?,
        }
        Ok(())
    }

    /// Waits until networkd has heard of everything that was done to links. The kernel tells it in order, so it is given
    /// a name to hear last, another one each time: what it once knew as a name of a link it does not forget.
    async fn heard(&self) -> anyhow::Result<()> {
        let name = format!("sheaf-{:x}", (uptime() * 1000.0) as u64);
        self.ip("lo", &["link", "property", "add", "dev", "lo", "altname", &name])?;
        let end = tokio::time::Instant::now() + HEARD;
        let heard = loop {
            match self.hosts.networkd.knows(&name).await {
                Ok(false) if tokio::time::Instant::now() < end => tokio::time::sleep(HEARD_LOOK).await,
                heard => break heard,
            }
        };
        self.ip("lo", &["link", "property", "del", "dev", "lo", "altname", &name])?;
        anyhow::ensure!(heard?, "systemd-networkd has not heard of it within {} s", HEARD.as_secs());
        Ok(())
    }

    /// Runs `ip` about `link`, unless there is no such link.
    fn ip(&self, link: &str, arguments: &[&str]) -> anyhow::Result<()> {
        if self.hosts.links.list()?.iter().all(|there| there.name != link) {
            return Ok(());
        }
        self.hosts.run.run(&Command::new("ip").args(arguments).deadline(IP))?;
        Ok(())
    }
}

/// Name of the alarm's units.
fn unit(id: &str) -> String {
    format!("sheaf-network-revert-{id}")
}

#[cfg(test)]
mod tests;
