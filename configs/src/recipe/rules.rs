//! What a recipe may say: one function for each table, one rule for each value.
//!
//! Route in: a parsed document. Route out: a [`Recipe`], or problems in its report.

use super::{Compression, Item, Kube, Packages, Recipe, Release, VERSION};
use crate::diagnose::Report;
use crate::spanned::{At, Table, Wrong, wrong};
use crate::syntax::sha256;
use std::path::Path;

/// 2026-01-01, in seconds: any fixed time does; this one is after every file Debian trixie was released with.
const EPOCH: u64 = 1_767_225_600;
/// zstd's level for the payload: beyond it two cores need more than a minute for a release.
const LEVEL: i32 = 12;
/// Largest level that a decoder with the usual 8 MiB window reads.
const LARGEST_LEVEL: i64 = 19;
/// What Debian calls its parts.
const COMPONENTS: [&str; 4] = ["main", "contrib", "non-free", "non-free-firmware"];
/// Kernel arguments that the build itself sets: a second value would contradict it.
const OWN_ARGUMENTS: [&str; 5] =
    ["root", "roothash", "systemd.verity", "systemd.verity_root_data", "systemd.verity_root_hash"];

/// Tables that keys belong to, for those found in another one.
const HOMES: [(&str, &str); 10] = [
    ("name", "release"),
    ("epoch", "release"),
    ("signing-key", "release"),
    ("lists", "packages"),
    ("add", "packages"),
    ("mirror", "packages"),
    ("compression", "root"),
    ("arguments", "boot"),
    ("zstd-level", "payload"),
    ("sha256", "kube"),
];

/// The whole file.
pub(super) fn recipe(mut root: Table<'_, '_>, dir: &Path) -> Option<Recipe> {
    let report = root.report();
    let version = root.required("version", "version = 1", |value| {
        value.integer()?.check(report, |number| match *number {
            VERSION => Ok(()),
            other => wrong(format!("{other} is not a version of this format"), format!("write {VERSION}")),
        })
    });
    let release = root.required("release", "a table [release]", |value| release(value.table()?, dir));
    let packages = root.required("packages", "a table [packages]", |value| packages(value.table()?));
    let compression = root.optional("root", |value| compression(value.table()?));
    let arguments = root.optional("boot", |value| arguments(value.table()?));
    let level = root.optional("payload", |value| level(value.table()?));
    let kube = root.optional("kube", |value| kube(value.table()?, dir));
    root.finish(&HOMES);
    version?;
    Some(Recipe {
        release: release?,
        packages: packages?,
        compression: compression.unwrap_or_default(),
        arguments: arguments.unwrap_or_default(),
        zstd_level: level.unwrap_or(LEVEL),
        kube: kube.unwrap_or(Kube::Source),
    })
}

fn release(mut table: Table<'_, '_>, dir: &Path) -> Option<Release> {
    let name = table.required("name", "name = \"sheaf\"", |value| value.text(name));
    let version = table.required("version", "version = \"0.1.0\"", |value| value.text(version));
    let report = table.report();
    let epoch = table.optional("epoch", |value| {
        value.integer()?.check(report, |seconds| match u64::try_from(*seconds) {
            Ok(seconds) => Ok(seconds),
            Err(_) => wrong("lies before 1970", "write seconds since 1970, as `date +%s` prints them"),
        })
    });
    let key = table.optional("signing-key", |value| value.text(file));
    table.finish(&HOMES);
    Some(Release {
        name: name?.value,
        version: version?.value,
        epoch: epoch.map_or(EPOCH, |epoch| epoch.value),
        signing_key: key.map(|key| dir.join(key.value)),
    })
}

fn packages(mut table: Table<'_, '_>) -> Option<Packages> {
    let lists = table.required("lists", "lists = [\"node\"]", |value| value.texts(list));
    let report = table.report();
    if lists.as_ref().is_some_and(Vec::is_empty) {
        let at = table.place("lists").unwrap_or_else(|| table.at());
        at.wrong(report, "has no list, so there would be no kernel", "write lists = [\"node\"]");
    }
    let add = table.optional("add", |value| value.texts(package));
    for (index, at) in add.iter().flatten().enumerate() {
        if add.iter().flatten().take(index).any(|earlier| earlier.value == at.value) {
            at.wrong(report, format!("\"{}\" is listed twice", at.value), "remove one");
        }
    }
    let components = table.optional("components", |value| value.texts(component));
    if components.as_ref().is_some_and(|list| list.iter().all(|component| component.value != "main")) {
        let at = table.place("components").unwrap_or_else(|| table.at());
        at.wrong(report, "lacks \"main\", which Debian needs", "add \"main\"");
    }
    let firmware = table.optional("firmware", |value| value.boolean());
    let mirror = table.optional("mirror", |value| value.text(url));
    let security_mirror = table.optional("security-mirror", |value| value.text(url));
    table.finish(&HOMES);
    let values = |list: Vec<At<String>>| list.into_iter().map(|at| at.value).collect::<Vec<_>>();
    Some(Packages {
        lists: values(lists?),
        add: add.map(|add| items(report, add)).unwrap_or_default(),
        firmware: firmware.is_some_and(|firmware| firmware.value),
        components: components.map(values).unwrap_or_else(|| vec!["main".into(), "non-free-firmware".into()]),
        mirror: mirror.map(|at| at.value),
        security_mirror: security_mirror.map(|at| at.value),
    })
}

