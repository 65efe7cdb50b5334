//! Runs programs: the only `Command::new` of the project.
//!
//! Why here: an error always carries the program, its arguments, how it ended and the end of what it said.
//! Route in: a [`Command`] value (printable, comparable: plans hold them). Route out: [`Run::run`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

/// How much of a program's last words an error shows, in bytes: a screenful.
const TAIL_BYTES: usize = 2000;

/// A program to run, as a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program name, looked up in PATH, or a path.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables set on top of the caller's environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Working directory, when it is not the caller's.
    pub dir: Option<PathBuf>,
    /// Bytes given on standard input; empty means `/dev/null`.
    pub stdin: Vec<u8>,
    /// File that receives standard output and error as they come, as well as the caller.
    pub log: Option<PathBuf>,
    /// Ended with SIGKILL when it runs longer.
    pub deadline: Option<Duration>,
    /// What it printed counts, whatever its exit code.
    pub any_code: bool,
}

impl Command {
    /// A call of `program` without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().to_owned(), ..Self::default() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Runs it in `dir`.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Gives `bytes` on standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Appends all output to the file `log`.
    #[must_use]
    pub fn log(mut self, log: impl AsRef<Path>) -> Self {
        self.log = Some(log.as_ref().to_owned());
        self
    }

    /// Takes what it prints, whatever its exit code: for programs that tell of their subject by it.
    #[must_use]
    pub fn any_code(mut self) -> Self {
        self.any_code = true;
        self
    }

    /// Kills it after `deadline`.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl fmt::Display for Command {
    /// As one would type it: arguments with blanks or quotes stand in single quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.to_string_lossy())?;
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            let plain =
                !arg.is_empty() && arg.chars().all(|c| c.is_alphanumeric() || "-_=+:,./@%".contains(c));
            if plain { write!(f, " {arg}")? } else { write!(f, " '{}'", arg.replace('\'', r"'\''"))? }
        }
        Ok(())
    }
}

/// What a program that ended well said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without the line end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started at all.
    #[error("{command}: cannot be started; is {} installed?", .command.program.to_string_lossy())]
    Start {
        /// What was to be run.
        command: Box<Command>,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("{command}: {ended}{}", tail_of(.tail))]
    Failed {
        /// What was run.
        command: Box<Command>,
        /// How it ended, `exit status: 1`.
        ended: String,
        /// Exit code, when it was not ended by a signal.
        code: Option<i32>,
        /// The end of its output.
        tail: String,
    },
    /// It was still running at its deadline and was killed.
    #[error("{command}: still running after {} s, killed{}", .after.as_secs(), tail_of(.tail))]
    Late {
        /// What was run.
        command: Box<Command>,
        /// The deadline it had.
        after: Duration,
        /// The end of its output.
        tail: String,
    },
    /// Its output could not be read or logged.
    #[error("{command}: output could not be taken")]
    Output {
        /// What was run.
        command: Box<Command>,
        /// Why not.
        source: std::io::Error,
    },
}

fn tail_of(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("; its output:\n{tail}") }
}

/// Something that runs programs: [`System`], or [`crate::fakes::FakeRun`] in tests.
pub trait Run: Send + Sync {
    /// Runs `command` to its end; an exit code other than 0 is an error.
    fn run(&self, command: &Command) -> Result<Output, RunError>;
}

