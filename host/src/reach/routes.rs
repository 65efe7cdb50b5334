//! The default routes of the kernel, from procfs.
//!
//! Route in: the root of the tree. Route out: of each family the gateway with the lowest metric.

use super::Gateway;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// RTF_UP and RTF_GATEWAY of linux/route.h.
const UP_BY_GATEWAY: u32 = 0x1 | 0x2;

pub(super) fn gateways(root: &Path) -> io::Result<Vec<Gateway>> {
    let ipv4 = std::fs::read_to_string(root.join("proc/net/route"))?;
    // Not there where IPv6 is off.
    let ipv6 = std::fs::read_to_string(root.join("proc/net/ipv6_route")).unwrap_or_default();
    let best = |routes: &mut dyn Iterator<Item = (u32, Gateway)>| routes.min().map(|(_, gateway)| gateway);
    let ipv4 = best(&mut ipv4.lines().skip(1).filter_map(of_ipv4));
    let ipv6 = best(&mut ipv6.lines().filter_map(of_ipv6));
    Ok(ipv4.into_iter().chain(ipv6).collect())
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal but for the metric.
fn of_ipv4(line: &str) -> Option<(u32, Gateway)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let hex = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok();
    let is_default = hex(1)? == 0 && hex(7)? == 0 && hex(3)? & UP_BY_GATEWAY == UP_BY_GATEWAY;
    // As the bytes lie in memory.
    let address = IpAddr::V4(Ipv4Addr::from(hex(2)?.to_le_bytes()));
    is_default
        .then_some((words.get(6)?.parse().ok()?, Gateway { address, link: (*words.first()?).to_owned() }))
}

/// `destination prefix source prefix gateway metric references use flags name`, all in hexadecimal.
fn of_ipv6(line: &str) -> Option<(u32, Gateway)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let hex = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok();
    let address = |index: usize| Some(Ipv6Addr::from(u128::from_str_radix(words.get(index)?, 16).ok()?));
    let is_default = address(0)?.is_unspecified() && hex(1)? == 0 && hex(8)? & UP_BY_GATEWAY == UP_BY_GATEWAY;
    let gateway = address(4)?;
    let link = (*words.get(9)?).to_owned();
    (is_default && !gateway.is_unspecified())
        .then_some((hex(5)?, Gateway { address: IpAddr::V6(gateway), link }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_default_routes_the_one_with_the_lowest_metric_counts() {
        let root = std::env::temp_dir().join(format!("sheaf-routes-{}", std::process::id()));
        std::fs::create_dir_all(root.join("proc/net")).unwrap();
        // As the kernel prints them.
        let ipv4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    br1\t00000000\t0103000A\t0003\t0\t0\t1024\t00000000\t0\t0\t0\n\
                    br0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    br0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let ipv6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000002 00000400 00000001 00000000 00000003      br0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        std::fs::write(root.join("proc/net/route"), ipv4).unwrap();
        std::fs::write(root.join("proc/net/ipv6_route"), ipv6).unwrap();
        let gateway = |address: &str| Gateway { address: address.parse().unwrap(), link: "br0".into() };
        assert_eq!(gateways(&root).unwrap(), [gateway("10.0.2.2"), gateway("fe80::2")]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
