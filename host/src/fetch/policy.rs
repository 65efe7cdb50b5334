//! Which servers may be fetched from: the rules of an administrator over names, ports and resolved addresses.
//!
//! Why here: a URL that a tenant wrote is fetched by a program of root's, from inside the node's networks (server-side
//! request forgery). A name proves nothing, so the address that is connected to is judged, each time. Pure. Route in: rules,
//! a host, a port, an address. Route out: allowed, or a [`Refusal`] that says why.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that no node fetches from unless a rule names them: what they reach is the node itself, its neighbours on the
/// link, or nothing. RFC 6890, RFC 4291, RFC 3927 (169.254.169.254 is the metadata service of clouds).
const ALWAYS_PROTECTED: &[(&str, &str)] = &[
    ("0.0.0.0/8", "the node itself"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "the node itself"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// What an administrator says of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Servers that may be used; empty means all that are neither denied nor protected.
    pub allow: Vec<Rule>,
    /// Servers that may not be used, whatever `allow` says.
    pub deny: Vec<Rule>,
    /// Networks that are refused unless a rule of `allow` names them, with what they are.
    pub protected: Vec<(IpNet, String)>,
    /// Whether a redirect may lead from https to http.
    pub allow_downgrade: bool,
    /// Nothing is judged: an administrator of this machine wrote the URL.
    pub trusted: bool,
}

/// A set of servers: those that match each of the lists that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Networks in which the address lies.
    pub networks: Vec<IpNet>,
    /// The name in the URL: itself, or `*.example.org` for every name below that domain.
    pub hosts: Vec<String>,
    /// Ports.
    pub ports: Vec<u16>,
}

/// Why a server may not be fetched from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its address is protected.
    #[error("the ImportPolicy does not allow {host}: its address is protected ({what})")]
    Protected {
        /// The host as the URL names it.
        host: String,
        /// What the address belongs to.
        what: String,
    },
    /// A rule denies it.
    #[error("the ImportPolicy denies {host} port {port}")]
    Denied {
        /// The host as the URL names it.
        host: String,
        /// The port.
        port: u16,
    },
    /// No rule allows it.
    #[error("the ImportPolicy does not allow {host} port {port}")]
    NotAllowed {
        /// The host as the URL names it.
        host: String,
        /// The port.
        port: u16,
    },
    /// https led to http.
    #[error("{host} redirects from https to http, which the ImportPolicy does not allow")]
    Downgrade {
        /// The host that would be asked over http.
        host: String,
    },
}

impl Policy {
    /// Everything is allowed: for URLs that an administrator of the node wrote.
    pub fn trusted() -> Self {
        Self { trusted: true, ..Self::default() }
    }

    /// The same with the addresses of this machine protected, as they are now.
    pub(super) fn protecting_this_machine(&self) -> std::io::Result<Self> {
        let mut policy = self.clone();
        if !self.trusted {
            let own = crate::links::own_addresses()?;
            policy
                .protected
                .extend(own.into_iter().map(|address| (address.into(), "an address of the node".to_owned())));
        }
        Ok(policy)
    }

    /// Whether `host` may be connected to at `address`, which its name was resolved to.
    pub fn judge(&self, host: &str, port: u16, address: IpAddr) -> Result<(), Refusal> {
        if self.trusted {
            return Ok(());
        }
        let server = Server::new(host, port, canonical(address));
        let denied = |server: &Server<'_>| self.deny.iter().any(|rule| rule.matches(server));
        if denied(&server) || server.embedded().is_some_and(|inner| denied(&inner)) {
            return Err(server.denied());
        }
        for server in [Some(server), server.embedded()].into_iter().flatten() {
            if let Some((network, what)) = self.protection(server.address)
                && !self.allow.iter().any(|rule| rule.opens(&server, network))
            {
                return Err(Refusal::Protected { host: host.into(), what });
            }
        }
        self.must_allow(&server)
    }

