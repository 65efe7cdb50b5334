//! Programs of others, built from their Go modules.
//!
//! Why here: what people use is tried as it is. Route in: a module below this crate, or a variable that names a program which
//! is built; Go and the module proxy. Built once a content of the module, in `~/.cache/sheaf/NAME/`. Route out: a program.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A cold build on two cores that are shared.
const BUILD: Duration = Duration::from_secs(40 * 60);

/// Held by who builds.
static BUILDING: Mutex<()> = Mutex::new(());

/// The folder of `module`.
pub fn module(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(module)
}

/// The program of `name`: what SHEAF_NAME says, else built from the module of that name with further flags of the linker.
pub fn program(name: &str, flags: &str) -> Result<PathBuf> {
    let variable = format!("SHEAF_{}", name.to_uppercase().replace('-', "_"));
    if let Some(path) = std::env::var_os(&variable) {
        return Ok(path.into());
    }
    let module = module(name);
    let mut digest = Sha256::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        let path = module.join(file);
        digest.update(fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?);
    }
    let flags = format!("-s -w {flags}");
    let about = format!("set {variable} to a program that is built");
    built(name, digest, &module, &["-ldflags", &flags]).context(about)
}

/// The program of the Go module in `folder`, built with further `words` once for each `content`.
pub(crate) fn built(name: &str, content: Sha256, folder: &Path, words: &[&str]) -> Result<PathBuf> {
    let key: String = content.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let kept = Path::new(&home).join(".cache/sheaf").join(name).join(key);
    let program = kept.join(name);
    // Cases of one program that need it at once build it once.
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&kept)?;
    // Under another name until it is whole.
    let unfinished = kept.join(format!("unfinished-{}", std::process::id()));
    let build = Command::new("go")
        .args(["build", "-trimpath"])
        .args(words.iter().copied())
        .arg("-o")
        .arg(&unfinished)
        .arg(".")
        .dir(folder)
        .env("CGO_ENABLED", "0")
        .deadline(BUILD);
    System.run(&build).with_context(|| format!("building {name}"))?;
    fs::rename(&unfinished, &program)?;
    Ok(program)
}
