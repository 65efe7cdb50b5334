//! One change of the links: tried, then kept or rolled back.
//!
//! The trial is here; [`record`] is what is written down of it, [`end`] keeps it or rolls it back, [`carry`] carries out
//! single steps.
//!
//! Why here: both the policies' controller and the operator's hand come this way. What is on trial lies in a file with
//! the steps that roll back, and a timer of systemd's carries them out ([`Trials::roll_back`]) unless it is called off:
//! no life of ours is needed for it. /run is gone with a reboot, which then renders what was confirmed before. Anyone who
//! keeps, or rolls back, holds a lock: the two never meet. Route in: layers as they were and as they shall be. Route
//! out: [`Ended`]; `/run/sheaf/network/trial.json` while it lasts, `last.json` after.

mod carry;
mod end;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use record::current;
pub use record::{Last, Trial};

use super::change::{self, Machine, Step};
use super::found_nics;
use super::layers::{Confirmed, Layers};
use super::merge::{Merged, Refusal, merge, merge_what_fits};
use super::probes::{self, Answer, ApiServer, Questions};
use super::verify;
use crate::paths::Paths;
use crate::reconcile::blocking;
use record::{new_id, unit, uptime};
use sheaf_api::node_network::enactment::Probe;
use sheaf_host::alarm::Alarm;
use sheaf_host::call::Call;
use sheaf_host::links::{Link, Links as KernelLinks};
use sheaf_host::networkd::Networkd;
use sheaf_host::reach::Reach;
use sheaf_host::run::Run;
use sheaf_links::{FoundNic, Links};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The program that rolls back.
const REVERTER: &str = "/usr/bin/sheaf-agent";

/// What a change does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// The kernel's links.
    pub links: Arc<dyn KernelLinks>,
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
pub struct Timeouts {
    /// From the change until everything answers.
    pub attempt: Duration,
    /// Between two rounds of questions.
    pub between: Duration,
    /// Until the change is rolled back by systemd, whatever happened to us.
    pub alarm: Duration,
    /// From rolling back until everything answers again.
    pub restore: Duration,
}

impl Default for Timeouts {
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
    pub node: Links,
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
    /// It was rolled back: the probe, why, all probes.
    RolledBack(String, String, Vec<Probe>),
}

/// Why a change was not even tried; nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum NotTried {
    /// It cannot be, whenever.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It can be later.
    #[error("{0}")]
    Later(String),
    /// The machine refused.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Links to be looked at, and the names of those that worked before.
type Verified = (Links, BTreeSet<String>);

/// Changes links of this machine, one trial at a time.
#[derive(Clone)]
pub struct Trials {
    /// Where files lie.
    pub paths: Arc<Paths>,
    /// What is done to the machine.
    pub hosts: Hosts,
    /// How long it may take.
    pub timeouts: Timeouts,
}

impl Trials {
    fn usual(&self) -> Option<String> {
        std::fs::read_to_string(self.paths.usual_nic()).ok().map(|mac| mac.trim().to_owned())
    }

