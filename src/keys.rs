//! `sheaf keys`: the list of keys that releases are believed by (`keys.json`), and signatures of people who hold one.
//!
//! Why here: what nodes accept is decided by people with keys in several places, who need not build. Each command prints what
//! the list is then and which signatures it lacks. Route in: files of minisign (`minisign -G`), a `keys.json`, a release folder.
//! Route out: the file, changed as a whole, and its state as text.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use sheaf_config::manifest::{FILE, KEYS, Manifest, SIGNATURE};
use sheaf_host::file::write_atomically;
use sheaf_os_image::signing::{Given, Key, PASSPHRASE_VARIABLE};
use sheaf_release::keys::{Chain, FORMAT, Keys, Signed, Signers, id};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the first version of a list
    New {
        /// The list, keys.json
        list: PathBuf,
        /// Public key, as minisign -G -p wrote it (repeatable)
        #[arg(long = "key", value_name = "PUBLIC", required = true)]
        keys: Vec<PathBuf>,
        /// How many of the keys must sign
        #[arg(long, default_value_t = 1)]
        threshold: usize,
    },
    /// Add a key; in a new version when the newest one has its signatures
    Add {
        /// The list, keys.json
        list: PathBuf,
        /// Public key
        key: PathBuf,
        /// How many of the keys must sign from then on; default: as many as now
        #[arg(long)]
        threshold: Option<usize>,
    },
    /// Remove a key; in a new version when the newest one has its signatures
    Remove {
        /// The list, keys.json
        list: PathBuf,
        /// Public key, or its ID
        key: String,
        /// How many of the keys must sign from then on; default: as many as now
        #[arg(long)]
        threshold: Option<usize>,
    },
    /// Sign the newest version of a list, or a release
    Sign {
        /// The list, keys.json, or a release folder
        target: PathBuf,
        /// Secret key; its passphrase is in SHEAF_SIGNING_PASSPHRASE, or a terminal is asked
        #[arg(long, value_name = "SECRET")]
        key: PathBuf,
    },
    /// Print a list and the signatures it has
    Show {
        /// The list, keys.json
        list: PathBuf,
    },
}

/// Runs it; prints the state of what it changed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let changed = match &arguments.command {
        Command::New { list, keys, threshold } => new(list, keys, *threshold)?,
        Command::Add { list, key, threshold } => add(list, key, *threshold)?,
        Command::Remove { list, key, threshold } => remove(list, key, *threshold)?,
        Command::Sign { target, key } => {
            let given = Given { key: None, passphrase: std::env::var(PASSPHRASE_VARIABLE).ok() };
            sign(target, &Key::of_file(key, &given)?)?
        }
        Command::Show { list } => state(&read(list)?)?,
    };
    print!("{changed}");
    Ok(())
}

fn read(list: &Path) -> Result<Chain> {
    let bytes = fs::read(list)
        .with_context(|| format!("{}: cannot be read; make it: sheaf keys new", list.display()))?;
    Chain::parse(&bytes).with_context(|| list.display().to_string())
}

fn write(list: &Path, chain: &Chain) -> Result<String> {
    let mut text = serde_json::to_vec_pretty(chain)?;
    text.push(b'\n');
    write_atomically(list, &text, 0o644)?;
    state(chain)
}

/// The key in the file `path`, in base64.
fn public(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let keys = Keys::of_single(&text).with_context(|| {
        format!(
            "{}: is not a minisign public key; give the file that minisign -G -p FILE wrote",
            path.display()
        )
    })?;
    Ok(keys.keys.concat())
}

fn new(list: &Path, keys: &[PathBuf], threshold: usize) -> Result<String> {
    ensure!(
        !list.exists(),
        "{}: is there already; change it: sheaf keys add, sheaf keys remove",
        list.display()
    );
    let keys = keys.iter().map(|path| public(path)).collect::<Result<Vec<_>>>()?;
    let mut chain = Chain::default();
    chain.push(Keys { format: FORMAT, version: 1, threshold, keys })?;
    write(list, &chain)
}

