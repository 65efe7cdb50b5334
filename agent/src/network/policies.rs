//! Does on this node what NodeNetworkPolicies ask, one after another, and reports.
//!
//! Why here: the loop; what to do is decided in [`super::decide`], how in [`super::trial`]. Route in: policies by a watch,
//! this node's turn in their status. Route out: enactments, the node's state, the section `policies` of the
//! status. A try is written down in the API before anything is touched: whatever becomes of the agent, the next one knows.

use super::api::NetworkApi;
use super::decide::{Act, Seen, decide, layer, trial_title};
use super::layers::{Layer, Layers};
use super::probes::ApiServer;
use super::trial::{Change, Ended, NotTried, Trials};
use crate::channels::Context;
use crate::cluster::identity;
use crate::listed::{self, Listed};
use crate::status::{PolicySection, Section};
use sheaf_api::node_network::enactment::EnactmentPhase;
use sheaf_api::node_network::{
    NodeNetworkEnactmentStatus as Status, NodeNetworkPolicy, NodeNetworkStateStatus,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks when nothing is heard: labels of the node change rarely, VMs leave a bridge silently.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Until a failed look is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until shutdown.
pub async fn run<D: NetworkApi>(
    ctx: Context,
    section: Section<Vec<PolicySection>>,
    api: D,
    trials: Trials,
) -> anyhow::Result<()> {
    let listed = watch::Sender::new(Listed::default());
    let follow = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::Cluster);
    let mut shutdown = ctx.shutdown.clone();
    let keeper = Keeper::new(ctx, section, api, trials);
    tokio::select! {
        () = keeper.run(listed.subscribe()) => Ok(()),
        () = follow => Ok(()),
        () = shutdown.requested() => Ok(()),
    }
}

/// The API server of this node, as its cluster controller knows it.
pub(super) fn api_server(ctx: &Context) -> Option<ApiServer> {
    let url = ctx.status.read().cluster.server.clone()?;
    Some(ApiServer { url, ca: identity::Store::of(&ctx.paths).ca() })
}

struct Keeper<D> {
    ctx: Context,
    section: Section<Vec<PolicySection>>,
    api: D,
    trials: Trials,
    not_removed: BTreeSet<(String, i64)>,
    /// What the API server was shown last.
    shown: Option<NodeNetworkStateStatus>,
    /// Reports that did not get through yet.
    unsaid: BTreeMap<String, Status>,
}

impl<D: NetworkApi> Keeper<D> {
    fn new(ctx: Context, section: Section<Vec<PolicySection>>, api: D, trials: Trials) -> Self {
        Self { ctx, section, api, trials, not_removed: BTreeSet::new(), shown: None, unsaid: BTreeMap::new() }
    }

