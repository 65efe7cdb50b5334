//! `sheaf kube`: the control plane's binary alone.

use crate::workplace::Workplace;
use sheaf_os_image::stages::kube;
use std::env;
use std::path::PathBuf;

/// Runs it; prints the binary's path.
pub fn run() -> anyhow::Result<()> {
    println!("{}", build(&Workplace::find()?)?.display());
    Ok(())
}

/// Builds the binary, unless `SHEAF_KUBE` names one; gives its path.
pub fn build(place: &Workplace) -> anyhow::Result<PathBuf> {
    if let Some(ready) = env::var_os("SHEAF_KUBE") {
        return Ok(env::current_dir()?.join(ready));
    }
    Ok(kube::build(&place.build_context(), &place.source)?.file(kube::FILE))
}
