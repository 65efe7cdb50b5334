//! Who must still answer after a change: gateways, name servers, the API server; and whether the links are as asked.
//!
//! Why here: what answered before must answer after, by its own hand; what did not need not. The API server must in any
//! case: a node that it does not see runs nothing. Packets of full size are tried, since a path that swallows large ones
//! lets every small question pass. Route in: the links asked for, [`sheaf_host::reach`], [`sheaf_host::call`]. Route out:
//! [`Answer`]s, and of two rounds of them what got worse ([`worse`]).

use super::verify::verify;
use sheaf_api::node_network::enactment::Probe;
use sheaf_host::call::{Call, Request};
use sheaf_host::links::Links as KernelLinks;
use sheaf_host::reach::{Gateway, Reach};
use sheaf_host::trust::Trust;
use sheaf_links::Links;
use std::collections::BTreeSet;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// The links are as they were asked for.
pub const LINKS: &str = "links";
/// The API server answers.
pub const API_SERVER: &str = "api-server";
/// How long an answer may take. A round trip takes a thousandth; a link that just came up asks who has an address first.
const PATIENCE: Duration = Duration::from_secs(3);
/// An echo that every path carries.
const SMALL: usize = 84;

/// The API server to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// `https://HOST:6443`.
    pub url: String,
    /// The cluster's CA, PEM.
    pub ca: Option<String>,
}

/// One question and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the question.
    pub name: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// What was found.
    pub message: String,
}

/// Whom to ask.
pub struct Questions<'a> {
    /// Gateways and name servers.
    pub reach: &'a dyn Reach,
    /// The API server.
    pub call: &'a dyn Call,
    /// The kernel's links.
    pub links: &'a dyn KernelLinks,
    /// None where the node is in no cluster.
    pub api_server: Option<&'a ApiServer>,
}

impl Questions<'_> {
    /// Asks all at once and waits for the last. With links to be verified, and the names of those that worked before,
    /// asks about them, too. Blocks.
    pub fn ask(&self, verified: Option<(&Links, &BTreeSet<String>)>) -> Vec<Answer> {
        let gateways = self.reach.gateways().unwrap_or_default();
        std::thread::scope(|scope| {
            let mut rounds: Vec<ScopedJoinHandle<'_, Vec<Answer>>> = Vec::new();
            for gateway in &gateways {
                rounds.push(scope.spawn(|| self.gateway(gateway)));
            }
            rounds.push(scope.spawn(|| self.dns().into_iter().collect()));
            if let Some(server) = self.api_server {
                rounds.push(scope.spawn(|| vec![self.api(server)]));
            }
            let links = verified.map(|(network, before)| self.verified(network, before));
            // A thread that panicked asked nothing: its question counts as unanswered.
            let answers = rounds.into_iter().flat_map(|round| round.join().unwrap_or_default());
            links.into_iter().chain(answers).collect()
        })
    }

    fn verified(&self, network: &Links, before: &BTreeSet<String>) -> Answer {
        let (passed, message) = match self.links.list() {
            Err(error) => (false, format!("links cannot be listed: {error}")),
            Ok(links) => {
                let findings = verify(network, &links, before);
                let said: Vec<_> = findings.iter().map(|finding| finding.what.as_str()).collect();
                (findings.iter().all(|finding| !finding.is_grave), said.join("; "))
            }
        };
        Answer { name: LINKS, passed, message }
    }

    fn gateway(&self, gateway: &Gateway) -> Vec<Answer> {
        let Gateway { address, link } = gateway;
        let (name, packets) = match address.is_ipv4() {
            true => ("gateway", "packets"),
            false => ("gateway-ipv6", "packets-ipv6"),
        };
        let mtu = self.links.list().ok().and_then(|links| links.into_iter().find(|is| is.name == *link));
        let mtu = mtu.map_or(0, |link| link.mtu as usize);
        let passed = self.reach.echoes(gateway, SMALL, PATIENCE) || self.reach.knocks(gateway, PATIENCE);
        let word = if passed { "answers" } else { "does not answer" };
        let mut answers = vec![Answer { name, passed, message: format!("{address} over {link} {word}") }];
        if passed && mtu > SMALL {
            let passed = self.reach.echoes(gateway, mtu, PATIENCE);
            let word = if passed { "returns" } else { "does not return" };
            let message = format!("{address} over {link} {word} packets of {mtu} bytes");
            answers.push(Answer { name: packets, passed, message });
        }
        answers
    }

    fn dns(&self) -> Option<Answer> {
        let servers = self.reach.name_servers();
        if servers.is_empty() {
            return None;
        }
        let answers = servers.iter().find(|server| self.reach.answers(**server, PATIENCE));
        let (passed, message) = match answers {
            Some(server) => (true, format!("{server} answers")),
            None => {
                let all: Vec<_> = servers.iter().map(ToString::to_string).collect();
                (false, format!("no name server answers: {}", all.join(", ")))
            }
        };
        Some(Answer { name: "dns", passed, message })
    }

    fn api(&self, server: &ApiServer) -> Answer {
        let trust = server.ca.clone().map_or(Trust::Anyone, Trust::Authorities);
        let request = Request::get(format!("{}/livez", server.url), trust, PATIENCE);
        // Any answer is one: 401 and 500 came over the network, too.
        let (passed, message) = match self.call.call(&request) {
            Ok(reply) => (true, format!("{} answers ({})", server.url, reply.status)),
            Err(error) => (false, format!("{error}: {}", root(&error))),
        };
        Answer { name: API_SERVER, passed, message }
    }
}

