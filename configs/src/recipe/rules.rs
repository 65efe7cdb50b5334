//! What a recipe may say: one function for each table, one rule for each value.
//!
//! Route in: a parsed document. Route out: a [`Recipe`], or problems in its report.

use super::values::{
    after, argument, channel, component, file, list, module, name, not_newer, package, time, unit, url,
    version,
};
use super::{
    Compression, FIRMWARE_SETS, Item, Kube, MODULE_SETS, Modules, Packages, Recipe, Release, Signing, Terms,
    Units, VERSION,
};
use crate::diagnose::Report;
use crate::spanned::{At, Table, Value, wrong};
use crate::syntax::sha256;
use std::path::{Path, PathBuf};

/// 2026-01-01, in seconds: any fixed time does; this one is after every file Debian trixie was released with.
const EPOCH: u64 = 1_767_225_600;
/// zstd's level for the payload: beyond it two cores need more than a minute for a release.
const LEVEL: i32 = 12;
/// Largest level that a decoder with the usual 8 MiB window reads.
const LARGEST_LEVEL: i64 = 19;

/// Tables that keys belong to, for those found in another one.
const HOMES: [(&str, &str); 24] = [
    ("name", "release"),
    ("epoch", "release"),
    ("expires", "release"),
    ("channel", "release"),
    ("floor", "release"),
    ("min-from", "release"),
    ("signing-key", "release"),
    ("signing-command", "release"),
    ("public-key", "release"),
    ("keys", "release"),
    ("lists", "packages"),
    ("add", "packages"),
    ("mirror", "packages"),
    ("firmware", "packages"),
    ("compression", "root"),
    ("overlays", "root"),
    ("scripts", "root"),
    ("enable", "units"),
    ("mask", "units"),
    ("keep", "modules"),
    ("load", "modules"),
    ("arguments", "boot"),
    ("zstd-level", "payload"),
    ("sha256", "kube"),
];

/// The recipe that another one extends.
#[derive(Clone, Copy)]
pub(super) struct Base<'a> {
    pub recipe: &'a Recipe,
    pub path: &'a Path,
}

/// The whole file; what it does not have is `base`'s.
pub(super) fn recipe(mut root: Table<'_, '_>, dir: &Path, base: Option<Base<'_>>) -> Option<Recipe> {
    let report = root.report();
    let of_base = base.map(|base| base.recipe);
    let version = root.required("version", "version = 1", |value| {
        value.integer()?.check(report, |number| match *number {
            VERSION => Ok(()),
            other => wrong(format!("{other} is not a version of this format"), format!("write {VERSION}")),
        })
    });
    let release =
        root.required("release", "a table [release]", |value| release(value.table()?, dir, of_base));
    let read = |value: Value<'_, '_>| packages(value.table()?, base);
    let packages = match of_base {
        None => root.required("packages", "a table [packages]", read),
        Some(of_base) => root.optional("packages", read).or_else(|| Some(of_base.packages.clone())),
    };
    let tree = root.optional("root", |value| tree(value.table()?, dir, base));
    let units = root.optional("units", |value| units(value.table()?, base));
    let modules = root.optional("modules", |value| modules(value.table()?, base));
    let arguments = root.optional("boot", |value| arguments(value.table()?, base));
    let level = root.optional("payload", |value| level(value.table()?));
    let kube = root.optional("kube", |value| kube(value.table()?, dir));
    root.finish(&HOMES);
    version?;
    let tree = tree.or_else(|| of_base.map(Tree::of)).unwrap_or_default();
    Some(Recipe {
        release: release?,
        packages: packages?,
        compression: tree.compression,
        overlays: tree.overlays,
        scripts: tree.scripts,
        units: units.or_else(|| Some(of_base?.units.clone())).unwrap_or_default(),
        modules: modules.or_else(|| Some(of_base?.modules.clone())).unwrap_or_default(),
        arguments: arguments.or_else(|| Some(of_base?.arguments.clone())).unwrap_or_default(),
        zstd_level: level.or_else(|| Some(of_base?.zstd_level)).unwrap_or(LEVEL),
        kube: kube.or_else(|| Some(of_base?.kube.clone())).unwrap_or(Kube::Source),
    })
}

