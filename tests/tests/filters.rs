//! The rules of the agent's packet filter on this machine's kernel, tried with frames as guests send them.
//!
//! Why here: only a kernel knows what its filter sees of a tagged frame, and only a frame that no honest guest sends
//! shows what is dropped. A bridge in a network namespace has two ports that are named as taps; behind them are ends of
//! cables from which the test sends, and on which it listens.

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    self, AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use sheaf_agent::vms::filters::{self, Port, Seen};
use sheaf_host::nft::{Filter, Nft};
use sheaf_host::run::{Command, Run, System};
use sheaf_machine::Tools;
use sheaf_tests::frames::{self, BROADCAST, Mac};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const WEB: &str = "vm0b0e6d2c6an0";
const MAC: Mac = [0x02, 0, 0, 0, 0, 1];
const OTHER: Mac = [0x02, 0, 0, 0, 0, 2];
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 51);
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
            "link add br0 type bridge mcast_snooping 0".to_owned(),
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
        let mut buffer = [0; 2048];
        while socket::recv(to.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
        socket::send(from.as_raw_fd(), frame, MsgFlags::empty())?;
        let end = Instant::now() + ARRIVES;
        while Instant::now() < end {
            // A packet socket shows a tag elsewhere than in the frame: what lies behind it tells the frame.
            if let Ok(length) = socket::recv(to.as_raw_fd(), &mut buffer, MsgFlags::empty())
                && buffer[..length].windows(30).any(|window| window == &frame[frame.len() - 30..])
                && buffer[..12] == frame[..12]
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn seen(&self) -> Result<Seen> {
        Ok(Seen::read(&self.nft.table(filters::FAMILY, filters::TABLE)?))
    }

    fn dropped(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.seen()?.ports.remove(WEB).context("the port is in the table")?.dropped)
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

fn open(link: &str) -> Result<OwnedFd> {
    let of_link = |entry: &nix::ifaddrs::InterfaceAddress| entry.interface_name == link;
    let mut entries = nix::ifaddrs::getifaddrs()?.filter(of_link);
    let place: LinkAddr = entries
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .context("the link has an address")?;
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

#[test]
fn a_guest_sends_as_itself_and_what_it_is_given_is_remembered() -> Result<()> {
    let wire = Wire::lay("self")?;
    wire.nft.apply(&filters::put(&port()))?;
    wire.nft.apply(&filters::put(&port())).context("done again it changes nothing")?;

    wire.lets_pass("an ARP question", &frames::arp(MAC, MAC, IP, FOREIGN))?;
    wire.lets_pass("an IPv4 packet", &ping(IP))?;
    let own = v6("fe80::ff:fe00:1");
    wire.lets_pass(
        "an advertisement",
        &frames::icmp6(MAC, own, all_nodes(), &frames::advertisement(own, MAC)),
    )?;
    let asks =
        frames::udp4((MAC, Ipv4Addr::UNSPECIFIED, 68), (BROADCAST, Ipv4Addr::BROADCAST, 67), &[1; 300]);
    wire.lets_pass("a DHCP question", &asks)?;

    wire.refuses("another's hardware address", "mac", &frames::arp(OTHER, OTHER, IP, FOREIGN))?;
    wire.refuses(
        "another's hardware address in IPv4",
        "mac",
        &frames::udp4((OTHER, IP, 1), (MAC, IP, 1), &[7; 64]),
    )?;
    wire.refuses("another's hardware address in ARP", "arp", &frames::arp(MAC, OTHER, IP, FOREIGN))?;
    let lies = frames::advertisement(v6("2001:db8::1"), OTHER);
    wire.refuses("another's hardware address in ND", "nd", &frames::icmp6(MAC, own, all_nodes(), &lies))?;
    wire.refuses("a router's advertisement", "ra", &frames::icmp6(MAC, own, all_nodes(), &frames::router()))?;
    let offer = |kind| {
        let server = (MAC, IP, 67);
        frames::udp4(server, (BROADCAST, Ipv4Addr::BROADCAST, 68), &frames::dhcp(kind, FOREIGN, OTHER))
    };
    wire.refuses("a DHCP offer", "dhcp", &offer(2))?;
    let bpdu = frames::ethernet([0x01, 0x80, 0xc2, 0, 0, 0], MAC, 38, &[0x42; 60]);
    wire.refuses("a bridge's word", "stp", &bpdu)?;

    // To the guest: an acknowledgement gives it its address, an offer does not.
    let server = (OTHER, FOREIGN, 67);
    for (kind, given) in [(2, [192, 0, 2, 99]), (5, [192, 0, 2, 50])] {
        let said = frames::udp4(server, (MAC, given.into(), 68), &frames::dhcp(kind, given.into(), MAC));
        ensure!(wire.passes(&wire.others, &wire.guest, &said)?, "what a DHCP server says reaches the guest");
    }
    let seen = wire.seen()?;
    let known = &seen.ports[WEB];
    ensure!(known.leases == [IpAddr::from(IP)], "{known:?}");
    ensure!(known.heard == [IpAddr::from(IP), own.into()], "{known:?}");
    if let Some(file) = std::env::var_os("SHEAF_BLESS") {
        // What a listing looks like, for the test of its reader.
        let objects = wire.nft.table(filters::FAMILY, filters::TABLE)?;
        std::fs::write(
            file,
            serde_json::to_string_pretty(&serde_json::json!({"nftables": objects}))? + "\n",
        )?;
    }

    // Nothing is left of a port that is over.
    wire.nft.apply(&filters::changes(&BTreeMap::new(), &seen))?;
    ensure!(wire.seen()? == Seen::default());
    wire.lets_pass("anything, of a port that is not ours", &frames::arp(OTHER, OTHER, IP, FOREIGN))
}

#[test]
fn tags_pass_a_trunk_alone_and_a_tag_behind_a_tag_passes_nothing() -> Result<()> {
    let wire = Wire::lay("tags")?;
    let inner = ping(IP);
    wire.nft.apply(&filters::put(&port()))?;
    wire.refuses("a tagged packet", "vlan", &frames::tagged(&inner, 0x8100, 200))?;
    wire.refuses("a packet with a provider's tag", "vlan", &frames::tagged(&inner, 0x88a8, 200))?;

    let trunk = Port { trunk: vec![sheaf_api::network::VlanRange { first: 2, last: 4094 }], ..port() };
    let commands = filters::changes(&[(WEB.to_owned(), trunk)].into(), &wire.seen()?);
    wire.nft.apply(&commands)?;
    ensure!(wire.dropped()?["vlan"] == 2, "other rules keep the counters");
    wire.lets_pass("a tagged packet of a trunk", &frames::tagged(&inner, 0x8100, 200))?;
    let double = frames::tagged(&frames::tagged(&inner, 0x8100, 300), 0x8100, 200);
    wire.refuses("a tag behind a tag", "vlan", &double)?;
    let spoofed = frames::tagged(&frames::arp(MAC, OTHER, IP, FOREIGN), 0x8100, 200);
    wire.refuses("another's hardware address in tagged ARP", "arp", &spoofed)?;
    let own = v6("fe80::ff:fe00:1");
    let router = frames::icmp6(MAC, own, all_nodes(), &frames::router());
    wire.refuses("a tagged router's advertisement", "ra", &frames::tagged(&router, 0x8100, 200))?;
    let lies = frames::icmp6(MAC, own, all_nodes(), &frames::advertisement(v6("2001:db8::1"), OTHER));
    wire.refuses("another's hardware address in tagged ND", "nd", &frames::tagged(&lies, 0x8100, 200))?;
    let offer = frames::dhcp(2, FOREIGN, OTHER);
    let offer = frames::udp4((MAC, IP, 67), (BROADCAST, Ipv4Addr::BROADCAST, 68), &offer);
    wire.refuses("a tagged DHCP offer", "dhcp", &frames::tagged(&offer, 0x8100, 200))?;
    wire.lets_pass("tagged ARP", &frames::tagged(&frames::arp(MAC, MAC, IP, FOREIGN), 0x8100, 200))?;
    ensure!(wire.seen()?.ports[WEB].heard == [IpAddr::from(IP)], "it is heard behind its tag");
    let provider = frames::tagged(&frames::arp(MAC, OTHER, IP, FOREIGN), 0x88a8, 200);
    wire.refuses("another's hardware address behind a provider's tag", "arp", &provider)
}

#[test]
fn a_guest_with_addresses_of_its_own_uses_no_others() -> Result<()> {
    let wire = Wire::lay("own")?;
    let (own6, other6) = (v6("2001:db8::50"), v6("2001:db8::51"));
    wire.nft.apply(&filters::put(&Port { addresses: Some(vec![IP.into(), own6.into()]), ..port() }))?;
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
fn behind_the_nodes_address_a_guest_uses_what_dhcp_gave_it() -> Result<()> {
    let wire = Wire::lay("masq")?;
    wire.nft.apply(&filters::put(&Port { masquerade: true, ..port() }))?;
    wire.refuses("an address that was never given", "ip", &ping(IP))?;
    wire.refuses("ARP for it", "arp", &frames::arp(MAC, MAC, IP, FOREIGN))?;
    let asks =
        frames::udp4((MAC, Ipv4Addr::UNSPECIFIED, 68), (BROADCAST, Ipv4Addr::BROADCAST, 67), &[1; 300]);
    wire.lets_pass("a DHCP question", &asks)?;
    wire.lets_pass("an ARP probe", &frames::arp(MAC, MAC, Ipv4Addr::UNSPECIFIED, IP))?;
    let gives = frames::udp4((OTHER, FOREIGN, 67), (MAC, IP, 68), &frames::dhcp(5, IP, MAC));
    ensure!(wire.passes(&wire.others, &wire.guest, &gives)?);
    wire.lets_pass("the address that it was given", &ping(IP))?;
    wire.lets_pass("ARP for it", &frames::arp(MAC, MAC, IP, FOREIGN))?;
    wire.refuses("another", "ip", &ping(FOREIGN))?;
    wire.refuses(
        "IPv6",
        "ip",
        &frames::icmp6(MAC, v6("2001:db8::50"), all_nodes(), &[128, 0, 0, 0, 0, 1, 0, 1]),
    )
}