/// The first cause, in one line.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The first of `after` that got worse: what passed before must pass, links must be as asked, and the API server must
/// answer when `api_always`.
pub fn worse(before: &[Answer], after: &[Answer], api_always: bool) -> Option<Answer> {
    let passed = |name: &str| before.iter().any(|answer| answer.name == name && answer.passed);
    let must = |name: &str| name == LINKS || (name == API_SERVER && api_always) || passed(name);
    if let Some(answer) = after.iter().find(|answer| !answer.passed && must(answer.name)) {
        return Some(answer.clone());
    }
    // A question that can no longer be asked: there is no gateway, no name server any more.
    let gone = before.iter().find(|old| old.passed && after.iter().all(|new| new.name != old.name))?;
    let message = match gone.name {
        name if name.starts_with("gateway") => "the default gateway is gone".to_owned(),
        "dns" => "the name servers are gone".to_owned(),
        name if name.starts_with("packets") => return None, // told by its gateway
        name => format!("{name} can no longer be checked"),
    };
    Some(Answer { name: gone.name, passed: false, message })
}

/// All rounds side by side, for the report.
pub fn table(before: &[Answer], after: &[Answer], restored: &[Answer]) -> Vec<Probe> {
    let mut names: Vec<&'static str> = Vec::new();
    for answer in before.iter().chain(after).chain(restored) {
        if !names.contains(&answer.name) {
            names.push(answer.name);
        }
    }
    let find = |answers: &[Answer], name: &str| answers.iter().find(|answer| answer.name == name).cloned();
    let row = |name: &'static str| {
        let (before, after, restored) = (find(before, name), find(after, name), find(restored, name));
        // What the change did to it says more than that everything works again.
        let told = after.clone().or(before.clone()).or(restored.clone());
        Probe {
            name: name.to_owned(),
            before: before.map(|answer| answer.passed),
            after: after.map(|answer| answer.passed),
            restored: restored.map(|answer| answer.passed),
            message: told.map(|answer| answer.message).filter(|message| !message.is_empty()),
        }
    };
    names.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::{Answers, FakeCall, FakeLinks, FakeReach};
    use sheaf_host::links::Link;

    fn ask(largest: usize, dns: bool, api: bool, mtu: u32) -> Vec<Answer> {
        let reach = FakeReach::default();
        let gateway = Gateway { address: "10.0.2.2".parse().unwrap(), link: "br0".into() };
        reach.set(Answers {
            gateways: vec![(gateway, largest)],
            name_servers: vec![("10.0.2.3".parse().unwrap(), dns)],
        });
        let call =
            if api { FakeCall::default().answers("https://a:6443", 401, "") } else { FakeCall::default() };
        let links = FakeLinks::default();
        links.set(vec![Link { name: "br0".into(), mtu, ..Link::default() }]);
        let server = ApiServer { url: "https://a:6443".into(), ca: None };
        Questions { reach: &reach, call: &call, links: &links, api_server: Some(&server) }.ask(None)
    }

    #[test]
    fn what_answered_before_must_answer_after_and_what_did_not_need_not() {
        let well = ask(1500, true, true, 1500);
        assert!(well.iter().all(|answer| answer.passed), "{well:?}");
        assert_eq!(worse(&well, &well, true), None);
        let (silent, no_dns) = (ask(0, true, true, 1500), ask(1500, false, true, 1500));
        assert_eq!(worse(&well, &silent, true).unwrap().message, "10.0.2.2 over br0 does not answer");
        assert_eq!(worse(&silent, &silent, true), None);
        assert_eq!(worse(&no_dns, &no_dns, true), None);
        assert_eq!(worse(&well, &no_dns, true).unwrap().message, "no name server answers: 10.0.2.3");
    }

    #[test]
    fn large_packets_that_vanish_are_noticed() {
        let (before, after) = (ask(1500, true, true, 1500), ask(1500, true, true, 9000));
        let worse = worse(&before, &after, true).unwrap();
        let expected = ("packets", "10.0.2.2 over br0 does not return packets of 9000 bytes");
        assert_eq!((worse.name, worse.message.as_str()), expected);
    }

    #[test]
    fn the_api_server_must_answer_always_unless_someone_mends_the_node_by_hand() {
        let away = ask(1500, true, false, 1500);
        assert_eq!(worse(&away, &away, true).unwrap().name, API_SERVER);
        assert_eq!(worse(&away, &away, false), None);
    }

    #[test]
    fn a_gateway_that_is_gone_altogether_is_worse() {
        let before = ask(1500, true, true, 1500);
        let after: Vec<_> = before.iter().filter(|answer| answer.name.starts_with('d')).cloned().collect();
        assert_eq!(worse(&before, &after, false).unwrap().message, "the default gateway is gone");
    }
}
