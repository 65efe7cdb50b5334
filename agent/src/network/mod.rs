//! Controller `network`: says how this node is reached.
//!
//! Reads: the node config, links and addresses of the kernel, timesyncd's mark of a set clock. Owns: the channel
//! `network` and the section `network` of the status. Never touches: any link or address; networkd does, by the
//! files that `config` wrote.

mod problems;
mod view;

use crate::channels::{Context, NetworkState};
use sheaf_host::links::Links;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks when nothing is heard: timesyncd's mark makes no news, and news can be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Runs until shutdown.
pub async fn run(
    mut ctx: Context,
    publish: watch::Sender<NetworkState>,
    links: Arc<dyn Links>,
) -> anyhow::Result<()> {
    let mark = ctx.paths.run_root.join("systemd/timesync/synchronized");
    // Before the first look: a change in between is heard.
    let mut news = links.watch().inspect_err(|error| tracing::warn!("no news of links: {error}")).ok();
    let mut config = ctx.config.clone();
    loop {
        look(&ctx, &publish, links.as_ref(), &mark);
        let heard = async {
            match &mut news {
                Some(news) => news.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard => if let Err(error) = heard {
                tracing::warn!("no more news of links: {error}");
                news = None;
            },
            changed = config.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = ctx.shutdown.requested() => return Ok(()),
        }
    }
}

/// Observes once and publishes what is new.
fn look(ctx: &Context, publish: &watch::Sender<NetworkState>, links: &dyn Links, mark: &Path) {
    let links = match links.list() {
        Ok(links) => links,
        Err(error) => return tracing::warn!("links can not be listed: {error}"),
    };
    let (state, section) = view::view(&ctx.config.borrow().network, &links, mark.exists());
    ctx.status.update(|status| status.network = section);
    publish.send_if_modified(|now| {
        let is_new = *now != state;
        if is_new {
            tracing::info!(addresses = ?state.addresses, bridges = ?state.bridges, "network");
            *now = state;
        }
        is_new
    });
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
        let task = tokio::spawn(run(ctx.clone(), publish.network, links.clone()));
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
