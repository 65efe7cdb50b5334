//! Stage-less: the key a release is signed with, and the signature of its manifest.
//!
//! A key is a minisign file with or without passphrase, the same in an environment variable, or a program that signs, such
//! as one that speaks to an HSM. Route in: the recipe, and what the environment gives. Route out: [`Key`], whose public half
//! goes into the installer's initrd and beside the release.

use crate::error::BuildError;
use crate::stage::{BuildContext, StageDir};
use minisign::{KeyPair, PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};
use sheaf_config::recipe::Signing;
use sheaf_host::file::write_atomically;
use sheaf_host::run::Command;
use sheaf_release::keys::{self, Chain};
use std::fs;
use std::io::{Cursor, IsTerminal};
use std::path::{Path, PathBuf};

/// Holds a secret key itself, for CI; it is used instead of the recipe's.
pub const KEY_VARIABLE: &str = "SHEAF_SIGNING_KEY";
/// Holds the passphrase of the secret key.
pub const PASSPHRASE_VARIABLE: &str = "SHEAF_SIGNING_PASSPHRASE";

/// What the environment gives.
#[derive(Clone, Default)]
pub struct Given {
    /// Of [`KEY_VARIABLE`].
    pub key: Option<String>,
    /// Of [`PASSPHRASE_VARIABLE`].
    pub passphrase: Option<String>,
}

/// What signs a release.
pub struct Key {
    signer: Signer,
    /// The public half, as the file `release.pub` holds it.
    pub public: String,
    /// `keys.json` of the release, when the recipe names one.
    pub keys: Option<String>,
    /// Its file, when it is the one of the cache.
    pub throw_away: Option<PathBuf>,
}

enum Signer {
    Secret(SecretKey),
    Command(Vec<String>),
}

impl Key {
    /// The key of the environment, else the recipe's, else one that is made once and kept in the cache: fit for trying, not
    /// for shipping.
    pub fn of(
        context: &BuildContext<'_>,
        wanted: Option<&Signing>,
        given: &Given,
    ) -> Result<Self, BuildError> {
        if let Some(text) = &given.key {
            return Self::secret(Path::new(KEY_VARIABLE), text, given);
        }
        match wanted {
            Some(Signing::Key(path)) => {
                Self::secret(path, &fs::read_to_string(path).map_err(BuildError::io(path))?, given)
            }
            Some(Signing::Command { command, public_key }) => {
                let public = fs::read_to_string(public_key).map_err(BuildError::io(public_key))?;
                public_of(public_key, &public)?;
                Ok(Self { signer: Signer::Command(command.clone()), public, keys: None, throw_away: None })
            }
            None => Self::throw_away(context),
        }
    }

    fn throw_away(context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let path = context.cache.join("throw-away.key");
        if !path.exists() {
            let pair = KeyPair::generate_unencrypted_keypair().map_err(|error| unfit(&path, &error))?;
            let text = pair.sk.to_box(Some("Sheaf throw-away key")).map_err(|error| unfit(&path, &error))?;
            let write = write_atomically(&path, text.to_string().as_bytes(), 0o600);
            write.map_err(|error| BuildError::io(&path)(std::io::Error::other(error)))?;
        }
        let text = fs::read_to_string(&path).map_err(BuildError::io(&path))?;
        Ok(Self { throw_away: Some(path.clone()), ..Self::secret(&path, &text, &Given::default())? })
    }

    /// The secret key in `text`, which `name` holds. A passphrase that is not given is asked for on a terminal.
    fn secret(name: &Path, text: &str, given: &Given) -> Result<Self, BuildError> {
        let boxed = || SecretKeyBox::from_string(text).map_err(|error| unfit(name, &error));
        let secret = match (boxed()?.into_unencrypted_secret_key(), &given.passphrase) {
            (Ok(secret), _) => secret,
            (Err(error), None) if !std::io::stdin().is_terminal() => return Err(unfit(name, &error)),
            (Err(_), passphrase) => {
                boxed()?.into_secret_key(passphrase.clone()).map_err(|error| unfit(name, &error))?
            }
        };
        let public = PublicKey::from_secret_key(&secret).and_then(|public| public.to_box());
        let public = public.map_err(|error| unfit(name, &error))?.into_string();
        Ok(Self { signer: Signer::Secret(secret), public, keys: None, throw_away: None })
    }

