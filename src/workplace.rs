//! Where commands work: checkout, cache, right to make roots, mirrors.
//!
//! Route in: current directory and environment (`SHEAF_CACHE`, `SHEAF_MIRROR`, `SHEAF_SECURITY_MIRROR`).
//! Route out: what os-image asks for.

use crate::progress::Lines;
use anyhow::Context;
use sheaf_host::chroot::Privilege;
use sheaf_host::run::System;
use sheaf_os_image::build_host;
use sheaf_os_image::debian::{MIRROR, Mirrors, SECURITY_MIRROR};
use sheaf_os_image::source::Source;
use sheaf_os_image::stage::BuildContext;
use std::env;
use std::path::PathBuf;

/// Everything a command works with.
pub struct Workplace {
    /// The checkout.
    pub source: Source,
    cache: PathBuf,
    progress: Lines,
}

impl Workplace {
    /// Of the current directory and this user.
    pub fn find() -> anyhow::Result<Self> {
        let here = env::current_dir().context("the current directory is gone")?;
        let source = Source::find(&here).with_context(|| {
            format!("{} is not inside a checkout of Sheaf; change to one", here.display())
        })?;
        let cache = match env::var_os("SHEAF_CACHE") {
            Some(given) => here.join(given),
            None => user_cache().context("this user has no home directory; set SHEAF_CACHE")?.join("sheaf"),
        };
        Ok(Self { source, cache, progress: Lines::new() })
    }

    /// The place where stages are done.
    pub fn build_context(&self) -> BuildContext<'_> {
        BuildContext {
            run: &System,
            progress: &self.progress,
            privilege: Privilege::current(),
            cache: self.cache.clone(),
            target: self.source.path("target/sheaf"),
        }
    }

    /// Debian's mirrors: of the environment, else as the recipe says, else Debian's own.
    pub fn mirrors(&self, recipe: Option<&sheaf_config::recipe::Packages>) -> Mirrors {
        let choose = |variable: &str, recipe: Option<&String>, default: &str| {
            env::var(variable).ok().or_else(|| recipe.cloned()).unwrap_or_else(|| default.to_owned())
        };
        Mirrors {
            main: choose("SHEAF_MIRROR", recipe.and_then(|packages| packages.mirror.as_ref()), MIRROR),
            security: choose(
                "SHEAF_SECURITY_MIRROR",
                recipe.and_then(|packages| packages.security_mirror.as_ref()),
                SECURITY_MIRROR,
            ),
            access: build_host::access(&System),
        }
    }

    /// Names the state of the mirrors that packages in the cache are of; `update` begins a new one.
    pub fn fetched(&self, update: bool) -> anyhow::Result<String> {
        let path = self.cache.join("packages-fetched");
        if update || !path.exists() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
            sheaf_host::file::write_atomically(&path, now.to_string().as_bytes(), 0o644)?;
        }
        std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))
    }
}

fn user_cache() -> Option<PathBuf> {
    let given = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| Some(env::home_dir()?.join(".cache")))
}
