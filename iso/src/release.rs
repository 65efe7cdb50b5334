//! A release folder that was read to its last byte.
//!
//! Why: a medium is carried to machines; a damaged file shall be found here, not there. Signatures are checked by
//! the keys that lie beside the release, which are those in the installer's initrd.
//! Route in: a folder made by `sheaf build`. Route out: [`Release`], or the file that is wrong.

use sha2::{Digest, Sha256};
use sheaf_config::manifest::{self, Bios, Compressed, Manifest};
use sheaf_release::keys::{Keys, KeysError};
use sheaf_release::trust::{Claim, TrustError, trusted};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A release whose every file is what its manifest says.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its folder.
    pub dir: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// Whether it brings `keys.json`.
    pub has_keys: bool,
}

/// Why a folder is no release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file cannot be read.
    #[error("{}: cannot be read; is this a folder made by `sheaf build`?", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}; build the release again", .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Its keys cannot be read.
    #[error("{0}; build the release again")]
    Keys(#[from] KeysError),
    /// Its own keys did not sign it.
    #[error("{}: {source}; {}", .dir.display(), remedy(.source, .dir))]
    Trust {
        /// Its folder.
        dir: PathBuf,
        /// Why not.
        source: TrustError,
    },
}

fn remedy(error: &TrustError, dir: &Path) -> String {
    match error {
        TrustError::Threshold { .. } => {
            format!("let another one sign it: sheaf keys sign {} --key FILE", dir.display())
        }
        _ => "build the release again".into(),
    }
}

