//! Asks apt which packages a root would be made of today, without fetching or installing one.
//!
//! Why in two steps: mmdebstrap installs Debian's essential packages first, and what it asks for after that depends on
//! which are there. Indexes are verified by Debian's keys, as in a build; from then on the SHA-256 in the lock is enough.
//! Route in: names of packages, mirrors. Route out: [`Debs`].

use super::{Deb, Debs, World};
use crate::control;
use crate::debian::{ARCH, Mirrors, SUITE};
use crate::error::BuildError;
use sheaf_host::run::{Command, Run};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Debian's own keys, on every Debian and with the package that `mmdebstrap` is required with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Settings of an apt that knows nothing of the host it runs on; `@` is its folder.
const SETTINGS: &str = r#"Dir::State "@/state";
Dir::State::Lists "@/lists";
Dir::State::status "@/status";
Dir::Cache "@/cache";
Dir::Etc::SourceList "@/sources.list";
Dir::Etc::SourceParts "@/none";
Dir::Etc::Parts "@/none";
Dir::Etc::Main "@/none";
Dir::Etc::Preferences "@/none";
Dir::Etc::PreferencesParts "@/none";
Dir::Etc::Trusted "@/none";
Dir::Etc::TrustedParts "@/none";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
"#;

/// Prints what apt would fetch, as URIs, and after a line `--` the paragraphs of those packages.
/// Arguments: the folder, then packages and patterns of the second step.
const RESOLVE: &str = r#"set -eu
dir=$1; shift
resolve() { apt-get --quiet=2 --yes --print-uris install "$@"; }
paragraphs() { sed -n "s/^'[^']*' \([^_]*\)_\([^_]*\)_.*/\1=\2/p" | sed 's/%3a/:/' | xargs apt-cache show; }
apt-get --quiet=2 update
resolve "$ESSENTIAL" >"$dir/first"
paragraphs <"$dir/first" | sed 's/^Package:.*/&\nStatus: install ok installed/' >"$dir/status"
resolve "$@" >"$dir/second"
: >"$dir/status"
cat "$dir/first" "$dir/second"
echo --
cat "$dir/first" "$dir/second" | paragraphs"#;

/// A root to be resolved.
pub struct Resolve<'a> {
    /// What it is for.
    pub world: World,
    /// Packages asked for.
    pub packages: &'a [String],
    /// Debian's components.
    pub components: &'a [String],
    /// Where indexes come from.
    pub mirrors: &'a Mirrors,
}

impl Resolve<'_> {
    /// Resolves it in the empty folder `dir`.
    pub fn run(&self, run: &dyn Run, dir: &Path) -> Result<Debs, BuildError> {
        for name in ["state", "lists/partial", "cache/archives/partial", "none"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(BuildError::io(&path))?;
        }
        let access = self.mirrors.access.apt_options.iter().map(|option| format!("{option};\n"));
        let settings = SETTINGS.replace('@', &dir.display().to_string()) + &access.collect::<String>();
        for (name, text) in [("status", ""), ("sources.list", &self.sources()), ("apt.conf", &settings)] {
            let path = dir.join(name);
            fs::write(&path, text).map_err(BuildError::io(&path))?;
        }
        let resolve = Command::new("sh")
            .args(["-c", RESOLVE, "resolve"])
            .arg(dir)
            .args(self.packages)
            .args(variant(self.world))
            .env("APT_CONFIG", dir.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .env("ESSENTIAL", narrow("?essential"));
        parse(&run.run(&resolve)?.text(), self.mirrors)
    }

    fn sources(&self) -> String {
        let components = self.components.join(" ");
        let line = |(suite, mirror): (String, &String)| {
            format!("deb [signed-by={KEYRING}] {mirror} {suite} {components}\n")
        };
        suites(self.mirrors).into_iter().map(line).collect()
    }
}

/// What mmdebstrap adds of itself: of its variant `minbase`, and of `apt` for the tools.
fn variant(world: World) -> Vec<String> {
    let apt = "apt".to_owned();
    match world {
        World::Tools => vec![apt],
        World::Initrd | World::Node => vec![apt, narrow("?and(?priority(required),?not(?essential))")],
    }
}

/// Packages of Debian's release itself that match `pattern`.
fn narrow(pattern: &str) -> String {
    format!("?narrow(?or(?archive(^{SUITE}$),?codename(^{SUITE}$)),?architecture({ARCH}),{pattern})")
}

