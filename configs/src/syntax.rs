//! What a single value may look like: names, addresses, URLs, hashes.
//!
//! Why here: the same name is checked the same way in every file. Each check is pure and returns what it read, or
//! what is wrong and what to write instead. Route in: a text. Route out: a value, or [`Wrong`].

use crate::node::Cidr;
use crate::spanned::{Wrong, wrong};
use std::net::IpAddr;

/// Longest DNS label, in characters (RFC 1035).
const LABEL: usize = 63;
/// Longest DNS name, in characters (RFC 1035).
const DNS_NAME: usize = 253;
/// Longest name of a network interface, in bytes: the kernel's IFNAMSIZ less its final zero.
const INTERFACE: usize = 15;
/// Longest serial, model or path of a disk that is believed, in bytes: sysfs shows no longer ones.
const DISK_FACT: usize = 255;

/// Host names that mean something else.
const RESERVED_HOSTNAMES: [&str; 2] = ["localhost", "localhost4"];

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LABEL).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= DNS_NAME && text.split('.').all(|label| is_label(&label.to_lowercase()))
}

/// A host name: one RFC 1123 label.
pub fn hostname(text: &str) -> Result<String, Wrong> {
    let rule = "write small letters, digits and hyphens, at most 63, with a letter or digit at both ends";
    if text.contains('.') && is_dns_name(text) {
        let label = text.split('.').next().unwrap_or_default().to_lowercase();
        return wrong(format!("\"{text}\" has a domain"), format!("write the host's own name, \"{label}\""));
    }
    if is_label(&text.to_lowercase()) && !is_label(text) {
        return wrong(
            format!("\"{text}\" has capital letters"),
            format!("write \"{}\"", text.to_lowercase()),
        );
    }
    if !is_label(text) {
        return wrong(format!("{} is not a host name", quoted(text)), rule);
    }
    if RESERVED_HOSTNAMES.contains(&text) {
        return wrong(format!("\"{text}\" means every machine itself"), "give the node a name of its own");
    }
    Ok(text.to_owned())
}

/// A DNS name or an address.
pub fn host(text: &str) -> Result<String, Wrong> {
    // Four numbers with dots are meant as an address and are never a DNS name.
    let numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if text.parse::<IpAddr>().is_ok() || (is_dns_name(text) && !numeric) {
        return Ok(text.to_owned());
    }
    wrong(
        format!("{} is neither a DNS name nor an address", quoted(text)),
        "write \"host.example.org\" or \"192.0.2.1\"",
    )
}

/// An address without prefix length.
pub fn address(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) if text.contains('/') => {
            wrong(format!("{} has a prefix length", quoted(text)), "write the address alone")
        }
        Err(_) => {
            wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.1\" or \"2001:db8::1\"")
        }
    }
}

/// An address with prefix length, any bits.
pub fn cidr(text: &str) -> Result<Cidr, Wrong> {
    let Some((ip, prefix)) = text.split_once('/') else {
        return match text.parse::<IpAddr>() {
            Ok(ip) => {
                let usual = if ip.is_ipv4() { 24 } else { 64 };
                wrong(
                    format!("\"{text}\" has no prefix length"),
                    format!("write it with one, \"{text}/{usual}\""),
                )
            }
            Err(_) => wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.10/24\""),
        };
    };
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.10/24\"");
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    match prefix.parse::<u8>() {
        Ok(prefix) if (1..=longest).contains(&prefix) => Ok(Cidr { ip, prefix }),
        _ => wrong(
            format!("{} has no valid prefix length", quoted(text)),
            format!("write one of 1 to {longest}"),
        ),
    }
}

/// An address, with its prefix length, that a host can have.
pub fn host_cidr(text: &str) -> Result<Cidr, Wrong> {
    let cidr = cidr(text)?;
    let refuse = |what: &str| wrong(format!("\"{text}\" {what}"), "write the address of this node");
    if cidr.ip.is_unspecified() || cidr.ip.is_loopback() || cidr.ip.is_multicast() {
        return refuse("is not an address that a host can have");
    }
    // /31, /32, /127 and /128 have no network and broadcast address.
    if cidr.ip.is_ipv4() && cidr.prefix < 31 {
        if cidr.ip == cidr.first() {
            return refuse("is the network itself");
        }
        if cidr.ip == cidr.last() {
            return refuse("is the network's broadcast address");
        }
    }
    Ok(cidr)
}