    /// Whether `host` may be asked for through a proxy, which alone knows its address. Rules over networks match nothing
    /// then, except for a host that is an address.
    pub fn judge_name(&self, host: &str, port: u16) -> Result<(), Refusal> {
        if self.trusted {
            return Ok(());
        }
        if let Ok(address) = bare(host).parse() {
            return self.judge(host, port, address);
        }
        let server = Server::new(host, port, None);
        // Names that every resolver answers with loopback (RFC 6761).
        if server.host == "localhost" || server.host.ends_with(".localhost") {
            return Err(Refusal::Protected { host: host.into(), what: "loopback".into() });
        }
        if self.deny.iter().any(|rule| rule.matches(&server)) {
            return Err(server.denied());
        }
        self.must_allow(&server)
    }

    /// Whether a redirect may continue with `to_https` at `host`, from a URL that was https or not.
    pub fn judge_redirect(&self, was_https: bool, to_https: bool, host: &str) -> Result<(), Refusal> {
        match was_https && !to_https && !self.allow_downgrade && !self.trusted {
            true => Err(Refusal::Downgrade { host: host.into() }),
            false => Ok(()),
        }
    }

    fn must_allow(&self, server: &Server<'_>) -> Result<(), Refusal> {
        match self.allow.is_empty() || self.allow.iter().any(|rule| rule.matches(server)) {
            true => Ok(()),
            false => Err(Refusal::NotAllowed { host: server.raw.into(), port: server.port }),
        }
    }

    /// The narrowest protected network in which `address` lies.
    fn protection(&self, address: Option<IpAddr>) -> Option<(IpNet, String)> {
        let address = address?;
        let always = ALWAYS_PROTECTED
            .iter()
            .filter_map(|(network, what)| Some((network.parse::<IpNet>().ok()?, (*what).to_owned())));
        let all = always.chain(self.protected.iter().cloned());
        all.filter(|(network, _)| network.contains(&address)).max_by_key(|(network, _)| network.prefix_len())
    }
}

/// What is judged.
#[derive(Clone, Copy)]
struct Server<'a> {
    raw: &'a str,
    host: &'a str,
    port: u16,
    address: Option<IpAddr>,
}

impl<'a> Server<'a> {
    fn new(host: &'a str, port: u16, address: impl Into<Option<IpAddr>>) -> Self {
        Self { raw: host, host: bare(host), port, address: address.into() }
    }

    fn denied(&self) -> Refusal {
        Refusal::Denied { host: self.raw.into(), port: self.port }
    }

    /// The same server by the IPv4 address within its IPv6 address, which a translator or tunnel would lead to.
    fn embedded(self) -> Option<Self> {
        let Some(IpAddr::V6(address)) = self.address else { return None };
        Some(Self { address: Some(embedded(address)?.into()), ..self })
    }
}

/// A host without the brackets of IPv6 addresses and the dot at the end.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
}

/// An IPv4 address in an IPv6 socket is that IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The IPv4 address within NAT64 (RFC 6052), 6to4 (RFC 3056) and IPv4-compatible (RFC 4291) addresses.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        (0x64, 0xff9b) => of(g, h),
        (0x2002, _) => of(b, c),
        (0, 0) if [c, d, e, f] == [0; 4] && (g, h) != (0, 0) && (g, h) != (0, 1) => of(g, h),
        _ => None,
    }
}

impl Rule {
    fn matches(&self, server: &Server<'_>) -> bool {
        let networks = self.networks.is_empty()
            || server
                .address
                .is_some_and(|address| self.networks.iter().any(|network| network.contains(&address)));
        networks && self.matches_name(server)
    }

    fn matches_name(&self, server: &Server<'_>) -> bool {
        let hosts = self.hosts.is_empty() || self.hosts.iter().any(|pattern| is_host(pattern, server.host));
        hosts && (self.ports.is_empty() || self.ports.contains(&server.port))
    }

