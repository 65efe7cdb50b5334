//! Every bad recipe is refused with exactly the text in the file beside it; every recipe of ours is accepted.
//!
//! Route in: `bad-recipes/NAME.toml`. Route out: `bad-recipes/NAME.err`; `UPDATE=1` rewrites them.

mod golden;

use golden::files;
use sheaf_config::recipe::{Compression, Item, Kube, Recipe};
use std::path::Path;

fn refusal(path: &Path) -> Option<String> {
    let read = Recipe::parse("recipe.toml", &std::fs::read_to_string(path).unwrap(), Path::new(""));
    read.err().map(|errors| errors.to_string())
}

#[test]
fn every_bad_recipe_is_refused_with_exactly_the_text_beside_it() {
    golden::each_is_refused("tests/bad-recipes", 15, refusal);
}

#[test]
fn every_recipe_of_ours_is_accepted() {
    let files = files("images");
    assert!(!files.is_empty());
    for path in files {
        Recipe::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn every_key_reaches_the_recipe_and_paths_start_at_its_directory() {
    let text = "version = 1\n[release]\nname = \"sheaf\"\nversion = \"1.2.3-rc.1\"\nepoch = 7\nsigning-key = \"k\"\n\
                [packages]\nlists = [\"node\"]\nadd = [\"htop\"]\nmirror = \"http://a/debian\"\n\
                security-mirror = \"http://a/security\"\ncomponents = [\"main\"]\n[root]\ncompression = \"lz4\"\n\
                [boot]\narguments = [\"quiet\"]\n[payload]\nzstd-level = 3\n[kube]\npath = \"kube\"\n";
    let recipe =
        Recipe::parse("r.toml", text, Path::new("/recipes")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((recipe.release.epoch, recipe.zstd_level, recipe.compression), (7, 3, Compression::Lz4));
    assert_eq!(recipe.release.signing_key.as_deref(), Some(Path::new("/recipes/k")));
    assert_eq!(recipe.kube, Kube::File("/recipes/kube".into()));
    let htop = Item { value: "htop".into(), line: "r.toml:9".into() };
    assert_eq!((recipe.packages.add, recipe.arguments), (vec![htop], vec!["quiet".to_owned()]));
    assert_eq!(recipe.packages.mirror.as_deref(), Some("http://a/debian"));
}
