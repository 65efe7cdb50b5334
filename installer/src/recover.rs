//! The recovery on the consoles: says what is wrong with the node's slots, asks what to do, does it, restarts.
//!
//! Why plain lines: they work on a serial line that somebody attached after the fact, and in a log of it; each console may answer.
//! Nothing answers on the network: the recovery has no user to authenticate. Route in: consoles, the key to trust. Route out: the
//! machine goes down; or, with no console left, exit code 1.

use anyhow::{Context as _, bail, ensure};
use sheaf_config::manifest::Manifest;
use sheaf_host::disk::DiskError;
use sheaf_host::efi::EfiVars;
use sheaf_host::esp::Folder;
use sheaf_host::fetch;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::tty::{Terminal, Tty};
use sheaf_installer::plan::ARCH;
use sheaf_installer::recovery::apply::{self, Env, Release};
use sheaf_installer::recovery::{self, Choice, Observed, Partitions, plan};
use sheaf_installer::session::{self, Host, SCRATCH, Session, open_disk};
use sheaf_installer::sources::arguments::Arguments;
use sheaf_installer::sources::remote::Remote;
use sheaf_release::boot::Slot;
use sheaf_release::origin::Origin;
use sheaf_release::records::reset;
use sheaf_release::version::compare;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A connection to a release's server that is silent for longer is given up and taken up again.
const SILENCE: Duration = Duration::from_secs(20);
/// How long each console is listened to in turn.
const KEY: Duration = Duration::from_millis(200);
/// Nobody pressed a key for so long: the newest release gets its tries again. A disk that was away for some minutes, in a
/// machine that nobody visits, must not need a visit.
const UNATTENDED: Duration = Duration::from_secs(30 * 60);
/// Partitions of a slow controller are there by then.
const DISK: Duration = Duration::from_secs(60);
/// Longest URL that is typed.
const LONGEST_LINE: usize = 1000;
/// Bytes between two lines that say how far it is.
const STRIDE: u64 = 256 << 20;
/// Where partitions are.
const DEVICES: &str = "/dev/disk/by-partuuid";

/// Whether the boot loader started the recovery.
pub fn is_asked() -> bool {
    session::command_line(Path::new("/")).is_ok_and(|arguments| arguments.recovery)
}

/// Terminals: what is said goes to all of them, and any may answer.
struct Consoles(Vec<Tty>);

impl Consoles {
    fn say(&self, text: &str) {
        for terminal in &self.0 {
            for line in text.lines() {
                // One that went away is told by reading it.
                let _ = terminal.write(format!("{line}\r\n").as_bytes());
            }
        }
        tracing::info!("{text}");
    }

    /// A key of one of them, and which; none at the deadline. An error when none of them can be read.
    fn key(&self, deadline: Instant) -> anyhow::Result<Option<(usize, u8)>> {
        while Instant::now() < deadline {
            let mut lost = 0;
            for (number, terminal) in self.0.iter().enumerate() {
                let mut typed = [0];
                match terminal.read(&mut typed, KEY) {
                    Ok(0) => {}
                    Ok(_) => return Ok(Some((number, typed[0]))),
                    Err(_) => lost += 1,
                }
            }
            ensure!(lost < self.0.len(), "none of the consoles is a terminal");
        }
        Ok(None)
    }