/// A network: no bit behind the prefix is set.
pub fn network(text: &str) -> Result<Cidr, Wrong> {
    let cidr = cidr(text)?;
    if cidr.ip != cidr.first() {
        let network = Cidr { ip: cidr.first(), prefix: cidr.prefix };
        return wrong(format!("\"{text}\" is a host's address"), format!("write the network, \"{network}\""));
    }
    Ok(cidr)
}

/// Name of a network interface.
pub fn interface(text: &str) -> Result<String, Wrong> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = (1..=INTERFACE).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    if !good {
        let rule = "write 1 to 15 letters, digits, '-', '_' or '.', a letter first and no sign last";
        return wrong(format!("{} is not an interface name", quoted(text)), rule);
    }
    // The kernel keeps these for itself, in /proc/sys/net/*/conf and for the loopback.
    if ["lo", "all", "default"].contains(&text) {
        return wrong(format!("\"{text}\" is a name of the kernel's own"), "write another, \"br0\"");
    }
    Ok(text.to_owned())
}

/// A NIC: its permanent MAC, in small letters, or its kernel name.
pub fn port(text: &str) -> Result<String, Wrong> {
    let lower = text.to_lowercase();
    let bytes: Vec<_> = lower.split([':', '-', '.']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    if bytes.len() == 6 && bytes.iter().all(is_byte) {
        let mac = bytes.join(":");
        if mac != lower {
            return wrong(format!("\"{text}\" is not how a MAC is written here"), format!("write \"{mac}\""));
        }
        let first = u8::from_str_radix(bytes[0], 16).unwrap_or_default();
        if first & 1 == 1 || mac == "00:00:00:00:00:00" {
            return wrong(
                format!("\"{text}\" is not a MAC that a NIC can have"),
                "see `ip link` on the machine",
            );
        }
        return Ok(mac);
    }
    if text.contains(':') {
        return wrong(format!("{} is not a MAC", quoted(text)), "write six bytes, \"52:54:00:12:34:56\"");
    }
    interface(text).or_else(|_| {
        let rule = "write its MAC, \"52:54:00:12:34:56\", or its name, \"enp1s0\"";
        wrong(format!("{} is not a NIC", quoted(text)), rule)
    })
}

/// A fact of a disk that is compared letter by letter.
pub fn disk_fact(text: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return wrong("is empty", "write what `lsblk -o NAME,SERIAL,WWN,MODEL` shows, or leave the key out");
    }
    if text.trim() != text {
        return wrong(
            format!("{} has blanks at an end", quoted(text)),
            format!("write {}", quoted(text.trim())),
        );
    }
    if text.len() > DISK_FACT || text.chars().any(char::is_control) {
        return wrong(format!("{} is not something a disk says", quoted(text)), "write what lsblk shows");
    }
    Ok(text.to_owned())
}

/// World-wide name of a disk.
pub fn wwn(text: &str) -> Result<String, Wrong> {
    let lower = text.to_lowercase();
    let digits =
        ["eui.", "naa.", "nvme.", "uuid.", "t10.", "0x"].iter().find_map(|prefix| lower.strip_prefix(prefix));
    let free_form = lower.starts_with("nvme.") || lower.starts_with("t10.");
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    match digits {
        Some(digits) if !digits.is_empty() && (free_form || digits.chars().all(hex)) => disk_fact(text),
        _ => wrong(
            format!("{} is not a world-wide name", quoted(text)),
            "write what `lsblk -o NAME,WWN` shows",
        ),
    }
}

/// Path of a disk.
pub fn disk_path(text: &str) -> Result<String, Wrong> {
    let inner = text.strip_prefix("/dev/").unwrap_or_default();
    if inner.is_empty() || inner.split('/').any(|part| part.is_empty() || part == "..") {
        let rule = "write \"/dev/disk/by-path/…\", or \"/dev/nvme0n1\"";
        return wrong(format!("{} is not the path of a disk", quoted(text)), rule);
    }
    disk_fact(text)
}

