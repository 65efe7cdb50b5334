//! cloud-init's seeds: meta data, user data and network data, for its data sources NoCloud and ConfigDrive.
//!
//! Why here: names and formats are cloud-init's and OpenStack's; what is in them is KubeVirt's. Pure. Route in: a [`Seed`] whose
//! Secrets were read. Route out: label and files of an image.

use super::guest::{DataSource, Guest, Seed};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Texts of a seed, Secrets resolved.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// User data.
    pub user_data: Option<Vec<u8>>,
    /// Network data.
    pub network_data: Option<Vec<u8>>,
    /// SSH public keys.
    pub keys: Vec<String>,
}

/// Label of the volume of `source`.
pub fn label(source: DataSource) -> &'static str {
    match source {
        DataSource::NoCloud => "cidata",
        DataSource::ConfigDrive => "config-2",
    }
}

/// The files of `seed` for `guest`.
pub fn files(guest: &Guest, seed: &Seed, texts: Texts) -> BTreeMap<String, Vec<u8>> {
    let [meta, user, network] = match seed.source {
        DataSource::NoCloud => ["meta-data", "user-data", "network-config"],
        DataSource::ConfigDrive => [
            "openstack/latest/meta_data.json",
            "openstack/latest/user_data",
            "openstack/latest/network_data.json",
        ],
    };
    // JSON is YAML.
    let mut files = BTreeMap::from([
        (meta.to_owned(), format!("{}\n", meta_data(guest, seed, &texts.keys)).into_bytes()),
        (user.to_owned(), texts.user_data.unwrap_or_else(|| b"#cloud-config\n{}\n".to_vec())),
    ]);
    files.extend(texts.network_data.map(|data| (network.to_owned(), data)));
    files
}

/// The instance is the VM, not one run of it: a guest that keeps its disk is not set up again at each start.
fn meta_data(guest: &Guest, seed: &Seed, keys: &[String]) -> Value {
    let instance = format!("{}.{}", guest.id.vmi, guest.id.namespace);
    let (mut meta, name) = match seed.source {
        DataSource::NoCloud => {
            (json!({"instance-id": instance, "local-hostname": seed.hostname}), "public-keys")
        }
        DataSource::ConfigDrive => {
            let meta = json!({"instance_id": instance, "hostname": seed.hostname, "uuid": guest.uuid});
            (meta, "public_keys")
        }
    };
    if !keys.is_empty() {
        let keys = keys.iter().enumerate().map(|(number, key)| (number.to_string(), json!(key)));
        meta[name] = Value::Object(keys.collect());
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing;

    fn of(source: DataSource, texts: Texts) -> BTreeMap<String, Vec<u8>> {
        let hostname = "www".into();
        let seed = Seed { source, hostname, user_data: None, network_data: None, keys: Vec::new() };
        files(&testing::guest(), &seed, texts)
    }

    #[test]
    fn a_seed_carries_identity_user_data_and_network_data() {
        let texts = Texts {
            user_data: Some(b"#!/bin/sh\n".to_vec()),
            network_data: Some(b"version: 2\n".to_vec()),
            keys: Vec::new(),
        };
        let files = of(DataSource::NoCloud, texts);
        let meta: Value = serde_json::from_slice(&files["meta-data"]).unwrap();
        assert_eq!(meta, json!({"instance-id": "web.default", "local-hostname": "www"}));
        assert_eq!(
            (&*files["user-data"], &*files["network-config"]),
            (&b"#!/bin/sh\n"[..], &b"version: 2\n"[..])
        );
    }

    #[test]
    fn ssh_keys_are_in_the_meta_data_by_number_under_the_name_of_the_data_source() {
        for (source, path, name) in [
            (DataSource::NoCloud, "meta-data", "public-keys"),
            (DataSource::ConfigDrive, "openstack/latest/meta_data.json", "public_keys"),
        ] {
            let keys = vec!["ssh-a".to_owned(), "ssh-b".to_owned()];
            let meta: Value =
                serde_json::from_slice(&of(source, Texts { keys, ..Texts::default() })[path]).unwrap();
            assert_eq!(meta[name], json!({"0": "ssh-a", "1": "ssh-b"}));
        }
    }

    #[test]
    fn a_config_drive_is_where_openstack_has_it_and_has_the_uuid_of_the_firmware() {
        let files = of(DataSource::ConfigDrive, Texts::default());
        let meta: Value = serde_json::from_slice(&files["openstack/latest/meta_data.json"]).unwrap();
        assert_eq!(meta, json!({"instance_id": "web.default", "hostname": "www", "uuid": testing::VMI_UID}));
        assert_eq!(files["openstack/latest/user_data"], b"#cloud-config\n{}\n");
        assert!(!files.contains_key("openstack/latest/network_data.json"));
    }
}
