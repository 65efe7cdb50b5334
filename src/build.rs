//! `sheaf build RECIPE`: a release folder from a recipe.

use crate::workplace::Workplace;
use anyhow::anyhow;
use sheaf_config::recipe::{Kube, Recipe};
use std::env;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// The recipe, such as configs/images/sheaf.toml
    recipe: PathBuf,
    /// Fetch the current packages from the mirrors again
    #[arg(long)]
    update: bool,
    /// Build this version instead of the recipe's: the next release of the same content, for trying an update
    #[arg(long)]
    version: Option<String>,
    /// Put the folder `releases` here instead of target/sheaf
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Runs it; prints the release folder.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { recipe, update, version, into } = arguments;
    println!("{}", built(recipe, *update, version.as_deref(), into.as_deref())?.display());
    Ok(())
}

/// Builds the release of the recipe at `recipe`; gives its folder.
pub fn release(recipe: &Path, update: bool) -> anyhow::Result<PathBuf> {
    built(recipe, update, None, None)
}

/// The same as `version`, with its folder below `into`.
fn built(recipe: &Path, update: bool, version: Option<&str>, into: Option<&Path>) -> anyhow::Result<PathBuf> {
    let begin = Instant::now();
    let mut recipe = Recipe::load(recipe)?;
    if let Some(version) = version {
        recipe = recipe.with_version(version).map_err(|wrong| anyhow!("--version: {wrong}"))?;
    }
    if let Some(ready) = env::var_os("SHEAF_KUBE") {
        recipe.kube = Kube::File(env::current_dir()?.join(ready));
    }
    let place = Workplace::find()?;
    let mirrors = place.mirrors(Some(&recipe.packages));
    let fetched = place.fetched(update)?;
    let mut context = place.build_context();
    if let Some(into) = into {
        context.target = into.to_owned();
    }
    let built = sheaf_os_image::build(&context, &place.source, &recipe, &mirrors, &fetched)?;
    eprintln!("built in {:.0} s; Linux {}", begin.elapsed().as_secs_f32(), built.kernel);
    built.throw_away_key.iter().for_each(|key| eprint!("{}", warning(key)));
    Ok(built.folder)
}

/// For releases that only their builder should install.
fn warning(key: &Path) -> String {
    format!(
        "\n\
         WARNING: this release is signed with the throw-away key\n    \
         {}\n\
         Anyone who can read that file can sign releases that this one's installer accepts. Do not give it to others:\n\
         make a key (minisign -G -W -s FILE) and name it in the recipe ([release] signing-key).\n\n",
        key.display()
    )
}
