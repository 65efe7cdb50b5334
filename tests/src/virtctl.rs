//! KubeVirt's own virtctl, two releases of it built from their Go modules (`tests/virtctl/`, `tests/virtctl-next/`).
//!
//! Why here: what people type is tried as they type it. Route in: [`crate::go`]. Route out: a program, and what it prints.

use crate::go;
use anyhow::Result;
use sheaf_host::run::{Command, System};
use std::fs;
use std::path::PathBuf;

/// A release of virtctl: the module that builds it, and the version that its go.mod names.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    module: &'static str,
    version: &'static str,
}

/// The release whose API Sheaf has.
pub const SAME: Release = Release { module: "virtctl", version: "v1.7.0" };
/// The one after it, which people have, too.
pub const NEXT: Release = Release { module: "virtctl-next", version: "v1.8.0" };

/// virtctl for the cluster of `kubeconfig`.
pub struct Virtctl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// The API server, where it is not the one that the kubeconfig names.
    server: Option<String>,
}

impl Virtctl {
    /// Of the same release as the server, built if need be.
    pub fn new(kubeconfig: PathBuf) -> Result<Self> {
        Self::of(SAME, kubeconfig)
    }

    /// Of `release`, built if need be.
    pub fn of(release: Release, kubeconfig: PathBuf) -> Result<Self> {
        // virtctl compares it with the server's.
        let version = format!("-X kubevirt.io/client-go/version.gitVersion={}", release.version);
        Ok(Self { program: go::program(release.module, &version)?, kubeconfig, server: None })
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
