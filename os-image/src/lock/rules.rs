//! What a single value of a lock may be.
//!
//! Why here: `sheaf build --locked` trusts a lock's sums instead of Debian's signatures, so a lock that was edited or merged by
//! hand into something else is refused before anything is fetched. Pure.
//! Route in: a text or a number. Route out: it, or what is wrong with it and what it must be.

use crate::debian::{ARCH, SUITE};
use sheaf_config::recipe::component;
use sheaf_config::spanned::{Wrong, wrong};
use sheaf_config::time::seconds;

/// How `go.sum` begins a sum (golang.org/x/mod/sumdb/dirhash), and how long its base64 is.
const GO_SUM: (&str, usize) = ("h1:", 44);

fn accept(ok: bool, text: &str, what: &str, remedy: &str) -> Result<String, Wrong> {
    if ok { Ok(text.to_owned()) } else { wrong(format!("\"{text}\" {what}"), remedy) }
}

/// `20261129T130000Z`
pub(super) fn made(text: &str) -> Result<String, Wrong> {
    let digits = text.len() == 16 && text.is_ascii();
    let rfc3339 = || {
        let part = |from: usize, to: usize| &text[from..to];
        format!(
            "{}-{}-{}{}{}:{}:{}",
            part(0, 4),
            part(4, 6),
            part(6, 8),
            part(8, 9),
            part(9, 11),
            part(11, 13),
            part(13, 16)
        )
    };
    let ok = digits && seconds(&rfc3339()).is_some();
    accept(
        ok,
        text,
        "is not a time as snapshot.debian.org writes it",
        "it must be in UTC, as in \"20261129T130000Z\"",
    )
}

/// `rustc --version`
pub(super) fn rust(text: &str) -> Result<String, Wrong> {
    let ok = text.strip_prefix("rustc ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    accept(
        ok,
        text,
        "is not what `rustc --version` prints",
        "it must begin with the version, as in \"rustc 1.95.0\"",
    )
}

/// `go env GOVERSION`
pub(super) fn go(text: &str) -> Result<String, Wrong> {
    let ok = text.strip_prefix("go").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    accept(ok, text, "is not what `go env GOVERSION` prints", "it must be as in \"go1.26.8\"")
}

/// A version of a Debian package (Debian Policy 5.6.12).
pub(super) fn version(text: &str) -> Result<String, Wrong> {
    let ok = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte));
    accept(ok, text, "is not a version of a Debian package", "it must be as in \"14.2.0-19\"")
}

/// Suite and component.
pub(super) fn from(text: &str) -> Result<String, Wrong> {
    let (suite, part) = text.split_once('/').unwrap_or((text, ""));
    let ok = [SUITE, &format!("{SUITE}-security")].contains(&suite) && component(part).is_ok();
    accept(
        ok,
        text,
        "is not a suite and a component that a release is built from",
        &format!("it must be as in \"{SUITE}/main\" or \"{SUITE}-security/main\""),
    )
}

/// The place of package `name` in a pool: no address of a mirror, of this architecture, below the component of `from`.
pub(super) fn path(text: &str, name: &str, version: &str, from: &str) -> Result<String, Wrong> {
    let component = from.split_once('/').map_or("", |(_, component)| component);
    let below = [format!("pool/{component}/"), format!("pool/updates/{component}/")];
    if !text.starts_with("pool/") || text.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return wrong(
            format!("\"{text}\" is not a place in a mirror's pool"),
            "it must begin with pool/ and have neither an address nor . and ..",
        );
    }
    if !below.iter().any(|folder| text.starts_with(folder)) {
        return wrong(
            format!("\"{text}\" is not in component {component}, which from has"),
            format!("it must begin with {}", below.join(" or ")),
        );
    }
    // An epoch is not in names of files (Debian Policy 5.6.12).
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let file = text.rsplit('/').next().unwrap_or_default();
    let arch = file.strip_suffix(".deb").and_then(|file| file.strip_prefix(&format!("{name}_{version}_")));
    match arch {
        Some(arch) if arch == ARCH || arch == "all" => Ok(text.to_owned()),
        Some(arch) => wrong(
            format!("is a package for {arch}, the release is for {ARCH}"),
            format!("it must end with _{ARCH}.deb or _all.deb"),
        ),
        None => wrong(
            format!("\"{file}\" is not the file of {name} {version}"),
            format!("it must be {name}_{version}_{ARCH}.deb"),
        ),
    }
}

/// Length of a package in bytes.
pub(super) fn size(bytes: i64) -> Result<u64, Wrong> {
    match u64::try_from(bytes) {
        Ok(size) if size > 0 => Ok(size),
        _ => wrong(format!("{bytes} is not a length of a package"), "it must be the length in bytes"),
    }
}

/// `serde 1.0.229`
pub(super) fn is_crate(text: &str) -> bool {
    let name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    text.split_once(' ').is_some_and(|(of, version)| {
        name(of) && version.split('.').count() >= 3 && version.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// `k8s.io/api v0.37.2`
pub(super) fn is_module(text: &str) -> bool {
    let version = |text: &str| text.strip_prefix('v').is_some_and(|rest| rest.split('.').count() >= 3);
    text.split_once(' ').is_some_and(|(path, of)| path.contains('.') && !of.contains(' ') && version(of))
}

/// Sum of a Go module's files.
pub(super) fn go_sum(text: &str) -> Result<String, Wrong> {
    let (begin, length) = GO_SUM;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let ok = text.strip_prefix(begin).is_some_and(|sum| sum.len() == length && sum.bytes().all(base64));
    accept(
        ok,
        text,
        "is not a sum of a Go module",
        &format!("it must be {begin} and {length} letters, as go.sum has it"),
    )
}
