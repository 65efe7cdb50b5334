//! Stage `page`: the files that browsers get from the console.
//!
//! npm fetches what `package-lock.json` pins by its sums, and runs no script of a package; Vite makes the files. Why on the host and not
//! in the tools chroot: like Go, its compiler is nothing that ends up in the image, and Debian's npm is 400 packages.
//! Route in: `console/web`. Route out: a folder, which [`super::programs`] puts into `sheaf-console`.

use crate::build_host::{self, NODE};
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::source::Source;
use crate::stage::{BuildContext, Made, Spec};
use sheaf_host::run::Command;
use std::fs;
use std::path::Path;

/// The result's folder.
pub const FOLDER: &str = "dist";
/// What of `console/web` is no source of it: what builds and tests make, and the tests.
const NOT_SOURCE: [&str; 4] = [FOLDER, "node_modules", "test", "missing.html"];

/// Builds it.
pub fn build(context: &BuildContext<'_>, source: &Source) -> Result<Made, BuildError> {
    build_host::require(NODE, context.run, context.privilege)?;
    let web = source.path("console/web");
    let version = context.run.run(&Command::new(NODE.program).arg("--version"))?.text();
    let inputs = Inputs::new("page", 1).text("node", &version).path_without(&web, &NOT_SOURCE)?;
    context.stage(Spec { name: "page", inputs, output_digest_files: &[] }, |stage| {
        // Not in the checkout: a build leaves nothing there, and two may run at once.
        let copy = stage.scratch.join("web");
        copied(&web, &copy)?;
        let npm = |args: &[&str]| Command::new("npm").args(args.iter().copied()).dir(&copy);
        stage.run(&npm(&["ci", "--ignore-scripts"]))?;
        stage.run(&npm(&["run", "build"]))?;
        let (made, out) = (copy.join(FOLDER), stage.out.join(FOLDER));
        fs::rename(&made, &out).map_err(BuildError::io(&out))
    })
}

/// Copies `from` to the new folder `to`, without what is no source.
fn copied(from: &Path, to: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(to).map_err(BuildError::io(to))?;
    for entry in fs::read_dir(from).map_err(BuildError::io(from))? {
        let entry = entry.map_err(BuildError::io(from))?;
        let (path, name) = (entry.path(), entry.file_name());
        if NOT_SOURCE.iter().any(|skipped| name == *skipped) {
            continue;
        }
        match path.is_dir() {
            true => copied(&path, &to.join(name))?,
            false => drop(fs::copy(&path, to.join(name)).map_err(BuildError::io(&path))?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builds_and_tests_leave_is_not_copied() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("web"), root.path().join("copy"));
        for path in
            ["src/a/b.ts", "node_modules/x/index.js", "dist/old.js", "test/t.ts", ".npmrc", "package.json"]
        {
            let path = from.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        copied(&from, &to).unwrap();
        for (path, is_there) in [
            ("src/a/b.ts", true),
            (".npmrc", true),
            ("package.json", true),
            ("node_modules", false),
            ("dist", false),
            ("test", false),
        ] {
            assert_eq!(to.join(path).exists(), is_there, "{path}");
        }
    }
}
