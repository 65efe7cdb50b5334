//! Packages of a lock: fetched by their place in a mirror's pool, kept by their SHA-256, offered to mmdebstrap.
//!
//! Why an own repository: apt takes whatever its indexes have, and a lock names what an index may have no more. From a
//! repository of exactly those files it can take nothing else. Nothing in it is signed: what came in was checked by SHA-256.
//! Route in: [`Debs`]. Route out: a folder that `deb [trusted=yes] copy:…` reads.

use crate::debian::Mirrors;
use crate::error::BuildError;
use crate::inputs::Digest;
use crate::lock::resolve::suites;
use crate::lock::{Deb, Debs};
use crate::stage::{StageDir, forget_unused, touch};
use sheaf_host::run::Command;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Packages that no build used for this long are removed: a release is built again within a quarter, or from an archive.
const UNUSED: Duration = Duration::from_secs(92 * 24 * 3600);

/// How many packages an error names.
const NAMED: usize = 20;

/// Ending that apt gives a file whose contents are not what was asked for.
const REFUSED: &str = "FAILED";

/// Writes the index of the packages in `$1`.
const INDEX: &str = r#"set -eu
cd "$1"
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d' ' -f1)"
done >Packages"#;

/// Packages by SHA-256, in the cache.
pub struct Store<'a> {
    dir: PathBuf,
    mirrors: &'a Mirrors,
    /// When the lock was made, for the snapshot that still has its packages.
    made: &'a str,
}

impl<'a> Store<'a> {
    /// The store in `cache`.
    pub fn open(cache: &Path, mirrors: &'a Mirrors, made: &'a str) -> Result<Self, BuildError> {
        let dir = cache.join("debs");
        fs::create_dir_all(&dir).map_err(BuildError::io(&dir))?;
        Ok(Self { dir, mirrors, made })
    }

    /// Puts `debs` and their index into a new folder `to`, fetching those that are not in the store.
    pub fn repository(&self, stage: &StageDir<'_>, debs: &Debs, to: &Path) -> Result<(), BuildError> {
        self.fetch(stage, debs)?;
        fs::create_dir_all(to).map_err(BuildError::io(to))?;
        for deb in debs.values() {
            let kept = self.kept(deb);
            touch(&kept)?;
            let name = Path::new(&deb.path).file_name().unwrap_or_default();
            fs::copy(&kept, to.join(name)).map_err(BuildError::io(&kept))?;
        }
        stage.run(&Command::new("sh").args(["-c", INDEX, "index"]).arg(to))?;
        forget_unused(&self.dir, UNUSED)
    }

    fn kept(&self, deb: &Deb) -> PathBuf {
        self.dir.join(&deb.sha256)
    }

    /// Fetches what is missing; apt's own downloader goes through the host's proxies.
    fn fetch(&self, stage: &StageDir<'_>, debs: &Debs) -> Result<(), BuildError> {
        let missing: Vec<_> = debs.iter().filter(|(_, deb)| !self.kept(deb).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut fetch = Command::new("/usr/lib/apt/apt-helper").args(["-o", "APT::Sandbox::User="]);
        fetch = fetch.args(self.mirrors.access.apt_options.iter().flat_map(|option| ["-o", option]));
        fetch = fetch.arg("download-file");
        let coming = |deb: &Deb| stage.scratch.join(format!("{}.deb", deb.sha256));
        for (_, deb) in &missing {
            fetch = fetch.arg(self.url(deb)).arg(coming(deb)).arg(format!("SHA256:{}", deb.sha256));
        }
        // Which files came is seen below; the log has why others did not.
        stage.run(&fetch.any_code())?;
        let (mut absent, mut other) = (Vec::new(), Vec::new());
        for (name, deb) in missing {
            let came = coming(deb);
            if came.exists() && Digest::of_file(&came)?.as_str() == deb.sha256 {
                fs::copy(&came, self.kept(deb).with_extension("new"))
                    .and_then(|_| fs::rename(self.kept(deb).with_extension("new"), self.kept(deb)))
                    .map_err(BuildError::io(&came))?;
            } else if came.exists() || came.with_extension(format!("deb.{REFUSED}")).exists() {
                other.push(format!("{name} {}", deb.version));
            } else {
                absent.push(format!("{name} {}", deb.version));
            }
        }
        match (&other[..], &absent[..]) {
            ([], []) => Ok(()),
            ([], absent) => Err(BuildError::wrong(
                format!("the mirrors {} have no more of the lock: {}", self.mirrors_named(), some(absent)),
                format!(
                    "build from a mirror that has them (SHEAF_MIRROR=https://snapshot.debian.org/archive/debian/{0} \
                     SHEAF_SECURITY_MIRROR=https://snapshot.debian.org/archive/debian-security/{0}, or one of your own), \
                     or take what the mirrors have now: sheaf lock RECIPE",
                    self.made
                ),
            )),
            (other, _) => Err(BuildError::wrong(
                format!(
                    "the mirrors {} have other contents under the same name: {}",
                    self.mirrors_named(),
                    some(other)
                ),
                "do not trust this mirror; choose another one (SHEAF_MIRROR, SHEAF_SECURITY_MIRROR)",
            )),
        }
    }

    fn url(&self, deb: &Deb) -> String {
        let suite = deb.from.split('/').next().unwrap_or_default();
        let [(_, main), security] = suites(self.mirrors);
        let mirror = if security.0 == suite { security.1 } else { main };
        format!("{mirror}/{}", deb.path.replace('+', "%2b"))
    }

    fn mirrors_named(&self) -> String {
        format!("{} and {}", self.mirrors.main, self.mirrors.security)
    }
}

/// The first of `names`, and how many more there are.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::Access;
    use crate::inputs::Inputs;
    use crate::progress::Silent;
    use crate::stage::{BuildContext, Spec};
    use sheaf_host::chroot::Privilege;
    use sheaf_host::run::{Output, Run, RunError};