    /// A line that is typed at console `number`; none when it was left empty or nobody ended it.
    fn line(&self, number: usize) -> anyhow::Result<Option<String>> {
        let (mut line, deadline) = (Vec::new(), Instant::now() + UNATTENDED);
        while let Some((of, key)) = self.key(deadline)? {
            match key {
                _ if of != number => {}
                b'\r' | b'\n' => {
                    self.say("");
                    return Ok(String::from_utf8(line).ok().filter(|line| !line.is_empty()));
                }
                // Backspace and DEL
                8 | 127 if !line.is_empty() => {
                    line.pop();
                    let _ = self.0[number].write(b"\x08 \x08");
                }
                // Escape and Ctrl-C
                27 | 3 => return Ok(None),
                b' '..=b'~' if line.len() < LONGEST_LINE => {
                    line.push(key);
                    let _ = self.0[number].write(&[key]);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Runs until the machine goes down.
pub fn run(consoles: &[PathBuf], key: &Path) -> ExitCode {
    let consoles = Consoles(consoles.iter().filter_map(|path| Tty::open(path).ok()).collect());
    match asked(&consoles, key) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            consoles.say(&format!("The recovery failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn asked(consoles: &Consoles, key: &Path) -> anyhow::Result<()> {
    let firmware = EfiVars::default();
    let fetch = fetch::Http::silent_for(SILENCE);
    let host = crate::unattended::host(&firmware, &fetch);
    loop {
        let found = look(&host);
        let report = match &found {
            Ok((_, observed)) => observed.report().join("\n"),
            Err(error) => format!("SHEAF RECOVERY\n{error:#}"),
        };
        consoles.say(&format!("\n{report}\n\nPress a key:"));
        for (key, _, text) in Choice::ALL {
            consoles.say(&format!("  {}  {text}", char::from(key)));
        }
        let minutes = UNATTENDED.as_secs() / 60;
        consoles.say(&format!("Without a key for {minutes} minutes the newest release is started again."));
        let (number, choice) = match consoles.key(Instant::now() + UNATTENDED)? {
            Some((number, key)) => match Choice::of(key) {
                Some(choice) => (number, choice),
                None => continue,
            },
            None => match found.as_ref().ok().and_then(|(_, observed)| newest(observed)) {
                Some(slot) => (0, Choice::Again(slot)),
                None => continue,
            },
        };
        let done = match choice {
            Choice::Restart => return leave("reboot"),
            Choice::PowerOff => return leave("poweroff"),
            Choice::Again(slot) => found.and_then(|(partitions, observed)| {
                let steps = plan::again(&observed, slot)?;
                on_disk(&host, consoles, &partitions, &observed, None, &steps)
            }),
            Choice::Medium => found.and_then(|found| install(&host, consoles, key, &found, None)),
            Choice::Url => {
                consoles
                    .say("URL of the release's folder (http:// or https://), then Enter; Escape to go back:");
                match consoles.line(number)? {
                    Some(url) => found.and_then(|found| install(&host, consoles, key, &found, Some(url))),
                    None => continue,
                }
            }
            Choice::Reset { pools } => {
                match found.and_then(|found| ask_reset(consoles, number, &found, pools)) {
                    Ok(true) => Ok(()),
                    Ok(false) => continue,
                    Err(error) => Err(error),
                }
            }
            Choice::Keep => match found.and_then(|(partitions, _)| withdraw(&partitions)) {
                Ok(said) => {
                    consoles.say(said);
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(()) => {
                consoles.say("Done; the machine restarts.");
                return leave("reboot");
            }
            Err(error) => consoles.say(&format!("Failed: {error:#}")),
        }
    }
}

/// Asks for the reset of the node, at the console `number`; whether the machine restarts for it now.
fn ask_reset(
    consoles: &Consoles,
    number: usize,
    (partitions, observed): &(Partitions, Observed),
    pools: bool,
) -> anyhow::Result<bool> {
    consoles.say(&plan::warning(observed, pools)?.join("\n"));
    let Some(typed) = consoles.line(number)? else {
        consoles.say("Nothing is changed.");
        return Ok(false);
    };
    let mark = plan::reset(observed, partitions.install(), pools, &typed)?;
    reset::write(&*open_disk(&partitions.records())?, &mark)?;
    if !observed.starts() {
        consoles.say(
            "The node is reset when a slot starts: start one again (a, b), or install a release (m, u).",
        );
    }
    Ok(observed.starts())
}

/// Withdraws a reset that was asked for; what to say.
fn withdraw(partitions: &Partitions) -> anyhow::Result<&'static str> {
    let disk = open_disk(&partitions.records())?;
    if reset::read(&*disk)?.is_none() {
        return Ok("No reset is asked for.");
    }
    reset::clear(&*disk)?;
    Ok("Withdrawn: the node keeps what it has.")
}

/// The newest release that has a UKI.
fn newest(observed: &Observed) -> Option<Slot> {
    let slots = observed.slots.iter().filter(|state| state.uki.is_some());
    let newest = slots.max_by(|a, b| {
        let version = |of: &recovery::SlotState| of.version.clone().unwrap_or_default();
        compare(&version(a), &version(b))
    });
    newest.map(|state| state.slot)
}

fn leave(action: &str) -> anyhow::Result<()> {
    let left = System.run(&Command::new("systemctl").args([action, "--force"]));
    left.map(drop).with_context(|| format!("the machine does not {action}; please do it yourself"))
}

/// What is on the disk. Nothing stays mounted.
fn look(host: &Host<'_>) -> anyhow::Result<(Partitions, Observed)> {
    let arguments = session::command_line(host.root)?;
    let partitions = Partitions::of(Path::new(DEVICES), arguments.esp.as_deref())?;
    let wait = Command::new("udevadm").arg("wait").arg(format!("--timeout={}", DISK.as_secs()));
    host.run.run(&wait.arg(partitions.esp())).context("the node's disk is not there")?;
    let (esp, state) = (Path::new(SCRATCH).join("esp"), Path::new(SCRATCH).join("state"));
    host.mount.read_only(&partitions.esp(), "vfat", &esp)?;
    let mounted = host.mount.read_only(&partitions.state(), "ext4", &state);
    let of = mounted.as_ref().map(PathBuf::as_path).map_err(|error| format!("{error:#}"));
    let is_uefi = host.root.join("sys/firmware/efi").exists();
    let observed = recovery::observe(&Folder::new(esp.clone()), is_uefi, of);
    if mounted.is_ok() {
        host.mount.unmount(&state)?;
    }
    host.mount.unmount(&esp)?;
    let mut observed = observed?;
    // One that cannot be read is no reason to offer nothing.
    observed.reset =
        open_disk(&partitions.records()).and_then(|disk| reset::read(&*disk)).unwrap_or_else(|error| {
            tracing::warn!("whether a reset is asked for cannot be read: {error}");
            None
        });
    Ok((partitions, observed))
}

/// Carries `steps` out on the mounted EFI system partition.
fn on_disk(
    host: &Host<'_>,
    consoles: &Consoles,
    partitions: &Partitions,
    observed: &Observed,
    release: Option<Release<'_>>,
    steps: &[plan::Step],
) -> anyhow::Result<()> {
    let esp = Path::new(SCRATCH).join("esp");
    host.mount.writable(&partitions.esp(), "vfat", &esp)?;
    let done = AtomicU64::new(0);
    let advance = |bytes: u64| {
        let before = done.fetch_add(bytes, Ordering::Relaxed);
        if before / STRIDE != (before + bytes) / STRIDE {
            consoles.say(&format!("  {} MiB", (before + bytes) >> 20));
        }
    };
    let env = Env {
        files: &Folder::new(esp.clone()),
        open: &open_disk,
        partitions,
        release,
        arguments: &observed.arguments,
        advance: &advance,
    };
    let mut result = Ok(());
    for step in steps {
        consoles.say(&format!("{step}"));
        result = apply::apply(&env, step).with_context(|| format!("cannot {step}"));
        if result.is_err() {
            break;
        }
    }
    let unmounted = host.mount.unmount(&esp);
    result?;
    Ok(unmounted?)
}

/// Installs the release of a medium, or of `url`, into a slot.
fn install(
    host: &Host<'_>,
    consoles: &Consoles,
    key: &Path,
    (partitions, observed): &(Partitions, Observed),
    url: Option<String>,
) -> anyhow::Result<()> {
    if let Some(url) =
        url.as_ref().filter(|url| !["http://", "https://"].iter().any(|of| url.starts_with(of)))
    {
        bail!("\"{url}\" is not a URL; write the http:// or https:// URL of a release folder");
    }
    let arguments = Arguments { payload: url, ..Arguments::default() };
    let session = Session::open_with(*host, arguments, key, &|text| consoles.say(text))?;
    let done = write(host, consoles, partitions, observed, &session);
    session.close();
    done
}

fn write(
    host: &Host<'_>,
    consoles: &Consoles,
    partitions: &Partitions,
    observed: &Observed,
    session: &Session<'_>,
) -> anyhow::Result<()> {
    let manifest: &Manifest = session.release.manifest();
    let slot = plan::target(observed, &manifest.version);
    let (root, verity) = partitions.slot(slot);
    let size = |path: &Path| -> Result<u64, DiskError> { Ok(open_disk(path)?.size()) };
    plan::judge(observed, manifest, ARCH, (size(&root)?, size(&verity)?))?;
    let remote = match &session.release {
        session::Release::Medium(_) => None,
        session::Release::Remote { url, .. } => Some(Remote::new(url, host.fetch)),
    };
    let origin = match (&session.release, &remote) {
        (session::Release::Medium(medium), _) => Origin::Folder(&medium.folder),
        (_, Some(remote)) => Origin::Server(remote),
        (session::Release::Remote { .. }, None) => bail!("no server (bug in sheaf-installer)"),
    };
    consoles.say(&format!("{} {} goes into slot {}", manifest.name, manifest.version, slot.name()));
    let steps = plan::install(observed, &manifest.version, slot);
    on_disk(host, consoles, partitions, observed, Some(Release { origin: &origin, manifest }), &steps)
}
