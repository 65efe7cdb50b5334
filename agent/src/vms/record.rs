//! What the node remembers of a virtual machine beside its domain: `vm.json` in its folder.
//!
//! Why here: a domain is gone after a reboot, and the Pod's status may lag behind. A VM whose record has `started` was
//! started once and is never started again. Route in: the folders under `/data/vms`. Route out: [`Record`]s for the plan;
//! folders without a readable record are not ours to touch.

use super::filters::Port;
use super::guest::{Folder, Identity};
use serde::{Deserialize, Serialize};
use sheaf_host::cpus::CpuSet;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// One folder's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// UID of the Pod that owns the folder.
    pub pod_uid: String,
    /// Its name.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of the VMI.
    pub vmi: String,
    /// UID of the VMI: name of the folder.
    pub vmi_uid: String,
    /// Ports of its interfaces, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Bytes below /data that its files may grow to.
    #[serde(default)]
    pub space: u64,
    /// The node's processors that it has to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
    /// Addresses of PCI devices of the node that it has to itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Set once the domain runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
}

/// The one start of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Started {
    /// The kernel's random identifier of the boot it was started in.
    pub boot_id: String,
    /// UUID of the domain.
    pub uuid: String,
    /// When, RFC 3339.
    pub at: String,
}

impl Record {
    /// A folder that was made for `id`, before its domain is started.
    pub fn made(id: &Identity) -> Self {
        Self {
            pod_uid: id.pod_uid.clone(),
            pod: id.pod.clone(),
            namespace: id.namespace.clone(),
            vmi: id.vmi.clone(),
            vmi_uid: id.vmi_uid.clone(),
            ports: Vec::new(),
            space: 0,
            cpus: None,
            devices: Vec::new(),
            started: None,
        }
    }

    /// Whose it is.
    pub fn id(&self) -> Identity {
        Identity {
            pod_uid: self.pod_uid.clone(),
            pod: self.pod.clone(),
            namespace: self.namespace.clone(),
            vmi: self.vmi.clone(),
            vmi_uid: self.vmi_uid.clone(),
        }
    }

    /// Writes it into its folder under `vms`.
    pub fn write(&self, vms: &Path) -> Result<(), sheaf_host::file::WriteError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        sheaf_host::file::write_atomically(&Folder::of(vms, &self.vmi_uid).record(), &json, 0o600)
    }
}

/// All records under `vms`, by Pod UID. A record counts only in the folder that it names. Nothing passes the ports of a VM
/// whose record cannot be read ([`super::filters`]).
pub fn read_all(vms: &Path) -> io::Result<BTreeMap<String, Record>> {
    let folders = match std::fs::read_dir(vms) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        folders => folders?,
    };
    let mut records = BTreeMap::new();
    for folder in folders {
        let folder = folder?;
        let name = folder.file_name().to_string_lossy().into_owned();
        // A folder that is being removed, and the file system's own, are no VM's.
        if name.starts_with('.') || !folder.file_type()?.is_dir() || name == "lost+found" {
            continue;
        }
        match read(&Folder(folder.path())) {
            Ok(record) if record.vmi_uid == name => {
                records.insert(record.pod_uid.clone(), record);
            }
            Ok(record) => {
                tracing::warn!("{}: vm.json is of VMI {}; ignored", folder.path().display(), record.vmi_uid);
            }
            Err(error) => {
                tracing::warn!("{}: vm.json: {error}; ignored", folder.path().display());
            }
        }
    }
    Ok(records)
}

/// The record in `folder`.
pub fn read(folder: &Folder) -> io::Result<Record> {
    Ok(serde_json::from_slice(&std::fs::read(folder.record())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_folders_without_a_record_of_their_own_are_passed_over() {
        let vms = std::env::temp_dir().join(format!("sheaf-record-{}", std::process::id()));
        let id = Identity { pod_uid: "p1".into(), vmi_uid: "v1".into(), ..Identity::default() };
        let record = Record { started: Some(Started::default()), ..Record::made(&id) };
        record.write(&vms).unwrap();
        for folder in ["lost+found", ".gone-v9", "v2", "v3", "v4"] {
            std::fs::create_dir_all(vms.join(folder)).unwrap();
        }
        std::fs::copy(vms.join("v1/vm.json"), vms.join("v2/vm.json")).unwrap();
        std::fs::write(vms.join("v3/vm.json"), "{\"pod-uid\": \"p").unwrap();
        let all = read_all(&vms).unwrap();
        assert_eq!(all, [("p1".to_owned(), record)].into());
        std::fs::remove_dir_all(vms).unwrap();
    }
}
