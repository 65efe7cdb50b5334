//! Programs of the tools chroot, run in place.
//!
//! Why here: QEMU must be the chroot's (Debian 12's own kills trixie kernels under TCG), and entering the chroot
//! would hide the caller's files and need privileges. A program's loader can be told where its libraries are.
//! Route in: `SHEAF_TOOLS`, or the newest `~/.cache/sheaf/tools*`. Route out: [`Command`]s.

use sheaf_host::run::Command;
use std::path::{Path, PathBuf};

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
    "{looked}: no tools chroot with {program} there; `sheaf build` makes one, or set SHEAF_TOOLS to its folder"
)]
pub struct NoTools {
    looked: String,
    program: &'static str,
}

impl Tools {
    /// The chroot that `SHEAF_TOOLS` names, else the newest one in the cache that holds QEMU.
    pub fn find() -> Result<Self, NoTools> {
        let program = "usr/bin/qemu-system-x86_64";
        let usable = |root: &PathBuf| root.join(program).exists();
        if let Some(root) = std::env::var_os("SHEAF_TOOLS").map(PathBuf::from) {
            let missing = NoTools { looked: root.display().to_string(), program };
            return Some(root).filter(usable).map(Self::at).ok_or(missing);
        }
        let cache = cache_dir();
        let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
        let entries = std::fs::read_dir(&cache).into_iter().flatten().flatten().map(|entry| entry.path());
        entries
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tools")))
            .filter(usable)
            .max_by_key(modified)
            .map(Self::at)
            .ok_or(NoTools { looked: cache.join("tools*").display().to_string(), program })
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

    /// A program of the chroot (`usr/bin/qemu-img`) on the caller's files. It ends with the caller, however that
    /// ends, but note: with the *thread* that started it.
    pub fn command(&self, program: &str) -> Command {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(self.file(LOADER))
            .arg("--library-path")
            .arg(self.file(LIBRARIES))
            .arg(self.file(program))
            .env("QEMU_MODULE_DIR", self.file("usr/lib/x86_64-linux-gnu/qemu"))
    }
}

fn cache_dir() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(home).join("sheaf")
}
