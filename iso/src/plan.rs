//! Which file of the host becomes which file of the medium.
//!
//! Route in: a checked release, a config, images by name. Route out: [`Plan`], a value; [`mod@crate::write`] carries it out.

use crate::bios::{self, Bios};
use crate::release::Release;
use sheaf_config::load::ConfigFile;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The EFI system partition, as a file of the medium.
pub const ESP: &str = "efi.img";
/// The installer in it, where firmware without an entry looks.
pub const BOOT_PROGRAM: &str = "/EFI/BOOT/BOOTX64.EFI";
/// Volume id of every medium.
pub const VOLUME: &str = "SHEAF";
/// Folder of everything of ours on it.
const FOLDER: &str = "/sheaf";
/// How a node config names a file of the medium.
const SCHEME: &str = "medium:";
/// Room in the EFI system partition beside the UKI, in bytes: FAT's tables and folders.
const ESP_ROOM: u64 = 4 << 20;
/// An EFI system partition is a whole number of these, in bytes.
const ESP_UNIT: u64 = 1 << 20;

/// What a user puts on the medium besides the release.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// node.toml, for one machine or for many: then the installer asks nothing.
    pub config: Option<(PathBuf, ConfigFile)>,
    /// Disk images by their name on the medium.
    pub images: BTreeMap<String, PathBuf>,
}

/// A medium to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The installer's UKI, on the host.
    pub uki: PathBuf,
    /// Size of the EFI system partition in bytes.
    pub esp_size: u64,
    /// Its FAT serial number: of the release, so that a medium can be made again byte for byte.
    pub esp_serial: String,
    /// What GRUB does on BIOS.
    pub bios: Bios,
    /// Path on the medium → file on the host.
    pub files: BTreeMap<String, PathBuf>,
    /// Timestamp of everything, in seconds.
    pub epoch: u64,
}

/// Why a medium would not install.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The config asks for an image that is not on it.
    #[error("{}: image \"{name}\" is to come from the medium as \"{file}\", which is not on it; add --image {file}=FILE", .config.display())]
    NoImage {
        /// The config.
        config: PathBuf,
        /// Name of the image on the node.
        name: String,
        /// Its file on the medium.
        file: String,
    },
}

/// Says what the medium will hold.
pub fn plan(release: &Release, contents: &Contents) -> Result<Plan, PlanError> {
    let mut files: BTreeMap<String, PathBuf> = release
        .payload()
        .into_iter()
        .map(|file| (format!("{FOLDER}/{file}"), release.dir.join(file)))
        .collect();
    if let Some((path, config)) = &contents.config {
        for image in config.entries().iter().flat_map(|entry| &entry.config.images) {
            let wanted = image.url.strip_prefix(SCHEME).map(|file| file.trim_start_matches('/'));
            if let Some(file) = wanted.filter(|file| !contents.images.contains_key(*file)) {
                let (config, name) = (path.clone(), image.name.clone());
                return Err(PlanError::NoImage { config, name, file: file.into() });
            }
        }
        files.insert(format!("{FOLDER}/node.toml"), path.clone());
    }
    for (name, file) in &contents.images {
        files.insert(format!("{FOLDER}/images/{name}"), file.clone());
    }
    let manifest = &release.manifest;
    let serial: String = manifest.installer_uki.sha256.chars().take(8).collect();
    Ok(Plan {
        bios: bios::plan(&manifest.installer_uki, &serial),
        uki: release.dir.join(&manifest.installer_uki.file),
        esp_size: (manifest.installer_uki.size + ESP_ROOM).next_multiple_of(ESP_UNIT),
        esp_serial: serial,
        files,
        epoch: manifest.created,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOIN: &str = r#"
version = 1
[install]
disk = { serial = "D1" }
[system]
hostname = "n1"
[[image]]
name = "guest"
url = "medium:guest.raw"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#;

    fn contents(images: &[&str]) -> Contents {
        let config = sheaf_config::load::parse_config_file("node.toml", JOIN).unwrap();
        let images = images.iter().map(|name| ((*name).to_owned(), PathBuf::from("/src").join(name)));
        Contents { config: Some(("/cfg/node.toml".into(), config)), images: images.collect() }
    }

    #[test]
    fn release_config_and_images_lie_in_one_folder_and_the_installer_in_the_esp() {
        let dir = tempfile::tempdir().unwrap();
        let release = crate::release::tests::release(dir.path());
        let plan = plan(&release, &contents(&["guest.raw"])).unwrap();
        let files: Vec<&str> = plan.files.keys().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "/sheaf/boot.img",
                "/sheaf/core.img",
                "/sheaf/grub.cfg",
                "/sheaf/images/guest.raw",
                "/sheaf/installer.efi",
                "/sheaf/manifest.json",
                "/sheaf/manifest.json.minisig",
                "/sheaf/node.efi",
                "/sheaf/node.toml",
                "/sheaf/root.erofs.zst",
                "/sheaf/root.verity.zst",
                "/sheaf/systemd-bootx64.efi",
            ]
        );
        assert_eq!(plan.uki, dir.path().join("installer.efi"));
        assert_eq!(plan.esp_size % ESP_UNIT, 0);
    }

    #[test]
    fn a_config_that_wants_an_image_which_is_not_on_the_medium_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let release = crate::release::tests::release(dir.path());
        assert_eq!(
            plan(&release, &contents(&["other.raw"])).unwrap_err().to_string(),
            "/cfg/node.toml: image \"guest\" is to come from the medium as \"guest.raw\", which is not on it; \
             add --image guest.raw=FILE"
        );
    }
}
