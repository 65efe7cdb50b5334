//! What an import needs of its namespace: Secrets with a password or with headers, and a ConfigMap with authorities.
//!
//! Why here: the contract is CDI's (`secretRef`, `certConfigMap`, `secretExtraHeaders` of a DataVolume's `source.http` and `source.registry`). They are
//! read when the import begins, by the node's own certificate: the Node authorizer permits it while the importer Pod, which
//! sheaf-controller makes and removes (`controller/src/volumes/importer`), is bound to this node. They stay in memory, for one
//! import; errors name objects and keys, never values. Route in: a source, the claim it is for. Route out: [`Access`].

use super::registry::{Login, RegistryAccess};
use crate::api_server::RequestError;
use crate::volumes::api::Cluster;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sheaf_api::storage::local_volume::{HttpSource, ImageSource, RegistrySource};
use sheaf_host::fetch::access::{Access, HeaderError};
use sheaf_host::trust::{Trust, TrustError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Key of the user name, as in CDI.
const USER: &str = "accessKeyId";
/// Key of the password.
const PASSWORD: &str = "secretKey";

/// Why an import has not what it needs.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The volume is for no claim, so no namespace is known.
    #[error("the volume is for no claim, so there is no namespace whose Secrets it may use")]
    NoNamespace,
    /// It cannot be read.
    #[error("{kind} {name} of namespace {namespace} cannot be read")]
    Read {
        /// Secret or ConfigMap.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server answered.
        source: Box<RequestError>,
    },
    /// A key is missing.
    #[error("Secret {name} has no key {key}; for basic authentication it has {USER} and {PASSWORD}")]
    Key {
        /// The Secret.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A value is no header.
    #[error("key {key} of Secret {name} is not a header; write it as \"X-Token: value\"")]
    NoHeader {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// A header cannot be sent.
    #[error("Secret {name}")]
    Header {
        /// The Secret.
        name: String,
        /// Why not.
        source: HeaderError,
    },
    /// No authorities are in it.
    #[error("ConfigMap {name}")]
    Authorities {
        /// The ConfigMap.
        name: String,
        /// What is wrong.
        source: TrustError,
    },
}

/// What a source may be asked with; empty for a public one.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// For a server.
    pub http: Arc<Access>,
    /// For a registry.
    pub registry: RegistryAccess,
}

/// Reads what `source` names in the namespace of `claim`, `namespace/name`.
pub async fn read<C: Cluster>(
    cluster: &C,
    claim: &str,
    source: &ImageSource,
) -> Result<Credentials, CredentialsError> {
    match source {
        ImageSource::Http(http) => {
            let access = Arc::new(of_server(cluster, claim, http).await?);
            Ok(Credentials { http: access, ..Credentials::default() })
        }
        ImageSource::Registry(source) => {
            let registry = of_registry(cluster, claim, source).await?;
            Ok(Credentials { registry, ..Credentials::default() })
        }
    }
}

async fn of_registry<C: Cluster>(
    cluster: &C,
    claim: &str,
    source: &RegistrySource,
) -> Result<RegistryAccess, CredentialsError> {
    let mut access = RegistryAccess::default();
    if source.references().is_empty() {
        return Ok(access);
    }
    let (namespace, _) = claim.split_once('/').ok_or(CredentialsError::NoNamespace)?;
    if let Some(name) = &source.secret_ref {
        let secret = cluster.secret(namespace, name).await.map_err(cannot("Secret", namespace, name))?;
        let text = |key| {
            let value = secret.get(key).and_then(|value| std::str::from_utf8(value).ok());
            value.ok_or_else(|| CredentialsError::Key { name: name.clone(), key })
        };
        access.login = Some(Login { user: text(USER)?.to_owned(), password: text(PASSWORD)?.to_owned() });
    }
    if let Some(name) = &source.cert_config_map {
        let map = cluster.config_map(namespace, name).await.map_err(cannot("ConfigMap", namespace, name))?;
        access.authorities = Some(authorities(name, &map)?);
    }
    Ok(access)
}

fn cannot(kind: &'static str, namespace: &str, name: &str) -> impl FnOnce(RequestError) -> CredentialsError {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    move |source| CredentialsError::Read { kind, namespace, name, source: Box::new(source) }
}

async fn of_server<C: Cluster>(
    cluster: &C,
    claim: &str,
    source: &HttpSource,
) -> Result<Access, CredentialsError> {
    let mut access = Access::default();
    if source.references().is_empty() {
        return Ok(access);
    }
    let (namespace, _) = claim.split_once('/').ok_or(CredentialsError::NoNamespace)?;
    if let Some(name) = &source.secret_ref {
        let secret = cluster.secret(namespace, name).await.map_err(cannot("Secret", namespace, name))?;
        add_password(&mut access, name, &secret)?;
    }
    for name in &source.secret_extra_headers {
        let secret = cluster.secret(namespace, name).await.map_err(cannot("Secret", namespace, name))?;
        add_headers(&mut access, name, &secret)?;
    }
    if let Some(name) = &source.cert_config_map {
        let map = cluster.config_map(namespace, name).await.map_err(cannot("ConfigMap", namespace, name))?;
        access.trust(authorities(name, &map)?);
    }
    Ok(access)
}

/// HTTP basic authentication (RFC 7617).
fn add_password(
    access: &mut Access,
    name: &str,
    secret: &BTreeMap<String, Vec<u8>>,
) -> Result<(), CredentialsError> {
    let value = |key| secret.get(key).ok_or_else(|| CredentialsError::Key { name: name.to_owned(), key });
    let pair = [value(USER)?, &b":"[..], value(PASSWORD)?].concat();
    let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let refused = |source| CredentialsError::Header { name: name.to_owned(), source };
    access.add_header("authorization", basic.as_bytes()).map_err(refused)
}

/// Each value is one header.
fn add_headers(
    access: &mut Access,
    name: &str,
    secret: &BTreeMap<String, Vec<u8>>,
) -> Result<(), CredentialsError> {
    for (key, line) in secret {
        let none = || CredentialsError::NoHeader { name: name.to_owned(), key: key.clone() };
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(none)?;
        let header = std::str::from_utf8(line[..colon].trim_ascii()).map_err(|_| none())?;
        let refused = |source| CredentialsError::Header { name: name.to_owned(), source };
        access.add_header(header, line[colon + 1..].trim_ascii()).map_err(refused)?;
    }
    Ok(())
}

/// All values together, as CDI reads a folder of files. They are trusted alone, not beside public ones.
fn authorities(name: &str, map: &BTreeMap<String, String>) -> Result<String, CredentialsError> {
    let pem = map.values().map(|value| value.trim()).collect::<Vec<_>>().join("\n");
    let refused = |source| CredentialsError::Authorities { name: name.to_owned(), source };
    Trust::Authorities(pem.clone()).check().map_err(refused)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_user_name_and_a_password_become_basic_authentication() {
        let mut access = Access::default();
        let login = secret(&[("accessKeyId", "Aladdin"), ("secretKey", "open sesame"), ("other", "x")]);
        add_password(&mut access, "login", &login).unwrap();
        // The example of RFC 7617 §2.
        assert_eq!(access.headers()["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let half = add_password(&mut Access::default(), "login", &secret(&[("accessKeyId", "secret")]));
        let message = half.unwrap_err().to_string();
        assert!(message.contains("no key secretKey") && !message.contains("\"secret\""), "{message}");
    }

    #[test]
    fn each_value_of_a_secret_of_headers_is_a_header_and_no_error_shows_one() {
        let mut access = Access::default();
        let tokens = secret(&[("a", "X-Token:  t0ken\n"), ("b", "X-Project: 7")]);
        add_headers(&mut access, "tokens", &tokens).unwrap();
        assert_eq!(access.headers()["x-token"], "t0ken");
        assert_eq!(access.headers()["x-project"], "7");
        for bad in ["t0ken", "Host: t0ken", "X-Token: t0ken\r\nHost: t0ken", ": t0ken"] {
            let error = add_headers(&mut Access::default(), "tokens", &secret(&[("a", bad)])).unwrap_err();
            let text = format!("{:#}", anyhow::Error::from(error));
            assert!(text.contains("tokens") && !text.contains("t0ken"), "{text}");
        }
    }

    #[test]
    fn a_config_map_without_certificates_trusts_nobody() {
        let map = [("ca.crt".to_owned(), "nonsense".to_owned())].into();
        let refused = authorities("ca", &map).unwrap_err();
        assert_eq!(
            format!("{:#}", anyhow::Error::from(refused)),
            "ConfigMap ca: the certificate authorities are not certificates in PEM"
        );
    }
}