    /// node.toml's links with `layers` over them, on this machine as it is now.
    pub fn merged(&self, node: &Links, layers: &Layers) -> Result<Merged, NotTried> {
        let links = self.hosts.links.list().map_err(|error| NotTried::Failed(error.into()))?;
        Ok(merge(node, &layers.layers, &found_nics(&links), self.usual().as_deref())?)
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
        let worked = verify::working(&merged.links, &links);
        let as_it_was = self.as_it_is(change, &links);
        let before = self.ask(&api_server, None).await;
        let api_always = !change.by_hand && api_server.is_some();
        if api_always && !before.iter().any(|answer| answer.name == probes::API_SERVER && answer.passed) {
            return Err(NotTried::Later("the API server does not answer, so nothing is changed now".into()));
        }
        let Some((trial, steps)) = self.begin(change, &merged, wait).await? else {
            return Ok(Ended::Kept(probes::table(&before, &[], &[]), None));
        };
        let mut after = Vec::new();
        let failed = match self.apply(&trial, &steps).await {
            Ok(()) => {
                let verified = Some((merged.links, worked));
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
                    Ok(Ended::RolledBack("keep".to_owned(), why, probes::table(&before, &after, &[])))
                }
            };
        };
        tracing::warn!("{}: {}: {}; rolling it back", trial.title, failed.name, failed.message);
        self.give_up(&trial, &format!("{}: {}", failed.name, failed.message)).await;
        let restored = self.restored(&before, &api_server, &as_it_was).await;
        let why = match restored.iter().find(|answer| answer.name == probes::LINKS && !answer.passed) {
            None => failed.message,
            Some(still) => format!("{}; and not all is as it was: {}", failed.message, still.message),
        };
        let probes = probes::table(&before, &after, &restored);
        Ok(Ended::RolledBack(failed.name.to_owned(), why, probes))
    }

    /// Takes `trial` back; where that fails the alarm comes on top.
    async fn give_up(&self, trial: &Trial, why: &str) {
        if let Err(error) = self.roll_back(Some(&trial.id), why).await {
            tracing::error!("{}: rolling it back: {error:#}", trial.title);
        }
    }

    /// Writes down how to come back, and has systemd do so unless told otherwise; gives the steps there, if there are any.
    async fn begin(
        &self,
        change: &Change,
        merged: &Merged,
        wait: Option<Duration>,
    ) -> Result<Option<(Trial, Vec<Step>)>, NotTried> {
        let _lock = self.lock().await.map_err(NotTried::Failed)?;
        if let Some(other) = self.current().map_err(NotTried::Failed)? {
            return Err(NotTried::Later(format!("{} is on trial", other.title)));
        }
        let confirmed = Layers::confirmed(&self.paths).map_err(|error| NotTried::Failed(error.into()))?;
        if confirmed != change.before {
            return Err(NotTried::Later("the confirmed links were changed meanwhile".into()));
        }
        let links = self.hosts.links.list().map_err(|error| NotTried::Failed(error.into()))?;
        let (steps, undo) = self.steps(change, merged, &links);
        if steps.is_empty() {
            // Nothing to do on the machine: only to be remembered.
            let (confirmed, paths) =
                (Confirmed { trial: None, layers: change.after.clone() }, self.paths.clone());
            blocking(move || confirmed.write(&paths)).await.map_err(NotTried::Failed)?;
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
        let lasts = wait.unwrap_or(self.timeouts.alarm);
        let trial = Trial {
            id: new_id().map_err(NotTried::Failed)?,
            title: change.title.clone(),
            by_hand: change.by_hand,
            began: uptime(),
            lasts: lasts.as_secs_f64(),
            before: change.before.clone(),
            after: change.after.clone(),
            undo,
            rolling_back: None,
        };
        let (paths, written) = (self.paths.clone(), trial.clone());
        blocking(move || record::write(&paths, &written)).await.map_err(NotTried::Failed)?;
        let command = [REVERTER, "network", "revert", "--trial", &trial.id].map(str::to_owned);
        if let Err(error) = self.hosts.alarm.arm(&unit(&trial.id), lasts, &command).await {
            let _ = std::fs::remove_file(self.file("trial.json"));
            return Err(NotTried::Failed(error.into()));
        }
        tracing::info!(
            "{}: on trial, rolled back in {} s unless all probes pass",
            trial.title,
            lasts.as_secs()
        );
        Ok(Some((trial, steps)))
    }

    /// The network that a change leaves. What was confirmed and no longer fits node.toml was left out at boot.
    fn network_before(&self, change: &Change, found_nics: &[FoundNic]) -> Links {
        merge_what_fits(&change.node, &change.before.layers, found_nics, self.usual().as_deref()).0.links
    }

    /// The network that a change leaves and which of its links work in `links`; none when not all is as it was asked for
    /// even now.
    fn as_it_is(&self, change: &Change, links: &[Link]) -> Option<Verified> {
        let network = self.network_before(change, &found_nics(links));
        let works = verify::working(&network, links);
        let is_whole = verify::verify(&network, links, &works).iter().all(|finding| !finding.is_grave);
        is_whole.then_some((network, works))
    }

    /// The way there and the way back.
    fn steps(&self, change: &Change, merged: &Merged, links: &[Link]) -> (Vec<Step>, Vec<Step>) {
        let (found_nics, usual) = (found_nics(links), self.usual());
        let now = self.network_before(change, &found_nics);
        let machine = Machine { found_nics: &found_nics, usual: usual.as_deref() };
        (change::steps(&now, &merged.links, machine), change::steps(&merged.links, &now, machine))
    }

    /// Asks until two rounds are well, or the time is over: then the last failure.
    async fn watch(
        &self,
        trial: &Trial,
        before: &[Answer],
        api_always: bool,
        api_server: &Option<ApiServer>,
        verified: Option<Verified>,
        after: &mut Vec<Answer>,
    ) -> Option<Answer> {
        let end = tokio::time::Instant::now() + self.timeouts.attempt;
        let mut well = 0;
        loop {
            // One round a link as it was may still pass; by the second, what a change cuts is cut.
            tokio::time::sleep(self.timeouts.between).await;
            if !matches!(self.current(), Ok(Some(now)) if now.id == trial.id && now.rolling_back.is_none()) {
                let message = "it was rolled back before all answers were in".to_owned();
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

    /// Asks until all that answered before does again, or the time is over.
    async fn restored(
        &self,
        before: &[Answer],
        api_server: &Option<ApiServer>,
        verified: &Option<Verified>,
    ) -> Vec<Answer> {
        let end = tokio::time::Instant::now() + self.timeouts.restore;
        loop {
            let answers = self.ask(api_server, verified.clone()).await;
            if probes::worse(before, &answers, false).is_none() || tokio::time::Instant::now() >= end {
                return answers;
            }
            tokio::time::sleep(self.timeouts.between).await;
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
}