fn add(list: &Path, key: &Path, threshold: Option<usize>) -> Result<String> {
    let (mut chain, key) = (read(list)?, public(key)?);
    chain.change(|keys| {
        keys.keys.push(key);
        keys.threshold = threshold.unwrap_or(keys.threshold);
    })?;
    write(list, &chain)
}

fn remove(list: &Path, key: &str, threshold: Option<usize>) -> Result<String> {
    let mut chain = read(list)?;
    let wanted = match Path::new(key).is_file() {
        true => id(&public(Path::new(key))?),
        false => key.to_uppercase(),
    };
    let newest = chain.newest()?;
    let has: Vec<_> = newest.keys.iter().map(|key| id(key)).collect();
    ensure!(has.contains(&wanted), "{}: has no key {wanted}; it has {}", list.display(), has.join(", "));
    chain.change(|keys| {
        keys.keys.retain(|key| id(key) != wanted);
        keys.threshold = threshold.unwrap_or(keys.threshold);
    })?;
    write(list, &chain)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn sign(target: &Path, key: &Key) -> Result<String> {
    if target.is_dir() { sign_release(target, key) } else { sign_list(target, key) }
}

fn sign_list(list: &Path, key: &Key) -> Result<String> {
    let mut chain = read(list)?;
    let newest = chain.newest()?;
    let before = chain.0.iter().rev().nth(1).map(Signed::parse).transpose()?;
    let is_of = |keys: &Keys| keys.keys.iter().any(|known| id(known) == key.id());
    // Of the first version the one before is the single key that nodes have, which only they know.
    let fits = is_of(&newest) || before.as_ref().is_none_or(is_of);
    ensure!(
        fits,
        "{}: key {} is neither one of version {} nor one of the version before; its signature would not count",
        list.display(),
        key.id(),
        newest.version
    );
    let Some(signed) = chain.0.last_mut() else { bail!("{}: has no version", list.display()) };
    let text = signed.keys.clone();
    add_signature(&mut signed.signatures, list, text.as_bytes(), key)?;
    write(list, &chain)
}

fn sign_release(dir: &Path, key: &Key) -> Result<String> {
    let [manifest, signatures, list] = [FILE, SIGNATURE, KEYS].map(|file| dir.join(file));
    let text = fs::read(&manifest)
        .with_context(|| format!("{}: cannot be read; is this a release?", manifest.display()))?;
    let document: Manifest = serde_json::from_slice(&text).with_context(|| manifest.display().to_string())?;
    let keys =
        read(&list).context("a release without a list of keys has one signature, by the build")?.newest()?;
    ensure!(
        keys.keys.iter().any(|known| id(known) == key.id()),
        "{}: key {} is not one of version {} of its keys; its signature would not count",
        dir.display(),
        key.id(),
        keys.version
    );
    let mut all = fs::read_to_string(&signatures).with_context(|| signatures.display().to_string())?;
    add_signature(&mut all, &manifest, &text, key)?;
    write_atomically(&signatures, all.as_bytes(), 0o644)?;
    let signers = keys.signers(&text, &all).with_context(|| signatures.display().to_string())?;
    Ok(format!("{} {}: {}\n", document.name, document.version, missing(&keys, &signers)))
}

/// Adds the signature of `text`, which `file` holds, unless the key has signed it before.
fn add_signature(all: &mut String, file: &Path, text: &[u8], key: &Key) -> Result<()> {
    let own = Keys::of_single(&key.public).context("the key has no public half")?;
    let has_signed = !all.trim().is_empty() && own.signers(text, all)?.known.contains(&key.id());
    ensure!(!has_signed, "{}: key {} has signed it already", file.display(), key.id());
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    *all += &key.signature(file, text, now())?;
    Ok(())
}

/// `2 of 2 signatures`, or who may still sign.
fn missing(keys: &Keys, signers: &Signers) -> String {
    let (have, need) = (signers.known.len(), keys.threshold);
    let others: Vec<_> =
        keys.keys.iter().map(|key| id(key)).filter(|id| !signers.known.contains(id)).collect();
    match have >= need {
        true => format!("{have} of {need} signatures by keys of version {}", keys.version),
        false => format!(
            "{have} of {need} signatures by keys of version {}; still to sign: {} of {}",
            keys.version,
            need - have,
            others.join(", ")
        ),
    }
}

/// The newest version and its signatures.
fn state(chain: &Chain) -> Result<String> {
    let (Some(signed), keys) = (chain.0.last(), chain.newest()?) else { bail!("the list is empty") };
    let mut text = format!("version {}: {} of {} keys sign\n", keys.version, keys.threshold, keys.keys.len());
    for key in &keys.keys {
        let _ = writeln!(text, "  {} {key}", id(key)); // a String takes everything
    }
    let before = chain.0.iter().rev().nth(1).map(Signed::parse).transpose()?;
    for by in before.iter().chain([&keys]) {
        let signers = match signed.signatures.trim().is_empty() {
            true => Signers::default(),
            false => by.signers(signed.keys.as_bytes(), &signed.signatures)?,
        };
        let _ = writeln!(text, "it has {}", missing(by, &signers));
    }
    if before.is_none() {
        text += "nodes with releases from before this list also ask for a signature by the key of those releases\n";
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;
    use sheaf_release::trust::{Claim, TrustError, trusted};

    /// Keys of people, as files of minisign, and a list.
    struct Desk {
        dir: tempfile::TempDir,
    }

    impl Desk {
        fn new(names: &[&str]) -> Self {
            let desk = Self { dir: tempfile::tempdir().unwrap() };
            for name in names {
                let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().unwrap();
                fs::write(desk.public(name), pk.to_box().unwrap().into_string()).unwrap();
                fs::write(desk.dir.path().join(name), sk.to_box(None).unwrap().to_string()).unwrap();
            }
            desk
        }

        fn public(&self, name: &str) -> PathBuf {
            self.dir.path().join(format!("{name}.pub"))
        }

        fn id(&self, name: &str) -> String {
            id(&super::public(&self.public(name)).unwrap())
        }

        fn key(&self, name: &str) -> Key {
            Key::of_file(&self.dir.path().join(name), &Given::default()).unwrap()
        }

        fn list(&self) -> PathBuf {
            self.dir.path().join("keys.json")
        }

        fn sign(&self, name: &str) -> Result<String> {
            sign(&self.list(), &self.key(name))
        }
    }

    #[test]
    fn a_list_is_made_signed_and_changed_until_another_key_takes_over() {
        let desk = Desk::new(&["a", "b", "c"]);
        let list = desk.list();
        let made = new(&list, &[desk.public("a"), desk.public("b")], 2).unwrap();
        let ids = |names: [&str; 2]| names.map(|name| desk.id(name)).join(", ");
        assert!(made.starts_with("version 1: 2 of 2 keys sign\n"), "{made}");
        let open = format!(
            "it has 0 of 2 signatures by keys of version 1; still to sign: 2 of {}\n",
            ids(["a", "b"])
        );
        assert!(made.contains(&open), "{made}");
        desk.sign("a").unwrap();
        let signed = desk.sign("b").unwrap();
        assert!(signed.contains("it has 2 of 2 signatures by keys of version 1\n"), "{signed}");
        let added = add(&list, &desk.public("c"), None).unwrap();
        assert!(added.starts_with("version 2: 2 of 3 keys sign\n"), "{added}");
        let removed = remove(&list, &desk.id("a").to_lowercase(), None).unwrap();
        assert!(
            removed.starts_with("version 2: 2 of 2 keys sign\n"),
            "nobody signed version 2 yet: {removed}"
        );
        for name in ["a", "b", "c"] {
            desk.sign(name).unwrap();
        }
        assert_eq!(read(&list).unwrap().complete().unwrap().version, 2);
        let shown = state(&read(&list).unwrap()).unwrap();
        assert!(shown.ends_with(
            "it has 2 of 2 signatures by keys of version 1\nit has 2 of 2 signatures by keys of version 2\n"
        ));
    }

    #[test]
    fn what_would_not_count_or_never_be_met_is_refused() {
        let desk = Desk::new(&["a", "b", "foreign"]);
        let list = desk.list();
        let refused = |result: Result<String>| result.unwrap_err().to_string();
        assert_eq!(refused(new(&list, &[desk.public("a")], 2)), "keys.json: version 1 asks for 2 of 1 keys");
        assert!(!list.exists());
        new(&list, &[desk.public("a")], 1).unwrap();
        assert_eq!(
            refused(new(&list, &[desk.public("b")], 1)),
            format!("{}: is there already; change it: sheaf keys add, sheaf keys remove", list.display())
        );
        assert_eq!(
            refused(remove(&list, "00FF", None)),
            format!("{}: has no key 00FF; it has {}", list.display(), desk.id("a"))
        );
        desk.sign("a").unwrap();
        assert_eq!(
            refused(desk.sign("a")),
            format!("{}: key {} has signed it already", list.display(), desk.id("a"))
        );
        add(&list, &desk.public("b"), None).unwrap();
        assert_eq!(
            refused(desk.sign("foreign")),
            format!(
                "{}: key {} is neither one of version 2 nor one of the version before; its signature would not count",
                list.display(),
                desk.id("foreign")
            )
        );
        assert_eq!(
            refused(add(&list, &desk.dir.path().join("a"), None)),
            format!(
                "{}: is not a minisign public key; give the file that minisign -G -p FILE wrote",
                desk.dir.path().join("a").display()
            )
        );
    }

    #[test]
    fn a_release_is_believed_once_enough_people_signed_it() {
        let desk = Desk::new(&["a", "b"]);
        new(&desk.list(), &[desk.public("a"), desk.public("b")], 2).unwrap();
        desk.sign("a").unwrap();
        desk.sign("b").unwrap();
        let dir = desk.dir.path().join("release");
        fs::create_dir(&dir).unwrap();
        fs::copy(desk.list(), dir.join(KEYS)).unwrap();
        let plain = serde_json::json!({"file": "", "size": 0, "sha256": ""});
        let image = serde_json::json!({"file": "", "size": 0, "raw_size": 0, "raw_sha256": "", "frames": []});
        let section = serde_json::json!({"offset": 0, "size": 0});
        let uki = serde_json::json!({
            "file": "", "size": 0, "sha256": "", "linux": section, "initrd": section, "command_line": ""
        });
        let manifest = serde_json::json!({
            "format": 1, "name": "sheaf", "version": "0.2.0", "kernel": "", "arch": "amd64", "created": 0,
            "root": image, "verity": image, "root_hash": "", "root_uuid": "", "verity_uuid": "", "node_uki": uki,
            "boot_loader": plain, "bios": {"boot": plain, "core": plain, "menu": plain}, "installer_uki": uki
        });
        let text = serde_json::to_vec(&manifest).unwrap();
        fs::write(dir.join(FILE), &text).unwrap();
        fs::write(dir.join(SIGNATURE), desk.key("a").signature(&dir.join(FILE), &text, 7).unwrap()).unwrap();
        let list = fs::read(desk.list()).unwrap();
        let keys = read(&desk.list()).unwrap().newest().unwrap();
        let judged = || {
            let signatures = fs::read(dir.join(SIGNATURE)).unwrap();
            let claim = Claim { manifest: &text, signatures: &signatures, keys: Some(&list) };
            trusted(claim, &keys, "node").map(|manifest| manifest.version)
        };
        assert!(matches!(judged(), Err(TrustError::Threshold { have: 1, need: 2, .. })));
        let said = sign(&dir, &desk.key("b")).unwrap();
        assert_eq!(said, "sheaf 0.2.0: 2 of 2 signatures by keys of version 1\n");
        assert_eq!(judged().unwrap(), "0.2.0");
        assert!(sign(&dir, &desk.key("b")).unwrap_err().to_string().contains("has signed it already"));
    }
}
