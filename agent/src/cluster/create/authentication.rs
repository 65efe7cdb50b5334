//! How the API server knows people beyond certificates: tokens of the cluster's identity provider.
//!
//! Why here: kube-apiserver reads it from a file (AuthenticationConfiguration, `--authentication-config`), and reads it again when it
//! changes, so a provider is set without a restart. Its flag is always there, so the file is, too. What it said last is kept over a
//! reboot: the API server starts before the cluster can be asked. Names get the prefix `oidc:`, so that a provider makes nobody
//! an administrator or a node. Route in: the provider of ClusterConfig. Route out: `authentication.json` beside
//! `control-plane.env`, and a copy in `/var/lib/sheaf`; neither is secret.

use anyhow::ensure;
use serde_json::{Value, json};
use sheaf_api::identity_provider::{IdentityProvider, PREFIX};
use sheaf_host::file::write_atomically;
use std::io;
use std::path::Path;
use x509_cert::Certificate;

/// The configuration's file, which the unit of kube-apiserver names, and its copy.
const FILE: &str = "authentication.json";

/// Writes what the API server starts with into `run`, if nothing is there: what was kept in `lib`, or no provider.
pub fn begin(run: &Path, lib: &Path) -> anyhow::Result<()> {
    let path = run.join(FILE);
    if path.exists() {
        return Ok(());
    }
    let text = match std::fs::read_to_string(lib.join(FILE)) {
        Ok(kept) => kept,
        Err(error) if error.kind() == io::ErrorKind::NotFound => text(None),
        Err(error) => return Err(error.into()),
    };
    Ok(write_atomically(&path, text.as_bytes(), 0o644)?)
}

/// Makes both files say `provider`; true when it was another before. One that the API server would not start with is refused: it reads
/// the file at its next start, too.
pub fn keep(run: &Path, lib: &Path, provider: Option<&IdentityProvider>) -> anyhow::Result<bool> {
    if let Some(pem) = provider.and_then(|provider| provider.certificate_authority.as_ref()) {
        let certificates = Certificate::load_pem_chain(pem.as_bytes());
        let are_some = certificates.is_ok_and(|certificates| !certificates.is_empty());
        ensure!(are_some, "identityProvider.certificateAuthority of ClusterConfig is no certificate in PEM");
    }
    let text = text(provider);
    let mut changed = false;
    // The copy first: after a power cut in between, the API server has what the next look writes again.
    for path in [lib.join(FILE), run.join(FILE)] {
        if !std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
            write_atomically(&path, text.as_bytes(), 0o644)?;
            changed = true;
        }
    }
    Ok(changed)
}

fn text(provider: Option<&IdentityProvider>) -> String {
    let providers: Vec<Value> = provider.map(jwt).into_iter().collect();
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": providers,
    });
    format!("{configuration:#}\n")
}

fn jwt(provider: &IdentityProvider) -> Value {
    let mut issuer = json!({"url": provider.issuer, "audiences": [provider.client_id]});
    if let Some(pem) = &provider.certificate_authority {
        issuer["certificateAuthority"] = json!(pem);
    }
    let mut mappings = json!({"username": {"claim": provider.username_claim, "prefix": PREFIX}});
    if let Some(claim) = &provider.groups_claim {
        mappings["groups"] = json!({"claim": claim, "prefix": PREFIX});
    }
    json!({"issuer": issuer, "claimMappings": mappings})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> IdentityProvider {
        IdentityProvider {
            issuer: "https://login.example.org".into(),
            client_id: "sheaf".into(),
            username_claim: "email".into(),
            groups_claim: Some("groups".into()),
            ..IdentityProvider::default()
        }
    }

    #[test]
    fn the_api_server_takes_tokens_for_this_cluster_and_calls_people_by_a_prefix() {
        assert_eq!(
            jwt(&provider()),
            json!({
                "issuer": {"url": "https://login.example.org", "audiences": ["sheaf"]},
                "claimMappings": {
                    "username": {"claim": "email", "prefix": "oidc:"},
                    "groups": {"claim": "groups", "prefix": "oidc:"},
                },
            })
        );
    }

    #[test]
    fn what_was_said_last_is_there_after_a_reboot_and_an_earlier_start_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (run, lib) = (folder.path().join("run"), folder.path().join("lib"));
        for made in [&run, &lib] {
            std::fs::create_dir(made).unwrap();
        }
        let read = || serde_json::from_slice::<Value>(&std::fs::read(run.join(FILE)).unwrap()).unwrap();
        begin(&run, &lib).unwrap();
        assert_eq!(read()["jwt"], json!([]));
        assert!(keep(&run, &lib, Some(&provider())).unwrap());
        assert!(!keep(&run, &lib, Some(&provider())).unwrap(), "nothing is written that is there");
        begin(&run, &lib).unwrap();
        assert_eq!(read()["jwt"][0]["issuer"]["url"], "https://login.example.org");
        std::fs::remove_file(run.join(FILE)).unwrap();
        begin(&run, &lib).unwrap();
        assert_eq!(read()["jwt"].as_array().unwrap().len(), 1, "kept over a reboot");
        let bad = IdentityProvider { certificate_authority: Some("none".into()), ..provider() };
        let refused = keep(&run, &lib, Some(&bad)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "identityProvider.certificateAuthority of ClusterConfig is no certificate in PEM"
        );
        assert_eq!(read()["jwt"].as_array().unwrap().len(), 1, "what was good stays");
        assert!(keep(&run, &lib, None).unwrap());
        assert_eq!(read()["jwt"], json!([]));
    }
}
