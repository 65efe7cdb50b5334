//! Stage-less: the key a release is signed with, and the signature of its manifest.
//!
//! Route in: the recipe's key file, or none. Route out: [`Key`], whose public half goes into the installer's
//! initrd and beside the release.

use crate::error::BuildError;
use crate::stage::BuildContext;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};
use sheaf_host::file::write_atomically;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A minisign key pair.
pub struct Key {
    secret: SecretKey,
    /// The public half, as the file `release.pub` holds it.
    pub public: String,
    /// Its file, when it is the one of the cache.
    pub throw_away: Option<PathBuf>,
}

impl Key {
    /// The recipe's key, or one that is made once and kept in the cache: fit for trying, not for shipping.
    pub fn of(context: &BuildContext<'_>, recipe_key: Option<&Path>) -> Result<Self, BuildError> {
        if let Some(path) = recipe_key {
            return Self::read(path);
        }
        let path = context.cache.join("throw-away.key");
        if !path.exists() {
            let pair = KeyPair::generate_unencrypted_keypair().map_err(|error| unfit(&path, &error))?;
            let text = pair.sk.to_box(Some("Sheaf throw-away key")).map_err(|error| unfit(&path, &error))?;
            let write = write_atomically(&path, text.to_string().as_bytes(), 0o600);
            write.map_err(|error| BuildError::io(&path)(std::io::Error::other(error)))?;
        }
        Ok(Self { throw_away: Some(path.clone()), ..Self::read(&path)? })
    }

    fn read(path: &Path) -> Result<Self, BuildError> {
        let text = fs::read_to_string(path).map_err(BuildError::io(path))?;
        let secret = SecretKeyBox::from_string(&text)
            .and_then(SecretKeyBox::into_unencrypted_secret_key)
            .map_err(|error| unfit(path, &error))?;
        let public = PublicKey::from_secret_key(&secret).and_then(|public| public.to_box());
        let public = public.map_err(|error| unfit(path, &error))?.into_string();
        Ok(Self { secret, public, throw_away: None })
    }

    /// The minisign signature of `contents`, which the file `name` holds.
    pub fn sign(&self, name: &str, contents: &[u8], epoch: u64) -> Result<String, BuildError> {
        let comment = format!("timestamp:{epoch}\tfile:{name}");
        let signature =
            minisign::sign(None, &self.secret, Cursor::new(contents), Some(&comment), Some("Sheaf release"));
        let signature = signature.map_err(|error| unfit(Path::new(name), &error))?;
        Ok(signature.into_string())
    }
}

fn unfit(path: &Path, error: &minisign::PError) -> BuildError {
    let what = format!(
        "{} is not a minisign secret key that can be used without a password: {error}",
        path.display()
    );
    BuildError::wrong(what, "make one: minisign -G -W -s FILE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use sheaf_host::chroot::Privilege;
    use sheaf_host::fakes::FakeRun;

    #[test]
    fn a_throw_away_key_is_made_once_and_its_signatures_verify() {
        let dir = tempfile::tempdir().unwrap();
        let context = BuildContext {
            run: &FakeRun::default(),
            progress: &Silent,
            privilege: Privilege::Root,
            cache: dir.path().to_owned(),
            target: dir.path().to_owned(),
        };
        let (first, second) = (Key::of(&context, None).unwrap(), Key::of(&context, None).unwrap());
        assert_eq!(first.public, second.public);
        assert_eq!(
            second.throw_away,
            Some(dir.path().join("throw-away.key")),
            "it is told from a recipe's key"
        );
        let signature = first.sign("manifest.json", b"{}", 7).unwrap();
        let public = minisign_verify::PublicKey::decode(&first.public).unwrap();
        let signature = minisign_verify::Signature::decode(&signature).unwrap();
        assert!(public.verify(b"{}", &signature, false).is_ok());
        assert!(public.verify(b"{ }", &signature, false).is_err());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_with_the_command_that_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "not a key\n").unwrap();
        let error = Key::read(&path).err().unwrap().to_string();
        assert!(error.contains("minisign -G -W -s FILE"), "{error}");
    }
}