/// The name is always a recipe's own: two releases of one name would be one folder.
fn release(mut table: Table<'_, '_>, dir: &Path, base: Option<&Recipe>) -> Option<Release> {
    let base = base.map(|base| &base.release);
    let name = table.required("name", "name = \"sheaf\"", |value| value.text(name));
    let read = |value: Value<'_, '_>| value.text(version);
    let version = match base {
        None => table.required("version", "version = \"0.1.0\"", read).map(|at| at.value),
        Some(base) => {
            table.optional("version", read).map(|at| at.value).or_else(|| Some(base.version.clone()))
        }
    };
    let report = table.report();
    let epoch = table.optional("epoch", |value| {
        value.integer()?.check(report, |seconds| match u64::try_from(*seconds) {
            Ok(seconds) => Ok(seconds),
            Err(_) => wrong("lies before 1970", "write seconds since 1970, as `date +%s` prints them"),
        })
    });
    let epoch = epoch.map(|epoch| epoch.value).or_else(|| Some(base?.epoch)).unwrap_or(EPOCH);
    let terms = terms(&mut table, version.as_deref(), epoch, base.map(|base| &base.terms));
    let signing = signing(&mut table, dir);
    let keys = table.optional("keys", |value| value.text(file)).map(|at| dir.join(at.value));
    table.finish(&HOMES);
    Some(Release {
        name: name?.value,
        version: version?,
        epoch,
        terms,
        signing: signing.or_else(|| base?.signing.clone()),
        keys: keys.or_else(|| base?.keys.clone()),
    })
}

/// What is not here is that of the recipe below.
fn terms(table: &mut Table<'_, '_>, version: Option<&str>, epoch: u64, base: Option<&Terms>) -> Terms {
    let report = table.report();
    let base = base.cloned().unwrap_or_default();
    let expires = table.optional("expires", |value| value.time(time)?.check(report, |at| after(*at, epoch)));
    let channel = table.optional("channel", |value| value.text(channel));
    let mut older = |key: &'static str| {
        table.optional(key, |value| {
            let older = value.text(self::version)?;
            match version {
                Some(version) => {
                    older.check(report, |older| not_newer(older, version).map(|()| older.clone()))
                }
                // It is refused already.
                None => Some(older),
            }
        })
    };
    let (floor, min_from) = (older("floor"), older("min-from"));
    Terms {
        expires: expires.map(|at| at.value).or(base.expires),
        channel: channel.map(|at| at.value).or(base.channel),
        floor: floor.map(|at| at.value).or(base.floor),
        min_from: min_from.map(|at| at.value).or(base.min_from),
    }
}

fn signing(table: &mut Table<'_, '_>, dir: &Path) -> Option<Signing> {
    let report = table.report();
    let key = table.optional("signing-key", |value| value.text(file));
    let command = table.optional("signing-command", |value| value.texts(file));
    let public = table.optional("public-key", |value| value.text(file));
    let given = ["signing-key", "signing-command", "public-key"].map(|key| table.place(key));
    match &given {
        [Some(_), Some(second), _] => {
            second.wrong(report, "cannot be combined with signing-key", "give one of them")
        }
        [None, Some(command), None] => command.wrong(
            report,
            "has no public-key to check it by",
            "add public-key = \"release.pub\" to [release]",
        ),
        [_, None, Some(public)] => {
            public.wrong(report, "is of no signing-command", "remove it; a signing-key has its own")
        }
        _ => {}
    }
    match (key, command, public) {
        (Some(key), None, _) => Some(Signing::Key(dir.join(key.value))),
        (None, Some(command), Some(public)) => {
            let mut words: Vec<_> = command.into_iter().map(|at| at.value).collect();
            match words.first_mut() {
                // A path starts at the recipe, like all of its paths; a name is looked for in PATH.
                Some(program) if program.contains('/') => {
                    *program = dir.join(&*program).display().to_string()
                }
                Some(_) => {}
                None => {
                    let at = table.place("signing-command").unwrap_or_else(|| table.at());
                    at.wrong(
                        report,
                        "has no program",
                        "write [\"minisign\", \"-S\", \"-m\"], or one of your own",
                    );
                }
            }
            Some(Signing::Command { command: words, public_key: dir.join(public.value) })
        }
        _ => None,
    }
}

