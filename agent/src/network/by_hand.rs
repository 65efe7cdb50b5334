//! `sheaf-agent network apply|confirm|revert`: the same change, trial and way back, by an operator's hand.
//!
//! Why here: a node whose cluster is away must be fixed, too; and what a policy will do can be tried on one node. The
//! file is a NodeNetworkPolicy, as for kubectl, or its `network` alone; YAML or JSON. What is kept is a layer of its own
//! above all policies; a file without links takes it away. Route in: the file. Route out: words for a terminal.

use super::layers::{BY_HAND, Layer, Layers};
use super::probes::ApiServer;
use super::trial::{Change, Ended, Timeouts, Trials};
use crate::cluster::identity;
use crate::paths::Paths;
use crate::status::Status;
use anyhow::Context as _;
use serde_json::Value;
use sheaf_api::node_network::enactment::Probe;
use sheaf_api::node_network::{Links, NodeNetworkPolicySpec};
use std::path::Path;
use std::time::Duration;

/// Above every policy.
const RANK: u32 = u32::MAX;

/// How `apply` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// By itself, when all answer.
    Itself,
    /// By `sheaf-agent network confirm` within this span.
    Within(Duration),
}

/// Reads the links of a policy, or of its `network` alone.
pub fn read(path: &Path) -> anyhow::Result<Links> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    links(&text).with_context(|| path.display().to_string())
}

fn links(text: &str) -> anyhow::Result<Links> {
    let value: Option<Value> = serde_saphyr::from_str(text).context("is not YAML")?;
    let Some(value) = value else { return Ok(Links::default()) };
    let strict = |value: &Value| -> anyhow::Result<Links> {
        Ok(sheaf_api::strict::from_json::<Links>(&value.to_string())?)
    };
    match value.get("kind").and_then(Value::as_str) {
        None => strict(value.get("network").unwrap_or(&value)),
        Some("NodeNetworkPolicy") => {
            let spec = value.get("spec").context("a NodeNetworkPolicy without spec")?;
            let spec: NodeNetworkPolicySpec = sheaf_api::strict::from_json(&spec.to_string())?;
            Ok(spec.network)
        }
        Some(kind) => anyhow::bail!("is a {kind}; give a NodeNetworkPolicy, or only its network"),
    }
}

/// Tries `links` over node.toml and over what was confirmed.
pub async fn apply(trials: &Trials, node: &Links, links: Links, confirm: Confirm) -> anyhow::Result<String> {
    let before = Layers::confirmed(&trials.paths)?;
    let after = match links == Links::default() {
        true => before.without(BY_HAND),
        false => before.with(Layer { name: BY_HAND.into(), rank: RANK, links, ..Layer::default() }),
    };
    let change = Change { title: "change by hand".into(), node: node.clone(), before, after, by_hand: true };
    let wait = match confirm {
        Confirm::Itself => None,
        Confirm::Within(span) => Some(span.max(least(&trials.timeouts))),
    };
    match trials.attempt(&change, api_server(&trials.paths), wait).await? {
        Ended::Kept(probes, degraded) => {
            let note = degraded.map(|what| format!("works in part: {what}\n")).unwrap_or_default();
            Ok(format!("{}{note}kept\n", table(&probes)))
        }
        Ended::Waits(probes) => {
            let left = trials.current()?.map_or(0.0, |trial| trial.left()).max(0.0);
            Ok(format!(
                "{}on trial: rolled back in {left:.0} s, unless you run: sheaf-agent network confirm\n",
                table(&probes)
            ))
        }
        Ended::RolledBack(probe, why, probes) => {
            print!("{}", table(&probes));
            anyhow::bail!("{probe}: {why}; everything was rolled back")
        }
    }
}

/// A hand is given at least what the probes take.
fn least(timeouts: &Timeouts) -> Duration {
    timeouts.attempt + Duration::from_secs(10)
}

/// Keeps the change that is on trial.
pub async fn confirm(trials: &Trials) -> anyhow::Result<String> {
    let trial = trials.keep(None).await?;
    Ok(format!("{}: kept\n", trial.title))
}

/// Rolls back what is on trial, or the trial `id` alone, as the alarm does.
pub async fn revert(trials: &Trials, id: Option<&str>) -> anyhow::Result<String> {
    let why = match id {
        Some(_) => "it was not confirmed in time",
        None => "an operator rolled it back",
    };
    match trials.roll_back(id, why).await? {
        Some(trial) => Ok(format!("{}: rolled back\n", trial.title)),
        // The alarm came too late, as it should.
        None if id.is_some() => Ok("nothing to roll back\n".into()),
        None => anyhow::bail!("nothing is on trial"),
    }
}

/// The API server of this node, as its agent wrote it down.
fn api_server(paths: &Paths) -> Option<ApiServer> {
    let status: Status = serde_json::from_slice(&std::fs::read(paths.status_json()).ok()?).ok()?;
    Some(ApiServer { url: status.cluster.server?, ca: identity::Store::of(paths).ca() })
}

/// A probe in one line.
pub fn probe_line(probe: &Probe) -> String {
    let word = |passed: Option<bool>| match passed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let Probe { name, before, after, restored, message } = probe;
    let restored = restored.map(|_| format!(", restored {}", word(*restored))).unwrap_or_default();
    let message = message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{name}: before {}, after {}{restored}{message}", word(*before), word(*after))
}

fn table(probes: &[Probe]) -> String {
    probes.iter().map(|probe| probe_line(probe) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_its_network_alone_and_nothing_are_read() {
        let network = "bridges:\n- name: br1\n  ports: [enp2s0]\n  vlanAware: true\n";
        let read = links(network).unwrap();
        assert_eq!((read.bridges[0].name.as_str(), read.bridges[0].vlan_aware), ("br1", Some(true)));
        let policy = format!(
            "apiVersion: sheaf.dev/v1alpha1\nkind: NodeNetworkPolicy\nmetadata: {{name: a}}\nspec:\n  network:\n{}",
            network.lines().map(|line| format!("    {line}\n")).collect::<String>()
        );
        assert_eq!(links(&policy).unwrap(), read);
        assert_eq!(links("").unwrap(), Links::default());
        assert_eq!(links("{}").unwrap(), Links::default());
    }

    #[test]
    fn a_key_that_nobody_would_honour_is_refused_by_its_name() {
        let error = links("bridges:\n- name: br1\n  port: [enp2s0]\n").unwrap_err();
        assert!(format!("{error:#}").contains("bridges[0].port: unknown field"), "{error:#}");
        let error = links("kind: Pod\n").unwrap_err();
        assert!(format!("{error:#}").contains("is a Pod"), "{error:#}");
    }
}
