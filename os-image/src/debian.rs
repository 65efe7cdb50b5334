//! Debian: its release, its mirrors, and the call of mmdebstrap that makes a root of packages.
//!
//! Route in: package names. Route out: a command, run on the build host for the tools chroot and in the tools
//! chroot for everything else.

use crate::lock::Lock;
use sheaf_host::run::Command;
use std::collections::BTreeMap;

/// The Debian release of the node and of the tools. One constant: dracut modules, unit files and the list of
/// tools are written for it.
pub const SUITE: &str = "trixie";
/// The only architecture so far.
pub const ARCH: &str = "amd64";

/// Debian's own mirror.
pub const MIRROR: &str = "http://deb.debian.org/debian";
/// Its security updates.
pub const SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// Where packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    /// Debian.
    pub main: String,
    /// Its security updates.
    pub security: String,
    /// How apt reaches them: `Acquire::…` options and proxy variables of the build host.
    pub access: Access,
}

/// Which versions of packages roots are made of.
#[derive(Clone, Copy, Debug)]
pub enum Supply<'a> {
    /// Those that mirrors have. The text names their state: packages are fetched again when it changes.
    Mirrors(&'a str),
    /// Those of a lock, and no others.
    Lock(&'a Lock),
}

/// The build host's way to the network; it does not change what is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `Acquire::http::Proxy "…"` lines of its apt configuration.
    pub apt_options: Vec<String>,
    /// `http_proxy` and its kin.
    pub variables: BTreeMap<String, String>,
}

/// A root to be made of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debootstrap<'a> {
    /// mmdebstrap's variant: `minbase` or `apt`.
    pub variant: &'a str,
    /// Debian's components.
    pub components: &'a [String],
    /// Packages beyond the variant's own.
    pub packages: &'a [String],
    /// Where from.
    pub mirrors: &'a Mirrors,
    /// A folder, as seen where mmdebstrap runs, with exactly the packages of the root: they come from there instead.
    pub repository: Option<&'a str>,
    /// Timestamp of every file, in seconds.
    pub epoch: u64,
    /// Shell command run with the root as `$1` after Debian's essential packages.
    pub essential_hook: Option<&'a str>,
}

impl Debootstrap<'_> {
    /// The call that writes the root as a tar file to `tar`, with mmdebstrap's `mode`.
    pub fn command(&self, mode: &str, tar: &str) -> Command {
        // A folder has no priorities: all that a variant would add is among its packages.
        let variant = if self.repository.is_some() { "essential" } else { self.variant };
        let mut command = Command::new("mmdebstrap").args(["--mode", mode, "--variant", variant]);
        command = command.args([
            "--format=tar",
            "--aptopt=Apt::Install-Recommends \"false\"",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ]);
        command =
            command.args(self.mirrors.access.apt_options.iter().map(|option| format!("--aptopt={option}")));
        if let Some(hook) = self.essential_hook {
            command = command.arg(format!("--essential-hook={hook}"));
        }
        command = command.arg(format!("--include={}", self.packages.join(",")));
        command = match self.repository {
            Some(folder) => command.args(["", tar]).arg(format!("deb [trusted=yes] copy:{folder} ./")),
            None => {
                let components = self.components.join(" ");
                command
                    .args([SUITE, tar])
                    .arg(format!("deb {} {SUITE} {components}", self.mirrors.main))
                    .arg(format!("deb {} {SUITE}-security {components}", self.mirrors.security))
            }
        };
        command = command.env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        self.mirrors.access.variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mirrors_the_proxy_and_the_epoch_reach_mmdebstrap() {
        let mirrors = Mirrors {
            main: "http://deb.debian.org/debian".into(),
            security: "http://deb.debian.org/debian-security".into(),
            access: Access {
                apt_options: vec!["Acquire::http::Proxy \"http://proxy.example:3142\"".into()],
                variables: BTreeMap::from([("http_proxy".into(), "http://proxy.example:3142".into())]),
            },
        };
        let command = Debootstrap {
            variant: "minbase",
            components: &["main".into(), "non-free-firmware".into()],
            packages: &["systemd".into(), "udev".into()],
            mirrors: &mirrors,
            repository: None,
            epoch: 7,
            essential_hook: None,
        }
        .command("root", "/mnt/out/tree.tar");
        let text = command.to_string();
        assert!(text.contains("'--aptopt=Acquire::http::Proxy \"http://proxy.example:3142\"'"), "{text}");
        assert!(text.contains("--include=systemd,udev trixie /mnt/out/tree.tar"), "{text}");
        assert!(
            text.ends_with(
                "'deb http://deb.debian.org/debian-security trixie-security main non-free-firmware'"
            )
        );
        assert_eq!(command.env.get(std::ffi::OsStr::new("SOURCE_DATE_EPOCH")).unwrap(), "7");
        assert!(command.env.contains_key(std::ffi::OsStr::new("http_proxy")));
    }

    #[test]
    fn packages_of_a_lock_come_from_their_folder_and_from_no_mirror() {
        let mirrors =
            Mirrors { main: "http://m".into(), security: "http://s".into(), access: Access::default() };
        let command = Debootstrap {
            variant: "minbase",
            components: &["main".into()],
            packages: &["dash".into(), "systemd".into()],
            mirrors: &mirrors,
            repository: Some("/mnt/scratch/debs"),
            epoch: 7,
            essential_hook: None,
        };
        let text = command.command("root", "/mnt/out/tree.tar").to_string();
        assert!(text.contains("--variant essential"), "{text}");
        assert!(
            text.ends_with(
                "--include=dash,systemd '' /mnt/out/tree.tar 'deb [trusted=yes] copy:/mnt/scratch/debs ./'"
            ),
            "{text}"
        );
    }
}
