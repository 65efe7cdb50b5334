//! KubeVirt's own virtctl, built from its Go module (`tests/virtctl/`).
//!
//! Why here: what people type is tried as they type it. Route in: SHEAF_VIRTCTL, or Go and the module proxy; built once a
//! content of the module, in `~/.cache/sheaf/virtctl/`. Route out: a program, and what it prints.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The module, relative to this crate.
const MODULE: &str = "virtctl";
/// A cold build on two cores that are shared.
const BUILD: Duration = Duration::from_secs(40 * 60);

/// The program: SHEAF_VIRTCTL, else the one of this checkout's module.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHEAF_VIRTCTL") {
        return Ok(path.into());
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(MODULE);
    let mut digest = Sha256::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        let path = module.join(file);
        digest.update(fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?);
    }
    let key: String = digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = Path::new(&home).join(".cache/sheaf/virtctl").join(key);
    let program = folder.join("virtctl");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)?;
    // Under another name until it is whole.
    let unfinished = folder.join(format!("unfinished-{}", std::process::id()));
    let build = Command::new("go")
        // The release that go.mod names: virtctl compares it with the server's.
        .args([
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w -X kubevirt.io/client-go/version.gitVersion=v1.7.0",
            "-o",
        ])
        .arg(&unfinished)
        .arg(".")
        .dir(&module)
        .env("CGO_ENABLED", "0")
        .deadline(BUILD);
    System.run(&build).context("building virtctl; set SHEAF_VIRTCTL to a program that is built")?;
    fs::rename(&unfinished, &program)?;
    Ok(program)
}

/// virtctl for the cluster of `kubeconfig`.
pub struct Virtctl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// The API server, where it is not the one that the kubeconfig names.
    server: Option<String>,
}

impl Virtctl {
    /// Builds it if need be.
    pub fn new(kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self { program: binary()?, kubeconfig, server: None })
    }

    /// The same at `server`, a URL.
    #[must_use]
    pub fn at(mut self, server: &str) -> Self {
        self.server = Some(server.to_owned());
        self
    }

    /// `virtctl` with these words, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let command = Command::new(&self.program).arg("--kubeconfig").arg(&self.kubeconfig);
        self.server.iter().fold(command, |command, url| command.arg("--server").arg(url)).args(words)
    }

    /// The program and how it reaches the cluster, as a shell reads them.
    pub fn line(&self) -> String {
        let server = self.server.as_ref().map(|url| format!(" --server {url}")).unwrap_or_default();
        format!("{} --kubeconfig {}{server}", self.program.display(), self.kubeconfig.display())
    }

    /// What it prints, on either stream, and whether it was content.
    pub fn run(&self, words: &[&str]) -> Result<(bool, String)> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("said");
        let status = System.start(&self.command(words).log(log.clone()))?.wait()?;
        Ok((status.success(), fs::read_to_string(log)?))
    }
}