/// A bootstrap token. Never quoted: the next best thing to a token is a token with one slip.
pub fn token(text: &str) -> Result<String, Wrong> {
    let part = |text: &str, length: usize| {
        text.len() == length && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    match text.split_once('.') {
        Some((id, secret)) if part(id, 6) && part(secret, 16) => Ok(text.to_owned()),
        _ => wrong(
            "is not a bootstrap token",
            "write 6, a dot and 16 small letters or digits, as the join command on the first node's screen shows",
        ),
    }
}

/// `sha256:` and 64 hex digits: a CA pin.
pub fn ca_hash(text: &str) -> Result<String, Wrong> {
    let remedy = "write \"sha256:\" and 64 hex digits, as the join command on the first node's screen shows";
    match text.strip_prefix("sha256:") {
        Some(hex) if is_sha256(hex) => Ok(text.to_lowercase()),
        None if is_sha256(text) => {
            wrong(format!("{} lacks its prefix", quoted(text)), format!("write \"sha256:{text}\""))
        }
        _ => wrong(format!("{} is not a CA hash", quoted(text)), remedy),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// 64 hex digits, returned in small letters.
pub fn sha256(text: &str) -> Result<String, Wrong> {
    if is_sha256(text) {
        return Ok(text.to_lowercase());
    }
    match text.strip_prefix("sha256:") {
        Some(hex) if is_sha256(hex) => wrong("has a prefix", format!("write \"{hex}\"")),
        _ if text.chars().all(|c| c.is_ascii_hexdigit()) => wrong(
            format!("has {} hex digits, a SHA-256 has 64", text.len()),
            "write what `sha256sum FILE` prints",
        ),
        _ => wrong(format!("{} is not a SHA-256", quoted(text)), "write what `sha256sum FILE` prints"),
    }
}

/// `https://HOST:PORT`, nothing behind it.
pub fn server(text: &str) -> Result<String, Wrong> {
    let example = "write \"https://192.0.2.10:6443\"";
    let Some(rest) = text.strip_prefix("https://") else {
        return match text.strip_prefix("http://") {
            Some(rest) => wrong(
                format!("{} is not encrypted", quoted(text)),
                format!("write {}", quoted(&format!("https://{rest}"))),
            ),
            None => wrong(format!("{} is not an https URL", quoted(text)), example),
        };
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return wrong(format!("{} has more than host and port", quoted(text)), example);
    }
    let (name, port) = authority(rest);
    if bracketless(name).is_none_or(|name| host(name).is_err()) {
        return wrong(format!("{} names no host", quoted(text)), example);
    }
    match port.map(str::parse::<u16>) {
        None => wrong(format!("{} has no port", quoted(text)), format!("write \"https://{rest}:6443\"")),
        Some(Ok(port)) if port > 0 => Ok(format!("https://{rest}")),
        Some(_) => {
            wrong(format!("{} has no valid port", quoted(text)), format!("write \"https://{name}:6443\""))
        }
    }
}

/// Splits `HOST[:PORT]`, where HOST may be an IPv6 address in brackets.
fn authority(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// The host inside: an IPv6 address stands in brackets, and only that.
fn bracketless(host: &str) -> Option<&str> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok().then_some(inner),
        None => (!host.contains(':')).then_some(host),
    }
}

/// Where an image comes from: https, http, or a file of the install medium.
pub fn image_url(text: &str) -> Result<String, Wrong> {
    let example = "write \"https://…\", \"http://…\" or \"medium:FILE\"";
    if let Some(path) = text.strip_prefix("medium:") {
        let part = |part: &str| !part.is_empty() && part != "." && part != "..";
        return match path.split('/').all(part) && !path.chars().any(char::is_control) {
            true => Ok(text.to_owned()),
            false => wrong(
                format!("{} names no file of the medium", quoted(text)),
                "write \"medium:debian.qcow2\"",
            ),
        };
    }
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return match text.split_once("://") {
            Some((scheme, _)) => wrong(format!("\"{scheme}\" can not be fetched"), example),
            None => wrong(format!("{} is not a URL", quoted(text)), example),
        };
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong(format!("{} has a blank in it", quoted(text)), "write %20 for a blank");
    }
    let (authority_part, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority_part.contains('@') {
        // Not quoted: what stands before the @ is a password.
        return wrong("carries a password", "give the file where it can be had without one");
    }
    let (name, port) = authority(authority_part);
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if bracketless(name).is_none_or(|name| host(name).is_err()) || !port_is_good {
        return wrong(format!("{} names no host", quoted(text)), example);
    }
    if path.trim_start_matches('/').is_empty() {
        return wrong(format!("{} names no file", quoted(text)), example);
    }
    Ok(text.to_owned())
}

/// Name of an image: a file name, and the last part of a label's key.
pub fn image_name(text: &str) -> Result<String, Wrong> {
    let good = text.len() <= LABEL && text.split('.').all(is_label);
    if good {
        return Ok(text.to_owned());
    }
    let rule = "write small letters, digits, '-' and '.', at most 63, with a letter or digit at both ends";
    wrong(format!("{} is not an image name", quoted(text)), rule)
}

/// Key of a Node label that an operator may give.
pub fn label_key(text: &str) -> Result<(), Wrong> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_is_good = prefix.is_none_or(|prefix| is_dns_name(prefix) && prefix == prefix.to_lowercase());
    if !is_label_text(name) || name.is_empty() || !prefix_is_good {
        return wrong(format!("{} is not a label", quoted(text)), "write \"rack\" or \"example.org/rack\"");
    }
    let Some(prefix) = prefix else { return Ok(()) };
    let under = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if under("sheaf.dev")
        || under("kubevirt.io")
        || ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"].contains(&text)
    {
        return wrong(
            format!("\"{text}\" is set by the node itself"),
            "remove it, or choose a prefix of your own",
        );
    }
    // The API server's NodeRestriction admits these of the reserved domains, and refuses the whole Node otherwise.
    let admitted = under("kubelet.kubernetes.io")
        || (under("node.kubernetes.io") && !under("node-restriction.kubernetes.io"))
        || ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"].contains(&text);
    if (under("kubernetes.io") || under("k8s.io")) && !admitted {
        let remedy = "set it with kubectl after the node has joined, or choose a prefix of your own";
        return wrong(format!("a node may not set \"{text}\" on itself"), remedy);
    }
    Ok(())
}

/// Value of a label.
pub fn label_value(text: &str) -> Result<String, Wrong> {
    if is_label_text(text) {
        return Ok(text.to_owned());
    }
    let rule = "write at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends";
    wrong(format!("{} is not a label's value", quoted(text)), rule)
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= LABEL
            && text.chars().all(|c| ends(c) || "-_.".contains(c))
            && text.starts_with(ends)
            && text.ends_with(ends))
}

