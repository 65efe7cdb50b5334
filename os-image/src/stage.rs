//! Does a stage once: its result stays in the cache under the digest of its inputs.
//!
//! A result is a directory `<cache>/<stage>/<digest>/`, complete or absent: it is made under another name and
//! renamed. What is left of an interrupted build is removed by the next. Two builds at once wait for each other.
//! Route in: a [`Spec`] and the closure that fills the directory. Route out: [`Made`].

use crate::error::BuildError;
use crate::inputs::{Digest, Inputs};
use crate::progress::{Outcome, Progress};
use sheaf_host::chroot::{Privilege, as_owner};
use sheaf_host::run::{Command, Output, Run};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Results of one stage that are kept: today's, and those one goes back to when changing branches.
const KEPT: usize = 3;

/// Where a build works, and with what.
pub struct BuildContext<'a> {
    /// Runs programs.
    pub run: &'a dyn Run,
    /// Shows how far it is.
    pub progress: &'a dyn Progress,
    /// Right by which roots are entered.
    pub privilege: Privilege,
    /// Results of stages, shared by all checkouts of a user.
    pub cache: PathBuf,
    /// `target/sheaf` of this checkout: logs, cargo's target directory, releases.
    pub target: PathBuf,
}

/// One stage: its name and what it depends on.
pub struct Spec {
    /// Shown to the user; the directory in the cache and the log file.
    pub name: &'static str,
    /// Everything it reads.
    pub inputs: Inputs,
    /// Files of the result whose contents stand for it. Empty: its inputs do. With files, later stages are not
    /// done again when this one was, but gave the same.
    pub output_digest_files: &'static [&'static str],
}

/// The result of a stage.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its directory.
    pub dir: PathBuf,
    /// What later stages take as input.
    pub digest: Digest,
}

impl Made {
    /// A file of the result.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A stage at work.
pub struct StageDir<'a> {
    /// The empty directory it fills.
    pub out: &'a Path,
    /// An empty directory that is removed afterwards, even if another user owns what is in it.
    pub scratch: &'a Path,
    run: &'a dyn Run,
    log: &'a Path,
}

impl StageDir<'_> {
    /// Runs `command`; its output goes to the stage's log.
    pub fn run(&self, command: &Command) -> Result<Output, BuildError> {
        self.note(&format!("$ {command}"))?;
        Ok(self.run.run(&command.clone().log(self.log))?)
    }

    /// Writes a line to the stage's log.
    pub fn note(&self, line: &str) -> Result<(), BuildError> {
        use std::io::Write;
        let write = || writeln!(File::options().create(true).append(true).open(self.log)?, "{line}");
        write().map_err(BuildError::io(self.log))
    }
}

