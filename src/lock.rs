//! `sheaf lock RECIPE`: the lock beside a recipe, made again from what the mirrors have now.
//!
//! Route in: recipe, checkout, mirrors. Route out: `NAME.lock`, and on standard output what changed in it.

use crate::build::recipe;
use crate::workplace::Workplace;
use anyhow::Context as _;
use sheaf_os_image::lock::{self, Lock, LockError, difference};
use std::path::PathBuf;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// The recipe, such as configs/images/sheaf.toml
    recipe: PathBuf,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
}

/// Runs it; prints the difference.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let recipe = recipe(&arguments.recipe)?;
    let place = Workplace::find()?;
    let path = Lock::path(&arguments.recipe);
    let old = match Lock::read(&path) {
        Ok(lock) => Some(lock),
        Err(LockError::Absent { .. }) => None,
        // Whatever is wrong with it, a new one replaces it.
        Err(error) => {
            eprintln!("{error}");
            None
        }
    };
    let mirrors = place.mirrors(Some(&recipe.packages));
    let new = lock::make(&place.build_context(), &place.source, &recipe, &mirrors, old.as_ref())?;
    match difference::of_locks(old.as_ref(), &new) {
        same if same.is_empty() => println!("{}: nothing changed", path.display()),
        difference => print!("{}:\n{difference}", path.display()),
    }
    if !arguments.dry_run {
        sheaf_host::file::write_atomically(&path, new.to_string().as_bytes(), 0o644)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}
