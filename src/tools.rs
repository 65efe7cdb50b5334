//! `sheaf tools`: the chroot with Debian's tools, QEMU and libvirt among them.

use crate::workplace::Workplace;

/// Runs it; prints the chroot's directory.
pub fn run() -> anyhow::Result<()> {
    let place = Workplace::find()?;
    let tools = sheaf_os_image::tools::ensure(&place.build_context(), &place.source, &place.mirrors(None))?;
    println!("{}", tools.root().display());
    Ok(())
}
