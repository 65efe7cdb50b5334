//! Reads the text of a lock, and refuses it with every mistake and its line.
//!
//! Why not serde: a lock that a merge went wrong in has several mistakes, and what belongs together (a package that is asked
//! for and not there, one file with two sums) needs both places. Route in: text. Route out: [`Lock`], or all problems.

use super::wanted::Wanted;
use super::{Deb, Debs, Lock, World, rules};
use crate::lock::file::VERSION;
use sheaf_config::diagnose::{Errors, Report};
use sheaf_config::recipe::{component, package};
use sheaf_config::spanned::{At, Document, Table, Value, wrong};
use sheaf_config::syntax::sha256;
use std::collections::BTreeMap;

/// The lock in `text`, which messages call `file`.
pub(super) fn read(file: &str, text: &str) -> Result<Lock, Errors> {
    let report = Report::new(file, text);
    let lock = Document::parse(&report).and_then(|document| lock(document.root(&report)));
    report.finish(lock)
}

fn lock(mut table: Table<'_, '_>) -> Option<Lock> {
    let report = table.report();
    // Of another format, what is said about its keys would mislead.
    table.required("version", &format!("version = {VERSION}"), |value| {
        value.integer()?.check(report, |found| match *found == i64::from(VERSION) {
            true => Ok(()),
            false => {
                wrong(format!("{found} is not a version of this format"), format!("it must be {VERSION}"))
            }
        })
    })?;
    let made = table.required("made", "made = \"20261129T130000Z\"", |value| value.text(rules::made));
    let toolchain = table.required("toolchain", "a table [toolchain]", |value| toolchain(value.table()?));
    let kube = table.optional("kube", |value| kube(value.table()?));
    let wanted = table.required("wanted", "a table [wanted]", |value| wanted(value.table()?));
    let debian =
        table.required("debian", "the tables [debian.initrd], [debian.node] and [debian.tools]", |value| {
            debian(value.table()?, wanted.as_ref().map(|wanted| &wanted.components[..]))
        });
    let crates = table.required("crates", "a table [crates]", |value| {
        value.map(|name, sum| match rules::is_crate(&name.value) {
            true => sha256(sum),
            false => {
                wrong("is not the name and the version of a crate", "it must be as in \"serde 1.0.229\"")
            }
        })
    });
    let modules = table.optional("modules", |value| {
        value.map(|name, sum| match rules::is_module(&name.value) {
            true => rules::go_sum(sum),
            false => wrong(
                "is not the path and the version of a Go module",
                "it must be as in \"k8s.io/api v0.37.2\"",
            ),
        })
    });
    control_plane(&table);
    table.finish(&[]);
    let (wanted, (debian, places)) = (wanted?, debian?);
    asked_for(report, &wanted, &debian);
    one_sum_each(report, &debian, &places);
    let (rust, go) = toolchain?;
    let plain = |pins: BTreeMap<String, At<String>>| {
        pins.into_iter().map(|(name, sum)| (name, sum.value)).collect::<BTreeMap<_, _>>()
    };
    let names = |list: Vec<At<String>>| list.into_iter().map(|name| name.value).collect::<Vec<_>>();
    let wanted = Wanted {
        components: names(wanted.components),
        packages: wanted.packages.into_iter().map(|(world, list)| (world, names(list))).collect(),
        rust,
        go,
        kube,
        crates: plain(crates?),
        modules: plain(modules.unwrap_or_default()),
    };
    Some(Lock { made: made?.value, wanted, debian })
}

fn toolchain(mut table: Table<'_, '_>) -> Option<(String, Option<String>)> {
    let rust = table.required("rust", "rust = \"rustc 1.95.0\"", |value| value.text(rules::rust));
    let go = table.optional("go", |value| value.text(rules::go));
    table.finish(&[]);
    Some((rust?.value, go.map(|go| go.value)))
}

fn kube(mut table: Table<'_, '_>) -> Option<String> {
    let sha256 = table.required("sha256", "sha256 = \"…\"", |value| value.text(sha256));
    table.finish(&[]);
    Some(sha256?.value)
}

/// The control plane is built from source by Go, or comes ready.
fn control_plane(table: &Table<'_, '_>) {
    let has = |above: &str, key: &str| {
        let above = table.raw().get(above).and_then(|value| value.get_ref().as_table());
        above.is_some_and(|above| above.contains_key(key))
    };
    let remedy = "either the control plane is built, with toolchain.go and [modules], or kube.sha256 is that of a ready one";
    let wrong = |path: &str, what: &str| table.place_of(path).wrong(table.report(), what, remedy);
    match (has("toolchain", "go"), has("kube", "sha256"), table.place("modules").is_some()) {
        (true, true, _) => wrong("kube.sha256", "cannot be combined with toolchain.go"),
        (true, false, false) => wrong("toolchain.go", "is there without [modules]"),
        (false, true, true) => wrong("modules", "cannot be combined with kube.sha256"),
        (false, false, _) => wrong("toolchain", "has no go, and kube.sha256 is not there either"),
        (true, false, true) | (false, true, false) => {}
    }
}

