//! `sheaf-agent encryption` and `sheaf-agent encryption rotate`, on a control-plane node.
//!
//! Why not over the agent: a terminal shows each step. The agent completes what this does not. Route in: arguments. Route out:
//! what was done, in words.

use super::apply::change;
use super::keys::Ring;
use super::settle;
use super::stored::{Stored, stored};
use crate::cluster::Hosts;
use crate::etcd::program::Etcd;
use crate::paths::Paths;
use crate::reconcile::blocking;
use crate::shared_keys::{self, Place, Turn, lock};
use anyhow::{Context as _, ensure};
use std::time::SystemTime;

/// What is said before the agent has made the first key.
const NONE: &str = "this control plane has no keys of Secrets yet; the agent makes them at its start";

/// Keys, and how many Secrets each encrypts.
pub async fn status(paths: &Paths, hosts: &Hosts) -> anyhow::Result<String> {
    let (run, files) = (hosts.run.clone(), paths.clone());
    let (ring, stored) = blocking(move || {
        let ring = Ring::load(&files)?.context(NONE)?;
        Ok((ring, stored(&Etcd::of(&files), &*run).context("etcd cannot be asked for its Secrets")?))
    })
    .await?;
    Ok(text(&ring, &stored))
}

fn text(ring: &Ring, stored: &Stored) -> String {
    let mut text = format!("{:<14} {:<21} {:<21} {:>7}\n", "KEY", "MADE", "USE", "SECRETS");
    for (index, key) in ring.keys.iter().enumerate() {
        let used = if index == 0 { "encrypts" } else { "decrypts" };
        let count = stored.by_key.get(&key.name).copied().unwrap_or_default();
        text += &format!("{:<14} {:<21} {used:<21} {count:>7}\n", key.name, key.made);
    }
    for key in &ring.retired {
        let count = stored.by_key.get(&key.name).copied().unwrap_or_default();
        text += &format!("{:<14} {:<21} {:<21} {count:>7}\n", key.name, key.made, "kept for snapshots");
    }
    let unknown = stored.by_key.iter().filter(|(name, _)| !ring.all().any(|key| key.name == **name));
    for (name, count) in unknown {
        text += &format!("{name:<14} {:<21} {:<21} {count:>7}\n", "-", "MISSING");
    }
    text += &match (stored.plain, ring.is_settled()) {
        (0, true) => "every Secret is encrypted with the one key in use\n".to_owned(),
        (0, false) => "a change of keys is under way; the agent completes it\n".to_owned(),
        (plain, _) => format!("{plain} Secrets are not encrypted; the agent encrypts them\n"),
    };
    text
}

/// Encrypts every Secret with a new key, or completes a rotation that was interrupted; each step is told to `say`. On one of several
/// control-plane nodes the others follow, one after the other.
pub async fn rotate(
    paths: &Paths,
    hosts: &Hosts,
    now: SystemTime,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<String> {
    let lock = lock(paths)?;
    ensure!(lock.is_some(), "the agent is changing keys of the cluster now; run this again in a few minutes");
    let place = Place { paths, hosts, now, by_hand: true };
    let mut ring = Ring::load(paths)?.context(NONE)?;
    let turn = shared_keys::turn(&place, &ring, ring.is_settled()).await?;
    let begun = matches!(turn, Turn::Begin { .. });
    if let Turn::Begin { generation, is_shared } = turn {
        ring.generation = generation;
        ring.add(now)?;
        change(paths, ring, is_shared).await?;
    } else {
        say("completing the change of keys that was under way");
    }
    shared_keys::complete(say, async || settle(place, say).await).await?;
    let ring = Ring::load(paths)?.context(NONE)?;
    let first = ring.first().map(|key| key.name.clone()).unwrap_or_default();
    let again = match begun {
        true => "",
        false => " The key is the one of that change; run this again for another.",
    };
    Ok(format!(
        "every Secret is encrypted with key {first}.{again} Save the keys of the cluster again (sheaf-agent snapshot save-keys \
         FILE): snapshots that are taken from now on cannot be restored on another machine with the former file. Keep that one \
         as long as you keep snapshots from before\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_counts_secrets_by_key_and_names_what_is_missing() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
        let mut ring = Ring::generate(now).unwrap();
        let name = ring.keys[0].name.clone();
        let by_key = [(name.clone(), 3), ("k9-ee".to_owned(), 1)].into();
        let shown = text(&ring, &Stored { by_key, plain: 2 });
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], [&name, "2020-09-13T12:26:40Z", "encrypts", "3"]);
        assert_eq!(rows[2], ["k9-ee", "-", "MISSING", "1"]);
        assert!(shown.ends_with("2 Secrets are not encrypted; the agent encrypts them\n"), "{shown}");
        ring.settled = Some(name.clone());
        let shown = text(&ring, &Stored { by_key: [(name, 3)].into(), plain: 0 });
        assert!(shown.ends_with("every Secret is encrypted with the one key in use\n"), "{shown}");
    }
}
