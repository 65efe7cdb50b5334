//! `sheaf iso RELEASE`: a bootable medium from a release.

use std::path::PathBuf;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Release folder, or the recipe it was built from
    release: PathBuf,
}

/// Runs it.
pub fn run(_: &Arguments) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