    /// Whether it allows `server` although its address is protected: it must name a network within the protected one, so
    /// that `0.0.0.0/0` opens nothing that is protected.
    fn opens(&self, server: &Server<'_>, protected: IpNet) -> bool {
        let named = |network: &&IpNet| protected.contains(*network);
        let within = |network: &IpNet| server.address.is_some_and(|address| network.contains(&address));
        self.networks.iter().filter(named).any(within) && self.matches_name(server)
    }
}

/// Whether `host` is what `pattern` names.
fn is_host(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_end_matches('.');
    match pattern.strip_prefix("*.") {
        Some(domain) => host
            .len()
            .checked_sub(domain.len())
            .and_then(|at| Some((host.get(..at)?, host.get(at..)?)))
            .is_some_and(|(front, end)| {
                end.eq_ignore_ascii_case(domain) && front.len() > 1 && front.ends_with('.')
            }),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn rule(cidrs: &[&str], hosts: &[&str], ports: &[u16]) -> Rule {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Rule { networks: networks(cidrs), hosts, ports: ports.to_vec() }
    }

    fn is_allowed(policy: &Policy, host: &str, port: u16, address: &str) -> bool {
        policy.judge(host, port, address.parse().unwrap()).is_ok()
    }

    /// xorshift64*: the same numbers from the same seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn address(&mut self) -> IpAddr {
            match self.next() % 4 {
                0 => Ipv4Addr::from_bits(self.next() as u32).into(),
                1 => Ipv4Addr::from_bits(self.next() as u32).to_ipv6_mapped().into(),
                _ => Ipv6Addr::from_bits(u128::from(self.next()) << 64 | u128::from(self.next())).into(),
            }
        }

        fn network(&mut self) -> IpNet {
            let address = self.address();
            let longest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, (self.next() % (longest + 1)) as u8).unwrap()
        }

        fn rule(&mut self) -> Rule {
            let hosts = ["a.example", "*.example", "b.example"];
            let mut rule = Rule::default();
            if self.next().is_multiple_of(2) {
                rule.networks = vec![self.network()];
            }
            if self.next().is_multiple_of(3) {
                rule.hosts = vec![hosts[(self.next() % 3) as usize].into()];
            }
            if self.next().is_multiple_of(3) {
                rule.ports = vec![[80, 443, 8080][(self.next() % 3) as usize]];
            }
            rule
        }

        fn policy(&mut self) -> Policy {
            let count = |random: &mut Self| (0..random.next() % 3).map(|_| random.rule()).collect();
            Policy {
                allow: count(self),
                deny: count(self),
                protected: (0..self.next() % 3).map(|_| (self.network(), "x".into())).collect(),
                ..Policy::default()
            }
        }
    }

    #[test]
    fn without_rules_everything_is_allowed_but_the_node_and_its_links() {
        let policy = Policy {
            protected: vec![("10.1.2.3/32".parse().unwrap(), "a node".into())],
            ..Policy::default()
        };
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "10.1.2.3",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            // IPv4 by other names.
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::127.0.0.1",
        ] {
            assert!(!is_allowed(&policy, "a.example", 443, address), "{address}");
        }
        for address in ["192.0.2.7", "10.1.2.4", "2001:db8::1", "::ffff:192.0.2.7", "64:ff9b::c000:207"] {
            assert!(is_allowed(&policy, "a.example", 443, address), "{address}");
        }
    }

    #[test]
    fn a_protected_address_is_opened_only_by_a_rule_that_names_it() {
        let all = Policy { allow: vec![rule(&["0.0.0.0/0", "::/0"], &[], &[])], ..Policy::default() };
        assert!(is_allowed(&all, "a.example", 80, "192.0.2.1"));
        assert!(!is_allowed(&all, "a.example", 80, "127.0.0.1"));
        let named = Policy { allow: vec![rule(&["127.0.0.0/8"], &[], &[8080])], ..Policy::default() };
        assert!(is_allowed(&named, "a.example", 8080, "127.0.0.1"));
        assert!(!is_allowed(&named, "a.example", 80, "127.0.0.1"));
        assert!(!is_allowed(&named, "a.example", 8080, "192.0.2.1"));
    }

    #[test]
    fn rules_match_networks_names_and_ports_together_and_deny_wins() {
        let policy = Policy {
            allow: vec![rule(&[], &["*.example.org", "mirror"], &[443]), rule(&["192.0.2.0/24"], &[], &[])],
            deny: vec![rule(&["192.0.2.9/32"], &[], &[]), rule(&[], &["old.example.org"], &[])],
            ..Policy::default()
        };
        assert!(is_allowed(&policy, "IMAGES.example.org.", 443, "198.51.100.1"));
        assert!(is_allowed(&policy, "mirror", 443, "198.51.100.1"));
        assert!(is_allowed(&policy, "anything", 80, "192.0.2.8"));
        for (host, port, address) in [
            ("images.example.org", 80, "198.51.100.1"),
            ("example.org", 443, "198.51.100.1"),
            ("badexample.org", 443, "198.51.100.1"),
            (".example.org", 443, "198.51.100.1"),
            ("old.example.org", 443, "192.0.2.8"),
            ("anything", 80, "192.0.2.9"),
            ("anything", 80, "::ffff:192.0.2.9"),
        ] {
            assert!(!is_allowed(&policy, host, port, address), "{host} {port} {address}");
        }
    }

    #[test]
    fn behind_a_proxy_names_and_literal_addresses_are_judged() {
        let policy = Policy { deny: vec![rule(&[], &["bad.example"], &[])], ..Policy::default() };
        assert!(policy.judge_name("good.example", 443).is_ok());
        for host in ["bad.example", "127.0.0.1", "[::1]", "169.254.169.254", "localhost", "a.localhost."] {
            assert!(policy.judge_name(host, 443).is_err(), "{host}");
        }
        let only = Policy { allow: vec![rule(&["192.0.2.0/24"], &[], &[])], ..Policy::default() };
        assert!(only.judge_name("192.0.2.1", 443).is_ok());
        assert!(only.judge_name("good.example", 443).is_err(), "its network is not known");
    }

    #[test]
    fn https_does_not_lead_to_http_unless_that_is_allowed() {
        let strict = Policy::default();
        assert!(strict.judge_redirect(true, false, "a").is_err());
        assert!(strict.judge_redirect(true, true, "a").is_ok());
        assert!(strict.judge_redirect(false, false, "a").is_ok());
        let lax = Policy { allow_downgrade: true, ..Policy::default() };
        assert!(lax.judge_redirect(true, false, "a").is_ok());
    }

    /// What holds whatever the rules say.
    #[test]
    fn no_rules_open_what_is_protected_without_naming_it_and_a_further_denial_never_opens_anything() {
        let mut random = Random(0x5eaf);
        let mut refused = 0;
        for _ in 0..20_000 {
            let (policy, address) = (random.policy(), random.address());
            let (host, port) = ("a.example", [80, 443, 8080][(random.next() % 3) as usize]);
            let verdict = policy.judge(host, port, address);
            refused += usize::from(verdict.is_err());
            let canonical = address.to_canonical();
            let protected = policy.protection(Some(canonical));
            if let (Ok(()), Some((network, _))) = (&verdict, protected) {
                let names =
                    policy.allow.iter().flat_map(|rule| &rule.networks).any(|own| network.contains(own));
                assert!(names, "{policy:?} opens {address}");
            }
            let mut stricter = policy.clone();
            stricter.deny.push(random.rule());
            assert!(
                verdict.is_ok() || stricter.judge(host, port, address).is_err(),
                "{stricter:?} {address}"
            );
            // The same address by its other spelling is judged the same.
            let mapped = match address {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
                IpAddr::V6(_) => canonical,
            };
            assert_eq!(policy.judge(host, port, mapped), verdict);
            let everything = Policy { deny: vec![Rule::default()], ..policy };
            assert!(everything.judge(host, port, address).is_err());
        }
        assert!(
            (1000..19_000).contains(&refused),
            "{refused} of 20000 were refused: the test tries too little"
        );
    }
}
