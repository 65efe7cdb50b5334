//! Tries the probes, one after the other, and says what each came to.
//!
//! Why in order: each needs what came before it, and the first that fails is the one to fix; what depends on it is
//! skipped and said to be. Static addresses are set only after nobody else was heard to have them.
//! Route in: probes, the config, [`Net`] and [`Call`]. Route out: outcomes, told as they come.

use super::cluster;
use super::{Outcome, Probe, State, What, files};
use crate::inventory::Inventory;
use sheaf_config::cluster_info::ClusterInfo;
use sheaf_config::node::{NodeConfig, Secret};
use sheaf_config::pin::CaPin;
use sheaf_config::select::found_nics;
use sheaf_host::call::Call;
use sheaf_host::net::{Lease, Net, NetLink};
use sheaf_host::wait;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long each kind of thing may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// A link to come up: switches look for loops for up to 30 s before they let anything through.
    pub link: Duration,
    /// DHCP: three tries of networkd.
    pub dhcp: Duration,
    /// An answer of a neighbour or a server.
    pub answer: Duration,
    /// Between two checks.
    pub interval: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            link: Duration::from_secs(35),
            dhcp: Duration::from_secs(30),
            answer: Duration::from_secs(5),
            interval: Duration::from_millis(200),
        }
    }
}

impl Timeouts {
    /// Where nothing is required, nobody is kept waiting for long: the node comes up without a network, too.
    pub fn for_probes(probes: &[Probe]) -> Self {
        match probes.iter().any(|probe| probe.required) {
            true => Self::default(),
            false => Self { link: SHORT, dhcp: SHORT, ..Self::default() },
        }
    }
}

/// A link that comes up, and a DHCP server that is there, take less.
const SHORT: Duration = Duration::from_secs(10);
/// Farthest that a clock may be off, in seconds: half of what a new certificate is valid before its making.
const SKEW: f64 = 120.0;

/// What probes are tried with.
pub struct Attempt<'a> {
    /// The config.
    pub config: &'a NodeConfig,
    /// The machine.
    pub inventory: &'a Inventory,
    /// Its network.
    pub net: &'a dyn Net,
    /// Servers.
    pub call: &'a dyn Call,
    /// How long to wait.
    pub timeouts: Timeouts,
}

/// What one probe found: words, and a remedy when it is not as it should be.
type Found = Result<String, (String, String)>;

/// What later probes know of earlier ones.
#[derive(Default)]
struct Known {
    /// Something that everything later needs failed: what it was.
    broken: Option<String>,
    leases: Vec<Lease>,
    info: Option<ClusterInfo>,
}

/// Tries `probes`; `tell` hears of each when it begins and when it ends. The machine's network follows the config then.
pub fn run(attempt: &Attempt<'_>, probes: &[Probe], tell: &mut dyn FnMut(&Outcome)) -> Vec<Outcome> {
    let mut known = Known::default();
    let has_static = probes.iter().any(|probe| matches!(probe.what, What::Free { .. }));
    let mut with_addresses = !has_static;
    known.broken = attempt.configure(with_addresses);
    let mut outcomes = Vec::new();
    for probe in probes {
        let is_first_layer = matches!(probe.what, What::Link { .. } | What::Free { .. });
        if !is_first_layer && !with_addresses && known.broken.is_none() {
            with_addresses = true;
            known.broken = attempt.configure(true);
        }
        let mut outcome = Outcome {
            probe: probe.clone(),
            state: State::Running,
            found: String::new(),
            remedy: None,
            took: Duration::ZERO,
        };
        tell(&outcome);
        let begin = Instant::now();
        match &known.broken {
            Some(broken) => {
                (outcome.state, outcome.found) = (State::Skipped, broken.clone());
            }
            None => {
                let found = attempt.probe(&probe.what, &mut known);
                outcome.took = begin.elapsed();
                match found {
                    Ok(found) => (outcome.state, outcome.found) = (State::Passed, found),
                    Err((found, remedy)) => {
                        outcome.state = if probe.required { State::Failed } else { State::Warned };
                        (outcome.found, outcome.remedy) = (found, Some(remedy));
                    }
                }
            }
        }
        if outcome.state == State::Failed {
            known.broken = Some(format!("not tried, because this failed: {}", probe.what));
        }
        tell(&outcome);
        outcomes.push(outcome);
    }
    outcomes
}