impl BuildContext<'_> {
    /// Gives the result of the stage, doing it when it is not in the cache.
    pub fn stage(
        &self,
        spec: Spec,
        make: impl FnOnce(&StageDir<'_>) -> Result<(), BuildError>,
    ) -> Result<Made, BuildError> {
        let Spec { name, inputs, output_digest_files } = spec;
        let begin = Instant::now();
        let key = inputs.sum();
        self.progress.started(name);
        let log = self.target.join("logs").join(format!("{name}.log"));
        let made = self.make(name, &key, output_digest_files, &log, make);
        let outcome = match &made {
            Ok((_, outcome)) => *outcome,
            Err(_) => Outcome::Failed,
        };
        self.progress.ended(name, outcome, begin.elapsed());
        match made {
            Ok((made, _)) => Ok(made),
            Err(source) => Err(BuildError::Stage { name, log, source: Box::new(source) }),
        }
    }

    fn make(
        &self,
        name: &str,
        key: &Digest,
        output_digest_files: &[&str],
        log: &Path,
        make: impl FnOnce(&StageDir<'_>) -> Result<(), BuildError>,
    ) -> Result<(Made, Outcome), BuildError> {
        let home = self.cache.join(name);
        fs::create_dir_all(&home).map_err(BuildError::io(&home))?;
        let dir = home.join(&key.as_str()[..KEY_DIGITS]);
        // Of this result, not of the stage: a build of another checkout need not wait.
        let _lock = lock(&dir.with_extension(LOCK))?;
        let stamp = dir.with_extension(STAMP);
        if let Some(digest) = fs::read_to_string(&stamp).ok().as_deref().and_then(Digest::parse)
            && dir.is_dir()
        {
            touch(&stamp)?;
            return Ok((Made { dir, digest }, Outcome::Cached));
        }
        let (out, scratch) = (dir.with_extension(NEW), dir.with_extension(SCRATCH));
        for left_over in [&dir, &out, &scratch] {
            self.remove(left_over)?;
        }
        for dir in [&out, &scratch] {
            fs::create_dir_all(dir).map_err(BuildError::io(dir))?;
        }
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir).map_err(BuildError::io(dir))?;
        }
        fs::write(log, "").map_err(BuildError::io(log))?;
        let result = make(&StageDir { out: &out, scratch: &scratch, run: self.run, log });
        self.remove(&scratch)?;
        result?;
        let digest = match output_digest_files {
            [] => key.clone(),
            files => files
                .iter()
                .try_fold(Inputs::new(name, 0), |inputs, file| {
                    Ok::<_, BuildError>(inputs.path(&out.join(file))?)
                })?
                .sum(),
        };
        fs::rename(&out, &dir).map_err(BuildError::io(&dir))?;
        fs::write(&stamp, format!("{digest}\n")).map_err(BuildError::io(&stamp))?;
        self.forget_old(&home)?;
        Ok((Made { dir, digest }, Outcome::Done))
    }

    /// Removes a tree, also one whose files belong to subordinate users.
    pub fn remove(&self, path: &Path) -> Result<(), BuildError> {
        if fs::symlink_metadata(path).is_ok() {
            self.run.run(&as_owner(self.privilege, &Command::new("rm").arg("-rf").arg(path)))?;
        }
        Ok(())
    }

    /// Removes results beyond the newest, and what builds left that were killed.
    fn forget_old(&self, home: &Path) -> Result<(), BuildError> {
        let entries = fs::read_dir(home).map_err(BuildError::io(home))?;
        let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        let ending = |ending: &'static str| {
            paths.iter().filter(move |path| path.extension().is_some_and(|extension| extension == ending))
        };
        let mut stamps: Vec<(SystemTime, &PathBuf)> = ending(STAMP)
            .filter_map(|path| Some((fs::metadata(path).ok()?.modified().ok()?, path)))
            .collect();
        stamps.sort();
        for (_, stamp) in stamps.iter().rev().skip(KEPT) {
            fs::remove_file(stamp).map_err(BuildError::io(stamp))?;
            self.remove(&stamp.with_extension(""))?;
        }
        for path in ending(LOCK) {
            // Anyone who is at work holds it.
            let file = File::open(path).map_err(BuildError::io(path))?;
            if file.try_lock().is_ok() {
                self.remove(&path.with_extension(NEW))?;
                self.remove(&path.with_extension(SCRATCH))?;
            }
        }
        Ok(())
    }
}

/// Beside a result: the digest that stands for it; it is there when the result is complete.
const STAMP: &str = "digest";
/// The file a build holds locked while it is at work on a result.
const LOCK: &str = "lock";
/// The result in the making.
const NEW: &str = "new";
/// Its scratch directory.
const SCRATCH: &str = "scratch";

/// Digits of the key in a directory's name: 96 bits, more than any cache can confuse, and short enough to type.
const KEY_DIGITS: usize = 24;

/// Holds `path` locked until dropped; waits for anyone who has it.
pub(crate) fn lock(path: &Path) -> Result<File, BuildError> {
    let open = || -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(BuildError::io(path))
}