    /// apt-helper that fetches what a mirror has, and an index for whatever was fetched.
    struct Mirror(Vec<(&'static str, &'static [u8])>);

    impl Run for Mirror {
        fn run(&self, command: &Command) -> Result<Output, RunError> {
            let args: Vec<_> = command.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
            if let Some(at) = args.iter().position(|arg| arg == "download-file") {
                for triple in args[at + 1..].chunks(3) {
                    let Some((_, bytes)) = self.0.iter().find(|(url, _)| *url == triple[0]) else { continue };
                    let right = format!("SHA256:{}", Digest::of(bytes)) == triple[2];
                    let to = if right { triple[1].clone() } else { format!("{}.{REFUSED}", triple[1]) };
                    fs::write(to, bytes).unwrap();
                }
            }
            if command.program == "rm" {
                let _ = fs::remove_dir_all(&args[1]); // what the stage removes may not be there
            }
            Ok(Output::default())
        }
    }

    const URL: &str = "http://a/debian/pool/main/h/h%2b/h%2b_1_amd64.deb";

    fn repository(mirror: &Mirror) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let context = BuildContext {
            run: mirror,
            progress: &Silent,
            privilege: Privilege::Root,
            cache: dir.path().join("cache"),
            target: dir.path().join("target"),
        };
        let mirrors = Mirrors {
            main: "http://a/debian".into(),
            security: "http://a/sec".into(),
            access: Access::default(),
        };
        let deb = Deb {
            version: "1".into(),
            from: "trixie/main".into(),
            path: "pool/main/h/h+/h+_1_amd64.deb".into(),
            size: 3,
            sha256: Digest::of(b"deb").to_string(),
        };
        let debs = Debs::from([("h+".to_owned(), deb)]);
        let spec = Spec { name: "node-packages", inputs: Inputs::new("x", 1), output_digest_files: &[] };
        let made = context.stage(spec, |stage| {
            Store::open(&context.cache, &mirrors, "20261129T130000Z")?.repository(
                stage,
                &debs,
                &stage.out.join("debs"),
            )
        });
        let made = made.map_err(|error| std::error::Error::source(&error).unwrap().to_string())?;
        let files = fs::read_dir(made.file("debs")).unwrap();
        Ok(files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn packages_of_the_lock_are_offered_under_their_own_names() {
        assert_eq!(repository(&Mirror(vec![(URL, b"deb")])).unwrap(), ["h+_1_amd64.deb"]);
    }

    #[test]
    fn a_package_that_the_mirrors_have_no_more_is_named_with_the_snapshot_that_has_it() {
        let error = repository(&Mirror(vec![])).unwrap_err();
        assert!(
            error
                .starts_with("the mirrors http://a/debian and http://a/sec have no more of the lock: h+ 1; "),
            "{error}"
        );
        assert!(error.contains("https://snapshot.debian.org/archive/debian/20261129T130000Z"), "{error}");
    }

    #[test]
    fn a_package_with_other_contents_is_not_taken_from_any_mirror() {
        let error = repository(&Mirror(vec![(URL, b"evil")])).unwrap_err();
        assert!(error.contains("other contents under the same name: h+ 1"), "{error}");
    }
}
