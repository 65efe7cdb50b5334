//! The bill of materials of a release: SPDX 2.3 as JSON, of Debian's packages, crates, Go modules and npm packages alike.
//!
//! Why one document: a scanner that asks whether a release has a broken library shall not care who packaged it. The node
//! has it at `/usr/share/sheaf/sbom.spdx.json`, the release beside its manifest.
//! Route in: [`Bill`], collected by the stage `contents`. Route out: text, the same for the same release.

use crate::contents::Package;
use crate::crates::Crate;
use crate::debian::SUITE;
use crate::go::BuildInfo;
use crate::inputs::Digest;
use crate::npm::Npm;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Its file in the release, and below `/usr/share/sheaf` on a node.
pub const FILE: &str = "sbom.spdx.json";

/// What is not known, in SPDX's word.
const UNKNOWN: &str = "NOASSERTION";

/// What a release is made of.
pub struct Bill<'a> {
    /// `sheaf`
    pub name: &'a str,
    /// `0.1.0`
    pub version: &'a str,
    /// `2026-01-01T00:00:00Z`: the release's own time, so that the document is the same when it is made again.
    pub created: &'a str,
    /// Debian's packages of both roots and of the boot loaders.
    pub packages: &'a [Package],
    /// SHA-256 of packages by name and version, when they came from a lock.
    pub sums: &'a BTreeMap<(String, String), String>,
    /// Crates of each program.
    pub programs: &'a BTreeMap<String, BTreeSet<Crate>>,
    /// The control plane.
    pub kube: &'a BuildInfo,
    /// The console's page.
    pub page: &'a BTreeSet<Npm>,
}

/// The document in the making.
#[derive(Default)]
struct Document {
    packages: BTreeMap<String, Value>,
    relationships: BTreeSet<(String, &'static str, String)>,
}

impl Bill<'_> {
    /// The document.
    pub fn document(&self) -> String {
        let mut document = Document::default();
        let release = document.part("release", self.name, self.version, None);
        document.relate("SPDXRef-DOCUMENT", "DESCRIBES", &release);
        self.debian(&mut document, &release);
        self.rust(&mut document, &release);
        self.go(&mut document, &release);
        self.npm(&mut document, &release);
        let packages: Vec<_> = document.packages.into_values().collect();
        let relationships: Vec<_> = document
            .relationships
            .into_iter()
            .map(|(from, kind, to)| {
                json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
            })
            .collect();
        let sum = Digest::of(json!([packages, relationships]).to_string().as_bytes());
        let document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": format!("{}-{}", self.name, self.version),
            "documentNamespace": format!("https://sheaf.dev/spdx/{}-{}-{sum}", self.name, self.version),
            "creationInfo": {
                "created": self.created,
                "creators": [format!("Tool: sheaf-{}", env!("CARGO_PKG_VERSION"))],
            },
            "packages": packages,
            "relationships": relationships,
        });
        format!("{document:#}\n")
    }

    fn debian(&self, document: &mut Document, release: &str) {
        for package in self.packages.iter().filter(|package| !package.left_out) {
            let root =
                document.part(&package.root, &format!("{} {}", self.name, package.root), self.version, None);
            document.relate(release, "CONTAINS", &root);
            let Package { name, version, architecture, source, .. } = package;
            let id = id(&format!("deb-{name}-{version}"));
            let purl = format!(
                "pkg:deb/debian/{}@{}?arch={architecture}&distro={SUITE}",
                encoded(name),
                encoded(version)
            );
            let mut value = described(&id, name, version, &purl);
            value["sourceInfo"] = json!(format!("built from the Debian source package {source}"));
            value["supplier"] = json!("Organization: Debian");
            if let Some(sum) = self.sums.get(&(name.clone(), version.clone())) {
                value["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sum}]);
            }
            document.add(&root, &id, value);
        }
    }

    fn rust(&self, document: &mut Document, release: &str) {
        for (program, crates) in self.programs {
            let ours = crates.iter().find(|found| found.name == *program);
            let version = ours.map_or(self.version, |found| &found.version);
            let licence = ours.and_then(|found| found.licence.as_deref());
            let part = document.part(program, program, version, licence);
            document.relate(release, "CONTAINS", &part);
            for Crate { name, version, licence, sha256 } in
                crates.iter().filter(|found| found.name != *program)
            {
                let id = id(&format!("crate-{name}-{version}"));
                let mut value = match sha256 {
                    Some(_) => {
                        described(&id, name, version, &format!("pkg:cargo/{name}@{}", encoded(version)))
                    }
                    // One of ours: it is on no registry.
                    None => plain(&id, name, version),
                };
                value["licenseDeclared"] = json!(licence.as_deref().unwrap_or(UNKNOWN));
                if let Some(sum) = sha256 {
                    value["downloadLocation"] =
                        json!(format!("https://static.crates.io/crates/{name}/{version}/download"));
                    value["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sum}]);
                }
                document.add(&part, &id, value);
            }
        }
    }

    fn go(&self, document: &mut Document, release: &str) {
        let part = document.part("kube", "kube", self.version, None);
        document.relate(release, "CONTAINS", &part);
        let stdlib = self.kube.go.trim_start_matches("go");
        let modules = self.kube.modules.iter().map(|module| (module.path.as_str(), module.version.as_str()));
        for (path, version) in modules.chain([("stdlib", stdlib)]) {
            let id = id(&format!("go-{path}-{version}"));
            let purl = format!("pkg:golang/{}@{}", path.to_lowercase(), encoded(version));
            document.add(&part, &id, described(&id, path, version, &purl));
        }
    }

    fn npm(&self, document: &mut Document, release: &str) {
        let part = document.part("page", "the page of sheaf-console", self.version, None);
        document.relate(release, "CONTAINS", &part);
        for Npm { name, version, licence } in self.page {
            let id = id(&format!("npm-{name}-{version}"));
            // The scope of a name is a part of its own, with its `@` escaped.
            let name_parts = name.split('/').map(encoded).collect::<Vec<_>>().join("/");
            let mut value =
                described(&id, name, version, &format!("pkg:npm/{name_parts}@{}", encoded(version)));
            value["licenseDeclared"] = json!(licence.as_deref().unwrap_or(UNKNOWN));
            document.add(&part, &id, value);
        }
    }
}

impl Document {
    /// A part of the release that others are in; it is there once.
    fn part(&mut self, what: &str, name: &str, version: &str, licence: Option<&str>) -> String {
        let id = id(what);
        let mut value = plain(&id, name, version);
        value["licenseDeclared"] = json!(licence.unwrap_or(UNKNOWN));
        self.packages.entry(id.clone()).or_insert(value);
        id
    }

    fn add(&mut self, part: &str, id: &str, value: Value) {
        self.packages.entry(id.to_owned()).or_insert(value);
        self.relate(part, "CONTAINS", id);
    }

    fn relate(&mut self, from: &str, kind: &'static str, to: &str) {
        self.relationships.insert((from.to_owned(), kind, to.to_owned()));
    }
}

/// A package that others know by `purl`.
fn described(id: &str, name: &str, version: &str, purl: &str) -> Value {
    let mut value = plain(id, name, version);
    value["externalRefs"] = json!([
        {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
    ]);
    value
}

fn plain(id: &str, name: &str, version: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    })
}

