//! The rules of the agent's packet filter on this machine's kernel, tried with frames as guests send them.
//!
//! Why here: only a kernel knows what its filter sees of a tagged frame, and only a frame that no honest guest sends
//! shows what is dropped. A bridge in a network namespace has two ports, one of them named as a tap; behind them are ends of
//! cables from which the test sends, and on which it listens.

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    self, AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use sheaf_agent::vms::filters::{self, Guard, Port, State, leases, masquerade};
use sheaf_host::nft::{Filter, Nft};
use sheaf_host::run::{Command, Run, System};
use sheaf_machine::Tools;
use sheaf_tests::frames::{self, BROADCAST, Mac};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const WEB: &str = "vm0b0e6d2c6an0";
const MAC: Mac = [0x02, 0, 0, 0, 0, 1];
const OTHER: Mac = [0x02, 0, 0, 0, 0, 2];
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 51);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const API_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const GATEWAY_MAC: Mac = [0x52, 0x55, 0x0a, 0, 2, 2];
/// Longest way of a frame through a bridge of this machine.
const ARRIVES: Duration = Duration::from_millis(500);

/// A bridge with the port of a guest, and that of everybody else.
struct Wire {
    nft: Nft,
    namespace: String,
    guest: OwnedFd,
    others: OwnedFd,
}

