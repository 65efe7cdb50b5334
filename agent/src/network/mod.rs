//! Controller `network`: says how this node is reached, and changes its links as policies ask.
//!
//! Reads: the node config, links and addresses of the kernel, timesyncd's mark of a set clock, NodeNetworkPolicies.
//! Owns: the channel `network`, the section `network` of the status, `/state/network`, `/run/sheaf/network`, the files
//! `*-sheaf-*` in `/run/systemd/network` once `config` has written them, this node's NodeNetworkEnactments and its
//! NodeNetworkState. Never touches: addresses of node.toml's links, interfaces of VMs; links only by networkd's files and
//! by what networkd leaves undone ([`change`]).
//!
//! Looking ([`run`]): [`view`], [`problems`]. Changing ([`policies`], [`by_hand`]): observe → plan ([`merge`], [`change`],
//! pure) → apply on trial ([`trial`]) → verify ([`verify`], [`probes`]) → keep or roll back → report ([`api`]).

pub mod api;
pub mod by_hand;
pub mod change;
pub mod decide;
pub mod files;
pub mod layers;
pub mod merge;
pub mod policies;
pub mod probes;
mod problems;
mod shown;
mod spelling;
pub mod trial;
mod validation;
pub mod verify;
mod view;

use crate::channels::{Context, NetworkState};
use crate::paths::Paths;
use crate::status::{NetworkSection, Section, TrialSection};
use layers::Layers;
use merge::{Merged, merge_what_fits};
use sheaf_host::links::{Link, Links as KernelLinks};
use sheaf_links::{FoundNic, Links};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks when nothing is heard: timesyncd's mark makes no change, and news can be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The NICs among the kernel's links.
pub(crate) fn found_nics(links: &[Link]) -> Vec<FoundNic> {
    links.iter().filter(|link| link.is_nic).map(found_nic).collect()
}

fn found_nic(link: &Link) -> FoundNic {
    FoundNic { name: link.name.clone(), permanent_mac: link.permanent_mac.clone(), path: link.place.clone() }
}

/// node.toml's links with what was confirmed on this node over them, and what of that does not fit, in words.
pub(crate) fn at_boot(
    paths: &Paths,
    node: &Links,
    found_nics: &[FoundNic],
    usual: Option<&str>,
) -> (Links, Vec<String>) {
    let (merged, dropped) = effective(paths, node, found_nics, usual);
    (merged.links, dropped)
}

fn effective(
    paths: &Paths,
    node: &Links,
    found_nics: &[FoundNic],
    usual: Option<&str>,
) -> (Merged, Vec<String>) {
    let layers = match Layers::confirmed(paths) {
        Ok(layers) => layers,
        Err(error) => {
            let file = paths.confirmed_network();
            let note = format!(
                "{}: cannot be read ({error}); only the links of node.toml are created",
                file.display()
            );
            return (Merged::plain(node), vec![note]);
        }
    };
    let (merged, refused) = merge_what_fits(node, &layers.layers, found_nics, usual);
    (merged, refused.into_iter().map(|(_, refusal)| refusal.to_string()).collect())
}

/// Runs until shutdown.
pub async fn run(
    mut ctx: Context,
    publish: watch::Sender<NetworkState>,
    section: Section<NetworkSection>,
    links: Arc<dyn KernelLinks>,
) -> anyhow::Result<()> {
    let mark = ctx.paths.run_root.join("systemd/timesync/synchronized");
    // Before the first look: a change in between is heard.
    let mut news =
        links.watch().inspect_err(|error| tracing::warn!("no change notices of links: {error}")).ok();
    let mut config = ctx.config.clone();
    loop {
        look(&ctx, &publish, &section, links.as_ref(), &mark);
        let heard = async {
            match &mut news {
                Some(news) => news.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard => if let Err(error) = heard {
                tracing::warn!("no more change notices of links: {error}");
                news = None;
            },
            changed = config.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = ctx.shutdown.requested() => return Ok(()),
        }
    }
}

/// The links of this node as they shall be and as they are.
fn observe(paths: &Paths, node: &Links, links: &dyn KernelLinks) -> std::io::Result<(Merged, Vec<Link>)> {
    let links = links.list()?;
    let usual = std::fs::read_to_string(paths.usual_nic()).ok();
    let usual = usual.as_deref().map(str::trim);
    Ok((effective(paths, node, &found_nics(&links), usual).0, links))
}

/// Observes once and publishes what is new.
fn look(
    ctx: &Context,
    publish: &watch::Sender<NetworkState>,
    section: &Section<NetworkSection>,
    links: &dyn KernelLinks,
    mark: &Path,
) {
    let (merged, links) = match observe(&ctx.paths, &ctx.config.borrow().network.links, links) {
        Ok(seen) => seen,
        Err(error) => return tracing::warn!("links cannot be listed: {error}"),
    };
    let vip = ctx.config.borrow().cluster.as_ref().and_then(|cluster| cluster.vip);
    let (state, shown) = view::view(&merged, &links, mark.exists(), vip);
    let trial = on_trial(&ctx.paths);
    section.set(NetworkSection { trial, ..shown });
    publish.send_if_modified(|now| {
        let is_new = *now != state;
        if is_new {
            tracing::info!(addresses = ?state.addresses, bridges = ?state.bridges, "network");
            *now = state;
        }
        is_new
    });
}

/// What is on trial, for the status.
fn on_trial(paths: &Paths) -> Option<TrialSection> {
    let trial = trial::current(paths).ok()??;
    Some(TrialSection { title: trial.title, by_hand: trial.by_hand })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;
    use sheaf_host::fakes::FakeLinks;
    use sheaf_host::links::Link;

    #[tokio::test]
    async fn an_address_that_comes_later_reaches_the_channel_and_the_status() {
        let config =
            sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"a\"\n").unwrap();
        let (ctx, publish) = crate::channels::open(Paths::under(Path::new("/nonexistent")), config);
        let links = Arc::new(FakeLinks::default());
        let mut seen = ctx.network.clone();
        let task = tokio::spawn(run(ctx.clone(), publish.network, publish.sections.network, links.clone()));
        let br0 = Link {
            name: "br0".into(),
            state: "up".into(),
            bridge_ports: Some(vec!["enp1s0".into()]),
            addresses: vec!["192.0.2.10".parse().unwrap()],
            ..Link::default()
        };
        links.set(vec![br0]);
        let state = seen.wait_for(|state| !state.addresses.is_empty()).await.unwrap().clone();
        assert_eq!(state.bridges, ["br0"]);
        assert_eq!(ctx.status.subscribe().borrow().network.links[0].ports, ["enp1s0"]);
        publish.shutdown.send_replace(true);
        task.await.unwrap().unwrap();
    }
}
