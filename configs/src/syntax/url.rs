//! URLs.
//!
//! Route in: a text. Route out: the text. A URL that carries a password is never quoted.

use super::{host, quoted};
use crate::node::Secret;
use crate::spanned::{Wrong, wrong};

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
            Some((scheme, _)) => wrong(format!("\"{scheme}\" cannot be fetched"), example),
            None => wrong(format!("{} is not a URL", quoted(text)), example),
        };
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong(format!("{} contains a space", quoted(text)), "write %20 for a space");
    }
    let (authority_part, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority_part.contains('@') {
        // Not quoted: what stands before the @ is a password.
        return wrong("carries a password", "give a URL that needs no user or password");
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

/// Splits an http or https URL into host with port and the rest; neither is quoted when it holds a password.
fn http(text: &str) -> Result<(&str, &str), Wrong> {
    let example = "write \"https://host.example.org/path\"";
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return match text.split_once("://") {
            Some((scheme, _)) => wrong(format!("{} is not http or https", quoted(scheme)), example),
            None => wrong("is not a URL", example),
        };
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("contains a space", "write %20 for a space");
    }
    Ok(rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())))
}

fn host_and_port(authority_part: &str) -> bool {
    let (name, port) = authority(authority_part);
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    port_is_good && bracketless(name).is_some_and(|name| host(name).is_ok())
}

/// Whom a webhook calls.
pub fn webhook(text: &str) -> Result<String, Wrong> {
    let (authority_part, path) = http(text)?;
    // Also behind a slash: it may be part of a password that is not encoded.
    if authority_part.contains('@') || path.contains('@') {
        return wrong("carries a password", "write it in [install.webhook.basic]; elsewhere write %40 for @");
    }
    match host_and_port(authority_part) {
        true => Ok(text.to_owned()),
        false => wrong(format!("{} names no host", quoted(text)), "write \"https://host.example.org/path\""),
    }
}

/// Host of a registry, with or without a port, as references of images begin.
pub fn registry(text: &str) -> Result<String, Wrong> {
    let example = "write \"quay.io\" or \"registry.example.org:5000\"";
    if text.contains("://") {
        return wrong(format!("{} is a URL, not the host of a registry", quoted(text)), example);
    }
    if text.contains('/') {
        return wrong(format!("{} has more than host and port", quoted(text)), example);
    }
    match host_and_port(text) {
        true => Ok(text.to_lowercase()),
        false => wrong(format!("{} names no host", quoted(text)), example),
    }
}

/// A server that has the images of a registry.
pub fn mirror(text: &str) -> Result<String, Wrong> {
    let example = "write \"https://mirror.example.org\"";
    let (authority_part, path) = http(text)?;
    if authority_part.contains('@') || path.contains('@') {
        return wrong("carries a password", "give a URL that needs no user or password");
    }
    if !host_and_port(authority_part) {
        return wrong(format!("{} names no host", quoted(text)), example);
    }
    if path.contains(['?', '#']) {
        return wrong(format!("{} has more than host, port and path", quoted(text)), example);
    }
    let bare = text.trim_end_matches('/');
    match bare.strip_suffix("/v2") {
        Some(base) => wrong(
            format!("{} has the /v2 that every registry has", quoted(text)),
            format!("write {}", quoted(base)),
        ),
        None => Ok(bare.to_owned()),
    }
}

/// A proxy. Never quoted: it may carry a password.
pub fn proxy(text: &str) -> Result<Secret, Wrong> {
    let example = "write \"http://proxy.example.org:3128\"";
    let (authority_part, path) = http(text)?;
    let place = authority_part.rsplit_once('@').map_or(authority_part, |(_, place)| place);
    if !host_and_port(place) {
        return wrong("names no host", example);
    }
    if !path.trim_start_matches('/').is_empty() {
        return wrong("has more than host and port", example);
    }
    Ok(Secret(text.trim_end_matches('/').to_owned()))
}

/// What is reached without a proxy.
pub fn no_proxy(text: &str) -> Result<String, Wrong> {
    let is_domain = |name: &str| super::host::domain(name).is_ok();
    if host(text).is_ok() || super::network(text).is_ok() || text.strip_prefix('.').is_some_and(is_domain) {
        return Ok(text.to_owned());
    }
    let remedy = "write \"host.example.org\", \".example.org\", \"192.0.2.1\" or \"192.0.2.0/24\"";
    wrong(format!("{} is not a host, domain or network", quoted(text)), remedy)
}

/// Name of a header.
pub fn header_name(text: &str) -> Result<(), Wrong> {
    /// Set by the sender of the document.
    const OWN: [&str; 5] = ["content-length", "content-type", "host", "connection", "transfer-encoding"];
    let inner = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(inner) {
        return wrong(format!("{} is not the name of a header", quoted(text)), "write \"X-Rack\"");
    }
    let lower = text.to_lowercase();
    if OWN.contains(&lower.as_str()) {
        return wrong(format!("\"{text}\" is set by the installer"), "remove it");
    }
    if lower == "authorization" {
        return wrong(format!("\"{text}\" has keys of its own"), "write basic or bearer");
    }
    Ok(())
}

/// A header's value. Never quoted.
pub fn header_value(text: &str) -> Result<Secret, Wrong> {
    if text.is_empty() || text.trim() != text || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        return wrong(
            "is not the value of a header",
            "write printable ASCII without leading or trailing spaces",
        );
    }
    Ok(Secret(text.to_owned()))
}