/// What was asked for, with the line of each.
struct Asked {
    components: Vec<At<String>>,
    packages: BTreeMap<World, Vec<At<String>>>,
}

fn wanted(mut table: Table<'_, '_>) -> Option<Asked> {
    let components = table.required("components", "components = [\"main\"]", |value| value.texts(component));
    let lists = World::ALL.map(|world| {
        let list =
            table.required(world.name(), &format!("{} = […]", world.name()), |value| value.texts(package));
        (world, list)
    });
    table.finish(&[]);
    let packages = lists.into_iter().map(|(world, list)| Some((world, list?))).collect::<Option<_>>();
    Some(Asked { components: components?, packages: packages? })
}

/// Where the sum of each package stands.
type Places = BTreeMap<(World, String), At<()>>;

fn debian(
    mut table: Table<'_, '_>,
    components: Option<&[At<String>]>,
) -> Option<(BTreeMap<World, Debs>, Places)> {
    let report = table.report();
    let mut places = Places::new();
    let worlds = World::ALL.map(|world| {
        let header = format!("a table [debian.{}]", world.name());
        let debs = table.required(world.name(), &header, |value| {
            let debs = value.table()?.entries().map(|(name, value)| {
                let found = deb(&name, value)?;
                let from = found.from.value.split_once('/').map_or("", |(_, component)| component);
                // The tools chroot is made of Debian's main component, whatever the recipe.
                let allowed = match (world, components) {
                    (World::Tools, _) => from == "main",
                    (_, Some(all)) => all.iter().any(|component| component.value == from),
                    (_, None) => true,
                };
                if !allowed {
                    let what = format!("component {from} is not one that {} is made of", world.name());
                    found.from.wrong(
                        report,
                        what,
                        "it must be one of wanted.components; the tools are of main",
                    );
                }
                places.insert((world, name.value.clone()), found.sha256.clone().map(|_| ()));
                Some((name.value, found.plain()))
            });
            // Every package is read, also after a bad one.
            debs.collect::<Vec<_>>().into_iter().collect::<Option<Debs>>()
        });
        (world, debs)
    });
    table.finish(&[]);
    let worlds = worlds.into_iter().map(|(world, debs)| Some((world, debs?))).collect::<Option<_>>();
    Some((worlds?, places))
}

/// One package as it stands in the file.
struct Found {
    version: String,
    from: At<String>,
    path: String,
    size: u64,
    sha256: At<String>,
}

impl Found {
    fn plain(self) -> Deb {
        let Self { version, from, path, size, sha256 } = self;
        Deb { version, from: from.value, path, size, sha256: sha256.value }
    }
}

fn deb(name: &At<String>, value: Value<'_, '_>) -> Option<Found> {
    let report = value.report();
    let is_name = name.clone().check(report, |name| package(name)).is_some();
    let mut table = value.table()?;
    let version = table.required("version", "version = \"…\"", |value| value.text(rules::version));
    let from = table.required("from", "from = \"trixie/main\"", |value| value.text(rules::from));
    let path = table.required("path", "path = \"pool/…\"", |value| match (&version, &from) {
        (Some(version), Some(from)) if is_name => {
            value.text(|text| rules::path(text, &name.value, &version.value, &from.value))
        }
        _ => value.string(),
    });
    let size = table.required("size", "size = BYTES", |value| {
        value.integer()?.check(report, |bytes| rules::size(*bytes))
    });
    let sha256 = table.required("sha256", "sha256 = \"…\"", |value| value.text(sha256));
    table.finish(&[]);
    let (version, path, size) = (version?.value, path?.value, size?.value);
    is_name.then_some(Found { version, from: from?, path, size, sha256: sha256? })
}

/// Every package that is asked for is there.
fn asked_for(report: &Report<'_>, wanted: &Asked, debian: &BTreeMap<World, Debs>) {
    for (world, names) in &wanted.packages {
        let debs = debian.get(world);
        for name in names.iter().filter(|name| debs.is_none_or(|debs| !debs.contains_key(&name.value))) {
            let table = format!("[debian.{}]", world.name());
            let what = format!("\"{}\" is asked for and is not in {table}", name.value);
            name.wrong(report, what, format!("it must be in {table}, with all that it depends on"));
        }
    }
}

/// One file of the pool has one length and one sum, in all worlds that have it.
fn one_sum_each(report: &Report<'_>, debian: &BTreeMap<World, Debs>, places: &Places) {
    let mut first: BTreeMap<&str, (World, &str, &Deb)> = BTreeMap::new();
    for (world, name, deb) in
        debian.iter().flat_map(|(world, debs)| debs.iter().map(move |(name, deb)| (*world, name, deb)))
    {
        let (other, as_name, same) = *first.entry(&deb.path).or_insert((world, name.as_str(), deb));
        let differs = match () {
            () if same.sha256 != deb.sha256 => "SHA-256",
            () if same.size != deb.size => "size",
            () => continue,
        };
        if let Some(at) = places.get(&(world, name.clone())) {
            let what =
                format!("{} has another {differs} in [debian.{}] as {as_name}", deb.path, other.name());
            at.wrong(report, what, "one file has one size and one SHA-256");
        }
    }
}
