//! The file of a lock: TOML, one line for each package, sorted, so that a reviewer sees what changed.
//!
//! Route in: the file. Route out: [`Lock`], and back.

use super::wanted::Wanted;
use super::{Debs, Lock, LockError, World};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

/// The only version of the format so far.
const VERSION: u32 = 1;

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    made: String,
    toolchain: Toolchain,
    kube: Option<Kube>,
    wanted: Packages,
    debian: BTreeMap<String, Debs>,
    crates: BTreeMap<String, String>,
    #[serde(default)]
    modules: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toolchain {
    rust: String,
    go: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kube {
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packages {
    components: Vec<String>,
    initrd: Vec<String>,
    node: Vec<String>,
    tools: Vec<String>,
}

impl Lock {
    /// Reads the lock at `path`.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => LockError::Absent { path: path.to_owned() },
            _ => LockError::Wrong { path: path.to_owned(), line: None, what: error.to_string() },
        })?;
        Self::parse(path, &text)
    }

    /// Reads `text`, which is the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, LockError> {
        let wrong = |line, what| LockError::Wrong { path: path.to_owned(), line, what };
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            wrong(line, error.message().trim_end().replace('\n', ", "))
        })?;
        if file.version != VERSION {
            return Err(wrong(None, format!("has format {}, this program reads {VERSION}", file.version)));
        }
        let mut debian = file.debian;
        let mut take = |world: World| (world, debian.remove(world.name()).unwrap_or_default());
        let worlds = World::ALL.map(&mut take).into();
        if let Some(other) = debian.keys().next() {
            return Err(wrong(None, format!("debian.{other} is not known")));
        }
        let Packages { components, initrd, node, tools } = file.wanted;
        let wanted = Wanted {
            components,
            packages: [(World::Initrd, initrd), (World::Node, node), (World::Tools, tools)].into(),
            rust: file.toolchain.rust,
            go: file.toolchain.go,
            kube: file.kube.map(|kube| kube.sha256),
            crates: file.crates,
            modules: file.modules,
        };
        Ok(Self { made: file.made, wanted, debian: worlds })
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { components, packages, rust, go, kube, crates, modules } = &self.wanted;
        writeln!(
            f,
            "# What `sheaf build --locked` takes, and nothing else. `sheaf lock` writes this file and prints the difference.\n\
             version = {VERSION}\nmade = {}\n\n[toolchain]\nrust = {}",
            Quoted(&self.made),
            Quoted(rust)
        )?;
        if let Some(go) = go {
            writeln!(f, "go = {}", Quoted(go))?;
        }
        if let Some(sha256) = kube {
            writeln!(f, "\n[kube]\nsha256 = {}", Quoted(sha256))?;
        }
        writeln!(f, "\n[wanted]")?;
        list(f, "components", components)?;
        for (world, names) in packages {
            list(f, world.name(), names)?;
        }
        for (world, debs) in &self.debian {
            writeln!(f, "\n[debian.{}]", world.name())?;
            for (name, deb) in debs {
                let [version, from, path, sha256] =
                    [&deb.version, &deb.from, &deb.path, &deb.sha256].map(|text| Quoted(text));
                writeln!(
                    f,
                    "{} = {{ version = {version}, from = {from}, path = {path}, size = {}, sha256 = {sha256} }}",
                    Quoted(name),
                    deb.size
                )?;
            }
        }
        for (title, pins) in [("crates", crates), ("modules", modules)] {
            if title == "crates" || !pins.is_empty() {
                writeln!(f, "\n[{title}]")?;
            }
            for (name, sum) in pins {
                writeln!(f, "{} = {}", Quoted(name), Quoted(sum))?;
            }
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, key: &str, items: &[String]) -> fmt::Result {
    writeln!(f, "{key} = [")?;
    items.iter().try_for_each(|item| writeln!(f, "    {},", Quoted(item)))?;
    writeln!(f, "]")
}

/// A TOML string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                char if char.is_control() => write!(f, "\\u{:04X}", u32::from(char))?,
                char => f.write_char(char)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lock::Deb;

    pub(in crate::lock) fn example() -> Lock {
        let deb = |version: &str, size| Deb {
            version: version.into(),
            from: "trixie/main".into(),
            path: format!("pool/main/l/lib/libstdc++6_{version}_amd64.deb"),
            size,
            sha256: "ab".repeat(32),
        };
        let wanted = Wanted {
            components: vec!["main".into()],
            packages: World::ALL.map(|world| (world, vec!["libstdc++6".to_owned()])).into(),
            rust: "rustc 1.95.0".into(),
            go: Some("go1.26.8".into()),
            kube: None,
            crates: [("serde 1.0.229".to_owned(), "cd".repeat(32))].into(),
            modules: [("k8s.io/api v0.37.2".to_owned(), "h1:Pn=".to_owned())].into(),
        };
        let debian =
            World::ALL.map(|world| (world, [("libstdc++6".to_owned(), deb("14.2.0-19", 7))].into())).into();
        Lock { made: "20261129T130000Z".into(), wanted, debian }
    }

    #[test]
    fn a_lock_is_read_back_as_it_was_written_with_one_line_for_each_package() {
        let lock = example();
        let text = lock.to_string();
        assert_eq!(Lock::parse(Path::new("sheaf.lock"), &text).unwrap(), lock);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("\"libstdc++6\" = ")).collect();
        assert_eq!(lines.len(), World::ALL.len());
        assert!(lines[0].contains("sha256 = \"abab"), "{text}");
    }

    #[test]
    fn a_lock_that_was_edited_is_refused_with_its_line_and_the_command_that_makes_it() {
        let text = example().to_string().replacen("size = 7", "size = \"7\"", 1);
        let line = 1 + text.lines().position(|line| line.contains("size = \"7\"")).unwrap();
        let error = Lock::parse(Path::new("a/sheaf.lock"), &text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("a/sheaf.lock:{line}: ")), "{error}");
        assert!(error.ends_with("make it again: sheaf lock a/sheaf.toml"), "{error}");
    }

    #[test]
    fn without_a_lock_the_error_is_the_command_that_makes_one() {
        let error = Lock::read(Path::new("/nowhere/x.lock")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/x.lock: there is no lock; make it: sheaf lock /nowhere/x.toml");
    }
}