/// The list of keys in the release folder `dir`, when it has one.
fn keys(dir: &Path) -> Result<Option<Vec<u8>>, ReleaseError> {
    match read(&dir.join(manifest::KEYS)) {
        Err(ReleaseError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

impl Release {
    /// Reads and checks the release in `dir`.
    pub fn open(dir: &Path) -> Result<Self, ReleaseError> {
        let [text, signatures] = [manifest::FILE, manifest::SIGNATURE].map(|file| read(&dir.join(file)));
        let (text, signatures) = (text?, signatures?);
        let keys = keys(dir)?;
        let claim = Claim { manifest: &text, signatures: &signatures, keys: keys.as_deref() };
        let trusted_keys = Keys::trusted_at(&dir.join(manifest::PUBLIC_KEY))?;
        let manifest = trusted(claim, &trusted_keys, "release")
            .map_err(|source| ReleaseError::Trust { dir: dir.to_owned(), source })?;
        let Bios { boot, core, menu } = &manifest.bios;
        let ukis = [manifest.node_uki.plain(), manifest.installer_uki.plain()];
        for plain in [&ukis[0], &ukis[1], &manifest.boot_loader, boot, core, menu] {
            check_whole(&dir.join(&plain.file), plain.size, &plain.sha256)?;
        }
        for plain in &manifest.documents {
            check_whole(&dir.join(&plain.file), plain.size, &plain.sha256)?;
        }
        for compressed in [&manifest.root, &manifest.verity] {
            check_frames(&dir.join(&compressed.file), compressed)?;
        }
        Ok(Self { dir: dir.to_owned(), manifest, has_keys: keys.is_some() })
    }

    /// `sheaf-0.1.0`
    pub fn title(&self) -> String {
        format!("{}-{}", self.manifest.name, self.manifest.version)
    }

    /// Files that the installer needs on the medium. Its own UKI is among them, although the medium starts from it: it cannot
    /// be read there by its name, and the disk gets it as the recovery.
    pub fn payload(&self) -> Vec<&str> {
        let Manifest { root, verity, node_uki, installer_uki, boot_loader, bios, .. } = &self.manifest;
        let bios = [&bios.boot, &bios.core, &bios.menu].map(|plain| plain.file.as_str());
        let mut files = vec![
            manifest::FILE,
            manifest::SIGNATURE,
            &root.file,
            &verity.file,
            &node_uki.file,
            &installer_uki.file,
            &boot_loader.file,
        ];
        files.extend(bios);
        files.extend(self.has_keys.then_some(manifest::KEYS));
        files
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ReleaseError> {
    fs::read(path).map_err(|source| ReleaseError::Read { path: path.to_owned(), source })
}

/// A file that has one hash.
fn check_whole(path: &Path, size: u64, sha256: &str) -> Result<(), ReleaseError> {
    let bytes = read(path)?;
    check_size(path, bytes.len() as u64, size)?;
    match hex(&bytes) == sha256 {
        true => Ok(()),
        false => {
            Err(ReleaseError::Wrong { path: path.to_owned(), what: "is damaged (SHA-256 differs)".into() })
        }
    }
}

/// A file of frames, each with its hash.
fn check_frames(path: &Path, expected: &Compressed) -> Result<(), ReleaseError> {
    let fail = |source| ReleaseError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    check_size(path, file.metadata().map_err(fail)?.len(), expected.size)?;
    let mut offset = 0;
    for frame in &expected.frames {
        let mut bytes = Vec::new();
        file.by_ref().take(frame.size).read_to_end(&mut bytes).map_err(fail)?;
        if hex(&bytes) != frame.sha256 {
            let what =
                format!("is damaged between bytes {offset} and {} (SHA-256 differs)", offset + frame.size);
            return Err(ReleaseError::Wrong { path: path.to_owned(), what });
        }
        offset += frame.size;
    }
    check_size(path, expected.size, offset)
}

fn check_size(path: &Path, is: u64, expected: u64) -> Result<(), ReleaseError> {
    if is == expected {
        return Ok(());
    }
    let what = format!("has {is} bytes, the manifest says {expected}");
    Err(ReleaseError::Wrong { path: path.to_owned(), what })
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use minisign::KeyPair;
    use sheaf_config::manifest::{Frame, Plain, Section, Uki};

    /// A small release, signed as `sheaf build` does.
    pub(crate) fn release(dir: &Path) -> Release {
        let plain = |file: &str, bytes: &[u8]| {
            fs::write(dir.join(file), bytes).unwrap();
            Plain { file: file.into(), size: bytes.len() as u64, sha256: hex(bytes) }
        };
        let uki = |file: &str, bytes: &[u8]| {
            let Plain { file, size, sha256 } = plain(file, bytes);
            let (linux, initrd) = (Section { offset: 512, size: 1000 }, Section { offset: 2048, size: 512 });
            Uki { file, size, sha256, linux, initrd, command_line: "quiet".into() }
        };
        let compressed = |file: &str, frames: &[&[u8]]| {
            fs::write(dir.join(file), frames.concat()).unwrap();
            let frame =
                |bytes: &&[u8]| Frame { size: bytes.len() as u64, raw_size: 4096, sha256: hex(bytes) };
            let frames: Vec<Frame> = frames.iter().map(frame).collect();
            let size = frames.iter().map(|frame| frame.size).sum();
            Compressed { file: file.into(), size, raw_size: 8192, raw_sha256: hex(b"raw"), frames }
        };
        let manifest = Manifest {
            format: manifest::FORMAT,
            name: "sheaf".into(),
            version: "0.1.0".into(),
            kernel: "6.12.57+deb13-amd64".into(),
            arch: "amd64".into(),
            created: 1_767_225_600,
            terms: Default::default(),
            root: compressed("root.erofs.zst", &[b"first frame", b"second frame"]),
            verity: compressed("root.verity.zst", &[b"hash tree"]),
            root_hash: hex(b"root"),
            root_uuid: "0b0e0c0a-0000-8000-8000-000000000001".into(),
            verity_uuid: "0b0e0c0a-0000-8000-8000-000000000002".into(),
            node_uki: uki("node.efi", b"node"),
            boot_loader: plain("systemd-bootx64.efi", b"loader"),
            bios: Bios {
                boot: plain("boot.img", b"boot"),
                core: plain("core.img", b"core"),
                menu: plain("grub.cfg", b"menu"),
            },
            installer_uki: uki("installer.efi", b"installer"),
            documents: vec![plain("sbom.spdx.json", b"{}")],
        };
        let text = serde_json::to_vec_pretty(&manifest).unwrap();
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = minisign::sign(None, &keys.sk, io::Cursor::new(&text), None, None).unwrap();
        fs::write(dir.join(manifest::FILE), text).unwrap();
        fs::write(dir.join(manifest::SIGNATURE), signature.into_string()).unwrap();
        fs::write(dir.join(manifest::PUBLIC_KEY), keys.pk.to_box().unwrap().into_string()).unwrap();
        Release { dir: dir.to_owned(), manifest, has_keys: false }
    }

    fn flip(path: &Path, byte: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[byte] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn an_untouched_release_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let made = release(dir.path());
        assert_eq!(Release::open(dir.path()).unwrap().manifest, made.manifest);
    }

    #[test]
    fn a_flipped_byte_of_the_payload_is_found_and_its_place_named() {
        let dir = tempfile::tempdir().unwrap();
        release(dir.path());
        flip(&dir.path().join("root.erofs.zst"), 12);
        let error = Release::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("root.erofs.zst: is damaged between bytes 11 and 23 (SHA-256 differs); build the release again"),
            "{error}"
        );
    }

    #[test]
    fn a_flipped_byte_of_the_bill_of_materials_is_found() {
        let dir = tempfile::tempdir().unwrap();
        release(dir.path());
        flip(&dir.path().join("sbom.spdx.json"), 0);
        let error = Release::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("sbom.spdx.json: is damaged"), "{error}");
    }

    #[test]
    fn a_flipped_byte_of_a_uki_is_found() {
        let dir = tempfile::tempdir().unwrap();
        release(dir.path());
        flip(&dir.path().join("node.efi"), 0);
        let error = Release::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("node.efi: is damaged (SHA-256 differs); build the release again"),
            "{error}"
        );
    }

    #[test]
    fn a_changed_manifest_does_not_verify() {
        let dir = tempfile::tempdir().unwrap();
        release(dir.path());
        let path = dir.path().join(manifest::FILE);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("0.1.0", "9.9.9")).unwrap();
        let error = Release::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("manifest.json does not verify with this release's key (the signature is not of"),
            "{error}"
        );
    }

    #[test]
    fn a_truncated_payload_is_named_with_both_lengths() {
        let dir = tempfile::tempdir().unwrap();
        release(dir.path());
        fs::write(dir.path().join("root.verity.zst"), b"hash").unwrap();
        let error = Release::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("root.verity.zst: has 4 bytes, the manifest says 9"), "{error}");
    }
}