impl Wire {
    /// The test's thread stays in the namespace.
    fn lay(name: &str) -> Result<Self> {
        let namespace = format!("sf-{name}-{}", std::process::id());
        let ip = |words: &str| System.run(&Command::new("ip").args(words.split(' '))).map(drop);
        ip(&format!("netns add {namespace}"))?;
        let file = std::fs::File::open(format!("/run/netns/{namespace}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
        // The kernel's own neighbour discovery is not what is counted here.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        for words in [
            // Frames for switches are forwarded where they may be: the filter alone stops them.
            "link add br0 type bridge mcast_snooping 0 group_fwd_mask 0xfff8".to_owned(),
            "link set br0 up".into(),
            format!("link add {WEB} master br0 type veth peer name guest"),
            "link add others master br0 type veth peer name wire".into(),
            format!("link set {WEB} up"),
            "link set others up".into(),
            "link set guest up".into(),
            "link set wire up".into(),
        ] {
            ip(&words)?;
        }
        let nft = Nft::by(Tools::find()?.command("usr/sbin/nft"));
        let wire = Self { guest: open("guest")?, others: open("wire")?, namespace, nft };
        // A port forwards once its cable is seen.
        let end = Instant::now() + Duration::from_secs(10);
        let knock = frames::ethernet(BROADCAST, OTHER, 0x88b5, b"knock");
        while !wire.passes(&wire.others, &wire.guest, &knock)? {
            ensure!(Instant::now() < end, "nothing passes the bridge");
        }
        Ok(wire)
    }

    /// Whether `frame` of the guest reaches the others.
    fn sends(&self, frame: &[u8]) -> Result<bool> {
        self.passes(&self.guest, &self.others, frame)
    }

    fn passes(&self, from: &OwnedFd, to: &OwnedFd, frame: &[u8]) -> Result<bool> {
        self.hears(to, frame, || Ok(socket::send(from.as_raw_fd(), frame, MsgFlags::empty()).map(|_| ())?))
    }

    /// Whether `frame` arrives at `to` after `send`.
    fn hears(&self, to: &OwnedFd, frame: &[u8], send: impl FnOnce() -> Result<()>) -> Result<bool> {
        // A packet socket shows a tag elsewhere than in the frame: addresses and what lies behind tags tell the frame.
        self.arrives(to, send, |found| {
            found[..12] == frame[..12] && found.windows(30).any(|window| window == &frame[frame.len() - 30..])
        })
    }

    /// Whether a frame with `end` in it arrives at `to` after `send`.
    fn hears_end(&self, to: &OwnedFd, end: &[u8], send: impl FnOnce() -> Result<()>) -> Result<bool> {
        self.arrives(to, send, |found| found.windows(end.len()).any(|window| window == end))
    }

    fn arrives(
        &self,
        to: &OwnedFd,
        send: impl FnOnce() -> Result<()>,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Result<bool> {
        let mut buffer = [0; 2048];
        while socket::recv(to.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
        send()?;
        let end = Instant::now() + ARRIVES;
        while Instant::now() < end {
            if let Ok(length) = socket::recv(to.as_raw_fd(), &mut buffer, MsgFlags::empty())
                && length >= 12
                && is_it(&buffer[..length])
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn state(&self) -> Result<State> {
        Ok(State::read(&self.nft.table(filters::FAMILY, filters::TABLE)?))
    }

    fn dropped(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.state()?.ports.remove(WEB).context("the port is in the table")?.dropped)
    }

    /// `frame` is dropped, and counted as `reason` alone.
    fn refuses(&self, what: &str, reason: &str, frame: &[u8]) -> Result<()> {
        let before = self.dropped()?;
        ensure!(!self.sends(frame)?, "{what} passed");
        let after = self.dropped()?;
        let changed: Vec<_> = after.iter().filter(|(name, count)| before[*name] != **count).collect();
        ensure!(changed == [(&reason.to_owned(), &(before[reason] + 1))], "{what}: {before:?} -> {after:?}");
        Ok(())
    }

    fn lets_pass(&self, what: &str, frame: &[u8]) -> Result<()> {
        ensure!(self.sends(frame)?, "{what} was dropped: {:?}", self.dropped()?);
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = System.run(&Command::new("ip").args(["netns", "delete", &self.namespace]));
    }
}

fn place(link: &str) -> Result<LinkAddr> {
    let of_link = |entry: &nix::ifaddrs::InterfaceAddress| entry.interface_name == link;
    let mut entries = nix::ifaddrs::getifaddrs()?.filter(of_link);
    entries.find_map(|entry| entry.address?.as_link_addr().copied()).context("the link has an address")
}

fn open(link: &str) -> Result<OwnedFd> {
    let place = place(link)?;
    let socket =
        socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    socket::bind(socket.as_raw_fd(), &place)?;
    socket::setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(50))?;
    Ok(socket)
}

fn port() -> Port {
    Port {
        tap: WEB.into(),
        interface: "lan".into(),
        bridge: "br0".into(),
        mac: "02:00:00:00:00:01".into(),
        ..Port::default()
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap_or(Ipv6Addr::UNSPECIFIED)
}

fn all_nodes() -> (Mac, Ipv6Addr) {
    ([0x33, 0x33, 0, 0, 0, 1], v6("ff02::1"))
}

fn ping(from: Ipv4Addr) -> Vec<u8> {
    frames::udp4((MAC, from, 4000), (OTHER, FOREIGN, 4000), b"hello over there, this is the guest")
}

/// What the node of these tests protects.
fn guard() -> Guard {
    Guard {
        addresses: [GATEWAY.into(), API_SERVER.into(), v6("fe80::1").into(), v6("2001:db8::1").into()].into(),
        macs: ["52:55:0a:00:02:02".to_owned()].into(),
        networks: [(Ipv4Addr::new(192, 0, 2, 0), 24)].into(),
    }
}

fn put(port: &Port) -> Vec<serde_json::Value> {
    filters::put([port], &guard())
}

fn changes(port: Port, guard: &Guard, state: &State) -> Vec<serde_json::Value> {
    filters::changes(&[(port.tap.clone(), port)].into(), guard, state)
}

#[test]
fn a_guest_sends_as_itself_and_the_addresses_that_it_uses_are_remembered() -> Result<()> {
    let wire = Wire::lay("self")?;
    wire.nft.apply(&put(&port()))?;
    wire.nft.apply(&put(&port())).context("done again it changes nothing")?;
    let state = wire.state()?;
    ensure!(changes(port(), &guard(), &state).is_empty(), "what nft lists is what was asked for");

    wire.lets_pass("an ARP question", &frames::arp(MAC, MAC, IP, FOREIGN))?;
    wire.lets_pass("an IPv4 packet", &ping(IP))?;
    let own = v6("fe80::ff:fe00:1");
    wire.lets_pass(
        "an advertisement",
        &frames::icmp6(MAC, own, all_nodes(), &frames::advertisement(own, MAC)),
    )?;
    let asks = frames::udp4(
        (MAC, Ipv4Addr::UNSPECIFIED, 68),
        (BROADCAST, Ipv4Addr::BROADCAST, 67),
        &frames::discover(MAC),
    );
    wire.lets_pass("a DHCP question", &asks)?;

    wire.refuses("another's MAC", "mac", &frames::arp(OTHER, OTHER, IP, FOREIGN))?;
    wire.refuses("another's MAC in IPv4", "mac", &frames::udp4((OTHER, IP, 1), (MAC, IP, 1), &[7; 64]))?;
    wire.refuses("another's MAC in ARP", "arp", &frames::arp(MAC, OTHER, IP, FOREIGN))?;
    let strange = frames::arp_with([0, 1, 8, 0, 8, 4, 0, 1], MAC, MAC, IP, FOREIGN);
    wire.refuses("ARP with lengths that move its fields", "arp", &strange)?;
    let lies = frames::advertisement(v6("2001:db8::99"), OTHER);
    wire.refuses("another's MAC in ND", "nd", &frames::icmp6(MAC, own, all_nodes(), &lies))?;
    wire.refuses("a router's advertisement", "ra", &frames::icmp6(MAC, own, all_nodes(), &frames::router()))?;
    let offer = |kind| {
        let server = (MAC, IP, 67);
        frames::udp4(server, (BROADCAST, Ipv4Addr::BROADCAST, 68), &frames::dhcp(kind, FOREIGN, OTHER))
    };
    wire.refuses("a DHCP offer", "dhcp", &offer(2))?;
    let known = &wire.state()?.ports[WEB];
    ensure!(known.used == [IpAddr::from(IP), own.into()], "{known:?}");
    if let Some(file) = std::env::var_os("UPDATE") {
        // What a listing looks like, for the test of its reader.
        let objects = wire.nft.table(filters::FAMILY, filters::TABLE)?;
        std::fs::write(
            file,
            serde_json::to_string_pretty(&serde_json::json!({"nftables": objects}))? + "\n",
        )?;
    }

    // Nothing is left of a port that is over.
    wire.nft.apply(&filters::changes(&BTreeMap::new(), &guard(), &wire.state()?))?;
    ensure!(wire.state()?.ports.is_empty());
    wire.lets_pass("anything, of a link that is no tap", &frames::arp(OTHER, OTHER, IP, FOREIGN))
}

#[test]
fn a_guest_claims_nothing_of_the_node_its_gateways_and_its_api_servers() -> Result<()> {
    let wire = Wire::lay("guard")?;
    wire.nft.apply(&put(&port()))?;
    let own = v6("fe80::ff:fe00:1");
    let nobody = Ipv6Addr::UNSPECIFIED;
    let echo = [128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    for address in [GATEWAY, API_SERVER] {
        wire.refuses("a question as another", "arp", &frames::arp(MAC, MAC, address, FOREIGN))?;
        wire.refuses("an announcement", "arp", &frames::arp(MAC, MAC, address, address))?;
        wire.refuses("an answer for another", "arp", &frames::arp_reply(MAC, address, IP))?;
        let probe = frames::arp(MAC, MAC, Ipv4Addr::UNSPECIFIED, address);
        wire.refuses("a probe, which its owner takes for a conflict", "arp", &probe)?;
        wire.refuses("an IPv4 packet", "ip", &ping(address))?;
    }
    for address in [v6("fe80::1"), v6("2001:db8::1")] {
        let claim = frames::advertisement(address, MAC);
        wire.refuses("an advertisement", "nd", &frames::icmp6(MAC, own, all_nodes(), &claim))?;
        let detection = frames::solicitation(address, None);
        wire.refuses("detection of duplicates", "nd", &frames::icmp6(MAC, nobody, all_nodes(), &detection))?;
        let question = frames::solicitation(own, Some(MAC));
        wire.refuses("a question as another", "ip", &frames::icmp6(MAC, address, all_nodes(), &question))?;
        wire.refuses("an IPv6 packet", "ip", &frames::icmp6(MAC, address, all_nodes(), &echo))?;
    }
    wire.lets_pass("a question for the gateway", &frames::arp(MAC, MAC, IP, GATEWAY))?;
    let question = frames::solicitation(v6("fe80::1"), Some(MAC));
    wire.lets_pass("the same by IPv6", &frames::icmp6(MAC, own, all_nodes(), &question))?;
    let own_detection = frames::icmp6(MAC, nobody, all_nodes(), &frames::solicitation(own, None));
    wire.lets_pass("detection for its own address", &own_detection)?;
    let to_gateway =
        frames::udp4((MAC, IP, 4000), (GATEWAY_MAC, GATEWAY, 53), b"a question of this guest, to it");
    wire.lets_pass("a packet for the gateway", &to_gateway)?;

    // The addresses of the node change, and the rules with them.
    let moved = Guard { addresses: [FOREIGN.into()].into(), ..Guard::default() };
    wire.nft.apply(&changes(port(), &moved, &wire.state()?))?;
    wire.lets_pass("an address that is no longer guarded", &ping(GATEWAY))?;
    wire.refuses("the one that is now", "ip", &ping(FOREIGN))?;

    // A MAC that the VM's owner chose to be the gateway's.
    let copy = Port { mac: "52:55:0a:00:02:02".into(), ..port() };
    wire.nft.apply(&changes(copy, &guard(), &wire.state()?))?;
    let frame = frames::udp4((GATEWAY_MAC, IP, 1), (OTHER, FOREIGN, 1), &[7; 64]);
    wire.refuses("the gateway's MAC", "mac", &frame)
}

#[test]
fn what_bridges_and_switches_tell_each_other_is_not_for_guests() -> Result<()> {
    let wire = Wire::lay("switch")?;
    let groups: [Mac; 9] = [
        [0x01, 0x80, 0xc2, 0, 0, 0x00],       // STP
        [0x01, 0x80, 0xc2, 0, 0, 0x03],       // 802.1X
        [0x01, 0x80, 0xc2, 0, 0, 0x0e],       // LLDP
        [0x01, 0x80, 0xc2, 0, 0, 0x21],       // GVRP
        [0x01, 0x80, 0xc2, 0, 0, 0x30],       // CFM
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc], // CDP, VTP, DTP, UDLD
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd], // PVST+
        [0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd], // UplinkFast
        [0x01, 0x00, 0x0c, 0x00, 0x00, 0x00], // ISL
    ];
    let frame = |to: Mac| frames::ethernet(to, MAC, 38, &[0x42; 60]);
    for to in groups {
        ensure!(
            wire.sends(&frame(to))?,
            "without rules {to:02x?} passes: the kernel's bridge does not stop it"
        );
    }
    wire.nft.apply(&put(&port()))?;
    for to in groups {
        wire.refuses(&format!("{to:02x?}"), "switch", &frame(to))?;
    }
    let multicast = frames::ethernet([0x01, 0x00, 0x5e, 0, 0, 0xfb], MAC, 0x88b5, &[0x42; 60]);
    wire.lets_pass("multicast of IPv4", &multicast)
}

#[test]
fn broadcasts_beyond_a_rate_are_dropped_and_unicast_is_not() -> Result<()> {
    let wire = Wire::lay("flood")?;
    wire.nft.apply(&put(&port()))?;
    let unicast = frames::udp4((MAC, IP, 1), (OTHER, FOREIGN, 1), &[7; 64]);
    for _ in 0..3000 {
        socket::send(wire.guest.as_raw_fd(), &unicast, MsgFlags::empty())?;
    }
    ensure!(wire.dropped()?["flood"] == 0);
    let (begun, frame) = (Instant::now(), frames::arp(MAC, MAC, IP, FOREIGN));
    for _ in 0..3000 {
        socket::send(wire.guest.as_raw_fd(), &frame, MsgFlags::empty())?;
    }
    let dropped = wire.dropped()?["flood"];
    // A burst of 1000, and 500 in each second that the sending took.
    let allowed = 1000 + 500 * (begun.elapsed().as_secs() + 1);
    ensure!(dropped > 0 && dropped + allowed >= 3000, "{dropped} of 3000 dropped in {:?}", begun.elapsed());
    wire.lets_pass("unicast meanwhile", &unicast)
}

#[test]
fn tags_pass_a_trunk_alone_and_a_tag_behind_a_tag_passes_nothing() -> Result<()> {
    let wire = Wire::lay("tags")?;
    let inner = ping(IP);
    wire.nft.apply(&put(&port()))?;
    wire.refuses("a tagged packet", "vlan", &frames::tagged(&inner, 0x8100, 200))?;
    wire.refuses("a packet with a provider's tag", "vlan", &frames::tagged(&inner, 0x88a8, 200))?;

    let trunk = Port { trunk: vec![sheaf_api::network::VlanRange { first: 2, last: 4094 }], ..port() };
    wire.nft.apply(&changes(trunk, &guard(), &wire.state()?))?;
    ensure!(wire.dropped()?["vlan"] == 2, "other rules keep the counters");
    wire.lets_pass("a tagged packet of a trunk", &frames::tagged(&inner, 0x8100, 200))?;
    let double = frames::tagged(&frames::tagged(&inner, 0x8100, 300), 0x8100, 200);
    wire.refuses("a tag behind a tag", "vlan", &double)?;
    let spoofed = frames::tagged(&frames::arp(MAC, OTHER, IP, FOREIGN), 0x8100, 200);
    wire.refuses("another's MAC in tagged ARP", "arp", &spoofed)?;
    let gateway = frames::tagged(&frames::arp_reply(MAC, GATEWAY, IP), 0x8100, 200);
    wire.refuses("the gateway's address in tagged ARP", "arp", &gateway)?;
    wire.refuses("the gateway's address behind a tag", "ip", &frames::tagged(&ping(GATEWAY), 0x8100, 200))?;
    let own = v6("fe80::ff:fe00:1");
    let router = frames::icmp6(MAC, own, all_nodes(), &frames::router());
    wire.refuses("a tagged router's advertisement", "ra", &frames::tagged(&router, 0x8100, 200))?;
    let lies = frames::icmp6(MAC, own, all_nodes(), &frames::advertisement(v6("2001:db8::99"), OTHER));
    wire.refuses("another's MAC in tagged ND", "nd", &frames::tagged(&lies, 0x8100, 200))?;
    let offer = frames::dhcp(2, FOREIGN, OTHER);
    let offer = frames::udp4((MAC, IP, 67), (BROADCAST, Ipv4Addr::BROADCAST, 68), &offer);
    wire.refuses("a tagged DHCP offer", "dhcp", &frames::tagged(&offer, 0x8100, 200))?;
    wire.lets_pass("tagged ARP", &frames::tagged(&frames::arp(MAC, MAC, IP, FOREIGN), 0x8100, 200))?;
    ensure!(wire.state()?.ports[WEB].used == [IpAddr::from(IP)], "it is remembered behind its tag");
    let provider = frames::tagged(&frames::arp(MAC, OTHER, IP, FOREIGN), 0x88a8, 200);
    wire.refuses("another's MAC behind a provider's tag", "arp", &provider)
}

#[test]
fn a_guest_with_addresses_of_its_own_uses_no_others() -> Result<()> {
    let wire = Wire::lay("own")?;
    let (own6, other6) = (v6("2001:db8::50"), v6("2001:db8::51"));
    wire.nft.apply(&put(&Port { addresses: Some(vec![IP.into(), own6.into()]), ..port() }))?;
    wire.lets_pass("its IPv4 address", &ping(IP))?;
    wire.lets_pass("its ARP", &frames::arp(MAC, MAC, IP, FOREIGN))?;
    wire.lets_pass("its ARP probe", &frames::arp(MAC, MAC, Ipv4Addr::UNSPECIFIED, IP))?;
    let says = |from: Ipv6Addr, target: Ipv6Addr| {
        frames::icmp6(MAC, from, all_nodes(), &frames::advertisement(target, MAC))
    };
    wire.lets_pass("its IPv6 address", &says(own6, own6))?;
    wire.lets_pass("an address of the link", &says(v6("fe80::7"), v6("fe80::7")))?;
    wire.refuses("another IPv4 address", "ip", &ping(FOREIGN))?;
    wire.refuses("another address in ARP", "arp", &frames::arp(MAC, MAC, FOREIGN, IP))?;
    wire.refuses("another address in ND", "nd", &says(own6, other6))?;
    let echo = [128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    wire.refuses("another IPv6 address", "ip", &frames::icmp6(MAC, other6, all_nodes(), &echo))
}

#[test]
fn behind_the_node_a_guest_uses_its_lease_whatever_dhcp_tells_it() -> Result<()> {
    let wire = Wire::lay("lease")?;
    let mut ports = [Port { masquerade: true, ..port() }];
    wire.nft.apply(&put(&ports[0]))?;
    wire.refuses("any address, without a lease", "ip", &ping(IP))?;
    leases::assign(&mut ports, &BTreeSet::new())?;
    let lease = leases::lease(&ports[0]).context("it has a lease")?;
    let [port] = ports;
    wire.nft.apply(&changes(port, &guard(), &wire.state()?))?;
    wire.lets_pass("its lease", &ping(lease))?;
    wire.lets_pass("ARP for it", &frames::arp(MAC, MAC, lease, FOREIGN))?;
    wire.lets_pass("an ARP probe", &frames::arp(MAC, MAC, Ipv4Addr::UNSPECIFIED, lease))?;

    // An acknowledgement that somebody else made up, unicast and broadcast, for it and for its neighbour.
    for to in [MAC, BROADCAST] {
        for given in [FOREIGN, IP] {
            let forged = frames::udp4((OTHER, FOREIGN, 67), (to, given, 68), &frames::dhcp(5, given, MAC));
            wire.passes(&wire.others, &wire.guest, &forged)?;
            wire.refuses("what it gave", "ip", &ping(given))?;
            wire.refuses("ARP for it", "arp", &frames::arp(MAC, MAC, given, lease))?;
        }
    }
    let asks = |chaddr| {
        let to = (BROADCAST, Ipv4Addr::BROADCAST, 67);
        frames::udp4((MAC, Ipv4Addr::UNSPECIFIED, 68), to, &frames::discover(chaddr))
    };
    wire.lets_pass("a DHCP question", &asks(MAC))?;
    wire.refuses("one for another's lease", "dhcp", &asks(OTHER))?;
    for _ in 0..100 {
        socket::send(wire.guest.as_raw_fd(), &asks(MAC), MsgFlags::empty())?;
    }
    let dropped = wire.dropped()?["flood"];
    ensure!(dropped > 0, "DHCP questions without end are dropped: {:?}", wire.dropped()?);
    let echo = [128, 0, 0, 0, 0, 1, 0, 1];
    wire.refuses("IPv6", "ip", &frames::icmp6(MAC, v6("2001:db8::50"), all_nodes(), &echo))
}

#[test]
fn a_tap_without_a_chain_passes_nothing_in_either_direction() -> Result<()> {
    let wire = Wire::lay("unknown")?;
    let tap = open_tap("vm0b0e6d2c6an1")?;
    for words in ["link set vm0b0e6d2c6an1 master br0", "link set vm0b0e6d2c6an1 up"] {
        System.run(&Command::new("ip").args(words.split(' ')))?;
    }
    let frame = frames::arp(MAC, MAC, IP, FOREIGN);
    let sends = || -> Result<bool> {
        wire.hears(&wire.others, &frame, || Ok(nix::unistd::write(&tap, &frame).map(|_| ())?))
    };
    let end = Instant::now() + Duration::from_secs(10);
    while !sends()? {
        ensure!(Instant::now() < end, "nothing passes the tap");
    }
    // The table without ports: the record of the VM behind the tap was lost.
    wire.nft.apply(&filters::changes(&BTreeMap::new(), &guard(), &State::default()))?;
    let before = wire.state()?.unknown;
    ensure!(!sends()?, "a frame of an unknown tap passed");
    let after = wire.state()?.unknown;
    ensure!(after > before, "it is counted: {before} -> {after}");
    socket::send(
        wire.others.as_raw_fd(),
        &frames::ethernet(BROADCAST, OTHER, 0x88b5, b"to all"),
        MsgFlags::empty(),
    )?;
    ensure!(wire.state()?.unknown > after, "a frame to an unknown tap is counted and dropped");

    let known = Port { tap: "vm0b0e6d2c6an1".into(), ..port() };
    wire.nft.apply(&changes(known, &guard(), &wire.state()?))?;
    ensure!(sends()?, "with its record it passes");
    wire.nft.apply(&filters::changes(&BTreeMap::new(), &guard(), &wire.state()?))?;
    ensure!(!sends()?, "and without it no more");
    Ok(())
}

/// The end of a new tap that its VM has.
#[allow(unsafe_code)] // nothing safe makes a tap whose other end is in the caller's hand
fn open_tap(name: &str) -> Result<OwnedFd> {
    /// TUNSETIFF of linux/if_tun.h: nix has no name for it.
    const TUNSETIFF: nix::libc::c_ulong = 0x4004_54ca;
    /// IFF_TAP and IFF_NO_PI.
    const FLAGS: u16 = 0x0002 | 0x1000;
    let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: the request is a whole `ifreq`, and it and the file outlive the call.
    nix::Error::result(unsafe { nix::libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) })?;
    Ok(file.into())
}

/// A node: a private network with two guests, and a way out.
struct Node {
    wire: Wire,
    neighbour: OwnedFd,
    gateway: Mac,
}

impl Node {
    fn new(name: &str) -> Result<Self> {
        let wire = Wire::lay(name)?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        for words in [
            // `guest` and its neighbour are behind masq0; `wire` is the node's way out.
            "link add masq0 type bridge mcast_snooping 0",
            "addr add 100.127.240.1/20 dev masq0",
            "link set masq0 up",
            &format!("link set {WEB} master masq0"),
            "link add vmb master masq0 type veth peer name guestb",
            "link set vmb up",
            "link set guestb up",
            "addr add 192.0.2.10/24 dev br0",
            "link set lo up",
            "neigh add 192.0.2.1 lladdr 52:55:0a:00:02:02 nud permanent dev br0",
            "neigh add 192.0.2.51 lladdr 02:00:00:00:00:02 nud permanent dev br0",
            "neigh add 100.127.240.8 lladdr 02:00:00:00:00:02 nud permanent dev masq0",
            "neigh add 100.127.240.7 lladdr 02:00:00:00:00:01 nud permanent dev masq0",
            "route add default via 192.0.2.1",
        ] {
            System.run(&Command::new("ip").args(words.split(' ')))?;
        }
        let gateway = place("masq0")?.addr().context("masq0 has a MAC")?;
        let node = Self { neighbour: open("guestb")?, wire, gateway };
        let end = Instant::now() + Duration::from_secs(10);
        while !node.reaches(&node.wire.others, OUTSIDE, 9)? {
            ensure!(Instant::now() < end, "nothing is forwarded");
        }
        Ok(node)
    }

    fn packet(&self, to: Ipv4Addr, port: u16) -> Vec<u8> {
        frames::udp4((MAC, LEASE, 4000), (self.gateway, to, port), b"hello out there, this is the guest")
    }

    /// Whether a packet of the guest to `to` comes out at `at`.
    fn reaches(&self, at: &OwnedFd, to: Ipv4Addr, port: u16) -> Result<bool> {
        let packet = self.packet(to, port);
        // The node changes what is before the payload.
        self.wire.hears_end(at, &packet[packet.len() - 30..], || {
            Ok(socket::send(self.wire.guest.as_raw_fd(), &packet, MsgFlags::empty()).map(|_| ())?)
        })
    }

    fn dropped(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.masquerade()?.dropped)
    }

    fn masquerade(&self) -> Result<masquerade::State> {
        Ok(masquerade::State::read(&self.wire.nft.table(masquerade::FAMILY, masquerade::TABLE)?))
    }

    /// A packet to `to` does not come out at `at`, and is counted as `reason`.
    fn refuses(&self, what: &str, reason: &str, at: &OwnedFd, to: Ipv4Addr, port: u16) -> Result<()> {
        let before = self.dropped()?;
        ensure!(!self.reaches(at, to, port)?, "{what} was reached");
        let after = self.dropped()?;
        let changed: Vec<_> = after.iter().filter(|(name, count)| before[*name] != **count).collect();
        ensure!(changed == [(&reason.to_owned(), &(before[reason] + 1))], "{what}: {before:?} -> {after:?}");
        Ok(())
    }
}

const LEASE: Ipv4Addr = Ipv4Addr::new(100, 127, 240, 7);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(100, 127, 240, 8);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// The rules that the image has at boot.
const CLOSED: &str = include_str!("../../os-image/image/rootfs/etc/nftables.conf");

#[test]
fn a_guest_behind_the_node_reaches_the_outside_and_nothing_that_is_the_nodes_or_another_guests() -> Result<()>
{
    let node = Node::new("masq")?;
    let load = Tools::find()?.command("usr/sbin/nft").args(["--file", "-"]).stdin(CLOSED.to_owned());
    System.run(&load)?;
    ensure!(
        !node.reaches(&node.wire.others, OUTSIDE, 9)?,
        "closed until the agent knows the node's networks"
    );
    ensure!(node.masquerade()?.version.is_none());
    node.wire.nft.apply(&masquerade::changes(&guard(), &node.masquerade()?))?;
    ensure!(masquerade::changes(&guard(), &node.masquerade()?).is_empty());

    let others = &node.wire.others;
    ensure!(node.reaches(others, OUTSIDE, 9)?, "the outside: {:?}", node.dropped()?);
    node.refuses("a neighbour by way of the node", "guest-to-guest", &node.neighbour, NEIGHBOUR, 9)?;
    node.refuses("a host of the node's network", "guest-to-node-network", others, FOREIGN, 9)?;
    node.refuses("the gateway of the node", "guest-to-node-network", others, GATEWAY, 9)?;
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    node.refuses("a metadata service", "guest-to-node-network", others, metadata, 80)?;

    // What the node itself offers.
    let at = |address: Ipv4Addr, port: u16| -> Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind((address, port))?;
        socket.set_read_timeout(Some(ARRIVES))?;
        Ok(socket)
    };
    let arrives = |socket: &std::net::UdpSocket, to: Ipv4Addr, port: u16| -> Result<bool> {
        socket::send(node.wire.guest.as_raw_fd(), &node.packet(to, port), MsgFlags::empty())?;
        Ok(socket.recv(&mut [0; 64]).is_ok())
    };
    let gateway = masquerade::GATEWAY;
    ensure!(arrives(&at(gateway, 53)?, gateway, 53)?, "names: {:?}", node.dropped()?);
    for (what, address, port) in
        [("another port", gateway, 5000), ("names at another address", NODE, 53), ("its API", NODE, 6443)]
    {
        let before = node.dropped()?["guest-to-node"];
        ensure!(!arrives(&at(address, port)?, address, port)?, "{what} of the node was reached");
        ensure!(node.dropped()?["guest-to-node"] == before + 1, "{what} is counted");
    }

    // The networks of the node change, and the rules with them.
    let moved = Guard { networks: [(Ipv4Addr::new(203, 0, 113, 0), 24)].into(), ..Guard::default() };
    node.wire.nft.apply(&masquerade::changes(&moved, &node.masquerade()?))?;
    node.refuses("a network that is now the node's", "guest-to-node-network", others, OUTSIDE, 9)?;
    ensure!(node.reaches(others, FOREIGN, 9)?, "one that no longer is");
    Ok(())
}

#[test]
fn dhcp_gives_a_guest_its_lease_and_nobody_else_hears_of_it() -> Result<()> {
    let node = Node::new("dhcp")?;
    node.wire.nft.apply(&masquerade::changes(&guard(), &masquerade::State::default()))?;
    let config = sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"a\"\n");
    let config = config.map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let paths = sheaf_agent::paths::Paths::under(std::path::Path::new("/nonexistent"));
    let (ctx, publish) = sheaf_agent::channels::open(paths, config);
    publish.leases.send_replace([(MAC, LEASE)].into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = || -> Result<()> {
        let serve = sheaf_agent::dhcp::run(ctx.clone(), std::sync::Arc::new(sheaf_host::dhcp::Kernel));
        let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), serve).await });
        Ok(())
    };
    let asks = |from: &OwnedFd, mac: Mac, flags: u8| -> Result<()> {
        let mut message = frames::discover(mac);
        message[10] = flags;
        let to = (BROADCAST, Ipv4Addr::BROADCAST, 67);
        let question = frames::udp4((mac, Ipv4Addr::UNSPECIFIED, 68), to, &message);
        socket::send(from.as_raw_fd(), &question, MsgFlags::empty())?;
        Ok(())
    };
    // The server is bound by then, so that questions wait for it.
    served()?;
    for flags in [0, 0x80] {
        let server = std::thread::scope(|scope| -> Result<_> {
            let questions = scope.spawn(|| {
                #[allow(clippy::disallowed_methods)]
                // the other thread begins to read; if it is late, the question waits
                std::thread::sleep(Duration::from_millis(200));
                asks(&node.wire.guest, MAC, flags)?;
                asks(&node.neighbour, OTHER, flags)
            });
            served()?;
            questions.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        });
        server?;
        let offers = received(&node.wire.guest, &|frame| frame.get(34..38) == Some(&[0, 67, 0, 68]));
        ensure!(offers.len() == 1, "{} offers", offers.len());
        ensure!(offers[0][..6] == MAC && offers[0][58..62] == LEASE.octets(), "{:02x?}", offers[0]);
        let others = received(&node.neighbour, &|frame| frame.get(34..38) == Some(&[0, 67, 0, 68]));
        ensure!(others.is_empty(), "the neighbour has no lease, and hears of nobody's: {others:02x?}");
    }
    Ok(())
}

/// What arrived at `at` and is `wanted`.
fn received(at: &OwnedFd, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    let mut found = Vec::new();
    while let Ok(length) = socket::recv(at.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        if wanted(&buffer[..length]) {
            found.push(buffer[..length].to_vec());
        }
    }
    found
}
