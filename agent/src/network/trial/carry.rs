//! Carries out single steps of a change: `ip`, files of networkd, networkd itself.
//!
//! Why off the agent's thread: a driver that resets its NIC takes seconds, in which the lease and VMs continue. Route in: a [`Step`]. Route out: it is done, or the error of the program that did not.

use super::super::change::Step;
use super::Trials;
use super::record::{Trial, uptime};
use crate::reconcile::blocking;
use anyhow::Context as _;
use sheaf_host::run::Command;
use std::time::Duration;

/// Longest run of `ip`: a driver that resets its NIC takes seconds.
const IP: Duration = Duration::from_secs(10);
/// Longest wait until networkd has processed what was done to links, and the time between two looks.
const HEARD: Duration = Duration::from_secs(8);
const HEARD_LOOK: Duration = Duration::from_millis(50);

impl Trials {
    pub(super) async fn apply(&self, trial: &Trial, steps: &[Step]) -> anyhow::Result<()> {
        for step in steps {
            tracing::info!("{}: {step}", trial.title);
            self.carry_out(step).await.with_context(|| step.to_string())?;
        }
        Ok(())
    }

    pub(super) async fn carry_out(&self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Delete(link) => self.ip(link, &["link", "delete", "dev", link]).await?,
            Step::Release(link) => {
                self.ip(link, &["link", "set", "dev", link, "nomaster", "down"]).await?;
                self.ip(link, &["address", "flush", "dev", link]).await?;
            }
            Step::Filter(link, on) => {
                let on = if *on { "1" } else { "0" };
                self.ip(link, &["link", "set", "dev", link, "type", "bridge", "vlan_filtering", on]).await?;
            }
            Step::Mtu(link, mtu) => {
                self.ip(link, &["link", "set", "dev", link, "mtu", &mtu.to_string()]).await?;
            }
            Step::Mac(link, mac) => self.ip(link, &["link", "set", "dev", link, "address", mac]).await?,
            Step::Write(file, text) => {
                let (path, text) = (self.paths.networkd().join(file), text.clone());
                blocking(move || Ok(sheaf_host::file::write_atomically(&path, text.as_bytes(), 0o644)?))
                    .await?;
            }
            Step::Remove(file) => {
                let path = self.paths.networkd().join(file);
                blocking(move || match std::fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                    _ => Ok(()),
                })
                .await?;
            }
            Step::Heard => self.heard().await?,
            Step::Reload => self.hosts.networkd.reload().await?,
            Step::Reconfigure(link) => self.hosts.networkd.reconfigure(link).await?,
        }
        Ok(())
    }

    /// Waits until networkd has processed everything that was done to links. The kernel tells it in order, so it is given
    /// a name to hear last, another one each time: what it once knew as a name of a link it does not forget.
    async fn heard(&self) -> anyhow::Result<()> {
        let name = format!("sheaf-{:x}", (uptime() * 1000.0) as u64);
        self.ip("lo", &["link", "property", "add", "dev", "lo", "altname", &name]).await?;
        let end = tokio::time::Instant::now() + HEARD;
        let heard = loop {
            match self.hosts.networkd.knows(&name).await {
                Ok(false) if tokio::time::Instant::now() < end => tokio::time::sleep(HEARD_LOOK).await,
                heard => break heard,
            }
        };
        self.ip("lo", &["link", "property", "del", "dev", "lo", "altname", &name]).await?;
        anyhow::ensure!(
            heard?,
            "systemd-networkd has not processed the deletion within {} s",
            HEARD.as_secs()
        );
        Ok(())
    }

    /// Runs `ip` about `link`, unless there is no such link.
    async fn ip(&self, link: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let (links, run) = (self.hosts.links.clone(), self.hosts.run.clone());
        let (link, command) = (link.to_owned(), Command::new("ip").args(arguments).deadline(IP));
        blocking(move || {
            if links.list()?.iter().any(|there| there.name == link) {
                run.run(&command)?;
            }
            Ok(())
        })
        .await
    }
}