/// SPDX's identifiers have letters, digits, `.` and `-`.
fn id(text: &str) -> String {
    escaped(text, "SPDXRef-", ".", |byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

/// As purl writes versions.
fn encoded(text: &str) -> String {
    escaped(text, "", "%", |byte| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte))
}

fn escaped(text: &str, before: &str, escape: &str, is_plain: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(before.to_owned(), |mut out, byte| {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "{escape}{byte:02X}"); // a String takes everything
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::Module;

    fn document() -> Value {
        let package = |root: &str, name: &str, left_out| Package {
            root: root.into(),
            name: name.into(),
            version: "1:2+b".into(),
            architecture: "amd64".into(),
            source: "gcc-14".into(),
            bytes: 1,
            asked: String::new(),
            needed_by: None,
            left_out,
        };
        let packages = [
            package("node", "libstdc++6", false),
            package("initrd", "libstdc++6", false),
            package("node", "perl", true),
        ];
        let sums = [(("libstdc++6".to_owned(), "1:2+b".to_owned()), "ab".to_owned())].into();
        let found = |name: &str, sha256: Option<&str>| Crate {
            name: name.into(),
            version: "1.0.0".into(),
            licence: Some("MIT".into()),
            sha256: sha256.map(str::to_owned),
        };
        let crates = [found("sheaf-agent", None), found("sheaf-host", None), found("serde", Some("cd"))];
        let programs = [("sheaf-agent".to_owned(), crates.into())].into();
        let module = Module { path: "k8s.io/api".into(), version: "v0.37.2".into(), sum: String::new() };
        let kube = BuildInfo { go: "go1.26.8".into(), modules: vec![module] };
        let xterm = Npm { name: "@xterm/xterm".into(), version: "6.0.0".into(), licence: Some("MIT".into()) };
        let page = [xterm].into();
        let bill = Bill {
            name: "sheaf",
            version: "0.1.0",
            created: "2026-01-01T00:00:00Z",
            packages: &packages,
            sums: &sums,
            programs: &programs,
            kube: &kube,
            page: &page,
        };
        assert_eq!(bill.document(), bill.document());
        serde_json::from_str(&bill.document()).unwrap()
    }

    #[test]
    fn all_four_worlds_are_in_it_each_by_its_purl() {
        let document = document();
        let purls: Vec<_> = document["packages"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
            .collect();
        let expected = [
            "pkg:cargo/serde@1.0.0",
            "pkg:deb/debian/libstdc%2B%2B6@1%3A2%2Bb?arch=amd64&distro=trixie",
            "pkg:golang/k8s.io/api@v0.37.2",
            "pkg:golang/stdlib@1.26.8",
            "pkg:npm/%40xterm/xterm@6.0.0",
        ];
        assert_eq!(purls, expected, "what is left out of the image, and what is ours, has none");
    }

    #[test]
    fn identifiers_are_unique_and_allowed_and_every_relationship_leads_to_one() {
        let document = document();
        let packages = document["packages"].as_array().unwrap();
        let ids: BTreeSet<_> = packages.iter().map(|package| package["SPDXID"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), packages.len());
        let allowed = |id: &&str| {
            let rest = id.strip_prefix("SPDXRef-").unwrap_or_default();
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        assert!(ids.iter().all(allowed), "{ids:?}");
        let mut contained = BTreeSet::new();
        for relationship in document["relationships"].as_array().unwrap() {
            let (from, to) = (&relationship["spdxElementId"], &relationship["relatedSpdxElement"]);
            assert!(from == "SPDXRef-DOCUMENT" || ids.contains(from.as_str().unwrap()), "{from}");
            contained.insert(to.as_str().unwrap());
        }
        assert_eq!(contained, ids, "everything is part of something");
    }
}
