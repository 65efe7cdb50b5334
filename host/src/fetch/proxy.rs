//! Which hosts are reached without a proxy.
//!
//! Pure. Route in: a host and what the operator wrote. Route out: yes or no.

use std::net::IpAddr;

/// Whether `host` is one of `direct`: a name with all below it, a domain (`.example.org`), an address or a network.
pub(super) fn passes_by(host: &str, direct: &[String]) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    direct.iter().any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        match (address, entry.split_once('/')) {
            (Some(address), Some((network, prefix))) => lies_in(address, network, prefix),
            (Some(address), None) => entry.parse::<IpAddr>() == Ok(address),
            (None, Some(_)) => false,
            (None, None) => {
                let domain = entry.trim_start_matches("*").trim_start_matches('.');
                !domain.is_empty()
                    && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
            }
        }
    })
}

fn lies_in(address: IpAddr, network: &str, prefix: &str) -> bool {
    let (Ok(network), Ok(prefix)) = (network.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    // The leading `prefix` bits of `width` are the same.
    let same =
        |a: u128, b: u128, width: u32| prefix <= width && (prefix == 0 || (a ^ b) >> (width - prefix) == 0);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_domains_addresses_and_networks_pass_by() {
        let direct: Vec<String> =
            [".example.org", "mirror", "192.0.2.7", "10.0.0.0/8", "2001:db8::/32"].map(str::to_owned).into();
        for host in ["a.example.org", "example.org", "MIRROR", "192.0.2.7", "10.200.3.4", "[2001:db8::7]"] {
            assert!(passes_by(host, &direct), "{host}");
        }
        for host in
            ["badexample.org", "mirror.net", "192.0.2.8", "11.0.0.1", "2001:db9::1", "example.org.evil"]
        {
            assert!(!passes_by(host, &direct), "{host}");
        }
        assert!(passes_by("192.0.2.1", &["0.0.0.0/0".to_owned()]));
    }
}