/// Removes the files of `dir` that were not marked as used within `unused`.
pub(crate) fn forget_unused(dir: &Path, unused: Duration) -> Result<(), BuildError> {
    for entry in fs::read_dir(dir).map_err(BuildError::io(dir))?.flatten() {
        let used =
            entry.metadata().and_then(|facts| facts.modified()).map_err(BuildError::io(&entry.path()))?;
        if used.elapsed().is_ok_and(|age| age > unused) {
            fs::remove_file(entry.path()).map_err(BuildError::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Marks `path` as used now.
pub(crate) fn touch(path: &Path) -> Result<(), BuildError> {
    let touch = || File::options().write(true).open(path)?.set_modified(SystemTime::now());
    touch().map_err(BuildError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use sheaf_host::run::System;
    use std::cell::Cell;

    struct Folders(tempfile::TempDir);

    impl Folders {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn context(&self) -> BuildContext<'_> {
            BuildContext {
                run: &System,
                progress: &Silent,
                privilege: Privilege::Root,
                cache: self.0.path().join("cache"),
                target: self.0.path().join("target"),
            }
        }
    }

    fn spec(input: &str, output_digest_files: &'static [&'static str]) -> Spec {
        Spec { name: "bake", inputs: Inputs::new("bake", 1).text("flour", input), output_digest_files }
    }

    #[test]
    fn a_stage_is_done_once_for_the_same_inputs_and_again_for_others() {
        let folders = Folders::new();
        let times = Cell::new(0);
        let bake = |flour: &str| {
            folders.context().stage(spec(flour, &[]), |stage| {
                times.set(times.get() + 1);
                fs::write(stage.out.join("bread"), "x").map_err(BuildError::io(stage.out))
            })
        };
        let first = bake("rye").unwrap();
        let second = bake("rye").unwrap();
        assert_eq!((first.digest == second.digest, times.get()), (true, 1));
        assert!(second.file("bread").exists());
        assert_ne!(bake("wheat").unwrap().digest, first.digest);
        assert_eq!(times.get(), 2);
    }

    #[test]
    fn a_stage_whose_digest_is_its_result_hides_changes_that_made_no_difference() {
        let folders = Folders::new();
        let bake = |flour: &str| {
            folders.context().stage(spec(flour, &["bread"]), |stage| {
                fs::write(stage.out.join("bread"), "same").map_err(BuildError::io(stage.out))
            })
        };
        assert_eq!(bake("rye").unwrap().digest, bake("wheat").unwrap().digest);
    }

    #[test]
    fn a_failed_stage_names_its_log_and_is_tried_again() {
        let folders = Folders::new();
        let fail = |stage: &StageDir<'_>| {
            fs::write(stage.out.join("half"), "x").unwrap();
            stage.run(&Command::new("sh").args(["-c", "echo no oven >&2; exit 1"])).map(|_| ())
        };
        let error = folders.context().stage(spec("rye", &[]), fail).unwrap_err();
        let BuildError::Stage { name: "bake", log, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains(&log.display().to_string()), "{error}");
        assert!(fs::read_to_string(log).unwrap().contains("no oven"));
        let made = folders.context().stage(spec("rye", &[]), |_| Ok(())).unwrap();
        assert!(!made.file("half").exists(), "the half-made result was taken over");
    }

    #[test]
    fn what_a_killed_build_left_is_removed_and_what_another_is_at_work_on_is_not() {
        let folders = Folders::new();
        let home = folders.context().cache.join("bake");
        for (name, locked) in [("killed", false), ("working", true)] {
            fs::create_dir_all(home.join(name).with_extension(NEW)).unwrap();
            let lock = lock(&home.join(name).with_extension(LOCK)).unwrap();
            if locked {
                std::mem::forget(lock);
            }
        }
        folders.context().stage(spec("rye", &[]), |_| Ok(())).unwrap();
        assert!(!home.join("killed.new").exists());
        assert!(home.join("working.new").exists());
    }

    #[test]
    fn only_the_newest_results_are_kept() {
        let folders = Folders::new();
        let made: Vec<_> = (0..5)
            .map(|flour| folders.context().stage(spec(&flour.to_string(), &[]), |_| Ok(())).unwrap().dir)
            .collect();
        assert_eq!(made.iter().filter(|dir| dir.exists()).count(), KEPT);
        assert!(made[4].exists());
    }
}