impl Attempt<'_> {
    /// Brings the links up; what is broken when it does not work.
    fn configure(&self, addresses: bool) -> Option<String> {
        let files = files::of(&self.config.network, &found_nics(&self.inventory.nics), addresses);
        let error = self.net.configure(&files).err()?;
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Some(format!("not tried, because the network cannot be brought up: {error}{source}"))
    }

    fn probe(&self, what: &What, known: &mut Known) -> Found {
        match what {
            What::Link { nic } => self.link(nic),
            What::Free { link, address } => self.free(link, *address),
            What::Dhcp { link, vlan } => self.dhcp(link, *vlan, known),
            What::Gateway { address } => self.gateway(*address, known),
            What::Dns { name } => self.dns(name),
            What::Time { server } => {
                let given = known.leases.iter().flat_map(|lease| lease.ntp.first()).next().cloned();
                match server.clone().or(given) {
                    Some(server) => self.time(&server),
                    None => Err((
                        "DHCP gave none".into(),
                        "write ntp in [network]; until then the node's clock stays as the firmware set it"
                            .into(),
                    )),
                }
            }
            What::ApiServer { server } => {
                let pin = self.config.cluster.as_ref().and_then(|cluster| cluster.ca_hash.as_deref());
                let pin = pin.and_then(|pin| pin.parse::<CaPin>().ok());
                let info = cluster::recognise(self.call, server, pin, self.timeouts.answer * 2)?;
                known.info = Some(info);
                Ok(match pin {
                    Some(_) => "it answers, and its CA is the pinned one".into(),
                    None => "it answers; node.toml pins no CA".into(),
                })
            }
            What::Token { .. } => {
                let token = self.config.cluster.as_ref().and_then(|cluster| cluster.token.as_ref());
                let none = Secret(String::new());
                let Some(info) = &known.info else {
                    return Err(("the API server was not reached".into(), "fix that first".into()));
                };
                cluster::knows(info, token.unwrap_or(&none))?;
                Ok("the cluster knows it".into())
            }
        }
    }

    /// The link `name` once `is_ready` with it.
    fn wait_for(
        &self,
        name: &str,
        timeout: Duration,
        is_ready: impl Fn(&NetLink) -> bool,
    ) -> Result<NetLink, Waited> {
        let mut is_there = false;
        let ready = wait::until(timeout, self.timeouts.interval, || {
            let link = self.net.links().ok()?.into_iter().find(|link| link.name == name);
            is_there = link.is_some();
            link.filter(&is_ready)
        });
        ready.ok_or(if is_there { Waited::TimedOut } else { Waited::NoSuchLink })
    }

    fn link(&self, nic: &str) -> Found {
        match self.wait_for(nic, self.timeouts.link, |link| link.carrier == Some(true)) {
            Ok(_) => Ok("it is connected".into()),
            Err(Waited::NoSuchLink) => {
                Err(("there is no such NIC".into(), "correct the NIC in [network]".into()))
            }
            Err(Waited::TimedOut) => Err((
                format!("no signal for {} s", self.timeouts.link.as_secs()),
                "plug the cable in, or switch the switch's port on".into(),
            )),
        }
    }

    fn free(&self, link: &str, address: IpAddr) -> Found {
        let IpAddr::V4(v4) = address else { return Ok("IPv6: the kernel checks this".into()) };
        let up = self.wait_for(link, self.timeouts.link, |link| link.carrier == Some(true));
        if up.is_err() {
            let remedy = "check the cables and ports under it";
            return Err((format!("{link} does not come up"), remedy.into()));
        }
        match self.net.owner(link, v4, self.timeouts.answer.min(Duration::from_secs(3))) {
            Ok(None) => Ok("no other machine uses it".into()),
            Ok(Some(mac)) => Err((
                format!("the machine with the MAC {mac} has it"),
                "write another address, or take that machine off the network".into(),
            )),
            Err(error) => Err((format!("it cannot be asked for: {error}"), "check the link".into())),
        }
    }

    fn dhcp(&self, link: &str, vlan: Option<u16>, known: &mut Known) -> Found {
        let found = self.wait_for(link, self.timeouts.dhcp, |link| link.lease.is_some());
        match found.map(|link| link.lease) {
            Ok(Some(lease)) => {
                let from = lease.server.map(|server| format!(" from {server}")).unwrap_or_default();
                let found = format!("{}{from}", lease.address);
                known.leases.push(lease);
                Ok(found)
            }
            _ => Err((
                format!("no answer in {} s", self.timeouts.dhcp.as_secs()),
                match vlan {
                    Some(vlan) => format!(
                        "the switch port must carry VLAN {vlan} tagged, and a DHCP server must be in it; or write addresses"
                    ),
                    None => "start a DHCP server on this network; if the network is tagged, write [[network.vlan]]; or write addresses"
                        .into(),
                },
            )),
        }
    }

    fn gateway(&self, address: Option<IpAddr>, known: &Known) -> Found {
        let given = known.leases.iter().find_map(|lease| lease.router);
        let Some(gateway) = address.or(given) else {
            return Err((
                "DHCP gave none".into(),
                "the node reaches only its own network; set the router in the DHCP server, or write gateway"
                    .into(),
            ));
        };
        // A link that came up just now may still be without its address and its route.
        let timeout = self.timeouts.answer;
        let there = wait::until(timeout * 2, self.timeouts.interval, || {
            self.net.is_there(gateway, timeout).then_some(())
        });
        match there {
            Some(()) => Ok(format!("{gateway} answers")),
            None => Err((
                format!("{gateway} does not answer on the link"),
                "check gateway and the prefix length of the address; is the router up?".into(),
            )),
        }
    }

    fn dns(&self, name: &str) -> Found {
        // The first answer after a link came up may be late: a name server is asked again.
        let mut last = String::new();
        let found =
            wait::until(self.timeouts.answer * 2, self.timeouts.interval, || match self.net.resolve(name) {
                Ok(addresses) if !addresses.is_empty() => Some(addresses),
                Ok(_) => None,
                Err(error) => {
                    last = error.to_string();
                    None
                }
            });
        match found {
            Some(addresses) => Ok(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            None => Err((
                if last.is_empty() { "no address".into() } else { last },
                "correct dns in [network] or the name, or write server by its address".into(),
            )),
        }
    }

    fn time(&self, server: &str) -> Found {
        match self.net.clock_ahead(server, self.timeouts.answer) {
            Ok(ahead) if ahead.abs() <= SKEW => {
                Ok(format!("{server}: the clock is {:.1} s off", ahead.abs()))
            }
            Ok(ahead) => Err((
                format!(
                    "{server}: this machine's clock is {:.0} s {}",
                    ahead.abs(),
                    if ahead > 0.0 { "behind" } else { "ahead" }
                ),
                "the node sets its clock before it joins; correct it in the firmware anyway".into(),
            )),
            Err(error) => Err((
                format!("{server}: {error}"),
                "correct ntp in [network], or let NTP (UDP port 123) through the firewall".into(),
            )),
        }
    }
}

/// Why a link is not what was waited for.
enum Waited {
    /// It is there, but not ready in time.
    TimedOut,
    /// There is no such link.
    NoSuchLink,
}

#[cfg(test)]
mod tests;