/// Each value with the line it stands in.
fn items(report: &Report<'_>, list: Vec<At<String>>) -> Vec<Item> {
    let item = |at: At<String>| Item {
        line: format!("{}:{}", report.file_name(), report.line(at.span.start)),
        value: at.value,
    };
    list.into_iter().map(item).collect()
}

fn compression(mut table: Table<'_, '_>) -> Option<Compression> {
    let words = [("none", Compression::None), ("lz4", Compression::Lz4)];
    let compression = table.required("compression", "compression = \"none\"", |value| value.one_of(&words));
    table.finish(&HOMES);
    Some(compression?.value)
}

fn arguments(mut table: Table<'_, '_>) -> Option<Vec<String>> {
    let arguments = table.required("arguments", "arguments = [\"quiet\"]", |value| value.texts(argument));
    table.finish(&HOMES);
    Some(arguments?.into_iter().map(|at| at.value).collect())
}

fn level(mut table: Table<'_, '_>) -> Option<i32> {
    let report = table.report();
    let level = table.required("zstd-level", "zstd-level = 12", |value| {
        value.integer()?.check(report, |level| match i32::try_from(*level) {
            Ok(small) if (1..=LARGEST_LEVEL).contains(level) => Ok(small),
            _ => wrong(format!("{level} is not a level of zstd"), format!("write 1 to {LARGEST_LEVEL}")),
        })
    });
    table.finish(&HOMES);
    Some(level?.value)
}

fn kube(mut table: Table<'_, '_>, dir: &Path) -> Option<Kube> {
    let path = table.optional("path", |value| value.text(file));
    let url = table.optional("url", |value| value.text(url));
    let sha256 = table.optional("sha256", |value| value.text(sha256));
    let (at, report) = (table.at(), table.report());
    let given = (table.place("path"), table.place("url"), table.place("sha256"));
    table.finish(&HOMES);
    match given {
        (Some(_), Some(second), _) => {
            second.wrong(report, "cannot be combined with path", "give path or url, not both")
        }
        (None, Some(url), None) => {
            url.wrong(report, "has no sha256 to check it by", "add sha256 = \"…\" to [kube]")
        }
        (_, None, Some(sum)) => sum.wrong(report, "needs a url, and there is none", "remove it, or give url"),
        (None, None, None) => {
            at.wrong(report, "says nothing", "give path, or url and sha256, or remove [kube] to build it")
        }
        _ => {}
    }
    match (path, url) {
        (Some(path), None) => Some(Kube::File(dir.join(path.value))),
        (None, Some(url)) => Some(Kube::Url { url: url.value, sha256: sha256?.value }),
        _ => None,
    }
}

fn name(text: &str) -> Result<String, Wrong> {
    let ok = !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    accept(ok, text, "is not a name of a release", "use at most 32 of a-z, 0-9 and -, as in \"sheaf\"")
}

fn version(text: &str) -> Result<String, Wrong> {
    let (numbers, suffix) =
        text.split_once('-').map_or((text, None), |(numbers, suffix)| (numbers, Some(suffix)));
    let number = |part: &str| part.parse::<u32>().is_ok_and(|number| number.to_string() == part);
    let word = |suffix: &str| {
        !suffix.is_empty()
            && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
    };
    let ok = numbers.split('.').count() == 3 && numbers.split('.').all(number) && suffix.is_none_or(word);
    accept(ok, text, "is not a version", "write three numbers, as in \"0.1.0\" or \"0.1.0-rc.1\"")
}

fn list(text: &str) -> Result<String, Wrong> {
    let ok =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    accept(
        ok,
        text,
        "is not a name of a package list",
        "name a file of os-image/image/packages without .list",
    )
}

fn package(text: &str) -> Result<String, Wrong> {
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

fn component(text: &str) -> Result<String, Wrong> {
    let all = COMPONENTS.map(|component| format!("\"{component}\"")).join(", ");
    accept(COMPONENTS.contains(&text), text, "is not a component of Debian", &format!("choose from {all}"))
}

fn argument(text: &str) -> Result<String, Wrong> {
    let key = text.split('=').next().unwrap_or_default();
    if OWN_ARGUMENTS.contains(&key) {
        return wrong(format!("\"{key}\" is set by the build, from the root's hash"), "remove it");
    }
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    accept(ok, text, "is not one kernel argument", "write each argument as a text of its own, without blanks")
}

fn url(text: &str) -> Result<String, Wrong> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let ok = rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && rest.bytes().all(|b| b.is_ascii_graphic())
    });
    accept(ok, text.trim_end_matches('/'), "is no http URL", "write http://… or https://…")
}

fn file(text: &str) -> Result<String, Wrong> {
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