fn packages(mut table: Table<'_, '_>, base: Option<Base<'_>>) -> Option<Packages> {
    let of_base = base.map(|base| &base.recipe.packages);
    let read = |value: Value<'_, '_>| value.texts(list);
    let lists = match base {
        None => table.required("lists", "lists = [\"node\"]", read),
        Some(_) => table.optional("lists", read).or_else(|| Some(Vec::new())),
    };
    let report = table.report();
    if base.is_none() && lists.as_ref().is_some_and(Vec::is_empty) {
        let at = table.place("lists").unwrap_or_else(|| table.at());
        at.wrong(report, "has no list, so there would be no kernel", "write lists = [\"node\"]");
    }
    let add = table.optional("add", |value| value.texts(package)).unwrap_or_default();
    let names = |recipe: &Recipe| recipe.packages.add.iter().map(|item| item.value.clone()).collect();
    only_new(report, base, names, &add);
    let components = table.optional("components", |value| value.texts(component));
    if components.as_ref().is_some_and(|list| list.iter().all(|component| component.value != "main")) {
        let at = table.place("components").unwrap_or_else(|| table.at());
        at.wrong(report, "lacks \"main\", which Debian needs", "add \"main\"");
    }
    let firmware = table.optional("firmware", |value| value.boolean());
    let sets = FIRMWARE_SETS.map(|set| (set, set));
    let sets = table.optional("firmware-sets", |value| value.words(&sets));
    let mirror = table.optional("mirror", |value| value.text(url));
    let security_mirror = table.optional("security-mirror", |value| value.text(url));
    table.finish(&HOMES);
    let firmware_sets = |recipe: &Recipe| recipe.packages.firmware_sets.clone();
    let added = items(report, add);
    Some(Packages {
        lists: joined(report, base, |recipe| recipe.packages.lists.clone(), lists?),
        add: of_base.iter().flat_map(|of_base| of_base.add.clone()).chain(added).collect(),
        firmware: firmware.map(|at| at.value).or_else(|| Some(of_base?.firmware)).unwrap_or_default(),
        firmware_sets: joined(report, base, firmware_sets, texts(sets)),
        components: components
            .map(|list| list.into_iter().map(|at| at.value).collect())
            .or_else(|| Some(of_base?.components.clone()))
            .unwrap_or_else(|| vec!["main".into(), "non-free-firmware".into()]),
        mirror: mirror.map(|at| at.value).or_else(|| of_base?.mirror.clone()),
        security_mirror: security_mirror.map(|at| at.value).or_else(|| of_base?.security_mirror.clone()),
    })
}

/// Each value with the line it stands in.
fn items(report: &Report<'_>, list: Vec<At<String>>) -> Vec<Item> {
    let item = |at: At<String>| Item {
        line: format!("{}:{}", report.file_name(), report.line(at.span.start)),
        value: at.value,
    };
    list.into_iter().map(item).collect()
}

/// Words, as texts.
fn texts(words: Option<Vec<At<&'static str>>>) -> Vec<At<String>> {
    words.into_iter().flatten().map(|at| at.map(str::to_owned)).collect()
}

/// Refuses a value that is listed twice, here or in `base`.
fn only_new(
    report: &Report<'_>,
    base: Option<Base<'_>>,
    of: impl Fn(&Recipe) -> Vec<String>,
    own: &[At<String>],
) {
    let inherited = base.map(|base| of(base.recipe)).unwrap_or_default();
    for (index, at) in own.iter().enumerate() {
        if own.iter().take(index).any(|earlier| earlier.value == at.value) {
            at.wrong(report, format!("\"{}\" is listed twice", at.value), "remove one");
        } else if let (true, Some(base)) = (inherited.contains(&at.value), base) {
            let what = format!("\"{}\" is in {} already", at.value, base.path.display());
            at.wrong(report, what, "remove it here");
        }
    }
}

/// The values of `base` and then `own`, each once.
fn joined(
    report: &Report<'_>,
    base: Option<Base<'_>>,
    of: impl Fn(&Recipe) -> Vec<String>,
    own: Vec<At<String>>,
) -> Vec<String> {
    only_new(report, base, &of, &own);
    let inherited = base.map(|base| of(base.recipe)).unwrap_or_default();
    inherited.into_iter().chain(own.into_iter().map(|at| at.value)).collect()
}

/// `[root]`
#[derive(Default)]
struct Tree {
    compression: Compression,
    overlays: Vec<PathBuf>,
    scripts: Vec<PathBuf>,
}

impl Tree {
    fn of(recipe: &Recipe) -> Self {
        let Recipe { compression, overlays, scripts, .. } = recipe.clone();
        Self { compression, overlays, scripts }
    }
}