    /// The secret key in the file at `path`.
    pub fn of_file(path: &Path, given: &Given) -> Result<Self, BuildError> {
        Self::secret(path, &fs::read_to_string(path).map_err(BuildError::io(path))?, given)
    }

    /// Its ID, as minisign prints it.
    pub fn id(&self) -> String {
        keys::id(self.public.lines().nth(1).unwrap_or_default())
    }

    /// It, for a release that brings the list of keys at `path`; it must be one of them, and the list must be complete.
    pub fn with_keys(self, path: Option<&Path>) -> Result<Self, BuildError> {
        let Some(path) = path else { return Ok(self) };
        let text = fs::read_to_string(path).map_err(BuildError::io(path))?;
        let sign = format!("sign it: sheaf keys sign {} --key FILE", path.display());
        let keys = Chain::parse(text.as_bytes()).and_then(|chain| chain.complete());
        let keys = keys.map_err(|error| BuildError::wrong(format!("{}: {error}", path.display()), sign))?;
        let id = self.id();
        if !keys.keys.iter().any(|key| keys::id(key) == id) {
            let what = format!(
                "{}: version {} has no key {id}, which signs this release",
                path.display(),
                keys.version
            );
            let remedy = format!(
                "sign with one of its keys ([release] signing-key), or add this one: sheaf keys add {}",
                path.display()
            );
            return Err(BuildError::wrong(what, remedy));
        }
        Ok(Self { keys: Some(text), ..self })
    }

    /// The minisign signature of `contents`, which `file` holds.
    pub fn sign(
        &self,
        stage: &StageDir<'_>,
        file: &Path,
        contents: &[u8],
        epoch: u64,
    ) -> Result<String, BuildError> {
        match &self.signer {
            Signer::Command(words) => self.sign_by(words, stage, file, contents),
            Signer::Secret(secret) => Self::sign_with(secret, file, contents, epoch),
        }
    }

    /// The same without a stage, for keys that are files.
    pub fn signature(&self, file: &Path, contents: &[u8], epoch: u64) -> Result<String, BuildError> {
        match &self.signer {
            Signer::Secret(secret) => Self::sign_with(secret, file, contents, epoch),
            Signer::Command(_) => Err(BuildError::wrong(
                "a signing-command signs only what it builds",
                "give a key: --key FILE",
            )),
        }
    }

    fn sign_with(secret: &SecretKey, file: &Path, contents: &[u8], epoch: u64) -> Result<String, BuildError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let comment = format!("timestamp:{epoch}\tfile:{name}");
        let signature =
            minisign::sign(None, secret, Cursor::new(contents), Some(&comment), Some("Sheaf release"));
        Ok(signature.map_err(|error| unfit(file, &error))?.into_string())
    }

    /// Lets a program sign, and refuses what the public key does not verify.
    fn sign_by(
        &self,
        words: &[String],
        stage: &StageDir<'_>,
        file: &Path,
        contents: &[u8],
    ) -> Result<String, BuildError> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(BuildError::wrong("signing-command has no program", "write one in the recipe"));
        };
        stage.run(&Command::new(program).args(arguments).arg(file))?;
        let path = PathBuf::from(format!("{}.minisig", file.display()));
        let text = fs::read_to_string(&path).map_err(|error| {
            let what = format!("{program} wrote no signature to {}: {error}", path.display());
            BuildError::wrong(what, "let it write FILE.minisig, as `minisign -S -m FILE` does")
        })?;
        let verify = SignatureBox::from_string(&text).and_then(|signature| {
            let public = PublicKeyBox::from_string(&self.public)?.into_public_key()?;
            minisign::verify(&public, &signature, Cursor::new(contents), true, false, false)
        });
        match verify {
            Ok(()) => Ok(text),
            Err(error) => Err(BuildError::wrong(
                format!("the signature of {program} does not verify by the recipe's public-key: {error}"),
                "name the public key of the key it signs with",
            )),
        }
    }
}

