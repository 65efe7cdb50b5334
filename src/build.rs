//! `sheaf build RECIPE`: a release folder from a recipe.

use crate::workplace::Workplace;
use anyhow::anyhow;
use sheaf_config::recipe::{Kube, Recipe};
use sheaf_os_image::debian::Supply;
use sheaf_os_image::lock::Lock;
use sheaf_os_image::lock::wanted::Wanted;
use sheaf_os_image::signing::{Given, KEY_VARIABLE, Key, PASSPHRASE_VARIABLE};
use sheaf_release::keys::Chain;
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
    /// No node updates to it from this time on (2027-06-01T00:00:00Z), instead of the recipe's [release] expires
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Put the folder `releases` here instead of target/sheaf
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Build from exactly what the lock beside the recipe names, or refuse
    #[arg(long, conflicts_with = "update")]
    locked: bool,
    /// For a release that others shall install: refuse the throw-away key
    #[arg(long, requires = "locked")]
    ship: bool,
}

/// Which packages a release is built from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Packages {
    /// Those fetched before, if any.
    Kept,
    /// Those that the mirrors have now.
    Newest,
    /// Those of the lock.
    Locked,
}

impl Arguments {
    fn packages(&self) -> Packages {
        match (self.update, self.locked) {
            (true, _) => Packages::Newest,
            (_, true) => Packages::Locked,
            _ => Packages::Kept,
        }
    }
}

/// Runs it; prints the release folder.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { recipe, version, expires, into, ship, .. } = arguments;
    let other = Other { version: version.as_deref(), expires: expires.as_deref(), into: into.as_deref() };
    println!("{}", built(recipe, arguments.packages(), *ship, &other)?.display());
    Ok(())
}

/// The recipe at `path`, with the control plane that `SHEAF_KUBE` names.
pub fn recipe(path: &Path) -> anyhow::Result<Recipe> {
    let mut recipe = Recipe::load(path)?;
    if let Some(ready) = env::var_os("SHEAF_KUBE") {
        recipe.kube = Kube::File(env::current_dir()?.join(ready));
    }
    Ok(recipe)
}

/// What is other than in the recipe.
#[derive(Default)]
struct Other<'a> {
    version: Option<&'a str>,
    expires: Option<&'a str>,
    into: Option<&'a Path>,
}

/// Builds the release of the recipe at `path`; gives its folder. One to `ship` is not signed with the throw-away key.
pub fn release(path: &Path, packages: Packages, ship: bool) -> anyhow::Result<PathBuf> {
    built(path, packages, ship, &Other::default())
}

fn built(path: &Path, packages: Packages, ship: bool, other: &Other<'_>) -> anyhow::Result<PathBuf> {
    let begin = Instant::now();
    let mut recipe = recipe(path)?;
    if let Some(version) = other.version {
        recipe = recipe.with_version(version).map_err(|wrong| anyhow!("--version: {wrong}"))?;
    }
    if let Some(expires) = other.expires {
        recipe = recipe.with_expiry(expires).map_err(|wrong| anyhow!("--expires: {wrong}"))?;
    }
    let place = Workplace::find()?;
    let mirrors = place.mirrors(Some(&recipe.packages));
    let mut context = place.build_context();
    if let Some(into) = other.into {
        context.target = into.to_owned();
    }
    let given = Given { key: env::var(KEY_VARIABLE).ok(), passphrase: env::var(PASSPHRASE_VARIABLE).ok() };
    let key = Key::of(&context, recipe.release.signing.as_ref(), &given)?;
    let key = key.with_keys(recipe.release.keys.as_deref())?;
    anyhow::ensure!(
        !ship || key.throw_away.is_none(),
        "{}: a release to be shipped is not signed with a throw-away key; name a key in the recipe ([release] signing-key), \
         or give one in {KEY_VARIABLE}",
        path.display()
    );
    let build = |supply| sheaf_os_image::build(&context, &place.source, &recipe, &mirrors, supply, &key);
    let built = match packages {
        Packages::Locked => {
            let path = Lock::path(path);
            let lock = Lock::read(&path)?;
            lock.is_of(&Wanted::of(&context, &place.source, &recipe)?, &path)?;
            build(Supply::Lock(&lock))?
        }
        _ => build(Supply::Mirrors(&place.fetched(packages == Packages::Newest)?))?,
    };
    eprintln!("built in {:.0} s; Linux {}", begin.elapsed().as_secs_f32(), built.kernel);
    if let Some(missing) = unsigned(&key)? {
        eprintln!("{missing}: sheaf keys sign {} --key FILE", built.folder.display());
    }
    built.throw_away_key.iter().for_each(|key| eprint!("{}", warning(key)));
    Ok(built.folder)
}

/// What a release that was signed once still lacks, if its keys ask for more signatures.
fn unsigned(key: &Key) -> anyhow::Result<Option<String>> {
    let Some(keys) = &key.keys else { return Ok(None) };
    let need = Chain::parse(keys.as_bytes())?.newest()?.threshold;
    let missing = || format!("signed by 1 of {need} keys; no node takes it before the others sign");
    Ok((need > 1).then(missing))
}

/// For releases that only their builder should install.
fn warning(key: &Path) -> String {
    format!(
        "\n\
         WARNING: this release is signed with the throw-away key\n    \
         {}\n\
         Anyone who can read that file can sign releases that this one's installer accepts. Do not give it to others:\n\
         make a key (minisign -G -s FILE) and name it in the recipe ([release] signing-key).\n\n",
        key.display()
    )
}
