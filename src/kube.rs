//! `sheaf kube`: the control plane's binary alone.

use crate::workplace::Workplace;
use sheaf_os_image::stages::kube;

/// Runs it; prints the binary's path.
pub fn run() -> anyhow::Result<()> {
    let place = Workplace::find()?;
    let made = kube::build(&place.shop(), &place.source)?;
    println!("{}", made.file(kube::FILE).display());
    Ok(())
}
