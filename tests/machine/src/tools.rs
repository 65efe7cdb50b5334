//! Programs of the tools chroot, run in place.
//!
//! Why here: QEMU must be the chroot's (Debian 12's own kills trixie kernels under TCG), and entering the chroot
//! would hide the caller's files and need privileges. A program's loader can be told where its libraries are.
//! Route in: `SHEAF_TOOLS`, or the chroot that the last build used. Route out: [`Command`]s.

use crate::emulator::{self, EmulatorError};
use sheaf_host::run::Command;
use std::path::{Path, PathBuf};

const QEMU: &str = "usr/bin/qemu-system-x86_64";
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The tools chroot.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
}

/// No chroot with QEMU was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "{looked}: no tools chroot with {program} there; `sheaf tools` makes one, or set SHEAF_TOOLS to its folder"
)]
pub struct NoTools {
    looked: String,
    program: &'static str,
}

impl Tools {
    /// The chroot that `SHEAF_TOOLS` names, else the one that `sheaf tools` made last.
    pub fn find() -> Result<Self, NoTools> {
        let program = QEMU;
        let usable = |root: &PathBuf| root.join(program).exists();
        if let Some(root) = std::env::var_os("SHEAF_TOOLS").map(PathBuf::from) {
            let missing = NoTools { looked: root.display().to_string(), program };
            return Some(root).filter(usable).map(Self::at).ok_or(missing);
        }
        // A path through the link would change under a running machine's feet when a build makes a new chroot.
        let current = cache_dir().join("tools-current");
        let missing = NoTools { looked: current.display().to_string(), program };
        current.canonicalize().ok().filter(usable).map(Self::at).ok_or(missing)
    }

    /// The chroot at `root`.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the chroot.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// QEMU for a machine with the accelerator `accel` (as `-accel` has it): emulated ones get a copy without the race
    /// that breaks nodes.
    pub fn qemu(&self, accel: &str) -> Result<Command, EmulatorError> {
        let qemu = self.file(QEMU);
        match accel.starts_with("tcg") {
            true => Ok(self.run(&emulator::without_faults(&qemu, &cache_dir())?)),
            false => Ok(self.run(&qemu)),
        }
    }

    /// A program of the chroot (`usr/bin/qemu-img`) on the caller's files. It ends with the caller, however that
    /// ends, but note: with the *thread* that started it.
    pub fn command(&self, program: &str) -> Command {
        self.run(&self.file(program))
    }

    fn run(&self, program: &Path) -> Command {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(self.file(LOADER))
            .arg("--library-path")
            .arg(self.file(LIBRARIES))
            .arg(program)
            .env("QEMU_MODULE_DIR", self.file("usr/lib/x86_64-linux-gnu/qemu"))
    }
}

fn cache_dir() -> PathBuf {
    if let Some(cache) = std::env::var_os("SHEAF_CACHE") {
        return PathBuf::from(cache);
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(home).join("sheaf")
}
