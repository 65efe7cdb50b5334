//! Names of hosts.
//!
//! Route in: a text. Route out: a DNS label or name, or an address where one may stand for it.

use super::quoted;
use crate::node::{Hostname, Identity};
use crate::spanned::{Wrong, wrong};
use std::net::IpAddr;

/// Longest DNS label, in characters (RFC 1035).
pub(super) const LABEL: usize = 63;

/// Longest DNS name, in characters (RFC 1035).
const DNS_NAME: usize = 253;

/// Host names that mean something else.
const RESERVED_HOSTNAMES: [&str; 2] = ["localhost", "localhost4"];

pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LABEL).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(super) fn is_dns_name(text: &str) -> bool {
    text.len() <= DNS_NAME && text.split('.').all(|label| is_label(&label.to_lowercase()))
}

/// A host name: one RFC 1123 label.
pub fn hostname(text: &str) -> Result<String, Wrong> {
    let rule = "write lowercase letters, digits and hyphens, at most 63, with a letter or digit at both ends";
    if text.contains('.') && is_dns_name(text) {
        let label = text.split('.').next().unwrap_or_default().to_lowercase();
        return wrong(format!("\"{text}\" has a domain"), format!("write the host's own name, \"{label}\""));
    }
    if is_label(&text.to_lowercase()) && !is_label(text) {
        return wrong(
            format!("\"{text}\" has uppercase letters"),
            format!("write \"{}\"", text.to_lowercase()),
        );
    }
    if !is_label(text) {
        return wrong(format!("{} is not a host name", quoted(text)), rule);
    }
    if RESERVED_HOSTNAMES.contains(&text) {
        return wrong(format!("\"{text}\" means every machine itself"), "give the node its own name");
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

/// A domain name of any depth, in lowercase letters.
pub fn domain(text: &str) -> Result<String, Wrong> {
    let numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if is_dns_name(text) && !numeric {
        return Ok(text.to_lowercase());
    }
    wrong(format!("{} is not a domain", quoted(text)), "write \"example.org\"")
}

/// A host name, or a template of one.
pub fn hostname_template(text: &str) -> Result<String, Wrong> {
    let template = match Hostname::parse(text) {
        Ok(template) if template.is_fixed() => return hostname(text),
        Ok(template) => template,
        Err(what) => {
            let remedy =
                "write {serial}, {uuid}, {mac} or {mac:6} (its last 6) where the machine's own belongs";
            return wrong(format!("{} {what}", quoted(text)), remedy);
        }
    };
    let sample = Identity {
        serial: Some("S1".into()),
        uuid: Some("00000000-0000-4000-8000-000000000001".into()),
        macs: vec!["52:54:00:00:00:01".into()],
    };
    match template.on(&sample) {
        Ok(name) if is_label(&name) => Ok(text.to_owned()),
        Ok(name) => wrong(
            format!("{} makes names like \"{name}\", which are no host names", quoted(text)),
            "write lowercase letters, digits and hyphens around the fields, at most 63 in all",
        ),
        Err(what) => wrong(format!("{} {what}", quoted(text)), "write {serial}, {uuid} or {mac}"),
    }
}
