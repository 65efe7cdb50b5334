//! What a single value of a recipe may be.
//!
//! Route in: a text. Route out: it, or what is wrong with it and what to write instead.

use crate::spanned::{Wrong, wrong};
use crate::time::{rfc3339, seconds};
use crate::version::{compare, is_version};

/// What Debian calls its parts.
const COMPONENTS: [&str; 4] = ["main", "contrib", "non-free", "non-free-firmware"];
/// Kernel arguments that the build itself sets: a second value would contradict it.
const OWN_ARGUMENTS: [&str; 5] =
    ["root", "roothash", "systemd.verity", "systemd.verity_root_data", "systemd.verity_root_hash"];
/// What units that can be switched are called.
const UNITS: [&str; 6] = [".service", ".socket", ".timer", ".target", ".path", ".mount"];

pub(super) fn name(text: &str) -> Result<String, Wrong> {
    let ok = !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    accept(ok, text, "is not a name of a release", "use at most 32 of a-z, 0-9 and -, as in \"sheaf\"")
}

pub(super) fn version(text: &str) -> Result<String, Wrong> {
    accept(
        is_version(text),
        text,
        "is not a version",
        "write three numbers, as in \"0.1.0\" or \"0.1.0-rc.1\"",
    )
}

/// A version that is not newer than `version`, the release's own.
pub(super) fn not_newer(older: &str, version: &str) -> Result<(), Wrong> {
    match compare(older, version).is_gt() {
        true => wrong(
            format!("\"{older}\" is newer than the release itself, {version}"),
            format!("write {version} or an older version"),
        ),
        false => Ok(()),
    }
}

/// A channel of releases.
pub(super) fn channel(text: &str) -> Result<String, Wrong> {
    let ok = !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    accept(ok, text, "is not a name of a channel", "use at most 32 of a-z, 0-9 and -, as in \"stable\"")
}

/// A point in time, in seconds since 1970.
pub(super) fn time(text: &str) -> Result<u64, Wrong> {
    let wrong =
        || Wrong(format!("\"{text}\" is not a time in UTC"), "write it as \"2027-06-01T00:00:00Z\"".into());
    seconds(text).ok_or_else(wrong)
}

/// `expires`, if that is after the time of the release's files.
pub(super) fn after(expires: u64, epoch: u64) -> Result<u64, Wrong> {
    match expires > epoch {
        true => Ok(expires),
        false => wrong(
            format!("{} is before the release's own time, {}", rfc3339(expires), rfc3339(epoch)),
            "write a later time, or remove it",
        ),
    }
}

pub(super) fn list(text: &str) -> Result<String, Wrong> {
    let ok =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    accept(
        ok,
        text,
        "is not a name of a package list",
        "name a file of os-image/image/packages without .list",
    )
}

/// A name of a Debian package (Debian Policy 5.6.1).
pub fn package(text: &str) -> Result<String, Wrong> {
    let ok = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    accept(
        ok,
        text,
        "is not a name of a Debian package",
        "write one package in each string, as in \"tcpdump\"",
    )
}

/// A component of Debian's archive.
pub fn component(text: &str) -> Result<String, Wrong> {
    let all = COMPONENTS.map(|component| format!("\"{component}\"")).join(", ");
    accept(COMPONENTS.contains(&text), text, "is not a component of Debian", &format!("choose from {all}"))
}

pub(super) fn argument(text: &str) -> Result<String, Wrong> {
    let key = text.split('=').next().unwrap_or_default();
    if OWN_ARGUMENTS.contains(&key) {
        return wrong(format!("\"{key}\" is set by the build, from the root's hash"), "remove it");
    }
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    accept(ok, text, "is not one kernel argument", "write each argument as a text of its own, without blanks")
}

pub(super) fn url(text: &str) -> Result<String, Wrong> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let ok = rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && rest.bytes().all(|b| b.is_ascii_graphic())
    });
    accept(ok, text.trim_end_matches('/'), "is no http URL", "write http://… or https://…")
}

pub(super) fn file(text: &str) -> Result<String, Wrong> {
    accept(
        !text.is_empty(),
        text,
        "names no file",
        "write a path; a relative one starts at the recipe's directory",
    )
}

fn accept(ok: bool, text: &str, what: &str, remedy: &str) -> Result<String, Wrong> {
    if ok { Ok(text.to_owned()) } else { wrong(format!("\"{text}\" {what}"), remedy) }
}

pub(super) fn unit(text: &str) -> Result<String, Wrong> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"@-_.:\\".contains(&byte);
    let ok = UNITS.iter().any(|ending| text.len() > ending.len() && text.ends_with(ending))
        && text.bytes().all(allowed);
    accept(ok, text, "is not a name of a systemd unit", "write it whole, as in \"ssh.socket\"")
}

pub(super) fn module(text: &str) -> Result<String, Wrong> {
    let ok =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    accept(
        ok,
        text,
        "is not a name of a kernel module",
        "write it without folder and ending, as in \"vfio-pci\"",
    )
}
