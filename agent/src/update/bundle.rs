//! A release at its source, judged before any slot is written: signature, fitness, first frames, the UKI.
//!
//! Why here: an attacker who can answer in the server's place may send anything; what the keys of the running release did not sign
//! goes no further than this. Route in: a folder or a server, the keys in the node's own root. Route out: manifest,
//! signatures, keys and UKI in the updater's folder; or which file is wrong, with nothing written to a slot.

use super::artifact::ArtifactError;
use super::drive::DriveError;
use super::loaders::File;
use super::observed::{Observed, Wanted};
use super::plan::{Unfit, judge};
use super::records::{Fetched, Place, Records, Seen};
use sha2::{Digest as _, Sha256};
use sheaf_config::manifest::{FILE, KEYS, Manifest, Plain, SIGNATURE};
use sheaf_host::file::WriteError;
use sheaf_host::files::{self, CopyError, unless_missing};
use sheaf_release::image::{self, ImageError};
use sheaf_release::keys::{Keys, KeysError};
use sheaf_release::origin::Origin;
use sheaf_release::remote::is_page;
use sheaf_release::trust::{Claim, TrustError, trusted};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Whose key it is that is trusted.
const VERIFIER: &str = "node";
/// The UKI in the updater's folder, whatever the release calls it.
const UKI: &str = "node.efi";
/// Permission bits of the UKI there.
const MODE: u32 = 0o600;
/// Bytes of one read.
const READ: usize = 1 << 20;

