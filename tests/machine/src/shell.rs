//! A root shell in a node, for the harness alone.
//!
//! Why here: a node has no door for operators to a shell, and must not get one for tests. Anyone who gives a machine its
//! SMBIOS tables owns it anyway: stock systemd takes credentials from there (systemd.system-credentials(7)), and one of
//! them is a list of files to write at boot. The shell comes with the control plane's etcd, and on a node that joins with
//! libvirt-dbus.
//! Route in: commands. Route out: their output and exit code, over the machine's second serial line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const UNIT: &str = "[Unit]
Description=Shell of the test harness
DefaultDependencies=no
After=basic.target
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStartPre=/bin/stty -F /dev/ttyS1 raw -echo
ExecStart=/bin/sh
StandardInput=file:/dev/ttyS1
StandardOutput=file:/dev/ttyS1
StandardError=null
Restart=always
";
/// For units that a node starts late: systemd has not read them yet when the files below are written.
const DROPIN: &str = "[Unit]\nWants=sheaf-test-shell.service\n";

/// What a first node starts late, and what every node does once its agent asks for its VMs.
const LATE: [&str; 2] = ["etcd.service", "libvirt-dbus.service"];

/// The SMBIOS string that makes systemd-tmpfiles write the units. (Generators, which could take units from
/// credentials themselves, are not in the image.)
pub fn smbios() -> [String; 1] {
    let unit = STANDARD.encode(UNIT);
    let mut lines = format!("f+~ /run/systemd/system/sheaf-test-shell.service 0644 root root - {unit}\n");
    for late in LATE {
        let folder = format!("/run/systemd/system/{late}.d");
        let dropin = STANDARD.encode(DROPIN);
        lines +=
            &format!("d {folder} 0755 root root -\nf+~ {folder}/test-shell.conf 0644 root root - {dropin}\n");
    }
    [format!("io.systemd.credential.binary:tmpfiles.extra={}", STANDARD.encode(lines))]
}

/// A connection to the shell. Each command is a new one, so a restored machine needs no special care.
#[derive(Clone, Debug)]
pub struct Shell {
    socket: PathBuf,
}

/// A command that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// No answer in time: the node hangs, or has no shell yet.
    #[error("node shell: {command}: no answer within {} s; got {got:?}", .after.as_secs())]
    Late {
        /// The command.
        command: String,
        /// Its deadline.
        after: Duration,
        /// What came.
        got: String,
    },
    /// The command failed.
    #[error("node shell: {command}: exit status {code}: {output}")]
    Failed {
        /// The command.
        command: String,
        /// Exit code.
        code: i32,
        /// Standard output and error.
        output: String,
    },
    /// The socket failed: QEMU is gone.
    #[error("node shell: {command}: cannot be sent")]
    Socket {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Shell {
    /// The shell behind `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Runs `command` as root; gives its standard output and error, without the last line end.
    pub fn run(&self, command: &str, deadline: Duration) -> Result<String, ShellError> {
        let (code, output) = self.exit_code(command, deadline)?;
        if code == 0 { Ok(output) } else { Err(ShellError::Failed { command: command.into(), code, output }) }
    }

    /// Runs `command` as root; gives its exit code too.
    pub fn exit_code(&self, command: &str, deadline: Duration) -> Result<(i32, String), ShellError> {
        let failed = |source| ShellError::Socket { command: command.into(), source };
        let end = Instant::now() + deadline;
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        // How often the deadline is looked at.
        stream.set_read_timeout(Some(Duration::from_millis(200))).map_err(failed)?;
        // Unique, so that what an earlier command left in the line is not taken for the answer; split, so that a
        // terminal that still echoes does not answer either.
        let mark =
            format!("{:08x}", Instant::now().elapsed().subsec_nanos() ^ std::process::id() ^ counter());
        let line = script(command, &mark);
        stream.write_all(line.as_bytes()).map_err(failed)?;
        let (begin, finish) = (format!("@begin{mark}"), format!("@end{mark} "));
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            match stream.read(&mut buffer) {
                Ok(0) => return Err(failed(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => got.extend_from_slice(&buffer[..read]),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(failed(error)),
            }
            if let Some(answer) = answer(&String::from_utf8_lossy(&got), &begin, &finish) {
                return Ok(answer);
            }
        }
        let got = String::from_utf8_lossy(&got).into_owned();
        Err(ShellError::Late { command: command.into(), after: deadline, got })
    }
}

/// A subshell, so that `exit` in a command does not end the shell.
fn script(command: &str, mark: &str) -> String {
    format!("\n(echo '@begin''{mark}'; ( {command}\n) 2>&1; code=$?; echo; echo '@end''{mark}' $code)\n")
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn counter() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(0x0001_0001, std::sync::atomic::Ordering::Relaxed)
}

/// Exit code and output between the marks, once both have come.
fn answer(got: &str, begin: &str, finish: &str) -> Option<(i32, String)> {
    let (_, rest) = got.split_once(begin)?;
    let (output, code) = rest.split_once(finish)?;
    let (code, _) = code.split_once('\n')?;
    Some((code.trim().parse().ok()?, output.replace('\r', "").trim_matches('\n').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::run::{Command, Run as _, System};

    #[test]
    fn the_exit_code_is_the_commands_own_also_when_it_exits() {
        for (command, code, said) in [("exit 3", 3, ""), ("echo a; false", 1, "a"), ("echo b", 0, "b")] {
            let shell = Command::new("sh").args(["-c", &script(command, "7")]);
            let printed = System.run(&shell).unwrap().text().to_owned() + "\n";
            assert_eq!(answer(&printed, "@begin7", "@end7 "), Some((code, said.into())), "{command}");
        }
    }

    #[test]
    fn an_answer_is_what_stands_between_the_marks_and_carries_the_exit_code() {
        let got = "old noise\n@begin7\r\nline one\r\nline two\r\n\r\n@end7 3\r\n";
        assert_eq!(answer(got, "@begin7", "@end7 "), Some((3, "line one\nline two".into())));
        assert_eq!(answer(&got[..got.len() - 2], "@begin7", "@end7 "), None);
    }
}
