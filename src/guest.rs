//! `sheaf guest`: the disk that VMs of the demo and of the tests boot.

use crate::workplace::Workplace;
use std::path::{Path, PathBuf};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where it is written; default: target/sheaf/guest/guest.raw
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs it; prints the disk's path.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    println!("{}", build(&Workplace::find()?, arguments.out.as_deref())?.display());
    Ok(())
}

/// Makes the disk unless it is there.
pub fn build(place: &Workplace, out: Option<&Path>) -> anyhow::Result<PathBuf> {
    let tools = sheaf_os_image::tools::ensure(&place.build_context(), &place.source, &place.mirrors(None))?;
    let folder = place.source.path("target/sheaf/guest");
    let out = out.map_or_else(|| folder.join("guest.raw"), Path::to_owned);
    sheaf_machine::guest::build(
        &sheaf_machine::Tools::at(tools.root().to_owned()),
        &folder.join("work"),
        &out,
    )?;
    Ok(out)
}
