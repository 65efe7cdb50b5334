//! cloud-init's NoCloud seed: meta data, user data and network data on a volume labelled `cidata`.
//!
//! Route in: a [`Seed`] whose Secrets were read. Route out: the bytes of an ISO image.

use super::guest::{Identity, Seed};
use super::iso9660;

/// Texts of a seed, Secrets resolved.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// User data.
    pub user_data: Option<Vec<u8>>,
    /// Network data.
    pub network_data: Option<Vec<u8>>,
}

/// The volume of `seed` for the guest `id`.
pub fn image(id: &Identity, seed: &Seed, texts: &Texts) -> Vec<u8> {
    let meta = meta_data(id, &seed.hostname);
    let user = texts.user_data.as_deref().unwrap_or(b"#cloud-config\n{}\n");
    let mut files = vec![("meta-data", meta.as_bytes()), ("user-data", user)];
    if let Some(network) = &texts.network_data {
        files.push(("network-config", network));
    }
    iso9660::image("cidata", &files)
}

/// The instance is the VM, not one run of it: a guest that keeps its disk is not set up again at each start.
fn meta_data(id: &Identity, hostname: &str) -> String {
    let meta = serde_json::json!({
        "instance-id": format!("{}.{}", id.vmi, id.namespace),
        "local-hostname": hostname,
    });
    // JSON is YAML.
    format!("{meta}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(image: &[u8], text: &[u8]) -> bool {
        image.windows(text.len()).any(|window| window == text)
    }

    #[test]
    fn a_seed_carries_identity_user_data_and_network_data() {
        let id = Identity { namespace: "team".into(), vmi: "web".into(), ..Identity::default() };
        let seed = Seed { hostname: "www".into(), user_data: None, network_data: None };
        let texts =
            Texts { user_data: Some(b"#!/bin/sh\n".to_vec()), network_data: Some(b"version: 2\n".to_vec()) };
        let image = image(&id, &seed, &texts);
        assert!(holds(&image, br#"{"instance-id":"web.team","local-hostname":"www"}"#));
        assert!(holds(&image, b"#!/bin/sh\n") && holds(&image, b"version: 2\n"));
    }
}
