//! The file of a lock: TOML, one line for each package, sorted, so that a reviewer sees what changed.
//!
//! Route in: the file, read by [`super::read`]. Route out: [`Lock`], and back.

use super::wanted::Wanted;
use super::{Lock, LockError, read};
use sheaf_config::spanned;
use std::fmt::{self, Write as _};
use std::path::Path;

/// The only version of the format so far.
pub(super) const VERSION: u32 = 1;

impl Lock {
    /// Reads the lock at `path`.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        if !path.exists() {
            return Err(LockError::Absent { path: path.to_owned() });
        }
        let wrong = |errors| LockError::Wrong { path: path.to_owned(), errors };
        Self::parse(path, &spanned::read(path).map_err(wrong)?)
    }

    /// Reads `text`, which is the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, LockError> {
        let wrong = |errors| LockError::Wrong { path: path.to_owned(), errors };
        read::read(&path.display().to_string(), text).map_err(wrong)
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
    use crate::lock::{Deb, World};

    pub(in crate::lock) fn example() -> Lock {
        let deb = |version: &str, size| Deb {
            version: version.into(),
            from: "trixie/main".into(),
            path: format!("pool/main/g/gcc-14/libstdc++6_{version}_amd64.deb"),
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
            modules: [("k8s.io/api v0.37.2".to_owned(), format!("h1:{}=", "P".repeat(43)))].into(),
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
    fn without_a_lock_the_error_is_the_command_that_makes_one() {
        let error = Lock::read(Path::new("/nowhere/x.lock")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/x.lock: there is no lock; make it: sheaf lock /nowhere/x.toml");
    }
}
