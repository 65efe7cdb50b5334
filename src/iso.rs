//! `sheaf iso RELEASE`: a bootable medium from a release.

use crate::workplace::Workplace;
use anyhow::{Context, bail};
use sheaf_config::recipe::Recipe;
use sheaf_host::run::System;
use sheaf_iso::{Contents, Release};
use sheaf_os_image::{release, tools};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Release folder, or the recipe it was built from
    release: PathBuf,
    #[command(flatten)]
    with: With,
    /// Where the medium goes; default: target/sheaf/NAME-VERSION.iso
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A release and what goes with it, for commands whose own argument is another.
#[derive(clap::Args)]
pub struct Source {
    /// Release folder, or the recipe it was built from
    #[arg(long, value_name = "RELEASE", default_value = "configs/images/sheaf.toml")]
    release: PathBuf,
    #[command(flatten)]
    with: With,
}

/// What goes with a release.
#[derive(clap::Args)]
struct With {
    /// Node config for an unattended installation
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Disk image that node configs may name as medium:NAME; may be given several times
    #[arg(long = "image", value_name = "[NAME=]FILE")]
    images: Vec<String>,
}

/// A release that was read to its last byte, and what goes with it.
pub struct Chosen {
    pub release: Release,
    pub contents: Contents,
}

impl Source {
    /// Reads and checks everything.
    pub fn open(&self, place: &Workplace) -> anyhow::Result<Chosen> {
        self.with.open(&self.release, place)
    }
}

impl With {
    fn open(&self, from: &Path, place: &Workplace) -> anyhow::Result<Chosen> {
        let config = match &self.config {
            Some(path) => Some((path.clone(), sheaf_config::load::config_file(path)?)),
            None => None,
        };
        let images =
            self.images.iter().map(|text| named_image(text)).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let folder = match from.is_dir() {
            true => from.to_owned(),
            false => release::dir(&place.build_context().target, &Recipe::load(from)?),
        };
        let release = Release::open(&folder)
            .with_context(|| format!("cannot make a medium from {}", from.display()))?;
        Ok(Chosen { release, contents: Contents { config, images } })
    }
}

/// Runs it; prints the medium's path.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let place = Workplace::find()?;
    let Chosen { release, contents } = arguments.with.open(&arguments.release, &place)?;
    let plan = sheaf_iso::plan(&release, &contents)?;
    let context = place.build_context();
    let tools = tools::ensure(&context, &place.source, &place.mirrors(None))?;
    let out =
        arguments.out.clone().unwrap_or_else(|| context.target.join(format!("{}.iso", release.title())));
    sheaf_iso::write(&plan, &tools.chroot(), &System, &out)?;
    println!("{}", out.display());
    Ok(())
}

/// `NAME=FILE`, or `FILE` whose own name it keeps.
fn named_image(text: &str) -> anyhow::Result<(String, PathBuf)> {
    let (name, file) = match text.split_once('=') {
        Some((name, file)) => (name.to_owned(), PathBuf::from(file)),
        None => {
            let name =
                Path::new(text).file_name().with_context(|| format!("--image {text}: is not a file"))?;
            (name.to_string_lossy().into_owned(), PathBuf::from(text))
        }
    };
    if !file.is_file() {
        bail!("--image {text}: {} is not a file", file.display());
    }
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if name.is_empty() || name.starts_with('.') || !plain {
        bail!(
            "--image {text}: \"{name}\" is not a file name for a medium; use letters, digits, '.', '_' and '-'"
        );
    }
    Ok((name, file.canonicalize()?))
}