/// Each suite and its mirror.
pub fn suites(mirrors: &Mirrors) -> [(String, &String); 2] {
    [(SUITE.to_owned(), &mirrors.main), (format!("{SUITE}-security"), &mirrors.security)]
}

/// Reads what [`RESOLVE`] printed.
fn parse(text: &str, mirrors: &Mirrors) -> Result<Debs, BuildError> {
    let damaged =
        |what: String| BuildError::wrong(what, "check the mirrors: SHEAF_MIRROR, SHEAF_SECURITY_MIRROR");
    let (uris, paragraphs) =
        text.split_once("\n--\n").ok_or_else(|| damaged("apt resolved no package".to_owned()))?;
    // 'URI' FILE SIZE SUM
    let origin = |line: &str| {
        let mut words = line.split_whitespace();
        let (uri, file) = (words.next()?.trim_matches('\'').to_owned(), words.next()?.to_owned());
        Some((file, uri))
    };
    let uris: BTreeMap<_, _> = uris.lines().filter_map(origin).collect();
    let mut debs = Debs::new();
    for paragraph in control::parse(paragraphs) {
        let [name, version, arch, path] =
            ["Package", "Version", "Architecture", "Filename"].map(|key| paragraph.get(key));
        let file = format!("{name}_{}_{arch}.deb", version.replace(':', "%3a"));
        let suite = uris.get(&file).and_then(|uri| {
            let is_of = |mirror: &str| uri.strip_prefix(mirror).is_some_and(|rest| rest.starts_with('/'));
            suites(mirrors).into_iter().find(|(_, mirror)| is_of(mirror))
        });
        let size = paragraph.get("Size").parse();
        let (Some((suite, _)), Ok(size), false) = (suite, size, paragraph.get("SHA256").is_empty()) else {
            return Err(damaged(format!("apt's index has no place, size or SHA-256 of {name} {version}")));
        };
        let deb = Deb {
            version: version.to_owned(),
            from: format!("{suite}/{}", component(path)),
            path: path.to_owned(),
            size,
            sha256: paragraph.get("SHA256").to_owned(),
        };
        debs.insert(name.to_owned(), deb);
    }
    match debs.len() == uris.len() {
        true => Ok(debs),
        false => Err(damaged(format!("apt resolved {} packages and described {}", uris.len(), debs.len()))),
    }
}

/// `pool/main/g/glibc/…`, or `pool/updates/main/g/glibc/…` of security updates → `main`
fn component(path: &str) -> &str {
    path.split('/').skip(1).find(|part| *part != "updates").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors() -> Mirrors {
        Mirrors {
            main: "http://deb.debian.org/debian".into(),
            security: "http://deb.debian.org/debian-security".into(),
            access: crate::debian::Access::default(),
        }
    }

    const ANSWER: &str = "'http://deb.debian.org/debian/pool/main/g/gcc-14/libstdc%2b%2b6_14.2.0-19_amd64.deb' \
        libstdc++6_14.2.0-19_amd64.deb 7 MD5Sum:aa\n\
        'http://deb.debian.org/debian-security/pool/updates/main/v/vim/xxd_9.1-1_amd64.deb' xxd_2%3a9.1-1_amd64.deb 9 \
        SHA256:bb\n--\n\
        Package: libstdc++6\nVersion: 14.2.0-19\nArchitecture: amd64\nSize: 7\nSHA256: aa\n\
        Filename: pool/main/g/gcc-14/libstdc++6_14.2.0-19_amd64.deb\n\n\
        Package: xxd\nVersion: 2:9.1-1\nArchitecture: amd64\nSize: 9\nSHA256: bb\n\
        Filename: pool/updates/main/v/vim/xxd_9.1-1_amd64.deb\n";

    #[test]
    fn a_package_comes_from_the_suite_whose_mirror_apt_would_fetch_it_from() {
        let debs = parse(ANSWER, &mirrors()).unwrap();
        let of = |name: &str| (debs[name].from.as_str(), debs[name].version.as_str(), debs[name].size);
        assert_eq!(of("libstdc++6"), ("trixie/main", "14.2.0-19", 7));
        assert_eq!(of("xxd"), ("trixie-security/main", "2:9.1-1", 9));
    }

    #[test]
    fn a_package_without_sum_or_without_description_is_refused() {
        for (from, to) in [("SHA256: bb", "SHA256:"), ("Package: xxd", "Package: other")] {
            let error = parse(&ANSWER.replace(from, to), &mirrors()).unwrap_err().to_string();
            assert!(error.contains("SHEAF_MIRROR"), "{error}");
        }
    }
}
