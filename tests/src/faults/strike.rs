//! What strikes a member, how long, and how it ends.
//!
//! Why here: the only place that does harm; [`super::rig`] measures it. Route in: a [`Kind`] and whom it strikes. Route out: when it ended,
//! and what else is worth telling.

use super::machine::Machine;
use super::plan::{Kind, Program};
use super::rig::{Rig, invited, runs};
use anyhow::{Context as _, Result};
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::status::ClusterSection;
use sheaf_host::run::{Command, Run as _, System};
use std::time::Instant;

impl Rig {
    /// Strikes, lets it last, and heals: when it ended, and what else is worth telling.
    pub(super) async fn strike(&mut self, kind: Kind, target: usize) -> Result<(Instant, String)> {
        let machine = &self.machines[target];
        let restarts = machine.restarts(Program::Etcd);
        let mut note = String::new();
        match kind {
            Kind::Kill(program) => {
                let pid = machine.pid(program)?;
                machine.kill(program)?;
                self.until("what was killed has ended", async || !runs(pid)).await?;
            }
            Kind::Stop(program) => {
                machine.stop(program)?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                machine.continues(program)?;
            }
            Kind::CutOff => {
                machine.plane.connect(false)?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                machine.plane.connect(true)?;
            }
            Kind::CutPair => {
                let other = &self.machines[(target + 1) % self.machines.len()];
                note = format!("; the other was {}", other.plane.name());
                blackhole("add", machine, other)?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                blackhole("delete", machine, other)?;
            }
            Kind::CutAll => {
                self.machines.iter().try_for_each(|machine| machine.plane.connect(false))?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                self.machines.iter().try_for_each(|machine| machine.plane.connect(true))?;
            }
            Kind::SlowDisk => {
                machine.disk.slow(true)?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                machine.disk.slow(false)?;
            }
            Kind::FrozenDisk => {
                let mut thaws = machine.disk.freeze(kind.lasts())?;
                tokio::task::spawn_blocking(move || thaws.wait()).await??;
            }
            Kind::FullDisk => {
                machine.disk.fill()?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                note = format!("; etcd ended {} times", machine.restarts(Program::Etcd) - restarts);
                machine.disk.empty()?;
            }
            Kind::Clock(way) => {
                machine.clock.set(way.seconds())?;
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                machine.clock.set(0)?;
            }
            Kind::StartClock(way) => {
                machine.clock.set(way.seconds())?;
                for program in [Program::Etcd, Program::ApiServer, Program::ControllerManager] {
                    machine.kill(program)?;
                }
                tokio::time::sleep(kind.lasts()).await; // how long the fault lasts
                machine.clock.set(0)?;
            }
            Kind::LostData => return self.lose(target).await,
        }
        Ok((Instant::now(), note))
    }

    /// The data of a member is gone; it is replaced as docs/cluster.md says.
    async fn lose(&mut self, target: usize) -> Result<(Instant, String)> {
        let other = (target + 1) % self.machines.len();
        let lost = &mut self.machines[target];
        lost.cut_power();
        std::fs::remove_dir_all(lost.plane.paths().etcd.join("data"))?;
        lost.start()?;
        let gone = |section: &ClusterSection| {
            let problem = section.control_plane.as_ref().and_then(|plane| plane.problem.as_deref());
            problem.is_some_and(|problem| problem.contains("the data of etcd on"))
        };
        lost.plane.section("does not say that its data is gone", gone).await?;
        let name = lost.plane.name().to_owned();
        let created = std::fs::read_to_string(lost.plane.paths().node_toml)?.contains("mode = \"create\"");
        let of = &self.machines[other].plane;
        println!("{}", invite::remove(&of.paths(), &*of.hosts.run, &name).await?);
        let table = invited(&self.machines[other]).await?;
        let note = if created {
            // The first node's node.toml makes a cluster: the machine is installed again, here under another name.
            let new = self.next_name.to_string();
            self.next_name = char::from_u32(u32::from(self.next_name) + 1).context("a letter is left")?;
            let fresh = Machine::new(&self.network, &new, &table, &self.judge)?;
            let mut former = std::mem::replace(&mut self.machines[target], fresh);
            former.cut_power();
            self.led_before.push(former.controller.led());
            drop(former);
            format!("; {name} was installed again as {new}")
        } else {
            let lost = &mut self.machines[target];
            lost.cut_power();
            let text = format!("version = 1\n[system]\nhostname = \"{name}\"\n{table}");
            std::fs::write(lost.plane.paths().node_toml, text)?;
            format!("; {name} joined again")
        };
        let back = &mut self.machines[target];
        back.start()?;
        back.up().await?;
        Ok((Instant::now(), note))
    }
}

/// Two machines do not reach each other, or do again.
fn blackhole(verb: &str, one: &Machine, other: &Machine) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let to = to.plane.address.to_string();
        let words = ["-n", from.plane.namespace(), "route", verb, "blackhole", &to];
        System.run(&Command::new("ip").args(words))?;
    }
    Ok(())
}
