//! What a recipe and a checkout ask for, and what pins itself: crates, Go modules, compilers.
//!
//! Route in: recipe, package lists, `Cargo.lock`, `kubernetes/go.sum`. Route out: [`Wanted`], which a lock must equal.

use super::difference::{self, Changes};
use super::{Lock, LockError, World};
use crate::build_host::{self, CARGO, GO};
use crate::crates;
use crate::error::BuildError;
use crate::inputs::Digest;
use crate::lists;
use crate::source::Source;
use crate::stage::BuildContext;
use crate::stages::{packages, programs};
use sheaf_config::recipe::{Kube, Recipe};
use sheaf_host::run::Command;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// All that decides a release beside the packages' versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Debian's components.
    pub components: Vec<String>,
    /// Packages by name, in the order of the lists; what they depend on is not here.
    pub packages: BTreeMap<World, Vec<String>>,
    /// `rustc --version`
    pub rust: String,
    /// `go env GOVERSION`; none when the control plane is not built here.
    pub go: Option<String>,
    /// SHA-256 of a control plane that is not built here.
    pub kube: Option<String>,
    /// Crates of the node's programs, `NAME VERSION`, and their SHA-256.
    pub crates: BTreeMap<String, String>,
    /// Go modules of the control plane, `PATH VERSION`, and their sums as `go.sum` has them.
    pub modules: BTreeMap<String, String>,
}

impl Wanted {
    /// Of `recipe` in this checkout.
    pub fn of(context: &BuildContext<'_>, source: &Source, recipe: &Recipe) -> Result<Self, BuildError> {
        build_host::require(CARGO, context.run, context.privilege)?;
        let mut wanted = Self {
            components: recipe.packages.components.clone(),
            packages: [
                (World::Initrd, packages::of_initrd(source, recipe)?),
                (World::Node, packages::of_node(source, recipe)?),
                (World::Tools, lists::read(&source.list("tools"))?),
            ]
            .into(),
            rust: programs::version(context.run, source)?,
            go: None,
            kube: None,
            crates: crates::of(context.run, source, &programs::PROGRAMS)?
                .into_iter()
                .filter_map(|found| Some((format!("{} {}", found.name, found.version), found.sha256?)))
                .collect(),
            modules: BTreeMap::new(),
        };
        match &recipe.kube {
            Kube::Source => {
                build_host::require(GO, context.run, context.privilege)?;
                let go = Command::new("go").args(["env", "GOVERSION"]).dir(source.path("kubernetes"));
                wanted.go = Some(context.run.run(&go)?.text());
                let sums = source.path("kubernetes/go.sum");
                wanted.modules = modules(&fs::read_to_string(&sums).map_err(BuildError::io(&sums))?);
            }
            Kube::File(path) => wanted.kube = Some(Digest::of_file(path)?.to_string()),
            Kube::Url { sha256, .. } => wanted.kube = Some(sha256.clone()),
        }
        Ok(wanted)
    }
}

impl Lock {
    /// Refuses a lock, read from `path`, of something else than `wanted`.
    pub fn is_of(&self, wanted: &Wanted, path: &Path) -> Result<(), LockError> {
        match lines(&self.wanted, wanted) {
            same if same.is_empty() => Ok(()),
            difference => Err(LockError::Stale { path: path.to_owned(), difference }),
        }
    }
}

/// What differs between both, a line each; empty when nothing does.
pub(super) fn lines(old: &Wanted, new: &Wanted) -> String {
    let mut text = String::new();
    let mut single = |what: &str, old: Option<&String>, new: Option<&String>| {
        if old != new {
            let word = |value: Option<&String>| value.cloned().unwrap_or_else(|| "none".into());
            let _ = writeln!(text, "  {what}: {} -> {}", word(old), word(new)); // a String takes everything
        }
    };
    single("Rust", Some(&old.rust), Some(&new.rust));
    single("Go", old.go.as_ref(), new.go.as_ref());
    single("control plane", old.kube.as_ref(), new.kube.as_ref());
    single("components", Some(&old.components.join(" ")), Some(&new.components.join(" ")));
    let set = |list: &[String]| list.iter().map(|name| (name.clone(), ())).collect::<BTreeMap<_, _>>();
    for world in World::ALL {
        let of = |wanted: &Wanted| set(wanted.packages.get(&world).map_or(&[], Vec::as_slice));
        let what = format!("packages asked for, {}", world.name());
        text += &difference::names(&what, &Changes::between(&of(old), &of(new)));
    }
    text += &difference::names("crates", &Changes::between(&old.crates, &new.crates));
    text += &difference::names("Go modules", &Changes::between(&old.modules, &new.modules));
    text
}

/// The modules of a `go.sum`; the sums of their `go.mod` files are left out.
fn modules(sums: &str) -> BTreeMap<String, String> {
    let module = |line: &str| {
        let [path, version, sum] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        (!version.ends_with("/go.mod")).then(|| (format!("{path} {version}"), sum.to_owned()))
    };
    sums.lines().filter_map(module).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::file::tests::example;

    #[test]
    fn a_lock_of_another_recipe_is_refused_with_what_differs() {
        let lock = example();
        assert!(lock.is_of(&lock.wanted, Path::new("sheaf.lock")).is_ok());
        let mut wanted = lock.wanted.clone();
        wanted.packages.get_mut(&World::Node).unwrap().push("htop".into());
        wanted.crates = [("serde 1.0.230".to_owned(), String::new())].into();
        wanted.go = None;
        assert_eq!(
            lock.is_of(&wanted, Path::new("sheaf.lock")).unwrap_err().to_string(),
            "sheaf.lock: is not the lock of this recipe and checkout (+ they ask for it, - only the lock has it, ~ both, differently):\n  Go: go1.26.8 -> none\n  \
             packages asked for, node: + htop\n  crates: + serde 1.0.230\n  crates: - serde 1.0.229\n\
             review and accept it: sheaf lock sheaf.toml"
        );
    }

    #[test]
    fn modules_of_go_sum_are_those_whose_contents_are_used() {
        let sums = "k8s.io/api v0.37.2 h1:Pn=\nk8s.io/api v0.37.2/go.mod h1:xx=\ngo.etcd.io/raft v3.7.0/go.mod h1:yy=\n";
        assert_eq!(modules(sums), [("k8s.io/api v0.37.2".to_owned(), "h1:Pn=".to_owned())].into());
    }
}