/// The machine itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Run for System {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        tracing::debug!(%command, "run");
        let boxed = || Box::new(command.clone());
        let output_error = |source| RunError::Output { command: boxed(), source };
        let mut child = spawnable(command)
            .stdin(if command.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RunError::Start { command: boxed(), source })?;
        let (status, output) = std::thread::scope(|scope| {
            let log = |stream| copy_stream(stream, command.log.as_deref());
            let stdin = child.stdin.take();
            let stdout = child.stdout.take();
            let stderr = child.stderr.take();
            // A program that ends without reading all of its input is judged by its exit code, not by EPIPE.
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(&command.stdin)));
            let stdout = scope.spawn(move || log(stdout.map(|s| Box::new(s) as Box<dyn Read>)));
            let stderr = scope.spawn(move || {
                copy_stream(stderr.map(|s| Box::new(s) as Box<dyn Read>), command.log.as_deref())
            });
            let status = wait(&mut child, command.deadline);
            let join = |handle: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
                handle.join().unwrap_or_else(|_| Err(std::io::Error::other("reader thread panicked")))
            };
            (status, join(stdout).and_then(|stdout| Ok(Output { stdout, stderr: join(stderr)? })))
        });
        let status = status.map_err(output_error)?;
        let output = output.map_err(output_error)?;
        let tail =
            || tail(if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr });
        match (status, command.deadline) {
            (None, deadline) => {
                Err(RunError::Late { command: boxed(), after: deadline.unwrap_or_default(), tail: tail() })
            }
            (Some(status), _) if !(status.success() || command.any_code && status.code().is_some()) => {
                Err(RunError::Failed {
                    command: boxed(),
                    ended: status.to_string(),
                    code: status.code(),
                    tail: tail(),
                })
            }
            _ => Ok(output),
        }
    }
}

impl System {
    /// Starts `command` and leaves it running: for servers and machines that a caller stops itself.
    /// Output goes to the command's log, or nowhere.
    pub fn start(&self, command: &Command) -> Result<std::process::Child, RunError> {
        let fail = |source| RunError::Start { command: Box::new(command.clone()), source };
        let sink = || match &command.log {
            Some(log) => open_log(log).map(Stdio::from),
            None => Ok(Stdio::null()),
        };
        spawnable(command)
            .stdin(Stdio::null())
            .stdout(sink().map_err(fail)?)
            .stderr(sink().map_err(fail)?)
            .spawn()
            .map_err(fail)
    }
}

#[allow(clippy::disallowed_methods)] // the one place the ban points to
pub(crate) fn spawnable(command: &Command) -> std::process::Command {
    let mut std = std::process::Command::new(&command.program);
    std.args(&command.args).envs(&command.env);
    if let Some(dir) = &command.dir {
        std.current_dir(dir);
    }
    std
}

fn open_log(log: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::options().create(true).append(true).open(log)
}

fn copy_stream(stream: Option<Box<dyn Read>>, log: Option<&Path>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut log = log.map(open_log).transpose()?;
    let Some(mut stream) = stream else { return Ok(kept) };
    let mut buffer = [0; 8192];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&buffer[..read]);
        if let Some(log) = &mut log {
            log.write_all(&buffer[..read])?;
        }
    }
}

fn wait(child: &mut std::process::Child, deadline: Option<Duration>) -> std::io::Result<Option<ExitStatus>> {
    let Some(deadline) = deadline else { return child.wait().map(Some) };
    match crate::wait::until(deadline, Duration::from_millis(20), || child.try_wait().transpose()) {
        Some(status) => status.map(Some),
        None => {
            child.kill()?;
            child.wait()?;
            Ok(None)
        }
    }
}

pub(crate) fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_as_one_would_type_it() {
        let command = Command::new("mkfs.ext4").args(["-L", "my disk", "/dev/vda9"]);
        assert_eq!(command.to_string(), "mkfs.ext4 -L 'my disk' /dev/vda9");
    }

    #[test]
    fn a_failure_names_the_program_its_arguments_and_its_last_words() {
        let error =
            System.run(&Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c 'echo no such thing >&2; exit 3': exit status: 3; its output:\nno such thing"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = System.run(&Command::new("no-such-program")).unwrap_err();
        assert!(matches!(error, RunError::Start { .. }), "{error}");
    }

    #[test]
    fn a_program_past_its_deadline_is_killed() {
        let slow = Command::new("sleep").arg("60").deadline(Duration::from_millis(50));
        assert!(matches!(System.run(&slow), Err(RunError::Late { .. })));
    }

    #[test]
    fn input_reaches_the_program_and_its_output_comes_back() {
        let output = System.run(&Command::new("tr").args(["a-z", "A-Z"]).stdin("sheaf\n")).unwrap();
        assert_eq!(output.text(), "SHEAF");
    }
}
