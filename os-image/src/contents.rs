//! Which packages a root has, and which line of a recipe or list brought each.
//!
//! Why here: a package that nobody asked for came with one that somebody did; a reader of a release wants to know which.
//! Route in: dpkg's status, what was asked for and where. Route out: [`Package`]s, in `packages.json` of a release.

use crate::control::{self, Paragraph};
use crate::lock::World;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The list of a release's packages, in its folder.
pub const FILE: &str = "packages.json";

/// What brought a package that Debian puts into every root.
pub const BASE: &str = "Debian's base";

/// One Debian package of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// `initrd` or `node`: what it is part of.
    pub root: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`
    pub architecture: String,
    /// The source package it was built from.
    pub source: String,
    /// Bytes of its files, as Debian counts them before anything is left out.
    pub bytes: u64,
    /// `node.list:12`, `sheaf.toml:9` or [`BASE`].
    pub asked: String,
    /// The package that needs it, when it was not asked for itself.
    pub needed_by: Option<String>,
    /// Its files are left out of the image: only the build needs them.
    pub left_out: bool,
}

/// A package that was asked for, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// `node.list:12`
    pub line: String,
}

/// The packages of `status`, the root of `world`; `left_out` are patterns of names whose files are not in the image.
pub fn packages(status: &str, world: World, asked: &[Asked], left_out: &[String]) -> Vec<Package> {
    let paragraphs = control::parse(status);
    let installed: BTreeMap<_, _> = paragraphs
        .iter()
        .filter(|paragraph| paragraph.get("Status").ends_with(" installed"))
        .map(|paragraph| (paragraph.get("Package"), paragraph))
        .collect();
    let brought = brought(&installed, asked);
    let package = |(name, paragraph): (&&str, &&Paragraph<'_>)| {
        let (asked, needed_by) = brought.get(name).copied().unwrap_or((BASE, None));
        let source = paragraph.get("Source").split(' ').next().filter(|source| !source.is_empty());
        let kibibytes: u64 = paragraph.get("Installed-Size").parse().unwrap_or_default();
        Package {
            root: world.name().to_owned(),
            name: (*name).to_owned(),
            version: paragraph.get("Version").to_owned(),
            architecture: paragraph.get("Architecture").to_owned(),
            source: source.unwrap_or(name).to_owned(),
            bytes: kibibytes * 1024,
            asked: asked.to_owned(),
            needed_by: needed_by.map(str::to_owned),
            left_out: left_out.iter().any(|pattern| matches(pattern, name)),
        }
    };
    installed.iter().map(package).collect()
}

/// What brought each package: the line, and the package that needs it.
fn brought<'a>(
    installed: &BTreeMap<&'a str, &Paragraph<'a>>,
    asked: &'a [Asked],
) -> BTreeMap<&'a str, (&'a str, Option<&'a str>)> {
    let mut providers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, paragraph) in installed {
        paragraph.names("Provides").for_each(|provided| {
            providers.entry(provided).or_insert(name);
        });
    }
    let is_base = |paragraph: &Paragraph<'_>| {
        paragraph.get("Essential") == "yes" || paragraph.get("Priority") == "required"
    };
    let mut brought = BTreeMap::new();
    for Asked { name, line } in asked {
        brought.entry(name.as_str()).or_insert((line.as_str(), None));
    }
    // Debian's own come first: what they need, every root has.
    let base: Vec<_> = installed
        .iter()
        .filter(|(name, paragraph)| is_base(paragraph) && !brought.contains_key(*name))
        .map(|(name, _)| *name)
        .collect();
    brought.extend(base.iter().map(|name| (*name, (BASE, None))));
    let mut open: VecDeque<_> =
        base.into_iter().chain(asked.iter().map(|asked| asked.name.as_str())).collect();
    while let Some(name) = open.pop_front() {
        let (Some(paragraph), Some((line, _))) = (installed.get(name), brought.get(name).copied()) else {
            continue;
        };
        for needed in paragraph.names("Pre-Depends").chain(paragraph.names("Depends")) {
            let found = installed.get_key_value(needed).map(|(name, _)| *name);
            let Some(found) = found.or_else(|| providers.get(needed).copied()) else { continue };
            if !brought.contains_key(found) {
                brought.insert(found, (line, Some(name)));
                open.push_back(found);
            }
        }
    }
    brought
}

/// Whether `pattern`, a name or its beginning and `*`, is of `name`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.41\nArchitecture: amd64\nSource: glibc\n\
        Installed-Size: 2\n\nPackage: dpkg\nEssential: yes\nStatus: install ok installed\nPre-Depends: libc6 (>= 2.34)\n\n\
        Package: libvirt-daemon\nStatus: install ok installed\nSource: libvirt (11.3)\nDepends: libvirt0 (= 11.3), \
        libc6, default-awk | mawk\n\nPackage: libvirt0\nStatus: install ok installed\nDepends: libxml2\n\n\
        Package: gawk\nProvides: awk, default-awk (= 1)\nStatus: install ok installed\n\n\
        Package: libxml2\nStatus: install ok installed\n\nPackage: gone\nStatus: deinstall ok config-files\n";

    #[test]
    fn a_package_is_traced_to_the_line_that_asked_for_what_needs_it() {
        let asked = [Asked { name: "libvirt-daemon".into(), line: "node.list:12".into() }];
        let found = packages(STATUS, World::Node, &asked, &["dpk*".into(), "libxml".into()]);
        let of = |name: &str| found.iter().find(|package| package.name == name).unwrap();
        let brought = |name: &str| (of(name).asked.as_str(), of(name).needed_by.as_deref());
        assert_eq!(brought("libvirt-daemon"), ("node.list:12", None));
        assert_eq!(brought("libxml2"), ("node.list:12", Some("libvirt0")));
        assert_eq!(brought("gawk"), ("node.list:12", Some("libvirt-daemon")), "it provides what is needed");
        assert_eq!((brought("dpkg"), brought("libc6")), ((BASE, None), (BASE, Some("dpkg"))));
        assert_eq!((of("libc6").source.as_str(), of("libc6").bytes), ("glibc", 2048));
        assert_eq!(of("libvirt-daemon").source, "libvirt");
        let left_out: Vec<_> =
            found.iter().filter(|package| package.left_out).map(|package| &package.name).collect();
        assert_eq!(left_out, ["dpkg"]);
        assert_eq!(found.len(), 6, "what is not installed is not in the root");
    }
}
