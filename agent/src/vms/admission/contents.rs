//! What read-only disks are made from, as far as this VM may read it: cloud-init, Secrets, ConfigMaps, metadata of its Pod.
//!
//! Why here: the node may read the objects of all Pods bound to it; a VM only those that its own Pod names. Pure. Route in: a
//! volume of the annotation, its Pod. Route out: a [`Source`].

use super::{Check, invalid};
use crate::vms::guest::{DataSource, Files, Keys, Object, Seed, Source, Text};
use base64::Engine;
use k8s_openapi::api::core::v1::{Pod, Volume};
use sheaf_api::config_volumes::{
    ConfigMapVolume, DownwardApi, Field, LABEL, SYSPREP_FILES, SYSPREP_LABEL, SecretVolume, Sysprep,
};
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::volumes::CloudInit;
use std::collections::BTreeMap;

/// A cloud-init seed.
pub(super) fn seed(
    volume: &str,
    source: DataSource,
    from: &CloudInit,
    placed: &PlacedVmi,
    pod: &Pod,
) -> Check<Source> {
    let text = |kind: &str, plain: &Option<String>, encoded: &Option<String>, from: Option<&str>, keys| match (
        plain, encoded, from,
    ) {
        (None, None, None) => Ok(None),
        (Some(text), None, None) => Ok(Some(Text::Plain(text.clone().into_bytes()))),
        (None, Some(encoded), None) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map(|text| Some(Text::Plain(text)))
            .map_err(|error| invalid(format!("volume {volume}: {kind} in base64: {error}"))),
        (None, None, Some(name)) => {
            named(volume, &Object::Secret(name.to_owned()), pod)?;
            Ok(Some(Text::Secret { name: name.to_owned(), keys }))
        }
        _ => Err(invalid(format!("volume {volume}: {kind} has more than one source"))),
    };
    let user_secret = from.secret_ref.as_ref().map(|secret| secret.name.as_str());
    let network_secret = from.network_data_secret_ref.as_ref().map(|secret| secret.name.as_str());
    let network = (&from.network_data, &from.network_data_base64);
    let mut keys = Vec::new();
    for name in keys_of(source, placed) {
        named(volume, &Object::Secret(name.to_owned()), pod)?;
        keys.push(name.to_owned());
    }
    Ok(Source::Seed(Seed {
        source,
        keys,
        hostname: placed.spec.hostname.clone().unwrap_or_else(|| placed.name.clone()),
        user_data: text(
            "user data",
            &from.user_data,
            &from.user_data_base64,
            user_secret,
            ["userdata", "userData"],
        )?,
        network_data: text(
            "network data",
            network.0,
            network.1,
            network_secret,
            ["networkdata", "networkData"],
        )?,
    }))
}

/// The keys of a Secret.
pub(super) fn secret(volume: &str, from: &SecretVolume, pod: &Pod) -> Check<Source> {
    let of = Object::Secret(from.secret_name.clone());
    let (label, optional) = (label(from.volume_label.as_deref()), from.optional == Some(true));
    keys(volume, Keys { label, of, optional, needs: &[] }, pod)
}

/// The keys of a ConfigMap.
pub(super) fn config_map(volume: &str, from: &ConfigMapVolume, pod: &Pod) -> Check<Source> {
    let of = Object::ConfigMap(from.name.clone());
    let (label, optional) = (label(from.volume_label.as_deref()), from.optional == Some(true));
    keys(volume, Keys { label, of, optional, needs: &[] }, pod)
}

/// The answers of Windows Setup.
pub(super) fn sysprep(volume: &str, from: &Sysprep, pod: &Pod) -> Check<Source> {
    let of = match (&from.config_map, &from.secret) {
        (Some(config_map), None) => Object::ConfigMap(config_map.name.clone()),
        (None, Some(secret)) => Object::Secret(secret.name.clone()),
        _ => {
            let message = format!("volume {volume}: sysprep has not exactly one of configMap and secret");
            return Err(invalid(message));
        }
    };
    keys(volume, Keys { label: SYSPREP_LABEL.into(), of, optional: false, needs: &SYSPREP_FILES }, pod)
}