fn tree(mut table: Table<'_, '_>, dir: &Path, base: Option<Base<'_>>) -> Option<Tree> {
    let words = [("none", Compression::None), ("lz4", Compression::Lz4)];
    let compression = table.optional("compression", |value| value.one_of(&words));
    let overlays = table.optional("overlays", |value| value.texts(file)).unwrap_or_default();
    let scripts = table.optional("scripts", |value| value.texts(file)).unwrap_or_default();
    table.finish(&HOMES);
    let mut tree = base.map(|base| Tree::of(base.recipe)).unwrap_or_default();
    tree.compression = compression.map_or(tree.compression, |at| at.value);
    tree.overlays.extend(overlays.into_iter().map(|at| dir.join(at.value)));
    tree.scripts.extend(scripts.into_iter().map(|at| dir.join(at.value)));
    Some(tree)
}

fn units(mut table: Table<'_, '_>, base: Option<Base<'_>>) -> Option<Units> {
    let report = table.report();
    let enable = table.optional("enable", |value| value.texts(unit)).unwrap_or_default();
    let mask = table.optional("mask", |value| value.texts(unit)).unwrap_or_default();
    table.finish(&HOMES);
    let enabled = joined(report, base, |recipe| recipe.units.enable.clone(), enable);
    for at in mask.iter().filter(|at| enabled.contains(&at.value)) {
        at.wrong(report, format!("\"{}\" is enabled and masked", at.value), "remove it from one of the two");
    }
    Some(Units { mask: joined(report, base, |recipe| recipe.units.mask.clone(), mask), enable: enabled })
}

fn modules(mut table: Table<'_, '_>, base: Option<Base<'_>>) -> Option<Modules> {
    let report = table.report();
    let sets = MODULE_SETS.map(|set| (set, set));
    let keep = texts(table.optional("keep", |value| value.words(&sets)));
    let load = table.optional("load", |value| value.texts(module)).unwrap_or_default();
    table.finish(&HOMES);
    Some(Modules {
        keep: joined(report, base, |recipe| recipe.modules.keep.clone(), keep),
        load: joined(report, base, |recipe| recipe.modules.load.clone(), load),
    })
}

fn arguments(mut table: Table<'_, '_>, base: Option<Base<'_>>) -> Option<Vec<String>> {
    let report = table.report();
    let arguments = table.required("arguments", "arguments = [\"quiet\"]", |value| value.texts(argument));
    table.finish(&HOMES);
    Some(joined(report, base, |recipe| recipe.arguments.clone(), arguments?))
}

fn level(mut table: Table<'_, '_>) -> Option<i32> {
    let report = table.report();
    let level = table.required("zstd-level", "zstd-level = 12", |value| {
        value.integer()?.check(report, |level| match i32::try_from(*level) {
            Ok(small) if (1..=LARGEST_LEVEL).contains(level) => Ok(small),
            _ => wrong(format!("{level} is not a level of zstd"), format!("write 1 to {LARGEST_LEVEL}")),
        })
    });
    table.finish(&HOMES);
    Some(level?.value)
}

fn kube(mut table: Table<'_, '_>, dir: &Path) -> Option<Kube> {
    let path = table.optional("path", |value| value.text(file));
    let url = table.optional("url", |value| value.text(url));
    let sha256 = table.optional("sha256", |value| value.text(sha256));
    let (at, report) = (table.at(), table.report());
    let given = (table.place("path"), table.place("url"), table.place("sha256"));
    table.finish(&HOMES);
    match given {
        (Some(_), Some(second), _) => {
            second.wrong(report, "cannot be combined with path", "give path or url, not both")
        }
        (None, Some(url), None) => {
            url.wrong(report, "has no sha256 to check it by", "add sha256 = \"…\" to [kube]")
        }
        (_, None, Some(sum)) => sum.wrong(report, "needs a url, and there is none", "remove it, or give url"),
        (None, None, None) => {
            at.wrong(report, "says nothing", "give path, or url and sha256, or remove [kube] to build it")
        }
        _ => {}
    }
    match (path, url) {
        (Some(path), None) => Some(Kube::File(dir.join(path.value))),
        (None, Some(url)) => Some(Kube::Url { url: url.value, sha256: sha256?.value }),
        _ => None,
    }
}
