//! Every bad recipe is refused with exactly the text in the file beside it; every recipe of ours is accepted.
//!
//! Route in: `bad-recipes/NAME.toml`. Route out: `bad-recipes/NAME.err`; `UPDATE=1` rewrites them.

mod golden;

use golden::files;
use sheaf_config::recipe::{Compression, Item, Kube, Recipe, Signing, Terms};
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
    assert_eq!(recipe.release.signing, Some(Signing::Key("/recipes/k".into())));
    assert_eq!(recipe.kube, Kube::File("/recipes/kube".into()));
    let htop = Item { value: "htop".into(), line: "r.toml:9".into() };
    assert_eq!((recipe.packages.add, recipe.arguments), (vec![htop], vec!["quiet".to_owned()]));
    assert_eq!(recipe.packages.mirror.as_deref(), Some("http://a/debian"));
    assert_eq!(recipe.release.terms, Terms::default());
}

#[test]
fn the_terms_of_a_release_are_read_inherited_and_given_by_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let base = "version = 1\n[release]\nname = \"base\"\nversion = \"1.2.3\"\nexpires = 2027-06-01T00:00:00Z\n\
                channel = \"stable\"\nfloor = \"1.2.0\"\nmin-from = \"1.1.0\"\n[packages]\nlists = [\"node\"]\n";
    std::fs::write(dir.path().join("base.toml"), base).unwrap();
    let own = "version = 1\nextends = \"base.toml\"\n[release]\nname = \"own\"\nchannel = \"edge\"\nexpires = 1800000000\n";
    std::fs::write(dir.path().join("own.toml"), own).unwrap();
    let load = |name: &str| Recipe::load(&dir.path().join(name)).unwrap_or_else(|errors| panic!("{errors}"));
    let terms = Terms {
        expires: sheaf_config::time::seconds("2027-06-01T00:00:00Z"),
        channel: Some("stable".into()),
        floor: Some("1.2.0".into()),
        min_from: Some("1.1.0".into()),
    };
    assert_eq!(load("base.toml").release.terms, terms);
    let edge = Terms { expires: Some(1_800_000_000), channel: Some("edge".into()), ..terms };
    assert_eq!(load("own.toml").release.terms, edge);
    let expires = |text: &str| load("base.toml").with_expiry(text).map(|recipe| recipe.release.terms.expires);
    assert_eq!(expires("2030-01-01T00:00:00Z"), Ok(Some(1_893_456_000)));
    assert_eq!(expires("1893456000"), Ok(Some(1_893_456_000)));
    assert_eq!(
        expires("1000"),
        Err("1970-01-01T00:16:40Z is before the release's own time, 2026-01-01T00:00:00Z; write a later time, or remove it"
            .into())
    );
    assert!(load("base.toml").with_version("1.3.0").is_ok());
    assert_eq!(
        load("base.toml").with_version("1.1.5").unwrap_err(),
        "release.floor: \"1.2.0\" is newer than the release itself, 1.1.5; write 1.1.5 or an older version"
    );
}

#[test]
fn a_recipe_has_all_of_the_one_it_extends_and_its_own_on_top() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let base = "version = 1\n[release]\nname = \"base\"\nversion = \"1.2.3\"\nsigning-key = \"k\"\n[packages]\n\
                lists = [\"node\"]\nadd = [\"htop\"]\nfirmware = true\n[root]\noverlays = [\"one\"]\n\
                compression = \"lz4\"\n[units]\nenable = [\"a.socket\"]\n[boot]\narguments = [\"quiet\"]\n";
    let own = "version = 1\nextends = \"below/base.toml\"\n[release]\nname = \"own\"\n[packages]\nadd = [\"strace\"]\n\
               firmware-sets = [\"graphics\"]\n[root]\noverlays = [\"two\"]\nscripts = [\"s.sh\"]\n[units]\n\
               enable = [\"b.timer\"]\n[modules]\nkeep = [\"graphics\"]\nload = [\"vfio-pci\"]\n[boot]\narguments = [\"debug\"]\n";
    std::fs::write(below.join("base.toml"), base).unwrap();
    std::fs::write(dir.path().join("own.toml"), own).unwrap();
    let recipe = Recipe::load(&dir.path().join("own.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((recipe.release.name.as_str(), recipe.release.version.as_str()), ("own", "1.2.3"));
    assert_eq!(recipe.release.signing, Some(Signing::Key(below.join("k"))));
    let lines: Vec<_> = recipe.packages.add.iter().map(|item| item.line.as_str()).collect();
    assert_eq!(lines, ["base.toml:8", "own.toml:6"]);
    assert_eq!(
        (recipe.packages.lists.len(), recipe.packages.firmware, recipe.compression),
        (1, true, Compression::Lz4)
    );
    assert_eq!(recipe.overlays, [below.join("one"), dir.path().join("two")]);
    assert_eq!(recipe.scripts, [dir.path().join("s.sh")]);
    assert_eq!(recipe.units.enable, ["a.socket", "b.timer"]);
    assert_eq!(
        (recipe.modules.keep, recipe.modules.load),
        (vec!["graphics".into()], vec!["vfio-pci".into()])
    );
    assert_eq!(recipe.arguments, ["quiet", "debug"]);
}

#[test]
fn a_recipe_that_extends_itself_by_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = |other: &str| format!("version = 1\nextends = \"{other}\"\n[release]\nname = \"a\"\n");
    std::fs::write(dir.path().join("a.toml"), text("b.toml")).unwrap();
    std::fs::write(dir.path().join("b.toml"), text("a.toml")).unwrap();
    let error = Recipe::load(&dir.path().join("a.toml")).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "b.toml:2: extends: \"a.toml\" extends this recipe itself; remove extends from one of the two"
        ),
        "{error}"
    );
}