/// Why a release is not fetched.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The node has no key.
    #[error("no release can be verified: {0}; this node's image was not built by `sheaf build`")]
    Key(KeysError),
    /// A file cannot be fetched.
    #[error("{from}/{file} cannot be fetched; check the server, its log and the network to it")]
    Fetch {
        /// The folder.
        from: Place,
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of a drive cannot be read.
    #[error(
        "{from}: {file} cannot be read; copy the whole folder of one release to it again, or take another drive"
    )]
    Read {
        /// The drive.
        from: Place,
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A page is in its place.
    #[error(
        "{from}/{FILE} is a web page: the folder has another URL, or a proxy answers in the server's place"
    )]
    Page {
        /// The folder.
        from: Place,
    },
    /// It is not to be believed.
    #[error("{from}: {why}; take a release that is signed with the keys of the one that runs")]
    Trust {
        /// The folder.
        from: Place,
        /// Why not.
        why: TrustError,
    },
    /// There is no such artifact.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// There is no such drive.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// It is not for this node.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// An image is not what the manifest says.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The UKI is not what the manifest says.
    #[error(
        "{file} does not match the manifest: {what}; copy the whole folder of one release to the server again"
    )]
    Uki {
        /// Its name.
        file: String,
        /// What differs.
        what: String,
    },
    /// It cannot be kept.
    #[error("the release cannot be kept on the state partition")]
    Keep(#[from] WriteError),
    /// Nor this.
    #[error("{}: cannot be kept on the state partition", .path.display())]
    KeepUki {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl BundleError {
    /// Whether the release itself is refused, rather than out of reach.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Trust { .. } | Self::Uki { .. } | Self::Image(ImageError::Differs { .. }))
            || matches!(self, Self::Unfit(unfit) if !unfit.is_temporary())
    }
}

/// Fetches and judges the release of `origin`, which is `from`, and keeps it for the request of `wanted`. `key` is the
/// `release.pub` of the running root.
pub fn fetch(
    (origin, from): (&Origin<'_>, &Place),
    key: &Path,
    wanted: &Wanted,
    observed: &Observed,
    records: &Records,
) -> anyhow::Result<Manifest> {
    let trusted_keys = Keys::trusted_at(key).map_err(BundleError::Key)?;
    let unreadable = |file: &str, source| {
        let (from, file) = (from.clone(), file.to_owned());
        match origin.is_remote() {
            true => BundleError::Fetch { from, file, source },
            false => BundleError::Read { from, file, source },
        }
    };
    let text = |file: &str| origin.text(file).map_err(|source| unreadable(file, source));
    let bytes = text(FILE)?;
    if is_page(&bytes) {
        return Err(BundleError::Page { from: from.clone() }.into());
    }
    let signature = text(SIGNATURE)?;
    let keys = origin.optional_text(KEYS).map_err(|source| unreadable(KEYS, source))?;
    let claim = Claim { manifest: &bytes, signatures: &signature, keys: keys.as_deref() };
    let manifest = trusted(claim, &trusted_keys, VERIFIER)
        .map_err(|why| BundleError::Trust { from: from.clone(), why })?;
    judge(&manifest, wanted, observed).map_err(BundleError::from)?;
    for image in [&manifest.root, &manifest.verity] {
        image::check(origin, &image.into(), &|_| ()).map_err(BundleError::from)?;
    }
    records.forget_release()?;
    let folder = records.release();
    let keep = |source| BundleError::KeepUki { path: folder.clone(), source };
    records.files().create_folders(&folder).map_err(keep)?;
    bring(origin, records, &manifest.node_uki.plain(), UKI, &unreadable)?;
    for file in File::ALL.into_iter().filter(|file| !observed.esp.files.is_of(*file, &manifest)) {
        let brought = bring(origin, records, &file.of(&manifest), file.kept(), &unreadable);
        match brought {
            // Media that were made for older installers have no recovery: it stays as it is.
            Err(BundleError::Fetch { source, .. } | BundleError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                tracing::warn!("{from} has no {file}; that of the disk stays as it is");
                let path = folder.join(file.kept());
                unless_missing(records.files().remove(&path)).map_err(keep)?;
            }
            brought => brought?,
        }
    }
    records.put(&folder.join(FILE), &bytes).map_err(BundleError::from)?;
    records.put(&folder.join(SIGNATURE), &signature).map_err(BundleError::from)?;
    if let Some(keys) = &keys {
        records.put(&folder.join(KEYS), keys).map_err(BundleError::from)?;
    }
    records.set_seen(&Seen::of(&manifest))?;
    records.set_fetched(&Fetched { request: wanted.request.clone(), staged: false })?;
    Ok(manifest)
}

/// Fetches the file `plain` of a release to the updater's folder, as `name`, and compares it with the manifest.
fn bring(
    origin: &Origin<'_>,
    records: &Records,
    plain: &Plain,
    name: &str,
    unreadable: &dyn Fn(&str, io::Error) -> BundleError,
) -> Result<(), BundleError> {
    let path = records.release().join(name);
    let files = records.files();
    let keep = |source| BundleError::KeepUki { path: path.clone(), source };
    let unlike = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => BundleError::Uki { file: plain.file.clone(), what: source.to_string() },
        _ => unreadable(&plain.file, source),
    };
    let mut source = origin.open(&plain.file, plain.size, 0).map_err(unlike)?;
    let file = files.create(&path, MODE).map_err(keep)?;
    files::copy(files, &path, &file, &mut *source).map_err(|error| match error {
        CopyError::Read(source) => unlike(source),
        CopyError::Write(source) => keep(source),
    })?;
    files.sync(&path, &file).map_err(keep)?;
    let mut written = fs::File::open(&path).map_err(keep)?;
    match hash(&mut written).map_err(keep)? == plain.sha256.to_lowercase() {
        true => Ok(()),
        false => {
            let what = "it has another SHA-256".into();
            Err(BundleError::Uki { file: plain.file.clone(), what })
        }
    }
}

/// The release that is kept, if its signatures verify.
pub fn kept(records: &Records, key: &Path) -> Option<(Manifest, Fetched)> {
    let fetched = records.fetched()?;
    let read = |file: &str| fs::read(records.release().join(file)).ok();
    let (manifest, signatures, keys) = (read(FILE)?, read(SIGNATURE)?, read(KEYS));
    let claim = Claim { manifest: &manifest, signatures: &signatures, keys: keys.as_deref() };
    let manifest = trusted(claim, &Keys::trusted_at(key).ok()?, VERIFIER).ok()?;
    Some((manifest, fetched))
}

/// A reader of the UKI that is kept.
pub fn uki(records: &Records) -> io::Result<fs::File> {
    fs::File::open(records.release().join(UKI))
}

/// SHA-256 of what `reader` has, hex.
pub fn hash(reader: &mut dyn Read) -> io::Result<String> {
    let mut buffer = vec![0; READ];
    let mut hash = Sha256::new();
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}
