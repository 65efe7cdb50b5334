//! sheaf-controller as a process of a control-plane node.
//!
//! Why a process: a leader that is stopped (SIGSTOP) and wakes up beside its successor is what a lease is about, and only a process
//! can be stopped. It is the program of the newest release (SHEAF_CONTROLLER, or the newest in `~/.cache/sheaf/programs`), with the
//! arguments of its unit, by the tools chroot's loader. Route in: the node's files and namespace. Route out: a process that is started again; what
//! happened to it, for [`super::leads`].

use super::leads::{self, Interval, Moment, What};
use super::locked;
use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use sheaf_agent::paths::Paths;
use sheaf_host::run::{Command, System};
use sheaf_machine::Tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use tempfile::TempDir;

/// The program on one node.
pub struct Controller {
    command: Command,
    log: PathBuf,
    state: Mutex<State>,
    _folder: TempDir,
}

#[derive(Default)]
struct State {
    /// The node is switched on.
    is_wanted: bool,
    child: Option<Child>,
    moments: Vec<Moment>,
}

impl Controller {
    /// One that does not run yet.
    pub fn new(namespace: &str, paths: &Paths) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        // Threads of the runtime start it, and outlive it.
        let program = program("sheaf-controller")?;
        let command = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(program.program)
            .args(program.args)
            .arg("run")
            .arg(format!("--kubeconfig={}", paths.kubernetes.join("sheaf-controller.conf").display()))
            .arg(format!("--certificates={}", paths.kubernetes.join("pki").display()))
            .log(&log);
        Ok(Self { command, log, state: Mutex::default(), _folder: folder })
    }

    /// Whether it may be started: the node is switched on.
    pub fn want(&self, is_wanted: bool) {
        locked(&self.state).is_wanted = is_wanted;
        if !is_wanted {
            self.end();
        }
    }

    /// Starts it if it does not run and may.
    pub fn start(&self) -> Result<()> {
        let mut state = locked(&self.state);
        if !state.is_wanted || !state.has_ended() {
            return Ok(());
        }
        state.child = Some(System.start(&self.command)?);
        Ok(())
    }

    /// Whether there is no process of it, or one that has ended.
    pub fn has_ended(&self) -> bool {
        locked(&self.state).has_ended()
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        locked(&self.state).child.as_ref().map(Child::id)
    }

    /// Notes what happens to it now.
    pub fn note(&self, what: What) {
        locked(&self.state).moments.push((Timestamp::now(), what));
    }

    /// Ends it, as a power cut does.
    fn end(&self) {
        let mut state = locked(&self.state);
        if let Some(mut child) = state.child.take() {
            child.kill().ok();
            child.wait().ok();
            state.moments.push((Timestamp::now(), What::Ended));
        }
    }

    /// Times at which it led, until now.
    pub fn led(&self) -> Vec<Interval> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let mut moments = leads::parse(&log);
        moments.extend(locked(&self.state).moments.iter().copied());
        leads::intervals(moments, Timestamp::now())
    }

    /// The end of its log, for a failure.
    pub fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl State {
    fn has_ended(&mut self) -> bool {
        let Some(child) = &mut self.child else { return true };
        if matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        self.child = None;
        self.moments.push((Timestamp::now(), What::Ended));
        true
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a program of the node is started here: the one that its variable names (SHEAF_CONTROLLER, SHEAF_CONSOLE), or the newest that
/// `sheaf build` has made. It is linked for the node's libraries, which the tools chroot has.
pub fn program(name: &str) -> Result<Command> {
    let variable = name.to_uppercase().replace('-', "_");
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let home = std::env::var_os("HOME").context("HOME is not set")?;
            let programs = Path::new(&home).join(".cache/sheaf/programs");
            newest(&programs, name)
                .with_context(|| format!("no {name} below {}; `sheaf build` makes it", programs.display()))?
        }
    };
    Ok(Tools::find()?.command(&path.display().to_string()))
}

/// The newest of the builds below `programs`.
fn newest(programs: &Path, name: &str) -> Option<PathBuf> {
    let builds = fs::read_dir(programs).ok()?.flatten();
    let made = builds.filter_map(|build| {
        let path = build.path().join(name);
        Some((path.metadata().ok()?.modified().ok()?, path))
    });
    made.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_newest_build_of_sheaf_controller_is_run() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest(folder.path(), "sheaf-controller"), None);
        for (build, age) in [("a", 20), ("b", 10), ("c", 30)] {
            let path = folder.path().join(build).join("sheaf-controller");
            fs::create_dir(path.parent().unwrap()).unwrap();
            let file = fs::File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        fs::create_dir(folder.path().join("without")).unwrap();
        assert_eq!(
            newest(folder.path(), "sheaf-controller").unwrap(),
            folder.path().join("b/sheaf-controller")
        );
    }
}