/// Checks that `text`, of the file at `path`, is a public key.
fn public_of(path: &Path, text: &str) -> Result<(), BuildError> {
    match PublicKeyBox::from_string(text).and_then(PublicKeyBox::into_public_key) {
        Ok(_) => Ok(()),
        Err(error) => Err(BuildError::wrong(
            format!("{} is not a minisign public key: {error}", path.display()),
            "give the file that minisign -G -p FILE wrote",
        )),
    }
}

fn unfit(name: &Path, error: &minisign::PError) -> BuildError {
    let what = format!("{} cannot be used as a minisign secret key: {error}", name.display());
    let remedy = format!("make one: minisign -G -s FILE; give its passphrase in {PASSPHRASE_VARIABLE}");
    BuildError::wrong(what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Inputs;
    use crate::progress::Silent;
    use crate::stage::Spec;
    use sheaf_host::chroot::Privilege;
    use sheaf_host::run::System;

    fn with<T>(act: impl FnOnce(&BuildContext<'_>, &Path) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let context = BuildContext {
            run: &System,
            progress: &Silent,
            privilege: Privilege::Root,
            cache: dir.path().join("cache"),
            target: dir.path().join("target"),
        };
        fs::create_dir(&context.cache).unwrap();
        act(&context, dir.path())
    }

    /// Signs `{}` in a stage.
    fn sign(context: &BuildContext<'_>, key: &Key) -> Result<String, String> {
        let spec = Spec { name: "release", inputs: Inputs::new("release", 1), output_digest_files: &[] };
        let mut signature = String::new();
        let made = context.stage(spec, |stage| {
            let file = stage.out.join("manifest.json");
            fs::write(&file, "{}").unwrap();
            signature = key.sign(stage, &file, b"{}", 7)?;
            Ok(())
        });
        made.map(|_| signature).map_err(|error| std::error::Error::source(&error).unwrap().to_string())
    }

    fn verifies(key: &Key, signature: &str) -> bool {
        let public = minisign_verify::PublicKey::decode(&key.public).unwrap();
        let signature = minisign_verify::Signature::decode(signature).unwrap();
        public.verify(b"{}", &signature, false).is_ok() && public.verify(b"{ }", &signature, false).is_err()
    }

    #[test]
    fn a_throw_away_key_is_made_once_and_its_signatures_verify() {
        with(|context, dir| {
            let key = || Key::of(context, None, &Given::default()).unwrap();
            let (first, second) = (key(), key());
            assert_eq!(first.public, second.public);
            let file = Some(dir.join("cache/throw-away.key"));
            assert_eq!(second.throw_away, file, "it is told from a recipe's key");
            assert!(verifies(&first, &sign(context, &first).unwrap()));
        });
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_with_the_command_that_makes_one() {
        with(|context, dir| {
            let path = dir.join("key");
            fs::write(&path, "not a key\n").unwrap();
            let error =
                Key::of(context, Some(&Signing::Key(path)), &Given::default()).err().unwrap().to_string();
            assert!(error.contains("minisign -G -s FILE"), "{error}");
        });
    }

    #[test]
    fn a_key_of_the_environment_is_used_with_its_passphrase_and_before_the_recipes() {
        with(|context, dir| {
            let pair = KeyPair::generate_encrypted_keypair(Some("open".into())).unwrap();
            let text = pair.sk.to_box(None).unwrap().to_string();
            let given =
                |passphrase: &str| Given { key: Some(text.clone()), passphrase: Some(passphrase.into()) };
            let recipe = Signing::Key(dir.join("nowhere"));
            let key = Key::of(context, Some(&recipe), &given("open")).unwrap();
            assert_eq!((key.public.lines().last(), &key.throw_away), (Some(&*pair.pk.to_base64()), &None));
            assert!(verifies(&key, &sign(context, &key).unwrap()));
            let error = Key::of(context, Some(&recipe), &given("closed")).err().unwrap().to_string();
            assert!(error.starts_with("SHEAF_SIGNING_KEY cannot be used"), "{error}");
            assert!(error.contains(PASSPHRASE_VARIABLE) && !error.contains("closed"), "{error}");
        });
    }

    #[test]
    fn a_release_brings_the_keys_of_its_recipe_if_they_are_complete_and_its_own_is_among_them() {
        with(|context, dir| {
            let key = || Key::of(context, None, &Given::default()).unwrap();
            let line = |key: &Key| key.public.lines().nth(1).unwrap().to_owned();
            let path = dir.join("keys.json");
            let refused = |key: Key| key.with_keys(Some(&path)).err().unwrap().to_string();
            let mut chain = Chain::default();
            let list =
                |keys: Vec<String>| keys::Keys { format: keys::FORMAT, version: 1, threshold: 1, keys };
            chain.push(list(vec![line(&key())])).unwrap();
            let write = |chain: &Chain| fs::write(&path, serde_json::to_vec(chain).unwrap()).unwrap();
            write(&chain);
            assert_eq!(
                refused(key()),
                format!(
                    "{0}: keys.json: version 1 has 0 of 1 signatures by the keys of version 1; sign it: sheaf keys sign {0} \
                     --key FILE",
                    path.display()
                )
            );
            chain.0[0].signatures = key().signature(&path, chain.0[0].keys.as_bytes(), 7).unwrap();
            write(&chain);
            let with = key().with_keys(Some(&path)).unwrap();
            assert_eq!(with.keys, Some(fs::read_to_string(&path).unwrap()));
            let text = KeyPair::generate_unencrypted_keypair().unwrap().sk.to_box(None).unwrap().to_string();
            let other =
                || Key::of(context, None, &Given { key: Some(text.clone()), passphrase: None }).unwrap();
            let id = other().id();
            assert_eq!(
                refused(other()),
                format!(
                    "{0}: version 1 has no key {id}, which signs this release; sign with one of its keys ([release] \
                     signing-key), or add this one: sheaf keys add {0}",
                    path.display()
                )
            );
            assert!(key().with_keys(None).unwrap().keys.is_none());
        });
    }

    #[test]
    fn a_program_signs_and_a_signature_of_another_key_is_refused() {
        with(|context, dir| {
            let throw_away = Key::of(context, None, &Given::default()).unwrap();
            let ready = dir.join("ready.minisig");
            fs::write(&ready, sign(context, &throw_away).unwrap()).unwrap();
            let by = |public: &str, script: &str| {
                let public_key = dir.join("public");
                fs::write(&public_key, public).unwrap();
                let command = ["sh", "-c", script, &ready.to_string_lossy()].map(str::to_owned).to_vec();
                let key =
                    Key::of(context, Some(&Signing::Command { command, public_key }), &Given::default());
                context.remove(&context.cache.join("release")).unwrap();
                let key = key.unwrap();
                sign(context, &key).map(|signature| verifies(&key, &signature))
            };
            let copy = "cp \"$0\" \"$1.minisig\"";
            assert_eq!(by(&throw_away.public, copy), Ok(true));
            let other = KeyPair::generate_unencrypted_keypair().unwrap().pk.to_box().unwrap().into_string();
            assert!(by(&other, copy).unwrap_err().contains("does not verify by the recipe's public-key"));
            assert!(by(&throw_away.public, "true").unwrap_err().contains("let it write FILE.minisig"));
        });
    }
}
