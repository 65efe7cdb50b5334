//! A node config on a server.
//!
//! Why retried: at a data centre's power-on a hundred machines boot before the switches and the server do. What the
//! server refuses for good is not asked for again. Route in: [`ConfigUrl`]. Route out: its text, checked against the
//! hash when one is given; or what was tried and what to do.

use super::arguments::ConfigUrl;
use super::config::{ConfigError, LARGEST};
use sha2::{Digest, Sha256};
use sheaf_config::handover::{self, Introduction};
use sheaf_host::call::{Call, CallError, Reply, Request};
use sheaf_host::trust::Trust;
use sheaf_host::wait;
use std::time::{Duration, Instant};

/// How long a server is tried.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until it is given up. Switches and servers that were switched on with this machine are up by then.
    pub whole: Duration,
    /// Between two tries.
    pub pause: Duration,
    /// Of one try.
    pub one: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { whole: Duration::from_secs(300), pause: Duration::from_secs(3), one: Duration::from_secs(20) }
    }
}

/// The text at `source`; each failed try is told, the same one only once.
pub(super) fn fetch(
    source: &ConfigUrl,
    asks: &Introduction,
    call: &dyn Call,
    timeouts: Timeouts,
    tell: &dyn Fn(&str),
) -> Result<String, ConfigError> {
    let trust = source.certificate.map_or(Trust::Public, Trust::Certificate);
    let mut request = Request::get(&source.url, trust, timeouts.one);
    // The machine tells what it is to the one server that the boot entry pins, and to no other.
    if source.certificate.is_some() {
        request.headers.push((handover::HEADER.into(), asks.encode()));
    }
    let fail = |reason: String, remedy: &str| ConfigError::Url {
        url: source.url.clone(),
        reason,
        remedy: remedy.into(),
    };
    let begin = Instant::now();
    let (mut last, mut is_untrusted) = (String::new(), false);
    let reply = wait::until(timeouts.whole, timeouts.pause, || {
        let why = match call.call(&request) {
            Ok(reply) if reply.status == 200 => return Some(Ok(reply)),
            Ok(Reply { status, .. }) if status == 429 || status >= 500 => {
                format!("the server answers with HTTP status {status}")
            }
            Ok(Reply { status: handover::TAKEN, .. }) => {
                return Some(Err(fail(
                    "this node's config was already given to another boot".into(),
                    "if you reset this machine, start `sheaf pxe` again on the server; if not, someone else has the \
                     config: revoke its token",
                )));
            }
            Ok(Reply { status: handover::UNKNOWN, .. }) if source.certificate.is_some() => {
                return Some(Err(fail(
                    "no node of the server's config matches this machine".into(),
                    "see what the server printed, and correct the match of its [[node]]",
                )));
            }
            Ok(Reply { status, .. }) => {
                let reason = format!("the server answers with HTTP status {status}");
                return Some(Err(fail(reason, "put node.toml there, or correct the kernel argument")));
            }
            Err(CallError::Request { source, .. }) => {
                return Some(Err(fail(source.to_string(), "correct the kernel argument sheaf.config")));
            }
            Err(CallError::Reach { source, .. }) => {
                is_untrusted = false;
                source.to_string()
            }
            Err(CallError::Untrusted { source, .. }) => {
                is_untrusted = true;
                source.to_string()
            }
        };
        if why != last {
            tell(&format!(
                "{}: {why}; trying again for {} s",
                source.url,
                timeouts.whole.saturating_sub(begin.elapsed()).as_secs()
            ));
            last = why;
        }
        None
    });
    let reply = reply.unwrap_or_else(|| {
        let reason = format!("the file cannot be fetched within {} s: {last}", timeouts.whole.as_secs());
        Err(fail(reason, remedy_of(source, is_untrusted)))
    })?;
    let text = text(reply.body).map_err(|reason| fail(reason, "put node.toml there"))?;
    let hash = hex::encode(Sha256::digest(&text));
    match &source.sha256 {
        Some(wanted) if *wanted != hash => Err(fail(
            format!("its SHA-256 is {hash}, the kernel argument says {wanted}"),
            "if you changed the file, correct sheaf.config.sha256; otherwise someone else changed it",
        )),
        _ => Ok(text),
    }
}

fn remedy_of(source: &ConfigUrl, is_untrusted: bool) -> &'static str {
    if is_untrusted {
        return match source.certificate {
            Some(_) => "compare sheaf.config.certificate with the server's certificate",
            None => {
                "give the server a certificate of a public authority, or pin its own with \
                 sheaf.config.certificate; a wrong clock of this machine has the same effect"
            }
        };
    }
    "check the cable, the address that DHCP gave (or the kernel argument ip=), and the server"
}

fn text(body: Vec<u8>) -> Result<String, String> {
    if body.len() as u64 > LARGEST {
        return Err("the server sent more than 1 MiB, which is not a node config".into());
    }
    let text = String::from_utf8(body).map_err(|_| "the server did not send text".to_owned())?;
    match text.trim_start().starts_with('<') {
        true => Err("the server sent a web page, not a node config".into()),
        false => Ok(text),
    }
}
