//! What the read-only disks of a VM are made from: cloud-init seeds, and files of Secrets, ConfigMaps and metadata.
//!
//! Why here: admission names objects, and does not read them. Route in: [`crate::vms::admission`]. Route out:
//! [`crate::vms::contents`] reads the objects and makes the images.

use std::collections::BTreeMap;

/// What a cloud-init seed is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// How cloud-init finds it.
    pub source: DataSource,
    /// Host name for the guest.
    pub hostname: String,
    /// User data.
    pub user_data: Option<Text>,
    /// Network data.
    pub network_data: Option<Text>,
    /// Secrets with SSH public keys.
    pub keys: Vec<String>,
}

/// How cloud-init finds a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // cloud-init's words
pub enum DataSource {
    NoCloud,
    ConfigDrive,
}

/// A text of a seed.
#[derive(Clone, PartialEq, Eq)]
pub enum Text {
    /// As it is.
    Plain(Vec<u8>),
    /// In the Secret `name` of the VM's namespace, under the first of `keys` that it has.
    Secret {
        /// Name of the Secret.
        name: String,
        /// Keys it may be under.
        keys: [&'static str; 2],
    },
}

impl std::fmt::Debug for Text {
    /// User data holds passwords: never shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "{} bytes", text.len()),
            Self::Secret { name, .. } => write!(f, "Secret {name}"),
        }
    }
}

/// Read-only files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// A file for each key of an object.
    Keys(Keys),
    /// These files, by their paths.
    Made {
        /// Label of the file system.
        label: String,
        /// The files.
        files: BTreeMap<String, Vec<u8>>,
    },
}

/// A file for each key of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Label of the file system.
    pub label: String,
    /// The object.
    pub of: Object,
    /// There are no files if there is no such object.
    pub optional: bool,
    /// One of these keys must be there, if there are any, in whatever case.
    pub needs: &'static [&'static str],
}

/// An object of the VM's namespace that has keys with values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The Secret of this name.
    Secret(String),
    /// The ConfigMap of this name.
    ConfigMap(String),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret {name}"),
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
        }
    }
}