/// A public key in PEM.
pub fn public_key(text: &str) -> Result<String, Wrong> {
    use x509_cert::der::DecodePem;
    let remedy = "give the text of admin.pub, which `sheaf admin new DIR` makes";
    if text.contains("PRIVATE KEY") {
        return wrong("is a private key, which no node may have", format!("{remedy}, and make a new pair"));
    }
    match x509_cert::spki::SubjectPublicKeyInfoOwned::from_pem(text.trim()) {
        Ok(_) => Ok(format!("{}\n", text.trim())),
        Err(_) => wrong("is not a public key in PEM", remedy),
    }
}

/// `text` in quotes, shortened and with its control characters shown: what an error may print.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60; // characters: the rest of a line that names file, key and remedy
    let short: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("\"{}{more}\"", short.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_urls_may_be_names_or_addresses_of_both_families() {
        for good in ["https://a.example:6443", "https://192.0.2.1:6443", "https://[2001:db8::1]:6443"] {
            assert_eq!(server(good).unwrap(), good);
        }
        assert_eq!(server("https://a:6443/").unwrap(), "https://a:6443");
        for bad in [
            "https://2001:db8::1:6443",
            "https://:6443",
            "https://a:0",
            "https://a:6443/x",
            "https://300.1.1.1:1",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_may_not_give_itself_a_role() {
        for bad in [
            "node-role.kubernetes.io/control-plane",
            "node-restriction.kubernetes.io/x",
            "k8s.io/x",
            "x.kubernetes.io/y",
        ] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        for good in ["rack", "example.org/rack", "topology.kubernetes.io/zone", "node.kubernetes.io/x"] {
            assert!(label_key(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_long_value_is_cut_and_control_characters_are_shown() {
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn network_and_broadcast_addresses_are_no_hosts_but_short_networks_have_none() {
        assert!(host_cidr("192.0.2.0/24").is_err());
        assert!(host_cidr("192.0.2.255/24").is_err());
        assert!(host_cidr("192.0.2.0/31").is_ok());
        assert!(host_cidr("2001:db8::1/64").is_ok());
    }
}
