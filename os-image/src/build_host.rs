//! What the build host must offer: programs, and its way to the network.
//!
//! Why here: everything else comes from the tools chroot; these few cannot, because they make or enter it or
//! because their version is the checkout's business. What is missing is installed when that needs no decision of
//! the user (root on Debian or Ubuntu), else named with the command that installs it.
//! Route in: a program's name. Route out: nothing, or [`BuildError::Missing`].

use crate::debian::Access;
use crate::error::BuildError;
use sheaf_host::chroot::Privilege;
use sheaf_host::run::{Command, Run};
use std::env;
use std::path::PathBuf;

/// Variables by which programs reach the network.
const PROXY_VARIABLES: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// A program that is needed on the host.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Its name in PATH.
    pub program: &'static str,
    /// Debian packages that bring it; none: not Debian's to bring.
    pub packages: &'static [&'static str],
    /// Said when it cannot be installed from here.
    pub remedy: &'static str,
}

/// Makes the tools chroot; with the keys it checks Debian's signatures by (Ubuntu lacks them).
pub const MMDEBSTRAP: Need = Need {
    program: "mmdebstrap",
    packages: &["mmdebstrap", "debian-archive-keyring"],
    remedy: "install it: apt-get install mmdebstrap debian-archive-keyring",
};
/// Maps the ranges of /etc/subuid, for plain users.
pub const NEWUIDMAP: Need =
    Need { program: "newuidmap", packages: &["uidmap"], remedy: "install it: apt-get install uidmap" };
/// Builds the node's programs.
pub const CARGO: Need = Need {
    program: "cargo",
    packages: &[],
    remedy: "install Rust: curl --proto '=https' -sSf https://sh.rustup.rs | sh",
};
/// Builds the control plane.
pub const GO: Need = Need {
    program: "go",
    packages: &[],
    remedy: "install Go from https://go.dev/dl, or name a ready binary in [kube] of the recipe",
};

/// Builds the console's page, with npm.
pub const NODE: Need = Need {
    program: "node",
    packages: &["nodejs", "npm"],
    remedy: "install Node.js 20.19 or newer with npm from https://nodejs.org (Debian 13: apt-get install nodejs npm)",
};

/// Sees to it that `need` is there.
pub fn require(need: Need, run: &dyn Run, privilege: Privilege) -> Result<(), BuildError> {
    if find(need.program).is_some() {
        return Ok(());
    }
    let may_install = privilege == Privilege::Root && !need.packages.is_empty() && find("apt-get").is_some();
    if may_install {
        run.run(&Command::new("apt-get").args(["update", "--quiet"]))?;
        let install =
            Command::new("apt-get").args(["install", "--yes", "--quiet", "--no-install-recommends"]);
        run.run(&install.args(need.packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
        return Ok(());
    }
    Err(BuildError::Missing { what: need.program.into(), remedy: need.remedy.into() })
}

/// Where `program` lies in PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Tools for administrators are not in a plain user's PATH everywhere.
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// How this host reaches mirrors: its apt's proxy and its proxy variables.
pub fn access(run: &dyn Run) -> Access {
    // A host without apt has no apt settings to honour.
    let dump =
        run.run(&Command::new("apt-config").arg("dump")).map(|output| output.text()).unwrap_or_default();
    let variables =
        PROXY_VARIABLES.into_iter().filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)));
    Access { apt_options: proxy_options(&dump), variables: variables.collect() }
}

/// The proxy settings in what `apt-config dump` printed.
fn proxy_options(dump: &str) -> Vec<String> {
    let is_proxy = |line: &&str| {
        let key = line.split(' ').next().unwrap_or_default().to_lowercase();
        let scheme = key.starts_with("acquire::http::") || key.starts_with("acquire::https::");
        scheme && key.contains("::proxy") && !line.ends_with("\"\";")
    };
    dump.lines().filter(is_proxy).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeRun;

    const ABSENT: Need =
        Need { program: "no-such-program", packages: &["no-such"], remedy: "install no-such" };

    #[test]
    fn of_apts_settings_only_proxies_that_are_set_are_taken_over() {
        let dump = "APT \"\";\nAcquire::http::Proxy \"http://proxy.example:3142\";\nAcquire::https::Proxy \"\";\n\
                    Acquire::http::Pipeline-Depth \"0\";\n";
        assert_eq!(proxy_options(dump), ["Acquire::http::Proxy \"http://proxy.example:3142\""]);
    }

    #[test]
    fn a_plain_user_is_told_the_command_that_installs_what_is_missing() {
        let error = require(ABSENT, &FakeRun::default(), Privilege::UserNamespace).unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is missing on this machine; install no-such");
    }
}