    async fn run(mut self, mut listed: watch::Receiver<Listed<NodeNetworkPolicy>>) {
        self.settle(true).await;
        loop {
            self.settle(false).await;
            let now = listed.borrow_and_update().clone();
            let policies: Vec<_> = now.objects.into_values().map(Arc::unwrap_or_clone).collect();
            // What an incomplete list lacks is not gone.
            let again = match now.synced {
                false => LOOK_AGAIN,
                true => match self.look(&policies).await {
                    Ok(true) => Duration::ZERO,
                    Ok(false) => LOOK_AGAIN,
                    Err(error) => {
                        tracing::warn!("policies of the network: {error:#}");
                        RETRY
                    }
                },
            };
            tokio::select! {
                changed = listed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    async fn settle(&self, at_start: bool) {
        match self.trials.settle(at_start).await {
            Ok(None) => {}
            Ok(Some(trial)) => tracing::warn!("{}: was left on trial, and rolled back", trial.title),
            Err(error) => tracing::error!("what was left on trial cannot be rolled back: {error:#}"),
        }
    }

    /// Looks once and acts; whether another look is due at once.
    async fn look(&mut self, policies: &[NodeNetworkPolicy]) -> anyhow::Result<bool> {
        self.show().await?;
        let (node, labels) = self.api.node().await?;
        let mut reported = self.api.reported().await?;
        for (policy, status) in std::mem::take(&mut self.unsaid) {
            self.say(&policy, status.clone()).await?;
            reported.insert(policy, status);
        }
        let layers = Layers::confirmed(&self.ctx.paths)?;
        let network = self.ctx.config.borrow().network.links.clone();
        let last = self.trials.last();
        let seen = Seen {
            node: &node,
            labels: &labels,
            policies,
            reported: &reported,
            layers: &layers,
            on_trial: self.trials.current()?.is_some(),
            not_removed: &self.not_removed,
            last: last.as_ref().map(|last| (last.title.as_str(), last.why.as_str())),
        };
        let fits = |layers: &Layers| match self.trials.merged(&network, layers) {
            Err(NotTried::Refused(refusal)) => Err(refusal),
            // Links that cannot be listed now are no fault of the policy.
            _ => Ok(()),
        };
        let acts = decide(&seen, fits);
        self.tell_page(policies, &reported, &layers);
        let mut changed = false;
        for act in acts {
            changed |= self.act(act, &reported, &layers).await?;
        }
        Ok(changed)
    }

    async fn act(
        &mut self,
        act: Act,
        reported: &BTreeMap<String, Status>,
        layers: &Layers,
    ) -> anyhow::Result<bool> {
        match act {
            Act::Report(policy, status) => {
                self.say(&policy, status).await?;
                Ok(true)
            }
            Act::Withdraw(policy) => {
                self.api.withdraw(&policy).await?;
                Ok(true)
            }
            Act::Try(layer) => self.attempt(layer, reported, layers).await,
            Act::Remove(policy) => self.remove(&policy, reported, layers).await,
        }
    }

    async fn say(&mut self, policy: &str, status: Status) -> anyhow::Result<()> {
        let phase = status.phase.map(|phase| format!("{phase:?}")).unwrap_or_default();
        tracing::info!("policy {policy}: {phase} {}", status.message.as_deref().unwrap_or_default());
        let said = self.api.report(policy, &status).await;
        if said.is_err() {
            self.unsaid.insert(policy.to_owned(), status);
        }
        said
    }

    fn change(&self, title: String, before: &Layers, after: Layers) -> Change {
        let node = self.ctx.config.borrow().network.links.clone();
        Change { title, node, before: before.clone(), after, by_hand: false }
    }

    async fn attempt(
        &mut self,
        layer: Layer,
        reported: &BTreeMap<String, Status>,
        layers: &Layers,
    ) -> anyhow::Result<bool> {
        let (name, generation) = (layer.name.clone(), layer.generation);
        let applied = layers.get(&name).filter(|old| old.uid == layer.uid).map(|old| old.generation);
        let trying = Status {
            generation: Some(generation),
            phase: Some(EnactmentPhase::Trying),
            message: Some("on trial".into()),
            applied_generation: applied,
            started_at: Some(now()),
            ..Status::default()
        };
        // Not kept for later: without this mark nothing is begun.
        self.api.report(&name, &trying).await?;
        self.tell_phase(&name, &trying);
        let change = self.change(trial_title(&name, generation), layers, layers.with(layer));
        let ended = self.trials.attempt(&change, api_server(&self.ctx), None).await;
        let base = Status { message: None, finished_at: Some(now()), ..trying.clone() };
        let (status, again) = match ended {
            Ok(Ended::Kept(probes, degraded)) => {
                let phase =
                    if degraded.is_some() { EnactmentPhase::Degraded } else { EnactmentPhase::Applied };
                let applied_generation = Some(generation);
                let status =
                    Status { phase: Some(phase), message: degraded, applied_generation, probes, ..base };
                (status, true)
            }
            Ok(Ended::RolledBack(probe, why, probes)) => {
                let status = Status {
                    phase: Some(EnactmentPhase::RolledBack),
                    message: Some(format!("{why}; rolled back")),
                    failed_probe: Some(probe),
                    probes,
                    ..base
                };
                (status, true)
            }
            Ok(Ended::Waits(_)) => {
                anyhow::bail!("a policy's trial waits for no confirmation (bug in sheaf-agent)")
            }
            Err(NotTried::Refused(refusal)) => {
                let phase = Some(EnactmentPhase::Refused);
                (Status { phase, message: Some(refusal.to_string()), ..base }, true)
            }
            // Nothing was touched; it is tried again at the next look.
            Err(error @ (NotTried::Later(_) | NotTried::Failed(_))) => {
                let before = reported.get(&name).filter(|old| old.generation == Some(generation));
                let status = Status {
                    phase: Some(EnactmentPhase::Pending),
                    message: Some(error.to_string()),
                    started_at: before.and_then(|old| old.started_at.clone()),
                    finished_at: None,
                    ..base
                };
                (status, false)
            }
        };
        self.tell_phase(&name, &status);
        self.say(&name, status).await?;
        Ok(again)
    }

    async fn remove(
        &mut self,
        name: &str,
        reported: &BTreeMap<String, Status>,
        layers: &Layers,
    ) -> anyhow::Result<bool> {
        let Some(layer) = layers.get(name) else { return Ok(false) };
        let title = format!("removal of policy {name}");
        let change = self.change(title, layers, layers.without(name));
        let base = reported.get(name).cloned().unwrap_or_default();
        let ended = self.trials.attempt(&change, api_server(&self.ctx), None).await;
        let (phase, message, failed_probe) = match ended {
            // The next look withdraws the enactment.
            Ok(Ended::Kept(..)) => return Ok(true),
            Ok(Ended::RolledBack(probe, why, _)) => {
                self.not_removed.insert((layer.uid.clone(), layer.generation));
                (EnactmentPhase::RolledBack, format!("removing it: {why}; it is kept"), Some(probe))
            }
            Ok(Ended::Waits(_)) => {
                anyhow::bail!("a policy's trial waits for no confirmation (bug in sheaf-agent)")
            }
            Err(error) => (EnactmentPhase::Pending, format!("removing it: {error}"), None),
        };
        let status = Status { phase: Some(phase), message: Some(message), failed_probe, ..base.clone() };
        if status != base {
            self.tell_phase(name, &status);
            self.say(name, status).await?;
        }
        Ok(false)
    }

    /// Shows the node's links, when they are others than before.
    async fn show(&mut self) -> anyhow::Result<()> {
        let network = self.ctx.config.borrow().network.links.clone();
        let (merged, links) = super::observe(&self.ctx.paths, &network, self.trials.hosts.links.as_ref())?;
        let reach = &self.trials.hosts.reach;
        let problem = self.ctx.status.read().network.problem.clone();
        let gateways = reach.gateways().unwrap_or_default();
        let shown = super::shown::shown(&merged, &links, &gateways, &reach.name_servers(), problem);
        if self.shown.as_ref() != Some(&shown) {
            self.api.show(&shown).await?;
            self.shown = Some(shown);
        }
        Ok(())
    }

    /// The status page's rows: policies that concern this node.
    fn tell_page(
        &self,
        policies: &[NodeNetworkPolicy],
        reported: &BTreeMap<String, Status>,
        layers: &Layers,
    ) {
        let row = |policy: &NodeNetworkPolicy| {
            let layer = layer(policy);
            let said = reported.get(&layer.name);
            if said.is_none() && layers.get(&layer.name).is_none() {
                return None;
            }
            Some(section(&layer.name, layer.generation, said.unwrap_or(&Status::default())))
        };
        let rows: Vec<_> = policies.iter().filter_map(row).collect();
        self.section.set(rows);
    }

    fn tell_phase(&self, name: &str, said: &Status) {
        self.section.change(|rows| {
            let row = section(name, said.generation.unwrap_or_default(), said);
            match rows.iter_mut().find(|row| row.name == name) {
                Some(old) => *old = row,
                None => rows.push(row),
            }
        });
    }
}

fn section(name: &str, generation: i64, said: &Status) -> PolicySection {
    PolicySection {
        name: name.to_owned(),
        generation,
        applied: said.applied_generation,
        phase: said.phase.map(|phase| format!("{phase:?}")).unwrap_or_default(),
        message: said.message.clone(),
        failed_probe: said.failed_probe.clone(),
        probes: said.probes.iter().map(super::by_hand::probe_line).collect(),
    }
}

fn now() -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    k8s_openapi::jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