fn keys(volume: &str, keys: Keys, pod: &Pod) -> Check<Source> {
    named(volume, &keys.of, pod)?;
    Ok(Source::Files(Files::Keys(keys)))
}

fn label(given: Option<&str>) -> String {
    given.filter(|label| !label.is_empty()).unwrap_or(LABEL).into()
}

/// Refuses an object that the Pod does not refer to.
fn named(volume: &str, object: &Object, pod: &Pod) -> Check<()> {
    let refused = || invalid(format!("volume {volume}: the Pod does not refer to {object}"));
    names(pod, object).then_some(()).ok_or_else(refused)
}

/// Whether `pod` itself refers to `object`.
pub fn names(pod: &Pod, object: &Object) -> bool {
    let is_named = |of: &Volume| match object {
        Object::Secret(name) => {
            of.secret.as_ref().and_then(|secret| secret.secret_name.as_ref()) == Some(name)
        }
        Object::ConfigMap(name) => of.config_map.as_ref().is_some_and(|config_map| config_map.name == *name),
    };
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.any(is_named)
}

/// Secrets with the SSH keys that go into the meta data of `source`.
fn keys_of(source: DataSource, placed: &PlacedVmi) -> impl Iterator<Item = &str> {
    let all = placed.spec.access_credentials.iter().filter_map(|one| one.ssh_public_key.as_ref());
    let of_source = all.filter(move |keys| match source {
        DataSource::NoCloud => keys.propagation_method.no_cloud.is_some(),
        DataSource::ConfigDrive => keys.propagation_method.config_drive.is_some(),
    });
    of_source.map(|keys| keys.source.secret.secret_name.as_str())
}

/// Metadata of the Pod, as a kubelet writes it.
pub(super) fn downward(volume: &str, from: &DownwardApi, placed: &PlacedVmi, pod: &Pod) -> Check<Source> {
    let meta = &pod.metadata;
    let none = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&none);
    let mut files = BTreeMap::new();
    for file in &from.fields {
        let path = &file.path;
        let text = match file.field_ref.field() {
            Some(Field::Name) => meta.name.clone().unwrap_or_default(),
            Some(Field::Namespace) => meta.namespace.clone().unwrap_or_default(),
            Some(Field::Uid) => meta.uid.clone().unwrap_or_default(),
            Some(Field::Labels) => lines(labels),
            Some(Field::Label(key)) => labels.get(key).cloned().unwrap_or_default(),
            Some(Field::Annotations) => lines(&placed.annotations),
            Some(Field::Annotation(key)) => placed.annotations.get(key).cloned().unwrap_or_default(),
            None => {
                let field = &file.field_ref.field_path;
                return Err(invalid(format!("volume {volume}: {field} is not a field that can be read")));
            }
        };
        // The path becomes names on the disk.
        let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && name.len() <= 253;
        if !path.split('/').all(is_name) || path.split('/').count() > MOST_FOLDERS {
            return Err(invalid(format!("volume {volume}: {path:?} is not the path of a file")));
        }
        files.insert(path.clone(), text.into_bytes());
    }
    let below = |path: &String| format!("{path}/");
    if files.len() < from.fields.len()
        || files.keys().any(|path| files.keys().any(|other| other.starts_with(&below(path))))
    {
        return Err(invalid(format!(
            "volume {volume}: two fields have one path, or one is the folder of another"
        )));
    }
    Ok(Source::Files(Files::Made { label: label(from.volume_label.as_deref()), files }))
}

/// Most names in a path: ISO 9660 has no more folders in one another.
const MOST_FOLDERS: usize = 8;

/// `key="value"` lines, values quoted as Go does (`k8s.io/kubernetes/pkg/fieldpath`, FormatMap).
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
